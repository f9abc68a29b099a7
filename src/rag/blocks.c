/* SPDX-License-Identifier: MIT
 *
 * Blocks of plain text, Markdown and source code, read line by line.
 *
 * Plain text: paragraphs between empty lines. Markdown: headings (# and underlined), fenced code,
 * tables and paragraphs; its front matter between lines of --- is left out. Code: what empty lines
 * separate, and a new block where a line begins at the left edge with a word after an empty line.
 */
#include "rag/rag_chunk.h"

rotor_status rag_blocks_push(rag_blocks *b, rag_block block) {
    if (block.begin >= block.end) return ROTOR_OK;
    if (b->n == b->cap) {
        const size_t cap = b->cap * 2 + 16;
        rag_block *more = base_realloc(b->list, cap * sizeof *more);
        if (!more) return ROTOR_E_NOMEM;
        b->list = more;
        b->cap = cap;
    }
    b->list[b->n++] = block;
    return ROTOR_OK;
}

void rag_blocks_free(rag_blocks *b) {
    base_free(b->list);
    memset(b, 0, sizeof *b);
}

/* ==== Lines =================================================================================== */

typedef struct scan {
    base_str text;       /* all of it */
    size_t at, end;      /* the line, without its \n */
    size_t next;         /* where the next begins */
    rag_blocks *out;     /* blocks so far */
    size_t open;         /* where the open paragraph begins; SIZE_MAX: none is open */
    size_t last;         /* end of its last line */
    size_t last_at;      /* where that begins */
    rag_block_kind kind; /* what it is */
} scan;

static bool next_line(scan *s) {
    if (s->next >= s->text.n) return false;
    const char *nl = memchr(s->text.p + s->next, '\n', s->text.n - s->next);
    s->at = s->next;
    s->end = nl ? (size_t)(nl - s->text.p) : s->text.n;
    s->next = nl ? s->end + 1 : s->text.n;
    return true;
}

static base_str line_of(const scan *s) { return (base_str){s->text.p + s->at, s->end - s->at}; }

static size_t indent_of(base_str l) {
    size_t n = 0;
    while (n < l.n && (l.p[n] == ' ' || l.p[n] == '\t')) n++;
    return n;
}

static bool is_blank(base_str l) {
    for (size_t i = 0; i < l.n; i++)
        if (l.p[i] != ' ' && l.p[i] != '\t' && l.p[i] != '\r' && l.p[i] != '\f') return false;
    return true;
}

static rotor_status close_block(scan *s) {
    if (s->open == SIZE_MAX) return ROTOR_OK;
    const rag_block b = {.kind = s->kind, .begin = s->open, .end = s->last};
    s->open = SIZE_MAX;
    return rag_blocks_push(s->out, b);
}

static rotor_status take_line(scan *s, rag_block_kind kind) {
    if (s->open != SIZE_MAX && s->kind != kind) ROTOR_TRY(close_block(s));
    if (s->open == SIZE_MAX) s->open = s->at;
    s->kind = kind;
    s->last = s->end;
    s->last_at = s->at;
    return ROTOR_OK;
}

/* ==== Markdown ================================================================================ */

/* 1 to 6 for "## Title"; 0: no heading. */
static int atx_level(base_str l) {
    const size_t in = indent_of(l);
    int level = 0;
    if (in > 3) return 0;
    while (in + (size_t)level < l.n && l.p[in + (size_t)level] == '#') level++;
    const size_t after = in + (size_t)level;
    return level >= 1 && level <= 6 && (after == l.n || l.p[after] == ' ' || l.p[after] == '\t')
               ? level
               : 0;
}

/* A line of nothing but = (1) or - (2) under a paragraph of one line. */
static int underline_level(base_str l) {
    const size_t in = indent_of(l);
    size_t n = l.n;
    while (n > in && (l.p[n - 1] == ' ' || l.p[n - 1] == '\r')) n--;
    if (in > 3 || n - in < 2 || (l.p[in] != '=' && l.p[in] != '-')) return 0;
    for (size_t i = in; i < n; i++)
        if (l.p[i] != l.p[in]) return 0;
    return l.p[in] == '=' ? 1 : 2;
}

/* How many ` or ~ open or close a block of code; 0: none. */
static size_t fence_of(base_str l, char *mark) {
    const size_t in = indent_of(l);
    size_t n = in;
    if (in > 3 || in >= l.n || (l.p[in] != '`' && l.p[in] != '~')) return 0;
    *mark = l.p[in];
    while (n < l.n && l.p[n] == *mark) n++;
    return n - in >= 3 ? n - in : 0;
}

static rotor_status take_code(scan *s, size_t fence, char mark) {
    char m = 0;
    ROTOR_TRY(close_block(s));
    ROTOR_TRY(take_line(s, RAG_CODE));
    while (next_line(s)) {
        ROTOR_TRY(take_line(s, RAG_CODE));
        const base_str l = line_of(s);
        const size_t n = fence_of(l, &m), in = indent_of(l);
        if (n >= fence && m == mark && is_blank((base_str){l.p + in + n, l.n - in - n})) break;
    }
    return close_block(s);
}

/* "--- … ---" at the very start; returns where the text after it begins. */
static size_t front_matter(base_str text) {
    scan s = {.text = text};
    if (!next_line(&s) || s.end - s.at < 3 || memcmp(text.p, "---", 3) != 0 ||
        !is_blank((base_str){text.p + 3, s.end - 3}))
        return 0;
    while (next_line(&s)) {
        const base_str l = line_of(&s);
        if (l.n >= 3 && memcmp(l.p, "---", 3) == 0 && is_blank((base_str){l.p + 3, l.n - 3}))
            return s.next;
    }
    return 0;
}

static rotor_status heading(scan *s, size_t begin, int level) {
    const rag_block b = {.kind = RAG_HEADING, .level = level, .begin = begin, .end = s->end};
    s->open = SIZE_MAX;
    return rag_blocks_push(s->out, b);
}

static rotor_status take_markdown(scan *s) {
    const base_str l = line_of(s);
    char mark = 0;
    const size_t fence = fence_of(l, &mark);
    const int atx = atx_level(l), under = underline_level(l);
    const bool one_line = s->open != SIZE_MAX && s->kind == RAG_PROSE && s->last_at == s->open;
    if (fence) return take_code(s, fence, mark);
    if (is_blank(l)) return close_block(s);
    if (atx) {
        ROTOR_TRY(close_block(s));
        return heading(s, s->at, atx);
    }
    if (under && one_line) return heading(s, s->open, under);
    return take_line(s, l.p[indent_of(l)] == '|' ? RAG_TABLE : RAG_PROSE);
}

/* ==== All forms =============================================================================== */

static bool begins_definition(const scan *s) {
    const base_str l = line_of(s);
    const char c = l.n ? l.p[0] : 0;
    return s->open == SIZE_MAX && ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static rotor_status take_plain(scan *s, rag_form form) {
    if (is_blank(line_of(s))) return close_block(s);
    if (form == RAG_FORM_CODE && begins_definition(s)) ROTOR_TRY(close_block(s));
    return take_line(s, form == RAG_FORM_CODE ? RAG_CODE : RAG_PROSE);
}

rotor_status rag_blocks_of(base_str text, rag_form form, rag_blocks *out, size_t *front) {
    scan s = {.text = text, .out = out, .open = SIZE_MAX};
    *front = form == RAG_FORM_MARKDOWN ? front_matter(text) : 0;
    s.next = *front;
    while (next_line(&s))
        ROTOR_TRY(form == RAG_FORM_MARKDOWN ? take_markdown(&s) : take_plain(&s, form));
    return close_block(&s);
}
