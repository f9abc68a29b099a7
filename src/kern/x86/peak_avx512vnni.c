/* SPDX-License-Identifier: MIT
 *
 * vpdpbusd on 512-bit registers: 64 products an instruction, twelve independent sums so that no
 * instruction waits for another. Empty asm hides that they are equal: the compiler would keep one.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"

#define SUMS(do)                                                                                   \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)

uint64_t peak_avx512vnni(uint64_t rounds, uint32_t *sink) {
    const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(*sink ? 2 : 1);
#define START(i)                                                                                   \
    __m512i acc##i = _mm512_setzero_si512();                                                       \
    __asm__ volatile("" : "+v"(acc##i));
    SUMS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define STEP(i) acc##i = _mm512_dpbusd_epi32(acc##i, a, b);
        SUMS(STEP)
    }
    __m512i all = _mm512_setzero_si512();
#define JOIN(i) all = _mm512_add_epi32(all, acc##i);
    SUMS(JOIN)
    *sink += (uint32_t)_mm512_reduce_add_epi32(all);
    return rounds * 12 * 64;
}
