/* SPDX-License-Identifier: MIT
 *
 * The experts of a HF folder, rearranged once at open as a GGUF file has them: one matrix
 * [rows, cols] per expert, gate and up apart, one expert below the other. Most families have a
 * tensor for each; gpt-oss:
 *
 *   gate and up    row 2r of gate_up_proj is gate row r, row 2r + 1 is up row r; the bias likewise
 *   MXFP4          *_blocks u8 [E, rows, cols/32, 16], *_scales u8 [E, rows, cols/32]: byte j of a
 *                  block holds elements 2j (low half) and 2j + 1; GGUF: scale first, byte j holds
 *                  elements j and j + 16
 *   floats         [E, cols, rows]: columns become rows
 *
 * Everything is copied into memory of the model: for gpt-oss-20b as much as the file itself.
 * Threads share the experts.
 */
#include "model/model_internal.h"

#include <stdio.h>

enum { MX_BLOCK = 17, MX_CODES = 16 }; /* bytes of a GGUF block, of its codes */

typedef struct expert_job {
    const file_tensor *codes;  /* *_blocks, or the floats */
    const file_tensor *scales; /* NULL: floats */
    uint8_t *dst;              /* [E, rows] rows of row_bytes */
    size_t n, rows, cols;      /* experts, rows of one, columns */
    size_t row_bytes;          /* of the result */
    size_t step, first;        /* row r comes from row r * step + first of the source */
} expert_job;

/* One block: halves of bytes change places, nothing else. */
static void mx_block(uint8_t *dst, uint8_t scale, const uint8_t *src) {
    dst[0] = scale;
    for (int j = 0; j < MX_CODES; j++) {
        const int lo = src[j / 2] >> 4 * (j % 2) & 15, hi = src[8 + j / 2] >> 4 * (j % 2) & 15;
        dst[1 + j] = (uint8_t)(lo | hi << 4);
    }
}

static void mx_expert(const expert_job *job, size_t e) {
    const size_t blocks = job->cols / 32, src_rows = job->rows * job->step;
    for (size_t r = 0; r < job->rows; r++) {
        const size_t at = (e * src_rows + r * job->step + job->first) * blocks;
        uint8_t *row = job->dst + (e * job->rows + r) * job->row_bytes;
        for (size_t b = 0; b < blocks; b++)
            mx_block(row + b * MX_BLOCK, job->scales->data[at + b],
                     job->codes->data + (at + b) * MX_CODES);
    }
}

static void float_expert(const expert_job *job, size_t e) {
    const size_t size = job->row_bytes / job->cols, src_rows = job->rows * job->step;
    const uint8_t *src = job->codes->data + e * job->cols * src_rows * size;
    uint8_t *dst = job->dst + e * job->rows * job->row_bytes;
    for (size_t c = 0; c < job->cols; c++)
        for (size_t r = 0; r < job->rows; r++)
            memcpy(dst + r * job->row_bytes + c * size,
                   src + (c * src_rows + r * job->step + job->first) * size, size);
}

static void run_job(void *arg, int thread, int n_threads) {
    const expert_job *job = arg;
    for (size_t e = (size_t)thread; e < job->n; e += (size_t)n_threads)
        if (job->scales)
            mx_expert(job, e);
        else
            float_expert(job, e);
}

/* ==== Lookup ================================================================================== */

static const file_tensor *lookup(const model_loader *ld, uint32_t layer, const char *tail,
                                 char name[160]) {
    snprintf(name, 160, "model.layers.%u.mlp.experts.%s", layer, tail);
    return model_find(ld, name);
}

static rotor_status want(const model_loader *ld, uint32_t layer, const char *tail,
                         const uint64_t dims[4], const file_tensor **out) {
    char name[160];
    const file_tensor *t = lookup(ld, layer, tail, name);
    if (!t)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: tensor %s is missing", file_path(ld->f),
                         name);
    for (int i = 0; i < 4; i++)
        if (t->dims[i] != dims[i])
            return base_fail(ld->err, ROTOR_E_FORMAT,
                             "%s: tensor %s has %llu in dimension %d from the end, expected %llu",
                             file_path(ld->f), name, (unsigned long long)t->dims[i], i + 1,
                             (unsigned long long)dims[i]);
    *out = t;
    return ROTOR_OK;
}

static rotor_status bad_type(const model_loader *ld, const file_tensor *t, const char *expected) {
    return base_fail(ld->err, ROTOR_E_UNSUPPORTED, "%s: tensor %.*s has type %s, expected %s",
                     file_path(ld->f), (int)t->name.n, t->name.p, t->info->name, expected);
}

/* ==== Matrices ================================================================================ */

static rotor_status find_mx(const model_loader *ld, uint32_t layer, const char *proj,
                            expert_job *job) {
    const uint64_t blocks = job->cols / 32, rows = job->rows * job->step;
    char tail[64];
    snprintf(tail, sizeof tail, "%s_blocks", proj);
    ROTOR_TRY(want(ld, layer, tail, (uint64_t[4]){MX_CODES, blocks, rows, job->n}, &job->codes));
    snprintf(tail, sizeof tail, "%s_scales", proj);
    ROTOR_TRY(want(ld, layer, tail, (uint64_t[4]){blocks, rows, job->n, 1}, &job->scales));
    if (job->codes->info->id != QUANT_U8) return bad_type(ld, job->codes, "U8");
    if (job->scales->info->id != QUANT_U8) return bad_type(ld, job->scales, "U8");
    if (job->cols % 32)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: experts of %zu columns, no multiple of 32",
                         file_path(ld->f), job->cols);
    job->row_bytes = blocks * MX_BLOCK;
    return ROTOR_OK;
}

static rotor_status find_floats(const model_loader *ld, uint32_t layer, const char *proj,
                                expert_job *job) {
    ROTOR_TRY(want(ld, layer, proj, (uint64_t[4]){job->rows * job->step, job->cols, job->n, 1},
                   &job->codes));
    const uint32_t type = job->codes->info->id;
    if (!model_is_float(type)) return bad_type(ld, job->codes, "F32, F16 or BF16");
    job->row_bytes = job->cols * (type == QUANT_F32 ? 4 : 2);
    return ROTOR_OK;
}

/* Every step-th row of a projection, from `first` on. */
static rotor_status take_experts(model_loader *ld, uint32_t layer, const char *proj,
                                 expert_job *job, model_mat *out) {
    const model_parallel *p = &ld->opt->parallel;
    char tail[64], name[160];
    snprintf(tail, sizeof tail, "%s_blocks", proj);
    ROTOR_TRY(lookup(ld, layer, tail, name) ? find_mx(ld, layer, proj, job)
                                            : find_floats(ld, layer, proj, job));
    job->dst = model_take(ld->m, job->n * job->rows * job->row_bytes);
    if (!job->dst) return base_fail_nomem(ld->err, "rearranging experts");
    *out = (model_mat){.name = proj, /* in messages; the parts have no names of their own */
                       .type = job->scales ? QUANT_MXFP4 : job->codes->info->id,
                       .rows = job->n * job->rows,
                       .cols = job->cols,
                       .row_bytes = job->row_bytes,
                       .data = job->dst,
                       .scale = 1.0f};
    if (p->pool)
        p->run(p->pool, run_job, job);
    else
        run_job(job, 0, 1);
    return ROTOR_OK;
}

/* ==== Biases ================================================================================== */

/* b[n, rows * step]: every step-th of each row, from `first` on. */
static rotor_status take_bias(model_loader *ld, const file_tensor *t, const expert_job *job,
                              const float **out) {
    const size_t all = job->rows * job->step;
    const float *from;
    ROTOR_TRY(model_vectors(ld, t, job->n, all, &from));
    float *to = model_take(ld->m, job->n * job->rows * sizeof *to);
    if (!to) return base_fail_nomem(ld->err, "loading biases");
    for (size_t i = 0; i < job->n * job->rows; i++) to[i] = from[i * job->step + job->first];
    *out = to;
    return ROTOR_OK;
}

static rotor_status oss_experts(model_loader *ld, uint32_t layer, model_layer *w) {
    const model_hparams *hp = &ld->m->hp;
    const size_t n = hp->n_expert, d = hp->n_embd, ff = hp->n_ff;
    const file_tensor *gate_up, *down;
    expert_job gate = {.n = n, .rows = ff, .cols = d, .step = 2}, up = gate;
    expert_job out = {.n = n, .rows = d, .cols = ff, .step = 1};
    up.first = 1;
    ROTOR_TRY(take_experts(ld, layer, "gate_up_proj", &gate, &w->gate));
    ROTOR_TRY(take_experts(ld, layer, "gate_up_proj", &up, &w->up));
    ROTOR_TRY(take_experts(ld, layer, "down_proj", &out, &w->down));
    ROTOR_TRY(want(ld, layer, "gate_up_proj_bias", (uint64_t[4]){2 * ff, n, 1, 1}, &gate_up));
    ROTOR_TRY(want(ld, layer, "down_proj_bias", (uint64_t[4]){d, n, 1, 1}, &down));
    ROTOR_TRY(take_bias(ld, gate_up, &gate, &w->gate_bias));
    ROTOR_TRY(take_bias(ld, gate_up, &up, &w->up_bias));
    return take_bias(ld, down, &out, &w->down_bias);
}

/* ==== Experts in tensors of their own ========================================================= */

/* experts.0.PROJ.weight, experts.1.PROJ.weight … one below the other. */
static rotor_status stack(model_loader *ld, uint32_t layer, const char *proj, size_t rows,
                          size_t cols, model_mat *out) {
    const size_t n = ld->m->hp.n_expert;
    uint8_t *dst = NULL;
    size_t bytes = 0;
    for (uint32_t e = 0; e < n; e++) {
        const file_tensor *t;
        char tail[64];
        snprintf(tail, sizeof tail, "%u.%s.weight", e, proj);
        ROTOR_TRY(want(ld, layer, tail, (uint64_t[4]){cols, rows, 1, 1}, &t));
        if (!model_is_float(t->info->id)) return bad_type(ld, t, "F32, F16 or BF16");
        if (e == 0) {
            bytes = t->bytes;
            *out = (model_mat){.name = proj, .type = t->info->id, .scale = 1.0f};
            if (!(dst = model_take(ld->m, n * bytes)))
                return base_fail_nomem(ld->err, "loading experts");
        }
        if (t->info->id != out->type) return bad_type(ld, t, "the first expert's");
        memcpy(dst + e * bytes, t->data, bytes);
    }
    out->rows = n * rows;
    out->cols = cols;
    out->row_bytes = bytes / rows;
    out->data = dst;
    return ROTOR_OK;
}

rotor_status model_hf_experts(model_loader *ld, uint32_t layer, model_layer *w) {
    const size_t d = ld->m->hp.n_embd, ff = ld->m->hp.n_ff;
    if (ld->arch->oss) return oss_experts(ld, layer, w);
    ROTOR_TRY(stack(ld, layer, "gate_proj", ff, d, &w->gate));
    ROTOR_TRY(stack(ld, layer, "up_proj", ff, d, &w->up));
    return stack(ld, layer, "down_proj", d, ff, &w->down);
}
