/* SPDX-License-Identifier: MIT
 *
 * text: ids of 10,000 random strings a family against Hugging Face tokenizers, tiktoken and
 * sentencepiece, and pieces of every rule set against an independent regular expression engine.
 * tools/golden/text.py made the hashes.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "text_help.h"

static help_atoms *atoms;

static void show(const char *name, size_t i, const base_buf *s, const text_ids *ids) {
    base_buf b = {0};
    for (size_t k = 0; k < ids->n; k++) base_buf_printf(&b, " %u", ids->ids[k]);
    print_error("%s: string %zu differs, ids%s\n text '%s'\n", name, i, b.data ? b.data : "",
                s->data);
    base_buf_free(&b);
}

static void check(const char *name, text_vocab *v, unsigned flags) {
    char file[128];
    if (!v) {
        print_message("%s: skipped: no data\n", name);
        return;
    }
    snprintf(file, sizeof file, "%s.hash", name);
    base_buf hashes = help_fixture(file), s = {0};
    size_t bad = 0;
    for (size_t i = 0; i < hashes.len / 4; i++) {
        help_random_string(atoms, i, &s);
        text_ids ids = help_encode(v, help_str(&s), flags);
        if (help_fnv(ids.ids, ids.n) != help_hash_at(&hashes, i) && ++bad <= 3)
            show(name, i, &s, &ids);
        text_ids_free(&ids);
    }
    print_message("%s: %zu strings, %zu differ\n", name, hashes.len / 4, bad);
    assert_int_equal(hashes.len / 4, 10000);
    assert_int_equal(bad, 0);
    base_buf_free(&hashes);
    base_buf_free(&s);
    text_vocab_free(&v);
}

static void gpt2(void **state) { (void)state, check("gpt2", help_gpt2(), TEXT_PARSE_SPECIAL); }
static void llama3(void **state) {
    (void)state, check("llama3", help_llama3(), TEXT_PARSE_SPECIAL);
}
static void o200k(void **state) { (void)state, check("o200k", help_o200k(), TEXT_PARSE_SPECIAL); }

/* The same hashes again, by way of merges and ignore_merges instead of ranks. */
static void llama3_by_merges(void **state) {
    (void)state;
    size_t n;
    uint64_t load_us;
    text_vocab *v = help_llama3_merges(&n, &load_us);
    if (v) {
        print_message("%zu tokens, %zu merges: %.1f ms\n", text_n_tokens(v), n,
                      (double)load_us * 1e-3);
        assert_int_equal(n, 280147);
        assert_true(text_adds_bos(v) && text_bos(v) == 128000);
    }
    check("llama3", v, TEXT_PARSE_SPECIAL);
}

#define JSON_TEST(function, name)                                                                  \
    static void function(void **state) {                                                           \
        (void)state;                                                                               \
        check(name, help_json(name), TEXT_PARSE_SPECIAL);                                          \
    }
JSON_TEST(hf_qwen2, "hf-qwen2")
JSON_TEST(hf_llama3, "hf-llama3")
JSON_TEST(hf_o200k, "hf-o200k")
JSON_TEST(hf_llama2, "hf-llama2")
JSON_TEST(hf_metaspace, "hf-metaspace")
JSON_TEST(hf_unigram_bytes, "hf-unigram-bytes")
JSON_TEST(hf_wordpiece, "hf-wordpiece")
JSON_TEST(hf_wordpiece_cased, "hf-wordpiece-cased")
JSON_TEST(hf_unigram, "hf-unigram")
#ifdef ROTOR_HAVE_PCRE2
JSON_TEST(hf_regex, "hf-regex")
JSON_TEST(hf_odd, "hf-odd")
#endif

static void sp_unigram(void **state) {
    (void)state;
    check("sp-unigram", help_vocab("sp-unigram", TEXT_UNIGRAM), 0);
}

static void sp_bpe(void **state) {
    (void)state;
    check("sp-bpe", help_vocab("sp-bpe", TEXT_SPM), 0);
}

typedef struct lengths {
    text_ids n;       /* bytes of each piece */
    const char *next; /* where the next piece must start */
} lengths;

static void add_length(void *user, base_str piece) {
    lengths *l = user;
    assert_ptr_equal(piece.p, l->next);
    assert_int_equal(text_ids_push(&l->n, (uint32_t)piece.n), ROTOR_OK);
    l->next += piece.n;
}

static void splits(void **state) {
    (void)state;
    static const char *const rules[] = {"gpt-2",        "llama3",         "qwen2",     "qwen35",
                                        "gpt-4o",       "falcon",         "starcoder", "mpt",
                                        "deepseek-llm", "deepseek-coder", "default"};
    base_buf s = {0};
    for (size_t r = 0; r < BASE_COUNT(rules); r++) {
        char file[128];
        size_t bad = 0;
        snprintf(file, sizeof file, "split-%s.hash", rules[r]);
        base_buf hashes = help_fixture(file);
        for (size_t i = 0; i < hashes.len / 4; i++) {
            help_random_string(atoms, i, &s);
            lengths l = {.next = s.data};
            assert_int_equal(text_split(base_str_of(rules[r]), help_str(&s), add_length, &l, NULL),
                             ROTOR_OK);
            assert_ptr_equal(l.next, s.data + s.len);
            if (help_fnv(l.n.ids, l.n.n) != help_hash_at(&hashes, i) && ++bad <= 3)
                show(rules[r], i, &s, &l.n);
            text_ids_free(&l.n);
        }
        print_message("split %s: %zu differ\n", rules[r], bad);
        assert_int_equal(bad, 0);
        base_buf_free(&hashes);
    }
    base_buf_free(&s);
}

static int setup(void **state) { return (void)state, (atoms = help_atoms_read()) ? 0 : -1; }
static int teardown(void **state) { return (void)state, help_atoms_free(atoms), 0; }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2),         cmocka_unit_test(llama3),
        cmocka_unit_test(o200k),        cmocka_unit_test(llama3_by_merges),
        cmocka_unit_test(hf_qwen2),     cmocka_unit_test(hf_llama3),
        cmocka_unit_test(hf_o200k),     cmocka_unit_test(hf_llama2),
        cmocka_unit_test(hf_metaspace), cmocka_unit_test(hf_unigram_bytes),
        cmocka_unit_test(hf_wordpiece), cmocka_unit_test(hf_wordpiece_cased),
        cmocka_unit_test(hf_unigram),
#ifdef ROTOR_HAVE_PCRE2
        cmocka_unit_test(hf_regex),     cmocka_unit_test(hf_odd),
#endif
        cmocka_unit_test(sp_unigram),   cmocka_unit_test(sp_bpe),
        cmocka_unit_test(splits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
