/* SPDX-License-Identifier: MIT
 *
 * The training pass in double: the lines of src/train that train in float, instantiated once more,
 * with the roundings written out from their definition instead of through kernels. What holds for
 * this instance to ten digits holds for the formulas of both.
 */
#ifndef PASS_F64_H
#define PASS_F64_H

#include <math.h>

#include "train/pass.h"

typedef double real;
#define REAL_SQRT sqrt
#define REAL_ABS  fabs

typedef struct product {
    const real *a, *b;   /* operands */
    real *c;             /* result */
    size_t a_row, a_col; /* strides */
    size_t b_row, b_col; /* strides */
    size_t ldc;          /* stride */
    size_t m, n, k;      /* sizes */
    bool add;            /* C += */
} product;

enum { PRODUCT_SCRATCH = 0, CODES_USED = 0 };

typedef struct codes {
    int none; /* the codes are not kept, only what they stand for */
} codes;

static void product_rows(const kern *k, const product *g, size_t begin, size_t end, real *scratch) {
    (void)k;
    (void)scratch;
    for (size_t i = begin; i < end; i++)
        for (size_t j = 0; j < g->n; j++) {
            real sum = g->add ? g->c[i * g->ldc + j] : 0;
            for (size_t l = 0; l < g->k; l++)
                sum += g->a[i * g->a_row + l * g->a_col] * g->b[l * g->b_row + j * g->b_col];
            g->c[i * g->ldc + j] = sum;
        }
}

#include "train/layers_body.h"

static real softmax_row(const kern *k, real *x, size_t n) {
    real most = x[0], sum = 0;
    (void)k;
    for (size_t i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i++) sum += x[i] = exp(x[i] - most);
    for (size_t i = 0; i < n; i++) x[i] /= sum;
    return most + log(sum);
}

static void quantise_row(train_pass *p, size_t row, real *x, size_t n);
static void make_codes(train_pass *p);
static void project_codes(train_pass *p, real *y, const train_tensor *t) {
    (void)p;
    (void)y;
    (void)t;
}

#include "train/pass_body.h"

/* x -> round(x 127 / max|x|) max|x| / 127, half to even. */
static void quantise_row(train_pass *p, size_t row, real *x, size_t n) {
    real most = 1e-5;
    (void)row;
    if (p->s.full_float) return;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
    for (size_t i = 0; i < n; i++)
        x[i] = fmax(-128, fmin(127, rint(x[i] * (127 / most)))) / (127 / most);
}

/* w -> round(w / mean|w|) mean|w|, within -1 and 1 times the mean. */
static void make_codes(train_pass *p) {
    for (size_t i = 0; i < train_n_tensors(&p->s); i++) {
        const train_tensor t = train_tensor_at(&p->s, i);
        const size_t n = (size_t)t.rows * t.cols;
        real mean = 0;
        for (size_t j = 0; j < n; j++) mean += fabs(p->params[t.at + j]) / (real)n;
        mean = fmax(mean, 1e-5);
        for (size_t j = 0; j < n; j++)
            p->weights[t.at + j] = fmax(-1, fmin(1, rint(p->params[t.at + j] / mean))) * mean;
    }
}

static void codes_free(codes *c) { (void)c; }
static bool codes_alloc(codes *c, const train_shape *s, size_t n) {
    (void)s;
    (void)n;
    c->none = 0;
    return true;
}

#include "train/pass_memory_body.h"

/* Loss of a batch; grads (may be NULL) += its gradient. */
static double pass_f64(train_pass *p, const real *params, const train_batch *b, real *grads) {
    double sum = 0, n_targets = 0;
    p->params = params;
    p->b = b;
    forward(p);
    for (size_t t = 0; t < n_of(p); t++) {
        sum += p->loss_of[t];
        n_targets += b->target[t] != TRAIN_NO_TARGET;
    }
    p->share = 1 / n_targets;
    p->grads = grads;
    if (grads) backward(p);
    return sum * (1 / n_targets);
}

/* Relative distance of a from b. */
static inline double distance(const float *a, const double *b, size_t n) {
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(diff / norm);
}

#endif
