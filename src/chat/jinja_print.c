/* SPDX-License-Identifier: MIT
 *
 * Values as text: str() and repr() as Python prints them, numbers in the shortest form that reads
 * back the same, upper and lower case.
 *
 * Case uses the simple mappings of Unicode (one character to one); the few characters whose
 * upper case is longer (such as the German sharp s) stay as they are.
 */
#include "chat/jinja_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

/* ==== Numbers ================================================================================= */

/* The C library prints and reads the decimal point of the process's locale. */
static char locale_point(void) {
    char buf[8];
    snprintf(buf, sizeof buf, "%.1f", 0.5);
    return buf[1];
}

bool jin_parse_float(base_str s, double *out) {
    char buf[64], *end;
    if (!s.n || s.n >= sizeof buf) return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!strchr("0123456789+-.eE", s.p[i]) || !s.p[i]) return false;
        buf[i] = s.p[i] == '.' ? locale_point() : s.p[i];
    }
    buf[s.n] = 0;
    *out = strtod(buf, &end);
    return *end == 0;
}

/* Shortest digits d1 d2 … (n of them) and exponent of d1.d2… */
static int shortest(double f, char digits[20], int *exponent) {
    char buf[40];
    int precision = 0;
    do snprintf(buf, sizeof buf, "%.*e", precision, f);
    while (strtod(buf, NULL) != f && ++precision < 17);
    const char *e = strchr(buf, 'e');
    int n = 0;
    for (const char *p = buf; p < e; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    *exponent = atoi(e + 1);
    while (n > 1 && digits[n - 1] == '0') n--;
    return n;
}

rotor_status jin_put_float(jin_rt *rt, double f, bool user) {
    char digits[20], text[48];
    if (isnan(f)) return jin_put_text(rt, "nan");
    if (isinf(f)) return jin_put_text(rt, f < 0 ? "-inf" : "inf");
    int e, n = shortest(fabs(f), digits, &e), at = 0;
    if (signbit(f)) text[at++] = '-';
    if (e >= -4 && e < 16) {
        for (int i = e < 0 ? e : 0; i < BASE_MAX(n, e + 2); i++) {
            if (i == e + 1) text[at++] = '.';
            text[at++] = i >= 0 && i < n ? digits[i] : '0';
        }
    } else {
        text[at++] = digits[0];
        if (n > 1) text[at++] = '.';
        for (int i = 1; i < n; i++) text[at++] = digits[i];
        at += snprintf(text + at, 8, "e%c%02d", e < 0 ? '-' : '+', abs(e));
    }
    return jin_put_marked(rt, text, (size_t)at, user);
}

static rotor_status put_int(jin_rt *rt, int64_t i) {
    char buf[24];
    snprintf(buf, sizeof buf, "%lld", (long long)i);
    return jin_put_text(rt, buf);
}

/* ==== repr ==================================================================================== */

static bool printable(int32_t cp) {
    if (cp == ' ') return true;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static rotor_status repr_char(jin_rt *rt, jin_str s, size_t at, size_t len, char quote) {
    int32_t cp;
    char buf[12];
    bool user = jin_user_at(s, at);
    base_utf8_decode(s.p + at, len, &cp);
    if (cp == '\n' || cp == '\r' || cp == '\t')
        snprintf(buf, sizeof buf, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else if (cp == '\\' || cp == quote)
        snprintf(buf, sizeof buf, "\\%c", (char)cp);
    else if (cp < 0 || printable(cp))
        return jin_put(rt, jin_slice(s, at, len));
    else
        snprintf(buf, sizeof buf,
                 cp < 0x100     ? "\\x%02x"
                 : cp < 0x10000 ? "\\u%04x"
                                : "\\U%08x",
                 (unsigned)cp);
    return jin_put_marked(rt, buf, strlen(buf), user);
}

static rotor_status repr_string(jin_rt *rt, jin_str s) {
    bool single = s.n && memchr(s.p, '\'', s.n), both = single && memchr(s.p, '"', s.n);
    char quote[2] = {single && !both ? '"' : '\'', 0};
    ROTOR_TRY(jin_put_text(rt, quote));
    for (size_t at = 0; at < s.n;) {
        int32_t cp;
        size_t len = (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
        ROTOR_TRY(repr_char(rt, s, at, len, quote[0]));
        at += len;
    }
    return jin_put_text(rt, quote);
}

static rotor_status repr_list(jin_rt *rt, jin_val v) {
    const jin_list *list = v.u.list;
    bool tuple = v.kind == JIN_TUPLE;
    ROTOR_TRY(jin_put_text(rt, tuple ? "(" : "["));
    for (size_t i = 0; i < list->n; i++) {
        if (i) ROTOR_TRY(jin_put_text(rt, ", "));
        ROTOR_TRY(jin_put_repr(rt, list->v[i]));
    }
    return jin_put_text(rt, !tuple ? "]" : list->n == 1 ? ",)" : ")");
}

static rotor_status repr_dict(jin_rt *rt, const jin_dict *d) {
    ROTOR_TRY(jin_put_text(rt, "{"));
    for (size_t i = 0; i < d->n; i++) {
        if (i) ROTOR_TRY(jin_put_text(rt, ", "));
        ROTOR_TRY(jin_put_repr(rt, d->v[i].key));
        ROTOR_TRY(jin_put_text(rt, ": "));
        ROTOR_TRY(jin_put_repr(rt, d->v[i].value));
    }
    return jin_put_text(rt, "}");
}

static rotor_status repr_any(jin_rt *rt, jin_val v) {
    switch (v.kind) {
    case JIN_UNDEFINED:
        return jin_put_text(rt, "Undefined");
    case JIN_NONE:
        return jin_put_text(rt, "None");
    case JIN_BOOL:
        return jin_put_text(rt, v.u.b ? "True" : "False");
    case JIN_INT:
        return put_int(rt, v.u.i);
    case JIN_FLOAT:
        return jin_put_float(rt, v.u.f, false);
    case JIN_STR:
        return repr_string(rt, v.u.s);
    case JIN_LIST:
    case JIN_TUPLE:
        return repr_list(rt, v);
    case JIN_DICT:
        return repr_dict(rt, v.u.dict);
    case JIN_NAMESPACE:
        ROTOR_TRY(jin_put_text(rt, "<Namespace "));
        ROTOR_TRY(repr_dict(rt, v.u.dict));
        return jin_put_text(rt, ">");
    default:
        return jin_fail(rt, ROTOR_E_FORMAT, "a %s cannot be printed", jin_kind_name(v.kind));
    }
}

rotor_status jin_put_repr(jin_rt *rt, jin_val v) {
    ROTOR_TRY(jin_step(rt, 0));
    ROTOR_TRY(jin_down(rt));
    ROTOR_TRY(repr_any(rt, v));
    rt->depth--;
    return ROTOR_OK;
}

rotor_status jin_put_val(jin_rt *rt, jin_val v) {
    if (v.kind == JIN_STR) return jin_put(rt, v.u.s);
    return v.kind == JIN_UNDEFINED ? ROTOR_OK : jin_put_repr(rt, v);
}

rotor_status jin_to_str(jin_rt *rt, jin_val v, jin_val *out) {
    if (v.kind == JIN_STR) return *out = v, ROTOR_OK;
    size_t mark = jin_mark(rt);
    ROTOR_TRY(jin_put_val(rt, v));
    return jin_cut(rt, mark, out);
}

/* ==== Case ==================================================================================== */

/* The filter `title` starts a word after one of these, the method `title` after any non-letter. */
static bool starts_word(int32_t before, jin_case how) {
    if (how == JIN_TITLE_FILTER) return jin_is_space(before) || (before && strchr("-({[<", before));
    return utf8proc_toupper(before) == before && utf8proc_tolower(before) == before;
}

rotor_status jin_change_case(jin_rt *rt, jin_str s, jin_case how, jin_val *out) {
    size_t mark = jin_mark(rt);
    int32_t before = ' ';
    for (size_t at = 0; at < s.n;) {
        int32_t cp;
        char buf[4];
        size_t len = (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
        if (cp < 0) {
            ROTOR_TRY(jin_put(rt, jin_slice(s, at, len)));
        } else {
            bool up = how == JIN_UPPER || (how == JIN_CAPITALIZE && at == 0) ||
                      (how >= JIN_TITLE_FILTER && (at == 0 || starts_word(before, how)));
            int32_t to = !up                                           ? utf8proc_tolower(cp)
                         : how == JIN_UPPER || how == JIN_TITLE_FILTER ? utf8proc_toupper(cp)
                                                                       : utf8proc_totitle(cp);
            int n = base_utf8_encode((uint32_t)to, buf);
            ROTOR_TRY(jin_put_marked(rt, buf, (size_t)n, jin_user_at(s, at)));
        }
        before = cp < 0 ? 'x' : cp;
        at += len;
    }
    return jin_cut(rt, mark, out);
}
