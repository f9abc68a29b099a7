/* SPDX-License-Identifier: MIT
 *
 * rotor_batch.h: jobs together give what each gives alone, warm sessions are found and shared and
 * change nothing, jobs end in the middle of a prompt, a full cache forgets, a failing job fails
 * alone, and what is refused.
 */
#define _GNU_SOURCE
#include "api_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "rotor_batch.h"

enum { CHUNK = 8 };

typedef struct rig {
    rotor_engine *e;         /* story model, small steps */
    rotor_batch *b;          /* on it */
    rotor_gen_result r;      /* of the last job that was awaited */
    uint32_t *ids;           /* of the last text */
    size_t n;                /* how many */
    uint32_t job, cancel_at; /* for callbacks: cancel this job at so many prompt tokens */
    uint32_t seen;           /* prompt tokens at the last call */
} rig;

static void rig_up(rig *g, uint32_t sessions, uint32_t jobs, uint32_t warm) {
    rotor_engine_options o = rotor_engine_options_default();
    rotor_batch_options b = rotor_batch_options_default();
    memset(g, 0, sizeof *g);
    o.threads = 2;
    o.ctx = 256;
    o.max_sessions = sessions;
    o.chunk = CHUNK;
    OK(rotor_engine_open(&g->e, story_path(), &o, &api_err));
    b.max_jobs = jobs;
    b.n_warm = warm;
    OK(rotor_batch_create(&g->b, g->e, &b, &api_err));
}

static void rig_down(rig *g) {
    rotor_gen_result_free(&g->r);
    rotor_free(g->ids);
    rotor_batch_free(&g->b);
    assert_null(g->b);
    rotor_engine_close(&g->e);
}

static void read_text(rig *g, const char *text) {
    rotor_free(g->ids);
    g->ids = NULL;
    OK(rotor_tokenize(g->e, text, strlen(text), ROTOR_TOK_BOS, &g->ids, &g->n, &api_err));
}

static rotor_gen_options settings(const rig *g, uint32_t n, float temperature, uint64_t seed) {
    rotor_gen_options o = rotor_gen_options_default(g->e);
    o.temperature = temperature;
    o.max_tokens = n;
    o.seed = seed;
    return o;
}

static uint32_t add(rig *g, const char *text, const rotor_gen_options *o, unsigned flags) {
    uint32_t job = 0;
    read_text(g, text);
    OK(rotor_batch_add(g->b, g->ids, g->n, o, flags, &job, &api_err));
    assert_true(job);
    return job;
}

static void await(rig *g, uint32_t job) {
    rotor_gen_result_free(&g->r);
    while (!rotor_batch_ended(g->b, job)) OK(rotor_batch_step(g->b, NULL, &api_err));
    OK(rotor_batch_result(g->b, job, &g->r, &api_err));
}

/* The text that a session of its own makes. */
static char *alone(rig *g, const char *text, const rotor_gen_options *o) {
    rotor_session *s = NULL;
    rotor_gen_result r = {0};
    OK(rotor_session_create(&s, g->e, 0, &api_err));
    OK(rotor_generate_text(s, text, o, &r, &api_err));
    char *copy = base_strdup(r.text);
    rotor_gen_result_free(&r);
    rotor_session_free(&s);
    return copy;
}

/* ==== The same text =========================================================================== */

static const char *const beginnings[] = {
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
    "Tom and Sue", "The big dog was sad because he lost his ball and it was raining all day long.",
    "One day", "Once upon a time, there was a little boy"};

static void together_as_alone(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 6, 5, 5);
    char *want[BASE_COUNT(beginnings)];
    rotor_gen_options o[BASE_COUNT(beginnings)];
    uint32_t job[BASE_COUNT(beginnings)];
    for (size_t i = 0; i < BASE_COUNT(beginnings); i++) {
        o[i] = settings(&g, 20 + 5 * (uint32_t)i, i % 2 ? 0.9f : 0, 7 + i);
        want[i] = alone(&g, beginnings[i], &o[i]);
    }
    for (int round = 0; round < 2; round++) { /* cold, then with sessions that know the prompts */
        for (size_t i = 0; i < BASE_COUNT(beginnings); i++) {
            job[i] = add(&g, beginnings[i], &o[i], 0);
            OK(rotor_batch_step(g.b, NULL, &api_err)); /* they come one after another */
        }
        assert_int_equal(rotor_batch_free_places(g.b), 0);
        for (size_t i = 0; i < BASE_COUNT(beginnings); i++) {
            await(&g, job[i]);
            assert_string_equal(g.r.text, want[i]);
            if (round) assert_true(g.r.n_reused + 1 >= g.r.n_prompt);
        }
    }
    for (size_t i = 0; i < BASE_COUNT(beginnings); i++) base_free(want[i]);
    rig_down(&g);
}

/* ==== Sessions ================================================================================ */

static void shares_with_a_job_that_runs(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 4, 3, 1);
    rotor_gen_options o = settings(&g, 30, 0, 0), drawn = settings(&g, 30, 1, 5);
    const uint32_t first = add(&g, beginnings[0], &o, 0);
    for (int i = 0; i < 12; i++) OK(rotor_batch_step(g.b, NULL, &api_err));
    assert_false(rotor_batch_ended(g.b, first));
    char *want = alone(&g, beginnings[0], &drawn);
    const uint32_t second = add(&g, beginnings[0], &drawn, 0);
    await(&g, second);
    assert_int_equal(g.r.n_reused, g.r.n_prompt - 1);
    assert_string_equal(g.r.text, want);
    base_free(want);
    want = alone(&g, beginnings[0], &o);
    await(&g, first);
    assert_string_equal(g.r.text, want);
    base_free(want);
    rig_down(&g);
}

static void two_conversations_keep_their_own(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 4, 1, 3);
    rotor_gen_options o = settings(&g, 80, 0, 0);
    await(&g, add(&g, beginnings[0], &o, 0));
    uint32_t ids[200], job;
    const size_t n = g.n + g.r.n_ids; /* the first conversation, going on */
    memcpy(ids, g.ids, g.n * sizeof *ids);
    memcpy(ids + g.n, g.r.ids, g.r.n_ids * sizeof *ids);
    o.max_tokens = 2;
    await(&g, add(&g, beginnings[0], &o, 0)); /* begins as the first: shares, does not cut it */
    assert_int_equal(g.r.n_reused, g.r.n_prompt - 1);
    OK(rotor_batch_add(g.b, ids, n, &o, 0, &job, &api_err));
    await(&g, job);
    assert_int_equal(g.r.n_reused, n - 1);
    rig_down(&g);
}

static void fresh_and_forgotten(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 2, 1, 1);
    rotor_gen_options o = settings(&g, 4, 0, 0);
    await(&g, add(&g, beginnings[0], &o, ROTOR_BATCH_FORGET));
    await(&g, add(&g, beginnings[0], &o, 0));
    assert_int_equal(g.r.n_reused, 0);
    await(&g, add(&g, beginnings[0], &o, ROTOR_BATCH_FRESH));
    assert_int_equal(g.r.n_reused, 0);
    await(&g, add(&g, beginnings[0], &o, 0));
    assert_int_equal(g.r.n_reused, g.r.n_prompt - 1);
    rig_down(&g);
}

/* More is kept warm than the cache holds: the oldest goes, and jobs never end for want of a page.
 */
static void a_full_cache_forgets(void **state) {
    (void)state;
    rotor_session *beside = NULL;
    const float *logits;
    uint32_t long_one[250];
    rig g;
    char text[512];
    rig_up(&g, 1, 1, 8);
    rotor_gen_options o = settings(&g, 100, 0.8f, 3);
    o.ignore_eog = true;
    for (int i = 0; i < 12; i++) {
        snprintf(text, sizeof text, "%d %s", i, beginnings[i % BASE_COUNT(beginnings)]);
        await(&g, add(&g, text, &o, 0));
        assert_int_equal(g.r.finish, ROTOR_FINISH_LENGTH);
        assert_int_equal(g.r.n_ids, 100);
    }
    assert_true(rotor_batch_cache_use(g.b) > 0.2 && rotor_batch_cache_use(g.b) <= 1);
    rotor_batch_session s;
    size_t n = 0, kept = 0;
    for (; rotor_batch_get_session(g.b, n, NULL, 0, &s); n++) kept += s.n_tokens > 0;
    assert_int_equal(n, 9);
    assert_true(kept >= 1 && kept < 9);
    rotor_batch_make_room(NULL, 1);
    rotor_batch_make_room(g.b, 0); /* nothing is asked for */
    for (n = 0; rotor_batch_get_session(g.b, n, NULL, 0, &s); n++) kept -= s.n_tokens > 0;
    assert_int_equal(kept, 0);
    for (n = 0; n < BASE_COUNT(long_one); n++) long_one[n] = g.ids[n % g.n];
    OK(rotor_session_create(&beside, g.e, 0, &api_err));
    assert_int_equal(rotor_eval(beside, long_one, n, &logits, &api_err), ROTOR_E_FULL);
    rotor_batch_make_room(g.b, n);
    OK(rotor_eval(beside, long_one, n, &logits, &api_err));
    rotor_session_free(&beside);
    rig_down(&g);
}

/* ==== Ending ================================================================================== */

static bool cancel_in_prompt(void *user, uint32_t done, uint32_t total) {
    rig *g = user;
    assert_true(done <= total);
    g->seen = done;
    if (done >= g->cancel_at) rotor_batch_cancel(g->b, g->job);
    return true;
}

static void cancelled_in_its_prompt(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 2, 1, 1);
    rotor_gen_options o = settings(&g, 4, 0, 0);
    o.on_prompt = cancel_in_prompt;
    o.user = &g;
    g.cancel_at = 2 * CHUNK;
    g.job = add(&g, beginnings[0], &o, 0);
    assert_true(g.n > 3 * CHUNK);
    await(&g, g.job);
    assert_int_equal(g.r.finish, ROTOR_FINISH_CANCEL);
    assert_int_equal(g.r.n_ids, 0);
    assert_int_equal(g.seen, 2 * CHUNK);
    o.on_prompt = NULL;
    await(&g, add(&g, beginnings[0], &o, 0)); /* what was evaluated is not lost */
    assert_int_equal(g.r.n_reused, 2 * CHUNK);
    rig_down(&g);
}

static void no_number(void *user, float *logits, uint32_t n_vocab) {
    (void)user;
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = NAN;
}

static void a_job_fails_alone(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 3, 2, 1);
    rotor_gen_options good = settings(&g, 20, 0, 0), bad = good;
    bad.on_logits = no_number;
    char *want = alone(&g, beginnings[1], &good);
    const uint32_t one = add(&g, beginnings[1], &good, 0), two = add(&g, beginnings[2], &bad, 0);
    while (!rotor_batch_ended(g.b, two)) OK(rotor_batch_step(g.b, NULL, &api_err));
    assert_int_equal(rotor_batch_result(g.b, two, &g.r, &api_err), ROTOR_E_FORMAT);
    assert_true(api_err.message[0]);
    await(&g, one);
    assert_string_equal(g.r.text, want);
    assert_int_equal(rotor_batch_free_places(g.b), 2);
    base_free(want);
    rig_down(&g);
}

static void refused(void **state) {
    (void)state;
    rig g;
    uint32_t job = 0, ids[300] = {1};
    rig_up(&g, 2, 1, 1);
    rotor_gen_options o = settings(&g, 4, 0, 0);
    assert_int_equal(rotor_batch_add(g.b, ids, 0, &o, 0, &job, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_batch_add(g.b, ids, 1, &o, 64, &job, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_batch_add(g.b, ids, 257, &o, 0, &job, &api_err), ROTOR_E_FULL);
    o.full = ROTOR_FULL_SHIFT;
    assert_int_equal(rotor_batch_add(g.b, ids, 1, &o, 0, &job, &api_err), ROTOR_E_UNSUPPORTED);
    o.full = ROTOR_FULL_STOP;
    o.n_top = 21;
    assert_int_equal(rotor_batch_add(g.b, ids, 1, &o, 0, &job, &api_err), ROTOR_E_ARG);
    o.n_top = 0;
    assert_int_equal(rotor_batch_free_places(g.b), 1);
    job = add(&g, "One", &o, 0);
    assert_int_equal(rotor_batch_add(g.b, ids, 1, &o, 0, &job, &api_err), ROTOR_E_FULL);
    assert_int_equal(rotor_batch_result(g.b, job, &g.r, &api_err), ROTOR_E_STATE);
    assert_int_equal(rotor_batch_result(g.b, job + 7, &g.r, &api_err), ROTOR_E_ARG);
    rotor_batch_cancel(g.b, job + 7);
    await(&g, job);
    assert_int_equal(rotor_batch_result(g.b, job, &g.r, &api_err), ROTOR_E_ARG);
    add(&g, "Two", &o, 0); /* is ended with the batch */
    rig_down(&g);
    rotor_batch_free(NULL);
}

/* ==== Beginnings in files ===================================================================== */

static void remove_folder(const char *dir) {
    char **names, path[512];
    size_t n;
    OK(base_list_dir(dir, &names, &n, &api_err));
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    base_names_free(names, n);
    rmdir(dir);
}

/* Another batch, or this one after its cache was full, knows what a batch has evaluated. */
static void files_outlive_the_batch(void **state) {
    (void)state;
    rig g;
    char dir[] = "/tmp/rotor_batch_XXXXXX";
    assert_non_null(mkdtemp(dir));
    rotor_batch_options b = rotor_batch_options_default();
    rotor_batch_prefixes p;
    rig_up(&g, 2, 1, 1);
    rotor_gen_options o = settings(&g, 20, 0.9f, 3);
    char *want = alone(&g, beginnings[0], &o);
    assert_false(rotor_batch_get_prefixes(g.b, &p)); /* it has no folder */
    rotor_batch_tidy(g.b);
    b.max_jobs = 1;
    b.prefix_dir = dir;
    b.prefix_min = 8;
    for (int round = 0; round < 2; round++) {
        rotor_batch_free(&g.b);
        OK(rotor_batch_create(&g.b, g.e, &b, &api_err));
        await(&g, add(&g, beginnings[0], &o, 0));
        assert_string_equal(g.r.text, want);
        assert_int_equal(g.r.n_reused, round ? g.r.n_prompt - 1 : 0);
        assert_true(rotor_batch_get_prefixes(g.b, &p));
        assert_int_equal(p.hits, round);
        assert_int_equal(p.n_files, round);
        while (
            rotor_batch_tidy(g.b)) { /* what was long enough is written; what is known not again */
        }
        assert_true(rotor_batch_get_prefixes(g.b, &p));
        assert_int_equal(p.written, !round);
        assert_int_equal(p.n_files, 1);
    }
    for (size_t i = 1; i < BASE_COUNT(beginnings); i++) /* two fit into memory */
        await(&g, add(&g, beginnings[i], &o, i == 2 ? ROTOR_BATCH_FORGET : 0));
    await(&g, add(&g, beginnings[0], &o, 0));
    assert_string_equal(g.r.text, want);
    assert_int_equal(g.r.n_reused, g.r.n_prompt - 1);
    await(&g, add(&g, beginnings[0], &o, ROTOR_BATCH_FRESH));
    assert_int_equal(g.r.n_reused, 0);
    await(&g, add(&g, beginnings[2], &o, 0));
    assert_true(g.r.n_reused < 8); /* it was to leave no trace */
    base_free(want);
    rig_down(&g);
    remove_folder(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_outlive_the_batch),
        cmocka_unit_test(together_as_alone),
        cmocka_unit_test(shares_with_a_job_that_runs),
        cmocka_unit_test(two_conversations_keep_their_own),
        cmocka_unit_test(fresh_and_forgotten),
        cmocka_unit_test(a_full_cache_forgets),
        cmocka_unit_test(cancelled_in_its_prompt),
        cmocka_unit_test(a_job_fails_alone),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
