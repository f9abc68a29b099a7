/* SPDX-License-Identifier: MIT
 *
 * MediaWiki's XML dumps, of any size: read as a stream, each page a document of its own, put when
 * its text is whole.
 *
 * Redirects, talk, users, files, templates and other pages that are not text are passed over. A
 * block's lines are those of the dump; its bytes are those of its page.
 */
#include "extract/extract.h"

#include <stdlib.h>

enum { PAGE_TEXT_MAX = 16 << 20 };

typedef struct dump {
    ex *x;                        /* where blocks go */
    base_buf title, ns, id, text; /* of the page so far */
    base_buf *to;                 /* which of them text goes to; NULL: none */
    uint64_t page_begin;          /* byte of the page's tag */
    uint32_t first_line;          /* of its text */
    bool in_page;                 /* inside <page> */
    bool in_revision;             /* whose id is not the page's */
    bool redirect;                /* the page is one */
    bool too_long;                /* its text was cut */
} dump;

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static void new_page(dump *d, ex_xml_at at) {
    base_buf_reset(&d->title);
    base_buf_reset(&d->ns);
    base_buf_reset(&d->id);
    base_buf_reset(&d->text);
    d->in_page = true;
    d->in_revision = d->redirect = d->too_long = false;
    d->page_begin = at.byte;
}

static rotor_status on_start(void *user, const char *name, const char *const *atts, ex_xml_at at) {
    dump *d = user;
    (void)atts;
    d->to = NULL;
    if (is(name, "page")) new_page(d, at);
    if (!d->in_page) return ROTOR_OK;
    if (is(name, "revision")) d->in_revision = true;
    if (is(name, "redirect")) d->redirect = true;
    if (is(name, "title") && !d->in_revision) d->to = &d->title;
    if (is(name, "ns") && !d->in_revision) d->to = &d->ns;
    if (is(name, "id") && !d->in_revision) d->to = &d->id;
    if (is(name, "text")) {
        base_buf_reset(&d->text); /* of several revisions the last one counts */
        d->to = &d->text;
        d->first_line = at.line;
    }
    return ROTOR_OK;
}

static rotor_status on_text(void *user, base_str s) {
    dump *d = user;
    if (!d->to) return ROTOR_OK;
    if (d->to->len + s.n > (d->to == &d->text ? (size_t)PAGE_TEXT_MAX : (size_t)4096)) {
        d->too_long = true;
        return ROTOR_OK;
    }
    return base_buf_append(d->to, s.p, s.n) ? ROTOR_OK : ex_nomem(d->x);
}

/* Main pages, the project's own, help, and the even ones a wiki adds, but for its programs. */
static bool is_wanted(const dump *d) {
    const long ns = d->ns.len ? strtol(d->ns.data, NULL, 10) : 0;
    return !d->redirect && d->text.len &&
           !ex_starts_with((base_str){d->text.data, d->text.len}, "#redirect") &&
           (ns == 0 || ns == 4 || ns == 12 || (ns >= 100 && ns % 2 == 0 && ns != 828));
}

static rotor_status put_page(dump *d, uint64_t end) {
    ex *x = d->x;
    x->fixed = true;
    x->where = (base_block){.byte_begin = d->page_begin, .byte_end = end};
    rotor_status st =
        ex_put(x, BASE_BLOCK_DOC, 0, (base_str){d->title.data, d->title.len}, EX_NOWHERE);
    if (st == ROTOR_OK) st = ex_put_meta(x, "id", (base_str){d->id.data, d->id.len});
    if (st == ROTOR_OK)
        st = ex_put_wikitext(x, (base_str){d->text.data, d->text.len}, d->first_line);
    if (st == ROTOR_OK && d->too_long)
        st = ex_put_note(x, "a page above %d MiB was cut", PAGE_TEXT_MAX >> 20);
    x->fixed = false;
    return st;
}

static rotor_status on_end(void *user, const char *name, ex_xml_at at) {
    dump *d = user;
    d->to = NULL;
    if (is(name, "revision")) d->in_revision = false;
    if (!d->in_page || !is(name, "page")) return ROTOR_OK;
    d->in_page = false;
    return is_wanted(d) ? put_page(d, at.byte) : ROTOR_OK;
}

rotor_status ex_parse_wiki(ex *x, base_str head, ex_read_fn read) {
    dump d = {.x = x};
    const ex_xml on = {on_start, on_end, on_text, &d};
    const rotor_status st = ex_xml_parse(x, &on, head, read);
    base_buf_free(&d.title);
    base_buf_free(&d.ns);
    base_buf_free(&d.id);
    base_buf_free(&d.text);
    return st;
}
