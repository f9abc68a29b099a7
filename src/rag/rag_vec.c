/* SPDX-License-Identifier: MIT
 *
 * Vectors: an exact scan of bytes, and the best re-scored.
 *
 * A vector is kept in two planes of bytes: high = round(x / scale) with scale = max|x| / 127, and
 * low, 254ths of what that leaves. The scan reads only the high plane, 384 bytes for 384 floats, by
 * one integer product a passage (kern: scan_i8); low brings the precision back to about 16 bits
 * for those that count.
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

float rag_vec_between(const rag_index *x, const kern *k, uint32_t a, uint32_t b) {
    int32_t sum;
    k->scan_i8(&sum, x->high + a * x->ld, x->high + b * x->ld, x->ld, 1);
    return (float)sum * x->scale[a] * x->scale[b];
}

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

void rag_vec_rank(const rag_index *x, const kern *k, const rag_vec_query *q, const uint8_t *allowed,
                  rag_rank *out, size_t *n, size_t most) {
    *n = 0;
    if (!x->high || !most) return;
    for (size_t s = 0; s < x->n_chunks; s += RAG_VEC_BLOCK)
        rank_block(x, k, q, allowed, s, BASE_MIN(s + RAG_VEC_BLOCK, x->n_chunks), out, n, most);
    for (size_t i = 0; i < *n; i++) out[i].score = rag_vec_cosine(x, q->x, out[i].unit);
    rag_rank_sort(out, *n);
}
