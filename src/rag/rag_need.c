/* SPDX-License-Identifier: MIT
 *
 * Is there anything to look for? Rules of words, which cost nothing: small talk has nothing to be
 * found, and what only asks for the last answer in another form ("shorter, please", "translate that
 * into German") is answered from that. A rule that is not sure searches.
 */
#include "rag/rag_internal.h"

enum { WORD = 16 };

static bool is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

/* Part of a word in any script, or of a number. */
static bool is_of_word(char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80;
}

/* The next word, in lower case; false: there is none. One that is longer, or has other letters than
 * ours, is "?", which is in no list. */
static bool next_word(base_str s, size_t *at, char out[WORD]) {
    size_t n = 0;
    bool strange = false;
    while (*at < s.n && !is_of_word(s.p[*at])) ++*at;
    if (*at == s.n) return false;
    for (; *at < s.n && is_of_word(s.p[*at]); ++*at) {
        strange |= !is_letter(s.p[*at]) || n + 1 == WORD;
        if (!strange) out[n++] = (char)(s.p[*at] | 32);
    }
    out[n] = 0;
    if (strange) memcpy(out, "?", 2);
    return true;
}

bool rag_is_one_of(const char *word, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(word, list[i]) == 0) return true;
    return false;
}

bool rag_asks_something(base_str question) {
    static const char *const small[] = {"hi",   "hello", "hey", "thanks", "thank", "ok",
                                        "okay", "yes",   "no",  "bye",    "great", "please"};
    char word[WORD] = "";
    size_t at = 0;
    const size_t n = rag_content_words(question);
    next_word(question, &at, word);
    return n > 1 || (n == 1 && !rag_is_one_of(word, small, BASE_COUNT(small)));
}

bool rag_about_the_answer(base_str question) {
    static const char *const form[] = {
        "shorter",   "longer",   "simpler",   "clearer",  "briefly",  "brief",    "again",
        "repeat",    "rephrase", "reword",    "rewrite",  "shorten",  "simplify", "summarise",
        "summarize", "summary",  "translate", "bullets",  "bullet",   "list",     "table",
        "german",    "english",  "french",    "spanish",  "italian",  "polish",   "dutch",
        "formal",    "politely", "polite",    "sentence", "sentences"};
    static const char *const rest[] = {
        "that",   "this",  "it",    "the",  "a",      "an",   "in",   "into",  "as",
        "to",     "of",    "one",   "two",  "three",  "me",   "for",  "and",   "please",
        "can",    "could", "would", "you",  "answer", "last", "your", "now",   "make",
        "put",    "say",   "write", "give", "tell",   "but",  "text", "words", "point",
        "points", "more",  "with",  "only", "just",   "same", "up",   "ok"};
    char word[WORD];
    bool asks_for_form = false;
    for (size_t at = 0; next_word(question, &at, word);) {
        const bool is_form = rag_is_one_of(word, form, BASE_COUNT(form));
        if (!is_form && !rag_is_one_of(word, rest, BASE_COUNT(rest))) return false;
        asks_for_form |= is_form;
    }
    return asks_for_form;
}
