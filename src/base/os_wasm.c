/* SPDX-License-Identifier: MIT
 *
 * The operating system of a WebAssembly page: a clock, random bytes and memory, asked of the page
 * through WASI. There are no files and no second thread; doors to them say so, and locks that only
 * one thread can ask for are always free.
 *
 * Memory of a page grows and is never given back to the browser before the page's end.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/base_internal.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ==== Pages =================================================================================== */

void *os_pages_alloc(size_t bytes) {
    uint64_t total;
    if (!base_round_up_u64(bytes ? bytes : 1, 64, &total) || total > SIZE_MAX / 2) return NULL;
    void *p = aligned_alloc(64, (size_t)total);
    return p ? memset(p, 0, (size_t)total) : NULL;
}

void os_pages_free(void *p) { free(p); }

/* ==== Clock, seed ============================================================================= */

uint64_t base_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t base_now_us(void) { return base_now_ns() / 1000u; }

uint64_t base_random_seed(void) {
    uint64_t seed;
    return getentropy(&seed, sizeof seed) == 0 ? seed : base_now_ns() * 0x9E3779B97F4A7C15u;
}

/* ==== Files: none ============================================================================= */

rotor_status base_file_open(base_file *f, const char *path, bool map, rotor_error *err) {
    (void)map;
    memset(f, 0, sizeof *f);
    f->fd = -1;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: a page has no files; models come from memory",
                     path);
}

void base_file_close(base_file *f) {
    if (f) *f = (base_file){.fd = -1};
}

void base_file_drop(const base_file *f, size_t offset, size_t n_bytes) {
    (void)f, (void)offset, (void)n_bytes;
}

base_path_kind base_path_kind_of(const char *path) {
    (void)path;
    return BASE_PATH_NONE;
}

void base_advise(const void *p, size_t n_bytes, base_advice advice) {
    (void)p, (void)n_bytes, (void)advice;
}

/* ==== One thread ============================================================================== */

struct base_mutex {
    bool held; /* by the only thread there is */
};
struct base_cond {
    char none; /* nobody else could wake who waits */
};

rotor_status base_thread_start(base_thread **out, void (*fn)(void *), void *arg) {
    (void)out, (void)fn, (void)arg;
    return ROTOR_E_UNSUPPORTED;
}

void base_thread_join(base_thread **t) { (void)t; }
void base_thread_pin(int cpu_index) { (void)cpu_index; }
int base_core_count(void) { return 1; }

rotor_status base_mutex_create(base_mutex **out) {
    *out = base_alloc(sizeof **out);
    return *out ? ROTOR_OK : ROTOR_E_NOMEM;
}

void base_mutex_free(base_mutex **m) {
    if (!m) return;
    base_free(*m);
    *m = NULL;
}

void base_mutex_lock(base_mutex *m) { m->held = true; }
void base_mutex_unlock(base_mutex *m) { m->held = false; }

rotor_status base_cond_create(base_cond **out) {
    *out = base_alloc(sizeof **out);
    return *out ? ROTOR_OK : ROTOR_E_NOMEM;
}

void base_cond_free(base_cond **c) {
    if (!c) return;
    base_free(*c);
    *c = NULL;
}

void base_cond_wait(base_cond *c, base_mutex *m) { (void)c, (void)m; }
void base_cond_broadcast(base_cond *c) { (void)c; }
