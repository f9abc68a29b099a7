/* SPDX-License-Identifier: MIT
 *
 * Evaluation of template expressions.
 *
 * Names are looked up through a chain of scopes down to the globals; an unknown name is the value
 * "undefined", which prints as nothing and is false, but whose parts and arithmetic are errors.
 * There are no attributes but the ones written in the tables: `''.__class__` is undefined.
 */
#include "chat/jinja_internal.h"

/* ==== Names, attributes, items ================================================================ */

static const jin_val *find_var(const jin_dict *vars, base_str name) {
    for (size_t i = 0; i < vars->n; i++)
        if (base_str_eq(jin_bytes(vars->v[i].key.u.s), name)) return &vars->v[i].value;
    return NULL;
}

static rotor_status eval_name(jin_rt *rt, base_str name, const jin_scope *scope, jin_val *out) {
    size_t looked_at = 0;
    *out = jin_undefined(name);
    for (; scope; scope = scope->parent) {
        const jin_val *v = find_var(&scope->vars, name);
        looked_at += scope->vars.n;
        if (!v) continue;
        *out = *v;
        break;
    }
    return jin_step(rt, looked_at * 8);
}

static rotor_status loop_attr(jin_rt *rt, const jin_loop *loop, base_str name, jin_val *out) {
    int64_t i = (int64_t)loop->i, n = (int64_t)loop->items->n;
    const struct {
        const char *name; /* as written */
        int64_t value;    /* now */
    } numbers[] = {{"index", i + 1},           {"index0", i}, {"revindex", n - i},
                   {"revindex0", n - i - 1},   {"length", n}, {"depth", loop->depth},
                   {"depth0", loop->depth - 1}};
    for (size_t k = 0; k < BASE_COUNT(numbers); k++)
        if (base_str_is(name, numbers[k].name))
            return *out = jin_of_int(numbers[k].value), ROTOR_OK;
    if (base_str_is(name, "first"))
        *out = jin_of_bool(i == 0);
    else if (base_str_is(name, "last"))
        *out = jin_of_bool(i + 1 == n);
    else if (base_str_is(name, "previtem") && i > 0)
        *out = loop->items->v[i - 1];
    else if (base_str_is(name, "nextitem") && i + 1 < n)
        *out = loop->items->v[i + 1];
    return jin_step(rt, 0);
}

static rotor_status bind_method(jin_rt *rt, jin_val obj, base_str name, jin_val *out) {
    const jin_func *f = jin_find_method(obj.kind, name);
    if (!f) return ROTOR_OK;
    jin_method *m = jin_take(&rt->pool, sizeof *m);
    if (!m) return jin_fail_memory(rt);
    *m = (jin_method){obj, f};
    *out = (jin_val){JIN_METHOD, {.method = m}};
    return ROTOR_OK;
}

static rotor_status fail_undefined(jin_rt *rt, jin_val v) {
    return jin_fail(rt, ROTOR_E_FORMAT, "'%.*s' is undefined", (int)BASE_MIN(v.u.name.n, 64),
                    v.u.name.p ? v.u.name.p : "");
}

static rotor_status find_key(jin_rt *rt, const jin_dict *d, jin_val key, jin_val *out) {
    jin_val *found;
    ROTOR_TRY(jin_dict_find(rt, d, key, &found));
    if (found) *out = *found;
    return ROTOR_OK;
}

/* obj.name: a method comes before a key of the same name, as in the reference. */
rotor_status jin_attr(jin_rt *rt, jin_val obj, base_str name, jin_val *out) {
    *out = jin_undefined(name);
    switch (obj.kind) {
    case JIN_UNDEFINED:
        return fail_undefined(rt, obj);
    case JIN_LOOP:
        ROTOR_TRY(loop_attr(rt, obj.u.loop, name, out));
        break;
    case JIN_NAMESPACE:
        return find_key(rt, obj.u.dict, jin_of_text(name), out);
    default:
        break;
    }
    if (out->kind == JIN_UNDEFINED) ROTOR_TRY(bind_method(rt, obj, name, out));
    if (out->kind == JIN_UNDEFINED && obj.kind == JIN_DICT)
        return find_key(rt, obj.u.dict, jin_of_text(name), out);
    return ROTOR_OK;
}

static rotor_status index_item(jin_rt *rt, jin_val obj, int64_t i, jin_val *out) {
    size_t length;
    ROTOR_TRY(jin_length(rt, obj, &length));
    if (i < 0) i += (int64_t)length;
    if (i < 0 || i >= (int64_t)length) return ROTOR_OK;
    if (obj.kind != JIN_STR) return *out = obj.u.list->v[i], ROTOR_OK;
    size_t at = jin_char_offset(obj.u.s, (size_t)i);
    int32_t cp;
    int len = base_utf8_decode(obj.u.s.p + at, obj.u.s.n - at, &cp);
    *out = jin_of_str(jin_slice(obj.u.s, at, (size_t)len));
    return ROTOR_OK;
}

/* obj[key]: a key comes before a method. What is not there is undefined. */
rotor_status jin_item(jin_rt *rt, jin_val obj, jin_val key, jin_val *out) {
    *out = jin_undefined(key.kind == JIN_STR ? jin_bytes(key.u.s) : base_str_of("item"));
    if (obj.kind == JIN_UNDEFINED) return fail_undefined(rt, obj);
    if (obj.kind == JIN_DICT) {
        ROTOR_TRY(find_key(rt, obj.u.dict, key, out));
        if (out->kind != JIN_UNDEFINED || key.kind != JIN_STR) return ROTOR_OK;
        return bind_method(rt, obj, jin_bytes(key.u.s), out);
    }
    if (key.kind == JIN_STR) return jin_attr(rt, obj, jin_bytes(key.u.s), out);
    if (jin_is_int(key) && (obj.kind == JIN_STR || jin_is_list(obj)))
        return index_item(rt, obj, jin_int(key), out);
    return ROTOR_OK;
}

/* ==== Calls =================================================================================== */

rotor_status jin_eval_args(jin_rt *rt, const jin_node *list, jin_scope *scope, jin_args *out) {
    out->n = out->n_pos = 0;
    for (const jin_node *a = list; a; a = a->next) {
        bool keyword = a->kind == JIN_E_KEYWORD;
        out->names[out->n] = keyword ? a->name : (base_str){NULL, 0};
        ROTOR_TRY(jin_eval(rt, keyword ? a->a : a, scope, &out->v[out->n++]));
        out->n_pos += !keyword;
    }
    return ROTOR_OK;
}

/* Index of `name` in a list of words separated by spaces; -1 when absent. */
static int word_index(const char *words, base_str name) {
    for (int i = 0; *words; i++) {
        size_t n = strcspn(words, " ");
        if (n == name.n && memcmp(words, name.p, n) == 0) return i;
        words += n + (words[n] == ' ');
    }
    return -1;
}

static size_t count_words(const char *words) {
    size_t n = *words != 0;
    for (; *words; words++) n += *words == ' ';
    return n;
}

rotor_status jin_invoke(jin_rt *rt, const jin_func *f, jin_val self, jin_args *args, jin_val *out) {
    memset(args->slot, 0, sizeof args->slot);
    if (f->params[0] == '*') return f->fn(rt, self, args, out);
    if (args->n_pos > count_words(f->params))
        return jin_fail(rt, ROTOR_E_FORMAT, "too many arguments for '%s'", f->name);
    for (size_t i = 0; i < args->n; i++) {
        int at = i < args->n_pos ? (int)i : word_index(f->params, args->names[i]);
        if (at < 0 || args->slot[at])
            return jin_fail(rt, ROTOR_E_FORMAT, "'%s' has no use for the argument '%.*s'", f->name,
                            (int)BASE_MIN(args->names[i].n, 64), args->names[i].p);
        args->slot[at] = &args->v[i];
    }
    return f->fn(rt, self, args, out);
}

static rotor_status call_value(jin_rt *rt, jin_val f, jin_args *args, jin_val *out) {
    if (f.kind == JIN_METHOD) return jin_invoke(rt, f.u.method->func, f.u.method->self, args, out);
    if (f.kind == JIN_FUNC) return jin_invoke(rt, f.u.func, jin_none(), args, out);
    if (f.kind == JIN_MACRO) return jin_call_macro(rt, f.u.macro, args, out);
    if (f.kind == JIN_UNDEFINED)
        return jin_fail(rt, ROTOR_E_UNSUPPORTED,
                        "the function or method '%.*s' is not in the "
                        "template subset",
                        (int)BASE_MIN(f.u.name.n, 64), f.u.name.p);
    return jin_fail(rt, ROTOR_E_FORMAT, "a %s cannot be called", jin_kind_name(f.kind));
}

static rotor_status eval_call(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val f;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &f));
    jin_args args;
    ROTOR_TRY(jin_eval_args(rt, e->list, scope, &args));
    rt->line = e->line;
    return call_value(rt, f, &args, out);
}

static rotor_status eval_filter(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val in;
    jin_args args;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &in));
    ROTOR_TRY(jin_eval_args(rt, e->list, scope, &args));
    rt->line = e->line;
    return jin_invoke(rt, jin_find_filter(e->name), in, &args, out);
}

static rotor_status eval_test(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val v;
    bool yes;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &v));
    jin_args args;
    ROTOR_TRY(jin_eval_args(rt, e->list, scope, &args));
    ROTOR_TRY(jin_test(rt, e->name, v, &args, &yes));
    return *out = jin_of_bool(yes), ROTOR_OK;
}

/* ==== Literals and operators ================================================================== */

static rotor_status eval_list(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_list *list;
    size_t n = 0;
    for (const jin_node *c = e->list; c; c = c->next) n++;
    ROTOR_TRY(jin_list_new(rt, n, &list));
    n = 0;
    for (const jin_node *c = e->list; c; c = c->next)
        ROTOR_TRY(jin_eval(rt, c, scope, &list->v[n++]));
    *out = (jin_val){e->kind == JIN_E_LIST ? JIN_LIST : JIN_TUPLE, {.list = list}};
    return ROTOR_OK;
}

static rotor_status eval_dict(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_dict *dict = jin_take(&rt->pool, sizeof *dict);
    if (!dict) return jin_fail_memory(rt);
    for (const jin_node *c = e->list; c; c = c->next->next) {
        jin_val key, value;
        ROTOR_TRY(jin_eval(rt, c, scope, &key));
        ROTOR_TRY(jin_eval(rt, c->next, scope, &value));
        ROTOR_TRY(jin_dict_put(rt, dict, key, value));
    }
    *out = (jin_val){JIN_DICT, {.dict = dict}};
    return ROTOR_OK;
}

static rotor_status eval_slice(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val v, bounds[3];
    const jin_node *b = e->list;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &v));
    for (int i = 0; i < 3; i++, b = b->next) ROTOR_TRY(jin_eval(rt, b, scope, &bounds[i]));
    return jin_slice_value(rt, v, bounds, out);
}

static rotor_status eval_sign(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val v;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &v));
    if (v.kind == JIN_FLOAT) {
        *out = jin_of_float(e->kind == JIN_E_NEG ? -v.u.f : v.u.f);
        return ROTOR_OK;
    }
    if (!jin_is_int(v))
        return jin_fail(rt, ROTOR_E_FORMAT, "a sign before a %s", jin_kind_name(v.kind));
    return jin_binary(rt, e->kind == JIN_E_NEG ? JIN_OP_SUB : JIN_OP_ADD, jin_of_int(0), v, out);
}

static rotor_status eval_logic(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    ROTOR_TRY(jin_eval(rt, e->a, scope, out));
    if (jin_truthy(*out) == (e->kind == JIN_E_OR)) return ROTOR_OK;
    return jin_eval(rt, e->b, scope, out);
}

static rotor_status eval_binary(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val a, b;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &a));
    ROTOR_TRY(jin_eval(rt, e->b, scope, &b));
    rt->line = e->line;
    return jin_binary(rt, (jin_op)e->op, a, b, out);
}

static rotor_status eval_concat(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val all;
    ROTOR_TRY(eval_list(rt, e, scope, &all));
    size_t mark = jin_mark(rt);
    for (size_t i = 0; i < all.u.list->n; i++) ROTOR_TRY(jin_put_val(rt, all.u.list->v[i]));
    return jin_cut(rt, mark, out);
}

static rotor_status eval_compare(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val left, right;
    bool yes = true;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &left));
    for (const jin_node *o = e->list; o && yes; o = o->next) {
        ROTOR_TRY(jin_eval(rt, o->a, scope, &right));
        ROTOR_TRY(jin_compare(rt, (jin_op)o->op, left, right, &yes));
        left = right;
    }
    return *out = jin_of_bool(yes), ROTOR_OK;
}

static rotor_status eval_cond(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val test;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &test));
    if (jin_truthy(test)) return jin_eval(rt, e->b, scope, out);
    if (e->c) return jin_eval(rt, e->c, scope, out);
    return *out = jin_undefined(base_str_of("if without else")), ROTOR_OK;
}

static rotor_status eval_access(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val obj, key;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &obj));
    if (e->kind == JIN_E_ITEM) ROTOR_TRY(jin_eval(rt, e->b, scope, &key));
    rt->line = e->line;
    return e->kind == JIN_E_ITEM ? jin_item(rt, obj, key, out) : jin_attr(rt, obj, e->name, out);
}

static rotor_status eval_not(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    jin_val v;
    ROTOR_TRY(jin_eval(rt, e->a, scope, &v));
    return *out = jin_of_bool(!jin_truthy(v)), ROTOR_OK;
}

static rotor_status eval_any(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    switch ((jin_node_kind)e->kind) {
    case JIN_E_CONST:
        return *out = e->value, ROTOR_OK;
    case JIN_E_NAME:
        return eval_name(rt, e->name, scope, out);
    case JIN_E_LIST:
    case JIN_E_TUPLE:
        return eval_list(rt, e, scope, out);
    case JIN_E_DICT:
        return eval_dict(rt, e, scope, out);
    case JIN_E_ATTR:
    case JIN_E_ITEM:
        return eval_access(rt, e, scope, out);
    case JIN_E_SLICE:
        return eval_slice(rt, e, scope, out);
    case JIN_E_CALL:
        return eval_call(rt, e, scope, out);
    case JIN_E_FILTER:
        return eval_filter(rt, e, scope, out);
    case JIN_E_TEST:
        return eval_test(rt, e, scope, out);
    case JIN_E_NOT:
        return eval_not(rt, e, scope, out);
    case JIN_E_NEG:
    case JIN_E_POS:
        return eval_sign(rt, e, scope, out);
    case JIN_E_AND:
    case JIN_E_OR:
        return eval_logic(rt, e, scope, out);
    case JIN_E_BINARY:
        return eval_binary(rt, e, scope, out);
    case JIN_E_CONCAT:
        return eval_concat(rt, e, scope, out);
    case JIN_E_COMPARE:
        return eval_compare(rt, e, scope, out);
    case JIN_E_COND:
        return eval_cond(rt, e, scope, out);
    default:
        return jin_fail(rt, ROTOR_E_FORMAT, "not an expression");
    }
}

rotor_status jin_eval(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out) {
    rt->line = e->line;
    ROTOR_TRY(jin_step(rt, 0));
    ROTOR_TRY(jin_down(rt));
    ROTOR_TRY(eval_any(rt, e, scope, out));
    rt->depth--;
    return ROTOR_OK;
}

/* ==== Assignment ============================================================================== */

static rotor_status assign_attr(jin_rt *rt, const jin_node *target, jin_val v, jin_scope *scope) {
    jin_val ns;
    ROTOR_TRY(jin_eval(rt, target->a, scope, &ns));
    if (ns.kind != JIN_NAMESPACE)
        return jin_fail(rt, ROTOR_E_FORMAT, "only a namespace has attributes that can be set");
    return jin_dict_put(rt, ns.u.dict, jin_of_text(target->name), v);
}

rotor_status jin_assign(jin_rt *rt, const jin_node *target, jin_val v, jin_scope *scope) {
    if (target->kind == JIN_E_NAME)
        return jin_dict_put(rt, &scope->vars, jin_of_text(target->name), v);
    if (target->kind == JIN_E_ATTR) return assign_attr(rt, target, v, scope);
    const jin_list *items;
    const jin_node *t = target->list;
    ROTOR_TRY(jin_items(rt, v, &items));
    for (size_t i = 0; i < items->n && t; i++, t = t->next)
        ROTOR_TRY(jin_assign(rt, t, items->v[i], scope));
    size_t n = 0;
    for (const jin_node *c = target->list; c; c = c->next) n++;
    if (n != items->n) return jin_fail(rt, ROTOR_E_FORMAT, "%zu values for %zu names", items->n, n);
    return ROTOR_OK;
}
