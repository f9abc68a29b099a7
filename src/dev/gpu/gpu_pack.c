/* SPDX-License-Identifier: MIT
 *
 * gpu_pack: rows of a file become words, 32 rows side by side.
 *
 * A row is made unit by unit: the smallest whole number of words that begins a column. A unit of 32
 * rows is gathered on the stack and then written in one piece, word by word:
 *
 *   rows of w   | unit k of row 0 | ...          dst   word u: | row 0 | row 1 | ... | row 31 |
 *               | unit k of row 1 | ...    ->          u + 1:  | row 0 | row 1 | ... | row 31 |
 *
 * so that neighbouring invocations, each with a row of its own, read neighbouring words.
 * Words are those of a little-endian machine, which is what a device reads. Pure functions.
 */
#include "dev/gpu/gpu_pack.h"
#include "dev/gpu/gpu_kernels.h"

#include <assert.h>

enum {
    T2_COLS = 128,       /* columns of a T2 block */
    PAIR_COLS = 64,      /* columns of two blocks that share a word of scales */
    SUPER_COLS = 256,    /* columns of a K-quant's block */
    MX_COLS = 128,       /* columns of four blocks that share a word of scales */
    MX_BLOCK = 17,       /* bytes of a block of 32 in MXFP4: scale, nibbles */
    MAX_UNIT = 64,       /* words of a unit at most */
    SIDE_BLOCK = 34 * 16 /* bytes of a block of sixteen rows in KERN_Q8X16 */
};

typedef struct shape {
    size_t cols, words; /* of a unit */
} shape;

/* Plain types have no unit of their own; 32 words are one. */
static shape shape_of(gpu_type type) {
    static const shape shapes[] = {
        [GPU_T2] = {T2_COLS, 8},       [GPU_F32] = {32, 32},          [GPU_F16] = {64, 32},
        [GPU_BF16] = {64, 32},         [GPU_Q8_0] = {PAIR_COLS, 17},  [GPU_Q4_0] = {PAIR_COLS, 9},
        [GPU_Q4_K] = {SUPER_COLS, 36}, [GPU_Q6_K] = {SUPER_COLS, 53}, [GPU_B32] = {32, 12},
        [GPU_MXFP4] = {MX_COLS, 17},
    };
    return shapes[type];
}

bool gpu_type_of(const kern_mat *w, gpu_type *out) {
    static const struct {
        uint32_t type;   /* of the file */
        gpu_type packed; /* on the device */
    } known[] = {
        {QUANT_I2_S, GPU_T2},   {QUANT_T5, GPU_T2},       {QUANT_F32, GPU_F32},
        {QUANT_F16, GPU_F16},   {QUANT_BF16, GPU_BF16},   {QUANT_Q8_0, GPU_Q8_0},
        {KERN_Q8X16, GPU_Q8_0}, {QUANT_Q4_0, GPU_Q4_0},   {QUANT_Q4_K, GPU_Q4_K},
        {QUANT_Q6_K, GPU_Q6_K}, {QUANT_MXFP4, GPU_MXFP4},
    };
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (known[i].type == w->type) {
            *out = known[i].packed;
            return true;
        }
    const quant_info *info = quant_find(w->type);
    if (!info || !(info->flags & QUANT_BLOCK32)) return false;
    *out = GPU_B32;
    return true;
}

size_t gpu_row_words(gpu_type type, size_t cols) {
    if (type == GPU_F32) return cols;
    if (type == GPU_F16 || type == GPU_BF16) return (cols + 1) / 2;
    if (type == GPU_MXFP4) return cols / 32 * 4 + (cols + MX_COLS - 1) / MX_COLS;
    const shape s = shape_of(type);
    return (cols + s.cols - 1) / s.cols * s.words;
}

/* ==== One unit of one row ===================================================================== */

/* 128 columns of a T5 row as T2. */
static void t5_unit(const kern_mat *w, size_t r, size_t c0, uint32_t *out) {
    const uint8_t *lane =
        w->data + r / QUANT_T5_ROWS * QUANT_T5_ROWS * w->row_bytes + r % QUANT_T5_ROWS * 4;
    int8_t t[T2_COLS] = {0};
    for (size_t c = c0; c < c0 + T2_COLS && c < w->cols; c++) {
        const size_t at = c % QUANT_T5_COLS;
        uint8_t digit[5];
        quant_t5_digits(lane[c / QUANT_T5_COLS * 64 + at % 4], digit);
        t[c - c0] = (int8_t)(digit[at / 4] - 1);
    }
    quant_t2_pack_row(t, T2_COLS, (uint8_t *)out);
}

/* Block k of a Q8_0 row, scale and codes, from either form of it. */
static void q8_0_block(const kern_mat *w, size_t r, size_t k, uint16_t *scale, uint32_t *codes) {
    if (w->type == QUANT_Q8_0) {
        const uint8_t *block = w->data + r * w->row_bytes + k * 34;
        memcpy(scale, block, 2);
        memcpy(codes, block + 2, 32);
        return;
    }
    const size_t i = r % KERN_Q8X16_ROWS;
    const uint8_t *block = w->data + (r - i) * w->row_bytes + k * SIDE_BLOCK;
    memcpy(scale, block + 2 * i, 2);
    for (size_t j = 0; j < 8; j++)
        memcpy(codes + j, block + 2 * KERN_Q8X16_ROWS + (j * KERN_Q8X16_ROWS + i) * 4, 4);
}

static void q8_0_unit(const kern_mat *w, size_t r, size_t c0, uint32_t *out) {
    uint16_t scale[2] = {0};
    for (size_t i = 0; i < 2 && c0 + 32 * i < w->cols; i++)
        q8_0_block(w, r, c0 / 32 + i, &scale[i], out + 1 + 8 * i);
    out[0] = scale[0] | (uint32_t)scale[1] << 16;
}

static void q4_0_unit(const kern_mat *w, size_t r, size_t c0, uint32_t *out) {
    uint16_t scale[2] = {0};
    for (size_t i = 0; i < 2 && c0 + 32 * i < w->cols; i++) {
        const uint8_t *block = w->data + r * w->row_bytes + (c0 / 32 + i) * 18;
        memcpy(&scale[i], block, 2);
        memcpy(out + 1 + 4 * i, block + 2, 16);
    }
    out[0] = scale[0] | (uint32_t)scale[1] << 16;
}

static void mxfp4_unit(const kern_mat *w, size_t r, size_t c0, uint32_t *out) {
    const uint8_t *block = w->data + r * w->row_bytes + c0 / 32 * MX_BLOCK;
    for (uint32_t i = 0; i < MX_COLS / 32 && c0 + 32 * i < w->cols; i++, block += MX_BLOCK) {
        out[0] |= (uint32_t)block[0] << 8 * i;
        memcpy(out + 1 + 4 * i, block + 1, MX_BLOCK - 1);
    }
}

static void b32_unit(const kern_mat *w, size_t r, size_t c0, uint32_t *out) {
    quant_block32 block;
    quant_unpack32(w->type, w->data + r * w->row_bytes, c0 / 32, &block);
    memcpy(out, block.a, 8);
    memcpy(out + 2, block.b, 8);
    memcpy(out + 4, block.q, 32);
}

/* Bytes of a row from column c0 on, as they stand in the file: bytes for each unit of cols. */
static void plain_unit(const kern_mat *w, size_t r, size_t c0, shape s, size_t bytes,
                       uint32_t *out) {
    const bool whole = w->cols - c0 >= s.cols || s.cols >= T2_COLS;
    memcpy(out, w->data + r * w->row_bytes + c0 / s.cols * bytes,
           whole ? bytes : (w->cols - c0) * bytes / s.cols);
}

/* The unit of row r that begins with column c0; out[MAX_UNIT] is zero. */
static void unit(const kern_mat *w, gpu_type type, size_t r, size_t c0, uint32_t *out) {
    const shape s = shape_of(type);
    switch (type) {
    case GPU_T2:
        if (w->type == QUANT_T5)
            t5_unit(w, r, c0, out);
        else
            plain_unit(w, r, c0, s, 32, out);
        return;
    case GPU_F32:
    case GPU_F16:
    case GPU_BF16:
        plain_unit(w, r, c0, s, 128, out);
        return;
    case GPU_Q8_0:
        q8_0_unit(w, r, c0, out);
        return;
    case GPU_Q4_0:
        q4_0_unit(w, r, c0, out);
        return;
    case GPU_Q4_K:
        plain_unit(w, r, c0, s, 144, out);
        return;
    case GPU_Q6_K:
        plain_unit(w, r, c0, s, 210, out);
        return;
    case GPU_B32:
        b32_unit(w, r, c0, out);
        return;
    case GPU_MXFP4:
        mxfp4_unit(w, r, c0, out);
        return;
    }
}

/* ==== All of them ============================================================================= */

void gpu_pack(const kern_mat *w, gpu_type type, size_t group_begin, size_t group_end,
              uint32_t *dst) {
    const shape s = shape_of(type);
    const size_t n_u = gpu_row_words(type, w->cols);
    for (size_t g = group_begin; g < group_end; g++)
        for (size_t u = 0; u < n_u; u += s.words) {
            uint32_t rows[GPU_ROWS][MAX_UNIT] = {{0}};
            const size_t n = BASE_MIN(s.words, n_u - u);
            for (size_t i = 0; i < GPU_ROWS && g * GPU_ROWS + i < w->rows; i++)
                unit(w, type, g * GPU_ROWS + i, u / s.words * s.cols, rows[i]);
            for (size_t k = 0; k < n; k++)
                for (size_t i = 0; i < GPU_ROWS; i++) *dst++ = rows[i][k];
        }
}
