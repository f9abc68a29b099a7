/* SPDX-License-Identifier: MIT
 *
 * Steps: the list that turns plain text into pieces, and running it.
 *
 * Normalising steps rewrite the whole fragment one after the other; splitting steps then cut it,
 * each cutting every piece the step before it left. The recursion is as deep as the list is long.
 * What a splitting step finds is a sequence of matches and gaps; `cut` says what becomes of them,
 * in the words of Hugging Face's tokenizers.
 *
 * Text that a step had to rewrite lives in the run's buffer of that step until the step is done.
 */
#include "text/text_internal.h"

#include <assert.h>

rotor_status text_steps_add(text_steps *s, const text_step *step, rotor_error *err) {
    if (s->n == TEXT_MAX_STEPS)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "tokenizer.json: more than %d normalising and splitting steps",
                         TEXT_MAX_STEPS);
    assert(step->kind >= STEP_FIRST_SPLIT || s->n_normal == s->n);
    s->at[s->n++] = *step;
    if (step->kind < STEP_FIRST_SPLIT) s->n_normal = s->n;
    return ROTOR_OK;
}

rotor_status text_steps_add_text(text_steps *s, step_kind kind, unsigned flags, base_str a,
                                 base_str b, rotor_error *err) {
    text_step step = {.kind = kind, .flags = flags, .a_n = a.n, .b_n = b.n};
    step.a = base_strndup(a.p ? a.p : "", a.n);
    step.b = base_strndup(b.p ? b.p : "", b.n);
    rotor_status st = step.a && step.b ? text_steps_add(s, &step, err)
                                       : base_fail_nomem(err, "reading a tokenizer");
    if (st == ROTOR_OK) return st;
    base_free(step.a);
    base_free(step.b);
    return st;
}

void text_steps_free(text_steps *s) {
    for (int i = 0; i < s->n; i++) {
        text_regex_free(&s->at[i].re);
        text_charsmap_free(&s->at[i].map);
        base_free(s->at[i].a);
        base_free(s->at[i].b);
    }
    memset(s, 0, sizeof *s);
}

/* ==== Matches and gaps to pieces ============================================================== */

enum { NOTHING, MATCH, GAP };

typedef struct cutter {
    text_run *r;           /* where pieces go */
    const text_step *step; /* decides about matches */
    int next;              /* index of the step that takes the pieces */
    base_str text;         /* being cut */
    size_t start, end;     /* a stretch that waits for what follows it */
    int waits;             /* NOTHING, MATCH or GAP */
} cutter;

static rotor_status pass_on(cutter *c, size_t start, size_t end) {
    if (start == end) return ROTOR_OK;
    return text_run_steps(c->r, c->next, (base_str){c->text.p + start, end - start});
}

static rotor_status release(cutter *c) {
    int waited = c->waits;
    c->waits = NOTHING;
    return waited == NOTHING ? ROTOR_OK : pass_on(c, c->start, c->end);
}

static rotor_status hold(cutter *c, size_t start, size_t end, int what) {
    ROTOR_TRY(release(c));
    c->start = start;
    c->end = end;
    c->waits = what;
    return ROTOR_OK;
}

static rotor_status add_stretch(cutter *c, size_t start, size_t end, bool match) {
    if (start == end) return ROTOR_OK;
    int what = match != c->step->invert ? MATCH : GAP;
    bool joins = false;
    switch (c->step->cut) {
    case CUT_ISOLATED:
        return pass_on(c, start, end);
    case CUT_REMOVED:
        return what == MATCH ? ROTOR_OK : pass_on(c, start, end);
    case CUT_CONTIGUOUS:
        joins = c->waits == what;
        break;
    case CUT_WITH_PREVIOUS:
        joins = what == MATCH && c->waits == GAP;
        break;
    case CUT_WITH_NEXT:
        joins = what == GAP && c->waits == MATCH;
        break;
    }
    if (!joins) return hold(c, start, end, what);
    c->end = end;
    return c->step->cut == CUT_CONTIGUOUS ? ROTOR_OK : release(c);
}

static rotor_status find_match(cutter *c, size_t from, bool *found, size_t *start, size_t *end) {
    base_str t = c->text;
    *found = false;
    if (c->step->kind == STEP_REGEX)
        return text_regex_next(c->step->re, &c->r->regex, t, from, found, start, end, c->r->err);
    for (size_t i = from; i < t.n;) {
        size_t skip = i + 1, e = i;
        if (c->step->kind == STEP_MATCH) {
            e = c->step->match(t.p, t.n, i, &skip);
        } else {
            const char *hit = memchr(t.p + i, c->step->a[0], t.n - i);
            if (!hit) return ROTOR_OK;
            e = i = (size_t)(hit - t.p);
            skip = i + 1;
            if (t.n - i >= c->step->a_n && memcmp(hit, c->step->a, c->step->a_n) == 0)
                e = i + c->step->a_n;
        }
        if (e > i) {
            *found = true;
            *start = i;
            *end = e;
            return ROTOR_OK;
        }
        i = skip;
    }
    return ROTOR_OK;
}

static rotor_status cut_text(cutter *c) {
    for (size_t done = 0; done < c->text.n;) {
        bool found;
        size_t start = c->text.n, end = c->text.n;
        ROTOR_TRY(find_match(c, done, &found, &start, &end));
        if (!found) start = end = c->text.n;
        ROTOR_TRY(add_stretch(c, done, start, false));
        ROTOR_TRY(add_stretch(c, start, end, true));
        done = end;
    }
    return release(c);
}

/* ==== Steps that rewrite what they cut ======================================================== */

static bool starts_with(base_str s, const char *p, size_t n) {
    return s.n >= n && memcmp(s.p, p, n) == 0;
}

static rotor_status metaspace(text_run *r, int index, base_str in) {
    const text_step *step = &r->steps->at[index];
    base_buf *b = &r->bufs[index];
    bool first = in.p == r->origin;
    bool mark = step->flags & 1 || (step->flags & 2 && first);
    base_buf_reset(b);
    if (mark && !starts_with(in, step->a, step->a_n) && in.n && in.p[0] != ' ')
        base_buf_append(b, step->a, step->a_n);
    for (size_t i = 0; i < in.n;) {
        const char *space = memchr(in.p + i, ' ', in.n - i);
        size_t end = space ? (size_t)(space - in.p) : in.n;
        base_buf_append(b, in.p + i, end - i);
        if (space) base_buf_append(b, step->a, step->a_n);
        i = end + 1;
    }
    if (b->failed) return base_fail_nomem(r->err, "splitting text");
    base_str text = {b->data, b->len};
    if (!(step->flags & 4)) return text_run_steps(r, index + 1, text);
    text_step cut = {.kind = STEP_LITERAL, .cut = CUT_WITH_NEXT, .a = step->a, .a_n = step->a_n};
    cutter c = {.r = r, .step = &cut, .next = index + 1, .text = text};
    return cut_text(&c);
}

static rotor_status prefix_space(text_run *r, int index, base_str in) {
    base_buf *b = &r->bufs[index];
    if (in.n && in.p[0] == ' ') return text_run_steps(r, index + 1, in);
    base_buf_reset(b);
    if (!base_buf_puts(b, " ") || !base_buf_append(b, in.p, in.n))
        return base_fail_nomem(r->err, "splitting text");
    return text_run_steps(r, index + 1, (base_str){b->data, b->len});
}

rotor_status text_run_steps(text_run *r, int index, base_str text) {
    if (!text.n) return ROTOR_OK;
    if (index == r->steps->n) return r->piece(r, text);
    const text_step *step = &r->steps->at[index];
    if (step->kind == STEP_METASPACE) return metaspace(r, index, text);
    if (step->kind == STEP_PREFIX_SPACE) return prefix_space(r, index, text);
    cutter c = {.r = r, .step = step, .next = index + 1, .text = text};
    return cut_text(&c);
}

rotor_status text_run_normal(text_run *r, base_str in, base_str *out) {
    for (int i = 0; i < r->steps->n_normal; i++) {
        base_buf *b = &r->bufs[i];
        base_buf_reset(b);
        ROTOR_TRY(text_normalize_step(r, &r->steps->at[i], in, b));
        if (i) base_buf_reset(&r->bufs[i - 1]);
        in = (base_str){b->data ? b->data : "", b->len};
    }
    *out = in;
    return ROTOR_OK;
}
