/* SPDX-License-Identifier: MIT
 *
 * The database: files, and the folders that were added.
 */
#include "rag/rag_db_internal.h"

rotor_status rag_db_find_file(rag_db *db, const char *path, rag_db_file *f, rotor_error *err) {
    rag_reply s;
    memset(f, 0, sizeof *f);
    rotor_status st =
        rag_sql_rows(&db->sql, &s, err,
                     "SELECT id,size,mtime_ns,ctime_ns,dev,ino,seen_ns,hash,pipeline,status"
                     " FROM file WHERE path=?",
                     "s", path);
    while (rag_sql_next(&s, &st, err)) {
        f->id = rag_col_int(&s, 0);
        f->node = (base_node){.kind = BASE_NODE_FILE,
                              .size = (uint64_t)rag_col_int(&s, 1),
                              .mtime_ns = rag_col_int(&s, 2),
                              .ctime_ns = rag_col_int(&s, 3),
                              .dev = (uint64_t)rag_col_int(&s, 4),
                              .ino = (uint64_t)rag_col_int(&s, 5)};
        f->seen_ns = rag_col_int(&s, 6);
        rag_take_hash(&s, 7, f->hash);
        f->pipeline = (int)rag_col_int(&s, 8);
        rag_col_copy(&s, 9, f->status, sizeof f->status);
    }
    return st;
}

rotor_status rag_db_put_file(rag_db *db, const char *path, rag_db_file *f, const char *message,
                             rotor_error *err) {
    const base_str hash = {(const char *)f->hash, RAG_HASH};
    return rag_sql_number(&db->sql, &f->id, err,
                          "INSERT INTO file(path,size,mtime_ns,ctime_ns,dev,ino,seen_ns,hash,"
                          "pipeline,status,message) VALUES(?,?,?,?,?,?,?,?,?,?,?)"
                          " ON CONFLICT(path) DO UPDATE SET size=excluded.size,"
                          "mtime_ns=excluded.mtime_ns,ctime_ns=excluded.ctime_ns,dev=excluded.dev,"
                          "ino=excluded.ino,seen_ns=excluded.seen_ns,hash=excluded.hash,"
                          "pipeline=excluded.pipeline,status=excluded.status,"
                          "message=excluded.message RETURNING id",
                          "siiiiiibiss", path, (int64_t)f->node.size, f->node.mtime_ns,
                          f->node.ctime_ns, (int64_t)f->node.dev, (int64_t)f->node.ino, f->seen_ns,
                          &hash, (int64_t)f->pipeline, f->status, message);
}

rotor_status rag_db_delete_file(rag_db *db, int64_t id, rotor_error *err) {
    return rag_sql_do(&db->sql, err, "DELETE FROM file WHERE id=?", "i", id);
}

rotor_status rag_db_rename_file(rag_db *db, int64_t id, const char *from, const char *to,
                                rotor_error *err) {
    const char *old = strrchr(from, '/'), *now = strrchr(to, '/');
    ROTOR_TRY(rag_sql_do(&db->sql, err, "UPDATE file SET path=? WHERE id=?", "si", to, id));
    return rag_sql_do(&db->sql, err, "UPDATE doc SET title=? WHERE file_id=? AND title=?", "sis",
                      now ? now + 1 : to, id, old ? old + 1 : from);
}

rotor_status rag_db_each_name(rag_db *db, rotor_status (*fn)(void *user, const rag_db_name *n),
                              void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st = rag_sql_many(
        &db->sql, &s, err, "SELECT id,path,dev,hash,status='ok' FROM file ORDER BY path", "");
    while (rag_sql_next(&s, &st, err)) {
        rag_db_name n = {.id = rag_col_int(&s, 0),
                         .path = rag_col_text(&s, 1),
                         .dev = (uint64_t)rag_col_int(&s, 2),
                         .ok = rag_col_int(&s, 4) != 0};
        rag_take_hash(&s, 3, n.hash);
        st = fn(user, &n);
    }
    return st;
}

#define FILES                                                                                      \
    "SELECT f.id,f.path,f.status,f.message,f.size,"                                                \
    "(SELECT count(*) FROM doc d WHERE d.file_id=f.id),"                                           \
    "(SELECT count(*) FROM doc d JOIN chunk c ON c.doc_id=d.id WHERE d.file_id=f.id) FROM file f"

rotor_status rag_db_each_file(rag_db *db, int64_t after,
                              rotor_status (*fn)(void *user, int64_t id, const rag_file *f),
                              void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st = after < 0 ? rag_sql_many(&db->sql, &s, err, FILES " ORDER BY f.path", "")
                                : rag_sql_many(&db->sql, &s, err,
                                               FILES " WHERE f.id>? ORDER BY f.id", "i", after);
    while (rag_sql_next(&s, &st, err)) {
        const rag_file f = {.id = rag_col_int(&s, 0),
                            .path = rag_col_text(&s, 1),
                            .status = rag_col_text(&s, 2),
                            .message = rag_col_text(&s, 3),
                            .size = (uint64_t)rag_col_int(&s, 4),
                            .n_docs = (size_t)rag_col_int(&s, 5),
                            .n_chunks = (size_t)rag_col_int(&s, 6)};
        st = fn(user, rag_col_int(&s, 0), &f);
    }
    return st;
}

/* ==== Folders that were added ================================================================= */

/* "root:", the folder and what is to follow; new. */
static char *root_key(const char *path, const char *more, rotor_error *err) {
    base_buf b = {0};
    base_buf_printf(&b, "root:%s%s", path, more);
    if (b.failed) base_fail_nomem(err, "remembering a folder");
    return b.failed ? (base_buf_free(&b), NULL) : b.data;
}

rotor_status rag_db_put_root(rag_db *db, const char *path, const char *globs, rotor_error *err) {
    char *key = root_key(path, "", err);
    if (!key) return ROTOR_E_NOMEM;
    const rotor_status st = rag_sql_do(&db->sql, err,
                                       "INSERT INTO meta(k,v) VALUES(?,?)"
                                       " ON CONFLICT(k) DO UPDATE SET v=excluded.v",
                                       "ss", key, globs);
    base_free(key);
    return st;
}

rotor_status rag_db_get_root(rag_db *db, const char *path, base_buf *globs, rotor_error *err) {
    rag_reply s;
    char *key = root_key(path, "", err);
    if (!key) return ROTOR_E_NOMEM;
    rotor_status st = rag_sql_rows(&db->sql, &s, err, "SELECT v FROM meta WHERE k=?", "s", key);
    while (rag_sql_next(&s, &st, err)) base_buf_puts(globs, rag_col_text(&s, 0));
    base_free(key);
    return st == ROTOR_OK && globs->failed ? base_fail_nomem(err, "reading a store") : st;
}

/* The folder, and those below it: keys from "…/" on, up to what comes behind them in order. */
rotor_status rag_db_delete_root(rag_db *db, const char *path, rotor_error *err) {
    if (!path) return rag_sql_do(&db->sql, err, "DELETE FROM meta WHERE k LIKE 'root:%'", "");
    char *key = root_key(path, "", err), *below = root_key(path, "/", err), *end = NULL;
    if (key && below) end = root_key(path, "0", err); /* '0' comes behind '/' */
    const rotor_status st =
        end ? rag_sql_do(&db->sql, err, "DELETE FROM meta WHERE k=? OR (k>=? AND k<?)", "sss", key,
                         below, end)
            : ROTOR_E_NOMEM;
    base_free(key);
    base_free(below);
    base_free(end);
    return st;
}

rotor_status rag_db_each_root(rag_db *db,
                              rotor_status (*fn)(void *user, const char *path, const char *globs),
                              void *user, rotor_error *err) {
    rag_reply s;
    rotor_status st = rag_sql_rows(
        &db->sql, &s, err, "SELECT substr(k,6),v FROM meta WHERE k LIKE 'root:%' ORDER BY k", "");
    while (rag_sql_next(&s, &st, err)) {
        st = fn(user, rag_col_text(&s, 0), rag_col_text(&s, 1));
    }
    return st;
}
