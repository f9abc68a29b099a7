/* SPDX-License-Identifier: MIT
 *
 * Streaming Markdown to ANSI styles; see markdown.h for what is shown and what is promised.
 *
 * A line begins in START, where its first bytes are held until they are a known mark or plain text.
 * From then on bytes go out one by one in TEXT, and only runs of marks wait for the byte behind
 * them, because that byte decides: "**b" opens, "** " does not. In CODE only the closing fence
 * counts. Styles are switched lazily, in front of the next visible byte, so that no line ends or
 * begins with useless escapes.
 */
#include "cli/markdown.h"

enum { START, TEXT, RULE, FENCE, CODE }; /* FENCE: the rest of an opening fence's line */
enum { BOLD = 1, ITALIC = 2, STRIKE = 4, CODE_STYLE = 8, DIM = 16 };

static const struct {
    unsigned bit;     /* style */
    const char *code; /* SGR number */
} styles[] = {{BOLD, "1"}, {DIM, "2"}, {ITALIC, "3"}, {STRIKE, "9"}, {CODE_STYLE, "36"}};

/* ==== Output ================================================================================== */

static void set_styles(cli_markdown *m, unsigned want, base_buf *out) {
    if (m->shown == want) return;
    base_buf_puts(out, "\x1b[0");
    for (size_t i = 0; i < BASE_COUNT(styles); i++)
        if (want & styles[i].bit) base_buf_printf(out, ";%s", styles[i].code);
    base_buf_puts(out, "m");
    m->shown = want;
}

static unsigned current_styles(const cli_markdown *m) {
    unsigned s = m->line;
    if (m->bold) s |= BOLD;
    if (m->italic) s |= ITALIC;
    if (m->strike) s |= STRIKE;
    if (m->code || m->state == CODE) s |= CODE_STYLE;
    return s;
}

static void show(cli_markdown *m, char c, base_buf *out) {
    set_styles(m, current_styles(m), out);
    base_buf_append(out, &c, 1);
    m->before = c;
}

static void show_text(cli_markdown *m, const char *text, unsigned style, base_buf *out) {
    set_styles(m, m->line | style, out);
    base_buf_puts(out, text);
    m->before = ' ';
}

/* ==== Inside a line =========================================================================== */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || !c; }

/* Beyond ASCII everything is. The bit is asked, not the sign: a char of Arm has none. */
static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80);
}

static bool is_punctuation(char c) { return c > ' ' && c < 127 && !is_word(c); }

/* One step of a run of * or _ with n left; returns the marks it used. A lone * inside a word and
 * a _ beside one are text: 2*3, some_name. */
static size_t toggle(cli_markdown *m, size_t n, char next) {
    char mark = m->run;
    bool closes = !is_blank(m->before), opens = !is_blank(next);
    if (mark == '_' && is_word(next)) closes = false;
    if (is_word(m->before) && (mark == '_' || n == 1)) opens = false;
    if (closes && n >= 2 && m->bold == mark) return m->bold = 0, 2;
    if (closes && m->italic == mark) return m->italic = 0, 1;
    if (opens && n >= 2 && !m->bold) return m->bold = mark, 2;
    if (opens && !m->italic) return m->italic = mark, 1;
    return 0;
}

static void end_code_run(cli_markdown *m, size_t n, char next, base_buf *out) {
    if (m->code == n) {
        m->code = 0;
        m->before = '`';
    } else if (!m->code && next != '\n') {
        m->code = n;
    } else {
        while (n--) show(m, '`', out);
    }
}

/* The run is over: next is the byte behind it, '\n' at the end of a line or of the text. */
static void end_run(cli_markdown *m, char next, base_buf *out) {
    size_t n = m->n_run;
    char mark = m->run;
    if (!mark) return;
    if (mark == '`') {
        end_code_run(m, n, next, out);
        n = 0;
    } else if (mark == '~' && n == 2 && (m->strike || !is_blank(next))) {
        m->strike = !m->strike;
        n = 0;
    } else if (mark == '\\') {
        if (is_punctuation(next)) n = 0;
    }
    while (n > 0) {
        size_t used = mark == '*' || mark == '_' ? toggle(m, n, next) : 0;
        if (!used) show(m, mark, out);
        n -= used ? used : 1;
    }
    m->run = 0;
    m->n_run = 0;
}

static void end_line(cli_markdown *m, base_buf *out) {
    end_run(m, '\n', out);
    m->bold = m->italic = 0;
    m->strike = false;
    m->code = 0;
    m->line = 0;
    set_styles(m, 0, out);
    base_buf_puts(out, "\n");
    m->before = ' ';
    m->state = START;
}

static void text_byte(cli_markdown *m, char c, base_buf *out) {
    bool escaped = m->run == '\\' && is_punctuation(c);
    if (c == m->run && c != '\\') {
        m->n_run++;
        return;
    }
    if (c == '\n') {
        end_line(m, out);
        return;
    }
    end_run(m, c, out);
    bool mark = m->code ? c == '`' : c == '*' || c == '_' || c == '~' || c == '`' || c == '\\';
    if (mark && !escaped) {
        m->run = c;
        m->n_run = 1;
    } else {
        show(m, c, out);
    }
}

/* ==== Beginning of a line ===================================================================== */

static void release_hold(cli_markdown *m, base_buf *out) {
    char held[sizeof m->hold];
    size_t n = m->n_hold;
    memcpy(held, m->hold, n);
    m->n_hold = 0;
    for (size_t i = 0; i < n; i++) text_byte(m, held[i], out);
}

/* The held line is plain from its first byte on. */
static void plain_line(cli_markdown *m, base_buf *out) {
    m->state = TEXT;
    release_hold(m, out);
}

static size_t run_length(const char *s, size_t n) {
    size_t k = 1;
    while (k < n && s[k] == s[0]) k++;
    return k;
}

/* Shows the indentation, then a mark in its terminal form; the rest of the line is text. */
static void marked_line(cli_markdown *m, size_t indent, const char *mark, unsigned style,
                        base_buf *out) {
    if (indent) set_styles(m, m->line, out);
    base_buf_append(out, m->hold, indent);
    m->n_hold = 0;
    m->state = TEXT;
    show_text(m, mark, style, out);
}

static void open_fence(cli_markdown *m, char mark, size_t n) {
    m->fence = mark;
    m->n_fence = n;
    m->n_hold = 0;
    m->state = FENCE;
    m->line = DIM;
}

/* The language name behind an opening fence, dim on a line of its own; without one, nothing. */
static void fence_byte(cli_markdown *m, char c, base_buf *out) {
    if (c != '\n') {
        if (c == ' ' && !m->n_run) return;
        show(m, c, out);
        m->n_run = 1;
        return;
    }
    set_styles(m, 0, out);
    if (m->n_run) base_buf_puts(out, "\n");
    m->n_run = 0;
    m->line = 0;
    m->state = CODE;
    m->before = '\n';
}

static void ordered_item(cli_markdown *m, size_t indent, base_buf *out) {
    char mark[sizeof m->hold + 1];
    size_t n = m->n_hold - indent;
    memcpy(mark, m->hold + indent, n);
    mark[n] = 0;
    marked_line(m, indent, mark, BOLD, out);
}

/* A line of only blanks and one mark ended: a rule, or what it looks like. */
static bool is_rule(const char *s, size_t n) {
    size_t marks = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] == s[0])
            marks++;
        else if (s[i] != ' ')
            return false;
    return marks >= 3 && (s[0] == '-' || s[0] == '*' || s[0] == '_');
}

/* The line ended while its beginning was still held: s[n] is all of it but the indentation. */
static void short_line(cli_markdown *m, size_t indent, base_buf *out) {
    const char *s = m->hold + indent;
    size_t n = m->n_hold - indent;
    if (n >= 3 && (s[0] == '`' || s[0] == '~') && run_length(s, n) == n) {
        open_fence(m, s[0], n);
        fence_byte(m, '\n', out);
        return;
    }
    if (n && is_rule(s, n))
        marked_line(m, indent, "────────────────────", DIM, out);
    else
        plain_line(m, out);
    end_line(m, out);
}

/* "12. " is a list item, "12" and "12." may become one, anything else is text. */
static void numbered_line(cli_markdown *m, size_t indent, base_buf *out) {
    const char *s = m->hold + indent;
    size_t n = m->n_hold - indent, digits = 1;
    while (digits < n && s[digits] >= '0' && s[digits] <= '9') digits++;
    bool point = digits < n && (s[digits] == '.' || s[digits] == ')');
    if (digits < 10 && (n == digits || (point && n == digits + 1))) return;
    if (point && n == digits + 2 && s[n - 1] == ' ')
        ordered_item(m, indent, out);
    else
        plain_line(m, out);
}

/* Looks at the held bytes behind the indentation, of which c is the last; either leaves them held
 * for more, or shows them and moves on. */
static void start_mark(cli_markdown *m, char c, size_t indent, base_buf *out) {
    const char *s = m->hold + indent;
    size_t n = m->n_hold - indent, run = run_length(s, n);
    if (s[0] == '>') {
        marked_line(m, indent, "│ ", DIM, out);
        m->state = START; /* a quote may hold any other mark */
        m->before = '>';
    } else if (m->n_hold == sizeof m->hold) {
        plain_line(m, out);
    } else if (run == n && strchr("-*+_#`~", s[0])) {
        return; /* only marks so far */
    } else if (run >= 3 && (s[0] == '`' || s[0] == '~')) {
        open_fence(m, s[0], run);
        fence_byte(m, c, out);
    } else if (s[0] == '#' && run == n - 1 && run <= 6 && c == ' ') {
        m->line |= BOLD;
        m->n_hold = 0;
        m->state = TEXT;
    } else if (strchr("-*+", s[0]) && n == 2 && c == ' ') {
        marked_line(m, indent, "• ", BOLD, out);
    } else if (run >= 3 && is_rule(s, n)) {
        return; /* blanks behind a rule */
    } else if (s[0] >= '0' && s[0] <= '9') {
        numbered_line(m, indent, out);
    } else {
        plain_line(m, out);
    }
}

static void start_byte(cli_markdown *m, char c, base_buf *out) {
    size_t indent = 0;
    if (c == ' ' && m->before == '>') { /* the blank that belongs to the quote's mark */
        m->before = ' ';
        return;
    }
    if (c != '\n') m->hold[m->n_hold++] = c;
    while (indent < m->n_hold && is_blank(m->hold[indent])) indent++;
    if (c == '\n')
        short_line(m, indent, out);
    else if (indent < m->n_hold)
        start_mark(m, c, indent, out);
    else if (m->n_hold == sizeof m->hold)
        plain_line(m, out);
}

/* ==== Fenced code ============================================================================= */

/* A line of code: held while it could be the closing fence. */
static void code_byte(cli_markdown *m, char c, base_buf *out) {
    if (m->n_hold == 0 && m->before != '\n') { /* inside a line that is code for sure */
        if (c != '\n') {
            show(m, c, out);
            return;
        }
        set_styles(m, 0, out);
        base_buf_puts(out, "\n");
        m->before = '\n';
        return;
    }
    size_t indent = 0;
    if (c != '\n' && m->n_hold < sizeof m->hold) m->hold[m->n_hold++] = c;
    while (indent < m->n_hold && m->hold[indent] == ' ') indent++;
    size_t n = m->n_hold - indent,
           run = n && m->hold[indent] == m->fence ? run_length(m->hold + indent, n) : 0;
    if (c == '\n' && run >= m->n_fence && run == n) {
        m->fence = 0;
        m->n_hold = 0;
        m->state = START;
        m->before = ' ';
        return; /* the closing fence is not shown */
    }
    if (c != '\n' && run == n && m->n_hold < sizeof m->hold) return;
    for (size_t i = 0; i < m->n_hold; i++) show(m, m->hold[i], out);
    m->n_hold = 0;
    if (c != '\n') return;
    set_styles(m, 0, out);
    base_buf_puts(out, "\n");
    m->before = '\n';
}

/* ==== Stream ================================================================================== */

static void visible_byte(cli_markdown *m, char c, base_buf *out) {
    switch (m->state) {
    case START:
        start_byte(m, c, out);
        break;
    case FENCE:
        fence_byte(m, c, out);
        break;
    case CODE:
        code_byte(m, c, out);
        break;
    default:
        text_byte(m, c, out);
        break;
    }
}

void cli_markdown_init(cli_markdown *m, bool styled) {
    *m = (cli_markdown){.styled = styled, .before = ' '};
}

void cli_markdown_put(cli_markdown *m, const char *text, size_t n_bytes, base_buf *out) {
    if (!m->styled) {
        base_buf_append(out, text, n_bytes);
        return;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        uint8_t c = (uint8_t)text[i];
        if (m->half) { /* U+0080 to U+009F are C2 80 to C2 9F */
            m->half = false;
            if (c >= 0x80 && c <= 0x9F) continue;
            visible_byte(m, (char)0xC2, out);
        }
        m->half = c == 0xC2;
        bool control = (c < 32 && c != '\n' && c != '\t') || c == 127;
        if (!m->half && !control) visible_byte(m, (char)c, out);
    }
}

void cli_markdown_end(cli_markdown *m, base_buf *out) {
    if (!m->styled) return;
    if (m->half) visible_byte(m, (char)0xC2, out);
    bool closing = m->state == CODE && m->n_hold >= m->n_fence;
    for (size_t i = 0; closing && i < m->n_hold; i++)
        closing = m->hold[i] == ' ' || m->hold[i] == m->fence;
    if (m->state == START)
        plain_line(m, out);
    else if (m->state == CODE && !closing)
        for (size_t i = 0; i < m->n_hold; i++) show(m, m->hold[i], out);
    end_run(m, '\n', out);
    set_styles(m, 0, out);
    cli_markdown_init(m, true);
}
