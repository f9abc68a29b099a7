/* SPDX-License-Identifier: MIT
 *
 * T5 x int8 with NEON; the frame is in t5_body_neon.h.
 *
 * Products of a digit and an activation are added in pairs in int16 (at most 2 * 128 * 2 = 512),
 * then in int32.
 */
#include <arm_neon.h>

#include "kern/kern_internal.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_neon

/* Lane r: plus the four products of bytes 4 r … 4 r + 3. */
INLINE int32x4_t dot4(int32x4_t sum, int8x16_t digits, int8x16_t x) {
    int16x8_t lo = vmull_s8(vget_low_s8(digits), vget_low_s8(x)), hi = vmull_high_s8(digits, x);
    return vpadalq_s16(sum, vpaddq_s16(lo, hi));
}

#include "kern/arm/t5_body_neon.h"
