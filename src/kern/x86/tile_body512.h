/* SPDX-License-Identifier: MIT
 *
 * The tile form of ternary x int8 with AVX-512 VNNI, all but the unpacking. The file of each type
 * defines before including this:
 *
 *   BLOCK, ROW_UNIT        columns and rows at whose multiples a tile may begin
 *   set_source(tile, job)  where the packed bytes of the tile are, and how many pieces they make
 *   unpack_piece(tile, after)  one more piece; asks for packed bytes needed soon, of the tile or
 * the one after it
 *
 * The products saturate both vector ports, so all else must cost few instructions and no waiting.
 * A tile (160 KB of stack) lies in the second-level cache: reading it keeps up with the products,
 * writing it does not (a line that misses the first level takes 4 to 8 cycles). So there are two
 * tiles, and the next one is unpacked piece by piece between the products of this one, some lines
 * every 16 steps of four columns. The packed weights, the activations and the outputs that are
 * needed soon are asked for at the same places, a few lines at a time.
 *
 * Longer rows are cut into chunks of columns; between them y holds the integer sums. Many tokens
 * are cut into parts whose activations stay in the second-level cache; each reads the weights.
 * Columns past the end of a row meet activations that are zero. Bounds: codes up to 3 grow a lane
 * by 3 * 128 * 4 a step; the total is bounded in t2_c.c.
 */
enum {
    TOKENS = 6,            /* with four vectors of rows: 24 accumulators */
    UNROLL = 4,            /* steps between jumps */
    TOKEN_BYTES = 3 << 19, /* activations worked on together: less than the second-level cache */
    Q_AHEAD = 4            /* prefetch distance in activations, lines of a row */
};

/* What is needed soon and done little by little between products. */
typedef struct ahead {
    tile *next, *later;    /* tiles to unpack: into code now, and after the next change of tiles */
    size_t pieces;         /* of next at a time */
    const int8_t *q;       /* activations that follow those of the tokens at hand */
    const char *y, *y_end; /* outputs of the tokens at hand to ask for: next row, last row */
    size_t y_step;         /* bytes between rows of y */
} ahead;

static __attribute__((noinline)) void unpack_rest(tile *t, const tile *after) {
    while (t->piece < t->n_pieces) unpack_piece(t, after);
}

/* Only one row of outputs, a line of each token and a few pieces: a burst would stop the products.
 */
INLINE void look_ahead(ahead *a, const int t, const int8_t *q, size_t ldq) {
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++) _mm_prefetch((const char *)q + i * ldq, _MM_HINT_T0);
    for (size_t v = 0; v < VECS; v++) _mm_prefetch(a->y + v * LINE, _MM_HINT_T0);
    a->y += a->y < a->y_end ? a->y_step : 0;
    for (size_t i = a->pieces; i > 0 && a->next->piece < a->next->n_pieces; i--)
        unpack_piece(a->next, a->later);
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
        look_ahead(a, t, n > Q_AHEAD ? q + Q_AHEAD * LINE : a->q + (Q_AHEAD - n) * LINE, ldq);
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

/* Adds the sums of token b, rows [t->r + skip, t->r + n), to those of earlier columns, or makes
 * them outputs. */
INLINE void put_token(const job *j, const tile *t, const int32_t *sums, size_t b, size_t skip,
                      size_t n) {
    float *y = j->y + b * j->ldy + t->r;
    const float f = common_factor(j->w, j->x, b);
#pragma GCC unroll 4
    for (size_t v = 0; v < n; v += ROWS, y += ROWS) {
        const __mmask16 m = first_rows(n - v) & (__mmask16) ~(v ? 0u : first_rows(skip));
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
    const size_t cols = j->w->cols, blocks = (cols + BLOCK - 1) / BLOCK;
    t->r = r;
    t->c = c;
    t->n = j->end - r < TILE_ROWS ? j->end - r : TILE_ROWS;
    t->skip = r < j->begin ? j->begin - r : 0;
    t->p.block = blocks * c / j->chunks;
    t->p.n_blocks = blocks * (c + 1) / j->chunks - t->p.block;
    t->p.first = c == 0;
    t->p.last = c + 1 == j->chunks;
    t->looks = t->p.n_blocks * (BLOCK / LINE);
    if (t->p.last) t->looks = (cols - t->p.block * BLOCK + LINE - 1) / LINE;
    t->piece = 0;
    set_source(t, j);
}

/* All tokens against an unpacked tile. */
static void run_tile(const job *j, const tile *t, ahead *a) {
    static void (*const group[])(tile_sums, const uint8_t *, const int8_t *, size_t, size_t,
                                 ahead *) = {multiply_1, multiply_2, multiply_3,
                                             multiply_4, multiply_5, multiply_6};
    const kern_act *x = j->x;
    const size_t n_tok = j->tok_end - j->tok, groups = (n_tok + TOKENS - 1) / TOKENS;
    const size_t looks = t->looks, at = t->p.block * BLOCK;
    _Alignas(64) tile_sums sums;
    a->pieces = (a->next->n_pieces + groups * looks - 1) / (groups * looks);
    for (size_t g = 0; g < groups; g++) {
        const size_t b = j->tok + n_tok * g / groups, end = j->tok + n_tok * (g + 1) / groups;
        const size_t n = end - b;
        a->y = (const char *)(j->y + b * j->ldy + t->r);
        a->y_end = a->y + (n - 1) * a->y_step;
        a->q = x->q + (g + 1 < groups ? end : j->tok) * x->ldq + at;
        group[n - 1](sums, t->code, x->q + b * x->ldq + at, x->ldq, looks, a);
        for (size_t i = 0; i < n; i++)
            if (t->n == TILE_ROWS && !t->skip)
                put_token(j, t, sums[i], b + i, 0, TILE_ROWS);
            else
                put_token(j, t, sums[i], b + i, t->skip, t->n);
    }
}

/* What follows t: the next chunk of its rows, the next rows, or a tile without pieces. */
static void set_after(tile *after, const job *j, const tile *t) {
    const bool none = t->n_pieces == 0 || (t->p.last && t->r + t->n == j->end);
    set_tile(after, j, t->p.last && !none ? t->r + t->n : t->r, t->p.last ? 0 : t->c + 1);
    if (none) after->n_pieces = 0;
}

static void run_rows(const job *j) {
    _Alignas(64) uint8_t code[2][TILE_BYTES];
    tile tiles[3], *now = &tiles[0], *next = &tiles[1], *later = &tiles[2];
    ahead a = {.y_step = j->ldy * sizeof *j->y};
    set_tile(now, j, j->begin / ROW_UNIT * ROW_UNIT, 0);
    set_after(next, j, now);
    now->code = code[0];
    next->code = code[1];
    unpack_rest(now, next);
    while (now->n_pieces > 0) {
        set_after(later, j, next);
        a.next = next;
        a.later = later;
        run_tile(j, now, &a);
        unpack_rest(next, later);
        later->code = now->code;
        tile *t = now;
        now = next;
        next = later;
        later = t;
    }
}

static void run_tiles(float *y, size_t ldy, const kern_mat *w, const kern_act *x, size_t row_begin,
                      size_t row_end) {
    const size_t blocks = (w->cols + BLOCK - 1) / BLOCK, most = TILE_COLS / BLOCK;
    const size_t parts = (x->n_tok * x->ldq - 1) / TOKEN_BYTES + 1;
    job j = {.y = y, .ldy = ldy, .w = w, .x = x, .begin = row_begin, .end = row_end};
    if (row_begin == row_end) return;
    j.chunks = (blocks + most - 1) / most;
    for (size_t i = 0; i < parts; i++) {
        j.tok = x->n_tok * i / parts;
        j.tok_end = x->n_tok * (i + 1) / parts;
        if (j.tok < j.tok_end) run_rows(&j);
    }
}
