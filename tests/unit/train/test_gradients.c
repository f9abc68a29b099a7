/* SPDX-License-Identifier: MIT
 *
 * The gradient of every tensor against central differences, in double, with the roundings left out
 * (full_float): shapes with grouped heads, several blocks of attention and tokens that do not
 * count. Keeping activations and making them again must agree to the last bit.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "pass_f64.h"

enum { ROWS = 2, CTX = 70 };

static const train_shape shape = {.n_vocab = 19,
                                  .n_embd = 12,
                                  .n_layer = 2,
                                  .n_head = 4,
                                  .n_head_kv = 2,
                                  .d_head = 6,
                                  .n_ff = 20,
                                  .n_ctx = CTX,
                                  .rope_base = 100,
                                  .eps = 1e-5f,
                                  .full_float = true};

typedef struct fixture {
    par_pool *pool;                                 /* two threads */
    train_pass *pass, *again;                       /* keeping activations; recomputing them */
    real *params, *grads, *grads2;                  /* flat vectors */
    uint32_t token[ROWS * CTX], target[ROWS * CTX]; /* random */
    train_batch b;                                  /* of them */
    size_t n;                                       /* parameters */
} fixture;

static void start(fixture *f, const train_shape *s) {
    rotor_error err;
    base_rng rng;
    base_rng_seed(&rng, 7);
    f->n = train_n_params(s);
    assert_int_equal(par_create(&f->pool, 2, false, &err), ROTOR_OK);
    assert_int_equal(pass_create(&f->pass, s, ROWS, false, NULL, f->pool, &err), ROTOR_OK);
    assert_int_equal(pass_create(&f->again, s, ROWS, true, NULL, f->pool, &err), ROTOR_OK);
    f->params = base_alloc_array(f->n, sizeof *f->params);
    f->grads = base_alloc_array(f->n, sizeof *f->grads);
    f->grads2 = base_alloc_array(f->n, sizeof *f->grads2);
    for (size_t i = 0; i < f->n; i++) f->params[i] = 0.3 * (double)base_rng_normal(&rng);
    for (size_t i = 0; i < ROWS * CTX; i++) {
        f->token[i] = base_rng_below(&rng, s->n_vocab);
        f->target[i] = i % 5 == 3 ? TRAIN_NO_TARGET : base_rng_below(&rng, s->n_vocab);
    }
    f->b = (train_batch){ROWS, CTX, f->token, f->target};
}

static void stop(fixture *f) {
    pass_free(f->pass);
    pass_free(f->again);
    par_free(&f->pool);
    base_free(f->params);
    base_free(f->grads);
    base_free(f->grads2);
}

static const char *const role_names[] = {"embd",          "attn_norm", "q",        "k",    "v",
                                         "attn_sub_norm", "o",         "ffn_norm", "gate", "up",
                                         "ffn_sub_norm",  "down",      "out_norm"};

static void every_gradient_is_a_slope(void **state) {
    (void)state;
    fixture f = {0};
    base_rng rng;
    base_rng_seed(&rng, 8);
    start(&f, &shape);
    pass_f64(f.pass, f.params, &f.b, f.grads);
    for (size_t i = 0; i < train_n_tensors(&shape); i++) {
        const train_tensor t = train_tensor_at(&shape, i);
        double worst = 0, largest = 0;
        for (int sample = 0; sample < 12; sample++) {
            const size_t at = t.at + base_rng_below(&rng, t.rows * t.cols);
            const double h = 1e-5, old = f.params[at];
            f.params[at] = old + h;
            double up = pass_f64(f.pass, f.params, &f.b, NULL);
            f.params[at] = old - h;
            double down = pass_f64(f.pass, f.params, &f.b, NULL);
            f.params[at] = old;
            worst = fmax(worst, fabs((up - down) / (2 * h) - f.grads[at]));
            largest = fmax(largest, fabs(f.grads[at]));
        }
        print_message("layer %u %-13s largest %.2e, worst difference %.1e\n", t.layer,
                      role_names[t.role], largest, worst);
        assert_true(largest > 1e-6);
        assert_true(worst < 1e-7 * fmax(1, 100 * largest));
    }
    stop(&f);
}

static void made_again_activations_give_the_same_bits(void **state) {
    (void)state;
    train_shape s = shape;
    for (int quantised = 0; quantised < 2; quantised++) {
        fixture f = {0};
        s.full_float = !quantised;
        start(&f, &s);
        double a = pass_f64(f.pass, f.params, &f.b, f.grads);
        double b = pass_f64(f.again, f.params, &f.b, f.grads2);
        assert_memory_equal(&a, &b, sizeof a);
        assert_memory_equal(f.grads, f.grads2, f.n * sizeof *f.grads);
        stop(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_is_a_slope),
        cmocka_unit_test(made_again_activations_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
