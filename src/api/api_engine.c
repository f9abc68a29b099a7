/* SPDX-License-Identifier: MIT
 *
 * Engines: options to a model, threads, a cache of the right size, and a chat template.
 *
 * Order of opening: options checked, threads started (they help to read the model), model, length
 * of the context, cache and device, chat template. Closing goes the other way.
 * Everything an engine decides by itself (context, threads, CPU level, template) is said once in
 * the log at level info.
 */
#include "api/api_internal.h"

#include "cpu/cpu.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

enum {
    AUTO_CTX = 4096,        /* automatic context at most: nobody's memory is taken unasked */
    MAX_THREADS = 1024,     /* more is a mistake */
    TRACE_EVENTS = 200000,  /* kept of a trace: some 30 MB of text */
    SPARE_BYTES = 256 << 20 /* left for buffers and the rest of the machine */
};

/* Where the model comes from. */
typedef struct origin {
    const char *path; /* file or folder; NULL: memory */
    const void *data; /* GGUF image */
    size_t n_bytes;   /* of data */
    const char *name; /* for messages */
} origin;

rotor_engine_options rotor_engine_options_default(void) {
    return (rotor_engine_options){.size = sizeof(rotor_engine_options),
                                  .ctx = UINT32_MAX,
                                  .max_sessions = 1,
                                  .lora_scale = 1};
}

/* ==== Options ================================================================================= */

static rotor_status check_options(const rotor_engine_options *o, rotor_error *err) {
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return base_fail(err, ROTOR_E_ARG, "threads is %d, expected 0 to %d", o->threads,
                         MAX_THREADS);
    if (o->max_sessions < 1 || o->max_sessions > 65536)
        return base_fail(err, ROTOR_E_ARG, "max_sessions is %u, expected 1 to 65536",
                         o->max_sessions);
    if (o->chunk > 65536 || o->max_logits > 65536)
        return base_fail(err, ROTOR_E_ARG, "chunk is %u and max_logits %u, expected at most 65536",
                         o->chunk, o->max_logits);
    if ((unsigned)o->kv > ROTOR_KV_Q8 || (unsigned)o->head > ROTOR_HEAD_EXACT ||
        (unsigned)o->i2s > ROTOR_I2S_4ROW || (unsigned)o->yarn > ROTOR_YARN_ROUNDED)
        return base_fail(err, ROTOR_E_ARG,
                         "kv, head, i2s or yarn has no such value: %d, %d, %d, %d", (int)o->kv,
                         (int)o->head, (int)o->i2s, (int)o->yarn);
    if ((unsigned)o->pool > ROTOR_POOL_LAST)
        return base_fail(err, ROTOR_E_ARG, "pool has no such value: %d", (int)o->pool);
    if (!(o->self_check >= 0) || o->self_check > 1)
        return base_fail(err, ROTOR_E_ARG, "self_check is %g, expected 0 to 1",
                         (double)o->self_check);
    if (!isfinite(o->lora_scale))
        return base_fail(err, ROTOR_E_ARG, "lora_scale is %g, expected a finite number",
                         (double)o->lora_scale);
    return ROTOR_OK;
}

static kern_kv kv_of(rotor_kv kv) {
    return kv == ROTOR_KV_F32 ? KERN_KV_F32 : kv == ROTOR_KV_Q8 ? KERN_KV_Q8 : KERN_KV_F16;
}

static double kv_bytes_per_elem(rotor_kv kv) {
    return kv == ROTOR_KV_F32 ? 4.0 : kv == ROTOR_KV_Q8 ? 34.0 / 32.0 : 2.0;
}

static run_head head_of(rotor_head head) {
    return head == ROTOR_HEAD_FILE    ? RUN_HEAD_FILE
           : head == ROTOR_HEAD_EXACT ? RUN_HEAD_EXACT
           : head == ROTOR_HEAD_Q6    ? RUN_HEAD_Q6
                                      : RUN_HEAD_Q8;
}

static int i2s_of(rotor_i2s i2s) {
    return i2s == ROTOR_I2S_ARM    ? QUANT_I2S_ARM
           : i2s == ROTOR_I2S_4ROW ? QUANT_I2S_4ROW
                                   : QUANT_I2S_X86;
}

static void forward_log(void *user, base_log_level level, const char *line) {
    const rotor_engine *e = user;
    e->opt.log(e->opt.log_user, (int)level, line);
}

/* ==== Threads, model ========================================================================== */

static rotor_status start_threads(rotor_engine *e, rotor_error *err) {
    unsigned mask = ~0u;
    if (e->opt.cpu) ROTOR_TRY(cpu_parse_mask(e->opt.cpu, &mask, err));
    e->cpu = cpu_detect() & mask;
    if (e->opt.threads_of) return e->pool = e->opt.threads_of->pool, ROTOR_OK;
    return par_create(&e->pool, e->opt.threads ? e->opt.threads : base_core_count(), false, err);
}

static void on_every_thread(void *pool, void (*fn)(void *, int, int), void *arg) {
    par_run(pool, fn, arg);
}

static rotor_status open_model(rotor_engine *e, const origin *from, rotor_error *err) {
    const model_options opt = {.no_map = e->opt.no_mmap,
                               .i2s = e->opt.i2s == ROTOR_I2S_AUTO ? -1 : i2s_of(e->opt.i2s),
                               .max_layers = e->opt.max_layers,
                               .yarn = e->opt.yarn == ROTOR_YARN_EXACT     ? MODEL_YARN_EXACT
                                       : e->opt.yarn == ROTOR_YARN_ROUNDED ? MODEL_YARN_ROUNDED
                                                                           : MODEL_YARN_AUTO,
                               .parallel = {on_every_thread, e->pool},
                               .log = &e->log};
    if (from->path)
        ROTOR_TRY(model_open(&e->m, from->path, &opt, err));
    else
        ROTOR_TRY(model_open_memory(&e->m, from->data, from->n_bytes, from->name, &opt, err));
    return e->opt.lora ? model_adapter_open(&e->adapter, e->opt.lora, e->m, &opt, err) : ROTOR_OK;
}

/* ==== Context ================================================================================= */

/* Cache of the layers that keep only their window, of a session. */
static uint64_t ring_bytes(const rotor_engine *e, uint64_t ctx) {
    const model_hparams *hp = &e->m->hp;
    const uint32_t n_tok = (uint32_t)BASE_MIN(ctx, UINT32_MAX);
    return run_ring_positions(hp, n_tok, e->opt.chunk) *
           model_ring_bytes_per_tok(hp, kv_bytes_per_elem(e->opt.kv));
}

/* Positions per session for which there is memory now. Mapped weights are not in use yet. */
static uint64_t fitting_ctx(const rotor_engine *e, uint64_t bytes_per_tok) {
    uint64_t have = api_available(e), need = SPARE_BYTES;
    need += e->opt.max_sessions * ring_bytes(e, e->opt.ctx == UINT32_MAX ? AUTO_CTX : e->opt.ctx);
    if (!e->opt.no_mmap && e->m->file_bytes > e->m->owned_bytes)
        need += e->m->file_bytes - e->m->owned_bytes;
    /* mapped weights that do not fit anyway leave the cache its part */
    const uint64_t left = BASE_MAX(have > need ? have - need : 0, have / 4);
    uint64_t tok = left / BASE_MAX(bytes_per_tok, 1) / e->opt.max_sessions / KERN_KEYS * KERN_KEYS;
    return BASE_MAX(tok, (uint64_t)KERN_KEYS);
}

static void choose_ctx(rotor_engine *e) {
    const uint32_t n_text = e->opt.embed ? e->m->hp.n_text : 0;
    uint64_t own = n_text ? n_text : e->m->hp.n_ctx, per_tok;
    per_tok = model_kv_bytes_per_tok(&e->m->hp, kv_bytes_per_elem(e->opt.kv));
    uint64_t fits = fitting_ctx(e, per_tok), ctx = e->opt.ctx ? e->opt.ctx : own;
    if (e->opt.ctx == UINT32_MAX)
        ctx = BASE_MIN(BASE_MIN(own, (uint64_t)AUTO_CTX), fits);
    else if (ctx > fits)
        base_log_printf(&e->log, BASE_LOG_WARN,
                        "context of %llu positions: memory is free for about %llu",
                        (unsigned long long)ctx, (unsigned long long)fits);
    if (ctx > own)
        base_log_printf(&e->log, BASE_LOG_WARN,
                        "context of %llu positions: the model was made for %llu",
                        (unsigned long long)ctx, (unsigned long long)own);
    e->n_ctx = (uint32_t)ctx;
    e->kv_tok_bytes = per_tok;
    ctx = (ctx + KERN_KEYS - 1) / KERN_KEYS * KERN_KEYS;
    e->kv_bytes = e->opt.max_sessions * (per_tok * ctx + ring_bytes(e, ctx));
}

static rotor_status create_run(rotor_engine *e, rotor_error *err) {
    choose_ctx(e);
    uint64_t pages =
        (uint64_t)e->opt.max_sessions * (((uint64_t)e->n_ctx + KERN_KEYS - 1) / KERN_KEYS);
    if (pages > UINT32_MAX)
        return base_fail(err, ROTOR_E_ARG, "ctx of %u for %u sessions is out of reach", e->n_ctx,
                         e->opt.max_sessions);
    api_device device, prompt = {.api = DEV_CPU};
    run_options opt = {.cpu = e->cpu,
                       .device_cache = e->opt.device_cache,
                       .device_layers = e->opt.device_layers,
                       .kv = kv_of(e->opt.kv),
                       .float_act = e->opt.float_act,
                       .encoder_int8 = e->opt.embed && e->opt.embed_int8,
                       .head = head_of(e->opt.head),
                       .n_pages = (uint32_t)pages,
                       .n_ctx = e->n_ctx,
                       .n_sessions = e->opt.max_sessions,
                       .chunk = e->opt.chunk,
                       .max_logits = e->opt.max_logits,
                       .log = &e->log,
                       .trace = e->trace,
                       .self_check = e->opt.embed ? 0 : e->opt.self_check,
                       .adapter = e->adapter,
                       .adapter_strength = e->opt.lora_scale};
    if (e->opt.embed) {
        api_embed_options(e, &opt);
        ROTOR_TRY(run_create(&e->run, e->m, e->pool, &opt, err));
        return api_name_device(e, &(api_device){.api = DEV_CPU}), ROTOR_OK;
    }
    ROTOR_TRY(api_choose_device(e, &opt, &device, err));
    opt.device = device.api;
    opt.device_index = device.index;
    opt.device_facts = device.api == DEV_CPU ? NULL : &device.facts;
    if (device.api == DEV_CPU) opt.device_layers = 0;
    ROTOR_TRY(api_choose_prompt_device(e, &device, &prompt, &opt.prompt_apart, err));
    opt.prompt_device = prompt.api;
    opt.prompt_index = prompt.index;
    opt.prompt_facts = prompt.api == DEV_CPU ? NULL : &prompt.facts;
    opt.on_demand = e->on_demand = api_plan_memory(e, device.api == DEV_CPU);
    ROTOR_TRY(run_create(&e->run, e->m, e->pool, &opt, err));
    api_name_device(e, &device);
    e->rows = base_alloc_array(run_max_logits(e->run), sizeof *e->rows);
    return e->rows ? ROTOR_OK : base_fail_nomem(err, "opening an engine");
}

/* ==== Opening and closing ===================================================================== */

static void log_start(const rotor_engine *e) {
    const model_hparams *hp = &e->m->hp;
    base_log_printf(&e->log, BASE_LOG_INFO, "model: %s (%s, %s), %.1f M weights, %.1f MB",
                    e->m->name, e->m->arch, e->m->type_name, (double)e->m->n_params / 1e6,
                    (double)e->m->file_bytes / 1e6);
    if (e->adapter)
        base_log_printf(&e->log, BASE_LOG_INFO,
                        "adapter: %s, rank %u, alpha %g%s, beside %u projections, %.2f M weights",
                        file_path(e->adapter->file), e->adapter->rank, (double)e->adapter->alpha,
                        e->opt.lora_scale == 1 ? "" : " (scaled)", e->adapter->n_pairs,
                        (double)e->adapter->n_params / 1e6);
    base_log_printf(
        &e->log, BASE_LOG_INFO, "context: %u of %u positions (%s), cache %.1f MB for %u session%s",
        e->n_ctx, hp->n_ctx, e->opt.ctx == UINT32_MAX ? "automatic" : "as asked",
        (double)e->kv_bytes / 1e6, e->opt.max_sessions, e->opt.max_sessions == 1 ? "" : "s");
    base_log_printf(&e->log, BASE_LOG_INFO, "processor: %d thread%s, %s, head %s",
                    par_n_threads(e->pool), par_n_threads(e->pool) == 1 ? "" : "s",
                    cpu_level_name(e->cpu), run_head_name(e->run));
    if (e->pool_in_use == MODEL_POOL_RANK)
        base_log_printf(&e->log, BASE_LOG_INFO, "%s", api_pool_line(e));
    else if (e->opt.embed)
        base_log_printf(&e->log, BASE_LOG_INFO, "vectors of %zu floats, %s",
                        model_vector_width(e->m), api_pool_line(e));
    else if (e->tmpl || e->harmony.v)
        base_log_printf(&e->log, BASE_LOG_INFO, "%s",
                        e->tmpl ? chat_template_describe(e->tmpl) : e->harmony_line);
    else
        base_log_printf(&e->log, BASE_LOG_WARN, "%s", e->tmpl_error.message);
}

/* Tells the trace what opening has been busy with since *since_ns, and sets that to now. */
static void trace_load(const rotor_engine *e, const char *what, uint64_t *since_ns) {
    const uint64_t now = base_now_ns();
    if (e->trace)
        base_trace_add(e->trace, &(base_trace_event){.name = what,
                                                     .cat = "load",
                                                     .start_ns = *since_ns,
                                                     .end_ns = now,
                                                     .layer = BASE_TRACE_NONE,
                                                     .id = BASE_TRACE_NONE});
    *since_ns = now;
}

static rotor_status open_engine(rotor_engine **out, const origin *from,
                                const rotor_engine_options *user, rotor_error *err) {
    rotor_engine_options opt = rotor_engine_options_default();
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_engine_options", err));
    ROTOR_TRY(check_options(&opt, err));
    rotor_engine *e = base_alloc(sizeof *e);
    if (!e) return base_fail_nomem(err, "opening an engine");
    e->opt = opt;
    if (opt.embed) { /* what a cache costs is said in these words */
        e->opt.kv = ROTOR_KV_F32;
        e->opt.max_sessions = 1;
    }
    e->log = (base_log){opt.log ? forward_log : NULL, e};
    uint64_t since = base_now_ns();
    rotor_status status = base_mutex_create(&e->words_lock) == ROTOR_OK
                              ? start_threads(e, err)
                              : base_fail_nomem(err, "opening an engine");
    if (status == ROTOR_OK && opt.trace)
        status = base_trace_create(&e->trace, opt.trace,
                                   opt.trace_events ? opt.trace_events : TRACE_EVENTS, err);
    if (status != ROTOR_OK) goto fail;
    trace_load(e, "start threads", &since);
    status = open_model(e, from, err);
    if (status != ROTOR_OK) goto fail;
    trace_load(e, "open the model", &since);
    status = api_check_use(e, err);
    if (status != ROTOR_OK) goto fail;
    api_choose_pool(e);
    status = create_run(e, err);
    if (status != ROTOR_OK) goto fail;
    trace_load(e, "make cache, head and pass", &since);
    status = e->opt.embed ? base_fail(&e->tmpl_error, ROTOR_OK, "the engine makes vectors, no text")
                          : api_choose_template(e, err);
    if (status != ROTOR_OK) goto fail;
    trace_load(e, "choose the chat template", &since);
    log_start(e);
    e->opt.trace = NULL;
    e->opt.cpu = e->opt.chat_template = e->opt.lora = NULL; /* strings end with this call, but */
    e->opt.device = e->opt.device_cache = NULL;             /* run has read its own */
    e->opt.device_prompt = NULL;
    *out = e;
    return ROTOR_OK;
fail:
    rotor_engine_close(&e);
    return status;
}

rotor_status rotor_engine_open(rotor_engine **out, const char *path,
                               const rotor_engine_options *opt, rotor_error *err) {
    if (!out || !path) return base_fail(err, ROTOR_E_ARG, "rotor_engine_open: out or path is NULL");
    return open_engine(out, &(origin){.path = path}, opt, err);
}

rotor_status rotor_engine_open_memory(rotor_engine **out, const void *data, size_t n_bytes,
                                      const char *name, const rotor_engine_options *opt,
                                      rotor_error *err) {
    if (!out || !data)
        return base_fail(err, ROTOR_E_ARG, "rotor_engine_open_memory: out or data is NULL");
    const origin from = {.data = data, .n_bytes = n_bytes, .name = name ? name : "memory"};
    return open_engine(out, &from, opt, err);
}

void rotor_engine_close(rotor_engine **pe) {
    if (!pe || !*pe) return;
    rotor_engine *e = *pe;
    rotor_error why = {0};
    if (e->run) api_log_checks(e);
    if (base_trace_finish(&e->trace, &why) != ROTOR_OK)
        base_log_printf(&e->log, BASE_LOG_ERROR, "%s", why.message);
    harmony_guide_free(&e->guide);
    grammar_words_free(&e->words);
    grammar_words_free(&e->call_words);
    base_mutex_free(&e->words_lock);
    chat_template_free(&e->tmpl);
    base_free(e->rows);
    run_free(&e->run);
    model_adapter_close(&e->adapter);
    model_close(&e->m);
    if (!e->opt.threads_of) par_free(&e->pool);
    base_free(e);
    *pe = NULL;
}

/* ==== Facts =================================================================================== */

rotor_status rotor_engine_get_info(const rotor_engine *e, rotor_engine_info *info) {
    if (!e || !info || info->size < 8 || info->size % 8 != 0) return ROTOR_E_ARG;
    const model *m = e->m;
    const dev_counters counters = run_counters(e->run);
    const bool on_cpu = run_device(e->run) == DEV_CPU; /* also when the device has failed since */
    rotor_engine_info all = {.name = m->name,
                             .architecture = m->arch,
                             .type_name = m->type_name,
                             .template_line = e->tmpl        ? chat_template_describe(e->tmpl)
                                              : e->harmony.v ? e->harmony_line
                                                             : e->tmpl_error.message,
                             .head = run_head_name(e->run),
                             .cpu = cpu_level_name(e->cpu),
                             .n_vocab = m->hp.n_vocab,
                             .n_embd = m->hp.n_embd,
                             .n_layer = m->hp.n_layer,
                             .n_head = m->hp.n_head,
                             .n_head_kv = m->hp.n_head_kv,
                             .n_ff = m->hp.n_ff,
                             .n_ctx_train = m->hp.n_ctx,
                             .n_ctx = e->n_ctx,
                             .threads = par_n_threads(e->pool),
                             .n_params = m->n_params,
                             .file_bytes = m->file_bytes,
                             .kv_bytes = e->kv_bytes,
                             .step_bytes = run_step_bytes(e->run),
                             .head_bytes = run_head_bytes(e->run),
                             .head_all_bytes = run_head_all_bytes(e->run),
                             .kv_tok_bytes = e->kv_tok_bytes,
                             .temperature = m->sampling.temperature,
                             .top_p = m->sampling.top_p,
                             .min_p = m->sampling.min_p,
                             .repeat_penalty = m->sampling.repeat_penalty,
                             .top_k = m->sampling.top_k,
                             .has_template = e->has_template,
                             .device = on_cpu ? "cpu" : e->device,
                             .device_name = on_cpu ? "cpu" : e->device_name,
                             .device_why = e->device_why,
                             .device_prompt = run_prompt_device(e->run) ? e->device_prompt
                                              : on_cpu                  ? "cpu"
                                                                        : e->device,
                             .pool = (rotor_pool)e->pool_in_use,
                             .n_vector = e->opt.embed ? (uint32_t)model_vector_width(m) : 0,
                             .device_steps = counters.steps,
                             .device_dependent = counters.dependent,
                             .device_up = counters.bytes_up,
                             .device_imported = counters.imported,
                             .work_bytes = e->work_bytes,
                             .available_bytes = e->have_bytes,
                             .on_demand = e->on_demand,
                             .wanted_bytes = counters.wanted,
                             .file_id = m->file ? file_id(m->file) : 0,
                             .device_down = counters.bytes_down,
                             .device_layers = on_cpu ? 0 : run_device_layers(e->run)};
    dev_staged_stats st;
    if (run_head_stats(e->run, &st)) {
        _Static_assert(sizeof all.head_survivors == sizeof st.survivors, "stages of the head");
        all.head_tokens = st.finds;
        all.head_whole = st.undecided;
        all.head_rows = st.exact;
        memcpy(all.head_survivors, st.survivors, sizeof st.survivors);
    }
    all.size = info->size;
    memcpy(info, &all, BASE_MIN(sizeof all, (size_t)info->size));
    return ROTOR_OK;
}
