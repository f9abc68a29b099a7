/* SPDX-License-Identifier: MIT
 *
 * Scanners: the published splitting expressions of the big byte-level vocabularies, by hand.
 *
 * Each scanner returns the end of the piece that starts at s[i] and is the exact language of the
 * expression above it, found without backtracking: a run is looked at once or twice, never once
 * per character, so a million spaces cost a million steps. L, N, M are the Unicode categories,
 * \s is White_Space. A byte that is not UTF-8 is one character of "other".
 */
#include "text/text_internal.h"

static char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

/* Length of 's 't 'm 'd 're 've 'll at s[i], 0 when there is none. */
static size_t contraction(const char *s, size_t n, size_t i, bool any_case) {
    if (n - i < 2 || s[i] != '\'') return 0;
    char a = any_case ? ascii_lower(s[i + 1]) : s[i + 1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (n - i < 3) return 0;
    char b = any_case ? ascii_lower(s[i + 2]) : s[i + 2];
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s*[\r\n]+ (only with newlines) | \s+(?!\S) | \s+ */
static size_t space_tail(const char *s, size_t n, size_t i, bool newlines) {
    size_t after_newline = 0, last = i, e = i;
    while (e < n) {
        unsigned cls;
        size_t len = text_char(s, n, e, &cls);
        if (!(cls & CH_SPACE)) break;
        last = e;
        e += len;
        if (cls & CH_NEWLINE) after_newline = e;
    }
    if (newlines && after_newline) return after_newline;
    return e == n || last == i ? e : last;
}

static unsigned class_at(const char *s, size_t n, size_t i) {
    unsigned cls = 0;
    if (i < n) text_char(s, n, i, &cls);
    return cls;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^\sLN]+|\s+(?!\S)|\s+ */
size_t text_scan_gpt2(const char *s, size_t n, size_t i, size_t *skip) {
    (void)skip;
    size_t c = contraction(s, n, i, false);
    if (c) return i + c;
    size_t j = s[i] == ' ' && i + 1 < n ? i + 1 : i;
    unsigned cls = class_at(s, n, j);
    if (cls & CH_LETTER) return text_class_run(s, n, j, CH_LETTER);
    if (cls & CH_NUMBER) return text_class_run(s, n, j, CH_NUMBER);
    if (cls & CH_OTHER) return text_class_run(s, n, j, CH_OTHER);
    return space_tail(s, n, i, false);
}

/* The same without the last alternative: one space before a character that takes none (a tab
 * before a word, say) stays outside every match. */
size_t text_scan_gpt2_no_tail(const char *s, size_t n, size_t i, size_t *skip) {
    size_t end = text_scan_gpt2(s, n, i, skip);
    if (!(class_at(s, n, i) & CH_SPACE) || end == n) return end;
    bool ends_in_space = text_class_run(s, end, i, CH_SPACE) == end;
    if (!ends_in_space || class_at(s, n, end) & CH_SPACE) return end;
    *skip = end;
    return i;
}

typedef struct cl100k_style {
    unsigned letters; /* classes of a word */
    unsigned other;   /* classes of a punctuation run */
    int max_digits;   /* numbers are cut into groups of this many */
} cl100k_style;

static size_t digits(const char *s, size_t n, size_t i, int max) {
    for (int k = 0; k < max && i < n; k++) {
        unsigned cls;
        size_t len = text_char(s, n, i, &cls);
        if (!(cls & CH_NUMBER)) break;
        i += len;
    }
    return i;
}

/*  ?[^\sLN]+ followed by any of the bytes in tail; i when there is no such run. */
static size_t other_run(const char *s, size_t n, size_t i, unsigned other, const char *tail) {
    size_t j = s[i] == ' ' ? i + 1 : i;
    if (!(class_at(s, n, j) & other)) return i;
    j = text_class_run(s, n, j, other);
    while (j < n && s[j] && strchr(tail, s[j])) j++;
    return j;
}

/* (?i:'s|…)|[^\r\nLN]?L+|N{1,3}| ?[^\sLN]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t scan_cl100k(const char *s, size_t n, size_t i, const cl100k_style *style) {
    size_t c = contraction(s, n, i, true);
    if (c) return i + c;
    unsigned cls;
    size_t len = text_char(s, n, i, &cls);
    if (!(cls & (CH_NEWLINE | CH_LETTER | CH_NUMBER)) && class_at(s, n, i + len) & style->letters)
        return text_class_run(s, n, i + len, style->letters);
    if (cls & style->letters) return text_class_run(s, n, i, style->letters);
    if (cls & CH_NUMBER) return digits(s, n, i, style->max_digits);
    size_t end = other_run(s, n, i, style->other, "\r\n");
    return end > i ? end : space_tail(s, n, i, true);
}

size_t text_scan_llama3(const char *s, size_t n, size_t i, size_t *skip) {
    static const cl100k_style style = {CH_LETTER, CH_OTHER, 3};
    (void)skip;
    return scan_cl100k(s, n, i, &style);
}

/* As Llama-3 with N for N{1,3}. */
size_t text_scan_qwen2(const char *s, size_t n, size_t i, size_t *skip) {
    static const cl100k_style style = {CH_LETTER, CH_OTHER, 1};
    (void)skip;
    return scan_cl100k(s, n, i, &style);
}

/* As Qwen2 with [LM]+ for L+ and [^\sLMN] for [^\sLN]. */
size_t text_scan_qwen35(const char *s, size_t n, size_t i, size_t *skip) {
    static const cl100k_style style = {CH_LETTER | CH_MARK, CH_OTHER & ~CH_MARK, 1};
    (void)skip;
    return scan_cl100k(s, n, i, &style);
}

enum {
    O200K_HEAD = CH_UPPER | CH_CASELESS | CH_MARK, /* [Lu Lt Lm Lo M] */
    O200K_TAIL = CH_LOWER | CH_CASELESS | CH_MARK  /* [Ll Lm Lo M] */
};

/* HEAD* TAIL+ from j with the regular expression's greed: the longest head, then as much tail as
 * there is, giving back head characters only when no tail follows. j when it cannot match. */
static size_t o200k_word(const char *s, size_t n, size_t j) {
    size_t k = j, last_shared_end = j;
    while (k < n) {
        unsigned cls;
        size_t len = text_char(s, n, k, &cls);
        if (!(cls & O200K_HEAD)) break;
        k += len;
        if (cls & O200K_TAIL) last_shared_end = k;
    }
    if (class_at(s, n, k) & O200K_TAIL) return text_class_run(s, n, k, O200K_TAIL);
    return last_shared_end;
}

/* [^\r\nLN]?HEAD*TAIL+(?i:'s|…)?|[^\r\nLN]?HEAD+TAIL*(?i:'s|…)?|N{1,3}| ?[^\sLN]+[\r\n/]*|
 * \s*[\r\n]+|\s+(?!\S)|\s+ */
size_t text_scan_o200k(const char *s, size_t n, size_t i, size_t *skip) {
    (void)skip;
    unsigned cls;
    size_t after = i + text_char(s, n, i, &cls), end = i;
    bool may_lead = !(cls & (CH_NEWLINE | CH_LETTER | CH_NUMBER)) && after < n;
    size_t led = may_lead ? o200k_word(s, n, after) : after;
    end = led > after ? led : o200k_word(s, n, i);
    /* Without a tail anywhere the second alternative is a head run alone. */
    if (end == i && may_lead && class_at(s, n, after) & O200K_HEAD)
        end = text_class_run(s, n, after, O200K_HEAD);
    if (end == i) end = text_class_run(s, n, i, O200K_HEAD);
    if (end > i) return end + (end < n ? contraction(s, n, end, true) : 0);
    if (cls & CH_NUMBER) return digits(s, n, i, 3);
    end = other_run(s, n, i, CH_OTHER, "\r\n/");
    return end > i ? end : space_tail(s, n, i, true);
}
