/* SPDX-License-Identifier: MIT
 *
 * The filter tojson: values as JSON text, laid out as Python's json.dumps does it, which is what
 * models saw in training. Parameters: ensure_ascii, indent, separators, sort_keys.
 */
#include "chat/jinja_internal.h"

#include <math.h>
#include <stdio.h>

typedef struct json_out {
    jin_str item_sep; /* between items */
    jin_str key_sep;  /* between key and value */
    jin_str pad;      /* one level of indentation */
    bool pretty;      /* lines and indentation */
    bool ascii;       /* escape everything above 127 */
    bool sort;        /* keys in order */
    int level;        /* current indentation */
} json_out;

static rotor_status put_json(jin_rt *rt, json_out *o, jin_val v);

static rotor_status put_code(jin_rt *rt, uint32_t cp, bool user) {
    char buf[16];
    if (cp >= 0x10000) {
        uint32_t low = cp - 0x10000;
        snprintf(buf, sizeof buf, "\\u%04x\\u%04x", 0xD800 + (low >> 10), 0xDC00 + (low & 0x3FF));
    } else {
        snprintf(buf, sizeof buf, "\\u%04x", cp);
    }
    return jin_put_marked(rt, buf, strlen(buf), user);
}

static rotor_status put_json_string(jin_rt *rt, const json_out *o, jin_str s) {
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    ROTOR_TRY(jin_put_text(rt, "\""));
    for (size_t at = 0; at < s.n;) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
        const char *hit = cp > 0 && cp < 128 ? strchr(from, cp) : NULL;
        if (hit) {
            char buf[2] = {'\\', to[hit - from]};
            ROTOR_TRY(jin_put_marked(rt, buf, 2, jin_user_at(s, at)));
        } else if ((cp >= 0 && cp < 32) || (cp > 127 && o->ascii)) {
            ROTOR_TRY(put_code(rt, (uint32_t)cp, jin_user_at(s, at)));
        } else {
            ROTOR_TRY(jin_put(rt, jin_slice(s, at, len)));
        }
        at += len;
    }
    return jin_put_text(rt, "\"");
}

static rotor_status put_line(jin_rt *rt, const json_out *o) {
    if (!o->pretty) return ROTOR_OK;
    ROTOR_TRY(jin_put_text(rt, "\n"));
    for (int i = 0; i < o->level; i++) ROTOR_TRY(jin_put(rt, o->pad));
    return ROTOR_OK;
}

static rotor_status put_array(jin_rt *rt, json_out *o, const jin_list *list) {
    if (!list->n) return jin_put_text(rt, "[]");
    ROTOR_TRY(jin_put_text(rt, "["));
    o->level++;
    for (size_t i = 0; i < list->n; i++) {
        if (i) ROTOR_TRY(jin_put(rt, o->item_sep));
        ROTOR_TRY(put_line(rt, o));
        ROTOR_TRY(put_json(rt, o, list->v[i]));
    }
    o->level--;
    ROTOR_TRY(put_line(rt, o));
    return jin_put_text(rt, "]");
}

/* Keys that are not strings are written as JSON would print them, in quotes. */
static rotor_status put_key(jin_rt *rt, json_out *o, jin_val key) {
    if (key.kind == JIN_STR) return put_json_string(rt, o, key.u.s);
    if (!jin_is_number(key) && key.kind != JIN_NONE)
        return jin_fail(rt, ROTOR_E_FORMAT, "a %s cannot be a JSON key", jin_kind_name(key.kind));
    ROTOR_TRY(jin_put_text(rt, "\""));
    ROTOR_TRY(put_json(rt, o, key));
    return jin_put_text(rt, "\"");
}

static rotor_status put_object(jin_rt *rt, json_out *o, jin_val v) {
    const jin_dict *d = v.u.dict;
    if (!d->n) return jin_put_text(rt, "{}");
    jin_args args = {.slot = {&(jin_val){JIN_BOOL, {.b = true}}}};
    jin_val pairs;
    const char *order = o->sort ? "dictsort" : "items";
    ROTOR_TRY(jin_find_filter(base_str_of(order))->fn(rt, v, &args, &pairs));
    ROTOR_TRY(jin_put_text(rt, "{"));
    o->level++;
    for (size_t i = 0; i < pairs.u.list->n; i++) {
        const jin_list *pair = pairs.u.list->v[i].u.list;
        if (i) ROTOR_TRY(jin_put(rt, o->item_sep));
        ROTOR_TRY(put_line(rt, o));
        ROTOR_TRY(put_key(rt, o, pair->v[0]));
        ROTOR_TRY(jin_put(rt, o->key_sep));
        ROTOR_TRY(put_json(rt, o, pair->v[1]));
    }
    o->level--;
    ROTOR_TRY(put_line(rt, o));
    return jin_put_text(rt, "}");
}

static rotor_status put_json_number(jin_rt *rt, double f) {
    if (isnan(f)) return jin_put_text(rt, "NaN");
    if (isinf(f)) return jin_put_text(rt, f < 0 ? "-Infinity" : "Infinity");
    return jin_put_float(rt, f, false);
}

static rotor_status put_any(jin_rt *rt, json_out *o, jin_val v) {
    switch (v.kind) {
    case JIN_NONE:
        return jin_put_text(rt, "null");
    case JIN_BOOL:
        return jin_put_text(rt, v.u.b ? "true" : "false");
    case JIN_INT:
        return jin_put_val(rt, v);
    case JIN_FLOAT:
        return put_json_number(rt, v.u.f);
    case JIN_STR:
        return put_json_string(rt, o, v.u.s);
    case JIN_LIST:
    case JIN_TUPLE:
        return put_array(rt, o, v.u.list);
    case JIN_DICT:
        return put_object(rt, o, v);
    default:
        return jin_fail(rt, ROTOR_E_FORMAT, "a %s has no JSON form", jin_kind_name(v.kind));
    }
}

static rotor_status put_json(jin_rt *rt, json_out *o, jin_val v) {
    ROTOR_TRY(jin_step(rt, v.kind == JIN_STR ? v.u.s.n : 0));
    ROTOR_TRY(jin_down(rt));
    ROTOR_TRY(put_any(rt, o, v));
    rt->depth--;
    return ROTOR_OK;
}

static rotor_status read_separators(jin_rt *rt, const jin_val *v, json_out *o) {
    if (!v || v->kind == JIN_NONE) return ROTOR_OK;
    if (!jin_is_list(*v) || v->u.list->n != 2 || v->u.list->v[0].kind != JIN_STR ||
        v->u.list->v[1].kind != JIN_STR)
        return jin_fail(rt, ROTOR_E_FORMAT, "separators is a pair of strings");
    o->item_sep = v->u.list->v[0].u.s;
    o->key_sep = v->u.list->v[1].u.s;
    return ROTOR_OK;
}

static rotor_status read_indent(jin_rt *rt, const jin_val *v, json_out *o) {
    if (!v || v->kind == JIN_NONE) return ROTOR_OK;
    o->pretty = true;
    o->item_sep = (jin_str){",", 1, NULL};
    if (v->kind == JIN_STR) return o->pad = v->u.s, ROTOR_OK;
    if (!jin_is_int(*v)) return jin_fail(rt, ROTOR_E_FORMAT, "indent is an integer or a string");
    jin_val pad;
    ROTOR_TRY(jin_binary(rt, JIN_OP_MUL, jin_of_text((base_str){" ", 1}), *v, &pad));
    return o->pad = pad.u.s, ROTOR_OK;
}

rotor_status jin_filter_tojson(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    json_out o = {.item_sep = {", ", 2, NULL}, .key_sep = {": ", 2, NULL}};
    o.ascii = a->slot[0] && jin_truthy(*a->slot[0]);
    o.sort = a->slot[3] && jin_truthy(*a->slot[3]);
    ROTOR_TRY(read_indent(rt, a->slot[1], &o));
    ROTOR_TRY(read_separators(rt, a->slot[2], &o));
    size_t mark = jin_mark(rt);
    ROTOR_TRY(put_json(rt, &o, self));
    return jin_cut(rt, mark, out);
}
