/* SPDX-License-Identifier: MIT
 *
 * The matrix products of a model, one at a time: each projection of a layer and the head, for one
 * token (memory-bound) and for many (compute-bound).
 *
 * A role's matrices of all layers are taken in turn, as a decode step does, so that a matrix is not
 * still in the cache from its last round.
 */
#include "tool/tool.h"

#include "cpu/cpu.h"
#include "kern/kern.h"
#include "model/model.h"
#include "par/par.h"

#include <stdlib.h>

typedef struct bench {
    const tool_ops_options *opt; /* settings */
    const model *m;              /* the model */
    par_pool *pool;              /* threads */
    kern k;                      /* kernels */
    size_t max_cols, max_rows;   /* largest matrix */
    float *x;                    /* [n_tok, max_cols] input */
    int8_t *q;                   /* [n_tok, max_cols padded] */
    float *s;                    /* scales of q */
    int32_t *sum;                /* [n_tok] */
    int16_t *sum16;              /* [n_tok, max_cols padded / 16] */
    float *y;                    /* [n_tok, max_rows] output */
    double *us;                  /* [repetitions] */
} bench;

typedef struct product {
    kern_mm_fn fn;     /* kernel */
    const kern_mat *w; /* weights */
    const kern_act *x; /* activations */
    float *y;          /* output */
} product;

static void run_product(void *arg, int thread, int n_threads) {
    const product *p = arg;
    size_t begin, end;
    par_slice(p->w->rows, 16, thread, n_threads, &begin, &end);
    if (begin < end) p->fn(p->y, p->w->rows, p->w, p->x, begin, end);
}

static kern_mm_fn pick(const kern *k, uint32_t type, size_t n_tok) {
    switch (type) {
    case QUANT_I2_S:
        return n_tok == 1 ? k->gemv_t2_i8 : k->gemm_t2_i8;
    case QUANT_T5:
        return n_tok == 1 ? k->gemv_t5_i8 : k->gemm_t5_i8;
    case QUANT_F32:
        return k->mm_f32;
    case QUANT_F16:
        return k->mm_f16;
    case QUANT_BF16:
        return k->mm_bf16;
    default:
        return k->mm_b32_q8;
    }
}

static kern_act activations(bench *b, const model_mat *w, size_t n_tok) {
    size_t ldq = (w->cols + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
    for (size_t t = 0; t < n_tok; t++) {
        const float *row = b->x + t * b->max_cols;
        if (w->type == QUANT_I2_S || w->type == QUANT_T5)
            b->k.quant_i8(b->q + t * ldq, b->s + t, b->sum + t, row, w->cols, ldq);
        else if (quant_find(w->type)->flags & QUANT_BLOCK32)
            b->k.quant_q8(b->q + t * ldq, b->s + t * ldq / 32, b->sum16 + t * ldq / 16, row,
                          w->cols, ldq);
    }
    return (kern_act){.x = b->x,
                      .ldx = b->max_cols,
                      .q = b->q,
                      .ldq = ldq,
                      .s = b->s,
                      .sum = b->sum,
                      .sum16 = b->sum16,
                      .n_tok = n_tok};
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median microseconds of role's product; at(m, i) gives the i-th matrix of that role. */
static double time_product(bench *b, const model_mat *(*at)(const model *m, size_t role, size_t i),
                           size_t role, size_t n_tok) {
    const model_mat *first = at(b->m, role, 0);
    kern_act x = activations(b, first, n_tok);
    for (size_t r = 0; r <= b->opt->repetitions; r++) {
        const model_mat *w = at(b->m, role, r);
        kern_mat km = {w->data, w->type, w->rows, w->cols, w->row_bytes, w->scale, w->row_scale};
        product p = {pick(&b->k, w->type, n_tok), &km, &x, b->y};
        uint64_t start = base_now_us();
        par_run(b->pool, run_product, &p);
        if (r) b->us[r - 1] = (double)BASE_MAX(base_now_us() - start, 1);
    }
    qsort(b->us, b->opt->repetitions, sizeof *b->us, ascending);
    return b->us[b->opt->repetitions / 2];
}

static const char *const roles[] = {"attn_q",   "attn_k", "attn_v",   "attn_output",
                                    "ffn_gate", "ffn_up", "ffn_down", "head"};

static const model_mat *mat_at(const model *m, size_t role, size_t i) {
    const model_layer *l = &m->layers[i % m->hp.n_layer];
    const model_mat *const list[] = {&l->q,    &l->k,  &l->v,    &l->o,
                                     &l->gate, &l->up, &l->down, &m->head};
    return list[role];
}

static rotor_status prepare(bench *b, rotor_error *err) {
    size_t n_tok = b->opt->n_tok, cols, values;
    for (size_t r = 0; r < BASE_COUNT(roles); r++) {
        b->max_cols = BASE_MAX(b->max_cols, mat_at(b->m, r, 0)->cols);
        b->max_rows = BASE_MAX(b->max_rows, mat_at(b->m, r, 0)->rows);
    }
    cols = (b->max_cols + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
    values = n_tok * cols;
    b->x = base_alloc_aligned(values * sizeof *b->x);
    b->q = base_alloc_aligned(values);
    b->s = base_alloc_aligned((values / 32 + n_tok) * sizeof *b->s);
    b->sum = base_alloc_aligned(n_tok * sizeof *b->sum);
    b->sum16 = base_alloc_aligned(values / 16 * sizeof *b->sum16);
    b->y = base_alloc_aligned(n_tok * b->max_rows * sizeof *b->y);
    b->us = base_alloc_array(b->opt->repetitions, sizeof *b->us);
    if (!b->x || !b->q || !b->s || !b->sum || !b->sum16 || !b->y || !b->us)
        return base_fail_nomem(err, "measuring products");
    base_rng rng;
    base_rng_seed(&rng, 1);
    for (size_t i = 0; i < values; i++) b->x[i] = (float)base_rng_double(&rng) - 0.5f;
    return ROTOR_OK;
}

static void measure_roles(bench *b, void (*fn)(void *user, const tool_op_time *t), void *user) {
    for (size_t r = 0; r < BASE_COUNT(roles); r++) {
        const model_mat *w = mat_at(b->m, r, 0);
        if (!w->data) continue; /* no gate */
        tool_op_time t = {.name = roles[r],
                          .type = w->type == QUANT_I2_S ? "ternary" : quant_find(w->type)->name,
                          .rows = w->rows,
                          .cols = w->cols,
                          .bytes = (uint64_t)w->rows * w->row_bytes};
        double macs = (double)w->rows * (double)w->cols * (double)b->opt->n_tok;
        t.us_one = time_product(b, mat_at, r, 1);
        t.us_many = time_product(b, mat_at, r, b->opt->n_tok);
        t.gb_per_s = (double)t.bytes / t.us_one / 1e3;
        t.gmac_per_s = macs / t.us_many / 1e3;
        fn(user, &t);
    }
}

rotor_status tool_bench_ops(const tool_source *src, const tool_ops_options *opt,
                            void (*fn)(void *user, const tool_op_time *t), void *user,
                            rotor_error *err) {
    bench b = {.opt = opt};
    model *m = NULL;
    model_options mo = {.i2s = -1};
    unsigned mask = ~0u;
    if (opt->cpu) ROTOR_TRY(cpu_parse_mask(opt->cpu, &mask, err));
    kern_init(&b.k, cpu_detect() & mask);
    ROTOR_TRY(par_create(&b.pool, BASE_MAX(opt->n_threads, 1), true, err));
    rotor_status st = src->path
                          ? model_open(&m, src->path, &mo, err)
                          : model_open_memory(&m, src->data, src->n_bytes, src->name, &mo, err);
    b.m = m;
    if (st == ROTOR_OK) st = prepare(&b, err);
    if (st == ROTOR_OK) measure_roles(&b, fn, user);
    base_free_aligned(b.x);
    base_free_aligned(b.q);
    base_free_aligned(b.s);
    base_free_aligned(b.sum);
    base_free_aligned(b.sum16);
    base_free_aligned(b.y);
    base_free(b.us);
    model_close(&m);
    par_free(&b.pool);
    return st;
}
