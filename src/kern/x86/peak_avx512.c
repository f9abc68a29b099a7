/* SPDX-License-Identifier: MIT
 *
 * Fused multiply-add on 512-bit registers: sixteen an instruction, twelve independent sums so that
 * no instruction waits for another. Empty asm hides that they are equal: the compiler would keep
 * one.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"

#define SUMS(do)                                                                                   \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)

uint64_t peak_f32_avx512(uint64_t rounds, float *sink) {
    const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(*sink != 0 ? 0.25f : 0.5f);
#define START(i)                                                                                   \
    __m512 acc##i = _mm512_setzero_ps();                                                           \
    __asm__ volatile("" : "+v"(acc##i));
    SUMS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define STEP(i) acc##i = _mm512_fmadd_ps(acc##i, a, b);
        SUMS(STEP)
    }
    __m512 all = _mm512_setzero_ps();
#define JOIN(i) all = _mm512_add_ps(all, acc##i);
    SUMS(JOIN)
    *sink += _mm512_reduce_add_ps(all);
    return rounds * 12 * 16;
}

uint64_t plain_read_avx512(const uint8_t *data, size_t n_bytes) {
    const uint8_t *end = data + n_bytes;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (; data < end; data += 256) {
        a = _mm512_or_si512(a, _mm512_load_si512(data));
        b = _mm512_or_si512(b, _mm512_load_si512(data + 64));
        c = _mm512_or_si512(c, _mm512_load_si512(data + 128));
        d = _mm512_or_si512(d, _mm512_load_si512(data + 192));
    }
    a = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
    return (uint64_t)_mm512_reduce_or_epi64(a);
}
