/* SPDX-License-Identifier: MIT
 *
 * The engine: a model bound to a device and its cache pages. The device and what is on it is made
 * in device.c.
 *
 * Everything is allocated in run_create; run_eval allocates nothing.
 */
#include "run/run_internal.h"

#include <assert.h>
#include <math.h>

/* Positions a session can go back by, beside the rows of a step, without losing its window. */
enum { RING_SLACK = 128, DEFAULT_LOGITS = 16 };

/* ==== Creation ================================================================================ */

/* An expert's rows are unpacked once for all the tokens that a step sends to it, which are few:
 * twice the rows make such prompts a tenth faster. */
uint32_t run_default_chunk(const model_hparams *hp) { return hp->n_expert ? 512 : 256; }

uint64_t run_work_bytes(const model_hparams *hp, uint32_t chunk, uint32_t max_logits,
                        bool copies_head) {
    const uint64_t rows = chunk ? chunk : run_default_chunk(hp);
    const uint64_t picked = max_logits ? max_logits : DEFAULT_LOGITS;
    const uint64_t slots = hp->n_expert ? hp->n_used : 1;
    const uint64_t width =
        3ull * hp->n_embd + 2ull * hp->n_head * hp->d_head + 2ull * hp->n_head_kv * hp->d_head +
        slots * (2ull * hp->n_ff + (hp->n_expert ? hp->n_embd : 0)) + 2ull * hp->n_ff_shared;
    const uint64_t head = copies_head ? (uint64_t)hp->n_vocab * hp->n_embd * 34 / 32 : 0;
    return rows * width * 6 + picked * hp->n_vocab * 4 + head; /* floats and their int8 forms */
}

/* What a row of the largest step reads, and a page more, since the first is begun anywhere. */
uint32_t run_ring_positions(const model_hparams *hp, uint32_t n_tok, uint32_t chunk) {
    const uint64_t keep =
        (uint64_t)hp->window + (chunk ? chunk : run_default_chunk(hp)) + RING_SLACK;
    const uint64_t pages = (keep + KERN_KEYS - 1) / KERN_KEYS + 1;
    return hp->window_every && hp->window ? (uint32_t)BASE_MIN(pages * KERN_KEYS, n_tok) : 0;
}

static rotor_status make_pages(run_pages *p, uint32_t n, rotor_error *err) {
    p->refs = base_alloc_array(n, sizeof *p->refs);
    p->free = base_alloc_array(n, sizeof *p->free);
    if (!p->refs || !p->free) return base_fail_nomem(err, "creating an engine");
    p->n = p->n_free = n;
    for (uint32_t i = 0; i < n; i++) p->free[i] = n - 1 - i; /* lowest page on top */
    return ROTOR_OK;
}

/* Ring pages, where some layers have a window and the announced sessions would keep less than the
 * whole. There are as many as of the others, for any number of short sessions and of beams that
 * share what they have: on the CPU a page that is never taken costs nothing. */
static rotor_status make_ring(run_engine *e, rotor_error *err) {
    const model_hparams *hp = &e->m->hp;
    if (!hp->window || !hp->window_every || !e->opt.n_sessions) return ROTOR_OK;
    const uint32_t n = run_ring_positions(hp, UINT32_MAX, e->opt.chunk);
    if ((uint64_t)n / KERN_KEYS * e->opt.n_sessions >= e->opt.n_pages) return ROTOR_OK;
    e->ring_keep = n - KERN_KEYS;
    return make_pages(&e->ring, e->opt.n_pages, err); /* never full before the others are */
}

static rotor_status make_step(run_engine *e, rotor_error *err) {
    e->token = base_alloc_array(e->opt.chunk, sizeof *e->token);
    e->pos = base_alloc_array(e->opt.chunk, sizeof *e->pos);
    e->picked = base_alloc_array(e->opt.chunk, sizeof *e->picked);
    e->len = base_alloc_array(e->opt.chunk, sizeof *e->len);
    e->type = base_alloc_array(e->opt.chunk, sizeof *e->type);
    e->table = base_alloc_array(e->opt.chunk, sizeof *e->table);
    e->rows = base_alloc_array(e->opt.chunk, sizeof *e->rows);
    e->ring_table = base_alloc_array(e->opt.chunk, sizeof *e->ring_table);
    e->no_logits = base_alloc_array(e->m->hp.n_vocab, sizeof *e->no_logits);
    for (uint32_t i = 0; e->no_logits && i < e->m->hp.n_vocab; i++) e->no_logits[i] = NAN;
    if (!e->no_logits || !e->token || !e->pos || !e->picked || !e->table || !e->ring_table ||
        !e->rows || !e->len || !e->type)
        return base_fail_nomem(err, "creating an engine");
    ROTOR_TRY(make_pages(&e->pages, e->opt.n_pages, err));
    return make_ring(e, err);
}

static rotor_status set_up(run_engine *e, rotor_error *err) {
    ROTOR_TRY(make_step(e, err));
    return run_set_up_device(e, err);
}

rotor_status run_check_positions(const model *m, uint32_t n, rotor_error *err) {
    if (!m->hp.n_pos || n <= m->hp.n_pos) return ROTOR_OK;
    return base_fail(err, ROTOR_E_ARG,
                     "context of %u positions: the model has learned %u and knows no others", n,
                     m->hp.n_pos);
}

rotor_status run_create(run_engine **out, const model *m, par_pool *pool, const run_options *opt,
                        rotor_error *err) {
    assert(opt->n_pages > 0);
    ROTOR_TRY(run_check_positions(m, opt->n_ctx, err));
    run_engine *e = base_alloc(sizeof *e);
    if (!e) return base_fail_nomem(err, "creating an engine");
    e->m = m;
    e->pool = pool;
    e->opt = *opt;
    if (e->opt.chunk == 0) e->opt.chunk = run_default_chunk(&m->hp);
    if (e->opt.n_ctx == 0)
        e->opt.n_ctx = BASE_MIN(opt->n_pages, UINT32_MAX / KERN_KEYS) * KERN_KEYS;
    if (m->hp.n_pos && !opt->n_ctx) e->opt.n_ctx = BASE_MIN(e->opt.n_ctx, m->hp.n_pos);
    if (e->opt.max_logits == 0) e->opt.max_logits = DEFAULT_LOGITS;
    if (e->opt.solo_bytes == 0) e->opt.solo_bytes = 4 << 20;
    e->opt.max_logits = BASE_MIN(e->opt.max_logits, e->opt.chunk);
    kern_init(&e->k, opt->cpu);
    rotor_status st = set_up(e, err);
    if (st == ROTOR_OK && e->opt.self_check > 0) st = run_check_create(e, err);
    if (st != ROTOR_OK) return run_free(&e), st;
    e->opt.device_cache = NULL; /* these are borrowed for this call only */
    e->opt.device_facts = e->opt.prompt_facts = NULL;
    *out = e;
    return ROTOR_OK;
}

void run_free(run_engine **ep) {
    if (!ep || !*ep) return;
    run_engine *e = *ep;
    run_check_free(&e->check);
    dev_free(&e->d);
    base_free_aligned(e->head_copy);
    base_free_aligned(e->layer_copy);
    base_free(e->layer_mats);
    base_free(e->lora_bufs);
    base_free(e->no_logits);
    base_free(e->token);
    base_free(e->pos);
    base_free(e->picked);
    base_free(e->len);
    base_free(e->type);
    base_free(e->table);
    base_free(e->rows);
    base_free(e->ring_table);
    base_free(e->pages.refs);
    base_free(e->pages.free);
    base_free(e->ring.refs);
    base_free(e->ring.free);
    base_free(e);
    *ep = NULL;
}

/* ==== Facts =================================================================================== */

const model *run_model(const run_engine *e) { return e->m; }
base_trace *run_trace(const run_engine *e) { return e->opt.trace; }
uint32_t run_chunk(const run_engine *e) { return e->opt.chunk; }
uint32_t run_max_logits(const run_engine *e) { return e->opt.max_logits; }
uint32_t run_free_pages(const run_engine *e) { return e->pages.n_free; }
uint32_t run_free_ring_pages(const run_engine *e) {
    return e->ring.n ? e->ring.n_free : UINT32_MAX;
}
const char *run_device_name(const run_engine *e) { return e->device_name; }
dev_api run_device(const run_engine *e) { return e->opt.device; }
const char *run_prompt_device(const run_engine *e) {
    return e->opt.prompt_apart ? e->prompt_name : NULL;
}
uint32_t run_device_layers(const run_engine *e) { return e->place.n_layer; }
const char *run_head_name(const run_engine *e) { return e->head_name; }

uint64_t run_memory_bytes(const run_engine *e) {
    return (e->d ? dev_memory_bytes(e->d) : 0) + (e->head_copy ? e->head_bytes : 0) +
           e->layer_copy_bytes;
}

dev_counters run_counters(const run_engine *e) {
    dev_counters c = {0};
    if (e->d) dev_counters_get(e->d, &c);
    return c;
}

rotor_status run_time_ops(run_engine *e, bool on, rotor_error *err) {
    if (!e->d) return base_fail(err, ROTOR_E_DEVICE, "the device has failed");
    return dev_time_ops(e->d, on, err);
}

size_t run_op_times(const run_engine *e, dev_op_time *out, size_t max) {
    return e->d ? dev_op_times(e->d, out, max) : 0;
}
