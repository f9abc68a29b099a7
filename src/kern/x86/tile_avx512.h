/* SPDX-License-Identifier: MIT
 *
 * 64 rows of unpacked ternary codes against up to six tokens in 512-bit registers: 24 accumulators.
 *
 *   tile   byte ((k * 4 + v) * 16 + r) * 4 + i = code of row 16 v + r, column 4 k + i
 *
 * y holds the integer sums while columns are cut into chunks. A lane grows by at most 3 * 128 * 4 a
 * step of four columns.
 */
#ifndef TILE_AVX512_H
#define TILE_AVX512_H

#include <immintrin.h>

#include "kern/kern_internal.h"

#define TILE_INLINE static inline __attribute__((always_inline))

enum { TILE_ROWS = 64, TILE_TOKENS = 6 /* with four vectors of rows: 24 accumulators */ };

typedef struct tile_job {
    float *y;        /* of row 0 of the tile, token 0 */
    size_t ldy;      /* floats between tokens */
    const int8_t *q; /* activations of token 0, first column of the chunk */
    size_t ldq;      /* bytes between tokens */
    size_t steps;    /* of four columns */
    __mmask16 m[4];  /* rows that are wanted */
    bool first;      /* chunk of the row */
} tile_job;

typedef struct tile_place {
    size_t r, b; /* first of sixteen rows, token */
} tile_place;

/* Outputs of one token and those of sixteen rows that m names, from sums d of codes. */
TILE_INLINE void tile_put(float *y, __m512i d, const kern_mat *w, const kern_act *x, tile_place at,
                          __mmask16 m) {
    __m512 f = _mm512_set1_ps(w->scale / x->s[at.b]);
    if (w->row_scale)
        f = _mm512_div_ps(_mm512_maskz_loadu_ps(m, w->row_scale + at.r),
                          _mm512_set1_ps(x->s[at.b]));
    d = _mm512_sub_epi32(d, _mm512_set1_epi32(x->sum[at.b]));
    _mm512_mask_storeu_ps(y, m, _mm512_mul_ps(_mm512_cvtepi32_ps(d), f));
}

/* t tokens from b on: sums over the chunk, on top of the integer sums that stand in y. */
TILE_INLINE void tile_sums(const int t, const tile_job *j, const uint8_t *tile, size_t b) {
    __m512i acc[TILE_TOKENS][4];
    const size_t ldq = j->ldq, ldy = j->ldy;
    const int8_t *q = j->q + b * ldq;
    float *y = j->y + b * ldy;
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            acc[i][v] = j->first ? _mm512_setzero_si512()
                                 : _mm512_maskz_loadu_epi32(j->m[v], y + i * ldy + v * 16);
    for (size_t k = j->steps; k > 0; k--, tile += 256, q += 4) {
        __m512i w0 = _mm512_load_si512(tile), w1 = _mm512_load_si512(tile + 64);
        __m512i w2 = _mm512_load_si512(tile + 128), w3 = _mm512_load_si512(tile + 192);
        /* Pinned in registers: folded into the dot products they would be loaded t times. */
        __asm__("" : "+v"(w0), "+v"(w1), "+v"(w2), "+v"(w3));
#pragma GCC unroll 6
        for (size_t i = 0; i < (size_t)t; i++) {
            int32_t four;
            memcpy(&four, q + i * ldq, 4);
            __m512i c = _mm512_set1_epi32(four);
            acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], w0, c);
            acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], w1, c);
            acc[i][2] = _mm512_dpbusd_epi32(acc[i][2], w2, c);
            acc[i][3] = _mm512_dpbusd_epi32(acc[i][3], w3, c);
        }
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
        __asm__("" : "+v"(acc[i][0]), "+v"(acc[i][1]), "+v"(acc[i][2]), "+v"(acc[i][3]));
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            _mm512_mask_storeu_epi32(y + i * ldy + v * 16, j->m[v], acc[i][v]);
}

#define TILE_FN(t)                                                                                 \
    static __attribute__((noinline)) void tile_##t(const tile_job *j, const uint8_t *tile,         \
                                                   size_t b) {                                     \
        tile_sums(t, j, tile, b);                                                                  \
    }
TILE_FN(1)
TILE_FN(2)
TILE_FN(3)
TILE_FN(4)
TILE_FN(5)
TILE_FN(6)

/* All tokens against one tile. */
static void tile_tokens(const tile_job *j, const uint8_t *tile, size_t n_tok) {
    static void (*const group[])(const tile_job *, const uint8_t *,
                                 size_t) = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    for (size_t b = 0, t; b < n_tok; b += t) {
        t = n_tok - b >= 9 || n_tok - b == 6 ? 6 : n_tok - b > 6 ? 4 : n_tok - b;
        group[t - 1](j, tile, b);
    }
}

#endif
