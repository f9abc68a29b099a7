/* SPDX-License-Identifier: MIT
 *
 * rotor rag ask: a question, answered from a store by a model, with its sources.
 *
 * Standard output has the answer as it comes and then where it is from; or one JSON object. Where
 * nothing in the store is near enough, that is said, no model is asked, and the exit status is 1.
 */
#include "cli/store.h"

#include <jansson.h>

enum { ANSWER_TOK = 512 };

typedef struct asking {
    const cli_args *a;         /* options */
    const char *question;      /* as asked */
    const char *writer;        /* word that names the model; NULL: the built-in one */
    rotor_engine *e;           /* that writes, owned; NULL: passages only */
    rotor_session *s;          /* owned */
    cli_stores stores;         /* that are asked, owned */
    rotor_grammar *grammar;    /* what the answer is kept to, owned; NULL: nothing */
    rotor_rag_context c;       /* what was found */
    bool grounded;             /* the model gets it */
    bool refused;              /* it is not asked at all */
    char *rewritten;           /* the question as the model wrote it, owned; NULL: as it was */
    uint32_t *ids;             /* [n_ids] prompt, owned */
    size_t n_ids;              /* how many */
    char *prompt;              /* as text, owned */
    rotor_rag_marks *marks;    /* on the way to the terminal, owned */
    rotor_reply *reply;        /* of a model that reasons, owned; else NULL */
    cli_progress progress;     /* of the prompt */
    base_buf said;             /* the answer so far */
    rotor_gen_result result;   /* what came out */
    rotor_rag_checked checked; /* the answer's citations */
} asking;

/* ==== Finding ================================================================================= */

static rotor_status open_writer(asking *k, rotor_error *err) {
    cli_model m;
    if (cli_on(k->a, OPT_NO_ANSWER)) return ROTOR_OK;
    ROTOR_TRY(cli_model_find(&m, k->writer, err));
    rotor_engine_options opt = cli_engine_options(k->a);
    if (cli_rewrites(k->a)) opt.max_sessions = 2;
    const rotor_status st = cli_engine_open(&k->e, k->a, &m, opt, err);
    if (st == ROTOR_OK) cli_say_story_model(k->a, &m);
    cli_model_free(&m);
    if (st == ROTOR_OK) ROTOR_TRY(rotor_session_create(&k->s, k->e, 0, err));
    return st == ROTOR_OK ? cli_grammar_open(&k->grammar, k->a, k->e, err) : st;
}

/* --strict: a store with vectors that cannot be used is not good enough. */
static rotor_status check_legs(const asking *k, rotor_error *err) {
    rotor_rag_info info = {.size = sizeof info};
    for (size_t i = 0; k->c.lexical_only && i < k->stores.n; i++) {
        const cli_store *s = &k->stores.list[i];
        ROTOR_TRY(rotor_rag_get_info(s->r, &info, err));
        if (cli_on(k->a, OPT_STRICT) && info.n_vectors && !s->e && !s->far)
            return base_fail(err, ROTOR_E_STATE,
                             "the store has vectors of %s, which is not open: --embed-model MODEL, "
                             "or without --strict by words only",
                             info.model);
    }
    return ROTOR_OK;
}

/* With what was asked before, which --earlier says. */
static rotor_status rewrite(asking *k, rotor_error *err) {
    const size_t n = k->a->n_many[OPT_EARLIER];
    if (!k->e && n && cli_rewrites(k->a))
        cli_log(k->a, BASE_LOG_WARN,
                "rotor: rag: --rewrite llm needs the model that --no-answer "
                "leaves out; the question stays as it is");
    if (!k->e || !n) return ROTOR_OK;
    rotor_turn *turns = base_alloc_array(n + 1, sizeof *turns);
    if (!turns) return base_fail_nomem(err, "asking");
    for (size_t i = 0; i <= n; i++)
        turns[i] = (rotor_turn){.role = "user",
                                .content = i < n ? k->a->many[OPT_EARLIER][i] : k->question};
    const rotor_status st = cli_rewrite(k->a, k->e, turns, n + 1, &k->rewritten, err);
    base_free(turns);
    return st;
}

static rotor_status find(asking *k, rotor_error *err) {
    const cli_store_how how = {.model = cli_store_query(k->a).mode != ROTOR_RAG_LEXICAL,
                               .writer = k->e};
    rotor_rag_ask_options o = rotor_rag_ask_options_default();
    ROTOR_TRY(cli_stores_open(&k->stores, k->a, cli_word(k->a, 1), &how, err));
    const rotor_rag_query q = cli_stores_query(&k->stores);
    o.budget_tok = (uint32_t)cli_int(k->a, OPT_BUDGET);
    o.answer_tok = (uint32_t)cli_int(k->a, OPT_N_PREDICT);
    o.writer = k->e;
    o.find = &q;
    o.earlier = k->a->many[OPT_EARLIER];
    o.n_earlier = k->a->n_many[OPT_EARLIER];
    o.rewritten = k->rewritten;
    ROTOR_TRY(rotor_rag_gather_all(k->stores.r, k->stores.n, k->question, &o, &k->c, err));
    const cli_gate gate = cli_gate_of(k->a, CLI_GATE_STRICT);
    k->refused = !k->c.relevant && gate == CLI_GATE_STRICT;
    k->grounded = k->c.n && (k->c.relevant || gate == CLI_GATE_ALWAYS);
    return check_legs(k, err);
}

/* ==== Answering =============================================================================== */

static rotor_status make_prompt(asking *k, rotor_error *err) {
    const rotor_chat_options opt = cli_chat_options(k->a);
    const rotor_turn user = {.role = "user", .content = k->question};
    rotor_turn *turns = NULL;
    size_t n = 1;
    if (k->grounded) ROTOR_TRY(rotor_rag_ground(k->e, &k->c, &user, 1, &turns, &n, err));
    const rotor_status st = rotor_chat_prompt(k->e, turns ? turns : &user, n, &opt, &k->ids,
                                              &k->n_ids, &k->prompt, err);
    rotor_free(turns);
    if (st == ROTOR_OK && cli_on(k->a, OPT_SHOW_CONTEXT) && !cli_on(k->a, OPT_JSON))
        cli_log(k->a, BASE_LOG_ERROR, "%s", k->prompt);
    return st;
}

static void show(asking *k, const char *text, size_t n_bytes) {
    size_t n;
    const char *ready = rotor_rag_marks_put(k->marks, text, n_bytes, &n);
    if (!cli_on(k->a, OPT_JSON)) cli_out(ready, n);
}

static bool on_text(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top) {
    asking *k = user;
    (void)token, (void)top, (void)n_top;
    cli_progress_end(&k->progress);
    base_buf_append(&k->said, text, n_bytes);
    show(k, text, n_bytes);
    return cli_finish(k->a, CLI_DONE) == CLI_DONE && !cli_interrupted();
}

static bool on_prompt(void *user, uint32_t done, uint32_t total) {
    return cli_progress_step(&((asking *)user)->progress, done, total);
}

static rotor_status generate(asking *k, rotor_error *err) {
    rotor_gen_options g = cli_gen_options(k->a, k->e, NULL);
    const char **stops = NULL;
    if (!g.max_tokens) g.max_tokens = ANSWER_TOK;
    ROTOR_TRY(cli_chat_stops(k->e, &g, &stops, err));
    g.reply = k->reply;
    g.grammar = k->grammar;
    g.on_text = on_text;
    g.on_prompt = on_prompt;
    g.user = k;
    cli_progress_start(&k->progress, k->a, "reading");
    const rotor_status st = rotor_generate(k->s, k->ids, k->n_ids, &g, &k->result, err);
    cli_progress_end(&k->progress);
    base_free(stops);
    return st;
}

static rotor_status answer(asking *k, rotor_error *err) {
    ROTOR_TRY(make_prompt(k, err));
    ROTOR_TRY(rotor_rag_marks_create(&k->marks, k->grounded ? k->c.n : 0, err));
    if (rotor_chat_has_parts(k->e)) ROTOR_TRY(rotor_reply_create(&k->reply, k->e, NULL, NULL, err));
    ROTOR_TRY(generate(k, err));
    show(k, NULL, 0);
    if (k->said.failed) return base_fail_nomem(err, "keeping the answer");
    const rotor_rag_context none = {0}; /* what was found and not shown cannot be named */
    return rotor_rag_check(k->grounded ? &k->c : &none, k->said.data, k->said.len, &k->checked,
                           err);
}

/* ==== Telling ================================================================================= */

static void put_prompt(json_t *o, const asking *k) {
    json_t *ids = json_array();
    for (size_t i = 0; i < k->n_ids; i++) json_array_append_new(ids, json_integer(k->ids[i]));
    json_object_set_new(o, "prompt", cli_json_text(k->prompt, strlen(k->prompt)));
    json_object_set_new(o, "prompt_ids", ids);
}

static json_t *answer_json(const asking *k) {
    char *text = NULL;
    const bool answered = k->e && !k->refused;
    if (rotor_rag_describe(&k->c, answered ? &k->checked : NULL, &text, NULL) != ROTOR_OK)
        return NULL;
    json_t *o = json_loads(text, 0, NULL);
    rotor_free(text);
    json_object_set_new(o, "question", cli_json_text(k->question, strlen(k->question)));
    json_object_set_new(o, "refused", json_boolean(k->refused));
    json_object_set_new(o, "grounded", json_boolean(k->grounded && !k->refused));
    json_object_set_new(
        o, "answer", answered ? cli_json_text(k->checked.text, k->checked.n_bytes) : json_null());
    if (k->refused) json_object_set_new(o, "code", json_string("not_in_documents"));
    json_object_set_new(o, "search_ms", json_real((double)k->c.search_us / 1e3));
    if (!answered) return o;
    if (cli_on(k->a, OPT_SHOW_CONTEXT)) put_prompt(o, k);
    json_object_set_new(o, "prompt_tokens", json_integer(k->result.n_prompt));
    json_object_set_new(o, "answer_tokens", json_integer((json_int_t)k->result.n_ids));
    return o;
}

static void print_passages(const asking *k) {
    base_buf b = {0};
    for (size_t i = 0; i < k->c.n; i++) {
        base_buf_printf(&b, "[%zu] ", i + 1);
        cli_put_place(&b, &k->c.sources[i].hit, k->stores.n > 1);
        base_buf_puts(&b, "\n");
        cli_put_plain(&b, k->c.sources[i].hit.text);
        base_buf_puts(&b, "\n\n");
    }
    cli_out(b.data, b.len);
    base_buf_free(&b);
}

static int refuse(const asking *k) {
    cli_outf("%s\n", cli_not_in_documents);
    cli_log(k->a, BASE_LOG_INFO,
            "best cosine %.2f, match of words %.2f; --gate always answers from the nearest all the "
            "same, --gate auto without sources",
            (double)k->c.best_cosine, (double)k->c.match);
    return CLI_FAILED;
}

static int print_answer(const asking *k) {
    base_buf line = {0};
    if (!k->said.len || k->said.data[k->said.len - 1] != '\n') base_buf_puts(&line, "\n");
    base_buf_puts(&line, "\n");
    if (k->grounded)
        cli_put_sources(&line, &k->c, &k->checked, k->stores.n > 1);
    else
        base_buf_puts(&line, "No source was used: nothing in the documents is near enough.\n");
    cli_out(line.data, line.len);
    base_buf_reset(&line);
    cli_speed_line(&line, &k->result, rotor_session_len(k->s), rotor_session_max(k->s));
    cli_log(k->a, BASE_LOG_INFO, "%s", line.data ? line.data : "");
    cli_say_full(k->a, &k->result, rotor_session_max(k->s));
    base_buf_free(&line);
    return CLI_DONE;
}

static int tell(const asking *k) {
    if (k->c.lexical_only)
        cli_log(k->a, BASE_LOG_INFO, "by words only: %s has no vectors of an open model",
                k->stores.n > 1 ? "one of the stores" : "the store");
    if (cli_on(k->a, OPT_JSON)) {
        const int status = cli_json_print(k->a, answer_json(k));
        return k->refused ? CLI_FAILED : status;
    }
    if (k->refused) return refuse(k);
    if (k->e) return print_answer(k);
    print_passages(k);
    return CLI_DONE;
}

static void forget(asking *k) {
    rotor_rag_checked_free(&k->checked);
    rotor_rag_marks_free(&k->marks);
    rotor_rag_context_free(&k->c);
    rotor_reply_free(&k->reply);
    rotor_grammar_free(&k->grammar);
    rotor_gen_result_free(&k->result);
    rotor_free(k->ids);
    rotor_free(k->prompt);
    rotor_free(k->rewritten);
    base_buf_free(&k->said);
    rotor_session_free(&k->s);
}

int cli_rag_ask(cli_store *s) {
    rotor_error err = {0};
    asking k = {.a = s->a};
    const size_t n = s->a->n_words;
    if (n != 3 && n != 4)
        return cli_usage(s->a, "rotor rag ask STORE[,STORE…] [MODEL] \"question\"");
    k.writer = n == 4 ? cli_word(s->a, 2) : NULL;
    k.question = cli_word(s->a, n - 1);
    rotor_status st = open_writer(&k, &err);
    cli_catch_interrupt(true);
    if (st == ROTOR_OK) st = rewrite(&k, &err);
    if (st == ROTOR_OK) st = find(&k, &err);
    if (st == ROTOR_OK && !k.refused && k.e) st = answer(&k, &err);
    const int status = st == ROTOR_OK ? tell(&k) : cli_status(s->a, st, &err);
    forget(&k);
    cli_stores_close(&k.stores); /* their models run on the writer's threads */
    rotor_engine_close(&k.e);
    if (cli_interrupted()) cli_die_interrupted();
    return status;
}
