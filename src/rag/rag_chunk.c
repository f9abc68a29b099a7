/* SPDX-License-Identifier: MIT
 *
 * Passages. Blocks are packed in order until the target is reached; one above the maximum is cut at
 * the best place there is: an empty line, the end of a sentence, of a line, of a clause, a space, a
 * character.
 *
 * Where passages end depends on what stands near, not on how far the start is: a heading ends one,
 * and from half the target on so does any piece whose hash is a multiple of four. So text that is put in
 * near the top changes few passages below it, and few vectors are made anew.
 */
#include "rag/rag_chunk.h"
#include "rag/rag_words.h"

enum { HEADING_LEVELS = 6, HEADING_TOK = 48 };

typedef struct packer {
    base_str text;                 /* of the document */
    rag_passage now;               /* the open one; end 0: none */
    rag_passage held;              /* finished, but a short last one may still join it; end 0: none */
    char *held_heading;            /* its headings, owned */
    base_buf heading;              /* headings above the open one */
    base_str path[HEADING_LEVELS]; /* the headings in force, by level */
    rotor_status (*fn)(void *user, const rag_passage *p); /* takes them */
    void *user;                                           /* of fn */
} packer;

static size_t tokens(const packer *p, size_t begin, size_t end) {
    return rag_tokens_about((base_str){p->text.p + begin, end - begin});
}

/* ==== Headings ================================================================================ */

/* The words of a heading line, without its marks. */
static base_str heading_text(base_str l) {
    const char *nl = l.n ? memchr(l.p, '\n', l.n) : NULL;
    if (nl) l.n = (size_t)(nl - l.p);
    while (l.n && strchr("# \t", l.p[0])) l.p++, l.n--;
    while (l.n && strchr("# \t\r", l.p[l.n - 1])) l.n--;
    return l;
}

static void enter_heading(packer *p, const rag_block *b) {
    const int level = BASE_MIN(BASE_MAX(b->level, 1), HEADING_LEVELS);
    p->path[level - 1] = heading_text((base_str){p->text.p + b->begin, b->end - b->begin});
    for (int i = level; i < HEADING_LEVELS; i++) p->path[i].n = 0;
}

/* The headings in force; from the left they give way when they are too long together. */
static rotor_status write_heading(packer *p) {
    size_t room = HEADING_TOK, first = HEADING_LEVELS;
    while (first > 0) {
        const size_t n = rag_tokens_about(p->path[first - 1]);
        if (n > room) break;
        room -= n;
        first--;
    }
    base_buf_reset(&p->heading);
    base_buf_puts(&p->heading, "");
    for (size_t i = first; i < HEADING_LEVELS; i++) {
        if (!p->path[i].n) continue;
        if (p->heading.len) base_buf_puts(&p->heading, " › ");
        base_buf_append(&p->heading, p->path[i].p, p->path[i].n);
    }
    return p->heading.failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

/* ==== Passages ================================================================================ */

static rotor_status give_held(packer *p) {
    if (!p->held.end) return ROTOR_OK;
    p->held.heading = p->held_heading;
    const rotor_status st = p->fn(p->user, &p->held);
    base_free(p->held_heading);
    p->held_heading = NULL;
    p->held.end = 0;
    return st;
}

/* Ends the open passage. One below the minimum joins the one before, where that fits. */
static rotor_status finish(packer *p) {
    if (!p->now.end) return ROTOR_OK;
    if (p->held.end && p->now.n_tok < RAG_MIN_TOK && p->held.n_tok + p->now.n_tok <= RAG_MAX_TOK &&
        strcmp(p->held_heading, p->heading.data) == 0) {
        p->held.end = p->now.end;
        p->held.n_tok += p->now.n_tok;
        p->held.last_page = p->now.last_page;
        p->now.end = 0;
        return ROTOR_OK;
    }
    ROTOR_TRY(give_held(p));
    p->held = p->now;
    p->now.end = 0;
    p->held_heading = base_strdup(p->heading.data);
    return p->held_heading ? ROTOR_OK : ROTOR_E_NOMEM;
}

/* Adds a piece that fits a passage. */
static rotor_status add(packer *p, size_t begin, size_t end, size_t n_tok, uint32_t page) {
    if (p->now.end && p->now.n_tok + n_tok > RAG_MAX_TOK) ROTOR_TRY(finish(p));
    if (!p->now.end) {
        p->now = (rag_passage){.begin = begin, .page = page};
        ROTOR_TRY(write_heading(p));
    }
    p->now.end = end;
    p->now.n_tok += (uint32_t)n_tok;
    p->now.last_page = page;
    const bool mark = base_hash64(p->text.p + begin, end - begin, 1) % 4 == 0;
    if (p->now.n_tok >= RAG_TARGET_TOK || (mark && p->now.n_tok >= RAG_TARGET_TOK / 2))
        return finish(p);
    return ROTOR_OK;
}

/* ==== Pieces of a block ======================================================================= */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool abbreviation(const char *begin, const char *dot) {
    static const char *const words = " al approx ca cf dr e.g eg etc fig figs i.e ie inc mr mrs ms no "
                                     "pp prof ref refs resp sr st vs ";
    const char *w = dot;
    char find[12] = " ";
    while (w > begin && !is_space(w[-1]) && w[-1] != '(') w--;
    const size_t n = (size_t)(dot - w);
    if (n == 1) return (w[0] | 32) >= 'a' && (w[0] | 32) <= 'z';
    if (!n || n > 8) return false;
    for (size_t i = 0; i < n; i++) find[1 + i] = (char)(w[i] >= 'A' && w[i] <= 'Z' ? w[i] | 32 : w[i]);
    find[n + 1] = ' ';
    return strstr(words, find) != NULL;
}

/* Is i, a place in the text, just behind a sentence? */
static bool sentence_ends(const packer *p, size_t begin, size_t i, size_t end) {
    const char *t = p->text.p;
    size_t at = i;
    if (i < end && !is_space(t[i])) return false;
    while (at > begin && (t[at - 1] == '"' || t[at - 1] == '\'' || t[at - 1] == ')')) at--;
    if (at == begin || !strchr(".!?", t[at - 1])) return false;
    size_t next = i;
    while (next < end && is_space(t[next])) next++;
    if (next < end && t[next] >= 'a' && t[next] <= 'z') return false;
    return t[at - 1] != '.' || !abbreviation(t + begin, t + at - 1);
}

/* The end of the first sentence of [begin, end), or end. */
static size_t sentence(const packer *p, size_t begin, size_t end) {
    for (size_t i = begin + 1; i < end; i++)
        if (sentence_ends(p, begin, i, end)) return i;
    return end;
}

/* As much of [begin, end) as a passage holds, cut at a line, a clause, a space or a character. */
static size_t largest_part(const packer *p, size_t begin, size_t end) {
    const char *t = p->text.p;
    size_t low = begin + 1, high = end;
    while (low < high) { /* the longest stretch within the target */
        const size_t mid = low + (high - low + 1) / 2;
        if (tokens(p, begin, mid) <= RAG_TARGET_TOK)
            low = mid;
        else
            high = mid - 1;
    }
    if (low >= end) return end;
    const size_t least = begin + (low - begin) / 2;
    for (size_t i = low; i > least; i--)
        if (t[i] == '\n') return i;
    for (size_t i = low; i > least; i--)
        if (is_space(t[i]) && strchr(",;:", t[i - 1])) return i;
    for (size_t i = low; i > least; i--)
        if (is_space(t[i])) return i;
    size_t cut = low;
    while (cut > begin + 1 && ((unsigned char)t[cut] & 0xC0) == 0x80) cut--;
    return cut;
}

static rotor_status add_pieces(packer *p, size_t begin, size_t end, uint32_t page) {
    while (begin < end) {
        const size_t part = largest_part(p, begin, end);
        ROTOR_TRY(add(p, begin, part, tokens(p, begin, part), page));
        begin = part;
        while (begin < end && is_space(p->text.p[begin])) begin++;
    }
    return ROTOR_OK;
}

static rotor_status add_block(packer *p, const rag_block *b) {
    const size_t n = tokens(p, b->begin, b->end);
    size_t begin = b->begin;
    if (n <= RAG_TARGET_TOK) return add(p, b->begin, b->end, n, b->page);
    if (b->kind != RAG_PROSE) return add_pieces(p, b->begin, b->end, b->page);
    while (begin < b->end) {
        const size_t end = sentence(p, begin, b->end), t = tokens(p, begin, end);
        ROTOR_TRY(t <= RAG_MAX_TOK ? add(p, begin, end, t, b->page)
                                   : add_pieces(p, begin, end, b->page));
        begin = end;
        while (begin < b->end && is_space(p->text.p[begin])) begin++;
    }
    return ROTOR_OK;
}

rotor_status rag_chunk(base_str text, const rag_blocks *blocks,
                       rotor_status (*fn)(void *user, const rag_passage *p), void *user) {
    packer p = {.text = text, .fn = fn, .user = user};
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; st == ROTOR_OK && i < blocks->n; i++) {
        const rag_block *b = &blocks->list[i];
        if (b->kind == RAG_HEADING) {
            if (b->level <= 3 && p.now.n_tok >= RAG_MIN_TOK) st = finish(&p);
            enter_heading(&p, b);
        }
        if (st == ROTOR_OK) st = add_block(&p, b);
    }
    if (st == ROTOR_OK) st = finish(&p);
    if (st == ROTOR_OK) st = give_held(&p);
    base_free(p.held_heading);
    base_buf_free(&p.heading);
    return st;
}
