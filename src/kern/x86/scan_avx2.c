/* SPDX-License-Identifier: MIT
 *
 * A query against rows, with AVX2. Bytes: |query| as unsigned times the row with the query's sign.
 * Two bits: sixteen bytes in both halves of a vector, shifted by 0 and 2, then by 4 and 6, are the
 * codes of columns 0-31 and 32-63, unsigned as they are.
 *
 * Bounds: within +-127 a pair of products is at most 2 * 127 * 127 = 32,258, so that the saturating
 * 16-bit add never saturates; two pairs with codes are at most 4 * 3 * 127. Bytes per output: ld,
 * and ld / 4.
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

static inline __m256i codes(__m256i bytes, int low, int high) {
    const __m256i by = _mm256_setr_epi32(low, low, low, low, high, high, high, high);
    return _mm256_and_si256(_mm256_srlv_epi32(bytes, by), _mm256_set1_epi8(3));
}

/* Columns of 64. */
static inline __m256i step_codes(__m256i acc, const uint8_t *row, const int8_t *query) {
    const __m256i all = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)row));
    const __m256i q0 = _mm256_load_si256((const __m256i *)query);
    const __m256i q1 = _mm256_load_si256((const __m256i *)(query + 32));
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(codes(all, 0, 2), q0),
                                           _mm256_maddubs_epi16(codes(all, 4, 6), q1));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static void scan_i2_avx2(int32_t *out, const uint8_t *rows, const int8_t *query, size_t ld,
                         size_t n_rows) {
    for (size_t r = 0; r < n_rows; r++, rows += ld / 4) {
        __m256i a = _mm256_setzero_si256();
        for (size_t c = 0; c < ld; c += 64) a = step_codes(a, rows + c / 4, query + c);
        out[r] = sum8(a);
    }
}

void kern_fill_scan_avx2(kern *k) {
    k->scan_i8 = scan_i8_avx2;
    k->scan_i2 = scan_i2_avx2;
}
