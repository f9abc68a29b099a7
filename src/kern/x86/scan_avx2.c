/* SPDX-License-Identifier: MIT
 *
 * A query against rows of bytes, with AVX2: |query| as unsigned times the row with the query's
 * sign.
 *
 * Bounds: within +-127 a pair of products is at most 2 * 127 * 127 = 32,258, so that the saturating
 * 16-bit add never saturates. Bytes per output: ld.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"

static inline __m256i step(__m256i acc, const int8_t *row, const int8_t *query) {
    const __m256i q = _mm256_load_si256((const __m256i *)query);
    const __m256i d = _mm256_load_si256((const __m256i *)row);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(d, q));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline int32_t sum8(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}

static void scan_i8_avx2(int32_t *out, const int8_t *rows, const int8_t *query, size_t ld,
                         size_t n_rows) {
    for (size_t r = 0; r < n_rows; r++, rows += ld) {
        __m256i a = _mm256_setzero_si256(), b = a;
        for (size_t c = 0; c < ld; c += 64) {
            a = step(a, rows + c, query + c);
            b = step(b, rows + c + 32, query + c + 32);
        }
        out[r] = sum8(_mm256_add_epi32(a, b));
    }
}

void kern_fill_scan_avx2(kern *k) { k->scan_i8 = scan_i8_avx2; }
