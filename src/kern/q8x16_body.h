/* SPDX-License-Identifier: MIT
 *
 * Q8_0 with sixteen rows side by side x int8, once for every instruction set: layout and order of
 * sums in q8x16_c.c. A file per instruction set includes a vi header (VI_ROWS 32-bit lanes) and
 * then this.
 *
 * The lane is the row and the layout has it so: a vector of codes is one load, dword j of the
 * activations is broadcast, eight products of four make a block. Nothing else happens to a byte, so
 * that memory alone sets the pace of one token (x86/stream.h on the two prefetches). More tokens
 * than one pass takes go by the tiles of b32_body.h, where a load of codes serves two vectors of
 * rows and no byte is made unsigned more than once. Bounds as in b32_body.h. Per output: 34 bytes
 * for 32 columns once.
 *
 * Before including: define NAME(x) and Q8X16_TOKENS, the most tokens of one pass over a group.
 */
enum {
    SIDE_VECS = KERN_Q8X16_ROWS / VI_ROWS, /* vectors of a group's rows */
    SIDE_BLOCK = 34 * KERN_Q8X16_ROWS,     /* bytes of a block of a group */
    SIDE_FAR = 16384,                      /* bytes to what is asked for from memory */
    SIDE_NEAR = 1024                       /* the same from the second-level cache */
};

/* Lines of a block, as far ahead; every other block starts in the middle of one. */
INLINE void side_prefetch(const uint8_t *block) {
    const size_t lines = (uintptr_t)block % 64 ? 8 : 9;
    block += (uintptr_t)block % 64 ? 32 : 0;
    for (size_t i = 0; i < lines * 64; i += 64) {
        __builtin_prefetch(block + SIDE_FAR + i, 0, 2);
        __builtin_prefetch(block + SIDE_NEAR + i, 0, 3);
    }
}

/* Products of block k of a group with t tokens. */
INLINE void side_block(const int t, vf acc[Q8X16_TOKENS][SIDE_VECS], const uint8_t *block,
                       const kern_act *x, size_t k) {
    const size_t step = x->ldq / 32;
    const int8_t *q = x->q + 32 * k;
    const uint8_t *codes = block + 2 * KERN_Q8X16_ROWS;
    vi c[Q8X16_TOKENS][SIDE_VECS];
#pragma GCC unroll 8
    for (size_t i = 0; i < (size_t)t; i++) {
        const int16_t *sum = x->sum16 + 2 * (k + i * step);
        const vi start = vi_set32(-VI_BIAS8 * (sum[0] + sum[1]));
#pragma GCC unroll 4
        for (size_t v = 0; v < SIDE_VECS; v++) c[i][v] = start;
    }
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; j++)
#pragma GCC unroll 4
        for (size_t v = 0; v < SIDE_VECS; v++) {
            const vi w = vi_xor(vi_load_any(codes + (j * KERN_Q8X16_ROWS + v * VI_ROWS) * 4),
                                vi_set8(VI_BIAS8));
#pragma GCC unroll 8
            for (size_t i = 0; i < (size_t)t; i++) {
                int32_t four;
                memcpy(&four, q + i * x->ldq + 4 * j, 4);
                c[i][v] = vi_dot8(c[i][v], w, vi_set32(four));
            }
        }
#pragma GCC unroll 4
    for (size_t v = 0; v < SIDE_VECS; v++) {
        _Alignas(32) uint16_t half[VI_ROWS];
        memcpy(half, block + 2 * v * VI_ROWS, sizeof half);
        const vf a = vf_from_half(half);
#pragma GCC unroll 8
        for (size_t i = 0; i < (size_t)t; i++)
            acc[i][v] =
                vf_fma(vi_to_float(c[i][v]), vf_mul(a, vf_set(x->s[k + i * step])), acc[i][v]);
    }
}

/* t tokens against a group whose first row is r, n rows of it. */
INLINE void side_group(const int t, float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                       size_t r, size_t n) {
    const uint8_t *block = w->data + r / KERN_Q8X16_ROWS * (w->cols / 32) * SIDE_BLOCK;
    vf acc[Q8X16_TOKENS][SIDE_VECS];
#pragma GCC unroll 8
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < SIDE_VECS; v++) acc[i][v] = vf_set(0);
    for (size_t k = 0; k < w->cols / 32; k++, block += SIDE_BLOCK) {
        side_prefetch(block);
        side_block(t, acc, block, x, k);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < (size_t)t; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < SIDE_VECS; v++) {
            const size_t from = v * VI_ROWS, left = n > from ? n - from : 0;
            vf_store_n(y + i * ldy + r + from, acc[i][v], left < VI_ROWS ? left : VI_ROWS);
        }
}

#define SIDE_FN(t)                                                                                 \
    static NOINLINE void side_group_##t(float *y, size_t ldy, const kern_mat *w,                   \
                                        const kern_act *x, size_t r, size_t n) {                   \
        side_group(t, y, ldy, w, x, r, n);                                                         \
    }
SIDE_FN(1)
SIDE_FN(2)
SIDE_FN(3)
#if Q8X16_TOKENS == 8
SIDE_FN(4)
SIDE_FN(5)
SIDE_FN(6)
SIDE_FN(7)
SIDE_FN(8)
#endif

static void NAME(mm_q8x16)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                           size_t row_begin, size_t row_end) {
    static void (*const group[Q8X16_TOKENS])(float *, size_t, const kern_mat *, const kern_act *,
                                             size_t, size_t) = {
        side_group_1,
        side_group_2,
        side_group_3,
#if Q8X16_TOKENS == 8
        side_group_4,
        side_group_5,
        side_group_6,
        side_group_7,
        side_group_8,
#endif
    };
    if (x->n_tok > Q8X16_TOKENS) {
        NAME(mm_b32_q8)(y, ldy, w, x, row_begin, row_end);
        return;
    }
    for (size_t r = row_begin; r < row_end; r += KERN_Q8X16_ROWS) {
        const size_t left = row_end - r;
        group[x->n_tok - 1](y, ldy, w, x, r, left < KERN_Q8X16_ROWS ? left : KERN_Q8X16_ROWS);
    }
}
