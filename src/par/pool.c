/* SPDX-License-Identifier: MIT
 *
 * The thread pool.
 *
 * Hand-over: the caller writes the job, then bumps `generation`; workers watching it see the new
 * number and run. Completion: each worker counts `left` down; the caller waits for zero.
 * Both waits spin first (a step's jobs follow each other within microseconds) and give up the
 * processor after SPINS rounds: workers by sleeping on a condition, the caller by yielding.
 *
 * Invariants: (P1) `job` is written only while left == 0 and the submit lock is held;
 * (P2) a worker sleeps only after announcing it under the lock, and the caller bumps `generation`
 * before it looks at `sleepers`: with both sequentially consistent one of them sees the other.
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
    SPINS = 20000,       /* roughly 200-700 us: longer than any gap between steps */
    BARRIER_SPINS = 2000 /* then let another thread run: the processor may be shared */
};

typedef struct worker {
    par_pool *pool;      /* the pool it belongs to */
    int index;           /* thread number, 1 … n_threads - 1 */
    base_thread *thread; /* owned */
} worker;

struct par_pool {
    int n_threads;          /* including the caller */
    bool pin;               /* bind each worker to a processor */
    par_fn fn;              /* job: function (P1) */
    void *arg;              /* job: argument (P1) */
    atomic_uint generation; /* bumped for every job */
    atomic_int left;        /* workers still running the job */
    atomic_int sleepers;    /* workers waiting on `wake` */
    atomic_int arrived;     /* threads at the barrier of this round */
    atomic_uint round;      /* barriers passed */
    atomic_bool stop;       /* the pool is closing */
    base_mutex *submit;     /* one par_run at a time */
    base_mutex *lock;       /* guards going to sleep */
    base_cond *wake;        /* a new generation or stop */
    worker *workers;        /* n_threads - 1 */
    int n_started;          /* workers whose thread runs */
};

static void sleep_until_changed(par_pool *p, unsigned seen) {
    base_mutex_lock(p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->generation) == seen && !atomic_load(&p->stop))
        base_cond_wait(p->wake, p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    base_mutex_unlock(p->lock);
}

static void wait_for_job(par_pool *p, unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen) return;
        spin_hint();
    }
    sleep_until_changed(p, seen);
}

static void work(void *arg) {
    worker *w = arg;
    par_pool *p = w->pool;
    if (p->pin) base_thread_pin(w->index);
    for (unsigned seen = 0;;) {
        wait_for_job(p, seen);
        if (atomic_load(&p->stop)) return;
        seen = atomic_load_explicit(&p->generation, memory_order_acquire);
        p->fn(p->arg, w->index, p->n_threads);
        atomic_fetch_sub_explicit(&p->left, 1, memory_order_release);
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
    par_pool *p = base_alloc(sizeof *p);
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
        base_mutex_lock(p->lock);
        atomic_store(&p->stop, true);
        atomic_fetch_add(&p->generation, 1);
        base_cond_broadcast(p->wake);
        base_mutex_unlock(p->lock);
    }
    for (int i = 0; i < p->n_started; i++) base_thread_join(&p->workers[i].thread);
    base_free(p->workers);
    base_cond_free(&p->wake);
    base_mutex_free(&p->lock);
    base_mutex_free(&p->submit);
    base_free(p);
    *pp = NULL;
}

int par_n_threads(const par_pool *p) { return p->n_threads; }

static void wake_sleepers(par_pool *p) {
    if (atomic_load(&p->sleepers) == 0) return; /* P2 */
    base_mutex_lock(p->lock);
    base_cond_broadcast(p->wake);
    base_mutex_unlock(p->lock);
}

static void wait_for_workers(par_pool *p) {
    for (int i = 0; atomic_load_explicit(&p->left, memory_order_acquire) != 0;) {
        spin_hint();
        if (i < SPINS)
            i++; /* a job may take hours: the count must stop */
        else
            base_thread_yield();
    }
}

void par_run(par_pool *p, par_fn fn, void *arg) {
    if (p->n_threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    base_mutex_lock(p->submit);
    p->fn = fn;
    p->arg = arg;
    atomic_store(&p->left, p->n_threads - 1);
    atomic_fetch_add(&p->generation, 1);
    wake_sleepers(p);
    fn(arg, 0, p->n_threads);
    wait_for_workers(p);
    base_mutex_unlock(p->submit);
}

/* The last to arrive opens the next round; the others watch the round number. */
void par_barrier(par_pool *p) {
    if (p->n_threads == 1) return;
    unsigned round = atomic_load_explicit(&p->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == p->n_threads - 1) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&p->round, round + 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&p->round, memory_order_acquire) == round;) {
        spin_hint();
        if (i < BARRIER_SPINS)
            i++;
        else
            base_thread_yield();
    }
}

void par_slice(size_t n, size_t align, int thread, int n_threads, size_t *begin, size_t *end) {
    size_t units = (n + align - 1) / align, t = (size_t)thread, all = (size_t)n_threads;
    size_t b = units * t / all * align, e = units * (t + 1) / all * align;
    *begin = BASE_MIN(b, n);
    *end = BASE_MIN(e, n);
}
