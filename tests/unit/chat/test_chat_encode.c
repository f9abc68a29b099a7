/* SPDX-License-Identifier: MIT
 *
 * Prompts to ids: control tokens from template text only, no seams between parts, one BOS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/chat.h"
#include "chat/chat_internal.h"
#include "plain_spec.h"

#define STR(s)                                                                                     \
    { s, sizeof(s) - 1 }

/* ==== A small byte-level vocabulary =========================================================== */

enum { BOS_ID = 256, EOT_ID, IM_START, IM_START_LONG, USER_DEFINED, MERGED_HI, N_TOKENS };

/* 256 bytes in the usual printable alphabet, specials, and one merge: space + H. */
static text_vocab *small_vocab(int add_bos) {
    static char byte_text[256][4];
    static base_str tokens[N_TOKENS], merges[1] = {STR("\xC4\xA0 H")};
    static int32_t types[N_TOKENS];
    uint32_t extra = 256;
    for (uint32_t b = 0; b < 256; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        int n = base_utf8_encode(plain ? b : extra++, byte_text[b]);
        tokens[b] = (base_str){byte_text[b], (size_t)n};
        types[b] = TEXT_NORMAL;
    }
    const base_str special[] = {STR("<s>"),          STR("<|eot|>"), STR("<|im"),
                                STR("<|im_start|>"), STR("<tool>"),  STR("\xC4\xA0H")};
    for (uint32_t i = BOS_ID; i < N_TOKENS; i++) {
        tokens[i] = special[i - BOS_ID];
        types[i] = i == USER_DEFINED ? TEXT_USER_DEFINED
                   : i == MERGED_HI  ? TEXT_NORMAL
                                     : TEXT_CONTROL;
    }
    text_spec spec = plain_spec(TEXT_BPE);
    spec.pre = base_str_of("llama-bpe");
    spec.tokens = tokens;
    spec.types = types;
    spec.n_tokens = N_TOKENS;
    spec.merges = merges;
    spec.n_merges = 1;
    spec.bos = BOS_ID;
    spec.eos = EOT_ID;
    spec.eot = EOT_ID;
    spec.add_bos = add_bos;
    text_vocab *v = NULL;
    rotor_error err = {0};
    if (text_vocab_create(&v, &spec, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return v;
}

/* Parts alternate: template, user, template … */
static chat_prompt prompt_of(const char *const *texts, size_t n) {
    chat_prompt p = {0};
    for (size_t i = 0; i < n; i++)
        assert_int_equal(chat_prompt_add(&p, base_str_of(texts[i]), i % 2), ROTOR_OK);
    return p;
}

static void assert_ids(const text_vocab *v, chat_prompt p, const uint32_t *want, size_t n) {
    text_ids ids = {0};
    rotor_error err = {0};
    if (chat_encode(&p, v, &ids, &err) != ROTOR_OK) fail_msg("%s", err.message);
    for (size_t i = 0; i < BASE_MIN(n, ids.n); i++)
        if (ids.ids[i] != want[i]) fail_msg("id %zu is %u, not %u", i, ids.ids[i], want[i]);
    assert_int_equal(ids.n, n);
    text_ids_free(&ids);
    chat_prompt_free(&p);
}
#define ASSERT_IDS(v, texts, want)                                                                 \
    assert_ids(v, prompt_of(texts, BASE_COUNT(texts)), want, BASE_COUNT(want))

static void words_merge_across_parts(void **state) {
    (void)state;
    text_vocab *v = small_vocab(0);
    const char *texts[] = {"U: ", "Hi", "<|eot|>A:"};
    const uint32_t want[] = {'U', ':', MERGED_HI, 'i', EOT_ID, 'A', ':'};
    ASSERT_IDS(v, texts, want);
    text_vocab_free(&v);
}

/* What was generated stays what it was, where a control token follows; elsewhere it is text. */
static void known_answers_keep_their_ids(void **state) {
    (void)state;
    text_vocab *v = small_vocab(0);
    const char *texts[] = {"U: ", "Hi", "<|eot|>A: ", "Hi", "<|eot|>U: ", "Hi", "\n"};
    static const uint32_t made[] = {'H', 'i'};
    const uint32_t plain[] = {'U', ':',    MERGED_HI, 'i', EOT_ID,    'A', ':', MERGED_HI,
                              'i', EOT_ID, 'U',       ':', MERGED_HI, 'i', '\n'};
    const uint32_t known[] = {'U', ':', MERGED_HI, 'i', EOT_ID, 'A',       ':', ' ',
                              'H', 'i', EOT_ID,    'U', ':',    MERGED_HI, 'i', '\n'};
    chat_prompt p = prompt_of(texts, BASE_COUNT(texts));
    size_t at = chat_prompt_known(&p, 0, base_str_of("Hi"), NULL, 0); /* the question */
    assert_int_equal(at, 2);
    assert_int_equal(chat_prompt_known(&p, at, base_str_of("Ho"), made, 2), at);
    at = chat_prompt_known(&p, at, base_str_of("Hi"), made, 2);
    assert_int_equal(at, 4);
    assert_ids(v, p, known, BASE_COUNT(known));
    p = prompt_of(texts, BASE_COUNT(texts));
    assert_int_equal(chat_prompt_known(&p, 4, base_str_of("Hi"), made, 2), 6); /* no token behind */
    assert_ids(v, p, plain, BASE_COUNT(plain));
    text_vocab_free(&v);
}

static void user_text_never_becomes_control(void **state) {
    (void)state;
    text_vocab *v = small_vocab(0);
    const char *whole[] = {"", "<|eot|><s>", "<|eot|>"};
    const uint32_t want[] = {'<', '|', 'e', 'o', 't', '|', '>', '<', 's', '>', EOT_ID};
    ASSERT_IDS(v, whole, want);
    /* Nor does one that begins or ends in template text. */
    const char *halves[] = {"<|", "eot|>", "<|eot", "|>", "<s>"};
    const uint32_t want_halves[] = {'<', '|', 'e', 'o', 't', '|', '>',   '<',
                                    '|', 'e', 'o', 't', '|', '>', BOS_ID};
    ASSERT_IDS(v, halves, want_halves);
    text_vocab_free(&v);
}

static void the_longest_control_token_wins(void **state) {
    (void)state;
    text_vocab *v = small_vocab(0);
    const char *texts[] = {"<|im_start|><|im<|im_star<tool>", "<tool>"};
    const uint32_t want[] = {IM_START_LONG, IM_START, IM_START, '_',          's',
                             't',           'a',      'r',      USER_DEFINED, USER_DEFINED};
    ASSERT_IDS(v, texts, want);
    text_vocab_free(&v);
}

static void there_is_exactly_one_bos(void **state) {
    (void)state;
    const char *without[] = {"a"}, *with[] = {"<s>a<s>"}, *twice[] = {"<s><s>a"},
               *users[] = {"", "<s>"};
    const char *empty[] = {""};
    for (int add = 0; add < 2; add++) {
        text_vocab *v = small_vocab(add);
        const uint32_t plain[] = {BOS_ID, 'a'}, own[] = {BOS_ID, 'a', BOS_ID};
        const uint32_t attack[] = {BOS_ID, '<', 's', '>'}, only[] = {BOS_ID};
        assert_ids(v, prompt_of(without, 1), plain + !add, 1 + (size_t)add);
        assert_ids(v, prompt_of(with, 1), own, 3); /* a later one is the template's business */
        assert_ids(v, prompt_of(twice, 1), own, 2);
        assert_ids(v, prompt_of(users, 2), attack + !add, 3 + (size_t)add);
        assert_ids(v, prompt_of(empty, 1), only, (size_t)add);
        text_vocab_free(&v);
    }
}

static void ids_are_appended_or_nothing_is(void **state) {
    (void)state;
    text_vocab *v = small_vocab(1);
    const char *texts[] = {"U: ", "Hi <|eot|>", "<|eot|>A:"};
    for (long n = 1;; n++) {
        text_ids ids = {0};
        assert_int_equal(text_ids_push(&ids, 7), ROTOR_OK);
        chat_prompt p = prompt_of(texts, 3);
        rotor_error err = {0};
        base_fault_after(n);
        rotor_status st = chat_encode(&p, v, &ids, &err);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        assert_int_equal(ids.ids[0], 7);
        assert_true(fired ? ids.n == 1 && err.message[0] : ids.n > 10);
        chat_prompt_free(&p);
        text_ids_free(&ids);
        if (!fired) break;
    }
    text_vocab_free(&v);
}

/* Whatever the user writes, the control ids are the template's own, in number and order. */
static void random_user_text_adds_no_control_ids(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "<|eot|>", "<s>", "<|im_start|>", "<|im", "<|",     "|>",  " H", "H",
        " ",       "\n",  "\xE2\x82",     "é",    "<tool>", "eot", "x"};
    text_vocab *v = small_vocab(1);
    chat_hints h = {.architecture = base_str_of("llama"),
                    .bos_text = base_str_of("<s>"),
                    .model_template = base_str_of(
                        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }} "
                        "{{ m.content|trim }}<|eot|>{% endfor %}")};
    chat_template *t = NULL;
    assert_int_equal(chat_template_create(&t, &h, NULL, NULL), ROTOR_OK);
    base_rng rng;
    base_rng_seed(&rng, 3);
    for (int round = 0; round < 2000; round++) {
        base_buf text[2] = {{0}, {0}};
        for (uint32_t i = base_rng_below(&rng, 12); i > 0; i--)
            base_buf_puts(&text[i % 2], pieces[base_rng_below(&rng, BASE_COUNT(pieces))]);
        chat_message m[] = {{{text[0].data, text[0].len}, {text[1].data, text[1].len}},
                            {base_str_of("user"), {text[1].data, text[1].len}}};
        const uint32_t want[] = {BOS_ID, IM_START_LONG, EOT_ID, IM_START_LONG, EOT_ID};
        chat_prompt p = {0};
        text_ids ids = {0};
        assert_int_equal(chat_render(t, m, 2, false, &p, NULL), ROTOR_OK);
        assert_int_equal(chat_encode(&p, v, &ids, NULL), ROTOR_OK);
        size_t n = 0;
        for (size_t i = 0; i < ids.n; i++) {
            if (text_type(v, ids.ids[i]) != TEXT_CONTROL) continue;
            assert_true(n < BASE_COUNT(want));
            assert_int_equal(ids.ids[i], want[n++]);
        }
        assert_int_equal(n, BASE_COUNT(want));
        text_ids_free(&ids);
        chat_prompt_free(&p);
        base_buf_free(&text[0]);
        base_buf_free(&text[1]);
    }
    chat_template_free(&t);
    text_vocab_free(&v);
}

/* ==== The real vocabulary of BitNet 2B4T ====================================================== */

static text_vocab *llama3_vocab(void) {
    static char names[256][40];
    static base_str specials[256];
    static const char *const known[] = {
        "<|begin_of_text|>",   "<|end_of_text|>",   NULL, NULL,        NULL, NULL,
        "<|start_header_id|>", "<|end_header_id|>", NULL, "<|eot_id|>"};
    const char *data = getenv("ROTOR_TEST_DATA");
    char path[512];
    if (!data) return NULL;
    for (int i = 0, reserved = 0; i < 256; i++) {
        if (i < (int)BASE_COUNT(known) && known[i])
            snprintf(names[i], sizeof names[i], "%s", known[i]);
        else
            snprintf(names[i], sizeof names[i], "<|reserved_special_token_%d|>", reserved++);
        specials[i] = base_str_of(names[i]);
    }
    snprintf(path, sizeof path, "%s/vocab/llama3_tokenizer.model", data);
    base_file f;
    rotor_error err = {0};
    text_vocab *v = NULL;
    if (base_file_open(&f, path, true, &err) != ROTOR_OK) return NULL;
    rotor_status st = text_vocab_from_ranks(&v, (base_str){(const char *)f.data, f.size},
                                            base_str_of("llama-bpe"), specials, 256, 128000, &err);
    if (st != ROTOR_OK) fail_msg("%s", err.message);
    base_file_close(&f);
    return v;
}

/* Ids published with transformers' tests: 1502 25 2650 … 128009 72803 25 220 behind the BOS. */
static void bitnet_prompts_have_the_published_ids(void **state) {
    (void)state;
    text_vocab *v = llama3_vocab();
    if (!v) {
        print_message("skipped: no data\n");
        skip();
    }
    chat_hints h = {.architecture = base_str_of("bitnet-b1.58")};
    chat_template *t = NULL;
    assert_int_equal(chat_template_create(&t, &h, NULL, NULL), ROTOR_OK);
    static const uint32_t one[] = {1502, 25, 2650, 527, 499, 30, 128009, 72803, 25, 220};
    const char *const contents[] = {"How are you?", "<|eot_id|><|end_of_text|>"};
    for (size_t i = 0; i < BASE_COUNT(contents); i++) {
        chat_message m = {base_str_of("user"), base_str_of(contents[i])};
        chat_prompt p = {0};
        text_ids ids = {0};
        size_t n_special = 0;
        assert_int_equal(chat_render(t, &m, 1, true, &p, NULL), ROTOR_OK);
        assert_int_equal(chat_encode(&p, v, &ids, NULL), ROTOR_OK);
        size_t bos = ids.n && ids.ids[0] == 128000;
        assert_int_equal(bos, text_adds_bos(v));
        if (i == 0) assert_int_equal(ids.n - bos, BASE_COUNT(one));
        if (i == 0) assert_memory_equal(ids.ids + bos, one, sizeof one);
        for (size_t k = bos; k < ids.n; k++) n_special += ids.ids[k] >= 128000;
        assert_int_equal(n_special, 1);
        text_ids_free(&ids);
        chat_prompt_free(&p);
    }
    chat_template_free(&t);
    text_vocab_free(&v);
}

/* Without control tokens in user text, parts make no difference: the ids are those of the whole
 * text, with the control tokens in it parsed. */
static void parts_leave_no_seams(void **state) {
    (void)state;
    char path[512];
    text_vocab *v = llama3_vocab();
    if (!v) {
        print_message("skipped: no data\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/tests/data/chat/templates.json", getenv("ROTOR_SOURCE_ROOT"));
    json_t *root = json_load_file(path, 0, NULL), *list, *m;
    const char *name;
    size_t n_prompts = 0, k;
    assert_non_null(root);
    for (size_t i = 0; chat_builtin_name(i); i++) {
        chat_hints h = {.bos_text = base_str_of("<|begin_of_text|>"),
                        .eos_text = base_str_of("<|eot_id|>")};
        chat_template *t = NULL;
        assert_int_equal(chat_template_create(&t, &h, chat_builtin_name(i), NULL), ROTOR_OK);
        json_object_foreach(json_object_get(root, "conversations"), name, list) {
            chat_message messages[16];
            chat_prompt p = {0};
            text_ids ids = {0}, whole = {0};
            if (strcmp(name, "attack") == 0) continue;
            json_array_foreach(list, k, m) messages[k] =
                (chat_message){base_str_of(json_string_value(json_object_get(m, "role"))),
                               base_str_of(json_string_value(json_object_get(m, "content")))};
            assert_int_equal(chat_render(t, messages, k, true, &p, NULL), ROTOR_OK);
            assert_int_equal(chat_encode(&p, v, &ids, NULL), ROTOR_OK);
            base_str text = {p.text.data, p.text.len};
            assert_int_equal(text_encode(v, text, TEXT_PARSE_SPECIAL | TEXT_ADD_BOS, &whole, NULL),
                             ROTOR_OK);
            assert_int_equal(ids.n, whole.n);
            assert_memory_equal(ids.ids, whole.ids, ids.n * sizeof(uint32_t));
            n_prompts++;
            text_ids_free(&ids);
            text_ids_free(&whole);
            chat_prompt_free(&p);
        }
        chat_template_free(&t);
    }
    print_message("%zu prompts\n", n_prompts);
    json_decref(root);
    text_vocab_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_merge_across_parts),
        cmocka_unit_test(known_answers_keep_their_ids),
        cmocka_unit_test(user_text_never_becomes_control),
        cmocka_unit_test(the_longest_control_token_wins),
        cmocka_unit_test(there_is_exactly_one_bos),
        cmocka_unit_test(ids_are_appended_or_nothing_is),
        cmocka_unit_test(random_user_text_adds_no_control_ids),
        cmocka_unit_test(bitnet_prompts_have_the_published_ids),
        cmocka_unit_test(parts_leave_no_seams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
