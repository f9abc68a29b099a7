/* SPDX-License-Identifier: MIT
 *
 * serve: an HTTP server over the public API. One socket, one worker that owns the engines, and for
 * each protocol (OpenAI, Anthropic, Ollama …) one file that translates (door.h).
 *
 * The server is up before its models are: until they are open, /health says so. It prints nothing
 * and installs no signal handlers; who starts it decides when it ends.
 * Threading: these functions are called by one thread; the callbacks by others.
 */
#ifndef SERVE_H
#define SERVE_H

#include "base/base.h"
#include "base/service.h"
#include "rotor.h"
#include "rotor_rag.h"

typedef struct serve_server serve_server;
#define SERVE_NEVER UINT64_MAX /* of times: there is no end */

/* A knowledge store that requests may name. */
typedef struct serve_shelf {
    const char *name; /* as requests name it */
    rotor_rag *r;     /* open for reading, or shared; only the server uses it until serve_close */
    bool write;       /* shared: requests may put documents in and take them out */
    bool embeds;      /* it has an embedder */
    bool far;         /* it is on a server */
} serve_shelf;

typedef struct serve_options {
    const char *host;           /* address or name to listen at, or "unix:PATH"; NULL: 127.0.0.1 */
    uint16_t port;              /* 0: any free one */
    int given_fd;               /* listens already, and host and port do not count; -1: none */
    const base_sandbox *cage;   /* entered before anything is read from anybody; NULL: none … */
    bool must_cage;             /* … without which it does not start */
    const char *no_cage;        /* why there is none, for those who ask; NULL: nobody wanted one */
    const char *const *keys;    /* [n_keys] one of these must come with a request … */
    size_t n_keys;              /* … 0: nothing must */
    bool insecure;              /* listen beyond this machine without a key */
    const char *const *hosts;   /* [n_hosts] further names we are known by */
    size_t n_hosts;             /* how many */
    const char *const *origins; /* [n_origins] web pages that may ask us; "*": all of them */
    size_t n_origins;           /* how many */
    const char *tls_cert;       /* PEM text; NULL: no TLS */
    const char *tls_key;        /* PEM text */
    const char *const *models;  /* [n_models] names under which they are served */
    size_t n_models;            /* at least 1 */
    /* Opens model i, for text or (embed) for vectors; called by the worker, in order. */
    rotor_status (*open)(void *user, size_t i, bool embed, rotor_engine **out, rotor_error *err);
    void (*log)(void *user, int level, const char *line); /* as rotor_engine_options.log */
    void *user;                                           /* passed to both */
    uint32_t parallel;                                    /* answers at once, per model */
    uint32_t max_queue;                                   /* requests that wait for a place */
    uint32_t max_connections;                             /* sockets */
    size_t max_body_bytes;                                /* of a request */
    uint64_t request_us; /* for a request's headers to come, and for a body beside its size */
    uint32_t ping_us;    /* silence after which a stream says so */
    uint32_t step_us;    /* rotor_batch_options.step_us */
    uint64_t idle_us;    /* a model that is not used so long sleeps */
    const serve_shelf *shelves; /* [n_shelves] knowledge stores */
    size_t n_shelves;           /* how many */
    uint32_t rag_budget_tok;    /* most tokens of passages; 0: default */
    rotor_engine *reranker;     /* cross-encoder that orders what stores hold, used by the librarian
                                   alone; NULL: none */
    bool only_need; /* what only wants the last answer in another form is not searched for, unless
                       a request says so */
    bool rewrite;   /* a question that follows up is rewritten by the model first,
                       unless a request says another way */
    uint32_t rerank_n, rerank_ms; /* rotor_rag_query.rerank_n, _ms */
    const char *prefix_dir;       /* rotor_batch_options.prefix_dir … */
    uint64_t prefix_bytes;        /* … _bytes … */
    uint32_t prefix_min;          /* … and _min */
    bool embed;                   /* models that write make vectors, too */
    bool keep_volatile;           /* lines for accounts stay in prompts */
    bool strict_model;            /* an unknown model name is an error */
    bool log_json;                /* lines of the log are JSON objects */
    bool log_prompts;             /* and tell what was asked */
} serve_options;
serve_options serve_options_default(void);

/* Listens, and begins to open the models. Options are borrowed until serve_close. ROTOR_E_ARG: an
 * address beyond this machine without a key. */
rotor_status serve_start(serve_server **out, const serve_options *opt, rotor_error *err);
uint16_t serve_port(const serve_server *s); /* where it listens; 0: at a path */
/* "unix:PATH", or a path that ends in .sock, as llama-server takes it; NULL: an address. */
const char *serve_socket_path(const char *host);
/* "on: files, calls to the kernel", "off: …": the cage. */
const char *serve_cage_line(const serve_server *s);
bool serve_is_ready(const serve_server *s); /* all models are open */
/* Whether a model could not be opened, and why. */
bool serve_has_failed(serve_server *s, rotor_error *why);
/* Refuses new requests, lets answers go on for grace_us, ends what is left, and frees everything.
 * hurry() (may be NULL) is asked now and then whether to stop waiting. */
void serve_close(serve_server **s, uint64_t grace_us, bool (*hurry)(void));
/* For rotor_rag_options.go_on of a shelf: while its server is waited for, calls that want others
 * are served. False: the server ends, and nobody is to wait. On the thread that waits. */
bool serve_while_waiting(serve_server *s);
/* Loads the HTTP library: its version, static. ROTOR_E_UNSUPPORTED: it is not here, and why. */
rotor_status serve_library(const char **version, rotor_error *err);

#endif
