/* SPDX-License-Identifier: MIT
 *
 * What tests of grammars share: grammars from text that must be read, and whether they accept a
 * text. A wrong call ends the test.
 */
#ifndef GRAMMAR_RIG_H
#define GRAMMAR_RIG_H

#include "grammar/grammar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static inline grammar *read_gbnf(const char *text) {
    grammar *g = NULL;
    rotor_error err = {0};
    if (grammar_from_gbnf(&g, base_str_of(text), &err) != ROTOR_OK)
        fail_msg("%s\n%s", err.message, text);
    return g;
}

static inline grammar_masks *masks_for(const grammar *g, const grammar_words *w) {
    grammar_masks *m = NULL;
    rotor_error err = {0};
    if (grammar_masks_create(&m, g, w, NULL, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return m;
}

typedef enum verdict { DIES, LIVES, ENDS } verdict; /* no, not yet, yes */

static inline verdict judge(grammar_masks *m, base_str text) {
    uint32_t state;
    rotor_error err = {0};
    if (grammar_put(m, grammar_start(m), text, &state, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    if (state == GRAMMAR_DEAD) return DIES;
    return grammar_may_end(m, state) ? ENDS : LIVES;
}

static inline verdict judge_alone(const char *gbnf, const char *text) {
    grammar *g = read_gbnf(gbnf);
    grammar_masks *m = masks_for(g, NULL);
    const verdict v = judge(m, base_str_of(text));
    grammar_masks_free(&m);
    grammar_free(&g);
    return v;
}

#endif
