/* SPDX-License-Identifier: MIT
 *
 * Template text to tokens.
 *
 * White space follows the settings that Hugging Face gives Jinja: trim_blocks (one newline after a
 * block or comment tag goes), lstrip_blocks (blanks between the start of a line and such a tag
 * go), and one newline at the very end of the template goes. `-` beside a tag strips all white
 * space there, `+` switches both rules off. Line ends become \n first.
 *
 * Inside a tag, an end mark is only seen while no bracket is open: {{ {'a': {}} }} needs that.
 */
#include "chat/jinja_internal.h"

#define MAX_BRACKETS 256

typedef struct lexer {
    jin_pool *pool;   /* tokens and the normalised source */
    rotor_error *err; /* messages */
    const char *src;  /* source with \n line ends */
    size_t n;         /* bytes of it */
    size_t at;        /* next byte */
    size_t line_at;   /* line is counted up to here */
    int line;         /* line of line_at, from 1 */
    jin_tok *tok;     /* made so far */
    size_t n_tok;     /* how many */
    size_t cap_tok;   /* allocated */
} lexer;

static int line_of(lexer *x, size_t at) {
    for (; x->line_at < at; x->line_at++) x->line += x->src[x->line_at] == '\n';
    return x->line;
}

static rotor_status lex_fail(lexer *x, size_t at, const char *what) {
    return base_fail(x->err, ROTOR_E_FORMAT, "chat template line %d: %s", line_of(x, at), what);
}

static rotor_status emit(lexer *x, jin_tok_kind kind, size_t begin, size_t end) {
    if (x->n_tok == x->cap_tok) {
        size_t cap = x->cap_tok * 2 + 64;
        jin_tok *more = jin_take(x->pool, cap * sizeof *more);
        if (!more) return base_fail_nomem(x->err, "reading a chat template");
        if (x->n_tok) memcpy(more, x->tok, x->n_tok * sizeof *more);
        x->tok = more;
        x->cap_tok = cap;
    }
    x->tok[x->n_tok++] = (jin_tok){kind, line_of(x, begin), {x->src + begin, end - begin}};
    return ROTOR_OK;
}

static char peek(const lexer *x, size_t ahead) {
    return x->at + ahead < x->n ? x->src[x->at + ahead] : 0;
}

static size_t skip_space(const lexer *x, size_t at) {
    while (at < x->n) {
        int32_t cp;
        int len = base_utf8_decode(x->src + at, x->n - at, &cp);
        if (!jin_is_space(cp)) break;
        at += (size_t)len;
    }
    return at;
}

/* ==== Text between tags ======================================================================= */

/* End of the text src[begin, end) in front of a tag whose first bytes are "{%", "{{" or "{#". */
static size_t strip_before(const lexer *x, size_t begin, size_t end) {
    char sign = end + 2 < x->n ? x->src[end + 2] : 0;
    if (sign == '-') {
        jin_str s = jin_strip((jin_str){x->src + begin, end - begin, NULL}, NULL, false, true);
        return begin + s.n;
    }
    if (sign == '+' || x->src[end + 1] == '{') return end;
    size_t line_start = end;
    while (line_start > begin && x->src[line_start - 1] != '\n') line_start--;
    bool starts_line = line_start > begin || begin == 0 || x->src[begin - 1] == '\n';
    return starts_line && skip_space(x, line_start) >= end ? line_start : end;
}

/* Moves past a tag's closing bytes (at x->at, sign and all) and the white space they eat. */
static void close_tag(lexer *x, bool trims_newline) {
    char sign = x->src[x->at];
    bool has_sign = sign == '-' || sign == '+';
    x->at += has_sign ? 3 : 2;
    if (sign == '-')
        x->at = skip_space(x, x->at);
    else if (trims_newline && !has_sign && peek(x, 0) == '\n')
        x->at++;
}

/* True when `word` and the end of a block tag follow; *end is where the tag's end mark begins. */
static bool tag_is(const lexer *x, size_t open, const char *word, size_t *end) {
    size_t at = open + 2, n = strlen(word);
    if (at < x->n && (x->src[at] == '-' || x->src[at] == '+')) at++;
    at = skip_space(x, at);
    if (x->n - at < n || memcmp(x->src + at, word, n) != 0) return false;
    at = skip_space(x, at + n);
    *end = at;
    if (at < x->n && (x->src[at] == '-' || x->src[at] == '+')) at++;
    return x->n - at >= 2 && x->src[at] == '%' && x->src[at + 1] == '}';
}

static rotor_status lex_raw(lexer *x, size_t open) {
    size_t begin = x->at, end;
    for (size_t at = begin; at + 1 < x->n; at++) {
        if (x->src[at] != '{' || x->src[at + 1] != '%' || !tag_is(x, at, "endraw", &end)) continue;
        size_t stop = strip_before(x, begin, at);
        if (stop > begin) ROTOR_TRY(emit(x, JIN_T_TEXT, begin, stop));
        x->at = end;
        close_tag(x, true);
        return ROTOR_OK;
    }
    return lex_fail(x, open, "{% raw %} is never closed");
}

static rotor_status lex_comment(lexer *x) {
    for (size_t at = x->at + 2; at + 1 < x->n; at++) {
        if (x->src[at] != '#' || x->src[at + 1] != '}') continue;
        bool has_sign = at > x->at + 2 && (x->src[at - 1] == '-' || x->src[at - 1] == '+');
        x->at = at - has_sign;
        close_tag(x, true);
        return ROTOR_OK;
    }
    return lex_fail(x, x->at, "a {# comment is never closed");
}

/* ==== Inside tags ============================================================================= */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static size_t digits_end(const lexer *x, size_t at) {
    while (at < x->n && (is_digit(x->src[at]) ||
                         (x->src[at] == '_' && at + 1 < x->n && is_digit(x->src[at + 1]))))
        at++;
    return at;
}

static rotor_status lex_number(lexer *x) {
    size_t begin = x->at, at = digits_end(x, begin);
    bool real = false, after_dot = begin > 0 && x->src[begin - 1] == '.';
    if (!after_dot && at + 1 < x->n && x->src[at] == '.' && is_digit(x->src[at + 1])) {
        at = digits_end(x, at + 1);
        real = true;
    }
    if (!after_dot && at < x->n && (x->src[at] == 'e' || x->src[at] == 'E')) {
        size_t exp = at + 1;
        if (exp < x->n && (x->src[exp] == '+' || x->src[exp] == '-')) exp++;
        if (exp < x->n && is_digit(x->src[exp])) {
            at = digits_end(x, exp);
            real = true;
        }
    }
    if (at < x->n && is_word(x->src[at])) return lex_fail(x, begin, "malformed number");
    if (!real && at - begin > 1 && x->src[begin] == '0')
        for (size_t i = begin; i < at; i++)
            if (x->src[i] != '0' && x->src[i] != '_')
                return lex_fail(x, begin, "number with leading zeros");
    x->at = at;
    return emit(x, real ? JIN_T_FLOAT : JIN_T_INT, begin, at);
}

static rotor_status lex_string(lexer *x) {
    size_t begin = x->at;
    for (size_t at = begin + 1; at < x->n; at++) {
        if (x->src[at] == '\\') {
            at++;
        } else if (x->src[at] == x->src[begin]) {
            x->at = at + 1;
            return emit(x, JIN_T_STR, begin + 1, at);
        }
    }
    return lex_fail(x, begin, "a string is never closed");
}

static rotor_status lex_operator(lexer *x, char *open, size_t *n_open) {
    static const char two[][3] = {"**", "//", "==", "!=", "<=", ">="};
    size_t n = 1;
    char c = peek(x, 0);
    for (size_t i = 0; i < BASE_COUNT(two); i++)
        if (c == two[i][0] && peek(x, 1) == two[i][1]) n = 2;
    if (n == 1 && (!c || !strchr("+-*/%~[](){}<>=.:|,;", c)))
        return lex_fail(x, x->at, "unexpected character in a tag");
    if (c == '(' || c == '[' || c == '{') {
        if (*n_open == MAX_BRACKETS) return lex_fail(x, x->at, "brackets nested too deeply");
        open[(*n_open)++] = c;
    } else if (c == ')' || c == ']' || c == '}') {
        char want = c == ')' ? '(' : (char)(c - 2);
        if (!*n_open || open[*n_open - 1] != want) return lex_fail(x, x->at, "unbalanced bracket");
        (*n_open)--;
    }
    x->at += n;
    return emit(x, JIN_T_OP, x->at - n, x->at);
}

/* Tokens up to and including the end mark: first byte `close` ('}' or '%'), then '}'. */
static rotor_status lex_tag(lexer *x, char close, size_t opened_at) {
    char open[MAX_BRACKETS];
    size_t n_open = 0;
    for (;;) {
        x->at = skip_space(x, x->at);
        if (x->at >= x->n) return lex_fail(x, opened_at, "a tag is never closed");
        char c = peek(x, 0);
        bool sign = c == '-' || (c == '+' && close == '%');
        if (!n_open && peek(x, sign) == close && peek(x, sign + 1u) == '}') {
            ROTOR_TRY(emit(x, close == '%' ? JIN_T_BLOCK_END : JIN_T_PRINT_END, x->at, x->at));
            close_tag(x, close == '%');
            return ROTOR_OK;
        }
        if (is_digit(c)) {
            ROTOR_TRY(lex_number(x));
        } else if (is_word(c)) {
            size_t begin = x->at;
            while (is_word(peek(x, 0))) x->at++;
            ROTOR_TRY(emit(x, JIN_T_NAME, begin, x->at));
        } else if (c == '"' || c == '\'') {
            ROTOR_TRY(lex_string(x));
        } else {
            ROTOR_TRY(lex_operator(x, open, &n_open));
        }
    }
}

/* ==== Whole template ========================================================================== */

static rotor_status normalise_lines(lexer *x, base_str source) {
    char *copy = jin_take(x->pool, source.n + 1);
    if (!copy) return base_fail_nomem(x->err, "reading a chat template");
    size_t n = 0;
    for (size_t i = 0; i < source.n; i++) {
        if (source.p[i] == '\n' && i && source.p[i - 1] == '\r') continue;
        copy[n++] = source.p[i] == '\r' ? '\n' : source.p[i];
    }
    if (n && copy[n - 1] == '\n') n--;
    x->src = copy;
    x->n = n;
    return ROTOR_OK;
}

static rotor_status lex_next(lexer *x) {
    size_t begin = x->at, open = begin;
    while (open + 1 < x->n &&
           !(x->src[open] == '{' &&
             (x->src[open + 1] == '{' || x->src[open + 1] == '%' || x->src[open + 1] == '#')))
        open++;
    if (open + 1 >= x->n) {
        x->at = x->n;
        return emit(x, JIN_T_TEXT, begin, x->n);
    }
    size_t stop = strip_before(x, begin, open), raw_end;
    if (stop > begin) ROTOR_TRY(emit(x, JIN_T_TEXT, begin, stop));
    x->at = open;
    char kind = x->src[open + 1];
    if (kind == '#') return lex_comment(x);
    if (kind == '%' && tag_is(x, open, "raw", &raw_end) && x->src[raw_end] != '+') {
        x->at = raw_end;
        close_tag(x, false);
        return lex_raw(x, open);
    }
    ROTOR_TRY(emit(x, kind == '%' ? JIN_T_BLOCK_BEGIN : JIN_T_PRINT_BEGIN, open, open + 2));
    x->at = open + 2;
    if (peek(x, 0) == '-' || peek(x, 0) == '+') x->at++;
    return lex_tag(x, kind == '%' ? '%' : '}', open);
}

rotor_status jin_lex(jin_pool *pool, base_str source, jin_tok **out, rotor_error *err) {
    lexer x = {.pool = pool, .err = err, .line = 1};
    if (source.n > JIN_MAX_SOURCE_BYTES)
        return base_fail(err, ROTOR_E_FORMAT, "chat template of %zu bytes; at most %u are read",
                         source.n, JIN_MAX_SOURCE_BYTES);
    ROTOR_TRY(normalise_lines(&x, source));
    while (x.at < x.n) ROTOR_TRY(lex_next(&x));
    ROTOR_TRY(emit(&x, JIN_T_END, x.n, x.n));
    *out = x.tok;
    return ROTOR_OK;
}
