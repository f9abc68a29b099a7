/* SPDX-License-Identifier: MIT
 *
 * Vectors of four 32-bit lanes for b32_body.h, in NEON; with VI_DOTPROD defined the dot products
 * are single instructions. A lane is a row of weights. Codes are signed bytes, so eight-bit codes
 * need no bias; all others stay below 64.
 */
#ifndef VI_NEON_H
#define VI_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

typedef int32x4_t vi;
typedef float32x4_t vf;

enum { VI_ROWS = 4, VI_BIAS8 = 0 };

static inline uint8x16_t vi_u8(vi a) { return vreinterpretq_u8_s32(a); }
static inline vi vi_of_u8(uint8x16_t a) { return vreinterpretq_s32_u8(a); }

static inline vi vi_rows(const uint8_t *const *p, size_t at) {
    return vi_of_u8(vld1q_u8(p[0] + at));
}
static inline vi vi_lo32(vi a, vi b) { return vzip1q_s32(a, b); }
static inline vi vi_hi32(vi a, vi b) { return vzip2q_s32(a, b); }
static inline vi vi_lo64(vi a, vi b) {
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
static inline vi vi_hi64(vi a, vi b) {
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

static inline vi vi_load(const void *p) { return vi_of_u8(vld1q_u8(p)); }
static inline vi vi_load_any(const void *p) { return vi_load(p); }
static inline void vi_store(void *p, vi a) { vst1q_u8(p, vi_u8(a)); }
static inline vi vi_set8(int x) { return vi_of_u8(vdupq_n_u8((uint8_t)x)); }
static inline vi vi_set32(int32_t x) { return vdupq_n_s32(x); }
static inline vi vi_from_u8(const uint8_t *p) {
    const int32_t t[4] = {p[0], p[1], p[2], p[3]};
    return vld1q_s32(t);
}
static inline vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
static inline vi vi_xor(vi a, vi b) { return veorq_s32(a, b); }
static inline vi vi_add32(vi a, vi b) { return vaddq_s32(a, b); }
static inline vi vi_sub32(vi a, vi b) { return vsubq_s32(a, b); }
static inline vi vi_mul32(vi a, vi b) { return vmulq_s32(a, b); }
static inline vi vi_if_less32(vi a, vi b, vi x, vi y) { return vbslq_s32(vcltq_s32(a, b), x, y); }
/* Shifts by a register: a shift right by 0 has no immediate form. */
static inline vi vi_shift16(vi a, int n) {
    return vreinterpretq_s32_u16(vshlq_u16(vreinterpretq_u16_s32(a), vdupq_n_s16((int16_t)n)));
}
static inline vi vi_shift32(vi a, int n) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(n)));
}
#define vi_shl16(a, n) vi_shift16(a, n)
#define vi_shr16(a, n) vi_shift16(a, -(n))
#define vi_shl32(a, n) vi_shift32(a, n)
#define vi_shr32(a, n) vi_shift32(a, -(n))
#define vi_sra32(a, n) vshlq_s32(a, vdupq_n_s32(-(n)))
static inline vi vi_set_table(const uint8_t t[16]) { return vi_of_u8(vld1q_u8(t)); }
static inline vi vi_look_up(vi table, vi index) {
    return vi_of_u8(vqtbl1q_u8(vi_u8(table), vi_u8(index)));
}

/* acc + four products of signed bytes in each lane. */
#ifdef VI_DOTPROD
static inline vi vi_dot(vi acc, vi codes, vi x) {
    return vdotq_s32(acc, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(x));
}
#else
static inline vi vi_dot(vi acc, vi codes, vi x) {
    int8x16_t c = vreinterpretq_s8_s32(codes), v = vreinterpretq_s8_s32(x);
    int32x4_t lo = vpaddlq_s16(vmull_s8(vget_low_s8(c), vget_low_s8(v)));
    int32x4_t hi = vpaddlq_s16(vmull_high_s8(c, v));
    return vaddq_s32(acc, vpaddq_s32(lo, hi));
}
#endif
static inline vi vi_dot8(vi acc, vi codes, vi x) { return vi_dot(acc, codes, x); }
#define VI_IN_ORDER(a, b) (void)0
/* Two products of 16 bits in each lane, added. */
static inline vi vi_mul16(vi a, vi b) {
    const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}

static inline vf vf_set(float x) { return vdupq_n_f32(x); }
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf a) { vst1q_f32(p, a); }
static inline vf vf_load_n(const float *p, size_t n) {
    float t[4] = {0};
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return vld1q_f32(t);
}
static inline void vf_store_n(float *p, vf a, size_t n) {
    float t[4];
    vst1q_f32(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vi_to_float(vi a) { return vcvtq_f32_s32(a); }
static inline vf vi_as_float(vi a) { return vreinterpretq_f32_s32(a); }
static inline vf vf_from_half(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
/* The half in the low 16 bits of each lane. */
static inline vf vf_from_half32(vi a) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_s32(a))));
}

#endif
