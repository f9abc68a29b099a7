/* SPDX-License-Identifier: MIT
 *
 * Globs of a folder as the store remembers them: a line each, + before one to include, - before
 * one to exclude.
 */
#include "rag/rag_internal.h"

rotor_status rag_globs_put(base_buf *out, const rag_add_options *o) {
    base_buf_puts(out, "");
    for (size_t i = 0; i < o->n_include; i++) base_buf_printf(out, "+%s\n", o->include[i]);
    for (size_t i = 0; i < o->n_exclude; i++) base_buf_printf(out, "-%s\n", o->exclude[i]);
    return out->failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

static bool named(const char *const *list, size_t n, const char *word, size_t length) {
    for (size_t i = 0; i < n; i++)
        if (strncmp(list[i], word, length) == 0 &&
            (list[i][length] == 0 || list[i][length] == '\n'))
            return true;
    return false;
}

const char **rag_globs_of(const char *text, char sign, const char *const *first, size_t *n) {
    size_t cap = *n;
    for (const char *at = text; *at; at++) cap += *at == '\n';
    const char **list = base_alloc_array(cap + 1, sizeof *list);
    if (!list) return NULL;
    for (size_t i = 0; i < *n; i++) list[i] = first[i];
    for (const char *at = text; *at;) {
        const size_t length = strcspn(at, "\n");
        if (*at == sign && !named(list, *n, at + 1, length - 1)) list[(*n)++] = at + 1;
        at += length + (at[length] == '\n');
    }
    return list;
}

void rag_globs_cut(char *text) {
    for (; *text; text++)
        if (*text == '\n') *text = 0;
}
