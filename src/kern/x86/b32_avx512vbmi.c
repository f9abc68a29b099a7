/* SPDX-License-Identifier: MIT
 *
 * Block formats x int8 with AVX-512 VNNI and VBMI: as b32_avx512vnni.c, but nibbles are looked up
 * with what stands beside them. A third of the instructions of MXFP4 and IQ4_NL are lookups and
 * their masks.
 */
#include "kern/x86/vi_avx512.h"

#define NAME(x)      x##_avx512vbmi
#define B32_TOKENS   6
#define Q8X16_TOKENS 8
enum { TOKENS = B32_TOKENS };
#include "kern/b32_body.h"
