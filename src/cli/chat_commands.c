/* SPDX-License-Identifier: MIT
 *
 * The slash commands of rotor chat. What they say goes to standard error, except for answers
 * (/regen), so that a piped conversation stays clean.
 */
#include "cli/chat_talk.h"

#include <ctype.h>
#include <stdio.h>

typedef struct command {
    const char *name, *argument, *help;              /* as listed by /help */
    void (*run)(chat_talk *t, const char *argument); /* argument: rest of the line, trimmed */
} command;

static void say(const chat_talk *t, const char *fmt, ...) BASE_PRINTF(2, 3);
static void say(const chat_talk *t, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    cli_log(&t->a, BASE_LOG_ERROR, "%s", line);
}

static void say_result(const chat_talk *t, rotor_status st, const rotor_error *err) {
    if (st != ROTOR_OK) say(t, "rotor: %s", err->message);
}

/* ==== Conversation ============================================================================ */

static void do_clear(chat_talk *t, const char *argument) {
    (void)argument;
    chat_cut(t, 0);
    base_buf_reset(&t->attached);
    rotor_session_rewind(t->s, 0);
    say(t, "cleared; the system prompt stays");
}

static void do_system(chat_talk *t, const char *argument) {
    rotor_error err;
    if (*argument) say_result(t, chat_set_system(t, argument, &err), &err);
    say(t, "system: %s", t->system ? t->system : "(none)");
}

static bool last_is(const chat_talk *t, const char *role) {
    return t->n_turns && strcmp(t->turns[t->n_turns - 1].role, role) == 0;
}

static void do_regen(chat_talk *t, const char *argument) {
    rotor_error err;
    (void)argument;
    if (last_is(t, "assistant")) chat_cut(t, t->n_turns - 1);
    if (!last_is(t, "user"))
        say(t, "nothing to answer again");
    else
        say_result(t, chat_answer(t, &err), &err);
}

static void do_undo(chat_talk *t, const char *argument) {
    (void)argument;
    if (!t->n_turns) {
        say(t, "nothing to take back");
        return;
    }
    if (last_is(t, "assistant")) chat_cut(t, t->n_turns - 1);
    if (last_is(t, "user")) chat_cut(t, t->n_turns - 1);
    say(t, "took back the last turn; %zu left", t->n_turns / 2);
}

static void do_read(chat_talk *t, const char *argument) {
    rotor_error err;
    base_file f;
    if (!*argument) {
        say(t, "which file? /read FILE");
        return;
    }
    if (base_file_open(&f, argument, false, &err) != ROTOR_OK) {
        say(t, "rotor: %s", err.message);
        return;
    }
    if (f.data && memchr(f.data, 0, f.size)) {
        say(t, "%s is not a text file", argument);
    } else {
        base_buf_printf(&t->attached, "%s:\n", argument);
        base_buf_append(&t->attached, f.data, f.size);
        base_buf_puts(&t->attached, "\n\n");
        say(t, "%s (%zu bytes) goes in front of the next message", argument, f.size);
    }
    base_file_close(&f);
}

static void do_edit(chat_talk *t, const char *argument) {
    rotor_error err;
    if (!t->terminal) {
        say(t, "/edit needs a terminal");
        return;
    }
    base_buf_reset(&t->edited);
    if (cli_edit_text(argument, &t->edited, &err) != ROTOR_OK) {
        base_buf_reset(&t->edited);
        say(t, "rotor: %s", err.message);
    } else if (strspn(t->edited.data ? t->edited.data : "", " \t\n") == t->edited.len) {
        base_buf_reset(&t->edited);
        say(t, "nothing written, nothing sent");
    }
}

static bool names_session(const char *path) {
    static const char end[] = ".session";
    const size_t n = strlen(path), m = sizeof end - 1;
    return n > m && strcmp(path + n - m, end) == 0;
}

static void do_save(chat_talk *t, const char *argument) {
    rotor_error err;
    if (!*argument)
        say(t, "which file? /save FILE");
    else if ((names_session(argument) ? chat_save_session(t, argument, &err)
                                      : chat_save(t, argument, &err)) == ROTOR_OK)
        say(t, "saved to %s", argument);
    else
        say(t, "rotor: %s", err.message);
}

static void do_load(chat_talk *t, const char *argument) {
    rotor_error err;
    if (!*argument)
        say(t, "which file? /load FILE");
    else if ((chat_is_session(argument) ? chat_load_session(t, argument, &err)
                                        : chat_load(t, argument, &err)) == ROTOR_OK)
        say(t, "loaded %zu messages from %s", t->n_turns, argument);
    else
        say(t, "rotor: %s", err.message);
}

/* ==== Settings ================================================================================ */

static const cli_opt settable[] = {OPT_TEMP,   OPT_TOP_K, OPT_TOP_P,     OPT_MIN_P,
                                   OPT_REPEAT, OPT_SEED,  OPT_N_PREDICT, OPT_EFFORT};

static const char *setting_at(const void *ctx, size_t i) {
    (void)ctx;
    return i < BASE_COUNT(settable) ? cli_options[settable[i]].name : NULL;
}

/* The text that was typed is gone by now, its place in the list is not. */
static const char *choice_of(const chat_talk *t, cli_opt o, char name[16]) {
    const char *at = cli_options[o].choices;
    for (int64_t i = cli_int(&t->a, o); i > 0; i--) at += strcspn(at, "|") + 1;
    snprintf(name, 16, "%.*s", (int)strcspn(at, "|"), at);
    return name;
}

static void show_settings(const chat_talk *t) {
    char name[16];
    rotor_gen_options g = cli_gen_options(&t->a, t->e, NULL);
    say(t, "temp %g  top-k %d  top-p %g  min-p %g  repeat-penalty %g", (double)g.temperature,
        g.top_k, (double)g.top_p, (double)g.min_p, (double)g.repeat_penalty);
    if (cli_given(&t->a, OPT_SEED)) say(t, "seed %lld", (long long)cli_int(&t->a, OPT_SEED));
    if (g.max_tokens) say(t, "n-predict %u", g.max_tokens);
    if (rotor_chat_has_parts(t->e)) say(t, "reasoning-effort %s", choice_of(t, OPT_EFFORT, name));
}

static void do_set(chat_talk *t, const char *argument) {
    char name[32];
    size_t n = strcspn(argument, " =");
    const char *value = argument + n + strspn(argument + n, " =");
    rotor_error err;
    snprintf(name, sizeof name, "%.*s", (int)BASE_MIN(n, sizeof name - 1), argument);
    if (!*name) {
        show_settings(t);
        return;
    }
    for (size_t i = 0; i < BASE_COUNT(settable); i++) {
        if (strcmp(setting_at(NULL, i), name) != 0) continue;
        if (cli_set(&t->a, settable[i], value, name, &err) != ROTOR_OK)
            say(t, "rotor: %s", err.message);
        else
            show_settings(t);
        return;
    }
    const char *near = cli_nearest(name, setting_at, NULL);
    say(t, "no setting '%s'%s%s%s", name,
        near ? "; did you mean " : ", there are temp, top-k, top-p, min-p, ",
        near ? near : "repeat-penalty, seed, n-predict and reasoning-effort", near ? "?" : "");
}

static void do_show(chat_talk *t, const char *argument) {
    const rotor_engine_info *i = &t->info;
    char a[32], b[32];
    (void)argument;
    say(t, "model %s (%s, %s), %s, head %s, %d threads, %s", i->name, i->architecture, i->type_name,
        cli_bytes(i->file_bytes, a), i->head, i->threads, i->cpu);
    say(t, "context %u of %u tokens, cache %s", i->n_ctx, i->n_ctx_train,
        cli_bytes(i->kv_bytes, b));
    say(t, "template %s", i->template_line ? i->template_line : "none");
    say(t, "system %s", t->system ? t->system : "(none)");
    show_settings(t);
}

static void do_ctx(chat_talk *t, const char *argument) {
    uint32_t used = rotor_session_len(t->s), max = rotor_session_max(t->s);
    (void)argument;
    say(t, "context %u of %u tokens (%.0f %%), %zu messages", used, max,
        100.0 * used / BASE_MAX(max, 1u), t->n_turns);
    if (t->n_gone) say(t, "the model no longer sees the oldest %zu messages", t->n_gone);
}

static void do_stats(chat_talk *t, const char *argument) {
    (void)argument;
    if (!t->n_answers) {
        say(t, "no answer yet");
        return;
    }
    say(t, "last: %s", t->speed.data ? t->speed.data : "");
    say(t, "all: %llu answers, decode %.1f t/s", (unsigned long long)t->n_answers,
        cli_rate(t->n_decoded, t->decode_us));
}

static void do_think(chat_talk *t, const char *argument) {
    rotor_error err;
    char name[16];
    if (!rotor_chat_has_parts(t->e))
        say(t, "%s has no reasoning channel to show or hide", t->info.name);
    else if (*argument && cli_set(&t->a, OPT_THINK, argument, "/think", &err) != ROTOR_OK)
        say(t, "rotor: %s", err.message);
    else
        say(t, "think: %s", choice_of(t, OPT_THINK, name));
}

/* ==== A knowledge store ======================================================================= */

static void do_rag(chat_talk *t, const char *argument) {
    if (!t->stores.n) {
        say(t, "no store: start with rotor chat --rag STORE");
        return;
    }
    if (strcmp(argument, "on") == 0 || strcmp(argument, "off") == 0)
        t->rag_off = strcmp(argument, "off") == 0;
    else if (*argument)
        say(t, "/rag on or /rag off");
    say(t, "rag: %s, %s", t->rag_off ? "off" : "on", cli_text(&t->a, OPT_RAG));
}

static void do_sources(chat_talk *t, const char *argument) {
    base_buf b = {0};
    (void)argument;
    if (!t->found.n) {
        say(t, t->stores.n ? "the last answer had no sources" : "no store: start with --rag STORE");
        return;
    }
    for (size_t i = 0; i < t->found.n; i++) {
        base_buf_reset(&b);
        base_buf_printf(&b, "[%zu] ", i + 1);
        cli_put_place(&b, &t->found.sources[i].hit, t->stores.n > 1);
        base_buf_puts(&b, "\n");
        cli_put_plain(&b, t->found.sources[i].hit.text);
        cli_log(&t->a, BASE_LOG_ERROR, "%s\n", b.data ? b.data : "");
    }
    base_buf_free(&b);
}

static void do_exit(chat_talk *t, const char *argument) {
    (void)argument;
    t->leave = true;
}

/* ==== The table =============================================================================== */

static void do_help(chat_talk *t, const char *argument);

static const command commands[] = {
    {"help", "", "this list", do_help},
    {"clear", "", "start over; the system prompt stays", do_clear},
    {"system", "[TEXT]", "show or change the system prompt", do_system},
    {"set", "[NAME VALUE]",
     "show or change temp, top-k, top-p, min-p, repeat-penalty, seed, n-predict, reasoning-effort",
     do_set},
    {"show", "", "the model and all settings", do_show},
    {"save", "FILE", "write the conversation to a file; FILE.session: with the cache", do_save},
    {"load", "FILE", "take up a saved conversation", do_load},
    {"regen", "", "answer the last message again", do_regen},
    {"undo", "", "take back the last message and its answer", do_undo},
    {"read", "FILE", "put a text file in front of the next message", do_read},
    {"edit", "[TEXT]", "write the next message in $VISUAL or $EDITOR (Ctrl-G: the line)", do_edit},
    {"ctx", "", "how much of the context is used", do_ctx},
    {"stats", "", "speed of the last answer and of all", do_stats},
    {"think", "[dim|show|hide]", "show or hide a model's reasoning", do_think},
    {"rag", "[on|off]", "ask the knowledge store of --rag, or do not", do_rag},
    {"sources", "", "the passages the last answer was given, whole", do_sources},
    {"exit", "", "leave (also Ctrl-D)", do_exit},
};

static void do_help(chat_talk *t, const char *argument) {
    (void)argument;
    for (size_t i = 0; i < BASE_COUNT(commands); i++) {
        char left[40];
        snprintf(left, sizeof left, "/%s %s", commands[i].name, commands[i].argument);
        say(t, "  %-20s %s", left, commands[i].help);
    }
    say(t, "Several lines: put them between \"\"\" marks, end a line with \\, or paste.");
    say(t, "Ctrl-C stops an answer, a second one leaves; Ctrl-D leaves.");
}

static const char *command_at(const void *ctx, size_t i) {
    (void)ctx;
    return i < BASE_COUNT(commands) ? commands[i].name : NULL;
}

void chat_command(chat_talk *t, const char *line) {
    char name[32];
    size_t n = strcspn(line + 1, " \t\n");
    const char *rest = line + 1 + n + strspn(line + 1 + n, " \t\n");
    char *argument = base_strdup(rest);
    snprintf(name, sizeof name, "%.*s", (int)BASE_MIN(n, sizeof name - 1), line + 1);
    if (strcmp(name, "quit") == 0 || strcmp(name, "bye") == 0) snprintf(name, sizeof name, "exit");
    if (strcmp(name, "?") == 0) snprintf(name, sizeof name, "help");
    for (size_t end = argument ? strlen(argument) : 0;
         end && isspace((unsigned char)argument[end - 1]); end--)
        argument[end - 1] = 0;
    for (size_t i = 0; i < BASE_COUNT(commands) && argument; i++) {
        if (strcmp(commands[i].name, name) != 0) continue;
        commands[i].run(t, argument);
        base_free(argument);
        return;
    }
    base_free(argument);
    const char *near = cli_nearest(name, command_at, NULL);
    if (near)
        say(t, "no command /%s; did you mean /%s?", name, near);
    else
        say(t, "no command /%s; /help lists them", name);
}
