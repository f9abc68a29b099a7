/* SPDX-License-Identifier: MIT
 *
 * text: llama.cpp's published test texts and expected ids, every case of every vocabulary at hand,
 * and single facts about known vocabularies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "text_help.h"

static const char separator[] = "\n__ggml_vocab_test__\n";

static void complain(size_t test, base_str text, const text_ids *got, const char *want) {
    base_buf b = {0};
    for (size_t i = 0; i < got->n; i++) base_buf_printf(&b, " %u", got->ids[i]);
    print_error("test %zu '%.*s'\n got %s\n want%.*s\n", test + 1, (int)text.n, text.p,
                b.data ? b.data : "", (int)strcspn(want, "\n"), want);
    base_buf_free(&b);
}

static size_t check_pairs(const text_vocab *v, const base_buf *inp, const base_buf *out) {
    size_t n = 0, bad = 0;
    char *want = out->data;
    for (char *text = inp->data, *end; (end = strstr(text, separator)); n++) {
        base_str s = {text, (size_t)(end - text)};
        text_ids ids = help_encode(v, s, 0);
        bool same = true;
        char *p = want;
        for (size_t i = 0; i < ids.n; i++) same = same && strtoul(p, &p, 10) == ids.ids[i];
        same = same && (*p == '\n' || !*p);
        if (!same) complain(n, s, &ids, want);
        bad += !same;
        text_ids_free(&ids);
        want += strcspn(want, "\n") + 1;
        text = end + strlen(separator);
    }
    assert_int_equal(bad, 0);
    return n;
}

static void check_fixture(const char *name, text_vocab *v) {
    char file[64];
    snprintf(file, sizeof file, "%s.inp", name);
    base_buf inp = help_fixture(file);
    snprintf(file, sizeof file, "%s.out", name);
    base_buf out = help_fixture(file);
    assert_int_equal(check_pairs(v, &inp, &out), 46);
    base_buf_free(&inp);
    base_buf_free(&out);
    text_vocab_free(&v);
}

static void check_data(const char *name, text_vocab *v) {
    char file[128];
    base_buf inp, out;
    if (!v) {
        print_message("skipped: no data\n");
        skip();
    }
    snprintf(file, sizeof file, "llama.cpp/ggml-vocab-%s.gguf.inp", name);
    assert_true(help_data(file, &inp));
    snprintf(file, sizeof file, "llama.cpp/ggml-vocab-%s.gguf.out", name);
    assert_true(help_data(file, &out));
    assert_int_equal(check_pairs(v, &inp, &out), 46);
    base_buf_free(&inp);
    base_buf_free(&out);
    text_vocab_free(&v);
}

static void gpt2_pairs(void **state) { (void)state, check_fixture("gpt2", help_gpt2()); }
static void llama_spm_pairs(void **state) {
    (void)state, check_fixture("llama-spm", help_vocab("llama-spm", TEXT_SPM));
}
static void bert_bge_pairs(void **state) {
    (void)state, check_fixture("bert-bge", help_vocab("bert-bge", TEXT_WORDPIECE));
}
static void llama3_pairs(void **state) { (void)state, check_data("llama-bpe", help_llama3()); }
static void o200k_pairs(void **state) { (void)state, check_data("gpt-4o", help_o200k()); }

static void gguf_pairs(void **state) {
    (void)state;
    static const char *const names[] = {"gpt-2",     "llama-spm", "bert-bge",     "mpt",
                                        "starcoder", "phi-3",     "deepseek-llm", "deepseek-coder"};
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        print_message("%s\n", names[i]);
        check_data(names[i], help_gguf(names[i]));
    }
}

static void check_ids(const text_vocab *v, const char *text, unsigned flags, const char *want) {
    text_ids ids = help_encode(v, base_str_of(text), flags);
    base_buf b = {0};
    for (size_t i = 0; i < ids.n; i++) base_buf_printf(&b, i ? " %u" : "%u", ids.ids[i]);
    assert_string_equal(b.data ? b.data : "", want);
    base_buf_free(&b);
    text_ids_free(&ids);
}

/* Published encodings of checkpoints that use this vocabulary. */
static void llama3_published(void **state) {
    (void)state;
    text_vocab *v = help_llama3();
    if (!v) {
        print_message("skipped: no data\n");
        skip();
    }
    check_ids(v, "What is seven multiplied by eight?", TEXT_ADD_BOS,
              "128000 3923 374 8254 56016 555 8223 30");
    check_ids(v, "def square(x):\n    return x * x\n", TEXT_ADD_BOS,
              "128000 755 9518 2120 997 262 471 865 353 865 198");
    check_ids(v, "Объясни, зачем компьютеру нужна память.", TEXT_ADD_BOS,
              "128000 74339 34694 102955 23446 11 44946 111455 77573 89052 58060 3865 77083 14525 "
              "107957 94975 13");
    check_ids(v, "Assistant: ", 0, "72803 25 220");
    check_ids(v, "Cửa Việt", 0, "34 91163 101798");
    text_vocab_free(&v);
}

static void o200k_published(void **state) {
    (void)state;
    text_vocab *v = help_o200k();
    if (!v) {
        print_message("skipped: no data\n");
        skip();
    }
    check_ids(v, "สวัสดีชาวโลก", 0, "4406 187986 21883 2293 8247 17359 93469");
    check_ids(v, "You are helpful.", 0, "3575 553 10297 13");
    text_vocab_free(&v);
}

static void bos_and_eos(void **state) {
    (void)state;
    text_vocab *spm = help_vocab("llama-spm", TEXT_SPM);
    assert_string_equal(text_pre(spm).p, "none");
    check_ids(spm, "a", TEXT_ADD_BOS, "1 263");
    check_ids(spm, "", TEXT_ADD_BOS, "1");
    check_ids(spm, "", 0, "");
    check_ids(spm, "<s>a", TEXT_ADD_BOS | TEXT_PARSE_SPECIAL, "1 263");
    check_ids(spm, "a", TEXT_ADD_BOS | TEXT_ADD_EOS, "1 263"); /* Llama does not end texts */
    text_vocab_free(&spm);
    text_vocab *bert = help_vocab("bert-bge", TEXT_WORDPIECE);
    check_ids(bert, " discards", TEXT_ADD_BOS | TEXT_ADD_EOS, "101 5860 18117 102");
    text_vocab_free(&bert);
    text_vocab *gpt2 = help_gpt2();
    assert_false(text_adds_bos(gpt2));
    check_ids(gpt2, " discards", TEXT_ADD_BOS, "1221 1371");
    check_ids(gpt2, " discards", TEXT_FORCE_BOS, "50256 1221 1371");
    assert_true(text_is_eog(gpt2, 50256));
    assert_false(text_is_eog(gpt2, 0));
    text_vocab_free(&gpt2);
}

static void json_surrounds_a_text(void **state) {
    (void)state;
    text_vocab *llama3 = help_json("hf-llama3"), *bert = help_json("hf-wordpiece"),
               *t5 = help_json("hf-unigram");
    uint32_t bos = text_find(llama3, base_str_of("<|begin_of_text|>"));
    text_ids ids = help_encode(llama3, base_str_of("Hello"), TEXT_ADD_BOS | TEXT_ADD_EOS);
    assert_int_equal(ids.ids[0], bos);
    assert_int_equal(text_bos(llama3), bos);
    assert_true(text_adds_bos(llama3));
    assert_string_equal(text_pre(llama3).p, "llama3");
    text_ids_free(&ids);
    ids = help_encode(bert, base_str_of("Hello"), TEXT_ADD_BOS | TEXT_ADD_EOS);
    assert_int_equal(ids.ids[0], 2);
    assert_int_equal(ids.ids[ids.n - 1], 3);
    text_ids_free(&ids);
    ids = help_encode(t5, base_str_of("Hello"), TEXT_ADD_BOS | TEXT_ADD_EOS);
    assert_int_not_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[ids.n - 1], 1);
    assert_true(text_is_eog(t5, 1));
    text_ids_free(&ids);
    text_vocab_free(&llama3);
    text_vocab_free(&bert);
    text_vocab_free(&t5);
}

static void config_names_tokens(void **state) {
    (void)state;
    base_buf b = help_fixture("hf-qwen2.json");
    base_str config = base_str_of("{\"bos_token\": null, \"eos_token\": {\"content\": "
                                  "\"<|im_end|>\"}, \"add_bos_token\": false}");
    text_vocab *v = NULL;
    assert_int_equal(text_vocab_from_json(&v, help_str(&b), config, NULL, NULL), ROTOR_OK);
    assert_int_equal(text_eos(v), text_find(v, base_str_of("<|im_end|>")));
    assert_int_equal(text_bos(v), TEXT_NO_ID);
    assert_true(text_is_eog(v, text_eos(v)));
    assert_true(text_is_eog(v, text_find(v, base_str_of("<|endoftext|>"))));
    assert_int_equal(text_type(v, text_eos(v)), TEXT_CONTROL);
    text_vocab_free(&v);
    base_buf_free(&b);
}

/* User text never becomes a control token, whatever it spells. */
static void plain_text_stays_plain(void **state) {
    (void)state;
    text_vocab *all[] = {help_vocab("llama-spm", TEXT_SPM),
                         help_gpt2(),
                         help_vocab("bert-bge", TEXT_WORDPIECE),
                         help_json("hf-llama2"),
                         help_json("hf-unigram"),
                         help_json("hf-llama3")};
    static const char *const texts[] = {
        "<s>",    "</s>",   "<unk>", "<|endoftext|>", "[CLS]", "[SEP]", "<|begin_of_text|>",
        "a</s>b", "<0x41>", "<pad>"};
    for (size_t k = 0; k < BASE_COUNT(all); k++) {
        for (size_t i = 0; i < BASE_COUNT(texts); i++) {
            text_ids ids = help_encode(all[k], base_str_of(texts[i]), 0);
            for (size_t j = 0; j < ids.n; j++)
                if (text_type(all[k], ids.ids[j]) == TEXT_CONTROL)
                    fail_msg("vocabulary %zu: '%s' gives control token %u", k, texts[i],
                             ids.ids[j]);
            text_ids_free(&ids);
        }
        text_vocab_free(&all[k]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_pairs),          cmocka_unit_test(llama_spm_pairs),
        cmocka_unit_test(bert_bge_pairs),      cmocka_unit_test(llama3_pairs),
        cmocka_unit_test(o200k_pairs),         cmocka_unit_test(gguf_pairs),
        cmocka_unit_test(llama3_published),    cmocka_unit_test(o200k_published),
        cmocka_unit_test(bos_and_eos),         cmocka_unit_test(json_surrounds_a_text),
        cmocka_unit_test(config_names_tokens), cmocka_unit_test(plain_text_stays_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
