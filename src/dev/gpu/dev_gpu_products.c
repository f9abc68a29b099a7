/* SPDX-License-Identifier: MIT
 *
 * Products become dispatches: one for all matrices of an op where they were packed together, with
 * the biases behind it, and with the sum its result goes into.
 */
#include "dev/gpu/gpu_lower.h"

const char *gpu_product_name(gpu_type type, bool few, bool experts) {
    static const char *const names[2][3][2] = {
        {{"mm_t2", "mv_t2"}, {"mm_float", "mv_float"}, {"mm_block", "mv_block"}},
        {{NULL, NULL}, {"xm_float", "xv_float"}, {"xm_block", "xv_block"}}};
    const bool plain = type == GPU_F32 || type == GPU_F16 || type == GPU_BF16;
    return names[experts][type == GPU_T2 ? 0 : plain ? 1 : 2][few];
}

/* y = w x of src, or y += with add. */
static void emit_product(lower *l, const dev_op *op, const gpu_weights *w, dev_buf y, bool add,
                         bool beside) {
    const dev_gpu *d = l->d;
    const gpu_buf *src = &d->bufs[op->src], *dst = &d->bufs[y];
    const bool int8 = gpu_takes_int8(d, d->mats[w->w[0]].type);
    const uint32_t rows = gpu_rows_of(l, gpu_rows_kind(op));
    const bool few = rows <= GPU_FEW_ROWS;
    const bool matrix = !few && int8 && w->type == GPU_T2 && d->g->facts.matrix;
    const uint32_t lx = few && d->g->facts.subgroup == 1 ? 1 : 256;
    const uint32_t scaled = w->bias ? GPU_BIASED : w->rs ? GPU_SCALED : 0;
    for (size_t i = 0; i < w->n_pieces; i++) {
        const gpu_piece *piece = &w->pieces[i];
        const gpu_product_params p = {.count_at = gpu_count_of(gpu_rows_kind(op)),
                                      .rows = piece->rows,
                                      .row0 = piece->row0,
                                      .cols = w->cols,
                                      .n_u = w->n_u,
                                      .x_at = int8 ? 0 : src->at,
                                      .x_ld = int8 ? src->q_ld : src->ld,
                                      .xs_ld = src->xs_ld,
                                      .y_at = dst->at,
                                      .y_ld = dst->ld};
        const work k = {
            .name = matrix ? "mm_t2_matrix" : gpu_product_name(w->type, few, false),
            .spec = {lx, few ? rows : 1, add, !int8, w->type, scaled, d->g->facts.matrix},
            .n_spec = matrix ? 7 : 6,
            .x = gpu_ceil_div(piece->rows, few ? GPU_ROWS : GPU_MM_ROWS),
            .y = few ? 1 : gpu_ceil_div(rows, GPU_MM_TOKENS),
            .n_binds = 6,
            .bind = {d->step, piece->mem, int8 ? src->q : src->x, src->xs,
                     w->bias ? w->bias : w->rs, dst->x},
            .beside = i || beside};
        gpu_emit(l, &k, &p, sizeof p);
    }
}

/* Whether the op behind op i and its biases does nothing but add the product to a row nobody else
 * needs it for. */
static bool add_follows(const dev_gpu *d, size_t i) {
    const size_t at = i + 1 + d->biases_of[i];
    const dev_op *op = &d->ops[i], *next = &d->ops[at];
    return at < d->n_ops && op->n_mats == 1 && next->kind == DEV_ADD &&
           next->picked == op->picked && next->src == op->dst[0] && next->dst[0] != op->dst[0] &&
           next->dst[0] != op->src && !gpu_float_live(d, at + 1, op->dst[0]);
}

size_t gpu_lower_product(lower *l, size_t i) {
    const dev_gpu *d = l->d;
    const dev_op *op = &d->ops[i];
    const gpu_weights *w = &d->weights[d->weights_of[i]];
    const bool add = add_follows(d, i);
    const size_t behind = i + 1 + d->biases_of[i];
    if (w->n == op->n_mats)
        emit_product(l, op, w, add ? d->ops[behind].dst[0] : op->dst[0], add, false);
    else
        for (uint8_t m = 0; m < op->n_mats; m++)
            emit_product(l, op, &w[m], op->dst[m], false, m > 0);
    return behind + add;
}
