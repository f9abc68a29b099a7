/* SPDX-License-Identifier: MIT
 *
 * POST /completion and /infill in the form of llama-server, which editor plug-ins speak.
 */
#include "serve/serve_internal.h"

/* ==== Requests ================================================================================ */

static bool read_common(serve_call *c, serve_at top, serve_fault *f) {
    int64_t probs = 0;
    if (!serve_read_sampling(c, top, f) || !serve_read_rules(c, top, f) ||
        !serve_read_int(top, "n_probs", 0, SERVE_TOP_MAX, &probs, f))
        return false;
    c->req.logprobs = probs > 0;
    c->req.gen.n_top = (uint32_t)probs;
    return true;
}

static bool one_prompt(serve_call *c, serve_fault *f) {
    c->req.prompts = serve_keep(c, 1, sizeof *c->req.prompts);
    c->req.n_prompts = 1;
    return c->req.prompts || serve_no_memory(f);
}

static bool native_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    return serve_read_prompts(c, top, f) && read_common(c, top, f);
}

/* Other files first, then the text in front of the cursor, as one text. */
static bool join_extra(serve_call *c, serve_at top, const char *prefix, serve_fault *f) {
    const json_t *list;
    base_buf text = {0};
    if (!serve_read_list(top, "input_extra", &list, f)) return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        serve_at at;
        const char *name = NULL, *body = "";
        if (!serve_item(top, "input_extra", i, &at, f) ||
            !serve_read_text(at, "filename", &name, f) || !serve_read_text(at, "text", &body, f)) {
            base_buf_free(&text);
            return false;
        }
        if (name) base_buf_printf(&text, "%s\n", name);
        base_buf_puts(&text, body);
        base_buf_puts(&text, "\n");
    }
    base_buf_puts(&text, prefix);
    char *kept = text.failed ? NULL : serve_keep(c, text.len + 1, 1);
    if (kept) {
        memcpy(kept, text.data, text.len);
        c->req.prompts[0].text = kept;
        c->req.prompts[0].n_bytes = text.len;
    }
    base_buf_free(&text);
    return kept || serve_no_memory(f);
}

static bool infill_read(serve_call *c, serve_fault *f) {
    const serve_at top = {.object = c->body};
    const char *prefix = "", *suffix = "";
    if (!one_prompt(c, f) || !serve_read_text(top, "input_prefix", &prefix, f) ||
        !serve_read_text(top, "input_suffix", &suffix, f) || !join_extra(c, top, prefix, f))
        return false;
    c->req.prompts[0].suffix = suffix;
    return read_common(c, top, f);
}

/* ==== Replies ================================================================================= */

static const char *stop_type(const serve_choice *ch) {
    return ch->finish == SERVE_LENGTH ? "limit" : ch->stop ? "word" : ch->by_eos ? "eos" : "none";
}

static json_t *settings_json(const rotor_gen_options *g) {
    return json_pack("{s:I, s:o, s:i, s:o, s:o, s:i}", "seed", (json_int_t)g->seed, "temperature",
                     serve_json_real(g->temperature), "top_k", g->top_k, "top_p",
                     serve_json_real(g->top_p), "min_p", serve_json_real(g->min_p), "n_predict",
                     (int)g->max_tokens);
}

static json_t *end_json(const serve_call *c, const serve_choice *ch, const char *text, size_t n) {
    const serve_timing *t = &ch->timing;
    return json_pack("{s:i, s:o, s:b, s:o, s:i, s:i, s:i, s:b, s:s, s:s, s:o, s:o}", "index",
                     (int)ch->index, "content", serve_json_text(text, n), "stop", 1, "model",
                     serve_json_text(c->model_id, strlen(c->model_id)), "tokens_predicted",
                     (int)t->n_made, "tokens_evaluated", (int)t->n_prompt, "tokens_cached",
                     (int)t->n_cached, "truncated", ch->full, "stop_type", stop_type(ch),
                     "stopping_word", ch->stop ? ch->stop : "", "generation_settings",
                     settings_json(&c->req.gen), "timings", serve_timings(t));
}

static json_t *probs_json(const serve_token *t, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *top = json_array();
        for (uint32_t k = 0; k < t[i].n_top; k++)
            json_array_append_new(
                top, json_pack("{s:I, s:o, s:o}", "id", (json_int_t)t[i].top[k].id, "token",
                               serve_json_text(t[i].top_text[k], strlen(t[i].top_text[k])),
                               "logprob", serve_json_real(t[i].top[k].logprob)));
        json_array_append_new(list,
                              json_pack("{s:I, s:o, s:o, s:o}", "id", (json_int_t)t[i].id, "token",
                                        serve_json_text(t[i].text, t[i].n_bytes), "logprob",
                                        serve_json_real(t[i].logprob), "top_logprobs", top));
    }
    return list;
}

static json_t *native_whole(serve_call *c) {
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_choices; i++) {
        const serve_choice *ch = &c->choices[i];
        json_t *v = end_json(c, ch, ch->text.data, ch->text.len);
        if (c->req.logprobs)
            json_object_set_new(v, "completion_probabilities",
                                probs_json(ch->tokens, ch->n_tokens));
        json_array_append_new(list, v);
    }
    if (c->n_choices > 1) return list;
    json_t *one = json_incref(json_array_get(list, 0));
    json_decref(list);
    return one;
}

static void native_event(serve_call *c, const serve_event *e, base_buf *out) {
    if (e->kind == SERVE_PING) {
        base_buf_puts(out, ": working\n\n");
    } else if (e->kind == SERVE_TEXT) {
        json_t *v = json_pack("{s:i, s:o, s:b}", "index", (int)e->choice->index, "content",
                              serve_json_text(e->text, e->n_bytes), "stop", 0);
        if (e->token) json_object_set_new(v, "completion_probabilities", probs_json(e->token, 1));
        serve_put_sse(out, NULL, v);
    } else if (e->kind == SERVE_CHOICE_END) {
        serve_put_sse(out, NULL, end_json(c, e->choice, "", 0));
    } else if (e->kind == SERVE_FAULT) {
        serve_put_sse(out, NULL, serve_openai_fault(e->fault));
    }
}

const serve_dialect serve_native_dialect = {.name = "completion",
                                            .stream_type = "text/event-stream",
                                            .read = native_read,
                                            .event = native_event,
                                            .whole = native_whole,
                                            .fault = serve_openai_fault};

const serve_dialect serve_infill_dialect = {.name = "infill",
                                            .stream_type = "text/event-stream",
                                            .read = infill_read,
                                            .event = native_event,
                                            .whole = native_whole,
                                            .fault = serve_openai_fault};
