/* SPDX-License-Identifier: MIT
 *
 * A network that stands still, as the float pass uses it. Part of pass_f32.c.
 *
 * Forward: the engine's own kernels over the model's own codes and scales, and, for the low-rank
 * products beside them, the engine's kernels again: one order of sums, one set of bits. Backward:
 * one projection at a time becomes floats in p->weights.
 */

/* Floats of the largest projection. */
static size_t largest_projection(const train_shape *s) {
    size_t most = 0;
    for (int r = 0; r < TRAIN_N_ROLES; r++) {
        const train_tensor t = train_tensor_of(s, (train_role)r, 0);
        if (train_is_ternary(t.role)) most = BASE_MAX(most, (size_t)t.rows * t.cols);
    }
    return most;
}

static const model_mat *frozen_mat(const train_pass *p, const train_tensor *t) {
    return model_proj_mat(&p->base->m->layers[t->layer], train_proj_of(t->role));
}

/* ==== Floats for the backward pass ============================================================ */

typedef struct frozen_job {
    const model_mat *w;  /* T2 or T5 */
    const train_pass *p; /* the pass */
} frozen_job;

static void codes_of_row(const model_mat *w, size_t r, int8_t *values) {
    const quant_tensor view = {.type = w->type, .rows = w->rows, .cols = w->cols, .data = w->data};
    uint64_t bad;
    float scale;
    bool uniform;
    if (w->type == QUANT_T5) /* codes were checked when the model was opened */
        quant_ternary_row(&view, r, values, &scale, &uniform, NULL);
    else
        quant_t2_unpack_row(w->data + r * w->row_bytes, w->cols, values, &bad);
}

static void share_decoding(void *arg, int thread, int n_threads) {
    const frozen_job *j = arg;
    const model_mat *w = j->w;
    int8_t *values = (int8_t *)(j->p->scratch + (size_t)thread * j->p->scratch_n);
    size_t begin, end;
    par_slice(w->rows, 1, thread, n_threads, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        const float scale = w->row_scale ? w->row_scale[r] : w->scale;
        real *dst = j->p->weights + r * w->cols;
        codes_of_row(w, r, values);
        for (size_t c = 0; c < w->cols; c++) dst[c] = scale * (real)values[c];
    }
}

static const real *weights_of(train_pass *p, const train_tensor *t) {
    if (!p->s.lora_rank) return (p->s.full_float ? p->params : p->weights) + t->at;
    frozen_job j = {frozen_mat(p, t), p};
    par_run(p->pool, share_decoding, &j);
    return p->weights;
}

/* ==== Low-rank products, in the engine's order ================================================ */

static kern_mat float_mat(const float *w, size_t rows, size_t cols) {
    return (kern_mat){.data = (const uint8_t *)w,
                      .type = QUANT_F32,
                      .rows = rows,
                      .cols = cols,
                      .row_bytes = cols * sizeof *w,
                      .scale = 1};
}

static void engine_lora_rows(const lora_job *j, size_t begin, size_t end, real *scratch) {
    const train_pass *p = j->p;
    const size_t rank = j->a.rows, cols = j->a.cols, rows = j->b.rows;
    const kern_mat a = float_mat(p->params + j->a.at, rank, cols);
    const kern_mat b = float_mat(p->params + j->b.at, rows, rank);
    float *sum = scratch + LORA_TOK * ((rank + 15) / 16 * 16);
    for (size_t t = begin; t < end; t += LORA_TOK) {
        const size_t n = BASE_MIN(end - t, (size_t)LORA_TOK);
        const kern_act x = {.x = p->raw + t * cols, .ldx = cols, .n_tok = n};
        const kern_act low = {.x = scratch, .ldx = rank, .n_tok = n};
        p->k->mm_f32(scratch, rank, &a, &x, 0, rank);
        p->k->mm_f32(sum, rows, &b, &low, 0, rows);
        for (size_t i = 0; i < n * rows; i++) sum[i] *= j->scale;
        p->k->add(j->y + t * rows, sum, n * rows);
    }
}
