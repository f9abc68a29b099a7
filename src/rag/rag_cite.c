/* SPDX-License-Identifier: MIT
 *
 * Citations, checked after the fact. A small model writes [7] where there are three sources, and
 * puts [1] behind what source 1 does not say. Numbers of no source are taken out as the text comes;
 * then every sentence is compared with the sources it names, word by word (stems, without stop
 * words). That tells whether the source speaks of the same things. It cannot tell whether it says
 * the same: who wants to know follows the citation.
 */
#include "rag/rag_internal.h"
#include "rag/rag_words.h"

#include <stdlib.h>

/* ==== Marks =================================================================================== */

enum { MARK_NUMBERS = 24, MARK_DIGITS = 4 }; /* there are never so many sources */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* True behind a mark's opening bracket, in what a mark may have. */
static bool is_inside(char c) { return is_digit(c) || c == ',' || c == ' ' || c == '-'; }

static void add_number(size_t out[MARK_NUMBERS], size_t *n, size_t i) {
    if (*n < MARK_NUMBERS)
        out[(*n)++] = i;
    else
        out[MARK_NUMBERS - 1] = SIZE_MAX;
}

/* The numbers of a mark "[1]", "[1, 3]" or "[2-4]"; 0: it is none. Where they do not fit, the last
 * is that of no source. */
static size_t read_mark(base_str s, size_t out[MARK_NUMBERS]) {
    size_t n = 0, from = 0;
    for (size_t at = 1; at + 1 < s.n;) {
        size_t value = 0, digits = 0;
        while (at < s.n && s.p[at] == ' ') at++;
        for (; is_digit(s.p[at]) && digits < MARK_DIGITS; at++, digits++)
            value = 10 * value + (size_t)(s.p[at] - '0');
        if (!digits || !value) return 0; /* [0] is no citation, nobody counts so */
        for (size_t i = from ? from + 1 : value; i <= value; i++) add_number(out, &n, i);
        while (at < s.n && s.p[at] == ' ') at++;
        from = s.p[at] == '-' ? value : 0;
        if (s.p[at] == ']') return at + 1 == s.n ? n : 0;
        if (s.p[at] != ',' && s.p[at] != '-') return 0;
        at++;
    }
    return 0;
}

static void flush(rag_marks *m, base_buf *out) {
    base_buf_append(out, m->held, m->n_held);
    m->n_held = 0;
}

/* "[1, 2, 5-8]": ranges keep it as short as a mark may be. */
static void put_numbers(base_buf *out, const size_t *numbers, size_t n) {
    for (size_t i = 0, last; i < n; i = last + 1) {
        for (last = i; last + 1 < n && numbers[last + 1] == numbers[last] + 1;) last++;
        if (last - i < 2) last = i;
        base_buf_printf(out, "%s%zu", i ? ", " : "[", numbers[i]);
        if (last > i) base_buf_printf(out, "-%zu", numbers[last]);
    }
    if (n) base_buf_puts(out, "]");
}

/* A whole mark is held, perhaps behind a space. */
static void end_mark(rag_marks *m, base_buf *out) {
    const size_t skip = m->held[0] == ' ';
    size_t numbers[MARK_NUMBERS], kept = 0;
    const size_t n = read_mark((base_str){m->held + skip, m->n_held - skip}, numbers);
    for (size_t i = 0; i < n; i++)
        if (numbers[i] <= m->n_sources) numbers[kept++] = numbers[i];
    if (kept == n) { /* all of them exist, or it is no mark */
        flush(m, out);
        m->n_open = 0;
        return;
    }
    m->n_removed += n - kept;
    if (kept && skip) base_buf_puts(out, " ");
    if (kept) m->n_open = 0;
    put_numbers(out, numbers, kept);
    m->n_held = 0;
}

/* A character behind the beginning of a mark that is out already, "[" of "[[9]7]": when the mark
 * within was taken out, both sides of it become one. False: they do not. */
static bool put_behind(rag_marks *m, char c, base_buf *out) {
    size_t numbers[MARK_NUMBERS];
    if (!m->n_open || m->n_held || m->n_open == sizeof m->open || !(is_inside(c) || c == ']'))
        return false;
    m->open[m->n_open++] = c;
    const size_t n = c == ']' ? read_mark((base_str){m->open, m->n_open}, numbers) : 0;
    if (c == ']') m->n_open = 0;
    for (size_t i = 0; i < n; i++)
        if (numbers[i] > m->n_sources) return ++m->n_removed; /* without its end it is none */
    base_buf_append(out, &c, 1);
    return true;
}

/* A mark begins; one that has begun before may go on behind it. */
static void begin_mark(rag_marks *m, bool in_mark, base_buf *out) {
    const size_t skip = m->n_held && m->held[0] == ' ';
    if (in_mark) {
        m->n_open = m->n_held - skip;
        memcpy(m->open, m->held + skip, m->n_open);
    } else if (m->n_held) {
        m->n_open = 0; /* a space that was not one's inside */
    }
    if (in_mark || !skip) flush(m, out);
    m->held[m->n_held++] = '[';
}

/* ==== Code ==================================================================================== */

static void end_run(rag_code *k) {
    if (k->run >= 3 && !k->begun)
        k->fence = !k->fence;
    else if (k->run && !k->fence)
        k->span = !k->span;
    k->begun |= k->run != 0;
    k->run = 0;
}

/* Is the next character code? A backtick alone in its line makes none of the lines behind it. */
static bool is_code(rag_code *k, char c) {
    if (c == '`') {
        k->run++;
    } else {
        end_run(k);
        k->begun = c != '\n' && (k->begun || c != ' ');
        k->span &= c != '\n';
    }
    return k->fence || k->span;
}

static void put_char(rag_marks *m, char c, base_buf *out) {
    const bool code = is_code(&m->code, c);
    const bool in_mark = m->n_held > 1 || (m->n_held == 1 && m->held[0] == '[');
    if (put_behind(m, c, out)) return;
    if (in_mark && c == ']') {
        m->held[m->n_held++] = c;
        end_mark(m, out);
        return;
    }
    if (in_mark && is_inside(c) && m->n_held + 1 < sizeof m->held) {
        m->held[m->n_held++] = c;
        return;
    }
    if (c == '[' && !code) {
        begin_mark(m, in_mark, out);
        return;
    }
    flush(m, out);
    m->n_open = 0;
    if (c == ' ' && !code)
        m->held[m->n_held++] = c;
    else
        base_buf_append(out, &c, 1);
}

void rag_marks_put(rag_marks *m, base_str text, base_buf *out) {
    for (size_t i = 0; i < text.n; i++) put_char(m, text.p[i], out);
}

void rag_marks_end(rag_marks *m, base_buf *out) { flush(m, out); }

/* ==== Sentences and sources =================================================================== */

static const float SUPPORTED = 0.5f, ADDED = 0.6f;
enum { ADDED_WORDS = 3 };

typedef struct checker {
    const rag_context *c; /* sources */
    base_buf *words;      /* [n] hashes of the stems of each, uint64_t, sorted; owned */
    rag_checked *out;     /* result */
    /* The sentence: */
    size_t begin, end;          /* bytes in the text */
    base_buf plain;             /* its text without marks */
    size_t cited[MARK_NUMBERS]; /* [n_cited] sources from 0 */
    size_t n_cited;             /* how many */
} checker;

static uint64_t hash_of(const rag_term *t) { return base_hash64(t->t.p, t->t.n, 1); }

static rotor_status put_word(void *user, const rag_term *t) {
    const uint64_t h = hash_of(t);
    return t->stop || base_buf_append(user, &h, sizeof h) ? ROTOR_OK : ROTOR_E_NOMEM;
}

static int by_value(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static rotor_status read_source(const rag_source *s, base_buf *out) {
    ROTOR_TRY(rag_terms_of(base_str_of(s->hit.text), put_word, out));
    ROTOR_TRY(rag_terms_of(base_str_of(s->hit.title), put_word, out));
    ROTOR_TRY(rag_terms_of(base_str_of(s->hit.heading), put_word, out));
    if (out->len) qsort(out->data, out->len / sizeof(uint64_t), sizeof(uint64_t), by_value);
    return ROTOR_OK;
}

typedef struct overlap {
    const base_buf *words; /* of a source */
    size_t n, n_in;        /* words of the sentence; those in it */
} overlap;

static rotor_status compare(void *user, const rag_term *t) {
    overlap *o = user;
    const uint64_t h = hash_of(t);
    if (t->stop || t->extra) return ROTOR_OK;
    o->n++;
    o->n_in += o->words->len &&
               bsearch(&h, o->words->data, o->words->len / sizeof h, sizeof h, by_value) != NULL;
    return ROTOR_OK;
}

/* Part of the sentence's words that source i has; *n: how many words there are. */
static float support(const checker *k, size_t i, size_t *n) {
    overlap o = {.words = &k->words[i]};
    rag_terms_of((base_str){k->plain.data, k->plain.len}, compare, &o);
    *n = o.n;
    return o.n ? (float)o.n_in / (float)o.n : 0;
}

static rotor_status put_citation(checker *k, size_t source, bool added, rotor_error *err) {
    rag_checked *out = k->out;
    size_t n;
    if (out->n == out->cap) {
        const size_t cap = out->cap ? 2 * out->cap : 8;
        rag_citation *more = base_realloc(out->list, cap * sizeof *more);
        if (!more) return base_fail_nomem(err, "checking citations");
        out->list = more;
        out->cap = cap;
    }
    const float s = support(k, source, &n);
    out->list[out->n++] = (rag_citation){.source = source,
                                         .begin = k->begin,
                                         .end = k->end,
                                         .support = s,
                                         .supported = s >= SUPPORTED,
                                         .added = added};
    return ROTOR_OK;
}

/* A sentence that names no source gets the one that has its words, if one has. */
static rotor_status add_source(checker *k, rotor_error *err) {
    size_t best = SIZE_MAX, n = 0;
    float most = ADDED;
    for (size_t i = 0; i < k->c->n; i++) {
        const float s = support(k, i, &n);
        if (n < ADDED_WORDS) return ROTOR_OK;
        if (s > most || (s == most && best == SIZE_MAX)) best = i, most = s;
    }
    return best == SIZE_MAX ? ROTOR_OK : put_citation(k, best, true, err);
}

static rotor_status end_sentence(checker *k, rotor_error *err) {
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < k->n_cited && st == ROTOR_OK; i++)
        st = put_citation(k, k->cited[i], false, err);
    if (st == ROTOR_OK && !k->n_cited && k->plain.len) st = add_source(k, err);
    base_buf_reset(&k->plain);
    k->n_cited = 0;
    k->begin = k->end;
    return st;
}

static void cite(checker *k, const size_t *numbers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool there = numbers[i] > k->c->n || k->n_cited == BASE_COUNT(k->cited);
        for (size_t j = 0; j < k->n_cited; j++) there |= k->cited[j] == numbers[i] - 1;
        if (!there) k->cited[k->n_cited++] = numbers[i] - 1;
    }
}

/* The mark at s[0]; its bytes, 0: none. */
static size_t mark_at(base_str s, size_t numbers[MARK_NUMBERS], size_t *n) {
    const size_t most = BASE_MIN(s.n, sizeof((rag_marks *)0)->held);
    if (!s.n || s.p[0] != '[') return 0;
    const char *close = memchr(s.p, ']', most);
    if (!close) return 0;
    const size_t len = (size_t)(close - s.p) + 1;
    *n = read_mark((base_str){s.p, len}, numbers);
    return *n ? len : 0;
}

/* Is the byte behind i the start of something new? */
static bool ends_at(base_str s, size_t i) {
    if (s.p[i] == '\n') return true;
    if (!strchr(".!?", s.p[i])) return false;
    return i + 1 == s.n || strchr(" \n[\"')*", s.p[i + 1]) != NULL;
}

/* Sentences of the text; marks that stand behind the end of one belong to it. */
static rotor_status walk(checker *k, base_str s, rotor_error *err) {
    size_t numbers[MARK_NUMBERS], n;
    bool over = false; /* the sentence has ended, but for marks */
    rag_code code = {0};
    for (size_t i = 0; i < s.n;) {
        const bool plain = !is_code(&code, s.p[i]);
        const size_t mark = plain ? mark_at((base_str){s.p + i, s.n - i}, numbers, &n) : 0;
        if (mark) {
            cite(k, numbers, n);
            i += mark;
            k->end = i;
            continue;
        }
        if (over && s.p[i] != ' ') {
            ROTOR_TRY(end_sentence(k, err));
            k->begin = i;
            over = false;
        }
        if (s.p[i] != ' ' && s.p[i] != '\n') k->end = i + 1;
        if (!base_buf_append(&k->plain, s.p + i, 1))
            return base_fail_nomem(err, "checking citations");
        over |= ends_at(s, i);
        i++;
    }
    return end_sentence(k, err);
}

static rotor_status check(checker *k, base_str answer, rotor_error *err) {
    rag_marks m = {.n_sources = k->c->n};
    rag_marks_put(&m, answer, &k->out->text);
    rag_marks_end(&m, &k->out->text);
    k->out->n_removed = m.n_removed;
    base_buf_puts(&k->out->text, "");
    if (k->out->text.failed) return base_fail_nomem(err, "checking citations");
    for (size_t i = 0; i < k->c->n; i++)
        if (read_source(&k->c->sources[i], &k->words[i]) != ROTOR_OK)
            return base_fail_nomem(err, "checking citations");
    return walk(k, (base_str){k->out->text.data, k->out->text.len}, err);
}

rotor_status rag_check(const rag_context *c, base_str answer, rag_checked *out, rotor_error *err) {
    checker k = {.c = c, .out = out};
    memset(out, 0, sizeof *out);
    k.words = base_alloc_array(c->n + 1, sizeof *k.words);
    rotor_status st = k.words ? check(&k, answer, err) : base_fail_nomem(err, "checking citations");
    for (size_t i = 0; k.words && i < c->n; i++) base_buf_free(&k.words[i]);
    base_free(k.words);
    base_buf_free(&k.plain);
    if (st != ROTOR_OK) rag_checked_free(out);
    return st;
}

void rag_checked_free(rag_checked *c) {
    base_buf_free(&c->text);
    base_free(c->list);
    memset(c, 0, sizeof *c);
}
