/* SPDX-License-Identifier: MIT
 *
 * The float kernels in plain C: the specification of all the others.
 */
#include "kern/c/v16_c.h"

#define NAME(x) x##_c
#include "kern/float_body.h"
