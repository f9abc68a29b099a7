/* SPDX-License-Identifier: MIT
 *
 * What the files for Windows share: its texts are UTF-16, ours UTF-8.
 */
#ifndef OS_WINDOWS_H
#define OS_WINDOWS_H

#include <stddef.h>
#include <stdint.h>

/* base_free; NULL: no memory, or not UTF-8 (errno EINVAL). */
wchar_t *os_wide_of(const char *text);
char *os_utf8_of(const wchar_t *wide);
/* What take() makes of all entries of a kind in the system's list of processors, from 0 on; each is
 * a SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX. */
uint64_t os_sum_of_processors(int relation, uint64_t (*take)(uint64_t sum, const void *entry));

#endif
