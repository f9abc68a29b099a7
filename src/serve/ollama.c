/* SPDX-License-Identifier: MIT
 *
 * Ollama's /api/chat and /api/generate: one JSON object a line, streamed unless "stream" is false,
 * the last one with "done": true and durations in nanoseconds. Settings stand in "options".
 *
 * What the server has in models is told by ollama_models.c.
 */
#include "serve/serve_internal.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct ollama {
    bool load;         /* nothing is asked: is the model there? */
    bool unload;       /* with load: and it is not to stay */
    bool quiet;        /* what is thought is not told */
    uint64_t start_ns; /* when the call came */
} ollama;

json_t *serve_ollama_fault(const serve_fault *f) {
    return json_pack("{s:o}", "error", serve_json_text(f->message, strlen(f->message)));
}

void serve_put_time(char out[32], int64_t unix_s) {
    const int64_t days = unix_s / 86400, in_day = unix_s % 86400;
    const int64_t z = days + 719468, era = z / 146097; /* years begin in March */
    const int64_t doe = z - era * 146097;
    const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    const int64_t month = mp < 10 ? mp + 3 : mp - 9;
    snprintf(out, 32, "%04d-%02d-%02dT%02d:%02d:%02dZ",
             (int)(yoe + era * 400 + (month <= 2)) % 10000, (int)month % 100,
             (int)(doy - (153 * mp + 2) / 5 + 1) % 100, (int)(in_day / 3600) % 100,
             (int)(in_day / 60 % 60), (int)(in_day % 60));
}

/* ==== What both ask =========================================================================== */

static bool read_options(serve_call *c, serve_at top, serve_fault *f) {
    serve_at options;
    int64_t most = -1;
    if (!serve_object(top, "options", &options, f) || !serve_read_sampling(c, options, f) ||
        !serve_read_int(options, "num_predict", -2, INT32_MAX, &most, f))
        return false;
    if (most >= 0) c->req.max_zero = most == 0;
    if (most >= 0) c->req.gen.max_tokens = (uint32_t)most;
    c->req.n = 1;
    c->req.stream = true;
    return serve_read_bool(top, "stream", &c->req.stream, f) &&
           serve_read_bool(top, "truncate", &c->req.truncate, f);
}

/* "5m", "1h30m", "300ms"; a bare number is seconds; below zero: for ever. False: no time. */
static bool read_time(const char *text, double *seconds) {
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}, {"h", 3600}, {"m", 60}, {"s", 1}};
    const bool below = text[0] == '-';
    double sum = 0;
    if (below) text++;
    if (!*text) return false;
    while (*text) {
        char *end;
        const double x = strtod(text, &end);
        size_t u = 0;
        if (end == text || *text == '-' || !(x >= 0 && x < 1e12)) return false;
        while (u < BASE_COUNT(units) && strncmp(end, units[u].name, strlen(units[u].name)) != 0)
            u++;
        if (u == BASE_COUNT(units) && *end) return false;
        sum += x * (*end ? units[u].seconds : 1);
        text = *end ? end + strlen(units[u].name) : end;
    }
    *seconds = below ? -1 : sum;
    return true;
}

bool serve_read_keep_alive(serve_call *c, serve_at top, serve_fault *f) {
    const json_t *v = serve_field(top, "keep_alive");
    double seconds = json_number_value(v);
    if (!v) return true;
    if (!json_is_number(v) && !(json_is_string(v) && read_time(json_string_value(v), &seconds)))
        return serve_refuse(f, "keep_alive", SERVE_INVALID_VALUE,
                            "'keep_alive': expected seconds, or a time like \"5m\"; -1: for ever");
    const bool ever = seconds < 0 || seconds > 1e9;
    serve_keep_for(c, ever ? SERVE_NEVER : (uint64_t)(seconds * 1e6));
    return true;
}

/* think: true, false, or how much. */
static bool read_think(serve_call *c, serve_at top, serve_fault *f) {
    ollama *o = c->state;
    const json_t *v = serve_field(top, "think");
    const char *word = json_string_value(v);
    if (!v) return true;
    if (!json_is_boolean(v) && !(word && serve_effort_of(word, &c->req.effort)))
        return serve_refuse(f, "think", SERVE_INVALID_VALUE,
                            "'think': expected true, false, \"low\", \"medium\" or \"high\"");
    o->quiet = json_is_false(v);
    if (o->quiet) c->req.effort = ROTOR_EFFORT_LOW;
    return o->quiet || rotor_chat_has_parts(c->engine) ||
           serve_refuse(f, "think", SERVE_UNSUPPORTED_PARAMETER, "%.100s does not support thinking",
                        c->model_id);
}

/* "json", or a schema. */
static bool read_format(serve_call *c, serve_at top, serve_fault *f) {
    json_t *v = serve_field(top, "format");
    const char *word = json_string_value(v);
    if (!v || (word && !word[0])) return true;
    if (word && strcmp(word, "json") == 0)
        return serve_keep_to(c, ROTOR_GRAMMAR_JSON_OBJECT, NULL, "format", f);
    return serve_keep_to_schema(c, v, "format", f);
}

static bool refuse_images(serve_at at, serve_fault *f) {
    char path[96];
    const json_t *list;
    if (!serve_read_list(at, "images", &list, f)) return false;
    return !json_array_size(list) ||
           serve_refuse(f, serve_path(at, "images", path), SERVE_UNSUPPORTED_PARAMETER,
                        "'%s': this model reads text only", path);
}

static bool begin_read(serve_call *c, serve_at top, serve_fault *f) {
    ollama *o = c->state = serve_keep(c, 1, sizeof *o);
    if (!o) return serve_no_memory(f);
    o->start_ns = base_now_ns();
    o->unload = json_number_value(serve_field(top, "keep_alive")) == 0 &&
                json_is_number(serve_field(top, "keep_alive"));
    return read_options(c, top, f) && serve_read_keep_alive(c, top, f) && read_think(c, top, f) &&
           read_format(c, top, f);
}

/* Nothing is to be said: a prompt of one token that is not even evaluated. */
static bool only_load(serve_call *c, serve_fault *f) {
    static const uint32_t first = 0;
    ollama *o = c->state;
    serve_prompt *p = serve_keep(c, 1, sizeof *p);
    if (!p) return serve_no_memory(f);
    p->ids = &first;
    p->n_ids = 1;
    c->req.prompts = p;
    c->req.n_prompts = 1;
    c->req.max_zero = o->load = true;
    return true;
}

/* ==== /api/chat: request ====================================================================== */

/* Arguments are an object here; elsewhere they are its text. */
static bool arguments_text(serve_call *c, json_t *v, const char **out, serve_fault *f) {
    base_buf text = {0};
    if (!v || json_is_string(v)) {
        *out = v ? json_string_value(v) : "{}";
        return true;
    }
    serve_put_json(&text, json_incref(v));
    char *kept = text.failed ? NULL : serve_keep(c, text.len + 1, 1);
    if (kept) memcpy(kept, text.data, text.len);
    base_buf_free(&text);
    *out = kept;
    return kept || serve_no_memory(f);
}

static bool read_calls(serve_turns *t, serve_at at, serve_fault *f) {
    const json_t *list;
    if (!serve_read_list(at, "tool_calls", &list, f)) return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        serve_at call, function;
        const char *id = NULL, *name = NULL, *arguments = NULL;
        char path[96];
        if (!serve_item(at, "tool_calls", i, &call, f) || !serve_read_text(call, "id", &id, f) ||
            !serve_object(call, "function", &function, f) ||
            !serve_read_text(function, "name", &name, f))
            return false;
        if (!name)
            return serve_refuse(f, serve_path(function, "name", path),
                                SERVE_MISSING_REQUIRED_PARAMETER, "'%s' is missing", path);
        if (!arguments_text(t->c, serve_field(function, "arguments"), &arguments, f)) return false;
        if (!serve_turn_call(t, id, name, arguments)) return serve_no_memory(f);
    }
    return true;
}

static bool read_message(serve_turns *t, serve_at at, serve_fault *f) {
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const char *role = NULL, *text = NULL, *id = NULL, *name = NULL, *thought = NULL;
    char path[96];
    bool known = false;
    if (!serve_read_text(at, "role", &role, f) || !serve_read_text(at, "content", &text, f) ||
        !serve_read_text(at, "thinking", &thought, f) ||
        !serve_read_text(at, "tool_call_id", &id, f) ||
        !serve_read_text(at, "tool_name", &name, f) || !refuse_images(at, f))
        return false;
    for (size_t i = 0; role && i < BASE_COUNT(roles); i++) known |= strcmp(role, roles[i]) == 0;
    if (!known)
        return serve_refuse(f, serve_path(at, "role", path),
                            role ? SERVE_INVALID_VALUE : SERVE_MISSING_REQUIRED_PARAMETER,
                            "'%s' is %.40s: expected system, user, assistant or tool", path,
                            role ? role : "missing");
    if (strcmp(role, "tool") == 0 && !name) name = serve_turn_called(t, id);
    rotor_turn *turn = serve_turn_add(t, role);
    if (!turn) return serve_no_memory(f);
    turn->content = text || strcmp(role, "assistant") == 0 ? text : "";
    turn->reasoning = thought;
    turn->name = strcmp(role, "tool") == 0 ? name : NULL;
    turn->call_id = strcmp(role, "tool") == 0 ? id : NULL;
    return strcmp(role, "assistant") != 0 || read_calls(t, at, f);
}

static bool chat_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    const json_t *list;
    serve_turns t = {.c = c};
    serve_at message;
    if (!begin_read(c, top, f) || !serve_read_tools(c, top, f) ||
        !serve_read_list(top, "messages", &list, f))
        return false;
    if (!json_array_size(list)) return only_load(c, f);
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(list); i++)
        ok = serve_item(top, "messages", i, &message, f) && read_message(&t, message, f);
    return serve_turns_end(&t, ok, f);
}

/* ==== /api/generate: request ================================================================== */

/* The tokens of a conversation so far, as the last reply gave them. */
static bool read_context(serve_call *c, serve_at top, serve_prompt *p, serve_fault *f) {
    const json_t *list;
    if (!serve_read_list(top, "context", &list, f)) return false;
    const size_t n = json_array_size(list);
    uint32_t *ids = serve_keep(c, n, sizeof *ids);
    if (!ids) return serve_no_memory(f);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= c->inside->model->info.n_vocab)
            return serve_refuse(f, "context", SERVE_INVALID_VALUE,
                                "'context': entry %zu is no token of this model", i);
        ids[i] = (uint32_t)id;
    }
    p->before = ids;
    p->n_before = n;
    return true;
}

static bool as_text(serve_call *c, serve_prompt *p, const char *text, const char *suffix) {
    p->text = text;
    p->n_bytes = strlen(text);
    p->suffix = suffix;
    p->special = true;
    c->req.prompts = p;
    c->req.n_prompts = 1;
    return true;
}

static bool as_turns(serve_call *c, const char *system, const char *text, serve_fault *f) {
    serve_turns t = {.c = c};
    bool ok = true;
    if (system && system[0]) {
        rotor_turn *turn = serve_turn_add(&t, "system");
        if (turn) turn->content = system;
        ok = turn != NULL;
    }
    rotor_turn *turn = serve_turn_add(&t, "user");
    if (turn) turn->content = text;
    ok = (ok && turn) || serve_no_memory(f);
    return serve_turns_end(&t, ok, f);
}

static bool generate_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    const char *text = "", *system = NULL, *suffix = NULL, *template = NULL;
    bool raw = false;
    if (!begin_read(c, top, f) || !serve_read_text(top, "prompt", &text, f) ||
        !serve_read_text(top, "system", &system, f) ||
        !serve_read_text(top, "suffix", &suffix, f) ||
        !serve_read_text(top, "template", &template, f) || !serve_read_bool(top, "raw", &raw, f) ||
        !refuse_images(top, f))
        return false;
    if (template && template[0])
        return serve_refuse(f, "template", SERVE_UNSUPPORTED_PARAMETER,
                            "'template': send \"raw\": true and the whole prompt instead");
    if (!text[0]) return only_load(c, f);
    if (suffix && !suffix[0]) suffix = NULL;
    if (raw || suffix) {
        serve_prompt *p = serve_keep(c, 1, sizeof *p);
        return p ? as_text(c, p, text, suffix) : serve_no_memory(f);
    }
    return as_turns(c, system, text, f) && read_context(c, top, c->req.prompts, f);
}

/* ==== Replies ================================================================================= */

static json_t *envelope(const serve_call *c, bool done) {
    char time[32];
    serve_put_time(time, base_unix_s());
    return json_pack("{s:o, s:s, s:b}", "model", serve_json_text(c->model_id, strlen(c->model_id)),
                     "created_at", time, "done", done);
}

static json_t *call_json(const serve_choice *ch, size_t i) {
    const serve_tool_call *t = &ch->calls[i];
    return json_pack("{s:s, s:{s:I, s:o, s:o}}", "id", t->id, "function", "index", (json_int_t)i,
                     "name", serve_json_text(t->name, strlen(t->name)), "arguments",
                     serve_arguments(t));
}

/* text, thought and calls are taken; the latter two may be NULL. */
static void add_message(json_t *v, json_t *text, json_t *thought, json_t *calls) {
    json_t *m = json_pack("{s:s, s:o}", "role", "assistant", "content", text);
    if (thought) json_object_set_new(m, "thinking", thought);
    if (calls) json_object_set_new(m, "tool_calls", calls);
    json_object_set_new(v, "message", m);
}

static void add_end(json_t *v, const serve_call *c) {
    const ollama *o = c->state;
    const serve_choice *ch = &c->choices[0];
    const serve_timing *t = &ch->timing;
    const char *reason = o->load                      ? (o->unload ? "unload" : "load")
                         : ch->finish == SERVE_LENGTH ? "length"
                                                      : "stop";
    json_object_set_new(v, "done_reason", json_string(reason));
    if (o->load) return;
    const uint64_t total_ns = base_now_ns() - o->start_ns;
    json_object_set_new(v, "total_duration", json_integer((json_int_t)total_ns));
    json_object_set_new(v, "load_duration", json_integer((json_int_t)c->inside->load_us * 1000));
    json_object_set_new(v, "prompt_eval_count", json_integer(t->n_prompt));
    json_object_set_new(v, "prompt_eval_duration", json_integer((json_int_t)t->prompt_us * 1000));
    json_object_set_new(v, "eval_count", json_integer(t->n_made));
    json_object_set_new(v, "eval_duration", json_integer((json_int_t)t->made_us * 1000));
}

static void add_context(json_t *v, const serve_call *c) {
    const ollama *o = c->state;
    const serve_choice *ch = &c->choices[0];
    json_t *list = json_array();
    for (size_t i = 0; !o->load && i < ch->of->n_tokens; i++)
        json_array_append_new(list, json_integer(ch->of->tokens[i]));
    for (size_t i = 0; i < ch->n_ids; i++) json_array_append_new(list, json_integer(ch->ids[i]));
    if (ch->n_ids && ch->end_id != ROTOR_NO_ID)
        json_array_append_new(list, json_integer(ch->end_id));
    json_object_set_new(v, "context", list);
}

static json_t *thought_of(const serve_call *c) {
    const ollama *o = c->state;
    const base_buf *b = &c->choices[0].reasoning;
    return b->len && !o->quiet ? serve_json_text(b->data, b->len) : NULL;
}

static json_t *chat_whole(serve_call *c) {
    const serve_choice *ch = &c->choices[0];
    json_t *v = envelope(c, true), *calls = ch->n_calls ? json_array() : NULL;
    for (size_t i = 0; i < ch->n_calls; i++) json_array_append_new(calls, call_json(ch, i));
    add_message(v, serve_json_text(ch->text.data, ch->text.len), thought_of(c), calls);
    add_end(v, c);
    return v;
}

static json_t *generate_whole(serve_call *c) {
    const serve_choice *ch = &c->choices[0];
    json_t *v = envelope(c, true), *thought = thought_of(c);
    json_object_set_new(v, "response", serve_json_text(ch->text.data, ch->text.len));
    if (thought) json_object_set_new(v, "thinking", thought);
    add_end(v, c);
    add_context(v, c);
    return v;
}

/* ==== Streams ================================================================================= */

/* v is taken. */
static void put_line(base_buf *out, json_t *v) {
    serve_put_json(out, v);
    base_buf_puts(out, "\n");
}

/* The line of an event; NULL: it has none, or is told. What it says comes in *text or *thought. */
static json_t *begin_line(const serve_call *c, const serve_event *e, json_t **text,
                          json_t **thought, base_buf *out) {
    const ollama *o = c->state;
    const bool is_thought = e->kind == SERVE_REASONING && !o->quiet;
    if (e->kind == SERVE_FAULT) put_line(out, serve_ollama_fault(e->fault));
    if (e->kind != SERVE_TEXT && !is_thought && e->kind != SERVE_CALL_END && e->kind != SERVE_END)
        return NULL;
    *text = e->kind == SERVE_TEXT ? serve_json_text(e->text, e->n_bytes) : json_string("");
    *thought = is_thought ? serve_json_text(e->text, e->n_bytes) : NULL;
    return envelope(c, e->kind == SERVE_END);
}

static void chat_event(serve_call *c, const serve_event *e, base_buf *out) {
    json_t *text, *thought, *v = begin_line(c, e, &text, &thought, out);
    if (!v) return;
    add_message(v, text, thought,
                e->kind == SERVE_CALL_END ? json_pack("[o]", call_json(e->choice, e->call)) : NULL);
    if (e->kind == SERVE_END) add_end(v, c);
    put_line(out, v);
}

static void generate_event(serve_call *c, const serve_event *e, base_buf *out) {
    json_t *text, *thought, *v = NULL;
    if (e->kind != SERVE_CALL_END) v = begin_line(c, e, &text, &thought, out); /* no tools here */
    if (!v) return;
    json_object_set_new(v, "response", text);
    if (thought) json_object_set_new(v, "thinking", thought);
    if (e->kind == SERVE_END) add_end(v, c);
    if (e->kind == SERVE_END) add_context(v, c);
    put_line(out, v);
}

const serve_dialect serve_ollama_chat_dialect = {.name = "ollama-chat",
                                                 .stream_type = "application/x-ndjson",
                                                 .streams = true,
                                                 .read = chat_read,
                                                 .event = chat_event,
                                                 .whole = chat_whole,
                                                 .fault = serve_ollama_fault};
const serve_dialect serve_ollama_text_dialect = {.name = "ollama-generate",
                                                 .stream_type = "application/x-ndjson",
                                                 .streams = true,
                                                 .read = generate_read,
                                                 .event = generate_event,
                                                 .whole = generate_whole,
                                                 .fault = serve_ollama_fault};
