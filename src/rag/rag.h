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

enum { RAG_HASH = 32, RAG_MAX_RERANK = 200 }; /* bytes of a SHA-256; passages a search has judged */

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

/* Whether a server that does not answer is to be waited for still: asked several times a second.
 * After a no, the call that waits fails with ROTOR_E_CANCELLED. */
typedef struct rag_patience {
    bool (*go_on)(void *user); /* NULL: it is; it must not use this store */
    void *user;                /* of go_on */
} rag_patience;

typedef struct rag_options {
    bool create;                  /* make what is not there */
    bool write;                   /* be the one writer */
    unsigned cpu;                 /* CPU_* flags the kernels may use */
    const rag_embedder *embedder; /* NULL: keywords only */
    const char *extract;          /* path of rotor-extract; NULL: text only */
    base_log log;                 /* a line for each thing that is left out */
    rag_patience patience;        /* with a server */
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

/* The lock of a store that was opened to read, to change it and let others do so again. Between
 * them also what else is said to write may be called. ROTOR_E_STATE: another program writes. */
rotor_status rag_hold(rag *r, rotor_error *err);
void rag_let_go(rag *r);

/* ---- Adding and removing --------------------------------------------------------------------- */

/* What became of a file, or of a folder that is watched. */
typedef enum rag_change {
    RAG_CHANGE_READ,     /* new, or not as it was: its documents are in the store */
    RAG_CHANGE_MOVED,    /* found again under another path; more: the old one */
    RAG_CHANGE_GONE,     /* its documents are dropped */
    RAG_CHANGE_LEFT_OUT, /* it is of no kind that is read; more: why */
    RAG_CHANGE_FAILED,   /* it could not be read, its documents are kept; more: why */
    RAG_CHANGE_KEPT,     /* a folder lost so much at once that its documents are kept */
    RAG_CHANGE_LOST,     /* a folder is not there; its documents are kept */
    RAG_CHANGE_WATCHED,  /* a folder is as it is in the store, and followed from here on */
    RAG_CHANGE_EMBEDDED  /* whatever has no vector has got one; more: how many, in digits */
} rag_change;
/* more: "" or NULL where nothing else is said. */
typedef void (*rag_change_fn)(void *user, rag_change what, const char *path, const char *more);

typedef struct rag_add_options {
    const char *const *include; /* [n_include] globs: only these files, and even if hidden */
    size_t n_include;           /* how many */
    const char *const *exclude; /* [n_exclude] globs: not these */
    size_t n_exclude;           /* how many */
    bool confirm_deletes;       /* drop documents whose files are gone however many they are */
    /* Called with work done and left; false stops after what is committed. NULL: never. */
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    /* Called for what a run did with each file; in place of lines in the log. NULL: lines. */
    rag_change_fn change;
    void *user; /* of progress and change */
} rag_add_options;

typedef struct rag_report {
    size_t n_seen, n_unchanged, n_indexed, n_skipped, n_failed, n_gone; /* files */
    size_t n_docs, n_chunks, n_vectors;                                 /* written */
} rag_report;

/* Files and folders (none: the folders that were added); a file ending in .jsonl is a corpus with a
 * document a line. What cannot be read is named in the log and in rag_report.n_failed, the rest is
 * indexed. */
rotor_status rag_add(rag *r, const char *const *paths, size_t n_paths, const rag_add_options *opt,
                     rag_report *report, rotor_error *err);
/* Files by path (a folder: all under it), corpus documents by id. ROTOR_E_NOTFOUND: none is there.
 */
rotor_status rag_remove(rag *r, const char *const *what, size_t n, size_t *n_removed,
                        rotor_error *err);
rotor_status rag_remove_all(rag *r, size_t *n_removed, rotor_error *err);
/* The document that rag_put has put in under that id, and nothing else that is called so.
 * ROTOR_E_ARG: no id (rag_is_id); ROTOR_E_NOTFOUND: there is none. */
rotor_status rag_take_out(rag *r, const char *id, rotor_error *err);
typedef struct rag_watch_options {
    rag_add_options add;       /* what to take, and who hears of changes */
    bool (*go_on)(void *user); /* false ends it; asked several times a second */
    uint32_t quiet_ms;         /* a file is read when nothing happened to it for so long, */
    uint32_t gone_ms;          /* or dropped when it was gone for so long; 0: 500 and 3000 */
    uint32_t rescan_s;         /* everything is looked at so often; 0: 600 */
} rag_watch_options;
/* Brings the folders (none: those that were added) up to date and follows them until go_on says
 * no. The store's lock is held only while something is written. */
rotor_status rag_watch(rag *r, const char *const *folders, size_t n, const rag_watch_options *opt,
                       rotor_error *err);
/* Vectors of the embedder in place of those of another model; resumes what was interrupted. */
rotor_status rag_reembed(rag *r, const rag_add_options *opt, rag_report *report, rotor_error *err);
/* The whole database against itself. ROTOR_E_FORMAT: it is damaged, and where. */
rotor_status rag_verify(rag *r, rotor_error *err);

/* A text of the caller's becomes a document, in place of the one of that id: UTF-8 or what rag_add
 * takes for text. By words alone: rag_embed_some makes vectors. ROTOR_E_ARG: there is nothing in
 * it, or its id cannot be one (rag_is_id). */
#define RAG_NOTE_PREFIX "mem:"
enum { RAG_ID_BYTES = 128, RAG_NOTE_PATH = 5 + RAG_ID_BYTES };
typedef struct rag_text {
    const char *id;    /* its path is RAG_NOTE_PREFIX and this; NULL: sixteen digits made of title
                          and text, so that the same twice is one */
    const char *title; /* NULL or "": its first line */
    base_str text;     /* as Markdown … */
    bool plain;        /* … or not */
    const char *meta;  /* JSON object; NULL or "": none */
} rag_text;
typedef struct rag_put_report {
    char path[RAG_NOTE_PATH]; /* what it is called */
    size_t n_chunks;          /* passages it has now */
    bool replaced;            /* there was one */
    bool unchanged;           /* and it was this very one */
    size_t n_pending;         /* of the passages: without a vector of the store's model */
} rag_put_report;
rotor_status rag_put(rag *r, const rag_text *t, rag_put_report *report, rotor_error *err);
/* 1 to RAG_ID_BYTES bytes of UTF-8 without control characters and slashes; not "." and "..". */
bool rag_is_id(const char *s);
/* Vectors for at most so many passages behind *last that have none; *n got one, and *last is the
 * last of them, or 0 where there was none. Takes the store's lock, if it is not held, only while it
 * writes. err is not NULL. */
rotor_status rag_embed_some(rag *r, size_t most, int64_t *last, size_t *n, rotor_error *err);
/* ROTOR_E_STATE, and what to do, where the embedder is not the one of the store's vectors;
 * *model is their number, 0: there is none yet. */
rotor_status rag_check_model(rag *r, int64_t *model, rotor_error *err);
/* A note, as Markdown, with vectors where the store has an embedder. */
rotor_status rag_note(rag *r, const char *title, base_str text, char path[RAG_NOTE_PATH],
                      rag_report *report, rotor_error *err);
/* The store's documents, passages and vectors into one file, and from there into a store, where
 * they take the place of what it has of the same files. Of report n_indexed and what was written is
 * set; n_vectors of an import: that the store has then. ROTOR_E_FORMAT: the file is damaged, and
 * nothing is taken. Folders to watch do not come with it. */
rotor_status rag_export(rag *r, const char *path, rag_report *report, rotor_error *err);
rotor_status rag_import(rag *r, const char *path, rag_report *report, rotor_error *err);
typedef struct rag_gc_report {
    size_t n_vectors;                   /* that were dropped: no passage had them */
    uint64_t before_bytes, after_bytes; /* of the database */
} rag_gc_report;
/* Drops what nothing uses, and gives the room to the disk. */
rotor_status rag_gc(rag *r, rag_gc_report *report, rotor_error *err);

/* One file of the store. */
typedef struct rag_file {
    int64_t id;                          /* its number in the store, from 1 */
    const char *path, *status, *message; /* "ok", "skipped", "error" …; why; borrowed */
    size_t n_docs, n_chunks;             /* in it */
    uint64_t size;                       /* bytes, as last seen */
} rag_file;
/* In order of path; or, after >= 0, those with a greater id, in order of that. */
rotor_status rag_list(rag *r, int64_t after, bool (*fn)(void *user, const rag_file *f), void *user,
                      rotor_error *err);

/* ---- Searching ------------------------------------------------------------------------------- */

typedef enum rag_mode { RAG_HYBRID, RAG_LEXICAL, RAG_VECTOR } rag_mode;
typedef enum rag_fusion { RAG_CONVEX, RAG_RRF } rag_fusion;

/* A model that judges passages, question and passage read together. */
typedef struct rag_reranker {
    const char *name;  /* of the model, for messages */
    size_t most;       /* so many of the best are judged */
    uint64_t limit_us; /* when it takes longer, the order stays as it was; 0: no limit */
    /* scores[n], higher is better. Texts are not empty; long ones may be cut. NULL: no reranker */
    rotor_status (*score)(void *user, base_str query, const base_str *texts, size_t n,
                          float *scores, rotor_error *err);
    void *user; /* of score */
} rag_reranker;

typedef struct rag_query {
    rag_mode mode;             /* which legs */
    rag_fusion fusion;         /* how they are joined */
    size_t k;                  /* hits wanted */
    const char *const *filter; /* [n_filter] "path=GLOB", "id=…", "title=GLOB", "name=value" */
    size_t n_filter;           /* how many; all must hold */
    bool quoted;               /* "these words" must stand there so; else they weigh more */
    bool plain;                /* best first: nothing left out as a repetition, nothing joined */
    rag_reranker reranker;     /* judges the best of what is found; or none */
    base_str judged_by;        /* the question it gets; n 0: the query itself */
} rag_query;

enum { RAG_MAX_STORES = 16 }; /* that are searched together */

typedef struct rag_hit {
    uint32_t store;              /* of those that were searched */
    int64_t chunk;               /* id in the database */
    char *path, *id, *title;     /* file; id in a corpus or ""; owned by the list, like the rest */
    char *heading, *text;        /* headings above, " › " between; the passage */
    uint64_t begin, end;         /* bytes of the document's text */
    uint32_t line, last_line;    /* of the file, from 1 */
    uint32_t page, last_page;    /* from 1; 0: no pages */
    float score;                 /* fused, or of the reranker, 0 to 1 */
    bool reranked;               /* the reranker has judged it … */
    float rerank;                /* … so */
    float fused;                 /* with a reranker: the score before */
    float bm25, cosine;          /* of each leg */
    float best;                  /* cosine of any candidate by the same model */
    uint32_t rank_lex, rank_vec; /* in each leg, from 1; 0: not among its first */
    uint32_t first, last; /* passages that were joined to it, numbers of the search's index */
} rag_hit;

typedef struct rag_hits {
    rag_hit *hits;      /* [n], best first, owned */
    size_t n;           /* how many */
    float best_cosine;  /* of all chunks; 0 without vectors */
    float coverage;     /* share of the query's weight of words that the best chunk has */
    float match;        /* how well it answers to them: rag_lex_match */
    bool lexical_only;  /* vectors were wanted and there are none */
    bool pending;       /* vectors were wanted; passages of a store with an embedder lack theirs */
    bool relevant;      /* rag_is_relevant */
    bool rerank_failed; /* a reranker was wanted, and the order is that without it */
    uint64_t embed_us, lex_us, vec_us, fuse_us, rerank_us; /* what it took */
} rag_hits;
rotor_status rag_search(rag *r, base_str query, const rag_query *opt, rag_hits *out,
                        rotor_error *err);
/* 1 to RAG_MAX_STORES stores as if they were one. Words weigh by all their passages. Vectors of one
 * model are compared; of several models each one's cosines are stretched over what it found, and a
 * store without vectors is judged by words alone. A question is embedded once for each model.
 * Equal scores: the store that is named first. */
rotor_status rag_search_all(rag *const *stores, size_t n, base_str query, const rag_query *opt,
                            rag_hits *out, rotor_error *err);
void rag_hits_free(rag_hits *h);
void rag_hit_free(rag_hit *h); /* what it owns */

/* ---- Is it an answer? (rag_gate.c) ------------------------------------------------------------
 */

/* The thresholds, the only ones there are; docs/rag.md says what they were measured on. */
typedef struct rag_gate {
    float words_only;  /* least match of a question that has no vector */
    float match_share; /* else the match counts so much beside the best cosine … */
    float both;        /* … and this is the least sum */
} rag_gate;
extern const rag_gate rag_gate_default;
/* Whether what was found is likely to answer; vectors: the question had one. */
bool rag_is_relevant(const rag_gate *g, bool vectors, float best_cosine, float match);

/* ---- Asking (rag_gather.c, rag_quote.c) -------------------------------------------------------
 */

typedef struct rag_ask {
    rag_query query;            /* how to search */
    const char *const *earlier; /* [n_earlier] what was asked before, oldest first: a question that
                                   follows up is understood by the newest of them */
    size_t n_earlier;           /* how many */
    base_str rewritten; /* the question so that it stands alone, in their place; n 0: none */
    size_t budget_tok;  /* tokens of all sources together, their headers included */
    size_t max_sources; /* at most so many */
    size_t (*count)(void *user, base_str text); /* tokens of a text; NULL: about */
    void *user;                                 /* of count */
} rag_ask;

typedef struct rag_source {
    rag_hit hit;     /* text and places: what the model gets to see, neighbours included; owned */
    bool suspicious; /* it looks as if it gave the model orders */
} rag_source;

/* What a model is asked, and on what. */
typedef struct rag_context {
    rag_source *sources; /* [n], best first; the model knows number i as [i + 1]; owned */
    size_t n;            /* how many */
    char *rules;         /* for the system's turn, the same every time; owned */
    char *turn;          /* the user's turn: sources, best last, and the question; owned */
    bool relevant;       /* rag_is_relevant, of the question or of it with what it follows up */
    bool followed_up;    /* what was asked before has been searched for, too */
    bool lexical_only;   /* as in rag_hits */
    bool rerank_failed;  /* as in rag_hits, of any search */
    bool rewritten;      /* it was searched for in other words, too … */
    char *query;         /* … in these; else the question; owned */
    float best_cosine, coverage, match; /* as in rag_hits, the better of both searches */
    size_t n_tok;                       /* of the sources */
    uint64_t search_us;                 /* time for all of it */
} rag_context;
rotor_status rag_gather(rag *const *stores, size_t n, base_str question, const rag_ask *a,
                        rag_context *out, rotor_error *err);
void rag_context_free(rag_context *c);
const char *rag_rules(void); /* rag_context.rules, always the same; static */
/* Is there anything in it to look for? Not in "thanks!". */
bool rag_asks_something(base_str question);
/* Does it only ask for the last answer in another form? So "shorter, please" (rag_need.c). */
bool rag_about_the_answer(base_str question);

/* ---- Questions that stand alone (rag_rewrite.c) -----------------------------------------------
 */

typedef struct rag_said {
    bool by_user;     /* or by the model */
    const char *text; /* what */
} rag_said;
/* What a model is asked, to write the last of said[n], the user's, so that it is understood without
 * the rest. */
rotor_status rag_rewrite_prompt(const rag_said *said, size_t n, base_buf *out, rotor_error *err);
/* What it said, if that can be a question: one line, of a length, with a word to look for; *out:
 * part of said. */
bool rag_rewrite_take(base_str question, base_str said, base_str *out);

/* ---- Citations (rag_cite.c) -------------------------------------------------------------------
 */

/* Takes numbers of sources that do not exist, [9], out of a text as it comes. Not in `code`. */
typedef struct rag_code { /* where a text is code: between backticks of a line, or in a fence */
    size_t run;           /* backticks just seen */
    bool span, fence;     /* in which of them */
    bool begun;           /* the line has more than spaces */
} rag_code;
typedef struct rag_marks {
    size_t n_sources; /* set by the caller; the rest 0 */
    char held[24];    /* the beginning of what may be a mark, and the space before it */
    size_t n_held;    /* bytes of it */
    char open[24];    /* the beginning of what may be one around the last, which is out already */
    size_t n_open;    /* bytes of it */
    rag_code code;    /* where the text is code */
    size_t n_removed; /* numbers so far */
} rag_marks;
void rag_marks_put(rag_marks *m, base_str text, base_buf *out);
void rag_marks_end(rag_marks *m, base_buf *out);

/* A sentence of an answer, and a source. */
typedef struct rag_citation {
    size_t source;     /* of the context, from 0 */
    size_t begin, end; /* the sentence's bytes in rag_checked.text */
    float support;     /* part of its words that the source has, 0 to 1 */
    bool supported;    /* enough of them */
    bool added;        /* the answer names no source here; this one has its words */
} rag_citation;
typedef struct rag_checked {
    base_buf text;      /* the answer without numbers of no source */
    rag_citation *list; /* [n] in order, owned */
    size_t n, cap;      /* in use; allocated */
    size_t n_removed;   /* numbers that were taken out */
} rag_checked;
rotor_status rag_check(const rag_context *c, base_str answer, rag_checked *out, rotor_error *err);
void rag_checked_free(rag_checked *c);

/* ---- Judging --------------------------------------------------------------------------------- */

typedef struct rag_eval_options {
    const char *queries, *qrels; /* .jsonl with _id and text; .tsv of query, document, grade */
    const char *run;             /* TREC file to write, or NULL */
    rag_mode mode;               /* legs */
    rag_fusion fusion;           /* how joined */
    bool chunked;                /* a document scores as its best chunk, not as a whole */
    const char *refuse;          /* .jsonl of questions that are not answered here, or NULL */
    rag_reranker reranker;       /* orders the best passages anew; or none. Only with chunked */
} rag_eval_options;

typedef struct rag_scores {
    double ndcg10, recall100, mrr10, map100; /* means over judged queries */
    double recall10;                         /* of the first ten */
    size_t n_queries;                        /* with a positive judgement */
    double refused, refused_strangers;       /* shares that are not relevant, with opt->refuse */
    size_t n_strangers;                      /* questions of opt->refuse */
    uint64_t query_us, lex_us, vec_us;       /* median time of one, without embedding it; legs */
    uint64_t worst_us;                       /* 95th percentile */
} rag_scores;
rotor_status rag_eval(rag *r, const rag_eval_options *opt, rag_scores *out, rotor_error *err);

/* ---- Measuring (rag_bench.c) ----------------------------------------------------------------- */

typedef struct rag_bench_options {
    size_t n_passages, dims; /* of a store that is made up */
    size_t n_questions;      /* asked of it */
    uint64_t seed;           /* what it is made of */
    unsigned cpu;            /* CPU_* flags kernels may use */
} rag_bench_options;
typedef struct rag_bench_times {
    double median_us, p95_us; /* of the questions */
} rag_bench_times;
typedef struct rag_bench_result {
    rag_bench_times vector, words; /* the hundred best by meaning; by words */
    rag_bench_times hybrid;        /* a whole search, without embedding and reading of texts */
    rag_bench_times whole;         /* vector without the screen: every row of bytes */
    double read_us;                /* reading those bytes once, the best of five */
    double recall10;               /* of vector against floats */
    double scored;                 /* rows of bytes that vector read, on average */
} rag_bench_result;
rotor_status rag_bench(const rag_bench_options *opt, rag_bench_result *out, rotor_error *err);

#endif
