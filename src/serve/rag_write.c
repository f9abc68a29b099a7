/* SPDX-License-Identifier: MIT
 *
 * /v1/rag/stores/STORE/docs: what is in a knowledge store, and documents that requests put in and
 * take out, where the server was told that they may (--rag-write). They have ids of their own;
 * files that were added from folders have none here and stay as they are: no request names a file.
 *
 * Bodies are read on the connection's thread, stores are the librarian's. Words are in when a
 * request is answered; vectors follow (librarian.c).
 */
#include "serve/serve_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define OWN "mem:" /* begins the path of a document without a file */
enum { TEXT_MAX = 1 << 20, TITLE_MAX = 200, META_MAX = 16 << 10 }; /* bytes */
enum { ROWS = 100, ROWS_MAX = 1000 };

/* What a call wants of a store; kept with it. */
typedef struct wish {
    const serve_shelf *shelf;  /* store */
    char name[128], path[256]; /* of the store; OWN and the id of the document */
    rotor_rag_text text;       /* to put */
    int64_t after;             /* rows to list: behind this one; 0: all */
    char status[16];           /* of this status; "": of any */
    int64_t last;              /* row that was listed last */
    int64_t most;              /* at most so many */
    json_t *rows;              /* those so far; NULL: no memory */
    bool more;                 /* there are others behind them */
} wish;

static json_t *text_of(const char *s) { return serve_json_text(s, strlen(s)); }

/* ==== What is asked =========================================================================== */

/* The store, and from a path with a second star the document's id. */
static bool read_target(serve_exchange *x, serve_call *c, bool writes, serve_fault *f) {
    wish *w = serve_keep(c, 1, sizeof *w);
    if (!w) return serve_no_memory(f);
    c->state = w;
    const size_t n = strcspn(x->tail, "/");
    const char *id = strchr(x->tail + n + 1, '/'); /* behind "docs" */
    snprintf(w->name, sizeof w->name, "%.*s", (int)n, x->tail);
    if (id) snprintf(w->path, sizeof w->path, OWN "%s", id + 1);
    const size_t i = serve_find_shelf(x->s, w->name, f);
    if (i == SIZE_MAX) return false;
    w->shelf = &x->s->opt.shelves[i];
    c->inside->shelves = serve_shelf_bit(i);
    w->text.size = sizeof w->text;
    if (id) w->text.id = w->path + strlen(OWN);
    return !writes || w->shelf->write ||
           serve_fail_with(f, SERVE_STORE_READ_ONLY,
                           "requests may not change the store '%.100s': the server was started "
                           "without --rag-write %.100s",
                           w->name, w->name);
}

static bool read_id(serve_at top, wish *w, serve_fault *f) {
    const char *id = NULL;
    if (!serve_read_text(top, "id", &id, f)) return false;
    if (id && w->text.id && strcmp(id, w->text.id) != 0)
        return serve_refuse(f, "id", SERVE_INVALID_VALUE, "'id' is not the one of the path");
    if (id) w->text.id = id;
    return true;
}

static bool read_meta(serve_call *c, serve_at top, wish *w, serve_fault *f) {
    serve_at meta;
    if (!serve_object(top, "meta", &meta, f)) return false;
    if (!meta.object) return true;
    const size_t n = json_dumpb(meta.object, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS);
    if (n > META_MAX)
        return serve_refuse(f, "meta", SERVE_INVALID_VALUE,
                            "'meta' has %zu bytes: expected at most %d", n, META_MAX);
    char *text = serve_keep(c, n + 1, 1);
    if (!text) return serve_no_memory(f);
    json_dumpb(meta.object, text, n, JSON_COMPACT | JSON_SORT_KEYS);
    w->text.meta = text;
    return true;
}

/* A document goes in as one piece, while those who search wait. */
static bool check_sizes(const rotor_rag_text *t, serve_fault *f) {
    const size_t title = t->title ? strlen(t->title) : 0;
    if (t->n_bytes > TEXT_MAX)
        return serve_refuse(f, "text", SERVE_INVALID_VALUE,
                            "'text' has %zu bytes: expected at most %d; cut it into several "
                            "documents, or add it as a file with rotor rag add",
                            t->n_bytes, TEXT_MAX);
    return title <= TITLE_MAX ||
           serve_refuse(f, "title", SERVE_INVALID_VALUE,
                        "'title' has %zu bytes: expected at most %d", title, TITLE_MAX);
}

static bool read_document(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    wish *w = c->state;
    const char *format = "markdown";
    if (!read_id(top, w, f) || !serve_read_text(top, "text", &w->text.text, f) ||
        !serve_read_text(top, "title", &w->text.title, f) || !read_meta(c, top, w, f) ||
        !serve_read_text(top, "format", &format, f))
        return false;
    if (!w->text.text)
        return serve_refuse(f, "text", SERVE_MISSING_REQUIRED_PARAMETER, "'text' is missing");
    w->text.n_bytes = strlen(w->text.text); /* a body with U+0000 was refused */
    w->text.plain = strcmp(format, "text") == 0;
    if (!w->text.plain && strcmp(format, "markdown") != 0)
        return serve_refuse(f, "format", SERVE_INVALID_VALUE,
                            "'format' is '%.40s': expected markdown or text", format);
    return check_sizes(&w->text, f);
}

/* ==== Putting and taking out ================================================================== */

/* Where a store on a server does not answer, that may pass; a disk that is full stays so. */
static bool failed(const serve_call *c, rotor_status st, const rotor_error *err, serve_fault *f) {
    const serve_server *s = c->inside->s;
    const wish *w = c->state;
    if (st == ROTOR_E_ARG || st == ROTOR_E_UNSUPPORTED)
        return serve_refuse(f, NULL, SERVE_INVALID_VALUE, "%.500s", err->message);
    if (st == ROTOR_E_NOTFOUND)
        return serve_fail_with(f, SERVE_DOCUMENT_NOT_FOUND, "%.500s", err->message);
    if (st != ROTOR_E_STATE && (st != ROTOR_E_IO || w->shelf->far))
        return serve_store_failed(s, NULL, err, f);
    serve_log(s, BASE_LOG_WARN, "a store could not be used: %s", err->message);
    if (st == ROTOR_E_IO)
        return serve_fail_with(f, SERVE_STORAGE_FAILED,
                               "the store could not be written; the server's log says why");
    serve_fail_with(f, SERVE_STORE_LOCKED,
                    "another program is writing to this store; try again when it is done");
    f->retry_s = 2;
    return false;
}

/* Answers with body, or with what went wrong. */
static void answer(serve_call *c, bool ok, json_t *body, const serve_fault *f) {
    if (ok)
        serve_call_reply(c, 200, body);
    else
        serve_call_fault(c, f);
}

static void note_change(serve_server *s, const serve_shelf *shelf, bool put) {
    serve_due *due = &s->due[shelf - s->opt.shelves];
    if (put) due->wanted = shelf->embeds;
    if (put && !due->pause_us) due->next_us = 0; /* what was away has its turn when it was to */
    base_mutex_lock(s->lock);
    s->metrics.docs_put += put;
    s->metrics.docs_removed += !put;
    base_mutex_unlock(s->lock);
}

static json_t *put_json(const wish *w, const rotor_rag_put_result *done) {
    json_t *degraded = json_array();
    const bool pending = w->shelf->embeds && done->n_pending;
    if (pending || !w->shelf->embeds)
        json_array_append_new(degraded, json_string(pending ? "vector_pending" : "vector"));
    return json_pack("{s:s, s:o, s:o, s:o, s:I, s:b, s:b, s:o}", "object", "rag.document", "id",
                     text_of(done->path + strlen(OWN)), "store", text_of(w->name), "path",
                     text_of(done->path), "passages", (json_int_t)done->n_chunks, "replaced",
                     (int)done->replaced, "unchanged", (int)done->unchanged, "degraded", degraded);
}

static void do_put(serve_call *c) {
    wish *w = c->state;
    rotor_rag_put_result done = {.size = sizeof done};
    rotor_error err = {0};
    serve_fault f = {0};
    const rotor_status st = rotor_rag_put(w->shelf->r, &w->text, &done, &err);
    if (st == ROTOR_OK) note_change(c->inside->s, w->shelf, true);
    const bool ok = st == ROTOR_OK || failed(c, st, &err, &f);
    answer(c, ok, ok ? put_json(w, &done) : NULL, &f);
}

static void do_delete(serve_call *c) {
    wish *w = c->state;
    rotor_error err = {0};
    serve_fault f = {0};
    const rotor_status st = rotor_rag_take_out(w->shelf->r, w->text.id, &err);
    if (st == ROTOR_OK) note_change(c->inside->s, w->shelf, false);
    const bool ok = st == ROTOR_OK || failed(c, st, &err, &f);
    answer(c, ok,
           ok ? json_pack("{s:s, s:o, s:o, s:b}", "object", "rag.document.deleted", "id",
                          text_of(w->text.id), "store", text_of(w->name), "deleted", 1)
              : NULL,
           &f);
}

/* POST and PUT alike: the id may stand in the path or in the body. */
void serve_put_document(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    bool ok = c || serve_no_memory(&f);
    ok = ok && read_target(x, c, true, &f) && serve_parse(&x->body, &c->body, &f) &&
         read_document(c, &f);
    serve_hand_task(x, c, do_put, ok, &f);
}

void serve_delete_document(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    const bool ok = (c || serve_no_memory(&f)) && read_target(x, c, true, &f);
    serve_hand_task(x, c, do_delete, ok, &f);
}

/* ==== Listing ================================================================================= */

static json_t *row_json(const rotor_rag_file *file) {
    const bool own = strncmp(file->path, OWN, strlen(OWN)) == 0;
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:I, s:I, s:I}", "object", "rag.document", "id",
                     own ? text_of(file->path + strlen(OWN)) : json_null(), "path",
                     text_of(file->path), "status", file->status, "message", text_of(file->message),
                     "documents", (json_int_t)file->n_docs, "passages", (json_int_t)file->n_chunks,
                     "bytes", (json_int_t)file->bytes);
}

static bool take_row(void *user, const rotor_rag_file *file) {
    wish *w = user;
    if (w->status[0] && strcmp(file->status, w->status) != 0) return true;
    w->more = json_array_size(w->rows) == (size_t)w->most;
    if (w->more) return false;
    w->last = file->row;
    json_array_append_new(w->rows, row_json(file));
    return true;
}

static void do_list(serve_call *c) {
    wish *w = c->state;
    rotor_error err = {0};
    serve_fault f = {0};
    w->rows = json_array();
    const rotor_status st = rotor_rag_list_after(w->shelf->r, w->after, take_row, w, &err);
    if (st == ROTOR_OK) {
        json_t *next = w->more ? json_sprintf("%lld", (long long)w->last) : json_null();
        serve_call_reply(c, 200,
                         json_pack("{s:s, s:o, s:b, s:o, s:o}", "object", "list", "data", w->rows,
                                   "has_more", (int)w->more, "next", next, "store",
                                   text_of(w->name)));
        return;
    }
    json_decref(w->rows);
    failed(c, st, &err, &f);
    serve_call_fault(c, &f);
}

static const char *argument(const serve_exchange *x, const char *name) {
    return mhd()->lookup_connection_value(x->conn, MHD_GET_ARGUMENT_KIND, name);
}

/* Where the last page ended: the number of a row, which the client need not know. */
static bool read_after(const char *after, wish *w, serve_fault *f) {
    char *end = NULL;
    errno = 0;
    w->after = after ? strtoll(after, &end, 10) : 0;
    if (!after || (*after >= '0' && *after <= '9' && !*end && !errno)) return true;
    return serve_refuse(f, "after", SERVE_INVALID_VALUE, "'after': expected the 'next' of a page");
}

static bool read_page(const serve_exchange *x, wish *w, serve_fault *f) {
    const char *limit = argument(x, "limit"), *after = argument(x, "after");
    const char *status = argument(x, "status");
    char *end = NULL;
    w->most = limit ? strtol(limit, &end, 10) : ROWS;
    if ((limit && (!*limit || *end)) || w->most < 1 || w->most > ROWS_MAX)
        return serve_refuse(f, "limit", SERVE_INVALID_VALUE, "'limit': expected 1 to %d", ROWS_MAX);
    if (status && strlen(status) >= sizeof w->status)
        return serve_refuse(f, "status", SERVE_INVALID_VALUE, "'status' is too long");
    if (status) snprintf(w->status, sizeof w->status, "%s", status);
    return read_after(after, w, f);
}

void serve_get_documents(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    bool ok = (c || serve_no_memory(&f)) && read_target(x, c, false, &f);
    ok = ok && read_page(x, c->state, &f);
    serve_hand_task(x, c, do_list, ok, &f);
}
