/* SPDX-License-Identifier: MIT
 *
 * A body becomes a call: which model, what the dialect makes of the JSON, the tokens of every
 * prompt, and whether they fit. All of it on the connection's thread, so that the worker has
 * nothing to do but to compute, and so that what cannot work is refused before a stream begins.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

/* ==== Model =================================================================================== */

static bool no_such_model(const serve_server *s, const char *name, serve_fault *f) {
    base_buf names = {0};
    for (size_t i = 0; i < s->opt.n_models; i++)
        base_buf_printf(&names, "%s%s", i ? ", " : "", s->opt.models[i]);
    serve_fail_with(f, SERVE_MODEL_NOT_FOUND, "there is no model '%.100s'; there is: %.400s", name,
                    names.data ? names.data : "");
    snprintf(f->param, sizeof f->param, "model");
    base_buf_free(&names);
    return false;
}

serve_model *serve_find_model(serve_server *s, const char *name, serve_fault *f) {
    for (size_t i = 0; name && i < s->opt.n_models; i++)
        if (strcmp(name, s->models[i].id) == 0) return &s->models[i];
    const size_t n = name ? strlen(name) : 0, tag = sizeof ":latest" - 1;
    for (size_t i = 0; n > tag && strcmp(name + n - tag, ":latest") == 0 && i < s->opt.n_models;
         i++)
        if (strlen(s->models[i].id) == n - tag && strncmp(name, s->models[i].id, n - tag) == 0)
            return &s->models[i];
    const bool any = !name || !name[0] || (s->opt.n_models == 1 && !s->opt.strict_model);
    if (!any) return no_such_model(s, name, f), NULL;
    if (name && name[0])
        serve_log(s, BASE_LOG_DEBUG, "model '%.100s' was asked for; %s answers", name,
                  s->models[0].id);
    return &s->models[0];
}

static void take_engine(serve_call *c) {
    c->engine = c->inside->model->engine;
    c->req.gen = rotor_gen_options_default(c->engine);
    c->req.gen.seed = base_random_seed() >> 12;
    c->req.n = 1;
}

static bool choose_model(serve_call *c, serve_fault *f) {
    serve_server *s = c->inside->s;
    const serve_at top = {.object = c->body};
    if (!serve_read_text(top, "model", &c->req.model, f)) return false;
    serve_model *m = serve_find_model(s, c->req.model, f);
    if (!m) return false;
    const bool any = !c->req.model || !c->req.model[0]; /* the first that writes text */
    for (size_t i = 0; any && !m->writes && i < s->opt.n_models; i++)
        if (s->models[i].writes) m = &s->models[i];
    if (!m->writes)
        return serve_fail_with(f, SERVE_NOT_SUPPORTED, "%s makes %s, it writes no text", m->id,
                               m->ranks ? "scores of passages (/v1/rerank)"
                                        : "vectors of texts (/v1/embeddings)");
    if (!serve_hold(c, m)) return false;
    take_engine(c);
    return true;
}

/* ==== What was asked ========================================================================== */

/* Only with --log-prompts. */
static void log_prompt(const serve_call *c, const serve_prompt *p) {
    const serve_server *s = c->inside->s;
    char *text = NULL;
    if (!s->opt.log_prompts) return;
    const bool ok =
        rotor_detokenize(c->engine, p->tokens, p->n_tokens, true, &text, NULL, NULL) == ROTOR_OK;
    serve_log_text(s, BASE_LOG_INFO, "prompt: ", ok ? text : "");
    rotor_free(text);
}

/* Claude Code puts a line in front of its system text that is another with every request
 * ("x-anthropic-billing-header: … cch=…"); without it the rest is the same each time, and known. */
static const char *without_billing(serve_server *s, const char *text) {
    static const char head[] = "x-anthropic-billing-header";
    if (!text || s->opt.keep_volatile || strncmp(text, head, sizeof head - 1) != 0) return text;
    const char *end = text + strcspn(text, "\r\n"), *value = strstr(text, "cch=");
    if (!value || value > end) return text;
    if (!atomic_exchange(&s->cut_told, true))
        serve_log(s, BASE_LOG_INFO,
                  "the line %s, another in every request, is cut from system texts "
                  "(--keep-volatile leaves it)",
                  head);
    return end + strspn(end, "\r\n");
}

/* ==== Tokens ================================================================================== */

/* What the library says about a prompt it cannot take. */
static bool prompt_fault(serve_fault *f, rotor_status st, const rotor_error *err) {
    if (st == ROTOR_E_NOMEM) return serve_no_memory(f);
    return serve_refuse(
        f, NULL, st == ROTOR_E_UNSUPPORTED ? SERVE_UNSUPPORTED_PARAMETER : SERVE_INVALID_VALUE,
        "%.500s", err->message);
}

/* The turns as they are rendered: without volatile lines, and with the ids of known answers. Found
 * before turns are left out, so that an answer is known by the whole conversation. */
static bool ready_turns(serve_call *c, serve_prompt *p, serve_fault *f) {
    rotor_turn *turns = serve_keep(c, p->n_turns, sizeof *turns);
    if (!turns) return serve_no_memory(f);
    for (size_t i = 0; i < p->n_turns; i++) turns[i] = p->turns[i];
    for (size_t i = 0; i < p->n_turns && strcmp(turns[i].role, "system") == 0; i++)
        turns[i].content = without_billing(c->inside->s, turns[i].content);
    if (!serve_recall(c, p, turns)) return serve_no_memory(f);
    p->turns = turns;
    return true;
}

static bool tokens_of_turns(serve_call *c, serve_prompt *p, size_t first, size_t n_system,
                            serve_fault *f) {
    rotor_chat_options opt = rotor_chat_options_default();
    rotor_error err = {0};
    uint32_t *ids = NULL;
    char *text = NULL;
    opt.tools = c->req.tools;
    opt.effort = c->req.effort;
    const size_t n = n_system + p->n_turns - first;
    rotor_turn *turns = base_alloc_array(n + 1, sizeof *turns);
    if (!turns) return serve_no_memory(f);
    for (size_t i = 0; i < n_system; i++) turns[i] = p->turns[i];
    for (size_t i = first; i < p->n_turns; i++) turns[n_system + i - first] = p->turns[i];
    const rotor_status st =
        rotor_chat_prompt(c->engine, turns, n, &opt, &ids, &p->n_tokens, &text, &err);
    base_free(turns);
    if (st != ROTOR_OK) return prompt_fault(f, st, &err);
    rotor_free((void *)(uintptr_t)p->tokens);
    rotor_free((void *)(uintptr_t)p->rendered);
    p->tokens = ids;
    p->rendered = text;
    return true;
}

/* Turns a shorter conversation can begin with, behind n_system: an answer goes with the question it
 * belongs to, and the last turn stays. from[n_turns]; returns how many. */
static size_t beginnings(const serve_prompt *p, size_t n_system, size_t *from) {
    size_t n = 0;
    for (size_t i = n_system + 1; i < p->n_turns; i++)
        if (strcmp(p->turns[i].role, "user") == 0 || i + 1 == p->n_turns) from[n++] = i;
    return n;
}

/* System turns in front stay; the oldest of the rest go, as few as need be. Found by halving: every
 * try renders and tokenises what is left, and a conversation may have many thousand turns. */
static bool shorten_turns(serve_call *c, serve_prompt *p, size_t most, serve_fault *f) {
    const size_t all = p->n_tokens;
    size_t n_system = 0, low = 0, tried = SIZE_MAX;
    while (n_system < p->n_turns && strcmp(p->turns[n_system].role, "system") == 0) n_system++;
    size_t *from = serve_keep(c, p->n_turns, sizeof *from);
    if (!from) return serve_no_memory(f);
    const size_t n = beginnings(p, n_system, from);
    if (!n) return true;
    for (size_t high = n - 1; low < high;) { /* the first that fits is from low to high */
        tried = low + (high - low) / 2;
        if (!tokens_of_turns(c, p, from[tried], n_system, f)) return false;
        if (p->n_tokens > most)
            low = tried + 1;
        else
            high = tried;
    }
    if (tried != low && !tokens_of_turns(c, p, from[low], n_system, f)) return false;
    p->n_dropped_turns = from[low] - n_system;
    p->n_dropped = all - p->n_tokens;
    return true;
}

static bool tokens_of_text(serve_call *c, serve_prompt *p, serve_fault *f) {
    rotor_error err = {0};
    uint32_t *ids = NULL;
    const unsigned flags = ROTOR_TOK_BOS | (p->special ? (unsigned)ROTOR_TOK_SPECIAL : 0);
    const rotor_status st =
        rotor_tokenize(c->engine, p->text, p->n_bytes, flags, &ids, &p->n_tokens, &err);
    if (st != ROTOR_OK) return prompt_fault(f, st, &err);
    p->tokens = ids;
    return p->n_tokens || serve_refuse(f, "prompt", SERVE_INVALID_VALUE, "the prompt is empty");
}

static bool tokens_of_ids(serve_call *c, serve_prompt *p, serve_fault *f) {
    const uint32_t n_vocab = c->inside->model->info.n_vocab;
    for (size_t i = 0; i < p->n_ids; i++)
        if (p->ids[i] >= n_vocab)
            return serve_refuse(f, "prompt", SERVE_INVALID_VALUE,
                                "token %u at %zu is outside the vocabulary of %u", p->ids[i], i,
                                n_vocab);
    if (!p->n_ids) return serve_refuse(f, "prompt", SERVE_INVALID_VALUE, "the prompt is empty");
    uint32_t *copy = base_alloc_array(p->n_ids, sizeof *copy);
    if (!copy) return serve_no_memory(f);
    memcpy(copy, p->ids, p->n_ids * sizeof *copy);
    p->tokens = copy;
    p->n_tokens = p->n_ids;
    return true;
}

/* One message for every client's pattern: they look for either phrase to shorten their history. */
static bool too_long(const serve_call *c, const serve_prompt *p, serve_fault *f) {
    const uint32_t n_ctx = c->inside->model->info.n_ctx;
    serve_refuse(f, p->turns ? "messages" : "prompt", SERVE_CONTEXT_LENGTH_EXCEEDED,
                 "This model's maximum context length is %u tokens, and the request has %zu tokens "
                 "in its prompt: the request exceeds the available context size. Shorten it, send "
                 "\"truncation\": \"auto\", or start the server with a larger --ctx.",
                 n_ctx, p->n_tokens);
    f->n_prompt = p->n_tokens;
    f->n_ctx = n_ctx;
    return false;
}

/* Bytes of the longest token; looked for when it first matters. */
static uint32_t longest_token(const serve_call *c) {
    serve_model *m = c->inside->model;
    uint32_t longest = atomic_load(&m->longest);
    for (uint32_t id = 0; !atomic_load(&m->longest) && id < m->info.n_vocab; id++) {
        char *text = NULL;
        size_t n = 0;
        if (rotor_detokenize(c->engine, &id, 1, true, &text, &n, NULL) == ROTOR_OK)
            longest = (uint32_t)BASE_MAX((size_t)longest, n);
        rotor_free(text);
    }
    longest = BASE_MAX(longest, 1u);
    atomic_store(&m->longest, longest);
    return longest;
}

/* A text that cannot fit however well its tokens cover it is refused before they are made: of
 * megabytes that would keep this connection's thread for seconds. */
static bool cannot_fit(const serve_call *c, serve_prompt *p, size_t most) {
    enum { SHORT_BYTES = 64 << 10 };
    size_t n = p->text ? p->n_bytes : 0;
    for (size_t i = 0; p->turns && i < p->n_turns; i++)
        n += p->turns[i].content ? strlen(p->turns[i].content) : 0;
    if (n <= SHORT_BYTES || !c->inside->generates || c->req.truncate) return false;
    p->n_tokens = n / longest_token(c);
    return p->n_tokens > most;
}

/* Puts the tokens before a conversation in front of its own; a second BOS is left out. */
static bool put_before(serve_prompt *p, serve_fault *f) {
    const uint32_t *own = p->tokens;
    const size_t skip = p->n_before && p->n_tokens > 1 && own[0] == p->before[0];
    if (!p->n_before) return true;
    uint32_t *all = base_alloc_array(p->n_before + p->n_tokens, sizeof *all);
    if (!all) return serve_no_memory(f);
    memcpy(all, p->before, p->n_before * sizeof *all);
    memcpy(all + p->n_before, own + skip, (p->n_tokens - skip) * sizeof *all);
    rotor_free((void *)(uintptr_t)own);
    p->tokens = all;
    p->n_tokens += p->n_before - skip;
    return true;
}

bool serve_make_tokens(serve_call *c, serve_prompt *p, serve_fault *f) {
    const size_t most = c->inside->model->info.n_ctx - 1; /* room for one token of an answer */
    if (cannot_fit(c, p, most)) return too_long(c, p, f);
    const bool ok = p->turns    ? ready_turns(c, p, f) && tokens_of_turns(c, p, 0, 0, f)
                    : p->suffix ? serve_fill_tokens(c, p, f)
                    : p->text   ? tokens_of_text(c, p, f)
                                : tokens_of_ids(c, p, f);
    if (!ok) return false;
    if (p->n_tokens > most && c->req.truncate && p->turns && !shorten_turns(c, p, most, f))
        return false;
    if (!put_before(p, f)) return false;
    return p->n_tokens <= most || too_long(c, p, f);
}

/* ==== Choices ================================================================================= */

/* The texts that end a turn in the model's template, behind those of the request. */
static bool add_template_stops(serve_call *c, serve_fault *f) {
    rotor_gen_options *g = &c->req.gen;
    size_t n = 0;
    if (!c->req.prompts[0].turns || rotor_chat_has_parts(c->engine)) return true;
    while (rotor_chat_stop(c->engine, n)) n++;
    const char **stops = serve_keep(c, g->n_stops + n, sizeof *stops);
    if (!stops) return serve_no_memory(f);
    for (size_t i = 0; i < g->n_stops; i++) stops[i] = g->stops[i];
    for (size_t i = 0; i < n; i++) stops[g->n_stops + i] = rotor_chat_stop(c->engine, i);
    g->stops = stops;
    g->n_stops += n;
    return true;
}

static bool make_choices(serve_call *c, serve_fault *f) {
    const size_t n = c->req.n_prompts * c->req.n;
    c->choices = serve_keep(c, n, sizeof *c->choices);
    c->inside->jobs = c->choices ? serve_keep(c, n, sizeof *c->inside->jobs) : NULL;
    if (!c->inside->jobs) return serve_no_memory(f);
    c->n_choices = n;
    for (size_t i = 0; i < n; i++) {
        serve_job *j = &c->inside->jobs[i];
        c->choices[i] = (serve_choice){.index = i, .of = &c->req.prompts[i / c->req.n], .job = j};
        *j = (serve_job){.c = c, .choice = &c->choices[i], .gen = c->req.gen};
        j->gen.seed += i % c->req.n;
        j->gen.no_logprobs = !c->req.logprobs;
    }
    return true;
}

bool serve_read_call(serve_call *c, const base_buf *body, serve_fault *f) {
    return serve_parse(body, &c->body, f) && choose_model(c, f) && c->dialect->read(c, f);
}

static bool make_prompts(serve_call *c, serve_fault *f) {
    for (size_t i = 0; i < c->req.n_prompts; i++)
        if (!serve_make_tokens(c, &c->req.prompts[i], f)) return false;
    for (size_t i = 0; i < c->req.n_prompts; i++) log_prompt(c, &c->req.prompts[i]);
    return add_template_stops(c, f) && make_choices(c, f);
}

bool serve_prepare(serve_call *c, const base_buf *body, serve_fault *f) {
    if (!serve_parse(body, &c->body, f) || !choose_model(c, f)) return false;
    c->inside->searches = serve_wants_search(c);
    if (c->inside->searches) c->inside->shelves = serve_wanted_shelves(c);
    return !c->inside->searches && c->dialect->read(c, f) && make_prompts(c, f);
}

bool serve_prepare_rest(serve_call *c, serve_fault *f) {
    take_engine(c);
    return c->dialect->read(c, f) && (serve_wants_rewriting(c) || make_prompts(c, f));
}

bool serve_prepare_search(serve_call *c, serve_fault *f) {
    return serve_ground_rest(c, f) && make_prompts(c, f);
}

bool serve_prepare_turn(serve_call *c, const char *content, const rotor_gen_options *gen,
                        serve_fault *f) {
    rotor_turn *turn = serve_keep(c, 1, sizeof *turn);
    serve_prompt *p = serve_keep(c, 1, sizeof *p);
    if (!turn || !p) return serve_no_memory(f);
    take_engine(c);
    *turn = (rotor_turn){.role = "user", .content = content};
    *p = (serve_prompt){.turns = turn, .n_turns = 1};
    c->req.prompts = p;
    c->req.n_prompts = 1;
    c->req.gen = *gen;
    c->req.effort = ROTOR_EFFORT_LOW;
    return make_prompts(c, f);
}

void serve_hand_over(serve_exchange *x, serve_call *c, bool ok, serve_fault *f) {
    const union MHD_ConnectionInfo *info =
        mhd()->get_connection_info(x->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (c) {
        c->inside->conn = x->conn;
        c->inside->fd = info ? (int)info->connect_fd : -1;
    }
    const bool sleeps = c && !ok && c->inside->waking;
    const bool waits = sleeps || (c && !ok && c->inside->searches);
    if (sleeps) serve_wait_for_model(c);
    if (waits) c->inside->may_stream = serve_may_stream(c);
    if ((ok || waits) && serve_submit(c, f)) {
        x->call = c;
        x->waits = waits;
        return;
    }
    serve_reply_fault(x, f);
    if (c) serve_call_release(c);
}

void serve_generate(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    bool ok = c || serve_no_memory(&f);
    if (ok) {
        c->dialect = x->route->dialect;
        c->inside->generates = true;
        ok = serve_prepare(c, &x->body, &f);
    }
    serve_hand_over(x, c, ok, &f);
}
