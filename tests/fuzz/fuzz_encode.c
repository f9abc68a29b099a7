/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: text to encode. The first byte picks a rule set or a model, the rest is the text.
 * Pieces must cover the text in order; byte-level and byte-fallback vocabularies must give the
 * text back.
 */
#include <assert.h>
#include <stdlib.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const rules[] = {"gpt-2",        "llama3",         "qwen2",     "qwen35",
                                    "gpt-4o",       "falcon",         "starcoder", "mpt",
                                    "deepseek-llm", "deepseek-coder", "default"};

typedef struct cover {
    const char *next; /* where the next piece must start */
} cover;

static void check_piece(void *user, base_str piece) {
    cover *c = user;
    assert(piece.p == c->next && piece.n > 0);
    c->next += piece.n;
}

/* 256 byte tokens, a few joined ones, two special ones. Made once per model kind. */
static const text_vocab *vocab_of(text_model model) {
    static text_vocab *made[4];
    static char names[256][8];
    static const char *const more[] = {"<s>",
                                       "</s>",
                                       "a",
                                       "b",
                                       "\xE2\x96\x81",
                                       "ab",
                                       ("\xE2\x96\x81"
                                        "a"),
                                       "the",
                                       "\xC3\xA9",
                                       "##b"};
    static const int32_t more_types[] = {3, 3, 1, 1, 1, 1, 1, 1, 1, 1};
    base_str tokens[266];
    float scores[266];
    int32_t types[266];
    if (made[model]) return made[model];
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        static const char hex[] = "0123456789ABCDEF";
        char name[8] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        size_t n = 6;
        if (model == TEXT_BPE) n = (size_t)base_utf8_encode(printable ? b : next++, name);
        memcpy(names[b], name, 8);
        tokens[b] = (base_str){names[b], n};
        types[b] = model == TEXT_BPE ? TEXT_NORMAL : TEXT_BYTE;
    }
    for (size_t i = 0; i < BASE_COUNT(more); i++) {
        tokens[256 + i] = base_str_of(more[i]);
        types[256 + i] = more_types[i];
    }
    for (int i = 0; i < 266; i++) scores[i] = (float)-i;
    base_str merges[] = {base_str_of("a b"), base_str_of("t h"), base_str_of("th e")};
    text_spec s = {.model = model,
                   .pre = base_str_of("llama3"),
                   .tokens = tokens,
                   .scores = scores,
                   .types = types,
                   .n_tokens = 266,
                   .merges = merges,
                   .n_merges = 3,
                   .bos = 256,
                   .eos = 257,
                   .unk = TEXT_NO_ID,
                   .sep = 257,
                   .pad = TEXT_NO_ID,
                   .cls = 256,
                   .mask = TEXT_NO_ID,
                   .eot = TEXT_NO_ID,
                   .eom = TEXT_NO_ID,
                   .add_bos = -1,
                   .add_eos = -1,
                   .add_space_prefix = -1};
    if (text_vocab_create(&made[model], &s, NULL)) abort();
    return made[model];
}

static void encode(text_model model, base_str text) {
    const text_vocab *v = vocab_of(model);
    text_ids ids = {0};
    base_buf back = {0};
    if (text_encode(v, text, 0, &ids, NULL)) abort();
    for (size_t i = 0; i < ids.n; i++) assert(text_type(v, ids.ids[i]) != TEXT_CONTROL);
    if (text_decode(v, ids.ids, ids.n, false, &back)) abort();
    if (model == TEXT_BPE) {
        assert(back.len == text.n);
        assert(!text.n || memcmp(back.data, text.p, text.n) == 0);
    }
    text_ids_free(&ids);
    if (text_encode(v, text, TEXT_ADD_BOS | TEXT_ADD_EOS | TEXT_PARSE_SPECIAL, &ids, NULL)) abort();
    text_ids_free(&ids);
    base_buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    base_str text = {(const char *)data + 1, size - 1};
    unsigned pick = data[0] % (BASE_COUNT(rules) + 4);
    if (pick >= BASE_COUNT(rules)) {
        encode((text_model)(pick - BASE_COUNT(rules)), text);
        return 0;
    }
    cover c = {text.p};
    if (text_split(base_str_of(rules[pick]), text, check_piece, &c, NULL)) abort();
    assert(c.next == text.p + text.n);
    return 0;
}
