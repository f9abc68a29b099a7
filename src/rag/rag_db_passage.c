/* SPDX-License-Identifier: MIT
 *
 * The database: documents, their passages, and the numbers of terms.
 */
#include "rag/rag_db_internal.h"

/* ==== Documents =============================================================================== */

rotor_status rag_db_find_doc(rag_db *db, int64_t file, const char *key, int64_t *id,
                             uint8_t hash[RAG_HASH], rotor_error *err) {
    rag_reply s;
    *id = 0;
    rotor_status st = rag_sql_rows(
        &db->sql, &s, err, "SELECT id,hash FROM doc WHERE file_id=? AND key=?", "is", file, key);
    while (rag_sql_next(&s, &st, err)) {
        *id = rag_col_int(&s, 0);
        rag_take_hash(&s, 1, hash);
    }
    return st;
}

rotor_status rag_db_put_doc(rag_db *db, rag_db_doc *d, base_str text, int64_t run,
                            rotor_error *err) {
    const base_str hash = {(const char *)d->hash, RAG_HASH};
    ROTOR_TRY(rag_sql_do(&db->sql, err, "DELETE FROM doc WHERE file_id=? AND key=?", "is", d->file,
                         d->key));
    ROTOR_TRY(rag_sql_number(&db->sql, &d->id, err,
                             "INSERT INTO doc(file_id,key,title,meta,line,hash,run)"
                             " VALUES(?,?,?,?,?,?,?) RETURNING id",
                             "isssibi", d->file, d->key, d->title, d->meta, (int64_t)d->line, &hash,
                             run));
    return rag_sql_do(&db->sql, err, "INSERT INTO doc_text(doc_id,text) VALUES(?,?)", "ib", d->id,
                      &text);
}

rotor_status rag_db_touch_doc(rag_db *db, int64_t id, uint32_t line, int64_t run,
                              rotor_error *err) {
    return rag_sql_do(&db->sql, err, "UPDATE doc SET run=?,line=? WHERE id=?", "iii", run,
                      (int64_t)line, id);
}

rotor_status rag_db_drop_stale(rag_db *db, int64_t file, int64_t run, size_t *n, rotor_error *err) {
    ROTOR_TRY(
        rag_sql_do(&db->sql, err, "DELETE FROM doc WHERE file_id=? AND run<>?", "ii", file, run));
    *n = rag_sql_changed(&db->sql);
    return ROTOR_OK;
}

rotor_status rag_db_delete_key(rag_db *db, const char *key, size_t *n, rotor_error *err) {
    ROTOR_TRY(rag_sql_do(&db->sql, err, "DELETE FROM doc WHERE key=? AND key<>''", "s", key));
    *n = rag_sql_changed(&db->sql);
    return ROTOR_OK;
}

rotor_status rag_db_each_doc_of(rag_db *db, int64_t file,
                                rotor_status (*fn)(void *user, const rag_db_doc *doc,
                                                   base_str text),
                                void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st =
        rag_sql_many(&db->sql, &s, err,
                     "SELECT d.id,d.key,d.title,d.meta,d.line,d.hash,t.text FROM doc d"
                     " JOIN doc_text t ON t.doc_id=d.id WHERE d.file_id=? ORDER BY d.id",
                     "i", file);
    while (rag_sql_next(&s, &st, err)) {
        rag_db_doc d = {.id = rag_col_int(&s, 0),
                        .file = file,
                        .key = rag_col_text(&s, 1),
                        .title = rag_col_text(&s, 2),
                        .meta = rag_col_text(&s, 3),
                        .line = (uint32_t)rag_col_int(&s, 4)};
        rag_take_hash(&s, 5, d.hash);
        st = fn(user, &d, rag_col_blob(&s, 6));
    }
    return st;
}

rotor_status
rag_db_each_doc(rag_db *db, rotor_status (*fn)(void *user, const rag_db_doc *doc, const char *path),
                void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st = rag_sql_many(&db->sql, &s, err,
                                   "SELECT d.id,d.file_id,d.key,d.title,d.meta,f.path FROM doc d"
                                   " JOIN file f ON f.id=d.file_id ORDER BY d.id",
                                   "");
    while (rag_sql_next(&s, &st, err)) {
        const rag_db_doc d = {.id = rag_col_int(&s, 0),
                              .file = rag_col_int(&s, 1),
                              .key = rag_col_text(&s, 2),
                              .title = rag_col_text(&s, 3),
                              .meta = rag_col_text(&s, 4)};
        st = fn(user, &d, rag_col_text(&s, 5));
    }
    return st;
}

/* ==== Chunks ================================================================================== */

rotor_status rag_db_put_chunk(rag_db *db, rag_db_chunk *c, rotor_error *err) {
    const base_str hash = {(const char *)c->hash, RAG_HASH};
    ROTOR_TRY(
        rag_sql_number(&db->sql, &c->id, err,
                       "INSERT INTO chunk(doc_id,ord,heading,byte_begin,byte_end,line,last_line,"
                       "page,last_page,n_tok,hash) VALUES(?,?,?,?,?,?,?,?,?,?,?) RETURNING id",
                       "iisiiiiiiib", c->doc, (int64_t)c->ord, c->heading, (int64_t)c->begin,
                       (int64_t)c->end, (int64_t)c->line, (int64_t)c->last_line, (int64_t)c->page,
                       (int64_t)c->last_page, (int64_t)c->n_tok, &hash));
    return rag_sql_do(&db->sql, err,
                      "INSERT INTO chunk_terms(chunk_id,n_words,packed) VALUES(?,?,?)", "iib",
                      c->id, (int64_t)c->n_words, &c->terms);
}

/* ==== Terms =================================================================================== */

void rag_forget_terms(rag_db *db) {
    base_map_free(&db->ids);
    for (size_t i = 0; i < db->n_bag; i++) base_buf_free(&db->bag[i]);
    base_free(db->bag);
    db->bag = NULL;
    db->n_bag = 0;
}

/* Remembers a term in memory that does not move. */
static rotor_status remember(rag_db *db, base_str term, uint32_t id, rotor_error *err) {
    enum { BLOCK = 1 << 16 };
    base_buf *b = db->n_bag ? &db->bag[db->n_bag - 1] : NULL;
    if (!b || b->cap - b->len < term.n + 1) {
        base_buf *more = base_realloc(db->bag, (db->n_bag + 1) * sizeof *more);
        if (!more) return base_fail_nomem(err, "numbering terms");
        db->bag = more;
        b = &db->bag[db->n_bag];
        memset(b, 0, sizeof *b);
        if (!base_buf_reserve(b, BLOCK)) return base_fail_nomem(err, "numbering terms");
        db->n_bag++;
    }
    char *at = b->data + b->len;
    memcpy(at, term.p, term.n);
    b->len += term.n;
    if (base_map_put(db->ids, (base_str){at, term.n}, id, NULL) != ROTOR_OK)
        return base_fail_nomem(err, "numbering terms");
    return ROTOR_OK;
}

typedef struct remembering {
    rag_db *db;       /* whose terms */
    rotor_error *err; /* where messages go */
} remembering;

static rotor_status remember_row(void *user, uint32_t id, base_str t) {
    const remembering *r = user;
    return remember(r->db, t, id, r->err);
}

rotor_status rag_db_term(rag_db *db, base_str term, uint32_t *id, rotor_error *err) {
    int64_t number;
    if (!db->ids) {
        remembering r = {db, err};
        if (base_map_create(&db->ids, 1 << 14) != ROTOR_OK)
            return base_fail_nomem(err, "numbering terms");
        ROTOR_TRY(rag_db_each_term(db, 0, remember_row, &r, err));
    }
    if (base_map_get(db->ids, term, id)) return ROTOR_OK;
    ROTOR_TRY(
        rag_sql_number(&db->sql, &number, err,
                       "INSERT INTO term(id,t) VALUES((SELECT coalesce(max(id),0)+1 FROM term),?)"
                       " RETURNING id",
                       "t", &term));
    *id = (uint32_t)number;
    return remember(db, term, *id, err);
}

rotor_status rag_db_each_term(rag_db *db, uint32_t from,
                              rotor_status (*fn)(void *user, uint32_t id, base_str t), void *user,
                              rotor_error *err) {
    rag_reply s;
    rotor_status st =
        rag_sql_many(&db->sql, &s, err, "SELECT id,t FROM term WHERE id>=? ORDER BY id", "i",
                     from ? (int64_t)from : INT64_MIN);
    while (rag_sql_next(&s, &st, err)) {
        const int64_t id = rag_col_int(&s, 0);
        st = id > 0 && id < UINT32_MAX
                 ? fn(user, (uint32_t)id, rag_col_blob(&s, 1))
                 : base_fail(err, ROTOR_E_FORMAT, "%s: damaged: a term has the number %lld",
                             db->path, (long long)id);
    }
    return st;
}

/* ==== Reading passages ======================================================================== */

rotor_status rag_db_each_chunk(rag_db *db, rotor_status (*fn)(void *user, const rag_db_chunk *c),
                               void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st = rag_sql_many(&db->sql, &s, err,
                                   "SELECT c.id,c.doc_id,c.ord,t.n_words,t.packed FROM chunk c"
                                   " JOIN chunk_terms t ON t.chunk_id=c.id ORDER BY c.doc_id,c.ord",
                                   "");
    while (rag_sql_next(&s, &st, err)) {
        const rag_db_chunk c = {.id = rag_col_int(&s, 0),
                                .doc = rag_col_int(&s, 1),
                                .ord = (uint32_t)rag_col_int(&s, 2),
                                .n_words = (uint32_t)rag_col_int(&s, 3),
                                .terms = rag_col_blob(&s, 4)};
        st = fn(user, &c);
    }
    return st;
}

rotor_status rag_db_each_chunk_of(rag_db *db, int64_t doc,
                                  rotor_status (*fn)(void *user, const rag_db_chunk *c), void *user,
                                  rotor_error *err) {
    rag_reply s;
    rotor_status st =
        rag_sql_rows(&db->sql, &s, err,
                     "SELECT id,ord,heading,byte_begin,byte_end,line,last_line,page,last_page,"
                     "n_tok FROM chunk WHERE doc_id=? ORDER BY ord",
                     "i", doc);
    while (rag_sql_next(&s, &st, err)) {
        const rag_db_chunk c = {.id = rag_col_int(&s, 0),
                                .doc = doc,
                                .ord = (uint32_t)rag_col_int(&s, 1),
                                .heading = rag_col_text(&s, 2),
                                .begin = (uint64_t)rag_col_int(&s, 3),
                                .end = (uint64_t)rag_col_int(&s, 4),
                                .line = (uint32_t)rag_col_int(&s, 5),
                                .last_line = (uint32_t)rag_col_int(&s, 6),
                                .page = (uint32_t)rag_col_int(&s, 7),
                                .last_page = (uint32_t)rag_col_int(&s, 8),
                                .n_tok = (uint32_t)rag_col_int(&s, 9)};
        st = fn(user, &c);
    }
    return st;
}

rotor_status rag_db_each_place(rag_db *db, rotor_status (*fn)(void *user, const rag_db_chunk *c),
                               void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st =
        rag_sql_many(&db->sql, &s, err, "SELECT id,doc_id FROM chunk ORDER BY doc_id,ord", "");
    while (rag_sql_next(&s, &st, err))
        st = fn(user, &(rag_db_chunk){.id = rag_col_int(&s, 0), .doc = rag_col_int(&s, 1)});
    return st;
}

rotor_status rag_db_read_words(rag_db *db, int64_t chunk,
                               rotor_status (*fn)(void *user, const rag_db_chunk *c), void *user,
                               rotor_error *err) {
    rag_reply s;
    rotor_status st = rag_sql_rows(
        &db->sql, &s, err, "SELECT n_words,packed FROM chunk_terms WHERE chunk_id=?", "i", chunk);
    bool any = false;
    while (rag_sql_next(&s, &st, err)) {
        any = true;
        st = fn(user, &(rag_db_chunk){chunk, .n_words = (uint32_t)rag_col_int(&s, 0),
                                      .terms = rag_col_blob(&s, 1)});
    }
    if (st == ROTOR_OK && !any)
        st = base_fail(err, ROTOR_E_FORMAT, "%s: damaged: a passage has no words", db->path);
    return st;
}

static char *new_text(const rag_reply *s, int col) {
    const base_str t = rag_col_blob(s, col);
    return base_strndup(t.n ? t.p : "", t.n);
}

static void take_hit(const rag_reply *s, rag_hit *h) {
    h->path = new_text(s, 0);
    h->id = new_text(s, 1);
    h->title = new_text(s, 2);
    h->heading = new_text(s, 3);
    h->text = new_text(s, 4);
    h->begin = (uint64_t)rag_col_int(s, 5);
    h->end = (uint64_t)rag_col_int(s, 6);
    h->line = (uint32_t)rag_col_int(s, 7);
    h->last_line = (uint32_t)rag_col_int(s, 8);
    h->page = (uint32_t)rag_col_int(s, 9);
    h->last_page = (uint32_t)rag_col_int(s, 10);
}

rotor_status rag_db_read_hit(rag_db *db, int64_t chunk, rag_hit *h, rotor_error *err) {
    rag_reply s;
    rotor_status st =
        rag_sql_rows(&db->sql, &s, err,
                     "SELECT f.path,d.key,d.title,c.heading," RAG_DB_SLICE ",c.byte_begin,"
                     "c.byte_end,c.line,c.last_line,c.page,c.last_page FROM chunk c"
                     " JOIN doc d ON d.id=c.doc_id JOIN file f ON f.id=d.file_id"
                     " JOIN doc_text t ON t.doc_id=d.id WHERE c.id=?",
                     "i", chunk);
    bool any = false;
    while (rag_sql_next(&s, &st, err)) {
        any = true;
        take_hit(&s, h);
    }
    if (st != ROTOR_OK) return st;
    if (!any) return base_fail(err, ROTOR_E_NOTFOUND, "a passage has just been removed");
    if (h->path && h->id && h->title && h->heading && h->text) return ROTOR_OK;
    return base_fail_nomem(err, "reading a passage");
}

rotor_status rag_db_read_text(rag_db *db, int64_t chunk, uint64_t begin, uint64_t end,
                              base_buf *out, rotor_error *err) {
    rag_reply s;
    rotor_status st =
        rag_sql_rows(&db->sql, &s, err,
                     "SELECT substr(t.text,CAST(?+1 AS INTEGER),CAST(?-? AS INTEGER)) FROM chunk c"
                     " JOIN doc_text t ON t.doc_id=c.doc_id WHERE c.id=?",
                     "iiii", (int64_t)begin, (int64_t)end, (int64_t)begin, chunk);
    while (rag_sql_next(&s, &st, err)) {
        const base_str t = rag_col_blob(&s, 0);
        base_buf_append(out, t.p, t.n);
    }
    return st == ROTOR_OK && out->failed ? base_fail_nomem(err, "reading a passage") : st;
}
