/* SPDX-License-Identifier: MIT
 *
 * Porter's stemmer for English ("An algorithm for suffix stripping", 1980), in its original form.
 *
 * A word is lower-case ASCII letters and is changed in place; it never grows. Written [C](VC)^m[V]:
 * the measure m of what stands in front of a suffix decides whether the suffix goes. y is a
 * consonant at the start and after a vowel.
 */
#include "rag/rag_words.h"

static bool is_consonant(const char *w, size_t i) {
    switch (w[i]) {
    case 'a':
    case 'e':
    case 'i':
    case 'o':
    case 'u':
        return false;
    case 'y':
        return i == 0 || !is_consonant(w, i - 1);
    default:
        return true;
    }
}

/* How often a vowel is followed by a consonant in w[0, n). */
static int measure(const char *w, size_t n) {
    int m = 0;
    bool vowel = false;
    for (size_t i = 0; i < n; i++) {
        const bool consonant = is_consonant(w, i);
        m += vowel && consonant;
        vowel = !consonant;
    }
    return m;
}

static bool has_vowel(const char *w, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_consonant(w, i)) return true;
    return false;
}

static bool ends_double(const char *w, size_t n) {
    return n >= 2 && w[n - 1] == w[n - 2] && is_consonant(w, n - 1);
}

/* consonant, vowel, consonant, the last not w, x or y: "hop", not "snow". */
static bool ends_cvc(const char *w, size_t n) {
    return n >= 3 && is_consonant(w, n - 3) && !is_consonant(w, n - 2) && is_consonant(w, n - 1) &&
           !strchr("wxy", w[n - 1]);
}

static bool ends(const char *w, size_t n, const char *suffix) {
    const size_t s = strlen(suffix);
    return n >= s && memcmp(w + n - s, suffix, s) == 0;
}

/* The suffix of w[0, n) gives way to another that is not longer. */
static size_t swap(char *w, size_t n, const char *suffix, const char *with) {
    const size_t at = n - strlen(suffix);
    memcpy(w + at, with, strlen(with));
    return at + strlen(with);
}

typedef struct rule {
    const char *suffix, *with; /* what goes, what comes */
} rule;

/* The longest suffix that fits decides, whether or not its measure suffices. */
static size_t replace(char *w, size_t n, const rule *rules, size_t n_rules, int above) {
    const rule *best = NULL;
    for (size_t i = 0; i < n_rules; i++)
        if (ends(w, n, rules[i].suffix) &&
            (!best || strlen(rules[i].suffix) > strlen(best->suffix)))
            best = &rules[i];
    if (!best || measure(w, n - strlen(best->suffix)) <= above) return n;
    return swap(w, n, best->suffix, best->with);
}

static size_t plurals(const char *w, size_t n) {
    if (ends(w, n, "sses") || ends(w, n, "ies")) return n - 2;
    return ends(w, n, "s") && !ends(w, n, "ss") ? n - 1 : n;
}

/* What -ed or -ing leaves may want an e, or a letter less. */
static size_t mend(char *w, size_t n) {
    if (ends(w, n, "at") || ends(w, n, "bl") || ends(w, n, "iz") ||
        (measure(w, n) == 1 && ends_cvc(w, n) && !ends_double(w, n))) {
        w[n] = 'e';
        return n + 1;
    }
    return ends_double(w, n) && !strchr("lsz", w[n - 1]) ? n - 1 : n;
}

static size_t past_and_progressive(char *w, size_t n) {
    if (ends(w, n, "eed")) return measure(w, n - 3) > 0 ? n - 1 : n;
    if (ends(w, n, "ed") && has_vowel(w, n - 2)) return mend(w, n - 2);
    if (ends(w, n, "ing") && has_vowel(w, n - 3)) return mend(w, n - 3);
    return n;
}

static size_t drop_suffix(const char *w, size_t n) {
    static const char *const suffixes[] = {"al",  "ance",  "ence", "er",  "ic",  "able", "ible",
                                           "ant", "ement", "ment", "ent", "ion", "ou",   "ism",
                                           "ate", "iti",   "ous",  "ive", "ize"};
    const char *best = NULL;
    for (size_t i = 0; i < BASE_COUNT(suffixes); i++)
        if (ends(w, n, suffixes[i]) && (!best || strlen(suffixes[i]) > strlen(best)))
            best = suffixes[i];
    if (!best) return n;
    const size_t stem = n - strlen(best);
    if (measure(w, stem) <= 1) return n;
    if (strcmp(best, "ion") == 0 && (!stem || !strchr("st", w[stem - 1]))) return n;
    return stem;
}

static size_t tidy(const char *w, size_t n) {
    if (ends(w, n, "e")) {
        const int m = measure(w, n - 1);
        if (m > 1 || (m == 1 && !ends_cvc(w, n - 1))) n--;
    }
    return ends_double(w, n) && w[n - 1] == 'l' && measure(w, n) > 1 ? n - 1 : n;
}

size_t rag_stem(char *w, size_t n) {
    static const rule second[] = {
        {"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"},   {"anci", "ance"},
        {"izer", "ize"},    {"abli", "able"},   {"alli", "al"},     {"entli", "ent"},
        {"eli", "e"},       {"ousli", "ous"},   {"ization", "ize"}, {"ation", "ate"},
        {"ator", "ate"},    {"alism", "al"},    {"iveness", "ive"}, {"fulness", "ful"},
        {"ousness", "ous"}, {"aliti", "al"},    {"iviti", "ive"},   {"biliti", "ble"}};
    static const rule third[] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                                 {"ical", "ic"},  {"ful", ""},   {"ness", ""}};
    if (n < 3) return n;
    n = plurals(w, n);
    n = past_and_progressive(w, n);
    if (ends(w, n, "y") && has_vowel(w, n - 1)) w[n - 1] = 'i';
    n = replace(w, n, second, BASE_COUNT(second), 0);
    n = replace(w, n, third, BASE_COUNT(third), 0);
    return tidy(w, drop_suffix(w, n));
}
