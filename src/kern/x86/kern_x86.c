/* SPDX-License-Identifier: MIT
 *
 * The x86-64 staircase: each step overwrites the slots it has a faster version of.
 */
#include "cpu/cpu.h"
#include "kern/kern.h"
#include "kern/kern_internal.h"

void kern_fill_x86(kern *k, unsigned cpu) {
    if (!(cpu & CPU_AVX2)) return;
    kern_fill_float_avx2(k);
    kern_fill_t2_avx2(k);
    kern_fill_t5_avx2(k);
    kern_fill_b32_avx2(k);
    kern_fill_head_avx2(k);
    kern_fill_scan_avx2(k);
    if (cpu & CPU_AVXVNNI) {
        kern_fill_t2_avxvnni(k);
        kern_fill_t5_avxvnni(k);
        kern_fill_b32_avxvnni(k);
        kern_fill_head_avxvnni(k);
    }
    if (!(cpu & CPU_AVX512)) return;
    kern_fill_float_avx512(k);
    if (!(cpu & CPU_AVX512VNNI)) return;
    kern_fill_t2_avx512vnni(k);
    kern_fill_t5_avx512vnni(k);
    kern_fill_b32_avx512vnni(k);
    kern_fill_head_avx512vnni(k);
    kern_fill_scan_avx512vnni(k);
    if (!(cpu & CPU_AVX512VBMI)) return;
    kern_fill_t5_avx512vbmi(k);
    kern_fill_b32_avx512vbmi(k);
}
