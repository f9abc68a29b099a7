/* SPDX-License-Identifier: MIT
 *
 * A timeline of what a program did, in the JSON of Chrome's trace events, which Perfetto and
 * chrome://tracing show. Events are kept in memory and written when the trace ends: the file
 * appears under its name whole, also when whatever was traced has been interrupted.
 *
 *     | the first sixteenth stays | the rest is a ring: the newest |      room for max events
 *
 * So the beginning (loading, the prompt) and the end of a long run are there, and how many in
 * between are not is said in the file.
 *
 * Threading: base_trace_add from any thread, for the price of one atomic addition and a copy; the
 * others by one thread, while nobody adds. An event that is being written while 15/16 of max others
 * come after it could be torn; steps have far fewer.
 */
#include "base/base_internal.h"

#include <stdio.h>

rotor_status base_trace_create(base_trace **out, const char *path, uint32_t max, rotor_error *err) {
    base_trace *t = base_alloc(sizeof *t);
    if (!t) return base_fail_nomem(err, "tracing");
    t->max = BASE_MAX(max, 16u);
    t->keep = t->max / 16;
    t->begin_ns = base_now_ns();
    t->out.fd = -1;
    t->event = base_alloc_array(t->max, sizeof *t->event);
    rotor_status st =
        t->event ? base_out_open(&t->out, path, err) : base_fail_nomem(err, "tracing");
    if (st != ROTOR_OK) {
        base_free(t->event);
        base_free(t);
        return st;
    }
    *out = t;
    return ROTOR_OK;
}

/* ==== Writing ================================================================================= */

/* As a JSON string. A character that was cut off at the end is left out, and so is what is none. */
static void put_string(base_buf *b, const char *s, size_t n) {
    base_buf_puts(b, "\"");
    for (size_t i = 0; i < n;) {
        int32_t cp;
        const int len = base_utf8_decode(s + i, n - i, &cp);
        const size_t step = len > 0 ? (size_t)len : 1;
        if (len > 0 && (cp == '"' || cp == '\\'))
            base_buf_printf(b, "\\%c", (char)cp);
        else if (len > 0 && cp >= 0 && cp < 0x20)
            base_buf_printf(b, "\\u%04x", (unsigned)cp);
        else if (len > 0 && cp >= 0)
            base_buf_append(b, s + i, step);
        i += step;
    }
    base_buf_puts(b, "\"");
}

/* Nanoseconds as the microseconds of the format. */
static void put_us(base_buf *b, const char *key, uint64_t ns) {
    base_buf_printf(b, ",\"%s\":%llu.%03u", key, (unsigned long long)(ns / 1000),
                    (unsigned)(ns % 1000));
}

static void put_number(base_buf *b, const char *key, uint64_t value, uint64_t none, char *comma) {
    if (value == none) return;
    base_buf_printf(b, "%.1s\"%s\":%llu", comma, key, (unsigned long long)value);
    *comma = ',';
}

static void put_args(base_buf *b, const base_trace_event *e) {
    char comma = '{';
    base_buf_puts(b, ",\"args\":");
    put_number(b, "layer", e->layer, BASE_TRACE_NONE, &comma);
    put_number(b, "rows", e->rows, 0, &comma);
    put_number(b, "bytes", e->bytes, 0, &comma);
    put_number(b, "id", e->id, BASE_TRACE_NONE, &comma);
    if (e->label) {
        base_buf_printf(b, "%c\"tensor\":", comma);
        put_string(b, e->label, strlen(e->label));
        comma = ',';
    }
    if (e->n_text) {
        base_buf_printf(b, "%c\"text\":", comma);
        put_string(b, e->text, e->n_text);
        comma = ',';
    }
    base_buf_puts(b, comma == '{' ? "{}" : "}");
}

static void put_event(base_buf *b, const base_trace *t, const base_trace_event *e) {
    const uint64_t start = BASE_MAX(e->start_ns, t->begin_ns);
    base_buf_printf(b, ",\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%u",
                    e->name, e->cat, e->track);
    put_us(b, "ts", start - t->begin_ns);
    put_us(b, "dur", e->end_ns > start ? e->end_ns - start : 0);
    put_args(b, e);
    base_buf_puts(b, "}");
}

/* Names of the tracks that have events. */
static void put_tracks(base_buf *b, const base_trace *t, size_t n) {
    bool seen[BASE_TRACE_PHASES + 1] = {false};
    const char *comma = "";
    for (size_t i = 0; i < n; i++) seen[t->event[i].track] = true;
    for (unsigned i = 0; i <= BASE_TRACE_PHASES; i++) {
        if (!seen[i]) continue;
        base_buf_printf(b, "%s\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,",
                        comma, i);
        if (i == BASE_TRACE_PHASES)
            base_buf_puts(b, "\"args\":{\"name\":\"phases\"}}");
        else
            base_buf_printf(b, "\"args\":{\"name\":\"thread %u\"}}", i);
        comma = ",";
    }
    if (!*comma)
        base_buf_puts(b, "\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{}}");
}

static rotor_status flush(base_out *o, base_buf *b, rotor_error *err) {
    if (b->failed) return base_fail_nomem(err, "writing a trace");
    rotor_status st = base_out_write(o, b->data, b->len, err);
    base_buf_reset(b);
    return st;
}

static rotor_status write_all(base_trace *t, base_buf *b, rotor_error *err) {
    const uint64_t added = atomic_load(&t->n);
    const size_t n = (size_t)BASE_MIN(added, (uint64_t)t->max), ring = t->max - t->keep;
    const size_t oldest = added > t->max ? (size_t)((added - t->keep) % ring) : 0;
    base_buf_printf(b,
                    "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"events\":%llu,\"left_out\":%llu},"
                    "\n\"traceEvents\":[",
                    (unsigned long long)added, (unsigned long long)(added - n));
    put_tracks(b, t, n);
    for (size_t i = 0; i < n; i++) {
        const bool first = i < t->keep || added <= t->max;
        put_event(b, t, &t->event[first ? i : t->keep + (oldest + i - t->keep) % ring]);
        if (b->len > 60000) ROTOR_TRY(flush(&t->out, b, err));
    }
    base_buf_puts(b, "\n]}\n");
    ROTOR_TRY(flush(&t->out, b, err));
    return base_out_commit(&t->out, err);
}

rotor_status base_trace_finish(base_trace **pt, rotor_error *err) {
    base_trace *t = *pt;
    base_buf b = {0};
    if (!t) return ROTOR_OK;
    const rotor_status st = write_all(t, &b, err);
    base_buf_free(&b);
    base_out_abort(&t->out);
    base_free(t->event);
    base_free(t);
    *pt = NULL;
    return st;
}
