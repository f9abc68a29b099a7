/* SPDX-License-Identifier: MIT
 *
 * The last answers, as the ids they were generated as. A client sends back an answer as text and
 * calls; written anew it would often be other tokens (a model need not write a word as the
 * vocabulary would; spaces in the arguments of a call, which many clients parse and write again,
 * are enough), and everything behind them would have to be evaluated again. What comes back
 * unchanged is found here by its digest and goes into the prompt as it was.
 *
 * An answer in parts is all its ids. One without parts is what stands for its text: it is only
 * remembered when the model ended it by itself, and goes in only where the template writes it
 * unchanged in front of a control token (rotor_turn.ids).
 *
 * The key is a digest of the whole conversation: the model, the tools and every turn before the
 * answer, then its text and calls. Ids hold what was thought, so they go to nobody but who has the
 * same conversation. Thoughts are not part of the key, as clients leave them out.
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
    const size_t flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15);
    json_t *v = text ? json_loads(text, 0, NULL) : NULL;
    if (!v || json_dump_callback(v, append, out, flags) != 0) base_buf_puts(out, text ? text : "");
    json_decref(v);
}

/* A text behind its length, so that no two rows of texts are the same bytes. */
static void put_text(base_buf *out, base_str text) {
    base_buf_printf(out, "%zu ", text.n);
    base_buf_append(out, text.p, text.n);
}

static bool digest_of(base_buf *all, uint8_t said[32]) {
    const bool ok = !all->failed;
    if (ok) base_sha256(all->data ? all->data : "", all->len, said);
    base_buf_free(all);
    return ok;
}

static base_str text_of(const char *text) { return base_str_of(text ? text : ""); }

/* What is said before the first turn. */
static bool begin_digest(const serve_call *c, serve_prompt *p) {
    base_buf all = {0};
    put_text(&all, text_of(c->inside->model->id));
    put_text(&all, text_of(c->req.tools));
    put_text(&all, (base_str){(const char *)p->before, p->n_before * sizeof *p->before});
    return digest_of(&all, p->said);
}

/* One more turn behind what was said. */
static bool add_turn(uint8_t said[32], const rotor_turn *t, base_str content) {
    base_buf all = {0}, arguments = {0};
    base_buf_append(&all, said, 32);
    put_text(&all, text_of(t->role));
    put_text(&all, text_of(t->name));
    put_text(&all, content);
    for (size_t i = 0; i < t->n_calls; i++) {
        base_buf_reset(&arguments);
        put_arguments(&arguments, t->calls[i].arguments);
        put_text(&all, text_of(t->calls[i].name));
        put_text(&all, (base_str){arguments.data ? arguments.data : "", arguments.len});
    }
    all.failed |= arguments.failed;
    base_buf_free(&arguments);
    return digest_of(&all, said);
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

/* No control token among them: one writes nothing, or what would be plain text in a prompt. */
static bool is_plain(const rotor_engine *e, const rotor_gen_result *r) {
    char *bare = NULL, *all = NULL;
    size_t n_bare = 0, n_all = 0;
    const bool ok =
        rotor_detokenize(e, r->ids, r->n_ids, false, &bare, &n_bare, NULL) == ROTOR_OK &&
        rotor_detokenize(e, r->ids, r->n_ids, true, &all, &n_all, NULL) == ROTOR_OK &&
        n_bare == n_all;
    rotor_free(bare);
    rotor_free(all);
    return ok;
}

/* The ids are those of the text, all of it and nothing else: no stop string, no mark taken out. */
static bool is_its_text(const serve_job *j, const rotor_gen_result *r) {
    const base_buf *text = &j->choice->text;
    return r->finish == ROTOR_FINISH_END && text->len == r->n_bytes &&
           (!r->n_bytes || memcmp(text->data, r->text, r->n_bytes) == 0) &&
           is_plain(j->c->engine, r);
}

void serve_remember(const serve_job *j, const rotor_gen_result *result) {
    serve_server *s = j->c->inside->s;
    const serve_choice *ch = j->choice;
    const bool parts = j->reply && rotor_chat_has_parts(j->c->engine);
    const bool ends = parts && result->end_id != ROTOR_NO_ID; /* part of the answer */
    const size_t n = result->n_ids + ends;
    const rotor_tool_call *calls = NULL;
    uint8_t key[32];
    if (!ch->of->turns || !n || n > IDS_MAX / 4) return;
    if (!parts && (j->reply || !is_its_text(j, result))) return;
    rotor_turn answer = {.role = "assistant"};
    answer.n_calls = j->reply ? rotor_reply_calls(j->reply, &calls) : 0;
    answer.calls = calls;
    memcpy(key, ch->of->said, sizeof key);
    if (!add_turn(key, &answer, (base_str){ch->text.data ? ch->text.data : "", ch->text.len}))
        return;
    uint32_t *ids = base_alloc_array(n, sizeof *ids);
    if (!ids) return;
    memcpy(ids, result->ids, result->n_ids * sizeof *ids);
    if (ends) ids[n - 1] = result->end_id;
    base_mutex_lock(s->lock);
    serve_answer *a = place_for(s->replay, key);
    drop(s->replay, a);
    *a = (serve_answer){.ids = ids, .n = n, .used = ++s->replay->clock};
    memcpy(a->key, key, sizeof a->key);
    s->replay->n_ids += n;
    while (s->replay->n_ids > IDS_MAX) drop_oldest(s->replay);
    base_mutex_unlock(s->lock);
}

static void look_up(serve_call *c, rotor_turn *t, const uint8_t key[32]) {
    serve_server *s = c->inside->s;
    base_mutex_lock(s->lock);
    serve_answer *a = place_for(s->replay, key);
    if (a->ids && memcmp(a->key, key, 32) == 0) {
        uint32_t *ids = serve_keep(c, a->n, sizeof *ids);
        if (ids) memcpy(ids, a->ids, a->n * sizeof *ids);
        if (ids) t->ids = ids;
        if (ids) t->n_ids = a->n;
        a->used = ++s->replay->clock;
    }
    base_mutex_unlock(s->lock);
}

bool serve_recall(serve_call *c, serve_prompt *p, rotor_turn *turns) {
    if (!begin_digest(c, p)) return false;
    for (size_t i = 0; i < p->n_turns; i++) {
        if (!add_turn(p->said, &turns[i], text_of(turns[i].content))) return false;
        if (strcmp(turns[i].role, "assistant") == 0) look_up(c, &turns[i], p->said);
    }
    return true;
}
