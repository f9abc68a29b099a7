/* SPDX-License-Identifier: MIT
 *
 * Sixteen float lanes in one AVX-512 register; meanings in v16_c.h.
 */
#ifndef V16_AVX512_H
#define V16_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef __m512 v16;

#define V16_MANY /* 32 registers of 16 lanes */

static inline __mmask16 v16_first(size_t n) { return (__mmask16)((1u << n) - 1u); }

static inline v16 v16_set(float x) { return _mm512_set1_ps(x); }
static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline v16 v16_load_n(const float *p, size_t n) {
    return n == 16 ? v16_load(p) : _mm512_maskz_loadu_ps(v16_first(n), p);
}
static inline void v16_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
static inline void v16_store_n(float *p, v16 a, size_t n) {
    if (n == 16) {
        v16_store(p, a);
        return;
    }
    _mm512_mask_storeu_ps(p, v16_first(n), a);
}

static inline v16 v16_set_f16(const uint8_t *p) {
    int16_t h;
    memcpy(&h, p, 2);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}
/* A whole vector without a mask: the branch is predicted, the mask would cost a port. */
static inline __m256i v16_raw16_n(const uint8_t *p, size_t n) {
    return n == 16 ? _mm256_loadu_si256((const __m256i *)p)
                   : _mm256_maskz_loadu_epi16(v16_first(n), p);
}
static inline v16 v16_load_f16_n(const uint8_t *p, size_t n) {
    return _mm512_cvtph_ps(v16_raw16_n(p, n));
}
static inline v16 v16_load_bf16_n(const uint8_t *p, size_t n) {
    __m512i w = _mm512_cvtepu16_epi32(v16_raw16_n(p, n));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
static inline void v16_store_f16_n(uint8_t *p, v16 a, size_t n) {
    __m256i h = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(p, v16_first(n), h);
}
static inline v16 v16_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline void v16_store_i8(int8_t *p, v16 a) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a)));
}

static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v16_abs(v16 a) { return _mm512_abs_ps(a); }
static inline v16 v16_if_less(v16 a, v16 b, v16 x, v16 y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
static inline v16 v16_pow2(v16 t) {
    __m512i e = _mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}
static inline float v16_sum(v16 a) {
    __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v16_hmax(v16 a) { return _mm512_reduce_max_ps(a); }
static inline int32_t v16_sum_i8(const int8_t *p) {
    __m128i b = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8((char)0x80));
    __m128i s = _mm_sad_epu8(b, _mm_setzero_si128());
    return (int32_t)(_mm_cvtsi128_si32(s) + _mm_extract_epi16(s, 4)) - 16 * 128;
}

#endif
