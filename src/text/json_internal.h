/* SPDX-License-Identifier: MIT
 *
 * json_internal: what the readers of tokenizer.json share.
 */
#ifndef TEXT_JSON_INTERNAL_H
#define TEXT_JSON_INTERNAL_H

#include "text/text_internal.h"

#include <jansson.h>

typedef struct json_reader {
    const json_t *root;   /* tokenizer.json */
    const json_t *config; /* tokenizer_config.json; NULL: none */
    const json_t *model;  /* root.model */
    const base_log *log;  /* warnings; may be NULL */
    rotor_error *err;     /* where failures are explained */
    text_vocab *v;        /* being made */
    bool prefixes_space;  /* a step puts a space mark in front of the text */
} json_reader;

const char *json_type_of(const json_t *o); /* "" when it has none */
bool json_bool_or(const json_t *o, const char *key, bool usual);
base_str json_str_of(const json_t *value); /* empty when it is not a string */
rotor_status json_read_normalizer(json_reader *j, const json_t *o);
rotor_status json_read_pre_tokenizer(json_reader *j, const json_t *o);
/* Whether o, or an item of its array called list, is of type ByteLevel. */
bool json_mentions_byte_level(const json_t *o, const char *list);

#endif
