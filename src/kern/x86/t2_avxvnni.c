/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with AVX-VNNI; the frame, the forms and the tile are in t2_body256.h.
 *
 * Codes are the unsigned operand. Dot form without shifts: v & C0h, 30h, 0Ch, 03h feed accumulators
 * of 64, 16, 4 and 1 times the sums. A lane of the first grows by at most 192 * 128 * 4 = 98,304 a
 * block: 21,845 blocks, 2.7 million columns.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"
#include "kern/x86/stream.h"
#include "kern/x86/tile_avxvnni.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_avxvnni

typedef struct dot_place {
    size_t r, n; /* first row, rows */
    size_t b;    /* first token */
} dot_place;

/* out[k]: eight partial sums of one row and token k of t; w has n blocks. */
INLINE void dot_row(const int t, __m256i out[2], const uint8_t *w, const int8_t *q, size_t ldq,
                    size_t n) {
    const __m256i m0 = _mm256_set1_epi8((char)0xC0), m1 = _mm256_set1_epi8(0x30);
    const __m256i m2 = _mm256_set1_epi8(0x0C), m3 = _mm256_set1_epi8(0x03);
    __m256i a[2][4];
#pragma GCC unroll 2
    for (int k = 0; k < t; k++) a[k][0] = a[k][1] = a[k][2] = a[k][3] = _mm256_setzero_si256();
    for (; n > 0; n--, w += 32, q += 128) {
        __m256i v = _mm256_loadu_si256((const __m256i *)w);
        prefetch_stream(w);
        __asm__("" : "+x"(v)); /* one load, not one in each mask */
        __m256i v0 = _mm256_and_si256(v, m0), v1 = _mm256_and_si256(v, m1);
        __m256i v2 = _mm256_and_si256(v, m2), v3 = _mm256_and_si256(v, m3);
#pragma GCC unroll 2
        for (int k = 0; k < t; k++) {
            const __m256i *x = (const __m256i *)(q + (size_t)k * ldq);
            a[k][0] = _mm256_dpbusd_avx_epi32(a[k][0], v0, _mm256_loadu_si256(x));
            a[k][1] = _mm256_dpbusd_avx_epi32(a[k][1], v1, _mm256_loadu_si256(x + 1));
            a[k][2] = _mm256_dpbusd_avx_epi32(a[k][2], v2, _mm256_loadu_si256(x + 2));
            a[k][3] = _mm256_dpbusd_avx_epi32(a[k][3], v3, _mm256_loadu_si256(x + 3));
        }
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 2
    for (int k = 0; k < t; k++)
        __asm__("" : "+x"(a[k][0]), "+x"(a[k][1]), "+x"(a[k][2]), "+x"(a[k][3]));
#pragma GCC unroll 2
    for (int k = 0; k < t; k++) {
        __m256i high =
            _mm256_add_epi32(_mm256_srai_epi32(a[k][0], 6), _mm256_srai_epi32(a[k][1], 4));
        out[k] = _mm256_add_epi32(_mm256_add_epi32(high, a[k][3]), _mm256_srai_epi32(a[k][2], 2));
    }
}

#include "kern/x86/t2_body256.h"
