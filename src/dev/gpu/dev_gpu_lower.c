/* SPDX-License-Identifier: MIT
 *
 * The op list becomes dispatches for one size of step. Launching a kernel and waiting for the one
 * before it costs more than most ops, so ops that follow one another on the same row become one:
 *
 *   pick, sum, bias, gate, norm, quantise    -> row      in this order, any of them
 *   product, biases, sum into a row          -> product with ADD (dev_gpu_products.c)
 *   rotate q, rotate k, store k and v        -> rope
 *   attention of few tokens                  -> attn, attn_fold; of many: attn_tile
 *
 * Mixtures of experts are in dev_gpu_experts.c. A BitNet layer is eleven dispatches: row qkv rope
 * attn fold row o row gate-up row down. A result that only ops inside a dispatch read is not
 * written (float_live).
 */
#include "dev/gpu/gpu_lower.h"

#include <assert.h>

/* ==== Words =================================================================================== */

gpu_layout gpu_layout_of(const dev_gpu *d, uint32_t rows) {
    gpu_layout at = {.token = GPU_STEP_HEADER};
    at.pos = at.token + rows;
    at.picked = at.pos + rows;
    at.table = at.picked + rows;
    at.ring = at.table + rows;
    at.angle = at.ring + (d->shape.n_ring_pages ? rows : 0);
    at.draw = at.angle + rows * d->shape.n_rot;
    at.pages = at.draw + rows * GPU_DRAW_WORDS;
    return at;
}

uint32_t gpu_step_words(const dev_gpu *d, uint32_t rows) {
    return gpu_layout_of(d, rows).pages + rows * (d->shape.n_pages + d->shape.n_ring_pages);
}

uint32_t gpu_rows_of(const lower *l, dev_rows kind) {
    return kind == DEV_PICKED  ? l->picked
           : kind == DEV_SLOTS ? l->rows * l->d->shape.n_used
                               : l->rows;
}

uint32_t gpu_count_of(dev_rows kind) {
    return kind == DEV_PICKED  ? GPU_STEP_PICKED
           : kind == DEV_SLOTS ? GPU_STEP_SLOTS
                               : GPU_STEP_ROWS;
}

rotor_status gpu_get_kernel(dev_gpu *d, const char *name, const uint32_t *spec, uint32_t n_spec,
                            uint32_t n_binds, uint32_t n_params, gpu_kernel **out,
                            rotor_error *err) {
    gpu_built b = {0};
    for (size_t i = 0; i < gpu_n_sources; i++)
        if (strcmp(gpu_sources[i].name, name) == 0) b.source = &gpu_sources[i];
    assert(b.source && n_spec <= GPU_MAX_SPECS);
    memcpy(b.spec, spec, n_spec * sizeof *spec);
    for (size_t i = 0; i < d->n_built; i++)
        if (d->built[i].source == b.source && memcmp(d->built[i].spec, b.spec, sizeof b.spec) == 0)
            return *out = d->built[i].kernel, ROTOR_OK;
    gpu_built *list = base_realloc(d->built, (d->n_built + 1) * sizeof *list);
    if (!list) return base_fail_nomem(err, "listing kernels");
    d->built = list;
    ROTOR_TRY(d->api->kernel(d->g, b.source, spec, n_spec, n_binds, n_params, &b.kernel, err));
    list[d->n_built++] = b;
    *out = b.kernel;
    return ROTOR_OK;
}

void gpu_emit(lower *l, const work *w, const void *params, size_t params_bytes) {
    if (l->st != ROTOR_OK) return;
    if (l->n == l->room) {
        gpu_dispatch *list = base_realloc(l->out, 2 * (l->room + 32) * sizeof *list);
        if (!list) {
            l->st = base_fail_nomem(l->err, "listing dispatches");
            return;
        }
        l->out = list;
        l->room = 2 * (l->room + 32);
    }
    gpu_dispatch *g = &l->out[l->n];
    *g = (gpu_dispatch){.groups = {w->x, w->y, BASE_MAX(w->z, 1u)},
                        .n_binds = w->n_binds,
                        .n_params = (uint32_t)(params_bytes / 4),
                        .beside = w->beside};
    assert(params_bytes % 4 == 0 && g->n_params <= GPU_MAX_PARAMS);
    memcpy(g->param, params, params_bytes);
    for (uint32_t i = 0; i < w->n_binds; i++) g->bind[i] = w->bind[i] ? w->bind[i] : l->d->step;
    l->st = gpu_get_kernel(l->d, w->name, w->spec, w->n_spec, w->n_binds, g->n_params, &g->kernel,
                           l->err);
    l->n++;
}

/* ==== Who reads what ========================================================================== */

bool gpu_takes_int8(const dev_gpu *d, uint32_t type) {
    if (type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16) return false;
    return !d->shape.float_act;
}

static bool reads_float(const dev_gpu *d, const dev_op *op, dev_buf b) {
    const bool product = op->kind == DEV_MATMUL || op->kind == DEV_EXPERTS;
    if (product && gpu_takes_int8(d, d->mats[op->w[0]].type)) return false;
    if (op->kind == DEV_GATHER && op->int8) return false;
    return dev_op_reads(op, b);
}

bool gpu_float_live(const dev_gpu *d, size_t from, dev_buf b) {
    for (size_t i = from; i < d->n_ops; i++) {
        if (reads_float(d, &d->ops[i], b)) return true;
        if (dev_op_writes(&d->ops[i], b)) return false;
    }
    return d->bufs[b].kind == DEV_PICKED;
}

/* ==== Row work ================================================================================ */

/* Ops on one row, as the kernel `row` does them: those of a chain follow one another. */
typedef struct chain {
    uint32_t flags;        /* ROW_... */
    dev_buf a, b, dst;     /* first operand, second, where the value belongs now */
    dev_vec vec;           /* gain or bias */
    float eps;             /* of the norm */
    uint32_t heads, width; /* heads normed apart: 1 and the whole row otherwise */
} chain;

static uint32_t glu_flag(kern_glu glu) {
    return glu == KERN_RELU2 ? ROW_RELU2 : glu == KERN_SILU ? ROW_SILU : ROW_OAI;
}

/* What a row op alone would be. */
static chain chain_of(const dev_gpu *d, const dev_op *op) {
    chain c = {.a = op->src, .b = DEV_NONE, .dst = op->dst[0], .vec = DEV_NONE, .heads = 1};
    switch (op->kind) {
    case DEV_PICK:
        c.flags = ROW_PICK;
        break;
    case DEV_ADD:
        c.flags = ROW_ADD, c.a = op->dst[0], c.b = op->src;
        break;
    case DEV_BIAS:
        c.flags = ROW_BIAS, c.a = op->dst[0], c.vec = op->vec;
        break;
    case DEV_GLU:
        c.flags = glu_flag(op->glu), c.b = op->src2;
        break;
    case DEV_RMSNORM:
        c.flags = ROW_NORM, c.vec = op->vec, c.eps = op->eps;
        c.heads = BASE_MAX(op->n_heads, 1u);
        break;
    case DEV_QUANT_I8:
        c.flags = ROW_I8, c.dst = op->src;
        break;
    case DEV_QUANT_Q8:
        c.flags = ROW_Q8, c.dst = op->src;
        break;
    default:
        assert(!"row work");
    }
    c.width = (uint32_t)(d->bufs[c.a].width / c.heads);
    return c;
}

static bool is_row_op(const dev_op *op) {
    return op->kind == DEV_PICK || op->kind == DEV_ADD || op->kind == DEV_BIAS ||
           op->kind == DEV_GLU || op->kind == DEV_RMSNORM || dev_is_quant(op->kind);
}

/* Appends op i to the chain before it, when the kernel can do both at once. */
static bool chain_append(const dev_gpu *d, chain *c, size_t i) {
    const dev_op *op = &d->ops[i];
    if (!is_row_op(op) || gpu_rows_kind(op) != gpu_rows_kind(&d->ops[i - 1])) return false;
    const chain next = chain_of(d, op);
    if (next.a != c->dst || next.flags < c->flags || next.flags == ROW_PICK) return false;
    if (c->heads != 1 || next.heads != 1 || c->flags & (ROW_I8 | ROW_Q8)) return false;
    if ((c->b != DEV_NONE && next.b != DEV_NONE) || (c->vec != DEV_NONE && next.vec != DEV_NONE))
        return false;
    if (next.dst != c->dst && gpu_float_live(d, i + 1, c->dst)) return false;
    c->flags |= next.flags;
    if (next.b != DEV_NONE) c->b = next.b;
    if (next.vec != DEV_NONE) c->vec = next.vec;
    if (next.flags == ROW_NORM) c->eps = next.eps;
    c->dst = next.dst;
    return true;
}

static void emit_row(lower *l, const chain *c, dev_rows kind, bool beside) {
    const dev_gpu *d = l->d;
    const gpu_buf *a = &d->bufs[c->a], *dst = &d->bufs[c->dst];
    const gpu_buf *b = c->b == DEV_NONE ? a : &d->bufs[c->b];
    const gpu_row_params p = {.count_at = gpu_count_of(kind),
                              .picked_at = l->at.picked,
                              .width = c->width,
                              .a_at = a->at,
                              .a_ld = a->ld,
                              .b_at = b->at,
                              .b_ld = b->ld,
                              .dst_at = dst->at,
                              .dst_ld = dst->ld,
                              .q_ld = dst->q_ld,
                              .xs_ld = dst->xs_ld,
                              .eps = c->eps};
    gpu_mem *vec = c->vec == DEV_NONE ? NULL : d->vecs[c->vec].mem;
    const work w = {.name = "row",
                    .spec = {256, c->flags},
                    .n_spec = 2,
                    .x = c->heads,
                    .y = gpu_rows_of(l, kind),
                    .n_binds = 7,
                    .bind = {d->step, a->x, b->x, vec, dst->x, dst->q, dst->xs},
                    .beside = beside};
    gpu_emit(l, &w, &p, sizeof p);
}

/* Whether row op i touches nothing that op i - 1, a row op too, has written. */
static bool independent(const dev_gpu *d, size_t i) {
    if (i == 0 || !is_row_op(&d->ops[i - 1]) || d->ops[i].kind != d->ops[i - 1].kind) return false;
    const dev_op *op = &d->ops[i], *before = &d->ops[i - 1];
    return !dev_is_quant(op->kind) && !dev_op_reads(op, before->dst[0]) &&
           op->dst[0] != before->dst[0] && !dev_op_reads(before, op->dst[0]);
}

/* A result that is rounded only after others have read it as floats (the router comes before the
 * experts) is rounded here: nothing changes it in between. */
static void do_early(lower *l, chain *c, size_t end, dev_rows kind) {
    const dev_gpu *d = l->d;
    if (c->heads != 1 || c->flags & (ROW_I8 | ROW_Q8)) return;
    for (size_t j = end; j < d->n_ops && !dev_op_writes(&d->ops[j], c->dst); j++) {
        const dev_op *op = &d->ops[j];
        if (!dev_is_quant(op->kind) || op->src != c->dst) continue;
        if (j == end || gpu_rows_kind(op) != kind) return;
        c->flags |= op->kind == DEV_QUANT_I8 ? ROW_I8 : ROW_Q8;
        l->early = j;
        return;
    }
}

static size_t lower_row(lower *l, size_t i) {
    const dev_gpu *d = l->d;
    chain c = chain_of(d, &d->ops[i]);
    size_t end = i + 1;
    while (end < d->n_ops && chain_append(d, &c, end)) end++;
    do_early(l, &c, end, gpu_rows_kind(&d->ops[i]));
    const bool only_int8 = !(c.flags & ~(uint32_t)(ROW_I8 | ROW_Q8));
    const bool sum = c.flags & (ROW_ADD | ROW_BIAS);
    const bool kept_int8 = c.flags & (ROW_I8 | ROW_Q8);
    if (!only_int8 && (sum || !kept_int8 || gpu_float_live(d, end, c.dst))) c.flags |= ROW_OUT;
    emit_row(l, &c, gpu_rows_kind(&d->ops[i]), end == i + 1 && independent(d, i));
    return end;
}

/* ==== Embedding, rotation, attention ========================================================== */

static size_t lower_embed(lower *l, size_t i) {
    const dev_gpu *d = l->d;
    const dev_op *op = &d->ops[i];
    const gpu_weights *w = &d->weights[d->weights_of[i]];
    const gpu_buf *dst = &d->bufs[op->dst[0]];
    for (size_t j = 0; j < w->n_pieces; j++) {
        const gpu_embed_params p = {.token_at = l->at.token,
                                    .row0 = w->pieces[j].row0,
                                    .rows = w->pieces[j].rows,
                                    .cols = w->cols,
                                    .n_u = w->n_u,
                                    .dst_at = dst->at,
                                    .dst_ld = dst->ld,
                                    .scale = w->scale,
                                    .w_at = w->pieces[j].at,
                                    .row_halves = (uint32_t)(d->mats[op->w[0]].row_bytes / 2)};
        const work k = {.name = "embed",
                        .spec = {256, w->type, w->imported},
                        .n_spec = 3,
                        .x = 1,
                        .y = l->rows,
                        .n_binds = 4,
                        .bind = {d->step, w->pieces[j].mem, dst->x, d->found},
                        .beside = j > 0};
        gpu_emit(l, &k, &p, sizeof p);
    }
    return i + 1;
}

/* Where the step has the page tables of a layer. */
static uint32_t table_of(const lower *l, uint32_t layer) {
    return l->d->ring[layer] ? l->at.ring : l->at.table;
}

/* Rotates q and k and stores k and v; DEV_NONE: not this one. */
static void emit_rope(lower *l, uint32_t flags, dev_buf q, dev_buf k, dev_buf v, uint32_t layer,
                      uint32_t n_q) {
    const dev_gpu *d = l->d;
    const gpu_buf none = {0}, *bq = q == DEV_NONE ? &none : &d->bufs[q];
    const gpu_buf *bk = k == DEV_NONE ? &none : &d->bufs[k];
    const gpu_buf *bv = v == DEV_NONE ? &none : &d->bufs[v];
    const bool append = flags & ROPE_APPEND;
    const gpu_rope_params p = {.pos_at = l->at.pos,
                               .table_at = append ? table_of(l, layer) : 0,
                               .angle_at = l->at.angle,
                               .n_q = n_q,
                               .n_k = k == DEV_NONE ? 0 : d->shape.n_head_kv,
                               .n_v = v == DEV_NONE ? 0 : d->shape.n_head_kv,
                               .d = d->shape.d_head,
                               .n_rot = d->shape.n_rot,
                               .q_at = bq->at,
                               .q_ld = bq->ld,
                               .k_at = bk->at,
                               .k_ld = bk->ld,
                               .v_at = bv->at,
                               .v_ld = bv->ld};
    const work w = {
        .name = "rope",
        .spec = {64, flags | (d->shape.rope_interleaved ? ROPE_INTERLEAVED : 0), d->shape.kv},
        .n_spec = 3,
        .x = p.n_q + p.n_k + p.n_v,
        .y = l->rows,
        .n_binds = 6,
        .bind = {d->step, bq->x, bk->x, bv->x, append ? d->keys[layer] : NULL,
                 append ? d->values[layer] : NULL}};
    gpu_emit(l, &w, &p, sizeof p);
}

static size_t lower_rope(lower *l, size_t i) {
    const dev_op *op = &l->d->ops[i], *k = op + 1, *append = op + 2;
    if (op->kind == DEV_KV_APPEND) {
        emit_rope(l, ROPE_APPEND, DEV_NONE, op->src, op->src2, op->layer, 0);
        return i + 1;
    }
    if (i + 2 < l->d->n_ops && k->kind == DEV_ROPE && append->kind == DEV_KV_APPEND &&
        append->src == k->dst[0] && k->dst[0] != op->dst[0]) {
        emit_rope(l, ROPE_ROTATE | ROPE_APPEND, op->dst[0], k->dst[0], append->src2, append->layer,
                  op->n_heads);
        return i + 3;
    }
    emit_rope(l, ROPE_ROTATE, op->dst[0], DEV_NONE, DEV_NONE, 0, op->n_heads);
    return i + 1;
}

static gpu_mem *sinks_of(const dev_gpu *d, const dev_op *op) {
    return op->sinks ? d->vecs[op->vec].mem : NULL;
}

static void emit_attention_few(lower *l, const dev_op *op, const gpu_buf *q, const gpu_buf *dst) {
    const dev_gpu *d = l->d;
    const dev_shape *s = &d->shape;
    const gpu_attn_params p = {.pos_at = l->at.pos,
                               .table_at = table_of(l, op->layer),
                               .n_kv = s->n_head_kv,
                               .window = op->window,
                               .splits = d->splits,
                               .q_at = q->at,
                               .q_ld = q->ld,
                               .scale = 1.0f / __builtin_sqrtf((float)s->d_head)};
    const work w = {.name = "attn",
                    .spec = {128, s->n_head / s->n_head_kv, s->d_head, s->kv},
                    .n_spec = 4,
                    .x = d->splits,
                    .y = s->n_head_kv,
                    .z = l->rows,
                    .n_binds = 5,
                    .bind = {d->step, q->x, d->keys[op->layer], d->values[op->layer], d->part}};
    gpu_emit(l, &w, &p, sizeof p);
    const gpu_fold_params f = {
        .n_head = s->n_head, .splits = d->splits, .dst_at = dst->at, .dst_ld = dst->ld};
    const work fold = {.name = "attn_fold",
                       .spec = {64, s->d_head, op->sinks},
                       .n_spec = 3,
                       .x = s->n_head,
                       .y = l->rows,
                       .n_binds = 4,
                       .bind = {d->step, d->part, dst->x, sinks_of(d, op)}};
    gpu_emit(l, &fold, &f, sizeof f);
}

static size_t lower_attention(lower *l, size_t i) {
    const dev_gpu *d = l->d;
    const dev_shape *s = &d->shape;
    const dev_op *op = &d->ops[i];
    const gpu_buf *q = &d->bufs[op->src], *dst = &d->bufs[op->dst[0]];
    if (l->rows <= GPU_FEW_ROWS) {
        emit_attention_few(l, op, q, dst);
        return i + 1;
    }
    const gpu_tile_params p = {.pos_at = l->at.pos,
                               .table_at = table_of(l, op->layer),
                               .n_kv = s->n_head_kv,
                               .window = op->window,
                               .q_at = q->at,
                               .q_ld = q->ld,
                               .dst_at = dst->at,
                               .dst_ld = dst->ld,
                               .scale = 1.0f / __builtin_sqrtf((float)s->d_head)};
    const work w = {
        .name = "attn_tile",
        .spec = {128, s->n_head / s->n_head_kv, s->d_head, s->kv, op->sinks},
        .n_spec = 5,
        .x = gpu_ceil_div(l->rows, GPU_TILE_TOKENS),
        .y = s->n_head,
        .n_binds = 6,
        .bind = {d->step, q->x, d->keys[op->layer], d->values[op->layer], dst->x, sinks_of(d, op)}};
    gpu_emit(l, &w, &p, sizeof p);
    return i + 1;
}

/* ==== The list ================================================================================ */

static size_t lower_op(lower *l, size_t i) {
    switch (l->d->ops[i].kind) {
    case DEV_EMBED:
        return lower_embed(l, i);
    case DEV_MATMUL:
        return gpu_lower_product(l, i);
    case DEV_ROUTE:
        return gpu_lower_route(l, i);
    case DEV_GATHER:
    case DEV_EXPERTS:
        return gpu_lower_experts(l, i);
    case DEV_MIX:
    case DEV_ADD_GATED:
        return gpu_lower_mix(l, i);
    case DEV_ROPE:
    case DEV_KV_APPEND:
        return lower_rope(l, i);
    case DEV_ATTENTION:
        return lower_attention(l, i);
    default:
        return lower_row(l, i);
    }
}

/* The best k of each picked row. */
static void emit_top(lower *l, uint32_t k) {
    const gpu_buf *x = &l->d->bufs[l->d->logits];
    const gpu_top_params p = {.count_at = GPU_STEP_PICKED,
                              .width = (uint32_t)x->width,
                              .x_at = x->at,
                              .x_ld = x->ld,
                              .k = k};
    const work w = {.name = "top",
                    .spec = {256},
                    .n_spec = 1,
                    .x = 1,
                    .y = l->picked,
                    .n_binds = 3,
                    .bind = {l->d->step, x->x, l->d->top}};
    gpu_emit(l, &w, &p, sizeof p);
}

/* One token of these. */
static void emit_draw(lower *l, uint32_t k) {
    const gpu_draw_params p = {.count_at = GPU_STEP_PICKED, .draw_at = l->at.draw, .k = k};
    const work w = {.name = "draw",
                    .spec = {256},
                    .n_spec = 1,
                    .x = 1,
                    .y = l->picked,
                    .n_binds = 3,
                    .bind = {l->d->step, l->d->top, l->d->found}};
    gpu_emit(l, &w, &p, sizeof p);
}

static void emit_best(lower *l) {
    const gpu_buf *x = &l->d->bufs[l->d->logits];
    const gpu_best_params p = {
        .count_at = GPU_STEP_PICKED, .width = (uint32_t)x->width, .x_at = x->at, .x_ld = x->ld};
    const work w = {.name = "best",
                    .spec = {256},
                    .n_spec = 1,
                    .x = 1,
                    .y = l->picked,
                    .n_binds = 3,
                    .bind = {l->d->step, x->x, l->d->found}};
    gpu_emit(l, &w, &p, sizeof p);
}

rotor_status gpu_lower(dev_gpu *d, gpu_sized *list, rotor_error *err) {
    const uint32_t rows = list->rows, picked = list->picked;
    const bool several = list->best > 1, all_back = several && !list->draw;
    lower l = {.d = d,
               .rows = rows,
               .picked = picked,
               .at = gpu_layout_of(d, rows),
               .early = SIZE_MAX,
               .err = err};
    for (size_t i = 0; i < d->n_ops;)
        i = i == l.early || (d->ops[i].picked && !picked) ? i + 1 : lower_op(&l, i);
    if (list->best == 1) emit_best(&l);
    if (several) emit_top(&l, list->best);
    if (list->draw) emit_draw(&l, list->best);
    const uint64_t pairs = (uint64_t)picked * (all_back ? list->best : 1);
    list->up_words = gpu_step_words(d, rows);
    list->n_dispatches = l.n;
    for (size_t i = 0; i < l.n; i++) list->n_dependent += !l.out[i].beside;
    if (l.st == ROTOR_OK)
        l.st = d->api->list_make(d->g, l.out, l.n, d->step, list->up_words * 4ull,
                                 !list->best ? NULL
                                 : all_back  ? d->top
                                             : d->found,
                                 pairs * GPU_FOUND_WORDS * 4, &list->list, err);
    base_free(l.out);
    return l.st;
}
