/* SPDX-License-Identifier: MIT
 *
 * F32 with sixteen rows side by side x float, once over sixteen lanes: layout in c/f32x16_c.c.
 *
 * The lane is the row: a vector of weights is one load, an activation is broadcast, and every
 * output is one chain of fused multiply-adds over the columns, ascending, from 0. Tiles of T tokens
 * x V groups only choose which chains run side by side; nothing is summed across lanes.
 *
 * Columns go in blocks of SIDE_COLS: 2 x 16 rows of a block (48 KiB) stay near while all tokens
 * pass, the tokens' part of a step stays in the second-level cache while all rows do. Between
 * blocks the sums rest in y. Flops per float read: T V 16 / (T + V 16), at least 8 where there are
 * 12 tokens.
 */
enum { SIDE_F32_COLS = 384 };

/* Columns [c0, c1) of tokens b … b + T - 1 and groups r / 16 … + V - 1. */
#define SIDE_F32_TILE(T, V)                                                                        \
    static NOINLINE void side_f32_##T##x##V(float *y, size_t ldy, const kern_mat *w,               \
                                            const kern_act *x, size_t r, size_t b, size_t c0,      \
                                            size_t c1) {                                           \
        const float *p = (const float *)(const void *)(w->data + r * w->row_bytes) + 16 * c0;      \
        const float *xb = x->x + b * x->ldx;                                                       \
        const size_t group = 16 * w->cols, ldx = x->ldx;                                           \
        v16 acc[T][V];                                                                             \
        y += b * ldy + r;                                                                          \
        _Pragma("GCC unroll 12") for (size_t k = 0; k < T; k++)                                    \
            _Pragma("GCC unroll 4") for (size_t v = 0; v < V; v++) acc[k][v] =                     \
                c0 ? v16_load(y + k * ldy + 16 * v) : v16_set(0);                                  \
        for (size_t c = c0; c < c1; c++, p += 16) {                                                \
            v16 wv[V];                                                                             \
            _Pragma("GCC unroll 4") for (size_t v = 0; v < V; v++) wv[v] =                         \
                v16_load(p + v * group);                                                           \
            _Pragma("GCC unroll 12") for (size_t k = 0; k < T; k++) {                              \
                const v16 xv = v16_set(xb[k * ldx + c]);                                           \
                _Pragma("GCC unroll 4") for (size_t v = 0; v < V; v++) acc[k][v] =                 \
                    v16_fma(wv[v], xv, acc[k][v]);                                                 \
            }                                                                                      \
        }                                                                                          \
        _Pragma("GCC unroll 12") for (size_t k = 0; k < T; k++)                                    \
            _Pragma("GCC unroll 4") for (size_t v = 0; v < V; v++)                                 \
                v16_store(y + k * ldy + 16 * v, acc[k][v]);                                        \
    }

#ifdef V16_MANY /* 24 sums */
SIDE_F32_TILE(12, 2)
SIDE_F32_TILE(8, 2)
SIDE_F32_TILE(4, 2)
SIDE_F32_TILE(8, 1)
#define SIDE_F32_WIDE 2
#else /* 6 sums, of two registers or four */
SIDE_F32_TILE(6, 1)
#define SIDE_F32_WIDE 1
#endif
SIDE_F32_TILE(4, 1)
SIDE_F32_TILE(1, 1)
SIDE_F32_TILE(1, 4)

typedef void (*side_f32_fn)(float *, size_t, const kern_mat *, const kern_act *, size_t, size_t,
                            size_t, size_t);

/* The tile for so many tokens and groups; how many of each it takes. */
static side_f32_fn side_f32_tile(size_t tokens, size_t groups, size_t *T, size_t *V) {
    *V = tokens == 1 && groups >= 4 ? 4 : BASE_MIN(groups, (size_t)SIDE_F32_WIDE);
#ifdef V16_MANY
    if (*V == 2 && tokens >= 12) return *T = 12, side_f32_12x2;
    if (*V == 2 && tokens >= 8) return *T = 8, side_f32_8x2;
    if (*V == 2 && tokens >= 4) return *T = 4, side_f32_4x2;
    if (*V == 2) *V = 1;
    if (*V == 1 && tokens >= 8) return *T = 8, side_f32_8x1;
#else
    if (*V == 1 && tokens >= 6) return *T = 6, side_f32_6x1;
#endif
    if (*V == 1 && tokens >= 4) return *T = 4, side_f32_4x1;
    return *T = 1, *V == 4 ? side_f32_1x4 : side_f32_1x1;
}

static void NAME(mm_f32x16)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                            size_t row_begin, size_t row_end) {
    assert(row_begin % 16 == 0 && row_end % 16 == 0);
    for (size_t c = 0; c < w->cols; c += SIDE_F32_COLS) {
        const size_t end = BASE_MIN(c + SIDE_F32_COLS, w->cols);
        for (size_t r = row_begin, wide; r < row_end; r += 16 * wide) {
            wide = BASE_MIN((row_end - r) / 16, (size_t)(x->n_tok == 1 ? 4 : SIDE_F32_WIDE));
            for (size_t b = 0, T = 0; b < x->n_tok; b += T)
                for (size_t g = 0, V = 0; g < wide; g += V)
                    side_f32_tile(x->n_tok - b, wide - g, &T, &V)(y, ldy, w, x, r + 16 * g, b, c,
                                                                  end);
        }
    }
}
