/* SPDX-License-Identifier: MIT
 *
 * Operands of the checks: memory that ends at an unreadable page, guard bytes, and numbers chosen
 * to hurt: random, all zero, all lowest, all highest, alternating extremes.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "checkern.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { SPACE_BYTES = 48 << 20, PAGE_BYTES = 64 << 10, GUARD = 0xA5 };

const char *fill_name(fill f) {
    static const char *const names[] = {"random", "zero", "low", "high", "alternate"};
    return names[f];
}

/* ==== Memory ================================================================================== */

void spaces_create(checker *c) {
    for (size_t i = 0; i < SPACES; i++) {
        uint8_t *p = mmap(NULL, SPACE_BYTES + PAGE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + SPACE_BYTES, PAGE_BYTES, PROT_NONE) != 0) {
            perror("checkern: mmap");
            exit(2);
        }
        c->space[i] = (guarded){.base = p, .end = p + SPACE_BYTES};
    }
}

uint8_t *space_take(checker *c, size_t which, size_t n_bytes, size_t gap) {
    guarded *g = &c->space[which];
    if (n_bytes + gap + GUARD_BYTES > SPACE_BYTES) {
        fprintf(stderr, "checkern: a case needs %zu bytes\n", n_bytes);
        exit(2);
    }
    g->at = g->end - gap - n_bytes;
    g->n_bytes = n_bytes;
    memset(g->at - GUARD_BYTES, GUARD, n_bytes + gap + GUARD_BYTES);
    return g->at;
}

bool guards_intact(const guarded *g) {
    for (const uint8_t *p = g->at - GUARD_BYTES; p < g->at; p++)
        if (*p != GUARD) return false;
    for (const uint8_t *p = g->at + g->n_bytes; p < g->end; p++)
        if (*p != GUARD) return false;
    return true;
}

/* ==== Verdicts ================================================================================ */

bool slot_begin(checker *c, const char *slot) {
    c->slot = slot;
    return !c->only || strcmp(c->only, slot) == 0;
}

void slot_verdict(checker *c, size_t level, bool good, const char *fmt, ...) {
    c->n_compared++;
    if (good) return;
    if (c->self_test) longjmp(c->noticed, 1);
    if (c->n_wrong++ > 40) return;
    va_list ap;
    va_start(ap, fmt);
    printf("WRONG %s %s: ", c->level[level], c->slot);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

bool floats_equal(const float *a, const float *b, size_t n, size_t *at) {
    if (memcmp(a, b, n * sizeof *a) == 0) return true;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], 4) != 0 && !(isnan(a[i]) && isnan(b[i]))) return *at = i, false;
    return true;
}

/* ==== Numbers ================================================================================= */

float random_float(checker *c) {
    static const float scales[] = {1, 1, 1, 1, 1, 0.01f, 30, 1e-4f};
    return base_rng_normal(&c->rng) * scales[base_rng_below(&c->rng, BASE_COUNT(scales))];
}

void fill_floats(checker *c, float *x, size_t n, fill f) {
    for (size_t i = 0; i < n; i++)
        x[i] = f == FILL_RANDOM ? random_float(c)
               : f == FILL_ZERO ? 0
               : f == FILL_LOW  ? -3.0f
               : f == FILL_HIGH ? 60000.0f
               : i & 1          ? -1.5f
                                : 2e-7f;
}

void fill_ternary(checker *c, int8_t *t, size_t n, fill f) {
    for (size_t i = 0; i < n; i++)
        t[i] = (int8_t)(f == FILL_RANDOM ? (int)base_rng_below(&c->rng, 3) - 1
                        : f == FILL_ZERO ? 0
                        : f == FILL_LOW  ? -1
                        : f == FILL_HIGH ? 1
                        : i & 1          ? -1
                                         : 1);
}

/* Byte offsets of the f16 numbers of a block; -1: no second one. */
static const struct half_fields {
    uint32_t type; /* quant_type */
    int first;     /* offset of the scale */
    int second;    /* offset of the minimum's scale */
} half_fields[] = {
    {QUANT_Q4_0, 0, -1},   {QUANT_Q4_1, 0, 2},    {QUANT_Q5_0, 0, -1},   {QUANT_Q5_1, 0, 2},
    {QUANT_Q8_0, 0, -1},   {QUANT_IQ4_NL, 0, -1}, {QUANT_Q2_K, 80, 82},  {QUANT_Q3_K, 108, -1},
    {QUANT_Q4_K, 0, 2},    {QUANT_Q5_K, 0, 2},    {QUANT_Q6_K, 208, -1}, {QUANT_IQ4_XS, 0, -1},
    {QUANT_TQ1_0, 52, -1}, {QUANT_TQ2_0, 64, -1},
};

static void put_half(checker *c, uint8_t *p, fill f) {
    float v = f == FILL_ZERO ? 0 : 0.01f + 0.02f * (float)base_rng_double(&c->rng);
    uint16_t h = quant_f32_to_f16(base_rng_below(&c->rng, 4) ? v : -v);
    memcpy(p, &h, 2);
}

void fill_blocks(checker *c, uint8_t *p, const quant_info *info, size_t n_blocks, fill f) {
    for (size_t b = 0; b < n_blocks; b++, p += info->block_bytes) {
        for (size_t i = 0; i < info->block_bytes; i++)
            p[i] = (uint8_t)(f == FILL_LOW    ? 0x80
                             : f == FILL_HIGH ? 0x7F
                             : f == FILL_ZERO ? 0
                                              : base_rng_below(&c->rng, 256));
        bool known = info->id == QUANT_MXFP4;
        if (known && f != FILL_LOW) p[0] = (uint8_t)(112 + base_rng_below(&c->rng, 12));
        if (known && f == FILL_ALTERNATE) p[0] = (uint8_t)base_rng_below(&c->rng, 4);
        for (size_t i = 0; i < BASE_COUNT(half_fields); i++) {
            if (half_fields[i].type != info->id) continue;
            known = true;
            put_half(c, p + half_fields[i].first, f);
            if (half_fields[i].second >= 0) put_half(c, p + half_fields[i].second, f);
        }
        /* A type without a line above: f16 scales that are NaN or infinite prove nothing. */
        for (size_t i = 0; !known && i < info->block_bytes; i++) p[i] &= 0x7B;
    }
}
