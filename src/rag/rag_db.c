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
#include "rag/rag_db_internal.h"

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

void rag_db_close(rag_db **p) {
    rag_db *db = *p;
    if (!db) return;
    rag_db_rollback(db);
    rag_forget_terms(db);
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
    rag_forget_terms(db);
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
    rag_forget_terms(db);
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

/* Numbers of rows. */
static rotor_status count_rows(rag_db *db, rag_facts *f, rotor_error *err) {
    rag_reply s;
    rotor_status st = rag_sql_rows(&db->sql, &s, err,
                                   "SELECT (SELECT count(*) FROM file), (SELECT count(*) FROM doc),"
                                   " (SELECT count(*) FROM chunk),"
                                   " (SELECT count(*) FROM file WHERE status='error')",
                                   "");
    while (rag_sql_next(&s, &st, err)) {
        f->n_files = (size_t)rag_col_int(&s, 0);
        f->n_docs = (size_t)rag_col_int(&s, 1);
        f->n_chunks = (size_t)rag_col_int(&s, 2);
        f->n_failed = (size_t)rag_col_int(&s, 3);
    }
    return st;
}

rotor_status rag_db_facts(rag_db *db, rag_facts *f, rotor_error *err) {
    rag_reply s;
    memset(f, 0, sizeof *f);
    ROTOR_TRY(count_rows(db, f, err));
    rotor_status st = rag_sql_rows(&db->sql, &s, err,
                                   "SELECT m.name, m.path, m.dims,"
                                   " (SELECT count(*) FROM chunk c JOIN vec v ON v.hash=c.hash"
                                   "  AND v.model_id=m.id)"
                                   " FROM model m JOIN meta ON meta.k='model' AND meta.v=m.id",
                                   "");
    f->db_bytes = rag_db_bytes(db);
    while (rag_sql_next(&s, &st, err)) {
        f->has_model = true;
        rag_col_copy(&s, 0, f->model, sizeof f->model);
        rag_col_copy(&s, 1, f->model_path, sizeof f->model_path);
        f->dims = (size_t)rag_col_int(&s, 2);
        f->n_vectors = (size_t)rag_col_int(&s, 3);
    }
    return st;
}

void rag_take_hash(const rag_reply *s, int col, uint8_t hash[RAG_HASH]) {
    const base_str b = rag_col_blob(s, col);
    memset(hash, 0, RAG_HASH);
    if (b.n) memcpy(hash, b.p, BASE_MIN(b.n, (size_t)RAG_HASH));
}

/* ==== Work under way ========================================================================== */

rotor_status rag_db_job_begin(rag_db *db, const char *kind, const char *what, int64_t *job,
                              rotor_error *err) {
    return rag_sql_number(&db->sql, job, err,
                          "INSERT INTO job(kind,what,begun) VALUES(?,?,?) RETURNING id", "ssi",
                          kind, what, base_unix_s());
}

rotor_status rag_db_job_end(rag_db *db, int64_t job, rotor_error *err) {
    return rag_sql_do(&db->sql, err, "DELETE FROM job WHERE id=?", "i", job);
}
