/* SPDX-License-Identifier: MIT
 *
 * cpu: what this processor can do, and what the user lets us use.
 *
 * Flags are detected once by cpuid/xgetbv or hwcap and ANDed with a mask; the result goes by value
 * to whoever builds a kernel table. Nothing here is global.
 */
#ifndef CPU_H
#define CPU_H

#include "base/base.h"

enum {
    CPU_AVX2 = 1 << 0,       /* AVX2, FMA and F16C */
    CPU_AVXVNNI = 1 << 1,    /* 256-bit vpdpbusd, VEX form */
    CPU_AVX512 = 1 << 2,     /* F, BW, DQ, VL */
    CPU_AVX512VNNI = 1 << 3, /* 512-bit vpdpbusd */
    CPU_AVX512VBMI = 1 << 4, /* vpermi2b */
    CPU_NEON = 1 << 8,       /* aarch64 baseline */
    CPU_DOTPROD = 1 << 9,    /* sdot/udot */
    CPU_I8MM = 1 << 10       /* smmla/usmmla */
};

unsigned cpu_detect(void);
/* "avx2" -> every flag up to and including that level; "c" -> none. Fails listing the good names.
 */
rotor_status cpu_parse_mask(const char *name, unsigned *mask, rotor_error *err);
/* Name of the highest level inside flags: what `--cpu` would call it. */
const char *cpu_level_name(unsigned flags);
/* The i-th level name and its mask, from "c" upwards, for this architecture; NULL past the end. */
const char *cpu_level_at(size_t i, unsigned *mask);
/* Marketing name of the processor, "unknown" when the system does not tell. */
const char *cpu_model_name(char *buf, size_t n_bytes);

#endif
