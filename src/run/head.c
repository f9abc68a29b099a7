/* SPDX-License-Identifier: MIT
 *
 * The output head: as in the file, requantised to fewer bits, or staged.
 *
 * Staged (RUN_HEAD_EXACT): the recorded pass ends at the final norm. Who asks for candidates gets
 * the best rows from the device's nested planes, each with the very logit the file's head gives;
 * who asks for logits gets all of them, computed then by the file's head, for every wanted row of
 * the step at once. Both come from the same normed rows, in any order.
 */
#include "run/run_internal.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

/* ==== Requantised ===============================================================================
 */

typedef struct head_job {
    run_engine *e;      /* engine whose head is made */
    const model_mat *w; /* the file's head */
    uint32_t type;      /* QUANT_Q8_0 or QUANT_Q6_K */
    atomic_int status;  /* rotor_status of a thread that failed */
} head_job;

static void requantise_rows(void *arg, int thread, int n_threads) {
    head_job *job = arg;
    const model_mat *w = job->w;
    size_t begin, end;
    float *row = base_alloc_array(w->cols, sizeof *row);
    par_slice(w->rows, 1, thread, n_threads, &begin, &end);
    const kern_mat src = run_mat(w);
    const kern *k = &job->e->k;
    for (size_t r = begin; row && r < end; r++) {
        uint8_t *dst = job->e->head_copy + r * job->e->head.row_bytes;
        k->embed(row, &src, r);
        if (job->type == QUANT_Q8_0)
            k->kv_store(dst, row, w->cols, KERN_KV_Q8); /* the same layout */
        else {
            rotor_status st = quant_encode(job->type, 1, w->cols, row, dst, NULL);
            if (st != ROTOR_OK) atomic_store(&job->status, st);
        }
    }
    if (!row) atomic_store(&job->status, ROTOR_E_NOMEM);
    base_free(row);
}

/* Requantises a float head to int8 or 6 bits; heads that are small already stay as they are. */
static rotor_status requantise(run_engine *e, rotor_error *err) {
    const model_mat *w = &e->m->head;
    bool is_float = w->type == QUANT_F32 || w->type == QUANT_F16 || w->type == QUANT_BF16;
    bool q6 = e->opt.head == RUN_HEAD_Q6 && w->cols % 256 == 0;
    if (!is_float || w->cols % 32 != 0) return ROTOR_OK;
    head_job job = {.e = e, .w = w, .type = q6 ? QUANT_Q6_K : QUANT_Q8_0};
    uint64_t bytes;
    ROTOR_TRY(quant_tensor_bytes(quant_find(job.type), w->rows, w->cols, &bytes, err));
    e->head_copy = base_alloc_aligned(bytes);
    if (!e->head_copy) return base_fail_nomem(err, "making the q8 output head");
    e->head = (kern_mat){.data = e->head_copy,
                         .type = job.type,
                         .rows = w->rows,
                         .cols = w->cols,
                         .row_bytes = bytes / w->rows,
                         .scale = 1.0f};
    e->head_bytes = bytes;
    snprintf(e->head_name, sizeof e->head_name, "%s", q6 ? "q6" : "q8");
    par_run(e->pool, requantise_rows, &job);
    switch (atomic_load(&job.status)) {
    case ROTOR_OK:
        return ROTOR_OK;
    case ROTOR_E_NOMEM:
        return base_fail_nomem(err, "making the output head");
    default:
        return base_fail(err, ROTOR_E_FORMAT,
                         "tensor %s cannot be stored as %s: a value is not finite or too large",
                         w->name, quant_find(job.type)->name);
    }
}

/* ==== Staged ================================================================================== */

static rotor_status make_staged(run_engine *e, rotor_error *err) {
    const kern_mat w = run_mat(&e->m->head);
    rotor_error why;
    rotor_status st = dev_add_staged(e->d, &w, &why);
    if (st == ROTOR_E_UNSUPPORTED) {
        base_log_printf(e->opt.log, BASE_LOG_WARN,
                        "no exact staged head: %s; the head is as in the file", why.message);
        return ROTOR_OK;
    }
    if (st != ROTOR_OK) {
        if (err) *err = why;
        return st;
    }
    ROTOR_TRY(dev_add_mat(e->d, &w, &e->staged_mat, err));
    e->staged = true;
    snprintf(e->head_name, sizeof e->head_name, "exact (%s)", quant_find(w.type)->name);
    return ROTOR_OK;
}

rotor_status run_make_head(run_engine *e, rotor_error *err) {
    const model_mat *w = &e->m->head;
    e->head = run_mat(w);
    e->head_bytes = w->rows * w->row_bytes;
    snprintf(e->head_name, sizeof e->head_name, "file (%s)", quant_find(w->type)->name);
    switch (e->opt.head) {
    case RUN_HEAD_FILE:
        return ROTOR_OK;
    case RUN_HEAD_EXACT:
        return make_staged(e, err);
    default:
        return requantise(e, err);
    }
}

/* ==== What follows a step ===================================================================== */

const float *run_logits(run_engine *e, uint32_t i) {
    if (e->staged && !e->have_logits) {
        assert(i < e->n_picked);
        dev_product(e->d, e->staged_mat, e->buf.px, e->buf.logits, e->n_picked);
        e->have_logits = true;
    }
    return dev_read(e->d, e->buf.logits, i);
}

bool run_candidates(run_engine *e, uint32_t i, const run_want *want, run_found *found) {
    if (!e->staged || e->have_logits || e->n_picked > DEV_STAGED_ROWS) return false;
    assert(i < e->n_picked);
    if (!e->screened) dev_screen(e->d, e->buf.px, e->n_picked);
    e->screened = true;
    return dev_find(e->d, i, want, found);
}

bool run_head_stats(const run_engine *e, dev_staged_stats *out) {
    if (e->staged) dev_staged_stats_get(e->d, out);
    return e->staged;
}

uint64_t run_step_bytes(const run_engine *e) {
    dev_staged_stats st;
    uint64_t head = e->head_bytes;
    if (run_head_stats(e, &st) && st.finds)
        head = (st.bytes + st.undecided * e->head_bytes) / st.finds;
    return model_step_bytes(e->m, head);
}
