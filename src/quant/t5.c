/* SPDX-License-Identifier: MIT
 *
 * T5: five ternary values in a byte, 1.6 bits each, laid out for vector units. Version 1.
 *
 *   tensor   | group of 16 rows | next 16 rows | … | f32 scale of row 0 | of row 1 | … |
 *   group    | chunk of 20 columns, 64 bytes | next 20 columns | …
 *   chunk k  byte 4 r + i: row r of the group; digit f is column 20 k + 4 f + i   (f = 0 … 4)
 *
 * The last group and the last chunk are padded with the value 0. A lane of four bytes is a row, so
 * sums never cross lanes, and digit f of a chunk is what a matrix product wants next: sixteen rows
 * by four columns.
 *
 * A byte b gives its digits (value + 1) through two tables of 64, which vector units look up in one
 * instruction each, because six bits are all they look at:
 *
 *   L = low[b mod 64]   H = high[b / 4]   X = L xor H
 *   digit 0: H bits 7-6   1: L bits 7-6   2: X bits 5-4   3: X bits 3-2   4: X bits 1-0
 *
 * Up to 191 a byte is simply 64 * digit 0 + a number whose other four digits stand in low[]. 64 of
 * the 81 combinations of four digits fit there; from 192 on, high[] turns each run of four bytes
 * into four of the 17 others. All 243 strings occur once; 13 bytes, all above 199, are illegal.
 */
#include "quant/quant_internal.h"

const uint8_t quant_t5_low[64] = {
    0x00, 0x48, 0x51, 0x81, 0x01, 0x28, 0x61, 0xA8, 0x02, 0x20, 0x40, 0x59, 0x04, 0x05, 0x6A, 0x80,
    0x06, 0x44, 0x68, 0xA4, 0x10, 0x15, 0x26, 0xA1, 0x11, 0x56, 0x85, 0x96, 0x14, 0x22, 0x49, 0x60,
    0x16, 0x84, 0x94, 0x98, 0x18, 0x19, 0x42, 0x82, 0x1A, 0x64, 0x91, 0xA0, 0x25, 0x69, 0xA5, 0xA9,
    0x29, 0x2A, 0x45, 0x89, 0x46, 0x8A, 0x99, 0xA6, 0x50, 0x5A, 0x90, 0x9A, 0x54, 0x62, 0x65, 0xA2,
};
const uint8_t quant_t5_high[64] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x89, 0x20, 0x41, 0x20, 0x8E, 0xB4, 0x03, 0x46, 0x5C, 0x50, 0x71, 0xAF, 0x23, 0x4C, 0x08, 0xB0,
};

enum {
    ROWS = QUANT_T5_ROWS,
    COLS = QUANT_T5_COLS,
    CHUNK = 64,
    DIGITS = 5,
    STRINGS = 243,
    CHECK_BYTES = 4096
};

/* The bytes that stand for nothing. */
static const bool is_illegal[256] = {
    [200] = 1, [205] = 1, [207] = 1, [222] = 1, [225] = 1, [227] = 1, [232] = 1,
    [234] = 1, [235] = 1, [237] = 1, [238] = 1, [250] = 1, [252] = 1};

bool quant_t5_digits(uint8_t b, uint8_t digit[5]) {
    const unsigned low = quant_t5_low[b & 63], high = quant_t5_high[b >> 2], both = low ^ high;
    digit[0] = (uint8_t)(high >> 6);
    digit[1] = (uint8_t)(low >> 6);
    digit[2] = (uint8_t)(both >> 4 & 3);
    digit[3] = (uint8_t)(both >> 2 & 3);
    digit[4] = (uint8_t)(both & 3);
    return !is_illegal[b];
}

/* The byte of each string of digits, read as a base-3 number with digit 0 first. */
static void make_bytes(uint8_t byte_of[STRINGS]) {
    for (unsigned b = 0; b < 256; b++) {
        uint8_t d[DIGITS];
        if (quant_t5_digits((uint8_t)b, d))
            byte_of[(((d[0] * 3 + d[1]) * 3 + d[2]) * 3 + d[3]) * 3 + d[4]] = (uint8_t)b;
    }
}

/* ==== Sizes =================================================================================== */

static uint64_t chunks_of(uint64_t cols) { return cols / COLS + (cols % COLS != 0); }
static uint64_t groups_of(uint64_t rows) { return rows / ROWS + (rows % ROWS != 0); }

size_t quant_t5_row_bytes(uint64_t cols) { return (size_t)(chunks_of(cols) * CHUNK / ROWS); }

uint64_t quant_t5_code_bytes(uint64_t rows, uint64_t cols) {
    return groups_of(rows) * chunks_of(cols) * CHUNK;
}

bool t5_tensor_bytes(uint64_t rows, uint64_t cols, uint64_t *bytes) {
    uint64_t codes;
    return base_mul_u64(groups_of(rows), chunks_of(cols), &codes) &&
           base_mul_u64(codes, CHUNK, &codes) && base_mul_u64(rows, 4, bytes) &&
           base_add_u64(*bytes, codes, bytes);
}

/* ==== Values ================================================================================== */

int t5_values(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst) {
    const uint8_t *lane = t->data + row / ROWS * chunks_of(t->cols) * CHUNK + row % ROWS * 4;
    int illegal = 0;
    for (uint64_t c = col; c < col + n;) {
        const uint8_t *four = lane + c / COLS * CHUNK;
        uint8_t d[4][DIGITS];
        bool good[4];
        for (unsigned i = 0; i < 4; i++) good[i] = quant_t5_digits(four[i], d[i]);
        for (uint64_t at = c % COLS; at < COLS && c < col + n; at++, c++) {
            illegal |= !good[at % 4];
            dst[c - col] = good[at % 4] ? (int8_t)(d[at % 4][at / 4] - 1) : 2;
        }
    }
    return illegal;
}

float t5_scale(const quant_tensor *t, uint64_t row) {
    return bits_f32(load_u32(t->data + quant_t5_code_bytes(t->rows, t->cols) + 4 * row));
}

/* No branch in a block; the first bad one is looked at again. */
bool quant_t5_check(const uint8_t *codes, size_t n_bytes, size_t *bad) {
    for (size_t at = 0; at < n_bytes; at += CHECK_BYTES) {
        const size_t end = BASE_MIN(n_bytes - at, (size_t)CHECK_BYTES) + at;
        unsigned any = 0;
        for (size_t i = at; i < end; i++) any |= is_illegal[codes[i]];
        if (!any) continue;
        for (*bad = at; !is_illegal[codes[*bad]];) ++*bad;
        return false;
    }
    return true;
}

/* ==== Packing ================================================================================= */

/* One lane of one chunk: the four bytes of columns [col, col + 20) of a row, or of no row. */
static void pack_lane(const int8_t *row, uint64_t col, uint64_t cols,
                      const uint8_t byte_of[STRINGS], uint8_t *dst) {
    for (unsigned i = 0; i < 4; i++) {
        unsigned number = 0;
        for (unsigned f = 0; f < DIGITS; f++) {
            const uint64_t c = col + 4 * f + i;
            number = number * 3 + (row && c < cols ? (unsigned)(row[c] + 1) : 1);
        }
        dst[i] = byte_of[number];
    }
}

void quant_t5_pack_rows(const int8_t *src, uint64_t rows, uint64_t cols, uint8_t *dst) {
    uint8_t byte_of[STRINGS];
    make_bytes(byte_of);
    for (uint64_t g = 0; g < rows; g += ROWS)
        for (uint64_t c = 0; c < cols; c += COLS, dst += CHUNK)
            for (uint64_t r = 0; r < ROWS; r++)
                pack_lane(g + r < rows ? src + (g + r) * cols : NULL, c, cols, byte_of,
                          dst + 4 * r);
}
