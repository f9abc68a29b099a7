/* SPDX-License-Identifier: MIT
 *
 * Filters on sequences and mappings. What the reference computes lazily is a list here.
 */
#include "chat/jinja_internal.h"

/* A path like "function.name" into an item; without a path the item itself. */
static rotor_status attribute_of(jin_rt *rt, jin_val item, const jin_val *path, jin_val *out) {
    *out = item;
    if (!path || path->kind == JIN_NONE) return ROTOR_OK;
    if (jin_is_int(*path)) return jin_item(rt, item, *path, out);
    if (path->kind != JIN_STR) return jin_fail(rt, ROTOR_E_FORMAT, "an attribute must be a name");
    jin_str rest = path->u.s;
    for (;;) {
        size_t dot = jin_find(rest, (jin_str){".", 1, NULL}, 0), n = dot == SIZE_MAX ? rest.n : dot;
        int64_t index = 0;
        bool digits = n > 0 && n < 10;
        for (size_t i = 0; i < n && digits; i++) {
            digits = rest.p[i] >= '0' && rest.p[i] <= '9';
            index = index * 10 + rest.p[i] - '0';
        }
        jin_val key = digits ? jin_of_int(index) : jin_of_str(jin_slice(rest, 0, n));
        ROTOR_TRY(jin_item(rt, *out, key, out));
        if (dot == SIZE_MAX) return ROTOR_OK;
        rest = jin_slice(rest, dot + 1, rest.n - dot - 1);
    }
}

/* What sort, unique, min and max compare: the attribute, strings in lower case. */
static rotor_status sort_key(jin_rt *rt, jin_val item, const jin_val *path,
                             const jin_val *case_sensitive, jin_val *out) {
    ROTOR_TRY(attribute_of(rt, item, path, out));
    if (out->kind != JIN_STR || (case_sensitive && jin_truthy(*case_sensitive))) return ROTOR_OK;
    return jin_change_case(rt, out->u.s, JIN_LOWER, out);
}

/* ==== Ends, length, conversion ================================================================ */

static rotor_status f_first(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    (void)a;
    ROTOR_TRY(jin_items(rt, self, &items));
    *out = items->n ? items->v[0] : jin_undefined(base_str_of("first of nothing"));
    return ROTOR_OK;
}

static rotor_status f_last(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    (void)a;
    ROTOR_TRY(jin_items(rt, self, &items));
    *out = items->n ? items->v[items->n - 1] : jin_undefined(base_str_of("last of nothing"));
    return ROTOR_OK;
}

static rotor_status f_length(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    size_t n;
    (void)a;
    ROTOR_TRY(jin_length(rt, self, &n));
    return *out = jin_of_int((int64_t)n), ROTOR_OK;
}

static rotor_status f_list(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    (void)a;
    ROTOR_TRY(jin_items(rt, self, &items));
    return *out = (jin_val){JIN_LIST, {.list = items}}, ROTOR_OK;
}

static rotor_status f_reverse(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    (void)a;
    if (self.kind == JIN_STR) {
        jin_val bounds[3] = {jin_none(), jin_none(), jin_of_int(-1)};
        return jin_slice_value(rt, self, bounds, out);
    }
    jin_list *back;
    ROTOR_TRY(jin_items(rt, self, &items));
    ROTOR_TRY(jin_list_new(rt, items->n, &back));
    for (size_t i = 0; i < items->n; i++) back->v[i] = items->v[items->n - 1 - i];
    return *out = (jin_val){JIN_LIST, {.list = back}}, ROTOR_OK;
}

static rotor_status f_join(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    jin_val between = jin_of_text((base_str){"", 0}), part;
    if (a->slot[0]) ROTOR_TRY(jin_to_str(rt, *a->slot[0], &between));
    ROTOR_TRY(jin_items(rt, self, &items));
    size_t mark = jin_mark(rt);
    for (size_t i = 0; i < items->n; i++) {
        if (i) ROTOR_TRY(jin_put(rt, between.u.s));
        ROTOR_TRY(attribute_of(rt, items->v[i], a->slot[1], &part));
        ROTOR_TRY(jin_put_val(rt, part));
    }
    return jin_cut(rt, mark, out);
}

static rotor_status pairs_of(jin_rt *rt, jin_val self, jin_list **out) {
    if (self.kind != JIN_DICT && self.kind != JIN_UNDEFINED)
        return jin_fail(rt, ROTOR_E_FORMAT, "items of a %s", jin_kind_name(self.kind));
    size_t n = self.kind == JIN_DICT ? self.u.dict->n : 0;
    ROTOR_TRY(jin_list_new(rt, n, out));
    for (size_t i = 0; i < n; i++) {
        jin_list *pair;
        ROTOR_TRY(jin_list_new(rt, 2, &pair));
        pair->v[0] = self.u.dict->v[i].key;
        pair->v[1] = self.u.dict->v[i].value;
        (*out)->v[i] = (jin_val){JIN_TUPLE, {.list = pair}};
    }
    return ROTOR_OK;
}

static rotor_status f_items(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_list *pairs;
    (void)a;
    ROTOR_TRY(pairs_of(rt, self, &pairs));
    return *out = (jin_val){JIN_LIST, {.list = pairs}}, ROTOR_OK;
}

/* ==== Order =================================================================================== */

typedef struct sorting {
    jin_val *item;      /* [n] being ordered */
    jin_val *key;       /* [n] of each item */
    jin_val *other;     /* [n] scratch for items */
    jin_val *other_key; /* [n] scratch for keys */
    bool reverse;       /* largest first, equal ones in their old order */
} sorting;

static rotor_status merge(jin_rt *rt, sorting *s, size_t begin, size_t middle, size_t end) {
    size_t a = begin, b = middle, k = begin;
    while (a < middle || b < end) {
        bool take_b = a == middle;
        if (a < middle && b < end)
            ROTOR_TRY(s->reverse ? jin_less(rt, s->key[a], s->key[b], &take_b)
                                 : jin_less(rt, s->key[b], s->key[a], &take_b));
        size_t from = take_b ? b++ : a++;
        s->other[k] = s->item[from];
        s->other_key[k++] = s->key[from];
    }
    return ROTOR_OK;
}

static rotor_status merge_sort(jin_rt *rt, sorting *s, size_t n) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width)
            ROTOR_TRY(merge(rt, s, at, BASE_MIN(at + width, n), BASE_MIN(at + 2 * width, n)));
        jin_val *item = s->item, *key = s->key;
        s->item = s->other;
        s->key = s->other_key;
        s->other = item;
        s->other_key = key;
    }
    return ROTOR_OK;
}

/* Sorts items by the keys that sort_key gives for path and case_sensitive. */
static rotor_status sort_items(jin_rt *rt, const jin_list *items, const jin_val *const by[3],
                               jin_val *out) {
    jin_list *scratch;
    size_t n = items->n;
    ROTOR_TRY(jin_list_new(rt, n * 4, &scratch));
    sorting s = {scratch->v, scratch->v + n, scratch->v + 2 * n, scratch->v + 3 * n,
                 by[2] && jin_truthy(*by[2])};
    for (size_t i = 0; i < n; i++) {
        s.item[i] = items->v[i];
        ROTOR_TRY(sort_key(rt, items->v[i], by[0], by[1], &s.key[i]));
    }
    ROTOR_TRY(merge_sort(rt, &s, n));
    scratch->v = s.item;
    scratch->n = n;
    return *out = (jin_val){JIN_LIST, {.list = scratch}}, ROTOR_OK;
}

static rotor_status f_sort(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    const jin_val *by[3] = {a->slot[2], a->slot[1], a->slot[0]};
    ROTOR_TRY(jin_items(rt, self, &items));
    return sort_items(rt, items, by, out);
}

static rotor_status f_dictsort(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    jin_list *pairs;
    bool by_value = a->slot[1] && a->slot[1]->kind == JIN_STR &&
                    base_str_is(jin_bytes(a->slot[1]->u.s), "value");
    jin_val path = jin_of_int(by_value);
    const jin_val *by[3] = {&path, a->slot[0], a->slot[2]};
    ROTOR_TRY(pairs_of(rt, self, &pairs));
    return sort_items(rt, pairs, by, out);
}

static rotor_status f_unique(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    jin_list *kept, *keys;
    ROTOR_TRY(jin_items(rt, self, &items));
    ROTOR_TRY(jin_list_new(rt, items->n, &kept));
    ROTOR_TRY(jin_list_new(rt, items->n, &keys));
    kept->n = 0;
    for (size_t i = 0; i < items->n; i++) {
        jin_val key;
        bool seen = false;
        ROTOR_TRY(sort_key(rt, items->v[i], a->slot[1], a->slot[0], &key));
        for (size_t k = 0; k < kept->n && !seen; k++)
            ROTOR_TRY(jin_equal(rt, keys->v[k], key, &seen));
        if (seen) continue;
        keys->v[kept->n] = key;
        kept->v[kept->n++] = items->v[i];
    }
    return *out = (jin_val){JIN_LIST, {.list = kept}}, ROTOR_OK;
}

static rotor_status extreme(jin_rt *rt, jin_val self, jin_args *a, bool largest, jin_val *out) {
    const jin_list *items;
    jin_val best, key;
    ROTOR_TRY(jin_items(rt, self, &items));
    *out = jin_undefined(base_str_of("item of nothing"));
    for (size_t i = 0; i < items->n; i++) {
        bool better = i == 0;
        ROTOR_TRY(sort_key(rt, items->v[i], a->slot[1], a->slot[0], &key));
        if (i)
            ROTOR_TRY(largest ? jin_less(rt, best, key, &better)
                              : jin_less(rt, key, best, &better));
        if (!better) continue;
        best = key;
        *out = items->v[i];
    }
    return ROTOR_OK;
}

static rotor_status f_min(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return extreme(rt, self, a, false, out);
}
static rotor_status f_max(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return extreme(rt, self, a, true, out);
}

static rotor_status f_sum(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    jin_val part, total = a->slot[1] ? *a->slot[1] : jin_of_int(0);
    ROTOR_TRY(jin_items(rt, self, &items));
    for (size_t i = 0; i < items->n; i++) {
        ROTOR_TRY(jin_step(rt, 0));
        ROTOR_TRY(attribute_of(rt, items->v[i], a->slot[0], &part));
        ROTOR_TRY(jin_binary(rt, JIN_OP_ADD, total, part, &total));
    }
    return *out = total, ROTOR_OK;
}

/* ==== Choosing and mapping ==================================================================== */

static const jin_val *keyword(const jin_args *a, const char *name) {
    for (size_t i = a->n_pos; i < a->n; i++)
        if (base_str_is(a->names[i], name)) return &a->v[i];
    return NULL;
}

/* The arguments after the first `skip`. */
static void rest_of(const jin_args *a, size_t skip, jin_args *out) {
    out->n = a->n - skip;
    out->n_pos = a->n_pos - skip;
    for (size_t i = 0; i < out->n; i++) {
        out->v[i] = a->v[i + skip];
        out->names[i] = a->names[i + skip];
    }
}

/* select, reject and their attr forms: the arguments are [attribute,] [test, its arguments]. */
static rotor_status choose(jin_rt *rt, jin_val self, const jin_args *a, bool attr, bool keep,
                           jin_val *out) {
    const jin_list *items;
    jin_list *kept;
    jin_args rest;
    if (a->n_pos < attr) return jin_fail(rt, ROTOR_E_FORMAT, "the attribute's name is missing");
    const jin_val *path = attr ? &a->v[0] : NULL, *test = a->n_pos > attr ? &a->v[attr] : NULL;
    if (test && test->kind != JIN_STR) return jin_fail(rt, ROTOR_E_FORMAT, "a test is a name");
    rest_of(a, attr + (test != NULL), &rest);
    ROTOR_TRY(jin_items(rt, self, &items));
    ROTOR_TRY(jin_list_new(rt, items->n, &kept));
    kept->n = 0;
    for (size_t i = 0; i < items->n; i++) {
        jin_val v;
        ROTOR_TRY(attribute_of(rt, items->v[i], path, &v));
        bool yes = jin_truthy(v);
        if (test) ROTOR_TRY(jin_test(rt, jin_bytes(test->u.s), v, &rest, &yes));
        if (yes == keep) kept->v[kept->n++] = items->v[i];
    }
    return *out = (jin_val){JIN_LIST, {.list = kept}}, ROTOR_OK;
}

static rotor_status f_select(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return choose(rt, self, a, false, true, out);
}
static rotor_status f_reject(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return choose(rt, self, a, false, false, out);
}
static rotor_status f_selectattr(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return choose(rt, self, a, true, true, out);
}
static rotor_status f_rejectattr(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    return choose(rt, self, a, true, false, out);
}

static rotor_status map_one(jin_rt *rt, jin_val item, const jin_args *a, jin_val *out) {
    jin_args rest;
    if (a->n_pos) {
        if (a->v[0].kind != JIN_STR) return jin_fail(rt, ROTOR_E_FORMAT, "a filter is a name");
        base_str name = jin_bytes(a->v[0].u.s);
        const jin_func *f = jin_find_filter(name);
        if (!f)
            return jin_fail(rt, ROTOR_E_UNSUPPORTED, "filter '%.*s' is outside the template subset",
                            (int)BASE_MIN(name.n, 64), name.p);
        rest_of(a, 1, &rest);
        return jin_invoke(rt, f, item, &rest, out);
    }
    const jin_val *path = keyword(a, "attribute"), *fallback = keyword(a, "default");
    if (!path) return jin_fail(rt, ROTOR_E_FORMAT, "map takes a filter or attribute=");
    ROTOR_TRY(attribute_of(rt, item, path, out));
    if (out->kind == JIN_UNDEFINED && fallback) *out = *fallback;
    return ROTOR_OK;
}

static rotor_status f_map(jin_rt *rt, jin_val self, jin_args *a, jin_val *out) {
    const jin_list *items;
    jin_list *mapped;
    ROTOR_TRY(jin_items(rt, self, &items));
    ROTOR_TRY(jin_list_new(rt, items->n, &mapped));
    ROTOR_TRY(jin_down(rt)); /* map('map', 'map', …) recurses */
    for (size_t i = 0; i < items->n; i++) {
        ROTOR_TRY(jin_step(rt, 0));
        ROTOR_TRY(map_one(rt, items->v[i], a, &mapped->v[i]));
    }
    rt->depth--;
    return *out = (jin_val){JIN_LIST, {.list = mapped}}, ROTOR_OK;
}

static const jin_func filters[] = {
    {"count", "", f_length},
    {"dictsort", "case_sensitive by reverse", f_dictsort},
    {"first", "", f_first},
    {"items", "", f_items},
    {"join", "d attribute", f_join},
    {"last", "", f_last},
    {"length", "", f_length},
    {"list", "", f_list},
    {"map", "*", f_map},
    {"max", "case_sensitive attribute", f_max},
    {"min", "case_sensitive attribute", f_min},
    {"reject", "*", f_reject},
    {"rejectattr", "*", f_rejectattr},
    {"reverse", "", f_reverse},
    {"select", "*", f_select},
    {"selectattr", "*", f_selectattr},
    {"sort", "reverse case_sensitive attribute", f_sort},
    {"sum", "attribute start", f_sum},
    {"unique", "case_sensitive attribute", f_unique},
};

const jin_func *jin_find_sequence_filter(base_str name) {
    for (size_t i = 0; i < BASE_COUNT(filters); i++)
        if (base_str_is(name, filters[i].name)) return &filters[i];
    return NULL;
}
