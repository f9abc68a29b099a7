/* SPDX-License-Identifier: MIT
 *
 * Block formats x int8 in blocks of 32, the specification.
 *
 * A row is blocks of 32 columns, value = a * q - b (quant_unpack32); the activations of a block are
 * x = s * p. One accumulator per row, block after block:
 *   acc = fma(sum q p, a * s, acc)                       types with one scale per 32
 *   the same for each half of 16, first half first       kern_split16 types
 *   then, for types with an offset: acc = fma(sum p, -(b * s), acc), likewise per 32 or per 16.
 * |sum q p| <= 32 * 128 * 128 < 2^24: exact as a float.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

#include <math.h>

static int32_t dot16(const int8_t *a, const int8_t *b) {
    int32_t s = 0;
    for (int i = 0; i < 16; i++) s += a[i] * b[i];
    return s;
}

static float add_block(float acc, const quant_block32 *k, const int8_t *q, float s,
                       const int16_t *sum16, bool split, bool offset) {
    int32_t d0 = dot16(k->q, q), d1 = dot16(k->q + 16, q + 16);
    if (split) {
        acc = fmaf((float)d0, k->a[0] * s, acc);
        acc = fmaf((float)d1, k->a[1] * s, acc);
        if (!offset) return acc;
        acc = fmaf((float)sum16[0], -(k->b[0] * s), acc);
        return fmaf((float)sum16[1], -(k->b[1] * s), acc);
    }
    acc = fmaf((float)(d0 + d1), k->a[0] * s, acc);
    return offset ? fmaf((float)(sum16[0] + sum16[1]), -(k->b[0] * s), acc) : acc;
}

static void mm_b32_q8_c(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                        size_t row_begin, size_t row_end) {
    const bool split = kern_split16(w->type), offset = quant_has_offset(w->type);
    for (size_t r = row_begin; r < row_end; r++) {
        for (size_t b = 0; b < x->n_tok; b++) y[b * ldy + r] = 0;
        for (size_t k = 0; k < w->cols / 32; k++) {
            quant_block32 block;
            quant_unpack32(w->type, w->data + r * w->row_bytes, k, &block);
            for (size_t b = 0; b < x->n_tok; b++) {
                const size_t at = b * (x->ldq / 32) + k;
                float *acc = &y[b * ldy + r];
                *acc = add_block(*acc, &block, x->q + b * x->ldq + 32 * k, x->s[at],
                                 x->sum16 + 2 * at, split, offset);
            }
        }
    }
}

void kern_fill_b32_c(kern *k) { k->mm_b32_q8 = mm_b32_q8_c; }
