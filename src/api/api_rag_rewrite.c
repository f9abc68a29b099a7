/* SPDX-License-Identifier: MIT
 *
 * The public face of rewriting a question: its prompt, its sampling, and both around a session of
 * its own, so that the conversation's is not touched.
 */
#include "api/api_internal.h"
#include "api/api_rag.h"

enum { REWRITE_TOK = 64, REASON_TOK = 256 };

rotor_status rotor_rag_rewrite_prompt(const rotor_turn *turns, size_t n, char **prompt,
                                      rotor_error *err) {
    base_buf text = {0};
    size_t n_said = 0;
    if (!turns || n < 2 || !prompt || !turns[n - 1].role || !turns[n - 1].content ||
        strcmp(turns[n - 1].role, "user") != 0)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_rag_rewrite_prompt: the last of two turns or more is to be the "
                         "user's question");
    rag_said *said = base_alloc_array(n, sizeof *said);
    if (!said) return base_fail_nomem(err, "asking for a question");
    for (size_t i = 0; i < n; i++) {
        const bool user = turns[i].role && strcmp(turns[i].role, "user") == 0;
        const bool answer = turns[i].role && strcmp(turns[i].role, "assistant") == 0;
        if ((user || answer) && turns[i].content && turns[i].content[0])
            said[n_said++] = (rag_said){.by_user = user, .text = turns[i].content};
    }
    const rotor_status st = rag_rewrite_prompt(said, n_said, &text, err);
    base_free(said);
    if (st == ROTOR_OK)
        *prompt = text.data;
    else
        base_buf_free(&text);
    return st;
}

rotor_gen_options rotor_rag_rewrite_options(const rotor_engine *e) {
    rotor_gen_options g = rotor_gen_options_default(e);
    g.temperature = 0;
    g.repeat_penalty = 1;
    g.max_tokens = rotor_chat_has_parts(e) ? REASON_TOK : REWRITE_TOK;
    g.no_logprobs = true;
    return g;
}

rotor_status rotor_rag_rewritten(const char *question, const char *said, size_t n_bytes, char **out,
                                 rotor_error *err) {
    base_str s;
    if (!question || (!said && n_bytes) || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_rewritten: a required argument is missing");
    *out = NULL;
    if (!rag_rewrite_take(base_str_of(question), (base_str){said, n_bytes}, &s)) return ROTOR_OK;
    *out = base_strndup(s.p, s.n);
    return *out ? ROTOR_OK : base_fail_nomem(err, "rewriting a question");
}

/* ==== Both, and the model between ============================================================= */

typedef struct rewriting {
    rotor_session *s;          /* its own, owned */
    rotor_reply *reply;        /* takes an answer in parts apart, owned; NULL: it has none */
    uint32_t *ids;             /* [n] prompt, owned */
    size_t n;                  /* how many */
    const char **stops;        /* of the template, owned */
    rotor_gen_result r;        /* what came */
    bool (*go_on)(void *user); /* the caller's */
    void *user;                /* of go_on */
} rewriting;

static bool on_text(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top) {
    const rewriting *w = user;
    (void)text, (void)n_bytes, (void)token, (void)top, (void)n_top;
    return !w->go_on || w->go_on(w->user);
}

static bool on_prompt(void *user, uint32_t done, uint32_t total) {
    const rewriting *w = user;
    (void)done, (void)total;
    return !w->go_on || w->go_on(w->user);
}

static rotor_status prepare(rewriting *w, rotor_engine *e, const char *prompt, uint32_t most,
                            rotor_error *err) {
    const rotor_turn turn = {.role = "user", .content = prompt};
    rotor_chat_options opt = rotor_chat_options_default();
    opt.effort = ROTOR_EFFORT_LOW;
    ROTOR_TRY(rotor_chat_prompt(e, &turn, 1, &opt, &w->ids, &w->n, NULL, err));
    const size_t room = w->n + most;
    ROTOR_TRY(rotor_session_create(&w->s, e, (uint32_t)BASE_MIN(room, (size_t)e->n_ctx), err));
    return rotor_chat_has_parts(e) ? rotor_reply_create(&w->reply, e, NULL, NULL, err) : ROTOR_OK;
}

static rotor_status take_stops(rewriting *w, const rotor_engine *e, rotor_gen_options *g,
                               rotor_error *err) {
    size_t n = 0;
    while (rotor_chat_stop(e, n)) n++;
    if (w->reply || !n) return ROTOR_OK;
    w->stops = base_alloc_array(n, sizeof *w->stops);
    if (!w->stops) return base_fail_nomem(err, "rewriting a question");
    for (size_t i = 0; i < n; i++) w->stops[i] = rotor_chat_stop(e, i);
    g->stops = w->stops;
    g->n_stops = n;
    return ROTOR_OK;
}

static rotor_status ask(rewriting *w, rotor_engine *e, const char *prompt, rotor_error *err) {
    rotor_gen_options g = rotor_rag_rewrite_options(e);
    ROTOR_TRY(prepare(w, e, prompt, g.max_tokens, err));
    ROTOR_TRY(take_stops(w, e, &g, err));
    g.reply = w->reply;
    g.on_text = on_text;
    g.on_prompt = on_prompt;
    g.user = w;
    ROTOR_TRY(rotor_generate(w->s, w->ids, w->n, &g, &w->r, err));
    return w->r.finish == ROTOR_FINISH_CANCEL
               ? base_fail(err, ROTOR_E_CANCELLED, "rewriting a question: stopped by the caller")
               : ROTOR_OK;
}

/* What is cut off in the middle is no question. */
static rotor_status take(const rewriting *w, const char *question, char **out, rotor_error *err) {
    const char *said = w->reply ? rotor_reply_text(w->reply, ROTOR_PART_ANSWER) : w->r.text;
    const size_t n = w->reply ? rotor_reply_bytes(w->reply, ROTOR_PART_ANSWER) : w->r.n_bytes;
    const bool whole = w->r.finish == ROTOR_FINISH_END || w->r.finish == ROTOR_FINISH_STOP;
    return rotor_rag_rewritten(question, said, whole ? n : 0, out, err);
}

rotor_status rotor_rag_rewrite(rotor_engine *e, const rotor_turn *turns, size_t n,
                               bool (*go_on)(void *user), void *user, char **out,
                               rotor_error *err) {
    rewriting w = {.go_on = go_on, .user = user};
    char *prompt = NULL;
    if (!e || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_rewrite: a required argument is missing");
    rotor_status st = rotor_rag_rewrite_prompt(turns, n, &prompt, err);
    if (st == ROTOR_OK) st = ask(&w, e, prompt, err);
    if (st == ROTOR_OK) st = take(&w, turns[n - 1].content, out, err);
    rotor_gen_result_free(&w.r);
    rotor_reply_free(&w.reply);
    rotor_session_free(&w.s);
    base_free(w.stops);
    rotor_free(w.ids);
    rotor_free(prompt);
    return st;
}
