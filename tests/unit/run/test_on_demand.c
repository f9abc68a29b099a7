/* SPDX-License-Identifier: MIT
 *
 * Experts that are read on demand: the same bits as without, and asked for ahead are exactly the
 * matrices of those experts that the tokens of a step are sent to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <unistd.h>

#include "cpu/cpu.h"
#include "run/run.h"
#include "tiny_model.h"

enum { N = 90 };

static run_engine *engine(const model *m, par_pool *pool, bool on_demand) {
    const run_options o = {.cpu = cpu_detect(),
                           .kv = KERN_KV_F16,
                           .n_pages = 4,
                           .chunk = 32,
                           .on_demand = on_demand,
                           .solo_bytes = 1};
    run_engine *e = NULL;
    rotor_error err = {0};
    if (run_create(&e, m, pool, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return e;
}

static uint64_t wanted_by(run_engine *e, run_session *s, uint32_t n) {
    uint32_t line[N];
    const uint64_t before = run_counters(e).wanted;
    for (uint32_t i = 0; i < n; i++) line[i] = (i * 31) % 90;
    assert_int_equal(run_session_sync(s, line, n, NULL, NULL, NULL, NULL), ROTOR_OK);
    return run_counters(e).wanted - before;
}

static void chosen_experts_are_asked_for(void **state) {
    (void)state;
    char path[96];
    rotor_error err = {0};
    model *m = NULL;
    par_pool *pool = NULL;
    const model_options mo = {.i2s = -1};
    tiny_write(tiny_path(path, "demand.gguf"), TINY_GPT_OSS, tiny_default(), 5, NULL);
    assert_int_equal(par_create(&pool, 2, false, &err), ROTOR_OK);
    if (model_open(&m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    unlink(path);
    run_engine *plain = engine(m, pool, false), *demand = engine(m, pool, true);
    run_session *a = NULL, *b = NULL;
    assert_int_equal(run_session_create(&a, plain, N, NULL), ROTOR_OK);
    assert_int_equal(run_session_create(&b, demand, N, NULL), ROTOR_OK);
    uint64_t expert = 0; /* bytes of one expert in every layer */
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        const model_layer *w = &m->layers[l];
        expert += w->gate.rows * w->gate.row_bytes + w->up.rows * w->up.row_bytes +
                  w->down.rows * w->down.row_bytes;
    }
    expert /= m->hp.n_expert;
    assert_int_equal(wanted_by(plain, a, N - 1), 0);
    const uint64_t many = wanted_by(demand, b, N - 1);
    assert_true(many >
                3 * m->hp.n_used * expert / 2); /* three chunks send tokens to most of them */
    assert_true(many <= 3 * m->hp.n_expert * expert);
    assert_memory_equal(run_logits(plain, 0), run_logits(demand, 0), m->hp.n_vocab * sizeof(float));
    assert_int_equal(wanted_by(demand, b, N), m->hp.n_used * expert); /* one token */
    assert_int_equal(wanted_by(plain, a, N), 0);
    assert_memory_equal(run_logits(plain, 0), run_logits(demand, 0), m->hp.n_vocab * sizeof(float));
    run_session_free(&a);
    run_session_free(&b);
    run_free(&plain);
    run_free(&demand);
    model_close(&m);
    par_free(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(chosen_experts_are_asked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
