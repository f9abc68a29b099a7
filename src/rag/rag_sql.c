/* SPDX-License-Identifier: MIT
 *
 * One SQLite connection. Statements are found again by the address of their text, so that a call
 * costs no compiling; what SQLite says becomes one of our errors, with the file's name in front.
 */
#include "rag/rag_sql.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>

/* SQLite has a code for it only where it writes its own file; beside that there are the log, and
 * the memory it shares, which reading takes, too. */
static int plain_code(const rag_sql *q, int code) {
    const int kind = code & 0xFF, os = q->db ? sqlite3_system_errno(q->db) : 0;
    if (kind != SQLITE_IOERR && kind != SQLITE_CANTOPEN) return kind;
    return os == ENOSPC || os == EDQUOT ? SQLITE_FULL : kind;
}

static rotor_status fail(const rag_sql *q, int code, rotor_error *err) {
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

rotor_status rag_sql_open(rag_sql *q, const char *path, bool create, rotor_error *err) {
    const int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    memset(q, 0, sizeof *q);
    q->path = base_strdup(path);
    if (!q->path) return base_fail_nomem(err, "opening a database");
    const int code = sqlite3_open_v2(path, &q->db, flags, NULL);
    if (code != SQLITE_OK) return fail(q, code, err);
    sqlite3_extended_result_codes(q->db, 1);
    return ROTOR_OK;
}

void rag_sql_close(rag_sql *q) {
    for (size_t i = 0; i < q->n; i++) sqlite3_finalize(q->stmt[i]);
    sqlite3_close(q->db);
    base_free(q->text);
    base_free(q->stmt);
    base_free(q->path);
    memset(q, 0, sizeof *q);
}

rotor_status rag_sql_run(rag_sql *q, const char *sql, rotor_error *err) {
    const int code = sqlite3_exec(q->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ROTOR_OK : fail(q, code, err);
}

/* ==== Statements ============================================================================== */

static rotor_status compile(rag_sql *q, struct sqlite3_stmt **out, const char *sql,
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

static rotor_status find(rag_sql *q, struct sqlite3_stmt **out, const char *sql, rotor_error *err) {
    for (size_t i = 0; i < q->n; i++)
        if (q->text[i] == sql) {
            *out = q->stmt[i];
            reset(*out);
            return ROTOR_OK;
        }
    return compile(q, out, sql, err);
}

static int bind_one(struct sqlite3_stmt *s, int at, char kind, va_list *ap) {
    const base_str *b;
    const char *text;
    switch (kind) {
    case 'i':
        return sqlite3_bind_int64(s, at, va_arg(*ap, int64_t));
    case 'd':
        return sqlite3_bind_double(s, at, va_arg(*ap, double));
    case 's':
        text = va_arg(*ap, const char *);
        return sqlite3_bind_text(s, at, text ? text : "", -1, SQLITE_STATIC);
    case 't':
        b = va_arg(*ap, const base_str *);
        return sqlite3_bind_text64(s, at, b->n ? b->p : "", b->n, SQLITE_STATIC, SQLITE_UTF8);
    default:
        b = va_arg(*ap, const base_str *);
        return sqlite3_bind_blob64(s, at, b->n ? b->p : "", b->n, SQLITE_STATIC);
    }
}

static rotor_status begin_rows(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
                               const char *kinds, va_list *ap) {
    *r = (rag_reply){.sql = q};
    ROTOR_TRY(find(q, &r->stmt, sql, err));
    int code = SQLITE_OK;
    for (int i = 0; code == SQLITE_OK && kinds[i]; i++)
        code = bind_one(r->stmt, i + 1, kinds[i], ap);
    return code == SQLITE_OK ? ROTOR_OK : fail(q, code, err);
}

rotor_status rag_sql_rows(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
                          const char *kinds, ...) {
    va_list ap;
    va_start(ap, kinds);
    const rotor_status st = begin_rows(q, r, err, sql, kinds, &ap);
    va_end(ap);
    return st;
}

bool rag_sql_next(rag_reply *r, rotor_status *st, rotor_error *err) {
    if (!r->stmt) return false;
    const int code = *st == ROTOR_OK ? sqlite3_step(r->stmt) : SQLITE_DONE;
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) *st = fail(r->sql, code, err);
    reset(r->stmt);
    return false;
}

rotor_status rag_sql_do(rag_sql *q, rotor_error *err, const char *sql, const char *kinds, ...) {
    rag_reply r;
    va_list ap;
    va_start(ap, kinds);
    rotor_status st = begin_rows(q, &r, err, sql, kinds, &ap);
    va_end(ap);
    while (rag_sql_next(&r, &st, err)) {
    }
    return st;
}

rotor_status rag_sql_number(rag_sql *q, int64_t *out, rotor_error *err, const char *sql,
                            const char *kinds, ...) {
    rag_reply r;
    va_list ap;
    va_start(ap, kinds);
    rotor_status st = begin_rows(q, &r, err, sql, kinds, &ap);
    va_end(ap);
    *out = 0;
    while (rag_sql_next(&r, &st, err)) *out = rag_col_int(&r, 0);
    return st;
}

/* One-off statements, which begin a store or look at it. */
static rotor_status first_row(rag_sql *q, struct sqlite3_stmt **s, const char *sql,
                              rotor_error *err) {
    int code = sqlite3_prepare_v2(q->db, sql, -1, s, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(*s);
    if (code == SQLITE_ROW || code == SQLITE_DONE) return ROTOR_OK;
    const rotor_status st = fail(q, code, err);
    sqlite3_finalize(*s);
    return st;
}

rotor_status rag_sql_int(rag_sql *q, int64_t *out, const char *sql, rotor_error *err) {
    struct sqlite3_stmt *s = NULL;
    ROTOR_TRY(first_row(q, &s, sql, err));
    *out = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return ROTOR_OK;
}

rotor_status rag_sql_text(rag_sql *q, base_buf *out, const char *sql, rotor_error *err) {
    struct sqlite3_stmt *s = NULL;
    ROTOR_TRY(first_row(q, &s, sql, err));
    base_buf_puts(out, rag_col_text(&(rag_reply){.stmt = s}, 0));
    sqlite3_finalize(s);
    return out->failed ? base_fail_nomem(err, "using the database") : ROTOR_OK;
}

size_t rag_sql_changed(rag_sql *q) { return (size_t)sqlite3_changes64(q->db); }
int64_t rag_sql_changes(rag_sql *q) { return sqlite3_total_changes64(q->db); }

rotor_status rag_sql_copy(rag_sql *q, const char *path, rotor_error *err) {
    base_buf name = {0};
    struct sqlite3 *to = NULL;
    base_buf_printf(&name, "%s.old", path);
    if (name.failed) return base_fail_nomem(err, "copying a database");
    int code = sqlite3_open(name.data, &to);
    struct sqlite3_backup *b =
        code == SQLITE_OK ? sqlite3_backup_init(to, "main", q->db, "main") : NULL;
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

int64_t rag_col_int(const rag_reply *r, int col) { return sqlite3_column_int64(r->stmt, col); }
double rag_col_real(const rag_reply *r, int col) { return sqlite3_column_double(r->stmt, col); }

base_str rag_col_blob(const rag_reply *r, int col) {
    const char *p = sqlite3_column_blob(r->stmt, col);
    return (base_str){p, p ? (size_t)sqlite3_column_bytes(r->stmt, col) : 0};
}

const char *rag_col_text(const rag_reply *r, int col) {
    const unsigned char *p = sqlite3_column_text(r->stmt, col);
    return p ? (const char *)p : "";
}

void rag_col_copy(const rag_reply *r, int col, char *out, size_t out_bytes) {
    snprintf(out, out_bytes, "%s", rag_col_text(r, col));
}
