/* SPDX-License-Identifier: MIT
 *
 * The output head in fewer bits, made when an engine is created.
 *
 * All threads take pieces of rows in turn. A piece's pages of the file are given back behind it:
 * what a decode step reads from then on is the copy, and a tied embedding fetches its few rows
 * again. Int8 rows are laid side by side in sixteens (kern.h), as the copy is made anyway; with
 * float activations they stay one after another.
 */
#include "run/run_internal.h"

#include <stdatomic.h>

enum { PIECE_ROWS = 512 }; /* some 2.6 MB of file at a time */

typedef struct head_job {
    run_engine *e;       /* engine whose head is made */
    const model_mat *w;  /* the file's head */
    uint32_t type;       /* QUANT_Q8_0 or QUANT_Q6_K */
    bool side;           /* rows side by side: KERN_Q8X16 */
    atomic_size_t taken; /* pieces begun */
    atomic_int status;   /* rotor_status of a thread that failed */
} head_job;

/* Row r of the file, requantised. */
static rotor_status copy_row(const head_job *job, float *row, size_t r, uint8_t *dst) {
    const model_mat *w = job->w;
    const kern_mat src = run_mat(w);
    const kern *k = &job->e->k;
    k->embed(row, &src, r);
    if (job->type != QUANT_Q8_0) return quant_encode(job->type, 1, w->cols, row, dst, NULL);
    k->kv_store(dst, row, w->cols, KERN_KV_Q8); /* the same layout */
    return ROTOR_OK;
}

/* row: float[cols], then room for the rows of a group. */
static rotor_status copy_rows(const head_job *job, float *row, size_t begin, size_t end) {
    const model_mat *w = job->w;
    const size_t row_bytes = job->e->head.row_bytes;
    uint8_t *side = (uint8_t *)(row + w->cols);
    for (size_t r = begin; r < end; r++) {
        const size_t i = r % KERN_Q8X16_ROWS;
        uint8_t *dst = job->side ? side + i * row_bytes : job->e->head_copy + r * row_bytes;
        const uint8_t *next = w->data + (r + 1) * w->row_bytes;
        for (size_t at = 0; r + 1 < end && at < w->row_bytes; at += 64)
            __builtin_prefetch(next + at);
        ROTOR_TRY(copy_row(job, row, r, dst));
        if (job->side && (i + 1 == KERN_Q8X16_ROWS || r + 1 == end))
            kern_q8x16_pack(job->e->head_copy + (r - i) * row_bytes, side, i + 1, w->cols);
    }
    file_drop(job->e->m->file, w->data + begin * w->row_bytes, (end - begin) * w->row_bytes);
    return ROTOR_OK;
}

static void copy_pieces(void *arg, int thread, int n_threads) {
    head_job *job = arg;
    (void)thread;
    (void)n_threads;
    const size_t side = job->side ? KERN_Q8X16_ROWS * job->e->head.row_bytes : 0;
    float *row = base_alloc(job->w->cols * sizeof *row + side);
    rotor_status st = row ? ROTOR_OK : ROTOR_E_NOMEM;
    for (size_t at; st == ROTOR_OK;
         st = copy_rows(job, row, at, BASE_MIN(at + PIECE_ROWS, job->w->rows))) {
        at = atomic_fetch_add(&job->taken, 1) * PIECE_ROWS;
        if (at >= job->w->rows) break;
    }
    if (st != ROTOR_OK) atomic_store(&job->status, st);
    base_free(row);
}

rotor_status run_copy_head(run_engine *e, uint32_t type, rotor_error *err) {
    const model_mat *w = &e->m->head;
    head_job job = {.e = e, .w = w, .type = type};
    uint64_t bytes;
    job.side = type == QUANT_Q8_0 && !e->opt.float_act;
    ROTOR_TRY(quant_tensor_bytes(quant_find(type), w->rows, w->cols, &bytes, err));
    e->head_copy =
        base_alloc_aligned(job.side ? kern_q8x16_bytes(w->rows, w->cols) : (size_t)bytes);
    if (!e->head_copy) return base_fail_nomem(err, "making the output head");
    e->head = (kern_mat){.data = e->head_copy,
                         .type = job.side ? KERN_Q8X16 : type,
                         .rows = w->rows,
                         .cols = w->cols,
                         .row_bytes = (size_t)(bytes / w->rows),
                         .scale = 1.0f};
    e->head_bytes = bytes;
    par_run(e->pool, copy_pieces, &job);
    switch (atomic_load(&job.status)) {
    case ROTOR_OK:
        return ROTOR_OK;
    case ROTOR_E_NOMEM:
        return base_fail_nomem(err, "making the output head");
    default:
        return base_fail(err, ROTOR_E_FORMAT,
                         "tensor %s cannot be stored as %s: a value is not finite or too large",
                         w->name, quant_find(type)->name);
    }
}
