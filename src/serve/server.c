/* SPDX-License-Identifier: MIT
 *
 * The socket, the threads, beginning and end.
 *
 * Few threads of libmicrohttpd serve all connections; one more is the worker, and one the librarian
 * where there are stores. At the end the listening socket is closed first; what is being answered
 * may go on for a while; then the librarian ends, and the worker is told to end all calls, which
 * wakes every connection that sleeps, as libmicrohttpd demands before it stops.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

enum { HTTP_THREADS = 3, HEADER_BYTES = 64 << 10 };

serve_options serve_options_default(void) {
    return (serve_options){.host = "127.0.0.1",
                           .port = 8080,
                           .given_fd = -1,
                           .idle_us = SERVE_NEVER,
                           .parallel = 4,
                           .max_queue = 64,
                           .max_connections = 256,
                           .max_body_bytes = 8 << 20,
                           .request_us = 60000000,
                           .ping_us = 5000000};
}

/* ==== Beginning =============================================================================== */

static rotor_status hash_keys(serve_server *s, rotor_error *err) {
    s->keys = base_alloc_array(s->opt.n_keys, sizeof *s->keys);
    if (!s->keys) return base_fail_nomem(err, "starting the server");
    for (size_t i = 0; i < s->opt.n_keys; i++) {
        if (!s->opt.keys[i][0]) return base_fail(err, ROTOR_E_ARG, "an API key is empty");
        base_sha256(s->opt.keys[i], strlen(s->opt.keys[i]), s->keys[i]);
    }
    return ROTOR_OK;
}

const char *serve_socket_path(const char *host) {
    const size_t n = host ? strlen(host) : 0;
    if (n > 5 && strncmp(host, "unix:", 5) == 0) return host + 5;
    return n > 5 && strcmp(host + n - 5, ".sock") == 0 ? host : NULL;
}

static rotor_status open_socket(serve_server *s, int *fd, rotor_error *err) {
    const char *path = serve_socket_path(s->opt.host);
    base_given given;
    if (s->opt.given_fd >= 0) {
        ROTOR_TRY(base_take_socket(s->opt.given_fd, &given, err));
        *fd = s->opt.given_fd;
        s->by_path = given.path;
        s->port = given.port;
        s->reach = given.reach;
        return ROTOR_OK;
    }
    if (!path) return base_listen(s->opt.host, s->opt.port, fd, &s->port, &s->reach, err);
    s->by_path = true;
    s->reach = BASE_IP_LOOPBACK;
    ROTOR_TRY(base_listen_path(path, fd, err));
    base_node_of(&s->socket, path, false);
    return ROTOR_OK;
}

/* The name of our socket goes at the end, unless it is another program's socket by then. */
static void remove_socket(const serve_server *s, int fd) {
    const char *path = serve_socket_path(s->opt.host);
    base_node now;
    if (base_node_of(&now, path, false) && now.dev == s->socket.dev && now.ino == s->socket.ino)
        base_unlisten_path(path, fd);
}

static rotor_status listen_here(serve_server *s, int *fd, rotor_error *err) {
    ROTOR_TRY(open_socket(s, fd, err));
    if (s->reach == BASE_IP_LOOPBACK || s->opt.n_keys || s->opt.insecure) return ROTOR_OK;
    base_close_socket(*fd);
    return base_fail(err, ROTOR_E_ARG,
                     "%s%s can be reached from other machines: give an --api-key, or --insecure if "
                     "everybody there may use this server",
                     s->opt.given_fd >= 0 ? "the socket that was handed over" : "--host ",
                     s->opt.given_fd >= 0 ? "" : s->opt.host);
}

static void put_cage_line(serve_server *s, const char *why) {
    const base_caged c = s->caged;
    if (c.files || c.calls)
        snprintf(
            s->cage_line, sizeof s->cage_line, "on: %s%s%s",
            !c.files               ? ""
            : s->opt.cage->n_write ? "reads only models and the system's folders, writes only to "
                                     "its stores"
                                   : "reads only models and the system's folders, writes nothing",
            c.files && c.calls ? "; " : "", c.calls ? "no other programs, no new sockets" : "");
    else
        snprintf(s->cage_line, sizeof s->cage_line, "off%s%.160s", why ? ": " : "", why ? why : "");
}

/* Threads that start from here on are inside. */
static rotor_status enter_cage(serve_server *s, rotor_error *err) {
    rotor_error why = {0};
    put_cage_line(s, s->opt.no_cage);
    if (!s->opt.cage) return ROTOR_OK;
    const rotor_status st = base_sandbox_enter(s->opt.cage, &s->caged, &why);
    put_cage_line(s, why.message);
    if (!s->opt.must_cage || (s->caged.files && s->caged.calls)) return ROTOR_OK;
    if (st == ROTOR_OK)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "this kernel has no %s, half of the sandbox",
                         s->caged.files ? "seccomp filter for all threads" : "Landlock");
    if (err) *err = why;
    return st;
}

const char *serve_cage_line(const serve_server *s) { return s->cage_line; }

static rotor_status start_daemon(serve_server *s, int fd, rotor_error *err) {
    /* Not epoll, which the library uses edge-triggered: of a client that sends half a request and
     * leaves at once it reads the half, and never learns that there is an end behind it. */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
    struct MHD_OptionItem more[12];
    int n = 0;
#define MORE(...) more[n++] = (struct MHD_OptionItem){__VA_ARGS__}
    MORE(MHD_OPTION_LISTEN_SOCKET, fd, NULL);
    MORE(MHD_OPTION_THREAD_POOL_SIZE, HTTP_THREADS, NULL);
    MORE(MHD_OPTION_CONNECTION_LIMIT, BASE_MAX(s->opt.max_connections, HTTP_THREADS), NULL);
    MORE(MHD_OPTION_CONNECTION_TIMEOUT, SERVE_SILENT_S, NULL);
    MORE(MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)serve_visit, s);
    MORE(MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_BYTES, NULL);
    if (s->opt.tls_cert) {
        flags |= MHD_USE_TLS;
        MORE(MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)s->opt.tls_cert);
        MORE(MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)s->opt.tls_key);
    }
    MORE(MHD_OPTION_END, 0, NULL);
#undef MORE
    if (s->opt.tls_cert && mhd()->is_feature_supported(MHD_FEATURE_TLS) != MHD_YES) {
        base_close_socket(fd);
        return base_fail(err, ROTOR_E_UNSUPPORTED, "this build's HTTP library has no TLS");
    }
    s->daemon = mhd()->start_daemon(flags, s->port, NULL, NULL, serve_handle, s,
                                    MHD_OPTION_NOTIFY_COMPLETED, serve_done, s, MHD_OPTION_ARRAY,
                                    more, MHD_OPTION_END);
    if (s->daemon) return ROTOR_OK;
    base_close_socket(fd);
    return base_fail(
        err, s->opt.tls_cert ? ROTOR_E_ARG : ROTOR_E_IO, "the HTTP server did not start%s",
        s->opt.tls_cert ? ": are certificate and key PEM files that belong together?" : "");
}

static rotor_status start(serve_server *s, rotor_error *err) {
    int fd;
    s->models = base_alloc_array(s->opt.n_models, sizeof *s->models);
    if (!s->models || base_mutex_create(&s->lock) != ROTOR_OK ||
        base_cond_create(&s->wake) != ROTOR_OK)
        return base_fail_nomem(err, "starting the server");
    for (size_t i = 0; i < s->opt.n_models; i++) s->models[i].id = s->opt.models[i];
    s->replay = serve_replay_create();
    if (!s->replay) return base_fail_nomem(err, "starting the server");
    if (serve_store_create(&s->responses) != ROTOR_OK)
        return base_fail_nomem(err, "starting the server");
    json_object_seed(0);
    ROTOR_TRY(hash_keys(s, err));
    ROTOR_TRY(listen_here(s, &fd, err));
    const rotor_status st = enter_cage(s, err);
    if (st != ROTOR_OK) base_close_socket(fd);
    ROTOR_TRY(st);
    ROTOR_TRY(serve_patience_begin(&s->patience, s->opt.request_us, err));
    ROTOR_TRY(start_daemon(s, fd, err));
    ROTOR_TRY(serve_start_librarian(s, err));
    if (base_thread_start(&s->worker, serve_worker_main, s) != ROTOR_OK)
        return base_fail_nomem(err, "starting the server");
    return ROTOR_OK;
}

rotor_status serve_start(serve_server **out, const serve_options *opt, rotor_error *err) {
    if (!out || !opt || !opt->n_models || !opt->open)
        return base_fail(err, ROTOR_E_ARG, "serve_start: a required argument is NULL or 0");
    ROTOR_TRY(serve_mhd_open(err));
    serve_server *s = base_alloc(sizeof *s);
    if (!s) return base_fail_nomem(err, "starting the server");
    s->opt = *opt;
    if (!s->opt.host) s->opt.host = "127.0.0.1";
    s->started_s = base_unix_s();
    const rotor_status st = start(s, err);
    if (st != ROTOR_OK)
        serve_close(&s, 0, NULL);
    else
        *out = s;
    return st;
}

/* ==== Being asked ============================================================================= */

uint16_t serve_port(const serve_server *s) { return s->port; }

bool serve_is_ready(const serve_server *s) { return atomic_load(&s->state) == SERVE_READY; }

bool serve_has_failed(serve_server *s, rotor_error *why) {
    if (atomic_load(&s->state) != SERVE_FAILED) return false;
    base_mutex_lock(s->lock);
    *why = s->why;
    base_mutex_unlock(s->lock);
    return true;
}

/* ==== The end ================================================================================= */

static void tell_worker(serve_server *s, bool cut, bool quit) {
    base_mutex_lock(s->lock);
    s->cut |= cut;
    s->quit |= quit;
    base_cond_broadcast(s->wake);
    base_mutex_unlock(s->lock);
}

/* Until no exchange is under way. */
static void wait_idle(serve_server *s, uint64_t us, bool (*hurry)(void)) {
    const uint64_t end = base_now_us() + us;
    while (atomic_load(&s->n_open) && base_now_us() < end && !(hurry && hurry()))
        base_sleep_us(10000);
}

void serve_close(serve_server **ps, uint64_t grace_us, bool (*hurry)(void)) {
    enum { LAST_BYTES_US = 1000000 };
    if (!ps || !*ps) return;
    serve_server *s = *ps;
    atomic_store(&s->closing, true);
    int fd = -1; /* its threads may look at it until they end */
    if (s->daemon) {
        fd = mhd()->quiesce_daemon(s->daemon);
        if (fd >= 0 && s->opt.given_fd < 0) base_stop_listening(fd); /* it is not ours to stop */
        if (fd >= 0 && s->by_path && s->opt.given_fd < 0) remove_socket(s, fd);
        wait_idle(s, grace_us, hurry);
    }
    serve_end_librarian(s);
    if (s->worker) {
        tell_worker(s, true, true);
        base_thread_join(&s->worker);
    }
    if (s->daemon) {
        wait_idle(s, LAST_BYTES_US, NULL);
        mhd()->stop_daemon(s->daemon);
    }
    serve_patience_end(&s->patience);
    if (fd >= 0) base_close_socket(fd);
    serve_close_models(s);
    serve_replay_free(&s->replay);
    base_cond_free(&s->wake);
    base_mutex_free(&s->lock);
    serve_store_free(&s->responses);
    base_free(s->models);
    base_free(s->keys);
    base_free(s);
    *ps = NULL;
}
