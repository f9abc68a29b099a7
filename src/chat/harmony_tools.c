/* SPDX-License-Identifier: MIT
 *
 * The developer message: instructions, functions as the models were shown them, answer formats.
 *
 * A function's parameters are a JSON schema; the model sees a type in the manner of TypeScript:
 *
 *     // Weather at a place.
 *     type get_weather = (_: {
 *     // City and country
 *     place: string,
 *     unit?: "c" | "f", // default: c
 *     }) => any;
 *
 * Layout follows the format's own library byte for byte, with its oddities: nested fields are
 * indented and the outermost are not; a default of a choice stands without quotes; a description
 * of several lines is not made into several comments. Keys keep their order.
 *
 * What is not understood becomes `any`. Schemas are hostile data: depth is limited.
 */
#include "chat/harmony_internal.h"

#include <jansson.h>

enum { DEPTH_MAX = 32, STEP = 4, VARIANT_STEP = 3 }; /* levels; blanks of indentation */

typedef struct writer {
    base_buf *out;    /* text so far */
    rotor_error *err; /* messages */
    int depth;        /* schemas inside schemas */
} writer;

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static void put(writer *w, const char *text) { base_buf_puts(w->out, text); }

static void pad(writer *w, int indent) {
    for (int i = 0; i < indent; i++) put(w, " ");
}

static void put_comment(writer *w, int indent, const char *text) {
    pad(w, indent);
    base_buf_printf(w->out, "// %s\n", text);
}

/* ==== Values ================================================================================== */

static int to_buffer(const char *p, size_t n_bytes, void *user) {
    return base_buf_append(user, p, n_bytes) ? 0 : -1;
}

/* JSON text with the fewest digits that mean the same numbers. */
static void put_json(writer *w, const json_t *value) {
    const size_t from = w->out->len, most = 17;
    for (size_t digits = 15; digits <= most; digits++) {
        w->out->len = from;
        if (json_dump_callback(value, to_buffer, w->out,
                               JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits)) != 0) {
            w->out->failed = true;
            return;
        }
        json_t *back = json_loadb(w->out->data + from, w->out->len - from, JSON_DECODE_ANY, NULL);
        bool same = json_equal(value, back);
        json_decref(back);
        if (same) return;
    }
}

static bool is_choice(const json_t *schema) {
    return json_array_size(json_object_get(schema, "enum")) > 0;
}

static void put_default(writer *w, const json_t *schema, const json_t *value, bool quote_choices) {
    put(w, "default: ");
    if (json_is_string(value) && !is_choice(schema))
        base_buf_printf(w->out, "\"%s\"", json_string_value(value));
    else if (json_is_string(value) && !quote_choices)
        put(w, json_string_value(value));
    else
        put_json(w, value);
}

/* ==== Types =================================================================================== */

static rotor_status put_type(writer *w, const json_t *schema, int indent);

/* A type, and that it may be null if the schema says so and the type does not. */
static rotor_status put_nullable(writer *w, const json_t *schema, int indent) {
    size_t from = w->out->len;
    ROTOR_TRY(put_type(w, schema, indent));
    if (json_is_true(json_object_get(schema, "nullable")) && w->out->data &&
        !strstr(w->out->data + from, "null"))
        put(w, " | null");
    return ROTOR_OK;
}

/* What stands behind a variant: its description and its default. */
static void put_remarks(writer *w, const json_t *variant, const char *description,
                        bool quote_choices) {
    const json_t *value = json_object_get(variant, "default");
    if (!description && !value) return;
    put(w, " // ");
    if (description) put(w, description);
    if (description && value) put(w, " ");
    if (value) put_default(w, variant, value, quote_choices);
}

/* Variants where a type is expected: each on a line of its own, the first one too. */
static rotor_status put_variants(writer *w, const json_t *list, int indent) {
    size_t i;
    json_t *variant;
    json_array_foreach(list, i, variant) {
        put(w, "\n");
        pad(w, indent);
        put(w, " | ");
        ROTOR_TRY(put_nullable(w, variant, indent + VARIANT_STEP));
        put_remarks(w, variant, text_of(variant, "description"), true);
    }
    return ROTOR_OK;
}

/* ["integer", "null"]; false: no names in it. */
static bool put_type_list(writer *w, const json_t *types) {
    size_t i, n = 0;
    json_t *one;
    json_array_foreach(types, i, one) {
        const char *name = json_string_value(one);
        if (!name) continue;
        if (n++) put(w, " | ");
        put(w, strcmp(name, "integer") == 0 ? "number" : name);
    }
    return n > 0;
}

static bool put_choices(writer *w, const json_t *list) {
    size_t i, n = 0;
    json_t *one;
    json_array_foreach(list, i, one) {
        if (!json_is_string(one)) continue;
        base_buf_printf(w->out, "%s\"%s\"", n++ ? " | " : "", json_string_value(one));
    }
    return n > 0;
}

static bool is_required(const json_t *schema, const char *key) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(schema, "required"), i, one) {
        if (json_is_string(one) && strcmp(json_string_value(one), key) == 0) return true;
    }
    return false;
}

/* ==== Fields ================================================================================== */

static void put_examples(writer *w, const json_t *list, int indent) {
    size_t i;
    json_t *one;
    if (!json_array_size(list)) return;
    put_comment(w, indent, "Examples:");
    json_array_foreach(list, i, one) {
        if (!json_is_string(one)) continue;
        pad(w, indent);
        base_buf_printf(w->out, "// - \"%s\"\n", json_string_value(one));
    }
}

static void put_name(writer *w, const char *key, bool required, int indent) {
    pad(w, indent);
    base_buf_printf(w->out, "%s%s:", key, required ? "" : "?");
}

/* A field with variants: what concerns all of them stands above, each variant has a line. A
 * description is not said twice. */
static rotor_status put_variant_field(writer *w, const char *key, const json_t *field,
                                      bool required, int indent) {
    const json_t *list = json_object_get(field, "oneOf"),
                 *value = json_object_get(field, "default");
    const char *about = text_of(field, "description");
    const char *about_first = text_of(json_array_get(list, 0), "description");
    bool above = about && !(about_first && strcmp(about, about_first) == 0);
    size_t i;
    json_t *variant;
    if (above) put_comment(w, indent, about);
    if (value) {
        pad(w, indent);
        put(w, "// ");
        put_default(w, field, value, false);
        put(w, "\n");
    }
    put_name(w, key, required, indent);
    put(w, "\n");
    json_array_foreach(list, i, variant) {
        const char *text = text_of(variant, "description");
        if ((i == 0 && above) || (text && about && strcmp(text, about) == 0)) text = NULL;
        pad(w, indent);
        put(w, " | ");
        ROTOR_TRY(put_nullable(w, variant, indent + VARIANT_STEP));
        put_remarks(w, variant, text, false);
        put(w, "\n");
    }
    pad(w, indent);
    put(w, ",\n");
    return ROTOR_OK;
}

static rotor_status put_field(writer *w, const char *key, const json_t *field, bool required,
                              int indent) {
    const json_t *variants = json_object_get(field, "oneOf");
    const json_t *value = variants ? NULL : json_object_get(field, "default");
    if (text_of(field, "title")) {
        put_comment(w, indent, text_of(field, "title"));
        pad(w, indent);
        put(w, "//\n");
    }
    if (!variants && text_of(field, "description"))
        put_comment(w, indent, text_of(field, "description"));
    put_examples(w, json_object_get(field, "examples"), indent);
    if (json_is_array(variants)) return put_variant_field(w, key, field, required, indent);
    put_name(w, key, required, indent);
    put(w, " ");
    ROTOR_TRY(put_nullable(w, field, indent + STEP));
    put(w, ",");
    if (value) {
        put(w, " // ");
        put_default(w, field, value, false);
    }
    put(w, "\n");
    return ROTOR_OK;
}

static rotor_status put_object(writer *w, const json_t *schema, int indent) {
    json_t *fields = json_object_get(schema, "properties"), *field;
    const char *key;
    if (text_of(schema, "description")) put_comment(w, indent, text_of(schema, "description"));
    put(w, "{\n");
    json_object_foreach(fields, key, field)
        ROTOR_TRY(put_field(w, key, field, is_required(schema, key), indent));
    pad(w, indent);
    put(w, "}");
    return ROTOR_OK;
}

static rotor_status put_named_type(writer *w, const json_t *schema, const char *type, int indent) {
    const json_t *items = json_object_get(schema, "items");
    if (strcmp(type, "object") == 0) return put_object(w, schema, indent);
    if (strcmp(type, "array") == 0 && items) {
        ROTOR_TRY(put_type(w, items, indent));
        put(w, "[]");
    } else if (strcmp(type, "array") == 0) {
        put(w, "Array<any>");
    } else if (strcmp(type, "string") == 0) {
        if (!put_choices(w, json_object_get(schema, "enum"))) put(w, "string");
    } else if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0) {
        put(w, "number");
    } else {
        put(w, strcmp(type, "boolean") == 0 ? "boolean" : "any");
    }
    return ROTOR_OK;
}

static rotor_status put_type(writer *w, const json_t *schema, int indent) {
    const json_t *variants = json_object_get(schema, "oneOf"),
                 *type = json_object_get(schema, "type");
    rotor_status st = ROTOR_OK;
    if (++w->depth > DEPTH_MAX)
        return base_fail(w->err, ROTOR_E_FORMAT, "tools: a schema is nested deeper than %d levels",
                         DEPTH_MAX);
    if (json_is_array(variants))
        st = put_variants(w, variants, indent);
    else if (json_is_string(type))
        st = put_named_type(w, schema, json_string_value(type), indent);
    else if (!put_type_list(w, type))
        put(w, "any");
    w->depth--;
    return st;
}

/* ==== Functions =============================================================================== */

/* Each line of text as a comment; the last one needs no end. */
static void put_comment_lines(writer *w, const char *text) {
    for (const char *end; *text; text = end + (*end == '\n')) {
        end = text + strcspn(text, "\n");
        size_t n = (size_t)(end - text);
        if (n && *end && text[n - 1] == '\r') n--;
        put(w, "// ");
        base_buf_append(w->out, text, n);
        put(w, "\n");
    }
}

static rotor_status put_function(writer *w, const json_t *tool, size_t i) {
    const char *type = text_of(tool, "type");
    const json_t *inner = json_object_get(tool, "function"), *f = inner ? inner : tool;
    const json_t *parameters = json_object_get(f, "parameters");
    if (type && strcmp(type, "function") != 0)
        return base_fail(w->err, ROTOR_E_FORMAT,
                         "tools: entry %zu has type '%.40s', expected "
                         "'function'",
                         i, type);
    if (!text_of(f, "name"))
        return base_fail(w->err, ROTOR_E_FORMAT, "tools: entry %zu has no name", i);
    put_comment_lines(w, text_of(f, "description") ? text_of(f, "description") : "");
    base_buf_printf(w->out, "type %s = (", text_of(f, "name"));
    if (parameters && !json_is_null(parameters)) {
        put(w, "_: ");
        ROTOR_TRY(put_type(w, parameters, 0));
    }
    put(w, ") => any;\n\n");
    return ROTOR_OK;
}

static rotor_status put_functions(writer *w, const json_t *list) {
    size_t i;
    json_t *tool;
    put(w, "# Tools\n\n## functions\n\nnamespace functions {\n\n");
    json_array_foreach(list, i, tool) ROTOR_TRY(put_function(w, tool, i));
    put(w, "} // namespace functions");
    return ROTOR_OK;
}

static rotor_status load(json_t **out, base_str text, const char *what, rotor_error *err) {
    json_error_t why;
    *out = json_loadb(text.p ? text.p : "", text.n, 0, &why);
    if (*out) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT, "%s: not JSON: line %d: %s", what, why.line, why.text);
}

static rotor_status put_tools(writer *w, base_str text) {
    json_t *list = NULL;
    ROTOR_TRY(load(&list, text, "tools", w->err));
    rotor_status st = ROTOR_OK;
    if (!json_is_array(list))
        st = base_fail(w->err, ROTOR_E_FORMAT, "tools: expected a JSON array of functions");
    else if (json_array_size(list))
        st = put_functions(w, list);
    json_decref(list);
    return st;
}

/* ==== The message ============================================================================= */

static void put_section(writer *w) {
    if (w->out->len) put(w, "\n\n");
}

static rotor_status put_format(writer *w, const harmony_format *f) {
    json_t *schema = NULL;
    ROTOR_TRY(load(&schema, f->schema, "response format", w->err));
    base_buf_printf(w->out, "\n\n## %.*s\n\n", (int)f->name.n, f->name.p ? f->name.p : "");
    char *about = base_strndup(f->description.p ? f->description.p : "", f->description.n);
    if (!about) w->out->failed = true;
    put_comment_lines(w, about ? about : "");
    put_json(w, schema);
    base_free(about);
    json_decref(schema);
    return ROTOR_OK;
}

bool harmony_has_tools(const harmony_chat *c) {
    json_t *list = c->tools.n ? json_loadb(c->tools.p, c->tools.n, 0, NULL) : NULL;
    bool has = json_array_size(list) > 0;
    json_decref(list);
    return has;
}

rotor_status harmony_developer(const harmony_chat *c, base_buf *out, rotor_error *err) {
    base_buf text = {0}, tools = {0};
    writer w = {.out = &tools, .err = err};
    rotor_status st = c->tools.n ? put_tools(&w, c->tools) : ROTOR_OK;
    w.out = &text;
    if (c->instructions.n) {
        put(&w, "# Instructions\n\n");
        base_buf_append(&text, c->instructions.p, c->instructions.n);
    }
    if (tools.len) {
        put_section(&w);
        base_buf_append(&text, tools.data, tools.len);
    }
    if (c->n_formats) {
        put_section(&w);
        put(&w, "# Response Formats");
    }
    for (size_t i = 0; i < c->n_formats && st == ROTOR_OK; i++) st = put_format(&w, &c->formats[i]);
    if (st == ROTOR_OK &&
        (text.failed || tools.failed || (text.len && !base_buf_append(out, text.data, text.len))))
        st = base_fail_nomem(err, "describing tools");
    base_buf_free(&text);
    base_buf_free(&tools);
    return st;
}
