/* SPDX-License-Identifier: MIT
 *
 * The fake engine. Memory comes from malloc, not from base, so that fault injection and the
 * allocation counter see room gen alone.
 */
#include "fake_run.h"
#include "plain_spec.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct run_engine {
    model m;          /* only the vocabulary and its size */
    fake_options o;   /* as given, defaults filled in */
    uint32_t used;    /* pages in use */
    float *logits;    /* [max_logits, n_vocab] */
    uint64_t n_evals; /* successful steps */
};

struct run_session {
    run_engine *e;    /* borrowed */
    uint32_t max, n;  /* positions */
    uint32_t *tokens; /* [max] */
};

static uint32_t pages(uint32_t n) { return (n + FAKE_PAGE - 1) / FAKE_PAGE; }

run_engine *fake_engine(const fake_options *o) {
    run_engine *e = calloc(1, sizeof *e);
    e->o = *o;
    if (!e->o.n_vocab) e->o.n_vocab = (uint32_t)text_n_tokens(o->vocab);
    if (!e->o.chunk) e->o.chunk = 256;
    if (!e->o.max_logits) e->o.max_logits = 16;
    if (!e->o.n_pages) e->o.n_pages = 1u << 20;
    e->m.vocab = o->vocab;
    e->m.hp.n_vocab = e->o.n_vocab;
    e->logits = calloc((size_t)e->o.max_logits * e->o.n_vocab, sizeof *e->logits);
    return e;
}

void fake_engine_free(run_engine **e) {
    assert((*e)->used == 0); /* every session has been freed */
    free((*e)->logits);
    free(*e);
    *e = NULL;
}

uint64_t fake_evals(const run_engine *e) { return e->n_evals; }
const char *run_prompt_device(const run_engine *e) { return e->o.apart ? "fake" : NULL; }
const model *run_model(const run_engine *e) { return &e->m; }
uint32_t run_chunk(const run_engine *e) { return e->o.chunk; }
uint32_t run_max_logits(const run_engine *e) { return e->o.max_logits; }
run_engine *run_session_engine(const run_session *s) { return s->e; }
uint32_t run_session_max(const run_session *s) { return s->max; }
uint32_t run_session_len(const run_session *s) { return s->n; }
const uint32_t *run_session_tokens(const run_session *s) { return s->tokens; }
const float *run_logits(run_engine *e, uint32_t i) {
    assert(i < e->o.max_logits);
    return e->logits + (size_t)i * e->o.n_vocab;
}

void run_session_expect(run_session *s, uint32_t k) { (void)s, (void)k; }

/* Nor does it choose tokens. */
bool run_can_ahead(const run_engine *e) { return (void)e, false; }
base_trace *run_trace(const run_engine *e) { return (void)e, NULL; }
rotor_status run_begin(run_session *s, uint32_t token, const dev_draw *draw, rotor_error *err) {
    (void)s, (void)token, (void)draw;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "not here");
}
rotor_status run_eval_draw(run_engine *e, const run_row *rows, uint32_t n, const dev_draw *draw,
                           rotor_error *err) {
    assert(!draw);
    return run_eval(e, rows, n, err);
}
bool run_chosen(run_engine *e, uint32_t i, uint32_t *id) {
    return (void)e, (void)i, (void)id, false;
}
bool run_end(run_session *s, uint32_t *id) { return (void)s, (void)id, false; }
void run_drop(run_session *s) { (void)s; }

/* The fake has no staged head. */
bool run_candidates(run_engine *e, uint32_t i, const run_want *want, run_found *found) {
    (void)e, (void)i, (void)want, (void)found;
    return false;
}

rotor_status run_session_create(run_session **out, run_engine *e, uint32_t max_tok,
                                rotor_error *err) {
    void *counted = base_alloc(1); /* takes part in fault injection as the real one does */
    if (!counted) return base_fail_nomem(err, "creating a session");
    base_free(counted);
    run_session *s = calloc(1, sizeof *s);
    s->e = e;
    s->max = max_tok;
    s->tokens = calloc(max_tok, sizeof *s->tokens);
    *out = s;
    return ROTOR_OK;
}

uint32_t run_session_rewind(run_session *s, uint32_t n) {
    assert(n <= s->n);
    s->e->used -= pages(s->n) - pages(n);
    return s->n = n;
}

void run_session_mark(run_session *s, bool end) {
    (void)s;
    (void)end;
}

void run_session_free(run_session **s) {
    if (!s || !*s) return;
    run_session_rewind(*s, 0);
    free((*s)->tokens);
    free(*s);
    *s = NULL;
}

static bool grow(run_session *s, uint32_t token) {
    uint32_t more = pages(s->n + 1) - pages(s->n);
    if (s->n == s->max || s->e->used + more > s->e->o.n_pages) return false;
    s->e->used += more;
    s->tokens[s->n++] = token;
    return true;
}

rotor_status run_session_fork(run_session *dst, const run_session *src, uint32_t n,
                              rotor_error *err) {
    assert(dst->n == 0 && n <= src->n);
    for (uint32_t i = 0; i < n; i++)
        if (!grow(dst, src->tokens[i])) return base_fail(err, ROTOR_E_FULL, "fork: full");
    return ROTOR_OK;
}

rotor_status run_eval(run_engine *e, const run_row *rows, uint32_t n, rotor_error *err) {
    uint32_t wanted = 0, done = 0;
    assert(n >= 1 && n <= e->o.chunk);
    /* A row without logits is a prompt's; a row alone of its session is not, unless it is one. */
    for (uint32_t i = 0, plain = 0, others = 0; e->o.apart && i < n; i++) {
        const bool alone =
            (i == 0 || rows[i - 1].s != rows[i].s) && (i + 1 == n || rows[i + 1].s != rows[i].s);
        plain += !rows[i].want_logits;
        others += alone && rows[i].want_logits;
        assert(!plain || !others);
    }
    for (; done < n && grow(rows[done].s, rows[done].token); done++) {
        assert(rows[done].token < e->o.n_vocab);
        if (!rows[done].want_logits) continue;
        assert(wanted < e->o.max_logits);
        const run_session *s = rows[done].s;
        e->o.fn(s->tokens, s->n, e->logits + (size_t)wanted++ * e->o.n_vocab, e->o.n_vocab);
    }
    if (done == n) {
        e->n_evals++;
        return ROTOR_OK;
    }
    while (done-- > 0) run_session_rewind(rows[done].s, rows[done].s->n - 1);
    return base_fail(err, ROTOR_E_FULL, "fake: full");
}

rotor_status run_session_sync(run_session *s, const uint32_t *tokens, uint32_t n,
                              run_progress progress, void *user, uint32_t *n_reused,
                              rotor_error *err) {
    uint32_t keep = 0;
    if (n > s->max) return base_fail(err, ROTOR_E_FULL, "prompt of %u, session of %u", n, s->max);
    while (keep < s->n && keep < n - 1 && s->tokens[keep] == tokens[keep]) keep++;
    run_session_rewind(s, keep);
    if (n_reused) *n_reused = keep;
    for (uint32_t i = keep; i < n; i++) {
        run_row row = {s, tokens[i], i + 1 == n};
        ROTOR_TRY(run_eval(s->e, &row, 1, err));
        if (progress && !progress(user, i + 1, n))
            return base_fail(err, ROTOR_E_CANCELLED, "stopped by the caller");
    }
    return ROTOR_OK;
}

text_vocab *fake_vocab(const char *const *pieces, size_t n) {
    enum { MAX = 300 };
    static char byte[256][8];
    base_str tokens[MAX] = {{"<unk>", 5}, {"<s>", 3}, {"</s>", 4}};
    int32_t types[MAX] = {TEXT_UNKNOWN, TEXT_CONTROL, TEXT_CONTROL};
    float scores[MAX] = {0};
    assert(n + FAKE_PIECE <= MAX);
    for (int i = 0; i < 256; i++) {
        snprintf(byte[i], sizeof byte[i], "<0x%02X>", (unsigned)i);
        tokens[FAKE_BYTE + i] = base_str_of(byte[i]);
        types[FAKE_BYTE + i] = TEXT_BYTE;
    }
    for (size_t i = 0; i < n; i++) {
        tokens[FAKE_PIECE + i] = base_str_of(pieces[i]);
        types[FAKE_PIECE + i] = TEXT_NORMAL;
    }
    text_spec spec = plain_spec(TEXT_SPM);
    spec.tokens = tokens;
    spec.scores = scores;
    spec.types = types;
    spec.n_tokens = FAKE_PIECE + n;
    spec.bos = 1;
    spec.eos = FAKE_EOS;
    spec.unk = 0;
    spec.add_bos = 1;
    text_vocab *v = NULL;
    rotor_error err = {0};
    if (text_vocab_create(&v, &spec, &err) != ROTOR_OK) {
        fprintf(stderr, "fake_vocab: %s\n", err.message);
        abort();
    }
    return v;
}

void fake_hash_logits(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    base_rng r;
    base_rng_seed(&r, base_hash64(tokens, n * sizeof *tokens, 1));
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = 2.0f * base_rng_normal(&r);
}
