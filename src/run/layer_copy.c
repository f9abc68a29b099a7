/* SPDX-License-Identifier: MIT
 *
 * The projections of an encoder in the form that many tokens at once are multiplied by fastest,
 * made when an engine for vectors is created.
 *
 * Every step of an encoder is a whole text or several: its products are limited by arithmetic, not
 * by reading, and a copy that suits the kernel pays. Float matrices are laid side by side
 * (KERN_F32X16): nothing is rounded, only the order of sums is another. In 8 bits they lie so, too
 * (KERN_Q8X16): a short text would spend a sixth of its time on transposing rows. All threads take
 * matrices in turn; the file's pages are given back behind them.
 */
#include "run/run_internal.h"

#include <stdatomic.h>

typedef struct copy_job {
    run_engine *e;       /* engine whose layers are copied */
    atomic_size_t taken; /* matrices begun */
    atomic_int status;   /* rotor_status of a thread that failed */
} copy_job;

/* The form of a matrix's copy; the matrix's own: none is made. */
static uint32_t copy_type(bool int8, const model_mat *w) {
    const bool is_float = w->type == QUANT_F32 || w->type == QUANT_F16 || w->type == QUANT_BF16;
    if (!w->data) return w->type;
    if (is_float && int8 && w->cols % 32 == 0)
        return w->rows % KERN_Q8X16_ROWS == 0 ? KERN_Q8X16 : QUANT_Q8_0;
    return w->type == QUANT_F32 && w->rows % KERN_F32X16_ROWS == 0 ? KERN_F32X16 : w->type;
}

static void copy_side(const run_engine *e, const model_mat *w, const kern_mat *copy) {
    uint8_t *dst = e->layer_copy + (copy->data - e->layer_copy);
    for (size_t r = 0; r < w->rows; r += KERN_F32X16_ROWS)
        kern_f32x16_pack((float *)(void *)(dst + r * copy->row_bytes), w->data + r * w->row_bytes,
                         w->row_bytes, w->cols);
}

/* Row by row through floats, as the requantised head. */
static rotor_status copy_int8(const run_engine *e, const model_mat *w, const kern_mat *copy) {
    const size_t row_bytes = copy->row_bytes,
                 n_side = copy->type == KERN_Q8X16 ? KERN_Q8X16_ROWS : 1;
    uint8_t *dst = e->layer_copy + (copy->data - e->layer_copy);
    const kern_mat src = run_mat(w);
    float *row = base_alloc(w->cols * sizeof *row + n_side * row_bytes);
    if (!row) return ROTOR_E_NOMEM;
    uint8_t *side = (uint8_t *)(row + w->cols);
    for (size_t r = 0; r < w->rows; r++) {
        const size_t i = r % n_side;
        e->k.embed(row, &src, r);
        e->k.kv_store(n_side > 1 ? side + i * row_bytes : dst + r * row_bytes, row, w->cols,
                      KERN_KV_Q8); /* the layout of Q8_0 */
        if (n_side > 1 && i + 1 == n_side)
            kern_q8x16_pack(dst + (r - i) * row_bytes, side, n_side, w->cols);
    }
    base_free(row);
    return ROTOR_OK;
}

static rotor_status copy_mat(const run_engine *e, const model_mat *w, const kern_mat *copy) {
    rotor_status st = ROTOR_OK;
    if (copy->type == KERN_F32X16)
        copy_side(e, w, copy);
    else
        st = copy_int8(e, w, copy);
    file_drop(e->m->file, w->data, w->rows * w->row_bytes);
    return st;
}

static void copy_mats(void *arg, int thread, int n_threads) {
    copy_job *job = arg;
    const run_engine *e = job->e;
    const size_t n = (size_t)e->m->hp.n_layer * MODEL_N_PROJ;
    (void)thread;
    (void)n_threads;
    for (size_t i; (i = atomic_fetch_add(&job->taken, 1)) < n;) {
        if (!e->layer_mats[i].data) continue;
        const rotor_status st =
            copy_mat(e, model_proj_mat(&e->m->layers[i / MODEL_N_PROJ], i % MODEL_N_PROJ),
                     &e->layer_mats[i]);
        if (st != ROTOR_OK) atomic_store(&job->status, st);
    }
}

static size_t copied_row_bytes(uint32_t type, size_t cols) {
    return type == KERN_F32X16 ? cols * sizeof(float) : cols / 32 * 34;
}

uint64_t run_copy_bytes(const model *m, bool int8) {
    uint64_t sum = 0;
    for (size_t i = 0; i < (size_t)m->hp.n_layer * MODEL_N_PROJ && m->hp.both_ways; i++) {
        const model_mat *w =
            model_proj_mat(&m->layers[i / MODEL_N_PROJ], (model_proj)(i % MODEL_N_PROJ));
        const uint32_t type = copy_type(int8, w);
        if (type != w->type) sum += (uint64_t)copied_row_bytes(type, w->cols) * w->rows;
    }
    return sum;
}

/* Types, sizes and, once there is memory, places of the copies; their bytes. */
static size_t place_copies(run_engine *e) {
    size_t sum = 0;
    for (size_t i = 0; i < (size_t)e->m->hp.n_layer * MODEL_N_PROJ; i++) {
        const model_mat *w =
            model_proj_mat(&e->m->layers[i / MODEL_N_PROJ], (model_proj)(i % MODEL_N_PROJ));
        const uint32_t type = copy_type(e->opt.encoder_int8 && !e->opt.float_act, w);
        if (type == w->type) continue;
        e->layer_mats[i] = run_mat(w);
        e->layer_mats[i].type = type;
        e->layer_mats[i].row_bytes = copied_row_bytes(type, w->cols);
        e->layer_mats[i].data = e->layer_copy ? e->layer_copy + sum : NULL;
        sum += (e->layer_mats[i].row_bytes * w->rows + 63) / 64 * 64;
    }
    return sum;
}

rotor_status run_copy_layers(run_engine *e, rotor_error *err) {
    copy_job job = {.e = e};
    if (!e->opt.pool || !e->m->hp.both_ways || e->layer_copy) return ROTOR_OK;
    e->layer_mats =
        base_alloc_array((size_t)e->m->hp.n_layer * MODEL_N_PROJ, sizeof *e->layer_mats);
    if (!e->layer_mats) return base_fail_nomem(err, "copying an encoder's layers");
    e->layer_copy_bytes = place_copies(e);
    if (!e->layer_copy_bytes) return ROTOR_OK;
    e->layer_copy = base_alloc_aligned(e->layer_copy_bytes);
    if (!e->layer_copy) return base_fail_nomem(err, "copying an encoder's layers");
    place_copies(e);
    par_run(e->pool, copy_mats, &job);
    return atomic_load(&job.status) == ROTOR_OK
               ? ROTOR_OK
               : base_fail_nomem(err, "copying an encoder's layers");
}

kern_mat run_layer_mat(const run_engine *e, const model_layer *l, model_proj p) {
    const size_t i = (size_t)(l - e->m->layers) * MODEL_N_PROJ + p;
    return e->layer_mats && e->layer_mats[i].data ? e->layer_mats[i]
                                                  : run_mat(model_proj_mat(l, p));
}
