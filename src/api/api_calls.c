/* SPDX-License-Identifier: MIT
 *
 * Functions that are called in the text of an answer: what keeps such answers to their rules, and
 * what reads them.
 *
 * Where calls are required, a grammar binds the answer from its first token. Where they are not, a
 * watch goes along with the text and binds it once a call has begun:
 *
 *     waiting --- the mark; or {"name": "…", a function's, as the first of all ---> BOUND
 *        |  without a mark, something else
 *        +---------------------------------------------------------------------> OFF
 *
 * With the Harmony format a call is a message: see there (harmony_calls.c, api_grammar.c).
 *
 * A watch is immutable but for what its grammars learn, and is used by the engine's thread. Marks
 * may be control tokens, which write nothing: words and readers take them for their names.
 */
#include "api/api_internal.h"

#include <stdio.h>

rotor_call_options rotor_call_options_default(void) {
    return (rotor_call_options){.size = sizeof(rotor_call_options)};
}

bool api_is_mark(const rotor_engine *e, uint32_t id, const char **mark) {
    const chat_family *f = api_calls_of(e);
    if (id >= text_n_tokens(e->m->vocab) || text_type(e->m->vocab, id) != TEXT_CONTROL)
        return false;
    for (size_t i = 0; f && i < CHAT_MARKS; i++) {
        *mark = chat_family_mark(f, i);
        if (*mark && base_str_is(text_token(e->m->vocab, id), *mark)) return true;
    }
    return false;
}

static rotor_status read_options(rotor_call_options *opt, const rotor_engine *e,
                                 const rotor_call_options *user, rotor_error *err) {
    *opt = rotor_call_options_default();
    ROTOR_TRY(api_take_options(opt, sizeof *opt, user, "rotor_call_options", err));
    if (!opt->tools) return base_fail(err, ROTOR_E_ARG, "rotor_call_options: tools is NULL");
    if (api_calls_of(e) || e->harmony.v) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "this model's chat template knows no tools");
}

/* ==== The watch =============================================================================== */

static void watch_mark(api_watch *w, const char *mark) {
    w->mark = mark;
    w->n_mark = strlen(mark);
    for (size_t i = 1, border = 0; i < w->n_mark; i++) {
        while (border && mark[i] != mark[border]) border = w->back[border - 1];
        if (mark[i] == mark[border]) border++;
        w->back[i] = (uint32_t)border;
    }
}

void api_watch_free(api_watch *w) {
    grammar_masks_free(&w->beginning);
    grammar_free(&w->rules);
}

uint32_t api_watch_start(const api_watch *w) {
    return API_WATCH_FIRST + (w->mark ? 0 : grammar_start(w->beginning));
}

/* What follows the mark in the token that completes it counts, too. */
static void begin_calls(const api_watch *w, grammar_masks *calls, base_str rest, uint32_t *state,
                        uint32_t *rules) {
    *rules = grammar_start(calls);
    *state = API_WATCH_OFF;
    if (grammar_put(calls, *rules, base_str_of(w->mark), rules, NULL) != ROTOR_OK ||
        grammar_put(calls, *rules, rest, rules, NULL) != ROTOR_OK || *rules == GRAMMAR_DEAD)
        return;
    *state = API_WATCH_BOUND;
}

static void step_mark(const api_watch *w, grammar_masks *calls, base_str word, uint32_t *state,
                      uint32_t *rules) {
    uint32_t at = *state - API_WATCH_FIRST;
    for (size_t i = 0; i < word.n; i++) {
        while (at && w->mark[at] != word.p[i]) at = w->back[at - 1];
        if (w->mark[at] == word.p[i]) at++;
        if (at < w->n_mark) continue;
        begin_calls(w, calls, (base_str){word.p + i + 1, word.n - i - 1}, state, rules);
        return;
    }
    *state = API_WATCH_FIRST + at;
}

/* Rules of calls and of their beginning go along from the first token. */
static void step_beginning(const api_watch *w, grammar_masks *calls, base_str word, uint32_t *state,
                           uint32_t *rules) {
    uint32_t begun = *state - API_WATCH_FIRST;
    const bool fits = grammar_put(calls, *rules, word, rules, NULL) == ROTOR_OK &&
                      grammar_put(w->beginning, begun, word, &begun, NULL) == ROTOR_OK &&
                      *rules != GRAMMAR_DEAD && begun != GRAMMAR_DEAD;
    *state = !fits                                  ? (uint32_t)API_WATCH_OFF
             : grammar_may_end(w->beginning, begun) ? (uint32_t)API_WATCH_BOUND
                                                    : API_WATCH_FIRST + begun;
}

void api_watch_step(const api_watch *w, grammar_masks *calls, uint32_t id, uint32_t *state,
                    uint32_t *rules) {
    const base_str word = grammar_word(w->words, id);
    if (*state == API_WATCH_BOUND)
        (void)grammar_step(calls, *rules, id, rules, NULL); /* what fails says why in a mask */
    else if (*state != API_WATCH_OFF && w->mark)
        step_mark(w, calls, word, state, rules);
    else if (*state != API_WATCH_OFF)
        step_beginning(w, calls, word, state, rules);
}

/* ==== Rules =================================================================================== */

/* The parameters of a function, or any object where no grammar can keep to them and nobody asked
 * for that. */
static rotor_status schema_of(const chat_tool *t, base_str *out, rotor_error *err) {
    rotor_error why = {0};
    grammar *g = NULL;
    *out = base_str_of(t->schema);
    const rotor_status status = grammar_from_schema(&g, *out, &why);
    grammar_free(&g);
    if (status == ROTOR_OK || status == ROTOR_E_NOMEM) return status;
    if (!t->strict) return *out = base_str_of("{\"type\":\"object\"}"), ROTOR_OK;
    return base_fail(err, status, "parameters of %.60s: %.300s", t->name, why.message);
}

/* n_marks: how many of Harmony's are parts, too. */
static rotor_status make_rules(grammar **out, const base_buf *text, const chat_tools *t,
                               size_t n_marks, rotor_error *err) {
    grammar_part *parts = base_alloc_array(t->n + n_marks + 1, sizeof *parts);
    char(*names)[32] = base_alloc_array(t->n + 1, sizeof *names);
    rotor_status status = parts && names ? ROTOR_OK : base_fail_nomem(err, "reading tools");
    for (size_t i = 0; status == ROTOR_OK && i < t->n; i++) {
        snprintf(names[i], sizeof names[i], "args-%zu", i);
        parts[i] = (grammar_part){.rule = names[i], .what = t->list[i].name};
        status = schema_of(&t->list[i], &parts[i].schema, err);
    }
    for (size_t i = 0; status == ROTOR_OK && i < n_marks; i++)
        parts[t->n + i] = (grammar_part){.rule = harmony_rule_mark_name(i), .mark = (uint32_t)i};
    if (status == ROTOR_OK)
        status =
            grammar_from_parts(out, (base_str){text->data, text->len}, parts, t->n + n_marks, err);
    base_free(parts);
    base_free(names);
    return status;
}

static rotor_status make_watch(api_watch *w, const chat_family *f, const chat_calls_rules *text,
                               const grammar_words *words, rotor_error *err) {
    w->words = words;
    if (!text->watch.len) {
        watch_mark(w, f->open);
        return ROTOR_OK;
    }
    ROTOR_TRY(grammar_from_gbnf(&w->rules, (base_str){text->watch.data, text->watch.len}, err));
    return grammar_masks_create(&w->beginning, w->rules, NULL, NULL, err);
}

static rotor_status make_headers(rotor_grammar *g, const rotor_call_options *opt,
                                 const chat_tools *t, rotor_error *err) {
    base_buf text = {0};
    g->headers = true;
    g->required = opt->required;
    rotor_status status = harmony_write_rules(t, opt->required, opt->single, &text);
    if (status != ROTOR_OK) base_fail_nomem(err, "reading tools");
    if (status == ROTOR_OK) status = make_rules(&g->g, &text, t, HARMONY_RULE_MARKS, err);
    base_buf_free(&text);
    if (status != ROTOR_OK) return status;
    return grammar_masks_create(&g->m, g->g, g->words, NULL, err);
}

static rotor_status make_grammar(rotor_grammar *g, const rotor_call_options *opt,
                                 const chat_tools *t, rotor_error *err) {
    const chat_family *f = api_calls_of(g->e);
    chat_calls_rules text = {0};
    rotor_status status = chat_calls_write(f, t, opt->single, &text);
    if (status != ROTOR_OK) base_fail_nomem(err, "reading tools");
    if (status == ROTOR_OK) status = make_rules(&g->g, &text.text, t, 0, err);
    if (status == ROTOR_OK && !opt->required) {
        g->watch = base_alloc(sizeof *g->watch);
        status = g->watch ? make_watch(g->watch, f, &text, g->words, err)
                          : base_fail_nomem(err, "reading tools");
    }
    chat_calls_rules_free(&text);
    if (status != ROTOR_OK) return status;
    return grammar_masks_create(&g->m, g->g, g->words, NULL, err);
}

rotor_status rotor_grammar_create_calls(rotor_grammar **out, rotor_engine *e,
                                        const rotor_call_options *user, rotor_error *err) {
    rotor_call_options opt;
    chat_tools tools = {0};
    if (!out || !e)
        return base_fail(err, ROTOR_E_ARG, "rotor_grammar_create_calls: out or engine is NULL");
    ROTOR_TRY(read_options(&opt, e, user, err));
    ROTOR_TRY(chat_tools_read(&tools, base_str_of(opt.tools), err));
    rotor_grammar *g = base_alloc(sizeof *g);
    rotor_status status = g ? ROTOR_OK : base_fail_nomem(err, "reading tools");
    if (g) g->e = e;
    if (status == ROTOR_OK && !tools.n)
        status = base_fail(err, ROTOR_E_ARG, "rotor_call_options: there are no tools");
    if (status == ROTOR_OK) status = api_words_of(e, true, &g->words, err);
    if (status == ROTOR_OK)
        status =
            e->harmony.v ? make_headers(g, &opt, &tools, err) : make_grammar(g, &opt, &tools, err);
    chat_tools_free(&tools);
    if (status == ROTOR_OK) return *out = g, ROTOR_OK;
    rotor_grammar_free(&g);
    return status;
}

/* ==== Reading ================================================================================= */

rotor_status api_call_reader_init(api_call_reader *r, const rotor_engine *e,
                                  const rotor_call_options *user, const chat_reader_hooks *hooks,
                                  rotor_error *err) {
    rotor_call_options opt;
    ROTOR_TRY(read_options(&opt, e, user, err));
    if (e->harmony.v)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "this model's calls are no text: they come with rotor_reply_create");
    ROTOR_TRY(chat_tools_read(&r->tools, base_str_of(opt.tools), err));
    r->e = e;
    text_stream_init(&r->stream, e->m->vocab);
    if (chat_reader_create(&r->reader, api_calls_of(e), &r->tools, opt.single, hooks) == ROTOR_OK)
        return ROTOR_OK;
    return base_fail_nomem(err, "taking an answer apart");
}

void api_call_reader_free(api_call_reader *r) {
    chat_reader_free(&r->reader);
    chat_tools_free(&r->tools);
    base_buf_free(&r->piece);
}

rotor_status api_call_reader_put(api_call_reader *r, uint32_t id) {
    const text_vocab *v = r->e->m->vocab;
    const char *mark;
    base_buf_reset(&r->piece);
    if (id >= text_n_tokens(v)) return ROTOR_OK;
    r->whole = text_is_eog(v, id);
    if (api_is_mark(r->e, id, &mark)) {
        ROTOR_TRY(text_stream_end(&r->stream, &r->piece));
        if (!base_buf_puts(&r->piece, mark)) return ROTOR_E_NOMEM;
    } else {
        ROTOR_TRY(text_stream_put(&r->stream, id, &r->piece));
    }
    return chat_reader_put(r->reader, (base_str){r->piece.data, r->piece.len});
}

rotor_status api_call_reader_end(api_call_reader *r) {
    base_buf_reset(&r->piece);
    ROTOR_TRY(text_stream_end(&r->stream, &r->piece));
    ROTOR_TRY(chat_reader_put(r->reader, (base_str){r->piece.data, r->piece.len}));
    return chat_reader_end(r->reader, r->whole);
}
