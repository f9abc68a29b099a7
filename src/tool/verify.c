/* SPDX-License-Identifier: MIT
 *
 * verify and stats: every value of a file decoded and looked at.
 *
 * A tensor is cut into runs of whole rows that its threads share. A tensor is bad when decoding
 * fails (an illegal code) or when a decoded value is not finite; the first reason is told. Types
 * without a decoder are counted as skipped, never as good.
 */
#include "tool/inspect.h"

#include "par/par.h"

#include <math.h>
#include <stdio.h>

quant_tensor tool_view(const tool_file *f, size_t i, tool_i2s order) {
    const file_tensor *t = file_tensor_at(f->f, i);
    return (quant_tensor){.type = t->info->id,
                          .i2s = (quant_i2s)order,
                          .rows = t->rows,
                          .cols = t->dims[0],
                          .data = t->data};
}

/* ==== Verify ================================================================================== */

enum { MAX_THREADS = 64, RUN_VALUES = 1 << 16 };

typedef struct verify_job {
    quant_tensor t;                /* tensor */
    rotor_error errs[MAX_THREADS]; /* first failure of each thread */
} verify_job;

static void check_finite(const float *x, size_t n, uint64_t row, uint64_t cols, rotor_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) {
            base_fail(err, ROTOR_E_FORMAT, "row %llu column %llu is %f",
                      (unsigned long long)(row + i / cols), (unsigned long long)(i % cols),
                      (double)x[i]);
            return;
        }
}

static void verify_rows(void *arg, int thread, int n_threads) {
    verify_job *job = arg;
    rotor_error *err = &job->errs[thread];
    size_t begin, end, cols = (size_t)job->t.cols;
    size_t rows_at_once = BASE_MAX(RUN_VALUES / cols, 1);
    float *values = base_alloc_array(rows_at_once * cols, sizeof *values);
    if (!values) base_fail_nomem(err, "decoding");
    par_slice((size_t)job->t.rows, 1, thread, n_threads, &begin, &end);
    for (size_t r = begin; values && r < end && err->code == ROTOR_OK; r += rows_at_once) {
        size_t n = BASE_MIN(rows_at_once, end - r);
        if (quant_decode_rows(&job->t, r, r + n, values, err) == ROTOR_OK)
            check_finite(values, n * cols, r, cols, err);
    }
    base_free(values);
}

/* Bytes of padding are nobody's values; kernels read them all the same. */
static rotor_status verify_t5_bytes(const quant_tensor *t, rotor_error *err) {
    size_t bad;
    if (quant_t5_check(t->data, (size_t)quant_t5_code_bytes(t->rows, t->cols), &bad))
        return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT,
                     "byte 0x%02X at %zu, in the padding, is no string of five digits",
                     t->data[bad], bad);
}

/* ROTOR_OK, or the first failure of any thread. */
static rotor_status verify_tensor(par_pool *pool, const quant_tensor *t, rotor_error *err) {
    verify_job job = {.t = *t};
    par_run(pool, verify_rows, &job);
    for (int i = 0; i < par_n_threads(pool); i++)
        if (job.errs[i].code != ROTOR_OK) return *err = job.errs[i], err->code;
    return t->type == QUANT_T5 ? verify_t5_bytes(t, err) : ROTOR_OK;
}

static rotor_status verify_all(par_pool *pool, const tool_file *f, int layer, tool_i2s order,
                               tool_bad_fn bad, void *user, const tool_progress *progress,
                               tool_verify_result *out, rotor_error *err);

rotor_status tool_verify(const tool_file *f, int layer, tool_i2s order, tool_bad_fn bad, void *user,
                         const tool_progress *progress, tool_verify_result *out, rotor_error *err) {
    par_pool *pool = NULL;
    tool_verify_result r = {0};
    ROTOR_TRY(par_create(&pool, BASE_MIN(base_cpu_count(), MAX_THREADS), false, err));
    rotor_status st = verify_all(pool, f, layer, order, bad, user, progress, &r, err);
    par_free(&pool);
    if (st == ROTOR_OK) *out = r;
    return st;
}

static rotor_status verify_all(par_pool *pool, const tool_file *f, int layer, tool_i2s order,
                               tool_bad_fn bad, void *user, const tool_progress *progress,
                               tool_verify_result *out, rotor_error *err) {
    uint64_t done = 0;
    for (size_t i = 0; i < f->facts.n_tensors; i++) {
        const file_tensor *t = file_tensor_at(f->f, i);
        rotor_error why = {0};
        if (layer >= 0 && !tool_in_layer(f, i, (uint32_t)layer)) continue;
        if (!(t->info->flags & QUANT_CAN_DECODE)) {
            out->n_skipped++;
            continue;
        }
        quant_tensor view = tool_view(f, i, order);
        rotor_status st = verify_tensor(pool, &view, &why);
        if (st == ROTOR_E_NOMEM) return *err = why, st;
        out->n_values += t->rows * t->dims[0];
        if (st == ROTOR_OK)
            out->n_tensors++;
        else
            out->n_bad++;
        if (st != ROTOR_OK && bad) bad(user, t->name, why.message);
        done += t->bytes;
        if (progress && progress->fn && !progress->fn(progress->user, done, f->facts.tensor_bytes))
            return base_fail(err, ROTOR_E_CANCELLED, "cancelled");
    }
    return ROTOR_OK;
}

/* ==== Stats =================================================================================== */

typedef struct sums {
    double sum, sq; /* of finite values */
    uint64_t n;     /* finite values */
} sums;

static void look_at(tool_stats *s, sums *acc, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        if (!isfinite(v)) {
            s->n_not_finite++;
            continue;
        }
        s->minus += v < 0;
        s->zero += v == 0;
        s->plus += v > 0;
        s->min = acc->n == 0 || v < s->min ? v : s->min;
        s->max = acc->n == 0 || v > s->max ? v : s->max;
        acc->sum += v;
        acc->sq += v * v;
        acc->n++;
    }
}

static rotor_status stats_ternary(const quant_tensor *t, tool_stats *s, rotor_error *err) {
    int8_t *codes = base_alloc((size_t)t->cols);
    rotor_status st = codes ? ROTOR_OK : base_fail_nomem(err, "counting codes");
    double sum = 0, sq = 0;
    for (uint64_t r = 0; r < t->rows && st == ROTOR_OK; r++) {
        float scale;
        bool uniform;
        uint64_t count[3] = {0};
        st = quant_ternary_row(t, r, codes, &scale, &uniform, err);
        if (st != ROTOR_OK) break;
        for (uint64_t c = 0; c < t->cols; c++) count[codes[c] + 1]++;
        double d = (double)scale;
        s->minus += count[0];
        s->zero += count[1];
        s->plus += count[2];
        s->scale_min = r == 0 || d < s->scale_min ? d : s->scale_min;
        s->scale_max = r == 0 || d > s->scale_max ? d : s->scale_max;
        if (count[0] && -d < s->min) s->min = -d;
        if (count[2] && d > s->max) s->max = d;
        sum += d * ((double)count[2] - (double)count[0]);
        sq += d * d * (double)(count[0] + count[2]);
    }
    base_free(codes);
    s->mean = sum / (double)BASE_MAX(s->n, 1);
    s->rms = sqrt(sq / (double)BASE_MAX(s->n, 1));
    return st;
}

static rotor_status stats_values(const quant_tensor *t, tool_stats *s, rotor_error *err) {
    float *row = base_alloc_array((size_t)t->cols, sizeof *row);
    rotor_status st = row ? ROTOR_OK : base_fail_nomem(err, "counting values");
    sums acc = {0};
    for (uint64_t r = 0; r < t->rows && st == ROTOR_OK; r++) {
        st = quant_decode_rows(t, r, r + 1, row, err);
        if (st == ROTOR_OK) look_at(s, &acc, row, (size_t)t->cols);
    }
    base_free(row);
    s->mean = acc.sum / (double)BASE_MAX(acc.n, 1);
    s->rms = sqrt(acc.sq / (double)BASE_MAX(acc.n, 1));
    return st;
}

rotor_status tool_tensor_stats(const tool_file *f, size_t i, tool_i2s order, tool_stats *out,
                               rotor_error *err) {
    quant_tensor t = tool_view(f, i, order);
    const file_tensor *x = file_tensor_at(f->f, i);
    tool_stats s = {.n = t.rows * t.cols};
    rotor_status st;
    if (!(x->info->flags & QUANT_CAN_DECODE))
        return base_fail(err, ROTOR_E_UNSUPPORTED, "type %s cannot be decoded", x->info->name);
    if (x->info->flags & QUANT_TERNARY)
        st = stats_ternary(&t, &s, err);
    else
        st = stats_values(&t, &s, err);
    if (st == ROTOR_OK) *out = s;
    return st;
}
