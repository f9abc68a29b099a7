/* SPDX-License-Identifier: MIT
 *
 * rotor serve: models over HTTP, until Ctrl-C or SIGTERM. The first one lets answers go on for a
 * moment and then ends them; a second one does not wait.
 *
 * Started by systemd it takes the socket it is given (LISTEN_FDS) and says when it is ready
 * (NOTIFY_SOCKET): packaging/rotor.service.
 */
#define _POSIX_C_SOURCE 200809L
#include "cli/cli.h"
#include "cli/serve_cage.h"
#include "cli/store.h"
#include "serve/serve.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef ROTOR_HAVE_MICROHTTPD

enum { GRACE_US = 3000000, TICK_US = 50000 };

typedef struct hosted {
    const cli_args *a;              /* options */
    cli_model *models;              /* [n] where they are, owned */
    const char **names;             /* [n] how they are called, owned with their texts */
    size_t n;                       /* how many */
    base_buf keys;                  /* text of --api-key-file */
    const char **key;               /* [n_key] all keys, owned */
    size_t n_key;                   /* how many */
    cli_store *stores;              /* [n_shelves] of --rag, owned */
    serve_shelf *shelves;           /* [n_shelves] as requests name them, owned with their names */
    size_t n_shelves;               /* how many */
    cli_model judge_model;          /* of --rerank */
    rotor_engine *judge;            /* it, owned; NULL: none is wanted */
    base_buf cert, priv;            /* PEM texts */
    cli_cage cage;                  /* what it gives up */
    _Atomic(serve_server *) server; /* that uses them; NULL: none yet, or no more */
    int manager;                    /* socket to who watches over it; -1: nobody does */
} hosted;

/* That asked to end. A handler on one thread counts them, others read. */
static atomic_int n_signals;

static void on_signal(int sig) {
    (void)sig;
    atomic_fetch_add(&n_signals, 1);
}

static bool hurry(void) { return atomic_load(&n_signals) > 1; }

static void catch_signals(void) {
    struct sigaction act = {0};
    act.sa_handler = on_signal;
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

/* ==== What is served ========================================================================== */

/* The last part of a path, without the ending of model files. */
static char *name_of(const cli_model *m) {
    const char *from = m->path ? m->path : m->src.name;
    size_t n = strlen(from);
    while (n > 1 && from[n - 1] == '/') n--;
    size_t at = n;
    while (at && from[at - 1] != '/') at--;
    if (n - at > 5 && strncmp(from + n - 5, ".gguf", 5) == 0) n -= 5;
    return base_strndup(from + at, n - at);
}

static rotor_status find_models(hosted *h, rotor_error *err) {
    const cli_args *a = h->a;
    const size_t n = BASE_MAX(a->n_words ? a->n_words : a->n_many[OPT_MODELS], (size_t)1);
    h->models = base_alloc_array(n, sizeof *h->models);
    h->names = base_alloc_array(n, sizeof *h->names);
    if (!h->models || !h->names) return base_fail_nomem(err, "finding the models");
    for (size_t i = 0; i < n; i++) {
        const char *word = cli_word(a, i);
        if (!a->n_words && a->n_many[OPT_MODELS]) word = a->many[OPT_MODELS][i];
        ROTOR_TRY(cli_model_find(&h->models[i], word, err));
        h->n++;
        const char *alias = i < a->n_many[OPT_ALIAS] ? a->many[OPT_ALIAS][i] : NULL;
        h->names[i] = alias ? base_strdup(alias) : name_of(&h->models[i]);
        if (!h->names[i]) return base_fail_nomem(err, "finding the models");
        for (size_t k = 0; k < i; k++)
            if (strcmp(h->names[k], h->names[i]) == 0)
                return base_fail(err, ROTOR_E_ARG,
                                 "two models are called '%s': give each an --alias", h->names[i]);
    }
    return ROTOR_OK;
}

static rotor_status open_model(void *user, size_t i, bool embed, rotor_engine **out,
                               rotor_error *err) {
    const hosted *h = user;
    rotor_engine_options o = cli_engine_options(h->a);
    const uint32_t parallel = (uint32_t)cli_int(h->a, OPT_PARALLEL);
    o.embed = embed;
    o.max_sessions = parallel;
    o.max_logits = BASE_MAX(parallel, 16u);
    return cli_engine_open(out, h->a, &h->models[i], o, err);
}

/* Whether requests may change the store of that name. */
static bool may_change(const cli_args *a, const char *name) {
    for (size_t i = 0; name && i < a->n_many[OPT_RAG_WRITE]; i++)
        if (strcmp(a->many[OPT_RAG_WRITE][i], name) == 0) return true;
    return false;
}

/* Asked while the server of a store, or of its model, is waited for: the librarian looks after
 * others meanwhile, and stops when it is to end. */
static bool while_waiting(void *user) {
    hosted *h = user;
    serve_server *s = atomic_load(&h->server);
    return s ? serve_while_waiting(s) : !atomic_load(&n_signals);
}

/* "STORE" or "STORE,NAME"; the name is else the last part of the path. */
static rotor_status open_shelf(hosted *h, const char *word, rotor_error *err) {
    const char *comma = strrchr(word, ',');
    char *path = base_strndup(word, comma ? (size_t)(comma - word) : strlen(word));
    cli_store *s = &h->stores[h->n_shelves];
    serve_shelf *shelf = &h->shelves[h->n_shelves++];
    shelf->name = !path ? NULL : comma ? base_strdup(comma + 1) : base_last_part(path);
    shelf->write = may_change(h->a, shelf->name);
    const cli_store_how how = {.create = shelf->write,
                               .share = shelf->write,
                               .model = !cli_on(h->a, OPT_NO_EMBED),
                               .one_thread = true,
                               .label = shelf->name,
                               .named_only = true,
                               .others = h->stores,
                               .n_others = h->n_shelves - 1,
                               .go_on = while_waiting,
                               .user = h};
    s->a = h->a;
    rotor_status st =
        shelf->name ? cli_store_open(s, path, &how, err) : base_fail_nomem(err, "opening a store");
    shelf->r = s->r;
    shelf->embeds = s->e || s->far;
    shelf->far = cli_is_address(path);
    base_free(path);
    for (size_t i = 0; st == ROTOR_OK && i + 1 < h->n_shelves; i++)
        if (strcmp(h->shelves[i].name, shelf->name) == 0)
            st = base_fail(err, ROTOR_E_ARG,
                           "two stores are called '%s': --rag STORE,NAME gives one another name",
                           shelf->name);
    return st;
}

static bool is_shelf(const hosted *h, const char *name) {
    for (size_t i = 0; i < h->n_shelves; i++)
        if (strcmp(h->shelves[i].name, name) == 0) return true;
    return false;
}

static rotor_status open_shelves(hosted *h, rotor_error *err) {
    const size_t n = h->a->n_many[OPT_RAG_STORES];
    h->stores = base_alloc_array(n + 1, sizeof *h->stores);
    h->shelves = base_alloc_array(n + 1, sizeof *h->shelves);
    if (!h->stores || !h->shelves) return base_fail_nomem(err, "opening a store");
    for (size_t i = 0; i < n; i++) ROTOR_TRY(open_shelf(h, h->a->many[OPT_RAG_STORES][i], err));
    for (size_t i = 0; i < h->a->n_many[OPT_RAG_WRITE]; i++)
        if (!is_shelf(h, h->a->many[OPT_RAG_WRITE][i]))
            return base_fail(err, ROTOR_E_ARG,
                             "--rag-write %s: no store of --rag is called that (--rag STORE,NAME)",
                             h->a->many[OPT_RAG_WRITE][i]);
    const cli_store_how how = {.one_thread = true};
    return n ? cli_judge_open(&h->judge, h->a, &h->judge_model, &how, err) : ROTOR_OK;
}

static void close_shelves(hosted *h) {
    for (size_t i = h->n_shelves; i-- > 0;) { /* who borrows a model goes first */
        cli_store_close(&h->stores[i]);
        base_free((void *)(uintptr_t)h->shelves[i].name);
    }
    base_free(h->stores);
    base_free(h->shelves);
    rotor_engine_close(&h->judge);
    cli_model_free(&h->judge_model);
}

/* ==== Options ================================================================================= */

static rotor_status read_file(base_buf *out, const char *path, rotor_error *err) {
    base_file f;
    if (!path) return ROTOR_OK;
    ROTOR_TRY(base_file_open(&f, path, false, err));
    base_buf_append(out, f.data, f.size);
    base_buf_puts(out, "");
    base_file_close(&f);
    return out->failed || !out->data ? base_fail_nomem(err, "reading a file") : ROTOR_OK;
}

static void warn_if_open(const cli_args *a, const char *path) {
    if (path && base_others_can_read(path))
        cli_log(a, BASE_LOG_WARN, "%s holds a key and others can read it: chmod 600 %s", path,
                path);
}

/* Those of --api-key, and each line of --api-key-file that is not empty. */
static rotor_status read_keys(hosted *h, rotor_error *err) {
    const cli_args *a = h->a;
    warn_if_open(a, cli_text(a, OPT_API_KEY_FILE));
    warn_if_open(a, cli_text(a, OPT_TLS_KEY));
    ROTOR_TRY(read_file(&h->keys, cli_text(a, OPT_API_KEY_FILE), err));
    size_t lines = 0;
    for (size_t i = 0; i < h->keys.len; i++) lines += h->keys.data[i] == '\n';
    h->key = base_alloc_array(a->n_many[OPT_API_KEY] + lines + 1, sizeof *h->key);
    if (!h->key) return base_fail_nomem(err, "reading the keys");
    for (size_t i = 0; i < a->n_many[OPT_API_KEY]; i++)
        h->key[h->n_key++] = a->many[OPT_API_KEY][i];
    for (char *line = h->keys.data; line && *line;) {
        char *end = line + strcspn(line, "\r\n");
        const bool last = !*end;
        *end = 0;
        if (*line) h->key[h->n_key++] = line;
        line = last ? NULL : end + 1;
    }
    if (cli_text(a, OPT_API_KEY_FILE) && !h->n_key)
        return base_fail(err, ROTOR_E_ARG, "--api-key-file %s holds no key",
                         cli_text(a, OPT_API_KEY_FILE));
    return ROTOR_OK;
}

/* systemd's first socket; more than one is not known what for. */
static rotor_status take_given(serve_options *o, rotor_error *err) {
    enum { FIRST_GIVEN_FD = 3 };
    const int n = base_count_given(getenv("LISTEN_PID"), getenv("LISTEN_FDS"));
    if (n > 1)
        return base_fail(err, ROTOR_E_ARG, "%d sockets were handed over: expected one (LISTEN_FDS)",
                         n);
    if (n) o->given_fd = FIRST_GIVEN_FD;
    return ROTOR_OK;
}

static rotor_status plan_cage(hosted *h, serve_options *o, rotor_error *err) {
    const char *path = o->given_fd < 0 ? serve_socket_path(o->host) : NULL;
    ROTOR_TRY(cli_cage_plan(&h->cage, h->a, h->models, h->n, path, err));
    ROTOR_TRY(cli_cage_add_stores(&h->cage, h->stores, h->n_shelves, err));
    if (!h->cage.off) o->cage = &h->cage.paths;
    o->must_cage = h->cage.must;
    o->no_cage = h->cage.off;
    return ROTOR_OK;
}

static rotor_status read_options(hosted *h, serve_options *o, rotor_error *err) {
    const cli_args *a = h->a;
    ROTOR_TRY(read_keys(h, err));
    ROTOR_TRY(read_file(&h->cert, cli_text(a, OPT_TLS_CERT), err));
    ROTOR_TRY(read_file(&h->priv, cli_text(a, OPT_TLS_KEY), err));
    if (!h->cert.data != !h->priv.data)
        return base_fail(err, ROTOR_E_ARG, "--tls-cert and --tls-key belong together");
    *o = serve_options_default();
    o->host = cli_text(a, OPT_HOST);
    o->port = (uint16_t)cli_int(a, OPT_PORT);
    o->keys = h->key;
    o->n_keys = h->n_key;
    o->insecure = cli_on(a, OPT_INSECURE);
    o->hosts = a->many[OPT_ALLOWED_HOSTS];
    o->n_hosts = a->n_many[OPT_ALLOWED_HOSTS];
    o->origins = a->many[OPT_CORS];
    o->n_origins = a->n_many[OPT_CORS];
    o->tls_cert = h->cert.data;
    o->tls_key = h->priv.data;
    o->models = h->names;
    o->n_models = h->n;
    o->open = open_model;
    o->log = NULL;
    o->user = h;
    o->parallel = (uint32_t)cli_int(a, OPT_PARALLEL);
    o->max_queue = (uint32_t)cli_int(a, OPT_MAX_QUEUE);
    o->max_connections = (uint32_t)cli_int(a, OPT_MAX_CONNECTIONS);
    o->max_body_bytes = (size_t)cli_int(a, OPT_MAX_BODY) << 20;
    const uint64_t idle_s = (uint64_t)cli_int(a, OPT_IDLE_UNLOAD);
    o->idle_us = idle_s ? idle_s * 1000000 : SERVE_NEVER;
    o->embed = cli_on(a, OPT_EMBED);
    o->shelves = h->shelves;
    o->n_shelves = h->n_shelves;
    o->rag_budget_tok = (uint32_t)cli_int(a, OPT_BUDGET);
    o->reranker = h->judge;
    o->rewrite = cli_rewrites(a);
    o->only_need = cli_int(a, OPT_RETRIEVE) == 1;
    o->rerank_n = (uint32_t)cli_int(a, OPT_RERANK_N);
    o->rerank_ms = (uint32_t)cli_int(a, OPT_RERANK_MS);
    o->strict_model = cli_on(a, OPT_STRICT_MODEL);
    o->ping_us = (uint32_t)cli_int(a, OPT_PING_MS) * 1000;
    o->request_us = (uint64_t)cli_int(a, OPT_REQUEST_S) * 1000000;
    o->keep_volatile = cli_on(a, OPT_KEEP_VOLATILE);
    o->prefix_dir = cli_text(a, OPT_PREFIX_STORE);
    o->prefix_bytes = (uint64_t)cli_int(a, OPT_PREFIX_SIZE) << 20;
    o->prefix_min = cli_given(a, OPT_PREFIX_MIN) ? (uint32_t)cli_int(a, OPT_PREFIX_MIN) : 0;
    o->log_json = cli_on(a, OPT_LOG_JSON);
    o->log_prompts = cli_on(a, OPT_LOG_PROMPTS);
    ROTOR_TRY(take_given(o, err));
    return plan_cage(h, o, err);
}

static void log_line(void *user, int level, const char *line) {
    const hosted *h = user;
    if (level > cli_int(h->a, OPT_LOG_LEVEL)) return;
    if (cli_on(h->a, OPT_LOG_JSON))
        fprintf(stderr, "%s\n", line); /* whole lines, from any thread */
    else
        cli_log_line((void *)(uintptr_t)h->a, level, line);
}

/* ==== Serving ================================================================================= */

static void say_ready(const serve_server *s, const hosted *h) {
    const char *tls = h->cert.data ? "s" : "", *host = cli_text(h->a, OPT_HOST);
    const char *path = serve_socket_path(host);
    base_notify(h->manager, "READY=1\nSTATUS=answering\n");
    if (!serve_port(s)) {
        cli_log(h->a, BASE_LOG_INFO, "ready: unix:%s (curl --unix-socket PATH http%s://rotor/v1/…)",
                path ? path : "", tls);
        return;
    }
    cli_log(h->a, BASE_LOG_INFO, "web chat: http%s://%s:%u/", tls, host, serve_port(s));
    cli_log(h->a, BASE_LOG_INFO, "ready: http%s://%s:%u/v1", tls, host, serve_port(s));
}

static rotor_status wait_for_end(serve_server *s, const hosted *h, rotor_error *err) {
    bool said = false;
    while (!atomic_load(&n_signals)) {
        if (serve_has_failed(s, err)) return err->code;
        if (!said && serve_is_ready(s)) {
            say_ready(s, h);
            said = true;
        }
        base_sleep_us(TICK_US);
    }
    base_notify(h->manager, "STOPPING=1\nSTATUS=ending\n");
    cli_log(h->a, BASE_LOG_INFO, "ending; once more to end at once");
    return ROTOR_OK;
}

static rotor_status run(hosted *h, rotor_error *err) {
    serve_options o;
    serve_server *s = NULL;
    const char *manager = getenv("NOTIFY_SOCKET");
    ROTOR_TRY(find_models(h, err));
    ROTOR_TRY(open_shelves(h, err));
    ROTOR_TRY(read_options(h, &o, err));
    if (manager && *manager) ROTOR_TRY(base_notify_open(manager, &h->manager, err));
    o.log = log_line;
    catch_signals();
    ROTOR_TRY(serve_start(&s, &o, err));
    atomic_store(&h->server, s);
    if (serve_port(s))
        cli_log(h->a, BASE_LOG_INFO, "listening at %s port %u, loading", o.host, serve_port(s));
    else
        cli_log(h->a, BASE_LOG_INFO, "listening at %s, loading", o.host);
    cli_log(h->a, BASE_LOG_INFO, "sandbox %s", serve_cage_line(s));
    base_notify(h->manager, "STATUS=loading\n");
    const rotor_status st = wait_for_end(s, h, err);
    serve_close(&s, st == ROTOR_OK ? GRACE_US : 0, hurry);
    atomic_store(&h->server, NULL);
    return st;
}

static void hosted_free(hosted *h) {
    close_shelves(h);
    for (size_t i = 0; i < h->n; i++) {
        cli_model_free(&h->models[i]);
        base_free((void *)(uintptr_t)h->names[i]);
    }
    base_free(h->models);
    base_free(h->names);
    base_free(h->key);
    base_buf_free(&h->keys);
    base_buf_free(&h->cert);
    base_buf_free(&h->priv);
    cli_cage_free(&h->cage);
    if (h->manager >= 0) base_close_socket(h->manager);
}

int verb_serve(const cli_args *a) {
    hosted h = {.a = a, .manager = -1};
    rotor_error err = {0};
    const rotor_status st = run(&h, &err);
    hosted_free(&h);
    return cli_status(a, st, &err);
}

#else

int verb_serve(const cli_args *a) {
    return cli_fail_text(a, "this build has no HTTP server: libmicrohttpd was missing "
                            "(tools/bootstrap core, then build again)");
}

#endif
