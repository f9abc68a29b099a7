/* SPDX-License-Identifier: MIT
 *
 * Documents that a parser has to take apart (PDF, DOCX, HTML, letters …): rotor-extract does it in
 * a process of its own, and its blocks are put together here to texts again.
 *
 * A text's bytes are then our own; places are the pages and lines that the blocks bring. A document
 * is handed on when the next one begins, the last one only when all went well.
 */
#include "rag/rag_internal.h"

#include <jansson.h>
#include <stdio.h>

enum { MAX_TEXT = 256 << 20, MAX_BLOCKS = 8000000, MAX_FACTS = 64 }; /* of one document */

typedef struct gather {
    rag *r;               /* for its log */
    const char *path;     /* of the file */
    rag_extracted_fn put; /* takes documents */
    void *user;           /* of put */
    rag_blocks blocks;    /* of the document so far */
    base_buf text, title; /* likewise */
    json_t *meta;         /* likewise; NULL: nothing */
    size_t n_docs;        /* begun */
    base_block_kind last; /* block in front */
    rotor_error *err;     /* where messages go */
} gather;

static rotor_status hand_on(gather *g) {
    char key[24] = "";
    const char *slash = strrchr(g->path, '/');
    base_buf meta = {0};
    if (!g->n_docs || !g->blocks.n) return ROTOR_OK;
    if (g->n_docs > 1) snprintf(key, sizeof key, "#%zu", g->n_docs);
    const size_t n = g->meta ? json_dumpb(g->meta, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS) : 0;
    if (n && base_buf_reserve(&meta, n + 1))
        meta.len = json_dumpb(g->meta, meta.data, n, JSON_COMPACT | JSON_SORT_KEYS);
    base_buf_append(&meta, "", 1);
    rag_extracted d = {.key = key,
                       .title = g->title.len ? g->title.data
                                : slash      ? slash + 1
                                             : g->path,
                       .meta = meta.data,
                       .text = {g->text.data, g->text.len},
                       .blocks = &g->blocks};
    const rotor_status st =
        meta.failed ? base_fail_nomem(g->err, "reading a document") : g->put(g->user, &d);
    base_buf_free(&meta);
    return st;
}

static rotor_status begin_document(gather *g, const base_block *b) {
    ROTOR_TRY(hand_on(g));
    g->n_docs++;
    g->blocks.n = 0;
    json_decref(g->meta);
    g->meta = NULL;
    base_buf_reset(&g->text);
    base_buf_reset(&g->title);
    base_buf_append(&g->title, b->text.p, b->text.n);
    return g->title.failed ? base_fail_nomem(g->err, "reading a document") : ROTOR_OK;
}

static rotor_status too_large(gather *g, const char *what, size_t most) {
    return base_fail(g->err, ROTOR_E_UNSUPPORTED, "%s: too_large: more than %zu %s in one document",
                     g->path, most, what);
}

static rotor_status take_fact(gather *g, base_str fact) {
    char name[64];
    const char *equals = fact.n ? memchr(fact.p, '=', fact.n) : NULL;
    if (!equals || equals - fact.p >= (long)sizeof name) return ROTOR_OK;
    snprintf(name, sizeof name, "%.*s", (int)(equals - fact.p), fact.p);
    if (!g->meta) g->meta = json_object();
    if (json_object_size(g->meta) >= MAX_FACTS && !json_object_get(g->meta, name))
        return too_large(g, "facts", MAX_FACTS);
    json_object_set_new(g->meta, name,
                        json_stringn(equals + 1, fact.n - (size_t)(equals + 1 - fact.p)));
    return ROTOR_OK;
}

static rag_block_kind kind_of(base_block_kind k) {
    return k == BASE_BLOCK_HEADING ? RAG_HEADING
           : k == BASE_BLOCK_CODE  ? RAG_CODE
           : k == BASE_BLOCK_ROW   ? RAG_TABLE
                                   : RAG_PROSE;
}

static rotor_status take_text(gather *g, const base_block *b) {
    const bool close = b->kind == g->last && b->kind != BASE_BLOCK_PARA;
    if (b->text.n > MAX_TEXT || g->text.len > MAX_TEXT - b->text.n)
        return too_large(g, "bytes", MAX_TEXT);
    if (g->blocks.n >= MAX_BLOCKS) return too_large(g, "blocks", MAX_BLOCKS);
    if (g->text.len) base_buf_puts(&g->text, close ? "\n" : "\n\n");
    const rag_block to = {.kind = kind_of(b->kind),
                          .level = (int)b->level,
                          .begin = g->text.len,
                          .end = g->text.len + b->text.n,
                          .page = b->page,
                          .line = b->line_begin,
                          .last_line = b->line_end};
    base_buf_append(&g->text, b->text.p, b->text.n);
    g->last = b->kind;
    if (!g->text.failed && rag_blocks_push(&g->blocks, to) == ROTOR_OK) return ROTOR_OK;
    return base_fail_nomem(g->err, "reading a document");
}

static rotor_status take_block(void *user, const base_block *b, rotor_error *err) {
    gather *g = user;
    (void)err; /* messages go to g->err, which the caller of the child does not overwrite */
    switch (b->kind) {
    case BASE_BLOCK_DOC:
        return begin_document(g, b);
    case BASE_BLOCK_META:
        return take_fact(g, b->text);
    case BASE_BLOCK_NOTE:
        base_log_printf(&g->r->log, BASE_LOG_INFO, "%s: %.*s", g->path,
                        (int)BASE_MIN(b->text.n, (size_t)300), b->text.p);
        return ROTOR_OK;
    case BASE_BLOCK_HEADING:
    case BASE_BLOCK_PARA:
    case BASE_BLOCK_CODE:
    case BASE_BLOCK_LIST:
    case BASE_BLOCK_ROW:
        return take_text(g, b);
    default:
        return ROTOR_OK; /* pages stand in every block; the end is told apart */
    }
}

/* Left out, as there is nothing to be done about it, or until the tool is there; or failed. */
static rotor_status status_of(base_reason r) {
    if (r == BASE_REASON_MISSING_TOOL) return ROTOR_E_NOTFOUND;
    return r == BASE_REASON_NOT_TEXT || r == BASE_REASON_TOO_LARGE || r == BASE_REASON_EMPTY
               ? ROTOR_E_UNSUPPORTED
               : ROTOR_E_FORMAT;
}

rotor_status rag_extract(rag *r, const char *path, rag_extracted_fn put, void *user,
                         rotor_error *err) {
    const char *slash = strrchr(path, '/');
    rotor_error own = {0}, why = {0};
    base_reason reason;
    base_file f;
    gather g = {.r = r, .path = path, .put = put, .user = user, .err = &own};
    if (!r->extract)
        return base_fail(err, ROTOR_E_NOTFOUND,
                         "%s: such documents are read by rotor-extract, which is not there", path);
    ROTOR_TRY(base_file_open(&f, path, true, err)); /* for its descriptor */
    const base_extract x = {.program = r->extract,
                            .name = slash ? slash + 1 : path,
                            .fd = f.fd,
                            .limits = base_extract_limits(),
                            .block = take_block,
                            .user = &g};
    rotor_status st = base_extract_run(&x, &reason, &why);
    if (st == ROTOR_OK) st = hand_on(&g);
    if (st == ROTOR_OK && !g.n_docs)
        st = base_fail(err, ROTOR_E_UNSUPPORTED, "%s: there is no text in it", path);
    else if (st != ROTOR_OK && own.code)
        base_fail(err, st, "%s", own.message);
    else if (st != ROTOR_OK)
        st = base_fail(err, reason ? status_of(reason) : st, "%s: %s", path, why.message);
    json_decref(g.meta);
    rag_blocks_free(&g.blocks);
    base_buf_free(&g.text);
    base_buf_free(&g.title);
    base_file_close(&f);
    return st;
}
