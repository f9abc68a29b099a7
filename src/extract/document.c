/* SPDX-License-Identifier: MIT
 *
 * One file of a known type: its bytes made text where it is text, then its parser. And which
 * parsers this build has.
 */
#include "extract/extract.h"

const char *ex_features(void) {
    return
#if ROTOR_HAVE_LIBXML2
        "libxml2: yes (HTML, DOCX, EPUB, MediaWiki)\n"
#else
        "libxml2: no (HTML, DOCX, EPUB, MediaWiki are not read)\n"
#endif
#if ROTOR_HAVE_LIBARCHIVE
        "libarchive: yes (DOCX, EPUB)\n"
#else
        "libarchive: no (DOCX, EPUB are not read)\n"
#endif
#if ROTOR_HAVE_MD4C
        "md4c: yes (Markdown)\n"
#else
        "md4c: no (Markdown is read by its headings, fences, lists and blank lines)\n"
#endif
        ;
}

bool ex_is_large(ex_type type) {
    switch (type) {
    case EX_PDF:
    case EX_DOCX:
    case EX_EPUB:
    case EX_CSV:
    case EX_TSV:
    case EX_JSONL:
    case EX_MBOX:
        return true;
    default:
        return false;
    }
}

static rotor_status put_doc(ex *x, const char *name) {
    return ex_put(x, BASE_BLOCK_DOC, 0, ex_file_title(name), EX_NOWHERE);
}

static rotor_status parse_source(ex *x, ex_type type, const char *name) {
    const bool titled = type == EX_TEXT || type == EX_MARKDOWN || type == EX_HTML;
    if (!titled && type != EX_JSONL) ROTOR_TRY(put_doc(x, name));
    switch (type) {
    case EX_MARKDOWN:
        return ex_parse_markdown(x, name);
    case EX_HTML:
        return ex_parse_html(x, ex_file_title(name), true);
    case EX_CSV:
        return ex_parse_table(x, ',');
    case EX_TSV:
        return ex_parse_table(x, '\t');
    case EX_JSON:
        return ex_parse_json(x);
    case EX_JSONL:
        return ex_parse_jsonl(x);
    case EX_CODE:
        return ex_parse_code(x, name);
    default:
        return ex_parse_text(x, name);
    }
}

static rotor_status of_text(ex *x, ex_type type, base_str raw, const char *name) {
    ex_source source;
    char label[32];
    const bool labelled = type == EX_HTML && ex_html_charset(raw, label);
    rotor_status st = ex_source_open(x, &source, raw, labelled ? label : NULL);
    if (st == ROTOR_OK) {
        x->source = &source;
        st = parse_source(x, type, name);
        x->source = NULL;
    }
    ex_source_close(&source);
    return st;
}

rotor_status ex_document(ex *x, ex_type type, base_str raw, const char *name) {
    switch (type) {
    case EX_PDF:
        return ex_parse_pdf(x, name);
    case EX_DOCX:
        return ex_parse_docx(x, raw, name);
    case EX_EPUB:
        return ex_parse_epub(x, raw, name);
    case EX_EML:
        return ex_parse_letters(x, raw, false);
    case EX_MBOX:
        return ex_parse_letters(x, raw, true);
    default:
        return of_text(x, type, raw, name);
    }
}
