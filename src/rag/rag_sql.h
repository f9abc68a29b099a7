/* SPDX-License-Identifier: MIT
 *
 * rag_sql: one connection to a database, its statements compiled once. Only rag_db uses it.
 *
 * Two kinds of database stand behind it (rag_sqlite.c, rag_pg.c). Statements are written so that
 * both take them; the few that must differ are named beside one another where they stand.
 */
#ifndef RAG_SQL_H
#define RAG_SQL_H

#include "rag/rag.h"

/* A value for a question mark; bytes are borrowed. */
typedef struct rag_value {
    char kind;     /* i, d, s, t or b: see rag_sql_rows */
    int64_t whole; /* of i */
    double real;   /* of d */
    base_str text; /* of the others */
} rag_value;
enum { RAG_MAX_VALUES = 16 };

struct rag_reply;
/* One kind of database. The functions do what those of the same names below do. */
typedef struct rag_sql_kind {
    void (*close)(void *at);
    rotor_status (*run)(void *at, const char *sql, rotor_error *err);
    rotor_status (*rows)(struct rag_reply *r, const char *sql, const rag_value *v, size_t n,
                         bool many, rotor_error *err);
    bool (*next)(struct rag_reply *r, rotor_status *st, rotor_error *err);
    int64_t (*changed)(void *at);
    int64_t (*changes)(void *at);
    int64_t (*col_int)(const struct rag_reply *r, int col);
    double (*col_real)(const struct rag_reply *r, int col);
    base_str (*col_blob)(const struct rag_reply *r, int col); /* text: a 0 behind it */
} rag_sql_kind;
extern const rag_sql_kind rag_sqlite, rag_postgres;

typedef struct rag_sql {
    const rag_sql_kind *kind; /* NULL: closed */
    void *at;                 /* the connection, of that kind; owned */
} rag_sql;

void rag_sql_close(rag_sql *q);
/* Any number of statements without results and without values. */
rotor_status rag_sql_run(rag_sql *q, const char *sql, rotor_error *err);

/* Rows of an answer, one after another:
 *
 *     rag_reply r;
 *     rotor_status st = rag_sql_rows(&sql, &r, err, "SELECT …", "is", id, key);
 *     while (rag_sql_next(&r, &st, err)) st = take(rag_col_int(&r, 0));
 */
typedef struct rag_reply {
    rag_sql *sql;    /* whose */
    void *at;        /* where they come from, of the database's kind; NULL: from nowhere */
    int row, n;      /* of what is at hand: the one to look at, how many */
    int some;        /* rows to ask for at once */
    unsigned cursor; /* number of what more come from; 0: none */
    bool own;        /* and what was begun for it */
} rag_reply;

/* sql must be a string literal, whose compiled form is kept. Values for its question marks: i
 * int64_t, d double, s const char *, t const base_str * as text, b as a blob; borrowed until the
 * rows are done. The answer may be held in memory as a whole. */
rotor_status rag_sql_rows(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
                          const char *kinds, ...);
/* The same of an answer of any size, which comes piece by piece. */
rotor_status rag_sql_many(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
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

int64_t rag_col_int(const rag_reply *r, int col); /* true: 1 */
double rag_col_real(const rag_reply *r, int col);
base_str rag_col_blob(const rag_reply *r, int col);                          /* of text, too */
const char *rag_col_text(const rag_reply *r, int col);                       /* "" for none */
void rag_col_copy(const rag_reply *r, int col, char *out, size_t out_bytes); /* cut to fit */

/* ---- SQLite (rag_sqlite.c) ------------------------------------------------------------------- */

rotor_status rag_sqlite_open(rag_sql *q, const char *path, bool create, rotor_error *err);
/* First column of the first row of a statement that need not be a literal. */
rotor_status rag_sqlite_text(rag_sql *q, base_buf *out, const char *sql, rotor_error *err);
/* A copy of the whole database at path.old. */
rotor_status rag_sqlite_copy(rag_sql *q, const char *path, rotor_error *err);

/* ---- PostgreSQL (rag_pg.c) ------------------------------------------------------------------- */

/* url: postgres:// and the rest as libpq takes it; name: the same for messages. setup: run at once
 * and after every reconnection. patience: asked while the server is waited for. */
rotor_status rag_pg_open(rag_sql *q, const char *url, const char *name, const char *setup,
                         rag_patience patience, rotor_error *err);
/* Runs what may have set statement_timeout: answers are waited for a little longer than that. */
rotor_status rag_pg_limit(rag_sql *q, const char *sql, rotor_error *err);
/* Is the connection gone? Then whatever was begun is undone, and rag_pg_again makes a new one. */
bool rag_pg_is_lost(const rag_sql *q);
rotor_status rag_pg_again(rag_sql *q, rotor_error *err);
/* Is it gone because it was waited for in vain? */
bool rag_pg_gave_up(const rag_sql *q);
/* back: called when a question outside of any transaction finds the connection gone; makes a new
 * one by rag_pg_again, and the question is asked once more. NULL: the failure stays. */
typedef rotor_status (*rag_pg_back)(void *user, rotor_error *err);
void rag_pg_on_loss(rag_sql *q, rag_pg_back back, void *user);
/* The reason of the last failure as the server numbers them: five characters. */
const char *rag_pg_code(const rag_sql *q);

#endif
