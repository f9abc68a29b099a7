/* SPDX-License-Identifier: MIT
 *
 * Operators of the template interpreter: arithmetic, comparison, slices, as Python does them.
 * Integers are 64-bit; what Python would make larger is an error here.
 */
#include "chat/jinja_internal.h"

#include <math.h>

static rotor_status overflow(jin_rt *rt) {
    return jin_fail(rt, ROTOR_E_FORMAT, "a number does not fit 64 bits");
}

/* ==== Arithmetic ============================================================================== */

static bool floor_div(int64_t a, int64_t b, int64_t *quotient, int64_t *rest) {
    if (a == INT64_MIN && b == -1) return false;
    int64_t q = a / b, r = a % b;
    bool down = r != 0 && (r < 0) != (b < 0);
    *quotient = q - down;
    *rest = r + (down ? b : 0);
    return true;
}

static rotor_status int_power(jin_rt *rt, int64_t a, int64_t b, jin_val *out) {
    if (b < 0) {
        if (!a) return jin_fail(rt, ROTOR_E_FORMAT, "0 to a negative power");
        return *out = jin_of_float(pow((double)a, (double)b)), ROTOR_OK;
    }
    int64_t r = 1;
    if (a == 0 || a == 1)
        r = b ? a : 1;
    else if (a == -1)
        r = b % 2 ? -1 : 1;
    else
        for (; b; b--)
            if (__builtin_mul_overflow(r, a, &r)) return overflow(rt);
    return *out = jin_of_int(r), ROTOR_OK;
}

static rotor_status int_math(jin_rt *rt, jin_op op, int64_t a, int64_t b, jin_val *out) {
    int64_t r = 0, rest = 0;
    bool fits = true;
    if ((op == JIN_OP_DIV || op == JIN_OP_FLOORDIV || op == JIN_OP_MOD) && !b)
        return jin_fail(rt, ROTOR_E_FORMAT, "division by zero");
    switch (op) {
    case JIN_OP_ADD:
        fits = !__builtin_add_overflow(a, b, &r);
        break;
    case JIN_OP_SUB:
        fits = !__builtin_sub_overflow(a, b, &r);
        break;
    case JIN_OP_MUL:
        fits = !__builtin_mul_overflow(a, b, &r);
        break;
    case JIN_OP_DIV:
        return *out = jin_of_float((double)a / (double)b), ROTOR_OK;
    case JIN_OP_FLOORDIV:
        fits = floor_div(a, b, &r, &rest);
        break;
    case JIN_OP_MOD:
        if (b == -1) return *out = jin_of_int(0), ROTOR_OK;
        fits = floor_div(a, b, &rest, &r);
        break;
    default:
        return int_power(rt, a, b, out);
    }
    return fits ? (*out = jin_of_int(r), ROTOR_OK) : overflow(rt);
}

static double float_mod(double a, double b) {
    double r = fmod(a, b);
    if (r == 0) return copysign(0.0, b);
    return (r < 0) != (b < 0) ? r + b : r;
}

static double float_floor_div(double a, double b) {
    double d = (a - float_mod(a, b)) / b, f = floor(d);
    if (d == 0) return copysign(0.0, a / b);
    return d - f > 0.5 ? f + 1.0 : f;
}

static rotor_status float_math(jin_rt *rt, jin_op op, double a, double b, jin_val *out) {
    double r;
    if ((op == JIN_OP_DIV || op == JIN_OP_FLOORDIV || op == JIN_OP_MOD) && b == 0)
        return jin_fail(rt, ROTOR_E_FORMAT, "division by zero");
    switch (op) {
    case JIN_OP_ADD:
        r = a + b;
        break;
    case JIN_OP_SUB:
        r = a - b;
        break;
    case JIN_OP_MUL:
        r = a * b;
        break;
    case JIN_OP_DIV:
        r = a / b;
        break;
    case JIN_OP_FLOORDIV:
        r = float_floor_div(a, b);
        break;
    case JIN_OP_MOD:
        r = float_mod(a, b);
        break;
    default:
        r = pow(a, b);
        if (isnan(r) || (isinf(r) && isfinite(a) && isfinite(b)))
            return jin_fail(rt, ROTOR_E_FORMAT, "a power without a finite real value");
    }
    return *out = jin_of_float(r), ROTOR_OK;
}

static rotor_status join_lists(jin_rt *rt, jin_val a, jin_val b, jin_val *out) {
    jin_list *list;
    size_t n_a = a.u.list->n, n_b = b.u.list->n;
    ROTOR_TRY(jin_list_new(rt, n_a + n_b, &list));
    if (n_a) memcpy(list->v, a.u.list->v, n_a * sizeof *list->v);
    if (n_b) memcpy(list->v + n_a, b.u.list->v, n_b * sizeof *list->v);
    *out = (jin_val){a.kind, {.list = list}};
    return ROTOR_OK;
}

static rotor_status repeat(jin_rt *rt, jin_val v, int64_t times, jin_val *out) {
    size_t n = times > 0 ? (size_t)times : 0;
    if (v.kind == JIN_STR) {
        size_t mark = jin_mark(rt);
        if (v.u.s.n == 0) n = 0;
        for (size_t i = 0; i < n; i++) {
            ROTOR_TRY(jin_step(rt, 0));
            ROTOR_TRY(jin_put(rt, v.u.s));
        }
        return jin_cut(rt, mark, out);
    }
    jin_list *list;
    size_t each = v.u.list->n, total;
    if (!base_mul_size(each, n, &total)) total = SIZE_MAX / sizeof(jin_val);
    ROTOR_TRY(jin_list_new(rt, total, &list));
    for (size_t i = 0; i < total; i++) list->v[i] = v.u.list->v[i % each];
    *out = (jin_val){v.kind, {.list = list}};
    return jin_step(rt, total * sizeof(jin_val));
}

rotor_status jin_binary(jin_rt *rt, jin_op op, jin_val a, jin_val b, jin_val *out) {
    static const char *const names[] = {"", "+", "-", "*", "/", "//", "%", "**"};
    if (jin_is_int(a) && jin_is_int(b)) return int_math(rt, op, jin_int(a), jin_int(b), out);
    if (jin_is_number(a) && jin_is_number(b))
        return float_math(rt, op, jin_float(a), jin_float(b), out);
    if (op == JIN_OP_ADD && a.kind == JIN_STR && b.kind == JIN_STR) {
        size_t mark = jin_mark(rt);
        ROTOR_TRY(jin_put(rt, a.u.s));
        ROTOR_TRY(jin_put(rt, b.u.s));
        return jin_cut(rt, mark, out);
    }
    if (op == JIN_OP_ADD && jin_is_list(a) && a.kind == b.kind) return join_lists(rt, a, b, out);
    if (op == JIN_OP_MUL && jin_is_int(a) && (b.kind == JIN_STR || jin_is_list(b)))
        return repeat(rt, b, jin_int(a), out);
    if (op == JIN_OP_MUL && jin_is_int(b) && (a.kind == JIN_STR || jin_is_list(a)))
        return repeat(rt, a, jin_int(b), out);
    if (op == JIN_OP_MOD && a.kind == JIN_STR)
        return jin_fail(rt, ROTOR_E_UNSUPPORTED,
                        "formatting with %% is outside the template subset");
    jin_val bad = a.kind == JIN_UNDEFINED ? a : b;
    if (bad.kind == JIN_UNDEFINED)
        return jin_fail(rt, ROTOR_E_FORMAT, "'%.*s' is undefined (operand of %s)",
                        (int)BASE_MIN(bad.u.name.n, 64), bad.u.name.p ? bad.u.name.p : "",
                        names[op]);
    return jin_fail(rt, ROTOR_E_FORMAT, "cannot compute %s %s %s", jin_kind_name(a.kind), names[op],
                    jin_kind_name(b.kind));
}

/* ==== Comparison ============================================================================== */

rotor_status jin_compare(jin_rt *rt, jin_op op, jin_val a, jin_val b, bool *out) {
    bool same, less;
    switch (op) {
    case JIN_OP_EQ:
        return jin_equal(rt, a, b, out);
    case JIN_OP_NE:
        ROTOR_TRY(jin_equal(rt, a, b, &same));
        return *out = !same, ROTOR_OK;
    case JIN_OP_LT:
        return jin_less(rt, a, b, out);
    case JIN_OP_GT:
        return jin_less(rt, b, a, out);
    case JIN_OP_LE:
    case JIN_OP_GE:
        /* Not the negation of the opposite: nan is neither. */
        ROTOR_TRY(op == JIN_OP_LE ? jin_less(rt, a, b, &less) : jin_less(rt, b, a, &less));
        ROTOR_TRY(jin_equal(rt, a, b, &same));
        return *out = less || same, ROTOR_OK;
    default:
        ROTOR_TRY(jin_contains(rt, b, a, &same));
        return *out = same == (op == JIN_OP_IN), ROTOR_OK;
    }
}

/* ==== Slices ================================================================================== */

static int64_t clamp(int64_t v, int64_t low, int64_t high) {
    return v < low ? low : v > high ? high : v;
}

/* Python's rule: a negative bound counts from the end, then both are clamped. */
static int64_t bound(jin_val v, int64_t n, bool backwards, bool is_start) {
    int64_t low = backwards ? -1 : 0, high = backwards ? n - 1 : n;
    if (v.kind == JIN_NONE) return is_start == backwards ? high : low;
    int64_t i = jin_int(v);
    return clamp(i < 0 ? i + n : i, low, high);
}

static rotor_status slice_string(jin_rt *rt, jin_str s, int64_t start, int64_t step, int64_t count,
                                 jin_val *out) {
    if (step == 1) {
        size_t begin = jin_char_offset(s, (size_t)start);
        jin_str rest = jin_slice(s, begin, s.n - begin);
        *out = jin_of_str(jin_slice(rest, 0, jin_char_offset(rest, (size_t)count)));
        return jin_step(rt, s.n);
    }
    const jin_list *chars;
    size_t mark = jin_mark(rt);
    ROTOR_TRY(jin_items(rt, jin_of_str(s), &chars));
    for (int64_t i = 0; i < count; i++) ROTOR_TRY(jin_put(rt, chars->v[start + i * step].u.s));
    return jin_cut(rt, mark, out);
}

rotor_status jin_slice_value(jin_rt *rt, jin_val v, const jin_val bounds[3], jin_val *out) {
    if (v.kind != JIN_STR && !jin_is_list(v))
        return jin_fail(rt, ROTOR_E_FORMAT, "a %s cannot be sliced", jin_kind_name(v.kind));
    for (int i = 0; i < 3; i++)
        if (bounds[i].kind != JIN_NONE && !jin_is_int(bounds[i]))
            return jin_fail(rt, ROTOR_E_FORMAT, "a slice bound must be an integer, not a %s",
                            jin_kind_name(bounds[i].kind));
    size_t length;
    ROTOR_TRY(jin_length(rt, v, &length));
    int64_t step = bounds[2].kind == JIN_NONE ? 1 : jin_int(bounds[2]), n = (int64_t)length;
    if (!step) return jin_fail(rt, ROTOR_E_FORMAT, "a slice step must not be 0");
    step = clamp(step, -n - 1, n + 1); /* longer steps end the same way */
    int64_t start = bound(bounds[0], n, step < 0, true),
            stop = bound(bounds[1], n, step < 0, false);
    int64_t span = step > 0 ? stop - start : start - stop, stride = step > 0 ? step : -step;
    int64_t count = span > 0 ? (span + stride - 1) / stride : 0;
    if (v.kind == JIN_STR) {
        if (!count) return *out = jin_of_text((base_str){"", 0}), ROTOR_OK;
        return slice_string(rt, v.u.s, start, step, count, out);
    }
    jin_list *list;
    ROTOR_TRY(jin_list_new(rt, (size_t)count, &list));
    for (int64_t i = 0; i < count; i++) list->v[i] = v.u.list->v[start + i * step];
    *out = (jin_val){v.kind, {.list = list}};
    return ROTOR_OK;
}
