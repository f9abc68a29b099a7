/* SPDX-License-Identifier: MIT
 *
 * The float kernels with AVX2 and FMA: float_body.h over two registers of eight lanes.
 */
#include "kern/x86/v16_avx2.h"

#define NAME(x) x##_avx2
#include "kern/float_body.h"
