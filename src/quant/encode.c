/* SPDX-License-Identifier: MIT
 *
 * Encoders: float rows into F32, F16, BF16, Q8_0, Q4_0, Q6_K and the ternary types.
 *
 * Q8_0 and Q4_0 follow the published reference bit for bit. Q6_K has no normative encoder: ours
 * takes a least-squares scale for every 16 values. Ternary types expect values that are already
 * ternary times a constant. Values that are not finite, and scales beyond a half float, are refused
 * with their place rather than stored as infinities.
 */
#include "quant/quant_internal.h"

#include <assert.h>
#include <math.h>

typedef unsigned long long ull;

/* Half away from zero, exact for every float of magnitude below 2^31: twice the fraction, cut to an
 * integer, is the step that is missing. No comparison, so that loops vectorise. */
static inline int round_away(float v) {
    int whole = (int)v;
    return whole + (int)((v - (float)whole) * 2.0f);
}

/* 1 / d, or 0 where that would not be finite. */
static float inverse_of(float d) {
    float inverse = d != 0 ? 1.0f / d : 0;
    return isfinite(inverse) ? inverse : 0;
}

/* The first value of greatest magnitude, with its sign. */
static float peak_of(const float *x, int n) {
    uint32_t top = (uint32_t)max_magnitude_bits(x, (uint64_t)n);
    int i = 0;
    while ((f32_bits(x[i]) & 0x7FFFFFFFu) != top) i++;
    return x[i];
}

/* Each block encoder returns false when the scale does not fit a half float. */
static bool store_scale(uint8_t *p, float d) {
    uint16_t h = f32_f16(d);
    store_u16(p, h);
    return (h & 0x7FFFu) < 0x7C00u;
}

static bool encode_q8_0(const float *x, uint8_t *dst) {
    float d = bits_f32((uint32_t)max_magnitude_bits(x, 32)) / 127, inverse = inverse_of(d);
    for (int i = 0; i < 32; i++) dst[2 + i] = (uint8_t)(int8_t)round_away(x[i] * inverse);
    return store_scale(dst, d);
}

static bool encode_q4_0(const float *x, uint8_t *dst) {
    uint8_t q[32];
    float peak = peak_of(x, 32) + 0.0f; /* a peak of -0 counts as 0 */
    float d = peak / -8, inverse = inverse_of(d);
    for (int i = 0; i < 32; i++) q[i] = (uint8_t)BASE_MIN(15, (int)(x[i] * inverse + 8.5f));
    for (int j = 0; j < 16; j++) dst[2 + j] = (uint8_t)(q[j] | q[j + 16] << 4);
    return store_scale(dst, d);
}

static int clamp6(int q) { return BASE_MAX(-32, BASE_MIN(31, q)); }

/* Scale s minimising sum (x - s q)^2 for the codes that the peak's own scale gives. */
static float fit_scale(const float x[16]) {
    float first = peak_of(x, 16) / -32, inverse = inverse_of(first), xq[4] = {0};
    int q[16], qq = 0;
    for (int i = 0; i < 16; i++) q[i] = clamp6(round_away(x[i] * inverse));
    for (int i = 0; i < 16; i++) qq += q[i] * q[i];
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 4; k++) xq[k] += x[i + k] * (float)q[i + k];
    float s = qq ? ((xq[0] + xq[2]) + (xq[1] + xq[3])) / (float)qq : 0;
    return isfinite(s) ? s : first;
}

static bool encode_q6_k(const float *x, uint8_t *dst) {
    float fit[16];
    int8_t q[256];
    for (int s = 0; s < 16; s++) fit[s] = fit_scale(x + 16 * s);
    float d = peak_of(fit, 16) / -128, inverse = inverse_of(d);
    bool fits = store_scale(dst + 208, d);
    d = f16_f32(load_u16(dst + 208));
    for (int s = 0; s < 16; s++) {
        int sub = BASE_MAX(-128, BASE_MIN(127, round_away(fit[s] * inverse)));
        float back = inverse_of(d * (float)sub);
        dst[192 + s] = (uint8_t)(int8_t)sub;
        /* |back * x| stays below some hundreds: sub is 0 or within a half of fit / d. */
        for (int i = 0; i < 16; i++)
            q[16 * s + i] = (int8_t)(clamp6(round_away(x[16 * s + i] * back)) + 32);
    }
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 32; l++) {
            const int8_t *v = q + 128 * h + l;
            dst[64 * h + l] = (uint8_t)((v[0] & 15) | (v[64] & 15) << 4);
            dst[64 * h + 32 + l] = (uint8_t)((v[32] & 15) | (v[96] & 15) << 4);
            dst[128 + 32 * h + l] =
                (uint8_t)(v[0] >> 4 | v[32] >> 4 << 2 | v[64] >> 4 << 4 | v[96] >> 4 << 6);
        }
    return fits;
}

/* ==== Rows
 * ======================================================================================== */

static uint64_t first_not_finite(const float *x, uint64_t n) {
    uint64_t i = 0;
    if (max_magnitude_bits(x, n) < 0x7F800000) return n;
    while (isfinite(x[i])) i++;
    return i;
}

static rotor_status encode_blocks(const quant_info *info, uint64_t row, uint64_t cols,
                                  const float *src, uint8_t *dst, rotor_error *err) {
    uint64_t bad = first_not_finite(src, cols);
    if (bad < cols)
        return base_fail(err, ROTOR_E_ARG, "row %llu, column %llu: %g cannot be stored as %s",
                         (ull)row, (ull)bad, (double)src[bad], info->name);
    for (uint64_t c = 0; c < cols; c += info->block_elems, dst += info->block_bytes) {
        bool fits = info->id == QUANT_Q8_0   ? encode_q8_0(src + c, dst)
                    : info->id == QUANT_Q4_0 ? encode_q4_0(src + c, dst)
                                             : encode_q6_k(src + c, dst);
        if (!fits)
            return base_fail(err, ROTOR_E_ARG,
                             "row %llu, columns %llu-%llu: values too large for the half-float "
                             "scale of %s",
                             (ull)row, (ull)c, (ull)(c + info->block_elems - 1), info->name);
    }
    return ROTOR_OK;
}

static void encode_floats(uint32_t type, const float *src, uint64_t n, uint8_t *dst) {
    if (type == QUANT_F32)
        memcpy(dst, src, (size_t)n * 4);
    else if (type == QUANT_F16)
        for (uint64_t i = 0; i < n; i++) store_u16(dst + 2 * i, f32_f16(src[i]));
    else
        for (uint64_t i = 0; i < n; i++) store_u16(dst + 2 * i, f32_bf16(src[i]));
}

/* Codes of values that are 0 or +-scale; false at the first that is not. */
static bool ternary_codes(const float *src, uint64_t n, float scale, int8_t *t, uint64_t *bad) {
    const float slack = scale * 1e-6f;
    for (uint64_t i = 0; i < n; i++) {
        float m = fabsf(src[i]);
        if (!(m <= slack) && !(m >= scale - slack && m <= scale)) return *bad = i, false;
        t[i] = m <= slack ? 0 : src[i] < 0 ? -1 : 1;
    }
    return true;
}

static rotor_status encode_ternary(const quant_info *info, uint64_t rows, uint64_t cols,
                                   const float *src, uint8_t *dst, rotor_error *err) {
    const uint64_t n = rows * cols;
    uint64_t bad;
    float scale = 0;
    int8_t *t = base_alloc((size_t)n);
    if (!t) return base_fail_nomem(err, "encoding a ternary tensor");
    for (uint64_t i = 0; i < n; i++) scale = fabsf(src[i]) > scale ? fabsf(src[i]) : scale;
    rotor_status st;
    if (ternary_codes(src, n, scale, t, &bad))
        st = quant_ternary_pack(info->id, QUANT_I2S_X86, rows, cols, t, scale, dst, err);
    else
        st = base_fail(err, ROTOR_E_ARG,
                       "row %llu, column %llu: %g is neither 0 nor +-%g: quantise to ternary first",
                       (ull)(bad / cols), (ull)(bad % cols), (double)src[bad], (double)scale);
    base_free(t);
    return st;
}

rotor_status quant_encode(uint32_t type, uint64_t rows, uint64_t cols, const float *src,
                          uint8_t *dst, rotor_error *err) {
    const quant_info *info = quant_find(type);
    uint64_t bytes;
    if (!info || !(info->flags & QUANT_CAN_ENCODE))
        return base_fail(err, ROTOR_E_UNSUPPORTED, "type %s cannot be written by this program",
                         info ? info->name : "unknown");
    ROTOR_TRY(quant_tensor_bytes(info, rows, cols, &bytes, err));
    if (info->flags & QUANT_TERNARY) return encode_ternary(info, rows, cols, src, dst, err);
    if (info->block_elems == 1) return encode_floats(type, src, rows * cols, dst), ROTOR_OK;
    for (uint64_t r = 0; r < rows; r++)
        ROTOR_TRY(
            encode_blocks(info, r, cols, src + r * cols, dst + r * row_stride(info, cols), err));
    return ROTOR_OK;
}
