/* SPDX-License-Identifier: MIT
 *
 * The aarch64 staircase: each step overwrites the slots it has a faster version of. The matrix
 * multiply extension helps where several tokens meet; one token stays with the dot product.
 */
#include "cpu/cpu.h"
#include "kern/kern.h"
#include "kern/kern_internal.h"

void kern_fill_arm(kern *k, unsigned cpu) {
    if (!(cpu & CPU_NEON)) return;
    kern_fill_float_neon(k);
    kern_fill_t2_neon(k);
    kern_fill_t5_neon(k);
    kern_fill_b32_neon(k);
    kern_fill_scan_neon(k);
    if (!(cpu & CPU_DOTPROD)) return;
    kern_fill_t2_dotprod(k);
    kern_fill_t5_dotprod(k);
    kern_fill_b32_dotprod(k);
    if (!(cpu & CPU_I8MM)) return;
    const kern_mm_fn decode = k->gemv_t2_i8;
    kern_fill_t2_i8mm(k);
    k->gemv_t2_i8 = decode;
}
