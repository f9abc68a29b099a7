/* SPDX-License-Identifier: MIT
 *
 * EPUB: pages of XHTML in the order of the book's spine.
 *
 * META-INF/container.xml names the package file; that gives title, author and language, the list of
 * files (manifest) and their order (spine). Each file then goes through the HTML parser, with a
 * META "part" that names it. A file that is named and not there is noted, not fatal.
 *
 * Blocks have no place in the source: it is packed.
 */
#include "extract/extract.h"

enum { ITEMS_MAX = 10000, PATH_MAX_BYTES = 1024 };

typedef struct item {
    char *id;   /* owned */
    char *href; /* owned; from the package file's folder */
} item;

typedef struct epub {
    ex *x;                            /* where blocks go */
    char *package;                    /* owned; path of the package file */
    item *items;                      /* [ITEMS_MAX] owned: the manifest */
    size_t n_items;                   /* of it */
    uint16_t *spine;                  /* [ITEMS_MAX] owned: items in reading order */
    size_t n_spine;                   /* of it */
    base_buf title, author, language; /* of the book */
    base_buf *property;               /* which of them the text goes to; NULL: none */
} epub;

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* ---- The two XML files --------------------------------------------------------------------- */

static rotor_status on_start(void *user, const char *name, const char *const *atts, ex_xml_at at) {
    epub *e = user;
    (void)at;
    const char *path = ex_xml_attribute(atts, "full-path"), *id = ex_xml_attribute(atts, "id");
    const char *href = ex_xml_attribute(atts, "href"), *ref = ex_xml_attribute(atts, "idref");
    e->property = is(name, "title")      ? &e->title
                  : is(name, "creator")  ? &e->author
                  : is(name, "language") ? &e->language
                                         : NULL;
    if (e->property && e->property->len) e->property = NULL; /* the first of each */
    if (is(name, "rootfile") && path && !e->package && !(e->package = base_strdup(path)))
        return ex_nomem(e->x);
    if (is(name, "item") && id && href && e->n_items < ITEMS_MAX) {
        item *i = &e->items[e->n_items];
        i->id = base_strdup(id);
        i->href = base_strdup(href);
        e->n_items++;
        if (!i->id || !i->href) return ex_nomem(e->x);
    }
    for (size_t i = 0; is(name, "itemref") && ref && i < e->n_items && e->n_spine < ITEMS_MAX; i++)
        if (is(e->items[i].id, ref)) {
            e->spine[e->n_spine++] = (uint16_t)i;
            break;
        }
    return ROTOR_OK;
}

static rotor_status on_end(void *user, const char *name, ex_xml_at at) {
    (void)name, (void)at;
    ((epub *)user)->property = NULL;
    return ROTOR_OK;
}

static rotor_status on_text(void *user, base_str s) {
    epub *e = user;
    if (e->property && e->property->len < 4096) base_buf_append(e->property, s.p, s.n);
    return ROTOR_OK;
}

/* ---- Parts --------------------------------------------------------------------------------- */

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The entry that href means: %20 undone, the anchor cut off, from the package file's folder. */
static bool entry_of(const epub *e, const char *href, char path[PATH_MAX_BYTES]) {
    const char *slash = strrchr(e->package, '/');
    size_t n = slash ? (size_t)(slash - e->package) + 1 : 0;
    if (n + strlen(href) >= PATH_MAX_BYTES) return false;
    memcpy(path, e->package, n);
    for (; *href && *href != '#'; href++) {
        if (strncmp(href, "../", 3) == 0 && n > 0) {
            n--;
            while (n > 0 && path[n - 1] != '/') n--;
            href += 2;
            continue;
        }
        const bool coded = *href == '%' && hex(href[1]) >= 0 && hex(href[2]) >= 0;
        path[n++] = coded ? (char)(hex(href[1]) * 16 + hex(href[2])) : *href;
        if (coded) href += 2;
    }
    path[n] = 0;
    return true;
}

static rotor_status parse_part(epub *e, const ex_archive *a, const char *href) {
    char path[PATH_MAX_BYTES];
    ex_source source;
    base_str data;
    if (!entry_of(e, href, path) || !ex_archive_get(a, path, &data))
        return ex_put_note(e->x, "the book's part %.150s is not in it", href);
    ROTOR_TRY(ex_put_meta(e->x, "part", base_str_of(path)));
    rotor_status st = ex_source_open(e->x, &source, data, NULL);
    if (st == ROTOR_OK) {
        e->x->source = &source;
        e->x->fixed = true; /* places in the part are none in the file */
        e->x->where = (base_block){0};
        st = ex_parse_html(e->x, (base_str){0}, false);
        e->x->source = NULL;
        e->x->fixed = false;
    }
    ex_source_close(&source);
    return st;
}

/* Names of encrypted files stand in META-INF/encryption.xml; fonts among them do not matter. */
static bool is_encrypted(const epub *e, const ex_archive *a) {
    base_str list;
    if (!ex_archive_get(a, "META-INF/encryption.xml", &list)) return false;
    for (size_t i = 0; i < e->n_spine; i++) {
        const char *href = e->items[e->spine[i]].href;
        for (size_t at = 0; at < list.n; at++)
            if (ex_starts_with((base_str){list.p + at, list.n - at}, href)) return true;
        break; /* they are all encrypted, or none */
    }
    return false;
}

static rotor_status parse_book(epub *e, const ex_archive *a, const char *name) {
    const ex_xml on = {on_start, on_end, on_text, e};
    base_str data;
    if (!ex_archive_get(a, "META-INF/container.xml", &data))
        return ex_fail(e->x, BASE_REASON_BROKEN, "an archive without META-INF/container.xml");
    ROTOR_TRY(ex_xml_parse(e->x, &on, data, NULL));
    if (!e->package || !ex_archive_get(a, e->package, &data))
        return ex_fail(e->x, BASE_REASON_BROKEN, "the book's package file is not in it");
    ROTOR_TRY(ex_xml_parse(e->x, &on, data, NULL));
    if (is_encrypted(e, a))
        return ex_fail(e->x, BASE_REASON_ENCRYPTED, "this book is locked to a reader's account");
    const base_str title = {e->title.data, e->title.len};
    ROTOR_TRY(
        ex_put(e->x, BASE_BLOCK_DOC, 0, ex_blank(title) ? ex_file_title(name) : title, EX_NOWHERE));
    ROTOR_TRY(ex_put_meta(e->x, "author", (base_str){e->author.data, e->author.len}));
    ROTOR_TRY(ex_put_meta(e->x, "lang", (base_str){e->language.data, e->language.len}));
    for (size_t i = 0; i < e->n_spine; i++) ROTOR_TRY(parse_part(e, a, e->items[e->spine[i]].href));
    return ROTOR_OK;
}

rotor_status ex_parse_epub(ex *x, base_str raw, const char *name) {
    epub e = {.x = x};
    ex_archive *a = NULL;
    e.items = base_alloc_array(ITEMS_MAX, sizeof *e.items);
    e.spine = base_alloc_array(ITEMS_MAX, sizeof *e.spine);
    rotor_status st = e.items && e.spine ? ex_archive_open(x, &a, raw) : ex_nomem(x);
    if (st == ROTOR_OK) st = parse_book(&e, a, name);
    ex_archive_close(&a);
    for (size_t i = 0; i < e.n_items && e.items; i++) {
        base_free(e.items[i].id);
        base_free(e.items[i].href);
    }
    base_free(e.items);
    base_free(e.spine);
    base_free(e.package);
    base_buf_free(&e.title);
    base_buf_free(&e.author);
    base_buf_free(&e.language);
    return st;
}
