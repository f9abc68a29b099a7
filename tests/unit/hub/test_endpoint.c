/* SPDX-License-Identifier: MIT
 *
 * What an endpoint for vectors is asked and what is taken of its answers, without a wire.
 */
#include "hub/endpoint.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

/* ==== Addresses =============================================================================== */

static void expect_url(const char *word, const char *url, const char *model) {
    endpoint_address a;
    assert_int_equal(endpoint_address_parse(&a, word, NULL), ROTOR_OK);
    assert_string_equal(a.url, url);
    assert_string_equal(a.model, model);
    endpoint_address_free(&a);
}

static void test_addresses(void **state) {
    static const char *const bad[] = {"ftp://h/v1#m",      "http://h/v1",     "http://h/v1#",
                                      "http://#m",         "http:///v1#m",    "http://u@h/v1#m",
                                      "http://u:p@h/v1#m", "http://h/v1?a#m", "http://h /v1#m",
                                      "http://h/v1#m\n",   "h/v1#m"};
    (void)state;
    expect_url("http://h:1/v1#m", "http://h:1/v1/embeddings", "m");
    expect_url("https://h/v1//#org/m:7 b", "https://h/v1/embeddings", "org/m:7 b");
    expect_url("https://h/x/embeddings#a#b?c@d", "https://h/x/embeddings", "a#b?c@d");
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        endpoint_address a;
        rotor_error err = {0};
        assert_int_equal(endpoint_address_parse(&a, bad[i], &err), ROTOR_E_ARG);
        assert_null(a.url);
        assert_null(strstr(err.message, "u:p"));
    }
}

/* ==== Questions =============================================================================== */

static void test_a_question(void **state) {
    const base_str texts[] = {{"a \"b\"\n", 6}, {"\xC3\xA9\xFFx\0y", 6}};
    base_buf out = {0};
    (void)state;
    assert_int_equal(endpoint_question(&out, "m/\\", texts, 2, NULL), ROTOR_OK);
    assert_string_equal(out.data,
                        "{\"model\":\"m/\\\\\",\"input\":[\"a \\\"b\\\"\\n\","
                        "\"\xC3\xA9\xEF\xBF\xBDx\\u0000y\"],\"encoding_format\":\"float\"}");
    base_buf_free(&out);
}

/* ==== Answers ================================================================================= */

static rotor_status take(const char *answer, size_t n, size_t dims, float *out, rotor_error *err) {
    return endpoint_vectors(base_str_of(answer), n, &dims, out, err);
}

static void expect_taken(const char *answer) {
    float v[4] = {0};
    assert_int_equal(take(answer, 2, 2, v, NULL), ROTOR_OK);
    const float want[] = {1, 0, 0.6f, 0.8f};
    for (size_t i = 0; i < 4; i++) assert_true(fabsf(v[i] - want[i]) < 1e-6f);
}

static void test_answers(void **state) {
    (void)state;
    expect_taken("{\"data\":[{\"embedding\":[7,0]},{\"embedding\":[3e-3,4e-3]}]}");
    expect_taken(
        "{\"data\":[{\"index\":1,\"embedding\":[3,4]},{\"index\":0,\"embedding\":[1,0.0]}],"
        "\"model\":\"x\"}");
    /* 3 and 4 as little-endian floats, with padding and without */
    expect_taken("{\"data\":[{\"embedding\":[1,0]},{\"embedding\":\"AABAQAAAgEA=\"}]}");
    expect_taken("{\"data\":[{\"embedding\":[1,0]},{\"embedding\":\"AABAQAAAgEA\"}]}");
}

static void test_dims_are_found_out(void **state) {
    size_t dims = 0;
    (void)state;
    const base_str a = base_str_of("{\"data\":[{\"embedding\":[1,2,3]}]}");
    assert_int_equal(endpoint_vectors(a, 1, &dims, NULL, NULL), ROTOR_OK);
    assert_int_equal(dims, 3);
    dims = 0;
    const base_str none = base_str_of("{\"data\":[{\"embedding\":[]}]}");
    assert_int_equal(endpoint_vectors(none, 1, &dims, NULL, NULL), ROTOR_E_FORMAT);
    assert_int_equal(dims, 0);
}

static void test_what_is_no_answer(void **state) {
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{\"data\":7}",
        "{\"data\":[]}",
        "{\"data\":[{\"embedding\":[1,2]}]}",
        "{\"data\":[1,2]}",
        "{\"data\":[{},{}]}",
        "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":[1,2,3]}]}",
        "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":[0,0]}]}",
        "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":[1e300,0]}]}",
        "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":[1,null]}]}",
        "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":\"AABAQAAAgEAA\"}]}",
        "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":\"AABAQAAA*EA=\"}]}",
        "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":\"AADAfwAAgEA=\"}]}", /* NaN */
        "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":0,\"embedding\":[1,2]}]}",
        "{\"data\":[{\"index\":-1,\"embedding\":[1,2]},{\"index\":0,\"embedding\":[1,2]}]}",
        "{\"data\":[{\"index\":\"0\",\"embedding\":[1,2]},{\"index\":1,\"embedding\":[1,2]}]}",
        "{\"data\":[{\"index\":2,\"embedding\":[1,2]},{\"index\":1,\"embedding\":[1,2]}]}"};
    float v[4];
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        rotor_error err = {0};
        assert_int_equal(take(bad[i], 2, 2, v, &err), ROTOR_E_FORMAT);
        assert_true(err.message[0]);
    }
}

static void test_complaints(void **state) {
    char out[204];
    (void)state;
    endpoint_complaint(base_str_of("{\"error\":{\"message\":\"a\\u001b\\u009bb\"}}"), NULL, out);
    assert_string_equal(out, "a  b");
    endpoint_complaint(base_str_of("{\"detail\":\"no sk-1 here\"}"), "sk-1", out);
    assert_string_equal(out, "");
    endpoint_complaint(base_str_of("{\"error\":\"plain\"}"), "sk-1", out);
    assert_string_equal(out, "plain");
    endpoint_complaint(base_str_of("<html>"), NULL, out);
    assert_string_equal(out, "");
    base_buf b = {0};
    base_buf_puts(&b, "{\"message\":\"");
    for (int i = 0; i < 300; i++) base_buf_puts(&b, "\xF0\x9F\x90\x8B");
    base_buf_puts(&b, "\"}");
    endpoint_complaint((base_str){b.data, b.len}, NULL, out);
    assert_int_equal(strlen(out), 200);
    base_buf_free(&b);
}

static void test_what_a_server_says_is_plain(void **state) {
    char out[16];
    (void)state;
    endpoint_plain("a\x1b]0;\x07\x9b\xC2\x9b\x7f\nb", NULL, out, sizeof out);
    assert_string_equal(out, "a ]0;     b");
    endpoint_plain("k=sk-1", "sk-1", out, sizeof out);
    assert_string_equal(out, "");
    rotor_error err = {0};
    assert_int_equal(take("{\"data\" \"\xC2\x9bsk-1\"}", 1, 2, NULL, &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "is no JSON"));
    assert_null(strstr(err.message, "sk-1"));
    assert_null(strchr(err.message, '\x9b'));
}

static void test_who_is_this_machine(void **state) {
    static const char *const is[] = {"http://127.0.0.1/v1", "http://127.8.0.1:80/v1",
                                     "http://[::1]:80/v1", "https://localhost:1/",
                                     "http://localhost/v1"};
    static const char *const is_not[] = {
        "http://127.evil.example/v1", "http://127.0.0.1.example/", "http://localhost.example/v1",
        "http://10.0.0.1/v1",         "http://[::2]/v1",           "http://h:127.0.0.1/"};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(is); i++) assert_true(endpoint_is_here(is[i]));
    for (size_t i = 0; i < BASE_COUNT(is_not); i++) assert_false(endpoint_is_here(is_not[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_addresses),
                                       cmocka_unit_test(test_a_question),
                                       cmocka_unit_test(test_answers),
                                       cmocka_unit_test(test_dims_are_found_out),
                                       cmocka_unit_test(test_what_is_no_answer),
                                       cmocka_unit_test(test_complaints),
                                       cmocka_unit_test(test_what_a_server_says_is_plain),
                                       cmocka_unit_test(test_who_is_this_machine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
