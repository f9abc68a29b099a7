/* SPDX-License-Identifier: MIT
 *
 * POST /v1/responses: OpenAI's protocol of items. A conversation is a list of them: messages, what
 * was thought, functions that were called, their results; an answer is a row of such items. Every
 * event of a stream has a sequence_number, and every item keeps its id.
 *
 * Responses are kept in memory (response_store.c) unless "store" is false, together with all items
 * that led to them: previous_response_id goes on from there.
 */
#include "serve/serve_internal.h"

#include <math.h>
#include <stdio.h>

typedef struct responses {
    serve_parts parts;    /* output items */
    json_int_t sequence;  /* of the next event */
    json_int_t ended_s;   /* Unix time; 0: not yet */
    char id[48];          /* "resp_…" */
    const char *previous; /* response it continues; NULL: none */
    bool store;           /* it is kept */
    bool begun;           /* response.created was sent */
} responses;

/* Keys under which the call's body holds what was made of it. */
#define KNOWN_TOOLS "rotor.tools"
#define ALL_ITEMS   "rotor.items"

/* ==== Items of the conversation =============================================================== */

/* The texts of a list of parts, joined. */
static bool read_parts(serve_turns *t, serve_at at, const char *key, const char **out,
                       serve_fault *f) {
    const char *text = NULL;
    if (!serve_read_content(t->c, at, key, &text, f)) return false;
    if (text) *out = text;
    return true;
}

static bool missing(serve_at at, const char *key, serve_fault *f) {
    char path[96];
    serve_path(at, key, path);
    return serve_refuse(f, path, SERVE_MISSING_REQUIRED_PARAMETER, "'%s' is missing", path);
}

static bool read_message(serve_turns *t, serve_at at, serve_fault *f) {
    const char *role = NULL, *text = NULL;
    char path[96];
    if (!serve_read_text(at, "role", &role, f)) return false;
    if (!role) return missing(at, "role", f);
    if (strcmp(role, "developer") == 0) role = "system";
    if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
        return serve_refuse(f, serve_path(at, "role", path), SERVE_INVALID_VALUE,
                            "'%s' is '%.40s': expected user, assistant, system or developer", path,
                            role);
    if (!read_parts(t, at, "content", &text, f)) return false;
    if (!text) return missing(at, "content", f);
    rotor_turn *turn = serve_turn_last(t, "assistant");
    if (strcmp(role, "assistant") != 0 || !turn || turn->content || turn->n_calls)
        turn = serve_turn_add(t, role);
    if (!turn) return serve_no_memory(f);
    turn->content = text;
    return true;
}

/* The answer that thoughts and calls belong to: the last turn, or a new one. */
static rotor_turn *answer(serve_turns *t) {
    rotor_turn *turn = serve_turn_last(t, "assistant");
    return turn ? turn : serve_turn_add(t, "assistant");
}

static bool read_reasoning(serve_turns *t, serve_at at, serve_fault *f) {
    const char *text = NULL;
    if (!read_parts(t, at, "summary", &text, f) || !read_parts(t, at, "content", &text, f))
        return false;
    if (!text || !text[0]) return true;
    rotor_turn *turn = serve_turn_last(t, "assistant");
    if (!turn || turn->content || turn->reasoning || turn->n_calls)
        turn = serve_turn_add(t, "assistant");
    if (!turn) return serve_no_memory(f);
    turn->reasoning = text;
    return true;
}

static bool read_call(serve_turns *t, serve_at at, serve_fault *f) {
    const char *id = NULL, *name = NULL, *arguments = "{}";
    if (!serve_read_text(at, "call_id", &id, f) || !serve_read_text(at, "name", &name, f) ||
        !serve_read_text(at, "arguments", &arguments, f))
        return false;
    if (!id) return missing(at, "call_id", f);
    if (!name) return missing(at, "name", f);
    return (answer(t) && serve_turn_call(t, id, name, arguments)) || serve_no_memory(f);
}

static bool read_output(serve_turns *t, serve_at at, serve_fault *f) {
    const char *id = NULL, *text = NULL;
    if (!serve_read_text(at, "call_id", &id, f) || !read_parts(t, at, "output", &text, f))
        return false;
    if (!id) return missing(at, "call_id", f);
    if (!text) return missing(at, "output", f);
    rotor_turn *turn = serve_turn_add(t, "tool");
    if (!turn) return serve_no_memory(f);
    turn->content = text;
    turn->name = serve_turn_called(t, id);
    turn->call_id = id;
    return true;
}

/* Items of hosted tools and the like say nothing to this model. */
static bool read_item(serve_turns *t, serve_at at, serve_fault *f) {
    const char *type = "message";
    char path[96];
    if (!serve_read_text(at, "type", &type, f)) return false;
    if (strcmp(type, "message") == 0) return read_message(t, at, f);
    if (strcmp(type, "reasoning") == 0) return read_reasoning(t, at, f);
    if (strcmp(type, "function_call") == 0) return read_call(t, at, f);
    if (strcmp(type, "function_call_output") == 0) return read_output(t, at, f);
    if (strcmp(type, "item_reference") == 0)
        return serve_refuse(f, serve_path(at, "type", path), SERVE_UNSUPPORTED_PARAMETER,
                            "'%s': items are not kept by themselves; send the item, or use "
                            "previous_response_id",
                            path);
    serve_log(t->c->inside->s, BASE_LOG_DEBUG, "an item of type %.40s is left out", type);
    return true;
}

static bool read_items(serve_turns *t, serve_at at, const char *key, serve_fault *f) {
    serve_at item;
    const size_t n = json_array_size(serve_field(at, key));
    for (size_t i = 0; i < n; i++)
        if (!serve_item(at, key, i, &item, f) || !read_item(t, item, f)) return false;
    return true;
}

/* ==== Request ================================================================================= */

/* Items of the response that is continued; an empty list where there is none. */
static json_t *previous_items(serve_call *c, serve_fault *f) {
    const responses *r = c->state;
    if (!r->previous) return json_array();
    json_t *kept = serve_store_get(c->inside->s->responses, r->previous);
    json_t *items = json_incref(json_object_get(kept, "items"));
    json_decref(kept);
    if (!items)
        serve_refuse(f, "previous_response_id", SERVE_PREVIOUS_RESPONSE_NOT_FOUND,
                     "Previous response with id '%.60s' not found: it was not stored, or is "
                     "forgotten",
                     r->previous);
    return items;
}

/* "input" as a list of items; the field itself when it is one. */
static json_t *input_items(const json_t *input) {
    if (json_is_array(input)) return json_incref((json_t *)(uintptr_t)input);
    return json_pack("[{s:s, s:s, s:O}]", "type", "message", "role", "user", "content", input);
}

static bool read_input(serve_call *c, serve_at at, serve_turns *t, serve_fault *f) {
    json_t *input = serve_field(at, "input");
    const responses *r = c->state;
    if (!input && !r->previous)
        return serve_refuse(f, "input", SERVE_MISSING_REQUIRED_PARAMETER, "'input' is missing");
    if (input && !json_is_string(input) && !json_is_array(input))
        return serve_refuse(f, "input", SERVE_INVALID_VALUE,
                            "'input': expected a text or a list of items");
    json_t *all = previous_items(c, f);
    if (!all) return false;
    json_object_set_new(c->body, ALL_ITEMS, all);
    const serve_at before = {.object = c->body};
    if (!read_items(t, before, ALL_ITEMS, f)) return false;
    json_t *own = input ? input_items(input) : json_array();
    json_array_extend(all, own);
    const bool text = json_is_string(input);
    if (text) json_object_set(c->body, "input", own);
    json_decref(own);
    if (!read_items(t, at, "input", f)) return false;
    return t->n || serve_refuse(f, "input", SERVE_INVALID_VALUE, "'input' has no message");
}

static bool read_turns(serve_call *c, serve_at at, serve_fault *f) {
    serve_turns t = {.c = c};
    const char *instructions = NULL;
    bool ok = serve_read_content(c, at, "instructions", &instructions, f);
    if (ok && instructions) {
        rotor_turn *turn = serve_turn_add(&t, "system");
        if (turn) turn->content = instructions;
        ok = turn || serve_no_memory(f);
    }
    ok = ok && read_input(c, at, &t, f);
    return serve_turns_end(&t, ok, f);
}

static bool read_tools(serve_call *c, serve_at at, serve_fault *f) {
    const json_t *list;
    json_t *choice = serve_field(at, "tool_choice"), *chat = json_object();
    const char *type = json_string_value(json_object_get(choice, "type"));
    json_object_set_new(c->body, KNOWN_TOOLS, chat);
    if (!serve_read_list(at, "tools", &list, f)) return false;
    if (list)
        json_object_set_new(chat, "tools", serve_functions(list, "function", false, "parameters"));
    json_t *parallel = serve_field(at, "parallel_tool_calls");
    if (parallel) json_object_set(chat, "parallel_tool_calls", parallel);
    if (type && strcmp(type, "function") == 0)
        json_object_set_new(chat, "tool_choice",
                            json_pack("{s:s, s:{s:O*}}", "type", "function", "function", "name",
                                      json_object_get(choice, "name")));
    else if (choice && !type)
        json_object_set(chat, "tool_choice", choice);
    return serve_read_tools(c, (serve_at){.object = chat}, f);
}

static bool read_reasoning_options(serve_call *c, serve_at at, serve_fault *f) {
    serve_at reasoning;
    const char *word = NULL;
    if (!serve_object(at, "reasoning", &reasoning, f) ||
        !serve_read_text(reasoning, "effort", &word, f))
        return false;
    return !word || serve_effort_of(word, &c->req.effort) ||
           serve_refuse(f, "reasoning.effort", SERVE_INVALID_VALUE,
                        "'reasoning.effort' is '%.40s': expected low, medium or high", word);
}

static bool read_format(serve_call *c, serve_at at, serve_fault *f) {
    serve_at text, format;
    if (!serve_object(at, "text", &text, f) || !serve_object(text, "format", &format, f))
        return false;
    return !format.object || serve_read_format(c, format, f);
}

/* Log-probabilities, which come if they are asked for by name. */
static bool read_logprobs(serve_call *c, serve_at at, serve_fault *f) {
    const json_t *list, *one;
    int64_t top = 0;
    size_t i;
    if (!serve_read_list(at, "include", &list, f) ||
        !serve_read_int(at, "top_logprobs", 0, SERVE_TOP_MAX, &top, f))
        return false;
    json_array_foreach(list, i, one) {
        const char *what = json_string_value(one);
        if (what && strcmp(what, "message.output_text.logprobs") == 0) c->req.logprobs = true;
    }
    c->req.gen.n_top = c->req.logprobs ? (uint32_t)top : 0;
    return true;
}

/* What would change the answer and is not there. */
static bool refuse_unknown(serve_at at, serve_fault *f) {
    static const char *const names[] = {"conversation", "prompt"};
    bool background = false;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (serve_field(at, names[i]))
            return serve_refuse(f, names[i], SERVE_UNSUPPORTED_PARAMETER,
                                "'%s' names something kept by the server, and nothing is",
                                names[i]);
    if (!serve_read_bool(at, "background", &background, f)) return false;
    return !background || serve_refuse(f, "background", SERVE_UNSUPPORTED_PARAMETER,
                                       "'background': this server answers while the client waits");
}

static bool responses_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    responses *r = c->state = serve_keep(c, 1, sizeof *r);
    if (!r) return serve_no_memory(f);
    snprintf(r->id, sizeof r->id, "resp_%s", c->id);
    r->store = true;
    if (!serve_read_bool(top, "store", &r->store, f) ||
        !serve_read_text(top, "previous_response_id", &r->previous, f) || !refuse_unknown(top, f) ||
        !read_turns(c, top, f) || !serve_read_sampling(c, top, f) || !read_tools(c, top, f) ||
        !read_reasoning_options(c, top, f) || !read_logprobs(c, top, f) || !read_format(c, top, f))
        return false;
    c->req.n = 1;
    return true;
}

/* ==== Items of the answer ===================================================================== */

static void name_item(serve_part *part) {
    static const char *const prefixes[] = {"rs_", "msg_", "fc_"};
    serve_make_id(part->id, prefixes[part->kind]);
}

/* Those of a message's tokens, where they are asked for. */
static json_t *logprobs_json(const serve_call *c, const serve_part *part) {
    const serve_choice *ch = &c->choices[0];
    json_t *list = json_array();
    for (size_t i = 0; i < ch->n_tokens; i++)
        if (ch->tokens[i].at >= part->from && ch->tokens[i].at < part->from + part->n_bytes)
            json_array_append_new(list, serve_openai_logprob(&ch->tokens[i]));
    return list;
}

/* The part of content that a message or a thought has, as it begins or whole. */
static json_t *content_json(const serve_call *c, const serve_part *part, bool whole) {
    json_t *text = whole ? serve_part_text(c, part) : json_string("");
    if (part->kind == SERVE_PART_REASONING)
        return json_pack("{s:s, s:o}", "type", "reasoning_text", "text", text);
    return json_pack("{s:s, s:o, s:[], s:o}", "type", "output_text", "text", text, "annotations",
                     "logprobs", whole ? logprobs_json(c, part) : json_array());
}

/* An item as it begins (content empty) or as it has ended. */
static json_t *item_json(const serve_call *c, const serve_part *part, const char *status,
                         bool whole) {
    if (part->kind == SERVE_PART_CALL) {
        const serve_tool_call *t = &c->choices[0].calls[part->call];
        return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "id", part->id, "type", "function_call",
                         "status", status, "call_id", t->id, "name",
                         serve_json_text(t->name, strlen(t->name)), "arguments",
                         whole ? serve_part_text(c, part) : json_string(""));
    }
    json_t *content = whole ? json_pack("[o]", content_json(c, part, true)) : json_array();
    if (part->kind == SERVE_PART_REASONING)
        return json_pack("{s:s, s:s, s:s, s:[], s:o}", "id", part->id, "type", "reasoning",
                         "status", status, "summary", "content", content);
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", part->id, "type", "message", "status",
                     status, "role", "assistant", "content", content);
}

/* Only the last item of an answer that was cut is not whole. */
static const char *status_of(const serve_call *c, const serve_part *part) {
    const responses *r = c->state;
    const bool cut = c->choices[0].finish == SERVE_LENGTH || c->choices[0].finish == SERVE_CUT;
    return cut && part->index + 1 == r->parts.n ? "incomplete" : "completed";
}

static json_t *output_json(const serve_call *c) {
    const responses *r = c->state;
    json_t *list = json_array();
    for (size_t i = 0; i < r->parts.n; i++)
        json_array_append_new(
            list, item_json(c, &r->parts.list[i], status_of(c, &r->parts.list[i]), true));
    return list;
}

/* ==== The response ============================================================================ */

static json_t *usage_json(const serve_call *c) {
    const serve_usage u = serve_usage_of(c);
    return json_pack("{s:I, s:{s:I, s:i}, s:I, s:{s:I}, s:I}", "input_tokens", (json_int_t)u.prompt,
                     "input_tokens_details", "cached_tokens", (json_int_t)u.cached,
                     "cache_write_tokens", 0, "output_tokens", (json_int_t)u.completion,
                     "output_tokens_details", "reasoning_tokens", (json_int_t)u.reasoning,
                     "total_tokens", (json_int_t)(u.prompt + u.completion));
}

/* What the client has sent comes back; `otherwise` is taken. */
static void echo(json_t *v, const serve_call *c, const char *key, json_t *otherwise) {
    json_t *sent = serve_field((serve_at){.object = c->body}, key);
    if (sent) json_object_set(v, key, sent);
    if (sent) json_decref(otherwise);
    if (!sent) json_object_set_new(v, key, otherwise);
}

/* 0.95, not what a float makes of it. */
static json_t *short_real(float x) { return json_real(round((double)x * 1e6) / 1e6); }

static void add_settings(json_t *v, const serve_call *c) {
    const responses *r = c->state;
    echo(v, c, "instructions", json_null());
    echo(v, c, "max_output_tokens", json_null());
    echo(v, c, "max_tool_calls", json_null());
    echo(v, c, "metadata", json_object());
    echo(v, c, "parallel_tool_calls", json_true());
    echo(v, c, "previous_response_id", json_null());
    echo(v, c, "prompt_cache_key", json_null());
    echo(v, c, "safety_identifier", json_null());
    echo(v, c, "text", json_pack("{s:{s:s}}", "format", "type", "text"));
    echo(v, c, "tool_choice", json_string("auto"));
    echo(v, c, "tools", json_array());
    echo(v, c, "truncation", json_string("disabled"));
    if (serve_field((serve_at){.object = c->body}, "user")) echo(v, c, "user", NULL);
    echo(v, c, "reasoning", json_pack("{s:n, s:n}", "effort", "summary"));
    json_object_set_new(v, "temperature", short_real(c->req.gen.temperature));
    json_object_set_new(v, "top_p", short_real(c->req.gen.top_p));
    json_object_set_new(v, "top_logprobs", json_integer(c->req.gen.n_top));
    json_object_set_new(v, "background", json_false());
    json_object_set_new(v, "service_tier", json_string("default"));
    json_object_set_new(v, "store", json_boolean(r->store));
}

static json_t *response_json(const serve_call *c, const char *status) {
    const responses *r = c->state;
    const serve_prompt *p = &c->req.prompts[0];
    const bool going_on = strcmp(status, "in_progress") == 0;
    json_t *v =
        json_pack("{s:s, s:s, s:I, s:s, s:o, s:n, s:n, s:o, s:o}", "id", r->id, "object",
                  "response", "created_at", (json_int_t)c->created_s, "status", status,
                  "completed_at", r->ended_s ? json_integer(r->ended_s) : json_null(), "error",
                  "incomplete_details", "model", serve_json_text(c->model_id, strlen(c->model_id)),
                  "output", going_on ? json_array() : output_json(c));
    if (!going_on) json_object_set_new(v, "usage", usage_json(c));
    add_settings(v, c);
    if (strcmp(status, "incomplete") == 0)
        json_object_set_new(v, "incomplete_details",
                            json_pack("{s:s}", "reason", "max_output_tokens"));
    if (p->n_dropped)
        json_object_set_new(v, "dropped",
                            json_pack("{s:I, s:I}", "tokens", (json_int_t)p->n_dropped, "turns",
                                      (json_int_t)p->n_dropped_turns));
    return v;
}

static void keep(const serve_call *c, json_t *response) {
    const responses *r = c->state;
    base_buf text = {0};
    if (!r->store) return;
    json_t *items = json_copy(json_object_get(c->body, ALL_ITEMS));
    json_array_extend(items, json_object_get(response, "output"));
    serve_put_json(&text, json_pack("{s:O, s:o, s:O}", "response", response, "items", items,
                                    "input", json_object_get(c->body, ALL_ITEMS)));
    if (!text.failed) serve_store_put(c->inside->s->responses, r->id, text.data, text.len);
    base_buf_free(&text);
}

/* The response when all has come, which is also when it is kept. */
static json_t *responses_whole(serve_call *c) {
    responses *r = c->state;
    const bool cut = c->choices[0].finish == SERVE_LENGTH || c->choices[0].finish == SERVE_CUT;
    r->ended_s = base_unix_s();
    json_t *v = response_json(c, cut ? "incomplete" : "completed");
    keep(c, v);
    return v;
}

/* ==== Stream ================================================================================== */

/* v, which is taken, with what every event has. */
static void put(serve_call *c, const char *name, json_t *v, base_buf *out) {
    responses *r = c->state;
    json_t *e = json_pack("{s:s, s:I}", "type", name, "sequence_number", r->sequence++);
    json_object_update(e, v);
    json_decref(v);
    serve_put_sse(out, name, e);
}

static void put_item(serve_call *c, const char *name, const serve_part *part, json_t *item,
                     base_buf *out) {
    put(c, name, json_pack("{s:I, s:o}", "output_index", (json_int_t)part->index, "item", item),
        out);
}

/* What an event about an item's content says, with one more field; v is taken. */
static json_t *at_item(const serve_part *part, const char *key, json_t *v) {
    json_t *e = json_pack("{s:s, s:I, s:o}", "item_id", part->id, "output_index",
                          (json_int_t)part->index, key, v);
    if (part->kind != SERVE_PART_CALL) json_object_set_new(e, "content_index", json_integer(0));
    return e;
}

/* The same as an event; logprobs: of a text, taken; NULL: it is none. */
static void put_at(serve_call *c, const char *name, const serve_part *part, json_t *e,
                   json_t *logprobs, base_buf *out) {
    if (logprobs) json_object_set_new(e, "logprobs", logprobs);
    if (part->kind == SERVE_PART_CALL && json_object_get(e, "arguments")) {
        const char *function = c->choices[0].calls[part->call].name;
        json_object_set_new(e, "name", serve_json_text(function, strlen(function)));
    }
    put(c, name, e, out);
}

static void begin_item(serve_call *c, const serve_part *part, base_buf *out) {
    put_item(c, "response.output_item.added", part, item_json(c, part, "in_progress", false), out);
    if (part->kind == SERVE_PART_CALL) return;
    put_at(c, "response.content_part.added", part,
           at_item(part, "part", content_json(c, part, false)), NULL, out);
}

static void more_of_item(serve_call *c, const serve_part *part, const serve_event *e,
                         base_buf *out) {
    static const char *const names[] = {"response.reasoning_text.delta",
                                        "response.output_text.delta",
                                        "response.function_call_arguments.delta"};
    json_t *logprobs = part->kind == SERVE_PART_TEXT ? json_array() : NULL;
    if (logprobs && e->token) json_array_append_new(logprobs, serve_openai_logprob(e->token));
    put_at(c, names[part->kind], part, at_item(part, "delta", serve_json_text(e->text, e->n_bytes)),
           logprobs, out);
}

static void end_item(serve_call *c, const serve_part *part, base_buf *out) {
    static const char *const names[] = {"response.reasoning_text.done", "response.output_text.done",
                                        "response.function_call_arguments.done"};
    const bool call = part->kind == SERVE_PART_CALL;
    put_at(c, names[part->kind], part,
           at_item(part, call ? "arguments" : "text", serve_part_text(c, part)),
           part->kind == SERVE_PART_TEXT ? logprobs_json(c, part) : NULL, out);
    if (!call)
        put_at(c, "response.content_part.done", part,
               at_item(part, "part", content_json(c, part, true)), NULL, out);
    put_item(c, "response.output_item.done", part, item_json(c, part, status_of(c, part), true),
             out);
}

static const serve_part_hooks hooks = {name_item, begin_item, more_of_item, end_item};

static void put_begin(serve_call *c, base_buf *out) {
    responses *r = c->state;
    r->begun = true;
    put(c, "response.created", json_pack("{s:o}", "response", response_json(c, "in_progress")),
        out);
    put(c, "response.in_progress", json_pack("{s:o}", "response", response_json(c, "in_progress")),
        out);
}

static void put_end(serve_call *c, base_buf *out) {
    json_t *v = responses_whole(c);
    const char *status = json_string_value(json_object_get(v, "status"));
    put(c,
        status && strcmp(status, "completed") == 0 ? "response.completed" : "response.incomplete",
        json_pack("{s:o}", "response", v), out);
}

static void put_fault(serve_call *c, const serve_fault *f, base_buf *out) {
    const responses *r = c->state;
    json_t *text = serve_json_text(f->message, strlen(f->message));
    put(c, "error",
        json_pack("{s:O, s:o, s:n}", "message", text, "code",
                  f->code ? json_string(f->code) : json_null(), "param"),
        out);
    if (r->begun) {
        json_t *v = response_json(c, "failed");
        json_object_set_new(v, "error",
                            json_pack("{s:s, s:O}", "code", "server_error", "message", text));
        put(c, "response.failed", json_pack("{s:o}", "response", v), out);
    }
    json_decref(text);
}

static void responses_event(serve_call *c, const serve_event *e, base_buf *out) {
    responses *r = c->state;
    serve_parts_event(c, &r->parts, &hooks, e, out);
    if (!out) return;
    if (e->kind == SERVE_BEGIN)
        put_begin(c, out);
    else if (e->kind == SERVE_PING && e->position)
        base_buf_printf(out, ": waiting, position %u\n\n", e->position);
    else if (e->kind == SERVE_PING)
        base_buf_puts(out, ": working\n\n");
    else if (e->kind == SERVE_END)
        put_end(c, out);
    else if (e->kind == SERVE_FAULT)
        put_fault(c, e->fault, out);
}

const serve_dialect serve_responses_dialect = {.name = "responses",
                                               .stream_type = "text/event-stream",
                                               .watches = true,
                                               .read = responses_read,
                                               .event = responses_event,
                                               .whole = responses_whole,
                                               .fault = serve_openai_fault};

/* ==== Responses that were kept ================================================================ */

static void no_such_response(serve_exchange *x) {
    serve_fault f = {0};
    serve_fail_with(&f, SERVE_RESPONSE_NOT_FOUND,
                    "Response with id '%.60s' not found: it was not stored, or is forgotten",
                    x->tail);
    serve_reply_fault(x, &f);
}

/* GET /v1/responses/ID and /v1/responses/ID/input_items */
void serve_get_response(serve_exchange *x) {
    char id[64];
    const char *slash = strchr(x->tail, '/');
    const size_t n = slash ? (size_t)(slash - x->tail) : strlen(x->tail);
    snprintf(id, sizeof id, "%.*s", (int)BASE_MIN(n, sizeof id), x->tail);
    json_t *kept = serve_store_get(x->s->responses, id);
    if (!kept || (slash && strcmp(slash, "/input_items") != 0)) {
        json_decref(kept);
        no_such_response(x);
        return;
    }
    if (slash)
        serve_reply_json(x, 200,
                         json_pack("{s:s, s:O, s:b, s:n, s:n}", "object", "list", "data",
                                   json_object_get(kept, "input"), "has_more", 0, "first_id",
                                   "last_id"));
    else
        serve_reply_json(x, 200, json_incref(json_object_get(kept, "response")));
    json_decref(kept);
}

void serve_delete_response(serve_exchange *x) {
    if (serve_store_drop(x->s->responses, x->tail))
        serve_reply_json(
            x, 200,
            json_pack("{s:s, s:s, s:b}", "id", x->tail, "object", "response", "deleted", 1));
    else
        no_such_response(x);
}
