/* SPDX-License-Identifier: MIT
 *
 * The peaks of one thread: loops that do nothing but the widest multiply-add the processor has, on
 * registers, and one that does nothing but read. What a matrix product or attention reaches is told
 * as a share of these. Their values mean nothing; a sink keeps the compiler from dropping them.
 */
#include "kern/kern_internal.h"

#include "cpu/cpu.h"

#include <assert.h>
#include <math.h>

static uint64_t peak_c(uint64_t rounds, uint32_t *sink) {
    uint32_t acc[16] = {0};
    volatile int8_t seed = 3;
    int8_t a[16], b[16];
    for (int i = 0; i < 16; i++) {
        a[i] = (int8_t)(seed + i);
        b[i] = (int8_t)(seed - i);
    }
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < 16; i++) acc[i] += (uint32_t)(a[i] * (b[i] ^ (int8_t)r));
    for (int i = 0; i < 16; i++) *sink += acc[i];
    return rounds * 16;
}

/* x86-64 has fused multiply-add only above its baseline; elsewhere it is one instruction. */
#if defined(__x86_64__)
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#else
#define MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
#endif

/* Thirty-two sums: eight vectors that do not wait for each other. */
static uint64_t peak_f32_c(uint64_t rounds, float *sink) {
    float acc[32] = {0};
    volatile float seed = 0.5f;
    const float a = seed, b = 1 - a;
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < 32; i++) acc[i] = MULTIPLY_ADD(acc[i], a, b);
    for (int i = 0; i < 32; i++) *sink += acc[i];
    return rounds * 32;
}

static uint64_t plain_read_c(const uint64_t *data, size_t n_words) {
    uint64_t all[8] = {0};
    for (size_t i = 0; i < n_words; i += 8)
        for (size_t k = 0; k < 8; k++) all[k] |= data[i + k];
    return all[0] | all[1] | all[2] | all[3] | all[4] | all[5] | all[6] | all[7];
}

uint64_t kern_int8_peak(unsigned cpu, uint64_t rounds, uint32_t *sink) {
#if defined(__x86_64__)
    if (cpu & CPU_AVX512VNNI) return peak_avx512vnni(rounds, sink);
    if (cpu & CPU_AVXVNNI) return peak_avxvnni(rounds, sink);
    if (cpu & CPU_AVX2) return peak_avx2(rounds, sink);
#endif
    (void)cpu;
    return peak_c(rounds, sink);
}

uint64_t kern_f32_peak(unsigned cpu, uint64_t rounds, float *sink) {
#if defined(__x86_64__)
    if (cpu & CPU_AVX512) return peak_f32_avx512(rounds, sink);
    if (cpu & CPU_AVX2) return peak_f32_avx2(rounds, sink);
#endif
    (void)cpu;
    return peak_f32_c(rounds, sink);
}

uint64_t kern_plain_read(unsigned cpu, const void *data, size_t n_bytes) {
    assert(n_bytes % 256 == 0 && (uintptr_t)data % 64 == 0);
#if defined(__x86_64__)
    if (cpu & CPU_AVX512) return plain_read_avx512(data, n_bytes);
    if (cpu & CPU_AVX2) return plain_read_avx2(data, n_bytes);
#endif
    (void)cpu;
    return plain_read_c(data, n_bytes / 8);
}
