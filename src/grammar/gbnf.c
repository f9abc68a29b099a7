/* SPDX-License-Identifier: MIT
 *
 * Reads GBNF, the notation of grammars that users of llama.cpp know:
 *
 *     root  ::= "yes" | "no" | list            # a comment
 *     list  ::= "[" item ("," item)* "]"
 *     item  ::= [0-9]+ | [^"\\\x7F\u0000-\u001F]{1,8} | .
 *
 * A rule ends with its line, unless the line ends inside parentheses, behind ::= or |, or the next
 * begins with |. Texts and classes know \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH, each of which
 * is a character (\xE9 is U+00E9, not a byte). `.` is any character. Repetitions are * + ? {m}
 * {m,} {,n} {m,n}.
 */
#include "grammar/grammar_internal.h"

typedef struct place {
    uint32_t line, column; /* from 1; columns are characters */
} place;

typedef struct reader {
    base_str text;     /* whole, borrowed */
    size_t at;         /* bytes read */
    gram_rules *rules; /* being written */
    base_map *names;   /* rules by name */
    base_buf scratch;  /* a text or spans, owned */
    int depth;         /* groups around this */
    place seen;        /* of the last place asked for, where the next is usually not far … */
    size_t seen_at;    /* … and its bytes */
    rotor_error *err;  /* where errors go */
} reader;

static place place_of(reader *g, size_t at) {
    if (at < g->seen_at || !g->seen.line) {
        g->seen = (place){1, 1};
        g->seen_at = 0;
    }
    for (; g->seen_at < at; g->seen_at++) {
        const char c = g->text.p[g->seen_at];
        if (c == '\n')
            g->seen = (place){g->seen.line + 1, 1};
        else
            g->seen.column += ((uint8_t)c & 0xC0) != 0x80;
    }
    return g->seen;
}

/* Puts the place in front of a message. */
static rotor_status at_place(reader *g, size_t at, rotor_status status) {
    const place p = place_of(g, at);
    return base_fail_in(g->err, status, "grammar line %u, column %u", p.line, p.column);
}

static rotor_status wrong(reader *g, size_t at, const char *what) {
    base_fail(g->err, ROTOR_E_FORMAT, "%s", what);
    return at_place(g, at, ROTOR_E_FORMAT);
}

static int peek(const reader *g) { return g->at < g->text.n ? (uint8_t)g->text.p[g->at] : -1; }

static bool skip(reader *g, int c) {
    const bool is = peek(g) == c;
    g->at += is;
    return is;
}

static void skip_space(reader *g, bool lines) {
    for (;;) {
        const int c = peek(g);
        if (c == '#')
            while (g->at < g->text.n && peek(g) != '\n') g->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            g->at++;
        else
            return;
    }
}

static bool is_name(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* ==== Characters ============================================================================== */

static int hex(int c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static rotor_status read_hex(reader *g, int digits, uint32_t *out) {
    const size_t begin = g->at;
    uint32_t value = 0;
    for (int i = 0; i < digits; i++) {
        const int digit = hex(peek(g));
        if (digit < 0) return wrong(g, g->at, "expected a hexadecimal digit");
        value = value << 4 | (uint32_t)digit;
        g->at++;
    }
    if (value > GRAM_LAST_CHAR || (value >= 0xD800 && value < 0xE000))
        return wrong(g, begin, "that is no character of Unicode");
    *out = value;
    return ROTOR_OK;
}

/* One character of a text or class. */
static rotor_status read_char(reader *g, uint32_t *out) {
    static const char from[] = "nrt\\\"[]^-'", to[] = "\n\r\t\\\"[]^-'";
    int32_t cp;
    if (!skip(g, '\\')) {
        g->at += (size_t)base_utf8_decode(g->text.p + g->at, g->text.n - g->at, &cp);
        if (cp < 0) return wrong(g, g->at - 1, "not UTF-8");
        *out = (uint32_t)cp;
        return ROTOR_OK;
    }
    if (skip(g, 'x')) return read_hex(g, 2, out);
    if (skip(g, 'u')) return read_hex(g, 4, out);
    if (skip(g, 'U')) return read_hex(g, 8, out);
    const char *known = peek(g) > 0 ? strchr(from, peek(g)) : NULL;
    if (!known)
        return wrong(g, g->at,
                     "unknown escape; there are \\n \\r \\t \\\\ \\\" \\[ \\] "
                     "\\xHH \\uHHHH \\UHHHHHHHH");
    *out = (uint8_t)to[known - from];
    g->at++;
    return ROTOR_OK;
}

static rotor_status read_text(reader *g, uint32_t *out) {
    const size_t begin = g->at++;
    base_buf_reset(&g->scratch);
    while (!skip(g, '"')) {
        uint32_t c;
        char utf8[4];
        if (peek(g) < 0 || peek(g) == '\n') return wrong(g, begin, "the text has no end (\")");
        ROTOR_TRY(read_char(g, &c));
        base_buf_append(&g->scratch, utf8, (size_t)base_utf8_encode(c, utf8));
    }
    g->rules->failed |= g->scratch.failed;
    *out = gram_text(g->rules, (base_str){g->scratch.data, g->scratch.len});
    return ROTOR_OK;
}

static rotor_status read_class(reader *g, uint32_t *out) {
    const size_t begin = g->at++;
    const bool negate = skip(g, '^');
    base_buf_reset(&g->scratch);
    while (!skip(g, ']')) {
        gram_span s;
        const size_t at = g->at;
        if (peek(g) < 0 || peek(g) == '\n') return wrong(g, begin, "the class has no end (])");
        ROTOR_TRY(read_char(g, &s.lo));
        s.hi = s.lo;
        if (peek(g) == '-' && g->at + 1 < g->text.n && g->text.p[g->at + 1] != ']') {
            g->at++;
            ROTOR_TRY(read_char(g, &s.hi));
        }
        if (s.hi < s.lo) return wrong(g, at, "the range ends before it begins");
        base_buf_append(&g->scratch, &s, sizeof s);
    }
    g->rules->failed |= g->scratch.failed;
    if (!g->scratch.len && !negate) return wrong(g, begin, "the class is empty");
    *out =
        gram_class(g->rules, (void *)g->scratch.data, g->scratch.len / sizeof(gram_span), negate);
    return ROTOR_OK;
}

/* ==== Rules =================================================================================== */

static base_str read_name(reader *g) {
    const size_t begin = g->at;
    while (is_name(peek(g))) g->at++;
    return (base_str){g->text.p + begin, g->at - begin};
}

static rotor_status rule_named(reader *g, base_str name, size_t at, uint32_t *rule) {
    if (base_map_get(g->names, name, rule)) return ROTOR_OK;
    *rule = gram_rule_new(g->rules, name, 0, (uint32_t)at); /* column: until the end of reading */
    return base_map_put(g->names, name, *rule, NULL) == ROTOR_OK
               ? ROTOR_OK
               : base_fail_nomem(g->err, "reading a grammar");
}

static rotor_status read_choice(reader *g, bool lines, uint32_t *out);

static rotor_status read_group(reader *g, uint32_t *out) {
    const size_t begin = g->at++;
    if (++g->depth > GRAM_MAX_DEPTH) return wrong(g, begin, "parentheses are nested too deeply");
    skip_space(g, true);
    ROTOR_TRY(read_choice(g, true, out));
    g->depth--;
    return skip(g, ')') ? ROTOR_OK : wrong(g, begin, "the parenthesis is not closed");
}

static rotor_status read_symbol(reader *g, uint32_t *out) {
    uint32_t rule;
    switch (peek(g)) {
    case '"':
        return read_text(g, out);
    case '[':
        return read_class(g, out);
    case '(':
        return read_group(g, out);
    case '.':
        g->at++;
        *out = gram_class(g->rules, NULL, 0, true);
        return ROTOR_OK;
    default:
        break;
    }
    const size_t begin = g->at;
    const base_str name = read_name(g);
    if (!name.n) return wrong(g, begin, "expected a text, a class, a name or a parenthesis");
    ROTOR_TRY(rule_named(g, name, begin, &rule));
    *out = gram_call(g->rules, rule);
    return ROTOR_OK;
}

static rotor_status read_count(reader *g, uint32_t *out) {
    const size_t begin = g->at;
    uint32_t n = 0;
    for (; peek(g) >= '0' && peek(g) <= '9'; g->at++) {
        n = n * 10 + (uint32_t)(peek(g) - '0');
        if (n > GRAM_MAX_REPEAT) return wrong(g, begin, "repeated too often: at most 100000 times");
    }
    if (g->at == begin) return wrong(g, begin, "expected a number");
    *out = n;
    return ROTOR_OK;
}

/* {m} {m,} {,n} {m,n} */
static rotor_status read_braces(reader *g, uint32_t *min, uint32_t *max) {
    const size_t begin = g->at++;
    *min = 0;
    skip_space(g, false);
    if (peek(g) != ',') ROTOR_TRY(read_count(g, min));
    *max = *min;
    skip_space(g, false);
    if (skip(g, ',')) {
        skip_space(g, false);
        *max = GRAM_NONE;
        if (peek(g) != '}') ROTOR_TRY(read_count(g, max));
        skip_space(g, false);
    }
    if (!skip(g, '}')) return wrong(g, g->at, "expected }");
    return *min <= *max ? ROTOR_OK : wrong(g, begin, "the largest number is below the smallest");
}

/* * + ? or braces */
static rotor_status read_repetition(reader *g, uint32_t *min, uint32_t *max) {
    const int c = peek(g);
    if (c == '{') return read_braces(g, min, max);
    g->at++;
    *min = c == '+';
    *max = c == '?' ? 1 : GRAM_NONE;
    return ROTOR_OK;
}

static bool at_repetition(const reader *g) {
    const int c = peek(g);
    return c == '*' || c == '+' || c == '?' || c == '{';
}

static uint32_t repeat(gram_rules *r, uint32_t once, uint32_t min, uint32_t max) {
    return min == 1 && max == 1 ? once : gram_repeat(r, once, min, max);
}

/* Repetitions in a row that copy nothing (? * + {1}) are one, however many they are: what repeats
 * is written inside what is repeated, and must not nest. The others become rules (grammar_nodes.c).
 */
static rotor_status read_repeated(reader *g, uint32_t *out) {
    uint32_t lo = 1, hi = 1;
    ROTOR_TRY(read_symbol(g, out));
    while (at_repetition(g)) {
        uint32_t min, max;
        ROTOR_TRY(read_repetition(g, &min, &max));
        if (min <= 1 && (max == 1 || max == GRAM_NONE)) {
            lo = BASE_MIN(lo, min);
            hi = BASE_MAX(hi, max);
        } else {
            *out = gram_repeat(g->rules, repeat(g->rules, *out, lo, hi), min, max);
            lo = hi = 1;
        }
    }
    *out = repeat(g->rules, *out, lo, hi);
    return ROTOR_OK;
}

static bool at_end_of_sequence(const reader *g) {
    const int c = peek(g);
    return c < 0 || c == '|' || c == ')' || c == '\n' || c == '\r';
}

static rotor_status read_sequence(reader *g, bool lines, uint32_t *out) {
    uint32_t next;
    bool first = true;
    *out = GRAM_NONE;
    for (; !at_end_of_sequence(g); first = false) {
        ROTOR_TRY(read_repeated(g, &next));
        *out = first ? next : gram_seq(g->rules, *out, next);
        skip_space(g, lines);
    }
    if (first) *out = gram_empty(g->rules);
    return ROTOR_OK;
}

static rotor_status read_choice(reader *g, bool lines, uint32_t *out) {
    uint32_t next;
    *out = GRAM_NONE;
    for (;;) {
        ROTOR_TRY(read_sequence(g, lines, &next));
        *out = gram_alt(g->rules, *out, next);
        const size_t end = g->at;
        skip_space(g, true);
        if (!skip(g, '|')) {
            if (!lines) g->at = end;
            return ROTOR_OK;
        }
        skip_space(g, true);
    }
}

static rotor_status read_rule(reader *g) {
    const size_t begin = g->at;
    const base_str name = read_name(g);
    uint32_t rule, body;
    if (!name.n) return wrong(g, begin, "expected the name of a rule");
    ROTOR_TRY(rule_named(g, name, begin, &rule));
    skip_space(g, false);
    for (const char *sign = "::="; *sign; sign++)
        if (!skip(g, *sign)) return wrong(g, g->at, "expected ::=");
    if (!g->rules->failed && !g->rules->full && g->rules->rule[rule].body != GRAM_NONE)
        return wrong(g, begin, "the rule has been written before");
    skip_space(g, true);
    ROTOR_TRY(read_choice(g, false, &body));
    if (g->rules->failed || g->rules->full) return ROTOR_OK;
    const place p = place_of(g, begin);
    gram_rule *r = &g->rules->rule[rule];
    r->body = body;
    r->line = p.line;
    r->column = p.column;
    skip_space(g, false);
    if (peek(g) < 0 || peek(g) == '\n' || peek(g) == '\r') return ROTOR_OK;
    return wrong(g, g->at, peek(g) == ')' ? "a parenthesis too many" : "expected the end of line");
}

static rotor_status check_rules(reader *g) {
    uint32_t root;
    if (!base_map_get(g->names, base_str_of("root"), &root) ||
        g->rules->rule[root].body == GRAM_NONE)
        return base_fail(g->err, ROTOR_E_FORMAT, "grammar: there is no rule named root");
    for (uint32_t i = 0; i < g->rules->n_rule; i++) {
        const gram_rule *r = &g->rules->rule[i];
        if (r->body != GRAM_NONE) continue;
        base_fail(g->err, ROTOR_E_FORMAT, "there is no rule named %.80s",
                  gram_rule_name(g->rules, i));
        return at_place(g, r->column, ROTOR_E_FORMAT);
    }
    return ROTOR_OK;
}

rotor_status gram_read(gram_rules *rules, base_map *names, base_str text, bool whole,
                       rotor_error *err) {
    reader g = {.text = text, .rules = rules, .names = names, .err = err};
    uint32_t root;
    rotor_status status = rule_named(&g, base_str_of("root"), 0, &root);
    skip_space(&g, true);
    while (status == ROTOR_OK && peek(&g) >= 0 && !rules->failed && !rules->full) {
        status = read_rule(&g);
        skip_space(&g, true);
    }
    if (status == ROTOR_OK && whole && !rules->failed && !rules->full) status = check_rules(&g);
    base_buf_free(&g.scratch);
    return status;
}

rotor_status grammar_from_gbnf(grammar **out, base_str text, rotor_error *err) {
    static const gram_place lines = {.what = "grammar", .lines = true};
    gram_rules rules = {0};
    base_map *names = NULL;
    if (text.n > GRAM_MAX_TEXT)
        return base_fail(err, ROTOR_E_FULL, "the grammar has %zu bytes, at most %d", text.n,
                         GRAM_MAX_TEXT);
    if (base_map_create(&names, 64) != ROTOR_OK) return base_fail_nomem(err, "reading a grammar");
    rotor_status status = gram_read(&rules, names, text, true, err);
    if (status == ROTOR_OK) status = gram_build(out, &rules, &lines, err);
    gram_rules_free(&rules);
    base_map_free(&names);
    return status;
}
