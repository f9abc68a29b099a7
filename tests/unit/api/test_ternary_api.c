/* SPDX-License-Identifier: MIT
 *
 * The public ternary codec and the small network: the documented bit patterns, every length, every
 * pair of layouts, refusals with positions and alternatives, and a forward pass against double.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "rotor_ternary.h"

static void random_ternary(uint64_t seed, int8_t *v, size_t n) {
    base_rng rng;
    base_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) v[i] = (int8_t)((int)base_rng_below(&rng, 3) - 1);
}

static void the_code_is_as_documented(void **state) {
    (void)state;
    const int8_t v[6] = {0, 1, -1, 1, -1, 0};
    uint8_t codes[2];
    int8_t back[6];
    assert_int_equal(rotor_ternary_bytes(6), 2);
    assert_int_equal(rotor_ternary_pack(v, 6, codes, NULL), ROTOR_OK);
    assert_int_equal(codes[0], 0x98); /* 10 01 10 00, the fourth value first */
    assert_int_equal(codes[1], 0x01);
    assert_int_equal(rotor_ternary_unpack(codes, 6, back, NULL), ROTOR_OK);
    assert_memory_equal(back, v, 6);
    rotor_ternary_negate(codes, 6);
    assert_int_equal(codes[0], 0x64); /* 01 10 01 00 */
    assert_int_equal(rotor_ternary_count_zeros(codes, 6), 2);
}

static void every_length_round_trips(void **state) {
    (void)state;
    enum { MAX = 300 };
    int8_t a[MAX], b[MAX], back[MAX];
    uint8_t ca[MAX / 4 + 1], cb[MAX / 4 + 1], joined[MAX / 4 + 1];
    uint64_t planes[4][5];
    for (size_t n = 0; n <= MAX; n++) {
        int64_t want = 0, got = -1;
        size_t zeros = 0, bytes = rotor_ternary_bytes(n);
        random_ternary(n, a, n);
        random_ternary(n + 1000, b, n);
        for (size_t i = 0; i < n; i++) want += a[i] * b[i], zeros += a[i] == 0;
        ca[bytes] = 0xA5;
        assert_int_equal(rotor_ternary_pack(a, n, ca, NULL), ROTOR_OK);
        assert_int_equal(rotor_ternary_pack(b, n, cb, NULL), ROTOR_OK);
        assert_int_equal(ca[bytes], 0xA5);
        assert_int_equal(rotor_ternary_unpack(ca, n, back, NULL), ROTOR_OK);
        if (n) assert_memory_equal(back, a, n);
        assert_int_equal(rotor_ternary_dot(ca, cb, n, &got, NULL), ROTOR_OK);
        assert_int_equal(got, want);
        assert_int_equal(rotor_ternary_count_zeros(ca, n), zeros);
        assert_int_equal(rotor_ternary_split(ca, n, planes[0], planes[1], NULL), ROTOR_OK);
        assert_int_equal(rotor_ternary_split(cb, n, planes[2], planes[3], NULL), ROTOR_OK);
        assert_int_equal(rotor_ternary_dot_planes(planes[0], planes[1], planes[2], planes[3], n),
                         want);
        assert_int_equal(rotor_ternary_join(planes[0], planes[1], n, joined, NULL), ROTOR_OK);
        if (n) assert_memory_equal(joined, ca, bytes);
        rotor_ternary_negate(ca, n);
        assert_int_equal(rotor_ternary_dot(ca, cb, n, &got, NULL), ROTOR_OK);
        assert_int_equal(got, -want);
    }
}

static void code_11_is_reported_at_every_position(void **state) {
    (void)state;
    enum { N = 101 };
    int8_t v[N], back[N];
    uint8_t codes[26], other[26];
    uint64_t plus[2], minus[2];
    char want[64];
    random_ternary(4, v, N);
    assert_int_equal(rotor_ternary_pack(v, N, other, NULL), ROTOR_OK);
    for (size_t i = 0; i < N; i++) {
        rotor_error err = {0};
        int64_t sum = 7;
        memcpy(codes, other, sizeof codes);
        codes[i / 4] = (uint8_t)(codes[i / 4] | 3 << i % 4 * 2);
        snprintf(want, sizeof want, "position %zu: illegal ternary code 11", i);
        assert_int_equal(rotor_ternary_check(codes, N, &err), ROTOR_E_FORMAT);
        assert_string_equal(err.message, want);
        assert_int_equal(rotor_ternary_unpack(codes, N, back, &err), ROTOR_E_FORMAT);
        assert_int_equal(rotor_ternary_split(codes, N, plus, minus, &err), ROTOR_E_FORMAT);
        err.message[0] = 0;
        assert_int_equal(rotor_ternary_dot(other, codes, N, &sum, &err), ROTOR_E_FORMAT);
        assert_string_equal(err.message, want);
        assert_int_equal(sum, 7);
    }
    codes[25] = 0xFC; /* beyond the last value: not its business */
    memcpy(codes, other, 25);
    assert_int_equal(rotor_ternary_check(codes, N, NULL), ROTOR_OK);
    rotor_error err = {0};
    assert_int_equal(rotor_ternary_split(other, N, plus, minus, NULL), ROTOR_OK);
    plus[1] |= 4, minus[1] |= 4;
    assert_int_equal(rotor_ternary_join(plus, minus, N, codes, &err), ROTOR_E_FORMAT);
    assert_string_equal(err.message, "position 66: set in both planes");
    v[37] = 2;
    assert_int_equal(rotor_ternary_pack(v, N, codes, &err), ROTOR_E_ARG);
    assert_string_equal(err.message, "position 37: 2 is not a ternary value");
}

/* ==== Matrices
 * ==================================================================================== */

enum { N_LAYOUTS = 13, MAX_BYTES = 8 * 512 * 2 };

static void every_layout_to_every_other(void **state) {
    (void)state;
    enum { ROWS = 8, COLS = 512 };
    static int8_t v[ROWS * COLS], back[ROWS * COLS];
    static uint64_t a[MAX_BYTES], b[MAX_BYTES], c[MAX_BYTES];
    random_ternary(1, v, ROWS * COLS);
    memset(v + 3 * COLS, 0, COLS);
    const rotor_ternary_matrix src = {ROTOR_TERNARY_INT8, ROWS, COLS, v, sizeof v, 0.75f};
    for (int i = 0; i < N_LAYOUTS; i++)
        for (int j = 0; j < N_LAYOUTS; j++) {
            size_t bytes, check;
            rotor_ternary_matrix ma = {(rotor_ternary_layout)i, ROWS, COLS, a, sizeof a, 0};
            rotor_ternary_matrix mb = {(rotor_ternary_layout)j, ROWS, COLS, b, sizeof b, 0};
            rotor_ternary_matrix mc = ma;
            rotor_ternary_matrix end = {ROTOR_TERNARY_INT8, ROWS, COLS, back, sizeof back, 0};
            mc.data = c;
            assert_int_equal(rotor_ternary_convert(&ma, &src, NULL), ROTOR_OK);
            assert_int_equal(rotor_ternary_convert(&mb, &ma, NULL), ROTOR_OK);
            assert_int_equal(rotor_ternary_convert(&mc, &mb, NULL), ROTOR_OK);
            assert_int_equal(rotor_ternary_convert(&end, &mc, NULL), ROTOR_OK);
            assert_memory_equal(back, v, sizeof v);
            assert_true(ma.scale == 0.75f && mb.scale == 0.75f && end.scale == 0.75f);
            assert_int_equal(rotor_ternary_layout_bytes(ma.layout, ROWS, COLS, &bytes, NULL), 0);
            assert_memory_equal(a, c, bytes); /* there and back: the same bytes */
            assert_int_equal(rotor_ternary_layout_bytes(mb.layout, ROWS, COLS, &check, NULL), 0);
            mb.n_bytes = check - 1;
            assert_int_equal(rotor_ternary_convert(&mb, &ma, NULL), ROTOR_E_FULL);
        }
    assert_null(rotor_ternary_layout_name((rotor_ternary_layout)N_LAYOUTS));
    assert_string_equal(rotor_ternary_layout_name(ROTOR_TERNARY_TQ1_0), "TQ1_0");
}

static void odd_shapes_in_the_free_layouts(void **state) {
    (void)state;
    enum { ROWS = 7, COLS = 67 };
    static int8_t v[ROWS * COLS], back[ROWS * COLS];
    static uint64_t a[ROWS * 2 * 2 + 512];
    random_ternary(2, v, sizeof v);
    const rotor_ternary_matrix src = {ROTOR_TERNARY_INT8, ROWS, COLS, v, sizeof v, 1};
    for (int i = ROTOR_TERNARY_CODES; i <= ROTOR_TERNARY_HF; i++) {
        rotor_ternary_matrix m = {(rotor_ternary_layout)i, ROWS, COLS, a, sizeof a, 0};
        rotor_ternary_matrix end = {ROTOR_TERNARY_INT8, ROWS, COLS, back, sizeof back, 0};
        assert_int_equal(rotor_ternary_convert(&m, &src, NULL), ROTOR_OK);
        assert_int_equal(rotor_ternary_convert(&end, &m, NULL), ROTOR_OK);
        assert_memory_equal(back, v, sizeof v);
    }
}

static void impossible_shapes_name_the_possible(void **state) {
    (void)state;
    rotor_error err = {0};
    size_t bytes;
    assert_int_equal(rotor_ternary_layout_bytes(ROTOR_TERNARY_TQ2_0, 6, 320, &bytes, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_string_equal(err.message,
                        "TQ2_0 cannot hold 6 rows of 320 values; layouts that can: INT8, "
                        "CODES, PLANES, HF, I2_S, I2_S (ARM order), IQ1_BN, IQ2_BN, T5");
    assert_int_equal(rotor_ternary_layout_bytes(ROTOR_TERNARY_IQ2_BN_R4, 6, 256, &bytes, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "IQ2_BN"));
    assert_int_equal(rotor_ternary_layout_bytes(ROTOR_TERNARY_I2S, 1, 60, &bytes, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_int_equal(rotor_ternary_layout_bytes((rotor_ternary_layout)99, 1, 64, &bytes, &err),
                     ROTOR_E_ARG);
    assert_int_equal(rotor_ternary_layout_bytes(ROTOR_TERNARY_INT8, 0, 64, &bytes, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_int_equal(rotor_ternary_layout_bytes(ROTOR_TERNARY_INT8, SIZE_MAX, 64, &bytes, &err),
                     ROTOR_E_UNSUPPORTED);
}

static void illegal_matrices_are_placed(void **state) {
    (void)state;
    enum { ROWS = 4, COLS = 256 };
    static int8_t v[ROWS * COLS], out[ROWS * COLS];
    static uint64_t a[2048];
    uint8_t *bytes = (uint8_t *)a;
    rotor_error err = {0};
    random_ternary(3, v, sizeof v);
    rotor_ternary_matrix src = {ROTOR_TERNARY_INT8, ROWS, COLS, v, sizeof v, 1};
    rotor_ternary_matrix end = {ROTOR_TERNARY_INT8, ROWS, COLS, out, sizeof out, 0};
    const struct {
        rotor_ternary_layout layout;
        size_t byte;
        const char *message;
    } spoil[] = {
        {ROTOR_TERNARY_CODES, 64 + 3, "row 1: position 12: illegal"}, /* first value of byte 3 */
        {ROTOR_TERNARY_I2S, 64, "row 1, column 0: illegal"},
        {ROTOR_TERNARY_TQ2_0, 66, "row 1, column 0: illegal"},
        {ROTOR_TERNARY_HF, 9, "row 0, column 9: illegal"},
    };
    for (size_t i = 0; i < BASE_COUNT(spoil); i++) {
        rotor_ternary_matrix m = {spoil[i].layout, ROWS, COLS, a, sizeof a, 0};
        assert_int_equal(rotor_ternary_convert(&m, &src, NULL), ROTOR_OK);
        bytes[spoil[i].byte] = 0xFF;
        assert_int_equal(rotor_ternary_convert(&end, &m, &err), ROTOR_E_FORMAT);
        if (!strstr(err.message, spoil[i].message)) fail_msg("\"%s\"", err.message);
    }
    rotor_ternary_matrix m = {ROTOR_TERNARY_TQ2_0, ROWS, COLS, a, sizeof a, 0};
    assert_int_equal(rotor_ternary_convert(&m, &src, NULL), ROTOR_OK);
    bytes[2 * 66 + 65] ^= 1; /* another scale in row 2 */
    assert_int_equal(rotor_ternary_convert(&end, &m, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "row 2"));
    rotor_ternary_matrix wide = {ROTOR_TERNARY_TQ2_0, 2, 512, a, sizeof a, 0};
    rotor_ternary_matrix wide_src = {ROTOR_TERNARY_INT8, 2, 512, v, sizeof v, 1};
    rotor_ternary_matrix wide_end = {ROTOR_TERNARY_INT8, 2, 512, out, sizeof out, 0};
    assert_int_equal(rotor_ternary_convert(&wide, &wide_src, NULL), ROTOR_OK);
    bytes[66 + 65] ^= 1; /* two scales inside row 0 */
    assert_int_equal(rotor_ternary_convert(&wide_end, &wide, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "row 0"));
    v[COLS + 5] = 3;
    assert_int_equal(rotor_ternary_convert(&m, &src, &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "row 1, column 5"));
    end.cols = 128;
    assert_int_equal(rotor_ternary_convert(&end, &m, &err), ROTOR_E_ARG);
}

static void half_scales_are_rounded_and_told(void **state) {
    (void)state;
    static int8_t v[256];
    static uint8_t a[128];
    v[3] = 1;
    const rotor_ternary_matrix src = {ROTOR_TERNARY_INT8, 1, 256, v, sizeof v, 0.1f};
    rotor_ternary_matrix m = {ROTOR_TERNARY_TQ1_0, 1, 256, a, sizeof a, 0};
    assert_int_equal(rotor_ternary_convert(&m, &src, NULL), ROTOR_OK);
    assert_true(m.scale != 0.1f && fabsf(m.scale - 0.1f) < 0.1f / 2048);
    rotor_ternary_matrix i2s = {ROTOR_TERNARY_I2S, 1, 256, a, sizeof a, 0};
    assert_int_equal(rotor_ternary_convert(&i2s, &src, NULL), ROTOR_OK);
    assert_true(i2s.scale == 0.1f);
}

/* ==== Network
 * ===================================================================================== */

/* A ternary layer computed in double from unquantised inputs. */
static void layer_in_double(const int8_t *w, float scale, const float *bias, int act,
                            const double *x, size_t n_in, size_t n_out, double *y) {
    for (size_t r = 0; r < n_out; r++) {
        double sum = 0;
        for (size_t c = 0; c < n_in; c++) sum += w[r * n_in + c] * x[c];
        y[r] = sum * (double)scale + (bias ? (double)bias[r] : 0);
        if (act == ROTOR_MLP_RELU) y[r] = fmax(y[r], 0);
        if (act == ROTOR_MLP_SIGN) y[r] = y[r] < 0 ? -1 : 1;
    }
}

static void forward_is_near_double(void **state) {
    (void)state;
    enum { A = 37, B = 130, C = 9 };
    static int8_t w1[B * A], w2[C * B];
    float bias[B], x[A], y[C];
    double dx[A], h[B], want[C];
    base_rng rng;
    base_rng_seed(&rng, 8);
    random_ternary(5, w1, sizeof w1);
    random_ternary(6, w2, sizeof w2);
    for (int i = 0; i < B; i++) bias[i] = base_rng_normal(&rng);
    for (int i = 0; i < A; i++) dx[i] = (double)(x[i] = base_rng_normal(&rng));
    rotor_mlp *m = NULL;
    assert_int_equal(rotor_mlp_create(&m, A, NULL), ROTOR_OK);
    assert_int_equal(rotor_mlp_add_ternary(m, B, w1, 0.2f, bias, ROTOR_MLP_RELU, NULL), ROTOR_OK);
    assert_int_equal(rotor_mlp_add_ternary(m, C, w2, 0.1f, NULL, ROTOR_MLP_LINEAR, NULL), ROTOR_OK);
    assert_int_equal(rotor_mlp_n_outputs(m), C);
    assert_int_equal(rotor_mlp_forward(m, x, y, NULL), ROTOR_OK);
    layer_in_double(w1, 0.2f, bias, ROTOR_MLP_RELU, dx, A, B, h);
    layer_in_double(w2, 0.1f, NULL, ROTOR_MLP_LINEAR, h, B, C, want);
    double error = 0, power = 0;
    for (int i = 0; i < C; i++) {
        error += ((double)y[i] - want[i]) * ((double)y[i] - want[i]);
        power += want[i] * want[i];
    }
    assert_true(sqrt(error / power) < 0.02); /* two roundings to 8 bits */
    rotor_mlp_free(&m);
    assert_null(m);
}

/* Inputs of +-1 behind a sign layer lose nothing: equal to double exactly. */
static void sign_layers_are_exact(void **state) {
    (void)state;
    enum { A = 8, B = 77, C = 33 };
    static int8_t w1[B * A], w2[C * B], w3[C * C];
    float x[A], y[C];
    double dx[A], h[B], g[C], want[C];
    random_ternary(15, w1, sizeof w1);
    random_ternary(16, w2, sizeof w2);
    random_ternary(17, w3, sizeof w3);
    for (int i = 0; i < A; i++) dx[i] = (double)(x[i] = (float)(i % 3) - 1);
    rotor_mlp *m = NULL;
    assert_int_equal(rotor_mlp_create(&m, A, NULL), ROTOR_OK);
    assert_int_equal(rotor_mlp_add_ternary(m, B, w1, 1, NULL, ROTOR_MLP_SIGN, NULL), ROTOR_OK);
    assert_int_equal(rotor_mlp_add_ternary(m, C, w2, 0.5f, NULL, ROTOR_MLP_SIGN, NULL), ROTOR_OK);
    assert_int_equal(rotor_mlp_add_ternary(m, C, w3, 0.25f, NULL, ROTOR_MLP_LINEAR, NULL),
                     ROTOR_OK);
    for (int run = 0; run < 2; run++) {
        assert_int_equal(rotor_mlp_forward(m, x, y, NULL), ROTOR_OK);
        layer_in_double(w1, 1, NULL, ROTOR_MLP_SIGN, dx, A, B, h);
        layer_in_double(w2, 0.5f, NULL, ROTOR_MLP_SIGN, h, B, C, g);
        layer_in_double(w3, 0.25f, NULL, ROTOR_MLP_LINEAR, g, C, C, want);
        for (int i = 0; i < C; i++) assert_true((double)y[i] == want[i]);
    }
    rotor_mlp_free(&m);
}

static void float_layers_are_quantised_by_absmean(void **state) {
    (void)state;
    const float w[8] = {1, -1, 0.1f, 0, -2, 0.2f, 3, 0.7f}, x[4] = {127, 0, -64, 1};
    float y[2];
    rotor_mlp *m = NULL;
    rotor_mlp_stats s;
    assert_int_equal(rotor_mlp_create(&m, 4, NULL), ROTOR_OK);
    rotor_mlp_get_stats(m, &s);
    assert_true(s.n_layers == 0 && s.sparsity == 0);
    assert_int_equal(rotor_mlp_add_float(m, 2, w, NULL, ROTOR_MLP_LINEAR, NULL), ROTOR_OK);
    assert_int_equal(rotor_mlp_forward(m, x, y, NULL), ROTOR_OK);
    /* mean 1: rows 1 -1 0 0 and -1 0 1 1 */
    assert_true(fabsf(y[0] - 127) < 1e-4f && fabsf(y[1] + 190) < 1e-4f);
    rotor_mlp_get_stats(m, &s);
    assert_true(s.n_layers == 1 && s.n_weights == 8 && s.n_zero == 3 && s.sparsity == 0.375);
    assert_true(s.weight_bytes == 2 * 8 + 4 && s.float_bytes == 32 && s.scratch_bytes > 0);
    rotor_mlp_free(&m);
}

static void misuse_is_refused(void **state) {
    (void)state;
    rotor_mlp *m = NULL;
    rotor_error err = {0};
    float x[2] = {1, NAN}, y[2], w[4] = {1, 1, 1, INFINITY};
    const int8_t bad[4] = {1, 0, 0, 5}, good[4] = {1, 0, 0, 1};
    assert_int_equal(rotor_mlp_create(&m, 0, &err), ROTOR_E_ARG);
    assert_int_equal(rotor_mlp_create(&m, 2, &err), ROTOR_OK);
    assert_int_equal(rotor_mlp_forward(m, x, y, &err), ROTOR_E_STATE);
    assert_int_equal(rotor_mlp_add_ternary(m, 0, good, 1, NULL, ROTOR_MLP_RELU, &err), ROTOR_E_ARG);
    assert_int_equal(rotor_mlp_add_ternary(m, 2, good, NAN, NULL, ROTOR_MLP_RELU, &err),
                     ROTOR_E_ARG);
    assert_int_equal(rotor_mlp_add_ternary(m, 2, good, 1, NULL, (rotor_mlp_act)7, &err),
                     ROTOR_E_ARG);
    assert_int_equal(rotor_mlp_add_ternary(m, 2, bad, 1, NULL, ROTOR_MLP_RELU, &err), ROTOR_E_ARG);
    assert_string_equal(err.message, "output 1: position 1: 5 is not a ternary value");
    assert_int_equal(rotor_mlp_add_float(m, 2, w, NULL, ROTOR_MLP_RELU, &err), ROTOR_E_ARG);
    assert_int_equal(rotor_mlp_add_ternary(m, 2, good, 3e38f, NULL, ROTOR_MLP_LINEAR, &err),
                     ROTOR_OK);
    assert_int_equal(rotor_mlp_forward(m, x, y, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "input 1 is nan"));
    x[1] = 4;
    assert_int_equal(rotor_mlp_forward(m, x, y, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "layer 0, output 1 is inf"));
    rotor_mlp_free(&m);
    rotor_mlp_free(&m);
    rotor_mlp_free(NULL);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    const float w[8] = {1, -1, 0, 1, 1, 0, -1, 1}, bias[2] = {0};
    for (long n = 1;; n++) {
        rotor_mlp *m = NULL;
        base_fault_after(n);
        rotor_status st = rotor_mlp_create(&m, 4, NULL);
        if (st == ROTOR_OK) st = rotor_mlp_add_float(m, 2, w, bias, ROTOR_MLP_RELU, NULL);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        rotor_mlp_free(&m);
        if (!fired) return;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_code_is_as_documented),
        cmocka_unit_test(every_length_round_trips),
        cmocka_unit_test(code_11_is_reported_at_every_position),
        cmocka_unit_test(every_layout_to_every_other),
        cmocka_unit_test(odd_shapes_in_the_free_layouts),
        cmocka_unit_test(impossible_shapes_name_the_possible),
        cmocka_unit_test(illegal_matrices_are_placed),
        cmocka_unit_test(half_scales_are_rounded_and_told),
        cmocka_unit_test(forward_is_near_double),
        cmocka_unit_test(sign_layers_are_exact),
        cmocka_unit_test(float_layers_are_quantised_by_absmean),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
