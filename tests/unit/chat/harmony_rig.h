/* SPDX-License-Identifier: MIT
 *
 * harmony_rig: a small vocabulary with Harmony's marks, the real one where the data is, and the
 * golden file.
 */
#ifndef HARMONY_RIG_H
#define HARMONY_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/harmony.h"
#include "plain_spec.h"

enum { N_BYTES = 256, FIRST_REAL = 199998, N_REAL_SPECIAL = 1090 };

/* Behind the bytes, in an order of their own; real[i] is the id in the published vocabulary. */
static const struct {
    const char *text;
    uint32_t real;
} rig_marks[] = {
    {"<|message|>", 200008},         {"<|endoftext|>", 199999},  {"<|start|>", 200006},
    {"<|channel|>", 200005},         {"<|call|>", 200012},       {"<|end|>", 200007},
    {"<|return|>", 200002},          {"<|constrain|>", 200003},  {"<|startoftext|>", 199998},
    {"<|reserved_200000|>", 200000}, {"<|endofprompt|>", 200018}};

/* mark_type: of the marks. Merges: "<|" and "th". without: a mark left out, or NULL. */
static inline text_vocab *small_vocab(text_token_type mark_type, const char *without) {
    static char byte_text[N_BYTES][4], astride[8];
    static base_str tokens[N_BYTES + 32], merges[2];
    static int32_t types[N_BYTES + 32];
    uint32_t extra = 256, n = N_BYTES;
    for (uint32_t b = 0; b < N_BYTES; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        tokens[b] =
            (base_str){byte_text[b], (size_t)base_utf8_encode(plain ? b : extra++, byte_text[b])};
        types[b] = TEXT_NORMAL;
    }
    for (size_t i = 0; i < BASE_COUNT(rig_marks); i++) {
        if (without && strcmp(without, rig_marks[i].text) == 0) continue;
        types[n] = mark_type;
        tokens[n++] = base_str_of(rig_marks[i].text);
    }
    const char *more[] = {"<|", "th", "[PAD1]"};
    for (size_t i = 0; i < BASE_COUNT(more); i++) {
        types[n] = i == 2 ? TEXT_UNUSED : TEXT_NORMAL;
        tokens[n++] = base_str_of(more[i]);
    }
    /* The end of one character and the beginning of the next; no merge makes it of text. */
    snprintf(astride, sizeof astride, "%s%s", byte_text[0x8A], byte_text[0xF0]);
    types[n] = TEXT_NORMAL;
    tokens[n++] = base_str_of(astride);
    merges[0] = base_str_of("< |");
    merges[1] = base_str_of("t h");
    text_spec spec = plain_spec(TEXT_BPE);
    spec.pre = base_str_of("gpt-4o");
    spec.tokens = tokens;
    spec.types = types;
    spec.n_tokens = n;
    spec.merges = merges;
    spec.n_merges = 2;
    text_vocab *v = NULL;
    rotor_error err = {0};
    if (text_vocab_create(&v, &spec, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return v;
}

/* The published vocabulary; NULL where the data is not. */
static inline text_vocab *real_vocab(void) {
    static char names[N_REAL_SPECIAL][24];
    base_str specials[N_REAL_SPECIAL];
    const char *folder = getenv("ROTOR_TEST_DATA");
    text_vocab *v = NULL;
    char path[4096];
    base_file f;
    rotor_error err = {0};
    if (!folder) return NULL;
    snprintf(path, sizeof path, "%s/vocab/o200k_base.tiktoken", folder);
    if (base_file_open(&f, path, true, NULL) != ROTOR_OK) return NULL;
    for (uint32_t i = 0; i < N_REAL_SPECIAL; i++) {
        snprintf(names[i], sizeof names[i], "<|reserved_%u|>", FIRST_REAL + i);
        for (size_t k = 0; k < BASE_COUNT(rig_marks); k++)
            if (rig_marks[k].real == FIRST_REAL + i)
                snprintf(names[i], sizeof names[i], "%s", rig_marks[k].text);
        specials[i] = base_str_of(names[i]);
    }
    base_str ranks = {(const char *)f.data, f.size};
    if (text_vocab_from_ranks(&v, ranks, base_str_of("gpt-4o"), specials, N_REAL_SPECIAL,
                              FIRST_REAL, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    base_file_close(&f);
    return v;
}

static inline harmony marks_of(const text_vocab *v) {
    harmony h = {0};
    rotor_error err = {0};
    if (harmony_find(&h, v, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return h;
}

static inline json_t *golden(void) {
    char path[4096];
    json_error_t error;
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/data/chat/harmony.json", root ? root : ".");
    json_t *v = json_load_file(path, 0, &error);
    if (!v) fail_msg("%s: line %d: %s", path, error.line, error.text);
    return v;
}

static inline base_str str_of(const json_t *v) {
    return (base_str){json_string_value(v), json_string_length(v)};
}

/* The marks' published numbers for ids of a vocabulary; 0: none of them. */
static inline uint32_t real_mark(const text_vocab *v, uint32_t id) {
    for (size_t i = 0; i < BASE_COUNT(rig_marks); i++)
        if (base_str_is(text_token(v, id), rig_marks[i].text)) return rig_marks[i].real;
    return 0;
}

/* In pieces that no mark fits into: some vocabularies here have marks that text is searched for. */
static inline void push_plain(const text_vocab *v, base_str text, text_ids *out) {
    for (size_t at = 0, end; at < text.n; at = end) {
        const char *cut = memchr(text.p + at, '<', text.n - at);
        end = cut ? (size_t)(cut - text.p) + 1 : text.n;
        base_str piece = {text.p + at, end - at};
        assert_int_equal(text_encode(v, piece, 0, out, NULL), ROTOR_OK);
    }
}

/* Marks and texts of the golden file as ids of a vocabulary. */
static inline text_ids ids_of_runs(const text_vocab *v, const json_t *runs) {
    text_ids out = {0};
    size_t i;
    json_t *run;
    json_array_foreach(runs, i, run) {
        if (json_is_string(run)) {
            push_plain(v, str_of(run), &out);
            continue;
        }
        for (size_t k = 0; k < BASE_COUNT(rig_marks); k++)
            if (rig_marks[k].real == json_integer_value(run))
                text_ids_push(&out, text_find(v, base_str_of(rig_marks[k].text)));
    }
    return out;
}

#endif
