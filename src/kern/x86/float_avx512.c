/* SPDX-License-Identifier: MIT
 *
 * The float kernels with AVX-512 (F, BW, DQ, VL): float_body.h over one register of sixteen lanes.
 */
#include "kern/x86/v16_avx512.h"

#define NAME(x) x##_avx512
#include "kern/float_body.h"
