/* SPDX-License-Identifier: MIT
 *
 * Several schemas to one: what $ref points at, and what allOf, or keywords beside $ref and anyOf,
 * ask for together. Bounds become the tighter ones, lists what both have, schemas of parts an allOf
 * of both; keywords that cannot be joined so are an error.
 */
#include "grammar/schema_internal.h"

#include <stdlib.h>

enum {
    MAX_MADE = 1 << 14, /* schemas merged from others */
    MAX_WORK = 1 << 20  /* parts read, copied and compared */
};

/* ==== Work ==================================================================================== */

bool schema_may(schema *s, size_t parts) {
    if (parts > MAX_WORK - s->work) {
        parts = MAX_WORK - s->work;
        s->rules.full = true;
    }
    s->work += parts;
    return !s->rules.full;
}

size_t schema_parts(const json_t *value) {
    return 1 + json_object_size(value) + json_array_size(value) + json_string_length(value) / 16;
}

/* Why there is no schema. */
static rotor_status none_made(schema *s) {
    if (s->rules.failed) return base_fail_nomem(s->err, "reading a schema");
    return schema_fail(s, ROTOR_E_FULL, "too many schemas to be merged");
}

/* ==== References ============================================================================== */

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One part of a pointer; returns where the next begins. */
static const char *read_part(const char *p, base_buf *out) {
    base_buf_reset(out);
    base_buf_puts(out, "");
    for (; *p && *p != '/'; p++) {
        char c = *p;
        if (c == '%' && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
            c = (char)(hex(p[1]) * 16 + hex(p[2]));
            p += 2;
        }
        if (c == '~' && (p[1] == '0' || p[1] == '1')) c = *++p == '0' ? '~' : '/';
        base_buf_append(out, &c, 1);
    }
    return p;
}

rotor_status schema_resolve(schema *s, const char *ref, const json_t **out) {
    const json_t *at = s->root;
    const char *p = ref + 1;
    base_buf part = {0};
    if (!schema_may(s, 1 + strlen(ref) / 16)) return none_made(s);
    if (*ref != '#' || (*p && *p != '/'))
        return schema_fail(s, ROTOR_E_UNSUPPORTED,
                           "$ref \"%.80s\" does not begin with #/ (a place in this schema)", ref);
    while (at && *p == '/') {
        p = read_part(p + 1, &part);
        if (json_is_array(at)) {
            char *end;
            const unsigned long i = strtoul(part.data ? part.data : "", &end, 10);
            at = *end || !part.len ? NULL : json_array_get(at, i);
        } else {
            at = json_object_get(at, part.data ? part.data : "");
        }
    }
    s->rules.failed |= part.failed;
    base_buf_free(&part);
    if (!at) return schema_fail(s, ROTOR_E_FORMAT, "$ref \"%.80s\" points at nothing", ref);
    *out = at;
    return ROTOR_OK;
}

/* ==== Schemas made ============================================================================ */

/* Makes j the schema's own. */
static json_t *keep(schema *s, json_t *j) {
    if (s->n_made >= MAX_MADE) s->rules.full = true;
    if (j && s->n_made == s->cap_made) {
        json_t **more = base_realloc(s->made, (2 * s->cap_made + 16) * sizeof *more);
        if (!more) {
            json_decref(j);
            j = NULL;
        } else {
            s->made = more;
            s->cap_made = 2 * s->cap_made + 16;
        }
    }
    if (!j) return s->rules.failed = true, NULL;
    return s->made[s->n_made++] = j;
}

/* NULL: none could be made, which shows in the rules; so of all that make some. */
static json_t *copy(schema *s, const json_t *j) {
    if (!schema_may(s, schema_parts(j))) return NULL;
    return keep(s, json_copy((json_t *)(uintptr_t)j));
}

static void set(schema *s, json_t *to, const char *key, const json_t *value) {
    if (!to || json_object_set(to, key, (json_t *)(uintptr_t)value) != 0) s->rules.failed = true;
}

rotor_status schema_without(schema *s, const json_t *j, const char *const *keys,
                            const json_t **out) {
    json_t *less = copy(s, j);
    if (!less) return none_made(s);
    for (; *keys; keys++) json_object_del(less, *keys);
    *out = less;
    return ROTOR_OK;
}

/* {"allOf": [a, b]} */
static json_t *both(schema *s, const json_t *a, const json_t *b) {
    return keep(s, json_pack("{s:[O,O]}", "allOf", a, b));
}

/* ==== Keywords ================================================================================ */

static bool is_one_of(const char *word, const char *const *list) {
    while (*list && strcmp(word, *list) != 0) list++;
    return *list != NULL;
}

/* Whether they are equal, as far as there is work left to find out. */
static bool same(schema *s, const json_t *a, const json_t *b) {
    const char *key;
    json_t *part;
    size_t i;
    if (a == b) return true;
    if (!schema_may(s, 1 + json_string_length(a) / 16)) return false;
    if (!b || json_typeof(a) != json_typeof(b) || json_object_size(a) != json_object_size(b) ||
        json_array_size(a) != json_array_size(b))
        return false;
    if (!json_is_object(a) && !json_is_array(a)) return json_equal(a, b);
    json_object_foreach((json_t *)(uintptr_t)a, key, part) {
        if (!same(s, part, json_object_get(b, key))) return false;
    }
    json_array_foreach(a, i, part) {
        if (!same(s, part, json_array_get(b, i))) return false;
    }
    return true;
}

static bool has(schema *s, const json_t *list, const json_t *value) {
    const json_t *one;
    size_t i;
    json_array_foreach(list, i, one) {
        if (!schema_may(s, 1)) break;
        if (same(s, one, value)) return true;
    }
    return false;
}

static json_t *common(schema *s, const json_t *a, const json_t *b) {
    json_t *out = keep(s, json_array()), *one;
    size_t i;
    json_array_foreach(a, i, one) {
        if (has(s, b, one) && json_array_append(out, one) != 0) s->rules.failed = true;
    }
    return out;
}

static json_t *joined(schema *s, const json_t *a, const json_t *b) {
    json_t *out = copy(s, a), *one;
    size_t i;
    if (!out) return NULL;
    json_array_foreach(b, i, one) {
        if (!has(s, out, one) && json_array_append(out, one) != 0) s->rules.failed = true;
    }
    return out;
}

static json_t *as_list(schema *s, const json_t *type) {
    return json_is_array(type) ? (json_t *)(uintptr_t)type : keep(s, json_pack("[O]", type));
}

/* Types of both; an integer is a number. */
static json_t *common_types(schema *s, const json_t *a, const json_t *b) {
    json_t *x = as_list(s, a), *y = as_list(s, b), *number = keep(s, json_string("number"));
    json_t *integer = keep(s, json_string("integer")), *out = common(s, x, y);
    if (!out || !integer || !number || has(s, out, integer)) return out;
    if ((has(s, x, number) && has(s, y, integer)) || (has(s, x, integer) && has(s, y, number)))
        if (json_array_append(out, integer) != 0) s->rules.failed = true;
    return out;
}

static json_t *joined_properties(schema *s, const json_t *a, const json_t *b) {
    json_t *out = copy(s, a), *value;
    const char *key;
    if (!out || !schema_may(s, json_object_size(b))) return NULL;
    json_object_foreach((json_t *)(uintptr_t)b, key, value) {
        const json_t *there = json_object_get(out, key);
        set(s, out, key, there && !same(s, there, value) ? both(s, there, value) : value);
    }
    return out;
}

/* What two values of a keyword come to; NULL: they cannot be joined. */
static json_t *join(schema *s, const char *key, const json_t *a, const json_t *b) {
    static const char *const lower[] = {"minimum",  "exclusiveMinimum", "minLength",
                                        "minItems", "minProperties",    NULL};
    static const char *const upper[] = {"maximum",  "exclusiveMaximum", "maxLength",
                                        "maxItems", "maxProperties",    NULL};
    static const char *const schemas[] = {"items", "additionalProperties", NULL};
    const bool numbers = json_is_number(a) && json_is_number(b);
    const bool less = numbers && json_number_value(a) < json_number_value(b);
    if (schema_is_note(key)) return (json_t *)(uintptr_t)a;
    if (numbers && is_one_of(key, lower)) return (json_t *)(uintptr_t)(less ? b : a);
    if (numbers && is_one_of(key, upper)) return (json_t *)(uintptr_t)(less ? a : b);
    if (is_one_of(key, schemas)) return both(s, a, b);
    if (!strcmp(key, "type")) return common_types(s, a, b);
    if (json_is_array(a) && json_is_array(b)) {
        if (!strcmp(key, "enum")) return common(s, a, b);
        if (!strcmp(key, "required")) return joined(s, a, b);
    }
    if (!strcmp(key, "uniqueItems")) return keep(s, json_true());
    if (!strcmp(key, "properties") && json_is_object(a) && json_is_object(b))
        return joined_properties(s, a, b);
    return NULL;
}

/* What one says of keys it does not list must not be about keys that only the other lists. */
static rotor_status check_closed(schema *s, const json_t *a, const json_t *b) {
    const json_t *rest = json_object_get(a, "additionalProperties");
    const json_t *listed = json_object_get(a, "properties");
    const char *key;
    json_t *value;
    if (!rest || json_is_true(rest)) return ROTOR_OK;
    if (!schema_may(s, json_object_size(json_object_get(b, "properties")))) return none_made(s);
    json_object_foreach(json_object_get(b, "properties"), key, value) {
        if (!json_object_get(listed, key))
            return schema_fail(s, ROTOR_E_UNSUPPORTED,
                               "additionalProperties of one schema is about \"%.60s\" of another",
                               key);
    }
    return ROTOR_OK;
}

/* ==== Merging ================================================================================= */

/* The schema without $ref and allOf; never an allOf member's own anyOf, which stays. */
static rotor_status flatten(schema *s, const json_t *j, const json_t **out) {
    static const char *const without[] = {"$ref", "allOf", NULL};
    const json_t *ref = json_object_get(j, "$ref"), *list = json_object_get(j, "allOf"), *one;
    size_t i;
    if (s->rules.full) return none_made(s);
    if (!ref && !list) return *out = j, ROTOR_OK;
    if (++s->depth > GRAM_MAX_DEPTH)
        return schema_fail(s, ROTOR_E_FULL, "schemas are nested deeper than %d", GRAM_MAX_DEPTH);
    ROTOR_TRY(schema_without(s, j, without, out));
    if (json_is_string(ref)) {
        ROTOR_TRY(schema_resolve(s, json_string_value(ref), &one));
        ROTOR_TRY(schema_merge(s, *out, one, out));
    }
    json_array_foreach(list, i, one) { ROTOR_TRY(schema_merge(s, *out, one, out)); }
    s->depth--;
    return ROTOR_OK;
}

static rotor_status merge_objects(schema *s, const json_t *a, const json_t *b, const json_t **out) {
    json_t *merged = copy(s, a), *value;
    const char *key;
    if (!merged || !schema_may(s, json_object_size(b))) return none_made(s);
    ROTOR_TRY(check_closed(s, a, b));
    ROTOR_TRY(check_closed(s, b, a));
    json_object_foreach((json_t *)(uintptr_t)b, key, value) {
        const json_t *there = json_object_get(a, key), *result = value;
        if (there && !same(s, there, value)) result = join(s, key, there, value);
        if (s->rules.failed || s->rules.full) return none_made(s);
        if (!result)
            return schema_fail(s, ROTOR_E_UNSUPPORTED,
                               "two different values of %s cannot be joined", key);
        set(s, merged, key, result);
    }
    const json_t *type = json_object_get(merged, "type");
    *out = json_is_array(type) && !json_array_size(type) ? keep(s, json_false()) : merged;
    return s->rules.failed ? base_fail_nomem(s->err, "reading a schema") : ROTOR_OK;
}

rotor_status schema_merge(schema *s, const json_t *a, const json_t *b, const json_t **out) {
    ROTOR_TRY(flatten(s, a, &a));
    ROTOR_TRY(flatten(s, b, &b));
    if (json_is_false(a) || json_is_true(b)) return *out = a, ROTOR_OK;
    if (json_is_false(b) || json_is_true(a)) return *out = b, ROTOR_OK;
    if (!json_is_object(a) || !json_is_object(b))
        return schema_fail(s, ROTOR_E_FORMAT, "a schema is an object, true or false");
    return merge_objects(s, a, b, out);
}
