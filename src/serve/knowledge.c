/* SPDX-License-Identifier: MIT
 *
 * Knowledge stores behind a conversation. A request with {"rag": {"store": …}} is searched for by
 * the librarian (librarian.c), so that the worker and the other connections go on meanwhile; what
 * is found joins the last turn before it becomes tokens. A store's own embedding model, on its own
 * thread, makes the question's vector: the engines that answer are not touched.
 */
#include "serve/serve_internal.h"

static const char not_there[] =
    "Not in your documents: nothing there is near enough to the question.";

typedef enum strictness { AUTO, STRICT, ALWAYS } strictness;

struct serve_grounds {
    serve_search how;    /* which stores, and how */
    rotor_rag_context c; /* what was found */
    rotor_turn *turns;   /* with it, owned; NULL: as they were */
    bool used;           /* the model gets it */
    bool refused;        /* no model is asked */
    bool no_room;        /* it was not searched: the conversation leaves no tokens for sources */
    bool waits;          /* it was not searched yet: its question is to be rewritten */
    serve_at at;         /* where it is said how */
    strictness mode;     /* when to answer */
    char *rewritten;     /* the question, owned; NULL: it stays as it is */
};

/* ==== Stores ================================================================================== */

size_t serve_find_shelf(const serve_server *s, const char *name, serve_fault *f) {
    if (!name && s->opt.n_shelves == 1) return 0;
    for (size_t i = 0; name && i < s->opt.n_shelves; i++)
        if (strcmp(name, s->opt.shelves[i].name) == 0) return i;
    if (!s->opt.n_shelves)
        serve_fail_with(f, SERVE_STORE_NOT_FOUND,
                        "this server has no knowledge stores: start it with --rag STORE");
    else if (!name)
        serve_refuse(f, "store", SERVE_MISSING_REQUIRED_PARAMETER,
                     "'store' is missing: there are several (GET /v1/rag/stores)");
    else
        serve_fail_with(f, SERVE_STORE_NOT_FOUND,
                        "there is no store '%.100s'; GET /v1/rag/stores lists them", name);
    return SIZE_MAX;
}

static uint64_t shelf_of(const serve_server *s, const json_t *name) {
    serve_fault f;
    const size_t i = json_is_string(name) || !name
                         ? serve_find_shelf(s, name ? json_string_value(name) : NULL, &f)
                         : SIZE_MAX;
    return i == SIZE_MAX ? 0 : serve_shelf_bit(i);
}

/* Fields as read_stores takes them: null is as if it were not there. What names no store is refused
 * before it uses any, and until it is it counts as one that may use all. */
uint64_t serve_shelves_of(const serve_server *s, json_t *object) {
    const serve_at at = {.object = object};
    const json_t *lists[] = {serve_field(at, "store"), serve_field(at, "stores")};
    const json_t *one;
    size_t i;
    uint64_t set = 0;
    for (size_t k = 0; k < BASE_COUNT(lists); k++)
        if (json_is_array(lists[k]))
            json_array_foreach(lists[k], i, one) set |= shelf_of(s, one);
        else if (lists[k] || (!k && !lists[1]))
            set |= shelf_of(s, lists[k]);
    return set ? set : UINT64_MAX;
}

/* ==== Requests ================================================================================ */

/* ROTOR_E_STATE of vectors alone is that they are not there; else that the store is in use. */
bool serve_store_failed(const serve_server *s, const rotor_rag_query *q, const rotor_error *err,
                        serve_fault *f) {
    const rotor_status st = err->code;
    serve_log(s, BASE_LOG_WARN, "a store could not be used: %s", err->message);
    if (st == ROTOR_E_STATE && q && q->mode == ROTOR_RAG_VECTOR)
        return serve_refuse(f, "search", SERVE_INVALID_VALUE,
                            "the store has no vectors of this server's model: 'search' may be "
                            "lexical there");
    if (st != ROTOR_E_IO && st != ROTOR_E_CANCELLED && st != ROTOR_E_STATE)
        return serve_fail_with(f, SERVE_INTERNAL_ERROR,
                               "the store could not be used; the server's log says why");
    serve_fail_with(f, SERVE_STORE_UNAVAILABLE, "the store cannot be used just now");
    f->retry_s = 5;
    return false;
}

static bool read_filter(serve_call *c, serve_at at, rotor_rag_query *q, serve_fault *f) {
    const json_t *list, *one;
    size_t i;
    if (!serve_read_list(at, "filter", &list, f)) return false;
    const char **texts = serve_keep(c, json_array_size(list), sizeof *texts);
    if (!texts) return serve_no_memory(f);
    json_array_foreach(list, i, one) {
        if (!json_is_string(one))
            return serve_refuse(f, "filter", SERVE_INVALID_VALUE,
                                "'filter': expected a list of texts as \"path=GLOB\"");
        texts[i] = json_string_value(one);
    }
    q->filter = texts;
    q->n_filter = json_array_size(list);
    return true;
}

static bool add_store(const serve_server *s, const char *name, serve_search *out, serve_fault *f) {
    const size_t i = serve_find_shelf(s, name, f);
    if (i == SIZE_MAX) return false;
    for (size_t k = 0; k < out->n; k++)
        if (out->r[k] == s->opt.shelves[i].r) return true;
    if (out->n == ROTOR_RAG_STORES)
        return serve_refuse(f, "stores", SERVE_INVALID_VALUE, "'stores': more than %d",
                            ROTOR_RAG_STORES);
    out->name[out->n] = s->opt.shelves[i].name;
    out->r[out->n++] = s->opt.shelves[i].r;
    return true;
}

static bool add_stores(const serve_server *s, const json_t *list, const char *key,
                       serve_search *out, serve_fault *f) {
    const json_t *one;
    size_t i;
    if (!json_array_size(list))
        return serve_refuse(f, key, SERVE_INVALID_VALUE, "'%s': expected names of stores", key);
    json_array_foreach(list, i, one) {
        if (!json_is_string(one))
            return serve_refuse(f, key, SERVE_INVALID_VALUE, "'%s': expected names of stores", key);
        if (!add_store(s, json_string_value(one), out, f)) return false;
    }
    return true;
}

/* "store": a name, or a list of them, as "stores" is. */
static bool read_stores(const serve_server *s, serve_at at, serve_search *out, serve_fault *f) {
    const json_t *store = serve_field(at, "store"), *list;
    const char *name = NULL;
    out->n = 0;
    if (json_is_array(store)) return add_stores(s, store, "store", out, f);
    if (!serve_read_text(at, "store", &name, f) || !serve_read_list(at, "stores", &list, f))
        return false;
    return name || !list ? add_store(s, name, out, f) : add_stores(s, list, "stores", out, f);
}

/* "rerank": the server's reranker, if it has one, is used unless it says false. */
static bool read_reranker(const serve_server *s, serve_at at, rotor_rag_query *q, serve_fault *f) {
    bool wanted = s->opt.reranker != NULL;
    if (!serve_read_bool(at, "rerank", &wanted, f)) return false;
    if (wanted && !s->opt.reranker)
        return serve_refuse(f, "rerank", SERVE_INVALID_VALUE,
                            "'rerank': this server has no reranker: start it with --rerank MODEL");
    if (!wanted) return true;
    q->reranker = s->opt.reranker;
    q->rerank_n = s->opt.rerank_n;
    q->rerank_ms = s->opt.rerank_ms;
    return true;
}

bool serve_read_search(serve_call *c, serve_at at, serve_search *out, serve_fault *f) {
    static const char *const modes[] = {"hybrid", "lexical", "vector"};
    const char *mode = "hybrid";
    size_t m = 0;
    out->q = rotor_rag_query_default();
    int64_t k = out->q.k;
    if (!read_stores(c->inside->s, at, out, f) || !serve_read_int(at, "k", 1, 100, &k, f) ||
        !serve_read_text(at, "search", &mode, f) || !read_filter(c, at, &out->q, f))
        return false;
    while (m < BASE_COUNT(modes) && strcmp(mode, modes[m]) != 0) m++;
    if (m == BASE_COUNT(modes))
        return serve_refuse(f, "search", SERVE_INVALID_VALUE,
                            "'search' is '%.40s': expected hybrid, lexical or vector", mode);
    if (!read_reranker(c->inside->s, at, &out->q, f)) return false;
    out->q.k = (uint32_t)k;
    out->q.mode = (rotor_rag_mode)m;
    return true;
}

json_t *serve_store_name(const serve_search *how) {
    return how->n == 1 ? serve_json_text(how->name[0], strlen(how->name[0])) : json_null();
}

json_t *serve_store_names(const serve_search *how) {
    json_t *list = json_array();
    for (size_t i = 0; i < how->n; i++)
        json_array_append_new(list, serve_json_text(how->name[i], strlen(how->name[i])));
    return list;
}

static bool read_strictness(serve_at at, strictness *g, serve_fault *f) {
    static const char *const names[] = {"auto", "strict", "always"};
    const char *name = names[*g];
    if (!serve_read_text(at, "mode", &name, f)) return false;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return *g = (strictness)i, true;
    return serve_refuse(f, "mode", SERVE_INVALID_VALUE,
                        "'mode' is '%.40s': expected auto, strict, always or off", name);
}

/* One of two words. */
static bool read_choice(serve_at at, const char *key, const char *no, const char *yes, bool *is_yes,
                        serve_fault *f) {
    const char *how = *is_yes ? yes : no;
    if (!serve_read_text(at, key, &how, f)) return false;
    *is_yes = strcmp(how, yes) == 0;
    return *is_yes || strcmp(how, no) == 0 ||
           serve_refuse(f, key, SERVE_INVALID_VALUE, "'%s' is '%.40s': expected %s or %s", key, how,
                        no, yes);
}

/* ==== Searching =============================================================================== */

/* Tokens of the conversation as it is, so that the sources fit beside it. */
static size_t count_tokens(const serve_call *c, const serve_prompt *p) {
    rotor_chat_options opt = rotor_chat_options_default();
    uint32_t *ids = NULL;
    size_t n = 0;
    opt.tools = c->req.tools;
    opt.effort = c->req.effort;
    if (rotor_chat_prompt(c->engine, p->turns, p->n_turns, &opt, &ids, &n, NULL, NULL) != ROTOR_OK)
        n = 0;
    rotor_free(ids);
    return n;
}

/* mode: where nothing is left for sources, a conversation that may do without goes on without. */
static bool gather(serve_call *c, const serve_prompt *p, serve_at at, const serve_search *how,
                   strictness mode, serve_grounds *g, serve_fault *f) {
    serve_server *s = c->inside->s;
    rotor_rag_ask_options o = rotor_rag_ask_options_default();
    rotor_error err = {0};
    if (s->opt.rag_budget_tok) o.budget_tok = s->opt.rag_budget_tok;
    int64_t budget = o.budget_tok;
    if (!serve_read_int(at, "budget_tokens", 32, 1048576, &budget, f)) return false;
    const uint32_t n_ctx = c->inside->model->info.n_ctx, most = c->req.gen.max_tokens;
    const char **earlier = serve_keep(c, p->n_turns, sizeof *earlier);
    if (!earlier) return serve_no_memory(f);
    for (size_t i = 0; i + 1 < p->n_turns; i++)
        if (strcmp(p->turns[i].role, "user") == 0) earlier[o.n_earlier++] = p->turns[i].content;
    o.budget_tok = (uint32_t)budget;
    o.n_ctx = n_ctx;
    o.answer_tok = most ? BASE_MIN(most, n_ctx / 4) : 0;
    o.other_tok = (uint32_t)count_tokens(c, p);
    o.writer = c->engine;
    o.find = &how->q;
    o.earlier = earlier;
    o.rewritten = g->rewritten;
    const rotor_status st =
        rotor_rag_gather_all(how->r, how->n, p->turns[p->n_turns - 1].content, &o, &g->c, &err);
    if (st == ROTOR_OK) return true;
    g->no_room = st == ROTOR_E_FULL;
    if (st == ROTOR_E_FULL && mode == AUTO) return true;
    if (st == ROTOR_E_FULL)
        return serve_fail_with(f, SERVE_NO_ROOM_FOR_SOURCES, "%.500s", err.message);
    if (st == ROTOR_E_ARG)
        return serve_refuse(f, "rag", SERVE_INVALID_VALUE, "%.500s", err.message);
    return serve_store_failed(s, &how->q, &err, f);
}

/* The turns with what was found. */
static bool put_turns(serve_call *c, serve_prompt *p, serve_grounds *g, serve_fault *f) {
    rotor_turn *turns = NULL;
    rotor_error err = {0};
    size_t n = 0;
    if (rotor_rag_ground(c->engine, &g->c, p->turns, p->n_turns, &turns, &n, &err) != ROTOR_OK)
        return serve_refuse(f, "messages", SERVE_INVALID_VALUE, "%.500s", err.message);
    p->turns = g->turns = turns;
    p->n_turns = n;
    return true;
}

/* Something was said before the last turn. */
static bool follows_up(const serve_prompt *p) {
    for (size_t i = 0; i + 1 < p->n_turns; i++)
        if (strcmp(p->turns[i].role, "user") == 0 && p->turns[i].content) return true;
    return false;
}

static bool ground(serve_call *c, serve_at at, strictness how, serve_fault *f) {
    serve_prompt *p = &c->req.prompts[0];
    serve_search search;
    bool rewrite = c->inside->s->opt.rewrite, need = c->inside->s->opt.only_need;
    const rotor_turn *last = &p->turns[p->n_turns - 1];
    if (!read_strictness(at, &how, f) || !read_choice(at, "rewrite", "rule", "llm", &rewrite, f) ||
        !read_choice(at, "retrieve", "auto", "need", &need, f) ||
        !serve_read_search(c, at, &search, f))
        return false;
    if (strcmp(last->role, "user") != 0 || !last->content) return true; /* a tool's result, say */
    if (how == AUTO && !rotor_rag_asks_something(last->content)) return true;
    if (how == AUTO && need && follows_up(p) && rotor_rag_about_the_answer(last->content))
        return true;
    serve_grounds *g = base_alloc(sizeof *g);
    if (!g) return serve_no_memory(f);
    c->inside->grounds = g;
    g->how = search;
    g->at = at;
    g->mode = how;
    g->waits = rewrite && follows_up(p);
    return g->waits || serve_ground_rest(c, f);
}

bool serve_ground_rest(serve_call *c, serve_fault *f) {
    serve_grounds *g = c->inside->grounds;
    serve_prompt *p = &c->req.prompts[0];
    g->waits = false;
    if (!gather(c, p, g->at, &g->how, g->mode, g, f)) return false;
    g->used = g->c.n && (g->c.relevant || g->mode == ALWAYS);
    g->refused = !g->c.relevant && g->mode == STRICT;
    c->req.max_zero |= g->refused;
    return !g->used || put_turns(c, p, g, f);
}

/* ==== Rewriting =============================================================================== */

bool serve_wants_rewriting(const serve_call *c) {
    return c->inside->grounds && c->inside->grounds->waits;
}

char *serve_rewriting_prompt(const serve_call *c) {
    const serve_prompt *p = &c->req.prompts[0];
    char *prompt = NULL;
    return rotor_rag_rewrite_prompt(p->turns, p->n_turns, &prompt, NULL) == ROTOR_OK ? prompt
                                                                                     : NULL;
}

void serve_put_rewritten(serve_call *c, const char *said, size_t n_bytes) {
    serve_server *s = c->inside->s;
    const serve_prompt *p = &c->req.prompts[0];
    char **out = &c->inside->grounds->rewritten;
    if (rotor_rag_rewritten(p->turns[p->n_turns - 1].content, said, n_bytes, out, NULL) != ROTOR_OK)
        *out = NULL;
    base_mutex_lock(s->lock);
    s->metrics.rewritten += *out != NULL;
    s->metrics.not_rewritten += *out == NULL;
    base_mutex_unlock(s->lock);
}

/* The "rag" object, unless it is off; false: there is none. */
static bool is_on(const json_t *rag) {
    const char *mode = json_string_value(json_object_get(rag, "mode"));
    return json_is_object(rag) && !(mode && strcmp(mode, "off") == 0);
}

bool serve_wants_search(const serve_call *c) {
    if (!c->inside->s->opt.n_shelves) return false;
    return c->dialect == &serve_rag_dialect ||
           (c->dialect == &serve_chat_dialect && is_on(json_object_get(c->body, "rag")));
}

uint64_t serve_wanted_shelves(const serve_call *c) {
    const bool asks = c->dialect == &serve_rag_dialect;
    return serve_shelves_of(c->inside->s, asks ? c->body : json_object_get(c->body, "rag"));
}

bool serve_read_rag(serve_call *c, serve_at top, serve_fault *f) {
    serve_at at;
    if (!serve_object(top, "rag", &at, f)) return false;
    if (!is_on(at.object)) return true;
    return ground(c, at, AUTO, f);
}

bool serve_ground(serve_call *c, serve_at at, const char *question, bool strict, serve_fault *f) {
    rotor_turn *turn = serve_keep(c, 1, sizeof *turn);
    serve_prompt *p = serve_keep(c, 1, sizeof *p);
    if (!turn || !p) return serve_no_memory(f);
    *turn = (rotor_turn){.role = "user", .content = question};
    p->turns = turn;
    p->n_turns = 1;
    c->req.prompts = p;
    c->req.n_prompts = 1;
    return ground(c, at, strict ? STRICT : AUTO, f);
}

/* ==== Answers ================================================================================= */

void serve_grounds_free(serve_grounds *g) {
    if (!g) return;
    rotor_rag_context_free(&g->c);
    rotor_free(g->turns);
    rotor_free(g->rewritten);
    base_free(g);
}

const char *serve_instead(const serve_call *c) {
    const serve_grounds *g = c->inside->grounds;
    return g && g->refused ? not_there : NULL;
}

const char *serve_mark(serve_job *j, const char *text, size_t *n_bytes) {
    const serve_grounds *g = j->c->inside->grounds;
    if (g && g->used && !j->marks && rotor_rag_marks_create(&j->marks, g->c.n, NULL) != ROTOR_OK)
        j->marks = NULL; /* then they stay, and the citations say that there is nothing */
    if (!j->marks) return text ? text : "";
    return rotor_rag_marks_put(j->marks, text, *n_bytes, n_bytes);
}

json_t *serve_grounds_json(const serve_call *c, const serve_choice *ch) {
    const serve_grounds *g = c->inside->grounds;
    rotor_rag_checked checked = {0};
    char *text = NULL;
    if (!g) return NULL;
    const bool check = ch && g->used &&
                       rotor_rag_check(&g->c, ch->text.data ? ch->text.data : "", ch->text.len,
                                       &checked, NULL) == ROTOR_OK;
    json_t *o = NULL;
    if (rotor_rag_describe(&g->c, check ? &checked : NULL, &text, NULL) == ROTOR_OK)
        o = json_loads(text, 0, NULL);
    rotor_free(text);
    rotor_rag_checked_free(&checked);
    if (!o) return NULL;
    json_object_del(o, "removed"); /* they were taken out as they came */
    json_object_set_new(o, "store", serve_store_name(&g->how));
    json_object_set_new(o, "stores", serve_store_names(&g->how));
    json_object_set_new(o, "used", json_boolean(g->used));
    json_object_set_new(o, "refused", json_boolean(g->refused));
    if (g->no_room) json_object_set_new(o, "no_room", json_true());
    return o;
}
