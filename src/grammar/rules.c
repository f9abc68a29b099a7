/* SPDX-License-Identifier: MIT
 *
 * Rules while they are being written, by the reader of GBNF and by that of schemas: expressions in
 * one array, known by their numbers.
 *
 * A sequence or a choice of many is a chain to the left, ((a b) c) d, which the compiler follows
 * in a loop; only what is really nested nests.
 */
#include "grammar/grammar_internal.h"

#include <stdlib.h>

void gram_rules_free(gram_rules *r) {
    base_free(r->expr);
    base_free(r->span);
    base_free(r->rule);
    base_buf_free(&r->bytes);
    base_buf_free(&r->names);
    memset(r, 0, sizeof *r);
}

/* Room for one more of n. */
static bool more(gram_rules *r, void **p, size_t *cap, size_t n, size_t elem_bytes) {
    if (n < *cap) return true;
    const size_t wanted = *cap ? 2 * *cap : 64;
    void *bigger = base_realloc(*p, wanted * elem_bytes);
    if (!bigger) return r->failed = true, false;
    *p = bigger;
    *cap = wanted;
    return true;
}

static uint32_t add(gram_rules *r, gram_expr e) {
    if (r->n_expr >= GRAM_MAX_EXPRS) r->full = true;
    if (r->full || !more(r, (void **)&r->expr, &r->cap_expr, r->n_expr, sizeof e)) return 0;
    r->expr[r->n_expr] = e;
    return (uint32_t)r->n_expr++;
}

uint32_t gram_empty(gram_rules *r) { return add(r, (gram_expr){.kind = GRAM_EMPTY}); }

uint32_t gram_text(gram_rules *r, base_str text) {
    const size_t at = r->bytes.len;
    if (at + text.n > GRAM_MAX_NODES) {
        r->full = true;
        return 0;
    }
    if (text.n && !base_buf_append(&r->bytes, text.p, text.n)) r->failed = true;
    return add(r, (gram_expr){.kind = GRAM_TEXT, .a = (uint32_t)at, .b = (uint32_t)text.n});
}

uint32_t gram_cstr(gram_rules *r, const char *text) { return gram_text(r, base_str_of(text)); }

uint32_t gram_seq(gram_rules *r, uint32_t a, uint32_t b) {
    return add(r, (gram_expr){.kind = GRAM_SEQ, .a = a, .b = b});
}

uint32_t gram_alt(gram_rules *r, uint32_t a, uint32_t b) {
    return a == GRAM_NONE ? b : add(r, (gram_expr){.kind = GRAM_ALT, .a = a, .b = b});
}

uint32_t gram_repeat(gram_rules *r, uint32_t a, uint32_t min, uint32_t max) {
    return add(r, (gram_expr){.kind = GRAM_REPEAT, .a = a, .b = min, .c = max});
}

uint32_t gram_maybe(gram_rules *r, uint32_t a) { return gram_repeat(r, a, 0, 1); }

uint32_t gram_call(gram_rules *r, uint32_t rule) {
    return add(r, (gram_expr){.kind = GRAM_RULE, .a = rule});
}

uint32_t gram_nothing(gram_rules *r) { return add(r, (gram_expr){.kind = GRAM_CLASS}); }

/* ==== Classes ================================================================================= */

static int by_lo(const void *a, const void *b) {
    const gram_span *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void put_span(gram_rules *r, uint32_t lo, uint32_t hi) {
    enum { SURROGATES = 0xD800, PAST = 0xE000 };
    if (lo > hi) return;
    if (lo < PAST && hi >= SURROGATES) { /* UTF-8 has no such characters */
        if (lo < SURROGATES) put_span(r, lo, SURROGATES - 1);
        put_span(r, PAST, hi);
        return;
    }
    if (r->n_span >= GRAM_MAX_EXPRS) r->full = true;
    if (r->full || !more(r, (void **)&r->span, &r->cap_span, r->n_span, sizeof *r->span)) return;
    r->span[r->n_span++] = (gram_span){lo, hi};
}

uint32_t gram_class(gram_rules *r, gram_span *span, size_t n, bool negate) {
    const size_t at = r->n_span;
    uint32_t next = 0; /* first character behind those seen */
    if (n > 1) qsort(span, n, sizeof *span, by_lo);
    for (size_t i = 0; i < n; i++) {
        const uint32_t lo = BASE_MAX(span[i].lo, next);
        if (negate && lo > next) put_span(r, next, lo - 1);
        if (!negate && lo <= span[i].hi) put_span(r, lo, span[i].hi);
        if (span[i].hi + 1 > next) next = span[i].hi + 1;
    }
    if (negate && next <= GRAM_LAST_CHAR) put_span(r, next, GRAM_LAST_CHAR);
    return add(r,
               (gram_expr){.kind = GRAM_CLASS, .a = (uint32_t)at, .b = (uint32_t)(r->n_span - at)});
}

/* ==== Rules =================================================================================== */

uint32_t gram_rule_new(gram_rules *r, base_str name, uint32_t line, uint32_t column) {
    const size_t at = r->names.len;
    if (r->n_rule >= GRAM_MAX_EXPRS) r->full = true;
    if (r->full || !more(r, (void **)&r->rule, &r->cap_rule, r->n_rule, sizeof *r->rule)) return 0;
    if (!base_buf_append(&r->names, name.p, name.n) || !base_buf_append(&r->names, "", 1))
        r->failed = true;
    r->rule[r->n_rule] =
        (gram_rule){.body = GRAM_NONE, .line = line, .column = column, .name_at = (uint32_t)at};
    return (uint32_t)r->n_rule++;
}

const char *gram_rule_name(const gram_rules *r, uint32_t rule) {
    return r->names.data + r->rule[rule].name_at;
}
