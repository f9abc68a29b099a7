/* SPDX-License-Identifier: MIT
 *
 * Traces: the first events and the newest are kept in order, text of any bytes is a string of JSON,
 * and a file that cannot be written is known at the start. That what is written is JSON is looked
 * at by tests/program/test_trace.py, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "base/base.h"

static char path[96]; /* of the trace */

static base_trace *begin(uint32_t max) {
    base_trace *t = NULL;
    rotor_error err = {0};
    snprintf(path, sizeof path, "trace-%d.json", (int)getpid());
    if (base_trace_create(&t, path, max, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return t;
}

/* The events of the file; the list is the caller's. */
static json_t *end(base_trace **t, json_t **all) {
    json_error_t err;
    assert_int_equal(base_trace_finish(t, NULL), ROTOR_OK);
    assert_null(*t);
    *all = json_load_file(path, JSON_REJECT_DUPLICATES, &err);
    if (!*all) fail_msg("%s: line %d: %s", path, err.line, err.text);
    unlink(path);
    return json_object_get(*all, "traceEvents");
}

static base_trace_event event(uint32_t id) {
    const uint64_t now = base_now_ns();
    return (base_trace_event){.name = "x",
                              .cat = "op",
                              .start_ns = now,
                              .end_ns = now + 1500,
                              .layer = BASE_TRACE_NONE,
                              .id = id};
}

static json_t *arg(json_t *e, const char *key) {
    return json_object_get(json_object_get(e, "args"), key);
}

static void keeps(uint32_t max, uint32_t n, const uint32_t *want, size_t n_want) {
    base_trace *t = begin(max);
    json_t *all;
    for (uint32_t i = 0; i < n; i++) {
        const base_trace_event e = event(i);
        base_trace_add(t, &e);
    }
    json_t *list = end(&t, &all);
    assert_int_equal(json_array_size(list), 1 + n_want); /* the track's name */
    for (size_t i = 0; i < n_want; i++)
        assert_int_equal(json_integer_value(arg(json_array_get(list, i + 1), "id")), want[i]);
    json_t *other = json_object_get(all, "otherData");
    assert_int_equal(json_integer_value(json_object_get(other, "events")), n);
    assert_int_equal(json_integer_value(json_object_get(other, "left_out")), n - n_want);
    json_decref(all);
}

static void the_first_and_the_newest_stay(void **state) {
    const uint32_t all[] = {0, 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                            0, 2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                            0, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39};
    (void)state;
    keeps(16, 7, all, 7);
    keeps(16, 16, all, 16);
    keeps(16, 17, all + 16, 16); /* 1 makes room for 16 */
    keeps(16, 40, all + 32, 16);
}

static void any_text_is_a_string(void **state) {
    static const struct {
        const char *text, *want;
    } rows[] = {{"plain", "plain"},
                {"\"\\\n\t\x01", "\"\\\n\t\x01"},
                {"caf\xc3\xa9", "caf\xc3\xa9"},
                {"ab\xc3", "ab"},
                {"\xff\xfe x", " x"}};
    base_trace *t = begin(100);
    json_t *all;
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        base_trace_event e = event(BASE_TRACE_NONE);
        e.label = rows[i].text;
        e.n_text = (uint8_t)strlen(rows[i].text);
        memcpy(e.text, rows[i].text, e.n_text);
        base_trace_add(t, &e);
    }
    json_t *list = end(&t, &all);
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        json_t *e = json_array_get(list, i + 1);
        assert_string_equal(json_string_value(arg(e, "text")), rows[i].want);
        assert_string_equal(json_string_value(arg(e, "tensor")), rows[i].want);
        assert_true(json_real_value(json_object_get(e, "dur")) == 1.5);
    }
    json_decref(all);
}

static void nothing_happened(void **state) {
    base_trace *t = begin(100), *none = NULL;
    json_t *all;
    (void)state;
    assert_int_equal(json_array_size(end(&t, &all)), 1);
    json_decref(all);
    assert_int_equal(base_trace_finish(&none, NULL), ROTOR_OK);
}

static void a_place_that_is_not_there(void **state) {
    base_trace *t = NULL;
    rotor_error err = {0};
    (void)state;
    assert_int_equal(base_trace_create(&t, "/nonexistent/t.json", 100, &err), ROTOR_E_IO);
    assert_non_null(strstr(err.message, "/nonexistent/t.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_and_the_newest_stay),
        cmocka_unit_test(any_text_is_a_string),
        cmocka_unit_test(nothing_happened),
        cmocka_unit_test(a_place_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
