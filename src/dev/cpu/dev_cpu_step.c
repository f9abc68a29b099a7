/* SPDX-License-Identifier: MIT
 *
 * The CPU device: one step. Every thread walks the whole op list, does its share of each op and
 * meets the others at a barrier; there is one hand-over to the pool per step.
 *
 * How ops are shared: products by output rows, attention by (token, KV head) or, for a few long
 * tokens, by spans of keys, everything else by token. No share cuts a reduction, so the result does
 * not depend on the number of threads.
 */
#include "dev/cpu/dev_cpu.h"

#include <assert.h>

/* What every thread sees of the step. */
typedef struct cpu_ctx {
    dev_cpu *d;           /* the device */
    const dev_step *step; /* rows of this step */
    int thread;           /* this thread */
    int n_threads;        /* all of them */
} cpu_ctx;

static void meet(const cpu_ctx *c) {
    if (c->n_threads > 1) par_barrier(c->d->pool);
}

static uint32_t op_rows(const cpu_ctx *c, const dev_op *op) {
    return op->picked ? c->step->n_picked : c->step->n_rows;
}

static float *row_of(const cpu_buf *b, size_t row) { return b->x + row * b->width; }

/* ==== Products ================================================================================ */

static kern_mm_fn product_of(const dev_cpu *d, const kern_mat *w, size_t n_tok) {
    const kern *k = d->k;
    switch (w->type) {
    case QUANT_F32:
        return k->mm_f32;
    case QUANT_F16:
        return k->mm_f16;
    case QUANT_BF16:
        return k->mm_bf16;
    case QUANT_I2_S:
        return d->shape.float_act ? k->mm_t2_f32 : n_tok == 1 ? k->gemv_t2_i8 : k->gemm_t2_i8;
    case QUANT_T5:
        return d->shape.float_act ? k->mm_t5_f32 : n_tok == 1 ? k->gemv_t5_i8 : k->gemm_t5_i8;
    default:
        return d->shape.float_act ? k->mm_b32_f32 : k->mm_b32_q8;
    }
}

/* Ternary kernels apply the scale themselves. */
static bool scales_itself(const kern_mat *w) {
    return w->type == QUANT_I2_S || w->type == QUANT_T5;
}

/* A matrix that is not T2 or T5 may still have an output scale: the .scale tensor of some GGUF
 * files. */
static void scale_rows(const cpu_buf *dst, const kern_mat *w, size_t n_tok, size_t begin,
                       size_t end) {
    for (size_t b = 0; b < n_tok; b++)
        for (size_t r = begin; r < end; r++) dst->x[b * dst->width + r] *= w->scale;
}

/* Rows of all matrices of the op are shared as one range, in units of 16. */
static void do_matmul(const cpu_ctx *c, const dev_op *op) {
    const dev_cpu *d = c->d;
    const cpu_buf *src = &d->bufs[op->src];
    const kern_act x = {.x = src->x,
                        .ldx = src->width,
                        .q = src->q,
                        .ldq = src->ldq,
                        .s = src->s,
                        .sum = src->sum,
                        .sum16 = src->sum16,
                        .n_tok = op_rows(c, op)};
    size_t total = 0, begin, end;
    for (int i = 0; i < op->n_mats; i++) total += d->mats[op->w[i]].rows;
    par_slice(total, 16, c->thread, c->n_threads, &begin, &end);
    for (int i = 0; i < op->n_mats; i++) {
        const kern_mat *w = &d->mats[op->w[i]];
        const cpu_buf *dst = &d->bufs[op->dst[i]];
        if (begin < w->rows && end > 0) {
            const size_t stop = BASE_MIN(end, w->rows);
            product_of(d, w, x.n_tok)(dst->x, dst->width, w, &x, begin, stop);
            if (!scales_itself(w) && w->scale != 1.0f) scale_rows(dst, w, x.n_tok, begin, stop);
        }
        begin = begin > w->rows ? begin - w->rows : 0;
        end = end > w->rows ? end - w->rows : 0;
        if (!end) break;
    }
}

/* ==== Attention and its cache ================================================================= */

/* Attention of one token and KV head. */
static kern_attn attention_of(const cpu_ctx *c, const dev_op *op, size_t row, size_t head) {
    const dev_cpu *d = c->d;
    const dev_shape *s = &d->shape;
    const size_t group = s->n_head / s->n_head_kv, at = head * group * s->d_head;
    const size_t k_at = cpu_page_offset(d, op->layer, (uint32_t)head);
    const size_t hi = (size_t)c->step->pos[row] + 1;
    return (kern_attn){.q = row_of(&d->bufs[op->src], row) + at,
                       .out = row_of(&d->bufs[op->dst[0]], row) + at,
                       .n_heads = group,
                       .d = s->d_head,
                       .scale = 1.0f / __builtin_sqrtf((float)s->d_head),
                       .type = s->kv,
                       .pages = d->pages,
                       .page_ids = c->step->pages[row],
                       .page_bytes = d->page_bytes,
                       .k_at = k_at,
                       .v_at = k_at + d->block_bytes,
                       .lo = op->window && hi > op->window ? hi - op->window : 0,
                       .hi = hi};
}

/* Partial states of (row, KV head): [span][query head of the group]. */
static float *partial_of(const dev_cpu *d, size_t row, size_t head) {
    const size_t group = d->shape.n_head / d->shape.n_head_kv;
    return d->partial + (row * d->shape.n_head_kv + head) * d->max_spans * group *
                            kern_partial_floats(d->shape.d_head);
}

/* Few tokens: their spans are shared out, then folded. All threads take part in both rounds. */
static void attend_split(const cpu_ctx *c, const dev_op *op) {
    const dev_cpu *d = c->d;
    const size_t n_kv = d->shape.n_head_kv, stride = kern_partial_floats(d->shape.d_head);
    size_t turn = 0, all = (size_t)c->n_threads, me = (size_t)c->thread;
    for (size_t i = 0; i < c->step->n_rows * n_kv; i++) {
        const kern_attn a = attention_of(c, op, i / n_kv, i % n_kv);
        for (size_t span = a.lo / KERN_SPAN; span * KERN_SPAN < a.hi; span++, turn++)
            if (turn % all == me)
                d->k->attention_span(&a, span,
                                     partial_of(d, i / n_kv, i % n_kv) + span * a.n_heads * stride);
    }
    meet(c);
    for (size_t i = me; i < c->step->n_rows * n_kv; i += all) {
        const kern_attn a = attention_of(c, op, i / n_kv, i % n_kv);
        size_t first = a.lo / KERN_SPAN, end = (a.hi + KERN_SPAN - 1) / KERN_SPAN;
        d->k->attention_fold(&a, partial_of(d, i / n_kv, i % n_kv), first, end - first);
    }
}

static void do_attention(const cpu_ctx *c, const dev_op *op) {
    const size_t n_kv = c->d->shape.n_head_kv, n_rows = c->step->n_rows;
    bool any_long = false; /* the same answer in every thread */
    for (size_t row = 0; row < n_rows; row++) any_long |= c->step->pos[row] >= KERN_SPAN;
    if (any_long && c->n_threads > 1 && n_rows <= CPU_SPLIT_ROWS) {
        attend_split(c, op);
        return;
    }
    for (size_t i = (size_t)c->thread; i < n_rows * n_kv; i += (size_t)c->n_threads) {
        const kern_attn a = attention_of(c, op, i / n_kv, i % n_kv);
        c->d->k->attention(&a);
    }
}

static void kv_append_row(const cpu_ctx *c, const dev_op *op, size_t row) {
    const dev_cpu *d = c->d;
    const dev_shape *s = &d->shape;
    uint32_t pos = c->step->pos[row], page = c->step->pages[row][pos / KERN_KEYS];
    size_t slot = pos % KERN_KEYS * kern_kv_row_bytes(s->kv, s->d_head);
    for (uint32_t h = 0; h < s->n_head_kv; h++) {
        uint8_t *at = d->pages + page * d->page_bytes + cpu_page_offset(d, op->layer, h) + slot;
        d->k->kv_store(at, row_of(&d->bufs[op->src], row) + h * s->d_head, s->d_head, s->kv);
        d->k->kv_store(at + d->block_bytes, row_of(&d->bufs[op->src2], row) + h * s->d_head,
                       s->d_head, s->kv);
    }
}

/* ==== Everything that works on one row ======================================================== */

static void quant_row(const dev_cpu *d, const cpu_buf *b, size_t row, bool blocks) {
    int8_t *q = b->q + row * b->ldq;
    if (blocks)
        d->k->quant_q8(q, b->s + row * (b->ldq / 32), b->sum16 + row * (b->ldq / 16),
                       row_of(b, row), b->width, b->ldq);
    else
        d->k->quant_i8(q, b->s + row, b->sum + row, row_of(b, row), b->width, b->ldq);
}

/* The whole row, or each of its heads, by the same gain. */
static void norm_row(const cpu_ctx *c, const dev_op *op, size_t row) {
    const dev_cpu *d = c->d;
    const cpu_vec *gain = &d->vecs[op->vec];
    for (size_t i = 0; i < BASE_MAX(op->n_heads, 1u); i++)
        d->k->rmsnorm(row_of(&d->bufs[op->dst[0]], row) + i * gain->n,
                      row_of(&d->bufs[op->src], row) + i * gain->n, gain->v, gain->n, op->eps);
}

static void do_row(const cpu_ctx *c, const dev_op *op, size_t row) {
    const dev_cpu *d = c->d;
    const cpu_buf *dst = &d->bufs[op->dst[0]], *src = &d->bufs[op->src];
    const size_t half = d->shape.n_rot / 2;
    switch (op->kind) {
    case DEV_EMBED:
        d->k->embed(row_of(dst, row), &d->mats[op->w[0]], c->step->token[row]);
        break;
    case DEV_RMSNORM:
        norm_row(c, op, row);
        break;
    case DEV_BIAS:
        d->k->add(row_of(dst, row), d->vecs[op->vec].v, dst->width);
        break;
    case DEV_QUANT_I8:
        quant_row(d, src, row, false);
        break;
    case DEV_QUANT_Q8:
        quant_row(d, src, row, true);
        break;
    case DEV_ROPE:
        d->k->rope(row_of(dst, row), op->n_heads, d->shape.d_head, d->shape.n_rot,
                   d->cs + row * half, d->sn + row * half, d->shape.rope_interleaved);
        break;
    case DEV_KV_APPEND:
        kv_append_row(c, op, row);
        break;
    case DEV_GLU:
        d->k->glu(row_of(dst, row), row_of(src, row), row_of(&d->bufs[op->src2], row), dst->width,
                  op->glu);
        break;
    case DEV_ADD:
        d->k->add(row_of(dst, row), row_of(src, row), dst->width);
        break;
    case DEV_PICK:
        memcpy(row_of(dst, row), row_of(src, c->step->picked[row]), dst->width * sizeof(float));
        break;
    case DEV_MATMUL:
    case DEV_ATTENTION:
        assert(!"shared otherwise");
    }
}

static void do_rows(const cpu_ctx *c, const dev_op *op) {
    size_t begin, end;
    par_slice(op_rows(c, op), 1, c->thread, c->n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) do_row(c, op, row);
}

/* ==== The walk ================================================================================ */

static void make_angles(const cpu_ctx *c) {
    const dev_cpu *d = c->d;
    size_t begin, end, half = d->shape.n_rot / 2;
    par_slice(c->step->n_rows, 1, c->thread, c->n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++)
        kern_rope_table(d->cs + row * half, d->sn + row * half, d->inv_freq, half,
                        c->step->pos[row]);
}

static void walk(void *arg, int thread, int n_threads) {
    cpu_ctx c = *(const cpu_ctx *)arg;
    c.thread = thread;
    c.n_threads = n_threads;
    make_angles(&c);
    for (size_t i = 0; i < c.d->n_ops; i++) {
        const dev_op *op = &c.d->ops[i];
        if (op_rows(&c, op) == 0) continue; /* nobody wants logits: the head is skipped */
        if (op->kind == DEV_MATMUL)
            do_matmul(&c, op);
        else if (op->kind == DEV_ATTENTION)
            do_attention(&c, op);
        else
            do_rows(&c, op);
        meet(&c);
    }
}

rotor_status cpu_run(dev *base, const dev_step *step, rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    (void)err;
    assert(step->n_rows <= d->shape.max_rows && step->n_picked <= d->shape.max_picked);
    cpu_ctx ctx = {.d = d, .step = step};
    /* A small step is faster alone than with the barriers between its ops: about 0.1 us each on a
     * quiet machine, many times that on a busy one. */
    if (d->op_bytes * step->n_rows < d->shape.solo_bytes)
        walk(&ctx, 0, 1);
    else
        par_run(d->pool, walk, &ctx);
    d->base.counters.steps++;
    d->base.counters.dispatches += d->n_ops;
    return ROTOR_OK;
}
