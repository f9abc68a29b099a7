/* SPDX-License-Identifier: MIT
 *
 * The database behind rag_db.h, in SQLite: rag.db beside rag.lock in the store's folder.
 *
 * Write-ahead logging: readers see the last committed state while one writer works, and a program
 * killed at any moment leaves that state behind. Deleting a file deletes its documents, their text,
 * chunks and terms by foreign keys. Statements are compiled once and kept (rag_sql.c).
 *
 * The schema's number is user_version: a newer one than ours is refused, an older one is brought up
 * step by step in one transaction after a copy of the database was put beside it.
 */
#include "rag/rag_db.h"
#include "rag/rag_sql.h"

#include <stdlib.h>

enum { APPLICATION = 0x524F5452, SCHEMA = 1 }; /* "ROTR" */

/* Step i brings a database of schema i to i + 1. */
static const char *const steps[SCHEMA] = {
    "CREATE TABLE meta(k TEXT PRIMARY KEY, v ANY) STRICT;"
    "CREATE TABLE model(id INTEGER PRIMARY KEY, fingerprint BLOB NOT NULL UNIQUE,"
    " name TEXT NOT NULL, path TEXT NOT NULL, dims INTEGER NOT NULL) STRICT;"
    "CREATE TABLE file(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,"
    " mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, dev INTEGER NOT NULL,"
    " ino INTEGER NOT NULL, seen_ns INTEGER NOT NULL, hash BLOB NOT NULL,"
    " pipeline INTEGER NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL) STRICT;"
    "CREATE TABLE doc(id INTEGER PRIMARY KEY,"
    " file_id INTEGER NOT NULL REFERENCES file(id) ON DELETE CASCADE, key TEXT NOT NULL,"
    " title TEXT NOT NULL, meta TEXT NOT NULL, line INTEGER NOT NULL, hash BLOB NOT NULL,"
    " run INTEGER NOT NULL, UNIQUE(file_id, key)) STRICT;"
    "CREATE INDEX doc_key ON doc(key);"
    "CREATE TABLE doc_text(doc_id INTEGER PRIMARY KEY REFERENCES doc(id) ON DELETE CASCADE,"
    " text BLOB NOT NULL) STRICT;"
    "CREATE TABLE chunk(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " doc_id INTEGER NOT NULL REFERENCES doc(id) ON DELETE CASCADE, ord INTEGER NOT NULL,"
    " heading TEXT NOT NULL, byte_begin INTEGER NOT NULL, byte_end INTEGER NOT NULL,"
    " line INTEGER NOT NULL, last_line INTEGER NOT NULL, page INTEGER NOT NULL,"
    " last_page INTEGER NOT NULL, n_tok INTEGER NOT NULL, hash BLOB NOT NULL,"
    " UNIQUE(doc_id, ord)) STRICT;"
    "CREATE INDEX chunk_hash ON chunk(hash);"
    "CREATE TABLE chunk_terms(chunk_id INTEGER PRIMARY KEY REFERENCES chunk(id) ON DELETE CASCADE,"
    " n_words INTEGER NOT NULL, packed BLOB NOT NULL) STRICT;"
    "CREATE TABLE term(id INTEGER PRIMARY KEY, t TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE vec(model_id INTEGER NOT NULL REFERENCES model(id), hash BLOB NOT NULL,"
    " scale REAL NOT NULL, high BLOB NOT NULL, low BLOB NOT NULL, PRIMARY KEY(model_id, hash))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE job(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, what TEXT NOT NULL,"
    " begun INTEGER NOT NULL) STRICT;"};

struct rag_db {
    rag_sql sql;   /* connection and statements */
    char *folder;  /* of the store, owned */
    char *path;    /* of the database, owned */
    int lock;      /* -1: a reader */
    bool change;   /* between begin and commit */
    uint64_t n;    /* commits since it was opened */
    uint64_t back; /* rollbacks likewise, also to a mark */
    bool look;     /* between look and look_end */
    base_map *ids; /* numbers of terms, owned; NULL: not read yet */
    base_buf *bag; /* [n_bag] memory of their names, owned, never moved */
    size_t n_bag;  /* blocks */
};

/* ==== Opening ================================================================================= */

/* The steps from the schema there is to ours, all or none. */
static rotor_status migrate(rag_db *db, int64_t from, rotor_error *err) {
    ROTOR_TRY(rag_sql_run(&db->sql, "BEGIN IMMEDIATE", err));
    rotor_status st = ROTOR_OK;
    for (int64_t i = from; st == ROTOR_OK && i < SCHEMA; i++)
        st = rag_sql_run(&db->sql, steps[i], err);
    base_buf numbers = {0};
    base_buf_printf(&numbers, "PRAGMA application_id=%d; PRAGMA user_version=%d;", APPLICATION,
                    SCHEMA);
    if (st == ROTOR_OK && numbers.failed) st = base_fail_nomem(err, "making a store");
    if (st == ROTOR_OK) st = rag_sql_run(&db->sql, numbers.data, err);
    if (st == ROTOR_OK) st = rag_sql_run(&db->sql, "COMMIT", err);
    if (st != ROTOR_OK) rag_sql_run(&db->sql, "ROLLBACK", NULL);
    base_buf_free(&numbers);
    return st;
}

static rotor_status bring_up(rag_db *db, rotor_error *err) {
    int64_t app = 0, schema = 0, tables = 0;
    ROTOR_TRY(rag_sql_int(&db->sql, &app, "PRAGMA application_id", err));
    ROTOR_TRY(rag_sql_int(&db->sql, &schema, "PRAGMA user_version", err));
    ROTOR_TRY(rag_sql_int(&db->sql, &tables, "SELECT count(*) FROM sqlite_schema", err));
    if (tables && app != APPLICATION)
        return base_fail(err, ROTOR_E_FORMAT, "%s: a database, but not of a store", db->path);
    if (schema > SCHEMA)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: written by a newer rotor (schema %lld, this one knows %d)", db->path,
                         (long long)schema, SCHEMA);
    if (schema == SCHEMA) return ROTOR_OK;
    if (db->lock < 0)
        return base_fail(err, ROTOR_E_STATE,
                         "%s: an empty or older store; rotor rag add brings "
                         "it up to date",
                         db->path);
    if (tables) ROTOR_TRY(rag_sql_copy(&db->sql, db->path, err));
    return migrate(db, schema, err);
}

/* What a statement must sort stays in memory: a server in its cage may open no file for it. */
static rotor_status tune(rag_db *db, rotor_error *err) {
    ROTOR_TRY(rag_sql_run(&db->sql,
                          "PRAGMA busy_timeout=5000; PRAGMA foreign_keys=ON;"
                          "PRAGMA temp_store=MEMORY;",
                          err));
    if (db->lock < 0) return ROTOR_OK;
    return rag_sql_run(&db->sql,
                       "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"
                       "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32768;",
                       err);
}

/* A writer that did not come to its end left a note. */
static rotor_status look_for_notes(rag_db *db, const base_log *log, rotor_error *err) {
    int64_t jobs = 0;
    ROTOR_TRY(rag_sql_int(&db->sql, &jobs, "SELECT count(*) FROM job", err));
    if (!jobs || db->lock < 0) return ROTOR_OK;
    ROTOR_TRY(rag_db_check(db, false, err));
    base_log_printf(log, BASE_LOG_INFO,
                    "%s: earlier work was interrupted; what it finished is kept", db->folder);
    return rag_sql_run(&db->sql, "DELETE FROM job", err);
}

static rotor_status take_lock(rag_db *db, rotor_error *err) {
    rotor_error why = {0};
    char *lock = base_path_join(db->folder, "rag.lock");
    if (!lock) return base_fail_nomem(err, "opening a store");
    const rotor_status st = base_lock_take(&db->lock, lock, &why);
    base_free(lock);
    if (st == ROTOR_E_STATE)
        return base_fail(err, st,
                         "%s: another program is writing to this store; try again when "
                         "it is done",
                         db->folder);
    return st == ROTOR_OK ? st : base_fail(err, st, "%s", why.message);
}

static rotor_status open_folder(rag_db *db, bool create, bool write, rotor_error *err) {
    if (create) {
        ROTOR_TRY(base_mkdir_private(db->folder, err));
    } else if (base_path_kind_of(db->path) != BASE_PATH_FILE) {
        return base_fail(err, ROTOR_E_NOTFOUND,
                         "%s: no store there; rotor rag add %s PATH makes one", db->folder,
                         db->folder);
    }
    if (!write) return create ? base_make_private(db->path, err) : ROTOR_OK;
    ROTOR_TRY(take_lock(db, err));
    return create ? base_make_private(db->path, err) : ROTOR_OK; /* SQLite's would be for all */
}

rotor_status rag_db_open(rag_db **out, const char *folder, bool create, bool write,
                         const base_log *log, rotor_error *err) {
    rag_db *db = base_alloc(sizeof *db);
    if (!db) return base_fail_nomem(err, "opening a store");
    db->lock = -1;
    db->folder = base_strdup(folder);
    db->path = base_path_join(folder, "rag.db");
    rotor_status st = db->folder && db->path ? open_folder(db, create, write, err)
                                             : base_fail_nomem(err, "opening a store");
    if (st == ROTOR_OK) st = rag_sql_open(&db->sql, db->path, create, err);
    if (st == ROTOR_OK) st = tune(db, err);
    if (st == ROTOR_OK) st = bring_up(db, err);
    if (st == ROTOR_OK) st = look_for_notes(db, log, err);
    if (st != ROTOR_OK)
        rag_db_close(&db);
    else
        *out = db;
    return st;
}

/* Forgets the numbers of terms: after a rollback some may not exist. */
static void forget_terms(rag_db *db) {
    base_map_free(&db->ids);
    for (size_t i = 0; i < db->n_bag; i++) base_buf_free(&db->bag[i]);
    base_free(db->bag);
    db->bag = NULL;
    db->n_bag = 0;
}

void rag_db_close(rag_db **p) {
    rag_db *db = *p;
    if (!db) return;
    rag_db_rollback(db);
    forget_terms(db);
    rag_sql_close(&db->sql);
    base_lock_drop(&db->lock);
    base_free(db->folder);
    base_free(db->path);
    base_free(db);
    *p = NULL;
}

bool rag_db_can_write(const rag_db *db) { return db->lock >= 0; }

void rag_db_rest(rag_db *db) { base_lock_drop(&db->lock); }

/* Who wrote meanwhile may have numbered terms. */
rotor_status rag_db_resume(rag_db *db, rotor_error *err) {
    if (db->lock >= 0) return ROTOR_OK;
    ROTOR_TRY(take_lock(db, err));
    forget_terms(db);
    return ROTOR_OK;
}

uint64_t rag_db_bytes(const rag_db *db) {
    base_node n;
    return base_node_of(&n, db->path, true) ? n.size : 0;
}

/* ==== Changes ================================================================================= */

rotor_status rag_db_begin(rag_db *db, rotor_error *err) {
    ROTOR_TRY(rag_sql_run(&db->sql, "BEGIN IMMEDIATE", err));
    db->change = true;
    return ROTOR_OK;
}

rotor_status rag_db_commit(rag_db *db, rotor_error *err) {
    ROTOR_TRY(rag_sql_run(&db->sql, "COMMIT", err));
    db->change = false;
    db->n++;
    return ROTOR_OK;
}

static void undo(rag_db *db, const char *how) {
    rag_sql_run(&db->sql, how, NULL);
    forget_terms(db);
    db->back++;
}
void rag_db_rollback(rag_db *db) {
    if (!db->change) return;
    undo(db, "ROLLBACK");
    db->change = false;
}

bool rag_db_in_change(const rag_db *db) { return db->change; }
uint64_t rag_db_commits(const rag_db *db) { return db->n; }

rotor_status rag_db_look(rag_db *db, rotor_error *err) {
    if (db->change || db->look) return ROTOR_OK;
    ROTOR_TRY(rag_sql_run(&db->sql, "BEGIN", err));
    db->look = true;
    return ROTOR_OK;
}

void rag_db_look_end(rag_db *db) {
    if (!db->look) return;
    if (rag_sql_run(&db->sql, "COMMIT", NULL) != ROTOR_OK) rag_sql_run(&db->sql, "ROLLBACK", NULL);
    db->look = false;
}

rotor_status rag_db_mark(rag_db *db, rotor_error *err) {
    return rag_sql_run(&db->sql, "SAVEPOINT part", err);
}
rotor_status rag_db_keep(rag_db *db, rotor_error *err) {
    return rag_sql_run(&db->sql, "RELEASE part", err);
}
void rag_db_take_back(rag_db *db) { undo(db, "ROLLBACK TO part; RELEASE part"); }

rotor_status rag_db_version(rag_db *db, int64_t *version, rotor_error *err) {
    int64_t others;
    ROTOR_TRY(rag_sql_int(&db->sql, &others, "PRAGMA data_version", err));
    *version = others << 32 ^ rag_sql_changes(&db->sql) ^ (int64_t)(db->back << 48);
    return ROTOR_OK;
}

rotor_status rag_db_check(rag_db *db, bool whole, rotor_error *err) {
    base_buf said = {0};
    rotor_status st = rag_sql_text(
        &db->sql, &said, whole ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)", err);
    if (st == ROTOR_OK && (!said.data || strcmp(said.data, "ok") != 0))
        st =
            base_fail(err, ROTOR_E_FORMAT, "%s: damaged: %s", db->path, said.data ? said.data : "");
    base_buf_free(&said);
    int64_t orphans = 0;
    if (st == ROTOR_OK && whole)
        st = rag_sql_int(&db->sql, &orphans, "SELECT count(*) FROM pragma_foreign_key_check", err);
    if (st == ROTOR_OK && orphans)
        st = base_fail(err, ROTOR_E_FORMAT, "%s: damaged: %lld rows without what they belong to",
                       db->path, (long long)orphans);
    return st;
}

rotor_status rag_db_facts(rag_db *db, rag_facts *f, rotor_error *err) {
    rag_stmt *s;
    memset(f, 0, sizeof *f);
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT (SELECT count(*) FROM file), (SELECT count(*) FROM doc),"
                          " (SELECT count(*) FROM chunk),"
                          " (SELECT count(*) FROM file WHERE status='error')",
                          err));
    bool row;
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    f->n_files = (size_t)rag_col_int(s, 0);
    f->n_docs = (size_t)rag_col_int(s, 1);
    f->n_chunks = (size_t)rag_col_int(s, 2);
    f->n_failed = (size_t)rag_col_int(s, 3);
    ROTOR_TRY(rag_sql_end(&db->sql, s, err)); /* or it would hold on to this state */
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT m.name, m.path, m.dims,"
                          " (SELECT count(*) FROM chunk c JOIN vec v ON v.hash=c.hash"
                          "  AND v.model_id=m.id)"
                          " FROM model m JOIN meta ON meta.k='model' AND meta.v=m.id",
                          err));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    f->db_bytes = rag_db_bytes(db);
    if (!row) return ROTOR_OK;
    f->has_model = true;
    rag_col_copy(s, 0, f->model, sizeof f->model);
    rag_col_copy(s, 1, f->model_path, sizeof f->model_path);
    f->dims = (size_t)rag_col_int(s, 2);
    f->n_vectors = (size_t)rag_col_int(s, 3);
    return rag_sql_step(&db->sql, s, &row, err);
}

/* ==== Files =================================================================================== */

static void take_hash(const rag_stmt *s, int col, uint8_t hash[RAG_HASH]) {
    const base_str b = rag_col_blob(s, col);
    memset(hash, 0, RAG_HASH);
    memcpy(hash, b.p, BASE_MIN(b.n, (size_t)RAG_HASH));
}

rotor_status rag_db_find_file(rag_db *db, const char *path, rag_db_file *f, rotor_error *err) {
    rag_stmt *s;
    bool row;
    memset(f, 0, sizeof *f);
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT id,size,mtime_ns,ctime_ns,dev,ino,seen_ns,hash,pipeline,status"
                          " FROM file WHERE path=?",
                          err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "s", path));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    if (!row) return ROTOR_OK;
    f->id = rag_col_int(s, 0);
    f->node = (base_node){.kind = BASE_NODE_FILE,
                          .size = (uint64_t)rag_col_int(s, 1),
                          .mtime_ns = rag_col_int(s, 2),
                          .ctime_ns = rag_col_int(s, 3),
                          .dev = (uint64_t)rag_col_int(s, 4),
                          .ino = (uint64_t)rag_col_int(s, 5)};
    f->seen_ns = rag_col_int(s, 6);
    take_hash(s, 7, f->hash);
    f->pipeline = (int)rag_col_int(s, 8);
    rag_col_copy(s, 9, f->status, sizeof f->status);
    return rag_sql_step(&db->sql, s, &row, err);
}

rotor_status rag_db_put_file(rag_db *db, const char *path, rag_db_file *f, const char *message,
                             rotor_error *err) {
    rag_stmt *s;
    const base_str hash = {(const char *)f->hash, RAG_HASH};
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "INSERT INTO file(path,size,mtime_ns,ctime_ns,dev,ino,seen_ns,hash,"
                          "pipeline,status,message) VALUES(?,?,?,?,?,?,?,?,?,?,?)"
                          " ON CONFLICT(path) DO UPDATE SET size=excluded.size,"
                          "mtime_ns=excluded.mtime_ns,ctime_ns=excluded.ctime_ns,dev=excluded.dev,"
                          "ino=excluded.ino,seen_ns=excluded.seen_ns,hash=excluded.hash,"
                          "pipeline=excluded.pipeline,status=excluded.status,"
                          "message=excluded.message RETURNING id",
                          err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "siiiiiibiss", path, (int64_t)f->node.size,
                           f->node.mtime_ns, f->node.ctime_ns, (int64_t)f->node.dev,
                           (int64_t)f->node.ino, f->seen_ns, &hash, (int64_t)f->pipeline, f->status,
                           message));
    bool row;
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    f->id = rag_col_int(s, 0);
    return rag_sql_end(&db->sql, s, err);
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
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT id,path,dev,hash,status='ok' FROM file ORDER BY path", err));
    rotor_status st = rag_sql_step(&db->sql, s, &row, err);
    while (st == ROTOR_OK && row) {
        rag_db_name n = {.id = rag_col_int(s, 0),
                         .path = rag_col_text(s, 1),
                         .dev = (uint64_t)rag_col_int(s, 2),
                         .ok = rag_col_int(s, 4) != 0};
        take_hash(s, 3, n.hash);
        st = fn(user, &n);
        if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    }
    rag_sql_reset(s);
    return st;
}

rotor_status rag_db_each_file(rag_db *db,
                              rotor_status (*fn)(void *user, int64_t id, const rag_file *f),
                              void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT f.id,f.path,f.status,f.message,f.size,"
                          "(SELECT count(*) FROM doc d WHERE d.file_id=f.id),"
                          "(SELECT count(*) FROM doc d JOIN chunk c ON c.doc_id=d.id"
                          " WHERE d.file_id=f.id) FROM file f ORDER BY f.path",
                          err));
    rotor_status st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        const rag_file f = {.path = rag_col_text(s, 1),
                            .status = rag_col_text(s, 2),
                            .message = rag_col_text(s, 3),
                            .size = (uint64_t)rag_col_int(s, 4),
                            .n_docs = (size_t)rag_col_int(s, 5),
                            .n_chunks = (size_t)rag_col_int(s, 6)};
        st = fn(user, rag_col_int(s, 0), &f);
    }
    rag_sql_reset(s);
    return st;
}

/* ==== Folders that were added ================================================================= */

rotor_status rag_db_put_root(rag_db *db, const char *path, const char *globs, rotor_error *err) {
    return rag_sql_do(&db->sql, err,
                      "INSERT INTO meta(k,v) VALUES('root:'||?,?)"
                      " ON CONFLICT(k) DO UPDATE SET v=excluded.v",
                      "ss", path, globs);
}

rotor_status rag_db_get_root(rag_db *db, const char *path, base_buf *globs, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s, "SELECT v FROM meta WHERE k='root:'||?", err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "s", path));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    if (row) base_buf_puts(globs, rag_col_text(s, 0));
    rag_sql_reset(s);
    return globs->failed ? base_fail_nomem(err, "reading a store") : ROTOR_OK;
}

rotor_status rag_db_delete_root(rag_db *db, const char *path, rotor_error *err) {
    if (!path) return rag_sql_do(&db->sql, err, "DELETE FROM meta WHERE k LIKE 'root:%'", "");
    return rag_sql_do(&db->sql, err,
                      "DELETE FROM meta WHERE k='root:'||?1 OR"
                      " substr(k,1,length(?1)+6)='root:'||?1||'/'",
                      "s", path);
}

rotor_status rag_db_each_root(rag_db *db,
                              rotor_status (*fn)(void *user, const char *path, const char *globs),
                              void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT substr(k,6),v FROM meta WHERE k LIKE 'root:%' ORDER BY k", err));
    rotor_status st = rag_sql_step(&db->sql, s, &row, err);
    while (st == ROTOR_OK && row) {
        st = fn(user, rag_col_text(s, 0), rag_col_text(s, 1));
        if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    }
    rag_sql_reset(s);
    return st;
}

/* ==== Documents =============================================================================== */

rotor_status rag_db_find_doc(rag_db *db, int64_t file, const char *key, int64_t *id,
                             uint8_t hash[RAG_HASH], rotor_error *err) {
    rag_stmt *s;
    bool row;
    *id = 0;
    ROTOR_TRY(rag_sql_get(&db->sql, &s, "SELECT id,hash FROM doc WHERE file_id=? AND key=?", err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "is", file, key));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    if (!row) return ROTOR_OK;
    *id = rag_col_int(s, 0);
    take_hash(s, 1, hash);
    return rag_sql_step(&db->sql, s, &row, err);
}

rotor_status rag_db_put_doc(rag_db *db, rag_db_doc *d, base_str text, int64_t run,
                            rotor_error *err) {
    rag_stmt *s;
    bool row;
    const base_str hash = {(const char *)d->hash, RAG_HASH};
    ROTOR_TRY(rag_sql_do(&db->sql, err, "DELETE FROM doc WHERE file_id=? AND key=?", "is", d->file,
                         d->key));
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "INSERT INTO doc(file_id,key,title,meta,line,hash,run)"
                          " VALUES(?,?,?,?,?,?,?) RETURNING id",
                          err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "isssibi", d->file, d->key, d->title, d->meta,
                           (int64_t)d->line, &hash, run));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    d->id = rag_col_int(s, 0);
    ROTOR_TRY(rag_sql_end(&db->sql, s, err));
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
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT d.id,d.key,d.title,d.meta,d.line,d.hash,t.text FROM doc d"
                          " JOIN doc_text t ON t.doc_id=d.id WHERE d.file_id=? ORDER BY d.id",
                          err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "i", file);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        rag_db_doc d = {.id = rag_col_int(s, 0),
                        .file = file,
                        .key = rag_col_text(s, 1),
                        .title = rag_col_text(s, 2),
                        .meta = rag_col_text(s, 3),
                        .line = (uint32_t)rag_col_int(s, 4)};
        take_hash(s, 5, d.hash);
        st = fn(user, &d, rag_col_blob(s, 6));
    }
    rag_sql_reset(s);
    return st;
}

rotor_status
rag_db_each_doc(rag_db *db, rotor_status (*fn)(void *user, const rag_db_doc *doc, const char *path),
                void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT d.id,d.file_id,d.key,d.title,d.meta,f.path FROM doc d"
                          " JOIN file f ON f.id=d.file_id ORDER BY d.id",
                          err));
    rotor_status st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        const rag_db_doc d = {.id = rag_col_int(s, 0),
                              .file = rag_col_int(s, 1),
                              .key = rag_col_text(s, 2),
                              .title = rag_col_text(s, 3),
                              .meta = rag_col_text(s, 4)};
        st = fn(user, &d, rag_col_text(s, 5));
    }
    rag_sql_reset(s);
    return st;
}

/* ==== Chunks ================================================================================== */

rotor_status rag_db_put_chunk(rag_db *db, rag_db_chunk *c, rotor_error *err) {
    rag_stmt *s;
    bool row;
    const base_str hash = {(const char *)c->hash, RAG_HASH};
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "INSERT INTO chunk(doc_id,ord,heading,byte_begin,byte_end,line,last_line,"
                          "page,last_page,n_tok,hash) VALUES(?,?,?,?,?,?,?,?,?,?,?) RETURNING id",
                          err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "iisiiiiiiib", c->doc, (int64_t)c->ord, c->heading,
                           (int64_t)c->begin, (int64_t)c->end, (int64_t)c->line,
                           (int64_t)c->last_line, (int64_t)c->page, (int64_t)c->last_page,
                           (int64_t)c->n_tok, &hash));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    c->id = rag_col_int(s, 0);
    ROTOR_TRY(rag_sql_end(&db->sql, s, err));
    return rag_sql_do(&db->sql, err,
                      "INSERT INTO chunk_terms(chunk_id,n_words,packed) VALUES(?,?,?)", "iib",
                      c->id, (int64_t)c->n_words, &c->terms);
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
    rag_stmt *s;
    bool row;
    if (!db->ids) {
        remembering r = {db, err};
        if (base_map_create(&db->ids, 1 << 14) != ROTOR_OK)
            return base_fail_nomem(err, "numbering terms");
        ROTOR_TRY(rag_db_each_term(db, 0, remember_row, &r, err));
    }
    if (base_map_get(db->ids, term, id)) return ROTOR_OK;
    ROTOR_TRY(rag_sql_get(&db->sql, &s, "INSERT INTO term(t) VALUES(?) RETURNING id", err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "t", &term));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    *id = (uint32_t)rag_col_int(s, 0);
    ROTOR_TRY(rag_sql_end(&db->sql, s, err));
    return remember(db, term, *id, err);
}

rotor_status rag_db_each_term(rag_db *db, uint32_t from,
                              rotor_status (*fn)(void *user, uint32_t id, base_str t), void *user,
                              rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s, "SELECT id,t FROM term WHERE id>=? ORDER BY id", err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "i", from ? (int64_t)from : INT64_MIN);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        const int64_t id = rag_col_int(s, 0);
        st = id > 0 && id < UINT32_MAX
                 ? fn(user, (uint32_t)id, rag_col_blob(s, 1))
                 : base_fail(err, ROTOR_E_FORMAT, "%s: damaged: a term has the number %lld",
                             db->path, (long long)id);
    }
    rag_sql_reset(s);
    return st;
}

rotor_status rag_db_each_chunk(rag_db *db, rotor_status (*fn)(void *user, const rag_db_chunk *c),
                               void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT c.id,c.doc_id,c.ord,t.n_words,t.packed FROM chunk c"
                          " JOIN chunk_terms t ON t.chunk_id=c.id ORDER BY c.doc_id,c.ord",
                          err));
    rotor_status st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        const rag_db_chunk c = {.id = rag_col_int(s, 0),
                                .doc = rag_col_int(s, 1),
                                .ord = (uint32_t)rag_col_int(s, 2),
                                .n_words = (uint32_t)rag_col_int(s, 3),
                                .terms = rag_col_blob(s, 4)};
        st = fn(user, &c);
    }
    rag_sql_reset(s);
    return st;
}

rotor_status rag_db_each_chunk_of(rag_db *db, int64_t doc,
                                  rotor_status (*fn)(void *user, const rag_db_chunk *c), void *user,
                                  rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT id,ord,heading,byte_begin,byte_end,line,last_line,page,last_page,"
                          "n_tok FROM chunk WHERE doc_id=? ORDER BY ord",
                          err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "i", doc);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        const rag_db_chunk c = {.id = rag_col_int(s, 0),
                                .doc = doc,
                                .ord = (uint32_t)rag_col_int(s, 1),
                                .heading = rag_col_text(s, 2),
                                .begin = (uint64_t)rag_col_int(s, 3),
                                .end = (uint64_t)rag_col_int(s, 4),
                                .line = (uint32_t)rag_col_int(s, 5),
                                .last_line = (uint32_t)rag_col_int(s, 6),
                                .page = (uint32_t)rag_col_int(s, 7),
                                .last_page = (uint32_t)rag_col_int(s, 8),
                                .n_tok = (uint32_t)rag_col_int(s, 9)};
        st = fn(user, &c);
    }
    rag_sql_reset(s);
    return st;
}

rotor_status rag_db_each_place(rag_db *db, rotor_status (*fn)(void *user, const rag_db_chunk *c),
                               void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s, "SELECT id,doc_id FROM chunk ORDER BY doc_id,ord", err));
    rotor_status st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st)
        st = fn(user, &(rag_db_chunk){.id = rag_col_int(s, 0), .doc = rag_col_int(s, 1)});
    rag_sql_reset(s);
    return st;
}

rotor_status rag_db_read_words(rag_db *db, int64_t chunk,
                               rotor_status (*fn)(void *user, const rag_db_chunk *c), void *user,
                               rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(
        rag_sql_get(&db->sql, &s, "SELECT n_words,packed FROM chunk_terms WHERE chunk_id=?", err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "i", chunk);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    if (st == ROTOR_OK && !row)
        st = base_fail(err, ROTOR_E_FORMAT, "%s: damaged: a passage has no words", db->path);
    if (st == ROTOR_OK)
        st = fn(user, &(rag_db_chunk){chunk, .n_words = (uint32_t)rag_col_int(s, 0),
                                      .terms = rag_col_blob(s, 1)});
    rag_sql_reset(s);
    return st;
}

static char *new_text(const rag_stmt *s, int col) {
    const base_str t = rag_col_blob(s, col);
    return base_strndup(t.n ? t.p : "", t.n);
}

rotor_status rag_db_read_hit(rag_db *db, int64_t chunk, rag_hit *h, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT f.path,d.key,d.title,c.heading,"
                          "substr(t.text,c.byte_begin+1,c.byte_end-c.byte_begin),c.byte_begin,"
                          "c.byte_end,c.line,c.last_line,c.page,c.last_page FROM chunk c"
                          " JOIN doc d ON d.id=c.doc_id JOIN file f ON f.id=d.file_id"
                          " JOIN doc_text t ON t.doc_id=d.id WHERE c.id=?",
                          err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "i", chunk));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    if (!row) return base_fail(err, ROTOR_E_NOTFOUND, "a passage has just been removed");
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
    rag_sql_reset(s);
    if (h->path && h->id && h->title && h->heading && h->text) return ROTOR_OK;
    return base_fail_nomem(err, "reading a passage");
}

rotor_status rag_db_read_text(rag_db *db, int64_t chunk, uint64_t begin, uint64_t end,
                              base_buf *out, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT substr(t.text,?+1,?-?) FROM chunk c"
                          " JOIN doc_text t ON t.doc_id=c.doc_id WHERE c.id=?",
                          err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "iiii", (int64_t)begin, (int64_t)end, (int64_t)begin,
                           chunk));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    const base_str t = row ? rag_col_blob(s, 0) : (base_str){0};
    base_buf_append(out, t.p, t.n);
    rag_sql_reset(s);
    return out->failed ? base_fail_nomem(err, "reading a passage") : ROTOR_OK;
}

/* ==== Vectors ================================================================================= */

rotor_status rag_db_model(rag_db *db, const rag_embedder *e, int64_t *id, rotor_error *err) {
    rag_stmt *s;
    bool row;
    const base_str print = {(const char *)e->fingerprint, RAG_HASH};
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "INSERT INTO model(fingerprint,name,path,dims) VALUES(?,?,?,?)"
                          " ON CONFLICT(fingerprint) DO UPDATE SET path=excluded.path RETURNING id",
                          err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "bssi", &print, e->name, e->path, (int64_t)e->dims));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    *id = rag_col_int(s, 0);
    return rag_sql_end(&db->sql, s, err);
}

rotor_status rag_db_get_model(rag_db *db, int64_t *id, uint8_t fingerprint[RAG_HASH],
                              rotor_error *err) {
    rag_stmt *s;
    bool row;
    *id = 0;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT m.id,m.fingerprint FROM model m JOIN meta ON meta.k='model'"
                          " AND meta.v=m.id",
                          err));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    if (!row) return ROTOR_OK;
    *id = rag_col_int(s, 0);
    take_hash(s, 1, fingerprint);
    rag_sql_reset(s);
    return ROTOR_OK;
}

rotor_status rag_db_set_model(rag_db *db, int64_t id, rotor_error *err) {
    return rag_sql_do(&db->sql, err,
                      "INSERT INTO meta(k,v) VALUES('model',?)"
                      " ON CONFLICT(k) DO UPDATE SET v=excluded.v",
                      "i", id);
}

#define WITHOUT_VECTOR " NOT EXISTS(SELECT 1 FROM vec v WHERE v.model_id=? AND v.hash=c.hash)"

rotor_status rag_db_count_wanted(rag_db *db, int64_t model, size_t *n, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s, "SELECT count(*) FROM chunk c WHERE" WITHOUT_VECTOR, err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "i", model));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    *n = (size_t)rag_col_int(s, 0);
    return rag_sql_step(&db->sql, s, &row, err);
}

/* "title › headings", then the text: what the words of a passage leave unsaid. */
static void wanted_text(const rag_stmt *s, base_buf *out) {
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
    rag_stmt *s;
    bool row;
    base_buf text = {0};
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT c.id,c.hash,d.title,c.heading,"
                          "substr(t.text,c.byte_begin+1,c.byte_end-c.byte_begin) FROM chunk c"
                          " JOIN doc d ON d.id=c.doc_id JOIN doc_text t ON t.doc_id=c.doc_id"
                          " WHERE" WITHOUT_VECTOR " AND c.id>? ORDER BY c.id LIMIT ?",
                          err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "iii", model, after, (int64_t)most);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        rag_db_wanted w = {.chunk = rag_col_int(s, 0)};
        take_hash(s, 1, w.hash);
        wanted_text(s, &text);
        w.text = (base_str){text.data, text.len};
        st = text.failed ? base_fail_nomem(err, "embedding") : fn(user, &w);
    }
    rag_sql_reset(s);
    base_buf_free(&text);
    return st;
}

rotor_status rag_db_put_vector(rag_db *db, int64_t model, const uint8_t hash[RAG_HASH], float scale,
                               base_str high, base_str low, rotor_error *err) {
    const base_str name = {(const char *)hash, RAG_HASH};
    return rag_sql_do(&db->sql, err,
                      "INSERT OR REPLACE INTO vec(model_id,hash,scale,high,low) VALUES(?,?,?,?,?)",
                      "ibdbb", model, &name, (double)scale, &high, &low);
}

rotor_status rag_db_each_vector(rag_db *db, int64_t model,
                                rotor_status (*fn)(void *user, int64_t chunk, float scale,
                                                   base_str high, base_str low),
                                void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    /* CROSS: passages outside, in the order of their index. The other way round all vectors would
     * be sorted, which takes as much memory as they do. */
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT c.id,v.scale,v.high,v.low FROM chunk c CROSS JOIN vec v"
                          " ON v.model_id=? AND v.hash=c.hash ORDER BY c.doc_id,c.ord",
                          err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "i", model);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st)
        st = fn(user, rag_col_int(s, 0), (float)rag_col_real(s, 1), rag_col_blob(s, 2),
                rag_col_blob(s, 3));
    rag_sql_reset(s);
    return st;
}

rotor_status rag_db_add_vector(rag_db *db, int64_t model, const uint8_t hash[RAG_HASH], float scale,
                               base_str high, base_str low, rotor_error *err) {
    const base_str name = {(const char *)hash, RAG_HASH};
    return rag_sql_do(&db->sql, err,
                      "INSERT OR IGNORE INTO vec(model_id,hash,scale,high,low) VALUES(?,?,?,?,?)",
                      "ibdbb", model, &name, (double)scale, &high, &low);
}

rotor_status rag_db_each_vector_of(rag_db *db, int64_t model,
                                   rotor_status (*fn)(void *user, const uint8_t hash[RAG_HASH],
                                                      float scale, base_str high, base_str low),
                                   void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    uint8_t hash[RAG_HASH];
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT hash,scale,high,low FROM vec WHERE model_id=?"
                          " AND hash IN (SELECT hash FROM chunk)",
                          err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "i", model);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    for (; st == ROTOR_OK && row; st = st == ROTOR_OK ? rag_sql_step(&db->sql, s, &row, err) : st) {
        take_hash(s, 0, hash);
        st = fn(user, hash, (float)rag_col_real(s, 1), rag_col_blob(s, 2), rag_col_blob(s, 3));
    }
    rag_sql_reset(s);
    return st;
}

rotor_status rag_db_read_vector(rag_db *db, int64_t model, int64_t chunk,
                                rotor_status (*fn)(void *user, int64_t chunk, float scale,
                                                   base_str high, base_str low),
                                void *user, rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "SELECT v.scale,v.high,v.low FROM chunk c JOIN vec v"
                          " ON v.model_id=? AND v.hash=c.hash WHERE c.id=?",
                          err));
    rotor_status st = rag_sql_bind(&db->sql, s, err, "ii", model, chunk);
    if (st == ROTOR_OK) st = rag_sql_step(&db->sql, s, &row, err);
    if (st == ROTOR_OK && row)
        st = fn(user, chunk, (float)rag_col_real(s, 0), rag_col_blob(s, 1), rag_col_blob(s, 2));
    rag_sql_reset(s);
    return st;
}

size_t rag_db_changes(rag_db *db) { return (size_t)rag_sql_changes(&db->sql); }

rotor_status rag_db_shrink(rag_db *db, rotor_error *err) {
    return rag_sql_run(&db->sql, "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);",
                       err);
}

rotor_status rag_db_sweep(rag_db *db, rotor_error *err) {
    return rag_sql_run(&db->sql,
                       "DELETE FROM vec WHERE model_id NOT IN (SELECT v FROM meta WHERE k='model')"
                       " OR hash NOT IN (SELECT hash FROM chunk);"
                       "DELETE FROM model WHERE id NOT IN (SELECT v FROM meta WHERE k='model')"
                       " AND id NOT IN (SELECT model_id FROM vec);",
                       err);
}

/* ==== Work under way ========================================================================== */

rotor_status rag_db_job_begin(rag_db *db, const char *kind, const char *what, int64_t *job,
                              rotor_error *err) {
    rag_stmt *s;
    bool row;
    ROTOR_TRY(rag_sql_get(&db->sql, &s,
                          "INSERT INTO job(kind,what,begun) VALUES(?,?,?) RETURNING id", err));
    ROTOR_TRY(rag_sql_bind(&db->sql, s, err, "ssi", kind, what, base_unix_s()));
    ROTOR_TRY(rag_sql_step(&db->sql, s, &row, err));
    *job = rag_col_int(s, 0);
    return rag_sql_end(&db->sql, s, err);
}

rotor_status rag_db_job_end(rag_db *db, int64_t job, rotor_error *err) {
    return rag_sql_do(&db->sql, err, "DELETE FROM job WHERE id=?", "i", job);
}
