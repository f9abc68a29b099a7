/* SPDX-License-Identifier: MIT
 *
 * Block formats x int8 with AVX2: b32_body.h with eight rows in a vector. Four tokens of two
 * vectors keep the 8 integer accumulators in registers; the float ones live on the stack, touched
 * once in eight steps.
 */
#include "kern/x86/vi_avx2.h"

#define NAME(x)      x##_avx2
#define B32_TOKENS   4
#define Q8X16_TOKENS 3
enum { TOKENS = B32_TOKENS };
#include "kern/b32_body.h"
