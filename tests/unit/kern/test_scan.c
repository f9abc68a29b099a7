/* SPDX-License-Identifier: MIT
 *
 * Products of a query with rows of bytes, and of two bits, against sums in 64 bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "kern/kern.h"

enum { LD = 384, ROWS = 21 };

static void sums_are_exact(void **state) {
    (void)state;
    kern c, best;
    base_rng rng;
    int8_t *rows = base_alloc_aligned(ROWS * LD), *query = base_alloc_aligned(LD);
    int32_t out[ROWS];
    kern_init(&c, 0);
    kern_init(&best, cpu_detect());
    base_rng_seed(&rng, 5);
    for (int round = 0; round < 20; round++) {
        const uint32_t span = round < 3 ? 1 : 255; /* first all at the lower end */
        for (size_t i = 0; i < ROWS * LD; i++)
            rows[i] = (int8_t)((int)base_rng_below(&rng, span) - 127);
        for (size_t i = 0; i < LD; i++) query[i] = (int8_t)(127 - (int)base_rng_below(&rng, span));
        for (int k = 0; k < 2; k++) {
            (k ? &best : &c)->scan_i8(out, rows, query, LD, ROWS);
            for (size_t r = 0; r < ROWS; r++) {
                int64_t want = 0;
                for (size_t i = 0; i < LD; i++) want += (int64_t)rows[r * LD + i] * query[i];
                assert_int_equal(out[r], want);
            }
        }
    }
    base_free_aligned(rows);
    base_free_aligned(query);
}

/* Codes set one by one by what kern.h says of their place. */
static void sums_of_codes_are_exact(void **state) {
    (void)state;
    kern c, best;
    base_rng rng;
    uint8_t *rows = base_alloc_aligned(ROWS * LD / 4);
    int8_t *query = base_alloc_aligned(LD);
    int32_t out[ROWS];
    kern_init(&c, 0);
    kern_init(&best, cpu_detect());
    base_rng_seed(&rng, 6);
    for (int round = 0; round < 20; round++) {
        int64_t want[ROWS] = {0};
        memset(rows, 0, ROWS * LD / 4);
        for (size_t i = 0; i < LD; i++) query[i] = (int8_t)(127 - (int)base_rng_below(&rng, 255));
        for (size_t r = 0; r < ROWS; r++)
            for (size_t i = 0; i < LD; i++) {
                const uint32_t code = round ? (uint32_t)base_rng_below(&rng, 4) : 3;
                const size_t group = i / 64, in_group = i % 64;
                rows[r * (LD / 4) + group * 16 + in_group % 16] |=
                    (uint8_t)(code << in_group / 16 * 2);
                want[r] += (int64_t)code * query[i];
            }
        for (int k = 0; k < 2; k++) {
            (k ? &best : &c)->scan_i2(out, rows, query, LD, ROWS);
            for (size_t r = 0; r < ROWS; r++) assert_int_equal(out[r], want[r]);
        }
    }
    base_free_aligned(rows);
    base_free_aligned(query);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_are_exact),
                                       cmocka_unit_test(sums_of_codes_are_exact)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
