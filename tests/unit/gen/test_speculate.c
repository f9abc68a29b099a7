/* SPDX-License-Identifier: MIT
 *
 * Speculation: whatever is guessed, everything that can be seen of a generation is the same as
 * without guesses: tokens, probabilities, text, callbacks, the session left behind. Then the parts:
 * the index of earlier places against a plain search, the price of a step, when guessing stops.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "fake_run.h"

enum { MAX_CALLS = 400, N_TOP = 2 };

/* ==== Models that repeat themselves =============================================================
 */

static const char *const words[] = {"ab",
                                    ("\xE2\x96\x81"
                                     "c"),
                                    "\xC3\xA9", "END"};
enum { N_WORDS = 4, V = FAKE_PIECE + N_WORDS, LAST_WORD = V - 1 };

static uint32_t loudness; /* how often the model prefers an end of generation; 0: never */

/* A few words, chosen by the two tokens before: soon the same again. */
static void markov(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    base_rng r;
    uint32_t before[2] = {n > 1 ? tokens[n - 2] : 0, tokens[n - 1]};
    base_rng_seed(&r, base_hash64(before, sizeof before, 3));
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = -20 - (float)i * 0.01f;
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t id = i < N_WORDS ? FAKE_PIECE + i : FAKE_BYTE + 'x' + i - N_WORDS;
        if (id < n_vocab) logits[id] = 3 * base_rng_normal(&r);
    }
    if (loudness && base_rng_below(&r, 100) < loudness) logits[FAKE_EOS] = 9;
}

/* The same with other tastes now and then. */
static void nearly_markov(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    markov(tokens, n, logits, n_vocab);
    if (n % 5 == 0) logits[FAKE_PIECE + n % N_WORDS] += 4;
}

static void markov_then_nan(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    markov(tokens, n, logits, n_vocab);
    for (uint32_t i = 0; i < n_vocab && n > 60; i++) logits[i] = NAN;
}

/* ==== Everything that can be seen ===============================================================
 */

typedef struct seen {
    gen_choice choice[MAX_CALLS];     /* tokens and log-probabilities */
    gen_choice top[MAX_CALLS][N_TOP]; /* alternatives */
    size_t n_bytes[MAX_CALLS];        /* of text in each call */
    uint64_t hooked;                  /* hash of all logits the hook saw */
    size_t n_calls, n_hooked;         /* how many */
    size_t cancel_at;                 /* call that refuses, from 1; 0: none */
} seen;

typedef struct outcome {
    seen saw;            /* by the callbacks */
    rotor_status status; /* of gen_run */
    gen_result r;        /* its result */
    uint32_t len;        /* of the session afterwards */
    uint32_t line[400];  /* its tokens */
} outcome;

static bool look(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    seen *w = user;
    size_t i = w->n_calls++;
    w->n_bytes[i] = text.n;
    if (choice) {
        w->choice[i] = *choice;
        memcpy(w->top[i], top, sizeof w->top[i]);
    }
    return w->n_calls != w->cancel_at;
}

static void hook(void *user, float *logits, uint32_t n_vocab) {
    seen *w = user;
    w->hooked = base_hash64(logits, n_vocab * sizeof *logits, w->hooked);
    w->n_hooked++;
}

typedef struct rig {
    text_vocab *v;       /* words above */
    run_engine *e;       /* the model */
    run_engine *small;   /* the one that drafts */
    run_session *s, *ds; /* on them */
    gen_options opt;     /* of the run, without speculation */
    uint32_t prompt[40]; /* its prompt */
    uint32_t n_prompt;   /* tokens */
} rig;

static void rig_up(rig *g, const fake_options *o, uint32_t max_tok, fake_logits small) {
    fake_options big = *o;
    memset(g, 0, sizeof *g);
    g->v = fake_vocab(words, N_WORDS);
    big.vocab = g->v;
    if (!big.fn) big.fn = markov;
    g->e = fake_engine(&big);
    g->small = fake_engine(&(fake_options){.fn = small, .vocab = g->v, .chunk = 7});
    assert_int_equal(run_session_create(&g->s, g->e, max_tok, NULL), ROTOR_OK);
    assert_int_equal(run_session_create(&g->ds, g->small, max_tok, NULL), ROTOR_OK);
    g->opt = (gen_options){.sampling = gen_sampling_default(), .n_top = N_TOP, .on_text = look};
    g->opt.sampling.hook = hook;
    for (g->n_prompt = 0; g->n_prompt < 12; g->n_prompt++)
        g->prompt[g->n_prompt] = FAKE_PIECE + g->n_prompt % 3;
}

static void rig_down(rig *g) {
    run_session_free(&g->s);
    run_session_free(&g->ds);
    fake_engine_free(&g->e);
    fake_engine_free(&g->small);
    text_vocab_free(&g->v);
}

static void run(rig *g, const gen_options *opt, size_t cancel_at, outcome *o) {
    gen_options own = *opt;
    memset(o, 0, sizeof *o);
    o->saw.cancel_at = cancel_at;
    own.user = own.sampling.hook_user = &o->saw;
    run_session_rewind(g->s, 0);
    o->status = gen_run(g->s, g->prompt, g->n_prompt, &own, &o->r, NULL);
    o->len = run_session_len(g->s);
    memcpy(o->line, run_session_tokens(g->s), o->len * sizeof *o->line);
}

/* Both runs; every difference that a caller could notice fails the test. */
static void same(rig *g, const gen_options *guessing, size_t cancel_at, uint32_t *n_accepted) {
    static outcome plain, fast;
    gen_options off = *guessing;
    off.lookup_min = 0;
    off.draft = NULL;
    run(g, &off, cancel_at, &plain);
    run(g, guessing, cancel_at, &fast);
    assert_int_equal(plain.status, fast.status);
    assert_memory_equal(&plain.saw, &fast.saw, sizeof plain.saw);
    assert_int_equal(plain.len, fast.len);
    assert_memory_equal(plain.line, fast.line, plain.len * sizeof *plain.line);
    assert_int_equal(plain.r.finish, fast.r.finish);
    assert_int_equal(plain.r.ids.n, fast.r.ids.n);
    if (plain.r.ids.n)
        assert_memory_equal(plain.r.ids.ids, fast.r.ids.ids, plain.r.ids.n * sizeof(uint32_t));
    assert_int_equal(plain.r.text.len, fast.r.text.len);
    if (plain.r.text.len)
        assert_memory_equal(plain.r.text.data, fast.r.text.data, plain.r.text.len);
    assert_true(plain.r.n_drafted == 0 && fast.r.n_accepted <= fast.r.n_drafted);
    if (n_accepted) *n_accepted += fast.r.n_accepted;
    gen_result_free(&plain.r);
    gen_result_free(&fast.r);
}

/* Guesses from the timeline, from a model of another opinion, from one of the same, from both. */
static uint32_t same_all_ways(rig *g, size_t cancel_at) {
    uint32_t accepted = 0;
    for (uint32_t way = 0; way < 12; way++) {
        gen_options o = g->opt;
        o.lookup_min = way % 3;
        o.draft = way % 2 ? g->ds : NULL;
        o.draft_always = way != 5; /* times of a fake model say little */
        o.draft_max = (uint32_t[]){0, 1, 3, 15, 64, 5}[way / 2];
        if (way % 4 == 3) run_session_rewind(g->ds, 0);
        same(g, &o, cancel_at, &accepted);
    }
    return accepted;
}

/* ==== The text never changes ====================================================================
 */

static void all_samplers_say_the_same(void **state) {
    (void)state;
    const fake_options engines[] = {
        {0}, {.chunk = 2}, {.max_logits = 3}, {.chunk = 1, .max_logits = 1}, {.n_pages = 40}};
    for (size_t k = 0; k < BASE_COUNT(engines); k++)
        for (int how = 0; how < 12; how++) {
            rig g;
            rig_up(&g, &engines[k], 300, how % 2 ? markov : nearly_markov);
            gen_sampling *s = &g.opt.sampling;
            loudness = how % 3 == 2 ? 2 : 0;
            s->seed = (uint64_t)how;
            s->temperature = (float[]){0, 0.7f, 1, 2}[how % 4];
            s->top_k = how % 3 ? 40 : 0;
            if (how > 5) s->repeat_penalty = 1.1f, s->penalty_last_n = 20;
            if (how > 8) s->frequency_penalty = 0.05f, s->presence_penalty = -0.3f;
            const gen_bias bias = {LAST_WORD, how % 2 ? -2.0f : 1.0f};
            if (how % 5 == 4) s->bias = &bias, s->n_bias = 1;
            g.opt.max_new_tok = how % 2 ? 120 : 0;
            uint32_t accepted = same_all_ways(&g, 0);
            if (k == 0) assert_true(accepted > (how == 0 ? 200 : 20));
            if (k == 3) assert_int_equal(accepted, 0); /* no room for a second row */
            rig_down(&g);
        }
}

static void every_end_is_the_same(void **state) {
    (void)state;
    const base_str stops[] = {base_str_of("cab c"), base_str_of("x\xC3\xA9"), base_str_of("ENDEND"),
                              base_str_of("\xC3\xA9\xC3\xA9y")};
    gen_finish wanted[] = {GEN_FINISH_EOG, GEN_FINISH_STOP, GEN_FINISH_LENGTH, GEN_FINISH_FULL,
                           GEN_FINISH_CANCEL};
    bool met[GEN_FINISH_ERROR + 1] = {false};
    for (uint32_t i = 0; i < 60; i++) {
        rig g;
        outcome *o = malloc(sizeof *o);
        rig_up(&g, &(fake_options){0}, 16 + (i % 7) * 20, i % 2 ? markov : nearly_markov);
        g.opt.sampling.temperature = (float)(i % 3) * 0.5f;
        g.opt.sampling.seed = i;
        g.opt.stops = stops;
        g.opt.n_stops = i % 4 == 1 ? BASE_COUNT(stops) : 0;
        g.opt.max_new_tok = i % 4 == 2 ? 1 + i : 0;
        g.opt.ignore_eog = i % 5 == 0;
        loudness = i % 4 == 3 ? 5 : 0;
        size_t cancel_at = i % 6 == 0 ? 3 + i / 2 : 0;
        same_all_ways(&g, cancel_at);
        run(&g, &g.opt, cancel_at, o);
        met[o->r.finish] = true;
        gen_result_free(&o->r);
        free(o);
        rig_down(&g);
    }
    for (size_t i = 0; i < BASE_COUNT(wanted); i++) assert_true(met[wanted[i]]);
}

/* Each place where the text can be cut, a guess lying across it. */
static void limits_fall_inside_drafts(void **state) {
    (void)state;
    uint32_t accepted = 0;
    loudness = 0;
    for (uint32_t n = 1; n < 40; n++) {
        rig g;
        rig_up(&g, &(fake_options){0}, 12 + n, markov); /* the context ends after n tokens */
        g.opt.sampling.temperature = 0;
        accepted += same_all_ways(&g, 0);
        accepted += same_all_ways(&g, n); /* the caller ends it */
        g.opt.max_new_tok = n;
        accepted += same_all_ways(&g, 0);
        rig_down(&g);
        rig_up(&g, &(fake_options){.n_pages = 3 + n / FAKE_PAGE}, 300, markov); /* the cache */
        accepted += same_all_ways(&g, 0);
        rig_down(&g);
    }
    assert_true(accepted > 1000);
}

static void broken_logits_fail_at_the_same_token(void **state) {
    (void)state;
    rig g;
    loudness = 0;
    rig_up(&g, &(fake_options){.fn = markov_then_nan}, 200, markov);
    same_all_ways(&g, 0);
    assert_int_equal(run_session_len(g.s), 61); /* where the first such logits came */
    rig_down(&g);
}

/* A draft that is the model itself is always right, whatever the temperature. */
static void equal_models_agree_on_every_draw(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++) {
        rig g;
        outcome *o = malloc(sizeof *o);
        loudness = 0;
        rig_up(&g, &(fake_options){0}, 300, markov);
        g.opt.sampling.temperature = (float)t;
        g.opt.sampling.repeat_penalty = 1.05f;
        g.opt.sampling.hook = NULL; /* the draft does not see it */
        g.opt.draft = g.ds;
        g.opt.draft_always = true;
        g.opt.max_new_tok = t % 2 ? 100 : 0;
        run(&g, &g.opt, 0, o);
        assert_int_equal(o->r.finish, t % 2 ? GEN_FINISH_LENGTH : GEN_FINISH_FULL);
        assert_true(o->r.n_drafted > 50);
        assert_int_equal(o->r.n_accepted, o->r.n_drafted);
        gen_result_free(&o->r);
        free(o);
        rig_down(&g);
    }
}

/* A draft session that holds something else, is too short or has no pages left is no harm. */
static void trouble_with_the_draft_is_no_trouble(void **state) {
    (void)state;
    rig g;
    loudness = 0;
    rig_up(&g, &(fake_options){0}, 200, markov);
    run_session_free(&g.ds);
    assert_int_equal(run_session_create(&g.ds, g.small, 40, NULL), ROTOR_OK);
    g.opt.sampling.temperature = 0;
    g.opt.draft = g.ds;
    g.opt.draft_always = true;
    same(&g, &g.opt, 0, NULL);
    run_session_free(&g.ds);
    fake_engine_free(&g.small);
    g.small = fake_engine(&(fake_options){.fn = markov, .vocab = g.v, .n_vocab = LAST_WORD});
    assert_int_equal(run_session_create(&g.ds, g.small, 200, NULL), ROTOR_OK);
    const gen_bias bias = {LAST_WORD, 0.5f}; /* a token that the draft does not have */
    g.opt.draft = g.ds;
    g.opt.sampling.bias = &bias;
    g.opt.sampling.n_bias = 1;
    uint32_t accepted = 0;
    same(&g, &g.opt, 0, &accepted);
    const run_row row = {g.ds, 77, false};
    run_session_rewind(g.ds, 5);
    assert_int_equal(run_eval(g.small, &row, 1, NULL), ROTOR_OK);
    same(&g, &g.opt, 0, &accepted);
    rig_down(&g);
}

static void tokens_come_without_allocations(void **state) {
    (void)state;
    rig g;
    gen_task t;
    uint32_t id, n_eval = 0;
    gen_pace pace = {0};
    rig_up(&g, &(fake_options){0}, 200, nearly_markov);
    loudness = 0;
    g.opt.draft = g.ds;
    g.opt.lookup_min = 2;
    g.opt.n_top = 0;
    g.opt.on_text = NULL;
    g.opt.sampling.hook = NULL;
    assert_int_equal(gen_task_init(&t, g.s, g.n_prompt, &g.opt, NULL), ROTOR_OK);
    assert_int_equal(run_session_sync(g.s, g.prompt, g.n_prompt, NULL, NULL, NULL, NULL), ROTOR_OK);
    uint64_t before = base_alloc_count();
    assert_int_equal(gen_task_take(&t, 0, NULL, &id, NULL), ROTOR_OK);
    for (; t.r.finish == GEN_FINISH_NONE; n_eval++) {
        run_row rows[16] = {{g.s, id, true}};
        gen_plan plan = gen_pace_plan(&pace, 1);
        gen_task_guess(&t, 15, &plan);
        for (uint32_t i = 0; i < t.draft.n; i++)
            rows[1 + i] = (run_row){g.s, t.draft.guess[i], true};
        assert_int_equal(run_eval(g.e, rows, 1 + t.draft.n, NULL), ROTOR_OK);
        gen_pace_note(&pace, 1 + t.draft.n, 100 + t.draft.n);
        assert_int_equal(gen_task_take(&t, 0, NULL, &id, NULL), ROTOR_OK);
    }
    assert_int_equal(base_alloc_count(), before);
    assert_true(n_eval * 2 < t.r.ids.n); /* and in few steps, rows being cheap */
    gen_task_free(&t);
    rig_down(&g);
}

static void every_fault_is_survived(void **state) {
    (void)state;
    rig g;
    bool fired = true;
    loudness = 0;
    rig_up(&g, &(fake_options){0}, 60, markov);
    g.opt.lookup_min = 2;
    g.opt.draft = g.ds;
    g.opt.draft_always = true;
    g.opt.on_text = NULL;
    g.opt.sampling.hook = NULL;
    long n = 1;
    for (; fired; n++) {
        gen_result r = {0};
        rotor_error err = {0};
        run_session_rewind(g.s, 0);
        base_fault_after(n);
        rotor_status st = gen_run(g.s, g.prompt, g.n_prompt, &g.opt, &r, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        gen_result_free(&r);
    }
    assert_in_range(n, 12, 60);
    rig_down(&g);
}

/* ==== Where the newest tokens stood before ======================================================
 */

static void places_are_those_of_a_plain_search(void **state) {
    (void)state;
    enum { N = 600 };
    uint32_t line[N], hits = 0;
    base_rng r;
    base_rng_seed(&r, 1);
    for (uint32_t round = 0; round < 12; round++) {
        uint32_t words_used = 2 + round * round * 4, min = 1 + round % 4;
        gen_ngram g;
        assert_int_equal(gen_ngram_init(&g, line, N, min), ROTOR_OK);
        for (uint32_t n = 1; n <= N; n++) {
            line[n - 1] = base_rng_below(&r, words_used);
            gen_ngram_grow(&g, n);
            uint32_t best = 0, next = 0, places = 0;
            for (uint32_t end = n - 1; end >= 1; end--) { /* newest first; the match ends there */
                uint32_t len = 0;
                while (len < end && len < GEN_MATCH_MAX && line[end - 1 - len] == line[n - 1 - len])
                    len++;
                places += len >= min;
                if (len >= min && len > best) best = len, next = end;
            }
            gen_match m;
            bool found = gen_ngram_find(&g, &m);
            if (found) { /* never a false one */
                assert_true(m.len >= min && m.next < n);
                for (uint32_t i = 0; i < m.len; i++)
                    assert_int_equal(line[m.next - 1 - i], line[n - 1 - i]);
            }
            if (places > 8) continue; /* of very many only some are compared */
            assert_int_equal(found, best > 0);
            if (!found) continue;
            assert_int_equal(m.len, best);
            assert_int_equal(m.next, next);
            hits++;
        }
        gen_ngram_free(&g);
    }
    assert_true(hits > 500);
}

/* ==== The price of a step =======================================================================
 */

static void prices_are_learned(void **state) {
    (void)state;
    gen_pace p = {0};
    for (int i = 0; i < 60; i++)
        gen_pace_note(&p, 1 + (uint32_t)i % 4, 1000 + 50 * ((uint64_t)i % 4));
    assert_true(fabs(p.row_us - 50) < 1 && fabs(p.base_us - 950) < 10);
    for (int i = 0; i < 9; i++) { /* now and then the machine did something else */
        if (i % 3) gen_pace_note(&p, 1, 1000000);
        assert_true(fabs(gen_pace_plan(&p, 1).us - 1000) < 10);
        gen_pace_note(&p, 4, 1150);
    }
    assert_true(fabs(p.row_us - 50) < 1 && fabs(p.base_us - 950) < 10);
    for (int i = 0; i < 4; i++) gen_pace_note(&p, 1, 10000); /* it is slow now */
    assert_true(fabs(gen_pace_plan(&p, 1).us - 10000) < 100);
    for (int i = 0; i < 60; i++)
        gen_pace_note(&p, 1 + (uint32_t)i % 2, 100 + 90 * ((uint64_t)i % 2));
    gen_plan plan = gen_pace_plan(&p, 1);
    assert_true(fabs(plan.us - 100) < 5 && fabs(plan.row_us - 90) < 5); /* another machine now */
    for (int i = 0; i < 500; i++) gen_pace_note(&p, 1, 100);
    plan = gen_pace_plan(&p, 1);
    assert_true(fabs(plan.us - 100) < 5 && fabs(plan.row_us - 90) < 10); /* nothing new on rows */
    gen_pace still = {0};
    for (int i = 0; i < 10; i++) gen_pace_note(&still, 3, 0); /* a clock that stands still */
    plan = gen_pace_plan(&still, 2);
    assert_true(plan.us > 0 && plan.us < 10 && plan.row_us > 0);
}

/* ==== When guessing stops =======================================================================
 */

typedef struct trial {
    uint32_t n_drafted; /* guesses made */
    uint32_t n_asked;   /* tokens */
} trial;

/* Feeds a periodic line in which each guess is right with this chance, on a machine where a row
 * more costs row_us of a step of 100. */
static trial guess_for(uint32_t n_tok, uint32_t percent, double row_us) {
    static uint32_t line[5000];
    rig g;
    gen_drafter d;
    base_rng r;
    base_rng_seed(&r, percent);
    rig_up(&g, &(fake_options){0}, 5000, markov);
    g.opt.lookup_min = 2;
    assert_int_equal(gen_drafter_init(&d, g.s, &g.opt, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < 40; i++) line[i] = i % 10;
    gen_drafter_add(&d, line, 40);
    for (uint32_t i = 0; i < n_tok; i++) {
        gen_plan plan = {1, 100, row_us};
        gen_drafter_guess(&d, NULL, 8, &plan);
        uint32_t right = 0, had = d.n, next = (40 + i) % 10;
        while (right < had && base_rng_below(&r, 100) < percent) right++;
        gen_drafter_judge(&d, right, right + (right < had));
        gen_drafter_add(&d, &next, 1);
    }
    trial t = {d.n_drafted, n_tok};
    gen_drafter_free(&d);
    rig_down(&g);
    return t;
}

static void guessing_goes_where_it_pays(void **state) {
    (void)state;
    assert_in_range(guess_for(1000, 100, 5).n_drafted, 7000, 8000); /* always right and cheap */
    assert_in_range(guess_for(1000, 50, 10).n_drafted, 1000, 4000); /* some */
    assert_in_range(guess_for(1000, 0, 5).n_drafted, 1, 120);       /* never right: soon none */
    assert_in_range(guess_for(1000, 5, 100).n_drafted, 1, 25);      /* rows as dear as steps: */
    assert_in_range(guess_for(4000, 60, 100).n_drafted, 1, 40);     /* hardly a probe */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_samplers_say_the_same),
        cmocka_unit_test(every_end_is_the_same),
        cmocka_unit_test(limits_fall_inside_drafts),
        cmocka_unit_test(broken_logits_fail_at_the_same_token),
        cmocka_unit_test(equal_models_agree_on_every_draw),
        cmocka_unit_test(trouble_with_the_draft_is_no_trouble),
        cmocka_unit_test(tokens_come_without_allocations),
        cmocka_unit_test(every_fault_is_survived),
        cmocka_unit_test(places_are_those_of_a_plain_search),
        cmocka_unit_test(prices_are_learned),
        cmocka_unit_test(guessing_goes_where_it_pays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
