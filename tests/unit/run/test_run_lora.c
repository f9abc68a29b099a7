/* SPDX-License-Identifier: MIT
 *
 * An adapter in the forward pass: B = 0 gives the model's own logits bit for bit; any other gives
 * others, the same bits at any CPU level, number of threads and prompt chunk. What it adds is
 * compared with plain arithmetic in tests/golden/test_lora.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "lora_file.h"
#include "run/run.h"

enum { TOKENS = 70 };

static char path[96], lora[96];

typedef struct rig {
    par_pool *pool;   /* threads */
    model *m;         /* weights */
    model_adapter *a; /* beside them, or NULL */
    run_engine *e;    /* engine */
    run_session *s;   /* one session */
} rig;

typedef struct setting {
    unsigned cpu;   /* kernel level */
    int n_threads;  /* pool size */
    uint32_t chunk; /* rows per step */
    float strength; /* of the adapter; 0: none is loaded */
    bool float_act; /* --act f32 */
} setting;

static void rig_up(rig *r, setting set) {
    rotor_error err = {0};
    memset(r, 0, sizeof *r);
    assert_int_equal(par_create(&r->pool, set.n_threads, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1};
    if (model_open(&r->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    if (set.strength != 0 && model_adapter_open(&r->a, lora, r->m, &mo, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    const run_options ro = {.cpu = set.cpu & cpu_detect(),
                            .kv = KERN_KV_F32,
                            .chunk = set.chunk,
                            .n_pages = 4,
                            .float_act = set.float_act,
                            .solo_bytes = 1,
                            .adapter = r->a,
                            .adapter_strength = set.strength};
    if (run_create(&r->e, r->m, r->pool, &ro, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(run_session_create(&r->s, r->e, 200, &err), ROTOR_OK);
}

static void rig_down(rig *r) {
    run_session_free(&r->s);
    run_free(&r->e);
    model_adapter_close(&r->a);
    model_close(&r->m);
    par_free(&r->pool);
}

/* Logits after TOKENS tokens, and after one more: both walks of a step. To free. */
static float *logits_with(setting set) {
    rig r;
    rotor_error err = {0};
    uint32_t tokens[TOKENS + 1];
    for (uint32_t i = 0; i <= TOKENS; i++) tokens[i] = (i * 37u + i / 11u * 5u) % 95u;
    rig_up(&r, set);
    const size_t n = r.m->hp.n_vocab;
    float *out = malloc(2 * n * sizeof *out);
    for (uint32_t i = 0; i < 2; i++) {
        if (run_session_sync(r.s, tokens, TOKENS + i, NULL, NULL, NULL, &err) != ROTOR_OK)
            fail_msg("%s", err.message);
        memcpy(out + i * n, run_logits(r.e, 0), n * sizeof *out);
    }
    rig_down(&r);
    return out;
}

static const char *arch_of(int kind) { return kind <= TINY_BITNET_T5 ? "bitnet-b1.58" : "llama"; }

static void make(int kind, uint32_t rank, uint32_t type, float b) {
    lora_file f;
    tiny_write(path, (tiny_kind)kind, tiny_default(), 11, NULL);
    lora_file_start(&f, arch_of(kind), tiny_default(), rank, type, b);
    lora_file_write(&f, lora, 5);
}

static void zero_adds_nothing(void **state) {
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        make(kind, 4, QUANT_F32, 0);
        for (int n_threads = 1; n_threads < 3; n_threads++) {
            float *base = logits_with((setting){~0u, n_threads, 64, 0, false});
            float *with = logits_with((setting){~0u, n_threads, 64, 1, false});
            assert_memory_equal(base, with, 2 * tiny_default().n_vocab * sizeof *base);
            free(base);
            free(with);
        }
    }
}

static double distance(const float *a, const float *b, size_t n) {
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(diff / norm);
}

static void every_path_gives_the_same_bits(void **state) {
    (void)state;
    const struct {
        uint32_t rank, type; /* of the adapter */
    } forms[] = {{1, QUANT_F32}, {8, QUANT_F16}, {21, QUANT_BF16}};
    const setting ways[] = {{~0u, 2, 64, 1, false},
                            {~0u, 1, 1, 1, false},
                            {~0u, 2, 1, 1, false},
                            {~0u, 3, 7, 1, false},
                            {0, 2, 16, 1, false}};
    const size_t n = 2 * tiny_default().n_vocab;
    for (int kind = 0; kind < TINY_KINDS; kind++)
        for (size_t i = 0; i < BASE_COUNT(forms); i++) {
            make(kind, forms[i].rank, forms[i].type, 0.1f);
            float *base = logits_with((setting){~0u, 1, 64, 0, false});
            float *want = logits_with((setting){~0u, 1, 64, 1, false});
            const double far = distance(want, base, n);
            if (far < 0.01) fail_msg("%s: the adapter changes %.1e only", tiny_names[kind], far);
            for (size_t w = 0; w < BASE_COUNT(ways); w++) {
                float *got = logits_with(ways[w]);
                if (memcmp(want, got, n * sizeof *want) != 0)
                    fail_msg("%s, rank %u: way %zu gives other bits", tiny_names[kind],
                             forms[i].rank, w);
                free(got);
            }
            free(base);
            free(want);
        }
}

/* Half the strength and twice alpha is the same adapter; none at all is the model. */
static void strength_multiplies_alpha(void **state) {
    (void)state;
    lora_file f;
    make(TINY_BITNET, 4, QUANT_F32, 0.1f);
    float *one = logits_with((setting){~0u, 1, 64, 1, false});
    lora_file_start(&f, arch_of(TINY_BITNET), tiny_default(), 4, QUANT_F32, 0.1f);
    f.alpha *= 2;
    lora_file_write(&f, lora, 5);
    float *half = logits_with((setting){~0u, 1, 64, 0.5f, false});
    assert_memory_equal(one, half, 2 * tiny_default().n_vocab * sizeof *one);
    free(one);
    free(half);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_adds_nothing),
        cmocka_unit_test(every_path_gives_the_same_bits),
        cmocka_unit_test(strength_multiplies_alpha),
    };
    tiny_path(path, "run-lora.gguf");
    tiny_path(lora, "run-lora-adapter.gguf");
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    unlink(lora);
    return failed;
}
