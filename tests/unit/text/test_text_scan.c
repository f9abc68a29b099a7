/* SPDX-License-Identifier: MIT
 *
 * text: the hand scanners, against single cases and against the published expressions run by
 * PCRE2 through a tokenizer.json.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "text/text_internal.h"
#include "text_help.h"

static void join_pieces(void *user, base_str piece) {
    base_buf *b = user;
    if (b->len) base_buf_puts(b, "|");
    base_buf_append(b, piece.p, piece.n);
}

static void check_split(const char *pre, const char *text, const char *want) {
    base_buf got = {0};
    assert_int_equal(text_split(base_str_of(pre), base_str_of(text), join_pieces, &got, NULL),
                     ROTOR_OK);
    assert_string_equal(got.data ? got.data : "", want);
    base_buf_free(&got);
}

static void known_cases(void **state) {
    (void)state;
    check_split("gpt-4o", "HelloWorld", "Hello|World");
    check_split("gpt-4o", "HTTPSession", "HTTPSession");
    check_split("gpt-4o", "don't", "don't");
    check_split("gpt-4o", "I'M", "I'M");
    check_split("gpt-4o", "1234567", "123|456|7");
    check_split("gpt-4o", "camelCase", "camel|Case");
    check_split("gpt-4o", "中ABC", "中|ABC");
    check_split("gpt-4o", "नमस्ते", "नमस्ते");
    check_split("gpt-4o", "a/b//\n/c", "a|/b|//\n/|c");
    check_split("gpt-4o", "\n \n\n x", "\n \n\n| x");
    check_split("llama-bpe", "3333", "333|3");
    check_split("llama-bpe", "can'T 'S", "can|'T| '|S");
    check_split("llama-bpe",
                "a\xC2\xA0"
                "b  c\t\td",
                "a|\xC2\xA0"
                "b| | c|\t|\td");
    check_split("llama-bpe", "x \r\n  y ", "x| \r\n| | y| ");
    check_split("qwen2", "33x", "3|3|x");
    check_split("gpt-2", "can'T don't", "can|'|T| don|'t");
    check_split("gpt-2", "a\n\n b ½²", "a|\n\n| b| ½²");
    check_split("qwen35", "e\xCC\x81tude", "e\xCC\x81tude");
    check_split("qwen2", "e\xCC\x81tude", "e|\xCC\x81tude");
    check_split("starcoder", "a12 b\tc", "a|1|2| b|\t|c");
    check_split("falcon", "x1234, y", "x|123|4|,| y");
    check_split("deepseek-llm", "Hi 中文 12\n  ", "Hi| |中文| |12|\n|  ");
    check_split("gpt-2", "", "");
    check_split("llama-bpe",
                "a\xFF\xFE"
                "b\xE4\xB8",
                "a|\xFF\xFE|b|\xE4\xB8");
}

static void unknown_names(void **state) {
    (void)state;
    base_buf got = {0};
    assert_int_equal(text_split(base_str_of("tekken"), base_str_of("x"), join_pieces, &got, NULL),
                     ROTOR_E_UNSUPPORTED);
    check_split("", "x1234", "x|123|4"); /* the default rules */
}

#ifdef ROTOR_HAVE_PCRE2

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES       "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* "(?:)" in front makes the expression unknown, so that PCRE2 runs it. */
static const char *const regexes[][2] = {
    {"gpt-2", "(?:)'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|"
              "\\\\s+(?!\\\\S)|\\\\s+"},
    {"llama3", "(?:)" CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
               "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|" SPACES},
    {"qwen2", "(?:)" CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
              "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|" SPACES},
    {"qwen35", "(?:)" CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{L}\\\\p{M}]+|\\\\p{N}| "
               "?[^\\\\s\\\\p{L}\\\\p{M}\\\\p{N}]+[\\\\r\\\\n]*|" SPACES},
    {"gpt-4o",
     "(?:)[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*"
     "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+" CONTRACTIONS "?|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
     "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
     "*" CONTRACTIONS "?|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|" SPACES},
};

static text_vocab *regex_vocab(const char *regex) {
    base_buf b = {0};
    rotor_error err = {0};
    text_vocab *v = NULL;
    base_buf_printf(&b,
                    "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\","
                    "\"pattern\":{\"Regex\":\"%s\"}},\"model\":{\"type\":\"BPE\",\"merges\":[],"
                    "\"vocab\":{\"a\":0}}}",
                    regex);
    if (text_vocab_from_json(&v, help_str(&b), (base_str){0}, NULL, &err))
        fail_msg("%s", err.message);
    base_buf_free(&b);
    return v;
}

static rotor_status join_piece(text_run *r, base_str piece) {
    join_pieces(r->user, piece);
    return ROTOR_OK;
}

/* The pieces that the vocabulary's steps make. */
static void split_by(const text_vocab *v, base_str text, base_buf *out) {
    text_run r = {.v = v, .steps = &v->steps, .piece = join_piece, .user = out};
    assert_int_equal(text_run_steps(&r, 0, text), ROTOR_OK);
    text_run_free(&r);
}

static void scanners_equal_their_expressions(void **state) {
    (void)state;
    help_atoms *atoms = help_atoms_read();
    base_buf s = {0};
    for (size_t r = 0; r < BASE_COUNT(regexes); r++) {
        text_vocab *v = regex_vocab(regexes[r][1]);
        size_t bad = 0;
        assert_string_equal(text_pre(v).p, "tokenizer.json");
        for (uint64_t i = 0; i < (getenv("ROTOR_TEST_QUICK") ? 3000 : 60000); i++) {
            base_buf hand = {0}, regex = {0};
            help_random_string(atoms, i + (1u << 20), &s);
            text_split(base_str_of(regexes[r][0]), help_str(&s), join_pieces, &hand, NULL);
            split_by(v, help_str(&s), &regex);
            if (hand.len != regex.len || (hand.len && memcmp(hand.data, regex.data, hand.len) != 0))
                if (bad++ < 3) print_error("%s:\n %s\n %s\n", regexes[r][0], hand.data, regex.data);
            base_buf_free(&hand);
            base_buf_free(&regex);
        }
        print_message("%s: 60000 strings, %zu differ\n", regexes[r][0], bad);
        assert_int_equal(bad, 0);
        text_vocab_free(&v);
    }
    base_buf_free(&s);
    help_atoms_free(atoms);
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_cases),
        cmocka_unit_test(unknown_names),
#ifdef ROTOR_HAVE_PCRE2
        cmocka_unit_test(scanners_equal_their_expressions),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
