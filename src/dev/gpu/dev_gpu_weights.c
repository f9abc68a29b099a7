/* SPDX-License-Identifier: MIT
 *
 * Matrices on a GPU: packed (gpu_pack.h) group by group into a staging buffer of the host and
 * uploaded once. A matrix that is larger than one allocation or one binding of the device may be is
 * cut into pieces of whole groups of rows.
 *
 * Products want the rows of a file side by side, so what they read is always a copy. A table that
 * only DEV_EMBED reads, a row at a time, may stay where it is: on a device that shares the host's
 * memory its pages are imported, and nothing is uploaded. Where that does not work, for whatever
 * reason, the table is a matrix like the others.
 */
#include "dev/gpu/dev_gpu.h"

#include <assert.h>

enum { STAGING_BYTES = 8 << 20 };

static size_t groups_of(size_t rows) { return (rows + GPU_ROWS - 1) / GPU_ROWS; }

/* All of one form and width, and each but the last ends where a group ends. */
bool gpu_can_join(const dev_gpu *d, const dev_mat *w, uint8_t n, uint32_t n_expert) {
    gpu_type first, type;
    for (uint8_t i = 0; i < n; i++) {
        const kern_mat *m = &d->mats[w[i]];
        if (!gpu_type_of(&d->mats[w[0]], &first) || !gpu_type_of(m, &type) || type != first ||
            m->cols != d->mats[w[0]].cols || (i + 1 < n && m->rows / n_expert % GPU_ROWS))
            return false;
    }
    return true;
}

/* Ternary rows always have a scale each; others only where a matrix has one. */
static bool wants_scales(const dev_gpu *d, const gpu_weights *w) {
    bool any = w->type == GPU_T2;
    for (uint8_t i = 0; i < w->n; i++) any = any || d->mats[w->w[i]].scale != 1.0f;
    return any;
}

static rotor_status upload_scales(dev_gpu *d, gpu_weights *w, rotor_error *err) {
    if (!wants_scales(d, w)) return ROTOR_OK;
    float *rs = base_alloc_array(w->rows, sizeof *rs);
    if (!rs) return base_fail_nomem(err, "uploading weights");
    size_t at = 0;
    for (uint8_t i = 0; i < w->n; i++) {
        const kern_mat *m = &d->mats[w->w[i]];
        for (size_t r = 0; r < m->rows; r++) rs[at++] = m->row_scale ? m->row_scale[r] : m->scale;
    }
    rotor_status st = d->api->alloc(d->g, w->rows * sizeof *rs, false, &w->rs, err);
    if (st == ROTOR_OK) st = d->api->write(d->g, w->rs, 0, rs, w->rows * sizeof *rs, err);
    base_free(rs);
    return st;
}

/* The i-th matrix, of an expert. */
static kern_mat matrix_of(const dev_gpu *d, const gpu_weights *w, uint32_t i, uint32_t expert) {
    kern_mat m = d->mats[w->w[i]];
    m.rows /= BASE_MAX(w->n_expert, 1u);
    m.data += expert * m.rows * m.row_bytes;
    return m;
}

/* Groups [begin, end) of the joined matrices, packed into dst. */
static void pack_groups(const dev_gpu *d, const gpu_weights *w, size_t begin, size_t end,
                        uint32_t *dst) {
    size_t before = 0;
    for (uint32_t k = 0; k < w->n * BASE_MAX(w->n_expert, 1u); k++) { /* an expert's side by side */
        const kern_mat one = matrix_of(d, w, k % w->n, k / w->n), *m = &one;
        const size_t n = groups_of(m->rows);
        const size_t from = BASE_MIN(BASE_MAX(begin, before) - before, n);
        const size_t to = BASE_MIN(BASE_MAX(end, before) - before, n);
        if (from < to)
            gpu_pack(m, w->type, from, to, dst + (before + from - begin) * GPU_ROWS * w->n_u);
        before += n;
    }
}

static rotor_status upload_piece(dev_gpu *d, const gpu_weights *w, const gpu_piece *p,
                                 uint32_t *staging, rotor_error *err) {
    const size_t group_bytes = (size_t)GPU_ROWS * w->n_u * 4;
    const size_t at_once = BASE_MAX(STAGING_BYTES / group_bytes, (size_t)1);
    const size_t each = groups_of(w->rows);
    const size_t first = w->n_expert ? p->row0 * each : p->row0 / GPU_ROWS;
    const size_t n = w->n_expert ? p->rows * each : groups_of(p->rows);
    for (size_t g = 0; g < n; g += at_once) {
        const size_t end = BASE_MIN(g + at_once, n);
        pack_groups(d, w, first + g, first + end, staging);
        ROTOR_TRY(
            d->api->write(d->g, p->mem, g * group_bytes, staging, (end - g) * group_bytes, err));
    }
    return ROTOR_OK;
}

static rotor_status upload(dev_gpu *d, gpu_weights *w, rotor_error *err) {
    const uint64_t group_bytes = (uint64_t)GPU_ROWS * w->n_u * 4;
    const uint64_t most = BASE_MIN(d->g->facts.max_alloc_bytes, d->g->facts.max_bind_bytes);
    const size_t n = groups_of(w->rows) * BASE_MAX(w->n_expert, 1u);
    const size_t whole = w->n_expert ? groups_of(w->rows) : 1; /* groups that are not torn apart */
    const size_t per_piece = (size_t)(most / group_bytes) / whole * whole;
    if (!per_piece)
        return base_fail(err, ROTOR_E_NOMEM, "device %s cannot hold a group of %zu rows",
                         d->g->facts.name, whole * GPU_ROWS);
    uint32_t *staging = base_alloc_array(BASE_MAX((size_t)STAGING_BYTES, group_bytes), 1);
    w->pieces = base_alloc_array((n + per_piece - 1) / per_piece, sizeof *w->pieces);
    rotor_status st = staging && w->pieces ? ROTOR_OK : base_fail_nomem(err, "uploading weights");
    for (size_t g = 0; g < n && st == ROTOR_OK; g += per_piece) {
        gpu_piece *p = &w->pieces[w->n_pieces];
        const size_t groups = BASE_MIN(per_piece, n - g);
        p->row0 = (uint32_t)(w->n_expert ? g / whole : g * GPU_ROWS);
        p->rows = (uint32_t)(w->n_expert ? groups / whole
                                         : BASE_MIN(groups * GPU_ROWS, w->rows - g * GPU_ROWS));
        st = d->api->alloc(d->g, groups * group_bytes, false, &p->mem, err);
        if (st != ROTOR_OK) break;
        w->n_pieces++;
        d->weight_bytes += groups * group_bytes;
        st = upload_piece(d, w, p, staging, err);
    }
    base_free(staging);
    return st;
}

/* The same matrices may serve two ops (a tied head is also the table): once is enough. */
static bool same(const dev_gpu *d, const gpu_weights *w, const dev_mat *mats, uint8_t n) {
    if (w->n != n) return false;
    for (uint8_t i = 0; i < n; i++) {
        const kern_mat *a = &d->mats[w->w[i]], *b = &d->mats[mats[i]];
        if (a->data != b->data || a->type != b->type || a->rows != b->rows || a->cols != b->cols ||
            a->scale != b->scale)
            return false;
    }
    return true;
}

/* Lists them; *out->shared: as memory they are there already. */
static rotor_status list_weights(dev_gpu *d, const dev_mat *w, uint8_t n, gpu_weights **added,
                                 rotor_error *err) {
    gpu_weights *list = base_realloc(d->weights, (d->n_weights + 1) * sizeof *list);
    if (!list) return base_fail_nomem(err, "listing weights");
    d->weights = list;
    gpu_weights *out = &list[d->n_weights];
    *out = (gpu_weights){.n = n, .cols = (uint32_t)d->mats[w[0]].cols};
    memcpy(out->w, w, n * sizeof *w);
    *added = out;
    for (size_t i = 0; i < d->n_weights; i++)
        if (same(d, &list[i], w, n)) {
            *out = list[i];
            out->n_pieces = list[i].n_pieces;
            out->shared = true;
            out->bias = NULL;
            return d->n_weights++, ROTOR_OK;
        }
    gpu_type_of(&d->mats[w[0]], &out->type);
    out->n_u = (uint32_t)gpu_row_words(out->type, out->cols);
    out->scale = d->mats[w[0]].scale;
    for (uint8_t i = 0; i < n; i++) out->rows += (uint32_t)d->mats[w[i]].rows;
    d->n_weights++;
    return ROTOR_OK;
}

rotor_status gpu_add_weights(dev_gpu *d, const dev_mat *w, uint8_t n, rotor_error *err) {
    gpu_weights *out = NULL;
    ROTOR_TRY(list_weights(d, w, n, &out, err));
    if (out->shared) return ROTOR_OK;
    ROTOR_TRY(upload_scales(d, out, err));
    return upload(d, out, err);
}

rotor_status gpu_add_experts(dev_gpu *d, const dev_mat *w, uint8_t n, rotor_error *err) {
    gpu_weights *out = NULL;
    ROTOR_TRY(list_weights(d, w, n, &out, err));
    if (out->shared) return ROTOR_OK;
    out->n_expert = d->shape.n_expert;
    out->rows /= out->n_expert;
    if (wants_scales(d, out))
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "device %s has no kernels for experts of this type", d->g->facts.name);
    return upload(d, out, err);
}

rotor_status gpu_add_bias(dev_gpu *d, gpu_weights *w, const float *const *v, rotor_error *err) {
    const uint32_t n_expert = BASE_MAX(w->n_expert, 1u);
    const size_t bytes = (size_t)w->rows * n_expert * sizeof(float);
    float *all = base_alloc(bytes), *to = all; /* zeroed: not every matrix may have one */
    if (!all) return base_fail_nomem(err, "uploading biases");
    for (uint32_t e = 0; e < n_expert; e++)
        for (uint8_t i = 0; i < w->n; i++) {
            const size_t rows = d->mats[w->w[i]].rows / n_expert;
            if (v[i]) memcpy(to, v[i] + e * rows, rows * sizeof *to);
            to += rows;
        }
    rotor_status st = d->api->alloc(d->g, bytes, false, &w->bias, err);
    if (st == ROTOR_OK) st = d->api->write(d->g, w->bias, 0, all, bytes, err);
    if (st == ROTOR_OK) d->weight_bytes += bytes;
    base_free(all);
    return st;
}

/* ==== A table that stays where it is ========================================================== */

/* The kernel takes any row of whole halves of words; T5, MXFP4 and what becomes GPU_B32 are no such
 * rows as they are packed. */
bool dev_gpu_can_import(const kern_mat *w) {
    gpu_type type;
    return gpu_type_of(w, &type) && type != GPU_B32 && type != GPU_MXFP4 && w->type != QUANT_T5 &&
           w->type != KERN_Q8X16 && w->row_bytes % 2 == 0 && (uintptr_t)w->data % 2 == 0;
}

static bool only_a_table(const dev_gpu *d, const kern_mat *w) {
    for (size_t i = 0; i < d->n_ops; i++)
        for (uint8_t m = 0; m < d->ops[i].n_mats && d->ops[i].kind != DEV_EMBED; m++)
            if (d->mats[d->ops[i].w[m]].data == w->data) return false;
    return true;
}

/* The device reads the ends of what it was given: what is there? */
static rotor_status check_import(dev_gpu *d, gpu_mem *m, const uint8_t *host, uint64_t bytes,
                                 rotor_error *err) {
    uint8_t seen[64];
    const uint64_t ends[] = {0, bytes - sizeof seen};
    for (size_t i = 0; i < BASE_COUNT(ends); i++) {
        ROTOR_TRY(d->api->read(d->g, m, ends[i], seen, sizeof seen, err));
        if (memcmp(seen, host + ends[i], sizeof seen) != 0)
            return base_fail(err, ROTOR_E_UNSUPPORTED, "device %s reads other bytes than the host",
                             d->g->facts.name);
    }
    return ROTOR_OK;
}

/* The rows of a piece, in whole pages. */
static rotor_status import_piece(dev_gpu *d, const kern_mat *w, gpu_piece *p, rotor_error *err) {
    const uintptr_t page = base_page_bytes(), first = (uintptr_t)w->data + p->row0 * w->row_bytes;
    const uintptr_t begin = first / page * page;
    const uintptr_t end = (first + p->rows * w->row_bytes + page - 1) / page * page;
    const uint8_t *host = (const uint8_t *)begin;
    p->at = (uint32_t)((first - begin) / 2);
    ROTOR_TRY(d->api->import(d->g, host, end - begin, &p->mem, err));
    return check_import(d, p->mem, host, end - begin, err);
}

static rotor_status import_table(dev_gpu *d, gpu_weights *out, rotor_error *err) {
    const kern_mat *w = &d->mats[out->w[0]];
    const uint64_t limit = BASE_MIN(d->g->facts.max_alloc_bytes, d->g->facts.max_bind_bytes);
    const uint64_t most = BASE_MIN(limit, UINT32_MAX), around = 2 * base_page_bytes();
    const size_t at_once = most > around ? (size_t)((most - around) / w->row_bytes) : 0;
    if (!d->g->facts.imports || !d->api->import || !at_once || !dev_gpu_can_import(w) ||
        !only_a_table(d, w))
        return base_fail(err, ROTOR_E_UNSUPPORTED, "the table is not one to import");
    out->pieces = base_alloc_array((w->rows + at_once - 1) / at_once, sizeof *out->pieces);
    if (!out->pieces) return base_fail_nomem(err, "importing weights");
    rotor_status st = ROTOR_OK;
    for (size_t row = 0; row < w->rows && st == ROTOR_OK; row += at_once) {
        gpu_piece *p = &out->pieces[out->n_pieces++];
        p->row0 = (uint32_t)row;
        p->rows = (uint32_t)BASE_MIN(at_once, w->rows - row);
        st = import_piece(d, w, p, err);
    }
    return st;
}

rotor_status gpu_add_table(dev_gpu *d, dev_mat w, rotor_error *err) {
    gpu_weights *out = NULL;
    rotor_error why = {0};
    ROTOR_TRY(list_weights(d, &w, 1, &out, err));
    if (out->shared) return ROTOR_OK;
    const rotor_status st = import_table(d, out, &why);
    if (st == ROTOR_OK) {
        out->imported = true;
        d->base.counters.imported += d->mats[w].rows * d->mats[w].row_bytes;
        return ROTOR_OK;
    }
    gpu_weights_free(d, out);
    out->pieces = NULL;
    out->n_pieces = 0;
    if (st == ROTOR_E_DEVICE) return base_fail(err, st, "%s", why.message);
    ROTOR_TRY(upload_scales(d, out, err));
    return upload(d, out, err);
}

void gpu_weights_free(dev_gpu *d, gpu_weights *w) {
    d->api->mem_free(d->g, w->bias);
    if (w->shared) return;
    for (size_t i = 0; i < w->n_pieces; i++) d->api->mem_free(d->g, w->pieces[i].mem);
    d->api->mem_free(d->g, w->rs);
    base_free(w->pieces);
}

/* ==== For whoever decides what goes where ===================================================== */

uint64_t dev_gpu_mat_bytes(const kern_mat *w) {
    gpu_type type;
    if (!gpu_type_of(w, &type)) return 0;
    const bool scales = type == GPU_T2 || w->scale != 1.0f;
    return (uint64_t)groups_of(w->rows) * GPU_ROWS * gpu_row_words(type, w->cols) * 4 +
           (scales ? w->rows * sizeof(float) : 0);
}
