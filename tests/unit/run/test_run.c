/* SPDX-License-Identifier: MIT
 *
 * run: the numerics contract. Logits are the same bits however they were reached: any CPU level,
 * thread count, prompt chunk, batch neighbour, rewound, shared or fresh cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "run/run.h"
#include "tiny_model.h"

/* ==== A model on an engine ==================================================================== */

typedef struct rig {
    par_pool *pool; /* threads */
    model *m;       /* weights */
    run_engine *e;  /* engine */
    run_session *s; /* one session */
} rig;

typedef struct setting {
    unsigned cpu;     /* kernel level */
    int n_threads;    /* pool size */
    uint32_t chunk;   /* rows per step */
    kern_kv kv;       /* cache type */
    uint32_t n_pages; /* 0: 70 */
    bool float_act;   /* --act f32 */
} setting;

static void share(void *pool, void (*fn)(void *, int, int), void *arg) { par_run(pool, fn, arg); }

static void rig_up(rig *r, const char *path, setting set) {
    rotor_error err = {0};
    memset(r, 0, sizeof *r);
    assert_int_equal(par_create(&r->pool, set.n_threads, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1, .parallel = {share, r->pool}};
    if (model_open(&r->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const run_options ro = {.cpu = set.cpu & cpu_detect(),
                            .kv = set.kv,
                            .chunk = set.chunk,
                            .n_pages = set.n_pages ? set.n_pages : 70,
                            .float_act = set.float_act,
                            .solo_bytes = 1};
    if (run_create(&r->e, r->m, r->pool, &ro, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(run_session_create(&r->s, r->e, 4200, &err), ROTOR_OK);
}

static void rig_down(rig *r) {
    run_session_free(&r->s);
    run_free(&r->e);
    model_close(&r->m);
    par_free(&r->pool);
}

static uint32_t token_at(uint32_t i) { return (i * 37u + i / 11u * 5u) % 95u; }

/* Logits after positions [0, n) evaluated in one go or by chunks; a copy to free. */
static float *logits_after(rig *r, uint32_t n) {
    uint32_t *tokens = malloc(n * sizeof *tokens);
    rotor_error err = {0};
    for (uint32_t i = 0; i < n; i++) tokens[i] = token_at(i);
    if (run_session_sync(r->s, tokens, n, NULL, NULL, NULL, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    free(tokens);
    size_t bytes = r->m->hp.n_vocab * sizeof(float);
    return memcpy(malloc(bytes), run_logits(r->e, 0), bytes);
}

static void same_bits(const rig *r, const float *a, const float *b, const char *what, uint32_t n) {
    if (memcmp(a, b, r->m->hp.n_vocab * sizeof *a) == 0) return;
    for (uint32_t i = 0; i < r->m->hp.n_vocab; i++)
        if (memcmp(a + i, b + i, 4) != 0)
            fail_msg("%s at %u positions: logit %u is %.9g, expected %.9g", what, n, i,
                     (double)b[i], (double)a[i]);
}

static const uint32_t lengths[] = {1, 31, 32, 33, 127, 512};

/* Under a checker that slows the program ten times, the longest runs are shortened. */
static bool quick(void) { return getenv("ROTOR_TEST_QUICK") != NULL; }

/* ==== One path against another ================================================================ */

static void check_paths(const char *path, tiny_kind kind) {
    rig ref;
    rig_up(&ref, path, (setting){~0u, 1, 512, KERN_KV_F16, 0, false});
    for (size_t i = 0; i < BASE_COUNT(lengths) - quick(); i++) {
        uint32_t n = lengths[i];
        run_session_rewind(ref.s, 0);
        float *want = logits_after(&ref, n);
        const uint32_t chunks[] = {1, 7, 64};
        for (size_t c = 0; c < BASE_COUNT(chunks); c++) {
            rig r;
            rig_up(&r, path, (setting){~0u, 2, chunks[c], KERN_KV_F16, 0, false});
            float *got = logits_after(&r, n);
            same_bits(&ref, want, got, tiny_names[kind], n);
            free(got);
            if (n > 1) { /* beyond, then back: rewound equals uncached */
                free(logits_after(&r, n + 70));
                run_session_rewind(r.s, n / 2);
                got = logits_after(&r, n);
                same_bits(&ref, want, got, "rewound", n);
                free(got);
            }
            rig_down(&r);
        }
        free(want);
    }
    rig_down(&ref);
}

static void chunked_cached_and_rewound_are_the_same_bits(void **state) {
    (void)state;
    char path[96];
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        tiny_write(tiny_path(path, "paths.gguf"), (tiny_kind)kind, tiny_default(), 7, NULL);
        check_paths(path, (tiny_kind)kind);
        unlink(path);
    }
}

/* The type the weights are stored in is not to be seen in the logits: prompts, short ones, one
 * token at a time; with and without rounded activations. */
static void t5_and_i2s_are_the_same_bits(void **state) {
    (void)state;
    char a_path[96], b_path[96];
    tiny_write(tiny_path(a_path, "i2s.gguf"), TINY_BITNET, tiny_default(), 21, NULL);
    tiny_write(tiny_path(b_path, "t5.gguf"), TINY_BITNET_T5, tiny_default(), 21, NULL);
    const uint32_t chunks[] = {1, 3, 64};
    for (size_t c = 0; c < 2 * BASE_COUNT(chunks); c++) {
        const setting set = {.cpu = ~0u,
                             .n_threads = 2,
                             .chunk = chunks[c / 2],
                             .kv = KERN_KV_F16,
                             .float_act = c % 2};
        rig a, b;
        rig_up(&a, a_path, set);
        rig_up(&b, b_path, set);
        assert_int_equal(b.m->layers[0].up.type, QUANT_T5);
        float *want = logits_after(&a, 70), *got = logits_after(&b, 70);
        same_bits(&a, want, got, "T5", 70);
        free(want);
        free(got);
        rig_down(&a);
        rig_down(&b);
    }
    unlink(a_path);
    unlink(b_path);
}

static void every_cpu_level_and_thread_count_is_the_same_bits(void **state) {
    (void)state;
    char path[96];
    const char *level;
    unsigned mask;
    for (int kind = 0; kind < TINY_KINDS; kind++)
        for (int kv = KERN_KV_F32; kv <= KERN_KV_Q8; kv++) {
            rig ref;
            tiny_write(tiny_path(path, "levels.gguf"), (tiny_kind)kind, tiny_default(), 8, NULL);
            rig_up(&ref, path, (setting){0, 1, 64, (kern_kv)kv, 0, false});
            float *want = logits_after(&ref, 129);
            for (size_t i = 0; (level = cpu_level_at(i, &mask)); i++)
                for (int threads = 1; threads <= 4; threads++) {
                    rig r;
                    bool top = (cpu_detect() & ~mask) == 0; /* all thread counts at the top level */
                    if ((cpu_detect() & mask) != mask || (!top && threads != 1 + (int)i % 4))
                        continue;
                    rig_up(&r, path, (setting){mask, threads, 64, (kern_kv)kv, 0, false});
                    float *got = logits_after(&r, 129);
                    same_bits(&ref, want, got, level, 129);
                    free(got);
                    rig_down(&r);
                }
            free(want);
            rig_down(&ref);
            unlink(path);
        }
}

/* Four thousand positions: the whole context of the model Rotor was built for. */
static void four_thousand_positions_are_the_same_bits(void **state) {
    (void)state;
    char path[96];
    const char *level;
    unsigned mask;
    const tiny_shape s = {1, 128, 2, 1, 128, 97, 8192};
    const uint32_t n = quick() ? 640 : 4096;
    rig ref;
    tiny_write(tiny_path(path, "long.gguf"), TINY_BITNET, s, 9, NULL);
    rig_up(&ref, path, (setting){~0u, 1, 1, KERN_KV_F16, 0, false});
    float *want = logits_after(&ref, n);
    for (size_t i = 0; (level = cpu_level_at(i, &mask)); i++) {
        rig r;
        if ((cpu_detect() & mask) != mask) continue;
        rig_up(&r, path, (setting){mask, 2 + (int)i % 3, i % 2 ? 7 : 512, KERN_KV_F16, 0, false});
        float *got = logits_after(&r, n);
        same_bits(&ref, want, got, level, n);
        free(got);
        rig_down(&r);
    }
    free(want);
    rig_down(&ref);
    unlink(path);
}

/* ==== Neighbours and shared pages ============================================================= */

static void batch_neighbours_do_not_matter(void **state) {
    (void)state;
    enum { N = 5, STEPS = 140 };
    char path[96];
    rig alone, together;
    tiny_write(tiny_path(path, "batch.gguf"), TINY_BITNET, tiny_default(), 10, NULL);
    rig_up(&alone, path, (setting){~0u, 1, 64, KERN_KV_F16, 0, false});
    rig_up(&together, path, (setting){~0u, 2, 64, KERN_KV_F16, 0, false});
    run_session *s[N];
    for (int i = 0; i < N; i++)
        assert_int_equal(run_session_create(&s[i], together.e, 300, NULL), ROTOR_OK);
    for (uint32_t step = 0; step < STEPS; step++) {
        run_row rows[N]; /* session i runs i * 3 positions ahead of its own clock */
        for (uint32_t i = 0; i < N; i++) rows[i] = (run_row){s[i], token_at(step + 3 * i), true};
        assert_int_equal(run_eval(together.e, rows, N, NULL), ROTOR_OK);
    }
    for (uint32_t i = 0; i < N; i++) {
        run_row row;
        run_session_rewind(alone.s, 0);
        for (uint32_t step = 0; step < STEPS; step++) {
            row = (run_row){alone.s, token_at(step + 3 * i), true};
            assert_int_equal(run_eval(alone.e, &row, 1, NULL), ROTOR_OK);
        }
        same_bits(&alone, run_logits(alone.e, 0), run_logits(together.e, i), "batched", STEPS);
    }
    for (int i = 0; i < N; i++) run_session_free(&s[i]);
    rig_down(&alone);
    rig_down(&together);
    unlink(path);
}

static void forks_share_pages_and_part_ways(void **state) {
    (void)state;
    char path[96];
    rig a, b;
    run_session *fork = NULL;
    tiny_write(tiny_path(path, "fork.gguf"), TINY_BITNET, tiny_default(), 11, NULL);
    rig_up(&a, path, (setting){~0u, 2, 64, KERN_KV_F16, 0, false});
    rig_up(&b, path, (setting){~0u, 2, 64, KERN_KV_F16, 0, false});
    free(logits_after(&a, 100));
    uint32_t before = run_free_pages(a.e);
    assert_int_equal(run_session_create(&fork, a.e, 200, NULL), ROTOR_OK);
    assert_int_equal(run_session_fork(fork, a.s, 80, NULL), ROTOR_OK);
    assert_int_equal(run_free_pages(a.e), before); /* sharing costs nothing */
    for (uint32_t i = 80; i < 140; i++) {          /* the fork goes its own way … */
        run_row row = {fork, token_at(i + 1000), true};
        assert_int_equal(run_eval(a.e, &row, 1, NULL), ROTOR_OK);
    }
    float *forked = memcpy(malloc(97 * 4), run_logits(a.e, 0), 97 * 4);
    float *original = logits_after(&a, 130); /* … and the original is untouched */
    float *want = logits_after(&b, 130);
    same_bits(&a, want, original, "original after a fork", 130);
    run_session_rewind(b.s, 80);
    for (uint32_t i = 80; i < 140; i++) {
        run_row row = {b.s, token_at(i + 1000), true};
        assert_int_equal(run_eval(b.e, &row, 1, NULL), ROTOR_OK);
    }
    same_bits(&a, run_logits(b.e, 0), forked, "fork", 140);
    free(forked);
    free(original);
    free(want);
    run_session_free(&fork);
    run_session_rewind(a.s, 0);
    assert_int_equal(run_free_pages(a.e), 70); /* every page came back */
    rig_down(&a);
    rig_down(&b);
    unlink(path);
}

/* ==== Limits ================================================================================== */

static void full_pools_and_bad_tokens_change_nothing(void **state) {
    (void)state;
    char path[96];
    rig r;
    rotor_error err = {0};
    tiny_write(tiny_path(path, "full.gguf"), TINY_BITNET, tiny_default(), 12, NULL);
    rig_up(&r, path, (setting){~0u, 1, 64, KERN_KV_F16, 2, false});
    free(logits_after(&r, 128));
    run_row row = {r.s, 1, true};
    assert_int_equal(run_eval(r.e, &row, 1, &err), ROTOR_E_FULL);
    assert_int_equal(run_session_len(r.s), 128);
    run_session_rewind(r.s, 100);
    run_row rows[] = {{r.s, 1, false}, {r.s, 2, false}, {r.s, 97, true}};
    assert_int_equal(run_eval(r.e, rows, 3, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "token id 97"));
    assert_int_equal(run_session_len(r.s), 100);
    uint32_t *many = calloc(5000, sizeof *many);
    assert_int_equal(run_session_sync(r.s, many, 5000, NULL, NULL, NULL, &err), ROTOR_E_FULL);
    free(many);
    rig_down(&r);
    unlink(path);
}

static bool stop_at_64(void *user, uint32_t done, uint32_t total) {
    (void)total;
    *(uint32_t *)user = done;
    return done < 64;
}

static void prompts_can_be_cancelled_and_resumed(void **state) {
    (void)state;
    char path[96];
    rig r, fresh;
    uint32_t seen = 0, reused = 0, tokens[200];
    tiny_write(tiny_path(path, "cancel.gguf"), TINY_BITNET, tiny_default(), 13, NULL);
    rig_up(&r, path, (setting){~0u, 2, 32, KERN_KV_F16, 0, false});
    rig_up(&fresh, path, (setting){~0u, 2, 32, KERN_KV_F16, 0, false});
    for (uint32_t i = 0; i < 200; i++) tokens[i] = token_at(i);
    assert_int_equal(run_session_sync(r.s, tokens, 200, stop_at_64, &seen, NULL, NULL),
                     ROTOR_E_CANCELLED);
    assert_int_equal(seen, 64);
    assert_int_equal(run_session_sync(r.s, tokens, 200, NULL, NULL, &reused, NULL), ROTOR_OK);
    assert_int_equal(reused, 64);
    float *want = logits_after(&fresh, 200);
    same_bits(&r, want, run_logits(r.e, 0), "resumed", 200);
    free(want);
    assert_int_equal(run_session_sync(r.s, tokens, 200, NULL, NULL, &reused, NULL), ROTOR_OK);
    assert_int_equal(reused, 199); /* the same prompt again costs one token */
    rig_down(&r);
    rig_down(&fresh);
    unlink(path);
}

static void nothing_is_allocated_once_a_session_runs(void **state) {
    (void)state;
    char path[96];
    rig r;
    tiny_write(tiny_path(path, "alloc.gguf"), TINY_BITNET, tiny_default(), 14, NULL);
    rig_up(&r, path, (setting){~0u, 2, 32, KERN_KV_F16, 0, false});
    uint64_t before = base_alloc_count();
    for (uint32_t i = 0; i < 100; i++) {
        run_row row = {r.s, token_at(i), true};
        assert_int_equal(run_eval(r.e, &row, 1, NULL), ROTOR_OK);
    }
    assert_int_equal(base_alloc_count(), before);
    rig_down(&r);
    unlink(path);
}

static rotor_status open_and_close(const char *path) {
    model *m = NULL;
    run_engine *e = NULL;
    run_session *s = NULL;
    par_pool *pool = NULL;
    rotor_status st = par_create(&pool, 1, false, NULL);
    const model_options mo = {.i2s = -1};
    const run_options ro = {.n_pages = 2, .chunk = 8, .head = RUN_HEAD_Q8};
    if (st == ROTOR_OK) st = model_open(&m, path, &mo, NULL);
    if (st == ROTOR_OK) st = run_create(&e, m, pool, &ro, NULL);
    if (st == ROTOR_OK) st = run_session_create(&s, e, 100, NULL);
    run_session_free(&s);
    run_free(&e);
    model_close(&m);
    par_free(&pool);
    return st;
}

static void opening_survives_every_fault(void **state) {
    (void)state;
    char path[96];
    const tiny_shape small = {1, 256, 2, 1, 256, 97, 128};
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        tiny_write(tiny_path(path, "fault.gguf"), (tiny_kind)kind, small, 15, NULL);
        bool fired = true;
        for (long n = 1; fired; n++) {
            assert_true(n < 5000);
            base_fault_after(n);
            rotor_status st = open_and_close(path);
            fired = base_fault_fired();
            base_fault_after(0);
            assert_int_equal(st == ROTOR_OK, !fired);
        }
        unlink(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunked_cached_and_rewound_are_the_same_bits),
        cmocka_unit_test(t5_and_i2s_are_the_same_bits),
        cmocka_unit_test(every_cpu_level_and_thread_count_is_the_same_bits),
        cmocka_unit_test(four_thousand_positions_are_the_same_bits),
        cmocka_unit_test(batch_neighbours_do_not_matter),
        cmocka_unit_test(forks_share_pages_and_part_ways),
        cmocka_unit_test(full_pools_and_bad_tokens_change_nothing),
        cmocka_unit_test(prompts_can_be_cancelled_and_resumed),
        cmocka_unit_test(nothing_is_allocated_once_a_session_runs),
        cmocka_unit_test(opening_survives_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
