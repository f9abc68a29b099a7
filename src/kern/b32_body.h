/* SPDX-License-Identifier: MIT
 *
 * Block formats x int8, once for every instruction set; meaning and order of sums in b32_c.c.
 * A file per instruction set includes a vi header (vectors of VI_ROWS 32-bit lanes) and then this.
 *
 * The lane is the row. Two vectors of rows and sixteen blocks of 32 columns are unpacked into a
 * tile on the stack, transposed so that dword j of a row's codes (columns 4 j .. 4 j + 3) stands in
 * the lane of that row:
 *
 *   code[k][v][j]   | row 0: 4 bytes | row 1 | ...            k block, v vector of rows, j = 0 .. 7
 *   a[k][v][h]      | row 0: float   | row 1 | ...            h half of 16 columns (kern_split16)
 *
 * then every token multiplies it: eight dot products against broadcast activations give one sum per
 * row, with no horizontal additions and one scale product for all rows. Codes are made non-negative
 * by a bias; the accumulator starts at minus bias times the sum of the activations. Between tiles
 * of columns y holds the accumulators: a float stored and loaded keeps its bits.
 *
 * While one tile of rows is unpacked the bytes of the next are prefetched in address order, so that
 * memory sees one linear stream although sixteen rows are read at a time. Where more tokens follow
 * than one pass takes, the multiplying is the longer part by far, and the prefetches go there.
 * Bounds: |sum| <= 32 * 255 * 128 < 2^24, exact in int32 and as a float.
 * Per output: row_bytes from memory once per call, whatever the number of tokens.
 *
 * Before including: define NAME(x), B32_TOKENS (4 or 6: the most tokens that share a load of codes)
 * and TOKENS as an enum of it.
 */
#include "kern/kern_internal.h"

#define INLINE   static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

enum {
    VECS = 2,                   /* vectors of rows in a tile */
    TILE_ROWS = VECS * VI_ROWS, /* rows in a tile */
    BLOCKS = 16                 /* blocks of 32 columns in a tile: two super-blocks */
};

typedef struct tile {
    _Alignas(64) uint8_t code[BLOCKS][VECS][8][4 * VI_ROWS]; /* q + bias */
    float a[BLOCKS][VECS][2][VI_ROWS];                       /* scales */
    float b[BLOCKS][VECS][2][VI_ROWS];                       /* offsets, for types that have them */
} tile;

typedef struct job {
    float *y;          /* of the tile's first row, token 0 */
    size_t ldy;        /* floats between tokens */
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    size_t r, n;       /* first row, rows that exist */
    size_t k, n_k;     /* first block, blocks in this tile */
    int32_t bias;      /* added to the codes */
    bool offset;       /* the type has offsets */
    const uint8_t *next, *due,
        *stop;      /* prefetch: next byte, bytes owed by now, end of the matrix */
    size_t at_once; /* lines prefetched for a block of columns while multiplying */
} job;

/* One vector of rows being unpacked. */
typedef struct rows {
    const uint8_t *p[VI_ROWS]; /* start of each row; past the end the last row again */
} rows;

/* ==== Unpacking =============================================================================== */

/* Sixteen bytes of each row, transposed: dword j of every row in out[j]. */
INLINE void transpose4(vi out[4], const uint8_t *const *p, size_t at) {
    vi z0 = vi_rows(p, at), z1 = vi_rows(p + 1, at), z2 = vi_rows(p + 2, at),
       z3 = vi_rows(p + 3, at);
    vi t0 = vi_lo32(z0, z1), t1 = vi_lo32(z2, z3), t2 = vi_hi32(z0, z1), t3 = vi_hi32(z2, z3);
    out[0] = vi_lo64(t0, t1);
    out[1] = vi_hi64(t0, t1);
    out[2] = vi_lo64(t2, t3);
    out[3] = vi_hi64(t2, t3);
}

/* Asks for the share of the next tile that matches n_bytes of this one. */
INLINE void prefetch(job *j, size_t n_bytes) {
    j->due = (size_t)(j->stop - j->due) > n_bytes ? j->due + n_bytes : j->stop;
    for (; !j->at_once && j->next < j->due; j->next += 64) __builtin_prefetch(j->next, 0, 2);
}

/* Bytes, or pairs of bytes, that stand `step` bytes apart in each row: out[k][row]. A whole tile
 * has all its offsets known when this is compiled. */
#define GATHER(out, n_bytes, r, start, step, n)                                                    \
    for (size_t i = 0; i < VI_ROWS; i++) {                                                         \
        const uint8_t *from = (r)->p[i] + (start);                                                 \
        if ((n) == BLOCKS)                                                                         \
            for (size_t k = 0; k < BLOCKS; k++) memcpy(&(out)[k][i], from + k * (step), n_bytes);  \
        else                                                                                       \
            for (size_t k = 0; k < (n); k++) memcpy(&(out)[k][i], from + k * (step), n_bytes);     \
    }

/* f16 scales that stand `step` bytes apart. */
INLINE void half_scales(tile *t, const job *j, const rows *r, size_t v, const size_t step) {
    _Alignas(64) uint16_t d[BLOCKS][VI_ROWS];
    GATHER(d, 2, r, j->k * step, step, j->n_k)
    for (size_t k = 0; k < j->n_k; k++) vf_store(t->a[k][v][0], vf_from_half(d[k]));
}

/* Dword `at` of every row in one vector. */
INLINE vi row_dwords(const rows *r, size_t at) {
    _Alignas(64) uint32_t d[VI_ROWS];
    for (size_t i = 0; i < VI_ROWS; i++) memcpy(&d[i], r->p[i] + at, 4);
    return vi_load(d);
}

static void unpack_q8_0(tile *t, job *j, const rows *r, size_t v) {
    half_scales(t, j, r, v, 34);
    for (size_t k = 0; k < j->n_k; k++) {
        vi c[8];
        prefetch(j, 34 * VI_ROWS);
        transpose4(c, r->p, (j->k + k) * 34 + 2);
        transpose4(c + 4, r->p, (j->k + k) * 34 + 18);
        for (int i = 0; i < 8; i++) vi_store(t->code[k][v][i], vi_xor(c[i], vi_set8(VI_BIAS8)));
    }
}

/* Sixteen rows side by side (c/q8x16_c.c): every vector of codes is one load. A vector of which no
 * row exists is the tile's first again. */
static void unpack_q8x16(tile *t, job *j, const rows *r, size_t v) {
    const size_t row = j->r + (v * VI_ROWS < j->n ? v * VI_ROWS : 0), i = row % KERN_Q8X16_ROWS;
    const uint8_t *block = j->w->data + (row - i) * j->w->row_bytes + j->k * 34 * KERN_Q8X16_ROWS;
    (void)r;
    for (size_t k = 0; k < j->n_k; k++, block += 34 * KERN_Q8X16_ROWS) {
        const uint8_t *codes = block + 2 * KERN_Q8X16_ROWS + 4 * i;
        _Alignas(32) uint16_t half[VI_ROWS];
        prefetch(j, 34 * VI_ROWS);
        memcpy(half, block + 2 * i, sizeof half);
        vf_store(t->a[k][v][0], vf_from_half(half));
        for (size_t d = 0; d < 8; d++, codes += 4 * KERN_Q8X16_ROWS)
            vi_store(t->code[k][v][d], vi_xor(vi_load_any(codes), vi_set8(VI_BIAS8)));
    }
}

static void unpack_q4_0(tile *t, job *j, const rows *r, size_t v) {
    const vi low = vi_set8(15);
    half_scales(t, j, r, v, 18);
    for (size_t k = 0; k < j->n_k; k++) {
        vi c[4];
        prefetch(j, 18 * VI_ROWS);
        transpose4(c, r->p, (j->k + k) * 18 + 2);
        for (int i = 0; i < 4; i++) {
            vi_store(t->code[k][v][i], vi_and(c[i], low));
            vi_store(t->code[k][v][i + 4], vi_and(vi_shr16(c[i], 4), low));
        }
    }
}

/* d | fifth bits u32 | nibbles: bit e is 16 of element e. */
static void unpack_q5_0(tile *t, job *j, const rows *r, size_t v) {
    const vi low = vi_set8(15), nibble = vi_set32(15), fifth = vi_set8(16);
    half_scales(t, j, r, v, 22);
    for (size_t k = 0; k < j->n_k; k++) {
        const size_t at = (j->k + k) * 22;
        vi c[4], bits = row_dwords(r, at + 2);
        prefetch(j, 22 * VI_ROWS);
        transpose4(c, r->p, at + 6);
        for (int i = 0; i < 8; i++, bits = vi_shr32(bits, 4)) {
            /* Four bits to bit 4 of four bytes: the shifted copies do not overlap. */
            vi high = vi_and(vi_mul32(vi_and(bits, nibble), vi_set32(0x02040810)), fifth);
            vi q = vi_and(i < 4 ? c[i] : vi_shr16(c[i - 4], 4), low);
            vi_store(t->code[k][v][i], vi_or(q, high));
        }
    }
}

/* The table's elements for the low nibbles of x. */
INLINE vi look_up_low(vi table, vi x) {
#ifdef VI_LOOKS_AT_FOUR_BITS
    return vi_look_up(table, x);
#else
    return vi_look_up(table, vi_and(x, vi_set8(15)));
#endif
}

INLINE vi iq4_nl_table(void) {
    static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    uint8_t biased[16];
    for (int i = 0; i < 16; i++) biased[i] = (uint8_t)values[i] ^ VI_BIAS8;
    return vi_set_table(biased);
}

static void unpack_iq4_nl(tile *t, job *j, const rows *r, size_t v) {
    const vi table = iq4_nl_table();
    half_scales(t, j, r, v, 18);
    for (size_t k = 0; k < j->n_k; k++) {
        vi c[4];
        prefetch(j, 18 * VI_ROWS);
        transpose4(c, r->p, (j->k + k) * 18 + 2);
        for (int i = 0; i < 4; i++) {
            vi_store(t->code[k][v][i], look_up_low(table, c[i]));
            vi_store(t->code[k][v][i + 4], look_up_low(table, vi_shr16(c[i], 4)));
        }
    }
}

/* 2^(E - 128) with the subnormals of E = 0 and 1. */
INLINE vf e8m0(const uint8_t *e) {
    vi n = vi_from_u8(e);
    vi normal = vi_shl32(vi_sub32(n, vi_set32(1)), 23);
    vi small = vi_shl32(vi_add32(n, vi_set32(1)), 21); /* 0 -> 1 << 21, 1 -> 2 << 21 */
    return vi_as_float(vi_if_less32(n, vi_set32(2), small, normal));
}

/* Value + 12. */
INLINE vi mxfp4_table(void) {
    static const uint8_t value_plus_12[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                              12, 11, 10, 9,  8,  6,  4,  0};
    return vi_set_table(value_plus_12);
}

static void unpack_mxfp4(tile *t, job *j, const rows *r, size_t v) {
    _Alignas(64) uint8_t e[BLOCKS][VI_ROWS];
    const vi table = mxfp4_table();
    GATHER(e, 1, r, j->k * 17, 17, j->n_k)
    for (size_t k = 0; k < j->n_k; k++) {
        vi c[4];
        prefetch(j, 17 * VI_ROWS);
        vf_store(t->a[k][v][0], e8m0(e[k]));
        transpose4(c, r->p, (j->k + k) * 17 + 1);
        for (int i = 0; i < 4; i++) {
            vi_store(t->code[k][v][i], look_up_low(table, c[i]));
            vi_store(t->code[k][v][i + 4], look_up_low(table, vi_shr16(c[i], 4)));
        }
    }
}

/* Bits [from, from + n) of every lane. */
#define FIELD(x, from, n) vi_and(vi_shr32(x, from), vi_set32((1 << (n)) - 1))

/* The eight scales and offsets of Q4_K from its first four dwords: d and dmin, then 6 bits each
 * in twelve bytes (block32.c, scale_min). */
INLINE void q4_k_fields(vf a[8], vf b[8], const vi w[4]) {
    const vf d = vf_from_half32(w[0]), dmin = vf_from_half32(vi_shr32(w[0], 16));
#define GROUP_OF(g, scale, min)                                                                    \
    a[g] = vf_mul(d, vi_to_float(scale));                                                          \
    b[g] = vf_mul(dmin, vi_to_float(min));
#define LOW(g) GROUP_OF(g, FIELD(w[1], 8 * (g), 6), FIELD(w[2], 8 * (g), 6))
#define HIGH(g)                                                                                    \
    GROUP_OF(4 + (g), vi_or(FIELD(w[3], 8 * (g), 4), vi_shl32(FIELD(w[1], 8 * (g) + 6, 2), 4)),    \
             vi_or(FIELD(w[3], 8 * (g) + 4, 4), vi_shl32(FIELD(w[2], 8 * (g) + 6, 2), 4)))
    LOW(0) LOW(1) LOW(2) LOW(3) HIGH(0) HIGH(1) HIGH(2) HIGH(3)
#undef GROUP_OF
#undef LOW
#undef HIGH
}

INLINE void q4_k_scales(tile *t, const rows *r, size_t k, size_t v, size_t at) {
    vi w[4];
    vf a[8], b[8];
    transpose4(w, r->p, at);
    q4_k_fields(a, b, w);
#pragma GCC unroll 8
    for (size_t g = 0; g < 8; g++) {
        vf_store(t->a[k + g][v][0], a[g]);
        vf_store(t->b[k + g][v][0], b[g]);
    }
}

static void unpack_q4_k(tile *t, job *j, const rows *r, size_t v) {
    const vi low = vi_set8(15);
    for (size_t k = 0; k < j->n_k; k += 2) {
        const size_t at = (j->k + k) / 8 * 144;
        vi c[8];
        if (k % 8 == 0) q4_k_scales(t, r, k, v, at);
        prefetch(j, 36 * VI_ROWS);
        transpose4(c, r->p, at + 16 + k % 8 * 16);
        transpose4(c + 4, r->p, at + 32 + k % 8 * 16);
        for (int i = 0; i < 8; i++) {
            vi_store(t->code[k][v][i], vi_and(c[i], low));
            vi_store(t->code[k + 1][v][i], vi_and(vi_shr16(c[i], 4), low));
        }
    }
}

/* As Q4_K, with 32 bytes of fifth bits before the nibbles: bit g of byte l belongs to group g. */
static void unpack_q5_k(tile *t, job *j, const rows *r, size_t v) {
    const vi low = vi_set8(15), fifth = vi_set8(16);
    for (size_t k = 0; k < j->n_k; k += 8) {
        const size_t at = (j->k + k) / 8 * 176;
        q4_k_scales(t, r, k, v, at);
        for (size_t s = 0; s < 8; s += 4) { /* columns 0-15 and 16-31 of all groups */
            vi h[4], c[4];
            prefetch(j, 88 * VI_ROWS);
            transpose4(h, r->p, at + 16 + 4 * s);
#define PAIR(g, first, second)                                                                     \
    transpose4(c, r->p, at + 48 + 16 * (g) + 4 * s);                                               \
    for (size_t i = 0; i < 4; i++) {                                                               \
        vi_store(t->code[k + (g)][v][s + i], vi_or(vi_and(c[i], low), vi_and(first, fifth)));      \
        vi_store(t->code[k + (g) + 1][v][s + i],                                                   \
                 vi_or(vi_and(vi_shr16(c[i], 4), low), vi_and(second, fifth)));                    \
    }
            PAIR(0, vi_shl16(h[i], 4), vi_shl16(h[i], 3))
            PAIR(2, vi_shl16(h[i], 2), vi_shl16(h[i], 1))
            PAIR(4, h[i], vi_shr16(h[i], 1))
            PAIR(6, vi_shr16(h[i], 2), vi_shr16(h[i], 3))
#undef PAIR
        }
    }
}

/* The sixteen signed scales of Q6_K, four in a dword: of block 0, halves 0 and 1, of block 1 … */
INLINE void q6_k_fields(vf a[2][8], vf d, const vi w[4]) {
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        a[0][2 * i] = vf_mul(d, vi_to_float(vi_sra32(vi_shl32(w[i], 24), 24)));
        a[1][2 * i] = vf_mul(d, vi_to_float(vi_sra32(vi_shl32(w[i], 16), 24)));
        a[0][2 * i + 1] = vf_mul(d, vi_to_float(vi_sra32(vi_shl32(w[i], 8), 24)));
        a[1][2 * i + 1] = vf_mul(d, vi_to_float(vi_sra32(w[i], 24)));
    }
}

INLINE void q6_k_scales(tile *t, const rows *r, size_t k, size_t v, size_t at) {
    vi w[4];
    vf a[2][8];
    transpose4(w, r->p, at + 192);
    q6_k_fields(a, vf_from_half32(vi_shr32(row_dwords(r, at + 206), 16)), w);
#pragma GCC unroll 8
    for (size_t g = 0; g < 8; g++) {
        vf_store(t->a[k + g][v][0], a[0][g]);
        vf_store(t->a[k + g][v][1], a[1][g]);
    }
}

static void unpack_q6_k(tile *t, job *j, const rows *r, size_t v) {
    const vi low = vi_set8(15), top = vi_set8(0x30);
    for (size_t k = 0; k < j->n_k; k += 4) {
        const size_t at = (j->k + k) / 8 * 210, half = k / 4 % 2;
        if (half == 0) q6_k_scales(t, r, k, v, at);
        prefetch(j, 105 * VI_ROWS);
        for (size_t s = 0; s < 2; s++) { /* columns 0-15 and 16-31 of four groups */
            vi x[4], y[4], h[4];
            transpose4(x, r->p, at + 64 * half + 16 * s);
            transpose4(y, r->p, at + 64 * half + 32 + 16 * s);
            transpose4(h, r->p, at + 128 + 32 * half + 16 * s);
            for (size_t i = 0; i < 4; i++) {
                uint8_t *out = t->code[k][v][4 * s + i];
                const size_t group = sizeof t->code[0];
                vi_store(out, vi_or(vi_and(x[i], low), vi_and(vi_shl16(h[i], 4), top)));
                vi_store(out + group, vi_or(vi_and(y[i], low), vi_and(vi_shl16(h[i], 2), top)));
                vi_store(out + 2 * group, vi_or(vi_and(vi_shr16(x[i], 4), low), vi_and(h[i], top)));
                vi_store(out + 3 * group,
                         vi_or(vi_and(vi_shr16(y[i], 4), low), vi_and(vi_shr16(h[i], 2), top)));
            }
        }
    }
}

/* Every other type, block by block through quant. */
static void unpack_other(tile *t, job *j, const rows *r, size_t v) {
    quant_block32 block[VI_ROWS];
    const uint8_t *codes[VI_ROWS];
    for (size_t i = 0; i < VI_ROWS; i++) codes[i] = (const uint8_t *)block[i].q;
    for (size_t k = 0; k < j->n_k; k++) {
        vi c[8];
        for (size_t i = 0; i < VI_ROWS; i++) {
            quant_unpack32(j->w->type, r->p[i], j->k + k, &block[i]);
            for (size_t h = 0; h < 2; h++) {
                t->a[k][v][h][i] = block[i].a[h];
                t->b[k][v][h][i] = block[i].b[h];
            }
        }
        transpose4(c, codes, 0);
        transpose4(c + 4, codes, 16);
        for (int i = 0; i < 8; i++) vi_store(t->code[k][v][i], vi_xor(c[i], vi_set8(VI_BIAS8)));
    }
}

/* ==== Multiplying ============================================================================= */

/* What the tokens of a product bring to the offsets of a tile, ready to be broadcast from memory.
 */
typedef struct share {
    float sum[TOKENS][2][BLOCKS];  /* sum of q, of a block or of each half */
    float minus_s[TOKENS][BLOCKS]; /* negative scales */
} share;

/* The kind of a format: constants of each instance of `multiply`. */
typedef struct kind {
    bool split;  /* a scale per 16 columns */
    bool wide;   /* codes above 63 */
    bool offset; /* perhaps offsets (see job) */
    bool biased; /* one token: codes have a bias */
} kind;

/* One token's share, n blocks of it: a constant for a whole tile. */
INLINE void take_share_of(share *m, size_t i, const bool split, const job *j, size_t at, size_t n) {
    const int16_t *sums = j->x->sum16 + 2 * at;
    for (size_t k = 0; k < n; k++) {
        const int32_t h0 = sums[2 * k], h1 = sums[2 * k + 1];
        m->minus_s[i][k] = -j->x->s[at + k];
        m->sum[i][0][k] = (float)(split ? h0 : h0 + h1);
        if (split) m->sum[i][1][k] = (float)h1;
    }
}

INLINE void take_share(share *m, const int t, const bool split, const job *j, size_t b) {
    for (size_t i = 0; i < (size_t)t; i++) {
        const size_t at = (b + i) * (j->x->ldq / 32) + j->k;
        if (j->n_k == BLOCKS)
            take_share_of(m, i, split, j, at, BLOCKS);
        else
            take_share_of(m, i, split, j, at, j->n_k);
    }
}

/* What a step of `multiply` covers: all of a block, or a half of it. */
typedef struct part {
    size_t k, b;  /* block in the tile, first token */
    int h;        /* half whose scale holds */
    int from, to; /* dwords of codes */
} part;

/* acc[token][vector] += a * s * sum of q p over the part. The sums of a block's two halves stand
 * side by side: times (- bias, - bias), or with a 0 for the half that is not meant, they are where
 * the sum starts. */
INLINE void add_part(const int t, const kind f, vf acc[TOKENS][VECS], const job *j, const tile *w,
                     const part p) {
    vi c[TOKENS][VECS];
    const size_t step = j->x->ldq / 32, at = p.b * step + j->k + p.k;
    const int8_t *q = j->x->q + 32 * at;
    const int16_t *sums = j->x->sum16 + 2 * at;
    const uint32_t less = (uint16_t)-j->bias;
    const vi bias = vi_set32((int32_t)(!f.split ? less << 16 | less : p.h ? less << 16 : less));
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++) {
        int32_t both;
        memcpy(&both, sums + 2 * i * step, 4);
        c[i][0] = c[i][1] = vi_mul16(vi_set32(both), bias);
    }
#pragma GCC unroll 8
    for (int s = p.from; s < p.to; s++) {
        vi w0 = vi_load(w->code[p.k][0][s]), w1 = vi_load(w->code[p.k][1][s]);
#pragma GCC unroll 6
        for (size_t i = 0; i < (size_t)t; i++) {
            int32_t four;
            memcpy(&four, q + i * j->x->ldq + 4 * s, 4);
            vi x = vi_set32(four);
            c[i][0] = f.wide ? vi_dot8(c[i][0], w0, x) : vi_dot(c[i][0], w0, x);
            c[i][1] = f.wide ? vi_dot8(c[i][1], w1, x) : vi_dot(c[i][1], w1, x);
            VI_IN_ORDER(c[i][0], c[i][1]);
        }
    }
    const vf a0 = vf_load(w->a[p.k][0][p.h]), a1 = vf_load(w->a[p.k][1][p.h]);
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++) {
        vf s = vf_set(j->x->s[at + i * step]);
        acc[i][0] = vf_fma(vi_to_float(c[i][0]), vf_mul(a0, s), acc[i][0]);
        acc[i][1] = vf_fma(vi_to_float(c[i][1]), vf_mul(a1, s), acc[i][1]);
    }
}

/* acc -= b * s * sum of p over the part. */
INLINE void add_offset(const int t, vf acc[TOKENS][VECS], const tile *w, const share *m,
                       const part p) {
    const vf b0 = vf_load(w->b[p.k][0][p.h]), b1 = vf_load(w->b[p.k][1][p.h]);
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++) {
        vf f = vf_set(m->sum[i][p.h][p.k]), s = vf_set(m->minus_s[i][p.k]);
        acc[i][0] = vf_fma(f, vf_mul(b0, s), acc[i][0]);
        acc[i][1] = vf_fma(f, vf_mul(b1, s), acc[i][1]);
    }
}

INLINE void multiply(const int t, const kind f, job *j, const tile *w, size_t b) {
    vf acc[TOKENS][VECS];
    share m;
    float *y = j->y + b * j->ldy;
    const size_t n0 = j->n < VI_ROWS ? j->n : VI_ROWS, n1 = j->n - n0;
    if (f.offset) take_share(&m, t, f.split, j, b);
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++) {
        acc[i][0] = j->k ? vf_load_n(y + i * j->ldy, n0) : vf_set(0);
        acc[i][1] = j->k ? vf_load_n(y + i * j->ldy + n0, n1) : vf_set(0);
    }
    for (size_t k = 0; k < j->n_k; k++) {
        const part first = {.k = k, .b = b, .h = 0, .from = 0, .to = f.split ? 4 : 8};
        const part second = {.k = k, .b = b, .h = 1, .from = 4, .to = 8};
        for (size_t i = 0; i < j->at_once && j->next < j->due; i++, j->next += 64)
            __builtin_prefetch(j->next, 0, 2);
        add_part(t, f, acc, j, w, first);
        if (f.split) add_part(t, f, acc, j, w, second);
        if (!f.offset || !j->offset) continue;
        add_offset(t, acc, w, &m, first);
        if (f.split) add_offset(t, acc, w, &m, second);
    }
#pragma GCC unroll 6
    for (size_t i = 0; i < (size_t)t; i++) {
        vf_store_n(y + i * j->ldy, acc[i][0], n0);
        vf_store_n(y + i * j->ldy + n0, acc[i][1], n1);
    }
}

#define MULTIPLY_FN(name, t, ...)                                                                  \
    static NOINLINE void name(job *j, const tile *w, size_t b) {                                   \
        const kind f = {__VA_ARGS__};                                                              \
        multiply(t, f, j, w, b);                                                                   \
    }
#if B32_TOKENS == 6
#define MULTIPLY_FNS(name, ...)                                                                    \
    MULTIPLY_FN(name##_1, 1, __VA_ARGS__)                                                          \
    MULTIPLY_FN(name##_2, 2, __VA_ARGS__)                                                          \
    MULTIPLY_FN(name##_3, 3, __VA_ARGS__)                                                          \
    MULTIPLY_FN(name##_4, 4, __VA_ARGS__)                                                          \
    MULTIPLY_FN(name##_6, 6, __VA_ARGS__)                                                          \
    static void (*const name[TOKENS])(job *, const tile *, size_t) = {                             \
        name##_1, name##_2, name##_3, name##_4, name##_4, name##_6};
#else
#define MULTIPLY_FNS(name, ...)                                                                    \
    MULTIPLY_FN(name##_1, 1, __VA_ARGS__)                                                          \
    MULTIPLY_FN(name##_2, 2, __VA_ARGS__)                                                          \
    MULTIPLY_FN(name##_3, 3, __VA_ARGS__)                                                          \
    MULTIPLY_FN(name##_4, 4, __VA_ARGS__)                                                          \
    static void (*const name[TOKENS])(job *, const tile *, size_t) = {name##_1, name##_2,          \
                                                                      name##_3, name##_4};
#endif
MULTIPLY_FNS(whole, 0)
MULTIPLY_FNS(whole_offset, .offset = true)
MULTIPLY_FNS(halves, .split = true)
MULTIPLY_FNS(whole_wide, .wide = true)
MULTIPLY_FNS(other_whole, .wide = true, .offset = true)
MULTIPLY_FNS(other_halves, .split = true, .wide = true, .offset = true)

/* ==== The loop over tiles ===================================================================== */

/* How a type is unpacked and what its codes are. */
typedef struct format {
    void (*unpack)(tile *t, job *j, const rows *r, size_t v);
    void (*const *multiply)(job *j, const tile *w, size_t b); /* by number of tokens - 1 */
    int32_t bias;                                             /* of the codes */
} format;

static format format_of(uint32_t type) {
    switch (type) {
    case QUANT_Q8_0:
        return (format){unpack_q8_0, whole_wide, VI_BIAS8};
    case KERN_Q8X16:
        return (format){unpack_q8x16, whole_wide, VI_BIAS8};
    case QUANT_Q4_0:
        return (format){unpack_q4_0, whole, 8};
    case QUANT_Q5_0:
        return (format){unpack_q5_0, whole, 16};
    case QUANT_IQ4_NL:
        return (format){unpack_iq4_nl, whole_wide, VI_BIAS8};
    case QUANT_MXFP4:
        return (format){unpack_mxfp4, whole, 12};
    case QUANT_Q4_K:
        return (format){unpack_q4_k, whole_offset, 0};
    case QUANT_Q5_K:
        return (format){unpack_q5_k, whole_offset, 0};
    case QUANT_Q6_K:
        return (format){unpack_q6_k, halves, 32};
    default:
        return (format){unpack_other, kern_split16(type) ? other_halves : other_whole, VI_BIAS8};
    }
}

/* Lines to ask for at each of so many steps, that all that are owed be asked for; at least one. */
static size_t lines_at_once(const job *j, size_t steps) {
    const size_t lines = j->next < j->due ? (size_t)(j->due - j->next) / 64 : 0;
    return (lines + steps) / steps;
}

static void tile_rows(job *j, const format *f) {
    tile t;
    const size_t blocks = j->w->cols / 32, n_tok = j->x->n_tok;
    for (j->k = 0; j->k < blocks; j->k += j->n_k) {
        j->n_k = blocks - j->k < BLOCKS ? blocks - j->k : BLOCKS;
        for (size_t v = 0; v < VECS; v++) {
            rows r;
            for (size_t i = 0; i < VI_ROWS; i++) {
                size_t row = v * VI_ROWS + i < j->n ? v * VI_ROWS + i : j->n - 1;
                r.p[i] = j->w->data + (j->r + row) * j->w->row_bytes;
            }
            f->unpack(&t, j, &r, v);
        }
        if (j->at_once) j->at_once = lines_at_once(j, n_tok / TOKENS * j->n_k);
        for (size_t b = 0, n; b < n_tok; b += n) {
            n = n_tok - b < TOKENS ? n_tok - b : TOKENS;
            if (n == 5) n = 4;
            f->multiply[n - 1](j, &t, b);
        }
    }
}

#ifdef VI_LANES
#include "kern/b32_row_body.h"
#endif

static void NAME(mm_b32_q8)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                            size_t row_begin, size_t row_end) {
#ifdef VI_LANES
    if (x->n_tok == 1 && one_token(y, w, x, row_begin, row_end)) return;
#endif
    const format f = format_of(w->type);
    job j = {.ldy = ldy, .w = w, .x = x, .bias = f.bias, .offset = quant_has_offset(w->type)};
    j.stop = w->data + row_end * w->row_bytes;
    j.at_once = x->n_tok > TOKENS; /* not 0: for tile_rows to work out */
    for (size_t r = row_begin; r < row_end; r += TILE_ROWS) {
        j.y = y + r;
        j.r = r;
        j.n = row_end - r < TILE_ROWS ? row_end - r : TILE_ROWS;
        j.next = j.due = w->data + (r + j.n) * w->row_bytes;
        tile_rows(&j, &f);
    }
}

#include "kern/q8x16_body.h"

void NAME(kern_fill_b32)(kern *k) {
    k->mm_b32_q8 = NAME(mm_b32_q8);
    k->mm_q8x16 = NAME(mm_q8x16);
}
