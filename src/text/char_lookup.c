/* SPDX-License-Identifier: MIT
 *
 * Classes of code points from the table that the build wrote: in place of char_class.c where there
 * is no utf8proc. The table has what char_class.c says, so both give the same ids.
 */
#include "text/char_table.h"
#include "text/text_internal.h"

/* The last run that begins at cp or before. */
static const char_run *run_of(uint32_t cp) {
    size_t low = 0, high = char_n_runs;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (char_runs[middle].first <= cp)
            low = middle;
        else
            high = middle;
    }
    return &char_runs[low];
}

unsigned text_class_of(int32_t cp) { return cp < 0 ? CH_BAD : run_of((uint32_t)cp)->cls; }

bool text_is_word_char(int32_t cp) { return cp >= 0 && run_of((uint32_t)cp)->word; }
