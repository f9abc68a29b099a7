/* SPDX-License-Identifier: MIT
 *
 * JSON on standard output. Model files and prompts may hold any bytes; what is not UTF-8 becomes
 * U+FFFD here, so that the output always parses.
 */
#include "cli/cli.h"

#include <jansson.h>

json_t *cli_json_text(const char *s, size_t n_bytes) {
    base_buf clean = {0};
    if (!base_buf_reserve(&clean, n_bytes)) return NULL;
    for (size_t at = 0; at < n_bytes;) {
        int32_t cp;
        int n = base_utf8_decode(s + at, n_bytes - at, &cp);
        if (cp < 0)
            base_buf_puts(&clean, "\xEF\xBF\xBD");
        else
            base_buf_append(&clean, s + at, (size_t)n);
        at += (size_t)n;
    }
    json_t *v = clean.failed ? NULL : json_stringn(clean.data ? clean.data : "", clean.len);
    base_buf_free(&clean);
    return v;
}

static int to_stdout(const char *p, size_t n_bytes, void *user) {
    (void)user;
    cli_out(p, n_bytes);
    return 0;
}

int cli_json_print(const cli_args *a, json_t *v) {
    int bad = !v || json_dump_callback(v, to_stdout, NULL, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(v);
    if (bad) return cli_fail_text(a, "out of memory while writing JSON");
    cli_outf("\n");
    return CLI_DONE;
}
