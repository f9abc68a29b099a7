/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: DOCX and EPUB. The first byte says what the rest is: a whole archive (0 DOCX, 1
 * EPUB), or one of the XML files in an archive made here, whose checksums are right: 2 the document
 * and 3 the styles of a DOCX, 4 the container and 5 the package of an EPUB.
 */
#include "document_check.h"

#if ROTOR_HAVE_LIBARCHIVE
#include <archive.h>
#include <archive_entry.h>

enum { ARCHIVE_BYTES = 1 << 18 };

static void put(struct archive *zip, const char *name, const void *data, size_t n) {
    struct archive_entry *e = archive_entry_new();
    if (!e) abort();
    archive_entry_set_pathname(e, name);
    archive_entry_set_size(e, (la_int64_t)n);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    if (archive_write_header(zip, e) != ARCHIVE_OK) abort();
    if (n && archive_write_data(zip, data, n) != (la_ssize_t)n) abort();
    archive_entry_free(e);
}

static void put_text(struct archive *zip, const char *name, const char *text) {
    put(zip, name, text, strlen(text));
}

static void wrap(int which, const uint8_t *data, size_t n) {
    static char bytes[ARCHIVE_BYTES];
    static const char *const names[] = {"word/document.xml", "word/styles.xml",
                                        "META-INF/container.xml", "a/b.opf"};
    size_t used = 0;
    struct archive *zip = archive_write_new();
    if (!zip || n > ARCHIVE_BYTES / 2) abort();
    archive_write_set_format_zip(zip);
    archive_write_zip_set_compression_store(zip);
    if (archive_write_open_memory(zip, bytes, sizeof bytes, &used) != ARCHIVE_OK) abort();
    put(zip, names[which], data, n);
    if (which == 1)
        put_text(zip, names[0],
                 "<d><body><p><pPr><pStyle val=\"h\"/></pPr><r><t>x</t></r></p></body></d>");
    if (which == 3) put_text(zip, names[2], "<c><rootfile full-path=\"a/b.opf\"/></c>");
    if (which >= 2) put_text(zip, "a/c.xhtml", "<h1>y</h1><p>z");
    archive_write_free(zip);
    document_check(which < 2 ? EX_DOCX : EX_EPUB, bytes, used, used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > ARCHIVE_BYTES / 2) return 0;
    const int which = data[0] % 6;
    if (which >= 2)
        wrap(which - 2, data + 1, size - 1);
    else
        document_check(which ? EX_EPUB : EX_DOCX, data + 1, size - 1, size - 1);
    return 0;
}

#else

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size) document_check(data[0] % 2 ? EX_EPUB : EX_DOCX, data + 1, size - 1, size - 1);
    return 0;
}

#endif
