/* SPDX-License-Identifier: MIT
 *
 * .rotorignore: each form of a rule against paths it speaks of and paths it does not, rules of a
 * folder further down before those above, and rules that cannot be read.
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
#include <unistd.h>

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

static rotor_status count(void *user, const char *path) {
    (void)path;
    ++*(int *)user;
    return ROTOR_OK;
}

/* What cannot be read may say anything: nothing is taken from the folder, and nothing dropped. */
static void folder_is_left_out(void) {
    char place[] = "/nowhere";
    rag r = {.place = place};
    const rag_add_options all = {0};
    rotor_error err = {0};
    bool ruled;
    int n = 0;
    rag_ignore own;
    assert_int_equal(rag_ignore_read(&own, NULL, at("odd"), NULL), ROTOR_OK);
    assert_true(own.unread);
    rag_ignore_free(&own);
    assert_int_equal(rag_scan(&r, at("odd"), &all, count, &n, &err), ROTOR_OK);
    assert_int_equal(n, 0);
    assert_false(rag_scan_wants(&r, top, at("odd/a.md"), &all));
    assert_false(rag_scan_ignored(at("odd"), at("odd/a.md"), &ruled));
    assert_true(ruled);
}

static void test_rules_that_cannot_be_read(void **state) {
    (void)state;
    static char long_rule[70000];
    const char *rules = "odd/" RAG_IGNORE_NAME;
    memset(long_rule, 'x', sizeof long_rule);
    assert_int_equal(unlink(at(RAG_IGNORE_NAME)), 0);
    assert_int_equal(mkdir(at("odd"), 0700), 0);
    write_rules("odd/a.md", "a", 1);
    write_rules(rules, long_rule, sizeof long_rule);
    folder_is_left_out();
    write_rules(rules, "a\0b\n", 4);
    folder_is_left_out();
    assert_int_equal(unlink(at(rules)), 0);
    assert_int_equal(symlink("nowhere", at(rules)), 0);
    folder_is_left_out();
    assert_int_equal(unlink(at(rules)), 0);
    assert_int_equal(mkdir(at(rules), 0700), 0);
    folder_is_left_out();
    assert_int_equal(rmdir(at(rules)), 0);
    write_rules(rules, "", 0);
    char place[] = "/nowhere";
    rag r = {.place = place};
    assert_true(rag_scan_wants(&r, top, at("odd/a.md"), &(rag_add_options){0}));
}

int main(void) {
    char command[64];
    if (!mkdtemp(top)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms_of_rules),
                                       cmocka_unit_test(test_nearer_rules_count_first),
                                       cmocka_unit_test(test_rules_that_cannot_be_read)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command) || failed;
}
