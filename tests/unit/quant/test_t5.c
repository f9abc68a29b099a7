/* SPDX-License-Identifier: MIT
 *
 * T5: all 243 strings of five digits, all 256 bytes, the place of every value, shapes of any size,
 * padding, illegal bytes and scales of rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "quant/quant.h"

/* As docs/formats.md prints them. */
static const char low_table[] = "00 48 51 81 01 28 61 A8 02 20 40 59 04 05 6A 80 06 44 68 A4 10 15 "
                                "26 A1 11 56 85 96 14 22 49 60 "
                                "16 84 94 98 18 19 42 82 1A 64 91 A0 25 69 A5 A9 29 2A 45 89 46 8A "
                                "99 A6 50 5A 90 9A 54 62 65 A2";
static const char high_table[] = "89 20 41 20 8E B4 03 46 5C 50 71 AF 23 4C 08 B0";
static const uint8_t illegal[] = {200, 205, 207, 222, 225, 227, 232, 234, 235, 237, 238, 250, 252};

static unsigned hex_at(const char *table, unsigned i) {
    return (unsigned)strtoul(table + 3 * i, NULL, 16);
}

static bool is_illegal(unsigned b) {
    for (size_t i = 0; i < BASE_COUNT(illegal); i++)
        if (illegal[i] == b) return true;
    return false;
}

/* The rule of the format notes, written again. */
static unsigned documented_digit(unsigned b, int n) {
    unsigned l = hex_at(low_table, b % 64);
    unsigned h = b < 192 ? b / 64 * 64 : hex_at(high_table, b / 4 - 48);
    if (n == 0) return h >> 6;
    if (n == 1) return l >> 6;
    return (l ^ h) >> (2 * (4 - n)) & 3;
}

static void every_string_has_one_byte(void **state) {
    (void)state;
    int byte_of[243];
    for (int i = 0; i < 243; i++) byte_of[i] = -1;
    for (unsigned b = 0; b < 256; b++) {
        uint8_t d[5];
        unsigned number = 0;
        assert_int_equal(quant_t5_digits((uint8_t)b, d), !is_illegal(b));
        for (int n = 0; n < 5; n++) {
            assert_int_equal(d[n], documented_digit(b, n));
            number = 3 * number + d[n];
        }
        if (is_illegal(b)) continue;
        for (int n = 0; n < 5; n++) assert_in_range(d[n], 0, 2);
        assert_int_equal(byte_of[number], -1);
        byte_of[number] = (int)b;
    }
    for (unsigned number = 0; number < 243; number++) { /* and the encoder finds it */
        int8_t v[20];
        uint8_t chunk[64];
        unsigned rest = number;
        assert_true(byte_of[number] >= 0);
        for (int f = 4; f >= 0; f--, rest /= 3)
            for (int i = 0; i < 4; i++) v[4 * f + i] = (int8_t)((int)(rest % 3) - 1);
        quant_t5_pack_rows(v, 1, 20, chunk);
        for (int i = 0; i < 4; i++) assert_int_equal(chunk[i], byte_of[number]);
    }
}

static void random_ternary(base_rng *rng, int8_t *v, size_t n) {
    for (size_t i = 0; i < n; i++) v[i] = (int8_t)((int)base_rng_below(rng, 3) - 1);
}

/* Every value from its byte, found by the drawing; padding is zeros; one scale for all rows. */
static void values_stand_where_the_drawing_says(void **state) {
    (void)state;
    static const struct {
        uint64_t rows, cols;
    } shapes[] = {{1, 1}, {15, 19}, {16, 20}, {17, 21}, {3, 300}, {33, 47}, {5, 1023}, {40, 256}};
    base_rng rng;
    base_rng_seed(&rng, 5);
    for (size_t s = 0; s < BASE_COUNT(shapes); s++) {
        const uint64_t rows = shapes[s].rows, cols = shapes[s].cols;
        const uint64_t groups = (rows + 15) / 16, chunks = (cols + 19) / 20;
        uint64_t bytes;
        assert_int_equal(quant_tensor_bytes(quant_find(QUANT_T5), rows, cols, &bytes, NULL), 0);
        assert_int_equal(bytes, groups * chunks * 64 + rows * 4);
        assert_int_equal(quant_t5_row_bytes(cols) * 16, chunks * 64);
        int8_t *v = malloc(rows * cols), *row = malloc(cols);
        uint8_t *packed = malloc(bytes);
        float *decoded = malloc(cols * sizeof *decoded);
        random_ternary(&rng, v, rows * cols);
        assert_int_equal(quant_ternary_pack(QUANT_T5, 0, rows, cols, v, 0.75f, packed, NULL), 0);
        for (uint64_t r = 0; r < groups * 16; r++)
            for (uint64_t c = 0; c < chunks * 20; c++) {
                uint8_t b = packed[(r / 16 * chunks + c / 20) * 64 + r % 16 * 4 + c % 4];
                int want = r < rows && c < cols ? v[r * cols + c] + 1 : 1;
                assert_int_equal(documented_digit(b, (int)(c % 20 / 4)), want);
            }
        const quant_tensor t = {QUANT_T5, 0, rows, cols, packed};
        for (uint64_t r = 0; r < rows; r++) {
            float scale;
            bool uniform;
            assert_int_equal(quant_ternary_row(&t, r, row, &scale, &uniform, NULL), ROTOR_OK);
            assert_memory_equal(row, v + r * cols, cols);
            assert_true(scale == 0.75f && uniform);
            assert_int_equal(quant_decode_rows(&t, r, r + 1, decoded, NULL), ROTOR_OK);
            for (uint64_t c = 0; c < cols; c++)
                assert_true(decoded[c] == 0.75f * (float)v[r * cols + c]);
        }
        free(v);
        free(row);
        free(packed);
        free(decoded);
    }
}

static void every_row_has_its_scale(void **state) {
    (void)state;
    int8_t v[18 * 20] = {1}, row[20];
    uint8_t packed[2 * 64 + 18 * 4];
    assert_int_equal(quant_ternary_pack(QUANT_T5, 0, 18, 20, v, 1, packed, NULL), ROTOR_OK);
    const quant_tensor t = {QUANT_T5, 0, 18, 20, packed};
    for (unsigned r = 0; r < 18; r++) {
        float scale = (float)r + 0.5f, back;
        bool uniform;
        memcpy(packed + 128 + 4 * r, &scale, 4);
        assert_int_equal(quant_ternary_row(&t, r, row, &back, &uniform, NULL), ROTOR_OK);
        assert_true(back == scale);
    }
}

static void illegal_bytes_are_reported(void **state) {
    (void)state;
    enum { ROWS = 20, COLS = 45, ROW = 17, COL = 26 }; /* group 1, chunk 1, lane 1, byte 2 */
    static int8_t v[ROWS * COLS], row[COLS];
    static uint8_t packed[2 * 3 * 64 + ROWS * 4];
    const size_t at = (1 * 3 + 1) * 64 + 4 * 1 + 2;
    base_rng rng;
    size_t bad = 0;
    base_rng_seed(&rng, 6);
    random_ternary(&rng, v, sizeof v);
    assert_int_equal(quant_ternary_pack(QUANT_T5, 0, ROWS, COLS, v, 1, packed, NULL), ROTOR_OK);
    assert_true(quant_t5_check(packed, 2 * 3 * 64, &bad));
    const uint8_t good = packed[at];
    for (size_t i = 0; i < BASE_COUNT(illegal); i++) {
        const quant_tensor t = {QUANT_T5, 0, ROWS, COLS, packed};
        rotor_error err = {0};
        float scale, decoded[COLS];
        bool uniform;
        packed[at] = illegal[i];
        assert_false(quant_t5_check(packed, 2 * 3 * 64, &bad));
        assert_int_equal(bad, at);
        assert_int_equal(quant_ternary_row(&t, ROW - 1, row, &scale, &uniform, &err), ROTOR_OK);
        assert_int_equal(quant_ternary_row(&t, ROW, row, &scale, &uniform, &err), ROTOR_E_FORMAT);
        assert_string_equal(err.message, "row 17, column 22: no string of five digits");
        assert_int_equal(quant_decode_rows(&t, ROW, ROW + 1, decoded, &err), ROTOR_E_FORMAT);
        assert_string_equal(err.message, "row 17, column 22: no string of five digits");
    }
    packed[at] = good;
    assert_true(quant_t5_check(packed, 2 * 3 * 64, &bad));
}

static void the_first_illegal_byte_of_many_is_told(void **state) {
    (void)state;
    enum { N = 3 * 4096 + 5 }; /* blocks that are looked at together, and a rest */
    static uint8_t codes[N];
    size_t bad = 7;
    for (size_t i = 0; i < N; i++) codes[i] = (uint8_t)(i % 200);
    assert_true(quant_t5_check(codes, N, &bad));
    assert_true(quant_t5_check(codes, 0, &bad));
    assert_int_equal(bad, 7);
    for (size_t at = N; at-- > 0; at -= BASE_MIN(at, (size_t)700)) {
        codes[at] = 200;
        assert_false(quant_t5_check(codes, N, &bad));
        assert_int_equal(bad, at);
        assert_true(quant_t5_check(codes, at, &bad));
    }
}

static void sizes_that_overflow_are_refused(void **state) {
    (void)state;
    uint64_t bytes = 7;
    const quant_info *t5 = quant_find(QUANT_T5);
    assert_int_equal(quant_tensor_bytes(t5, (uint64_t)1 << 62, 1, &bytes, NULL), ROTOR_E_FORMAT);
    assert_int_equal(quant_tensor_bytes(t5, 1, (uint64_t)1 << 62, &bytes, NULL), ROTOR_E_FORMAT);
    assert_int_equal(quant_tensor_bytes(t5, UINT64_MAX, 1, &bytes, NULL), ROTOR_E_FORMAT);
    assert_int_equal(bytes, 7);
    assert_int_equal(quant_tensor_bytes(t5, 2560, 6912, &bytes, NULL), ROTOR_OK);
    assert_int_equal(bytes, 160 * 346 * 64 + 2560 * 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_string_has_one_byte),
        cmocka_unit_test(values_stand_where_the_drawing_says),
        cmocka_unit_test(every_row_has_its_scale),
        cmocka_unit_test(illegal_bytes_are_reported),
        cmocka_unit_test(the_first_illegal_byte_of_many_is_told),
        cmocka_unit_test(sizes_that_overflow_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
