/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with AVX2; the frame, the forms and the tile are in t2_body256.h.
 *
 * vpmaddubsw adds pairs of code * activation in int16. Dot form with one shift: v & 03h and
 * (v >> 4) & 03h go into a sum of weight 1, v & 0Ch and (v >> 4) & 0Ch into one of weight 4; both
 * are widened to int32 every 8 blocks. Bounds for codes up to 2, which is what a checked tensor
 * holds: weight 4 adds 2 * (8 * 128 * 2) = 4,096 a block, 8 blocks reach -32,768 and +32,512. The
 * tile form is bounded in tile_avx2.h.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"
#include "kern/x86/stream.h"
#include "kern/x86/tile_avx2.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_avx2

enum { DOT_BLOCKS = 8 /* blocks between widenings */ };

typedef struct dot_place {
    size_t r, n; /* first row, rows */
    size_t b;    /* first token */
} dot_place;

INLINE __m256i add_pairs(__m256i sum, __m256i codes, const int8_t *q) {
    __m256i x = _mm256_loadu_si256((const __m256i *)q);
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x));
}

/* out[k]: eight partial sums of one row and token k of t; w has n blocks. */
INLINE void dot_row(const int t, __m256i out[2], const uint8_t *w, const int8_t *q, size_t ldq,
                    size_t n) {
    const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0C);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i one[2], four[2]; /* int32 sums of weight 1 and 4 */
    one[0] = one[1] = four[0] = four[1] = _mm256_setzero_si256();
    while (n > 0) {
        size_t m = n < DOT_BLOCKS ? n : DOT_BLOCKS;
        __m256i s1[2], s4[2]; /* the same in int16 */
        s1[0] = s1[1] = s4[0] = s4[1] = _mm256_setzero_si256();
        for (n -= m; m > 0; m--, w += 32, q += 128) {
            __m256i v = _mm256_loadu_si256((const __m256i *)w);
            prefetch_stream(w);
            __asm__("" : "+x"(v)); /* one load, not one in each mask */
            __m256i h = _mm256_srli_epi16(v, 4);
            __m256i h4 = _mm256_and_si256(h, high), h1 = _mm256_and_si256(h, low);
            __m256i v4 = _mm256_and_si256(v, high), v1 = _mm256_and_si256(v, low);
#pragma GCC unroll 2
            for (int k = 0; k < t; k++) {
                const int8_t *x = q + (size_t)k * ldq;
                s4[k] = add_pairs(add_pairs(s4[k], h4, x), v4, x + 64);
                s1[k] = add_pairs(add_pairs(s1[k], h1, x + 32), v1, x + 96);
                __asm__ volatile("" : "+x"(s1[k]), "+x"(s4[k]));
            }
        }
#pragma GCC unroll 2
        for (int k = 0; k < t; k++) {
            one[k] = _mm256_add_epi32(one[k], _mm256_madd_epi16(s1[k], ones));
            four[k] = _mm256_add_epi32(four[k], _mm256_madd_epi16(s4[k], ones));
        }
    }
#pragma GCC unroll 2
    for (int k = 0; k < t; k++) out[k] = _mm256_add_epi32(one[k], _mm256_srai_epi32(four[k], 2));
}

#include "kern/x86/t2_body256.h"
