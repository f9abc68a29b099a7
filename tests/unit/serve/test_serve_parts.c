/* SPDX-License-Identifier: MIT
 *
 * Parts of the server that stand alone: fields of JSON and what is said of wrong ones, hosts,
 * origins, content types, paths, routes, what is kept, and histograms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

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

static void lists_are_bounded(void **state) {
    (void)state;
    enum { MOST = 1 << 17 };
    serve_fault f = {0};
    base_buf text = {0};
    for (int more = 0; more < 2; more++) {
        base_buf_reset(&text);
        base_buf_puts(&text, "{\"a\": [[]");
        for (int i = 0; i < MOST - 3 + more; i++) base_buf_puts(&text, ",[]");
        base_buf_puts(&text, "]}");
        json_t *v = parse(text.data, &f);
        assert_int_equal(v != NULL, !more);
        json_decref(v);
    }
    assert_non_null(strstr(f.message, "256"));
    assert_non_null(strstr(f.message, "131072"));
    base_buf_free(&text);
}

static void assert_put(json_t *v, const char *want) {
    base_buf out = {0};
    serve_put_json(&out, v);
    assert_false(out.failed);
    assert_string_equal(out.data, want);
    base_buf_free(&out);
}

/* Numbers of clients keep their digits; what was computed here is short. */
static void numbers_are_written(void **state) {
    (void)state;
    assert_put(json_loads("[0.1,1234567890.12345,52.520008123456]", 0, NULL),
               "[0.1,1234567890.12345,52.520008123456]");
    assert_put(serve_json_real(1.0 / 3), "0.333333333");
    assert_put(serve_json_real(0.25), "0.25");
    assert_put(serve_json_real(NAN), "null");
    assert_put(json_string("alone"), "\"alone\"");
}

static void any_bytes_become_json(void **state) {
    (void)state;
    json_t *v = serve_json_text("a\xff\xed\xa0\x80z", 6);
    assert_string_equal(json_string_value(v), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");
    json_decref(v);
    v = serve_json_text("a\0z", 3); /* not every reader can keep one */
    assert_string_equal(json_string_value(v), "a\xEF\xBF\xBDz");
    assert_int_equal(json_string_length(v), 5);
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

/* ==== What is kept ============================================================================ */

static void a_stored_response_is_bounded(void **state) {
    (void)state;
    enum { ONE = 8 << 20 };
    serve_store *s = NULL;
    char *text = malloc(ONE + 1);
    assert_non_null(text);
    memset(text, ' ', ONE + 1);
    text[0] = '[';
    text[1] = ']';
    assert_int_equal(serve_store_create(&s), ROTOR_OK);
    serve_store_put(s, "fits", text, ONE);
    serve_store_put(s, "large", text, ONE + 1);
    json_t *v = serve_store_get(s, "fits");
    assert_true(json_is_array(v));
    assert_null(serve_store_get(s, "large"));
    json_decref(v);
    serve_store_free(&s);
    free(text);
}

/* A client that reads nothing is sent no more past a limit, but is told how it ends. */
static void the_end_is_always_sent(void **state) {
    (void)state;
    enum { MOST = 4 << 20 };
    static serve_server s;
    int peer;
    char *much = calloc(1, MOST);
    serve_call *c = serve_call_create(&s);
    assert_true(much && c);
    c->req.stream = true;
    c->inside->conn = (struct MHD_Connection *)(void *)&peer; /* awake: never touched */
    assert_true(serve_call_send(c, much, MOST, false));
    assert_false(serve_call_send(c, "x", 1, false));
    assert_true(serve_call_send(c, "end", 3, true));
    assert_true(c->inside->ended);
    assert_int_equal(c->inside->out.len, MOST + 3);
    assert_memory_equal(c->inside->out.data + MOST, "end", 3);
    c->inside->conn = NULL;
    serve_call_release(c);
    free(much);
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

static uint64_t wanted(size_t n_shelves, const char *text) {
    const serve_shelf shelves[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
    serve_server s = {.opt = {.shelves = shelves, .n_shelves = n_shelves}};
    serve_fault f = {0};
    json_t *v = parse(text, &f);
    assert_non_null(v);
    const uint64_t set = serve_shelves_of(&s, v);
    json_decref(v);
    return set;
}

/* A call that could use a store which it does not name here would use it beside another call. */
static void calls_name_their_stores(void **state) {
    (void)state;
    static const char *const the_only[] = {
        "{}",
        "{\"store\": null}",
        "{\"stores\": null}",
        "{\"store\": null, \"stores\": null}",
        "{\"store\": \"a\"}",
        "{\"store\": null, \"stores\": [\"a\"]}",
    };
    for (size_t i = 0; i < BASE_COUNT(the_only); i++)
        assert_int_equal(wanted(1, the_only[i]), serve_shelf_bit(0));
    assert_int_equal(wanted(3, "{\"store\": \"b\", \"stores\": null}"), serve_shelf_bit(1));
    assert_int_equal(wanted(3, "{\"store\": null, \"stores\": [\"c\", \"b\"]}"),
                     serve_shelf_bit(1) | serve_shelf_bit(2));
    assert_int_equal(wanted(3, "{\"store\": null}"), UINT64_MAX);
    assert_int_equal(wanted(3, "{\"store\": 7}"), UINT64_MAX);
    assert_int_equal(wanted(3, "{\"stores\": []}"), UINT64_MAX);
    assert_int_equal(wanted(3, "{\"stores\": [null]}"), UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_read),
        cmocka_unit_test(long_paths_are_cut),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(numbers_are_written),
        cmocka_unit_test(any_bytes_become_json),
        cmocka_unit_test(hosts),
        cmocka_unit_test(origins),
        cmocka_unit_test(content_types),
        cmocka_unit_test(paths),
        cmocka_unit_test(every_route_is_found),
        cmocka_unit_test(a_stored_response_is_bounded),
        cmocka_unit_test(the_end_is_always_sent),
        cmocka_unit_test(histograms_count),
        cmocka_unit_test(ids_differ),
        cmocka_unit_test(calls_name_their_stores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
