/* SPDX-License-Identifier: MIT
 *
 * The CPU device: one step. Every thread walks the whole op list, does its share of each op and
 * meets the others at a barrier; there is one hand-over to the pool per step.
 *
 * How ops are shared: products by output rows, attention by (tile of tokens, KV head) or, for a
 * few long tokens, by spans of keys, everything else by token. Row work on many tokens meets the
 * others only where an op of another kind follows. One token has no tokens to share: its phases
 * (dev_cpu_plan.c) let every thread do the row work it needs. No share cuts a reduction, so the
 * result does not depend on the number of threads.
 */
#include "dev/cpu/dev_cpu.h"

#include <assert.h>

/* What every thread sees of the step. */
typedef struct cpu_ctx {
    dev_cpu *d;           /* the device */
    const dev_step *step; /* rows of this step */
    int thread;           /* this thread */
    int n_threads;        /* all of them */
    cpu_watch *watch;     /* of this thread; NULL: nobody asked where the time goes */
    bool checked;         /* some products of the step are done twice */
} cpu_ctx;

/* The time since the last call was spent on op, or waiting behind it. */
static void lap(const cpu_ctx *c, const dev_op *op, bool waiting) {
    if (!c->watch) return;
    const uint64_t now = base_now_ns();
    cpu_op_time *t = &c->watch->ops[op - c->d->ops];
    *(waiting ? &t->wait_ns : &t->work_ns) += now - c->watch->mark;
    if (c->d->trace) cpu_trace_lap(c->d, c->watch, op, waiting, now);
    c->watch->mark = now;
    c->watch->last = op;
}

static void meet(const cpu_ctx *c) {
    if (c->n_threads == 1) return;
    par_barrier(c->d->pool);
    if (c->thread == 0) c->d->base.counters.meetings++;
    if (c->watch) lap(c, c->watch->last, true);
}

static uint32_t op_rows(const cpu_ctx *c, const dev_op *op) {
    if (op->slots) return c->step->n_rows * c->d->shape.n_used;
    return op->picked ? c->step->n_picked : c->step->n_rows;
}

static float *row_of(const cpu_buf *b, size_t row) { return b->x + row * b->width; }

/* ==== Products ================================================================================ */

kern_mm_fn cpu_product_of(const dev_cpu *d, const kern *k, const kern_mat *w, size_t n_tok) {
    switch (w->type) {
    case QUANT_F32:
        return k->mm_f32;
    case KERN_Q8X16:
        return k->mm_q8x16;
    case KERN_F32X16:
        return k->mm_f32x16;
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

static kern_act act_of(const cpu_buf *b, size_t n_tok) {
    return (kern_act){.x = b->x,
                      .ldx = b->width,
                      .q = b->q,
                      .ldq = b->ldq,
                      .s = b->s,
                      .sum = b->sum,
                      .sum16 = b->sum16,
                      .n_tok = n_tok};
}

/* Rows of an op's product: the rows of all its matrices stand one after another in one range, or,
 * where rows of two matrices are needed together, the range is that of each. */
static size_t all_rows(const dev_cpu *d, const dev_op *op, bool apart) {
    size_t total = 0;
    for (int i = 0; i < (apart ? 1 : op->n_mats); i++) total += d->mats[op->w[i]].rows;
    return total;
}

/* What part of matrix i lies in rows [*begin, *end) of the range. */
static bool rows_of_mat(const dev_cpu *d, const dev_op *op, int i, bool apart, size_t *begin,
                        size_t *end) {
    const size_t rows = d->mats[op->w[i]].rows;
    size_t before = 0;
    for (int j = 0; j < i && !apart; j++) before += d->mats[op->w[j]].rows;
    *begin = BASE_MIN(*begin > before ? *begin - before : 0, rows);
    *end = BASE_MIN(*end > before ? *end - before : 0, rows);
    return *begin < *end;
}

/* Rows [begin, end) of the range. */
static void product_rows(const cpu_ctx *c, const dev_op *op, const kern_act *x, bool apart,
                         size_t begin, size_t end) {
    const dev_cpu *d = c->d;
    for (int i = 0; i < op->n_mats; i++) {
        const kern_mat *w = &d->mats[op->w[i]];
        const cpu_buf *dst = &d->bufs[op->dst[i]];
        size_t from = begin, to = end;
        if (!rows_of_mat(d, op, i, apart, &from, &to)) continue;
        cpu_product_of(d, d->k, w, x->n_tok)(dst->x, dst->width, w, x, from, to);
        if (c->checked)
            cpu_check_rows(d, op, w, x, !op->slots, &(cpu_out){dst->x, dst->width}, from, to);
        if (!scales_itself(w) && w->scale != 1.0f) scale_rows(dst, w, x->n_tok, from, to);
    }
    lap(c, op, false);
}

/* Rows of a product in chunks: each thread begins with a contiguous share of its own, one linear
 * stream of memory; one that is through, because its processor is faster or less disturbed, takes
 * chunks that others have not begun. Products of a step take turns with two sets of claims. */
typedef struct chunks {
    size_t total; /* rows */
    size_t chunk; /* rows taken at once */
    int set;      /* of claims */
    int whose;    /* share in turn: the thread's own first */
} chunks;

static chunks chunks_of(const cpu_ctx *c, size_t total, size_t chunk, int set) {
    atomic_store_explicit(&c->d->claims[c->thread].n[1 - set], 0, memory_order_relaxed);
    return (chunks){.total = total, .chunk = c->n_threads == 1 ? total : chunk, .set = set};
}

/* The next rows for this thread; false: all are taken. */
static bool take_chunk(const cpu_ctx *c, chunks *k, size_t *begin, size_t *end) {
    for (; k->whose < c->n_threads; k->whose++) {
        const int whose = (c->thread + k->whose) % c->n_threads;
        par_slice(k->total, 16, whose, c->n_threads, begin, end);
        *begin += k->chunk * atomic_fetch_add_explicit(&c->d->claims[whose].n[k->set], 1,
                                                       memory_order_relaxed);
        if (*begin >= *end) continue;
        *end = BASE_MIN(*end, *begin + k->chunk);
        return true;
    }
    return false;
}

/* A product of many rows of activations. */
static void do_product_many(const cpu_ctx *c, const cpu_phase *ph) {
    const dev_op *op = &c->d->ops[ph->main];
    const kern_act x = act_of(&c->d->bufs[op->src], op_rows(c, op));
    chunks k = chunks_of(c, all_rows(c->d, op, false), CPU_CHUNK_ROWS, ph->set);
    for (size_t begin, end; take_chunk(c, &k, &begin, &end);)
        product_rows(c, op, &x, false, begin, end);
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

/* Heads [first, first + n) of a row by the same gain; a whole row is one head. */
static void norm_heads(const dev_cpu *d, const dev_op *op, size_t row, size_t first, size_t n) {
    const size_t width = d->vecs[op->vec].n;
    for (size_t i = first; i < first + n; i++)
        cpu_norm(d, op, row_of(&d->bufs[op->dst[0]], row) + i * width,
                 row_of(&d->bufs[op->src], row) + i * width);
}

/* The row of a bias: the only one, that of the row's expert, of its position, or of its type. */
static const float *bias_of(const cpu_ctx *c, const dev_op *op, size_t row) {
    const cpu_vec *vec = &c->d->vecs[op->vec];
    const size_t width = c->d->bufs[op->dst[0]].width;
    const size_t i = op->slots     ? c->d->route.of_row[row]
                     : op->by_pos  ? c->step->pos[row]
                     : op->by_type ? c->step->type[row]
                                   : 0;
    assert((i + 1) * width <= vec->n);
    return vec->v + i * width;
}

/* What gates, or NULL. */
static const float *gated_by(const dev_cpu *d, const dev_op *op, size_t row) {
    return op->src2 == DEV_NONE ? NULL : row_of(&d->bufs[op->src2], row);
}

/* The page table of a row's sequence, for one layer. */
static const uint32_t *pages_of(const cpu_ctx *c, uint32_t layer, size_t row) {
    return c->d->layers[layer].ring ? c->step->ring[row] : c->step->pages[row];
}

/* A head's key or value as a row of the cache: floats are one as they stand. */
static const uint8_t *as_cached(const dev_cpu *d, uint8_t *packed, const float *x) {
    if (d->shape.kv == KERN_KV_F32) return (const uint8_t *)x;
    d->k->kv_store(packed, x, d->shape.d_head, d->shape.kv);
    return packed;
}

static void kv_append_head(const cpu_ctx *c, const dev_op *op, size_t row, uint32_t head) {
    const dev_cpu *d = c->d;
    const dev_shape *s = &d->shape;
    const size_t pos = c->step->pos[row], slot = pos % KERN_KEYS;
    const cpu_cache *cache = cpu_cache_of(d, op->layer);
    const size_t page = pages_of(c, op->layer, row)[pos / KERN_KEYS];
    uint8_t *at = cache->pages + page * cache->page_bytes + cpu_page_offset(d, op->layer, head);
    const float *k = row_of(&d->bufs[op->src], row) + head * s->d_head;
    const float *v = row_of(&d->bufs[op->src2], row) + head * s->d_head;
    uint8_t packed[KERN_MAX_HEAD * sizeof(float)];
    kern_put_key(at, slot, as_cached(d, packed, k), s->d_head, s->kv);
    kern_put_value(at + d->block_bytes, slot, as_cached(d, packed, v), s->d_head, s->kv);
}

static void kv_append_row(const cpu_ctx *c, const dev_op *op, size_t row) {
    for (uint32_t h = 0; h < c->d->shape.n_head_kv; h++) kv_append_head(c, op, row, h);
}

/* The gate of a row: its share beside a zero. */
static float sigmoid(const dev_cpu *d, const dev_op *op, size_t row) {
    float both[] = {*row_of(&d->bufs[op->src2], row), 0};
    d->k->softmax(both, 2);
    return both[0];
}

static void pool_row(const cpu_ctx *c, const dev_op *op, size_t row) {
    const cpu_buf *dst = &c->d->bufs[op->dst[0]], *src = &c->d->bufs[op->src];
    const size_t first = row ? c->step->picked[row - 1] + 1 : 0, last = c->step->picked[row];
    const float share = 1.0f / (float)(last - first + 1);
    float *sum = row_of(dst, row);
    memset(sum, 0, dst->width * sizeof *sum);
    for (size_t i = first; i <= last; i++) c->d->k->add(sum, row_of(src, i), dst->width);
    for (size_t i = 0; i < dst->width; i++) sum[i] *= share;
}

static void do_row(const cpu_ctx *c, const dev_op *op, size_t row) {
    const dev_cpu *d = c->d;
    const cpu_buf *dst = &d->bufs[op->dst[0]], *src = &d->bufs[op->src];
    const size_t half = d->shape.n_rot / 2;
    switch (op->kind) {
    case DEV_EMBED:
        d->k->embed(row_of(dst, row), &d->mats[op->w[0]], c->step->token[row]);
        for (size_t i = 0; op->scale != 0 && i < dst->width; i++) row_of(dst, row)[i] *= op->scale;
        break;
    case DEV_CAP:
        d->k->cap(row_of(dst, row), op->scale, dst->width);
        break;
    case DEV_RMSNORM:
        norm_heads(d, op, row, 0, BASE_MAX(op->n_heads, 1u));
        break;
    case DEV_BIAS:
        d->k->add(row_of(dst, row), bias_of(c, op, row), dst->width);
        break;
    case DEV_GATHER:
        cpu_gather_row(d, op, row);
        break;
    case DEV_MIX:
        cpu_mix_row(d, op, row);
        break;
    case DEV_QUANT_I8:
        quant_row(d, src, row, false);
        break;
    case DEV_QUANT_Q8:
        quant_row(d, src, row, true);
        break;
    case DEV_ROPE:
        d->k->rope(row_of(dst, row), op->n_heads, d->shape.d_head, d->shape.n_rot,
                   d->cs[op->local] + row * half, d->sn[op->local] + row * half,
                   d->shape.rope_interleaved);
        break;
    case DEV_KV_APPEND:
        kv_append_row(c, op, row);
        break;
    case DEV_GLU:
        d->k->glu(row_of(dst, row), row_of(src, row), gated_by(d, op, row), dst->width, op->glu);
        break;
    case DEV_ADD:
        d->k->add(row_of(dst, row), row_of(src, row), dst->width);
        break;
    case DEV_ADD_GATED:
        d->k->add_scaled(row_of(dst, row), row_of(src, row), sigmoid(d, op, row), dst->width);
        break;
    case DEV_PICK:
        memcpy(row_of(dst, row), row_of(src, c->step->picked[row]), dst->width * sizeof(float));
        break;
    case DEV_POOL:
        pool_row(c, op, row);
        break;
    case DEV_MATMUL:
    case DEV_ATTENTION:
    case DEV_ROUTE:
    case DEV_EXPERTS:
        assert(!"shared otherwise");
    }
}

/* Ops [begin, end) of the tokens that are this thread's, token by token: what one op leaves in the
 * cache the next one finds there. Keys and values that come last are stored head by head: a token's
 * key is a column of its block, whose lines the next token writes to as well. */
static void do_rows(const cpu_ctx *c, size_t begin, size_t end) {
    const dev_op *ops = c->d->ops;
    const dev_op *append = ops[end - 1].kind == DEV_KV_APPEND ? &ops[--end] : NULL;
    size_t first, last;
    par_slice(op_rows(c, &ops[begin]), 1, c->thread, c->n_threads, &first, &last);
    for (size_t row = first; row < last; row++)
        for (size_t i = begin; i < end; i++) {
            do_row(c, &ops[i], row);
            lap(c, &ops[i], false);
        }
    if (!append) return;
    for (uint32_t h = 0; h < c->d->shape.n_head_kv; h++)
        for (size_t row = first; row < last; row++) kv_append_head(c, append, row, h);
    lap(c, append, false);
}

/* ==== Attention ============================================================================== */

/* Tokens of one sequence at consecutive positions, the first at `row`, that attend together. */
static size_t tile_at(const cpu_ctx *c, size_t row) {
    const dev_step *s = c->step;
    const size_t group = c->d->shape.n_head / c->d->shape.n_head_kv;
    const size_t share = (s->n_rows + (size_t)c->n_threads - 1) / (size_t)c->n_threads;
    const size_t most = BASE_MIN(BASE_MAX(KERN_ATTN_ROWS / group, 1), share);
    size_t n = 1;
    while (n < most && row + n < s->n_rows && s->pages[row + n] == s->pages[row] &&
           s->pos[row + n] == s->pos[row] + n)
        n++;
    return n;
}

/* Attention of n tokens from `row` on and one KV head. */
static kern_attn attention_of(const cpu_ctx *c, const dev_op *op, size_t row, size_t n,
                              size_t head) {
    const dev_cpu *d = c->d;
    const dev_shape *s = &d->shape;
    const cpu_buf *src = &d->bufs[op->src], *dst = &d->bufs[op->dst[0]];
    const size_t group = s->n_head / s->n_head_kv, at = head * group * s->d_head;
    const size_t k_at = cpu_page_offset(d, op->layer, (uint32_t)head);
    const cpu_cache *cache = cpu_cache_of(d, op->layer);
    return (kern_attn){.q = row_of(src, row) + at,
                       .out = row_of(dst, row) + at,
                       .ldq = src->width,
                       .ldo = dst->width,
                       .n_tok = n,
                       .n_heads = group,
                       .d = s->d_head,
                       .scale = s->attn_scale,
                       .cap = s->attn_cap,
                       .type = s->kv,
                       .pages = cache->pages,
                       .page_ids = pages_of(c, op->layer, row),
                       .page_bytes = cache->page_bytes,
                       .k_at = k_at,
                       .v_at = k_at + d->block_bytes,
                       .pos = c->step->pos[row],
                       .window = op->window,
                       .end = op->both_ways ? c->step->len[row] : 0,
                       .sinks = op->sinks ? d->vecs[op->vec].v + head * group : NULL,
                       .scratch = d->scratch + (size_t)c->thread * d->scratch_at};
}

/* Partial states of a tile of n tokens and one KV head: [span][token][query head of the group]. */
static float *partial_of(const dev_cpu *d, size_t row, size_t n, size_t head) {
    const dev_shape *s = &d->shape;
    const size_t group = s->n_head / s->n_head_kv;
    return d->partial +
           (row * s->n_head_kv + head * n) * d->max_spans * group * kern_partial_floats(s->d_head);
}

/* One span of one tile, waiting for its thread to know what it reads next. */
typedef struct span_item {
    kern_attn a;  /* the tile */
    size_t span;  /* which */
    float *state; /* where its partial states go; NULL: no item */
} span_item;

static void span_item_run(const cpu_ctx *c, span_item *i, const span_item *next) {
    if (!i->state) return;
    const size_t block = next->span * (KERN_SPAN / KERN_KEYS); /* a windowed token starts later */
    if (next->state && !next->a.window)
        i->a.ahead = next->a.pages + next->a.page_ids[block] * next->a.page_bytes + next->a.k_at;
    c->d->k->attention_span(&i->a, i->span, i->state);
}

/* Few tokens: their spans are shared out, then folded. All threads take part in both rounds. */
static void attend_split(const cpu_ctx *c, const dev_op *op) {
    const dev_cpu *d = c->d;
    const size_t n_kv = d->shape.n_head_kv, stride = kern_partial_floats(d->shape.d_head);
    size_t turn = 0, all = (size_t)c->n_threads, me = (size_t)c->thread;
    span_item last = {.state = NULL};
    for (size_t row = 0, n; row < c->step->n_rows; row += n) {
        n = tile_at(c, row);
        for (size_t head = 0; head < n_kv; head++) {
            const kern_attn a = attention_of(c, op, row, n, head);
            const size_t first = kern_attn_first_span(&a, 0), end = kern_attn_end_span(&a, n - 1);
            for (size_t span = first; span < end; span++, turn++) {
                if (turn % all != me) continue;
                const span_item item = {.a = a,
                                        .span = span,
                                        .state = partial_of(d, row, n, head) +
                                                 (span - first) * n * a.n_heads * stride};
                span_item_run(c, &last, &item);
                last = item;
            }
        }
    }
    span_item_run(c, &last, &(span_item){.state = NULL});
    meet(c);
    turn = 0;
    for (size_t row = 0, n; row < c->step->n_rows; row += n) {
        n = tile_at(c, row);
        for (size_t head = 0; head < n_kv; head++, turn++) {
            if (turn % all != me) continue;
            const kern_attn a = attention_of(c, op, row, n, head);
            d->k->attention_fold(&a, partial_of(d, row, n, head));
        }
    }
}

/* Row work in front of attention for one KV head and the query heads that share it. */
static void do_head(const cpu_ctx *c, const cpu_phase *ph, uint32_t head) {
    const dev_cpu *d = c->d;
    const dev_buf q = d->ops[ph->main].src;
    const size_t group = d->shape.n_head / d->shape.n_head_kv, dim = d->shape.d_head;
    for (size_t i = ph->begin; i < ph->main; i++) {
        const dev_op *op = &d->ops[i];
        const size_t n = op->dst[0] == q ? group : 1;
        if (op->kind == DEV_KV_APPEND)
            kv_append_head(c, op, 0, head);
        else if (op->kind == DEV_ROPE)
            d->k->rope(d->bufs[op->dst[0]].x + head * n * dim, n, dim, d->shape.n_rot,
                       d->cs[op->local], d->sn[op->local], d->shape.rope_interleaved);
        else
            norm_heads(d, op, 0, head * n, n);
        lap(c, op, false);
    }
}

/* ph: the phase of a step of one row, whose heads are made ready by the thread that attends with
 * them; NULL: they are ready. */
static void do_attention(const cpu_ctx *c, const dev_op *op, const cpu_phase *ph) {
    const size_t n_kv = c->d->shape.n_head_kv, n_rows = c->step->n_rows;
    const size_t me = (size_t)c->thread, all = (size_t)c->n_threads;
    bool any_long = false; /* the same answer in every thread */
    for (size_t row = 0; row < n_rows; row++) any_long |= c->step->pos[row] >= KERN_SPAN;
    assert(!op->both_ways || c->step->len);
    if (any_long && c->n_threads > 1 && n_rows <= CPU_SPLIT_ROWS) {
        for (size_t head = me; ph && head < n_kv; head += all) do_head(c, ph, (uint32_t)head);
        if (ph && ph->begin < ph->main) meet(c);
        attend_split(c, op);
        return;
    }
    size_t turn = 0;
    for (size_t row = 0, n; row < n_rows; row += n) {
        n = tile_at(c, row);
        for (size_t head = 0; head < n_kv; head++, turn++) {
            if (turn % all != me) continue;
            if (ph) do_head(c, ph, (uint32_t)head);
            const kern_attn a = attention_of(c, op, row, n, head);
            c->d->k->attention(&a);
            lap(c, op, false);
        }
    }
}

/* ==== One token =============================================================================== */

/* The input of a product, normed and quantised by every thread into its own scratch. */
static kern_act own_input(const cpu_ctx *c, const cpu_phase *ph) {
    const dev_cpu *d = c->d;
    const cpu_buf *src = &d->bufs[d->ops[ph->main].src];
    if (ph->begin == ph->main) return act_of(src, 1);
    cpu_buf own = d->own[c->thread];
    float *scratch = own.x;
    own.width = src->width;
    own.ldq = src->ldq;
    own.x = row_of(&d->bufs[d->ops[ph->begin].src], 0);
    for (size_t i = ph->begin; i < ph->main; i++) {
        const dev_op *op = &d->ops[i];
        if (op->kind == DEV_RMSNORM) {
            cpu_norm(d, op, scratch, own.x);
            own.x = scratch;
        } else if (op->kind == DEV_BIAS) {
            d->k->add(scratch, d->vecs[op->vec].v, own.width); /* of the norm before it */
        } else {
            quant_row(d, &own, 0, op->kind == DEV_QUANT_Q8);
        }
        lap(c, op, false);
    }
    return act_of(&own, 1);
}

/* Row work behind rows [begin, end) of a product, by the thread that has made them. */
static void do_behind(const cpu_ctx *c, const cpu_phase *ph, size_t begin, size_t end) {
    const dev_cpu *d = c->d;
    const dev_op *main = &d->ops[ph->main];
    for (size_t i = ph->main + 1; i < ph->end; i++) {
        const dev_op *op = &d->ops[i];
        float *dst = d->bufs[op->dst[0]].x;
        if (op->kind == DEV_BIAS && op->slots) {
            cpu_experts_bias(d, op, begin, end);
            continue;
        }
        for (int m = 0; m < main->n_mats; m++) {
            size_t from = begin, to = end;
            const bool mine = op->kind == DEV_BIAS ? main->dst[m] == op->dst[0] : m == 0;
            if (!mine || !rows_of_mat(d, main, m, ph->apart, &from, &to)) continue;
            if (op->kind == DEV_BIAS)
                d->k->add(dst + from, d->vecs[op->vec].v + from, to - from);
            else if (op->kind == DEV_ADD)
                d->k->add(dst + from, d->bufs[op->src].x + from, to - from);
            else
                d->k->glu(dst + from, d->bufs[op->src].x + from,
                          op->src2 == DEV_NONE ? NULL : d->bufs[op->src2].x + from, to - from,
                          op->glu);
        }
        lap(c, op, false);
    }
}

/* A product of one row. */
static void do_product(const cpu_ctx *c, const cpu_phase *ph) {
    dev_cpu *d = c->d;
    const dev_op *op = &d->ops[ph->main];
    const kern_act x = own_input(c, ph);
    chunks k = chunks_of(c, all_rows(d, op, ph->apart), ph->chunk, ph->set);
    for (size_t begin, end; take_chunk(c, &k, &begin, &end);) {
        product_rows(c, op, &x, ph->apart, begin, end);
        do_behind(c, ph, begin, end);
    }
}

/* ==== Experts ================================================================================= */

/* Which experts the tokens go to: every thread chooses for its own, then one shares the slots out.
 * A single token is chosen for by that one, which saves a meeting. */
static void do_route(const cpu_ctx *c, const dev_op *op) {
    const size_t n = c->step->n_rows;
    size_t begin = 0, end = c->thread == 0;
    if (n > 1) par_slice(n, 1, c->thread, c->n_threads, &begin, &end);
    cpu_choose(c->d, op, begin, end);
    if (n > 1) meet(c);
    if (c->thread != 0) return;
    cpu_share_out(c->d, n);
    if (c->d->shape.on_demand) cpu_want_experts(c->d, op);
}

/* Every active expert's matrix with the rows that were sent to it; behind it, for one token, the
 * row work on its outputs. */
static void do_experts(const cpu_ctx *c, const cpu_phase *ph, bool behind) {
    const dev_cpu *d = c->d;
    const dev_op *op = &d->ops[ph->main];
    const size_t total = d->route.n_active * d->bufs[op->dst[0]].width;
    chunks k = chunks_of(c, total, behind ? ph->chunk : CPU_CHUNK_ROWS, ph->set);
    for (size_t begin, end; take_chunk(c, &k, &begin, &end);) {
        cpu_experts_rows(d, op, begin, end);
        lap(c, op, false);
        if (behind) do_behind(c, ph, begin, end);
    }
}

static void fetch(const void *p, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i += 64) __builtin_prefetch((const char *)p + i);
}

/* Asks for what the next product reads first, its norm's gain and the first weights, so that the
 * memory is at work while the threads meet. */
static void look_ahead(const cpu_ctx *c, const cpu_phase *ph) {
    const dev_cpu *d = c->d;
    const cpu_phase *last = d->phases + d->n_phases;
    while (ph < last && (ph->main == ph->end || d->ops[ph->main].kind != DEV_MATMUL)) ph++;
    if (ph == last) return;
    const dev_op *op = &d->ops[ph->begin];
    if (op->kind == DEV_RMSNORM) fetch(d->vecs[op->vec].v, d->vecs[op->vec].n * sizeof(float));
    op = &d->ops[ph->main];
    size_t first, end;
    par_slice(all_rows(d, op, ph->apart), 16, c->thread, c->n_threads, &first, &end);
    for (int i = 0; i < op->n_mats; i++) {
        const kern_mat *w = &d->mats[op->w[i]];
        size_t from = first, to = end;
        if (!rows_of_mat(d, op, i, ph->apart, &from, &to)) continue;
        fetch(w->data + from * w->row_bytes,
              BASE_MIN((to - from) * w->row_bytes, (size_t)CPU_AHEAD_BYTES));
        return;
    }
}

static void do_phase(const cpu_ctx *c, const cpu_phase *ph) {
    const dev_op *op = &c->d->ops[ph->main];
    if (ph->main == ph->end) {
        do_rows(c, ph->begin, ph->end);
    } else if (op->kind == DEV_MATMUL) {
        do_product(c, ph);
    } else if (op->kind == DEV_EXPERTS) {
        do_experts(c, ph, true);
    } else if (op->kind == DEV_ROUTE) {
        do_route(c, op);
        lap(c, op, false);
    } else {
        do_attention(c, op, ph);
        lap(c, op, false);
    }
    look_ahead(c, ph + 1);
}

/* ==== The walk ================================================================================ */

static void make_row_angles(const dev_cpu *d, size_t row, uint32_t pos) {
    const size_t half = d->shape.n_rot / 2;
    for (int t = 0; t < 2 && d->inv_freq[t]; t++) {
        float *cs = d->cs[t] + row * half, *sn = d->sn[t] + row * half;
        kern_rope_table(cs, sn, d->inv_freq[t], half, pos);
        for (size_t i = 0; d->shape.rope_gain != 1 && i < half; i++) {
            cs[i] *= d->shape.rope_gain;
            sn[i] *= d->shape.rope_gain;
        }
    }
}

static void make_angles(const cpu_ctx *c) {
    const dev_cpu *d = c->d;
    size_t begin, end;
    par_slice(c->step->n_rows, 1, c->thread, c->n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) make_row_angles(d, row, c->step->pos[row]);
}

/* Many tokens: ops of phases from ph on, up to op `end`, every stretch of row work as one. */
static void walk_many(const cpu_ctx *c, const cpu_phase *ph, size_t end) {
    const dev_op *ops = c->d->ops;
    const size_t begin = ph->begin;
    for (size_t i = begin, next; i < end; i = next) {
        if (i) meet(c);
        for (next = i;
             next < end && cpu_is_row_op(&ops[next]) && cpu_same_rows(&ops[next], &ops[i]);)
            next++;
        if (next > i) {
            do_rows(c, i, next);
            continue;
        }
        while (ph->main != i || ph->main == ph->end) ph++;
        if (ops[i].kind == DEV_MATMUL)
            do_product_many(c, ph);
        else if (ops[i].kind == DEV_EXPERTS)
            do_experts(c, ph, false);
        else if (ops[i].kind == DEV_ROUTE)
            do_route(c, &ops[i]);
        else
            do_attention(c, &ops[i], NULL);
        lap(c, &ops[i], false);
        next = i + 1;
    }
}

static void walk_one(const cpu_ctx *c, size_t first, size_t last) {
    for (size_t i = first; i < last; i++) {
        if (i) meet(c);
        do_phase(c, &c->d->phases[i]);
    }
}

/* Phases [first, last) hold the ops of all rows or those of the picked ones. */
static void walk_part(const cpu_ctx *c, size_t first, size_t last) {
    const cpu_phase *ph = c->d->phases;
    if (first == last) return;
    const uint32_t rows = op_rows(c, &c->d->ops[ph[first].begin]);
    if (rows == 1)
        walk_one(c, first, last);
    else if (rows > 1)
        walk_many(c, ph + first, ph[last - 1].end);
}

static void walk(void *arg, int thread, int n_threads) {
    cpu_ctx c = *(const cpu_ctx *)arg;
    c.thread = thread;
    c.n_threads = n_threads;
    if (c.d->watches) {
        c.watch = &c.d->watches[thread];
        c.watch->mark = base_now_ns();
    }
    make_angles(&c);
    for (int i = 0; i < 2; i++)
        atomic_store_explicit(&c.d->claims[thread].n[i], 0, memory_order_relaxed);
    if (c.d->phases->main < c.d->phases->end) meet(&c); /* it begins with shares: claims are 0 */
    walk_part(&c, 0, c.d->first_picked);
    walk_part(&c, c.d->first_picked, c.d->n_phases); /* no rows: nobody wants logits */
    if (c.watch && c.d->trace) cpu_trace_end(c.d, c.watch);
}

static void count_calls(dev_cpu *d, const dev_step *step) {
    if (!d->watches) return;
    for (size_t i = 0; i < d->n_ops; i++)
        d->watches[0].ops[i].calls += !d->ops[i].picked || step->n_picked;
}

rotor_status cpu_run(dev *base, const dev_step *step, rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    (void)err;
    assert(step->n_rows <= d->shape.max_rows && step->n_picked <= d->shape.max_picked);
    cpu_ctx ctx = {.d = d, .step = step, .checked = d->check != NULL};
    /* A small step is faster alone than with the barriers between its ops: about 0.1 us each on a
     * quiet machine, many times that on a busy one. */
    if (d->op_bytes * step->n_rows < d->shape.solo_bytes)
        walk(&ctx, 0, 1);
    else
        par_run(d->pool, walk, &ctx);
    count_calls(d, step);
    d->base.counters.steps++;
    d->base.counters.dispatches += d->n_ops;
    return ROTOR_OK;
}

/* One op outside the list, on the picked rows. */
typedef struct lone {
    dev_cpu *d;    /* the device */
    dev_op op;     /* the product */
    dev_step step; /* only the number of rows counts */
} lone;

static void do_lone(void *arg, int thread, int n_threads) {
    const lone *l = arg;
    const cpu_ctx c = {.d = l->d, .step = &l->step, .thread = thread, .n_threads = n_threads};
    const kern_act x = act_of(&l->d->bufs[l->op.src], l->step.n_rows);
    size_t begin, end;
    par_slice(all_rows(l->d, &l->op, false), 16, thread, n_threads, &begin, &end);
    if (begin < end) product_rows(&c, &l->op, &x, false, begin, end);
}

void cpu_product(dev *base, dev_mat w, dev_buf src, dev_buf dst, uint32_t n_rows) {
    dev_cpu *d = (dev_cpu *)base;
    lone l = {
        .d = d,
        .op = {.kind = DEV_MATMUL, .picked = true, .n_mats = 1, .dst = {dst}, .src = src, .w = {w}},
        .step = {.n_rows = n_rows, .n_picked = n_rows}};
    const kern_mat *m = &d->mats[w];
    assert(n_rows <= d->bufs[dst].rows && m->cols == d->bufs[src].width);
    if ((uint64_t)m->rows * m->row_bytes * n_rows < d->shape.solo_bytes)
        do_lone(&l, 0, 1);
    else
        par_run(d->pool, do_lone, &l);
    base->counters.dispatches++;
}
