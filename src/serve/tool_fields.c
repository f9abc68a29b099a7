/* SPDX-License-Identifier: MIT
 *
 * Functions that a model may call: tools, tool_choice and parallel_tool_calls in the form of the
 * chat protocol, into which the others bring theirs.
 *
 * Rules keep calls to the parameters of their functions, from the first token where a call is asked
 * for, else from where one begins. Most models write calls in the text of their answer, which other
 * rules can then not bind; those of the Harmony format in messages of their own, which they do not
 * touch, and may think before them.
 */
#include "serve/serve_internal.h"

/* A name that every form of calls can carry: some end it at white space or a bracket. */
static bool is_name(const char *name) {
    enum { NAME_MAX_BYTES = 64 };
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    const size_t n = strlen(name);
    return n && n <= NAME_MAX_BYTES && strspn(name, letters) == n;
}

/* The name of a function, and what else is said of it; NULL: it is none, or has no name. */
static const char *name_of(const json_t *tool, const json_t **fn) {
    const char *type = json_string_value(json_object_get(tool, "type"));
    *fn = json_object_get(tool, "function");
    return type && strcmp(type, "function") == 0 ? json_string_value(json_object_get(*fn, "name"))
                                                 : NULL;
}

static bool check_names(const json_t *list, serve_fault *f) {
    const json_t *tool, *fn;
    size_t i;
    json_array_foreach(list, i, tool) {
        const char *name = name_of(tool, &fn);
        if (!name || is_name(name)) continue;
        return serve_refuse(f, "tools", SERVE_INVALID_VALUE,
                            "'tools': function %zu is named '%.80s': expected 1 to 64 letters, "
                            "digits, '_', '-' and '.'",
                            i, name);
    }
    return true;
}

/* A list with only what is known: equal tools give equal tokens, whatever else was said. */
static json_t *known_tools(const json_t *list, const char *only) {
    json_t *out = json_array();
    const json_t *tool, *fn;
    size_t i;
    json_array_foreach(list, i, tool) {
        const char *name = name_of(tool, &fn);
        if (!name || (only && strcmp(only, name) != 0)) continue;
        json_t *copy = json_object();
        json_object_set_new(copy, "name", json_string(name));
        json_t *description = json_object_get(fn, "description");
        if (json_is_string(description)) json_object_set(copy, "description", description);
        json_t *parameters = json_object_get(fn, "parameters");
        if (json_is_object(parameters)) json_object_set(copy, "parameters", parameters);
        if (json_is_true(json_object_get(fn, "strict")))
            json_object_set_new(copy, "strict", json_true());
        json_array_append_new(out, json_pack("{s:s, s:o}", "type", "function", "function", copy));
    }
    return out;
}

json_t *serve_functions(const json_t *list, const char *type, bool untyped, const char *schema) {
    json_t *out = json_array();
    const json_t *tool;
    size_t i;
    json_array_foreach(list, i, tool) {
        const char *is = json_string_value(json_object_get(tool, "type"));
        if (is && is[0] ? strcmp(is, type) != 0 : !untyped) continue;
        json_array_append_new(out,
                              json_pack("{s:s, s:{s:O*, s:O*, s:O*, s:O*}}", "type", "function",
                                        "function", "name", json_object_get(tool, "name"),
                                        "description", json_object_get(tool, "description"),
                                        "parameters", json_object_get(tool, schema), "strict",
                                        json_object_get(tool, "strict")));
    }
    return out;
}

/* ==== Choice ================================================================================== */

typedef struct wish {
    bool none, required; /* no call; at least one */
    const char *only;    /* of this function; NULL: of any */
} wish;

static bool read_choice(serve_at at, wish *out, serve_fault *f) {
    const json_t *choice = serve_field(at, "tool_choice");
    const char *word = json_string_value(choice);
    if (!choice || (word && strcmp(word, "auto") == 0)) return true;
    if (word) {
        out->none = strcmp(word, "none") == 0;
        out->required = strcmp(word, "required") == 0 || strcmp(word, "any") == 0;
        return out->none || out->required ||
               serve_refuse(f, "tool_choice", SERVE_INVALID_VALUE,
                            "'tool_choice' is '%.40s': expected none, auto, required or an object",
                            word);
    }
    out->only = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    out->required = true;
    return out->only || serve_refuse(f, "tool_choice", SERVE_INVALID_VALUE,
                                     "'tool_choice': expected none, auto, required or an object "
                                     "{\"type\": \"function\", \"function\": {\"name\": …}}");
}

/* Calls are kept to what their functions take. Where they are not asked for, rules that are too
 * large are done without. */
static bool keep_calls(serve_call *c, const wish *w, bool single, serve_fault *f) {
    const serve_rules_wish rules = {
        .text = c->req.tools, .calls = true, .required = w->required, .single = single};
    const bool taken = c->req.calls_in_text && c->inside->rules;
    rotor_error err = {0};
    if (!w->required && (c->req.gen.ignore_eog || taken)) return true;
    if (c->req.gen.ignore_eog || taken)
        return serve_refuse(f, "tool_choice", SERVE_INVALID_VALUE,
                            "'tool_choice' says what the answer is: it does not go with %s",
                            taken ? "other rules for it" : "ignore_eos");
    const rotor_status st = serve_rules_take(c, &rules, &err);
    if (st == ROTOR_OK || (!w->required && st == ROTOR_E_FULL)) return true;
    if (st == ROTOR_E_NOMEM) return serve_no_memory(f);
    return serve_refuse(
        f, "tools", st == ROTOR_E_UNSUPPORTED ? SERVE_UNSUPPORTED_PARAMETER : SERVE_INVALID_VALUE,
        "'tools': %.500s", err.message);
}

static bool keep_text(serve_call *c, json_t *tools, serve_fault *f) {
    base_buf text = {0};
    serve_put_json(&text, tools);
    char *kept = text.failed ? NULL : serve_keep(c, text.len + 1, 1);
    if (kept) memcpy(kept, text.data, text.len);
    base_buf_free(&text);
    c->req.tools = kept;
    return kept || serve_no_memory(f);
}

bool serve_read_tools(serve_call *c, serve_at at, serve_fault *f) {
    const json_t *list;
    bool parallel = true;
    wish w = {0};
    if (!serve_read_list(at, "tools", &list, f) || !read_choice(at, &w, f) ||
        !serve_read_bool(at, "parallel_tool_calls", &parallel, f))
        return false;
    if (w.none) return true;
    if (!check_names(list, f)) return false;
    json_t *tools = known_tools(list, w.only);
    if (!json_array_size(tools)) {
        json_decref(tools);
        if (w.only)
            return serve_refuse(f, "tool_choice", SERVE_INVALID_VALUE,
                                "'tool_choice' names %.60s, which is not among 'tools'", w.only);
        return !w.required || serve_refuse(f, "tool_choice", SERVE_INVALID_VALUE,
                                           "'tool_choice' asks for a call: there are no 'tools'");
    }
    if (!keep_text(c, tools, f)) return false;
    const char *how = rotor_chat_calls(c->engine);
    c->req.calls_in_text = how && !rotor_chat_has_parts(c->engine);
    c->req.single_call = !parallel;
    return !how || keep_calls(c, &w, !parallel, f);
}
