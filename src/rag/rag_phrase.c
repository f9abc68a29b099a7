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

/* The words of the phrase that opens before `begin`, up to the mark that closes it. */
static bool close_phrase(base_str s, size_t begin, rag_phrase *out) {
    bool opens, closes;
    for (size_t at = begin, n; at < s.n; at += n ? n : 1) {
        n = mark_at(s, at, &opens, &closes);
        if (!n || !closes || (at + n < s.n && is_letter(s.p[at + n]))) continue;
        out->words = (base_str){s.p + begin, at - begin};
        out->end = at + n;
        return has_words(out->words);
    }
    return false;
}

bool rag_next_phrase(base_str s, size_t from, rag_phrase *out) {
    bool opens, closes;
    for (size_t at = from, n; at < s.n; at += n ? n : 1) {
        n = mark_at(s, at, &opens, &closes);
        if (!n || !opens || (n == 1 && at && is_letter(s.p[at - 1]))) continue;
        if (!close_phrase(s, at + n, out)) continue;
        out->without = at > from && s.p[at - 1] == '-' && (at == 1 || is_space(s.p[at - 2]));
        out->begin = at - out->without;
        return true;
    }
    return false;
}

/* ==== In a passage ============================================================================ */

typedef struct sought {
    rag *r;                            /* store */
    base_buf words;                    /* "\nold\nkeeper\n" */
    rag_lex_query stem;                /* one of its words, for rag_lex_leaves_out */
    uint32_t ids[RAG_MAX_QUERY_TERMS]; /* [n] of their terms */
    size_t n;         /* how many; the words behind them are looked at in the text alone */
    bool nowhere;     /* one of them is in no passage */
    base_buf text;    /* of the passage, likewise */
    rotor_error *err; /* where messages go */
} sought;

static rotor_status put_word(void *user, const rag_term *t) {
    base_buf *b = user;
    if (t->extra) return ROTOR_OK;
    base_buf_append(b, t->t.p, t->t.n);
    base_buf_puts(b, "\n");
    return b->failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

static rotor_status put_words(base_buf *b, base_str text, rotor_error *err) {
    base_buf_reset(b);
    base_buf_puts(b, "\n");
    if (rag_words_of(text, put_word, b) == ROTOR_OK && !b->failed) return ROTOR_OK;
    return base_fail_nomem(err, "looking for a phrase");
}

static rotor_status put_id(void *user, const rag_term *t) {
    sought *s = user;
    uint32_t id;
    if (t->extra || s->n == RAG_MAX_QUERY_TERMS) return ROTOR_OK;
    if (!s->r->x.terms || !base_map_get(s->r->x.terms, t->t, &id))
        s->nowhere = true;
    else
        s->ids[s->n++] = id;
    return ROTOR_OK;
}

static bool may_have(sought *s, uint32_t slot) {
    for (size_t i = 0; i < s->n; i++) {
        s->stem.terms[0].id = s->ids[i];
        if (!rag_lex_leaves_out(&s->r->x, &s->stem, false, slot)) return false;
    }
    return !s->nowhere;
}

static rotor_status has(sought *s, uint32_t slot, bool *there) {
    rag_hit h = {0};
    *there = false;
    if (!may_have(s, slot)) return ROTOR_OK;
    rotor_status st = rag_db_read_hit(s->r->db, s->r->x.chunk[slot], &h, s->err);
    const char *const parts[] = {h.text, h.heading, h.title};
    for (size_t i = 0; st == ROTOR_OK && !*there && i < BASE_COUNT(parts); i++) {
        st = put_words(&s->text, base_str_of(parts[i]), s->err);
        *there = st == ROTOR_OK && strstr(s->text.data, s->words.data) != NULL;
    }
    rag_hit_free(&h);
    return st;
}

static rotor_status keep(sought *s, const rag_phrase *p, uint8_t *allowed) {
    s->n = 0;
    s->nowhere = false;
    ROTOR_TRY(put_words(&s->words, p->words, s->err));
    ROTOR_TRY(rag_terms_of(p->words, put_id, s));
    for (uint32_t i = 0; i < s->r->x.n_chunks; i++) {
        bool there;
        if (!allowed[i]) continue;
        ROTOR_TRY(has(s, i, &there));
        allowed[i] = there != p->without;
    }
    return ROTOR_OK;
}

rotor_status rag_keep_phrases(rag *r, base_str query, uint8_t **allowed, rotor_error *err) {
    rag_phrase p = {0};
    rotor_status st = ROTOR_OK;
    if (!rag_next_phrase(query, 0, &p)) return ROTOR_OK;
    const size_t n = BASE_MAX(r->x.n_chunks, (size_t)1);
    sought *s = base_alloc(sizeof *s);
    if (s && !*allowed && (*allowed = base_alloc(n))) memset(*allowed, 1, n);
    if (!s || !*allowed) st = base_fail_nomem(err, "looking for a phrase");
    if (s) *s = (sought){.r = r, .err = err};
    if (s) s->stem.n = 1, s->stem.terms[0].without = true;
    for (bool more = true; st == ROTOR_OK && more; more = rag_next_phrase(query, p.end, &p))
        st = keep(s, &p, *allowed);
    if (s) base_buf_free(&s->words);
    if (s) base_buf_free(&s->text);
    base_free(s);
    return st;
}
