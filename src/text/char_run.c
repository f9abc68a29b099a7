/* SPDX-License-Identifier: MIT
 *
 * Characters of a text by their class: one beyond ASCII, and runs of them. What class a code point
 * has is said by char_class.c, or by its table (char_table.c) in a build without utf8proc.
 */
#include "text/text_internal.h"

size_t text_char_beyond_ascii(const char *s, size_t n, unsigned *cls) {
    int32_t cp;
    size_t len = (size_t)base_utf8_decode(s, n, &cp);
    *cls = text_class_of(cp);
    return len;
}

size_t text_class_run(const char *s, size_t n, size_t i, unsigned mask) {
    while (i < n) {
        unsigned cls;
        size_t len = text_char(s, n, i, &cls);
        if (!(cls & mask)) break;
        i += len;
    }
    return i;
}
