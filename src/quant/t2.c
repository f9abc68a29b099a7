/* SPDX-License-Identifier: MIT
 *
 * T2, the two-bit layout that kernels read, and the packed rows of Hugging Face checkpoints.
 *
 *   T2 block, 128 columns   byte p:  | 7-6: col p | 5-4: 32+p | 3-2: 64+p | 1-0: 96+p |   p = 0..31
 *   HF, R = ceil(rows/4)    byte (r, c):  | 7-6: row 3R+r | 5-4: 2R+r | 3-2: R+r | 1-0: row r |
 *
 * Codes are value + 1; 3 is illegal and always reported. A two-billion-weight model passes through
 * these loops once when it is loaded, so each is a plain byte loop with constant shifts, which
 * compilers turn into vector code; illegal codes are gathered by an OR and looked for only when
 * there is one.
 */
#include "quant/quant_internal.h"

#include <assert.h>

enum { BLOCK_COLS = 128, BLOCK_BYTES = 32 };

size_t quant_t2_row_bytes(uint64_t cols) {
    return (size_t)((cols + BLOCK_COLS - 1) / BLOCK_COLS * BLOCK_BYTES);
}

static void pack_block(const int8_t *restrict s, uint8_t *restrict d) {
    for (int p = 0; p < BLOCK_BYTES; p++)
        d[p] = (uint8_t)((uint8_t)(s[p] + 1) << 6 | (uint8_t)(s[32 + p] + 1) << 4 |
                         (uint8_t)(s[64 + p] + 1) << 2 | (uint8_t)(s[96 + p] + 1));
}

void quant_t2_pack_row(const int8_t *src, uint64_t cols, uint8_t *dst) {
    uint64_t c = 0;
    for (; c + BLOCK_COLS <= cols; c += BLOCK_COLS, dst += BLOCK_BYTES) pack_block(src + c, dst);
    if (c == cols) return;
    int8_t tail[BLOCK_COLS] = {0};
    memcpy(tail, src + c, (size_t)(cols - c));
    pack_block(tail, dst);
}

/* Returns non-zero when one of the 128 codes is 3. */
static int unpack_block(const uint8_t *restrict s, int8_t *restrict d) {
    uint8_t both = 0;
    for (int p = 0; p < BLOCK_BYTES; p++) {
        uint8_t b = s[p];
        d[p] = (int8_t)((b >> 6) - 1);
        d[32 + p] = (int8_t)((b >> 4 & 3) - 1);
        d[64 + p] = (int8_t)((b >> 2 & 3) - 1);
        d[96 + p] = (int8_t)((b & 3) - 1);
        both |= (uint8_t)(b & b >> 1);
    }
    return both & 0x55;
}

/* First column of a value that is not ternary; the caller knows there is one. */
static uint64_t first_illegal(const int8_t *v, uint64_t n) {
    uint64_t c = 0;
    while (c < n && v[c] <= 1) c++;
    return c;
}

bool quant_t2_unpack_row(const uint8_t *src, uint64_t cols, int8_t *dst, uint64_t *bad_col) {
    uint64_t c = 0;
    for (; c < cols; c += BLOCK_COLS, src += BLOCK_BYTES) {
        int8_t block[BLOCK_COLS];
        uint64_t n = BASE_MIN(cols - c, (uint64_t)BLOCK_COLS);
        int illegal = unpack_block(src, n == BLOCK_COLS ? dst + c : block);
        if (n < BLOCK_COLS) memcpy(dst + c, block, (size_t)n);
        if (!illegal) continue;
        /* A padding column is nobody's value; a 3 there still means a damaged row. */
        *bad_col = c + first_illegal(n == BLOCK_COLS ? dst + c : block, BLOCK_COLS);
        return false;
    }
    return true;
}

/* ==== Hugging Face packed rows
 * ===================================================================== */

#define HF_FIELD(name, shift)                                                                      \
    static int name(const uint8_t *restrict s, uint64_t n, int8_t *restrict d) {                   \
        uint8_t both = 0;                                                                          \
        for (uint64_t c = 0; c < n; c++) {                                                         \
            uint8_t code = (uint8_t)(s[c] >> (shift)&3);                                           \
            d[c] = (int8_t)(code - 1);                                                             \
            both |= (uint8_t)(code & code >> 1);                                                   \
        }                                                                                          \
        return both;                                                                               \
    }
HF_FIELD(hf_field0, 0)
HF_FIELD(hf_field1, 2)
HF_FIELD(hf_field2, 4)
HF_FIELD(hf_field3, 6)

rotor_status quant_hf_row(const uint8_t *packed, uint64_t rows, uint64_t cols, uint64_t row,
                          int8_t *dst, rotor_error *err) {
    static int (*const field[4])(const uint8_t *restrict, uint64_t,
                                 int8_t *restrict) = {hf_field0, hf_field1, hf_field2, hf_field3};
    uint64_t stored = (rows + 3) / 4;
    assert(row < rows);
    if (!field[row / stored](packed + row % stored * cols, cols, dst)) return ROTOR_OK;
    uint64_t col = first_illegal(dst, cols);
    return base_fail(err, ROTOR_E_FORMAT,
                     "row %llu, column %llu: illegal ternary code 3 (packed byte %llu)",
                     (unsigned long long)row, (unsigned long long)col,
                     (unsigned long long)(row % stored * cols + col));
}

void quant_hf_pack(const int8_t *src, uint64_t rows, uint64_t cols, uint8_t *packed) {
    uint64_t stored = (rows + 3) / 4;
    for (uint64_t r = 0; r < stored; r++) {
        uint8_t *dst = packed + r * cols;
        memset(dst, 0, (size_t)cols);
        for (uint64_t g = 0; g < 4; g++) {
            uint64_t row = g * stored + r;
            for (uint64_t c = 0; c < cols; c++) {
                int code = row < rows ? src[row * cols + c] + 1 : 1; /* padding rows hold zeros */
                dst[c] = (uint8_t)(dst[c] | code << 2 * g);
            }
        }
    }
}
