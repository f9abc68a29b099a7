/* SPDX-License-Identifier: MIT
 *
 * Tokens to a tree: expressions, in the precedence of the reference, loosest first:
 *
 *   x if c else y | or | and | not | comparisons, in | + - | ~ | * / // % | ** | unary + - |
 *   x.y x[y] x(y) | filters and tests
 *
 * so -1|abs takes the filter first applied to 1 negated, and a + b|trim trims b only. Operators
 * are left-associative, ** included. Filters and tests are checked against the tables here, at
 * parsing: a template that needs an unknown one is refused before the first request.
 */
#include "chat/jinja_internal.h"

#include <stdio.h>

static rotor_status parse_or(jin_parser *p, jin_node **out);
static rotor_status parse_unary(jin_parser *p, bool filters, jin_node **out);

static rotor_status unsupported(jin_parser *p, const char *kind, base_str name) {
    return base_fail(p->err, ROTOR_E_UNSUPPORTED,
                     "chat template line %d: %s '%.*s' is outside the template subset",
                     p->tok->line, kind, (int)BASE_MIN(name.n, 64), name.p);
}

/* ==== Literals ================================================================================ */

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* \x41 \u0041 \U00000041: n hex digits at s; false when malformed or not a character. */
static bool hex_escape(const char *s, size_t left, size_t n, uint32_t *cp) {
    *cp = 0;
    if (left < n) return false;
    for (size_t i = 0; i < n; i++) {
        int v = hex_value(s[i]);
        if (v < 0) return false;
        *cp = *cp << 4 | (uint32_t)v;
    }
    return *cp <= 0x10FFFF && !(*cp >= 0xD800 && *cp <= 0xDFFF);
}

/* Decodes the escape behind a backslash at s into buf; returns bytes read, 0 when malformed. */
static size_t unescape(const char *s, size_t left, char buf[5], size_t *n_out) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    uint32_t cp;
    const char *simple = strchr(from, s[0]);
    if (s[0] && simple) return buf[0] = to[simple - from], *n_out = 1, 1;
    if (s[0] == '\n') return *n_out = 0, 1;
    if (s[0] == 'x' || s[0] == 'u' || s[0] == 'U') {
        size_t digits = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : 8;
        if (!hex_escape(s + 1, left - 1, digits, &cp)) return 0;
        *n_out = (size_t)base_utf8_encode(cp, buf);
        return digits + 1;
    }
    if (s[0] >= '0' && s[0] <= '7') {
        size_t n = 0;
        for (cp = 0; n < 3 && n < left && s[n] >= '0' && s[n] <= '7'; n++)
            cp = cp * 8 + (uint32_t)(s[n] - '0');
        *n_out = (size_t)base_utf8_encode(cp, buf);
        return n;
    }
    if (s[0] == 'N') return 0;
    buf[0] = '\\'; /* an unknown escape stays as written */
    buf[1] = s[0];
    return *n_out = 2, 1;
}

static rotor_status parse_string(jin_parser *p, jin_node *node) {
    size_t n = 0, total = 0;
    for (const jin_tok *t = p->tok; t->kind == JIN_T_STR; t++) total += t->text.n;
    char *text = jin_take(&p->tree->pool, total + 8);
    if (!text) return base_fail_nomem(p->err, "parsing a chat template");
    for (; p->tok->kind == JIN_T_STR; p->tok++) {
        base_str s = p->tok->text;
        for (size_t i = 0; i < s.n;) {
            if (s.p[i] != '\\') {
                text[n++] = s.p[i++];
                continue;
            }
            char buf[5];
            size_t len = 0, used = unescape(s.p + i + 1, s.n - i - 1, buf, &len);
            if (!used) return jin_syntax(p, "a valid escape in the string");
            memcpy(text + n, buf, len);
            n += len;
            i += used + 1;
        }
    }
    node->value = jin_of_text((base_str){text, n});
    return ROTOR_OK;
}

static rotor_status parse_number(jin_parser *p, jin_node *node) {
    char digits[64];
    size_t n = 0;
    base_str s = p->tok->text;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '_') continue;
        if (n + 1 == sizeof digits) return jin_syntax(p, "a shorter number");
        digits[n++] = s.p[i];
    }
    digits[n] = 0;
    if (p->tok->kind == JIN_T_FLOAT) {
        double f = 0;
        if (!jin_parse_float((base_str){digits, n}, &f)) return jin_syntax(p, "a number");
        node->value = jin_of_float(f);
    } else {
        int64_t v = 0;
        for (size_t i = 0; i < n; i++)
            if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, digits[i] - '0', &v))
                return jin_syntax(p, "a number below 2^63");
        node->value = jin_of_int(v);
    }
    p->tok++;
    return ROTOR_OK;
}

/* Items up to `close`; with pairs, key: value. */
static rotor_status parse_items(jin_parser *p, const char *close, bool pairs, jin_node **tail) {
    for (int n = 0; !jin_skip_op(p, close); n++) {
        if (n && !jin_skip_op(p, ",")) return jin_syntax(p, "',' or the closing bracket");
        if (jin_skip_op(p, close)) return ROTOR_OK;
        ROTOR_TRY(jin_parse_expr(p, tail));
        tail = &(*tail)->next;
        if (!pairs) continue;
        if (!jin_skip_op(p, ":")) return jin_syntax(p, "':'");
        ROTOR_TRY(jin_parse_expr(p, tail));
        tail = &(*tail)->next;
    }
    return ROTOR_OK;
}

static rotor_status parse_name(jin_parser *p, jin_node *node) {
    static const struct {
        const char *word; /* as written */
        jin_val value;    /* what it is */
    } words[] = {{"true", {JIN_BOOL, {.b = true}}},   {"True", {JIN_BOOL, {.b = true}}},
                 {"false", {JIN_BOOL, {.b = false}}}, {"False", {JIN_BOOL, {.b = false}}},
                 {"none", {.kind = JIN_NONE}},        {"None", {.kind = JIN_NONE}}};
    static const char *const keywords[] = {"and", "else", "if", "in", "is", "not", "or"};
    for (size_t i = 0; i < BASE_COUNT(keywords); i++)
        if (jin_at_name(p, keywords[i])) return jin_syntax(p, "an expression");
    node->name = (p->tok++)->text;
    node->kind = JIN_E_NAME;
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        if (!base_str_is(node->name, words[i].word)) continue;
        node->kind = JIN_E_CONST;
        node->value = words[i].value;
    }
    return ROTOR_OK;
}

rotor_status jin_parse_primary(jin_parser *p, jin_node **out) {
    jin_node *node;
    ROTOR_TRY(jin_node_new(p, JIN_E_CONST, &node));
    *out = node;
    switch (p->tok->kind) {
    case JIN_T_NAME:
        return parse_name(p, node);
    case JIN_T_STR:
        return parse_string(p, node);
    case JIN_T_INT:
    case JIN_T_FLOAT:
        return parse_number(p, node);
    default:
        break;
    }
    if (jin_skip_op(p, "(")) {
        ROTOR_TRY(jin_parse_tuple(p, JIN_TERNARY | JIN_PARENS, out));
        return jin_skip_op(p, ")") ? ROTOR_OK : jin_syntax(p, "')'");
    }
    bool list = jin_skip_op(p, "[");
    if (!list && !jin_skip_op(p, "{")) return jin_syntax(p, "an expression");
    node->kind = list ? JIN_E_LIST : JIN_E_DICT;
    ROTOR_TRY(jin_enter(p));
    ROTOR_TRY(parse_items(p, list ? "]" : "}", !list, &node->list));
    p->depth--;
    return ROTOR_OK;
}

/* ==== Behind a value: x.y x[y] x(y), filters, tests =========================================== */

/* The arguments of a call, behind "(". */
static rotor_status parse_args(jin_parser *p, jin_node **list) {
    jin_node **tail = list;
    bool keywords = false;
    for (int n = 0; !jin_skip_op(p, ")"); n++) {
        if (n && !jin_skip_op(p, ",")) return jin_syntax(p, "',' or ')'");
        if (jin_skip_op(p, ")")) break;
        if (jin_at_op(p, "*") || jin_at_op(p, "**"))
            return unsupported(p, "argument", p->tok->text);
        if (n == JIN_MAX_ARGS) return jin_syntax(p, "at most 16 arguments");
        if (p->tok->kind == JIN_T_NAME && p->tok[1].kind == JIN_T_OP &&
            base_str_is(p->tok[1].text, "=")) {
            keywords = true;
            ROTOR_TRY(jin_node_new(p, JIN_E_KEYWORD, tail));
            (*tail)->name = p->tok->text;
            p->tok += 2;
            ROTOR_TRY(jin_parse_expr(p, &(*tail)->a));
        } else {
            if (keywords) return jin_syntax(p, "a named argument");
            ROTOR_TRY(jin_parse_expr(p, tail));
        }
        tail = &(*tail)->next;
    }
    return ROTOR_OK;
}

static rotor_status slice_bound(jin_parser *p, jin_node **tail) {
    if (jin_at_op(p, ":") || jin_at_op(p, "]")) {
        ROTOR_TRY(jin_node_new(p, JIN_E_CONST, tail));
        (*tail)->value = jin_none();
        return ROTOR_OK;
    }
    return jin_parse_expr(p, tail);
}

static rotor_status parse_subscript(jin_parser *p, jin_node *node) {
    jin_node *first;
    ROTOR_TRY(slice_bound(p, &first));
    if (jin_skip_op(p, "]")) {
        node->b = first;
        return ROTOR_OK;
    }
    if (!jin_skip_op(p, ":")) return jin_syntax(p, "']'");
    node->kind = JIN_E_SLICE;
    node->list = first;
    ROTOR_TRY(slice_bound(p, &first->next));
    if (!jin_skip_op(p, ":") && !jin_at_op(p, "]")) return jin_syntax(p, "']'");
    ROTOR_TRY(slice_bound(p, &first->next->next));
    return jin_skip_op(p, "]") ? ROTOR_OK : jin_syntax(p, "']'");
}

static rotor_status parse_dot(jin_parser *p, jin_node *node) {
    if (p->tok->kind == JIN_T_INT) {
        node->kind = JIN_E_ITEM;
        ROTOR_TRY(jin_node_new(p, JIN_E_CONST, &node->b));
        return parse_number(p, node->b);
    }
    if (p->tok->kind != JIN_T_NAME) return jin_syntax(p, "a name");
    node->name = (p->tok++)->text;
    return ROTOR_OK;
}

/* Each step nests the tree one deeper, so each counts towards the depth. */
static rotor_status parse_postfix(jin_parser *p, jin_node **io) {
    int depth = p->depth;
    for (;;) {
        bool dot = jin_at_op(p, "."), item = jin_at_op(p, "["), call = jin_at_op(p, "(");
        if (!dot && !item && !call) break;
        jin_node *node;
        ROTOR_TRY(jin_enter(p));
        ROTOR_TRY(jin_node_new(p, dot ? JIN_E_ATTR : item ? JIN_E_ITEM : JIN_E_CALL, &node));
        p->tok++;
        node->a = *io;
        *io = node;
        if (dot) ROTOR_TRY(parse_dot(p, node));
        if (item) {
            if (jin_at_op(p, "]")) return jin_syntax(p, "an index");
            ROTOR_TRY(parse_subscript(p, node));
        }
        if (call) ROTOR_TRY(parse_args(p, &node->list));
    }
    p->depth = depth;
    return ROTOR_OK;
}

static rotor_status parse_test(jin_parser *p, jin_node *in, jin_node **out) {
    jin_node *test, *negated;
    bool negate = jin_skip_name(p, "not");
    ROTOR_TRY(jin_node_new(p, JIN_E_TEST, &test));
    if (p->tok->kind != JIN_T_NAME) return jin_syntax(p, "the name of a test");
    if (!jin_have_test(p->tok->text)) return unsupported(p, "test", p->tok->text);
    test->a = in;
    test->name = (p->tok++)->text;
    jin_tok_kind k = p->tok->kind;
    bool value = k == JIN_T_STR || k == JIN_T_INT || k == JIN_T_FLOAT || jin_at_op(p, "[") ||
                 jin_at_op(p, "{") ||
                 (k == JIN_T_NAME && !jin_at_name(p, "else") && !jin_at_name(p, "or") &&
                  !jin_at_name(p, "and"));
    if (jin_skip_op(p, "(")) {
        ROTOR_TRY(parse_args(p, &test->list));
    } else if (value) {
        /* What the reference does: a word after a test is its argument, even `if`. */
        ROTOR_TRY(jin_parse_primary(p, &test->list));
        ROTOR_TRY(parse_postfix(p, &test->list));
    }
    *out = test;
    if (!negate) return ROTOR_OK;
    ROTOR_TRY(jin_node_new(p, JIN_E_NOT, &negated));
    negated->a = test;
    *out = negated;
    return ROTOR_OK;
}

static rotor_status parse_filter(jin_parser *p, jin_node *in, jin_node **out) {
    jin_node *node;
    ROTOR_TRY(jin_node_new(p, JIN_E_FILTER, &node));
    if (p->tok->kind != JIN_T_NAME) return jin_syntax(p, "the name of a filter");
    if (!jin_find_filter(p->tok->text)) return unsupported(p, "filter", p->tok->text);
    node->a = in;
    node->name = (p->tok++)->text;
    *out = node;
    return jin_skip_op(p, "(") ? parse_args(p, &node->list) : ROTOR_OK;
}

rotor_status jin_parse_filters(jin_parser *p, jin_node *in, jin_node **out) {
    int depth = p->depth;
    for (*out = in;;) {
        ROTOR_TRY(jin_enter(p));
        if (jin_skip_op(p, "|")) {
            ROTOR_TRY(parse_filter(p, *out, out));
        } else if (jin_skip_name(p, "is")) {
            ROTOR_TRY(parse_test(p, *out, out));
        } else if (jin_at_op(p, "(")) {
            ROTOR_TRY(parse_postfix(p, out));
        } else {
            break;
        }
    }
    p->depth = depth;
    return ROTOR_OK;
}

/* ==== Operators =============================================================================== */

static rotor_status parse_unary(jin_parser *p, bool filters, jin_node **out) {
    bool minus = jin_at_op(p, "-");
    ROTOR_TRY(jin_enter(p));
    if (minus || jin_at_op(p, "+")) {
        ROTOR_TRY(jin_node_new(p, minus ? JIN_E_NEG : JIN_E_POS, out));
        p->tok++;
        ROTOR_TRY(parse_unary(p, false, &(*out)->a));
    } else {
        ROTOR_TRY(jin_parse_primary(p, out));
        ROTOR_TRY(parse_postfix(p, out));
    }
    if (filters) ROTOR_TRY(jin_parse_filters(p, *out, out));
    p->depth--;
    return ROTOR_OK;
}

/* Binary operators by level: 0 loosest. Level 1 is ~, which takes any number of operands. */
static const struct {
    const char *text; /* as written */
    int level;        /* of precedence */
    jin_op op;        /* meaning */
} operators[] = {{"+", 0, JIN_OP_ADD}, {"-", 0, JIN_OP_SUB},       {"*", 2, JIN_OP_MUL},
                 {"/", 2, JIN_OP_DIV}, {"//", 2, JIN_OP_FLOORDIV}, {"%", 2, JIN_OP_MOD},
                 {"**", 3, JIN_OP_POW}};

static jin_op operator_at(const jin_parser *p, int level) {
    for (size_t i = 0; i < BASE_COUNT(operators); i++)
        if (operators[i].level == level && jin_at_op(p, operators[i].text)) return operators[i].op;
    return JIN_OP_NONE;
}

static rotor_status parse_math(jin_parser *p, int level, jin_node **out);

static rotor_status parse_concat(jin_parser *p, jin_node **out) {
    jin_node *concat, *first;
    ROTOR_TRY(parse_math(p, 2, &first));
    *out = first;
    if (!jin_at_op(p, "~")) return ROTOR_OK;
    ROTOR_TRY(jin_node_new(p, JIN_E_CONCAT, &concat));
    concat->list = first;
    for (jin_node **tail = &first->next; jin_skip_op(p, "~"); tail = &(*tail)->next)
        ROTOR_TRY(parse_math(p, 2, tail));
    *out = concat;
    return ROTOR_OK;
}

static rotor_status parse_math(jin_parser *p, int level, jin_node **out) {
    if (level == 1) return parse_concat(p, out);
    if (level == 4) return parse_unary(p, true, out);
    int depth = p->depth;
    ROTOR_TRY(parse_math(p, level + 1, out));
    for (jin_op op; (op = operator_at(p, level)) != JIN_OP_NONE;) {
        jin_node *node;
        ROTOR_TRY(jin_enter(p));
        ROTOR_TRY(jin_node_new(p, JIN_E_BINARY, &node));
        p->tok++;
        node->op = (uint8_t)op;
        node->a = *out;
        ROTOR_TRY(parse_math(p, level + 1, &node->b));
        *out = node;
    }
    p->depth = depth;
    return ROTOR_OK;
}

static jin_op compare_at(jin_parser *p) {
    static const struct {
        const char *text; /* as written */
        jin_op op;        /* meaning */
    } ops[] = {{"==", JIN_OP_EQ}, {"!=", JIN_OP_NE}, {"<", JIN_OP_LT},
               {"<=", JIN_OP_LE}, {">", JIN_OP_GT},  {">=", JIN_OP_GE}};
    for (size_t i = 0; i < BASE_COUNT(ops); i++)
        if (jin_skip_op(p, ops[i].text)) return ops[i].op;
    if (jin_skip_name(p, "in")) return JIN_OP_IN;
    if (jin_at_name(p, "not") && p->tok[1].kind == JIN_T_NAME &&
        base_str_is(p->tok[1].text, "in")) {
        p->tok += 2;
        return JIN_OP_NOTIN;
    }
    return JIN_OP_NONE;
}

static rotor_status parse_compare(jin_parser *p, jin_node **out) {
    jin_node *first, *compare = NULL, **tail = NULL;
    ROTOR_TRY(parse_math(p, 0, &first));
    *out = first;
    for (;;) {
        int line = p->tok->line;
        jin_op op = compare_at(p);
        if (op == JIN_OP_NONE) return ROTOR_OK;
        if (!compare) {
            ROTOR_TRY(jin_node_new(p, JIN_E_COMPARE, &compare));
            compare->a = first;
            compare->line = line;
            tail = &compare->list;
            *out = compare;
        }
        ROTOR_TRY(jin_node_new(p, JIN_E_OPERAND, tail));
        (*tail)->op = (uint8_t)op;
        ROTOR_TRY(parse_math(p, 0, &(*tail)->a));
        tail = &(*tail)->next;
    }
}

static rotor_status parse_not(jin_parser *p, jin_node **out) {
    if (!jin_at_name(p, "not")) return parse_compare(p, out);
    ROTOR_TRY(jin_enter(p));
    ROTOR_TRY(jin_node_new(p, JIN_E_NOT, out));
    p->tok++;
    ROTOR_TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return ROTOR_OK;
}

/* and (level 1) and or (level 0), both left-associative. */
static rotor_status parse_logic(jin_parser *p, int level, jin_node **out) {
    if (level == 2) return parse_not(p, out);
    int depth = p->depth;
    ROTOR_TRY(parse_logic(p, level + 1, out));
    while (jin_at_name(p, level ? "and" : "or")) {
        jin_node *node;
        ROTOR_TRY(jin_enter(p));
        ROTOR_TRY(jin_node_new(p, level ? JIN_E_AND : JIN_E_OR, &node));
        p->tok++;
        node->a = *out;
        ROTOR_TRY(parse_logic(p, level + 1, &node->b));
        *out = node;
    }
    p->depth = depth;
    return ROTOR_OK;
}

static rotor_status parse_or(jin_parser *p, jin_node **out) {
    ROTOR_TRY(jin_enter(p));
    ROTOR_TRY(parse_logic(p, 0, out));
    p->depth--;
    return ROTOR_OK;
}

rotor_status jin_parse_expr(jin_parser *p, jin_node **out) {
    int depth = p->depth;
    ROTOR_TRY(parse_or(p, out));
    while (jin_at_name(p, "if")) {
        jin_node *node;
        ROTOR_TRY(jin_enter(p));
        ROTOR_TRY(jin_node_new(p, JIN_E_COND, &node));
        p->tok++;
        node->b = *out;
        ROTOR_TRY(parse_or(p, &node->a));
        if (jin_skip_name(p, "else")) ROTOR_TRY(jin_parse_expr(p, &node->c));
        *out = node;
    }
    p->depth = depth;
    return ROTOR_OK;
}

rotor_status jin_parse_tuple(jin_parser *p, unsigned flags, jin_node **out) {
    jin_node *tuple = NULL, **tail = out;
    bool comma = true;
    ROTOR_TRY(jin_enter(p));
    *out = NULL;
    while (comma) {
        jin_tok_kind k = p->tok->kind;
        if (k == JIN_T_PRINT_END || k == JIN_T_BLOCK_END || jin_at_op(p, ")")) break;
        ROTOR_TRY(flags & JIN_TERNARY ? jin_parse_expr(p, tail) : parse_or(p, tail));
        comma = jin_skip_op(p, ",");
        if (comma && !tuple) {
            ROTOR_TRY(jin_node_new(p, JIN_E_TUPLE, &tuple));
            tuple->list = *out;
        }
        tail = &(*tail)->next;
    }
    if (!*out && !(flags & JIN_PARENS)) return jin_syntax(p, "an expression");
    if (!*out) ROTOR_TRY(jin_node_new(p, JIN_E_TUPLE, &tuple));
    if (tuple) *out = tuple;
    p->depth--;
    return ROTOR_OK;
}
