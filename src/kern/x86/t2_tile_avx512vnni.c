/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with AVX-512 VNNI, tile form: many tokens. Meanings in t2_c.c; the tiles are drawn
 * in tile_avx512.h and multiplied in tile_body512.h. Here is how T2 rows become tiles: a row in
 * each lane needs 4 x 4 transposing of dwords.
 */
#include "kern/x86/tile_avx512.h"

enum {
    BLOCK = 128,     /* columns at whose multiples tiles begin */
    ROW_UNIT = 1,    /* rows at whose multiples they do */
    LINE_PIECES = 16 /* pieces that read one line of each row */
};

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

/* Asks for four of the 64 lines that the pieces from i + 32 on, of this tile or the one after, will
 * read: sixteen pieces read one line of each row. */
INLINE void ask_packed(const tile *t, const tile *after, size_t i) {
    const size_t row = i % LINE_PIECES * 4;
    size_t line = i / LINE_PIECES + 2;
    const size_t lines = (t->n_pieces + LINE_PIECES - 1) / LINE_PIECES;
    if (line >= lines) {
        line -= lines;
        t = after;
    }
    for (size_t k = 0; k < 4; k++)
        _mm_prefetch((const char *)t->rows[row + k] + line * LINE, _MM_HINT_T1);
}

/* A piece is half a block of sixteen rows: 16 vectors of the tile. */
INLINE void unpack_piece(tile *t, const tile *after) {
    const size_t v = t->piece % VECS, half = t->piece / VECS % 2, k = t->piece / (2 * VECS);
    const uint8_t *const *rows = t->rows + v * ROWS;
    uint8_t *code = t->code + (k * 32 + half * 4) * STEP + v * 64;
    const size_t at = k * 32 + half * 16;
    ask_packed(t, after, t->piece);
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

/* Where the rows and pieces of a tile stand. */
static void set_source(tile *t, const job *j) {
    for (size_t i = 0; i < TILE_ROWS; i++)
        t->rows[i] =
            j->w->data + (t->r + (i < t->n ? i : t->n - 1)) * j->w->row_bytes + t->p.block * 32;
    t->n_pieces = t->p.n_blocks * 2 * VECS;
}

#include "kern/x86/tile_body512.h"

void t2_tiles_avx512vnni(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                         size_t row_begin, size_t row_end) {
    run_tiles(y, ldy, w, x, row_begin, row_end);
}
