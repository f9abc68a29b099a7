/* SPDX-License-Identifier: MIT
 *
 * Texts that are no files: notes, and documents that other programs put into a store under ids of
 * their own. Each is a file of the store whose path begins with RAG_NOTE_PREFIX and which no scan
 * of a folder ever looks for. Words are in when rag_put returns, all of a document or nothing;
 * vectors come later.
 */
#include "rag/rag_internal.h"

#include <stdio.h>

typedef struct noted {
    rag *r;             /* store */
    const rag_text *t;  /* as it was given */
    base_buf bytes;     /* its text as UTF-8, owned */
    char *title;        /* owned */
    rag_db_file f;      /* its row */
    rag_put_report *to; /* what is told */
    rotor_error *err;   /* where messages go */
} noted;

/* ==== Names =================================================================================== */

bool rag_is_id(const char *s) {
    int32_t c;
    const size_t n = strlen(s);
    if (!n || n > RAG_ID_BYTES || strcmp(s, ".") == 0 || strcmp(s, "..") == 0) return false;
    for (size_t at = 0; at < n;) {
        at += (size_t)base_utf8_decode(s + at, n - at, &c);
        if (c < 32 || c == '/' || (c >= 127 && c < 160)) return false; /* below 0: no UTF-8 */
    }
    return true;
}

rotor_status rag_refuse_id(rotor_error *err) {
    return base_fail(err, ROTOR_E_ARG,
                     "an id has 1 to %d bytes of UTF-8 without control characters and '/'",
                     RAG_ID_BYTES);
}

/* The first line with something in it, without the marks of a heading, at most 80 bytes. */
static char *first_line(base_str text) {
    enum { MOST = 80 };
    size_t begin = 0;
    while (begin < text.n && strchr("# \t\r\n", text.p[begin])) begin++;
    const char *nl = memchr(text.p + begin, '\n', text.n - begin);
    size_t n = (nl ? (size_t)(nl - text.p) : text.n) - begin;
    if (n > MOST)
        for (n = MOST; n && ((unsigned char)text.p[begin + n] & 0xC0) == 0x80;) n--;
    while (n && strchr(" \t\r", text.p[begin + n - 1])) n--;
    return base_strndup(text.p + begin, n);
}

static rotor_status hash_text(noted *n) {
    base_buf all = {0};
    base_buf_puts(&all, n->title);
    base_buf_append(&all, "", 1);
    base_buf_append(&all, n->bytes.data, n->bytes.len);
    if (!all.failed) base_sha256(all.data, all.len, n->f.hash);
    base_buf_free(&all);
    return all.failed ? base_fail_nomem(n->err, "adding a note") : ROTOR_OK;
}

static void name_text(noted *n) {
    char *path = n->to->path;
    size_t at =
        (size_t)snprintf(path, RAG_NOTE_PATH, RAG_NOTE_PREFIX "%s", n->t->id ? n->t->id : "");
    for (size_t i = 0; !n->t->id && i < 8; i++)
        at += (size_t)snprintf(path + at, RAG_NOTE_PATH - at, "%02x", n->f.hash[i]);
}

/* ==== Into the store ========================================================================== */

static rotor_status get_ready(noted *n) {
    const rag_text *t = n->t;
    if (t->id && !rag_is_id(t->id)) return rag_refuse_id(n->err);
    base_buf_append(&n->bytes, t->text.n ? t->text.p : "", t->text.n);
    if (n->bytes.failed) return base_fail_nomem(n->err, "adding a note");
    ROTOR_TRY(rag_to_utf8(&n->bytes, "the note", n->err));
    const base_str text = {n->bytes.data, n->bytes.len};
    char *own = first_line(text);
    if (own && !*own) {
        base_free(own);
        return base_fail(n->err, ROTOR_E_ARG, "the note has nothing in it");
    }
    n->title = t->title && *t->title ? base_strdup(t->title) : own;
    if (n->title != own) base_free(own);
    return n->title ? hash_text(n) : base_fail_nomem(n->err, "adding a note");
}

static rotor_status count_one(void *user, const rag_db_chunk *c) {
    noted *n = user;
    (void)c;
    n->to->n_chunks++;
    return ROTOR_OK;
}

static rotor_status put_document(noted *n) {
    rag_blocks blocks = {0};
    rag_report done = {0};
    uint8_t hash[RAG_HASH];
    int64_t id = 0;
    size_t front;
    rag_document d = {.row = {.file = n->f.id,
                              .key = "",
                              .title = n->title,
                              .meta = n->t->meta ? n->t->meta : "",
                              .line = 1},
                      .text = {n->bytes.data, n->bytes.len},
                      .blocks = &blocks,
                      .own_lines = true};
    const rag_form form = n->t->plain ? RAG_FORM_TEXT : RAG_FORM_MARKDOWN;
    rotor_status st = rag_blocks_of(d.text, form, &blocks, &front);
    if (st != ROTOR_OK) base_fail_nomem(n->err, "adding a note");
    if (st == ROTOR_OK) st = rag_put_document(n->r, &d, 0, &done, n->err);
    rag_blocks_free(&blocks);
    ROTOR_TRY(st);
    n->to->unchanged = n->to->replaced && !done.n_docs;
    ROTOR_TRY(rag_db_find_doc(n->r->db, n->f.id, "", &id, hash, n->err));
    ROTOR_TRY(rag_db_each_chunk_of(n->r->db, id, count_one, n, n->err));
    return rag_db_count_wanted_of(n->r->db, n->f.id, &n->to->n_pending, n->err);
}

static rotor_status put_text(noted *n) {
    rag_db_file before;
    name_text(n);
    ROTOR_TRY(rag_db_find_file(n->r->db, n->to->path, &before, n->err));
    n->to->replaced = before.id != 0;
    n->f.node = (base_node){.kind = BASE_NODE_FILE, .size = n->bytes.len};
    n->f.node.mtime_ns = n->f.node.ctime_ns = n->f.seen_ns = base_unix_s() * 1000000000;
    n->f.pipeline = RAG_PIPELINE;
    memcpy(n->f.status, "ok", 3);
    ROTOR_TRY(rag_db_put_file(n->r->db, n->to->path, &n->f, "", n->err));
    return put_document(n); /* vectors of what it replaces go with the next sweep */
}

rotor_status rag_put(rag *r, const rag_text *t, rag_put_report *report, rotor_error *err) {
    noted n = {.r = r, .t = t, .to = report, .err = err};
    memset(report, 0, sizeof *report);
    rotor_status st = get_ready(&n);
    if (st == ROTOR_OK) st = rag_db_begin(r->db, err);
    if (st == ROTOR_OK) st = put_text(&n);
    if (st == ROTOR_OK) st = rag_db_commit(r->db, err);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    base_buf_free(&n.bytes);
    base_free(n.title);
    return st;
}

/* A model that does not fit is told before anything is written. */
rotor_status rag_note(rag *r, const char *title, base_str text, char path[RAG_NOTE_PATH],
                      rag_report *report, rotor_error *err) {
    const rag_text t = {.title = title, .text = text};
    rotor_error own = {0};
    rag_put_report done;
    int64_t model;
    if (!err) err = &own;
    memset(report, 0, sizeof *report);
    ROTOR_TRY(rag_check_model(r, &model, err));
    ROTOR_TRY(rag_put(r, &t, &done, err));
    memcpy(path, done.path, sizeof done.path);
    report->n_indexed = 1;
    report->n_docs = !done.unchanged;
    report->n_chunks = done.unchanged ? 0 : done.n_chunks;
    return rag_embed_all(r, report, err);
}
