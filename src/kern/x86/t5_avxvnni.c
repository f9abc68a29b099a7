/* SPDX-License-Identifier: MIT
 *
 * T5 x int8 with AVX-VNNI; the frame and the lookups are in t5_body256.h.
 *
 * Digits are masked where they stand, never shifted: accumulators of 64, 16, 4 and 1 times the
 * sums. A lane of the first grows by at most 2 * 128 * 128 * 4 = 131,072 a chunk: 16,383 chunks,
 * 327,660 columns.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"
#include "kern/x86/tile_avxvnni.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_avxvnni

enum { WIDEN = 1 << 20 /* never: sums are wide already */ };

typedef struct sums {
    __m256i d[2][4]; /* of each eight rows: 64x, 16x, 4x, 1x */
} sums;

INLINE __m256i add_one(__m256i sum, __m256i bytes, int mask, const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm256_dpbusd_avx_epi32(sum, _mm256_and_si256(bytes, _mm256_set1_epi8((char)mask)),
                                   _mm256_set1_epi32(four));
}

INLINE void add_digits(sums *s, size_t half, __m256i low, __m256i high, const int8_t *q) {
    const __m256i both = _mm256_xor_si256(low, high);
    __m256i *d = s->d[half];
    d[0] = add_one(add_one(d[0], high, 0xC0, q), low, 0xC0, q + 4);
    d[1] = add_one(d[1], both, 0x30, q + 8);
    d[2] = add_one(d[2], both, 0x0C, q + 12);
    d[3] = add_one(d[3], both, 0x03, q + 16);
}

INLINE void widen(sums *s) { (void)s; }

INLINE __m256i total(const sums *s, size_t half) {
    const __m256i *d = s->d[half];
    __m256i high = _mm256_add_epi32(_mm256_srai_epi32(d[0], 6), _mm256_srai_epi32(d[1], 4));
    return _mm256_add_epi32(_mm256_add_epi32(high, d[3]), _mm256_srai_epi32(d[2], 2));
}

#include "kern/x86/t5_body256.h"
