/* SPDX-License-Identifier: MIT
 *
 * Detection by instruction (x86) or by the kernel's hardware capabilities (aarch64), and the names
 * of the levels a user can ask for.
 *
 * A level is a staircase step: it includes every step below it, because each kernel of a level may
 * call kernels of the lower ones.
 */
#include "cpu/cpu.h"

#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t xgetbv0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

unsigned cpu_detect(void) {
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    bool osxsave = c >> 27 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
    uint64_t xcr0 = osxsave ? xgetbv0() : 0;
    bool os_avx = (xcr0 & 0x6) == 0x6, os_avx512 = (xcr0 & 0xE6) == 0xE6;
    unsigned b7, c7, d7, a71 = 0, unused;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &unused, &unused, &unused);
    if (os_avx && fma && f16c && (b7 >> 5 & 1)) flags |= CPU_AVX2;
    if ((flags & CPU_AVX2) && (a71 >> 4 & 1)) flags |= CPU_AVXVNNI;
    const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    if ((flags & CPU_AVX2) && os_avx512 && (b7 & f_dq_bw_vl) == f_dq_bw_vl) flags |= CPU_AVX512;
    if ((flags & CPU_AVX512) && (c7 >> 11 & 1)) flags |= CPU_AVX512VNNI;
    if ((flags & CPU_AVX512VNNI) && (c7 >> 1 & 1)) flags |= CPU_AVX512VBMI;
    return flags;
}

static const struct level {
    const char *name; /* as on the command line */
    unsigned mask;    /* every flag of this level and below */
    unsigned must;    /* the flag that makes the level */
} levels[] = {
    {"c", 0, 0},
    {"avx2", CPU_AVX2, CPU_AVX2},
    {"avxvnni", CPU_AVX2 | CPU_AVXVNNI, CPU_AVXVNNI},
    {"avx512vnni", CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512 | CPU_AVX512VNNI, CPU_AVX512VNNI},
    {"avx512vbmi", CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512 | CPU_AVX512VNNI | CPU_AVX512VBMI,
     CPU_AVX512VBMI},
};

#elif defined(__aarch64__)
#include <sys/auxv.h>

unsigned cpu_detect(void) {
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    unsigned flags = CPU_NEON;
    if (cap >> 20 & 1) flags |= CPU_DOTPROD;
    if (cap2 >> 13 & 1) flags |= CPU_I8MM;
    return flags;
}

static const struct level {
    const char *name; /* as on the command line */
    unsigned mask;    /* every flag of this level and below */
    unsigned must;    /* the flag that makes the level */
} levels[] = {
    {"c", 0, 0},
    {"neon", CPU_NEON, CPU_NEON},
    {"dotprod", CPU_NEON | CPU_DOTPROD, CPU_DOTPROD},
    {"i8mm", CPU_NEON | CPU_DOTPROD | CPU_I8MM, CPU_I8MM},
};

#else

unsigned cpu_detect(void) { return 0; }

static const struct level {
    const char *name; /* as on the command line */
    unsigned mask;    /* none */
    unsigned must;    /* none */
} levels[] = {{"c", 0, 0}};

#endif

rotor_status cpu_parse_mask(const char *name, unsigned *mask, rotor_error *err) {
    char list[160] = "";
    for (size_t i = 0; i < BASE_COUNT(levels); i++) {
        if (strcmp(name, levels[i].name) == 0) return *mask = levels[i].mask, ROTOR_OK;
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", levels[i].name);
    }
    return base_fail(err, ROTOR_E_ARG, "unknown CPU level \"%s\"; this build knows %s", name, list);
}

const char *cpu_level_name(unsigned flags) {
    const char *name = levels[0].name;
    for (size_t i = 0; i < BASE_COUNT(levels); i++)
        if ((flags & levels[i].must) == levels[i].must) name = levels[i].name;
    return name;
}

const char *cpu_level_at(size_t i, unsigned *mask) {
    if (i >= BASE_COUNT(levels)) return NULL;
    *mask = levels[i].mask;
    return levels[i].name;
}

const char *cpu_model_name(char *buf, size_t n_bytes) {
    snprintf(buf, n_bytes, "unknown");
#if defined(__x86_64__)
    unsigned r[12] = {0};
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]))
            return buf;
    char brand[49] = {0};
    memcpy(brand, r, 48);
    char *p = brand;
    while (*p == ' ') p++;
    snprintf(buf, n_bytes, "%s", p);
#elif defined(__aarch64__)
    snprintf(buf, n_bytes, "aarch64");
#endif
    return buf;
}
