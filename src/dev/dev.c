/* SPDX-License-Identifier: MIT
 *
 * The door of every device: checks the arguments that are programmers' mistakes, then hands over.
 */
#include "dev/dev.h"
#include "dev/dev_internal.h"

#include <assert.h>

void dev_free(dev **d) {
    if (!d || !*d) return;
    (*d)->vt->free(*d);
    *d = NULL;
}

const char *dev_name(const dev *d) { return d->name; }

rotor_status dev_add_mat(dev *d, const kern_mat *w, dev_mat *out, rotor_error *err) {
    assert(w->data && w->rows && w->cols);
    return d->vt->add_mat(d, w, out, err);
}

rotor_status dev_add_vec(dev *d, const float *v, size_t n, dev_vec *out, rotor_error *err) {
    assert(v && n);
    return d->vt->add_vec(d, v, n, out, err);
}

rotor_status dev_add_buf(dev *d, size_t width, dev_rows rows, dev_buf *out, rotor_error *err) {
    assert(width);
    return d->vt->add_buf(d, width, rows, out, err);
}

rotor_status dev_record(dev *d, const dev_op *ops, size_t n, rotor_error *err) {
    return d->vt->record(d, ops, n, err);
}

rotor_status dev_run(dev *d, const dev_step *step, rotor_error *err) {
    assert(step->n_rows >= 1 && step->n_picked <= step->n_rows);
    assert(step->n_best <= DEV_STAGED_BEST);
    return d->vt->run(d, step, err);
}

bool dev_can_ahead(const dev *d) { return d->vt->submit && d->vt->wait; }

rotor_status dev_submit(dev *d, const dev_step *step, rotor_error *err) {
    assert(dev_can_ahead(d) && step->n_rows >= 1 && step->n_picked <= step->n_rows);
    return d->vt->submit(d, step, err);
}

rotor_status dev_wait(dev *d, rotor_error *err) { return d->vt->wait(d, err); }

const float *dev_read(dev *d, dev_buf b, uint32_t row) { return d->vt->read(d, b, row); }

bool dev_best(dev *d, uint32_t row, uint32_t *id, float *value) {
    return d->vt->best && d->vt->best(d, row, id, value);
}

uint32_t dev_top(dev *d, uint32_t row, const uint32_t **pairs) {
    return d->vt->top ? d->vt->top(d, row, pairs) : 0;
}

bool dev_chosen(dev *d, uint32_t row, uint32_t *id) {
    return d->vt->chosen && d->vt->chosen(d, row, id);
}

void dev_copy_page(dev *d, bool ring, uint32_t dst_page, uint32_t src_page) {
    if (dst_page != src_page) d->vt->copy_page(d, ring, dst_page, src_page);
}

void dev_counters_get(const dev *d, dev_counters *out) { *out = d->counters; }

void dev_counters_add(dev_counters *sum, const dev *part) {
    const dev_counters *of = &part->counters;
    sum->dispatches += of->dispatches;
    sum->dependent += of->dependent;
    sum->meetings += of->meetings;
    sum->bytes_up += of->bytes_up;
    sum->bytes_down += of->bytes_down;
    sum->submissions += of->submissions;
    sum->allocations += of->allocations;
    sum->imported += of->imported;
    sum->wanted += of->wanted;
}

rotor_status dev_get_page(dev *d, uint32_t page, uint32_t layer, uint8_t *dst, rotor_error *err) {
    return d->vt->get_page(d, page, layer, dst, err);
}

rotor_status dev_put_page(dev *d, uint32_t page, uint32_t layer, const uint8_t *src,
                          rotor_error *err) {
    return d->vt->put_page(d, page, layer, src, err);
}

uint64_t dev_memory_bytes(const dev *d) { return d->vt->memory_bytes(d); }
rotor_status dev_time_ops(dev *d, bool on, rotor_error *err) { return d->vt->time_ops(d, on, err); }
size_t dev_op_times(const dev *d, dev_op_time *out, size_t max) {
    return d->vt->op_times(d, out, max);
}

rotor_status dev_add_staged(dev *d, const kern_mat *w, rotor_error *err) {
    if (!d->vt->add_staged)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "device %s has no staged head", d->name);
    return d->vt->add_staged(d, w, err);
}

void dev_screen(dev *d, dev_buf src, uint32_t first, uint32_t n_rows) {
    assert(n_rows <= DEV_STAGED_ROWS);
    d->vt->screen(d, src, first, n_rows);
}

bool dev_find(dev *d, uint32_t row, const dev_want *want, dev_found *found) {
    assert(want->k <= DEV_STAGED_BEST && (want->k || want->delta >= 0));
    return d->vt->find(d, row, want, found);
}

void dev_product(dev *d, dev_mat w, dev_buf src, dev_buf dst, uint32_t n_rows) {
    assert(d->vt->product); /* where there is a staged head */
    d->vt->product(d, w, src, dst, n_rows);
}

void dev_staged_stats_get(const dev *d, dev_staged_stats *out) { *out = d->staged; }

rotor_status dev_check_start(dev *d, rotor_error *err) {
    if (!d->vt->check_start)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "device %s does no product twice", d->name);
    return d->vt->check_start(d, err);
}

void dev_check_arm(dev *d, size_t n, uint64_t seed) {
    if (d->vt->check_arm) d->vt->check_arm(d, n, seed);
}

size_t dev_check_products(const dev *d) {
    return d->vt->check_products ? d->vt->check_products(d) : 0;
}

bool dev_check_fault(const dev *d, dev_fault *out) {
    return d->vt->check_fault && d->vt->check_fault(d, out);
}

dev_check_stats dev_check_get(const dev *d) {
    return d->vt->check_get ? d->vt->check_get(d) : (dev_check_stats){0};
}

const char *dev_kind_name(dev_kind kind) {
    static const char *const names[] = {
        [DEV_EMBED] = "embed",
        [DEV_RMSNORM] = "norm",
        [DEV_BIAS] = "bias",
        [DEV_QUANT_I8] = "quantise",
        [DEV_QUANT_Q8] = "quantise blocks",
        [DEV_MATMUL] = "product",
        [DEV_ROPE] = "rotate",
        [DEV_KV_APPEND] = "store keys and values",
        [DEV_ATTENTION] = "attention",
        [DEV_GLU] = "activation",
        [DEV_ADD] = "add",
        [DEV_PICK] = "pick",
        [DEV_ROUTE] = "route",
        [DEV_GATHER] = "gather",
        [DEV_EXPERTS] = "experts",
        [DEV_MIX] = "mix",
        [DEV_CAP] = "cap",
        [DEV_POOL] = "pool",
        [DEV_ADD_GATED] = "add gated",
    };
    return names[kind];
}

rotor_status dev_trace(dev *d, base_trace *t, dev_name_of *name_of, const void *user,
                       rotor_error *err) {
    return d->vt->trace ? d->vt->trace(d, t, name_of, user, err) : ROTOR_OK;
}

size_t dev_first_unusable(const float *x, size_t n) {
    size_t i = 0;
    while (i < n && x[i] >= -1e30f && x[i] <= 1e30f) i++;
    return i;
}

/* ==== Who reads and writes what =============================================================== */

bool dev_op_reads(const dev_op *op, dev_buf b) {
    switch (op->kind) {
    case DEV_EMBED:
        return false;
    case DEV_BIAS:
    case DEV_ROPE:
    case DEV_CAP:
        return op->dst[0] == b;
    case DEV_ADD:
        return op->dst[0] == b || op->src == b;
    case DEV_ADD_GATED:
        return op->dst[0] == b || op->src == b || op->src2 == b;
    case DEV_KV_APPEND:
    case DEV_GLU:
        return op->src == b || op->src2 == b;
    default:
        return op->src == b;
    }
}

bool dev_op_writes(const dev_op *op, dev_buf b) {
    if (dev_is_quant(op->kind) || op->kind == DEV_KV_APPEND || op->kind == DEV_ROUTE) return false;
    for (int i = 0; i < BASE_MAX(op->n_mats, 1); i++)
        if (op->dst[i] == b) return true;
    return false;
}
