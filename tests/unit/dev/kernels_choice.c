/* SPDX-License-Identifier: MIT
 *
 * Which token: `top` against a plain loop over the row, with every kind of trouble a row can bring,
 * and `draw` against the sampler of the host.
 */
#include "check_kernels.h"
#include "gen/gen_internal.h"

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

/* ==== A draw ================================================================================== */

enum { DRAW_V = 300, DRAW_ROWS = 10000 }; /* vocabulary; rows in one dispatch */

static gen_sampling some_sampling(checker *c, uint32_t k) {
    gen_sampling o = gen_sampling_default();
    o.seed = base_rng_u64(&c->rng);
    o.temperature = 0.05f + 2.5f * (float)base_rng_double(&c->rng);
    o.top_k = 1 + (int)base_rng_below(&c->rng, k);
    o.top_p = base_rng_below(&c->rng, 3) ? (float)base_rng_double(&c->rng) : 1;
    o.min_p = base_rng_below(&c->rng, 2) ? 0.4f * (float)base_rng_double(&c->rng) : 0;
    return o;
}

/* One row: its best k for the kernel, its numbers for the step, and the host's choice. */
static uint32_t draw_case(checker *c, uint32_t k, uint32_t *pair, uint32_t *words) {
    float x[DRAW_V], value[DRAW_V];
    uint32_t order[DRAW_V], id[DRAW_V], n = 0;
    gen_sampler *s = NULL;
    gen_choice choice = {0};
    rotor_error err;
    const gen_sampling o = some_sampling(c, k);
    const float spread = 0.2f + 4 * (float)base_rng_double(&c->rng);
    const bool odd = base_rng_below(&c->rng, 8) == 0, ties = base_rng_below(&c->rng, 4) == 0;
    for (uint32_t i = 0; i < DRAW_V; i++) {
        x[i] = spread * base_rng_normal(&c->rng);
        if (ties) x[i] = roundf(x[i]);
        if (odd && base_rng_below(&c->rng, 4)) x[i] = i % 2 ? NAN : -INFINITY;
    }
    const uint32_t there = in_order(x, DRAW_V, order);
    for (uint32_t i = 0; i < k; i++) {
        const float v = i < there ? x[order[i]] : -INFINITY;
        pair[2 * i] = i < there ? order[i] : UINT32_MAX;
        memcpy(&pair[2 * i + 1], &v, 4);
    }
    if (gen_sampler_create(&s, &o, DRAW_V, &err) != ROTOR_OK) abort();
    dev_draw d;
    run_want want;
    if (!gen_sampler_draw(s, 0, &d) || !gen_sampler_want(s, NULL, 0, &want)) abort();
    words[0] = d.k;
    memcpy(words + 1, (float[]){d.top_p, d.least, d.heat, d.u}, 16);
    for (uint32_t i = 0; i < DRAW_V; i++) { /* found: the best k by their ids */
        bool in = false;
        for (uint32_t j = 0; j < d.k && j < there; j++) in |= order[j] == i;
        if (in) id[n] = i, value[n++] = x[i];
    }
    const run_found found = {.id = id, .value = value, .n = n};
    if (!gen_sample_found(s, &want, &found, NULL, 0, &choice)) choice.id = UINT32_MAX;
    gen_sampler_free(&s);
    return choice.id;
}

static void check_draws(checker *c, uint32_t k, uint32_t rows) {
    const uint32_t draw_at = GPU_STEP_HEADER;
    const size_t n_words = draw_at + (size_t)rows * GPU_DRAW_WORDS;
    uint32_t *words = room(n_words, 4), *pairs = room((size_t)rows * k * 2, 4);
    uint32_t *want = room(rows, 4), *found = room((size_t)rows * 2, 4), wrong = 0;
    words[GPU_STEP_PICKED] = rows - 1;
    for (uint32_t r = 0; r < rows; r++)
        want[r] = draw_case(c, k, pairs + (size_t)r * k * 2, words + draw_at + r * GPU_DRAW_WORDS);
    memset(found, 0x5a, rows * 8ull);
    const gpu_draw_params params = {.count_at = GPU_STEP_PICKED, .draw_at = draw_at, .k = k};
    gpu_mem *out = put(c, found, rows * 8ull);
    run(c, &(launch){.name = "draw",
                     .lx = 256,
                     .groups = {1, rows, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {put(c, words, n_words * 4), put(c, pairs, rows * k * 8ull), out},
                     .n_binds = 3});
    get(c, out, found, rows * 8ull);
    drop(c);
    for (uint32_t r = 0; r + 1 < rows; r++) wrong += found[2 * r] != want[r] + c->bent;
    if (rows >= DRAW_ROWS || wrong)
        printf("draws from the best %u: %u of %u differ from the host's\n", k, wrong, rows);
    say(c, wrong <= rows / 1000, "draws from the best %u: %u of %u differ", k, wrong, rows);
    say(c, found[2 * rows - 2] == 0x5a5a5a5au, "draw wrote a row that is not there");
    free(words);
    free(pairs);
    free(want);
    free(found);
}

void check_choice_kernels(checker *c) {
    check_tops(c);
    check_draws(c, 64, c->all ? DRAW_ROWS : 2000);
    check_draws(c, 256, c->all ? DRAW_ROWS : 500);
}
