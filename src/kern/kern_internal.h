/* SPDX-License-Identifier: MIT
 *
 * kern_internal: what the kernel files share, and the fill functions of each instruction set.
 */
#ifndef KERN_INTERNAL_H
#define KERN_INTERNAL_H

#include "kern/kern.h"

#include <math.h>

/* The 128 values of one T2 block (32 bytes): byte p holds columns p, 32+p, 64+p, 96+p from the top
 * two bits down, as value + 1. */
static inline void t2_block_values(const uint8_t *block, int8_t t[128]) {
    for (int p = 0; p < 32; p++) {
        t[p] = (int8_t)((block[p] >> 6) - 1);
        t[32 + p] = (int8_t)((block[p] >> 4 & 3) - 1);
        t[64 + p] = (int8_t)((block[p] >> 2 & 3) - 1);
        t[96 + p] = (int8_t)((block[p] & 3) - 1);
    }
}

/* The 20 values of row r in chunk k of its T5 group. */
static inline void t5_chunk_values(const kern_mat *w, size_t r, size_t k, int8_t t[QUANT_T5_COLS]) {
    const uint8_t *four =
        w->data + r / QUANT_T5_ROWS * QUANT_T5_ROWS * w->row_bytes + k * 64 + r % QUANT_T5_ROWS * 4;
    for (int i = 0; i < 4; i++) {
        uint8_t digit[5];
        quant_t5_digits(four[i], digit);
        for (int f = 0; f < 5; f++) t[4 * f + i] = (int8_t)(digit[f] - 1);
    }
}

/* What multiplies an integer sum of row r and token b: the weight's scale over the activation's. */
static inline float t2_factor(const kern_mat *w, const kern_act *x, size_t r, size_t b) {
    return (w->row_scale ? w->row_scale[r] : w->scale) / x->s[b];
}

/* Bytes of 128 columns of a group of the staged head: four blocks' scales, then their nibbles. */
enum { HEAD_CHUNK_BYTES = 64 + 4 * 256 };

/* The score of row r with the integer sum of one more bit plane. */
static inline float head_add(float y, int64_t sum, const kern_planes *p, const kern_x16 *x,
                             size_t plane, size_t r) {
    static const float weight[4] = {4.0f, 2.0f, 1.0f, 0.5f};
    return fmaf((float)sum, p->step[r] * x->step * weight[plane], y);
}

/* Each overwrites the slots its instruction set has a version of. */
void kern_fill_float_c(kern *k);
void kern_fill_t2_c(kern *k);
void kern_fill_t5_c(kern *k);
void kern_fill_b32_c(kern *k);
void kern_fill_q8x16_c(kern *k);
void kern_fill_head_c(kern *k);
void kern_fill_scan_c(kern *k);
void kern_fill_scan_avx2(kern *k);
void kern_fill_scan_avx512vnni(kern *k);
void kern_fill_scan_neon(kern *k);
void kern_fill_x86(kern *k, unsigned cpu);
void kern_fill_arm(kern *k, unsigned cpu);
void kern_fill_float_avx2(kern *k);
void kern_fill_float_avx512(kern *k);
void kern_fill_float_neon(kern *k);
void kern_fill_t2_avx2(kern *k);
void kern_fill_t2_avxvnni(kern *k);
void kern_fill_t2_avx512vnni(kern *k);
void kern_fill_t5_avx2(kern *k);
void kern_fill_t5_avxvnni(kern *k);
void kern_fill_t5_avx512vnni(kern *k);
void kern_fill_t5_avx512vbmi(kern *k);
void kern_fill_b32_avx2(kern *k);
void kern_fill_b32_avxvnni(kern *k);
void kern_fill_b32_avx512vnni(kern *k);
void kern_fill_b32_avx512vbmi(kern *k);
void kern_fill_head_avx2(kern *k);
void kern_fill_head_avxvnni(kern *k);
void kern_fill_head_avx512vnni(kern *k);
void kern_fill_t2_neon(kern *k);
void kern_fill_t2_dotprod(kern *k);
void kern_fill_t2_i8mm(kern *k);
void kern_fill_t5_neon(kern *k);
void kern_fill_t5_dotprod(kern *k);
void kern_fill_b32_neon(kern *k);
void kern_fill_b32_dotprod(kern *k);

/* peak_*.c: the loops behind kern_int8_peak, kern_f32_peak and kern_plain_read. */
uint64_t peak_avx2(uint64_t rounds, uint32_t *sink);
uint64_t peak_avxvnni(uint64_t rounds, uint32_t *sink);
uint64_t peak_avx512vnni(uint64_t rounds, uint32_t *sink);
uint64_t peak_f32_avx2(uint64_t rounds, float *sink);
uint64_t peak_f32_avx512(uint64_t rounds, float *sink);
uint64_t plain_read_avx2(const uint8_t *data, size_t n_bytes);
uint64_t plain_read_avx512(const uint8_t *data, size_t n_bytes);

#endif
