/* SPDX-License-Identifier: MIT
 *
 * T5 x int8 with the dot product extension; the frame is in t5_body_neon.h. A lane grows by at most
 * 5 * 2 * 128 * 4 = 5,120 a chunk.
 */
#include <arm_neon.h>

#include "kern/kern_internal.h"

#define INLINE  static inline __attribute__((always_inline))
#define NAME(x) x##_dotprod

INLINE int32x4_t dot4(int32x4_t sum, int8x16_t digits, int8x16_t x) {
    return vdotq_s32(sum, digits, x);
}

#include "kern/arm/t5_body_neon.h"
