/* SPDX-License-Identifier: MIT
 *
 * The best an AVX2 processor without VNNI does: pairs of bytes to 16 bits, pairs of those to 32,
 * and a sum: 32 products for three instructions.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"

#define SUMS(do)                                                                                   \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7)

uint64_t peak_avx2(uint64_t rounds, uint32_t *sink) {
    const __m256i a = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    __m256i b = _mm256_set1_epi8(*sink ? 2 : 1);
#define START(i) __m256i acc##i = _mm256_set1_epi32(i); /* equal sums would become one */
    SUMS(START)
    for (uint64_t r = 0; r < rounds; r++) {
        b = _mm256_xor_si256(b, a); /* products differ from round to round */
#define STEP(i)                                                                                    \
    acc##i = _mm256_add_epi32(                                                                     \
        acc##i, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_xor_si256(a, acc##i), b), ones));
        SUMS(STEP)
    }
    uint32_t lanes[8];
    __m256i all = _mm256_setzero_si256();
#define JOIN(i) all = _mm256_add_epi32(all, acc##i);
    SUMS(JOIN)
    _mm256_storeu_si256((__m256i *)lanes, all);
    for (int i = 0; i < 8; i++) *sink += lanes[i];
    return rounds * 8 * 32;
}
