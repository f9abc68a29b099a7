/* SPDX-License-Identifier: MIT
 *
 * gen on the real forward pass (tiny seeded models): batched jobs give the bits that lone ones
 * give, whatever the step looks like and whatever was guessed; beams share pages and give them
 * back; nothing is allocated while tokens come.
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

enum { N_JOBS = 6, MAX_SEEN = 64 };

typedef struct rig {
    par_pool *pool; /* two threads */
    model *m;       /* tiny, without a vocabulary */
    run_engine *e;  /* on it */
} rig;

typedef struct heard {
    gen_choice c[MAX_SEEN];      /* tokens and log-probabilities, in order */
    gen_choice top[MAX_SEEN][3]; /* alternatives */
    size_t n;                    /* how many */
} heard;

static void rig_up(rig *g, tiny_kind kind, uint32_t chunk, uint32_t max_logits) {
    char path[96];
    rotor_error err = {0};
    tiny_write(tiny_path(path, "gen.gguf"), kind, tiny_default(), 21, NULL);
    assert_int_equal(par_create(&g->pool, 2, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1};
    if (model_open(&g->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const run_options ro = {.cpu = cpu_detect(),
                            .n_pages = 60,
                            .n_sessions = kind == TINY_GPT_OSS, /* its window's layers: a ring */
                            .chunk = chunk,
                            .kv = KERN_KV_F16,
                            .max_logits = max_logits};
    if (run_create(&g->e, g->m, g->pool, &ro, &err) != ROTOR_OK) fail_msg("%s", err.message);
    unlink(path);
}

static void rig_down(rig *g) {
    assert_int_equal(run_free_pages(g->e), 60); /* every page came back */
    run_free(&g->e);
    model_close(&g->m);
    par_free(&g->pool);
}

static bool hear(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    heard *h = user;
    (void)text;
    if (!choice) return true;
    memcpy(h->top[h->n], top, sizeof h->top[0]);
    h->c[h->n++] = *choice;
    return true;
}

static gen_options options(uint32_t i, heard *h) {
    gen_options o = {.sampling = gen_sampling_default(),
                     .max_new_tok = 5 + i * 7,
                     .n_top = 3,
                     .ignore_eog = true,
                     .on_text = hear,
                     .user = h};
    o.sampling.seed = i;
    if (i % 3 == 0) o.sampling.temperature = 0;
    if (i % 3 == 1) o.sampling.repeat_penalty = 1.2f;
    return o;
}

static uint32_t make_prompt(uint32_t *prompt, uint32_t i) {
    uint32_t n = 1 + i * 29;
    for (uint32_t t = 0; t < n; t++) prompt[t] = (t * 31 + i * 7) % 95;
    return n;
}

static void check_kind(tiny_kind kind, uint32_t chunk, uint32_t max_logits) {
    static heard together[N_JOBS], alone;
    static uint32_t prompt[N_JOBS][200];
    rig g;
    gen_batch *b = NULL;
    run_session *s[N_JOBS];
    gen_options o[N_JOBS];
    gen_result r[N_JOBS];
    uint32_t live, handle;
    memset(together, 0, sizeof together);
    rig_up(&g, kind, chunk, max_logits);
    assert_int_equal(gen_batch_create(&b, g.e, N_JOBS, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < N_JOBS; i++) {
        uint32_t n = make_prompt(prompt[i], i);
        o[i] = options(i, &together[i]);
        assert_int_equal(run_session_create(&s[i], g.e, 256, NULL), ROTOR_OK);
        assert_int_equal(gen_batch_add(b, s[i], prompt[i], n, &o[i], &r[i], &handle, NULL),
                         ROTOR_OK);
    }
    uint64_t allocs = base_alloc_count();
    do assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    while (live);
    assert_int_equal(base_alloc_count(), allocs);
    for (uint32_t i = 0; i < N_JOBS; i++) {
        gen_result lone = {0};
        memset(&alone, 0, sizeof alone);
        o[i].user = &alone;
        run_session_rewind(s[i], 0);
        assert_int_equal(gen_run(s[i], prompt[i], make_prompt(prompt[i], i), &o[i], &lone, NULL),
                         ROTOR_OK);
        assert_int_equal(lone.ids.n, o[i].max_new_tok);
        assert_int_equal(r[i].ids.n, lone.ids.n);
        assert_memory_equal(&alone, &together[i], sizeof alone); /* ids, log-probabilities: bits */
        gen_result_free(&lone);
        gen_result_free(&r[i]);
        run_session_free(&s[i]);
    }
    gen_batch_free(&b);
    rig_down(&g);
}

static void batched_jobs_are_the_same_bits(void **state) {
    (void)state;
    check_kind(TINY_BITNET, 64, 16);
    check_kind(TINY_BITNET, 5, 2);
    check_kind(TINY_LLAMA_Q8, 33, 4);
}

/* The model drafts for itself, another one drafts for it, and the timeline does. */
static void check_guesses(tiny_kind kind, uint32_t chunk, uint32_t max_logits) {
    static heard plain, fast;
    static uint32_t prompt[200];
    rig g, own, other;
    run_session *s = NULL, *d[2] = {NULL, NULL};
    uint32_t accepted = 0;
    rig_up(&g, kind, chunk, max_logits);
    rig_up(&own, kind, 64, 1);
    rig_up(&other, kind == TINY_BITNET ? TINY_LLAMA_Q8 : TINY_BITNET, 6, 1);
    assert_int_equal(run_session_create(&s, g.e, 256, NULL), ROTOR_OK);
    assert_int_equal(run_session_create(&d[0], own.e, 256, NULL), ROTOR_OK);
    assert_int_equal(run_session_create(&d[1], other.e, 256, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < 24; i++) {
        uint32_t n = make_prompt(prompt, i % 6);
        gen_result a = {0}, b = {0};
        memset(&plain, 0, sizeof plain);
        memset(&fast, 0, sizeof fast);
        gen_options o = options(i % 8, &plain);
        run_session_rewind(s, 0);
        assert_int_equal(gen_run(s, prompt, n, &o, &a, NULL), ROTOR_OK);
        o.user = &fast;
        o.lookup_min = i % 4 < 2;
        o.draft = i % 4 ? d[i / 4 % 2] : NULL;
        o.draft_max = 1 + i % 9;
        o.draft_always = true;
        run_session_rewind(s, 0);
        assert_int_equal(gen_run(s, prompt, n, &o, &b, NULL), ROTOR_OK);
        assert_memory_equal(&plain, &fast, sizeof plain); /* bits */
        assert_int_equal(run_session_len(s), n + a.ids.n - 1);
        if (!o.lookup_min && i / 4 % 2 == 0) assert_int_equal(b.n_accepted, b.n_drafted);
        accepted += b.n_accepted;
        gen_result_free(&a);
        gen_result_free(&b);
    }
    assert_true(accepted > 40);
    run_session_free(&s);
    run_session_free(&d[0]);
    run_session_free(&d[1]);
    rig_down(&other);
    rig_down(&own);
    rig_down(&g);
}

static void guesses_leave_every_bit(void **state) {
    (void)state;
    check_guesses(TINY_BITNET, 64, 16);
    check_guesses(TINY_BITNET, 5, 3);
    check_guesses(TINY_LLAMA_Q8, 33, 10);
    check_guesses(TINY_LLAMA_Q4K, 16, 16);
}

/* The best beam's log-probability is the sum of its tokens', evaluated one by one. */
static void beams_are_scored_as_evaluated(void **state) {
    (void)state;
    enum { WIDTH = 5, LEN = 40 };
    rig g;
    run_session *s = NULL;
    gen_beam *beams = NULL;
    uint32_t tokens[100], n;
    rotor_error err = {0};
    rig_up(&g, TINY_BITNET, 64, 3);
    n = make_prompt(tokens, 2);
    assert_int_equal(run_session_create(&s, g.e, 256, NULL), ROTOR_OK);
    if (gen_beam_search(s, tokens, n,
                        &(gen_beam_options){.width = WIDTH, .max_new_tok = LEN, .alpha = 1}, &beams,
                        &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < WIDTH; i++) {
        double sum = 0;
        uint32_t len = (uint32_t)beams[i].ids.n;
        assert_true(beams[i].ended ? len < LEN : len == LEN);
        if (i) assert_true(beams[i].score <= beams[i - 1].score);
        memcpy(tokens + n, beams[i].ids.ids, len * sizeof *tokens);
        if (beams[i].ended) tokens[n + len++] = text_eos(g.m->vocab);
        for (uint32_t t = 0; t < len; t++) {
            assert_int_equal(run_session_sync(s, tokens, n + t, NULL, NULL, NULL, NULL), ROTOR_OK);
            const float *x = run_logits(g.e, 0);
            double total = 0;
            for (uint32_t v = 0; v < g.m->hp.n_vocab; v++) total += exp((double)x[v]);
            sum += (double)x[tokens[n + t]] - log(total);
        }
        assert_true(fabs(sum - (double)beams[i].logprob) < 1e-3);
    }
    gen_beams_free(beams, WIDTH);
    run_session_free(&s);
    rig_down(&g);
}

/* After shifts the session is what a fresh one is, given the same tokens; with layers that keep
 * only their window, too. */
static void a_shifted_context_is_as_if_fresh(void **state) {
    (void)state;
    static const tiny_kind kinds[] = {TINY_BITNET, TINY_GPT_OSS};
    for (size_t k = 0; k < BASE_COUNT(kinds); k++) {
        rig g;
        run_session *s = NULL;
        uint32_t prompt[200], n = make_prompt(prompt, 2), line[150], len;
        gen_result r = {0};
        rig_up(&g, kinds[k], 16, 4);
        const uint32_t n_vocab = g.m->hp.n_vocab;
        float *logits = base_alloc_array(n_vocab, sizeof *logits);
        gen_options o = {.sampling = gen_sampling_default(),
                         .max_new_tok = 220,
                         .ignore_eog = true,
                         .shift = true,
                         .n_keep = 9};
        assert_int_equal(run_session_create(&s, g.e, 150, NULL), ROTOR_OK);
        assert_int_equal(gen_run(s, prompt, n, &o, &r, NULL), ROTOR_OK);
        assert_int_equal(r.finish, GEN_FINISH_LENGTH);
        assert_true(r.n_shifts >= 2);
        len = run_session_len(s);
        memcpy(line, run_session_tokens(s), len * sizeof *line);
        assert_memory_equal(line, prompt, 9 * sizeof *line);
        const run_row row = {s, 5, true};
        assert_int_equal(run_eval(g.e, &row, 1, NULL), ROTOR_OK);
        memcpy(logits, run_logits(g.e, 0), n_vocab * sizeof *logits);
        run_session_rewind(s, 0);
        line[len] = 5;
        assert_int_equal(run_session_sync(s, line, len + 1, NULL, NULL, NULL, NULL), ROTOR_OK);
        assert_memory_equal(logits, run_logits(g.e, 0), n_vocab * sizeof *logits);
        base_free(logits);
        gen_result_free(&r);
        run_session_free(&s);
        rig_down(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batched_jobs_are_the_same_bits),
        cmocka_unit_test(guesses_leave_every_bit),
        cmocka_unit_test(a_shifted_context_is_as_if_fresh),
        cmocka_unit_test(beams_are_scored_as_evaluated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
