/* SPDX-License-Identifier: MIT
 *
 * fuzz_grammar_schema: any text as a JSON schema. What is refused is told; a text that is drawn
 * from what is read, and may end, is JSON.
 */
#include "grammar_input.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const base_str text = {(const char *)data, size};
    rotor_error err = {0};
    grammar *g = NULL;
    const rotor_status st = grammar_from_schema(&g, text, &err);
    if (st != ROTOR_OK) {
        if (g || st == ROTOR_E_NOMEM || !err.message[0]) abort();
        return 0;
    }
    for (uint64_t i = 0; i < 2; i++) {
        base_buf drawn = {0};
        if (draw_text(g, base_hash64(data, size, i), &drawn)) {
            json_t *j = json_loadb(drawn.data, drawn.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            /* Whole numbers may have more digits than jansson reads. */
            if (!j)
                j = json_loadb(drawn.data, drawn.len,
                               JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
            if (!j) abort();
            json_decref(j);
        }
        base_buf_free(&drawn);
    }
    grammar_free(&g);
    return 0;
}
