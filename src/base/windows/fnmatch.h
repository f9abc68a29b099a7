/* SPDX-License-Identifier: MIT
 *
 * What Windows has no header for: names held against patterns of *, ? and [a-z]
 * (os_windows_glob.c).
 */
#ifndef FNMATCH_H
#define FNMATCH_H

enum { FNM_NOMATCH = 1, FNM_PATHNAME = 1 << 0 };

/* 0: text is what the pattern says. Bytes are letters. With FNM_PATHNAME, '/' is matched by itself
 * alone. */
int fnmatch(const char *pattern, const char *text, int flags);

#endif
