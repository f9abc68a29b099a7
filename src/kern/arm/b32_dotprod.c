/* SPDX-License-Identifier: MIT
 *
 * Block formats x int8 with the dot product extension: b32_body.h with four rows in a vector. Six
 * tokens of two vectors need 24 accumulators of the 32 registers.
 */
#define VI_DOTPROD
#include "kern/arm/vi_neon.h"

#define NAME(x)      x##_dotprod
#define B32_TOKENS   6
#define Q8X16_TOKENS 3
enum { TOKENS = B32_TOKENS };
#include "kern/b32_body.h"
