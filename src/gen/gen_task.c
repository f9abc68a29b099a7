/* SPDX-License-Identifier: MIT
 *
 * One generation in progress: sampler, detokenizer and stop strings behind one step function.
 * Who evaluates tokens is not decided here: gen_run does it alone, the batch for many.
 *
 *     logits -> sampler -> id -> text stream -> stop strings -> result and callback
 *
 * A step may carry guesses behind the token it evaluates. Its rows are then taken one after another
 * as if each had been a step of its own, as long as what is chosen is what was guessed; nothing
 * below this can tell the difference, and the timeline is cut back to what it would have been.
 *
 * Owns everything it needs per token and allocates it at init. The result's buffers are reserved
 * for the longest answer there can be; only text of unusual length makes them grow.
 */
#include "gen/gen_internal.h"

#include <assert.h>
#include <math.h>

enum { TOKEN_BYTES = 16 }; /* text reserved per token; the average is about 4 */

static uint32_t most_tokens(const run_session *s, uint32_t n_prompt, uint32_t wanted) {
    uint32_t max = run_session_max(s), room = max >= n_prompt ? max - n_prompt + 1 : 1;
    return wanted && wanted < room ? wanted : room;
}

static rotor_status reserve(gen_task *t, size_t n, rotor_error *err) {
    t->r.ids.ids = base_alloc_array(n, sizeof *t->r.ids.ids);
    if (t->r.ids.ids) t->r.ids.cap = n;
    t->top = base_alloc_array(t->opt->n_top, sizeof *t->top);
    if (!t->r.ids.ids || !t->top || !base_buf_reserve(&t->r.text, n * TOKEN_BYTES) ||
        !base_buf_reserve(&t->piece, 1024))
        return base_fail_nomem(err, "preparing a generation");
    return ROTOR_OK;
}

/* From the few logits that settings look at, where nobody wants to know more. */
static bool needs_few(const gen_task *t) {
    return !t->opt->n_top && (!t->opt->on_text || t->opt->no_logprobs);
}

/* Tells the session what its logits are going to be asked for. */
static void expect(gen_task *t) {
    const uint32_t any = 0; /* a history, for penalties to look at */
    run_want want;
    const bool few = needs_few(t) && gen_sampler_want(t->sampler, &any, 1, &want);
    run_session_expect(t->s, few && !want.n_ids ? want.k : 0);
}

rotor_status gen_task_init(gen_task *t, run_session *s, uint32_t n_prompt, const gen_options *opt,
                           rotor_error *err) {
    const model *m = run_model(run_session_engine(s));
    *t = (gen_task){.s = s, .opt = opt, .v = m->vocab, .start_us = base_now_us()};
    t->r.n_prompt = n_prompt;
    t->r.end_id = TEXT_NO_ID;
    const uint32_t room = most_tokens(s, n_prompt, opt->max_new_tok);
    t->max_new_tok = !opt->shift ? room : opt->max_new_tok ? opt->max_new_tok : UINT32_MAX;
    rotor_status status = reserve(t, room, err);
    if (status != ROTOR_OK) goto fail;
    status = gen_sampler_create(&t->sampler, &opt->sampling, m->hp.n_vocab, err);
    if (status != ROTOR_OK) goto fail;
    status = gen_stops_create(&t->stops, opt->stops, opt->n_stops, err);
    if (status != ROTOR_OK) goto fail;
    status = gen_drafter_init(&t->draft, s, opt, err);
    if (status != ROTOR_OK) goto fail;
    if (t->v) text_stream_init(&t->stream, t->v);
    t->stream.render_special = opt->render_special;
    if (opt->guide) t->state = opt->guide->start;
    if (opt->guide && opt->guide->verbatim) t->stream.at_start = false;
    expect(t);
    return ROTOR_OK;
fail:
    gen_task_free(t);
    return status;
}

void gen_task_free(gen_task *t) {
    gen_drafter_free(&t->draft);
    gen_stops_free(&t->stops);
    gen_sampler_free(&t->sampler);
    base_free(t->top);
    base_buf_free(&t->piece);
    gen_result_free(&t->r);
    memset(t, 0, sizeof *t);
}

void gen_task_move(gen_task *t, gen_result *out) {
    *out = t->r;
    out->n_drafted = t->draft.n_drafted;
    out->n_accepted = t->draft.n_accepted;
    memset(&t->r, 0, sizeof t->r);
}

void gen_result_free(gen_result *r) {
    if (!r) return;
    text_ids_free(&r->ids);
    base_buf_free(&r->text);
    memset(r, 0, sizeof *r);
}

/* ==== Text ==================================================================================== */

/* Shows what the result's text has gained since `from`. */
static void show(gen_task *t, size_t from, const gen_choice *choice) {
    if (!t->opt->on_text || t->r.finish == GEN_FINISH_CANCEL) return;
    base_str text = {t->r.text.data + from, t->r.text.len - from};
    bool more = t->opt->on_text(t->opt->user, text, choice, choice ? t->top : NULL);
    if (!more && t->r.finish == GEN_FINISH_NONE) t->r.finish = GEN_FINISH_CANCEL;
}

static bool knows(const gen_task *t, uint32_t id) { return t->v && id < text_n_tokens(t->v); }

/* One more token into the result's text, past the stop strings. *hit: one of these is complete. */
static rotor_status put_text(gen_task *t, uint32_t id, bool *hit) {
    *hit = false;
    if (t->opt->read) return t->opt->read(t->opt->user, id, &t->r.text, hit);
    base_buf_reset(&t->piece);
    if (knows(t, id)) ROTOR_TRY(text_stream_put(&t->stream, id, &t->piece));
    return gen_stops_feed(t->stops, (base_str){t->piece.data, t->piece.len}, &t->r.text, hit);
}

/* Tells the trace of a token: what was done with it since start_ns, and the beginning of the text
 * that came of it. */
static void trace_token(const gen_task *t, const char *what, uint32_t id, uint64_t start_ns,
                        base_str text) {
    base_trace_event ev = {.name = what,
                           .cat = "token",
                           .start_ns = start_ns,
                           .end_ns = base_now_ns(),
                           .layer = BASE_TRACE_NONE,
                           .id = id};
    ev.n_text = (uint8_t)BASE_MIN(text.n, sizeof ev.text);
    if (ev.n_text) memcpy(ev.text, text.p, ev.n_text);
    base_trace_add(run_trace(run_session_engine(t->s)), &ev);
}

/* When what is traced begins; 0: nothing is. */
static uint64_t traced_since(const gen_task *t) {
    return run_trace(run_session_engine(t->s)) ? base_now_ns() : 0;
}

static rotor_status take_text(gen_task *t, const gen_choice *choice, rotor_error *err) {
    const uint64_t since = traced_since(t);
    size_t from = t->r.text.len;
    bool hit;
    if (put_text(t, choice->id, &hit) != ROTOR_OK)
        return base_fail_nomem(err, "storing generated text");
    if (since)
        trace_token(t, "detokenise", choice->id, since,
                    (base_str){t->r.text.data + from, t->r.text.len - from});
    if (hit) t->r.finish = GEN_FINISH_STOP;
    show(t, from, choice);
    return ROTOR_OK;
}

/* What is left of the text when no token follows. */
static rotor_status end_text(gen_task *t, bool *hit) {
    if (t->opt->read) {
        const uint32_t id = t->r.end_id;
        *hit = false;
        if (id != TEXT_NO_ID) ROTOR_TRY(t->opt->read(t->opt->user, id, &t->r.text, hit));
        return *hit ? ROTOR_OK : t->opt->read(t->opt->user, TEXT_NO_ID, &t->r.text, hit);
    }
    base_buf_reset(&t->piece);
    if (t->v) ROTOR_TRY(text_stream_end(&t->stream, &t->piece));
    ROTOR_TRY(gen_stops_feed(t->stops, (base_str){t->piece.data, t->piece.len}, &t->r.text, hit));
    return *hit ? ROTOR_OK : gen_stops_flush(t->stops, &t->r.text);
}

rotor_status gen_task_end(gen_task *t, gen_finish finish, rotor_error *err) {
    if (t->r.finish == GEN_FINISH_STOP) return ROTOR_OK;
    size_t from = t->r.text.len;
    bool hit;
    t->r.finish = finish;
    if (end_text(t, &hit) != ROTOR_OK) return base_fail_nomem(err, "storing generated text");
    if (hit) t->r.finish = GEN_FINISH_STOP;
    if (t->r.text.len > from) show(t, from, NULL);
    return ROTOR_OK;
}

/* ==== Tokens ================================================================================== */

static void note_time(gen_task *t) {
    uint64_t now = base_now_us();
    if (t->r.ids.n == 0) {
        t->first_us = now;
        t->r.first_tok_us = now - t->start_us;
    }
    t->r.decode_us = now - t->first_us;
}

static bool ends(const gen_task *t, uint32_t id) {
    return !t->opt->ignore_eog && knows(t, id) && text_is_eog(t->v, id);
}

/* From the few logits a staged head finds, where they are enough; else from all. Row i of the step
 * follows the first `len` tokens of the timeline. */
static rotor_status choose(gen_task *t, uint32_t i, uint32_t len, gen_choice *choice,
                           rotor_error *err) {
    run_engine *e = run_session_engine(t->s);
    const uint32_t *tokens = run_session_tokens(t->s);
    const gen_guide *guide = t->opt->guide;
    run_want want;
    run_found found;
    if (guide) {
        gen_mask mask;
        ROTOR_TRY(guide->may(guide->user, t->state, &mask, err));
        gen_sampler_allow(t->sampler, mask);
    }
    if (needs_few(t) && gen_sampler_want(t->sampler, tokens, len, &want) &&
        run_candidates(e, i, &want, &found) &&
        gen_sample_found(t->sampler, &want, &found, tokens, len, choice))
        return ROTOR_OK;
    return gen_sample(t->sampler, run_logits(e, i), tokens, len, choice, t->top, t->opt->n_top,
                      err);
}

/* A choice that follows the first `len` tokens of the timeline. */
static rotor_status take_choice(gen_task *t, const gen_choice *choice, uint32_t len, uint32_t *id,
                                rotor_error *err) {
    assert(t->r.finish == GEN_FINISH_NONE && (t->opt->shift || t->r.ids.n < t->r.ids.cap));
    note_time(t);
    if (ends(t, choice->id)) {
        t->r.end_id = choice->id;
        return gen_task_end(t, GEN_FINISH_EOG, err);
    }
    if (text_ids_push(&t->r.ids, choice->id) != ROTOR_OK)
        return base_fail_nomem(err, "storing generated tokens");
    if (t->opt->guide) t->state = t->opt->guide->step(t->opt->guide->user, t->state, choice->id);
    ROTOR_TRY(take_text(t, choice, err));
    *id = choice->id;
    if (t->r.finish == GEN_FINISH_CANCEL) return gen_task_end(t, GEN_FINISH_CANCEL, err);
    if (t->r.finish != GEN_FINISH_NONE) return ROTOR_OK;
    bool limited = t->opt->max_new_tok && t->r.ids.n >= t->opt->max_new_tok;
    if (limited) return gen_task_end(t, GEN_FINISH_LENGTH, err);
    if (len >= run_session_max(t->s) && !t->opt->shift)
        return gen_task_end(t, GEN_FINISH_FULL, err);
    return ROTOR_OK;
}

/* One token from wanted row i of the step, which follows the first `len` tokens of the timeline. */
static rotor_status take_one(gen_task *t, uint32_t i, uint32_t len, uint32_t *id,
                             rotor_error *err) {
    const uint64_t since = traced_since(t);
    gen_choice choice;
    ROTOR_TRY(choose(t, i, len, &choice, err));
    if (since) trace_token(t, "sample", choice.id, since, (base_str){NULL, 0});
    return take_choice(t, &choice, len, id, err);
}

bool gen_task_can_draw(const gen_task *t, dev_draw *draw) {
    return run_can_ahead(run_session_engine(t->s)) && needs_few(t) && t->draft.max == 0 &&
           !t->opt->guide && gen_sampler_draw(t->sampler, 0, draw);
}

rotor_status gen_task_take_chosen(gen_task *t, uint32_t chosen, uint32_t len, uint32_t *id,
                                  rotor_error *err) {
    const gen_choice choice = {chosen, NAN};
    gen_sampler_drawn(t->sampler);
    return take_choice(t, &choice, len, id, err);
}

/* ==== Steps =================================================================================== */

void gen_task_guess(gen_task *t, uint32_t room, gen_plan *plan) {
    const uint32_t positions = run_session_max(t->s) - run_session_len(t->s);
    const uint32_t left = BASE_MIN(t->max_new_tok - (uint32_t)t->r.ids.n, positions);
    assert(left >= 1 || t->opt->shift);
    gen_drafter_guess(&t->draft, t->sampler, BASE_MIN(room, left ? left - 1 : 0), plan);
}

rotor_status gen_task_take(gen_task *t, uint32_t first, const bool *stop, uint32_t *id,
                           rotor_error *err) {
    gen_drafter *d = &t->draft;
    const uint32_t len = run_session_len(t->s) - d->n; /* what the first row has seen */
    const uint32_t *tokens = run_session_tokens(t->s);
    uint32_t right = 0;
    bool wrong = false;
    if (d->n_line < len) gen_drafter_add(d, tokens + d->n_line, len - d->n_line);
    rotor_status status;
    for (;;) {
        status = take_one(t, first + right, len + right, id, err);
        if (status != ROTOR_OK || t->r.finish != GEN_FINISH_NONE) break;
        gen_drafter_add(d, id, 1);
        wrong = right < d->n && *id != d->guess[right];
        if (wrong || right == d->n || (stop && *stop)) break;
        right++;
    }
    run_session_rewind(t->s, len + right);
    gen_drafter_judge(d, right, right + wrong);
    return status;
}
