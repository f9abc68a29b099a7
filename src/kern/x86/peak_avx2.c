/* SPDX-License-Identifier: MIT
 *
 * The best an AVX2 processor without VNNI does. int8: products of pairs of bytes in 16 bits, added
 * there (what a kernel does between two widenings): 32 products for two instructions. f32: fused
 * multiply-add, eight at a time.
 *
 * The pair is volatile asm: all products are the same, so that the compiler would compute them
 * once, and it likes to spill the sums.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"

#define SUMS(do)                                                                                   \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)

uint64_t peak_avx2(uint64_t rounds, uint32_t *sink) {
    const __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(*sink ? 2 : 1);
#define START(i)                                                                                   \
    __m256i acc##i = _mm256_setzero_si256();                                                       \
    __asm__ volatile("" : "+x"(acc##i));
    SUMS(START)
    for (uint64_t r = 0; r < rounds; r++) {
        __m256i products;
#define STEP(i)                                                                                    \
    __asm__ volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"                                  \
                     : "+x"(acc##i), "=&x"(products)                                               \
                     : "x"(a), "x"(b));
        SUMS(STEP)
    }
    uint32_t lanes[8];
    __m256i all = _mm256_setzero_si256();
#define JOIN(i) all = _mm256_add_epi16(all, acc##i);
    SUMS(JOIN)
    _mm256_storeu_si256((__m256i *)lanes, all);
    for (int i = 0; i < 8; i++) *sink += lanes[i];
    return rounds * 12 * 32;
}

uint64_t peak_f32_avx2(uint64_t rounds, float *sink) {
    const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(*sink != 0 ? 0.25f : 0.5f);
#define START_F(i)                                                                                 \
    __m256 acc##i = _mm256_setzero_ps();                                                           \
    __asm__ volatile("" : "+x"(acc##i));
    SUMS(START_F)
    for (uint64_t r = 0; r < rounds; r++) {
#define STEP_F(i) acc##i = _mm256_fmadd_ps(acc##i, a, b);
        SUMS(STEP_F)
    }
    float lanes[8];
    __m256 all = _mm256_setzero_ps();
#define JOIN_F(i) all = _mm256_add_ps(all, acc##i);
    SUMS(JOIN_F)
    _mm256_storeu_ps(lanes, all);
    for (int i = 0; i < 8; i++) *sink += lanes[i];
    return rounds * 12 * 8;
}

uint64_t plain_read_avx2(const uint8_t *data, size_t n_bytes) {
    const __m256i *v = (const __m256i *)data, *end = v + n_bytes / 32;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (; v < end; v += 4) {
        a = _mm256_or_si256(a, _mm256_load_si256(v));
        b = _mm256_or_si256(b, _mm256_load_si256(v + 1));
        c = _mm256_or_si256(c, _mm256_load_si256(v + 2));
        d = _mm256_or_si256(d, _mm256_load_si256(v + 3));
    }
    uint64_t lanes[4];
    a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    _mm256_storeu_si256((__m256i *)lanes, a);
    return lanes[0] | lanes[1] | lanes[2] | lanes[3];
}
