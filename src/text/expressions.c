/* SPDX-License-Identifier: MIT
 *
 * Small expressions: the parts of the multi-pass rule sets and of the simple pre-tokenizers that
 * a tokenizer.json may name.
 *
 * Each function matches at s[i] or says in *skip from where to try next, so that a search over a
 * text without any match is still one pass.
 */
#include "text/text_internal.h"

typedef bool (*char_test)(int32_t cp, unsigned cls);

static size_t char_at(const char *s, size_t n, size_t i, int32_t *cp, unsigned *cls) {
    size_t len = (size_t)base_utf8_decode(s + i, n - i, cp);
    *cls = text_class_of(*cp);
    return len;
}

static size_t one(const char *s, size_t n, size_t i, size_t *skip, char_test test) {
    int32_t cp;
    unsigned cls;
    size_t len = char_at(s, n, i, &cp, &cls);
    *skip = i + len;
    return test(cp, cls) ? i + len : i;
}

static size_t run(const char *s, size_t n, size_t i, size_t *skip, char_test test) {
    size_t end = i;
    while (end < n) {
        int32_t cp;
        unsigned cls;
        size_t len = char_at(s, n, end, &cp, &cls);
        if (!test(cp, cls)) {
            *skip = end + len;
            break;
        }
        end += len;
    }
    return end;
}

/* \s?[test]+ */
static size_t spaced_run(const char *s, size_t n, size_t i, size_t *skip, char_test test) {
    int32_t cp;
    unsigned cls;
    size_t len = char_at(s, n, i, &cp, &cls);
    if (cls & CH_SPACE && i + len < n) {
        size_t unused, end = run(s, n, i + len, &unused, test);
        if (end > i + len) return end;
    }
    size_t end = run(s, n, i, skip, test);
    *skip = i + len;
    return end;
}

static bool is_newline(int32_t cp, unsigned cls) { return (void)cp, cls & CH_NEWLINE; }
static bool is_number(int32_t cp, unsigned cls) { return (void)cp, cls & CH_NUMBER; }
static bool is_letter(int32_t cp, unsigned cls) { return (void)cp, cls & CH_LETTER; }
static bool is_cased(int32_t cp, unsigned cls) { return (void)cp, cls & CH_CASED; }
static bool is_punct(int32_t cp, unsigned cls) { return (void)cp, cls & CH_PUNCT; }
static bool is_space(int32_t cp, unsigned cls) { return (void)cp, cls & CH_SPACE; }

/* [\p{P}$+<=>^~|] */
static bool is_default_punct(int32_t cp, unsigned cls) {
    return cls & CH_PUNCT || (cp > 0 && cp < 0x80 && strchr("$+<=>^~|", (int)cp));
}

static bool is_falcon_punct(int32_t cp, unsigned cls) {
    return cp == '`' || is_default_punct(cp, cls);
}

/* P, and every ASCII character that is neither letter, digit, space nor control. */
static bool is_bert_punct(int32_t cp, unsigned cls) {
    return cls & CH_PUNCT || (cp > 0x20 && cp < 0x7F && cls & CH_REST);
}

/* [!-/:-~！-／：-～‘-‟　-。] */
static bool is_wide_punct(int32_t cp, unsigned cls) {
    (void)cls;
    return (cp >= 0x21 && cp <= 0x2F) || (cp >= 0x3A && cp <= 0x7E) ||
           (cp >= 0xFF01 && cp <= 0xFF0F) || (cp >= 0xFF1A && cp <= 0xFF5E) ||
           (cp >= 0x2018 && cp <= 0x201F) || (cp >= 0x3000 && cp <= 0x3002);
}

/* [一-龥ࠀ-一가-퟿] */
static bool is_cjk(int32_t cp, unsigned cls) {
    (void)cls;
    return (cp >= 0x0800 && cp <= 0x9FA5) || (cp >= 0xAC00 && cp <= 0xD7FF);
}

size_t text_match_newline(const char *s, size_t n, size_t i, size_t *skip) {
    return one(s, n, i, skip, is_newline);
}
size_t text_match_digit(const char *s, size_t n, size_t i, size_t *skip) {
    return one(s, n, i, skip, is_number);
}
size_t text_match_digits(const char *s, size_t n, size_t i, size_t *skip) {
    return run(s, n, i, skip, is_number);
}
size_t text_match_default_punct(const char *s, size_t n, size_t i, size_t *skip) {
    return run(s, n, i, skip, is_default_punct);
}
size_t text_match_falcon_punct(const char *s, size_t n, size_t i, size_t *skip) {
    return run(s, n, i, skip, is_falcon_punct);
}
size_t text_match_cased_word(const char *s, size_t n, size_t i, size_t *skip) {
    return spaced_run(s, n, i, skip, is_cased);
}
size_t text_match_word(const char *s, size_t n, size_t i, size_t *skip) {
    return spaced_run(s, n, i, skip, is_letter);
}
size_t text_match_wide_punct(const char *s, size_t n, size_t i, size_t *skip) {
    return spaced_run(s, n, i, skip, is_wide_punct);
}
size_t text_match_punct_run(const char *s, size_t n, size_t i, size_t *skip) {
    return spaced_run(s, n, i, skip, is_punct);
}
size_t text_match_cjk(const char *s, size_t n, size_t i, size_t *skip) {
    return run(s, n, i, skip, is_cjk);
}
size_t text_match_space(const char *s, size_t n, size_t i, size_t *skip) {
    return one(s, n, i, skip, is_space);
}
size_t text_match_bert_punct(const char *s, size_t n, size_t i, size_t *skip) {
    return one(s, n, i, skip, is_bert_punct);
}

/* [0-9][0-9][0-9] */
size_t text_match_three_digits(const char *s, size_t n, size_t i, size_t *skip) {
    size_t k = i;
    while (k < n && k < i + 3 && s[k] >= '0' && s[k] <= '9') k++;
    *skip = k + 1;
    return k == i + 3 ? k : i;
}

/* \s+$ */
size_t text_match_end_spaces(const char *s, size_t n, size_t i, size_t *skip) {
    size_t end = run(s, n, i, skip, is_space);
    return end == n ? end : i;
}
