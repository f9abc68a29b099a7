/* SPDX-License-Identifier: MIT
 *
 * One SQLite connection. Statements are found again by the address of their text, so that a call
 * costs no compiling; what SQLite says becomes one of our errors, with the file's name in front.
 */
#include "rag/rag_sql.h"

#include <errno.h>
#include <sqlite3.h>

typedef struct sqlite {
    struct sqlite3 *db;         /* connection */
    char *path;                 /* for messages, owned */
    const char **text;          /* [n] the statements, by address; owned array */
    struct sqlite3_stmt **stmt; /* [n] compiled; owned array */
    size_t n;                   /* how many */
} sqlite;

#ifndef EDQUOT /* Windows: SQLite itself knows a full disk there */
#define EDQUOT ENOSPC
#endif

/* SQLite has a code for it only where it writes its own file; beside that there are the log, and
 * the memory it shares, which reading takes, too. */
static int plain_code(const sqlite *q, int code) {
    const int kind = code & 0xFF, os = q->db ? sqlite3_system_errno(q->db) : 0;
    if (kind != SQLITE_IOERR && kind != SQLITE_CANTOPEN) return kind;
    return os == ENOSPC || os == EDQUOT ? SQLITE_FULL : kind;
}

static rotor_status fail(const sqlite *q, int code, rotor_error *err) {
    const char *said = q->db ? sqlite3_errmsg(q->db) : sqlite3_errstr(code);
    switch (plain_code(q, code)) {
    case SQLITE_NOMEM:
        return base_fail_nomem(err, "using the database");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: damaged (%s); remove the store's folder and add its files again",
                         q->path, said);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return base_fail(err, ROTOR_E_STATE, "%s: another program is using it (%s)", q->path, said);
    case SQLITE_FULL:
        return base_fail(err, ROTOR_E_IO, "%s: the disk is full; what was committed is kept",
                         q->path);
    case SQLITE_READONLY:
        return base_fail(err, ROTOR_E_IO, "%s: may not be written (%s)", q->path, said);
    default:
        return base_fail(err, ROTOR_E_IO, "%s: %s", q->path, said);
    }
}

/* ==== Opening ================================================================================= */

static void close_sqlite(void *at) {
    sqlite *q = at;
    for (size_t i = 0; i < q->n; i++) sqlite3_finalize(q->stmt[i]);
    sqlite3_close(q->db);
    base_free(q->text);
    base_free(q->stmt);
    base_free(q->path);
    base_free(q);
}

rotor_status rag_sqlite_open(rag_sql *out, const char *path, bool create, rotor_error *err) {
    const int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    sqlite *q = base_alloc(sizeof *q);
    if (!q) return base_fail_nomem(err, "opening a database");
    *out = (rag_sql){&rag_sqlite, q};
    q->path = base_strdup(path);
    if (!q->path) return base_fail_nomem(err, "opening a database");
    const int code = sqlite3_open_v2(path, &q->db, flags, NULL);
    if (code != SQLITE_OK) return fail(q, code, err);
    sqlite3_extended_result_codes(q->db, 1);
    return ROTOR_OK;
}

static rotor_status run(void *at, const char *sql, rotor_error *err) {
    const sqlite *q = at;
    const int code = sqlite3_exec(q->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ROTOR_OK : fail(q, code, err);
}

/* ==== Statements ============================================================================== */

static rotor_status compile(sqlite *q, struct sqlite3_stmt **out, const char *sql,
                            rotor_error *err) {
    const char **text = base_realloc(q->text, (q->n + 1) * sizeof *text);
    if (text) q->text = text;
    struct sqlite3_stmt **stmt = base_realloc(q->stmt, (q->n + 1) * sizeof *stmt);
    if (stmt) q->stmt = stmt;
    if (!text || !stmt) return base_fail_nomem(err, "using the database");
    const int code = sqlite3_prepare_v3(q->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    if (code != SQLITE_OK) return fail(q, code, err);
    q->text[q->n] = sql;
    q->stmt[q->n++] = *out;
    return ROTOR_OK;
}

static void reset(struct sqlite3_stmt *s) {
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
}

static rotor_status find(sqlite *q, struct sqlite3_stmt **out, const char *sql, rotor_error *err) {
    for (size_t i = 0; i < q->n; i++)
        if (q->text[i] == sql) {
            *out = q->stmt[i];
            reset(*out);
            return ROTOR_OK;
        }
    return compile(q, out, sql, err);
}

static int bind_one(struct sqlite3_stmt *s, int at, const rag_value *v) {
    switch (v->kind) {
    case 'i':
        return sqlite3_bind_int64(s, at, v->whole);
    case 'd':
        return sqlite3_bind_double(s, at, v->real);
    case 'b':
        return sqlite3_bind_blob64(s, at, v->text.p, v->text.n, SQLITE_STATIC);
    default:
        return sqlite3_bind_text64(s, at, v->text.p, v->text.n, SQLITE_STATIC, SQLITE_UTF8);
    }
}

/* However many there are: SQLite makes each when it is asked for. */
static rotor_status rows(rag_reply *r, const char *sql, const rag_value *v, size_t n, bool many,
                         rotor_error *err) {
    sqlite *q = r->sql->at;
    struct sqlite3_stmt *s = NULL;
    (void)many;
    ROTOR_TRY(find(q, &s, sql, err));
    r->at = s;
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < n; i++) code = bind_one(s, (int)i + 1, &v[i]);
    return code == SQLITE_OK ? ROTOR_OK : fail(q, code, err);
}

static bool next(rag_reply *r, rotor_status *st, rotor_error *err) {
    const int code = *st == ROTOR_OK ? sqlite3_step(r->at) : SQLITE_DONE;
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) *st = fail(r->sql->at, code, err);
    reset(r->at);
    return false;
}

rotor_status rag_sqlite_text(rag_sql *of, base_buf *out, const char *sql, rotor_error *err) {
    const sqlite *q = of->at;
    struct sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(q->db, sql, -1, &s, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(s);
    rotor_status st = ROTOR_OK;
    if (code == SQLITE_ROW)
        base_buf_puts(out, (const char *)sqlite3_column_text(s, 0));
    else if (code != SQLITE_DONE)
        st = fail(q, code, err);
    sqlite3_finalize(s);
    return st == ROTOR_OK && out->failed ? base_fail_nomem(err, "using the database") : st;
}

static int64_t changed(void *at) { return sqlite3_changes64(((sqlite *)at)->db); }
static int64_t changes(void *at) { return sqlite3_total_changes64(((sqlite *)at)->db); }

rotor_status rag_sqlite_copy(rag_sql *q, const char *path, rotor_error *err) {
    base_buf name = {0};
    struct sqlite3 *to = NULL;
    base_buf_printf(&name, "%s.old", path);
    if (name.failed) return base_fail_nomem(err, "copying a database");
    int code = sqlite3_open(name.data, &to);
    struct sqlite3_backup *b =
        code == SQLITE_OK ? sqlite3_backup_init(to, "main", ((sqlite *)q->at)->db, "main") : NULL;
    if (b) code = sqlite3_backup_step(b, -1);
    sqlite3_backup_finish(b);
    sqlite3_close(to);
    const bool good = b && code == SQLITE_DONE;
    rotor_status st = good ? ROTOR_OK
                           : base_fail(err, ROTOR_E_IO,
                                       "%s: cannot write a copy before bringing "
                                       "the store up to date: %s",
                                       name.data, sqlite3_errstr(code));
    base_buf_free(&name);
    return st;
}

/* ==== Columns ================================================================================= */

static int64_t col_int(const rag_reply *r, int col) { return sqlite3_column_int64(r->at, col); }
static double col_real(const rag_reply *r, int col) { return sqlite3_column_double(r->at, col); }

/* Asking for text puts a 0 behind it; of a blob that would be another one. */
static base_str col_blob(const rag_reply *r, int col) {
    const char *p = sqlite3_column_type(r->at, col) == SQLITE_BLOB
                        ? sqlite3_column_blob(r->at, col)
                        : (const char *)sqlite3_column_text(r->at, col);
    return (base_str){p, p ? (size_t)sqlite3_column_bytes(r->at, col) : 0};
}

const rag_sql_kind rag_sqlite = {close_sqlite, run,     rows,     next,    changed,
                                 changes,      col_int, col_real, col_blob};
