/* SPDX-License-Identifier: MIT
 *
 * Attention over f32, f16 and q8 caches: head sizes with and without a tail, one and several heads
 * on one KV head, every visible range around the borders of a block and of a span, one token and
 * several together, windows, with and without the keys behind a token, pages in random order. The
 * last page ends at the unreadable page. Positions nobody may see hold NaN: using one shows. The
 * reference is C, one token at a time: so tokens together, and span by span, must give the bits of
 * a token alone.
 */
#include "checkern.h"

enum {
    S_PAGES,
    S_Q,
    S_OUT,
    S_REF,
    S_PARTIAL,
    S_SCRATCH,
    MAX_BLOCKS = 20,
    MOST_TOK = 32,
    MAX_HEADS = 6
};

static const size_t borders[] = {0, 1, 63, 64, 65, 127, 500, 513, 1100};

static size_t first_seen(const kern_attn *a) {
    return a->window && a->window < a->pos + 1 ? a->pos + 1 - a->window : 0;
}

static size_t end_seen(const kern_attn *a) { return kern_attn_end(a, a->n_tok - 1); }

static void fill_cache(checker *c, const kern_attn *a, uint8_t *pages, size_t n_blocks) {
    float x[KERN_MAX_HEAD];
    uint8_t row[KERN_MAX_HEAD * sizeof(float)];
    memset(pages, 0xFF, n_blocks * a->page_bytes);
    for (size_t pos = first_seen(a); pos < end_seen(a); pos++)
        for (int v = 0; v < 2; v++) {
            fill_floats(c, x, a->d, FILL_RANDOM);
            uint8_t *page = pages + a->page_ids[pos / KERN_KEYS] * a->page_bytes;
            c->ref.kv_store(row, x, a->d, a->type);
            if (v)
                kern_put_value(page + a->v_at, pos % KERN_KEYS, row, a->d, a->type);
            else
                kern_put_key(page + a->k_at, pos % KERN_KEYS, row, a->d, a->type);
        }
}

/* The two slots that threads use, in place of the whole. */
static void by_spans(checker *c, const kern *k, const kern_attn *a) {
    const size_t first = kern_attn_first_span(a, 0), end = kern_attn_end_span(a, a->n_tok - 1);
    const size_t one = a->n_tok * a->n_heads * kern_partial_floats(a->d);
    float *partial =
        (float *)(void *)space_take(c, S_PARTIAL, (end - first) * one * sizeof *partial, 0);
    for (size_t span = end; span-- > first;)
        k->attention_span(a, span, partial + (span - first) * one);
    k->attention_fold(a, partial);
}

static void one_by_one(const kern *k, const kern_attn *a) {
    for (size_t t = 0; t < a->n_tok; t++) {
        kern_attn one = *a;
        one.q += t * a->ldq;
        one.out += t * a->ldo;
        one.pos += t;
        one.n_tok = 1;
        k->attention(&one);
    }
}

static void compare(checker *c, kern_attn a, size_t n) {
    const float *ref = (const float *)(const void *)c->space[S_REF].at;
    for (size_t i = 0; i < 2 * c->n_levels; i++) {
        size_t bad = 0, l = i / 2;
        const bool spans = i & 1;
        a.out = (float *)(void *)space_take(c, S_OUT, n * 4, 0);
        if (spans)
            by_spans(c, &c->table[l], &a);
        else
            c->table[l].attention(&a);
        bool same = floats_equal(ref, a.out, n, &bad), whole = guards_intact(&c->space[S_OUT]);
        whole = whole && guards_intact(&c->space[S_SCRATCH]);
        if (spans) whole = whole && guards_intact(&c->space[S_PARTIAL]);
        /* NaN equals NaN, but here no result may be one: the inputs in range are finite. */
        bool number = a.out[bad] == a.out[bad];
        slot_verdict(c, l, same && whole && number,
                     "%scache type %d heads %zu d %zu position %zu window %zu end %zu, %zu tokens: "
                     "element %zu is "
                     "%.9g, expected %.9g%s",
                     spans ? "by spans, " : "", (int)a.type, a.n_heads, a.d, a.pos, a.window, a.end,
                     a.n_tok, bad, (double)a.out[bad], (double)ref[bad],
                     whole ? "" : "; guards overwritten");
    }
}

static void attention_case(checker *c, kern_attn a) {
    static const size_t behind[] = {0, 1, 33, 70};
    if (!base_rng_below(&c->rng, 3)) a.end = a.pos + a.n_tok + behind[base_rng_below(&c->rng, 4)];
    const size_t n_blocks = (BASE_MAX(a.end, a.pos + a.n_tok) + KERN_KEYS - 1) / KERN_KEYS;
    const size_t one = a.n_heads * a.d, n = a.n_tok * one;
    const size_t slab = KERN_KEYS * kern_kv_row_bytes(a.type, a.d);
    uint32_t ids[MAX_BLOCKS];
    for (uint32_t i = 0; i < n_blocks; i++) ids[i] = i;
    for (uint32_t i = (uint32_t)n_blocks; i > 1; i--) {
        uint32_t j = base_rng_below(&c->rng, i), t = ids[i - 1];
        ids[i - 1] = ids[j], ids[j] = t;
    }
    a.k_at = 64;
    a.v_at = 64 + slab;
    a.page_bytes = 64 + 2 * slab;
    a.page_ids = ids;
    uint8_t *pages = space_take(c, S_PAGES, n_blocks * a.page_bytes, 0);
    a.pages = pages;
    fill_cache(c, &a, pages, n_blocks);
    a.ldq = one + 5;
    a.ldo = one;
    float *q = (float *)(void *)space_take(c, S_Q, (n + (a.n_tok - 1) * 5) * 4, 0);
    fill_floats(c, q, n + (a.n_tok - 1) * 5, FILL_RANDOM);
    a.q = q;
    float sinks[MAX_HEADS];
    fill_floats(c, sinks, a.n_heads, FILL_RANDOM);
    a.sinks = base_rng_below(&c->rng, 2) ? sinks : NULL;
    a.cap = base_rng_below(&c->rng, 3) ? 0 : 2.5f;
    a.scratch = (float *)(void *)space_take(
        c, S_SCRATCH, kern_attn_scratch(a.n_tok * a.n_heads, a.d) * sizeof *a.scratch, 0);
    a.out = (float *)(void *)space_take(c, S_REF, n * 4, 0);
    one_by_one(&c->ref, &a);
    compare(c, a, n);
}

/* One token sees [lo, hi): by its window unless lo is 0. */
static void each_range(checker *c, kern_attn a, size_t one_in) {
    for (size_t lo = 0; lo < BASE_COUNT(borders); lo++)
        for (size_t hi = lo + 1; hi < BASE_COUNT(borders); hi++) {
            if (base_rng_below(&c->rng, (uint32_t)one_in)) continue;
            if (too_long(a.d * a.n_heads * a.n_tok * (borders[hi] - borders[lo]))) continue;
            a.pos = borders[hi] - 1;
            a.window = borders[lo] ? borders[hi] - borders[lo] : 0;
            attention_case(c, a);
        }
}

void check_attention(checker *c) {
    static const size_t sizes[] = {16, 64, 80, 120, 128, 256};
    static const size_t groups[] = {1, 3, 4, 6};
    static const size_t tokens[] = {2, 5, 17, MOST_TOK};
    if (!slot_begin(c, "attention") && !slot_begin(c, "attention_span") &&
        !slot_begin(c, "attention_fold"))
        return;
    for (int type = 0; type < 3; type++)
        for (size_t i = 0; i < BASE_COUNT(sizes); i++)
            for (size_t g = 0; g < BASE_COUNT(groups); g++) {
                kern_attn a = {.type = (kern_kv)type,
                               .d = sizes[i],
                               .n_heads = groups[g],
                               .n_tok = 1,
                               .scale = 0.125f};
                each_range(c, a, 1);
                for (size_t t = 0; t < BASE_COUNT(tokens); t++) {
                    a.n_tok = tokens[t];
                    if (a.n_tok * a.n_heads <= KERN_ATTN_ROWS) each_range(c, a, 2 * a.n_tok);
                }
            }
}
