/* SPDX-License-Identifier: MIT
 *
 * Attention over f32, f16 and q8 caches: head sizes with and without a tail, one and four heads on
 * one KV head, every visible range around the borders of a block and of a span, pages in random
 * order. The last page ends at the unreadable page. Rows outside [lo, hi) hold NaN: reading one
 * shows. Attention span by span must give the bits of attention whole.
 */
#include "checkern.h"

enum { S_PAGES, S_Q, S_OUT, S_REF, S_PARTIAL, MAX_BLOCKS = 18 };

static const size_t borders[] = {0, 1, 63, 64, 65, 127, 500, 513, 1100};

static void fill_cache(checker *c, const kern_attn *a, uint8_t *pages, size_t n_blocks) {
    const size_t row = kern_kv_row_bytes(a->type, a->d);
    float x[KERN_MAX_HEAD];
    memset(pages, 0xFF, n_blocks * a->page_bytes);
    for (size_t pos = a->lo; pos < a->hi; pos++)
        for (int v = 0; v < 2; v++) {
            fill_floats(c, x, a->d, FILL_RANDOM);
            uint8_t *page = pages + a->page_ids[pos / KERN_KEYS] * a->page_bytes;
            c->ref.kv_store(page + (v ? a->v_at : a->k_at) + pos % KERN_KEYS * row, x, a->d,
                            a->type);
        }
}

/* The two slots that threads use, in place of the whole. */
static void by_spans(checker *c, const kern *k, const kern_attn *a) {
    const size_t first = a->lo / KERN_SPAN, n = (a->hi + KERN_SPAN - 1) / KERN_SPAN - first;
    const size_t one = a->n_heads * kern_partial_floats(a->d);
    float *partial =
        (float *)(void *)space_take(c, S_PARTIAL, (first + n) * one * sizeof *partial, 0);
    for (size_t span = first + n; span-- > first;) k->attention_span(a, span, partial + span * one);
    k->attention_fold(a, partial, first, n);
}

static void attention_case(checker *c, kern_attn a) {
    const size_t n_blocks = (a.hi + KERN_KEYS - 1) / KERN_KEYS, n = a.n_heads * a.d;
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
    float *q = (float *)(void *)space_take(c, S_Q, n * 4, 0);
    fill_floats(c, q, n, FILL_RANDOM);
    a.q = q;
    a.out = (float *)(void *)space_take(c, S_REF, n * 4, 0);
    c->ref.attention(&a);
    for (size_t i = 0; i < 2 * c->n_levels; i++) {
        size_t bad = 0, l = i / 2;
        const bool spans = i & 1;
        const float *ref = (const float *)(const void *)c->space[S_REF].at;
        a.out = (float *)(void *)space_take(c, S_OUT, n * 4, 0);
        if (spans)
            by_spans(c, &c->table[l], &a);
        else
            c->table[l].attention(&a);
        bool same = floats_equal(ref, a.out, n, &bad), whole = guards_intact(&c->space[S_OUT]);
        if (spans) whole = whole && guards_intact(&c->space[S_PARTIAL]);
        /* NaN equals NaN, but here no result may be one: the inputs in range are finite. */
        bool number = a.out[bad] == a.out[bad];
        slot_verdict(
            c, l, same && whole && number,
            "%scache type %d heads %zu d %zu positions [%zu, %zu): head %zu element %zu is "
            "%.9g, expected %.9g%s",
            spans ? "by spans, " : "", (int)a.type, a.n_heads, a.d, a.lo, a.hi, bad / a.d,
            bad % a.d, (double)a.out[bad], (double)ref[bad], whole ? "" : "; guards overwritten");
    }
}

void check_attention(checker *c) {
    static const size_t sizes[] = {16, 64, 80, 100, 128, 256};
    static const size_t groups[] = {1, 3, 4, 6};
    if (!slot_begin(c, "attention") && !slot_begin(c, "attention_span") &&
        !slot_begin(c, "attention_fold"))
        return;
    for (int type = 0; type < 3; type++)
        for (size_t i = 0; i < BASE_COUNT(sizes); i++)
            for (size_t g = 0; g < BASE_COUNT(groups); g++)
                for (size_t lo = 0; lo < BASE_COUNT(borders); lo++)
                    for (size_t hi = lo + 1; hi < BASE_COUNT(borders); hi++) {
                        if (too_long(sizes[i] * groups[g] * (borders[hi] - borders[lo]))) continue;
                        attention_case(c, (kern_attn){.type = (kern_kv)type,
                                                      .d = sizes[i],
                                                      .n_heads = groups[g],
                                                      .scale = 0.125f,
                                                      .lo = borders[lo],
                                                      .hi = borders[hi]});
                    }
}
