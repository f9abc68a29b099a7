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

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "line_rig.h"
#include "lora_file.h"

enum { TOKENS = 70 };

static char path[96], lora[96];

typedef struct setting {
    unsigned cpu;   /* kernel level */
    int n_threads;  /* pool size */
    uint32_t chunk; /* rows per step */
    float strength; /* of the adapter; 0: none is loaded */
    bool float_act; /* --act f32 */
} setting;

/* Logits after TOKENS tokens, and after one more: both walks of a step. To free. */
static float *logits_with(setting set) {
    line_rig r;
    line_open(&r, path, set.strength != 0 ? lora : NULL, set.n_threads);
    line_up(&r, (run_options){.cpu = set.cpu & cpu_detect(),
                              .kv = KERN_KV_F32,
                              .chunk = set.chunk,
                              .n_pages = 4,
                              .float_act = set.float_act,
                              .solo_bytes = 1,
                              .adapter_strength = set.strength});
    const size_t n = r.m->hp.n_vocab;
    float *out = malloc(2 * n * sizeof *out);
    for (uint32_t i = 0; i < 2; i++)
        memcpy(out + i * n, line_logits(&r, TOKENS + i), n * sizeof *out);
    line_down(&r);
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
            const double far = line_distance(want, base, n);
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
