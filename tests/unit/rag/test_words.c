/* SPDX-License-Identifier: MIT
 *
 * Terms of texts: stems, compounds, scripts, stop words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "rag/rag_internal.h"
#include "rag/rag_words.h"

/* Pairs of Porter's paper and of his vocabulary of tests. */
static void stems_are_porters(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"caresses", "caress"},
                                           {"ponies", "poni"},
                                           {"ties", "ti"},
                                           {"caress", "caress"},
                                           {"cats", "cat"},
                                           {"feed", "feed"},
                                           {"agreed", "agre"},
                                           {"plastered", "plaster"},
                                           {"bled", "bled"},
                                           {"motoring", "motor"},
                                           {"sing", "sing"},
                                           {"conflated", "conflat"},
                                           {"troubled", "troubl"},
                                           {"sized", "size"},
                                           {"hopping", "hop"},
                                           {"tanned", "tan"},
                                           {"falling", "fall"},
                                           {"hissing", "hiss"},
                                           {"fizzed", "fizz"},
                                           {"failing", "fail"},
                                           {"filing", "file"},
                                           {"happy", "happi"},
                                           {"sky", "sky"},
                                           {"relational", "relat"},
                                           {"conditional", "condit"},
                                           {"rational", "ration"},
                                           {"valenci", "valenc"},
                                           {"hesitanci", "hesit"},
                                           {"digitizer", "digit"},
                                           {"conformabli", "conform"},
                                           {"radicalli", "radic"},
                                           {"differentli", "differ"},
                                           {"vileli", "vile"},
                                           {"analogousli", "analog"},
                                           {"vietnamization", "vietnam"},
                                           {"predication", "predic"},
                                           {"operator", "oper"},
                                           {"feudalism", "feudal"},
                                           {"decisiveness", "decis"},
                                           {"hopefulness", "hope"},
                                           {"callousness", "callous"},
                                           {"formaliti", "formal"},
                                           {"sensitiviti", "sensit"},
                                           {"sensibiliti", "sensibl"},
                                           {"triplicate", "triplic"},
                                           {"formative", "form"},
                                           {"formalize", "formal"},
                                           {"electriciti", "electr"},
                                           {"electrical", "electr"},
                                           {"hopeful", "hope"},
                                           {"goodness", "good"},
                                           {"revival", "reviv"},
                                           {"allowance", "allow"},
                                           {"inference", "infer"},
                                           {"airliner", "airlin"},
                                           {"gyroscopic", "gyroscop"},
                                           {"adjustable", "adjust"},
                                           {"defensible", "defens"},
                                           {"irritant", "irrit"},
                                           {"replacement", "replac"},
                                           {"adjustment", "adjust"},
                                           {"dependent", "depend"},
                                           {"adoption", "adopt"},
                                           {"homologou", "homolog"},
                                           {"communism", "commun"},
                                           {"activate", "activ"},
                                           {"angulariti", "angular"},
                                           {"homologous", "homolog"},
                                           {"effective", "effect"},
                                           {"bowdlerize", "bowdler"},
                                           {"probate", "probat"},
                                           {"rate", "rate"},
                                           {"cease", "ceas"},
                                           {"controll", "control"},
                                           {"roll", "roll"},
                                           {"generalizations", "gener"},
                                           {"oscillators", "oscil"},
                                           {"as", "as"},
                                           {"is", "is"},
                                           {"dying", "dy"},
                                           {"yes", "ye"}};
    for (size_t i = 0; i < BASE_COUNT(pairs); i++) {
        char w[RAG_MAX_TERM];
        snprintf(w, sizeof w, "%s", pairs[i][0]);
        w[rag_stem(w, strlen(w))] = 0;
        assert_string_equal(w, pairs[i][1]);
    }
}

static rotor_status write_term(void *user, const rag_term *t) {
    base_buf_printf(user, "%.*s%s ", (int)t->t.n, t->t.p, t->extra ? "+" : t->stop ? "-" : "");
    return ROTOR_OK;
}

static void assert_terms(const char *text, const char *want) {
    base_buf out = {0};
    base_buf_puts(&out, "");
    assert_int_equal(rag_terms_of(base_str_of(text), write_term, &out), ROTOR_OK);
    assert_string_equal(out.data, want);
    base_buf_free(&out);
}

static void words_become_terms(void **state) {
    (void)state;
    assert_terms("The Cats sat.", "the- cat sat ");
    assert_terms("Café NAÏVE", "cafe naiv ");
    assert_terms("error E-4012!", "error e 4012 e4012+ ");
    assert_terms("maxTokens max_tokens", "max token maxtokens+ max token maxtokens+ ");
    assert_terms("mRNA siRNA", "mrna si rna sirna+ ");
    assert_terms("a.b --x- _y_ e.g.", "a- b ab+ x y e g eg+ ");
    assert_terms("3.5 mg", "3 5 35+ mg ");
    assert_terms("日本語 x 語", "日本 本語 x 語 ");
    assert_terms("Straße ﬁne", "strass fine ");
    assert_terms(" \t\n.-", "");
    assert_terms("\xff\xfe abc \xe6\x97", "abc ");
}

static void long_words_are_cut(void **state) {
    (void)state;
    char text[400];
    base_buf out = {0};
    memset(text, 'q', sizeof text);
    assert_int_equal(rag_terms_of((base_str){text, sizeof text}, write_term, &out), ROTOR_OK);
    assert_int_equal(out.len, RAG_MAX_TERM + 1);
    base_buf_free(&out);
}

static void lengths_are_near_those_of_wordpiece(void **state) {
    (void)state;
    /* 25 tokens with MiniLM's vocabulary, without [CLS] and [SEP]. */
    const char *text =
        "Low vitamin D (VD) is associated with secondary hyperparathyroidism and both "
        "contribute to deleterious consequences.";
    const size_t n = rag_tokens_about(base_str_of(text));
    assert_in_range(n, 23, 32);
    assert_int_equal(rag_tokens_about(base_str_of("")), 0);
    assert_int_equal(rag_tokens_about(base_str_of("a b, c.")), 5);
}

static base_str many_of(base_buf *b, const char *piece, size_t n_bytes, const char *last) {
    while (b->len < n_bytes) base_buf_puts(b, piece);
    base_buf_puts(b, last);
    assert_false(b->failed);
    return (base_str){b->data, b->len};
}

/* A megabyte: were the rest looked through for each mark, this would take many minutes. */
static void marks_that_close_nothing_cost_no_more_than_their_length(void **state) {
    (void)state;
    static const struct {
        const char *piece, *last; /* many of them, and what ends them */
        bool found;               /* a phrase of two words behind them */
    } cases[] = {{" \"a", "", false},
                 {"\xE2\x80\x9E ", "\xE2\x80\x9D", false},
                 {"\xE2\x80\x9E ", "\xE2\x80\x9D \"a b\"", true}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        base_buf b = {0};
        rag_phrase p;
        const base_str s = many_of(&b, cases[i].piece, 1 << 20, cases[i].last);
        assert_int_equal(rag_next_phrase(s, 0, &p), cases[i].found);
        if (cases[i].found) assert_int_equal(p.begin, s.n - 5);
        if (cases[i].found) assert_memory_equal(p.words.p, "a b", p.words.n);
        base_buf_free(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stems_are_porters),
        cmocka_unit_test(words_become_terms),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(marks_that_close_nothing_cost_no_more_than_their_length),
        cmocka_unit_test(lengths_are_near_those_of_wordpiece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
