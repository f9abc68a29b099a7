/* SPDX-License-Identifier: MIT
 *
 * A store's database as a file of SQLite: rag.db beside rag.lock in the store's folder.
 *
 * Write-ahead logging: readers see the last committed state while one writer works, and a program
 * killed at any moment leaves that state behind. Deleting a file deletes its documents, their text,
 * chunks and terms by foreign keys.
 *
 * The schema's number is user_version: a newer one than ours is refused, an older one is brought up
 * step by step in one transaction after a copy of the database was put beside it.
 */
#include "rag/rag_db_internal.h"

#include <stdlib.h>

enum { APPLICATION = 0x524F5452 }; /* "ROTR" */

/* Step i brings a database of schema i to i + 1. */
static const char *const steps[RAG_DB_SCHEMA] = {
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

/* Of a statement that is wanted once: kept compiled it might hold on to a state. */
static rotor_status number(rag_db *db, int64_t *out, const char *sql, rotor_error *err) {
    base_buf text = {0};
    const rotor_status st = rag_sqlite_text(&db->sql, &text, sql, err);
    *out = text.data ? strtoll(text.data, NULL, 10) : 0;
    base_buf_free(&text);
    return st;
}

/* The steps from the schema there is to ours, all or none. */
static rotor_status migrate(rag_db *db, int64_t from, rotor_error *err) {
    ROTOR_TRY(rag_sql_run(&db->sql, "BEGIN IMMEDIATE", err));
    rotor_status st = ROTOR_OK;
    for (int64_t i = from; st == ROTOR_OK && i < RAG_DB_SCHEMA; i++)
        st = rag_sql_run(&db->sql, steps[i], err);
    base_buf numbers = {0};
    base_buf_printf(&numbers, "PRAGMA application_id=%d; PRAGMA user_version=%d;", APPLICATION,
                    RAG_DB_SCHEMA);
    if (st == ROTOR_OK && numbers.failed) st = base_fail_nomem(err, "making a store");
    if (st == ROTOR_OK) st = rag_sql_run(&db->sql, numbers.data, err);
    if (st == ROTOR_OK) st = rag_sql_run(&db->sql, "COMMIT", err);
    if (st != ROTOR_OK) rag_sql_run(&db->sql, "ROLLBACK", NULL);
    base_buf_free(&numbers);
    return st;
}

static rotor_status bring_up(rag_db *db, rotor_error *err) {
    int64_t app = 0, schema = 0, tables = 0;
    ROTOR_TRY(number(db, &app, "PRAGMA application_id", err));
    ROTOR_TRY(number(db, &schema, "PRAGMA user_version", err));
    ROTOR_TRY(number(db, &tables, "SELECT count(*) FROM sqlite_schema", err));
    if (tables && app != APPLICATION)
        return base_fail(err, ROTOR_E_FORMAT, "%s: a database, but not of a store", db->path);
    ROTOR_TRY(rag_db_know(db, schema, err));
    if (schema == RAG_DB_SCHEMA) return ROTOR_OK;
    if (!db->writes)
        return base_fail(err, ROTOR_E_STATE,
                         "%s: an empty or older store; rotor rag add brings "
                         "it up to date",
                         db->path);
    if (tables) ROTOR_TRY(rag_sqlite_copy(&db->sql, db->path, err));
    return migrate(db, schema, err);
}

/* What a statement must sort stays in memory: a server in its cage may open no file for it. */
static rotor_status tune(rag_db *db, rotor_error *err) {
    ROTOR_TRY(rag_sql_run(&db->sql,
                          "PRAGMA busy_timeout=5000; PRAGMA foreign_keys=ON;"
                          "PRAGMA temp_store=MEMORY;"
                          "CREATE TEMP VIEW used AS SELECT v AS id FROM meta WHERE k='model';",
                          err));
    if (!db->writes) return ROTOR_OK;
    return rag_sql_run(&db->sql,
                       "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"
                       "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32768;",
                       err);
}

static rotor_status lock(rag_db *db, rotor_error *err) {
    rotor_error why = {0};
    char *path = base_path_join(db->folder, "rag.lock");
    if (!path) return base_fail_nomem(err, "opening a store");
    const rotor_status st = base_lock_take(&db->lock, path, &why);
    base_free(path);
    if (st == ROTOR_E_STATE) return rag_db_refuse_lock(db, err);
    return st == ROTOR_OK ? st : base_fail(err, st, "%s", why.message);
}

static void unlock(rag_db *db) { base_lock_drop(&db->lock); }

static void close_store(rag_db *db) {
    rag_sql_close(&db->sql);
    unlock(db);
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
    ROTOR_TRY(lock(db, err));
    db->writes = true;
    return create ? base_make_private(db->path, err) : ROTOR_OK; /* SQLite's would be for all */
}

static rotor_status open_store(rag_db *db, bool create, bool write, rotor_error *err) {
    ROTOR_TRY(open_folder(db, create, write, err));
    ROTOR_TRY(rag_sqlite_open(&db->sql, db->path, create, err));
    ROTOR_TRY(tune(db, err));
    return bring_up(db, err);
}

static uint64_t bytes(const rag_db *db) {
    base_node n;
    return base_node_of(&n, db->path, true) ? n.size : 0;
}

/* ==== Changes ================================================================================= */

static rotor_status begin(rag_db *db, bool look, rotor_error *err) {
    return rag_sql_run(&db->sql, look ? "BEGIN" : "BEGIN IMMEDIATE", err);
}

static rotor_status commit(rag_db *db, rotor_error *err) {
    return rag_sql_run(&db->sql, "COMMIT", err);
}

static rotor_status version(rag_db *db, int64_t *others, rotor_error *err) {
    return number(db, others, "PRAGMA data_version", err);
}

static rotor_status check(rag_db *db, bool whole, rotor_error *err) {
    base_buf said = {0};
    rotor_status st = rag_sqlite_text(
        &db->sql, &said, whole ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)", err);
    if (st == ROTOR_OK && (!said.data || strcmp(said.data, "ok") != 0))
        st =
            base_fail(err, ROTOR_E_FORMAT, "%s: damaged: %s", db->path, said.data ? said.data : "");
    base_buf_free(&said);
    int64_t orphans = 0;
    if (st == ROTOR_OK && whole)
        st = number(db, &orphans, "SELECT count(*) FROM pragma_foreign_key_check", err);
    if (st == ROTOR_OK && orphans)
        st = base_fail(err, ROTOR_E_FORMAT, "%s: damaged: %lld rows without what they belong to",
                       db->path, (long long)orphans);
    return st;
}

static rotor_status shrink(rag_db *db, rotor_error *err) {
    return rag_sql_run(&db->sql, "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);",
                       err);
}

const rag_db_host rag_in_file = {open_store, close_store, lock,  unlock, begin,
                                 commit,     version,     check, shrink, bytes};
