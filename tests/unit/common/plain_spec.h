/* SPDX-License-Identifier: MIT
 *
 * What the vocabularies of tests start from.
 */
#ifndef PLAIN_SPEC_H
#define PLAIN_SPEC_H

#include "text/text.h"

/* A vocabulary that names no special token and adds none: fill in tokens, then what differs. */
static inline text_spec plain_spec(text_model kind) {
    return (text_spec){.model = kind,
                       .bos = TEXT_NO_ID,
                       .eos = TEXT_NO_ID,
                       .unk = TEXT_NO_ID,
                       .sep = TEXT_NO_ID,
                       .pad = TEXT_NO_ID,
                       .cls = TEXT_NO_ID,
                       .mask = TEXT_NO_ID,
                       .eot = TEXT_NO_ID,
                       .eom = TEXT_NO_ID};
}

#endif
