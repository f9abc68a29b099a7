/* SPDX-License-Identifier: MIT
 *
 * Beam search: wide enough it equals the enumeration of every sequence; narrow, a naive search that
 * recomputes everything; on engines that take one row or many at a time; under faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "fake_run.h"

enum { V = 5, MAX_LEN = 4, MAX_BEAMS = 2000, N_PROMPT = 3 };
static const uint32_t prompt[N_PROMPT] = {1, 4, 3};

typedef struct line {
    uint32_t ids[MAX_LEN]; /* tokens, without the ending one */
    uint32_t n;            /* how many */
    double logprob;        /* sum */
    double score;          /* normalised */
    bool ended;            /* by an end-of-generation token */
} line;

/* Log-probability of the next token after prompt and l. */
static double next_logprob(const line *l, uint32_t id) {
    uint32_t tokens[N_PROMPT + MAX_LEN];
    float x[V];
    double total = 0;
    memcpy(tokens, prompt, sizeof prompt);
    memcpy(tokens + N_PROMPT, l->ids, l->n * sizeof *tokens);
    fake_hash_logits(tokens, N_PROMPT + l->n, x, V);
    for (int i = 0; i < V; i++) total += exp((double)x[i]);
    return (double)x[id] - log(total);
}

static line extended(const line *l, uint32_t id, double alpha) {
    line next = *l;
    next.logprob += next_logprob(l, id);
    next.score = next.logprob / pow(l->n + 1, alpha);
    next.ended = id == FAKE_EOS;
    if (!next.ended) next.ids[next.n++] = id;
    return next;
}

static int by_score(const void *a, const void *b) {
    double x = ((const line *)a)->score, y = ((const line *)b)->score;
    return x > y ? -1 : x < y;
}

/* The search as one would write it without sessions. Returns the number of beams. */
static size_t naive(line *beams, uint32_t width, uint32_t max_new, double alpha) {
    static line next[MAX_BEAMS * V];
    size_t n = 1;
    memset(beams, 0, sizeof *beams);
    for (uint32_t round = 0; round < max_new; round++) {
        size_t n_next = 0;
        for (size_t i = 0; i < n; i++) {
            if (beams[i].ended) next[n_next++] = beams[i];
            for (uint32_t id = 0; id < V && !beams[i].ended; id++)
                next[n_next++] = extended(&beams[i], id, alpha);
        }
        qsort(next, n_next, sizeof *next, by_score);
        n = BASE_MIN(n_next, (size_t)width);
        memcpy(beams, next, n * sizeof *next);
    }
    return n;
}

typedef struct rig {
    text_vocab *v;  /* only the end of generation matters */
    run_engine *e;  /* hashed logits over 5 tokens */
    run_session *s; /* 20 positions */
} rig;

static void rig_up(rig *g, uint32_t max_logits, uint32_t max_tok) {
    g->v = fake_vocab(NULL, 0);
    g->e = fake_engine(&(fake_options){
        .fn = fake_hash_logits, .vocab = g->v, .n_vocab = V, .max_logits = max_logits});
    assert_int_equal(run_session_create(&g->s, g->e, max_tok, NULL), ROTOR_OK);
}

static void rig_down(rig *g) {
    run_session_free(&g->s);
    fake_engine_free(&g->e);
    text_vocab_free(&g->v);
}

static void compare(uint32_t width, uint32_t max_new, float alpha, uint32_t max_logits) {
    static line want[MAX_BEAMS];
    rig g;
    gen_beam *beams = NULL;
    rotor_error err = {0};
    rig_up(&g, max_logits, 20);
    if (gen_beam_search(g.s, prompt, N_PROMPT,
                        &(gen_beam_options){.width = width, .max_new_tok = max_new, .alpha = alpha},
                        &beams, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    size_t n = naive(want, width, max_new, (double)alpha);
    for (size_t i = 0; i < width; i++) {
        if (i >= n) {
            assert_true(beams[i].ids.n == 0 && beams[i].score == -INFINITY);
            continue;
        }
        assert_int_equal(beams[i].ids.n, want[i].n);
        for (uint32_t t = 0; t < want[i].n; t++)
            assert_int_equal(beams[i].ids.ids[t], want[i].ids[t]);
        assert_int_equal(beams[i].ended, want[i].ended);
        assert_true(fabs((double)beams[i].logprob - want[i].logprob) < 1e-4);
        assert_true(fabs((double)beams[i].score - want[i].score) < 1e-4);
    }
    assert_int_equal(run_session_len(g.s), N_PROMPT);
    gen_beams_free(beams, width);
    rig_down(&g);
}

/* 4^4 sequences of full length and 1 + 4 + 16 + 64 that end before, or at the last token. */
static void wide_beams_enumerate_everything(void **state) {
    (void)state;
    for (int a = 0; a < 3; a++) compare(345, MAX_LEN, 0.5f * (float)a, 16);
}

static void narrow_beams_equal_the_naive_search(void **state) {
    (void)state;
    for (uint32_t width = 1; width <= 12; width++)
        for (uint32_t max_new = 1; max_new <= MAX_LEN; max_new++)
            for (int a = 0; a < 3; a++) compare(width, max_new, 0.5f * (float)a, 1 + width % 3 * 5);
}

static void one_beam_is_greedy(void **state) {
    (void)state;
    rig g;
    gen_beam *beams = NULL;
    gen_result r = {0};
    rig_up(&g, 16, 20);
    gen_options opt = {.sampling = gen_sampling_default(), .max_new_tok = 12};
    opt.sampling.temperature = 0;
    assert_int_equal(gen_beam_search(g.s, prompt, N_PROMPT,
                                     &(gen_beam_options){.width = 1, .max_new_tok = 12, .alpha = 0},
                                     &beams, NULL),
                     ROTOR_OK);
    assert_int_equal(gen_run(g.s, prompt, N_PROMPT, &opt, &r, NULL), ROTOR_OK);
    assert_int_equal(beams[0].ids.n, r.ids.n);
    for (size_t i = 0; i < r.ids.n; i++) assert_int_equal(beams[0].ids.ids[i], r.ids.ids[i]);
    gen_result_free(&r);
    gen_beams_free(beams, 1);
    rig_down(&g);
}

static void beams_end_with_the_context(void **state) {
    (void)state;
    rig g;
    gen_beam *beams = NULL;
    rotor_error err = {0};
    rig_up(&g, 16, N_PROMPT + 2);
    assert_int_equal(gen_beam_search(g.s, prompt, N_PROMPT,
                                     &(gen_beam_options){.width = 4, .max_new_tok = 0, .alpha = 0},
                                     &beams, &err),
                     ROTOR_OK);
    size_t longest = 0;
    for (int i = 0; i < 4; i++) longest = BASE_MAX(longest, beams[i].ids.n);
    assert_int_equal(longest, 3);
    gen_beams_free(beams, 4);
    const uint32_t six[6] = {0};
    assert_int_equal(gen_beam_search(g.s, six, 6,
                                     &(gen_beam_options){.width = 4, .max_new_tok = 0, .alpha = 0},
                                     &beams, &err),
                     ROTOR_E_FULL);
    rig_down(&g);
}

/* A token can follow another only if it is larger by one or two, modulo V. */
static uint64_t last_token(const void *user, uint64_t state, uint32_t id) {
    return (void)user, (void)state, id;
}

static rotor_status near(const void *user, uint64_t state, gen_mask *mask, rotor_error *err) {
    static uint32_t next[2];
    (void)user, (void)err;
    for (uint32_t i = 0; i < 2; i++) next[i] = ((uint32_t)state + i + 1) % V;
    *mask = (gen_mask){.only = next, .n_only = 2};
    return ROTOR_OK;
}

static void beams_keep_to_a_guide(void **state) {
    (void)state;
    rig g;
    gen_beam *beams = NULL;
    rig_up(&g, 16, 20);
    const gen_guide guide = {.start = 0, .step = last_token, .may = near};
    const gen_beam_options opt = {.width = 4, .max_new_tok = 8, .alpha = 1, .guide = &guide};
    assert_int_equal(gen_beam_search(g.s, prompt, N_PROMPT, &opt, &beams, NULL), ROTOR_OK);
    for (size_t i = 0; i < 4; i++)
        for (size_t t = 0, before = 0; t < beams[i].ids.n; before = beams[i].ids.ids[t++])
            assert_in_range((beams[i].ids.ids[t] + V - before) % V, 1, 2);
    gen_beams_free(beams, 4);
    rig_down(&g);
}

/* The same, but 3 leads nowhere. */
static rotor_status near_but_for_3(const void *user, uint64_t state, gen_mask *mask,
                                   rotor_error *err) {
    if (state == 3) return base_fail(err, ROTOR_E_UNSUPPORTED, "nothing can come next");
    return near(user, state, mask, err);
}

static void a_dead_end_ends_its_beam_alone(void **state) {
    (void)state;
    rig g;
    gen_beam *beams = NULL;
    rotor_error err = {0};
    rig_up(&g, 16, 20);
    gen_guide guide = {.start = 2, .step = last_token, .may = near_but_for_3}; /* to 3 and 4 */
    const gen_beam_options opt = {.width = 4, .max_new_tok = 5, .alpha = 1, .guide = &guide};
    const rotor_status st = gen_beam_search(g.s, prompt, N_PROMPT, &opt, &beams, &err);
    if (st != ROTOR_OK) fail_msg("%s", err.message);
    size_t longest = 0;
    for (size_t i = 0; i < 4; i++) {
        longest = BASE_MAX(longest, beams[i].ids.n);
        for (size_t t = 0; t + 1 < beams[i].ids.n; t++)
            assert_int_not_equal(beams[i].ids.ids[t], 3);
    }
    assert_true(longest > 1);
    gen_beams_free(beams, 4);
    beams = NULL;
    guide.start = 3;
    assert_int_equal(gen_beam_search(g.s, prompt, N_PROMPT, &opt, &beams, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no beam can go on: nothing can come next"));
    assert_null(beams);
    rig_down(&g);
}

static void every_fault_is_survived(void **state) {
    (void)state;
    rig g;
    bool fired = true;
    rig_up(&g, 16, 20);
    for (long n = 1; fired; n++) {
        gen_beam *beams = NULL;
        assert_true(n < 200);
        base_fault_after(n);
        rotor_status st = gen_beam_search(
            g.s, prompt, N_PROMPT, &(gen_beam_options){.width = 3, .max_new_tok = 4, .alpha = 1},
            &beams, NULL);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        assert_int_equal(beams == NULL, fired);
        gen_beams_free(beams, 3);
    }
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_beams_enumerate_everything),
        cmocka_unit_test(narrow_beams_equal_the_naive_search),
        cmocka_unit_test(one_beam_is_greedy),
        cmocka_unit_test(beams_end_with_the_context),
        cmocka_unit_test(beams_keep_to_a_guide),
        cmocka_unit_test(a_dead_end_ends_its_beam_alone),
        cmocka_unit_test(every_fault_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
