/* SPDX-License-Identifier: MIT
 *
 * JSON in both directions: fields of a request, with exact complaints, and texts of a reply.
 */
#include "serve/serve_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LISTS_MAX = 1 << 17 }; /* objects and lists in a body */

/* ==== Faults ================================================================================== */

static serve_fault fault_of(serve_reason why) {
    const serve_reason_row *r = &serve_reasons[why];
    return (serve_fault){.status = r->status, .type = r->type, .code = r->code};
}

static bool fail_at(serve_fault *f, const char *param, const char *fmt, va_list ap) {
    snprintf(f->param, sizeof f->param, "%s", param ? param : "");
    vsnprintf(f->message, sizeof f->message, fmt, ap);
    return false;
}

bool serve_refuse(serve_fault *f, const char *param, serve_reason why, const char *fmt, ...) {
    va_list ap;
    *f = fault_of(why);
    va_start(ap, fmt);
    fail_at(f, param, fmt, ap);
    va_end(ap);
    return false;
}

bool serve_fail_with(serve_fault *f, serve_reason why, const char *fmt, ...) {
    va_list ap;
    *f = fault_of(why);
    va_start(ap, fmt);
    fail_at(f, NULL, fmt, ap);
    va_end(ap);
    return false;
}

bool serve_no_memory(serve_fault *f) {
    return serve_fail_with(f, SERVE_INTERNAL_ERROR, "out of memory");
}

json_t *serve_openai_fault(const serve_fault *f) {
    json_t *e = json_pack("{s:o, s:s, s:o, s:o}", "message",
                          serve_json_text(f->message, strlen(f->message)), "type", f->type, "param",
                          f->param[0] ? serve_json_text(f->param, strlen(f->param)) : json_null(),
                          "code", f->code ? json_string(f->code) : json_null());
    if (e && f->n_ctx) {
        json_object_set_new(e, "n_prompt_tokens", json_integer((json_int_t)f->n_prompt));
        json_object_set_new(e, "n_ctx", json_integer((json_int_t)f->n_ctx));
        json_object_set_new(e, "error_type", json_string("exceed_context_size_error"));
    }
    json_t *body = json_pack("{s:o}", "error", e);
    if (body && f->n_models) {
        json_object_set_new(body, "status", json_string("loading"));
        json_object_set_new(
            body, "progress",
            json_pack("{s:i, s:i}", "loaded", (int)f->n_loaded, "models", (int)f->n_models));
    }
    return body;
}

/* ==== Reading ================================================================================= */

json_t *serve_field(serve_at at, const char *key) {
    json_t *v = json_object_get(at.object, key);
    return json_is_null(v) ? NULL : v;
}

const char *serve_path(serve_at at, const char *key, char out[96]) {
    const size_t n = strlen(at.path); /* below 72 */
    memcpy(out, at.path, n);
    if (n) out[n] = '.';
    const size_t from = n + (n > 0), k = BASE_MIN(strlen(key), 95 - from);
    memcpy(out + from, key, k);
    out[from + k] = 0;
    return out;
}

static const char *kind_of(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_NULL:
        return "null";
    default:
        return "true or false";
    }
}

static bool wrong(serve_at at, const char *key, const json_t *v, const char *wanted,
                  serve_fault *f) {
    char path[96];
    serve_path(at, key, path);
    return serve_refuse(f, path, SERVE_INVALID_VALUE, "'%s': expected %s, got %s", path, wanted,
                        kind_of(v));
}

bool serve_item(serve_at at, const char *key, size_t i, serve_at *out, serve_fault *f) {
    char path[96], name[80];
    const json_t *list = serve_field(at, key), *v = json_array_get(list, i);
    snprintf(name, sizeof name, "%s[%zu]", key, i);
    if (!json_is_object(v)) return wrong(at, name, v ? v : list, "an object", f);
    *out = (serve_at){.object = v};
    snprintf(out->path, sizeof out->path, "%.71s", serve_path(at, name, path));
    return true;
}

bool serve_object(serve_at at, const char *key, serve_at *out, serve_fault *f) {
    char path[96];
    const json_t *v = serve_field(at, key);
    *out = (serve_at){.object = v};
    snprintf(out->path, sizeof out->path, "%.71s", serve_path(at, key, path));
    return !v || json_is_object(v) || wrong(at, key, v, "an object", f);
}

bool serve_read_bool(serve_at at, const char *key, bool *out, serve_fault *f) {
    const json_t *v = serve_field(at, key);
    if (!v) return true;
    if (!json_is_boolean(v)) return wrong(at, key, v, "true or false", f);
    *out = json_is_true(v);
    return true;
}

/* A number as it is; *v NULL: it is absent. path: of the field. */
static bool read_number(serve_at at, const char *key, const char *wanted, const json_t **v,
                        char path[96], serve_fault *f) {
    *v = serve_field(at, key);
    serve_path(at, key, path);
    return !*v || json_is_number(*v) || wrong(at, key, *v, wanted, f);
}

bool serve_read_real(serve_at at, const char *key, double min, double max, double *out,
                     serve_fault *f) {
    char path[96];
    const json_t *v;
    if (!read_number(at, key, "a number", &v, path, f)) return false;
    if (!v) return true;
    const double x = json_number_value(v);
    if (!(x >= min && x <= max))
        return serve_refuse(f, path, SERVE_INVALID_VALUE, "'%s' is %g: expected %g to %g", path, x,
                            min, max);
    *out = x;
    return true;
}

bool serve_read_int(serve_at at, const char *key, int64_t min, int64_t max, int64_t *out,
                    serve_fault *f) {
    char path[96];
    const json_t *v;
    if (!read_number(at, key, "a whole number", &v, path, f)) return false;
    if (!v) return true;
    const double x = json_number_value(v);
    if (!(x >= (double)min && x <= (double)max) || x != (double)(int64_t)x)
        return serve_refuse(f, path, SERVE_INVALID_VALUE,
                            "'%s' is %.17g: expected a whole number from %lld to %lld", path, x,
                            (long long)min, (long long)max);
    *out = json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)x;
    return true;
}

bool serve_read_text(serve_at at, const char *key, const char **out, serve_fault *f) {
    const json_t *v = serve_field(at, key);
    if (!v) return true;
    if (!json_is_string(v)) return wrong(at, key, v, "a text", f);
    *out = json_string_value(v);
    return true;
}

bool serve_read_list(serve_at at, const char *key, const json_t **out, serve_fault *f) {
    const json_t *v = serve_field(at, key);
    *out = v;
    return !v || json_is_array(v) || wrong(at, key, v, "a list", f);
}

/* Brackets outside of strings: opened at once, and all of them; each is memory of the parser. */
static bool too_much(const char *s, size_t n) {
    int depth = 0, all = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                quoted = false;
        } else if (s[i] == '"') {
            quoted = true;
        } else if (s[i] == '{' || s[i] == '[') {
            if (++depth > SERVE_DEPTH_MAX || ++all > LISTS_MAX) return true;
        } else if (s[i] == '}' || s[i] == ']') {
            depth--;
        }
    }
    return false;
}

bool serve_parse(const base_buf *text, json_t **out, serve_fault *f) {
    json_error_t why;
    if (!text->len)
        return serve_refuse(f, NULL, SERVE_INVALID_JSON, "the body is empty: expected JSON");
    if (too_much(text->data, text->len))
        return serve_refuse(f, NULL, SERVE_INVALID_JSON,
                            "the body is nested deeper than %d, or has more than %d objects and "
                            "lists",
                            SERVE_DEPTH_MAX, LISTS_MAX);
    json_t *v = json_loadb(text->data, text->len, 0, &why);
    if (!v)
        return serve_refuse(f, NULL, SERVE_INVALID_JSON, "the body is no JSON: %.160s (line %d)",
                            why.text, why.line);
    if (!json_is_object(v)) {
        json_decref(v);
        return serve_refuse(f, NULL, SERVE_INVALID_JSON, "the body is no JSON object");
    }
    *out = v;
    return true;
}

/* ==== Writing ================================================================================= */

json_t *serve_json_text(const char *s, size_t n_bytes) {
    base_buf clean = {0};
    const bool zero = n_bytes && memchr(s, 0, n_bytes);
    json_t *v = zero ? NULL : json_stringn(n_bytes ? s : "", n_bytes);
    if (v || !base_buf_reserve(&clean, n_bytes)) return v;
    for (size_t at = 0; at < n_bytes;) {
        int32_t cp;
        const int n = base_utf8_decode(s + at, n_bytes - at, &cp);
        if (cp <= 0)
            base_buf_puts(&clean, "\xEF\xBF\xBD");
        else
            base_buf_append(&clean, s + at, (size_t)n);
        at += (size_t)n;
    }
    if (!clean.failed) v = json_stringn(clean.data ? clean.data : "", clean.len);
    base_buf_free(&clean);
    return v;
}

json_t *serve_json_real(double x) {
    char text[32];
    if (!isfinite(x)) return json_null();
    snprintf(text, sizeof text, "%.9g", x);
    return json_real(strtod(text, NULL));
}

static int append(const char *p, size_t n_bytes, void *user) {
    return base_buf_append(user, p, n_bytes) ? 0 : -1;
}

void serve_put_json(base_buf *out, json_t *v) {
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15);
    if (!v || json_dump_callback(v, append, out, flags) != 0) out->failed = true;
    json_decref(v);
}

void serve_put_sse(base_buf *out, const char *name, json_t *v) {
    if (name) base_buf_printf(out, "event: %s\n", name);
    base_buf_puts(out, "data: ");
    serve_put_json(out, v);
    base_buf_puts(out, "\n\n");
}

void serve_make_id(char out[40], const char *prefix) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
    size_t n = (size_t)snprintf(out, 13, "%s", prefix);
    n = BASE_MIN(n, (size_t)12);
    for (int half = 0; half < 2; half++) {
        uint64_t r = base_random_seed();
        for (int i = 0; i < 12; i++, r >>= 5) out[n++] = digits[r & 31];
    }
    out[n] = 0;
}
