/* SPDX-License-Identifier: MIT
 *
 * Low-rank products beside the projections of a network that stands still. Part of pass_body.h.
 *
 *   t = A x, y += s B t, s = alpha / rank; x is the normed input, not what its int8 codes stand for
 *   dB += s dy' t, dt = s dy B, dA += dt' x, dx += dt A
 *
 * No N-row copy of B t is kept, and t is made again in the backward pass: it is rank wide. The
 * includer may provide LORA_ROWS, the forward product of some tokens.
 */

enum { LORA_TOK = 8 }; /* tokens whose B t are in the scratch at once */

static size_t lora_scratch(size_t rank, size_t widest) {
    return LORA_TOK * ((rank + 15) / 16 * 16 + widest);
}

/* One projection's pair. */
typedef struct lora_job {
    train_pass *p;     /* the pass */
    train_tensor a, b; /* [rank, cols], [rows, rank] */
    real scale;        /* s */
    real *y;           /* [N, rows] */
} lora_job;

static lora_job lora_of(train_pass *p, train_role role, uint32_t layer) {
    return (lora_job){.p = p,
                      .a = train_lora_of(&p->s, role, layer, TRAIN_LORA_A),
                      .b = train_lora_of(&p->s, role, layer, TRAIN_LORA_B),
                      .scale = (real)train_lora_scale(&p->s)};
}

#ifndef LORA_ROWS
#define LORA_ROWS lora_rows
static void lora_rows(const lora_job *j, size_t begin, size_t end, real *scratch) {
    const real *a = j->p->params + j->a.at, *b = j->p->params + j->b.at;
    const size_t rank = j->a.rows;
    for (size_t t = begin; t < end; t++) {
        const real *x = j->p->raw + t * j->a.cols;
        real *y = j->y + t * j->b.rows;
        for (size_t r = 0; r < rank; r++) scratch[r] = dot(a + r * j->a.cols, x, j->a.cols);
        for (size_t o = 0; o < j->b.rows; o++) y[o] += j->scale * dot(b + o * rank, scratch, rank);
    }
}
#endif

static void share_lora(void *arg, int thread, int n_threads) {
    const lora_job *j = arg;
    size_t begin, end;
    par_slice(n_of(j->p), 1, thread, n_threads, &begin, &end);
    if (begin < end) LORA_ROWS(j, begin, end, j->p->scratch + (size_t)thread * j->p->scratch_n);
}

/* y[N,rows] += s B (A x), x in p->raw. */
static void lora_forward(train_pass *p, real *y, train_role role, uint32_t layer) {
    lora_job j = lora_of(p, role, layer);
    j.y = y;
    par_run(p->pool, share_lora, &j);
}

static void scale_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    for (size_t i = 0; i < j->width; i++) j->y[row * j->width + i] *= j->gain[0];
}

/* A product of few rows, its columns shared among the threads. */
static void share_columns(void *arg, int thread, int n_threads) {
    const product_job *j = arg;
    product g = j->g;
    size_t begin, end;
    par_slice(g.n, 32, thread, n_threads, &begin, &end);
    if (begin == end) return;
    g.b += begin * g.b_col;
    g.c += begin;
    g.n = end - begin;
    product_rows(j->p->k, &g, 0, g.m, j->p->scratch + (size_t)thread * j->p->scratch_n);
}

/* x in p->raw, dx has been written. */
static void lora_back(train_pass *p, const real *dy, real *dx, train_role role, uint32_t layer) {
    const lora_job j = lora_of(p, role, layer);
    const size_t n = n_of(p), rank = j.a.rows, cols = j.a.cols, rows = j.b.rows;
    const real *a = p->params + j.a.at, *b = p->params + j.b.at;
    multiply(p, (product){.a = p->raw, /* t = x A' */
                          .a_row = cols,
                          .a_col = 1,
                          .b = a,
                          .b_row = 1,
                          .b_col = cols,
                          .c = p->low,
                          .ldc = rank,
                          .m = n,
                          .n = rank,
                          .k = cols});
    multiply(p, (product){.a = dy, /* dt = dy B */
                          .a_row = rows,
                          .a_col = 1,
                          .b = b,
                          .b_row = rank,
                          .b_col = 1,
                          .c = p->low2,
                          .ldc = rank,
                          .m = n,
                          .n = rank,
                          .k = rows});
    each_row(
        (rows_job){.p = p, .fn = scale_job, .n = n, .y = p->low, .gain = &j.scale, .width = rank});
    each_row(
        (rows_job){.p = p, .fn = scale_job, .n = n, .y = p->low2, .gain = &j.scale, .width = rank});
    multiply(p, (product){.a = dy, /* dB += dy' t */
                          .a_row = 1,
                          .a_col = rows,
                          .b = p->low,
                          .b_row = rank,
                          .b_col = 1,
                          .c = p->grads + j.b.at,
                          .ldc = rank,
                          .m = rows,
                          .n = rank,
                          .k = n,
                          .add = true});
    product_job da = {p,
                      {.a = p->low2, /* dA += dt' x */
                       .a_row = 1,
                       .a_col = rank,
                       .b = p->raw,
                       .b_row = cols,
                       .b_col = 1,
                       .c = p->grads + j.a.at,
                       .ldc = cols,
                       .m = rank,
                       .n = cols,
                       .k = n,
                       .add = true}};
    par_run(p->pool, share_columns, &da);
    multiply(p, (product){.a = p->low2, /* dx += dt A */
                          .a_row = rank,
                          .a_col = 1,
                          .b = a,
                          .b_row = cols,
                          .b_col = 1,
                          .c = dx,
                          .ldc = cols,
                          .m = n,
                          .n = cols,
                          .k = rank,
                          .add = true});
}
