/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with AVX-512 VNNI, dot form: up to twelve tokens. Meanings in t2_c.c, the T2 block
 * in kern_internal.h; more tokens go to t2_tile_avx512vnni.c.
 *
 * Codes (0, 1, 2 = value + 1) are the unsigned operand of the dot product, activations the signed
 * one; the sum of the activations is subtracted once per row and token. A thread reads its weights
 * as one linear stream, prefetched across the ends of rows (stream.h). A 64-byte load spans two
 * blocks = 256 columns, so the activations are copied once per call into the order
 *
 *   | 32 f .. 32 f + 31 of block 2i | the same of block 2i + 1 |   f = 0 (bits 7-6), 1, 2, 3
 *
 * with the tokens of a call side by side for each i and f. Up to four tokens take one row after
 * another and no shifts: the masked copies v & C0h, v & 30h, v & 0Ch, v & 03h feed accumulators of
 * 64, 16, 4 and 1 times the sums. More tokens take two rows, so that an activation is loaded once
 * for both, and one accumulator for each row and token; masks and shifts are then shared by so many
 * tokens that they cost less than four accumulators would at the end of a row.
 *
 * Columns are cut into chunks whose activations fit the first-level cache; between chunks y holds
 * the integer sums. Bounds: a lane of the C0h accumulator grows by at most 192 * 128 * 4 = 98,304 a
 * step and a chunk has at most 128 steps; the total is bounded in t2_c.c. Per output: cols / 4
 * bytes of weights from memory.
 */
#include <assert.h>
#include <immintrin.h>

#include "kern/x86/reduce_avx512.h"
#include "kern/x86/stream.h"
#include "kern/x86/t2_avx512.h"

enum {
    ROW_TOKENS = 4,         /* most tokens of one row at a time: 16 accumulators */
    PAIR_TOKENS = 12,       /* most tokens of two rows at a time: 24 accumulators */
    DOT_MOST = PAIR_TOKENS, /* most tokens of the dot form */
    DOT_BYTES = 32768       /* activations copied at once, all tokens of a call together */
};

typedef struct dot_job {
    float *y;          /* [B, ldy] */
    size_t ldy;        /* floats between tokens of y */
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    int8_t *q;         /* DOT_BYTES for the chunk's activations, group after group */
    size_t tok_bytes;  /* of one token in q */
    part p;            /* columns */
} dot_job;

/* Some rows and tokens. */
typedef struct place {
    size_t r, n; /* first row, rows */
    size_t b;    /* first token */
} place;

/* Columns of one chunk and one token in the order of the weight bytes; the other tokens of its
 * group stand between: step bytes from one vector to the next. An odd last block stands beside
 * zeros. */
static void permute(int8_t *dst, size_t step, const int8_t *q, size_t n_blocks) {
    for (size_t i = 0; i < n_blocks; i += 2, q += 256)
        for (size_t f = 0; f < 4; f++, dst += step) {
            __m256i lo = _mm256_loadu_si256((const __m256i *)(q + 32 * f)),
                    hi = _mm256_setzero_si256();
            if (i + 1 < n_blocks) hi = _mm256_loadu_si256((const __m256i *)(q + 128 + 32 * f));
            _mm256_store_si256((__m256i *)dst, lo);
            _mm256_store_si256((__m256i *)(dst + 32), hi);
        }
}

/* Sums d of token b and the rows of at: added to those of earlier columns, or made outputs. */
INLINE void put_sums(const dot_job *j, const place *at, size_t b, __m512i d) {
    float *y = j->y + b * j->ldy + at->r;
    const __mmask16 m = first_rows(at->n);
    if (!j->p.first) d = _mm512_add_epi32(d, _mm512_maskz_loadu_epi32(m, y));
    if (j->p.last)
        put_rows(y, d, j->w, j->x, at->r, b, m, common_factor(j->w, j->x, b));
    else
        _mm512_mask_storeu_epi32(y, m, d);
}

/* ==== One row, up to four tokens ============================================================== */

typedef struct row_sums {
    __m512i t[ROW_TOKENS][ROWS]; /* sixteen partial sums of each token and row */
} row_sums;

/* One row, whose bytes of this chunk start at w, and t tokens. */
INLINE void dot_row(const int t, row_sums *out, size_t row, const uint8_t *w, const int8_t *x,
                    size_t n_blocks) {
    const __m512i m0 = _mm512_set1_epi8((char)0xC0), m1 = _mm512_set1_epi8(0x30);
    const __m512i m2 = _mm512_set1_epi8(0x0C), m3 = _mm512_set1_epi8(0x03);
    __m512i a0[ROW_TOKENS], a1[ROW_TOKENS], a2[ROW_TOKENS], a3[ROW_TOKENS];
#pragma GCC unroll 4
    for (int i = 0; i < t; i++) a0[i] = a1[i] = a2[i] = a3[i] = _mm512_setzero_si512();
    for (size_t i = 0; i < n_blocks; i += 2, w += 64, x += 256 * t) {
        __m512i v = i + 1 < n_blocks
                        ? _mm512_loadu_si512(w)
                        : _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)w));
        prefetch_stream(w);
        __m512i v0 = _mm512_and_si512(v, m0), v1 = _mm512_and_si512(v, m1);
        __m512i v2 = _mm512_and_si512(v, m2), v3 = _mm512_and_si512(v, m3);
#pragma GCC unroll 4
        for (int k = 0; k < t; k++) {
            a0[k] = _mm512_dpbusd_epi32(a0[k], v0, _mm512_load_si512(x + 64 * k));
            a1[k] = _mm512_dpbusd_epi32(a1[k], v1, _mm512_load_si512(x + 64 * (t + k)));
            a2[k] = _mm512_dpbusd_epi32(a2[k], v2, _mm512_load_si512(x + 64 * (2 * t + k)));
            a3[k] = _mm512_dpbusd_epi32(a3[k], v3, _mm512_load_si512(x + 64 * (3 * t + k)));
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

/* Up to sixteen rows against t tokens. */
INLINE void dot_rows(const int t, const dot_job *j, const place *at) {
    row_sums sums;
    const uint8_t *w = j->w->data + at->r * j->w->row_bytes + j->p.block * 32;
    for (size_t i = 0; i < at->n; i++, w += j->w->row_bytes)
        dot_row(t, &sums, i, w, j->q + at->b * j->tok_bytes, j->p.n_blocks);
    for (size_t k = 0; k < (size_t)t; k++) put_sums(j, at, at->b + k, reduce_rows(sums.t[k]));
}

/* ==== Two rows, up to twelve tokens =========================================================== */

typedef struct pair_sums {
    __m512i t[PAIR_TOKENS][ROWS / 2]; /* partial sums of each token and pair of rows */
} pair_sums;

/* Codes of two rows against one vector of each of t tokens. */
INLINE void dot_field(const int t, __m512i acc[PAIR_TOKENS][2], __m512i w0, __m512i w1,
                      const int8_t *x) {
    __asm__("" : "+v"(w0), "+v"(w1));
#pragma GCC unroll 12
    for (int k = 0; k < t; k++) {
        __m512i v = _mm512_load_si512(x + 64 * k);
        __asm__("" : "+v"(v)); /* one load for both rows */
        acc[k][0] = _mm512_dpbusd_epi32(acc[k][0], w0, v);
        acc[k][1] = _mm512_dpbusd_epi32(acc[k][1], w1, v);
    }
}

/* Two blocks of two rows, 64 bytes each from w0 and w1 on. */
INLINE void dot_blocks(const int t, __m512i acc[PAIR_TOKENS][2], const uint8_t *w0,
                       const uint8_t *w1, const int8_t *x) {
    const __m512i three = _mm512_set1_epi8(3);
#define CODES(w, shift) _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(w), shift), three)
    dot_field(t, acc, CODES(w0, 6), CODES(w1, 6), x);
    dot_field(t, acc, CODES(w0, 4), CODES(w1, 4), x + 64 * t);
    dot_field(t, acc, CODES(w0, 2), CODES(w1, 2), x + 128 * t);
    dot_field(t, acc, CODES(w0, 0), CODES(w1, 0), x + 192 * t);
#undef CODES
}

/* Two rows, whose bytes of this chunk start at w0 and w1, and t tokens. */
INLINE void dot_pair(const int t, pair_sums *out, size_t pair, const uint8_t *w0, const uint8_t *w1,
                     const int8_t *x, size_t n_blocks) {
    uint8_t last[2][64]; /* an odd last block; its second half meets zeros */
    __m512i acc[PAIR_TOKENS][2];
#pragma GCC unroll 12
    for (int k = 0; k < t; k++) acc[k][0] = acc[k][1] = _mm512_setzero_si512();
    for (size_t i = 0; i < n_blocks; i += 2, w0 += 64, w1 += 64, x += 256 * t) {
        if (i + 1 == n_blocks) {
            w0 = memcpy(last[0], w0, 32);
            w1 = memcpy(last[1], w1, 32);
        }
        prefetch_stream(w0);
        prefetch_stream(w1);
        dot_blocks(t, acc, w0, w1, x);
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 12
    for (int k = 0; k < t; k++) __asm__("" : "+v"(acc[k][0]), "+v"(acc[k][1]));
#pragma GCC unroll 12
    for (int k = 0; k < t; k++) out->t[k][pair] = add_pairs32(acc[k][0], acc[k][1]);
}

/* Up to sixteen rows against t tokens; a row without a partner is its own. */
INLINE void dot_pairs(const int t, const dot_job *j, const place *at) {
    pair_sums sums;
    const size_t row_bytes = j->w->row_bytes;
    const uint8_t *w = j->w->data + at->r * row_bytes + j->p.block * 32;
    for (size_t i = 0; i < at->n; i += 2, w += 2 * row_bytes)
        dot_pair(t, &sums, i / 2, w, i + 1 < at->n ? w + row_bytes : w, j->q + at->b * j->tok_bytes,
                 j->p.n_blocks);
    for (size_t k = 0; k < (size_t)t; k++) put_sums(j, at, at->b + k, reduce_pairs(sums.t[k]));
}

/* ==== Groups of tokens ======================================================================== */

#define DOT_FN(fn, t)                                                                              \
    static __attribute__((noinline)) void fn##_##t(const dot_job *j, const place *at) {            \
        fn(t, j, at);                                                                              \
    }
DOT_FN(dot_rows, 1)
DOT_FN(dot_rows, 2)
DOT_FN(dot_rows, 3)
DOT_FN(dot_rows, 4)
DOT_FN(dot_pairs, 5)
DOT_FN(dot_pairs, 6)
DOT_FN(dot_pairs, 7)
DOT_FN(dot_pairs, 8)
DOT_FN(dot_pairs, 9)
DOT_FN(dot_pairs, 10)
DOT_FN(dot_pairs, 11)
DOT_FN(dot_pairs, 12)

/* All tokens against all rows over the columns of j->p. */
static void dot_chunk(dot_job *j, size_t begin, size_t end) {
    static void (*const dot[])(const dot_job *, const place *) = {
        dot_rows_1,  dot_rows_2,  dot_rows_3,  dot_rows_4,   dot_pairs_5,  dot_pairs_6,
        dot_pairs_7, dot_pairs_8, dot_pairs_9, dot_pairs_10, dot_pairs_11, dot_pairs_12};
    const kern_act *x = j->x;
    const size_t groups = (x->n_tok + PAIR_TOKENS - 1) / PAIR_TOKENS;
    j->tok_bytes = (j->p.n_blocks + 1) / 2 * 256;
    for (size_t r = begin; r < end || r == begin; r += ROWS)
        for (size_t g = 0; g < groups; g++) {
            place at = {.r = r, .n = end - r < ROWS ? end - r : ROWS, .b = x->n_tok * g / groups};
            const size_t t = x->n_tok * (g + 1) / groups - at.b;
            if (r == begin)
                for (size_t k = 0; k < t; k++)
                    permute(j->q + at.b * j->tok_bytes + 64 * k, 64 * t,
                            x->q + (at.b + k) * x->ldq + j->p.block * 128, j->p.n_blocks);
            dot[t - 1](j, &at);
        }
}

static void gemv_t2_i8_avx512vnni(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                                  size_t row_begin, size_t row_end) {
    _Alignas(64) int8_t q[DOT_BYTES];
    const size_t pairs = (w->cols + 255) / 256, most = DOT_BYTES / 256 / x->n_tok;
    const size_t blocks = (w->cols + 127) / 128, chunks = (pairs + most - 1) / most;
    dot_job j = {.y = y, .ldy = ldy, .w = w, .x = x, .q = q};
    assert(x->n_tok <= DOT_MOST);
    if (row_begin == row_end) return;
    for (size_t c = 0; c < chunks; c++) {
        const size_t end = pairs * (c + 1) / chunks * 2;
        j.p.block = pairs * c / chunks * 2;
        j.p.n_blocks = (end < blocks ? end : blocks) - j.p.block;
        j.p.first = c == 0;
        j.p.last = c + 1 == chunks;
        dot_chunk(&j, row_begin, row_end);
    }
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
