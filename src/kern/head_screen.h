/* SPDX-License-Identifier: MIT
 *
 * head_screen, once for every instruction set with byte dot products; meaning in head_c.c, layout
 * in head.c. A file per instruction set includes a vi header (VI_ROWS 32-bit lanes) and then this.
 *
 * The lane is the row. Per block of 32 columns and vector of rows: four loads of 64 (32) bytes,
 * each two vectors of nibbles, each multiplied by the high and the low bytes of four activations: 2
 * x 8 dot products, one scale product. Up to four tokens share the nibbles. Bounds: |high|, |low|
 * sums <= 15 * 32 * 128; 256 high + low as in head.c. Per row: 17 ldc / 32 bytes from memory, one
 * linear stream, prefetched 12 KB ahead.
 *
 * Before including: define NAME(x).
 */
#include "kern/kern_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum { SCREEN_TOKENS = 4, SCREEN_AHEAD = 12288 };

INLINE vi four_of(const int8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return vi_set32(x);
}

/* acc[token] += scale * sum of one block; w: its nibbles, u: its scales, both of these rows. */
INLINE void screen_block(const int t, vf acc[SCREEN_TOKENS], const uint8_t *w, const uint8_t *u,
                         const kern_x16 *x, size_t b) {
    const vi low = vi_set8(15);
    vi h[SCREEN_TOKENS], l[SCREEN_TOKENS];
#pragma GCC unroll 4
    for (int i = 0; i < t; i++) h[i] = l[i] = vi_set32(0);
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) {
        const vi both = vi_load(w + 64 * v);
        const vi first = vi_and(both, low), second = vi_and(vi_shr16(both, 4), low);
#pragma GCC unroll 4
        for (int i = 0; i < t; i++) {
            const int8_t *xh = x[i].high + 32 * b + 8 * v, *xl = x[i].low + 32 * b + 8 * v;
            h[i] = vi_dot(h[i], first, four_of(xh));
            l[i] = vi_dot(l[i], first, four_of(xl));
            h[i] = vi_dot(h[i], second, four_of(xh + 4));
            l[i] = vi_dot(l[i], second, four_of(xl + 4));
        }
    }
    const vf scale = vi_to_float(vi_from_u8(u));
#pragma GCC unroll 4
    for (int i = 0; i < t; i++) {
        vi dot = vi_add32(vi_shl32(h[i], 9), vi_shl32(l[i], 1)); /* doubled */
        dot = vi_sub32(dot, vi_set32(x[i].sum15[b]));
        acc[i] = vf_fma(vi_to_float(dot), scale, acc[i]);
    }
}

INLINE void screen_group(const int t, const kern_planes *p, const kern_x16 *x, size_t g) {
    const size_t bytes = p->ldc / 128 * HEAD_CHUNK_BYTES;
    for (size_t r = 0; r < KERN_HEAD_GROUP; r += VI_ROWS) {
        const uint8_t *chunk = p->coarse + g * bytes;
        vf acc[SCREEN_TOKENS];
#pragma GCC unroll 4
        for (int i = 0; i < t; i++) acc[i] = vf_set(0);
        for (size_t c = 0; c < p->ldc / 128; c++, chunk += HEAD_CHUNK_BYTES) {
            for (size_t at = r / VI_ROWS * 64; at < HEAD_CHUNK_BYTES;
                 at += KERN_HEAD_GROUP / VI_ROWS * 64)
                __builtin_prefetch(chunk + SCREEN_AHEAD + at);
            for (size_t b = 0; b < 4; b++)
                screen_block(t, acc, chunk + 64 + 256 * b + 4 * r, chunk + 16 * b + r, x,
                             4 * c + b);
        }
        const size_t row = g * KERN_HEAD_GROUP + r;
#pragma GCC unroll 4
        for (int i = 0; i < t; i++) {
            const vf step = vf_mul(vf_load(p->step + row), vf_set(8.0f * x[i].step));
            vf_store(x[i].y + row, vf_mul(acc[i], step));
        }
    }
}

#define SCREEN_FN(t)                                                                               \
    static __attribute__((noinline)) void screen_##t(const kern_planes *p, const kern_x16 *x,      \
                                                     size_t begin, size_t end) {                   \
        for (size_t g = begin; g < end; g++) screen_group(t, p, x, g);                             \
    }
SCREEN_FN(1)
SCREEN_FN(2)
SCREEN_FN(3)
SCREEN_FN(4)

static void NAME(head_screen)(const kern_planes *p, const kern_x16 *x, size_t n_tok, size_t begin,
                              size_t end) {
    static void (*const fn[])(const kern_planes *, const kern_x16 *, size_t,
                              size_t) = {screen_1, screen_2, screen_3, screen_4};
    for (size_t b = 0, t; b < n_tok; b += t) {
        t = n_tok - b < SCREEN_TOKENS ? n_tok - b : SCREEN_TOKENS;
        fn[t - 1](p, x + b, begin, end);
    }
}
