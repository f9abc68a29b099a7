/* SPDX-License-Identifier: MIT
 *
 * The notation: what each sign means, and where a message says that it is wrong.
 */
#include "grammar_rig.h"

typedef struct accepts {
    const char *gbnf, *text; /* a grammar, and what is put to it */
    verdict want;            /* its answer */
} accepts;

static void signs_mean_what_they_do(void **state) {
    (void)state;
    static const accepts list[] = {
        {"root ::= \"ab\"", "", LIVES},
        {"root ::= \"ab\"", "a", LIVES},
        {"root ::= \"ab\"", "ab", ENDS},
        {"root ::= \"ab\"", "abc", DIES},
        {"root ::= \"ab\"", "b", DIES},
        {"root ::= \"\"", "", ENDS},
        {"root ::= | \"x\"", "", ENDS},
        {"root ::= \"a\" | \"b\" | \"c\"", "c", ENDS},
        {"root ::= \"a\"\n  | \"b\" # or\n\n  | \"c\"\n", "b", ENDS},
        {"# first\n\nroot ::=\n \"a\" b\nb ::= (\"x\"\n \"y\")\n", "axy", ENDS},
        {"root ::= \"a\"? \"b\"", "b", ENDS},
        {"root ::= \"a\"* \"b\"", "aaab", ENDS},
        {"root ::= \"a\"+ \"b\"", "b", DIES},
        {"root ::= \"a\"+ \"b\"", "aab", ENDS},
        {"root ::= \"a\"{3}", "aa", LIVES},
        {"root ::= \"a\"{3}", "aaa", ENDS},
        {"root ::= \"a\"{3}", "aaaa", DIES},
        {"root ::= \"a\"{2,3}", "aaa", ENDS},
        {"root ::= \"a\"{ 2 , 3 }", "a", LIVES},
        {"root ::= \"a\"{,2}", "aaa", DIES},
        {"root ::= \"a\"{2,}", "aaaaaa", ENDS},
        {"root ::= \"a\"{0}", "", ENDS},
        {"root ::= \"a\"{0}", "a", DIES},
        {"root ::= \"a\"?+ \"b\"", "aab", ENDS},
        {"root ::= \"a\"?+ \"b\"", "b", ENDS},
        {"root ::= \"a\"+{1}+ \"b\"", "b", DIES},
        {"root ::= \"a\"+{0,1} \"b\"", "aab", ENDS},
        {"root ::= \"a\"{1}?{1,1} \"b\"", "aab", DIES},
        {"root ::= \"a\"?{2}?{1} \"b\"", "aab", ENDS},
        {"root ::= \"a\"?{2}?{1} \"b\"", "aaab", DIES},
        {"root ::= \"a\"{2}+ \"b\"", "aaab", DIES},
        {"root ::= \"a\"{2}+ \"b\"", "aaaab", ENDS},
        {"root ::= \"a\"+{0}*? \"b\"", "b", ENDS},
        {"root ::= \"a\"+{0}*? \"b\"", "ab", DIES},
        {"root ::= (\"a\" | \"b\")* \"c\"", "abbac", ENDS},
        {"root ::= ((\"a\"*)*)* \"b\"", "aab", ENDS},
        {"root ::= (\"a\"? \"b\"?){3,5} \"c\"", "abbbc", ENDS},
        {"root ::= [a-c]", "b", ENDS},
        {"root ::= [^a-c]", "b", DIES},
        {"root ::= [^a-c]", "\n", ENDS},
        {"root ::= [a-]", "-", ENDS},
        {"root ::= [-a]", "-", ENDS},
        {"root ::= [\\]\\[\\\\\\\"]+", "[]\\\"", ENDS},
        {"root ::= [\\x41-\\x43]", "B", ENDS},
        {"root ::= \"\\x41\\u00e9\\U0001F600\\n\\t\\\\\\\"\"", "A\xC3\xA9\xF0\x9F\x98\x80\n\t\\\"",
         ENDS},
        {"root ::= [\xC3\xA0-\xC3\xBC]", "\xC3\xA9", ENDS},
        {"root ::= [\xC3\xA0-\xC3\xBC]", "\xC3", LIVES},
        {"root ::= [\xC3\xA0-\xC3\xBC]", "\xC3\xBD", DIES},
        {"root ::= .", "\xE2\x82\xAC", ENDS},
        {"root ::= .", "\xE2\x82", LIVES},
        {"root ::= .", "\xED\xA0", DIES}, /* a surrogate */
        {"root ::= .", "\xC0", DIES},
        {"root ::= .", "\xF4\x90", DIES},
        {"root ::= .", "\n", ENDS},
        {"root ::= [^\\u20ac]", "\xE2\x82\xAC", DIES},
        {"root ::= [^\\u20ac]", "\xE2\x82\xAB", ENDS},
        {"root ::= a-b_c0\na-b_c0 ::= \"x\"", "x", ENDS},
        {"root ::= \"(\" root \")\" | \"x\"", "(((x)))", ENDS},
        {"root ::= \"(\" root \")\" | \"x\"", "(((x))", LIVES},
        {"root ::= \"(\" root \")\" | \"x\"", "(((x))))", DIES},
        {"root ::= \"a\" root | \"b\"", "aaaaab", ENDS}, /* right recursion */
        {"root ::= x \"a\" | y \"b\"\nx ::= \"(\" x \")\" | \"1\"\ny ::= \"(\" y \")\" | \"1\"",
         "((1))b", ENDS},
        {"root ::= dead | \"b\"\ndead ::= \"a\" dead", "a",
         DIES}, /* what never ends never begins */
    };
    for (size_t i = 0; i < BASE_COUNT(list); i++) {
        const verdict got = judge_alone(list[i].gbnf, list[i].text);
        if (got != list[i].want)
            fail_msg("%s\nof '%s': %d, not %d", list[i].gbnf, list[i].text, got, list[i].want);
    }
}

typedef struct wrong {
    const char *gbnf, *message; /* a grammar, and a part of what is said of it */
} wrong;

static void errors_name_their_place(void **state) {
    (void)state;
    static const wrong list[] = {
        {"", "no rule named root"},
        {"a ::= \"x\"", "no rule named root"},
        {"root ::= \"a\"\nb ::= \"x", "line 2, column 7: the text has no end"},
        {"root ::= [a", "line 1, column 10: the class has no end"},
        {"root ::= []", "line 1, column 10: the class is empty"},
        {"root ::= [z-a]", "line 1, column 11: the range ends before it begins"},
        {"root ::= (\"a\"", "line 1, column 10: the parenthesis is not closed"},
        {"root ::= \"a\")", "line 1, column 13: a parenthesis too many"},
        {"root ::= \"a\" b", "line 1, column 14: there is no rule named b"},
        {"root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: the rule has been written before"},
        {"root = \"a\"", "line 1, column 6: expected ::="},
        {"root ::= \"a\" %", "line 1, column 14: expected a text"},
        {"root ::= * \"a\"", "line 1, column 10: expected a text"},
        {"root ::= \"\\q\"", "line 1, column 12: unknown escape"},
        {"root ::= \"\\xg0\"", "line 1, column 13: expected a hexadecimal digit"},
        {"root ::= \"\\ud800\"", "line 1, column 13: that is no character"},
        {"root ::= \"\\UFFFFFFFF\"", "line 1, column 13: that is no character"},
        {"root ::= \"\xC3\xA9\" \"\xFF\"", "line 1, column 15: not UTF-8"},
        {"root ::= \"a\"{3,2}", "line 1, column 13: the largest number is below the smallest"},
        {"root ::= \"a\"{999999}", "line 1, column 14: repeated too often"},
        {"root ::= \"a\"{x}", "line 1, column 14: expected a number"},
        {"root ::= \"a\"\n  b ::= b \"x\"", "line 2, column 3: rule b begins with itself"},
        {"root ::= \"x\"? root", "line 1, column 1: rule root begins with itself"},
        {"root ::= a\na ::= b\nb ::= \"\" a \"x\"", "begins with itself (left recursion)"},
        {"root ::= \"a\" root", "no text can fulfil it (root never ends)"},
    };
    for (size_t i = 0; i < BASE_COUNT(list); i++) {
        grammar *g = NULL;
        rotor_error err = {0};
        if (grammar_from_gbnf(&g, base_str_of(list[i].gbnf), &err) != ROTOR_E_FORMAT)
            fail_msg("read: %s", list[i].gbnf);
        if (!strstr(err.message, list[i].message))
            fail_msg("%s\nsays '%s', not '%s'", list[i].gbnf, err.message, list[i].message);
        assert_null(g);
    }
}

/* text, n times, between two others. */
static char *repeat(const char *before, const char *text, size_t n, const char *behind) {
    base_buf b = {0};
    base_buf_puts(&b, before);
    for (size_t i = 0; i < n; i++) base_buf_puts(&b, text);
    base_buf_puts(&b, behind);
    assert_false(b.failed);
    return b.data;
}

static void large_grammars_are_bounded(void **state) {
    (void)state;
    rotor_error err = {0};
    grammar *g = NULL;
    char *deep = repeat("root ::= ", "(", 5000, "");
    assert_int_equal(grammar_from_gbnf(&g, base_str_of(deep), &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "nested too deeply"));
    char *long_text = repeat("root ::= \"", "a", 1 << 20, "\"");
    assert_int_equal(grammar_from_gbnf(&g, base_str_of(long_text), &err), ROTOR_E_FULL);
    char *many = repeat("root ::= ", "\"ab\"{100000} ", 40, "");
    assert_int_equal(grammar_from_gbnf(&g, base_str_of(many), &err), ROTOR_E_FULL);
    char *doubled = repeat("root ::= \"a\"", "+", 60, ""); /* not 2^60 copies */
    assert_int_equal(grammar_from_gbnf(&g, base_str_of(doubled), &err), ROTOR_OK);
    grammar_free(&g);
    char *wide = repeat("root ::= \"a\"", " | \"b\"", 50000, "");
    assert_int_equal(grammar_from_gbnf(&g, base_str_of(wide), &err), ROTOR_OK);
    grammar_free(&g);
    base_free(deep);
    base_free(long_text);
    base_free(many);
    base_free(doubled);
    base_free(wide);
}

/* Signs in a row neither nest on the stack nor end it. */
static void repetitions_in_a_row_do_not_nest(void **state) {
    (void)state;
    static const struct {
        const char *sign;    /* written so often */
        int n;               /* times */
        rotor_status status; /* what comes of it */
    } list[] = {
        {"?", 1000000, ROTOR_OK},       {"*", 1000000, ROTOR_OK},    {"{1}", 300000, ROTOR_OK},
        {"+?*{0,1}", 100000, ROTOR_OK}, {"{2}", 100000, ROTOR_OK},   {"{2,}?", 100000, ROTOR_OK},
        {"{0}?", 100000, ROTOR_OK},     {"{,2}+", 100000, ROTOR_OK},
    };
    for (size_t i = 0; i < BASE_COUNT(list); i++) {
        rotor_error err = {0};
        grammar *g = NULL;
        char *text = repeat("root ::= \"a\"", list[i].sign, list[i].n, "");
        const rotor_status status = grammar_from_gbnf(&g, base_str_of(text), &err);
        if (status != list[i].status)
            fail_msg("%s: %d '%s'", list[i].sign, (int)status, err.message);
        grammar_free(&g);
        base_free(text);
    }
}

static void memory_may_run_out(void **state) {
    (void)state;
    const char *text = "root ::= (a | [^x]{3,9}) \"\xC3\xA9\"* root?\na ::= \"b\" a | \"c\"";
    for (long n = 1;; n++) {
        grammar *g = NULL;
        grammar_masks *m = NULL;
        rotor_error err = {0};
        uint32_t at;
        base_fault_after(n);
        rotor_status status = grammar_from_gbnf(&g, base_str_of(text), &err);
        if (status == ROTOR_OK) status = grammar_masks_create(&m, g, NULL, NULL, &err);
        if (status == ROTOR_OK)
            status = grammar_put(m, grammar_start(m), base_str_of("bbcyyy"), &at, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(status, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        grammar_masks_free(&m);
        grammar_free(&g);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_mean_what_they_do),
        cmocka_unit_test(errors_name_their_place),
        cmocka_unit_test(large_grammars_are_bounded),
        cmocka_unit_test(repetitions_in_a_row_do_not_nest),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
