/* SPDX-License-Identifier: MIT
 *
 * Vectors: an exact scan of bytes, and the best re-scored.
 *
 * A vector is kept in two planes of bytes: high = round(x / scale) with scale = max|x| / 127, and
 * low, 254ths of what that leaves. The scan reads only the high plane, 384 bytes for 384 floats, by
 * one integer product a passage (kern: scan_i8); low brings the precision back to about 16 bits
 * for those that count. Where there are many passages, two bits a column (rag_screen.c, kern:
 * scan_i2) say first whose bytes need not be read; what is found is the same but for one in two
 * million.
 */
#include "rag/rag_index.h"

#include <math.h>

enum { LOW_STEPS = 254 }; /* of low in one of high */

bool rag_vec_pack(int8_t *high, int8_t *low, float *scale, const float *x, size_t dims, size_t ld) {
    float most = 0;
    for (size_t i = 0; i < dims; i++) {
        if (!isfinite(x[i])) return false;
        most = fmaxf(most, fabsf(x[i]));
    }
    *scale = most / 127;
    if (!(most > 0) || !isnormal(*scale)) return false;
    for (size_t i = 0; i < dims; i++) {
        const float at = x[i] / *scale, q = roundf(at);
        const float rest = roundf((at - q) * LOW_STEPS);
        high[i] = (int8_t)q;
        if (low) low[i] = (int8_t)fminf(fmaxf(rest, -127), 127);
    }
    for (size_t i = dims; i < ld; i++) high[i] = 0;
    for (size_t i = dims; low && i < ld; i++) low[i] = 0;
    return true;
}

float rag_vec_cosine(const rag_index *x, const float *query, uint32_t slot) {
    const int8_t *high = x->high + slot * x->ld, *low = x->low + slot * x->ld;
    double sum = 0;
    for (size_t i = 0; i < x->dims; i++)
        sum += (double)query[i] * (high[i] + low[i] * (1.0 / LOW_STEPS));
    return (float)(sum * (double)x->scale[slot]);
}

float rag_vec_between(const kern *k, const rag_index *x, uint32_t a, const rag_index *y,
                      uint32_t b) {
    int32_t sum;
    k->scan_i8(&sum, x->high + a * x->ld, y->high + b * y->ld, x->ld, 1);
    return (float)sum * x->scale[a] * y->scale[b];
}

/* ==== Questions =============================================================================== */

bool rag_vec_query_make(rag_vec_query *q, const rag_index *x) {
    *q = (rag_vec_query){.x = base_alloc_array(x->dims, sizeof *q->x),
                         .high = base_alloc_aligned(x->ld),
                         .sums = base_alloc_array(RAG_VEC_BLOCK, sizeof *q->sums),
                         .turned = x->coarse ? base_alloc_aligned(x->ld) : NULL};
    if (q->x && q->high && q->sums && (q->turned || !x->coarse)) return true;
    rag_vec_query_free(q);
    return false;
}

bool rag_vec_query_pack(rag_vec_query *q, const rag_index *x) {
    if (!rag_vec_pack(q->high, NULL, &q->scale, q->x, x->dims, x->ld)) return false;
    if (q->turned) rag_screen_turn(q, x->signs, x->ld);
    return true;
}

void rag_vec_query_free(rag_vec_query *q) {
    base_free(q->x);
    base_free_aligned(q->high);
    base_free(q->sums);
    base_free_aligned(q->turned);
    memset(q, 0, sizeof *q);
}

/* ==== All bytes =============================================================================== */

/* Sums of a block of rows; those that may be among the best go to the heap. */
static void rank_block(const rag_index *x, const kern *k, const rag_vec_query *q,
                       const uint8_t *allowed, size_t begin, size_t end, rag_rank *heap, size_t *n,
                       size_t most) {
    k->scan_i8(q->sums, x->high + begin * x->ld, q->high, x->ld, end - begin);
    for (size_t s = begin; s < end; s++) {
        const float score = (float)q->sums[s - begin] * (x->scale[s] * q->scale);
        if (*n == most && score <= heap[0].score) continue; /* nearly all of them */
        if (x->scale[s] > 0 && (!allowed || allowed[s]))
            rag_rank_push(heap, n, most, (rag_rank){(uint32_t)s, score});
    }
}

static void rank_all(const rag_index *x, const kern *k, rag_vec_query *q, const uint8_t *allowed,
                     rag_rank *heap, size_t *n, size_t most) {
    for (size_t s = 0; s < x->n_chunks; s += RAG_VEC_BLOCK)
        rank_block(x, k, q, allowed, s, BASE_MIN(s + RAG_VEC_BLOCK, x->n_chunks), heap, n, most);
    q->n_scored = x->n_chunks;
}

/* ==== Screened ================================================================================ */

/* What the screen says of a block of rows, and the best by that. */
static void screen_block(const rag_index *x, const kern *k, const rag_vec_query *q,
                         const uint8_t *allowed, size_t begin, size_t end, rag_rank *heap,
                         size_t *n, size_t most) {
    k->scan_i2(q->sums, x->coarse + begin * (x->ld / 4), q->turned, x->ld, end - begin);
    for (size_t s = begin; s < end; s++) {
        const float sum = (float)(2 * q->sums[s - begin] - 3 * q->total) * q->step;
        const float factor = x->coarse_scale[s];
        q->near[s] = factor > 0 ? sum * factor : factor < 0 ? INFINITY : -INFINITY;
    }
    for (size_t s = begin; allowed && s < end; s++)
        if (!allowed[s]) q->near[s] = -INFINITY;
    for (size_t s = begin; s < end; s++)
        if (q->near[s] > (*n == most ? heap[0].score : -INFINITY))
            rag_rank_push(heap, n, most, (rag_rank){(uint32_t)s, q->near[s]});
}

static float score_bytes(const rag_index *x, const kern *k, rag_vec_query *q, uint32_t slot) {
    int32_t sum;
    k->scan_i8(&sum, x->high + slot * x->ld, q->high, x->ld, 1);
    q->near[slot] = -INFINITY; /* done */
    q->n_scored++;
    return (float)sum * (x->scale[slot] * q->scale);
}

/* Whoever is near enough to the worst of the best, which rises meanwhile. */
static void rank_near(const rag_index *x, const kern *k, rag_vec_query *q, rag_rank *heap,
                      size_t *n, size_t most) {
    enum { AHEAD = 16 }; /* rows that are on their way from memory */
    const float margin = rag_screen_margin(q, x->ld);
    uint32_t list[AHEAD];
    size_t n_list = 0;
    for (size_t s = 0; s < x->n_chunks || n_list; s++) {
        const float least = *n == most ? heap[0].score - margin : -INFINITY;
        while (s < x->n_chunks && !(q->near[s] > least)) s++;
        if (s < x->n_chunks) {
            list[n_list++] = (uint32_t)s;
            for (size_t i = 0; i < x->ld; i += 64) __builtin_prefetch(x->high + s * x->ld + i);
        }
        if (n_list < AHEAD && s < x->n_chunks) continue;
        for (size_t i = 0; i < n_list; i++)
            rag_rank_push(heap, n, most, (rag_rank){list[i], score_bytes(x, k, q, list[i])});
        n_list = 0;
    }
}

static void rank_screened(const rag_index *x, const kern *k, rag_vec_query *q,
                          const uint8_t *allowed, rag_rank *heap, size_t *n, size_t most) {
    size_t n_first = 0;
    q->n_scored = 0;
    for (size_t s = 0; s < x->n_chunks; s += RAG_VEC_BLOCK)
        screen_block(x, k, q, allowed, s, BASE_MIN(s + RAG_VEC_BLOCK, x->n_chunks), heap, &n_first,
                     most);
    for (size_t i = 0; i < n_first; i++) {
        const uint32_t slot = heap[i].unit;
        rag_rank_push(heap, n, most, (rag_rank){slot, score_bytes(x, k, q, slot)});
    }
    rank_near(x, k, q, heap, n, most);
}

void rag_vec_rank(const rag_index *x, const kern *k, rag_vec_query *q, const uint8_t *allowed,
                  rag_rank *out, size_t *n, size_t most) {
    *n = 0;
    if (!x->high || !most) return;
    if (x->coarse && q->turned && q->near)
        rank_screened(x, k, q, allowed, out, n, most);
    else
        rank_all(x, k, q, allowed, out, n, most);
    for (size_t i = 0; i < *n; i++) out[i].score = rag_vec_cosine(x, q->x, out[i].unit);
    rag_rank_sort(out, *n);
}
