/* SPDX-License-Identifier: MIT
 *
 * What all forms of ternary x int8 with AVX-512 VNNI share: chunks of columns and how integer sums
 * become outputs. Dot forms: t2_avx512vnni.c, t5_body512.h; tile form: tile_body512.h.
 */
#ifndef T2_AVX512_H
#define T2_AVX512_H

#include <immintrin.h>

#include "kern/kern_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 16 /* rows of a vector */ };

/* Where a chunk of columns stands in the sum of its outputs. */
typedef struct part {
    size_t block, n_blocks; /* first block of columns (T2: 128), and how many */
    bool first, last;       /* chunk of the row: between them y holds the integer sums */
} part;

INLINE __mmask16 first_rows(size_t n) {
    return n < ROWS ? (__mmask16)((1u << n) - 1u) : (__mmask16)0xFFFF;
}

/* What multiplies the integer sums of token b when all rows have one scale. */
INLINE float common_factor(const kern_mat *w, const kern_act *x, size_t b) {
    return w->row_scale ? 0 : w->scale / x->s[b];
}

/* Outputs of token b, rows from r on, from their integer sums d; factor as above. */
INLINE void put_rows(float *y, __m512i d, const kern_mat *w, const kern_act *x, size_t r, size_t b,
                     __mmask16 m, float factor) {
    __m512 f = _mm512_set1_ps(factor);
    if (w->row_scale)
        f = _mm512_div_ps(_mm512_maskz_loadu_ps(m, w->row_scale + r), _mm512_set1_ps(x->s[b]));
    d = _mm512_sub_epi32(d, _mm512_set1_epi32(x->sum[b]));
    _mm512_mask_storeu_ps(y, m, _mm512_mul_ps(_mm512_cvtepi32_ps(d), f));
}

/* The tile form of T2: any number of tokens. */
void t2_tiles_avx512vnni(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                         size_t row_begin, size_t row_end);

#endif
