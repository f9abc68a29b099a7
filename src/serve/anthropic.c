/* SPDX-License-Identifier: MIT
 *
 * POST /v1/messages and /v1/messages/count_tokens: Anthropic's protocol of content blocks. What is
 * thought, text, and tools that are used are blocks of one answer; results of tools are blocks of
 * the user's next message.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

typedef struct messages {
    serve_parts parts; /* content blocks */
    bool begun;        /* message_start was sent */
} messages;

/* Key under which the call's body holds the tools in the form of the chat protocol. */
#define KNOWN_TOOLS "rotor.tools"

/* ==== Errors ================================================================================== */

static const char *fault_type(const serve_fault *f) {
    switch (f->status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return f->status >= 500 ? "api_error" : "invalid_request_error";
    }
}

/* Clients look for "prompt is too long" to shorten their history. */
static json_t *messages_fault(const serve_fault *f) {
    char text[sizeof f->message + 96];
    if (f->n_ctx)
        snprintf(text, sizeof text, "prompt is too long: %llu tokens > %llu maximum. %s",
                 (unsigned long long)f->n_prompt, (unsigned long long)f->n_ctx - 1, f->message);
    else
        snprintf(text, sizeof text, "%s", f->message);
    return json_pack("{s:s, s:{s:s, s:o}}", "type", "error", "error", "type", fault_type(f),
                     "message", serve_json_text(text, strlen(text)));
}

/* ==== Blocks ================================================================================== */

static bool missing(serve_at at, const char *key, serve_fault *f) {
    char path[96];
    serve_path(at, key, path);
    return serve_refuse(f, path, SERVE_MISSING_REQUIRED_PARAMETER, "%s: Field required", path);
}

static const char *type_of(const json_t *block) {
    const char *type = json_string_value(json_object_get(block, "type"));
    return type ? type : "";
}

static bool is_text(const json_t *block) {
    return strcmp(type_of(block), "text") == 0 && json_is_string(json_object_get(block, "text"));
}

/* All texts under `key` in blocks of a type, joined; NULL where there are none. */
static bool join(serve_call *c, const json_t *list, size_t from, size_t to, const char *type,
                 const char *key, const char *between, const char **out, serve_fault *f) {
    base_buf all = {0};
    bool any = false;
    for (size_t i = from; i < to; i++) {
        const json_t *block = json_array_get(list, i), *text = json_object_get(block, key);
        if (strcmp(type_of(block), type) != 0 || !json_is_string(text)) continue;
        if (all.len) base_buf_puts(&all, between);
        base_buf_append(&all, json_string_value(text), json_string_length(text));
        any = true;
    }
    char *kept = any && !all.failed ? serve_keep(c, all.len + 1, 1) : NULL;
    if (kept && all.len) memcpy(kept, all.data, all.len);
    base_buf_free(&all);
    *out = kept;
    return kept || !any || serve_no_memory(f);
}

/* system: a text, or blocks of text, each a paragraph. */
static bool read_system(serve_turns *t, serve_at at, serve_fault *f) {
    const char *text = NULL;
    const json_t *v = serve_field(at, "system"), *block;
    size_t i;
    if (json_is_array(v)) {
        json_array_foreach(v, i, block) if (!is_text(block)) return serve_refuse(
            f, "system", SERVE_INVALID_VALUE, "system.%zu: expected a block of type text", i);
        if (!join(t->c, v, 0, json_array_size(v), "text", "text", "\n", &text, f)) return false;
    } else if (!serve_read_text(at, "system", &text, f)) {
        return false;
    }
    if (!text || !text[0]) return true;
    rotor_turn *turn = serve_turn_add(t, "system");
    if (turn) turn->content = text;
    return turn || serve_no_memory(f);
}

static bool unknown_block(serve_at at, size_t i, const char *type, serve_fault *f) {
    char path[96], where[80];
    snprintf(where, sizeof where, "content[%zu].type", i);
    serve_path(at, where, path);
    return serve_refuse(f, path, SERVE_UNSUPPORTED_PARAMETER,
                        "%s: '%.40s' is not supported: this model reads text", path, type);
}

static bool read_result(serve_turns *t, serve_at block, serve_fault *f) {
    const char *id = NULL, *text = NULL;
    if (!serve_read_text(block, "tool_use_id", &id, f) ||
        !serve_read_content(t->c, block, "content", &text, f))
        return false;
    if (!id) return missing(block, "tool_use_id", f);
    rotor_turn *turn = serve_turn_add(t, "tool");
    if (!turn) return serve_no_memory(f);
    turn->content = text ? text : "";
    turn->name = serve_turn_called(t, id);
    turn->call_id = id;
    return true;
}

/* Results of tools are turns of their own, and so is each run of texts between them. */
static bool read_user(serve_turns *t, serve_at at, const json_t *list, const char *role,
                      serve_fault *f) {
    const size_t n = json_array_size(list);
    for (size_t i = 0; i < n;) {
        const json_t *block = json_array_get(list, i);
        serve_at result;
        if (strcmp(type_of(block), "tool_result") == 0) {
            if (!serve_item(at, "content", i++, &result, f) || !read_result(t, result, f))
                return false;
            continue;
        }
        if (!is_text(block)) return unknown_block(at, i, type_of(block), f);
        const size_t from = i;
        while (i < n && is_text(json_array_get(list, i))) i++;
        rotor_turn *turn = serve_turn_add(t, role);
        if (!turn) return serve_no_memory(f);
        if (!join(t->c, list, from, i, "text", "text", "", &turn->content, f)) return false;
    }
    return true;
}

static bool read_use(serve_turns *t, serve_at block, serve_fault *f) {
    const char *id = NULL, *name = NULL;
    base_buf text = {0};
    serve_at input;
    if (!serve_read_text(block, "id", &id, f) || !serve_read_text(block, "name", &name, f))
        return false;
    if (!id) return missing(block, "id", f);
    if (!name) return missing(block, "name", f);
    if (!serve_object(block, "input", &input, f)) return false;
    serve_put_json(&text, input.object ? json_incref(serve_field(block, "input")) : json_object());
    char *kept = text.failed ? NULL : serve_keep(t->c, text.len + 1, 1);
    if (kept) memcpy(kept, text.data, text.len);
    base_buf_free(&text);
    return (kept && serve_turn_call(t, id, name, kept)) || serve_no_memory(f);
}

static bool read_assistant(serve_turns *t, serve_at at, const json_t *list, serve_fault *f) {
    const size_t n = json_array_size(list);
    rotor_turn *turn = serve_turn_add(t, "assistant");
    if (!turn) return serve_no_memory(f);
    if (!join(t->c, list, 0, n, "text", "text", "", &turn->content, f) ||
        !join(t->c, list, 0, n, "thinking", "thinking", "", &turn->reasoning, f))
        return false;
    for (size_t i = 0; i < n; i++) {
        const char *type = type_of(json_array_get(list, i));
        serve_at block;
        if (!serve_item(at, "content", i, &block, f)) return false;
        if (strcmp(type, "tool_use") == 0) {
            if (!read_use(t, block, f)) return false;
        } else if (!is_text(block.object) && strcmp(type, "thinking") != 0 &&
                   strcmp(type, "redacted_thinking") != 0) {
            return unknown_block(at, i, type, f);
        }
    }
    return true;
}

static bool read_message(serve_turns *t, serve_at at, serve_fault *f) {
    const char *role = NULL;
    char path[96];
    const json_t *content = serve_field(at, "content");
    if (!serve_read_text(at, "role", &role, f)) return false;
    if (!role) return missing(at, "role", f);
    if (!content) return missing(at, "content", f);
    const bool assistant = strcmp(role, "assistant") == 0;
    if (!assistant && strcmp(role, "user") != 0 && strcmp(role, "system") != 0)
        return serve_refuse(f, serve_path(at, "role", path), SERVE_INVALID_VALUE,
                            "%s: '%.40s' is no role: expected user or assistant", path, role);
    if (json_is_string(content)) {
        rotor_turn *turn = serve_turn_add(t, role);
        if (turn) turn->content = json_string_value(content);
        return turn || serve_no_memory(f);
    }
    if (!json_is_array(content))
        return serve_refuse(f, serve_path(at, "content", path), SERVE_INVALID_VALUE,
                            "%s: expected a text or a list of blocks", path);
    return assistant ? read_assistant(t, at, content, f) : read_user(t, at, content, role, f);
}

static bool read_turns(serve_call *c, serve_at at, serve_fault *f) {
    serve_turns t = {.c = c};
    const json_t *list;
    serve_at message;
    bool ok = serve_read_list(at, "messages", &list, f);
    if (ok && !json_array_size(list))
        ok = list ? serve_refuse(f, "messages", SERVE_INVALID_VALUE,
                                 "messages: at least one message is required")
                  : missing(at, "messages", f);
    ok = ok && read_system(&t, at, f);
    for (size_t i = 0; ok && i < json_array_size(list); i++)
        ok = serve_item(at, "messages", i, &message, f) && read_message(&t, message, f);
    if (ok && !t.n)
        ok = serve_refuse(f, "messages", SERVE_INVALID_VALUE, "messages: all are empty");
    return serve_turns_end(&t, ok, f);
}

/* ==== The rest of the request ================================================================= */

/* Tools that run elsewhere have a type of their own, and are left out. */
static bool read_tools(serve_call *c, serve_at at, serve_fault *f) {
    const json_t *list;
    serve_at choice;
    const char *type = NULL, *name = NULL;
    bool one = false;
    json_t *chat = json_object();
    json_object_set_new(c->body, KNOWN_TOOLS, chat);
    if (!serve_read_list(at, "tools", &list, f) || !serve_object(at, "tool_choice", &choice, f) ||
        !serve_read_text(choice, "type", &type, f) || !serve_read_text(choice, "name", &name, f) ||
        !serve_read_bool(choice, "disable_parallel_tool_use", &one, f))
        return false;
    if (list)
        json_object_set_new(chat, "tools", serve_functions(list, "custom", true, "input_schema"));
    json_object_set_new(chat, "parallel_tool_calls", json_boolean(!one));
    if (!type || strcmp(type, "auto") == 0) {
    } else if (strcmp(type, "none") == 0) {
        json_object_set_new(chat, "tool_choice", json_string("none"));
    } else if (strcmp(type, "any") == 0) {
        json_object_set_new(chat, "tool_choice", json_string("required"));
    } else if (strcmp(type, "tool") == 0 && name) {
        json_object_set_new(
            chat, "tool_choice",
            json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name));
    } else {
        return serve_refuse(f, "tool_choice", SERVE_INVALID_VALUE,
                            "tool_choice.type: '%.40s': expected auto, any, none, or tool with a "
                            "name",
                            type);
    }
    return serve_read_tools(c, (serve_at){.object = chat}, f);
}

/* A budget of thinking is an effort; thinking cannot be switched off in models that think. */
static bool read_thinking(serve_call *c, serve_at at, serve_fault *f) {
    serve_at thinking, output;
    const char *type = NULL, *word = NULL;
    int64_t budget = 0;
    if (!serve_object(at, "thinking", &thinking, f) ||
        !serve_read_text(thinking, "type", &type, f) ||
        !serve_read_int(thinking, "budget_tokens", 0, INT32_MAX, &budget, f) ||
        !serve_object(at, "output_config", &output, f) ||
        !serve_read_text(output, "effort", &word, f))
        return false;
    if (type && strcmp(type, "disabled") == 0) c->req.effort = ROTOR_EFFORT_LOW;
    if (budget)
        c->req.effort = budget < 4096    ? ROTOR_EFFORT_LOW
                        : budget < 16384 ? ROTOR_EFFORT_MEDIUM
                                         : ROTOR_EFFORT_HIGH;
    return !word || serve_effort_of(word, &c->req.effort) ||
           serve_refuse(f, "output_config.effort", SERVE_INVALID_VALUE,
                        "output_config.effort: '%.40s': expected low, medium or high", word);
}

static bool messages_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    int64_t most = 1;
    c->state = serve_keep(c, 1, sizeof(messages));
    if (!c->state) return serve_no_memory(f);
    if (!read_turns(c, top, f) || !serve_read_int(top, "max_tokens", 1, INT32_MAX, &most, f) ||
        !serve_read_sampling(c, top, f) || !serve_read_stops(c, top, "stop_sequences", f) ||
        !read_tools(c, top, f) || !read_thinking(c, top, f))
        return false;
    c->req.n = 1;
    return true;
}

/* ==== Reply =================================================================================== */

static const char *stop_reason(const serve_choice *ch) {
    switch (ch->finish) {
    case SERVE_LENGTH:
    case SERVE_CUT:
        return "max_tokens";
    case SERVE_CALLS:
        return "tool_use";
    default:
        return ch->stop ? "stop_sequence" : "end_turn";
    }
}

static json_t *stop_json(const serve_choice *ch) {
    const char *stop = ch->finish == SERVE_STOP ? ch->stop : NULL;
    return stop ? serve_json_text(stop, strlen(stop)) : json_null();
}

/* Tokens that the cache held are not counted as input a second time. */
static json_t *usage_json(uint64_t prompt, uint64_t cached, uint64_t made) {
    return json_pack("{s:I, s:i, s:I, s:I}", "input_tokens", (json_int_t)(prompt - cached),
                     "cache_creation_input_tokens", 0, "cache_read_input_tokens",
                     (json_int_t)cached, "output_tokens", (json_int_t)made);
}

/* A block as it begins (empty) or whole. */
static json_t *block_json(const serve_call *c, const serve_part *part, bool whole) {
    json_t *text = whole ? serve_part_text(c, part) : json_string("");
    if (part->kind == SERVE_PART_TEXT) return json_pack("{s:s, s:o}", "type", "text", "text", text);
    if (part->kind == SERVE_PART_REASONING)
        return json_pack("{s:s, s:o, s:s}", "type", "thinking", "thinking", text, "signature", "");
    const serve_tool_call *t = &c->choices[0].calls[part->call];
    json_decref(text);
    return json_pack("{s:s, s:s, s:o, s:o}", "type", "tool_use", "id", t->id, "name",
                     serve_json_text(t->name, strlen(t->name)), "input",
                     whole ? serve_arguments(t) : json_object());
}

/* content, stop_reason, stop_sequence and usage are taken. */
static json_t *message_json(const serve_call *c, json_t *content, json_t *reason, json_t *stop,
                            json_t *usage) {
    char id[48];
    snprintf(id, sizeof id, "msg_%s", c->id);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "id", id, "type", "message",
                     "role", "assistant", "model",
                     serve_json_text(c->model_id, strlen(c->model_id)), "content", content,
                     "stop_reason", reason, "stop_sequence", stop, "usage", usage);
}

static json_t *final_usage(const serve_call *c) {
    const serve_usage u = serve_usage_of(c);
    return usage_json(u.prompt, u.cached, u.completion);
}

static json_t *messages_whole(serve_call *c) {
    const messages *m = c->state;
    const serve_choice *ch = &c->choices[0];
    json_t *content = json_array();
    for (size_t i = 0; i < m->parts.n; i++)
        json_array_append_new(content, block_json(c, &m->parts.list[i], true));
    return message_json(c, content, json_string(stop_reason(ch)), stop_json(ch), final_usage(c));
}

/* ==== Stream ================================================================================== */

/* v is taken. */
static void put(const char *type, json_t *v, base_buf *out) {
    json_t *e = json_pack("{s:s}", "type", type);
    json_object_update(e, v);
    json_decref(v);
    serve_put_sse(out, type, e);
}

static void name_block(serve_part *part) { part->id[0] = 0; }

static void begin_block(serve_call *c, const serve_part *part, base_buf *out) {
    put("content_block_start",
        json_pack("{s:I, s:o}", "index", (json_int_t)part->index, "content_block",
                  block_json(c, part, false)),
        out);
}

static void put_delta(const serve_part *part, const char *type, const char *key, json_t *text,
                      base_buf *out) {
    put("content_block_delta",
        json_pack("{s:I, s:{s:s, s:o}}", "index", (json_int_t)part->index, "delta", "type", type,
                  key, text),
        out);
}

static void more_of_block(serve_call *c, const serve_part *part, const serve_event *e,
                          base_buf *out) {
    static const char *const kinds[][2] = {{"thinking_delta", "thinking"},
                                           {"text_delta", "text"},
                                           {"input_json_delta", "partial_json"}};
    (void)c;
    put_delta(part, kinds[part->kind][0], kinds[part->kind][1],
              serve_json_text(e->text, e->n_bytes), out);
}

static void end_block(serve_call *c, const serve_part *part, base_buf *out) {
    (void)c;
    if (part->kind == SERVE_PART_REASONING)
        put_delta(part, "signature_delta", "signature", json_string(""), out);
    put("content_block_stop", json_pack("{s:I}", "index", (json_int_t)part->index), out);
}

static const serve_part_hooks hooks = {name_block, begin_block, more_of_block, end_block};

static void put_begin(serve_call *c, base_buf *out) {
    messages *m = c->state;
    m->begun = true;
    json_t *v = message_json(c, json_array(), json_null(), json_null(),
                             usage_json(c->req.prompts[0].n_tokens, 0, 0));
    put("message_start", json_pack("{s:o}", "message", v), out);
}

static void put_end(const serve_call *c, base_buf *out) {
    const serve_choice *ch = &c->choices[0];
    put("message_delta",
        json_pack("{s:{s:s, s:o}, s:o}", "delta", "stop_reason", stop_reason(ch), "stop_sequence",
                  stop_json(ch), "usage", final_usage(c)),
        out);
    put("message_stop", json_object(), out);
}

static void messages_event(serve_call *c, const serve_event *e, base_buf *out) {
    messages *m = c->state;
    serve_parts_event(c, &m->parts, &hooks, e, out);
    if (!out) return;
    if (e->kind == SERVE_BEGIN) {
        put_begin(c, out);
    } else if (e->kind == SERVE_PING && m->begun) {
        put("ping", json_object(), out);
    } else if (e->kind == SERVE_PING) {
        base_buf_printf(out, ": waiting, position %u\n\n", e->position);
    } else if (e->kind == SERVE_END) {
        put_end(c, out);
    } else if (e->kind == SERVE_FAULT) {
        serve_put_sse(out, "error", messages_fault(e->fault));
    }
}

const serve_dialect serve_messages_dialect = {.name = "messages",
                                              .stream_type = "text/event-stream",
                                              .watches = true,
                                              .read = messages_read,
                                              .event = messages_event,
                                              .whole = messages_whole,
                                              .fault = messages_fault};

/* ==== Counting ================================================================================ */

/* POST /v1/messages/count_tokens: how long the prompt would be, whether it fits or not. */
void serve_count_messages(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    bool ok = c || serve_no_memory(&f);
    if (ok) {
        c->dialect = x->route->dialect;
        ok = serve_read_call(c, &x->body, &f) && serve_make_tokens(c, &c->req.prompts[0], &f);
    }
    if (c && c->inside->waking) {
        serve_hand_over(x, c, false, &f);
        return;
    }
    if (ok)
        serve_reply_json(
            x, 200, json_pack("{s:I}", "input_tokens", (json_int_t)c->req.prompts[0].n_tokens));
    else if (f.n_ctx)
        serve_reply_json(x, 200, json_pack("{s:I}", "input_tokens", (json_int_t)f.n_prompt));
    else
        serve_reply_fault(x, &f);
    if (c) serve_call_release(c);
}
