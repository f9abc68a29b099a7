/* SPDX-License-Identifier: MIT
 *
 * Libraries found at first use: libm stands for them, which every system has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/base.h"

typedef struct maths {
    double (*root)(double);
    double (*power)(double, double);
} maths;

static const base_late_row rows[] = {
    {"sqrt", offsetof(maths, root)}, {"pow", offsetof(maths, power)}, {"no_such_function", 0}};
static const char *const names[] = {"libnosuch.so.1", "libm.so.6", "libm.dylib"};

static base_late late(size_t n_names, size_t n_rows) {
    return (base_late){.names = names,
                       .n_names = n_names,
                       .rows = rows,
                       .n_rows = n_rows,
                       .table_bytes = sizeof(maths),
                       .what = "counting needs libm",
                       .advice = "get one"};
}

static void test_the_table_is_filled_once(void **state) {
    base_late l = late(BASE_COUNT(names), 2);
    rotor_error err = {0};
    (void)state;
    assert_int_equal(base_late_open(&l, &err), ROTOR_OK);
    const maths *m = l.table;
    assert_true(m->root(9) == 3 && m->power(2, 10) == 1024);
    assert_int_equal(base_late_open(&l, &err), ROTOR_OK);
    assert_ptr_equal(l.table, m);
    base_free(l.table);
}

static void test_what_is_missing_is_said_in_one_line(void **state) {
    base_late none = late(1, 2), old = late(BASE_COUNT(names), 3);
    rotor_error err = {0};
    (void)state;
    assert_int_equal(base_late_open(&none, &err), ROTOR_E_UNSUPPORTED);
    assert_string_equal(err.message, "counting needs libm, which is not installed (get one)");
    assert_int_equal(base_late_open(&old, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "counting needs libm, which does not load: the libm"));
    assert_non_null(strstr(err.message, " here has no no_such_function: it is too old (get one)"));
    assert_true(!none.table && !old.table);
}

/* A file that is no library stands for one whose own libraries are missing. */
static void test_the_loaders_reason_is_said(void **state) {
    const char *const broken[] = {"libnosuch.so.1", "/dev/null", "libnosuch.so.2"};
    base_late l = late(BASE_COUNT(broken), 2);
    rotor_error err = {0};
    (void)state;
    l.names = broken;
    assert_int_equal(base_late_open(&l, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "counting needs libm, which does not load: /dev/null: "));
    assert_non_null(strstr(err.message, " (get one)"));
}

/* The C library itself stands for a library that lacks what is asked for. */
static void test_the_next_name_is_tried_after_one_that_will_not_do(void **state) {
    const char *const several[] = {"/dev/null", "libc.so.6", "libm.so.6", "libm.dylib"};
    base_late l = late(BASE_COUNT(several), 2);
    rotor_error err = {0};
    (void)state;
    l.names = several;
    assert_int_equal(base_late_open(&l, &err), ROTOR_OK);
    assert_true(((const maths *)l.table)->root(9) == 3);
    base_free(l.table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_is_filled_once),
        cmocka_unit_test(test_what_is_missing_is_said_in_one_line),
        cmocka_unit_test(test_the_loaders_reason_is_said),
        cmocka_unit_test(test_the_next_name_is_tried_after_one_that_will_not_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
