/* SPDX-License-Identifier: MIT
 *
 * run: whole models on every device there is, held against the CPU. The same tokens are fed to
 * both: one by one, a few at a time and all at once; by two sessions in one step, after a rewind,
 * through shared cache pages. Each position is judged: with float activations every row of logits
 * to 2e-3; with rounded ones all rows together to 9e-2 (a code that falls the other way goes
 * through the network); and the same best token wherever the CPU's lead is clear.
 *
 * Where layers keep only their window, their pages go round. And what a decoded token costs,
 * counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "device_rig.h"

enum { N = 64, MOST_ROWS = 256, FEW_MODELS = 2 /* bitnet-tiny, llama-tiny: of the short run */ };

static rig_device devices[RIG_DEVICES];
static size_t n_devices;
static unsigned n_wrong; /* ways that a test has found fault with: it goes through all of them */

static int find_devices(void **state) {
    (void)state;
    n_devices = rig_devices(devices);
    return 0;
}

static void need_devices(void) {
    if (n_devices) return;
    print_message("skipped: no device\n");
    skip();
}

/* ==== Ways through a model ==================================================================== */

/* Token i of everything that is fed. */
static uint32_t token_at(const rig *r, uint32_t i) {
    return (i * 37u + i / 11u * 5u) % r->m->hp.n_vocab;
}

/* Feeds tokens [from, from + n) to one session, at most `rows` a step, and keeps all logits. */
static float *feed(rig *r, run_session *s, uint32_t from, uint32_t n, uint32_t rows, float *out) {
    run_row row[N];
    for (uint32_t i = 0, k; i < n; i += k) {
        k = BASE_MIN(rows, n - i);
        for (uint32_t j = 0; j < k; j++) row[j] = (run_row){s, token_at(r, from + i + j), true};
        rig_eval(r, row, k);
        out = rig_logits(r, k, out);
    }
    return out;
}

static float *one_session(rig *r, uint32_t rows, float *out) {
    run_session *s = NULL;
    rig_session(&s, r);
    out = feed(r, s, 0, N, rows, out);
    run_session_free(&s);
    return out;
}

static float *one_by_one(rig *r, float *out) { return one_session(r, 1, out); }
static float *by_fives(rig *r, float *out) { return one_session(r, 5, out); }
static float *at_once(rig *r, float *out) { return one_session(r, N, out); }

/* Two sessions step together; one rewinds; a third forks from it and each goes its own way. */
static float *together(rig *r, float *out) {
    run_session *a = NULL, *b = NULL, *fork = NULL;
    rig_session(&a, r);
    rig_session(&b, r);
    rig_session(&fork, r);
    out = feed(r, a, 0, 60, N, out);
    out = feed(r, b, 200, 3, 1, out);
    for (uint32_t i = 0; i < 8; i++) {
        const run_row row[] = {{a, token_at(r, 60 + i), true}, {b, token_at(r, 300 + i), true}};
        rig_eval(r, row, 2);
        out = rig_logits(r, 2, out);
    }
    run_session_rewind(a, 55);
    out = feed(r, a, 400, 20, N, out);
    if (run_session_fork(fork, a, 70, NULL) != ROTOR_OK) fail();
    for (uint32_t i = 0; i < 4; i++) {
        const run_row row[] = {{fork, token_at(r, 500 + i), true}, {a, token_at(r, 600 + i), true}};
        rig_eval(r, row, 2);
        out = rig_logits(r, 2, out);
    }
    run_session_free(&fork);
    run_session_free(&b);
    run_session_free(&a);
    return out;
}

static const struct {
    const char *name;                    /* for messages */
    float *(*go)(rig *r, float *logits); /* returns the end of what it wrote */
    bool quick;                          /* part of the short run */
} ways[] = {{"one by one", one_by_one, true},
            {"all at once", at_once, true},
            {"by fives", by_fives, false},
            {"sessions", together, true}};

/* ==== The verdict ============================================================================= */

static void check_way(rig *cpu, rig *gpu, size_t way, bool float_act, const char *label) {
    const size_t width = cpu->m->hp.n_vocab;
    float *want = malloc(MOST_ROWS * width * sizeof *want);
    float *got = malloc(MOST_ROWS * width * sizeof *got);
    const size_t n = (size_t)(ways[way].go(cpu, want) - want);
    const uint64_t start = base_now_ns();
    assert_int_equal(ways[way].go(gpu, got) - got, n);
    const rig_verdict v = rig_judge(got, want, n / width, width);
    print_message("  %-60s %-12s worst %.2e all %.2e clear %3u/%-3zu %.1f s\n", label,
                  ways[way].name, v.worst, v.all, v.clear, n / width,
                  (double)(base_now_ns() - start) / 1e9);
    const bool good =
        v.all <= RIG_INT8_BOUND && v.lost == 0 && (!float_act || v.worst <= RIG_FLOAT_BOUND);
    if (!good) print_message("  WRONG: %u best tokens differ\n", v.lost);
    n_wrong += !good;
    free(want);
    free(got);
}

/* Whether the tests are about this model: ROTOR_TEST_MODEL names the only one. */
static bool asked_for(const char *model_name) {
    const char *only = getenv("ROTOR_TEST_MODEL");
    return !only || strcmp(only, model_name) == 0;
}

/* Every way through a model that `all` or the short run asks for, on one device. */
static void check_model(const rig_device *d, const char *model_name, kern_kv kv, bool float_act) {
    static const char *const caches[] = {"f32", "f16", "q8"};
    rig cpu, gpu;
    char label[200];
    if (!asked_for(model_name)) return;
    snprintf(label, sizeof label, "%.24s, %s, cache %s, act %s", d->label, model_name, caches[kv],
             float_act ? "f32" : "q8");
    rig_up(&cpu, model_name, (rig_setting){.kv = kv, .float_act = float_act, .rows = N});
    rig_up(&gpu, model_name,
           (rig_setting){.device = d, .kv = kv, .float_act = float_act, .rows = N});
    for (size_t w = 0; w < BASE_COUNT(ways); w++)
        if (rig_all() || ways[w].quick) check_way(&cpu, &gpu, w, float_act, label);
    if (gpu.log.warnings) fail_msg("%s: %s", label, gpu.log.last);
    assert_string_not_equal(run_device_name(gpu.e), "cpu");
    rig_down(&gpu);
    rig_down(&cpu);
}

/* ==== Tests =================================================================================== */

static void models_agree(bool float_act) {
    need_devices();
    n_wrong = 0;
    for (size_t i = 0; i < n_devices; i++) {
        /* The short run: few models on all devices but the last, whose compiler is quick. */
        const size_t n_quick = float_act || i + 1 < n_devices ? FEW_MODELS : rig_n_quick();
        for (size_t m = 0; rig_model(m) && (rig_all() || m < n_quick); m++)
            check_model(&devices[i], rig_model(m), KERN_KV_F16, float_act);
    }
    assert_int_equal(n_wrong, 0);
}

static void logits_agree_with_float_activations(void **state) {
    (void)state;
    models_agree(true);
}

static void logits_agree_with_rounded_activations(void **state) {
    (void)state;
    models_agree(false);
}

static void every_cache_type_agrees(void **state) {
    (void)state;
    need_devices();
    n_wrong = 0;
    for (size_t i = 0; i < n_devices; i++)
        for (size_t m = 0; m < (rig_all() ? rig_n_quick() : 1); m++) {
            check_model(&devices[i], rig_model(m), KERN_KV_F32, false);
            check_model(&devices[i], rig_model(m), KERN_KV_Q8, false);
        }
    assert_int_equal(n_wrong, 0);
}

/* ==== Rings =================================================================================== */

enum { RING_ROWS = 40, RING_LONG = 320, RING_BACK = 25, RING_ON = 80, RING_STEPS = 6 };
static const char ring_model[] = "gptoss-gguf/model.gguf"; /* a window of 8 in every other layer */

/* Feeds n tokens from `from` on, RING_ROWS a step; keeps the logits of each step's last row. */
static float *ring_feed(rig *r, run_session *s, uint32_t from, uint32_t n, float *out) {
    run_row row[RING_ROWS];
    for (uint32_t i = 0, k; i < n; i += k) {
        k = BASE_MIN((uint32_t)RING_ROWS, n - i);
        for (uint32_t j = 0; j < k; j++)
            row[j] = (run_row){s, token_at(r, from + i + j), j + 1 == k};
        rig_eval(r, row, k);
        out = rig_logits(r, 1, out);
    }
    return out;
}

/* Long enough for pages to be used again; back by some, and on; a fork and its origin together:
 * *dispatches is what these steps took. */
static float *around(rig *r, run_session **keep, uint64_t *dispatches, float *out) {
    run_session *s = NULL, *fork = NULL;
    rig_session(&s, r);
    rig_session(&fork, r);
    out = ring_feed(r, s, 0, RING_LONG, out);
    assert_int_equal(run_session_rewind(s, RING_LONG - RING_BACK), RING_LONG - RING_BACK);
    out = ring_feed(r, s, 900, RING_ON, out);
    if (run_session_fork(fork, s, RING_LONG + 30, NULL) != ROTOR_OK) fail();
    const dev_counters before = run_counters(r->e);
    for (uint32_t i = 0; i < RING_STEPS; i++) {
        const run_row row[] = {{fork, token_at(r, 500 + i), true}, {s, token_at(r, 600 + i), true}};
        rig_eval(r, row, 2);
        out = rig_logits(r, 2, out);
    }
    *dispatches = run_counters(r->e).dispatches - before.dispatches;
    run_session_free(&fork);
    *keep = s;
    return out;
}

/* Against the CPU; the whole model on the device, or only its first layers. Then the device fails,
 * and the CPU has all that the windows see, to the bit. */
static void rings_on(const rig_device *d, uint32_t layers) {
    enum { MOST = 64, MORE = 3 };
    const rig_setting set = {
        .kv = KERN_KV_F16, .float_act = true, .rows = RING_ROWS, .sessions = 1};
    rig_setting there = set;
    rig cpu, gpu;
    run_session *a = NULL, *b = NULL;
    there.device = d;
    there.layers = layers;
    rig_up(&cpu, ring_model, set);
    rig_up(&gpu, ring_model, there);
    const size_t width = cpu.m->hp.n_vocab;
    float *want = malloc(MOST * width * sizeof *want), *got = malloc(MOST * width * sizeof *got);
    uint64_t dispatches;
    const size_t n = (size_t)(around(&cpu, &a, &dispatches, want) - want) / width;
    assert_int_equal(around(&gpu, &b, &dispatches, got) - got, n * width);
    if (!layers) /* nothing is rounded: one less a layer */
        assert_int_equal(dispatches, RING_STEPS * (13 * gpu.m->hp.n_layer + 4));
    const rig_verdict v = rig_judge(got, want, n, width);
    print_message("  %-40.40s rings, %u layers: worst %.2e all %.2e\n", d->label,
                  run_device_layers(gpu.e), v.worst, v.all);
    assert_true(v.worst <= RIG_FLOAT_BOUND && v.lost == 0);
    assert_int_equal(gpu.log.warnings, 0);
    ring_feed(&cpu, a, 700, MORE, want);
    base_fault_after(1); /* a list for another size is to be made */
    ring_feed(&gpu, b, 700, MORE, got);
    base_fault_after(0);
    assert_int_equal(gpu.log.warnings, 1);
    assert_memory_equal(got, want, width * sizeof *got);
    run_session_free(&a);
    run_session_free(&b);
    free(want);
    free(got);
    rig_down(&gpu);
    rig_down(&cpu);
}

static void layers_with_a_window_keep_only_that(void **state) {
    (void)state;
    need_devices();
    if (!asked_for(ring_model)) return;
    /* The short run: one device, the last, for the sake of its quick compiler. */
    for (size_t i = rig_all() ? 0 : n_devices - 1; i < n_devices; i++) {
        rings_on(&devices[i], 0);
        if (rig_all()) rings_on(&devices[i], 3);
    }
}

/* ==== Costs =================================================================================== */

static void step_and_take_best(rig *r, run_session *s, uint32_t i) {
    const run_row row = {s, token_at(r, i), true};
    const run_want want = {.k = 1};
    run_found found;
    rig_eval(r, &row, 1);
    assert_true(run_candidates(r->e, 0, &want, &found));
    assert_int_equal(found.n, 1);
}

/* What a token costs once the first one has been through. */
static void check_costs(const rig_device *d, const char *model_name) {
    enum { WARM = 3, TOKENS = 40 };
    rig r;
    run_session *s = NULL;
    if (!asked_for(model_name)) return;
    rig_up(&r, model_name, (rig_setting){.device = d, .kv = KERN_KV_F16, .rows = 8});
    rig_session(&s, &r);
    for (uint32_t i = 0; i < WARM; i++) step_and_take_best(&r, s, i);
    const dev_counters before = run_counters(r.e);
    const uint64_t host = base_alloc_count(), memory = run_memory_bytes(r.e);
    for (uint32_t i = 0; i < TOKENS; i++) step_and_take_best(&r, s, WARM + i);
    const dev_counters after = run_counters(r.e);
    const uint64_t up = after.bytes_up - before.bytes_up,
                   down = after.bytes_down - before.bytes_down,
                   dispatches = (after.dispatches - before.dispatches) / TOKENS;
    print_message("  %-40.40s %-16s a token: %llu bytes up, %llu down, %llu dispatches\n", d->label,
                  model_name, (unsigned long long)up / TOKENS, (unsigned long long)down / TOKENS,
                  (unsigned long long)dispatches);
    assert_int_equal(after.steps - before.steps, TOKENS);
    assert_int_equal(after.submissions - before.submissions, TOKENS);
    assert_int_equal(after.allocations, before.allocations);
    assert_int_equal(base_alloc_count(), host);
    assert_int_equal(run_memory_bytes(r.e), memory);
    assert_in_range(up, 1, TOKENS * (16 << 10)); /* no weights: the smallest model has 500 KB */
    assert_in_range(down, 1, TOKENS * 64);
    assert_in_range(dispatches, 1,
                    (r.m->hp.n_ff_shared ? 19
                     : r.m->hp.n_expert  ? 14
                                         : 12) *
                            r.m->hp.n_layer +
                        8);
    run_session_free(&s);
    rig_down(&r);
}

static void a_token_costs_little(void **state) {
    (void)state;
    need_devices();
    for (size_t i = 0; i < n_devices; i++)
        for (size_t m = 0; rig_model(m) && (rig_all() || m < FEW_MODELS); m++)
            check_costs(&devices[i], rig_model(m));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_agree_with_float_activations),
        cmocka_unit_test(logits_agree_with_rounded_activations),
        cmocka_unit_test(every_cache_type_agrees),
        cmocka_unit_test(layers_with_a_window_keep_only_that),
        cmocka_unit_test(a_token_costs_little),
    };
    return cmocka_run_group_tests(tests, find_devices, NULL);
}
