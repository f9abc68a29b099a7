/* SPDX-License-Identifier: MIT
 *
 * harmony_internal: what the Harmony files share. No other room includes this.
 */
#ifndef HARMONY_INTERNAL_H
#define HARMONY_INTERNAL_H

#include "chat/harmony.h"

/* What separates the words of a header. */
static inline bool harmony_is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Is there a function among the tools? False for text that is no JSON array. */
bool harmony_has_tools(const harmony_chat *c);

/* Stand for <|channel|> and <|constrain|> in the text of a header. */
enum { HARMONY_CHANNEL_MARK = 1, HARMONY_CONSTRAIN_MARK = 2 };

/* A header taken apart; the slices point into the text given. */
typedef struct harmony_header {
    base_str role;         /* first word of a header that <|start|> began */
    base_str channel;      /* the last channel with a known name, else the last one */
    base_str recipient;    /* behind to= */
    base_str content_type; /* behind <|constrain|>, else the last word that means nothing else */
    bool constrained;      /* the former */
    bool stray;            /* words that mean nothing, or a second channel */
    base_str rest;         /* of a headless message: what is no header any more */
} harmony_header;

/* started: <|start|> began it, a role comes first. whole: all of it is a header; else a message
 * without <|message|>, whose header ends at the first word that cannot be one. */
void harmony_read_header(base_str text, bool started, bool whole, harmony_header *out);
/* "final" and what begins with it. HARMONY_UNKNOWN: another name. *exact (may be NULL). */
harmony_kind harmony_channel_kind(base_str channel, bool *exact);

#endif
