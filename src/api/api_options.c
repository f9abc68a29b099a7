/* SPDX-License-Identifier: MIT
 *
 * Version, features, and the rule by which option structs of older and newer programs are read.
 *
 * An option struct begins with its size. Fields are only ever added, at the end, and sizes are
 * multiples of 8, so the part that both sides know is a prefix of whole fields.
 */
#include "api/api_internal.h"

#include <assert.h>

const char *rotor_version(void) { return ROTOR_VERSION; }

const char *rotor_features(void) {
    return
#ifdef ROTOR_HAVE_PCRE2
        "pcre2: on (regular expressions of a tokenizer.json)\n"
#else
        "pcre2: off (built without PCRE2: only the named pre-tokenizers of a tokenizer.json)\n"
#endif
#ifdef ROTOR_HAVE_SQLITE
        "sqlite: on (knowledge stores: rotor rag)\n"
#else
        "sqlite: off (built without SQLite: no rotor rag)\n"
#endif
#ifdef ROTOR_HAVE_LIBEDIT
        "libedit: on (line editing in rotor chat)\n"
#else
        "libedit: off (built without libedit: no line editing in rotor chat)\n"
#endif
#ifdef ROTOR_HAVE_MICROHTTPD
        "libmicrohttpd: on (rotor serve; loaded when it is needed)\n"
#else
        "libmicrohttpd: off (built without libmicrohttpd: no rotor serve)\n"
#endif
#ifdef ROTOR_HAVE_LIBXML2
        "libxml2: on (documents: HTML, DOCX, EPUB, MediaWiki dumps)\n"
#else
        "libxml2: off (built without libxml2: no HTML, DOCX, EPUB or MediaWiki documents)\n"
#endif
#ifdef ROTOR_HAVE_LIBARCHIVE
        "libarchive: on (documents: DOCX, EPUB)\n"
#else
        "libarchive: off (built without libarchive: no DOCX or EPUB documents)\n"
#endif
#ifdef ROTOR_HAVE_MD4C
        "md4c: on (documents: Markdown)\n";
#else
        "md4c: off (built without md4c: Markdown by its headings, fences and blank lines)\n";
#endif
}

rotor_status api_take_options(void *dst, size_t dst_bytes, const void *src, const char *what,
                              rotor_error *err) {
    assert(dst_bytes % 8 == 0);
    if (!src) return ROTOR_OK;
    uint32_t src_bytes, own = (uint32_t)dst_bytes;
    memcpy(&src_bytes, src, sizeof src_bytes);
    if (src_bytes < 8 || src_bytes % 8 != 0 || src_bytes > 65536)
        return base_fail(err, ROTOR_E_ARG,
                         "%s: size is %u, expected %u (use its _default function)", what, src_bytes,
                         own);
    const uint8_t *bytes = src;
    for (size_t i = dst_bytes; i < src_bytes; i++)
        if (bytes[i])
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "%s: byte %zu is set, this library knows only %u bytes (it is older "
                             "than the program)",
                             what, i, own);
    memcpy(dst, src, BASE_MIN(dst_bytes, (size_t)src_bytes));
    memcpy(dst, &own, sizeof own);
    return ROTOR_OK;
}

uint32_t *api_take_ids(text_ids *ids) {
    uint32_t *out = ids->ids ? ids->ids : base_alloc(sizeof *out);
    if (out) memset(ids, 0, sizeof *ids);
    return out;
}

char *api_take_text(base_buf *buf) {
    char *out = buf->data ? buf->data : base_alloc(1);
    if (out) memset(buf, 0, sizeof *buf);
    return out;
}
