/* SPDX-License-Identifier: MIT
 *
 * The public batch: places for jobs over room gen's batch, and the sessions it keeps warm.
 *
 * A session here is a timeline that outlives its job. A new job takes the one that holds the
 * longest beginning of its prompt. If a job still uses that one, or if much stands behind the
 * beginning that some later job may want, the beginning is shared: cache pages are counted, so that
 * a copy costs nothing until one of the two goes on. The copy takes the place of what has not been
 * used for longest.
 *
 * Invariants: (A1) there are more sessions than places, so that a place always finds one; (A2) a
 * session belongs to one live job at most; (A3) `call`, `r` and `s` of a place stay where they are
 * while its job runs.
 * Threading: one thread at a time.
 */
#include "api/api_internal.h"
#include "rotor_batch.h"

typedef struct timeline {
    rotor_session s;   /* run is owned */
    uint64_t used;     /* when a job last took it, in jobs; 0: never */
    uint64_t kept;     /* what `used` was when the store was last given all of it */
    struct place *job; /* that uses it; NULL: none */
    bool unsaved;      /* much was evaluated for it, and no file has it */
} timeline;

typedef struct place {
    uint32_t job;    /* handle; 0: free */
    uint32_t inner;  /* handle in room gen's batch; 0: it has ended */
    unsigned flags;  /* ROTOR_BATCH_… */
    timeline *line;  /* its session; NULL: given back */
    api_call call;   /* options */
    gen_result r;    /* what came of it */
    rotor_error err; /* why it failed; code ROTOR_OK: it did not */
} place;

struct rotor_batch {
    rotor_engine *e;   /* borrowed */
    gen_batch *gen;    /* owned */
    place *places;     /* [max_jobs], owned */
    uint32_t n_place;  /* how many */
    timeline *lines;   /* [n_line], owned */
    uint32_t n_line;   /* how many */
    uint32_t last;     /* newest handle */
    uint64_t clock;    /* jobs added */
    run_store *store;  /* of beginnings in files, owned; NULL: none */
    uint32_t long_tok; /* evaluated for one prompt: it is written soon */
};

rotor_batch_options rotor_batch_options_default(void) {
    return (rotor_batch_options){.size = sizeof(rotor_batch_options)};
}

/* ==== Creating ================================================================================ */

enum { MAX_JOBS = 4096, LONG_TOK = 1024 };

static rotor_status open_store(rotor_batch *b, const rotor_batch_options *o, rotor_error *err) {
    const run_store_options s = {
        .dir = o->prefix_dir, .max_bytes = o->prefix_bytes, .min_tok = o->prefix_min};
    b->long_tok = o->prefix_min ? o->prefix_min : LONG_TOK;
    return o->prefix_dir ? run_store_open(&b->store, b->e->run, &s, err) : ROTOR_OK;
}

static rotor_status create(rotor_batch *b, const rotor_batch_options *o, rotor_error *err) {
    b->n_place = o->max_jobs ? o->max_jobs : b->e->opt.max_sessions;
    b->n_line = b->n_place + (o->n_warm ? o->n_warm : b->n_place);
    b->places = base_alloc_array(b->n_place, sizeof *b->places);
    b->lines = base_alloc_array(b->n_line, sizeof *b->lines);
    if (!b->places || !b->lines) return base_fail_nomem(err, "creating a batch");
    for (uint32_t i = 0; i < b->n_line; i++) {
        b->lines[i].s.e = b->e;
        ROTOR_TRY(run_session_create(&b->lines[i].s.run, b->e->run, b->e->n_ctx, err));
    }
    ROTOR_TRY(gen_batch_create(&b->gen, b->e->run, b->n_place, err));
    gen_batch_wish(b->gen, o->step_us);
    return open_store(b, o, err);
}

rotor_status rotor_batch_create(rotor_batch **out, rotor_engine *e, const rotor_batch_options *user,
                                rotor_error *err) {
    rotor_batch_options o = rotor_batch_options_default();
    if (!out || !e) return base_fail(err, ROTOR_E_ARG, "rotor_batch_create: out or engine is NULL");
    ROTOR_TRY(api_take_options(&o, sizeof o, user, "rotor_batch_options", err));
    if (o.max_jobs > MAX_JOBS || o.n_warm > MAX_JOBS)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_batch_options: max_jobs %u, n_warm %u, expected at most %d",
                         o.max_jobs, o.n_warm, MAX_JOBS);
    if (e->opt.embed)
        return base_fail(err, ROTOR_E_STATE,
                         "rotor_batch_create: the engine was opened to embed; it writes no text");
    rotor_batch *b = base_alloc(sizeof *b);
    if (!b) return base_fail_nomem(err, "creating a batch");
    b->e = e;
    rotor_status st = create(b, &o, err);
    if (st != ROTOR_OK) rotor_batch_free(&b);
    if (st == ROTOR_OK) *out = b;
    return st;
}

/* Every session, what was used last being written last, and each once: where the folder is too
 * small for all of them, those that were evicted would push out the others without end. */
void rotor_batch_keep(rotor_batch *b) {
    for (uint64_t after = 0; b && b->store && b->lines;) {
        timeline *next = NULL;
        for (uint32_t i = 0; i < b->n_line; i++) {
            timeline *t = &b->lines[i];
            if (!t->s.run || t->used <= after || t->kept == t->used ||
                (t->job && t->job->flags & ROTOR_BATCH_FORGET))
                continue;
            if (!next || t->used < next->used) next = t;
        }
        if (!next) return;
        run_store_keep(b->store, next->s.run);
        after = next->kept = next->used;
    }
}

static void place_clear(place *p) {
    if (p->job) api_call_end(&p->call);
    gen_result_free(&p->r);
    memset(p, 0, sizeof *p);
}

void rotor_batch_free(rotor_batch **pb) {
    if (!pb || !*pb) return;
    rotor_batch *b = *pb;
    gen_batch_free(&b->gen);
    rotor_batch_keep(b);
    for (uint32_t i = 0; b->places && i < b->n_place; i++) place_clear(&b->places[i]);
    run_store_close(&b->store);
    for (uint32_t i = 0; b->lines && i < b->n_line; i++) run_session_free(&b->lines[i].s.run);
    base_free(b->places);
    base_free(b->lines);
    base_free(b);
    *pb = NULL;
}

/* ==== Sessions ================================================================================ */

static uint32_t shared_with(const timeline *t, const uint32_t *ids, size_t n) {
    const uint32_t *have = run_session_tokens(t->s.run);
    const uint32_t most = (uint32_t)BASE_MIN((size_t)run_session_len(t->s.run), n ? n - 1 : 0);
    uint32_t i = 0;
    while (i < most && have[i] == ids[i]) i++;
    return run_session_reach(t->s.run, i);
}

static void forget(timeline *t) {
    run_session_rewind(t->s.run, 0);
    t->used = t->kept = 0;
    t->unsaved = false;
}

/* Its pages are wanted: what it knows may go on in a file. */
static void evict(rotor_batch *b, timeline *t) {
    if (b->store) run_store_keep(b->store, t->s.run);
    forget(t);
}

/* The idle session that was used longest ago, but not `keep`; empty ones first. */
static timeline *oldest(rotor_batch *b, const timeline *keep) {
    timeline *old = NULL;
    for (uint32_t i = 0; i < b->n_line; i++) {
        timeline *t = &b->lines[i];
        if (t->job || t == keep) continue;
        if (!old || t->used < old->used) old = t;
    }
    return old;
}

/* A job that has just begun has few tokens; the idle among equals, and then the one with least
 * behind the shared beginning. */
static timeline *best_match(rotor_batch *b, const uint32_t *ids, size_t n, uint32_t *n_shared) {
    timeline *best = NULL;
    *n_shared = 0;
    for (uint32_t i = 0; i < b->n_line; i++) {
        timeline *t = &b->lines[i];
        const uint32_t k = shared_with(t, ids, n);
        if (k == 0 || k < *n_shared) continue;
        const bool nearer =
            !best || k > *n_shared || (best->job && !t->job) ||
            (!best->job == !t->job && run_session_len(t->s.run) < run_session_len(best->s.run));
        if (!nearer) continue;
        best = t;
        *n_shared = k;
    }
    return best;
}

/* Free pages, from what is only kept warm. */
static void free_pages(rotor_batch *b, uint32_t need) {
    run_make_ring_room(b->e->run, need);
    while (run_free_pages(b->e->run) < need || run_free_ring_pages(b->e->run) < need) {
        timeline *old = NULL;
        for (uint32_t i = 0; i < b->n_line; i++) {
            timeline *t = &b->lines[i];
            if (t->job || run_session_len(t->s.run) == 0) continue;
            if (!old || t->used < old->used) old = t;
        }
        if (!old) return;
        evict(b, old);
    }
}

/* A session with what a file has of the prompt, where that is more than any session has. */
static timeline *from_store(rotor_batch *b, const uint32_t *ids, size_t n) {
    uint32_t k;
    if (!b->store) return NULL;
    best_match(b, ids, n, &k);
    const uint32_t len = run_store_find(b->store, ids, (uint32_t)n, k);
    timeline *t = len ? oldest(b, NULL) : NULL;
    if (!t) return NULL;
    evict(b, t);
    free_pages(b, (len + KERN_KEYS - 1) / KERN_KEYS);
    return run_store_load(b->store, t->s.run) ? t : NULL;
}

/* The session a new job continues. What it holds of the prompt is found again by room gen. */
static timeline *choose(rotor_batch *b, const uint32_t *ids, size_t n, unsigned flags) {
    enum { SCRAP = 64 }; /* tokens behind the beginning that are not worth a session of their own */
    uint32_t k = 0;
    timeline *known = flags & ROTOR_BATCH_FRESH ? NULL : from_store(b, ids, n);
    if (known) return known;
    timeline *best = flags & ROTOR_BATCH_FRESH ? NULL : best_match(b, ids, n, &k);
    timeline *old = oldest(b, best);
    if (best && !best->job && (!old || run_session_len(best->s.run) - k <= SCRAP)) return best;
    if (!old) return NULL;
    evict(b, old);
    if (best) (void)run_session_fork(old->s.run, best->s.run, k, NULL); /* or it begins anew */
    return old;
}

/* Pages for one more step of every job. */
static void make_room(rotor_batch *b) {
    free_pages(b, 2 * b->n_place + run_chunk(b->e->run) / KERN_KEYS + 2);
}

void rotor_batch_make_room(rotor_batch *b, size_t n_tok) {
    const size_t most = b ? b->e->n_ctx : 0;
    if (b) free_pages(b, (uint32_t)((BASE_MIN(n_tok, most) + KERN_KEYS - 1) / KERN_KEYS));
}

/* ==== Jobs ==================================================================================== */

static place *find(const rotor_batch *b, uint32_t job) {
    for (uint32_t i = 0; b && job && i < b->n_place; i++)
        if (b->places[i].job == job) return &b->places[i];
    return NULL;
}

uint32_t rotor_batch_free_places(const rotor_batch *b) {
    uint32_t n = 0;
    for (uint32_t i = 0; b && i < b->n_place; i++) n += b->places[i].job == 0;
    return n;
}

static void end_reply(place *p) {
    rotor_error why;
    if (!p->call.opt.reply) return;
    if (rotor_reply_end(p->call.opt.reply, &why) != ROTOR_OK && p->err.code == ROTOR_OK)
        p->err = why;
}

static rotor_status start(rotor_batch *b, place *p, timeline *t, const uint32_t *ids, size_t n,
                          rotor_error *err) {
    ROTOR_TRY(api_check_prompt(&t->s, ids, n, false, (const rotor_gen_result *)&p->r, err));
    ROTOR_TRY(api_call_format(&p->call, &t->s, ids, n, err));
    return gen_batch_add(b->gen, t->s.run, ids, (uint32_t)n, &p->call.gen, &p->r, &p->inner, err);
}

rotor_status rotor_batch_add(rotor_batch *b, const uint32_t *ids, size_t n,
                             const rotor_gen_options *opt, unsigned flags, uint32_t *job,
                             rotor_error *err) {
    if (!b || !ids || !n || !job)
        return base_fail(err, ROTOR_E_ARG, "rotor_batch_add: a required argument is NULL or 0");
    if (flags & ~(unsigned)(ROTOR_BATCH_FRESH | ROTOR_BATCH_FORGET))
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_batch_add: flags 0x%x, expected ROTOR_BATCH_ "
                         "values",
                         flags);
    if (b->e->m->file) ROTOR_TRY(file_unchanged(b->e->m->file, err));
    place *p = b->places;
    while (p < b->places + b->n_place && p->job) p++;
    if (p == b->places + b->n_place)
        return base_fail(err, ROTOR_E_FULL, "batch: all %u places are taken", b->n_place);
    if (n > b->e->n_ctx)
        return base_fail(err, ROTOR_E_FULL, "a prompt of %zu tokens does not fit the context of %u",
                         n, b->e->n_ctx);
    timeline *t = choose(b, ids, n, flags);
    ROTOR_TRY(api_call_begin(&p->call, &t->s, opt, err));
    rotor_status st = start(b, p, t, ids, n, err);
    if (st != ROTOR_OK) {
        p->job = 1; /* for place_clear: the call has begun */
        place_clear(p);
        return st;
    }
    if (++b->last == 0) b->last = 1;
    *job = p->job = b->last;
    p->flags = flags;
    p->line = t;
    t->job = p;
    t->used = ++b->clock;
    return ROTOR_OK;
}

/* What its prompt has cost; and much that was evaluated is not to be lost. */
static void learn(rotor_batch *b, const place *p) {
    const uint32_t n = p->r.n_prompt - p->r.n_reused;
    if (!b->store || p->r.finish == GEN_FINISH_ERROR || p->r.finish == GEN_FINISH_CANCEL) return;
    run_store_learn(b->store, n, p->r.prompt_us);
    p->line->unsaved |= n >= b->long_tok;
}

/* The job has ended: its session is warm. */
static void leave(rotor_batch *b, place *p) {
    if (p->r.finish == GEN_FINISH_ERROR) p->err = p->r.why;
    p->inner = 0;
    end_reply(p);
    p->line->job = NULL;
    p->line->used = ++b->clock;
    learn(b, p);
    if (p->flags & ROTOR_BATCH_FORGET) forget(p->line);
    p->line = NULL;
}

rotor_status rotor_batch_step(rotor_batch *b, uint32_t *n_live, rotor_error *err) {
    rotor_error why = {0};
    uint32_t live = 0;
    bool blamed = false;
    if (!b) return base_fail(err, ROTOR_E_ARG, "rotor_batch_step: batch is NULL");
    make_room(b);
    const rotor_status st = gen_batch_step(b->gen, &live, &why);
    for (uint32_t i = 0; i < b->n_place; i++) {
        place *p = &b->places[i];
        if (!p->inner || p->r.finish == GEN_FINISH_NONE) continue;
        blamed |= p->r.finish == GEN_FINISH_ERROR;
        leave(b, p);
    }
    if (n_live) *n_live = live;
    if (st == ROTOR_OK || blamed) return ROTOR_OK;
    if (err) *err = why;
    return st;
}

bool rotor_batch_tidy(rotor_batch *b) {
    if (!b || !b->store) return false;
    for (uint32_t i = 0; i < b->n_line; i++) {
        timeline *t = &b->lines[i];
        if (t->unsaved && !t->job) run_store_keep(b->store, t->s.run);
        if (!t->job) t->unsaved = false;
    }
    return run_store_is_writing(b->store);
}

void rotor_batch_cancel(rotor_batch *b, uint32_t job) {
    const place *p = find(b, job);
    if (p && p->inner) gen_batch_cancel(b->gen, p->inner);
}

bool rotor_batch_ended(const rotor_batch *b, uint32_t job) {
    const place *p = find(b, job);
    return p && !p->inner;
}

rotor_status rotor_batch_result(rotor_batch *b, uint32_t job, rotor_gen_result *out,
                                rotor_error *err) {
    place *p = find(b, job);
    if (!p || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_batch_result: no job %u, or out is NULL", job);
    if (p->inner) return base_fail(err, ROTOR_E_STATE, "job %u has not ended", job);
    rotor_status st = p->err.code;
    if (st != ROTOR_OK && err) *err = p->err;
    if (st == ROTOR_OK) st = api_give(&p->r, out, err);
    place_clear(p);
    return st;
}

/* ==== Facts =================================================================================== */

bool rotor_batch_get_session(const rotor_batch *b, size_t i, const uint32_t *ids, size_t n,
                             rotor_batch_session *out) {
    if (!b || i >= b->n_line || !out) return false;
    const timeline *t = &b->lines[i];
    *out = (rotor_batch_session){.job = t->job ? t->job->job : 0,
                                 .n_tokens = run_session_len(t->s.run),
                                 .n_shared = ids ? shared_with(t, ids, n) : 0};
    return true;
}

double rotor_batch_cache_use(const rotor_batch *b) {
    if (!b) return 0;
    const uint32_t all = b->e->opt.max_sessions * ((b->e->n_ctx + KERN_KEYS - 1) / KERN_KEYS);
    return all ? 1 - (double)run_free_pages(b->e->run) / all : 0;
}

bool rotor_batch_get_prefixes(const rotor_batch *b, rotor_batch_prefixes *out) {
    if (!b || !b->store || !out) return false;
    const run_store_facts f = run_store_get_facts(b->store);
    *out = (rotor_batch_prefixes){.hits = f.hits,
                                  .misses = f.misses,
                                  .loaded_bytes = f.loaded_bytes,
                                  .written = f.written,
                                  .written_bytes = f.written_bytes,
                                  .evicted = f.evicted,
                                  .refused = f.refused,
                                  .bytes = f.bytes,
                                  .n_files = f.n_files};
    return true;
}
