/* SPDX-License-Identifier: MIT
 *
 * run: pages under a random life. Sessions are made, extended together in mixed batches, forked,
 * rewound, filled beyond the pool and freed; after every step the page counts must add up, and what
 * a session answers must be the bits of a session that never shared anything. The same with a model
 * of which every other layer has a window, whose pages are let go behind it: there the other
 * session keeps all of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "run/run_internal.h"
#include "tiny_model.h"

enum { N = 5, PAGES = 26, MAX_TOK = 900, CHUNK = 48, STEPS = 1200 };

typedef struct world {
    par_pool *pool;     /* threads */
    model *m;           /* weights */
    run_engine *e;      /* the engine that is shared */
    run_engine *alone;  /* an engine whose sessions share nothing */
    run_session *s[N];  /* NULL: none now */
    base_rng rng;       /* of the operations */
    unsigned full, bad; /* how often a step was refused, by reason */
    unsigned split;  /* steps of few rows with one beyond KERN_SPAN: threads share its attention */
    unsigned gone;   /* how often a window was no longer there … */
    unsigned marked; /* … and how often a mark had it */
    unsigned copied; /* how often a step took more pages than borders were crossed */
} world;

static run_engine *engine(const world *w, uint32_t n_pages, uint32_t n_sessions) {
    const run_options o = {.cpu = cpu_detect(),
                           .kv = KERN_KV_F16,
                           .head = RUN_HEAD_Q8,
                           .n_pages = n_pages,
                           .n_sessions = n_sessions,
                           .solo_bytes = n_sessions ? 1 : 0, /* all threads, even for a token */
                           .chunk = CHUNK,
                           .max_logits = CHUNK};
    run_engine *e = NULL;
    rotor_error err = {0};
    if (run_create(&e, w->m, w->pool, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return e;
}

/* S1, S2: every page is held as often as it is listed, or free exactly once. */
static void pages_add_up(const world *w, bool ring) {
    const run_pages *p = ring ? &w->e->ring : &w->e->pages;
    uint32_t refs[2 * PAGES] = {0}, on_stack[2 * PAGES] = {0};
    assert_true(p->n <= 2 * PAGES);
    for (int i = 0; i < N; i++) {
        const run_session *s = w->s[i];
        if (!s) continue;
        assert_int_equal(s->n_pages, (s->len + KERN_KEYS - 1) / KERN_KEYS);
        for (uint32_t b = ring ? s->ring_first : 0; b < s->n_pages; b++)
            refs[(ring ? s->ring : s->pages)[b]]++;
        for (uint32_t m = 0; ring && m < s->n_marks; m++) {
            const run_mark *k = &s->mark[m];
            assert_true(k->pos <= s->len && (m == 0 || s->mark[m - 1].pos < k->pos)); /* M1 */
            for (uint32_t b = k->first; b < (k->pos + KERN_KEYS - 1) / KERN_KEYS; b++)
                refs[k->page[b - k->first]]++;
        }
    }
    for (uint32_t i = 0; i < p->n_free; i++) on_stack[p->free[i]]++;
    for (uint32_t i = 0; i < p->n; i++) {
        assert_int_equal(p->refs[i], refs[i]);
        assert_int_equal(on_stack[i], refs[i] == 0);
    }
}

/* One more token on the session and on a fresh one with the same history: the same logits. */
static void answers_like_alone(world *w, run_session *s) {
    run_session *fresh = NULL;
    if (s->len == 0 || s->len == s->max_tok) return;
    run_row row = {s, base_rng_below(&w->rng, 97), true};
    if (run_eval(w->e, &row, 1, NULL) != ROTOR_OK) return; /* the pool is full */
    assert_int_equal(run_session_create(&fresh, w->alone, MAX_TOK, NULL), ROTOR_OK);
    assert_int_equal(run_session_sync(fresh, s->tokens, s->len, NULL, NULL, NULL, NULL), ROTOR_OK);
    assert_memory_equal(run_logits(w->alone, 0), run_logits(w->e, 0), 97 * sizeof(float));
    run_session_free(&fresh);
}

static run_session *any(world *w) { return w->s[base_rng_below(&w->rng, N)]; }

/* Rows of several sessions, each as often as it falls; now and then a token that does not exist. */
static void extend(world *w) {
    run_row rows[CHUNK];
    uint32_t len[N] = {0}, n = 0, want = 1 + base_rng_below(&w->rng, CHUNK),
             free_before = w->e->pages.n_free;
    bool spoil = base_rng_below(&w->rng, 8) == 0;
    uint32_t borders = 0;
    while (n < want) {
        run_session *s = any(w);
        if (s && (s->len + CHUNK < s->max_tok || base_rng_below(&w->rng, 60) == 0))
            rows[n++] = (run_row){s, base_rng_below(&w->rng, 97), base_rng_below(&w->rng, 4) == 0};
        else if (base_rng_below(&w->rng, 20) == 0)
            break;
    }
    if (n == 0) return;
    if (spoil) rows[n - 1].token = 97;
    for (int i = 0; i < N; i++) len[i] = w->s[i] ? w->s[i]->len : 0;
    rotor_status st = run_eval(w->e, rows, n, NULL);
    for (int i = 0; i < N; i++) {
        uint32_t mine = 0;
        for (uint32_t r = 0; r < n; r++) mine += rows[r].s == w->s[i];
        if (!w->s[i]) continue;
        assert_int_equal(w->s[i]->len, len[i] + (st == ROTOR_OK ? mine : 0));
        borders +=
            (len[i] + mine + KERN_KEYS - 1) / KERN_KEYS - (len[i] + KERN_KEYS - 1) / KERN_KEYS;
    }
    for (int i = 0; i < N; i++)
        w->split += st == ROTOR_OK && n <= 8 && w->s[i] && len[i] > KERN_SPAN;
    w->full += st == ROTOR_E_FULL;
    w->bad += st == ROTOR_E_ARG;
    w->copied += st == ROTOR_OK && free_before - w->e->pages.n_free > borders;
}

/* What a step added can always be taken back, and some more; further back what is kept ends at a
 * mark, or there is none. */
static void rewind_some(world *w, run_session *s) {
    const uint32_t len = s->len, n = len - base_rng_below(&w->rng, len / 2 + 1);
    const bool within = run_has_window(s, n);
    uint32_t at_mark = 0;
    for (uint32_t m = 0; m < s->n_marks; m++)
        if (s->mark[m].pos <= n) at_mark = s->mark[m].pos;
    assert_true(within || len - n > CHUNK);
    const uint32_t kept = run_session_rewind(s, n);
    assert_true(kept == n || (!within && kept >= at_mark && kept < n));
    assert_int_equal(s->len, kept);
    w->gone += kept != n;
    w->marked += !within && kept > 0;
}

static void one_step(world *w) {
    const uint32_t i = base_rng_below(&w->rng, N), what = base_rng_below(&w->rng, 30);
    if (!w->s[i]) {
        uint32_t max = MAX_TOK - base_rng_below(&w->rng, MAX_TOK * 3 / 4);
        assert_int_equal(run_session_create(&w->s[i], w->e, max, NULL), ROTOR_OK);
        const run_session *src = any(w);
        if (src && src != w->s[i] && src->len) {
            uint32_t n = base_rng_below(&w->rng, src->len + 1);
            const bool reached = run_session_reach(src, n) == n;
            rotor_status st = run_session_fork(w->s[i], src, n, NULL);
            assert_int_equal(st, n > max ? ROTOR_E_FULL : reached ? ROTOR_OK : ROTOR_E_UNSUPPORTED);
            w->gone += !reached;
            w->marked += st == ROTOR_OK && !run_has_window(src, n);
        }
    } else if (what == 0)
        run_session_free(&w->s[i]);
    else if (what <= 4)
        rewind_some(w, w->s[i]);
    else if (what <= 6)
        answers_like_alone(w, w->s[i]);
    else {
        extend(w);
        if (w->s[i]->len % 8 == 0) run_session_mark(w->s[i], true);
    }
}

static void live(tiny_kind kind, uint32_t n_layer) {
    char path[96];
    world w = {0};
    const model_options mo = {.i2s = -1};
    const tiny_shape small = {n_layer, 64, 2, 1, 64, 97, 512};
    base_rng_seed(&w.rng, 77);
    tiny_write(tiny_path(path, "pages.gguf"), kind, small, 3, NULL);
    assert_int_equal(par_create(&w.pool, 2, false, NULL), ROTOR_OK);
    assert_int_equal(model_open(&w.m, path, &mo, NULL), ROTOR_OK);
    w.e = engine(&w, PAGES, N);
    w.alone = engine(&w, MAX_TOK / KERN_KEYS + 1, 0);
    assert_int_equal(w.e->ring.n != 0, kind == TINY_GPT_OSS);
    assert_int_equal(w.alone->ring.n, 0);
    for (int i = 0; i < STEPS; i++) {
        one_step(&w);
        pages_add_up(&w, false);
        if (w.e->ring.n) pages_add_up(&w, true);
    }
    for (int i = 0; i < N; i++) run_session_free(&w.s[i]);
    assert_int_equal(run_free_pages(w.e), PAGES);
    assert_int_equal(w.e->ring.n_free, w.e->ring.n);
    print_message("%u full, %u bad, %u copied, %u split, %u gone, %u marked\n", w.full, w.bad,
                  w.copied, w.split, w.gone, w.marked);
    assert_int_equal(w.gone > 5, kind == TINY_GPT_OSS);
    assert_int_equal(w.marked > 0, kind == TINY_GPT_OSS);
    assert_true(w.full > 20 && w.bad > 20 && w.copied > 15 &&
                w.split > 20); /* every border was visited */
    run_free(&w.e);
    run_free(&w.alone);
    model_close(&w.m);
    par_free(&w.pool);
    unlink(path);
}

static void a_random_life_keeps_pages_and_answers(void **state) {
    (void)state;
    live(TINY_LLAMA_F32, 1);
}

static void layers_with_a_window_keep_only_that(void **state) {
    (void)state;
    live(TINY_GPT_OSS, 3);
}

/* Two timelines of the same tokens, of which only one had a window; and, from here on, the same
 * logits. */
static void same_from(run_session *s, run_session *whole, uint32_t n) {
    const size_t bytes = 97 * sizeof(float);
    assert_int_equal(s->len, n);
    run_session_rewind(whole, n);
    for (uint32_t i = 0; i < 2 * KERN_KEYS; i++) {
        const run_row a = {s, (n + i * 5) % 97, true}, b = {whole, (n + i * 5) % 97, true};
        assert_int_equal(run_eval(s->e, &a, 1, NULL), ROTOR_OK);
        assert_int_equal(run_eval(whole->e, &b, 1, NULL), ROTOR_OK);
        assert_memory_equal(run_logits(s->e, 0), run_logits(whole->e, 0), bytes);
    }
}

static run_session *long_one(run_engine *e, uint32_t n) {
    uint32_t line[MAX_TOK];
    run_session *s = NULL;
    for (uint32_t i = 0; i < n; i++) line[i] = (i * 31 + i / 5) % 97;
    assert_int_equal(run_session_create(&s, e, MAX_TOK, NULL), ROTOR_OK);
    for (uint32_t at = 100; at < n; at += 150) /* prompts, and answers between them */
        assert_int_equal(run_session_sync(s, line, at, NULL, NULL, NULL, NULL), ROTOR_OK);
    assert_int_equal(run_session_sync(s, line, n, NULL, NULL, NULL, NULL), ROTOR_OK);
    return s;
}

/* Far beyond the window there is a way back to each end of a prompt that is remembered: by this
 * session, by one that shares it, after pages have run short. */
static void marks_are_ways_back(void **state) {
    (void)state;
    char path[96];
    world w = {0};
    const model_options mo = {.i2s = -1};
    const tiny_shape small = {3, 64, 2, 1, 64, 97, 512};
    tiny_write(tiny_path(path, "marks.gguf"), TINY_GPT_OSS, small, 3, NULL);
    assert_int_equal(par_create(&w.pool, 2, false, NULL), ROTOR_OK);
    assert_int_equal(model_open(&w.m, path, &mo, NULL), ROTOR_OK);
    unlink(path);
    w.e = engine(&w, 2 * PAGES, 2);
    w.alone = engine(&w, MAX_TOK / KERN_KEYS + 1, 0);
    run_session *a = long_one(w.e, 850), *whole = long_one(w.alone, 850), *b = NULL;
    assert_int_equal(run_session_create(&b, w.e, MAX_TOK, NULL), ROTOR_OK);
    assert_int_equal(run_session_reach(a, 845), 845); /* the ring has it */
    assert_int_equal(run_session_reach(a, 420), 400); /* of 100, 250, 400 and so on */
    assert_int_equal(run_session_reach(a, 399), 399); /* the prompt once more */
    assert_int_equal(run_session_reach(a, 99), 99);   /* all the way to the first */
    assert_int_equal(run_session_fork(b, a, 420, NULL), ROTOR_E_UNSUPPORTED);
    assert_int_equal(run_session_fork(b, a, 399, NULL), ROTOR_OK);
    same_from(b, whole, 399);
    assert_int_equal(run_session_reach(b, 300), 300);  /* its ring goes back that far */
    assert_int_equal(run_session_rewind(b, 102), 100); /* a mark that came with the share */
    same_from(b, whole, 100);
    run_session_free(&whole);
    whole = long_one(w.alone, 850);
    assert_int_equal(run_session_rewind(a, 420), 400);
    same_from(a, whole, 400);
    assert_true(run_session_reach(a, 251) > 0);
    while (run_shed_mark(w.e)) {
    }
    assert_int_equal(run_session_reach(a, 101), 0); /* nothing is kept, and nothing is wrong */
    assert_int_equal(run_session_rewind(a, 101), 0);
    run_session_free(&a);
    run_session_free(&b);
    run_session_free(&whole);
    assert_int_equal(w.e->ring.n_free, w.e->ring.n);
    run_free(&w.e);
    run_free(&w.alone);
    model_close(&w.m);
    par_free(&w.pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_are_ways_back),
        cmocka_unit_test(a_random_life_keeps_pages_and_answers),
        cmocka_unit_test(layers_with_a_window_keep_only_that),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
