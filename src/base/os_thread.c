/* SPDX-License-Identifier: MIT
 *
 * The operating system: threads, locks, processors. Thin wrappers over POSIX threads, so that no
 * other room names them.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct base_thread {
    pthread_t id;       /* POSIX thread */
    void (*fn)(void *); /* what it runs */
    void *arg;          /* passed to fn */
};
struct base_mutex {
    pthread_mutex_t m; /* default kind */
};
struct base_cond {
    pthread_cond_t c; /* on the monotonic clock */
};

static void *trampoline(void *arg) {
    base_thread *t = arg;
    t->fn(t->arg);
    return NULL;
}

rotor_status base_thread_start(base_thread **out, void (*fn)(void *), void *arg) {
    base_thread *t = base_alloc(sizeof *t);
    if (!t) return ROTOR_E_NOMEM;
    t->fn = fn;
    t->arg = arg;
    sigset_t all, before; /* signals are the program's: its own threads take them, never ours */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&t->id, NULL, trampoline, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) return base_free(t), ROTOR_E_NOMEM;
    *out = t;
    return ROTOR_OK;
}

void base_thread_join(base_thread **t) {
    if (!t || !*t) return;
    pthread_join((*t)->id, NULL);
    base_free(*t);
    *t = NULL;
}

rotor_status base_mutex_create(base_mutex **out) {
    base_mutex *m = base_alloc(sizeof *m);
    if (!m) return ROTOR_E_NOMEM;
    if (pthread_mutex_init(&m->m, NULL) != 0) return base_free(m), ROTOR_E_NOMEM;
    *out = m;
    return ROTOR_OK;
}

void base_mutex_free(base_mutex **m) {
    if (!m || !*m) return;
    pthread_mutex_destroy(&(*m)->m);
    base_free(*m);
    *m = NULL;
}

void base_mutex_lock(base_mutex *m) {
    int rc = pthread_mutex_lock(&m->m);
    assert(rc == 0);
    (void)rc;
}

void base_mutex_unlock(base_mutex *m) {
    int rc = pthread_mutex_unlock(&m->m);
    assert(rc == 0);
    (void)rc;
}

rotor_status base_cond_create(base_cond **out) {
    base_cond *c = base_alloc(sizeof *c);
    if (!c) return ROTOR_E_NOMEM;
    pthread_condattr_t monotonic; /* a clock that nobody sets */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    int rc = pthread_cond_init(&c->c, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (rc != 0) return base_free(c), ROTOR_E_NOMEM;
    *out = c;
    return ROTOR_OK;
}

void base_cond_free(base_cond **c) {
    if (!c || !*c) return;
    pthread_cond_destroy(&(*c)->c);
    base_free(*c);
    *c = NULL;
}

void base_cond_wait(base_cond *c, base_mutex *m) { pthread_cond_wait(&c->c, &m->m); }

bool base_cond_wait_us(base_cond *c, base_mutex *m, uint64_t us) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(us / 1000000);
    until.tv_nsec += (long)(us % 1000000) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    return pthread_cond_timedwait(&c->c, &m->m, &until) == 0;
}

void base_cond_broadcast(base_cond *c) { pthread_cond_broadcast(&c->c); }

int base_cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

/* True when no processor of the set below `cpu` shares a core with it; also when nobody knows. */
static bool first_of_its_core(const cpu_set_t *set, int cpu) {
    char path[80], list[256];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (!f) return true;
    bool got = fgets(list, sizeof list, f) != NULL;
    fclose(f);
    for (char *at = list; got && *at >= '0' && *at <= '9';) { /* "0,64" or "0-1" */
        long lo = strtol(at, &at, 10), hi = lo;
        if (*at == '-') hi = strtol(at + 1, &at, 10);
        if (*at == ',') at++;
        for (long i = lo; i <= hi && i < cpu; i++)
            if (CPU_ISSET((size_t)i, set)) return false;
    }
    return true;
}

int base_core_count(void) {
    cpu_set_t set;
    int n = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set) && first_of_its_core(&set, cpu)) n++;
    return n > 0 ? n : 1;
}

void base_thread_pin(int cpu_index) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    CPU_ZERO(&one);
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != cpu_index) continue;
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(pthread_self(), sizeof one, &one);
        return;
    }
}

void base_thread_yield(void) { sched_yield(); }
