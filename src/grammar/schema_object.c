/* SPDX-License-Identifier: MIT
 *
 * Objects: listed keys in their order, those that are not required left out at will, then others.
 *
 *     first(i) = pair(i) more(i+1)   | first(i+1)  where i may be left out
 *     more(i)  = , pair(i) more(i+1) | more(i+1)   where i may be left out
 *
 * `more` and the pairs are rules, so that their number is that of the keys.
 *
 * Another key differs from every listed one at some character. Up to there and there it is written
 * without escapes, so that it cannot be a listed key in disguise; behind, anything may come.
 */
#include "grammar/schema_internal.h"

#include <stdlib.h>

enum { MAX_KEY = 200 }; /* characters of a listed key where there may be others */

typedef struct object {
    const json_t *listed;   /* schemas by key; NULL: none */
    const json_t *required; /* keys */
    const json_t *rest;     /* schema of other keys; NULL: there are none */
    uint32_t pair;          /* rule of another key and its value */
    uint32_t min, max;      /* keys */
} object;

static uint32_t comma(schema *s) {
    return gram_seq(&s->rules, gram_cstr(&s->rules, ","), schema_rule(s, "space"));
}

/* ==== Other keys ============================================================================== */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What may follow when a key has read `at` bytes of each of key[n], which are sorted, and is to
 * differ from all of them. */
static uint32_t differing(schema *s, const char *const *key, size_t n, size_t at) {
    gram_rules *r = &s->rules;
    const bool ends = n && !key[0][at]; /* one is over: this one may not be */
    uint32_t out = GRAM_NONE;
    base_buf taken = {0};
    static const gram_span never[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
    base_buf_append(&taken, never, sizeof never);
    for (size_t i = ends ? 1 : 0, past; i < n && !r->failed && !r->full; i = past) {
        int32_t c;
        const size_t bytes = (size_t)base_utf8_decode(key[i] + at, strlen(key[i] + at), &c);
        for (past = i; past < n && memcmp(key[past] + at, key[i] + at, bytes) == 0;) past++;
        const gram_span one = {(uint32_t)c, (uint32_t)c};
        base_buf_append(&taken, &one, sizeof one);
        if (c < 0x20 || c == '"' || c == '\\') continue; /* would be an escape */
        const uint32_t rest =
            schema_new_rule(s, "key", differing(s, key + i, past - i, at + bytes));
        out = gram_alt(r, out, gram_seq(r, gram_text(r, (base_str){key[i] + at, bytes}), rest));
    }
    r->failed |= taken.failed;
    const uint32_t differs = gram_class(r, (void *)taken.data, taken.len / sizeof(gram_span), true);
    out = gram_alt(r, out, gram_seq(r, differs, schema_rule(s, "chars")));
    base_buf_free(&taken);
    return ends ? out : gram_maybe(r, out);
}

static rotor_status write_other_key(schema *s, const object *o, uint32_t *out) {
    const size_t n = json_object_size(o->listed);
    const char **keys = base_alloc_array(n + 1, sizeof *keys), *key;
    json_t *value;
    size_t i = 0;
    if (!keys) return base_fail_nomem(s->err, "reading a schema");
    rotor_status status = ROTOR_OK;
    json_object_foreach((json_t *)(uintptr_t)o->listed, key, value) {
        if (strlen(key) > MAX_KEY && status == ROTOR_OK)
            status =
                schema_fail(s, ROTOR_E_UNSUPPORTED,
                            "a key of more than %d bytes beside additionalProperties", MAX_KEY);
        keys[i++] = key;
    }
    if (n > 1) qsort(keys, n, sizeof *keys, by_text);
    gram_rules *r = &s->rules;
    if (status == ROTOR_OK) {
        *out = gram_seq(r, gram_cstr(r, "\""), differing(s, keys, n, 0));
        *out = gram_seq(r, *out, gram_cstr(r, "\""));
    }
    base_free(keys);
    return status;
}

static rotor_status write_other_pair(schema *s, object *o) {
    gram_rules *r = &s->rules;
    uint32_t key = schema_rule(s, "string"), value;
    ROTOR_TRY(schema_write_part(s, "additionalProperties", o->rest, &value));
    if (o->listed) ROTOR_TRY(write_other_key(s, o, &key));
    const uint32_t colon = gram_seq(r, gram_cstr(r, ":"), schema_rule(s, "space"));
    o->pair = schema_new_rule(s, "pair", gram_seq(r, gram_seq(r, key, colon), value));
    return ROTOR_OK;
}

/* ==== Listed keys ============================================================================= */

/* The keys that may not be left out; NULL: out of memory. */
static base_map *required_keys(const object *o) {
    base_map *names = NULL;
    const json_t *one;
    size_t i;
    if (base_map_create(&names, json_array_size(o->required)) != ROTOR_OK) return NULL;
    json_array_foreach(o->required, i, one) {
        if (base_map_put(names, base_str_of(json_string_value(one)), 1, NULL) == ROTOR_OK) continue;
        base_map_free(&names);
        return NULL;
    }
    return names;
}

static rotor_status write_pair(schema *s, const char *key, const json_t *of, uint32_t *out) {
    gram_rules *r = &s->rules;
    json_t *name = json_string(key);
    uint32_t text = 0, value;
    if (!name) return base_fail_nomem(s->err, "reading a schema");
    rotor_status status = schema_write_value(s, name, &text);
    json_decref(name);
    ROTOR_TRY(status);
    ROTOR_TRY(schema_write_part(s, key, of, &value));
    const uint32_t colon = gram_seq(r, gram_cstr(r, ":"), schema_rule(s, "space"));
    *out = schema_new_rule(s, "pair", gram_seq(r, gram_seq(r, text, colon), value));
    return ROTOR_OK;
}

typedef struct pair {
    uint32_t call; /* of its rule */
    bool required; /* may not be left out */
} pair;

static uint32_t join_pairs(schema *s, const object *o, const pair *pairs, size_t n) {
    gram_rules *r = &s->rules;
    uint32_t first = gram_empty(r), more = gram_empty(r);
    if (o->rest) {
        more = gram_repeat(r, gram_seq(r, comma(s), o->pair), 0, GRAM_NONE);
        first = gram_maybe(r, gram_seq(r, o->pair, more));
    }
    for (size_t i = n; i-- > 0;) {
        const uint32_t rest = schema_new_rule(s, "pairs", more);
        const uint32_t here = gram_seq(r, pairs[i].call, rest);
        more = gram_seq(r, comma(s), here);
        if (!pairs[i].required) more = gram_alt(r, rest, more);
        first = pairs[i].required ? here : gram_alt(r, first, here);
    }
    return first;
}

static rotor_status write_pairs(schema *s, const object *o, uint32_t *out) {
    const size_t n = json_object_size(o->listed) + json_array_size(o->required);
    pair *pairs = base_alloc_array(n + 1, sizeof *pairs);
    base_map *required = required_keys(o);
    const char *key;
    json_t *value;
    uint32_t one;
    size_t n_pairs = 0, i;
    rotor_status status =
        pairs && required ? ROTOR_OK : base_fail_nomem(s->err, "reading a schema");
    const size_t before = schema_enter(s, "properties");
    json_object_foreach((json_t *)(uintptr_t)o->listed, key, value) {
        if (status != ROTOR_OK) break;
        pair *p = &pairs[n_pairs++];
        p->required = base_map_get(required, base_str_of(key), &one);
        status = write_pair(s, key, value, &p->call);
    }
    if (status == ROTOR_OK) schema_leave(s, before);
    /* Required keys that are not listed are other keys. */
    json_array_foreach(o->required, i, value) {
        const char *name = json_string_value(value);
        if (status != ROTOR_OK || json_object_get(o->listed, name)) continue;
        pair *p = &pairs[n_pairs++];
        p->required = true;
        p->call = gram_nothing(&s->rules);
        if (o->rest) status = write_pair(s, name, o->rest, &p->call);
    }
    if (status == ROTOR_OK) *out = join_pairs(s, o, pairs, n_pairs);
    base_map_free(&required);
    base_free(pairs);
    return status;
}

/* From min to max keys of any name. */
static uint32_t write_free(schema *s, const object *o) {
    gram_rules *r = &s->rules;
    if (o->min > o->max || (o->min && !o->rest)) return gram_nothing(r);
    if (o->max == 0 || !o->rest) return gram_empty(r);
    const uint32_t next = gram_seq(r, comma(s), o->pair);
    const uint32_t others =
        gram_repeat(r, next, o->min ? o->min - 1 : 0, o->max == GRAM_NONE ? o->max : o->max - 1);
    const uint32_t some = gram_seq(r, o->pair, others);
    return o->min ? some : gram_maybe(r, some);
}

/* ==== Objects ================================================================================= */

static rotor_status read_object(schema *s, const json_t *j, object *o) {
    const json_t *rest = json_object_get(j, "additionalProperties"), *name;
    size_t i;
    *o = (object){.listed = json_object_get(j, "properties"),
                  .required = json_object_get(j, "required"),
                  .max = GRAM_NONE};
    if (o->listed && !json_is_object(o->listed))
        return schema_fail(s, ROTOR_E_FORMAT, "properties is no object");
    if (o->required && !json_is_array(o->required))
        return schema_fail(s, ROTOR_E_FORMAT, "required is no list");
    json_array_foreach(o->required, i, name) {
        if (!json_is_string(name))
            return schema_fail(s, ROTOR_E_FORMAT, "required/%zu is no text", i);
    }
    ROTOR_TRY(schema_count(s, j, "minProperties", &o->min));
    ROTOR_TRY(schema_count(s, j, "maxProperties", &o->max));
    if (rest ? !json_is_false(rest) : !o->listed) o->rest = rest ? rest : json_true();
    if ((o->min || o->max != GRAM_NONE) && (o->listed || json_array_size(o->required)))
        return schema_fail(s, ROTOR_E_UNSUPPORTED,
                           "minProperties and maxProperties beside listed keys");
    return ROTOR_OK;
}

rotor_status schema_object(schema *s, const json_t *j, uint32_t *out) {
    gram_rules *r = &s->rules;
    object o;
    uint32_t inside = 0;
    ROTOR_TRY(read_object(s, j, &o));
    if (o.rest) ROTOR_TRY(write_other_pair(s, &o));
    if (o.listed || json_array_size(o.required))
        ROTOR_TRY(write_pairs(s, &o, &inside));
    else
        inside = write_free(s, &o);
    *out = gram_seq(r, gram_cstr(r, "{"), schema_rule(s, "space"));
    *out = gram_seq(r, gram_seq(r, *out, inside), schema_rule(s, "space"));
    *out = gram_seq(r, *out, gram_cstr(r, "}"));
    return ROTOR_OK;
}
