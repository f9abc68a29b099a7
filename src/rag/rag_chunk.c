/* SPDX-License-Identifier: MIT
 *
 * Passages. Blocks are packed in order until the target is reached; one above the maximum is cut at
 * the best place there is: an empty line, the end of a sentence, of a line, of a clause, a space, a
 * character.
 *
 * Where passages end depends on what stands near, not on how far the start is: a heading ends one,
 * and from half the target on so does any piece whose hash is a multiple of four. So text that is
 * put in near the top changes few passages below it, and few vectors are made anew.
 */
#include "rag/rag_chunk.h"
#include "rag/rag_words.h"

enum {
    HEADING_LEVELS = 6,
    HEADING_TOK = 48,
    HEADING_BYTES = 1024,    /* a longer one stands above nothing */
    GUESS_BYTES = 2048,      /* of a passage */
    LEAST_TOK = 140,         /* a passage that is cut keeps so many, where its pieces allow */
    MAX_PIECES = RAG_MAX_TOK /* every piece has a token */
};

/* What a passage is made of: a block, or a part of one. */
typedef struct piece {
    size_t begin, end;   /* bytes */
    size_t n_tok;        /* about */
    const rag_block *of; /* its block, for its place */
    bool heading;        /* it is one */
    uint64_t hash;       /* of its bytes */
    char *above;         /* headings in force, owned */
} piece;

typedef struct packer {
    base_str text;           /* of the document */
    piece open[MAX_PIECES];  /* the open passage */
    size_t n_open, open_tok; /* how many, their tokens */
    rag_passage held;        /* finished, but a short last one may still join it; end 0: none */
    char *held_heading;      /* its headings, owned */
    base_str path[HEADING_LEVELS];                        /* the headings in force, by level */
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
    if (p->path[level - 1].n > HEADING_BYTES) p->path[level - 1].n = 0;
    for (int i = level; i < HEADING_LEVELS; i++) p->path[i].n = 0;
}

/* The headings in force; from the left they give way when they are too long together. New. */
static char *headings_above(const packer *p) {
    size_t room = HEADING_TOK, first = HEADING_LEVELS;
    base_buf out = {0};
    while (first > 0) {
        const size_t n = rag_tokens_about(p->path[first - 1]);
        if (n > room) break;
        room -= n;
        first--;
    }
    base_buf_puts(&out, "");
    for (size_t i = first; i < HEADING_LEVELS; i++) {
        if (!p->path[i].n) continue;
        if (out.len) base_buf_puts(&out, " › ");
        base_buf_append(&out, p->path[i].p, p->path[i].n);
    }
    if (out.failed) base_buf_free(&out);
    return out.data;
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

static void drop_pieces(packer *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        p->open_tok -= p->open[i].n_tok;
        base_free(p->open[i].above);
    }
    memmove(p->open, p->open + n, (p->n_open - n) * sizeof *p->open);
    p->n_open -= n;
}

/* The first n open pieces are a passage. Its headings are those of its first words that are none.
 */
static rotor_status finish(packer *p, size_t n) {
    if (!n) return ROTOR_OK;
    const piece *at = p->open;
    rag_passage now = {.begin = at->begin, .page = at->of->page, .line = at->of->line};
    size_t speaks = 0;
    while (speaks + 1 < n && at[speaks].heading) speaks++;
    for (size_t i = 0; i < n; i++) now.n_tok += (uint32_t)at[i].n_tok;
    now.end = at[n - 1].end;
    now.last_page = at[n - 1].of->page;
    now.last_line = at[n - 1].of->last_line;
    const bool joins = p->held.end && now.n_tok < RAG_MIN_TOK &&
                       p->held.n_tok + now.n_tok <= RAG_MAX_TOK &&
                       strcmp(p->held_heading, at[speaks].above) == 0;
    if (joins) {
        p->held.end = now.end;
        p->held.n_tok += now.n_tok;
        p->held.last_page = now.last_page;
        p->held.last_line = now.last_line;
    } else {
        ROTOR_TRY(give_held(p));
        p->held = now;
        p->held_heading = p->open[speaks].above;
        p->open[speaks].above = NULL;
    }
    drop_pieces(p, n);
    return ROTOR_OK;
}

/* Of the pieces that may end the open passage the one with the smallest hash: the same one whatever
 * stands far in front of it. */
static size_t best_end(const packer *p) {
    size_t n_tok = 0, best = 0;
    for (size_t i = 0; i < p->n_open; i++) {
        n_tok += p->open[i].n_tok;
        if (n_tok < LEAST_TOK || (i + 1 < p->n_open && p->open[i].heading)) continue;
        if (!best || p->open[i].hash < p->open[best - 1].hash) best = i + 1;
    }
    return best ? best : p->n_open;
}

/* Adds a piece that fits a passage. */
static rotor_status add(packer *p, size_t begin, size_t end, const rag_block *of) {
    const size_t n_tok = BASE_MAX(tokens(p, begin, end), (size_t)1);
    while (p->n_open && (p->open_tok + n_tok > RAG_MAX_TOK || p->n_open == MAX_PIECES))
        ROTOR_TRY(finish(p, best_end(p)));
    char *above = headings_above(p);
    if (!above) return ROTOR_E_NOMEM;
    p->open[p->n_open++] = (piece){begin,
                                   end,
                                   n_tok,
                                   of,
                                   of->kind == RAG_HEADING,
                                   base_hash64(p->text.p + begin, end - begin, 1),
                                   above};
    p->open_tok += n_tok;
    return ROTOR_OK;
}

/* ==== Pieces of a block ======================================================================= */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool abbreviation(const char *begin, const char *dot) {
    static const char *const words =
        " al approx ca cf dr e.g eg etc fig figs i.e ie inc mr mrs ms no "
        "pp prof ref refs resp sr st vs ";
    const char *w = dot;
    char find[12] = " ";
    while (w > begin && !is_space(w[-1]) && w[-1] != '(') w--;
    const size_t n = (size_t)(dot - w);
    if (n == 1) return (w[0] | 32) >= 'a' && (w[0] | 32) <= 'z';
    if (!n || n > 8) return false;
    for (size_t i = 0; i < n; i++)
        find[1 + i] = (char)(w[i] >= 'A' && w[i] <= 'Z' ? w[i] | 32 : w[i]);
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
    size_t low = begin + 1, high = GUESS_BYTES;
    while (high < end - begin && tokens(p, begin, begin + high) <= RAG_TARGET_TOK) high *= 2;
    high = begin + BASE_MIN(high, end - begin); /* what is far behind is not counted each time */
    while (low < high) {                        /* the longest stretch within the target */
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

static rotor_status add_pieces(packer *p, size_t begin, size_t end, const rag_block *of) {
    while (begin < end) {
        const size_t part = largest_part(p, begin, end);
        ROTOR_TRY(add(p, begin, part, of));
        begin = part;
        while (begin < end && is_space(p->text.p[begin])) begin++;
    }
    return ROTOR_OK;
}

static rotor_status add_block(packer *p, const rag_block *b) {
    const size_t n = tokens(p, b->begin, b->end);
    size_t begin = b->begin;
    if (n <= RAG_TARGET_TOK) return add(p, b->begin, b->end, b);
    if (b->kind != RAG_PROSE) return add_pieces(p, b->begin, b->end, b);
    while (begin < b->end) {
        const size_t end = sentence(p, begin, b->end), t = tokens(p, begin, end);
        ROTOR_TRY(t <= RAG_MAX_TOK ? add(p, begin, end, b) : add_pieces(p, begin, end, b));
        begin = end;
        while (begin < b->end && is_space(p->text.p[begin])) begin++;
    }
    return ROTOR_OK;
}

static rotor_status chunk(packer *p, const rag_blocks *blocks) {
    for (size_t i = 0; i < blocks->n; i++) {
        const rag_block *b = &blocks->list[i];
        if (b->kind == RAG_HEADING) {
            if (b->level <= 3 && p->open_tok >= RAG_MIN_TOK) ROTOR_TRY(finish(p, p->n_open));
            enter_heading(p, b);
        }
        ROTOR_TRY(add_block(p, b));
    }
    ROTOR_TRY(finish(p, p->n_open));
    return give_held(p);
}

rotor_status rag_chunk(base_str text, const rag_blocks *blocks,
                       rotor_status (*fn)(void *user, const rag_passage *p), void *user) {
    packer *p = base_alloc(sizeof *p);
    if (!p) return ROTOR_E_NOMEM;
    *p = (packer){.text = text, .fn = fn, .user = user};
    const rotor_status st = chunk(p, blocks);
    drop_pieces(p, p->n_open);
    base_free(p->held_heading);
    base_free(p);
    return st;
}
