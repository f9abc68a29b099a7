/* SPDX-License-Identifier: MIT
 *
 * A JSON schema to rules. What can be kept to is written; what cannot is an error that names its
 * place, never left out in silence. Every document by the rules fulfils the schema, with these
 * exceptions, which no grammar can keep to: keys may repeat, and oneOf is read as anyOf.
 *
 * The reverse is narrower. Keys come in the order of `properties`, others after them; without
 * additionalProperties there are none beside `properties`; a schema without `type` is of the types
 * that its keywords speak of; numbers have at most 19 digits before and 18 behind the point; white
 * space is at most a blank, or a line break and 20 blanks, after { [ , : and before } ].
 */
#include "grammar/schema_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* Characters and values of JSON. A string holds no lone surrogates, for no text does. */
static const char common_rules[] =
    "space ::= (\" \" | \"\\n\" [ \\t]{0,20})?\n"
    "char ::= [^\"\\\\\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" unit)\n"
    "unit ::= [0-9abcefABCEF] hex hex hex | [dD] [0-7] hex hex |"
    " [dD] [89abAB] hex hex \"\\\\u\" [dD] [c-fC-F] hex hex\n"
    "hex ::= [0-9a-fA-F]\n"
    "chars ::= char*\n"
    "string ::= \"\\\"\" chars \"\\\"\"\n"
    "whole ::= \"0\" | [1-9] [0-9]{0,18}\n"
    "fraction ::= \".\" [0-9]{1,18}\n"
    "integer ::= \"-\"? whole\n"
    "number ::= \"-\"? whole fraction? ([eE] [+-]? [0-9]{1,2})?\n"
    "boolean ::= \"true\" | \"false\"\n"
    "object ::= \"{\" space (member (\",\" space member)*)? space \"}\"\n"
    "member ::= string \":\" space value\n"
    "array ::= \"[\" space (value (\",\" space value)*)? space \"]\"\n"
    "value ::= object | array | string | number | boolean | \"null\"\n"
    /* Days that there are, of the years 0001 to 9999. */
    "year ::= [1-9] [0-9]{3} | \"0\" [1-9] [0-9]{2} | \"00\" [1-9] [0-9] | \"000\" [1-9]\n"
    "leap ::= [0-9]{2} (\"0\" [48] | [2468] [048] | [13579] [26]) |"
    " (\"0\" [48] | [2468] [048] | [13579] [26]) \"00\"\n"
    "day ::= year \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01])"
    " | (\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\")"
    " | \"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8])) | leap \"-02-29\"\n"
    "minute ::= ([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9]\n"
    "clock ::= minute \":\" [0-5] [0-9] (\".\" [0-9]{1,9})? (\"Z\" | [+-] minute)\n"
    "date ::= \"\\\"\" day \"\\\"\"\n"
    "time ::= \"\\\"\" clock \"\\\"\"\n"
    "date-time ::= \"\\\"\" day \"T\" clock \"\\\"\"\n"
    "uuid ::= \"\\\"\" hex{8} \"-\" hex{4} \"-\" hex{4} \"-\" hex{4} \"-\" hex{12} \"\\\"\"\n"
    "octet ::= \"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9]{2} | [1-9]? [0-9]\n"
    "ipv4 ::= \"\\\"\" octet (\".\" octet){3} \"\\\"\"\n";

uint32_t schema_rule(schema *s, const char *name) {
    uint32_t rule = 0;
    if (!base_map_get(s->names, base_str_of(name), &rule)) s->rules.failed = true;
    return gram_call(&s->rules, rule);
}

uint32_t schema_new_rule(schema *s, const char *name, uint32_t body) {
    gram_rules *r = &s->rules;
    const uint32_t rule = gram_rule_new(r, base_str_of(name), 0, 0);
    if (!r->failed && !r->full) r->rule[rule].body = body;
    return gram_call(r, rule);
}

/* ==== Places ================================================================================== */

size_t schema_enter(schema *s, const char *key) {
    const size_t before = s->path.len;
    base_buf_puts(&s->path, "/");
    for (; *key; key++) {
        if (*key == '~' || *key == '/')
            base_buf_puts(&s->path, *key == '~' ? "~0" : "~1");
        else
            base_buf_append(&s->path, key, 1);
    }
    s->rules.failed |= s->path.failed;
    return before;
}

size_t schema_enter_at(schema *s, const char *key, size_t i) {
    const size_t before = schema_enter(s, key);
    base_buf_printf(&s->path, "/%zu", i);
    s->rules.failed |= s->path.failed;
    return before;
}

void schema_leave(schema *s, size_t to) {
    s->path.len = to;
    s->path.data[to] = 0;
}

rotor_status schema_fail(schema *s, rotor_status status, const char *fmt, ...) {
    char message[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    const char *path = s->path.data ? s->path.data : "#";
    const size_t n = strlen(path), most = 160;
    return base_fail(s->err, status, "schema %s%s: %s", n > most ? "…" : "",
                     n > most ? path + n - most : path, message);
}

/* ==== Keywords ================================================================================ */

static bool is_one_of(const char *word, const char *const *list) {
    while (*list && strcmp(word, *list) != 0) list++;
    return *list != NULL;
}

bool schema_is_note(const char *key) {
    static const char *const notes[] = {
        "$schema",         "$id",       "$comment", "$defs",         "definitions",
        "title",           "default",   "examples", "deprecated",    "description",
        "readOnly",        "writeOnly", "example",  "discriminator", "contentMediaType",
        "contentEncoding", NULL};
    return is_one_of(key, notes) || strncmp(key, "x-", 2) == 0;
}

static bool is_known(const char *key) {
    static const char *const known[] = {"type",
                                        "enum",
                                        "const",
                                        "$ref",
                                        "allOf",
                                        "anyOf",
                                        "oneOf",
                                        "properties",
                                        "required",
                                        "additionalProperties",
                                        "minProperties",
                                        "maxProperties",
                                        "items",
                                        "prefixItems",
                                        "minItems",
                                        "maxItems",
                                        "uniqueItems",
                                        "minLength",
                                        "maxLength",
                                        "pattern",
                                        "format",
                                        "minimum",
                                        "maximum",
                                        "multipleOf",
                                        "exclusiveMinimum",
                                        "exclusiveMaximum",
                                        NULL};
    return is_one_of(key, known) || schema_is_note(key);
}

static rotor_status check_keywords(schema *s, const json_t *j) {
    const char *key;
    json_t *value;
    size_t parts = schema_parts(j);
    json_object_foreach((json_t *)(uintptr_t)j, key, value) parts += schema_parts(value);
    if (!schema_may(s, parts)) return ROTOR_OK; /* gram_build says so */
    json_object_foreach((json_t *)(uintptr_t)j, key, value) {
        if (!is_known(key))
            return schema_fail(s, ROTOR_E_UNSUPPORTED, "the keyword \"%.80s\" is not supported",
                               key);
    }
    return ROTOR_OK;
}

/* Whether it says nothing beside some keyword. */
static bool says_only(const json_t *j, const char *keyword) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)j, key, value) {
        if (strcmp(key, keyword) != 0 && !schema_is_note(key)) return false;
    }
    return true;
}

rotor_status schema_count(schema *s, const json_t *j, const char *key, uint32_t *out) {
    const json_t *value = json_object_get(j, key);
    const double n = json_number_value(value);
    if (!value) return ROTOR_OK;
    if (!json_is_number(value) || n < 0 || (double)(int64_t)BASE_MIN(n, 1e15) != BASE_MIN(n, 1e15))
        return schema_fail(s, ROTOR_E_FORMAT, "%s is no whole number from 0 on", key);
    if (n > GRAM_MAX_REPEAT)
        return schema_fail(s, ROTOR_E_UNSUPPORTED, "%s is above %d", key, GRAM_MAX_REPEAT);
    *out = (uint32_t)n;
    return ROTOR_OK;
}

/* ==== Values ================================================================================== */

static int put_text(const char *p, size_t n, void *user) {
    return base_buf_append(user, p, n) ? 0 : -1;
}

/* A number with as few digits as read back as it. */
rotor_status schema_write_value(schema *s, const json_t *value, uint32_t *out) {
    const size_t flags = JSON_ENCODE_ANY | JSON_COMPACT;
    base_buf text = {0};
    for (size_t digits = 15; digits <= 17; digits++) {
        base_buf_reset(&text);
        if (json_dump_callback(value, put_text, &text, flags | JSON_REAL_PRECISION(digits)) != 0)
            s->rules.failed = true;
        if (!json_is_real(value) || s->rules.failed) break;
        if (strtod(text.data, NULL) == json_real_value(value)) break;
    }
    *out = gram_text(&s->rules, (base_str){text.data, text.len});
    base_buf_free(&text);
    return ROTOR_OK;
}

typedef enum type {
    NO_TYPE,
    OBJECT = 1,
    ARRAY = 2,
    STRING = 4,
    NUMBER = 8,
    INTEGER = 16,
    BOOLEAN = 32,
    NONE = 64,
    ANY = 111 /* every one of them, integers among the numbers */
} type;

static const struct {
    const char *name; /* as in a schema */
    unsigned type;    /* what it means */
} types[] = {{"object", OBJECT},   {"array", ARRAY},     {"string", STRING}, {"number", NUMBER},
             {"integer", INTEGER}, {"boolean", BOOLEAN}, {"null", NONE}};

static unsigned type_named(const char *name) {
    for (size_t i = 0; name && i < BASE_COUNT(types); i++)
        if (strcmp(types[i].name, name) == 0) return types[i].type;
    return NO_TYPE;
}

static rotor_status said_types(schema *s, const json_t *said, unsigned *out) {
    const json_t *one;
    size_t i;
    *out = json_is_string(said) ? type_named(json_string_value(said)) : NO_TYPE;
    json_array_foreach(said, i, one) {
        const unsigned t = type_named(json_string_value(one));
        if (!t) return schema_fail(s, ROTOR_E_FORMAT, "type/%zu is no type", i);
        *out |= t;
    }
    if (!*out) return schema_fail(s, ROTOR_E_FORMAT, "type is neither a type nor a list of them");
    return ROTOR_OK;
}

/* The types that the keywords of a schema speak of; all where they speak of none. */
static unsigned implied_types(const json_t *j) {
    static const struct {
        const char *key; /* keyword */
        unsigned type;   /* whose */
    } rows[] = {{"properties", OBJECT},
                {"required", OBJECT},
                {"minProperties", OBJECT},
                {"maxProperties", OBJECT},
                {"items", ARRAY},
                {"additionalProperties", OBJECT},
                {"prefixItems", ARRAY},
                {"minItems", ARRAY},
                {"maxItems", ARRAY},
                {"uniqueItems", ARRAY},
                {"minLength", STRING},
                {"maxLength", STRING},
                {"pattern", STRING},
                {"format", STRING},
                {"minimum", NUMBER},
                {"maximum", NUMBER},
                {"exclusiveMinimum", NUMBER},
                {"exclusiveMaximum", NUMBER},
                {"multipleOf", NUMBER}};
    unsigned out = NO_TYPE;
    for (size_t i = 0; i < BASE_COUNT(rows); i++)
        if (json_object_get(j, rows[i].key)) out |= rows[i].type;
    return out ? out : (unsigned)ANY;
}

static bool fits_type(const json_t *value, unsigned allowed) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return allowed & OBJECT;
    case JSON_ARRAY:
        return allowed & ARRAY;
    case JSON_STRING:
        return allowed & STRING;
    case JSON_INTEGER:
        return allowed & (NUMBER | INTEGER);
    case JSON_REAL:
        return allowed & NUMBER;
    case JSON_NULL:
        return allowed & NONE;
    default:
        return allowed & BOOLEAN;
    }
}

/* One of listed values. The other keywords of such a schema may only be its type. */
static rotor_status write_listed(schema *s, const json_t *j, uint32_t *out) {
    const json_t *one = json_object_get(j, "const"), *list = json_object_get(j, "enum"), *value;
    const json_t *said = json_object_get(j, "type");
    unsigned allowed = ANY | INTEGER;
    const char *key;
    json_t *any;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)j, key, any) {
        if (schema_is_note(key) || !strcmp(key, "type") || !strcmp(key, "enum")) continue;
        if (strcmp(key, "const") != 0)
            return schema_fail(s, ROTOR_E_UNSUPPORTED, "%s beside listed values is not supported",
                               key);
    }
    if (list && !json_is_array(list)) return schema_fail(s, ROTOR_E_FORMAT, "enum is no list");
    if (said) ROTOR_TRY(said_types(s, said, &allowed));
    *out = GRAM_NONE;
    if (one && !list && fits_type(one, allowed)) return schema_write_value(s, one, out);
    json_array_foreach(list, i, value) {
        uint32_t text = 0;
        if (!fits_type(value, allowed) || (one && !json_equal(one, value))) continue;
        ROTOR_TRY(schema_write_value(s, value, &text));
        *out = gram_alt(&s->rules, *out, text);
    }
    if (*out == GRAM_NONE) *out = gram_nothing(&s->rules);
    return ROTOR_OK;
}

static rotor_status write_type(schema *s, const json_t *j, unsigned t, uint32_t *out) {
    switch (t) {
    case OBJECT:
        return schema_object(s, j, out);
    case ARRAY:
        return schema_array(s, j, out);
    case STRING:
        return schema_string(s, j, out);
    case NUMBER:
        return schema_number(s, j, out);
    case INTEGER:
        return schema_integer(s, j, out);
    case BOOLEAN:
        return *out = schema_rule(s, "boolean"), ROTOR_OK;
    default:
        return *out = gram_cstr(&s->rules, "null"), ROTOR_OK;
    }
}

static rotor_status write_types(schema *s, const json_t *j, uint32_t *out) {
    const json_t *said = json_object_get(j, "type");
    unsigned allowed = implied_types(j);
    if (said) ROTOR_TRY(said_types(s, said, &allowed));
    if (allowed & NUMBER) allowed &= ~(unsigned)INTEGER;
    if (!said && allowed == ANY) return *out = schema_rule(s, "value"), ROTOR_OK;
    *out = GRAM_NONE;
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        uint32_t one;
        if (!(allowed & types[i].type)) continue;
        ROTOR_TRY(write_type(s, j, types[i].type, &one));
        *out = gram_alt(&s->rules, *out, one);
    }
    return ROTOR_OK;
}

/* ==== Schemas of schemas ====================================================================== */

static bool grow(schema *s, void **p, size_t *cap, size_t n, size_t elem_bytes) {
    if (n < *cap) return true;
    void *more = base_realloc(*p, (2 * *cap + 16) * elem_bytes);
    if (!more) return s->rules.failed = true, false;
    *p = more;
    *cap = 2 * *cap + 16;
    return true;
}

/* A call of the rule of what is referred to, which is written later. */
static rotor_status write_reference(schema *s, const char *ref, uint32_t *out) {
    const json_t *target;
    uint32_t rule;
    if (!schema_may(s, 1 + strlen(ref) / 16)) return *out = 0, ROTOR_OK;
    if (!base_map_get(s->refs, base_str_of(ref), &rule)) {
        ROTOR_TRY(schema_resolve(s, ref, &target));
        rule = gram_rule_new(&s->rules, base_str_of(ref), 0, 0);
        if (base_map_put(s->refs, base_str_of(ref), rule, NULL) != ROTOR_OK) s->rules.failed = true;
        if (!grow(s, (void **)&s->due, &s->cap_due, s->n_due, sizeof *s->due)) return ROTOR_OK;
        s->due[s->n_due++] = (schema_due){rule, target, ref};
    }
    *out = gram_call(&s->rules, rule);
    return ROTOR_OK;
}

/* One of several schemas, each together with what stands beside them. */
static rotor_status write_any_of(schema *s, const json_t *j, const char *keyword, uint32_t *out) {
    const char *const without[] = {keyword, NULL};
    const json_t *list = json_object_get(j, keyword), *beside, *one;
    const bool alone = says_only(j, keyword);
    size_t i;
    if (!json_array_size(list)) return schema_fail(s, ROTOR_E_FORMAT, "%s is no list", keyword);
    ROTOR_TRY(schema_without(s, j, without, &beside));
    *out = GRAM_NONE;
    json_array_foreach(list, i, one) {
        const size_t before = schema_enter_at(s, keyword, i);
        uint32_t written;
        if (!alone) ROTOR_TRY(schema_merge(s, beside, one, &one));
        ROTOR_TRY(schema_write(s, one, &written));
        schema_leave(s, before);
        *out = gram_alt(&s->rules, *out, written);
    }
    return ROTOR_OK;
}

static rotor_status write_all_of(schema *s, const json_t *j, uint32_t *out) {
    static const char *const without[] = {"allOf", NULL};
    const json_t *list = json_object_get(j, "allOf"), *one, *all;
    size_t i;
    if (!json_array_size(list)) return schema_fail(s, ROTOR_E_FORMAT, "allOf is no list");
    if (json_array_size(list) == 1 && says_only(j, "allOf"))
        return schema_write_part(s, "allOf/0", json_array_get(list, 0), out);
    ROTOR_TRY(schema_without(s, j, without, &all));
    json_array_foreach(list, i, one) {
        const size_t before = schema_enter_at(s, "allOf", i);
        ROTOR_TRY(schema_merge(s, all, one, &all));
        schema_leave(s, before);
    }
    return schema_write(s, all, out);
}

static rotor_status write_here(schema *s, const json_t *j, uint32_t *out) {
    static const char *const ref_only[] = {"$ref", NULL};
    const json_t *ref = json_object_get(j, "$ref"), *merged, *target;
    const bool any = json_object_get(j, "anyOf"), one = json_object_get(j, "oneOf");
    if (json_is_true(j)) return *out = schema_rule(s, "value"), ROTOR_OK;
    if (json_is_false(j)) return *out = gram_nothing(&s->rules), ROTOR_OK;
    if (!json_is_object(j))
        return schema_fail(s, ROTOR_E_FORMAT, "a schema is an object, true or false");
    ROTOR_TRY(check_keywords(s, j));
    if (s->rules.full) return *out = 0, ROTOR_OK;
    if (ref && !json_is_string(ref)) return schema_fail(s, ROTOR_E_FORMAT, "$ref is no text");
    if (ref && says_only(j, "$ref")) return write_reference(s, json_string_value(ref), out);
    if (ref) {
        ROTOR_TRY(schema_resolve(s, json_string_value(ref), &target));
        ROTOR_TRY(schema_without(s, j, ref_only, &merged));
        ROTOR_TRY(schema_merge(s, merged, target, &merged));
        return schema_write(s, merged, out);
    }
    if (json_object_get(j, "allOf")) return write_all_of(s, j, out);
    if (any && one) return schema_fail(s, ROTOR_E_UNSUPPORTED, "anyOf beside oneOf");
    if (any || one) return write_any_of(s, j, any ? "anyOf" : "oneOf", out);
    if (json_object_get(j, "const") || json_object_get(j, "enum")) return write_listed(s, j, out);
    return write_types(s, j, out);
}

rotor_status schema_write(schema *s, const json_t *j, uint32_t *out) {
    if (s->rules.failed || s->rules.full) return *out = 0, ROTOR_OK; /* gram_build says so */
    if (++s->depth > GRAM_MAX_DEPTH)
        return schema_fail(s, ROTOR_E_FULL, "schemas are nested deeper than %d", GRAM_MAX_DEPTH);
    ROTOR_TRY(write_here(s, j, out));
    s->depth--;
    return ROTOR_OK;
}

rotor_status schema_write_part(schema *s, const char *key, const json_t *j, uint32_t *out) {
    const size_t before = schema_enter(s, key);
    ROTOR_TRY(schema_write(s, j, out));
    schema_leave(s, before);
    return ROTOR_OK;
}

/* ==== The whole =============================================================================== */

static rotor_status load(schema *s, base_str text) {
    json_error_t why;
    json_decref(s->root);
    s->root = NULL;
    if (text.n > GRAM_MAX_TEXT)
        return base_fail(s->err, ROTOR_E_FULL, "the schema has %zu bytes, at most %d", text.n,
                         GRAM_MAX_TEXT);
    s->root =
        json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!s->root)
        return base_fail(s->err, ROTOR_E_FORMAT, "schema line %d, column %d: %.160s", why.line,
                         why.column, why.text);
    return ROTOR_OK;
}

/* The rules every schema may use. */
static rotor_status begin(schema *s) {
    if (base_map_create(&s->names, 64) != ROTOR_OK || !base_buf_puts(&s->path, "#"))
        return base_fail_nomem(s->err, "reading a schema");
    return gram_read(&s->rules, s->names, base_str_of(common_rules), false, s->err);
}

/* The schema in s->root, and what it refers to, as the body of a rule. */
static rotor_status write_all(schema *s, uint32_t rule) {
    uint32_t body;
    base_map_free(&s->refs); /* its keys are of the schema before */
    if (base_map_create(&s->refs, 16) != ROTOR_OK)
        return base_fail_nomem(s->err, "reading a schema");
    ROTOR_TRY(write_reference(s, "#", &body));
    if (!s->rules.failed && !s->rules.full) s->rules.rule[rule].body = body;
    while (s->n_done < s->n_due && !s->rules.failed && !s->rules.full) {
        const schema_due due = s->due[s->n_done++];
        base_buf_reset(&s->path);
        if (!base_buf_puts(&s->path, due.where)) s->rules.failed = true;
        ROTOR_TRY(schema_write(s, due.of, &body));
        if (!s->rules.failed && !s->rules.full) s->rules.rule[due.rule].body = body;
    }
    return ROTOR_OK;
}

/* Schemas merged from others go with the one they are of. The last first: it holds earlier ones,
 * which so never go together, one inside the other. */
static void forget(schema *s) {
    for (size_t i = s->n_made; i-- > 0;) json_decref(s->made[i]);
    s->n_made = 0;
}

static void end(schema *s) {
    forget(s);
    json_decref(s->root);
    base_free(s->made);
    base_free(s->due);
    base_map_free(&s->names);
    base_map_free(&s->refs);
    base_buf_free(&s->path);
    gram_rules_free(&s->rules);
}

rotor_status grammar_from_schema(grammar **out, base_str json, rotor_error *err) {
    static const gram_place nowhere = {.what = "schema"};
    schema s = {.err = err};
    rotor_status status = load(&s, json);
    if (status == ROTOR_OK) status = begin(&s);
    if (status == ROTOR_OK) status = write_all(&s, 0);
    if (status == ROTOR_OK) status = gram_build(out, &s.rules, &nowhere, err);
    end(&s);
    return status;
}

/* One rule of a mixed grammar. */
static rotor_status write_part(schema *s, const grammar_part *part) {
    const uint32_t rule = gram_rule_new(&s->rules, base_str_of(part->rule), 0, 0);
    s->depth = 0;
    if (s->rules.failed || s->rules.full) return ROTOR_OK; /* gram_build says so */
    if (base_map_put(s->names, base_str_of(part->rule), rule, NULL) != ROTOR_OK)
        return base_fail_nomem(s->err, "reading a schema");
    if (!part->schema.p) {
        const char byte = (char)(GRAM_MARK + part->mark);
        const uint32_t body = gram_text(&s->rules, (base_str){&byte, 1});
        if (!s->rules.failed && !s->rules.full) s->rules.rule[rule].body = body;
        return ROTOR_OK;
    }
    rotor_status status = load(s, part->schema);
    if (status == ROTOR_OK) status = write_all(s, rule);
    forget(s);
    return status == ROTOR_OK ? status : base_fail_in(s->err, status, "%s", part->what);
}

rotor_status grammar_from_parts(grammar **out, base_str gbnf, const grammar_part *parts, size_t n,
                                rotor_error *err) {
    static const gram_place nowhere = {.what = "grammar"};
    schema s = {.err = err};
    rotor_status status = begin(&s);
    for (size_t i = 0; i < n && status == ROTOR_OK; i++) status = write_part(&s, &parts[i]);
    if (status == ROTOR_OK) status = gram_read(&s.rules, s.names, gbnf, true, err);
    if (status == ROTOR_OK) status = gram_build(out, &s.rules, &nowhere, err);
    end(&s);
    return status;
}
