/* SPDX-License-Identifier: MIT
 *
 * Filters on single values: strings and numbers. Filters on sequences are in jinja_lists.c.
 * Meaning and parameter names are those of Jinja 3.1.
 */
#include "chat/jinja_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static rotor_status str_of(jin_rt *rt, jin_val v, jin_str *out) {
    jin_val s;
    ROTOR_TRY(jin_to_str(rt, v, &s));
    return *out = s.u.s, ROTOR_OK;
}

/* ==== Text ==================================================================================== */

static rotor_status change_case(jin_rt *rt, jin_val self, jin_case how, jin_val *out) {
    jin_str s;
    ROTOR_TRY(str_of(rt, self, &s));
    return jin_change_case(rt, s, how, out);
}

static rotor_status f_upper(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, change_case(rt, self, JIN_UPPER, out);
}
static rotor_status f_lower(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, change_case(rt, self, JIN_LOWER, out);
}
static rotor_status f_title(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, change_case(rt, self, JIN_TITLE_FILTER, out);
}
static rotor_status f_capitalize(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, change_case(rt, self, JIN_CAPITALIZE, out);
}

static rotor_status f_string(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, jin_to_str(rt, self, out);
}

static rotor_status f_trim(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_str s;
    const jin_val *chars = a->slot[0];
    ROTOR_TRY(str_of(rt, self, &s));
    if (chars && chars->kind == JIN_NONE) chars = NULL;
    if (chars && chars->kind != JIN_STR)
        return jin_fail(rt, ROTOR_E_FORMAT, "trim takes a string of characters");
    *out = jin_of_str(jin_strip(s, chars ? &chars->u.s : NULL, true, true));
    return jin_step(rt, s.n);
}

static rotor_status replace_all(jin_rt *rt, jin_str s, jin_str old, jin_str new, int64_t count) {
    size_t at = 0;
    while (count != 0 && at <= s.n) {
        size_t hit = jin_find(s, old, at), skip = old.n;
        if (hit == SIZE_MAX) break;
        ROTOR_TRY(jin_put(rt, jin_slice(s, at, hit - at)));
        ROTOR_TRY(jin_put(rt, new));
        ROTOR_TRY(jin_step(rt, 0));
        if (!skip && hit < s.n) { /* an empty old stands between all characters */
            int32_t cp;
            skip = (size_t)base_utf8_decode(s.p + hit, s.n - hit, &cp);
            ROTOR_TRY(jin_put(rt, jin_slice(s, hit, skip)));
        }
        at = hit + skip;
        count -= count > 0;
        if (!old.n && !skip) return ROTOR_OK;
    }
    return at < s.n ? jin_put(rt, jin_slice(s, at, s.n - at)) : ROTOR_OK;
}

rotor_status jin_replace(jin_rt *rt, jin_val self, const jin_val *const old_new[2],
                         const jin_val *count, jin_val *out) {
    jin_str s, old, new;
    if (!old_new[0] || !old_new[1])
        return jin_fail(rt, ROTOR_E_FORMAT, "replace takes two strings");
    if (count && !jin_is_int(*count) && count->kind != JIN_NONE)
        return jin_fail(rt, ROTOR_E_FORMAT, "the count of replace must be an integer");
    ROTOR_TRY(str_of(rt, self, &s));
    ROTOR_TRY(str_of(rt, *old_new[0], &old));
    ROTOR_TRY(str_of(rt, *old_new[1], &new));
    size_t mark = jin_mark(rt);
    ROTOR_TRY(jin_step(rt, s.n));
    ROTOR_TRY(replace_all(rt, s, old, new, count && jin_is_int(*count) ? jin_int(*count) : -1));
    return jin_cut(rt, mark, out);
}

static rotor_status f_replace(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return jin_replace(rt, self, a->slot, a->slot[2], out);
}

/* Where a line ends, as Python's splitlines sees it: the length of the end mark at s.p[at], or 0.
 */
static size_t line_end(jin_str s, size_t at) {
    int32_t cp;
    size_t len = (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
    if (cp == '\r') return at + 1 < s.n && s.p[at + 1] == '\n' ? 2 : 1;
    return (cp >= 10 && cp <= 12) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
                   cp == 0x2029
               ? len
               : 0;
}

rotor_status jin_split_lines(jin_rt *rt, jin_str s, jin_val *out) {
    jin_list *list;
    size_t n = 1, begin = 0, k = 0;
    ROTOR_TRY(jin_step(rt, s.n));
    for (size_t at = 0, len; at < s.n; at += BASE_MAX(len, 1)) n += (len = line_end(s, at)) > 0;
    ROTOR_TRY(jin_list_new(rt, n, &list));
    for (size_t at = 0; at < s.n;) {
        size_t len = line_end(s, at);
        if (len) list->v[k++] = jin_of_str(jin_slice(s, begin, at - begin));
        at += BASE_MAX(len, 1);
        if (len) begin = at;
    }
    if (begin < s.n) list->v[k++] = jin_of_str(jin_slice(s, begin, s.n - begin));
    list->n = k;
    *out = (jin_val){JIN_LIST, {.list = list}};
    return ROTOR_OK;
}

static rotor_status indentation(jin_rt *rt, const jin_val *width, jin_str *out) {
    int64_t n = width && jin_is_int(*width) ? jin_int(*width) : 4;
    if (width && width->kind == JIN_STR) return *out = width->u.s, ROTOR_OK;
    if (width && !jin_is_int(*width))
        return jin_fail(rt, ROTOR_E_FORMAT, "the width of indent must be an integer or a string");
    jin_val s;
    ROTOR_TRY(jin_binary(rt, JIN_OP_MUL, jin_of_text((base_str){" ", 1}), jin_of_int(n), &s));
    return *out = s.u.s, ROTOR_OK;
}

static rotor_status f_indent(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_str pad;
    jin_val lines, text;
    bool first = a->slot[1] && jin_truthy(*a->slot[1]),
         blank = a->slot[2] && jin_truthy(*a->slot[2]);
    if (self.kind != JIN_STR) return jin_fail(rt, ROTOR_E_FORMAT, "indent takes a string");
    ROTOR_TRY(indentation(rt, a->slot[0], &pad));
    ROTOR_TRY(jin_binary(rt, JIN_OP_ADD, self, jin_of_text((base_str){"\n", 1}), &text));
    ROTOR_TRY(jin_split_lines(rt, text.u.s, &lines));
    size_t mark = jin_mark(rt);
    for (size_t i = 0; i < lines.u.list->n; i++) {
        jin_str line = lines.u.list->v[i].u.s;
        if (i) ROTOR_TRY(jin_put_text(rt, "\n"));
        if (i ? blank || line.n : first) ROTOR_TRY(jin_put(rt, pad));
        ROTOR_TRY(jin_put(rt, line));
    }
    return jin_cut(rt, mark, out);
}

static rotor_status f_escape(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    static const char special[] = "&<>'\"";
    jin_str s;
    (void)a;
    ROTOR_TRY(str_of(rt, self, &s));
    size_t mark = jin_mark(rt);
    for (size_t i = 0; i < s.n; i++) {
        const char *hit = s.p[i] ? strchr(special, s.p[i]) : NULL;
        const char *text = hit ? entity[hit - special] : s.p + i;
        ROTOR_TRY(jin_put_marked(rt, text, hit ? strlen(text) : 1, jin_user_at(s, i)));
    }
    return jin_cut(rt, mark, out);
}

/* ==== Numbers ================================================================================= */

static rotor_status f_abs(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    (void)a;
    if (self.kind == JIN_FLOAT) return *out = jin_of_float(fabs(self.u.f)), ROTOR_OK;
    if (!jin_is_int(self) || jin_int(self) == INT64_MIN)
        return jin_fail(rt, ROTOR_E_FORMAT, "abs takes a number");
    return *out = jin_of_int(llabs(jin_int(self))), ROTOR_OK;
}

static bool text_to_float(jin_str s, double *out) {
    static const struct {
        const char *text; /* lower case */
        double value;     /* meaning */
    } words[] = {{"inf", INFINITY}, {"infinity", INFINITY}, {"nan", NAN}};
    s = jin_strip(s, NULL, true, true);
    size_t sign = s.n && (s.p[0] == '-' || s.p[0] == '+');
    for (size_t w = 0; w < BASE_COUNT(words); w++) {
        size_t n = strlen(words[w].text), i = 0;
        while (i < n && sign + n == s.n && (s.p[sign + i] | 32) == words[w].text[i]) i++;
        if (i == n) return *out = s.p[0] == '-' ? -words[w].value : words[w].value, true;
    }
    return jin_parse_float(jin_bytes(s), out);
}

static bool text_to_int(jin_str s, int64_t base, int64_t *out) {
    static const struct {
        char letter; /* after the 0 */
        int base;    /* meaning */
    } prefixes[] = {{'x', 16}, {'o', 8}, {'b', 2}};
    s = jin_strip(s, NULL, true, true);
    size_t i = s.n && (s.p[0] == '-' || s.p[0] == '+'), first = i;
    for (size_t k = 0; k < BASE_COUNT(prefixes) && i + 1 < s.n; k++)
        if (s.p[i] == '0' && (s.p[i + 1] | 32) == prefixes[k].letter && base == prefixes[k].base)
            first = i = i + 2;
    for (*out = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '_' && i > first && i + 1 < s.n && s.p[i - 1] != '_') continue;
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10
                                                         : 99;
        if (digit >= base || __builtin_mul_overflow(*out, base, out) ||
            __builtin_add_overflow(*out, digit, out))
            return false;
    }
    if (s.n && s.p[0] == '-') *out = -*out;
    return i > first;
}

static rotor_status float_to_int(jin_rt *rt, double f, const jin_val *fallback, jin_val *out) {
    if (!isfinite(f)) return *out = fallback ? *fallback : jin_of_int(0), ROTOR_OK;
    if (fabs(f) >= 0x1p63) return jin_fail(rt, ROTOR_E_FORMAT, "a number does not fit 64 bits");
    return *out = jin_of_int((int64_t)f), ROTOR_OK;
}

static rotor_status f_int(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    int64_t base = a->slot[1] && jin_is_int(*a->slot[1]) ? jin_int(*a->slot[1]) : 10, i;
    double f;
    if (base < 2 || base > 36) return jin_fail(rt, ROTOR_E_FORMAT, "int takes a base of 2 to 36");
    if (jin_is_int(self)) return *out = jin_of_int(jin_int(self)), ROTOR_OK;
    if (self.kind == JIN_FLOAT) return float_to_int(rt, self.u.f, a->slot[0], out);
    if (self.kind == JIN_UNDEFINED)
        return jin_fail(rt, ROTOR_E_FORMAT, "int of an undefined value");
    if (self.kind == JIN_STR && text_to_int(self.u.s, base, &i))
        return *out = jin_of_int(i), ROTOR_OK;
    if (self.kind == JIN_STR && text_to_float(self.u.s, &f))
        return float_to_int(rt, f, a->slot[0], out);
    return *out = a->slot[0] ? *a->slot[0] : jin_of_int(0), ROTOR_OK;
}

static rotor_status f_float(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    double f;
    if (jin_is_number(self)) return *out = jin_of_float(jin_float(self)), ROTOR_OK;
    if (self.kind == JIN_UNDEFINED)
        return jin_fail(rt, ROTOR_E_FORMAT, "float of an undefined value");
    if (self.kind == JIN_STR && text_to_float(self.u.s, &f))
        return *out = jin_of_float(f), ROTOR_OK;
    return *out = a->slot[0] ? *a->slot[0] : jin_of_float(0), ROTOR_OK;
}

/* Half goes to the even neighbour of the exact binary value, which is what printing does. */
static double round_common(double f, int64_t precision) {
    char buf[400], *end;
    if (!isfinite(f) || precision > 300) return f;
    if (precision < 0) {
        double scale = pow(10, (double)-precision);
        return nearbyint(f / scale) * scale;
    }
    snprintf(buf, sizeof buf, "%.*f", (int)BASE_MIN(precision, 60), f);
    return strtod(buf, &end);
}

static rotor_status f_round(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    int64_t precision = a->slot[0] && jin_is_int(*a->slot[0]) ? jin_int(*a->slot[0]) : 0;
    base_str method = a->slot[1] && a->slot[1]->kind == JIN_STR ? jin_bytes(a->slot[1]->u.s)
                                                                : base_str_of("common");
    bool up = base_str_is(method, "ceil"), down = base_str_is(method, "floor");
    if (!jin_is_number(self)) return jin_fail(rt, ROTOR_E_FORMAT, "round takes a number");
    if (!up && !down && !base_str_is(method, "common"))
        return jin_fail(rt, ROTOR_E_FORMAT, "round knows common, ceil and floor");
    double f = jin_float(self), scale = pow(10, (double)precision);
    if (up || down) {
        *out = jin_of_float((up ? ceil(f * scale) : floor(f * scale)) / scale);
    } else if (jin_is_int(self)) {
        *out = jin_of_int(precision < 0 ? (int64_t)round_common(f, precision) : jin_int(self));
    } else {
        *out = jin_of_float(round_common(f, precision));
    }
    return ROTOR_OK;
}

/* ==== Any value =============================================================================== */

static rotor_status f_default(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    bool falsy_too = a->slot[1] && jin_truthy(*a->slot[1]);
    bool replace = self.kind == JIN_UNDEFINED || (falsy_too && !jin_truthy(self));
    *out = !replace ? self : a->slot[0] ? *a->slot[0] : jin_of_text((base_str){"", 0});
    return jin_step(rt, 0);
}

static rotor_status f_safe(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, jin_to_str(rt, self, out);
}

static const jin_func filters[] = {
    {"abs", "", f_abs},
    {"capitalize", "", f_capitalize},
    {"d", "default_value boolean", f_default},
    {"default", "default_value boolean", f_default},
    {"e", "", f_escape},
    {"escape", "", f_escape},
    {"float", "default", f_float},
    {"indent", "width first blank", f_indent},
    {"int", "default base", f_int},
    {"lower", "", f_lower},
    {"replace", "old new count", f_replace},
    {"round", "precision method", f_round},
    {"safe", "", f_safe},
    {"string", "", f_string},
    {"title", "", f_title},
    {"tojson", "ensure_ascii indent separators sort_keys", jin_filter_tojson},
    {"trim", "chars", f_trim},
    {"upper", "", f_upper},
};

const jin_func *jin_find_filter(base_str name) {
    for (size_t i = 0; i < BASE_COUNT(filters); i++)
        if (base_str_is(name, filters[i].name)) return &filters[i];
    return jin_find_sequence_filter(name);
}
