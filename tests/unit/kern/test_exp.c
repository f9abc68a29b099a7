/* SPDX-License-Identifier: MIT
 *
 * kern: the exponential behind SiLU and softmax, swept over its whole range against libm in double,
 * at every CPU level of this machine. It is reached through the two kernels that use it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>

#include "cpu/cpu.h"
#include "kern/kern.h"

/* silu(g) = g / (1 + e^-g): below -17 its error is that of the exponential. */
static double silu_error(const kern *k, double from, double to) {
    enum { N = 4096 };
    float g[N], u[N], y[N];
    double worst = 0;
    for (size_t i = 0; i < N; i++) {
        g[i] = (float)(from + (to - from) * (double)i / N);
        u[i] = 1;
    }
    k->glu(y, g, u, N, KERN_SILU);
    for (size_t i = 0; i < N; i++) {
        double want = (double)g[i] / (1 + exp(-(double)g[i]));
        if (want != 0) worst = fmax(worst, fabs((double)y[i] / want - 1));
    }
    return worst;
}

/* Two keys whose scores differ by x and whose values are (1, 0) and (0, 1): out[1] / out[0] = e^x.
 */
static double softmax_error(const kern *k, double from, double to) {
    enum { N = 4096 };
    const uint32_t page = 0;
    float block[2 * KERN_KEYS * 2] = {0}, out[2];
    _Alignas(64) float scratch[2048];
    double worst = 0;
    for (size_t i = 0; i < N; i++) {
        const float x = (float)(from + (to - from) * (double)i / N), q[2] = {1, 0};
        block[1] = x; /* element 0 of key 1; key 0 scores 0 */
        block[2 * KERN_KEYS] = block[2 * KERN_KEYS + 3] = 1; /* values */
        const kern_attn a = {.q = q,
                             .out = out,
                             .n_tok = 1,
                             .n_heads = 1,
                             .d = 2,
                             .scale = 1,
                             .type = KERN_KV_F32,
                             .pages = (const uint8_t *)block,
                             .page_ids = &page,
                             .page_bytes = sizeof block,
                             .v_at = KERN_KEYS * 8,
                             .pos = 1,
                             .scratch = scratch};
        assert_true(kern_attn_scratch(1, 2) <= sizeof scratch / sizeof *scratch);
        k->attention(&a);
        worst = fmax(worst, fabs((double)out[1] / (double)out[0] / exp((double)x) - 1));
    }
    return worst;
}

static void exp_is_accurate_over_its_whole_range(void **state) {
    (void)state;
    const char *level;
    unsigned mask;
    for (size_t l = 0; (level = cpu_level_at(l, &mask)) != NULL; l++) {
        double silu = 0, softmax = 0;
        kern k;
        if (mask & ~cpu_detect() & ~(unsigned)CPU_AVXVNNI) continue;
        kern_init(&k, mask & cpu_detect());
        for (double at = -88; at < 120; at += 4) silu = fmax(silu, silu_error(&k, at, at + 4));
        for (double at = -84; at < 0; at += 4)
            softmax = fmax(softmax, softmax_error(&k, at, at + 4));
        print_message("%-12s relative error: silu %.2e on [-88, 120], softmax %.2e on [-84, 0]\n",
                      level, silu, softmax);
        assert_true(silu < 5e-7 && softmax < 5e-7);
        assert_true(softmax_error(&k, 0, 1e-30) < 1e-12); /* e^0 = 1 */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_accurate_over_its_whole_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
