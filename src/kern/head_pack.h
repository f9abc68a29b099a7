/* SPDX-License-Identifier: MIT
 *
 * head_pack, once for every instruction set: plain C whose loops over 32 columns the compiler turns
 * into vectors. Each sum has sixteen lanes, so that every compilation adds in the same order.
 * Meaning and bounds: head.c.
 *
 * Before including: define NAME(x) as x with the instruction set's suffix.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

#include <float.h>
#include <math.h>

enum { SUMS = KERN_HEAD_STAGES + 1 }; /* squares of each stage's error, and of the row itself */

typedef struct head_block {
    _Alignas(64) float w[32];   /* weights, zero past the end of the row */
    _Alignas(64) int32_t c[32]; /* codes 0 … 255 */
    float lane[SUMS][16];       /* squares, in units of the block's step */
} head_block;

static float block_max(const float w[32]) {
    float lane[16], most = 0;
    for (int i = 0; i < 16; i++) {
        float a = fabsf(w[i]), b = fabsf(w[i + 16]);
        lane[i] = a > b ? a : b;
    }
    for (int i = 0; i < 16; i++) most = lane[i] > most ? lane[i] : most;
    return most;
}

/* Codes of one block, and the squares of what each stage leaves over. */
static void block_codes(head_block *k, float inverse) {
    for (int i = 0; i < 32; i++) {
        float t = k->w[i] * inverse;
        int32_t c = (int32_t)(t + 128.0f);
        c = c < 255 ? c : 255;
        k->c[i] = c > 0 ? c : 0;
        k->w[i] = t;
    }
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 16; i++) {
            const int32_t c = k->c[16 * h + i];
            const float t = k->w[16 * h + i];
            const float e0 = t - (float)((c & 0xF0) - 120), e1 = t - (float)((c & 0xF8) - 124);
            const float e2 = t - (float)((c & 0xFC) - 126), e3 = t - (float)((c & 0xFE) - 127);
            const float e4 = t - ((float)c - 127.5f);
            const float keep = h ? 1.0f : 0.0f;
            k->lane[0][i] = k->lane[0][i] * keep + e0 * e0;
            k->lane[1][i] = k->lane[1][i] * keep + e1 * e1;
            k->lane[2][i] = k->lane[2][i] * keep + e2 * e2;
            k->lane[3][i] = k->lane[3][i] * keep + e3 * e3;
            k->lane[4][i] = k->lane[4][i] * keep + e4 * e4;
            k->lane[5][i] = k->lane[5][i] * keep + t * t;
        }
}

static void block_store(const kern_planes *p, const head_block *k, size_t r, size_t b, int scale) {
    uint8_t *chunk =
        p->coarse + r / KERN_HEAD_GROUP * kern_planes_group_bytes(p) + b / 4 * HEAD_CHUNK_BYTES;
    uint8_t *to = chunk + 64 + b % 4 * 256 + r % KERN_HEAD_GROUP * 4;
    chunk[b % 4 * 16 + r % KERN_HEAD_GROUP] = (uint8_t)scale;
    p->scale[r * (p->ldc / 32) + b] = (uint8_t)scale;
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < 4; i++)
            to[64 * t + i] = (uint8_t)(k->c[8 * t + i] >> 4 | (k->c[8 * t + 4 + i] & 0xF0));
    for (int plane = 0; plane < 4; plane++) {
        uint32_t bits = 0;
        for (int i = 0; i < 32; i++) bits |= ((uint32_t)k->c[i] >> (3 - plane) & 1u) << i;
        memcpy(p->bits[plane] + r * (p->ldc / 8) + 4 * b, &bits, 4);
    }
}

/* The row's step: 255 of them times 128 reach its largest weight; 16 significant bits. */
static float row_step(float most) {
    float d = fmaxf(most / (255.0f * 128.0f), 0x1p-100f);
    uint32_t bits;
    memcpy(&bits, &d, 4);
    bits = (bits + 0xFF) & ~0xFFu;
    memcpy(&d, &bits, 4);
    return d;
}

static void NAME(head_pack)(const kern_planes *p, const float *w, size_t r) {
    head_block k = {.w = {0}};
    double sum[SUMS] = {0}, scales = 0;
    float most = 0;
    bool finite = true;
    for (size_t i = 0; i < p->cols; i++) {
        float a = fabsf(w[i]);
        finite &= a <= FLT_MAX;
        most = a > most ? a : most;
    }
    const float step = row_step(finite ? most : 0);
    for (size_t b = 0; b < p->ldc / 32; b++) {
        const size_t left = p->cols > 32 * b ? p->cols - 32 * b : 0;
        memset(k.w, 0, sizeof k.w);
        if (finite) memcpy(k.w, w + 32 * b, (left < 32 ? left : 32) * sizeof *w);
        const float share = block_max(k.w) / (128.0f * step);
        int scale = (int)share;
        scale = scale + ((float)scale < share) > 255 ? 255 : scale + ((float)scale < share);
        block_codes(&k, scale ? 1.0f / (step * (float)scale) : 0.0f);
        block_store(p, &k, r, b, scale);
        const double square = (double)scale * scale;
        scales += square;
        for (int s = 0; s < SUMS; s++) {
            float total = 0;
            for (int i = 0; i < 16; i++) total += k.lane[s][i];
            sum[s] += square * (double)total;
        }
    }
    const double blur = 0x1p-14 * sqrt(32 * scales), up = 1 + 0x1p-18;
    double length[SUMS];
    for (int s = 0; s < SUMS; s++) length[s] = (double)step * (sqrt(sum[s]) * up + blur) * up;
    const double norm = length[5] + length[0];
    const bool bounded = finite && norm < 1e15;
    p->step[r] = bounded ? step : 0;
    p->norm[r] = bounded ? (float)norm : 0;
    for (int s = 0; s < KERN_HEAD_STAGES; s++)
        p->error[s][r] = bounded ? (float)length[s] : INFINITY;
}
