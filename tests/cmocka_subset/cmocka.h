/* SPDX-License-Identifier: MIT
 *
 * cmocka.h, the small one: the part of cmocka's interface that Rotor's unit and kernel tests use,
 * for cross builds, where no cmocka is installed. Same names, same meaning, same closing lines. An
 * ordinary build never sees this file.
 *
 * A failed assertion prints where and what, and leaves its test by longjmp, as in cmocka.
 * Threading: assertions belong to the thread that runs the tests.
 */
#ifndef CMOCKA_SUBSET_H
#define CMOCKA_SUBSET_H

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;              /* of the test function */
    void (*test_func)(void **);    /* the test */
    int (*setup_func)(void **);    /* runs before, may be NULL */
    int (*teardown_func)(void **); /* runs after, may be NULL */
    void *initial_state;           /* what *state starts as */
};

static jmp_buf cm_leave; /* where a failed or skipped test goes back to: 1 failed, 2 skipped */

#define cmocka_unit_test(f)                                                                        \
    { #f, f, NULL, NULL, NULL }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                        \
    { #f, f, setup, teardown, NULL }
#define cmocka_unit_test_prestate(f, state)                                                        \
    { #f, f, NULL, NULL, state }
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    cm_run_group(tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)

#define print_message(...) printf(__VA_ARGS__)
#define print_error(...)   fprintf(stderr, __VA_ARGS__)
#define skip()             longjmp(cm_leave, 2)
#define fail_msg(...)      cm_fail(__FILE__, __LINE__, __VA_ARGS__)
#define fail()             fail_msg("fail()")

static inline void cm_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    longjmp(cm_leave, 1);
}

static inline void cm_strings(const char *a, const char *b, int equal, const char *file, int line) {
    if ((strcmp(a, b) == 0) != equal)
        cm_fail(file, line, "\"%s\" %s \"%s\"", a, equal ? "!=" : "==", b);
}

static inline void cm_memory(const void *a, const void *b, size_t n, int equal, const char *file,
                             int line) {
    if ((memcmp(a, b, n) == 0) != equal)
        cm_fail(file, line, "%zu bytes %s", n, equal ? "differ" : "are equal");
}

static inline void cm_floats(double a, double b, double epsilon, const char *file, int line) {
    if (!(fabs(a - b) <= epsilon)) cm_fail(file, line, "%.9g != %.9g (within %g)", a, b, epsilon);
}

#define cm_integers(a, op, b)                                                                      \
    do {                                                                                           \
        uintmax_t cm_a = (uintmax_t)(intmax_t)(a), cm_b = (uintmax_t)(intmax_t)(b);                \
        if (!(cm_a op cm_b))                                                                       \
            fail_msg("%s " #op " %s is false: %#" PRIxMAX ", %#" PRIxMAX, #a, #b, cm_a, cm_b);     \
    } while (0)

#define assert_true(c)                                                                             \
    do {                                                                                           \
        if (!(c)) fail_msg("%s is false", #c);                                                     \
    } while (0)
#define assert_false(c)            assert_true(!(c))
#define assert_non_null(p)         assert_true((p) != NULL)
#define assert_null(p)             assert_true((p) == NULL)
#define assert_ptr_equal(a, b)     assert_true((const void *)(a) == (const void *)(b))
#define assert_ptr_not_equal(a, b) assert_true((const void *)(a) != (const void *)(b))
#define assert_int_equal(a, b)     cm_integers(a, ==, b)
#define assert_int_not_equal(a, b) cm_integers(a, !=, b)
#define assert_in_range(v, low, high)                                                              \
    do {                                                                                           \
        cm_integers(v, >=, low);                                                                   \
        cm_integers(v, <=, high);                                                                  \
    } while (0)
#define assert_string_equal(a, b)          cm_strings(a, b, 1, __FILE__, __LINE__)
#define assert_string_not_equal(a, b)      cm_strings(a, b, 0, __FILE__, __LINE__)
#define assert_memory_equal(a, b, n)       cm_memory(a, b, n, 1, __FILE__, __LINE__)
#define assert_memory_not_equal(a, b, n)   cm_memory(a, b, n, 0, __FILE__, __LINE__)
#define assert_float_equal(a, b, epsilon)  cm_floats(a, b, epsilon, __FILE__, __LINE__)
#define assert_double_equal(a, b, epsilon) cm_floats(a, b, epsilon, __FILE__, __LINE__)

/* 0 passed, 1 failed, 2 skipped. */
static inline int cm_run_test(const struct CMUnitTest *test) {
    void *state = test->initial_state;
    int outcome = setjmp(cm_leave);
    if (outcome == 0) {
        if (test->setup_func && test->setup_func(&state) != 0) return 1;
        test->test_func(&state);
        if (test->teardown_func && test->teardown_func(&state) != 0) return 1;
    }
    return outcome;
}

static inline int cm_run_group(const struct CMUnitTest *tests, size_t n, int (*setup)(void **),
                               int (*teardown)(void **)) {
    int count[3] = {0, 0, 0};
    void *state = NULL;
    if (setup && setup(&state) != 0) return 1;
    for (size_t i = 0; i < n; i++) {
        static const char *const word[] = {"[       OK ]", "[  FAILED  ]", "[  SKIPPED ]"};
        int outcome = cm_run_test(&tests[i]);
        count[outcome]++;
        fprintf(stderr, "%s %s\n", word[outcome], tests[i].name);
    }
    if (teardown) teardown(&state);
    fprintf(stderr, "[  PASSED  ] %d test(s).\n", count[0]);
    if (count[2]) fprintf(stderr, "[  SKIPPED ] %d test(s).\n", count[2]);
    if (count[1]) fprintf(stderr, "[  FAILED  ] %d test(s).\n", count[1]);
    return count[1];
}

#endif
