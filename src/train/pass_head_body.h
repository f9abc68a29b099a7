/* SPDX-License-Identifier: MIT
 *
 * The two ends of a pass: embedding, head and loss, forward and backward. Part of pass_body.h.
 */

/* ==== Embedding, head and loss ================================================================ */

static void embed_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    memcpy(j->y + row * j->width, j->x + j->p->b->token[row] * j->width, j->width * sizeof *j->y);
}

/* dE[token] += dx, columns [begin, end): tokens in order, so that threads do not change sums. */
static void embed_back_job(const rows_job *j, size_t begin, size_t end) {
    for (size_t t = 0; t < n_of(j->p); t++) {
        real *y = j->y + j->p->b->token[t] * j->width;
        for (size_t i = begin; i < end; i++) y[i] += j->x[t * j->width + i];
    }
}

static void loss_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    const uint32_t target = j->p->b->target[row];
    real *x = j->y + row * j->width;
    const real at_target = target == TRAIN_NO_TARGET ? 0 : x[target];
    const real all = softmax_row(j->p->k, x, j->width);
    j->p->loss_of[row] = target == TRAIN_NO_TARGET ? 0 : (double)all - (double)at_target;
}

/* Gradient of the mean loss: (p - 1 at the target) * share. */
static void loss_back_job(const rows_job *j, size_t row, real *scratch) {
    (void)scratch;
    const uint32_t target = j->p->b->target[row];
    const real share = target == TRAIN_NO_TARGET ? 0 : (real)j->p->share;
    real *x = j->y + row * j->width;
    for (size_t i = 0; i < j->width; i++) x[i] *= share;
    if (target != TRAIN_NO_TARGET) x[target] -= share;
}

static void head(train_pass *p) {
    const train_shape *s = &p->s;
    const real *x = p->layers[s->n_layer].x, *gain = param(p, TRAIN_OUT_NORM, 0);
    for (size_t t = 0; t < n_of(p); t++)
        NORM_ROW(p, p->xf + t * s->n_embd, x + t * s->n_embd, gain, s->n_embd);
    multiply(p, (product){.a = p->xf,
                          .a_row = s->n_embd,
                          .a_col = 1,
                          .b = param(p, TRAIN_EMBD, 0),
                          .b_row = 1,
                          .b_col = s->n_embd,
                          .c = p->probs,
                          .ldc = s->n_vocab,
                          .m = n_of(p),
                          .n = s->n_vocab,
                          .k = s->n_embd});
}

static void head_back(train_pass *p) {
    const train_shape *s = &p->s;
    each_row(
        (rows_job){.p = p, .fn = loss_back_job, .n = n_of(p), .y = p->probs, .width = s->n_vocab});
    if (!s->lora_rank)
        multiply(p, (product){.a = p->probs,
                              .a_row = 1,
                              .a_col = s->n_vocab,
                              .b = p->xf,
                              .b_row = s->n_embd,
                              .b_col = 1,
                              .c = p->grads,
                              .ldc = s->n_embd,
                              .m = s->n_vocab,
                              .n = s->n_embd,
                              .k = n_of(p),
                              .add = true});
    multiply(p, (product){.a = p->probs,
                          .a_row = s->n_vocab,
                          .a_col = 1,
                          .b = param(p, TRAIN_EMBD, 0),
                          .b_row = s->n_embd,
                          .b_col = 1,
                          .c = p->wide2,
                          .ldc = s->n_embd,
                          .m = n_of(p),
                          .n = s->n_embd,
                          .k = s->n_vocab});
    zero(p, p->dx, s->n_embd);
    norm_back(p, p->dx, p->wide2, p->layers[s->n_layer].x, TRAIN_OUT_NORM, 0);
}
