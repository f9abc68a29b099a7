/* SPDX-License-Identifier: MIT
 *
 * Source code, by its top-level definitions: a block begins at a line of column 0 that opens one
 * (a function, a class, a type), with the comments and attributes directly above it, and goes on
 * to the next. Blocks of many lines are cut at blank lines of column 0 or, inside long functions,
 * at any blank line. Where a language has no openers we know, blank lines alone decide.
 *
 * This reads no language: it looks at how lines begin and end. Strings and comments that look like
 * definitions at column 0 start a block in the wrong place, and nothing is lost by it.
 */
#include "extract/extract.h"

enum { GOOD_LINES = 60, MOST_LINES = 150 };

typedef enum family { FAMILY_C, FAMILY_WORDS, FAMILY_BLANK } family;

static const char *const words[] = {"def ",
                                    "class ",
                                    "async def ",
                                    "@",
                                    "fn ",
                                    "pub ",
                                    "impl ",
                                    "struct ",
                                    "enum ",
                                    "trait ",
                                    "mod ",
                                    "func ",
                                    "type ",
                                    "function ",
                                    "export ",
                                    "async function ",
                                    "interface ",
                                    "const ",
                                    "var ",
                                    "let ",
                                    "module ",
                                    "namespace ",
                                    "local function ",
                                    "sub ",
                                    "create ",
                                    "fun ",
                                    "object ",
                                    "data ",
                                    "defmodule ",
                                    "#[",
                                    "macro_rules!",
                                    "unsafe ",
                                    "extern ",
                                    "abstract ",
                                    "public ",
                                    "private ",
                                    "protected ",
                                    "static ",
                                    "final ",
                                    "template",
                                    "using ",
                                    "typedef ",
                                    "union ",
                                    "if __name__"};

static family family_of(const char *name) {
    static const char *const c_like[] = {
        ".c",   ".h",   ".cc", ".cpp", ".cxx",  ".hpp", ".hh",   ".cs",    ".java",
        ".m",   ".mm",  ".cu", ".cl",  ".glsl", ".kt",  ".dart", ".scala", ".js",
        ".mjs", ".jsx", ".ts", ".tsx", ".php",  ".css", ".scss", ".swift"};
    static const char *const blank[] = {".toml", ".yaml", ".yml", ".ini",  ".conf",
                                        ".s",    ".asm",  ".el",  ".lisp", ".clj"};
    for (size_t i = 0; name && i < BASE_COUNT(c_like); i++)
        if (ex_ends_with(name, c_like[i])) return FAMILY_C;
    for (size_t i = 0; name && i < BASE_COUNT(blank); i++)
        if (ex_ends_with(name, blank[i])) return FAMILY_BLANK;
    return FAMILY_WORDS;
}

static bool is_word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool has_opener_word(base_str line) {
    for (size_t i = 0; i < BASE_COUNT(words); i++)
        if (ex_starts_with(line, words[i])) return true;
    return false;
}

/* "int f(", "struct x {", "fn main() {": a word at column 0 and something opened at the end. */
static bool opens(base_str line, family f) {
    if (f == FAMILY_BLANK || line.n < 2 || !(is_word_char(line.p[0]) || strchr("@#.~", line.p[0])))
        return false;
    const base_str t = ex_trim(line);
    const char last = t.p[t.n - 1];
    if (f == FAMILY_WORDS) return has_opener_word(line);
    if (line.p[0] == '#' || last == ':') return false;
    const bool calls = memchr(t.p, '(', t.n) && last != ';';
    return last == '{' || calls || (has_opener_word(line) && last != ';');
}

static bool is_comment(base_str line) {
    const base_str t = ex_trim(line);
    static const char *const marks[] = {"//", "/*", "*", "#", "--", ";;", "@", "'''", "\"\"\""};
    for (size_t i = 0; i < BASE_COUNT(marks); i++)
        if (ex_starts_with(t, marks[i])) return !ex_starts_with(t, "#include");
    return false;
}

/* "static int" above "f(void)": a head that goes on. */
static bool goes_on(base_str line, family f) {
    const base_str t = ex_trim(line);
    const char last = t.p[t.n - 1];
    return f == FAMILY_C && is_word_char(line.p[0]) && (is_word_char(last) || strchr("*,>", last));
}

typedef struct cutter {
    ex *x;         /* where blocks go */
    base_str text; /* the source */
    family family; /* how it begins definitions */
    size_t begin;  /* of the block so far */
    size_t lines;  /* in it */
    size_t gap;    /* offset after its last blank line; begin: it had none */
    size_t above;  /* where the comments directly above this line begin */
    bool defines;  /* the block begins a definition */
    bool opened;   /* it has a definition anywhere */
} cutter;

static rotor_status cut(cutter *c, size_t at, bool defines) {
    const ex_span span = {c->begin, at};
    if (at > c->begin)
        ROTOR_TRY(ex_put(c->x, BASE_BLOCK_CODE, c->defines,
                         (base_str){c->text.p + span.begin, at - span.begin}, span));
    c->begin = c->gap = at;
    c->lines = 0;
    c->defines = c->opened = defines;
    return ROTOR_OK;
}

static rotor_status take_line(cutter *c, size_t at, base_str line, size_t next) {
    const bool blank = ex_blank(line);
    if (blank) {
        c->gap = next;
        const bool by_blank = c->family == FAMILY_BLANK || !c->opened;
        const bool outside = next >= c->text.n || !strchr(" \t", c->text.p[next]);
        if ((by_blank && c->lines >= 20) || (outside && c->lines >= GOOD_LINES) ||
            c->lines >= MOST_LINES)
            ROTOR_TRY(cut(c, next, false));
    } else if (opens(line, c->family)) {
        /* "static int" above "f(void)" and comments above both belong to what follows. */
        if (c->above > c->begin || (c->above == at && c->opened)) ROTOR_TRY(cut(c, c->above, true));
        c->defines |= c->begin == c->above;
        c->opened = true;
    }
    if (c->lines > 2 * MOST_LINES) ROTOR_TRY(cut(c, at, false));
    c->lines++;
    const bool leads = !blank && (is_comment(line) || goes_on(line, c->family));
    c->above = leads ? c->above : next;
    return ROTOR_OK;
}

rotor_status ex_parse_code(ex *x, const char *name) {
    cutter c = {.x = x, .text = x->source->text, .family = family_of(name)};
    for (size_t at = 0, next; at < c.text.n; at = next) {
        const base_str line = ex_line(c.text, at, &next);
        ROTOR_TRY(take_line(&c, at, line, next));
    }
    return cut(&c, c.text.n, false);
}
