/* SPDX-License-Identifier: MIT
 *
 * Ternary weights to T2 (quant.h), whatever the file stores: I2_S in place when it is T2 already,
 * T5 in place as T5, TQ1_0, TQ2_0, IQ1_BN, IQ2_BN and the other I2_S orders repacked losslessly,
 * four-rows-in-a-byte HF weights unpacked, and float master weights quantised once by absmean.
 *
 * An illegal code is an error naming tensor, row and column; it is never read as zero. Rows are
 * shared among the threads of options.parallel; each row is independent, so the result is not.
 */
#include "model/model_internal.h"

#include <math.h>

/* ==== Sharing rows ============================================================================ */

typedef struct row_job {
    model_loader *ld;             /* loader */
    const model_ternary_src *src; /* where from */
    quant_tensor view;            /* the source tensor */
    model_mat *out;               /* rows, cols, row_bytes set */
    uint8_t *dst;                 /* T2 rows being written; NULL: only checked */
    float *scales;     /* [rows] scale of each row, or mean of |w| (master, first round) */
    float extra;       /* scale tensor beside the weights: multiplies all scales */
    float absmean;     /* master, second round; 0: each row has its own scale */
    bool *mixed;       /* [n_threads] some row has several scales */
    rotor_error *errs; /* [n_threads] first failure of each */
} row_job;

enum { MAX_THREADS = 256 }; /* threads that share rows; more would look on */

static void run_rows(row_job *job, void (*fn)(void *, int, int)) {
    const model_parallel *p = &job->ld->opt->parallel;
    if (p->pool)
        p->run(p->pool, fn, job);
    else
        fn(job, 0, 1);
}

/* False when this thread has no rows: it must not touch its error or flag then. */
static bool my_rows(const row_job *job, int thread, int n_threads, size_t *begin, size_t *end) {
    const size_t rows = job->out->rows, n = (size_t)BASE_MIN(n_threads, MAX_THREADS);
    if ((size_t)thread >= n) return false;
    *begin = rows * (size_t)thread / n;
    *end = rows * (size_t)(thread + 1) / n;
    return *begin < *end;
}

/* Runs a round over all rows; the first thread that failed gives the message. On success the
 * caller reads and frees job->mixed. */
static rotor_status round_of(row_job *job, void (*fn)(void *, int, int)) {
    rotor_status st = ROTOR_OK;
    job->errs = base_alloc_array(MAX_THREADS, sizeof *job->errs);
    job->mixed = base_alloc_array(MAX_THREADS, sizeof *job->mixed);
    if (job->errs && job->mixed)
        run_rows(job, fn);
    else
        st = base_fail_nomem(job->ld->err, "loading ternary weights");
    for (int i = 0; job->errs && st == ROTOR_OK && i < MAX_THREADS; i++) {
        if (job->errs[i].code == ROTOR_OK) continue;
        const char *advice = job->view.type == QUANT_I2_S
                                 ? "; the file may be written in another I2_S byte order: try "
                                   "--i2s-layout arm or 4row"
                                 : "";
        st = base_fail(job->ld->err, job->errs[i].code, "%s: tensor %s: %s%s",
                       file_path(job->ld->f), job->out->name, job->errs[i].message, advice);
    }
    base_free(job->errs);
    if (st != ROTOR_OK) base_free(job->mixed);
    return st;
}

/* ==== I2_S in place =========================================================================== */

static rotor_status finite_scale(const row_job *job, float scale) {
    if (isfinite(scale)) return ROTOR_OK;
    return base_fail(job->ld->err, ROTOR_E_FORMAT,
                     "%s: tensor %s: a scale is %g, expected a finite number",
                     file_path(job->ld->f), job->out->name, (double)scale);
}

static rotor_status in_place(row_job *job) {
    model_mat *out = job->out;
    out->data = job->view.data;
    out->unchecked = true;
    memcpy(&out->scale, job->view.data + out->rows * out->cols / 4, sizeof(float));
    out->scale *= job->extra;
    return finite_scale(job, out->scale);
}

/* ==== T5 in place ============================================================================= */

/* One scale when all rows have it, which is what a BitLinear's have; else a copy of all. */
static rotor_status t5_scales(row_job *job) {
    model_mat *out = job->out;
    const uint8_t *at = job->view.data + quant_t5_code_bytes(out->rows, out->cols);
    bool same = true;
    for (size_t r = 1; r < out->rows; r++) same &= memcmp(at, at + 4 * r, 4) == 0;
    float *scale = same ? &out->scale : model_take(job->ld->m, out->rows * sizeof *scale);
    if (!scale) return base_fail_nomem(job->ld->err, "loading ternary weights");
    if (!same) out->row_scale = scale;
    for (size_t r = 0; r < (same ? 1 : out->rows); r++) {
        memcpy(&scale[r], at + 4 * r, sizeof *scale);
        scale[r] *= job->extra;
        ROTOR_TRY(finite_scale(job, scale[r]));
    }
    return ROTOR_OK;
}

static rotor_status t5_in_place(row_job *job) {
    model_mat *out = job->out;
    out->type = QUANT_T5;
    out->row_bytes = quant_t5_row_bytes(out->cols);
    out->data = job->view.data;
    out->unchecked = true;
    return t5_scales(job);
}

/* ==== Repacking =============================================================================== */

/* A scale of 0 makes the row zero whatever its codes say. */
static rotor_status read_row(const row_job *job, size_t r, int8_t *t, bool *uniform,
                             rotor_error *err) {
    *uniform = true;
    job->scales[r] = 1.0f;
    if (job->src->packed)
        return quant_hf_row(job->view.data, job->out->rows, job->out->cols, r, t, err);
    ROTOR_TRY(quant_ternary_row(&job->view, r, t, &job->scales[r], uniform, err));
    if (job->scales[r] == 0) memset(t, 0, job->out->cols);
    return ROTOR_OK;
}

static void repack_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    size_t begin, end;
    if (!my_rows(job, thread, n_threads, &begin, &end)) return;
    int8_t *t = base_alloc(job->out->cols);
    if (!t) base_fail_nomem(&job->errs[thread], "unpacking a row");
    for (size_t r = begin; t && r < end; r++) {
        bool uniform;
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
        job->scales[r] *= job->extra;
        ROTOR_TRY(finite_scale(job, job->scales[r]));
        if (job->scales[r] == 0) continue;
        if (common == 0) common = job->scales[r];
        same = same && job->scales[r] == common;
    }
    out->data = job->dst;
    out->scale = common;
    if (same) return ROTOR_OK;
    float *keep = model_take(job->ld->m, out->rows * sizeof *keep);
    if (!keep) return base_fail_nomem(job->ld->err, "loading ternary weights");
    memcpy(keep, job->scales, out->rows * sizeof *keep);
    out->row_scale = keep;
    return ROTOR_OK;
}

/* Reads and frees the marks of the last round. */
static bool any_mixed(row_job *job) {
    bool any = false;
    for (int i = 0; i < MAX_THREADS; i++) any |= job->mixed[i];
    base_free(job->mixed);
    return any;
}

static rotor_status repack(row_job *job, bool *block_scales) {
    ROTOR_TRY(round_of(job, repack_rows));
    *block_scales = any_mixed(job);
    return *block_scales ? ROTOR_OK : settle_scales(job);
}

/* ==== Float weights =========================================================================== */

static bool read_float_row(const row_job *job, int thread, size_t r, float *row) {
    if (quant_decode_rows(&job->view, r, r + 1, row, &job->errs[thread]) != ROTOR_OK) return false;
    for (size_t c = 0; c < job->out->cols; c++)
        if (!isfinite(row[c])) {
            base_fail(&job->errs[thread], ROTOR_E_FORMAT,
                      "row %zu, column %zu holds a value that is not finite", r, c);
            return false;
        }
    return true;
}

static void sum_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    size_t begin, end;
    if (!my_rows(job, thread, n_threads, &begin, &end)) return;
    float *row = base_alloc_array(job->out->cols, sizeof *row);
    if (!row) base_fail_nomem(&job->errs[thread], "reading a row");
    for (size_t r = begin; row && r < end && read_float_row(job, thread, r, row); r++) {
        double sum = 0;
        for (size_t c = 0; c < job->out->cols; c++) sum += (double)fabsf(row[c]);
        job->scales[r] = (float)(sum / (double)job->out->cols);
    }
    base_free(row);
}

/* The largest magnitude of each row; mixed when another one but 0 stands beside it. */
static void peak_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    size_t begin, end;
    if (!my_rows(job, thread, n_threads, &begin, &end)) return;
    float *row = base_alloc_array(job->out->cols, sizeof *row);
    if (!row) base_fail_nomem(&job->errs[thread], "reading a row");
    for (size_t r = begin; row && r < end && read_float_row(job, thread, r, row); r++) {
        float peak = 0;
        for (size_t c = 0; c < job->out->cols; c++) peak = fmaxf(peak, fabsf(row[c]));
        for (size_t c = 0; c < job->out->cols; c++)
            job->mixed[thread] |= row[c] != 0 && fabsf(row[c]) < peak * (1 - 1e-6f);
        job->scales[r] = peak;
    }
    base_free(row);
}

static void quantise_rows(void *arg, int thread, int n_threads) {
    row_job *job = arg;
    const size_t cols = job->out->cols;
    size_t begin, end;
    if (!my_rows(job, thread, n_threads, &begin, &end)) return;
    float *row = base_alloc_array(cols, sizeof *row);
    int8_t *t = base_alloc(cols);
    if (!row || !t) base_fail_nomem(&job->errs[thread], "quantising a row");
    for (size_t r = begin; row && t && r < end && read_float_row(job, thread, r, row); r++) {
        const float unit = job->absmean > 0 ? job->absmean : job->scales[r];
        for (size_t c = 0; c < cols; c++) {
            float q = unit > 0 ? rintf(row[c] / unit) : 0;
            t[c] = (int8_t)(q > 1 ? 1 : q < -1 ? -1 : q);
        }
        quant_t2_pack_row(t, cols, job->dst + r * job->out->row_bytes);
    }
    base_free(row);
    base_free(t);
}

/* What converters write to GGUF as F16 or F32 is already ternary times a constant: taken exactly.
 * Absmean would see a constant that is too small by the share of zeros. */
static rotor_status take_written(row_job *job, bool *taken) {
    ROTOR_TRY(round_of(job, peak_rows));
    *taken = !any_mixed(job);
    if (!*taken) return ROTOR_OK;
    job->absmean = 0;
    ROTOR_TRY(round_of(job, quantise_rows));
    base_free(job->mixed);
    return settle_scales(job);
}

/* t = clamp(round(w / a)), a = mean |w| over the whole tensor. */
static rotor_status quantise_master(row_job *job) {
    double sum = 0;
    bool taken = false;
    if (!job->ld->hf) ROTOR_TRY(take_written(job, &taken));
    if (taken) return ROTOR_OK;
    ROTOR_TRY(round_of(job, sum_rows));
    base_free(job->mixed);
    for (size_t r = 0; r < job->out->rows; r++) sum += (double)job->scales[r];
    float mean = (float)(sum / (double)job->out->rows);
    job->absmean = mean > 1e-5f ? mean : 1e-5f;
    ROTOR_TRY(round_of(job, quantise_rows));
    base_free(job->mixed);
    job->out->data = job->dst;
    job->out->scale = job->absmean * job->extra;
    return finite_scale(job, job->out->scale);
}

/* ==== The choice ============================================================================== */

rotor_status model_scale_of(const model_loader *ld, const file_tensor *scale, const char *name,
                            float *out) {
    float s;
    *out = 1.0f;
    if (!scale) return ROTOR_OK;
    rotor_status st = model_scalar(scale, &s, ld->err);
    if (st != ROTOR_OK) return base_fail_in(ld->err, st, "%s", file_path(ld->f));
    if (!(s > 0 && s < INFINITY))
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: the scale of tensor %s is %g, expected a positive number",
                         file_path(ld->f), name, (double)s);
    *out = ld->hf && ld->scale_rule == MODEL_SCALE_DIVIDE ? 1.0f / s : s;
    return ROTOR_OK;
}

static rotor_status make_copy(row_job *job, bool *block_scales) {
    const model_mat *out = job->out;
    job->dst = model_take(job->ld->m, out->rows * out->row_bytes);
    job->scales = base_alloc_array(out->rows, sizeof *job->scales);
    rotor_status st;
    if (!job->dst || !job->scales)
        st = base_fail_nomem(job->ld->err, "loading ternary weights");
    else
        st = job->src->master ? quantise_master(job) : repack(job, block_scales);
    base_free(job->scales);
    return st;
}

rotor_status model_make_ternary(model_loader *ld, const model_ternary_src *src, model_mat *out) {
    const quant_i2s order = ld->opt->i2s < 0 ? QUANT_I2S_X86 : (quant_i2s)ld->opt->i2s;
    row_job job = {.ld = ld, .src = src, .out = out};
    bool block_scales = false;
    ROTOR_TRY(model_scale_of(ld, src->scale, out->name, &job.extra));
    job.view = (quant_tensor){.type = src->t->info->id,
                              .i2s = order,
                              .rows = out->rows,
                              .cols = out->cols,
                              .data = src->t->data};
    out->type = QUANT_I2_S;
    out->row_bytes = quant_t2_row_bytes(out->cols);
    if (job.view.type == QUANT_T5) return t5_in_place(&job);
    if (job.view.type == QUANT_I2_S && order == QUANT_I2S_X86 && out->cols % 128 == 0)
        return in_place(&job);
    ROTOR_TRY(make_copy(&job, &block_scales));
    if (!block_scales) return ROTOR_OK;
    /* Blocks of a row with scales of their own: computed in the block format, the copy given back.
     */
    model_give_back(ld->m, job.dst);
    out->type = job.view.type;
    out->data = src->t->data;
    out->row_bytes = (size_t)(src->t->bytes / out->rows);
    out->scale = job.extra;
    return ROTOR_OK;
}
