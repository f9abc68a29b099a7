/* SPDX-License-Identifier: MIT
 *
 * Sampling from a part of the vocabulary: over thousands of random settings the token must be the
 * one that all logits give, draw after draw. The part is the smallest that was asked for, or that
 * and some more, since a staged head may return either.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gen/gen.h"

enum { MAX_V = 2000, MAX_HISTORY = 200, MAX_BIAS = 8, CASES = 6000, DRAWS = 6 };

typedef struct fixture {
    base_rng g;                               /* of the case */
    gen_sampling o;                           /* settings */
    gen_bias bias[MAX_BIAS];                  /* of o */
    uint32_t v;                               /* V */
    float x[MAX_V];                           /* logits */
    uint32_t history[MAX_HISTORY];            /* tokens */
    size_t n_history;                         /* how many */
    uint32_t id[2 * MAX_V];                   /* found */
    float value[2 * MAX_V];                   /* their logits */
    uint32_t banned[MAX_V / 32 + 1], only[4]; /* of a mask */
} fixture;

static bool coin(fixture *f, uint32_t n) { return base_rng_below(&f->g, n) == 0; }
static float between(fixture *f, double lo, double hi) {
    return (float)(lo + (hi - lo) * base_rng_double(&f->g));
}

static void make_logits(fixture *f) {
    const float spread = coin(f, 3) ? 0.2f : between(f, 0.5, 6);
    const bool ties = coin(f, 3), odd = coin(f, 8);
    for (uint32_t i = 0; i < f->v; i++) {
        f->x[i] = base_rng_normal(&f->g) * spread;
        if (ties) f->x[i] = roundf(f->x[i] * 2) / 2;
        if (odd && coin(f, 9)) f->x[i] = coin(f, 2) ? NAN : -INFINITY;
        if (odd && coin(f, 300)) f->x[i] = INFINITY;
    }
}

static void make_settings(fixture *f) {
    gen_sampling *o = &f->o;
    *o = gen_sampling_default();
    o->seed = base_rng_u64(&f->g);
    o->temperature = coin(f, 4) ? 0 : between(f, 0.05, 2.5);
    o->top_k = coin(f, 3) ? 0 : 1 + (int)base_rng_below(&f->g, coin(f, 4) ? 300 : 60);
    o->top_p = coin(f, 3) ? 1.0f : between(f, 0.0, 1.0);
    o->min_p = coin(f, 2) ? 0 : between(f, 0.0, 0.4);
    if (coin(f, 10)) o->min_p = 1;
    if (coin(f, 2)) o->repeat_penalty = between(f, 0.7, 1.8);
    if (coin(f, 3)) o->frequency_penalty = between(f, -0.5, 1.0);
    if (coin(f, 3)) o->presence_penalty = between(f, -0.5, 1.0);
    o->penalty_last_n = coin(f, 4) ? 0 : base_rng_below(&f->g, 100);
    o->bias = f->bias;
    o->n_bias = coin(f, 2) ? base_rng_below(&f->g, MAX_BIAS + 1) : 0;
    for (size_t i = 0; i < o->n_bias; i++) {
        f->bias[i].id = base_rng_below(&f->g, coin(f, 2) ? f->v : 1 + f->v / 20);
        f->bias[i].add = coin(f, 3) ? -INFINITY : between(f, -20, 20);
    }
    f->n_history = base_rng_below(&f->g, MAX_HISTORY + 1);
    for (size_t i = 0; i < f->n_history; i++) f->history[i] = base_rng_below(&f->g, f->v + 3);
}

/* Every third case has one: a few tokens banned, half of them, or a list of those that may come. */
static gen_mask make_mask(fixture *f) {
    gen_mask m = {0};
    const uint32_t some = coin(f, 3) ? 2 : 100;
    if (!coin(f, 3)) return m;
    if (coin(f, 4)) {
        for (size_t i = 0; i < BASE_COUNT(f->only); i++) f->only[i] = base_rng_below(&f->g, f->v);
        return (gen_mask){.only = f->only, .n_only = 1 + base_rng_below(&f->g, 4)};
    }
    memset(f->banned, 0, sizeof f->banned);
    for (uint32_t i = 0; i < f->v; i++)
        if (coin(f, some)) f->banned[i / 32] |= UINT32_C(1) << i % 32;
    m.banned = f->banned;
    return m;
}

static void keeps_to(const gen_mask *m, uint32_t id) {
    bool listed = !m->only;
    for (size_t i = 0; i < m->n_only; i++) listed = listed || m->only[i] == id;
    assert_true(listed);
    assert_false(m->banned && (m->banned[id / 32] >> id % 32 & 1));
}

static const float *sort_by; /* for qsort */

static float value_of(uint32_t i) { return sort_by[i] == sort_by[i] ? sort_by[i] : -INFINITY; }
static int better(const void *a, const void *b) {
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    float x = value_of(i), y = value_of(j);
    return x != y ? (x > y ? -1 : 1) : (i > j) - (i < j);
}
static int by_id(const void *a, const void *b) {
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    return (i > j) - (i < j);
}

/* What a staged head may answer: the rows asked for with all that tie, sometimes more. */
static run_found answer(fixture *f, const run_want *want) {
    static uint32_t order[MAX_V];
    static uint8_t aside[MAX_V];
    uint32_t n = 0, kept = 0;
    memset(aside, 0, sizeof aside);
    for (uint32_t i = 0; i < want->n_ids; i++) {
        assert_true(want->ids[i] < f->v && !aside[want->ids[i]]);
        aside[want->ids[i]] = 1;
    }
    for (uint32_t i = 0; i < f->v; i++)
        if (!aside[i]) order[n++] = i;
    sort_by = f->x;
    qsort(order, n, sizeof *order, better);
    const uint32_t extra = coin(f, 2) ? base_rng_below(&f->g, 50) : 0;
    for (uint32_t i = 0; i < n; i++) {
        bool in = want->k ? i < want->k || value_of(order[i]) == value_of(order[want->k - 1])
                          : value_of(order[i]) >= value_of(order[0]) - want->delta;
        if (in || coin(f, 1 + f->v / (1 + extra))) f->id[kept++] = order[i];
    }
    qsort(f->id, kept, sizeof *f->id, by_id);
    for (uint32_t i = 0; i < want->n_ids; i++) f->id[kept++] = want->ids[i];
    for (uint32_t i = 0; i < kept; i++) f->value[i] = f->x[f->id[i]];
    return (run_found){f->id, f->value, kept};
}

static uint32_t n_from_found, n_masked;

static void one_case(fixture *f, uint64_t seed) {
    gen_sampler *all = NULL, *part = NULL;
    gen_choice a = {0}, b = {0};
    run_want want;
    rotor_error err;
    base_rng_seed(&f->g, seed);
    f->v = 1 + base_rng_below(&f->g, coin(f, 3) ? 40 : MAX_V);
    make_settings(f);
    assert_int_equal(gen_sampler_create(&all, &f->o, f->v, &err), ROTOR_OK);
    assert_int_equal(gen_sampler_create(&part, &f->o, f->v, &err), ROTOR_OK);
    for (int i = 0; i < DRAWS; i++) {
        make_logits(f);
        const gen_mask mask = make_mask(f);
        gen_sampler_allow(all, mask);
        gen_sampler_allow(part, mask);
        rotor_status st = gen_sample(all, f->x, f->history, f->n_history, &a, NULL, 0, &err);
        if (st == ROTOR_OK) keeps_to(&mask, a.id);
        if (!gen_sampler_want(part, f->history, f->n_history, &want)) {
            rotor_status same = gen_sample(part, f->x, f->history, f->n_history, &b, NULL, 0, &err);
            assert_int_equal(st, same);
            continue;
        }
        run_found found = answer(f, &want);
        if (!gen_sample_found(part, &want, &found, f->history, f->n_history, &b)) {
            rotor_status same = gen_sample(part, f->x, f->history, f->n_history, &b, NULL, 0, &err);
            assert_int_equal(st, same);
            continue;
        }
        assert_int_equal(st, ROTOR_OK);
        if (a.id != b.id)
            fail_msg("seed %llu draw %d: %u from all %u logits, %u from %u of them (temperature %g "
                     "top_k %d top_p %g min_p %g)",
                     (unsigned long long)seed, i, a.id, f->v, b.id, found.n,
                     (double)f->o.temperature, f->o.top_k, (double)f->o.top_p, (double)f->o.min_p);
        assert_true(isnan(b.logprob));
        n_from_found++;
        n_masked += mask.banned != NULL;
    }
    gen_sampler_free(&all);
    gen_sampler_free(&part);
}

static void the_same_token_from_the_same_draw(void **state) {
    (void)state;
    fixture *f = calloc(1, sizeof *f);
    for (uint64_t seed = 1; seed <= CASES; seed++) one_case(f, seed);
    print_message("%u of %d choices from a part of the logits\n", n_from_found, CASES * DRAWS);
    assert_true(n_from_found > CASES * DRAWS / 2 && n_masked > CASES / 10);
    free(f);
}

static void takes_all(void *user, float *logits, uint32_t n) { (void)user, (void)logits, (void)n; }

/* Settings against what is wanted: k -1: all logits; 0: by delta. */
static void needs(const gen_sampling *o, int k, uint32_t n_ids) {
    static const uint32_t history[] = {3, 9, 9, 500, 20};
    gen_sampler *s = NULL;
    rotor_error err;
    run_want want = {0};
    assert_int_equal(gen_sampler_create(&s, o, 400, &err), ROTOR_OK);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(gen_sampler_want(s, history, 5, &want), k >= 0);
        if (k < 0) continue;
        assert_int_equal(want.k, k);
        assert_int_equal(want.n_ids, n_ids);
        if (k == 0) assert_true(want.delta > 2.9957f && want.delta < 2.9958f); /* -log 0.05 */
    }
    gen_sampler_free(&s);
}

static void says_what_it_needs(void **state) {
    (void)state;
    static const gen_bias bias[] = {{7, 1.0f}, {3, -INFINITY}, {7, 2.0f}};
    gen_sampling o = gen_sampling_default();
    needs(&o, 40, 0);
    o.top_k = 256;
    needs(&o, 256, 0);
    o.top_k = 257;
    needs(&o, -1, 0);
    o.temperature = 0;
    needs(&o, 1, 0);
    o.hook = takes_all;
    needs(&o, -1, 0);
    o.hook = NULL, o.temperature = 1, o.top_k = 0;
    needs(&o, -1, 0);
    o.top_p = 1;
    needs(&o, 0, 0);
    o.min_p = 0;
    needs(&o, -1, 0);
    o.top_k = 5, o.bias = bias, o.n_bias = 3;
    needs(&o, 5, 2);
    o.repeat_penalty = 1.1f;
    needs(&o, 5, 4);
    o.penalty_last_n = 1;
    needs(&o, 5, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_token_from_the_same_draw),
        cmocka_unit_test(says_what_it_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
