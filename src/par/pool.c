/* SPDX-License-Identifier: MIT
 *
 * The thread pool.
 *
 * Three words are watched: `generation`, bumped by the caller when a job is ready; `done`, bumped
 * by the last worker that finishes it; `round`, bumped by the last thread that arrives at a
 * barrier. Whoever waits for one spins first (jobs and barriers of a step follow each other within
 * microseconds) and then sleeps on a condition, which leaves its processor to others: to the very
 * thread it waits for, when that one has lost its own. Yielding instead would keep the processor
 * busy in the eyes of the scheduler, and the other thread would queue where it is.
 *
 * Invariants: (P1) `job` is written only while no worker runs and the submit lock is held; (P2) a
 * thread sleeps only after announcing it under the lock, and who changes a word does so before it
 * looks at `sleepers`: with both sequentially consistent one of them sees the other.
 */
#include "par/par.h"

#include <assert.h>
#include <stdatomic.h>

#if defined(__x86_64__)
#define spin_hint() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define spin_hint() __asm__ volatile("yield")
#else
#define spin_hint() ((void)0)
#endif

enum {
    JOB_SPINS = 20000, /* between steps: 250-900 us, longer than the sampler takes */
    STEP_SPINS = 4000  /* inside a step: 50-180 us, longer than threads are usually apart */
};

typedef struct worker {
    par_pool *pool;      /* the pool it belongs to */
    int index;           /* thread number, 1 … n_threads - 1 */
    base_thread *thread; /* owned */
} worker;

struct par_pool {
    int n_threads;          /* including the caller */
    bool pin;               /* bind each worker to a processor */
    base_mutex *submit;     /* one par_run at a time */
    base_mutex *lock;       /* guards going to sleep */
    base_cond *wake;        /* one of the three words has changed */
    worker *workers;        /* n_threads - 1 */
    int n_started;          /* workers whose thread runs */
    par_fn fn;              /* job: function (P1) */
    void *arg;              /* job: argument (P1) */
    atomic_uint generation; /* bumped for every job */
    atomic_uint done;       /* jobs finished by all workers */
    atomic_int left;        /* workers still running the job */
    atomic_bool stop;       /* the pool is closing */
    /* A barrier touches one cache line, and nothing else does while a step goes on. */
    _Alignas(64) atomic_int arrived; /* threads at the barrier of this round */
    atomic_uint round;               /* barriers passed */
    atomic_int sleepers;             /* threads waiting on `wake` */
};

static void sleep_while(par_pool *p, atomic_uint *word, unsigned seen) {
    base_mutex_lock(p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(word) == seen) base_cond_wait(p->wake, p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    base_mutex_unlock(p->lock);
}

/* Returns when *word is no longer what was seen. */
static void wait_while(par_pool *p, atomic_uint *word, unsigned seen, int spins) {
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen) return;
        spin_hint();
    }
    sleep_while(p, word, seen);
}

static void change(par_pool *p, atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&p->sleepers) == 0) return; /* P2 */
    base_mutex_lock(p->lock);
    base_cond_broadcast(p->wake);
    base_mutex_unlock(p->lock);
}

static void work(void *arg) {
    worker *w = arg;
    par_pool *p = w->pool;
    if (p->pin) base_thread_pin(w->index);
    for (unsigned seen = 0;; seen++) {
        wait_while(p, &p->generation, seen, JOB_SPINS);
        if (atomic_load(&p->stop)) return;
        p->fn(p->arg, w->index, p->n_threads);
        if (atomic_fetch_sub(&p->left, 1) == 1) change(p, &p->done);
    }
}

static rotor_status start_workers(par_pool *p) {
    int n_workers = p->n_threads - 1;
    p->workers = base_alloc_array((size_t)BASE_MAX(n_workers, 1), sizeof *p->workers);
    if (!p->workers) return ROTOR_E_NOMEM;
    for (int i = 0; i < n_workers; i++) {
        p->workers[i] = (worker){.pool = p, .index = i + 1};
        ROTOR_TRY(base_thread_start(&p->workers[i].thread, work, &p->workers[i]));
        p->n_started++;
    }
    return ROTOR_OK;
}

rotor_status par_create(par_pool **out, int n_threads, bool pin, rotor_error *err) {
    assert(n_threads >= 1);
    par_pool *p = base_alloc_aligned(sizeof *p);
    if (!p) return base_fail_nomem(err, "starting threads");
    p->n_threads = n_threads;
    p->pin = pin;
    if (base_mutex_create(&p->submit) != ROTOR_OK || base_mutex_create(&p->lock) != ROTOR_OK ||
        base_cond_create(&p->wake) != ROTOR_OK || start_workers(p) != ROTOR_OK) {
        par_free(&p);
        return base_fail(err, ROTOR_E_NOMEM, "cannot start %d threads", n_threads);
    }
    *out = p;
    return ROTOR_OK;
}

void par_free(par_pool **pp) {
    if (!pp || !*pp) return;
    par_pool *p = *pp;
    if (p->lock && p->wake) {
        atomic_store(&p->stop, true);
        change(p, &p->generation);
    }
    for (int i = 0; i < p->n_started; i++) base_thread_join(&p->workers[i].thread);
    base_free(p->workers);
    base_cond_free(&p->wake);
    base_mutex_free(&p->lock);
    base_mutex_free(&p->submit);
    base_free_aligned(p);
    *pp = NULL;
}

int par_n_threads(const par_pool *p) { return p->n_threads; }

void par_run(par_pool *p, par_fn fn, void *arg) {
    if (p->n_threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    base_mutex_lock(p->submit);
    const unsigned done = atomic_load(&p->done);
    p->fn = fn;
    p->arg = arg;
    atomic_store(&p->left, p->n_threads - 1);
    change(p, &p->generation);
    fn(arg, 0, p->n_threads);
    wait_while(p, &p->done, done, STEP_SPINS);
    base_mutex_unlock(p->submit);
}

/* The last to arrive opens the next round; the others watch the round number. */
void par_barrier(par_pool *p) {
    if (p->n_threads == 1) return;
    const unsigned round = atomic_load_explicit(&p->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == p->n_threads - 1) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        change(p, &p->round);
        return;
    }
    wait_while(p, &p->round, round, STEP_SPINS);
}

void par_slice(size_t n, size_t align, int thread, int n_threads, size_t *begin, size_t *end) {
    size_t units = (n + align - 1) / align, t = (size_t)thread, all = (size_t)n_threads;
    size_t b = units * t / all * align, e = units * (t + 1) / all * align;
    *begin = BASE_MIN(b, n);
    *end = BASE_MIN(e, n);
}
