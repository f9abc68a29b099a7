/* SPDX-License-Identifier: MIT
 *
 * Options that nobody typed: ROTOR_<NAME> in the environment and the configuration file, both read
 * through the option table (CLI_SAVED), so that a new row can be set everywhere at once.
 *
 *     # for all verbs that have the option
 *     threads = 4
 *     [serve]                  for this verb only; stronger than the lines above
 *     port = 9090
 *     cors-origins = https://a.example     may be given several times
 *     cors-origins = https://b.example
 *
 * Order of strength: command line, environment, section of the verb, general part, the table's
 * fallback. The whole file is checked, whatever verb runs: a mistake shows at once, with file, line
 * and the nearest name. A value ends with its line and is not quoted; a # inside it is part of it.
 * Values point into the environment or cli_args.kept.
 */
#include "cli/cli.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>

/* ==== Environment ============================================================================= */

void cli_variable_of(const cli_option *o, char out[CLI_VARIABLE_MAX]) {
    const size_t n = (size_t)snprintf(out, CLI_VARIABLE_MAX, "ROTOR_%s", o->name);
    for (size_t c = 0; c < n && out[c]; c++)
        out[c] = out[c] == '-' ? '_' : (char)toupper((unsigned char)out[c]);
}

rotor_status cli_read_environment(cli_args *a, const char *(*get_env)(const char *name),
                                  rotor_error *err) {
    for (int i = 0; i < CLI_N_OPTS; i++) {
        const cli_option *o = &cli_options[i];
        char name[CLI_VARIABLE_MAX];
        if (!(o->flags & CLI_SAVED) || !(o->verbs & a->verb->bit) || a->value[i].given) continue;
        cli_variable_of(o, name);
        const char *text = get_env(name);
        if (!text || !*text) continue;
        ROTOR_TRY(cli_set(a, (cli_opt)i, text, name, err));
        a->value[i].by = CLI_VARIABLE;
    }
    return ROTOR_OK;
}

/* ==== Configuration file ====================================================================== */

/* One walk over the file: the first takes the verb's own section, the second the general part. */
typedef struct walk {
    cli_args *a;              /* what is filled */
    const char *file;         /* name, for messages */
    int line;                 /* from 1 */
    const cli_verb *section;  /* NULL: the general part */
    bool general;             /* which part this walk takes */
    bool before[CLI_N_OPTS];  /* options that something stronger has set */
    int set_line[CLI_N_OPTS]; /* where this section has set them; 0: not yet */
} walk;

static const char *saved_name_at(const void *ctx, size_t i) {
    const walk *w = ctx;
    const uint32_t verbs = w->section ? w->section->bit : VERBS_ALL;
    if (i >= CLI_N_OPTS) return NULL;
    return cli_options[i].flags & CLI_SAVED && cli_options[i].verbs & verbs ? cli_options[i].name
                                                                            : "";
}

static const char *verb_name_at(const void *ctx, size_t i) {
    (void)ctx;
    return cli_verb_at(i) ? cli_verb_at(i)->name : NULL;
}

static char *trim(char *s) {
    while (isspace((unsigned char)*s)) s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1])) s[--n] = 0;
    return s;
}

static rotor_status unknown_setting(const walk *w, const char *key, rotor_error *err) {
    const uint32_t verbs = w->section ? w->section->bit : VERBS_ALL;
    const char *near = cli_nearest(key, saved_name_at, w);
    if (cli_find_option(key, strlen(key), verbs) != CLI_N_OPTS)
        return base_fail(err, ROTOR_E_ARG,
                         "%s:%d: '%s' belongs to one run: say it on the command line", w->file,
                         w->line, key);
    return base_fail(err, ROTOR_E_ARG, "%s:%d: no setting '%s'%s%s%s%s%s%s", w->file, w->line, key,
                     w->section ? " in [" : "", w->section ? w->section->name : "",
                     w->section ? "]" : "", near ? "; did you mean '" : "", near ? near : "",
                     near ? "'?" : "");
}

/* The row a key means in this part of the file, for the verb that runs if it has one; CLI_N_OPTS:
 * there is none that may be saved. */
static cli_opt row_of(const walk *w, const char *key) {
    const uint32_t own = w->a->verb->bit, part = w->section ? w->section->bit : VERBS_ALL;
    cli_opt found = CLI_N_OPTS;
    for (int i = 0; i < CLI_N_OPTS; i++) {
        const cli_option *o = &cli_options[i];
        if (!(o->flags & CLI_SAVED) || !(o->verbs & part) || strcmp(o->name, key) != 0) continue;
        if (i == OPT_CONFIG) continue; /* a file does not say where the file is */
        if (found == CLI_N_OPTS || o->verbs & own) found = (cli_opt)i;
    }
    return found;
}

static rotor_status set_key(walk *w, const char *key, const char *value, rotor_error *err) {
    const cli_opt id = row_of(w, key);
    char where[300];
    cli_args scratch = {.verb = w->a->verb};
    if (id == CLI_N_OPTS) return unknown_setting(w, key, err);
    const cli_option *o = &cli_options[id];
    if (w->set_line[id] && !(o->flags & CLI_MANY))
        return base_fail(err, ROTOR_E_ARG, "%s:%d: %s is set in line %d already", w->file, w->line,
                         key, w->set_line[id]);
    w->set_line[id] = w->line;
    if (o->flags & CLI_SECRET) w->a->secret_in_file = true;
    snprintf(where, sizeof where, "%s:%d: %s", w->file, w->line, key);
    const bool ours = w->general ? !w->section : w->section == w->a->verb;
    if (ours && !w->before[id] && o->verbs & w->a->verb->bit) {
        ROTOR_TRY(cli_set(w->a, id, value, where, err));
        w->a->value[id].by = w->general ? CLI_GENERAL : CLI_SECTION;
        return ROTOR_OK;
    }
    const rotor_status st = cli_set(&scratch, id, value, where, err); /* only checked */
    cli_args_free(&scratch);
    return st;
}

static rotor_status begin_section(walk *w, char *line, rotor_error *err) {
    const size_t n = strlen(line);
    if (line[n - 1] != ']')
        return base_fail(err, ROTOR_E_ARG, "%s:%d: expected '[verb]', got '%s'", w->file, w->line,
                         line);
    line[n - 1] = 0;
    char *name = trim(line + 1);
    const char *near = cli_nearest(name, verb_name_at, NULL);
    memset(w->set_line, 0, sizeof w->set_line);
    w->section = cli_verb_find(name);
    if (w->section) return ROTOR_OK;
    return base_fail(err, ROTOR_E_ARG, "%s:%d: no verb '%s'%s%s%s", w->file, w->line, name,
                     near ? "; did you mean [" : "", near ? near : "", near ? "]?" : "");
}

static rotor_status read_line(walk *w, char *line, rotor_error *err) {
    line = trim(line);
    if (!*line || *line == '#') return ROTOR_OK;
    if (*line == '[') return begin_section(w, line, err);
    char *equals = strchr(line, '=');
    if (!equals)
        return base_fail(err, ROTOR_E_ARG, "%s:%d: expected 'name = value', got '%s'", w->file,
                         w->line, line);
    *equals = 0;
    return set_key(w, trim(line), trim(equals + 1), err);
}

static rotor_status walk_over(cli_args *a, char *text, const char *file, bool general,
                              rotor_error *err) {
    walk w = {.a = a, .file = file, .line = 1, .general = general};
    for (int i = 0; i < CLI_N_OPTS; i++) w.before[i] = a->value[i].given;
    for (char *line = text; line; w.line++) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        ROTOR_TRY(read_line(&w, line, err));
        line = end ? end + 1 : NULL;
    }
    return ROTOR_OK;
}

rotor_status cli_read_config(cli_args *a, const char *config, const char *file, rotor_error *err) {
    assert(!a->kept.len);                /* values point into it */
    const size_t n = strlen(config) + 1; /* two copies: a walk cuts its text up */
    if (!base_buf_append(&a->kept, config, n) || !base_buf_append(&a->kept, config, n))
        return base_fail_nomem(err, "reading the settings");
    ROTOR_TRY(walk_over(a, a->kept.data, file, false, err));
    return walk_over(a, a->kept.data + n, file, true, err);
}
