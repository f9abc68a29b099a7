/* SPDX-License-Identifier: MIT
 *
 * DOCX: the paragraphs, headings, list items and table rows of word/document.xml, then the notes.
 *
 * A heading is a paragraph whose style is one: by the style's name ("heading 2", which does not
 * depend on the writer's language) or its outline level, both from word/styles.xml. What a writer
 * deleted under tracked changes is not text; what they inserted is. Of two forms of the same box
 * (AlternateContent) the fallback is passed over.
 *
 * Blocks have no place in the source: it is packed.
 */
#include "extract/extract.h"

enum { STYLES_MAX = 512, STYLE_ID_MAX = 64 };

typedef struct style {
    char id[STYLE_ID_MAX]; /* as paragraphs name it */
    uint32_t level;        /* of the heading it makes */
} style;

typedef struct docx {
    ex *x;                       /* where blocks go */
    style *styles;               /* [STYLES_MAX] owned: those that make headings */
    size_t n_styles;             /* of them */
    char style_id[STYLE_ID_MAX]; /* of the style being read */
    base_buf text;               /* of the paragraph or row so far */
    uint32_t heading;            /* level of this paragraph; 0: none */
    uint32_t list;               /* depth of this item; 0: none */
    uint32_t rows;               /* rows around: a table in a cell is part of its row */
    uint32_t cells;              /* begun in the outermost row */
    uint32_t fallback;           /* depth in a Fallback; 0: not in one */
    bool in_text;                /* inside <t> */
    base_buf *property;          /* where the text of this core property goes; NULL: nowhere */
    base_buf title;              /* dc:title */
    base_buf author;             /* dc:creator */
} docx;

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static rotor_status no_text(void *user, base_str s) {
    (void)user, (void)s;
    return ROTOR_OK;
}

static rotor_status no_end(void *user, const char *name, ex_xml_at at) {
    (void)user, (void)name, (void)at;
    return ROTOR_OK;
}

/* ---- Styles and properties ----------------------------------------------------------------- */

static void add_style(docx *d, uint32_t level) {
    if (!d->style_id[0] || level < 1 || level > 9 || d->n_styles == STYLES_MAX) return;
    style *s = &d->styles[d->n_styles++];
    memcpy(s->id, d->style_id, sizeof s->id);
    s->level = BASE_MIN(level, 6u);
}

static rotor_status style_start(void *user, const char *name, const char *const *atts,
                                ex_xml_at at) {
    docx *d = user;
    (void)at;
    const char *id = ex_xml_attribute(atts, "styleId"), *val = ex_xml_attribute(atts, "val");
    if (is(name, "style")) {
        const size_t n = id ? strlen(id) : 0;
        memset(d->style_id, 0, sizeof d->style_id);
        if (n < sizeof d->style_id && id) memcpy(d->style_id, id, n);
    }
    if (is(name, "name") && val && ex_starts_with(base_str_of(val), "heading "))
        add_style(d, (uint32_t)(val[8] - '0'));
    if (is(name, "name") && val && is(val, "Title")) add_style(d, 1);
    if (is(name, "outlineLvl") && val && val[0] >= '0' && val[0] <= '8')
        add_style(d, (uint32_t)(val[0] - '0') + 1);
    return ROTOR_OK;
}

static uint32_t level_of_style(const docx *d, const char *id) {
    for (size_t i = 0; i < d->n_styles; i++)
        if (is(d->styles[i].id, id)) return d->styles[i].level;
    const bool plain = ex_starts_with(base_str_of(id), "Heading") && id[7] >= '1' && id[7] <= '6';
    return plain && d->n_styles == 0 ? (uint32_t)(id[7] - '0') : 0;
}

static rotor_status core_start(void *user, const char *name, const char *const *atts,
                               ex_xml_at at) {
    docx *d = user;
    (void)atts, (void)at;
    d->property = is(name, "title") ? &d->title : is(name, "creator") ? &d->author : NULL;
    return ROTOR_OK;
}

static rotor_status core_end(void *user, const char *name, ex_xml_at at) {
    docx *d = user;
    (void)name, (void)at;
    d->property = NULL;
    return ROTOR_OK;
}

static rotor_status core_text(void *user, base_str s) {
    docx *d = user;
    if (d->property && d->property->len < 4096) base_buf_append(d->property, s.p, s.n);
    return ROTOR_OK;
}

/* ---- The text ------------------------------------------------------------------------------ */

static rotor_status flush(docx *d, bool row) {
    const base_block_kind kind = row          ? BASE_BLOCK_ROW
                                 : d->heading ? BASE_BLOCK_HEADING
                                 : d->list    ? BASE_BLOCK_LIST
                                              : BASE_BLOCK_PARA;
    const uint32_t level = row ? 0 : d->heading ? d->heading : d->list;
    rotor_status st = d->text.failed ? ex_nomem(d->x) : ROTOR_OK;
    if (st == ROTOR_OK)
        st = ex_put(d->x, kind, level, (base_str){d->text.data, d->text.len}, EX_NOWHERE);
    base_buf_reset(&d->text);
    d->heading = d->list = 0;
    return st;
}

static rotor_status paragraph_start(docx *d) {
    if (!d->rows) return flush(d, false);
    if (d->text.len && d->text.data[d->text.len - 1] != ' ') base_buf_puts(&d->text, " ");
    return ROTOR_OK;
}

static rotor_status text_start(void *user, const char *name, const char *const *atts,
                               ex_xml_at at) {
    docx *d = user;
    const char *val = ex_xml_attribute(atts, "val");
    (void)at;
    if (d->fallback || is(name, "Fallback")) {
        d->fallback++;
        return ROTOR_OK;
    }
    if (is(name, "p")) return paragraph_start(d);
    if (is(name, "tr") && d->rows++ == 0) {
        d->cells = 0;
        return flush(d, false);
    }
    if (is(name, "tc") && d->rows && d->cells++ && d->text.len) base_buf_puts(&d->text, " | ");
    if (is(name, "t")) d->in_text = true;
    if (is(name, "tab")) base_buf_puts(&d->text, "\t");
    if (is(name, "br") || is(name, "cr")) base_buf_puts(&d->text, d->rows ? " " : "\n");
    if (is(name, "noBreakHyphen")) base_buf_puts(&d->text, "-");
    if (is(name, "pStyle") && val) d->heading = level_of_style(d, val);
    if (is(name, "outlineLvl") && val && val[0] >= '0' && val[0] <= '5')
        d->heading = (uint32_t)(val[0] - '0') + 1;
    if (is(name, "numPr")) d->list = BASE_MAX(d->list, 1u);
    if (is(name, "ilvl") && val && val[0] >= '0' && val[0] <= '9')
        d->list = (uint32_t)(val[0] - '0') + 1;
    return ROTOR_OK;
}

static rotor_status text_end(void *user, const char *name, ex_xml_at at) {
    docx *d = user;
    (void)at;
    if (d->fallback) {
        d->fallback--;
        return ROTOR_OK;
    }
    if (is(name, "t")) d->in_text = false;
    if (is(name, "p") && !d->rows) return flush(d, false);
    if (is(name, "tr") && d->rows && --d->rows == 0) return flush(d, true);
    return ROTOR_OK;
}

static rotor_status text_text(void *user, base_str s) {
    docx *d = user;
    if (d->in_text && !d->fallback) base_buf_append(&d->text, s.p, s.n);
    return d->text.failed ? ex_nomem(d->x) : ROTOR_OK;
}

/* ---- The archive --------------------------------------------------------------------------- */

static rotor_status parse_part(docx *d, const ex_archive *a, const char *entry, const ex_xml *on) {
    base_str data;
    return ex_archive_get(a, entry, &data) ? ex_xml_parse(d->x, on, data, NULL) : ROTOR_OK;
}

static rotor_status parse_all(docx *d, const ex_archive *a, const char *name) {
    const ex_xml core = {core_start, core_end, core_text, d};
    const ex_xml styles = {style_start, no_end, no_text, d};
    const ex_xml text = {text_start, text_end, text_text, d};
    base_str document;
    if (!ex_archive_get(a, "word/document.xml", &document))
        return ex_fail(d->x, BASE_REASON_BROKEN, "an archive without word/document.xml");
    ROTOR_TRY(parse_part(d, a, "docProps/core.xml", &core));
    ROTOR_TRY(parse_part(d, a, "word/styles.xml", &styles));
    const base_str title = {d->title.data, d->title.len};
    ROTOR_TRY(
        ex_put(d->x, BASE_BLOCK_DOC, 0, ex_blank(title) ? ex_file_title(name) : title, EX_NOWHERE));
    ROTOR_TRY(ex_put_meta(d->x, "author", (base_str){d->author.data, d->author.len}));
    ROTOR_TRY(ex_xml_parse(d->x, &text, document, NULL));
    ROTOR_TRY(flush(d, false));
    d->rows = d->fallback = 0;
    ROTOR_TRY(parse_part(d, a, "word/footnotes.xml", &text));
    ROTOR_TRY(parse_part(d, a, "word/endnotes.xml", &text));
    return flush(d, false);
}

rotor_status ex_parse_docx(ex *x, base_str raw, const char *name) {
    docx d = {.x = x};
    ex_archive *a = NULL;
    d.styles = base_alloc_array(STYLES_MAX, sizeof *d.styles);
    rotor_status st = d.styles ? ex_archive_open(x, &a, raw) : ex_nomem(x);
    if (st == ROTOR_OK) st = parse_all(&d, a, name);
    ex_archive_close(&a);
    base_free(d.styles);
    base_buf_free(&d.text);
    base_buf_free(&d.title);
    base_buf_free(&d.author);
    return st;
}
