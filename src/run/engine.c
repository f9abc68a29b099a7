/* SPDX-License-Identifier: MIT
 *
 * The engine: a model bound to a device and its cache pages. The output head is made in head.c.
 *
 * Everything is allocated in run_create; run_eval allocates nothing.
 */
#include "run/run_internal.h"

#include <assert.h>
#include <math.h>

/* ==== Creation ================================================================================ */

static rotor_status make_device(run_engine *e, rotor_error *err) {
    const model_hparams *hp = &e->m->hp;
    double *inv_freq = base_alloc_array(hp->n_rot / 2 + 1, sizeof *inv_freq);
    if (!inv_freq) return base_fail_nomem(err, "creating an engine");
    model_rope_freqs(hp, inv_freq);
    const dev_shape shape = {.max_rows = e->opt.chunk,
                             .max_picked = e->opt.max_logits,
                             .n_layer = hp->n_layer,
                             .n_head = hp->n_head,
                             .n_head_kv = hp->n_head_kv,
                             .d_head = hp->d_head,
                             .n_rot = hp->n_rot,
                             .rope_interleaved = hp->rope_interleaved,
                             .inv_freq = inv_freq,
                             .n_pages = e->opt.n_pages,
                             .kv = e->opt.kv,
                             .float_act = e->opt.float_act,
                             .solo_bytes = e->opt.solo_bytes};
    const run_options *opt = &e->opt;
    rotor_status st = opt->device == DEV_CPU ? dev_cpu_create(&e->d, &e->k, e->pool, &shape, err)
                      : opt->open_gpu        ? opt->open_gpu(&e->d, &shape, err)
                                             : dev_gpu_create(&e->d, opt->device, opt->device_index,
                                                              opt->device_cache, &shape, err);
    base_free(inv_freq);
    return st;
}

static rotor_status make_buffers(run_engine *e, rotor_error *err) {
    const model_hparams *hp = &e->m->hp;
    const size_t q = (size_t)hp->n_head * hp->d_head, kv = (size_t)hp->n_head_kv * hp->d_head;
    run_bufs *b = &e->buf;
    const struct {
        dev_buf *out; /* handle to fill */
        size_t width; /* floats per row */
        bool picked;  /* only rows with logits */
    } list[] = {{&b->x, hp->n_embd, false}, {&b->h, hp->n_embd, false},
                {&b->q, q, false},          {&b->k, kv, false},
                {&b->v, kv, false},         {&b->a, q, false},
                {&b->g, hp->n_ff, false},   {&b->u, hp->n_ff, false},
                {&b->px, hp->n_embd, true}, {&b->logits, hp->n_vocab, true}};
    for (size_t i = 0; i < BASE_COUNT(list); i++)
        ROTOR_TRY(dev_add_buf(e->d, list[i].width, list[i].picked, list[i].out, err));
    return ROTOR_OK;
}

static rotor_status make_step(run_engine *e, rotor_error *err) {
    run_pages *p = &e->pages;
    e->token = base_alloc_array(e->opt.chunk, sizeof *e->token);
    e->pos = base_alloc_array(e->opt.chunk, sizeof *e->pos);
    e->picked = base_alloc_array(e->opt.chunk, sizeof *e->picked);
    e->table = base_alloc_array(e->opt.chunk, sizeof *e->table);
    e->rows = base_alloc_array(e->opt.chunk, sizeof *e->rows);
    p->refs = base_alloc_array(e->opt.n_pages, sizeof *p->refs);
    p->free = base_alloc_array(e->opt.n_pages, sizeof *p->free);
    e->no_logits = base_alloc_array(e->m->hp.n_vocab, sizeof *e->no_logits);
    for (uint32_t i = 0; e->no_logits && i < e->m->hp.n_vocab; i++) e->no_logits[i] = NAN;
    if (!e->no_logits || !e->token || !e->pos || !e->picked || !e->table || !e->rows || !p->refs ||
        !p->free)
        return base_fail_nomem(err, "creating an engine");
    p->n = p->n_free = e->opt.n_pages;
    for (uint32_t i = 0; i < p->n; i++) p->free[i] = p->n - 1 - i; /* lowest page on top */
    return ROTOR_OK;
}

static rotor_status set_up_on(run_engine *e, rotor_error *err) {
    e->staged = false;
    ROTOR_TRY(make_device(e, err));
    ROTOR_TRY(make_buffers(e, err));
    ROTOR_TRY(run_make_head(e, err));
    return run_record_forward(e, err);
}

rotor_status run_set_up_device(run_engine *e, rotor_error *err) {
    rotor_error why = {0};
    if (e->opt.device == DEV_CPU) return set_up_on(e, err);
    rotor_status st = set_up_on(e, &why);
    if (st == ROTOR_OK) return ROTOR_OK;
    base_log_printf(e->opt.log, BASE_LOG_WARN, "%s; the CPU does it", why.message);
    dev_free(&e->d);
    e->n_lora_bufs = 0;
    base_free_aligned(e->head_copy);
    e->head_copy = NULL;
    e->opt.device = DEV_CPU;
    return set_up_on(e, err);
}

static rotor_status set_up(run_engine *e, rotor_error *err) {
    ROTOR_TRY(make_step(e, err));
    return run_set_up_device(e, err);
}

rotor_status run_create(run_engine **out, const model *m, par_pool *pool, const run_options *opt,
                        rotor_error *err) {
    assert(opt->n_pages > 0);
    run_engine *e = base_alloc(sizeof *e);
    if (!e) return base_fail_nomem(err, "creating an engine");
    e->m = m;
    e->pool = pool;
    e->opt = *opt;
    if (e->opt.chunk == 0) e->opt.chunk = 256;
    if (e->opt.max_logits == 0) e->opt.max_logits = 16;
    if (e->opt.solo_bytes == 0) e->opt.solo_bytes = 4 << 20;
    e->opt.max_logits = BASE_MIN(e->opt.max_logits, e->opt.chunk);
    kern_init(&e->k, opt->cpu);
    rotor_status st = set_up(e, err);
    if (st != ROTOR_OK) return run_free(&e), st;
    e->opt.device_cache = NULL; /* borrowed for this call only */
    *out = e;
    return ROTOR_OK;
}

void run_free(run_engine **ep) {
    if (!ep || !*ep) return;
    run_engine *e = *ep;
    dev_free(&e->d);
    base_free_aligned(e->head_copy);
    base_free(e->lora_bufs);
    base_free(e->no_logits);
    base_free(e->token);
    base_free(e->pos);
    base_free(e->picked);
    base_free(e->table);
    base_free(e->rows);
    base_free(e->pages.refs);
    base_free(e->pages.free);
    base_free(e);
    *ep = NULL;
}

/* ==== Facts =================================================================================== */

const model *run_model(const run_engine *e) { return e->m; }
uint32_t run_chunk(const run_engine *e) { return e->opt.chunk; }
uint32_t run_max_logits(const run_engine *e) { return e->opt.max_logits; }
uint32_t run_free_pages(const run_engine *e) { return e->pages.n_free; }
const char *run_device_name(const run_engine *e) { return e->d ? dev_name(e->d) : "none"; }
dev_api run_device(const run_engine *e) { return e->opt.device; }
const char *run_head_name(const run_engine *e) { return e->head_name; }

uint64_t run_memory_bytes(const run_engine *e) {
    return (e->d ? dev_memory_bytes(e->d) : 0) + (e->head_copy ? e->head_bytes : 0);
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
