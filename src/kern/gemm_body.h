/* SPDX-License-Identifier: MIT
 *
 * The plain float product C = A B or C += A B, written once over sixteen lanes. Training needs it
 * in three forms (Y = X W^T, dX = dY W, dW = dY^T X), so both operands take any strides.
 *
 * Every c(i, j) is one chain of fused multiply-adds over k, ascending, from 0 or from what C held;
 * tiles and threads only choose which chains run side by side, so the bits do not depend on them.
 *
 * Panels of GEMM_KC steps are copied so that the inner loop reads both operands in one line:
 *
 *   A panel   strip of MR rows:  | k = 0: MR rows | k = 1: MR rows | …     strip after strip
 *   B strip   NR columns:        | k = 0: NR columns | k = 1 …
 *
 * and MR x NR sums stay in registers. Rows and columns past the end are copied as zeros and their
 * sums are dropped. Flops per float read from the panels: MR NR / (MR + NR), at least 4.
 */
#include <assert.h>

#ifdef V16_MANY
enum { GEMM_MR = 12, GEMM_NV = 2 }; /* 24 sums of 16 lanes */
#else
enum { GEMM_MR = 6, GEMM_NV = 1 }; /* 6 sums: 12 registers of 8 lanes, 24 of 4 */
#endif
enum { GEMM_NR = 16 * GEMM_NV };

/* Four lanes in the vector extension of GCC and Clang: a transpose any target compiles to its own
 * shuffles. */
typedef float gemm_f4 __attribute__((vector_size(16)));

/* dst[i][j] = src[j][i], 4 x 4, rows ld_dst and ld_src floats apart. */
static inline void gemm_transpose4(float *dst, size_t ld_dst, const float *src, size_t ld_src) {
    gemm_f4 r[4], t[4];
    for (size_t i = 0; i < 4; i++) memcpy(&r[i], src + i * ld_src, sizeof r[i]);
    t[0] = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
    t[1] = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    t[2] = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    t[3] = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    for (size_t i = 0; i < 2; i++) {
        r[2 * i] = __builtin_shufflevector(t[2 * i], t[2 * i + 1], 0, 1, 4, 5);
        r[2 * i + 1] = __builtin_shufflevector(t[2 * i], t[2 * i + 1], 2, 3, 6, 7);
    }
    for (size_t i = 0; i < 4; i++) memcpy(dst + i * ld_dst, &r[i], sizeof r[i]);
}

/* dst[k][ld] = the transpose of n rows of n_k floats, `row` apart. */
static void gemm_pack_across(float *dst, size_t ld, const float *src, size_t row, size_t n,
                             size_t n_k) {
    const size_t whole = n / 4 * 4, steps = n_k / 4 * 4;
    for (size_t i = 0; i < whole; i += 4)
        for (size_t k = 0; k < steps; k += 4)
            gemm_transpose4(dst + k * ld + i, ld, src + i * row + k, row);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i < whole ? steps : 0; k < n_k; k++) dst[k * ld + i] = src[i * row + k];
}

/* dst[k][MR] = A[r .. r + rows)[k0 .. k0 + n_k). */
static void gemm_pack_a(float *dst, const kern_gemm *g, size_t r, size_t rows, size_t k0,
                        size_t n_k) {
    const float *a = g->a + r * g->a_row + k0 * g->a_col;
    if (rows < GEMM_MR)
        for (size_t i = 0; i < n_k * GEMM_MR; i++) dst[i] = 0;
    if (g->a_col == 1)
        gemm_pack_across(dst, GEMM_MR, a, g->a_row, rows, n_k);
    else if (rows == GEMM_MR) /* a size known here is a move or two, not a call */
        for (size_t k = 0; k < n_k; k++)
            memcpy(dst + k * GEMM_MR, a + k * g->a_col, GEMM_MR * sizeof *a);
    else
        for (size_t k = 0; k < n_k; k++)
            memcpy(dst + k * GEMM_MR, a + k * g->a_col, rows * sizeof *a);
}

/* dst[k][NR] = B[k0 .. k0 + n_k)[c .. c + cols). */
static void gemm_pack_b(float *dst, const kern_gemm *g, size_t c, size_t cols, size_t k0,
                        size_t n_k) {
    const float *b = g->b + k0 * g->b_row + c * g->b_col;
    if (g->b_col == 1) {
        for (size_t k = 0; k < n_k; k++, dst += GEMM_NR, b += g->b_row)
            for (size_t v = 0; v < GEMM_NV; v++) {
                size_t left = cols > 16 * v ? cols - 16 * v : 0;
                v16_store(dst + 16 * v,
                          left ? v16_load_n(b + 16 * v, left < 16 ? left : 16) : v16_set(0));
            }
        return;
    }
    if (cols < GEMM_NR)
        for (size_t i = 0; i < n_k * GEMM_NR; i++) dst[i] = 0;
    gemm_pack_across(dst, GEMM_NR, b, g->b_col, cols, n_k);
}

/* MR x NR sums over n_k steps, on top of c, or of zeros when c_in is false. */
static NOINLINE void gemm_tile(float *c, size_t ldc, const float *a, const float *b, size_t n_k,
                               bool c_in) {
    v16 acc[GEMM_MR][GEMM_NV];
    _Pragma("GCC unroll 12") for (size_t i = 0; i < GEMM_MR; i++)
        _Pragma("GCC unroll 2") for (size_t v = 0; v < GEMM_NV; v++) acc[i][v] =
            c_in ? v16_load(c + i * ldc + 16 * v) : v16_set(0);
    for (size_t k = 0; k < n_k; k++, a += GEMM_MR, b += GEMM_NR) {
        v16 bv[GEMM_NV];
        _Pragma("GCC unroll 2") for (size_t v = 0; v < GEMM_NV; v++) bv[v] = v16_load(b + 16 * v);
        _Pragma("GCC unroll 12") for (size_t i = 0; i < GEMM_MR; i++) {
            const v16 av = v16_set(a[i]);
            _Pragma("GCC unroll 2") for (size_t v = 0; v < GEMM_NV; v++) acc[i][v] =
                v16_fma(av, bv[v], acc[i][v]);
        }
    }
    _Pragma("GCC unroll 12") for (size_t i = 0; i < GEMM_MR; i++)
        _Pragma("GCC unroll 2") for (size_t v = 0; v < GEMM_NV; v++)
            v16_store(c + i * ldc + 16 * v, acc[i][v]);
}

/* The same for a tile that sticks out: through a copy of its C. */
static void gemm_edge(float *c, size_t ldc, const float *a, const float *b, size_t n_k, bool c_in,
                      size_t rows, size_t cols) {
    float t[GEMM_MR * GEMM_NR] = {0};
    for (size_t i = 0; c_in && i < rows; i++)
        memcpy(t + i * GEMM_NR, c + i * ldc, cols * sizeof *c);
    gemm_tile(t, GEMM_NR, a, b, n_k, true);
    for (size_t i = 0; i < rows; i++) memcpy(c + i * ldc, t + i * GEMM_NR, cols * sizeof *c);
}

/* Rows [r, r + rows), steps [k0, k0 + n_k): A once, then B strip by strip. */
static void gemm_panel(const kern_gemm *g, size_t r, size_t rows, size_t k0, float *scratch) {
    const size_t n_k = g->k - k0 < KERN_GEMM_KC ? g->k - k0 : KERN_GEMM_KC;
    const bool c_in = g->add || k0 > 0;
    float *strip = scratch + (size_t)KERN_GEMM_MC * KERN_GEMM_KC;
    for (size_t i = 0; i < rows; i += GEMM_MR)
        gemm_pack_a(scratch + i * n_k, g, r + i, rows - i < GEMM_MR ? rows - i : GEMM_MR, k0, n_k);
    for (size_t j = 0; j < g->n; j += GEMM_NR) {
        const size_t cols = g->n - j < GEMM_NR ? g->n - j : GEMM_NR;
        gemm_pack_b(strip, g, j, cols, k0, n_k);
        for (size_t i = 0; i < rows; i += GEMM_MR) {
            float *c = g->c + (r + i) * g->ldc + j;
            if (rows - i >= GEMM_MR && cols == GEMM_NR)
                gemm_tile(c, g->ldc, scratch + i * n_k, strip, n_k, c_in);
            else
                gemm_edge(c, g->ldc, scratch + i * n_k, strip, n_k, c_in,
                          rows - i < GEMM_MR ? rows - i : GEMM_MR, cols);
        }
    }
}

static void NAME(gemm_f32)(const kern_gemm *g, size_t row_begin, size_t row_end, float *scratch) {
    assert(row_end <= g->m && (g->a_row == 1 || g->a_col == 1) && (g->b_row == 1 || g->b_col == 1));
    for (size_t r = row_begin; r < row_end; r += KERN_GEMM_MC) {
        const size_t rows = row_end - r < KERN_GEMM_MC ? row_end - r : KERN_GEMM_MC;
        if (g->k == 0 && !g->add)
            for (size_t i = 0; i < rows; i++)
                memset(g->c + (r + i) * g->ldc, 0, g->n * sizeof *g->c);
        for (size_t k0 = 0; k0 < g->k; k0 += KERN_GEMM_KC) gemm_panel(g, r, rows, k0, scratch);
    }
}
