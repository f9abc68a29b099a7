/* SPDX-License-Identifier: MIT
 *
 * A query against rows of bytes, or of two bits, for retrieval: all products of a row in one 32-bit
 * sum. Sixteen bytes of two-bit codes, columns of 64:
 *
 *     byte p:  bits 0-1  column p      4-5  column 32 + p
 *                   2-3  column 16+p   6-7  column 48 + p
 *
 * Bounds: 127 * 127 * ld stays below 2^31 up to ld = 133,000. Bytes per output: ld, and ld / 4.
 */
#include <assert.h>

#include "kern/kern_internal.h"

static void scan_i8_c(int32_t *out, const int8_t *rows, const int8_t *query, size_t ld,
                      size_t n_rows) {
    assert(ld % KERN_SCAN_COLS == 0);
    for (size_t r = 0; r < n_rows; r++, rows += ld) {
        int32_t sum = 0;
        for (size_t c = 0; c < ld; c++) sum += rows[c] * query[c];
        out[r] = sum;
    }
}

static void scan_i2_c(int32_t *out, const uint8_t *rows, const int8_t *query, size_t ld,
                      size_t n_rows) {
    assert(ld % KERN_SCAN_COLS == 0);
    for (size_t r = 0; r < n_rows; r++, rows += ld / 4) {
        int32_t sum = 0;
        for (size_t c = 0; c < ld; c++)
            sum += (rows[c / 64 * 16 + c % 16] >> c % 64 / 16 * 2 & 3) * query[c];
        out[r] = sum;
    }
}

void kern_fill_scan_c(kern *k) {
    k->scan_i8 = scan_i8_c;
    k->scan_i2 = scan_i2_c;
}
