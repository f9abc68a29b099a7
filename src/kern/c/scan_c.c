/* SPDX-License-Identifier: MIT
 *
 * A query against rows of bytes, for retrieval: all products of a row in one 32-bit sum.
 *
 * Bound: 127 * 127 * ld stays below 2^31 up to ld = 133,000. Bytes per output: ld.
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

void kern_fill_scan_c(kern *k) { k->scan_i8 = scan_i8_c; }
