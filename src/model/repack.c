/* SPDX-License-Identifier: MIT
 *
 * Ternary weights to T2 (quant.h), whatever the file stores: I2_S in place when it is T2 already,
 * TQ1_0, TQ2_0, IQ1_BN, IQ2_BN and the other I2_S orders repacked losslessly, four-rows-in-a-byte HF
 * weights unpacked, and float master weights quantised once by absmean.
 *
 * An illegal code is an error naming tensor, row and column; it is never read as zero. Rows are
 * shared among the threads of options.parallel; each row is independent, so the result is not.
 */
#include "model/model_internal.h"

#include <math.h>

/* ==== Sharing rows =================================================================================== */

typedef struct row_job {
    model_loader *ld;             /* loader */
    const model_ternary_src *src; /* where from */
    quant_tensor view;            /* the source tensor */
    model_mat *out;               /* rows, cols, row_bytes set */
    uint8_t *dst;                 /* T2 rows being written; NULL: only checked */
    float *scales;                /* [rows] scale of each row, or sum of |w| (master, first round) */
    float absmean;                /* master, second round */
    bool *mixed;                  /* [n_threads] some row has several scales */
    rotor_error *errs;            /* [n_threads] first failure of each */
} row_job;

enum { MAX_THREADS = 1024 };

static void run_rows(row_job *job, void (*fn)(void *, int, int)) {
    const model_parallel *p = &job->ld->opt->parallel;
    if (p->pool) p->run(p->pool, fn, job);
    else fn(job, 0, 1);
}

static void my_rows(const row_job *job, int thread, int n_threads, size_t *begin, size_t *end) {
    *begin = job->out->rows * (size_t)thread / (size_t)n_threads;
    *end = job->out->rows * (size_t)(thread + 1) / (size_t)n_threads;
}

/* Runs a round over all rows; the first thread that failed gives the message. On success the
 * caller reads and frees job->mixed. */
static rotor_status round_of(row_job *job, void (*fn)(void *, int, int)) {
    rotor_status st = ROTOR_OK;
    job->errs = base_alloc_array(MAX_THREADS, sizeof *job->errs);
    job->mixed = base_alloc_array(MAX_THREADS, sizeof *job->mixed);
    if (job->errs && job->mixed) run_rows(job, fn);
    else st = base_fail_nomem(job->ld->err, "loading ternary weights");
    for (int i = 0; job->errs && st == ROTOR_OK && i < MAX_THREADS; i++) {
        if (job->errs[i].code == ROTOR_OK) continue;
        const char *advice = job->view.type == QUANT_I2_S
            ? "; the file may be written in another I2_S byte order: try --i2s-layout arm or 4row" : "";
        st = base_fail(job->ld->err, job->errs[i].code, "%s: tensor %s: %s%s",
                       file_path(job->ld->f), job->out->name, job->errs[i].message, advice);
    }
    base_free(job->errs);
    if (st != ROTOR_OK) base_free(job->mixed);
    return st;
}

/* ==== I2_S in place ===================================================================================== */

/* 32 bytes at a time: a code 3 is a pair of ones in an even-odd bit pair. */
static bool has_code_3(const uint8_t *p, size_t n) {
    uint8_t bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (uint8_t)(p[i] & p[i] >> 1 & 0x55);
    return bad != 0;
}

static void check_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    const model_mat *out = job->out;
    size_t begin, end;
    my_rows(job, thread, n_threads, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        const uint8_t *row = job->view.data + r * out->row_bytes;
        if (!has_code_3(row, out->row_bytes)) continue;
        size_t at = 0;
        while (!has_code_3(row + at, 1)) at++;
        base_fail(&job->errs[thread], ROTOR_E_FORMAT, "illegal ternary code in row %zu, byte %zu", r,
                  at);
        return;
    }
}

static rotor_status in_place(row_job *job) {
    ROTOR_TRY(round_of(job, check_rows));
    base_free(job->mixed);
    job->out->data = job->view.data;
    memcpy(&job->out->scale, job->view.data + job->out->rows * job->out->cols / 4, sizeof(float));
    return ROTOR_OK;
}

/* ==== Repacking ========================================================================================== */

static rotor_status read_row(const row_job *job, size_t r, int8_t *t, bool *uniform,
                             rotor_error *err) {
    if (!job->src->packed) return quant_ternary_row(&job->view, r, t, &job->scales[r], uniform, err);
    *uniform = true;
    job->scales[r] = 1.0f;
    return quant_hf_row(job->view.data, job->out->rows, job->out->cols, r, t, err);
}

static void repack_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    size_t begin, end;
    int8_t *t = base_alloc(job->out->cols);
    if (!t) base_fail_nomem(&job->errs[thread], "unpacking a row");
    my_rows(job, thread, n_threads, &begin, &end);
    for (size_t r = begin; t && r < end; r++) {
        bool uniform = true;
        if (read_row(job, r, t, &uniform, &job->errs[thread]) != ROTOR_OK) break;
        if (!uniform) job->mixed[thread] = true;
        quant_t2_pack_row(t, job->out->cols, job->dst + r * job->out->row_bytes);
    }
    base_free(t);
}

/* One scale for all rows when they agree (an all-zero row has scale 0 and agrees with any). */
static rotor_status settle_scales(row_job *job) {
    model_mat *out = job->out;
    float common = 0;
    bool same = true;
    for (size_t r = 0; r < out->rows; r++) {
        if (job->scales[r] == 0) continue;
        if (common == 0) common = job->scales[r];
        same = same && job->scales[r] == common;
    }
    out->scale = common;
    if (same) return ROTOR_OK;
    float *keep = model_take(job->ld->m, out->rows * sizeof *keep);
    if (!keep) return base_fail_nomem(job->ld->err, "loading ternary weights");
    memcpy(keep, job->scales, out->rows * sizeof *keep);
    out->row_scale = keep;
    return ROTOR_OK;
}

static rotor_status repack(row_job *job, bool *block_scales) {
    ROTOR_TRY(round_of(job, repack_rows));
    *block_scales = false;
    for (int i = 0; i < MAX_THREADS; i++) *block_scales |= job->mixed[i];
    base_free(job->mixed);
    job->out->data = job->dst;
    return settle_scales(job);
}

/* ==== Master weights ======================================================================================== */

static void sum_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    size_t begin, end;
    float *row = base_alloc_array(job->out->cols, sizeof *row);
    if (!row) base_fail_nomem(&job->errs[thread], "reading a row");
    my_rows(job, thread, n_threads, &begin, &end);
    for (size_t r = begin; row && r < end; r++) {
        double sum = 0;
        if (quant_decode_rows(&job->view, r, r + 1, row, &job->errs[thread]) != ROTOR_OK) break;
        for (size_t c = 0; c < job->out->cols; c++) sum += (double)fabsf(row[c]);
        job->scales[r] = (float)(sum / (double)job->out->cols);
        if (!(sum < (double)INFINITY)) {
            base_fail(&job->errs[thread], ROTOR_E_FORMAT, "row %zu holds a value that is not finite", r);
            break;
        }
    }
    base_free(row);
}

static void quantise_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    const size_t cols = job->out->cols;
    size_t begin, end;
    float *row = base_alloc_array(cols, sizeof *row);
    int8_t *t = base_alloc(cols);
    if (!row || !t) base_fail_nomem(&job->errs[thread], "quantising a row");
    my_rows(job, thread, n_threads, &begin, &end);
    for (size_t r = begin; row && t && r < end; r++) {
        if (quant_decode_rows(&job->view, r, r + 1, row, &job->errs[thread]) != ROTOR_OK) break;
        for (size_t c = 0; c < cols; c++) {
            float q = rintf(row[c] / job->absmean);
            t[c] = (int8_t)(q > 1 ? 1 : q < -1 ? -1 : q);
        }
        quant_t2_pack_row(t, cols, job->dst + r * job->out->row_bytes);
    }
    base_free(row);
    base_free(t);
}

/* t = clamp(round(w / a)), a = mean |w| over the whole tensor. */
static rotor_status quantise_master(row_job *job) {
    double sum = 0;
    ROTOR_TRY(round_of(job, sum_rows));
    base_free(job->mixed);
    for (size_t r = 0; r < job->out->rows; r++) sum += (double)job->scales[r];
    float mean = (float)(sum / (double)job->out->rows);
    job->absmean = mean > 1e-5f ? mean : 1e-5f;
    ROTOR_TRY(round_of(job, quantise_rows));
    base_free(job->mixed);
    job->out->data = job->dst;
    job->out->scale = job->absmean;
    return ROTOR_OK;
}

/* ==== The choice ============================================================================================== */

/* The extra scale beside a tensor: HF weight_scale, or the .scale of older GGUF conversions. */
static rotor_status apply_scale(const model_loader *ld, const model_ternary_src *src,
                                model_mat *out) {
    float s;
    if (!src->scale) return ROTOR_OK;
    rotor_status st = model_scalar(src->scale, &s, ld->err);
    if (st != ROTOR_OK) return base_fail_in(ld->err, st, "%s", file_path(ld->f));
    if (!(s > 0 && s < INFINITY))
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: the scale of tensor %s is %g, expected a positive number",
                         file_path(ld->f), out->name, (double)s);
    out->scale = ld->hf && ld->scale_rule == MODEL_SCALE_DIVIDE ? out->scale / s : out->scale * s;
    return ROTOR_OK;
}

static rotor_status make_copy(row_job *job, bool *block_scales) {
    const model_mat *out = job->out;
    job->dst = model_take(job->ld->m, out->rows * out->row_bytes);
    job->scales = base_alloc_array(out->rows, sizeof *job->scales);
    rotor_status st;
    if (!job->dst || !job->scales) st = base_fail_nomem(job->ld->err, "loading ternary weights");
    else st = job->src->master ? quantise_master(job) : repack(job, block_scales);
    base_free(job->scales);
    return st;
}

rotor_status model_make_ternary(model_loader *ld, const model_ternary_src *src, model_mat *out) {
    const quant_i2s order = ld->opt->i2s < 0 ? QUANT_I2S_X86 : (quant_i2s)ld->opt->i2s;
    row_job job = {.ld = ld, .src = src, .out = out};
    bool block_scales = false;
    job.view = (quant_tensor){.type = src->t->info->id, .i2s = order, .rows = out->rows,
                              .cols = out->cols, .data = src->t->data};
    out->type = QUANT_I2_S;
    out->row_bytes = quant_t2_row_bytes(out->cols);
    if (job.view.type == QUANT_I2_S && order == QUANT_I2S_X86 && out->cols % 128 == 0)
        ROTOR_TRY(in_place(&job));
    else
        ROTOR_TRY(make_copy(&job, &block_scales));
    if (block_scales) { /* real per-block scales: computed in the block format itself */
        out->type = job.view.type;
        out->data = src->t->data;
        out->row_scale = NULL;
        out->row_bytes = (size_t)(src->t->bytes / out->rows);
        return ROTOR_OK;
    }
    ROTOR_TRY(apply_scale(ld, src, out));
    if (out->scale - out->scale == 0) return ROTOR_OK;
    return base_fail(ld->err, ROTOR_E_FORMAT, "%s: the scale of tensor %s is not finite",
                     file_path(ld->f), out->name);
}
