/* SPDX-License-Identifier: MIT
 *
 * The librarian: one thread that reads and changes the knowledge stores, for all connections. A
 * search may load an index and run an embedding model; on a connection's thread it would keep the
 * others that this thread serves waiting, and on the worker those who decode. So a call that
 * searches waits in a queue of its own while its connection sleeps, is made ready here, and goes on
 * to the worker. Documents that requests put in are found by words at once; their vectors are made
 * a few at a time between calls, while none waits. A call whose question is to be rewritten by a
 * model goes to the worker first, as another call (rewrite.c), and comes back here.
 *
 * A store's server may keep it waiting. Whoever waits there asks serve_while_waiting several times
 * a second, and calls for stores that nobody has in hand are served meanwhile, on top of the one
 * that waits: what it uses is not touched, and it goes on when they are done.
 *
 * Streams that wait for it hear a comment now and then from a thread of its own, the ringer: what
 * the librarian has in hand is in server.searching, and the ringer sends only under server.lock, so
 * that a call which is no longer there is not touched.
 *
 * Invariants: (L1) no other thread touches a shelf between start and end, and no call one that a
 * call below it has in hand (server.in_hand); (L2) a call in its queue
 * counts as waiting like the worker's, so that --max-queue bounds both; (L3) it ends before the
 * worker does, and every call it has taken was answered or handed on; one that comes back later is
 * answered by the worker.
 */
#include "serve/serve_internal.h"

/* It is answered, or nobody is left to read an answer. */
static void end(serve_call *c) {
    serve_server *s = c->inside->s;
    base_mutex_lock(s->lock);
    s->n_calls--;
    s->n_waiting--;
    base_mutex_unlock(s->lock);
    serve_call_send(c, NULL, 0, true);
    serve_call_release(c);
}

/* The worker takes it over, with its place among those who wait. */
static void hand_on(serve_call *c) {
    serve_server *s = c->inside->s;
    serve_call **last = &s->queue;
    base_mutex_lock(s->lock);
    while (*last) last = &(*last)->inside->next;
    *last = c;
    base_cond_broadcast(s->wake);
    base_mutex_unlock(s->lock);
}

/* The ringer does not touch it any more; those below it stay. Once more, nothing happens. */
static void put_down(serve_call *c) {
    serve_server *s = c->inside->s;
    base_mutex_lock(s->lock);
    if (s->searching == c) {
        s->searching = c->inside->next;
        c->inside->next = NULL;
    }
    base_mutex_unlock(s->lock);
}

/* A whole reply, or the end of a stream that the ringer has begun. */
static void tell_fault(serve_call *c, const serve_fault *f) {
    if (c->inside->streaming)
        serve_refuse_waiting(c, f);
    else
        serve_call_fault(c, f);
}

/* False: it is on its way to be rewritten, and not ours any more. */
static bool prepare(serve_call *c, bool *ready, serve_fault *f) {
    const bool again = serve_wants_rewriting(c); /* it comes back from there */
    *ready = again || serve_prepare_rest(c, f);
    if (*ready && !again && serve_wants_rewriting(c)) {
        put_down(c);
        if (serve_rewrite(c)) return false;
        *ready = serve_prepare_search(c, f);
    } else if (again) {
        *ready = serve_prepare_search(c, f);
    }
    return true;
}

static void make_ready(serve_call *c) {
    serve_fault f = {0};
    bool ready;
    if (!prepare(c, &ready, &f)) return;
    put_down(c);
    if (!ready) {
        tell_fault(c, &f);
        end(c);
        return;
    }
    if (c->inside->streaming) c->req.stream = true;
    if (c->req.stream) serve_begin_stream(c);
    hand_on(c);
}

static void refuse(serve_call *c, bool closing) {
    serve_server *s = c->inside->s;
    serve_fault f = {0};
    if (closing) {
        serve_fail_with(&f, SERVE_SHUTTING_DOWN, "the server is ending");
        f.retry_s = 5;
    } else {
        serve_fail_with(&f, SERVE_CANCELLED, "the search was given up: nobody waited for it");
        base_mutex_lock(s->lock);
        s->metrics.cancelled++;
        base_mutex_unlock(s->lock);
    }
    tell_fault(c, &f);
    end(c);
}

static void serve_alone(serve_call *c, bool closing) {
    if (closing || serve_call_left(c)) {
        put_down(c);
        refuse(c, closing);
    } else if (c->inside->task) {
        c->inside->task(c);
        put_down(c);
        end(c);
    } else {
        make_ready(c);
    }
}

static void serve_one(serve_call *c, bool closing) {
    serve_server *s = c->inside->s; /* it is not ours to its end */
    const uint64_t before = s->in_hand;
    s->in_hand |= c->inside->shelves;
    serve_alone(c, closing);
    s->in_hand = before;
}

void serve_search_again(serve_call *c) {
    serve_server *s = c->inside->s;
    serve_call **last = &s->searches;
    base_mutex_lock(s->lock);
    const bool ended = s->quit_searching; /* it takes what is there, and then nothing */
    while (*last) last = &(*last)->inside->next;
    if (!ended) *last = c;
    base_cond_broadcast(s->wake);
    base_mutex_unlock(s->lock);
    if (ended) refuse(c, true);
}

/* ==== Vectors that are due ==================================================================== */

enum { EMBED_FEW = 8, RETRY_US = 2000000, MAX_PAUSE_US = 30000000 };

/* The store whose turn it is; NULL: none's is before *next_us. */
static serve_due *who_is_due(serve_server *s, uint64_t *next_us) {
    serve_due *first = NULL;
    *next_us = SERVE_NEVER;
    for (size_t i = 0; i < s->opt.n_shelves; i++) {
        serve_due *d = &s->due[i];
        if (!d->wanted || d->next_us >= *next_us || (s->in_hand & serve_shelf_bit(i))) continue;
        *next_us = d->next_us;
        first = d;
    }
    return *next_us <= base_now_us() ? first : NULL;
}

/* What cannot be reached is tried less and less often: each time may take its own time. */
static uint64_t pause_after(serve_due *d, rotor_status st) {
    const bool away = st == ROTOR_E_IO;
    d->pause_us = !away ? 0 : d->pause_us ? BASE_MIN(2 * d->pause_us, MAX_PAUSE_US) : RETRY_US;
    return st == ROTOR_OK ? 0 : away ? d->pause_us : RETRY_US;
}

/* Another program that writes or a full disk may go away, and it is tried again. That the store has
 * another model does not: the next document that is put in asks again, and it is said once. */
static void embed_few(serve_server *s, serve_due *d) {
    const serve_shelf *shelf = &s->opt.shelves[d - s->due];
    rotor_error err = {0};
    uint64_t n = 0;
    const uint64_t before = s->in_hand;
    s->in_hand |= serve_shelf_bit((size_t)(d - s->due));
    const rotor_status st = rotor_rag_embed(shelf->r, EMBED_FEW, &n, &err);
    s->in_hand = before;
    const bool may_pass = st == ROTOR_E_STATE || st == ROTOR_E_IO;
    if (st != ROTOR_OK && st != ROTOR_E_CANCELLED && st != d->told)
        serve_log(s, BASE_LOG_WARN, "%s: passages have no vectors yet: %s", shelf->name,
                  err.message);
    d->told = st;
    d->wanted = st == ROTOR_OK ? n > 0 : may_pass;
    const uint64_t pause_us = pause_after(d, st);
    d->next_us = pause_us ? base_now_us() + pause_us : 0;
    base_mutex_lock(s->lock);
    s->metrics.vectors_made += n;
    base_mutex_unlock(s->lock);
}

/* ==== The queue =============================================================================== */

/* Until a call comes, the end, or a store is due. Under the lock. */
static serve_due *wait_for_work(serve_server *s) {
    uint64_t next_us;
    while (!s->searches && !s->quit_searching) {
        serve_due *d = who_is_due(s, &next_us);
        const uint64_t now = base_now_us();
        if (d) return d;
        if (next_us == SERVE_NEVER)
            base_cond_wait(s->wake, s->lock);
        else if (next_us > now)
            base_cond_wait_us(s->wake, s->lock, next_us - now);
    }
    return NULL;
}

/* The oldest that wants nothing which is in hand, now in hand itself; NULL: none. Under the lock.
 */
static serve_call *take_oldest(serve_server *s) {
    serve_call **at = &s->searches;
    while (*at && ((*at)->inside->shelves & s->in_hand)) at = &(*at)->inside->next;
    serve_call *c = *at;
    if (!c) return NULL;
    *at = c->inside->next;
    c->inside->next = s->searching;
    s->searching = c;
    return c;
}

/* The oldest, or a store whose vectors are due; neither: the end. */
static serve_call *take(serve_server *s, serve_due **due, bool *closing) {
    base_mutex_lock(s->lock);
    *due = wait_for_work(s);
    serve_call *c = take_oldest(s);
    *closing = s->quit_searching;
    base_mutex_unlock(s->lock);
    return c;
}

static void run(void *server) {
    serve_call *c;
    serve_due *due;
    bool closing;
    while ((c = take(server, &due, &closing)) || due)
        if (c)
            serve_one(c, closing);
        else
            embed_few(server, due);
}

/* ==== While a store's server is waited for ==================================================== */

enum { DEEPEST = 16, MEANWHILE_US = 100000 };

/* One of the others; false: there is nothing to do for them. */
static bool serve_other(serve_server *s) {
    uint64_t next_us;
    base_mutex_lock(s->lock);
    serve_call *c = s->quit_searching ? NULL : take_oldest(s);
    serve_due *due = c || s->quit_searching ? NULL : who_is_due(s, &next_us);
    base_mutex_unlock(s->lock);
    if (c) serve_one(c, false);
    if (due) embed_few(s, due);
    return c || due;
}

bool serve_while_waiting(serve_server *s) {
    const uint64_t begun = base_now_us();
    bool more = s->depth < DEEPEST;
    s->depth++;
    while (more) more = serve_other(s) && base_now_us() - begun < MEANWHILE_US;
    s->depth--;
    base_mutex_lock(s->lock);
    const bool ends = s->quit_searching;
    base_mutex_unlock(s->lock);
    return !ends;
}

/* ==== The ringer ============================================================================== */

static void ring(serve_call *c, uint64_t now) {
    if (now - c->inside->last_us < c->inside->s->opt.ping_us) return;
    c->inside->last_us = now;
    serve_ping_early(c, ": searching\n\n");
}

static void ring_all(void *server) {
    serve_server *s = server;
    base_mutex_lock(s->lock);
    while (!s->quit_searching) {
        const uint64_t now = base_now_us();
        for (serve_call *c = s->searching; c; c = c->inside->next) ring(c, now);
        for (serve_call *c = s->searches; c; c = c->inside->next) ring(c, now);
        if (s->searching || s->searches)
            base_cond_wait_us(s->wake, s->lock, s->opt.ping_us);
        else
            base_cond_wait(s->wake, s->lock);
    }
    base_mutex_unlock(s->lock);
}

/* ==== Beginning and end ======================================================================= */

rotor_status serve_start_librarian(serve_server *s, rotor_error *err) {
    if (!s->opt.n_shelves) return ROTOR_OK;
    s->due = base_alloc_array(s->opt.n_shelves, sizeof *s->due);
    for (size_t i = 0; s->due && i < s->opt.n_shelves; i++) /* what an earlier end left */
        s->due[i].wanted = s->opt.shelves[i].write && s->opt.shelves[i].embeds;
    if (s->due && base_thread_start(&s->librarian, run, s) == ROTOR_OK &&
        base_thread_start(&s->ringer, ring_all, s) == ROTOR_OK)
        return ROTOR_OK;
    return base_fail_nomem(err, "starting the server");
}

void serve_end_librarian(serve_server *s) {
    if (!s->librarian) return;
    base_mutex_lock(s->lock);
    s->quit_searching = true;
    base_cond_broadcast(s->wake);
    base_mutex_unlock(s->lock);
    base_thread_join(&s->librarian);
    base_thread_join(&s->ringer);
    base_free(s->due);
    s->due = NULL;
}
