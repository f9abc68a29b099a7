/* SPDX-License-Identifier: MIT
 *
 * T5 (1.6 bits a weight) x int8 in 512-bit registers, all but the two table lookups, which the file
 * of each instruction set defines before including this (NAME, tables, load_tables, look_up).
 * quant/t5.c draws the layout and the meaning of a byte; t5_c.c is the specification.
 *
 * A register holds one chunk, 16 rows x 20 columns, a row in each lane of four bytes. With L and H
 * from the tables, the digits are masked where they stand, never shifted:
 *
 *   H & C0h   L & C0h   (L ^ H) & 30h   (L ^ H) & 0Ch   (L ^ H) & 03h      64, 64, 16, 4, 1 x digit
 *
 * and are the unsigned operand of the dot product; the signed one is four activations, broadcast.
 * Sums of the same weight share an accumulator, except for one token, where that chain of additions
 * would be longer than the rest; they are shifted right and added at the end of a group. The sum of
 * the activations is subtracted once per row and token.
 *
 * Dot form, up to four tokens: a thread reads its groups as one linear stream, prefetched 12 KB
 * ahead. Tile form, more tokens: 64 rows x 500 columns are unpacked to bytes (32 KB of stack),
 * which needs no transposing, as a chunk is five steps of a tile already.
 *
 * Bounds: a lane of the 64x accumulator grows by at most 2 * 128 * 128 * 4 = 131,072 a chunk for
 * digits up to 2: 16,383 chunks, 327,660 columns. Columns past the end of a row: the last chunk
 * meets a copy of the activations with zeros (dot form), or its steps end with the row (tile form).
 * Per output: cols / 5 bytes of weights from memory.
 */
#include "kern/x86/tile_avx512.h"

enum {
    ROWS = 16,       /* of a group */
    CHUNK = 64,      /* bytes */
    DOT_MOST = 4,    /* most tokens of the dot form */
    AHEAD = 12288,   /* prefetch distance, bytes */
    TILE_CHUNKS = 25 /* of a tile */
};

/* ==== Dot form ================================================================================ */

/* The five digits of each byte, in their places. */
INLINE void digits_of(__m512i d[5], const uint8_t *w, const tables *t) {
    __m512i low, high;
    look_up(&low, &high, _mm512_loadu_si512(w), t);
    d[0] = _mm512_and_si512(high, _mm512_set1_epi8((char)0xC0));
    d[1] = _mm512_and_si512(low, _mm512_set1_epi8((char)0xC0));
    /* 28h: (low ^ high) & mask */
    d[2] = _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(0x30), 0x28);
    d[3] = _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(0x0C), 0x28);
    d[4] = _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(0x03), 0x28);
}

INLINE __m512i four_columns(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm512_set1_epi32(four);
}

/* One chunk against t tokens whose activations stand at q, stride bytes apart. Accumulators of a
 * token: 64x, 16x, 4x, 1x and, for one token, a second 64x. */
INLINE void dot_chunk(const int t, __m512i a[DOT_MOST][5], const __m512i d[5], const int8_t *q,
                      size_t stride) {
    const int second = t == 1 ? 4 : 0;
#pragma GCC unroll 4
    for (int k = 0; k < t; k++, q += stride) {
        a[k][0] = _mm512_dpbusd_epi32(a[k][0], d[0], four_columns(q));
        a[k][1] = _mm512_dpbusd_epi32(a[k][1], d[2], four_columns(q + 8));
        a[k][2] = _mm512_dpbusd_epi32(a[k][2], d[3], four_columns(q + 12));
        a[k][3] = _mm512_dpbusd_epi32(a[k][3], d[4], four_columns(q + 16));
        a[k][second] = _mm512_dpbusd_epi32(a[k][second], d[1], four_columns(q + 4));
    }
}

typedef struct dot_job {
    size_t ldy;                /* floats between tokens of y */
    const kern_mat *w;         /* weights */
    const kern_act *x;         /* activations */
    size_t whole;              /* chunks of 20 columns that exist */
    int8_t rest[DOT_MOST][32]; /* activations of the columns after them, and zeros */
} dot_job;

/* The group whose first row is r, of which the rows m are wanted, against all t tokens. */
INLINE void dot_group(const int t, float *y, const dot_job *j, size_t r, __mmask16 m) {
    const tables tab = load_tables();
    const size_t ldq = j->x->ldq;
    const uint8_t *w = j->w->data + r * j->w->row_bytes;
    const int8_t *q = j->x->q;
    __m512i a[DOT_MOST][5], d[5];
#pragma GCC unroll 4
    for (int k = 0; k < t; k++)
        a[k][0] = a[k][1] = a[k][2] = a[k][3] = a[k][4] = _mm512_setzero_si512();
    for (size_t n = j->whole; n > 0; n--, w += CHUNK, q += QUANT_T5_COLS) {
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        digits_of(d, w, &tab);
        dot_chunk(t, a, d, q, ldq);
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 4
    for (int k = 0; k < t; k++)
        __asm__("" : "+v"(a[k][0]), "+v"(a[k][1]), "+v"(a[k][2]), "+v"(a[k][3]), "+v"(a[k][4]));
    if (j->whole * QUANT_T5_COLS < j->w->cols) {
        digits_of(d, w, &tab);
        dot_chunk(t, a, d, j->rest[0], sizeof j->rest[0]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < t; k++) {
        __m512i high = _mm512_srai_epi32(_mm512_add_epi32(a[k][0], a[k][4]), 6);
        __m512i low = _mm512_add_epi32(_mm512_srai_epi32(a[k][2], 2), a[k][3]);
        high = _mm512_add_epi32(high, _mm512_srai_epi32(a[k][1], 4));
        tile_put(y + (size_t)k * j->ldy + r, _mm512_add_epi32(high, low), j->w, j->x,
                 (tile_place){r, (size_t)k}, m);
    }
}

#define DOT_FN(t)                                                                                  \
    static __attribute__((noinline)) void dot_##t(float *y, const dot_job *j, size_t r,            \
                                                  __mmask16 m) {                                   \
        dot_group(t, y, j, r, m);                                                                  \
    }
DOT_FN(1)
DOT_FN(2)
DOT_FN(3)
DOT_FN(4)

/* Rows of [begin, end) among r .. r + 15. */
INLINE __mmask16 wanted(size_t r, size_t begin, size_t end) {
    unsigned m = 0xFFFF;
    if (r >= end || r + ROWS <= begin) return 0;
    if (begin > r) m &= 0xFFFFu << (begin - r);
    if (end < r + ROWS) m &= 0xFFFFu >> (r + ROWS - end);
    return (__mmask16)m;
}

static void NAME(gemv_t5_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    static void (*const group[])(float *, const dot_job *, size_t, __mmask16) = {dot_1, dot_2,
                                                                                 dot_3, dot_4};
    dot_job j = {.ldy = ldy, .w = w, .x = x, .whole = w->cols / QUANT_T5_COLS};
    const size_t at = j.whole * QUANT_T5_COLS;
    for (size_t b = 0; b < x->n_tok; b++) memcpy(j.rest[b], x->q + b * x->ldq + at, w->cols - at);
    for (size_t r = row_begin / ROWS * ROWS; r < row_end; r += ROWS)
        group[x->n_tok - 1](y, &j, r, wanted(r, row_begin, row_end));
}

/* ==== Tile form =============================================================================== */

/* One chunk to five steps of a tile, 256 bytes apart. */
INLINE void unpack_chunk(uint8_t *tile, const uint8_t *w, const tables *t) {
    const __m512i three = _mm512_set1_epi8(3);
    __m512i low, high, both;
    look_up(&low, &high, _mm512_loadu_si512(w), t);
    both = _mm512_xor_si512(low, high);
    _mm512_store_si512(tile, _mm512_and_si512(_mm512_srli_epi16(high, 6), three));
    _mm512_store_si512(tile + 256, _mm512_and_si512(_mm512_srli_epi16(low, 6), three));
    _mm512_store_si512(tile + 512, _mm512_and_si512(_mm512_srli_epi16(both, 4), three));
    _mm512_store_si512(tile + 768, _mm512_and_si512(_mm512_srli_epi16(both, 2), three));
    _mm512_store_si512(tile + 1024, _mm512_and_si512(both, three));
}

/* n chunks from `chunk` on of the groups that hold rows r .. last; the next chunks of each are
 * asked for on the way. Rows past the end repeat the last group and are never stored. */
static void unpack_tile(uint8_t *tile, const kern_mat *w, size_t r, size_t last, size_t chunk,
                        size_t n) {
    const tables tab = load_tables();
    for (size_t v = 0; v < TILE_ROWS / ROWS; v++, tile += CHUNK) {
        const size_t row = r + v * ROWS <= last ? r + v * ROWS : last / ROWS * ROWS;
        const uint8_t *from = w->data + row * w->row_bytes + chunk * CHUNK;
        for (size_t k = 0; k < n; k++, from += CHUNK) {
            _mm_prefetch((const char *)from + TILE_CHUNKS * CHUNK, _MM_HINT_T1);
            unpack_chunk(tile + k * 1280, from, &tab);
        }
    }
}

/* Rows r .. r + 63, those of [begin, end) wanted. */
static void tile_rows(float *y, size_t ldy, const kern_mat *w, const kern_act *x, size_t r,
                      const size_t range[2]) {
    _Alignas(64) uint8_t tile[TILE_ROWS * TILE_CHUNKS * QUANT_T5_COLS];
    const size_t chunks = (w->cols + QUANT_T5_COLS - 1) / QUANT_T5_COLS;
    tile_job j = {.y = y + r, .ldy = ldy, .ldq = x->ldq};
    for (size_t v = 0; v < 4; v++) j.m[v] = wanted(r + v * ROWS, range[0], range[1]);
    for (size_t k = 0; k < chunks; k += TILE_CHUNKS) {
        const size_t n = chunks - k < TILE_CHUNKS ? chunks - k : TILE_CHUNKS;
        const size_t col = k * QUANT_T5_COLS;
        unpack_tile(tile, w, r, range[1] - 1, k, n);
        j.first = k == 0;
        j.q = x->q + col;
        j.steps = n * 5 < (w->cols - col + 3) / 4 ? n * 5 : (w->cols - col + 3) / 4;
        tile_tokens(&j, tile, x->n_tok);
    }
    for (size_t b = 0; b < x->n_tok; b++)
        for (size_t v = 0; v < 4; v++) {
            float *at = y + b * ldy + r + v * ROWS;
            const tile_place place = {r + v * ROWS, b};
            tile_put(at, _mm512_maskz_loadu_epi32(j.m[v], at), w, x, place, j.m[v]);
        }
}

static void NAME(gemm_t5_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    if (x->n_tok <= DOT_MOST) {
        NAME(gemv_t5_i8)(y, ldy, w, x, row_begin, row_end);
        return;
    }
    const size_t range[2] = {row_begin, row_end};
    for (size_t r = row_begin / ROWS * ROWS; r < row_end; r += TILE_ROWS)
        tile_rows(y, ldy, w, x, r, range);
}

void NAME(kern_fill_t5)(kern *k) {
    k->gemv_t5_i8 = NAME(gemv_t5_i8);
    k->gemm_t5_i8 = NAME(gemm_t5_i8);
}
