/* SPDX-License-Identifier: MIT
 *
 * One generation on one session: the prompt in chunks, then token after token, with guesses behind
 * each where they are asked for. Where the device chooses the tokens, it is one step ahead of the
 * host: what follows a token is being computed while its text is made. A text that ends throws one
 * step away.
 */
#include "gen/gen_internal.h"

#include <assert.h>

static rotor_status failed(rotor_status status, const rotor_error *why, rotor_error *err) {
    if (err) *err = *why;
    return status;
}

/* The token to be evaluated and what is guessed to follow it. */
static rotor_status step(gen_task *t, uint32_t id, gen_pace *pace, rotor_error *why) {
    run_engine *e = run_session_engine(t->s);
    run_row rows[1 + GEN_DRAFT_MAX] = {{t->s, id, true}};
    gen_plan plan = gen_pace_plan(pace, 1);
    gen_task_guess(t, BASE_MIN(run_chunk(e), run_max_logits(e)) - 1, &plan);
    uint32_t n = 1 + t->draft.n;
    for (uint32_t i = 1; i < n; i++) rows[i] = (run_row){t->s, t->draft.guess[i - 1], true};
    uint64_t start = base_now_us();
    rotor_status status = run_eval(e, rows, n, why);
    if (status == ROTOR_OK) gen_pace_note(pace, n, base_now_us() - start);
    if (status != ROTOR_E_FULL || n == 1) return status;
    t->draft.n = 0; /* the cache has no page for guesses; perhaps it has one for the token */
    return run_eval(e, rows, 1, why);
}

/* Starts the step of `token`, `ahead` choices ahead of what has been taken. */
static bool begin(gen_task *t, uint32_t token, uint32_t ahead) {
    dev_draw draw;
    return gen_sampler_draw(t->sampler, ahead, &draw) &&
           run_begin(t->s, token, &draw, NULL) == ROTOR_OK;
}

/* Token after token as the device chooses them, until the text ends or a step cannot be had this
 * way: *id is then to be evaluated. */
static rotor_status decode_ahead(gen_task *t, uint32_t *id, rotor_error *err) {
    bool under_way = begin(t, *id, 0);
    while (under_way) {
        const uint32_t len = run_session_len(t->s);
        uint32_t chosen;
        under_way = t->r.ids.n + 1 < t->max_new_tok && begin(t, DEV_CHOSEN, 1);
        if (!run_end(t->s, &chosen)) return ROTOR_OK;
        const rotor_status status = gen_task_take_chosen(t, chosen, len, id, err);
        if (status != ROTOR_OK || t->r.finish != GEN_FINISH_NONE) {
            run_drop(t->s);
            return status;
        }
        if (!under_way) under_way = begin(t, *id, 0);
    }
    return ROTOR_OK;
}

static rotor_status decode(gen_task *t, rotor_error *err) {
    gen_pace pace = {0};
    uint32_t id;
    ROTOR_TRY(gen_task_take(t, 0, NULL, &id, err));
    while (t->r.finish == GEN_FINISH_NONE) {
        rotor_error why;
        dev_draw draw;
        if (gen_task_can_draw(t, &draw)) ROTOR_TRY(decode_ahead(t, &id, err));
        if (t->r.finish != GEN_FINISH_NONE) break;
        rotor_status status = step(t, id, &pace, &why);
        if (status == ROTOR_E_FULL && t->opt->shift) status = gen_shift_answer(t, &why);
        if (status == ROTOR_E_FULL) return gen_task_end(t, GEN_FINISH_FULL, err);
        if (status != ROTOR_OK) return failed(status, &why, err);
        ROTOR_TRY(gen_task_take(t, 0, NULL, &id, err));
    }
    return ROTOR_OK;
}

/* Tells the trace what time went to the prompt, and what to the answer. */
static void trace_phases(const gen_task *t, base_trace *trace) {
    base_trace_event ev = {.name = "prompt",
                           .cat = "phase",
                           .start_ns = t->start_us * 1000,
                           .layer = BASE_TRACE_NONE,
                           .id = BASE_TRACE_NONE,
                           .rows = t->r.n_prompt - t->r.n_reused,
                           .track = BASE_TRACE_PHASES};
    ev.end_ns = ev.start_ns + t->r.prompt_us * 1000;
    base_trace_add(trace, &ev);
    ev.name = "decode";
    ev.start_ns = ev.end_ns;
    ev.end_ns = base_now_ns();
    ev.rows = (uint32_t)t->r.ids.n;
    base_trace_add(trace, &ev);
}

rotor_status gen_run(run_session *s, const uint32_t *prompt, uint32_t n, const gen_options *opt,
                     gen_result *out, rotor_error *err) {
    assert(n >= 1);
    gen_task t;
    uint32_t *shorter = NULL; /* owned */
    rotor_error why;
    ROTOR_TRY(gen_task_init(&t, s, n, opt, err));
    rotor_status status = opt->shift ? gen_shift_prompt(&t, &prompt, &n, &shorter, &why) : ROTOR_OK;
    if (status == ROTOR_OK)
        status = run_session_sync(s, prompt, n, opt->on_prompt, opt->user, &t.r.n_reused, &why);
    t.r.prompt_us = base_now_us() - t.start_us;
    if (status == ROTOR_OK)
        status = decode(&t, err);
    else if (status == ROTOR_E_CANCELLED)
        status = gen_task_end(&t, GEN_FINISH_CANCEL, err);
    else
        status = failed(status, &why, err);
    base_trace *trace = run_trace(run_session_engine(s));
    if (trace) trace_phases(&t, trace);
    if (status == ROTOR_OK) gen_task_move(&t, out);
    gen_task_free(&t);
    base_free(shorter);
    return status;
}
