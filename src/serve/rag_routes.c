/* SPDX-License-Identifier: MIT
 *
 * GET /v1/rag/stores, POST /v1/rag/search and POST /v1/rag/ask: knowledge stores for programs that
 * want no conversation. The first two are the librarian's; asking is a call like others.
 */
#include "serve/serve_internal.h"

/* ==== Stores ================================================================================== */

static json_t *text_of(const char *s) { return serve_json_text(s, strlen(s)); }

/* Of one that others wait for just now, or that does not answer, no more than the name. */
static rotor_status look_at(serve_server *s, size_t i, rotor_rag_info *info) {
    const uint64_t before = s->in_hand, own = serve_shelf_bit(i);
    if (before & own) return ROTOR_E_STATE;
    s->in_hand |= own;
    const rotor_status st = rotor_rag_get_info(s->opt.shelves[i].r, info, NULL);
    s->in_hand = before;
    return st;
}

static json_t *store_json(serve_server *s, size_t i) {
    rotor_rag_info info = {.size = sizeof info};
    const rotor_status st = look_at(s, i, &info);
    json_t *o =
        json_pack("{s:o, s:s}", "id", text_of(s->opt.shelves[i].name), "object", "rag.store");
    if (st != ROTOR_OK) return o;
    json_object_set_new(o, "documents", json_integer((json_int_t)info.n_docs));
    json_object_set_new(o, "passages", json_integer((json_int_t)info.n_chunks));
    json_object_set_new(o, "vectors", json_integer((json_int_t)info.n_vectors));
    json_object_set_new(o, "bytes", json_integer((json_int_t)info.db_bytes));
    json_object_set_new(o, "embedding_model", info.model[0] ? text_of(info.model) : json_null());
    json_object_set_new(o, "writable", json_boolean(s->opt.shelves[i].write));
    return o;
}

void serve_hand_task(serve_exchange *x, serve_call *c, void (*task)(serve_call *), bool ok,
                     serve_fault *f) {
    if (ok) {
        c->inside->task = task;
        c->inside->searches = x->s->opt.n_shelves > 0;
    }
    serve_hand_over(x, c, ok, f);
}

static void list_stores(serve_call *c) {
    serve_server *s = c->inside->s;
    json_t *data = json_array();
    for (size_t i = 0; i < s->opt.n_shelves; i++) json_array_append_new(data, store_json(s, i));
    serve_call_reply(c, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

void serve_get_stores(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    serve_hand_task(x, c, list_stores, c || serve_no_memory(&f), &f);
}

/* ==== Searching =============================================================================== */

static json_t *hits_json(const serve_search *how, const rotor_rag_hits *h) {
    char *text = NULL;
    json_t *list = NULL, *degraded = json_array();
    if (rotor_rag_describe_hits(h, &text, NULL) == ROTOR_OK) list = json_loads(text, 0, NULL);
    rotor_free(text);
    if (h->pending || h->lexical_only)
        json_array_append_new(degraded, json_string(h->pending ? "vector_pending" : "vector"));
    if (h->rerank_failed) json_array_append_new(degraded, json_string("rerank"));
    return json_pack(
        "{s:s, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "object", "rag.hits", "store",
        serve_store_name(how), "stores", serve_store_names(how), "data", list, "relevant",
        (int)h->relevant, "best_cosine", serve_json_real(h->best_cosine), "match",
        serve_json_real(h->match), "degraded", degraded, "took_ms",
        serve_json_real((double)(h->embed_us + h->lex_us + h->vec_us + h->fuse_us + h->rerank_us) /
                        1e3));
}

enum { QUERY_MAX = 8 << 10 }; /* bytes; a model's context ends long before */

static json_t *search(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    serve_search how;
    const char *query = NULL;
    rotor_rag_hits h;
    rotor_error err = {0};
    if (!serve_read_text(top, "query", &query, f) || !serve_read_search(c, top, &how, f))
        return NULL;
    if (!query || !*query)
        return serve_refuse(f, "query", SERVE_MISSING_REQUIRED_PARAMETER, "'query' is missing"),
               NULL;
    if (strlen(query) > QUERY_MAX)
        return serve_refuse(f, "query", SERVE_INVALID_VALUE,
                            "'query' has %zu bytes: expected at most %d", strlen(query), QUERY_MAX),
               NULL;
    const rotor_status st = rotor_rag_search_all(how.r, how.n, query, &how.q, &h, &err);
    if (st == ROTOR_E_ARG)
        return serve_refuse(f, NULL, SERVE_INVALID_VALUE, "%.500s", err.message), NULL;
    if (st != ROTOR_OK) return serve_store_failed(c->inside->s, &how.q, &err, f), NULL;
    json_t *reply = hits_json(&how, &h);
    rotor_rag_hits_free(&h);
    if (!reply) serve_no_memory(f);
    return reply;
}

static void do_search(serve_call *c) {
    serve_fault f = {0};
    json_t *reply = search(c, &f);
    if (reply)
        serve_call_reply(c, 200, reply);
    else
        serve_call_fault(c, &f);
}

void serve_post_search(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    bool ok = c || serve_no_memory(&f);
    ok = ok && serve_parse(&x->body, &c->body, &f);
    if (ok) c->inside->shelves = serve_shelves_of(x->s, c->body);
    serve_hand_task(x, c, do_search, ok, &f);
}

/* ==== Asking ================================================================================== */

static bool ask_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    const char *question = NULL;
    if (!serve_read_text(top, "query", &question, f) ||
        !serve_read_text(top, "question", &question, f))
        return false;
    if (!question || !*question)
        return serve_refuse(f, "question", SERVE_MISSING_REQUIRED_PARAMETER,
                            "'question' is missing");
    c->state = (void *)(uintptr_t)question;
    return serve_read_sampling(c, top, f) && serve_read_effort(c, top, f) &&
           serve_read_rules(c, top, f) && serve_ground(c, top, question, true, f);
}

static json_t *ask_json(const serve_call *c) {
    const serve_choice *ch = &c->choices[0];
    json_t *v = serve_grounds_json(c, ch);
    if (!v) v = json_object();
    json_object_set_new(v, "object", json_string("rag.answer"));
    json_object_set_new(v, "id", json_sprintf("rag-%s", c->id));
    json_object_set_new(v, "created", json_integer((json_int_t)c->created_s));
    json_object_set_new(v, "model", text_of(c->model_id));
    json_object_set_new(v, "question", text_of(c->state));
    json_object_set_new(v, "answer", serve_json_text(ch->text.data, ch->text.len));
    json_object_set_new(v, "finish_reason", json_string(serve_openai_finish(ch->finish)));
    json_object_set_new(v, "usage", serve_openai_usage(c));
    json_object_set_new(v, "timings", serve_timings(&ch->timing));
    return v;
}

static json_t *ask_whole(serve_call *c) { return ask_json(c); }

static void ask_event(serve_call *c, const serve_event *e, base_buf *out) {
    switch (e->kind) {
    case SERVE_BEGIN: {
        json_t *v = serve_grounds_json(c, NULL);
        serve_put_sse(out, "sources", v ? v : json_object());
        break;
    }
    case SERVE_PING:
        base_buf_puts(out, ": working\n\n");
        break;
    case SERVE_TEXT:
    case SERVE_REASONING:
        if (e->choice->index || !e->n_bytes) break;
        serve_put_sse(out, e->kind == SERVE_TEXT ? "text" : "reasoning",
                      json_pack("{s:o}", "text", serve_json_text(e->text, e->n_bytes)));
        break;
    case SERVE_END:
        serve_put_sse(out, "done", ask_json(c));
        break;
    case SERVE_FAULT:
        serve_put_sse(out, "error", serve_openai_fault(e->fault));
        break;
    default:
        break;
    }
}

const serve_dialect serve_rag_dialect = {.name = "rag",
                                         .stream_type = "text/event-stream",
                                         .read = ask_read,
                                         .event = ask_event,
                                         .whole = ask_whole,
                                         .fault = serve_openai_fault};
