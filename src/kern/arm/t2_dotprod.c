/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with the dot product extension; the frame is in t2_body_neon.h.
 *
 * The dot product takes signed bytes, so the top field is shifted down (code 2 at C0h would be
 * negative) and the others are masked in place: v >> 6 and v & 03h feed a sum of weight 1, v & 0Ch
 * one of weight 4, v & 30h one of weight 16. The last grows by at most 48 * 128 * 4 = 24,576 a lane
 * and load: 87,381 loads of half a block, 5.5 million columns.
 */
#include <arm_neon.h>

#include "kern/kern_internal.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_dotprod

typedef struct operands {
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    size_t r, b;       /* first row, first token */
} operands;

/* d[row][token]: sums of code * activation. */
INLINE void pair_sums(const int rows, const int t, int32_t d[2][4], const operands *o) {
    const size_t row_bytes = o->w->row_bytes, ldq = o->x->ldq, n_blocks = (o->w->cols + 127) / 128;
    const uint8_t *w = o->w->data + o->r * row_bytes;
    const int8_t *q = o->x->q + o->b * ldq;
    const uint8x16_t m1 = vdupq_n_u8(0x30), m2 = vdupq_n_u8(0x0C), m3 = vdupq_n_u8(0x03);
    int32x4_t s1[2][4], s4[2][4], s16[2][4];
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int k = 0; k < t; k++) s1[i][k] = s4[i][k] = s16[i][k] = vdupq_n_s32(0);
    for (size_t n = 0; n < 2 * n_blocks; n++) {
        const int8_t *x = q + n / 2 * 128 + n % 2 * 16;
        int8x16_t c[2][4];
#pragma GCC unroll 2
        for (int i = 0; i < rows; i++) {
            uint8x16_t v = vld1q_u8(w + (size_t)i * row_bytes + 16 * n);
            c[i][0] = vreinterpretq_s8_u8(vshrq_n_u8(v, 6));
            c[i][1] = vreinterpretq_s8_u8(vandq_u8(v, m1));
            c[i][2] = vreinterpretq_s8_u8(vandq_u8(v, m2));
            c[i][3] = vreinterpretq_s8_u8(vandq_u8(v, m3));
        }
        if (n % 4 == 0) __builtin_prefetch(w + 16 * n + 4096);
#pragma GCC unroll 4
        for (int k = 0; k < t; k++) {
            const int8_t *xk = x + (size_t)k * ldq;
            int8x16_t x0 = vld1q_s8(xk), x1 = vld1q_s8(xk + 32);
            int8x16_t x2 = vld1q_s8(xk + 64), x3 = vld1q_s8(xk + 96);
#pragma GCC unroll 2
            for (int i = 0; i < rows; i++) {
                s1[i][k] = vdotq_s32(vdotq_s32(s1[i][k], c[i][0], x0), c[i][3], x3);
                s16[i][k] = vdotq_s32(s16[i][k], c[i][1], x1);
                s4[i][k] = vdotq_s32(s4[i][k], c[i][2], x2);
            }
        }
    }
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < t; k++)
            d[i][k] = vaddvq_s32(s1[i][k]) + vaddvq_s32(s4[i][k]) / 4 + vaddvq_s32(s16[i][k]) / 16;
}

#include "kern/arm/t2_body_neon.h"
