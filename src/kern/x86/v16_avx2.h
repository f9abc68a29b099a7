/* SPDX-License-Identifier: MIT
 *
 * Sixteen float lanes in two AVX2 registers; meanings in v16_c.h.
 */
#ifndef V16_AVX2_H
#define V16_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct v16 {
    __m256 lo, hi; /* lanes 0-7, 8-15 */
} v16;

static inline v16 v16_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline v16 v16_load(const float *p) {
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline v16 v16_load_n(const float *p, size_t n) {
    if (n == 16) return v16_load(p);
    float t[16] = {0};
    memcpy(t, p, n * sizeof *p);
    return v16_load(t);
}
static inline void v16_store(float *p, v16 a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
static inline void v16_store_n(float *p, v16 a, size_t n) {
    if (n == 16) {
        v16_store(p, a);
        return;
    }
    float t[16];
    v16_store(t, a);
    memcpy(p, t, n * sizeof *p);
}

static inline v16 v16_from_f16(__m256i h) {
    return (v16){_mm256_cvtph_ps(_mm256_castsi256_si128(h)),
                 _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
}
static inline v16 v16_from_bf16(__m256i h) {
    __m256i lo = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(h));
    __m256i hi = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1));
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}
static inline v16 v16_set_f16(const uint8_t *p) {
    int16_t h;
    memcpy(&h, p, 2);
    __m256 x = _mm256_cvtph_ps(_mm_set1_epi16(h));
    return (v16){x, x};
}
static inline __m256i v16_raw16_n(const uint8_t *p, size_t n) {
    if (n == 16) return _mm256_loadu_si256((const __m256i *)p);
    uint8_t t[32] = {0};
    memcpy(t, p, 2 * n);
    return _mm256_loadu_si256((const __m256i *)t);
}
static inline v16 v16_load_f16_n(const uint8_t *p, size_t n) {
    return v16_from_f16(v16_raw16_n(p, n));
}
static inline v16 v16_load_bf16_n(const uint8_t *p, size_t n) {
    return v16_from_bf16(v16_raw16_n(p, n));
}
static inline void v16_store_f16_n(uint8_t *p, v16 a, size_t n) {
    __m128i h[2] = {_mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                    _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
    memcpy(p, h, 2 * n);
}
static inline v16 v16_load_i8(const int8_t *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}
static inline void v16_store_i8(int8_t *p, v16 a) {
    __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    w = _mm256_permute4x64_epi64(w, 0xD8); /* undo the lane interleave of packs */
    _mm_storeu_si128((__m128i *)p,
                     _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}

static inline v16 v16_add(v16 a, v16 b) {
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
static inline v16 v16_sub(v16 a, v16 b) {
    return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
static inline v16 v16_mul(v16 a, v16 b) {
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
static inline v16 v16_div(v16 a, v16 b) {
    return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 v16_max(v16 a, v16 b) {
    return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
static inline v16 v16_abs(v16 a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
static inline v16 v16_if_less(v16 a, v16 b, v16 x, v16 y) {
    return (v16){_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                 _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
static inline __m256 v16_pow2_half(__m256 t) {
    __m256i e = _mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
static inline v16 v16_pow2(v16 t) { return (v16){v16_pow2_half(t.lo), v16_pow2_half(t.hi)}; }
static inline float v16_sum(v16 a) {
    __m256 s8 = _mm256_add_ps(a.lo, a.hi);
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v16_hmax(v16 a) {
    __m256 s8 = _mm256_max_ps(a.lo, a.hi);
    __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}
static inline int32_t v16_sum_i8(const int8_t *p) {
    __m128i b = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8((char)0x80));
    __m128i s = _mm_sad_epu8(b, _mm_setzero_si128());
    return (int32_t)(_mm_cvtsi128_si32(s) + _mm_extract_epi16(s, 4)) - 16 * 128;
}

#endif
