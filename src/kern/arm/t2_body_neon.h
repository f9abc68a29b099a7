/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 in NEON registers, all but the sums of a pair of rows, which the file of each
 * instruction set defines before including this (NAME, pair_sums).
 *
 * Rows go in pairs and tokens in fours, so that eight dot products share four loads of activations;
 * one row and one token is the decode case, which reads weights as one linear stream. For many
 * tokens, 32 rows (20 KB at 2,560 columns) stay in the first-level cache while the tokens pass.
 * A 16-byte load is half a block: field f (bits 7-6 first) meets columns 32 f + 16 h and on.
 * Codes 0, 1, 2 are multiplied; the sum of the activations is subtracted at the end.
 */
#include "kern/kern_internal.h"

enum { ROW_BLOCK = 32 /* rows that stay in a cache while the tokens pass */ };

INLINE void pair_tokens(const int rows, const int t, float *y, size_t ldy, const operands *o) {
    const kern_mat *w = o->w;
    const kern_act *x = o->x;
    int32_t d[2][4];
    pair_sums(rows, t, d, o);
    for (size_t i = 0; i < (size_t)rows; i++)
        for (size_t k = 0; k < (size_t)t; k++)
            y[(o->b + k) * ldy + o->r + i] =
                (float)(d[i][k] - x->sum[o->b + k]) * t2_factor(w, x, o->r + i, o->b + k);
}

#define PAIR_FN(name, rows, t)                                                                     \
    static __attribute__((noinline)) void name(float *y, size_t ldy, const operands *o) {          \
        pair_tokens(rows, t, y, ldy, o);                                                           \
    }
PAIR_FN(one_by_one, 1, 1)
PAIR_FN(one_by_four, 1, 4)
PAIR_FN(two_by_one, 2, 1)
PAIR_FN(two_by_four, 2, 4)

static void NAME(gemv_t2_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    for (operands o = {.w = w, .x = x, .r = row_begin}; o.r < row_end; o.r++)
        for (o.b = 0; o.b < x->n_tok; o.b++) one_by_one(y, ldy, &o);
}

static void NAME(gemm_t2_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    if (x->n_tok == 1) {
        NAME(gemv_t2_i8)(y, ldy, w, x, row_begin, row_end);
        return;
    }
    for (size_t r0 = row_begin; r0 < row_end; r0 += ROW_BLOCK) {
        const size_t r1 = r0 + ROW_BLOCK < row_end ? r0 + ROW_BLOCK : row_end;
        for (size_t b = 0, t; b < x->n_tok; b += t) {
            t = x->n_tok - b >= 4 ? 4 : 1;
            operands o = {.w = w, .x = x, .r = r0, .b = b};
            for (; o.r + 2 <= r1; o.r += 2) (t == 4 ? two_by_four : two_by_one)(y, ldy, &o);
            if (o.r < r1) (t == 4 ? one_by_four : one_by_one)(y, ldy, &o);
        }
    }
}

void NAME(kern_fill_t2)(kern *k) {
    k->gemv_t2_i8 = NAME(gemv_t2_i8);
    k->gemm_t2_i8 = NAME(gemm_t2_i8);
}
