/* SPDX-License-Identifier: MIT
 *
 * extract: documents of many formats as one stream of blocks. What the parsers share.
 *
 * A parser gets the bytes of a file (or a reader of them) and calls ex_put for each heading,
 * paragraph, row ... in reading order, with where in the source it stands. ex_put cleans the text,
 * finds the source lines, counts against the limits and passes the block on. A parser that fails
 * says why with ex_fail: a reason and one sentence.
 *
 * Everything here runs in a limited child (base_extract_run): it is not told the file's path,
 * opens nothing, and is killed when it takes too long. The limits below come first and say more.
 * Threading: one document, one thread, one process.
 */
#ifndef EXTRACT_H
#define EXTRACT_H

#include "base/base.h"

typedef enum ex_type {
    EX_AUTO, /* by content and name */
    EX_TEXT,
    EX_MARKDOWN,
    EX_HTML,
    EX_PDF,
    EX_DOCX,
    EX_EPUB,
    EX_CSV,
    EX_TSV,
    EX_JSON,
    EX_JSONL,
    EX_CODE,
    EX_EML,
    EX_MBOX,
    EX_WIKI,
    EX_TYPES
} ex_type;
const char *ex_type_name(ex_type t);
ex_type ex_type_of_name(const char *name); /* EX_TYPES: there is no such type */

typedef struct ex_limits {
    uint64_t text_file_bytes;  /* of a file that is text itself */
    uint64_t other_file_bytes; /* of a container, a mailbox, lines of JSON */
    uint64_t text_bytes;       /* of all blocks */
    uint64_t blocks;           /* their number */
    uint64_t unpacked_bytes;   /* of an archive in all */
    uint32_t unpacked_ratio;   /* unpacked : packed, beyond the first MiB */
    uint32_t entries;          /* of an archive */
    uint32_t pages;            /* of a PDF */
    uint32_t depth;            /* elements, values, parts within one another */
    uint32_t tool_ms;          /* time by the clock for a program that a parser runs */
} ex_limits;
ex_limits ex_limits_default(void);

/* ---- The source as UTF-8, with a way back (extract_source.c) ---- */

typedef enum ex_encoding { EX_UTF8, EX_UTF16LE, EX_UTF16BE, EX_WINDOWS1252 } ex_encoding;

typedef struct ex_place {
    size_t text; /* offset into the text */
    size_t raw;  /* offset into the source bytes */
    size_t line; /* from 0 */
} ex_place;

typedef struct ex_source {
    base_str text;        /* UTF-8, valid */
    base_str raw;         /* borrowed: the bytes as they came */
    ex_encoding encoding; /* of raw */
    size_t bom_bytes;     /* at the front of raw, not in text */
    base_buf own;         /* text, where it had to be made */
    ex_place *marks;      /* [n_marks] owned: the place at each 16 KiB of text */
    size_t n_marks;       /* at least 1 */
    ex_place last;        /* where the last look ended */
} ex_source;

/* One document on its way out. */
typedef struct ex {
    ex_limits limits;      /* what it may take */
    base_block_fn fn;      /* gets each block */
    void *user;            /* for fn */
    const char *pdftotext; /* path; NULL: where programs usually are */
    ex_source *source;     /* offsets of spans are into its text; NULL: there is no way back */
    uint64_t base_bytes;   /* where the source begins in the file: a part of it */
    uint32_t base_lines;   /* lines of the file before it */
    bool fixed;            /* all blocks get the span below: what they came from was packed */
    base_block where;      /* that span; of all fields only these */
    uint32_t page;         /* that began last; 0: none */
    uint64_t n_text;       /* bytes passed on */
    uint64_t n_blocks;     /* of text passed on, DOC, META and PAGE left out */
    base_buf clean;        /* scratch of ex_put */
    base_reason reason;    /* of the failure */
    rotor_error *err;      /* its sentence */
} ex;

typedef struct ex_span {
    size_t begin; /* offset into the source's text */
    size_t end;   /* both 0: nowhere */
} ex_span;
#define EX_NOWHERE ((ex_span){0, 0})

/* Decodes all of raw. Fails with BASE_REASON_NOT_TEXT when it is none. label: the charset that the
 * document names, NULL or unknown: by its bytes. */
rotor_status ex_source_open(ex *x, ex_source *s, base_str raw, const char *label);
void ex_source_close(ex_source *s);
/* Appends bytes of a charset as UTF-8: those of ex_source_open's labels, others as Windows-1252. */
bool ex_to_utf8(base_buf *to, base_str bytes, const char *charset);
ex_place ex_source_at(ex_source *s, size_t text_offset);
/* The line that begins at `at`, without its end; *next is where the next one begins. */
base_str ex_line(base_str text, size_t at, size_t *next);
bool ex_blank(base_str s); /* nothing but white space */
base_str ex_trim(base_str s);
bool ex_ends_with(const char *name, const char *ending); /* ASCII case does not count */
bool ex_starts_with(base_str s, const char *beginning);  /* ASCII case does not count */

/* ---- Out (extract_emit.c) ---- */

/* Text that is blank once cleaned is left out, but for DOC. Longer text than a block holds becomes
 * several blocks of the same span. */
rotor_status ex_put(ex *x, base_block_kind kind, uint32_t level, base_str text, ex_span at);
rotor_status ex_put_meta(ex *x, const char *name, base_str value);
rotor_status ex_put_note(ex *x, const char *fmt, ...) BASE_PRINTF(2, 3);
rotor_status ex_put_page(ex *x, uint32_t page);
rotor_status ex_fail(ex *x, base_reason reason, const char *fmt, ...) BASE_PRINTF(3, 4);
rotor_status ex_nomem(ex *x);
void ex_close(ex *x); /* frees the scratch */

/* Appends without controls (but \n and \t), zero-width and direction marks, in NFC. Invalid bytes
 * become U+FFFD; "\r\n" and "\r" become "\n". */
bool ex_clean(base_buf *to, base_str text);
/* As ex_clean, with runs of white space as one space and none at either end. */
bool ex_clean_line(base_buf *to, base_str text);
/* The character that an entity without & and ; stands for ("amp", "#x41"); 0: not known. */
uint32_t ex_entity(base_str name);

/* ---- Parsers ---- */

/* By content first, then by name (NULL: none). head: the beginning of the file, all of a small one.
 * EX_TYPES: what it is, is none of ours; *what says what, static. */
ex_type ex_detect(base_str head, const char *name, const char **what);

/* All of a document: DOC first. raw: the whole file. name may be NULL. */
rotor_status ex_document(ex *x, ex_type type, base_str raw, const char *name);
/* Bounded by other_file_bytes, not text_file_bytes. */
bool ex_is_large(ex_type type);
/* One line for each optional part: "libxml2: yes (HTML, ...)\n" or "libxml2: no (...)\n". */
const char *ex_features(void);

/* These parse x->source, which is open; DOC has been put where the file is one document, except by
 * those that find the title themselves: text, Markdown, HTML. */
rotor_status ex_parse_text(ex *x, const char *name);
rotor_status ex_put_paragraphs(ex *x); /* of a text, without DOC */
rotor_status ex_parse_markdown(ex *x, const char *name);
rotor_status ex_parse_code(ex *x, const char *name);
rotor_status ex_parse_table(ex *x, char separator);
rotor_status ex_parse_json(ex *x);
rotor_status ex_parse_jsonl(ex *x);
/* One letter, or a box of them (each a document). These read bytes: parts differ in encoding. */
rotor_status ex_parse_letters(ex *x, base_str raw, bool box);
/* name: a title where the page has none, may be NULL; with_doc: put DOC first. */
rotor_status ex_parse_html(ex *x, base_str fallback_title, bool with_doc);
/* The charset that a page names in its head: at most 31 bytes and a zero; false: none. */
bool ex_html_charset(base_str raw, char label[32]);

/* These take the file's bytes. */
rotor_status ex_parse_docx(ex *x, base_str raw, const char *name);
rotor_status ex_parse_epub(ex *x, base_str raw, const char *name);
/* Reads descriptor 0 through pdftotext, from its start. */
rotor_status ex_parse_pdf(ex *x, const char *name);
/* A dump of wiki pages: head is what was read of it; read(p, n) gives more, 0 at the end. */
typedef size_t (*ex_read_fn)(char *p, size_t n);
rotor_status ex_parse_wiki(ex *x, base_str head, ex_read_fn read);

/* The blocks of one wiki page; first_line: of its text in the file. Spans other than lines are
 * those of x->where. */
rotor_status ex_put_wikitext(ex *x, base_str text, uint32_t first_line);

base_str ex_file_title(const char *name); /* its last part; empty when there is none */

/* ---- Archives (archive.c) ---- */

typedef struct ex_archive ex_archive;
/* Unpacks the entries that are markup. */
rotor_status ex_archive_open(ex *x, ex_archive **out, base_str raw);
void ex_archive_close(ex_archive **a);
/* The unpacked bytes of an entry, borrowed from the archive; false: there is no such text in it. */
bool ex_archive_get(const ex_archive *a, const char *name, base_str *out);

/* ---- XML (xml_stream.c) ---- */

typedef struct ex_xml_at {
    uint64_t
        byte; /* of the parser's place in what it was given: after a tag's name and attributes */
    uint32_t line; /* from 1 */
} ex_xml_at;
/* Names are without prefix; atts: name, value, ..., NULL, or NULL. */
typedef struct ex_xml {
    rotor_status (*start)(void *user, const char *name, const char *const *atts, ex_xml_at at);
    rotor_status (*end)(void *user, const char *name, ex_xml_at at);
    rotor_status (*text)(void *user, base_str s);
    void *user; /* for the three */
} ex_xml;
/* head, then what read gives (NULL: nothing more). */
rotor_status ex_xml_parse(ex *x, const ex_xml *on, base_str head, ex_read_fn read);
const char *ex_xml_attribute(const char *const *atts, const char *name); /* NULL: there is none */

/* ---- Letters' encodings (mime.c) ---- */

bool ex_decode_quoted(base_buf *to, base_str s); /* quoted-printable */
bool ex_decode_base64(base_buf *to, base_str s); /* what is not of its alphabet is passed over */
/* A header value with encoded words (RFC 2047), in UTF-8. */
bool ex_decode_header(base_buf *to, base_str s);

#endif
