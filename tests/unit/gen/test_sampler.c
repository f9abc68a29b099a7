/* SPDX-License-Identifier: MIT
 *
 * gen, the sampler: selection and truncation against naive full sorts in double, penalties,
 * arg-max, log-probabilities, the distribution of draws, broken logits, and that nothing is
 * allocated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "gen/gen_internal.h"

enum { MAX_V = 6000 };

static float logits[MAX_V];

/* Logits with ties, plateaus, forbidden tokens and a peak, by kind. */
static void fill(base_rng *r, uint32_t v, int kind) {
    for (uint32_t i = 0; i < v; i++) {
        float x = 3.0f * base_rng_normal(r);
        if (kind == 1) x = (float)base_rng_below(r, 4);
        if (kind == 2) x = (float)i * 0.01f;
        if (kind == 3) x = -(float)i * 0.01f;
        if (kind == 4 && base_rng_below(r, 3)) x = -INFINITY;
        if (kind == 5) x = 1.0f;
        logits[i] = x;
    }
    if (kind == 4) logits[v / 2] = 0.5f;
}

/* ==== The naive sampler ======================================================================= */

static int by_rank(const void *a, const void *b) {
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (logits[i] != logits[j]) return logits[i] > logits[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

static uint32_t ranked[MAX_V];

static void rank_all(uint32_t v) {
    for (uint32_t i = 0; i < v; i++) ranked[i] = i;
    qsort(ranked, v, sizeof *ranked, by_rank);
}

static double weight_of(uint32_t id) { return exp((double)logits[id] - (double)logits[ranked[0]]); }

/* Survivors are ranked[0 .. n). */
static uint32_t naive_survivors(const gen_sampling *o, uint32_t v) {
    rank_all(v);
    uint32_t n = v;
    while (n > 1 && logits[ranked[n - 1]] == -INFINITY) n--;
    if (o->top_k > 0 && (uint32_t)o->top_k < n) n = (uint32_t)o->top_k;
    if (o->top_p < 1) {
        double total = 0, sum = 0;
        for (uint32_t i = 0; i < n; i++) total += weight_of(ranked[i]);
        for (uint32_t i = 0; i < n; i++) {
            sum += weight_of(ranked[i]);
            if (sum >= (double)o->top_p * total) n = i + 1;
        }
    }
    while (n > 1 && weight_of(ranked[n - 1]) < (double)o->min_p) n--;
    return n;
}

static gen_sampling plain(float temperature) {
    gen_sampling o = gen_sampling_default();
    o.temperature = temperature;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static gen_sampler *sampler(const gen_sampling *o, uint32_t v) {
    gen_sampler *s = NULL;
    rotor_error err = {0};
    if (gen_sampler_create(&s, o, v, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return s;
}

static gen_choice sample(gen_sampler *s) {
    gen_choice c;
    assert_int_equal(gen_sample(s, logits, NULL, 0, &c, NULL, 0, NULL), ROTOR_OK);
    return c;
}

/* ==== Selection =============================================================================== */

static void best_k_equals_a_full_sort(void **state) {
    (void)state;
    static gen_cand c[MAX_V];
    base_rng r;
    base_rng_seed(&r, 1);
    const uint32_t sizes[] = {1, 2, 15, 16, 17, 255, 1000, MAX_V};
    for (size_t z = 0; z < BASE_COUNT(sizes); z++)
        for (int kind = 0; kind < 6; kind++)
            for (uint32_t k = 1; k < sizes[z] * 2; k = k * 3 / 2 + 1) {
                uint32_t v = sizes[z], valid = 0;
                fill(&r, v, kind);
                rank_all(v);
                for (uint32_t i = 0; i < v; i++) valid += logits[i] > -INFINITY;
                size_t n = gen_best(c, logits, v, k);
                assert_int_equal(n, BASE_MIN(k, valid));
                if (n == 0) continue;
                assert_int_equal(gen_worst(c, n).id, ranked[n - 1]);
                if (n > 300) continue;
                gen_sort(c, n);
                for (size_t i = 0; i < n; i++) assert_int_equal(c[i].id, ranked[i]);
            }
}

static void prefix_of_mass_is_the_shortest(void **state) {
    (void)state;
    static gen_cand c[MAX_V];
    base_rng r;
    base_rng_seed(&r, 2);
    for (int turn = 0; turn < 600; turn++) {
        uint32_t v = 1 + base_rng_below(&r, 500);
        fill(&r, v, turn % 6);
        rank_all(v);
        float max = logits[ranked[0]];
        if (max == -INFINITY) continue;
        double total = 0, sum = 0, p = base_rng_double(&r);
        for (uint32_t i = 0; i < v; i++) total += weight_of(i);
        uint32_t want = 0;
        while (want < v && sum < p * total) sum += weight_of(ranked[want++]);
        for (uint32_t i = 0; i < v; i++) c[i] = (gen_cand){logits[i], i};
        size_t n = gen_prefix_of_mass(c, v, max, p * total);
        assert_int_equal(n, BASE_MAX(want, 1));
        assert_int_equal(gen_worst(c, n).id, ranked[n - 1]);
    }
    for (uint32_t i = 0; i < 100; i++) c[i] = (gen_cand){0, i};
    assert_int_equal(gen_prefix_of_mass(c, 100, 0, 0), 1);
    assert_int_equal(gen_prefix_of_mass(c, 100, 0, 1e9), 100);
}

static void exponentials_are_exact_enough(void **state) {
    (void)state;
    double worst = 0;
    for (float x = 0; x > -86.9f; x -= 0.0137f) {
        float y;
        gen_exp(&y, &x, 1, 0, 1);
        worst = BASE_MAX(worst, fabs((double)y / exp((double)x) - 1));
    }
    assert_true(worst < 3e-7);
    float edge[] = {-INFINITY, -1000, -FLT_MAX, 0}, y[4];
    gen_exp(y, edge, 4, 0, FLT_MAX);
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0 && y[3] == 1);
}

/* ==== Truncation ============================================================================== */

/* At an enormous temperature every survivor is as likely as the next: draw until all were seen. */
static void check_survivors(const gen_sampling *o, uint32_t v) {
    static uint8_t expected[MAX_V], seen[MAX_V];
    uint32_t n = naive_survivors(o, v), n_seen = 0;
    memset(expected, 0, sizeof expected);
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < n; i++) expected[ranked[i]] = 1;
    gen_sampler *s = sampler(o, v);
    for (uint32_t i = 0; i < 40 * n; i++) {
        uint32_t id = sample(s).id;
        if (!expected[id])
            fail_msg("token %u (logit %g) should have been cut", id, (double)logits[id]);
        n_seen += !seen[id];
        seen[id] = 1;
    }
    if (n_seen != n) fail_msg("%u of %u survivors seen", n_seen, n);
    gen_sampler_free(&s);
}

static void truncations_equal_the_naive_sampler(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 3);
    for (int turn = 0; turn < 500; turn++) {
        uint32_t v = 1 + base_rng_below(&r, 60);
        fill(&r, v, turn % 5);
        gen_sampling o = plain(1e6f);
        bool forbidden = true;
        for (uint32_t i = 0; i < v; i++) forbidden = forbidden && logits[i] == -INFINITY;
        if (forbidden) continue;
        if (turn & 8) o.top_k = (int)base_rng_below(&r, v + 3);
        if (turn & 16) o.top_p = (float)base_rng_double(&r);
        if (turn & 32) o.min_p = (float)(base_rng_double(&r) * 0.3);
        o.seed = base_rng_u64(&r);
        check_survivors(&o, v);
    }
}

static void a_large_vocabulary_is_cut_like_a_small_one(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 4);
    for (int turn = 0; turn < 8; turn++) {
        fill(&r, MAX_V, turn % 4);
        gen_sampling o = plain(1e6f);
        o.top_k = turn & 1 ? 40 : 0;
        o.top_p = turn & 2 ? 0.9f : 1;
        o.min_p = turn & 4 ? 0.05f : 0;
        if (naive_survivors(&o, MAX_V) < 2000) check_survivors(&o, MAX_V);
    }
}

/* ==== Arg-max, log-probabilities, penalties
 * ======================================================= */

static void temperature_zero_is_arg_max(void **state) {
    (void)state;
    gen_sampling o = gen_sampling_default();
    o.temperature = 0;
    for (uint32_t v = 1; v < 70; v++)
        for (uint32_t at = 0; at < v; at++) {
            for (uint32_t i = 0; i < v; i++) logits[i] = -1.0f - (float)(i % 3);
            logits[at] = 2;
            logits[v - 1] = 2; /* a tie: the lowest id wins */
            gen_sampler *s = sampler(&o, v);
            assert_int_equal(sample(s).id, at);
            gen_sampler_free(&s);
        }
}

static void logprobs_are_those_of_the_model(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 5);
    fill(&r, 1000, 0);
    const gen_bias bias[] = {{3, 2.5f}, {7, -INFINITY}};
    gen_sampling o = gen_sampling_default();
    o.bias = bias;
    o.n_bias = 2;
    o.repeat_penalty = 1.7f;
    gen_sampler *s = sampler(&o, 1000);
    const uint32_t history[] = {3, 5};
    gen_choice c, top[5];
    assert_int_equal(gen_sample(s, logits, history, 2, &c, top, 5, NULL), ROTOR_OK);
    logits[3] += 2.5f;
    logits[7] = -INFINITY;
    rank_all(1000);
    double total = 0;
    for (uint32_t i = 0; i < 1000; i++) total += exp((double)logits[i]);
    assert_true(fabs((double)c.logprob - ((double)logits[c.id] - log(total))) < 1e-5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(top[i].id, ranked[i]);
        assert_true(fabs((double)top[i].logprob - ((double)logits[ranked[i]] - log(total))) < 1e-5);
    }
    gen_sampler_free(&s);
}

static void missing_alternatives_are_marked(void **state) {
    (void)state;
    gen_sampling o = plain(1);
    gen_sampler *s = sampler(&o, 4);
    for (int i = 0; i < 4; i++) logits[i] = -INFINITY;
    logits[2] = 1;
    gen_choice c, top[6];
    assert_int_equal(gen_sample(s, logits, NULL, 0, &c, top, 6, NULL), ROTOR_OK);
    assert_true(c.id == 2 && top[0].id == 2 && c.logprob == 0);
    for (int i = 1; i < 6; i++) assert_true(top[i].id == TEXT_NO_ID && top[i].logprob == -INFINITY);
    gen_sampler_free(&s);
}

static void penalties_equal_the_naive_ones(void **state) {
    (void)state;
    enum { V = 30, N = 50 };
    base_rng r;
    base_rng_seed(&r, 6);
    for (int turn = 0; turn < 500; turn++) {
        uint32_t history[N], n = base_rng_below(&r, N + 1), last = base_rng_below(&r, N);
        fill(&r, V, 0);
        for (uint32_t i = 0; i < n; i++) history[i] = base_rng_below(&r, V + 2); /* some unknown */
        gen_sampling o = plain(0);
        o.penalty_last_n = last;
        if (turn & 1) o.repeat_penalty = (float)(0.5 + 2 * base_rng_double(&r));
        if (turn & 2) o.frequency_penalty = base_rng_normal(&r);
        if (turn & 4) o.presence_penalty = base_rng_normal(&r);
        uint32_t count[V + 2] = {0}, want = 0;
        for (uint32_t i = last && n > last ? n - last : 0; i < n; i++) count[history[i]]++;
        float best = -INFINITY;
        for (uint32_t i = 0; i < V; i++) {
            float x = logits[i];
            if (count[i]) {
                x = x > 0 ? x / o.repeat_penalty : x * o.repeat_penalty;
                x -= (float)count[i] * o.frequency_penalty;
                x -= o.presence_penalty;
            }
            if (x > best) best = x, want = i;
        }
        gen_sampler *s = sampler(&o, V);
        gen_choice c;
        for (int again = 0; again < 2; again++) { /* the counters are clean afterwards */
            assert_int_equal(gen_sample(s, logits, history, n, &c, NULL, 0, NULL), ROTOR_OK);
            assert_int_equal(c.id, want);
        }
        gen_sampler_free(&s);
    }
}

/* ==== Draws =================================================================================== */

static void draws_follow_the_distribution(void **state) {
    (void)state;
    enum { V = 10, N = 100000 };
    const float temperatures[] = {0.5f, 1, 2};
    base_rng r;
    base_rng_seed(&r, 7);
    for (size_t t = 0; t < 3; t++) {
        for (uint32_t i = 0; i < V; i++) logits[i] = base_rng_normal(&r);
        gen_sampling o = plain(temperatures[t]);
        o.seed = t;
        gen_sampler *s = sampler(&o, V);
        double p[V], total = 0, chi = 0;
        int seen[V] = {0};
        for (uint32_t i = 0; i < V; i++)
            total += p[i] = exp((double)logits[i] / (double)temperatures[t]);
        for (int i = 0; i < N; i++) seen[sample(s).id]++;
        for (uint32_t i = 0; i < V; i++) {
            double want = p[i] / total * N;
            chi += (seen[i] - want) * (seen[i] - want) / want;
        }
        assert_true(chi < 33.7); /* 9 degrees of freedom: one in 10,000 exceeds this */
        gen_sampler_free(&s);
    }
}

/* Draws are spread over groups of 256 survivors: every group gets its share. */
static void draws_over_many_groups_follow_the_distribution(void **state) {
    (void)state;
    enum { V = 2000, BINS = 20, N = 40000 };
    gen_sampling o = plain(1);
    gen_sampler *s = sampler(&o, V);
    double want[BINS] = {0}, total = 0, chi = 0;
    int seen[BINS] = {0};
    for (uint32_t i = 0; i < V; i++) {
        logits[i] = (float)(i % 7) * 0.3f - (i > V - 40 ? INFINITY : 0); /* a tail without weight */
        double w = exp((double)logits[i]);
        total += w;
        want[i * BINS / V] += w;
    }
    for (int i = 0; i < N; i++) {
        uint32_t id = sample(s).id;
        assert_true(logits[id] > -INFINITY);
        seen[id * BINS / V]++;
    }
    for (int i = 0; i < BINS; i++) {
        double e = want[i] / total * N;
        chi += (seen[i] - e) * (seen[i] - e) / e;
    }
    assert_true(chi < 50.8); /* 19 degrees of freedom, one in 10,000 */
    gen_sampler_free(&s);
}

static void the_same_seed_draws_the_same_tokens(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 8);
    fill(&r, 500, 0);
    gen_sampling o = plain(1.5f);
    o.seed = 42;
    gen_sampler *a = sampler(&o, 500), *b = sampler(&o, 500);
    uint32_t first[50];
    int differ = 0;
    for (int i = 0; i < 50; i++) {
        first[i] = sample(a).id;
        assert_int_equal(first[i], sample(b).id);
    }
    gen_sampler_reset(a, 42);
    for (int i = 0; i < 50; i++) assert_int_equal(sample(a).id, first[i]);
    gen_sampler_reset(a, 43);
    for (int i = 0; i < 50; i++) differ += sample(a).id != first[i];
    assert_true(differ > 10);
    gen_sampler_free(&a);
    gen_sampler_free(&b);
}

/* ==== Hostile input =========================================================================== */

static void broken_logits_are_survived_or_refused(void **state) {
    (void)state;
    gen_sampling o = gen_sampling_default();
    rotor_error err = {0};
    gen_choice c = {77, 1};
    for (int t = 0; t < 2; t++) {
        o.temperature = (float)t;
        gen_sampler *s = sampler(&o, 20);
        for (int i = 0; i < 20; i++) logits[i] = NAN;
        assert_int_equal(gen_sample(s, logits, NULL, 0, &c, NULL, 0, &err), ROTOR_E_FORMAT);
        assert_true(c.id == 77 && strstr(err.message, "finite"));
        logits[4] = INFINITY;
        assert_int_equal(gen_sample(s, logits, NULL, 0, &c, NULL, 0, &err), ROTOR_E_FORMAT);
        logits[9] = -3;
        assert_int_equal(sample(s).id, 4);
        logits[4] = -INFINITY;
        assert_int_equal(sample(s).id, 9);
        gen_sampler_free(&s);
    }
}

static void nan_logits_are_like_forbidden_ones(void **state) {
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        gen_sampling o = plain(mode ? 1e6f : 0);
        if (mode == 2) o.top_p = 0.5f; /* the first 17 of 34 equals */
        gen_sampler *s = sampler(&o, 100);
        for (int i = 0; i < 100; i++) logits[i] = i % 3 ? NAN : 1.0f;
        for (int i = 0; i < 500; i++) {
            gen_choice c, top[40];
            assert_int_equal(gen_sample(s, logits, NULL, 0, &c, top, 40, NULL), ROTOR_OK);
            assert_true(c.id % 3 == 0 && c.id <= (mode == 2 ? 48 : 99));
            assert_true(fabs((double)c.logprob + log(34)) < 1e-5);
            assert_true(top[33].id == 99 && top[34].id == TEXT_NO_ID);
        }
        gen_sampler_free(&s);
    }
}

static void forbid_all(void *user, float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) x[i] = i == *(uint32_t *)user ? 0.0f : -INFINITY;
}

static void hooks_and_bias_decide(void **state) {
    (void)state;
    uint32_t wanted = 13;
    gen_bias bias[] = {{13, -INFINITY}};
    gen_sampling o = gen_sampling_default();
    o.hook = forbid_all;
    o.hook_user = &wanted;
    gen_sampler *s = sampler(&o, 40);
    for (int i = 0; i < 40; i++) logits[i] = (float)i;
    for (int i = 0; i < 20; i++) assert_int_equal(sample(s).id, 13);
    gen_sampler_free(&s);
    o.bias = bias;
    o.n_bias = 1;
    s = sampler(&o, 40);
    gen_choice c;
    assert_int_equal(gen_sample(s, logits, NULL, 0, &c, NULL, 0, NULL), ROTOR_E_FORMAT);
    gen_sampler_free(&s);
}

static void settings_out_of_range_are_named(void **state) {
    (void)state;
    const gen_bias unknown = {10, 1}, nan = {1, NAN};
    gen_sampling good = gen_sampling_default(), bad[12];
    for (int i = 0; i < 12; i++) bad[i] = good;
    bad[0].temperature = -1;
    bad[1].temperature = NAN;
    bad[2].top_k = -1;
    bad[3].top_p = 1.5f;
    bad[4].top_p = -0.1f;
    bad[5].min_p = 2;
    bad[6].repeat_penalty = 0;
    bad[7].frequency_penalty = INFINITY;
    bad[8].presence_penalty = NAN;
    bad[9].bias = &unknown;
    bad[10].bias = &nan;
    bad[9].n_bias = bad[10].n_bias = 1;
    bad[11].top_p = NAN;
    const char *word[] = {"temperature",
                          "temperature",
                          "top_k",
                          "top_p",
                          "top_p",
                          "min_p",
                          "repeat_penalty",
                          "frequency_penalty",
                          "presence_penalty",
                          "token 10",
                          "token 1",
                          "top_p"};
    for (int i = 0; i < 12; i++) {
        gen_sampler *s = NULL;
        rotor_error err = {0};
        assert_int_equal(gen_sampler_create(&s, &bad[i], 10, &err), ROTOR_E_ARG);
        assert_null(s);
        assert_non_null(strstr(err.message, word[i]));
    }
}

static void creation_survives_every_fault(void **state) {
    (void)state;
    gen_sampling o = gen_sampling_default();
    o.repeat_penalty = 1.1f;
    for (long n = 1; n < 50; n++) {
        gen_sampler *s = NULL;
        base_fault_after(n);
        rotor_status st = gen_sampler_create(&s, &o, 100, NULL);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        assert_int_equal(s == NULL, fired);
        gen_sampler_free(&s);
        if (!fired) return;
    }
    fail();
}

static void sampling_allocates_nothing(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 9);
    fill(&r, MAX_V, 0);
    gen_sampling o = gen_sampling_default();
    o.repeat_penalty = 1.1f;
    o.top_k = 0;
    gen_sampler *s = sampler(&o, MAX_V);
    const uint32_t history[] = {1, 2, 3};
    gen_choice c, top[20];
    uint64_t before = base_alloc_count();
    for (int i = 0; i < 20; i++)
        assert_int_equal(gen_sample(s, logits, history, 3, &c, top, 20, NULL), ROTOR_OK);
    assert_int_equal(base_alloc_count(), before);
    gen_sampler_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_k_equals_a_full_sort),
        cmocka_unit_test(prefix_of_mass_is_the_shortest),
        cmocka_unit_test(exponentials_are_exact_enough),
        cmocka_unit_test(truncations_equal_the_naive_sampler),
        cmocka_unit_test(a_large_vocabulary_is_cut_like_a_small_one),
        cmocka_unit_test(temperature_zero_is_arg_max),
        cmocka_unit_test(logprobs_are_those_of_the_model),
        cmocka_unit_test(missing_alternatives_are_marked),
        cmocka_unit_test(penalties_equal_the_naive_ones),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(draws_over_many_groups_follow_the_distribution),
        cmocka_unit_test(the_same_seed_draws_the_same_tokens),
        cmocka_unit_test(broken_logits_are_survived_or_refused),
        cmocka_unit_test(nan_logits_are_like_forbidden_ones),
        cmocka_unit_test(hooks_and_bias_decide),
        cmocka_unit_test(settings_out_of_range_are_named),
        cmocka_unit_test(creation_survives_every_fault),
        cmocka_unit_test(sampling_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
