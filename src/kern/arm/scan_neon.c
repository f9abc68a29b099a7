/* SPDX-License-Identifier: MIT
 *
 * A query against rows, with NEON. Bytes: products in 16 bits, two of them added there. Two bits:
 * sixteen bytes shifted by 0, 2, 4 and 6 are the codes of columns 0-15, 16-31, 32-47 and 48-63.
 *
 * Bounds: two products of bytes within +-127 are at most 32,258 in 16 bits, four products with
 * codes 4 * 3 * 127. Bytes per output: ld, and ld / 4.
 */
#include <arm_neon.h>

#include "kern/kern_internal.h"

static inline int32x4_t step(int32x4_t acc, const int8_t *row, const int8_t *query) {
    const int8x16_t d = vld1q_s8(row), q = vld1q_s8(query);
    int16x8_t pairs = vmull_s8(vget_low_s8(d), vget_low_s8(q));
    pairs = vmlal_s8(pairs, vget_high_s8(d), vget_high_s8(q));
    return vpadalq_s16(acc, pairs);
}

static void scan_i8_neon(int32_t *out, const int8_t *rows, const int8_t *query, size_t ld,
                         size_t n_rows) {
    for (size_t r = 0; r < n_rows; r++, rows += ld) {
        int32x4_t a = vdupq_n_s32(0), b = a;
        for (size_t c = 0; c < ld; c += 32) {
            a = step(a, rows + c, query + c);
            b = step(b, rows + c + 16, query + c + 16);
        }
        out[r] = vaddvq_s32(vaddq_s32(a, b));
    }
}

static inline int16x8_t step_codes(int16x8_t acc, uint8x16_t code, const int8_t *query) {
    const int8x16_t d = vreinterpretq_s8_u8(code), q = vld1q_s8(query);
    acc = vmlal_s8(acc, vget_low_s8(d), vget_low_s8(q));
    return vmlal_s8(acc, vget_high_s8(d), vget_high_s8(q));
}

static void scan_i2_neon(int32_t *out, const uint8_t *rows, const int8_t *query, size_t ld,
                         size_t n_rows) {
    const uint8x16_t low = vdupq_n_u8(3);
    for (size_t r = 0; r < n_rows; r++, rows += ld / 4) {
        int32x4_t sum = vdupq_n_s32(0);
        for (size_t c = 0; c < ld; c += 64) {
            const uint8x16_t all = vld1q_u8(rows + c / 4);
            int16x8_t a = vdupq_n_s16(0), b = a;
            a = step_codes(a, vandq_u8(all, low), query + c);
            a = step_codes(a, vandq_u8(vshrq_n_u8(all, 2), low), query + c + 16);
            b = step_codes(b, vandq_u8(vshrq_n_u8(all, 4), low), query + c + 32);
            b = step_codes(b, vshrq_n_u8(all, 6), query + c + 48);
            sum = vpadalq_s16(vpadalq_s16(sum, a), b);
        }
        out[r] = vaddvq_s32(sum);
    }
}

void kern_fill_scan_neon(kern *k) {
    k->scan_i8 = scan_i8_neon;
    k->scan_i2 = scan_i2_neon;
}
