/* SPDX-License-Identifier: MIT
 *
 * Sixteen rows of unpacked ternary codes against a few tokens with AVX-VNNI: what T2 and T5 share.
 *
 *   tile   byte (k * 16 + r) * 4 + i = code of row r, column 4 k + i
 *
 * A lane grows by at most 3 * 128 * 4 a step of four columns.
 */
#ifndef TILE_AVXVNNI_H
#define TILE_AVXVNNI_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define T2_TILE_TOKENS 6

enum { TILE_TOKENS = T2_TILE_TOKENS };

/* acc[token][vector]: sixteen rows against t tokens over n steps of four columns. */
static inline __attribute__((always_inline)) void tile_sums(const int t,
                                                            __m256i acc[TILE_TOKENS][2],
                                                            const uint8_t *tile, const int8_t *q,
                                                            size_t ldq, size_t n) {
#pragma GCC unroll 6
    for (int i = 0; i < t; i++) {
        acc[i][0] = acc[i][1] = _mm256_setzero_si256();
        __asm__("" : "+x"(acc[i][0]), "+x"(acc[i][1]));
    }
    for (; n > 0; n--, tile += 64, q += 4) {
        __m256i w0 = _mm256_load_si256((const __m256i *)tile);
        __m256i w1 = _mm256_load_si256((const __m256i *)(tile + 32));
        __asm__("" : "+x"(w0), "+x"(w1));
#pragma GCC unroll 6
        for (int i = 0; i < t; i++) {
            int32_t four;
            memcpy(&four, q + (size_t)i * ldq, 4);
            __m256i c = _mm256_set1_epi32(four);
            acc[i][0] = _mm256_dpbusd_avx_epi32(acc[i][0], w0, c);
            acc[i][1] = _mm256_dpbusd_avx_epi32(acc[i][1], w1, c);
        }
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 6
    for (int i = 0; i < t; i++) __asm__("" : "+x"(acc[i][0]), "+x"(acc[i][1]));
}

#endif
