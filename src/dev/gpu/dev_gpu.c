/* SPDX-License-Identifier: MIT
 *
 * A device on a GPU: set-up. Buffers and weights get their memory in dev_record, when it is known
 * which of them belong together (G1); the cache and the step get theirs at creation.
 */
#include "dev/gpu/dev_gpu.h"

#include <assert.h>

/* ==== Set-up before dev_record ================================================================ */

static rotor_status add_mat(dev *base, const kern_mat *w, dev_mat *out, rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    gpu_type type;
    if (!gpu_type_of(w, &type)) {
        const quant_info *info = quant_find(w->type);
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "device %s has no kernels for weights of type %s", d->g->facts.name,
                         info ? info->name : "?");
    }
    kern_mat *list = dev_list_grow(d->mats, d->n_mats, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing weights");
    d->mats = list;
    list[d->n_mats] = *w;
    *out = (dev_mat)d->n_mats++;
    return ROTOR_OK;
}

static rotor_status add_vec(dev *base, const float *v, size_t n, dev_vec *out, rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    gpu_vec *list = dev_list_grow(d->vecs, d->n_vecs, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing vectors");
    d->vecs = list;
    list[d->n_vecs] = (gpu_vec){.v = v, .n = n};
    *out = (dev_vec)d->n_vecs++;
    return ROTOR_OK;
}

static rotor_status add_buf(dev *base, size_t width, dev_rows rows, dev_buf *out,
                            rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    gpu_buf *list = dev_list_grow(d->bufs, d->n_bufs, sizeof *list);
    if (!list) return base_fail_nomem(err, "listing buffers");
    d->bufs = list;
    list[d->n_bufs] = (gpu_buf){.width = width,
                                .kind = rows,
                                .rows = rows == DEV_PICKED  ? d->shape.max_picked
                                        : rows == DEV_SLOTS ? d->shape.max_rows * d->shape.n_used
                                                            : d->shape.max_rows,
                                .home = d->n_bufs};
    *out = (dev_buf)d->n_bufs++;
    return ROTOR_OK;
}

/* ==== dev_record ============================================================================== */

/* Puts the outputs of a joined product side by side, unless one of them has a home already. */
static bool join_bufs(dev_gpu *d, const dev_buf *b, uint8_t n) {
    bool settled = true; /* exactly so since an earlier product */
    size_t at = 0;
    for (uint8_t i = 0; i < n; at += d->bufs[b[i++]].width)
        settled = settled && d->bufs[b[i]].home == b[0] && d->bufs[b[i]].at == at;
    if (settled) return true;
    for (uint8_t i = 0; i < n; i++) {
        for (size_t j = 0; j < d->n_bufs; j++) /* is, or has, a guest */
            if (j != b[i] && d->bufs[j].home == b[i]) return false;
        if (d->bufs[b[i]].home != b[i] || d->bufs[b[i]].kind != d->bufs[b[0]].kind) return false;
    }
    at = 0;
    for (uint8_t i = 0; i < n; at += d->bufs[b[i++]].width) {
        d->bufs[b[i]].home = b[0];
        d->bufs[b[i]].at = (uint32_t)at;
    }
    return true;
}

/* Floats between rows of the memory whose home is b. */
static size_t home_width(const dev_gpu *d, size_t b) {
    size_t width = 0;
    for (size_t j = 0; j < d->n_bufs; j++)
        if (d->bufs[j].home == b) width = BASE_MAX(width, d->bufs[j].at + d->bufs[j].width);
    return width;
}

static rotor_status place_bufs(dev_gpu *d, rotor_error *err) {
    for (size_t i = 0; i < d->n_bufs; i++) {
        gpu_buf *b = &d->bufs[i];
        if (b->home != i) continue;
        const size_t width = home_width(d, i);
        ROTOR_TRY(
            d->api->alloc(d->g, (uint64_t)b->rows * width * sizeof(float), false, &b->x, err));
        b->ld = (uint32_t)width;
    }
    for (size_t i = 0; i < d->n_bufs; i++) {
        d->bufs[i].x = d->bufs[d->bufs[i].home].x;
        d->bufs[i].ld = d->bufs[d->bufs[i].home].ld;
    }
    return ROTOR_OK;
}

/* The weights of an op: one product for all its matrices, or one for each. */
static rotor_status add_op_weights(dev_gpu *d, size_t i, rotor_error *err) {
    const dev_op *op = &d->ops[i];
    const bool experts = op->kind == DEV_EXPERTS;
    const uint32_t n_expert = experts ? d->shape.n_expert : 1;
    rotor_status (*add)(dev_gpu *, const dev_mat *, uint8_t, rotor_error *) =
        experts ? gpu_add_experts : gpu_add_weights;
    d->weights_of[i] = d->n_weights;
    if (op->kind == DEV_EMBED) return gpu_add_table(d, op->w[0], err);
    if (op->kind != DEV_MATMUL && !experts) return ROTOR_OK;
    if (op->n_mats > 1 && gpu_can_join(d, op->w, op->n_mats, n_expert) &&
        join_bufs(d, op->dst, op->n_mats))
        return add(d, op->w, op->n_mats, err);
    for (uint8_t m = 0; m < op->n_mats; m++) ROTOR_TRY(add(d, &op->w[m], 1, err));
    return ROTOR_OK;
}

/* Biases right behind a product are part of it, where all its matrices can take one. */
static rotor_status add_op_biases(dev_gpu *d, size_t i, rotor_error *err) {
    const dev_op *op = &d->ops[i];
    const float *v[3] = {NULL};
    uint8_t n = 0;
    if (op->kind != DEV_MATMUL && op->kind != DEV_EXPERTS) return ROTOR_OK;
    for (const dev_op *b = op + 1; b < d->ops + d->n_ops && b->kind == DEV_BIAS; b++, n++) {
        uint8_t m = 0;
        while (m < op->n_mats && (op->dst[m] != b->dst[0] || v[m])) m++;
        if (m == op->n_mats || b->picked != op->picked || b->slots != op->slots) break;
        v[m] = d->vecs[b->vec].v;
    }
    gpu_weights *w = &d->weights[d->weights_of[i]];
    const uint8_t n_w = w->n == op->n_mats ? 1 : op->n_mats;
    for (uint8_t k = 0; k < n_w; k++)
        if (w[k].rs) n = 0;
    if (!n) return ROTOR_OK;
    for (uint8_t k = 0; k < n_w; k++) ROTOR_TRY(gpu_add_bias(d, &w[k], v + k, err));
    d->biases_of[i] = n;
    return ROTOR_OK;
}

static rotor_status upload_vec(dev_gpu *d, dev_vec v, rotor_error *err) {
    gpu_vec *vec = &d->vecs[v];
    if (vec->mem) return ROTOR_OK;
    ROTOR_TRY(d->api->alloc(d->g, vec->n * sizeof *vec->v, false, &vec->mem, err));
    return d->api->write(d->g, vec->mem, 0, vec->v, vec->n * sizeof *vec->v, err);
}

/* Vectors that are not part of a product. */
static rotor_status upload_vecs(dev_gpu *d, rotor_error *err) {
    for (size_t i = 0; i < d->n_ops; i++) {
        const dev_op *op = &d->ops[i];
        if (op->kind == DEV_BIAS && op->slots)
            return base_fail(err, ROTOR_E_UNSUPPORTED, "device %s: a bias without its product",
                             d->g->facts.name);
        if (op->kind == DEV_RMSNORM || op->kind == DEV_BIAS ||
            (op->kind == DEV_ATTENTION && op->sinks))
            ROTOR_TRY(upload_vec(d, op->vec, err));
        i += d->biases_of[i];
    }
    return ROTOR_OK;
}

/* What of an op, or of all of them, has no kernel; NULL: all has. */
static const char *without_kernel(const dev_shape *s, const dev_op *op) {
    const bool glu = op->kind == DEV_GLU;
    return op->both_ways                             ? "attention in both directions"
           : op->centred                             ? "LayerNorm"
           : op->by_pos                              ? "learned positions"
           : op->by_type                             ? "types of tokens"
           : glu && op->glu >= KERN_GELU             ? "GELU"
           : glu && op->src2 == DEV_NONE             ? "an activation without a gate"
           : op->kind == DEV_CAP || s->attn_cap != 0 ? "capped scores"
           : s->attn_scale != 0                      ? "a scale of scores"
           : op->local                               ? "a second RoPE base"
           : op->kind == DEV_EMBED && op->scale != 0 ? "a scaled embedding"
                                                     : NULL;
}

static rotor_status check_kernels(const dev_gpu *d, const dev_op *ops, size_t n, rotor_error *err) {
    for (size_t i = 0; i < n; i++) {
        const char *what = without_kernel(&d->shape, &ops[i]);
        if (what)
            return base_fail(err, ROTOR_E_UNSUPPORTED, "device %s: there is no kernel for %s yet",
                             d->g->facts.name, what);
    }
    return ROTOR_OK;
}

static rotor_status record(dev *base, const dev_op *ops, size_t n, rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    assert(!d->ops); /* once */
    ROTOR_TRY(check_kernels(d, ops, n, err));
    ROTOR_TRY(gpu_check_experts(d, ops, n, err));
    d->ops = base_alloc_array(n, sizeof *ops);
    d->weights_of = base_alloc_array(n, sizeof *d->weights_of);
    d->biases_of = base_alloc_array(n, sizeof *d->biases_of);
    if (!d->ops || !d->weights_of || !d->biases_of) return base_fail_nomem(err, "recording a step");
    memcpy(d->ops, ops, n * sizeof *ops);
    d->n_ops = n;
    d->logits = DEV_NONE;
    for (size_t i = 0; i < n; i++) {
        ROTOR_TRY(add_op_weights(d, i, err));
        ROTOR_TRY(add_op_biases(d, i, err));
        if (ops[i].kind == DEV_ATTENTION && d->ring[ops[i].layer])
            d->ring_window = BASE_MAX(d->ring_window, ops[i].window);
    }
    ROTOR_TRY(upload_vecs(d, err));
    ROTOR_TRY(place_bufs(d, err));
    if (ops[n - 1].kind == DEV_MATMUL && ops[n - 1].picked && ops[n - 1].n_mats == 1)
        d->logits = ops[n - 1].dst[0];
    for (size_t i = 0; i < n; i++)
        if (dev_is_quant(ops[i].kind)) ROTOR_TRY(gpu_want_int8(d, &d->bufs[ops[i].src], err));
    gpu_count_driver(d);
    return ROTOR_OK;
}

rotor_status gpu_want_int8(dev_gpu *d, gpu_buf *b, rotor_error *err) {
    if (b->q) return ROTOR_OK;
    const size_t cols = (b->width + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
    b->q_ld = (uint32_t)(cols / 4);
    b->xs_ld = (uint32_t)(cols / 32);
    ROTOR_TRY(d->api->alloc(d->g, (uint64_t)b->rows * cols, false, &b->q, err));
    return d->api->alloc(d->g, (uint64_t)b->rows * b->xs_ld * sizeof(float), false, &b->xs, err);
}

/* ==== The rest of a dev ======================================================================= */

static void copy_page(dev *base, bool ring, uint32_t dst_page, uint32_t src_page) {
    dev_gpu *d = (dev_gpu *)base;
    const uint64_t bytes = (uint64_t)d->shape.n_head_kv * d->block_bytes;
    for (uint32_t l = 0; l < d->shape.n_layer && d->lost == ROTOR_OK; l++) {
        if (d->ring[l] != ring) continue;
        gpu_mem *both[] = {d->keys[l], d->values[l]};
        for (size_t i = 0; i < 2 && d->lost == ROTOR_OK; i++)
            d->lost = d->api->copy(d->g, both[i], dst_page * bytes, both[i], src_page * bytes,
                                   bytes, &d->why);
    }
}

static rotor_status get_page(dev *base, uint32_t page, uint32_t layer, uint8_t *dst,
                             rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    const uint64_t bytes = (uint64_t)d->shape.n_head_kv * d->block_bytes, at = page * bytes;
    assert(d->n_flights == 0);
    if (d->lost == ROTOR_OK) d->lost = d->api->read(d->g, d->keys[layer], at, dst, bytes, &d->why);
    if (d->lost == ROTOR_OK)
        d->lost = d->api->read(d->g, d->values[layer], at, dst + bytes, bytes, &d->why);
    gpu_count_driver(d);
    if (d->lost != ROTOR_OK && err) *err = d->why;
    return d->lost;
}

static rotor_status put_page(dev *base, uint32_t page, uint32_t layer, const uint8_t *src,
                             rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    const uint64_t bytes = (uint64_t)d->shape.n_head_kv * d->block_bytes, at = page * bytes;
    assert(d->n_flights == 0);
    if (d->lost == ROTOR_OK) d->lost = d->api->write(d->g, d->keys[layer], at, src, bytes, &d->why);
    if (d->lost == ROTOR_OK)
        d->lost = d->api->write(d->g, d->values[layer], at, src + bytes, bytes, &d->why);
    gpu_count_driver(d);
    if (d->lost != ROTOR_OK && err) *err = d->why;
    return d->lost;
}

static uint64_t memory_bytes(const dev *base) {
    const dev_gpu *d = (const dev_gpu *)base;
    return d->g->counters.mem_bytes - d->weight_bytes;
}

/* The driver's lists are not taken apart: no account of single ops. */
static rotor_status time_ops(dev *base, bool on, rotor_error *err) {
    if (!on) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "device %s does not time single ops",
                     ((dev_gpu *)base)->g->facts.name);
}

static size_t op_times(const dev *base, dev_op_time *out, size_t max) {
    (void)base, (void)out, (void)max;
    return 0;
}

static void free_bufs(dev_gpu *d) {
    for (size_t i = 0; i < d->n_bufs; i++) {
        if (d->bufs[i].home == i) d->api->mem_free(d->g, d->bufs[i].x);
        d->api->mem_free(d->g, d->bufs[i].q);
        d->api->mem_free(d->g, d->bufs[i].xs);
        base_free(d->bufs[i].host);
    }
    base_free(d->bufs);
}

static void free_cache(dev_gpu *d) {
    for (uint32_t l = 0; l < d->shape.n_layer; l++) {
        if (d->keys) d->api->mem_free(d->g, d->keys[l]);
        if (d->values) d->api->mem_free(d->g, d->values[l]);
    }
    base_free(d->keys);
    base_free(d->values);
    base_free(d->ring);
}

static void free_all(dev *base) {
    dev_gpu *d = (dev_gpu *)base;
    for (size_t i = 0; i < d->n_lists; i++) d->api->list_free(d->g, d->lists[i].list);
    free_bufs(d);
    free_cache(d);
    for (size_t i = 0; i < d->n_weights; i++) gpu_weights_free(d, &d->weights[i]);
    for (size_t i = 0; i < d->n_vecs; i++) d->api->mem_free(d->g, d->vecs[i].mem);
    for (size_t i = 0; i < d->n_built; i++) d->api->kernel_free(d->g, d->built[i].kernel);
    d->api->mem_free(d->g, d->step);
    d->api->mem_free(d->g, d->found);
    d->api->mem_free(d->g, d->top);
    d->api->mem_free(d->g, d->part);
    d->api->mem_free(d->g, d->route);
    base_free(d->weights);
    base_free(d->vecs);
    base_free(d->built);
    base_free(d->mats);
    base_free(d->ops);
    base_free(d->weights_of);
    base_free(d->biases_of);
    base_free(d->inv_freq);
    base_free(d->words);
    base_free(d->found_host);
    d->api->close(d->g);
    base_free(d);
}

/* ==== Creation ================================================================================ */

static rotor_status make_cache(dev_gpu *d, rotor_error *err) {
    const dev_shape *s = &d->shape;
    d->block_bytes = KERN_KEYS * kern_kv_row_bytes(s->kv, s->d_head);
    const uint64_t page_bytes = s->n_head_kv * d->block_bytes, bytes = s->n_pages * page_bytes;
    const uint64_t most = BASE_MIN(d->g->facts.max_alloc_bytes, d->g->facts.max_bind_bytes);
    if (bytes > most)
        return base_fail(err, ROTOR_E_NOMEM,
                         "device %s lets a kernel see %llu MiB at once, a layer's cache of %llu "
                         "positions takes %llu MiB; use a smaller --ctx or --kv q8",
                         d->g->facts.name, (unsigned long long)(most >> 20),
                         (unsigned long long)s->n_pages * KERN_KEYS,
                         (unsigned long long)(bytes >> 20));
    d->keys = base_alloc_array(s->n_layer, sizeof *d->keys);
    d->values = base_alloc_array(s->n_layer, sizeof *d->values);
    d->ring = base_alloc_array(s->n_layer, sizeof *d->ring);
    if (!d->keys || !d->values || !d->ring) return base_fail_nomem(err, "creating a device");
    for (uint32_t l = 0; l < s->n_layer; l++) {
        d->ring[l] = s->n_ring_pages && s->ring[l];
        const uint64_t of_layer = d->ring[l] ? s->n_ring_pages * page_bytes : bytes;
        ROTOR_TRY(d->api->alloc(d->g, of_layer, false, &d->keys[l], err));
        ROTOR_TRY(d->api->alloc(d->g, of_layer, false, &d->values[l], err));
    }
    return ROTOR_OK;
}

static rotor_status make_step(dev_gpu *d, const dev_shape *shape, rotor_error *err) {
    const size_t half = shape->n_rot / 2;
    const uint64_t words = gpu_step_words(d, shape->max_rows);
    if (words * 4 > GPU_MAX_UP)
        return base_fail(
            err, ROTOR_E_UNSUPPORTED,
            "device %s: steps of %u tokens over %u cache pages are too large; a smaller "
            "--chunk or --ctx may help",
            d->g->facts.name, shape->max_rows, shape->n_pages);
    const uint64_t few = BASE_MIN(shape->max_rows, (uint32_t)GPU_FEW_ROWS);
    d->splits = BASE_MIN(shape->n_pages, (uint32_t)GPU_MAX_SPLITS);
    d->inv_freq = base_alloc_array(half + 1, sizeof *d->inv_freq);
    d->words = base_alloc_array(words, sizeof *d->words);
    const uint64_t top_bytes = (uint64_t)shape->max_picked * GPU_TOP * GPU_FOUND_WORDS * 4;
    d->found_host = base_alloc(top_bytes);
    if (!d->inv_freq || !d->words || !d->found_host)
        return base_fail_nomem(err, "creating a device");
    memcpy(d->inv_freq, shape->inv_freq, half * sizeof *d->inv_freq);
    d->shape.inv_freq = d->inv_freq;
    ROTOR_TRY(d->api->alloc(d->g, words * 4, true, &d->step, err));
    ROTOR_TRY(
        d->api->alloc(d->g, shape->max_picked * GPU_FOUND_WORDS * 4ull, false, &d->found, err));
    ROTOR_TRY(d->api->alloc(d->g, top_bytes, false, &d->top, err));
    return d->api->alloc(d->g, few * shape->n_head * d->splits * (shape->d_head + 2ull) * 4, false,
                         &d->part, err);
}

static const dev_vtable gpu_vtable = {.free = free_all,
                                      .add_mat = add_mat,
                                      .add_vec = add_vec,
                                      .add_buf = add_buf,
                                      .record = record,
                                      .run = gpu_run,
                                      .submit = gpu_submit,
                                      .wait = gpu_wait,
                                      .read = gpu_read,
                                      .get_rows = gpu_get_rows,
                                      .put_rows = gpu_put_rows,
                                      .copy_page = copy_page,
                                      .get_page = get_page,
                                      .put_page = put_page,
                                      .memory_bytes = memory_bytes,
                                      .time_ops = time_ops,
                                      .op_times = op_times,
                                      .best = gpu_best,
                                      .top = gpu_top,
                                      .chosen = gpu_chosen};

rotor_status dev_gpu_create_on(dev **out, const gpu_api *api, size_t index, const char *cache_dir,
                               const dev_shape *shape, rotor_error *err) {
    assert(shape->max_picked <= shape->max_rows && shape->d_head <= KERN_MAX_HEAD);
    dev_gpu *d = base_alloc(sizeof *d);
    if (!d) return base_fail_nomem(err, "creating a device");
    d->base.vt = &gpu_vtable;
    d->api = api;
    d->shape = *shape;
    d->shape.max_rows = gpu_bucket(shape->max_rows); /* kernels look at whole buckets */
    d->shape.max_picked = gpu_bucket(shape->max_picked);
    rotor_status st = api->open(&d->g, index, cache_dir, err);
    if (st != ROTOR_OK) return base_free(d), st;
    d->base.name = d->g->facts.name;
    st = gpu_check_answers(d, err);
    if (st == ROTOR_OK) st = make_step(d, &d->shape, err);
    if (st == ROTOR_OK) st = make_cache(d, err);
    if (st == ROTOR_OK) st = gpu_make_route(d, err);
    d->shape.ring = NULL; /* borrowed */
    if (st != ROTOR_OK) return free_all(&d->base), st;
    *out = &d->base;
    return ROTOR_OK;
}

static const gpu_api *api_of(dev_api api) {
    return api == DEV_OPENCL ? gpu_opencl() : api == DEV_VULKAN ? gpu_vulkan() : NULL;
}

static const char *const api_names[] = {"cpu", "opencl", "vulkan"};

static rotor_status no_api(dev_api api, rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED, "this build has no %s", api_names[api]);
}

rotor_status dev_gpu_create(dev **out, dev_api api, size_t index, const char *cache_dir,
                            const dev_shape *shape, rotor_error *err) {
    const gpu_api *a = api_of(api);
    return a ? dev_gpu_create_on(out, a, index, cache_dir, shape, err) : no_api(api, err);
}

rotor_status dev_probe(dev_api api, size_t index, const char *cache_dir, dev_probe_result *out,
                       rotor_error *err) {
    const gpu_api *a = api_of(api);
    return a ? dev_gpu_probe_on(a, index, cache_dir, out, err) : no_api(api, err);
}

rotor_status dev_list(dev_api api, dev_facts *out, size_t max, size_t *n, rotor_error *err) {
    const gpu_api *a = api_of(api);
    return a ? a->list(out, max, n, err) : no_api(api, err);
}
