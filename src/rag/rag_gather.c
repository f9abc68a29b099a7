/* SPDX-License-Identifier: MIT
 *
 * From a question to what a model is given: searches, sorts out, fits into a budget of tokens, and
 * spends what is left of it on the neighbours of what was found.
 *
 * A question that follows up ("and how much does it cost?") is searched for twice, alone and with
 * what was asked before; both lists are joined by ranks. That rule needs no model. Where a model
 * has written the question so that it stands alone (rag_rewrite.c), that is searched for instead of
 * what was asked before. A reranker judges both lists by the same text, the one that says more. All
 * reads are of one state of the store.
 */
#include "rag/rag_internal.h"
#include "rag/rag_words.h"

#include <stdlib.h>

enum { FEW_WORDS = 6, EARLIER = 2, EARLIER_BYTES = 600, MAX_SOURCES = 20, LISTS = 2 };
static const float RANK_K = 60, WEAK = 0.25f;

/* ==== What a question is ====================================================================== */

static rotor_status count_content(void *user, const rag_term *t) {
    if (!t->stop && !t->extra) ++*(size_t *)user;
    return ROTOR_OK;
}

size_t rag_content_words(base_str text) {
    size_t n = 0;
    rag_terms_of(text, count_content, &n);
    return n;
}

/* The first word, in lower case; "" when it is longer than any that is looked for. */
static void first_word(base_str s, char out[12]) {
    size_t n = 0, at = 0;
    while (at < s.n && !(((s.p[at] | 32) >= 'a' && (s.p[at] | 32) <= 'z'))) at++;
    for (; at < s.n && (s.p[at] | 32) >= 'a' && (s.p[at] | 32) <= 'z'; at++) {
        if (n == 11)
            n = 0, s.n = at;
        else
            out[n++] = (char)(s.p[at] | 32);
    }
    out[n] = 0;
}

/* Words that point back at what was said. */
static bool points_back(base_str question) {
    static const char *const words[] = {"and",  "but",  "or",    "so",   "it",   "its",   "they",
                                        "them", "he",   "she",   "this", "that", "these", "those",
                                        "then", "also", "there", "his",  "her",  "their", "why"};
    char word[12];
    first_word(question, word);
    return rag_is_one_of(word, words, BASE_COUNT(words));
}

/* ==== Searching =============================================================================== */

typedef struct found {
    rag_hit hit; /* owned while it is here */
    float rank;  /* joined rank, higher is better */
} found;

typedef struct gatherer {
    rag *const *stores;          /* [n_stores], in a look */
    size_t n_stores;             /* how many */
    float best[RAG_MAX_STORES];  /* cosine that any passage has by a store's model */
    const rag_ask *a;            /* what is wanted */
    rag_query query;             /* how to search */
    found list[LISTS * RAG_LEG]; /* [n] what the searches found */
    size_t n;                    /* how many */
    size_t left_tok;             /* of the budget */
    bool cut;                    /* the first source is a passage's beginning only */
    rag_context *out;            /* what is being made */
} gatherer;

static bool overlaps(const rag_hit *a, const rag_hit *b) {
    return a->store == b->store && a->first <= b->last && b->first <= a->last;
}

/* Takes the hits over; one that overlaps an earlier one adds to its rank. */
static void take_hits(gatherer *g, rag_hits *h, float weight) {
    for (size_t i = 0; i < h->n; i++) {
        const float rank = weight / (RANK_K + (float)i + 1);
        size_t k = 0;
        float *best = &g->best[h->hits[i].store];
        *best = BASE_MAX(*best, h->hits[i].best);
        while (k < g->n && !overlaps(&g->list[k].hit, &h->hits[i])) k++;
        if (k < g->n) {
            g->list[k].rank += rank;
            rag_hit_free(&h->hits[i]);
        } else {
            g->list[g->n++] = (found){h->hits[i], rank};
        }
    }
    h->n = 0;
    g->out->relevant |= h->relevant;
    g->out->lexical_only |= h->lexical_only;
    g->out->rerank_failed |= h->rerank_failed;
    g->out->best_cosine = BASE_MAX(g->out->best_cosine, h->best_cosine);
    g->out->coverage = BASE_MAX(g->out->coverage, h->coverage);
    g->out->match = BASE_MAX(g->out->match, h->match);
}

static rotor_status search(gatherer *g, base_str query, float weight, rotor_error *err) {
    rag_hits h;
    ROTOR_TRY(rag_search_here(g->stores, g->n_stores, query, &g->query, &h, err));
    take_hits(g, &h, weight);
    rag_hits_free(&h);
    return ROTOR_OK;
}

/* The question with the newest of what was asked before. */
static rotor_status with_earlier(const gatherer *g, base_str question, base_buf *b,
                                 rotor_error *err) {
    const size_t n = g->a->n_earlier, from = n > EARLIER ? n - EARLIER : 0;
    base_buf_append(b, question.p, question.n);
    for (size_t i = from; i < n; i++) base_buf_printf(b, "\n%.*s", EARLIER_BYTES, g->a->earlier[i]);
    return b->failed ? base_fail_nomem(err, "searching") : ROTOR_OK;
}

static int better(const void *a, const void *b) {
    const found *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? 1 : -1;
    if (x->hit.store != y->hit.store) return x->hit.store < y->hit.store ? -1 : 1;
    return (x->hit.first > y->hit.first) - (x->hit.first < y->hit.first);
}

/* The question alone, and what says more than it (n 0: nothing does). */
static rotor_status search_both(gatherer *g, base_str question, base_str more, float weight,
                                rotor_error *err) {
    g->query.judged_by = more;
    ROTOR_TRY(search(g, question, 1, err));
    if (more.n) ROTOR_TRY(search(g, more, weight, err));
    qsort(g->list, g->n, sizeof *g->list, better);
    return ROTOR_OK;
}

static rotor_status find(gatherer *g, base_str question, rotor_error *err) {
    enum { BACK = 2 };
    rag_context *out = g->out;
    const base_str alone = g->a->rewritten;
    const bool back = points_back(question);
    const bool follows = g->a->n_earlier && (back || rag_content_words(question) < FEW_WORDS);
    base_buf more = {0};
    g->query = g->a->query;
    out->rewritten = alone.n && !base_str_eq(alone, question);
    out->followed_up = follows && !out->rewritten;
    const base_str query = out->rewritten ? alone : question;
    out->query = base_strndup(query.p, query.n);
    if (!out->query) return base_fail_nomem(err, "searching");
    if (out->rewritten) return search_both(g, question, alone, BACK, err);
    rotor_status st = follows ? with_earlier(g, question, &more, err) : ROTOR_OK;
    if (st == ROTOR_OK)
        st = search_both(g, question, (base_str){more.data, more.len}, back ? BACK : 1, err);
    base_buf_free(&more);
    return st;
}

/* ==== Fitting ================================================================================= */

static size_t count(const gatherer *g, base_str text) {
    return g->a->count ? g->a->count(g->a->user, text) : rag_tokens_about(text);
}

static size_t count_quoted(const gatherer *g, size_t number, const rag_hit *h) {
    base_buf b = {0};
    rag_quote(&b, number, h);
    const size_t n = b.data ? count(g, (base_str){b.data, b.len}) : SIZE_MAX;
    base_buf_free(&b);
    return n;
}

/* Far from the best in meaning, and without one of its words. */
static bool is_weak(const gatherer *g, const rag_hit *h) {
    const float best = g->best[h->store];
    return best > 0 && !h->rank_lex && h->cosine < best - WEAK;
}

/* The last end of a sentence or line before byte n; 0: there is none. */
static size_t cut_before(const char *s, size_t n) {
    while (n > 1) {
        n--;
        if (s[n] == '\n') return n;
        if (s[n] == ' ' && strchr(".!?", s[n - 1])) return n;
    }
    return 0;
}

static uint32_t count_lines(const char *s) {
    uint32_t n = 0;
    while ((s = strchr(s, '\n'))) n++, s++;
    return n;
}

/* Cuts the best passage behind a sentence until it fits. False: not even its first one does. Its
 * last page stays what it was: where in the text a page ends is not known here. */
static bool shorten(gatherer *g, rag_hit *h) {
    for (size_t n = cut_before(h->text, strlen(h->text)); n; n = cut_before(h->text, n)) {
        h->text[n] = 0;
        h->end = BASE_MIN(h->end, h->begin + n);
        h->last_line = BASE_MIN(h->last_line, h->line + count_lines(h->text));
        if (count_quoted(g, 1, h) <= g->left_tok) return g->cut = true;
    }
    return false;
}

static rotor_status choose(gatherer *g, rotor_error *err) {
    rag_context *out = g->out;
    const size_t most = BASE_MIN(g->a->max_sources, (size_t)MAX_SOURCES);
    out->sources = base_alloc_array(BASE_MAX(most, (size_t)1), sizeof *out->sources);
    if (!out->sources) return base_fail_nomem(err, "asking");
    for (size_t i = 0; i < g->n && out->n < most; i++) {
        rag_hit *h = &g->list[i].hit;
        if (is_weak(g, h)) continue;
        if (count_quoted(g, out->n + 1, h) > g->left_tok && (out->n || !shorten(g, h))) continue;
        g->left_tok -= count_quoted(g, out->n + 1, h);
        out->sources[out->n++].hit = *h;
        memset(h, 0, sizeof *h); /* it is the source's now */
    }
    return ROTOR_OK;
}

/* ==== Neighbours ============================================================================== */

static bool is_taken(const gatherer *g, uint32_t store, uint32_t slot) {
    for (size_t i = 0; i < g->out->n; i++) {
        const rag_hit *h = &g->out->sources[i].hit;
        if (store == h->store && slot >= h->first && slot <= h->last) return true;
    }
    return false;
}

/* Joins the passage beside h to it. */
static rotor_status join(gatherer *g, rag_hit *h, rag_hit *beside, bool behind, rotor_error *err) {
    base_buf text = {0};
    const uint64_t begin = behind ? h->begin : beside->begin, end = behind ? beside->end : h->end;
    ROTOR_TRY(rag_db_read_text(g->stores[h->store]->db, h->chunk, begin, end, &text, err));
    base_free(h->text);
    h->text = text.data;
    h->begin = begin;
    h->end = end;
    if (behind) {
        h->last++;
        h->last_line = beside->last_line;
        h->last_page = beside->last_page;
    } else {
        h->first--;
        h->line = beside->line;
        h->page = beside->page;
    }
    return ROTOR_OK;
}

static rotor_status widen(gatherer *g, rag_hit *h, bool behind, rotor_error *err) {
    rag *r = g->stores[h->store];
    const rag_index *x = &r->x;
    if (!behind && !h->first) return ROTOR_OK;
    const uint32_t slot = behind ? h->last + 1 : h->first - 1;
    rag_hit beside = {0};
    if (slot >= x->n_chunks || x->doc[slot] != x->doc[h->first] || is_taken(g, h->store, slot))
        return ROTOR_OK;
    rotor_status st = rag_db_read_hit(r->db, x->chunk[slot], &beside, err);
    if (st == ROTOR_OK && strcmp(beside.heading, h->heading) == 0) {
        const size_t n = count(g, base_str_of(beside.text)) + 2;
        if (n <= g->left_tok) {
            g->left_tok -= n;
            st = join(g, h, &beside, behind, err);
        }
    }
    rag_hit_free(&beside);
    return st;
}

static rotor_status widen_all(gatherer *g, rotor_error *err) {
    for (size_t i = 0; i < g->out->n; i++) {
        rag_hit *h = &g->out->sources[i].hit;
        if (g->cut && !i) continue; /* there was no room for all of it */
        ROTOR_TRY(widen(g, h, true, err));
        ROTOR_TRY(widen(g, h, false, err));
    }
    return ROTOR_OK;
}

/* ==== All of it =============================================================================== */

static rotor_status gather(gatherer *g, base_str question, rotor_error *err) {
    ROTOR_TRY(find(g, question, err));
    ROTOR_TRY(choose(g, err));
    ROTOR_TRY(widen_all(g, err));
    for (size_t i = 0; i < g->out->n; i++)
        g->out->sources[i].suspicious = rag_gives_orders(base_str_of(g->out->sources[i].hit.text));
    return rag_write_turn(g->out, question, err);
}

rotor_status rag_gather(rag *const *stores, size_t n, base_str question, const rag_ask *a,
                        rag_context *out, rotor_error *err) {
    const uint64_t start = base_now_us();
    gatherer *g = base_alloc(sizeof *g);
    memset(out, 0, sizeof *out);
    if (!g) return base_fail_nomem(err, "asking");
    *g = (gatherer){.stores = stores, .n_stores = n, .a = a, .left_tok = a->budget_tok, .out = out};
    rotor_status st = rag_look_all(stores, n, err);
    if (st == ROTOR_OK) st = gather(g, question, err);
    rag_look_end_all(stores, n);
    for (size_t i = 0; i < g->n; i++) rag_hit_free(&g->list[i].hit);
    out->n_tok = a->budget_tok - g->left_tok;
    out->search_us = base_now_us() - start;
    base_free(g);
    if (st != ROTOR_OK) rag_context_free(out);
    return st;
}

void rag_context_free(rag_context *c) {
    for (size_t i = 0; i < c->n; i++) rag_hit_free(&c->sources[i].hit);
    base_free(c->sources);
    base_free(c->rules);
    base_free(c->turn);
    base_free(c->query);
    memset(c, 0, sizeof *c);
}
