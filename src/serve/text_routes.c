/* SPDX-License-Identifier: MIT
 *
 * Questions about text that need no worker: /tokenize, /detokenize, /apply-template.
 */
#include "serve/serve_internal.h"

/* What the three have in common: a body, a model, a reply. */
typedef struct question {
    serve_exchange *x; /* who asks */
    serve_call *c;     /* keeps memory; never submitted */
    serve_at top;      /* the body */
} question;

static bool begin(question *q, serve_exchange *x, serve_fault *f) {
    *q = (question){.x = x, .c = serve_call_create(x->s)};
    if (!q->c) return serve_no_memory(f);
    if (!serve_parse(&x->body, &q->c->body, f)) return false;
    q->top.object = q->c->body;
    const char *name = NULL;
    if (!serve_read_text(q->top, "model", &name, f)) return false;
    serve_model *m = serve_find_model(x->s, name, f);
    if (!m) return false;
    if (!serve_hold(q->c, m)) return false;
    q->c->engine = m->engine ? m->engine : m->vectors;
    return true;
}

static void end(question *q, json_t *reply, serve_fault *f) {
    if (q->c && q->c->inside->waking) {
        serve_hand_over(q->x, q->c, false, f);
        return;
    }
    if (reply)
        serve_reply_json(q->x, 200, reply);
    else
        serve_reply_fault(q->x, f);
    if (q->c) serve_call_release(q->c);
}

/* ==== Text to ids ============================================================================= */

static json_t *ids_json(const uint32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

/* What an id stands for: a text, or its bytes where they are none by themselves. */
static json_t *piece_of(const rotor_engine *e, uint32_t id) {
    char *text = NULL;
    size_t n = 0;
    if (rotor_detokenize(e, &id, 1, true, &text, &n, NULL) != ROTOR_OK) return json_null();
    json_t *v = json_stringn(text, n);
    if (!v) {
        v = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(v, json_integer((unsigned char)text[i]));
    }
    rotor_free(text);
    return v;
}

static bool tokenize(question *q, json_t **reply, serve_fault *f) {
    bool bos = false, special = true, pieces = false;
    uint32_t *ids = NULL;
    size_t n = 0;
    rotor_error err;
    const json_t *content = serve_field(q->top, "content");
    if (!content) content = serve_field(q->top, "prompt");
    if (!json_is_string(content))
        return serve_refuse(f, "content", SERVE_INVALID_VALUE, "'content': expected a text");
    if (!serve_read_bool(q->top, "add_special", &bos, f) ||
        !serve_read_bool(q->top, "parse_special", &special, f) ||
        !serve_read_bool(q->top, "with_pieces", &pieces, f))
        return false;
    const unsigned flags =
        (bos ? (unsigned)ROTOR_TOK_BOS : 0) | (special ? (unsigned)ROTOR_TOK_SPECIAL : 0);
    if (rotor_tokenize(q->c->engine, json_string_value(content), json_string_length(content), flags,
                       &ids, &n, &err) != ROTOR_OK)
        return serve_refuse(f, "content", SERVE_INVALID_VALUE, "%.400s", err.message);
    json_t *list = pieces ? json_array() : ids_json(ids, n);
    for (size_t i = 0; pieces && i < n; i++)
        json_array_append_new(list, json_pack("{s:I, s:o}", "id", (json_int_t)ids[i], "piece",
                                              piece_of(q->c->engine, ids[i])));
    rotor_free(ids);
    *reply = json_pack("{s:o}", "tokens", list);
    return *reply || serve_no_memory(f);
}

void serve_post_tokenize(serve_exchange *x) {
    question q;
    serve_fault f = {0};
    json_t *reply = NULL;
    if (begin(&q, x, &f)) tokenize(&q, &reply, &f);
    end(&q, reply, &f);
}

/* ==== Ids to text ============================================================================= */

static bool detokenize(question *q, json_t **reply, serve_fault *f) {
    const json_t *list = NULL, *v;
    char *text = NULL;
    size_t n_bytes = 0, i;
    rotor_error err;
    if (!serve_read_list(q->top, "tokens", &list, f)) return false;
    if (!list)
        return serve_refuse(f, "tokens", SERVE_MISSING_REQUIRED_PARAMETER, "'tokens' is missing");
    uint32_t *ids = serve_keep(q->c, json_array_size(list), sizeof *ids);
    if (!ids) return serve_no_memory(f);
    json_array_foreach(list, i, v) {
        const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= q->c->inside->model->info.n_vocab)
            return serve_refuse(f, "tokens", SERVE_INVALID_VALUE,
                                "'tokens[%zu]': expected a token id below %u", i,
                                q->c->inside->model->info.n_vocab);
        ids[i] = (uint32_t)id;
    }
    if (rotor_detokenize(q->c->engine, ids, json_array_size(list), true, &text, &n_bytes, &err) !=
        ROTOR_OK)
        return serve_refuse(f, "tokens", SERVE_INVALID_VALUE, "%.400s", err.message);
    *reply = json_pack("{s:o}", "content", serve_json_text(text, n_bytes));
    rotor_free(text);
    return *reply || serve_no_memory(f);
}

void serve_post_detokenize(serve_exchange *x) {
    question q;
    serve_fault f = {0};
    json_t *reply = NULL;
    if (begin(&q, x, &f)) detokenize(&q, &reply, &f);
    end(&q, reply, &f);
}

/* ==== A conversation as a prompt ============================================================== */

static bool apply_template(question *q, json_t **reply, serve_fault *f) {
    serve_call *c = q->c;
    if (!c->inside->model->writes)
        return serve_fail_with(f, SERVE_NOT_SUPPORTED, "%s makes vectors, it has no chats",
                               c->inside->model->id);
    if (!serve_read_messages(c, q->top, "messages", f) || !serve_read_tools(c, q->top, f) ||
        !serve_read_effort(c, q->top, f) || !serve_make_tokens(c, &c->req.prompts[0], f))
        return false;
    const serve_prompt *p = &c->req.prompts[0];
    *reply = json_pack("{s:o, s:o}", "prompt", serve_json_text(p->rendered, strlen(p->rendered)),
                       "tokens", ids_json(p->tokens, p->n_tokens));
    return *reply || serve_no_memory(f);
}

void serve_post_apply_template(serve_exchange *x) {
    question q;
    serve_fault f = {0};
    json_t *reply = NULL;
    if (begin(&q, x, &f)) apply_template(&q, &reply, &f);
    end(&q, reply, &f);
}
