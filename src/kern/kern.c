/* SPDX-License-Identifier: MIT
 *
 * The kernel table: C first, then the staircase of the architecture. Also the few operations that
 * need no variants.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

#include <assert.h>
#include <math.h>

bool kern_split16(uint32_t type) {
    return type == QUANT_Q2_K || type == QUANT_Q3_K || type == QUANT_Q6_K;
}

/* The angle in double, folded into one turn, so that position 100,000 is as exact as position 1. */
void kern_rope_table(float *cs, float *sn, const double *inv_freq, size_t n, uint32_t pos) {
    for (size_t i = 0; i < n; i++) {
        double angle = (double)pos * inv_freq[i];
        cs[i] = (float)cos(angle);
        sn[i] = (float)sin(angle);
    }
}

void kern_init(kern *k, unsigned cpu) {
    memset(k, 0, sizeof *k);
    k->cpu = cpu;
    kern_fill_float_c(k);
    kern_fill_t2_c(k);
    kern_fill_t5_c(k);
    kern_fill_b32_c(k);
    kern_fill_q8x16_c(k);
    kern_fill_head_c(k);
    kern_fill_scan_c(k);
#if defined(__x86_64__)
    kern_fill_x86(k, cpu);
#elif defined(__aarch64__)
    kern_fill_arm(k, cpu);
#endif
}
