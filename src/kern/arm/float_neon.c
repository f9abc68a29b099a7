/* SPDX-License-Identifier: MIT
 *
 * The float kernels with NEON: float_body.h over four registers of four lanes.
 */
#include "kern/arm/v16_neon.h"

#define NAME(x) x##_neon
#include "kern/float_body.h"
