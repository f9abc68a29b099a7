/* SPDX-License-Identifier: MIT
 *
 * par: every thread runs every job once, several submitters, slices cover exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdatomic.h>

#include "par/par.h"

typedef struct tally {
    atomic_int runs[16]; /* per thread */
} tally;

static void count(void *arg, int thread, int n_threads) {
    (void)n_threads;
    atomic_fetch_add(&((tally *)arg)->runs[thread], 1);
}

static void every_thread_runs_every_job(void **state) {
    (void)state;
    for (int n = 1; n <= 5; n++) {
        par_pool *p = NULL;
        tally t = {0};
        assert_int_equal(par_create(&p, n, false, NULL), ROTOR_OK);
        for (int i = 0; i < 500; i++) par_run(p, count, &t);
        for (int i = 0; i < n; i++) assert_int_equal(atomic_load(&t.runs[i]), 500);
        par_free(&p);
    }
}

typedef struct relay {
    par_pool *pool; /* whose barrier */
    int value[8];   /* one slot per thread */
    atomic_int bad; /* slots seen out of step */
} relay;

static void pass_the_baton(void *arg, int thread, int n_threads) {
    relay *r = arg;
    for (int round = 1; round <= 300; round++) {
        r->value[thread] = round;
        par_barrier(r->pool);
        for (int i = 0; i < n_threads; i++)
            if (r->value[i] != round) atomic_fetch_add(&r->bad, 1);
        par_barrier(r->pool);
    }
}

static void barrier_keeps_threads_in_step(void **state) {
    (void)state;
    for (int n = 1; n <= 4; n++) {
        relay r = {0};
        assert_int_equal(par_create(&r.pool, n, false, NULL), ROTOR_OK);
        par_run(r.pool, pass_the_baton, &r);
        assert_int_equal(atomic_load(&r.bad), 0);
        par_free(&r.pool);
    }
}

static void submit_many(void *arg) {
    void **a = arg;
    for (int i = 0; i < 200; i++) par_run(a[0], count, a[1]);
}

static void several_submitters_take_turns(void **state) {
    (void)state;
    par_pool *p = NULL;
    tally t = {0};
    assert_int_equal(par_create(&p, 3, false, NULL), ROTOR_OK);
    void *args[] = {p, &t};
    base_thread *threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(base_thread_start(&threads[i], submit_many, args), ROTOR_OK);
    for (int i = 0; i < 4; i++) base_thread_join(&threads[i]);
    for (int i = 0; i < 3; i++) assert_int_equal(atomic_load(&t.runs[i]), 800);
    par_free(&p);
}

static void slices_cover_exactly(void **state) {
    (void)state;
    for (size_t n = 0; n < 70; n++)
        for (size_t align = 1; align <= 16; align *= 4)
            for (int threads = 1; threads <= 5; threads++) {
                size_t at = 0;
                for (int t = 0; t < threads; t++) {
                    size_t b, e;
                    par_slice(n, align, t, threads, &b, &e);
                    assert_int_equal(b, at);
                    assert_true(e >= b && (b % align == 0 || b == n));
                    at = e;
                }
                assert_int_equal(at, n);
            }
}

static void creation_survives_every_fault(void **state) {
    (void)state;
    for (long n = 1; n < 50; n++) {
        par_pool *p = NULL;
        base_fault_after(n);
        rotor_status st = par_create(&p, 3, false, NULL);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st == ROTOR_OK, !fired);
        assert_int_equal(p != NULL, !fired);
        par_free(&p);
        if (!fired) return;
    }
    fail();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_every_job),
        cmocka_unit_test(barrier_keeps_threads_in_step),
        cmocka_unit_test(several_submitters_take_turns),
        cmocka_unit_test(slices_cover_exactly),
        cmocka_unit_test(creation_survives_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
