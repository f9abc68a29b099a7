/* SPDX-License-Identifier: MIT
 *
 * gen on the exact staged head: the very tokens that the file's head gives, for every way to
 * sample, alone and in a batch; log-probabilities come back where somebody looks at them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "gen/gen_internal.h"
#include "tiny_model.h"

enum { V = 3000, N_WAYS = 12, N_TOK = 25, N_BATCH = 4 };

typedef struct rig {
    par_pool *pool;           /* two threads */
    model *m;                 /* tiny */
    run_engine *file, *exact; /* engines on it */
} rig;

static run_engine *engine(const rig *g, run_head head) {
    run_engine *e = NULL;
    rotor_error err = {0};
    const run_options o = {
        .cpu = cpu_detect(), .kv = KERN_KV_F16, .head = head, .n_pages = 40, .chunk = 32};
    if (run_create(&e, g->m, g->pool, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return e;
}

static void rig_up(rig *g, tiny_kind kind) {
    char path[96];
    rotor_error err = {0};
    tiny_shape s = tiny_default();
    s.n_vocab = V;
    tiny_write(tiny_path(path, "genhead.gguf"), kind, s, 31, NULL);
    assert_int_equal(par_create(&g->pool, 2, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1};
    if (model_open(&g->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    unlink(path);
    g->file = engine(g, RUN_HEAD_FILE);
    g->exact = engine(g, RUN_HEAD_EXACT);
}

static void rig_down(rig *g) {
    run_free(&g->file);
    run_free(&g->exact);
    model_close(&g->m);
    par_free(&g->pool);
}

static void bump(void *user, float *logits, uint32_t n) {
    (void)user;
    logits[n / 2] += 0.1f;
}

static gen_options way(uint32_t i) {
    static const gen_bias bias[] = {{5, -INFINITY}, {100, 3.0f}, {2999, 2.5f}};
    gen_options o = {.sampling = gen_sampling_default(), .max_new_tok = N_TOK, .ignore_eog = true};
    gen_sampling *s = &o.sampling;
    s->seed = i;
    if (i % 4 == 0) s->temperature = 0;
    if (i % 4 == 1) s->repeat_penalty = 1.3f;
    if (i % 4 == 2) s->top_k = 0, s->top_p = 1;
    if (i % 3 == 0) s->bias = bias, s->n_bias = 3;
    if (i == 5) s->frequency_penalty = 0.5f, s->penalty_last_n = 0;
    if (i == 7) s->top_k = 0; /* top-p alone: all logits */
    if (i == 11) s->hook = bump;
    return o;
}

static gen_result run_way(run_engine *e, const gen_options *o) {
    static const uint32_t prompt[] = {7, 1000, 45, 2000, 3};
    run_session *s = NULL;
    gen_result r = {0};
    rotor_error err = {0};
    assert_int_equal(run_session_create(&s, e, 100, NULL), ROTOR_OK);
    if (gen_run(s, prompt, 5, o, &r, &err) != ROTOR_OK) fail_msg("%s", err.message);
    run_session_free(&s);
    return r;
}

static void same_ids(const gen_result *a, const gen_result *b, uint32_t i) {
    assert_int_equal(a->ids.n, N_TOK);
    assert_int_equal(a->ids.n, b->ids.n);
    for (size_t t = 0; t < a->ids.n; t++)
        if (a->ids.ids[t] != b->ids.ids[t])
            fail_msg("way %u token %zu: %u by the file's head, %u by the exact one", i, t,
                     a->ids.ids[t], b->ids.ids[t]);
}

static void alone_is_the_same(rig *g) {
    dev_staged_stats before = {0}, after = {0};
    for (uint32_t i = 0; i < N_WAYS; i++) {
        const gen_options o = way(i);
        gen_result a = run_way(g->file, &o), b = run_way(g->exact, &o);
        same_ids(&a, &b, i);
        gen_result_free(&a);
        gen_result_free(&b);
        assert_true(run_head_stats(g->exact, &after));
        if (i == 7 || i == 11)
            assert_int_equal(after.finds, before.finds); /* not asked */
        else
            assert_int_equal(after.finds, before.finds + N_TOK);
        before = after;
    }
    assert_true(after.undecided < after.finds / 2);
}

/* Guesses of the same model, nearly all of them right, and of the timeline: so many rows in a step
 * that candidates come in several tiles, or not at all. */
static void guesses_change_nothing(rig *g) {
    static const uint32_t most[] = {2, 6, 15};
    uint32_t accepted = 0;
    run_session *draft = NULL;
    dev_staged_stats before, after;
    assert_int_equal(run_session_create(&draft, g->file, 100, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < N_WAYS; i++) {
        gen_options o = way(i);
        assert_true(run_head_stats(g->exact, &before));
        gen_result a = run_way(g->file, &o);
        o.draft = i % 2 ? draft : NULL;
        o.lookup_min = 1;
        o.draft_max = most[i % 3];
        o.draft_always = true;
        gen_result b = run_way(g->exact, &o);
        assert_true(run_head_stats(g->exact, &after));
        same_ids(&a, &b, i);
        accepted += b.n_accepted;
        if (o.draft_max < 12 && i != 7 && i != 11)
            assert_int_equal(after.finds - before.finds, N_TOK); /* one for each token taken */
        gen_result_free(&a);
        gen_result_free(&b);
    }
    assert_true(accepted > 40);
    run_session_free(&draft);
}

static void batch_is_the_same(rig *g) {
    static const uint32_t prompt[] = {7, 1000, 45, 2000, 3};
    gen_batch *b = NULL;
    run_session *s[N_BATCH];
    gen_options o[N_BATCH];
    gen_result r[N_BATCH];
    uint32_t live, handle;
    assert_int_equal(gen_batch_create(&b, g->exact, N_BATCH, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < N_BATCH; i++) { /* one of them needs all logits */
        o[i] = way(i == 3 ? 7 : i);
        assert_int_equal(run_session_create(&s[i], g->exact, 100, NULL), ROTOR_OK);
        assert_int_equal(gen_batch_add(b, s[i], prompt, 5, &o[i], &r[i], &handle, NULL), ROTOR_OK);
    }
    uint64_t allocs = base_alloc_count();
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live);
    assert_int_equal(base_alloc_count(), allocs);
    for (uint32_t i = 0; i < N_BATCH; i++) {
        gen_result lone = run_way(g->file, &o[i]);
        same_ids(&lone, &r[i], i);
        gen_result_free(&lone);
        gen_result_free(&r[i]);
        run_session_free(&s[i]);
    }
    gen_batch_free(&b);
}

static void tokens_are_those_of_the_file(void **state) {
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        rig g;
        rig_up(&g, (tiny_kind)kind);
        alone_is_the_same(&g);
        guesses_change_nothing(&g);
        batch_is_the_same(&g);
        rig_down(&g);
    }
}

static bool hear(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    (void)text, (void)top;
    if (choice) *(float *)user = choice->logprob;
    return true;
}

static void log_probabilities_for_those_who_look(void **state) {
    (void)state;
    rig g;
    float heard = 0;
    dev_staged_stats st;
    rig_up(&g, TINY_BITNET);
    gen_options o = way(4);
    o.on_text = hear;
    o.user = &heard;
    gen_result r = run_way(g.exact, &o);
    gen_result_free(&r);
    assert_true(run_head_stats(g.exact, &st) && st.finds == 0);
    assert_true(heard < 0);
    o.no_logprobs = true;
    r = run_way(g.exact, &o);
    gen_result_free(&r);
    assert_true(run_head_stats(g.exact, &st) && st.finds == N_TOK);
    assert_true(isnan(heard));
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_of_the_file),
        cmocka_unit_test(log_probabilities_for_those_who_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
