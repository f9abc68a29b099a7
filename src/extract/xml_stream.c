/* SPDX-License-Identifier: MIT
 *
 * XML as a stream of tags and text, by libxml2, for formats that are XML and nothing else.
 *
 * A document type with declarations of its own is refused at once: none of these formats has one,
 * and it is where entities that grow and files from elsewhere come from. No handler for entities is
 * set, so even one that slipped by would stand for nothing. Names come without their prefix.
 */
#include "extract/extract.h"

#if ROTOR_HAVE_LIBXML2
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <limits.h>

typedef struct stream {
    ex *x;              /* for ex_fail */
    const ex_xml *on;   /* what the caller wants */
    xmlParserCtxtPtr c; /* the parser */
    uint32_t depth;     /* elements around */
    rotor_status st;    /* of the first failure */
} stream;

static void check(stream *s, rotor_status st) {
    if (st == ROTOR_OK || s->st != ROTOR_OK) return;
    s->st = st;
    xmlStopParser(s->c);
}

static ex_xml_at place(const stream *s) {
    const xmlParserInputPtr in = s->c->input;
    if (!in) return (ex_xml_at){0};
    return (ex_xml_at){.byte = (uint64_t)in->consumed + (uint64_t)(in->cur - in->base),
                       .line = in->line > 0 ? (uint32_t)in->line : 0};
}

static const char *local(const xmlChar *name) {
    const char *s = (const char *)name, *colon = strchr(s, ':');
    return colon ? colon + 1 : s;
}

static void on_start(void *user, const xmlChar *name, const xmlChar **atts) {
    stream *s = user;
    if (s->st != ROTOR_OK) return;
    if (++s->depth > s->x->limits.depth)
        check(s, ex_fail(s->x, BASE_REASON_TOO_LARGE, "elements more than %u deep",
                         s->x->limits.depth));
    else
        check(s, s->on->start(s->on->user, local(name), (const char *const *)atts, place(s)));
}

static void on_end(void *user, const xmlChar *name) {
    stream *s = user;
    s->depth -= s->depth > 0;
    if (s->st == ROTOR_OK) check(s, s->on->end(s->on->user, local(name), place(s)));
}

static void on_text(void *user, const xmlChar *ch, int n) {
    stream *s = user;
    if (s->st == ROTOR_OK && n > 0)
        check(s, s->on->text(s->on->user, (base_str){(const char *)ch, (size_t)n}));
}

static void on_type(void *user, const xmlChar *name, const xmlChar *id, const xmlChar *system) {
    stream *s = user;
    (void)name, (void)id, (void)system;
    check(s, ex_fail(s->x, BASE_REASON_BROKEN, "an XML document type, which this format has not"));
}

static void quiet(void *user, const xmlError *why) { (void)user, (void)why; }

/* What the library prints by itself, such as bytes that are not of the encoding. */
static void silent(void *user, const char *fmt, ...) { (void)user, (void)fmt; }

static rotor_status ended(stream *s) {
    const xmlError *why = xmlCtxtGetLastError(s->c);
    if (s->st != ROTOR_OK || s->c->wellFormed) return s->st;
    char line[120] = "not well formed";
    if (why && why->message) {
        size_t n = 0;
        for (; n + 1 < sizeof line && why->message[n] && why->message[n] != '\n'; n++)
            line[n] = why->message[n];
        line[n] = 0;
    }
    if (why && why->code == XML_ERR_NO_MEMORY) return ex_nomem(s->x);
    return ex_fail(s->x, BASE_REASON_BROKEN, "XML line %d: %s", why ? why->line : 0, line);
}

/* The first four bytes tell the parser which kind of encoding it is. */
static bool begin(stream *s, base_str head) {
    xmlSAXHandler sax = {0};
    sax.startElement = on_start;
    sax.endElement = on_end;
    sax.characters = sax.ignorableWhitespace = sax.cdataBlock = on_text;
    sax.internalSubset = on_type;
    sax.serror = (xmlStructuredErrorFunc)quiet;
    xmlSetGenericErrorFunc(NULL, silent);
    s->c = xmlCreatePushParserCtxt(&sax, NULL, head.p, (int)BASE_MIN(head.n, (size_t)4), NULL);
    if (!s->c) return false;
    s->c->userData = s;
    xmlCtxtUseOptions(s->c, XML_PARSE_NONET | XML_PARSE_SAX1);
    return true;
}

rotor_status ex_xml_parse(ex *x, const ex_xml *on, base_str head, ex_read_fn read) {
    enum { PIECE = 1 << 16 };
    stream s = {.x = x, .on = on};
    char *piece = base_alloc(PIECE);
    if (!piece || !begin(&s, head)) {
        base_free(piece);
        return ex_nomem(x);
    }
    size_t at = BASE_MIN(head.n, (size_t)4);
    while (at < head.n && s.st == ROTOR_OK && !s.c->errNo) {
        const size_t n = BASE_MIN(head.n - at, (size_t)PIECE);
        xmlParseChunk(s.c, head.p + at, (int)n, 0);
        at += n;
    }
    for (size_t n; read && s.st == ROTOR_OK && !s.c->errNo && (n = read(piece, PIECE)) > 0;)
        xmlParseChunk(s.c, piece, (int)n, 0);
    if (s.st == ROTOR_OK && !s.c->errNo) xmlParseChunk(s.c, NULL, 0, 1);
    const rotor_status st = ended(&s);
    if (s.c->myDoc) xmlFreeDoc(s.c->myDoc);
    xmlFreeParserCtxt(s.c);
    base_free(piece);
    return st;
}

#else

rotor_status ex_xml_parse(ex *x, const ex_xml *on, base_str head, ex_read_fn read) {
    (void)on, (void)head, (void)read;
    return ex_fail(x, BASE_REASON_MISSING_TOOL, "DOCX, EPUB, MediaWiki: built without libxml2");
}

#endif

const char *ex_xml_attribute(const char *const *atts, const char *name) {
    for (; atts && atts[0]; atts += 2) {
        const char *colon = strchr(atts[0], ':');
        if (strcmp(colon ? colon + 1 : atts[0], name) == 0) return atts[1];
    }
    return NULL;
}
