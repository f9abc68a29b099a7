/* SPDX-License-Identifier: MIT
 *
 * From a choice of device to a device with the forward pass recorded on it: what each part of the
 * model needs there, how much of it fits (placement.c), the devices for the parts, and what happens
 * when one of them refuses.
 *
 *   table on the device    head on the device    made of
 *   yes                    yes                   the device
 *   no                     yes                   CPU + device
 *   no                     no                    CPU + device + CPU
 *
 * On a device that shares the host's memory the table may take none of its own (dev_gpu_weights.c).
 * That is counted on; when the driver refuses, the sum is made again, also where memory was short
 * because of that.
 *
 * A device whose memory is full in spite of the sum is tried once more with half the layers; one
 * that still cannot do it is given up for the CPU. Either is one warning in the log.
 */
#include "run/run_internal.h"

#include <assert.h>
#include <stdio.h>

/* ==== What a model needs ====================================================================== */

static uint64_t lora_bytes(const run_engine *e, uint32_t layer) {
    uint64_t sum = 0;
    for (int p = 0; e->opt.adapter && p < MODEL_N_PROJ; p++) {
        const model_lora *pair = &e->opt.adapter->at[(size_t)layer * MODEL_N_PROJ + (size_t)p];
        if (!pair->a.data) continue;
        const kern_mat a = run_mat(&pair->a), b = run_mat(&pair->b);
        sum += dev_gpu_mat_bytes(&a) + dev_gpu_mat_bytes(&b) + b.rows * sizeof(float);
    }
    return sum;
}

/* What a layer of a mixture has beside its experts' matrices. */
static uint64_t mixture_bytes(const run_engine *e, const model_layer *w) {
    const model_hparams *hp = &e->m->hp;
    const model_mat *const mats[] = {&w->router, &w->shared_gate, &w->shared_up, &w->shared_down,
                                     &w->shared_by};
    uint64_t sum = 0;
    for (size_t i = 0; i < BASE_COUNT(mats); i++) {
        const kern_mat m = run_mat(mats[i]);
        if (mats[i]->data) sum += dev_gpu_mat_bytes(&m);
    }
    const uint64_t biases = (w->gate_bias ? 2ull * hp->n_ff + hp->n_embd : 0) + 1;
    return sum + hp->n_expert * biases * sizeof(float);
}

static uint64_t layer_bytes(const run_engine *e, uint32_t layer) {
    const model_hparams *hp = &e->m->hp;
    const uint64_t q = (uint64_t)hp->n_head * hp->d_head, kv = (uint64_t)hp->n_head_kv * hp->d_head;
    uint64_t sum = lora_bytes(e, layer);
    if (hp->n_expert) sum += mixture_bytes(e, &e->m->layers[layer]);
    for (int p = 0; p < MODEL_N_PROJ; p++) {
        const kern_mat w = run_mat(model_proj_mat(&e->m->layers[layer], (model_proj)p));
        sum += dev_gpu_mat_bytes(&w);
    }
    return sum +
           (3ull * hp->n_embd + 3 * q + 2 * kv + hp->n_ff) * sizeof(float); /* norms, biases */
}

/* A step of the largest size: float rows, int8 forms of what products read, the step's numbers,
 * the parts of attention. */
static uint64_t work_bytes(const run_engine *e, uint64_t rows) {
    const model_hparams *hp = &e->m->hp;
    const uint64_t q = (uint64_t)hp->n_head * hp->d_head, kv = (uint64_t)hp->n_head_kv * hp->d_head;
    const uint64_t each = hp->n_expert ? hp->n_used : 1; /* rows of the feed-forward part a token */
    uint64_t floats = 2 * (hp->n_embd + q + kv + each * hp->n_ff);
    if (hp->n_expert) floats += each * (hp->n_embd + 6) + hp->n_expert + 2ull * hp->n_ff_shared;
    const uint64_t int8 = (hp->n_embd + q + each * hp->n_ff) * 9 / 8 + 3 * KERN_ALIGN_COLS;
    const uint64_t parts = 8ull * 16 * hp->n_head * (hp->d_head + 2) * sizeof(float);
    if (e->opt.adapter) floats += 3ull * e->opt.adapter->rank + hp->n_embd + q + kv + hp->n_ff;
    return rows * (floats * sizeof(float) + int8) +
           rows * (hp->n_rot + e->opt.n_pages + e->ring.n + 9ull) * sizeof(uint32_t) + parts;
}

static rotor_status sum_needs(const run_engine *e, bool import, run_needs *n, uint64_t *layers,
                              rotor_error *err) {
    const dev_facts *f = e->opt.device_facts;
    const model *m = e->m;
    const model_hparams *hp = &m->hp;
    const uint64_t q = (uint64_t)hp->n_head * hp->d_head, kv = (uint64_t)hp->n_head_kv * hp->d_head;
    const kern_mat table = run_mat(&m->embd);
    kern_mat head = run_mat(&m->head);
    uint64_t rows = 1, picked = 1;
    if (!layers) return base_fail_nomem(err, "placing the model");
    while (rows < e->opt.chunk) rows *= 2; /* steps are rounded up to a power of two */
    while (picked < e->opt.max_logits) picked *= 2;
    for (uint32_t l = 0; l < hp->n_layer; l++) layers[l] = layer_bytes(e, l);
    head.type = run_head_type(e);
    n->n_layer = hp->n_layer;
    n->layer = layers;
    n->cache = 2ull * e->opt.n_pages * hp->n_head_kv * KERN_KEYS *
               kern_kv_row_bytes(e->opt.kv, hp->d_head);
    n->table = dev_gpu_mat_bytes(&table);
    n->head = dev_gpu_mat_bytes(&head) + picked * (hp->n_vocab + 3ull * hp->n_embd) * sizeof(float);
    n->work = work_bytes(e, rows);
    const uint64_t ff = 2ull * hp->n_ff * (hp->n_expert ? hp->n_used : 1);
    n->largest = BASE_MAX(n->cache / 2, rows * BASE_MAX(q + 2 * kv, ff) * 4);
    n->shared = m->tied && head.type == m->head.type;
    n->imported = import && f && f->imports && dev_gpu_can_import(&table);
    return ROTOR_OK;
}

/* Where an explicit number of layers says so, no sum is made. import: the device may. */
static rotor_status choose_place(run_engine *e, bool import, rotor_error *err) {
    const uint32_t all = e->m->hp.n_layer, asked = e->opt.device_layers;
    run_needs n = {0};
    if (asked || e->opt.device == DEV_CPU) {
        const bool whole = !asked || asked >= all;
        e->place =
            (run_place){.table = whole, .n_layer = whole ? all : asked, .head = whole, .bytes = 0};
        return ROTOR_OK;
    }
    uint64_t *layers = base_alloc_array(all, sizeof *layers);
    rotor_status st = sum_needs(e, import, &n, layers, err);
    if (st == ROTOR_OK) e->place = run_place_model(&n, UINT32_MAX, e->opt.device_facts);
    base_free(layers);
    return st;
}

/* ==== Devices ================================================================================= */

static dev_shape shape_of(const run_engine *e, const double *inv_freq, const bool *ring) {
    const model_hparams *hp = &e->m->hp;
    return (dev_shape){.max_rows = e->opt.chunk,
                       .max_picked = e->opt.max_logits,
                       .n_layer = hp->n_layer,
                       .n_head = hp->n_head,
                       .n_head_kv = hp->n_head_kv,
                       .d_head = hp->d_head,
                       .n_rot = hp->n_rot,
                       .rope_interleaved = hp->rope_interleaved,
                       .inv_freq = inv_freq,
                       .inv_freq_local =
                           inv_freq && hp->rope_base_local != 0 ? inv_freq + hp->n_rot / 2 : NULL,
                       .attn_scale = hp->attn_scale,
                       .attn_cap = hp->attn_cap,
                       .rope_gain = hp->rope_gain,
                       .n_expert = hp->n_expert,
                       .n_used = hp->n_used,
                       .n_pages = e->opt.n_pages,
                       .n_ring_pages = e->ring.n,
                       .ring = ring,
                       .kv = e->opt.kv,
                       .float_act = e->opt.float_act,
                       .on_demand = e->opt.on_demand,
                       .solo_bytes = e->opt.solo_bytes};
}

static rotor_status open_at(run_engine *e, dev_api api, size_t index, const dev_shape *s, dev **out,
                            rotor_error *err) {
    if (api == DEV_CPU) return dev_cpu_create(out, &e->k, e->pool, s, err);
    if (e->opt.open_gpu) return e->opt.open_gpu(out, s, err);
    return dev_gpu_create(out, api, index, e->opt.device_cache, s, err);
}

static rotor_status open_one(run_engine *e, dev_api api, dev_shape s, uint32_t n_layer, dev **out,
                             rotor_error *err) {
    s.n_layer = n_layer;
    return open_at(e, api, e->opt.device_index, &s, out, err);
}

/* *d becomes first, then second, as one; both are freed where that fails. */
static rotor_status join(dev **d, dev *first, dev *second, uint32_t n_layer, uint32_t max_rows,
                         rotor_error *err) {
    rotor_status st = dev_split_create(d, first, second, n_layer, max_rows, err);
    if (st != ROTOR_OK) {
        dev_free(&first);
        dev_free(&second);
        *d = NULL;
    }
    return st;
}

static rotor_status make_devices(run_engine *e, const dev_shape *s, rotor_error *err) {
    const run_place *p = &e->place;
    dev *other = NULL;
    ROTOR_TRY(open_one(e, e->opt.device, *s, p->n_layer, &e->d, err));
    snprintf(e->device_name, sizeof e->device_name, "%s", dev_name(e->d));
    if (!p->head) {
        dev_shape rest = *s;
        rest.ring += p->n_layer;
        ROTOR_TRY(open_one(e, DEV_CPU, rest, s->n_layer - p->n_layer, &other, err));
        ROTOR_TRY(join(&e->d, e->d, other, p->n_layer, s->max_rows, err));
    }
    if (!p->table) {
        ROTOR_TRY(open_one(e, DEV_CPU, *s, 0, &other, err));
        ROTOR_TRY(join(&e->d, other, e->d, 0, s->max_rows, err));
    }
    return ROTOR_OK;
}

/* Those of the pass, in e; or the one for prompts alone. */
static rotor_status make_device(run_engine *e, dev **prompt, rotor_error *err) {
    double *inv_freq = base_alloc_array(e->m->hp.n_rot + 1, sizeof *inv_freq);
    bool *ring = base_alloc_array(e->m->hp.n_layer, sizeof *ring);
    rotor_status st = inv_freq && ring ? ROTOR_OK : base_fail_nomem(err, "creating an engine");
    if (st == ROTOR_OK) {
        model_rope_freqs(&e->m->hp, e->opt.n_ctx, false, inv_freq);
        if (e->m->hp.rope_base_local != 0)
            model_rope_freqs(&e->m->hp, e->opt.n_ctx, true, inv_freq + e->m->hp.n_rot / 2);
        for (uint32_t l = 0; l < e->m->hp.n_layer; l++)
            ring[l] = e->ring.n && model_window(&e->m->hp, l);
        const dev_shape s = shape_of(e, inv_freq, ring);
        st = prompt ? open_at(e, e->opt.prompt_device, e->opt.prompt_index, &s, prompt, err)
                    : make_devices(e, &s, err);
    }
    base_free(inv_freq);
    base_free(ring);
    return st;
}

static rotor_status make_buffers(run_engine *e, rotor_error *err) {
    const model_hparams *hp = &e->m->hp;
    const size_t q = (size_t)hp->n_head * hp->d_head, kv = (size_t)hp->n_head_kv * hp->d_head;
    run_bufs *b = &e->buf;
    const struct {
        dev_buf *out;  /* handle to fill */
        size_t width;  /* floats per row */
        dev_rows rows; /* what its rows are */
    } list[] = {{&b->x, hp->n_embd, DEV_TOKENS},
                {&b->h, hp->n_embd, DEV_TOKENS},
                {&b->n, e->m->layers[0].in_norm[0] ? hp->n_embd : 0, DEV_TOKENS},
                {&b->q, q, DEV_TOKENS},
                {&b->k, kv, DEV_TOKENS},
                {&b->v, kv, DEV_TOKENS},
                {&b->a, q, DEV_TOKENS},
                {&b->g, hp->n_ff, hp->n_expert ? DEV_SLOTS : DEV_TOKENS},
                {&b->u, hp->n_ff, hp->n_expert ? DEV_SLOTS : DEV_TOKENS},
                {&b->px, hp->n_embd, DEV_PICKED},
                {&b->logits, e->opt.pool ? 0 : hp->n_vocab, DEV_PICKED},
                {&b->dense[0], e->opt.pool ? e->m->dense[0].rows : 0, DEV_PICKED},
                {&b->dense[1], e->opt.pool ? e->m->dense[1].rows : 0, DEV_PICKED},
                {&b->r, hp->n_expert, DEV_TOKENS}, /* from here on: of a mixture, where it has it */
                {&b->s, hp->n_expert ? hp->n_embd : 0, DEV_SLOTS},
                {&b->sg, hp->n_ff_shared, DEV_TOKENS},
                {&b->su, hp->n_ff_shared, DEV_TOKENS},
                {&b->sd, hp->n_ff_shared ? hp->n_embd : 0, DEV_TOKENS},
                {&b->sb, hp->n_ff_shared ? 1 : 0, DEV_TOKENS}};
    for (size_t i = 0; i < BASE_COUNT(list); i++)
        if (list[i].width)
            ROTOR_TRY(dev_add_buf(e->d, list[i].width, list[i].rows, list[i].out, err));
    return ROTOR_OK;
}

/* ==== Set-up, and what to do when it fails ==================================================== */

static rotor_status set_up(run_engine *e, rotor_error *err) {
    e->staged = false;
    ROTOR_TRY(make_device(e, NULL, err));
    ROTOR_TRY(make_buffers(e, err));
    ROTOR_TRY(e->opt.pool ? run_copy_layers(e, err) : run_make_head(e, err));
    return run_record_forward(e, err);
}

void run_drop_device(run_engine *e) {
    dev_free(&e->d);
    e->n_lora_bufs = 0;
    base_free_aligned(e->head_copy);
    e->head_copy = NULL;
}

static void log_place(const run_engine *e) {
    const run_place *p = &e->place;
    const uint32_t all = e->m->hp.n_layer;
    const uint64_t imported = run_counters(e).imported;
    char size[64] = "", table[64] = "";
    if (p->bytes && e->opt.device_facts && e->opt.device_facts->heap_bytes)
        snprintf(size, sizeof size, " (%.0f of %.0f MB)", (double)p->bytes / 1e6,
                 (double)e->opt.device_facts->heap_bytes / 1e6);
    if (imported)
        snprintf(table, sizeof table, ", the embedding (%.0f MB) read where it is",
                 (double)imported / 1e6);
    if (p->head)
        base_log_printf(e->opt.log, BASE_LOG_INFO, "device: %s, the whole model%s%s%s",
                        e->device_name, p->table ? "" : " but the embedding", size, table);
    else
        base_log_printf(e->opt.log, BASE_LOG_INFO,
                        "device: %s, layers 0-%u of %u%s, %sthe head on the CPU", e->device_name,
                        p->n_layer - 1, all, size, p->n_layer < all ? "the rest and " : "");
}

/* Half the layers, once, where the memory was too small. */
static rotor_status retry_smaller(run_engine *e, rotor_error *why) {
    const rotor_error first = *why;
    if (first.code != ROTOR_E_NOMEM || e->place.n_layer < 2) return first.code;
    run_drop_device(e);
    e->place = (run_place){.n_layer = e->place.n_layer / 2};
    ROTOR_TRY(set_up(e, why));
    base_log_printf(e->opt.log, BASE_LOG_WARN, "%s; it takes half the layers", first.message);
    return ROTOR_OK;
}

/* Placed without counting on an import: the embedding stays with the CPU where a copy of it does
 * not fit. */
static rotor_status set_up_without_import(run_engine *e, rotor_error *why) {
    run_drop_device(e);
    ROTOR_TRY(choose_place(e, false, why));
    if (e->place.n_layer) return set_up(e, why);
    return base_fail(why, ROTOR_E_FULL, "device %s takes no table of the host's memory",
                     e->opt.device_facts->name);
}

/* A table that had to be copied after all may be too much. */
static rotor_status check_import(run_engine *e, rotor_error *why) {
    const run_place hoped = e->place;
    if (!hoped.imports || run_counters(e).imported) return ROTOR_OK;
    ROTOR_TRY(choose_place(e, false, why));
    return e->place.table ? ROTOR_OK : set_up_without_import(e, why);
}

static rotor_status try_device(run_engine *e, rotor_error *why) {
    const dev_facts *f = e->opt.device_facts;
    ROTOR_TRY(choose_place(e, true, why));
    if (!e->place.n_layer)
        return base_fail(
            why, ROTOR_E_FULL,
            "device %s: its memory, %llu MiB, %llu MiB at once, holds no layer of this "
            "model and its cache; a smaller --ctx or --kv q8 may help",
            f->name, (unsigned long long)(f->heap_bytes >> 20),
            (unsigned long long)(f->max_alloc_bytes >> 20));
    rotor_status st = set_up(e, why);
    if (st == ROTOR_OK) return check_import(e, why);
    if (st == ROTOR_E_NOMEM && e->place.imports) st = set_up_without_import(e, why);
    return st == ROTOR_OK ? ROTOR_OK : retry_smaller(e, why);
}

/* Gives up a GPU that cannot do it for the CPU. */
static rotor_status set_up_main(run_engine *e, rotor_error *err) {
    rotor_error why = {0};
    if (e->opt.device != DEV_CPU) {
        if (try_device(e, &why) == ROTOR_OK) return log_place(e), ROTOR_OK;
        base_log_printf(e->opt.log, BASE_LOG_WARN, "%s; the CPU does it", why.message);
        run_drop_device(e);
        e->opt.device = DEV_CPU;
        e->opt.device_layers = 0;
    }
    ROTOR_TRY(choose_place(e, false, err));
    return set_up(e, err);
}

/* ==== Prompts apart =========================================================================== */

/* It holds the whole model or nothing of it. */
static rotor_status check_prompt_place(const run_engine *e, rotor_error *why) {
    const dev_facts *f = e->opt.prompt_facts;
    const uint32_t all = e->m->hp.n_layer;
    run_needs n = {0};
    if (e->staged)
        return base_fail(why, ROTOR_E_UNSUPPORTED, "a staged head is where all of the model is");
    if (e->ring.n)
        return base_fail(why, ROTOR_E_UNSUPPORTED,
                         "the cache of layers with a window cannot be handed over");
    if (e->opt.prompt_device == DEV_CPU || !f) return ROTOR_OK;
    uint64_t *layers = base_alloc_array(all, sizeof *layers);
    rotor_status st = sum_needs(e, false, &n, layers, why);
    const run_place p = st == ROTOR_OK ? run_place_model(&n, UINT32_MAX, f) : (run_place){0};
    base_free(layers);
    if (st == ROTOR_OK && !p.table)
        st = base_fail(why, ROTOR_E_FULL,
                       "device %s: its memory, %llu MiB, does not hold the whole model", f->name,
                       (unsigned long long)(f->heap_bytes >> 20));
    return st;
}

/* The pass once more, on a device of its own. Handles count from 0 on every device: those of e
 * stay as they are. */
static rotor_status record_prompt(run_engine *e, dev *prompt, rotor_error *why) {
    dev *rest = e->d;
    e->d = prompt;
    e->n_lora_bufs = 0;
    rotor_status st = make_buffers(e, why);
    if (st == ROTOR_OK) st = run_record_forward(e, why);
    e->d = rest;
    return st;
}

static rotor_status add_prompt_device(run_engine *e, rotor_error *why) {
    const run_bufs bufs = e->buf;
    const dev_shape s = shape_of(e, NULL, NULL);
    dev *prompt = NULL;
    ROTOR_TRY(check_prompt_place(e, why));
    ROTOR_TRY(make_device(e, &prompt, why));
    rotor_status st = record_prompt(e, prompt, why);
    assert(st != ROTOR_OK || memcmp(&bufs, &e->buf, sizeof bufs) == 0);
    (void)bufs;
    snprintf(e->prompt_name, sizeof e->prompt_name, "%s", dev_name(prompt));
    if (st == ROTOR_OK) st = dev_pair_create(&e->d, prompt, e->d, &s, why);
    if (st != ROTOR_OK) dev_free(&prompt);
    return st;
}

static const char *name_of(const void *user, const uint8_t *data) {
    const run_part *part = run_part_at(user, data);
    return part ? part->name : NULL;
}

static rotor_status trace_ops(run_engine *e, rotor_error *err) {
    run_parts parts = {0};
    rotor_status st = run_list_parts(&parts, e, err);
    if (st == ROTOR_OK) st = dev_trace(e->d, e->opt.trace, name_of, &parts, err);
    run_free_parts(&parts);
    return st;
}

rotor_status run_set_up_device(run_engine *e, rotor_error *err) {
    rotor_error why = {0};
    ROTOR_TRY(set_up_main(e, err));
    if (e->opt.trace) ROTOR_TRY(trace_ops(e, err));
    if (e->opt.prompt_device == DEV_CPU && e->opt.device == DEV_CPU) e->opt.prompt_apart = false;
    if (!e->opt.prompt_apart) return ROTOR_OK;
    if (add_prompt_device(e, &why) == ROTOR_OK) {
        base_log_printf(e->opt.log, BASE_LOG_INFO, "prompts: %s", e->prompt_name);
        return ROTOR_OK;
    }
    base_log_printf(e->opt.log, BASE_LOG_WARN, "%s; prompts stay with %s", why.message,
                    dev_name(e->d));
    e->opt.prompt_apart = false;
    return ROTOR_OK;
}
