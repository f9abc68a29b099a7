/* SPDX-License-Identifier: MIT
 *
 * The last answers in parts, as the ids they were generated as. A client sends back an answer as
 * text and calls; written anew it would often be other tokens (spaces in the arguments of a call,
 * which many clients parse and write again, are enough), and everything behind them would have to
 * be evaluated again. What comes back unchanged is found here by its digest and goes into the
 * prompt as it was.
 *
 * A digest of text and calls is the key; thoughts are not part of it, as clients leave them out.
 * Threading: any; server.lock guards the list.
 */
#include "serve/serve_internal.h"

enum { REMEMBERED = 256, IDS_MAX = 1 << 20 }; /* answers; ids of all of them */

typedef struct serve_answer {
    uint8_t key[32]; /* digest */
    uint32_t *ids;   /* [n], owned; NULL: none */
    size_t n;        /* how many */
    uint64_t used;   /* when it was last looked for */
} serve_answer;

struct serve_replay {
    serve_answer list[REMEMBERED]; /* in no order */
    uint64_t clock;                /* uses */
    size_t n_ids;                  /* of all */
};

static int append(const char *p, size_t n_bytes, void *user) {
    return base_buf_append(user, p, n_bytes) ? 0 : -1;
}

/* Arguments as a value, where they are one: clients write JSON anew. */
static void put_arguments(base_buf *out, const char *text) {
    json_t *v = text ? json_loads(text, 0, NULL) : NULL;
    if (!v || json_dump_callback(v, append, out, JSON_COMPACT | JSON_SORT_KEYS) != 0)
        base_buf_puts(out, text ? text : "");
    json_decref(v);
}

static void digest(const serve_model *m, base_str text, const rotor_tool_call *calls, size_t n,
                   uint8_t key[32]) {
    base_buf all = {0};
    base_buf_printf(&all, "%s\n%zu\n", m->id, text.n);
    base_buf_append(&all, text.p, text.n);
    for (size_t i = 0; i < n; i++) {
        base_buf_printf(&all, "\n%zu %s ", strlen(calls[i].name), calls[i].name);
        put_arguments(&all, calls[i].arguments);
    }
    base_sha256(all.data ? all.data : "", all.len, key);
    base_buf_free(&all);
}

serve_replay *serve_replay_create(void) { return base_alloc(sizeof(serve_replay)); }

void serve_replay_free(serve_replay **r) {
    for (size_t i = 0; *r && i < REMEMBERED; i++) base_free((*r)->list[i].ids);
    base_free(*r);
    *r = NULL;
}

static void drop(serve_replay *r, serve_answer *a) {
    r->n_ids -= a->n;
    base_free(a->ids);
    *a = (serve_answer){0};
}

/* That of the key, or else the one that was not looked for for longest. */
static serve_answer *place_for(serve_replay *r, const uint8_t key[32]) {
    serve_answer *old = &r->list[0];
    for (size_t i = 0; i < REMEMBERED; i++) {
        serve_answer *a = &r->list[i];
        if (a->ids && memcmp(a->key, key, 32) == 0) return a;
        if (old->ids && (!a->ids || a->used < old->used)) old = a;
    }
    return old;
}

static void drop_oldest(serve_replay *r) {
    serve_answer *old = NULL;
    for (size_t i = 0; i < REMEMBERED; i++)
        if (r->list[i].ids && (!old || r->list[i].used < old->used)) old = &r->list[i];
    if (old) drop(r, old);
}

void serve_remember(const serve_job *j, const rotor_gen_result *result) {
    serve_server *s = j->c->inside->s;
    const serve_choice *ch = j->choice;
    const size_t n = result->n_ids + (result->end_id != ROTOR_NO_ID);
    const rotor_tool_call *calls = NULL;
    uint8_t key[32];
    if (!j->reply || !n || n > IDS_MAX / 4) return;
    const size_t n_calls = rotor_reply_calls(j->reply, &calls);
    digest(j->c->inside->model, (base_str){ch->text.data, ch->text.len}, calls, n_calls, key);
    uint32_t *ids = base_alloc_array(n, sizeof *ids);
    if (!ids) return;
    memcpy(ids, result->ids, result->n_ids * sizeof *ids);
    if (n > result->n_ids) ids[n - 1] = result->end_id;
    base_mutex_lock(s->lock);
    serve_answer *a = place_for(s->replay, key);
    drop(s->replay, a);
    *a = (serve_answer){.ids = ids, .n = n, .used = ++s->replay->clock};
    memcpy(a->key, key, sizeof a->key);
    s->replay->n_ids += n;
    while (s->replay->n_ids > IDS_MAX) drop_oldest(s->replay);
    base_mutex_unlock(s->lock);
}

void serve_recall(serve_call *c, rotor_turn *t) {
    serve_server *s = c->inside->s;
    const base_str text = base_str_of(t->content ? t->content : "");
    uint8_t key[32];
    digest(c->inside->model, text, t->calls, t->n_calls, key);
    base_mutex_lock(s->lock);
    serve_answer *a = place_for(s->replay, key);
    if (a->ids && memcmp(a->key, key, sizeof key) == 0) {
        uint32_t *ids = serve_keep(c, a->n, sizeof *ids);
        if (ids) memcpy(ids, a->ids, a->n * sizeof *ids);
        if (ids) t->ids = ids;
        if (ids) t->n_ids = a->n;
        a->used = ++s->replay->clock;
    }
    base_mutex_unlock(s->lock);
}
