/* SPDX-License-Identifier: MIT
 *
 * Reading ternary tensors: every ternary layout as int8 rows in {-1, 0, +1} and a scale.
 *
 * docs/formats.md draws the layouts; each case below repeats its own in a line. Rows are decoded in
 * pieces of 256 columns that share one scale, so that no caller needs a row-sized buffer. Two-bit
 * layouts have an illegal code, 3, and T5 thirteen illegal bytes: they are reported with row and
 * column and never read as a value; TQ1_0 and IQ1_BN decode every byte to legal digits.
 */
#include "quant/quant_internal.h"

#include <assert.h>

typedef unsigned long long ull;

/* ==== Pieces of rows: runs of bytes, so that compilers make vector code
 * ============================= */

/* Field f of w bytes is w consecutive values; the fields of a byte go down from bits 7-6, or up
 * from bit 0. Non-zero when a code 3 was met. */
static ALWAYS_INLINE int fields(const uint8_t *restrict src, unsigned w, bool down,
                                int8_t *restrict dst) {
    uint8_t both = 0;
    for (unsigned f = 0; f < 4; f++) {
        unsigned shift = down ? 6 - 2 * f : 2 * f;
        for (unsigned i = 0; i < w; i++) {
            uint8_t code = (uint8_t)(src[i] >> shift & 3);
            dst[w * f + i] = (int8_t)(code - 1);
            both |= (uint8_t)(code & code >> 1);
        }
    }
    return both;
}

/* Digit f of w base-3 bytes is w consecutive values, most significant digit first. */
static ALWAYS_INLINE void digits(const uint8_t *restrict src, unsigned w, unsigned n_digits,
                                 int8_t *restrict dst) {
    for (unsigned f = 0; f < n_digits; f++)
        for (unsigned i = 0; i < w; i++) dst[w * f + i] = (int8_t)(trit(src[i], (int)f) - 1);
}

/* | 48 + 4 bytes of base-3 digits | d f16 |: runs of 32 bytes x 5 digits, 16 x 5, 4 x 4. */
static void tq1_0(const uint8_t *block, int8_t *dst) {
    digits(block, 32, 5, dst);
    digits(block + 32, 16, 5, dst + 160);
    digits(block + 48, 4, 4, dst + 240);
}

/* | 64 bytes of codes | d f16 |: two halves of 128 values, fields of 32 going up. */
static int tq2_0(const uint8_t *block, int8_t *dst) {
    return fields(block, 32, false, dst) | fields(block + 32, 32, false, dst + 128);
}

/* Blocks of 64 in 16 bytes, fields of 16: IQ2_BN going up, ARM's I2_S going down. */
static int blocks64(const uint8_t *src, uint64_t n, bool down, int8_t *dst) {
    int illegal = 0;
    for (uint64_t i = 0; i < n; i += 64) illegal |= fields(src + i / 4, 16, down, dst + i);
    return illegal;
}

/* Blocks of 64 in 13 bytes: three bytes of five digits for each 16 values, the first value least
 * significant; the 13th byte holds the four sixteenth values. */
static void iq1_bn(const uint8_t *src, uint64_t n, int8_t *dst) {
    for (uint64_t at = 0; at < n; at += 64, src += 13, dst += 64)
        for (unsigned group = 0; group < 4; group++) {
            int8_t *v = dst + 16 * group;
            for (unsigned b = 0; b < 3; b++)
                for (unsigned e = 0; e < 5; e++)
                    v[5 * b + e] = (int8_t)(trit(src[3 * group + b], 4 - (int)e) - 1);
            v[15] = (int8_t)(trit(src[12], 4 - (int)group) - 1);
        }
}

/* Per four rows, blocks of 64 columns in 64 bytes: byte 16 l + 4 k + i holds row k, columns
 * 16 l + i + {0, 4, 8, 12} from bit 0 up: fields of 4. */
static int iq2_bn_r4(const uint8_t *codes, uint64_t k, uint64_t col, uint64_t n, int8_t *dst) {
    int illegal = 0;
    for (uint64_t i = 0; i < n; i += 16)
        illegal |= fields(codes + col + i + 4 * k, 4, false, dst + i);
    return illegal;
}

/* Four rows in a byte: row / 4 picks the byte row, row % 4 the field, the first in bits 7-6. */
static int i2s_4row(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst) {
    const uint8_t *src = t->data + row / 4 * t->cols + col;
    unsigned shift = 6 - (unsigned)(row % 4) * 2;
    uint8_t both = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint8_t code = (uint8_t)(src[i] >> shift & 3);
        dst[i] = (int8_t)(code - 1);
        both |= (uint8_t)(code & code >> 1);
    }
    return both;
}

/* Rows that share blocks: value by value. Blocks of 4w values in w bytes, fields going down. */
static int i2s_shared(const uint8_t *data, uint64_t first, uint64_t n, unsigned w, int8_t *dst) {
    int illegal = 0;
    for (uint64_t e = first; e < first + n; e++) {
        uint64_t byte = e / (4 * w) * w + e % w;
        int code = data[byte] >> (6 - e % (4 * w) / w * 2) & 3;
        dst[e - first] = (int8_t)(code - 1);
        illegal |= code == 3;
    }
    return illegal;
}

static int i2s(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst) {
    const uint64_t first = row * t->cols + col;
    uint64_t bad;
    switch (t->i2s) {
    case QUANT_I2S_4ROW:
        return i2s_4row(t, row, col, n, dst);
    case QUANT_I2S_ARM:
        if (t->cols % 64 == 0) return blocks64(t->data + first / 4, n, true, dst);
        return i2s_shared(t->data, first, n, 16, dst);
    default:
        if (t->cols % 128 == 0) return !quant_t2_unpack_row(t->data + first / 4, n, dst, &bad);
        return i2s_shared(t->data, first, n, 32, dst);
    }
}

/* Bytes from one row to the next of the types whose rows stand alone. */
static uint64_t stride_of(const quant_tensor *t) {
    return row_stride(quant_find(t->type), t->cols);
}

static int piece_values(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n,
                        int8_t *dst) {
    const uint8_t *p = t->data;
    switch (t->type) {
    case QUANT_I2_S:
        return i2s(t, row, col, n, dst);
    case QUANT_TQ1_0:
        return tq1_0(p + (row * t->cols + col) / 256 * 54, dst), 0;
    case QUANT_TQ2_0:
        return tq2_0(p + (row * t->cols + col) / 256 * 66, dst);
    case QUANT_IQ2_BN:
        return blocks64(p + row * stride_of(t) + 4 + col / 4, n, false, dst);
    case QUANT_IQ2_BN_R4:
        return iq2_bn_r4(p + row / 4 * 4 * stride_of(t) + 16, row % 4, col, n, dst);
    case QUANT_IQ1_BN:
        return iq1_bn(p + row * stride_of(t) + 2 + col / 64 * 13, n, dst), 0;
    case QUANT_T5:
        return t5_values(t, row, col, n, dst);
    default:
        assert(0 && "not a ternary type");
        return 0;
    }
}

/* The scale stands once per tensor, per row, or per block of 256. */
static float scale_of(const quant_tensor *t, uint64_t row, uint64_t col) {
    const uint8_t *p = t->data;
    switch (t->type) {
    case QUANT_I2_S:
        return bits_f32(load_u32(p + t->rows * t->cols / 4));
    case QUANT_TQ1_0:
        return f16_f32(load_u16(p + (row * t->cols + col) / 256 * 54 + 52));
    case QUANT_TQ2_0:
        return f16_f32(load_u16(p + (row * t->cols + col) / 256 * 66 + 64));
    case QUANT_IQ2_BN:
        return bits_f32(load_u32(p + row * stride_of(t)));
    case QUANT_IQ2_BN_R4:
        return bits_f32(load_u32(p + row / 4 * 4 * stride_of(t) + row % 4 * 4));
    case QUANT_T5:
        return t5_scale(t, row);
    default:
        return f16_f32(load_u16(p + row * stride_of(t))); /* IQ1_BN */
    }
}

bool ternary_piece(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst,
                   float *scale, uint64_t *bad_col) {
    *scale = scale_of(t, row, col);
    if (!piece_values(t, row, col, n, dst)) return true;
    uint64_t i = 0;
    while (i < n && dst[i] != 2) i++;
    *bad_col = col + i;
    return false;
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
            return base_fail(err, ROTOR_E_FORMAT, "row %llu, column %llu: %s", (ull)row,
                             (ull)bad_col, illegal_code(t->type));
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
