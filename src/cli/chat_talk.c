/* SPDX-License-Identifier: MIT
 *
 * A conversation: its turns, its answers, its file.
 *
 * Every answer renders the whole conversation with the model's template; the library keeps what the
 * cache already holds, so only the new turn is computed. An answer that Ctrl-C stopped is kept as
 * far as it came. Turns change only on success.
 */
#include "cli/chat_talk.h"
#include "cli/markdown.h"

#include <jansson.h>

void chat_cut(chat_talk *t, size_t n) {
    while (t->n_turns > n) {
        chat_turn *turn = &t->turns[--t->n_turns];
        base_free(turn->role);
        base_free(turn->text);
        rotor_free(turn->ids);
    }
}

rotor_status chat_add(chat_talk *t, const char *role, const char *text, rotor_error *err) {
    if (t->n_turns == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 16;
        chat_turn *more = base_realloc(t->turns, cap * sizeof *more);
        if (!more) return base_fail_nomem(err, "keeping the conversation");
        t->turns = more;
        t->cap = cap;
    }
    chat_turn turn = {.role = base_strdup(role), .text = base_strdup(text)};
    if (!turn.role || !turn.text) {
        base_free(turn.role);
        base_free(turn.text);
        return base_fail_nomem(err, "keeping the conversation");
    }
    t->turns[t->n_turns++] = turn;
    return ROTOR_OK;
}

rotor_status chat_set_system(chat_talk *t, const char *text, rotor_error *err) {
    char *copy = text && *text ? base_strdup(text) : NULL;
    if (text && *text && !copy) return base_fail_nomem(err, "keeping the system prompt");
    base_free(t->system);
    t->system = copy;
    return ROTOR_OK;
}

void chat_free(chat_talk *t) {
    chat_cut(t, 0);
    base_free(t->turns);
    base_free(t->system);
    base_buf_free(&t->attached);
    base_buf_free(&t->edited);
    base_buf_free(&t->speed);
    cli_draft_close(&t->draft);
    rotor_session_free(&t->s);
    rotor_engine_close(&t->e);
}

/* ==== Answering =============================================================================== */

typedef struct answer {
    chat_talk *t;          /* conversation */
    cli_markdown md;       /* what is on its way to the terminal */
    base_buf out;          /* scratch */
    base_buf said;         /* the text so far, of an answer without parts */
    rotor_reply *reply;    /* of a model that reasons, owned; else NULL */
    bool dimmed;           /* reasoning is on its way to the terminal */
    cli_progress progress; /* of the prompt */
} answer;

static void show(answer *w, const char *text, size_t n_bytes) {
    base_buf_reset(&w->out);
    cli_markdown_put(&w->md, text, n_bytes, &w->out);
    cli_out(w->out.data, w->out.len);
}

/* Shows what the answer's Markdown has held back, and begins a new line. */
static void end_block(answer *w) {
    base_buf_reset(&w->out);
    cli_markdown_end(&w->md, &w->out);
    base_buf_puts(&w->out, "\n");
    cli_out(w->out.data, w->out.len);
}

static bool shows_reasoning(const chat_talk *t) {
    enum { DIM, SHOW }; /* as --think lists them */
    int64_t how = cli_int(&t->a, OPT_THINK);
    return how == SHOW || (how == DIM && t->styled);
}

/* The model's text without the control characters that a terminal would obey, in w->out. */
static void keep_plain(answer *w, const char *text, size_t n_bytes) {
    base_buf_reset(&w->out);
    for (size_t i = 0; i < n_bytes;) {
        int32_t cp;
        size_t n = (size_t)base_utf8_decode(text + i, n_bytes - i, &cp);
        bool control = (cp < 32 && cp != '\n' && cp != '\t') || (cp >= 127 && cp < 160);
        if (!control) base_buf_append(&w->out, text + i, n);
        i += n;
    }
}

/* Reasoning is plain text, dimmed where there are styles. */
static void show_reasoning(answer *w, const rotor_piece *piece) {
    if (!shows_reasoning(w->t)) return;
    if (piece->begins && w->t->styled) cli_outf("\033[2m");
    w->dimmed = !piece->ends;
    if (w->t->styled) {
        keep_plain(w, piece->text, piece->n_bytes);
        cli_out(w->out.data, w->out.len);
    } else {
        cli_out(piece->text, piece->n_bytes);
    }
    if (piece->ends) cli_outf(w->t->styled ? "\033[0m\n" : "\n");
}

static void tell_call(answer *w, const char *name) {
    keep_plain(w, name, strlen(name));
    cli_log(&w->t->a, BASE_LOG_WARN, "rotor: the model calls %.*s; there are no tools here",
            (int)w->out.len, w->out.data ? w->out.data : "");
}

static void on_piece(void *user, const rotor_piece *piece) {
    answer *w = user;
    if (piece->part == ROTOR_PART_REASONING)
        show_reasoning(w, piece);
    else if (piece->part == ROTOR_PART_CALL && piece->ends)
        tell_call(w, piece->name);
    else if (piece->part == ROTOR_PART_PREAMBLE && piece->ends)
        end_block(w);
    else if (piece->part != ROTOR_PART_CALL)
        show(w, piece->text, piece->n_bytes);
}

static bool on_text(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top) {
    answer *w = user;
    (void)token, (void)top, (void)n_top;
    cli_progress_end(&w->progress);
    if (!w->reply) { /* else its pieces have been shown */
        show(w, text, n_bytes);
        base_buf_append(&w->said, text, n_bytes);
    }
    return cli_finish(&w->t->a, CLI_DONE) == CLI_DONE && !cli_interrupted();
}

static bool on_prompt(void *user, uint32_t done, uint32_t total) {
    return cli_progress_step(&((answer *)user)->progress, done, total);
}

static rotor_status render(const chat_talk *t, uint32_t **ids, size_t *n, rotor_error *err) {
    const rotor_chat_options opt = cli_chat_options(&t->a);
    rotor_turn *list = base_alloc_array(t->n_turns + 1, sizeof *list);
    size_t count = 0;
    if (!list) return base_fail_nomem(err, "rendering the conversation");
    if (t->system) list[count++] = (rotor_turn){.role = "system", .content = t->system};
    for (size_t i = 0; i < t->n_turns; i++)
        list[count++] = (rotor_turn){.role = t->turns[i].role,
                                     .content = t->turns[i].text,
                                     .ids = t->turns[i].ids,
                                     .n_ids = t->turns[i].n_ids};
    rotor_status st = rotor_chat_prompt(t->e, list, count, &opt, ids, n, NULL, err);
    base_free(list);
    if (st == ROTOR_OK && *n >= rotor_session_max(t->s)) {
        st = base_fail(
            err, ROTOR_E_FULL,
            "the conversation has %zu tokens and the context %u: /undo or /clear makes room, "
            "-c N at the start makes it larger",
            *n, rotor_session_max(t->s));
        rotor_free(*ids);
        *ids = NULL;
    }
    return st;
}

static rotor_status generate(answer *w, const uint32_t *ids, size_t n, rotor_gen_result *r,
                             rotor_error *err) {
    chat_talk *t = w->t;
    rotor_gen_options g = cli_gen_options(&t->a, t->e, &t->draft);
    const char **stops = NULL;
    ROTOR_TRY(cli_chat_stops(t->e, &g, &stops, err));
    g.reply = w->reply;
    g.on_text = on_text;
    g.on_prompt = on_prompt;
    g.user = w;
    cli_markdown_init(&w->md, t->styled);
    cli_progress_start(&w->progress, &t->a, "reading");
    rotor_status st = rotor_generate(t->s, ids, n, &g, r, err);
    cli_progress_end(&w->progress);
    if (w->dimmed && t->styled) cli_outf("\033[0m");
    end_block(w);
    cli_finish(&t->a, CLI_DONE);
    base_free(stops);
    return st;
}

static void note_speed(chat_talk *t, const rotor_gen_result *r) {
    t->n_answers++;
    t->n_decoded += r->n_ids ? r->n_ids - 1 : 0;
    t->decode_us += r->decode_us;
    base_buf_reset(&t->speed);
    cli_speed_line(&t->speed, r, rotor_session_len(t->s), rotor_session_max(t->s));
    if (t->terminal)
        cli_log(&t->a, BASE_LOG_INFO, t->styled ? "\033[2m%s\033[0m" : "%s",
                t->speed.data ? t->speed.data : "");
    if (r->finish == ROTOR_FINISH_FULL)
        cli_log(&t->a, BASE_LOG_WARN,
                "rotor: the context of %u tokens is full: /undo or /clear makes room",
                rotor_session_max(t->s));
}

/* The answer as a turn; one in parts keeps its ids, which the next prompt repeats, unless there is
 * a stop text among them. */
static rotor_status keep(chat_talk *t, const answer *w, rotor_gen_result *r, rotor_error *err) {
    const char *text = w->reply ? rotor_reply_text(w->reply, ROTOR_PART_ANSWER) : w->said.data;
    ROTOR_TRY(chat_add(t, "assistant", text ? text : "", err));
    if (!w->reply || r->finish == ROTOR_FINISH_STOP) return ROTOR_OK;
    chat_turn *turn = &t->turns[t->n_turns - 1];
    turn->ids = r->ids;
    turn->n_ids = r->n_ids;
    r->ids = NULL;
    r->n_ids = 0;
    return ROTOR_OK;
}

rotor_status chat_answer(chat_talk *t, rotor_error *err) {
    uint32_t *ids = NULL;
    size_t n = 0;
    rotor_gen_result r = {0};
    answer w = {.t = t};
    ROTOR_TRY(render(t, &ids, &n, err));
    cli_clear_interrupt();
    rotor_status st = ROTOR_OK;
    if (rotor_chat_has_parts(t->e)) st = rotor_reply_create(&w.reply, t->e, on_piece, &w, err);
    if (st == ROTOR_OK) st = generate(&w, ids, n, &r, err);
    t->stopped = cli_interrupted();
    cli_clear_interrupt();
    if (st == ROTOR_E_CANCELLED)
        st = ROTOR_OK; /* stopped while it read the prompt */
    else if (st == ROTOR_OK)
        note_speed(t, &r);
    const bool begun = w.said.len || (w.reply && rotor_reply_bytes(w.reply, ROTOR_PART_ANSWER));
    if (st == ROTOR_OK)
        st = keep(t, &w, &r, err);
    else if (begun)
        (void)keep(t, &w, &r, NULL); /* as far as it came */
    rotor_reply_free(&w.reply);
    base_buf_free(&w.said);
    base_buf_free(&w.out);
    rotor_gen_result_free(&r);
    rotor_free(ids);
    return st;
}

/* ==== The file ================================================================================ */

static json_t *to_json(const chat_talk *t) {
    json_t *root = json_object(), *list = json_array();
    json_object_set_new(root, "rotor_chat", json_integer(1));
    json_object_set_new(root, "model", cli_json_text(t->info.name, strlen(t->info.name)));
    if (t->system) json_object_set_new(root, "system", cli_json_text(t->system, strlen(t->system)));
    for (size_t i = 0; i < t->n_turns; i++) {
        const char *text = t->turns[i].text;
        json_t *one = json_object();
        json_object_set_new(one, "role", json_string(t->turns[i].role));
        json_object_set_new(one, "content", cli_json_text(text, strlen(text)));
        json_array_append_new(list, one);
    }
    json_object_set_new(root, "messages", list);
    return root;
}

static int to_buffer(const char *p, size_t n_bytes, void *user) {
    return base_buf_append(user, p, n_bytes) ? 0 : -1;
}

rotor_status chat_save(const chat_talk *t, const char *path, rotor_error *err) {
    json_t *root = to_json(t);
    base_buf text = {0};
    base_out out;
    bool ok = json_dump_callback(root, to_buffer, &text, JSON_INDENT(2)) == 0 &&
              base_buf_puts(&text, "\n");
    json_decref(root);
    rotor_status st = ok ? base_out_open(&out, path, err) : base_fail_nomem(err, "saving");
    if (st == ROTOR_OK) {
        st = base_out_write(&out, text.data, text.len, err);
        if (st == ROTOR_OK)
            st = base_out_commit(&out, err);
        else
            base_out_abort(&out);
    }
    base_buf_free(&text);
    return st;
}

static rotor_status take_messages(chat_talk *t, const json_t *root, rotor_error *err) {
    const json_t *list = json_object_get(root, "messages"), *one;
    size_t i;
    chat_cut(t, 0);
    ROTOR_TRY(chat_set_system(t, json_string_value(json_object_get(root, "system")), err));
    json_array_foreach(list, i, one)
        ROTOR_TRY(chat_add(t, json_string_value(json_object_get(one, "role")),
                           json_string_value(json_object_get(one, "content")), err));
    return ROTOR_OK;
}

static bool well_formed(const json_t *root) {
    const json_t *list = json_object_get(root, "messages"), *one;
    size_t i;
    if (!json_is_array(list)) return false;
    json_array_foreach(list, i,
                       one) if (!json_is_string(json_object_get(one, "role")) ||
                                !json_is_string(json_object_get(one, "content"))) return false;
    return true;
}

rotor_status chat_load(chat_talk *t, const char *path, rotor_error *err) {
    base_file f;
    json_error_t why;
    ROTOR_TRY(base_file_open(&f, path, false, err));
    json_t *root = json_loadb(f.data ? (const char *)f.data : "", f.size, 0, &why);
    base_file_close(&f);
    rotor_status st = well_formed(root) ? take_messages(t, root, err)
                                        : base_fail(err, ROTOR_E_FORMAT,
                                                    "%s: expected a file that /save wrote", path);
    json_decref(root);
    return st;
}
