/* SPDX-License-Identifier: MIT
 *
 * Normalising steps that ask what a character is: Unicode normal forms, lower case, accents, the
 * cleaning of BERT. A build without utf8proc has no_unicode.c in place of this file.
 *
 * Normal forms are made from utf8proc's per-character decomposition and its composition; the
 * canonical ordering in between is a counting sort here, so that a long run of combining marks
 * stays linear. Text is worked on between ASCII characters, which never change, so scratch memory
 * is small. Bytes that are not UTF-8 pass through unchanged.
 */
#include "text/text_internal.h"

#include <utf8proc.h>

/* ==== Normal forms ============================================================================ */

typedef struct points {
    int32_t *cp; /* owned code points */
    size_t n;    /* in use */
    size_t cap;  /* allocated */
} points;

static bool points_reserve(points *p, size_t more) {
    if (p->n + more <= p->cap) return true;
    size_t cap = (p->n + more) * 2;
    int32_t *cp = base_realloc(p->cp, cap * sizeof *cp);
    if (!cp) return false;
    p->cp = cp;
    p->cap = cap;
    return true;
}

static unsigned combining_class(int32_t cp) {
    return (unsigned)utf8proc_get_property(cp)->combining_class;
}

/* Sorts cp[0..n), all of class above 0, by combining class, keeping the order of equals. */
static bool sort_marks(int32_t *cp, size_t n) {
    size_t start[257] = {0};
    int32_t *copy = base_alloc_array(n, sizeof *copy);
    if (!copy) return false;
    memcpy(copy, cp, n * sizeof *cp);
    for (size_t i = 0; i < n; i++) start[combining_class(cp[i]) + 1]++;
    for (size_t c = 1; c < 257; c++) start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++) cp[start[combining_class(copy[i])]++] = copy[i];
    base_free(copy);
    return true;
}

static bool reorder(points *p) {
    for (size_t i = 0; i < p->n;) {
        size_t start = i;
        while (i < p->n && combining_class(p->cp[i])) i++;
        if (i - start > 1 && !sort_marks(p->cp + start, i - start)) return false;
        if (i == start) i++;
    }
    return true;
}

static bool decompose(points *p, base_str in, utf8proc_option_t options) {
    p->n = 0;
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        int boundary = 0;
        i += (size_t)base_utf8_decode(in.p + i, in.n - i, &cp);
        if (!points_reserve(p, 32)) return false;
        utf8proc_ssize_t n = utf8proc_decompose_char(cp, p->cp + p->n, 32, options, &boundary);
        if (n < 0 || n > 32) return false;
        p->n += (size_t)n;
    }
    return reorder(p);
}

/* in is valid UTF-8. */
static bool normal_form(points *p, base_str in, step_kind kind, base_buf *out) {
    bool compose = kind == STEP_NFC || kind == STEP_NFKC;
    int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    if (kind == STEP_NFKC || kind == STEP_NFKD) options |= UTF8PROC_COMPAT;
    if (!decompose(p, in, (utf8proc_option_t)options)) return false;
    if (compose && p->n) {
        utf8proc_ssize_t n =
            utf8proc_normalize_utf32(p->cp, (utf8proc_ssize_t)p->n, (utf8proc_option_t)options);
        if (n < 0) return false;
        p->n = (size_t)n;
    }
    for (size_t i = 0; i < p->n; i++) {
        char bytes[4];
        if (!base_buf_append(out, bytes, (size_t)base_utf8_encode((uint32_t)p->cp[i], bytes)))
            return false;
    }
    return true;
}

static bool is_ascii(const char *s, size_t n, size_t i) { return i >= n || (uint8_t)s[i] < 0x80; }

/* The stretch from i that is normalised as a whole: up to the next ASCII character or bad byte. */
static size_t stretch_end(base_str in, size_t i) {
    size_t end = i;
    while (end < in.n && (end == i || !is_ascii(in.p, in.n, end))) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(in.p + end, in.n - end, &cp);
        if (cp < 0) break;
        end += len;
    }
    return end;
}

static bool normal_forms(base_str in, step_kind kind, base_buf *out) {
    points p = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < in.n;) {
        size_t end = i;
        while (end < in.n && is_ascii(in.p, in.n, end) && is_ascii(in.p, in.n, end + 1)) end++;
        if (end == i) {
            end = stretch_end(in, i);
            if (end > i)
                ok = normal_form(&p, (base_str){in.p + i, end - i}, kind, out);
            else
                ok = base_buf_append(out, in.p + end++, 1);
        } else {
            ok = base_buf_append(out, in.p + i, end - i);
        }
        i = end;
    }
    base_free(p.cp);
    return ok;
}

/* ==== Character by character ================================================================== */

static bool put(base_buf *out, int32_t cp) {
    char bytes[4];
    return base_buf_append(out, bytes, (size_t)base_utf8_encode((uint32_t)cp, bytes));
}

static bool lower(base_str in, base_buf *out) {
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(in.p + i, in.n - i, &cp);
        bool ok;
        if (cp < 0)
            ok = base_buf_append(out, in.p + i, len);
        else if (cp == 0x130)
            ok = base_buf_puts(out, "i\xCC\x87"); /* the one that becomes two */
        else
            ok = put(out, utf8proc_tolower(cp));
        if (!ok) return false;
        i += len;
    }
    return true;
}

static bool strip_accents(base_str in, bool all_marks, base_buf *out) {
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(in.p + i, in.n - i, &cp);
        bool drop = cp >= 0x80 && (all_marks ? (text_class_of(cp) & CH_MARK) != 0
                                             : utf8proc_category(cp) == UTF8PROC_CATEGORY_MN);
        if (!drop && !base_buf_append(out, in.p + i, len)) return false;
        i += len;
    }
    return true;
}

static bool is_han(int32_t cp) {
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
           (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B820 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static bool is_deleted_by_bert(int32_t cp) {
    if (cp <= 0 || cp == 0xFFFD) return true;
    if (cp == '\t' || cp == '\n' || cp == '\r') return false;
    utf8proc_category_t c = utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CN ||
           c == UTF8PROC_CATEGORY_CO;
}

static bool bert_clean(base_str in, bool clean, bool space_han, base_buf *out) {
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(in.p + i, in.n - i, &cp);
        bool ok = true;
        if (clean && is_deleted_by_bert(cp))
            ok = true;
        else if (clean && text_class_of(cp) & CH_SPACE)
            ok = base_buf_puts(out, " ");
        else if (space_han && is_han(cp))
            ok = base_buf_puts(out, " ") && base_buf_append(out, in.p + i, len) &&
                 base_buf_puts(out, " ");
        else
            ok = base_buf_append(out, in.p + i, len);
        if (!ok) return false;
        i += len;
    }
    return true;
}

rotor_status text_unicode_step(const text_step *step, base_str in, base_buf *out,
                               rotor_error *err) {
    bool ok;
    switch (step->kind) {
    case STEP_LOWER:
        ok = lower(in, out);
        break;
    case STEP_STRIP_ACCENTS:
        ok = strip_accents(in, step->flags & 1, out);
        break;
    case STEP_BERT_CLEAN:
        ok = bert_clean(in, step->flags & 1, step->flags & 2, out);
        break;
    default:
        ok = normal_forms(in, step->kind, out);
        break;
    }
    return ok ? ROTOR_OK : base_fail_nomem(err, "normalising text");
}
