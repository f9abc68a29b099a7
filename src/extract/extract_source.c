/* SPDX-License-Identifier: MIT
 *
 * The source of a document as UTF-8 text, and from any place in that text back to the byte and the
 * line it came from.
 *
 * The encoding: a byte order mark; else a charset the document names; else UTF-16 where nearly all
 * zero bytes stand on one side of the pairs; else UTF-8 where what is not ASCII mostly is valid
 * UTF-8 (a file cut inside a letter stays UTF-8); else Windows-1252, of which Latin-1 is a part,
 * where few bytes are controls; else it is no text.
 *
 * The way back: both texts are walked side by side from the nearest of the marks that were left
 * every 16 KiB, or from where the last look ended, whichever is nearer.
 */
#include "extract/extract.h"

#include <stdio.h>
#include <strings.h>

enum { MARK_BYTES = 1 << 14, REPLACEMENT = 0xFFFD };

/* Windows-1252 0x80-0x9F; 0: not assigned. */
static const uint16_t cp1252[32] = {0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                    0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                    0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                    0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

static uint32_t pair_at(const ex_source *s, size_t at) {
    const uint8_t *p = (const uint8_t *)s->raw.p + at;
    return s->encoding == EX_UTF16LE ? p[0] | (uint32_t)p[1] << 8 : p[1] | (uint32_t)p[0] << 8;
}

/* The character at raw byte `at`, and the bytes it takes. */
static size_t raw_char(const ex_source *s, size_t at, uint32_t *cp) {
    const size_t left = s->raw.n - at;
    if (s->encoding == EX_UTF8) {
        int32_t c;
        const int n = base_utf8_decode(s->raw.p + at, left, &c);
        *cp = c < 0 ? REPLACEMENT : (uint32_t)c;
        return (size_t)n;
    }
    if (s->encoding == EX_WINDOWS1252) {
        const uint8_t b = (uint8_t)s->raw.p[at];
        *cp = b < 0x80 || b >= 0xA0 ? b : cp1252[b - 0x80] ? cp1252[b - 0x80] : REPLACEMENT;
        return 1;
    }
    *cp = REPLACEMENT;
    if (left < 2) return left;
    const uint32_t first = pair_at(s, at);
    if (first < 0xD800 || first > 0xDFFF) {
        *cp = first;
        return 2;
    }
    if (first > 0xDBFF || left < 4) return 2;
    const uint32_t second = pair_at(s, at + 2);
    if (second < 0xDC00 || second > 0xDFFF) return 2;
    *cp = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    return 4;
}

/* ---- Which encoding ------------------------------------------------------------------------ */

static bool starts(base_str raw, const char *bytes, size_t n) {
    return raw.n >= n && memcmp(raw.p, bytes, n) == 0;
}

static bool by_mark(ex_source *s) {
    if (starts(s->raw, "\xEF\xBB\xBF", 3)) {
        s->encoding = EX_UTF8;
        s->bom_bytes = 3;
    } else if (starts(s->raw, "\xFF\xFE", 2) || starts(s->raw, "\xFE\xFF", 2)) {
        s->encoding = s->raw.p[0] == '\xFF' ? EX_UTF16LE : EX_UTF16BE;
        s->bom_bytes = 2;
    }
    return s->bom_bytes > 0;
}

static bool by_label(ex_source *s, const char *label) {
    static const struct {
        const char *name;
        ex_encoding encoding;
    } known[] = {{"utf-16le", EX_UTF16LE},         {"utf-16be", EX_UTF16BE},
                 {"windows-1252", EX_WINDOWS1252}, {"cp1252", EX_WINDOWS1252},
                 {"iso-8859-1", EX_WINDOWS1252},   {"iso8859-1", EX_WINDOWS1252},
                 {"latin1", EX_WINDOWS1252}};
    for (size_t i = 0; label && i < BASE_COUNT(known); i++)
        if (strcasecmp(label, known[i].name) == 0) {
            s->encoding = known[i].encoding;
            return true;
        }
    return false;
}

typedef struct tally {
    size_t zeros[2]; /* at even and at odd offsets */
    size_t controls; /* but tab, line ends, form feed, escape */
    size_t valid;    /* sequences of UTF-8 beyond ASCII */
    size_t invalid;  /* bytes that belong to none */
    size_t cut;      /* such bytes at the very end, where a letter may have been cut */
} tally;

static tally count_bytes(base_str raw) {
    tally t = {0};
    for (size_t i = 0; i < raw.n;) {
        const uint8_t b = (uint8_t)raw.p[i];
        int32_t cp;
        const size_t n = (size_t)base_utf8_decode(raw.p + i, raw.n - i, &cp);
        if (b == 0) t.zeros[i & 1]++;
        if ((b < ' ' && !(b >= '\t' && b <= '\r') && b != 0x1B) || b == 0x7F) t.controls++;
        if (cp < 0) *(raw.n - i < 4 ? &t.cut : &t.invalid) += 1;
        if (n > 1) t.valid++;
        i += n;
    }
    return t;
}

/* Of ordinary text in UTF-16 the upper bytes are zero and the lower ones are not. */
static bool by_zeros(ex_source *s, const tally *t) {
    const size_t pairs = s->raw.n / 2;
    for (int odd = 0; odd < 2; odd++)
        if (t->zeros[odd] * 10 >= pairs * 6 && t->zeros[!odd] * 10 <= pairs && pairs >= 2) {
            s->encoding = odd ? EX_UTF16LE : EX_UTF16BE;
            return true;
        }
    return false;
}

/* UTF-8 and ASCII are what the bytes are looked at for in any case. */
static bool is_plain_label(const char *label) {
    return strncasecmp(label, "utf", 3) == 0 || strcasecmp(label, "us-ascii") == 0 ||
           strcasecmp(label, "ascii") == 0;
}

static rotor_status find_encoding(ex *x, ex_source *s, const char *label) {
    if (by_mark(s)) return ROTOR_OK;
    const tally t = count_bytes(s->raw);
    if (by_zeros(s, &t)) return ROTOR_OK;
    if (t.zeros[0] + t.zeros[1] > 0)
        return ex_fail(x, BASE_REASON_NOT_TEXT, "binary: %zu zero bytes of %zu",
                       t.zeros[0] + t.zeros[1], s->raw.n);
    if (t.controls * 50 > s->raw.n)
        return ex_fail(x, BASE_REASON_NOT_TEXT, "binary: %zu control bytes of %zu", t.controls,
                       s->raw.n);
    if (t.invalid + t.cut == 0 || t.valid > 4 * t.invalid) return ROTOR_OK;
    if (by_label(s, label)) return ROTOR_OK;
    s->encoding = EX_WINDOWS1252;
    if (!label || is_plain_label(label)) return ROTOR_OK;
    return ex_put_note(x, "charset %s is not known here: read as windows-1252", label);
}

/* ---- The text and its marks ---------------------------------------------------------------- */

static size_t utf8_length(const char *p) {
    const uint8_t b = (uint8_t)*p;
    return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}

static bool line_ends(base_str text, size_t at) {
    return text.p[at] == '\n' ||
           (text.p[at] == '\r' && (at + 1 == text.n || text.p[at + 1] != '\n'));
}

static void step(const ex_source *s, ex_place *at) {
    uint32_t cp;
    at->line += line_ends(s->text, at->text);
    at->text += utf8_length(s->text.p + at->text);
    at->raw += raw_char(s, at->raw, &cp);
}

static bool make_text(ex_source *s) {
    for (size_t at = s->bom_bytes; at < s->raw.n;) {
        char bytes[4];
        uint32_t cp;
        at += raw_char(s, at, &cp);
        if (!base_buf_append(&s->own, bytes, (size_t)base_utf8_encode(cp, bytes))) return false;
    }
    s->text = (base_str){s->own.data, s->own.len};
    return true;
}

static bool leave_marks(ex_source *s) {
    s->n_marks = s->text.n / MARK_BYTES + 1;
    s->marks = base_alloc_array(s->n_marks, sizeof *s->marks);
    if (!s->marks) return false;
    ex_place at = {.raw = s->bom_bytes};
    for (size_t i = 0; i < s->n_marks; i++) {
        while (at.text < i * MARK_BYTES) step(s, &at);
        s->marks[i] = at;
    }
    s->last = s->marks[0];
    return true;
}

static bool is_valid(base_str s) {
    for (size_t i = 0; i < s.n;) {
        int32_t cp;
        i += (size_t)base_utf8_decode(s.p + i, s.n - i, &cp);
        if (cp < 0) return false;
    }
    return true;
}

bool ex_to_utf8(base_buf *to, base_str bytes, const char *charset) {
    ex_source s = {.raw = bytes};
    if (!by_label(&s, charset) && !is_valid(bytes)) s.encoding = EX_WINDOWS1252;
    if (!make_text(&s)) to->failed = true;
    const bool done = !to->failed && base_buf_append(to, s.own.data, s.own.len);
    base_buf_free(&s.own);
    return done;
}

rotor_status ex_source_open(ex *x, ex_source *s, base_str raw, const char *label) {
    *s = (ex_source){.raw = raw};
    ROTOR_TRY(find_encoding(x, s, label));
    const base_str rest = {raw.p + s->bom_bytes, raw.n - s->bom_bytes};
    if (s->encoding == EX_UTF8 && is_valid(rest))
        s->text = rest;
    else if (!make_text(s))
        return ex_nomem(x);
    return leave_marks(s) ? ROTOR_OK : ex_nomem(x);
}

void ex_source_close(ex_source *s) {
    base_buf_free(&s->own);
    base_free(s->marks);
    *s = (ex_source){0};
}

/* A mark may stand a few bytes after its offset, where that is inside a letter. */
ex_place ex_source_at(ex_source *s, size_t text_offset) {
    const size_t target = BASE_MIN(text_offset, s->text.n);
    ex_place at = s->marks[target / MARK_BYTES];
    if (at.text > target)
        at = target >= MARK_BYTES ? s->marks[target / MARK_BYTES - 1] : s->marks[0];
    if (s->last.text <= target && s->last.text > at.text) at = s->last;
    while (at.text < target) step(s, &at);
    return s->last = at;
}

/* ---- Small things that every parser of text needs ------------------------------------------ */

base_str ex_line(base_str text, size_t at, size_t *next) {
    if (!text.n) return *next = 0, text;
    const char *p = text.p + at, *end = text.p + text.n;
    while (p < end && *p != '\n' && *p != '\r') p++;
    const size_t n = (size_t)(p - text.p) - at;
    if (p < end) p += p + 1 < end && p[0] == '\r' && p[1] == '\n' ? 2 : 1;
    *next = (size_t)(p - text.p);
    return (base_str){text.p + at, n};
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool ex_blank(base_str s) { return ex_trim(s).n == 0; }

base_str ex_trim(base_str s) {
    while (s.n && is_space(s.p[0])) s.p++, s.n--;
    while (s.n && is_space(s.p[s.n - 1])) s.n--;
    return s;
}

bool ex_ends_with(const char *name, const char *ending) {
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcasecmp(name + n - m, ending) == 0;
}

bool ex_starts_with(base_str s, const char *beginning) {
    const size_t m = strlen(beginning);
    return s.n >= m && strncasecmp(s.p, beginning, m) == 0;
}
