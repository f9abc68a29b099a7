/* SPDX-License-Identifier: MIT
 *
 * Arrays: first those elements that have a schema each, then any number of one kind.
 *
 *     [ a , b , rest , rest … ]     two prefixItems, then items
 *
 * An array may end wherever it has minItems; so each of the first is a rule that goes on with the
 * next one.
 */
#include "grammar/schema_internal.h"

typedef struct list {
    const json_t *prefix; /* schemas of the first */
    uint32_t n_prefix;    /* how many there can be */
    uint32_t rest;        /* expression of the others */
    bool no_rest;         /* there are none */
    uint32_t min, max;    /* elements */
} list;

static uint32_t comma(schema *s) {
    return gram_seq(&s->rules, gram_cstr(&s->rules, ","), schema_rule(s, "space"));
}

/* min to max others, the first of them without a comma where it is the first of all. */
static uint32_t write_rest(schema *s, const list *l, uint32_t min, uint32_t max, bool first) {
    gram_rules *r = &s->rules;
    if (l->no_rest || max == 0) return min ? gram_nothing(r) : gram_empty(r);
    const uint32_t next = gram_seq(r, comma(s), l->rest);
    if (!first) return gram_repeat(r, next, min, max);
    const uint32_t others =
        gram_repeat(r, next, min ? min - 1 : 0, max == GRAM_NONE ? max : max - 1);
    const uint32_t some = gram_seq(r, l->rest, others);
    return min ? some : gram_maybe(r, some);
}

static uint32_t minus(uint32_t a, uint32_t b) { return a == GRAM_NONE ? a : a > b ? a - b : 0; }

/* What follows i elements: from the back, each of them a rule. */
static rotor_status write_elements(schema *s, const list *l, uint32_t *out) {
    gram_rules *r = &s->rules;
    const uint32_t n = BASE_MIN(l->n_prefix, l->max);
    *out = write_rest(s, l, minus(l->min, n), minus(l->max, n), n == 0);
    for (uint32_t i = n; i-- > 0;) {
        const size_t before = schema_enter_at(s, "prefixItems", i);
        uint32_t element;
        ROTOR_TRY(schema_write(s, json_array_get(l->prefix, i), &element));
        schema_leave(s, before);
        if (i) element = gram_seq(r, comma(s), element);
        element = gram_seq(r, element, schema_new_rule(s, "elements", *out));
        *out = i < l->min ? element : gram_maybe(r, element);
    }
    return ROTOR_OK;
}

rotor_status schema_array(schema *s, const json_t *j, uint32_t *out) {
    const json_t *items = json_object_get(j, "items"), *prefix = json_object_get(j, "prefixItems");
    list l = {.prefix = prefix, .n_prefix = (uint32_t)json_array_size(prefix), .max = GRAM_NONE};
    gram_rules *r = &s->rules;
    ROTOR_TRY(schema_count(s, j, "minItems", &l.min));
    ROTOR_TRY(schema_count(s, j, "maxItems", &l.max));
    if (json_is_true(json_object_get(j, "uniqueItems")))
        return schema_fail(s, ROTOR_E_UNSUPPORTED, "uniqueItems is not supported");
    if (json_is_array(items))
        return schema_fail(s, ROTOR_E_UNSUPPORTED, "a list of items is written prefixItems");
    if (prefix && !l.n_prefix) return schema_fail(s, ROTOR_E_FORMAT, "prefixItems is no list");
    if (l.min > l.max) return *out = gram_nothing(r), ROTOR_OK;
    l.no_rest = json_is_false(items);
    l.rest = schema_rule(s, "value");
    if (items && !l.no_rest) {
        ROTOR_TRY(schema_write_part(s, "items", items, &l.rest));
        l.rest = schema_new_rule(s, "item", l.rest); /* it is written twice */
    }
    uint32_t elements;
    ROTOR_TRY(write_elements(s, &l, &elements));
    *out = gram_seq(r, gram_cstr(r, "["), schema_rule(s, "space"));
    *out = gram_seq(r, gram_seq(r, *out, elements), schema_rule(s, "space"));
    *out = gram_seq(r, *out, gram_cstr(r, "]"));
    return ROTOR_OK;
}
