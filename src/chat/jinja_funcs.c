/* SPDX-License-Identifier: MIT
 *
 * Global functions of templates: range, namespace, dict, raise_exception, strftime_now.
 */
#include "chat/jinja_internal.h"

#include <stdio.h>

static rotor_status g_range(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    int64_t v[3] = {0, 0, 1}, span;
    (void)self;
    if (!a->slot[0]) return jin_fail(rt, ROTOR_E_FORMAT, "range takes 1 to 3 integers");
    for (int i = 0; i < 3 && a->slot[i]; i++) {
        if (!jin_is_int(*a->slot[i]))
            return jin_fail(rt, ROTOR_E_FORMAT, "range takes integers, not a %s",
                            jin_kind_name(a->slot[i]->kind));
        v[i] = jin_int(*a->slot[i]);
    }
    if (!a->slot[1]) v[1] = v[0], v[0] = 0;
    if (!v[2] || v[2] == INT64_MIN) return jin_fail(rt, ROTOR_E_FORMAT, "range with a step of 0");
    int64_t stride = v[2] > 0 ? v[2] : -v[2];
    if (v[2] > 0 ? __builtin_sub_overflow(v[1], v[0], &span)
                 : __builtin_sub_overflow(v[0], v[1], &span))
        span = (v[2] > 0) == (v[1] > v[0]) ? INT64_MAX : 0;
    uint64_t n = span > 0 ? ((uint64_t)span + (uint64_t)stride - 1) / (uint64_t)stride : 0;
    if (n > JIN_MAX_RANGE)
        return jin_fail(rt, ROTOR_E_FORMAT, "range of more than %d items", JIN_MAX_RANGE);
    jin_list *list;
    ROTOR_TRY(jin_list_new(rt, (size_t)n, &list));
    for (size_t i = 0; i < n; i++) list->v[i] = jin_of_int(v[0] + (int64_t)i * v[2]);
    *out = (jin_val){JIN_LIST, {.list = list}};
    return jin_step(rt, (size_t)n);
}

/* Pairs from an optional mapping or list of pairs, then from keywords. */
static rotor_status fill_dict(jin_rt *rt, const jin_args *a, jin_dict *dict) {
    if (a->n_pos > 1) return jin_fail(rt, ROTOR_E_FORMAT, "at most one mapping is expected");
    if (a->n_pos && a->v[0].kind == JIN_DICT) {
        const jin_dict *from = a->v[0].u.dict;
        for (size_t i = 0; i < from->n; i++)
            ROTOR_TRY(jin_dict_put(rt, dict, from->v[i].key, from->v[i].value));
    } else if (a->n_pos) {
        const jin_list *items;
        ROTOR_TRY(jin_items(rt, a->v[0], &items));
        for (size_t i = 0; i < items->n; i++) {
            const jin_list *pair;
            ROTOR_TRY(jin_items(rt, items->v[i], &pair));
            if (pair->n != 2) return jin_fail(rt, ROTOR_E_FORMAT, "a mapping is made of pairs");
            ROTOR_TRY(jin_dict_put(rt, dict, pair->v[0], pair->v[1]));
        }
    }
    for (size_t i = a->n_pos; i < a->n; i++)
        ROTOR_TRY(jin_dict_put(rt, dict, jin_of_text(a->names[i]), a->v[i]));
    return ROTOR_OK;
}

static rotor_status make_dict(jin_rt *rt, const jin_args *a, jin_kind kind, jin_val *out) {
    jin_dict *dict = jin_take(&rt->pool, sizeof *dict);
    if (!dict) return jin_fail_memory(rt);
    ROTOR_TRY(fill_dict(rt, a, dict));
    *out = (jin_val){kind, {.dict = dict}};
    return ROTOR_OK;
}

static rotor_status g_namespace(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)self, make_dict(rt, a, JIN_NAMESPACE, out);
}
static rotor_status g_dict(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)self, make_dict(rt, a, JIN_DICT, out);
}

static rotor_status g_raise_exception(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_val text = jin_of_text(base_str_of("no reason given"));
    (void)self;
    (void)out;
    if (a->slot[0]) ROTOR_TRY(jin_to_str(rt, *a->slot[0], &text));
    return jin_fail(rt, ROTOR_E_ARG, "the template refuses this conversation: %.*s",
                    (int)BASE_MIN(text.u.s.n, 300), text.u.s.p);
}

/* ==== Date ==================================================================================== */

typedef struct civil {
    int64_t year;             /* Gregorian */
    int month, day;           /* from 1 */
    int weekday;              /* 0 = Sunday */
    int year_day;             /* from 1 */
    int hour, minute, second; /* UTC */
} civil;

/* Days since 1970 to a date: eras of 400 years that begin on 1 March. */
static civil civil_of(int64_t s) {
    civil c;
    int64_t days = s / 86400, rest = s % 86400;
    if (rest < 0) rest += 86400, days--;
    c.hour = (int)(rest / 3600);
    c.minute = (int)(rest / 60 % 60);
    c.second = (int)(rest % 60);
    c.weekday = (int)(((days + 4) % 7 + 7) % 7);
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    c.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c.year = yoe + era * 400 + (c.month <= 2);
    bool leap = (c.year % 4 == 0 && c.year % 100 != 0) || c.year % 400 == 0;
    c.year_day = (int)(doy < 306 ? doy + 60 + leap : doy - 305);
    return c;
}

static rotor_status put_date_part(jin_rt *rt, char what, bool padded, const civil *c) {
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    const struct {
        char code;        /* behind % */
        int value, width; /* what it prints, digits when padded */
    } numbers[] = {
        {'d', c->day, 2},    {'m', c->month, 2},    {'y', (int)(c->year % 100), 2},
        {'H', c->hour, 2},   {'M', c->minute, 2},   {'I', c->hour % 12 ? c->hour % 12 : 12, 2},
        {'S', c->second, 2}, {'j', c->year_day, 3}, {'Y', (int)c->year, 4}};
    char buf[16];
    for (size_t i = 0; i < BASE_COUNT(numbers); i++) {
        if (numbers[i].code != what) continue;
        snprintf(buf, sizeof buf, "%0*d", padded ? numbers[i].width : 1, numbers[i].value);
        return jin_put_text(rt, buf);
    }
    if (what == 'B' || what == 'b' || what == 'h')
        return jin_put_marked(rt, months[c->month - 1],
                              what == 'B' ? strlen(months[c->month - 1]) : 3, false);
    if (what == 'A' || what == 'a')
        return jin_put_marked(rt, days[c->weekday], what == 'A' ? strlen(days[c->weekday]) : 3,
                              false);
    if (what == 'p') return jin_put_text(rt, c->hour < 12 ? "AM" : "PM");
    if (what == '%') return jin_put_text(rt, "%");
    return jin_fail(rt, ROTOR_E_UNSUPPORTED, "the date code %%%c is outside the template subset",
                    what > ' ' && what < 127 ? what : '?');
}

rotor_status jin_strftime_now(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    (void)self;
    if (!a->slot[0] || a->slot[0]->kind != JIN_STR)
        return jin_fail(rt, ROTOR_E_FORMAT, "strftime_now takes a format");
    jin_str f = a->slot[0]->u.s;
    civil c = civil_of(rt->now_s);
    size_t mark = jin_mark(rt);
    for (size_t i = 0; i < f.n; i++) {
        if (f.p[i] != '%' || i + 1 == f.n) {
            ROTOR_TRY(jin_put(rt, jin_slice(f, i, 1)));
            continue;
        }
        bool padded = f.p[++i] != '-' || i + 1 == f.n;
        ROTOR_TRY(put_date_part(rt, padded ? f.p[i] : f.p[++i], padded, &c));
    }
    return jin_cut(rt, mark, out);
}

static const jin_func functions[] = {
    {"dict", "*", g_dict},
    {"namespace", "*", g_namespace},
    {"raise_exception", "message", g_raise_exception},
    {"range", "start stop step", g_range},
    {"strftime_now", "format", jin_strftime_now},
};

const jin_func *jin_func_at(size_t i) { return i < BASE_COUNT(functions) ? &functions[i] : NULL; }
