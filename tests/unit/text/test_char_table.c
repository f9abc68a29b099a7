/* SPDX-License-Identifier: MIT
 *
 * text: the table that builds without utf8proc look characters up in says of every code point what
 * char_class.c says. The looking up is compiled here under other names, beside the original.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "text/text_internal.h"

unsigned table_class_of(int32_t cp);
bool table_is_word_char(int32_t cp);

#define text_class_of     table_class_of
#define text_is_word_char table_is_word_char
#include "text/char_lookup.c" /* NOLINT: the code under test */
#undef text_class_of
#undef text_is_word_char

static void test_every_code_point(void **state) {
    (void)state;
    for (int32_t cp = -1; cp <= 0x10FFFF; cp++) {
        assert_int_equal(table_class_of(cp), text_class_of(cp));
        assert_int_equal(table_is_word_char(cp), text_is_word_char(cp));
    }
    assert_in_range(char_n_runs, 1000, 10000); /* runs, not code points */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_code_point)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
