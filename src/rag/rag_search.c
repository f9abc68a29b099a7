/* SPDX-License-Identifier: MIT
 *
 * Searching: two legs, their fusion, and what a reader gets to see of it.
 *
 * Words and vectors each name their best hundred. Every one of them is then scored by both, since
 * a passage that one leg ranks 101st is not worth nothing. Fusion is convex (the default): each
 * leg's scores are stretched over what it found and added with weights; or RRF, by ranks alone.
 *
 * Several stores are searched as one: their words weigh by all passages together (rag_lex.c), so
 * that a score of one says the same as a score of another, and ranks and ranges are made anew over
 * what all of them found. Only vectors of different models cannot be compared: each model's cosines
 * are stretched by themselves.
 *
 * What is found may be judged once more, by a model that reads it (rag_rerank.c).
 *
 * Everything is deterministic: equal scores are ordered by the stores' and the passages' numbers.
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

/* The question's vector of another store that has vectors of the same model. */
static rotor_status take_vector(const rag *r, const rag_asked *from, rag_asked *q,
                                rotor_error *err) {
    const rag_index *x = &r->x;
    if (!rag_vec_query_make(&q->vec, x)) return base_fail_nomem(err, "searching");
    memcpy(q->vec.x, from->vec.x, x->dims * sizeof *q->vec.x);
    rag_vec_query_pack(&q->vec, x); /* it has a length: that of from */
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

static rotor_status parse(rag *const *stores, size_t n, base_str text, rag_asked *q,
                          rotor_error *err) {
    rag_lex_query *lex[RAG_MAX_STORES];
    const rag_index *x[RAG_MAX_STORES];
    for (size_t i = 0; i < n; i++) {
        lex[i] = &q[i].lex;
        x[i] = &stores[i]->x;
    }
    if (rag_lex_parse(lex, x, n, text, q->whole) == ROTOR_OK) return ROTOR_OK;
    return base_fail_nomem(err, "searching");
}

/* Which stores have vectors of one model. */
static rotor_status find_groups(rag *const *stores, size_t n, rag_asked *q, rotor_error *err) {
    uint8_t prints[RAG_MAX_STORES][RAG_HASH] = {{0}};
    for (size_t i = 0; i < n; i++) {
        const rag_index *x = &stores[i]->x;
        int64_t model = 0;
        q[i].group = x->high ? (uint32_t)i : RAG_NO_GROUP;
        if (!x->high || n == 1) continue;
        ROTOR_TRY(rag_db_get_model(stores[i]->db, &model, prints[i], err));
        for (size_t k = 0; k < i; k++)
            if (q[k].group == k && stores[k]->x.dims == x->dims &&
                memcmp(prints[k], prints[i], RAG_HASH) == 0)
                q[i].group = (uint32_t)k;
    }
    return ROTOR_OK;
}

static const rag_asked *embedded(const rag_asked *q, size_t n, uint32_t group) {
    for (size_t i = 0; i < n; i++)
        if (q[i].group == group && q[i].vec.x) return &q[i];
    return NULL;
}

/* A model on a server that does not answer: a hybrid search goes by words, and one line says so. */
static rotor_status embed_if_reached(rag *r, base_str text, rag_asked *q, bool hybrid,
                                     rotor_error *err) {
    rotor_error why = {0};
    const rotor_status st = embed_query(r, text, q, &why);
    if (st == ROTOR_OK) return st;
    rag_vec_query_free(&q->vec);
    if (st != ROTOR_E_IO || !hybrid) return base_fail(err, st, "%s", why.message);
    base_log_printf(&r->log, BASE_LOG_WARN, "%s is searched by words only: %s", r->folder,
                    why.message);
    return ROTOR_OK;
}

/* Once for each model, whichever store has it open. */
static rotor_status embed_all(rag *const *stores, size_t n, base_str text, rag_asked *q,
                              rotor_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!embedded(q, n, q[i].group) && vectors_fit(stores[i]))
            ROTOR_TRY(embed_if_reached(stores[i], text, &q[i], q->mode == RAG_HYBRID, err));
    for (size_t i = 0; i < n; i++) {
        const rag_asked *from = q[i].vec.x ? NULL : embedded(q, n, q[i].group);
        if (from && q[i].group != RAG_NO_GROUP) ROTOR_TRY(take_vector(stores[i], from, &q[i], err));
    }
    return ROTOR_OK;
}

rotor_status rag_ask_prepare(rag *const *stores, size_t n, base_str text, rag_asked *q,
                             bool *degraded, rotor_error *err) {
    *degraded = false;
    ROTOR_TRY(parse(stores, n, text, q, err));
    ROTOR_TRY(find_groups(stores, n, q, err));
    if (q->mode == RAG_LEXICAL || !text.n) return ROTOR_OK;
    ROTOR_TRY(embed_all(stores, n, text, q, err));
    for (size_t i = 0; i < n; i++) {
        if (q[i].vec.x || (n > 1 && !stores[i]->x.n_chunks)) continue;
        *degraded = true;
        if (q->mode == RAG_HYBRID) continue;
        return base_fail(err, ROTOR_E_STATE,
                         "%s has no vectors of this model: rotor rag add %s PATH --embed-model "
                         "MODEL, or search with --mode lexical",
                         stores[i]->folder, stores[i]->folder);
    }
    for (size_t i = 0; i < n; i++) ROTOR_TRY(rag_near_ask(stores[i], &q[i], err));
    return ROTOR_OK;
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

bool rag_leaves_something_out(const rag_asked *q) {
    for (size_t i = 0; q->mode == RAG_HYBRID && i < q->lex.n; i++)
        if (q->lex.terms[i].without) return true;
    return false;
}

/* Documents rank by their best passage. */
static void vector_leg(rag *r, rag_asked *q, rag_candidate *out, size_t *n) {
    enum { MORE = 4 }; /* passages of a document may stand side by side */
    rag_rank found[RAG_LEG * MORE];
    const bool without = rag_leaves_something_out(q);
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

static void stretch(range *r, float v) {
    r->low = fminf(r->low, v);
    r->high = fmaxf(r->high, v);
}

static float within(range r, float v) {
    return r.high > r.low ? (v - r.low) / (r.high - r.low) : 0;
}

static float reciprocal(uint32_t rank, float weight) {
    return rank ? weight * (RRF_K + 1) / (RRF_K + (float)rank) : 0;
}

/* Joined ranks, best 1; without a vector by words alone. */
static float by_ranks(const rag_asked *q, const rag_candidate *c) {
    const float weight = q->lex.has_code ? 2 : 1;
    if (!q->vec.x) return reciprocal(c->rank_lex, 1);
    return (reciprocal(c->rank_vec, 1) + reciprocal(c->rank_lex, weight)) / (weight + 1);
}

/* q[n_stores]. A store without a vector of the question counts by words, beside others that have
 * one; if none has one, by its part of the best. */
static void fuse(const rag_asked *q, size_t n_stores, rag_candidate *c, size_t n) {
    range lex = {INFINITY, -INFINITY}, vec[RAG_MAX_STORES];
    size_t n_models = 0;
    for (size_t i = 0; i < n_stores; i++) {
        vec[i] = (range){INFINITY, -INFINITY};
        n_models += q[i].vec.x && q[i].group == i;
    }
    for (size_t i = 0; i < n; i++) {
        stretch(&lex, c[i].lex);
        if (q[c[i].store].vec.x) stretch(&vec[c[i].group], c[i].cosine);
    }
    for (size_t i = 0; i < n; i++) {
        const rag_asked *own = &q[c[i].store];
        if (q->mode == RAG_VECTOR)
            c[i].score = n_models > 1 ? within(vec[c[i].group], c[i].cosine) : c[i].cosine;
        else if (!n_models)
            c[i].score = lex.high > 0 ? c[i].lex / lex.high : 0;
        else if (q->fusion == RAG_RRF)
            c[i].score = by_ranks(own, &c[i]);
        else if (!own->vec.x)
            c[i].score = within(lex, c[i].lex);
        else
            c[i].score = VECTOR_SHARE * within(vec[c[i].group], c[i].cosine) +
                         (1 - VECTOR_SHARE) * within(lex, c[i].lex);
    }
}

static int in_order(const rag_candidate *x, const rag_candidate *y) {
    if (x->store != y->store) return x->store < y->store ? -1 : 1;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

static int better(const void *a, const void *b) {
    const rag_candidate *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    if (x->cosine != y->cosine) return x->cosine < y->cosine ? 1 : -1;
    return in_order(x, y);
}

/* ==== Several stores ========================================================================== */

/* Those that are ranked first, the best first. */
static int by_words(const void *a, const void *b) {
    const rag_candidate *x = a, *y = b;
    if (!x->rank_lex != !y->rank_lex) return x->rank_lex ? -1 : 1;
    if (x->lex != y->lex) return x->lex < y->lex ? 1 : -1;
    return in_order(x, y);
}

static int by_cosine(const void *a, const void *b) {
    const rag_candidate *x = a, *y = b;
    if (!x->rank_vec != !y->rank_vec) return x->rank_vec ? -1 : 1;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    if (x->cosine != y->cosine) return x->cosine < y->cosine ? 1 : -1;
    return in_order(x, y);
}

/* Ranks among what all stores found, each model's cosines by themselves; who is no longer among a
 * leg's first hundred leaves it. Returns how many are left. */
static size_t rank_again(rag_candidate *c, size_t n) {
    uint32_t rank = 0;
    size_t left = 0;
    qsort(c, n, sizeof *c, by_words);
    for (size_t i = 0; i < n && c[i].rank_lex; i++)
        c[i].rank_lex = i < RAG_LEG ? (uint32_t)i + 1 : 0;
    qsort(c, n, sizeof *c, by_cosine);
    for (size_t i = 0; i < n && c[i].rank_vec; i++) {
        rank = i && c[i].group == c[i - 1].group ? rank + 1 : 1;
        c[i].rank_vec = rank <= RAG_LEG ? rank : 0;
    }
    for (size_t i = 0; i < n; i++)
        if (c[i].rank_lex || c[i].rank_vec) c[left++] = c[i];
    return left;
}

/* What one store's legs find; its times are added to us: words, vectors, the rest. */
static rotor_status ask_store(rag *r, rag_asked *q, uint32_t store, rag_candidate *out,
                              size_t *n_out, uint64_t us[3], rotor_error *err) {
    size_t n = 0;
    const uint64_t start = base_now_us();
    if (q->mode != RAG_VECTOR) words_leg(r, q, out, &n);
    const uint64_t words = base_now_us();
    if (q->vec.x) vector_leg(r, q, out, &n);
    const uint64_t vectors = base_now_us();
    ROTOR_TRY(rag_near_fill(r, out, n, err));
    for (size_t i = 0; i < n; i++) {
        out[i].store = store;
        out[i].group = q->group;
        if (q->mode == RAG_HYBRID) fill_in(r, q, &out[i]);
    }
    us[0] += words - start;
    us[1] += vectors - words;
    us[2] += base_now_us() - vectors;
    *n_out += n;
    return ROTOR_OK;
}

rotor_status rag_candidates(rag *const *stores, size_t n, rag_asked *q, rag_candidate *out,
                            size_t *n_out, rotor_error *err) {
    uint64_t us[3] = {0};
    size_t found = 0;
    rag_candidate *all = n > 1 ? base_alloc_array(n * RAG_MAX_CANDIDATES, sizeof *all) : out;
    *n_out = 0;
    if (!all) return base_fail_nomem(err, "searching");
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; st == ROTOR_OK && i < n; i++)
        st = ask_store(stores[i], &q[i], (uint32_t)i, all + found, &found, us, err);
    if (st != ROTOR_OK) {
        if (all != out) base_free(all);
        return st;
    }
    const uint64_t start = base_now_us();
    if (n > 1) found = rank_again(all, found);
    fuse(q, n, all, found);
    if (found) qsort(all, found, sizeof *all, better);
    *n_out = BASE_MIN(found, (size_t)RAG_MAX_CANDIDATES);
    if (all != out) {
        memcpy(out, all, *n_out * sizeof *all);
        base_free(all);
    }
    q->lex_us = us[0];
    q->vec_us = us[1];
    q->fuse_us = us[2] + base_now_us() - start;
    return ROTOR_OK;
}

/* ==== What is shown =========================================================================== */

static bool same_doc(rag *const *stores, const rag_candidate *a, const rag_candidate *b) {
    if (a->store != b->store) return false;
    const rag_index *x = &stores[a->store]->x;
    return x->doc[a->unit] == x->doc[b->unit];
}

static size_t count_docs(rag *const *stores, const rag_candidate *c, size_t n) {
    size_t docs = 0;
    for (size_t i = 0; i < n; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) seen = same_doc(stores, &c[j], &c[i]);
        docs += !seen;
    }
    return docs;
}

static float likeness(rag *const *stores, const rag_candidate *a, const rag_candidate *b) {
    const rag_index *x = &stores[a->store]->x, *y = &stores[b->store]->x;
    if (a->group != b->group || a->group == RAG_NO_GROUP) return 0;
    if (x->scale[a->unit] <= 0 || y->scale[b->unit] <= 0) return 0;
    return rag_vec_between(&stores[a->store]->k, x, a->unit, y, b->unit);
}

/* How much c adds to what is chosen; below zero: nothing. */
static float worth(rag *const *stores, const rag_candidate *c, const rag_chosen *list, size_t n,
                   size_t per_doc) {
    float most = 0;
    size_t n_together = 0;
    for (size_t i = 0; i < n; i++) {
        const float like = likeness(stores, c, &list[i].c);
        const bool together = same_doc(stores, c, &list[i].c);
        n_together += together;
        if (!together && like >= SAME) return -1;
        most = fmaxf(most, like);
    }
    if (n_together >= per_doc) return -1;
    return MMR * c->score + (1 - MMR) * (1 - most);
}

/* Maximal marginal relevance: next comes what is relevant and not yet said. */
static size_t choose(rag *const *stores, const rag_candidate *c, size_t n, const rag_query *opt,
                     rag_chosen *out) {
    const size_t per_doc = count_docs(stores, c, n) >= PER_DOC ? PER_DOC : n;
    bool taken[RAG_MAX_CANDIDATES] = {false};
    size_t n_out = 0;
    while (n_out < opt->k) {
        size_t best = SIZE_MAX;
        float best_worth = 0;
        for (size_t i = 0; i < n; i++) {
            if (taken[i]) continue;
            const float w = opt->plain ? 1 : worth(stores, &c[i], out, n_out, per_doc);
            if (w > best_worth) best = i, best_worth = w;
        }
        if (best == SIZE_MAX) return n_out;
        taken[best] = true;
        out[n_out++] = (rag_chosen){c[best], c[best].unit, c[best].unit};
    }
    return n_out;
}

/* Neighbours in a document become one passage, in the place of the better one. */
static size_t join_neighbours(rag *const *stores, rag_chosen *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            if (!same_doc(stores, &list[i].c, &list[j].c)) continue;
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

/* The very passage of a document that stands in another store, too. */
static bool is_copy(const rag_hits *out, const rag_hit *h) {
    for (const rag_hit *other = out->hits; other < h; other++)
        if (other->store != h->store && strcmp(other->text, h->text) == 0 &&
            strcmp(other->heading, h->heading) == 0)
            return true;
    return false;
}

static rotor_status read_hit(rag *r, const rag_chosen *c, rag_hit *h, rotor_error *err) {
    ROTOR_TRY(rag_db_read_hit(r->db, r->x.chunk[c->first], h, err));
    ROTOR_TRY(widen(r, c, h, err));
    h->store = c->c.store;
    h->chunk = r->x.chunk[c->c.unit];
    h->first = c->first;
    h->last = c->last;
    h->score = c->c.score;
    h->bm25 = c->c.lex;
    h->cosine = c->c.cosine;
    h->best = c->c.best;
    h->rank_lex = c->c.rank_lex;
    h->rank_vec = c->c.rank_vec;
    h->reranked = c->c.reranked;
    h->rerank = c->c.rerank;
    h->fused = c->c.fused;
    return ROTOR_OK;
}

static rotor_status read_hits(rag *const *stores, const rag_chosen *list, size_t n, bool copies,
                              rag_hits *out, rotor_error *err) {
    out->hits = base_alloc_array(BASE_MAX(n, (size_t)1), sizeof *out->hits);
    if (!out->hits) return base_fail_nomem(err, "searching");
    for (size_t i = 0; i < n; i++) {
        rag_hit *h = &out->hits[out->n++];
        ROTOR_TRY(read_hit(stores[list[i].c.store], &list[i], h, err));
        if (copies || !is_copy(out, h)) continue;
        rag_hit_free(h);
        memset(h, 0, sizeof *h);
        out->n--;
    }
    return ROTOR_OK;
}

/* The stores whose question has a vector of one model, or (RAG_NO_GROUP) none. */
static bool is_of(const rag_asked *q, const rag_candidate *c, uint32_t group) {
    return (q[c->store].vec.x ? c->group : RAG_NO_GROUP) == group;
}

/* Of passages that are candidates, of one model: the words of the first in their leg, else of the
 * first. A cosine of one model says nothing about those of another. */
static void judge_group(rag *const *stores, const rag_asked *q, rag_candidate *c, size_t n,
                        uint32_t group, rag_hits *out) {
    const rag_candidate *best = NULL;
    const bool vectors = group != RAG_NO_GROUP;
    float cosine = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_of(q, &c[i], group)) continue;
        if (vectors) cosine = fmaxf(cosine, c[i].cosine);
        if (!best || (c[i].rank_lex && (!best->rank_lex || c[i].rank_lex < best->rank_lex)))
            best = &c[i];
    }
    for (size_t i = 0; i < n; i++)
        if (is_of(q, &c[i], group)) c[i].best = cosine;
    if (!best) return;
    const rag_index *x = &stores[best->store]->x;
    const float match = rag_lex_match(x, &q[best->store].lex, best->unit);
    out->best_cosine = fmaxf(out->best_cosine, cosine);
    out->coverage = fmaxf(out->coverage, rag_lex_coverage(x, &q[best->store].lex, best->unit));
    out->match = fmaxf(out->match, match);
    out->relevant |= rag_is_relevant(&rag_gate_default, vectors, cosine, match);
}

/* Whether any model's stores are likely to answer. */
static void judge(rag *const *stores, size_t n_stores, const rag_asked *q, rag_candidate *c,
                  size_t n, rag_hits *out) {
    for (uint32_t i = 0; i < n_stores; i++)
        if (q[i].vec.x && q[i].group == i) judge_group(stores, q, c, n, i, out);
    judge_group(stores, q, c, n, RAG_NO_GROUP, out);
}

rotor_status rag_judge(rag *r, base_str text, rag_mode mode, rag_hits *out, rotor_error *err) {
    rag_candidate found[RAG_MAX_CANDIDATES];
    rag_asked q = {.mode = mode};
    size_t n = 0;
    memset(out, 0, sizeof *out);
    rotor_status st = rag_ask_prepare(&r, 1, text, &q, &out->lexical_only, err);
    if (st == ROTOR_OK) st = rag_candidates(&r, 1, &q, found, &n, err);
    if (st == ROTOR_OK) judge(&r, 1, &q, found, n, out);
    rag_ask_free(&q);
    return st;
}

rotor_status rag_choose(rag *const *stores, size_t n_stores, rag_asked *q, const rag_query *opt,
                        rag_hits *out, rag_chosen *list, size_t *n, rotor_error *err) {
    rag_candidate found[RAG_MAX_CANDIDATES];
    size_t n_found;
    ROTOR_TRY(rag_candidates(stores, n_stores, q, found, &n_found, err));
    judge(stores, n_stores, q, found, n_found, out);
    rag_rerank(stores, opt, found, n_found, out);
    const uint64_t start = base_now_us();
    *n = choose(stores, found, n_found, opt, list);
    if (!opt->plain) *n = join_neighbours(stores, list, *n);
    for (size_t i = 0; i < n_stores; i++) out->embed_us += q[i].embed_us;
    out->lex_us = q->lex_us;
    out->vec_us = q->vec_us;
    out->fuse_us = q->fuse_us + base_now_us() - start;
    return ROTOR_OK;
}

static rotor_status search(rag *const *stores, size_t n_stores, base_str query,
                           const rag_query *opt, rag_asked *q, rag_hits *out, rotor_error *err) {
    rag_chosen list[RAG_MAX_CANDIDATES];
    size_t n;
    ROTOR_TRY(rag_ask_prepare(stores, n_stores, query, q, &out->lexical_only, err));
    for (size_t i = 0; i < n_stores && opt->mode != RAG_LEXICAL; i++)
        out->pending |= stores[i]->embedder.embed && stores[i]->x.n_vectors < stores[i]->x.n_chunks;
    ROTOR_TRY(rag_choose(stores, n_stores, q, opt, out, list, &n, err));
    return read_hits(stores, list, n, opt->plain, out, err);
}

rotor_status rag_search_here(rag *const *stores, size_t n, base_str query, const rag_query *opt,
                             rag_hits *out, rotor_error *err) {
    rag_query limited = *opt;
    uint8_t *allowed[RAG_MAX_STORES] = {0};
    memset(out, 0, sizeof *out);
    limited.k = BASE_MIN(opt->k, (size_t)RAG_LEG);
    if (!limited.judged_by.n) limited.judged_by = query;
    rag_asked *q = base_alloc_array(n, sizeof *q);
    rotor_status st = q ? ROTOR_OK : base_fail_nomem(err, "searching");
    for (size_t i = 0; st == ROTOR_OK && i < n; i++) {
        st = rag_filter(&stores[i]->x, opt->filter, opt->n_filter, &allowed[i], err);
        if (st == ROTOR_OK && opt->quoted)
            st = rag_keep_phrases(stores[i], query, &allowed[i], err);
        q[i].mode = opt->mode;
        q[i].fusion = opt->fusion;
        q[i].allowed = allowed[i];
    }
    if (st == ROTOR_OK) st = search(stores, n, query, &limited, q, out, err);
    for (size_t i = 0; i < n; i++) {
        if (q) rag_ask_free(&q[i]);
        base_free(allowed[i]);
    }
    base_free(q);
    if (st != ROTOR_OK) rag_hits_free(out);
    return st;
}

rotor_status rag_look_all(rag *const *stores, size_t n, rotor_error *err) {
    if (!n || n > RAG_MAX_STORES)
        return base_fail(err, ROTOR_E_ARG, "%zu stores: expected 1 to %d", n, RAG_MAX_STORES);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (stores[i] == stores[k])
                return base_fail(err, ROTOR_E_ARG, "%s is named twice", stores[i]->folder);
    for (size_t i = 0; i < n; i++) {
        ROTOR_TRY(rag_db_look(stores[i]->db, err));
        ROTOR_TRY(rag_sync_to_ask(stores[i], err));
    }
    return ROTOR_OK;
}

void rag_look_end_all(rag *const *stores, size_t n) {
    for (size_t i = 0; i < n; i++) rag_db_look_end(stores[i]->db);
}

/* All that is read is of one state of each database, whoever changes it meanwhile. */
rotor_status rag_search_all(rag *const *stores, size_t n, base_str query, const rag_query *opt,
                            rag_hits *out, rotor_error *err) {
    rag_query exact = *opt;
    exact.quoted = true;
    memset(out, 0, sizeof *out);
    rotor_status st = rag_look_all(stores, n, err);
    if (st == ROTOR_OK) st = rag_search_here(stores, n, query, &exact, out, err);
    rag_look_end_all(stores, n);
    return st;
}

rotor_status rag_search(rag *r, base_str query, const rag_query *opt, rag_hits *out,
                        rotor_error *err) {
    return rag_search_all(&r, 1, query, opt, out, err);
}

void rag_hits_free(rag_hits *h) {
    for (size_t i = 0; h->hits && i < h->n; i++) rag_hit_free(&h->hits[i]);
    base_free(h->hits);
    h->hits = NULL;
    h->n = 0;
}
