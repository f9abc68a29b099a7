/* SPDX-License-Identifier: MIT
 *
 * Vectors of eight 32-bit lanes for b32_body.h, in AVX2; with VI_VNNI defined the dot products are
 * those of AVX-VNNI. A lane is a row of weights.
 *
 * Without VNNI products are added in int16 pairs: codes up to 63 times 127 twice is 16,002; for
 * eight-bit codes the sign moves to the activations (which the quantiser keeps within +-127):
 * 128 * 127 * 2 = 32,512.
 */
#ifndef VI_AVX2_H
#define VI_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m256i vi;
typedef __m256 vf;

enum { VI_ROWS = 8 };

/* Sixteen bytes of rows 0 and 4 of p, one in each 128-bit lane. */
static inline vi vi_rows(const uint8_t *const *p, size_t at) {
    __m128i low = _mm_loadu_si128((const __m128i *)(p[0] + at));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                   _mm_loadu_si128((const __m128i *)(p[4] + at)), 1);
}
/* Sixteen bytes in each 128-bit lane: from p and p + near. */
#define VI_LANES
static inline vi vi_lanes(const uint8_t *p, size_t near, size_t far) {
    __m128i low = _mm_loadu_si128((const __m128i *)p);
    (void)far;
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                   _mm_loadu_si128((const __m128i *)(p + near)), 1);
}
static inline vi vi_lo32(vi a, vi b) { return _mm256_unpacklo_epi32(a, b); }
static inline vi vi_hi32(vi a, vi b) { return _mm256_unpackhi_epi32(a, b); }
static inline vi vi_lo64(vi a, vi b) { return _mm256_unpacklo_epi64(a, b); }
static inline vi vi_hi64(vi a, vi b) { return _mm256_unpackhi_epi64(a, b); }

static inline vi vi_load(const void *p) { return _mm256_load_si256(p); }
static inline vi vi_load_any(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void vi_store(void *p, vi a) { _mm256_store_si256(p, a); }
static inline vi vi_set8(int x) { return _mm256_set1_epi8((char)x); }
static inline vi vi_set32(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi vi_from_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
static inline vi vi_add32(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_sub32(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vi vi_mul32(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline vi vi_if_less32(vi a, vi b, vi x, vi y) {
    return _mm256_blendv_epi8(y, x, _mm256_cmpgt_epi32(b, a));
}
#define vi_shl16(a, n) _mm256_slli_epi16(a, n)
#define vi_shr16(a, n) _mm256_srli_epi16(a, n)
#define vi_shl32(a, n) _mm256_slli_epi32(a, n)
#define vi_shr32(a, n) _mm256_srli_epi32(a, n)
#define vi_sra32(a, n) _mm256_srai_epi32(a, n)
static inline vi vi_set_table(const uint8_t t[16]) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)t));
}
static inline vi vi_look_up(vi table, vi index) { return _mm256_shuffle_epi8(table, index); }

/* acc + four products of codes and signed activations in each lane; vi_dot: codes up to 63. */
#ifdef VI_VNNI
enum { VI_BIAS8 = 0x80 }; /* makes int8 codes unsigned */
#define VI_IN_ORDER(a, b) (void)0
static inline vi vi_dot(vi acc, vi codes, vi x) { return _mm256_dpbusd_avx_epi32(acc, codes, x); }
static inline vi vi_dot8(vi acc, vi codes, vi x) { return vi_dot(acc, codes, x); }
#else
enum { VI_BIAS8 = 0 }; /* int8 codes stay signed */
/* Finishes two sums before the next products begin: all products first would fill the registers. */
#define VI_IN_ORDER(a, b) __asm__ volatile("" : "+x"(a), "+x"(b))
static inline vi vi_dot(vi acc, vi codes, vi x) {
    vi pairs = _mm256_maddubs_epi16(codes, x);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static inline vi vi_dot8(vi acc, vi codes, vi x) {
    return vi_dot(acc, _mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
}
#endif

/* Two products of 16 bits in each lane, added. */
static inline vi vi_mul16(vi a, vi b) { return _mm256_madd_epi16(a, b); }

static inline vf vf_set(float x) { return _mm256_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
static inline vi vf_first(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf vf_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, vf_first(n)); }
static inline void vf_store_n(float *p, vf a, size_t n) { _mm256_maskstore_ps(p, vf_first(n), a); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vi_to_float(vi a) { return _mm256_cvtepi32_ps(a); }
static inline vf vi_as_float(vi a) { return _mm256_castsi256_ps(a); }
static inline vf vf_from_half(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
/* The half in the low 16 bits of each lane. */
static inline vf vf_from_half32(vi a) {
    a = _mm256_and_si256(a, _mm256_set1_epi32(0xFFFF));
    a = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, a), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(a));
}

#endif
