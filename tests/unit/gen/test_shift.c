/* SPDX-License-Identifier: MIT
 *
 * A full context with shift, on a model whose logits are a hash of the whole timeline: every token
 * must be the one that a fresh session, given what stays, would choose. With guesses, with a
 * shorter prompt of the caller's, with prompts that are too long, with failing allocations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fake_run.h"

enum { MAX = 24, N_NEW = 100, N_VOCAB = 300 };

typedef struct rig {
    text_vocab *v;        /* bytes */
    run_engine *e;        /* hashes */
    run_session *s;       /* MAX positions */
    gen_options opt;      /* shift, arg-max, N_NEW tokens */
    gen_result r;         /* of the last run */
    uint32_t n_told;      /* calls of on_shift */
    uint32_t dropped;     /* what they said, sum */
    uint32_t shorter[40]; /* what on_shorten gives … */
    uint32_t n_shorter;   /* … how many; 0: nothing */
} rig;

static void on_shift(void *user, uint32_t n_dropped, uint32_t n_left) {
    rig *g = user;
    assert_true(n_left <= MAX && n_left > 0);
    g->n_told++;
    g->dropped += n_dropped;
}

static bool on_shorten(void *user, const uint32_t **prompt, uint32_t *n) {
    rig *g = user;
    *prompt = g->shorter;
    *n = g->n_shorter;
    return g->n_shorter > 0;
}

static void rig_up(rig *g, uint32_t max) {
    memset(g, 0, sizeof *g);
    g->v = fake_vocab(NULL, 0);
    g->e = fake_engine(&(fake_options){.fn = fake_hash_logits, .vocab = g->v, .n_vocab = N_VOCAB});
    assert_int_equal(run_session_create(&g->s, g->e, max, NULL), ROTOR_OK);
    g->opt = (gen_options){.sampling = gen_sampling_default(),
                           .shift = true,
                           .ignore_eog = true,
                           .max_new_tok = N_NEW,
                           .on_shift = on_shift,
                           .user = g};
    g->opt.sampling.temperature = 0;
}

static void rig_down(rig *g) {
    gen_result_free(&g->r);
    run_session_free(&g->s);
    fake_engine_free(&g->e);
    text_vocab_free(&g->v);
}

static void generate(rig *g, const uint32_t *prompt, uint32_t n) {
    rotor_error err = {0};
    gen_result_free(&g->r);
    g->n_told = g->dropped = 0;
    if (gen_run(g->s, prompt, n, &g->opt, &g->r, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(g->n_told, g->r.n_shifts);
    assert_int_equal(g->dropped, g->r.n_dropped);
}

/* ==== What must come out, written down plainly ================================================ */

static uint32_t best_after(const uint32_t *line, uint32_t n) {
    static float logits[N_VOCAB];
    fake_hash_logits(line, n, logits, N_VOCAB);
    uint32_t best = 0;
    for (uint32_t i = 1; i < N_VOCAB; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static uint32_t halve(uint32_t *line, uint32_t n, uint32_t keep, uint32_t max) {
    uint32_t stays = ((n < max ? n : max) - keep + 1) / 2, out = keep;
    for (uint32_t i = n - stays; i < n; i++) line[out++] = line[i];
    return out;
}

/* The answer of N_NEW tokens; returns the shifts it took. */
static uint32_t expected(const uint32_t *prompt, uint32_t n, uint32_t keep, uint32_t max,
                         uint32_t *ids) {
    static uint32_t line[4 * N_NEW];
    uint32_t shifts = 0;
    memcpy(line, prompt, n * sizeof *line);
    if (n > max) n = halve(line, n, keep, max), shifts++;
    for (uint32_t i = 0; i < N_NEW; i++) {
        line[n] = ids[i] = best_after(line, n);
        if (i + 1 == N_NEW) break;
        if (++n > max) n = halve(line, n, keep, max), shifts++;
    }
    return shifts;
}

static void check(rig *g, const uint32_t *prompt, uint32_t n, uint32_t keep) {
    uint32_t ids[N_NEW];
    const uint32_t shifts = expected(prompt, n, keep, run_session_max(g->s), ids);
    generate(g, prompt, n);
    assert_int_equal(g->r.finish, GEN_FINISH_LENGTH);
    assert_int_equal(g->r.ids.n, N_NEW);
    assert_memory_equal(g->r.ids.ids, ids, sizeof ids);
    assert_int_equal(g->r.n_shifts, shifts);
    assert_true(shifts > 0);
}

static const uint32_t prompt[] = {1, 50, 60, 70, 80, 90, 100, 110, 120, 130};

/* ==== Tests =================================================================================== */

static void what_stays_is_the_beginning_and_the_newer_half(void **state) {
    (void)state;
    rig g;
    rig_up(&g, MAX);
    check(&g, prompt, 10, 1);    /* the BOS token */
    check(&g, prompt + 1, 9, 0); /* there is none */
    g.opt.n_keep = 7;
    check(&g, prompt, 10, 7);
    g.opt.n_keep = MAX; /* no more than half */
    check(&g, prompt, 10, MAX / 2);
    rig_down(&g);
}

static void small_contexts_shift_all_the_time(void **state) {
    (void)state;
    for (uint32_t max = 1; max < 8; max++) {
        rig g;
        rig_up(&g, max);
        check(&g, prompt, 1, max >= 2);
        check(&g, prompt, 10, max >= 2);
        rig_down(&g);
    }
}

static void a_long_prompt_loses_its_oldest_part(void **state) {
    (void)state;
    uint32_t text[200];
    rig g;
    rig_up(&g, MAX);
    for (uint32_t i = 0; i < 200; i++) text[i] = 1 + i;
    check(&g, text, 200, 1);
    assert_int_equal(g.r.n_prompt, 1 + (MAX - 1 + 1) / 2);
    check(&g, text, MAX + 1, 1);
    check(&g, text, MAX, 1); /* fits, and the first token is one too many */
    rig_down(&g);
}

static void guesses_change_nothing(void **state) {
    (void)state;
    rig g;
    rig_up(&g, MAX);
    g.opt.lookup_min = 1;
    g.opt.draft_always = true;
    check(&g, prompt, 10, 1);
    g.opt.n_keep = 5;
    check(&g, prompt, 10, 5);
    rig_down(&g);
}

/* The caller's prompt, then the answer so far. */
static void a_shorter_prompt_takes_the_place(void **state) {
    (void)state;
    rig g;
    uint32_t line[3 * N_NEW], n = 20;
    rig_up(&g, MAX);
    g.opt.on_shorten = on_shorten;
    g.opt.max_new_tok = 12;
    for (uint32_t i = 0; i < 20; i++) line[i] = 1 + i;
    g.n_shorter = 3;
    for (uint32_t i = 0; i < 3; i++) g.shorter[i] = 200 + i;
    generate(&g, line, n);
    for (uint32_t i = 0; i < 12; i++) {
        line[n] = best_after(line, n);
        assert_int_equal(g.r.ids.ids[i], line[n]);
        if (++n <= MAX) continue;
        memmove(line + 3, line + 20, 5 * sizeof *line); /* the five that had been said */
        memcpy(line, g.shorter, 3 * sizeof *line);
        n = 8;
    }
    assert_int_equal(g.r.n_shifts, 1);
    assert_int_equal(g.r.n_dropped, 17);
    g.n_shorter = 40; /* longer than what there was: not taken */
    g.opt.max_new_tok = N_NEW;
    check(&g, prompt, 10, 1);
    g.n_shorter = 0; /* none */
    check(&g, prompt, 10, 1);
    rig_down(&g);
}

/* Other sessions hold the pages: only what is one's own can be dropped, and not what is to stay. */
static void a_cache_that_others_fill_shifts_too(void **state) {
    (void)state;
    rig g;
    run_session *other = NULL;
    rig_up(&g, MAX);
    run_session_free(&g.s);
    fake_engine_free(&g.e);
    g.e = fake_engine(
        &(fake_options){.fn = fake_hash_logits, .vocab = g.v, .n_vocab = N_VOCAB, .n_pages = 2});
    assert_int_equal(run_session_create(&g.s, g.e, MAX, NULL), ROTOR_OK);
    assert_int_equal(run_session_create(&other, g.e, MAX, NULL), ROTOR_OK);
    assert_int_equal(run_session_sync(other, prompt, 1, NULL, NULL, NULL, NULL), ROTOR_OK);
    generate(&g, prompt, 2);
    assert_int_equal(g.r.finish, GEN_FINISH_LENGTH);
    assert_true(g.r.n_shifts >= N_NEW / FAKE_PAGE);
    g.opt.n_keep = FAKE_PAGE;
    generate(&g, prompt, 2);
    assert_int_equal(g.r.finish, GEN_FINISH_FULL);
    assert_int_equal(g.r.n_shifts, 0);
    run_session_free(&other);
    rig_down(&g);
}

static void a_batch_refuses(void **state) {
    (void)state;
    rig g;
    gen_batch *b = NULL;
    uint32_t job;
    rotor_error err = {0};
    rig_up(&g, MAX);
    assert_int_equal(gen_batch_create(&b, g.e, 1, NULL), ROTOR_OK);
    assert_int_equal(gen_batch_add(b, g.s, prompt, 3, &g.opt, &g.r, &job, &err),
                     ROTOR_E_UNSUPPORTED);
    gen_batch_free(&b);
    rig_down(&g);
}

static void every_failing_allocation_is_told(void **state) {
    (void)state;
    rig g;
    rig_up(&g, MAX);
    g.opt.lookup_min = 2;
    for (long n = 1;; n++) {
        gen_result r = {0};
        rotor_error err = {0};
        run_session_rewind(g.s, 0);
        base_fault_after(n);
        const rotor_status st = gen_run(g.s, prompt, 10, &g.opt, &r, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        gen_result_free(&r);
        if (!fired) break;
        assert_int_equal(st, ROTOR_E_NOMEM);
        assert_true(n < 1000 && err.message[0]);
    }
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stays_is_the_beginning_and_the_newer_half),
        cmocka_unit_test(small_contexts_shift_all_the_time),
        cmocka_unit_test(a_long_prompt_loses_its_oldest_part),
        cmocka_unit_test(guesses_change_nothing),
        cmocka_unit_test(a_shorter_prompt_takes_the_place),
        cmocka_unit_test(a_cache_that_others_fill_shifts_too),
        cmocka_unit_test(a_batch_refuses),
        cmocka_unit_test(every_failing_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
