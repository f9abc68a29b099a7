/* SPDX-License-Identifier: MIT
 *
 * One answer on the worker: what the batch's callbacks bring becomes events and is kept with the
 * choice. Text comes by on_text, for answers in parts, too; what is thought and functions that are
 * called come by the reply's pieces.
 */
#include "serve/serve_internal.h"

#include <math.h>
#include <stdio.h>

void serve_emit(serve_call *c, const serve_event *e) {
    serve_inside *in = c->inside;
    if (in->failed) return;
    if (!c->req.stream) {
        if (c->dialect && c->dialect->watches) c->dialect->event(c, e, NULL);
        return;
    }
    base_buf_reset(&in->scratch);
    c->dialect->event(c, e, &in->scratch);
    const bool ends = e->kind == SERVE_END || e->kind == SERVE_FAULT;
    if (e->kind == SERVE_FAULT) in->failed = true;
    if (!in->scratch.len && !ends) return;
    in->last_us = base_now_us();
    if (!serve_call_send(c, in->scratch.data, in->scratch.len, ends) || in->scratch.failed)
        in->cancelled = true;
}

/* ==== Tokens ================================================================================== */

char *serve_text_behind(const rotor_engine *e, uint32_t prev, uint32_t id) {
    if (prev == ROTOR_NO_ID) {
        char *alone = NULL;
        return rotor_detokenize(e, &id, 1, true, &alone, NULL, NULL) == ROTOR_OK ? alone : NULL;
    }
    const uint32_t both[2] = {prev, id};
    char *one = NULL, *two = NULL;
    size_t n_one = 0, n_two = 0;
    if (rotor_detokenize(e, both, 1, true, &one, &n_one, NULL) != ROTOR_OK ||
        rotor_detokenize(e, both, 2, true, &two, &n_two, NULL) != ROTOR_OK) {
        rotor_free(one);
        return NULL;
    }
    if (n_one <= n_two && memcmp(one, two, n_one) == 0)
        memmove(two, two + n_one, n_two - n_one + 1);
    rotor_free(one);
    return two;
}

const serve_token *serve_keep_token(serve_job *j, const char *text, size_t n_bytes,
                                    const rotor_token *token, const rotor_token *top,
                                    size_t n_top) {
    serve_choice *ch = j->choice;
    if (ch->n_tokens % 64 == 0) {
        serve_token *more = base_realloc(ch->tokens, (ch->n_tokens + 64) * sizeof *more);
        if (!more) return NULL;
        ch->tokens = more;
    }
    serve_token *t = &ch->tokens[ch->n_tokens];
    memset(t, 0, sizeof *t);
    t->text = base_strndup(text, n_bytes);
    if (!t->text) return NULL;
    t->n_bytes = n_bytes;
    t->at = ch->text.len;
    t->id = token->id;
    t->logprob = token->logprob;
    for (size_t i = 0; i < n_top && i < SERVE_TOP_MAX && top[i].id != ROTOR_NO_ID; i++) {
        t->top[i] = top[i];
        t->top_text[i] = serve_text_behind(j->c->engine, j->prev, top[i].id);
        if (!t->top_text[i]) break;
        t->n_top++;
    }
    ch->n_tokens++;
    return t;
}

static void note_token(serve_job *j) {
    serve_inside *in = j->c->inside;
    const uint64_t now = base_now_us();
    serve_timing *t = &j->choice->timing;
    if (!in->first_us) in->first_us = now;
    if (!t->n_made++) j->made_start_us = now;
    t->made_us = now - j->made_start_us;
    j->token_us = now;
}

static bool in_time(const serve_job *j) {
    const uint64_t limit = j->c->req.max_predict_us;
    return !limit || j->choice->timing.made_us < limit;
}

bool serve_put_text(serve_job *j, const char *text, size_t n_bytes, const serve_token *kept) {
    serve_choice *ch = j->choice;
    text = serve_mark(j, text, &n_bytes);
    if (!base_buf_append(&ch->text, text, n_bytes)) return false;
    const serve_event e = {
        .kind = SERVE_TEXT, .choice = ch, .text = text, .n_bytes = n_bytes, .token = kept};
    if (n_bytes || kept) serve_emit(j->c, &e);
    return true;
}

static bool on_text(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top) {
    serve_job *j = user;
    const serve_token *kept = NULL;
    bool ok;
    if (token) note_token(j);
    if (token && j->thinking) j->choice->n_reasoning++;
    if (j->held) {
        ok = serve_hold_back(j, (base_str){text, n_bytes}, token, top, n_top);
    } else {
        if (token && j->c->req.logprobs && !(j->reply && (j->thinking || !n_bytes)))
            kept = serve_keep_token(j, text, n_bytes, token, top, n_top);
        ok = serve_put_text(j, text, n_bytes, kept);
    }
    if (token) j->prev = token->id;
    return ok && !j->c->inside->cancelled && in_time(j);
}

static bool on_prompt(void *user, uint32_t done, uint32_t total) {
    serve_job *j = user;
    const serve_event e = {
        .kind = SERVE_PROGRESS, .choice = j->choice, .done = done, .total = total};
    j->prompted = done == total;
    j->choice->timing.n_prompt = total;
    if (j->c->req.progress) serve_emit(j->c, &e);
    return !j->c->inside->cancelled;
}

/* ==== Parts of an answer ====================================================================== */

static bool begin_call(serve_choice *ch, const char *name) {
    serve_tool_call *more = base_realloc(ch->calls, (ch->n_calls + 1) * sizeof *more);
    if (!more) return false;
    ch->calls = more;
    serve_tool_call *call = &ch->calls[ch->n_calls];
    memset(call, 0, sizeof *call);
    serve_make_id(call->id, "call_");
    call->name = base_strdup(name);
    if (!call->name) return false;
    ch->n_calls++;
    return true;
}

static void on_call(serve_job *j, const rotor_piece *p) {
    serve_choice *ch = j->choice;
    if (p->begins && !begin_call(ch, p->name)) {
        j->c->inside->cancelled = true;
        return;
    }
    if (!ch->n_calls) return;
    serve_event e = {.choice = ch, .call = ch->n_calls - 1, .text = p->text, .n_bytes = p->n_bytes};
    e.kind = p->begins ? SERVE_CALL_BEGIN : p->ends ? SERVE_CALL_END : SERVE_CALL_ARGUMENTS;
    base_buf_append(&ch->calls[e.call].arguments, p->text, p->n_bytes);
    serve_emit(j->c, &e);
}

static void on_piece(void *user, const rotor_piece *p) {
    serve_job *j = user;
    serve_choice *ch = j->choice;
    serve_event e = {.choice = ch, .text = p->text, .n_bytes = p->n_bytes};
    if (p->begins) j->thinking = p->part == ROTOR_PART_REASONING;
    if (p->part == ROTOR_PART_CALL) {
        on_call(j, p);
        return;
    }
    if (p->part == ROTOR_PART_ANSWER || !p->n_bytes) return;
    e.kind = p->part == ROTOR_PART_REASONING ? SERVE_REASONING : SERVE_TEXT;
    base_buf_append(p->part == ROTOR_PART_REASONING ? &ch->reasoning : &ch->text, p->text,
                    p->n_bytes);
    serve_emit(j->c, &e);
}

/* ==== Beginning and end ======================================================================= */

static rotor_status read_calls(serve_job *j, rotor_error *err) {
    rotor_call_options opt = rotor_call_options_default();
    opt.tools = j->c->req.tools;
    opt.single = j->c->req.single_call;
    if (j->c->req.logprobs && !(j->held = serve_held_create()))
        return base_fail_nomem(err, "starting an answer");
    return rotor_reply_create_calls(&j->reply, j->c->engine, &opt, on_piece, j, err);
}

/* A question that is rewritten takes nothing from what conversations have in the cache. */
static unsigned batch_flags(const serve_call *c) {
    if (c->inside->parent) return ROTOR_BATCH_FRESH | ROTOR_BATCH_FORGET;
    return c->req.fresh ? ROTOR_BATCH_FRESH : 0;
}

rotor_status serve_job_start(serve_job *j, rotor_error *err) {
    serve_call *c = j->c;
    const serve_prompt *p = j->choice->of;
    if (p->turns && rotor_chat_has_parts(c->engine))
        ROTOR_TRY(rotor_reply_create(&j->reply, c->engine, on_piece, j, err));
    else if (p->turns && c->req.calls_in_text)
        ROTOR_TRY(read_calls(j, err));
    if (c->req.echo) ROTOR_TRY(serve_echo(j, err));
    j->gen.reply = j->reply;
    j->gen.on_text = on_text;
    j->gen.on_prompt = on_prompt;
    j->gen.user = j;
    j->prev = p->tokens[p->n_tokens - 1];
    return rotor_batch_add(c->inside->model->batch, p->tokens, p->n_tokens, &j->gen, batch_flags(c),
                           &j->handle, err);
}

/* Of an answer that was taken apart: the stop string that its last token completes. */
static const char *stop_of_parts(const serve_job *j, const rotor_gen_result *r) {
    const rotor_gen_options *g = &j->c->req.gen;
    char *whole = NULL, *before = NULL;
    const char *found = NULL;
    size_t n = 0, n_before = 0;
    if (rotor_detokenize(j->c->engine, r->ids, r->n_ids, g->special, &whole, &n, NULL) ==
            ROTOR_OK &&
        rotor_detokenize(j->c->engine, r->ids, r->n_ids - 1, g->special, &before, &n_before,
                         NULL) == ROTOR_OK)
        for (size_t end = n_before + 1; end <= n && !found; end++)
            for (size_t i = 0; i < g->n_stops && !found; i++) {
                const size_t k = strlen(g->stops[i]);
                if (k <= end && memcmp(whole + end - k, g->stops[i], k) == 0) found = g->stops[i];
            }
    rotor_free(whole);
    rotor_free(before);
    return found;
}

/* Of plain text: what stands behind the text that was kept. */
static const char *stop_of_text(const serve_job *j, const rotor_gen_result *r) {
    const rotor_gen_options *g = &j->c->req.gen;
    const char *found = NULL;
    char *whole = NULL;
    size_t n = 0;
    if (rotor_detokenize(j->c->engine, r->ids, r->n_ids, g->special, &whole, &n, NULL) != ROTOR_OK)
        return NULL;
    for (size_t i = 0; i < g->n_stops && !found; i++) {
        const size_t k = strlen(g->stops[i]);
        for (size_t at = r->n_bytes ? r->n_bytes - 1 : 0; at + k <= n && at <= r->n_bytes + 1; at++)
            if (memcmp(whole + at, g->stops[i], k) == 0) found = g->stops[i];
    }
    rotor_free(whole);
    return found;
}

/* Which stop string it was; those of the template are the model's own end. */
static void find_stop(serve_job *j, const rotor_gen_result *r) {
    j->choice->stop = !j->reply ? stop_of_text(j, r) : r->n_ids ? stop_of_parts(j, r) : NULL;
    for (size_t i = 0; j->choice->stop && rotor_chat_stop(j->c->engine, i); i++)
        if (j->choice->of->turns && strcmp(rotor_chat_stop(j->c->engine, i), j->choice->stop) == 0)
            j->choice->by_eos = true;
    if (j->choice->by_eos) j->choice->stop = NULL;
}

static serve_finish finish_of(const serve_job *j, const rotor_gen_result *r) {
    const bool late = r->finish == ROTOR_FINISH_CANCEL && !in_time(j);
    if (r->finish == ROTOR_FINISH_CANCEL && !late) return SERVE_CUT;
    if (r->finish == ROTOR_FINISH_LENGTH || r->finish == ROTOR_FINISH_FULL || late)
        return SERVE_LENGTH;
    return j->choice->n_calls ? SERVE_CALLS : SERVE_STOP;
}

static void end_choice(serve_job *j) {
    const serve_event e = {.kind = SERVE_CHOICE_END, .choice = j->choice};
    j->c->inside->n_ended++;
    if (!j->c->inside->cancelled) serve_emit(j->c, &e);
}

/* Text that no token brings. */
static void put_text(serve_job *j, const char *text, size_t n_bytes) {
    const serve_event e = {
        .kind = SERVE_TEXT, .choice = j->choice, .text = text, .n_bytes = n_bytes};
    if (n_bytes && base_buf_append(&j->choice->text, text, n_bytes)) serve_emit(j->c, &e);
}

rotor_status serve_job_skip(serve_job *j, rotor_error *err) {
    const char *instead = serve_instead(j->c);
    if (j->c->req.echo) ROTOR_TRY(serve_echo(j, err));
    if (instead) put_text(j, instead, strlen(instead));
    j->choice->finish = instead ? SERVE_STOP : SERVE_LENGTH;
    j->choice->timing.n_prompt = (uint32_t)j->choice->of->n_tokens;
    end_choice(j);
    return ROTOR_OK;
}

void serve_job_end(serve_job *j) {
    serve_choice *ch = j->choice;
    rotor_gen_result r = {0};
    rotor_error err = {0};
    const rotor_status st = rotor_batch_result(j->c->inside->model->batch, j->handle, &r, &err);
    size_t n_held = 0;
    const char *held = serve_mark(j, NULL, &n_held);
    j->handle = 0;
    j->c->inside->n_running--;
    (void)serve_hold_end(j); /* what memory was short for is missing */
    put_text(j, held, n_held);
    serve_rules_review(j->c, st != ROTOR_OK);
    if (st != ROTOR_OK) {
        serve_fault f = {0};
        serve_fail_with(&f, SERVE_INTERNAL_ERROR, "%.500s", err.message);
        j->c->inside->n_ended++;
        ch->finish = SERVE_CUT;
        if (j->c->req.stream)
            serve_emit(j->c, &(serve_event){.kind = SERVE_FAULT, .fault = &f});
        else
            serve_call_fault(j->c, &f);
        j->c->inside->cancelled = j->c->inside->failed = true;
        return;
    }
    ch->timing = (serve_timing){.n_cached = r.n_reused,
                                .n_prompt = r.n_prompt,
                                .prompt_us = r.prompt_us,
                                .n_made = (uint32_t)r.n_ids,
                                .made_us = r.decode_us};
    ch->finish = finish_of(j, &r);
    ch->full = r.finish == ROTOR_FINISH_FULL;
    ch->by_eos = r.finish == ROTOR_FINISH_END;
    if (r.finish == ROTOR_FINISH_STOP) find_stop(j, &r);
    if (ch->finish == SERVE_STOP || ch->finish == SERVE_CALLS) serve_remember(j, &r);
    ch->ids = r.ids;
    ch->n_ids = r.n_ids;
    ch->end_id = r.end_id;
    r.ids = NULL;
    rotor_gen_result_free(&r);
    end_choice(j);
}

void serve_job_free(serve_job *j) {
    rotor_reply_free(&j->reply);
    serve_held_free(&j->held);
    rotor_rag_marks_free(&j->marks);
}
