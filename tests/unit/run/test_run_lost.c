/* SPDX-License-Identifier: MIT
 *
 * run: devices that fail, while they are opened and in the middle of generation. A driver that
 * fails at its n-th call stands in front of each real one. Three sessions, one of them forked from
 * another's shared pages, generate together: the text goes on, one warning is in the log, and from
 * the failure on every logit is, to the bit, what the CPU gives for the same tokens.
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

enum { STEPS = 20, SESSIONS = 3, ROWS = 64, SHARED = 66, GUESS = 7, MODEL = 0 /* bitnet-tiny */ };

static rig_device devices[RIG_DEVICES];
static size_t n_devices;
static const rig_device *current; /* behind the failing driver */

static int find_devices(void **state) {
    (void)state;
    n_devices = rig_devices_of_run(devices);
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

static rotor_status open_faulty(dev **out, const dev_shape *shape, rotor_error *err) {
    const gpu_api *behind = current->api == DEV_OPENCL ? gpu_opencl() : gpu_vulkan();
    return dev_gpu_create_on(out, faulty_gpu(behind), current->index, NULL, shape, err);
}

static void up(rig *r, bool on_device) {
    rig_up(r, rig_model(MODEL),
           (rig_setting){.device = on_device ? current : NULL,
                         .kv = KERN_KV_F16,
                         .rows = ROWS,
                         .open_gpu = open_faulty});
}

/* ==== A story told by three sessions ========================================================== */

typedef struct told {
    uint32_t token[STEPS][SESSIONS]; /* the best after each step */
    bool by_cpu[STEPS][SESSIONS];    /* who has said so */
    float *logits;                   /* [STEPS, SESSIONS, V] of what the CPU has said */
} told;

static uint32_t best_of(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (uint32_t)best;
}

/* The best token of a row: found by the device, or in the logits; both ways in turn. */
static void look(rig *r, told *t, uint32_t step, uint32_t i) {
    const size_t width = r->m->hp.n_vocab;
    const run_want want = {.k = 1};
    run_found found;
    if (step % 2 == 0 && run_candidates(r->e, i, &want, &found)) {
        t->token[step][i] = found.id[0];
        t->by_cpu[step][i] = false;
        return;
    }
    const float *logits = run_logits(r->e, i);
    t->token[step][i] = best_of(logits, width);
    t->by_cpu[step][i] = strcmp(run_device_name(r->e), "cpu") == 0;
    memcpy(t->logits + (step * SESSIONS + i) * width, logits, width * sizeof *logits);
}

static void prompt(rig *r, run_session *s, uint32_t first, uint32_t n) {
    run_row row[ROWS];
    for (uint32_t at = 0, k; at < n; at += k) {
        k = BASE_MIN(n - at, (uint32_t)ROWS);
        for (uint32_t i = 0; i < k; i++)
            row[i] = (run_row){s, (first + (at + i) * 37u) % r->m->hp.n_vocab, false};
        rig_eval(r, row, k);
    }
}

/* forced: whose tokens are fed, NULL: its own. */
static void tell(rig *r, told *t, const told *forced) {
    run_session *s[SESSIONS] = {0};
    t->logits = calloc((size_t)STEPS * SESSIONS * r->m->hp.n_vocab, sizeof *t->logits);
    for (int i = 0; i < SESSIONS; i++) rig_session(&s[i], r);
    prompt(r, s[0], 1, 70);
    prompt(r, s[1], 9, 5);
    assert_int_equal(run_session_fork(s[2], s[0], SHARED, NULL), ROTOR_OK);
    for (uint32_t step = 0; step < STEPS; step++) {
        run_row row[SESSIONS + 1];
        for (uint32_t i = 0; i < SESSIONS; i++) {
            const uint32_t *before = step ? (forced ? forced : t)->token[step - 1] : NULL;
            row[i] = (run_row){s[i], before ? before[i] : 3 + i, true};
        }
        row[SESSIONS] = (run_row){s[0], GUESS, true};
        rig_eval(r, row, SESSIONS + 1);
        look(r, t, step, 0);
        run_session_rewind(s[0], run_session_len(s[0]) - 1); /* the guess was wrong */
        for (uint32_t i = 1; i < SESSIONS; i++) look(r, t, step, i);
    }
    assert_int_equal(run_session_len(s[0]), 70 + STEPS);
    assert_int_equal(run_session_len(s[2]), SHARED + STEPS);
    for (int i = 0; i < SESSIONS; i++) run_session_free(&s[i]);
}

/* What the CPU has said is what it says by itself; what the device has said, what it would have. */
static void check_told(rig *cpu, const told *t, const told *whole, const char *what) {
    const size_t width = cpu->m->hp.n_vocab;
    told ref;
    tell(cpu, &ref, t);
    bool same = true; /* so far, as the device that does not fail */
    for (uint32_t step = 0; step < STEPS; step++)
        for (uint32_t i = 0; i < SESSIONS; i++) {
            const size_t at = (step * SESSIONS + i) * width;
            if (t->by_cpu[step][i]) {
                same = false;
                if (memcmp(t->logits + at, ref.logits + at, width * sizeof *ref.logits) != 0)
                    fail_msg("%s: step %u, session %u is not what the CPU says", what, step, i);
            } else if (!same) {
                fail_msg("%s: the device is back in step %u", what, step);
            } else if (t->token[step][i] != whole->token[step][i]) {
                fail_msg("%s: step %u, session %u: token %u before the failure, expected %u", what,
                         step, i, t->token[step][i], whole->token[step][i]);
            }
        }
    free(ref.logits);
}

/* ==== Failures ================================================================================ */

/* One failure; returns false when it was never reached. */
static bool check_failure(rig *cpu, const told *whole, faulty_call call, unsigned n,
                          rotor_status st) {
    char what[96];
    rig r;
    told t;
    snprintf(what, sizeof what, "%.24s, %s %u", current->label, faulty_names[call], n);
    faulty_at(call, n, st);
    up(&r, true);
    tell(&r, &t, NULL);
    const bool fired = faulty_fired();
    if (r.log.warnings != fired)
        fail_msg("%s: %d warnings, the last: %s", what, r.log.warnings, r.log.last);
    const bool half = strstr(r.log.last, "half the layers"); /* memory that ends during set-up */
    if (half && st != ROTOR_E_NOMEM) fail_msg("%s: %s", what, r.log.last);
    if (fired && !half && !strstr(r.log.last, "CPU")) fail_msg("%s: %s", what, r.log.last);
    if (faulty_after_loss()) fail_msg("%s: %u calls of a lost device", what, faulty_after_loss());
    check_told(cpu, &t, whole, what);
    if ((strcmp(run_device_name(r.e), "cpu") == 0) != (fired && !half))
        fail_msg("%s: runs on %s", what, run_device_name(r.e));
    free(t.logits);
    rig_down(&r);
    if (faulty_mem_bytes())
        fail_msg("%s: %llu bytes stay on the device", what, (unsigned long long)faulty_mem_bytes());
    return fired;
}

static void check_failures(const rig_device *d) {
    static const struct {
        faulty_call call; /* what fails */
        rotor_status st;  /* how */
    } kinds[] = {{FAULTY_OPEN, ROTOR_E_DEVICE},   {FAULTY_ALLOC, ROTOR_E_NOMEM},
                 {FAULTY_ALLOC, ROTOR_E_DEVICE},  {FAULTY_WRITE, ROTOR_E_DEVICE},
                 {FAULTY_READ, ROTOR_E_DEVICE},   {FAULTY_COPY, ROTOR_E_DEVICE},
                 {FAULTY_KERNEL, ROTOR_E_DEVICE}, {FAULTY_LIST, ROTOR_E_NOMEM},
                 {FAULTY_SUBMIT, ROTOR_E_DEVICE}, {FAULTY_WAIT, ROTOR_E_DEVICE}};
    rig cpu, real;
    told whole;
    current = d;
    up(&cpu, false);
    faulty_at(FAULTY_OPEN, 0, ROTOR_OK);
    up(&real, true);
    tell(&real, &whole, NULL);
    assert_int_equal(real.log.warnings, 0);
    assert_string_not_equal(run_device_name(real.e), "cpu");
    rig_down(&real);
    for (size_t k = 0; k < BASE_COUNT(kinds); k++) {
        unsigned n = 1, tried = 1;
        while (check_failure(&cpu, &whole, kinds[k].call, n, kinds[k].st))
            n += rig_all() ? 1 : n + 1, tried++;
        print_message("  %s: %s fails at %u calls up to the %u.\n", d->label,
                      faulty_names[kinds[k].call], tried - 1, n);
        assert_true(n > 1); /* every kind happens */
    }
    free(whole.logits);
    rig_down(&cpu);
}

static void the_story_goes_on(void **state) {
    (void)state;
    need_devices();
    for (size_t i = 0; i < n_devices; i++) check_failures(&devices[i]);
}

/* No host memory for the CPU that is to take over: an error, and later steps work again. */
static void host_memory_may_be_short_as_well(void **state) {
    (void)state;
    need_devices();
    bool short_of_it = true;
    current = &devices[n_devices - 1];
    for (long n = 1; short_of_it; n++) {
        rig r;
        run_session *s = NULL;
        faulty_at(FAULTY_SUBMIT, 3, ROTOR_E_DEVICE);
        up(&r, true);
        rig_session(&s, &r);
        prompt(&r, s, 1, 10);
        const run_row row = {s, 5, true};
        rig_eval(&r, &row, 1);
        base_fault_after(n);
        const rotor_status st = run_eval(r.e, &row, 1, NULL);
        short_of_it = base_fault_fired();
        base_fault_after(0);
        assert_true(faulty_fired());
        assert_int_equal(st, short_of_it ? ROTOR_E_NOMEM : ROTOR_OK);
        assert_int_equal(run_session_len(s), short_of_it ? 11 : 12);
        rig_eval(&r, &row, 1);
        assert_string_equal(run_device_name(r.e), "cpu");
        run_session_free(&s);
        rig_down(&r);
    }
}

/* A session may be gone when its step would have to be repeated: the others' logits of that step
 * are lost, and said to be; what comes after is right. */
static void a_session_may_be_gone(void **state) {
    (void)state;
    need_devices();
    rig r, cpu;
    run_session *s[2] = {0}, *alone = NULL;
    current = &devices[n_devices - 1];
    faulty_at(FAULTY_READ, 1, ROTOR_E_DEVICE);
    up(&r, true);
    up(&cpu, false);
    rig_session(&s[0], &r);
    rig_session(&s[1], &r);
    rig_session(&alone, &cpu);
    const run_row both[] = {{s[0], 5, true}, {s[1], 6, true}};
    const run_row ref[] = {{alone, 6, true}, {alone, 7, true}};
    rig_eval(&r, both, 2);
    run_session_free(&s[0]);
    const float *logits = run_logits(r.e, 1);
    assert_true(logits[0] != logits[0] && logits[r.m->hp.n_vocab - 1] != logits[0]);
    assert_int_equal(r.log.warnings, 2);
    assert_non_null(strstr(r.log.last, "lost"));
    const run_row next = {s[1], 7, true};
    rig_eval(&r, &next, 1);
    rig_eval(&cpu, ref, 2);
    assert_memory_equal(run_logits(r.e, 0), run_logits(cpu.e, 1), r.m->hp.n_vocab * sizeof(float));
    run_session_free(&s[1]);
    run_session_free(&alone);
    rig_down(&r);
    rig_down(&cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_story_goes_on),
        cmocka_unit_test(a_session_may_be_gone),
        cmocka_unit_test(host_memory_may_be_short_as_well),
    };
    return cmocka_run_group_tests(tests, find_devices, give_back);
}
