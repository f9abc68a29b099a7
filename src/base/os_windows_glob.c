/* SPDX-License-Identifier: MIT
 *
 * Names held against patterns, for a system whose C library does not (fnmatch.h of this folder's
 * windows/). A '*' that does not fit is tried again one letter on, and only the last one is: that
 * is enough, and a long name costs at most its length times the pattern's.
 */
#include "base/base.h"

#include <fnmatch.h>

/* The end of [a-z] or [!a-z], NULL if it has none; *in says whether c is in it. */
static const char *bracket(const char *p, unsigned char c, bool *in) {
    const bool not_in = *p == '!' || *p == '^';
    bool found = false;
    if (not_in) p++;
    for (bool first = true; *p && (first || *p != ']'); first = false) {
        if (*p == '\\' && p[1]) p++;
        const unsigned char low = (unsigned char)*p++;
        unsigned char high = low;
        if (*p == '-' && p[1] && p[1] != ']') {
            high = (unsigned char)p[1];
            p += 2;
        }
        found |= low <= c && c <= high;
    }
    *in = found != not_in;
    return *p ? p + 1 : NULL;
}

/* What follows one element of the pattern if it takes c; else NULL. */
static const char *take(const char *p, char c, int flags) {
    bool in = false;
    if (c == '/' && flags & FNM_PATHNAME) return *p == '/' ? p + 1 : NULL;
    if (*p == '?') return p + 1;
    if (*p == '[') {
        const char *end = bracket(p + 1, (unsigned char)c, &in);
        if (end) return in ? end : NULL;
    }
    if (*p == '\\' && p[1]) p++;
    return *p == c ? p + 1 : NULL;
}

int fnmatch(const char *p, const char *text, int flags) {
    const char *star = NULL, *from = NULL; /* behind the last '*', and what it did not take yet */
    while (*text || *p == '*') {
        if (*p == '*') {
            star = ++p;
            from = text;
            continue;
        }
        const char *next = *p ? take(p, *text, flags) : NULL;
        if (next) {
            p = next;
            text++;
            continue;
        }
        if (!star || (*from == '/' && flags & FNM_PATHNAME)) return FNM_NOMATCH;
        p = star;
        text = ++from;
    }
    return *p ? FNM_NOMATCH : 0;
}
