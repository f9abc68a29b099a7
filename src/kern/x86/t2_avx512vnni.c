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

#include "kern/kern_internal.h"
#include "kern/x86/reduce_avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    ROWS = 16,         /* rows reduced together */
    DOT_TOKENS = 4,    /* tokens that share a masked weight: 16 accumulators */
    DOT_MOST = 8,      /* most tokens of the dot form */
    DOT_BYTES = 32768, /* activations copied at once, all tokens of a call together */
    AHEAD = 12288,     /* prefetch distance, bytes */
    TILE_ROWS = 64,    /* four vectors of rows */
    TILE_COLS = 512,   /* columns of an unpacked tile */
    TILE_TOKENS = 6    /* with four vectors of rows: 24 accumulators */
};

/* Where a chunk of columns stands in the sum of its outputs. */
typedef struct part {
    size_t block, n_blocks; /* first block of 128 columns, and how many */
    bool first, last;       /* chunk of the row; last is used by the dot form only */
} part;

/* ==== Results ================================================================================= */

INLINE __mmask16 first_rows(size_t n) {
    return n < ROWS ? (__mmask16)((1u << n) - 1u) : (__mmask16)0xFFFF;
}

typedef struct place {
    size_t r, b; /* first row, token */
} place;

/* Outputs of one token, sixteen rows, from their integer sums d. */
INLINE void put_rows(float *y, __m512i d, const kern_mat *w, const kern_act *x, place at,
                     __mmask16 m) {
    __m512 f = _mm512_set1_ps(w->scale / x->s[at.b]);
    if (w->row_scale)
        f = _mm512_div_ps(_mm512_maskz_loadu_ps(m, w->row_scale + at.r),
                          _mm512_set1_ps(x->s[at.b]));
    d = _mm512_sub_epi32(d, _mm512_set1_epi32(x->sum[at.b]));
    _mm512_mask_storeu_ps(y, m, _mm512_mul_ps(_mm512_cvtepi32_ps(d), f));
}

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
            put_rows(at, d, j->w, j->x, (place){r, b + k}, m);
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

/* ==== Tile form =============================================================================== */

/* Sixteen rows of up to two blocks to bytes, the row as the lane. */
static void unpack_rows(uint8_t *tile, const uint8_t *const rows[ROWS], size_t at, bool two) {
    __m512i v[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        v[i] = two ? _mm512_loadu_si512(rows[i] + at)
                   : _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)(rows[i] + at)));
    transpose16(v);
    const __m512i three = _mm512_set1_epi8(3);
    for (size_t d = 0; d < (two ? 16 : 8); d++) {
        uint8_t *k = tile + (d / 8 * 32 + d % 8) * 256;
        _mm512_store_si512(k, _mm512_and_si512(_mm512_srli_epi16(v[d], 6), three));
        _mm512_store_si512(k + 8 * 256, _mm512_and_si512(_mm512_srli_epi16(v[d], 4), three));
        _mm512_store_si512(k + 16 * 256, _mm512_and_si512(_mm512_srli_epi16(v[d], 2), three));
        _mm512_store_si512(k + 24 * 256, _mm512_and_si512(v[d], three));
    }
}

/* The chunk p of rows [r, r + n); rows past the end repeat the last one and are never stored. */
static void unpack_tile(uint8_t *tile, const kern_mat *w, size_t r, size_t n, const part *p) {
    for (size_t v = 0; v < TILE_ROWS / ROWS; v++) {
        const uint8_t *rows[ROWS];
        for (size_t i = 0; i < ROWS; i++) {
            size_t row = v * ROWS + i < n ? v * ROWS + i : n - 1;
            rows[i] = w->data + (r + row) * w->row_bytes + p->block * 32;
        }
        for (size_t k = 0; k < p->n_blocks; k += 2)
            unpack_rows(tile + k * 32 * 256 + v * 64, rows, k * 32, k + 1 < p->n_blocks);
    }
}

typedef struct tile_job {
    float *y;          /* of row r, token 0 */
    size_t ldy;        /* floats between tokens */
    const kern_mat *w; /* for the scales */
    const kern_act *x; /* activations */
    size_t r, n;       /* first row, rows that exist */
    part p;            /* columns */
} tile_job;

/* t tokens from b on: sums over the chunk, on top of the integer sums that stand in y. */
INLINE void tile_tokens(const int t, const tile_job *j, const uint8_t *tile, size_t b) {
    __m512i acc[TILE_TOKENS][4];
    __mmask16 m[4];
    const size_t ldq = j->x->ldq, ldy = j->ldy;
    const int8_t *q = j->x->q + b * ldq + j->p.block * 128;
    float *y = j->y + b * ldy;
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) m[v] = first_rows(j->n > v * ROWS ? j->n - v * ROWS : 0);
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            acc[i][v] = j->p.first ? _mm512_setzero_si512()
                                   : _mm512_maskz_loadu_epi32(m[v], y + i * ldy + v * ROWS);
    for (size_t k = j->p.n_blocks * 32; k > 0; k--, tile += 256, q += 4) {
        __m512i w0 = _mm512_load_si512(tile), w1 = _mm512_load_si512(tile + 64);
        __m512i w2 = _mm512_load_si512(tile + 128), w3 = _mm512_load_si512(tile + 192);
        /* Pinned in registers: folded into the dot products they would be loaded t times. */
        __asm__("" : "+v"(w0), "+v"(w1), "+v"(w2), "+v"(w3));
#pragma GCC unroll 6
        for (size_t i = 0; i < (size_t)t; i++) {
            int32_t four;
            memcpy(&four, q + i * ldq, 4);
            __m512i c = _mm512_set1_epi32(four);
            acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], w0, c);
            acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], w1, c);
            acc[i][2] = _mm512_dpbusd_epi32(acc[i][2], w2, c);
            acc[i][3] = _mm512_dpbusd_epi32(acc[i][3], w3, c);
        }
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
        __asm__("" : "+v"(acc[i][0]), "+v"(acc[i][1]), "+v"(acc[i][2]), "+v"(acc[i][3]));
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            _mm512_mask_storeu_epi32(y + i * ldy + v * ROWS, m[v], acc[i][v]);
}

#define TILE_TOKENS_FN(t)                                                                          \
    static __attribute__((noinline)) void tile_##t(const tile_job *j, const uint8_t *tile,         \
                                                   size_t b) {                                     \
        tile_tokens(t, j, tile, b);                                                                \
    }
TILE_TOKENS_FN(1)
TILE_TOKENS_FN(2)
TILE_TOKENS_FN(3)
TILE_TOKENS_FN(4)
TILE_TOKENS_FN(5)
TILE_TOKENS_FN(6)

/* Asks for the bytes of a chunk while an earlier one is being multiplied. */
static void prefetch_rows(const kern_mat *w, size_t r, size_t n, size_t block) {
    const size_t bytes = w->row_bytes - block * 32;
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < TILE_COLS / 4 && at < bytes; at += 64)
            _mm_prefetch((const char *)w->data + (r + i) * w->row_bytes + block * 32 + at,
                         _MM_HINT_T1);
}

/* The integer sums of a tile to outputs. */
static void finish_tile(const tile_job *j) {
    for (size_t b = 0; b < j->x->n_tok; b++)
        for (size_t v = 0; v < j->n; v += ROWS) {
            float *y = j->y + b * j->ldy + v;
            __mmask16 m = first_rows(j->n - v);
            put_rows(y, _mm512_maskz_loadu_epi32(m, y), j->w, j->x, (place){j->r + v, b}, m);
        }
}

static void tile_rows(tile_job *j, size_t rows_after) {
    static void (*const group[])(const tile_job *, const uint8_t *,
                                 size_t) = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    _Alignas(64) uint8_t tile[TILE_ROWS * TILE_COLS];
    const size_t blocks = (j->w->cols + 127) / 128, most = TILE_COLS / 128, n_tok = j->x->n_tok;
    for (part *p = &j->p; p->block < blocks; p->block += p->n_blocks) {
        p->n_blocks = blocks - p->block < most ? blocks - p->block : most;
        p->first = p->block == 0;
        unpack_tile(tile, j->w, j->r, j->n, p);
        if (p->block + most < blocks)
            prefetch_rows(j->w, j->r, j->n, p->block + most);
        else
            prefetch_rows(j->w, j->r + j->n, rows_after, 0);
        for (size_t b = 0, t; b < n_tok; b += t) {
            t = n_tok - b >= 9 || n_tok - b == 6 ? 6 : n_tok - b > 6 ? 4 : n_tok - b;
            group[t - 1](j, tile, b);
        }
    }
    finish_tile(j);
}

static void gemm_t2_i8_avx512vnni(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                                  size_t row_begin, size_t row_end) {
    if (x->n_tok <= DOT_MOST) {
        gemv_t2_i8_avx512vnni(y, ldy, w, x, row_begin, row_end);
        return;
    }
    for (size_t r = row_begin; r < row_end; r += TILE_ROWS) {
        tile_job j = {.y = y + r, .ldy = ldy, .w = w, .x = x, .r = r};
        j.n = row_end - r < TILE_ROWS ? row_end - r : TILE_ROWS;
        size_t after = row_end - r - j.n;
        tile_rows(&j, after < TILE_ROWS ? after : TILE_ROWS);
    }
}

void kern_fill_t2_avx512vnni(kern *k) {
    k->gemv_t2_i8 = gemv_t2_i8_avx512vnni;
    k->gemm_t2_i8 = gemm_t2_i8_avx512vnni;
}
