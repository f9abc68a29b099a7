/* SPDX-License-Identifier: MIT
 *
 * run_embed: a text's vector is the same bits whatever shares its steps, however many steps it
 * takes and whichever thread count and CPU level it runs on; the cache is empty again afterwards,
 * also when it failed.
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

enum { N_TEXTS = 7, MOST = 100 };

typedef struct rig {
    par_pool *pool;      /* threads */
    model *m;            /* weights */
    run_engine *e;       /* engine */
    uint32_t ids[MOST];  /* what texts are the beginnings of */
    run_text t[N_TEXTS]; /* texts of many lengths */
    size_t width;        /* of a vector */
} rig;

typedef struct setting {
    unsigned cpu;     /* kernel level */
    int n_threads;    /* pool size */
    uint32_t chunk;   /* rows per step */
    uint32_t texts;   /* per step */
    uint32_t n_pages; /* of the cache */
    model_pool pool;  /* how */
    bool both_ways;   /* as an encoder */
    bool int8;        /* its float matrices rounded */
} setting;

static void rig_up(rig *r, tiny_kind kind, setting s) {
    char path[96];
    rotor_error err = {0};
    memset(r, 0, sizeof *r);
    tiny_write(tiny_path(path, "embed.gguf"), kind, tiny_default(), 7, NULL);
    assert_int_equal(par_create(&r->pool, s.n_threads, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1};
    if (model_open(&r->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    unlink(path);
    r->m->hp.both_ways = s.both_ways;
    const run_options ro = {.cpu = s.cpu & cpu_detect(),
                            .kv = KERN_KV_F32,
                            .chunk = s.chunk,
                            .max_logits = s.texts,
                            .n_pages = s.n_pages,
                            .pool = s.pool,
                            .encoder_int8 = s.int8,
                            .solo_bytes = 1};
    if (run_create(&r->e, r->m, r->pool, &ro, &err) != ROTOR_OK) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < MOST; i++) r->ids[i] = (i * 37 + 5) % r->m->hp.n_vocab;
    for (uint32_t i = 0; i < N_TEXTS; i++)
        r->t[i] = (run_text){.ids = r->ids + i % 3, .n = 1 + i * 29 % (MOST - 3)};
    r->width = model_vector_width(r->m);
}

static void rig_down(rig *r) {
    run_free(&r->e);
    model_close(&r->m);
    par_free(&r->pool);
}

static float *embed(rig *r, const run_text *t, size_t n) {
    rotor_error err = {0};
    float *out = calloc(n * r->width, sizeof *out);
    const uint32_t free_pages = run_free_pages(r->e);
    if (run_embed(r->e, t, n, out, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(run_free_pages(r->e), free_pages);
    return out;
}

/* Each text alone, in one step, on one thread. */
static float *reference(tiny_kind kind, model_pool pool, bool both_ways, bool int8) {
    rig r;
    rig_up(&r, kind, (setting){~0u, 1, 128, 1, 4, pool, both_ways, int8});
    float *all = calloc(N_TEXTS * r.width, sizeof *all);
    for (size_t i = 0; i < N_TEXTS; i++) {
        float *one = embed(&r, &r.t[i], 1);
        memcpy(all + i * r.width, one, r.width * sizeof *one);
        free(one);
    }
    rig_down(&r);
    return all;
}

static void same_vectors(tiny_kind kind, setting s) {
    float *want = reference(kind, s.pool, s.both_ways, s.int8);
    rig r;
    rig_up(&r, kind, s);
    float *got = embed(&r, r.t, N_TEXTS);
    assert_memory_equal(got, want, N_TEXTS * r.width * sizeof *got);
    free(got);
    free(want);
    rig_down(&r);
}

static void test_steps_are_shared(void **state) {
    (void)state;
    same_vectors(TINY_LLAMA_F32, (setting){~0u, 2, 600, 3, 70, MODEL_POOL_MEAN, true, false});
    same_vectors(TINY_BITNET,
                 (setting){0, 1, 600, 64, 70, MODEL_POOL_MEAN, true, false}); /* plain C */
    for (int kind = 0; kind < 2; kind++) {
        const tiny_kind k = kind ? TINY_BITNET : TINY_LLAMA_F32;
        for (model_pool p = MODEL_POOL_MEAN; p <= MODEL_POOL_LAST; p++) {
            same_vectors(k, (setting){~0u, 1, 128, 64, 70, p, false, false});
            same_vectors(k, (setting){~0u, 1, 100, 64, 3, p, true, false}); /* few pages */
        }
    }
}

/* An encoder's float matrices as bytes: near the exact vectors, and the same bits on every way. A
 * decoder's stay. */
static void test_encoder_in_bytes(void **state) {
    (void)state;
    const size_t at = 3;
    for (int both = 0; both < 2; both++) {
        rig r;
        float *exact = reference(TINY_LLAMA_F32, MODEL_POOL_MEAN, both, false);
        rig_up(&r, TINY_LLAMA_F32, (setting){~0u, 1, 128, 1, 4, MODEL_POOL_MEAN, both, true});
        float *v = embed(&r, &r.t[at], 1), *want = exact + at * r.width;
        double dot = 0, vv = 0, ww = 0;
        for (size_t i = 0; i < r.width; i++) {
            dot += (double)v[i] * (double)want[i];
            vv += (double)v[i] * (double)v[i];
            ww += (double)want[i] * (double)want[i];
        }
        assert_true(dot * dot >= 0.998 * vv * ww);
        assert_int_equal(memcmp(v, want, r.width * sizeof *v) == 0, !both);
        free(v);
        free(exact);
        rig_down(&r);
    }
    same_vectors(TINY_LLAMA_F32, (setting){~0u, 2, 600, 3, 70, MODEL_POOL_MEAN, true, true});
    same_vectors(TINY_LLAMA_F32, (setting){0, 1, 600, 64, 70, MODEL_POOL_CLS, true, true});
}

/* A decoder whose last token speaks for the text takes as many steps as it needs. */
static void test_a_text_of_many_steps(void **state) {
    (void)state;
    same_vectors(TINY_LLAMA_F32, (setting){~0u, 1, 7, 64, 8, MODEL_POOL_LAST, false, false});
    same_vectors(TINY_BITNET, (setting){~0u, 1, 1, 1, 2, MODEL_POOL_LAST, false, false});
}

/* What is behind a token changes an encoder's states, and a decoder's not. */
static void test_encoders_see_behind(void **state) {
    (void)state;
    for (int both = 0; both < 2; both++) {
        rig r;
        rig_up(&r, TINY_LLAMA_F32, (setting){~0u, 1, 128, 4, 8, MODEL_POOL_CLS, both, false});
        const run_text t[] = {{.ids = r.ids, .n = 70}, {.ids = r.ids, .n = 71}};
        float *v = embed(&r, t, 2);
        assert_int_equal(memcmp(v, v + r.width, r.width * sizeof *v) == 0, !both);
        free(v);
        rig_down(&r);
    }
}

/* Of one token the mean, the first and the last are that token: the last norm comes once in each.
 */
static void test_poolings_of_one_token_agree(void **state) {
    (void)state;
    float *of[4] = {0};
    for (model_pool p = MODEL_POOL_MEAN; p <= MODEL_POOL_LAST; p++) {
        rig r;
        rig_up(&r, TINY_LLAMA_F32, (setting){~0u, 1, 128, 4, 8, p, false, false});
        const run_text t = {.ids = r.ids, .n = 1};
        of[p] = embed(&r, &t, 1);
        if (p > MODEL_POOL_MEAN)
            assert_memory_equal(of[p], of[MODEL_POOL_MEAN], r.width * sizeof *of[p]);
        rig_down(&r);
    }
    for (int i = 0; i < 4; i++) free(of[i]);
}

static void test_too_long(void **state) {
    (void)state;
    const setting s[] = {{~0u, 1, 64, 4, 8, MODEL_POOL_MEAN, false, false},
                         {~0u, 1, 64, 4, 8, MODEL_POOL_LAST, true, false},
                         {~0u, 1, 8, 4, 1, MODEL_POOL_LAST, false, false}};
    for (size_t i = 0; i < BASE_COUNT(s); i++) {
        rig r;
        rotor_error err = {0};
        rig_up(&r, TINY_LLAMA_F32, s[i]);
        float out[4096];
        const run_text t[] = {{.ids = r.ids, .n = 3}, {.ids = r.ids, .n = 65}};
        assert_int_equal(run_embed_max(r.e), 64);
        assert_int_equal(run_embed(r.e, t, 2, out, &err), ROTOR_E_FULL);
        assert_non_null(strstr(err.message, "text 1 has 65 tokens"));
        free(embed(&r, t, 1)); /* it goes on */
        rig_down(&r);
    }
}

/* An id beyond the vocabulary in the second step: an error, and an empty cache. */
static void test_failure_leaves_nothing(void **state) {
    (void)state;
    rig r;
    rotor_error err = {0};
    rig_up(&r, TINY_LLAMA_F32, (setting){~0u, 1, 8, 2, 8, MODEL_POOL_LAST, false, false});
    float *out = calloc(4 * r.width, sizeof *out);
    const uint32_t bad[] = {1, r.m->hp.n_vocab};
    const run_text t[] = {{.ids = r.ids, .n = 11}, {.ids = bad, .n = 2}};
    assert_int_equal(run_embed(r.e, t, 2, out, &err), ROTOR_E_ARG);
    assert_int_equal(run_free_pages(r.e), 8);
    free(embed(&r, t, 1));
    free(out);
    rig_down(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_are_shared),
        cmocka_unit_test(test_a_text_of_many_steps),
        cmocka_unit_test(test_encoder_in_bytes),
        cmocka_unit_test(test_encoders_see_behind),
        cmocka_unit_test(test_poolings_of_one_token_agree),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_failure_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
