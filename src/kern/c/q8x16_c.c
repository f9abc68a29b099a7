/* SPDX-License-Identifier: MIT
 *
 * Q8_0 with sixteen rows side by side x int8: layout, packing and the specification.
 *
 * For weights that are copied at load anyway (the q8 head): what a kernel would transpose for every
 * token is transposed once, and a thread reads one stream. Sixteen rows are a group, as long as
 * sixteen Q8_0 rows; block k of 32 columns of a group:
 *
 *   | 16 scales, f16 | row 0: columns 0-3 | row 1: 0-3 | ... | row 15: 0-3 | row 0: 4-7 | ... |
 *     32 bytes         8 x 64 bytes: dword j of sixteen rows
 *
 * Rows past the end of the last group are zero. Sums are those of Q8_0 (b32_c.c), in its order: the
 * same bits.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

#include <assert.h>
#include <math.h>

enum { SIDE = KERN_Q8X16_ROWS, BLOCK = 34 * SIDE /* bytes of a block of a group */ };

size_t kern_q8x16_bytes(size_t rows, size_t cols) {
    return (rows + SIDE - 1) / SIDE * (cols / 32) * BLOCK;
}

void kern_q8x16_pack(uint8_t *group, const uint8_t *rows, size_t n_rows, size_t cols) {
    const size_t n_k = cols / 32;
    for (size_t k = 0; k < n_k; k++, group += BLOCK)
        for (size_t i = 0; i < SIDE; i++) {
            static const uint8_t none[34] = {0};
            const uint8_t *block = i < n_rows ? rows + (i * n_k + k) * 34 : none;
            memcpy(group + 2 * i, block, 2);
            for (size_t j = 0; j < 8; j++)
                memcpy(group + 2 * SIDE + (j * SIDE + i) * 4, block + 2 + 4 * j, 4);
        }
}

static int32_t dot32(const uint8_t *block, size_t i, const int8_t *q) {
    int32_t sum = 0;
    for (size_t j = 0; j < 32; j++)
        sum += (int8_t)block[2 * SIDE + (j / 4 * SIDE + i) * 4 + j % 4] * q[j];
    return sum;
}

static void mm_q8x16_c(float *y, size_t ldy, const kern_mat *w, const kern_act *x, size_t row_begin,
                       size_t row_end) {
    const size_t n_k = w->cols / 32;
    assert(row_begin % SIDE == 0);
    for (size_t r = row_begin; r < row_end; r++)
        for (size_t b = 0; b < x->n_tok; b++) {
            const uint8_t *block = w->data + r / SIDE * n_k * BLOCK;
            float acc = 0;
            for (size_t k = 0; k < n_k; k++, block += BLOCK) {
                uint16_t half;
                memcpy(&half, block + 2 * (r % SIDE), 2);
                acc = fmaf((float)dot32(block, r % SIDE, x->q + b * x->ldq + 32 * k),
                           quant_f16_to_f32(half) * x->s[b * (x->ldq / 32) + k], acc);
            }
            y[b * ldy + r] = acc;
        }
}

void kern_fill_q8x16_c(kern *k) { k->mm_q8x16 = mm_q8x16_c; }
