/* SPDX-License-Identifier: MIT
 *
 * rotor_rag.h: find passages in your own documents.
 *
 *     rotor_rag_options opt = rotor_rag_options_default();
 *     opt.create = opt.write = true;
 *     opt.embedder = engine;                        // opened with `embed`; NULL: keywords only
 *     rotor_rag_open(&store, "notes.store", &opt, &err);
 *     const char *paths[] = {"notes"};
 *     rotor_rag_add(store, paths, 1, NULL, &report, &err);
 *     rotor_rag_search(store, "how long does the battery last", NULL, &hits, &err);
 *     rotor_rag_hits_free(&hits);
 *     rotor_rag_close(&store);
 *
 * A store is a folder with one database. Documents are cut into passages; keyword search works as
 * soon as they are in, search by meaning once they have vectors. A document is found either wholly
 * in its old version or wholly in its new one, also after a program was killed at any moment.
 *
 * Rules of option structs, strings and errors: as in rotor.h. One thread at a time per store; any
 * number of programs may search one while one program adds to it.
 */
#ifndef ROTOR_RAG_H
#define ROTOR_RAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotor.h"
#include "rotor_chat.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rotor_rag rotor_rag;

/* What makes vectors where no engine does: a model of the program's own, or one on a server. */
typedef struct rotor_rag_embedder {
    uint32_t size;    /* sizeof(rotor_rag_embedder) */
    uint32_t dims;    /* floats of a vector, at most 65,536 */
    const char *name; /* of the model. Vectors of one name and one dims are taken for one model's */
    const char *place; /* what the store remembers of where it is; NULL: name */
    /* out[n][dims], finite and none without length; the texts are UTF-8 and never empty. Called on
     * the thread that calls for the store. ROTOR_E_IO: it cannot be reached just now, and a hybrid
     * search goes by words. */
    rotor_status (*embed)(void *user, const rotor_embed_text *texts, size_t n, float *out,
                          rotor_error *err);
    void *user; /* passed to embed */
} rotor_rag_embedder;

typedef struct rotor_rag_options {
    uint32_t size;             /* sizeof(rotor_rag_options) */
    bool create;               /* make folder and database if they are not there */
    bool write;                /* be the one program that changes it; ROTOR_E_STATE: another is */
    bool share;                /* be it only while a call writes, which fails with ROTOR_E_STATE
                                  where another is just then; only with rotor_rag_put, _embed,
                                  _note, _remove and _take_out */
    uint8_t zero[1];           /* 0 */
    rotor_engine *embedder;    /* opened with `embed`, outlives the store; NULL: keywords only */
    const char *embedder_path; /* what the store remembers of where the model is; NULL: its name */
    const char *cpu;           /* highest CPU level to use; NULL: all */
    const char *extract; /* path of rotor-extract, which reads PDF, DOCX, HTML …; NULL: none */
    const char *label;   /* what hits call the store; NULL: the last part of its folder */
    void (*log)(void *user, int level, const char *line); /* 0 error … 3 debug; NULL: silent */
    void *log_user;                                       /* passed to log */
    /* Asked several times a second while a store's server is waited for; false: no longer, and the
     * call that waits fails with ROTOR_E_CANCELLED. It must not use this store. NULL: as long as
     * docs/rag.md says. */
    bool (*go_on)(void *user);
    void *go_on_user;                 /* passed to go_on */
    const rotor_rag_embedder *source; /* in place of embedder; what it points to outlives the store.
                                         NULL: none */
} rotor_rag_options;
ROTOR_API rotor_rag_options rotor_rag_options_default(void);

/* folder: of the store, or postgres://… for one on a PostgreSQL server (docs/rag.md).
 * ROTOR_E_NOTFOUND: no store there; ROTOR_E_UNSUPPORTED: this build has no SQLite, the machine no
 * libpq, or the store is newer than this library; ROTOR_E_FORMAT: the database is damaged. */
ROTOR_API rotor_status rotor_rag_open(rotor_rag **out, const char *folder,
                                      const rotor_rag_options *opt, rotor_error *err);
ROTOR_API void rotor_rag_close(rotor_rag **r); /* NULL is fine; *r becomes NULL */

typedef struct rotor_rag_info {
    uint32_t size;         /* set by the caller: sizeof(rotor_rag_info); kept */
    uint32_t dims;         /* floats of a vector; 0: no model yet */
    uint64_t n_files;      /* known, failed ones too */
    uint64_t n_docs;       /* documents */
    uint64_t n_chunks;     /* passages */
    uint64_t n_vectors;    /* passages that have one */
    uint64_t n_failed;     /* files that could not be read */
    uint64_t db_bytes;     /* of the database */
    char model[256];       /* whose vectors they are; "": none yet */
    char model_path[1024]; /* where it was when it was used last */
} rotor_rag_info;
ROTOR_API rotor_status rotor_rag_get_info(rotor_rag *r, rotor_rag_info *info, rotor_error *err);

/* ---- Adding and removing --------------------------------------------------------------------- */

typedef struct rotor_rag_add_options {
    uint32_t size;        /* sizeof(rotor_rag_add_options) */
    bool confirm_deletes; /* drop what is gone however much it is */
    uint8_t zero[3];      /* 0 */
    const char *const
        *include;     /* [n_include] globs of names (with a slash: of paths): only these */
    size_t n_include; /* how many */
    const char *const *exclude; /* [n_exclude] globs: not these */
    size_t n_exclude;           /* how many */
    /* Documents read (total 0), then passages embedded; false stops with ROTOR_E_CANCELLED after
     * what is finished, which is kept. NULL: none. */
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *user; /* passed to progress */
} rotor_rag_add_options;
ROTOR_API rotor_rag_add_options rotor_rag_add_options_default(void);

/* What a run did. */
typedef struct rotor_rag_report {
    uint64_t n_seen, n_unchanged, n_indexed; /* files found; as they were; read anew */
    uint64_t n_skipped, n_failed, n_gone;    /* not of a kind that is read; unreadable; dropped */
    uint64_t n_docs, n_chunks, n_vectors;    /* written */
} rotor_rag_report;

/* Files and folders (n_paths 0: the folders that were added), whose files are dropped from the
 * store when they are gone. A file ending in .jsonl is a corpus: a document a line, with _id, title
 * and text. What cannot be read is named in the log and counted in n_failed; the rest is added. opt
 * and report may be NULL. */
ROTOR_API rotor_status rotor_rag_add(rotor_rag *r, const char *const *paths, size_t n_paths,
                                     const rotor_rag_add_options *opt, rotor_rag_report *report,
                                     rotor_error *err);
/* Files by path, folders with all below, documents of a corpus by id. ROTOR_E_NOTFOUND: one is not
 * there, and nothing is removed. n 0: everything. *n_removed may be NULL. */
ROTOR_API rotor_status rotor_rag_remove(rotor_rag *r, const char *const *what, size_t n,
                                        uint64_t *n_removed, rotor_error *err);
/* What became of a file, or of a folder that is watched. */
typedef enum rotor_rag_change {
    ROTOR_RAG_READ,     /* a file is new, or not as it was: it is found */
    ROTOR_RAG_MOVED,    /* a file was found under another path; more: the old one */
    ROTOR_RAG_GONE,     /* a file's documents are dropped */
    ROTOR_RAG_LEFT_OUT, /* a file is of no kind that is read; more: why */
    ROTOR_RAG_FAILED,   /* a file could not be read, its documents are kept; more: why */
    ROTOR_RAG_KEPT,     /* a folder lost so much at once that its documents are kept */
    ROTOR_RAG_LOST,     /* a folder is not there: its documents are kept, it is waited for */
    ROTOR_RAG_WATCHED,  /* a folder is as it is in the store, and followed from here on */
    ROTOR_RAG_EMBEDDED /* nothing is without a vector any more; path "", more: how many in digits */
} rotor_rag_change;

typedef struct rotor_rag_watch_options {
    uint32_t size;              /* sizeof(rotor_rag_watch_options) */
    uint32_t quiet_ms;          /* a file is read when nothing happened to it so long; 0: 500 */
    uint32_t gone_ms;           /* and dropped when it was gone so long; 0: 3000 */
    uint32_t rescan_s;          /* everything is looked at so often; 0: 600 */
    rotor_rag_add_options *add; /* what to take besides what was said when a folder was added, and
                                   whether to confirm deletes; NULL: nothing. Its progress and user
                                   are not used */
    bool (*go_on)(void *user);  /* false ends it; asked several times a second. NULL: for ever */
    /* Called for each change, once it is found; strings are borrowed. NULL: none. */
    void (*change)(void *user, rotor_rag_change what, const char *path, const char *more);
    void *user; /* passed to both */
} rotor_rag_watch_options;
/* Brings folders up to date and follows what happens in them until go_on says no: files that are
 * written, moved and deleted, folders that come and go. n 0: the folders that were added. The store
 * can be searched, and between changes written to, by others meanwhile. opt may be NULL. */
ROTOR_API rotor_status rotor_rag_watch(rotor_rag *r, const char *const *folders, size_t n,
                                       const rotor_rag_watch_options *opt, rotor_error *err);
/* Vectors of the embedder in place of another model's. An interrupted run is gone on with; until
 * the last vector is there the old ones serve. */
ROTOR_API rotor_status rotor_rag_reembed(rotor_rag *r, const rotor_rag_add_options *opt,
                                         rotor_rag_report *report, rotor_error *err);
/* A note becomes a document, as Markdown: text is UTF-8, or what else a text file may be. path
 * [ROTOR_RAG_NOTE_PATH] gets what it is called from then on, "mem:" and digits made of title and
 * text, so that the same note twice is one; rotor_rag_remove takes it. title NULL or "": its first
 * line. report may be NULL. ROTOR_E_ARG: there is nothing in it. */
#define ROTOR_RAG_NOTE_PATH 32
ROTOR_API rotor_status rotor_rag_note(rotor_rag *r, const char *title, const char *text,
                                      size_t n_bytes, char *path, rotor_rag_report *report,
                                      rotor_error *err);
/* A text that another program keeps here under an id of its own. */
typedef struct rotor_rag_text {
    uint32_t size;     /* sizeof(rotor_rag_text) */
    bool plain;        /* paragraphs; else Markdown */
    uint8_t zero[3];   /* 0 */
    const char *id;    /* 1 to 128 bytes of UTF-8 without control characters and '/', not "." or
                          ".."; NULL: made of title and text, as for a note */
    const char *title; /* NULL or "": its first line */
    const char *text;  /* [n_bytes] UTF-8, or what else a text file may be */
    size_t n_bytes;    /* of text */
    const char *meta;  /* JSON object of what filters may ask for; NULL: none */
} rotor_rag_text;
#define ROTOR_RAG_TEXT_PATH 136
typedef struct rotor_rag_put_result {
    uint32_t size;                  /* set by the caller: sizeof(rotor_rag_put_result); kept */
    bool replaced;                  /* there was one of that id … */
    bool unchanged;                 /* … and it was this very one */
    uint8_t zero[2];                /* 0 */
    uint64_t n_chunks;              /* passages it has now */
    char path[ROTOR_RAG_TEXT_PATH]; /* "mem:" and its id: what hits say, and rotor_rag_remove takes
                                     */
    uint64_t n_pending;             /* of the passages: without a vector of the store's model */
} rotor_rag_put_result;
/* Puts it in place of the one of that id. Found by words as soon as this returns, and by meaning
 * once rotor_rag_embed has come by. out may be NULL. ROTOR_E_ARG: nothing is in it, or the id
 * cannot be one; ROTOR_E_UNSUPPORTED: it is no text; ROTOR_E_STATE: another program writes just
 * now. */
ROTOR_API rotor_status rotor_rag_put(rotor_rag *r, const rotor_rag_text *text,
                                     rotor_rag_put_result *out, rotor_error *err);
/* Takes out the document of that id, and nothing else that is called so. ROTOR_E_ARG: it cannot be
 * an id; ROTOR_E_NOTFOUND: there is none; ROTOR_E_STATE: another program writes just now. */
ROTOR_API rotor_status rotor_rag_take_out(rotor_rag *r, const char *id, rotor_error *err);
/* Vectors for at most so many passages that have none. *n_made (may be NULL) 0: nothing is left, or
 * there is no embedder. The store's lock, where it is shared, is not held while the model works.
 * ROTOR_E_STATE: another program writes just now; ROTOR_E_UNSUPPORTED: the store has the vectors of
 * another model. */
ROTOR_API rotor_status rotor_rag_embed(rotor_rag *r, uint32_t most, uint64_t *n_made,
                                       rotor_error *err);
/* Everything but the folders to watch into one file, which appears when it is whole and is for its
 * owner alone; and from there into a store, whose documents of the same files it takes the place
 * of. An import is read record by record, twice; damaged or cut (ROTOR_E_FORMAT), nothing of it is
 * taken. Vectors of another model than the store's are left out, and those of passages that it has
 * itself. In report n_indexed are files, then n_docs, n_chunks and n_vectors (after an import:
 * those the store has); it may be NULL. */
ROTOR_API rotor_status rotor_rag_export(rotor_rag *r, const char *path, rotor_rag_report *report,
                                        rotor_error *err);
ROTOR_API rotor_status rotor_rag_import(rotor_rag *r, const char *path, rotor_rag_report *report,
                                        rotor_error *err);
typedef struct rotor_rag_gc_report {
    uint64_t n_vectors;    /* dropped: no passage had them */
    uint64_t before_bytes; /* of the database, before */
    uint64_t after_bytes;  /* and after */
} rotor_rag_gc_report;
/* Drops what nothing uses, and gives the room to the disk. report may be NULL. */
ROTOR_API rotor_status rotor_rag_gc(rotor_rag *r, rotor_rag_gc_report *report, rotor_error *err);
/* Reads the whole database. ROTOR_E_FORMAT: it is damaged, and where. */
ROTOR_API rotor_status rotor_rag_verify(rotor_rag *r, rotor_error *err);

/* One file; strings are borrowed until the callback returns. */
typedef struct rotor_rag_file {
    const char *path;          /* absolute */
    const char *status;        /* "ok", "pending", "skipped", "error" */
    const char *message;       /* why, or "" */
    uint64_t n_docs, n_chunks; /* in the store */
    uint64_t bytes;            /* of the file */
    int64_t row;               /* its number in the store, from 1; kept while it is there */
} rotor_rag_file;
/* In order of path; the callback returns false to stop. */
ROTOR_API rotor_status rotor_rag_list(rotor_rag *r, bool (*fn)(void *user, const rotor_rag_file *f),
                                      void *user, rotor_error *err);
/* In order of row, those behind row `after` (0: all): a page goes on where the last one ended,
 * whatever came and went between. ROTOR_E_ARG: after is below 0. */
ROTOR_API rotor_status rotor_rag_list_after(rotor_rag *r, int64_t after,
                                            bool (*fn)(void *user, const rotor_rag_file *f),
                                            void *user, rotor_error *err);

/* ---- Searching ------------------------------------------------------------------------------- */

typedef enum rotor_rag_mode {
    ROTOR_RAG_HYBRID,
    ROTOR_RAG_LEXICAL,
    ROTOR_RAG_VECTOR
} rotor_rag_mode;
/* How the two legs of a hybrid search are joined: scores, each stretched over what its leg found;
 * or ranks alone. */
typedef enum rotor_rag_fusion { ROTOR_RAG_CONVEX, ROTOR_RAG_RRF } rotor_rag_fusion;

typedef struct rotor_rag_query {
    uint32_t size;             /* sizeof(rotor_rag_query) */
    uint32_t k;                /* hits wanted, at most 100; default 8 */
    rotor_rag_mode mode;       /* default hybrid: words alone while there are no vectors */
    rotor_rag_fusion fusion;   /* of hybrid */
    const char *const *filter; /* [n_filter] "path=GLOB", "title=GLOB", "id=ID", "FIELD=VALUE" */
    size_t n_filter;           /* how many; all must hold */
    bool plain;                /* the best passages as they are: repetitions stay, neighbours are
                                  not joined, a document may have them all */
    uint8_t zero[7];           /* 0 */
    rotor_engine *reranker; /* a cross-encoder, opened with `embed`, which judges the best of what
                               both legs found; used by this thread until the call returns. NULL:
                               none */
    uint32_t rerank_n;      /* so many of the best are judged; default 20, at most 200 */
    uint32_t rerank_ms;     /* when that takes longer, or fails, the order stays as it was and a
                               line is logged; default 3000, 0: no limit */
} rotor_rag_query;
ROTOR_API rotor_rag_query rotor_rag_query_default(void);

typedef struct rotor_rag_hit {
    const char *store;           /* label of the store it is from; borrowed from that */
    const char *path;            /* file */
    const char *id;              /* of a document in a corpus; else "" */
    const char *title;           /* of the document */
    const char *heading;         /* headings above the passage, " › " between; or "" */
    const char *text;            /* the passage */
    uint64_t begin, end;         /* its bytes in the document's text */
    uint32_t line, last_line;    /* of the file, from 1 */
    uint32_t page, last_page;    /* from 1; 0: no pages */
    float score;                 /* by which it was ordered */
    float bm25, cosine;          /* of the legs */
    uint32_t rank_lex, rank_vec; /* in the legs, from 1; 0: not among their first hundred */
    float rerank;                /* of the reranker (rotor_rerank), which ordered it … */
    float fused;                 /* … in the place of this score, of the legs … */
    bool reranked;               /* … where it has judged it */
    uint8_t zero[7];             /* 0 */
} rotor_rag_hit;

typedef struct rotor_rag_hits {
    rotor_rag_hit *hits; /* [n], best first; they and their strings are owned by the result */
    size_t n;            /* how many */
    float best_cosine;   /* of any passage; 0 without vectors */
    float coverage;      /* part of the question's weight of words that the best passage has */
    float match;         /* how well it answers to them; about 1 and more: well */
    bool lexical_only;   /* vectors were wanted, and a store has none of its model */
    bool relevant;       /* the best of it is likely to answer (docs/rag.md: the threshold) */
    bool pending;        /* vectors were wanted, and some passages have none yet */
    uint64_t embed_us, lex_us, vec_us, fuse_us; /* what it took */
    void *inside;                               /* the library's own */
    uint64_t rerank_us;                         /* the reranker's time */
    bool rerank_failed;                         /* it failed, or took too long */
    uint8_t zero[7];                            /* 0 */
} rotor_rag_hits;
/* Words between spaces; "words in quotation marks": just these, in this order; - before a word or
 * quotation: not this one. opt may be NULL. */
ROTOR_API rotor_status rotor_rag_search(rotor_rag *r, const char *query, const rotor_rag_query *opt,
                                        rotor_rag_hits *out, rotor_error *err);
/* 1 to ROTOR_RAG_STORES stores as if they were one: words weigh by all their passages together, and
 * vectors of one model are compared, so that two stores find what one with the documents of both
 * would. Where models differ each one's cosines are stretched over what it found, and a store
 * without vectors is judged by words alone. A question is embedded once for each model. Equal
 * scores: the store that stands first. */
#define ROTOR_RAG_STORES 16
ROTOR_API rotor_status rotor_rag_search_all(rotor_rag *const *stores, size_t n_stores,
                                            const char *query, const rotor_rag_query *opt,
                                            rotor_rag_hits *out, rotor_error *err);
ROTOR_API void rotor_rag_hits_free(rotor_rag_hits *h);
/* The hits as a JSON array, {"number", "store", "path", "place", "uri", "lines", "text", "score" …}
 * each: *json: new, rotor_free. */
ROTOR_API rotor_status rotor_rag_describe_hits(const rotor_rag_hits *h, char **json,
                                               rotor_error *err);
/* Where a passage is, for people: "notes/deck.md:5-7", "paper.pdf page 3", "corpus.jsonl 17";
 * control characters in names become ?. Writes at most cap bytes, the zero included; returns the
 * bytes there are, without it. */
ROTOR_API size_t rotor_rag_place(const rotor_rag_hit *h, char *out, size_t cap);

/* ---- Asking ----------------------------------------------------------------------------------
 *
 *     rotor_rag_gather(store, "how long does the battery last", &ask, &context, &err);
 *     … if context.relevant: a model's answer to context.rules (system) and context.turn (user) …
 *     rotor_rag_check(&context, answer, n_bytes, &checked, &err);
 */

typedef struct rotor_rag_ask_options {
    uint32_t size;        /* sizeof(rotor_rag_ask_options) */
    uint32_t budget_tok;  /* tokens of all sources together; default 1200, and never more than
                             leaves room for question, answer and rules */
    uint32_t max_sources; /* default 6, at most 20 */
    uint32_t n_ctx;       /* positions of the session that answers; 0: the writer's */
    uint32_t answer_tok;  /* of these for the answer; 0: 512, or a quarter where that is less */
    uint32_t other_tok;   /* of these taken already: earlier turns, a system prompt */
    const rotor_engine
        *writer; /* whose tokens are counted (thread-safe); NULL: about, n_ctx 4096 */
    const rotor_rag_query *find; /* how to search; NULL: the default */
    const char *const *earlier;  /* [n_earlier] what the user asked before, oldest first: a question
                                    that follows up is searched for with the newest of them, too */
    size_t n_earlier;            /* how many */
    const char *rewritten;       /* the question as it stands alone (rotor_rag_rewritten): searched
                                    for besides the question, in place of the earlier ones. NULL: it
                                    is not known */
} rotor_rag_ask_options;
ROTOR_API rotor_rag_ask_options rotor_rag_ask_options_default(void);

typedef struct rotor_rag_source {
    rotor_rag_hit hit; /* its text is what the model sees, neighbours of the passage included */
    bool suspicious;   /* it looks as if it gave orders to the model */
    uint8_t zero[7];   /* 0 */
} rotor_rag_source;

typedef struct rotor_rag_context {
    rotor_rag_source *sources; /* [n], best first; sources[0] is [1]; owned by the result */
    size_t n;                  /* how many */
    const char *rules;         /* for the system's turn, always the same; owned by the result */
    const char *turn;  /* the user's turn: sources as quotations, then the question; likewise */
    bool relevant;     /* the sources are likely to hold the answer */
    bool followed_up;  /* what was asked before has been searched for, too */
    bool lexical_only; /* vectors were wanted, and there are none of this model */
    float best_cosine, coverage, match; /* as in rotor_rag_hits */
    uint32_t n_tok;                     /* of the sources */
    uint64_t search_us;                 /* what it took */
    void *inside;                       /* the library's own */
    const char *query;  /* the question as it was rewritten, or as it was; owned by the result */
    bool rewritten;     /* the former, and both have been searched for */
    bool rerank_failed; /* as in rotor_rag_hits */
    uint8_t zero[6];    /* 0 */
} rotor_rag_context;
/* Searches and lays out what a model is asked. Texts of documents are quoted in the user's turn,
 * where no tokenizer call of this library makes control tokens of them. ROTOR_E_FULL: the question
 * is longer than there is room for. */
ROTOR_API rotor_status rotor_rag_gather(rotor_rag *r, const char *question,
                                        const rotor_rag_ask_options *opt, rotor_rag_context *out,
                                        rotor_error *err);
/* The same of several stores, as rotor_rag_search_all. */
ROTOR_API rotor_status rotor_rag_gather_all(rotor_rag *const *stores, size_t n_stores,
                                            const char *question, const rotor_rag_ask_options *opt,
                                            rotor_rag_context *out, rotor_error *err);
ROTOR_API void rotor_rag_context_free(rotor_rag_context *c);
/* A conversation whose last turn is the user's question, as the model is to get it: the rules join
 * the system's text, and the last turn becomes the context's. Where the model's template has no
 * place for a system's turn, all of it goes there. *out: [*n_out] and the texts it needs in one
 * block, free with rotor_free; the rest is borrowed from turns and c. */
ROTOR_API rotor_status rotor_rag_ground(const rotor_engine *e, const rotor_rag_context *c,
                                        const rotor_turn *turns, size_t n, rotor_turn **out,
                                        size_t *n_out, rotor_error *err);
/* Is there anything in it to look for? Not in "thanks!". */
ROTOR_API bool rotor_rag_asks_something(const char *question);
/* Does it only ask for the last answer in another form, in English? "Shorter, please" does,
 * "translate that into German" too; where it is not sure it says no. */
ROTOR_API bool rotor_rag_about_the_answer(const char *question);

/* ---- Questions that stand alone ----
 * "And how much does it cost?" is found by what went before. A rule does that without a model
 * (earlier); or a model writes the question anew, which is then searched for besides the question
 * itself (rewritten). It never takes the question's place: the answer is to what was asked. */

/* Asks the model, in a session of its own, greedily and for a few dozen tokens, to write the last
 * of turns[n], the user's, so that it is understood without the others; n >= 2, and system turns do
 * not count. The engine's other sessions keep what they hold, but it must have been opened with
 * max_sessions for one more. *question: new, rotor_free; NULL: what came is not one line, too long,
 * empty or cut off, and is not used. go_on (may be NULL) is asked now and then; false:
 * ROTOR_E_CANCELLED. One thread at a time per engine. */
ROTOR_API rotor_status rotor_rag_rewrite(rotor_engine *e, const rotor_turn *turns, size_t n,
                                         bool (*go_on)(void *user), void *user, char **question,
                                         rotor_error *err);
/* Its parts, for those who run the model otherwise: what it is asked, as a user's turn (*prompt:
 * new, rotor_free); how it is sampled; and what it said, checked (*out: as *question above; n_bytes
 * 0 where it was cut off). Safe from any thread. */
ROTOR_API rotor_status rotor_rag_rewrite_prompt(const rotor_turn *turns, size_t n, char **prompt,
                                                rotor_error *err);
ROTOR_API rotor_gen_options rotor_rag_rewrite_options(const rotor_engine *e);
ROTOR_API rotor_status rotor_rag_rewritten(const char *question, const char *said, size_t n_bytes,
                                           char **out, rotor_error *err);

/* Takes numbers of sources that do not exist out of an answer as it comes. */
typedef struct rotor_rag_marks rotor_rag_marks;
ROTOR_API rotor_status rotor_rag_marks_create(rotor_rag_marks **out, size_t n_sources,
                                              rotor_error *err);
ROTOR_API void rotor_rag_marks_free(rotor_rag_marks **m);
/* What may be shown of it now: [*n], valid until the next call. text NULL: the end. */
ROTOR_API const char *rotor_rag_marks_put(rotor_rag_marks *m, const char *text, size_t n_bytes,
                                          size_t *n);

typedef struct rotor_rag_citation {
    size_t source;     /* of the context, from 0 */
    size_t begin, end; /* the sentence's bytes in rotor_rag_checked.text */
    float support;     /* part of the sentence's words that the source has, 0 to 1 */
    bool supported;    /* half of them or more */
    bool added;        /* the answer names no source here; this one has its words */
    uint8_t zero[2];   /* 0 */
} rotor_rag_citation;
typedef struct rotor_rag_checked {
    const char *text;                    /* [n_bytes] the answer without numbers of no source */
    size_t n_bytes;                      /* of text */
    const rotor_rag_citation *citations; /* [n_citations] in order */
    size_t n_citations;                  /* how many */
    size_t n_removed;                    /* numbers that were taken out */
    void *inside;                        /* the library's own */
} rotor_rag_checked;
/* Which sources an answer names, and whether they speak of the same things. Words are compared, not
 * what they say. An empty context ({0}) stands for an answer without sources: every number goes.
 * Safe from any thread. */
ROTOR_API rotor_status rotor_rag_check(const rotor_rag_context *c, const char *answer,
                                       size_t n_bytes, rotor_rag_checked *out, rotor_error *err);
ROTOR_API void rotor_rag_checked_free(rotor_rag_checked *c);
/* All of it as a JSON object, for programs: {"relevant", "followed_up", "degraded", "best_cosine",
 * "coverage", "sources": [{"number", "path", "place", "uri", "lines", "pages", "text", …}]} and,
 * where checked is not NULL, "citations": [{"source", "sentence", "support", "supported",
 * "added"}] and "removed". *json: new, rotor_free. */
ROTOR_API rotor_status rotor_rag_describe(const rotor_rag_context *c,
                                          const rotor_rag_checked *checked, char **json,
                                          rotor_error *err);

/* ---- Judging --------------------------------------------------------------------------------- */

typedef struct rotor_rag_eval_options {
    uint32_t size;           /* sizeof(rotor_rag_eval_options) */
    rotor_rag_mode mode;     /* legs */
    rotor_rag_fusion fusion; /* of hybrid */
    bool chunked;            /* a document scores as its best passage, not as a whole */
    uint8_t zero[3];         /* 0 */
    const char *queries;     /* JSON lines with _id and text */
    const char *qrels;       /* lines of question, document, grade; a first line may name them */
    const char *run;         /* file to write for trec_eval; NULL: none */
    const char *refuse;      /* JSON lines of questions that are not answered here; NULL: none */
    rotor_engine *reranker;  /* as in rotor_rag_query. It reads passages: implies chunked */
    uint32_t rerank_n;       /* passages it judges, at most 200; 0: 20 */
    uint32_t rerank_ms;      /* milliseconds a question may take it; 0: any number */
} rotor_rag_eval_options;

/* Means over the questions that have a relevant document. */
typedef struct rotor_rag_scores {
    double ndcg10, recall100, mrr10, map100; /* as trec_eval counts them */
    double recall10;                         /* of the first ten */
    uint64_t n_queries;                      /* questions that count */
    double refused, refused_strangers;       /* parts of them and of `refuse` that would be refused
                                                (rotor_rag_hits.relevant); 0 without `refuse` */
    uint64_t n_strangers;                    /* questions of `refuse` */
    uint64_t query_us, worst_us;             /* median and 95th percentile without embedding */
    uint64_t lex_us, vec_us;                 /* medians of the legs */
} rotor_rag_scores;
ROTOR_API rotor_status rotor_rag_eval(rotor_rag *r, const rotor_rag_eval_options *opt,
                                      rotor_rag_scores *out, rotor_error *err);

/* ---- Measuring ------------------------------------------------------------------------------- */

typedef struct rotor_rag_bench_options {
    uint32_t size;        /* sizeof(rotor_rag_bench_options) */
    uint32_t n_passages;  /* of a store that is made up in memory; default 100,000 */
    uint32_t dims;        /* floats of a vector; default 384 */
    uint32_t n_questions; /* asked of it; default 100 */
    uint64_t seed;        /* the same seed, the same store and questions; default 0 */
    const char *cpu;      /* highest CPU level to use; NULL: all */
} rotor_rag_bench_options;
ROTOR_API rotor_rag_bench_options rotor_rag_bench_options_default(void);

typedef struct rotor_rag_bench_times {
    double median_us, p95_us; /* of the questions */
} rotor_rag_bench_times;
typedef struct rotor_rag_bench_result {
    rotor_rag_bench_times vector; /* the hundred nearest passages */
    rotor_rag_bench_times words;  /* the hundred best by BM25 */
    rotor_rag_bench_times hybrid; /* a whole search, all but embedding and reading of texts */
    rotor_rag_bench_times whole;  /* vector where every row of bytes is read */
    double read_us;               /* reading those bytes once, in order, the best of five times */
    double recall10; /* part of the ten nearest by floats that are the first ten of vector */
    double scored;   /* rows of bytes that vector read, on average */
} rotor_rag_bench_result;
/* How long searches take here, on one thread. ROTOR_E_ARG: a number is 0 or too large. */
ROTOR_API rotor_status rotor_rag_bench(const rotor_rag_bench_options *opt,
                                       rotor_rag_bench_result *out, rotor_error *err);

#ifdef __cplusplus
}
#endif
#endif
