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
    char **term_text;      /* [n_term_text] their bytes, owned; each block may be NULL */
    size_t n_term_text;    /* blocks: one of the first reading, one of each later one */
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
    bool few;         /* rows of the planes are read as questions need them (rag_near.c) */
    /* rag_screen.c; NULL below RAG_SCREEN_FROM passages */
    uint8_t *coarse;     /* [n_chunks][ld / 4] two bits a column of the turned high plane, owned */
    float *coarse_scale; /* [n_chunks] of their sums; 0: no vector; below 0: they say nothing */
    int8_t *signs;       /* [2 * ld] of the turn, owned */
} rag_index;

/* Packs counts of one term behind the last; ids rise. */
rotor_status rag_pack_term(base_buf *out, uint32_t id_delta, uint32_t body, uint32_t head);

rotor_status rag_index_load(rag_index *x, rag_db *db, rotor_error *err);
/* The same for one question: where the database itself finds near vectors, and there are many, x
 * has few, and none of them is read yet. */
rotor_status rag_index_load_few(rag_index *x, rag_db *db, rotor_error *err);
void rag_index_free(rag_index *x);

/* ---- Filling one by hand (rag_index.c) ------------------------------------------------------- */

typedef struct rag_loader {
    rag_index *x;                           /* being filled, zeros at first */
    rotor_error *err;                       /* where messages go */
    size_t cap_docs, cap_chunks, cap_terms; /* allocated */
    base_buf packed;                        /* terms of passages */
    uint64_t *packed_at;                    /* [n_packed + 1] where each one's begin */
    size_t n_packed, cap_packed;            /* passages in it; allocated */
    uint32_t *packed_slot;                  /* [n_packed] whose they are, rising */
    base_buf names;                         /* bytes of terms */
    uint64_t *name_at; /* [n_terms + 1] where each name begins; equal to the next: no such number */
    size_t first_term; /* the least number whose name is in names */
    size_t n_named;    /* terms so far */
    size_t next;       /* vectors: slot to look at */
} rag_loader;
void rag_loader_free(rag_loader *l); /* all but the index */

/* In this order: documents and terms by rising number, passages in order of document and place,
 * rag_load_words, vectors in order of passage. user: the loader. */
rotor_status rag_load_doc(void *user, const rag_db_doc *d, const char *path);
rotor_status rag_load_term(void *user, uint32_t id, base_str t);
rotor_status rag_load_chunk(void *user, const rag_db_chunk *c);
rotor_status rag_load_words(rag_loader *l); /* postings, means, names */
rotor_status rag_load_vector(void *user, int64_t chunk, float scale, base_str high, base_str low);
/* The parts of rag_load_words, of which rag_follow.c has its own mixture. */
rotor_status rag_load_place(rag_loader *l, const rag_db_chunk *c); /* no length, no words */
rotor_status rag_load_packed(rag_loader *l, uint32_t slot, base_str terms);
rotor_status rag_load_postings(rag_loader *l);
rotor_status rag_load_names(rag_loader *l);
void rag_index_count(rag_index *x); /* means, and documents with each term */
rotor_status rag_index_matrix(rag_index *x, size_t dims, rotor_error *err);
void rag_index_drop_matrix(rag_index *x);
bool rag_index_put_vector(rag_index *x, size_t slot, float scale, base_str high, base_str low);

/* ---- Following the database (rag_follow.c) --------------------------------------------------- */

/* The index as rag_index_load would make it now, from one of an earlier committed state and from
 * what has changed since. *done false: too much has, and x is as it was: load it anew, as after an
 * error. */
rotor_status rag_index_follow(rag_index *x, rag_db *db, bool *done, rotor_error *err);

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
    size_t n_chunks;                         /* passages of all that is searched */
    float mean, mean_doc;                    /* words of one of them, of a document */
} rag_lex_query;

/* A text as each of n stores that are searched together understands it: q[i] are x[i]'s numbers,
 * weighed by how many passages of all of them have a word, so that scores of one store can be held
 * against those of another: they are those of one store with all the documents. whole: documents
 * are the units, not passages. */
rotor_status rag_lex_parse(rag_lex_query *const *q, const rag_index *const *x, size_t n,
                           base_str text, bool whole);
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
    float *x;        /* [dims] of length one, owned */
    int8_t *high;    /* [ld] aligned, owned */
    float scale;     /* of high */
    int32_t *sums;   /* [RAG_VEC_BLOCK] owned */
    int8_t *turned;  /* [ld] high, turned, aligned, owned; NULL: the index has no screen */
    float step;      /* of turned */
    int32_t total;   /* sum of turned */
    float *near;     /* [n_chunks] room for what the screen says, borrowed */
    size_t n_scored; /* rows of bytes that were read */
} rag_vec_query;
enum { RAG_VEC_BLOCK = 1024 };

/* Room for a question; x is to be filled, then rag_vec_query_pack. False: no memory. */
bool rag_vec_query_make(rag_vec_query *q, const rag_index *x);
bool rag_vec_query_pack(rag_vec_query *q, const rag_index *x); /* false: no finite length */
void rag_vec_query_free(rag_vec_query *q);

/* The best `most` passages by cosine of bytes, re-scored exactly, best first. */
void rag_vec_rank(const rag_index *x, const kern *k, rag_vec_query *q, const uint8_t *allowed,
                  rag_rank *out, size_t *n, size_t most);
float rag_vec_cosine(const rag_index *x, const float *query, uint32_t slot);
/* Of a passage of x and one of y, whose vectors are one model's, from their bytes. */
float rag_vec_between(const kern *k, const rag_index *x, uint32_t a, const rag_index *y,
                      uint32_t b);

/* ---- The screen in front of them (rag_screen.c) ---------------------------------------------- */

enum { RAG_SCREEN_FROM = 16384 }; /* passages; the bytes of fewer lie in a processor's cache */
extern size_t rag_screen_from;    /* the same, for tests to set before anything is loaded */

void rag_screen_signs(int8_t *signs, size_t ld);
/* Codes [ld / 4] of a row and what their sums are multiplied by. */
void rag_screen_pack(uint8_t *codes, float *factor, const int8_t *high, float scale,
                     const int8_t *signs, size_t ld);
/* The same turn of a question, in bytes. */
void rag_screen_turn(rag_vec_query *q, const int8_t *signs, size_t ld);
/* Cosines are at most this much above what the screen says of them. */
float rag_screen_margin(const rag_vec_query *q, size_t ld);

#endif
