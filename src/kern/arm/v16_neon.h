/* SPDX-License-Identifier: MIT
 *
 * Sixteen float lanes in four NEON registers; meanings in v16_c.h. Comparisons and selects stand in
 * for the minimum and maximum instructions, whose NaN and zero rules differ from C's.
 */
#ifndef V16_NEON_H
#define V16_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

typedef struct v16 {
    float32x4_t r[4]; /* lanes 0-3, 4-7, 8-11, 12-15 */
} v16;

#define V16_EACH for (int i = 0; i < 4; i++)

static inline v16 v16_set(float x) {
    float32x4_t v = vdupq_n_f32(x);
    return (v16){{v, v, v, v}};
}
static inline v16 v16_load(const float *p) {
    return (v16){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
static inline v16 v16_load_n(const float *p, size_t n) {
    if (n == 16) return v16_load(p);
    float t[16] = {0};
    memcpy(t, p, n * sizeof *p);
    return v16_load(t);
}
static inline void v16_store(float *p, v16 a) { V16_EACH vst1q_f32(p + 4 * i, a.r[i]); }
static inline void v16_store_n(float *p, v16 a, size_t n) {
    float t[16];
    v16_store(n == 16 ? p : t, a);
    if (n < 16) memcpy(p, t, n * sizeof *p);
}

/* Sixteen 16-bit values, the first n from p, the others 0. */
static inline void v16_raw16_n(uint16_t t[16], const uint8_t *p, size_t n) {
    memset(t, 0, 32);
    memcpy(t, p, 2 * n);
}
static inline v16 v16_set_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    float32x4_t x = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)));
    return (v16){{x, x, x, x}};
}
static inline v16 v16_load_f16_n(const uint8_t *p, size_t n) {
    uint16_t t[16];
    v16 v;
    const uint8_t *from = p;
    if (n < 16) {
        v16_raw16_n(t, p, n);
        from = (const uint8_t *)t;
    }
    V16_EACH v.r[i] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from + 8 * i)));
    return v;
}
static inline v16 v16_load_bf16_n(const uint8_t *p, size_t n) {
    uint16_t t[16];
    v16 v;
    const uint8_t *from = p;
    if (n < 16) {
        v16_raw16_n(t, p, n);
        from = (const uint8_t *)t;
    }
    V16_EACH v.r[i] =
        vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(from + 8 * i)), 16));
    return v;
}
static inline void v16_store_f16_n(uint8_t *p, v16 a, size_t n) {
    uint8_t t[32];
    V16_EACH vst1_u8(t + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(a.r[i])));
    memcpy(p, t, 2 * n);
}
static inline v16 v16_load_i8(const int8_t *p) {
    int8x16_t b = vld1q_s8(p);
    int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_s8(vget_high_s8(b));
    return (v16){
        {vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
         vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))}};
}
static inline void v16_store_i8(int8_t *p, v16 a) {
    int32x4_t w[4];
    V16_EACH w[i] = vcvtnq_s32_f32(a.r[i]);
    int16x8_t lo = vcombine_s16(vqmovn_s32(w[0]), vqmovn_s32(w[1]));
    int16x8_t hi = vcombine_s16(vqmovn_s32(w[2]), vqmovn_s32(w[3]));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(lo), vqmovn_s16(hi)));
}

static inline v16 v16_add(v16 a, v16 b) {
    V16_EACH a.r[i] = vaddq_f32(a.r[i], b.r[i]);
    return a;
}
static inline v16 v16_sub(v16 a, v16 b) {
    V16_EACH a.r[i] = vsubq_f32(a.r[i], b.r[i]);
    return a;
}
static inline v16 v16_mul(v16 a, v16 b) {
    V16_EACH a.r[i] = vmulq_f32(a.r[i], b.r[i]);
    return a;
}
static inline v16 v16_div(v16 a, v16 b) {
    V16_EACH a.r[i] = vdivq_f32(a.r[i], b.r[i]);
    return a;
}
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    V16_EACH c.r[i] = vfmaq_f32(c.r[i], a.r[i], b.r[i]);
    return c;
}
static inline float32x4_t v16_max_quarter(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline v16 v16_max(v16 a, v16 b) {
    V16_EACH a.r[i] = v16_max_quarter(a.r[i], b.r[i]);
    return a;
}
static inline v16 v16_abs(v16 a) {
    V16_EACH a.r[i] = vabsq_f32(a.r[i]);
    return a;
}
static inline v16 v16_if_less(v16 a, v16 b, v16 x, v16 y) {
    V16_EACH a.r[i] = vbslq_f32(vcltq_f32(a.r[i], b.r[i]), x.r[i], y.r[i]);
    return a;
}
static inline v16 v16_pow2(v16 t) {
    V16_EACH {
        int32x4_t e = vaddq_s32(vreinterpretq_s32_f32(t.r[i]), vdupq_n_s32(127));
        t.r[i] = vreinterpretq_f32_s32(vshlq_n_s32(e, 23));
    }
    return t;
}
static inline float v16_sum(v16 a) {
    float32x4_t s4 = vaddq_f32(vaddq_f32(a.r[0], a.r[2]), vaddq_f32(a.r[1], a.r[3]));
    float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
static inline float v16_hmax(v16 a) {
    float32x4_t m4 =
        v16_max_quarter(v16_max_quarter(a.r[0], a.r[2]), v16_max_quarter(a.r[1], a.r[3]));
    float t[4];
    vst1q_f32(t, m4);
    t[0] = t[0] > t[2] ? t[0] : t[2];
    t[1] = t[1] > t[3] ? t[1] : t[3];
    return t[0] > t[1] ? t[0] : t[1];
}
static inline int32_t v16_sum_i8(const int8_t *p) { return vaddlvq_s8(vld1q_s8(p)); }

#undef V16_EACH
#endif
