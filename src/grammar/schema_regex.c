/* SPDX-License-Identifier: MIT
 *
 * Regular expressions of `pattern` (ECMA-262) to rules over the characters of a JSON string, each
 * written as JSON writes it: \" \\ and control characters as their shortest escapes, all others as
 * themselves.
 *
 * There are: characters and escapes (\n \t \xHH \uHHHH \d \w \s and their opposites, punctuation),
 * `.`, classes, groups, alternatives and all counts. A pattern is looked for anywhere in the string
 * unless ^ and $ stand at the beginning and end of an alternative; they may stand nowhere else.
 * Look-around, references to groups, \b and \p are not regular, or not known, and an error.
 */
#include "grammar/schema_internal.h"

typedef struct regex {
    schema *s;        /* where expressions go */
    const char *text; /* the pattern */
    const char *p;    /* what is left of it */
    int depth;        /* groups around this */
} regex;

static rotor_status wrong(regex *x, const char *what) {
    return schema_fail(x->s, ROTOR_E_UNSUPPORTED, "pattern, byte %td: %s", x->p - x->text, what);
}

static bool skip(regex *x, char c) {
    const bool is = *x->p == c;
    x->p += is;
    return is;
}

/* ==== Characters of JSON ====================================================================== */

/* What JSON writes for a control character, a quotation mark or a backslash. */
static uint32_t write_escape(gram_rules *r, uint32_t c) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt", digits[] = "0123456789abcdef";
    const char *known = c ? strchr(from, (int)c) : NULL;
    if (known) {
        const char text[] = {'\\', to[known - from], 0};
        return gram_cstr(r, text);
    }
    const char text[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15], 0};
    return gram_cstr(r, text);
}

static bool is_escaped(uint32_t c) { return c < 0x20 || c == '"' || c == '\\'; }

/* One character of the spans. */
static uint32_t write_class(regex *x, base_buf *spans, bool negate) {
    gram_rules *r = &x->s->rules;
    gram_span *list = (void *)spans->data;
    const uint32_t all = gram_class(r, list, spans->len / sizeof *list, negate);
    uint32_t out = GRAM_NONE;
    base_buf plain = {0};
    r->failed |= spans->failed;
    if (r->failed || r->full) return 0;
    const gram_expr e = r->expr[all];
    for (uint32_t i = 0; i < e.b; i++) {
        gram_span s = r->span[e.a + i];
        for (uint32_t c = s.lo; c <= s.hi && c <= '\\'; c++) { /* those above need no look */
            if (!is_escaped(c)) continue;
            out = gram_alt(r, out, write_escape(r, c));
            const gram_span before = {s.lo, c - 1};
            if (c > s.lo) base_buf_append(&plain, &before, sizeof before);
            s.lo = c + 1;
        }
        if (s.lo <= s.hi) base_buf_append(&plain, &s, sizeof s);
    }
    r->failed |= plain.failed;
    if (plain.len || out == GRAM_NONE)
        out = gram_alt(r, out,
                       gram_class(r, (void *)plain.data, plain.len / sizeof(gram_span), false));
    base_buf_free(&plain);
    return out;
}

/* ==== Sets of characters ====================================================================== */

static const gram_span digit_set[] = {{'0', '9'}};
static const gram_span word_set[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const gram_span space_set[] = {
    {9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};

/* Adds \d, \w, \s or their opposites; false: the letter is none of them. */
static bool add_set(base_buf *spans, char letter) {
    static const struct {
        char letter;           /* in small */
        const gram_span *span; /* [n] sorted */
        size_t n;              /* how many */
    } sets[] = {{'d', digit_set, BASE_COUNT(digit_set)},
                {'w', word_set, BASE_COUNT(word_set)},
                {'s', space_set, BASE_COUNT(space_set)}};
    for (size_t i = 0; i < BASE_COUNT(sets); i++) {
        uint32_t next = 0;
        if (letter == sets[i].letter) {
            base_buf_append(spans, sets[i].span, sets[i].n * sizeof(gram_span));
            return true;
        }
        if (letter != sets[i].letter - 'a' + 'A') continue;
        for (size_t k = 0; k < sets[i].n; k++) { /* what lies between */
            const gram_span gap = {next, sets[i].span[k].lo - 1};
            if (sets[i].span[k].lo > next) base_buf_append(spans, &gap, sizeof gap);
            next = sets[i].span[k].hi + 1;
        }
        const gram_span last = {next, GRAM_LAST_CHAR};
        base_buf_append(spans, &last, sizeof last);
        return true;
    }
    return false;
}

static rotor_status read_hex(regex *x, int digits, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < digits; i++, x->p++) {
        const char c = *x->p;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            digit = (uint32_t)((c | 32) - 'a' + 10);
        else
            return wrong(x, "expected a hexadecimal digit");
        *out = *out << 4 | digit;
    }
    if (*out >= 0xD800 && *out < 0xE000)
        return wrong(x, "characters beyond U+FFFF are written as themselves");
    return ROTOR_OK;
}

/* The character of an escape whose backslash has been read. */
static rotor_status read_escape(regex *x, uint32_t *out) {
    static const char from[] = "nrtfv", to[] = "\n\r\t\f\v";
    const char c = *x->p;
    const char *known = c ? strchr(from, c) : NULL;
    if (!c) return wrong(x, "the pattern ends with a backslash");
    x->p++;
    if (known) return *out = (uint8_t)to[known - from], ROTOR_OK;
    if (c == 'x') return read_hex(x, 2, out);
    if (c == 'u') return read_hex(x, 4, out);
    const bool letter = ((c | 32) >= 'a' && (c | 32) <= 'z') || (c >= '0' && c <= '9') || c & 0x80;
    if (letter) {
        x->p--;
        return wrong(x, "this escape is not supported");
    }
    *out = (uint8_t)c;
    return ROTOR_OK;
}

static uint32_t read_plain(regex *x) {
    int32_t c;
    x->p += base_utf8_decode(x->p, strlen(x->p), &c);
    return (uint32_t)c;
}

/* One member of a class: a set, or a character in *c. */
static rotor_status read_member(regex *x, base_buf *spans, bool *set, uint32_t *c) {
    *set = false;
    if (!skip(x, '\\')) return *c = read_plain(x), ROTOR_OK;
    if (add_set(spans, *x->p)) return x->p++, *set = true, ROTOR_OK;
    if (skip(x, 'b')) return *c = '\b', ROTOR_OK;
    return read_escape(x, c);
}

static rotor_status read_members(regex *x, base_buf *spans) {
    while (!skip(x, ']')) {
        gram_span span;
        bool set;
        if (!*x->p) return wrong(x, "the class has no end");
        ROTOR_TRY(read_member(x, spans, &set, &span.lo));
        if (set) continue;
        span.hi = span.lo;
        if (*x->p == '-' && x->p[1] != ']' && x->p[1]) {
            x->p++;
            ROTOR_TRY(read_member(x, spans, &set, &span.hi));
            if (set || span.hi < span.lo) return wrong(x, "this is no range");
        }
        base_buf_append(spans, &span, sizeof span);
    }
    return ROTOR_OK;
}

static rotor_status read_class(regex *x, uint32_t *out) {
    base_buf spans = {0};
    x->p++;
    const bool negate = skip(x, '^');
    const rotor_status status = read_members(x, &spans);
    if (status == ROTOR_OK) *out = write_class(x, &spans, negate);
    base_buf_free(&spans);
    return status;
}

/* ==== Expressions ============================================================================= */

static rotor_status read_choice(regex *x, bool top, uint32_t *out);

static rotor_status read_group(regex *x, uint32_t *out) {
    if (++x->depth > GRAM_MAX_DEPTH) return wrong(x, "groups are nested too deeply");
    x->p++;
    if (*x->p == '?') {
        const bool named = x->p[1] == '<' && x->p[2] != '=' && x->p[2] != '!';
        if (x->p[1] != ':' && !named) return wrong(x, "looking around is not supported");
        x->p += 2;
        while (named && *x->p && *x->p++ != '>') {
        }
    }
    ROTOR_TRY(read_choice(x, false, out));
    if (!skip(x, ')')) return wrong(x, "the group is not closed");
    x->depth--;
    return ROTOR_OK;
}

static rotor_status read_set_or_char(regex *x, uint32_t *out) {
    static const gram_span lines[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    base_buf spans = {0};
    rotor_status status = ROTOR_OK;
    const bool any = skip(x, '.');
    uint32_t c = 0;
    if (any) {
        base_buf_append(&spans, lines, sizeof lines);
    } else if (!skip(x, '\\')) {
        c = read_plain(x);
    } else if (add_set(&spans, *x->p)) {
        x->p++;
    } else {
        status = read_escape(x, &c);
    }
    const gram_span one = {c, c};
    if (!spans.len) base_buf_append(&spans, &one, sizeof one);
    if (status == ROTOR_OK) *out = write_class(x, &spans, any);
    base_buf_free(&spans);
    return status;
}

static rotor_status read_atom(regex *x, uint32_t *out) {
    switch (*x->p) {
    case '[':
        return read_class(x, out);
    case '(':
        return read_group(x, out);
    case '^':
    case '$':
        return wrong(x, "^ and $ stand at the beginning and end of the pattern only");
    case '*':
    case '+':
    case '?':
    case '{':
        return wrong(x, "there is nothing to repeat");
    default:
        return read_set_or_char(x, out);
    }
}

static bool read_number(regex *x, uint32_t *out) {
    const char *begin = x->p;
    *out = 0;
    for (; *x->p >= '0' && *x->p <= '9' && *out <= GRAM_MAX_REPEAT; x->p++)
        *out = *out * 10 + (uint32_t)(*x->p - '0');
    return x->p > begin && *out <= GRAM_MAX_REPEAT;
}

static rotor_status read_count(regex *x, uint32_t *min, uint32_t *max) {
    x->p++;
    if (!read_number(x, min)) return wrong(x, "expected a count, 100000 at most");
    *max = *min;
    if (skip(x, ',')) {
        *max = GRAM_NONE;
        if (*x->p != '}' && !read_number(x, max)) return wrong(x, "expected a count");
    }
    if (!skip(x, '}') || *min > *max) return wrong(x, "this is no count");
    return ROTOR_OK;
}

static rotor_status read_repeated(regex *x, uint32_t *out) {
    uint32_t min = 0, max = GRAM_NONE;
    ROTOR_TRY(read_atom(x, out));
    const char c = *x->p;
    if (c != '*' && c != '+' && c != '?' && c != '{') return ROTOR_OK;
    if (c == '{') {
        ROTOR_TRY(read_count(x, &min, &max));
    } else {
        x->p++;
        min = c == '+';
        if (c == '?') max = 1;
    }
    skip(x, '?'); /* as few as possible: the same strings */
    *out = gram_repeat(&x->s->rules, *out, min, max);
    return ROTOR_OK;
}

static rotor_status read_sequence(regex *x, bool top, uint32_t *out) {
    gram_rules *r = &x->s->rules;
    const bool from_start = top && skip(x, '^');
    *out = top && !from_start ? schema_rule(x->s, "chars") : gram_empty(r);
    while (*x->p && *x->p != '|' && *x->p != ')') {
        uint32_t next;
        if (top && *x->p == '$' && (!x->p[1] || x->p[1] == '|')) {
            x->p++;
            return ROTOR_OK;
        }
        ROTOR_TRY(read_repeated(x, &next));
        *out = gram_seq(r, *out, next);
    }
    if (top) *out = gram_seq(r, *out, schema_rule(x->s, "chars"));
    return ROTOR_OK;
}

static rotor_status read_choice(regex *x, bool top, uint32_t *out) {
    *out = GRAM_NONE;
    do {
        uint32_t next;
        ROTOR_TRY(read_sequence(x, top, &next));
        *out = gram_alt(&x->s->rules, *out, next);
    } while (skip(x, '|'));
    return ROTOR_OK;
}

rotor_status schema_regex(schema *s, const char *pattern, uint32_t *out) {
    regex x = {.s = s, .text = pattern, .p = pattern};
    ROTOR_TRY(read_choice(&x, true, out));
    return *x.p ? wrong(&x, "a parenthesis too many") : ROTOR_OK;
}
