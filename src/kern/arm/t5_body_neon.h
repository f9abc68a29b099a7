/* SPDX-License-Identifier: MIT
 *
 * T5 (1.6 bits a weight) x int8 in NEON registers, all but the dot product of four columns, which
 * the file of each instruction set defines before including this (NAME, dot4). quant/t5.c draws the
 * layout and the meaning of a byte; t5_c.c is the specification.
 *
 * A chunk of 64 bytes is four registers of four rows x 20 columns, a row in each lane. Both tables
 * have 64 entries: one instruction looks up in four registers. Digits 0, 1, 2 are multiplied; the
 * sum of the activations is subtracted at the end. Tokens go in fours, which share decoded digits.
 */
#include "kern/kern_internal.h"

enum { CHUNK = 64 /* bytes */, TOKENS = 4 };

typedef struct job {
    size_t ldy;               /* floats between tokens of y */
    const kern_mat *w;        /* weights */
    const kern_act *x;        /* activations */
    size_t begin, end;        /* rows wanted */
    size_t b;                 /* first token */
    const int8_t (*rest)[32]; /* of each token: activations past the last whole chunk, and zeros */
    uint8x16x4_t low, high;   /* tables */
} job;

/* Four rows of a chunk: digits 0 … 4 of each byte. */
INLINE void digits_of(int8x16_t d[5], uint8x16_t b, const job *j) {
    const uint8x16_t three = vdupq_n_u8(3);
    uint8x16_t low = vqtbl4q_u8(j->low, vandq_u8(b, vdupq_n_u8(63)));
    uint8x16_t high = vqtbl4q_u8(j->high, vshrq_n_u8(b, 2)), both = veorq_u8(low, high);
    d[0] = vreinterpretq_s8_u8(vshrq_n_u8(high, 6));
    d[1] = vreinterpretq_s8_u8(vshrq_n_u8(low, 6));
    d[2] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(both, 4), three));
    d[3] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(both, 2), three));
    d[4] = vreinterpretq_s8_u8(vandq_u8(both, three));
}

/* s[token][four rows] of one chunk at w; activations at q, stride bytes between tokens. */
INLINE void chunk_sums(const int t, int32x4_t s[TOKENS][4], const uint8_t *w, const int8_t *q,
                       size_t stride, const job *j) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        int8x16_t d[5];
        digits_of(d, vld1q_u8(w + 16 * v), j);
#pragma GCC unroll 4
        for (int k = 0; k < t; k++)
#pragma GCC unroll 5
            for (int f = 0; f < 5; f++) {
                int32_t four;
                memcpy(&four, q + (size_t)k * stride + 4 * f, 4);
                s[k][v] = dot4(s[k][v], d[f], vreinterpretq_s8_s32(vdupq_n_s32(four)));
            }
    }
}

/* The group whose first row is r against t tokens from j->b on. */
INLINE void group_sums(const int t, float *y, size_t r, const job *j) {
    const kern_mat *w = j->w;
    const kern_act *x = j->x;
    const uint8_t *p = w->data + r * w->row_bytes;
    const int8_t *q = x->q + j->b * x->ldq;
    int32x4_t s[TOKENS][4];
    for (int k = 0; k < t; k++)
        for (int v = 0; v < 4; v++) s[k][v] = vdupq_n_s32(0);
    for (size_t n = w->cols / QUANT_T5_COLS; n > 0; n--, p += CHUNK, q += QUANT_T5_COLS) {
        __builtin_prefetch(p + 4096);
        chunk_sums(t, s, p, q, x->ldq, j);
    }
    if (w->cols % QUANT_T5_COLS) chunk_sums(t, s, p, j->rest[j->b], sizeof *j->rest, j);
    for (size_t k = 0; k < (size_t)t; k++) {
        int32_t d[QUANT_T5_ROWS];
        for (int v = 0; v < 4; v++) vst1q_s32(d + 4 * v, s[k][v]);
        for (size_t i = 0; i < QUANT_T5_ROWS; i++)
            if (r + i >= j->begin && r + i < j->end)
                y[(j->b + k) * j->ldy + r + i] =
                    (float)(d[i] - x->sum[j->b + k]) * t2_factor(w, x, r + i, j->b + k);
    }
}

static __attribute__((noinline)) void group_one(float *y, size_t r, const job *j) {
    group_sums(1, y, r, j);
}
static __attribute__((noinline)) void group_four(float *y, size_t r, const job *j) {
    group_sums(TOKENS, y, r, j);
}

enum { MOST = 64 /* tokens whose last activations are copied at once */ };

static void NAME(gemm_t5_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    const size_t at = w->cols / QUANT_T5_COLS * QUANT_T5_COLS;
    for (size_t b0 = 0; b0 < x->n_tok; b0 += MOST) {
        int8_t rest[MOST][32] = {{0}};
        kern_act part = *x; /* tokens from b0 on */
        part.q += b0 * x->ldq, part.s += b0, part.sum += b0;
        part.n_tok = x->n_tok - b0 < MOST ? x->n_tok - b0 : MOST;
        for (size_t b = 0; b < part.n_tok; b++)
            memcpy(rest[b], part.q + b * x->ldq + at, w->cols - at);
        job j = {.ldy = ldy,
                 .w = w,
                 .x = &part,
                 .begin = row_begin,
                 .end = row_end,
                 .rest = rest,
                 .low = vld1q_u8_x4(quant_t5_low),
                 .high = vld1q_u8_x4(quant_t5_high)};
        for (size_t r = row_begin / QUANT_T5_ROWS * QUANT_T5_ROWS; r < row_end; r += QUANT_T5_ROWS)
            for (j.b = 0; j.b < part.n_tok; j.b += part.n_tok - j.b >= TOKENS ? TOKENS : 1)
                (part.n_tok - j.b >= TOKENS ? group_four : group_one)(y + b0 * ldy, r, &j);
    }
}

void NAME(kern_fill_t5)(kern *k) { k->gemv_t5_i8 = k->gemm_t5_i8 = NAME(gemm_t5_i8); }
