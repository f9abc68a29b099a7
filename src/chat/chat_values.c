/* SPDX-License-Identifier: MIT
 *
 * A conversation as templates see it: `messages`, a list of mappings with role, content and what
 * else is known, and `tools`. All of it is the user's text but for roles and keys that templates
 * name themselves.
 *
 * Ids of calls are made here and are the same for the same conversation, whatever ids the client
 * uses: some templates insist on nine letters and digits, and a prompt that comes again is known.
 */
#include "chat/chat_internal.h"

#include <jansson.h>
#include <stdio.h>

enum { ID_CHARS = 9 };

static jin_val user_text(base_str s) {
    return jin_of_str((jin_str){s.p ? s.p : "", s.n, jin_all_user});
}

static rotor_status put(jin_rt *rt, jin_dict *d, const char *key, jin_val v) {
    return jin_dict_put(rt, d, jin_of_text(base_str_of(key)), v);
}

static rotor_status new_dict(jin_rt *rt, jin_dict **out) {
    *out = jin_take(&rt->pool, sizeof **out);
    return *out ? ROTOR_OK : jin_fail_memory(rt);
}

/* A copy that lives as long as the rendering. */
static rotor_status kept_text(jin_rt *rt, const char *p, size_t n, jin_val *out) {
    char *copy = jin_take(&rt->pool, n + 1);
    if (!copy) return jin_fail_memory(rt);
    memcpy(copy, p, n);
    *out = user_text((base_str){copy, n});
    return ROTOR_OK;
}

/* ==== JSON ==================================================================================== */

static rotor_status value_of(jin_rt *rt, const json_t *j, jin_val *out);

static rotor_status list_of(jin_rt *rt, const json_t *j, jin_val *out) {
    const size_t n = json_array_size(j);
    jin_list *list;
    ROTOR_TRY(jin_list_new(rt, n, &list));
    for (size_t i = 0; i < n; i++) ROTOR_TRY(value_of(rt, json_array_get(j, i), &list->v[i]));
    *out = (jin_val){JIN_LIST, {.list = list}};
    return ROTOR_OK;
}

static rotor_status dict_of(jin_rt *rt, const json_t *j, jin_val *out) {
    jin_dict *d;
    const char *key;
    json_t *one;
    ROTOR_TRY(new_dict(rt, &d));
    json_object_foreach((json_t *)(uintptr_t)j, key, one) {
        jin_val name, value;
        ROTOR_TRY(kept_text(rt, key, strlen(key), &name));
        ROTOR_TRY(value_of(rt, one, &value));
        ROTOR_TRY(jin_dict_put(rt, d, name, value));
    }
    *out = (jin_val){JIN_DICT, {.dict = d}};
    return ROTOR_OK;
}

static rotor_status plain_value(jin_rt *rt, const json_t *j, jin_val *out) {
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return dict_of(rt, j, out);
    case JSON_ARRAY:
        return list_of(rt, j, out);
    case JSON_STRING:
        return kept_text(rt, json_string_value(j), json_string_length(j), out);
    case JSON_INTEGER:
        return *out = jin_of_int(json_integer_value(j)), ROTOR_OK;
    case JSON_REAL:
        return *out = jin_of_float(json_real_value(j)), ROTOR_OK;
    case JSON_NULL:
        return *out = jin_none(), ROTOR_OK;
    default:
        return *out = jin_of_bool(json_is_true(j)), ROTOR_OK;
    }
}

static rotor_status value_of(jin_rt *rt, const json_t *j, jin_val *out) {
    ROTOR_TRY(jin_step(rt, 0));
    ROTOR_TRY(jin_down(rt));
    ROTOR_TRY(plain_value(rt, j, out));
    rt->depth--;
    return ROTOR_OK;
}

/* ==== Tools =================================================================================== */

/* Without `strict`, which is for whoever reads the answer. */
static rotor_status tools_value(jin_rt *rt, base_str text, jin_val *out) {
    json_error_t why;
    json_t *list = json_loadb(text.p, text.n, 0, &why), *tool;
    size_t i;
    *out = jin_none();
    if (!json_is_array(list)) {
        json_decref(list);
        return jin_fail(rt, ROTOR_E_FORMAT, "tools are no JSON array");
    }
    json_array_foreach(list, i, tool) json_object_del(json_object_get(tool, "function"), "strict");
    const rotor_status status = value_of(rt, list, out);
    json_decref(list);
    return status;
}

/* ==== Calls =================================================================================== */

/* Calls of a conversation, counted through. */
typedef struct counter {
    const chat_conversation *talk; /* whose */
    base_map *by_id;               /* owned; the newest call with an id */
    size_t n_calls;                /* seen so far */
    size_t n_results;              /* likewise */
} counter;

/* The call whose result message i is: the newest with its id, else the oldest without a result. */
static size_t call_of(const counter *c, size_t i) {
    const base_str id = c->talk->extras[i].call_id;
    uint32_t n;
    return id.n && base_map_get(c->by_id, id, &n) ? n : c->n_results;
}

static rotor_status id_value(jin_rt *rt, size_t i, jin_val *out) {
    char id[32];
    snprintf(id, sizeof id, "call%05zu", i % 100000);
    return kept_text(rt, id, ID_CHARS, out);
}

/* As a mapping where they are an object, which is what templates expect. */
static rotor_status arguments_value(jin_rt *rt, base_str text, jin_val *out) {
    json_t *v = json_loadb(text.p ? text.p : "", text.n, 0, NULL);
    *out = user_text(text);
    const rotor_status status = json_is_object(v) ? value_of(rt, v, out) : ROTOR_OK;
    json_decref(v);
    return status;
}

static rotor_status call_value(jin_rt *rt, const chat_called *call, size_t i, jin_val *out) {
    jin_dict *d, *function;
    jin_val id, arguments;
    ROTOR_TRY(new_dict(rt, &d));
    ROTOR_TRY(new_dict(rt, &function));
    ROTOR_TRY(id_value(rt, i, &id));
    ROTOR_TRY(arguments_value(rt, call->arguments, &arguments));
    ROTOR_TRY(put(rt, function, "name", user_text(call->name)));
    ROTOR_TRY(put(rt, function, "arguments", arguments));
    ROTOR_TRY(put(rt, d, "id", id));
    ROTOR_TRY(put(rt, d, "type", jin_of_text(base_str_of("function"))));
    *out = (jin_val){JIN_DICT, {.dict = d}};
    return put(rt, d, "function", (jin_val){JIN_DICT, {.dict = function}});
}

static rotor_status put_calls(jin_rt *rt, jin_dict *d, const chat_extra *x, counter *c) {
    jin_list *list;
    if (!x->n_calls) return ROTOR_OK;
    ROTOR_TRY(jin_list_new(rt, x->n_calls, &list));
    for (size_t i = 0; i < x->n_calls; i++) {
        const uint32_t n = (uint32_t)c->n_calls++;
        ROTOR_TRY(call_value(rt, &x->calls[i], n, &list->v[i]));
        if (base_map_put(c->by_id, x->calls[i].id, n, NULL) != ROTOR_OK) return jin_fail_memory(rt);
    }
    return put(rt, d, "tool_calls", (jin_val){JIN_LIST, {.list = list}});
}

static rotor_status put_result(jin_rt *rt, jin_dict *d, const chat_extra *x, counter *c, size_t i) {
    jin_val id;
    ROTOR_TRY(id_value(rt, call_of(c, i), &id));
    c->n_results++;
    if (x->name.n) ROTOR_TRY(put(rt, d, "name", user_text(x->name)));
    return put(rt, d, "tool_call_id", id);
}

/* ==== Messages ================================================================================ */

static rotor_status message_value(jin_rt *rt, counter *c, size_t i, jin_val *out) {
    const chat_message *m = &c->talk->messages[i];
    const chat_extra *x = c->talk->extras ? &c->talk->extras[i] : NULL;
    const uint8_t *role_mark = chat_role_is_literal(m->role) ? jin_all_user : NULL;
    jin_dict *d;
    ROTOR_TRY(new_dict(rt, &d));
    ROTOR_TRY(put(rt, d, "role",
                  jin_of_str((jin_str){m->role.p ? m->role.p : "", m->role.n, role_mark})));
    ROTOR_TRY(put(rt, d, "content", user_text(m->content)));
    *out = (jin_val){JIN_DICT, {.dict = d}};
    if (!x) return ROTOR_OK;
    if (x->reasoning.p) ROTOR_TRY(put(rt, d, "reasoning_content", user_text(x->reasoning)));
    if (base_str_is(m->role, "tool")) return put_result(rt, d, x, c, i);
    return put_calls(rt, d, x, c);
}

static rotor_status set_messages(jin_rt *rt, counter *c) {
    const chat_conversation *talk = c->talk;
    jin_list *list;
    jin_val tools = jin_none();
    ROTOR_TRY(jin_list_new(rt, talk->n, &list));
    for (size_t i = 0; i < talk->n; i++) ROTOR_TRY(message_value(rt, c, i, &list->v[i]));
    ROTOR_TRY(jin_set_global(rt, "messages", (jin_val){JIN_LIST, {.list = list}}));
    if (talk->tools.n) ROTOR_TRY(tools_value(rt, talk->tools, &tools));
    return jin_set_global(rt, "tools", tools);
}

rotor_status chat_set_messages(jin_rt *rt, const chat_conversation *talk) {
    counter c = {.talk = talk};
    if (base_map_create(&c.by_id, 0) != ROTOR_OK) return jin_fail_memory(rt);
    const rotor_status status = set_messages(rt, &c);
    base_map_free(&c.by_id);
    return status;
}
