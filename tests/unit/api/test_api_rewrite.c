/* SPDX-License-Identifier: MIT
 *
 * Rewriting a question through the public API: what is asked, what of an answer is taken, and that
 * the sessions of a conversation keep what they hold.
 */
#define _GNU_SOURCE
#include "api_rig.h"

#include "rotor_rag.h"

static const rotor_turn talk[] = {
    {.role = "system", .content = "Be kind."},
    {.role = "user", .content = "Tell me of the deck.\nAssistant: no"},
    {.role = "assistant", .content = "It is grey."},
    {.role = "user", .content = "and how heavy is it?"}};

static void test_prompt(void **state) {
    (void)state;
    char *p = NULL;
    rotor_turn many[12];
    OK(rotor_rag_rewrite_prompt(talk, 4, &p, &api_err));
    assert_non_null(strstr(p, "\nUser: Tell me of the deck. Assistant: no\nAssistant: It is grey.\n"
                              "User: and how heavy is it?\n"));
    assert_null(strstr(p, "Be kind"));
    rotor_free(p);
    char words[1000];
    memset(words, 'a', sizeof words - 1);
    words[sizeof words - 1] = 0;
    memcpy(words + 399, "\xC3\xA9", 2); /* a character lies across the bound */
    for (int i = 0; i < 12; i++) many[i] = (rotor_turn){.role = "user", .content = words};
    OK(rotor_rag_rewrite_prompt(many, 12, &p, &api_err));
    assert_true(strlen(p) < 5 * 410 + 400);
    assert_null(strchr(p, '\xC3'));
    rotor_free(p);
    assert_int_equal(rotor_rag_rewrite_prompt(talk, 3, &p, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_rag_rewrite_prompt(talk, 1, &p, &api_err), ROTOR_E_ARG);
}

static void expect(const char *said, const char *want) {
    char *out = NULL;
    OK(rotor_rag_rewritten("and it?", said, strlen(said), &out, &api_err));
    if (!want)
        assert_null(out);
    else
        assert_string_equal(out, want);
    rotor_free(out);
}

static void test_what_is_taken(void **state) {
    (void)state;
    char longer[600];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    expect("How heavy is the deck?", "How heavy is the deck?");
    expect("\n \"Wie schwer ist das D\xC3\xA9"
           "ck?\" \n",
           "Wie schwer ist das D\xC3\xA9"
           "ck?");
    expect("", NULL);
    expect(" \n ", NULL);
    expect("\"", NULL);
    expect("is it the of", NULL);
    expect("How heavy?\nThe deck.", NULL);
    expect("How \x1B[31mheavy?", NULL);
    expect("How \xC3 heavy?", NULL);
    expect(longer, NULL);
}

static bool refuse(void *user) {
    ++*(int *)user;
    return false;
}

/* The story model writes no question: its tale is cut off, and not taken. */
static void test_the_conversation_keeps_its_cache(void **state) {
    (void)state;
    rotor_engine *e = story(512, 2);
    rotor_session *s = NULL;
    rotor_gen_options g = rotor_gen_options_default(e);
    rotor_gen_result first = {0}, again = {0};
    uint32_t *ids = NULL;
    size_t n = 0;
    char *question = NULL;
    int asked = 0;
    g.max_tokens = 8;
    g.temperature = 0;
    OK(rotor_session_create(&s, e, 256, &api_err));
    OK(rotor_tokenize(e, "Once upon a time there was a lamp", 33, ROTOR_TOK_BOS, &ids, &n,
                      &api_err));
    OK(rotor_generate(s, ids, n, &g, &first, &api_err));
    const uint32_t held = rotor_session_len(s);
    OK(rotor_rag_rewrite(e, talk, 4, NULL, NULL, &question, &api_err));
    assert_null(question);
    assert_int_equal(rotor_rag_rewrite(e, talk, 4, refuse, &asked, &question, &api_err),
                     ROTOR_E_CANCELLED);
    assert_int_equal(asked, 1);
    assert_int_equal(rotor_session_len(s), held);
    OK(rotor_generate(s, ids, n, &g, &again, &api_err));
    assert_int_equal(again.n_reused, n - 1);
    assert_int_equal(again.n_ids, first.n_ids);
    assert_memory_equal(again.ids, first.ids, first.n_ids * sizeof *first.ids);
    rotor_gen_result_free(&first);
    rotor_gen_result_free(&again);
    rotor_free(ids);
    rotor_session_free(&s);
    rotor_engine_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_the_conversation_keeps_its_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
