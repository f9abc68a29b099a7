/* SPDX-License-Identifier: MIT
 *
 * rag, inside: what a store holds while it is open, and the parts of adding and searching.
 */
#ifndef RAG_INTERNAL_H
#define RAG_INTERNAL_H

#include "rag/rag.h"
#include "rag/rag_chunk.h"
#include "rag/rag_db.h"
#include "rag/rag_index.h"

struct rag {
    rag_db *db;            /* owned */
    char *folder;          /* of the store, owned */
    char *place;           /* the same without links, owned */
    rag_embedder embedder; /* embed NULL: none */
    base_log log;          /* lines for the user */
    char *extract;         /* path of rotor-extract, owned; NULL: none */
    kern k;                /* kernels */
    rag_index x;           /* what searches use */
    int64_t version;       /* of the database when x was read */
    bool loaded;           /* x is there */
    bool loose;            /* x is of a change that may be taken back: not to be followed on */
    float *acc;            /* [units] zeros, owned; units: passages or documents, the larger */
    uint32_t *touched;     /* [units] owned */
    float *near;           /* [n_chunks] of rag_vec_query, owned; NULL: the index has no screen */
    bool asked;            /* a question before: all vectors are to be in memory from now on */
    bool told;             /* the user knows that vectors do not fit the model */
};

/* rag.c: x is as new as the database. */
rotor_status rag_sync(rag *r, rotor_error *err);
/* The same before a question; of the first one x may have few vectors (rag_near.c). */
rotor_status rag_sync_to_ask(rag *r, rotor_error *err);
/* rag.c: acc, touched and near for x. */
rotor_status rag_make_room(rag *r, rotor_error *err);

/* ---- Reading files (rag_read.c) -------------------------------------------------------------- */

typedef enum rag_reader { RAG_READ_TEXT, RAG_READ_CORPUS, RAG_READ_EXTRACT } rag_reader;
/* By its name; *form where it is text. */
rag_reader rag_reader_of(const char *path, rag_form *form);
/* The file's bytes. ROTOR_E_UNSUPPORTED: too large or binary; ROTOR_E_STATE: it keeps changing. */
rotor_status rag_read_bytes(const char *path, rag_reader reader, base_node *node, base_buf *out,
                            rotor_error *err);
/* Bytes of a text file become UTF-8: a byte order mark goes, UTF-16 and Latin-1 are converted.
 * ROTOR_E_UNSUPPORTED: they are no text. */
rotor_status rag_to_utf8(base_buf *bytes, const char *path, rotor_error *err);

typedef struct rag_corpus_line {
    char *key, *title, *text, *meta; /* owned; meta: the other fields as a JSON object, or "" */
    size_t n_text;                   /* bytes of text */
} rag_corpus_line;
/* One line of a corpus. ROTOR_E_FORMAT: it is none. */
rotor_status rag_read_line(base_str line, rag_corpus_line *out, rotor_error *err);
void rag_corpus_line_free(rag_corpus_line *l);

/* ---- Documents by rotor-extract (rag_extract.c) ---------------------------------------------- */

typedef struct rag_extracted {
    const char *key, *title, *meta; /* "" or "#2" for the second …; JSON object or "" */
    base_str text;                  /* its blocks, one below the other */
    const rag_blocks *blocks;       /* of text */
} rag_extracted;
typedef rotor_status (*rag_extracted_fn)(void *user, const rag_extracted *d);
/* Calls put for each document in a file. ROTOR_E_UNSUPPORTED: it is none that is read;
 * ROTOR_E_NOTFOUND: what would read it is not there. */
rotor_status rag_extract(rag *r, const char *path, rag_extracted_fn put, void *user,
                         rotor_error *err);

/* ---- Finding files (rag_scan.c) -------------------------------------------------------------- */

/* Calls fn for every file under path, in order of name; links below it are not followed. */
rotor_status rag_scan(const rag *r, const char *path, const rag_add_options *opt,
                      rotor_status (*fn)(void *user, const char *path), void *user,
                      rotor_error *err);

/* Does the folder's owner want this path in a store? root lies above it. */
bool rag_scan_wants(const rag *r, const char *root, const char *path, const rag_add_options *opt);
/* Does a .rotorignore from root down leave it out? *ruled false: there is none on the way. */
bool rag_scan_ignored(const char *root, const char *path, bool *ruled);
/* rag_scan for a path below root, under the rules of the folders between. */
rotor_status rag_scan_below(const rag *r, const char *root, const char *path,
                            const rag_add_options *opt,
                            rotor_status (*fn)(void *user, const char *path), void *user,
                            rotor_error *err);

/* rag_ignore.c: the rules of one folder, before those of the folders above it. */
#define RAG_IGNORE_NAME ".rotorignore"
typedef struct rag_ignore {
    const struct rag_ignore *above; /* of the folder above; NULL: there is none */
    const char *folder;             /* borrowed */
    char *text;                     /* of the file, owned; NULL: there is none */
    bool unread;                    /* there is one, and what it says is not known */
} rag_ignore;
/* Rules that cannot be read whole are no failure: whoever walks leaves the folder out. */
rotor_status rag_ignore_read(rag_ignore *own, const rag_ignore *above, const char *folder,
                             rotor_error *err);
void rag_ignore_free(rag_ignore *own);
bool rag_ignores(const rag_ignore *own, const char *path, bool folder);
size_t rag_path_length(const char *folder); /* with the '/' behind it */

/* ---- Globs that are remembered (rag_globs.c) ------------------------------------------------- */

/* Those of o, as rag_db_put_root takes them, behind what is in out. */
rotor_status rag_globs_put(base_buf *out, const rag_add_options *o);
/* first[*n], then those of the text that have this sign and are not among them: [*n], new, words
 * borrowed. NULL: no memory. They are words once both lists are made and the text is cut. */
const char **rag_globs_of(const char *text, char sign, const char *const *first, size_t *n);
void rag_globs_cut(char *text);

/* ---- Files that are gone (rag_gone.c) -------------------------------------------------------- */

typedef struct rag_row {
    int64_t id;             /* of a file */
    char *path;             /* owned */
    uint8_t hash[RAG_HASH]; /* of its bytes */
    bool ok;                /* it was read, and is not taken up again */
} rag_row;
typedef struct rag_rows {
    rag_row *list; /* [n] owned */
    size_t n, cap; /* in use; allocated */
} rag_rows;
void rag_rows_free(rag_rows *rows);
bool rag_is_under(const char *path, const char *root);
/* All whose files are not there. */
rotor_status rag_find_gone(rag *r, rag_rows *rows, rotor_error *err);
/* Drops those below root, and those a .rotorignore leaves out; unless that is too much at once.
 * Adds to *n. */
rotor_status rag_drop_gone(rag *r, const char *root, const rag_add_options *opt, size_t *n,
                           rotor_error *err);

/* ---- Parts of a run (rag_add.c) -------------------------------------------------------------- */

/* Files and folders below root (paths NULL: everything) into the store, by words alone; look: for
 * files that are gone. err is not NULL, here and below. */
rotor_status rag_add_some(rag *r, const char *root, const char *const *paths, size_t n, bool look,
                          const rag_add_options *opt, rag_report *report, rotor_error *err);

/* ROTOR_E_ARG: not rag_is_id. */
rotor_status rag_refuse_id(rotor_error *err);
/* Vectors for all that have none, by the embedder if there is one; report->n_vectors grows. */
rotor_status rag_embed_all(rag *r, rag_report *report, rotor_error *err);

/* ---- Documents (rag_document.c) -------------------------------------------------------------- */

/* One document on its way into the store. */
typedef struct rag_document {
    rag_db_doc row;           /* all but id and hash */
    base_str text;            /* UTF-8 */
    const rag_blocks *blocks; /* of it */
    bool own_lines;           /* its lines are the file's lines; else all are row.line */
    bool is_cut;              /* into these passages, and row.hash is known: blocks are not used */
    const rag_passage *passages; /* [n_passages] in order */
    size_t n_passages;           /* how many */
} rag_document;
/* Puts it in place of the one of that file and key, unless nothing has changed. */
rotor_status rag_put_document(rag *r, rag_document *d, int64_t run, rag_report *report,
                              rotor_error *err);

/* ---- Searching (rag_search.c) ---------------------------------------------------------------- */

/* A passage, or a document, that a leg has found. */
typedef struct rag_candidate {
    uint32_t unit;               /* slot or number of a document */
    uint32_t slot;               /* its best passage */
    uint32_t store;              /* of those that are searched */
    uint32_t group;              /* the first store whose vectors are of the same model */
    float lex, cosine, score;    /* of the legs, fused */
    float best;                  /* cosine of any candidate of its model */
    uint32_t rank_lex, rank_vec; /* from 1; 0: not among the first of that leg */
    bool reranked;               /* rerank is said, and score is not the fused one */
    float rerank, fused;         /* the reranker's judgement; the score before */
} rag_candidate;

enum { RAG_LEG = 100, RAG_MAX_CANDIDATES = 2 * RAG_LEG };
enum { RAG_NO_GROUP = UINT16_MAX }; /* of a store without vectors */

/* What one search asks of one store, in the legs' own terms. */
typedef struct rag_asked {
    rag_lex_query lex;                          /* words */
    rag_vec_query vec;                          /* meaning; x NULL: no vector leg */
    uint32_t group;                             /* as in rag_candidate */
    bool whole;                                 /* documents, not passages */
    rag_mode mode;                              /* legs */
    rag_fusion fusion;                          /* how joined */
    const uint8_t *allowed;                     /* [n_chunks] or NULL */
    uint64_t embed_us, lex_us, vec_us, fuse_us; /* what it took */
} rag_asked;
/* q[n], one for each store; modes and whole are set, and equal. *degraded: vectors were wanted, and
 * one of the stores has none, or not of its model. */
rotor_status rag_ask_prepare(rag *const *stores, size_t n, base_str text, rag_asked *q,
                             bool *degraded, rotor_error *err);
void rag_ask_free(rag_asked *q);
/* Best first; out has room for RAG_MAX_CANDIDATES. Times of all stores are q[0]'s. */
rotor_status rag_candidates(rag *const *stores, size_t n, rag_asked *q, rag_candidate *out,
                            size_t *n_out, rotor_error *err);
bool rag_leaves_something_out(const rag_asked *q); /* by -word */
/* What a search would say of the question as a whole, without its hits; rag_sync was called. */
rotor_status rag_judge(rag *r, base_str text, rag_mode mode, rag_hits *out, rotor_error *err);

/* One state of each store until the end, which is due also after a failure; indexes in step. */
rotor_status rag_look_all(rag *const *stores, size_t n, rotor_error *err);
void rag_look_end_all(rag *const *stores, size_t n);
/* rag_search_all inside such a look: the hits' numbers of passages hold until it ends. */
rotor_status rag_search_here(rag *const *stores, size_t n, base_str query, const rag_query *opt,
                             rag_hits *out, rotor_error *err);

/* rag_phrase.c: "these words" of a query, or -"these words". */
typedef struct rag_phrase {
    size_t begin, end; /* bytes of the query, with its marks */
    base_str words;    /* between them */
    bool without;      /* they are not to be there */
} rag_phrase;
/* The next one from byte `from` on; false: there is none. */
bool rag_next_phrase(base_str query, size_t from, rag_phrase *out);
/* Of *allowed (new where it is NULL) only the passages that every phrase of the query leaves. */
rotor_status rag_keep_phrases(rag *r, base_str query, uint8_t **allowed, rotor_error *err);

/* What a search does between its question and its texts: passages, or stretches of neighbours. */
typedef struct rag_chosen {
    rag_candidate c;      /* the passage */
    uint32_t first, last; /* slots it was joined to */
} rag_chosen;
/* q[n_stores] are prepared; list has room for RAG_MAX_CANDIDATES; out, zeros at first, gets all but
 * its hits. */
rotor_status rag_choose(rag *const *stores, size_t n_stores, rag_asked *q, const rag_query *opt,
                        rag_hits *out, rag_chosen *list, size_t *n, rotor_error *err);

/* rag_near.c: of an index that has few vectors, those that a question's vector leg may look at. */
rotor_status rag_near_ask(rag *r, const rag_asked *q, rotor_error *err);
/* Those of candidates[n]; and all. */
rotor_status rag_near_fill(rag *r, const rag_candidate *c, size_t n, rotor_error *err);
rotor_status rag_near_rest(rag *r, rotor_error *err);

/* rag_rerank.c: orders c[n] anew by the query's reranker, if it has one. */
void rag_rerank(rag *const *stores, const rag_query *opt, rag_candidate *c, size_t n,
                rag_hits *out);

/* rag_filter.c: which passages the conditions leave; new array of n_chunks, or NULL for all. */
rotor_status rag_filter(const rag_index *x, const char *const *filter, size_t n, uint8_t **out,
                        rotor_error *err);

/* ---- Asking -----------------------------------------------------------------------------------
 */

bool rag_is_one_of(const char *word, const char *const *list, size_t n);
/* Words of a text that say something. */
size_t rag_content_words(base_str text);
/* rag_quote.c: one source as the model sees it, header and text, behind what is in out. */
void rag_quote(base_buf *out, size_t number, const rag_hit *h);
/* Whether a text looks as if it gave orders to a model. */
bool rag_gives_orders(base_str text);
/* Fills rules and turn from the sources. */
rotor_status rag_write_turn(rag_context *c, base_str question, rotor_error *err);

#endif
