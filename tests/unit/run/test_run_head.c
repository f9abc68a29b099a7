/* SPDX-License-Identifier: MIT
 *
 * run: the exact staged head beside the file's. Whatever is asked first (candidates, all logits),
 * for however many rows, and for every kind of model, the numbers are those of the file's head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "run/run.h"
#include "tiny_model.h"

enum { V = 3000, ROWS = 14 };

typedef struct rig {
    par_pool *pool;           /* two threads */
    model *m;                 /* tiny */
    run_engine *file, *exact; /* two engines on it */
    run_session *s[2][ROWS];  /* sessions of both */
} rig;

static run_engine *engine(const rig *t, run_head head, uint64_t solo_bytes) {
    run_engine *e = NULL;
    rotor_error err = {0};
    const run_options o = {.cpu = cpu_detect(),
                           .kv = KERN_KV_F16,
                           .head = head,
                           .n_pages = 30,
                           .chunk = 16,
                           .max_logits = ROWS,
                           .solo_bytes = solo_bytes};
    if (run_create(&e, t->m, t->pool, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return e;
}

static void rig_up(rig *t, tiny_kind kind, uint64_t solo_bytes) {
    char path[96];
    rotor_error err = {0};
    tiny_shape s = tiny_default();
    memset(t, 0, sizeof *t);
    s.n_vocab = V;
    tiny_write(tiny_path(path, "head.gguf"), kind, s, 5, NULL);
    assert_int_equal(par_create(&t->pool, 2, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1};
    if (model_open(&t->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    unlink(path);
    t->file = engine(t, RUN_HEAD_FILE, solo_bytes);
    t->exact = engine(t, RUN_HEAD_EXACT, solo_bytes);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(run_session_create(&t->s[0][i], t->file, 100, &err), ROTOR_OK);
        assert_int_equal(run_session_create(&t->s[1][i], t->exact, 100, &err), ROTOR_OK);
    }
}

static void rig_down(rig *t) {
    for (int i = 0; i < ROWS; i++) {
        run_session_free(&t->s[0][i]);
        run_session_free(&t->s[1][i]);
    }
    run_free(&t->file);
    run_free(&t->exact);
    model_close(&t->m);
    par_free(&t->pool);
}

/* The same step on both engines: one token for each of n sessions, of which every `every`-th
 * wants logits. Returns how many do. */
static uint32_t step(rig *t, uint32_t n, uint32_t round, uint32_t every) {
    run_row rows[ROWS];
    uint32_t wanted = 0;
    for (int e = 0; e < 2; e++) {
        wanted = 0;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (run_row){t->s[e][i], (round * 131 + i * 977) % V, i % every == 0};
            wanted += rows[i].want_logits;
        }
        assert_int_equal(run_eval(e ? t->exact : t->file, rows, n, NULL), ROTOR_OK);
    }
    return wanted;
}

/* Candidates against the file head's logits; false when there are none. */
static bool candidates_agree(rig *t, uint32_t i, uint32_t k) {
    static const uint32_t ids[] = {17, 4, V - 1};
    const run_want want = {.k = k, .ids = ids, .n_ids = 3};
    const float *y = run_logits(t->file, i);
    run_found found;
    if (!run_candidates(t->exact, i, &want, &found)) return false;
    uint8_t has[V] = {0};
    for (uint32_t j = 0; j < found.n; j++) {
        has[found.id[j]] = 1;
        assert_memory_equal(&found.value[j], &y[found.id[j]], 4);
    }
    uint32_t better = 0; /* rows above the best row that is missing, the three apart */
    float missing = -INFINITY;
    for (uint32_t r = 0; r < V; r++)
        if (!has[r] && y[r] > missing) missing = y[r];
    for (uint32_t r = 0; r < V; r++)
        better += has[r] && y[r] > missing && r != 17 && r != 4 && r != V - 1;
    assert_true(better >= k);
    return true;
}

static void logits_agree(rig *t, uint32_t i) {
    assert_memory_equal(run_logits(t->exact, i), run_logits(t->file, i), V * sizeof(float));
}

static void check_kind(tiny_kind kind, uint64_t solo_bytes) {
    rig t;
    rig_up(&t, kind, solo_bytes);
    for (uint32_t round = 0; round < 8; round++) {
        const uint32_t n = round < 4 ? 1 + round : round == 7 ? ROWS : 8;
        const uint32_t wanted = step(&t, n, round, 1 + round % 2);
        uint32_t answered = 0;
        for (uint32_t i = 0; i < wanted; i++) answered += candidates_agree(&t, i, 1 + 20 * i);
        for (uint32_t i = 0; i < wanted && round % 3 == 0; i++)
            answered += candidates_agree(&t, i, 2);
        if (wanted > 12)
            assert_int_equal(answered, 0);
        else
            assert_true(answered > 0);
        for (uint32_t i = wanted; i-- > 0;) logits_agree(&t, i);
        assert_false(candidates_agree(&t, 0, 1)); /* all of them are there: no need */
    }
    step(&t, 2, 9, 1);
    logits_agree(&t, 1); /* without candidates before */
    dev_staged_stats st;
    assert_false(run_head_stats(t.file, &st));
    assert_true(run_head_stats(t.exact, &st) && st.finds > st.undecided && st.bytes > 0);
    rig_down(&t);
}

static void numbers_are_those_of_the_file(void **state) {
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        check_kind((tiny_kind)kind, 1);
        check_kind((tiny_kind)kind, 0);
    }
}

static void facts_name_the_head(void **state) {
    (void)state;
    rig t;
    rig_up(&t, TINY_BITNET, 1);
    assert_string_equal(run_head_name(t.exact), "exact (F16)");
    assert_true(run_memory_bytes(t.exact) > run_memory_bytes(t.file));
    assert_true(run_step_bytes(t.exact) == run_step_bytes(t.file)); /* nothing is known yet */
    for (uint32_t i = 0; i < 5; i++) {
        step(&t, 1, i, 1);
        assert_true(candidates_agree(&t, 0, 5));
    }
    assert_true(run_step_bytes(t.exact) < run_step_bytes(t.file));
    rig_down(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_the_file),
        cmocka_unit_test(facts_name_the_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
