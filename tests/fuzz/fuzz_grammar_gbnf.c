/* SPDX-License-Identifier: MIT
 *
 * fuzz_grammar_gbnf: any text as a grammar. What is refused is told; what is read leads, byte by
 * byte at random, to states from which the text can go on unless it may end, and which are the same
 * when the text is put at once.
 */
#include "grammar_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const base_str text = {(const char *)data, size};
    rotor_error err = {0};
    grammar *g = NULL;
    const rotor_status st = grammar_from_gbnf(&g, text, &err);
    if (st != ROTOR_OK) {
        if (g || st == ROTOR_E_NOMEM || !err.message[0]) abort();
        return 0;
    }
    base_buf drawn = {0};
    (void)draw_text(g, base_hash64(data, size, 1), &drawn);
    base_buf_free(&drawn);
    grammar_free(&g);
    return 0;
}
