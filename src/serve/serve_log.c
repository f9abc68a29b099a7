/* SPDX-License-Identifier: MIT
 *
 * The log: a line for what matters and one for each exchange, as text or as JSON. What was asked
 * and answered is nobody's business and never in it, unless --log-prompts says so.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* What comes from clients must not look like a line of ours, nor talk to a terminal: line ends are
 * written \n, other control characters and what is no text ?. */
static void put_plain(base_buf *out, const char *text) {
    const size_t n = strlen(text);
    for (size_t at = 0; at < n;) {
        int32_t cp;
        const int k = base_utf8_decode(text + at, n - at, &cp);
        const bool control = cp < 0x20 || (cp >= 0x7f && cp < 0xa0);
        if (cp == '\n')
            base_buf_puts(out, "\\n");
        else if (control && cp != '\t')
            base_buf_puts(out, "?");
        else
            base_buf_append(out, text + at, (size_t)k);
        at += (size_t)k;
    }
}

static void put(const serve_server *s, int level, json_t *fields, const char *text) {
    base_buf line = {0};
    if (!s->opt.log) {
        json_decref(fields);
        return;
    }
    if (!s->opt.log_json) {
        json_decref(fields);
        put_plain(&line, text);
        if (!line.failed && line.len) s->opt.log(s->opt.user, level, line.data);
        base_buf_free(&line);
        return;
    }
    json_object_set_new(fields, "level", json_string(level_names[level & 3]));
    json_object_set_new(fields, "time", json_integer(base_unix_s()));
    json_object_set_new(fields, "message", serve_json_text(text, strlen(text)));
    serve_put_json(&line, fields);
    if (!line.failed) s->opt.log(s->opt.user, level, line.data);
    base_buf_free(&line);
}

void serve_log(const serve_server *s, int level, const char *fmt, ...) {
    char text[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put(s, level, s->opt.log_json ? json_object() : NULL, text);
}

void serve_log_text(const serve_server *s, int level, const char *label, const char *text) {
    base_buf line = {0};
    base_buf_puts(&line, label);
    base_buf_puts(&line, text);
    if (!line.failed) put(s, level, s->opt.log_json ? json_object() : NULL, line.data);
    base_buf_free(&line);
}

void serve_log_exchange(const serve_exchange *x, int status) {
    char text[400];
    const double ms = (double)(base_now_us() - x->start_us) / 1e3;
    snprintf(text, sizeof text, "%s %s %d %.1f ms %s", x->method, x->path, status, ms, x->id);
    json_t *f =
        !x->s->opt.log_json
            ? NULL
            : json_pack("{s:s, s:o, s:o, s:i, s:f}", "request_id", x->id, "method",
                        serve_json_text(x->method, strlen(x->method)), "path",
                        serve_json_text(x->path, strlen(x->path)), "status", status, "ms", ms);
    put(x->s, status >= 500 ? BASE_LOG_WARN : BASE_LOG_INFO, f, text);
}
