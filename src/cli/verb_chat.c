/* SPDX-License-Identifier: MIT
 *
 * rotor chat: reads messages and commands until the end. On a terminal there is editing, history, a
 * context meter in the prompt and Markdown in the answers; piped, one message a line comes in and
 * only answers go out.
 *
 * Ctrl-C while an answer runs stops the answer. At the prompt the first one drops the line, and one
 * that follows another leaves.
 */
#include "cli/chat_talk.h"
#include "cli/term.h"

#include <stdio.h>
#include <stdlib.h>

/* The file of earlier inputs, its folder made; NULL: none wanted or possible. */
static char *history_path(const cli_args *a) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    base_buf dir = {0};
    char *path = NULL;
    if (cli_on(a, OPT_NO_HISTORY)) return NULL;
    if (state && *state)
        base_buf_printf(&dir, "%s/rotor", state);
    else if (home && *home)
        base_buf_printf(&dir, "%s/.local/state/rotor", home);
    if (dir.data && base_mkdirs(dir.data, NULL) == ROTOR_OK)
        path = base_path_join(dir.data, "history");
    base_buf_free(&dir);
    return path;
}

/* --session: takes up the conversation of that file, if it exists. */
static rotor_status resume(chat_talk *t, rotor_error *err) {
    const char *path = cli_text(&t->a, OPT_SESSION);
    if (!path || base_path_kind_of(path) == BASE_PATH_NONE) return ROTOR_OK;
    ROTOR_TRY(chat_load_session(t, path, err));
    if (cli_text(&t->a, OPT_SYSTEM))
        ROTOR_TRY(chat_set_system(t, cli_text(&t->a, OPT_SYSTEM), err));
    cli_log(&t->a, BASE_LOG_INFO, "session: %s, %zu messages, %u tokens", path, t->n_turns,
            rotor_session_len(t->s));
    return ROTOR_OK;
}

static rotor_status open_talk(chat_talk *t, const cli_args *a, rotor_error *err) {
    cli_model m;
    t->a = *a;
    t->terminal = cli_is_terminal(0) && cli_is_terminal(1);
    t->styled = cli_wants_colour(cli_text(a, OPT_COLOR), cli_is_terminal(1), getenv("NO_COLOR"),
                                 getenv("TERM"));
    ROTOR_TRY(cli_model_find(&m, cli_word(a, 0), err));
    rotor_engine_options opt = cli_engine_options(a);
    if (cli_text(a, OPT_RAG) && cli_rewrites(a)) opt.max_sessions = 2;
    rotor_status st = cli_engine_open(&t->e, a, &m, opt, err);
    if (st == ROTOR_OK && cli_text(a, OPT_RAG)) cli_say_story_model(a, &m);
    cli_model_free(&m);
    if (st != ROTOR_OK) return st;
    t->info.size = sizeof t->info;
    ROTOR_TRY(rotor_engine_get_info(t->e, &t->info));
    ROTOR_TRY(rotor_session_create(&t->s, t->e, 0, err));
    ROTOR_TRY(cli_draft_open(&t->draft, a, t->e, t->s, err));
    ROTOR_TRY(cli_grammar_open(&t->grammar, a, t->e, err));
    ROTOR_TRY(chat_open_store(t, err));
    if (cli_text(a, OPT_SYSTEM)) ROTOR_TRY(chat_set_system(t, cli_text(a, OPT_SYSTEM), err));
    ROTOR_TRY(resume(t, err));
    if (t->terminal)
        cli_log(a, BASE_LOG_INFO, "Type a message; /help lists commands, Ctrl-D leaves.");
    return ROTOR_OK;
}

static rotor_status talk_once(chat_talk *t, const base_buf *message, rotor_error *err) {
    base_buf_puts(&t->attached, message->data);
    if (t->attached.failed) return base_fail_nomem(err, "keeping the message");
    rotor_status st = chat_add(t, "user", t->attached.data, err);
    base_buf_reset(&t->attached);
    if (st != ROTOR_OK) return st;
    const size_t n = t->n_turns;
    st = chat_answer(t, err);
    if (st != ROTOR_OK && t->n_turns == n) chat_cut(t, n - 1);
    return st;
}

/* False: the second Ctrl-C in a row. */
static bool interrupted_at_prompt(chat_talk *t) {
    cli_clear_interrupt();
    if (t->stopped) return false;
    t->stopped = true;
    cli_log(&t->a, BASE_LOG_INFO, "Ctrl-C again or Ctrl-D leaves");
    return true;
}

static rotor_status talk(chat_talk *t, cli_term *term, rotor_error *err) {
    base_buf message = {0};
    rotor_status st = ROTOR_OK;
    while (!t->leave) {
        char prompt[48];
        snprintf(prompt, sizeof prompt, "[%u/%u] > ", rotor_session_len(t->s),
                 rotor_session_max(t->s));
        cli_read got = cli_term_read(term, prompt, &message);
        if (got == CLI_READ_END) break;
        if (got == CLI_READ_FAILED) st = base_fail_nomem(err, "reading a message");
        if (got == CLI_READ_FAILED || (got == CLI_READ_INTERRUPT && !interrupted_at_prompt(t)))
            break;
        if (got == CLI_READ_INTERRUPT) continue;
        t->stopped = false;
        if (strspn(message.data ? message.data : "", " \t\n") == message.len) continue;
        if (message.data[0] == '/') {
            base_buf_reset(&t->edited);
            chat_command(t, message.data);
            if (!t->edited.len) continue;
            cli_outf("%s\n", t->edited.data); /* so that the conversation can be read */
        }
        st = talk_once(t, t->edited.len ? &t->edited : &message, err);
        base_buf_reset(&t->edited);
        if (st != ROTOR_OK && t->terminal) { /* said, and the conversation goes on */
            cli_fail(&t->a, err);
            st = ROTOR_OK;
        }
        if (st != ROTOR_OK) break;
    }
    base_buf_free(&message);
    return st;
}

int verb_chat(const cli_args *a) {
    chat_talk t = {0};
    cli_term *term = NULL;
    rotor_error err = {0};
    rotor_status st = open_talk(&t, a, &err);
    cli_catch_interrupt(true);
    if (st == ROTOR_OK) {
        char *history = history_path(a);
        cli_term_options opt = {.history_path = history,
                                .history_lines = 1000,
                                .in_fd = 0,
                                .out_fd = 1,
                                .interrupted = cli_interrupted,
                                .edit = cli_edit_text};
        st = cli_term_open(&term, &opt, &err);
        base_free(history);
    }
    if (st == ROTOR_OK) {
        st = talk(&t, term, &err);
        rotor_error why;
        if (cli_text(a, OPT_SESSION) && t.n_turns &&
            chat_save_session(&t, cli_text(a, OPT_SESSION), &why) != ROTOR_OK) {
            cli_fail(a, &why);
            if (st == ROTOR_OK) st = base_fail(&err, why.code, "the session was not saved");
        }
    }
    cli_term_close(&term);
    chat_free(&t);
    return cli_status(a, st, &err);
}
