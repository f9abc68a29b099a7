/* SPDX-License-Identifier: MIT
 *
 * Documents, token files and the order of windows.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "plain_spec.h"
#include "test_folder.h"
#include "train/train.h"

/* Bytes a to z, space, colon and the capitals, and two marks behind them. */
static text_vocab *vocabulary(void) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:.";
    base_str tokens[64];
    int32_t types[64];
    size_t n = 0;
    text_vocab *v = NULL;
    rotor_error err;
    for (; letters[n]; n++) {
        tokens[n] = (base_str){letters + n, 1};
        types[n] = TEXT_NORMAL;
    }
    tokens[n] = base_str_of("\xC4\xA0"); /* a space */
    types[n++] = TEXT_NORMAL;
    tokens[n] = base_str_of("<|endoftext|>");
    types[n++] = TEXT_CONTROL;
    tokens[n] = base_str_of("<|eot_id|>");
    types[n++] = TEXT_CONTROL;
    text_spec spec = plain_spec(TEXT_BPE);
    spec.pre = base_str_of("gpt-2");
    spec.tokens = tokens;
    spec.types = types;
    spec.n_tokens = n;
    spec.bos = (uint32_t)n - 2;
    spec.eos = (uint32_t)n - 2;
    spec.eot = (uint32_t)n - 1;
    spec.add_bos = 1;
    assert_int_equal(text_vocab_create(&v, &spec, &err), ROTOR_OK);
    return v;
}

/* What a file's documents look like: parts in brackets, those to learn with a '+', ends with '.'.
 */
static rotor_status show(void *user, const train_part *parts, size_t n, rotor_error *err) {
    base_buf *b = user;
    (void)err;
    for (size_t i = 0; i < n; i++)
        base_buf_printf(b, "[%s%.*s%s]", parts[i].learn ? "+" : "", (int)parts[i].text.n,
                        parts[i].text.p, parts[i].ends_turn ? "." : "");
    base_buf_puts(b, "|");
    return ROTOR_OK;
}

static rotor_status add_up(void *user, const train_part *parts, size_t n, rotor_error *err) {
    (void)err;
    for (size_t i = 0; i < n; i++) *(size_t *)user += parts[i].text.n;
    return ROTOR_OK;
}

static void expect(const char *name, const char *content, const char *shown) {
    base_buf b = {0};
    rotor_error err;
    assert_int_equal(train_read_docs(write_text(name, content), show, &b, &err), ROTOR_OK);
    assert_string_equal(b.data, shown);
    base_buf_free(&b);
}

static void expect_error(const char *name, const char *content, const char *told) {
    base_buf b = {0};
    rotor_error err;
    assert_int_equal(train_read_docs(write_text(name, content), show, &b, &err), ROTOR_E_FORMAT);
    if (!strstr(err.message, told)) fail_msg("'%s' does not say '%s'", err.message, told);
    base_buf_free(&b);
}

static void texts_are_cut_at_their_marks(void **state) {
    (void)state;
    expect("a.txt", "one\n<|endoftext|>\n two \n<|endoftext|>\n", "[+one]|[+two]|");
    expect("b.txt", "\xEF\xBB\xBFwhole", "[+whole]|");
    expect_error("c.txt", " \n", "no text");
    size_t n = 0; /* zeros are no white space */
    assert_int_equal(train_read_docs(write_file("z.txt", " \0a\0\n", 5), add_up, &n, NULL), 0);
    assert_int_equal(n, 3);
    expect_error("d.txt", "ab\ncd\xFFx", "byte 5 (line 2) is 0xFF");
    expect_error("e.txt", "ab\xC3", "byte 2 (line 1) is 0xC3");
}

static void conversations_teach_their_answers(void **state) {
    (void)state;
    expect("a.jsonl",
           "{\"question\": \"hi\", \"answer\": \"ho\"}\n\n{\"prompt\":\"a\",\"completion\":\"b\"}",
           "[User: hi.][Assistant: ][+ho.]|[User: a.][Assistant: ][+b.]|");
    expect("b.jsonl",
           "{\"messages\": "
           "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"},"
           "{\"role\":\"assistant\",\"content\":\"x\"},{\"role\":\"user\",\"content\":\"v\"},"
           "{\"role\":\"assistant\",\"content\":\"y\"}]}",
           "[System: s.][User: u.][Assistant: ][+x.][User: v.][Assistant: ][+y.]|");
    expect_error("c.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n{oops}", "line 2");
    expect_error("d.jsonl", "{\"text\": \"a\"}", "no conversation");
    expect_error("e.jsonl", "{\"messages\": [{\"role\":\"user\",\"content\":\"u\"}]}",
                 "nobody answers");
    expect_error("g.jsonl", "{\"prompt\": \x1b[31m", "?");
    expect_error("f.jsonl", "{\"messages\": [{\"role\":\"tool\",\"content\":\"u\"}]}", "role");
}

static void a_token_file_holds_the_stream(void **state) {
    (void)state;
    rotor_error err;
    text_vocab *v = vocabulary();
    const uint32_t end = text_eos(v), turn = train_end_of_turn(v);
    assert_int_equal(turn, end + 1);
    const char *files[] = {write_text("s.txt", "ab<|endoftext|>c"),
                           write_text("s.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}")};
    const char *held = write_text("h.txt", "dd");
    train_texts texts = {files, 2, held};
    const char *path = in_folder("s.tokens");
    train_tokens t, again;
    assert_int_equal(train_tokens_make(path, &texts, v, &err), ROTOR_OK);
    assert_int_equal(train_tokens_open(&t, path, &err), ROTOR_OK);
    const uint32_t no = TRAIN_UNTAUGHT;
    const uint32_t a = 0, b = 1, c = 2;
    const uint32_t front[] = {end, a, b, end, c, end};
    assert_memory_equal(t.train, front, sizeof front);
    /* "User: a" and its end, "Assistant: ", then the answer and its end, which are learnt */
    for (uint64_t i = 6; i < t.n_train - 3; i++) assert_true(t.train[i] & no);
    const uint32_t back[] = {b, turn, end};
    assert_memory_equal(t.train + t.n_train - 3, back, sizeof back);
    const uint32_t tail[] = {end, 3, 3, end};
    assert_int_equal(t.n_held, 4);
    assert_memory_equal(t.held, tail, sizeof tail);
    assert_int_equal(t.n_vocab, text_n_tokens(v));
    assert_true(t.vocab_hash == train_vocab_hash(v));

    const int64_t when = t.file.mtime_ns;
    assert_int_equal(train_tokens_make(path, &texts, v, &err), ROTOR_OK); /* nothing to do */
    assert_int_equal(train_tokens_open(&again, path, &err), ROTOR_OK);
    assert_true(again.file.mtime_ns == when);
    train_tokens_close(&again);
    write_text("h.txt", "de");
    assert_int_equal(train_tokens_make(path, &texts, v, &err), ROTOR_OK);
    assert_int_equal(train_tokens_open(&again, path, &err), ROTOR_OK);
    assert_true(again.content_hash != t.content_hash);
    train_tokens_close(&again);

    for (size_t cut = 0; cut < t.file.size; cut += 4) {
        write_file("cut.tokens", (const char *)t.file.data, cut);
        assert_int_equal(train_tokens_open(&again, in_folder("cut.tokens"), &err), ROTOR_E_FORMAT);
    }
    train_tokens_close(&t);
    text_vocab_free(&v);
}

static void a_damaged_token_file_is_told_and_made_anew(void **state) {
    (void)state;
    rotor_error err = {0};
    text_vocab *v = vocabulary();
    char text[128], path[128]; /* in_folder forgets */
    const char *files[] = {text};
    const train_texts texts = {files, 1, NULL};
    snprintf(text, sizeof text, "%s", write_text("t.txt", "abcdef<|endoftext|>c"));
    snprintf(path, sizeof path, "%s", in_folder("t.tokens"));
    base_file good;
    train_tokens t;
    assert_int_equal(train_tokens_make(path, &texts, v, &err), ROTOR_OK);
    assert_int_equal(base_file_open(&good, path, false, &err), ROTOR_OK);
    const struct {
        size_t at;        /* of a u32 */
        uint32_t value;   /* to write there */
        rotor_status st;  /* of opening */
        const char *told; /* in the message */
    } changes[] = {{0, 0, ROTOR_E_FORMAT, "not a token file"},
                   {8, 2, ROTOR_E_UNSUPPORTED, "version 2; this program reads 1"},
                   {12, 3, ROTOR_E_FORMAT, "and the vocabulary has 3; train from the texts"},
                   {12, 1000000, ROTOR_OK, NULL}, /* and so says that of another vocabulary */
                   {68, 5000, ROTOR_E_FORMAT, "token 1 is 5000"},
                   {good.size - 32, 999, ROTOR_E_FORMAT, "its end speaks of 999 and"},
                   {good.size - 28, 1u << 30, ROTOR_E_FORMAT, "the file was cut"}};
    for (size_t i = 0; i < BASE_COUNT(changes); i++) {
        char *bad = base_alloc(good.size);
        memcpy(bad, good.data, good.size);
        memcpy(bad + changes[i].at, &changes[i].value, 4);
        write_file("t.tokens", bad, good.size);
        base_free(bad);
        assert_int_equal(train_tokens_open(&t, path, &err), changes[i].st);
        if (changes[i].told && !strstr(err.message, changes[i].told)) fail_msg("%s", err.message);
        if (changes[i].st == ROTOR_OK) train_tokens_close(&t);
        assert_int_equal(train_tokens_make(path, &texts, v, &err), ROTOR_OK);
        assert_int_equal(train_tokens_open(&t, path, &err), ROTOR_OK);
        assert_int_equal(t.file.size, good.size);
        assert_memory_equal(t.file.data, good.data, good.size);
        train_tokens_close(&t);
    }
    base_file_close(&good);
    text_vocab_free(&v);
}

static void every_twentieth_piece_is_held_out(void **state) {
    (void)state;
    rotor_error err;
    base_buf b = {0};
    text_vocab *v = vocabulary();
    for (int i = 0; i < 400; i++)
        base_buf_printf(&b, "%c%c<|endoftext|>", 'a' + i / 26 % 26, 'a' + i % 26);
    const char *files[] = {write_file("many.txt", b.data, b.len)};
    train_tokens t;
    assert_int_equal(
        train_tokens_make(in_folder("many.tokens"), &(train_texts){files, 1, NULL}, v, &err),
        ROTOR_OK);
    assert_int_equal(train_tokens_open(&t, in_folder("many.tokens"), &err), ROTOR_OK);
    assert_int_equal(t.n_held, 20 * 3 + 1);
    assert_int_equal(t.n_train, 380 * 3 + 1);
    train_tokens_close(&t);
    base_buf_free(&b);
    text_vocab_free(&v);
}

static void an_epoch_visits_every_window_once(void **state) {
    (void)state;
    for (uint64_t n = 2; n < 3000; n = n * 5 / 3 + 1) {
        enum { TOK = 7 };
        const uint64_t windows = train_n_windows(n, TOK);
        bool *seen = base_alloc(windows);
        size_t same = 0;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            memset(seen, 0, windows);
            for (uint64_t i = 0; i < windows; i++) {
                const uint64_t at = train_window_at(n, TOK, 42, epoch * windows + i);
                assert_true(n <= TOK || at + TOK < n);
                assert_false(seen[at / TOK]);
                seen[at / TOK] = true;
                same += at / TOK == i;
            }
        }
        if (windows > 30) assert_true(same < windows); /* shuffled, not in order */
        base_free(seen);
    }
    assert_true(train_window_at(900, 7, 1, 3) != train_window_at(900, 7, 2, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_cut_at_their_marks),
        cmocka_unit_test(conversations_teach_their_answers),
        cmocka_unit_test(a_token_file_holds_the_stream),
        cmocka_unit_test(a_damaged_token_file_is_told_and_made_anew),
        cmocka_unit_test(every_twentieth_piece_is_held_out),
        cmocka_unit_test(an_epoch_visits_every_window_once),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
