/* SPDX-License-Identifier: MIT
 *
 * vpdpbusd on 256-bit registers: 32 products an instruction, twelve independent sums so that no
 * instruction waits for another. Empty asm hides that they are equal: the compiler would keep one.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"

#define SUMS(do)                                                                                   \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)

uint64_t peak_avxvnni(uint64_t rounds, uint32_t *sink) {
    const __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(*sink ? 2 : 1);
#define START(i)                                                                                   \
    __m256i acc##i = _mm256_setzero_si256();                                                       \
    __asm__ volatile("" : "+x"(acc##i));
    SUMS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define STEP(i) acc##i = _mm256_dpbusd_avx_epi32(acc##i, a, b);
        SUMS(STEP)
    }
    uint32_t lanes[8];
    __m256i all = _mm256_setzero_si256();
#define JOIN(i) all = _mm256_add_epi32(all, acc##i);
    SUMS(JOIN)
    _mm256_storeu_si256((__m256i *)lanes, all);
    for (int i = 0; i < 8; i++) *sink += lanes[i];
    return rounds * 12 * 32;
}
