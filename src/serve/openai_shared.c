/* SPDX-License-Identifier: MIT
 *
 * What OpenAI's protocols have in common: sampling, messages, tools, usage.
 *
 * Fields that are not known are left alone: clients send many.
 */
#include "serve/serve_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ==== Sampling ================================================================================ */

static bool read_float(serve_at at, const char *key, double min, double max, float *out,
                       serve_fault *f) {
    double x = (double)*out;
    if (!serve_read_real(at, key, min, max, &x, f)) return false;
    *out = (float)x;
    return true;
}

bool serve_read_stops(serve_call *c, serve_at at, const char *key, serve_fault *f) {
    char path[96];
    const json_t *v = serve_field(at, key);
    const size_t n = !v ? 0 : json_is_array(v) ? json_array_size(v) : 1;
    serve_path(at, key, path);
    if (n > SERVE_STOPS_MAX)
        return serve_refuse(f, path, SERVE_INVALID_VALUE,
                            "'%s' has %zu entries: expected at most %d", path, n, SERVE_STOPS_MAX);
    const char **stops = serve_keep(c, n, sizeof *stops);
    if (!stops) return serve_no_memory(f);
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(s))
            return serve_refuse(f, path, SERVE_INVALID_VALUE,
                                "'%s': expected a text or a list of texts", path);
        if (json_string_length(s)) stops[used++] = json_string_value(s);
    }
    c->req.gen.stops = stops;
    c->req.gen.n_stops = used;
    return true;
}

/* max_tokens and its other names: the smallest wins. 0 means none at all, -1 no limit. */
static bool read_max_tokens(serve_call *c, serve_at at, serve_fault *f) {
    static const char *const names[] = {"max_completion_tokens", "max_tokens", "max_output_tokens",
                                        "n_predict"};
    int64_t most = INT64_MAX;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        int64_t n = -1;
        if (!serve_read_int(at, names[i], -1, INT32_MAX, &n, f)) return false;
        if (n >= 0 && n < most) most = n;
    }
    if (most == INT64_MAX) return true;
    c->req.max_zero = most == 0;
    c->req.gen.max_tokens = (uint32_t)most;
    return true;
}

static bool read_bias_pair(serve_call *c, const char *key, const json_t *v, size_t i, uint32_t *ids,
                           float *bias, serve_fault *f) {
    rotor_engine_info info = {.size = sizeof info};
    char *end;
    const unsigned long long id = strtoull(key, &end, 10);
    rotor_engine_get_info(c->engine, &info);
    if (!isdigit((unsigned char)key[0]) || *end || id >= info.n_vocab)
        return serve_refuse(f, "logit_bias", SERVE_INVALID_VALUE,
                            "'logit_bias' has the key '%.40s': expected a token id below %u", key,
                            info.n_vocab);
    double x = json_is_false(v) ? -100 : json_number_value(v);
    if (!(json_is_number(v) || json_is_false(v)) || !(x >= -100 && x <= 100))
        return serve_refuse(f, "logit_bias", SERVE_INVALID_VALUE,
                            "'logit_bias' of %.40s: expected a number from -100 to 100", key);
    ids[i] = (uint32_t)id;
    bias[i] = x <= -100 ? -INFINITY : x >= 100 ? 1e6f : (float)x;
    return true;
}

/* An object {"id": bias}, or llama-server's list of pairs [id, bias]. */
static bool read_bias(serve_call *c, serve_at at, serve_fault *f) {
    json_t *v = serve_field(at, "logit_bias");
    const bool list = json_is_array(v);
    if (!v) return true;
    if (!list && !json_is_object(v))
        return serve_refuse(f, "logit_bias", SERVE_INVALID_VALUE,
                            "'logit_bias': expected an object");
    const size_t n = list ? json_array_size(v) : json_object_size(v);
    uint32_t *ids = serve_keep(c, n, sizeof *ids);
    float *bias = serve_keep(c, n, sizeof *bias);
    if (!ids || !bias) return serve_no_memory(f);
    size_t i = 0;
    if (list) {
        for (; i < n; i++) {
            const json_t *pair = json_array_get(v, i);
            char key[24];
            if (!json_is_integer(json_array_get(pair, 0)))
                return serve_refuse(f, "logit_bias", SERVE_INVALID_VALUE,
                                    "'logit_bias[%zu]': expected [id, bias]", i);
            snprintf(key, sizeof key, "%lld",
                     (long long)json_integer_value(json_array_get(pair, 0)));
            if (!read_bias_pair(c, key, json_array_get(pair, 1), i, ids, bias, f)) return false;
        }
    } else {
        const char *key;
        json_t *value;
        json_object_foreach(v, key, value) {
            if (!read_bias_pair(c, key, value, i++, ids, bias, f)) return false;
        }
    }
    c->req.gen.bias_ids = ids;
    c->req.gen.bias = bias;
    c->req.gen.n_bias = n;
    return true;
}

static bool read_seed(serve_call *c, serve_at at, serve_fault *f) {
    int64_t seed = -1;
    if (!serve_read_int(at, "seed", INT64_MIN / 2, INT64_MAX / 2, &seed, f)) return false;
    if (serve_field(at, "seed") && seed != -1) c->req.gen.seed = (uint64_t)seed;
    return true;
}

static bool read_stream(serve_call *c, serve_at at, serve_fault *f) {
    serve_at more;
    return serve_read_bool(at, "stream", &c->req.stream, f) &&
           serve_object(at, "stream_options", &more, f) &&
           serve_read_bool(more, "include_usage", &c->req.usage, f) &&
           serve_read_bool(at, "return_progress", &c->req.progress, f) &&
           serve_read_bool(at, "timings_per_token", &c->req.timings_per_token, f);
}

static bool read_n(serve_call *c, serve_at at, serve_fault *f) {
    int64_t n = 1;
    if (!serve_read_int(at, "n", 1, SERVE_N_MAX, &n, f)) return false;
    c->req.n = (uint32_t)n;
    return true;
}

static bool read_rest(serve_call *c, serve_at at, serve_fault *f) {
    const char *truncation = "disabled";
    bool cache = true;
    int64_t ms = 0;
    if (!serve_read_text(at, "truncation", &truncation, f)) return false;
    if (strcmp(truncation, "auto") != 0 && strcmp(truncation, "disabled") != 0)
        return serve_refuse(f, "truncation", SERVE_INVALID_VALUE,
                            "'truncation' is '%.40s': expected auto or disabled", truncation);
    c->req.truncate = strcmp(truncation, "auto") == 0;
    if (!serve_read_bool(at, "cache_prompt", &cache, f) ||
        !serve_read_int(at, "t_max_predict_ms", -1, 86400000, &ms, f))
        return false;
    c->req.fresh = !cache;
    c->req.max_predict_us = ms > 0 ? (uint64_t)ms * 1000 : 0;
    return serve_read_bool(at, "ignore_eos", &c->req.gen.ignore_eog, f);
}

bool serve_read_sampling(serve_call *c, serve_at at, serve_fault *f) {
    rotor_gen_options *g = &c->req.gen;
    int64_t top_k = g->top_k;
    if (!read_float(at, "temperature", 0, 100, &g->temperature, f) ||
        !read_float(at, "top_p", 0, 1, &g->top_p, f) ||
        !read_float(at, "min_p", 0, 1, &g->min_p, f) ||
        !read_float(at, "repeat_penalty", 0.01, 100, &g->repeat_penalty, f) ||
        !read_float(at, "presence_penalty", -2, 2, &g->presence_penalty, f) ||
        !read_float(at, "frequency_penalty", -2, 2, &g->frequency_penalty, f) ||
        !serve_read_int(at, "top_k", -1, INT32_MAX, &top_k, f))
        return false;
    g->top_k = top_k > 0 ? (int32_t)top_k : 0;
    return read_seed(c, at, f) && serve_read_stops(c, at, "stop", f) && read_max_tokens(c, at, f) &&
           read_bias(c, at, f) && read_n(c, at, f) && read_stream(c, at, f) && read_rest(c, at, f);
}

/* ==== Plain prompts =========================================================================== */

enum { PROMPTS_MAX = 2048 };

static bool all_integers(const json_t *list) {
    const json_t *v;
    size_t i;
    json_array_foreach(list, i, v) if (!json_is_integer(v)) return false;
    return json_array_size(list) > 0;
}

static bool read_ids(serve_call *c, const json_t *list, serve_prompt *p, serve_fault *f) {
    const size_t n = json_array_size(list);
    uint32_t *ids = serve_keep(c, n, sizeof *ids);
    if (!ids) return serve_no_memory(f);
    for (size_t i = 0; i < n; i++) {
        const json_int_t id = json_integer_value(json_array_get(list, i));
        if (id < 0 || id >= ROTOR_NO_ID)
            return serve_refuse(f, "prompt", SERVE_INVALID_VALUE, "'prompt': %lld is no token id",
                                (long long)id);
        ids[i] = (uint32_t)id;
    }
    p->ids = ids;
    p->n_ids = n;
    return true;
}

static bool read_prompt(serve_call *c, const json_t *v, serve_prompt *p, serve_fault *f) {
    p->special = true;
    if (json_is_string(v)) {
        p->text = json_string_value(v);
        p->n_bytes = json_string_length(v);
        return true;
    }
    if (json_is_array(v) && all_integers(v)) return read_ids(c, v, p, f);
    return serve_refuse(f, "prompt", SERVE_INVALID_VALUE,
                        "'prompt': expected a text, a list of token ids, or a list of those");
}

bool serve_read_prompts(serve_call *c, serve_at at, serve_fault *f) {
    const json_t *v = serve_field(at, "prompt");
    if (!v)
        return serve_refuse(f, "prompt", SERVE_MISSING_REQUIRED_PARAMETER, "'prompt' is missing");
    const bool many = json_is_array(v) && !all_integers(v);
    const size_t n = many ? json_array_size(v) : 1;
    if (n < 1 || n > PROMPTS_MAX)
        return serve_refuse(f, "prompt", SERVE_INVALID_VALUE,
                            "'prompt' has %zu entries: expected 1 to %d", n, PROMPTS_MAX);
    c->req.prompts = serve_keep(c, n, sizeof *c->req.prompts);
    if (!c->req.prompts) return serve_no_memory(f);
    c->req.n_prompts = n;
    for (size_t i = 0; i < n; i++)
        if (!read_prompt(c, many ? json_array_get(v, i) : v, &c->req.prompts[i], f)) return false;
    return true;
}

/* ==== Messages ================================================================================ */

bool serve_read_content(serve_call *c, serve_at at, const char *key, const char **out,
                        serve_fault *f) {
    char path[96];
    const json_t *v = serve_field(at, key), *part;
    size_t i, n_bytes = 0;
    *out = NULL;
    if (!v) return true;
    if (json_is_string(v)) return *out = json_string_value(v), true;
    serve_path(at, key, path);
    if (!json_is_array(v))
        return serve_refuse(f, path, SERVE_INVALID_VALUE,
                            "'%s': expected a text or a list of parts", path);
    json_array_foreach(v, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        if (type && strcmp(type, "text") == 0 && !json_is_string(text))
            return serve_refuse(f, path, SERVE_INVALID_VALUE, "'%s[%zu]' has no text", path, i);
        if (!type || !json_is_string(text))
            return serve_refuse(f, path, type ? SERVE_UNSUPPORTED_PARAMETER : SERVE_INVALID_VALUE,
                                "'%s[%zu]' is %.40s: this model takes parts of type text only",
                                path, i, type ? type : "no part");
        n_bytes += json_string_length(text);
    }
    char *joined = serve_keep(c, n_bytes + 1, 1), *to = joined;
    if (!joined) return serve_no_memory(f);
    json_array_foreach(v, i, part) {
        const json_t *text = json_object_get(part, "text");
        memcpy(to, json_string_value(text), json_string_length(text));
        to += json_string_length(text);
    }
    *out = joined;
    return true;
}

static bool read_calls(serve_call *c, serve_at at, rotor_turn *t, serve_fault *f) {
    const json_t *list;
    if (!serve_read_list(at, "tool_calls", &list, f)) return false;
    const size_t n = json_array_size(list);
    rotor_tool_call *calls = serve_keep(c, n, sizeof *calls);
    if (!calls) return serve_no_memory(f);
    for (size_t i = 0; i < n; i++) {
        serve_at call, function;
        calls[i] = (rotor_tool_call){.arguments = "{}"};
        if (!serve_item(at, "tool_calls", i, &call, f) ||
            !serve_read_text(call, "id", &calls[i].id, f) ||
            !serve_object(call, "function", &function, f) ||
            !serve_read_text(function, "name", &calls[i].name, f) ||
            !serve_read_text(function, "arguments", &calls[i].arguments, f))
            return false;
        if (!calls[i].name) {
            char path[96];
            serve_path(call, "function.name", path);
            return serve_refuse(f, path, SERVE_MISSING_REQUIRED_PARAMETER, "'%s' is missing", path);
        }
    }
    t->calls = calls;
    t->n_calls = n;
    return true;
}

/* Results that do not say so get the name of their function: that of the newest call with their id
 * in an earlier message. */
static bool name_results(const json_t *list, rotor_turn *turns, serve_fault *f) {
    json_t *names = json_object();
    const json_t *message, *call;
    size_t i, k;
    if (!names) return serve_no_memory(f);
    json_array_foreach(list, i, message) {
        const char *of = json_string_value(json_object_get(message, "tool_call_id"));
        const json_t *calls = json_object_get(message, "tool_calls");
        if (strcmp(turns[i].role, "tool") == 0 && !turns[i].name) {
            turns[i].name = of ? json_string_value(json_object_get(names, of)) : NULL;
            if (!turns[i].name) turns[i].name = "function";
        }
        json_array_foreach(calls, k, call) {
            const char *id = json_string_value(json_object_get(call, "id"));
            json_t *name = json_object_get(json_object_get(call, "function"), "name");
            if (id && json_is_string(name)) json_object_set(names, id, name);
        }
    }
    json_decref(names); /* the texts are the body's */
    return true;
}

static bool read_role(serve_at at, rotor_turn *t, serve_fault *f) {
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    char path[96];
    serve_path(at, "role", path);
    if (!serve_read_text(at, "role", &t->role, f)) return false;
    if (!t->role)
        return serve_refuse(f, path, SERVE_MISSING_REQUIRED_PARAMETER, "'%s' is missing", path);
    if (strcmp(t->role, "developer") == 0) t->role = "system";
    if (strcmp(t->role, "function") == 0) t->role = "tool";
    for (size_t i = 0; i < BASE_COUNT(roles); i++)
        if (strcmp(t->role, roles[i]) == 0) return true;
    return serve_refuse(f, path, SERVE_INVALID_VALUE,
                        "'%s' is '%.40s': expected system, developer, user, assistant or tool",
                        path, t->role);
}

static bool read_message(serve_call *c, serve_at top, const char *key, size_t i, rotor_turn *t,
                         serve_fault *f) {
    char path[96];
    serve_at at;
    if (!serve_item(top, key, i, &at, f) || !read_role(at, t, f) ||
        !serve_read_content(c, at, "content", &t->content, f))
        return false;
    if (strcmp(t->role, "assistant") == 0) {
        if (!serve_read_text(at, "reasoning", &t->reasoning, f) ||
            !serve_read_text(at, "reasoning_content", &t->reasoning, f) || !read_calls(c, at, t, f))
            return false;
        if (!t->content && !t->n_calls) t->content = "";
        if (!rotor_chat_has_parts(c->engine)) t->reasoning = NULL;
        return true;
    }
    if (!t->content)
        return serve_refuse(f, serve_path(at, "content", path), SERVE_MISSING_REQUIRED_PARAMETER,
                            "'%s' is missing", serve_path(at, "content", path));
    if (strcmp(t->role, "tool") != 0) return true;
    return serve_read_text(at, "tool_call_id", &t->call_id, f) &&
           serve_read_text(at, "name", &t->name, f);
}

bool serve_read_messages(serve_call *c, serve_at at, const char *key, serve_fault *f) {
    const json_t *list;
    char path[96];
    if (!serve_read_list(at, key, &list, f)) return false;
    const size_t n = json_array_size(list);
    if (!n)
        return serve_refuse(f, serve_path(at, key, path),
                            list ? SERVE_INVALID_VALUE : SERVE_MISSING_REQUIRED_PARAMETER,
                            "'%s' is %s: expected a list of messages", path,
                            list ? "empty" : "missing");
    rotor_turn *turns = serve_keep(c, n, sizeof *turns);
    serve_prompt *prompt = serve_keep(c, 1, sizeof *prompt);
    if (!turns || !prompt) return serve_no_memory(f);
    for (size_t i = 0; i < n; i++)
        if (!read_message(c, at, key, i, &turns[i], f)) return false;
    if (!name_results(list, turns, f)) return false;
    prompt->turns = turns;
    prompt->n_turns = n;
    c->req.prompts = prompt;
    c->req.n_prompts = 1;
    return true;
}

/* ==== Effort ================================================================================== */

bool serve_effort_of(const char *word, rotor_effort *out) {
    static const char *const words[] = {"", "low", "medium", "high"};
    for (int i = 1; i < 4; i++)
        if (strcmp(words[i], word) == 0) return *out = (rotor_effort)i, true;
    if (strcmp(word, "minimal") == 0 || strcmp(word, "none") == 0)
        return *out = ROTOR_EFFORT_LOW, true;
    if (strcmp(word, "xhigh") == 0 || strcmp(word, "max") == 0)
        return *out = ROTOR_EFFORT_HIGH, true;
    return false;
}

bool serve_read_effort(serve_call *c, serve_at at, serve_fault *f) {
    serve_at more;
    const char *word = NULL;
    if (!serve_object(at, "chat_template_kwargs", &more, f) ||
        !serve_read_text(more, "reasoning_effort", &word, f) ||
        !serve_read_text(at, "reasoning_effort", &word, f))
        return false;
    if (word && !serve_effort_of(word, &c->req.effort))
        return serve_refuse(f, "reasoning_effort", SERVE_INVALID_VALUE,
                            "'reasoning_effort' is '%.40s': expected low, medium or high", word);
    return true;
}

/* ==== Replies ================================================================================= */

json_t *serve_openai_usage(const serve_call *c) {
    const serve_usage u = serve_usage_of(c);
    return json_pack("{s:I, s:I, s:I, s:{s:I}, s:{s:I}}", "prompt_tokens", (json_int_t)u.prompt,
                     "completion_tokens", (json_int_t)u.completion, "total_tokens",
                     (json_int_t)(u.prompt + u.completion), "prompt_tokens_details",
                     "cached_tokens", (json_int_t)u.cached, "completion_tokens_details",
                     "reasoning_tokens", (json_int_t)u.reasoning);
}

static double per(double a, double b) { return b > 0 ? a / b : 0; }

json_t *serve_timings(const serve_timing *t) {
    const double n = (double)(t->n_prompt - t->n_cached), ms = (double)t->prompt_us / 1e3;
    const double made = (double)t->n_made, made_ms = (double)t->made_us / 1e3;
    const double steps = made > 1 ? made - 1 : 0; /* the first token came with the prompt */
    return json_pack(
        "{s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "cache_n", (json_int_t)t->n_cached,
        "prompt_n", (json_int_t)(t->n_prompt - t->n_cached), "prompt_ms", serve_json_real(ms),
        "prompt_per_token_ms", serve_json_real(per(ms, n)), "prompt_per_second",
        serve_json_real(per(n * 1e3, ms)), "predicted_n", (json_int_t)t->n_made, "predicted_ms",
        serve_json_real(made_ms), "predicted_per_token_ms", serve_json_real(per(made_ms, steps)),
        "predicted_per_second", serve_json_real(per(steps * 1e3, made_ms)));
}

static json_t *bytes_of(const char *s, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer((unsigned char)s[i]));
    return list;
}

static json_t *one_logprob(const char *text, size_t n, float logprob) {
    return json_pack("{s:o, s:o, s:o}", "token", serve_json_text(text, n), "logprob",
                     serve_json_real(logprob), "bytes", bytes_of(text, n));
}

json_t *serve_openai_logprob(const serve_token *t) {
    json_t *v = one_logprob(t->text, t->n_bytes, t->logprob), *top = json_array();
    for (uint32_t i = 0; i < t->n_top; i++)
        json_array_append_new(
            top, one_logprob(t->top_text[i], strlen(t->top_text[i]), t->top[i].logprob));
    json_object_set_new(v, "top_logprobs", top);
    return v;
}

const char *serve_openai_finish(serve_finish finish) {
    return finish == SERVE_LENGTH ? "length" : finish == SERVE_CALLS ? "tool_calls" : "stop";
}
