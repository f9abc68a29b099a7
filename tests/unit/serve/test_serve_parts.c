/* SPDX-License-Identifier: MIT
 *
 * Parts of the server that stand alone: fields of JSON and what is said of wrong ones, hosts,
 * origins, content types, paths, routes, and histograms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "serve/serve_internal.h"

static json_t *parse(const char *text, serve_fault *f) {
    base_buf b = {0};
    json_t *v = NULL;
    base_buf_puts(&b, text);
    if (!serve_parse(&b, &v, f)) assert_null(v);
    base_buf_free(&b);
    return v;
}

/* ==== JSON ==================================================================================== */

static void fields_are_read(void **state) {
    (void)state;
    serve_fault f = {0};
    json_t *v =
        parse("{\"a\": null, \"i\": 5, \"r\": 1.5, \"whole\": 3.0, \"b\": true, \"t\": \"x\","
              " \"l\": [1], \"o\": {\"k\": \"v\"}, \"m\": [{\"role\": 7}]}",
              &f);
    const serve_at top = {.object = v};
    serve_at in;
    int64_t i = 9;
    double r = 0;
    bool b = false;
    const char *t = "kept";
    const json_t *l = NULL;
    assert_non_null(v);
    assert_true(serve_read_int(top, "a", 0, 1, &i, &f) && i == 9);
    assert_true(serve_read_text(top, "gone", &t, &f) && strcmp(t, "kept") == 0);
    assert_true(serve_read_int(top, "i", 0, 5, &i, &f) && i == 5);
    assert_true(serve_read_int(top, "whole", 0, 5, &i, &f) && i == 3);
    assert_true(serve_read_real(top, "r", 1, 2, &r, &f) && r == 1.5);
    assert_true(serve_read_bool(top, "b", &b, &f) && b);
    assert_true(serve_read_text(top, "t", &t, &f) && strcmp(t, "x") == 0);
    assert_true(serve_read_list(top, "l", &l, &f) && json_array_size(l) == 1);
    assert_true(serve_object(top, "o", &in, &f) && serve_read_text(in, "k", &t, &f));
    assert_string_equal(in.path, "o");
    assert_string_equal(t, "v");
    assert_false(serve_read_int(top, "i", 0, 4, &i, &f));
    assert_string_equal(f.param, "i");
    assert_false(serve_read_int(top, "r", 0, 4, &i, &f));
    assert_false(serve_read_bool(top, "i", &b, &f));
    assert_false(serve_read_text(top, "l", &t, &f));
    assert_false(serve_object(top, "l", &in, &f));
    assert_false(serve_item(top, "l", 0, &in, &f));
    assert_string_equal(f.param, "l[0]");
    assert_true(serve_item(top, "m", 0, &in, &f));
    assert_false(serve_read_text(in, "role", &t, &f));
    assert_string_equal(f.param, "m[0].role");
    assert_int_equal(f.status, 400);
    assert_string_equal(f.code, "invalid_value");
    json_decref(v);
}

static void long_paths_are_cut(void **state) {
    (void)state;
    char out[96], key[200];
    serve_at at = {0};
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    memset(at.path, 'p', sizeof at.path - 1);
    serve_path(at, key, out);
    assert_int_equal(strlen(out), 95);
    assert_int_equal(out[71], '.');
}

static void depth_is_bounded(void **state) {
    (void)state;
    char text[2000];
    serve_fault f = {0};
    size_t n = 0;
    n += (size_t)snprintf(text, sizeof text, "{\"a\":");
    for (int i = 0; i < SERVE_DEPTH_MAX; i++) text[n++] = '[';
    for (int i = 0; i < SERVE_DEPTH_MAX; i++) text[n++] = ']';
    text[n++] = '}';
    text[n] = 0;
    assert_null(parse(text, &f));
    assert_non_null(strstr(f.message, "256"));
    json_t *v = parse("{\"brackets\": \"[[[[\\\"[[{{{{\"}", &f);
    assert_non_null(v);
    json_decref(v);
}

static void any_bytes_become_json(void **state) {
    (void)state;
    json_t *v = serve_json_text("a\xff\xed\xa0\x80z", 6);
    assert_string_equal(json_string_value(v), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");
    json_decref(v);
    v = serve_json_text(NULL, 0);
    assert_string_equal(json_string_value(v), "");
    json_decref(v);
}

/* ==== Who may ask ============================================================================= */

static void hosts(void **state) {
    (void)state;
    static const char *const own[] = {"models.example"};
    serve_server s = {.reach = BASE_IP_LOOPBACK};
    s.opt.host = "127.0.0.1";
    s.opt.hosts = own;
    s.opt.n_hosts = 1;
    const char *good[] = {"localhost",  "LOCALHOST:80", "x.localhost", "127.0.0.1:8080",
                          "127.9.9.9",  "[::1]",        "[::1]:80",    "models.example:1",
                          "localhost.", "0.0.0.0:80"};
    const char *bad[] = {
        "",         ":80", "evil.example", "localhost.evil",         "xlocalhost",        "[::2]",
        "10.0.0.1", "[",   "[]",           "127.0.0.1.evil.example", "models.example.org"};
    for (size_t i = 0; i < BASE_COUNT(good); i++)
        if (!serve_host_fits(&s, good[i])) fail_msg("%s", good[i]);
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        if (serve_host_fits(&s, bad[i])) fail_msg("%s", bad[i]);
    s.reach = BASE_IP_ANY;
    assert_true(serve_host_fits(&s, "10.0.0.1:80"));
    assert_false(serve_host_fits(&s, "evil.example"));
}

static void origins(void **state) {
    (void)state;
    static const char *const list[] = {"https://a.example"}, *const all[] = {"*"};
    serve_server s = {0};
    const char *out;
    s.opt.origins = list;
    s.opt.n_origins = 1;
    assert_true(serve_origin_fits(&s, "http://localhost:8080", "localhost:8080", &out) && !out);
    assert_true(serve_origin_fits(&s, "https://a.example", "localhost", &out));
    assert_string_equal(out, "https://a.example");
    assert_false(serve_origin_fits(&s, "https://a.example.evil", "localhost", &out));
    assert_false(serve_origin_fits(&s, "https://localhost", "localhost", &out));
    assert_false(serve_origin_fits(&s, "http://localhost:1", "localhost:2", &out));
    assert_false(serve_origin_fits(&s, "null", "localhost", &out) || out);
    assert_false(serve_origin_fits(&s, "http://localhost", NULL, &out));
    s.opt.origins = all;
    assert_true(serve_origin_fits(&s, "null", "localhost", &out));
    assert_string_equal(out, "*");
}

static void content_types(void **state) {
    (void)state;
    assert_true(serve_is_json_type("application/json") &&
                serve_is_json_type("Application/JSON ; charset=utf-8"));
    assert_false(serve_is_json_type(NULL) || serve_is_json_type("") ||
                 serve_is_json_type("text/plain") || serve_is_json_type("application/json5") ||
                 serve_is_json_type("application/jsonx; a=b"));
}

/* ==== Routes ================================================================================== */

static void paths(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"/", "/"},
                                           {"//", "/"},
                                           {"/v1/models/", "/v1/models"},
                                           {"/v1/v1/v1/models", "/v1/models"},
                                           {"/v1", "/v1"},
                                           {"/models//", "/models"}};
    char out[256], huge[600];
    for (size_t i = 0; i < BASE_COUNT(pairs); i++) {
        serve_normal_path(pairs[i][0], out, sizeof out);
        assert_string_equal(out, pairs[i][1]);
    }
    memset(huge, 'x', sizeof huge - 1);
    huge[0] = '/';
    huge[sizeof huge - 1] = 0;
    serve_normal_path(huge, out, sizeof out);
    assert_int_equal(strlen(out), 255);
}

static void every_route_is_found(void **state) {
    (void)state;
    char allow[48], path[300];
    const char *tail;
    const serve_route *r;
    for (size_t i = 0; (r = serve_route_at(i)); i++) {
        snprintf(path, sizeof path, "%s%s", r->path, r->flags & SERVE_TAIL ? "a/b" : "");
        assert_ptr_equal(serve_find_route(r->method, path, &tail, allow), r);
        if (r->flags & SERVE_TAIL) assert_string_equal(tail, "a/b");
        assert_null(serve_find_route("BREW", path, &tail, allow));
        assert_non_null(strstr(allow, r->method));
        if (strncmp(path, "/v1/", 4) != 0) continue;
        assert_ptr_equal(serve_find_route(r->method, path + 3, &tail, allow), r);
        if (r->flags & SERVE_TAIL) assert_string_equal(tail, "a/b");
    }
    assert_null(serve_find_route("GET", "/nothing", &tail, allow));
    assert_string_equal(allow, "");
    memset(path, 'y', 255);
    path[255] = 0;
    assert_null(serve_find_route("GET", path, &tail, allow));
}

/* ==== The rest ================================================================================ */

static void histograms_count(void **state) {
    (void)state;
    serve_histogram h = {0};
    uint64_t n = 0;
    serve_observe(&h, 0.0005);
    serve_observe(&h, 0.001);
    serve_observe(&h, 0.3);
    serve_observe(&h, 1e6);
    for (int i = 0; i < SERVE_BUCKETS; i++) n += h.at[i];
    assert_int_equal(h.n, 4);
    assert_int_equal(n, 3);
    assert_int_equal(h.at[0], 2);
}

static void ids_differ(void **state) {
    (void)state;
    char a[40], b[40];
    serve_make_id(a, "call_");
    serve_make_id(b, "a-prefix-too-long");
    assert_int_equal(strlen(a), 5 + 24);
    assert_int_equal(strlen(b), 12 + 24);
    assert_string_not_equal(a + 5, b + 12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_read),
        cmocka_unit_test(long_paths_are_cut),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(any_bytes_become_json),
        cmocka_unit_test(hosts),
        cmocka_unit_test(origins),
        cmocka_unit_test(content_types),
        cmocka_unit_test(paths),
        cmocka_unit_test(every_route_is_found),
        cmocka_unit_test(histograms_count),
        cmocka_unit_test(ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
