/* SPDX-License-Identifier: MIT
 *
 * The staged output head in plain C: the specification of its kernels. Layout and bounds: head.c.
 *
 * screen: for each block the exact sum of (2 c' - 15) x', c' the upper four bits; blocks are added
 * one after another into one float per row by fused multiply-add with the block's scale; then
 * times 8 D and the step of x.
 * refine: the exact sum of u * (bit ? x' : -x') over the whole row, rounded once to float, times
 * (4, 2, 1, 1/2) D and the step of x, added to the score by fused multiply-add.
 */
#define NAME(x) x##_c
#include "kern/head_pack.h"

static float screen_row(const kern_planes *p, const kern_x16 *x, size_t r) {
    const uint8_t *chunk = p->coarse + r / KERN_HEAD_GROUP * kern_planes_group_bytes(p);
    const size_t lane = r % KERN_HEAD_GROUP;
    float acc = 0;
    for (size_t b = 0; b < p->ldc / 32; b++) {
        const uint8_t *at = chunk + b / 4 * HEAD_CHUNK_BYTES;
        const uint8_t *w = at + 64 + b % 4 * 256 + lane * 4;
        const int16_t *v = x->x + 32 * b;
        int32_t dot = 0;
        for (int t = 0; t < 4; t++)
            for (int i = 0; i < 4; i++) {
                dot += (w[64 * t + i] & 15) * v[8 * t + i];
                dot += (w[64 * t + i] >> 4) * v[8 * t + 4 + i];
            }
        acc = fmaf((float)(2 * dot - x->sum15[b]), (float)at[b % 4 * 16 + lane], acc);
    }
    return acc * (p->step[r] * (8.0f * x->step));
}

static void head_screen_c(const kern_planes *p, const kern_x16 *x, size_t n_tok, size_t begin,
                          size_t end) {
    for (size_t r = begin * KERN_HEAD_GROUP; r < end * KERN_HEAD_GROUP; r++)
        for (size_t b = 0; b < n_tok; b++) x[b].y[r] = screen_row(p, &x[b], r);
}

static void head_refine_c(float *y, const kern_planes *p, const kern_x16 *x, size_t plane,
                          const uint32_t *ids, size_t n) {
    for (size_t j = 0; j < n; j++) {
        const size_t r = ids[j];
        const uint8_t *scale = p->scale + r * (p->ldc / 32);
        const uint8_t *bits = p->bits[plane] + r * (p->ldc / 8);
        int64_t sum = 0;
        for (size_t c = 0; c < p->ldc; c++) {
            int32_t v = bits[c / 8] >> c % 8 & 1 ? x->x[c] : -x->x[c];
            sum += (int32_t)scale[c / 32] * v;
        }
        y[j] = head_add(y[j], sum, p, x, plane, r);
    }
}

void kern_fill_head_c(kern *k) {
    k->head_pack = head_pack_c;
    k->head_screen = head_screen_c;
    k->head_refine = head_refine_c;
}
