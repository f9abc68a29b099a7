/* SPDX-License-Identifier: MIT
 *
 * The CPU device: set-up. Weights stay where they are; buffers are plain arrays; a recorded list is
 * kept as it is and walked by all threads together (dev_cpu_step.c).
 *
 * Cache page, KERN_KEYS positions:
 *   | layer 0: | head 0: keys | values | head 1 … | layer 1 … |, blocks as in kern.h
 */
#include "dev/cpu/dev_cpu.h"

#include <assert.h>

static rotor_status cpu_add_mat(dev *base, const kern_mat *w, dev_mat *out, rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    kern_mat *list = dev_list_grow(d->mats, d->n_mats, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing weights");
    d->mats = list;
    list[d->n_mats] = *w;
    *out = (dev_mat)d->n_mats++;
    return ROTOR_OK;
}

static rotor_status cpu_add_vec(dev *base, const float *v, size_t n, dev_vec *out,
                                rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    cpu_vec *list = dev_list_grow(d->vecs, d->n_vecs, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing vectors");
    d->vecs = list;
    list[d->n_vecs] = (cpu_vec){v, n};
    *out = (dev_vec)d->n_vecs++;
    return ROTOR_OK;
}

static rotor_status cpu_add_buf(dev *base, size_t width, dev_rows rows, dev_buf *out,
                                rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    cpu_buf *list = dev_list_grow(d->bufs, d->n_bufs, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing buffers");
    d->bufs = list;
    const dev_shape *s = &d->shape;
    cpu_buf b = {.width = width,
                 .kind = rows,
                 .rows = rows == DEV_PICKED  ? s->max_picked
                         : rows == DEV_SLOTS ? s->max_rows * s->n_used
                                             : s->max_rows};
    size_t floats, bytes;
    if (!base_mul_size(width, b.rows, &floats) || !base_mul_size(floats, sizeof *b.x, &bytes) ||
        !(b.x = base_alloc_aligned(bytes)))
        return base_fail(err, ROTOR_E_NOMEM, "no memory for a buffer of %u x %zu floats", b.rows,
                         width);
    d->buf_bytes += bytes;
    list[d->n_bufs] = b;
    *out = (dev_buf)d->n_bufs++;
    return ROTOR_OK;
}

/* Room for the int8 form of a buffer, made when an op first asks for it. */
static rotor_status want_int8(dev_cpu *d, cpu_buf *b, rotor_error *err) {
    if (b->q) return ROTOR_OK;
    b->ldq = (b->width + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
    size_t n = b->ldq * b->rows;
    b->q = base_alloc_aligned(n);
    b->s = base_alloc_aligned(n / 32 * sizeof *b->s);
    b->sum = base_alloc_aligned(b->rows * sizeof *b->sum);
    b->sum16 = base_alloc_aligned(n / 16 * sizeof *b->sum16);
    if (!b->q || !b->s || !b->sum || !b->sum16) return base_fail_nomem(err, "making int8 buffers");
    d->buf_bytes += n + n / 8 + n / 8;
    return ROTOR_OK;
}

static void free_buf(cpu_buf *b) {
    base_free_aligned(b->x);
    base_free_aligned(b->q);
    base_free_aligned(b->s);
    base_free_aligned(b->sum);
    base_free_aligned(b->sum16);
}

static void free_own(dev_cpu *d) {
    for (int i = 0; d->own && i < par_n_threads(d->pool); i++) free_buf(&d->own[i]);
    base_free(d->own);
    base_free_aligned(d->claims);
    d->own = NULL;
    d->claims = NULL;
}

/* A row of scratch for each thread, as wide as the widest buffer a product reads. */
static rotor_status make_own(dev_cpu *d, rotor_error *err) {
    const size_t n = (size_t)par_n_threads(d->pool);
    size_t width = 1;
    for (size_t i = 0; i < d->n_ops; i++)
        if (d->ops[i].kind == DEV_MATMUL) width = BASE_MAX(width, d->bufs[d->ops[i].src].width);
    free_own(d);
    d->own = base_alloc_array(n, sizeof *d->own);
    d->claims = base_alloc_aligned(n * sizeof *d->claims);
    if (!d->own || !d->claims) return base_fail_nomem(err, "recording a step");
    for (size_t i = 0; i < n; i++) {
        d->own[i] = (cpu_buf){.width = width, .rows = 1};
        d->own[i].x = base_alloc_aligned(width * sizeof(float));
        if (!d->own[i].x) return base_fail_nomem(err, "recording a step");
        d->buf_bytes += width * sizeof(float);
        ROTOR_TRY(want_int8(d, &d->own[i], err));
    }
    return ROTOR_OK;
}

static void check_op(const dev_cpu *d, const dev_op *op) {
    for (int i = 0; i < op->n_mats; i++) {
        assert(op->w[i] < d->n_mats && op->dst[i] < d->n_bufs);
        assert(op->kind == DEV_EMBED || d->mats[op->w[i]].cols == d->bufs[op->src].width);
        assert(op->kind == DEV_EMBED ||
               d->mats[op->w[i]].rows ==
                   d->bufs[op->dst[i]].width * (op->kind == DEV_EXPERTS ? d->shape.n_expert : 1));
    }
    const bool by_row = op->by_pos || op->by_type;
    assert(op->kind != DEV_BIAS || by_row ||
           d->vecs[op->vec].n == d->bufs[op->dst[0]].width * (op->slots ? d->shape.n_expert : 1));
    assert(!by_row ||
           (!op->picked && !op->slots && d->vecs[op->vec].n % d->bufs[op->dst[0]].width == 0));
    assert(op->kind != DEV_ATTENTION || !op->sinks || d->vecs[op->vec].n == d->shape.n_head);
    assert(op->kind != DEV_ROUTE || d->bufs[op->src].width == d->shape.n_expert);
    if (op->kind == DEV_RMSNORM)
        assert(d->vecs[op->vec].n * BASE_MAX(op->n_heads, 1) == d->bufs[op->src].width);
    (void)d;
    (void)op;
    (void)by_row;
}

/* Bytes of weights that one token makes an op read. */
uint64_t cpu_weight_bytes(const dev_cpu *d, const dev_op *op) {
    uint64_t sum = 0;
    if (op->kind != DEV_MATMUL && op->kind != DEV_EXPERTS) return 0;
    for (int i = 0; i < op->n_mats; i++)
        sum += (uint64_t)d->mats[op->w[i]].rows * d->mats[op->w[i]].row_bytes;
    return op->kind == DEV_EXPERTS ? sum / d->shape.n_expert * d->shape.n_used : sum;
}

static void free_watches(dev_cpu *d) {
    for (int i = 0; d->watches && i < par_n_threads(d->pool); i++) base_free(d->watches[i].ops);
    base_free(d->watches);
    d->watches = NULL;
}

static rotor_status cpu_record(dev *base, const dev_op *ops, size_t n, rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    free_watches(d);
    base_free(d->ops);
    base_free(d->phases);
    d->n_ops = d->n_phases = 0;
    d->op_bytes = 0;
    d->ops = base_alloc_array(n, sizeof *ops);
    d->phases = base_alloc_array(n, sizeof *d->phases);
    if (!d->ops || !d->phases) return base_fail_nomem(err, "recording a step");
    for (size_t i = 0; i < n; i++) {
        check_op(d, &ops[i]);
        if (dev_is_quant(ops[i].kind)) ROTOR_TRY(want_int8(d, &d->bufs[ops[i].src], err));
        if (ops[i].kind == DEV_GATHER && ops[i].int8)
            ROTOR_TRY(want_int8(d, &d->bufs[ops[i].dst[0]], err));
        d->op_bytes += cpu_weight_bytes(d, &ops[i]);
        d->ops[i] = ops[i];
    }
    d->n_ops = n;
    if (d->shape.on_demand) cpu_leave_experts(d);
    ROTOR_TRY(make_own(d, err));
    cpu_plan(d);
    return ROTOR_OK;
}

/* ==== Where the time goes ===================================================================== */

rotor_status cpu_time_ops(dev *base, bool on, rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    const size_t n = (size_t)par_n_threads(d->pool);
    free_watches(d);
    if (!on) return ROTOR_OK;
    d->watches = base_alloc_array(n, sizeof *d->watches);
    for (size_t i = 0; d->watches && i < n; i++) {
        d->watches[i].ops = base_alloc_array(d->n_ops, sizeof(cpu_op_time));
        d->watches[i].last = d->ops;
        if (!d->watches[i].ops) free_watches(d);
    }
    return d->watches ? ROTOR_OK : base_fail_nomem(err, "timing ops");
}

static size_t cpu_op_times(const dev *base, dev_op_time *out, size_t max) {
    const dev_cpu *d = (const dev_cpu *)base;
    const size_t n = d->watches ? BASE_MIN(max, d->n_ops) : 0;
    for (size_t i = 0; i < n; i++) {
        const dev_op *op = &d->ops[i];
        out[i] = (dev_op_time){.kind = op->kind, .calls = d->watches[0].ops[i].calls};
        out[i].bytes = cpu_weight_bytes(d, op);
        for (int m = 0; m < op->n_mats && out[i].bytes; m++) {
            out[i].rows += d->bufs[op->dst[m]].width;
            out[i].cols = d->mats[op->w[m]].cols;
        }
        for (int t = 0; t < par_n_threads(d->pool); t++) {
            out[i].work_ns += d->watches[t].ops[i].work_ns;
            out[i].wait_ns += d->watches[t].ops[i].wait_ns;
        }
    }
    return d->watches ? d->n_ops : 0;
}

static const float *cpu_read(dev *base, dev_buf b, uint32_t row) {
    const cpu_buf *buf = &((dev_cpu *)base)->bufs[b];
    assert(row < buf->rows);
    return buf->x + (size_t)row * buf->width;
}

static rotor_status cpu_get_rows(dev *base, dev_buf b, uint32_t n, float *dst, rotor_error *err) {
    const cpu_buf *buf = &((dev_cpu *)base)->bufs[b];
    assert(n <= buf->rows);
    memcpy(dst, buf->x, n * buf->width * sizeof *dst);
    return (void)err, ROTOR_OK;
}

static rotor_status cpu_put_rows(dev *base, dev_buf b, uint32_t n, const float *src,
                                 rotor_error *err) {
    const cpu_buf *buf = &((dev_cpu *)base)->bufs[b];
    assert(n <= buf->rows);
    memcpy(buf->x, src, n * buf->width * sizeof *src);
    return (void)err, ROTOR_OK;
}

static void cpu_copy_page(dev *base, bool ring, uint32_t dst_page, uint32_t src_page) {
    const cpu_cache *c = &((dev_cpu *)base)->cache[ring];
    if (!c->pages) return; /* no layers of this kind */
    memcpy(c->pages + dst_page * c->page_bytes, c->pages + src_page * c->page_bytes, c->page_bytes);
}

/* A head's keys and values stand together here, all keys together outside. */
static uint8_t *cpu_block(const dev_cpu *d, uint32_t page, uint32_t layer, uint32_t part) {
    const uint32_t n = d->shape.n_head_kv;
    const cpu_cache *c = cpu_cache_of(d, layer);
    return c->pages + page * c->page_bytes + cpu_page_offset(d, layer, part % n) +
           part / n * d->block_bytes;
}

static rotor_status cpu_get_page(dev *base, uint32_t page, uint32_t layer, uint8_t *dst,
                                 rotor_error *err) {
    const dev_cpu *d = (dev_cpu *)base;
    (void)err;
    for (uint32_t i = 0; i < 2 * d->shape.n_head_kv; i++)
        memcpy(dst + i * d->block_bytes, cpu_block(d, page, layer, i), d->block_bytes);
    return ROTOR_OK;
}

static rotor_status cpu_put_page(dev *base, uint32_t page, uint32_t layer, const uint8_t *src,
                                 rotor_error *err) {
    const dev_cpu *d = (dev_cpu *)base;
    (void)err;
    for (uint32_t i = 0; i < 2 * d->shape.n_head_kv; i++)
        memcpy(cpu_block(d, page, layer, i), src + i * d->block_bytes, d->block_bytes);
    return ROTOR_OK;
}

static uint64_t cpu_memory_bytes(const dev *base) {
    const dev_cpu *d = (const dev_cpu *)base;
    uint64_t sum = d->buf_bytes + cpu_head_bytes(d->head);
    for (int i = 0; i < 2; i++) sum += (uint64_t)d->cache[i].n_pages * d->cache[i].page_bytes;
    return sum;
}

static void cpu_free(dev *base) {
    dev_cpu *d = (dev_cpu *)base;
    cpu_head_free(&d->head);
    cpu_check_free(&d->check);
    cpu_trace_free(&d->trace);
    for (size_t i = 0; i < d->n_bufs; i++) free_buf(&d->bufs[i]);
    free_own(d);
    free_watches(d);
    base_free(d->bufs);
    base_free(d->mats);
    base_free(d->vecs);
    base_free(d->ops);
    base_free(d->phases);
    cpu_route_free(&d->route);
    for (int i = 0; i < 2; i++) {
        base_free(d->inv_freq[i]);
        base_free_aligned(d->cs[i]);
        base_free_aligned(d->sn[i]);
    }
    base_free_aligned(d->partial);
    base_free_aligned(d->scratch);
    for (int i = 0; i < 2; i++) base_free_aligned(d->cache[i].pages);
    base_free(d->layers);
    base_free(d);
}

static const dev_vtable cpu_vtable = {.free = cpu_free,
                                      .add_mat = cpu_add_mat,
                                      .add_vec = cpu_add_vec,
                                      .add_buf = cpu_add_buf,
                                      .record = cpu_record,
                                      .run = cpu_run,
                                      .read = cpu_read,
                                      .get_rows = cpu_get_rows,
                                      .put_rows = cpu_put_rows,
                                      .copy_page = cpu_copy_page,
                                      .get_page = cpu_get_page,
                                      .put_page = cpu_put_page,
                                      .time_ops = cpu_time_ops,
                                      .op_times = cpu_op_times,
                                      .memory_bytes = cpu_memory_bytes,
                                      .product = cpu_product,
                                      .add_staged = cpu_add_staged,
                                      .screen = cpu_screen,
                                      .find = cpu_find,
                                      .trace = cpu_trace_start,
                                      .check_start = cpu_check_start,
                                      .check_arm = cpu_check_arm,
                                      .check_products = cpu_check_products,
                                      .check_fault = cpu_check_fault,
                                      .check_get = cpu_check_get};

/* Which layers keep their keys and values in which kind of pages. */
static rotor_status alloc_layers(dev_cpu *d, rotor_error *err) {
    const dev_shape *s = &d->shape;
    d->layers = base_alloc_array((size_t)s->n_layer + 1, sizeof *d->layers);
    if (!d->layers) return base_fail_nomem(err, "making the cache");
    for (uint32_t l = 0; l < s->n_layer; l++) {
        const bool ring = s->ring && s->ring[l];
        d->layers[l] = (cpu_layer){ring, d->cache[ring].n_layer++};
    }
    d->shape.ring = NULL; /* borrowed for now only */
    d->cache[0].n_pages = s->n_pages;
    d->cache[1].n_pages = d->cache[1].n_layer ? s->n_ring_pages : 0;
    return ROTOR_OK;
}

static rotor_status alloc_pages(dev_cpu *d, cpu_cache *c, rotor_error *err) {
    size_t bytes;
    c->page_bytes = (size_t)c->n_layer * d->shape.n_head_kv * 2 * d->block_bytes;
    if (!base_mul_size(c->page_bytes, c->n_pages, &bytes) ||
        (bytes && !(c->pages = base_alloc_aligned(bytes))))
        return base_fail(err, ROTOR_E_NOMEM,
                         "no memory for a cache of %llu positions (%zu bytes each); "
                         "use a smaller --ctx or --kv q8",
                         (unsigned long long)c->n_pages * KERN_KEYS, c->page_bytes / KERN_KEYS);
    return ROTOR_OK;
}

static rotor_status alloc_cache(dev_cpu *d, rotor_error *err) {
    const dev_shape *s = &d->shape;
    size_t bytes;
    d->block_bytes = KERN_KEYS * kern_kv_row_bytes(s->kv, s->d_head);
    ROTOR_TRY(alloc_layers(d, err));
    for (int i = 0; i < 2; i++) ROTOR_TRY(alloc_pages(d, &d->cache[i], err));
    size_t heads = (size_t)CPU_SPLIT_ROWS * s->n_head;
    d->max_spans = ((size_t)s->n_pages * KERN_KEYS + KERN_SPAN - 1) / KERN_SPAN;
    if (!base_mul_size(heads * kern_partial_floats(s->d_head) * sizeof *d->partial, d->max_spans,
                       &bytes) ||
        !(d->partial = base_alloc_aligned(bytes)))
        return base_fail_nomem(err, "making attention buffers");
    const size_t rows = BASE_MAX((size_t)KERN_ATTN_ROWS, s->n_head / s->n_head_kv);
    d->scratch_at = (kern_attn_scratch(rows, s->d_head) + 15) / 16 * 16;
    d->scratch =
        base_alloc_aligned((size_t)par_n_threads(d->pool) * d->scratch_at * sizeof *d->scratch);
    if (!d->scratch) return base_fail_nomem(err, "making attention buffers");
    return ROTOR_OK;
}

static rotor_status alloc_angles(dev_cpu *d, const dev_shape *shape, rotor_error *err) {
    const double *const from[2] = {shape->inv_freq, shape->inv_freq_local};
    const size_t half = shape->n_rot / 2;
    for (int i = 0; i < 2 && from[i]; i++) {
        d->inv_freq[i] = base_alloc_array(half, sizeof **d->inv_freq);
        d->cs[i] = base_alloc_aligned(half * shape->max_rows * sizeof **d->cs);
        d->sn[i] = base_alloc_aligned(half * shape->max_rows * sizeof **d->sn);
        if (!d->inv_freq[i] || !d->cs[i] || !d->sn[i])
            return base_fail_nomem(err, "making rotary tables");
        memcpy(d->inv_freq[i], from[i], half * sizeof **d->inv_freq);
    }
    d->shape.inv_freq = d->inv_freq[0];
    d->shape.inv_freq_local = d->inv_freq[1];
    if (d->shape.rope_gain == 0) d->shape.rope_gain = 1;
    if (d->shape.attn_scale == 0)
        d->shape.attn_scale = 1.0f / __builtin_sqrtf((float)shape->d_head);
    return ROTOR_OK;
}

rotor_status dev_cpu_create(dev **out, const kern *k, par_pool *pool, const dev_shape *shape,
                            rotor_error *err) {
    assert(shape->max_picked <= shape->max_rows && shape->d_head <= KERN_MAX_HEAD);
    assert(shape->n_used <= shape->n_expert);
    dev_cpu *d = base_alloc(sizeof *d);
    if (!d) return base_fail_nomem(err, "creating the CPU device");
    d->base.vt = &cpu_vtable;
    d->base.name = "cpu";
    d->k = k;
    d->pool = pool;
    d->shape = *shape;
    rotor_status st = alloc_cache(d, err);
    if (st == ROTOR_OK) st = alloc_angles(d, shape, err);
    if (st == ROTOR_OK && shape->n_used) st = cpu_route_alloc(d, err);
    if (st != ROTOR_OK) return cpu_free(&d->base), st;
    *out = &d->base;
    return ROTOR_OK;
}
