/* SPDX-License-Identifier: MIT
 *
 * Writing ternary tensors: int8 values in {-1, 0, +1} and one scale into any ternary layout, the
 * exact inverse of ternary_rows.c. Codes are lossless by construction; the scale is kept as f32 by
 * I2_S, T5 and the IQ2_BN types and rounded to half by TQ1_0, TQ2_0 and IQ1_BN.
 *
 * Every byte of the output is defined: filler behind the I2_S scale is zero. A block of zeros in
 * TQ1_0 and TQ2_0 gets d = 0, as other writers do.
 */
#include "quant/quant_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

typedef unsigned long long ull;

typedef struct packing {
    uint64_t rows;     /* outer dimensions multiplied */
    uint64_t cols;     /* row length */
    const int8_t *src; /* values [rows, cols] */
    float scale;       /* multiplies the values */
    uint8_t *dst;      /* zeroed, quant_tensor_bytes long */
} packing;

static uint8_t five_digits(const int8_t *v, size_t step, int n, bool first_is_low) {
    static const int pow3[5] = {81, 27, 9, 3, 1};
    int number = 0;
    for (int i = 0; i < n; i++)
        number += (v[(size_t)i * step] + 1) * pow3[first_is_low ? 4 - i : i];
    return (uint8_t)((number * 256 + 242) / 243);
}

/* The inverse of fields() in ternary_rows.c: w bytes from 4 runs of w values. */
static ALWAYS_INLINE void join_fields(const int8_t *restrict v, unsigned w, bool down,
                                      uint8_t *restrict dst) {
    for (unsigned i = 0; i < w; i++) {
        unsigned a = (unsigned)(v[i] + 1), b = (unsigned)(v[w + i] + 1);
        unsigned c = (unsigned)(v[2 * w + i] + 1), d = (unsigned)(v[3 * w + i] + 1);
        dst[i] = (uint8_t)(down ? a << 6 | b << 4 | c << 2 | d : d << 6 | c << 4 | b << 2 | a);
    }
}

static void pack_i2s_4row(const packing *k) {
    for (uint64_t r = 0; r < k->rows; r += 4)
        for (uint64_t c = 0; c < k->cols; c++) {
            const int8_t *v = k->src + r * k->cols + c;
            unsigned high = (unsigned)(v[0] + 1) << 6 | (unsigned)(v[k->cols] + 1) << 4;
            unsigned low = (unsigned)(v[2 * k->cols] + 1) << 2 | (unsigned)(v[3 * k->cols] + 1);
            k->dst[r / 4 * k->cols + c] = (uint8_t)(high | low);
        }
}

static void pack_i2s(const packing *k, quant_i2s order) {
    uint64_t n = k->rows * k->cols;
    if (order == QUANT_I2S_4ROW)
        pack_i2s_4row(k);
    else if (order == QUANT_I2S_ARM)
        for (uint64_t e = 0; e < n; e += 64) join_fields(k->src + e, 16, true, k->dst + e / 4);
    else
        quant_t2_pack_row(k->src, n, k->dst); /* whole blocks: the tensor is one long row */
    store_u32(k->dst + n / 4, f32_bits(k->scale));
}

static uint16_t block_scale(const packing *k, const int8_t *v) {
    for (int i = 0; i < 256; i++)
        if (v[i]) return f32_f16(k->scale);
    return 0;
}

static void pack_tq1(const packing *k) {
    uint8_t *dst = k->dst;
    for (uint64_t e = 0; e < k->rows * k->cols; e += 256, dst += 54) {
        const int8_t *v = k->src + e;
        for (int m = 0; m < 32; m++) dst[m] = five_digits(v + m, 32, 5, false);
        for (int m = 0; m < 16; m++) dst[32 + m] = five_digits(v + 160 + m, 16, 5, false);
        for (int m = 0; m < 4; m++) dst[48 + m] = five_digits(v + 240 + m, 4, 4, false);
        store_u16(dst + 52, block_scale(k, v));
    }
}

static void pack_tq2(const packing *k) {
    uint8_t *dst = k->dst;
    for (uint64_t e = 0; e < k->rows * k->cols; e += 256, dst += 66) {
        join_fields(k->src + e, 32, false, dst);
        join_fields(k->src + e + 128, 32, false, dst + 32);
        store_u16(dst + 64, block_scale(k, k->src + e));
    }
}

static void pack_iq2_bn(const packing *k) {
    uint8_t *dst = k->dst;
    for (uint64_t r = 0; r < k->rows; r++, dst += 4 + k->cols / 4) {
        store_u32(dst, f32_bits(k->scale));
        for (uint64_t c = 0; c < k->cols; c += 64)
            join_fields(k->src + r * k->cols + c, 16, false, dst + 4 + c / 4);
    }
}

static void pack_iq2_bn_r4(const packing *k) {
    for (uint64_t r = 0; r < k->rows; r++) {
        uint8_t *dst = k->dst + r / 4 * 4 * (4 + k->cols / 4);
        store_u32(dst + r % 4 * 4, f32_bits(k->scale));
        for (uint64_t c = 0; c < k->cols; c += 16)
            join_fields(k->src + r * k->cols + c, 4, false, dst + 16 + c + r % 4 * 4);
    }
}

static void pack_iq1_bn(const packing *k) {
    uint8_t *dst = k->dst;
    for (uint64_t r = 0; r < k->rows; r++) {
        store_u16(dst, f32_f16(k->scale));
        dst += 2;
        for (uint64_t c = 0; c < k->cols; c += 64, dst += 13) {
            const int8_t *v = k->src + r * k->cols + c;
            for (int i = 0; i < 12; i++)
                dst[i] = five_digits(v + i / 3 * 16 + i % 3 * 5, 1, 5, true);
            dst[12] = five_digits(v + 15, 16, 4, true);
        }
    }
}

static void pack_t5(const packing *k) {
    quant_t5_pack_rows(k->src, k->rows, k->cols, k->dst);
    uint8_t *scales = k->dst + quant_t5_code_bytes(k->rows, k->cols);
    for (uint64_t r = 0; r < k->rows; r++) store_u32(scales + 4 * r, f32_bits(k->scale));
}

/* ==== Checks
 * ====================================================================================== */

static bool shape_fits(const quant_info *info, quant_i2s i2s, uint64_t rows, uint64_t cols) {
    uint64_t bytes;
    return quant_tensor_bytes(info, rows, cols, &bytes, NULL) == ROTOR_OK &&
           ternary_shape(info->id, i2s, rows, cols, NULL) == ROTOR_OK;
}

static rotor_status check_shape(const quant_info *info, quant_i2s i2s, uint64_t rows, uint64_t cols,
                                rotor_error *err) {
    if (shape_fits(info, i2s, rows, cols)) return ROTOR_OK;
    char list[160] = "";
    size_t at = 0;
    for (size_t i = 0; quant_at(i); i++) {
        const quant_info *other = quant_at(i);
        if (!(other->flags & QUANT_TERNARY) || !shape_fits(other, QUANT_I2S_X86, rows, cols))
            continue;
        int n = snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", other->name);
        if (n > 0 && (size_t)n < sizeof list - at) at += (size_t)n;
    }
    return base_fail(
        err, ROTOR_E_UNSUPPORTED,
        "%llu x %llu ternary values cannot be stored as %s; types that can hold them: %s",
        (ull)rows, (ull)cols, info->name, list);
}

static rotor_status check_values(const packing *k, rotor_error *err) {
    uint64_t n = k->rows * k->cols, e = 0;
    bool illegal = false;
    for (uint64_t i = 0; i < n; i++) illegal |= (uint8_t)(k->src[i] + 1) > 2;
    if (!illegal) return ROTOR_OK;
    while (k->src[e] >= -1 && k->src[e] <= 1) e++;
    return base_fail(err, ROTOR_E_ARG, "row %llu, column %llu: %d is not a ternary value",
                     (ull)(e / k->cols), (ull)(e % k->cols), k->src[e]);
}

static rotor_status check_scale(uint32_t type, float scale, rotor_error *err) {
    bool half = type == QUANT_TQ1_0 || type == QUANT_TQ2_0 || type == QUANT_IQ1_BN;
    float kept = half ? f16_f32(f32_f16(scale)) : scale;
    if (isfinite(kept) && (kept != 0) == (scale != 0)) return ROTOR_OK;
    return base_fail(err, ROTOR_E_ARG, "scale %g cannot be stored as %s: %s", (double)scale,
                     quant_find(type)->name,
                     isfinite(scale) ? "out of range of a half float" : "not finite");
}

rotor_status quant_ternary_pack(uint32_t type, quant_i2s i2s, uint64_t rows, uint64_t cols,
                                const int8_t *src, float scale, uint8_t *dst, rotor_error *err) {
    const quant_info *info = quant_find(type);
    const packing k = {rows, cols, src, scale, dst};
    uint64_t bytes;
    if (!info || !(info->flags & QUANT_TERNARY))
        return base_fail(err, ROTOR_E_ARG, "type %u is not a ternary type", type);
    ROTOR_TRY(check_shape(info, i2s, rows, cols, err));
    ROTOR_TRY(check_values(&k, err));
    ROTOR_TRY(check_scale(type, scale, err));
    ROTOR_TRY(quant_tensor_bytes(info, rows, cols, &bytes, err));
    memset(dst, 0, (size_t)bytes);
    switch (type) {
    case QUANT_I2_S:
        pack_i2s(&k, i2s);
        break;
    case QUANT_TQ1_0:
        pack_tq1(&k);
        break;
    case QUANT_TQ2_0:
        pack_tq2(&k);
        break;
    case QUANT_IQ2_BN:
        pack_iq2_bn(&k);
        break;
    case QUANT_IQ2_BN_R4:
        pack_iq2_bn_r4(&k);
        break;
    case QUANT_IQ1_BN:
        pack_iq1_bn(&k);
        break;
    case QUANT_T5:
        pack_t5(&k);
        break;
    default:
        assert(0 && "ternary type without a packer");
    }
    return ROTOR_OK;
}
