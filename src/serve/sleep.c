/* SPDX-License-Identifier: MIT
 *
 * Models that sleep: one that was not used for a while is closed and its memory given back; the
 * next request that needs it has it opened again, and waits.
 *
 *     AWAKE --nobody holds it, and so long was nothing asked--> ASLEEP --a call waits--> WAKING
 *       ^---- the worker takes what was opened ---- LOADED <---- a thread of its own opens it --'
 *
 * Who uses an engine holds its model: a call from the moment it names one until it is freed.
 * Holding and closing are decided under server.lock, so that nothing is closed under anybody. What
 * can be said about a model without its engine is copied when it is first opened, and stays.
 *
 * A call that meets a sleeping model is given to the worker as it is (waking). When the model is
 * there, one that generates is read and goes on as any other; of the rest the handler is run again.
 * A stream that waits longer than a ping begins then, so that its client hears something.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

/* ==== Opening and closing ===================================================================== */

/* A store that cannot be opened ends the start; later, answers go on without it. */
static rotor_status create_batch(serve_server *s, serve_engines *e, rotor_batch_options *o,
                                 bool again, rotor_error *err) {
    rotor_error why = {0};
    const rotor_status st = rotor_batch_create(&e->batch, e->engine, o, again ? &why : err);
    if (!again || st == ROTOR_OK) return st;
    if (st == ROTOR_E_IO && o->prefix_dir) {
        serve_log(s, BASE_LOG_WARN, "prefix store: %s; answers go on without it", why.message);
        o->prefix_dir = NULL;
        return rotor_batch_create(&e->batch, e->engine, o, err);
    }
    if (err) *err = why;
    return st;
}

static rotor_status open_batch(serve_server *s, serve_engines *e, bool again, rotor_error *err) {
    rotor_batch_options o = rotor_batch_options_default();
    o.max_jobs = s->opt.parallel;
    o.step_us = s->opt.step_us;
    o.prefix_dir = s->opt.prefix_dir;
    o.prefix_bytes = s->opt.prefix_bytes;
    o.prefix_min = s->opt.prefix_min;
    return create_batch(s, e, &o, again, err);
}

static rotor_status open_engines(serve_server *s, size_t i, serve_engines *e, bool again,
                                 rotor_error *err) {
    rotor_status st = s->opt.open(s->opt.user, i, false, &e->engine, err);
    if (st == ROTOR_OK) ROTOR_TRY(open_batch(s, e, again, err));
    if (st != ROTOR_OK && st != ROTOR_E_UNSUPPORTED) return st;
    if (st == ROTOR_OK && !s->opt.embed) return ROTOR_OK;
    rotor_error why = {0}; /* a model that writes no text may make vectors */
    const rotor_status other = s->opt.open(s->opt.user, i, true, &e->vectors, &why);
    if (other != ROTOR_OK && st == ROTOR_OK && err) *err = why;
    if (other != ROTOR_OK) return st == ROTOR_OK ? other : st;
    return ROTOR_OK;
}

static void close_engines(serve_engines *e) {
    rotor_batch_free(&e->batch);
    rotor_engine_close(&e->vectors);
    rotor_engine_close(&e->engine);
}

static void close_model(serve_model *m) {
    serve_engines e = {m->engine, m->vectors, m->batch};
    m->engine = m->vectors = NULL;
    m->batch = NULL;
    close_engines(&e);
    close_engines(&m->fresh);
}

void serve_close_models(serve_server *s) {
    for (size_t i = 0; s->models && i < s->opt.n_models; i++) {
        serve_rules_forget(s, &s->models[i]);
        close_model(&s->models[i]);
        base_buf_free(&s->models[i].facts);
    }
}

/* ==== What stays known ======================================================================== */

enum { N_TEXTS = 9 };

static void list_texts(rotor_engine_info *i, const char **out[N_TEXTS]) {
    const char **all[N_TEXTS] = {&i->name,   &i->architecture, &i->type_name,
                                 &i->head,   &i->cpu,          &i->template_line,
                                 &i->device, &i->device_name,  &i->device_why};
    memcpy(out, all, sizeof all);
}

/* The engine's strings go with it: copies take their place. */
static rotor_status keep_texts(serve_model *m, rotor_error *err) {
    const char **text[N_TEXTS];
    size_t at[N_TEXTS];
    list_texts(&m->info, text);
    for (size_t k = 0; k < N_TEXTS; k++) {
        at[k] = m->facts.len;
        const char *s = *text[k] ? *text[k] : "";
        if (!base_buf_append(&m->facts, s, strlen(s) + 1))
            return base_fail_nomem(err, "opening a model");
    }
    for (size_t k = 0; k < N_TEXTS; k++)
        if (*text[k]) *text[k] = m->facts.data + at[k];
    m->info.device_prompt = NULL; /* nobody asks */
    return ROTOR_OK;
}

static bool is_ranker(const rotor_engine *e) {
    rotor_engine_info info = {.size = sizeof info};
    return e && rotor_engine_get_info(e, &info) == ROTOR_OK && info.pool == ROTOR_POOL_RANK;
}

static rotor_status keep_facts(serve_model *m, const serve_engines *e, rotor_error *err) {
    m->info.size = sizeof m->info;
    ROTOR_TRY(rotor_engine_get_info(e->engine ? e->engine : e->vectors, &m->info));
    m->writes = e->engine != NULL;
    m->ranks = is_ranker(e->vectors);
    m->embeds = e->vectors && !m->ranks;
    m->parts = e->engine && rotor_chat_has_parts(e->engine);
    m->usual = rotor_gen_options_default(e->engine);
    return keep_texts(m, err);
}

/* What was promised to clients must still hold, and what was said in a conversation belong to the
 * model that goes on with it. */
static rotor_status check_facts(const serve_model *m, const serve_engines *e, rotor_error *err) {
    rotor_engine_info now = {.size = sizeof now};
    ROTOR_TRY(rotor_engine_get_info(e->engine ? e->engine : e->vectors, &now));
    if (now.file_id != m->info.file_id)
        return base_fail(err, ROTOR_E_STATE,
                         "its file was exchanged or written while it was released; start the "
                         "server again to serve what is there now");
    if (now.n_vocab == m->info.n_vocab && now.n_ctx >= m->info.n_ctx &&
        m->writes == (e->engine != NULL) && (m->embeds || m->ranks) == (e->vectors != NULL))
        return ROTOR_OK;
    return base_fail(
        err, ROTOR_E_STATE,
        "it is not what it was: %u tokens in its vocabulary and a context of %u, before "
        "%u and %u; start the server again",
        now.n_vocab, now.n_ctx, m->info.n_vocab, m->info.n_ctx);
}

/* From here on others may hold it. */
static void take_fresh(serve_server *s, serve_model *m) {
    m->engine = m->fresh.engine;
    m->vectors = m->fresh.vectors;
    m->batch = m->fresh.batch;
    m->fresh = (serve_engines){0};
    base_mutex_lock(s->lock);
    m->state = SERVE_AWAKE;
    m->used_us = base_now_us();
    m->keep_us = s->opt.idle_us;
    m->n_loads++;
    base_mutex_unlock(s->lock);
}

rotor_status serve_open_model(serve_server *s, serve_model *m, rotor_error *err) {
    ROTOR_TRY(open_engines(s, (size_t)(m - s->models), &m->fresh, false, err));
    ROTOR_TRY(keep_facts(m, &m->fresh, err));
    take_fresh(s, m);
    return ROTOR_OK;
}

/* ==== Holding ================================================================================= */

bool serve_hold(serve_call *c, serve_model *m) {
    serve_server *s = c->inside->s;
    base_mutex_lock(s->lock);
    const bool awake = m->state == SERVE_AWAKE;
    m->n_held++;
    m->used_us = base_now_us();
    m->keep_us = s->opt.idle_us;
    base_mutex_unlock(s->lock);
    c->inside->model = c->inside->held = m;
    c->model_id = m->id;
    c->inside->waking = !awake;
    return awake;
}

void serve_let_go(serve_call *c) {
    serve_server *s = c->inside->s;
    serve_model *m = c->inside->held;
    if (!m) return;
    base_mutex_lock(s->lock);
    m->n_held--;
    m->used_us = base_now_us();
    base_cond_broadcast(s->wake); /* whose sleep may have an end now */
    base_mutex_unlock(s->lock);
}

void serve_keep_for(serve_call *c, uint64_t us) {
    base_mutex_lock(c->inside->s->lock);
    c->inside->held->keep_us = us;
    base_mutex_unlock(c->inside->s->lock);
}

bool serve_is_awake(serve_server *s, const serve_model *m) {
    base_mutex_lock(s->lock);
    const bool awake = m->state == SERVE_AWAKE;
    base_mutex_unlock(s->lock);
    return awake;
}

uint64_t serve_until_sleep(const serve_model *m) {
    const uint64_t now = base_now_us(), end = m->used_us + m->keep_us;
    if (m->state != SERVE_AWAKE || m->keep_us == SERVE_NEVER) return SERVE_NEVER;
    return now >= end ? 0 : end - now;
}

uint64_t serve_next_sleep(serve_server *s) {
    uint64_t next = SERVE_NEVER;
    for (size_t i = 0; i < s->opt.n_models; i++) {
        const serve_model *m = &s->models[i];
        const uint64_t us = m->n_held ? SERVE_NEVER : serve_until_sleep(m);
        next = BASE_MIN(next, us);
    }
    return next;
}

/* ==== Going to sleep ========================================================================== */

/* Counters never fall: what its batch has counted stays, but for what is in the folder now. */
static void keep_counters(serve_server *s, const serve_model *m) {
    base_mutex_lock(s->lock);
    serve_add_prefixes(&s->metrics.slept, m->batch);
    s->metrics.slept.bytes = s->metrics.slept.n_files = 0;
    base_mutex_unlock(s->lock);
}

static bool may_sleep(serve_server *s, const serve_model *m) {
    base_mutex_lock(s->lock);
    const bool may = !m->n_held && serve_until_sleep(m) == 0;
    base_mutex_unlock(s->lock);
    return may;
}

/* The worker's: no call of its list has the model, or it would be held. First all it knows is
 * written, while other models go on; then it sleeps, if nobody has come meanwhile. */
static void put_to_sleep(serve_server *s, serve_model *m) {
    if (!may_sleep(s, m)) return;
    rotor_batch_keep(m->batch);
    if (rotor_batch_tidy(m->batch)) return;
    base_mutex_lock(s->lock);
    const bool now = !m->n_held && serve_until_sleep(m) == 0;
    if (now) m->state = SERVE_ASLEEP;
    base_mutex_unlock(s->lock);
    if (!now) return;
    const uint64_t before = base_rss_bytes();
    serve_rules_forget(s, m);
    keep_counters(s, m);
    close_model(m);
    base_give_memory_back();
    const uint64_t after = base_rss_bytes();
    serve_log(s, BASE_LOG_INFO, "%s was not used and is released (%llu MiB of memory)", m->id,
              (unsigned long long)(before > after ? (before - after) >> 20 : 0));
}

/* ==== Waking up =============================================================================== */

/* Touches nothing of the model that others look at. */
static void load(void *arg) {
    serve_model *m = arg;
    serve_server *s = m->server;
    m->why = (rotor_error){0};
    rotor_status st = open_engines(s, (size_t)(m - s->models), &m->fresh, true, &m->why);
    if (st == ROTOR_OK) st = check_facts(m, &m->fresh, &m->why);
    if (st != ROTOR_OK) close_engines(&m->fresh);
    base_mutex_lock(s->lock);
    m->state = st == ROTOR_OK ? SERVE_LOADED : SERVE_BROKEN;
    base_cond_broadcast(s->wake);
    base_mutex_unlock(s->lock);
}

static void begin_load(serve_server *s, serve_model *m) {
    m->server = s;
    base_mutex_lock(s->lock);
    m->state = SERVE_WAKING;
    base_mutex_unlock(s->lock);
    serve_log(s, BASE_LOG_INFO, "%s is wanted again and being loaded", m->id);
    if (base_thread_start(&m->loader, load, m) == ROTOR_OK) return;
    base_fail_nomem(&m->why, "starting a thread");
    base_mutex_lock(s->lock);
    m->state = SERVE_BROKEN;
    base_mutex_unlock(s->lock);
}

/* As bytes of a stream that has begun before anybody knew in which form its events come. */
static void fault_in_stream(serve_call *c, const serve_fault *f) {
    base_buf out = {0};
    if (strcmp(c->dialect->stream_type, "text/event-stream") == 0) {
        serve_put_sse(&out, "error", c->dialect->fault(f));
    } else {
        serve_put_json(&out, c->dialect->fault(f));
        base_buf_puts(&out, "\n");
    }
    serve_call_send(c, out.data, out.len, true);
    base_buf_free(&out);
}

void serve_refuse_waiting(serve_call *c, const serve_fault *f) {
    if (c->inside->streaming)
        fault_in_stream(c, f);
    else
        serve_call_fault(c, f);
    c->inside->failed = c->inside->cancelled = true;
}

/* It goes on as if it had come now. */
static void go_on(serve_call *c) {
    serve_fault f = {0};
    serve_inside *in = c->inside;
    in->waking = false;
    in->load_us = base_now_us() - in->submitted_us;
    if (in->task) return;
    if (!serve_prepare_rest(c, &f)) {
        serve_refuse_waiting(c, &f);
        return;
    }
    if (in->streaming) c->req.stream = true;
    if (c->req.stream) serve_begin_stream(c);
}

/* Why it is not there, for who waits and for the log. */
static void tell_broken(const serve_server *s, const serve_model *m, serve_fault *f) {
    static const char hint[] = "; a file that has taken the place of another is not let in by the "
                               "sandbox: start the server again";
    const bool changed = m->why.code == ROTOR_E_STATE;
    serve_fail_with(f, changed ? SERVE_MODEL_CHANGED : SERVE_INTERNAL_ERROR,
                    "%s cannot be loaded: %.400s%s", m->id, m->why.message,
                    m->why.code == ROTOR_E_IO && s->caged.files ? hint : "");
    serve_log(s, BASE_LOG_ERROR, "%s", f->message);
}

static void wake_calls(serve_server *s, serve_model *m, serve_call *calls, int state) {
    serve_fault f = {0};
    if (state == SERVE_BROKEN) tell_broken(s, m, &f);
    for (serve_call *c = calls; c; c = c->inside->next) {
        if (!c->inside->waking || c->inside->model != m || c->inside->cancelled) continue;
        if (state == SERVE_AWAKE) {
            go_on(c);
            continue;
        }
        serve_refuse_waiting(c, &f);
    }
}

static bool is_wanted(const serve_model *m, const serve_call *calls) {
    for (const serve_call *c = calls; c; c = c->inside->next)
        if (c->inside->waking && c->inside->model == m && !c->inside->cancelled) return true;
    return false;
}

static void tend(serve_server *s, serve_model *m, serve_call *calls) {
    base_mutex_lock(s->lock);
    int state = m->state;
    base_mutex_unlock(s->lock);
    if (state == SERVE_WAKING) return;
    base_thread_join(&m->loader);
    if (state == SERVE_LOADED) {
        take_fresh(s, m);
        state = SERVE_AWAKE;
    }
    if (state == SERVE_AWAKE || state == SERVE_BROKEN) wake_calls(s, m, calls, state);
    if (state == SERVE_AWAKE) put_to_sleep(s, m);
    if (state == SERVE_BROKEN) { /* another request, another try */
        base_mutex_lock(s->lock);
        m->state = SERVE_ASLEEP;
        base_mutex_unlock(s->lock);
    }
    if (state == SERVE_ASLEEP && is_wanted(m, calls)) begin_load(s, m);
}

void serve_tend_models(serve_server *s, serve_call *calls) {
    for (size_t i = 0; i < s->opt.n_models; i++) tend(s, &s->models[i], calls);
}

void serve_end_loading(serve_server *s) {
    for (size_t i = 0; i < s->opt.n_models; i++) base_thread_join(&s->models[i].loader);
}

/* ==== Waiting ================================================================================= */

/* The connection's thread runs the handler again (await_reply). */
static void run_again(serve_call *c) {
    base_mutex_lock(c->inside->lock);
    c->inside->again = true;
    base_mutex_unlock(c->inside->lock);
    serve_call_send(c, NULL, 0, true);
}

void serve_wait_for_model(serve_call *c) {
    serve_inside *in = c->inside;
    if (!in->generates || serve_wants_search(c)) in->task = run_again;
}

bool serve_may_stream(const serve_call *c) {
    const json_t *stream = json_object_get(c->body, "stream");
    return !c->inside->task &&
           (json_is_true(stream) || (c->dialect->streams && !json_is_false(stream)));
}

void serve_ping_early(serve_call *c, const char *comment) {
    serve_inside *in = c->inside;
    if (!in->may_stream) return;
    if (!in->streaming) serve_begin_stream(c);
    if (strcmp(c->dialect->stream_type, "text/event-stream") == 0)
        serve_call_send(c, comment, strlen(comment), false);
}
