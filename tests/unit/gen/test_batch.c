/* SPDX-License-Identifier: MIT
 *
 * The batch: many jobs of every kind give, bit for bit, what each gives alone, with guesses and
 * without; steps are full; cancelling, failing jobs, a full cache, faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>

#include "fake_run.h"

enum { MAX_JOBS = 24, MAX_PROMPT = 30 };

typedef struct trace {
    float logprobs[200]; /* of the tokens, in order */
    size_t n;            /* how many */
    gen_batch *batch;    /* to cancel in, or NULL */
    uint32_t handle;     /* of the job to cancel */
    size_t cancel_at;    /* token at which it does so */
} trace;

typedef struct work {
    uint32_t prompt[MAX_PROMPT]; /* its prompt */
    uint32_t n_prompt;           /* tokens */
    gen_options opt;             /* its settings */
    run_session *s;              /* its session */
    gen_result r;                /* its result */
    uint32_t handle;             /* in the batch */
    trace seen;                  /* what its callback saw */
} work;

typedef struct rig {
    text_vocab *v;       /* bytes */
    run_engine *e;       /* hashed logits */
    work jobs[MAX_JOBS]; /* what there is to do */
    uint32_t n;          /* jobs in use */
} rig;

static bool note(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    trace *t = user;
    (void)text, (void)top;
    if (!choice) return true;
    t->logprobs[t->n++] = choice->logprob;
    if (t->batch && t->n == t->cancel_at) gen_batch_cancel(t->batch, t->handle);
    return true;
}

static void rig_up(rig *g, const fake_options *o) {
    fake_options own = *o;
    memset(g, 0, sizeof *g);
    own.vocab = g->v = fake_vocab(NULL, 0);
    if (!own.fn) own.fn = fake_hash_logits;
    g->e = fake_engine(&own);
}

static void rig_down(rig *g) {
    for (uint32_t i = 0; i < g->n; i++) {
        gen_result_free(&g->jobs[i].r);
        run_session_free(&g->jobs[i].s);
    }
    fake_engine_free(&g->e);
    text_vocab_free(&g->v);
}

static work *new_job(rig *g, base_rng *r, uint32_t max_tok) {
    work *w = &g->jobs[g->n++];
    w->n_prompt = 1 + base_rng_below(r, MAX_PROMPT);
    for (uint32_t i = 0; i < w->n_prompt; i++) w->prompt[i] = base_rng_below(r, 200);
    w->opt = (gen_options){.sampling = gen_sampling_default(), .on_text = note, .user = &w->seen};
    w->opt.sampling.temperature = (float)base_rng_below(r, 3) * 0.6f;
    w->opt.sampling.repeat_penalty = base_rng_below(r, 2) ? 1.3f : 1.0f;
    w->opt.sampling.seed = base_rng_u64(r);
    w->opt.max_new_tok = 1 + base_rng_below(r, 40);
    assert_int_equal(run_session_create(&w->s, g->e, max_tok, NULL), ROTOR_OK);
    return w;
}

static void add(gen_batch *b, work *w) {
    rotor_error err = {0};
    if (gen_batch_add(b, w->s, w->prompt, w->n_prompt, &w->opt, &w->r, &w->handle, &err) !=
        ROTOR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(w->r.finish, GEN_FINISH_NONE);
}

/* Runs the same job alone and compares everything. */
static void same_alone(rig *g, const work *w) {
    gen_result r = {0};
    trace seen = {0};
    run_session *s = NULL;
    gen_options opt = w->opt;
    opt.user = &seen;
    opt.lookup_min = 0; /* guesses must not show */
    opt.draft = NULL;
    assert_int_equal(run_session_create(&s, g->e, run_session_max(w->s), NULL), ROTOR_OK);
    assert_int_equal(gen_run(s, w->prompt, w->n_prompt, &opt, &r, NULL), ROTOR_OK);
    assert_int_equal(w->r.finish, r.finish);
    assert_int_equal(w->r.ids.n, r.ids.n);
    assert_memory_equal(w->r.ids.ids, r.ids.ids, r.ids.n * sizeof *r.ids.ids);
    assert_int_equal(w->r.text.len, r.text.len);
    assert_memory_equal(w->r.text.data, r.text.data, r.text.len);
    assert_int_equal(w->seen.n, seen.n);
    assert_memory_equal(w->seen.logprobs, seen.logprobs, seen.n * sizeof *seen.logprobs);
    assert_int_equal(run_session_len(w->s), run_session_len(s));
    gen_result_free(&r);
    run_session_free(&s);
}

static void batched_jobs_equal_lone_ones(void **state) {
    (void)state;
    const fake_options engines[] = {{.chunk = 3, .max_logits = 2},
                                    {.chunk = 8, .max_logits = 8},
                                    {.chunk = 64, .max_logits = 16},
                                    {.chunk = 1, .max_logits = 1},
                                    {.chunk = 8, .max_logits = 8, .apart = true}};
    base_rng r;
    base_rng_seed(&r, 1);
    for (size_t k = 0; k < BASE_COUNT(engines); k++) {
        rig g;
        gen_batch *b = NULL;
        uint32_t live = 0;
        rig_up(&g, &engines[k]);
        assert_int_equal(gen_batch_create(&b, g.e, 7, NULL), ROTOR_OK);
        for (int step = 0; g.n < 20 || live; step++) { /* jobs come while others run */
            assert_true(step < 20000);
            while (live < 7 && g.n < 20 && base_rng_below(&r, 3)) {
                add(b, new_job(&g, &r, 50));
                live++;
            }
            assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
        }
        for (uint32_t i = 0; i < g.n; i++) same_alone(&g, &g.jobs[i]);
        gen_batch_free(&b);
        rig_down(&g);
    }
}

/* ==== Speculation ============================================================================= */

/* One of eight tokens, decided by the last two: every timeline soon repeats itself. */
static void repetitive(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    base_rng r;
    uint32_t before[2] = {n > 1 ? tokens[n - 2] % 8 : 0, tokens[n - 1] % 8};
    base_rng_seed(&r, base_hash64(before, sizeof before, 5));
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = -30;
    for (uint32_t i = 0; i < 8; i++) logits[FAKE_BYTE + i] = 3 * base_rng_normal(&r);
}

typedef struct helpers {
    run_engine *e;            /* the model that drafts */
    run_session *s[MAX_JOBS]; /* one for each job */
} helpers;

/* Some jobs look up, some have a model that drafts, some both, some neither. */
static void make_guess(const helpers *h, work *w, uint32_t i) {
    w->opt.lookup_min = i % 2 ? 1 + i % 3 : 0;
    w->opt.draft = i % 3 ? h->s[i] : NULL;
    w->opt.draft_max = i % 5;
    w->opt.draft_always = i % 4 != 3;
}

static void guessing_jobs_equal_lone_ones(void **state) {
    (void)state;
    const fake_options engines[] = {{.fn = repetitive, .chunk = 3, .max_logits = 2},
                                    {.fn = repetitive, .chunk = 9, .max_logits = 8},
                                    {.fn = repetitive, .chunk = 64, .max_logits = 64},
                                    {.fn = repetitive, .chunk = 1, .max_logits = 1}};
    base_rng r;
    base_rng_seed(&r, 12);
    for (size_t k = 0; k < BASE_COUNT(engines); k++) {
        rig g;
        helpers h;
        gen_batch *b = NULL;
        uint32_t live = 0, drafted = 0, accepted = 0;
        uint64_t tokens = 0;
        rig_up(&g, &engines[k]);
        h.e = fake_engine(&(fake_options){.fn = repetitive, .vocab = g.v, .chunk = 5});
        for (int i = 0; i < 20; i++)
            assert_int_equal(run_session_create(&h.s[i], h.e, 50, NULL), ROTOR_OK);
        assert_int_equal(gen_batch_create(&b, g.e, 7, NULL), ROTOR_OK);
        for (int step = 0; g.n < 20 || live; step++) {
            assert_true(step < 20000);
            while (live < 7 && g.n < 20 && base_rng_below(&r, 3)) {
                work *w = new_job(&g, &r, 50);
                make_guess(&h, w, g.n - 1);
                add(b, w);
                live++;
            }
            assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
        }
        for (uint32_t i = 0; i < g.n; i++) {
            drafted += g.jobs[i].r.n_drafted;
            accepted += g.jobs[i].r.n_accepted;
            tokens += g.jobs[i].r.ids.n;
        }
        assert_true(accepted <= drafted);
        if (k) assert_int_equal(drafted == 0, k == 3);  /* a step of one row has no room */
        if (k == 2) assert_true(accepted * 4 > tokens); /* it is worth having */
        for (uint32_t i = 0; i < g.n; i++) same_alone(&g, &g.jobs[i]);
        for (int i = 0; i < 20; i++) run_session_free(&h.s[i]);
        gen_batch_free(&b);
        fake_engine_free(&h.e);
        rig_down(&g);
    }
}

/* A job that its own callback cancels in the middle of a draft ends at that token. */
static void a_cancel_is_heeded_inside_a_draft(void **state) {
    (void)state;
    for (size_t at = 1; at < 30; at++) {
        rig g;
        base_rng r;
        gen_batch *b = NULL;
        uint32_t live;
        base_rng_seed(&r, 13);
        rig_up(&g, &(fake_options){.fn = repetitive});
        assert_int_equal(gen_batch_create(&b, g.e, 1, NULL), ROTOR_OK);
        work *w = new_job(&g, &r, 100);
        w->opt.max_new_tok = 40;
        w->opt.lookup_min = 1;
        w->opt.draft_always = true;
        w->seen.batch = b;
        w->seen.cancel_at = at;
        add(b, w);
        w->seen.handle = w->handle;
        do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
        while (live);
        assert_int_equal(w->r.finish, GEN_FINISH_CANCEL);
        assert_int_equal(w->r.ids.n, at);
        assert_int_equal(run_session_len(w->s), w->n_prompt + at - 1);
        gen_batch_free(&b);
        rig_down(&g);
    }
}

static uint64_t stay(const void *user, uint64_t state, uint32_t id) {
    (void)user, (void)id;
    return state;
}

static rotor_status fail_as(const void *user, uint64_t state, gen_mask *mask, rotor_error *err) {
    (void)state, (void)mask;
    return base_fail(err, ROTOR_E_FORMAT, "%s fails", (const char *)user);
}

/* Two jobs that fail in one step fail each for its own reason. */
static void each_failure_has_its_cause(void **state) {
    (void)state;
    static const char *const names[] = {"the first", "the second"};
    const gen_guide guides[] = {{.user = names[0], .step = stay, .may = fail_as},
                                {.user = names[1], .step = stay, .may = fail_as}};
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    rotor_error err = {0};
    base_rng_seed(&r, 16);
    rig_up(&g, &(fake_options){.chunk = 16});
    assert_int_equal(gen_batch_create(&b, g.e, 2, NULL), ROTOR_OK);
    for (int i = 0; i < 2; i++) {
        work *w = new_job(&g, &r, 100);
        w->n_prompt = 1;
        w->opt.guide = &guides[i];
        add(b, w);
    }
    assert_int_equal(gen_batch_step(b, &live, &err), ROTOR_E_FORMAT);
    assert_int_equal(live, 0);
    assert_string_equal(err.message, "the first fails");
    assert_string_equal(g.jobs[0].r.why.message, "the first fails");
    assert_string_equal(g.jobs[1].r.why.message, "the second fails");
    for (int i = 0; i < 2; i++) assert_int_equal(g.jobs[i].r.finish, GEN_FINISH_ERROR);
    gen_batch_free(&b);
    rig_down(&g);
}

/* Until the cache is full of tokens, guesses that do not fit it cost no further step. */
static void guesses_that_do_not_fit_are_dropped(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live, steps = 0;
    base_rng_seed(&r, 15);
    rig_up(&g, &(fake_options){.fn = repetitive, .n_pages = 20});
    assert_int_equal(gen_batch_create(&b, g.e, 2, NULL), ROTOR_OK);
    for (int i = 0; i < 2; i++) {
        work *w = new_job(&g, &r, 100);
        w->n_prompt = 2;
        w->opt.max_new_tok = 0;
        w->opt.lookup_min = 1;
        w->opt.draft_always = true;
        add(b, w);
    }
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live == 2 && ++steps == fake_evals(g.e));
    assert_int_not_equal(live, 2);
    gen_batch_free(&b);
    rig_down(&g);
}

/* Prompts come before guesses: a step that is full of them has none. */
static void guesses_take_only_spare_rows(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 14);
    rig_up(&g, &(fake_options){.fn = repetitive, .chunk = 16});
    assert_int_equal(gen_batch_create(&b, g.e, 2, NULL), ROTOR_OK);
    for (int i = 0; i < 2; i++) {
        work *w = new_job(&g, &r, 100);
        w->n_prompt = i ? 30 : 1;
        w->opt.max_new_tok = i ? 10 : 95;
        w->opt.sampling.temperature = 0;
        w->opt.lookup_min = 1;
        w->opt.draft_always = true;
    }
    add(b, &g.jobs[0]);
    for (int i = 0; i < 20; i++) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    size_t had = g.jobs[0].seen.n;
    if (had <= 30 || live != 1) fail_msg("%zu tokens, %u live", had, live);
    add(b, &g.jobs[1]);
    assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK); /* 1 + 15 rows of the prompt */
    assert_int_equal(g.jobs[0].seen.n, had + 1);
    assert_int_equal(run_session_len(g.jobs[1].s), 15);
    assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK); /* 1 + 15, the last one's logits */
    assert_int_equal(g.jobs[0].seen.n, had + 2);
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live);
    same_alone(&g, &g.jobs[0]);
    same_alone(&g, &g.jobs[1]);
    gen_batch_free(&b);
    rig_down(&g);
}

/* The end of a prompt has its logits before guesses have theirs. */
static void guesses_take_only_spare_logits(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 14);
    rig_up(&g, &(fake_options){.fn = repetitive, .max_logits = 3});
    assert_int_equal(gen_batch_create(&b, g.e, 2, NULL), ROTOR_OK);
    for (int i = 0; i < 2; i++) {
        work *w = new_job(&g, &r, 100);
        w->n_prompt = i ? 30 : 1;
        w->opt.max_new_tok = 60;
        w->opt.sampling.temperature = 0;
        w->opt.lookup_min = 1;
        w->opt.draft_always = true;
    }
    add(b, &g.jobs[0]);
    for (int i = 0; i < 20; i++) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_true(g.jobs[0].seen.n > 20 && live == 1);
    add(b, &g.jobs[1]);
    assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_int_equal(g.jobs[1].seen.n, 1);
    gen_batch_free(&b);
    rig_down(&g);
}

static void prompts_reuse_what_the_session_holds(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 2);
    rig_up(&g, &(fake_options){0});
    work *w = new_job(&g, &r, 100);
    w->n_prompt = 20;
    assert_int_equal(gen_batch_create(&b, g.e, 1, NULL), ROTOR_OK);
    for (int turn = 0; turn < 2; turn++) {
        w->seen = (trace){0};
        add(b, w);
        do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
        while (live);
        assert_int_equal(w->r.n_reused, turn ? 19 : 0);
        same_alone(&g, w);
        gen_result_free(&w->r);
    }
    gen_batch_free(&b);
    rig_down(&g);
}

/* Eight jobs decoding together take one step per token, not eight. */
static void decoding_rows_share_steps(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 3);
    rig_up(&g, &(fake_options){.chunk = 32});
    assert_int_equal(gen_batch_create(&b, g.e, 8, NULL), ROTOR_OK);
    for (int i = 0; i < 8; i++) {
        work *w = new_job(&g, &r, 100);
        w->n_prompt = 4;
        w->opt.max_new_tok = 20;
        w->opt.ignore_eog = true;
        add(b, w);
    }
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live);
    assert_int_equal(fake_evals(g.e), 20); /* one step of 8 x 4 prompt rows, 19 of 8 */
    gen_batch_free(&b);
    rig_down(&g);
}

static void jobs_are_cancelled_from_outside_and_inside(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 4);
    rig_up(&g, &(fake_options){0});
    assert_int_equal(gen_batch_create(&b, g.e, 3, NULL), ROTOR_OK);
    for (int i = 0; i < 3; i++) {
        work *w = new_job(&g, &r, 100);
        w->opt.max_new_tok = 30;
        w->opt.ignore_eog = true;
        add(b, w);
    }
    g.jobs[0].seen.batch = b; /* the first cancels the second, later itself */
    g.jobs[0].seen.handle = g.jobs[1].handle;
    g.jobs[0].seen.cancel_at = 5;
    for (int i = 0; i < 10; i++) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_int_equal(g.jobs[1].r.finish, GEN_FINISH_CANCEL);
    assert_in_range(g.jobs[1].r.ids.n, 4, 5);
    assert_int_equal(live, 2);
    gen_batch_cancel(b, g.jobs[0].handle);
    gen_batch_cancel(b, g.jobs[1].handle); /* no longer there */
    gen_batch_cancel(b, 0);
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live);
    assert_int_equal(g.jobs[0].r.finish, GEN_FINISH_CANCEL);
    assert_int_equal(g.jobs[2].r.finish, GEN_FINISH_LENGTH);
    same_alone(&g, &g.jobs[2]);
    gen_batch_free(&b);
    rig_down(&g);
}

static bool refuse(void *user, uint32_t done, uint32_t total) {
    (void)user, (void)done, (void)total;
    return false;
}

static void a_prompt_that_is_refused_says_nothing(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 10);
    rig_up(&g, &(fake_options){0});
    assert_int_equal(gen_batch_create(&b, g.e, 1, NULL), ROTOR_OK);
    work *w = new_job(&g, &r, 100);
    w->opt.on_prompt = refuse;
    add(b, w);
    assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_int_equal(live, 0);
    assert_int_equal(w->r.finish, GEN_FINISH_CANCEL);
    assert_int_equal(w->r.ids.n, 0);
    gen_batch_free(&b);
    rig_down(&g);
}

/* One row with logits per step for three jobs: they take turns. */
static void no_job_starves(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 11);
    rig_up(&g, &(fake_options){.max_logits = 1});
    assert_int_equal(gen_batch_create(&b, g.e, 3, NULL), ROTOR_OK);
    for (int i = 0; i < 3; i++) {
        work *w = new_job(&g, &r, 100);
        w->opt.max_new_tok = 60;
        w->opt.ignore_eog = true;
        add(b, w);
    }
    for (int i = 0; i < 36; i++) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    for (int i = 0; i < 3; i++) assert_in_range(g.jobs[i].seen.n, 8, 16);
    gen_batch_free(&b);
    rig_down(&g);
}

static void nan_after_seven(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    fake_hash_logits(tokens, n, logits, n_vocab);
    for (uint32_t i = 0; i < n_vocab && tokens[0] == 7 && n > 10; i++) logits[i] = NAN;
}

static void a_failing_job_fails_alone(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live = 1, failures = 0;
    base_rng_seed(&r, 5);
    rig_up(&g, &(fake_options){.fn = nan_after_seven});
    assert_int_equal(gen_batch_create(&b, g.e, 4, NULL), ROTOR_OK);
    for (int i = 0; i < 4; i++) {
        work *w = new_job(&g, &r, 100);
        w->prompt[0] = i == 2 ? 7 : 8;
        w->opt.max_new_tok = 30;
        w->opt.ignore_eog = true;
        add(b, w);
    }
    while (live) {
        rotor_error err = {0};
        rotor_status st = gen_batch_step(b, &live, &err);
        if (st == ROTOR_OK) continue;
        failures++;
        assert_int_equal(st, ROTOR_E_FORMAT);
        assert_non_null(strstr(err.message, "finite"));
    }
    assert_int_equal(failures, 1);
    for (uint32_t i = 0; i < 4; i++) {
        if (i == 2)
            assert_int_equal(g.jobs[i].r.finish, GEN_FINISH_ERROR);
        else
            same_alone(&g, &g.jobs[i]);
    }
    gen_batch_free(&b);
    rig_down(&g);
}

static void a_full_cache_ends_some_and_spares_others(void **state) {
    (void)state;
    for (uint32_t pages = 2; pages < 80; pages++) { /* from 40 on with guesses */
        rig g;
        base_rng r;
        gen_batch *b = NULL;
        uint32_t live;
        base_rng_seed(&r, 6 + pages);
        const bool guess = pages >= 40;
        rig_up(&g, &(fake_options){.fn = guess ? repetitive : NULL,
                                   .chunk = guess ? 12 : 7,
                                   .n_pages = guess ? pages - 38 : pages});
        assert_int_equal(gen_batch_create(&b, g.e, 4, NULL), ROTOR_OK);
        for (int i = 0; i < 4; i++) {
            work *w = new_job(&g, &r, 80);
            w->opt.lookup_min = guess;
            w->opt.draft_always = true;
            add(b, w);
        }
        int steps = 0;
        do {
            rotor_error err = {0};
            rotor_status st = gen_batch_step(b, &live, &err);
            if (st != ROTOR_OK) fail_msg("%s", err.message);
        } while (live && ++steps < 1000);
        assert_int_equal(live, 0);
        uint32_t len[4];
        for (int i = 0; i < 4; i++) {
            assert_true(g.jobs[i].r.finish != GEN_FINISH_NONE);
            len[i] = run_session_len(g.jobs[i].s);
            run_session_rewind(g.jobs[i].s, 0);
        }
        for (int i = 0; i < 4; i++) { /* what came out is the beginning of what comes out alone */
            const gen_result *got = &g.jobs[i].r;
            gen_result alone = {0};
            gen_options opt = g.jobs[i].opt;
            trace seen = {0};
            opt.user = &seen;
            opt.lookup_min = 0;
            rotor_status st =
                gen_run(g.jobs[i].s, g.jobs[i].prompt, g.jobs[i].n_prompt, &opt, &alone, NULL);
            if (st == ROTOR_OK) {
                assert_true(got->ids.n <= alone.ids.n && len[i] <= run_session_len(g.jobs[i].s));
                assert_memory_equal(got->ids.ids, alone.ids.ids, got->ids.n * sizeof(uint32_t));
                if (got->finish != GEN_FINISH_FULL) assert_int_equal(got->finish, alone.finish);
            } else {
                assert_int_equal(got->finish, GEN_FINISH_FULL);
            }
            gen_result_free(&alone);
            run_session_rewind(g.jobs[i].s, 0);
        }
        gen_batch_free(&b);
        rig_down(&g);
    }
}

static void places_are_limited_and_reused(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live, handle;
    rotor_error err = {0};
    base_rng_seed(&r, 7);
    rig_up(&g, &(fake_options){0});
    assert_int_equal(gen_batch_create(&b, g.e, 1, NULL), ROTOR_OK);
    assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK); /* nothing to do */
    assert_int_equal(live, 0);
    work *w = new_job(&g, &r, 50), *other = new_job(&g, &r, 10);
    add(b, w);
    assert_int_equal(
        gen_batch_add(b, other->s, other->prompt, 3, &other->opt, &other->r, &handle, &err),
        ROTOR_E_FULL);
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live);
    assert_int_equal(
        gen_batch_add(b, other->s, other->prompt, 11, &other->opt, &other->r, &handle, &err),
        ROTOR_E_FULL);
    other->n_prompt = 10;
    add(b, other);
    assert_true(other->handle != w->handle);
    gen_batch_free(&b); /* with a job still live: its result stays empty */
    assert_true(other->r.finish == GEN_FINISH_NONE && other->r.ids.n == 0);
    rig_down(&g);
}

static void steps_allocate_nothing(void **state) {
    (void)state;
    rig g;
    base_rng r;
    gen_batch *b = NULL;
    uint32_t live;
    base_rng_seed(&r, 8);
    rig_up(&g, &(fake_options){.chunk = 9});
    assert_int_equal(gen_batch_create(&b, g.e, 5, NULL), ROTOR_OK);
    for (int i = 0; i < 5; i++) {
        work *w = new_job(&g, &r, 80);
        w->opt.lookup_min = i % 3;
        add(b, w);
    }
    uint64_t before = base_alloc_count();
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live);
    assert_int_equal(base_alloc_count(), before);
    gen_batch_free(&b);
    rig_down(&g);
}

static void every_fault_is_survived(void **state) {
    (void)state;
    rig g;
    base_rng r;
    bool fired = true;
    base_rng_seed(&r, 9);
    rig_up(&g, &(fake_options){0});
    work *w = new_job(&g, &r, 50);
    w->opt.lookup_min = 1;
    for (long n = 1; fired; n++) {
        gen_batch *b = NULL;
        uint32_t live = 0;
        assert_true(n < 100);
        base_fault_after(n);
        rotor_status st = gen_batch_create(&b, g.e, 2, NULL);
        if (st == ROTOR_OK)
            st = gen_batch_add(b, w->s, w->prompt, w->n_prompt, &w->opt, &w->r, &w->handle, NULL);
        while (st == ROTOR_OK) {
            st = gen_batch_step(b, &live, NULL);
            if (!live) break;
        }
        fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        gen_batch_free(&b);
        gen_result_free(&w->r);
        w->seen.n = 0;
    }
    rig_down(&g);
}

/* ==== Steps that are not too long ============================================================= */

typedef struct watch {
    uint32_t done[64]; /* prompt tokens after each step that had some */
    size_t n;          /* such steps */
} watch;

static bool watch_prompt(void *user, uint32_t done, uint32_t total) {
    watch *w = user;
    (void)total;
    if (w->n < BASE_COUNT(w->done)) w->done[w->n++] = done;
    return true;
}

/* Beside a job that decodes, a prompt is taken a few rows at a time, after a step without any that
 * measures; alone it fills its steps. */
static void prompts_leave_room(void **state) {
    (void)state;
    enum { LONG = 500 };
    rig g;
    gen_batch *b;
    uint32_t long_prompt[LONG], handle, live = 0;
    rig_up(&g, &(fake_options){.chunk = 64});
    base_rng r;
    base_rng_seed(&r, 1);
    for (uint32_t i = 0; i < LONG; i++) long_prompt[i] = base_rng_below(&r, 200);
    assert_int_equal(gen_batch_create(&b, g.e, 2, NULL), ROTOR_OK);
    gen_batch_wish(b, 1); /* a microsecond: as short as can be */
    work *short_job = new_job(&g, &r, 1000);
    short_job->n_prompt = 3;
    short_job->opt.max_new_tok = 900;
    short_job->opt.ignore_eog = true;
    assert_int_equal(gen_batch_add(b, short_job->s, short_job->prompt, 3, &short_job->opt,
                                   &short_job->r, &short_job->handle, NULL),
                     ROTOR_OK);
    short_job->opt.on_text = NULL;
    assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK); /* its prompt */
    work *long_job = new_job(&g, &r, 1000);
    watch w = {0};
    long_job->opt = (gen_options){.sampling = gen_sampling_default(),
                                  .max_new_tok = 1,
                                  .on_prompt = watch_prompt,
                                  .user = &w};
    assert_int_equal(gen_batch_add(b, long_job->s, long_prompt, LONG, &long_job->opt, &long_job->r,
                                   &handle, NULL),
                     ROTOR_OK);
    assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_int_equal(w.n, 0); /* measures */
    for (int i = 0; i < 3; i++) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_int_equal(w.n, 3);
    assert_int_equal(w.done[0], 4);
    assert_int_equal(w.done[1], 6);
    assert_int_equal(w.done[2], 8);
    gen_batch_cancel(b, short_job->handle);
    for (int i = 0; i < 2; i++) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_int_equal(w.done[3], 8 + 64);
    while (live) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    assert_int_equal(long_job->r.finish, GEN_FINISH_LENGTH);
    gen_batch_free(&b);
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_leave_room),
        cmocka_unit_test(batched_jobs_equal_lone_ones),
        cmocka_unit_test(guessing_jobs_equal_lone_ones),
        cmocka_unit_test(a_cancel_is_heeded_inside_a_draft),
        cmocka_unit_test(each_failure_has_its_cause),
        cmocka_unit_test(guesses_that_do_not_fit_are_dropped),
        cmocka_unit_test(guesses_take_only_spare_rows),
        cmocka_unit_test(guesses_take_only_spare_logits),
        cmocka_unit_test(prompts_reuse_what_the_session_holds),
        cmocka_unit_test(decoding_rows_share_steps),
        cmocka_unit_test(jobs_are_cancelled_from_outside_and_inside),
        cmocka_unit_test(a_prompt_that_is_refused_says_nothing),
        cmocka_unit_test(no_job_starves),
        cmocka_unit_test(a_failing_job_fails_alone),
        cmocka_unit_test(a_full_cache_ends_some_and_spares_others),
        cmocka_unit_test(places_are_limited_and_reused),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(every_fault_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
