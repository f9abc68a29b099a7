/* SPDX-License-Identifier: MIT
 *
 * Attention over the paged cache, a part of float_body.h.
 *
 * Three levels, all at absolute positions: keys in blocks of 64, blocks in spans of 8 (512 keys),
 * spans in order. A block gives its maximum m, l = sum of p_j and a = sum of p_j v_j with
 * p_j = exp(s_j - m); blocks are folded one after another into the state of their span, and spans
 * one after another into the result, the side with the smaller maximum being scaled. What a span
 * contributes depends on the span alone, so that threads may share the spans of one token, and
 * chunking, threads and neighbours cannot change a bit.
 *
 * Up to four query heads of a group walk the keys together, so each cached row is read and widened
 * once for them.
 */

enum { HEADS = 4 }; /* query heads that walk together */

#define INLINE static inline __attribute__((always_inline))

typedef struct softmax_state {
    float m;                     /* largest score so far */
    float l;                     /* sum of exp(score - m) */
    float a[KERN_MAX_HEAD + 16]; /* sum of exp(score - m) * value; whole lanes */
} softmax_state;

/* ==== Folding ================================================================================= */

static void state_reset(softmax_state *st, size_t d) {
    st->m = -INFINITY;
    st->l = 0;
    for (size_t i = 0; i < d; i += 16) v16_store(st->a + i, v16_set(0));
}

/* Adds (m, l, a) to st. Into an empty state it is a copy: exp(-inf) is exactly 0. */
static void state_fold(softmax_state *st, float m, float l, const float *a, size_t d) {
    bool newer = m > st->m;
    float c = scalar_exp(newer ? st->m - m : m - st->m);
    const float *keep = newer ? a : st->a, *scaled = newer ? st->a : a;
    for (size_t i = 0; i < d; i += 16)
        v16_store(st->a + i, v16_fma(v16_load(scaled + i), v16_set(c), v16_load(keep + i)));
    st->l = newer ? fmaf(st->l, c, l) : fmaf(l, c, st->l);
    st->m = newer ? m : st->m;
}

static void state_output(const softmax_state *st, float *out, size_t d) {
    v16 inv = v16_set(1.0f / st->l);
    for (size_t i = 0; i < d; i += 16)
        v16_store_n(out + i, v16_mul(v16_load(st->a + i), inv), lanes_at(i, d));
}

/* ==== One block =============================================================================== */

typedef struct key_range {
    const uint8_t *k, *v; /* first key and value row of the block */
    size_t row_bytes;     /* distance between rows */
    size_t j0, j1;        /* visible rows */
} key_range;

/* s[h][j] = q_h . k_j * scale for visible keys, minus infinity for the others. */
INLINE void block_scores(const int n, float s[HEADS][KERN_KEYS], const kern_attn *a, const float *q,
                         const key_range *r) {
    for (int h = 0; h < n; h++)
        for (size_t j = 0; j < KERN_KEYS; j++) s[h][j] = -INFINITY;
    for (size_t j = r->j0; j < r->j1; j++) {
        v16 acc[HEADS];
        for (int h = 0; h < n; h++) acc[h] = v16_set(0);
        for (size_t i = 0; i < a->d; i += 16) {
            size_t k = lanes_at(i, a->d);
            v16 key = load_kv(r->k + j * r->row_bytes, i, a->d, a->type);
            for (int h = 0; h < n; h++)
                acc[h] = v16_fma(v16_load_n(q + (size_t)h * a->d + i, k), key, acc[h]);
        }
        for (int h = 0; h < n; h++) s[h][j] = v16_sum(acc[h]) * a->scale;
    }
}

/* Scores of one head to probabilities in place; returns the maximum, *l their sum. */
static float block_softmax(float s[KERN_KEYS], float *l) {
    v16 m = v16_load(s), sum = v16_set(0);
    for (size_t j = 16; j < KERN_KEYS; j += 16) m = v16_max(m, v16_load(s + j));
    float top = v16_hmax(m);
    for (size_t j = 0; j < KERN_KEYS; j += 16) {
        v16 p = lanes_exp(v16_sub(v16_load(s + j), v16_set(top)));
        v16_store(s + j, p);
        sum = v16_add(sum, p);
    }
    *l = v16_sum(sum);
    return top;
}

/* out[h] = sum over visible j, ascending, of p[h][j] * v_j. */
INLINE void block_values(const int n, float out[HEADS][KERN_MAX_HEAD + 16],
                         float p[HEADS][KERN_KEYS], const kern_attn *a, const key_range *r) {
    for (size_t i = 0; i < a->d; i += 16) {
        v16 acc[HEADS];
        for (int h = 0; h < n; h++) acc[h] = v16_set(0);
        for (size_t j = r->j0; j < r->j1; j++) {
            v16 v = load_kv(r->v + j * r->row_bytes, i, a->d, a->type);
            for (int h = 0; h < n; h++) acc[h] = v16_fma(v16_set(p[h][j]), v, acc[h]);
        }
        for (int h = 0; h < n; h++) v16_store(out[h] + i, acc[h]);
    }
}

INLINE void attend_block(const int n, softmax_state *st, const kern_attn *a, const float *q,
                         size_t block) {
    const uint8_t *page = a->pages + (size_t)a->page_ids[block] * a->page_bytes;
    const size_t first = block * KERN_KEYS;
    const key_range r = {.k = page + a->k_at,
                         .v = page + a->v_at,
                         .row_bytes = kern_kv_row_bytes(a->type, a->d),
                         .j0 = a->lo > first ? a->lo - first : 0,
                         .j1 = a->hi - first < KERN_KEYS ? a->hi - first : KERN_KEYS};
    float s[HEADS][KERN_KEYS], values[HEADS][KERN_MAX_HEAD + 16], m[HEADS], l[HEADS];
    block_scores(n, s, a, q, &r);
    for (int h = 0; h < n; h++) m[h] = block_softmax(s[h], &l[h]);
    block_values(n, values, s, a, &r);
    for (int h = 0; h < n; h++) state_fold(&st[h], m[h], l[h], values[h], a->d);
}

/* ==== One span ================================================================================ */

INLINE void attend_span(const int n, softmax_state *st, const kern_attn *a, size_t head,
                        size_t span) {
    size_t lo = BASE_MAX(a->lo, span * KERN_SPAN), hi = BASE_MIN(a->hi, (span + 1) * KERN_SPAN);
    for (int h = 0; h < n; h++) state_reset(&st[h], a->d);
    for (size_t block = lo / KERN_KEYS; block * KERN_KEYS < hi; block++)
        attend_block(n, st, a, a->q + head * a->d, block);
}

/* Heads that walk together from this one on. */
static size_t heads_at(const kern_attn *a, size_t head) {
    return BASE_MIN(a->n_heads - head, (size_t)HEADS);
}

/* States of heads_at(a, head) heads over one span. */
static void span_states(softmax_state st[HEADS], const kern_attn *a, size_t head, size_t span) {
    switch (heads_at(a, head)) {
    case 1:
        attend_span(1, st, a, head, span);
        break;
    case 2:
        attend_span(2, st, a, head, span);
        break;
    case 3:
        attend_span(3, st, a, head, span);
        break;
    default:
        attend_span(4, st, a, head, span);
        break;
    }
}

/* ==== The slots =============================================================================== */

static void NAME(attention)(const kern_attn *a) {
    assert(a->d <= KERN_MAX_HEAD && a->lo < a->hi);
    for (size_t head = 0, n; head < a->n_heads; head += n) {
        softmax_state all[HEADS], st[HEADS];
        n = heads_at(a, head);
        for (int h = 0; h < HEADS; h++) state_reset(&all[h], a->d);
        for (size_t span = a->lo / KERN_SPAN; span * KERN_SPAN < a->hi; span++) {
            span_states(st, a, head, span);
            for (size_t h = 0; h < n; h++) state_fold(&all[h], st[h].m, st[h].l, st[h].a, a->d);
        }
        for (size_t h = 0; h < n; h++) state_output(&all[h], a->out + (head + h) * a->d, a->d);
    }
}

static void NAME(attention_span)(const kern_attn *a, size_t span, float *partial) {
    const size_t stride = kern_partial_floats(a->d);
    for (size_t head = 0, n; head < a->n_heads; head += n) {
        softmax_state st[HEADS];
        n = heads_at(a, head);
        span_states(st, a, head, span);
        for (size_t h = 0; h < n; h++) {
            float *p = partial + (head + h) * stride;
            p[0] = st[h].m;
            p[1] = st[h].l;
            memcpy(p + 16, st[h].a, (stride - 16) * sizeof *p);
        }
    }
}

static void NAME(attention_fold)(const kern_attn *a, const float *partial, size_t first, size_t n) {
    const size_t stride = kern_partial_floats(a->d);
    for (size_t head = 0; head < a->n_heads; head++) {
        softmax_state all;
        state_reset(&all, a->d);
        for (size_t span = first; span < first + n; span++) {
            const float *p = partial + (span * a->n_heads + head) * stride;
            state_fold(&all, p[0], p[1], p + 16, a->d);
        }
        state_output(&all, a->out + head * a->d, a->d);
    }
}

#undef INLINE
