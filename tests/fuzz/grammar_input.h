/* SPDX-License-Identifier: MIT
 *
 * What the targets of grammars share: a text drawn from one, byte by byte.
 */
#ifndef GRAMMAR_INPUT_H
#define GRAMMAR_INPUT_H

#include "grammar/grammar.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One of the bytes that may come; false: none may. Bytes that close things are tried first half of
 * the time, so that texts end. */
static inline bool draw_byte(grammar_masks *m, base_rng *r, uint32_t *state, char *out) {
    static const char closing[] = "\"]}),0 1a";
    const uint32_t begin = base_rng_below(r, 256);
    const bool close = base_rng_below(r, 2);
    for (uint32_t i = close ? 0 : sizeof closing - 1; i < sizeof closing - 1 + 256; i++) {
        uint32_t next;
        *out = i < sizeof closing - 1 ? closing[i] : (char)(uint8_t)(begin + i);
        if (grammar_put(m, *state, (base_str){out, 1}, &next, NULL) != ROTOR_OK) return false;
        if (next == GRAMMAR_DEAD) continue;
        *state = next;
        return true;
    }
    if (!grammar_may_end(m, *state)) abort(); /* a dead end that was not called dead */
    return false;
}

/* Appends a text; true: it may end so. */
static inline bool draw_text(const grammar *g, uint64_t seed, base_buf *out) {
    const grammar_limits limits = {.state_bytes = 4 << 20, .mask_bytes = 1 << 20};
    grammar_masks *m = NULL;
    base_rng r;
    base_rng_seed(&r, seed);
    if (grammar_masks_create(&m, g, NULL, &limits, NULL) != ROTOR_OK) return false;
    uint32_t state = grammar_start(m), again;
    for (int i = 0; i < 200 && !(grammar_may_end(m, state) && base_rng_below(&r, 4) == 0); i++) {
        char c;
        if (!draw_byte(m, &r, &state, &c)) break;
        if (!base_buf_append(out, &c, 1)) abort();
    }
    const bool ends = grammar_may_end(m, state);
    if (grammar_put(m, grammar_start(m), (base_str){out->data, out->len}, &again, NULL) ==
            ROTOR_OK &&
        again != state)
        abort();
    grammar_masks_free(&m);
    return ends;
}

#endif
