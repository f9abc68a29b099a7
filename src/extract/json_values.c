/* SPDX-License-Identifier: MIT
 *
 * JSON and lines of JSON.
 *
 * A file of JSON becomes one paragraph for each member of the outermost object or list: "path:
 * value" lines, so that a value is found together with what it is called. A line of a .jsonl file
 * is a document of its own: `_id` (or `id`), `title` and `text` (or `content`, `body`) are what
 * they are in retrieval corpora; other scalar members become META, and a line without text becomes
 * "path: value" lines.
 *
 * jansson bounds the depth (2048) and refuses what is not UTF-8; our own depth comes first.
 */
#include "extract/extract.h"

#include <jansson.h>
#include <stdio.h>

enum { LINE_FLAGS = JSON_DECODE_ANY | JSON_ALLOW_NUL };

static rotor_status load(ex *x, base_str text, json_t **out, size_t line) {
    json_error_t why;
    *out = json_loadb(text.p, text.n, LINE_FLAGS, &why);
    if (*out) return ROTOR_OK;
    return ex_fail(x, BASE_REASON_BROKEN, "not JSON: line %zu: %s",
                   line + (size_t)BASE_MAX(why.line, 1), why.text);
}

/* Appends "path: value\n" for each scalar. path grows and shrinks as a stack. */
static rotor_status flatten(ex *x, const json_t *v, base_buf *path, base_buf *to, uint32_t depth) {
    const size_t n = path->len;
    const char *key;
    json_t *member;
    size_t i;
    if (depth > x->limits.depth)
        return ex_fail(x, BASE_REASON_TOO_LARGE, "values more than %u deep", x->limits.depth);
    if (json_is_object(v)) {
        json_object_foreach((json_t *)(uintptr_t)v, key, member) {
            base_buf_printf(path, n ? ".%.200s" : "%.200s", key);
            ROTOR_TRY(flatten(x, member, path, to, depth + 1));
            path->len = n;
        }
        return ROTOR_OK;
    }
    if (json_is_array(v)) {
        json_array_foreach(v, i, member) {
            if (!json_is_string(member)) base_buf_printf(path, "[%zu]", i);
            ROTOR_TRY(flatten(x, member, path, to, depth + 1));
            path->len = n;
        }
        return ROTOR_OK;
    }
    if (json_is_null(v)) return ROTOR_OK;
    if (path->len) base_buf_append(to, path->data, path->len);
    if (path->len) base_buf_puts(to, ": ");
    if (json_is_string(v)) base_buf_append(to, json_string_value(v), json_string_length(v));
    if (json_is_integer(v)) base_buf_printf(to, "%lld", (long long)json_integer_value(v));
    if (json_is_real(v)) base_buf_printf(to, "%.15g", json_real_value(v));
    if (json_is_boolean(v)) base_buf_puts(to, json_is_true(v) ? "true" : "false");
    base_buf_puts(to, "\n");
    return path->failed || to->failed ? ex_nomem(x) : ROTOR_OK;
}

static rotor_status put_flat(ex *x, const char *name, const json_t *v) {
    base_buf path = {0}, text = {0};
    const ex_span all = {0, x->source->text.n};
    if (name) base_buf_printf(&path, "%.200s", name);
    rotor_status st = flatten(x, v, &path, &text, 1);
    if (st == ROTOR_OK) st = ex_put(x, BASE_BLOCK_PARA, 0, (base_str){text.data, text.len}, all);
    base_buf_free(&path);
    base_buf_free(&text);
    return st;
}

rotor_status ex_parse_json(ex *x) {
    json_t *root;
    const char *key;
    json_t *member;
    size_t i;
    ROTOR_TRY(load(x, x->source->text, &root, 0));
    rotor_status st = ROTOR_OK;
    if (json_is_object(root)) {
        json_object_foreach(root, key, member) {
            if (st == ROTOR_OK) st = put_flat(x, key, member);
        }
    } else if (json_is_array(root)) {
        json_array_foreach(root, i, member) {
            char name[32];
            snprintf(name, sizeof name, "[%zu]", i);
            if (st == ROTOR_OK) st = put_flat(x, name, member);
        }
    } else
        st = put_flat(x, NULL, root);
    json_decref(root);
    return st;
}

/* ---- Lines --------------------------------------------------------------------------------- */

static base_str string_of(const json_t *o, const char *const names[], size_t n, char number[32]) {
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(o, names[i]);
        if (json_is_string(v)) return (base_str){json_string_value(v), json_string_length(v)};
        if (json_is_integer(v)) {
            snprintf(number, 32, "%lld", (long long)json_integer_value(v));
            return base_str_of(number);
        }
    }
    return (base_str){0};
}

static bool is_name(const char *s) {
    for (const char *p = s; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || *p == '_')) return false;
    return *s != 0;
}

static rotor_status put_members(ex *x, json_t *o) {
    static const char *const known[] = {"_id", "id", "title", "text", "content", "body"};
    const char *key;
    json_t *v;
    json_object_foreach(o, key, v) {
        bool skip = !json_is_string(v) || !is_name(key);
        for (size_t i = 0; i < BASE_COUNT(known); i++) skip |= strcmp(key, known[i]) == 0;
        if (!skip)
            ROTOR_TRY(ex_put_meta(x, key, (base_str){json_string_value(v), json_string_length(v)}));
    }
    return ROTOR_OK;
}

static rotor_status put_line(ex *x, json_t *v, ex_span at) {
    static const char *const ids[] = {"_id", "id"}, *const titles[] = {"title"},
                             *const texts[] = {"text", "content", "body"};
    char id_number[32], number[32];
    const base_str id = string_of(v, ids, 2, id_number), title = string_of(v, titles, 1, number);
    const base_str text = string_of(v, texts, 3, number);
    ROTOR_TRY(ex_put(x, BASE_BLOCK_DOC, 0, title.n ? title : id, at));
    if (id.n) ROTOR_TRY(ex_put_meta(x, "id", id));
    if (!text.n) return put_flat(x, NULL, v);
    ROTOR_TRY(put_members(x, v));
    return ex_put(x, BASE_BLOCK_PARA, 0, text, at);
}

rotor_status ex_parse_jsonl(ex *x) {
    const base_str text = x->source->text;
    size_t line_number = 0, broken = 0, good = 0;
    for (size_t at = 0, next; at < text.n; at = next, line_number++) {
        const base_str line = ex_line(text, at, &next);
        json_t *v = NULL;
        if (ex_blank(line)) continue;
        rotor_status st = load(x, line, &v, line_number);
        if (st != ROTOR_OK) { /* one line more or less: the others are documents of their own */
            broken++;
            if (broken == 1) ROTOR_TRY(ex_put_note(x, "%s", x->err ? x->err->message : "not JSON"));
            continue;
        }
        const ex_place begin = ex_source_at(x->source, at),
                       end = ex_source_at(x->source, at + line.n);
        x->fixed = true;
        x->where = (base_block){.byte_begin = begin.raw,
                                .byte_end = end.raw,
                                .line_begin = (uint32_t)begin.line + 1,
                                .line_end = (uint32_t)begin.line + 1};
        st = put_line(x, v, (ex_span){at, at + line.n});
        x->fixed = false;
        json_decref(v);
        ROTOR_TRY(st);
        good++;
    }
    if (broken) ROTOR_TRY(ex_put_note(x, "%zu of %zu lines are not JSON", broken, broken + good));
    return good || !broken ? ROTOR_OK
                           : ex_fail(x, BASE_REASON_BROKEN, "none of %zu lines is JSON", broken);
}
