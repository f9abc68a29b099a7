/* SPDX-License-Identifier: MIT
 *
 * The worker: one thread that opens the models (again: sleep.c), owns their engines and batches,
 * and makes steps while there is a job (the server closes them, when no thread is left that looks
 * at them). Between steps it takes new calls, gives waiting ones their places in the order they
 * came, notices who has left, and tells those who wait that it is still there.
 *
 * Invariants: (W1) only this thread calls into engines, but for what rotor.h calls thread-safe;
 * (W2) a call that is cancelled keeps its place until its jobs have ended; (W3) every call that was
 * submitted ends: with a reply, a fault, or nobody left to read one.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

typedef struct worker {
    serve_server *s;   /* server */
    serve_call *calls; /* under way and waiting, oldest first */
    bool scored;       /* a prompt was scored in this turn */
    bool writes;       /* files of prompts are under way: they are settled between steps */
} worker;

/* ==== Models ================================================================================== */

static bool open_models(serve_server *s) {
    for (size_t i = 0; i < s->opt.n_models; i++) {
        rotor_error err = {0};
        if (serve_open_model(s, &s->models[i], &err) != ROTOR_OK) {
            base_mutex_lock(s->lock);
            s->why = err;
            base_mutex_unlock(s->lock);
            atomic_store(&s->state, SERVE_FAILED);
            return false;
        }
        atomic_fetch_add(&s->loaded, 1);
    }
    atomic_store(&s->state, SERVE_READY);
    return true;
}

/* ==== Coming ================================================================================== */

bool serve_submit(serve_call *c, serve_fault *f) {
    serve_server *s = c->inside->s;
    serve_call **last = c->inside->searches ? &s->searches : &s->queue;
    bool full = false, closing = atomic_load(&s->closing);
    c->inside->submitted_us = c->inside->last_us = base_now_us();
    base_mutex_lock(s->lock);
    full = s->n_calls >= s->opt.max_queue + s->opt.parallel * s->opt.n_models;
    closing = closing || s->cut || s->quit || s->quit_searching;
    if (!full && !closing) {
        while (*last) last = &(*last)->inside->next;
        *last = c;
        c->inside->refs = 2; /* nobody else has seen it yet */
        s->n_waiting++;
        s->n_calls++;
        base_cond_broadcast(s->wake);
    }
    base_mutex_unlock(s->lock);
    if (full)
        serve_fail_with(f, SERVE_QUEUE_FULL,
                        "%u requests are waiting already (--max-queue); try again",
                        s->opt.max_queue);
    else if (closing)
        serve_fail_with(f, SERVE_SHUTTING_DOWN, "the server is ending");
    if (full || closing) f->retry_s = full ? 2 : 5;
    return !full && !closing;
}

/* Nothing can be done but to wait for a model. */
static bool all_wait(const worker *w) {
    for (const serve_call *c = w->calls; c; c = c->inside->next)
        if (!c->inside->waking || c->inside->cancelled) return false;
    return true;
}

/* A loader has ended: tending the models settles it, though the call that wanted it may have left.
 */
static bool is_loaded(const serve_server *s) {
    for (size_t i = 0; i < s->opt.n_models; i++)
        if (s->models[i].state == SERVE_LOADED || s->models[i].state == SERVE_BROKEN) return true;
    return false;
}

/* Until something comes, a model was loaded or may sleep, or (under a call that waits for one)
 * somebody may have left. Under the lock. */
static void wait_for_work(worker *w) {
    enum { LOOK_US = 20000 };
    serve_server *s = w->s;
    while (!s->queue && !s->quit && !is_loaded(s)) {
        uint64_t us = serve_next_sleep(s);
        if (w->calls) us = BASE_MIN(us, BASE_MIN((uint64_t)LOOK_US, (uint64_t)s->opt.ping_us));
        if (w->writes) us = LOOK_US; /* nor does a model sleep before that */
        if (us == SERVE_NEVER)
            base_cond_wait(s->wake, s->lock);
        else if (!us || !base_cond_wait_us(s->wake, s->lock, us) || w->calls || w->writes)
            return;
    }
}

/* Sleeps until there is something to do. False: the end. */
static bool take_calls(worker *w) {
    serve_server *s = w->s;
    serve_call **last = &w->calls;
    base_mutex_lock(s->lock);
    if (all_wait(w)) wait_for_work(w);
    while (*last) last = &(*last)->inside->next;
    *last = s->queue;
    s->queue = NULL;
    const bool quit = s->quit && !w->calls;
    if (s->cut)
        for (serve_call *c = w->calls; c; c = c->inside->next) c->inside->cancelled = true;
    base_mutex_unlock(s->lock);
    return !quit;
}

/* ==== Places ================================================================================== */

static void begin(serve_call *c) {
    serve_server *s = c->inside->s;
    if (c->inside->begun) return;
    c->inside->begun = true;
    base_mutex_lock(s->lock);
    s->n_waiting--;
    base_mutex_unlock(s->lock);
    if (!c->inside->task) serve_emit(c, &(serve_event){.kind = SERVE_BEGIN});
}

static void fault_all(serve_call *c, const serve_fault *f) {
    if (c->inside->failed) return;
    if (c->inside->waking)
        serve_refuse_waiting(c, f);
    else if (c->req.stream && !c->inside->task)
        serve_emit(c, &(serve_event){.kind = SERVE_FAULT, .fault = f});
    else
        serve_call_fault(c, f);
    c->inside->failed = c->inside->cancelled = true;
}

/* Answers to one prompt wait until the first of them has evaluated it, and then share it. */
static bool may_start(const serve_call *c, size_t i) {
    const size_t first = i - i % c->req.n;
    const serve_job *j = &c->inside->jobs[first];
    return i == first || j->prompted || j->choice->finish != SERVE_RUNNING;
}

/* The first choice that can begin; NULL: none can. */
static serve_job *next_job(const serve_call *c) {
    for (size_t i = 0; i < c->n_choices; i++)
        if (!c->inside->jobs[i].started && may_start(c, i)) return &c->inside->jobs[i];
    return NULL;
}

static void start_job(serve_job *j) {
    serve_call *c = j->c;
    rotor_error err = {0};
    serve_fault f = {0};
    begin(c);
    const rotor_status st = c->req.max_zero ? serve_job_skip(j, &err) : serve_job_start(j, &err);
    j->started = true;
    if (st == ROTOR_OK) {
        c->inside->n_running += !c->req.max_zero;
        return;
    }
    c->inside->n_ended++;
    j->choice->finish = SERVE_CUT;
    if (c->inside->cancelled) return; /* in the middle of its prompt */
    if (st == ROTOR_E_ARG)
        serve_refuse(&f, NULL, SERVE_INVALID_VALUE, "%.500s", err.message);
    else
        serve_fail_with(&f, SERVE_INTERNAL_ERROR, "%.500s", err.message);
    fault_all(c, &f);
}

/* A pass over a whole prompt before a place is taken: one in a turn, so that nobody waits long. */
static bool is_scored(const serve_call *c) { return c->req.echo && c->req.logprobs; }

/* A place goes to whoever has fewest, and of those to who came first: a request for a thousand
 * answers does not make the next one wait for all of them. */
static serve_job *who_is_next(worker *w, const serve_model *m) {
    serve_job *best = NULL;
    for (serve_call *c = w->calls; c; c = c->inside->next) {
        const serve_inside *in = c->inside;
        if (in->model != m || in->task || in->cancelled || in->n_ended == c->n_choices) continue;
        if (w->scored && is_scored(c)) continue;
        if (best && best->c->inside->n_running <= in->n_running) continue;
        serve_job *j = next_job(c);
        if (j) best = j;
    }
    return best;
}

static void give_places(worker *w) {
    w->scored = false;
    for (size_t i = 0; i < w->s->opt.n_models; i++) {
        serve_model *m = &w->s->models[i];
        serve_job *j;
        while (m->batch && rotor_batch_free_places(m->batch) && (j = who_is_next(w, m))) {
            w->scored |= is_scored(j->c);
            start_job(j);
        }
    }
}

/* ==== Going =================================================================================== */

static void cancel_jobs(serve_call *c) {
    for (size_t i = 0; i < c->n_choices; i++) {
        serve_job *j = &c->inside->jobs[i];
        if (j->handle) rotor_batch_cancel(c->inside->model->batch, j->handle);
        if (j->started) continue;
        j->started = true;
        j->choice->finish = SERVE_CUT;
        c->inside->n_ended++;
    }
}

static void look_after(worker *w) {
    const uint64_t now = base_now_us();
    uint32_t position = 0;
    for (serve_call *c = w->calls; c; c = c->inside->next) {
        serve_inside *in = c->inside;
        if (!in->begun) position++;
        serve_call *asks = in->parent ? in->parent : c;
        if (!in->cancelled && serve_call_left(asks)) in->cancelled = true;
        if (in->cancelled && !in->failed && !in->told) {
            in->told = true;
            base_mutex_lock(w->s->lock);
            w->s->metrics.cancelled += !w->s->cut && !in->parent; /* which is counted itself */
            base_mutex_unlock(w->s->lock);
        }
        const bool ping = now - in->last_us >= w->s->opt.ping_us;
        if (in->cancelled) {
            cancel_jobs(c);
        } else if (in->parent && ping) {
            in->last_us = now;
            serve_ping_early(in->parent, ": rewriting the question\n\n");
        } else if (in->waking && ping) {
            in->last_us = now;
            serve_ping_early(c, ": the model is being loaded\n\n");
        } else if (c->req.stream && !in->waking && ping) {
            in->last_us = now;
            serve_emit(c, &(serve_event){.kind = SERVE_PING, .position = in->begun ? 0 : position});
        }
    }
}

static void finish(serve_call *c) {
    serve_inside *in = c->inside;
    if (in->parent) {
        serve_end_rewriting(c);
        return;
    }
    if (in->cancelled && !in->failed) {
        serve_fault f = {0};
        const bool closing = atomic_load(&in->s->closing);
        if (closing)
            serve_fail_with(&f, SERVE_SHUTTING_DOWN, "the server is ending");
        else
            serve_fail_with(&f, SERVE_CANCELLED, "the answer was given up: nobody read it");
        if (closing) f.retry_s = 5;
        fault_all(c, &f);
    } else if (!in->failed && c->req.stream) {
        serve_emit(c, &(serve_event){.kind = SERVE_END});
    } else if (!in->failed && !in->task) {
        json_t *body = c->dialect->whole(c);
        serve_call_reply(c, 200, body);
    }
    serve_call_send(c, NULL, 0, true);
}

static void count(serve_call *c) {
    serve_server *s = c->inside->s;
    serve_metrics *m = &s->metrics;
    const uint64_t now = base_now_us();
    base_mutex_lock(s->lock);
    for (size_t i = 0; i < c->n_choices; i++) {
        const serve_timing *t = &c->choices[i].timing;
        const uint64_t tokens = (uint64_t)t->n_prompt + t->n_made;
        m->prompt_tokens += t->n_prompt - t->n_cached;
        m->cached_tokens += t->n_cached;
        m->made_tokens += t->n_made;
        m->prompt_us += t->prompt_us;
        m->made_us += t->made_us;
        m->longest = BASE_MAX(m->longest, tokens);
        if (t->n_made > 1)
            serve_observe(&m->between, (double)t->made_us / 1e6 / (double)(t->n_made - 1));
    }
    for (size_t i = 0; i < c->req.n_prompts; i++) m->dropped_tokens += c->req.prompts[i].n_dropped;
    const bool own = !c->inside->parent;
    if (own && c->inside->first_us)
        serve_observe(&m->first, (double)(c->inside->first_us - c->inside->submitted_us) / 1e6);
    if (own) serve_observe(&m->whole, (double)(now - c->inside->submitted_us) / 1e6);
    base_mutex_unlock(s->lock);
}

/* Takes calls that have ended out of the list. */
static void sweep(worker *w) {
    for (serve_call **at = &w->calls; *at;) {
        serve_call *c = *at;
        if (c->inside->waking && !c->inside->cancelled) {
            at = &c->inside->next;
            continue;
        }
        const bool task_over = c->inside->task && (c->inside->cancelled || c->inside->ended);
        if (!task_over && (c->inside->task || c->inside->n_ended < c->n_choices)) {
            at = &c->inside->next;
            continue;
        }
        *at = c->inside->next;
        base_mutex_lock(w->s->lock);
        w->s->n_calls--;
        w->s->n_waiting -= !c->inside->begun;
        base_mutex_unlock(w->s->lock);
        if (!c->inside->task) count(c);
        finish(c);
        serve_call_release(c);
    }
}

/* ==== Work ==================================================================================== */

/* One piece of the oldest task, so that those who decode do not wait for all of it. */
static bool do_tasks(worker *w) {
    for (serve_call *c = w->calls; c; c = c->inside->next) {
        if (!c->inside->task || c->inside->cancelled || c->inside->ended || c->inside->waking)
            continue;
        begin(c);
        c->inside->task(c);
        return true;
    }
    return false;
}

static void step_failed(worker *w, const serve_model *m, const rotor_error *err) {
    serve_fault f = {0};
    serve_log(w->s, BASE_LOG_ERROR, "%s: %s", m->id, err->message);
    serve_fail_with(&f, SERVE_INTERNAL_ERROR, "%.500s", err->message);
    for (serve_call *c = w->calls; c; c = c->inside->next)
        if (c->inside->model == m && c->inside->begun && !c->inside->task) fault_all(c, &f);
}

static void step(worker *w, serve_model *m) {
    rotor_error err = {0};
    if (!m->batch) return;
    const uint32_t jobs = w->s->opt.parallel - rotor_batch_free_places(m->batch);
    if (!jobs) return;
    if (rotor_batch_step(m->batch, NULL, &err) != ROTOR_OK) step_failed(w, m, &err);
    for (serve_call *c = w->calls; c; c = c->inside->next)
        for (size_t i = 0; c->inside->model == m && i < c->n_choices; i++) {
            serve_job *j = &c->inside->jobs[i];
            if (j->handle && rotor_batch_ended(m->batch, j->handle)) serve_job_end(j);
        }
    base_mutex_lock(w->s->lock);
    w->s->metrics.steps++;
    w->s->metrics.step_jobs += jobs;
    base_mutex_unlock(w->s->lock);
}

void serve_add_prefixes(rotor_batch_prefixes *sum, const rotor_batch *b) {
    rotor_batch_prefixes p;
    if (!rotor_batch_get_prefixes(b, &p)) return;
    sum->hits += p.hits;
    sum->misses += p.misses;
    sum->loaded_bytes += p.loaded_bytes;
    sum->written += p.written;
    sum->written_bytes += p.written_bytes;
    sum->evicted += p.evicted;
    sum->refused += p.refused;
    sum->bytes = BASE_MAX(sum->bytes, p.bytes); /* one folder for all */
    sum->n_files += p.n_files;
}

static void tidy(worker *w) {
    w->writes = false;
    for (size_t i = 0; i < w->s->opt.n_models; i++)
        w->writes |= rotor_batch_tidy(w->s->models[i].batch);
}

static void publish(worker *w) {
    serve_metrics *m = &w->s->metrics;
    rotor_batch_prefixes prefixes = m->slept; /* nobody else writes it */
    uint32_t running = 0;
    double use = 0;
    for (serve_call *c = w->calls; c; c = c->inside->next) running += c->inside->begun;
    for (size_t i = 0; i < w->s->opt.n_models; i++) {
        const double u = rotor_batch_cache_use(w->s->models[i].batch);
        use = BASE_MAX(use, u);
        serve_add_prefixes(&prefixes, w->s->models[i].batch);
    }
    base_mutex_lock(w->s->lock);
    m->running = running;
    m->waiting = w->s->n_waiting;
    m->cache_use = use;
    m->prefixes = prefixes;
    base_mutex_unlock(w->s->lock);
}

void serve_worker_main(void *server) {
    worker w = {.s = server};
    if (!open_models(w.s)) return;
    publish(&w);
    while (take_calls(&w)) {
        serve_tend_models(w.s, w.calls);
        give_places(&w);
        look_after(&w);
        do_tasks(&w);
        for (size_t i = 0; i < w.s->opt.n_models; i++) step(&w, &w.s->models[i]);
        sweep(&w);
        tidy(&w);
        publish(&w);
    }
    serve_end_loading(w.s);
}
