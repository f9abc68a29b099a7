/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a line of a JSON-lines corpus. It has a name, a title, a text and
 * fields, or is refused with a reason.
 */
#include <stdlib.h>

#include "rag/rag_internal.h"

static void must(bool ok) {
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rag_corpus_line l;
    rotor_error err = {0};
    const rotor_status st =
        rag_read_line((base_str){size ? (const char *)data : "", size}, &l, &err);
    must(st == ROTOR_OK || (st == ROTOR_E_FORMAT && err.message[0]) || st == ROTOR_E_NOMEM);
    if (st != ROTOR_OK) return 0;
    must(l.key && l.title && l.text && l.meta);
    must(!l.meta[0] || (l.meta[0] == '{' && l.meta[strlen(l.meta) - 1] == '}'));
    must(l.text[l.n_text] == 0);
    rag_corpus_line_free(&l);
    return 0;
}
