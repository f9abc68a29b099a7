/* SPDX-License-Identifier: MIT
 *
 * The markup of MediaWiki, made blocks. Its real grammar is a program; this keeps what a reader of
 * the page would read, and lets the rest go.
 *
 * Two passes. The first walks the characters once and takes away comments, notes, templates, tags,
 * marks of bold and links' targets; of a few templates that only wrap words the words stay. It
 * works on its own output: "{{" and "[[" remember where they began, their ends look at what came
 * since. The second pass goes line by line: headings, lists, tables, code, paragraphs.
 *
 * Lines must be counted although text goes: a line end inside something taken away leaves a VT
 * (\v), which counts and shows nothing. Code stands between STX and ETX. Neither occurs in XML.
 */
#include "extract/extract.h"

enum { OPEN_MAX = 64, TAG_MAX = 2000, LOST_LINE = '\v', CODE_ON = 2, CODE_OFF = 3 };

/* Tags whose inside is not wiki text. */
typedef enum inside { INSIDE_DROPPED, INSIDE_KEPT, INSIDE_CODE } inside;
static const struct {
    const char *name;
    inside what;
} raw_tags[] = {
    {"ref", INSIDE_DROPPED},      {"gallery", INSIDE_DROPPED}, {"timeline", INSIDE_DROPPED},
    {"imagemap", INSIDE_DROPPED}, {"score", INSIDE_DROPPED},   {"templatedata", INSIDE_DROPPED},
    {"style", INSIDE_DROPPED},    {"graph", INSIDE_DROPPED},   {"math", INSIDE_KEPT},
    {"nowiki", INSIDE_KEPT},      {"chem", INSIDE_KEPT},       {"syntaxhighlight", INSIDE_CODE},
    {"source", INSIDE_CODE},      {"pre", INSIDE_CODE}};

typedef struct opened {
    char what;  /* '{' or '[' */
    size_t out; /* length of the output when it began */
} opened;

typedef struct wiki {
    ex *x;                               /* where blocks go */
    base_str in;                         /* the page's text */
    base_buf out;                        /* after the first pass */
    opened open[OPEN_MAX];               /* what has begun and not ended */
    size_t n_open;                       /* of it */
    bool no_close[BASE_COUNT(raw_tags)]; /* no end of this tag comes any more */
    bool no_comment_end;                 /* no "-->" comes any more */
    base_buf block;                      /* second pass: text so far */
    base_block_kind kind;                /* of it */
    uint32_t level;                      /* of it */
    uint32_t first, last;                /* its lines */
    uint32_t line;                       /* this one */
} wiki;

/* ---- First pass ---------------------------------------------------------------------------- */

static base_str rest(const wiki *w, size_t at) { return (base_str){w->in.p + at, w->in.n - at}; }

static bool at_is(const wiki *w, size_t at, const char *what) {
    const size_t n = strlen(what);
    return w->in.n - at >= n && memcmp(w->in.p + at, what, n) == 0;
}

static void lose_lines(wiki *w, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] == '\n' || p[i] == LOST_LINE) base_buf_append(&w->out, "\v", 1);
}

/* Cuts the output back to `from`; its line ends stay. */
static void take_back(wiki *w, size_t from) {
    size_t n = from;
    for (size_t i = from; i < w->out.len; i++)
        if (w->out.data[i] == '\n' || w->out.data[i] == LOST_LINE) w->out.data[n++] = LOST_LINE;
    w->out.len = n;
}

static size_t find(const wiki *w, size_t at, const char *what) {
    for (; at < w->in.n; at++)
        if ((w->in.p[at] | 32) == (what[0] | 32) && ex_starts_with(rest(w, at), what)) return at;
    return SIZE_MAX;
}

static size_t skip_comment(wiki *w, size_t at) {
    const size_t end = w->no_comment_end ? SIZE_MAX : find(w, at, "-->");
    if (end == SIZE_MAX) {
        w->no_comment_end = true;
        return at + 4;
    }
    lose_lines(w, w->in.p + at, end - at);
    return end + 3;
}

/* The end of the tag that begins at `at`; SIZE_MAX: it is none. */
static size_t tag_end(const wiki *w, size_t at) {
    const char c = at + 1 < w->in.n ? w->in.p[at + 1] : 0;
    if (!((c | 32) >= 'a' && (c | 32) <= 'z') && c != '/') return SIZE_MAX;
    for (size_t i = at; i < w->in.n && i - at < TAG_MAX; i++)
        if (w->in.p[i] == '>') return i + 1;
    return SIZE_MAX;
}

static void keep_inside(wiki *w, inside what, const char *p, size_t n) {
    if (what == INSIDE_DROPPED) return lose_lines(w, p, n);
    if (what == INSIDE_CODE) base_buf_append(&w->out, "\2", 1);
    base_buf_append(&w->out, p, n);
    if (what == INSIDE_CODE) base_buf_append(&w->out, "\3", 1);
}

static size_t take_tag(wiki *w, size_t at) {
    const size_t end = tag_end(w, at);
    char close[32];
    if (end == SIZE_MAX) {
        base_buf_append(&w->out, w->in.p + at, 1);
        return at + 1;
    }
    lose_lines(w, w->in.p + at, end - at);
    if (ex_starts_with(rest(w, at), "<br")) base_buf_puts(&w->out, " ");
    for (size_t i = 0; i < BASE_COUNT(raw_tags) && w->in.p[end - 2] != '/'; i++) {
        const size_t n = strlen(raw_tags[i].name);
        const base_str name = rest(w, at + 1);
        if (!ex_starts_with(name, raw_tags[i].name) ||
            (name.p[n] != '>' && name.p[n] != ' ' && name.p[n] != '\n'))
            continue;
        close[0] = '<';
        close[1] = '/';
        memcpy(close + 2, raw_tags[i].name, n + 1);
        const size_t stop = w->no_close[i] ? SIZE_MAX : find(w, end, close);
        w->no_close[i] = stop == SIZE_MAX;
        if (stop == SIZE_MAX) break;
        keep_inside(w, raw_tags[i].what, w->in.p + end, stop - end);
        return stop; /* its end tag goes next */
    }
    return end;
}

/* Part i of s between '|'; false: there is none. */
static bool part(base_str s, size_t i, base_str *out) {
    size_t from = 0;
    for (size_t at = 0; at <= s.n; at++) {
        if (at < s.n && s.p[at] != '|') continue;
        if (i-- == 0) {
            *out = ex_trim((base_str){s.p + from, at - from});
            return true;
        }
        from = at + 1;
    }
    return false;
}

/* What stays of a template: the words of those that only dress them. */
static bool template_words(base_str s, base_buf *to) {
    static const char *const last_part[] = {"lang",   "nowrap", "nobr", "small",
                                            "transl", "em",     "abbr"};
    base_str name, v, unit;
    if (!part(s, 0, &name)) return false;
    const bool converts = ex_starts_with(name, "convert") || ex_starts_with(name, "cvt");
    if (converts && part(s, 1, &v) && part(s, 2, &unit))
        return base_buf_append(to, v.p, v.n) && base_buf_puts(to, " ") &&
               base_buf_append(to, unit.p, unit.n);
    for (size_t i = 0; i < BASE_COUNT(last_part); i++) {
        if (!base_str_is(name, last_part[i])) continue;
        const size_t at = i == 0 || i == 4 ? 2 : 1; /* the language comes first */
        return part(s, at, &v) && base_buf_append(to, v.p, v.n);
    }
    return false;
}

static void end_template(wiki *w, size_t from) {
    base_buf words = {0};
    const base_str s = {w->out.data + from, w->out.len - from};
    const bool some = s.n < 4096 && template_words(s, &words);
    take_back(w, from);
    if (some) base_buf_append(&w->out, words.data, words.len);
    base_buf_free(&words);
}

static bool is_dropped_link(base_str target) {
    static const char *const names[] = {"file:",
                                        "image:",
                                        "category:",
                                        "media:",
                                        "datei:",
                                        "bild:",
                                        "kategorie:",
                                        "fichier:",
                                        "archivo:",
                                        ("categor\xC3\xAD"
                                         "a:"),
                                        "cat\xC3\xA9gorie:"};
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (ex_starts_with(target, names[i])) return true;
    return false;
}

static void end_link(wiki *w, size_t from) {
    const base_str s = {w->out.data + from, w->out.len - from};
    if (is_dropped_link(ex_trim(s))) return take_back(w, from);
    const char *bar = memchr(s.p, '|', s.n);
    if (!bar) return;
    const size_t n = (size_t)(s.p + s.n - bar) - 1, begin = (size_t)(bar + 1 - w->out.data);
    memmove(w->out.data + from, w->out.data + begin, n);
    w->out.len = from + n;
}

static size_t begin_pair(wiki *w, size_t at, char what) {
    if (w->n_open < OPEN_MAX) w->open[w->n_open++] = (opened){what, w->out.len};
    return at + 2;
}

/* Ends the innermost of its kind; what was begun inside and not ended stays as text. */
static size_t end_pair(wiki *w, size_t at, char what) {
    size_t n = w->n_open;
    while (n > 0 && w->open[n - 1].what != what) n--;
    if (n == 0) return at + 2;
    w->n_open = n - 1;
    if (what == '{')
        end_template(w, w->open[n - 1].out);
    else
        end_link(w, w->open[n - 1].out);
    return at + 2;
}

/* [http://... words]: the words. */
static size_t take_web_link(wiki *w, size_t at) {
    size_t i = at + 1;
    while (i < w->in.n && i - at < TAG_MAX && w->in.p[i] > ' ' && w->in.p[i] != ']') i++;
    if (i < w->in.n && w->in.p[i] == ' ') return i + 1; /* its "]" is dropped when it comes */
    base_buf_append(&w->out, w->in.p + at + 1, i - at - 1);
    return i;
}

static size_t take_entity(wiki *w, size_t at) {
    size_t n = 1;
    while (n < 12 && at + n < w->in.n && w->in.p[at + n] != ';' && w->in.p[at + n] > ' ') n++;
    const bool ends = at + n < w->in.n && w->in.p[at + n] == ';';
    const uint32_t cp = ends ? ex_entity((base_str){w->in.p + at + 1, n - 1}) : 0;
    char bytes[4];
    if (cp < ' ')
        base_buf_append(&w->out, "&", 1);
    else
        base_buf_append(&w->out, bytes, (size_t)base_utf8_encode(cp, bytes));
    return cp < ' ' ? at + 1 : at + n + 1;
}

static size_t take_one(wiki *w, size_t at) {
    const char c = w->in.p[at];
    const bool line_start = at == 0 || w->in.p[at - 1] == '\n';
    if (c == '<') return at_is(w, at, "<!--") ? skip_comment(w, at) : take_tag(w, at);
    if (at_is(w, at, "{{")) return begin_pair(w, at, '{');
    if (at_is(w, at, "}}")) return end_pair(w, at, '{');
    if (at_is(w, at, "[[")) return begin_pair(w, at, '[');
    if (at_is(w, at, "]]")) return end_pair(w, at, '[');
    if (at_is(w, at, "[http")) return take_web_link(w, at);
    if (at_is(w, at, "''")) {
        while (at < w->in.n && w->in.p[at] == '\'') at++;
        return at;
    }
    if (c == '&') return take_entity(w, at);
    if (c == ']' && !line_start) return at + 1;
    base_buf_append(&w->out, &c, 1);
    return at + 1;
}

/* ---- Second pass --------------------------------------------------------------------------- */

static rotor_status flush(wiki *w) {
    rotor_status st = ROTOR_OK;
    if (w->block.len) {
        w->x->where.line_begin = w->first;
        w->x->where.line_end = w->last;
        st = ex_put(w->x, w->kind, w->level, (base_str){w->block.data, w->block.len}, EX_NOWHERE);
        w->x->where.line_begin = w->x->where.line_end = 0;
    }
    base_buf_reset(&w->block);
    return st;
}

static rotor_status add(wiki *w, base_block_kind kind, uint32_t level, base_str s) {
    const bool goes_on = w->block.len && w->kind == kind && kind == BASE_BLOCK_PARA;
    if (!goes_on) ROTOR_TRY(flush(w));
    if (goes_on)
        base_buf_puts(&w->block, "\n");
    else
        w->first = w->line;
    w->kind = kind;
    w->level = level;
    w->last = w->line;
    return base_buf_append(&w->block, s.p, s.n) ? ROTOR_OK : ex_nomem(w->x);
}

/* A cell of a table row, its attributes ("style=... | text") cut off. */
static rotor_status add_cell(wiki *w, base_str cell, bool head) {
    const char *bar = cell.n ? memchr(cell.p, '|', cell.n) : NULL;
    if (bar && memchr(cell.p, '=', (size_t)(bar - cell.p)))
        cell = (base_str){bar + 1, (size_t)(cell.p + cell.n - bar) - 1};
    cell = ex_trim(cell);
    if (!cell.n) return ROTOR_OK;
    if (!w->block.len || w->kind != BASE_BLOCK_ROW) {
        ROTOR_TRY(add(w, BASE_BLOCK_ROW, head, cell));
        return ROTOR_OK;
    }
    w->last = w->line;
    w->level &= head;
    return base_buf_puts(&w->block, " | ") && base_buf_append(&w->block, cell.p, cell.n)
               ? ROTOR_OK
               : ex_nomem(w->x);
}

static rotor_status table_line(wiki *w, base_str s) {
    const char mark = s.p[0];
    if (mark != '|' && mark != '!') /* a cell goes on */
        return w->block.len && w->kind == BASE_BLOCK_ROW && s.n
                   ? (base_buf_puts(&w->block, " "), base_buf_append(&w->block, s.p, s.n),
                      w->last = w->line, ROTOR_OK)
                   : ROTOR_OK;
    if (s.n > 1 && (s.p[1] == '-' || s.p[1] == '}')) return flush(w);
    if (s.n > 1 && s.p[1] == '+') return ROTOR_OK;
    size_t from = 1;
    for (size_t i = 1; i <= s.n; i++) {
        const bool ends = i == s.n || (i + 1 < s.n && s.p[i] == s.p[i + 1] &&
                                       (s.p[i] == '|' || (s.p[i] == '!' && mark == '!')));
        if (!ends) continue;
        ROTOR_TRY(add_cell(w, (base_str){s.p + from, i - from}, mark == '!'));
        from = i + 2;
        i++;
    }
    return ROTOR_OK;
}

static rotor_status text_line(wiki *w, base_str s) {
    size_t n = 0, m = 0;
    if (s.n == 0) return flush(w);
    while (n < s.n && s.p[n] == '=') n++;
    while (m < s.n && s.p[s.n - 1 - m] == '=') m++;
    const size_t level = BASE_MIN(n, m);
    if (level > 0 && level <= 6 && s.n > 2 * level) {
        ROTOR_TRY(add(w, BASE_BLOCK_HEADING, (uint32_t)level,
                      ex_trim((base_str){s.p + level, s.n - 2 * level})));
        return flush(w);
    }
    n = 0;
    while (n < s.n && strchr("*#:;", s.p[n])) n++;
    if (n > 0)
        return add(w, BASE_BLOCK_LIST, (uint32_t)BASE_MIN(n, (size_t)32),
                   ex_trim((base_str){s.p + n, s.n - n}));
    if (s.n > 4 && memcmp(s.p, "__", 2) == 0 && memcmp(s.p + s.n - 2, "__", 2) == 0)
        return flush(w);
    if (s.n >= 4 && memcmp(s.p, "----", 4) == 0) return flush(w);
    if (w->kind == BASE_BLOCK_PARA && w->block.len > BASE_BLOCK_TEXT_MAX / 2) ROTOR_TRY(flush(w));
    return add(w, BASE_BLOCK_PARA, 0, s);
}

/* One line of the first pass's output: VTs in it are lines that came before its text or in it. */
static uint32_t drop_lost(char *p, size_t *n) {
    uint32_t lost = 0;
    size_t out = 0;
    for (size_t i = 0; i < *n; i++)
        if (p[i] == LOST_LINE)
            lost++;
        else
            p[out++] = p[i];
    *n = out;
    return lost;
}

static rotor_status put_code(wiki *w, base_str s) {
    ROTOR_TRY(flush(w));
    ROTOR_TRY(add(w, BASE_BLOCK_CODE, 0, s));
    for (size_t i = 0; i < s.n; i++) w->line += s.p[i] == '\n';
    w->last = w->line;
    return flush(w);
}

static rotor_status second_pass(wiki *w) {
    int tables = 0;
    char *p = w->out.data, *end = p + w->out.len;
    while (p < end) {
        char *stop = p;
        while (stop < end && *stop != '\n' && *stop != CODE_ON) stop++;
        size_t n = (size_t)(stop - p);
        const uint32_t lost = drop_lost(p, &n);
        const base_str s = ex_trim((base_str){p, n});
        if (s.n >= 2 && s.p[0] == '{' && s.p[1] == '|') {
            tables++;
            ROTOR_TRY(flush(w));
        } else if (tables && s.n)
            ROTOR_TRY(table_line(w, s));
        else if (!tables)
            ROTOR_TRY(text_line(w, s));
        if (tables && s.n >= 2 && s.p[0] == '|' && s.p[1] == '}') tables--;
        w->line += lost;
        if (stop < end && *stop == CODE_ON) {
            char *off = memchr(stop, CODE_OFF, (size_t)(end - stop));
            if (!off) off = end;
            ROTOR_TRY(put_code(w, (base_str){stop + 1, (size_t)(off - stop) - 1}));
            p = off < end ? off + 1 : end;
            continue;
        }
        w->line++;
        p = stop + 1;
    }
    return flush(w);
}

rotor_status ex_put_wikitext(ex *x, base_str text, uint32_t first_line) {
    wiki w = {.x = x, .in = text, .line = first_line};
    rotor_status st = base_buf_reserve(&w.out, text.n + 1) ? ROTOR_OK : ex_nomem(x);
    for (size_t at = 0; at < text.n && st == ROTOR_OK;) at = take_one(&w, at);
    if (st == ROTOR_OK && w.out.failed) st = ex_nomem(x);
    if (st == ROTOR_OK) st = second_pass(&w);
    base_buf_free(&w.out);
    base_buf_free(&w.block);
    return st;
}
