/* SPDX-License-Identifier: MIT
 *
 * The reference decoder: any type with QUANT_CAN_DECODE to float, rows at a time.
 *
 * Exact for every type whose values are floats or small integers; for block types the published
 * arithmetic in its published order, so equal bit for bit to the gguf package. 64-bit integers and
 * doubles are rounded once.
 */
#include "quant/quant_internal.h"

#include <assert.h>

typedef unsigned long long ull;

static void decode_half(const uint8_t *src, uint64_t n, float *restrict dst) {
    for (uint64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = f16_f32(h);
    }
}

static void decode_bfloat(const uint8_t *src, uint64_t n, float *restrict dst) {
    for (uint64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = bf16_f32(h);
    }
}

static float number(uint32_t type, const uint8_t *p) {
    uint64_t u;
    double d;
    switch (type) {
    case QUANT_I8:
        return (float)(int8_t)p[0];
    case QUANT_I16:
        return (float)(int16_t)load_u16(p);
    case QUANT_I32:
        return (float)(int32_t)load_u32(p);
    case QUANT_I64:
        return (float)(int64_t)load_u64(p);
    case QUANT_F64:
        u = load_u64(p);
        memcpy(&d, &u, sizeof d);
        return (float)d;
    default:
        return (float)p[0]; /* U8, BOOL */
    }
}

static void decode_block32(uint32_t type, const uint8_t *row, uint64_t cols, float *dst) {
    for (uint64_t b = 0; b < cols / 32; b++, dst += 32) {
        quant_block32 block;
        quant_unpack32(type, row, b, &block);
        for (int i = 0; i < 32; i++) dst[i] = block.a[i / 16] * (float)block.q[i] - block.b[i / 16];
    }
}

/* Activation formats; not met in published files. Q8_1: | d f16 | sum f16 | 32 i8 |; Q8_K:
 * | d f32 | 256 i8 | 16 sums i16 |. */
static void decode_q8(uint32_t type, const uint8_t *row, uint64_t cols, float *dst) {
    bool k = type == QUANT_Q8_K;
    unsigned n = k ? 256 : 32, bytes = k ? 292 : 36;
    for (uint64_t b = 0; b < cols / n; b++, row += bytes)
        for (unsigned i = 0; i < n; i++)
            *dst++ =
                (k ? bits_f32(load_u32(row)) : f16_f32(load_u16(row))) * (float)(int8_t)row[4 + i];
}

static rotor_status decode_ternary(const quant_tensor *t, uint64_t row, float *dst,
                                   rotor_error *err) {
    for (uint64_t c = 0; c < t->cols; c += TERNARY_PIECE) {
        int8_t v[TERNARY_PIECE];
        uint64_t n = BASE_MIN(t->cols - c, (uint64_t)TERNARY_PIECE), bad_col;
        float scale;
        if (!ternary_piece(t, row, c, n, v, &scale, &bad_col))
            return base_fail(err, ROTOR_E_FORMAT, "row %llu, column %llu: %s", (ull)row,
                             (ull)bad_col, illegal_code(t->type));
        for (uint64_t i = 0; i < n; i++) dst[c + i] = scale * (float)v[i];
    }
    return ROTOR_OK;
}

static rotor_status decode_row(const quant_tensor *t, const quant_info *info, uint64_t row,
                               float *dst, rotor_error *err) {
    if (info->flags & QUANT_TERNARY) return decode_ternary(t, row, dst, err);
    const uint8_t *src = t->data + row * row_stride(info, t->cols);
    if (info->flags & QUANT_BLOCK32) return decode_block32(t->type, src, t->cols, dst), ROTOR_OK;
    switch (t->type) {
    case QUANT_F32:
        memcpy(dst, src, (size_t)t->cols * 4);
        break;
    case QUANT_F16:
        decode_half(src, t->cols, dst);
        break;
    case QUANT_BF16:
        decode_bfloat(src, t->cols, dst);
        break;
    case QUANT_Q8_1:
    case QUANT_Q8_K:
        decode_q8(t->type, src, t->cols, dst);
        break;
    default:
        for (uint64_t c = 0; c < t->cols; c++)
            dst[c] = number(t->type, src + c * info->block_bytes);
    }
    return ROTOR_OK;
}

rotor_status quant_decode_rows(const quant_tensor *t, uint64_t row_begin, uint64_t row_end,
                               float *dst, rotor_error *err) {
    const quant_info *info = quant_find(t->type);
    assert(row_begin <= row_end && row_end <= t->rows);
    if (!info || !(info->flags & QUANT_CAN_DECODE))
        return base_fail(err, ROTOR_E_UNSUPPORTED, "type %s cannot be decoded by this program",
                         info ? info->name : "unknown");
    if (info->flags & QUANT_TERNARY)
        ROTOR_TRY(ternary_shape(t->type, t->i2s, t->rows, t->cols, err));
    for (uint64_t r = row_begin; r < row_end; r++, dst += t->cols)
        ROTOR_TRY(decode_row(t, info, r, dst, err));
    return ROTOR_OK;
}
