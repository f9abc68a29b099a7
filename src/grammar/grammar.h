/* SPDX-License-Identifier: MIT
 *
 * grammar: which tokens may come next, so that a text follows rules. Rules are a GBNF grammar or a
 * JSON schema; what may come next is a set of token ids, found by an automaton over bytes.
 *
 *     GBNF, schema -> rules -> nodes (grammar)          once
 *     vocabulary -> tree of its tokens' bytes (words)   once a vocabulary
 *     state, token -> state; state -> mask (masks)      as a text grows; all of it is remembered
 *
 * A grammar and words are immutable and shared by any number of masks and threads; masks learn as
 * they are asked and are used by one thread at a time. Texts are bytes: a token may end inside a
 * character, as long as the character can still become one that the rules allow.
 */
#ifndef GRAMMAR_H
#define GRAMMAR_H

#include "base/base.h"
#include "text/text.h"

/* ---- Rules ----------------------------------------------------------------------------------- */

typedef struct grammar grammar;
/* From GBNF (docs/grammar.md), whose first symbol is `root`. ROTOR_E_FORMAT names line and column.
 */
rotor_status grammar_from_gbnf(grammar **out, base_str text, rotor_error *err);
/* From a JSON schema. ROTOR_E_FORMAT: no JSON, or no schema; ROTOR_E_UNSUPPORTED: a keyword that
 * cannot be kept to. Messages name the place as a JSON pointer ("#/properties/a"). */
rotor_status grammar_from_schema(grammar **out, base_str json, rotor_error *err);
/* A schema whose documents are the texts of a rule, or a mark (see grammar_use). */
typedef struct grammar_part {
    const char *rule; /* its name, of a-z, 0-9 and -; outlives the call */
    base_str schema;  /* JSON; p NULL: a mark */
    const char *what; /* whose it is, for messages */
    uint32_t mark;    /* which */
} grammar_part;
/* From GBNF in which parts[n] are rules, too; a name may stand there once. It may also use the
 * rules of schemas: `space`, `string`, `value`, … (schema.c). */
rotor_status grammar_from_parts(grammar **out, base_str gbnf, const grammar_part *parts, size_t n,
                                rotor_error *err);
void grammar_free(grammar **g);

/* ---- Words ----------------------------------------------------------------------------------- */

typedef enum grammar_use {
    GRAMMAR_WRITES, /* a token that stands for its text */
    GRAMMAR_SPELLS, /* a control token that stands for its name, which it does not write */
    GRAMMAR_ENDS,   /* one that ends the text: allowed where the rules are fulfilled */
    GRAMMAR_NEVER,  /* one that may not come */
    GRAMMAR_MARKS   /* from here on: mark 0, 1, … of GRAMMAR_MAX_MARKS */
} grammar_use;
/* A mark is a byte that no text in UTF-8 has, so that rules can ask for a token and never mean its
 * name. Where there are marks, tokens with such bytes write nothing. */
enum { GRAMMAR_MAX_MARKS = 8 };

typedef struct grammar_words grammar_words;
/* v outlives the words. n_ids: rows of the output head; tokens beyond them are left out. use NULL:
 * what ends a generation ends the text, and the others write theirs. */
rotor_status grammar_words_create(grammar_words **out, const text_vocab *v, size_t n_ids,
                                  grammar_use (*use)(const void *user, uint32_t id),
                                  const void *user, rotor_error *err);
void grammar_words_free(grammar_words **w);
/* What a token stands for; empty: nothing. Borrowed. */
base_str grammar_word(const grammar_words *w, uint32_t id);

/* ---- Masks ----------------------------------------------------------------------------------- */

/* Memory that may be used; what does not fit is an error for states, and made anew for masks. */
typedef struct grammar_limits {
    size_t state_bytes; /* of the automaton */
    size_t mask_bytes;  /* of remembered masks */
} grammar_limits;
grammar_limits grammar_limits_default(void); /* 64 MiB each */

enum { GRAMMAR_DEAD = 0 };         /* the state of a text that breaks the rules */
#define GRAMMAR_UNKNOWN UINT32_MAX /* of one for which a call failed: others say why once more */

typedef struct grammar_masks grammar_masks;
/* g and w outlive it; w may be NULL where only texts are put. limits NULL: the default. */
rotor_status grammar_masks_create(grammar_masks **out, const grammar *g, const grammar_words *w,
                                  const grammar_limits *limits, rotor_error *err);
void grammar_masks_free(grammar_masks **m);

uint32_t grammar_start(const grammar_masks *m); /* the state of an empty text */
/* The state after more text; equal states are equal numbers. ROTOR_E_FULL: the rules are so
 * ambiguous, or the text is nested so deeply, that the automaton exceeds its limit. After a failure
 * *next is GRAMMAR_UNKNOWN. */
rotor_status grammar_put(grammar_masks *m, uint32_t state, base_str text, uint32_t *next,
                         rotor_error *err);
/* The same for a token; one that writes nothing leads to GRAMMAR_DEAD. */
rotor_status grammar_step(grammar_masks *m, uint32_t state, uint32_t id, uint32_t *next,
                          rotor_error *err);
/* Whether the text may end here. */
bool grammar_may_end(const grammar_masks *m, uint32_t state);

/* What may come in a state. */
typedef struct grammar_allowed {
    const uint32_t *banned; /* [(n_ids + 31) / 32] a bit for each id that may not come; valid until
                               the next call */
    uint32_t n_allowed;     /* ids that may */
} grammar_allowed;
rotor_status grammar_allow(grammar_masks *m, uint32_t state, grammar_allowed *out,
                           rotor_error *err);

/* What the work was, for measurements. */
typedef struct grammar_counts {
    uint64_t n_asked;   /* masks asked for */
    uint64_t n_made;    /* of which were not remembered */
    uint64_t n_walks;   /* of which needed a walk over the whole tree */
    size_t n_states;    /* states known */
    size_t n_configs;   /* parts of them that masks hang on */
    size_t state_bytes; /* of the automaton now */
    size_t mask_bytes;  /* of masks now */
} grammar_counts;
grammar_counts grammar_count(const grammar_masks *m);

#endif
