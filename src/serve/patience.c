/* SPDX-License-Identifier: MIT
 *
 * How long a request may take to arrive. The HTTP library gives up on a connection that is silent;
 * a client that sends a byte now and then would hold it for ever. So each connection is in one of
 * three phases, and of the first two has an end:
 *
 *     HEAD  from its beginning, or the end of the reply before, until the headers are whole
 *     BODY  until that is whole, and longer the more of it has come
 *     REST  while it is answered
 *
 * A thread of its own sleeps until the next end is due, and shuts the socket of who is late; the
 * library then finds it closed. Under `lock` a socket is known for as long as it is open: the
 * library tells of the end of a connection before it closes the socket.
 */
#include "serve/serve_internal.h"

enum { IDLE_US = SERVE_SILENT_S * 1000000, BODY_BYTES_PER_S = 4 << 10 };

typedef enum phase { HEAD, BODY, REST } phase;

struct serve_visitor {
    serve_visitor *next, *prev; /* in the list */
    int fd;                     /* its socket */
    phase at;                   /* see above */
    bool late;                  /* it was shut */
    uint64_t since_us, wait_us; /* when the phase began, how long it may last */
};

struct serve_patience {
    serve_visitor *list; /* connections */
    uint64_t us;         /* for headers, and for a body beside what its size takes */
    base_mutex *lock;    /* guards all */
    base_cond *news;     /* a connection where none was, or the end */
    base_thread *thread; /* owned */
    bool quit;           /* the end */
};

static bool is_due(const serve_visitor *v, uint64_t now) {
    return v->at != REST && !v->late && now - v->since_us >= v->wait_us;
}

/* Shuts who is late; how long until somebody may be. */
static uint64_t look(serve_patience *p) {
    const uint64_t now = base_now_us();
    uint64_t next = p->us;
    for (serve_visitor *v = p->list; v; v = v->next) {
        if (is_due(v, now)) {
            v->late = true;
            base_stop_listening(v->fd);
        }
        if (v->at != REST && !v->late) next = BASE_MIN(next, v->since_us + v->wait_us - now);
    }
    return next;
}

static void watch(void *arg) {
    serve_patience *p = arg;
    base_mutex_lock(p->lock);
    while (!p->quit) {
        const uint64_t us = look(p);
        if (p->list)
            base_cond_wait_us(p->news, p->lock, us);
        else
            base_cond_wait(p->news, p->lock);
    }
    base_mutex_unlock(p->lock);
}

rotor_status serve_patience_begin(serve_patience **out, uint64_t us, rotor_error *err) {
    serve_patience *p = base_alloc(sizeof *p);
    if (!p) return base_fail_nomem(err, "starting the server");
    p->us = us;
    *out = p;
    if (base_mutex_create(&p->lock) == ROTOR_OK && base_cond_create(&p->news) == ROTOR_OK &&
        base_thread_start(&p->thread, watch, p) == ROTOR_OK)
        return ROTOR_OK;
    serve_patience_end(out);
    return base_fail_nomem(err, "starting the server");
}

void serve_patience_end(serve_patience **out) {
    serve_patience *p = *out;
    if (!p) return;
    if (p->thread) {
        base_mutex_lock(p->lock);
        p->quit = true;
        base_cond_broadcast(p->news);
        base_mutex_unlock(p->lock);
        base_thread_join(&p->thread);
    }
    base_cond_free(&p->news);
    base_mutex_free(&p->lock);
    base_free(p);
    *out = NULL;
}

static void enter(serve_patience *p, struct MHD_Connection *conn, void **socket) {
    const union MHD_ConnectionInfo *info =
        mhd()->get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    serve_visitor *v = info ? base_alloc(sizeof *v) : NULL;
    if (!v) return; /* the library's own limit must do */
    *v = (serve_visitor){.fd = (int)info->connect_fd, .since_us = base_now_us(), .wait_us = p->us};
    base_mutex_lock(p->lock);
    v->next = p->list;
    if (p->list) p->list->prev = v;
    p->list = v;
    base_cond_broadcast(p->news);
    base_mutex_unlock(p->lock);
    *socket = v;
}

static void leave(serve_patience *p, void **socket) {
    serve_visitor *v = *socket;
    if (!v) return;
    base_mutex_lock(p->lock);
    if (v->next) v->next->prev = v->prev;
    *(v->prev ? &v->prev->next : &p->list) = v->next;
    base_mutex_unlock(p->lock);
    base_free(v);
    *socket = NULL;
}

void serve_visit(void *server, struct MHD_Connection *conn, void **socket,
                 enum MHD_ConnectionNotificationCode what) {
    serve_server *s = server;
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        enter(s->patience, conn, socket);
    else
        leave(s->patience, socket);
}

static void set(serve_exchange *x, phase to, uint64_t wait_us, bool begins) {
    serve_patience *p = x->s->patience;
    const union MHD_ConnectionInfo *info =
        mhd()->get_connection_info(x->conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    serve_visitor *v = info ? info->socket_context : NULL;
    if (!v) return;
    base_mutex_lock(p->lock);
    v->at = to;
    if (begins) v->since_us = base_now_us();
    v->wait_us = wait_us;
    base_mutex_unlock(p->lock);
}

void serve_expect_body(serve_exchange *x) { set(x, BODY, x->s->patience->us, true); }

void serve_note_body(serve_exchange *x, size_t n_bytes) {
    x->body_bytes += n_bytes;
    set(x, BODY, x->s->patience->us + x->body_bytes * 1000000 / BODY_BYTES_PER_S, false);
}

void serve_expect_nothing(serve_exchange *x) { set(x, REST, 0, false); }

void serve_expect_next(serve_exchange *x) { set(x, HEAD, IDLE_US + x->s->patience->us, true); }
