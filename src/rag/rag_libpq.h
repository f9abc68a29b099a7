/* SPDX-License-Identifier: MIT
 *
 * The functions of libpq that are used, found at run time: the program starts without it. Types and
 * numbers are those of its documentation, and have not changed since PostgreSQL 9.
 */
#ifndef RAG_LIBPQ_H
#define RAG_LIBPQ_H

#include "base/base.h"

typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;

/* What PQconninfo tells of. */
typedef struct rag_pq_option {
    char *keyword, *envvar, *compiled, *val, *label, *dispchar; /* NULL keyword: the end */
    int dispsize;                                               /* of a dialog */
} rag_pq_option;

enum { CONNECTION_OK = 0, CONNECTION_BAD = 1 };
enum { PGRES_POLLING_READING = 1, PGRES_POLLING_WRITING = 2 };
enum { PGRES_COMMAND_OK = 1, PGRES_TUPLES_OK = 2 };
enum { PQTRANS_IDLE = 0, PQTRANS_UNKNOWN = 4 };

typedef struct rag_libpq {
    int (*version)(void);
    void *(*parse)(const char *url, char **why); /* NULL: no address */
    void (*parse_free)(void *parsed);
    PGconn *(*connect)(const char *const *words, const char *const *values, int expand);
    int (*connect_poll)(PGconn *c);
    rag_pq_option *(*options)(const PGconn *c);
    void (*options_free)(rag_pq_option *list);
    void (*finish)(PGconn *c);
    int (*status)(const PGconn *c);
    int (*transaction)(const PGconn *c);
    char *(*error)(const PGconn *c);
    int (*server)(const PGconn *c); /* its version */
    int (*socket)(const PGconn *c);
    int (*nonblocking)(PGconn *c, int on);
    int (*flush)(PGconn *c);   /* 1: there is more to send */
    int (*consume)(PGconn *c); /* 0: it failed */
    int (*busy)(PGconn *c);
    PGresult *(*result)(PGconn *c);
    const char *(*parameter)(const PGconn *c, const char *name);
    void *(*notices)(PGconn *c, void (*fn)(void *user, const char *text), void *user);
    int (*send)(PGconn *c, const char *sql);
    int (*send_values)(PGconn *c, const char *sql, int n, const unsigned *types,
                       const char *const *values, const int *lengths, const int *formats,
                       int format);
    int (*send_prepare)(PGconn *c, const char *name, const char *sql, int n, const unsigned *types);
    int (*send_prepared)(PGconn *c, const char *name, int n, const char *const *values,
                         const int *lengths, const int *formats, int format);
    int (*result_status)(const PGresult *r);
    char *(*field)(const PGresult *r, int code);
    char *(*changed)(PGresult *r);
    int (*rows)(const PGresult *r);
    int (*columns)(const PGresult *r);
    char *(*value)(const PGresult *r, int row, int col);
    int (*length)(const PGresult *r, int row, int col);
    void (*clear)(PGresult *r);
} rag_libpq;

/* The same every time; it is never unloaded. */
rotor_status rag_libpq_find(const rag_libpq **out, rotor_error *err);

#endif
