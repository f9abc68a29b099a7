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

bool text_is_word_char(int32_t cp) {
    if (cp < 0) return false;
    utf8proc_category_t c = utf8proc_category(cp);
    return (text_class_of(cp) & (CH_LETTER | CH_MARK)) || c == UTF8PROC_CATEGORY_ND ||
           c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC || cp == 0x200C || cp == 0x200D;
}
