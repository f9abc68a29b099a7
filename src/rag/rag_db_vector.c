/* SPDX-License-Identifier: MIT
 *
 * The database: models and the vectors they gave.
 */
#include "rag/rag_db_internal.h"

rotor_status rag_db_model(rag_db *db, const rag_embedder *e, int64_t *id, rotor_error *err) {
    const base_str print = {(const char *)e->fingerprint, RAG_HASH};
    return rag_sql_number(&db->sql, id, err,
                          "INSERT INTO model(fingerprint,name,path,dims) VALUES(?,?,?,?)"
                          " ON CONFLICT(fingerprint) DO UPDATE SET path=excluded.path RETURNING id",
                          "bssi", &print, e->name, e->path, (int64_t)e->dims);
}

rotor_status rag_db_model_lies_at(rag_db *db, int64_t id, const char *path, bool *at,
                                  rotor_error *err) {
    int64_t n;
    ROTOR_TRY(rag_sql_number(&db->sql, &n, err, "SELECT count(*) FROM model WHERE id=? AND path=?",
                             "is", id, path));
    *at = n > 0;
    return ROTOR_OK;
}

rotor_status rag_db_get_model(rag_db *db, int64_t *id, uint8_t fingerprint[RAG_HASH],
                              rotor_error *err) {
    rag_reply s;
    *id = 0;
    rotor_status st = rag_sql_rows(&db->sql, &s, err,
                                   "SELECT m.id,m.fingerprint FROM model m"
                                   " JOIN used ON used.id=m.id",
                                   "");
    while (rag_sql_next(&s, &st, err)) {
        *id = rag_col_int(&s, 0);
        rag_take_hash(&s, 1, fingerprint);
    }
    return st;
}

/* "used" is a view of it. A column of SQLite's takes numbers and text, a server's has one of each.
 */
rotor_status rag_db_set_model(rag_db *db, int64_t id, rotor_error *err) {
    return rag_sql_do(&db->sql, err,
                      db->url ? "INSERT INTO meta(k,n) VALUES('model',?)"
                                " ON CONFLICT(k) DO UPDATE SET n=excluded.n"
                              : "INSERT INTO meta(k,v) VALUES('model',?)"
                                " ON CONFLICT(k) DO UPDATE SET v=excluded.v",
                      "i", id);
}

#define WITHOUT_VECTOR " NOT EXISTS(SELECT 1 FROM vec v WHERE v.model_id=? AND v.hash=c.hash)"

rotor_status rag_db_count_wanted(rag_db *db, int64_t model, size_t *n, rotor_error *err) {
    int64_t number;
    ROTOR_TRY(rag_sql_number(&db->sql, &number, err,
                             "SELECT count(*) FROM chunk c WHERE" WITHOUT_VECTOR, "i", model));
    *n = (size_t)number;
    return ROTOR_OK;
}

rotor_status rag_db_count_wanted_of(rag_db *db, int64_t file, size_t *n, rotor_error *err) {
    int64_t number;
    ROTOR_TRY(rag_sql_number(&db->sql, &number, err,
                             "SELECT count(*) FROM doc d JOIN chunk c ON c.doc_id=d.id"
                             " WHERE d.file_id=? AND NOT EXISTS(SELECT 1 FROM vec v"
                             " JOIN used ON used.id=v.model_id WHERE v.hash=c.hash)",
                             "i", file));
    *n = (size_t)number;
    return ROTOR_OK;
}

/* "title › headings", then the text: what the words of a passage leave unsaid. */
static void wanted_text(const rag_reply *s, base_buf *out) {
    const base_str title = rag_col_blob(s, 2), heading = rag_col_blob(s, 3);
    const base_str body = rag_col_blob(s, 4);
    base_buf_reset(out);
    base_buf_append(out, title.p, title.n);
    if (title.n && heading.n) base_buf_puts(out, " › ");
    base_buf_append(out, heading.p, heading.n);
    if (title.n || heading.n) base_buf_puts(out, "\n");
    base_buf_append(out, body.p, body.n);
}

rotor_status rag_db_each_wanted(rag_db *db, int64_t model, int64_t after, size_t most,
                                rotor_status (*fn)(void *user, const rag_db_wanted *w), void *user,
                                rotor_error *err) {
    rag_reply s;
    base_buf text = {0};
    rotor_status st =
        rag_sql_rows(&db->sql, &s, err,
                     "SELECT c.id,c.hash,d.title,c.heading," RAG_DB_SLICE " FROM chunk c"
                     " JOIN doc d ON d.id=c.doc_id JOIN doc_text t ON t.doc_id=c.doc_id"
                     " WHERE" WITHOUT_VECTOR " AND c.id>? ORDER BY c.id LIMIT ?",
                     "iii", model, after, (int64_t)most);
    while (rag_sql_next(&s, &st, err)) {
        rag_db_wanted w = {.chunk = rag_col_int(&s, 0)};
        rag_take_hash(&s, 1, w.hash);
        wanted_text(&s, &text);
        w.text = (base_str){text.data, text.len};
        st = text.failed ? base_fail_nomem(err, "embedding") : fn(user, &w);
    }
    base_buf_free(&text);
    return st;
}

rotor_status rag_db_put_vector(rag_db *db, int64_t model, const uint8_t hash[RAG_HASH], float scale,
                               base_str high, base_str low, rotor_error *err) {
    const base_str name = {(const char *)hash, RAG_HASH};
    return rag_sql_do(&db->sql, err,
                      "INSERT INTO vec(model_id,hash,scale,high,low) VALUES(?,?,?,?,?)"
                      " ON CONFLICT(model_id,hash) DO UPDATE SET scale=excluded.scale,"
                      "high=excluded.high,low=excluded.low",
                      "ibdbb", model, &name, (double)scale, &high, &low);
}

rotor_status rag_db_each_vector(rag_db *db, int64_t model,
                                rotor_status (*fn)(void *user, int64_t chunk, float scale,
                                                   base_str high, base_str low),
                                void *user, rotor_error *err) {
    rag_reply s;
    /* CROSS: passages outside, in the order of their index. The other way round all vectors would
     * be sorted, which takes as much memory as they do. */
    rotor_status st = rag_sql_many(&db->sql, &s, err,
                                   "SELECT c.id,v.scale,v.high,v.low FROM chunk c CROSS JOIN vec v"
                                   " WHERE v.model_id=? AND v.hash=c.hash ORDER BY c.doc_id,c.ord",
                                   "i", model);
    while (rag_sql_next(&s, &st, err))
        st = fn(user, rag_col_int(&s, 0), (float)rag_col_real(&s, 1), rag_col_blob(&s, 2),
                rag_col_blob(&s, 3));
    return st;
}

rotor_status rag_db_add_vector(rag_db *db, int64_t model, const uint8_t hash[RAG_HASH], float scale,
                               base_str high, base_str low, rotor_error *err) {
    const base_str name = {(const char *)hash, RAG_HASH};
    return rag_sql_do(&db->sql, err,
                      "INSERT INTO vec(model_id,hash,scale,high,low) VALUES(?,?,?,?,?)"
                      " ON CONFLICT DO NOTHING",
                      "ibdbb", model, &name, (double)scale, &high, &low);
}

rotor_status rag_db_is_of_run(rag_db *db, const uint8_t hash[RAG_HASH], int64_t run, bool *is,
                              rotor_error *err) {
    const base_str name = {(const char *)hash, RAG_HASH};
    int64_t all = 0;
    ROTOR_TRY(rag_sql_number(&db->sql, &all, err,
                             "SELECT count(*)>0 AND min(CASE WHEN d.run=? THEN 1 ELSE 0 END)=1"
                             " FROM chunk c JOIN doc d ON d.id=c.doc_id WHERE c.hash=?",
                             "ib", run, &name));
    *is = all != 0;
    return ROTOR_OK;
}

rotor_status rag_db_each_vector_of(rag_db *db, int64_t model,
                                   rotor_status (*fn)(void *user, const uint8_t hash[RAG_HASH],
                                                      float scale, base_str high, base_str low),
                                   void *user, rotor_error *err) {
    rag_reply s;
    uint8_t hash[RAG_HASH];
    rotor_status st = rag_sql_many(&db->sql, &s, err,
                                   "SELECT hash,scale,high,low FROM vec WHERE model_id=?"
                                   " AND hash IN (SELECT hash FROM chunk)",
                                   "i", model);
    while (rag_sql_next(&s, &st, err)) {
        rag_take_hash(&s, 0, hash);
        st = fn(user, hash, (float)rag_col_real(&s, 1), rag_col_blob(&s, 2), rag_col_blob(&s, 3));
    }
    return st;
}

rotor_status rag_db_read_vector(rag_db *db, int64_t model, int64_t chunk,
                                rotor_status (*fn)(void *user, int64_t chunk, float scale,
                                                   base_str high, base_str low),
                                void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st = rag_sql_rows(&db->sql, &s, err,
                                   "SELECT v.scale,v.high,v.low FROM chunk c JOIN vec v"
                                   " ON v.model_id=? AND v.hash=c.hash WHERE c.id=?",
                                   "ii", model, chunk);
    while (rag_sql_next(&s, &st, err))
        st = fn(user, chunk, (float)rag_col_real(&s, 0), rag_col_blob(&s, 1), rag_col_blob(&s, 2));
    return st;
}

/* ==== Where pgvector is ======================================================================= */

rotor_status rag_db_near_size(rag_db *db, int64_t model, size_t *n, size_t *dims,
                              rotor_error *err) {
    rag_reply s;
    *n = *dims = 0;
    if (!db->near) return ROTOR_OK;
    rotor_status st = rag_sql_rows(&db->sql, &s, err,
                                   "SELECT count(*),max(length(v.high)),count(v.near) FROM chunk c"
                                   " JOIN vec v ON v.model_id=? AND v.hash=c.hash",
                                   "i", model);
    while (rag_sql_next(&s, &st, err)) {
        const bool all = rag_col_int(&s, 0) == rag_col_int(&s, 2); /* none it cannot hold */
        *n = all ? (size_t)rag_col_int(&s, 0) : 0;
        *dims = *n ? (size_t)rag_col_int(&s, 1) : 0;
    }
    return st;
}

/* As pgvector takes one: two bytes of how many, two of nothing, each float's four, the highest
 * first. */
static void put_vector(base_buf *out, const float *x, size_t dims) {
    const uint8_t head[4] = {(uint8_t)(dims >> 8), (uint8_t)dims, 0, 0};
    base_buf_append(out, head, sizeof head);
    for (size_t i = 0; i < dims; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        const uint8_t b[4] = {(uint8_t)(bits >> 24), (uint8_t)(bits >> 16), (uint8_t)(bits >> 8),
                              (uint8_t)bits};
        base_buf_append(out, b, sizeof b);
    }
}

static rotor_status give_near(rag_reply *s, rotor_status st,
                              rotor_status (*fn)(void *user, int64_t chunk, float cosine,
                                                 float scale, base_str high, base_str low),
                              void *user, rotor_error *err) {
    while (rag_sql_next(s, &st, err))
        st = fn(user, rag_col_int(s, 0), (float)(1 - rag_col_real(s, 1)), (float)rag_col_real(s, 2),
                rag_col_blob(s, 3), rag_col_blob(s, 4));
    return st;
}

rotor_status rag_db_each_near(rag_db *db, int64_t model, const float *x, size_t dims, size_t most,
                              rotor_status (*fn)(void *user, int64_t chunk, float cosine,
                                                 float scale, base_str high, base_str low),
                              void *user, rotor_error *err) {
    rag_reply s = {0};
    base_buf to = {0};
    put_vector(&to, x, dims);
    const base_str value = {to.data, to.len};
    rotor_status st = to.failed ? base_fail_nomem(err, "searching") : ROTOR_OK;
    if (st == ROTOR_OK)
        st = rag_sql_many(&db->sql, &s, err,
                          "SELECT c.id,v.d,v.scale,v.high,v.low FROM"
                          " (SELECT hash,far(near,?) AS d,scale,high,low FROM vec WHERE model_id=?"
                          "  AND hash IN (SELECT hash FROM chunk) ORDER BY d,hash LIMIT ?) v"
                          " JOIN chunk c ON c.hash=v.hash ORDER BY c.doc_id,c.ord",
                          "bii", &value, model, (int64_t)most);
    if (st == ROTOR_OK) st = give_near(&s, st, fn, user, err);
    base_buf_free(&to);
    return st;
}

rotor_status rag_db_each_of_chunks(rag_db *db, int64_t model, const int64_t *ids, size_t n,
                                   rotor_status (*fn)(void *user, int64_t chunk, float cosine,
                                                      float scale, base_str high, base_str low),
                                   void *user, rotor_error *err) {
    rag_reply s = {0};
    base_buf list = {0};
    for (size_t i = 0; i < n; i++)
        base_buf_printf(&list, "%s%lld", i ? "," : "", (long long)ids[i]);
    const base_str value = {list.data, list.len};
    rotor_status st = list.failed ? base_fail_nomem(err, "searching") : ROTOR_OK;
    if (st == ROTOR_OK)
        st =
            rag_sql_many(&db->sql, &s, err,
                         "SELECT c.id,CAST(1 AS double precision),v.scale,v.high,v.low FROM chunk c"
                         " JOIN vec v ON v.model_id=? AND v.hash=c.hash WHERE c.id=ANY(CAST("
                         "string_to_array(convert_from(?,'UTF8'),',') AS bigint[]))"
                         " ORDER BY c.doc_id,c.ord",
                         "ib", model, &value);
    if (st == ROTOR_OK) st = give_near(&s, st, fn, user, err);
    base_buf_free(&list);
    return st;
}

size_t rag_db_changes(rag_db *db) { return (size_t)rag_sql_changes(&db->sql); }

rotor_status rag_db_sweep(rag_db *db, rotor_error *err) {
    ROTOR_TRY(rag_sql_do(&db->sql, err,
                         "DELETE FROM vec WHERE model_id NOT IN (SELECT id FROM used)"
                         " OR NOT EXISTS(SELECT 1 FROM chunk c WHERE c.hash=vec.hash)",
                         ""));
    return rag_sql_do(&db->sql, err,
                      "DELETE FROM model WHERE id NOT IN (SELECT id FROM used)"
                      " AND NOT EXISTS(SELECT 1 FROM vec v WHERE v.model_id=model.id)",
                      "");
}
