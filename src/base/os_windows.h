/* SPDX-License-Identifier: MIT
 *
 * What the files for Windows share: its texts are UTF-16, ours UTF-8.
 */
#ifndef OS_WINDOWS_H
#define OS_WINDOWS_H

#include <stddef.h>

/* base_free; NULL: no memory, or not UTF-8 (errno EINVAL). */
wchar_t *os_wide_of(const char *text);
char *os_utf8_of(const wchar_t *wide);

#endif
