/* SPDX-License-Identifier: MIT
 *
 * par: a pool of threads that run one function together and meet again.
 *
 * par_run hands the same job to every thread, the caller included, and returns when all are done:
 * one hand-over and one barrier, about 100 ns while a step is going on. Threads spin for a short
 * while between jobs and then sleep, so an idle program uses no processor time.
 *
 * Threading: several threads may call par_run on one pool; jobs are run one after another.
 * A job must not call par_run on its own pool.
 */
#ifndef PAR_H
#define PAR_H

#include "base/base.h"

typedef struct par_pool par_pool;

/* thread in [0, n_threads); thread 0 is the caller. */
typedef void (*par_fn)(void *arg, int thread, int n_threads);

rotor_status par_create(par_pool **out, int n_threads, bool pin, rotor_error *err);
void par_free(par_pool **p);
int par_n_threads(const par_pool *p);
void par_run(par_pool *p, par_fn fn, void *arg);

/* Inside a job: waits until every thread of the pool is here. Called by all threads alike. */
void par_barrier(par_pool *p);

/* Contiguous share of n items for one thread, borders on multiples of align (the last may be odd).
 */
void par_slice(size_t n, size_t align, int thread, int n_threads, size_t *begin, size_t *end);

#endif
