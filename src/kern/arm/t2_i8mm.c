/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with the matrix multiply extension; the frame is in t2_body_neon.h.
 *
 * One instruction multiplies two rows by two tokens over eight columns: 32 multiply-adds where the
 * dot product does 16. Halves of two rows, and of two tokens, are zipped into one register. One row
 * or one token alone repeats itself. Codes are shifted down; a lane of the sum grows by at most
 * 8 * 3 * 128 a step, far from its end for any K t2_c.c allows.
 */
#include <arm_neon.h>

#include "kern/kern_internal.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_i8mm

typedef struct operands {
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    size_t r, b;       /* first row, first token */
} operands;

/* The first (or last) eight bytes of a and b in one register. */
INLINE int8x16_t zip_low(int8x16_t a, int8x16_t b) {
    return vcombine_s8(vget_low_s8(a), vget_low_s8(b));
}
INLINE int8x16_t zip_high(int8x16_t a, int8x16_t b) {
    return vcombine_s8(vget_high_s8(a), vget_high_s8(b));
}

/* d[row][token]: sums of code * activation. */
INLINE void pair_sums(const int rows, const int t, int32_t d[2][4], const operands *o) {
    const size_t row_bytes = o->w->row_bytes, ldq = o->x->ldq, n_blocks = (o->w->cols + 127) / 128;
    const uint8_t *w = o->w->data + o->r * row_bytes;
    const int8_t *q = o->x->q + o->b * ldq;
    const uint8x16_t three = vdupq_n_u8(3);
    const uint8_t *w1 = rows == 2 ? w + row_bytes : w;
    int32x4_t s[2] = {vdupq_n_s32(0), vdupq_n_s32(0)}; /* tokens 0, 1 and 2, 3 */
    for (size_t n = 0; n < 2 * n_blocks; n++) {
        const int8_t *x = q + n / 2 * 128 + n % 2 * 16;
        uint8x16_t a = vld1q_u8(w + 16 * n), b = vld1q_u8(w1 + 16 * n);
        if (n % 4 == 0) __builtin_prefetch(w + 16 * n + 4096);
#pragma GCC unroll 4
        for (int f = 0; f < 4; f++) {
            const int8x16_t down = vdupq_n_s8((int8_t)(2 * f - 6));
            int8x16_t ca = vreinterpretq_s8_u8(vandq_u8(vshlq_u8(a, down), three));
            int8x16_t cb = vreinterpretq_s8_u8(vandq_u8(vshlq_u8(b, down), three));
            int8x16_t low = zip_low(ca, cb), high = zip_high(ca, cb);
#pragma GCC unroll 2
            for (int k = 0; k < (t + 1) / 2; k++) {
                const int8_t *xk = x + (size_t)(2 * k) * ldq + 32 * f;
                int8x16_t x0 = vld1q_s8(xk), x1 = t > 1 ? vld1q_s8(xk + ldq) : x0;
                s[k] = vmmlaq_s32(vmmlaq_s32(s[k], low, zip_low(x0, x1)), high, zip_high(x0, x1));
            }
        }
    }
    for (int k = 0; k < t; k++)
        for (int i = 0; i < rows; i++) {
            int32_t pair[4]; /* row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1 */
            vst1q_s32(pair, s[k / 2]);
            d[i][k] = pair[2 * i + k % 2];
        }
}

#include "kern/arm/t2_body_neon.h"
