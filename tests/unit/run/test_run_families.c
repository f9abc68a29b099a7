/* SPDX-License-Identifier: MIT
 *
 * run: the numerics contract for the families whose pass has words of its own: LayerNorm and its
 * bias, activations without a gate, learned positions, norms behind blocks, caps, two rotations.
 * Small checkpoints of tests/data/golden, run row by row on two threads, in chunks on one, across
 * the seams of a divided model and by the plainest kernels: always the same bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "run/run.h"

static const char *const families[] = {"gpt2", "starcoder2", "gemma2", "gemma3"};
enum { N_TOK = 40, CTX = 64 };

static model *open_family(const char *name) {
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    const model_options mo = {.i2s = -1};
    char path[512];
    rotor_error err = {0};
    model *m = NULL;
    snprintf(path, sizeof path, "%s/tests/data/golden/fam-%s", root ? root : ".", name);
    if (model_open(&m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return m;
}

typedef struct way {
    const char *what; /* for messages */
    unsigned cpu;     /* kernel level */
    int n_threads;    /* pool size */
    uint32_t chunk;   /* rows per step */
    uint32_t layers;  /* on a device of their own; 0: not divided */
} way;

/* Logits of the last of N_TOK tokens; to be freed. */
static float *logits_by(const model *m, const way *w, bool float_act) {
    par_pool *pool = NULL;
    run_engine *e = NULL;
    run_session *s = NULL;
    uint32_t tokens[N_TOK];
    rotor_error err = {0};
    const run_options ro = {.cpu = w->cpu & cpu_detect(),
                            .n_pages = 2,
                            .n_ctx = CTX,
                            .chunk = w->chunk,
                            .device_layers = w->layers,
                            .float_act = float_act,
                            .solo_bytes = 1};
    for (uint32_t i = 0; i < N_TOK; i++) tokens[i] = (i * 37 + i / 11 * 5) % 125;
    assert_int_equal(par_create(&pool, w->n_threads, false, &err), ROTOR_OK);
    if (run_create(&e, m, pool, &ro, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(run_session_create(&s, e, CTX, &err), ROTOR_OK);
    if (run_session_sync(s, tokens, N_TOK, NULL, NULL, NULL, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    const size_t bytes = m->hp.n_vocab * sizeof(float);
    float *out = memcpy(malloc(bytes), run_logits(e, 0), bytes);
    run_session_free(&s);
    run_free(&e);
    par_free(&pool);
    return out;
}

static void every_way_gives_the_same_bits(void **state) {
    (void)state;
    static const way ways[] = {{"in chunks of 32", ~0u, 1, 32, 0},
                               {"row by row, two threads", ~0u, 2, 1, 0},
                               {"in chunks of 7, three threads", ~0u, 3, 7, 0},
                               {"in C", 0, 2, 5, 0},
                               {"one layer apart", ~0u, 2, 8, 1},
                               {"one layer apart, row by row", ~0u, 1, 1, 1}};
    for (size_t f = 0; f < 2 * BASE_COUNT(families); f++) {
        model *m = open_family(families[f / 2]);
        float *want = logits_by(m, &ways[0], f & 1);
        for (size_t i = 1; i < BASE_COUNT(ways); i++) {
            float *got = logits_by(m, &ways[i], f & 1);
            for (uint32_t v = 0; v < m->hp.n_vocab; v++)
                if (memcmp(&want[v], &got[v], sizeof *got) != 0)
                    fail_msg("%s, %s: logit %u is %.9g, expected %.9g", families[f / 2],
                             ways[i].what, v, (double)got[v], (double)want[v]);
            free(got);
        }
        free(want);
        model_close(&m);
    }
}

static void learned_positions_end(void **state) {
    (void)state;
    par_pool *pool = NULL;
    run_engine *e = NULL;
    run_session *s = NULL;
    rotor_error err = {0};
    model *m = open_family("gpt2"); /* of 64 positions */
    assert_int_equal(par_create(&pool, 1, false, &err), ROTOR_OK);
    run_options ro = {.cpu = cpu_detect(), .n_pages = 4, .n_ctx = 65};
    assert_int_equal(run_create(&e, m, pool, &ro, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "has learned 64"));
    ro.n_ctx = 0; /* as many as there are */
    assert_int_equal(run_create(&e, m, pool, &ro, &err), ROTOR_OK);
    assert_int_equal(run_session_create(&s, e, 65, &err), ROTOR_E_ARG);
    assert_null(s);
    assert_int_equal(run_session_create(&s, e, 64, &err), ROTOR_OK);
    for (uint32_t i = 0; i < 65; i++) {
        const run_row row = {.s = s, .token = i, .want_logits = i == 63};
        assert_int_equal(run_eval(e, &row, 1, &err), i < 64 ? ROTOR_OK : ROTOR_E_FULL);
    }
    run_session_free(&s);
    run_free(&e);
    par_free(&pool);
    model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_gives_the_same_bits),
        cmocka_unit_test(learned_positions_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
