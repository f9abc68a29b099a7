/* SPDX-License-Identifier: MIT
 *
 * Integer sums of eight rows in one 256-bit register, and the outputs they become.
 */
#ifndef ROWS256_H
#define ROWS256_H

#include <immintrin.h>

#include "kern/kern_internal.h"

#define ROWS_INLINE static inline __attribute__((always_inline))

enum { ROWS = 8 /* rows of a vector */ };

/* Lanes 0 .. n - 1 all ones. */
ROWS_INLINE __m256i first_rows(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < ROWS ? (int)n : ROWS),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

ROWS_INLINE __m256i load_sums(const float *y, __m256i m) {
    return _mm256_maskload_epi32((const int *)(const void *)y, m);
}
ROWS_INLINE void store_sums(float *y, __m256i m, __m256i d) {
    _mm256_maskstore_epi32((int *)(void *)y, m, d);
}

typedef struct row_place {
    size_t r, b; /* first of eight rows, token */
} row_place;

/* Outputs of one token, eight rows from at.r on, from their integer sums d. */
ROWS_INLINE void put_rows(float *y, __m256i d, const kern_mat *w, const kern_act *x, row_place at,
                          __m256i m) {
    __m256 f = _mm256_set1_ps(w->scale / x->s[at.b]);
    if (w->row_scale)
        f = _mm256_div_ps(_mm256_maskload_ps(w->row_scale + at.r, m), _mm256_set1_ps(x->s[at.b]));
    d = _mm256_sub_epi32(d, _mm256_set1_epi32(x->sum[at.b]));
    _mm256_maskstore_ps(y, m, _mm256_mul_ps(_mm256_cvtepi32_ps(d), f));
}

#endif
