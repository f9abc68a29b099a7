/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with AVX-512 VNNI; meanings in t2_c.c, the T2 block in kern_internal.h.
 *
 * Codes (0, 1, 2 = value + 1) are the unsigned operand of the dot product, activations the signed
 * one; the sum of the activations is subtracted once per row and token.
 *
 * Dot form, up to eight tokens: one row after another, so that a thread reads its weights as one
 * linear stream, prefetched 12 KB ahead across the ends of rows. No shifts: the four masked copies
 *
 *   v & 03h, v & 0Ch, v & 30h, v & C0h    of 64 weight bytes = two blocks = 256 columns
 *
 * feed four accumulators that hold 1x, 4x, 16x and 64x the sum of their columns. A 64-byte load
 * spans two blocks, so the activations are copied once per call into the order
 *
 *   | 32 f .. 32 f + 31 of block 2i | the same of block 2i + 1 |   f = 0 (bits 7-6), 1, 2, 3
 *
 * Tile form, more tokens: 64 rows x 512 columns are unpacked to bytes (32 KB of stack, first-level
 * cache) with the lane as the row, and four such vectors meet six tokens in 24 accumulators:
 *
 *   tile   byte ((k * 4 + v) * 16 + r) * 4 + i = code of row 16 v + r, column 4 k + i
 *
 * While columns are cut into chunks, y holds the integer sums; at the end they become floats.
 * Bounds: a lane of the C0h accumulator grows by at most 192 * 128 * 4 = 98,304 a step and a chunk
 * of the dot form has at most 128 steps; the total is bounded in t2_c.c. Per output: cols / 4 bytes
 * of weights from memory (dot form), once per call (tile form).
 */
#include <assert.h>
#include <immintrin.h>

#include "kern/x86/reduce_avx512.h"
#include "kern/x86/t2_avx512.h"

enum {
    DOT_TOKENS = 4,    /* tokens that share a masked weight: 16 accumulators */
    DOT_MOST = 8,      /* most tokens of the dot form */
    DOT_BYTES = 32768, /* activations copied at once, all tokens of a call together */
    AHEAD = 12288,     /* prefetch distance, bytes */
    TILE_ROWS = 64,    /* four vectors of rows */
    TILE_COLS = 512,   /* columns of an unpacked tile */
    TILE_TOKENS = 6    /* with four vectors of rows: 24 accumulators */
};

/* ==== Dot form ================================================================================ */

/* Columns of one chunk in the order of the weight bytes; an odd last block stands beside zeros. */
static void permute(int8_t *dst, const int8_t *q, size_t n_blocks) {
    for (size_t i = 0; i < n_blocks; i += 2, q += 256)
        for (size_t f = 0; f < 4; f++, dst += 64) {
            __m256i lo = _mm256_loadu_si256((const __m256i *)(q + 32 * f)),
                    hi = _mm256_setzero_si256();
            if (i + 1 < n_blocks) hi = _mm256_loadu_si256((const __m256i *)(q + 128 + 32 * f));
            _mm256_store_si256((__m256i *)dst, lo);
            _mm256_store_si256((__m256i *)(dst + 32), hi);
        }
}

typedef struct dot_job {
    size_t ldy;        /* floats between tokens of y */
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    int8_t *q;         /* DOT_BYTES for the chunk's activations, permuted */
    size_t stride;     /* bytes between tokens of q */
    part p;            /* columns */
} dot_job;

typedef struct row_sums {
    __m512i t[DOT_TOKENS][ROWS]; /* sixteen partial sums of each token and row */
} row_sums;

/* One row, whose bytes of this chunk start at w, and t tokens from b on. */
INLINE void dot_row(const int t, row_sums *out, size_t row, const uint8_t *w, const dot_job *j,
                    size_t b) {
    const size_t stride = j->stride, n_blocks = j->p.n_blocks;
    const int8_t *x = j->q + b * stride;
    const __m512i m0 = _mm512_set1_epi8((char)0xC0), m1 = _mm512_set1_epi8(0x30);
    const __m512i m2 = _mm512_set1_epi8(0x0C), m3 = _mm512_set1_epi8(0x03);
    __m512i a0[DOT_TOKENS], a1[DOT_TOKENS], a2[DOT_TOKENS], a3[DOT_TOKENS];
#pragma GCC unroll 4
    for (int i = 0; i < t; i++) a0[i] = a1[i] = a2[i] = a3[i] = _mm512_setzero_si512();
    for (size_t i = 0; i < n_blocks; i += 2, w += 64, x += 256) {
        __m512i v = i + 1 < n_blocks
                        ? _mm512_loadu_si512(w)
                        : _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)w));
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        __m512i v0 = _mm512_and_si512(v, m0), v1 = _mm512_and_si512(v, m1);
        __m512i v2 = _mm512_and_si512(v, m2), v3 = _mm512_and_si512(v, m3);
#pragma GCC unroll 4
        for (int k = 0; k < t; k++) {
            const int8_t *xk = x + (size_t)k * stride;
            a0[k] = _mm512_dpbusd_epi32(a0[k], v0, _mm512_load_si512(xk));
            a1[k] = _mm512_dpbusd_epi32(a1[k], v1, _mm512_load_si512(xk + 64));
            a2[k] = _mm512_dpbusd_epi32(a2[k], v2, _mm512_load_si512(xk + 128));
            a3[k] = _mm512_dpbusd_epi32(a3[k], v3, _mm512_load_si512(xk + 192));
        }
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 4
    for (int k = 0; k < t; k++) __asm__("" : "+v"(a0[k]), "+v"(a1[k]), "+v"(a2[k]), "+v"(a3[k]));
#pragma GCC unroll 4
    for (int k = 0; k < t; k++) {
        __m512i high = _mm512_add_epi32(_mm512_srai_epi32(a0[k], 6), _mm512_srai_epi32(a1[k], 4));
        __m512i low = _mm512_add_epi32(_mm512_srai_epi32(a2[k], 2), a3[k]);
        out->t[k][row] = _mm512_add_epi32(high, low);
    }
}

/* Rows [r, r + n) against t tokens from b on; the weights of the second group of tokens are found
 * in the first-level cache. */
INLINE void dot_group(const int t, float *y, const dot_job *j, size_t r, size_t n, size_t b) {
    row_sums sums;
    for (size_t i = 0; i < n; i++)
        dot_row(t, &sums, i, j->w->data + (r + i) * j->w->row_bytes + j->p.block * 32, j, b);
    for (size_t k = 0; k < (size_t)t; k++) {
        float *at = y + (b + k) * j->ldy + r;
        const __mmask16 m = first_rows(n);
        __m512i d = reduce_rows(sums.t[k]);
        if (!j->p.first) d = _mm512_add_epi32(d, _mm512_maskz_loadu_epi32(m, at));
        if (j->p.last)
            put_rows(at, d, j->w, j->x, r, b + k, m, common_factor(j->w, j->x, b + k));
        else
            _mm512_mask_storeu_epi32(at, m, d);
    }
}

#define DOT_GROUP_FN(t)                                                                            \
    static __attribute__((noinline)) void dot_##t(float *y, const dot_job *j, size_t r, size_t n,  \
                                                  size_t b) {                                      \
        dot_group(t, y, j, r, n, b);                                                               \
    }
DOT_GROUP_FN(1)
DOT_GROUP_FN(2)
DOT_GROUP_FN(3)
DOT_GROUP_FN(4)

static void dot_rows(float *y, dot_job *j, size_t begin, size_t end) {
    static void (*const group[])(float *, const dot_job *, size_t, size_t, size_t) = {dot_1, dot_2,
                                                                                      dot_3, dot_4};
    const kern_act *x = j->x;
    const size_t blocks = (j->w->cols + 127) / 128,
                 most = DOT_BYTES / 128 / (x->n_tok + x->n_tok % 2);
    for (part *p = &j->p; p->block < blocks; p->block += p->n_blocks) {
        p->n_blocks = blocks - p->block < most ? blocks - p->block : most / 2 * 2;
        p->first = p->block == 0;
        p->last = p->block + p->n_blocks == blocks;
        j->stride = (p->n_blocks + 1) / 2 * 256;
        for (size_t b = 0; b < x->n_tok; b++)
            permute(j->q + b * j->stride, x->q + b * x->ldq + p->block * 128, p->n_blocks);
        for (size_t r = begin; r < end; r += ROWS) {
            const size_t n = end - r < ROWS ? end - r : ROWS;
            for (size_t b = 0, t; b < x->n_tok; b += t) {
                t = x->n_tok - b < DOT_TOKENS ? x->n_tok - b : DOT_TOKENS;
                group[t - 1](y, j, r, n, b);
            }
        }
    }
}

static void gemv_t2_i8_avx512vnni(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                                  size_t row_begin, size_t row_end) {
    _Alignas(64) int8_t q[DOT_BYTES];
    dot_job j = {.ldy = ldy, .w = w, .x = x, .q = q};
    assert(x->n_tok <= DOT_MOST);
    dot_rows(y, &j, row_begin, row_end);
}

static void gemm_t2_i8_avx512vnni(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                                  size_t row_begin, size_t row_end) {
    if (x->n_tok <= DOT_MOST)
        gemv_t2_i8_avx512vnni(y, ldy, w, x, row_begin, row_end);
    else
        t2_tiles_avx512vnni(y, ldy, w, x, row_begin, row_end);
}

void kern_fill_t2_avx512vnni(kern *k) {
    k->gemv_t2_i8 = gemv_t2_i8_avx512vnni;
    k->gemm_t2_i8 = gemm_t2_i8_avx512vnni;
}
