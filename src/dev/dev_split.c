/* SPDX-License-Identifier: MIT
 *
 * Two devices as one: the first takes the embedding and the first layers of a pass, the second the
 * other layers, the last norm and the head. dev_record cuts the list where one buffer, the residual
 * stream, is all that lives on; a step runs the first part, carries that buffer's rows over through
 * the host, and runs the second part:
 *
 *   | embedding, layers 0 .. n-1 | -- rows of one buffer --> | layers n .., norm, head |
 *         first device                                              second device
 *
 * What is added waits until the list says which side reads it, so that weights go only where they
 * are used. What the first part does not use is the second's: the rows with logits live there, and
 * so does all that is asked about them afterwards. A side counts its layers from 0.
 *
 * A split is a device like any other and may be the second of another one: a host that looks up
 * tokens, a GPU with the layers, the host again for the head.
 */
#include "dev/dev_internal.h"

#include <assert.h>
#include <stdio.h>

/* Handles of one thing on both sides; DEV_NONE: it is not there. */
typedef struct both {
    uint32_t on[2]; /* first, second */
} both;

typedef struct split_mat {
    kern_mat w;  /* borrowed data */
    both handle; /* of it */
} split_mat;

typedef struct split_vec {
    const float *v; /* borrowed */
    size_t n;       /* elements */
    both handle;    /* of it */
} split_vec;

typedef struct split_buf {
    size_t width;  /* floats per row */
    dev_rows rows; /* what its rows are */
    both handle;   /* of it */
} split_buf;

typedef struct dev_split {
    dev base;           /* first member: the public face */
    dev *side[2];       /* first and second, owned */
    uint32_t n_layer;   /* layers of the first */
    uint32_t max_rows;  /* largest step */
    split_mat *mats;    /* owned list */
    size_t n_mats;      /* in use */
    split_vec *vecs;    /* owned list */
    size_t n_vecs;      /* in use */
    split_buf *bufs;    /* owned list */
    size_t n_bufs;      /* in use */
    dev_buf carried;    /* what lives across the cut */
    float *rows;        /* [max_rows, its width] on its way, owned */
    uint64_t row_bytes; /* of all of it */
    char name[192];     /* of both */
} dev_split;

static const both nowhere = {{DEV_NONE, DEV_NONE}};

/* ==== Set-up before dev_record ================================================================ */

static rotor_status add_mat(dev *base, const kern_mat *w, dev_mat *out, rotor_error *err) {
    dev_split *d = (dev_split *)base;
    split_mat *list = dev_list_grow(d->mats, d->n_mats, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing weights");
    d->mats = list;
    list[d->n_mats] = (split_mat){*w, nowhere};
    *out = (dev_mat)d->n_mats++;
    return ROTOR_OK;
}

static rotor_status add_vec(dev *base, const float *v, size_t n, dev_vec *out, rotor_error *err) {
    dev_split *d = (dev_split *)base;
    split_vec *list = dev_list_grow(d->vecs, d->n_vecs, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing vectors");
    d->vecs = list;
    list[d->n_vecs] = (split_vec){v, n, nowhere};
    *out = (dev_vec)d->n_vecs++;
    return ROTOR_OK;
}

static rotor_status add_buf(dev *base, size_t width, dev_rows rows, dev_buf *out,
                            rotor_error *err) {
    dev_split *d = (dev_split *)base;
    split_buf *list = dev_list_grow(d->bufs, d->n_bufs, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing buffers");
    d->bufs = list;
    list[d->n_bufs] = (split_buf){width, rows, nowhere};
    *out = (dev_buf)d->n_bufs++;
    return ROTOR_OK;
}

static rotor_status add_staged(dev *base, const kern_mat *w, rotor_error *err) {
    return dev_add_staged(((dev_split *)base)->side[1], w, err);
}

/* ==== A side's own handles, made when it first needs them ===================================== */

static rotor_status own_mat(dev_split *d, dev_mat *w, int side, rotor_error *err) {
    split_mat *m = &d->mats[*w];
    if (m->handle.on[side] == DEV_NONE)
        ROTOR_TRY(dev_add_mat(d->side[side], &m->w, &m->handle.on[side], err));
    *w = m->handle.on[side];
    return ROTOR_OK;
}

static rotor_status own_vec(dev_split *d, dev_vec *v, int side, rotor_error *err) {
    split_vec *s = &d->vecs[*v];
    if (s->handle.on[side] == DEV_NONE)
        ROTOR_TRY(dev_add_vec(d->side[side], s->v, s->n, &s->handle.on[side], err));
    *v = s->handle.on[side];
    return ROTOR_OK;
}

static rotor_status own_buf(dev_split *d, dev_buf *b, int side, rotor_error *err) {
    split_buf *s = &d->bufs[*b];
    if (s->handle.on[side] == DEV_NONE)
        ROTOR_TRY(dev_add_buf(d->side[side], s->width, s->rows, &s->handle.on[side], err));
    *b = s->handle.on[side];
    return ROTOR_OK;
}

/* An op in the words of its side. */
static rotor_status own_op(dev_split *d, dev_op *op, int side, rotor_error *err) {
    const dev_kind k = op->kind;
    const bool cache = k == DEV_KV_APPEND || k == DEV_ATTENTION;
    if (cache && side == 1) op->layer -= d->n_layer;
    for (int i = 0; i < op->n_mats; i++) ROTOR_TRY(own_mat(d, &op->w[i], side, err));
    if (k == DEV_RMSNORM || k == DEV_BIAS || (k == DEV_ATTENTION && op->sinks))
        ROTOR_TRY(own_vec(d, &op->vec, side, err));
    if (!dev_is_quant(k) && k != DEV_KV_APPEND && k != DEV_ROUTE)
        for (int i = 0; i < BASE_MAX(op->n_mats, 1); i++)
            ROTOR_TRY(own_buf(d, &op->dst[i], side, err));
    if (k != DEV_EMBED && k != DEV_BIAS && k != DEV_ROPE && k != DEV_CAP)
        ROTOR_TRY(own_buf(d, &op->src, side, err));
    if (k == DEV_KV_APPEND || (k == DEV_GLU && op->src2 != DEV_NONE) || k == DEV_ADD_GATED)
        ROTOR_TRY(own_buf(d, &op->src2, side, err));
    return ROTOR_OK;
}

/* ==== The cut ================================================================================= */

/* Whether b, as it is before op `from`, is read from there on. */
static bool lives(const dev_op *ops, size_t n, size_t from, dev_buf b) {
    for (size_t i = from; i < n; i++) {
        if (dev_op_reads(&ops[i], b)) return true;
        if (dev_op_writes(&ops[i], b)) return false;
    }
    return false;
}

/* Whether op `at` leaves one row behind it that later ops read, and that is all they read. */
static bool can_cut_behind(const dev_split *d, const dev_op *ops, size_t n, size_t at) {
    if (ops[at].kind != DEV_ADD && ops[at].kind != DEV_EMBED) return false;
    for (dev_buf b = 0; b < d->n_bufs; b++)
        if ((b == ops[at].dst[0]) != lives(ops, n, at + 1, b)) return false;
    return true;
}

/* The first op of the second part: as late as can be before the second's first layer stores its
 * keys, or before the rows with logits are picked. */
static size_t find_cut(const dev_split *d, const dev_op *ops, size_t n) {
    size_t at = 0;
    while (at < n && ops[at].kind != DEV_PICK &&
           !(ops[at].kind == DEV_KV_APPEND && ops[at].layer >= d->n_layer))
        at++;
    while (at > 0 && !can_cut_behind(d, ops, n, at - 1)) at--;
    assert(at > 0 && at < n); /* a decoder has such a place between its layers */
    return at;
}

/* ==== dev_record ============================================================================== */

/* What the first side has no use for belongs to the second. */
static rotor_status give_rest(dev_split *d, rotor_error *err) {
    for (uint32_t i = 0, h = 0; i < d->n_mats; h = ++i)
        if (d->mats[i].handle.on[0] == DEV_NONE) ROTOR_TRY(own_mat(d, &h, 1, err));
    for (uint32_t i = 0, h = 0; i < d->n_bufs; h = ++i)
        if (d->bufs[i].handle.on[0] == DEV_NONE) ROTOR_TRY(own_buf(d, &h, 1, err));
    return ROTOR_OK;
}

/* Counters of a split are those of its sides. */
static void count(dev_split *d) {
    dev_counters *c = &d->base.counters, sum = {.steps = c->steps};
    for (int i = 0; i < 2; i++) dev_counters_add(&sum, d->side[i]);
    *c = sum;
}

static rotor_status record_parts(dev_split *d, dev_op *ops, size_t n, size_t at, rotor_error *err) {
    d->carried = ops[at - 1].dst[0];
    d->row_bytes = (uint64_t)d->max_rows * d->bufs[d->carried].width * sizeof *d->rows;
    base_free_aligned(d->rows);
    d->rows = base_alloc_aligned((size_t)d->row_bytes);
    if (!d->rows) return base_fail_nomem(err, "recording a step");
    for (size_t i = 0; i < n; i++) ROTOR_TRY(own_op(d, &ops[i], i >= at, err));
    ROTOR_TRY(give_rest(d, err));
    ROTOR_TRY(dev_record(d->side[0], ops, at, err));
    ROTOR_TRY(dev_record(d->side[1], ops + at, n - at, err));
    count(d);
    return ROTOR_OK;
}

static rotor_status record(dev *base, const dev_op *ops, size_t n, rotor_error *err) {
    dev_split *d = (dev_split *)base;
    dev_op *own = base_alloc_array(n, sizeof *own);
    if (!own) return base_fail_nomem(err, "recording a step");
    memcpy(own, ops, n * sizeof *own);
    rotor_status st = record_parts(d, own, n, find_cut(d, ops, n), err);
    base_free(own);
    return st;
}

/* ==== A step ================================================================================== */

static rotor_status run(dev *base, const dev_step *step, rotor_error *err) {
    dev_split *d = (dev_split *)base;
    const both *b = &d->bufs[d->carried].handle;
    dev_step first = *step;
    first.n_picked = 0;
    ROTOR_TRY(dev_run(d->side[0], &first, err));
    ROTOR_TRY(d->side[0]->vt->get_rows(d->side[0], b->on[0], step->n_rows, d->rows, err));
    ROTOR_TRY(d->side[1]->vt->put_rows(d->side[1], b->on[1], step->n_rows, d->rows, err));
    ROTOR_TRY(dev_run(d->side[1], step, err));
    d->base.counters.steps++;
    count(d);
    return ROTOR_OK;
}

/* The side that is asked about a buffer: the second where it is there, too. */
static dev *owner(const dev_split *d, dev_buf b, dev_buf *own) {
    const both *h = &d->bufs[b].handle;
    const int side = h->on[1] != DEV_NONE;
    *own = h->on[side];
    return d->side[side];
}

static const float *read(dev *base, dev_buf b, uint32_t row) {
    dev_split *d = (dev_split *)base;
    dev *side = owner(d, b, &b);
    const float *out = dev_read(side, b, row);
    count(d);
    return out;
}

static rotor_status get_rows(dev *base, dev_buf b, uint32_t n, float *dst, rotor_error *err) {
    dev *side = owner((dev_split *)base, b, &b);
    return side->vt->get_rows(side, b, n, dst, err);
}

static rotor_status put_rows(dev *base, dev_buf b, uint32_t n, const float *src, rotor_error *err) {
    dev_split *d = (dev_split *)base;
    assert(d->bufs[b].handle.on[0] != DEV_NONE);
    return d->side[0]->vt->put_rows(d->side[0], d->bufs[b].handle.on[0], n, src, err);
}

static bool best(dev *base, uint32_t row, uint32_t *id, float *value) {
    return dev_best(((dev_split *)base)->side[1], row, id, value);
}

static uint32_t top(dev *base, uint32_t row, const uint32_t **pairs) {
    return dev_top(((dev_split *)base)->side[1], row, pairs);
}

static void copy_page(dev *base, bool ring, uint32_t dst_page, uint32_t src_page) {
    dev_split *d = (dev_split *)base;
    for (int i = 0; i < 2; i++) dev_copy_page(d->side[i], ring, dst_page, src_page);
    count(d);
}

/* The side of a layer, which becomes that side's own. */
static dev *side_of(const dev_split *d, uint32_t *layer) {
    if (*layer < d->n_layer) return d->side[0];
    *layer -= d->n_layer;
    return d->side[1];
}

static rotor_status get_page(dev *base, uint32_t page, uint32_t layer, uint8_t *dst,
                             rotor_error *err) {
    dev *side = side_of((dev_split *)base, &layer);
    return side->vt->get_page(side, page, layer, dst, err);
}

static rotor_status put_page(dev *base, uint32_t page, uint32_t layer, const uint8_t *src,
                             rotor_error *err) {
    dev *side = side_of((dev_split *)base, &layer);
    return side->vt->put_page(side, page, layer, src, err);
}

/* ==== Behind a step =========================================================================== */

static void screen(dev *base, dev_buf src, uint32_t first, uint32_t n_rows) {
    const dev_split *d = (dev_split *)base;
    dev_screen(d->side[1], d->bufs[src].handle.on[1], first, n_rows);
}

static bool find(dev *base, uint32_t row, const dev_want *want, dev_found *found) {
    dev_split *d = (dev_split *)base;
    const bool decided = dev_find(d->side[1], row, want, found);
    dev_staged_stats_get(d->side[1], &d->base.staged);
    return decided;
}

static void product(dev *base, dev_mat w, dev_buf src, dev_buf dst, uint32_t n_rows) {
    const dev_split *d = (dev_split *)base;
    dev_product(d->side[1], d->mats[w].handle.on[1], d->bufs[src].handle.on[1],
                d->bufs[dst].handle.on[1], n_rows);
}

/* ==== The rest of a dev ======================================================================= */

static uint64_t memory_bytes(const dev *base) {
    const dev_split *d = (const dev_split *)base;
    return dev_memory_bytes(d->side[0]) + dev_memory_bytes(d->side[1]) + d->row_bytes;
}

static rotor_status time_ops(dev *base, bool on, rotor_error *err) {
    dev_split *d = (dev_split *)base;
    ROTOR_TRY(dev_time_ops(d->side[0], on, err));
    return dev_time_ops(d->side[1], on, err);
}

static size_t op_times(const dev *base, dev_op_time *out, size_t max) {
    const dev_split *d = (const dev_split *)base;
    const size_t n = dev_op_times(d->side[0], out, max), at = BASE_MIN(n, max);
    return n + dev_op_times(d->side[1], out + at, max - at);
}

static void free_all(dev *base) {
    dev_split *d = (dev_split *)base;
    for (int i = 0; i < 2; i++) dev_free(&d->side[i]);
    base_free(d->mats);
    base_free(d->vecs);
    base_free(d->bufs);
    base_free_aligned(d->rows);
    base_free(d);
}

static const dev_vtable split_vtable = {.free = free_all,
                                        .add_mat = add_mat,
                                        .add_vec = add_vec,
                                        .add_buf = add_buf,
                                        .record = record,
                                        .run = run,
                                        .read = read,
                                        .get_rows = get_rows,
                                        .put_rows = put_rows,
                                        .copy_page = copy_page,
                                        .get_page = get_page,
                                        .put_page = put_page,
                                        .memory_bytes = memory_bytes,
                                        .time_ops = time_ops,
                                        .op_times = op_times,
                                        .product = product,
                                        .add_staged = add_staged,
                                        .screen = screen,
                                        .find = find,
                                        .best = best,
                                        .top = top};

rotor_status dev_split_create(dev **out, dev *first, dev *second, uint32_t n_layer,
                              uint32_t max_rows, rotor_error *err) {
    dev_split *d = base_alloc(sizeof *d);
    if (!d) return base_fail_nomem(err, "creating a device");
    d->base.vt = &split_vtable;
    d->side[0] = first;
    d->side[1] = second;
    d->n_layer = n_layer;
    d->max_rows = max_rows;
    snprintf(d->name, sizeof d->name, "%s + %s", dev_name(first), dev_name(second));
    d->base.name = d->name;
    *out = &d->base;
    return ROTOR_OK;
}
