/* SPDX-License-Identifier: MIT
 *
 * What a forged file must do: open, or be refused with certain words.
 */
#ifndef MUST_H
#define MUST_H

#include "forge.h"

static const model_options plain = {.i2s = -1};

static inline model *must_open(forge *f) {
    model *m = NULL;
    rotor_error err = {0};
    if (forge_open(f, &m, &plain, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return m;
}

/* Wants a refusal whose message holds `words`; ends the forge. */
static inline void must_refuse(forge *f, rotor_status st, const char *words) {
    model *m = NULL;
    rotor_error err = {0};
    rotor_status got = forge_open(f, &m, &plain, &err);
    model_close(&m);
    forge_end(f);
    if (got != st || !strstr(err.message, words))
        fail_msg("status %d (expected %d), message \"%s\" (expected \"%s\")", got, st, err.message,
                 words);
}

/* Opens, closes, ends. */
static inline void must_load(forge *f) {
    model *m = must_open(f);
    model_close(&m);
    forge_end(f);
}

#endif
