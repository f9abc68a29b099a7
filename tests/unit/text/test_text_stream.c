/* SPDX-License-Identifier: MIT
 *
 * text: decoding. Streams never emit half a character, any bytes survive a round trip, and the
 * replacement of invalid bytes follows the Unicode standard's recommendation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "text_help.h"

static void check_round_trip(const text_vocab *v, base_str text) {
    base_buf back = {0};
    text_ids ids = help_encode(v, text, 0);
    assert_int_equal(text_decode(v, ids.ids, ids.n, false, &back), ROTOR_OK);
    if (back.len != text.n) print_error("'%.*s'\n", (int)text.n, text.p);
    assert_int_equal(back.len, text.n);
    if (text.n) assert_memory_equal(back.data, text.p, text.n);
    base_buf_free(&back);
    text_ids_free(&ids);
}

static void any_bytes_round_trip(void **state) {
    (void)state;
    text_vocab *all[] = {help_gpt2(), help_vocab("llama-spm", TEXT_SPM), help_json("hf-llama3"),
                         help_json("hf-o200k"), help_json("hf-llama2")};
    base_rng rng;
    base_rng_seed(&rng, 7);
    for (int round = 0; round < 2000; round++) {
        char text[200];
        size_t n = base_rng_below(&rng, sizeof text);
        uint32_t range = base_rng_below(&rng, 2) ? 256 : 64; /* dense high bytes, or ASCII */
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(base_rng_below(&rng, range) + (range == 64 ? 32 : 0));
        for (size_t k = 0; k < BASE_COUNT(all); k++) check_round_trip(all[k], (base_str){text, n});
    }
    for (size_t k = 0; k < BASE_COUNT(all); k++) text_vocab_free(&all[k]);
}

static void random_strings_round_trip(void **state) {
    (void)state;
    help_atoms *atoms = help_atoms_read();
    text_vocab *all[] = {help_gpt2(),
                         help_vocab("llama-spm", TEXT_SPM),
                         help_json("hf-llama3"),
                         help_vocab("sp-bpe", TEXT_SPM),
                         help_llama3(),
                         help_o200k()};
    base_buf s = {0};
    for (uint64_t i = 0; i < 3000; i++) {
        help_random_string(atoms, i, &s);
        bool mark = strstr(s.data, "\xE2\x96\x81") != NULL; /* SentencePiece's own space */
        for (size_t k = 0; k < BASE_COUNT(all); k++)
            if (all[k] && !(mark && text_model_of(all[k]) == TEXT_SPM))
                check_round_trip(all[k], help_str(&s));
    }
    for (size_t k = 0; k < BASE_COUNT(all); k++) text_vocab_free(&all[k]);
    base_buf_free(&s);
    help_atoms_free(atoms);
}

static bool is_whole_utf8(const base_buf *b) {
    for (size_t i = 0; i < b->len;) {
        int32_t cp;
        i += (size_t)base_utf8_decode(b->data + i, b->len - i, &cp);
        if (cp < 0) return false;
    }
    return true;
}

static void streams_emit_whole_characters(void **state) {
    (void)state;
    text_vocab *v = help_gpt2();
    base_str text = base_str_of("Ж中文😀é 👨‍👩‍👧 नमस्ते\xFF\xC3 ok");
    text_ids ids = help_encode(v, text, 0);
    base_buf all = {0}, want = {0};
    text_stream s;
    text_stream_init(&s, v);
    assert_true(ids.n > 20);
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(text_stream_put(&s, ids.ids[i], &all), ROTOR_OK);
        assert_true(is_whole_utf8(&all));
        assert_in_range(s.n_wait, 0, 3);
    }
    assert_int_equal(text_stream_end(&s, &all), ROTOR_OK);
    base_buf_puts(
        &want, "Ж中文😀é 👨‍👩‍👧 नमस्ते\xEF\xBF\xBD\xEF\xBF\xBD ok");
    assert_string_equal(all.data, want.data);
    base_buf_free(&all);
    base_buf_free(&want);
    text_ids_free(&ids);
    text_vocab_free(&v);
}

/* One U+FFFD for each longest beginning of a valid sequence, as Python's errors="replace" does. */
static void invalid_bytes_become_replacements(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *want; /* R stands for U+FFFD */
    } cases[] = {
        {"\xFF", 1, "R"},
        {"a\x80z", 3, "aRz"},
        {"\xC3", 1, "R"},
        {"\xC3\xC3\xA9", 3, "Ré"},
        {"\xE4\xB8", 2, "R"},
        {"\xE4\xB8z", 3, "Rz"},
        {"\xE0\x80\x80", 3, "RRR"},
        {"\xED\xA0\x80", 3, "RRR"},
        {"\xF0\x9F\x98\xF0\x9F\x98\x80", 7, "R😀"},
        {"\xF4\x90\x80\x80", 4, "RRRR"},
        {"\xC0\xAF", 2, "RR"},
        {"\xF0\x80\x80\x80", 4, "RRRR"},
        {"\xF8\x88", 2, "RR"},
    };
    text_vocab *v = help_gpt2();
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        base_buf got = {0}, want = {0};
        text_stream s;
        text_stream_init(&s, v);
        for (size_t k = 0; k < cases[i].n; k++) {
            text_ids id = help_encode(v, (base_str){cases[i].bytes + k, 1}, 0);
            assert_int_equal(id.n, 1);
            assert_int_equal(text_stream_put(&s, id.ids[0], &got), ROTOR_OK);
            text_ids_free(&id);
        }
        assert_int_equal(text_stream_end(&s, &got), ROTOR_OK);
        for (const char *p = cases[i].want; *p; p++) {
            if (*p == 'R')
                base_buf_puts(&want, "\xEF\xBF\xBD");
            else
                base_buf_append(&want, p, 1);
        }
        assert_string_equal(got.data, want.data);
        base_buf_free(&got);
        base_buf_free(&want);
    }
    text_vocab_free(&v);
}

static void check_decode(const text_vocab *v, const char *text, unsigned flags, bool render,
                         const char *want) {
    base_buf got = {0};
    text_ids ids = help_encode(v, base_str_of(text), flags);
    assert_int_equal(text_decode(v, ids.ids, ids.n, render, &got), ROTOR_OK);
    assert_string_equal(got.data ? got.data : "", want);
    base_buf_free(&got);
    text_ids_free(&ids);
}

static void spaces_and_specials(void **state) {
    (void)state;
    text_vocab *spm = help_vocab("llama-spm", TEXT_SPM);
    check_decode(spm, "Hello", TEXT_ADD_BOS, false, "Hello");
    check_decode(spm, "  Hello", TEXT_ADD_BOS, false, "  Hello");
    check_decode(spm, "Hello", TEXT_ADD_BOS, true, "<s> Hello");
    check_decode(spm, "\n\x01", 0, false, "\n\x01");
    text_vocab_free(&spm);
    text_vocab *bert = help_vocab("bert-bge", TEXT_WORDPIECE);
    check_decode(bert, "Hello WORLD, discards", TEXT_ADD_BOS | TEXT_ADD_EOS, false,
                 "hello world , discards");
    text_vocab_free(&bert);
    text_vocab *gpt2 = help_gpt2();
    check_decode(gpt2, "a<|endoftext|>b", TEXT_PARSE_SPECIAL, false, "ab");
    check_decode(gpt2, "a<|endoftext|>b", TEXT_PARSE_SPECIAL, true, "a<|endoftext|>b");
    check_decode(gpt2, "a<|endoftext|>b", 0, false, "a<|endoftext|>b");
    text_vocab_free(&gpt2);
}

static void strange_ids_are_silent(void **state) {
    (void)state;
    text_vocab *v = help_gpt2();
    base_buf out = {0};
    const uint32_t ids[] = {TEXT_NO_ID, 50257, 1u << 31};
    assert_int_equal(text_decode(v, ids, 3, true, &out), ROTOR_OK);
    assert_int_equal(out.len, 0);
    assert_int_equal(text_token(v, 99999).n, 0);
    assert_int_equal(text_type(v, 99999), TEXT_UNDEFINED);
    assert_false(text_is_eog(v, 99999));
    base_buf_free(&out);
    text_vocab_free(&v);
}

static void a_failed_put_changes_nothing(void **state) {
    (void)state;
    text_vocab *v = help_gpt2();
    base_buf out = {0};
    text_stream s;
    text_stream_init(&s, v);
    base_fault_after(1);
    assert_int_equal(text_stream_put(&s, 15496, &out), ROTOR_E_NOMEM);
    base_fault_after(0);
    assert_true(s.at_start);
    assert_int_equal(out.len, 0);
    assert_int_equal(text_stream_put(&s, 15496, &out), ROTOR_OK);
    assert_string_equal(out.data, "Hello");
    base_buf_free(&out);
    text_vocab_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_round_trip),
        cmocka_unit_test(random_strings_round_trip),
        cmocka_unit_test(streams_emit_whole_characters),
        cmocka_unit_test(invalid_bytes_become_replacements),
        cmocka_unit_test(spaces_and_specials),
        cmocka_unit_test(strange_ids_are_silent),
        cmocka_unit_test(a_failed_put_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
