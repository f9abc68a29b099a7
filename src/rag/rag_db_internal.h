/* SPDX-License-Identifier: MIT
 *
 * rag_db, inside: what its chapters share. rag_db.c opens, changes and counts; rag_db_file.c,
 * rag_db_passage.c and rag_db_vector.c hold the rows; rag_db_sqlite.c and rag_db_pg.c what is not
 * the same for a file and for a server.
 */
#ifndef RAG_DB_INTERNAL_H
#define RAG_DB_INTERNAL_H

#include "rag/rag_db.h"
#include "rag/rag_sql.h"

/* Where a database lives. */
typedef struct rag_db_host {
    /* Connects, takes the lock to write, and brings the schema up to date. */
    rotor_status (*open)(rag_db *db, bool create, bool write, rotor_error *err);
    void (*close)(rag_db *db); /* also after a failure: connection and lock */
    rotor_status (*lock)(rag_db *db, rotor_error *err); /* ROTOR_E_STATE: another has it */
    void (*unlock)(rag_db *db);
    /* Begins a change, or (look) what reads one state. */
    rotor_status (*begin)(rag_db *db, bool look, rotor_error *err);
    rotor_status (*commit)(rag_db *db, rotor_error *err);
    /* A number that differs after every commit of others. */
    rotor_status (*version)(rag_db *db, int64_t *version, rotor_error *err);
    rotor_status (*check)(rag_db *db, bool whole, rotor_error *err);
    rotor_status (*shrink)(rag_db *db, rotor_error *err);
    uint64_t (*bytes)(const rag_db *db);
} rag_db_host;
extern const rag_db_host rag_in_file, rag_on_server;

struct rag_db {
    const rag_db_host *host; /* kind of place */
    rag_sql sql;             /* connection and statements */
    char *folder;            /* of the store, or the server's address without a password, owned */
    char *path;              /* of the database, or the same, owned */
    bool writes;             /* it is the one writer */
    bool change;             /* between begin and commit */
    bool look;               /* between look and look_end */
    uint64_t n;              /* commits since it was opened */
    uint64_t back;           /* rollbacks likewise, also to a mark */
    base_map *ids;           /* numbers of terms, owned; NULL: not read yet */
    base_buf *bag;           /* [n_bag] memory of their names, owned, never moved */
    size_t n_bag;            /* blocks */
    bool rested;             /* they were those of the store when it was last let go, … */
    int64_t rested_at;       /* … as of this version of others' (rag_db_host) */

    int lock; /* a file: of rag.lock; -1: none */

    char *url;             /* a server: all that libpq is to know, owned */
    rag_patience patience; /* asked while it is waited for */
    char *setup;           /* statements at the beginning of each connection, owned */
    char schema[64];       /* that the tables are in */
    int32_t lock_id;       /* number of the lock */
    int64_t n_bumps;       /* of the counter of changes, by us */
    int64_t n_changes;     /* rows changed when the change was begun */
    bool near;             /* vec has a column of pgvector's, which the server keeps in step */
};

enum { RAG_DB_SCHEMA = 1 };
/* The schema's number as it is found; does this program know it? */
rotor_status rag_db_know(const rag_db *db, int64_t schema, rotor_error *err);
rotor_status rag_db_refuse_lock(const rag_db *db, rotor_error *err);

/* The text of passage c in document text t. */
#define RAG_DB_SLICE                                                                               \
    "substr(t.text,CAST(c.byte_begin+1 AS INTEGER),CAST(c.byte_end-c.byte_begin AS INTEGER))"

/* A column that holds a hash; zeros where it is short. */
void rag_take_hash(const rag_reply *s, int col, uint8_t hash[RAG_HASH]);
/* rag_db_passage.c: forgets the numbers of terms: after a rollback some may not exist. */
void rag_forget_terms(rag_db *db);

#endif
