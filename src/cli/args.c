/* SPDX-License-Identifier: MIT
 *
 * From words to values: the command line, read through the option table (settings.c reads the
 * environment and the configuration file through the same one). A value that does not fit fails
 * with what was expected; an unknown name with its nearest neighbour. Values point into argv.
 */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ==== Near misses ============================================================================= */

enum { NAME_MAX_BYTES = 32 };

/* Edits (insert, delete, replace, swap neighbours) between two short words. */
static int edit_distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    if (na >= NAME_MAX_BYTES || nb >= NAME_MAX_BYTES) return NAME_MAX_BYTES;
    int d[NAME_MAX_BYTES + 1][NAME_MAX_BYTES + 1];
    for (size_t i = 0; i <= na; i++) d[i][0] = (int)i;
    for (size_t j = 0; j <= nb; j++) d[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++)
        for (size_t j = 1; j <= nb; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = BASE_MIN(best, BASE_MIN(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = BASE_MIN(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    return d[na][nb];
}

const char *cli_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
                        const void *ctx) {
    const char *best = NULL;
    int best_distance = strlen(word) < 4 ? 2 : 3; /* must be below this */
    for (size_t i = 0;; i++) {
        const char *name = next(ctx, i);
        if (!name) return best;
        if (!*name) continue;
        size_t n = strlen(word);
        int distance = n >= 3 && strncmp(name, word, n) == 0 ? 1 : edit_distance(word, name);
        if (distance < best_distance) {
            best_distance = distance;
            best = name;
        }
    }
}

static const char *option_name_at(const void *ctx, size_t i) {
    uint32_t verb_bit = *(const uint32_t *)ctx;
    if (i >= CLI_N_OPTS) return NULL;
    return cli_options[i].verbs & verb_bit ? cli_options[i].name : "";
}

/* ==== Values ================================================================================== */

static bool same_word(const char *p, size_t n, const char *word) {
    return strlen(word) == n && strncmp(p, word, n) == 0;
}

/* Index of text in "a|b|c", -1: not there. */
static int choice_index(const char *choices, const char *text) {
    int at = 0;
    for (const char *p = choices;; at++) {
        size_t n = strcspn(p, "|");
        if (same_word(p, n, text)) return at;
        if (!p[n]) return -1;
        p += n + 1;
    }
}

static rotor_status bad_range(const cli_option *o, const char *where, const char *text,
                              rotor_error *err) {
    bool whole = o->type == CLI_INT;
    if (whole && o->max > 1e15)
        return base_fail(err, ROTOR_E_ARG, "%s %s: expected a whole number of at least %.0f", where,
                         text, o->min);
    return base_fail(err, ROTOR_E_ARG,
                     whole ? "%s %s: expected a whole number from %.0f to %.0f"
                           : "%s %s: expected a number from %g to %g",
                     where, text, o->min, o->max);
}

/* Parses text as a value of option o; where names its origin ("--kv", "ROTOR_KV"). */
static rotor_status set_value(cli_value *v, const cli_option *o, const char *text,
                              const char *where, rotor_error *err) {
    cli_value out = {.given = true, .text = text};
    char *end = NULL;
    errno = 0;
    switch (o->type) {
    case CLI_INT:
        out.i = strtoll(text, &end, 10);
        out.f = (double)out.i;
        if (end == text || *end || errno || out.f < o->min || out.f > o->max)
            return bad_range(o, where, text, err);
        break;
    case CLI_REAL:
        out.f = strtod(text, &end);
        if (end == text || *end || !(out.f >= o->min && out.f <= o->max))
            return bad_range(o, where, text, err);
        break;
    case CLI_CHOICE:
        out.i = choice_index(o->choices, text);
        if (out.i < 0)
            return base_fail(err, ROTOR_E_ARG, "%s %s: expected one of %s", where, text,
                             o->choices);
        break;
    case CLI_FLAG:
        out.i = choice_index("0|1|false|true|no|yes|off|on", text);
        if (out.i < 0) return base_fail(err, ROTOR_E_ARG, "%s %s: expected on or off", where, text);
        out.i &= 1;
        break;
    case CLI_TEXT:
        break;
    }
    *v = out;
    return ROTOR_OK;
}

rotor_status cli_set(cli_args *a, cli_opt id, const char *text, const char *where,
                     rotor_error *err) {
    ROTOR_TRY(set_value(&a->value[id], &cli_options[id], text, where, err));
    if (!(cli_options[id].flags & CLI_MANY)) return ROTOR_OK;
    const char **more = base_realloc(a->many[id], (a->n_many[id] + 1) * sizeof *more);
    if (!more) return base_fail_nomem(err, "reading the command line");
    a->many[id] = more;
    a->many[id][a->n_many[id]++] = text;
    return ROTOR_OK;
}

/* ==== Command line ============================================================================ */

cli_opt cli_find_option(const char *name, size_t n_bytes, uint32_t verb_bit) {
    for (int i = 0; i < CLI_N_OPTS; i++)
        if (cli_options[i].verbs & verb_bit && same_word(name, n_bytes, cli_options[i].name))
            return (cli_opt)i;
    return CLI_N_OPTS;
}

static cli_opt find_letter(char letter, uint32_t verb_bit) {
    for (int i = 0; i < CLI_N_OPTS; i++)
        if (cli_options[i].verbs & verb_bit && letter && cli_options[i].letter == letter)
            return (cli_opt)i;
    return CLI_N_OPTS;
}

static rotor_status unknown_option(const cli_args *a, const char *word, rotor_error *err) {
    char name[NAME_MAX_BYTES];
    const char *bare = word + (word[1] == '-' ? 2 : 1);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(bare, "="), bare);
    if (strcmp(word, "-m") == 0 || strcmp(name, "model") == 0)
        return base_fail(err, ROTOR_E_ARG,
                         "no option %s: the model is a plain word: rotor %s MODEL", word,
                         a->verb->name);
    const char *near = word[1] == '-' ? cli_nearest(name, option_name_at, &a->verb->bit) : NULL;
    if (near) return base_fail(err, ROTOR_E_ARG, "no option --%s; did you mean --%s?", name, near);
    return base_fail(err, ROTOR_E_ARG, "no option %.*s", (int)strcspn(word, "="), word);
}

static rotor_status add_word(cli_args *a, const char *word, rotor_error *err) {
    if ((int)a->n_words >= a->verb->max_words)
        return base_fail(err, ROTOR_E_ARG, "unexpected word '%s'; usage: rotor %s %s", word,
                         a->verb->name, a->verb->usage);
    const char **more = base_realloc(a->words, (a->n_words + 1) * sizeof *more);
    if (!more) return base_fail_nomem(err, "reading the command line");
    a->words = more;
    a->words[a->n_words++] = word;
    return ROTOR_OK;
}

/* Takes the option at argv[*at] and its value; leaves *at on the last word used. */
static rotor_status take_option(cli_args *a, int argc, char **argv, int *at, rotor_error *err) {
    const char *word = argv[*at], *value = NULL;
    cli_opt id;
    if (word[1] == '-') {
        size_t n = strcspn(word + 2, "=");
        id = cli_find_option(word + 2, n, a->verb->bit);
        if (word[2 + n] == '=') value = word + 3 + n;
    } else {
        id = word[2] ? CLI_N_OPTS : find_letter(word[1], a->verb->bit);
    }
    if (id == CLI_N_OPTS || cli_options[id].flags & CLI_NO_DASH)
        return unknown_option(a, word, err);
    const cli_option *o = &cli_options[id];
    char where[NAME_MAX_BYTES + 8];
    snprintf(where, sizeof where, "--%s", o->name);
    if (o->type == CLI_FLAG) return cli_set(a, id, value ? value : "on", where, err);
    if (!value && *at + 1 >= argc)
        return base_fail(err, ROTOR_E_ARG, "--%s needs a value: %s%s%s", o->name, o->value,
                         o->choices ? ", one of " : "", o->choices ? o->choices : "");
    if (!value) value = argv[++*at];
    return cli_set(a, id, value, where, err);
}

static rotor_status check_words(const cli_args *a, rotor_error *err) {
    if (cli_on(a, OPT_HELP) || (int)a->n_words >= a->verb->min_words) return ROTOR_OK;
    return base_fail(err, ROTOR_E_ARG, "something is missing; usage: rotor %s %s", a->verb->name,
                     a->verb->usage);
}

rotor_status cli_parse(cli_args *a, const cli_verb *verb, int argc, char **argv, rotor_error *err) {
    a->verb = verb;
    for (int i = 0; i < CLI_N_OPTS; i++)
        if (cli_options[i].fallback) {
            ROTOR_TRY(
                set_value(&a->value[i], &cli_options[i], cli_options[i].fallback, "default", err));
            a->value[i].given = false;
        }
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0)
            only_words = true;
        else if (only_words || argv[i][0] != '-' || !argv[i][1])
            ROTOR_TRY(add_word(a, argv[i], err));
        else
            ROTOR_TRY(take_option(a, argc, argv, &i, err));
    }
    return check_words(a, err);
}

void cli_args_free(cli_args *a) {
    base_free(a->words);
    for (int i = 0; i < CLI_N_OPTS; i++) base_free(a->many[i]);
    base_buf_free(&a->kept);
    memset(a, 0, sizeof *a);
}

/* ==== Asking ================================================================================== */

bool cli_given(const cli_args *a, cli_opt o) { return a->value[o].given; }
bool cli_on(const cli_args *a, cli_opt o) { return a->value[o].i != 0; }
int64_t cli_int(const cli_args *a, cli_opt o) { return a->value[o].i; }
double cli_real(const cli_args *a, cli_opt o) { return a->value[o].f; }
const char *cli_text(const cli_args *a, cli_opt o) { return a->value[o].text; }
const char *cli_word(const cli_args *a, size_t i) { return i < a->n_words ? a->words[i] : NULL; }

tool_i2s cli_i2s(const cli_args *a) {
    static const tool_i2s order[] = {TOOL_I2S_X86, TOOL_I2S_X86, TOOL_I2S_ARM, TOOL_I2S_4ROW};
    return order[cli_int(a, OPT_I2S)];
}

rotor_status cli_parse_ids(const char *text, uint32_t **ids, size_t *n, rotor_error *err) {
    size_t count = 0, cap = strlen(text) / 2 + 1;
    uint32_t *list = base_alloc_array(cap, sizeof *list);
    if (!list) return base_fail_nomem(err, "reading token ids");
    for (const char *p = text;;) {
        p += strspn(p, ", \t\r\n");
        if (!*p) break;
        char *end;
        errno = 0;
        unsigned long long v = strtoull(p, &end, 10);
        if (!isdigit((unsigned char)*p) || errno || v >= UINT32_MAX || !strchr(", \t\r\n", *end)) {
            base_free(list);
            return base_fail(err, ROTOR_E_ARG,
                             "'%.*s' is not a token id; expected numbers like 1,2,3",
                             (int)BASE_MIN(strcspn(p, ", \t\r\n"), 40), p);
        }
        list[count++] = (uint32_t)v;
        p = end;
    }
    *ids = list;
    *n = count;
    return ROTOR_OK;
}
