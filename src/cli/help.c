/* SPDX-License-Identifier: MIT
 *
 * Help texts, made from the option and verb tables.
 */
#include "cli/cli.h"
#include "hub/hub.h"

#include <stdio.h>

enum { LEFT = 24, WIDTH = 100 }; /* column of the explanations, width of a line */

void cli_help_all(base_buf *out) {
    base_buf_printf(out,
                    "rotor %s: language models on the machine in front of you\n\n"
                    "usage: rotor VERB [options]\n\n",
                    rotor_version());
    for (size_t i = 0; cli_verb_at(i); i++)
        base_buf_printf(out, "  %-11s %s\n", cli_verb_at(i)->name,
                        cli_verb_at(i)->bit & cli_left_out() ? "(not in the Windows build)"
                                                             : cli_verb_at(i)->help);
    base_buf_puts(
        out, "\nMODEL is a .gguf file, a Hugging Face folder or the name of a model in the cache\n"
             "(rotor models lists them); without one the model that ROTOR_MODEL names or, failing\n"
             "that, the small model inside the program (by name: embedded) is used.\n"
             "First steps: rotor chat            rotor run -p \"Once upon a time\" -n 100\n"
             "Options of a verb: rotor help VERB\n");
}

/* A text of lines of at most room bytes, all but the first moved right to column left. */
static void wrapped(base_buf *out, const char *text, size_t room, int left) {
    while (strlen(text) > room) {
        size_t cut = room;
        while (cut && text[cut] != ' ') cut--;
        if (!cut) break;
        base_buf_printf(out, "%.*s\n%*s", (int)cut, text, left, "");
        text += cut + 1;
    }
    base_buf_printf(out, "%s\n", text);
}

void cli_option_text(base_buf *out, const cli_option *o) {
    base_buf_puts(out, o->help);
    if (o->choices) base_buf_printf(out, ": %s", o->choices);
    if (o->fallback) base_buf_printf(out, " (default: %s)", o->fallback);
}

static void describe(base_buf *out, const cli_option *o) {
    char left[96];
    base_buf text = {0};
    int n = o->letter ? snprintf(left, sizeof left, "  -%c, --%s", o->letter, o->name)
                      : snprintf(left, sizeof left, "      --%s", o->name);
    if (o->value) snprintf(left + n, sizeof left - (size_t)n, " %s", o->value);
    base_buf_printf(out, "%-*s", LEFT, left);
    if (strlen(left) >= LEFT) base_buf_printf(out, "\n%*s", LEFT, "");
    cli_option_text(&text, o);
    wrapped(out, text.data ? text.data : "", WIDTH - LEFT, LEFT);
    base_buf_free(&text);
}

static void heading(base_buf *out, const char *group) { base_buf_printf(out, "\n%s\n", group); }

static bool is_dashed(const cli_option *o, uint32_t verb_bit) {
    return o->verbs & verb_bit && !(o->flags & CLI_NO_DASH);
}

/* Does an earlier row of this verb have the same heading? */
static bool group_seen(int row, uint32_t verb_bit) {
    for (int i = 0; i < row; i++)
        if (cli_options[i].verbs & verb_bit &&
            strcmp(cli_options[i].group, cli_options[row].group) == 0)
            return true;
    return false;
}

/* What may not stand in the configuration file; made here so that it is always true. */
static void describe_settings(base_buf *out, uint32_t verb_bit) {
    base_buf text = {0};
    for (int i = 0; i < CLI_N_OPTS; i++) {
        const cli_option *o = &cli_options[i];
        if (!(o->verbs & verb_bit) || o->flags & CLI_SAVED || i == OPT_HELP) continue;
        base_buf_printf(&text, "%s--%s", text.len ? ", " : " but for ", o->name);
    }
    base_buf line = {0};
    base_buf_printf(&line,
                    "Options may also come from variables, as ROTOR_LOG_LEVEL, and from the "
                    "configuration file (docs/configuration.md)%s.",
                    text.data ? text.data : "");
    base_buf_puts(out, "\n");
    if (line.data) wrapped(out, line.data, WIDTH, 0);
    base_buf_free(&line);
    base_buf_free(&text);
}

void cli_list_options(base_buf *out, uint32_t verb_bit,
                      void (*group)(base_buf *out, const char *name),
                      void (*option)(base_buf *out, const cli_option *o)) {
    for (int i = 0; i < CLI_N_OPTS; i++) {
        if (!(cli_options[i].verbs & verb_bit) || group_seen(i, verb_bit)) continue;
        group(out, cli_options[i].group);
        for (int k = i; k < CLI_N_OPTS; k++)
            if (is_dashed(&cli_options[k], verb_bit) &&
                strcmp(cli_options[k].group, cli_options[i].group) == 0)
                option(out, &cli_options[k]);
    }
}

void cli_help_verb(base_buf *out, const cli_verb *verb) {
    base_buf_printf(out, "usage: rotor %s %s\n\n%s\n", verb->name, verb->usage, verb->help);
    cli_list_options(out, verb->bit, heading, describe);
    if (verb->notes) base_buf_printf(out, "\n%s\n", verb->notes);
    describe_settings(out, verb->bit);
}

int verb_help(const cli_args *a) {
    base_buf text = {0};
    const char *name = cli_word(a, 0);
    const cli_verb *verb = name ? cli_verb_find(name) : NULL;
    const bool asked = cli_on(a, OPT_COMPLETE);
    if (!asked && a->n_words > 1)
        return cli_usage(a, "unexpected word '%s'; usage: rotor help [VERB]", cli_word(a, 1));
    if (!asked && name && !verb) return cli_usage(a, "no verb '%s'; rotor help lists them", name);
    if (asked)
        cli_complete(&text, a->words, a->n_words);
    else if (cli_given(a, OPT_COMPLETIONS))
        cli_completions(&text, cli_text(a, OPT_COMPLETIONS));
    else if (cli_on(a, OPT_MAN))
        cli_manual(&text, verb);
    else if (verb)
        cli_help_verb(&text, verb);
    else
        cli_help_all(&text);
    cli_out(text.data ? text.data : "", text.len);
    base_buf_free(&text);
    return CLI_DONE;
}

int verb_version(const cli_args *a) {
    (void)a;
    cli_outf("rotor %s\n%s%s", rotor_version(), rotor_features(), hub_features());
    return CLI_DONE;
}
