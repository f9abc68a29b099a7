/* SPDX-License-Identifier: MIT
 *
 * Mixtures of experts become dispatches. Which experts a token goes to is decided on the device and
 * stays there: `route` leaves jobs, each a few slot rows of one expert, and the products have a
 * group for as many jobs as there may be; those that are left over do nothing.
 *
 *   route                        -> route
 *   gather, experts, biases      -> xv_* or xm_*, which read tokens' rows where they are
 *   mix, sum, gated sum          -> mix_rows
 *
 * A layer of gpt-oss is fourteen dispatches: row qkv rope attn fold row o row router route gate-up
 * row down mix.
 */
#include "dev/gpu/gpu_lower.h"

#include <assert.h>

enum { FEW_EACH = 8 }; /* slot rows an expert has at most, on average, where a product takes few */

/* ==== The choice ============================================================================== */

/* Where things stand in the memory of the choice, for a bucket of rows. */
typedef struct route_layout {
    uint32_t row, token, weight, job; /* words from its beginning */
    bool few;                         /* products take few rows at a time: xv_*, not xm_* */
    uint32_t at_once;                 /* rows of a job */
    uint32_t n_jobs;                  /* there may be */
} route_layout;

static route_layout layout_of(const dev_gpu *d, uint32_t rows) {
    const uint32_t n_expert = d->shape.n_expert, slots = rows * d->shape.n_used;
    route_layout r = {.row = GPU_ROUTE_HEADER, .few = slots <= FEW_EACH * n_expert};
    r.token = r.row + slots;
    r.weight = r.token + slots;
    r.job = r.weight + slots;
    /* An expert has rarely more rows than this; where it has, it is read once more. */
    const uint32_t often = rows == 1 ? 1 : rows <= 4 ? 2 : rows <= 8 ? 4 : 8;
    r.few = r.few || rows <= GPU_FEW_ROWS;
    r.at_once = r.few ? often : GPU_MM_TOKENS;
    r.n_jobs = BASE_MIN(slots, BASE_MIN(slots, n_expert) + slots / r.at_once);
    return r;
}

rotor_status gpu_make_route(dev_gpu *d, rotor_error *err) {
    const dev_shape *s = &d->shape;
    uint32_t words = 0;
    if (!s->n_expert) return ROTOR_OK;
    if (s->n_expert > GPU_MOST_EXPERTS || s->n_used > GPU_MOST_USED ||
        s->max_rows * ((s->n_used + 3) / 4) > GPU_ROUTE_WORDS)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "device %s has no kernels for %u of %u experts in steps of %u tokens, at "
                         "most %d of %d and %u tokens; a smaller --chunk may help",
                         d->g->facts.name, s->n_used, s->n_expert, s->max_rows, GPU_MOST_USED,
                         GPU_MOST_EXPERTS, GPU_ROUTE_WORDS / ((s->n_used + 3) / 4));
    for (uint32_t rows = 1; rows <= s->max_rows; rows *= 2) {
        const route_layout r = layout_of(d, rows);
        words = BASE_MAX(words, r.job + 3 * r.n_jobs);
    }
    return d->api->alloc(d->g, words * 4ull, false, &d->route, err);
}

static rotor_status unlike(const dev_gpu *d, rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "device %s has no kernels for this order of a mixture's steps",
                     d->g->facts.name);
}

/* Rows that are gathered go nowhere but into the next product: it takes them where they are. */
rotor_status gpu_check_experts(const dev_gpu *d, const dev_op *ops, size_t n, rotor_error *err) {
    for (size_t i = 0; i < n; i++) {
        const dev_op *next = i + 1 < n ? &ops[i + 1] : NULL;
        if (ops[i].kind != DEV_GATHER) continue;
        if (!next || next->kind != DEV_EXPERTS || next->src != ops[i].dst[0] ||
            ops[i].int8 != gpu_takes_int8(d, d->mats[next->w[0]].type))
            return unlike(d, err);
        for (size_t j = i + 2; j < n; j++) {
            if (dev_op_writes(&ops[j], ops[i].dst[0])) break;
            if (dev_op_reads(&ops[j], ops[i].dst[0])) return unlike(d, err);
        }
    }
    return ROTOR_OK;
}

size_t gpu_lower_route(lower *l, size_t i) {
    const dev_gpu *d = l->d;
    const dev_op *op = &d->ops[i];
    const gpu_buf *x = &d->bufs[op->src];
    const route_layout r = layout_of(d, l->rows);
    const gpu_route_params p = {.x_at = x->at,
                                .x_ld = x->ld,
                                .row_at = r.row,
                                .token_at = r.token,
                                .weight_at = r.weight,
                                .job_at = r.job};
    const work w = {
        .name = "route",
        .spec = {256, l->rows, d->shape.n_used, d->shape.n_expert, op->of_all, r.at_once},
        .n_spec = 6,
        .x = 1,
        .y = 1,
        .n_binds = 3,
        .bind = {d->step, x->x, d->route}};
    gpu_emit(l, &w, &p, sizeof p);
    return i + 1;
}

/* ==== Products ================================================================================ */

static void emit_experts(lower *l, const dev_op *op, const gpu_weights *w, dev_buf y,
                         const dev_op *gather) {
    const dev_gpu *d = l->d;
    const gpu_buf *src = &d->bufs[gather ? gather->src : op->src], *dst = &d->bufs[y];
    const bool int8 = gpu_takes_int8(d, d->mats[w->w[0]].type);
    const route_layout r = layout_of(d, l->rows);
    const uint32_t lx = r.few && d->g->facts.subgroup == 1 ? 1 : 256;
    for (size_t i = 0; i < w->n_pieces; i++) {
        const gpu_piece *piece = &w->pieces[i];
        const gpu_expert_params p = {.p = {.rows = w->rows,
                                           .cols = w->cols,
                                           .n_u = w->n_u,
                                           .x_at = int8 ? 0 : src->at,
                                           .x_ld = int8 ? src->q_ld : src->ld,
                                           .xs_ld = src->xs_ld,
                                           .y_at = dst->at,
                                           .y_ld = dst->ld},
                                     .expert0 = piece->row0,
                                     .n_expert = piece->rows,
                                     .expert_words =
                                         gpu_ceil_div(w->rows, GPU_ROWS) * GPU_ROWS * w->n_u,
                                     .gathered = gather != NULL,
                                     .job_at = r.job,
                                     .token_at = r.token};
        const work k = {
            .name = gpu_product_name(w->type, r.few, true),
            .spec = {lx, r.few ? r.at_once : 1, 0, !int8, w->type, w->bias ? GPU_BIASED : 0},
            .n_spec = 6,
            .x = gpu_ceil_div(w->rows, r.few ? GPU_ROWS : GPU_MM_ROWS),
            .y = r.n_jobs,
            .n_binds = 7,
            .bind = {d->step, piece->mem, int8 ? src->q : src->x, src->xs, w->bias, dst->x,
                     d->route},
            .beside = i > 0 || y != op->dst[0]};
        gpu_emit(l, &k, &p, sizeof p);
    }
}

size_t gpu_lower_experts(lower *l, size_t i) {
    const dev_gpu *d = l->d;
    const dev_op *gather = d->ops[i].kind == DEV_GATHER ? &d->ops[i] : NULL;
    if (gather) i++;
    const dev_op *op = &d->ops[i];
    const gpu_weights *w = &d->weights[d->weights_of[i]];
    assert(op->kind == DEV_EXPERTS); /* gpu_check_experts */
    if (w->n == op->n_mats)
        emit_experts(l, op, w, op->dst[0], gather);
    else
        for (uint8_t m = 0; m < op->n_mats; m++) emit_experts(l, op, &w[m], op->dst[m], gather);
    return i + 1 + d->biases_of[i];
}

/* ==== Back to rows of tokens ================================================================== */

size_t gpu_lower_mix(lower *l, size_t i) {
    const dev_gpu *d = l->d;
    const dev_op *op = &d->ops[i], *next = op + 1, *gated = op;
    const gpu_buf none = {0}, *src = &none, *b = &none, *gate = &none;
    const route_layout r = layout_of(d, l->rows);
    dev_buf y = op->dst[0];
    uint32_t what = 0;
    size_t end = i;
    if (op->kind == DEV_MIX) {
        what = MIX_SLOTS;
        src = &d->bufs[op->src];
        end++;
        if (end < d->n_ops && next->kind == DEV_ADD && !next->picked && next->src == y &&
            next->dst[0] != y && !gpu_float_live(d, end + 1, y)) {
            what |= MIX_ADD;
            y = next->dst[0];
            end++;
        }
        gated = &d->ops[end];
    }
    if (end < d->n_ops && gated->kind == DEV_ADD_GATED && gated->dst[0] == y) {
        what |= MIX_GATED | (what ? 0 : MIX_ADD);
        b = &d->bufs[gated->src];
        gate = &d->bufs[gated->src2];
        end++;
    }
    const gpu_buf *dst = &d->bufs[y];
    const gpu_mix_params p = {.width = (uint32_t)dst->width,
                              .row_at = r.row,
                              .weight_at = r.weight,
                              .src_at = src->at,
                              .src_ld = src->ld,
                              .b_at = b->at,
                              .b_ld = b->ld,
                              .gate_at = gate->at,
                              .gate_ld = gate->ld,
                              .dst_at = dst->at,
                              .dst_ld = dst->ld};
    const work w = {.name = "mix_rows",
                    .spec = {256, what, d->shape.n_used},
                    .n_spec = 3,
                    .x = gpu_ceil_div(p.width, 256),
                    .y = l->rows,
                    .n_binds = 6,
                    .bind = {d->step, d->route, src->x, b->x, gate->x, dst->x}};
    gpu_emit(l, &w, &p, sizeof p);
    return end;
}
