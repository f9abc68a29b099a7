/* SPDX-License-Identifier: MIT
 *
 * Reading ternary tensors: every ternary layout as int8 rows in {-1, 0, +1} and a scale.
 *
 * docs/formats.md draws the layouts; each case below repeats its own in a line. Rows are decoded in
 * pieces of 256 columns that share one scale, so that no caller needs a row-sized buffer. Two-bit
 * layouts have an illegal code, 3, which is reported with row and column and never read as a
 * value; the base-3 layouts (TQ1_0, IQ1_BN) decode every byte to legal digits.
 */
#include "quant/quant_internal.h"

#include <assert.h>

typedef unsigned long long ull;

static int code2(const uint8_t *p, uint64_t byte, unsigned shift) {
    return p[byte] >> shift & 3;
}

/* Values cols x rows, flattened, in blocks of 4w codes in w bytes: byte p of a block holds elements
 * p, w+p, 2w+p, 3w+p in bits 7-6, 5-4, 3-2, 1-0 (w = 32 as x86 writes it, 16 as ARM does). */
static int i2s_flat(const uint8_t *data, uint64_t element, unsigned w) {
    uint64_t block = element / (4 * w);
    unsigned k = (unsigned)(element % (4 * w));
    return code2(data, block * w + k % w, 6 - k / w * 2);
}

static int i2s_code(const quant_tensor *t, uint64_t row, uint64_t col) {
    if (t->i2s == QUANT_I2S_X86) return i2s_flat(t->data, row * t->cols + col, 32);
    if (t->i2s == QUANT_I2S_ARM) return i2s_flat(t->data, row * t->cols + col, 16);
    /* Byte (row / 4, col) holds four adjacent rows of one column, the first in bits 7-6. */
    return code2(t->data, row / 4 * t->cols + col, 6 - (unsigned)(row % 4) * 2);
}

/* Per row | f32 scale | blocks of 64 in 16 bytes: byte j holds j, 16+j, 32+j, 48+j from bit 0 up.
 */
static int iq2_bn_code(const uint8_t *codes, uint64_t col) {
    return code2(codes, col / 64 * 16 + col % 16, (unsigned)(col % 64 / 16 * 2));
}

/* Per four rows | 4 f32 scales | blocks of 64 columns in 64 bytes: byte 16 l + 4 k + i holds row k,
 * columns 16 l + i + {0, 4, 8, 12} from bit 0 up. */
static int iq2_bn_r4_code(const uint8_t *codes, uint64_t k, uint64_t col) {
    uint64_t in = col % 64;
    return code2(codes, col / 64 * 64 + in / 16 * 16 + 4 * k + in % 4, (unsigned)(in % 16 / 4 * 2));
}

/* Per row | f16 scale | blocks of 64 in 13 bytes: three bytes of five digits for each 16 elements,
 * the first element least significant; the 13th byte holds the four sixteenth elements. */
static int iq1_bn_code(const uint8_t *codes, uint64_t col) {
    const uint8_t *block = codes + col / 64 * 13;
    unsigned in = (unsigned)(col % 64), group = in / 16, e = in % 16;
    return e == 15 ? trit(block[12], 4 - (int)group)
                   : trit(block[group * 3 + e / 5], 4 - (int)(e % 5));
}

static bool codes_of(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst,
                     uint64_t *bad_col) {
    const uint64_t stride = 4 + t->cols / 4; /* of both IQ2_BN types, per row */
    int worst = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t c = col + i;
        int code = 0;
        switch (t->type) {
        case QUANT_I2_S:
            code = i2s_code(t, row, c);
            break;
        case QUANT_IQ2_BN:
            code = iq2_bn_code(t->data + row * stride + 4, c);
            break;
        case QUANT_IQ2_BN_R4:
            code = iq2_bn_r4_code(t->data + row / 4 * 4 * stride + 16, row % 4, c);
            break;
        case QUANT_IQ1_BN:
            code = iq1_bn_code(t->data + row * (2 + t->cols / 64 * 13) + 2, c);
            break;
        default:
            assert(!"not a ternary type");
        }
        dst[i] = (int8_t)(code - 1);
        worst |= code == 3;
    }
    for (uint64_t i = 0; worst && i < n; i++)
        if (dst[i] == 2) return *bad_col = col + i, false;
    return true;
}

static bool tq_codes(const quant_tensor *t, const uint8_t *row, uint64_t col, int8_t *dst,
                     uint64_t *bad_col) {
    for (uint64_t b = 0; b < TERNARY_PIECE / 32; b++) {
        quant_block32 block;
        quant_unpack32(t->type, row, col / 32 + b, &block);
        memcpy(dst + 32 * b, block.q, 32);
    }
    for (uint64_t i = 0; i < TERNARY_PIECE; i++)
        if (dst[i] == 2) return *bad_col = col + i, false;
    return true;
}

/* The scale stands once per tensor, per row, or per block of 256. */
static float scale_of(const quant_tensor *t, uint64_t row, uint64_t col) {
    const uint64_t stride = 4 + t->cols / 4;
    switch (t->type) {
    case QUANT_I2_S:
        return bits_f32(load_u32(t->data + t->rows * t->cols / 4));
    case QUANT_TQ1_0:
        return f16_f32(load_u16(t->data + (row * t->cols + col) / 256 * 54 + 52));
    case QUANT_TQ2_0:
        return f16_f32(load_u16(t->data + (row * t->cols + col) / 256 * 66 + 64));
    case QUANT_IQ2_BN:
        return bits_f32(load_u32(t->data + row * stride));
    case QUANT_IQ2_BN_R4:
        return bits_f32(load_u32(t->data + row / 4 * 4 * stride + row % 4 * 4));
    case QUANT_IQ1_BN:
        return f16_f32(load_u16(t->data + row * (2 + t->cols / 64 * 13)));
    default:
        assert(!"not a ternary type");
        return 0;
    }
}

bool ternary_piece(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst,
                   float *scale, uint64_t *bad_col) {
    *scale = scale_of(t, row, col);
    if (t->type == QUANT_TQ1_0 || t->type == QUANT_TQ2_0)
        return tq_codes(t, t->data + row * (t->cols / 256) * (t->type == QUANT_TQ1_0 ? 54 : 66),
                        col, dst, bad_col);
    if (t->type == QUANT_I2_S && t->i2s == QUANT_I2S_X86 && t->cols % 128 == 0) {
        bool good = quant_t2_unpack_row(t->data + (row * t->cols + col) / 4, n, dst, bad_col);
        if (!good) *bad_col += col;
        return good;
    }
    return codes_of(t, row, col, n, dst, bad_col);
}

rotor_status ternary_shape(uint32_t type, quant_i2s i2s, uint64_t rows, uint64_t cols,
                           rotor_error *err) {
    uint64_t per_block = i2s == QUANT_I2S_X86 ? 128 : 64;
    if ((type == QUANT_IQ2_BN_R4 || (type == QUANT_I2_S && i2s == QUANT_I2S_4ROW)) && rows % 4 != 0)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%llu rows: this layout interleaves four rows and needs a multiple of 4",
                         (ull)rows);
    if (type == QUANT_I2_S && i2s != QUANT_I2S_4ROW && rows * cols % per_block != 0)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%llu x %llu values: I2_S is written in whole blocks of %llu values",
                         (ull)rows, (ull)cols, (ull)per_block);
    return ROTOR_OK;
}

rotor_status quant_ternary_row(const quant_tensor *t, uint64_t row, int8_t *dst, float *scale,
                               bool *uniform, rotor_error *err) {
    float first = 0;
    bool same = true, seen = false;
    assert(row < t->rows);
    ROTOR_TRY(ternary_shape(t->type, t->i2s, t->rows, t->cols, err));
    for (uint64_t c = 0; c < t->cols; c += TERNARY_PIECE) {
        uint64_t n = BASE_MIN(t->cols - c, (uint64_t)TERNARY_PIECE), bad_col;
        float piece;
        int nonzero = 0;
        if (!ternary_piece(t, row, c, n, dst + c, &piece, &bad_col))
            return base_fail(err, ROTOR_E_FORMAT, "row %llu, column %llu: illegal ternary code 3",
                             (ull)row, (ull)bad_col);
        for (uint64_t i = 0; i < n; i++) nonzero |= dst[c + i];
        /* A block of zeros says nothing about the scale (its d is often written as 0). */
        if (!seen) first = piece;
        if (seen && nonzero) same &= memcmp(&piece, &first, sizeof piece) == 0;
        seen |= nonzero != 0;
    }
    *scale = first;
    *uniform = same;
    return ROTOR_OK;
}
