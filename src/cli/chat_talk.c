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
    if (t->n_gone >= n) t->n_gone = 0;
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
    chat_forget_sources(t);
    cli_stores_close(&t->stores); /* their models run on the threads of the other */
    cli_draft_close(&t->draft);
    rotor_grammar_free(&t->grammar);
    rotor_session_free(&t->s);
    rotor_engine_close(&t->e);
}

/* ==== Answering =============================================================================== */

typedef struct answer {
    chat_talk *t;           /* conversation */
    cli_markdown md;        /* what is on its way to the terminal */
    base_buf out;           /* scratch */
    base_buf said;          /* the text so far, of an answer without parts */
    rotor_reply *reply;     /* of a model that reasons, owned; else NULL */
    rotor_rag_marks *marks; /* numbers of no source are taken out, owned; NULL: no sources */
    bool dimmed;            /* reasoning is on its way to the terminal */
    cli_progress progress;  /* of the prompt */
    uint32_t *ids;          /* [n_ids] prompt, owned; after a shift the shorter one */
    size_t n_ids;           /* how many */
    uint32_t n_said;        /* tokens of the answer so far */
} answer;

static void show(answer *w, const char *text, size_t n_bytes) {
    if (w->marks) text = rotor_rag_marks_put(w->marks, text, n_bytes, &n_bytes);
    base_buf_reset(&w->out);
    cli_markdown_put(&w->md, text, n_bytes, &w->out);
    cli_out(w->out.data, w->out.len);
}

/* Shows what the answer's Markdown has held back, and begins a new line. */
static void end_block(answer *w) {
    if (w->marks) show(w, NULL, 0);
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
    if (token) w->n_said++;
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
    for (size_t i = t->n_gone; i < t->n_turns; i++)
        list[count++] = (rotor_turn){.role = t->turns[i].role,
                                     .content = t->turns[i].text,
                                     .ids = t->turns[i].ids,
                                     .n_ids = t->turns[i].n_ids};
    rotor_turn *grounded = NULL;
    rotor_status st = ROTOR_OK;
    if (t->grounded) st = rotor_rag_ground(t->e, &t->found, list, count, &grounded, &count, err);
    if (st == ROTOR_OK)
        st = rotor_chat_prompt(t->e, grounded ? grounded : list, count, &opt, ids, n, NULL, err);
    rotor_free(grounded);
    base_free(list);
    return st;
}

/* ==== A full context ========================================================================== */

static rotor_status too_long(const chat_talk *t, size_t n, rotor_error *err) {
    return base_fail(err, ROTOR_E_FULL,
                     "the conversation has %zu tokens and the context %u: /undo or /clear makes "
                     "room, -c N at the start makes it larger, --on-full shift drops the oldest "
                     "turns",
                     n, rotor_session_max(t->s));
}

/* Leaves the oldest question and its answer out of what the model sees. False: there is only the
 * newest question. */
static bool drop_oldest_turn(chat_talk *t) {
    for (size_t i = t->n_gone + 1; i < t->n_turns; i++) {
        if (strcmp(t->turns[i].role, "user") != 0) continue;
        t->n_gone = i;
        return true;
    }
    return false;
}

/* Drops turns until prompt and answer so far take half of the context, or one turn is left. */
static rotor_status drop_turns(answer *w, bool *dropped, rotor_error *err) {
    chat_talk *t = w->t;
    *dropped = false;
    while (w->n_ids + w->n_said > rotor_session_max(t->s) / 2 && drop_oldest_turn(t)) {
        uint32_t *ids = NULL;
        size_t n = 0;
        ROTOR_TRY(render(t, &ids, &n, err));
        rotor_free(w->ids);
        w->ids = ids;
        w->n_ids = n;
        *dropped = true;
    }
    return ROTOR_OK;
}

static void tell_turns(chat_talk *t) {
    if (!t->told_shift)
        cli_log(
            &t->a, BASE_LOG_WARN,
            "rotor: chat: the context of %u tokens is full: the model no longer sees the oldest "
            "%zu of %zu messages; /ctx tells how many from now on",
            rotor_session_max(t->s), t->n_gone, t->n_turns);
    t->told_shift = true;
}

static bool on_shorten(void *user, const uint32_t **ids, size_t *n) {
    answer *w = user;
    rotor_error why;
    bool dropped;
    if (drop_turns(w, &dropped, &why) != ROTOR_OK || !dropped) return false;
    tell_turns(w->t);
    *ids = w->ids;
    *n = w->n_ids;
    return true;
}

static void on_shift(void *user, uint32_t n_dropped, uint32_t n_left) {
    chat_talk *t = ((answer *)user)->t;
    if (!t->told_shift)
        cli_log(
            &t->a, BASE_LOG_WARN,
            "rotor: chat: the context of %u tokens is full: the oldest %u were dropped, %u stay",
            rotor_session_max(t->s), n_dropped, n_left);
    t->told_shift = true;
}

/* The prompt of the answer, which leaves room for at least one token. */
static rotor_status make_prompt(answer *w, rotor_error *err) {
    chat_talk *t = w->t;
    bool dropped = false;
    ROTOR_TRY(render(t, &w->ids, &w->n_ids, err));
    if (w->n_ids < rotor_session_max(t->s)) return ROTOR_OK;
    if (cli_int(&t->a, OPT_ON_FULL) == ROTOR_FULL_STOP) return too_long(t, w->n_ids, err);
    ROTOR_TRY(drop_turns(w, &dropped, err));
    if (dropped) tell_turns(t);
    if (w->n_ids < rotor_session_max(t->s)) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FULL,
                     "the message alone has %zu tokens and the context %u: -c N at the start makes "
                     "it larger",
                     w->n_ids, rotor_session_max(t->s));
}

static rotor_status generate(answer *w, rotor_gen_result *r, rotor_error *err) {
    chat_talk *t = w->t;
    rotor_gen_options g = cli_gen_options(&t->a, t->e, &t->draft);
    const char **stops = NULL;
    if (g.full == ROTOR_FULL_SHIFT)
        ROTOR_TRY(cli_chat_keep(&t->a, t->e, t->system, w->ids, w->n_ids, rotor_session_max(t->s),
                                &g.keep, err));
    ROTOR_TRY(cli_chat_stops(t->e, &g, &stops, err));
    g.reply = w->reply;
    g.grammar = t->grammar;
    g.on_shorten = on_shorten;
    g.on_shift = on_shift;
    g.on_text = on_text;
    g.on_prompt = on_prompt;
    g.user = w;
    cli_markdown_init(&w->md, t->styled);
    cli_progress_start(&w->progress, &t->a, "reading");
    rotor_status st = rotor_generate(t->s, w->ids, w->n_ids, &g, r, err);
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
    cli_say_full(&t->a, r, rotor_session_max(t->s));
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

/* What the store has for the question. *refused: it has been said that there is nothing. */
static rotor_status find_sources(answer *w, bool *refused, rotor_error *err) {
    chat_talk *t = w->t;
    uint32_t *ids = NULL;
    size_t n = 0;
    *refused = false;
    chat_forget_sources(t);
    if (!t->stores.n || t->rag_off) return ROTOR_OK;
    ROTOR_TRY(render(t, &ids, &n, err));
    rotor_free(ids);
    ROTOR_TRY(chat_find_sources(t, n, refused, err));
    if (*refused) return chat_add(t, "assistant", cli_not_in_documents, err);
    return t->grounded ? rotor_rag_marks_create(&w->marks, t->found.n, err) : ROTOR_OK;
}

static rotor_status check_sources(const answer *w, rotor_error *err) {
    const char *text = w->reply ? rotor_reply_text(w->reply, ROTOR_PART_ANSWER) : w->said.data;
    const size_t n = w->reply ? rotor_reply_bytes(w->reply, ROTOR_PART_ANSWER) : w->said.len;
    return w->t->found.inside ? chat_check_sources(w->t, text ? text : "", n, err) : ROTOR_OK;
}

rotor_status chat_answer(chat_talk *t, rotor_error *err) {
    rotor_gen_result r = {0};
    answer w = {.t = t};
    bool refused;
    cli_clear_interrupt();
    rotor_status st = find_sources(&w, &refused, err);
    if (st == ROTOR_OK && refused) return ROTOR_OK;
    if (st == ROTOR_OK) st = make_prompt(&w, err);
    if (st == ROTOR_OK && rotor_chat_has_parts(t->e))
        st = rotor_reply_create(&w.reply, t->e, on_piece, &w, err);
    if (st == ROTOR_OK) st = generate(&w, &r, err);
    t->stopped = cli_interrupted();
    cli_clear_interrupt();
    if (st == ROTOR_E_CANCELLED)
        st = ROTOR_OK; /* stopped while it read the prompt */
    else if (st == ROTOR_OK)
        note_speed(t, &r);
    const bool begun = w.said.len || (w.reply && rotor_reply_bytes(w.reply, ROTOR_PART_ANSWER));
    if (st == ROTOR_OK) st = check_sources(&w, err);
    if (st == ROTOR_OK)
        st = keep(t, &w, &r, err);
    else if (begun)
        (void)keep(t, &w, &r, NULL); /* as far as it came */
    rotor_rag_marks_free(&w.marks);
    rotor_reply_free(&w.reply);
    base_buf_free(&w.said);
    base_buf_free(&w.out);
    rotor_gen_result_free(&r);
    rotor_free(w.ids);
    return st;
}

/* ==== The file ================================================================================ */

static json_t *id_list(const chat_turn *turn) {
    json_t *list = json_array();
    for (size_t i = 0; i < turn->n_ids; i++)
        json_array_append_new(list, json_integer(turn->ids[i]));
    return list;
}

/* with_ids: the tokens of answers in parts, too, which go with a cache. */
static json_t *to_json(const chat_talk *t, bool with_ids) {
    json_t *root = json_object(), *list = json_array();
    json_object_set_new(root, "rotor_chat", json_integer(1));
    json_object_set_new(root, "model", cli_json_text(t->info.name, strlen(t->info.name)));
    if (t->system) json_object_set_new(root, "system", cli_json_text(t->system, strlen(t->system)));
    for (size_t i = 0; i < t->n_turns; i++) {
        const char *text = t->turns[i].text;
        json_t *one = json_object();
        json_object_set_new(one, "role", json_string(t->turns[i].role));
        json_object_set_new(one, "content", cli_json_text(text, strlen(text)));
        if (with_ids && t->turns[i].ids) json_object_set_new(one, "ids", id_list(&t->turns[i]));
        json_array_append_new(list, one);
    }
    json_object_set_new(root, "messages", list);
    if (with_ids) json_object_set_new(root, "gone", json_integer((json_int_t)t->n_gone));
    return root;
}

static int to_buffer(const char *p, size_t n_bytes, void *user) {
    return base_buf_append(user, p, n_bytes) ? 0 : -1;
}

rotor_status chat_save(const chat_talk *t, const char *path, rotor_error *err) {
    json_t *root = to_json(t, false);
    base_buf text = {0};
    base_out out;
    bool ok = json_dump_callback(root, to_buffer, &text, JSON_INDENT(2)) == 0 &&
              base_buf_puts(&text, "\n");
    json_decref(root);
    rotor_status st = ok ? base_out_open_private(&out, path, err) : base_fail_nomem(err, "saving");
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

/* What an answer was as tokens; ids that the model does not have mean that it is not known. */
static rotor_status take_ids(chat_talk *t, const json_t *list, rotor_error *err) {
    chat_turn *turn = &t->turns[t->n_turns - 1];
    const size_t n = json_array_size(list);
    if (!n) return ROTOR_OK;
    turn->ids = base_alloc_array(n, sizeof *turn->ids);
    if (!turn->ids) return base_fail_nomem(err, "keeping the conversation");
    for (turn->n_ids = 0; turn->n_ids < n; turn->n_ids++) {
        const json_int_t id = json_integer_value(json_array_get(list, turn->n_ids));
        if (id < 0 || id >= (json_int_t)t->info.n_vocab) {
            rotor_free(turn->ids);
            turn->ids = NULL;
            turn->n_ids = 0;
            break;
        }
        turn->ids[turn->n_ids] = (uint32_t)id;
    }
    return ROTOR_OK;
}

static rotor_status take_messages(chat_talk *t, const json_t *root, rotor_error *err) {
    const json_t *list = json_object_get(root, "messages"), *one;
    const json_int_t gone = json_integer_value(json_object_get(root, "gone"));
    size_t i;
    chat_cut(t, 0);
    ROTOR_TRY(chat_set_system(t, json_string_value(json_object_get(root, "system")), err));
    json_array_foreach(list, i, one) {
        ROTOR_TRY(chat_add(t, json_string_value(json_object_get(one, "role")),
                           json_string_value(json_object_get(one, "content")), err));
        ROTOR_TRY(take_ids(t, json_object_get(one, "ids"), err));
    }
    if (gone > 0 && (size_t)gone < t->n_turns) t->n_gone = (size_t)gone;
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

/* ==== The whole session: the conversation and the cache ========================================
 * The conversation, as above and with the tokens of its answers, is the note of a session file. */

rotor_status chat_save_session(const chat_talk *t, const char *path, rotor_error *err) {
    json_t *root = to_json(t, true);
    base_buf text = {0};
    const bool ok = json_dump_callback(root, to_buffer, &text, JSON_COMPACT) == 0;
    json_decref(root);
    const rotor_status st =
        ok ? rotor_session_save(t->s, path, text.data, err) : base_fail_nomem(err, "saving");
    base_buf_free(&text);
    return st;
}

rotor_status chat_load_session(chat_talk *t, const char *path, rotor_error *err) {
    char *note = NULL;
    json_error_t why;
    ROTOR_TRY(rotor_session_load(t->s, path, &note, err));
    json_t *root = json_loads(note, 0, &why);
    rotor_free(note);
    const rotor_status st = well_formed(root)
                                ? take_messages(t, root, err)
                                : base_fail(err, ROTOR_E_FORMAT,
                                            "%s: a session without a conversation; rotor run "
                                            "--session goes on with it",
                                            path);
    json_decref(root);
    return st;
}

bool chat_is_session(const char *path) {
    base_file f;
    if (base_file_open(&f, path, true, NULL) != ROTOR_OK) return false;
    const bool is = f.size > 8 && memcmp(f.data, "RotorSes", 8) == 0;
    base_file_close(&f);
    return is;
}
