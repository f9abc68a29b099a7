/* SPDX-License-Identifier: MIT
 *
 * Families of calls: the table, which row a model is of, and the rules that answers are kept to.
 *
 * Rules follow what models of the family were trained to write, white space included as far as it
 * matters; the reader (call_reader.c) takes more than they allow.
 */
#include "chat/chat_internal.h"

#include <jansson.h>

/* The first row that fits counts, so the narrower one of two stands first. */
static const chat_family families[] = {
    {.name = "args",
     .hint = "[TOOL_CALLS]",
     .hint_2 = "[ARGS]",
     .open = "[TOOL_CALLS]",
     .args = "[ARGS]",
     .id = "[CALL_ID]",
     .key = "arguments"},
    {.name = "mistral",
     .hint = "[TOOL_CALLS]",
     .open = "[TOOL_CALLS]",
     .key = "arguments",
     .list = true},
    {.name = "hermes",
     .hint = "<tool_call>",
     .open = "<tool_call>",
     .close = "</tool_call>",
     .key = "arguments"},
    {.name = "bar",
     .hint = "<|tool_call|>",
     .open = "<|tool_call|>",
     .close = "<|/tool_call|>",
     .key = "arguments",
     .list = true},
    {.name = "llama",
     .hint = "\"parameters\"",
     .token = "<|python_tag|>",
     .open = "<|python_tag|>",
     .key = "parameters",
     .bare = true,
     .one = true},
    {.name = "generic", .key = "arguments", .bare = true},
};

bool chat_has(base_str text, const char *what) {
    const size_t n = strlen(what);
    for (size_t i = 0; i + n <= text.n; i++)
        if (memcmp(text.p + i, what, n) == 0) return true;
    return false;
}

static bool fits(const chat_family *f, base_str source, const text_vocab *v) {
    if (f->hint && !chat_has(source, f->hint)) return false;
    if (f->hint_2 && !chat_has(source, f->hint_2)) return false;
    return !f->token || chat_has(source, f->token) ||
           (v && text_find(v, base_str_of(f->token)) != TEXT_NO_ID);
}

const chat_family *chat_family_of(base_str source, const text_vocab *v) {
    size_t i = 0;
    while (i + 1 < BASE_COUNT(families) && !fits(&families[i], source, v)) i++;
    return &families[i];
}

const chat_family *chat_family_named(const char *name) {
    for (size_t i = 0; i < BASE_COUNT(families); i++)
        if (strcmp(families[i].name, name) == 0) return &families[i];
    return NULL;
}

const char *chat_family_mark(const chat_family *f, size_t i) {
    const char *const marks[CHAT_MARKS] = {f->open, f->close, f->args, f->id};
    return i < CHAT_MARKS ? marks[i] : NULL;
}

/* ==== Functions =============================================================================== */

static int append(const char *p, size_t n_bytes, void *user) {
    return base_buf_append(user, p, n_bytes) ? 0 : -1;
}

/* A value as text, behind what is there. False: out of memory. */
static bool put_json(base_buf *out, const json_t *v) {
    return v && json_dump_callback(v, append, out, JSON_ENCODE_ANY | JSON_COMPACT) == 0;
}

/* Arguments are an object, also where a schema says nothing of that. */
static bool put_schema(base_buf *out, const json_t *schema) {
    static const char *const shapes[] = {"type",  "$ref", "anyOf", "oneOf",
                                         "allOf", "enum", "const"};
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        if (json_object_get(schema, shapes[i])) return put_json(out, schema);
    json_t *typed = json_copy((json_t *)(uintptr_t)schema);
    const bool ok =
        json_object_set_new(typed, "type", json_string("object")) == 0 && put_json(out, typed);
    json_decref(typed);
    return ok;
}

/* A function without parameters takes none. */
static rotor_status read_tool(chat_tool *t, const json_t *tool, size_t i, rotor_error *err) {
    const json_t *fn = json_object_get(tool, "function");
    const json_t *schema = json_object_get(fn ? fn : tool, "parameters");
    const char *name = json_string_value(json_object_get(fn ? fn : tool, "name"));
    base_buf text = {0};
    if (!name || !name[0])
        return base_fail(err, ROTOR_E_FORMAT, "tools[%zu] is no function with a name", i);
    const bool ok = json_is_object(schema)
                        ? put_schema(&text, schema)
                        : base_buf_puts(&text, "{\"type\":\"object\",\"properties\":{}}");
    t->strict = json_is_true(json_object_get(fn ? fn : tool, "strict"));
    t->name = base_strdup(name);
    t->schema = ok ? base_strndup(text.data, text.len) : NULL;
    base_buf_free(&text);
    return t->name && t->schema ? ROTOR_OK : base_fail_nomem(err, "reading tools");
}

rotor_status chat_tools_read(chat_tools *out, base_str json, rotor_error *err) {
    json_error_t why;
    json_t *list = json_loadb(json.p ? json.p : "", json.n, 0, &why);
    chat_tools made = {0};
    if (!json_is_array(list)) {
        const bool broken = !list;
        json_decref(list);
        return base_fail(err, ROTOR_E_FORMAT, "tools: %.160s",
                         broken ? why.text : "expected a JSON array");
    }
    rotor_status status = ROTOR_OK;
    made.list = base_alloc_array(json_array_size(list) + 1, sizeof *made.list);
    if (!made.list) status = base_fail_nomem(err, "reading tools");
    for (size_t i = 0; status == ROTOR_OK && i < json_array_size(list); i++)
        status = read_tool(&made.list[made.n++], json_array_get(list, i), i, err);
    json_decref(list);
    if (status == ROTOR_OK)
        *out = made;
    else
        chat_tools_free(&made);
    return status;
}

void chat_tools_free(chat_tools *t) {
    for (size_t i = 0; i < t->n; i++) {
        base_free(t->list[i].name);
        base_free(t->list[i].schema);
    }
    base_free(t->list);
    *t = (chat_tools){0};
}

/* ==== Rules =================================================================================== */

void chat_put_literal(base_buf *out, const char *s) {
    base_buf_puts(out, "\"");
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            base_buf_printf(out, "\\%c", c);
        else if (c < 32)
            base_buf_printf(out, "\\x%02X", c);
        else
            base_buf_append(out, s, 1);
    }
    base_buf_puts(out, "\" ");
}

/* A name, as JSON writes it (quotes and all), or as it is. False: out of memory. */
static bool put_name(base_buf *out, const char *name, bool json) {
    json_t *v = json ? json_string(name) : NULL;
    base_buf text = {0};
    const bool ok = !json || put_json(&text, v);
    if (ok) chat_put_literal(out, json ? text.data : name);
    json_decref(v);
    base_buf_free(&text);
    return ok;
}

/* One call of any function, as the rule `call`. */
static bool put_call(base_buf *out, const chat_family *f, const chat_tools *t) {
    bool ok = true;
    base_buf_puts(out, "call ::= ");
    for (size_t i = 0; i < t->n; i++) {
        if (i) base_buf_puts(out, "| ");
        if (!f->args) base_buf_puts(out, "\"{\" space \"\\\"name\\\":\" space ");
        ok = put_name(out, t->list[i].name, !f->args) && ok;
        if (f->args) {
            chat_put_literal(out, f->args);
            base_buf_printf(out, "args-%zu ", i);
        } else {
            base_buf_printf(out, "\",\" space \"\\\"%s\\\":\" space args-%zu space \"}\" ", f->key,
                            i);
        }
    }
    base_buf_puts(out, "\n");
    return ok;
}

/* The answer: each call between its marks, or all of them in a list behind one. */
static void put_root(base_buf *out, const chat_family *f, bool single) {
    const char *again = single || f->one ? "" : "*";
    base_buf_puts(out, "root ::= ");
    if (f->list) {
        chat_put_literal(out, f->open);
        base_buf_puts(out, "space \"[\" space call ");
        if (*again) base_buf_puts(out, "(\",\" space call)* ");
        base_buf_puts(out, "space \"]\" ");
        if (f->close) base_buf_puts(out, "close? ");
    } else {
        base_buf_puts(out, "marked ");
        if (*again) base_buf_puts(out, f->bare ? "(\"\\n\" marked)* " : "(\"\\n\"? marked)* ");
    }
    base_buf_puts(out, "\nmarked ::= ");
    if (f->open && f->bare) base_buf_puts(out, "(");
    if (f->open) chat_put_literal(out, f->open);
    if (f->open && f->bare) base_buf_puts(out, ")? ");
    base_buf_puts(out, f->args || f->bare ? "call " : "space call space ");
    if (f->close && !f->list) base_buf_puts(out, "close");
    base_buf_puts(out, "\nclose ::= ");
    chat_put_literal(out, f->close ? f->close : "");
    base_buf_puts(out, "\n");
}

/* The name of a function tells a call from any other JSON object. */
static bool put_watch(base_buf *out, const chat_family *f, const chat_tools *t) {
    bool ok = true;
    base_buf_puts(out, "root ::= (");
    if (f->open) {
        chat_put_literal(out, f->open);
        base_buf_puts(out, "| ");
    }
    base_buf_puts(out, "\"{\" space \"\\\"name\\\":\" space (");
    for (size_t i = 0; i < t->n; i++) {
        if (i) base_buf_puts(out, "| ");
        ok = put_name(out, t->list[i].name, true) && ok;
    }
    base_buf_puts(out, ")) .*\nspace ::= (\" \" | \"\\n\" [ \\t]{0,20})?\n");
    return ok;
}

rotor_status chat_calls_write(const chat_family *f, const chat_tools *t, bool single,
                              chat_calls_rules *out) {
    put_root(&out->text, f, single);
    bool ok = put_call(&out->text, f, t);
    if (f->bare) ok = put_watch(&out->watch, f, t) && ok;
    return ok && !out->text.failed && !out->watch.failed ? ROTOR_OK : ROTOR_E_NOMEM;
}

void chat_calls_rules_free(chat_calls_rules *r) {
    base_buf_free(&r->text);
    base_buf_free(&r->watch);
}
