/* SPDX-License-Identifier: MIT
 *
 * Which token: `top` against a plain loop over the row, with every kind of trouble a row can bring.
 */
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ==== The best k ============================================================================== */

typedef enum fill {
    FILL_RANDOM,  /* normal */
    FILL_TIES,    /* seven values */
    FILL_EQUAL,   /* one value */
    FILL_ODD,     /* NaN, infinities, both zeros among few others */
    FILL_COMB,    /* the good ones all in one comb of the kernel */
    FILL_NOTHING, /* NaN alone */
    N_FILLS
} fill;

static float value_for(checker *c, fill f, uint32_t i) {
    const uint32_t dice = base_rng_below(&c->rng, 8);
    const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f, -1.5f};
    switch (f) {
    case FILL_TIES:
        return (float)(int)(dice % 7) - 3;
    case FILL_EQUAL:
        return -0.25f;
    case FILL_ODD:
        return odd[dice];
    case FILL_COMB:
        return base_rng_normal(&c->rng) + (i % 512 == 3 ? 1000.0f : 0);
    case FILL_NOTHING:
        return NAN;
    default:
        return base_rng_normal(&c->rng);
    }
}

static const float *sorted_row; /* for qsort */

static int better(const void *a, const void *b) {
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (sorted_row[i] != sorted_row[j]) return sorted_row[i] > sorted_row[j] ? -1 : 1;
    return (i > j) - (i < j);
}

/* The indices of the numbers of a row, best first; returns how many. */
static uint32_t in_order(const float *x, uint32_t width, uint32_t *order) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < width; i++)
        if (!isnan(x[i])) order[n++] = i;
    sorted_row = x;
    qsort(order, n, sizeof *order, better);
    return n;
}

/* Place of the first difference between what was found and what is there; k when there is none. */
static uint32_t first_wrong(const uint32_t *pair, const float *x, const uint32_t *order, uint32_t n,
                            uint32_t k) {
    for (uint32_t i = 0; i < k; i++) {
        uint32_t bits = 0xff800000u;
        if (i < n) memcpy(&bits, &x[order[i]], 4);
        if (pair[2 * i] != (i < n ? order[i] : UINT32_MAX) || pair[2 * i + 1] != bits) return i;
    }
    return k;
}

enum { TOP_ROWS = 3, TOP_LIVE = 2, TOP_GAP = 5 }; /* the grid; the step; floats between rows */

static void check_top(checker *c, uint32_t width, uint32_t k, fill f) {
    const uint32_t ld = width + TOP_GAP;
    float *x = room((size_t)TOP_ROWS * ld, 4);
    uint32_t *order = room(width, 4), *found = room((size_t)TOP_ROWS * k * 2, 4);
    for (uint32_t i = 0; i < TOP_ROWS * ld; i++) x[i] = value_for(c, f, i % ld);
    for (uint32_t r = 1; r <= TOP_ROWS; r++) x[r * ld - 1] = 1e9f; /* beside the row */
    memset(found, 0x5a, (size_t)TOP_ROWS * k * 8);
    step_image s = step_make(TOP_ROWS, TOP_ROWS, TOP_LIVE, 0, 0);
    const gpu_top_params params = {.count_at = GPU_STEP_PICKED, .width = width, .x_ld = ld, .k = k};
    gpu_mem *out = put(c, found, (size_t)TOP_ROWS * k * 8);
    run(c, &(launch){.name = "top",
                     .lx = 256,
                     .groups = {1, TOP_ROWS, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {put(c, s.word, s.n_words * 4), put(c, x, TOP_ROWS * ld * 4ull), out},
                     .n_binds = 3});
    get(c, out, found, (size_t)TOP_ROWS * k * 8);
    drop(c);
    for (uint32_t r = 0; r < TOP_LIVE; r++) {
        const uint32_t n = in_order(x + r * ld, width, order);
        if (c->bent && n) order[0] ^= 1;
        const uint32_t at = first_wrong(found + r * k * 2, x + r * ld, order, n, k);
        say(c, at == k, "top %u of %u, filling %u: row %u differs at %u: %u, not %u", k, width, f,
            r, at, found[2 * (r * k + at)], at < n ? order[at] : UINT32_MAX);
    }
    bool kept = true;
    for (uint32_t i = TOP_LIVE * k * 2; i < TOP_ROWS * k * 2; i++) kept &= found[i] == 0x5a5a5a5au;
    say(c, kept, "top %u of %u wrote a row that is not there", k, width);
    free(x);
    free(order);
    free(found);
    free(s.word);
}

static void check_tops(checker *c) {
    static const uint32_t widths[] = {1, 255, 256, 257, 1000, 513, 4099};
    static const uint32_t ks[] = {1, 2, 40, 64, 255, 256};
    for (uint32_t w = 0; w < BASE_COUNT(widths); w++)
        for (uint32_t k = 0; k < BASE_COUNT(ks); k++)
            for (uint32_t f = 0; f < N_FILLS; f++) check_top(c, widths[w], ks[k], (fill)f);
    check_top(c, 128256, 64, FILL_RANDOM);
    check_top(c, 128256, 256, FILL_TIES);
    if (!c->all) return;
    for (uint32_t k = 1; k <= GPU_TOP; k++) check_top(c, 2000, k, (fill)(k % N_FILLS));
    for (uint32_t k = 1; k <= GPU_TOP; k += 51)
        for (uint32_t f = 0; f < N_FILLS; f++) check_top(c, 128256, k, (fill)f);
}

void check_choice_kernels(checker *c) { check_tops(c); }
