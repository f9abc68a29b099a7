/* SPDX-License-Identifier: MIT
 *
 * Ternary x int8 with NEON; the frame is in t2_body_neon.h.
 *
 * Fields are shifted down to codes; four widening multiply-adds fill one int16 sum (at most
 * 4 * 3 * 128 = 1,536 a lane), which is added pairwise into int32.
 */
#include <arm_neon.h>

#include "kern/kern_internal.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_neon

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
    const uint8x16_t three = vdupq_n_u8(3);
    int32x4_t s[2][4];
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int k = 0; k < t; k++) s[i][k] = vdupq_n_s32(0);
    for (size_t n = 0; n < 2 * n_blocks; n++) {
        const int8_t *x = q + n / 2 * 128 + n % 2 * 16;
        int8x16_t c[2][4];
#pragma GCC unroll 2
        for (int i = 0; i < rows; i++) {
            uint8x16_t v = vld1q_u8(w + (size_t)i * row_bytes + 16 * n);
            c[i][0] = vreinterpretq_s8_u8(vshrq_n_u8(v, 6));
            c[i][1] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 4), three));
            c[i][2] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 2), three));
            c[i][3] = vreinterpretq_s8_u8(vandq_u8(v, three));
        }
        if (n % 4 == 0) __builtin_prefetch(w + 16 * n + 4096);
#pragma GCC unroll 4
        for (int k = 0; k < t; k++)
#pragma GCC unroll 2
            for (int i = 0; i < rows; i++) {
                int16x8_t lo = vdupq_n_s16(0), hi = lo;
#pragma GCC unroll 4
                for (int f = 0; f < 4; f++) {
                    int8x16_t v = vld1q_s8(x + (size_t)k * ldq + 32 * f);
                    lo = vmlal_s8(lo, vget_low_s8(c[i][f]), vget_low_s8(v));
                    hi = vmlal_high_s8(hi, c[i][f], v);
                }
                s[i][k] = vpadalq_s16(vpadalq_s16(s[i][k], lo), hi);
            }
    }
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < t; k++) d[i][k] = vaddvq_s32(s[i][k]);
}

#include "kern/arm/t2_body_neon.h"
