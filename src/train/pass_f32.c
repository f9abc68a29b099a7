/* SPDX-License-Identifier: MIT
 *
 * The pass in float, the one that trains: pass_body.h over the kernel table. The forward pass is
 * the engine's own, kernel by kernel (norms, codes, integer products, attention over an f32 cache,
 * head): a model computes the same bits here and there.
 */
#include <math.h>

#include "run/run.h"
#include "train/pass.h"

typedef float real;
#define REAL_SQRT sqrtf
#define REAL_ABS  fabsf
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

#define NORM_ROW(p, y, x, gain, n) (p)->k->rmsnorm(y, x, gain, n, (p)->s.eps)
#include "train/layers_body.h"

static real softmax_row(const kern *k, real *x, size_t n) { return k->softmax(x, n); }

typedef struct rows_job rows_job;
static void cached_attention_job(const rows_job *j, size_t item, real *scratch);
static size_t cached_attention_floats(const train_shape *s);
#define ATTENTION_JOB        cached_attention_job
#define ATTENTION_SCRATCH(s) cached_attention_floats(s)

static void quantise_row(train_pass *p, size_t row, real *x, size_t n);
static void project_codes(train_pass *p, real *y, const train_tensor *t);
static void make_codes(train_pass *p);

static const real *weights_of(train_pass *p, const train_tensor *t);
#define WEIGHTS_OF(p, t) weights_of(p, t)
typedef struct lora_job lora_job;
static void engine_lora_rows(const lora_job *j, size_t begin, size_t end, real *scratch);
#define LORA_ROWS engine_lora_rows

#include "train/pass_body.h"

#include "train/frozen_body.h"
#define WEIGHT_REALS(s)                                                                            \
    ((s)->lora_rank ? largest_projection(s) : (s)->full_float ? 0 : train_n_weights(s))

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
    c->q = base_alloc_aligned(n_tok * padded(widest(s)));
    c->step = base_alloc_array(n_tok, sizeof *c->step);
    c->sum = base_alloc_array(n_tok, sizeof *c->sum);
    if (s->lora_rank) return c->q && c->step && c->sum; /* the model has the rest */
    c->t2_at = base_alloc_array(tensors, sizeof *c->t2_at);
    for (size_t i = 0; c->t2_at && i < tensors; i++) {
        const train_tensor t = train_tensor_at(s, i);
        c->t2_at[i] = bytes;
        if (train_is_ternary(t.role)) bytes += t.rows * quant_t2_row_bytes(t.cols);
    }
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
    const kern_mm_fn fn = j->w.type == QUANT_T5 ? j->p->k->gemm_t5_i8 : j->p->k->gemm_t2_i8;
    if (begin < end) fn(j->y, j->w.rows, &j->w, &j->x, begin, end);
}

static size_t index_of(const train_shape *s, const train_tensor *t) {
    for (size_t i = 0;; i++)
        if (train_tensor_at(s, i).at == t->at) return i;
}

static kern_mat codes_mat(const train_pass *p, const train_tensor *t) {
    if (p->s.lora_rank) return run_mat(frozen_mat(p, t));
    const codes *c = &p->int8;
    const size_t i = index_of(&p->s, t);
    return (kern_mat){.data = c->t2 + c->t2_at[i],
                      .type = QUANT_I2_S,
                      .rows = t->rows,
                      .cols = t->cols,
                      .row_bytes = quant_t2_row_bytes(t->cols),
                      .scale = c->scale[i]};
}

static void project_codes(train_pass *p, real *y, const train_tensor *t) {
    const codes *c = &p->int8;
    codes_job j = {
        .p = p,
        .y = y,
        .w = codes_mat(p, t),
        .x = {.q = c->q, .ldq = padded(t->cols), .s = c->step, .sum = c->sum, .n_tok = n_of(p)}};
    par_run(p->pool, share_codes, &j);
}

/* ==== Attention ===============================================================================
 * As the engine computes it: keys and values of a sequence and key head in blocks of a cache.
 * Scratch: page numbers, pages (keys, then values), the kernel's own. */

static size_t lines(size_t floats) { return (floats + 15) / 16 * 16; }
static size_t blocks_of(size_t n_tok) { return (n_tok + KERN_KEYS - 1) / KERN_KEYS; }

/* Query tokens in a call of the kernel. */
static size_t tile_of(const train_shape *s) {
    return BASE_MAX((size_t)KERN_ATTN_ROWS / (s->n_head / s->n_head_kv), (size_t)1);
}

static size_t cached_attention_floats(const train_shape *s) {
    const size_t blocks = blocks_of(s->n_ctx), group = s->n_head / s->n_head_kv;
    return lines(blocks) + lines(blocks * 2 * KERN_KEYS * s->d_head) +
           lines(kern_attn_scratch(tile_of(s) * group, s->d_head));
}

static void fill_pages(const kept *c, const head_view *v, float *pages) {
    const size_t block = KERN_KEYS * v->d;
    memset(pages, 0, blocks_of(v->n_tok) * 2 * block * sizeof *pages);
    for (size_t t = 0; t < v->n_tok; t++) {
        const float *k = c->k + v->kv_at + t * v->ld_kv, *w = c->v + v->kv_at + t * v->ld_kv;
        uint8_t *keys = (uint8_t *)(pages + t / KERN_KEYS * 2 * block);
        kern_put_key(keys, t % KERN_KEYS, (const uint8_t *)k, v->d, KERN_KV_F32);
        kern_put_value(keys + block * sizeof *pages, t % KERN_KEYS, (const uint8_t *)w, v->d,
                       KERN_KV_F32);
    }
}

static void cached_attention_job(const rows_job *j, size_t item, real *scratch) {
    const train_pass *p = j->p;
    const kept *c = (const kept *)(const void *)j->x;
    const head_view v = view_of(p, item, 0);
    const size_t block = KERN_KEYS * v.d, blocks = blocks_of(v.n_tok), tile = tile_of(&p->s);
    uint32_t *page_ids = (uint32_t *)(void *)scratch;
    float *pages = scratch + lines(blocks);
    for (size_t i = 0; i < blocks; i++) page_ids[i] = (uint32_t)i;
    fill_pages(c, &v, pages);
    for (size_t at = 0; at < v.n_tok; at += tile) {
        const kern_attn a = {.q = c->q + v.q_at + at * v.ld_q,
                             .out = c->a + v.q_at + at * v.ld_q,
                             .ldq = v.ld_q,
                             .ldo = v.ld_q,
                             .n_tok = BASE_MIN(tile, v.n_tok - at),
                             .n_heads = p->s.n_head / p->s.n_head_kv,
                             .d = v.d,
                             .scale = 1.0f / sqrtf((float)v.d),
                             .type = KERN_KV_F32,
                             .pages = (const uint8_t *)pages,
                             .page_ids = page_ids,
                             .page_bytes = 2 * block * sizeof *pages,
                             .v_at = block * sizeof *pages,
                             .pos = at,
                             .scratch = pages + lines(blocks * 2 * block)};
        p->k->attention(&a);
    }
}

#include "train/pass_memory_body.h"

/* ==== The door ================================================================================ */

uint64_t pass_floats_per_tok(const train_shape *s, bool recompute) {
    return reals_per_tok(s, recompute);
}

uint64_t pass_scratch_bytes(const train_shape *s, uint32_t n_rows, int n_threads) {
    const uint64_t n = (uint64_t)n_rows * s->n_ctx, params = train_n_weights(s);
    uint64_t bytes = (uint64_t)n_threads * scratch_reals(s) * sizeof(real) + n * sizeof(double) +
                     (uint64_t)s->n_ctx * s->d_head * sizeof(real);
    if (!s->full_float) bytes += WEIGHT_REALS(s) * sizeof(real) + n * (padded(widest(s)) + 8);
    if (!s->full_float && !s->lora_rank) bytes += params + params / 4;
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

void train_pass_beside(train_pass *p, const train_frozen *f) {
    assert(p->s.lora_rank && f->fixed);
    p->base = f;
    p->fixed = f->fixed;
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
    const kern_mat w = {.data = (const uint8_t *)param(p, TRAIN_EMBD, 0),
                        .type = QUANT_F32,
                        .rows = p->s.n_vocab,
                        .cols = n,
                        .row_bytes = n * sizeof(real),
                        .scale = 1};
    const kern_act x = {.x = p->xf + ((size_t)r * p->b->n_tok + t) * n, .ldx = n, .n_tok = 1};
    p->k->mm_f32(logits, p->s.n_vocab, &w, &x, 0, p->s.n_vocab);
}
