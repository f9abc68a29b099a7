/* SPDX-License-Identifier: MIT
 *
 * Block types against the gguf package: decode of every type it decodes, bit for bit, the
 * 32-column view that kernels are specified by, and the encoders that have a reference. Golden
 * files: tools/golden/quant.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "quant/quant.h"

typedef struct golden {
    base_file file;        /* whole fixture */
    const uint8_t *blocks; /* encoded */
    uint32_t n_bytes;      /* of blocks */
    const float *values;   /* decoded, 4-byte aligned in the fixtures */
    uint32_t n_values;     /* of values */
} golden;

static golden load(const char *kind, const char *type) {
    golden g;
    char path[512];
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/data/quant/%s_%s.bin", root ? root : ".", kind, type);
    rotor_error err;
    if (base_file_open(&g.file, path, false, &err) != ROTOR_OK) fail_msg("%s", err.message);
    memcpy(&g.n_bytes, g.file.data, 4);
    memcpy(&g.n_values, g.file.data + 4, 4);
    g.blocks = g.file.data + 8;
    g.values = (const float *)(const void *)(g.file.data + 8 + g.n_bytes);
    assert_int_equal(g.file.size, 8 + g.n_bytes + 4 * (size_t)g.n_values);
    assert_int_equal(g.n_bytes % 4, 0);
    return g;
}

static const char *const golden_types[] = {"Q4_0", "Q4_1",  "Q5_0",   "Q5_1",  "Q8_0",  "Q2_K",
                                           "Q3_K", "Q4_K",  "Q5_K",   "Q6_K",  "TQ1_0", "TQ2_0",
                                           "BF16", "MXFP4", "IQ4_NL", "IQ4_XS"};

static void decodes_equal_the_reference(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(golden_types); i++) {
        golden g = load("decode", golden_types[i]);
        const quant_info *info = quant_find_name(base_str_of(golden_types[i]));
        uint64_t bytes;
        assert_non_null(info);
        assert_int_equal(quant_tensor_bytes(info, 1, g.n_values, &bytes, NULL), ROTOR_OK);
        assert_int_equal(bytes, g.n_bytes);
        /* As one row, and as rows of one block behind a misaligned pointer. */
        uint64_t cols[2] = {g.n_values, info->block_elems};
        for (int k = 0; k < 2; k++) {
            uint8_t *copy = malloc(g.n_bytes + 1);
            float *out = malloc(4 * (size_t)g.n_values);
            memcpy(copy + 1, g.blocks, g.n_bytes);
            quant_tensor t = {
                .type = info->id, .rows = g.n_values / cols[k], .cols = cols[k], .data = copy + 1};
            assert_int_equal(quant_decode_rows(&t, 0, t.rows, out, NULL), ROTOR_OK);
            for (uint32_t v = 0; v < g.n_values; v++)
                if (memcmp(&out[v], &g.values[v], 4) != 0)
                    fail_msg("%s value %u: %a, expected %a", info->name, v, (double)out[v],
                             (double)g.values[v]);
            free(copy);
            free(out);
        }
        base_file_close(&g.file);
    }
}

static void view32_gives_the_decoded_values(void **state) {
    (void)state;
    int seen = 0;
    for (size_t i = 0; i < BASE_COUNT(golden_types); i++) {
        const quant_info *info = quant_find_name(base_str_of(golden_types[i]));
        if (!(info->flags & QUANT_BLOCK32)) continue;
        golden g = load("decode", golden_types[i]);
        for (uint32_t v = 0; v < g.n_values; v++) {
            quant_block32 b;
            if (v % 32 == 0) quant_unpack32(info->id, g.blocks, v / 32, &b);
            unsigned e = v % 32;
            float value = b.a[e / 16] * (float)b.q[e] - b.b[e / 16];
            assert_memory_equal(&value, &g.values[v], 4);
            if (!quant_has_offset(info->id)) assert_true(b.b[e / 16] == 0);
        }
        base_file_close(&g.file);
        seen++;
    }
    assert_int_equal(seen, 15);
}

/* The two one- and two-bit types the gguf package does not decode, from their published layout. */
static void small_types_decode(void **state) {
    (void)state;
    uint8_t q1[18] = {0x00, 0x40, 0x05, 0x80}; /* d = 2; bits 0, 2 and 15 set */
    uint8_t q2[18] = {0x00, 0x38, 0x14, 0x99, 0x06, 0x02, 0x45, 0xA6, 0x81, 0x40};
    static const char codes[] = "0110121221002000110121221002000110121221";
    float out[128];
    quant_tensor t1 = {.type = QUANT_Q1_0, .rows = 1, .cols = 128, .data = q1};
    assert_int_equal(quant_decode_rows(&t1, 0, 1, out, NULL), ROTOR_OK);
    for (int e = 0; e < 128; e++)
        assert_true(out[e] == (e == 0 || e == 2 || e == 15 ? 2.0f : -2.0f));
    quant_tensor t2 = {.type = QUANT_Q2_0, .rows = 1, .cols = 64, .data = q2};
    assert_int_equal(quant_decode_rows(&t2, 0, 1, out, NULL), ROTOR_OK);
    for (int e = 0; e < 32; e++) assert_true(out[e] == 0.5f * (float)(codes[e] - '1'));
}

static void plain_types_decode(void **state) {
    (void)state;
    const int16_t i16[4] = {-32768, -1, 0, 32767};
    const int32_t i32[4] = {INT32_MIN, -1, 7, 16777216};
    const int64_t i64[4] = {-5, 0, 1, (int64_t)1 << 40};
    const double f64[4] = {0.1, -1e300, 1, -0.0};
    const uint8_t u8[4] = {0, 1, 128, 255};
    const uint16_t f16[4] = {0x3C00, 0xC000, 0x0001, 0x7BFF};
    const float want[6][4] = {{-32768, -1, 0, 32767},
                              {-2147483648.0f, -1, 7, 16777216},
                              {-5, 0, 1, 1099511627776.0f},
                              {0.1f, -INFINITY, 1, -0.0f},
                              {0, 1, 128, 255},
                              {1, -2, 0x1p-24f, 65504}};
    const uint32_t types[6] = {QUANT_I16, QUANT_I32, QUANT_I64, QUANT_F64, QUANT_U8, QUANT_F16};
    const void *data[6] = {i16, i32, i64, f64, u8, f16};
    for (int i = 0; i < 6; i++) {
        float out[4];
        quant_tensor t = {.type = types[i], .rows = 2, .cols = 2, .data = data[i]};
        assert_int_equal(quant_decode_rows(&t, 0, 2, out, NULL), ROTOR_OK);
        assert_memory_equal(out, want[i], sizeof out);
        assert_int_equal(quant_decode_rows(&t, 1, 2, out, NULL), ROTOR_OK);
        assert_memory_equal(out, want[i] + 2, 8);
    }
}

static void activation_types_decode(void **state) {
    (void)state;
    static uint8_t q8_1[36] = {0x00, 0x38, 0, 0, 5, 0xFF}, q8_k[292] = {0, 0, 0x80, 0x3E, 8, 0x80};
    float out[256];
    quant_tensor t = {.type = QUANT_Q8_1, .rows = 1, .cols = 32, .data = q8_1};
    assert_int_equal(quant_decode_rows(&t, 0, 1, out, NULL), ROTOR_OK);
    assert_true(out[0] == 2.5f && out[1] == -0.5f && out[31] == 0);
    t = (quant_tensor){.type = QUANT_Q8_K, .rows = 1, .cols = 256, .data = q8_k};
    assert_int_equal(quant_decode_rows(&t, 0, 1, out, NULL), ROTOR_OK);
    assert_true(out[0] == 2 && out[1] == -32 && out[255] == 0);
}

static void encoders_equal_the_reference(void **state) {
    (void)state;
    const char *types[] = {"Q8_0", "Q4_0", "F16", "BF16", "TQ1_0", "TQ2_0"};
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        golden g = load("encode", types[i]);
        const quant_info *info = quant_find_name(base_str_of(types[i]));
        uint8_t *out = malloc(g.n_bytes);
        uint64_t rows = g.n_values / 256;
        assert_int_equal(quant_encode(info->id, rows, 256, g.values, out, NULL), ROTOR_OK);
        for (uint32_t k = 0; k < g.n_bytes; k++)
            if (out[k] != g.blocks[k])
                fail_msg("%s byte %u: %02X, expected %02X", types[i], k, out[k], g.blocks[k]);
        free(out);
        base_file_close(&g.file);
    }
}

/* No normative encoder exists for Q6_K. Ours: every value within two steps of its sub-block (half a
 * step of rounding; the rest where the fitted scale clips the peak), the whole within
 * 2 % on normal data (the peak of 16 lies near two sigma, a step is 1/32 of it: 1.8 % expected). */
static void q6_k_is_close(void **state) {
    (void)state;
    enum { N = 16 * 256 };
    static float x[N], y[N];
    static uint8_t bytes[N / 256 * 210];
    base_rng rng;
    base_rng_seed(&rng, 3);
    for (int i = 0; i < N; i++) x[i] = base_rng_normal(&rng) * (i / 256 % 3 == 0 ? 1e-3f : 4);
    memset(x + 512, 0, 256 * sizeof *x);
    for (int i = 768; i < 784; i++) x[i] = 0;
    assert_int_equal(quant_encode(QUANT_Q6_K, 4, N / 4, x, bytes, NULL), ROTOR_OK);
    quant_tensor t = {.type = QUANT_Q6_K, .rows = 4, .cols = N / 4, .data = bytes};
    assert_int_equal(quant_decode_rows(&t, 0, 4, y, NULL), ROTOR_OK);
    double error = 0, power = 0;
    for (int i = 0; i < N; i++) {
        quant_block32 b;
        quant_unpack32(QUANT_Q6_K, bytes, (uint64_t)i / 32, &b);
        assert_true(fabsf(x[i] - y[i]) <= 2 * fabsf(b.a[i % 32 / 16]));
        error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        power += (double)x[i] * (double)x[i];
    }
    assert_true(sqrt(error / power) < 0.02);
    print_message("Q6_K relative error %.4f\n", sqrt(error / power));
}

static void encoders_refuse_what_they_cannot_hold(void **state) {
    (void)state;
    float x[256] = {0};
    uint8_t out[1024];
    rotor_error err = {0};
    x[37] = INFINITY;
    assert_int_equal(quant_encode(QUANT_Q8_0, 8, 32, x, out, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "row 1, column 5"));
    x[37] = 1e30f;
    assert_int_equal(quant_encode(QUANT_Q4_0, 1, 256, x, out, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "columns 32-63"));
    assert_int_equal(quant_encode(QUANT_Q4_K, 1, 256, x, out, &err), ROTOR_E_UNSUPPORTED);
    assert_int_equal(quant_encode(QUANT_Q8_0, 8, 31, x, out, &err), ROTOR_E_FORMAT);
    x[37] = 1;
    x[40] = 0.5f;
    assert_int_equal(quant_encode(QUANT_TQ2_0, 1, 256, x, out, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "column 40"));
    quant_tensor t = {.type = 16, .rows = 1, .cols = 256, .data = out};
    assert_int_equal(quant_decode_rows(&t, 0, 1, x, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "IQ2_XXS"));
}

static void registry_knows_every_id(void **state) {
    (void)state;
    for (uint32_t id = 0; id < 43; id++) assert_non_null(quant_find(id));
    assert_null(quant_find(43));
    assert_null(quant_find(0xFFFFFFFF));
    assert_non_null(quant_find(335));
    for (size_t i = 0; quant_at(i); i++) {
        const quant_info *info = quant_at(i);
        assert_ptr_equal(quant_find(info->id), info);
        assert_ptr_equal(quant_find_name(base_str_of(info->name)), info);
        if (info->flags & QUANT_BLOCK32) assert_int_equal(info->block_elems % 32, 0);
    }
    assert_int_equal(quant_find_name(base_str_of("q4_k"))->id, QUANT_Q4_K);
    assert_null(quant_find_name(base_str_of("q4_")));
    assert_null(quant_find_name(base_str_of("")));
}

static void sizes_are_those_of_published_files(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t rows, cols, bytes;
    } rows[] = {{QUANT_I2_S, 2560, 2560, 1638432},
                {QUANT_I2_S, 2560, 6912, 4423712},
                {QUANT_TQ2_0, 2560, 6912, 4561920},
                {QUANT_TQ1_0, 2560, 6912, 3732480},
                {QUANT_IQ2_BN, 6912, 2560, 4451328},
                {QUANT_IQ2_BN, 2560, 6912, 4433920},
                {QUANT_IQ1_BN, 6912, 2560, 3608064},
                {QUANT_IQ1_BN, 2560, 6912, 3599360},
                {QUANT_IQ2_BN_R4, 640, 2560, 412160},
                {QUANT_MXFP4, 1, 2880, 1530},
                {QUANT_I2_S, 3, 20, 47}};
    uint64_t bytes;
    rotor_error err = {0};
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        const quant_info *info = quant_find(rows[i].type);
        assert_int_equal(quant_tensor_bytes(info, rows[i].rows, rows[i].cols, &bytes, NULL), 0);
        assert_int_equal(bytes, rows[i].bytes);
    }
    const quant_info *q8 = quant_find(QUANT_Q8_0), *f32 = quant_find(QUANT_F32);
    assert_int_equal(quant_tensor_bytes(q8, 3, 33, &bytes, &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "33 columns"));
    assert_int_equal(quant_tensor_bytes(f32, (uint64_t)1 << 32, (uint64_t)1 << 32, &bytes, NULL),
                     ROTOR_E_FORMAT);
    assert_int_equal(quant_tensor_bytes(f32, (uint64_t)1 << 61, 2, &bytes, NULL), ROTOR_E_FORMAT);
    assert_int_equal(quant_tensor_bytes(quant_find(4), 1, 32, &bytes, NULL), ROTOR_E_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_equal_the_reference),
        cmocka_unit_test(view32_gives_the_decoded_values),
        cmocka_unit_test(small_types_decode),
        cmocka_unit_test(plain_types_decode),
        cmocka_unit_test(activation_types_decode),
        cmocka_unit_test(encoders_equal_the_reference),
        cmocka_unit_test(q6_k_is_close),
        cmocka_unit_test(encoders_refuse_what_they_cannot_hold),
        cmocka_unit_test(registry_knows_every_id),
        cmocka_unit_test(sizes_are_those_of_published_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
