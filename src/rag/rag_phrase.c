/* SPDX-License-Identifier: MIT
 *
 * "Quoted words" of a query: passages that have them, just so and in that order, in their text,
 * their headings or their title; -"quoted words": passages that have not. Case and accents do not
 * count, endings do. A quotation mark that ends nothing (5" wide) is a letter like any other.
 *
 * Words narrow down which passages are read; the texts themselves decide.
 */
#include "rag/rag_internal.h"
#include "rag/rag_words.h"

/* ==== In a query ============================================================================== */

/* Bytes of the quotation mark that stands there; 0: none. Typographic ones say what they are. */
static size_t mark_at(base_str s, size_t at, bool *opens, bool *closes) {
    static const char *const open[] = {"\xE2\x80\x9C", "\xE2\x80\x9E"}, *const close =
                                                                            "\xE2\x80\x9D";
    *opens = *closes = s.p[at] == '"';
    if (*opens) return 1;
    if (s.n - at < 3) return 0;
    *opens = memcmp(s.p + at, open[0], 3) == 0 || memcmp(s.p + at, open[1], 3) == 0;
    *closes = memcmp(s.p + at, close, 3) == 0 || memcmp(s.p + at, open[0], 3) == 0;
    return *opens || *closes ? 3 : 0;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_space(char c) { return (unsigned char)c <= ' '; }

static rotor_status see_word(void *user, const rag_term *t) {
    *(bool *)user |= t->t.n > 0;
    return ROTOR_OK;
}

static bool has_words(base_str s) {
    bool any = false;
    rag_words_of(s, see_word, &any);
    return any;
}

typedef enum ending { CLOSED, EMPTY, NEVER } ending;

/* The words of the phrase that opens before `begin`, up to the mark that closes it, at *close.
 * Which marks close does not depend on where a phrase opens. */
static ending close_phrase(base_str s, size_t begin, rag_phrase *out, size_t *close) {
    bool opens, closes;
    for (size_t at = begin, n; at < s.n; at += n ? n : 1) {
        n = mark_at(s, at, &opens, &closes);
        if (!n || !closes || (at + n < s.n && is_letter(s.p[at + n]))) continue;
        out->words = (base_str){s.p + begin, at - begin};
        out->end = at + n;
        *close = at;
        return has_words(out->words) ? CLOSED : EMPTY;
    }
    return NEVER;
}

/* Each byte is looked at twice at most: where nothing closes, nothing behind it does, and what
 * opens inside of an empty one has no words either. */
bool rag_next_phrase(base_str s, size_t from, rag_phrase *out) {
    bool opens, closes;
    for (size_t at = from, n, next; at < s.n; at = next) {
        n = mark_at(s, at, &opens, &closes);
        next = at + (n ? n : 1);
        if (!n || !opens || (n == 1 && at && is_letter(s.p[at - 1]))) continue;
        const ending how = close_phrase(s, at + n, out, &next);
        if (how == NEVER) return false;
        if (how == EMPTY) continue;
        out->without = at > from && s.p[at - 1] == '-' && (at == 1 || is_space(s.p[at - 2]));
        out->begin = at - out->without;
        return true;
    }
    return false;
}

/* ==== In a passage ============================================================================ */

enum { MAX_PHRASES = 16 }; /* each may be looked for in every passage */

typedef struct sought {
    base_buf words;                    /* "\nold\nkeeper\n" */
    uint32_t ids[RAG_MAX_QUERY_TERMS]; /* [n] of their terms */
    size_t n;     /* how many; the words behind them are looked at in the text alone */
    bool nowhere; /* one of them is in no passage */
    bool without; /* they are not to be there */
} sought;

typedef struct seeker {
    rag *r;                   /* store */
    sought list[MAX_PHRASES]; /* [n] each once */
    size_t n;                 /* how many */
    rag_lex_query stem;       /* one word of one, for rag_lex_leaves_out */
    base_buf text;            /* words of the passage at hand, if is_read */
    bool is_read;             /* see text */
    rotor_error *err;         /* where messages go */
} seeker;

static rotor_status put_word(void *user, const rag_term *t) {
    base_buf *b = user;
    if (t->extra) return ROTOR_OK;
    base_buf_append(b, t->t.p, t->t.n);
    base_buf_puts(b, "\n");
    return b->failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

/* Behind what is there, with a blank line between, which no phrase has. */
static rotor_status put_words(base_buf *b, base_str text, rotor_error *err) {
    base_buf_puts(b, "\n");
    if (rag_words_of(text, put_word, b) == ROTOR_OK && !b->failed) return ROTOR_OK;
    return base_fail_nomem(err, "looking for a phrase");
}

typedef struct numbers {
    const rag_index *x; /* whose terms */
    sought *s;          /* gets them */
} numbers;

static rotor_status put_id(void *user, const rag_term *t) {
    const numbers *to = user;
    sought *s = to->s;
    uint32_t id;
    if (t->extra || s->n == RAG_MAX_QUERY_TERMS) return ROTOR_OK;
    if (!to->x->terms || !base_map_get(to->x->terms, t->t, &id))
        s->nowhere = true;
    else
        s->ids[s->n++] = id;
    return ROTOR_OK;
}

static bool is_known(const seeker *k, const sought *s) {
    for (size_t i = 0; i < k->n; i++)
        if (k->list[i].without == s->without && strcmp(k->list[i].words.data, s->words.data) == 0)
            return true;
    return false;
}

/* One phrase more, unless it is there already. */
static rotor_status take_phrase(seeker *k, const rag_phrase *p) {
    sought s = {.without = p->without};
    numbers to = {&k->r->x, &s};
    rotor_status st = put_words(&s.words, p->words, k->err);
    const bool known = st == ROTOR_OK && is_known(k, &s);
    if (st == ROTOR_OK && !known && k->n == MAX_PHRASES)
        st = base_fail(k->err, ROTOR_E_ARG,
                       "more than %d phrases in quotation marks: leave some of them out",
                       MAX_PHRASES);
    if (st == ROTOR_OK && !known) st = rag_terms_of(p->words, put_id, &to);
    if (st == ROTOR_OK && !known)
        k->list[k->n++] = s;
    else
        base_buf_free(&s.words);
    return st;
}

static bool may_have(seeker *k, const sought *s, uint32_t slot) {
    for (size_t i = 0; i < s->n; i++) {
        k->stem.terms[0].id = s->ids[i];
        if (!rag_lex_leaves_out(&k->r->x, &k->stem, false, slot)) return false;
    }
    return !s->nowhere;
}

/* Text, headings and title, once for all phrases. */
static rotor_status read_words(seeker *k, uint32_t slot) {
    rag_hit h = {0};
    if (k->is_read) return ROTOR_OK;
    rotor_status st = rag_db_read_hit(k->r->db, k->r->x.chunk[slot], &h, k->err);
    const char *const parts[] = {h.text, h.heading, h.title};
    base_buf_reset(&k->text);
    for (size_t i = 0; st == ROTOR_OK && i < BASE_COUNT(parts); i++)
        st = put_words(&k->text, base_str_of(parts[i]), k->err);
    rag_hit_free(&h);
    k->is_read = st == ROTOR_OK;
    return st;
}

static rotor_status look_at(seeker *k, uint32_t slot, uint8_t *allowed) {
    k->is_read = false;
    for (size_t i = 0; i < k->n && *allowed; i++) {
        const sought *s = &k->list[i];
        bool there = may_have(k, s, slot);
        if (there) ROTOR_TRY(read_words(k, slot));
        if (there) there = strstr(k->text.data, s->words.data) != NULL;
        *allowed = there != s->without;
    }
    return ROTOR_OK;
}

static rotor_status keep(seeker *k, base_str query, uint8_t *allowed) {
    rag_phrase p;
    for (size_t at = 0; rag_next_phrase(query, at, &p); at = p.end) ROTOR_TRY(take_phrase(k, &p));
    for (uint32_t i = 0; i < k->r->x.n_chunks; i++)
        if (allowed[i]) ROTOR_TRY(look_at(k, i, &allowed[i]));
    return ROTOR_OK;
}

static void drop_seeker(seeker *k) {
    for (size_t i = 0; k && i < k->n; i++) base_buf_free(&k->list[i].words);
    if (k) base_buf_free(&k->text);
    base_free(k);
}

rotor_status rag_keep_phrases(rag *r, base_str query, uint8_t **allowed, rotor_error *err) {
    rag_phrase p;
    if (!rag_next_phrase(query, 0, &p)) return ROTOR_OK;
    const size_t n = BASE_MAX(r->x.n_chunks, (size_t)1);
    seeker *k = base_alloc(sizeof *k);
    if (k && !*allowed && (*allowed = base_alloc(n))) memset(*allowed, 1, n);
    if (!k || !*allowed) {
        drop_seeker(k);
        return base_fail_nomem(err, "looking for a phrase");
    }
    k->r = r;
    k->err = err;
    k->stem.n = 1;
    k->stem.terms[0].without = true;
    const rotor_status st = keep(k, query, *allowed);
    drop_seeker(k);
    return st;
}
