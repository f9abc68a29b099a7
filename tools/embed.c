/* SPDX-License-Identifier: MIT
 *
 * embed: a file as C source, run by the build.
 *
 *     embed IN OUT NAME
 *
 * writes `const unsigned char NAME[]`, aligned to 64 bytes, and `const size_t NAME_size`. The bytes
 * are one string literal in pieces: compilers read those far faster than lists of numbers.
 */
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: embed IN OUT NAME\n"), 2;
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!in || !out) return perror(in ? argv[2] : argv[1]), 1;
    fprintf(out, "#include <stddef.h>\n_Alignas(64) const unsigned char %s[] =", argv[3]);
    unsigned long n = 0;
    for (int c; (c = fgetc(in)) != EOF; n++) {
        if (n % 64 == 0) fputs(n ? "\"\n\"" : "\n\"", out);
        fprintf(out, "\\%03o", (unsigned)c);
    }
    fprintf(out, "%s;\nconst size_t %s_size = %lu;\n", n ? "\"" : "\"\"", argv[3], n);
    return ferror(in) || fclose(out) != 0 ? 1 : 0;
}
