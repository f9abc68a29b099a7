/* SPDX-License-Identifier: MIT
 *
 * Message headers: whatever a model writes between <|start|> and <|message|>.
 *
 *     assistant to=functions.f<|channel|>commentary json
 *     assistant<|channel|>commentary to=functions.f <|constrain|>json
 *
 * Small models get headers wrong now and then: words twice, a channel twice, a word too many, no
 * blank where one belongs. Everything is read for the best that it can mean; nothing is refused.
 */
#include "chat/harmony_internal.h"

typedef struct words {
    base_str text; /* of the header */
    size_t at;     /* next byte */
    char mark;     /* what stands directly before the word: a mark's byte or 0 */
} words;

static bool is_mark(char c) { return c == HARMONY_CHANNEL_MARK || c == HARMONY_CONSTRAIN_MARK; }

static bool begins(base_str s, const char *with) {
    size_t n = strlen(with);
    return s.n >= n && memcmp(s.p, with, n) == 0;
}

static base_str past(base_str s, size_t n) { return (base_str){s.p + n, s.n - n}; }

/* A recipient is a word of its own, though no blank stands before it, behind a channel's name and
 * behind the assistant's. */
static bool ends_word(const words *w, size_t from) {
    base_str word = {w->text.p + from, w->at - from};
    if (w->at == w->text.n || harmony_is_blank(w->text.p[w->at]) || is_mark(w->text.p[w->at]))
        return true;
    return word.n && begins(past(w->text, w->at), "to=") &&
           (w->mark == HARMONY_CHANNEL_MARK || base_str_is(word, "assistant"));
}

/* The next word and the mark before it; false at the end. */
static bool next_word(words *w, base_str *out) {
    w->mark = 0;
    while (w->at < w->text.n && (harmony_is_blank(w->text.p[w->at]) || is_mark(w->text.p[w->at]))) {
        if (is_mark(w->text.p[w->at])) w->mark = w->text.p[w->at];
        w->at++;
    }
    size_t from = w->at;
    while (!ends_word(w, from)) w->at++;
    *out = (base_str){w->text.p + from, w->at - from};
    return out->n > 0;
}

harmony_kind harmony_channel_kind(base_str channel, bool *exact) {
    static const char *const names[] = {"analysis", "commentary", "final"};
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (!begins(channel, names[i])) continue;
        if (exact) *exact = base_str_is(channel, names[i]);
        return (harmony_kind)i;
    }
    return HARMONY_UNKNOWN;
}

/* Also of the assistant that was cut off in the middle of its name. */
static bool may_be_role(base_str word) {
    static const char *const roles[] = {"user", "system", "developer", "tool"};
    for (size_t i = 0; i < BASE_COUNT(roles); i++)
        if (base_str_is(word, roles[i])) return true;
    return begins(word, "assistant") || strncmp("assistant", word.p, word.n) == 0 ||
           begins(word, "functions.");
}

static void take_channel(harmony_header *out, base_str word) {
    bool known = harmony_channel_kind(word, NULL) != HARMONY_UNKNOWN;
    if (out->channel.n) out->stray = true;
    if (!out->channel.n || known) out->channel = word;
}

/* A word behind the role; false: it is none of a header's. */
static bool take_word(harmony_header *out, words *w, base_str word) {
    if (w->mark == HARMONY_CHANNEL_MARK) {
        take_channel(out, word);
    } else if (w->mark == HARMONY_CONSTRAIN_MARK) {
        out->content_type = word;
        out->constrained = true;
    } else if (begins(word, "to=")) {
        out->recipient = past(word, 3);
        if (!out->recipient.n && !next_word(w, &out->recipient)) out->stray = true;
    } else if (begins(word, "functions.") && !out->recipient.n) {
        out->recipient = word;
        if (!out->channel.n) out->stray = true;
    } else {
        return false;
    }
    return true;
}

void harmony_read_header(base_str text, bool started, bool whole, harmony_header *out) {
    words w = {.text = text};
    base_str word, type = {0};
    bool first = true;
    *out = (harmony_header){0};
    for (size_t before = 0; next_word(&w, &word); before = w.at, first = false) {
        if (first && !w.mark && started && (whole ? !begins(word, "to=") : may_be_role(word))) {
            out->role = word;
        } else if (first && !w.mark && !started && base_str_is(word, "assistant")) {
            out->stray = true; /* the role again */
        } else if (!take_word(out, &w, word)) {
            if (!whole) {
                w.at = before;
                break;
            }
            out->stray = out->stray || type.n || !(out->channel.n || out->recipient.n);
            type = word;
        }
    }
    if (!out->constrained) out->content_type = type;
    out->rest = past(text, w.at);
}
