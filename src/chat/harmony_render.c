/* SPDX-License-Identifier: MIT
 *
 * Conversations to ids.
 *
 * What was thought before the last final answer is dropped, as the format's documentation asks;
 * what was thought since stays, as a tool's result continues that thought. A turn that is given as
 * ids keeps them, message by message, so that the cache of the session is of use: only the end of
 * its last message is put right (<|return|>, or nothing, becomes <|end|>), and messages that were
 * malformed are written anew from what they meant.
 */
#include "chat/harmony_internal.h"

#include <assert.h>

typedef struct renderer {
    const harmony *h;       /* marks */
    const harmony_chat *c;  /* what to render */
    harmony_parser **turns; /* [n_messages] those given as ids, taken apart; else NULL */
    size_t n_dropped;       /* messages below this index lose their analysis; see last_final */
    size_t n_dropped_in;    /* and so do messages below this one in the turn at that index */
    text_ids ids;           /* made so far */
    base_buf text;          /* scratch */
    rotor_error *err;       /* messages */
} renderer;

static rotor_status nomem(renderer *r) {
    return base_fail_nomem(r->err, "rendering a conversation");
}

/* ==== Text ==================================================================================== */

/* Control tokens are not looked for in text, but user-defined ones are, and files exist that
 * declare the marks so. Whatever came, no mark and no id that the assistant may not write stays. */
static bool has_mark(const renderer *r, size_t from) {
    for (size_t i = from; i < r->ids.n; i++)
        if (harmony_is_mark(r->h, r->ids.ids[i]) || !harmony_may_write(r->h, r->ids.ids[i]))
            return true;
    return false;
}

/* In pieces that end behind every '<': no mark fits into one. */
static rotor_status put_in_pieces(renderer *r, base_str text) {
    for (size_t at = 0, end; at < text.n; at = end) {
        const char *cut = memchr(text.p + at, '<', text.n - at);
        end = cut ? (size_t)(cut - text.p) + 1 : text.n;
        ROTOR_TRY(text_encode(r->h->v, (base_str){text.p + at, end - at}, 0, &r->ids, r->err));
    }
    return ROTOR_OK;
}

static rotor_status put_text(renderer *r, base_str text) {
    size_t from = r->ids.n;
    if (!text.n) return ROTOR_OK;
    ROTOR_TRY(text_encode(r->h->v, text, 0, &r->ids, r->err));
    if (!has_mark(r, from)) return ROTOR_OK;
    r->ids.n = from;
    return put_in_pieces(r, text);
}

static rotor_status put_mark(renderer *r, uint32_t id) {
    return text_ids_push(&r->ids, id) == ROTOR_OK ? ROTOR_OK : nomem(r);
}

/* Two texts tokenised as one. */
static rotor_status put_joined(renderer *r, const char *before, const char *between,
                               base_str text) {
    base_buf_reset(&r->text);
    base_buf_puts(&r->text, before);
    base_buf_puts(&r->text, between);
    base_buf_append(&r->text, text.p ? text.p : "", text.n);
    if (r->text.failed) return nomem(r);
    return put_text(r, (base_str){r->text.data, r->text.len});
}

/* ==== Messages ================================================================================ */

static rotor_status put_role(renderer *r, const harmony_message *m) {
    const char *space = m->function ? "functions." : "";
    if (base_str_is(m->role, "tool")) return put_joined(r, "", space, m->name);
    ROTOR_TRY(put_text(r, m->role));
    return m->name.n ? put_joined(r, ":", "", m->name) : ROTOR_OK;
}

static rotor_status put_type(renderer *r, const harmony_message *m) {
    if (!m->content_type.n) return ROTOR_OK;
    if (!m->constrained || r->h->constrain == TEXT_NO_ID)
        return put_joined(r, " ", "", m->content_type);
    ROTOR_TRY(put_text(r, base_str_of(" ")));
    ROTOR_TRY(put_mark(r, r->h->constrain));
    return put_text(r, m->content_type);
}

static rotor_status put_message(renderer *r, const harmony_message *m) {
    bool assistant = base_str_is(m->role, "assistant");
    const char *space = m->function && assistant ? "functions." : "";
    ROTOR_TRY(put_mark(r, r->h->start));
    ROTOR_TRY(put_role(r, m));
    if (m->recipient.n) ROTOR_TRY(put_joined(r, " to=", space, m->recipient));
    if (m->channel.n) {
        ROTOR_TRY(put_mark(r, r->h->channel));
        ROTOR_TRY(put_text(r, m->channel));
    }
    ROTOR_TRY(put_type(r, m));
    ROTOR_TRY(put_mark(r, r->h->message));
    ROTOR_TRY(put_text(r, m->content));
    return put_mark(r, assistant && m->recipient.n ? r->h->call : r->h->end);
}

static rotor_status put_plain(renderer *r, const char *role, const base_buf *text) {
    return put_message(r, &(harmony_message){.role = base_str_of(role),
                                             .content = {text->data ? text->data : "", text->len}});
}

/* ==== System and developer ==================================================================== */

static base_str or_default(base_str given, const char *otherwise) {
    return given.p ? given : base_str_of(otherwise);
}

static void put_line(base_buf *out, const char *before, base_str text, const char *after) {
    if (!text.n) return;
    base_buf_puts(out, before);
    base_buf_append(out, text.p, text.n);
    base_buf_puts(out, after);
}

static rotor_status put_system(renderer *r) {
    static const char *const efforts[] = {"medium", "low", "high"};
    const harmony_chat *c = r->c;
    base_buf text = {0};
    put_line(&text, "",
             or_default(c->identity, "You are ChatGPT, a large language model trained by OpenAI."),
             "\n");
    put_line(&text, "Knowledge cutoff: ", or_default(c->cutoff, "2024-06"), "\n");
    put_line(&text, "Current date: ", c->date, "\n");
    base_buf_printf(&text, "%sReasoning: %s", text.len ? "\n" : "", efforts[c->effort]);
    put_line(&text, "\n\n", c->builtin, "");
    put_line(&text,
             "\n\n# Valid channels: ", or_default(c->channels, "analysis, commentary, final"),
             ". Channel must be included for every message.");
    if (harmony_has_tools(c))
        base_buf_puts(&text,
                      "\nCalls to these tools must go to the commentary channel: 'functions'.");
    rotor_status st = text.failed ? nomem(r) : put_plain(r, "system", &text);
    base_buf_free(&text);
    return st;
}

static rotor_status put_developer(renderer *r) {
    base_buf text = {0};
    rotor_status st = harmony_developer(r->c, &text, r->err);
    if (st == ROTOR_OK && text.len) st = put_plain(r, "developer", &text);
    base_buf_free(&text);
    return st;
}

/* ==== Turns given as ids ====================================================================== */

static rotor_status take_apart(renderer *r) {
    r->turns = base_alloc_array(r->c->n_messages, sizeof *r->turns);
    if (!r->turns) return nomem(r);
    for (size_t i = 0; i < r->c->n_messages; i++) {
        const harmony_message *m = &r->c->messages[i];
        if (!m->n_ids) continue;
        rotor_status st = harmony_parser_create(&r->turns[i], r->h, false, NULL, NULL);
        for (size_t k = 0; k < m->n_ids && st == ROTOR_OK; k++)
            st = harmony_parser_put(r->turns[i], m->ids[k]);
        if (st == ROTOR_OK) st = harmony_parser_end(r->turns[i]);
        if (st != ROTOR_OK) return nomem(r);
    }
    return ROTOR_OK;
}

/* Finds the last final answer: where analysis stops being dropped. */
static void find_last_final(renderer *r) {
    if (r->c->keep_analysis) return;
    for (size_t i = 0; i < r->c->n_messages; i++) {
        const harmony_parser *turn = r->turns[i];
        if (!turn && base_str_is(r->c->messages[i].channel, "final"))
            r->n_dropped = i, r->n_dropped_in = 0;
        for (size_t k = 0; turn && k < harmony_parser_count(turn); k++)
            if (harmony_parser_at(turn, k)->kind == HARMONY_FINAL)
                r->n_dropped = i, r->n_dropped_in = k;
    }
}

/* As it was generated. */
static rotor_status put_again(renderer *r, const uint32_t *ids, const harmony_parsed *m) {
    size_t past = m->past;
    if (ids[m->first] != r->h->start) {
        ROTOR_TRY(put_mark(r, r->h->start));
        ROTOR_TRY(put_text(r, base_str_of("assistant")));
    }
    if (m->end != HARMONY_CUT) past--;
    for (size_t i = m->first; i < past; i++) ROTOR_TRY(put_mark(r, ids[i]));
    return put_mark(r, m->kind == HARMONY_CALL ? r->h->call : r->h->end);
}

/* From what it meant. Only calls have a type, and a long one is none. */
static rotor_status put_anew(renderer *r, const harmony_parsed *p) {
    static const char *const names[] = {"analysis", "commentary", "final", "commentary"};
    bool typed = p->kind == HARMONY_CALL && strlen(p->content_type) < 32;
    return put_message(r,
                       &(harmony_message){.role = base_str_of("assistant"),
                                          .recipient = base_str_of(p->recipient),
                                          .channel = base_str_of(names[p->kind]),
                                          .content_type = base_str_of(typed ? p->content_type : ""),
                                          .constrained = p->constrained,
                                          .content = {p->content.data, p->content.len}});
}

static rotor_status put_turn(renderer *r, size_t i) {
    const harmony_parser *turn = r->turns[i];
    size_t n_dropped = i < r->n_dropped ? SIZE_MAX : i == r->n_dropped ? r->n_dropped_in : 0;
    for (size_t k = 0; k < harmony_parser_count(turn); k++) {
        const harmony_parsed *m = harmony_parser_at(turn, k);
        if (m->kind == HARMONY_OTHER || (m->kind == HARMONY_ANALYSIS && k < n_dropped)) continue;
        bool whole = !m->malformed && m->past <= r->c->messages[i].n_ids;
        ROTOR_TRY(whole ? put_again(r, r->c->messages[i].ids, m) : put_anew(r, m));
    }
    return ROTOR_OK;
}

/* ==== The conversation ======================================================================== */

static rotor_status check(const renderer *r) {
    for (size_t i = 0; i < r->c->n_messages; i++) {
        const harmony_message *m = &r->c->messages[i];
        bool tool = base_str_is(m->role, "tool");
        if (!m->role.n && !m->n_ids)
            return base_fail(r->err, ROTOR_E_ARG, "message %zu has no role", i);
        if (tool && !m->name.n)
            return base_fail(r->err, ROTOR_E_ARG,
                             "message %zu: the result of a tool needs the tool's name", i);
        for (size_t k = 0; k < m->n_ids; k++)
            if (m->ids[k] >= text_n_tokens(r->h->v))
                return base_fail(r->err, ROTOR_E_ARG,
                                 "message %zu: id %u is outside the vocabulary of %zu", i,
                                 m->ids[k], text_n_tokens(r->h->v));
    }
    return ROTOR_OK;
}

static rotor_status render(renderer *r) {
    const harmony_chat *c = r->c;
    ROTOR_TRY(check(r));
    ROTOR_TRY(take_apart(r));
    find_last_final(r);
    if (!c->bare) ROTOR_TRY(put_system(r));
    if (!c->bare) ROTOR_TRY(put_developer(r));
    for (size_t i = 0; i < c->n_messages; i++) {
        const harmony_message *m = &c->messages[i];
        bool thought = base_str_is(m->channel, "analysis") && i < r->n_dropped;
        if (r->turns[i])
            ROTOR_TRY(put_turn(r, i));
        else if (!thought)
            ROTOR_TRY(put_message(r, m));
    }
    if (!c->add_reply) return ROTOR_OK;
    ROTOR_TRY(put_mark(r, r->h->start));
    return put_text(r, base_str_of("assistant"));
}

static rotor_status append(renderer *r, text_ids *out) {
    size_t before = out->n;
    for (size_t i = 0; i < r->ids.n; i++) {
        if (text_ids_push(out, r->ids.ids[i]) == ROTOR_OK) continue;
        out->n = before;
        return nomem(r);
    }
    return ROTOR_OK;
}

rotor_status harmony_render(const harmony *h, const harmony_chat *c, text_ids *out,
                            rotor_error *err) {
    assert(h && c && out);
    renderer r = {.h = h, .c = c, .err = err};
    rotor_status st = render(&r);
    if (st == ROTOR_OK) st = append(&r, out);
    for (size_t i = 0; r.turns && i < c->n_messages; i++) harmony_parser_free(&r.turns[i]);
    base_free(r.turns);
    base_buf_free(&r.text);
    text_ids_free(&r.ids);
    return st;
}
