/* SPDX-License-Identifier: MIT
 *
 * The tile form of ternary x int8 with AVX-512 VNNI: many tokens. This header is what a tile is;
 * the file of each type of weights says how its tiles are unpacked and then includes
 * tile_body512.h, which does the rest.
 *
 * 64 rows x up to 2,560 columns are unpacked to bytes, the lane being the row, and four such
 * vectors meet six tokens in 24 accumulators: no horizontal sums, and ten loads for 24 products.
 *
 *   tile   byte ((k * 4 + v) * 16 + r) * 4 + i = code of row 16 v + r, column 4 k + i
 */
#ifndef TILE_AVX512_H
#define TILE_AVX512_H

#include "kern/x86/t2_avx512.h"

enum {
    VECS = 4,                /* vectors of rows */
    TILE_ROWS = VECS * ROWS, /* rows of a tile */
    TILE_COLS = 2560,        /* most columns of a tile */
    STEP = TILE_ROWS * 4,    /* bytes of four columns */
    TILE_BYTES = TILE_COLS / 4 * STEP,
    LINE = 64 /* bytes of a cache line; columns between looks ahead */
};

/* A chunk of columns of some rows. */
typedef struct tile {
    uint8_t *code;                  /* unpacked */
    const uint8_t *rows[TILE_ROWS]; /* packed T2 rows; those past the end repeat the last one */
    const uint8_t *groups[VECS];    /* packed T5 groups, likewise */
    size_t r, n;                    /* first row, rows that exist */
    size_t skip;                    /* rows in front that are not wanted, fewer than ROWS */
    size_t c;                       /* number of the chunk in its rows */
    part p;                         /* columns */
    size_t looks;                   /* times LINE columns there are to multiply */
    size_t piece, n_pieces;         /* pieces unpacked, pieces there are */
    size_t last;                    /* T5: last chunk of 20 columns, from the tile's first on */
} tile;

typedef struct job {
    float *y;            /* [B, ldy] */
    size_t ldy;          /* floats between tokens */
    const kern_mat *w;   /* weights */
    const kern_act *x;   /* activations */
    size_t begin, end;   /* rows */
    size_t chunks;       /* of columns */
    size_t tok, tok_end; /* tokens */
} job;

#endif
