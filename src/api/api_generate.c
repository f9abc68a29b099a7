/* SPDX-License-Identifier: MIT
 *
 * Generation: public options to the ones of room gen, callbacks and results back.
 */
#include "api/api_internal.h"

#include <stddef.h>

enum {
    MAX_TOP = 20,  /* alternatives per token */
    MAX_DRAFT = 64 /* guesses per step, tokens of a match */
};

rotor_gen_options rotor_gen_options_default(const rotor_engine *e) {
    gen_sampling d = gen_sampling_default();
    rotor_gen_options o = {.size = sizeof o,
                           .temperature = d.temperature,
                           .top_k = d.top_k,
                           .top_p = d.top_p,
                           .min_p = d.min_p,
                           .repeat_penalty = d.repeat_penalty};
    if (!e) return o;
    const model_sampling *m = &e->m->sampling;
    if (m->temperature >= 0) o.temperature = m->temperature;
    if (m->top_p >= 0) o.top_p = m->top_p;
    if (m->min_p >= 0) o.min_p = m->min_p;
    if (m->repeat_penalty > 0) o.repeat_penalty = m->repeat_penalty;
    if (m->top_k >= 0) o.top_k = m->top_k;
    return o;
}

/* ==== Callbacks =============================================================================== */

static bool text_to_caller(void *user, base_str text, const gen_choice *choice,
                           const gen_choice *top) {
    const api_call *c = user;
    rotor_token token, list[MAX_TOP];
    size_t n_top = choice ? c->opt.n_top : 0;
    if (choice) token = (rotor_token){choice->id, choice->logprob};
    for (size_t i = 0; i < n_top; i++) list[i] = (rotor_token){top[i].id, top[i].logprob};
    const char *p = text.n ? text.p : "";
    return c->opt.on_text(c->opt.user, p, text.n, choice ? &token : NULL, n_top ? list : NULL,
                          n_top);
}

static bool progress_to_caller(void *user, uint32_t done_tok, uint32_t total_tok) {
    const api_call *c = user;
    return c->opt.on_prompt(c->opt.user, done_tok, total_tok);
}

static rotor_status read_answer(void *user, uint32_t id, base_buf *text, bool *stop) {
    const api_call *c = user;
    return api_reply_read(c->opt.reply, id, text, stop);
}

/* ==== A full context ========================================================================== */

static bool shorten_by_caller(void *user, const uint32_t **prompt, uint32_t *n) {
    const api_call *c = user;
    const uint32_t *ids = NULL;
    size_t n_ids = 0;
    if (!c->opt.on_shorten(c->opt.user, &ids, &n_ids) || !ids || !n_ids || n_ids > UINT32_MAX)
        return false;
    *prompt = ids;
    *n = (uint32_t)n_ids;
    return true;
}

static void shift_to_caller(void *user, uint32_t n_dropped, uint32_t n_left) {
    const api_call *c = user;
    c->opt.on_shift(c->opt.user, n_dropped, n_left);
}

/* ==== Options ================================================================================= */

static rotor_status copy_lists(api_call *c, rotor_error *err) {
    const rotor_gen_options *o = &c->opt;
    if ((o->n_stops && !o->stops) || (o->n_bias && (!o->bias_ids || !o->bias)))
        return base_fail(err, ROTOR_E_ARG, "rotor_gen_options: stops or bias is NULL but counted");
    c->stops = base_alloc_array(o->n_stops, sizeof *c->stops);
    c->bias = base_alloc_array(o->n_bias, sizeof *c->bias);
    if (!c->stops || !c->bias) return base_fail_nomem(err, "reading generation options");
    for (size_t i = 0; i < o->n_stops; i++) {
        if (!o->stops[i])
            return base_fail(err, ROTOR_E_ARG, "rotor_gen_options: stop %zu is NULL", i);
        c->stops[i] = base_str_of(o->stops[i]);
    }
    for (size_t i = 0; i < o->n_bias; i++) c->bias[i] = (gen_bias){o->bias_ids[i], o->bias[i]};
    return ROTOR_OK;
}

void api_call_end(api_call *c) {
    base_free(c->stops);
    base_free(c->bias);
}

static rotor_status check_options(const rotor_session *s, const rotor_gen_options *o,
                                  rotor_error *err) {
    if (o->n_top > MAX_TOP)
        return base_fail(err, ROTOR_E_ARG, "n_top is %u, expected at most %d", o->n_top, MAX_TOP);
    if (o->draft_max > MAX_DRAFT || o->lookup > MAX_DRAFT)
        return base_fail(err, ROTOR_E_ARG, "draft_max is %u and lookup %u, expected at most %d",
                         o->draft_max, o->lookup, MAX_DRAFT);
    if ((unsigned)o->full > ROTOR_FULL_SHIFT)
        return base_fail(err, ROTOR_E_ARG, "full is %d, expected 0 or 1", (int)o->full);
    if (o->keep > run_session_max(s->run) / 2)
        return base_fail(err, ROTOR_E_ARG,
                         "keep is %u, expected at most half of the context, which is %u", o->keep,
                         run_session_max(s->run));
    return ROTOR_OK;
}

rotor_status api_call_begin(api_call *c, rotor_session *s, const rotor_gen_options *user,
                            rotor_error *err) {
    memset(c, 0, sizeof *c);
    c->opt = rotor_gen_options_default(s->e);
    rotor_gen_options *o = &c->opt;
    ROTOR_TRY(api_take_options(o, sizeof *o, user, "rotor_gen_options", err));
    ROTOR_TRY(check_options(s, o, err));
    if (o->draft) ROTOR_TRY(rotor_draft_check(s, o->draft, err));
    rotor_status status = copy_lists(c, err);
    if (status != ROTOR_OK) {
        api_call_end(c);
        return status;
    }
    gen_sampling d = gen_sampling_default();
    c->gen = (gen_options){.sampling = {.temperature = o->temperature,
                                        .top_k = o->top_k,
                                        .top_p = o->top_p,
                                        .min_p = o->min_p,
                                        .repeat_penalty = o->repeat_penalty,
                                        .frequency_penalty = o->frequency_penalty,
                                        .presence_penalty = o->presence_penalty,
                                        .penalty_last_n = d.penalty_last_n,
                                        .seed = o->seed,
                                        .bias = c->bias,
                                        .n_bias = o->n_bias,
                                        .hook = o->on_logits,
                                        .hook_user = o->user},
                           .max_new_tok = o->max_tokens,
                           .stops = c->stops,
                           .n_stops = o->n_stops,
                           .ignore_eog = o->ignore_eog,
                           .render_special = o->special,
                           .n_top = o->n_top,
                           .no_logprobs = o->no_logprobs,
                           .on_prompt = o->on_prompt ? progress_to_caller : NULL,
                           .on_text = o->on_text ? text_to_caller : NULL,
                           .lookup_min = o->lookup,
                           .draft = o->draft ? o->draft->run : NULL,
                           .draft_max = o->draft_max,
                           .read = o->reply ? read_answer : NULL,
                           .shift = o->full == ROTOR_FULL_SHIFT,
                           .n_keep = o->keep,
                           .on_shorten = o->on_shorten ? shorten_by_caller : NULL,
                           .on_shift = o->on_shift ? shift_to_caller : NULL,
                           .user = c};
    return ROTOR_OK;
}

rotor_status api_call_format(api_call *c, const rotor_session *s, const uint32_t *ids, size_t n,
                             rotor_error *err) {
    const rotor_gen_options *o = &c->opt;
    ROTOR_TRY(api_check_grammar(o, s->e, err));
    ROTOR_TRY(api_guide_for(&c->guide, s->e, ids, n, o, &c->gen.guide, err));
    return o->reply ? api_reply_begin(o->reply, s->e, c->stops, o->n_stops, err) : ROTOR_OK;
}

/* ==== Results ================================================================================= */

static rotor_finish finish_of(gen_finish finish) {
    switch (finish) {
    case GEN_FINISH_EOG:
        return ROTOR_FINISH_END;
    case GEN_FINISH_STOP:
        return ROTOR_FINISH_STOP;
    case GEN_FINISH_LENGTH:
        return ROTOR_FINISH_LENGTH;
    case GEN_FINISH_FULL:
        return ROTOR_FINISH_FULL;
    default:
        return ROTOR_FINISH_CANCEL;
    }
}

void rotor_gen_result_free(rotor_gen_result *r) {
    if (!r) return;
    base_free(r->text);
    base_free(r->ids);
    memset(r, 0, sizeof *r);
}

rotor_status api_give(gen_result *r, rotor_gen_result *out, rotor_error *err) {
    rotor_gen_result g = {.n_bytes = r->text.len,
                          .n_ids = r->ids.n,
                          .finish = finish_of(r->finish),
                          .n_prompt = r->n_prompt,
                          .n_reused = r->n_reused,
                          .prompt_us = r->prompt_us,
                          .first_us = r->first_tok_us,
                          .decode_us = r->decode_us,
                          .n_drafted = r->n_drafted,
                          .n_accepted = r->n_accepted,
                          .end_id = r->end_id,
                          .n_shifts = r->n_shifts,
                          .n_shifted = r->n_dropped};
    g.text = api_take_text(&r->text);
    g.ids = api_take_ids(&r->ids);
    gen_result_free(r);
    if (!g.text || !g.ids) {
        rotor_gen_result_free(&g);
        return base_fail_nomem(err, "storing a result");
    }
    *out = g;
    return ROTOR_OK;
}

/* ==== Calls =================================================================================== */

rotor_status api_check_prompt(const rotor_session *s, const uint32_t *ids, size_t n, bool shift,
                              const rotor_gen_result *out, rotor_error *err) {
    if (!s || !out) return base_fail(err, ROTOR_E_ARG, "generating: session or result is NULL");
    if (!ids || n == 0)
        return base_fail(err, ROTOR_E_ARG,
                         "generating: the prompt is empty; it needs one token at least");
    if (n > (shift ? UINT32_MAX : run_session_max(s->run)))
        return base_fail(
            err, ROTOR_E_FULL,
            "a prompt of %zu tokens does not fit the session's %u positions: a larger "
            "context (--ctx) takes it, shifting (--on-full shift) drops its oldest part",
            n, run_session_max(s->run));
    return ROTOR_OK;
}

rotor_status rotor_generate(rotor_session *s, const uint32_t *ids, size_t n,
                            const rotor_gen_options *opt, rotor_gen_result *out, rotor_error *err) {
    api_call c;
    gen_result r = {0};
    if (!s) return base_fail(err, ROTOR_E_ARG, "generating: the session is NULL");
    ROTOR_TRY(api_call_begin(&c, s, opt, err));
    rotor_status status = api_check_prompt(s, ids, n, c.gen.shift, out, err);
    if (status == ROTOR_OK) status = api_call_format(&c, s, ids, n, err);
    if (status == ROTOR_OK) {
        status = gen_run(s->run, ids, (uint32_t)n, &c.gen, &r, err);
        if (c.opt.reply) {
            rotor_status ended = rotor_reply_end(c.opt.reply, status == ROTOR_OK ? err : NULL);
            if (status == ROTOR_OK) status = ended;
        }
    }
    api_call_end(&c);
    if (status != ROTOR_OK) gen_result_free(&r);
    return status == ROTOR_OK ? api_give(&r, out, err) : status;
}

rotor_status rotor_generate_text(rotor_session *s, const char *text, const rotor_gen_options *opt,
                                 rotor_gen_result *out, rotor_error *err) {
    if (!s || !text)
        return base_fail(err, ROTOR_E_ARG, "rotor_generate_text: session or text is NULL");
    uint32_t *ids = NULL;
    size_t n;
    ROTOR_TRY(rotor_tokenize(s->e, text, strlen(text), ROTOR_TOK_BOS, &ids, &n, err));
    rotor_status status = rotor_generate(s, ids, n, opt, out, err);
    rotor_free(ids);
    return status;
}

static rotor_status beam_result(const rotor_session *s, const gen_beam *best, bool verbatim,
                                gen_result *r) {
    const text_vocab *v = s->e->m->vocab;
    text_stream stream;
    r->finish = best->ended ? GEN_FINISH_EOG : GEN_FINISH_LENGTH;
    if (v) text_stream_init(&stream, v);
    if (verbatim) stream.at_start = false;
    for (size_t i = 0; i < best->ids.n; i++) {
        uint32_t id = best->ids.ids[i];
        ROTOR_TRY(text_ids_push(&r->ids, id));
        if (v && id < text_n_tokens(v)) ROTOR_TRY(text_stream_put(&stream, id, &r->text));
    }
    return v ? text_stream_end(&stream, &r->text) : ROTOR_OK;
}

rotor_status rotor_generate_beam(rotor_session *s, const uint32_t *ids, size_t n, uint32_t width,
                                 uint32_t max_tokens, const rotor_grammar *rules,
                                 rotor_gen_result *out, rotor_error *err) {
    ROTOR_TRY(api_check_prompt(s, ids, n, false, out, err));
    if (width < 1 || width > 64)
        return base_fail(err, ROTOR_E_ARG, "beam search: width is %u, expected 1 to 64", width);
    gen_beam *beams = NULL;
    uint64_t start_us = base_now_us();
    api_guide guide;
    const rotor_gen_options o = {.size = sizeof o, .grammar = rules};
    gen_beam_options opt = {.width = width, .max_new_tok = max_tokens, .alpha = 1};
    ROTOR_TRY(api_check_grammar(&o, s->e, err));
    ROTOR_TRY(api_guide_for(&guide, s->e, ids, n, &o, &opt.guide, err));
    ROTOR_TRY(gen_beam_search(s->run, ids, (uint32_t)n, &opt, &beams, err));
    gen_result r = {
        .n_prompt = (uint32_t)n, .decode_us = base_now_us() - start_us, .end_id = TEXT_NO_ID};
    rotor_status status = beam_result(s, &beams[0], opt.guide && opt.guide->verbatim, &r);
    gen_beams_free(beams, width);
    if (status == ROTOR_OK) return api_give(&r, out, err);
    gen_result_free(&r);
    return base_fail_nomem(err, "storing a result");
}
