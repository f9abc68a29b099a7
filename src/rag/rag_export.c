/* SPDX-License-Identifier: MIT
 *
 * A store into one file (rag_move.h), as it is at one moment, whoever changes it meanwhile. The
 * file appears when it is whole, readable for its owner alone.
 */
#include "base/part.h"
#include "rag/rag_move.h"

typedef struct writer {
    rag *r;              /* store */
    rag_report *report;  /* counts */
    base_out out;        /* the file */
    base_sha256_run sum; /* of what is written */
    base_buf body;       /* of the record at hand */
    rotor_error *err;    /* where messages go */
} writer;

static rotor_status put_bytes(writer *w, const void *p, size_t n) {
    base_sha256_add(&w->sum, p, n);
    return base_out_write(&w->out, p, n, w->err);
}

static void number(base_buf *b, uint64_t v, int n_bytes) {
    for (int i = 0; i < n_bytes; i++) base_buf_append(b, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

static void text(base_buf *b, base_str s) {
    number(b, s.n, 8);
    base_buf_append(b, s.n ? s.p : "", s.n);
    base_buf_append(b, "", 1);
}

static rotor_status put_record(writer *w, char kind) {
    base_buf head = {0};
    base_buf_append(&head, &kind, 1);
    number(&head, w->body.len, 8);
    rotor_status st = w->body.failed || head.failed ? base_fail_nomem(w->err, "exporting a store")
                                                    : put_bytes(w, head.data, head.len);
    if (st == ROTOR_OK) st = put_bytes(w, w->body.data, w->body.len);
    base_buf_free(&head);
    base_buf_reset(&w->body);
    return st;
}

static rotor_status put_passage(void *user, const rag_db_chunk *c) {
    writer *w = user;
    base_buf *b = &w->body;
    number(b, c->begin, 8);
    number(b, c->end, 8);
    number(b, c->line, 4);
    number(b, c->last_line, 4);
    number(b, c->page, 4);
    number(b, c->last_page, 4);
    number(b, c->n_tok, 4);
    text(b, base_str_of(c->heading));
    w->report->n_chunks++;
    return put_record(w, 'c');
}

static rotor_status put_document(void *user, const rag_db_doc *d, base_str body) {
    writer *w = user;
    base_buf *b = &w->body;
    base_buf_append(b, d->hash, RAG_HASH);
    number(b, d->line, 4);
    text(b, base_str_of(d->key));
    text(b, base_str_of(d->title));
    text(b, base_str_of(d->meta));
    text(b, body);
    w->report->n_docs++;
    ROTOR_TRY(put_record(w, 'd'));
    return rag_db_each_chunk_of(w->r->db, d->id, put_passage, w, w->err);
}

static rotor_status put_file(void *user, int64_t id, const rag_file *seen) {
    writer *w = user;
    base_buf *b = &w->body;
    rag_db_file f;
    ROTOR_TRY(rag_db_find_file(w->r->db, seen->path, &f, w->err));
    number(b, f.node.size, 8);
    number(b, (uint64_t)f.node.mtime_ns, 8);
    number(b, (uint64_t)f.node.ctime_ns, 8);
    number(b, (uint64_t)f.seen_ns, 8);
    base_buf_append(b, f.hash, RAG_HASH);
    number(b, (uint64_t)f.pipeline, 4);
    text(b, base_str_of(seen->path));
    text(b, base_str_of(seen->status));
    text(b, base_str_of(seen->message));
    w->report->n_indexed++;
    ROTOR_TRY(put_record(w, 'f'));
    return rag_db_each_doc_of(w->r->db, id, put_document, w, w->err);
}

static rotor_status put_vector(void *user, const uint8_t hash[RAG_HASH], float scale, base_str high,
                               base_str low) {
    writer *w = user;
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    base_buf_append(&w->body, hash, RAG_HASH);
    number(&w->body, bits, 4);
    base_buf_append(&w->body, high.p, high.n);
    base_buf_append(&w->body, low.p, low.n);
    w->report->n_vectors++;
    return put_record(w, 'v');
}

static rotor_status put_model(writer *w, int64_t *model) {
    uint8_t print[RAG_HASH];
    rag_facts facts;
    ROTOR_TRY(rag_db_get_model(w->r->db, model, print, w->err));
    if (!*model) return ROTOR_OK;
    ROTOR_TRY(rag_db_facts(w->r->db, &facts, w->err));
    base_buf_append(&w->body, print, RAG_HASH);
    number(&w->body, facts.dims, 4);
    text(&w->body, base_str_of(facts.model));
    text(&w->body, base_str_of(facts.model_path));
    return put_record(w, 'm');
}

static rotor_status put_end(writer *w) {
    uint8_t sum[RAG_HASH];
    number(&w->body, w->report->n_indexed, 8);
    number(&w->body, w->report->n_docs, 8);
    number(&w->body, w->report->n_chunks, 8);
    number(&w->body, w->report->n_vectors, 8);
    ROTOR_TRY(put_record(w, 'e'));
    base_sha256_end(&w->sum, sum);
    return base_out_write(&w->out, sum, sizeof sum, w->err);
}

static rotor_status put_store(writer *w) {
    static const uint8_t head[RAG_MOVE_HEAD] = RAG_MOVE_MAGIC "\1";
    int64_t model;
    base_sha256_begin(&w->sum);
    ROTOR_TRY(put_bytes(w, head, sizeof head));
    ROTOR_TRY(put_model(w, &model));
    ROTOR_TRY(rag_db_each_file(w->r->db, -1, put_file, w, w->err));
    if (model) ROTOR_TRY(rag_db_each_vector_of(w->r->db, model, put_vector, w, w->err));
    ROTOR_TRY(put_end(w));
    return base_out_commit(&w->out, w->err);
}

rotor_status rag_export(rag *r, const char *path, rag_report *report, rotor_error *err) {
    writer w = {.r = r, .report = report, .err = err};
    memset(report, 0, sizeof *report);
    rotor_status st = base_out_open_private(&w.out, path, err);
    if (st == ROTOR_OK) st = rag_db_look(r->db, err);
    if (st == ROTOR_OK) st = put_store(&w);
    rag_db_look_end(r->db);
    base_out_abort(&w.out);
    base_buf_free(&w.body);
    return st;
}
