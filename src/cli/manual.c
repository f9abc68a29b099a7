/* SPDX-License-Identifier: MIT
 *
 * Manual pages, made from the option and verb tables in the language of man(7): rotor(1), and
 * rotor-VERB(1) for each verb. Nothing in them depends on when or where they are made.
 */
#include "cli/cli.h"

/* ==== Text ==================================================================================== */

/* What is special to man, as man spells it; NULL: nothing. */
static const char *spelling(char c) {
    switch (c) {
    case '\\':
        return "\\e";
    case '-':
        return "\\-"; /* else a hyphen, which nobody can copy into a shell */
    case '\'':
        return "\\(aq";
    case '`':
        return "\\(ga";
    case '^':
        return "\\(ha";
    case '~':
        return "\\(ti";
    case '|':
        return "|\\:"; /* a line may end here */
    default:
        return NULL;
    }
}

/* n bytes of plain text in the middle of a line. */
static void inline_text(base_buf *out, const char *s, size_t n) {
    while (n) {
        int32_t cp = 0;
        const int len = base_utf8_decode(s, n, &cp);
        const char *special = spelling(*s);
        if (len > 1)
            base_buf_printf(out, "\\[u%04X]", (unsigned)cp);
        else if (special)
            base_buf_puts(out, special);
        else
            base_buf_append(out, s, 1);
        s += len > 1 ? len : 1;
        n -= (size_t)(len > 1 ? len : 1);
    }
}

/* A line of plain text: neither a request, as one that begins with a full stop would be, nor of
 * another meaning for blanks in front. */
static void line_of(base_buf *out, const char *s, size_t n) {
    if (n && *s == '.') base_buf_puts(out, "\\&");
    inline_text(out, s, n);
    base_buf_puts(out, "\n");
}

static void line(base_buf *out, const char *s) { line_of(out, s, strlen(s)); }

/* Lines that begin with blanks keep their form, the others flow. */
static void paragraphs(base_buf *out, const char *s) {
    bool fixed = false;
    while (*s) {
        const size_t n = strcspn(s, "\n");
        const bool now = *s == ' ';
        if (now != fixed) base_buf_puts(out, now ? ".nf\n" : ".fi\n");
        fixed = now;
        line_of(out, s, n);
        s += n + (s[n] == '\n');
    }
    if (fixed) base_buf_puts(out, ".fi\n");
}

/* ==== Parts of a page ========================================================================= */

static void section(base_buf *out, const char *name) { base_buf_printf(out, ".SH %s\n", name); }

/* name: "" for the program itself. */
static void title(base_buf *out, const char *name, const char *what) {
    base_buf_puts(out, ".TH ROTOR");
    if (*name) base_buf_puts(out, "\\-");
    for (const char *c = name; *c; c++)
        base_buf_printf(out, "%s", *c == '-' ? "\\-" : (char[]){(char)(*c & ~0x20), 0});
    base_buf_printf(out, " 1 \"\" \"rotor %s\" \"Rotor\"\n", rotor_version());
    base_buf_puts(out, ".nh\n.ad l\n"); /* names of options and files stay whole */
    section(out, "NAME");
    base_buf_puts(out, "rotor");
    if (*name) base_buf_puts(out, "\\-");
    inline_text(out, name, strlen(name));
    base_buf_puts(out, " \\- ");
    line(out, what);
    section(out, "SYNOPSIS");
    base_buf_puts(out, ".B rotor");
    if (*name) base_buf_puts(out, " ");
    inline_text(out, name, strlen(name));
    base_buf_puts(out, "\n");
}

static void heading(base_buf *out, const char *group) {
    base_buf_puts(out, ".SS\n");
    line(out, group);
}

static void option(base_buf *out, const cli_option *o) {
    base_buf text = {0};
    char variable[CLI_VARIABLE_MAX];
    base_buf_puts(out, ".TP\n\\fB");
    if (o->letter) base_buf_printf(out, "\\-%c\\fR, \\fB", o->letter);
    base_buf_puts(out, "\\-\\-");
    inline_text(out, o->name, strlen(o->name));
    base_buf_puts(out, "\\fR");
    if (o->value) {
        base_buf_puts(out, " \\fI");
        inline_text(out, o->value, strlen(o->value));
        base_buf_puts(out, "\\fR");
    }
    base_buf_puts(out, "\n");
    cli_option_text(&text, o);
    line(out, text.data ? text.data : "");
    cli_variable_of(o, variable);
    if (o->flags & CLI_SAVED) base_buf_printf(out, "[\\fB%s\\fR]\n", variable);
    base_buf_free(&text);
}

static void term(base_buf *out, const char *name, const char *meaning) {
    base_buf_puts(out, ".TP\n.B ");
    line(out, name);
    line(out, meaning);
}

static void endings(base_buf *out) {
    section(out, "EXIT STATUS");
    term(out, "0", "done");
    term(out, "1", "failed; standard error says why");
    term(out, "2", "the command line is wrong; standard error says what would be right");
}

/* ==== Pages =================================================================================== */

static void page_of_verb(base_buf *out, const cli_verb *verb) {
    title(out, verb->name, verb->help);
    line(out, verb->usage);
    if (verb->notes) {
        section(out, "DESCRIPTION");
        paragraphs(out, verb->notes);
    }
    section(out, "OPTIONS");
    line(out, "A name in brackets is the variable that says the same; the configuration file takes "
              "what a variable takes (see rotor(1)).");
    cli_list_options(out, verb->bit, heading, option);
    endings(out);
    section(out, "SEE ALSO");
    base_buf_puts(out, ".BR rotor (1)\n");
}

static void list_verbs(base_buf *out) {
    section(out, "VERBS");
    for (size_t i = 0; cli_verb_at(i); i++) {
        const cli_verb *v = cli_verb_at(i);
        base_buf_puts(out, ".TP\n.BR rotor\\-");
        inline_text(out, v->name, strlen(v->name));
        base_buf_puts(out, " (1)\n");
        line(out, v->help);
    }
}

static void surroundings(base_buf *out) {
    section(out, "ENVIRONMENT");
    term(out, "ROTOR_MODEL", "the model where none is named");
    term(out, "ROTOR_OPTION",
         "what an option says, as ROTOR_LOG_LEVEL for --log-level; the pages "
         "of the verbs name them. The command line wins over variables, they "
         "over the configuration file.");
    term(out, "HF_HOME, HF_HUB_CACHE, HF_TOKEN",
         "where models lie and how they are asked for, as "
         "in other programs that use the hub");
    term(out, "NO_COLOR", "no colours in rotor chat");
    section(out, "FILES");
    term(out, "~/.config/rotor/config",
         "settings, name = value a line; [VERB] begins those of one "
         "verb (XDG_CONFIG_HOME is heeded)");
    term(out, "~/.cache/huggingface/hub", "the model cache, shared with other programs");
    term(out, "~/.cache/rotor", "kernels compiled for devices, and what was measured on them");
}

static void page_of_program(base_buf *out) {
    title(out, "", "runs language models on the machine in front of you");
    base_buf_puts(out, ".I VERB\n[\\fIoptions\\fR]\n");
    section(out, "DESCRIPTION");
    line(out, "Loads a model file, completes texts, talks, answers from your own documents, serves "
              "other programs over HTTP, and trains small ternary models. Standard output carries "
              "the product, standard error everything else.");
    base_buf_puts(out, ".PP\n");
    line(out, "MODEL is a .gguf file, a Hugging Face folder or the name of a model in the cache; "
              "without one the model that ROTOR_MODEL names or, failing that, the small model "
              "inside the program (by name: embedded) is used.");
    list_verbs(out);
    surroundings(out);
    endings(out);
}

void cli_manual(base_buf *out, const cli_verb *verb) {
    if (verb)
        page_of_verb(out, verb);
    else
        page_of_program(out);
}
