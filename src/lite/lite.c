/* SPDX-License-Identifier: MIT
 *
 * A model, a session and a batch of one: a batch advances step by step where gen_run would keep the
 * thread until the text is whole.
 */
#include "lite/lite.h"

#include "cpu/cpu.h"
#include "par/par.h"
#include "run/run.h"

enum { AUTO_CTX = 4096 }; /* positions at most where nobody asks, as in `rotor run` */

struct lite {
    par_pool *pool;    /* owned */
    model *m;          /* owned */
    run_engine *run;   /* owned */
    run_session *s;    /* owned */
    gen_batch *batch;  /* owned, of one job */
    text_ids prompt;   /* ids of the text begun with, owned */
    gen_options opt;   /* of the job, which borrows them */
    gen_result result; /* of the job; owned once it has ended */
    uint32_t job;      /* its handle; 0: none was begun */
    base_buf text;     /* of the last step, owned */
    uint32_t token;    /* of the last step */
};

/* ==== Opening ================================================================================= */

static void on_every_thread(void *pool, void (*fn)(void *, int, int), void *arg) {
    par_run(pool, fn, arg);
}

static rotor_status open_model(lite *l, const lite_options *o, rotor_error *err) {
    const model_options opt = {.i2s = -1, .parallel = {on_every_thread, l->pool}, .log = o->log};
    return o->path ? model_open(&l->m, o->path, &opt, err)
                   : model_open_memory(&l->m, o->data, o->n_bytes, o->name, &opt, err);
}

static rotor_status open_run(lite *l, const lite_options *o, unsigned cpu, rotor_error *err) {
    const uint32_t n_ctx = o->ctx ? o->ctx : BASE_MIN(l->m->hp.n_ctx, (uint32_t)AUTO_CTX);
    const run_options opt = {.cpu = cpu,
                             .kv = KERN_KV_F16,
                             .head = RUN_HEAD_Q8,
                             .n_pages = (n_ctx + KERN_KEYS - 1) / KERN_KEYS,
                             .n_ctx = n_ctx,
                             .n_sessions = 1,
                             .log = o->log};
    if (!l->m->vocab)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s has no vocabulary", l->m->name);
    ROTOR_TRY(run_create(&l->run, l->m, l->pool, &opt, err));
    ROTOR_TRY(run_session_create(&l->s, l->run, n_ctx, err));
    return gen_batch_create(&l->batch, l->run, 1, err);
}

static rotor_status open_all(lite *l, const lite_options *o, rotor_error *err) {
    unsigned mask = ~0u;
    if (o->cpu) ROTOR_TRY(cpu_parse_mask(o->cpu, &mask, err));
    ROTOR_TRY(par_create(&l->pool, o->threads > 0 ? o->threads : base_core_count(), false, err));
    ROTOR_TRY(open_model(l, o, err));
    return open_run(l, o, cpu_detect() & mask, err);
}

rotor_status lite_open(lite **out, const lite_options *opt, rotor_error *err) {
    lite *l = base_alloc(sizeof *l);
    if (!l) return base_fail_nomem(err, "opening a model");
    const rotor_status st = open_all(l, opt, err);
    if (st != ROTOR_OK) return lite_close(&l), st;
    *out = l;
    return ROTOR_OK;
}

static void end_task(lite *l) {
    bool more = l->job != 0;
    if (more) lite_stop(l);
    while (more && lite_step(l, &more, NULL) == ROTOR_OK) {
    }
    gen_result_free(&l->result);
    l->prompt.n = 0;
}

void lite_close(lite **pl) {
    if (!pl || !*pl) return;
    lite *l = *pl;
    if (l->batch) end_task(l);
    gen_batch_free(&l->batch);
    run_session_free(&l->s);
    run_free(&l->run);
    model_close(&l->m);
    par_free(&l->pool);
    text_ids_free(&l->prompt);
    base_buf_free(&l->text);
    base_free(l);
    *pl = NULL;
}

const model *lite_model(const lite *l) { return l->m; }
uint32_t lite_ctx(const lite *l) { return run_session_max(l->s); }
int lite_threads(const lite *l) { return par_n_threads(l->pool); }

/* ==== A text ================================================================================== */

rotor_status lite_encode(const lite *l, base_str text, text_ids *out, rotor_error *err) {
    return text_encode(l->m->vocab, text, TEXT_ADD_BOS, out, err);
}

static bool on_text(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    lite *l = user;
    (void)top;
    if (text.n) base_buf_append(&l->text, text.p, text.n);
    if (choice) l->token = choice->id;
    return true;
}

static gen_sampling sampling_of(const lite *l, const lite_task *task) {
    const model_sampling *m = &l->m->sampling;
    gen_sampling s = gen_sampling_default();
    if (m->temperature >= 0) s.temperature = m->temperature;
    if (m->top_p >= 0) s.top_p = m->top_p;
    if (m->min_p >= 0) s.min_p = m->min_p;
    if (m->repeat_penalty > 0) s.repeat_penalty = m->repeat_penalty;
    if (m->top_k >= 0) s.top_k = m->top_k;
    if (task->temperature >= 0) s.temperature = task->temperature;
    s.seed = task->seed;
    return s;
}

rotor_status lite_begin(lite *l, const lite_task *task, rotor_error *err) {
    end_task(l);
    ROTOR_TRY(lite_encode(l, task->prompt, &l->prompt, err));
    if (!l->prompt.n) return base_fail(err, ROTOR_E_ARG, "there is no text to go on with");
    if (l->prompt.n > run_session_max(l->s))
        return base_fail(err, ROTOR_E_FULL, "the prompt has %zu tokens, the context %u",
                         l->prompt.n, run_session_max(l->s));
    l->opt = (gen_options){.sampling = sampling_of(l, task),
                           .max_new_tok = task->n_new,
                           .no_logprobs = true,
                           .on_text = on_text,
                           .user = l};
    return gen_batch_add(l->batch, l->s, l->prompt.ids, (uint32_t)l->prompt.n, &l->opt, &l->result,
                         &l->job, err);
}

rotor_status lite_step(lite *l, bool *more, rotor_error *err) {
    uint32_t n_live = 0;
    *more = false;
    base_buf_reset(&l->text);
    l->token = TEXT_NO_ID;
    if (!l->job) return ROTOR_OK;
    const rotor_status st = gen_batch_step(l->batch, &n_live, err);
    if (!n_live) l->job = 0;
    ROTOR_TRY(st);
    *more = n_live != 0;
    return l->text.failed ? base_fail_nomem(err, "keeping a text") : ROTOR_OK;
}

base_str lite_text(const lite *l) { return (base_str){l->text.data, l->text.len}; }
uint32_t lite_token(const lite *l) { return l->token; }
void lite_stop(lite *l) { gen_batch_cancel(l->batch, l->job); }
const gen_result *lite_result(const lite *l) { return &l->result; }
