/* SPDX-License-Identifier: MIT
 *
 * Matrices on a GPU: packed (gpu_pack.h) group by group into a staging buffer of the host and
 * uploaded once. A matrix that is larger than one allocation or one binding of the device may be is
 * cut into pieces of whole groups of rows.
 */
#include "dev/gpu/dev_gpu.h"

#include <assert.h>

enum { STAGING_BYTES = 8 << 20 };

static size_t groups_of(size_t rows) { return (rows + GPU_ROWS - 1) / GPU_ROWS; }

/* All of one form and width, and each but the last ends where a group ends. */
bool gpu_can_join(const dev_gpu *d, const dev_mat *w, uint8_t n) {
    gpu_type first, type;
    for (uint8_t i = 0; i < n; i++) {
        const kern_mat *m = &d->mats[w[i]];
        if (!gpu_type_of(&d->mats[w[0]], &first) || !gpu_type_of(m, &type) || type != first ||
            m->cols != d->mats[w[0]].cols || (i + 1 < n && m->rows % GPU_ROWS))
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

/* Groups [begin, end) of the joined matrices, packed into dst. */
static void pack_groups(const dev_gpu *d, const gpu_weights *w, size_t begin, size_t end,
                        uint32_t *dst) {
    size_t before = 0;
    for (uint8_t i = 0; i < w->n; i++) {
        const kern_mat *m = &d->mats[w->w[i]];
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
    const size_t first = p->row0 / GPU_ROWS, n = groups_of(p->rows);
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
    const size_t per_piece = (size_t)(most / group_bytes), n = groups_of(w->rows);
    if (!per_piece)
        return base_fail(err, ROTOR_E_NOMEM, "device %s cannot hold a group of %d rows",
                         d->g->facts.name, GPU_ROWS);
    uint32_t *staging = base_alloc_array(BASE_MAX((size_t)STAGING_BYTES, group_bytes), 1);
    w->pieces = base_alloc_array((n + per_piece - 1) / per_piece, sizeof *w->pieces);
    rotor_status st = staging && w->pieces ? ROTOR_OK : base_fail_nomem(err, "uploading weights");
    for (size_t g = 0; g < n && st == ROTOR_OK; g += per_piece) {
        gpu_piece *p = &w->pieces[w->n_pieces];
        const size_t groups = BASE_MIN(per_piece, n - g);
        p->row0 = (uint32_t)(g * GPU_ROWS);
        p->rows = (uint32_t)BASE_MIN(groups * GPU_ROWS, w->rows - g * GPU_ROWS);
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

rotor_status gpu_add_weights(dev_gpu *d, const dev_mat *w, uint8_t n, rotor_error *err) {
    gpu_weights *list = base_realloc(d->weights, (d->n_weights + 1) * sizeof *list);
    if (!list) return base_fail_nomem(err, "listing weights");
    d->weights = list;
    gpu_weights *out = &list[d->n_weights];
    *out = (gpu_weights){.n = n, .cols = (uint32_t)d->mats[w[0]].cols};
    memcpy(out->w, w, n * sizeof *w);
    for (size_t i = 0; i < d->n_weights; i++)
        if (same(d, &list[i], w, n)) {
            *out = list[i];
            out->n_pieces = list[i].n_pieces;
            out->shared = true;
            return d->n_weights++, ROTOR_OK;
        }
    gpu_type_of(&d->mats[w[0]], &out->type);
    out->n_u = (uint32_t)gpu_row_words(out->type, out->cols);
    out->scale = d->mats[w[0]].scale;
    for (uint8_t i = 0; i < n; i++) out->rows += (uint32_t)d->mats[w[i]].rows;
    d->n_weights++;
    ROTOR_TRY(upload_scales(d, out, err));
    return upload(d, out, err);
}

void gpu_weights_free(dev_gpu *d, gpu_weights *w) {
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
