/* SPDX-License-Identifier: MIT
 *
 * Methods of strings, mappings, sequences and loops. Nothing else has any, and what is not in
 * these tables cannot be reached: no method changes its object.
 */
#include "chat/jinja_internal.h"

#include <utf8proc.h>

static rotor_status need_str(jin_rt *rt, const jin_val *v, const char *what, jin_str *out) {
    *out = (jin_str){"", 0, NULL};
    if (!v || v->kind != JIN_STR)
        return jin_fail(rt, ROTOR_E_FORMAT, "%s takes a string, not %s", what,
                        v ? jin_kind_name(v->kind) : "nothing");
    return *out = v->u.s, ROTOR_OK;
}

/* ==== Strings: whole ========================================================================== */

static rotor_status m_upper(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, jin_change_case(rt, self.u.s, JIN_UPPER, out);
}
static rotor_status m_lower(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, jin_change_case(rt, self.u.s, JIN_LOWER, out);
}
static rotor_status m_title(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, jin_change_case(rt, self.u.s, JIN_TITLE, out);
}
static rotor_status m_capitalize(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, jin_change_case(rt, self.u.s, JIN_CAPITALIZE, out);
}

static rotor_status strip(jin_rt *rt, jin_val self, jin_args *a, unsigned sides, jin_val *out) {
    jin_str chars;
    bool given = a->slot[0] && a->slot[0]->kind != JIN_NONE;
    if (given) ROTOR_TRY(need_str(rt, a->slot[0], "strip", &chars));
    *out = jin_of_str(jin_strip(self.u.s, given ? &chars : NULL, sides & 1, sides & 2));
    return jin_step(rt, self.u.s.n);
}

static rotor_status m_strip(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return strip(rt, self, a, 3, out);
}
static rotor_status m_lstrip(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return strip(rt, self, a, 1, out);
}
static rotor_status m_rstrip(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return strip(rt, self, a, 2, out);
}

static rotor_status m_replace(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_str unused;
    for (int i = 0; i < 2; i++) ROTOR_TRY(need_str(rt, a->slot[i], "replace", &unused));
    return jin_replace(rt, self, a->slot, a->slot[2], out);
}

static rotor_status all_of(jin_rt *rt, jin_str s, bool (*is)(int32_t), jin_val *out) {
    bool yes = s.n > 0;
    int32_t cp;
    for (size_t at = 0; at < s.n && yes; yes = cp >= 0 && is(cp))
        at += (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
    *out = jin_of_bool(yes);
    return jin_step(rt, s.n);
}

static bool is_letter(int32_t cp) {
    utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}
static bool is_digit(int32_t cp) { return utf8proc_category(cp) == UTF8PROC_CATEGORY_ND; }
static bool is_letter_or_digit(int32_t cp) { return is_letter(cp) || is_digit(cp); }

static rotor_status m_isalpha(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, all_of(rt, self.u.s, is_letter, out);
}
static rotor_status m_isdigit(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, all_of(rt, self.u.s, is_digit, out);
}
static rotor_status m_isalnum(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, all_of(rt, self.u.s, is_letter_or_digit, out);
}
static rotor_status m_isspace(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, all_of(rt, self.u.s, jin_is_space, out);
}

/* ==== Strings: ends and search ================================================================ */

static bool has_end(jin_str s, jin_str end, bool at_start) {
    if (end.n > s.n) return false;
    return end.n == 0 || memcmp(at_start ? s.p : s.p + s.n - end.n, end.p, end.n) == 0;
}

/* startswith and endswith: a string, or a tuple of which any will do. */
static rotor_status ends(jin_rt *rt, jin_val self, const jin_val *arg, bool at_start,
                         jin_val *out) {
    const char *what = at_start ? "startswith" : "endswith";
    jin_str end;
    bool yes = false;
    if (arg && arg->kind == JIN_TUPLE) {
        for (size_t i = 0; i < arg->u.list->n && !yes; i++) {
            ROTOR_TRY(need_str(rt, &arg->u.list->v[i], what, &end));
            yes = has_end(self.u.s, end, at_start);
        }
    } else {
        ROTOR_TRY(need_str(rt, arg, what, &end));
        yes = has_end(self.u.s, end, at_start);
    }
    *out = jin_of_bool(yes);
    return jin_step(rt, 0);
}

static rotor_status m_startswith(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return ends(rt, self, a->slot[0], true, out);
}
static rotor_status m_endswith(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return ends(rt, self, a->slot[0], false, out);
}

static rotor_status m_removeprefix(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_str s = self.u.s, end;
    ROTOR_TRY(need_str(rt, a->slot[0], "removeprefix", &end));
    size_t cut = has_end(s, end, true) ? end.n : 0;
    return *out = jin_of_str(jin_slice(s, cut, s.n - cut)), ROTOR_OK;
}

static rotor_status m_removesuffix(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_str s = self.u.s, end;
    ROTOR_TRY(need_str(rt, a->slot[0], "removesuffix", &end));
    size_t cut = has_end(s, end, false) ? end.n : 0;
    return *out = jin_of_str(jin_slice(s, 0, s.n - cut)), ROTOR_OK;
}

static size_t find_last(jin_str s, jin_str needle) {
    if (needle.n > s.n) return SIZE_MAX;
    for (size_t at = s.n - needle.n + 1; at-- > 0;)
        if (!needle.n || memcmp(s.p + at, needle.p, needle.n) == 0) return at;
    return SIZE_MAX;
}

static rotor_status find(jin_rt *rt, jin_val self, jin_args *a, bool last, jin_val *out) {
    jin_str needle;
    ROTOR_TRY(need_str(rt, a->slot[0], "find", &needle));
    size_t at = last ? find_last(self.u.s, needle) : jin_find(self.u.s, needle, 0);
    bool found = at != SIZE_MAX;
    *out = jin_of_int(found ? (int64_t)jin_count_chars(jin_slice(self.u.s, 0, at)) : -1);
    return jin_step(rt, self.u.s.n);
}

static rotor_status m_find(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return find(rt, self, a, false, out);
}
static rotor_status m_rfind(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return find(rt, self, a, true, out);
}

static rotor_status m_count(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_str needle;
    int64_t n = 0;
    ROTOR_TRY(need_str(rt, a->slot[0], "count", &needle));
    if (!needle.n) n = (int64_t)jin_count_chars(self.u.s) + 1;
    for (size_t at = 0; needle.n && (at = jin_find(self.u.s, needle, at)) != SIZE_MAX;
         at += needle.n)
        n++;
    *out = jin_of_int(n);
    return jin_step(rt, self.u.s.n);
}

/* ==== Strings: splitting and joining ========================================================== */

typedef struct splitter {
    jin_list *list; /* pieces so far */
    size_t cap;     /* allocated */
    int64_t left;   /* cuts still allowed; negative: any number */
} splitter;

static rotor_status add_piece(jin_rt *rt, splitter *sp, jin_str piece) {
    ROTOR_TRY(jin_step(rt, piece.n));
    if (sp->list->n == sp->cap) {
        jin_list *more;
        ROTOR_TRY(jin_list_new(rt, sp->cap * 2 + 8, &more));
        if (sp->list->n) memcpy(more->v, sp->list->v, sp->list->n * sizeof *more->v);
        sp->cap = more->n;
        sp->list->v = more->v;
    }
    sp->list->v[sp->list->n++] = jin_of_str(piece);
    return ROTOR_OK;
}

static rotor_status split_at(jin_rt *rt, jin_str s, jin_str sep, splitter *sp) {
    size_t at = 0, hit;
    for (; sp->left != 0 && (hit = jin_find(s, sep, at)) != SIZE_MAX; sp->left--) {
        ROTOR_TRY(add_piece(rt, sp, jin_slice(s, at, hit - at)));
        at = hit + sep.n;
    }
    return add_piece(rt, sp, jin_slice(s, at, s.n - at));
}

static rotor_status split_space(jin_rt *rt, jin_str s, splitter *sp) {
    s = jin_strip(s, NULL, true, false);
    for (; s.n; sp->left--) {
        size_t end = 0;
        if (sp->left == 0) return add_piece(rt, sp, s);
        for (int32_t cp; end < s.n;) {
            size_t len = (size_t)base_utf8_decode(s.p + end, s.n - end, &cp);
            if (jin_is_space(cp)) break;
            end += len;
        }
        ROTOR_TRY(add_piece(rt, sp, jin_slice(s, 0, end)));
        s = jin_strip(jin_slice(s, end, s.n - end), NULL, true, false);
    }
    return ROTOR_OK;
}

static rotor_status m_split(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    splitter sp = {.left = a->slot[1] && jin_is_int(*a->slot[1]) ? jin_int(*a->slot[1]) : -1};
    bool given = a->slot[0] && a->slot[0]->kind != JIN_NONE;
    jin_str sep = {"", 0, NULL};
    if (given) ROTOR_TRY(need_str(rt, a->slot[0], "split", &sep));
    if (given && !sep.n) return jin_fail(rt, ROTOR_E_FORMAT, "split at nothing");
    ROTOR_TRY(jin_list_new(rt, 0, &sp.list));
    ROTOR_TRY(given ? split_at(rt, self.u.s, sep, &sp) : split_space(rt, self.u.s, &sp));
    return *out = (jin_val){JIN_LIST, {.list = sp.list}}, ROTOR_OK;
}

/* From the right: all cuts first, then the leftmost pieces grow together again. */
static rotor_status m_rsplit(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    int64_t cuts = a->slot[1] && jin_is_int(*a->slot[1]) ? jin_int(*a->slot[1]) : -1;
    const jin_val *limit = a->slot[1];
    a->slot[1] = NULL;
    ROTOR_TRY(m_split(rt, self, a, out));
    a->slot[1] = limit;
    const jin_list *all = out->u.list;
    if (cuts < 0 || (size_t)cuts + 1 >= all->n) return ROTOR_OK;
    jin_list *kept;
    ROTOR_TRY(jin_list_new(rt, (size_t)cuts + 1, &kept));
    size_t joined = all->n - kept->n;
    for (size_t i = 1; i < kept->n; i++) kept->v[i] = all->v[joined + i];
    jin_str last = all->v[joined].u.s;
    kept->v[0] = jin_of_str(jin_slice(self.u.s, 0, (size_t)(last.p + last.n - self.u.s.p)));
    return *out = (jin_val){JIN_LIST, {.list = kept}}, ROTOR_OK;
}

static rotor_status m_splitlines(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)a, jin_split_lines(rt, self.u.s, out);
}

static rotor_status m_join(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    jin_str part;
    if (!a->slot[0]) return jin_fail(rt, ROTOR_E_FORMAT, "join takes a sequence");
    ROTOR_TRY(jin_items(rt, *a->slot[0], &items));
    size_t mark = jin_mark(rt);
    for (size_t i = 0; i < items->n; i++) {
        if (i) ROTOR_TRY(jin_put(rt, self.u.s));
        ROTOR_TRY(need_str(rt, &items->v[i], "join", &part));
        ROTOR_TRY(jin_put(rt, part));
    }
    return jin_cut(rt, mark, out);
}

/* ==== Mappings, sequences, loops ============================================================== */

static rotor_status m_items(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return jin_find_filter(base_str_of("items"))->fn(rt, self, a, out);
}

static rotor_status m_keys(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *keys;
    (void)a;
    ROTOR_TRY(jin_items(rt, self, &keys));
    return *out = (jin_val){JIN_LIST, {.list = keys}}, ROTOR_OK;
}

static rotor_status m_values(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_list *list;
    (void)a;
    ROTOR_TRY(jin_list_new(rt, self.u.dict->n, &list));
    for (size_t i = 0; i < list->n; i++) list->v[i] = self.u.dict->v[i].value;
    return *out = (jin_val){JIN_LIST, {.list = list}}, ROTOR_OK;
}

static rotor_status m_get(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_val *found;
    if (!a->slot[0]) return jin_fail(rt, ROTOR_E_FORMAT, "get takes a key");
    ROTOR_TRY(jin_dict_find(rt, self.u.dict, *a->slot[0], &found));
    *out = found ? *found : a->slot[1] ? *a->slot[1] : jin_none();
    return ROTOR_OK;
}

static rotor_status m_copy(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return (void)rt, (void)a, *out = self, ROTOR_OK; /* values never change */
}

static rotor_status m_list_count(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    int64_t n = 0;
    if (!a->slot[0]) return jin_fail(rt, ROTOR_E_FORMAT, "count takes a value");
    for (size_t i = 0; i < self.u.list->n; i++) {
        bool same;
        ROTOR_TRY(jin_equal(rt, self.u.list->v[i], *a->slot[0], &same));
        n += same;
    }
    return *out = jin_of_int(n), ROTOR_OK;
}

static rotor_status m_index(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    if (!a->slot[0]) return jin_fail(rt, ROTOR_E_FORMAT, "index takes a value");
    for (size_t i = 0; i < self.u.list->n; i++) {
        bool same;
        ROTOR_TRY(jin_equal(rt, self.u.list->v[i], *a->slot[0], &same));
        if (same) return *out = jin_of_int((int64_t)i), ROTOR_OK;
    }
    return jin_fail(rt, ROTOR_E_FORMAT, "index of a value that is not there");
}

static rotor_status m_cycle(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    if (!a->n_pos) return jin_fail(rt, ROTOR_E_FORMAT, "cycle takes values");
    return *out = a->v[self.u.loop->i % a->n_pos], ROTOR_OK;
}

static const jin_func string_methods[] = {
    {"capitalize", "", m_capitalize},
    {"count", "sub", m_count},
    {"endswith", "suffix", m_endswith},
    {"find", "sub", m_find},
    {"isalnum", "", m_isalnum},
    {"isalpha", "", m_isalpha},
    {"isdigit", "", m_isdigit},
    {"isspace", "", m_isspace},
    {"join", "iterable", m_join},
    {"lower", "", m_lower},
    {"lstrip", "chars", m_lstrip},
    {"removeprefix", "prefix", m_removeprefix},
    {"removesuffix", "suffix", m_removesuffix},
    {"replace", "old new count", m_replace},
    {"rfind", "sub", m_rfind},
    {"rsplit", "sep maxsplit", m_rsplit},
    {"rstrip", "chars", m_rstrip},
    {"split", "sep maxsplit", m_split},
    {"splitlines", "", m_splitlines},
    {"startswith", "prefix", m_startswith},
    {"strip", "chars", m_strip},
    {"title", "", m_title},
    {"upper", "", m_upper},
};
static const jin_func dict_methods[] = {{"copy", "", m_copy},
                                        {"get", "key default", m_get},
                                        {"items", "", m_items},
                                        {"keys", "", m_keys},
                                        {"values", "", m_values}};
static const jin_func list_methods[] = {
    {"copy", "", m_copy}, {"count", "value", m_list_count}, {"index", "value", m_index}};
static const jin_func loop_methods[] = {{"cycle", "*", m_cycle}};

const jin_func *jin_find_method(jin_kind kind, base_str name) {
    const jin_func *table = NULL;
    size_t n = 0;
    switch (kind) {
    case JIN_STR:
        table = string_methods, n = BASE_COUNT(string_methods);
        break;
    case JIN_DICT:
        table = dict_methods, n = BASE_COUNT(dict_methods);
        break;
    case JIN_LIST:
    case JIN_TUPLE:
        table = list_methods, n = BASE_COUNT(list_methods);
        break;
    case JIN_LOOP:
        table = loop_methods, n = BASE_COUNT(loop_methods);
        break;
    default:
        break;
    }
    for (size_t i = 0; i < n; i++)
        if (base_str_is(name, table[i].name)) return &table[i];
    return NULL;
}
