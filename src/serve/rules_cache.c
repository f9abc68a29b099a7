/* SPDX-License-Identifier: MIT
 *
 * Rules that answers were kept to: a schema that comes again finds its automaton, and the token
 * masks that were made for it. Clients send the same tools and the same schema with every request.
 *
 * A row is held by the cache and by the calls that use it, and goes with the last of them. What
 * rules have learnt is the worker's; their making, and this list, are any thread's, under
 * server.lock. Rows that have grown large, or failed, leave the cache when a call ends, and all of
 * a model when it goes to sleep: calls let go of their rules before they let go of the model.
 */
#include "serve/serve_internal.h"

enum { GROWN_BYTES = 8 << 20 }; /* of one row that stays */

struct serve_rules {
    uint8_t key[32];        /* digest of what they were made from */
    rotor_grammar *grammar; /* owned */
    serve_model *model;     /* whose words it has */
    uint64_t used;          /* when it was last asked for */
    int refs;               /* holders */
};

static bool key_of(const serve_call *c, const serve_rules_wish *w, uint8_t key[32]) {
    base_buf all = {0};
    base_buf_printf(&all, "%s %d %d %d %d ", c->inside->model->id, (int)w->kind, w->calls,
                    w->required, w->single);
    base_buf_puts(&all, w->text ? w->text : "");
    const bool ok = !all.failed;
    if (ok) base_sha256(all.data, all.len, key);
    base_buf_free(&all);
    return ok;
}

static rotor_status make(const serve_call *c, const serve_rules_wish *w, rotor_grammar **out,
                         rotor_error *err) {
    rotor_engine *e = c->inside->model->engine;
    rotor_call_options opt = rotor_call_options_default();
    opt.tools = w->text;
    opt.required = w->required;
    opt.single = w->single;
    return w->calls ? rotor_grammar_create_calls(out, e, &opt, err)
                    : rotor_grammar_create(out, e, w->kind, w->text, err);
}

/* Under the lock: one holder less; what is to be freed without it. */
static serve_rules *let_go(serve_rules *r) { return r && --r->refs == 0 ? r : NULL; }

static void free_rules(serve_rules *r) {
    if (!r) return;
    rotor_grammar_free(&r->grammar);
    base_free(r);
}

/* Under the lock: that of the key, for one more holder; NULL: it is not there. */
static serve_rules *look_up(serve_server *s, const uint8_t key[32]) {
    for (size_t i = 0; i < BASE_COUNT(s->rules); i++) {
        serve_rules *r = s->rules[i];
        if (!r || memcmp(r->key, key, 32) != 0) continue;
        r->refs++;
        r->used = ++s->rules_clock;
        return r;
    }
    return NULL;
}

/* Under the lock: puts it into a free place, or that of the row that was not asked for for longest,
 * which is to be let go. */
static serve_rules *put_in(serve_server *s, serve_rules *r) {
    size_t at = 0;
    for (size_t i = 0; i < BASE_COUNT(s->rules) && s->rules[at]; i++)
        if (!s->rules[i] || s->rules[i]->used < s->rules[at]->used) at = i;
    serve_rules *old = s->rules[at];
    if (!old) s->metrics.rules++;
    s->rules[at] = r;
    r->used = ++s->rules_clock;
    r->refs++;
    return let_go(old);
}

rotor_status serve_rules_take(serve_call *c, const serve_rules_wish *w, rotor_error *err) {
    serve_server *s = c->inside->s;
    uint8_t key[32];
    if (!key_of(c, w, key)) return ROTOR_E_NOMEM;
    base_mutex_lock(s->lock);
    serve_rules *r = look_up(s, key), *old = NULL;
    s->metrics.rules_known += r != NULL;
    s->metrics.rules_made += r == NULL;
    base_mutex_unlock(s->lock);
    if (!r) {
        r = base_alloc(sizeof *r);
        if (!r) return ROTOR_E_NOMEM;
        memcpy(r->key, key, sizeof r->key);
        r->refs = 1;
        r->model = c->inside->model;
        const rotor_status status = make(c, w, &r->grammar, err);
        if (status != ROTOR_OK) return free_rules(r), status;
        base_mutex_lock(s->lock);
        old = put_in(s, r); /* two of one key, made at the same time, are no harm */
        base_mutex_unlock(s->lock);
        free_rules(old);
    }
    if (w->calls && !c->req.calls_in_text) {
        c->inside->call_rules = r;
        c->req.gen.calls = r->grammar;
    } else {
        c->inside->rules = r;
        c->req.gen.grammar = r->grammar;
    }
    return ROTOR_OK;
}

static void release(serve_server *s, serve_rules **r) {
    if (!*r) return;
    base_mutex_lock(s->lock);
    serve_rules *last = let_go(*r);
    base_mutex_unlock(s->lock);
    free_rules(last);
    *r = NULL;
}

void serve_rules_release(serve_call *c) {
    release(c->inside->s, &c->inside->rules);
    release(c->inside->s, &c->inside->call_rules);
}

static void review(serve_server *s, const serve_rules *r, bool failed) {
    if (!r || (!failed && rotor_grammar_bytes(r->grammar) <= GROWN_BYTES)) return;
    base_mutex_lock(s->lock);
    for (size_t i = 0; i < BASE_COUNT(s->rules); i++) {
        if (s->rules[i] != r) continue;
        (void)let_go(s->rules[i]); /* the call holds it still */
        s->rules[i] = NULL;
        s->metrics.rules--;
    }
    base_mutex_unlock(s->lock);
}

void serve_rules_review(serve_call *c, bool failed) {
    review(c->inside->s, c->inside->rules, failed);
    review(c->inside->s, c->inside->call_rules, failed);
}

void serve_rules_forget(serve_server *s, const serve_model *m) {
    for (size_t i = 0; s->lock && i < BASE_COUNT(s->rules); i++) {
        base_mutex_lock(s->lock);
        serve_rules *r = s->rules[i], *last = NULL;
        if (r && r->model == m) {
            last = let_go(r);
            s->rules[i] = NULL;
            s->metrics.rules--;
        }
        base_mutex_unlock(s->lock);
        free_rules(last);
    }
}
