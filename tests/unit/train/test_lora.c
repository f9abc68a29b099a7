/* SPDX-License-Identifier: MIT
 *
 * Adapters beside a network that stands still: the gradients of A and B against central differences
 * in double; the float pass, over a model's own codes, against the double one; the same bits at any
 * number of threads and with recomputing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "pass_f64.h"
#include "tiny_model.h"

enum { ROWS = 2, CTX = 70 };

typedef struct rows {
    uint32_t token[ROWS * CTX], target[ROWS * CTX]; /* random */
    train_batch b;                                  /* of them */
} rows;

static void make_rows(rows *r, uint32_t n_vocab) {
    base_rng rng;
    base_rng_seed(&rng, 7);
    for (size_t i = 0; i < ROWS * CTX; i++) {
        r->token[i] = base_rng_below(&rng, n_vocab);
        r->target[i] = i % 5 == 3 ? TRAIN_NO_TARGET : base_rng_below(&rng, n_vocab);
    }
    r->b = (train_batch){ROWS, CTX, r->token, r->target};
}

/* ==== Central differences ===================================================================== */

static train_shape small(uint32_t rank) {
    return (train_shape){.n_vocab = 19,
                         .n_embd = 12,
                         .n_layer = 2,
                         .n_head = 4,
                         .n_head_kv = 2,
                         .d_head = 6,
                         .n_ff = 20,
                         .n_ctx = CTX,
                         .rope_base = 100,
                         .eps = 1e-5f,
                         .full_float = true,
                         .lora_rank = rank,
                         .lora_alpha = 3};
}

/* Values around a mean, in a new array. */
static real *random_values(size_t n, double mean, double deviation, uint64_t seed) {
    base_rng rng;
    base_rng_seed(&rng, seed);
    real *x = base_alloc_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = mean + deviation * (double)base_rng_normal(&rng);
    return x;
}

static const char *const role_names[] = {"embd",          "attn_norm", "q",        "k",    "v",
                                         "attn_sub_norm", "o",         "ffn_norm", "gate", "up",
                                         "ffn_sub_norm",  "down",      "out_norm"};

static double slope_error(train_pass *p, real *params, const rows *r, const real *grads,
                          const train_tensor *t, double *largest) {
    base_rng rng;
    double worst = 0;
    base_rng_seed(&rng, 8 + t->at);
    for (int sample = 0; sample < 10; sample++) {
        const size_t at = t->at + base_rng_below(&rng, t->rows * t->cols);
        const double h = 1e-5, old = params[at];
        params[at] = old + h;
        const double up = pass_f64(p, params, &r->b, NULL);
        params[at] = old - h;
        const double down = pass_f64(p, params, &r->b, NULL);
        params[at] = old;
        worst = fmax(worst, fabs((up - down) / (2 * h) - grads[at]));
        *largest = fmax(*largest, fabs(grads[at]));
    }
    return worst;
}

static void every_gradient_is_a_slope(void **state) {
    (void)state;
    for (uint32_t rank = 1; rank <= 3; rank += 2) {
        const train_shape s = small(rank);
        rotor_error err;
        par_pool *pool = NULL;
        train_pass *p = NULL;
        rows r;
        make_rows(&r, s.n_vocab);
        assert_int_equal(par_create(&pool, 2, false, &err), ROTOR_OK);
        assert_int_equal(pass_create(&p, &s, ROWS, rank == 3, NULL, pool, &err), ROTOR_OK);
        real *fixed = random_values(train_n_fixed(&s), 0.5, 0.3, 1);
        real *weights = random_values(train_n_weights(&s), 0, 0.3, 2);
        real *params = random_values(train_n_params(&s), 0, 0.3, 3);
        real *grads = base_alloc_array(train_n_params(&s), sizeof *grads);
        memcpy(p->weights, weights, train_n_weights(&s) * sizeof *weights);
        p->fixed = fixed;
        pass_f64(p, params, &r.b, grads);
        for (size_t i = 0; i < train_n_tensors(&s); i++) {
            const train_tensor t = train_tensor_at(&s, i);
            double largest = 0, worst = slope_error(p, params, &r, grads, &t, &largest);
            print_message("layer %u %-5s %c largest %.2e, worst difference %.1e\n", t.layer,
                          role_names[t.role], t.half == TRAIN_LORA_A ? 'A' : 'B', largest, worst);
            assert_true(largest > 1e-6);
            assert_true(worst < 1e-7 * fmax(1, 100 * largest));
        }
        pass_free(p);
        par_free(&pool);
        base_free(fixed);
        base_free(weights);
        base_free(params);
        base_free(grads);
    }
}

/* ==== Float over a model ====================================================================== */

static char path[96];

typedef struct setup {
    par_pool *pool;        /* threads */
    kern k;                /* best kernels */
    train_frozen f;        /* the model */
    train_shape s;         /* its shape, with an adapter */
    float *params, *grads; /* of the adapter */
    rows r;                /* of tokens */
} setup;

static void start(setup *x, tiny_kind kind, int n_threads) {
    rotor_error err = {0};
    base_rng rng;
    memset(x, 0, sizeof *x);
    tiny_write(path, kind, (tiny_shape){2, 256, 4, 2, 256, 97, 512}, 3, NULL);
    assert_int_equal(par_create(&x->pool, n_threads, false, &err), ROTOR_OK);
    kern_init(&x->k, cpu_detect());
    if (train_frozen_open(&x->f, path, x->pool, NULL, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    x->s = (train_shape){.n_ctx = CTX, .lora_rank = 5, .lora_alpha = 7};
    train_frozen_shape(&x->f, &x->s);
    assert_int_equal(train_frozen_load(&x->f, &x->s, &err), ROTOR_OK);
    x->params = base_alloc_array(train_n_params(&x->s), sizeof *x->params);
    x->grads = base_alloc_array(train_n_params(&x->s), sizeof *x->grads);
    base_rng_seed(&rng, 4);
    for (size_t i = 0; i < train_n_params(&x->s); i++) x->params[i] = 0.05f * base_rng_normal(&rng);
    make_rows(&x->r, x->s.n_vocab);
}

static void stop(setup *x) {
    train_frozen_close(&x->f);
    par_free(&x->pool);
    base_free(x->params);
    base_free(x->grads);
    unlink(path);
}

static double float_pass(setup *x, bool recompute) {
    rotor_error err = {0};
    struct train_pass *p = NULL;
    double loss;
    assert_int_equal(train_pass_create(&p, &x->s, ROWS, recompute, &x->k, x->pool, &err), ROTOR_OK);
    train_pass_beside(p, &x->f);
    memset(x->grads, 0, train_n_params(&x->s) * sizeof *x->grads);
    if (train_forward(p, x->params, &x->r.b, &loss, &err) != ROTOR_OK) fail_msg("%s", err.message);
    train_backward(p, 1, x->grads);
    train_pass_free(&p);
    return loss;
}

/* What the model's codes and scales stand for, into the double pass. */
static void copy_model(train_pass *p, const setup *x) {
    static const train_role roles[] = {TRAIN_Q,    TRAIN_K,  TRAIN_V,   TRAIN_O,
                                       TRAIN_GATE, TRAIN_UP, TRAIN_DOWN};
    int8_t values[256];
    uint64_t bad;
    for (uint32_t l = 0; l < x->s.n_layer; l++)
        for (size_t i = 0; i < BASE_COUNT(roles); i++) {
            const train_tensor t = train_tensor_of(&x->s, roles[i], l);
            const model_mat *w = model_proj_mat(&x->f.m->layers[l], (model_proj)i);
            for (size_t r = 0; r < t.rows; r++) {
                assert_true(quant_t2_unpack_row(w->data + r * w->row_bytes, w->cols, values, &bad));
                for (size_t c = 0; c < t.cols; c++)
                    p->weights[t.at + r * t.cols + c] = (double)w->scale * values[c];
            }
        }
}

static void float_agrees_with_double(void **state) {
    (void)state;
    setup x;
    rotor_error err;
    train_pass *p = NULL;
    start(&x, TINY_BITNET, 2);
    const size_t n = train_n_params(&x.s), n_fixed = train_n_fixed(&x.s);
    assert_int_equal(pass_create(&p, &x.s, ROWS, false, NULL, x.pool, &err), ROTOR_OK);
    real *fixed = base_alloc_array(n_fixed, sizeof *fixed);
    real *params = base_alloc_array(n, sizeof *params), *grads = base_alloc_array(n, sizeof *grads);
    for (size_t i = 0; i < n_fixed; i++) fixed[i] = (double)x.f.fixed[i];
    for (size_t i = 0; i < n; i++) params[i] = (double)x.params[i];
    copy_model(p, &x);
    p->fixed = fixed;
    const double loss64 = pass_f64(p, params, &x.r.b, grads), loss = float_pass(&x, false);
    const double far = distance(x.grads, grads, n);
    print_message("loss %.7f, in double %.7f; gradients differ by %.1e\n", loss, loss64, far);
    assert_true(fabs(loss - loss64) < 2e-3); /* a rounding that falls otherwise shows */
    assert_true(far < 5e-2);
    pass_free(p);
    base_free(fixed);
    base_free(params);
    base_free(grads);
    stop(&x);
}

static void threads_and_recomputing_change_no_bit(void **state) {
    (void)state;
    const tiny_kind kinds[] = {TINY_BITNET, TINY_BITNET_TQ, TINY_BITNET_T5};
    double want = 0;
    for (size_t i = 0; i < BASE_COUNT(kinds); i++) {
        setup one, more;
        start(&one, kinds[i], 1);
        const double loss = float_pass(&one, false);
        start(&more, kinds[i], 3);
        const double other = float_pass(&more, true);
        assert_memory_equal(&loss, &other, sizeof loss);
        assert_memory_equal(one.grads, more.grads, train_n_params(&one.s) * sizeof *one.grads);
        print_message("%s: loss %.9f\n", tiny_names[kinds[i]], loss);
        if (kinds[i] == TINY_BITNET) want = loss;
        if (kinds[i] == TINY_BITNET_T5) assert_memory_equal(&want, &loss, sizeof loss);
        stop(&one);
        stop(&more);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_is_a_slope),
        cmocka_unit_test(float_agrees_with_double),
        cmocka_unit_test(threads_and_recomputing_change_no_bit),
    };
    tiny_path(path, "train-lora.gguf");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
