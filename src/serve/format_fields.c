/* SPDX-License-Identifier: MIT
 *
 * Rules that an answer is kept to: OpenAI's response_format, llama-server's grammar and
 * json_schema. They are read on the connection's thread, so that wrong ones are refused before
 * anything begins, and belong to the call.
 */
#include "serve/serve_internal.h"

bool serve_keep_to(serve_call *c, rotor_grammar_kind kind, const char *text, const char *param,
                   serve_fault *f) {
    const serve_rules_wish wish = {.kind = kind, .text = text};
    rotor_error err = {0};
    if (c->inside->rules)
        return serve_refuse(f, param, SERVE_INVALID_VALUE,
                            "'%s': the answer is kept to other rules already%s", param,
                            c->req.calls_in_text ? " (this model's calls are part of it)" : "");
    if (c->req.gen.ignore_eog)
        return serve_refuse(f, param, SERVE_INVALID_VALUE,
                            "'%s' says where the answer ends: it does not go with ignore_eos",
                            param);
    const rotor_status st = serve_rules_take(c, &wish, &err);
    if (st == ROTOR_OK) return true;
    if (st == ROTOR_E_NOMEM) return serve_no_memory(f);
    return serve_refuse(
        f, param, st == ROTOR_E_UNSUPPORTED ? SERVE_UNSUPPORTED_PARAMETER : SERVE_INVALID_VALUE,
        "'%s': %.500s", param, err.message);
}

bool serve_keep_to_schema(serve_call *c, json_t *schema, const char *param, serve_fault *f) {
    base_buf text = {0};
    if (!json_is_object(schema))
        return serve_refuse(f, param, SERVE_INVALID_VALUE, "'%s': expected an object", param);
    serve_put_json(&text, json_incref(schema));
    const bool ok = text.failed ? serve_no_memory(f)
                                : serve_keep_to(c, ROTOR_GRAMMAR_JSON_SCHEMA,
                                                text.data ? text.data : "", param, f);
    base_buf_free(&text);
    return ok;
}

static bool read_grammar(serve_call *c, serve_at at, serve_fault *f) {
    const char *text = NULL;
    if (!serve_read_text(at, "grammar", &text, f)) return false;
    if (!text || !text[0]) return true;
    return serve_keep_to(c, ROTOR_GRAMMAR_GBNF, text, "grammar", f);
}

bool serve_read_format(serve_call *c, serve_at format, serve_fault *f) {
    const char *type = "text";
    char path[96];
    serve_at at = format;
    if (!serve_read_text(format, "type", &type, f)) return false;
    if (strcmp(type, "text") == 0) return true;
    const bool by_schema = strcmp(type, "json_schema") == 0;
    if (!by_schema && strcmp(type, "json_object") != 0)
        return serve_refuse(f, serve_path(format, "type", path), SERVE_INVALID_VALUE,
                            "'%s' is '%.40s': expected text, json_object or json_schema", path,
                            type);
    if (!serve_field(format, "schema")) {
        if (!by_schema)
            return serve_keep_to(c, ROTOR_GRAMMAR_JSON_OBJECT, NULL,
                                 serve_path(format, "type", path), f);
        if (!serve_object(format, "json_schema", &at, f)) return false;
        if (!at.object) at = format;
    }
    json_t *schema = serve_field(at, "schema");
    serve_path(at, "schema", path);
    if (schema) return serve_keep_to_schema(c, schema, path, f);
    return serve_refuse(f, path, SERVE_MISSING_REQUIRED_PARAMETER, "'%s' is missing", path);
}

bool serve_read_rules(serve_call *c, serve_at at, serve_fault *f) {
    serve_at format;
    json_t *schema = serve_field(at, "json_schema");
    if (!serve_object(at, "response_format", &format, f)) return false;
    if (format.object && !serve_read_format(c, format, f)) return false;
    if (schema && !serve_keep_to_schema(c, schema, "json_schema", f)) return false;
    return read_grammar(c, at, f);
}
