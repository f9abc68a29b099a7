/* SPDX-License-Identifier: MIT
 *
 * POST /v1/completions: plain texts, one or many, as text or as ids.
 */
#include "serve/serve_internal.h"

/* ==== Request ================================================================================= */

/* A number of alternatives; llama-server's n_probs means the same. */
static bool read_logprobs(serve_call *c, serve_at at, serve_fault *f) {
    int64_t top = -1, probs = 0;
    const json_t *v = serve_field(at, "logprobs");
    if (json_is_boolean(v)) {
        c->req.logprobs = json_is_true(v);
    } else if (!serve_read_int(at, "logprobs", 0, SERVE_TOP_MAX, &top, f)) {
        return false;
    }
    if (!serve_read_int(at, "n_probs", 0, SERVE_TOP_MAX, &probs, f)) return false;
    c->req.logprobs |= top >= 0 || probs > 0;
    c->req.gen.n_top = (uint32_t)BASE_MAX(BASE_MAX(top, probs), (int64_t)0);
    return true;
}

/* What stands behind the gap; an empty one is none. */
static bool read_suffix(serve_call *c, serve_at at, serve_fault *f) {
    const char *suffix = NULL;
    if (!serve_read_text(at, "suffix", &suffix, f)) return false;
    if (!suffix || !suffix[0]) return true;
    for (size_t i = 0; i < c->req.n_prompts; i++) {
        if (!c->req.prompts[i].text)
            return serve_refuse(f, "suffix", SERVE_UNSUPPORTED_PARAMETER,
                                "'suffix' goes with a prompt that is a text");
        c->req.prompts[i].suffix = suffix;
    }
    return true;
}

static bool text_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    if (!serve_read_prompts(c, top, f) || !read_suffix(c, top, f) ||
        !serve_read_bool(top, "echo", &c->req.echo, f))
        return false;
    if (!serve_field(top, "max_tokens") && !serve_field(top, "max_completion_tokens") &&
        !serve_field(top, "n_predict"))
        c->req.gen.max_tokens = 16; /* as OpenAI has it */
    return serve_read_sampling(c, top, f) && read_logprobs(c, top, f) &&
           serve_read_rules(c, top, f);
}

/* ==== Reply =================================================================================== */

static json_t *envelope(const serve_call *c) {
    base_buf id = {0};
    base_buf_printf(&id, "cmpl-%s", c->id);
    json_t *v = json_pack("{s:s, s:s, s:I, s:o, s:s}", "id", id.data ? id.data : "", "object",
                          "text_completion", "created", (json_int_t)c->created_s, "model",
                          serve_json_text(c->model_id, strlen(c->model_id)), "system_fingerprint",
                          rotor_version());
    base_buf_free(&id);
    return v;
}

/* Characters that begin in text. */
static size_t characters(const char *text, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((unsigned char)text[i] & 0xC0) != 0x80;
    return k;
}

/* Alternatives by name; the likelier of two that have the same one. */
static json_t *alternatives_json(const serve_token *t) {
    json_t *v = json_object();
    for (uint32_t k = 0; k < t->n_top; k++) {
        json_t *name = serve_json_text(t->top_text[k], strlen(t->top_text[k]));
        const char *key = json_string_value(name);
        if (key && !json_object_get(v, key))
            json_object_set_new(v, key, serve_json_real(t->top[k].logprob));
        json_decref(name);
    }
    return v;
}

/* The old form: lists beside each other. at: characters of text in front of the first token. */
static json_t *logprobs_json(const serve_token *t, size_t n, size_t at) {
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array(),
           *offsets = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(tokens, serve_json_text(t[i].text, t[i].n_bytes));
        json_array_append_new(values, serve_json_real(t[i].logprob));
        json_array_append_new(tops, alternatives_json(&t[i]));
        json_array_append_new(offsets, json_integer((json_int_t)at));
        at += characters(t[i].text, t[i].n_bytes);
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", values,
                     "top_logprobs", tops, "text_offset", offsets);
}

static json_t *choice_json(const serve_choice *ch, const char *text, size_t n, json_t *logprobs,
                           bool ended) {
    return json_pack("{s:i, s:o, s:o, s:o}", "index", (int)ch->index, "text",
                     serve_json_text(text, n), "logprobs", logprobs ? logprobs : json_null(),
                     "finish_reason",
                     ended ? json_string(serve_openai_finish(ch->finish)) : json_null());
}

static json_t *text_whole(serve_call *c) {
    json_t *v = envelope(c), *choices = json_array();
    for (size_t i = 0; i < c->n_choices; i++) {
        const serve_choice *ch = &c->choices[i];
        json_t *logprobs = c->req.logprobs ? logprobs_json(ch->tokens, ch->n_tokens, 0) : NULL;
        json_array_append_new(choices,
                              choice_json(ch, ch->text.data, ch->text.len, logprobs, true));
    }
    json_object_set_new(v, "choices", choices);
    json_object_set_new(v, "usage", serve_openai_usage(c));
    json_object_set_new(v, "timings", serve_timings(&c->choices[0].timing));
    return v;
}

/* ==== Stream ================================================================================== */

static void put_chunk(serve_call *c, json_t *choice, bool ended, const serve_timing *t,
                      base_buf *out) {
    json_t *v = envelope(c);
    json_object_set_new(v, "choices", json_pack("[o]", choice));
    if (c->req.usage) json_object_set_new(v, "usage", json_null());
    if (ended || c->req.timings_per_token) json_object_set_new(v, "timings", serve_timings(t));
    serve_put_sse(out, NULL, v);
}

/* A stream's count of characters, so that nobody counts from the start for every token. */
typedef struct counted {
    size_t bytes, characters; /* of the choice's text */
} counted;

static size_t characters_before(serve_call *c, serve_choice *ch, size_t n_bytes) {
    counted none = {0}, *at = ch->state;
    if (!at) ch->state = at = serve_keep(c, 1, sizeof *at);
    if (!at) at = &none;
    at->characters += characters(ch->text.data + at->bytes, n_bytes - at->bytes);
    at->bytes = n_bytes;
    return at->characters;
}

static json_t *piece_json(serve_call *c, const serve_event *e) {
    serve_choice *ch = e->choice;
    json_t *logprobs = NULL;
    if (e->token)
        logprobs = logprobs_json(e->token, 1, characters_before(c, ch, ch->text.len - e->n_bytes));
    return choice_json(ch, e->text, e->n_bytes, logprobs, false);
}

static void text_event(serve_call *c, const serve_event *e, base_buf *out) {
    const serve_choice *ch = e->choice;
    switch (e->kind) {
    case SERVE_PING:
        if (e->position)
            base_buf_printf(out, ": waiting, position %u\n\n", e->position);
        else
            base_buf_puts(out, ": working\n\n");
        break;
    case SERVE_TEXT:
        put_chunk(c, piece_json(c, e), false, &ch->timing, out);
        break;
    case SERVE_CHOICE_END:
        put_chunk(c, choice_json(ch, "", 0, NULL, true), true, &ch->timing, out);
        break;
    case SERVE_END:
        if (c->req.usage) {
            json_t *v = envelope(c);
            json_object_set_new(v, "choices", json_array());
            json_object_set_new(v, "usage", serve_openai_usage(c));
            serve_put_sse(out, NULL, v);
        }
        base_buf_puts(out, "data: [DONE]\n\n");
        break;
    case SERVE_FAULT:
        serve_put_sse(out, NULL, serve_openai_fault(e->fault));
        break;
    default:
        break;
    }
}

const serve_dialect serve_text_dialect = {.name = "completions",
                                          .stream_type = "text/event-stream",
                                          .read = text_read,
                                          .event = text_event,
                                          .whole = text_whole,
                                          .fault = serve_openai_fault};
