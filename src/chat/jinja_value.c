/* SPDX-License-Identifier: MIT
 *
 * Values of the template interpreter: memory, marked strings, truth, equality, order, walking.
 *
 * A string is a slice with marks (see jinja_internal.h). New strings are built at the end of the
 * output buffer (jin_mark, jin_put…, jin_cut), which keeps bytes and marks together and gives
 * every string the same limit as the output. Positions and lengths that templates see count
 * characters; a byte that is not UTF-8 counts as one.
 */
#include "chat/jinja_internal.h"

#include <stdio.h>

const uint8_t jin_all_user[1] = {1};

/* ==== Pool ==================================================================================== */

struct jin_chunk {
    jin_chunk *next;             /* older */
    size_t used;                 /* bytes of data handed out */
    size_t cap;                  /* bytes of data */
    _Alignas(16) uint8_t data[]; /* slices */
};

void *jin_take(jin_pool *p, size_t bytes) {
    if (bytes > p->max_bytes) return p->over_limit = true, NULL;
    size_t need = (bytes + 15) & ~(size_t)15;
    jin_chunk *c = p->chunks;
    if (!c || c->cap - c->used < need) {
        size_t cap = BASE_MAX(need, BASE_MIN(p->bytes + 4096, (size_t)1 << 18));
        if (cap > p->max_bytes - BASE_MIN(p->bytes, p->max_bytes))
            return p->over_limit = true, NULL;
        c = base_alloc(sizeof *c + cap);
        if (!c) return NULL;
        c->cap = cap;
        c->next = p->chunks;
        p->chunks = c;
        p->bytes += cap;
    }
    void *out = c->data + c->used;
    c->used += need;
    return out;
}

void jin_pool_free(jin_pool *p) {
    while (p->chunks) {
        jin_chunk *next = p->chunks->next;
        base_free(p->chunks);
        p->chunks = next;
    }
    p->bytes = 0;
}

/* ==== Errors and limits ======================================================================= */

rotor_status jin_fail(jin_rt *rt, rotor_status code, const char *fmt, ...) {
    char sentence[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, ap);
    va_end(ap);
    for (char *p = sentence; *p; p++)
        if ((uint8_t)*p < 32) *p = ' '; /* a message is one line, whatever it quotes */
    return base_fail(rt->err, code, "chat template line %d: %s", rt->line, sentence);
}

rotor_status jin_fail_memory(jin_rt *rt) {
    if (rt->pool.over_limit)
        return jin_fail(rt, ROTOR_E_FORMAT, "the template uses more than %u MiB",
                        JIN_MAX_VALUE_BYTES >> 20);
    return base_fail_nomem(rt->err, "rendering a chat template");
}

rotor_status jin_step(jin_rt *rt, size_t bytes) {
    size_t cost = 1 + bytes / 64;
    if (cost > JIN_MAX_STEPS - rt->steps)
        return jin_fail(rt, ROTOR_E_FORMAT, "the template takes more than %u steps", JIN_MAX_STEPS);
    rt->steps += (uint32_t)cost;
    return ROTOR_OK;
}

rotor_status jin_down(jin_rt *rt) {
    if (rt->depth == JIN_MAX_DEPTH)
        return jin_fail(rt, ROTOR_E_FORMAT, "nested deeper than %d levels", JIN_MAX_DEPTH);
    rt->depth++;
    return ROTOR_OK;
}

const char *jin_kind_name(jin_kind k) {
    static const char *const names[] = {"undefined", "none",  "boolean", "integer", "float",
                                        "string",    "list",  "tuple",   "mapping", "namespace",
                                        "loop",      "macro", "method",  "function"};
    return names[k];
}

/* ==== Strings ================================================================================= */

jin_str jin_slice(jin_str s, size_t begin, size_t n) {
    bool marked = s.user && s.user != jin_all_user;
    return (jin_str){s.p + begin, n, marked ? s.user + begin : s.user};
}

bool jin_user_at(jin_str s, size_t i) { return s.user && (s.user == jin_all_user || s.user[i]); }

static rotor_status put_room(jin_rt *rt, size_t n) {
    if (n > JIN_MAX_OUT_BYTES - rt->out.len)
        return jin_fail(rt, ROTOR_E_FORMAT, "more than %u MiB of text", JIN_MAX_OUT_BYTES >> 20);
    if (base_buf_reserve(&rt->out, n) && base_buf_reserve(&rt->marks, n)) return ROTOR_OK;
    return base_fail_nomem(rt->err, "rendering a chat template");
}

rotor_status jin_put(jin_rt *rt, jin_str s) {
    ROTOR_TRY(put_room(rt, s.n));
    if (!s.n) return ROTOR_OK;
    memcpy(rt->out.data + rt->out.len, s.p, s.n);
    if (s.user && s.user != jin_all_user)
        memcpy(rt->marks.data + rt->marks.len, s.user, s.n);
    else
        memset(rt->marks.data + rt->marks.len, s.user != NULL, s.n);
    rt->out.len += s.n;
    rt->marks.len += s.n;
    return ROTOR_OK;
}

rotor_status jin_put_marked(jin_rt *rt, const char *p, size_t n, bool user) {
    return jin_put(rt, (jin_str){p, n, user ? jin_all_user : NULL});
}

rotor_status jin_put_text(jin_rt *rt, const char *cstr) {
    return jin_put_marked(rt, cstr, strlen(cstr), false);
}

size_t jin_mark(const jin_rt *rt) { return rt->out.len; }

rotor_status jin_cut(jin_rt *rt, size_t mark, jin_val *out) {
    size_t n = rt->out.len - mark;
    jin_str s = {"", n, NULL};
    if (n) {
        const uint8_t *marks = (const uint8_t *)rt->marks.data + mark;
        size_t n_user = 0;
        for (size_t i = 0; i < n; i++) n_user += marks[i];
        char *copy = jin_take(&rt->pool, n_user && n_user < n ? 2 * n : n);
        if (!copy) return jin_fail_memory(rt);
        memcpy(copy, rt->out.data + mark, n);
        s.p = copy;
        if (n_user == n) {
            s.user = jin_all_user;
        } else if (n_user) {
            memcpy(copy + n, marks, n);
            s.user = (const uint8_t *)copy + n;
        }
    }
    rt->out.len = rt->marks.len = mark;
    *out = jin_of_str(s);
    return ROTOR_OK;
}

bool jin_is_space(int32_t cp) {
    return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static bool strips(jin_str s, size_t at, size_t len, const jin_str *chars) {
    if (!chars) {
        int32_t cp;
        base_utf8_decode(s.p + at, len, &cp);
        return jin_is_space(cp);
    }
    return jin_find(*chars, (jin_str){s.p + at, len, NULL}, 0) != SIZE_MAX;
}

/* Start of the character that ends at `end`. */
static size_t char_before(jin_str s, size_t end) {
    for (size_t len = 1; len <= 4 && len <= end; len++) {
        int32_t cp;
        if (base_utf8_decode(s.p + end - len, len, &cp) == (int)len && cp >= 0) return end - len;
    }
    return end - 1;
}

jin_str jin_strip(jin_str s, const jin_str *chars, bool left, bool right) {
    size_t begin = 0, end = s.n;
    while (left && begin < end) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(s.p + begin, end - begin, &cp);
        if (!strips(s, begin, len, chars)) break;
        begin += len;
    }
    while (right && begin < end) {
        size_t at = char_before(s, end);
        if (!strips(s, at, end - at, chars)) break;
        end = at;
    }
    return jin_slice(s, begin, end - begin);
}

size_t jin_find(jin_str hay, jin_str needle, size_t from) {
    if (needle.n > hay.n) return SIZE_MAX;
    if (!needle.n) return from <= hay.n ? from : SIZE_MAX;
    for (size_t at = from; at + needle.n <= hay.n; at++) {
        const char *hit = memchr(hay.p + at, needle.p[0], hay.n - needle.n - at + 1);
        if (!hit) return SIZE_MAX;
        at = (size_t)(hit - hay.p);
        if (memcmp(hit, needle.p, needle.n) == 0) return at;
    }
    return SIZE_MAX;
}

size_t jin_char_offset(jin_str s, size_t chars) {
    size_t at = 0;
    for (int32_t cp; chars && at < s.n; chars--)
        at += (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
    return at;
}

size_t jin_count_chars(jin_str s) {
    size_t n = 0;
    int32_t cp;
    for (size_t at = 0; at < s.n; n++) at += (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
    return n;
}

/* ==== Containers ============================================================================== */

rotor_status jin_list_new(jin_rt *rt, size_t n, jin_list **out) {
    size_t bytes;
    if (!base_mul_size(n, sizeof(jin_val), &bytes)) bytes = SIZE_MAX / 2;
    jin_list *list = jin_take(&rt->pool, sizeof *list);
    if (list) list->v = jin_take(&rt->pool, bytes);
    if (!list || !list->v) return jin_fail_memory(rt);
    list->n = n;
    *out = list;
    return ROTOR_OK;
}

rotor_status jin_dict_find(jin_rt *rt, const jin_dict *d, jin_val key, jin_val **out) {
    *out = NULL;
    for (size_t i = 0; i < d->n; i++) {
        bool same;
        ROTOR_TRY(jin_equal(rt, d->v[i].key, key, &same));
        if (same) return *out = &d->v[i].value, ROTOR_OK;
    }
    return ROTOR_OK;
}

static bool hashable(jin_val key) {
    if (key.kind == JIN_LIST || key.kind == JIN_DICT) return false;
    if (key.kind == JIN_TUPLE)
        for (size_t i = 0; i < key.u.list->n; i++)
            if (jin_is_list(key.u.list->v[i]) || key.u.list->v[i].kind == JIN_DICT) return false;
    return true;
}

rotor_status jin_dict_put(jin_rt *rt, jin_dict *d, jin_val key, jin_val value) {
    jin_val *old;
    if (!hashable(key))
        return jin_fail(rt, ROTOR_E_FORMAT, "a %s cannot be a key", jin_kind_name(key.kind));
    ROTOR_TRY(jin_dict_find(rt, d, key, &old));
    if (old) return *old = value, ROTOR_OK;
    if (d->n == d->cap) {
        size_t cap = d->cap * 2 + 4;
        jin_pair *more = jin_take(&rt->pool, cap * sizeof *more);
        if (!more) return jin_fail_memory(rt);
        if (d->n) memcpy(more, d->v, d->n * sizeof *more);
        d->v = more;
        d->cap = cap;
    }
    d->v[d->n++] = (jin_pair){key, value};
    return ROTOR_OK;
}

rotor_status jin_length(jin_rt *rt, jin_val v, size_t *out) {
    switch (v.kind) {
    case JIN_UNDEFINED:
        *out = 0;
        return ROTOR_OK;
    case JIN_STR:
        *out = jin_count_chars(v.u.s);
        return jin_step(rt, v.u.s.n);
    case JIN_LIST:
    case JIN_TUPLE:
        *out = v.u.list->n;
        return ROTOR_OK;
    case JIN_DICT:
        *out = v.u.dict->n;
        return ROTOR_OK;
    case JIN_LOOP:
        *out = v.u.loop->items->n;
        return ROTOR_OK;
    default:
        return jin_fail(rt, ROTOR_E_FORMAT, "a %s has no length", jin_kind_name(v.kind));
    }
}

static rotor_status chars_of(jin_rt *rt, jin_str s, const jin_list **out) {
    jin_list *list;
    size_t at = 0;
    ROTOR_TRY(jin_step(rt, s.n));
    ROTOR_TRY(jin_list_new(rt, jin_count_chars(s), &list));
    for (size_t i = 0; i < list->n; i++) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
        list->v[i] = jin_of_str(jin_slice(s, at, len));
        at += len;
    }
    *out = list;
    return ROTOR_OK;
}

rotor_status jin_items(jin_rt *rt, jin_val v, const jin_list **out) {
    jin_list *list;
    if (jin_is_list(v)) return *out = v.u.list, ROTOR_OK;
    if (v.kind == JIN_STR) return chars_of(rt, v.u.s, out);
    if (v.kind != JIN_DICT && v.kind != JIN_UNDEFINED)
        return jin_fail(rt, ROTOR_E_FORMAT, "a %s cannot be walked", jin_kind_name(v.kind));
    ROTOR_TRY(jin_list_new(rt, v.kind == JIN_DICT ? v.u.dict->n : 0, &list));
    for (size_t i = 0; i < list->n; i++) list->v[i] = v.u.dict->v[i].key;
    *out = list;
    return ROTOR_OK;
}

/* ==== Truth, equality, order ================================================================== */

bool jin_truthy(jin_val v) {
    switch (v.kind) {
    case JIN_UNDEFINED:
    case JIN_NONE:
        return false;
    case JIN_BOOL:
        return v.u.b;
    case JIN_INT:
        return v.u.i != 0;
    case JIN_FLOAT:
        return v.u.f != 0;
    case JIN_STR:
        return v.u.s.n != 0;
    case JIN_LIST:
    case JIN_TUPLE:
        return v.u.list->n != 0;
    case JIN_DICT:
        return v.u.dict->n != 0;
    default:
        return true;
    }
}

static rotor_status equal_lists(jin_rt *rt, const jin_list *a, const jin_list *b, bool *out) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) ROTOR_TRY(jin_equal(rt, a->v[i], b->v[i], out));
    return ROTOR_OK;
}

static rotor_status equal_dicts(jin_rt *rt, const jin_dict *a, const jin_dict *b, bool *out) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        jin_val *other;
        ROTOR_TRY(jin_dict_find(rt, b, a->v[i].key, &other));
        if (!other) return *out = false, ROTOR_OK;
        ROTOR_TRY(jin_equal(rt, a->v[i].value, *other, out));
    }
    return ROTOR_OK;
}

rotor_status jin_equal(jin_rt *rt, jin_val a, jin_val b, bool *out) {
    if (jin_is_number(a) && jin_is_number(b)) {
        bool ints = jin_is_int(a) && jin_is_int(b);
        *out = ints ? jin_int(a) == jin_int(b) : jin_float(a) == jin_float(b);
        return jin_step(rt, 0);
    }
    *out = false;
    if (a.kind != b.kind) return jin_step(rt, 0);
    if (a.kind == JIN_STR) {
        *out = base_str_eq(jin_bytes(a.u.s), jin_bytes(b.u.s));
        return jin_step(rt, BASE_MIN(a.u.s.n, b.u.s.n));
    }
    ROTOR_TRY(jin_down(rt));
    ROTOR_TRY(jin_step(rt, 0));
    if (jin_is_list(a))
        ROTOR_TRY(equal_lists(rt, a.u.list, b.u.list, out));
    else if (a.kind == JIN_DICT)
        ROTOR_TRY(equal_dicts(rt, a.u.dict, b.u.dict, out));
    else if (a.kind == JIN_UNDEFINED || a.kind == JIN_NONE)
        *out = true;
    else
        *out = a.u.func == b.u.func; /* namespaces, loops, callables: the same object */
    rt->depth--;
    return ROTOR_OK;
}

rotor_status jin_less(jin_rt *rt, jin_val a, jin_val b, bool *out) {
    ROTOR_TRY(jin_step(rt, 0));
    if (jin_is_number(a) && jin_is_number(b)) {
        bool ints = jin_is_int(a) && jin_is_int(b);
        *out = ints ? jin_int(a) < jin_int(b) : jin_float(a) < jin_float(b);
        return ROTOR_OK;
    }
    if (a.kind == JIN_STR && b.kind == JIN_STR) { /* UTF-8 orders like code points */
        size_t n = BASE_MIN(a.u.s.n, b.u.s.n);
        int order = n ? memcmp(a.u.s.p, b.u.s.p, n) : 0;
        *out = order ? order < 0 : a.u.s.n < b.u.s.n;
        return jin_step(rt, n);
    }
    if (!jin_is_list(a) || a.kind != b.kind)
        return jin_fail(rt, ROTOR_E_FORMAT, "cannot order a %s and a %s", jin_kind_name(a.kind),
                        jin_kind_name(b.kind));
    ROTOR_TRY(jin_down(rt));
    for (size_t i = 0; i < a.u.list->n && i < b.u.list->n; i++) {
        bool same;
        ROTOR_TRY(jin_equal(rt, a.u.list->v[i], b.u.list->v[i], &same));
        if (same) continue;
        ROTOR_TRY(jin_less(rt, a.u.list->v[i], b.u.list->v[i], out));
        rt->depth--;
        return ROTOR_OK;
    }
    *out = a.u.list->n < b.u.list->n;
    rt->depth--;
    return ROTOR_OK;
}

rotor_status jin_contains(jin_rt *rt, jin_val box, jin_val item, bool *out) {
    if (box.kind == JIN_STR) {
        if (item.kind != JIN_STR)
            return jin_fail(rt, ROTOR_E_FORMAT, "'in' a string needs a string, not a %s",
                            jin_kind_name(item.kind));
        *out = jin_find(box.u.s, item.u.s, 0) != SIZE_MAX;
        return jin_step(rt, box.u.s.n);
    }
    if (box.kind == JIN_DICT) {
        jin_val *found;
        ROTOR_TRY(jin_dict_find(rt, box.u.dict, item, &found));
        return *out = found != NULL, ROTOR_OK;
    }
    const jin_list *list;
    ROTOR_TRY(jin_items(rt, box, &list));
    *out = false;
    for (size_t i = 0; i < list->n && !*out; i++) ROTOR_TRY(jin_equal(rt, list->v[i], item, out));
    return ROTOR_OK;
}
