/* SPDX-License-Identifier: MIT
 *
 * Block formats x int8 with AVX-512 VNNI: b32_body.h with sixteen rows in a vector. Six tokens of
 * two vectors need 12 float and 12 integer accumulators of the 32 registers.
 */
#include "kern/x86/vi_avx512.h"

#define NAME(x)      x##_avx512vnni
#define B32_TOKENS   6
#define Q8X16_TOKENS 8
enum { TOKENS = B32_TOKENS };
#include "kern/b32_body.h"
