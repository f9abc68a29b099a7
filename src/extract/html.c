/* SPDX-License-Identifier: MIT
 *
 * HTML by libxml2's parser, as a stream of tags and text: no tree is built, so memory does not grow
 * with the page.
 *
 * What is kept: headings, paragraphs, list items, code, table rows ("a | b"), the alt text of
 * images, link text. What is dropped: scripts, styles, navigation, drawings, controls, and whatever
 * the page hides. White space is folded, but in <pre>; <br> is a line end.
 *
 * A table row whose cells hold headings, lists or tables is a layout, not data: its cells become
 * paragraphs.
 *
 * Where text stands: the parser's own position after each piece of text. An entity is found by
 * looking back for its &.
 */
#include "extract/extract.h"

#if ROTOR_HAVE_LIBXML2
#include <libxml/HTMLparser.h>
#include <libxml/parserInternals.h>
#include <stdio.h>
#include <strings.h>

enum { DEPTH_MAX = 4096, ENTITY_MAX = 40, PENDING_MAX = 8192 };

typedef enum role {
    ROLE_INLINE,
    ROLE_BLOCK,
    ROLE_HEADING,
    ROLE_LIST,
    ROLE_ITEM,
    ROLE_PRE,
    ROLE_TABLE,
    ROLE_ROW,
    ROLE_CELL,
    ROLE_BREAK,
    ROLE_TITLE,
    ROLE_SKIP
} role;

static const struct {
    const char *name;
    role role;
} roles[] = {{"p", ROLE_BLOCK},        {"div", ROLE_BLOCK},     {"section", ROLE_BLOCK},
             {"article", ROLE_BLOCK},  {"main", ROLE_BLOCK},    {"header", ROLE_BLOCK},
             {"footer", ROLE_BLOCK},   {"aside", ROLE_BLOCK},   {"blockquote", ROLE_BLOCK},
             {"address", ROLE_BLOCK},  {"figure", ROLE_BLOCK},  {"figcaption", ROLE_BLOCK},
             {"details", ROLE_BLOCK},  {"summary", ROLE_BLOCK}, {"form", ROLE_BLOCK},
             {"fieldset", ROLE_BLOCK}, {"legend", ROLE_BLOCK},  {"hr", ROLE_BLOCK},
             {"body", ROLE_BLOCK},     {"caption", ROLE_BLOCK}, {"center", ROLE_BLOCK},
             {"h1", ROLE_HEADING},     {"h2", ROLE_HEADING},    {"h3", ROLE_HEADING},
             {"h4", ROLE_HEADING},     {"h5", ROLE_HEADING},    {"h6", ROLE_HEADING},
             {"ul", ROLE_LIST},        {"ol", ROLE_LIST},       {"dl", ROLE_LIST},
             {"menu", ROLE_LIST},      {"li", ROLE_ITEM},       {"dt", ROLE_ITEM},
             {"dd", ROLE_ITEM},        {"pre", ROLE_PRE},       {"table", ROLE_TABLE},
             {"tr", ROLE_ROW},         {"td", ROLE_CELL},       {"th", ROLE_CELL},
             {"br", ROLE_BREAK},       {"title", ROLE_TITLE},   {"script", ROLE_SKIP},
             {"style", ROLE_SKIP},     {"noscript", ROLE_SKIP}, {"template", ROLE_SKIP},
             {"svg", ROLE_SKIP},       {"nav", ROLE_SKIP},      {"iframe", ROLE_SKIP},
             {"object", ROLE_SKIP},    {"canvas", ROLE_SKIP},   {"select", ROLE_SKIP},
             {"button", ROLE_SKIP},    {"textarea", ROLE_SKIP}, {"audio", ROLE_SKIP},
             {"video", ROLE_SKIP}};

typedef struct open_element {
    const char *name; /* the parser's dictionary keeps it */
    role role;        /* what it does to text in it */
} open_element;

typedef struct page {
    ex *x;                 /* where blocks go */
    htmlParserCtxtPtr c;   /* the parser */
    base_str text;         /* what it was given */
    open_element *open;    /* [DEPTH_MAX] owned: elements around the parser's place */
    size_t depth;          /* how many */
    size_t skip_from;      /* depth at which what is dropped began; 0: nothing is */
    base_buf buf;          /* text of the block so far */
    bool space;            /* white space came after it */
    size_t begin, end;     /* where it stands; begin > end: nowhere */
    uint32_t heading;      /* level of the heading around; 0: none */
    uint32_t lists, items; /* lists and items around */
    uint32_t pres;         /* <pre> around */
    bool in_row;           /* cells of a row gather in buf */
    bool head_row;         /* all of them so far are <th> */
    uint32_t cells;        /* begun in this row */
    bool in_title;         /* text goes to title */
    base_buf title;        /* of the page */
    base_buf metas;        /* name, zero, value, zero: they wait for DOC */
    base_str fallback;     /* title of a page without one */
    bool has_doc;          /* DOC was put, or is not wanted */
    rotor_status st;       /* of the first failure; the parser is stopped then */
} page;

static void check(page *g, rotor_status st) {
    if (st == ROTOR_OK || g->st != ROTOR_OK) return;
    g->st = st;
    xmlStopParser(g->c);
}

/* ---- Blocks -------------------------------------------------------------------------------- */

static rotor_status put_metas(page *g) {
    const char *p = g->metas.data, *end = p ? p + g->metas.len : p;
    while (p < end) {
        const char *value = p + strlen(p) + 1;
        ROTOR_TRY(ex_put_meta(g->x, p, base_str_of(value)));
        p = value + strlen(value) + 1;
    }
    return ROTOR_OK;
}

/* Before the first block: by then the head is over and the title known. */
static rotor_status put_doc(page *g, base_str first_heading) {
    if (g->has_doc) return ROTOR_OK;
    g->has_doc = true;
    const base_str title = {g->title.data, g->title.len};
    ROTOR_TRY(ex_put(g->x, BASE_BLOCK_DOC, 0,
                     !ex_blank(title)  ? title
                     : first_heading.n ? first_heading
                                       : g->fallback,
                     EX_NOWHERE));
    return put_metas(g);
}

static rotor_status put_block(page *g) {
    const base_str s = {g->buf.data, g->buf.len};
    const ex_span at = g->begin < g->end ? (ex_span){g->begin, g->end} : EX_NOWHERE;
    if (g->buf.failed || g->title.failed || g->metas.failed) return ex_nomem(g->x);
    if (ex_blank(s)) return ROTOR_OK;
    ROTOR_TRY(put_doc(g, g->heading ? ex_trim(s) : (base_str){0}));
    if (g->heading) return ex_put(g->x, BASE_BLOCK_HEADING, g->heading, s, at);
    if (g->in_row) return ex_put(g->x, BASE_BLOCK_ROW, g->head_row, s, at);
    if (g->pres) return ex_put(g->x, BASE_BLOCK_CODE, 0, s, at);
    if (g->items)
        return ex_put(g->x, BASE_BLOCK_LIST, BASE_MAX(1u, BASE_MIN(g->lists, 32u)), s, at);
    return ex_put(g->x, BASE_BLOCK_PARA, 0, s, at);
}

static void flush(page *g) {
    if (g->st == ROTOR_OK) check(g, put_block(g));
    base_buf_reset(&g->buf);
    g->space = false;
    g->begin = SIZE_MAX;
    g->end = 0;
}

/* ---- Text ---------------------------------------------------------------------------------- */

static size_t position(const page *g) {
    const xmlParserInputPtr in = g->c->input;
    if (!in) return 0;
    const size_t at = (size_t)in->consumed + (size_t)(in->cur - in->base);
    return BASE_MIN(at, g->text.n);
}

/* Where the n bytes that the parser has just passed on began. */
static size_t began(const page *g, const char *p, size_t n, size_t end) {
    if (n <= end && memcmp(g->text.p + end - n, p, n) == 0) return end - n;
    for (size_t back = 1; back <= ENTITY_MAX && back <= end; back++)
        if (g->text.p[end - back] == '&') return end - back;
    return end;
}

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

static void add_folded(page *g, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (is_space(p[i])) {
            g->space = true;
            continue;
        }
        const bool first = g->buf.len == 0 || g->buf.data[g->buf.len - 1] == '\n';
        if (g->space && !first) base_buf_append(&g->buf, " ", 1);
        g->space = false;
        base_buf_append(&g->buf, p + i, 1);
    }
}

static void on_text(void *user, const xmlChar *ch, int len) {
    page *g = user;
    const char *p = (const char *)ch;
    const size_t n = (size_t)len;
    if (g->st != ROTOR_OK || n == 0) return;
    if (g->in_title) {
        if (g->title.len < PENDING_MAX) base_buf_append(&g->title, p, n);
        return;
    }
    if (g->skip_from) return;
    const base_str seen = ex_trim((base_str){p, n});
    if (seen.n) {
        const size_t end = position(g), from = began(g, p, n, end);
        const size_t before = (size_t)(seen.p - p), after = n - before - seen.n;
        const bool exact = end - from == n;
        g->begin = BASE_MIN(g->begin, from + (exact ? before : 0));
        g->end = BASE_MAX(g->end, end - (exact ? after : 0));
    }
    if (g->pres)
        base_buf_append(&g->buf, p, n);
    else
        add_folded(g, p, n);
    if (g->buf.len > BASE_BLOCK_TEXT_MAX) flush(g);
}

/* ---- Tags ---------------------------------------------------------------------------------- */

static role role_of(const char *name) {
    for (size_t i = 0; i < BASE_COUNT(roles); i++)
        if (strcmp(name, roles[i].name) == 0) return roles[i].role;
    return ROLE_INLINE;
}

static const char *attribute(const xmlChar **atts, const char *name) {
    for (; atts && atts[0]; atts += 2)
        if (strcasecmp((const char *)atts[0], name) == 0)
            return atts[1] ? (const char *)atts[1] : "";
    return NULL;
}

/* `display : none`, whatever the spaces and the case. */
static bool hides(const char *style) {
    char s[256];
    size_t n = 0;
    for (; *style && n + 1 < sizeof s; style++)
        if (!is_space(*style)) s[n++] = (char)(*style | (*style >= 'A' && *style <= 'Z' ? 32 : 0));
    s[n] = 0;
    return strstr(s, "display:none") || strstr(s, "visibility:hidden");
}

static bool is_hidden(const xmlChar **atts) {
    const char *style = attribute(atts, "style"), *aria = attribute(atts, "aria-hidden");
    const char *role_name = attribute(atts, "role");
    return attribute(atts, "hidden") || (aria && strcasecmp(aria, "true") == 0) ||
           (style && hides(style)) || (role_name && strcasecmp(role_name, "navigation") == 0);
}

static void keep_meta(page *g, const char *name, const char *value) {
    if (!value || !*value || g->has_doc || g->metas.len > PENDING_MAX) return;
    base_buf_append(&g->metas, name, strlen(name) + 1);
    base_buf_append(&g->metas, value, BASE_MIN(strlen(value), (size_t)2000));
    base_buf_append(&g->metas, "", 1);
}

static void note_facts(page *g, const char *name, const xmlChar **atts) {
    static const char *const kept[] = {"author", "description", "keywords", "date"};
    if (strcmp(name, "html") == 0) keep_meta(g, "lang", attribute(atts, "lang"));
    if (strcmp(name, "img") == 0 && !g->skip_from) {
        const char *alt = attribute(atts, "alt");
        if (alt && *alt) {
            add_folded(g, " ", 1);
            add_folded(g, alt, strlen(alt));
            g->space = true;
        }
    }
    const char *meta = strcmp(name, "meta") == 0 ? attribute(atts, "name") : NULL;
    for (size_t i = 0; meta && i < BASE_COUNT(kept); i++)
        if (strcasecmp(meta, kept[i]) == 0) keep_meta(g, kept[i], attribute(atts, "content"));
}

static void begin_cell(page *g, bool head) {
    if (!g->in_row) return flush(g);
    if (g->cells++) {
        base_buf_puts(&g->buf, g->buf.len ? " |" : "");
        g->space = true;
    }
    g->head_row &= head;
}

/* Inside a cell a block only parts words; a heading, list, table or code says it is a layout. */
static void begin_block(page *g, role r) {
    if (g->in_row && (r == ROLE_BLOCK || r == ROLE_ITEM)) {
        g->space = true;
        return;
    }
    const bool layout = g->in_row;
    if (layout) g->in_row = false; /* what the row has gathered is a paragraph */
    flush(g);
}

static void begin_element(page *g, const char *name, role r) {
    switch (r) {
    case ROLE_HEADING:
        begin_block(g, r);
        g->heading = (uint32_t)(name[1] - '0');
        break;
    case ROLE_LIST:
        begin_block(g, r);
        g->lists++;
        break;
    case ROLE_ITEM:
        begin_block(g, r);
        g->items++;
        break;
    case ROLE_PRE:
        begin_block(g, r);
        g->pres++;
        break;
    case ROLE_ROW:
        g->in_row = false;
        flush(g);
        g->in_row = g->head_row = true;
        g->cells = 0;
        break;
    case ROLE_CELL:
        begin_cell(g, name[1] == 'h');
        break;
    case ROLE_BREAK:
        g->space = false;
        base_buf_puts(&g->buf, g->in_row || g->heading ? " " : "\n");
        break;
    case ROLE_BLOCK:
    case ROLE_TABLE:
        begin_block(g, r);
        break;
    case ROLE_TITLE:
        g->in_title = g->title.len == 0 && !g->skip_from;
        break;
    default:
        break;
    }
}

static void on_start(void *user, const xmlChar *tag, const xmlChar **atts) {
    page *g = user;
    const char *name = (const char *)tag;
    role r = role_of(name);
    if (g->st != ROTOR_OK) return;
    if (g->depth >= DEPTH_MAX) {
        check(g, ex_fail(g->x, BASE_REASON_TOO_LARGE, "elements more than %d deep", DEPTH_MAX));
        return;
    }
    /* Words of two tags without space between them stay one word, but not around a drop. */
    if (r != ROLE_SKIP && is_hidden(atts)) r = ROLE_SKIP;
    g->open[g->depth++] = (open_element){name, r};
    note_facts(g, name, atts);
    if (g->skip_from) return;
    if (r == ROLE_SKIP) {
        g->skip_from = g->depth;
        g->space = true;
    } else
        begin_element(g, name, r);
}

static void end_element(page *g, role r) {
    switch (r) {
    case ROLE_HEADING:
        flush(g);
        g->heading = 0;
        break;
    case ROLE_LIST:
        begin_block(g, r);
        if (g->lists) g->lists--;
        break;
    case ROLE_ITEM:
        begin_block(g, r);
        if (g->items) g->items--;
        break;
    case ROLE_PRE:
        begin_block(g, r);
        if (g->pres) g->pres--;
        break;
    case ROLE_ROW:
        g->head_row &= g->cells > 0;
        flush(g);
        g->in_row = false;
        break;
    case ROLE_CELL:
        if (!g->in_row) flush(g);
        break;
    case ROLE_TABLE:
        g->in_row = false;
        flush(g);
        break;
    case ROLE_BLOCK:
        begin_block(g, r);
        break;
    case ROLE_TITLE:
        g->in_title = false;
        break;
    default:
        break;
    }
}

static void close_top(page *g) {
    const role r = g->open[--g->depth].role;
    if (g->skip_from > g->depth)
        g->skip_from = 0;
    else if (!g->skip_from)
        end_element(g, r);
}

/* The parser closes what a page leaves open; a tag that closes nothing is passed over. */
static void on_end(void *user, const xmlChar *tag) {
    page *g = user;
    size_t at = g->depth;
    if (g->st != ROTOR_OK) return;
    while (at > 0 && strcmp(g->open[at - 1].name, (const char *)tag) != 0) at--;
    if (at == 0) return;
    while (g->depth >= at) close_top(g);
}

/* ---- The page ------------------------------------------------------------------------------ */

static rotor_status run_parser(page *g) {
    htmlSAXHandler sax = {0};
    sax.startElement = on_start;
    sax.endElement = on_end;
    sax.characters = sax.ignorableWhitespace = sax.cdataBlock = on_text;
    g->c = htmlCreateMemoryParserCtxt(g->text.p, (int)g->text.n);
    if (!g->c) return ex_nomem(g->x);
    *g->c->sax = sax;
    g->c->userData = g;
    htmlCtxtUseOptions(g->c, HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                 HTML_PARSE_NONET | HTML_PARSE_IGNORE_ENC);
    xmlSwitchEncoding(g->c, XML_CHAR_ENCODING_UTF8);
    htmlParseDocument(g->c);
    if (g->c->myDoc) xmlFreeDoc(g->c->myDoc);
    g->c->myDoc = NULL;
    while (g->st == ROTOR_OK && g->depth > 0) close_top(g);
    flush(g);
    htmlFreeParserCtxt(g->c);
    g->c = NULL;
    return g->st;
}

rotor_status ex_parse_html(ex *x, base_str fallback_title, bool with_doc) {
    page g = {.x = x, .text = x->source->text, .begin = SIZE_MAX, .fallback = fallback_title};
    g.has_doc = !with_doc;
    if (g.text.n > INT32_MAX / 2)
        return ex_fail(x, BASE_REASON_TOO_LARGE, "a page above %d MiB", INT32_MAX / 2 >> 20);
    g.open = base_alloc_array(DEPTH_MAX, sizeof *g.open);
    rotor_status st = g.open ? ROTOR_OK : ex_nomem(x);
    if (st == ROTOR_OK && g.text.n) st = run_parser(&g);
    if (st == ROTOR_OK) st = put_doc(&g, (base_str){0});
    base_free(g.open);
    base_buf_free(&g.buf);
    base_buf_free(&g.title);
    base_buf_free(&g.metas);
    return st;
}

#else

rotor_status ex_parse_html(ex *x, base_str fallback_title, bool with_doc) {
    (void)fallback_title, (void)with_doc;
    return ex_fail(x, BASE_REASON_MISSING_TOOL, "HTML: built without libxml2");
}

#endif

bool ex_html_charset(base_str raw, char label[32]) {
    static const char mark[] = "charset=";
    for (size_t i = 0; i + sizeof mark < BASE_MIN(raw.n, (size_t)2048); i++) {
        if (!ex_starts_with((base_str){raw.p + i, raw.n - i}, mark)) continue;
        size_t at = i + sizeof mark - 1, n = 0;
        while (at < raw.n && (raw.p[at] == '"' || raw.p[at] == '\'' || raw.p[at] == ' ')) at++;
        while (at + n < raw.n && n < 31 && raw.p[at + n] > ' ' && !strchr("\"'/>;", raw.p[at + n]))
            n++;
        memcpy(label, raw.p + at, n);
        label[n] = 0;
        return n > 0;
    }
    return false;
}
