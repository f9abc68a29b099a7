/* SPDX-License-Identifier: MIT
 *
 * Words and terms. A word is a run of letters, digits and _, lower case, accents dropped; an
 * English word is stemmed. Words that - . _ / : or an apostrophe joins, or that camelCase writes as
 * one, give their parts and also the whole without the joints, so that "E-4012", "E4012" and
 * "maxTokens" are found however they are written. Scripts without spaces give pairs of characters.
 */
#include "rag/rag_words.h"

#include <utf8proc.h>

/* ==== Characters ============================================================================== */

typedef enum letter { OTHER, LETTER, DIGIT, SCORE, WIDE } letter;

static letter ascii_kind(int c) {
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return LETTER;
    if (c >= '0' && c <= '9') return DIGIT;
    return c == '_' ? SCORE : OTHER;
}

/* Han, Kana, Hangul and Thai are written without spaces, or nearly so. */
static bool is_wide(int32_t c) {
    return (c >= 0x0E00 && c <= 0x0E7F) || (c >= 0x3040 && c <= 0x30FF) ||
           (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||
           (c >= 0xAC00 && c <= 0xD7AF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x20000 && c <= 0x3FFFF);
}

static letter kind_of(int32_t c) {
    if (c < 0) return OTHER;
    if (c < 128) return ascii_kind(c);
    const utf8proc_category_t cat = utf8proc_category(c);
    const bool is_letter = (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO) ||
                           cat == UTF8PROC_CATEGORY_MN || cat == UTF8PROC_CATEGORY_MC;
    if (is_letter) return is_wide(c) ? WIDE : LETTER;
    return cat == UTF8PROC_CATEGORY_ND || cat == UTF8PROC_CATEGORY_NL ? DIGIT : OTHER;
}

/* A term being written; what does not fit is dropped. */
typedef struct pen {
    char s[RAG_MAX_TERM]; /* text */
    size_t n;             /* bytes */
    bool plain;           /* ASCII letters only */
} pen;

static void put_char(pen *p, uint32_t c) {
    char utf8[4];
    const int n = base_utf8_encode(c, utf8);
    if (p->n + (size_t)n > sizeof p->s) return;
    memcpy(p->s + p->n, utf8, (size_t)n);
    p->n += (size_t)n;
}

/* Lower case, compatibility forms as their plain ones, marks dropped. */
static void put_folded(pen *p, int32_t c) {
    if (c < 128) {
        const bool upper = c >= 'A' && c <= 'Z';
        p->plain &= ascii_kind(c) == LETTER;
        if (p->n < sizeof p->s) p->s[p->n++] = (char)(upper ? c + 32 : c);
        return;
    }
    utf8proc_int32_t out[32];
    int last = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(
        c, out, BASE_COUNT(out),
        UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK, &last);
    for (utf8proc_ssize_t i = 0; i < BASE_MIN(n, (utf8proc_ssize_t)BASE_COUNT(out)); i++) {
        p->plain &= out[i] < 128 && ascii_kind(out[i]) == LETTER;
        put_char(p, (uint32_t)out[i]);
    }
}

/* ==== Stop words ============================================================================== */

static bool is_stop(const char *s, size_t n) {
    static const char *const words =
        " a about an and are as at be been but by can do does for from had has have how if in into "
        "is it its no not of on or so such that the their then there these they this to was were "
        "what when where which who will with ";
    char find[16];
    if (n + 3 > sizeof find) return false;
    find[0] = ' ';
    memcpy(find + 1, s, n);
    find[n + 1] = ' ';
    find[n + 2] = 0;
    return strstr(words, find) != NULL;
}

/* ==== Words =================================================================================== */

typedef struct reader {
    const char *at, *end; /* what is left */
    rag_term_fn fn;       /* takes the terms */
    void *user;           /* of fn */
    uint32_t word;        /* number of the next word */
    bool as_written;      /* not stemmed */
} reader;

static rotor_status give(reader *r, pen *p, bool extra) {
    rag_term t = {.word = r->word, .extra = extra};
    if (!p->n) return ROTOR_OK;
    t.stop = p->plain && !extra && is_stop(p->s, p->n);
    if (p->plain && !extra && p->n >= 3 && !r->as_written) p->n = rag_stem(p->s, p->n);
    t.t = (base_str){p->s, p->n};
    return r->fn(r->user, &t);
}

static void append(pen *whole, const pen *part) {
    const size_t n = BASE_MIN(part->n, sizeof whole->s - whole->n);
    memcpy(whole->s + whole->n, part->s, n);
    whole->n += n;
}

static int32_t peek(const reader *r, const char *at, int *n) {
    int32_t c = -1;
    *n = at < r->end ? base_utf8_decode(at, (size_t)(r->end - at), &c) : 0;
    return c;
}

static bool is_upper(int32_t c) {
    return c >= 0 &&
           (c < 128 ? c >= 'A' && c <= 'Z' : utf8proc_category(c) == UTF8PROC_CATEGORY_LU);
}
static bool is_lower(int32_t c) {
    return c >= 0 &&
           (c < 128 ? c >= 'a' && c <= 'z' : utf8proc_category(c) == UTF8PROC_CATEGORY_LL);
}

/* Letters and digits from r->at on, to the next joint or where camelCase bends. */
static void take_part(reader *r, pen *p) {
    int32_t before[2] = {-1, -1};
    *p = (pen){.plain = true};
    for (int n; r->at < r->end; r->at += n) {
        const int32_t c = peek(r, r->at, &n);
        const letter k = kind_of(c);
        if (k != LETTER && k != DIGIT) return;
        if (is_upper(c) && is_lower(before[0]) && is_lower(before[1])) return;
        put_folded(p, c);
        before[1] = before[0];
        before[0] = c;
    }
}

/* True, and past it, where one joining character stands between two parts, or where camelCase
 * bends. */
static bool take_joint(reader *r) {
    int n, next;
    const int32_t c = peek(r, r->at, &n);
    const letter k = kind_of(c);
    if (k == LETTER || k == DIGIT) return true;
    if (c <= 0 || c >= 128 || !strchr("-._/:'", c)) return false;
    const letter after = kind_of(peek(r, r->at + n, &next));
    if (after != LETTER && after != DIGIT) return false;
    r->at += n;
    return true;
}

enum { MOST_PARTS = 6 };

static rotor_status take_word(reader *r) {
    pen part, whole = {0};
    size_t parts = 0;
    do {
        take_part(r, &part);
        append(&whole, &part);
        parts++;
        ROTOR_TRY(give(r, &part, false));
    } while (parts < MOST_PARTS && take_joint(r));
    if (parts > 1) ROTOR_TRY(give(r, &whole, true));
    r->word++;
    return ROTOR_OK;
}

/* A run of wide characters: each with its neighbour, one alone by itself. */
static rotor_status take_wide(reader *r) {
    int n;
    int32_t last = -1, c;
    size_t count = 0;
    for (; r->at < r->end; r->at += n, last = c, count++) {
        c = peek(r, r->at, &n);
        if (kind_of(c) != WIDE) break;
        if (!count) continue;
        pen p = {0};
        put_folded(&p, last);
        put_folded(&p, c);
        ROTOR_TRY(give(r, &p, false));
        r->word++;
    }
    if (count != 1) return ROTOR_OK;
    pen p = {0};
    put_folded(&p, last);
    ROTOR_TRY(give(r, &p, false));
    r->word++;
    return ROTOR_OK;
}

static rotor_status read_words(base_str text, bool as_written, rag_term_fn fn, void *user) {
    if (!text.n) return ROTOR_OK; /* p may be NULL */
    reader r = {
        .at = text.p, .end = text.p + text.n, .fn = fn, .user = user, .as_written = as_written};
    while (r.at < r.end) {
        int n;
        const letter k = kind_of(peek(&r, r.at, &n));
        if (k == LETTER || k == DIGIT)
            ROTOR_TRY(take_word(&r));
        else if (k == WIDE)
            ROTOR_TRY(take_wide(&r));
        else
            r.at += n;
    }
    return ROTOR_OK;
}

rotor_status rag_terms_of(base_str text, rag_term_fn fn, void *user) {
    return read_words(text, false, fn, user);
}

rotor_status rag_words_of(base_str text, rag_term_fn fn, void *user) {
    return read_words(text, true, fn, user);
}

/* ==== Lengths ================================================================================= */

/* Short words are one token, longer ones lose a token about every five letters; digits come in
 * threes; every other character that shows is one. Within a few percent on English prose. */
size_t rag_tokens_about(base_str text) {
    size_t tokens = 0, letters = 0, digits = 0;
    for (size_t at = 0; at < text.n;) {
        int32_t c;
        at += (size_t)base_utf8_decode(text.p + at, text.n - at, &c);
        const letter k = kind_of(c);
        if (k != LETTER && letters) tokens += letters <= 7 ? 1 : (letters - 3) / 4, letters = 0;
        if (k != DIGIT && digits) tokens += (digits + 2) / 3, digits = 0;
        letters += k == LETTER;
        digits += k == DIGIT;
        tokens += k == WIDE || k == SCORE || (k == OTHER && c > ' ');
    }
    if (letters) tokens += letters <= 7 ? 1 : (letters - 3) / 4;
    return tokens + (digits + 2) / 3;
}
