/* SPDX-License-Identifier: MIT
 *
 * Classes of code points: the general category folded to what pre-tokenizers distinguish.
 *
 * Categories come from utf8proc (Unicode 15 in version 2.8). White space is the White_Space
 * property, which is not the same as category Z: it has the controls U+0009-000D and U+0085.
 * Unassigned code points and bytes that are not UTF-8 fall in "other".
 */
#include "text/text_internal.h"

#include <utf8proc.h>

#define R CH_REST
#define P CH_PUNCT
#define U CH_UPPER
#define L CH_LOWER
#define N CH_NUMBER
#define S CH_SPACE
#define E (CH_SPACE | CH_NEWLINE)
/* clang-format off */
const uint16_t text_ascii_class[128] = {
    R, R, R, R, R, R, R, R, R, S, E, S, S, E, R, R, /* 00 */
    R, R, R, R, R, R, R, R, R, R, R, R, R, R, R, R, /* 10 */
    S, P, P, P, R, P, P, P, P, P, P, R, P, P, P, P, /* 20: $ and + are symbols */
    N, N, N, N, N, N, N, N, N, N, P, P, R, R, R, P, /* 30: < = > are symbols */
    P, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, /* 40 */
    U, U, U, U, U, U, U, U, U, U, U, P, P, P, R, P, /* 50: ^ is a symbol */
    R, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, /* 60: ` is a symbol */
    L, L, L, L, L, L, L, L, L, L, L, P, R, P, R, R, /* 70: | and ~ are symbols */
};
/* clang-format on */

static bool wide_space(int32_t cp) {
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

unsigned text_class_of(int32_t cp) {
    if (cp < 0) return CH_BAD;
    if (cp < 0x80) return text_ascii_class[cp];
    if (wide_space(cp)) return CH_SPACE;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return CH_UPPER;
    case UTF8PROC_CATEGORY_LL:
        return CH_LOWER;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CH_CASELESS;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CH_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CH_NUMBER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return CH_PUNCT;
    default:
        return CH_REST;
    }
}

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

bool text_is_word_char(int32_t cp) {
    if (cp < 0) return false;
    utf8proc_category_t c = utf8proc_category(cp);
    return (text_class_of(cp) & (CH_LETTER | CH_MARK)) || c == UTF8PROC_CATEGORY_ND ||
           c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC || cp == 0x200C || cp == 0x200D;
}
