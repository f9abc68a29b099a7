/* SPDX-License-Identifier: MIT
 *
 * Ternary weights that are used where the file has them hold only legal codes: looked at once, for
 * the whole model together, so that all threads are busy until the last byte. This is also what
 * brings the weights into memory. One of the threads first does what the caller wants done
 * meanwhile and cannot share out: it takes fewer pieces then.
 */
#include "model/model_internal.h"

#include <stdatomic.h>

enum { PIECE_BYTES = 1 << 20, LOOK_BYTES = 4096 };

/* One tensor to be checked. */
typedef struct check {
    const model_mat *w; /* T2 rows or T5 groups in the file */
    size_t first;       /* number of its first piece */
} check;

typedef struct check_job {
    check *list;                  /* [n], owned */
    size_t n;                     /* tensors */
    size_t n_pieces;              /* of all tensors */
    atomic_size_t taken;          /* pieces begun */
    atomic_size_t first_bad;      /* lowest piece with an illegal code; n_pieces: none */
    void (*meanwhile)(void *arg); /* done by the last thread before its first piece */
    void *arg;                    /* for it */
} check_job;

static size_t bytes_of(const model_mat *w) {
    if (w->type == QUANT_T5) return (size_t)quant_t5_code_bytes(w->rows, w->cols);
    return w->rows * w->row_bytes;
}

/* A code 3 is a pair of ones in an even-odd bit pair. What stands LOOK_BYTES further is asked for
 * meanwhile: it may begin a page that the processor would not think of. */
static bool has_code_3(const uint8_t *p, size_t n) {
    uint64_t bad = 0, v[4], sum[4] = {0};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        if (i % 64 == 0) __builtin_prefetch(p + i + LOOK_BYTES);
        memcpy(v, p + i, 32);
        for (int k = 0; k < 4; k++) sum[k] |= v[k] & v[k] >> 1;
    }
    for (int k = 0; k < 4; k++) bad |= sum[k];
    for (; i < n; i++) bad |= (uint64_t)(p[i] & p[i] >> 1);
    return (bad & 0x5555555555555555u) != 0;
}

static bool has_illegal(const model_mat *w, const uint8_t *p, size_t n) {
    size_t at;
    return w->type == QUANT_T5 ? !quant_t5_check(p, n, &at) : has_code_3(p, n);
}

/* Where the first one stands of a piece that has one. */
static size_t first_illegal(const model_mat *w, const uint8_t *p, size_t n) {
    size_t at = 0;
    if (w->type == QUANT_T5)
        quant_t5_check(p, n, &at);
    else
        while (at + 1 < n && !(p[at] & p[at] >> 1 & 0x55)) at++;
    return at;
}

/* The bytes of a piece. */
static const uint8_t *piece_at(const check_job *job, size_t piece, const model_mat **w, size_t *n) {
    size_t lo = 0, hi = job->n;
    while (hi - lo > 1) {
        const size_t mid = (lo + hi) / 2;
        *(job->list[mid].first <= piece ? &lo : &hi) = mid;
    }
    *w = job->list[lo].w;
    const size_t at = (piece - job->list[lo].first) * PIECE_BYTES;
    *n = BASE_MIN(bytes_of(*w) - at, (size_t)PIECE_BYTES);
    return (*w)->data + at;
}

static void check_pieces(void *arg, int thread, int n_threads) {
    check_job *job = arg;
    if (thread == n_threads - 1) job->meanwhile(job->arg);
    /* Pieces are taken in order: behind a bad one nothing is worth looking at. */
    for (size_t piece; (piece = atomic_fetch_add(&job->taken, 1)) < atomic_load(&job->first_bad);) {
        const model_mat *w;
        size_t n;
        const uint8_t *p = piece_at(job, piece, &w, &n);
        bool bad = false;
        for (size_t i = 0; i < n && !bad; i += LOOK_BYTES)
            bad = has_illegal(w, p + i, BASE_MIN(n - i, (size_t)LOOK_BYTES));
        size_t lowest = atomic_load(&job->first_bad);
        while (bad && piece < lowest &&
               !atomic_compare_exchange_weak(&job->first_bad, &lowest, piece)) {
        }
    }
}

static rotor_status verdict(const model_loader *ld, const check_job *job) {
    const model_mat *w;
    size_t n;
    if (job->first_bad == job->n_pieces) return ROTOR_OK;
    const uint8_t *p = piece_at(job, job->first_bad, &w, &n);
    const size_t at = (size_t)(p - w->data) + first_illegal(w, p, n);
    if (w->type == QUANT_T5) {
        const size_t group = w->row_bytes * QUANT_T5_ROWS, row = at / group * QUANT_T5_ROWS;
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: tensor %s: byte 0x%02X in rows %zu-%zu, byte %zu, is no string of "
                         "five digits",
                         file_path(ld->f), w->name, w->data[at], row, row + QUANT_T5_ROWS - 1,
                         at % group);
    }
    return base_fail(ld->err, ROTOR_E_FORMAT,
                     "%s: tensor %s: illegal ternary code in row %zu, byte %zu; the file may be "
                     "written in another I2_S byte order: try --i2s-layout arm or 4row",
                     file_path(ld->f), w->name, at / w->row_bytes, at % w->row_bytes);
}

static void add(check_job *job, const model_mat *w) {
    if (!w->unchecked) return;
    job->list[job->n++] = (check){w, job->n_pieces};
    job->n_pieces += (bytes_of(w) + PIECE_BYTES - 1) / PIECE_BYTES;
}

enum { MATS = 12 }; /* matrices of a layer */

rotor_status model_check_codes(const model_loader *ld, void (*meanwhile)(void *arg), void *arg) {
    const model *m = ld->m;
    check_job job = {.list = base_alloc_array((size_t)m->hp.n_layer * MATS, sizeof *job.list),
                     .meanwhile = meanwhile,
                     .arg = arg};
    if (!job.list) return base_fail_nomem(ld->err, "checking ternary weights");
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        const model_layer *w = &m->layers[l];
        const model_mat *const mats[MATS] = {
            &w->q,    &w->k,      &w->v,           &w->o,         &w->gate,        &w->up,
            &w->down, &w->router, &w->shared_gate, &w->shared_up, &w->shared_down, &w->shared_by};
        for (size_t i = 0; i < MATS; i++) add(&job, mats[i]);
    }
    atomic_store(&job.first_bad, job.n_pieces);
    const model_parallel *p = &ld->opt->parallel;
    if (p->pool)
        p->run(p->pool, check_pieces, &job);
    else
        check_pieces(&job, 0, 1);
    const rotor_status st = verdict(ld, &job);
    base_free(job.list);
    return st;
}
