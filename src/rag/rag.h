/* SPDX-License-Identifier: MIT
 *
 * rag: knowledge stores. Files in, passages out.
 *
 * A store is a folder with one database (rag_db.h), which is the single truth: documents, their
 * text, chunks, terms and vectors. A document is visible either wholly in its old version or wholly
 * in its new one. What searches use lies in memory (rag_index.h), is derived from the database and
 * is read again when that has changed.
 *
 * Vectors come through a callback; keyword search needs none. Threading: one thread at a time per
 * store; several programs may read one, one of them may write.
 */
#ifndef RAG_H
#define RAG_H

#include "base/base.h"

typedef struct rag rag;

enum { RAG_HASH = 32 }; /* bytes of a SHA-256 */

/* What makes vectors. Borrowed until the store is closed. */
typedef struct rag_embedder {
    const char *name;              /* of the model, for messages */
    const char *path;              /* where it lies, or "embedded" */
    uint8_t fingerprint[RAG_HASH]; /* equal exactly for models that give equal vectors */
    size_t dims;                   /* floats of a vector */
    /* out[n][dims], each of length one. Texts are never empty; long ones may be cut. */
    rotor_status (*embed)(void *user, const base_str *texts, size_t n, float *out,
                          rotor_error *err);
    void *user; /* of embed */
} rag_embedder;

typedef struct rag_options {
    bool create;                  /* make what is not there */
    bool write;                   /* be the one writer */
    unsigned cpu;                 /* CPU_* flags the kernels may use */
    const rag_embedder *embedder; /* NULL: keywords only */
    const char *extract;          /* path of rotor-extract; NULL: text only */
    base_log log;                 /* a line for each thing that is left out */
} rag_options;

rotor_status rag_open(rag **out, const char *folder, const rag_options *opt, rotor_error *err);
void rag_close(rag **r); /* NULL is fine */

typedef struct rag_facts {
    size_t n_files, n_docs, n_chunks, n_vectors, n_failed; /* rows; files that could not be read */
    char model[256];                                       /* name of the model; "": none yet */
    char model_path[1024];                                 /* where it was */
    size_t dims;                                           /* floats of its vectors */
    bool has_model;                                        /* vectors belong to a model */
    uint64_t db_bytes;                                     /* of the database */
} rag_facts;
rotor_status rag_get_facts(rag *r, rag_facts *facts, rotor_error *err);

/* ---- Adding and removing --------------------------------------------------------------------- */

typedef struct rag_add_options {
    const char *const *include; /* [n_include] globs: only these files, and even if hidden */
    size_t n_include;           /* how many */
    const char *const *exclude; /* [n_exclude] globs: not these */
    size_t n_exclude;           /* how many */
    bool confirm_deletes;       /* drop documents whose files are gone however many they are */
    /* Called with work done and left; false stops after what is committed. NULL: never. */
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *user; /* of progress */
} rag_add_options;

typedef struct rag_report {
    size_t n_seen, n_unchanged, n_indexed, n_skipped, n_failed, n_gone; /* files */
    size_t n_docs, n_chunks, n_vectors;                                 /* written */
} rag_report;

/* Files and folders; a file ending in .jsonl is a corpus with a document a line. What cannot be
 * read is named in the log and in rag_report.n_failed, the rest is indexed. */
rotor_status rag_add(rag *r, const char *const *paths, size_t n_paths, const rag_add_options *opt,
                     rag_report *report, rotor_error *err);
/* Files by path (a folder: all under it), corpus documents by id. ROTOR_E_NOTFOUND: none is there.
 */
rotor_status rag_remove(rag *r, const char *const *what, size_t n, size_t *n_removed,
                        rotor_error *err);
rotor_status rag_remove_all(rag *r, size_t *n_removed, rotor_error *err);
/* Vectors of the embedder in place of those of another model; resumes what was interrupted. */
rotor_status rag_reembed(rag *r, const rag_add_options *opt, rag_report *report, rotor_error *err);
/* The whole database against itself. ROTOR_E_FORMAT: it is damaged, and where. */
rotor_status rag_verify(rag *r, rotor_error *err);

/* One file of the store. */
typedef struct rag_file {
    const char *path, *status, *message; /* "ok", "skipped", "error" …; why; borrowed */
    size_t n_docs, n_chunks;             /* in it */
    uint64_t size;                       /* bytes, as last seen */
} rag_file;
rotor_status rag_list(rag *r, bool (*fn)(void *user, const rag_file *f), void *user,
                      rotor_error *err);

/* ---- Searching ------------------------------------------------------------------------------- */

typedef enum rag_mode { RAG_HYBRID, RAG_LEXICAL, RAG_VECTOR } rag_mode;
typedef enum rag_fusion { RAG_CONVEX, RAG_RRF } rag_fusion;

typedef struct rag_query {
    rag_mode mode;             /* which legs */
    rag_fusion fusion;         /* how they are joined */
    size_t k;                  /* hits wanted */
    const char *const *filter; /* [n_filter] "path=GLOB", "id=…", "title=GLOB", "name=value" */
    size_t n_filter;           /* how many; all must hold */
    bool plain;                /* best first: nothing left out as a repetition, nothing joined */
} rag_query;

typedef struct rag_hit {
    int64_t chunk;               /* id in the database */
    char *path, *id, *title;     /* file; id in a corpus or ""; owned by the list, like the rest */
    char *heading, *text;        /* headings above, " › " between; the passage */
    uint64_t begin, end;         /* bytes of the document's text */
    uint32_t line, last_line;    /* of the file, from 1 */
    uint32_t page, last_page;    /* from 1; 0: no pages */
    float score;                 /* fused, 0 to 1 */
    float bm25, cosine;          /* of each leg */
    uint32_t rank_lex, rank_vec; /* in each leg, from 1; 0: not among its first */
} rag_hit;

typedef struct rag_hits {
    rag_hit *hits;     /* [n], best first, owned */
    size_t n;          /* how many */
    float best_cosine; /* of all chunks; 0 without vectors */
    float coverage;    /* share of the query's weight of words that the best chunk has */
    bool lexical_only; /* vectors were wanted and there are none */
    uint64_t embed_us, lex_us, vec_us, fuse_us; /* what it took */
} rag_hits;
rotor_status rag_search(rag *r, base_str query, const rag_query *opt, rag_hits *out,
                        rotor_error *err);
void rag_hits_free(rag_hits *h);

/* ---- Judging --------------------------------------------------------------------------------- */

typedef struct rag_eval_options {
    const char *queries, *qrels; /* .jsonl with _id and text; .tsv of query, document, grade */
    const char *run;             /* TREC file to write, or NULL */
    rag_mode mode;               /* legs */
    rag_fusion fusion;           /* how joined */
    bool chunked;                /* a document scores as its best chunk, not as a whole */
} rag_eval_options;

typedef struct rag_scores {
    double ndcg10, recall100, mrr10, map100; /* means over judged queries */
    size_t n_queries;                        /* with a positive judgement */
    uint64_t query_us, lex_us, vec_us;       /* median time of one, without embedding it; legs */
    uint64_t worst_us;                       /* 95th percentile */
} rag_scores;
rotor_status rag_eval(rag *r, const rag_eval_options *opt, rag_scores *out, rotor_error *err);

#endif
