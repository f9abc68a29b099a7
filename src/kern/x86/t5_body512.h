/* SPDX-License-Identifier: MIT
 *
 * T5 (1.6 bits a weight) x int8 in 512-bit registers, all but the two table lookups, which the file
 * of each instruction set defines before including this (NAME, tables, load_tables, look_up).
 * quant/t5.c draws the layout and the meaning of a byte; t5_c.c is the specification.
 *
 * A register holds one chunk, 16 rows x 20 columns, a row in each lane of four bytes. With L and H
 * from the tables, few tokens meet the digits masked where they stand, never shifted:
 *
 *   H & C0h   L & C0h   (L ^ H) & 30h   (L ^ H) & 0Ch   (L ^ H) & 03h      64, 64, 16, 4, 1 x digit
 *
 * and are the unsigned operand of the dot product; the signed one is four activations, broadcast.
 * Sums of the same weight share an accumulator, except for one token, where that chain of additions
 * would be longer than the rest; they are shifted right and added at the end of a group. The sum of
 * the activations is subtracted once per row and token.
 *
 * Dot form, up to twelve tokens: a thread reads its groups as one linear stream, prefetched
 * ahead. From five tokens on the digits are shifted to where they are numbers: that costs four
 * shifts for all tokens, and there are not registers enough for four sums of each. Tile form, more
 * tokens (tile_body512.h): unpacking needs no transposing, as a chunk is five steps of a tile
 * already.
 *
 * Bounds: a lane of the 64x accumulator grows by at most 2 * 128 * 128 * 4 = 131,072 a chunk for
 * digits up to 2: 16,383 chunks, 327,660 columns. Columns past the end of a row: the last chunk
 * meets a copy of the activations with zeros (dot form), others the zeros behind them (tile form).
 * Per output: cols / 5 bytes of weights from memory.
 */
enum {
    CHUNK = 64,        /* bytes of a chunk of 20 columns: ROWS rows of a group */
    DOT_FEW = 4,       /* most tokens that meet digits where they stand */
    DOT_MOST = 12,     /* most tokens of the dot form */
    PIECES_AHEAD = 32, /* the same of the tile form, chunks */
    BLOCK = 320,       /* columns at whose multiples tiles begin: whole chunks, whole lines */
    ROW_UNIT = ROWS    /* rows at whose multiples they do */
};

_Static_assert((int)QUANT_T5_ROWS == (int)ROWS, "a group fills a register");

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

/* The same as numbers. */
INLINE void numbers_of(__m512i d[5], const uint8_t *w, const tables *t) {
    const __m512i three = _mm512_set1_epi8(3);
    __m512i low, high, both;
    look_up(&low, &high, _mm512_loadu_si512(w), t);
    both = _mm512_xor_si512(low, high);
    d[0] = _mm512_and_si512(_mm512_srli_epi16(high, 6), three);
    d[1] = _mm512_and_si512(_mm512_srli_epi16(low, 6), three);
    d[2] = _mm512_and_si512(_mm512_srli_epi16(both, 4), three);
    d[3] = _mm512_and_si512(_mm512_srli_epi16(both, 2), three);
    d[4] = _mm512_and_si512(both, three);
}

INLINE __m512i four_columns(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm512_set1_epi32(four);
}

/* One chunk against t tokens whose activations stand at q, stride bytes apart. Accumulators of a
 * token: 64x, 16x, 4x, 1x and, for one token, a second 64x. */
INLINE void dot_chunk(const int t, __m512i a[DOT_FEW][5], const __m512i d[5], const int8_t *q,
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
    __m512i a[DOT_FEW][5], d[5];
#pragma GCC unroll 4
    for (int k = 0; k < t; k++)
        a[k][0] = a[k][1] = a[k][2] = a[k][3] = a[k][4] = _mm512_setzero_si512();
    for (size_t n = j->whole; n > 0; n--, w += CHUNK, q += QUANT_T5_COLS) {
        prefetch_stream(w);
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
        put_rows(y + (size_t)k * j->ldy + r, _mm512_add_epi32(high, low), j->w, j->x, r, (size_t)k,
                 m, common_factor(j->w, j->x, (size_t)k));
    }
}

/* One chunk against more tokens; a second accumulator where there are few enough to wait for. */
INLINE void many_chunk(const int t, __m512i a[DOT_MOST][2], const __m512i d[5], const int8_t *q,
                       size_t stride) {
    const int second = t < 9 ? 1 : 0;
#pragma GCC unroll 12
    for (int k = 0; k < t; k++, q += stride) {
        a[k][0] = _mm512_dpbusd_epi32(a[k][0], d[0], four_columns(q));
        a[k][second] = _mm512_dpbusd_epi32(a[k][second], d[1], four_columns(q + 4));
        a[k][0] = _mm512_dpbusd_epi32(a[k][0], d[2], four_columns(q + 8));
        a[k][second] = _mm512_dpbusd_epi32(a[k][second], d[3], four_columns(q + 12));
        a[k][0] = _mm512_dpbusd_epi32(a[k][0], d[4], four_columns(q + 16));
    }
}

/* As dot_group, for more tokens. */
INLINE void dot_group_many(const int t, float *y, const dot_job *j, size_t r, __mmask16 m) {
    const tables tab = load_tables();
    const size_t ldq = j->x->ldq;
    const uint8_t *w = j->w->data + r * j->w->row_bytes;
    const int8_t *q = j->x->q;
    __m512i a[DOT_MOST][2], d[5];
#pragma GCC unroll 12
    for (int k = 0; k < t; k++) a[k][0] = a[k][1] = _mm512_setzero_si512();
    for (size_t n = j->whole; n > 0; n--, w += CHUNK, q += QUANT_T5_COLS) {
        prefetch_stream(w);
        numbers_of(d, w, &tab);
        many_chunk(t, a, d, q, ldq);
    }
#pragma GCC unroll 12
    for (int k = 0; k < t; k++) __asm__("" : "+v"(a[k][0]), "+v"(a[k][1]));
    if (j->whole * QUANT_T5_COLS < j->w->cols) {
        numbers_of(d, w, &tab);
        many_chunk(t, a, d, j->rest[0], sizeof j->rest[0]);
    }
#pragma GCC unroll 12
    for (int k = 0; k < t; k++)
        put_rows(y + (size_t)k * j->ldy + r, _mm512_add_epi32(a[k][0], a[k][1]), j->w, j->x, r,
                 (size_t)k, m, common_factor(j->w, j->x, (size_t)k));
}

#define DOT_FN(t, group)                                                                           \
    static __attribute__((noinline)) void dot_##t(float *y, const dot_job *j, size_t r,            \
                                                  __mmask16 m) {                                   \
        group(t, y, j, r, m);                                                                      \
    }
DOT_FN(1, dot_group)
DOT_FN(2, dot_group)
DOT_FN(3, dot_group)
DOT_FN(4, dot_group)
DOT_FN(5, dot_group_many)
DOT_FN(6, dot_group_many)
DOT_FN(7, dot_group_many)
DOT_FN(8, dot_group_many)
DOT_FN(9, dot_group_many)
DOT_FN(10, dot_group_many)
DOT_FN(11, dot_group_many)
DOT_FN(12, dot_group_many)

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
    static void (*const group[])(float *, const dot_job *, size_t, __mmask16) = {
        dot_1, dot_2, dot_3, dot_4, dot_5, dot_6, dot_7, dot_8, dot_9, dot_10, dot_11, dot_12};
    dot_job j = {.ldy = ldy, .w = w, .x = x, .whole = w->cols / QUANT_T5_COLS};
    const size_t at = j.whole * QUANT_T5_COLS;
    for (size_t b = 0; b < x->n_tok; b++) memcpy(j.rest[b], x->q + b * x->ldq + at, w->cols - at);
    for (size_t r = row_begin / ROWS * ROWS; r < row_end; r += ROWS)
        group[x->n_tok - 1](y, &j, r, wanted(r, row_begin, row_end));
}

/* ==== Tile form =============================================================================== */

/* Where the groups and pieces of a tile stand. Groups past the end repeat the last one; chunks are
 * unpacked as far as there are products. */
static void set_source(tile *t, const job *j) {
    const size_t first = t->p.block * (BLOCK / QUANT_T5_COLS);
    const size_t last_group = (j->end - 1) / ROWS * ROWS;
    for (size_t v = 0; v < VECS; v++) {
        const size_t r = t->r + v * ROWS < last_group ? t->r + v * ROWS : last_group;
        t->groups[v] = j->w->data + r * j->w->row_bytes + first * CHUNK;
    }
    t->last = (j->w->cols - 1) / QUANT_T5_COLS - first;
    t->n_pieces = (t->looks * LINE + QUANT_T5_COLS - 1) / QUANT_T5_COLS * VECS;
}

/* A piece is a chunk: five steps of one vector of the tile. The last of a row is repeated where
 * products go on past the end. */
INLINE void unpack_piece(tile *t, const tile *after) {
    const tables tab = load_tables();
    const size_t v = t->piece % VECS, k = t->piece / VECS, soon = k + PIECES_AHEAD;
    const size_t chunks = t->n_pieces / VECS;
    const uint8_t *ask =
        soon < chunks ? t->groups[v] + soon * CHUNK : after->groups[v] + (soon - chunks) * CHUNK;
    uint8_t *code = t->code + k * 5 * STEP + v * CHUNK;
    __m512i d[5];
    _mm_prefetch((const char *)ask, _MM_HINT_T1);
    numbers_of(d, t->groups[v] + (k < t->last ? k : t->last) * CHUNK, &tab);
#pragma GCC unroll 5
    for (size_t i = 0; i < 5; i++) _mm512_store_si512(code + i * STEP, d[i]);
    t->piece++;
}

#include "kern/x86/tile_body512.h"

static void NAME(gemm_t5_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    if (x->n_tok <= DOT_MOST)
        NAME(gemv_t5_i8)(y, ldy, w, x, row_begin, row_end);
    else
        run_tiles(y, ldy, w, x, row_begin, row_end);
}

void NAME(kern_fill_t5)(kern *k) {
    k->gemv_t5_i8 = NAME(gemv_t5_i8);
    k->gemm_t5_i8 = NAME(gemm_t5_i8);
}
