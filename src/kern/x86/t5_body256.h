/* SPDX-License-Identifier: MIT
 *
 * T5 (1.6 bits a weight) x int8 in 256-bit registers, all but the sums themselves, which the file
 * of each instruction set defines before including this (NAME, sums, add_digits, widen, total,
 * WIDEN) beside its tile. quant/t5.c draws the layout and the meaning of a byte; t5_c.c is the
 * specification.
 *
 * A chunk, 16 rows x 20 columns, is two registers of eight rows. A table of 64 is four of 16, one
 * for each pair of bits 5-4 of the byte; high[] is 64 * (b / 64) below 192, and only its last 16
 * entries are looked up.
 *
 * One token: both halves of a chunk at once, one linear stream. More tokens: 16 rows x 500 columns
 * are unpacked to bytes (8 KB of stack), which needs no transposing, and all tokens pass.
 */
#include "kern/kern_internal.h"
#include "kern/x86/rows256.h"
#include "kern/x86/stream.h"

enum {
    CHUNK = 64,      /* bytes */
    TILE_CHUNKS = 25 /* of a tile */
};

typedef struct tables {
    __m256i low[4], last; /* sixteen entries each, twice over */
} tables;

INLINE __m256i sixteen(const uint8_t *p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}

/* last[] as what must be flipped in b & C0h, which is C0h wherever it is used. */
INLINE tables load_tables(void) {
    return (tables){{sixteen(quant_t5_low), sixteen(quant_t5_low + 16), sixteen(quant_t5_low + 32),
                     sixteen(quant_t5_low + 48)},
                    _mm256_xor_si256(sixteen(quant_t5_high + 48), _mm256_set1_epi8((char)0xC0))};
}

INLINE void look_up(__m256i *low, __m256i *high, const uint8_t *w, const tables *t) {
    const __m256i b = _mm256_loadu_si256((const __m256i *)w);
    const __m256i top = _mm256_set1_epi8((char)0xC0), nibble = _mm256_set1_epi8(0x0F);
    const __m256i index = _mm256_and_si256(b, nibble);
    const __m256i bit4 = _mm256_slli_epi16(b, 3), bit5 = _mm256_slli_epi16(b, 2);
    __m256i first = _mm256_blendv_epi8(_mm256_shuffle_epi8(t->low[0], index),
                                       _mm256_shuffle_epi8(t->low[1], index), bit4);
    __m256i second = _mm256_blendv_epi8(_mm256_shuffle_epi8(t->low[2], index),
                                        _mm256_shuffle_epi8(t->low[3], index), bit4);
    __m256i run = _mm256_and_si256(_mm256_srli_epi16(b, 2), nibble);
    __m256i from_192 = _mm256_cmpeq_epi8(_mm256_max_epu8(b, top), b);
    __m256i flip = _mm256_and_si256(_mm256_shuffle_epi8(t->last, run), from_192);
    *low = _mm256_blendv_epi8(first, second, bit5);
    *high = _mm256_xor_si256(_mm256_and_si256(b, top), flip);
}

/* Rows of [begin, end) among eight from r on. */
INLINE __m256i wanted(size_t r, size_t begin, size_t end) {
    __m256i before = first_rows(begin > r ? begin - r : 0);
    return _mm256_andnot_si256(before, first_rows(end > r ? end - r : 0));
}

typedef struct job {
    float *y;          /* of row 0, token 0 */
    size_t ldy;        /* floats between tokens */
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    size_t begin, end; /* rows wanted */
} job;

/* ==== One token =============================================================================== */

INLINE void one_chunk(sums *s, const uint8_t *w, const int8_t *q, const tables *t) {
    for (size_t half = 0; half < 2; half++) {
        __m256i low, high;
        look_up(&low, &high, w + 32 * half, t);
        add_digits(s, half, low, high, q);
    }
}

/* The group whose first row is r against token b; rest holds the activations past the last whole
 * chunk, and zeros. */
static __attribute__((noinline)) void one_group(const job *j, size_t r, size_t b,
                                                const int8_t *rest) {
    const tables tab = load_tables();
    const uint8_t *w = j->w->data + r * j->w->row_bytes;
    const int8_t *q = j->x->q + b * j->x->ldq;
    sums s = {0};
    for (size_t n = j->w->cols / QUANT_T5_COLS, k = 0; k < n; k++) {
        prefetch_stream(w + k * CHUNK);
        one_chunk(&s, w + k * CHUNK, q + k * QUANT_T5_COLS, &tab);
        if (k % WIDEN == WIDEN - 1) widen(&s);
    }
    widen(&s);
    if (j->w->cols % QUANT_T5_COLS)
        one_chunk(&s, w + j->w->cols / QUANT_T5_COLS * CHUNK, rest, &tab);
    widen(&s);
    for (size_t half = 0; half < 2; half++) {
        const size_t row = r + half * ROWS;
        put_rows(j->y + b * j->ldy + row, total(&s, half), j->w, j->x, (row_place){row, b},
                 wanted(row, j->begin, j->end));
    }
}

static void NAME(gemv_t5_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    const job j = {y, ldy, w, x, row_begin, row_end};
    const size_t at = w->cols / QUANT_T5_COLS * QUANT_T5_COLS;
    for (size_t b = 0; b < x->n_tok; b++) {
        int8_t rest[32] = {0};
        memcpy(rest, x->q + b * x->ldq + at, w->cols - at);
        for (size_t r = row_begin / QUANT_T5_ROWS * QUANT_T5_ROWS; r < row_end; r += QUANT_T5_ROWS)
            one_group(&j, r, b, rest);
    }
}

/* ==== More tokens ============================================================================= */

/* n chunks to five steps of a tile each, 64 bytes apart. */
static void unpack_tile(uint8_t *tile, const uint8_t *w, size_t n) {
    const tables tab = load_tables();
    const __m256i three = _mm256_set1_epi8(3);
    for (size_t k = 0; k < 2 * n; k++, w += 32) {
        __m256i low, high, *step = (__m256i *)(tile + k / 2 * 320 + k % 2 * 32);
        look_up(&low, &high, w, &tab);
        _mm_prefetch((const char *)w + TILE_CHUNKS * CHUNK, _MM_HINT_T1);
        __m256i both = _mm256_xor_si256(low, high);
        _mm256_store_si256(step, _mm256_and_si256(_mm256_srli_epi16(high, 6), three));
        _mm256_store_si256(step + 2, _mm256_and_si256(_mm256_srli_epi16(low, 6), three));
        _mm256_store_si256(step + 4, _mm256_and_si256(_mm256_srli_epi16(both, 4), three));
        _mm256_store_si256(step + 6, _mm256_and_si256(_mm256_srli_epi16(both, 2), three));
        _mm256_store_si256(step + 8, _mm256_and_si256(both, three));
    }
}

typedef struct part {
    size_t r, b, col, steps; /* first row, first token, first column, steps of four columns */
    __m256i m[2];            /* rows that are wanted */
} part;

/* Sixteen rows against t tokens, on top of the integer sums in y. */
INLINE void tile_tokens(const int t, const job *j, const uint8_t *tile, const part *p) {
    __m256i acc[TILE_TOKENS][2];
    const int8_t *q = j->x->q + p->b * j->x->ldq + p->col;
    float *y = j->y + p->b * j->ldy + p->r;
    tile_sums(t, acc, tile, q, j->x->ldq, p->steps);
#pragma GCC unroll 6
    for (int i = 0; i < t; i++, y += j->ldy)
        for (size_t half = 0; half < 2; half++) {
            if (p->col)
                acc[i][half] =
                    _mm256_add_epi32(acc[i][half], load_sums(y + half * ROWS, p->m[half]));
            store_sums(y + half * ROWS, p->m[half], acc[i][half]);
        }
}

#define TILE_FN(t)                                                                                 \
    static __attribute__((noinline)) void tile_##t(const job *j, const uint8_t *tile,              \
                                                   const part *p) {                                \
        tile_tokens(t, j, tile, p);                                                                \
    }
TILE_FN(1)
TILE_FN(2)
TILE_FN(3)
TILE_FN(4)
#if T2_TILE_TOKENS == 6
TILE_FN(5)
TILE_FN(6)
#endif

static void tile_group(const job *j, size_t r) {
    static void (*const group[])(const job *, const uint8_t *, const part *) = {
        tile_1,
        tile_2,
        tile_3,
        tile_4,
#if T2_TILE_TOKENS == 6
        tile_5,
        tile_6
#endif
    };
    _Alignas(32) uint8_t tile[QUANT_T5_ROWS * TILE_CHUNKS * QUANT_T5_COLS];
    const size_t cols = j->w->cols, n_tok = j->x->n_tok, most = TILE_CHUNKS * QUANT_T5_COLS;
    part p = {.r = r, .m = {wanted(r, j->begin, j->end), wanted(r + ROWS, j->begin, j->end)}};
    for (; p.col < cols; p.col += most) {
        const size_t left = cols - p.col < most ? cols - p.col : most;
        unpack_tile(tile, j->w->data + r * j->w->row_bytes + p.col / QUANT_T5_COLS * CHUNK,
                    (left + QUANT_T5_COLS - 1) / QUANT_T5_COLS);
        p.steps = (left + 3) / 4;
        for (size_t t = p.b = 0; p.b < n_tok; p.b += t) {
            t = n_tok - p.b < TILE_TOKENS ? n_tok - p.b : TILE_TOKENS;
            group[t - 1](j, tile, &p);
        }
    }
    for (size_t b = 0; b < n_tok; b++)
        for (size_t half = 0; half < 2; half++) {
            float *y = j->y + b * j->ldy + r + half * ROWS;
            put_rows(y, load_sums(y, p.m[half]), j->w, j->x, (row_place){r + half * ROWS, b},
                     p.m[half]);
        }
}

static void NAME(gemm_t5_i8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    const job j = {y, ldy, w, x, row_begin, row_end};
    if (x->n_tok == 1) {
        NAME(gemv_t5_i8)(y, ldy, w, x, row_begin, row_end);
        return;
    }
    for (size_t r = row_begin / QUANT_T5_ROWS * QUANT_T5_ROWS; r < row_end; r += QUANT_T5_ROWS)
        tile_group(&j, r);
}

void NAME(kern_fill_t5)(kern *k) {
    k->gemv_t5_i8 = NAME(gemv_t5_i8);
    k->gemm_t5_i8 = NAME(gemm_t5_i8);
}
