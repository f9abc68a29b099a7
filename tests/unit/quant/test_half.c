/* SPDX-License-Identifier: MIT
 *
 * Half and bfloat conversions: against numpy's (as hashes), against the processor's own
 * instructions where it has them, and against an independent computation in double.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "quant/quant.h"

static uint32_t bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint64_t fnv(uint64_t h, uint64_t v, int n) {
    for (int i = 0; i < n; i++) h = (h ^ (v >> 8 * i & 0xFF)) * 0x100000001B3u;
    return h;
}

/* Exact value of a half, from its definition. */
static double half_value(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -v : v;
}

static void every_half_decodes(void **state) {
    (void)state;
    uint64_t hash = 0xCBF29CE484222325u;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7FFF) > 0x7C00;
        hash = fnv(hash, nan ? 0 : bits(f), 4);
        if ((h & 0x7C00) != 0x7C00) assert_true((double)f == half_value((uint16_t)h));
        if ((h & 0x7C00) != 0x7C00) assert_int_equal(signbit(f) != 0, h >> 15);
        if (nan) assert_int_equal(bits(f), (h & 0x8000) << 16 | 0x7FC00000u | (h & 0x3FF) << 13);
        /* The way back: a signalling NaN comes back quiet, everything else as it was. */
        assert_int_equal(quant_f32_to_f16(f), nan ? h | 0x200 : h);
    }
    assert_true(hash == 0xa0750411cb2745u);
}

static void halves_round_as_numpy_does(void **state) {
    (void)state;
    uint64_t hash = 0xCBF29CE484222325u;
    for (uint64_t i = 0; i < 65536; i++) {
        uint32_t u = (uint32_t)(12345 + i * 2654435761u);
        if ((u & 0x7FFFFFFF) <= 0x7F800000) hash = fnv(hash, quant_f32_to_f16(from_bits(u)), 2);
    }
    assert_true(hash == 0x6db6c6e785bb4edu);
}

/* All halves in order, neighbours a < b: a float in between goes to the nearer, a tie to the even.
 */
static void halves_round_to_nearest_even(void **state) {
    (void)state;
    for (uint16_t h = 0; h < 0x7BFF; h++) {
        float a = quant_f16_to_f32(h), b = quant_f16_to_f32((uint16_t)(h + 1)),
              middle = (a + b) / 2;
        assert_int_equal(quant_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, 1e9f)), h + 1);
        assert_int_equal(quant_f32_to_f16(-middle), 0x8000 | (h & 1 ? h + 1 : h));
    }
    assert_int_equal(quant_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(quant_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(quant_f32_to_f16(-3e38f), 0xFC00);
    assert_int_equal(quant_f32_to_f16(1e-45f), 0);
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) static uint16_t hardware_f16(float f) {
    return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT), 0);
}

__attribute__((target("f16c"))) static float hardware_f32(uint16_t h) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

static void halves_equal_the_instructions(void **state) {
    (void)state;
    if (!__builtin_cpu_supports("avx2")) skip(); /* every AVX2 processor has F16C */
    base_rng rng;
    base_rng_seed(&rng, 5);
    for (uint32_t h = 0; h < 65536; h++)
        assert_int_equal(bits(quant_f16_to_f32((uint16_t)h)), bits(hardware_f32((uint16_t)h)));
    for (int i = 0; i < 4000000; i++) {
        /* Any pattern, and patterns around the range of a half. */
        uint32_t u = (uint32_t)base_rng_u64(&rng);
        if (i & 1) u = (u & 0x80FFFFFFu) | (0x32u + u % 22) << 24;
        assert_int_equal(quant_f32_to_f16(from_bits(u)), hardware_f16(from_bits(u)));
    }
}
#endif

static void bfloat_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_bf16_to_f32((uint16_t)h);
        bool nan = (h & 0x7FFF) > 0x7F80;
        assert_int_equal(bits(f), h << 16);
        assert_int_equal(quant_f32_to_bf16(f), nan ? h | 0x40 : h);
        if ((h & 0x7FFF) >= 0x7F7F) continue;
        uint32_t tie = h << 16 | 0x8000;
        assert_int_equal(quant_f32_to_bf16(from_bits(tie)), h & 1 ? h + 1 : h);
        assert_int_equal(quant_f32_to_bf16(from_bits(tie - 1)), h);
        assert_int_equal(quant_f32_to_bf16(from_bits(tie + 1)), h + 1);
    }
    assert_int_equal(quant_f32_to_bf16(from_bits(0x7F7FFFFF)), 0x7F80); /* rounds to infinity */
    assert_int_equal(quant_f32_to_bf16(from_bits(0xFF800001)), 0xFFC0); /* NaN stays NaN */
    assert_int_equal(quant_f32_to_bf16(from_bits(0x7FFFFFFF)), 0x7FFF);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_decodes),
        cmocka_unit_test(halves_round_as_numpy_does),
        cmocka_unit_test(halves_round_to_nearest_even),
#if defined(__x86_64__)
        cmocka_unit_test(halves_equal_the_instructions),
#endif
        cmocka_unit_test(bfloat_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
