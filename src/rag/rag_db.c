/* SPDX-License-Identifier: MIT
 *
 * The database behind rag_db.h: opening it, changes, and what it holds. It is a file in the store's
 * folder, or where the store is an address a schema on a server.
 */
#include "rag/rag_db_internal.h"

/* ==== Opening ================================================================================= */

rotor_status rag_db_know(const rag_db *db, int64_t schema, rotor_error *err) {
    if (schema <= RAG_DB_SCHEMA) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "%s: written by a newer rotor (schema %lld, this one knows %d)", db->path,
                     (long long)schema, RAG_DB_SCHEMA);
}

rotor_status rag_db_refuse_lock(const rag_db *db, rotor_error *err) {
    return base_fail(err, ROTOR_E_STATE,
                     "%s: another program is writing to this store; try again when it is done",
                     db->folder);
}

/* A writer that did not come to its end left a note. */
static rotor_status look_for_notes(rag_db *db, const base_log *log, rotor_error *err) {
    int64_t jobs = 0;
    ROTOR_TRY(rag_sql_number(&db->sql, &jobs, err, "SELECT count(*) FROM job", ""));
    if (!jobs || !db->writes) return ROTOR_OK;
    ROTOR_TRY(rag_db_check(db, false, err));
    base_log_printf(log, BASE_LOG_INFO,
                    "%s: earlier work was interrupted; what it finished is kept", db->folder);
    return rag_sql_run(&db->sql, "DELETE FROM job", err);
}

bool rag_db_is_server(const char *store) { return base_url_is(store, "postgres", "postgresql"); }

rotor_status rag_db_open(rag_db **out, const char *folder, const rag_options *opt,
                         rotor_error *err) {
    const bool server = rag_db_is_server(folder);
    rag_db *db = base_alloc(sizeof *db);
    if (!db) return base_fail_nomem(err, "opening a store");
    db->host = server ? &rag_on_server : &rag_in_file;
    db->lock = -1;
    db->patience = opt->patience;
    db->url = server ? base_strdup(folder) : NULL;
    db->folder = server ? base_url_without_password(folder) : base_strdup(folder);
    db->path = !db->folder ? NULL
               : server    ? base_strdup(db->folder)
                           : base_path_join(folder, "rag.db");
    rotor_status st = db->folder && db->path && (db->url || !server)
                          ? db->host->open(db, opt->create, opt->write, err)
                          : base_fail_nomem(err, "opening a store");
    if (st == ROTOR_OK) st = look_for_notes(db, &opt->log, err);
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
    db->host->close(db);
    base_free(db->folder);
    base_free(db->path);
    base_free(db->url);
    base_free(db->setup);
    base_free(db);
    *p = NULL;
}

bool rag_db_can_write(const rag_db *db) { return db->writes; }

void rag_db_rest(rag_db *db) {
    if (!db->writes) return;
    db->rested = db->ids && !db->change && !db->look &&
                 db->host->version(db, &db->rested_at, NULL) == ROTOR_OK;
    db->host->unlock(db);
    db->writes = false;
}

/* Who wrote meanwhile may have numbered terms; where nobody did, they are not read again. */
static rotor_status check_terms(rag_db *db, rotor_error *err) {
    int64_t now = 0;
    const bool known = db->ids && db->rested && !db->look;
    if (known) ROTOR_TRY(db->host->version(db, &now, err));
    if (!known || now != db->rested_at) rag_forget_terms(db);
    return ROTOR_OK;
}

rotor_status rag_db_resume(rag_db *db, rotor_error *err) {
    if (db->writes) return ROTOR_OK;
    ROTOR_TRY(db->host->lock(db, err));
    db->writes = true;
    const rotor_status st = check_terms(db, err);
    if (st != ROTOR_OK) {
        rag_forget_terms(db);
        rag_db_rest(db);
    }
    return st;
}

uint64_t rag_db_bytes(const rag_db *db) { return db->host->bytes(db); }

/* ==== Changes ================================================================================= */

rotor_status rag_db_begin(rag_db *db, rotor_error *err) {
    ROTOR_TRY(db->host->begin(db, false, err));
    db->change = true;
    return ROTOR_OK;
}

rotor_status rag_db_commit(rag_db *db, rotor_error *err) {
    ROTOR_TRY(db->host->commit(db, err));
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
    ROTOR_TRY(db->host->begin(db, true, err));
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
    ROTOR_TRY(db->host->version(db, &others, err));
    *version = others << 32 ^ rag_sql_changes(&db->sql) ^ (int64_t)(db->back << 48);
    return ROTOR_OK;
}

rotor_status rag_db_check(rag_db *db, bool whole, rotor_error *err) {
    return db->host->check(db, whole, err);
}

rotor_status rag_db_shrink(rag_db *db, rotor_error *err) { return db->host->shrink(db, err); }

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
                                   " FROM model m JOIN used ON used.id=m.id",
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
