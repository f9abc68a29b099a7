/* SPDX-License-Identifier: MIT
 *
 * The pass in float, the one that trains: pass_body.h over the kernel table. The forward products
 * of ternary projections are the engine's own: the same codes, the same integer sums.
 */
#include <math.h>

#include "train/pass.h"

typedef float real;
#define REAL_SQRT sqrtf
typedef kern_gemm product;

enum { PRODUCT_SCRATCH = KERN_GEMM_SCRATCH, CODES_USED = 1 };

/* The integers of the quantised products. */
typedef struct codes {
    int8_t *q;      /* [N, ldq] input of a projection, owned */
    float *step;    /* [N] 127 / absmax of its rows, owned */
    int32_t *sum;   /* [N] sums of its rows, owned */
    int8_t *values; /* flat as the parameters: -1, 0, +1, owned */
    uint8_t *t2;    /* T2 rows of every tensor, owned */
    size_t *t2_at;  /* [tensors] first byte of each in t2, owned */
    float *scale;   /* [tensors] mean |w|, owned */
} codes;

static void product_rows(const kern *k, const product *g, size_t begin, size_t end,
                         float *scratch) {
    k->gemm_f32(g, begin, end, scratch);
}

#include "train/layers_body.h"

static real softmax_row(const kern *k, real *x, size_t n) { return k->softmax(x, n); }

static void quantise_row(train_pass *p, size_t row, real *x, size_t n);
static void project_codes(train_pass *p, real *y, const train_tensor *t);
static void make_codes(train_pass *p);

#include "train/pass_body.h"

/* ==== Codes =================================================================================== */

static size_t padded(size_t cols) {
    return (cols + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
}

static void codes_free(codes *c) {
    base_free_aligned(c->q);
    base_free(c->step);
    base_free(c->sum);
    base_free(c->values);
    base_free_aligned(c->t2);
    base_free(c->t2_at);
    base_free(c->scale);
}

static size_t widest(const train_shape *s);

static bool codes_alloc(codes *c, const train_shape *s, size_t n_tok) {
    const size_t tensors = train_n_tensors(s);
    size_t bytes = 0;
    c->t2_at = base_alloc_array(tensors, sizeof *c->t2_at);
    for (size_t i = 0; c->t2_at && i < tensors; i++) {
        const train_tensor t = train_tensor_at(s, i);
        c->t2_at[i] = bytes;
        if (train_is_ternary(t.role)) bytes += t.rows * quant_t2_row_bytes(t.cols);
    }
    c->q = base_alloc_aligned(n_tok * padded(widest(s)));
    c->step = base_alloc_array(n_tok, sizeof *c->step);
    c->sum = base_alloc_array(n_tok, sizeof *c->sum);
    c->values = base_alloc(train_n_params(s));
    c->t2 = base_alloc_aligned(bytes);
    c->scale = base_alloc_array(tensors, sizeof *c->scale);
    return c->t2_at && c->q && c->step && c->sum && c->values && c->t2 && c->scale;
}

/* x becomes what its int8 codes stand for. */
static void quantise_row(train_pass *p, size_t row, real *x, size_t n) {
    if (p->s.full_float) return;
    codes *c = &p->int8;
    int8_t *q = c->q + row * padded(n);
    p->k->quant_i8(q, c->step + row, c->sum + row, x, n, padded(n));
    const real step = c->step[row];
    for (size_t i = 0; i < n; i++) x[i] = (real)q[i] / step;
}

static void one_tensor(train_pass *p, size_t i) {
    const train_tensor t = train_tensor_at(&p->s, i);
    codes *c = &p->int8;
    const size_t n = (size_t)t.rows * t.cols, row_bytes = quant_t2_row_bytes(t.cols);
    if (!train_is_ternary(t.role)) return;
    c->scale[i] = quant_absmean(p->params + t.at, n, c->values + t.at);
    for (size_t j = 0; j < n; j++) p->weights[t.at + j] = c->scale[i] * (real)c->values[t.at + j];
    for (size_t r = 0; r < t.rows; r++)
        quant_t2_pack_row(c->values + t.at + r * t.cols, t.cols,
                          c->t2 + c->t2_at[i] + r * row_bytes);
}

static void share_tensors(void *arg, int thread, int n_threads) {
    train_pass *p = arg;
    for (size_t i = (size_t)thread; i < train_n_tensors(&p->s); i += (size_t)n_threads)
        one_tensor(p, i);
}

static void make_codes(train_pass *p) { par_run(p->pool, share_tensors, p); }

typedef struct codes_job {
    train_pass *p; /* the pass */
    real *y;       /* [N, rows] */
    kern_mat w;    /* T2 rows */
    kern_act x;    /* the quantised input */
} codes_job;

static void share_codes(void *arg, int thread, int n_threads) {
    const codes_job *j = arg;
    size_t begin, end;
    par_slice(j->w.rows, 16, thread, n_threads, &begin, &end);
    if (begin < end) j->p->k->gemm_t2_i8(j->y, j->w.rows, &j->w, &j->x, begin, end);
}

static size_t index_of(const train_shape *s, const train_tensor *t) {
    for (size_t i = 0;; i++)
        if (train_tensor_at(s, i).at == t->at) return i;
}

static void project_codes(train_pass *p, real *y, const train_tensor *t) {
    const codes *c = &p->int8;
    const size_t i = index_of(&p->s, t);
    codes_job j = {
        .p = p,
        .y = y,
        .w = {.data = c->t2 + c->t2_at[i],
              .type = QUANT_I2_S,
              .rows = t->rows,
              .cols = t->cols,
              .row_bytes = quant_t2_row_bytes(t->cols),
              .scale = c->scale[i]},
        .x = {.q = c->q, .ldq = padded(t->cols), .s = c->step, .sum = c->sum, .n_tok = n_of(p)}};
    par_run(p->pool, share_codes, &j);
}

#include "train/pass_memory_body.h"

/* ==== The door ================================================================================ */

uint64_t pass_floats_per_tok(const train_shape *s, bool recompute) {
    return reals_per_tok(s, recompute);
}

uint64_t pass_scratch_bytes(const train_shape *s, uint32_t n_rows, int n_threads) {
    const uint64_t n = (uint64_t)n_rows * s->n_ctx, params = train_n_params(s);
    uint64_t bytes = (uint64_t)n_threads * scratch_reals(s) * sizeof(real) + n * sizeof(double) +
                     (uint64_t)s->n_ctx * s->d_head * sizeof(real);
    if (!s->full_float)
        bytes += params * sizeof(real) + params + params / 4 + n * (padded(widest(s)) + 8);
    return bytes;
}

rotor_status train_pass_create(train_pass **out, const train_shape *s, uint32_t n_rows,
                               bool recompute, const kern *k, par_pool *pool, rotor_error *err) {
    return pass_create(out, s, n_rows, recompute, k, pool, err);
}

void train_pass_free(train_pass **p) {
    pass_free(*p);
    *p = NULL;
}

/* Says where the first value that is not finite stands. */
static rotor_status not_finite(const train_pass *p, rotor_error *err) {
    for (uint32_t l = 0; l <= p->s.n_layer; l++)
        for (size_t i = 0; i < n_of(p) * p->s.n_embd; i++)
            if (!isfinite(p->layers[l].x[i]))
                return base_fail(err, ROTOR_E_FORMAT,
                                 "the loss is not a number: the first bad value is in %s%u of the "
                                 "network, token %zu of the batch; a lower --lr may help",
                                 l ? "the output of layer " : "the embedding, layer ",
                                 l ? l - 1 : 0, i / p->s.n_embd);
    return base_fail(err, ROTOR_E_FORMAT,
                     "the loss is not a number: the head overflows; a lower "
                     "--lr may help");
}

rotor_status train_forward(train_pass *p, const float *params, const train_batch *b, double *loss,
                           rotor_error *err) {
    assert(b->n_rows <= p->n_rows && b->n_tok <= p->s.n_ctx);
    p->params = params;
    p->b = b;
    forward(p);
    double sum = 0, n_targets = 0;
    for (size_t t = 0; t < n_of(p); t++) {
        sum += p->loss_of[t];
        n_targets += b->target[t] != TRAIN_NO_TARGET;
    }
    if (!isfinite(sum)) return not_finite(p, err);
    p->share = n_targets > 0 ? 1 / n_targets : 0;
    *loss = sum * p->share;
    return ROTOR_OK;
}

void train_backward(train_pass *p, float weight, float *grads) {
    p->grads = grads;
    p->share *= (double)weight;
    backward(p);
}

void train_logits(train_pass *p, uint32_t r, uint32_t t, float *logits) {
    const size_t n = p->s.n_embd;
    const real *x = p->xf + ((size_t)r * p->b->n_tok + t) * n;
    for (size_t v = 0; v < p->s.n_vocab; v++) logits[v] = dot(x, p->params + v * n, n);
}
