/* SPDX-License-Identifier: MIT
 *
 * Tests: what may stand after `is` and in selectattr.
 */
#include "chat/jinja_internal.h"

typedef enum test_id {
    T_DEFINED,
    T_UNDEFINED,
    T_NONE,
    T_STRING,
    T_NUMBER,
    T_INTEGER,
    T_FLOAT,
    T_BOOLEAN,
    T_TRUE,
    T_FALSE,
    T_MAPPING,
    T_ITERABLE,
    T_SEQUENCE,
    T_CALLABLE,
    T_ODD,
    T_EVEN,
    T_DIVISIBLEBY,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_IN,
    T_SAMEAS,
    T_UPPER,
    T_LOWER,
    T_FILTER,
    T_TEST
} test_id;

static const struct {
    const char *name; /* as written */
    test_id id;       /* meaning */
    size_t n_args;    /* arguments it takes */
} tests[] = {
    {"defined", T_DEFINED, 0},
    {"undefined", T_UNDEFINED, 0},
    {"none", T_NONE, 0},
    {"string", T_STRING, 0},
    {"number", T_NUMBER, 0},
    {"integer", T_INTEGER, 0},
    {"float", T_FLOAT, 0},
    {"boolean", T_BOOLEAN, 0},
    {"true", T_TRUE, 0},
    {"false", T_FALSE, 0},
    {"mapping", T_MAPPING, 0},
    {"iterable", T_ITERABLE, 0},
    {"sequence", T_SEQUENCE, 0},
    {"callable", T_CALLABLE, 0},
    {"odd", T_ODD, 0},
    {"even", T_EVEN, 0},
    {"divisibleby", T_DIVISIBLEBY, 1},
    {"eq", T_EQ, 1},
    {"equalto", T_EQ, 1},
    {"==", T_EQ, 1},
    {"ne", T_NE, 1},
    {"!=", T_NE, 1},
    {"lt", T_LT, 1},
    {"lessthan", T_LT, 1},
    {"<", T_LT, 1},
    {"le", T_LE, 1},
    {"<=", T_LE, 1},
    {"gt", T_GT, 1},
    {"greaterthan", T_GT, 1},
    {">", T_GT, 1},
    {"ge", T_GE, 1},
    {">=", T_GE, 1},
    {"in", T_IN, 1},
    {"sameas", T_SAMEAS, 1},
    {"upper", T_UPPER, 0},
    {"lower", T_LOWER, 0},
    {"filter", T_FILTER, 0},
    {"test", T_TEST, 0},
};

bool jin_have_test(base_str name) {
    for (size_t i = 0; i < BASE_COUNT(tests); i++)
        if (base_str_is(name, tests[i].name)) return true;
    return false;
}

static bool test_kind(test_id id, jin_val v) {
    switch (id) {
    case T_DEFINED:
        return v.kind != JIN_UNDEFINED;
    case T_UNDEFINED:
        return v.kind == JIN_UNDEFINED;
    case T_NONE:
        return v.kind == JIN_NONE;
    case T_STRING:
        return v.kind == JIN_STR;
    case T_NUMBER:
        return jin_is_number(v);
    case T_INTEGER:
        return v.kind == JIN_INT;
    case T_FLOAT:
        return v.kind == JIN_FLOAT;
    case T_BOOLEAN:
        return v.kind == JIN_BOOL;
    case T_TRUE:
        return v.kind == JIN_BOOL && v.u.b;
    case T_FALSE:
        return v.kind == JIN_BOOL && !v.u.b;
    case T_MAPPING:
        return v.kind == JIN_DICT;
    case T_ITERABLE:
    case T_SEQUENCE:
        return v.kind == JIN_STR || jin_is_list(v) || v.kind == JIN_DICT ||
               v.kind == JIN_UNDEFINED || (id == T_ITERABLE && v.kind == JIN_LOOP);
    default:
        return v.kind == JIN_MACRO || v.kind == JIN_METHOD || v.kind == JIN_FUNC;
    }
}

static rotor_status test_rest(jin_rt *rt, jin_val v, jin_val by, int64_t want, bool *out) {
    jin_val rest;
    ROTOR_TRY(jin_binary(rt, JIN_OP_MOD, v, by, &rest));
    return jin_equal(rt, rest, jin_of_int(want), out);
}

/* Python's isupper and islower: some cased character, and none of the other case. */
static rotor_status test_case(jin_rt *rt, jin_val v, bool upper, bool *out) {
    jin_val s, same, other;
    ROTOR_TRY(jin_to_str(rt, v, &s));
    ROTOR_TRY(jin_change_case(rt, s.u.s, upper ? JIN_UPPER : JIN_LOWER, &same));
    ROTOR_TRY(jin_change_case(rt, s.u.s, upper ? JIN_LOWER : JIN_UPPER, &other));
    *out = base_str_eq(jin_bytes(s.u.s), jin_bytes(same.u.s)) &&
           !base_str_eq(jin_bytes(s.u.s), jin_bytes(other.u.s));
    return ROTOR_OK;
}

static rotor_status test_same(jin_rt *rt, jin_val a, jin_val b, bool *out) {
    *out = false;
    return a.kind == b.kind ? jin_equal(rt, a, b, out) : ROTOR_OK;
}

static rotor_status run_test(jin_rt *rt, test_id id, jin_val v, const jin_val *arg, bool *out) {
    static const jin_op compare[] = {JIN_OP_EQ, JIN_OP_NE, JIN_OP_LT, JIN_OP_LE,
                                     JIN_OP_GT, JIN_OP_GE, JIN_OP_IN};
    switch (id) {
    case T_ODD:
        return test_rest(rt, v, jin_of_int(2), 1, out);
    case T_EVEN:
        return test_rest(rt, v, jin_of_int(2), 0, out);
    case T_DIVISIBLEBY:
        return test_rest(rt, v, *arg, 0, out);
    case T_EQ:
    case T_NE:
    case T_LT:
    case T_LE:
    case T_GT:
    case T_GE:
    case T_IN:
        return jin_compare(rt, compare[id - T_EQ], v, *arg, out);
    case T_SAMEAS:
        return test_same(rt, v, *arg, out);
    case T_UPPER:
        return test_case(rt, v, true, out);
    case T_LOWER:
        return test_case(rt, v, false, out);
    case T_FILTER:
        *out = v.kind == JIN_STR && jin_find_filter(jin_bytes(v.u.s));
        return ROTOR_OK;
    case T_TEST:
        *out = v.kind == JIN_STR && jin_have_test(jin_bytes(v.u.s));
        return ROTOR_OK;
    default:
        *out = test_kind(id, v);
        return ROTOR_OK;
    }
}

rotor_status jin_test(jin_rt *rt, base_str name, jin_val v, const jin_args *args, bool *out) {
    ROTOR_TRY(jin_step(rt, 0));
    for (size_t i = 0; i < BASE_COUNT(tests); i++) {
        if (!base_str_is(name, tests[i].name)) continue;
        if (args->n != tests[i].n_args)
            return jin_fail(rt, ROTOR_E_FORMAT, "the test '%s' takes %zu arguments, not %zu",
                            tests[i].name, tests[i].n_args, args->n);
        return run_test(rt, tests[i].id, v, &args->v[0], out);
    }
    return jin_fail(rt, ROTOR_E_UNSUPPORTED, "test '%.*s' is outside the template subset",
                    (int)BASE_MIN(name.n, 64), name.p);
}
