/* SPDX-License-Identifier: MIT
 *
 * Keyword search: BM25, term at a time, into one accumulator per passage (or document).
 *
 *   score = sum over terms of count * idf * tf (k1 + 1) / (tf + k1 (1 - b + b length / mean))
 *   idf = ln(1 + (N - n + 0.5) / (n + 0.5)),  tf = times in the text + HEAD times in the headings
 *
 * A document's tf is the sum over its passages; title and headings, which every passage carries,
 * count once.
 */
#include "rag/rag_internal.h"
#include "rag/rag_words.h"

#include <math.h>

static const float K1 = 1.5f, B = 0.75f, HEAD = 2.0f, LONGER = 0.3f, SHORT = 5;
static const float QUOTED = 1.5f; /* a quoted word counts so often */
static const float CHANCE = 0.1f, CHANCE_FIRST = 0.9f, FEW = 100; /* of rag_lex_match */

/* ==== Queries ================================================================================= */

typedef struct parser {
    rag_lex_query *const *q;   /* [n] being filled; all have the same terms in the same order */
    const rag_index *const *x; /* [n] whose numbers they are */
    size_t n;                  /* stores */
    size_t units;              /* N, of all */
    bool whole;                /* of documents */
    bool without;              /* in a -word */
    bool keep_stops;           /* nothing else is left */
    float count;               /* that a word adds */
} parser;

/* Of a term that n_with units have, among at least so many. */
static float idf_of(const parser *p, double n_with, size_t least) {
    const double units = (double)BASE_MAX(p->units, least);
    return (float)log(1 + (units - n_with + 0.5) / (n_with + 0.5));
}

/* Its number in store i; UINT32_MAX: it is not there. */
static uint32_t number_of(const parser *p, size_t i, base_str t) {
    uint32_t id;
    return p->x[i]->terms && base_map_get(p->x[i]->terms, t, &id) ? id : UINT32_MAX;
}

/* Units of all stores that have it. */
static double count_with(const parser *p, base_str t) {
    double n = 0;
    for (size_t i = 0; i < p->n; i++) {
        const rag_index *x = p->x[i];
        const uint32_t id = number_of(p, i, t);
        if (id == UINT32_MAX) continue;
        n += p->whole ? (double)x->n_docs_with[id] : (double)(x->at[id + 1] - x->at[id]);
    }
    return n;
}

/* The place of a term that some store has; SIZE_MAX: it is new. */
static size_t find_term(const parser *p, base_str t) {
    for (size_t i = 0; i < p->n; i++) {
        const uint32_t id = number_of(p, i, t);
        for (size_t k = 0; id != UINT32_MAX && k < p->q[i]->n; k++)
            if (p->q[i]->terms[k].id == id && p->q[i]->terms[k].without == p->without) return k;
    }
    return SIZE_MAX;
}

/* Words that say what kind of answer is wanted, "how long", "tell me": no document need have them
 * to hold it. They count in a search, and not in what part of a question is covered. Stems. */
static bool asks(base_str t) {
    static const char *const words[] = {"much",  "mani",    "long",    "often", "far",  "tell",
                                        "pleas", "explain", "describ", "mean",  "know", "show",
                                        "find",  "list",    "give",    "name"};
    for (size_t i = 0; i < BASE_COUNT(words); i++)
        if (base_str_is(t, words[i])) return true;
    return false;
}

static rotor_status take_term(void *user, const rag_term *t) {
    parser *p = user;
    if (t->stop && !p->keep_stops && !p->without) return ROTOR_OK;
    const double n_with = count_with(p, t->t);
    const size_t known = find_term(p, t->t);
    for (size_t i = 0; i < p->n; i++) p->q[i]->has_code |= t->extra;
    if (n_with <= 0 && t->extra) return ROTOR_OK; /* its parts stand for it */
    for (size_t i = 0; i < p->n; i++) {
        rag_lex_query *q = p->q[i];
        if (known != SIZE_MAX)
            q->terms[known].count += p->count;
        else if (q->n < RAG_MAX_QUERY_TERMS)
            q->terms[q->n++] = (rag_lex_term){.id = number_of(p, i, t->t),
                                              .count = p->count,
                                              .idf = idf_of(p, n_with, 0),
                                              .gate = asks(t->t) ? 0 : idf_of(p, n_with, 1000),
                                              .without = p->without};
    }
    return ROTOR_OK;
}

/* Letters outside ASCII are none, whether char has a sign or not. */
static bool is_space(char c) { return (unsigned char)c <= ' '; }

/* Words between spaces; one that begins with - is not to be there. */
static rotor_status parse(parser *p, base_str text) {
    for (size_t at = 0; at < text.n;) {
        size_t end = at;
        while (end < text.n && !is_space(text.p[end])) end++;
        p->without = end - at > 1 && text.p[at] == '-' && text.p[at + 1] != '-';
        if (p->without) ROTOR_TRY(rag_terms_of((base_str){text.p + at, end - at}, take_term, p));
        at = end + 1;
    }
    p->without = false;
    for (size_t at = 0; at < text.n;) { /* stretches without such words, so that pairs hold */
        size_t end = at;
        while (end < text.n &&
               !(text.p[end] == '-' && (end == 0 || is_space(text.p[end - 1])) &&
                 end + 1 < text.n && !is_space(text.p[end + 1]) && text.p[end + 1] != '-'))
            end++;
        ROTOR_TRY(rag_terms_of((base_str){text.p + at, end - at}, take_term, p));
        at = end;
        while (at < text.n && !is_space(text.p[at])) at++;
    }
    return ROTOR_OK;
}

/* What stands in quotation marks is no -word, and counts more. */
static rotor_status parse_phrases(parser *p, base_str text) {
    rag_phrase f;
    size_t at = 0;
    for (; rag_next_phrase(text, at, &f); at = f.end) {
        ROTOR_TRY(parse(p, (base_str){text.p + at, f.begin - at}));
        p->count = QUOTED;
        if (!f.without) ROTOR_TRY(rag_terms_of(f.words, take_term, p));
        p->count = 1;
    }
    return parse(p, (base_str){text.p + at, text.n - at});
}

static bool wants_something(const rag_lex_query *q) {
    for (size_t i = 0; i < q->n; i++)
        if (!q->terms[i].without) return true;
    return false;
}

/* One store as it is; means of several by the number of their units. */
static void measure(parser *p) {
    double chunks = 0, docs = 0, words = 0, doc_words = 0;
    for (size_t i = 0; i < p->n; i++) {
        const rag_index *x = p->x[i];
        chunks += (double)x->n_chunks;
        docs += (double)x->n_docs;
        words += x->mean_length * (double)x->n_chunks;
        doc_words += x->mean_doc_length * (double)x->n_docs;
    }
    const bool one = p->n == 1;
    p->units = (size_t)(p->whole ? docs : chunks);
    for (size_t i = 0; i < p->n; i++) {
        rag_lex_query *q = p->q[i];
        q->n = 0;
        q->has_code = false;
        q->n_chunks = (size_t)chunks;
        q->mean = (float)(one ? p->x[0]->mean_length : words / fmax(chunks, 1));
        q->mean_doc = (float)(one ? p->x[0]->mean_doc_length : doc_words / fmax(docs, 1));
    }
}

rotor_status rag_lex_parse(rag_lex_query *const *q, const rag_index *const *x, size_t n,
                           base_str text, bool whole) {
    parser p = {.q = q, .x = x, .n = n, .whole = whole, .count = 1};
    measure(&p);
    ROTOR_TRY(parse_phrases(&p, text));
    if (wants_something(q[0])) return ROTOR_OK;
    for (size_t i = 0; i < n; i++) q[i]->n = 0;
    p.keep_stops = true;
    return parse_phrases(&p, text);
}

/* ==== Scores ================================================================================== */

static float saturate(float tf, float length, float mean) {
    return tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / mean));
}

static void add_term(const rag_index *x, const rag_lex_term *t, float mean, float *acc,
                     uint32_t *touched, size_t *n) {
    const float weight = t->idf * t->count;
    for (uint64_t i = x->at[t->id]; i < x->at[t->id + 1]; i++) {
        const uint32_t s = x->slot[i];
        const float tf = x->body[i] + HEAD * x->head[i];
        if (acc[s] == 0) touched[(*n)++] = s;
        acc[s] += weight * saturate(tf, x->length[s], mean);
    }
}

static float doc_length(const rag_index *x, uint32_t d) {
    float sum = 0;
    for (uint32_t s = 0; s < x->docs[d].n; s++) sum += x->length[x->docs[d].first + s];
    return sum;
}

static void add_term_whole(const rag_index *x, const rag_lex_term *t, float mean, float *acc,
                           uint32_t *touched, size_t *n) {
    const float weight = t->idf * t->count;
    for (uint64_t i = x->at[t->id]; i < x->at[t->id + 1];) {
        const uint32_t d = x->doc[x->slot[i]];
        float body = 0, head = 0;
        for (; i < x->at[t->id + 1] && x->doc[x->slot[i]] == d; i++) {
            body += x->body[i];
            head = fmaxf(head, x->head[i]);
        }
        if (acc[d] == 0) touched[(*n)++] = d;
        acc[d] += weight * saturate(body + HEAD * head, doc_length(x, d), mean);
    }
}

static void leave_out(const rag_index *x, uint32_t id, bool whole, float *acc) {
    for (uint64_t i = x->at[id]; i < x->at[id + 1]; i++) {
        const uint32_t u = whole ? x->doc[x->slot[i]] : x->slot[i];
        if (acc[u] > 0) acc[u] = -1;
    }
}

void rag_lex_rank(const rag_index *x, const rag_lex_query *q, bool whole, const uint8_t *allowed,
                  float *acc, uint32_t *touched, rag_rank *out, size_t *n, size_t most) {
    size_t n_touched = 0;
    for (size_t i = 0; i < q->n; i++) {
        const rag_lex_term *t = &q->terms[i];
        if (t->id == UINT32_MAX || t->without) continue;
        if (whole)
            add_term_whole(x, t, q->mean_doc, acc, touched, &n_touched);
        else
            add_term(x, t, q->mean, acc, touched, &n_touched);
    }
    for (size_t i = 0; i < q->n; i++)
        if (q->terms[i].without && q->terms[i].id != UINT32_MAX)
            leave_out(x, q->terms[i].id, whole, acc);
    *n = 0;
    for (size_t i = 0; i < n_touched; i++) {
        const uint32_t u = touched[i];
        if (acc[u] > 0 && (!allowed || allowed[u]))
            rag_rank_push(out, n, most, (rag_rank){u, acc[u]});
        acc[u] = 0;
    }
    rag_rank_sort(out, *n);
}

/* The first posting of a term from this slot on. */
static uint64_t posting_from(const rag_index *x, uint32_t id, uint32_t slot) {
    uint64_t low = x->at[id], high = x->at[id + 1];
    while (low < high) {
        const uint64_t mid = low + (high - low) / 2;
        if (x->slot[mid] < slot)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* In the order of the terms, as rag_lex_rank adds them: the same bits. */
float rag_lex_score(const rag_index *x, const rag_lex_query *q, bool whole, uint32_t unit) {
    const uint32_t first = whole ? x->docs[unit].first : unit;
    const uint32_t end = first + (whole ? x->docs[unit].n : 1);
    const float mean = whole ? q->mean_doc : q->mean;
    const float length = whole ? doc_length(x, unit) : x->length[unit];
    float sum = 0;
    for (size_t i = 0; i < q->n; i++) {
        const rag_lex_term *t = &q->terms[i];
        float body = 0, head = 0;
        if (t->id == UINT32_MAX) continue;
        for (uint64_t k = posting_from(x, t->id, first); k < x->at[t->id + 1] && x->slot[k] < end;
             k++) {
            body += x->body[k];
            head = fmaxf(head, x->head[k]);
        }
        const float tf = body + HEAD * head;
        if (tf > 0 && t->without) return 0;
        if (tf > 0) sum += t->idf * t->count * saturate(tf, length, mean);
    }
    return sum;
}

bool rag_lex_leaves_out(const rag_index *x, const rag_lex_query *q, bool whole, uint32_t unit) {
    const uint32_t first = whole ? x->docs[unit].first : unit;
    const uint32_t end = first + (whole ? x->docs[unit].n : 1);
    for (size_t i = 0; i < q->n; i++) {
        const rag_lex_term *t = &q->terms[i];
        if (!t->without || t->id == UINT32_MAX) continue;
        const uint64_t at = posting_from(x, t->id, first);
        if (at < x->at[t->id + 1] && x->slot[at] < end) return true;
    }
    return false;
}

/* In a store of few passages a word that is nowhere would weigh several times one that is
 * somewhere; as if among a thousand they weigh about alike. */
float rag_lex_coverage(const rag_index *x, const rag_lex_query *q, uint32_t slot) {
    float all = 0, here = 0;
    for (size_t i = 0; i < q->n; i++) {
        const rag_lex_term *t = &q->terms[i];
        if (t->without) continue;
        all += t->gate;
        if (t->id == UINT32_MAX) continue;
        const uint64_t at = posting_from(x, t->id, slot);
        if (at < x->at[t->id + 1] && x->slot[at] == slot) here += t->gate;
    }
    return all > 0 ? here / all : 0;
}

/* BM25's mean over the question's words by weight, a word that is there counting no less than 1
 * (the only passage that has it may be a long one); times their number to the power of LONGER,
 * since the longer a question, the less of it stands in any one passage, also in the one that
 * answers it. Of three words two are enough: shorter questions count as five words. All
 * that in parts of what a stranger's question reaches by chance, which grows with the logarithm of
 * the passages that it is held against (parts of SciFact, of 250 to 8,700 passages). */
float rag_lex_match(const rag_index *x, const rag_lex_query *q, uint32_t slot) {
    const float by_chance = CHANCE * (logf(fmaxf((float)q->n_chunks, FEW)) + CHANCE_FIRST);
    float all = 0, here = 0, n = 0;
    for (size_t i = 0; i < q->n; i++) {
        const rag_lex_term *t = &q->terms[i];
        if (t->without) continue;
        n++;
        all += t->gate * t->count;
        if (t->id == UINT32_MAX) continue;
        const uint64_t at = posting_from(x, t->id, slot);
        if (at == x->at[t->id + 1] || x->slot[at] != slot) continue;
        const float tf = x->body[at] + HEAD * x->head[at];
        here += t->gate * t->count * fmaxf(1, saturate(tf, x->length[slot], q->mean));
    }
    return all > 0 ? here / all * powf(fmaxf(n, SHORT), LONGER) / by_chance : 0;
}
