/* SPDX-License-Identifier: MIT
 *
 * Quantisers: float values to ternary or int8 codes and the number that multiplies them back.
 *
 * Means are summed in double in eight lanes (element i into lane i mod 8, lanes added pairwise), so
 * a result does not depend on the compiler or the instruction set. Rounding is to nearest even.
 * Non-finite inputs give unspecified codes but no undefined behaviour; callers that take data from
 * outside refuse them beforehand.
 */
#include "quant/quant_internal.h"

#include <math.h>

enum { LANES = 8 };

static double abs_sum(const float *x, size_t n) {
    double lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) lane[k] += fabs((double)x[i + k]);
    for (size_t k = 0; i + k < n; k++) lane[k] += fabs((double)x[i + k]);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* Nearest even for |v| < 2^22: adding 1.5 * 2^23 leaves the integer in the low bits. Any float at
 * all is harmless: no conversion that could be undefined. */
static inline int32_t round_even(float v) {
    return (int32_t)(f32_bits(v + 12582912.0f) - 0x4B400000u);
}

/* The product with the reciprocal, not the quotient, is what the reference computes; ties and
 * clamping together say: beyond one half of the mean is +-1. */
float quant_absmean(const float *x, size_t n, int8_t *t) {
    float mean = n ? (float)(abs_sum(x, n) / (double)n) : 0;
    float a = BASE_MAX(mean, 1e-5f), inverse = 1.0f / a;
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * inverse;
        t[i] = (int8_t)((v > 0.5f) - (v < -0.5f));
    }
    return a;
}

/* The scale is the mean magnitude of what was kept: the least-squares choice for these signs. */
float quant_threshold(const float *x, size_t n, float theta, int8_t *t) {
    double sum = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        t[i] = (int8_t)((x[i] > theta) - (x[i] < -theta));
        if (t[i]) sum += fabs((double)x[i]);
        kept += t[i] != 0;
    }
    return kept ? (float)(sum / (double)kept) : 0;
}

float quant_sign(const float *x, size_t n, int8_t *t) {
    for (size_t i = 0; i < n; i++) t[i] = x[i] < 0 ? -1 : 1;
    return n ? (float)(abs_sum(x, n) / (double)n) : 0;
}

/* |x * 127 / m| exceeds 127 by two roundings at most, so no clamp is needed. */
float quant_int8_sym(const float *x, size_t n, int8_t *q) {
    float top = bits_f32((uint32_t)max_magnitude_bits(x, n));
    float m = top < 1e-5f ? 1e-5f : top, scale = 127.0f / m;
    for (size_t i = 0; i < n; i++) q[i] = (int8_t)round_even(x[i] * scale);
    return m / 127.0f;
}

float quant_int8_asym(const float *x, size_t n, int8_t *q, int32_t *zero) {
    float low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    double step = ((double)high - (double)low) / 255;
    float step32 = step > 0x1p-126 ? (float)step : 1.0f; /* all zero, or too small to divide by */
    double inverse = 1.0 / (double)step32;
    int z = (int)lrint(-128.0 - (double)low * inverse);
    z = BASE_MAX(-128, BASE_MIN(127, z));
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i] * inverse + z;
        v = v > -128 ? v : -128;
        v = v < 127 ? v : 127;
        q[i] = (int8_t)lrint(v);
    }
    *zero = z;
    return step32;
}
