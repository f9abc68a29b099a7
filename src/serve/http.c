/* SPDX-License-Identifier: MIT
 *
 * One exchange: from the first header to the last byte of the reply.
 *
 * libmicrohttpd calls serve_handle when the headers are there, for every piece of the body, when
 * that is whole, and again whenever a suspended connection was woken. What can be refused is
 * refused at the headers, before anybody waits for a body; a small body is read all the same, so
 * that the connection can be used again.
 */
#include "serve/serve_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { SWALLOW_MAX = 64 << 10, STREAM_BLOCK = 16 << 10 };

/* ==== Replies ================================================================================= */

static void add_headers(const serve_exchange *x, struct MHD_Response *r, int status) {
    mhd()->add_response_header(r, "X-Request-Id", x->id);
    if (x->origin) {
        mhd()->add_response_header(r, "Access-Control-Allow-Origin", x->origin);
        mhd()->add_response_header(r, "Access-Control-Expose-Headers",
                                   "X-Request-Id, Retry-After, X-Should-Retry");
        if (strcmp(x->origin, "*") != 0) mhd()->add_response_header(r, "Vary", "Origin");
    }
    if (status == 401) mhd()->add_response_header(r, "WWW-Authenticate", "Bearer");
    if (status == 405) {
        char allow[48];
        const char *tail;
        serve_find_route(x->method, x->path, &tail, allow);
        mhd()->add_response_header(r, "Allow", allow);
    }
    if (status == 500 || status == 501) mhd()->add_response_header(r, "X-Should-Retry", "false");
    mhd()->add_response_header(r, "X-Content-Type-Options", "nosniff");
}

static enum MHD_Result queue(serve_exchange *x, int status, struct MHD_Response *r) {
    if (!r) return MHD_NO;
    add_headers(x, r, status);
    x->status = status;
    x->replied = true;
    const enum MHD_Result ok = mhd()->queue_response(x->conn, (unsigned)status, r);
    mhd()->destroy_response(r);
    return ok;
}

static void reply_with(serve_exchange *x, int status, const char *type, const void *p,
                       size_t n_bytes, int retry_s) {
    char seconds[16];
    struct MHD_Response *r =
        mhd()->create_response_from_buffer(n_bytes, (void *)(uintptr_t)p, MHD_RESPMEM_MUST_COPY);
    if (r && type) mhd()->add_response_header(r, "Content-Type", type);
    if (r) mhd()->add_response_header(r, "Cache-Control", "no-store");
    if (r && retry_s) {
        snprintf(seconds, sizeof seconds, "%d", retry_s);
        mhd()->add_response_header(r, "Retry-After", seconds);
    }
    x->sent_bytes = n_bytes;
    queue(x, status, r);
}

void serve_reply_bytes(serve_exchange *x, int status, const char *type, const void *p,
                       size_t n_bytes) {
    reply_with(x, status, type, p, n_bytes, 0);
}

void serve_reply_static(serve_exchange *x, int status, const void *p, size_t n_bytes,
                        const serve_header *headers) {
    struct MHD_Response *r =
        mhd()->create_response_from_buffer(n_bytes, (void *)(uintptr_t)p, MHD_RESPMEM_PERSISTENT);
    for (; r && headers->name; headers++)
        mhd()->add_response_header(r, headers->name, headers->value);
    x->sent_bytes = n_bytes;
    queue(x, status, r);
}

static void reply_json(serve_exchange *x, int status, json_t *body, int retry_s) {
    base_buf text = {0};
    serve_put_json(&text, body);
    base_buf_puts(&text, "\n");
    if (!text.failed) reply_with(x, status, "application/json", text.data, text.len, retry_s);
    base_buf_free(&text);
}

void serve_reply_json(serve_exchange *x, int status, json_t *body) {
    reply_json(x, status, body, 0);
}

void serve_reply_fault(serve_exchange *x, const serve_fault *f) {
    const serve_dialect *d = x->route ? x->route->dialect : NULL;
    reply_json(x, f->status, d ? d->fault(f) : serve_openai_fault(f), f->retry_s);
}

/* ==== OPTIONS ================================================================================= */

/* What may come with a request of this page: what it asks for, where that is a list of names. */
static const char *allowed_headers(const serve_exchange *x) {
    static const char usual[] = "Authorization, Content-Type, X-Api-Key, Anthropic-Version, "
                                "Anthropic-Beta, X-Request-Id";
    static const char names[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ";
    const char *asked =
        mhd()->lookup_connection_value(x->conn, MHD_HEADER_KIND, "Access-Control-Request-Headers");
    if (!x->origin || !asked || !asked[0] || asked[strspn(asked, names)]) return usual;
    return asked;
}

static enum MHD_Result answer_options(serve_exchange *x, const char *allow) {
    struct MHD_Response *r = mhd()->create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (r) {
        char methods[64];
        snprintf(methods, sizeof methods, "%s%sOPTIONS", allow, allow[0] ? ", " : "");
        mhd()->add_response_header(r, "Allow", methods);
        mhd()->add_response_header(r, "Access-Control-Allow-Methods", methods);
        mhd()->add_response_header(r, "Access-Control-Allow-Headers", allowed_headers(x));
        mhd()->add_response_header(r, "Access-Control-Max-Age", "600");
    }
    return queue(x, 204, r);
}

/* ==== A stream ================================================================================ */

static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max) {
    serve_call *c = cls;
    serve_inside *in = c->inside;
    ssize_t n = 0;
    (void)pos;
    base_mutex_lock(in->lock);
    const size_t have = in->out.len - in->out_at;
    if (have) {
        n = (ssize_t)BASE_MIN(have, max);
        memcpy(out, in->out.data + in->out_at, (size_t)n);
        in->out_at += (size_t)n;
    } else if (in->ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (!in->asleep && in->conn) {
        in->asleep = true;
        mhd()->suspend_connection(in->conn);
    }
    base_mutex_unlock(in->lock);
    return n;
}

static enum MHD_Result begin_stream(serve_exchange *x) {
    struct MHD_Response *r = mhd()->create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK,
                                                                  read_stream, x->call, NULL);
    if (r) {
        mhd()->add_response_header(r, "Content-Type", x->call->dialect->stream_type);
        mhd()->add_response_header(r, "Cache-Control", "no-cache");
        mhd()->add_response_header(r, "X-Accel-Buffering", "no");
    }
    return queue(x, 200, r);
}

static enum MHD_Result ask_again(serve_exchange *x);

/* The call's whole reply, or sleep until it is there; for one that met a sleeping model also a
 * stream, or another try. */
static enum MHD_Result await_reply(serve_exchange *x) {
    serve_inside *in = x->call->inside;
    base_mutex_lock(in->lock);
    const bool ended = in->ended, streaming = in->streaming, again = in->again;
    if (!ended && !streaming && !in->asleep) {
        in->asleep = true;
        mhd()->suspend_connection(x->conn);
    }
    base_mutex_unlock(in->lock);
    if (again) return ask_again(x);
    if (streaming) return begin_stream(x);
    if (!ended) return MHD_YES;
    reply_with(x, in->status, "application/json", in->out.data, in->out.len, in->retry_s);
    return x->replied ? MHD_YES : MHD_NO;
}

/* ==== Arriving ================================================================================ */

static void refuse(serve_exchange *x, const serve_fault *f) {
    x->refused = true;
    x->fault = *f;
}

static uint64_t announced(const serve_exchange *x) {
    const char *n = mhd()->lookup_connection_value(x->conn, MHD_HEADER_KIND, "Content-Length");
    return n ? strtoull(n, NULL, 10) : 0;
}

static bool too_large(serve_exchange *x, serve_fault *f) {
    return serve_fail_with(f, SERVE_REQUEST_TOO_LARGE,
                           "the body is larger than %zu bytes (--max-body)",
                           x->s->opt.max_body_bytes);
}

static bool check_headers(serve_exchange *x, const char *allow, serve_fault *f) {
    if (!serve_guard(x, f)) return false;
    if (strcmp(x->method, "OPTIONS") == 0) return true;
    if (x->cut)
        return serve_fail_with(f, SERVE_URI_TOO_LONG, "the path has more than %zu bytes",
                               sizeof x->path - 1);
    if (!x->route && allow[0])
        return serve_fail_with(f, SERVE_METHOD_NOT_ALLOWED, "%s does not take %s, but %s", x->path,
                               x->method, allow);
    if (!x->route)
        return serve_fail_with(f, SERVE_UNKNOWN_URL,
                               "there is no %.200s here; the API begins at /v1", x->path);
    if (announced(x) > x->s->opt.max_body_bytes) return too_large(x, f);
    return (x->route->flags & SERVE_EARLY) || serve_is_up(x->s, f);
}

/* A route of the path with whatever method: it says in which form a refusal is written. */
static const serve_route *any_route(const char *path) {
    static const char *const methods[] = {"POST", "GET"};
    const serve_route *r = NULL;
    const char *tail;
    char allow[48];
    for (size_t i = 0; !r && i < BASE_COUNT(methods); i++)
        r = serve_find_route(methods[i], path, &tail, allow);
    return r;
}

static serve_exchange *begin(serve_server *s, struct MHD_Connection *conn, const char *url,
                             const char *method) {
    char allow[48];
    serve_fault f = {0};
    serve_exchange *x = base_alloc(sizeof *x);
    if (!x) return NULL;
    x->s = s;
    x->conn = conn;
    x->start_us = base_now_us();
    serve_expect_body(x);
    serve_make_id(x->id, "req_");
    snprintf(x->method, sizeof x->method, "%s", method);
    serve_normal_path(url, x->path, sizeof x->path);
    x->cut = strlen(url) >= sizeof x->path;
    x->route = serve_find_route(x->method, x->path, &x->tail, allow);
    if (!check_headers(x, allow, &f)) refuse(x, &f);
    if (x->refused && !x->route) x->route = any_route(x->path);
    atomic_fetch_add(&s->n_open, 1);
    return x;
}

/* A body that nobody is going to read, and that is large or waits for our word. */
static bool refuse_at_once(const serve_exchange *x) {
    const char *expect = mhd()->lookup_connection_value(x->conn, MHD_HEADER_KIND, "Expect");
    return x->refused && (expect || announced(x) > SWALLOW_MAX);
}

static void take_body(serve_exchange *x, const char *p, size_t n_bytes) {
    serve_fault f = {0};
    serve_note_body(x, n_bytes);
    if (x->refused) return;
    if (x->body.len + n_bytes > x->s->opt.max_body_bytes) {
        too_large(x, &f);
        refuse(x, &f);
        base_buf_free(&x->body);
    } else if (!base_buf_append(&x->body, p, n_bytes)) {
        serve_no_memory(&f);
        refuse(x, &f);
    }
}

/* The handler has replied, or left a call to be waited for. */
static enum MHD_Result after_handler(serve_exchange *x) {
    if (x->replied) return MHD_YES;
    if (!x->call) return MHD_NO;
    const bool streams = !x->waits && x->call->req.stream && !x->call->inside->task;
    return streams ? begin_stream(x) : await_reply(x);
}

/* The model is there now. It stays until its first holder lets go, which is after the second. */
static enum MHD_Result ask_again(serve_exchange *x) {
    serve_call *first = x->call;
    x->call = NULL;
    x->waits = false;
    x->route->handle(x);
    serve_call_release(first);
    return after_handler(x);
}

static enum MHD_Result dispatch(serve_exchange *x) {
    char allow[48];
    const char *tail;
    x->dispatched = true;
    serve_expect_nothing(x);
    if (x->refused) {
        serve_reply_fault(x, &x->fault);
        return x->replied ? MHD_YES : MHD_NO;
    }
    if (strcmp(x->method, "OPTIONS") == 0) {
        serve_find_route(x->method, x->path, &tail, allow);
        return answer_options(x, allow);
    }
    x->route->handle(x);
    return after_handler(x);
}

enum MHD_Result serve_handle(void *server, struct MHD_Connection *conn, const char *url,
                             const char *method, const char *version, const char *upload_data,
                             size_t *upload_data_size, void **exchange) {
    serve_exchange *x = *exchange;
    (void)version;
    if (!x) {
        *exchange = x = begin(server, conn, url, method);
        if (!x) return MHD_NO;
        return refuse_at_once(x) ? dispatch(x) : MHD_YES;
    }
    if (*upload_data_size) {
        take_body(x, upload_data, *upload_data_size);
        *upload_data_size = 0;
        return MHD_YES;
    }
    if (!x->dispatched) return dispatch(x);
    return x->replied ? MHD_YES : await_reply(x);
}

void serve_done(void *server, struct MHD_Connection *conn, void **exchange,
                enum MHD_RequestTerminationCode why) {
    serve_exchange *x = *exchange;
    serve_server *s = server;
    (void)conn;
    if (!x) return;
    *exchange = NULL;
    serve_expect_next(x);
    bool left = why != MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (x->call) {
        serve_inside *in = x->call->inside;
        base_mutex_lock(in->lock);
        in->conn = NULL;
        left = left || !in->ended;
        base_mutex_unlock(in->lock);
        serve_call_release(x->call);
    }
    serve_log_exchange(x, left ? 499 : x->status);
    base_mutex_lock(s->lock);
    s->metrics.requests[BASE_MIN((left ? 499 : x->status) / 100, 7)]++;
    base_cond_broadcast(s->wake); /* so that a call whose client left is noticed */
    base_mutex_unlock(s->lock);
    base_buf_free(&x->body);
    base_free(x);
    atomic_fetch_sub(&s->n_open, 1);
}
