/* SPDX-License-Identifier: MIT
 *
 * The training pass against PyTorch (tools/golden/train_pass.py): in double, roundings on and off,
 * loss, residual stream, logits and every gradient of one pass; in float, 200 steps of AdamW from
 * the same parameters over the same batches.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "pass_f64.h"

static void path_of(char path[512], const char *name) {
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    snprintf(path, 512, "%s/tests/data/train/%s", root ? root : ".", name);
}

/* ==== One pass in double ====================================================================== */

enum { EMBD = 12, VOCAB = 23, LAYERS = 2, ROWS = 2, CTX = 70, TOKENS = ROWS * CTX, PARAMS = 3592 };

/* A golden file, as it lies on the disk. */
typedef struct golden {
    uint32_t shape[10];                       /* V D L H K d F T theta rows */
    uint32_t token[TOKENS], target[TOKENS];   /* of the batch */
    double params[PARAMS];                    /* flat */
    double loss;                              /* mean, nats */
    double hidden[LAYERS + 1][TOKENS * EMBD]; /* into each layer, and out of the last */
    double logits[TOKENS * VOCAB];            /* of every token */
    double grads[PARAMS];                     /* flat */
} golden;

static golden *read_golden(const char *name) {
    char path[512];
    path_of(path, name);
    golden *g = base_alloc(sizeof *g);
    FILE *f = fopen(path, "rb");
    assert_non_null(g);
    assert_non_null(f);
    assert_int_equal(fread(g, 1, sizeof *g, f), offsetof(golden, grads) + sizeof g->grads);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    return g;
}

/* Largest difference over largest value. */
static double far(const double *got, const double *want, size_t n) {
    double diff = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        diff = fmax(diff, fabs(got[i] - want[i]));
        most = fmax(most, fabs(want[i]));
    }
    assert_true(most > 0);
    return diff / most;
}

static void logits_of(const train_pass *p, double *out) {
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t v = 0; v < VOCAB; v++)
            out[t * VOCAB + v] = dot(p->xf + t * EMBD, p->params + v * EMBD, EMBD);
}

static void compare_pass(const char *name, bool full_float) {
    golden *g = read_golden(name);
    const uint32_t *n = g->shape;
    const train_shape s = {.n_vocab = n[0],
                           .n_embd = n[1],
                           .n_layer = n[2],
                           .n_head = n[3],
                           .n_head_kv = n[4],
                           .d_head = n[5],
                           .n_ff = n[6],
                           .n_ctx = n[7],
                           .rope_base = (float)n[8],
                           .eps = 1e-5f,
                           .full_float = full_float};
    const train_batch b = {n[9], s.n_ctx, g->token, g->target};
    static double grads[PARAMS], logits[TOKENS * VOCAB];
    double worst = 0;
    rotor_error err;
    par_pool *pool = NULL;
    train_pass *p = NULL;
    memset(grads, 0, sizeof grads);
    assert_int_equal(train_n_params(&s), PARAMS);
    assert_int_equal(par_create(&pool, 2, false, &err), ROTOR_OK);
    assert_int_equal(pass_create(&p, &s, ROWS, false, NULL, pool, &err), ROTOR_OK);
    double loss = pass_f64(p, g->params, &b, NULL);
    assert_true(fabs(loss - g->loss) < 1e-10 * g->loss);
    for (uint32_t l = 0; l <= LAYERS; l++) {
        double d = far(p->layers[l].x, g->hidden[l], (size_t)TOKENS * EMBD);
        assert_true(d < 1e-10);
        worst = fmax(worst, d);
    }
    logits_of(p, logits);
    worst = fmax(worst, far(logits, g->logits, (size_t)TOKENS * VOCAB));
    pass_f64(p, g->params, &b, grads);
    double worst_grad = 0;
    for (size_t i = 0; i < train_n_tensors(&s); i++) {
        const train_tensor t = train_tensor_at(&s, i);
        worst_grad = fmax(worst_grad, far(grads + t.at, g->grads + t.at, (size_t)t.rows * t.cols));
    }
    print_message(
        "%s: loss %.10f; values differ by %.1e, gradients by %.1e of a tensor's largest\n", name,
        loss, worst, worst_grad);
    assert_true(worst < 1e-10);
    assert_true(worst_grad < 1e-10);
    pass_free(p);
    par_free(&pool);
    base_free(g);
}

static void ternary_pass_equals_autograd(void **state) {
    (void)state;
    compare_pass("pass_ternary.bin", false);
}

static void float_pass_equals_autograd(void **state) {
    (void)state;
    compare_pass("pass_float.bin", true);
}

/* ==== 200 steps in float ====================================================================== */

enum { STEPS = 200, STEP_ROWS = 8, STEP_CTX = 32 };

static const train_shape step_shape = {.n_vocab = 64,
                                       .n_embd = 64,
                                       .n_layer = 2,
                                       .n_head = 4,
                                       .n_head_kv = 2,
                                       .d_head = 16,
                                       .n_ff = 128,
                                       .n_ctx = STEP_CTX,
                                       .rope_base = 10000,
                                       .eps = 1e-5f};

/* The golden script's whole numbers: 24 bits each. */
static uint32_t next_number(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 40);
}

static void first_params(float *params, uint64_t *state) {
    for (size_t i = 0; i < train_n_tensors(&step_shape); i++) {
        const train_tensor t = train_tensor_at(&step_shape, i);
        for (size_t j = 0; j < (size_t)t.rows * t.cols; j++)
            params[t.at + j] =
                t.rows == 1 ? 1 : (float)((int32_t)next_number(state) - (1 << 23)) * 0x1p-27f;
    }
}

static void next_batch(uint32_t *token, uint32_t *target, uint64_t *state) {
    for (size_t r = 0; r < STEP_ROWS; r++) {
        uint32_t x = next_number(state) % 64;
        for (size_t t = 0; t < STEP_CTX; t++) {
            token[r * STEP_CTX + t] = x;
            x = (5 * x + 1 + 17 * (next_number(state) >> 23)) % 64;
            target[r * STEP_CTX + t] = x;
        }
    }
}

static void read_losses(double *loss) {
    char path[512];
    path_of(path, "steps.txt");
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (size_t i = 0; i < STEPS; i++) assert_int_equal(fscanf(f, "%lf", &loss[i]), 1);
    fclose(f);
}

/* Trains as the golden script does; the loss of each step. */
static void train_200(double *loss) {
    const train_adamw opt = train_adamw_default();
    const train_schedule plan = {.lr = 4e-3f, .decay = 0.1f, .warm_steps = 100, .steps = STEPS};
    const size_t n = train_n_params(&step_shape);
    uint32_t token[STEP_ROWS * STEP_CTX], target[STEP_ROWS * STEP_CTX];
    const train_batch b = {STEP_ROWS, STEP_CTX, token, target};
    train_vectors x = {0};
    uint64_t state = 1;
    rotor_error err;
    par_pool *pool = NULL;
    struct train_pass *p = NULL;
    kern k;
    kern_init(&k, cpu_detect());
    assert_int_equal(par_create(&pool, 2, false, &err), ROTOR_OK);
    assert_int_equal(train_pass_create(&p, &step_shape, STEP_ROWS, false, &k, pool, &err),
                     ROTOR_OK);
    float **list[] = {&x.params, &x.grads, &x.m, &x.v};
    for (size_t i = 0; i < 4; i++) assert_non_null(*list[i] = base_alloc_array(n, sizeof(float)));
    first_params(x.params, &state);
    for (uint64_t step = 1; step <= STEPS; step++) {
        double norm;
        train_step at = {.number = step};
        next_batch(token, target, &state);
        memset(x.grads, 0, n * sizeof *x.grads);
        assert_int_equal(train_forward(p, x.params, &b, &loss[step - 1], &err), ROTOR_OK);
        train_backward(p, 1, x.grads);
        train_schedule_at(&plan, step, &at.lr, &at.decay);
        train_adamw_step(&step_shape, &opt, at, &x, pool, &norm);
    }
    for (size_t i = 0; i < 4; i++) base_free(*list[i]);
    train_pass_free(&p);
    par_free(&pool);
}

static void two_hundred_steps_follow_torch(void **state) {
    (void)state;
    static double loss[STEPS], want[STEPS];
    double first = 0, end = 0, end_want = 0;
    read_losses(want);
    train_200(loss);
    for (size_t i = 0; i < 5; i++) first = fmax(first, fabs(loss[i] - want[i]));
    for (size_t i = STEPS - 20; i < STEPS; i++) end += loss[i] / 20, end_want += want[i] / 20;
    print_message("the first 5 losses differ by %.1e; mean of the last 20: %.5f, torch %.5f\n",
                  first, end, end_want);
    assert_true(first < 1e-4);
    assert_true(fabs(end - end_want) < 0.01 * end_want);
    assert_true(end < 0.25 * want[0]); /* and something was learnt */
}

/* ==== Ties ==================================================================================== */

/* Exact halves: codes to even, weights of half the mean to 0. torch.round and the bridge agree
 * (tests/python/test_torch.py). */
static void halves_fall_as_in_torch(void **state) {
    (void)state;
    const float x[] = {127, 0.5f, 1.5f, -2.5f, -126.5f, -0.5f};
    const float w[] = {1.5f, -0.5f, -1.5f, 0.5f};
    const int8_t x_codes[] = {127, 0, 2, -2, -126, 0}, w_codes[] = {1, 0, -1, 0};
    int8_t q[KERN_ALIGN_COLS] = {0}, t[4];
    float step;
    int32_t sum;
    kern k;
    kern_init(&k, cpu_detect());
    k.quant_i8(q, &step, &sum, x, BASE_COUNT(x), KERN_ALIGN_COLS);
    assert_memory_equal(q, x_codes, sizeof x_codes);
    assert_float_equal(quant_absmean(w, BASE_COUNT(w), t), 1, 0);
    assert_memory_equal(t, w_codes, sizeof w_codes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ternary_pass_equals_autograd),
        cmocka_unit_test(float_pass_equals_autograd),
        cmocka_unit_test(two_hundred_steps_follow_torch),
        cmocka_unit_test(halves_fall_as_in_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
