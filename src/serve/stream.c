/* SPDX-License-Identifier: MIT
 *
 * The bytes between worker and connection, and how long a call lives.
 *
 * The worker appends and never waits; what a client does not read piles up here, to a limit, past
 * which the call counts as abandoned: a slow reader must not slow the others. The connection is
 * suspended while there is nothing to send, under the call's lock, so that no byte comes between
 * looking and going to sleep.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

enum { UNREAD_MAX = 4 << 20 }; /* bytes that may wait for a client */

serve_call *serve_call_create(serve_server *s) {
    serve_call *c = base_alloc(sizeof *c);
    serve_inside *in = base_alloc(sizeof *in);
    if (!c || !in || base_mutex_create(&in->lock) != ROTOR_OK) {
        base_free(in);
        base_free(c);
        return NULL;
    }
    in->s = s;
    in->refs = 1;
    in->fd = -1;
    in->status = 500;
    c->inside = in;
    c->created_s = base_unix_s();
    serve_make_id(c->id, "");
    return c;
}

static void choice_free(serve_choice *ch) {
    for (size_t i = 0; i < ch->n_calls; i++) {
        base_free(ch->calls[i].name);
        base_buf_free(&ch->calls[i].arguments);
    }
    for (size_t i = 0; i < ch->n_tokens; i++) {
        base_free(ch->tokens[i].text);
        for (uint32_t k = 0; k < ch->tokens[i].n_top; k++) base_free(ch->tokens[i].top_text[k]);
    }
    rotor_free(ch->ids);
    base_free(ch->calls);
    base_free(ch->tokens);
    base_buf_free(&ch->text);
    base_buf_free(&ch->reasoning);
}

static void call_free(serve_call *c) {
    serve_inside *in = c->inside;
    for (size_t i = 0; in->jobs && i < c->n_choices; i++) serve_job_free(&in->jobs[i]);
    for (size_t i = 0; i < c->n_choices; i++) choice_free(&c->choices[i]);
    for (size_t i = 0; i < c->req.n_prompts; i++) {
        rotor_free((void *)(uintptr_t)c->req.prompts[i].tokens);
        rotor_free((void *)(uintptr_t)c->req.prompts[i].rendered);
    }
    for (size_t i = 0; i < in->n_kept; i++) base_free(in->kept[i]);
    base_free(in->kept);
    serve_grounds_free(in->grounds);
    serve_rules_release(c);
    serve_let_go(c);
    base_buf_free(&in->out);
    base_buf_free(&in->scratch);
    base_mutex_free(&in->lock);
    json_decref(c->body);
    base_free(in);
    base_free(c);
}

void serve_call_release(serve_call *c) {
    serve_inside *in = c->inside;
    base_mutex_lock(in->lock);
    const bool last = --in->refs == 0;
    base_mutex_unlock(in->lock);
    if (last) call_free(c);
}

void *serve_keep(serve_call *c, size_t n, size_t elem_bytes) {
    serve_inside *in = c->inside;
    if (in->n_kept == in->cap_kept) {
        const size_t cap = in->cap_kept ? 2 * in->cap_kept : 16;
        void **more = base_realloc(in->kept, cap * sizeof *more);
        if (!more) return NULL;
        in->kept = more;
        in->cap_kept = cap;
    }
    void *p = base_alloc_array(n ? n : 1, elem_bytes);
    if (p) in->kept[in->n_kept++] = p;
    return p;
}

static void wake(serve_inside *in) {
    if (!in->asleep || !in->conn) return;
    in->asleep = false;
    mhd()->resume_connection(in->conn);
}

void serve_begin_stream(serve_call *c) {
    serve_inside *in = c->inside;
    base_mutex_lock(in->lock);
    in->streaming = true;
    wake(in);
    base_mutex_unlock(in->lock);
}

bool serve_call_send(serve_call *c, const void *p, size_t n_bytes, bool ends) {
    serve_inside *in = c->inside;
    base_mutex_lock(in->lock);
    bool ok = in->conn && !in->ended;
    if (ok && in->out_at == in->out.len) {
        base_buf_reset(&in->out);
        in->out_at = 0;
    }
    const bool full = in->out.len - in->out_at + n_bytes > UNREAD_MAX;
    /* How it ends is told always. What the request says is looked at when it has been read. */
    if (ok && !ends && full && (in->streaming || c->req.stream)) ok = false;
    if (ok && n_bytes && !base_buf_append(&in->out, p, n_bytes)) ok = false;
    if (ends) in->ended = true;
    wake(in);
    base_mutex_unlock(in->lock);
    return ok;
}

void serve_call_reply(serve_call *c, int status, json_t *body) {
    base_buf text = {0};
    serve_put_json(&text, body);
    base_buf_puts(&text, "\n");
    base_mutex_lock(c->inside->lock);
    c->inside->status = text.failed || !body ? 500 : status;
    base_mutex_unlock(c->inside->lock);
    serve_call_send(c, text.data, text.len, true);
    base_buf_free(&text);
}

void serve_call_fault(serve_call *c, const serve_fault *f) {
    json_t *(*fault)(const serve_fault *) = c->dialect ? c->dialect->fault : serve_openai_fault;
    c->inside->retry_s = f->retry_s;
    serve_call_reply(c, f->status, fault(f));
}

bool serve_call_left(serve_call *c) {
    serve_inside *in = c->inside;
    base_mutex_lock(in->lock);
    const bool left = !in->conn || (!in->ended && base_peer_gone(in->fd));
    base_mutex_unlock(in->lock);
    return left;
}

/* ==== What all answers of a call have cost ==================================================== */

serve_usage serve_usage_of(const serve_call *c) {
    serve_usage u = {0};
    for (size_t i = 0; i < c->n_choices; i++) {
        const serve_choice *ch = &c->choices[i];
        if (i % c->req.n == 0) {
            u.prompt += ch->timing.n_prompt;
            u.cached += ch->timing.n_cached;
        }
        u.completion += ch->timing.n_made;
        u.reasoning += ch->n_reasoning;
    }
    return u;
}
