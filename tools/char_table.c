/* SPDX-License-Identifier: MIT
 *
 * char_table: writes what text/char_class.c says of every code point as C source, for builds whose
 * target has no utf8proc. Run by the build, on the machine that builds.
 *
 *     char_table OUT
 */
#include <stdio.h>

#include "text/text_internal.h"

int main(int argc, char **argv) {
    FILE *out = argc == 2 ? fopen(argv[1], "wb") : NULL;
    if (!out) return fprintf(stderr, "usage: char_table OUT\n"), 2;
    fputs("#include \"text/char_table.h\"\n\n"
          "const char_run char_runs[] = {",
          out);
    unsigned n = 0, before = 0;
    for (int32_t cp = 0; cp <= 0x10FFFF; cp++) {
        const unsigned here = text_class_of(cp) << 1 | text_is_word_char(cp);
        if (cp && here == before) continue;
        fprintf(out, "%s{0x%X, %u, %u},", n++ % 5 ? " " : "\n    ", (unsigned)cp, here >> 1,
                here & 1);
        before = here;
    }
    fprintf(out, "\n};\nconst size_t char_n_runs = %u;\n", n);
    return fclose(out) != 0;
}
