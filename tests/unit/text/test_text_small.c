/* SPDX-License-Identifier: MIT
 *
 * text: single rules, each shown on a vocabulary of a few tokens.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "plain_spec.h"
#include "text_help.h"

enum { MAX = 16 };

typedef struct small {
    base_str tokens[MAX]; /* texts */
    float scores[MAX];    /* minus the id */
    int32_t types[MAX];   /* normal unless a test changes it */
    base_str merges[MAX]; /* BPE */
    text_spec spec;       /* refers to the rest */
} small;

/* Tokens and merges are given as words between single spaces ("_" stands for the space of a merge
 * and "▁" for itself). */
static void small_init(small *s, text_model model, const char *pre, char *tokens, char *merges) {
    *s = (small){.spec = plain_spec(model)};
    s->spec.pre = base_str_of(pre);
    s->spec.tokens = s->tokens;
    s->spec.scores = s->scores;
    s->spec.types = s->types;
    s->spec.merges = s->merges;
    s->spec.add_bos = s->spec.add_eos = -1;
    char *at;
    for (char *t = strtok_r(tokens, " ", &at); t; t = strtok_r(NULL, " ", &at)) {
        size_t i = s->spec.n_tokens++;
        s->tokens[i] = base_str_of(t);
        s->scores[i] = -(float)i;
        s->types[i] = TEXT_NORMAL;
    }
    for (char *m = strtok_r(merges, " ", &at); m; m = strtok_r(NULL, " ", &at)) {
        if (strchr(m, '_')) *strchr(m, '_') = ' ';
        s->merges[s->spec.n_merges++] = base_str_of(m);
    }
}

static text_vocab *small_vocab(const small *s) {
    rotor_error err = {0};
    text_vocab *v = NULL;
    if (text_vocab_create(&v, &s->spec, &err)) fail_msg("%s", err.message);
    return v;
}

static void check_ids(const text_vocab *v, const char *text, unsigned flags, const char *want) {
    text_ids ids = help_encode(v, base_str_of(text), flags);
    base_buf b = {0};
    for (size_t i = 0; i < ids.n; i++) base_buf_printf(&b, i ? " %u" : "%u", ids.ids[i]);
    assert_string_equal(b.data ? b.data : "", want);
    base_buf_free(&b);
    text_ids_free(&ids);
}

static void check_small(const small *s, const char *text, unsigned flags, const char *want) {
    text_vocab *v = small_vocab(s);
    check_ids(v, text, flags, want);
    text_vocab_free(&v);
}

static void first_of_equal_merges_counts(void **state) {
    (void)state;
    small s;
    char tokens[] = "a b c ab bc", merges[] = "a_b b_c a_b";
    small_init(&s, TEXT_BPE, "gpt-2", tokens, merges);
    check_small(&s, "abc", 0, "3 2");
}

static void lowest_rank_then_leftmost(void **state) {
    (void)state;
    small s;
    char tokens[] = "a b aa ab", merges[] = "a_b a_a";
    small_init(&s, TEXT_BPE, "gpt-2", tokens, merges);
    check_small(&s, "aaab", 0, "2 3");
    check_small(&s, "aaaaa", 0, "2 2 0");
}

/* Only rule sets that ignore merges take a token that merging does not reach. */
static void whole_pieces_where_merges_are_ignored(void **state) {
    (void)state;
    small s;
    char tokens[] = "a b c ab abc", merges[] = "a_b";
    small_init(&s, TEXT_BPE, "llama-bpe", tokens, merges);
    check_small(&s, "abc", 0, "4");
    s.spec.pre = base_str_of("gpt-2");
    check_small(&s, "abc", 0, "3 2");
}

static void control_tokens_are_not_spelled(void **state) {
    (void)state;
    small s;
    char tokens[] = "< s > <s <s> long", merges[] = "<_s <s_>";
    small_init(&s, TEXT_SPM, "", tokens, merges);
    s.types[4] = TEXT_CONTROL;
    s.spec.bos = 4;
    check_small(&s, "<s>", 0, "3 2");
    check_small(&s, "<s>", TEXT_PARSE_SPECIAL, "4");
    s.spec.model = TEXT_BPE;
    s.spec.pre = base_str_of("gpt-2");
    check_small(&s, "<s>", 0, "0 1 2");
    s.types[4] = TEXT_USER_DEFINED; /* those are always found */
    check_small(&s, "<s>", 0, "4");
}

static void specials_leftmost_and_longest(void **state) {
    (void)state;
    small s;
    char tokens[] = "a b <x> <x><y> <y>", merges[] = "";
    small_init(&s, TEXT_BPE, "gpt-2", tokens, merges);
    s.types[2] = s.types[3] = s.types[4] = TEXT_CONTROL;
    check_small(&s, "a<x><y>b<x>b<y><x", TEXT_PARSE_SPECIAL, "0 3 1 2 1 4");
    s.types[3] = TEXT_USER_DEFINED;
    check_small(&s, "a<x><y><y>", 0, "0 3");
}

static void wordpiece_starts_and_limits(void **state) {
    (void)state;
    small s;
    char tokens[] = "[UNK] \xE2\x96\x81 \xE2\x96\x81"
                    "a b a",
         merges[] = "";
    char word[102];
    small_init(&s, TEXT_WORDPIECE, "", tokens, merges);
    s.spec.unk = 0;
    s.types[0] = TEXT_CONTROL;
    text_vocab *v = small_vocab(&s);
    check_ids(v, "ab", 0, "2 3");
    check_ids(v, "b", 0, "0"); /* a lone mark is not the start of a word */
    check_ids(v, "ac", 0, "0");
    memset(word, 'a', sizeof word);
    word[100] = 0;
    text_ids ids = help_encode(v, base_str_of(word), 0);
    assert_int_equal(ids.n, 100);
    text_ids_free(&ids);
    word[100] = 'a';
    word[101] = 0;
    check_ids(v, word, 0, "0"); /* more than 100 characters */
    text_vocab_free(&v);
}

static void cased_wordpiece_is_recognised(void **state) {
    (void)state;
    small s;
    char tokens[] = "[UNK] \xE2\x96\x81"
                    "a \xE2\x96\x81"
                    "B",
         merges[] = "";
    small_init(&s, TEXT_WORDPIECE, "", tokens, merges);
    s.spec.unk = 0;
    check_small(&s, "a A B b", 0, "1 0 2 0");
    s.tokens[2] = base_str_of("\xE2\x96\x81"
                              "b");
    check_small(&s, "a A B b", 0, "1 1 2 2");
}

/* A tree of 256 units with one key, "a", whose replacement starts at `value`. */
static void charsmap_of(uint32_t value, char blob[4 + 1024 + 2]) {
    uint32_t units[256] = {0}, bytes = sizeof units;
    units['a'] = 'a' | 1u << 8 | 1u << 10;
    units['a' ^ 1] = value;
    memcpy(blob, &bytes, 4);
    memcpy(blob + 4, units, sizeof units);
    memcpy(blob + 4 + sizeof units, "b", 2);
}

static void charsmap_replaces_within_bounds(void **state) {
    (void)state;
    small s;
    char tokens[] = "<pad> </s> <unk> a b", merges[] = "", blob[4 + 1024 + 2];
    small_init(&s, TEXT_UNIGRAM, "", tokens, merges);
    s.types[2] = TEXT_UNKNOWN;
    s.spec.charsmap = (base_str){blob, sizeof blob};
    charsmap_of(0, blob);
    check_small(&s, "ab", 0, "4 4");
    charsmap_of(2, blob);
    check_small(&s, "ab", 0, "3 4"); /* outside the strings: no replacement */
    charsmap_of(0x7FFFFFFF, blob);
    check_small(&s, "ab", 0, "3 4");
}

static void unknown_bytes(void **state) {
    (void)state;
    small s;
    char tokens[] = "<unk> a <0xC3> <0xA9>", merges[] = "";
    small_init(&s, TEXT_SPM, "", tokens, merges);
    s.types[0] = TEXT_UNKNOWN;
    s.types[2] = s.types[3] = TEXT_BYTE;
    check_small(&s, "aé", 0, "1 2 3");
    check_small(&s, "a\xC3", 0, "1 2");
    check_small(&s, "aê", 0, "1 0"); /* one of its bytes has no token */
    s.spec.model = TEXT_UNIGRAM;
    s.spec.unk = 0;
    check_small(&s, "aéa", 0, "1 2 3 1");
    check_small(&s, "êêa", 0, "0 1");
}

static void append_piece(void *user, base_str piece) {
    void **both = user;
    text_ids one = help_encode(both[0], piece, 0);
    for (size_t i = 0; i < one.n; i++)
        assert_int_equal(text_ids_push(both[1], one.ids[i]), ROTOR_OK);
    text_ids_free(&one);
}

/* Long texts remember recent pieces; pieces that differ late must not be taken for each other. */
static void memory_of_pieces_changes_nothing(void **state) {
    (void)state;
    static const char *const syllables[] = {"the", "and", "ing", "ent", "ion", "for", "ter", "est"};
    text_vocab *v = help_gpt2();
    base_rng rng;
    base_buf text = {0};
    base_rng_seed(&rng, 11);
    while (text.len < 200000) {
        base_buf_puts(&text, " ");
        for (int n = 0; n < 4; n++) base_buf_puts(&text, syllables[base_rng_below(&rng, 8)]);
    }
    text_ids apart = {0}, whole = help_encode(v, help_str(&text), 0);
    void *both[2] = {v, &apart};
    assert_int_equal(text_split(base_str_of("gpt-2"), help_str(&text), append_piece, both, NULL),
                     ROTOR_OK);
    assert_int_equal(whole.n, apart.n);
    assert_memory_equal(whole.ids, apart.ids, whole.n * sizeof *whole.ids);
    text_ids_free(&apart);
    text_ids_free(&whole);
    base_buf_free(&text);
    text_vocab_free(&v);
}

static void ends_of_generation(void **state) {
    (void)state;
    small s;
    char tokens[] = "a <|end|> <|return|> <|call|> <|im_end|> </s>", merges[] = "";
    small_init(&s, TEXT_BPE, "gpt-2", tokens, merges);
    s.types[1] = s.types[2] = s.types[3] = TEXT_CONTROL;
    uint32_t extra[] = {0, 99};
    s.spec.extra_eog = extra;
    s.spec.n_extra_eog = 2;
    text_vocab *v = small_vocab(&s);
    assert_true(text_is_eog(v, 0));  /* the file says so */
    assert_false(text_is_eog(v, 1)); /* closes a message in the Harmony format */
    assert_true(text_is_eog(v, 2) && text_is_eog(v, 3));
    assert_true(text_is_eog(v, 4)); /* a converter forgot to mark it */
    assert_int_equal(text_type(v, 4), TEXT_CONTROL);
    assert_false(text_is_eog(v, 5)); /* plain text in this vocabulary */
    text_vocab_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_of_equal_merges_counts),
        cmocka_unit_test(lowest_rank_then_leftmost),
        cmocka_unit_test(whole_pieces_where_merges_are_ignored),
        cmocka_unit_test(control_tokens_are_not_spelled),
        cmocka_unit_test(specials_leftmost_and_longest),
        cmocka_unit_test(wordpiece_starts_and_limits),
        cmocka_unit_test(cased_wordpiece_is_recognised),
        cmocka_unit_test(charsmap_replaces_within_bounds),
        cmocka_unit_test(unknown_bytes),
        cmocka_unit_test(memory_of_pieces_changes_nothing),
        cmocka_unit_test(ends_of_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
