/* SPDX-License-Identifier: MIT
 *
 * .rotorignore: each form of a rule against paths it speaks of and paths it does not, rules of a
 * folder further down before those above, and files that are no list of rules.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "rag/rag_internal.h"

static char top[] = "/tmp/rotor_ignore_XXXXXX";

static const char *at(const char *below) {
    static char path[4][256];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s%s%s", top, *below ? "/" : "", below);
    return p;
}

static void write_rules(const char *file, const char *rules, size_t n) {
    base_out o;
    assert_int_equal(base_out_open(&o, at(file), NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&o, rules, n, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&o, NULL), ROTOR_OK);
}

static bool ignores(const char *rules, const char *below, bool folder) {
    rag_ignore own;
    write_rules(RAG_IGNORE_NAME, rules, strlen(rules));
    assert_int_equal(rag_ignore_read(&own, NULL, top, NULL), ROTOR_OK);
    const bool yes = rag_ignores(&own, at(below), folder);
    rag_ignore_free(&own);
    return yes;
}

static void test_forms_of_rules(void **state) {
    (void)state;
    static const struct {
        const char *rules, *path; /* file; below the folder */
        bool folder, yes;         /* is it one; is it left out */
    } cases[] = {{"draft", "draft", false, true},
                 {"draft", "a/b/draft", false, true},
                 {"draft", "drafts", false, false},
                 {"draft-?\n", "x/draft-2", false, true},
                 {"*.log", "a/b.log", false, true},
                 {"/todo.md", "todo.md", false, true},
                 {"/todo.md", "a/todo.md", false, false},
                 {"old/", "old", true, true},
                 {"old/", "a/old", true, true},
                 {"old/", "old", false, false},
                 {"a/b/*.txt", "a/b/c.txt", false, true},
                 {"a/*.txt", "a/b/c.txt", false, false},
                 {"a/*.txt", "x/a/c.txt", false, false},
                 {"*.md\n!keep.md", "keep.md", false, false},
                 {"!keep.md\n*.md", "keep.md", false, true},
                 {"# draft\n\n  \n", "draft", false, false},
                 {"draft  \r\n", "draft", false, true},
                 {"", "draft", false, false},
                 {"/\n!\n!/\n", "draft", false, false},
                 {"[", "x", false, false}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        if (ignores(cases[i].rules, cases[i].path, cases[i].folder) != cases[i].yes)
            fail_msg("'%s' and %s", cases[i].rules, cases[i].path);
}

static void test_nearer_rules_count_first(void **state) {
    (void)state;
    bool ruled;
    assert_int_equal(mkdir(at("sub"), 0700), 0);
    assert_int_equal(mkdir(at("bare"), 0700), 0);
    write_rules(RAG_IGNORE_NAME, "*.txt\n/gone/\n", 13);
    write_rules("sub/" RAG_IGNORE_NAME, "!a.txt\n/c.md\n", 13);
    assert_false(rag_scan_ignored(top, at("sub/a.txt"), &ruled));
    assert_true(ruled);
    assert_true(rag_scan_ignored(top, at("sub/b.txt"), &ruled));
    assert_true(rag_scan_ignored(top, at("sub/c.md"), &ruled));
    assert_true(rag_scan_ignored(top, at("a.txt"), &ruled));
    assert_false(rag_scan_ignored(top, at("c.md"), &ruled));
    assert_int_equal(mkdir(at("gone"), 0700), 0);
    assert_true(rag_scan_ignored(top, at("gone/c.md"), &ruled));
    assert_false(rag_scan_ignored(at("bare"), at("bare/a.txt"), &ruled));
    assert_false(ruled);
}

static void test_files_that_are_no_rules(void **state) {
    (void)state;
    static char long_rule[70000];
    memset(long_rule, 'x', sizeof long_rule);
    write_rules(RAG_IGNORE_NAME, long_rule, sizeof long_rule);
    rag_ignore own;
    assert_int_equal(rag_ignore_read(&own, NULL, top, NULL), ROTOR_OK);
    assert_false(rag_ignores(&own, at("x"), false));
    rag_ignore_free(&own);
    write_rules(RAG_IGNORE_NAME, "a\0b\n", 4);
    assert_int_equal(rag_ignore_read(&own, NULL, top, NULL), ROTOR_OK);
    assert_true(rag_ignores(&own, at("a"), false)); /* what is behind a zero byte is not read */
    rag_ignore_free(&own);
}

int main(void) {
    char command[64];
    if (!mkdtemp(top)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms_of_rules),
                                       cmocka_unit_test(test_nearer_rules_count_first),
                                       cmocka_unit_test(test_files_that_are_no_rules)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command) || failed;
}
