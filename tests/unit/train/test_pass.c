/* SPDX-License-Identifier: MIT
 *
 * The float pass: what it shares with the double one (loss and gradients, roundings off), the same
 * bits at any number of threads, and that a few steps learn.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "pass_f64.h"

enum { ROWS = 3, CTX = 40 };

static train_shape shape = {.n_vocab = 31,
                            .n_embd = 32,
                            .n_layer = 2,
                            .n_head = 4,
                            .n_head_kv = 2,
                            .d_head = 8,
                            .n_ff = 64,
                            .n_ctx = CTX,
                            .rope_base = 10000,
                            .eps = 1e-5f};

typedef struct setup {
    par_pool *pool;                                 /* as many threads as asked */
    kern k;                                         /* best kernels */
    float *params, *grads, *m, *v;                  /* vectors */
    size_t n;                                       /* of them */
    uint32_t token[ROWS * CTX], target[ROWS * CTX]; /* a repeating pattern: can be learnt */
    train_batch b;                                  /* of them */
} setup;

static void start(setup *x, int n_threads) {
    rotor_error err;
    assert_int_equal(par_create(&x->pool, n_threads, false, &err), ROTOR_OK);
    kern_init(&x->k, cpu_detect());
    x->n = train_n_params(&shape);
    float **list[] = {&x->params, &x->grads, &x->m, &x->v};
    for (size_t i = 0; i < 4; i++)
        assert_non_null(*list[i] = base_alloc_array(x->n, sizeof(float)));
    train_init(&shape, x->params, 5);
    for (uint32_t i = 0; i < ROWS * CTX; i++) {
        x->token[i] = (i * 7 + i / CTX) % 31;
        x->target[i] = ((i + 1) * 7 + i / CTX) % 31;
    }
    x->b = (train_batch){ROWS, CTX, x->token, x->target};
}

static void stop(setup *x) {
    par_free(&x->pool);
    base_free(x->params);
    base_free(x->grads);
    base_free(x->m);
    base_free(x->v);
}

static void float_agrees_with_double(void **state) {
    (void)state;
    for (int full = 0; full < 2; full++) {
        setup x;
        rotor_error err;
        train_pass *p64 = NULL;
        double loss, loss64;
        shape.full_float = full;
        start(&x, 2);
        double *params = base_alloc_array(x.n, sizeof *params);
        double *grads = base_alloc_array(x.n, sizeof *grads);
        for (size_t i = 0; i < x.n; i++) params[i] = (double)x.params[i];
        struct train_pass *p = NULL;
        assert_int_equal(train_pass_create(&p, &shape, ROWS, false, &x.k, x.pool, &err), ROTOR_OK);
        assert_int_equal(pass_create(&p64, &shape, ROWS, false, NULL, x.pool, &err), ROTOR_OK);
        assert_int_equal(train_forward(p, x.params, &x.b, &loss, &err), ROTOR_OK);
        train_backward(p, 1, x.grads);
        loss64 = pass_f64(p64, params, &x.b, grads);
        double far = distance(x.grads, grads, x.n);
        print_message("%s: loss %.7f, in double %.7f; gradients differ by %.1e\n",
                      full ? "full float" : "ternary", loss, loss64, far);
        assert_true(fabs(loss - loss64) < (full ? 1e-5 : 1e-3));
        assert_true(far < (full ? 1e-4 : 5e-2)); /* a rounding that falls otherwise shows */
        train_pass_free(&p);
        pass_free(p64);
        base_free(params);
        base_free(grads);
        stop(&x);
    }
    shape.full_float = false;
}

/* Steps at a fixed rate; the loss of each. */
static void learn(int n_threads, bool recompute, size_t n_steps, double *loss, float *params) {
    setup x;
    rotor_error err;
    struct train_pass *p = NULL;
    const train_adamw opt = train_adamw_default();
    start(&x, n_threads);
    assert_int_equal(train_pass_create(&p, &shape, ROWS, recompute, &x.k, x.pool, &err), ROTOR_OK);
    for (size_t i = 0; i < n_steps; i++) {
        double norm;
        memset(x.grads, 0, x.n * sizeof *x.grads);
        assert_int_equal(train_forward(p, x.params, &x.b, &loss[i], &err), ROTOR_OK);
        train_backward(p, 1, x.grads);
        train_vectors vectors = {x.params, x.grads, x.m, x.v};
        train_adamw_step(&shape, &opt, (train_step){i + 1, 3e-3f, 0.1f}, &vectors, x.pool, &norm);
        assert_true(norm > 0);
    }
    memcpy(params, x.params, x.n * sizeof *params);
    train_pass_free(&p);
    stop(&x);
}

static void threads_and_recomputing_change_no_bit(void **state) {
    (void)state;
    const size_t n = train_n_params(&shape);
    float *one = base_alloc_array(n, sizeof *one), *more = base_alloc_array(n, sizeof *more);
    double loss[5], other[5];
    learn(1, false, 5, loss, one);
    for (int threads = 2; threads < 5; threads++) {
        learn(threads, threads == 3, 5, other, more);
        assert_memory_equal(loss, other, sizeof loss);
        assert_memory_equal(one, more, n * sizeof *one);
    }
    base_free(one);
    base_free(more);
}

static void a_pattern_is_learnt(void **state) {
    (void)state;
    static double loss[80];
    float *params = base_alloc_array(train_n_params(&shape), sizeof *params);
    learn(2, false, 80, loss, params);
    print_message("loss %.3f at first, %.3f after 80 steps\n", loss[0], loss[79]);
    assert_true(fabs(loss[0] - log(31)) < 0.1);
    assert_true(loss[79] < 0.5);
    base_free(params);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_agrees_with_double),
        cmocka_unit_test(threads_and_recomputing_change_no_bit),
        cmocka_unit_test(a_pattern_is_learnt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
