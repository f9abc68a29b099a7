/* SPDX-License-Identifier: MIT
 *
 * rag_index: what a search looks at, in memory: passages, postings and vectors. Derived from the
 * database and read again when that has changed.
 *
 * Passages stand in order of document and place; "slot" is a passage's number here. A posting is a
 * slot, how often the term stands in the passage, and how often in its title and headings.
 */
#ifndef RAG_INDEX_H
#define RAG_INDEX_H

#include "kern/kern.h"
#include "rag/rag_db.h"

typedef struct rag_index_doc {
    int64_t id;                      /* row */
    char *path, *key, *title, *meta; /* as in the database; owned */
    uint32_t first, n;               /* its slots */
} rag_index_doc;

typedef struct rag_index {
    size_t n_chunks, n_docs; /* live ones */
    rag_index_doc *docs;     /* [n_docs], owned */
    int64_t *chunk;          /* [n_chunks] rows, owned */
    uint32_t *doc;           /* [n_chunks] number of its document, owned */
    float *length;           /* [n_chunks] words, owned */
    double mean_length;      /* of passages */
    double mean_doc_length;  /* of documents */

    base_map *terms;       /* text to number, owned */
    char *term_text;       /* their bytes, owned */
    size_t n_terms;        /* numbers in use, gaps included */
    uint64_t *at;          /* [n_terms + 1] first posting, owned */
    uint32_t *slot;        /* postings, owned */
    uint8_t *body, *head;  /* of each, owned */
    uint32_t *n_docs_with; /* [n_terms] documents that have it, owned */

    int64_t model;    /* row of the model its vectors are of; 0: none */
    size_t dims, ld;  /* floats of a vector; bytes of a row */
    int8_t *high;     /* [n_chunks][ld] of the vectors, owned; NULL: none */
    int8_t *low;      /* the same of what is left, owned */
    float *scale;     /* [n_chunks] 0: this one has no vector; owned */
    size_t n_vectors; /* that are there */
} rag_index;

/* Packs counts of one term behind the last; ids rise. */
rotor_status rag_pack_term(base_buf *out, uint32_t id_delta, uint32_t body, uint32_t head);

rotor_status rag_index_load(rag_index *x, rag_db *db, rotor_error *err);
void rag_index_free(rag_index *x);

/* ---- One leg's answer ------------------------------------------------------------------------ */

/* A passage or document and its score. */
typedef struct rag_rank {
    uint32_t unit; /* slot, or number of a document */
    float score;   /* of the leg */
} rag_rank;
/* Higher scores first, then lower numbers. */
bool rag_rank_before(rag_rank a, rag_rank b);
/* Keeps the best `most` in heap[*n], worst on top; rag_rank_sort puts them in order. */
void rag_rank_push(rag_rank *heap, size_t *n, size_t most, rag_rank r);
void rag_rank_sort(rag_rank *heap, size_t n);

/* ---- Words (rag_lex.c) ----------------------------------------------------------------------- */

enum { RAG_MAX_QUERY_TERMS = 256 };

typedef struct rag_lex_term {
    uint32_t id;  /* number; UINT32_MAX: in no document */
    float count;  /* in the query */
    float idf;    /* weight */
    float gate;   /* the same as if there were a thousand passages at least; 0: "tell" */
    bool without; /* -word: passages with it are left out */
} rag_lex_term;

typedef struct rag_lex_query {
    rag_lex_term terms[RAG_MAX_QUERY_TERMS]; /* each once */
    size_t n;                                /* how many */
    bool has_code;                           /* a word of letters and digits, or a compound */
} rag_lex_query;

/* whole: documents are the units, not passages. */
rotor_status rag_lex_parse(rag_lex_query *q, const rag_index *x, base_str text, bool whole);
/* The best `most` units of allowed[unit] (NULL: all), best first. acc: [units] zeros before and
 * after; touched: room for as many. */
void rag_lex_rank(const rag_index *x, const rag_lex_query *q, bool whole, const uint8_t *allowed,
                  float *acc, uint32_t *touched, rag_rank *out, size_t *n, size_t most);
/* Of one unit, whatever its rank. */
float rag_lex_score(const rag_index *x, const rag_lex_query *q, bool whole, uint32_t unit);
/* Does a -word stand in this unit? */
bool rag_lex_leaves_out(const rag_index *x, const rag_lex_query *q, bool whole, uint32_t unit);
/* The part of the query's weight that stands in this passage. */
float rag_lex_coverage(const rag_index *x, const rag_lex_query *q, uint32_t slot);
/* How well this passage answers to the query's words, whatever their number: see rag_gate.c. */
float rag_lex_match(const rag_index *x, const rag_lex_query *q, uint32_t slot);

/* ---- Vectors (rag_vec.c) --------------------------------------------------------------------- */

/* x is about scale * (high + low / 254), each within +-127; false: x has no finite length. */
bool rag_vec_pack(int8_t *high, int8_t *low, float *scale, const float *x, size_t dims, size_t ld);

typedef struct rag_vec_query {
    const float *x; /* [dims] of length one */
    int8_t *high;   /* [ld] aligned */
    float scale;    /* of high */
    int32_t *sums;  /* [RAG_VEC_BLOCK] */
} rag_vec_query;
enum { RAG_VEC_BLOCK = 1024 };

/* The best `most` passages by cosine, best first; the first of them re-scored exactly. */
void rag_vec_rank(const rag_index *x, const kern *k, const rag_vec_query *q, const uint8_t *allowed,
                  rag_rank *out, size_t *n, size_t most);
float rag_vec_cosine(const rag_index *x, const float *query, uint32_t slot);
/* Of two passages, from their bytes. */
float rag_vec_between(const rag_index *x, const kern *k, uint32_t a, uint32_t b);

#endif
