/* SPDX-License-Identifier: MIT
 *
 * text: hostile input. Long runs within a time bound, malformed vocabularies, truncated files,
 * failing allocations, and one vocabulary shared by threads.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "plain_spec.h"
#include "text_help.h"

/* Sizes for a slow checker: whether work is linear shows at a twentieth too. */
static size_t scaled(size_t n) { return getenv("ROTOR_TEST_QUICK") ? n / 20 : n; }

static base_buf repeat(const char *atom, size_t n) {
    base_buf b = {0};
    for (size_t i = 0; i < n; i++) base_buf_puts(&b, atom);
    return b;
}

/* ==== Long runs =============================================================================== */

/* Processor time, so that a busy machine does not fail the test. */
static double seconds_used(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* Encodes and decodes; a quadratic method would take hours, so the bound can be generous. */
static void encode_within(const char *name, const text_vocab *v, base_str text, bool round_trip) {
    double start = seconds_used();
    text_ids ids = help_encode(v, text, 0);
    double seconds = seconds_used() - start;
    if (seconds > 2) print_message("%s: %.2f s for %zu bytes\n", name, seconds, text.n);
    assert_true(seconds < 20);
    if (round_trip) {
        base_buf back = {0};
        assert_int_equal(text_decode(v, ids.ids, ids.n, false, &back), ROTOR_OK);
        assert_int_equal(back.len, text.n);
        assert_memory_equal(back.data, text.p, text.n);
        base_buf_free(&back);
    }
    text_ids_free(&ids);
}

static void long_runs_stay_linear(void **state) {
    (void)state;
    static const char *const atoms[] = {
        "a",  " ",   "\n", "1",    "!",   "\xCC\x81",         "あ",  "A",
        "'s", " \n", "aA", "\xFF", "ab ", "\xCC\x96\xCC\x81", "中A", "\t x"};
    static const struct {
        const char *name;
        text_model model;
        bool whole; /* decoding gives the text back */
    } vocabs[] = {{"gpt2", TEXT_BPE, true},
                  {"llama-spm", TEXT_SPM, true},
                  {"hf-llama3", TEXT_BPE, true},
                  {"hf-qwen2", TEXT_BPE, false},
                  {"hf-o200k", TEXT_BPE, true},
                  {"hf-llama2", TEXT_SPM, true},
                  {"hf-unigram-bytes", TEXT_UNIGRAM, false},
                  {"sp-unigram", TEXT_UNIGRAM, false},
                  {"bert-bge", TEXT_WORDPIECE, false}};
    for (size_t k = 0; k < BASE_COUNT(vocabs); k++) {
        const char *name = vocabs[k].name;
        bool json = strncmp(name, "hf-", 3) == 0, gpt2 = strcmp(name, "gpt2") == 0;
        text_vocab *v = gpt2   ? help_gpt2()
                        : json ? help_json(name)
                               : help_vocab(name, vocabs[k].model);
        for (size_t i = 0; i < BASE_COUNT(atoms); i++) {
            base_buf text =
                repeat(atoms[i], scaled(i < 7 ? 1000000 : 100000)); /* seven classic ones */
            encode_within(name, v, help_str(&text), vocabs[k].whole);
            base_buf_free(&text);
        }
        text_vocab_free(&v);
    }
}

static void count_piece(void *user, base_str piece) { *(size_t *)user += piece.n; }

static void every_rule_set_is_linear(void **state) {
    (void)state;
    static const char *const rules[] = {"gpt-2",        "llama3",         "qwen2",     "qwen35",
                                        "gpt-4o",       "falcon",         "starcoder", "mpt",
                                        "deepseek-llm", "deepseek-coder", "default"};
    static const char *const atoms[] = {"a", " ",     "\n",   "1",    "!",   "\xCC\x81", "あ",
                                        "A", "\r\n ", "aA'S", "\xFF", " \t", "中A"};
    for (size_t r = 0; r < BASE_COUNT(rules); r++)
        for (size_t i = 0; i < BASE_COUNT(atoms); i++) {
            base_buf text = repeat(atoms[i], scaled(300000));
            base_buf_puts(&text, "x"); /* what ends a run of spaces decides how it is cut */
            size_t bytes = 0;
            double start = seconds_used();
            assert_int_equal(
                text_split(base_str_of(rules[r]), help_str(&text), count_piece, &bytes, NULL),
                ROTOR_OK);
            assert_int_equal(bytes, text.len);
            assert_true(seconds_used() - start < 10);
            base_buf_free(&text);
        }
}

/* ==== Malformed vocabularies ================================================================== */

typedef struct small {
    base_str tokens[8]; /* texts */
    float scores[8];    /* of SPM and unigram */
    int32_t types[8];   /* token types */
    base_str merges[6]; /* BPE */
    text_spec spec;     /* refers to the rest */
} small;

/* a, b, ab, <s>, bytes 00 and 01: enough for every model. */
static small *small_new(text_model model) {
    small *s = calloc(1, sizeof *s);
    static const char *const texts[] = {"a", "b", "ab", "<s>", "<0x00>", "<0x01>", "", "ab"};
    static const int32_t types[] = {1, 1, 1, 3, 6, 6, 1, 1};
    for (size_t i = 0; i < 8; i++) {
        s->tokens[i] = base_str_of(texts[i]);
        s->types[i] = types[i];
        s->scores[i] = (float)-(int)i;
    }
    s->merges[0] = base_str_of("a b");
    s->merges[1] = base_str_of("ab");
    s->merges[2] = base_str_of(" b");
    s->merges[3] = base_str_of("a ");
    s->merges[4] = base_str_of("b a");
    s->merges[5] = base_str_of("");
    s->spec = plain_spec(model);
    s->spec.pre = base_str_of("gpt-2");
    s->spec.tokens = s->tokens;
    s->spec.scores = s->scores;
    s->spec.types = s->types;
    s->spec.n_tokens = 8;
    s->spec.merges = s->merges;
    s->spec.n_merges = 6;
    s->spec.bos = 3;
    s->spec.add_bos = s->spec.add_eos = s->spec.add_space_prefix = -1;
    return s;
}

static rotor_status try_create(const small *s, rotor_error *err) {
    text_vocab *v = NULL;
    rotor_status st = text_vocab_create(&v, &s->spec, err);
    assert_int_equal(st == ROTOR_OK, v != NULL);
    text_vocab_free(&v);
    return st;
}

static int warnings;
static void count_warning(void *user, base_log_level level, const char *line) {
    (void)user, (void)line;
    warnings += level == BASE_LOG_WARN;
}

static void duplicates_empties_and_bad_merges(void **state) {
    (void)state;
    small *s = small_new(TEXT_BPE);
    base_log log = {count_warning, NULL};
    s->spec.log = &log;
    warnings = 0;
    text_vocab *v = NULL;
    assert_int_equal(text_vocab_create(&v, &s->spec, NULL), ROTOR_OK);
    assert_int_equal(warnings, 1); /* five of six merges are useless */
    assert_int_equal(text_n_tokens(v), 8);
    assert_int_equal(text_find(v, base_str_of("ab")), 7); /* the last of two */
    assert_int_equal(text_find(v, (base_str){"", 0}), TEXT_NO_ID);
    assert_string_equal(text_token(v, 2).p, "ab<s><0x00><0x01>ab");
    text_ids ids = help_encode(v, base_str_of("abcab"), 0);
    assert_int_equal(ids.n, 2); /* c has no token, not even its byte, and there is no unknown */
    assert_int_equal(ids.ids[0], 7);
    text_ids_free(&ids);
    assert_int_equal(text_encode(v, (base_str){NULL, 0}, TEXT_ADD_BOS, &ids, NULL), ROTOR_OK);
    assert_int_equal(ids.n, 0); /* gpt-2 rules add no BOS by themselves */
    text_vocab_free(&v);
    free(s);
}

static void malformed_specs_are_refused(void **state) {
    (void)state;
    rotor_error err = {0};
    small *s = small_new(TEXT_SPM);
    assert_int_equal(try_create(s, &err), ROTOR_OK);
    s->spec.eos = 8;
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    assert_string_equal(err.message, "vocabulary: the EOS id is 8 of 8 tokens");
    s->spec.eos = TEXT_NO_ID;
    s->scores[2] = NAN;
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    s->scores[2] = 0;
    s->spec.scores = NULL;
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    s->spec.scores = s->scores;
    s->types[0] = 7;
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    s->types[0] = -1;
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    s->types[0] = 1;
    static const char *const bad_bytes[] = {"<0x1>",  "<0x+1>",  "<0x 1>",
                                            "<0X01>", "<0x001>", "0x01"};
    for (size_t i = 0; i < BASE_COUNT(bad_bytes); i++) {
        s->tokens[4] = base_str_of(bad_bytes[i]);
        assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    }
    s->tokens[4] = base_str_of("<0x0a>");
    assert_int_equal(try_create(s, &err), ROTOR_OK);
    base_buf big = repeat("x", (1 << 16) + 1);
    s->tokens[0] = help_str(&big);
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    base_buf_free(&big);
    s->spec.n_tokens = 0;
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    s->spec.n_tokens = (1u << 21) + 1;
    assert_int_equal(try_create(s, &err), ROTOR_E_FORMAT);
    free(s);
}

static void pre_tokenizers_by_name(void **state) {
    (void)state;
    rotor_error err = {0};
    base_log log = {count_warning, NULL};
    small *s = small_new(TEXT_BPE);
    s->spec.log = &log;
    s->spec.n_merges = 1;
    static const struct {
        const char *pre;
        rotor_status status;
        int warnings;
    } cases[] = {{"gpt-2", ROTOR_OK, 0},   {"llama-bpe", ROTOR_OK, 0},
                 {"falcon3", ROTOR_OK, 0}, {"", ROTOR_OK, 1},
                 {"no-such", ROTOR_OK, 1}, {"tekken", ROTOR_E_UNSUPPORTED, 0},
                 {"default", ROTOR_OK, 0}, {"deepseek-v3", ROTOR_E_UNSUPPORTED, 0}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        s->spec.pre = base_str_of(cases[i].pre);
        warnings = 0;
        assert_int_equal(try_create(s, &err), cases[i].status);
        assert_int_equal(warnings, cases[i].warnings);
    }
    free(s);
}

static void charsmaps_are_checked(void **state) {
    (void)state;
    base_rng rng;
    base_rng_seed(&rng, 3);
    small *s = small_new(TEXT_UNIGRAM);
    assert_int_equal(try_create(s, NULL), ROTOR_OK);
    s->spec.charsmap = (base_str){"\x08\0\0", 3};
    assert_int_equal(try_create(s, NULL), ROTOR_E_FORMAT);
    s->spec.charsmap = (base_str){"\x08\0\0\0abcd", 8};
    assert_int_equal(try_create(s, NULL), ROTOR_E_FORMAT);
    for (int round = 0; round < 500; round++) { /* random trees must not read outside */
        char blob[4 + 256 + 16];
        text_vocab *v = NULL;
        for (size_t i = 0; i < sizeof blob; i++) blob[i] = (char)base_rng_below(&rng, 256);
        for (size_t i = 4; i < 260; i += 4) blob[i] = (char)base_rng_below(&rng, 4);
        memcpy(blob, "\0\1\0\0", 4);
        s->spec.charsmap = (base_str){blob, sizeof blob};
        assert_int_equal(text_vocab_create(&v, &s->spec, NULL), ROTOR_OK);
        for (int t = 0; t < 20; t++) {
            char text[16];
            for (size_t i = 0; i < sizeof text; i++) text[i] = (char)base_rng_below(&rng, 4);
            text_ids ids = help_encode(v, (base_str){text, sizeof text}, 0);
            text_ids_free(&ids);
        }
        text_vocab_free(&v);
    }
    free(s);
}

static void bad_rank_files_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"YQ== ",
                                      "YQ==",
                                      "YQ== x\n",
                                      " 0\n",
                                      "YQ= 0\n",
                                      "Y!== 0\n",
                                      "YQ== 0\nYg== 0\n",
                                      "YQ== 99999999999\n",
                                      "YQ== 0 1\n",
                                      "YQ== 2097152\n",
                                      "\n"};
    text_vocab *v = NULL;
    base_str special = base_str_of("<x>"), pre = base_str_of("llama3");
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        rotor_error err = {0};
        assert_int_equal(text_vocab_from_ranks(&v, base_str_of(bad[i]), pre, NULL, 0, 0, &err),
                         ROTOR_E_FORMAT);
        assert_null(v);
    }
    assert_int_equal(text_vocab_from_ranks(&v, base_str_of("YQ== 5\n"), pre, &special, 1, 5, NULL),
                     ROTOR_E_ARG);
    assert_int_equal(
        text_vocab_from_ranks(&v, base_str_of("YQ== 5\r\nYg== 0"), pre, &special, 1, 9, NULL),
        ROTOR_OK);
    assert_int_equal(text_n_tokens(v), 10);
    assert_int_equal(text_find(v, special), 9);
    assert_int_equal(text_find(v, base_str_of("a")), 5);
    text_vocab_free(&v);
}

/* ==== tokenizer.json ========================================================================== */

static rotor_status from_json(const char *json, size_t n, rotor_error *err) {
    text_vocab *v = NULL;
    rotor_status st = text_vocab_from_json(&v, (base_str){json, n}, (base_str){0}, NULL, err);
    assert_int_equal(st == ROTOR_OK, v != NULL);
    text_vocab_free(&v);
    return st;
}

static const char small_json[] =
    "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true,"
    "\"lstrip\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
    "{\"type\":\"Prepend\",\"prepend\":\"_\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\","
    "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":"
    "\"Removed\","
    "\"invert\":false},{\"type\":\"Metaspace\"}]},\"post_processor\":{\"type\":"
    "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\","
    "\"ids\":[3]}}},\"model\":{\"type\":\"BPE\",\"unk_token\":null,\"byte_fallback\":true,"
    "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"]]}}";

static void truncated_json_is_refused(void **state) {
    (void)state;
    size_t n = strlen(small_json);
    for (size_t cut = 0; cut < n; cut++) {
        rotor_error err = {0};
        assert_int_equal(from_json(small_json, cut, &err), ROTOR_E_FORMAT);
        assert_true(err.message[0]);
    }
#ifdef ROTOR_HAVE_PCRE2
    assert_int_equal(from_json(small_json, n, NULL), ROTOR_OK);
#endif
}

static void odd_json_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *json;
        rotor_status status;
    } cases[] = {
        {"[]", ROTOR_E_FORMAT},
        {"{}", ROTOR_E_FORMAT},
        {"{\"model\":{}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2097152},\"merges\":[]}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":[[\"a\",0]],\"merges\":[]}}", ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}", ROTOR_E_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],"
         "\"end_of_word_suffix\":\"</w>\"}}",
         ROTOR_E_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[1,[],[\"a\"],\"a\"]}}",
         ROTOR_OK},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
         "\"normalizer\":{\"type\":\"Nmt\"}}",
         ROTOR_E_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
         "\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}",
         ROTOR_E_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
         "\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Odd\",\"pattern\":{\"String\":\"x\"}"
         "}}",
         ROTOR_E_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
         "\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",9],\"sep\":[\"a\",0]}}",
         ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
         "\"added_tokens\":[{\"id\":1}]}",
         ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
         "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!!!\"}}",
         ROTOR_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":7,"
         "\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":[]}",
         ROTOR_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        rotor_error err = {0};
        rotor_status st = from_json(cases[i].json, strlen(cases[i].json), &err);
        if (st != cases[i].status) print_error("case %zu: %s\n", i, err.message);
        assert_int_equal(st, cases[i].status);
    }
}

#ifdef ROTOR_HAVE_PCRE2
static rotor_status with_regex(const char *regex, base_str text, rotor_error *err) {
    base_buf b = {0};
    base_buf_printf(&b,
                    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
                    "\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\","
                    "\"pattern\":{\"Regex\":\"%s\"}}}",
                    regex);
    text_vocab *v = NULL;
    text_ids ids = {0};
    rotor_status st = text_vocab_from_json(&v, help_str(&b), (base_str){0}, NULL, err);
    if (st == ROTOR_OK) st = text_encode(v, text, 0, &ids, err);
    if (st) assert_int_equal(ids.n, 0);
    text_ids_free(&ids);
    text_vocab_free(&v);
    base_buf_free(&b);
    return st;
}

static void hostile_expressions_are_bounded(void **state) {
    (void)state;
    rotor_error err = {0};
    base_buf text = repeat("a", 5000);
    base_buf_puts(&text, "!");
    assert_int_equal(with_regex("(a+)+$", help_str(&text), &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "took too long"));
    assert_int_equal(with_regex("(", help_str(&text), &err), ROTOR_E_FORMAT);
    assert_int_equal(with_regex("[\\\\p{L}&&[^a]]", help_str(&text), &err), ROTOR_E_UNSUPPORTED);
    assert_int_equal(with_regex("\\\\C", help_str(&text), &err), ROTOR_E_FORMAT);
    assert_int_equal(with_regex("x*", help_str(&text), &err), ROTOR_OK); /* empty matches */
    assert_int_equal(with_regex("a|\\\\xff", (base_str){"a\xFF\xC3\xBF", 4}, &err), ROTOR_OK);
    base_buf_free(&text);
}
#endif

/* ==== Failing allocations ===================================================================== */

typedef rotor_status (*attempt)(void *arg);

/* Fails the first allocation, then only the second, and so on until the attempt succeeds. */
static void survive_every_fault(attempt fn, void *arg, const char *what) {
    for (long n = 1; n < 100000; n++) {
        base_fault_after(n);
        rotor_status st = fn(arg);
        bool fired = base_fault_fired();
        base_fault_after(0);
        if (fired && st == ROTOR_OK) continue; /* an allocation that is only a speed-up */
        if (!fired) {
            assert_int_equal(st, ROTOR_OK);
            print_message("%s: %ld allocations\n", what, n - 1);
            assert_true(n > 3);
            return;
        }
        assert_int_equal(st, ROTOR_E_NOMEM);
    }
    fail_msg("%s never succeeds", what);
}

static rotor_status attempt_create(void *arg) { return try_create(arg, NULL); }

static rotor_status attempt_json(void *arg) {
    base_str *json = arg;
    return from_json(json->p, json->n, NULL);
}

static rotor_status attempt_ranks(void *arg) {
    text_vocab *v = NULL;
    base_str special = base_str_of("<|begin_of_text|>");
    rotor_status st = text_vocab_from_ranks(&v, base_str_of("YQ== 0\nYg== 1\nYWI= 2\n"),
                                            base_str_of("llama3"), &special, 1, 3, arg);
    text_vocab_free(&v);
    return st;
}

typedef struct encoding {
    const text_vocab *v; /* to encode with */
    base_str text;       /* what */
} encoding;

static rotor_status attempt_encode(void *arg) {
    encoding *e = arg;
    text_ids ids = {0};
    rotor_status st = text_ids_push(&ids, 42);
    if (st == ROTOR_OK)
        st = text_encode(e->v, e->text, TEXT_ADD_BOS | TEXT_ADD_EOS | TEXT_PARSE_SPECIAL, &ids,
                         NULL);
    if (st && ids.n) assert_true(ids.n == 1 && ids.ids[0] == 42); /* left as it was */
    text_ids_free(&ids);
    return st;
}

static void faults_while_creating(void **state) {
    (void)state;
    static const text_model models[] = {TEXT_BPE, TEXT_SPM, TEXT_UNIGRAM, TEXT_WORDPIECE};
    base_str charsmap = {"\4\0\0\0\0\0\0\0", 8};
    for (size_t i = 0; i < BASE_COUNT(models); i++) {
        small *s = small_new(models[i]);
        s->spec.charsmap = charsmap;
        s->spec.remove_extra_whitespaces = true;
        survive_every_fault(attempt_create, s, "vocabulary");
        free(s);
    }
    survive_every_fault(attempt_ranks, NULL, "ranks");
#ifdef ROTOR_HAVE_PCRE2
    base_str json = {small_json, strlen(small_json)};
    survive_every_fault(attempt_json, &json, "tokenizer.json");
    base_buf odd = help_fixture("hf-odd.json");
    base_str odd_json = help_str(&odd);
    survive_every_fault(attempt_json, &odd_json, "hf-odd.json");
    base_buf_free(&odd);
#endif
    base_buf unigram = help_fixture("hf-wordpiece.json");
    base_str unigram_json = help_str(&unigram);
    survive_every_fault(attempt_json, &unigram_json, "hf-wordpiece.json");
    base_buf_free(&unigram);
}

static void faults_while_encoding(void **state) {
    (void)state;
    static const char *const names[] = {"hf-llama3",    "hf-qwen2",         "hf-llama2",
                                        "hf-metaspace", "hf-unigram-bytes", "hf-unigram",
                                        "hf-wordpiece",
#ifdef ROTOR_HAVE_PCRE2
                                        "hf-odd",       "hf-regex"
#endif
    };
    base_buf text = repeat("Hello  World 中文 é́ <|im_end|> foo_bar1234 don't\r\n", 60);
    base_buf run = repeat("x", 300); /* a piece for the heap */
    base_buf_append(&text, run.data, run.len);
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        text_vocab *v = help_json(names[i]);
        encoding e = {v, help_str(&text)};
        survive_every_fault(attempt_encode, &e, names[i]);
        text_vocab_free(&v);
    }
    base_buf_free(&text);
    base_buf_free(&run);
}

/* ==== Threads ================================================================================= */

typedef struct worker {
    const text_vocab *v; /* shared */
    base_str text;       /* shared */
    uint32_t hash;       /* of the ids */
} worker;

static void work(void *arg) {
    worker *w = arg;
    for (int i = 0; i < 20; i++) {
        text_ids ids = {0};
        if (text_encode(w->v, w->text, 0, &ids, NULL) == ROTOR_OK)
            w->hash = help_fnv(ids.ids, ids.n);
        text_ids_free(&ids);
    }
}

static void threads_share_a_vocabulary(void **state) {
    (void)state;
#ifdef ROTOR_HAVE_PCRE2
    text_vocab *v = help_json("hf-regex");
#else
    text_vocab *v = help_json("hf-qwen2");
#endif
    base_buf text = repeat("Shared by threads: 12345 中文 don't \r\n", 200);
    worker w[4];
    base_thread *t[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (worker){v, help_str(&text), 0};
        assert_int_equal(base_thread_start(&t[i], work, &w[i]), ROTOR_OK);
    }
    for (int i = 0; i < 4; i++) base_thread_join(&t[i]);
    for (int i = 0; i < 4; i++) assert_true(w[i].hash && w[i].hash == w[0].hash);
    base_buf_free(&text);
    text_vocab_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_runs_stay_linear),
        cmocka_unit_test(every_rule_set_is_linear),
        cmocka_unit_test(duplicates_empties_and_bad_merges),
        cmocka_unit_test(malformed_specs_are_refused),
        cmocka_unit_test(pre_tokenizers_by_name),
        cmocka_unit_test(charsmaps_are_checked),
        cmocka_unit_test(bad_rank_files_are_refused),
        cmocka_unit_test(truncated_json_is_refused),
        cmocka_unit_test(odd_json_is_refused),
#ifdef ROTOR_HAVE_PCRE2
        cmocka_unit_test(hostile_expressions_are_bounded),
#endif
        cmocka_unit_test(faults_while_creating),
        cmocka_unit_test(faults_while_encoding),
        cmocka_unit_test(threads_share_a_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
