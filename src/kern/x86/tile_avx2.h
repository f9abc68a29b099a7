/* SPDX-License-Identifier: MIT
 *
 * Sixteen rows of unpacked ternary codes against a few tokens with AVX2: what T2 and T5 share.
 *
 *   tile   byte (k * 16 + r) * 4 + i = code of row r, column 4 k + i
 *
 * vpmaddubsw adds pairs of code * activation in int16: 2 * 128 * 2 = 512 a step of four columns, 64
 * steps reach -32,768 and +32,512 before they are widened.
 */
#ifndef TILE_AVX2_H
#define TILE_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define T2_TILE_TOKENS 4

enum {
    TILE_TOKENS = T2_TILE_TOKENS,
    TILE_STEPS = 64 /* steps of four columns between widenings */
};

/* sum[token][vector] in int16 over n <= TILE_STEPS steps of four columns. */
static inline __attribute__((always_inline)) void tile_sums16(const int t,
                                                              __m256i sum[TILE_TOKENS][2],
                                                              const uint8_t *tile, const int8_t *q,
                                                              size_t ldq, size_t n) {
#pragma GCC unroll 4
    for (int i = 0; i < t; i++) {
        sum[i][0] = sum[i][1] = _mm256_setzero_si256();
        __asm__("" : "+x"(sum[i][0]), "+x"(sum[i][1]));
    }
    for (; n > 0; n--, tile += 64, q += 4) {
        __m256i w0 = _mm256_load_si256((const __m256i *)tile);
        __m256i w1 = _mm256_load_si256((const __m256i *)(tile + 32));
        __asm__("" : "+x"(w0), "+x"(w1));
#pragma GCC unroll 4
        for (int i = 0; i < t; i++) {
            int32_t four;
            memcpy(&four, q + (size_t)i * ldq, 4);
            __m256i c = _mm256_set1_epi32(four);
            sum[i][0] = _mm256_add_epi16(sum[i][0], _mm256_maddubs_epi16(w0, c));
            sum[i][1] = _mm256_add_epi16(sum[i][1], _mm256_maddubs_epi16(w1, c));
            /* One token after another: all products first would need eight more registers. */
            __asm__ volatile("" : "+x"(sum[i][0]), "+x"(sum[i][1]));
        }
    }
}

/* acc[token][vector]: sixteen rows against t tokens over n steps of four columns. */
static inline __attribute__((always_inline)) void tile_sums(const int t,
                                                            __m256i acc[TILE_TOKENS][2],
                                                            const uint8_t *tile, const int8_t *q,
                                                            size_t ldq, size_t n) {
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int i = 0; i < t; i++) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    for (size_t k = 0; k < n; k += TILE_STEPS) {
        __m256i sum[TILE_TOKENS][2];
        tile_sums16(t, sum, tile + k * 64, q + k * 4, ldq, n - k < TILE_STEPS ? n - k : TILE_STEPS);
#pragma GCC unroll 4
        for (int i = 0; i < t; i++) {
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(sum[i][0], ones));
            acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(sum[i][1], ones));
        }
    }
}

#endif
