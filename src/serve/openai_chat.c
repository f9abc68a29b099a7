/* SPDX-License-Identifier: MIT
 *
 * POST /v1/chat/completions, and the file to read for whoever writes another protocol: it does
 * nothing but translate.
 */
#include "serve/serve_internal.h"

/* ==== Request ================================================================================= */

static bool read_logprobs(serve_call *c, serve_at at, serve_fault *f) {
    int64_t top = 0;
    if (!serve_read_bool(at, "logprobs", &c->req.logprobs, f) ||
        !serve_read_int(at, "top_logprobs", 0, SERVE_TOP_MAX, &top, f))
        return false;
    if (top && !c->req.logprobs)
        return serve_refuse(f, "top_logprobs", SERVE_INVALID_VALUE,
                            "'top_logprobs' needs \"logprobs\": true");
    c->req.gen.n_top = (uint32_t)top;
    return true;
}

static bool chat_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    return serve_read_messages(c, top, "messages", f) && serve_read_sampling(c, top, f) &&
           serve_read_tools(c, top, f) && read_logprobs(c, top, f) &&
           serve_read_effort(c, top, f) && serve_read_rules(c, top, f) && serve_read_rag(c, top, f);
}

/* ==== Reply =================================================================================== */

static json_t *logprobs_json(const serve_token *t, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, serve_openai_logprob(&t[i]));
    return json_pack("{s:o, s:n}", "content", list, "refusal");
}

static json_t *call_json(const serve_tool_call *t) {
    return json_pack("{s:s, s:s, s:{s:o, s:o}}", "id", t->id, "type", "function", "function",
                     "name", serve_json_text(t->name, strlen(t->name)), "arguments",
                     serve_json_text(t->arguments.data, t->arguments.len));
}

static json_t *message_json(const serve_choice *ch) {
    json_t *m = json_pack(
        "{s:s, s:o, s:n}", "role", "assistant", "content",
        ch->n_calls && !ch->text.len ? json_null() : serve_json_text(ch->text.data, ch->text.len),
        "refusal");
    if (ch->reasoning.len)
        json_object_set_new(m, "reasoning_content",
                            serve_json_text(ch->reasoning.data, ch->reasoning.len));
    if (!ch->n_calls) return m;
    json_t *calls = json_array();
    for (size_t i = 0; i < ch->n_calls; i++) json_array_append_new(calls, call_json(&ch->calls[i]));
    json_object_set_new(m, "tool_calls", calls);
    return m;
}

static json_t *envelope(const serve_call *c, const char *object) {
    char id[64];
    base_buf b = {0};
    base_buf_printf(&b, "chatcmpl-%s", c->id);
    memcpy(id, b.data ? b.data : "", b.len + 1);
    base_buf_free(&b);
    return json_pack("{s:s, s:s, s:I, s:o, s:s}", "id", id, "object", object, "created",
                     (json_int_t)c->created_s, "model",
                     serve_json_text(c->model_id, strlen(c->model_id)), "system_fingerprint",
                     rotor_version());
}

/* What truncation has left out, where it has. */
static void add_dropped(json_t *v, const serve_call *c) {
    const serve_prompt *p = &c->req.prompts[0];
    if (!p->n_dropped) return;
    json_object_set_new(v, "truncation",
                        json_pack("{s:I, s:I}", "dropped_tokens", (json_int_t)p->n_dropped,
                                  "dropped_messages", (json_int_t)p->n_dropped_turns));
}

/* What a knowledge store had for the question, and the answer's citations. */
static void add_rag(json_t *v, const serve_call *c, const serve_choice *ch) {
    json_t *rag = serve_grounds_json(c, ch);
    if (rag) json_object_set_new(v, "rag", rag);
}

static json_t *chat_whole(serve_call *c) {
    json_t *v = envelope(c, "chat.completion"), *choices = json_array();
    for (size_t i = 0; i < c->n_choices; i++) {
        const serve_choice *ch = &c->choices[i];
        json_t *logprobs = c->req.logprobs ? logprobs_json(ch->tokens, ch->n_tokens) : json_null();
        json_array_append_new(choices,
                              json_pack("{s:i, s:o, s:s, s:o}", "index", (int)i, "message",
                                        message_json(ch), "finish_reason",
                                        serve_openai_finish(ch->finish), "logprobs", logprobs));
    }
    json_object_set_new(v, "choices", choices);
    json_object_set_new(v, "usage", serve_openai_usage(c));
    json_object_set_new(v, "timings", serve_timings(&c->choices[0].timing));
    add_dropped(v, c);
    add_rag(v, c, &c->choices[0]);
    return v;
}

/* ==== Stream ================================================================================== */

/* One chunk for one choice; takes delta and logprobs. */
static void put_chunk(serve_call *c, const serve_choice *ch, json_t *delta, json_t *logprobs,
                      const char *finish, base_buf *out) {
    json_t *v = envelope(c, "chat.completion.chunk");
    json_t *choice = json_pack("{s:i, s:o, s:o, s:o}", "index", (int)ch->index, "delta", delta,
                               "logprobs", logprobs ? logprobs : json_null(), "finish_reason",
                               finish ? json_string(finish) : json_null());
    json_object_set_new(v, "choices", json_pack("[o]", choice));
    if (c->req.usage) json_object_set_new(v, "usage", json_null());
    if (finish || c->req.timings_per_token)
        json_object_set_new(v, "timings", serve_timings(&ch->timing));
    if (finish) add_dropped(v, c);
    if (finish) add_rag(v, c, ch);
    serve_put_sse(out, NULL, v);
}

static json_t *call_delta(const serve_event *e) {
    const serve_tool_call *t = &e->choice->calls[e->call];
    if (e->kind == SERVE_CALL_ARGUMENTS)
        return json_pack("{s:[{s:i, s:{s:o}}]}", "tool_calls", "index", (int)e->call, "function",
                         "arguments", serve_json_text(e->text, e->n_bytes));
    return json_pack("{s:[{s:i, s:s, s:s, s:{s:o, s:s}}]}", "tool_calls", "index", (int)e->call,
                     "id", t->id, "type", "function", "function", "name",
                     serve_json_text(t->name, strlen(t->name)), "arguments", "");
}

static void put_progress(serve_call *c, const serve_event *e, base_buf *out) {
    json_t *v = envelope(c, "chat.completion.chunk");
    json_object_set_new(v, "choices",
                        json_pack("[{s:i, s:{}, s:n, s:n}]", "index", (int)e->choice->index,
                                  "delta", "logprobs", "finish_reason"));
    json_object_set_new(v, "prompt_progress",
                        json_pack("{s:I, s:I, s:I, s:I}", "total", (json_int_t)e->total, "cache",
                                  (json_int_t)e->choice->timing.n_cached, "processed",
                                  (json_int_t)e->done, "time_ms",
                                  (json_int_t)(e->choice->timing.prompt_us / 1000)));
    serve_put_sse(out, NULL, v);
}

static void put_end(serve_call *c, base_buf *out) {
    if (c->req.usage) {
        json_t *v = envelope(c, "chat.completion.chunk");
        json_object_set_new(v, "choices", json_array());
        json_object_set_new(v, "usage", serve_openai_usage(c));
        serve_put_sse(out, NULL, v);
    }
    base_buf_puts(out, "data: [DONE]\n\n");
}

static json_t *text_delta(const char *key, const serve_event *e) {
    return json_pack("{s:o}", key, serve_json_text(e->text, e->n_bytes));
}

static void chat_event(serve_call *c, const serve_event *e, base_buf *out) {
    const serve_choice *ch = e->choice;
    switch (e->kind) {
    case SERVE_BEGIN:
        for (size_t i = 0; i < c->n_choices; i++)
            put_chunk(c, &c->choices[i], json_pack("{s:s, s:n}", "role", "assistant", "content"),
                      NULL, NULL, out);
        break;
    case SERVE_PING:
        if (e->position)
            base_buf_printf(out, ": waiting, position %u\n\n", e->position);
        else
            base_buf_puts(out, ": working\n\n");
        break;
    case SERVE_PROGRESS:
        put_progress(c, e, out);
        break;
    case SERVE_TEXT:
        put_chunk(c, ch, text_delta("content", e), e->token ? logprobs_json(e->token, 1) : NULL,
                  NULL, out);
        break;
    case SERVE_REASONING:
        put_chunk(c, ch, text_delta("reasoning_content", e), NULL, NULL, out);
        break;
    case SERVE_CALL_BEGIN:
    case SERVE_CALL_ARGUMENTS:
        put_chunk(c, ch, call_delta(e), NULL, NULL, out);
        break;
    case SERVE_CALL_END:
        break;
    case SERVE_CHOICE_END:
        put_chunk(c, ch, json_object(), NULL, serve_openai_finish(ch->finish), out);
        break;
    case SERVE_END:
        put_end(c, out);
        break;
    case SERVE_FAULT:
        serve_put_sse(out, NULL, serve_openai_fault(e->fault));
        break;
    }
}

const serve_dialect serve_chat_dialect = {.name = "chat",
                                          .stream_type = "text/event-stream",
                                          .read = chat_read,
                                          .event = chat_event,
                                          .whole = chat_whole,
                                          .fault = serve_openai_fault};
