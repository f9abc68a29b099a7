/* SPDX-License-Identifier: MIT
 *
 * rotor run: completes a text. Standard output gets the new text and a final line feed, or one JSON
 * object; the speed line goes to standard error.
 */
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>

typedef struct run_job {
    const cli_args *a;       /* options */
    rotor_engine *e;         /* owned */
    rotor_session *s;        /* owned */
    cli_draft draft;         /* of --draft */
    base_buf prompt;         /* as given */
    uint32_t *ids;           /* [n_ids] tokens of the prompt, owned */
    size_t n_ids;            /* how many */
    char *rendered;          /* prompt after the chat template, owned; NULL without --chat */
    const char **stops;      /* of the options and the template, owned array */
    cli_progress progress;   /* of the prompt */
    rotor_reply *reply;      /* the answer taken apart, owned; NULL: it has no parts */
    rotor_grammar *grammar;  /* what the answer is kept to, owned; NULL: nothing */
    rotor_gen_options gen;   /* settings */
    bool shifted;            /* that the context shifts has been said */
    rotor_gen_result result; /* what came out */
    rotor_engine_info info;  /* of the engine */
} run_job;

static bool print_text(run_job *j, const char *text, size_t n_bytes) {
    if (!cli_on(j->a, OPT_JSON)) {
        cli_out(text, n_bytes);
        if (cli_finish(j->a, CLI_DONE) != CLI_DONE) return false;
    }
    return !cli_interrupted();
}

/* Of an answer with reasoning and calls this is only the answer. */
static bool on_text(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top) {
    run_job *j = user;
    (void)token, (void)top, (void)n_top;
    cli_progress_end(&j->progress);
    return print_text(j, text, n_bytes);
}

/* What is shown of the result; there may be zeros in it. */
static const char *answer_of(const run_job *j, size_t *n_bytes) {
    *n_bytes = j->reply ? rotor_reply_bytes(j->reply, ROTOR_PART_ANSWER) : j->result.n_bytes;
    return j->reply ? rotor_reply_text(j->reply, ROTOR_PART_ANSWER) : j->result.text;
}

/* Beams give an answer only when it is whole. */
static rotor_status finish_beam(run_job *j, rotor_error *err) {
    const rotor_gen_result *r = &j->result;
    for (size_t i = 0; j->reply && i < r->n_ids; i++)
        ROTOR_TRY(rotor_reply_put(j->reply, r->ids[i], err));
    if (j->reply) ROTOR_TRY(rotor_reply_end(j->reply, err));
    size_t n;
    const char *text = answer_of(j, &n);
    on_text(j, text, n, NULL, NULL, 0);
    return ROTOR_OK;
}

static bool on_prompt(void *user, uint32_t done, uint32_t total) {
    return cli_progress_step(&((run_job *)user)->progress, done, total);
}

static void on_shift(void *user, uint32_t n_dropped, uint32_t n_left) {
    run_job *j = user;
    if (!j->shifted)
        cli_log(
            j->a, BASE_LOG_WARN,
            "rotor: run: the context of %u tokens is full: the oldest %u were dropped, %u stay; "
            "-c N makes it larger",
            rotor_session_max(j->s), n_dropped, n_left);
    j->shifted = true;
}

static rotor_status read_prompt(run_job *j, rotor_error *err) {
    const char *text = cli_text(j->a, OPT_PROMPT);
    if (strcmp(text, "-") == 0) return cli_read_stdin(&j->prompt, err);
    return base_buf_puts(&j->prompt, text) ? ROTOR_OK : base_fail_nomem(err, "reading the prompt");
}

/* ==== A session file ==========================================================================
 * Beside the timeline the file's note has the tokens that nothing was asked after: "tail 5,7". */

static rotor_status load_session(run_job *j, uint32_t **tail, size_t *n_tail, rotor_error *err) {
    const char *path = cli_text(j->a, OPT_SESSION);
    char *note = NULL;
    *tail = NULL;
    *n_tail = 0;
    if (base_path_kind_of(path) == BASE_PATH_NONE) return ROTOR_OK;
    ROTOR_TRY(rotor_session_load(j->s, path, &note, err));
    rotor_status st = ROTOR_OK;
    if (strncmp(note, "tail ", 5) == 0)
        st = cli_parse_ids(note + 5, tail, n_tail, err);
    else if (*note)
        st = base_fail(err, ROTOR_E_ARG, "%s holds a conversation; rotor chat --session goes on",
                       path);
    rotor_free(note);
    if (st == ROTOR_OK)
        cli_log(j->a, BASE_LOG_INFO, "session: %s, %zu tokens", path,
                rotor_session_len(j->s) + *n_tail);
    return st;
}

/* Tokens of the result that the timeline does not have yet, its last ones. */
static size_t n_tail(const run_job *j) {
    const rotor_gen_result *r = &j->result;
    const size_t n_cut = j->n_ids - r->n_prompt; /* off the prompt before it began */
    const size_t all = r->n_prompt + r->n_ids + n_cut - r->n_shifted, len = rotor_session_len(j->s);
    return all > len && all - len <= r->n_ids ? all - len : 0;
}

static rotor_status save_session(run_job *j, rotor_error *err) {
    const rotor_gen_result *r = &j->result;
    base_buf note = {0};
    base_buf_puts(&note, "tail ");
    for (size_t n = n_tail(j), i = r->n_ids - n; i < r->n_ids; i++)
        base_buf_printf(&note, "%s%u", i + n > r->n_ids ? "," : "", r->ids[i]);
    rotor_status st = note.failed
                          ? base_fail_nomem(err, "saving the session")
                          : rotor_session_save(j->s, cli_text(j->a, OPT_SESSION),
                                               strcmp(note.data, "tail ") ? note.data : "", err);
    base_buf_free(&note);
    return st;
}

/* The ids of the session file, then those of the prompt. */
static rotor_status put_session_first(run_job *j, rotor_error *err) {
    uint32_t *tail = NULL, *all = NULL;
    size_t n = 0;
    rotor_status st = load_session(j, &tail, &n, err);
    const size_t len = rotor_session_len(j->s);
    if (st == ROTOR_OK && len + n) {
        rotor_free(j->ids); /* without the beginning mark this time */
        j->ids = NULL;
        st = rotor_tokenize(j->e, j->prompt.data ? j->prompt.data : "", j->prompt.len, 0, &j->ids,
                            &j->n_ids, err);
        if (st == ROTOR_OK) all = base_alloc_array(len + n + j->n_ids, sizeof *all);
        if (st == ROTOR_OK && !all) st = base_fail_nomem(err, "continuing a session");
    }
    if (all) {
        memcpy(all, rotor_session_tokens(j->s), len * sizeof *all);
        memcpy(all + len, tail, n * sizeof *all);
        memcpy(all + len + n, j->ids, j->n_ids * sizeof *all);
        rotor_free(j->ids);
        j->ids = all;
        j->n_ids += len + n;
    }
    base_free(tail);
    return st;
}

static rotor_status encode_text(run_job *j, rotor_error *err) {
    ROTOR_TRY(rotor_tokenize(j->e, j->prompt.data, j->prompt.len, ROTOR_TOK_BOS, &j->ids, &j->n_ids,
                             err));
    return cli_text(j->a, OPT_SESSION) ? put_session_first(j, err) : ROTOR_OK;
}

static rotor_status encode_prompt(run_job *j, rotor_error *err) {
    if (!cli_on(j->a, OPT_CHAT)) return encode_text(j, err);
    const rotor_chat_options opt = cli_chat_options(j->a);
    rotor_turn turns[2];
    size_t n = 0;
    if (cli_text(j->a, OPT_SYSTEM))
        turns[n++] = (rotor_turn){.role = "system", .content = cli_text(j->a, OPT_SYSTEM)};
    turns[n++] = (rotor_turn){.role = "user", .content = j->prompt.data};
    if (rotor_chat_has_parts(j->e)) ROTOR_TRY(rotor_reply_create(&j->reply, j->e, NULL, NULL, err));
    return rotor_chat_prompt(j->e, turns, n, &opt, &j->ids, &j->n_ids, &j->rendered, err);
}

static rotor_status choose_keep(run_job *j, rotor_error *err) {
    const uint32_t n_ctx = rotor_session_max(j->s);
    if (cli_int(j->a, OPT_KEEP) > n_ctx / 2)
        return base_fail(err, ROTOR_E_ARG,
                         "--keep %lld: expected at most half of the context, which is %u tokens",
                         (long long)cli_int(j->a, OPT_KEEP), n_ctx);
    j->gen.keep = (uint32_t)cli_int(j->a, OPT_KEEP);
    if (j->gen.keep || !j->rendered) return ROTOR_OK;
    return cli_chat_keep(j->a, j->e, cli_text(j->a, OPT_SYSTEM), j->ids, j->n_ids, n_ctx,
                         &j->gen.keep, err);
}

static rotor_status generate(run_job *j, rotor_error *err) {
    j->gen = cli_gen_options(j->a, j->e, &j->draft);
    j->gen.on_shift = on_shift;
    if (j->gen.full == ROTOR_FULL_SHIFT) ROTOR_TRY(choose_keep(j, err));
    j->gen.on_text = on_text;
    j->gen.on_prompt = on_prompt;
    j->gen.user = j;
    j->gen.ignore_eog = cli_on(j->a, OPT_IGNORE_EOS);
    j->gen.reply = j->reply;
    j->gen.grammar = j->grammar;
    if (cli_on(j->a, OPT_CHAT)) ROTOR_TRY(cli_chat_stops(j->e, &j->gen, &j->stops, err));
    if (cli_on(j->a, OPT_ECHO) && !cli_on(j->a, OPT_JSON)) {
        const char *shown = j->rendered ? j->rendered : j->prompt.data;
        cli_out(shown, j->rendered ? strlen(j->rendered) : j->prompt.len);
    }
    cli_progress_start(&j->progress, j->a, "reading the prompt");
    rotor_status st;
    if (cli_given(j->a, OPT_BEAMS)) {
        st = rotor_generate_beam(j->s, j->ids, j->n_ids, (uint32_t)cli_int(j->a, OPT_BEAMS),
                                 j->gen.max_tokens, j->grammar, &j->result, err);
        if (st == ROTOR_OK) st = finish_beam(j, err);
    } else {
        st = rotor_generate(j->s, j->ids, j->n_ids, &j->gen, &j->result, err);
    }
    cli_progress_end(&j->progress);
    return st;
}

static const char *finish_name(rotor_finish f) {
    static const char *const names[] = {"end", "stop", "length", "context", "cancel"};
    return names[f];
}

static json_t *id_list(const uint32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static json_t *json_text(const char *text) { return cli_json_text(text, strlen(text)); }

static json_t *json_part(const run_job *j, rotor_part part) {
    return cli_json_text(rotor_reply_text(j->reply, part), rotor_reply_bytes(j->reply, part));
}

static void put_parts(const run_job *j, json_t *o) {
    const rotor_tool_call *calls = NULL;
    size_t n = rotor_reply_calls(j->reply, &calls);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *one = json_object();
        json_object_set_new(one, "name", json_text(calls[i].name));
        json_object_set_new(one, "arguments", json_text(calls[i].arguments));
        json_array_append_new(list, one);
    }
    json_object_set_new(o, "reasoning", json_part(j, ROTOR_PART_REASONING));
    json_object_set_new(o, "preamble", json_part(j, ROTOR_PART_PREAMBLE));
    json_object_set_new(o, "tool_calls", list);
}

static void put_checks(const run_job *j, json_t *o) {
    rotor_self_check c = {.size = sizeof c};
    if (rotor_engine_get_self_check(j->e, &c) != ROTOR_OK) return;
    json_t *k = json_object();
    json_object_set_new(k, "steps", json_integer((json_int_t)c.steps));
    json_object_set_new(k, "logits", json_integer((json_int_t)c.logits));
    json_object_set_new(k, "values", json_integer((json_int_t)c.values));
    json_object_set_new(k, "products", json_integer((json_int_t)c.products));
    json_object_set_new(k, "weight_bytes", json_integer((json_int_t)c.weight_bytes));
    json_object_set_new(k, "weight_all_bytes", json_integer((json_int_t)c.weight_all_bytes));
    json_object_set_new(k, "faults", json_integer((json_int_t)c.faults));
    json_object_set_new(k, "share",
                        json_real(c.total_ns ? (double)c.spent_ns / (double)c.total_ns : 0));
    json_object_set_new(o, "self_check", k);
}

static int print_json(run_job *j) {
    const rotor_gen_result *r = &j->result;
    uint32_t fresh = r->n_prompt - r->n_reused;
    size_t n;
    const char *answer = answer_of(j, &n);
    json_t *o = json_object(), *t = json_object();
    json_object_set_new(o, "model", cli_json_text(j->info.name, strlen(j->info.name)));
    json_object_set_new(o, "prompt", cli_json_text(j->prompt.data, j->prompt.len));
    if (j->rendered)
        json_object_set_new(o, "rendered", cli_json_text(j->rendered, strlen(j->rendered)));
    json_object_set_new(o, "prompt_ids", id_list(j->ids, j->n_ids));
    json_object_set_new(o, "text", cli_json_text(answer, n));
    if (j->reply) put_parts(j, o);
    json_object_set_new(o, "ids", id_list(r->ids, r->n_ids));
    json_object_set_new(o, "finish", json_string(finish_name(r->finish)));
    json_object_set_new(o, "shifts", json_integer(r->n_shifts));
    json_object_set_new(o, "shifted_tokens", json_integer(r->n_shifted));
    json_object_set_new(o, "seed", json_integer((json_int_t)j->gen.seed));
    json_object_set_new(t, "prompt_tokens", json_integer(r->n_prompt));
    json_object_set_new(t, "reused_tokens", json_integer(r->n_reused));
    json_object_set_new(t, "prompt_ms", json_real((double)r->prompt_us / 1e3));
    json_object_set_new(t, "prompt_tps", json_real(cli_rate(fresh, r->prompt_us)));
    json_object_set_new(t, "first_token_ms", json_real((double)r->first_us / 1e3));
    json_object_set_new(t, "decode_tokens", json_integer((json_int_t)r->n_ids));
    json_object_set_new(t, "decode_ms", json_real((double)r->decode_us / 1e3));
    json_object_set_new(t, "decode_tps",
                        json_real(cli_rate(r->n_ids ? r->n_ids - 1 : 0, r->decode_us)));
    json_object_set_new(t, "drafted_tokens", json_integer(r->n_drafted));
    json_object_set_new(t, "accepted_tokens", json_integer(r->n_accepted));
    json_object_set_new(o, "timings", t);
    put_checks(j, o);
    return cli_json_print(j->a, o);
}

static int report(run_job *j) {
    const rotor_gen_result *r = &j->result;
    int status = CLI_DONE;
    base_buf line = {0};
    size_t n;
    const char *answer = answer_of(j, &n);
    if (cli_on(j->a, OPT_JSON))
        status = print_json(j);
    else if (!n || answer[n - 1] != '\n')
        cli_outf("\n");
    status = cli_finish(j->a, status);
    cli_speed_line(&line, r, rotor_session_len(j->s), rotor_session_max(j->s));
    cli_log(j->a, BASE_LOG_INFO, "%s", line.data ? line.data : "");
    cli_say_full(j->a, r, rotor_session_max(j->s));
    base_buf_free(&line);
    return status;
}

static rotor_status open_all(run_job *j, const cli_model *m, rotor_error *err) {
    ROTOR_TRY(cli_engine_open(&j->e, j->a, m, cli_engine_options(j->a), err));
    j->info.size = sizeof j->info;
    ROTOR_TRY(rotor_engine_get_info(j->e, &j->info));
    ROTOR_TRY(rotor_session_create(&j->s, j->e, 0, err));
    ROTOR_TRY(cli_grammar_open(&j->grammar, j->a, j->e, err));
    return cli_draft_open(&j->draft, j->a, j->e, j->s, err);
}

int verb_run(const cli_args *a) {
    run_job j = {.a = a};
    cli_model m = {0};
    rotor_error err = {0};
    if (!cli_text(a, OPT_PROMPT))
        return cli_usage(
            a, "nothing to complete: give -p TEXT, or -p - for standard input; rotor chat talks");
    if (cli_given(a, OPT_BEAMS) && !cli_given(a, OPT_N_PREDICT))
        return cli_usage(a, "--beams needs -n N");
    if (cli_text(a, OPT_SESSION) && cli_on(a, OPT_CHAT))
        return cli_usage(a, "--session continues plain texts; rotor chat --session FILE continues "
                            "conversations");
    if (cli_given(a, OPT_BEAMS) && cli_int(a, OPT_ON_FULL))
        return cli_usage(a, "--beams does not go with --on-full shift");
    rotor_status st = cli_model_find(&m, cli_word(a, 0), &err);
    if (st == ROTOR_OK) st = read_prompt(&j, &err);
    if (st == ROTOR_OK) st = open_all(&j, &m, &err);
    if (st == ROTOR_OK) st = encode_prompt(&j, &err);
    cli_catch_interrupt(true);
    if (st == ROTOR_OK) st = generate(&j, &err);
    if (st == ROTOR_OK && cli_text(a, OPT_SESSION)) st = save_session(&j, &err);
    int status = st == ROTOR_OK ? report(&j) : cli_status(a, st, &err);
    rotor_reply_free(&j.reply);
    rotor_grammar_free(&j.grammar);
    rotor_gen_result_free(&j.result);
    rotor_free(j.ids);
    rotor_free(j.rendered);
    base_free(j.stops);
    base_buf_free(&j.prompt);
    cli_draft_close(&j.draft);
    rotor_session_free(&j.s);
    rotor_engine_close(&j.e);
    cli_model_free(&m);
    if (cli_interrupted()) cli_die_interrupted();
    return status;
}
