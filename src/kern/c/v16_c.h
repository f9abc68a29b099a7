/* SPDX-License-Identifier: MIT
 *
 * Sixteen float lanes in plain C: the meaning of every v16 operation. The AVX2, AVX-512 and NEON
 * headers define the same names with the same bits.
 */
#ifndef V16_C_H
#define V16_C_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "quant/quant.h"

typedef struct v16 {
    float l[16]; /* lanes */
} v16;

#define V16_EACH for (int i = 0; i < 16; i++)

static inline v16 v16_set(float x) {
    v16 r;
    V16_EACH r.l[i] = x;
    return r;
}
static inline v16 v16_load(const float *p) {
    v16 r;
    memcpy(r.l, p, sizeof r.l);
    return r;
}
/* The first n lanes; the others are 0. */
static inline v16 v16_load_n(const float *p, size_t n) {
    v16 r = v16_set(0);
    memcpy(r.l, p, n * sizeof *p);
    return r;
}
static inline void v16_store(float *p, v16 a) { memcpy(p, a.l, sizeof a.l); }
static inline void v16_store_n(float *p, v16 a, size_t n) { memcpy(p, a.l, n * sizeof *p); }

/* All lanes the f16 at p. */
static inline v16 v16_set_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return v16_set(quant_f16_to_f32(h));
}
static inline v16 v16_load_f16_n(const uint8_t *p, size_t n) {
    v16 r = v16_set(0);
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        r.l[i] = quant_f16_to_f32(h);
    }
    return r;
}
static inline v16 v16_load_bf16_n(const uint8_t *p, size_t n) {
    v16 r = v16_set(0);
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        r.l[i] = quant_bf16_to_f32(h);
    }
    return r;
}
static inline void v16_store_f16_n(uint8_t *p, v16 a, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_f32_to_f16(a.l[i]);
        memcpy(p + 2 * i, &h, 2);
    }
}
static inline v16 v16_load_i8(const int8_t *p) {
    v16 r;
    V16_EACH r.l[i] = (float)p[i];
    return r;
}
/* Rounds to nearest even; lanes must be within [-128, 127]. */
static inline void v16_store_i8(int8_t *p, v16 a) { V16_EACH p[i] = (int8_t)rintf(a.l[i]); }

static inline v16 v16_add(v16 a, v16 b) {
    V16_EACH a.l[i] = a.l[i] + b.l[i];
    return a;
}
static inline v16 v16_sub(v16 a, v16 b) {
    V16_EACH a.l[i] = a.l[i] - b.l[i];
    return a;
}
static inline v16 v16_mul(v16 a, v16 b) {
    V16_EACH a.l[i] = a.l[i] * b.l[i];
    return a;
}
static inline v16 v16_div(v16 a, v16 b) {
    V16_EACH a.l[i] = a.l[i] / b.l[i];
    return a;
}
/* a * b + c, rounded once. */
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    V16_EACH c.l[i] = fmaf(a.l[i], b.l[i], c.l[i]);
    return c;
}
static inline v16 v16_max(v16 a, v16 b) {
    V16_EACH a.l[i] = a.l[i] > b.l[i] ? a.l[i] : b.l[i];
    return a;
}
static inline v16 v16_abs(v16 a) {
    V16_EACH a.l[i] = fabsf(a.l[i]);
    return a;
}
/* a < b ? x : y */
static inline v16 v16_if_less(v16 a, v16 b, v16 x, v16 y) {
    V16_EACH a.l[i] = a.l[i] < b.l[i] ? x.l[i] : y.l[i];
    return a;
}
/* 2^n of lanes that hold 1.5 * 2^23 + n, n a whole number in [-126, 127]. */
static inline v16 v16_pow2(v16 t) {
    V16_EACH {
        uint32_t bits;
        memcpy(&bits, &t.l[i], 4);
        bits = (bits + 127) << 23;
        memcpy(&t.l[i], &bits, 4);
    }
    return t;
}
static inline float v16_sum(v16 a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) a.l[i] += a.l[i + half];
    return a.l[0];
}
static inline float v16_hmax(v16 a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) a.l[i] = a.l[i] > a.l[i + half] ? a.l[i] : a.l[i + half];
    return a.l[0];
}
/* Sum of sixteen int8. */
static inline int32_t v16_sum_i8(const int8_t *p) {
    int32_t s = 0;
    V16_EACH s += p[i];
    return s;
}

#undef V16_EACH
#endif
