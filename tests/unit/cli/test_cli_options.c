/* SPDX-License-Identifier: MIT
 *
 * The option table: well formed, every row reachable, values checked, settings in their order of
 * strength, near misses found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>

#include "cli/cli.h"

static void every_row_is_well_formed(void **state) {
    (void)state;
    for (int i = 0; i < CLI_N_OPTS; i++) {
        const cli_option *o = &cli_options[i];
        assert_non_null(o->name);
        assert_non_null(o->group);
        assert_true(o->help && *o->help && !isupper((unsigned char)o->help[0]));
        assert_true(o->verbs != 0 && (o->verbs & ~(uint32_t)VERBS_ALL) == 0);
        assert_int_equal(o->type == CLI_FLAG, o->value == NULL);
        assert_int_equal(o->type == CLI_CHOICE, o->choices != NULL);
        if (o->type == CLI_INT || o->type == CLI_REAL) assert_true(o->min < o->max);
        for (const char *p = o->name; *p; p++)
            assert_true(islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '-');
    }
}

static void no_verb_has_a_name_or_letter_twice(void **state) {
    (void)state;
    for (int i = 0; i < CLI_N_OPTS; i++)
        for (int k = 0; k < i; k++) {
            if (!(cli_options[i].verbs & cli_options[k].verbs)) continue;
            assert_string_not_equal(cli_options[i].name, cli_options[k].name);
            if (cli_options[i].letter)
                assert_int_not_equal(cli_options[i].letter, cli_options[k].letter);
        }
}

static void every_verb_has_a_function_and_help(void **state) {
    (void)state;
    uint32_t seen = 0;
    for (size_t i = 0; cli_verb_at(i); i++) {
        const cli_verb *v = cli_verb_at(i);
        base_buf text = {0};
        assert_true(v->run && v->help && v->usage && v->min_words <= v->max_words);
        assert_int_equal(seen & v->bit, 0);
        assert_ptr_equal(cli_verb_find(v->name), v);
        seen |= v->bit;
        cli_help_verb(&text, v);
        for (int o = 0; o < CLI_N_OPTS; o++) { /* each option of the verb is in its help */
            char name[64];
            snprintf(name, sizeof name, "--%s", cli_options[o].name);
            const bool dashed = !(cli_options[o].flags & CLI_NO_DASH);
            if (dashed && cli_options[o].verbs & v->bit) assert_non_null(strstr(text.data, name));
        }
        base_buf_free(&text);
    }
    assert_int_equal(seen, VERBS_ALL);
}

static rotor_status parse(cli_args *a, const char *verb, const char *line, rotor_error *err) {
    static char copy[512];
    char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) argv[argc++] = w;
    memset(a, 0, sizeof *a);
    return cli_parse(a, cli_verb_find(verb), argc, argv, err);
}

static void values_and_words_are_read(void **state) {
    (void)state;
    cli_args a;
    rotor_error err;
    assert_int_equal(
        parse(&a, "run", "m.gguf -p hello -n 7 --temp=0.5 --kv q8 --echo --stop x --stop=y", &err),
        0);
    assert_string_equal(cli_word(&a, 0), "m.gguf");
    assert_null(cli_word(&a, 1));
    assert_string_equal(cli_text(&a, OPT_PROMPT), "hello");
    assert_int_equal(cli_int(&a, OPT_N_PREDICT), 7);
    assert_true(cli_real(&a, OPT_TEMP) == 0.5);
    assert_int_equal(cli_int(&a, OPT_KV), 2);
    assert_true(cli_on(&a, OPT_ECHO) && !cli_on(&a, OPT_CHAT));
    assert_int_equal(a.n_many[OPT_STOP], 2);
    assert_string_equal(a.many[OPT_STOP][1], "y");
    assert_false(cli_given(&a, OPT_TOP_K));
    assert_true(!cli_given(&a, OPT_HEAD) && cli_int(&a, OPT_HEAD) == 0); /* the fallback */
    cli_args_free(&a);
    assert_int_equal(parse(&a, "bench", "-p 64 -n 8", &err), 0); /* the same letters, other rows */
    assert_int_equal(cli_int(&a, OPT_N_PROMPT), 64);
    assert_int_equal(cli_int(&a, OPT_REPS), 5);
    cli_args_free(&a);
    assert_int_equal(parse(&a, "tokenize", "m - --", &err), 0); /* a dash alone is a word */
    assert_string_equal(cli_word(&a, 1), "-");
    cli_args_free(&a);
}

static void bad_lines_say_what_was_expected(void **state) {
    (void)state;
    const struct {
        const char *verb, *line, *told;
    } cases[] = {
        {"run", "--temp warm", "--temp warm: expected a number from 0 to 100"},
        {"run", "--temp nan", "expected a number"},
        {"run", "-t 1.5", "expected a whole number from 1 to 1024"},
        {"run", "-t 99999999999999999999", "expected a whole number"},
        {"run", "--kv f64", "expected one of f16|f32|q8"},
        {"run", "--seed -1", "expected a whole number of at least 0"},
        {"run", "--echo=maybe", "expected on or off"},
        {"run", "--treads 4", "did you mean --threads?"},
        {"run", "--tokens 1", "no option --tokens"}, /* of another verb */
        {"run", "-z", "no option -z"},
        {"run", "-pn", "no option -pn"},
        {"run", "--kv", "needs a value: TYPE, one of f16|f32|q8"},
        {"models", "x", "unexpected word 'x'"},
        {"convert", "", "usage: rotor convert IN"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        cli_args a;
        rotor_error err = {0};
        assert_int_equal(parse(&a, cases[i].verb, cases[i].line, &err), ROTOR_E_ARG);
        if (!strstr(err.message, cases[i].told)) fail_msg("'%s': %s", cases[i].line, err.message);
        cli_args_free(&a);
    }
}

static const char *fake_env(const char *name) {
    if (strcmp(name, "ROTOR_TOP_K") == 0) return "11";
    if (strcmp(name, "ROTOR_TEMP") == 0) return "0.2";
    if (strcmp(name, "ROTOR_NO_MMAP") == 0) return "yes";
    if (strcmp(name, "ROTOR_PROMPT") == 0) return "not a setting";
    return NULL;
}

static void the_command_line_beats_the_environment_beats_the_file(void **state) {
    (void)state;
    cli_args a;
    rotor_error err;
    const char *file = "# comment\n\n top-k = 12\r\nmin-p=0.25\ntemp = 0.9\nseed = 4\n[chat]\n"
                       "min-p = 0.5\n[run]\nseed = 5\nstop = a b\nstop = c # d\n";
    assert_int_equal(parse(&a, "run", "--temp 0.7", &err), 0);
    assert_int_equal(cli_read_environment(&a, fake_env, &err), ROTOR_OK);
    assert_int_equal(cli_read_config(&a, file, "config", &err), ROTOR_OK);
    assert_true(cli_real(&a, OPT_TEMP) == 0.7);
    assert_int_equal(cli_int(&a, OPT_TOP_K), 11);
    assert_true(cli_real(&a, OPT_MIN_P) == 0.25 && cli_on(&a, OPT_NO_MMAP));
    assert_int_equal(cli_int(&a, OPT_SEED), 5); /* the verb's section beats the general part */
    assert_null(cli_text(&a, OPT_PROMPT));
    assert_int_equal(a.n_many[OPT_STOP], 2);
    assert_string_equal(a.many[OPT_STOP][0], "a b");
    assert_string_equal(a.many[OPT_STOP][1], "c # d");
    cli_args_free(&a);
    assert_int_equal(parse(&a, "run", "--stop x", &err), 0);
    assert_int_equal(cli_read_config(&a, file, "config", &err), ROTOR_OK);
    assert_int_equal(a.n_many[OPT_STOP], 1); /* a list is taken whole from one place */
    assert_false(a.secret_in_file);
    cli_args_free(&a);
    assert_int_equal(parse(&a, "run", "", &err), 0);
    assert_int_equal(cli_read_config(&a, "[serve]\napi-key = k", "config", &err), ROTOR_OK);
    assert_true(a.secret_in_file);
    cli_args_free(&a);
}

static void a_wrong_line_in_the_file_names_its_place(void **state) {
    (void)state;
    const struct {
        const char *text, *told;
    } cases[] = {
        {"temp = 1\nno-histori = on",
         "config:2: no setting 'no-histori'; did you mean 'no-history'?"},
        {"\ntemp 1", "config:2: expected 'name = value', got 'temp 1'"},
        {"[serv]", "config:1: no verb 'serv'; did you mean [serve]?"},
        {"[run", "config:1: expected '[verb]', got '[run'"},
        {"[serve]\nprot = 1", "config:2: no setting 'prot' in [serve]; did you mean 'port'?"},
        {"[run]\nport = 1", "config:2: no setting 'port' in [run]"},
        {"[serve]\nport = x", "config:2: port x: expected a whole number"},
        {"temp = 1\n\ntemp = 1", "config:3: temp is set in line 1 already"},
        {"prompt = x", "config:1: 'prompt' belongs to one run: say it on the command line"},
        {"all = on", "belongs to one run"},
        {"config = x", "belongs to one run"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) { /* whichever verb runs */
        cli_args a;
        rotor_error err = {0};
        assert_int_equal(parse(&a, "models", "", &err), ROTOR_OK);
        assert_int_equal(cli_read_config(&a, cases[i].text, "config", &err), ROTOR_E_ARG);
        if (!strstr(err.message, cases[i].told)) fail_msg("'%s': %s", cases[i].text, err.message);
        cli_args_free(&a);
    }
}

/* The text of the option's first choice, or what fits its type. */
static const char *some_value(const cli_option *o, char out[32]) {
    if (o->type == CLI_FLAG) return "on";
    if (o->type == CLI_TEXT) return "text";
    if (o->type == CLI_CHOICE)
        snprintf(out, 32, "%.*s", (int)strcspn(o->choices, "|"), o->choices);
    else
        snprintf(out, 32, o->type == CLI_INT ? "%.0f" : "%g", o->min);
    return out;
}

static char only_name[CLI_VARIABLE_MAX], only_value[32];
static const char *only_env(const char *name) {
    return strcmp(name, only_name) == 0 ? only_value : NULL;
}

static void every_saved_option_comes_from_variable_and_file(void **state) {
    (void)state;
    int n = 0;
    for (int i = 0; i < CLI_N_OPTS; i++) {
        const cli_option *o = &cli_options[i];
        char value[32], text[128];
        for (size_t v = 0; cli_verb_at(v); v++) {
            const cli_verb *verb = cli_verb_at(v);
            cli_args a = {.verb = verb}, b = {.verb = verb};
            rotor_error err = {0};
            if (!(o->flags & CLI_SAVED) || !(o->verbs & verb->bit)) continue;
            cli_variable_of(o, only_name);
            snprintf(only_value, sizeof only_value, "%s", some_value(o, value));
            assert_int_equal(cli_read_environment(&a, only_env, &err), ROTOR_OK);
            assert_true(cli_given(&a, (cli_opt)i));
            snprintf(text, sizeof text, "[%s]\n%s = %s\n", verb->name, o->name, only_value);
            if (i != OPT_CONFIG) {
                assert_int_equal(cli_read_config(&b, text, "config", &err), ROTOR_OK);
                assert_true(cli_given(&b, (cli_opt)i));
            }
            cli_args_free(&a);
            cli_args_free(&b);
            n++;
        }
    }
    assert_true(n > 200);
}

static const char *word_at(const void *ctx, size_t i) { return ((const char *const *)ctx)[i]; }

static void near_misses(void **state) {
    (void)state;
    const char *const words[] = {"run", "chat", "tokenize", "perplexity", NULL};
    assert_string_equal(cli_nearest("rnu", word_at, words), "run");
    assert_string_equal(cli_nearest("tokenise", word_at, words), "tokenize");
    assert_string_equal(cli_nearest("perp", word_at, words), "perplexity");
    assert_null(cli_nearest("zzz", word_at, words));
    assert_null(cli_nearest("", word_at, words));
    assert_null(cli_nearest("a-very-long-word-that-is-no-option-at-all", word_at, words));
}

static void id_lists(void **state) {
    (void)state;
    uint32_t *ids;
    size_t n;
    rotor_error err;
    assert_int_equal(cli_parse_ids(" 1,2 , 30\n4", &ids, &n, &err), ROTOR_OK);
    assert_int_equal(n, 4);
    assert_int_equal(ids[2], 30);
    base_free(ids);
    assert_int_equal(cli_parse_ids("", &ids, &n, &err), ROTOR_OK);
    assert_int_equal(n, 0);
    base_free(ids);
    const char *const bad[] = {"1,x", "-1", "1.5", "4294967295", "99999999999999999999", "1;2"};
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        assert_int_equal(cli_parse_ids(bad[i], &ids, &n, &err), ROTOR_E_ARG);
}

static void parsing_survives_every_failed_allocation(void **state) {
    (void)state;
    for (long n = 1; n < 100; n++) {
        cli_args a;
        rotor_error err;
        base_fault_after(n);
        rotor_status st = parse(&a, "run", "m -p x --grammar b", &err);
        if (st == ROTOR_OK) st = cli_read_config(&a, "temp = 1\nstop = b\n", "config", &err);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        cli_args_free(&a);
        if (!fired) return;
    }
    fail();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_well_formed),
        cmocka_unit_test(no_verb_has_a_name_or_letter_twice),
        cmocka_unit_test(every_verb_has_a_function_and_help),
        cmocka_unit_test(values_and_words_are_read),
        cmocka_unit_test(bad_lines_say_what_was_expected),
        cmocka_unit_test(the_command_line_beats_the_environment_beats_the_file),
        cmocka_unit_test(a_wrong_line_in_the_file_names_its_place),
        cmocka_unit_test(every_saved_option_comes_from_variable_and_file),
        cmocka_unit_test(near_misses),
        cmocka_unit_test(id_lists),
        cmocka_unit_test(parsing_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
