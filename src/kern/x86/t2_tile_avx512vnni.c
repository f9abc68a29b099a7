/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with AVX-512 VNNI, tile form: many tokens. Meanings in t2_c.c.
 *
 * 64 rows x up to 1,280 columns are unpacked to bytes, the lane being the row, and four such
 * vectors meet six tokens in 24 accumulators: no horizontal sums, and ten loads for 24 products.
 *
 *   tile   byte ((k * 4 + v) * 16 + r) * 4 + i = code of row 16 v + r, column 4 k + i
 *
 * The products saturate both vector ports, so all else must cost few instructions and no waiting.
 * The tile (80 KB) lies in the second-level cache: reading it keeps up with the products, writing
 * it does not (a line that misses the first level takes 4 to 8 cycles). So there are two tiles, and
 * the next one is unpacked piece by piece between the products of this one, 16 lines every 16 or
 * more steps; likewise one row of outputs and a few lines of packed weights are asked for at a
 * time.
 *
 * While columns are cut into chunks, y holds the integer sums; at the end they become floats.
 * Bounds: codes up to 3 grow a lane by 3 * 128 * 4 a step; the total is bounded in t2_c.c. Weights
 * are read from memory once per call.
 */
#include "kern/x86/t2_avx512.h"

enum {
    VECS = 4,                /* vectors of rows */
    TILE_ROWS = VECS * ROWS, /* rows of a tile */
    TILE_BLOCKS = 10,        /* most blocks of 128 columns of a tile */
    STEP = TILE_ROWS * 4,    /* bytes of four columns */
    TILE_BYTES = TILE_BLOCKS * 32 * STEP,
    TOKENS = 6, /* with four vectors of rows: 24 accumulators */
    UNROLL = 4, /* steps between jumps */
    LINE = 64   /* bytes of a cache line; columns between looks ahead */
};

/* A chunk of columns of some rows. */
typedef struct tile {
    uint8_t *code;                  /* unpacked */
    const uint8_t *rows[TILE_ROWS]; /* packed; rows past the end repeat the last one */
    size_t r, n;                    /* first row, rows that exist */
    part p;                         /* columns */
    size_t piece, n_pieces;         /* pieces unpacked, pieces there are */
} tile;

/* What is needed soon and done little by little between products. */
typedef struct ahead {
    tile *next;            /* tile to unpack */
    size_t pieces;         /* of it at a time */
    const char *w, *w_end; /* packed weights to ask for: next byte, end */
    const char *y, *y_end; /* outputs of the tokens at hand to ask for: next row, last row */
    size_t y_step;         /* bytes between rows of y */
} ahead;

/* ==== Unpacking =============================================================================== */

/* Sixteen bytes of rows 0, 4, 8, 12 of p, one in each 128-bit lane. */
INLINE __m512i four_rows(const uint8_t *const *p, size_t at) {
    __m512i v = _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *)(p[0] + at)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[4] + at)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[8] + at)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[12] + at)), 3);
}

/* The four columns of every dword of v to where the fields of its bytes belong. */
INLINE void put_fields(uint8_t *code, __m512i v) {
    const __m512i three = _mm512_set1_epi8(3);
    _mm512_store_si512(code, _mm512_and_si512(_mm512_srli_epi16(v, 6), three));
    _mm512_store_si512(code + 8 * STEP, _mm512_and_si512(_mm512_srli_epi16(v, 4), three));
    _mm512_store_si512(code + 16 * STEP, _mm512_and_si512(_mm512_srli_epi16(v, 2), three));
    _mm512_store_si512(code + 24 * STEP, _mm512_and_si512(v, three));
}

/* A piece is half a block of sixteen rows: 16 vectors of the tile. */
INLINE void unpack_piece(tile *t) {
    const size_t v = t->piece % VECS, half = t->piece / VECS % 2, k = t->piece / (2 * VECS);
    const uint8_t *const *rows = t->rows + v * ROWS;
    uint8_t *code = t->code + (k * 32 + half * 4) * STEP + v * 64;
    const size_t at = k * 32 + half * 16;
    __m512i z0 = four_rows(rows, at), z1 = four_rows(rows + 1, at);
    __m512i t0 = _mm512_unpacklo_epi32(z0, z1), t2 = _mm512_unpackhi_epi32(z0, z1);
    __m512i z2 = four_rows(rows + 2, at), z3 = four_rows(rows + 3, at);
    __m512i t1 = _mm512_unpacklo_epi32(z2, z3), t3 = _mm512_unpackhi_epi32(z2, z3);
    put_fields(code, _mm512_unpacklo_epi64(t0, t1));
    put_fields(code + STEP, _mm512_unpackhi_epi64(t0, t1));
    put_fields(code + 2 * STEP, _mm512_unpacklo_epi64(t2, t3));
    put_fields(code + 3 * STEP, _mm512_unpackhi_epi64(t2, t3));
    t->piece++;
}

static __attribute__((noinline)) void unpack_rest(tile *t) {
    while (t->piece < t->n_pieces) unpack_piece(t);
}

/* Only one row of outputs, two lines of weights and a few pieces: a burst would stop the products.
 */
INLINE void look_ahead(ahead *a) {
    for (size_t v = 0; v < VECS; v++) _mm_prefetch(a->y + v * LINE, _MM_HINT_T0);
    a->y += a->y < a->y_end ? a->y_step : 0;
    _mm_prefetch(a->w, _MM_HINT_T1);
    _mm_prefetch(a->w + LINE, _MM_HINT_T1);
    a->w += a->w < a->w_end ? 2 * LINE : 0;
    for (size_t i = a->pieces; i > 0 && a->next->piece < a->next->n_pieces; i--)
        unpack_piece(a->next);
}

/* ==== Multiplying ============================================================================= */

typedef int32_t tile_sums[TOKENS][TILE_ROWS];

/* t tokens, whose activations start ldq bytes apart from q on, against n * LINE columns. */
INLINE void multiply(const int t, tile_sums out, const uint8_t *code, const int8_t *q, size_t ldq,
                     size_t n, ahead *a) {
    __m512i acc[TOKENS][VECS];
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < VECS; v++) acc[i][v] = _mm512_setzero_si512();
    for (; n > 0; n--) {
        look_ahead(a);
        for (int k = 0; k < LINE / 4; k += UNROLL)
#pragma GCC unroll 4
            for (size_t u = 0; u < UNROLL; u++, code += STEP, q += 4) {
                __m512i w0 = _mm512_load_si512(code), w1 = _mm512_load_si512(code + 64);
                __m512i w2 = _mm512_load_si512(code + 128), w3 = _mm512_load_si512(code + 192);
                /* Pinned in registers: folded into the products they would be loaded t times. */
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
    }
    /* The loop ends here for the register allocator too: what follows must not make it spill. */
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
        __asm__("" : "+v"(acc[i][0]), "+v"(acc[i][1]), "+v"(acc[i][2]), "+v"(acc[i][3]));
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < VECS; v++) _mm512_store_si512(&out[i][v * ROWS], acc[i][v]);
}

#define MULTIPLY_FN(t)                                                                             \
    static __attribute__((noinline)) void multiply_##t(                                            \
        tile_sums out, const uint8_t *code, const int8_t *q, size_t ldq, size_t n, ahead *a) {     \
        multiply(t, out, code, q, ldq, n, a);                                                      \
    }
MULTIPLY_FN(1)
MULTIPLY_FN(2)
MULTIPLY_FN(3)
MULTIPLY_FN(4)
MULTIPLY_FN(5)
MULTIPLY_FN(6)

/* ==== Results ================================================================================= */

typedef struct job {
    float *y;          /* [B, ldy] */
    size_t ldy;        /* floats between tokens */
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    size_t begin, end; /* rows */
    size_t chunks;     /* of columns */
} job;

/* Adds the sums of token b, rows [t->r, t->r + n), to those of earlier columns, or makes them
 * outputs. */
INLINE void put_token(const job *j, const tile *t, const int32_t *sums, size_t b, size_t n) {
    float *y = j->y + b * j->ldy + t->r;
    const float f = common_factor(j->w, j->x, b);
#pragma GCC unroll 4
    for (size_t v = 0; v < n; v += ROWS, y += ROWS) {
        const __mmask16 m = first_rows(n - v);
        __m512i d = _mm512_load_si512(sums + v);
        if (!t->p.first) d = _mm512_add_epi32(d, _mm512_maskz_loadu_epi32(m, y));
        if (t->p.last)
            put_rows(y, d, j->w, j->x, t->r + v, b, m, f);
        else
            _mm512_mask_storeu_epi32(y, m, d);
    }
}

/* ==== The loop over tiles ===================================================================== */

/* Makes *t the chunk c of rows from r on, nothing of it unpacked. */
static void set_tile(tile *t, const job *j, size_t r, size_t c) {
    const size_t blocks = (j->w->cols + 127) / 128;
    t->r = r;
    t->n = j->end - r < TILE_ROWS ? j->end - r : TILE_ROWS;
    t->p.block = blocks * c / j->chunks;
    t->p.n_blocks = blocks * (c + 1) / j->chunks - t->p.block;
    t->p.first = c == 0;
    t->p.last = c + 1 == j->chunks;
    for (size_t i = 0; i < TILE_ROWS; i++)
        t->rows[i] =
            j->w->data + (r + (i < t->n ? i : t->n - 1)) * j->w->row_bytes + t->p.block * 32;
    t->piece = 0;
    t->n_pieces = t->p.n_blocks * 2 * VECS;
}

/* All tokens against an unpacked tile. */
static void run_tile(const job *j, const tile *t, ahead *a) {
    static void (*const group[])(tile_sums, const uint8_t *, const int8_t *, size_t, size_t,
                                 ahead *) = {multiply_1, multiply_2, multiply_3,
                                             multiply_4, multiply_5, multiply_6};
    const kern_act *x = j->x;
    const size_t groups = (x->n_tok + TOKENS - 1) / TOKENS, looks = t->p.n_blocks * 2;
    _Alignas(64) tile_sums sums;
    a->pieces = (a->next->n_pieces + groups * looks - 1) / (groups * looks);
    for (size_t g = 0; g < groups; g++) {
        const size_t b = x->n_tok * g / groups, n = x->n_tok * (g + 1) / groups - b;
        a->y = (const char *)(j->y + b * j->ldy + t->r);
        a->y_end = a->y + (n - 1) * a->y_step;
        group[n - 1](sums, t->code, x->q + b * x->ldq + t->p.block * 128, x->ldq, looks, a);
        for (size_t i = 0; i < n; i++)
            if (t->n == TILE_ROWS)
                put_token(j, t, sums[i], b + i, TILE_ROWS);
            else
                put_token(j, t, sums[i], b + i, t->n);
    }
}

/* Packed weights of the rows after those of tile t, to be asked for. */
static void ask_rows(ahead *a, const job *j, size_t r) {
    if (r >= j->end) return;
    const size_t n = j->end - r < TILE_ROWS ? j->end - r : TILE_ROWS;
    a->w = (const char *)j->w->data + r * j->w->row_bytes;
    a->w_end = a->w + n * j->w->row_bytes;
}

void t2_tiles_avx512vnni(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                         size_t row_begin, size_t row_end) {
    _Alignas(64) uint8_t code[2][TILE_BYTES];
    const size_t blocks = (w->cols + 127) / 128;
    const job j = {.y = y,
                   .ldy = ldy,
                   .w = w,
                   .x = x,
                   .begin = row_begin,
                   .end = row_end,
                   .chunks = (blocks + TILE_BLOCKS - 1) / TILE_BLOCKS};
    tile tiles[2] = {{.code = code[0]}, {.code = code[1]}}, *now = &tiles[0], *next = &tiles[1];
    ahead a = {.y_step = ldy * sizeof *y};
    if (row_begin == row_end) return;
    a.w = a.w_end = (const char *)w->data + row_begin * w->row_bytes;
    set_tile(now, &j, row_begin, 0);
    unpack_rest(now);
    for (size_t r = row_begin, c = 0; r < row_end;) {
        /* One tile ahead what is unpacked next must be near; with one chunk a row, two. */
        if (c == 0) ask_rows(&a, &j, r + (j.chunks > 1 ? 1 : 2) * TILE_ROWS);
        if (++c == j.chunks) c = 0, r += TILE_ROWS;
        if (r < row_end)
            set_tile(next, &j, r, c);
        else
            next->piece = next->n_pieces = 0;
        a.next = next;
        run_tile(&j, now, &a);
        unpack_rest(next);
        tile *t = now;
        now = next;
        next = t;
    }
}
