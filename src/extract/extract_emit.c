/* SPDX-License-Identifier: MIT
 *
 * What every block goes through on its way out: its text cleaned, its place in the source found,
 * the limits asked.
 *
 * Cleaning takes away what a person does not see and a search must not depend on: controls, zero
 * widths, marks of direction, the invisible tag letters that can carry hidden instructions. Two
 * joiners stay, because Persian and Indic words are written with them.
 */
#include "extract/extract.h"

#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

ex_limits ex_limits_default(void) {
    const uint64_t mib = 1 << 20;
    return (ex_limits){.text_file_bytes = 32 * mib,
                       .other_file_bytes = 256 * mib,
                       .text_bytes = 1024 * mib,
                       .blocks = 8000000,
                       .unpacked_bytes = 256 * mib,
                       .unpacked_ratio = 200,
                       .entries = 10000,
                       .pages = 10000,
                       .depth = 200,
                       .tool_ms = 90000};
}

enum { LINE_BYTES = 240 };

/* Cut to fit; what is not printable ASCII becomes '?', since documents have a say in it. */
static void format_line(char line[LINE_BYTES], const char *fmt, va_list args) {
    vsnprintf(line, LINE_BYTES, fmt, args);
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7F) *p = '?';
}

rotor_status ex_fail(ex *x, base_reason reason, const char *fmt, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    format_line(line, fmt, args);
    va_end(args);
    x->reason = reason;
    return base_fail(x->err, reason == BASE_REASON_MEMORY ? ROTOR_E_NOMEM : ROTOR_E_FORMAT, "%s",
                     line);
}

rotor_status ex_nomem(ex *x) { return ex_fail(x, BASE_REASON_MEMORY, "out of memory"); }

void ex_close(ex *x) { base_buf_free(&x->clean); }

/* ---- Cleaning ------------------------------------------------------------------------------ */

static bool is_unseen(int32_t cp) {
    return (cp < ' ' && cp != '\n' && cp != '\t') || (cp >= 0x7F && cp < 0xA0) || cp == 0xAD ||
           cp == 0x200B || cp == 0x200E || cp == 0x200F || (cp >= 0x2028 && cp <= 0x202E) ||
           (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF || (cp >= 0xFFF9 && cp <= 0xFFFB) ||
           (cp >= 0xE0000 && cp <= 0xE0FFF);
}

/* Composes to->data[from..) in place, where that can change anything. */
static void compose(base_buf *to, size_t from) {
    const size_t n = to->len - from;
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *text = (const utf8proc_uint8_t *)to->data + from;
    const utf8proc_ssize_t need = utf8proc_decompose(text, (utf8proc_ssize_t)n, NULL, 0, how);
    /* One more: the text made of them ends in a zero byte. */
    utf8proc_int32_t *points = need > 0 ? base_alloc_array((size_t)need + 1, sizeof *points) : NULL;
    if (!points) {
        to->failed |= need > 0;
        return;
    }
    utf8proc_ssize_t made = utf8proc_decompose(text, (utf8proc_ssize_t)n, points, need, how);
    if (made == need) made = utf8proc_reencode(points, made, how);
    if (made > 0) {
        to->len = from;
        base_buf_append(to, points, (size_t)made);
    }
    base_free(points);
}

bool ex_clean(base_buf *to, base_str text) {
    const size_t from = to->len;
    bool may_compose = false;
    if (!base_buf_reserve(to, text.n + 1)) return false;
    for (size_t i = 0; i < text.n;) {
        int32_t cp;
        const int n = base_utf8_decode(text.p + i, text.n - i, &cp);
        if (cp == '\r') {
            if (i + 1 == text.n || text.p[i + 1] != '\n') base_buf_append(to, "\n", 1);
        } else if (cp < 0)
            base_buf_append(to, "\xEF\xBF\xBD", 3);
        else if (cp == 0x2028 || cp == 0x2029 || cp == 0x85)
            base_buf_append(to, "\n", 1);
        else if (!is_unseen(cp))
            base_buf_append(to, text.p + i, (size_t)n);
        may_compose |= cp >= 0x300;
        i += (size_t)n;
    }
    if (may_compose && !to->failed) compose(to, from);
    return !to->failed;
}

bool ex_clean_line(base_buf *to, base_str text) {
    const size_t from = to->len;
    if (!ex_clean(to, text)) return false;
    size_t out = from;
    bool space = false;
    for (size_t i = from; i < to->len; i++) {
        const char c = to->data[i];
        if (c == ' ' || c == '\n' || c == '\t')
            space = out > from;
        else {
            if (space) to->data[out++] = ' ';
            to->data[out++] = c;
            space = false;
        }
    }
    if (to->data) to->data[out] = 0;
    to->len = out;
    return true;
}

/* ---- Placing ------------------------------------------------------------------------------- */

static void place(ex *x, base_block *b, ex_span at) {
    if (x->fixed) {
        b->byte_begin = x->where.byte_begin;
        b->byte_end = x->where.byte_end;
        b->line_begin = x->where.line_begin;
        b->line_end = x->where.line_end;
        return;
    }
    if (!x->source || at.end <= at.begin) return;
    const ex_place begin = ex_source_at(x->source, at.begin);
    const ex_place end = ex_source_at(x->source, at.end);
    b->byte_begin = x->base_bytes + begin.raw;
    b->byte_end = x->base_bytes + end.raw;
    b->line_begin = x->base_lines + (uint32_t)begin.line + 1;
    b->line_end = x->base_lines + (uint32_t)end.line + 1;
    /* What ends with a line's end belongs to that line. */
    const char last = x->source->text.p[BASE_MIN(at.end, x->source->text.n) - 1];
    if ((last == '\n' || last == '\r') && b->line_end > b->line_begin) b->line_end--;
}

/* ---- Out ----------------------------------------------------------------------------------- */

static rotor_status pass(ex *x, const base_block *b) {
    x->n_text += b->text.n;
    if (b->kind >= BASE_BLOCK_HEADING && b->kind <= BASE_BLOCK_ROW) x->n_blocks++;
    if (x->n_text > x->limits.text_bytes)
        return ex_fail(x, BASE_REASON_TOO_LARGE, "more than %llu MiB of text",
                       (unsigned long long)(x->limits.text_bytes >> 20));
    if (x->n_blocks > x->limits.blocks)
        return ex_fail(x, BASE_REASON_TOO_LARGE, "more than %llu blocks",
                       (unsigned long long)x->limits.blocks);
    return x->fn(x->user, b, x->err);
}

/* Where to cut text that is longer than a block: after a line, else a space, else a letter. */
static size_t cut_at(base_str s) {
    size_t n = BASE_BLOCK_TEXT_MAX, at;
    for (at = n; at > n / 2 && s.p[at - 1] != '\n'; at--) continue;
    if (at > n / 2) return at;
    for (at = n; at > n / 2 && s.p[at - 1] != ' '; at--) continue;
    if (at > n / 2) return at;
    while ((s.p[n] & 0xC0) == 0x80) n--;
    return n;
}

/* Blank lines at both ends, and space at the end, carry nothing; the indent of code does. */
static base_str trim_block(base_block_kind kind, base_str s) {
    if (kind != BASE_BLOCK_CODE) return ex_trim(s);
    const base_str ends = ex_trim(s);
    if (!ends.n) return ends;
    const char *from = ends.p;
    while (from > s.p && from[-1] != '\n') from--;
    return (base_str){from, (size_t)(ends.p + ends.n - from)};
}

rotor_status ex_put(ex *x, base_block_kind kind, uint32_t level, base_str text, ex_span at) {
    const bool one_line = kind == BASE_BLOCK_DOC || kind == BASE_BLOCK_HEADING;
    base_buf_reset(&x->clean);
    if (!(one_line ? ex_clean_line(&x->clean, text) : ex_clean(&x->clean, text)))
        return ex_nomem(x);
    if (kind == BASE_BLOCK_DOC) x->page = 0;
    base_block b = {.kind = kind, .level = level, .page = x->page};
    base_str left = trim_block(kind, (base_str){x->clean.data, x->clean.len});
    if (left.n == 0 && kind != BASE_BLOCK_DOC) return ROTOR_OK;
    place(x, &b, at);
    while (left.n > BASE_BLOCK_TEXT_MAX) {
        const size_t n = cut_at(left);
        b.text = (base_str){left.p, n};
        ROTOR_TRY(pass(x, &b));
        left = (base_str){left.p + n, left.n - n};
    }
    b.text = left;
    return pass(x, &b);
}

rotor_status ex_put_meta(ex *x, const char *name, base_str value) {
    base_buf_reset(&x->clean);
    if (!base_buf_printf(&x->clean, "%s=", name)) return ex_nomem(x);
    const size_t from = x->clean.len;
    if (!ex_clean_line(&x->clean, (base_str){value.p, BASE_MIN(value.n, (size_t)4096)}))
        return ex_nomem(x);
    if (x->clean.len == from) return ROTOR_OK;
    return pass(x, &(base_block){.kind = BASE_BLOCK_META,
                                 .page = x->page,
                                 .text = {x->clean.data, x->clean.len}});
}

rotor_status ex_put_note(ex *x, const char *fmt, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    format_line(line, fmt, args);
    va_end(args);
    return pass(x,
                &(base_block){.kind = BASE_BLOCK_NOTE, .page = x->page, .text = base_str_of(line)});
}

rotor_status ex_put_page(ex *x, uint32_t page) {
    x->page = page;
    return pass(x, &(base_block){.kind = BASE_BLOCK_PAGE, .page = page});
}

/* ---- Entities ------------------------------------------------------------------------------ */

uint32_t ex_entity(base_str name) {
    static const struct {
        const char *name;
        uint32_t cp;
    } known[] = {{"amp", '&'},       {"lt", '<'},        {"gt", '>'},       {"quot", '"'},
                 {"apos", '\''},     {"nbsp", 0xA0},     {"ndash", 0x2013}, {"mdash", 0x2014},
                 {"lsquo", 0x2018},  {"rsquo", 0x2019},  {"ldquo", 0x201C}, {"rdquo", 0x201D},
                 {"hellip", 0x2026}, {"bull", 0x2022},   {"middot", 0xB7},  {"deg", 0xB0},
                 {"copy", 0xA9},     {"reg", 0xAE},      {"trade", 0x2122}, {"euro", 0x20AC},
                 {"pound", 0xA3},    {"times", 0xD7},    {"minus", 0x2212}, {"plusmn", 0xB1},
                 {"rarr", 0x2192},   {"larr", 0x2190},   {"laquo", 0xAB},   {"raquo", 0xBB},
                 {"auml", 0xE4},     {"ouml", 0xF6},     {"uuml", 0xFC},    {"Auml", 0xC4},
                 {"Ouml", 0xD6},     {"Uuml", 0xDC},     {"szlig", 0xDF},   {"eacute", 0xE9},
                 {"egrave", 0xE8},   {"agrave", 0xE0},   {"aacute", 0xE1},  {"ccedil", 0xE7},
                 {"ntilde", 0xF1},   {"thinsp", 0x2009}, {"sect", 0xA7},    {"para", 0xB6}};
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_str_is(name, known[i].name)) return known[i].cp;
    if (name.n < 2 || name.n > 8 || name.p[0] != '#') return 0;
    const bool hex = name.p[1] == 'x' || name.p[1] == 'X';
    char digits[8] = {0}, *end;
    memcpy(digits, name.p + 1 + hex, name.n - 1 - hex);
    if (!((digits[0] >= '0' && digits[0] <= '9') || (hex && digits[0] > '9'))) return 0;
    const unsigned long cp = strtoul(digits, &end, hex ? 16 : 10);
    const bool scalar = cp > 0 && cp < 0x110000 && (cp < 0xD800 || cp > 0xDFFF);
    return *end == 0 && scalar ? (uint32_t)cp : 0;
}
