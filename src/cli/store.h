/* SPDX-License-Identifier: MIT
 *
 * Knowledge stores on the command line: opened by the verbs rag, chat and serve, and asked.
 */
#ifndef CLI_STORE_H
#define CLI_STORE_H

#include "cli/cli.h"
#include "hub/hub.h"
#include "rotor_rag.h"

typedef struct cli_store {
    const cli_args *a;     /* options */
    char *place;           /* folder or address of the store, password and all, owned */
    char *folder;          /* the same as it may be shown, owned */
    cli_model model;       /* that makes vectors */
    rotor_engine *e;       /* of it, owned; NULL: keywords only */
    bool borrowed;         /* e is another store's, which is closed later */
    hub_endpoint *far;     /* in place of e: a model on a server, owned; NULL: none */
    char *far_at;          /* its address, owned */
    char *kept_at;         /* where the store remembers the model of e, owned; NULL: e was named */
    base_log far_log;      /* what it has to say */
    rotor_rag *r;          /* owned */
    cli_progress progress; /* of adding */
} cli_store;

typedef struct cli_store_how {
    bool create, write, share;  /* as rotor_rag_options */
    bool model;                 /* the one that makes vectors is wanted, too */
    bool one_thread;            /* which gets a thread of its own: others use the processor */
    const rotor_engine *writer; /* it runs on the threads of this one; NULL: on its own */
    const char *label;          /* what hits call it; NULL: the last part of its folder */
    const cli_store *others;    /* [n_others] open already: a model of theirs is not opened again */
    size_t n_others;            /* how many */
    bool named_only;            /* a server is asked for vectors only if the user has named it */
    bool again;                 /* what did not go is tried again later: nobody waits for it now */
    bool (*go_on)(void *user); /* asked while its server, or that of its model, is waited for; NULL:
                                  until Ctrl-C */
    void *user;                /* of go_on */
} cli_store_how;
/* Until Ctrl-C. */
bool cli_goes_on(void *user);
/* Opens word as s->far. What is known of the store's model, where it is of that name, saves asking
 * the server at once; asked: it is on the command line. */
rotor_status cli_far_open(cli_store *s, const char *word, bool asked, const cli_store_how *how,
                          const rotor_rag_info *info, rotor_error *err);
/* The same as rotor_rag_open takes it, borrowed from s. */
rotor_rag_embedder cli_far_source(const cli_store *s);
/* Is it a store on a server? */
bool cli_is_address(const char *word);
/* word: a folder, an address, or a name for a folder under the user's data. s->a is set; closed
 * also after a failure. A remembered model that cannot be opened is a warning, one that was asked
 * for an error.
 */
rotor_status cli_store_open(cli_store *s, const char *word, const cli_store_how *how,
                            rotor_error *err);
void cli_store_close(cli_store *s);

/* Stores that are searched together. */
typedef struct cli_stores {
    cli_store list[ROTOR_RAG_STORES]; /* [n] owned */
    rotor_rag *r[ROTOR_RAG_STORES];   /* [n] of these */
    size_t n;                         /* how many */
    cli_model judge_model;            /* of --rerank */
    rotor_engine *judge;              /* it, owned; NULL: none is wanted */
} cli_stores;
/* words: STORE[,STORE…]; what is a store as it stands is one, commas and all. Closed also after a
 * failure. */
rotor_status cli_stores_open(cli_stores *s, const cli_args *a, const char *words,
                             const cli_store_how *how, rotor_error *err);
void cli_stores_close(cli_stores *s);

/* Legs, fusion, filters, number of hits and limits of a reranker as the options say. */
rotor_rag_query cli_store_query(const cli_args *a);
/* The same with the stores' own reranker. */
rotor_rag_query cli_stores_query(const cli_stores *s);
/* Opens the cross-encoder of --rerank, which the caller closes; without that, nothing. m is freed
 * by the caller, also after a failure. */
rotor_status cli_judge_open(rotor_engine **out, const cli_args *a, cli_model *m,
                            const cli_store_how *how, rotor_error *err);

/* "notes/deck.md:5-7", "paper.pdf page 3", "corpus.jsonl 17" behind what is in out; of several
 * stores, which one before it: "papers: paper.pdf page 3". */
void cli_put_place(base_buf *out, const rotor_rag_hit *h, bool several);
/* "Deck › Battery": what a passage is about, title and headings, on one line. */
void cli_put_about(base_buf *out, const rotor_rag_hit *h);
/* Text of a document or a name: control characters, which would speak to the terminal, become ?. */
void cli_put_plain(base_buf *out, const char *s);
/* One JSON object on one line; releases v. */
int cli_json_line(const cli_args *a, struct json_t *v);
/* The sources of an answer, as a reader needs them: those it names, or all it was given. */
void cli_put_sources(base_buf *out, const rotor_rag_context *c, const rotor_rag_checked *checked,
                     bool several);
/* What is said where the store holds no answer. */
extern const char cli_not_in_documents[];
/* When to answer without fitting sources: --gate, else what the verb does. */
typedef enum cli_gate { CLI_GATE_STRICT, CLI_GATE_AUTO, CLI_GATE_ALWAYS } cli_gate;
cli_gate cli_gate_of(const cli_args *a, cli_gate fallback);

/* Whether --rewrite llm asks for a session beside that of the answers. */
bool cli_rewrites(const cli_args *a);
/* The last of turns[n] as the model e writes it, with --rewrite llm and where something was said
 * before; *out NULL, and at most a line in the log: it stays as it is. */
rotor_status cli_rewrite(const cli_args *a, rotor_engine *e, const rotor_turn *turns, size_t n,
                         char **out, rotor_error *err);

/* Says once that the model inside the program tells stories and answers nothing, and what does. */
void cli_say_story_model(const cli_args *a, const cli_model *m);

/* rotor rag ask */
int cli_rag_ask(cli_store *s); /* only its options count */
/* rotor rag bench: opens no store */
int cli_rag_bench(cli_store *s);

#endif
