/* SPDX-License-Identifier: MIT
 *
 * rag_sql: one SQLite connection with its statements compiled once. Only rag_db uses it.
 */
#ifndef RAG_SQL_H
#define RAG_SQL_H

#include "base/base.h"

typedef struct rag_sql {
    struct sqlite3 *db;         /* connection; NULL: closed */
    char *path;                 /* for messages, owned */
    const char **text;          /* [n] the statements, by address; owned array */
    struct sqlite3_stmt **stmt; /* [n] compiled; owned array */
    size_t n;                   /* how many */
} rag_sql;

rotor_status rag_sql_open(rag_sql *q, const char *path, bool create, rotor_error *err);
void rag_sql_close(rag_sql *q);
/* Any number of statements without results. */
rotor_status rag_sql_run(rag_sql *q, const char *sql, rotor_error *err);
/* First column of the first row. */
rotor_status rag_sql_int(rag_sql *q, int64_t *out, const char *sql, rotor_error *err);
rotor_status rag_sql_text(rag_sql *q, base_buf *out, const char *sql, rotor_error *err);

/* Rows of an answer, one after another:
 *
 *     rag_reply r;
 *     rotor_status st = rag_sql_rows(&sql, &r, err, "SELECT …", "is", id, key);
 *     while (rag_sql_next(&r, &st, err)) st = take(rag_col_int(&r, 0));
 */
typedef struct rag_reply {
    rag_sql *sql;              /* whose */
    struct sqlite3_stmt *stmt; /* compiled; its own row is the one to look at; NULL: none */
} rag_reply;

/* sql must be a string literal, whose compiled form is kept. Values for its question marks: i
 * int64_t, d double, s const char *, t const base_str * as text, b as a blob; borrowed until the
 * rows are done. */
rotor_status rag_sql_rows(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
                          const char *kinds, ...);
/* The next row. False: there are no more, or *st is no longer ROTOR_OK, which whoever takes a row
 * may set too; the rows are done then. To be called until it says so. */
bool rag_sql_next(rag_reply *r, rotor_status *st, rotor_error *err);
/* A statement whose rows are of no interest. */
rotor_status rag_sql_do(rag_sql *q, rotor_error *err, const char *sql, const char *kinds, ...);
/* The first column of a statement with one row; 0: it had none. */
rotor_status rag_sql_number(rag_sql *q, int64_t *out, rotor_error *err, const char *sql,
                            const char *kinds, ...);
size_t rag_sql_changed(rag_sql *q);  /* rows the last statement changed */
int64_t rag_sql_changes(rag_sql *q); /* rows changed since opening */
/* A copy of the whole database at path.old. */
rotor_status rag_sql_copy(rag_sql *q, const char *path, rotor_error *err);

int64_t rag_col_int(const rag_reply *r, int col);
double rag_col_real(const rag_reply *r, int col);
base_str rag_col_blob(const rag_reply *r, int col);                          /* of text, too */
const char *rag_col_text(const rag_reply *r, int col);                       /* "" for none */
void rag_col_copy(const rag_reply *r, int col, char *out, size_t out_bytes); /* cut to fit */

#endif
