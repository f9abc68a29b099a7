/* SPDX-License-Identifier: MIT
 *
 * Vectors of sixteen 32-bit lanes for b32_body.h, in AVX-512 with VNNI. A lane is a row of weights.
 */
#ifndef VI_AVX512_H
#define VI_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512i vi;
typedef __m512 vf;

enum { VI_ROWS = 16, VI_BIAS8 = 0x80 /* makes int8 codes unsigned */ };

/* Sixteen bytes of rows 0, 4, 8, 12 of p, one in each 128-bit lane. */
static inline vi vi_rows(const uint8_t *const *p, size_t at) {
    __m512i v = _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *)(p[0] + at)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[4] + at)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[8] + at)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[12] + at)), 3);
}
/* Sixteen bytes in each 128-bit lane: from p, p + near, p + far, p + near + far. */
#define VI_LANES
static inline vi vi_lanes(const uint8_t *p, size_t near, size_t far) {
    __m512i v = _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + near)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + far)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + near + far)), 3);
}
static inline vi vi_lo32(vi a, vi b) { return _mm512_unpacklo_epi32(a, b); }
static inline vi vi_hi32(vi a, vi b) { return _mm512_unpackhi_epi32(a, b); }
static inline vi vi_lo64(vi a, vi b) { return _mm512_unpacklo_epi64(a, b); }
static inline vi vi_hi64(vi a, vi b) { return _mm512_unpackhi_epi64(a, b); }

static inline vi vi_load(const void *p) { return _mm512_load_si512(p); }
static inline vi vi_load_any(const void *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(void *p, vi a) { _mm512_store_si512(p, a); }
static inline vi vi_set8(int x) { return _mm512_set1_epi8((char)x); }
static inline vi vi_set32(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi vi_from_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
static inline vi vi_add32(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub32(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_mul32(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline vi vi_if_less32(vi a, vi b, vi x, vi y) {
    return _mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(a, b), y, x);
}
#define vi_shl16(a, n) _mm512_slli_epi16(a, n)
#define vi_shr16(a, n) _mm512_srli_epi16(a, n)
#define vi_shl32(a, n) _mm512_slli_epi32(a, n)
#define vi_shr32(a, n) _mm512_srli_epi32(a, n)
#define vi_sra32(a, n) _mm512_srai_epi32(a, n)
static inline vi vi_set_table(const uint8_t t[16]) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)t));
}
#ifdef __AVX512VBMI__
/* vpermb looks at six bits, and the table stands there four times. */
#define VI_LOOKS_AT_FOUR_BITS
static inline vi vi_look_up(vi table, vi index) { return _mm512_permutexvar_epi8(index, table); }
#else
static inline vi vi_look_up(vi table, vi index) { return _mm512_shuffle_epi8(table, index); }
#endif

/* acc + four products of unsigned codes and signed activations in each lane. */
static inline vi vi_dot(vi acc, vi codes, vi x) { return _mm512_dpbusd_epi32(acc, codes, x); }
static inline vi vi_dot8(vi acc, vi codes, vi x) { return _mm512_dpbusd_epi32(acc, codes, x); }

#define VI_IN_ORDER(a, b) (void)0
/* Two products of 16 bits in each lane, added. */
static inline vi vi_mul16(vi a, vi b) { return _mm512_madd_epi16(a, b); }

static inline vf vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline __mmask16 vf_first(size_t n) { return (__mmask16)((1u << n) - 1u); }
static inline vf vf_load_n(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps(vf_first(n), p);
}
static inline void vf_store_n(float *p, vf a, size_t n) {
    _mm512_mask_storeu_ps(p, vf_first(n), a);
}
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vi_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
static inline vf vi_as_float(vi a) { return _mm512_castsi512_ps(a); }
static inline vf vf_from_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
/* The half in the low 16 bits of each lane. */
static inline vf vf_from_half32(vi a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }

#endif
