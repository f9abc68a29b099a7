/* SPDX-License-Identifier: MIT
 *
 * rag_sql: one SQLite connection with its statements compiled once. Only rag_db.c uses it.
 */
#ifndef RAG_SQL_H
#define RAG_SQL_H

#include "base/base.h"

typedef struct sqlite3_stmt rag_stmt;

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
/* The compiled form of sql, which must be a string literal; ready to be bound. */
rotor_status rag_sql_get(rag_sql *q, rag_stmt **out, const char *sql, rotor_error *err);
/* Values for its question marks: i int64_t, d double, s const char *, t const base_str * as text, b
 * as a blob; borrowed until the statement is done. */
rotor_status rag_sql_bind(rag_sql *q, rag_stmt *s, rotor_error *err, const char *kinds, ...);
/* The next row; none left: the statement is done. */
rotor_status rag_sql_step(rag_sql *q, rag_stmt *s, bool *row, rotor_error *err);
/* Steps on until it is done. */
rotor_status rag_sql_end(rag_sql *q, rag_stmt *s, rotor_error *err);
void rag_sql_reset(rag_stmt *s);
/* get, bind and end in one. */
rotor_status rag_sql_do(rag_sql *q, rotor_error *err, const char *sql, const char *kinds, ...);
size_t rag_sql_changed(rag_sql *q);  /* rows the last statement changed */
int64_t rag_sql_changes(rag_sql *q); /* rows changed since opening */
/* A copy of the whole database at path.old. */
rotor_status rag_sql_copy(rag_sql *q, const char *path, rotor_error *err);

int64_t rag_col_int(const rag_stmt *s, int col);
double rag_col_real(const rag_stmt *s, int col);
base_str rag_col_blob(const rag_stmt *s, int col);                          /* of text, too */
const char *rag_col_text(const rag_stmt *s, int col);                       /* "" for none */
void rag_col_copy(const rag_stmt *s, int col, char *out, size_t out_bytes); /* cut to fit */

#endif
