/* SPDX-License-Identifier: MIT
 *
 * Searching: two legs, their fusion, and what a reader gets to see of it.
 *
 * Words and vectors each name their best hundred. Every one of them is then scored by both, since
 * a passage that one leg ranks 101st is not worth nothing. Fusion is convex (the default): each
 * leg's scores are stretched over what it found and added with weights; or RRF, by ranks alone.
 *
 * Everything is deterministic: equal scores are ordered by the passages' numbers.
 */
#include "rag/rag_internal.h"

#include <math.h>
#include <stdlib.h>

static const float VECTOR_SHARE = 0.5f, RRF_K = 60, MMR = 0.7f, SAME = 0.97f;
enum { PER_DOC = 3 };

/* ==== Asking ================================================================================== */

static rotor_status embed_query(rag *r, base_str text, rag_asked *q, rotor_error *err) {
    const rag_index *x = &r->x;
    const uint64_t start = base_now_us();
    if (r->embedder.dims != x->dims)
        return base_fail(err, ROTOR_E_FORMAT, "%s: damaged: vectors of %zu floats, %s makes %zu",
                         r->folder, x->dims, r->embedder.name, r->embedder.dims);
    if (!rag_vec_query_make(&q->vec, x)) return base_fail_nomem(err, "searching");
    ROTOR_TRY(r->embedder.embed(r->embedder.user, &text, 1, q->vec.x, err));
    if (!rag_vec_query_pack(&q->vec, x))
        return base_fail(err, ROTOR_E_FORMAT, "%s gives the question a vector without length",
                         r->embedder.name);
    q->embed_us = base_now_us() - start;
    return ROTOR_OK;
}

/* Vectors there are, and of the embedder's model; else one line says why not. */
static bool vectors_fit(rag *r) {
    int64_t model;
    rotor_error why = {0};
    if (!r->embedder.embed || !r->x.n_vectors) return false;
    if (rag_check_model(r, &model, &why) == ROTOR_OK) return true;
    if (!r->told) base_log_printf(&r->log, BASE_LOG_WARN, "%s", why.message);
    r->told = true;
    return false;
}

rotor_status rag_ask_prepare(rag *r, base_str text, rag_asked *q, bool *degraded,
                             rotor_error *err) {
    *degraded = false;
    if (rag_lex_parse(&q->lex, &r->x, text, q->whole) != ROTOR_OK)
        return base_fail_nomem(err, "searching");
    if (q->mode == RAG_LEXICAL || !text.n) return ROTOR_OK;
    if (vectors_fit(r)) return embed_query(r, text, q, err);
    *degraded = true;
    if (q->mode == RAG_HYBRID) return ROTOR_OK;
    return base_fail(err, ROTOR_E_STATE,
                     "%s has no vectors of this model: rotor rag add %s PATH --embed-model MODEL, "
                     "or search with --mode lexical",
                     r->folder, r->folder);
}

void rag_ask_free(rag_asked *q) { rag_vec_query_free(&q->vec); }

/* ==== Legs ==================================================================================== */

static rag_candidate *find(rag_candidate *list, size_t n, uint32_t unit) {
    for (size_t i = 0; i < n; i++)
        if (list[i].unit == unit) return &list[i];
    return NULL;
}

static rag_candidate *find_or_add(rag_candidate *list, size_t *n, uint32_t unit) {
    rag_candidate *c = find(list, *n, unit);
    if (c || *n == RAG_MAX_CANDIDATES) return c;
    list[*n] = (rag_candidate){.unit = unit, .slot = unit};
    return &list[(*n)++];
}

static void words_leg(rag *r, rag_asked *q, rag_candidate *out, size_t *n) {
    rag_rank found[RAG_LEG];
    size_t n_found;
    rag_lex_rank(&r->x, &q->lex, q->whole, q->whole ? NULL : q->allowed, r->acc, r->touched, found,
                 &n_found, RAG_LEG);
    for (size_t i = 0; i < n_found; i++) {
        rag_candidate *c = find_or_add(out, n, found[i].unit);
        if (!c) return;
        c->lex = found[i].score;
        c->rank_lex = (uint32_t)i + 1;
    }
}

static bool leaves_something_out(const rag_asked *q) {
    for (size_t i = 0; q->mode == RAG_HYBRID && i < q->lex.n; i++)
        if (q->lex.terms[i].without) return true;
    return false;
}

/* Documents rank by their best passage. */
static void vector_leg(rag *r, rag_asked *q, rag_candidate *out, size_t *n) {
    enum { MORE = 4 }; /* passages of a document may stand side by side */
    rag_rank found[RAG_LEG * MORE];
    const bool without = leaves_something_out(q);
    size_t n_found;
    uint32_t rank = 0;
    q->vec.near = r->near;
    rag_vec_rank(&r->x, &r->k, &q->vec, q->allowed, found, &n_found,
                 q->whole || without ? RAG_LEG * MORE : RAG_LEG);
    for (size_t i = 0; i < n_found && rank < RAG_LEG; i++) {
        const uint32_t unit = q->whole ? r->x.doc[found[i].unit] : found[i].unit;
        if (without && rag_lex_leaves_out(&r->x, &q->lex, q->whole, unit)) continue;
        rag_candidate *c = find_or_add(out, n, unit);
        if (!c) return;
        if (c->rank_vec) continue; /* a worse passage of the same document */
        c->rank_vec = ++rank;
        c->cosine = found[i].score;
        c->slot = found[i].unit;
    }
}

/* What the legs did not say of one another's finds. */
static void fill_in(rag *r, const rag_asked *q, rag_candidate *c) {
    const rag_index *x = &r->x;
    const uint32_t first = q->whole ? x->docs[c->unit].first : c->unit;
    const uint32_t n = q->whole ? x->docs[c->unit].n : 1;
    if (!c->rank_lex) c->lex = rag_lex_score(x, &q->lex, q->whole, c->unit);
    if (!q->vec.x || c->rank_vec) return;
    c->cosine = -1;
    for (uint32_t s = first; s < first + n; s++) {
        const float cosine = x->scale[s] > 0 ? rag_vec_cosine(x, q->vec.x, s) : -1;
        if (cosine > c->cosine) {
            c->cosine = cosine;
            c->slot = s;
        }
    }
}

/* ==== Fusion ================================================================================== */

typedef struct range {
    float low, high; /* of a leg's scores */
} range;

static range range_of(const rag_candidate *c, size_t n, bool lex) {
    range r = {INFINITY, -INFINITY};
    for (size_t i = 0; i < n; i++) {
        const float v = lex ? c[i].lex : c[i].cosine;
        r.low = fminf(r.low, v);
        r.high = fmaxf(r.high, v);
    }
    return r;
}

static float within(range r, float v) {
    return r.high > r.low ? (v - r.low) / (r.high - r.low) : 0;
}

static float reciprocal(uint32_t rank, float weight) {
    return rank ? weight * (RRF_K + 1) / (RRF_K + (float)rank) : 0;
}

static void fuse(const rag_asked *q, rag_candidate *c, size_t n) {
    const range lex = range_of(c, n, true), vec = range_of(c, n, false);
    for (size_t i = 0; i < n; i++) {
        if (q->mode == RAG_VECTOR)
            c[i].score = c[i].cosine;
        else if (!q->vec.x)
            c[i].score = lex.high > 0 ? c[i].lex / lex.high : 0;
        else if (q->fusion == RAG_RRF)
            c[i].score = (reciprocal(c[i].rank_vec, 1) +
                          reciprocal(c[i].rank_lex, q->lex.has_code ? 2 : 1)) /
                         (q->lex.has_code ? 3 : 2);
        else
            c[i].score = VECTOR_SHARE * within(vec, c[i].cosine) +
                         (1 - VECTOR_SHARE) * within(lex, c[i].lex);
    }
}

static int better(const void *a, const void *b) {
    const rag_candidate *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    if (x->cosine != y->cosine) return x->cosine < y->cosine ? 1 : -1;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

rotor_status rag_candidates(rag *r, rag_asked *q, rag_candidate *out, size_t *n, rotor_error *err) {
    (void)err;
    *n = 0;
    const uint64_t start = base_now_us();
    if (q->mode != RAG_VECTOR) words_leg(r, q, out, n);
    const uint64_t words = base_now_us();
    if (q->vec.x) vector_leg(r, q, out, n);
    const uint64_t vectors = base_now_us();
    for (size_t i = 0; i < *n; i++)
        if (q->mode == RAG_HYBRID) fill_in(r, q, &out[i]);
    fuse(q, out, *n);
    qsort(out, *n, sizeof *out, better);
    q->lex_us = words - start;
    q->vec_us = vectors - words;
    q->fuse_us = base_now_us() - vectors;
    return ROTOR_OK;
}

/* ==== What is shown =========================================================================== */

static size_t count_docs(const rag_index *x, const rag_candidate *c, size_t n) {
    size_t docs = 0;
    for (size_t i = 0; i < n; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) seen = x->doc[c[j].unit] == x->doc[c[i].unit];
        docs += !seen;
    }
    return docs;
}

static float likeness(const rag *r, uint32_t a, uint32_t b) {
    const rag_index *x = &r->x;
    return x->high && x->scale[a] > 0 && x->scale[b] > 0 ? rag_vec_between(x, &r->k, a, b) : 0;
}

/* How much c adds to what is chosen; below zero: nothing. */
static float worth(const rag *r, const rag_candidate *c, const rag_chosen *list, size_t n,
                   size_t per_doc) {
    float most = 0;
    size_t same_doc = 0;
    for (size_t i = 0; i < n; i++) {
        const float like = likeness(r, c->unit, list[i].c.unit);
        const bool together = r->x.doc[c->unit] == r->x.doc[list[i].c.unit];
        same_doc += together;
        if (!together && like >= SAME) return -1;
        most = fmaxf(most, like);
    }
    if (same_doc >= per_doc) return -1;
    return MMR * c->score + (1 - MMR) * (1 - most);
}

/* Maximal marginal relevance: next comes what is relevant and not yet said. */
static size_t choose(const rag *r, const rag_candidate *c, size_t n, const rag_query *opt,
                     rag_chosen *out) {
    const size_t per_doc = count_docs(&r->x, c, n) >= PER_DOC ? PER_DOC : n;
    bool taken[RAG_MAX_CANDIDATES] = {false};
    size_t n_out = 0;
    while (n_out < opt->k) {
        size_t best = SIZE_MAX;
        float best_worth = 0;
        for (size_t i = 0; i < n; i++) {
            if (taken[i]) continue;
            const float w = opt->plain ? 1 : worth(r, &c[i], out, n_out, per_doc);
            if (w > best_worth) best = i, best_worth = w;
        }
        if (best == SIZE_MAX) return n_out;
        taken[best] = true;
        out[n_out++] = (rag_chosen){c[best], c[best].unit, c[best].unit};
    }
    return n_out;
}

/* Neighbours in a document become one passage, in the place of the better one. */
static size_t join_neighbours(const rag_index *x, rag_chosen *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            if (x->doc[list[i].first] != x->doc[list[j].first]) continue;
            if (list[j].first != list[i].last + 1 && list[j].last + 1 != list[i].first) continue;
            list[i].first = BASE_MIN(list[i].first, list[j].first);
            list[i].last = BASE_MAX(list[i].last, list[j].last);
            memmove(list + j, list + j + 1, (n - j - 1) * sizeof *list);
            n--;
            j = i; /* what has grown may have new neighbours */
        }
    return n;
}

void rag_hit_free(rag_hit *h) {
    base_free(h->path);
    base_free(h->id);
    base_free(h->title);
    base_free(h->heading);
    base_free(h->text);
}

static rotor_status widen(rag *r, const rag_chosen *c, rag_hit *h, rotor_error *err) {
    rag_hit end = {0};
    base_buf text = {0};
    if (c->first == c->last) return ROTOR_OK;
    rotor_status st = rag_db_read_hit(r->db, r->x.chunk[c->last], &end, err);
    if (st == ROTOR_OK)
        st = rag_db_read_text(r->db, r->x.chunk[c->first], h->begin, end.end, &text, err);
    if (st == ROTOR_OK) {
        base_free(h->text);
        h->text = text.data;
        text.data = NULL;
        h->end = end.end;
        h->last_line = end.last_line;
        h->last_page = end.last_page;
    }
    base_buf_free(&text);
    rag_hit_free(&end);
    return st;
}

static rotor_status read_hits(rag *r, const rag_chosen *list, size_t n, rag_hits *out,
                              rotor_error *err) {
    out->hits = base_alloc_array(BASE_MAX(n, (size_t)1), sizeof *out->hits);
    if (!out->hits) return base_fail_nomem(err, "searching");
    for (size_t i = 0; i < n; i++) {
        rag_hit *h = &out->hits[out->n++];
        ROTOR_TRY(rag_db_read_hit(r->db, r->x.chunk[list[i].first], h, err));
        ROTOR_TRY(widen(r, &list[i], h, err));
        h->chunk = r->x.chunk[list[i].c.unit];
        h->first = list[i].first;
        h->last = list[i].last;
        h->score = list[i].c.score;
        h->bm25 = list[i].c.lex;
        h->cosine = list[i].c.cosine;
        h->rank_lex = list[i].c.rank_lex;
        h->rank_vec = list[i].c.rank_vec;
    }
    return ROTOR_OK;
}

/* Of passages that are candidates; the words of the first in their leg, else of the first. */
static void judge(rag *r, const rag_asked *q, const rag_candidate *c, size_t n, rag_hits *out) {
    const rag_candidate *best = c;
    for (size_t i = 0; i < n; i++) {
        out->best_cosine = fmaxf(out->best_cosine, q->vec.x ? c[i].cosine : 0);
        if (c[i].rank_lex == 1) best = &c[i];
    }
    if (n) {
        out->coverage = rag_lex_coverage(&r->x, &q->lex, best->unit);
        out->match = rag_lex_match(&r->x, &q->lex, best->unit);
    }
    out->relevant =
        n && rag_is_relevant(&rag_gate_default, q->vec.x != NULL, out->best_cosine, out->match);
}

rotor_status rag_judge(rag *r, base_str text, rag_mode mode, rag_hits *out, rotor_error *err) {
    rag_candidate found[RAG_MAX_CANDIDATES];
    rag_asked q = {.mode = mode};
    size_t n = 0;
    memset(out, 0, sizeof *out);
    rotor_status st = rag_ask_prepare(r, text, &q, &out->lexical_only, err);
    if (st == ROTOR_OK) st = rag_candidates(r, &q, found, &n, err);
    if (st == ROTOR_OK) judge(r, &q, found, n, out);
    rag_ask_free(&q);
    return st;
}

rotor_status rag_choose(rag *r, rag_asked *q, const rag_query *opt, rag_hits *out, rag_chosen *list,
                        size_t *n, rotor_error *err) {
    rag_candidate found[RAG_MAX_CANDIDATES];
    size_t n_found;
    ROTOR_TRY(rag_candidates(r, q, found, &n_found, err));
    judge(r, q, found, n_found, out);
    const uint64_t start = base_now_us();
    *n = choose(r, found, n_found, opt, list);
    if (!opt->plain) *n = join_neighbours(&r->x, list, *n);
    out->embed_us = q->embed_us;
    out->lex_us = q->lex_us;
    out->vec_us = q->vec_us;
    out->fuse_us = q->fuse_us + base_now_us() - start;
    return ROTOR_OK;
}

static rotor_status search(rag *r, base_str query, const rag_query *opt, rag_asked *q,
                           rag_hits *out, rotor_error *err) {
    rag_chosen list[RAG_MAX_CANDIDATES];
    size_t n;
    ROTOR_TRY(rag_ask_prepare(r, query, q, &out->lexical_only, err));
    ROTOR_TRY(rag_choose(r, q, opt, out, list, &n, err));
    return read_hits(r, list, n, out, err);
}

rotor_status rag_search_here(rag *r, base_str query, const rag_query *opt, rag_hits *out,
                             rotor_error *err) {
    rag_asked q = {.mode = opt->mode, .fusion = opt->fusion};
    rag_query limited = *opt;
    uint8_t *allowed = NULL;
    memset(out, 0, sizeof *out);
    limited.k = BASE_MIN(opt->k, (size_t)RAG_LEG);
    rotor_status st = rag_filter(&r->x, opt->filter, opt->n_filter, &allowed, err);
    if (st == ROTOR_OK && opt->quoted) st = rag_keep_phrases(r, query, &allowed, err);
    q.allowed = allowed;
    if (st == ROTOR_OK) st = search(r, query, &limited, &q, out, err);
    rag_ask_free(&q);
    base_free(allowed);
    if (st != ROTOR_OK) rag_hits_free(out);
    return st;
}

/* All that is read is of one state of the database, whoever changes it meanwhile. */
rotor_status rag_search(rag *r, base_str query, const rag_query *opt, rag_hits *out,
                        rotor_error *err) {
    rag_query exact = *opt;
    exact.quoted = true;
    memset(out, 0, sizeof *out);
    rotor_status st = rag_db_look(r->db, err);
    if (st == ROTOR_OK) st = rag_sync(r, err);
    if (st == ROTOR_OK) st = rag_search_here(r, query, &exact, out, err);
    rag_db_look_end(r->db);
    return st;
}

void rag_hits_free(rag_hits *h) {
    for (size_t i = 0; h->hits && i < h->n; i++) rag_hit_free(&h->hits[i]);
    base_free(h->hits);
    h->hits = NULL;
    h->n = 0;
}
