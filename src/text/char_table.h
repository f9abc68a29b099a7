/* SPDX-License-Identifier: MIT
 *
 * char_table: what char_class.c says of every code point, as a table written at build time by
 * tools/char_table.c, for builds without utf8proc.
 */
#ifndef CHAR_TABLE_H
#define CHAR_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* Code points from `first` to the next run's `first` are alike. */
typedef struct char_run {
    uint32_t first; /* code point */
    uint16_t cls;   /* CH_… */
    uint16_t word;  /* 1: \w */
} char_run;

extern const char_run char_runs[]; /* ascending; the first begins at 0 */
extern const size_t char_n_runs;   /* rows */

#endif
