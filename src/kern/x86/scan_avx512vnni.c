/* SPDX-License-Identifier: MIT
 *
 * A query against rows, with AVX-512 VNNI. Bytes: |query| as unsigned times the row, negated where
 * the query is negative. Two bits: sixteen bytes in all four quarters of a vector, shifted by 0, 2,
 * 4 and 6, are the codes of 64 columns, unsigned as they are. Four rows at a time share the query
 * and one tree of additions.
 *
 * Bounds: dpbusd adds four products in 32 bits, exactly. Bytes per output: ld, and ld / 4.
 */
#include <immintrin.h>

#include "kern/kern_internal.h"

static inline __m512i step(__m512i acc, const int8_t *row, __m512i size, __mmask64 minus) {
    __m512i d = _mm512_load_si512(row);
    d = _mm512_mask_sub_epi8(d, minus, _mm512_setzero_si512(), d);
    return _mm512_dpbusd_epi32(acc, size, d);
}

/* Sums of sixteen lanes of four vectors. */
static inline __m128i sum4(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i all =
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static void scan_i8_avx512vnni(int32_t *out, const int8_t *rows, const int8_t *query, size_t ld,
                               size_t n_rows) {
    const __m512i zero = _mm512_setzero_si512();
    size_t r = 0;
    for (; r + 4 <= n_rows; r += 4, rows += 4 * ld) {
        __m512i a = zero, b = zero, c = zero, d = zero;
        for (size_t i = 0; i < ld; i += 64) {
            const __m512i q = _mm512_load_si512(query + i), size = _mm512_abs_epi8(q);
            const __mmask64 minus = _mm512_movepi8_mask(q);
            a = step(a, rows + i, size, minus);
            b = step(b, rows + ld + i, size, minus);
            c = step(c, rows + 2 * ld + i, size, minus);
            d = step(d, rows + 3 * ld + i, size, minus);
        }
        _mm_storeu_si128((__m128i *)(out + r), sum4(a, b, c, d));
    }
    for (; r < n_rows; r++, rows += ld) {
        __m512i a = zero;
        for (size_t i = 0; i < ld; i += 64) {
            const __m512i q = _mm512_load_si512(query + i);
            a = step(a, rows + i, _mm512_abs_epi8(q), _mm512_movepi8_mask(q));
        }
        out[r] = _mm512_reduce_add_epi32(a);
    }
}

static inline __m512i step_codes(__m512i acc, const uint8_t *row, __m512i query) {
    const __m512i by = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
    const __m512i all = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)row));
    const __m512i code = _mm512_and_si512(_mm512_srlv_epi32(all, by), _mm512_set1_epi8(3));
    return _mm512_dpbusd_epi32(acc, code, query);
}

static void scan_i2_avx512vnni(int32_t *out, const uint8_t *rows, const int8_t *query, size_t ld,
                               size_t n_rows) {
    const __m512i zero = _mm512_setzero_si512();
    const size_t step = ld / 4;
    size_t r = 0;
    for (; r + 4 <= n_rows; r += 4, rows += 4 * step) {
        __m512i a = zero, b = zero, c = zero, d = zero;
        for (size_t i = 0; i < ld; i += 64) {
            const __m512i q = _mm512_load_si512(query + i);
            const uint8_t *at = rows + i / 4;
            a = step_codes(a, at, q);
            b = step_codes(b, at + step, q);
            c = step_codes(c, at + 2 * step, q);
            d = step_codes(d, at + 3 * step, q);
        }
        _mm_storeu_si128((__m128i *)(out + r), sum4(a, b, c, d));
    }
    for (; r < n_rows; r++, rows += step) {
        __m512i a = zero;
        for (size_t i = 0; i < ld; i += 64)
            a = step_codes(a, rows + i / 4, _mm512_load_si512(query + i));
        out[r] = _mm512_reduce_add_epi32(a);
    }
}

void kern_fill_scan_avx512vnni(kern *k) {
    k->scan_i8 = scan_i8_avx512vnni;
    k->scan_i2 = scan_i2_avx512vnni;
}
