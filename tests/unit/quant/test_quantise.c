/* SPDX-License-Identifier: MIT
 *
 * Quantisers: their definitions recomputed in double, and their error bounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>

#include "quant/quant.h"

enum { N = 4099 }; /* no multiple of any vector */

static void fill(float *x, uint64_t seed, float size) {
    base_rng rng;
    base_rng_seed(&rng, seed);
    for (int i = 0; i < N; i++) x[i] = base_rng_normal(&rng) * size;
}

static void absmean_is_its_definition(void **state) {
    (void)state;
    static float x[N];
    static int8_t t[N];
    for (uint64_t seed = 0; seed < 8; seed++) {
        double sum = 0;
        fill(x, seed, 0.03f);
        for (int i = 0; i < N; i++) sum += fabs((double)x[i]);
        float a = quant_absmean(x, N, t);
        assert_true(fabs((double)a - sum / N) <= 1e-7 * (double)a);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i] / (double)a;
            int want = (int)fmax(-1, fmin(1, nearbyint(v)));
            if (fabs(fabs(v) - 0.5) > 1e-6) assert_int_equal(t[i], want);
        }
    }
    /* One half of the mean is a tie and goes to 0; a hair more does not. Masters of 1e-34 are 0. */
    const float tie[4] = {2, -2, 1, -1};
    int8_t q[4];
    assert_true(quant_absmean(tie, 4, q) == 1.5f);
    const float edges[4] = {0.5f, -0.5f, 1.5f, 1.5f};
    assert_true(quant_absmean(edges, 4, q) == 1.0f);
    assert_true(q[0] == 0 && q[1] == 0 && q[2] == 1 && q[3] == 1);
    const float over[4] = {0.50000006f, -0.50000006f, 1.5f, 1.4999999f};
    quant_absmean(over, 4, q);
    assert_true(q[0] == 1 && q[1] == -1);
    const float tiny[4] = {1e-34f, -1e-34f, 0, 0};
    assert_true(quant_absmean(tiny, 4, q) == 1e-5f);
    assert_true(!q[0] && !q[1] && !q[2] && !q[3]);
}

static void threshold_and_sign(void **state) {
    (void)state;
    const float x[6] = {0.5f, -0.25f, 0.75f, -1.0f, 0.0f, -0.0f};
    int8_t t[6];
    assert_true(quant_threshold(x, 6, 0.5f, t) == 0.875f); /* mean of 0.75 and 1.0 */
    const int8_t want[6] = {0, 0, 1, -1, 0, 0};
    assert_memory_equal(t, want, 6);
    assert_true(quant_threshold(x, 6, 2, t) == 0);
    assert_true(fabsf(quant_sign(x, 6, t) - 2.5f / 6) < 1e-7f);
    const int8_t signs[6] = {1, -1, 1, -1, 1, 1};
    assert_memory_equal(t, signs, 6);
}

static void symmetric_int8_keeps_half_a_step(void **state) {
    (void)state;
    static float x[N];
    static int8_t q[N];
    const float sizes[] = {1e-7f, 1e-3f, 1, 1e10f, 1e37f};
    for (size_t k = 0; k < BASE_COUNT(sizes); k++) {
        fill(x, k, sizes[k]);
        float step = quant_int8_sym(x, N, q);
        int peak = 0;
        for (int i = 0; i < N; i++) {
            double error = fabs((double)x[i] - (double)q[i] * (double)step);
            assert_true(error <= (double)step * (0.5 + 2e-5)); /* 127 roundings of 2^-24 */
            peak = BASE_MAX(peak, q[i] < 0 ? -q[i] : q[i]);
        }
        if (sizes[k] > 1e-5f) assert_int_equal(peak, 127);
    }
    const float tie[3] = {127, 2.5f, -3.5f};
    assert_true(quant_int8_sym(tie, 3, q) == 1.0f);
    assert_true(q[0] == 127 && q[1] == 2 && q[2] == -4); /* nearest even */
    const float zeros[3] = {0, -0.0f, 0};
    assert_true(quant_int8_sym(zeros, 3, q) == 1e-5f / 127 && !q[0] && !q[1]);
}

static void asymmetric_int8_keeps_a_step(void **state) {
    (void)state;
    static float x[N];
    static int8_t q[N];
    const float shifts[] = {0, 3, -3, 100};
    for (size_t k = 0; k < BASE_COUNT(shifts); k++) {
        int32_t zero;
        fill(x, 40 + k, 1);
        for (int i = 0; i < N; i++) x[i] += shifts[k];
        x[7] = 0;
        float step = quant_int8_asym(x, N, q, &zero);
        for (int i = 0; i < N; i++)
            assert_true(fabs((double)x[i] - (q[i] - zero) * (double)step) <= (double)step * 1.0001);
        assert_int_equal(q[7], zero); /* zero is exact */
    }
    const float zeros[2] = {0, 0};
    int32_t zero;
    float step = quant_int8_asym(zeros, 2, q, &zero);
    assert_true((float)(q[0] - zero) * step == 0 && isfinite(step));
}

static void hostile_floats_do_no_harm(void **state) {
    (void)state;
    const float x[6] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1};
    int8_t q[6];
    int32_t zero;
    quant_absmean(x, 6, q);
    quant_threshold(x, 6, 1, q);
    quant_sign(x, 6, q);
    quant_int8_sym(x, 6, q);
    quant_int8_asym(x, 6, q, &zero);
    assert_true(quant_int8_sym(x, 0, q) > 0);
    assert_true(quant_absmean(x, 0, q) == 1e-5f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absmean_is_its_definition),
        cmocka_unit_test(threshold_and_sign),
        cmocka_unit_test(symmetric_int8_keeps_half_a_step),
        cmocka_unit_test(asymmetric_int8_keeps_a_step),
        cmocka_unit_test(hostile_floats_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
