/* SPDX-License-Identifier: MIT
 *
 * A pass over a batch, forward and backward, in `real` (see layers_body.h). `train_forward` and
 * `train_backward` at the end are the pass; before them stand its parts.
 *
 * N = rows * tokens of the batch, all rows of a matrix side by side. What is kept per layer, and
 * what the backward pass makes again from it:
 *
 *   x[N,D] -> norm -> h -> q k v[N,*] (kept, rotated) -> a[N,H*d] (kept) -> norm -> o -> + x =
 * m[N,D] m (kept) -> norm -> h -> g, u[N,F] (kept) -> glu -> norm -> down -> + m = x of the next
 * layer
 *
 * A ternary projection y = W x computes with codes of W (absmean) and of x (int8, one scale a row)
 * and its gradient is the straight-through one: dx = Wq' dy, dW = dy xq', where Wq and xq are what
 * the codes stand for; both roundings count as the identity.
 *
 * The includer provides real, REAL_SQRT, REAL_ABS, struct product and product_rows, quantise_row,
 * make_codes and project_codes for the quantised forward product; and, where the forward pass is to
 * use other arithmetic than the lines here, NORM_ROW, and ATTENTION_JOB with the scratch it takes;
 * and, for a network that stands still in another form than floats, WEIGHTS_OF and LORA_ROWS
 * (lora_body.h).
 */
#include <assert.h>

/* What one layer keeps for the backward pass. */
typedef struct kept {
    real *x;         /* [N,D] input */
    real *q, *k, *v; /* [N,H*d] [N,K*d] [N,K*d], q and k rotated */
    real *a;         /* [N,H*d] attention */
    real *m;         /* [N,D] after attention */
    real *g, *u;     /* [N,F] */
} kept;

struct train_pass {
    train_shape s;            /* as created */
    uint32_t n_rows;          /* rows there is room for */
    bool recompute;           /* layers keep x only; the rest is shared by all layers */
    const kern *k;            /* borrowed */
    par_pool *pool;           /* borrowed */
    kept *layers;             /* [L + 1]; of the last only x: what the layers made of the input */
    real *wide;               /* [N, F or H*d or D] input of a projection, or a gradient */
    real *wide2;              /* the same size */
    real *dx;                 /* [N,D] gradient of the residual stream */
    real *dq, *dk, *dv;       /* gradients of q, k, v */
    real *xf;                 /* [N,D] after the last norm */
    real *probs;              /* [N, V or F] logits, then probabilities, then their gradient; then
                                 gradients inside a feed-forward block */
    real *factor;             /* [N] 1 / rms of the rows of a norm */
    real *cs, *sn;            /* [T, d/2] cosines and sines */
    real *weights;            /* flat as the network: what the ternary codes stand for */
    const real *fixed;        /* with lora_rank: embedding and norms, train_fixed_at; borrowed */
    const train_frozen *base; /* with lora_rank: the projections; borrowed */
    real *raw;                /* with lora_rank: wide as it was before rounding */
    real *low, *low2;         /* with lora_rank: [N, rank] A x, and its gradient */
    real *scratch;            /* [threads, scratch_n] */
    size_t scratch_n;         /* reals per thread */
    double *loss_of;          /* [N] of each token */
    codes int8;               /* quantised input and weights of the integer products */
    const real *params;       /* of the call */
    real *grads;              /* of the call */
    const train_batch *b;     /* of the call */
    double share;             /* of the call: weight / targets that count */
};

/* ==== Sharing work ============================================================================ */

/* A function of one row (a token, a column, a sequence's head …) out of n. */
typedef struct rows_job rows_job;
struct rows_job {
    train_pass *p;                                            /* the pass */
    void (*fn)(const rows_job *j, size_t row, real *scratch); /* what to do */
    void (*range)(const rows_job *j, size_t begin,
                  size_t end); /* or: with all of a thread's rows */
    size_t n;                  /* rows */
    real *y, *y2;              /* [n, width] outputs */
    const real *x, *x2;        /* [n, width] inputs */
    const real *gain;          /* [width] of a norm */
    real *dgain;               /* its gradient */
    size_t width;              /* elements per row */
};

static void share_rows(void *arg, int thread, int n_threads) {
    const rows_job *j = arg;
    size_t begin, end;
    par_slice(j->n, j->range ? 16 : 1, thread, n_threads, &begin, &end);
    if (j->range && begin < end) j->range(j, begin, end);
    for (size_t row = begin; !j->range && row < end; row++)
        j->fn(j, row, j->p->scratch + (size_t)thread * j->p->scratch_n);
}

static void each_row(rows_job j) { par_run(j.p->pool, share_rows, &j); }

typedef struct product_job {
    train_pass *p; /* the pass */
    product g;     /* the product whose rows are shared */
} product_job;

static void share_product(void *arg, int thread, int n_threads) {
    const product_job *j = arg;
    size_t begin, end;
    par_slice(j->g.m, 12, thread, n_threads, &begin, &end);
    if (begin < end)
        product_rows(j->p->k, &j->g, begin, end, j->p->scratch + (size_t)thread * j->p->scratch_n);
}

static void multiply(train_pass *p, product g) {
    product_job j = {p, g};
    par_run(p->pool, share_product, &j);
}

/* ==== Projections ============================================================================= */

static size_t n_of(const train_pass *p) { return (size_t)p->b->n_rows * p->b->n_tok; }

/* Embedding or a norm. */
static const real *param(const train_pass *p, train_role role, uint32_t layer) {
    if (p->s.lora_rank) return p->fixed + train_fixed_at(&p->s, role, layer);
    return p->params + train_tensor_of(&p->s, role, layer).at;
}
static real *grad(const train_pass *p, train_role role, uint32_t layer) {
    return p->grads + train_tensor_of(&p->s, role, layer).at;
}

#ifndef WEIGHTS_OF /* what the codes of a projection stand for */
#define WEIGHTS_OF(p, t)                                                                           \
    (((p)->s.full_float && !(p)->s.lora_rank ? (p)->params : (p)->weights) + (t)->at)
#endif
#include "train/lora_body.h"

/* y[N,rows] = x W'; x as left by norm_input. */
static void project(train_pass *p, real *y, const real *x, train_role role, uint32_t layer) {
    const train_tensor t = train_tensor_of(&p->s, role, layer);
    if (CODES_USED && !p->s.full_float)
        project_codes(p, y, &t);
    else
        multiply(p, (product){.a = x,
                              .a_row = t.cols,
                              .a_col = 1,
                              .b = WEIGHTS_OF(p, &t),
                              .b_row = 1,
                              .b_col = t.cols,
                              .c = y,
                              .ldc = t.rows,
                              .m = n_of(p),
                              .n = t.rows,
                              .k = t.cols});
    if (p->s.lora_rank) lora_forward(p, y, role, layer);
}

/* dW += dy' x; and dx = dy W, or += when add. */
static void project_back(train_pass *p, const real *dy, const real *x, real *dx, bool add,
                         train_role role, uint32_t layer) {
    const train_tensor t = train_tensor_of(&p->s, role, layer);
    if (!p->s.lora_rank)
        multiply(p, (product){.a = dy,
                              .a_row = 1,
                              .a_col = t.rows,
                              .b = x,
                              .b_row = t.cols,
                              .b_col = 1,
                              .c = p->grads + t.at,
                              .ldc = t.cols,
                              .m = t.rows,
                              .n = t.cols,
                              .k = n_of(p),
                              .add = true});
    multiply(p, (product){.a = dy,
                          .a_row = t.rows,
                          .a_col = 1,
                          .b = WEIGHTS_OF(p, &t),
                          .b_row = t.cols,
                          .b_col = 1,
                          .c = dx,
                          .ldc = t.cols,
                          .m = n_of(p),
                          .n = t.cols,
                          .k = t.rows,
                          .add = add});
    if (p->s.lora_rank) lora_back(p, dy, dx, role, layer);
}

/* ==== Norms in front of projections =========================================================== */

static void norm_row_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    real *y = j->y + row * j->width;
    NORM_ROW(j->p, y, j->x + row * j->width, j->gain, j->width);
    if (j->y2) memcpy(j->y2 + row * j->width, y, j->width * sizeof *y);
    quantise_row(j->p, row, y, j->width);
}

/* y = what a projection of norm(x) is given: normed, and rounded as its codes are. */
static void norm_input(train_pass *p, real *y, const real *x, train_role role, uint32_t layer) {
    const size_t n = train_tensor_of(&p->s, role, layer).cols;
    each_row((rows_job){.p = p,
                        .fn = norm_row_job,
                        .n = n_of(p),
                        .y = y,
                        .y2 = p->s.lora_rank ? p->raw : NULL,
                        .x = x,
                        .gain = param(p, role, layer),
                        .width = n});
}

static void factor_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    j->y[row] = norm_factor(j->x + row * j->width, j->width, (real)j->p->s.eps);
}

/* dgain[i] += sum over tokens of dy x r, for columns [begin, end). */
static void gain_job(const rows_job *j, size_t begin, size_t end) {
    for (size_t t = 0; t < n_of(j->p); t++) {
        const real r = j->p->factor[t], *dy = j->x2 + t * j->width, *x = j->x + t * j->width;
        for (size_t i = begin; i < end; i++) j->dgain[i] += dy[i] * x[i] * r;
    }
}

static void norm_back_job(const rows_job *j, size_t row, real *scratch) {
    const size_t n = j->width;
    norm_back_add(j->y + row * n, j->x2 + row * n, j->x + row * n, j->gain, n, (real)j->p->s.eps,
                  scratch);
}

/* dx += gradient of norm(x), given dy; the gain's gradient too. */
static void norm_back(train_pass *p, real *dx, const real *dy, const real *x, train_role role,
                      uint32_t layer) {
    rows_job j = {.p = p,
                  .fn = factor_job,
                  .n = n_of(p),
                  .y = p->factor,
                  .x = x,
                  .x2 = dy,
                  .gain = param(p, role, layer),
                  .width = train_tensor_of(&p->s, role, layer).cols};
    if (!p->s.lora_rank) {
        each_row(j);
        j.dgain = grad(p, role, layer);
        j.range = gain_job;
        j.n = j.width;
        each_row(j);
        j.range = NULL;
    }
    j.fn = norm_back_job;
    j.n = n_of(p);
    j.y = dx;
    each_row(j);
}

/* ==== Element-wise ============================================================================ */

static void add_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    for (size_t i = 0; i < j->width; i++) j->y[row * j->width + i] += j->x[row * j->width + i];
}
static void add(train_pass *p, real *y, const real *x) {
    each_row((rows_job){.p = p, .fn = add_job, .n = n_of(p), .y = y, .x = x, .width = p->s.n_embd});
}

static void zero_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    memset(j->y + row * j->width, 0, j->width * sizeof *j->y);
}
static void zero(train_pass *p, real *y, size_t width) {
    each_row((rows_job){.p = p, .fn = zero_job, .n = n_of(p), .y = y, .width = width});
}

static void rope_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    const size_t d = j->p->s.d_head, at = row % j->p->b->n_tok * (d / 2);
    rope_row(j->y + row * j->width, j->width / d, d, j->p->cs + at, j->p->sn + at, j->gain[0]);
}
/* turn: 1 forward, -1 back. */
static void rope(train_pass *p, real *x, size_t n_heads, real turn) {
    each_row((rows_job){.p = p,
                        .fn = rope_job,
                        .n = n_of(p),
                        .y = x,
                        .gain = &turn,
                        .width = n_heads * p->s.d_head});
}

static void glu_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    glu_row(j->y + row * j->width, j->x + row * j->width, j->x2 + row * j->width, j->width);
}
static void glu(train_pass *p, real *y, const kept *c) {
    each_row((rows_job){
        .p = p, .fn = glu_job, .n = n_of(p), .y = y, .x = c->g, .x2 = c->u, .width = p->s.n_ff});
}

static void glu_back_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    glu_back(j->y + row * j->width, j->y2 + row * j->width, j->x + row * j->width, j->width);
}

/* ==== Attention =================================================================================
 * Of one sequence and key head at a time, for the query heads that share it, in blocks of query
 * rows: P = softmax(Q K' / sqrt(d)) up to the diagonal, out = P V. */

typedef struct head_view {
    size_t n_tok, d;    /* tokens of the sequence, head size */
    size_t ld_q, ld_kv; /* reals between tokens of q and of k */
    size_t q_at, kv_at; /* first real of this head */
} head_view;

static head_view view_of(const train_pass *p, size_t item, size_t head) {
    const train_shape *s = &p->s;
    const size_t row = item / s->n_head_kv, kv = item % s->n_head_kv;
    head_view v = {.n_tok = p->b->n_tok, .d = s->d_head};
    v.ld_q = (size_t)s->n_head * v.d;
    v.ld_kv = (size_t)s->n_head_kv * v.d;
    v.q_at = row * v.n_tok * v.ld_q + (kv * (s->n_head / s->n_head_kv) + head) * v.d;
    v.kv_at = row * v.n_tok * v.ld_kv + kv * v.d;
    return v;
}

/* out[n,end] (row distance n_tok) = rows [at, at + n) of x (heads of q's shape) times y' . */
static void scores(const train_pass *p, const head_view *v, real *out, const real *x, const real *y,
                   size_t at, size_t n, real *scratch) {
    product_rows(p->k,
                 &(product){.a = x + v->q_at + at * v->ld_q,
                            .a_row = v->ld_q,
                            .a_col = 1,
                            .b = y + v->kv_at,
                            .b_row = 1,
                            .b_col = v->ld_kv,
                            .c = out,
                            .ldc = v->n_tok,
                            .m = n,
                            .n = at + n,
                            .k = v->d},
                 0, n, scratch);
}

static void probabilities(const train_pass *p, const kept *c, const head_view *v, real *out,
                          size_t at, size_t n, real *scratch) {
    const real scale = 1 / REAL_SQRT((real)v->d);
    scores(p, v, out, c->q, c->k, at, n, scratch);
    for (size_t i = 0; i < n; i++) {
        real *row = out + i * v->n_tok;
        for (size_t j = 0; j <= at + i; j++) row[j] *= scale;
        softmax_row(p->k, row, at + i + 1);
        for (size_t j = at + i + 1; j < at + n; j++) row[j] = 0;
    }
}

#ifndef ATTENTION_JOB
#define ATTENTION_JOB        attention_job
#define ATTENTION_SCRATCH(s) 0

static void attention_job(const rows_job *j, size_t item, real *scratch) {
    const train_pass *p = j->p;
    const kept *c = (const kept *)(const void *)j->x;
    real *probs = scratch + PRODUCT_SCRATCH;
    for (size_t h = 0; h < p->s.n_head / p->s.n_head_kv; h++) {
        const head_view v = view_of(p, item, h);
        for (size_t at = 0; at < v.n_tok; at += PASS_BLOCK) {
            const size_t n = BASE_MIN((size_t)PASS_BLOCK, v.n_tok - at);
            probabilities(p, c, &v, probs, at, n, scratch);
            product_rows(p->k,
                         &(product){.a = probs,
                                    .a_row = v.n_tok,
                                    .a_col = 1,
                                    .b = c->v + v.kv_at,
                                    .b_row = v.ld_kv,
                                    .b_col = 1,
                                    .c = c->a + v.q_at + at * v.ld_q,
                                    .ldc = v.ld_q,
                                    .m = n,
                                    .n = v.d,
                                    .k = at + n},
                         0, n, scratch);
        }
    }
}
#endif

static void attention(train_pass *p, const kept *c) {
    each_row((rows_job){.p = p,
                        .fn = ATTENTION_JOB,
                        .x = (const real *)(const void *)c,
                        .n = (size_t)p->b->n_rows * p->s.n_head_kv});
}

/* dk[end,d] += ds' q and the like: sums over the block's query rows. */
static void add_to_keys(const train_pass *p, const head_view *v, real *dst, const real *weights,
                        const real *x, size_t at, size_t n, real *scratch) {
    product_rows(p->k,
                 &(product){.a = weights,
                            .a_row = 1,
                            .a_col = v->n_tok,
                            .b = x + v->q_at + at * v->ld_q,
                            .b_row = v->ld_q,
                            .b_col = 1,
                            .c = dst + v->kv_at,
                            .ldc = v->ld_kv,
                            .m = at + n,
                            .n = v->d,
                            .k = n,
                            .add = true},
                 0, at + n, scratch);
}

/* j->x2: gradient of the attention's output. */
static void attention_back_job(const rows_job *j, size_t item, real *scratch) {
    const train_pass *p = j->p;
    const kept *c = (const kept *)(const void *)j->x;
    real *probs = scratch + PRODUCT_SCRATCH, *ds = probs + (size_t)PASS_BLOCK * p->b->n_tok;
    const real scale = 1 / REAL_SQRT((real)p->s.d_head);
    head_view v = view_of(p, item, 0);
    for (size_t t = 0; t < v.n_tok; t++) {
        memset(p->dk + v.kv_at + t * v.ld_kv, 0, v.d * sizeof(real));
        memset(p->dv + v.kv_at + t * v.ld_kv, 0, v.d * sizeof(real));
    }
    for (size_t h = 0; h < p->s.n_head / p->s.n_head_kv; h++) {
        v = view_of(p, item, h);
        for (size_t at = 0; at < v.n_tok; at += PASS_BLOCK) {
            const size_t n = BASE_MIN((size_t)PASS_BLOCK, v.n_tok - at);
            probabilities(p, c, &v, probs, at, n, scratch);
            scores(p, &v, ds, j->x2, c->v, at, n, scratch);
            for (size_t i = 0; i < n; i++) {
                real *row = ds + i * v.n_tok;
                softmax_back(row, probs + i * v.n_tok, at + i + 1);
                for (size_t k = 0; k < at + n; k++) row[k] = k <= at + i ? row[k] * scale : 0;
            }
            product_rows(p->k,
                         &(product){.a = ds,
                                    .a_row = v.n_tok,
                                    .a_col = 1,
                                    .b = c->k + v.kv_at,
                                    .b_row = v.ld_kv,
                                    .b_col = 1,
                                    .c = p->dq + v.q_at + at * v.ld_q,
                                    .ldc = v.ld_q,
                                    .m = n,
                                    .n = v.d,
                                    .k = at + n},
                         0, n, scratch);
            add_to_keys(p, &v, p->dk, ds, c->q, at, n, scratch);
            add_to_keys(p, &v, p->dv, probs, j->x2, at, n, scratch);
        }
    }
}

static void attention_back(train_pass *p, const kept *c, const real *da) {
    each_row((rows_job){.p = p,
                        .fn = attention_back_job,
                        .x = (const real *)(const void *)c,
                        .x2 = da,
                        .n = (size_t)p->b->n_rows * p->s.n_head_kv});
}

#include "train/pass_head_body.h"

/* ==== A layer ================================================================================= */

/* x[N,D] of layer l to what it keeps, and to out[N,D] (NULL: not wanted). */
static void layer_forward(train_pass *p, uint32_t l, real *out) {
    const train_shape *s = &p->s;
    const kept *c = &p->layers[l];
    norm_input(p, p->wide, c->x, TRAIN_ATTN_NORM, l); /* [N,D] */
    project(p, c->q, p->wide, TRAIN_Q, l);
    project(p, c->k, p->wide, TRAIN_K, l);
    project(p, c->v, p->wide, TRAIN_V, l);
    rope(p, c->q, s->n_head, 1);
    rope(p, c->k, s->n_head_kv, 1);
    attention(p, c);
    norm_input(p, p->wide, c->a, TRAIN_ATTN_SUB_NORM, l); /* [N,H*d] */
    project(p, c->m, p->wide, TRAIN_O, l);
    add(p, c->m, c->x);
    norm_input(p, p->wide, c->m, TRAIN_FFN_NORM, l); /* [N,D] */
    project(p, c->g, p->wide, TRAIN_GATE, l);
    project(p, c->u, p->wide, TRAIN_UP, l);
    if (!out) return;
    glu(p, p->wide2, c);
    norm_input(p, p->wide, p->wide2, TRAIN_FFN_SUB_NORM, l); /* [N,F] */
    project(p, out, p->wide, TRAIN_DOWN, l);
    add(p, out, c->m);
}

static void ffn_back(train_pass *p, uint32_t l) {
    const kept *c = &p->layers[l];
    glu(p, p->wide2, c);
    norm_input(p, p->wide, p->wide2, TRAIN_FFN_SUB_NORM, l);
    project_back(p, p->dx, p->wide, p->wide2, false, TRAIN_DOWN, l); /* wide2 = d(normed) */
    glu(p, p->wide, c);
    real *dy = p->probs;
    zero(p, dy, p->s.n_ff);
    norm_back(p, dy, p->wide2, p->wide, TRAIN_FFN_SUB_NORM, l);
    each_row((rows_job){.p = p,
                        .fn = glu_back_job,
                        .n = n_of(p),
                        .y = c->g,
                        .y2 = c->u,
                        .x = dy,
                        .width = p->s.n_ff});
    norm_input(p, p->wide, c->m, TRAIN_FFN_NORM, l);
    project_back(p, c->g, p->wide, p->wide2, false, TRAIN_GATE, l);
    project_back(p, c->u, p->wide, p->wide2, true, TRAIN_UP, l);
    norm_back(p, p->dx, p->wide2, c->m, TRAIN_FFN_NORM, l);
}

static void attention_block_back(train_pass *p, uint32_t l) {
    const kept *c = &p->layers[l];
    norm_input(p, p->wide, c->a, TRAIN_ATTN_SUB_NORM, l);
    project_back(p, p->dx, p->wide, p->wide2, false, TRAIN_O, l);
    zero(p, p->wide, (size_t)p->s.n_head * p->s.d_head);
    norm_back(p, p->wide, p->wide2, c->a, TRAIN_ATTN_SUB_NORM, l);
    attention_back(p, c, p->wide);
    rope(p, p->dq, p->s.n_head, -1);
    rope(p, p->dk, p->s.n_head_kv, -1);
    norm_input(p, p->wide, c->x, TRAIN_ATTN_NORM, l);
    project_back(p, p->dq, p->wide, p->wide2, false, TRAIN_Q, l);
    project_back(p, p->dk, p->wide, p->wide2, true, TRAIN_K, l);
    project_back(p, p->dv, p->wide, p->wide2, true, TRAIN_V, l);
    norm_back(p, p->dx, p->wide2, c->x, TRAIN_ATTN_NORM, l);
}

/* ==== The pass ================================================================================ */

static void forward(train_pass *p) {
    const size_t n_embd = p->s.n_embd;
    if (!p->s.full_float && !p->s.lora_rank) make_codes(p);
    each_row((rows_job){.p = p,
                        .fn = embed_job,
                        .n = n_of(p),
                        .y = p->layers[0].x,
                        .x = param(p, TRAIN_EMBD, 0),
                        .width = n_embd});
    for (uint32_t l = 0; l < p->s.n_layer; l++) layer_forward(p, l, p->layers[l + 1].x);
    head(p);
    each_row(
        (rows_job){.p = p, .fn = loss_job, .n = n_of(p), .y = p->probs, .width = p->s.n_vocab});
}

static void backward(train_pass *p) {
    head_back(p);
    for (uint32_t l = p->s.n_layer; l-- > 0;) {
        if (p->recompute) layer_forward(p, l, NULL);
        ffn_back(p, l);
        attention_block_back(p, l);
    }
    if (p->s.lora_rank) return;
    each_row((rows_job){.p = p,
                        .range = embed_back_job,
                        .n = p->s.n_embd,
                        .y = p->grads,
                        .x = p->dx,
                        .width = p->s.n_embd});
}
