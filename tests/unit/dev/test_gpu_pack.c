/* SPDX-License-Identifier: MIT
 *
 * gpu_pack: weights as words decode to what quant decodes from the file, with odd numbers of rows
 * and columns. The decoder here follows the text of gpu_pack.h, word by word.
 */
#include "dev/gpu/gpu_kernels.h"
#include "dev/gpu/gpu_pack.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdlib.h>

static base_rng rng;

static uint32_t word(const uint32_t *p, size_t n_u, size_t r, size_t u) {
    return p[(r / GPU_ROWS * n_u + u) * GPU_ROWS + r % GPU_ROWS];
}
static unsigned byte(const uint32_t *p, size_t n_u, size_t r, size_t u, size_t i) {
    return word(p, n_u, r, u + i / 4) >> 8 * (i % 4) & 255;
}
static float half(uint32_t w, size_t high) { return quant_f16_to_f32((uint16_t)(w >> 16 * high)); }
static float bits(uint32_t w) {
    float f;
    memcpy(&f, &w, 4);
    return f;
}

/* Scale (or minimum) g of the twelve bytes of Q4_K. */
static unsigned six(const uint32_t *p, size_t n_u, size_t r, size_t u, size_t g, bool min) {
    const size_t at = g + 4 * min;
    if (g < 4) return byte(p, n_u, r, u, at) & 63;
    const unsigned last = byte(p, n_u, r, u, g + 4), top = byte(p, n_u, r, u, min ? g : g - 4) >> 6;
    return (min ? last >> 4 : last & 15) | top << 4;
}

static float value(const uint32_t *p, gpu_type type, size_t n_u, size_t r, size_t c) {
    const size_t b = c / 32, e = c % 32, k = c / 256, g = b % 8;
    switch (type) {
    case GPU_T2: {
        const unsigned four = byte(p, n_u, r, c / 128 * 8, e);
        return (float)(int)(four >> (6 - 2 * (c % 128 / 32)) & 3) - 1;
    }
    case GPU_F32:
        return bits(word(p, n_u, r, c));
    case GPU_F16:
        return half(word(p, n_u, r, c / 2), c % 2);
    case GPU_BF16:
        return bits(word(p, n_u, r, c / 2) >> 16 * (c % 2) << 16);
    case GPU_Q8_0:
        return half(word(p, n_u, r, b / 2 * 17), b % 2) *
               (float)(int8_t)byte(p, n_u, r, b / 2 * 17 + 1 + b % 2 * 8, e);
    case GPU_Q4_0: {
        const unsigned two = byte(p, n_u, r, b / 2 * 9 + 1 + b % 2 * 4, e % 16);
        return half(word(p, n_u, r, b / 2 * 9), b % 2) *
               (float)((int)(two >> 4 * (e / 16) & 15) - 8);
    }
    case GPU_Q4_K: {
        const size_t u = k * 36;
        const unsigned code = byte(p, n_u, r, u + 4, g / 2 * 32 + e) >> 4 * (g % 2) & 15;
        return half(word(p, n_u, r, u), 0) * (float)six(p, n_u, r, u + 1, g, false) * (float)code -
               half(word(p, n_u, r, u), 1) * (float)six(p, n_u, r, u + 1, g, true);
    }
    case GPU_Q6_K: {
        const size_t u = k * 53;
        const unsigned low = byte(p, n_u, r, u, g / 4 * 64 + g % 2 * 32 + e) >> g % 4 / 2 * 4 & 15;
        const unsigned high = byte(p, n_u, r, u + 32, g / 4 * 32 + e) >> 2 * (g % 4) & 3;
        return half(word(p, n_u, r, u + 52), 0) *
               (float)(int8_t)byte(p, n_u, r, u + 48, 2 * g + e / 16) *
               (float)((int)(low | high << 4) - 32);
    }
    case GPU_MXFP4: {
        static const int eighths[] = {0, 1, 2, 3, 4, 6, 8, 12};
        const size_t u = b / 4 * 17;
        const unsigned two = byte(p, n_u, r, u + 1 + b % 4 * 4, e % 16) >> 4 * (e / 16);
        const float half_scale = ldexpf(1, (int)byte(p, n_u, r, u, b % 4) - 128);
        return half_scale * (float)(two & 8 ? -eighths[two & 7] : eighths[two & 7]);
    }
    case GPU_B32: {
        const size_t u = b * 12;
        return bits(word(p, n_u, r, u + e / 16)) * (float)(int8_t)byte(p, n_u, r, u + 4, e) -
               bits(word(p, n_u, r, u + 2 + e / 16));
    }
    }
    return 0;
}

/* Random bytes, half-precision numbers kept finite, as rows of a file. */
static uint8_t *random_rows(size_t n) {
    uint8_t *p = calloc(n, 1);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(base_rng_u64(&rng) & 0x7b);
    return p;
}

static void compare(const kern_mat *w, const float *want) {
    gpu_type type;
    assert_true(gpu_type_of(w, &type));
    const size_t n_u = gpu_row_words(type, w->cols), n_groups = (w->rows + GPU_ROWS - 1) / GPU_ROWS;
    uint32_t *p = calloc(n_groups * n_u * GPU_ROWS, 4);
    assert_non_null(p);
    for (size_t g = 0; g < n_groups; g++) /* one at a time, as threads may */
        gpu_pack(w, type, g, g + 1, p + g * n_u * GPU_ROWS);
    for (size_t r = 0; r < w->rows; r++)
        for (size_t c = 0; c < w->cols; c++)
            if (value(p, type, n_u, r, c) != want[r * w->cols + c])
                fail_msg("type %u, row %zu, column %zu of [%zu, %zu]: %g, not %g", w->type, r, c,
                         w->rows, w->cols, (double)value(p, type, n_u, r, c),
                         (double)want[r * w->cols + c]);
    for (size_t r = w->rows; r < n_groups * GPU_ROWS; r++)
        for (size_t u = 0; u < n_u; u++) assert_int_equal(word(p, n_u, r, u), 0);
    free(p);
}

/* Block types by quant_unpack32, which minds no illegal ternary codes: they are words like others.
 */
static void decode(const quant_info *info, const uint8_t *data, size_t rows, size_t cols,
                   float *want) {
    const quant_tensor t = {.type = info->id, .rows = rows, .cols = cols, .data = data};
    if (!(info->flags & QUANT_BLOCK32)) {
        assert_int_equal(quant_decode_rows(&t, 0, rows, want, NULL), ROTOR_OK);
        return;
    }
    const size_t row_bytes = cols / info->block_elems * info->block_bytes;
    for (size_t i = 0; i < rows * cols; i++) {
        quant_block32 b;
        quant_unpack32(info->id, data + i / cols * row_bytes, i % cols / 32, &b);
        const size_t e = i % cols % 32;
        want[i] = b.a[e / 16] * (float)b.q[e] - b.b[e / 16];
    }
}

static void check_file_type(uint32_t type, size_t rows, size_t cols) {
    const quant_info *info = quant_find(type == KERN_Q8X16 ? QUANT_Q8_0 : type);
    const size_t row_bytes = cols / info->block_elems * info->block_bytes;
    uint8_t *data = random_rows(rows * row_bytes), *side = NULL;
    float *want = calloc(rows * cols, 4);
    decode(info, data, rows, cols, want);
    kern_mat w = {.data = data, .type = type, .rows = rows, .cols = cols, .row_bytes = row_bytes};
    if (type == KERN_Q8X16) {
        w.data = side = calloc(kern_q8x16_bytes(rows, cols), 1);
        for (size_t r = 0; r < rows; r += KERN_Q8X16_ROWS)
            kern_q8x16_pack(side + r * row_bytes, data + r * row_bytes,
                            BASE_MIN(rows - r, (size_t)KERN_Q8X16_ROWS), cols);
    }
    compare(&w, want);
    free(data);
    free(side);
    free(want);
}

static void file_types_decode_to_the_same_numbers(void **state) {
    (void)state;
    size_t n_types = 0;
    for (size_t i = 0; quant_at(i); i++) {
        const quant_info *info = quant_at(i);
        const bool plain = info->id == QUANT_F32 || info->id == QUANT_F16 || info->id == QUANT_BF16;
        if (!plain && !(info->flags & QUANT_BLOCK32)) continue;
        static const size_t rows[] = {1, 33, 64};
        for (size_t r = 0; r < BASE_COUNT(rows); r++)
            for (size_t n = 1; n <= 3; n += 2) {
                check_file_type(info->id, rows[r], plain ? 83 * n : info->block_elems * n);
                if (info->id == QUANT_Q8_0) check_file_type(KERN_Q8X16, rows[r], 32 * n);
            }
        n_types++;
    }
    assert_true(n_types >= 18);
}

static void ternary_types_become_t2(void **state) {
    (void)state;
    static const size_t rows[] = {1, 33}, cols[] = {80, 96, 128, 300, 2752};
    for (size_t i = 0; i < BASE_COUNT(rows) * BASE_COUNT(cols); i++) {
        const size_t R = rows[i % 2], K = cols[i / 2];
        int8_t *t = calloc(R * K, 1);
        float *want = calloc(R * K, 4);
        uint8_t *t2 = calloc(R, quant_t2_row_bytes(K)), *t5 = calloc(quant_t5_code_bytes(R, K), 1);
        for (size_t j = 0; j < R * K; j++) {
            t[j] = (int8_t)((int)base_rng_below(&rng, 3) - 1);
            want[j] = t[j];
        }
        for (size_t r = 0; r < R; r++)
            quant_t2_pack_row(t + r * K, K, t2 + r * quant_t2_row_bytes(K));
        quant_t5_pack_rows(t, R, K, t5);
        const kern_mat a = {.data = t2,
                            .type = QUANT_I2_S,
                            .rows = R,
                            .cols = K,
                            .row_bytes = quant_t2_row_bytes(K)},
                       b = {.data = t5,
                            .type = QUANT_T5,
                            .rows = R,
                            .cols = K,
                            .row_bytes = quant_t5_row_bytes(K)};
        compare(&a, want);
        compare(&b, want);
        free(t);
        free(want);
        free(t2);
        free(t5);
    }
}

static void other_types_have_no_form(void **state) {
    (void)state;
    gpu_type type;
    assert_false(gpu_type_of(&(kern_mat){.type = QUANT_I64}, &type));
    assert_false(gpu_type_of(&(kern_mat){.type = 12345}, &type));
}

int main(void) {
    base_rng_seed(&rng, 11);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_types_decode_to_the_same_numbers),
        cmocka_unit_test(ternary_types_become_t2),
        cmocka_unit_test(other_types_have_no_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
