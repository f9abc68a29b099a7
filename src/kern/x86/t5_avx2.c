/* SPDX-License-Identifier: MIT
 *
 * T5 x int8 with AVX2; the frame and the lookups are in t5_body256.h.
 *
 * Digits are shifted down to 0, 1, 2: vpmaddubsw adds pairs of digit * activation in int16, 2 * 128
 * * 2 = 512 at most, five times a chunk; 12 chunks reach -30,720 before they are widened. A thread
 * decodes about 7 GB/s: this pays where that is more than its share of the memory's speed.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"
#include "kern/x86/tile_avx2.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_avx2

enum { WIDEN = 12 /* chunks between widenings */ };

typedef struct sums {
    __m256i narrow[2]; /* int16 sums of each eight rows */
    __m256i wide[2];   /* int32 sums */
} sums;

INLINE __m256i pairs(__m256i digits, const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm256_maddubs_epi16(_mm256_and_si256(digits, _mm256_set1_epi8(3)),
                                _mm256_set1_epi32(four));
}

INLINE void add_digits(sums *s, size_t half, __m256i low, __m256i high, const int8_t *q) {
    const __m256i both = _mm256_xor_si256(low, high);
    __m256i a = _mm256_add_epi16(pairs(_mm256_srli_epi16(high, 6), q),
                                 pairs(_mm256_srli_epi16(low, 6), q + 4));
    __m256i b = _mm256_add_epi16(pairs(_mm256_srli_epi16(both, 4), q + 8),
                                 pairs(_mm256_srli_epi16(both, 2), q + 12));
    s->narrow[half] = _mm256_add_epi16(_mm256_add_epi16(s->narrow[half], a),
                                       _mm256_add_epi16(b, pairs(both, q + 16)));
}

INLINE void widen(sums *s) {
    for (size_t half = 0; half < 2; half++) {
        s->wide[half] = _mm256_add_epi32(s->wide[half],
                                         _mm256_madd_epi16(s->narrow[half], _mm256_set1_epi16(1)));
        s->narrow[half] = _mm256_setzero_si256();
    }
}

INLINE __m256i total(const sums *s, size_t half) { return s->wide[half]; }

#include "kern/x86/t5_body256.h"
