/* SPDX-License-Identifier: MIT
 *
 * Markdown: its blocks by md4c where the build has it, else by a scan of lines that knows headings
 * (with # and underlined), fences, lists, tables and paragraphs.
 *
 * With md4c text loses its marks ("**bold**" gives "bold"); where a block stands is found from the
 * pieces of text that md4c hands out, which point into the source but for entities and line ends it
 * makes itself. The scan leaves marks inside lines as they are.
 *
 * Front matter ("---" lines at the top) becomes META: title, tags, aliases.
 */
#include "extract/extract.h"

#if ROTOR_HAVE_MD4C
#include <md4c.h>
#endif

/* ---- Front matter -------------------------------------------------------------------------- */

static bool is_fence(base_str line) { return base_str_is(ex_trim(line), "---"); }

static rotor_status put_front_line(ex *x, base_str line, base_buf *title) {
    static const char *const kept[] = {"title", "tags", "aliases", "author", "date", "lang"};
    for (size_t i = 0; i < BASE_COUNT(kept); i++) {
        const size_t n = strlen(kept[i]);
        if (!ex_starts_with(line, kept[i]) || line.n <= n || line.p[n] != ':') continue;
        base_str v = ex_trim((base_str){line.p + n + 1, line.n - n - 1});
        if (v.n >= 2 && (v.p[0] == '"' || v.p[0] == '\'') && v.p[v.n - 1] == v.p[0])
            v = (base_str){v.p + 1, v.n - 2};
        if (i == 0) return base_buf_append(title, v.p, v.n) ? ROTOR_OK : ex_nomem(x);
        return ex_put_meta(x, kept[i], v);
    }
    return ROTOR_OK;
}

/* Where the text after the front matter begins; 0: there is none. */
static size_t front_end(base_str text) {
    size_t at;
    if (text.n < 4 || !is_fence(ex_line(text, 0, &at)) || text.p[0] != '-') return 0;
    for (int lines = 0; at < text.n && lines < 200; lines++)
        if (is_fence(ex_line(text, at, &at))) return at;
    return 0;
}

/* The title: of the front matter, else the first "# " heading, else the file's name. */
static rotor_status put_doc(ex *x, base_str text, size_t front, const char *name) {
    base_buf title = {0};
    base_str line = ex_file_title(name);
    size_t next;
    rotor_status st = ROTOR_OK;
    for (size_t at = 0; at < front; at = next) {
        const base_str l = ex_line(text, at, &next);
        if (ex_starts_with(l, "title:")) st = put_front_line(x, l, &title);
    }
    if (!title.len)
        for (size_t at = front, n = 0; at < text.n && n < 50; at = next, n++) {
            const base_str l = ex_line(text, at, &next);
            if (!ex_starts_with(l, "# ")) continue;
            line = ex_trim((base_str){l.p + 2, l.n - 2});
            break;
        }
    if (title.len) line = (base_str){title.data, title.len};
    if (st == ROTOR_OK) st = ex_put(x, BASE_BLOCK_DOC, 0, line, EX_NOWHERE);
    for (size_t at = 0; at < front && st == ROTOR_OK; at = next) {
        const base_str l = ex_line(text, at, &next);
        if (!ex_starts_with(l, "title:")) st = put_front_line(x, l, &title);
    }
    base_buf_free(&title);
    return st;
}

#if ROTOR_HAVE_MD4C

typedef struct md {
    ex *x;             /* where blocks go */
    base_str text;     /* what md4c was given */
    size_t base;       /* its offset in the source */
    base_buf buf;      /* text of the block so far */
    size_t begin, end; /* source offsets of that text; begin > end: none yet */
    uint32_t lists;    /* depth of lists */
    uint32_t quotes;   /* of quotes: their text is paragraphs */
    size_t limit;      /* bytes of the source */
    bool in_item;      /* text belongs to a list item */
    bool head_row;     /* of a table */
    uint32_t cells;    /* of the row so far */
    rotor_status st;   /* of the first failure */
} md;

static int flush(md *m, base_block_kind kind, uint32_t level) {
    const ex_span at = m->begin < m->end ? (ex_span){m->begin, m->end} : EX_NOWHERE;
    if (m->st == ROTOR_OK && m->buf.failed) m->st = ex_nomem(m->x);
    if (m->st == ROTOR_OK && m->buf.len)
        m->st = ex_put(m->x, kind, level, (base_str){m->buf.data, m->buf.len}, at);
    base_buf_reset(&m->buf);
    m->begin = SIZE_MAX;
    m->end = 0;
    return m->st != ROTOR_OK;
}

static int flush_text(md *m) {
    return m->in_item ? flush(m, BASE_BLOCK_LIST, BASE_MAX(1, BASE_MIN(m->lists, 32u)))
                      : flush(m, BASE_BLOCK_PARA, 0);
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *user) {
    md *m = user;
    (void)detail;
    if (type == MD_BLOCK_TD || type == MD_BLOCK_TH) {
        if (m->cells++) base_buf_puts(&m->buf, " | ");
        return 0;
    }
    const int failed = flush_text(m);
    if (type == MD_BLOCK_UL || type == MD_BLOCK_OL) m->lists++;
    if (type == MD_BLOCK_LI) m->in_item = true;
    if (type == MD_BLOCK_THEAD) m->head_row = true;
    if (type == MD_BLOCK_TR) m->cells = 0;
    return failed;
}

/* Raw HTML between blocks: what stands between its tags. */
static void strip_tags(base_buf *b) {
    size_t out = 0;
    bool in_tag = false;
    for (size_t i = 0; i < b->len; i++) {
        if (b->data[i] == '<') in_tag = true;
        if (!in_tag) b->data[out++] = b->data[i];
        if (b->data[i] == '>') in_tag = false;
    }
    b->len = out;
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *user) {
    md *m = user;
    switch (type) {
    case MD_BLOCK_H:
        return flush(m, BASE_BLOCK_HEADING, ((MD_BLOCK_H_DETAIL *)detail)->level);
    case MD_BLOCK_CODE:
        return flush(m, BASE_BLOCK_CODE, 0);
    case MD_BLOCK_TR:
        return flush(m, BASE_BLOCK_ROW, m->head_row);
    case MD_BLOCK_THEAD:
        m->head_row = false;
        return 0;
    case MD_BLOCK_TD:
    case MD_BLOCK_TH:
        return 0;
    case MD_BLOCK_HTML:
        strip_tags(&m->buf);
        return flush(m, BASE_BLOCK_PARA, 0);
    default:
        break;
    }
    const int failed = flush_text(m);
    if (type == MD_BLOCK_UL || type == MD_BLOCK_OL) m->lists--;
    if (type == MD_BLOCK_LI) m->in_item = m->lists > 1;
    return failed;
}

static int on_span(MD_SPANTYPE type, void *detail, void *user) {
    (void)type, (void)detail, (void)user;
    return 0;
}

static void add_entity(md *m, base_str e) {
    char bytes[4];
    const uint32_t cp = e.n > 2 ? ex_entity((base_str){e.p + 1, e.n - 2}) : 0;
    if (cp)
        base_buf_append(&m->buf, bytes, (size_t)base_utf8_encode(cp, bytes));
    else
        base_buf_append(&m->buf, e.p, e.n);
}

static int on_text(MD_TEXTTYPE type, const MD_CHAR *p, MD_SIZE n, void *user) {
    md *m = user;
    const bool ours = p >= m->text.p && p + n <= m->text.p + m->text.n && n > 0;
    if (ours) {
        const size_t from = m->base + (size_t)(p - m->text.p);
        m->begin = BASE_MIN(m->begin, from);
        m->end = BASE_MAX(m->end, BASE_MIN(from + n, m->limit));
    }
    switch (type) {
    case MD_TEXT_BR:
    case MD_TEXT_SOFTBR:
        base_buf_puts(&m->buf, "\n");
        break;
    case MD_TEXT_ENTITY:
        add_entity(m, (base_str){p, n});
        break;
    case MD_TEXT_NULLCHAR:
        break;
    default:
        base_buf_append(&m->buf, p, n);
    }
    return m->st != ROTOR_OK;
}

static rotor_status parse_blocks(ex *x, size_t from) {
    md m = {.x = x, .base = from, .begin = SIZE_MAX, .limit = x->source->text.n};
    base_buf ended = {0};
    if (from >= x->source->text.n) return ROTOR_OK;
    m.text = (base_str){x->source->text.p + from, x->source->text.n - from};
    /* md4c looks a byte past a last line without an end, and follows what it finds there. */
    if (m.text.n && m.text.p[m.text.n - 1] != '\n') {
        base_buf_append(&ended, m.text.p, m.text.n);
        base_buf_puts(&ended, "\n");
        if (ended.failed) return ex_fail(x, BASE_REASON_MEMORY, "out of memory in Markdown");
        m.text = (base_str){ended.data, ended.len};
    }
    const MD_PARSER parser = {.abi_version = 0,
                              .flags = MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_TASKLISTS |
                                       MD_FLAG_PERMISSIVEAUTOLINKS,
                              .enter_block = enter_block,
                              .leave_block = leave_block,
                              .enter_span = on_span,
                              .leave_span = on_span,
                              .text = on_text};
    const int failed = md_parse(m.text.p, (MD_SIZE)m.text.n, &parser, &m);
    base_buf_free(&m.buf);
    base_buf_free(&ended);
    if (m.st != ROTOR_OK) return m.st;
    return failed ? ex_fail(x, BASE_REASON_MEMORY, "out of memory in Markdown") : ROTOR_OK;
}

#else /* no md4c */

typedef struct scan {
    ex *x;                /* where blocks go */
    base_str text;        /* the source */
    size_t begin, end;    /* of the block so far; equal: none */
    base_block_kind kind; /* of it */
    uint32_t level;       /* of it */
} scan;

static rotor_status flush(scan *s) {
    const ex_span at = {s->begin, s->end};
    s->begin = s->end = 0;
    if (at.begin == at.end) return ROTOR_OK;
    return ex_put(s->x, s->kind, s->level, (base_str){s->text.p + at.begin, at.end - at.begin}, at);
}

static size_t run_of(base_str s, char c) {
    size_t n = 0;
    while (n < s.n && s.p[n] == c) n++;
    return n;
}

static size_t list_mark(base_str s) {
    size_t i = 0;
    while (i < s.n && i < 9 && s.p[i] >= '0' && s.p[i] <= '9') i++;
    if (i && i + 1 < s.n && (s.p[i] == '.' || s.p[i] == ')') && s.p[i + 1] == ' ') return i + 2;
    return i == 0 && s.n > 1 && strchr("-*+", s.p[0]) && s.p[1] == ' ' ? 2 : 0;
}

/* Puts what came before, and begins a block at `begin` that ends (so far) at `end`. */
static rotor_status begin(scan *s, base_block_kind kind, uint32_t level, ex_span at) {
    ROTOR_TRY(flush(s));
    s->kind = kind;
    s->level = level;
    s->begin = at.begin;
    s->end = at.end;
    return ROTOR_OK;
}

static rotor_status one_line(scan *s, size_t at, base_str line) {
    const base_str l = ex_trim(line);
    const size_t from = (size_t)(l.p - s->text.p), indent = (size_t)(l.p - line.p);
    const size_t marks = run_of(l, '#'), item = list_mark(l);
    const bool in_text = s->end > s->begin && s->kind == BASE_BLOCK_PARA;
    if (l.n == 0) return flush(s);
    if (marks >= 1 && marks <= 6 && marks < l.n && l.p[marks] == ' ') {
        ROTOR_TRY(
            begin(s, BASE_BLOCK_HEADING, (uint32_t)marks, (ex_span){from + marks + 1, from + l.n}));
        return flush(s);
    }
    if (in_text && (run_of(l, '=') == l.n || (run_of(l, '-') == l.n && l.n > 1))) {
        s->kind = BASE_BLOCK_HEADING;
        s->level = l.p[0] == '=' ? 1 : 2;
        return flush(s);
    }
    if (l.p[0] == '|') {
        ROTOR_TRY(begin(s, BASE_BLOCK_ROW, 0, (ex_span){from, from + l.n}));
        return flush(s);
    }
    if (item)
        return begin(s, BASE_BLOCK_LIST, (uint32_t)BASE_MIN(indent / 2 + 1, (size_t)32),
                     (ex_span){from + item, from + l.n});
    if (s->end == s->begin) return begin(s, BASE_BLOCK_PARA, 0, (ex_span){from, from + l.n});
    s->end = at + line.n;
    return ROTOR_OK;
}

static rotor_status parse_blocks(ex *x, size_t from) {
    scan s = {.x = x, .text = x->source->text};
    char fence = 0;
    for (size_t at = from, next; at < s.text.n; at = next) {
        const base_str line = ex_line(s.text, at, &next), l = ex_trim(line);
        const bool mark = l.n && (run_of(l, '`') >= 3 || run_of(l, '~') >= 3);
        if (mark && (!fence || fence == l.p[0])) {
            fence = fence ? 0 : l.p[0];
            ROTOR_TRY(begin(&s, BASE_BLOCK_CODE, 0, (ex_span){next, next}));
        } else if (fence)
            s.end = next;
        else
            ROTOR_TRY(one_line(&s, at, line));
    }
    return flush(&s);
}

#endif

rotor_status ex_parse_markdown(ex *x, const char *name) {
    const size_t front = front_end(x->source->text);
    ROTOR_TRY(put_doc(x, x->source->text, front, name));
    return parse_blocks(x, front);
}
