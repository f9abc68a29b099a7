/* SPDX-License-Identifier: MIT
 *
 * Statements of a template: what writes to the output.
 *
 * A scope is made for each turn of a loop, each macro call and each block; `set` writes to the
 * innermost one, so a value set inside a loop is gone at the next turn (templates use a namespace
 * to carry one over), exactly as in the reference.
 */
#include "chat/jinja_internal.h"

static rotor_status exec_list(jin_rt *rt, const jin_node *s, jin_scope *scope);

static rotor_status scope_new(jin_rt *rt, jin_scope *parent, jin_scope **out) {
    *out = jin_take(&rt->pool, sizeof **out);
    if (!*out) return jin_fail_memory(rt);
    (*out)->parent = parent;
    return ROTOR_OK;
}

/* Runs body with its output cut off into a value. */
static rotor_status capture(jin_rt *rt, const jin_node *body, jin_scope *scope, jin_val *out) {
    size_t mark = jin_mark(rt);
    ROTOR_TRY(exec_list(rt, body, scope));
    return jin_cut(rt, mark, out);
}

static rotor_status exec_if(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    for (;;) {
        jin_val test;
        ROTOR_TRY(jin_eval(rt, s->a, scope, &test));
        if (jin_truthy(test)) return exec_list(rt, s->body, scope);
        if (!s->other || s->other->op != JIN_OP_ELIF) return exec_list(rt, s->other, scope);
        s = s->other;
    }
}

/* ==== Loops =================================================================================== */

/* The items that pass the loop's `if`. */
static rotor_status filter_items(jin_rt *rt, const jin_node *s, jin_scope *scope,
                                 const jin_list **items) {
    jin_list *kept;
    ROTOR_TRY(jin_list_new(rt, (*items)->n, &kept));
    kept->n = 0;
    for (size_t i = 0; i < (*items)->n; i++) {
        jin_scope *inner;
        jin_val pass;
        ROTOR_TRY(scope_new(rt, scope, &inner));
        ROTOR_TRY(jin_assign(rt, s->a, (*items)->v[i], inner));
        ROTOR_TRY(jin_eval(rt, s->c, inner, &pass));
        if (jin_truthy(pass)) kept->v[kept->n++] = (*items)->v[i];
    }
    *items = kept;
    return ROTOR_OK;
}

static rotor_status exec_turn(jin_rt *rt, const jin_node *s, jin_scope *scope,
                              const jin_loop *loop) {
    jin_scope *inner;
    ROTOR_TRY(scope_new(rt, scope, &inner));
    ROTOR_TRY(jin_dict_put(rt, &inner->vars, jin_of_text(base_str_of("loop")),
                           (jin_val){JIN_LOOP, {.loop = loop}}));
    ROTOR_TRY(jin_assign(rt, s->a, loop->items->v[loop->i], inner));
    return exec_list(rt, s->body, inner);
}

static rotor_status exec_for(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    jin_val iterable;
    jin_scope *inner;
    jin_loop *loop = jin_take(&rt->pool, sizeof *loop);
    if (!loop) return jin_fail_memory(rt);
    ROTOR_TRY(jin_eval(rt, s->b, scope, &iterable));
    ROTOR_TRY(jin_items(rt, iterable, &loop->items));
    if (s->c) ROTOR_TRY(filter_items(rt, s, scope, &loop->items));
    loop->depth = 1;       /* only recursive loops go deeper, and those are refused */
    bool finished = false; /* the reference runs `else` unless a turn reached its end */
    for (loop->i = 0; loop->i < loop->items->n; loop->i++) {
        ROTOR_TRY(exec_turn(rt, s, scope, loop));
        bool stop = rt->flow == JIN_FLOW_BREAK;
        finished |= rt->flow == JIN_FLOW_ON;
        rt->flow = JIN_FLOW_ON;
        if (stop) break;
    }
    if (finished || !s->other) return ROTOR_OK;
    ROTOR_TRY(scope_new(rt, scope, &inner));
    return exec_list(rt, s->other, inner);
}

/* ==== Definitions ============================================================================= */

static rotor_status exec_set(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    jin_val v;
    if (s->kind == JIN_S_SET) {
        ROTOR_TRY(jin_eval(rt, s->b, scope, &v));
    } else {
        jin_scope *inner;
        ROTOR_TRY(scope_new(rt, scope, &inner));
        ROTOR_TRY(capture(rt, s->body, inner, &v));
        ROTOR_TRY(jin_dict_put(rt, &inner->vars, jin_of_text(base_str_of(JIN_BLOCK)), v));
        if (s->b) ROTOR_TRY(jin_eval(rt, s->b, inner, &v));
    }
    return jin_assign(rt, s->a, v, scope);
}

static rotor_status exec_macro(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    jin_macro *m = jin_take(&rt->pool, sizeof *m);
    if (!m) return jin_fail_memory(rt);
    *m = (jin_macro){s, scope};
    return jin_dict_put(rt, &scope->vars, jin_of_text(s->name), (jin_val){JIN_MACRO, {.macro = m}});
}

/* The value of a macro's parameter number i; *given tells whether the caller passed one. */
static rotor_status argument(jin_rt *rt, const jin_node *param, size_t i, const jin_args *args,
                             const jin_val **given) {
    *given = i < args->n_pos ? &args->v[i] : NULL;
    for (size_t k = args->n_pos; k < args->n; k++) {
        if (!base_str_eq(args->names[k], param->name)) continue;
        if (*given)
            return jin_fail(rt, ROTOR_E_FORMAT, "two values for the parameter '%.*s'",
                            (int)BASE_MIN(param->name.n, 64), param->name.p);
        *given = &args->v[k];
    }
    return ROTOR_OK;
}

rotor_status jin_call_macro(jin_rt *rt, const jin_macro *m, const jin_args *args, jin_val *out) {
    jin_scope *scope;
    size_t n = 0, used = 0;
    ROTOR_TRY(scope_new(rt, m->scope, &scope));
    for (const jin_node *p = m->def->list; p; p = p->next, n++) {
        const jin_val *given;
        jin_val v = jin_undefined(p->name);
        ROTOR_TRY(argument(rt, p, n, args, &given));
        used += given != NULL;
        if (given)
            v = *given;
        else if (p->a)
            ROTOR_TRY(jin_eval(rt, p->a, scope, &v));
        ROTOR_TRY(jin_dict_put(rt, &scope->vars, jin_of_text(p->name), v));
    }
    if (used != args->n)
        return jin_fail(rt, ROTOR_E_FORMAT, "the macro '%.*s' takes %zu arguments",
                        (int)BASE_MIN(m->def->name.n, 64), m->def->name.p, n);
    return capture(rt, m->def->body, scope, out);
}

/* ==== Statements ============================================================================== */

static rotor_status exec_print(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    jin_val v;
    ROTOR_TRY(jin_eval(rt, s->a, scope, &v));
    return jin_put_val(rt, v);
}

static rotor_status exec_block(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    jin_scope *inner;
    ROTOR_TRY(scope_new(rt, scope, &inner));
    return exec_list(rt, s->body, inner);
}

static rotor_status exec_one(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    switch ((jin_node_kind)s->kind) {
    case JIN_S_TEXT:
        return jin_put(rt, s->value.u.s);
    case JIN_S_PRINT:
        return exec_print(rt, s, scope);
    case JIN_S_IF:
        return exec_if(rt, s, scope);
    case JIN_S_FOR:
        return exec_for(rt, s, scope);
    case JIN_S_SET:
    case JIN_S_SETBLOCK:
        return exec_set(rt, s, scope);
    case JIN_S_MACRO:
        return exec_macro(rt, s, scope);
    case JIN_S_BREAK:
        rt->flow = JIN_FLOW_BREAK;
        return ROTOR_OK;
    case JIN_S_CONTINUE:
        rt->flow = JIN_FLOW_CONTINUE;
        return ROTOR_OK;
    default:
        return exec_block(rt, s, scope);
    }
}

static rotor_status exec_list(jin_rt *rt, const jin_node *s, jin_scope *scope) {
    ROTOR_TRY(jin_down(rt));
    for (; s && rt->flow == JIN_FLOW_ON; s = s->next) {
        rt->line = s->line;
        ROTOR_TRY(jin_step(rt, 0));
        ROTOR_TRY(exec_one(rt, s, scope));
    }
    rt->depth--;
    return ROTOR_OK;
}

/* ==== A rendering ============================================================================= */

rotor_status jin_set_global(jin_rt *rt, const char *name, jin_val v) {
    return jin_dict_put(rt, &rt->globals.vars, jin_of_text(base_str_of(name)), v);
}

rotor_status jin_rt_init(jin_rt *rt, int64_t now_s, rotor_error *err) {
    memset(rt, 0, sizeof *rt);
    rt->pool.max_bytes = JIN_MAX_VALUE_BYTES;
    rt->now_s = now_s;
    rt->err = err;
    rt->line = 1;
    const jin_func *f;
    for (size_t i = 0; (f = jin_func_at(i)); i++)
        ROTOR_TRY(jin_set_global(rt, f->name, (jin_val){JIN_FUNC, {.func = f}}));
    return ROTOR_OK;
}

rotor_status jin_render(jin_rt *rt, const jin_tree *tree) {
    jin_scope *top;
    ROTOR_TRY(scope_new(rt, &rt->globals, &top));
    return exec_list(rt, tree->body, top);
}

void jin_rt_free(jin_rt *rt) {
    jin_pool_free(&rt->pool);
    base_buf_free(&rt->out);
    base_buf_free(&rt->marks);
}
