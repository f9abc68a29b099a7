/* SPDX-License-Identifier: MIT
 *
 * run: prompts on one device, everything else on another. The same conversation, with prompts
 * between answers, rewinds and shared pages, is held against the CPU alone, in every pairing of CPU
 * and devices; the pages of the cache cross when they have to and not again; and a device that
 * fails takes nothing with it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "dev/gpu/dev_gpu.h"
#include "device_rig.h"
#include "faulty_gpu.h"

enum { ROWS = 64, MOST = 64 /* rows of logits of a conversation */, FEW_MODELS = 1 };

static rig_device devices[RIG_DEVICES];
static size_t n_devices;
static const rig_device on_cpu = {.api = DEV_CPU, .label = "cpu"};
static const rig_device *current; /* behind the failing driver */

static int find_devices(void **state) {
    (void)state;
    n_devices = rig_devices(devices);
    return 0;
}

static int give_back(void **state) {
    (void)state;
    faulty_done();
    return 0;
}

static void need_devices(void) {
    if (n_devices) return;
    print_message("skipped: no device\n");
    skip();
}

/* ==== A conversation ========================================================================== */

static uint32_t token_at(const rig *r, uint32_t i) {
    return (i * 37u + i / 11u * 5u) % r->m->hp.n_vocab;
}

/* n tokens in steps of ROWS at most; logits after the last. */
static float *prompt(rig *r, run_session *s, uint32_t n, float *out) {
    run_row row[ROWS];
    for (uint32_t i = 0, k; i < n; i += k) {
        k = BASE_MIN((uint32_t)ROWS, n - i);
        for (uint32_t j = 0; j < k; j++)
            row[j] = (run_row){s, token_at(r, run_session_len(s) + j + n), i + j == n - 1};
        rig_eval(r, row, k);
    }
    return rig_logits(r, 1, out);
}

/* n tokens one by one. */
static float *answer(rig *r, run_session *s, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i++) {
        const run_row row = {s, token_at(r, 3 * run_session_len(s)), true};
        rig_eval(r, &row, 1);
        out = rig_logits(r, 1, out);
    }
    return out;
}

static float *talk(rig *r, float *out) {
    run_session *a = NULL, *b = NULL;
    rig_session(&a, r);
    rig_session(&b, r);
    out = prompt(r, a, 104, out);
    out = answer(r, a, 6, out);
    out = prompt(r, a, 20, out); /* a second one in the same session */
    out = answer(r, a, 3, out);
    run_session_rewind(a, 90); /* into what only prompts have written … */
    out = prompt(r, a, 16, out);
    out = answer(r, a, 30, out);
    run_session_rewind(a, 120); /* … and into an answer */
    out = answer(r, a, 1, out);
    if (run_session_fork(b, a, 119, NULL) != ROTOR_OK) fail();
    out = prompt(r, b, 24, out); /* in a copy of the page that ends with an answer */
    for (uint32_t i = 0; i < 3; i++) {
        const run_row row[] = {{a, token_at(r, i), true}, {b, token_at(r, 50 + i), true}};
        rig_eval(r, row, 2);
        out = rig_logits(r, 2, out);
    }
    out = prompt(r, a, 12, out);
    out = answer(r, a, 1, out);
    out = answer(r, b, 2, out);
    run_session_free(&a);
    run_session_free(&b);
    return out;
}

static rig_setting pairing(const rig_device *prompts, const rig_device *rest) {
    return (rig_setting){.device = rest->api == DEV_CPU ? NULL : rest,
                         .prompt = prompts,
                         .kv = KERN_KV_F16,
                         .rows = ROWS};
}

/* ==== Agreement =============================================================================== */

static unsigned check_pairing(const rig_device *prompts, const rig_device *rest,
                              const char *model_name, rig_setting set) {
    rig cpu, pair;
    rig_up(&cpu, model_name, (rig_setting){.kv = set.kv, .float_act = set.float_act, .rows = ROWS});
    rig_up(&pair, model_name, set);
    const size_t width = cpu.m->hp.n_vocab;
    float *want = malloc(MOST * width * sizeof *want), *got = malloc(MOST * width * sizeof *got);
    const size_t n = (size_t)(talk(&cpu, want) - want) / width;
    assert_true(n <= MOST);
    assert_int_equal((size_t)(talk(&pair, got) - got) / width, n);
    const rig_verdict v = rig_judge(got, want, n, width);
    const bool good =
        v.all <= RIG_INT8_BOUND && v.lost == 0 && (!set.float_act || v.worst <= RIG_FLOAT_BOUND);
    print_message(
        "  %-10.10s for prompts, %-10.10s %-12s act %s: worst %.2e all %.2e clear %u/%zu, "
        "%llu pages moved%s\n",
        prompts->label, rest->label, model_name, set.float_act ? "f32" : "q8", v.worst, v.all,
        v.clear, n, (unsigned long long)run_counters(pair.e).pages_moved, good ? "" : " WRONG");
    if (pair.log.warnings) fail_msg("%s", pair.log.last);
    assert_non_null(run_prompt_device(pair.e));
    assert_true(run_counters(pair.e).pages_moved > 0);
    free(want);
    free(got);
    rig_down(&pair);
    rig_down(&cpu);
    return !good;
}

static void every_pairing_agrees_with_the_cpu(void **state) {
    (void)state;
    need_devices();
    unsigned wrong = 0;
    for (size_t i = 0; i < n_devices; i++) {
        const rig_device *const pairs[][2] = {
            {&devices[i], &on_cpu}, {&on_cpu, &devices[i]}, {&devices[i], &devices[!i]}};
        for (size_t p = 0; p < (n_devices > 1 && (rig_all() || i == 0) ? 3 : 2); p++)
            for (size_t m = 0; rig_model(m) && m < (rig_all() ? rig_n_quick() : FEW_MODELS); m++)
                for (int act = 0; act < 2; act++) {
                    if (!rig_all() && act == (p == 0)) continue; /* one of the two */
                    rig_setting set = pairing(pairs[p][0], pairs[p][1]);
                    set.float_act = act;
                    wrong += check_pairing(pairs[p][0], pairs[p][1], rig_model(m), set);
                }
    }
    assert_int_equal(wrong, 0);
}

static void every_cache_type_crosses(void **state) {
    (void)state;
    need_devices();
    unsigned wrong = 0;
    for (size_t i = rig_all() ? 0 : n_devices - 1; i < n_devices; i++)
        for (int kv = 0; kv < 2; kv++) {
            rig_setting set = pairing(&devices[i], &on_cpu);
            set.kv = kv ? KERN_KV_Q8 : KERN_KV_F32;
            wrong += check_pairing(&devices[i], &on_cpu, rig_model(0), set);
        }
    assert_int_equal(wrong, 0);
}

/* ==== What crosses ============================================================================ */

static void pages_cross_once(void **state) {
    (void)state;
    need_devices();
    for (size_t i = 0; i < n_devices; i++) {
        rig r;
        run_session *s = NULL;
        rig_up(&r, rig_model(0), pairing(&devices[i], &on_cpu));
        float *logits = malloc(MOST * (size_t)r.m->hp.n_vocab * sizeof *logits);
        rig_session(&s, &r);
        prompt(&r, s, 104, logits); /* two pages, in two steps */
        assert_int_equal(run_counters(r.e).pages_moved, 0);
        answer(&r, s, 6, logits);
        assert_int_equal(run_counters(r.e).pages_moved, 2);
        prompt(&r, s, 20, logits); /* the answer stands in the second */
        assert_int_equal(run_counters(r.e).pages_moved, 3);
        answer(&r, s, 3, logits); /* the second and the third */
        assert_int_equal(run_counters(r.e).pages_moved, 5);
        run_session_rewind(s, 64);
        answer(&r, s, 3, logits); /* the first has long been there */
        assert_int_equal(run_counters(r.e).pages_moved, 5);
        prompt(&r, s, 8, logits); /* too few to be one */
        assert_int_equal(run_counters(r.e).pages_moved, 5);
        run_session_free(&s);
        free(logits);
        rig_down(&r);
    }
}

/* Prompts on the CPU, tokens chosen ahead on a device: the same ones as step by step. */
static void tokens_are_chosen_ahead(void **state) {
    (void)state;
    need_devices();
    enum { N = 6 };
    for (size_t i = 0; i < n_devices; i++) {
        uint32_t told[2][2 * N];
        for (int ahead = 0; ahead < 2; ahead++) {
            rig r;
            run_session *s = NULL;
            rig_up(&r, rig_model(0), pairing(&on_cpu, &devices[i]));
            float *logits = malloc((size_t)r.m->hp.n_vocab * sizeof *logits);
            rig_session(&s, &r);
            assert_true(run_can_ahead(r.e));
            for (uint32_t turn = 0; turn < 2; turn++) {
                uint32_t next = 7;
                prompt(&r, s, 70, logits);
                for (uint32_t n = 0; n < N; n++) {
                    run_found found;
                    const run_row row = {s, next, true};
                    if (ahead) {
                        if (n == 0 && run_begin(s, next, NULL, NULL) != ROTOR_OK) fail();
                        if (n + 1 < N && run_begin(s, DEV_CHOSEN, NULL, NULL) != ROTOR_OK) fail();
                        assert_true(run_end(s, &next));
                    } else {
                        rig_eval(&r, &row, 1);
                        assert_true(run_candidates(r.e, 0, &(run_want){.k = 1}, &found));
                        next = found.id[0];
                    }
                    told[ahead][turn * N + n] = next;
                }
            }
            assert_int_equal(run_session_len(s), 2 * (70 + N));
            run_session_free(&s);
            free(logits);
            rig_down(&r);
        }
        assert_memory_equal(told[0], told[1], sizeof *told);
    }
}

/* ==== Failures ================================================================================ */

static rotor_status open_faulty(dev **out, const dev_shape *shape, rotor_error *err) {
    const gpu_api *behind = current->api == DEV_OPENCL ? gpu_opencl() : gpu_vulkan();
    return dev_gpu_create_on(out, faulty_gpu(behind), current->index, NULL, shape, err);
}

/* Returns false when the failure was never reached. */
static bool check_failure(const float *want, size_t n, faulty_call call, unsigned at,
                          rotor_status st, bool prompts) {
    rig r;
    rig_setting set = prompts ? pairing(current, &on_cpu) : pairing(&on_cpu, current);
    set.open_gpu = open_faulty;
    faulty_at(call, at, st);
    rig_up(&r, rig_model(0), set);
    const size_t width = r.m->hp.n_vocab;
    float *got = malloc(MOST * width * sizeof *got);
    assert_int_equal((size_t)(talk(&r, got) - got) / width, n);
    const bool fired = faulty_fired();
    if (r.log.warnings != (fired ? 1 : 0))
        fail_msg("%s %u: %d warnings, the last: %s", faulty_names[call], at, r.log.warnings,
                 r.log.last);
    assert_int_equal(faulty_after_loss(), 0);
    if (fired) assert_null(run_prompt_device(r.e));
    if (fired) /* the CPU has told the rest, all of it with a cache of its own */
        assert_memory_equal(got + (n - 1) * width, want + (n - 1) * width, width * sizeof *got);
    free(got);
    rig_down(&r);
    assert_int_equal(faulty_mem_bytes(), 0);
    return fired;
}

static void a_device_may_fail(void **state) {
    (void)state;
    need_devices();
    static const struct {
        faulty_call call; /* what fails */
        rotor_status st;  /* how */
        bool quick;       /* part of the short run */
    } kinds[] = {{FAULTY_OPEN, ROTOR_E_DEVICE, true},  {FAULTY_ALLOC, ROTOR_E_DEVICE, false},
                 {FAULTY_WRITE, ROTOR_E_DEVICE, true}, {FAULTY_READ, ROTOR_E_DEVICE, false},
                 {FAULTY_WAIT, ROTOR_E_DEVICE, true},  {FAULTY_SUBMIT, ROTOR_E_DEVICE, false}};
    rig cpu;
    rig_up(&cpu, rig_model(0), (rig_setting){.kv = KERN_KV_F16, .rows = ROWS});
    const size_t width = cpu.m->hp.n_vocab;
    float *want = malloc(MOST * width * sizeof *want);
    const size_t n = (size_t)(talk(&cpu, want) - want) / width;
    rig_down(&cpu);
    for (size_t i = rig_all() ? 0 : n_devices - 1; i < n_devices; i++) {
        current = &devices[i];
        for (size_t k = 0; k < BASE_COUNT(kinds); k++)
            for (int prompts = 0; prompts < (rig_all() || kinds[k].quick ? 2 : 0); prompts++) {
                unsigned at = 1, tried = 0;
                while (check_failure(want, n, kinds[k].call, at, kinds[k].st, prompts))
                    at += rig_all() ? 1 + at / 8 : 5 * at, tried++;
                print_message("  %-10.10s %s: %s fails %u times\n", current->label,
                              prompts ? "for prompts" : "for the rest", faulty_names[kinds[k].call],
                              tried);
                assert_true(tried);
            }
    }
    free(want);
}

/* One that does not hold the model is left out, with one warning that says so. */
static void a_small_device_gets_no_prompts(void **state) {
    (void)state;
    rig r;
    const dev_facts small = {.name = "small one", .heap_bytes = 130u << 20};
    const rig_device tight = {.api = DEV_VULKAN, .index = 9, .placed_by = &small};
    rig_up(&r, rig_model(0), pairing(&tight, &on_cpu));
    assert_null(run_prompt_device(r.e));
    assert_int_equal(run_device(r.e), DEV_CPU);
    assert_int_equal(r.log.warnings, 1);
    assert_non_null(strstr(r.log.last, "small one"));
    assert_non_null(strstr(r.log.last, "prompts stay"));
    rig_down(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pairing_agrees_with_the_cpu),
        cmocka_unit_test(every_cache_type_crosses),
        cmocka_unit_test(pages_cross_once),
        cmocka_unit_test(tokens_are_chosen_ahead),
        cmocka_unit_test(a_device_may_fail),
        cmocka_unit_test(a_small_device_gets_no_prompts),
    };
    return cmocka_run_group_tests(tests, find_devices, give_back);
}
