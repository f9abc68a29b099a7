/* SPDX-License-Identifier: MIT
 *
 * grammar, inside: a JSON schema being turned into rules. schema.c chooses what a schema is,
 * schema_merge.c brings several to one, and the others write each type of value.
 */
#ifndef SCHEMA_INTERNAL_H
#define SCHEMA_INTERNAL_H

#include "grammar/grammar_internal.h"

#include <jansson.h>

/* A rule that waits for its schema to be written, so that long chains of references do not nest. */
typedef struct schema_due {
    uint32_t rule;     /* to be written */
    const json_t *of;  /* its schema */
    const char *where; /* a reference to it */
} schema_due;

typedef struct schema {
    gram_rules rules; /* owned */
    json_t *root;     /* the whole schema, owned */
    base_map *names;  /* rules every schema may use, owned */
    base_map *refs;   /* rules by reference, owned; keys are in the schema */
    schema_due *due;  /* [n_due] references to be written, owned */
    size_t n_due;     /* how many … */
    size_t n_done;    /* … and how many have been */
    size_t cap_due;   /* allocated */
    json_t **made;    /* [n_made] schemas merged from others, owned */
    size_t n_made;    /* how many */
    size_t cap_made;  /* allocated */
    size_t work;      /* parts read, copied and compared so far */
    base_buf path;    /* where in the schema, as a JSON pointer */
    int depth;        /* schemas around this one */
    rotor_error *err; /* where errors go */
} schema;

/* ---- schema.c ----------------------------------------------------------------------------------
 */

/* The expression of a schema at the path. */
rotor_status schema_write(schema *s, const json_t *j, uint32_t *out);
/* The same for a part: key is added to the path. */
rotor_status schema_write_part(schema *s, const char *key, const json_t *j, uint32_t *out);
uint32_t schema_rule(schema *s, const char *name); /* a call of a rule every schema may use */
/* A call of a new rule with this body. */
uint32_t schema_new_rule(schema *s, const char *name, uint32_t body);
/* A JSON value as text. */
rotor_status schema_write_value(schema *s, const json_t *value, uint32_t *out);
/* Puts the path in front of a message. */
rotor_status schema_fail(schema *s, rotor_status status, const char *fmt, ...) BASE_PRINTF(3, 4);
size_t schema_enter(schema *s, const char *key); /* adds to the path; returns what to leave to */
size_t schema_enter_at(schema *s, const char *key, size_t i);
void schema_leave(schema *s, size_t to);
bool schema_is_note(const char *key); /* a keyword that says nothing about values */
/* A number of things: a whole number from 0 to GRAM_MAX_REPEAT. *out stays where it is absent. */
rotor_status schema_count(schema *s, const json_t *j, const char *key, uint32_t *out);

/* ---- schema_merge.c ----------------------------------------------------------------------------
 */

/* Counts parts that are about to be read, copied or compared; false: they are too many, which shows
 * in the rules. What a schema asks for may be far more than what it has. */
bool schema_may(schema *s, size_t parts);
/* Of a value, without what is inside its parts. */
size_t schema_parts(const json_t *value);
/* What a reference points at; borrowed. */
rotor_status schema_resolve(schema *s, const char *ref, const json_t **out);
/* A schema that asks for both; borrowed from s. */
rotor_status schema_merge(schema *s, const json_t *a, const json_t *b, const json_t **out);
/* A schema without some of its keywords, which are listed with NULL behind; borrowed from s. */
rotor_status schema_without(schema *s, const json_t *j, const char *const *keys,
                            const json_t **out);

/* ---- schema_number.c, schema_string.c, schema_regex.c, schema_object.c, schema_array.c
 * ----------- */

rotor_status schema_integer(schema *s, const json_t *j, uint32_t *out);
rotor_status schema_number(schema *s, const json_t *j, uint32_t *out);
rotor_status schema_string(schema *s, const json_t *j, uint32_t *out);
/* What a regular expression finds in a string, as the characters of JSON between its quotes. */
rotor_status schema_regex(schema *s, const char *pattern, uint32_t *out);
rotor_status schema_object(schema *s, const json_t *j, uint32_t *out);
rotor_status schema_array(schema *s, const json_t *j, uint32_t *out);

#endif
