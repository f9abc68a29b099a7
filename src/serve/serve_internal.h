/* SPDX-License-Identifier: MIT
 *
 * serve, inside: who does what.
 *
 *   server.c    the socket, the threads, beginning and end
 *   http.c      one exchange: reads the body, finds the route, sends the reply
 *   patience.c  how long a request may take to arrive
 *   guard.c     who may ask: Host, Origin, key, content type
 *   routes.c    the route table
 *   prepare.c   a body becomes a call: model, request, tokens (connection's thread)
 *   worker.c    the one thread that owns engines and batches
 *   librarian.c  the one thread that reads and changes knowledge stores
 *   rewrite.c   a question is rewritten by a model before it is searched for
 *   sleep.c     models that are released while nobody uses them
 *   rules_cache.c  grammars that come again
 *   held.c      tokens whose text the reader of calls holds back
 *   jobs.c      one answer on the worker: from the batch's callbacks to events
 *   stream.c    the bytes between worker and connection
 *   door.h   the door for protocols
 *
 * A call belongs to two threads: its connection's and, once submitted, the worker's (before that,
 * of one that searches, the librarian's). What both touch is under inside->lock: bytes that wait to
 * be sent, and who is still interested. The connection sleeps (MHD suspends it) while there is
 * nothing to send. Whoever lets go last frees. Lock order: who holds a call's does not take
 * server.lock.
 */
#ifndef SERVE_INTERNAL_H
#define SERVE_INTERNAL_H

#include <stdatomic.h>

#include "rotor_batch.h"
#include "serve/door.h"
#include "serve/late_mhd.h"
#include "serve/response_store.h"
#include "serve/serve.h"

typedef struct serve_job serve_job;
typedef struct serve_exchange serve_exchange;
typedef struct serve_replay serve_replay;
typedef struct serve_grounds serve_grounds;
typedef struct serve_rules serve_rules;
typedef struct serve_held serve_held;
typedef struct serve_visitor serve_visitor;
typedef struct serve_patience serve_patience;

enum { SERVE_DEPTH_MAX = 256, SERVE_STOPS_MAX = 16, SERVE_N_MAX = 8, SERVE_TOP_MAX = 20 };
enum { SERVE_SILENT_S = 60 }; /* a connection on which nothing moves is closed */

/* What a model runs on; all NULL while it sleeps. */
typedef struct serve_engines {
    rotor_engine *engine;  /* writes text, owned; NULL: it does not */
    rotor_engine *vectors; /* makes vectors, owned; NULL: it does not */
    rotor_batch *batch;    /* of engine; the worker's */
} serve_engines;

typedef struct serve_model {
    const char *id;        /* served name; borrowed */
    rotor_engine *engine;  /* writes text, owned; NULL: it does not */
    rotor_engine *vectors; /* makes vectors, owned; NULL: it does not */
    rotor_batch *batch;    /* of engine; the worker's */
    /* Known as long as the server lives, also while the engines are closed: */
    rotor_engine_info info;   /* of engine, or else of vectors; its texts in facts */
    base_buf facts;           /* owned */
    rotor_gen_options usual;  /* sampling when nothing is said */
    bool writes, embeds;      /* it has engine, vectors, when it is awake … */
    bool ranks;               /* … or these are a cross-encoder's, which makes scores instead */
    bool parts;               /* its answers have parts */
    _Atomic uint32_t longest; /* bytes of its longest token; 0: not looked for yet */
    /* Under server.lock: */
    enum {
        SERVE_ASLEEP,
        SERVE_WAKING,
        SERVE_AWAKE,
        SERVE_LOADED,
        SERVE_BROKEN
    } state;          /* of the engines */
    uint32_t n_held;  /* calls that are not freed yet */
    uint64_t used_us; /* when it was last asked for, or let go */
    uint64_t keep_us; /* of not being held, until it sleeps; SERVE_NEVER */
    uint64_t n_loads; /* how often it was opened */
    /* The worker's, and the loader's while there is one: */
    base_thread *loader;         /* SERVE_WAKING: opens it; owned */
    rotor_error why;             /* SERVE_BROKEN: of what */
    serve_engines fresh;         /* SERVE_LOADED: what it opened */
    struct serve_server *server; /* for the loader */
} serve_model;

/* Passages of a store that wait for their vectors. */
typedef struct serve_due {
    bool wanted;       /* there may be some */
    rotor_status told; /* why it does not go, as it was said; ROTOR_OK: it goes */
    uint64_t next_us;  /* not before */
    uint64_t pause_us; /* after another failure to reach what is needed; 0: none yet */
} serve_due;

typedef enum serve_state { SERVE_LOADING, SERVE_READY, SERVE_FAILED } serve_state;

enum { SERVE_BUCKETS = 14 };
typedef struct serve_histogram {
    uint64_t at[SERVE_BUCKETS]; /* observations up to the bound of each bucket, not summed up */
    uint64_t n;                 /* observations */
    double sum;                 /* of them, in seconds */
} serve_histogram;

typedef struct serve_metrics {
    uint64_t requests[8];          /* by the first digit of the status */
    uint64_t prompt_tokens;        /* evaluated */
    uint64_t cached_tokens;        /* found in the cache */
    uint64_t made_tokens;          /* generated */
    uint64_t dropped_tokens;       /* by truncation */
    uint64_t prompt_us;            /* time for prompts, sum over calls */
    uint64_t made_us;              /* time for generated tokens, sum over calls */
    uint64_t steps;                /* of batches */
    uint64_t step_jobs;            /* jobs in them */
    uint64_t cancelled;            /* calls whose client left */
    uint64_t rewritten;            /* questions that a model wrote anew … */
    uint64_t not_rewritten;        /* … and that stayed as they were though that was asked */
    uint64_t longest;              /* tokens of the longest timeline */
    uint64_t rules_known;          /* grammars that were there already */
    uint64_t rules_made;           /* that were not */
    uint32_t rules;                /* that are kept */
    uint32_t running;              /* calls being worked on */
    uint32_t waiting;              /* calls in the queue */
    uint64_t docs_put;             /* documents that requests put into stores … */
    uint64_t docs_removed;         /* … and took out … */
    uint64_t vectors_made;         /* … and passages that were embedded for that */
    double cache_use;              /* share of the cache, of the fullest model */
    rotor_batch_prefixes prefixes; /* of all models … */
    rotor_batch_prefixes slept;    /* … with the counters of batches that were closed */
    serve_histogram first;         /* to the first token */
    serve_histogram between;       /* from one token to the next */
    serve_histogram whole;         /* whole calls */
} serve_metrics;

struct serve_server {
    serve_options opt;         /* as given */
    struct MHD_Daemon *daemon; /* owned */
    uint16_t port;             /* where it listens */
    base_ip reach;             /* from where it can be reached */
    bool by_path;              /* it listens at a path: no page and no other machine gets there */
    base_node socket;          /* by_path: which file our socket's name was given to */
    base_caged caged;          /* what it has given up … */
    char cage_line[200];       /* … in words */
    serve_model *models;       /* [opt.n_models], owned; steady once ready */
    _Atomic int state;         /* serve_state */
    _Atomic uint32_t loaded;   /* models that are open */
    _Atomic bool cut_told;     /* that volatile lines are cut from prompts */
    _Atomic bool closing;      /* no new requests */
    _Atomic uint32_t n_open;   /* exchanges under way */
    int64_t started_s;         /* Unix time */
    uint8_t (*keys)[32];       /* [opt.n_keys] digests of the keys, owned */
    serve_store *responses;    /* that clients may come back to, owned */
    base_thread *librarian;    /* reads the shelves; owned; NULL: there are none */
    base_thread *ringer;       /* pings for those who wait for that; owned; NULL likewise */
    serve_patience *patience;  /* watches who sends; owned */
    base_thread *worker;       /* owned */
    base_mutex *lock;          /* guards what follows */
    base_cond *wake;           /* something has come for the worker */
    rotor_error why;           /* SERVE_FAILED: of what */
    serve_call *queue;         /* submitted, not yet seen by the worker; oldest first */
    serve_call *searches;      /* submitted, not yet seen by the librarian; oldest first */
    serve_due *due;            /* [opt.n_shelves] the librarian's; owned */
    serve_call *searching;  /* what the librarian has in hand, the last one first; NULL: nothing */
    uint64_t in_hand;       /* shelves of these (serve_shelf_bit); the librarian's, like … */
    uint32_t depth;         /* … how many wait for a store's server */
    bool quit_searching;    /* the librarian ends */
    uint32_t n_calls;       /* submitted, and not ended … */
    uint32_t n_waiting;     /* … of which not begun */
    bool cut;               /* end all calls now */
    bool quit;              /* the worker ends when it has no calls */
    serve_replay *replay;   /* last answers; owned */
    serve_rules *rules[32]; /* grammars that come again; held */
    uint64_t rules_clock;   /* how often they were asked for */
    serve_metrics metrics;  /* what has happened */
};

/* ---- Calls (stream.c) ------------------------------------------------------------------------ */

typedef struct serve_inside {
    serve_server *s;             /* server */
    serve_model *model;          /* that answers; NULL: none yet */
    serve_model *held;           /* that is kept awake by this call; NULL: none */
    void **kept;                 /* [n_kept] memory that lives as long as the call; owned */
    size_t n_kept, cap_kept;     /* how many; room */
    serve_grounds *grounds;      /* what a knowledge store had for it; owned; NULL: not asked */
    serve_rules *rules;          /* what answers are kept to; held; NULL: nothing */
    serve_rules *call_rules;     /* and calls that are no part of them; likewise */
    base_mutex *lock;            /* guards up to the next chapter */
    int refs;                    /* threads that hold it */
    struct MHD_Connection *conn; /* who reads; NULL: has left */
    int fd;                      /* its socket */
    bool asleep;                 /* suspended until bytes come */
    base_buf out;                /* bytes for it */
    size_t out_at;               /* of which so many are sent */
    bool ended;                  /* no more will come */
    bool again;                  /* with ended: the handler is to be run again */
    bool streaming;              /* it waited for a model, and what comes now is a stream */
    int status;                  /* HTTP, of a whole reply; set with ended */
    int retry_s;                 /* Retry-After; 0: none */
    bool searches;    /* it goes by way of the librarian; set before it is submitted … */
    uint64_t shelves; /* … with the shelves it may use (serve_shelf_bit); 0: none */
    /* The worker's (before, the librarian's): */
    serve_call *next;            /* in its list */
    serve_job *jobs;             /* [n_choices], kept */
    size_t n_running;            /* choices in the batch */
    size_t n_ended;              /* choices that have ended */
    bool waking;                 /* it waits until its model is there */
    bool generates;              /* it is read then; else the handler is run again */
    bool may_stream;             /* what it asks for is a stream, by the looks of it */
    uint64_t load_us;            /* how long it waited for that */
    bool begun;                  /* it has left the queue */
    bool cancelled;              /* everything is to end */
    bool failed;                 /* a fault has been told */
    bool told;                   /* metrics know that it was cancelled */
    base_buf scratch;            /* an event's bytes; owned */
    uint64_t submitted_us;       /* when it came */
    uint64_t first_us;           /* when its first token came; 0: not yet */
    uint64_t last_us;            /* when something was last sent */
    void (*task)(serve_call *c); /* instead of answers: a piece of work, until it has replied */
    void *task_state;            /* its own, kept */
    serve_call *parent;          /* this call writes a question anew for that one, which waits for
                                    it and is nobody else's meanwhile; NULL: it is somebody's own */
} serve_inside;

struct serve_job {
    serve_call *c;          /* of which this is a choice */
    serve_choice *choice;   /* what comes */
    uint32_t handle;        /* in the batch; 0: not there */
    rotor_gen_options gen;  /* with callbacks */
    rotor_reply *reply;     /* takes the answer apart; NULL: it has no parts */
    serve_held *held;       /* tokens of which text may still come; owned; NULL: nobody asks */
    rotor_rag_marks *marks; /* takes numbers of no source out; owned; NULL: nothing to do */
    bool thinking;          /* what comes is thought */
    bool started, prompted; /* in the batch; past its prompt */
    uint64_t token_us;      /* when its last token came */
    uint64_t made_start_us; /* when its first one came */
    uint32_t prev;          /* last token, for texts of alternatives */
};

serve_call *serve_call_create(serve_server *s);
void serve_call_release(serve_call *c);
/* Bytes for the connection; ends: the last. False: they cannot be kept, or nobody reads. */
bool serve_call_send(serve_call *c, const void *p, size_t n_bytes, bool ends);
/* A whole reply of status and body, which it releases. */
void serve_call_reply(serve_call *c, int status, json_t *body);
void serve_call_fault(serve_call *c, const serve_fault *f);
/* What was to be a whole reply, by all that was known, is a stream. */
void serve_begin_stream(serve_call *c);
/* Nobody reads any more. */
bool serve_call_left(serve_call *c);

/* ---- Worker (worker.c, jobs.c) --------------------------------------------------------------- */

void serve_worker_main(void *server);
/* What a batch has counted, onto sum; b may be NULL. */
void serve_add_prefixes(rotor_batch_prefixes *sum, const rotor_batch *b);
/* Hands the call to the worker, or first to the librarian. False: the queue is full, or the server
 * is closing. */
bool serve_submit(serve_call *c, serve_fault *f);
/* Tells the call's dialect, and sends what it says. */
void serve_emit(serve_call *c, const serve_event *e);
rotor_status serve_job_start(serve_job *j, rotor_error *err);
/* The batch is done with it. */
void serve_job_end(serve_job *j);
/* It ends without a token. */
rotor_status serve_job_skip(serve_job *j, rotor_error *err);
void serve_job_free(serve_job *j);
/* A token with its alternatives, kept with the choice; NULL: out of memory. */
const serve_token *serve_keep_token(serve_job *j, const char *text, size_t n_bytes,
                                    const rotor_token *token, const rotor_token *top, size_t n_top);
/* More of the answer, with its token (NULL: of another one, or none). False: out of memory. */
bool serve_put_text(serve_job *j, const char *text, size_t n_bytes, const serve_token *kept);
/* held.c: the same where calls are looked for and log-probabilities asked for: text that has been
 * let go, and a token that has been read (NULL: the end). */
serve_held *serve_held_create(void); /* NULL: out of memory */
void serve_held_free(serve_held **out);
bool serve_hold_back(serve_job *j, base_str text, const rotor_token *token, const rotor_token *top,
                     size_t n_top);
bool serve_hold_end(serve_job *j); /* no more text comes */
/* What id adds behind the token before it (ROTOR_NO_ID: there is none), free with rotor_free; NULL:
 * out of memory. */
char *serve_text_behind(const rotor_engine *e, uint32_t prev, uint32_t id);
/* echo.c: puts the prompt in front of the answer. */
rotor_status serve_echo(serve_job *j, rotor_error *err);

/* ---- Models that sleep (sleep.c) --------------------------------------------------------------
 */

rotor_status serve_open_model(serve_server *s, serve_model *m, rotor_error *err);
/* Once no thread looks at them any more. */
void serve_close_models(serve_server *s);
/* Makes m the call's, awake until the call is freed. False: it sleeps; the call is to be handed
 * over as it is, and the handler to end. */
bool serve_hold(serve_call *c, serve_model *m);
void serve_let_go(serve_call *c);
/* For so long after its use the call's model stays, instead of the usual. */
void serve_keep_for(serve_call *c, uint64_t us);
bool serve_is_awake(serve_server *s, const serve_model *m);
/* Under server.lock: until m may sleep, until the first of all may. */
uint64_t serve_until_sleep(const serve_model *m);
uint64_t serve_next_sleep(serve_server *s);
/* The worker's, in every turn: opens what is waited for, closes what nobody uses. */
void serve_tend_models(serve_server *s, serve_call *calls);
void serve_end_loading(serve_server *s);
/* A call that is to be handed over though its model sleeps. */
void serve_wait_for_model(serve_call *c);
/* Whether what it asks for is a stream, by the looks of its body. */
bool serve_may_stream(const serve_call *c);
/* A comment, where it is (may_stream), before anybody knows what will come. */
void serve_ping_early(serve_call *c, const char *comment);
/* It ends with a fault: a whole reply, or the end of a stream that has begun. */
void serve_refuse_waiting(serve_call *c, const serve_fault *f);

/* ---- Answers that come back (recall.c) --------------------------------------------------------
 */

serve_replay *serve_replay_create(void); /* NULL: out of memory */
void serve_replay_free(serve_replay **r);
/* An answer has ended by itself. */
void serve_remember(const serve_job *j, const rotor_gen_result *result);
/* Gives answers among turns[p->n_turns], all turns of p, the ids they were generated as, where they
 * are known and all before them is the same. Makes p->said. False: out of memory. */
bool serve_recall(serve_call *c, serve_prompt *p, rotor_turn *turns);

/* ---- Knowledge (knowledge.c) ------------------------------------------------------------------
 */

/* librarian.c: the thread that searches. Its end: what still waits is refused. */
rotor_status serve_start_librarian(serve_server *s, rotor_error *err);
void serve_end_librarian(serve_server *s);
/* Whether a call whose body is parsed reads a store: then it is prepared by the librarian. */
bool serve_wants_search(const serve_call *c);
uint64_t serve_wanted_shelves(const serve_call *c);
/* Of a set of shelves; the last of very many share one. */
static inline uint64_t serve_shelf_bit(size_t i) { return UINT64_C(1) << BASE_MIN(i, (size_t)63); }
/* A store could not be used. What it says may name servers, users and folders, and repeat what
 * another server has said: it is logged, and f gets general words. q: what was searched for, or
 * NULL. False. */
bool serve_store_failed(const serve_server *s, const rotor_rag_query *q, const rotor_error *err,
                        serve_fault *f);
/* Those that an object with "store" or "stores" may name; all, where it names none that there is.
 */
uint64_t serve_shelves_of(const serve_server *s, json_t *object);
/* The store of that name; NULL: the only one. SIZE_MAX: *f. */
size_t serve_find_shelf(const serve_server *s, const char *name, serve_fault *f);
/* Whether a search waits for its question to be rewritten: what serve_read_rag and serve_ground
 * have left undone. Then serve_rewrite takes the call, or it goes on at once. */
bool serve_wants_rewriting(const serve_call *c);
/* rewrite.c: hands a generation that rewrites the last turn of c to the worker. False: c goes on as
 * it is. Otherwise c comes back to the librarian. */
bool serve_rewrite(serve_call *c);
/* The worker's: the generation has ended; its parent goes back to the librarian. */
void serve_end_rewriting(serve_call *c);
extern const serve_dialect serve_rewrite_dialect;
/* The librarian's queue again, or, where it has ended, refused. Not under server.lock. */
void serve_search_again(serve_call *c);
/* The prompt that asks for it; NULL: there is none. And what came of it (NULL: nothing). */
char *serve_rewriting_prompt(const serve_call *c);
void serve_put_rewritten(serve_call *c, const char *said, size_t n_bytes);
/* How a body wants to search: stores, k, mode_of_search … `at` may have no object. */
typedef struct serve_search {
    rotor_rag *r[ROTOR_RAG_STORES];     /* [n] stores, in order; a name that comes again is one */
    const char *name[ROTOR_RAG_STORES]; /* [n] theirs; borrowed */
    size_t n;                           /* how many */
    rotor_rag_query q;                  /* with k, mode, filter */
} serve_search;
/* The name of the only store; null of several. */
json_t *serve_store_name(const serve_search *how);
json_t *serve_store_names(const serve_search *how);
bool serve_read_search(serve_call *c, serve_at at, serve_search *out, serve_fault *f);
/* The "rag" object of a conversation that has been read: searches, on this thread, which is the
 * librarian's, and puts what was found into the last turn. After the sampling fields. */
bool serve_read_rag(serve_call *c, serve_at at, serve_fault *f);
/* The same for a question, which becomes the call's conversation. strict: without fitting sources
 * no model is asked. */
bool serve_ground(serve_call *c, serve_at at, const char *question, bool strict, serve_fault *f);
/* The search that was put off. */
bool serve_ground_rest(serve_call *c, serve_fault *f);
/* What was found, and of an answer (NULL: none yet) its citations; NULL: nothing was asked. */
json_t *serve_grounds_json(const serve_call *c, const serve_choice *ch);
/* What is answered where no model is asked; NULL: it is. */
const char *serve_instead(const serve_call *c);
/* The answer's text as it may be sent; text NULL: the end. */
const char *serve_mark(serve_job *j, const char *text, size_t *n_bytes);
void serve_grounds_free(serve_grounds *g);

/* ---- Rules that come again (rules_cache.c) ----------------------------------------------------
 */

typedef struct serve_rules_wish {
    rotor_grammar_kind kind; /* of rules that are no calls */
    const char *text;        /* the rules, or tools of calls */
    bool calls;              /* of calls … */
    bool required, single;   /* … see rotor_call_options */
} serve_rules_wish;
/* Rules for the call's answers, known or new; they go with the call. */
rotor_status serve_rules_take(serve_call *c, const serve_rules_wish *w, rotor_error *err);
void serve_rules_release(serve_call *c);
/* The worker's: an answer has ended; failed: with an error. */
void serve_rules_review(serve_call *c, bool failed);
/* The model's engine is about to go, and nobody holds it. */
void serve_rules_forget(serve_server *s, const serve_model *m);

/* ---- Exchanges (http.c) ---------------------------------------------------------------------- */

enum {                   /* flags of a route */
       SERVE_ANYONE = 1, /* no key needed */
       SERVE_EARLY = 2,  /* answered while models load */
       SERVE_TAIL = 4    /* something follows the path: /v1/models/NAME */
};
typedef struct serve_route {
    const char *method;                /* "GET", "POST" */
    const char *path;                  /* normal form; a star stands for any one part */
    void (*handle)(serve_exchange *x); /* the body is there */
    const serve_dialect *dialect;      /* of its calls and errors; NULL: OpenAI's errors */
    unsigned flags;                    /* SERVE_… */
} serve_route;

struct serve_exchange {
    serve_server *s;             /* server */
    struct MHD_Connection *conn; /* connection */
    const serve_route *route;    /* NULL: none */
    const char *tail;            /* SERVE_TAIL: what follows the path; of a path with stars, where
                                    the first begins; in path */
    char path[256];              /* as asked for, in normal form … */
    bool cut;                    /* … but for what did not fit */
    char method[12];             /* as asked for */
    char id[40];                 /* x-request-id */
    const char *origin;          /* page that asks and may; NULL: none does */
    base_buf body;               /* what was sent … */
    uint64_t body_bytes;         /* … and how much, with what was not kept */
    bool refused;                /* fault tells why */
    serve_fault fault;           /* with refused */
    bool dispatched;             /* the handler has run */
    bool replied;                /* a response is queued */
    int status;                  /* of the response */
    uint64_t sent_bytes;         /* of its body, where that is known */
    serve_call *call;            /* being worked on; NULL: none */
    bool waits;                  /* it met a sleeping model, or goes by way of the librarian */
    uint64_t start_us;           /* when it began */
};

/* patience.c: us for headers, and for a body beside what its size takes. */
rotor_status serve_patience_begin(serve_patience **out, uint64_t us, rotor_error *err);
void serve_patience_end(serve_patience **out);
/* Called by libmicrohttpd when a connection begins and ends. */
void serve_visit(void *server, struct MHD_Connection *conn, void **socket,
                 enum MHD_ConnectionNotificationCode what);
/* The headers are there, more of the body, all of it; the exchange is over. */
void serve_expect_body(serve_exchange *x);
void serve_note_body(serve_exchange *x, size_t n_bytes);
void serve_expect_nothing(serve_exchange *x);
void serve_expect_next(serve_exchange *x);
/* Called by libmicrohttpd. */
enum MHD_Result serve_handle(void *server, struct MHD_Connection *conn, const char *url,
                             const char *method, const char *version, const char *upload_data,
                             size_t *upload_data_size, void **exchange);
void serve_done(void *server, struct MHD_Connection *conn, void **exchange,
                enum MHD_RequestTerminationCode why);
/* Replies. They may be used once for an exchange. */
void serve_reply_json(serve_exchange *x, int status, json_t *body); /* releases body */
void serve_reply_bytes(serve_exchange *x, int status, const char *type, const void *p,
                       size_t n_bytes);
void serve_reply_fault(serve_exchange *x, const serve_fault *f);
/* Static bytes and their headers, the last of which has no name. */
typedef struct serve_header {
    const char *name, *value; /* as they are sent */
} serve_header;
void serve_reply_static(serve_exchange *x, int status, const void *p, size_t n_bytes,
                        const serve_header *headers);

/* guard.c. False: *f says why not. */
bool serve_guard(serve_exchange *x, serve_fault *f);
bool serve_key_fits(const serve_server *s, struct MHD_Connection *conn);
/* Is the page allowed to ask? *out: what to answer it, NULL: nothing. */
bool serve_origin_fits(const serve_server *s, const char *origin, const char *host,
                       const char **out);
bool serve_host_fits(const serve_server *s, const char *host);
/* "application/json", with or without parameters. */
bool serve_is_json_type(const char *content_type);

/* routes.c */
const serve_route *serve_route_at(size_t i); /* NULL past the end */
/* Brings a path into normal form: /v1 once, no slash at the end. */
void serve_normal_path(const char *url, char *out, size_t cap);
/* The route; NULL: there is none, and *allow lists methods (NULL: the path is unknown). */
const serve_route *serve_find_route(const char *method, const char *path, const char **tail,
                                    char allow[48]);

/* prepare.c */
/* The model of that name ("NAME:latest" is NAME), or the only one; NULL: *f. */
serve_model *serve_find_model(serve_server *s, const char *name, serve_fault *f);
/* A JSON object of bounded depth. */
bool serve_parse(const base_buf *text, json_t **out, serve_fault *f);
/* What the body asks for, by the call's dialect. */
bool serve_read_call(serve_call *c, const base_buf *body, serve_fault *f);
/* From the body to what the worker needs, for a call whose dialect is set. False without *f: its
 * model sleeps, or it is the librarian's (inside->waking, searches); it is to be handed over. */
bool serve_prepare(serve_call *c, const base_buf *body, serve_fault *f);
/* The same for a call whose model was asleep, once it is there; or for the librarian. A search that
 * waits for its question (serve_wants_rewriting) is not ready then, but after serve_prepare_search.
 */
bool serve_prepare_rest(serve_call *c, serve_fault *f);
bool serve_prepare_search(serve_call *c, serve_fault *f);
/* A conversation of one turn for the worker, on a model that is held; greedy as it may be. */
bool serve_prepare_turn(serve_call *c, const char *content, const rotor_gen_options *gen,
                        serve_fault *f);
/* The prompt's tokens; *f when they do not fit. */
bool serve_make_tokens(serve_call *c, serve_prompt *p, serve_fault *f);
/* gap.c: tokens of a text with a suffix. */
bool serve_fill_tokens(serve_call *c, serve_prompt *p, serve_fault *f);
/* Gives a call that was read well (ok) to the worker, or answers with *f. c may be NULL then. */
void serve_hand_over(serve_exchange *x, serve_call *c, bool ok, serve_fault *f);
/* The handler of routes with a dialect that generates. */
void serve_generate(serve_exchange *x);

/* Handlers of the rest. */
/* Whether models are open and the end has not begun; *f: why not. */
bool serve_is_up(serve_server *s, serve_fault *f);
void serve_get_health(serve_exchange *x);
void serve_get_models(serve_exchange *x);
void serve_get_model(serve_exchange *x);
void serve_get_page(serve_exchange *x); /* page_route.c */
void serve_get_icon(serve_exchange *x);
void serve_get_props(serve_exchange *x);
void serve_get_slots(serve_exchange *x);
void serve_get_version(serve_exchange *x);
void serve_get_metrics(serve_exchange *x);
void serve_post_tokenize(serve_exchange *x);
void serve_post_detokenize(serve_exchange *x);
void serve_post_apply_template(serve_exchange *x);
void serve_post_embeddings(serve_exchange *x);
void serve_post_rerank(serve_exchange *x);
void serve_get_stores(serve_exchange *x); /* rag_routes.c */
void serve_post_search(serve_exchange *x);
/* A call whose body was read well (ok) becomes the librarian's task where there are shelves, else
 * the worker's, who has nothing to read then. */
void serve_hand_task(serve_exchange *x, serve_call *c, void (*task)(serve_call *), bool ok,
                     serve_fault *f);
void serve_get_documents(serve_exchange *x); /* rag_write.c */
void serve_put_document(serve_exchange *x);
void serve_delete_document(serve_exchange *x);
void serve_post_embed(serve_exchange *x);         /* Ollama's */
void serve_post_one_embedding(serve_exchange *x); /* its older one */

/* Dialects. */
extern const serve_dialect serve_chat_dialect;
extern const serve_dialect serve_text_dialect;
extern const serve_dialect serve_rag_dialect;
extern const serve_dialect serve_native_dialect; /* llama-server's own */
extern const serve_dialect serve_infill_dialect; /* likewise */
extern const serve_dialect serve_responses_dialect;
void serve_get_response(serve_exchange *x);
void serve_delete_response(serve_exchange *x);
extern const serve_dialect serve_messages_dialect;
void serve_count_messages(serve_exchange *x);

/* Ollama (ollama.c, ollama_models.c) */
extern const serve_dialect serve_ollama_chat_dialect;
extern const serve_dialect serve_ollama_text_dialect;
extern const serve_dialect serve_ollama_dialect; /* of errors only */
json_t *serve_ollama_fault(const serve_fault *f);
/* keep_alive: how long the call's model stays after it, if it is said. */
bool serve_read_keep_alive(serve_call *c, serve_at top, serve_fault *f);
void serve_put_time(char out[32], int64_t unix_s); /* "2025-06-28T12:00:00Z" */
void serve_get_tags(serve_exchange *x);
void serve_get_ps(serve_exchange *x);
void serve_get_ollama_version(serve_exchange *x);
void serve_post_show(serve_exchange *x);
void serve_post_pull(serve_exchange *x);

/* metrics_route.c */
void serve_observe(serve_histogram *h, double seconds);

/* serve_log.c */
void serve_log(const serve_server *s, int level, const char *fmt, ...) BASE_PRINTF(3, 4);
/* The same for a text of any length behind a label. */
void serve_log_text(const serve_server *s, int level, const char *label, const char *text);
/* One line for an exchange that is over. */
void serve_log_exchange(const serve_exchange *x, int status);

#endif
