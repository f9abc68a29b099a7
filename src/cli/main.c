/* SPDX-License-Identifier: MIT
 *
 * main: finds the verb, reads its options and settings, runs it.
 */
#include "base/service.h"
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

static const char *verb_name_at(const void *ctx, size_t i) {
    (void)ctx;
    return cli_verb_at(i) ? cli_verb_at(i)->name : NULL;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* The first word is no verb: say what was probably meant. */
static int not_a_verb(const char *word) {
    if (base_path_kind_of(word) != BASE_PATH_NONE || ends_with(word, ".gguf"))
        return cli_usage(NULL, "'%s' is no verb; try: rotor run %s -p TEXT, or: rotor chat %s",
                         word, word, word);
    if (word[0] == '-')
        return cli_usage(NULL, "'%s' stands before the verb; try: rotor run %s", word, word);
    if (strchr(word, ' '))
        return cli_usage(NULL, "'%s' is no verb; try: rotor run -p \"%s\"", word, word);
    const char *near = cli_nearest(word, verb_name_at, NULL);
    if (near) return cli_usage(NULL, "no verb '%s'; did you mean 'rotor %s'?", word, near);
    return cli_usage(NULL, "no verb '%s'", word);
}

static const char *from_environment(const char *name) { return getenv(name); }

/* Where the configuration file is usually, and need not be; NULL: no home. */
static char *usual_config(void) {
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    base_buf b = {0};
    if (xdg && *xdg)
        base_buf_printf(&b, "%s/rotor/config", xdg);
    else if (home && *home)
        base_buf_printf(&b, "%s/.config/rotor/config", home);
    return b.data;
}

/* A key that everybody on the machine can read is none. */
static void warn_of_secrets(const cli_args *a, const char *path) {
    if (a->secret_in_file && base_others_can_read(path))
        cli_log(a, BASE_LOG_WARN, "%s holds a key and others can read it: chmod 600 %s", path,
                path);
}

static rotor_status read_config(cli_args *a, const char *path, rotor_error *err) {
    base_file f;
    base_buf text = {0};
    ROTOR_TRY(base_file_open(&f, path, false, err));
    rotor_status st = ROTOR_OK;
    if (f.size && memchr(f.data, 0, f.size))
        st = base_fail(err, ROTOR_E_ARG, "%s: there is a zero byte in it", path);
    else if (!base_buf_append(&text, f.data, f.size) || !base_buf_puts(&text, ""))
        st = base_fail_nomem(err, "reading the settings");
    if (st == ROTOR_OK) st = cli_read_config(a, text.data, path, err);
    if (st == ROTOR_OK) warn_of_secrets(a, path);
    base_file_close(&f);
    base_buf_free(&text);
    return st;
}

static rotor_status read_settings(cli_args *a, rotor_error *err) {
    ROTOR_TRY(cli_read_environment(a, from_environment, err));
    const char *named = cli_text(a, OPT_CONFIG);
    if (named && strcmp(named, "none") == 0) return ROTOR_OK;
    char *usual = named ? NULL : usual_config();
    const char *path = named ? named : usual;
    rotor_status st = ROTOR_OK;
    if (path && (named || base_path_kind_of(path) == BASE_PATH_FILE))
        st = read_config(a, path, err);
    base_free(usual);
    return st;
}

/* Help and version answer whatever the settings are: who has a bad one needs them most. */
static bool wants_settings(const cli_args *a, const cli_verb *verb) {
    return !cli_on(a, OPT_HELP) && !(verb->bit & (VERB_HELP | VERB_VERSION));
}

static int run_verb(const cli_verb *verb, int argc, char **argv) {
    cli_args a = {0};
    rotor_error err = {0};
    int status;
    if (cli_parse(&a, verb, argc, argv, &err) != ROTOR_OK ||
        (wants_settings(&a, verb) && read_settings(&a, &err) != ROTOR_OK)) {
        status = err.code == ROTOR_E_ARG ? cli_usage(&a, "%s", err.message) : cli_fail(&a, &err);
    } else if (cli_on(&a, OPT_HELP)) {
        base_buf text = {0};
        cli_help_verb(&text, verb);
        cli_out(text.data, text.len);
        base_buf_free(&text);
        status = CLI_DONE;
    } else {
        status = verb->run(&a);
    }
    status = cli_finish(&a, status);
    cli_args_free(&a);
    return status;
}

int main(int argc, char **argv) {
    argv = cli_start(argv);
    if (argc < 2) {
        base_buf text = {0};
        cli_help_all(&text);
        fputs(text.data ? text.data : "", stderr);
        base_buf_free(&text);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = "help";
    if (strcmp(word, "--version") == 0) word = "version";
    const cli_verb *verb = cli_verb_find(word);
    if (verb && verb->bit & cli_left_out())
        return cli_fail_text(NULL, "rotor %s: not in the Windows build", word);
    return verb ? run_verb(verb, argc - 2, argv + 2) : not_a_verb(word);
}
