/* SPDX-License-Identifier: MIT
 *
 * Ternary layouts: the worked examples of the format notes byte for byte, illegal codes reported
 * with their place and never read as zero, lossless passage between all layouts, T2 and HF rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "quant/quant.h"

/* The example sequence of the notes: code(i) = (i^2 + floor(i / 5)) mod 3. */
static int8_t example(unsigned i) { return (int8_t)((i * i + i / 5) % 3) - 1; }

typedef struct layout {
    uint32_t type;   /* ternary type */
    quant_i2s i2s;   /* byte order of I2_S */
    size_t skip;     /* bytes in front of the codes of row 0 */
    const char *hex; /* published bytes of the example, row of 256 columns */
} layout;

static const layout layouts[] = {
    {QUANT_I2_S, QUANT_I2S_X86, 0, "154A562958A4629088402101840512150000"},
    {QUANT_I2_S, QUANT_I2S_ARM, 0, "14514619669A69A49042082080010514"},
    {QUANT_TQ2_0, 0, 0, "54A19568251A890622014840125084540000"},
    {QUANT_TQ1_0, 0, 0,
     "2C70825087EE95C8BF573D05B70E252C70825087EE95C8BF573D05B70E252C701339AC050D27786735A1E2A5EECA"
     "5C1336987239"},
    {QUANT_IQ2_BN, 0, 4, "1445916499A6691A0681200802405014"},
    {QUANT_IQ1_BN, 0, 2, "62A713CC3707991258DEB0720D"},
};

static size_t from_hex(const char *hex, uint8_t *out) {
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    while (n && n % 2 == 0 && out[n - 1] == 0 && out[n - 2] == 0) n -= 2; /* padding of the table */
    return n;
}

static void published_examples(void **state) {
    (void)state;
    int8_t src[256], back[256];
    uint8_t bytes[512], want[64];
    for (unsigned i = 0; i < 256; i++) src[i] = example(i);
    for (size_t k = 0; k < BASE_COUNT(layouts); k++) {
        const layout *l = &layouts[k];
        size_t n = from_hex(l->hex, want);
        assert_int_equal(quant_ternary_pack(l->type, l->i2s, 1, 256, src, 0.5f, bytes, NULL), 0);
        assert_memory_equal(bytes + l->skip, want, n);
        quant_tensor t = {l->type, l->i2s, 1, 256, bytes};
        float scale;
        bool uniform;
        assert_int_equal(quant_ternary_row(&t, 0, back, &scale, &uniform, NULL), ROTOR_OK);
        assert_memory_equal(back, src, 256);
        assert_true(scale == 0.5f && uniform);
    }
    /* Second blocks, where the notes give them. */
    assert_int_equal(quant_ternary_pack(QUANT_I2_S, QUANT_I2S_X86, 1, 256, src, 1, bytes, NULL), 0);
    assert_memory_equal(bytes + 32, "\x88\x40\x21\x01\x84\x05\x12\x15\x4A\x56", 10);
    assert_int_equal(quant_ternary_pack(QUANT_TQ2_0, 0, 1, 256, src, 1, bytes, NULL), 0);
    assert_memory_equal(bytes + 32, "\x22\x01\x48\x40", 4);
}

static void published_example_of_four_rows(void **state) {
    (void)state;
    int8_t src[4 * 64], back[64];
    uint8_t bytes[4 * 20];
    for (unsigned k = 0; k < 4; k++)
        for (unsigned i = 0; i < 64; i++) src[64 * k + i] = example(i + 7 * k);
    assert_int_equal(quant_ternary_pack(QUANT_IQ2_BN_R4, 0, 4, 64, src, 3, bytes, NULL), ROTOR_OK);
    assert_memory_equal(bytes + 16,
                        "\xA4\x19\x05\x08\x42\x9A\x51\x80\x20\xA4\x19\x05\x01\x42\x9A\x51", 16);
    quant_tensor t = {QUANT_IQ2_BN_R4, 0, 4, 64, bytes};
    for (unsigned k = 0; k < 4; k++) {
        float scale;
        bool uniform;
        assert_int_equal(quant_ternary_row(&t, k, back, &scale, &uniform, NULL), ROTOR_OK);
        assert_memory_equal(back, src + 64 * k, 64);
        assert_true(scale == 3);
    }
    /* The 4-row order of I2_S: column c of rows 0-3 in bits 7-6 to 1-0 of byte c. */
    uint8_t rows4[64 + 32];
    assert_int_equal(quant_ternary_pack(QUANT_I2_S, QUANT_I2S_4ROW, 4, 64, src, 1, rows4, NULL), 0);
    for (unsigned c = 0; c < 64; c++)
        assert_int_equal(rows4[c], (src[c] + 1) << 6 | (src[64 + c] + 1) << 4 |
                                       (src[128 + c] + 1) << 2 | (src[192 + c] + 1));
}

static void published_hf_example(void **state) {
    (void)state;
    const uint8_t packed[4] = {0xA1, 0x18, 0x90, 0x0A};
    const int8_t want[8][2] = {{0, -1}, {-1, 1}, {-1, 1}, {-1, 1},
                               {1, 0},  {0, -1}, {1, -1}, {1, -1}};
    int8_t row[2];
    uint8_t again[4];
    for (unsigned r = 0; r < 8; r++) {
        assert_int_equal(quant_hf_row(packed, 8, 2, r, row, NULL), ROTOR_OK);
        assert_memory_equal(row, want[r], 2);
    }
    quant_hf_pack(want[0], 8, 2, again);
    assert_memory_equal(again, packed, 4);
}

static void hf_rows_round_trip_and_report(void **state) {
    (void)state;
    enum { ROWS = 7, COLS = 50 };
    int8_t src[ROWS * COLS], row[COLS];
    uint8_t packed[2 * COLS];
    rotor_error err = {0};
    for (unsigned i = 0; i < ROWS * COLS; i++) src[i] = example(i * 3);
    quant_hf_pack(src, ROWS, COLS, packed);
    for (unsigned r = 0; r < ROWS; r++) {
        assert_int_equal(quant_hf_row(packed, ROWS, COLS, r, row, NULL), ROTOR_OK);
        assert_memory_equal(row, src + r * COLS, COLS);
    }
    packed[COLS + 31] |= 0x30; /* rows 1, 3, 5, 7: field 2 is row 5 */
    assert_int_equal(quant_hf_row(packed, ROWS, COLS, 1, row, NULL), ROTOR_OK);
    assert_int_equal(quant_hf_row(packed, ROWS, COLS, 5, row, &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "row 5, column 31"));
}

static void random_ternary(base_rng *rng, int8_t *v, size_t n) {
    for (size_t i = 0; i < n; i++) v[i] = (int8_t)((int)base_rng_below(rng, 3) - 1);
}

/* From every layout to every other and back to int8: the same codes. */
static void codes_survive_every_passage(void **state) {
    (void)state;
    enum { ROWS = 8, COLS = 768, N = ROWS * COLS };
    static const struct {
        uint32_t type;
        quant_i2s i2s;
    } all[] = {{QUANT_I2_S, QUANT_I2S_X86},
               {QUANT_I2_S, QUANT_I2S_ARM},
               {QUANT_I2_S, QUANT_I2S_4ROW},
               {QUANT_TQ1_0, 0},
               {QUANT_TQ2_0, 0},
               {QUANT_IQ1_BN, 0},
               {QUANT_IQ2_BN, 0},
               {QUANT_IQ2_BN_R4, 0},
               {QUANT_T5, 0}};
    static int8_t src[N], mid[N], end[N];
    static uint8_t a[N], b[N];
    base_rng rng;
    base_rng_seed(&rng, 11);
    random_ternary(&rng, src, N);
    memset(src + COLS, 0, COLS); /* one row of zeros */
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        for (size_t j = 0; j < BASE_COUNT(all); j++) {
            quant_tensor ta = {all[i].type, all[i].i2s, ROWS, COLS, a};
            quant_tensor tb = {all[j].type, all[j].i2s, ROWS, COLS, b};
            float scale;
            bool uniform;
            assert_int_equal(quant_ternary_pack(ta.type, ta.i2s, ROWS, COLS, src, 1.25f, a, NULL),
                             0);
            for (unsigned r = 0; r < ROWS; r++)
                assert_int_equal(quant_ternary_row(&ta, r, mid + r * COLS, &scale, &uniform, NULL),
                                 0);
            assert_int_equal(quant_ternary_pack(tb.type, tb.i2s, ROWS, COLS, mid, scale, b, NULL),
                             0);
            for (unsigned r = 0; r < ROWS; r++) {
                assert_int_equal(quant_ternary_row(&tb, r, end + r * COLS, &scale, &uniform, NULL),
                                 0);
                assert_true(uniform);
            }
            assert_memory_equal(end, src, N);
            assert_true(scale == 1.25f);
            float decoded[COLS];
            assert_int_equal(quant_decode_rows(&tb, 2, 3, decoded, NULL), ROTOR_OK);
            for (unsigned c = 0; c < COLS; c++)
                assert_true(decoded[c] == 1.25f * (float)src[2 * COLS + c]);
        }
}

/* I2_S counts blocks over the tensor: rows that are no multiple of 128 share bytes. */
static void i2s_rows_may_share_bytes(void **state) {
    (void)state;
    enum { ROWS = 32, COLS = 60 };
    int8_t src[ROWS * COLS], row[COLS];
    uint8_t bytes[ROWS * COLS / 4 + 32];
    base_rng rng;
    base_rng_seed(&rng, 2);
    random_ternary(&rng, src, sizeof src);
    for (int order = 0; order < 3; order++) {
        float scale;
        bool uniform;
        quant_tensor t = {QUANT_I2_S, (quant_i2s)order, ROWS, COLS, bytes};
        assert_int_equal(quant_ternary_pack(QUANT_I2_S, t.i2s, ROWS, COLS, src, -2, bytes, NULL),
                         0);
        for (unsigned r = 0; r < ROWS; r++) {
            assert_int_equal(quant_ternary_row(&t, r, row, &scale, &uniform, NULL), ROTOR_OK);
            assert_memory_equal(row, src + r * COLS, COLS);
            assert_true(scale == -2);
        }
    }
}

/* Code 3 at one place of each two-bit layout. */
static void illegal_codes_are_reported(void **state) {
    (void)state;
    enum { ROWS = 4, COLS = 512, ROW = 2, COL = 301 };
    static const struct {
        uint32_t type;
        quant_i2s i2s;
    } two_bit[] = {{QUANT_I2_S, QUANT_I2S_X86},
                   {QUANT_I2_S, QUANT_I2S_ARM},
                   {QUANT_I2_S, QUANT_I2S_4ROW},
                   {QUANT_TQ2_0, 0},
                   {QUANT_IQ2_BN, 0},
                   {QUANT_IQ2_BN_R4, 0}};
    static int8_t src[ROWS * COLS], row[COLS];
    static uint8_t plus[ROWS * COLS], minus[ROWS * COLS];
    static float decoded[ROWS * COLS];
    src[0] = 1; /* keeps TQ2_0's scale alive */
    for (size_t i = 0; i < BASE_COUNT(two_bit); i++) {
        quant_tensor t = {two_bit[i].type, two_bit[i].i2s, ROWS, COLS, plus};
        rotor_error err = {0};
        float scale;
        bool uniform;
        uint64_t bytes;
        src[ROW * COLS + COL] = 1;
        assert_int_equal(quant_ternary_pack(t.type, t.i2s, ROWS, COLS, src, 1, plus, NULL), 0);
        src[ROW * COLS + COL] = 0;
        assert_int_equal(quant_ternary_pack(t.type, t.i2s, ROWS, COLS, src, 1, minus, NULL), 0);
        src[ROW * COLS + COL] = 0;
        /* Codes 2 and 1 of the same place, or-ed, are code 3. */
        assert_int_equal(quant_tensor_bytes(quant_find(t.type), ROWS, COLS, &bytes, NULL), 0);
        for (size_t k = 0; k < bytes; k++) plus[k] |= minus[k];
        assert_int_equal(quant_ternary_row(&t, ROW - 1, row, &scale, &uniform, &err), ROTOR_OK);
        assert_int_equal(quant_ternary_row(&t, ROW, row, &scale, &uniform, &err), ROTOR_E_FORMAT);
        assert_string_equal(err.message, "row 2, column 301: illegal ternary code 3");
        err.message[0] = 0;
        assert_int_equal(quant_decode_rows(&t, 0, ROWS, decoded, &err), ROTOR_E_FORMAT);
        assert_string_equal(err.message, "row 2, column 301: illegal ternary code 3");
    }
}

/* Base-3 layouts have no illegal byte: all 256 values decode to ternary digits. */
static void every_base3_byte_is_legal(void **state) {
    (void)state;
    for (int v = 0; v < 256; v++) {
        uint8_t tq1[54], iq1[2 + 4 * 13];
        int8_t row[256];
        float scale;
        bool uniform;
        memset(tq1, v, sizeof tq1);
        memset(iq1, v, sizeof iq1);
        quant_tensor t = {QUANT_TQ1_0, 0, 1, 256, tq1};
        assert_int_equal(quant_ternary_row(&t, 0, row, &scale, &uniform, NULL), ROTOR_OK);
        for (int i = 0; i < 256; i++) assert_in_range(row[i] + 1, 0, 2);
        t = (quant_tensor){QUANT_IQ1_BN, 0, 1, 256, iq1};
        assert_int_equal(quant_ternary_row(&t, 0, row, &scale, &uniform, NULL), ROTOR_OK);
        for (int i = 0; i < 256; i++) assert_in_range(row[i] + 1, 0, 2);
    }
}

static void block_scales_may_disagree(void **state) {
    (void)state;
    int8_t src[768], row[768];
    uint8_t bytes[3 * 66];
    float scale;
    bool uniform;
    for (unsigned i = 0; i < 768; i++) src[i] = i / 256 == 1 ? 0 : example(i);
    assert_int_equal(quant_ternary_pack(QUANT_TQ2_0, 0, 1, 768, src, 0.5f, bytes, NULL), ROTOR_OK);
    quant_tensor t = {QUANT_TQ2_0, 0, 1, 768, bytes};
    assert_int_equal(bytes[66 + 64] | bytes[66 + 65], 0); /* a block of zeros has d = 0 */
    assert_int_equal(quant_ternary_row(&t, 0, row, &scale, &uniform, NULL), ROTOR_OK);
    assert_true(uniform && scale == 0.5f);
    bytes[2 * 66 + 65] ^= 4;
    assert_int_equal(quant_ternary_row(&t, 0, row, &scale, &uniform, NULL), ROTOR_OK);
    assert_true(!uniform && scale == 0.5f);
    assert_memory_equal(row, src, 768);
}

static void packing_refuses_with_reasons(void **state) {
    (void)state;
    static int8_t src[8 * 320];
    static uint8_t dst[8 * 320];
    rotor_error err = {0};
    assert_int_equal(quant_ternary_pack(QUANT_TQ2_0, 0, 8, 320, src, 1, dst, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "I2_S, IQ1_BN, IQ2_BN, IQ2_BN_R4"));
    assert_int_equal(quant_ternary_pack(QUANT_IQ2_BN_R4, 0, 3, 256, src, 1, dst, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "TQ1_0, TQ2_0, I2_S, IQ1_BN, IQ2_BN"));
    assert_int_equal(quant_ternary_pack(QUANT_I2_S, QUANT_I2S_X86, 1, 60, src, 1, dst, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "can hold them: T5"));
    src[321] = 2;
    assert_int_equal(quant_ternary_pack(QUANT_I2_S, 0, 8, 320, src, 1, dst, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "row 1, column 1: 2 is not"));
    src[321] = 0;
    assert_int_equal(quant_ternary_pack(QUANT_TQ1_0, 0, 8, 256, src, 1e6f, dst, &err), ROTOR_E_ARG);
    assert_int_equal(quant_ternary_pack(QUANT_TQ1_0, 0, 8, 256, src, 1e-9f, dst, &err),
                     ROTOR_E_ARG);
    assert_int_equal(quant_ternary_pack(QUANT_I2_S, 0, 8, 256, src, 1e6f, dst, &err), ROTOR_OK);
    assert_int_equal(quant_ternary_pack(QUANT_Q8_0, 0, 8, 256, src, 1, dst, &err), ROTOR_E_ARG);
}

static void t2_rows_of_any_length(void **state) {
    (void)state;
    int8_t src[400], back[400];
    uint8_t bytes[4 * 32 + 1];
    uint64_t bad = 0;
    base_rng rng;
    base_rng_seed(&rng, 9);
    random_ternary(&rng, src, sizeof src);
    for (uint64_t cols = 1; cols <= 400; cols++) {
        size_t n = quant_t2_row_bytes(cols);
        assert_int_equal(n, (cols + 127) / 128 * 32);
        bytes[n] = 0xA5;
        quant_t2_pack_row(src, cols, bytes);
        assert_int_equal(bytes[n], 0xA5);
        back[cols == 400 ? 399 : cols] = 55;
        assert_true(quant_t2_unpack_row(bytes, cols, back, &bad));
        assert_memory_equal(back, src, cols);
        if (cols < 400) assert_int_equal(back[cols], 55);
    }
    quant_t2_pack_row(src, 400, bytes);
    bytes[3 * 32 + 5] |= 0xC0; /* column 389 */
    assert_false(quant_t2_unpack_row(bytes, 400, back, &bad));
    assert_int_equal(bad, 3 * 128 + 5);
    /* For rows of whole blocks T2 is I2_S in x86 order. */
    uint8_t i2s[256 / 4 + 32], t2[64];
    assert_int_equal(quant_ternary_pack(QUANT_I2_S, QUANT_I2S_X86, 1, 256, src, 1, i2s, NULL), 0);
    quant_t2_pack_row(src, 256, t2);
    assert_memory_equal(i2s, t2, 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_examples),
        cmocka_unit_test(published_example_of_four_rows),
        cmocka_unit_test(published_hf_example),
        cmocka_unit_test(hf_rows_round_trip_and_report),
        cmocka_unit_test(codes_survive_every_passage),
        cmocka_unit_test(i2s_rows_may_share_bytes),
        cmocka_unit_test(illegal_codes_are_reported),
        cmocka_unit_test(every_base3_byte_is_legal),
        cmocka_unit_test(block_scales_may_disagree),
        cmocka_unit_test(packing_refuses_with_reasons),
        cmocka_unit_test(t2_rows_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
