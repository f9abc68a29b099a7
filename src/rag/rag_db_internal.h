/* SPDX-License-Identifier: MIT
 *
 * rag_db, inside: what its chapters share. rag_db.c opens, changes and counts; rag_db_file.c,
 * rag_db_passage.c and rag_db_vector.c hold the rows.
 */
#ifndef RAG_DB_INTERNAL_H
#define RAG_DB_INTERNAL_H

#include "rag/rag_db.h"
#include "rag/rag_sql.h"

struct rag_db {
    rag_sql sql;   /* connection and statements */
    char *folder;  /* of the store, owned */
    char *path;    /* of the database, owned */
    int lock;      /* -1: a reader */
    bool change;   /* between begin and commit */
    uint64_t n;    /* commits since it was opened */
    uint64_t back; /* rollbacks likewise, also to a mark */
    bool look;     /* between look and look_end */
    base_map *ids; /* numbers of terms, owned; NULL: not read yet */
    base_buf *bag; /* [n_bag] memory of their names, owned, never moved */
    size_t n_bag;  /* blocks */
};

/* A column that holds a hash; zeros where it is short. */
void rag_take_hash(const rag_reply *s, int col, uint8_t hash[RAG_HASH]);
/* rag_db_passage.c: forgets the numbers of terms: after a rollback some may not exist. */
void rag_forget_terms(rag_db *db);

#endif
