/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 in 256-bit registers: all but the dot products themselves, which t2_avx2.c and
 * t2_avxvnni.c define before including this (NAME, TILE_TOKENS, dot_row, tile_sums).
 *
 * Dot form, up to eight tokens: eight rows, one after another in one linear stream, then their
 * partial sums are reduced together. A 32-byte load is one block, so field f (bits 7-6 first) meets
 * columns 32 f .. 32 f + 31 as they stand. Two tokens share a load; further pairs of tokens find
 * the eight rows in the first-level cache.
 *
 * Tile form: 64 rows x 512 columns as bytes (32 KB of stack), sixteen rows at a time:
 *
 *   tile   byte (((g * 128 + k) * 2 + v) * 8 + r) * 4 + i = code of row 16 g + 8 v + r, column 4 k
 * + i
 *
 * y holds the integer sums until the last chunk of columns is in.
 */
#include "kern/kern_internal.h"
#include "kern/x86/rows256.h"

enum {
    DOT_MOST = 8,    /* most tokens of the dot form */
    TILE_ROWS = 64,  /* rows unpacked together */
    TILE_COLS = 512, /* columns of an unpacked tile */
    TILE_BLOCKS = TILE_COLS / 128,
    GROUP_BYTES = 16 * TILE_COLS /* of sixteen rows in a tile */
};

/* ==== Dot form ================================================================================ */

/* Lane i of the result is the sum of all lanes of v[i]. */
INLINE __m256i reduce_rows(const __m256i v[ROWS]) {
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}

INLINE void dot_group(const int t, float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                      const dot_place *at) {
    __m256i sums[2][ROWS], row[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    const size_t blocks = (w->cols + 127) / 128;
    for (size_t i = 0; i < ROWS; i++) {
        if (i < at->n)
            dot_row(t, row, w->data + (at->r + i) * w->row_bytes, x->q + at->b * x->ldq, x->ldq,
                    blocks);
        sums[0][i] = row[0];
        if (t == 2) sums[1][i] = row[1];
    }
    for (size_t k = 0; k < (size_t)t; k++)
        put_rows(y + (at->b + k) * ldy + at->r, reduce_rows(sums[k]), w, x,
                 (row_place){at->r, at->b + k}, first_rows(at->n));
}

static __attribute__((noinline)) void dot_one(float *y, size_t ldy, const kern_mat *w,
                                              const kern_act *x, const dot_place *at) {
    dot_group(1, y, ldy, w, x, at);
}
static __attribute__((noinline)) void dot_two(float *y, size_t ldy, const kern_mat *w,
                                              const kern_act *x, const dot_place *at) {
    dot_group(2, y, ldy, w, x, at);
}

static void NAME(gemv_t2_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    for (size_t r = row_begin; r < row_end; r += ROWS) {
        dot_place at = {.r = r, .n = row_end - r < ROWS ? row_end - r : ROWS};
        for (; at.b + 2 <= x->n_tok; at.b += 2) dot_two(y, ldy, w, x, &at);
        if (at.b < x->n_tok) dot_one(y, ldy, w, x, &at);
    }
}

/* ==== Tile form =============================================================================== */

/* v[i] dword j becomes v[j] dword i. */
INLINE void transpose8(__m256i v[8]) {
    __m256i t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2x128_si256(v[c], v[c + 4], 0x20);
        t[c + 4] = _mm256_permute2x128_si256(v[c], v[c + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) v[i] = t[i];
}

/* Eight rows of one block to bytes, the row as the lane. */
static void unpack_rows(uint8_t *tile, const uint8_t *const rows[ROWS], size_t at) {
    const __m256i three = _mm256_set1_epi8(3);
    __m256i v[ROWS];
    for (size_t i = 0; i < ROWS; i++) v[i] = _mm256_loadu_si256((const __m256i *)(rows[i] + at));
    transpose8(v);
    for (size_t d = 0; d < 8; d++) {
        __m256i *k = (__m256i *)(tile + d * 64); /* 32 bytes for these rows, 32 for the next 8 */
        _mm256_store_si256(k, _mm256_and_si256(_mm256_srli_epi16(v[d], 6), three));
        _mm256_store_si256(k + 16, _mm256_and_si256(_mm256_srli_epi16(v[d], 4), three));
        _mm256_store_si256(k + 32, _mm256_and_si256(_mm256_srli_epi16(v[d], 2), three));
        _mm256_store_si256(k + 48, _mm256_and_si256(v[d], three));
    }
}

typedef struct tile_job {
    float *y;               /* of row r, token 0 */
    size_t ldy;             /* floats between tokens */
    const kern_mat *w;      /* weights */
    const kern_act *x;      /* activations */
    size_t r, n;            /* first row, rows that exist */
    size_t block, n_blocks; /* first block of 128 columns, and how many */
} tile_job;

/* Rows past the end repeat the last one and are never stored. */
static void unpack_tile(uint8_t *tile, const tile_job *j) {
    for (size_t v = 0; v < TILE_ROWS / ROWS && v * ROWS < (j->n + 15) / 16 * 16; v++) {
        const uint8_t *rows[ROWS];
        for (size_t i = 0; i < ROWS; i++) {
            size_t row = v * ROWS + i < j->n ? v * ROWS + i : j->n - 1;
            rows[i] = j->w->data + (j->r + row) * j->w->row_bytes + j->block * 32;
        }
        for (size_t k = 0; k < j->n_blocks; k++)
            unpack_rows(tile + v / 2 * GROUP_BYTES + v % 2 * 32 + k * 32 * 64, rows, k * 32);
    }
}

/* Sixteen rows from 16 g on against t tokens from b on, on top of the sums in y. */
INLINE void tile_tokens(const int t, const tile_job *j, const uint8_t *tile, size_t g, size_t b) {
    __m256i acc[TILE_TOKENS][2];
    const size_t left = j->n - 16 * g;
    const __m256i m0 = first_rows(left), m1 = first_rows(left > ROWS ? left - ROWS : 0);
    const int8_t *q = j->x->q + b * j->x->ldq + j->block * 128;
    float *y = j->y + b * j->ldy + 16 * g;
    tile_sums(t, acc, tile + g * GROUP_BYTES, q, j->x->ldq, j->n_blocks * 32);
#pragma GCC unroll 6
    for (int i = 0; i < t; i++, y += j->ldy) {
        if (j->block > 0) {
            acc[i][0] = _mm256_add_epi32(acc[i][0], load_sums(y, m0));
            acc[i][1] = _mm256_add_epi32(acc[i][1], load_sums(y + ROWS, m1));
        }
        store_sums(y, m0, acc[i][0]);
        store_sums(y + ROWS, m1, acc[i][1]);
    }
}

#define TILE_FN(t)                                                                                 \
    static __attribute__((noinline)) void tile_##t(const tile_job *j, const uint8_t *tile,         \
                                                   size_t g, size_t b) {                           \
        tile_tokens(t, j, tile, g, b);                                                             \
    }
TILE_FN(1)
TILE_FN(2)
TILE_FN(3)
TILE_FN(4)
#if T2_TILE_TOKENS == 6
TILE_FN(5)
TILE_FN(6)
#endif

/* The integer sums of a tile to outputs. */
static void finish_tile(const tile_job *j) {
    for (size_t b = 0; b < j->x->n_tok; b++)
        for (size_t v = 0; v < j->n; v += ROWS) {
            float *y = j->y + b * j->ldy + v;
            __m256i m = first_rows(j->n - v);
            put_rows(y, load_sums(y, m), j->w, j->x, (row_place){j->r + v, b}, m);
        }
}

static void tile_rows(tile_job *j) {
    static void (*const group[])(const tile_job *, const uint8_t *, size_t, size_t) = {
        tile_1,
        tile_2,
        tile_3,
        tile_4,
#if T2_TILE_TOKENS == 6
        tile_5,
        tile_6
#endif
    };
    _Alignas(32) uint8_t tile[TILE_ROWS * TILE_COLS];
    const size_t blocks = (j->w->cols + 127) / 128, n_tok = j->x->n_tok;
    for (; j->block < blocks; j->block += j->n_blocks) {
        j->n_blocks = blocks - j->block < TILE_BLOCKS ? blocks - j->block : TILE_BLOCKS;
        unpack_tile(tile, j);
        for (size_t b = 0, t; b < n_tok; b += t) {
            t = n_tok - b < TILE_TOKENS ? n_tok - b : TILE_TOKENS;
            for (size_t g = 0; g * 16 < j->n; g++) group[t - 1](j, tile, g, b);
        }
    }
    finish_tile(j);
}

static void NAME(gemm_t2_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    if (x->n_tok <= DOT_MOST) {
        NAME(gemv_t2_i8)(y, ldy, w, x, row_begin, row_end);
        return;
    }
    for (size_t r = row_begin; r < row_end; r += TILE_ROWS) {
        tile_job j = {.y = y + r, .ldy = ldy, .w = w, .x = x, .r = r};
        j.n = row_end - r < TILE_ROWS ? row_end - r : TILE_ROWS;
        tile_rows(&j);
    }
}

void NAME(kern_fill_t2)(kern *k) {
    k->gemv_t2_i8 = NAME(gemv_t2_i8);
    k->gemm_t2_i8 = NAME(gemm_t2_i8);
}
