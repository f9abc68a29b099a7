/* SPDX-License-Identifier: MIT
 *
 * Work that may take its time, done one after another, in order, on a thread of its own.
 *
 *     first                         at
 *       v                           v
 *     done --> done --> done --> being done --> waits --> waits     the owner takes from the front
 *
 * Threading: one owner adds, takes and looks through the list; only `done` and `at` are the
 * thread's, under the lock. What the work itself touches is its own until it is done.
 */
#include "run/run_internal.h"

struct run_chores {
    void (*work)(run_chore *); /* what is done with each */
    base_thread *thread;       /* owned */
    base_mutex *lock;          /* guards what follows, and `next` and `done` of each */
    base_cond *news;           /* one was added or done, or the end */
    run_chore *first, *last;   /* not taken yet, oldest first */
    run_chore *at;             /* the first that is not done; NULL: all are */
    bool quit;                 /* the end, when all are done */
};

static void work_through(void *arg) {
    run_chores *c = arg;
    base_mutex_lock(c->lock);
    for (;;) {
        while (!c->at && !c->quit) base_cond_wait(c->news, c->lock);
        run_chore *one = c->at;
        if (!one) break;
        base_mutex_unlock(c->lock);
        c->work(one);
        base_mutex_lock(c->lock);
        c->at = one->next;
        one->done = true;
        base_cond_broadcast(c->news);
    }
    base_mutex_unlock(c->lock);
}

rotor_status run_chores_create(run_chores **out, void (*work)(run_chore *), rotor_error *err) {
    run_chores *c = base_alloc(sizeof *c);
    if (!c) return base_fail_nomem(err, "starting a thread");
    c->work = work;
    rotor_status st = base_mutex_create(&c->lock);
    if (st == ROTOR_OK) st = base_cond_create(&c->news);
    if (st == ROTOR_OK) st = base_thread_start(&c->thread, work_through, c);
    if (st == ROTOR_OK) return *out = c, ROTOR_OK;
    run_chores_free(&c);
    return base_fail(err, st, "starting a thread failed");
}

void run_chores_free(run_chores **out) {
    run_chores *c = *out;
    if (!c) return;
    if (c->thread) {
        base_mutex_lock(c->lock);
        c->quit = true;
        base_cond_broadcast(c->news);
        base_mutex_unlock(c->lock);
        base_thread_join(&c->thread);
    }
    base_cond_free(&c->news);
    base_mutex_free(&c->lock);
    base_free(c);
    *out = NULL;
}

void run_chores_add(run_chores *c, run_chore *one) {
    one->next = NULL;
    one->done = false;
    base_mutex_lock(c->lock);
    if (c->last) c->last->next = one;
    if (!c->first) c->first = one;
    if (!c->at) c->at = one;
    c->last = one;
    base_cond_broadcast(c->news);
    base_mutex_unlock(c->lock);
}

run_chore *run_chores_take(run_chores *c, bool wait) {
    base_mutex_lock(c->lock);
    while (wait && c->first && !c->first->done) base_cond_wait(c->news, c->lock);
    run_chore *one = c->first && c->first->done ? c->first : NULL;
    if (one) c->first = one->next;
    if (!c->first) c->last = NULL;
    base_mutex_unlock(c->lock);
    return one;
}

run_chore *run_chores_first(const run_chores *c) { return c->first; }
