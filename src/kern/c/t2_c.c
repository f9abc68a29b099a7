/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8, the specification.
 *
 * y[b, r] = D * (w_scale / s_b),  D = sum over c of t[r, c] * q[b, c] in int32.
 * |D| <= K * 128: exact for K up to 16,777,215; as a float it is exact below 2^24 (K <= 131,072).
 * W: [rows, K] in T2 (kern_internal.h draws a block); padding columns have q = 0.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

enum { TILE = 8 }; /* tokens that share one unpacked block */

static void tile_row(int32_t *d, const uint8_t *row, const kern_act *x, size_t b0, size_t n,
                     size_t cols) {
    for (size_t i = 0; i < n; i++) d[i] = 0;
    for (size_t c = 0; c < cols; c += 128) {
        int8_t t[128];
        t2_block_values(row + c / 4, t);
        for (size_t i = 0; i < n; i++) {
            const int8_t *q = x->q + (b0 + i) * x->ldq + c;
            int32_t sum = 0;
            for (int j = 0; j < 128; j++) sum += t[j] * q[j];
            d[i] += sum;
        }
    }
}

static void mm_t2_i8_c(float *y, size_t ldy, const kern_mat *w, const kern_act *x, size_t row_begin,
                       size_t row_end) {
    for (size_t b0 = 0; b0 < x->n_tok; b0 += TILE) {
        size_t n = BASE_MIN(x->n_tok - b0, (size_t)TILE);
        for (size_t r = row_begin; r < row_end; r++) {
            int32_t d[TILE];
            tile_row(d, w->data + r * w->row_bytes, x, b0, n, w->cols);
            for (size_t i = 0; i < n; i++)
                y[(b0 + i) * ldy + r] = (float)d[i] * t2_factor(w, x, r, b0 + i);
        }
    }
}

void kern_fill_t2_c(kern *k) {
    k->gemv_t2_i8 = mm_t2_i8_c;
    k->gemm_t2_i8 = mm_t2_i8_c;
}
