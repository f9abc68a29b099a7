/* SPDX-License-Identifier: MIT
 *
 * T5 (1.6 bits a weight) x int8, the specification. Same sums and same outputs, bit for bit, as
 * t2_c.c gives for the same weights; quant/t5.c draws the layout.
 *
 * W: [rows, K], groups of 16 rows. Padding rows are nobody's, padding columns meet no activation.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

enum { TILE = 8 }; /* tokens that share one unpacked chunk */

static void tile_row(int32_t *d, const kern_mat *w, size_t r, const kern_act *x, size_t b0,
                     size_t n) {
    for (size_t i = 0; i < n; i++) d[i] = 0;
    for (size_t c = 0; c < w->cols; c += QUANT_T5_COLS) {
        int8_t t[QUANT_T5_COLS];
        const size_t cols = BASE_MIN(w->cols - c, (size_t)QUANT_T5_COLS);
        t5_chunk_values(w, r, c / QUANT_T5_COLS, t);
        for (size_t i = 0; i < n; i++) {
            const int8_t *q = x->q + (b0 + i) * x->ldq + c;
            for (size_t j = 0; j < cols; j++) d[i] += t[j] * q[j];
        }
    }
}

static void mm_t5_i8_c(float *y, size_t ldy, const kern_mat *w, const kern_act *x, size_t row_begin,
                       size_t row_end) {
    for (size_t b0 = 0; b0 < x->n_tok; b0 += TILE) {
        size_t n = BASE_MIN(x->n_tok - b0, (size_t)TILE);
        for (size_t r = row_begin; r < row_end; r++) {
            int32_t d[TILE];
            tile_row(d, w, r, x, b0, n);
            for (size_t i = 0; i < n; i++)
                y[(b0 + i) * ldy + r] = (float)d[i] * t2_factor(w, x, r, b0 + i);
        }
    }
}

void kern_fill_t5_c(kern *k) {
    k->gemv_t5_i8 = mm_t5_i8_c;
    k->gemm_t5_i8 = mm_t5_i8_c;
}
