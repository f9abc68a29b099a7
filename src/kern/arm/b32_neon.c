/* SPDX-License-Identifier: MIT
 *
 * Block formats x int8 with NEON: b32_body.h with four rows in a vector. A dot product of four
 * bytes is a widening multiply and two pairwise additions: products up to 128 * 127 fit int16.
 */
#include "kern/arm/vi_neon.h"

#define NAME(x)      x##_neon
#define B32_TOKENS   6
#define Q8X16_TOKENS 3
enum { TOKENS = B32_TOKENS };
#include "kern/b32_body.h"
