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
    _Alignas(64) float w[32];         /* weights, zero past the end of the row; then in steps */
    _Alignas(64) int32_t code[32];    /* 0 … 255 */
    _Alignas(64) uint8_t c[32];       /* the codes as bytes */
    _Alignas(64) float sum[SUMS][16]; /* squares so far, in row steps */
} head_block;

/* Bits of the largest magnitude: they order floats, and not-a-number above all. */
static uint32_t largest_bits(const float *w, size_t n) {
    uint32_t lane[16] = {0}, most = 0, bits[16];
    size_t i = 0;
    for (const size_t whole = n & ~(size_t)15; i < whole; i += 16) {
        memcpy(bits, w + i, sizeof bits);
        for (int l = 0; l < 16; l++) {
            const uint32_t b = bits[l] & 0x7FFFFFFF;
            lane[l] = b > lane[l] ? b : lane[l];
        }
    }
    for (; i < n; i++) {
        memcpy(bits, w + i, 4);
        lane[0] = (bits[0] & 0x7FFFFFFF) > lane[0] ? bits[0] & 0x7FFFFFFF : lane[0];
    }
    for (int l = 0; l < 16; l++) most = lane[l] > most ? lane[l] : most;
    return most;
}

static float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Codes of one block. */
static void block_codes(head_block *k, float inverse) {
    for (int i = 0; i < 32; i++) {
        k->w[i] *= inverse;
        int32_t c = (int32_t)(k->w[i] + 128.0f);
        c = c < 255 ? c : 255;
        k->code[i] = c > 0 ? c : 0;
    }
    for (int i = 0; i < 32; i++) k->c[i] = (uint8_t)k->code[i];
}

static inline float square(float x) { return x * x; }

/* Adds the squares of what each stage leaves over: the value less the middle of what its bits leave
 * open. */
static void block_errors(head_block *k, float weight) {
    for (int i = 0; i < 16; i++) {
        const int32_t c = k->code[i], d = k->code[i + 16];
        const float t = k->w[i], u = k->w[i + 16];
#define LEAVES(s, mask, middle)                                                                    \
    k->sum[s][i] += weight * (square(t - ((float)(c & (mask)) - (middle))) +                       \
                              square(u - ((float)(d & (mask)) - (middle))))
        LEAVES(0, 0xF0, 120.0f);
        LEAVES(1, 0xF8, 124.0f);
        LEAVES(2, 0xFC, 126.0f);
        LEAVES(3, 0xFE, 127.0f);
        LEAVES(4, 0xFF, 127.5f);
#undef LEAVES
        k->sum[5][i] += weight * (t * t + u * u);
    }
}

/* The top bit of every byte of v, as eight bits. */
static inline uint32_t top_bits(uint64_t v) {
    return (uint32_t)((v >> 7 & 0x0101010101010101u) * 0x0102040810204080u >> 56);
}

static void block_store(const kern_planes *p, const head_block *k, size_t r, size_t b, int scale) {
    const size_t lane = r % KERN_HEAD_GROUP;
    uint8_t *chunk =
        p->coarse + r / KERN_HEAD_GROUP * kern_planes_group_bytes(p) + b / 4 * HEAD_CHUNK_BYTES;
    uint8_t *to = chunk + 64 + b % 4 * 256 + lane * 4;
    chunk[b % 4 * 16 + lane] = (uint8_t)scale;
    p->scale[r * (p->ldc / 32) + b] = (uint8_t)scale;
    for (int t = 0; t < 4; t++) {
        uint32_t first, second;
        memcpy(&first, k->c + 8 * t, 4);
        memcpy(&second, k->c + 8 * t + 4, 4);
        first = (first >> 4 & 0x0F0F0F0F) | (second & 0xF0F0F0F0);
        memcpy(to + 64 * t, &first, 4);
    }
    for (int plane = 0; plane < 4; plane++) {
        uint8_t *bits = p->bits[plane] + r * (p->ldc / 8) + 4 * b;
        for (int i = 0; i < 4; i++) {
            uint64_t eight;
            memcpy(&eight, k->c + 8 * i, 8);
            bits[i] = (uint8_t)top_bits(eight << (4 + plane));
        }
    }
}

/* The row's step: 255 of them times 128 reach its largest weight; 16 significant bits. */
static float row_step(float most) {
    float d = fmaxf(most / (255.0f * 128.0f), 0x1p-100f);
    uint32_t bits;
    memcpy(&bits, &d, 4);
    return of_bits((bits + 0xFF) & ~0xFFu);
}

/* Lengths from the sums of squares; scales: sum of 32 scale^2. */
static void row_lengths(const kern_planes *p, const head_block *k, size_t r, float step,
                        double scales) {
    const double up = 1 + (double)(p->ldc / 32 + 64) * 0x1p-22, blur = 0x1p-14 * sqrt(scales);
    double length[SUMS];
    for (int s = 0; s < SUMS; s++) {
        double sum = 0;
        for (int i = 0; i < 16; i++) sum += (double)k->sum[s][i];
        length[s] = (double)step * (sqrt(sum) * up + blur) * up;
    }
    const double norm = length[5] + length[0];
    const bool bounded = norm < 1e15;
    p->step[r] = bounded ? step : 0;
    p->norm[r] = bounded ? (float)norm : 0;
    for (int s = 0; s < KERN_HEAD_STAGES; s++)
        p->error[s][r] = bounded ? (float)length[s] : INFINITY;
}

static void NAME(head_pack)(const kern_planes *p, const float *w, size_t r) {
    head_block k = {.w = {0}};
    double scales = 0;
    const uint32_t most = largest_bits(w, p->cols);
    const bool finite = most < 0x7F800000;
    const float step = row_step(finite ? of_bits(most) : 0);
    for (size_t b = 0; b < p->ldc / 32; b++) {
        const size_t left = finite && p->cols > 32 * b ? p->cols - 32 * b : 0;
        if (left < 32) memset(k.w, 0, sizeof k.w);
        memcpy(k.w, w + 32 * b, (left < 32 ? left : 32) * sizeof *w);
        const float share = of_bits(largest_bits(k.w, 32)) / (128.0f * step);
        int scale = (int)share;
        scale += (float)scale < share;
        scale = scale < 255 ? scale : 255;
        const float weight = (float)(scale * scale);
        block_codes(&k, scale ? 1.0f / (step * (float)scale) : 0.0f);
        block_errors(&k, weight);
        block_store(p, &k, r, b, scale);
        scales += 32 * (double)weight;
    }
    row_lengths(p, &k, r, step, finite ? scales : INFINITY);
}
