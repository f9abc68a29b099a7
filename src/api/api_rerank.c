/* SPDX-License-Identifier: MIT
 *
 * Scores of pairs of texts by a cross-encoder. A pair is one sequence,
 *
 *     [CLS] query [SEP] passage [SEP]
 *       0     0     0      1      1     types of tokens
 *
 * of which the passage is cut where it is too long, never the query: what is asked decides what
 * counts in a passage, and the beginning of a passage says most about it.
 */
#include "api/api_internal.h"

/* All pairs of a call, one behind the other. */
typedef struct pairs {
    const rotor_engine *e; /* engine */
    text_ids query;        /* with what stands around it */
    text_ids all;          /* ids of the pairs */
    run_text *list;        /* [n], owned; ids are set at the end, when `all` has stopped growing */
    rotor_error *err;      /* where messages go */
} pairs;

/* ==== Texts to ids ============================================================================ */

static rotor_status check_ids(const pairs *p, const text_ids *ids, size_t from, const char *what,
                              size_t i) {
    const uint32_t n_vocab = p->e->m->hp.n_vocab;
    if (ids->n == from) return base_fail(p->err, ROTOR_E_ARG, "%s %zu is empty", what, i);
    for (size_t k = from; k < ids->n; k++)
        if (ids->ids[k] >= n_vocab)
            return base_fail(p->err, ROTOR_E_ARG,
                             "%s %zu: token %u at %zu is outside the vocabulary of %u", what, i,
                             ids->ids[k], k - from, n_vocab);
    return ROTOR_OK;
}

/* Appends the ids of a text; flags say what text_encode puts around words. */
static rotor_status add_text(const pairs *p, const rotor_embed_text *t, unsigned flags,
                             text_ids *ids, const char *what, size_t i) {
    const size_t from = ids->n;
    if (t->text && !p->e->m->vocab)
        return base_fail(p->err, ROTOR_E_UNSUPPORTED,
                         "%s has no vocabulary: it can only be given ids", p->e->m->name);
    if (t->text && t->n_bytes)
        ROTOR_TRY(text_encode(p->e->m->vocab, (base_str){t->text, t->n_bytes}, flags, ids, p->err));
    for (size_t k = 0; !t->text && t->ids && k < t->n_ids; k++)
        if (text_ids_push(ids, t->ids[k]) != ROTOR_OK)
            return base_fail_nomem(p->err, "scoring pairs");
    return check_ids(p, ids, from, what, i);
}

static rotor_status add_query(pairs *p, const rotor_embed_text *query) {
    const uint32_t most = p->e->n_ctx;
    ROTOR_TRY(add_text(p, query, TEXT_ADD_BOS | TEXT_ADD_EOS, &p->query, "query", 0));
    if (p->query.n + 2 <= most) return ROTOR_OK; /* a token of a passage, and its end */
    return base_fail(p->err, ROTOR_E_FULL,
                     "the query has %zu tokens, and with a passage at most %u fit: ask shorter",
                     p->query.n, most);
}

/* The last pair of the list has too many tokens: the passage loses some in front of its end. */
static void cut(pairs *p, size_t from, bool words) {
    const size_t n = p->all.n - from, most = p->e->n_ctx;
    uint32_t *ids = p->all.ids + from;
    if (n <= most) return;
    if (words) ids[most - 1] = ids[n - 1];
    p->all.n = from + most;
}

static rotor_status add_pair(pairs *p, size_t i, const rotor_embed_text *passage) {
    const size_t from = p->all.n;
    for (size_t k = 0; k < p->query.n; k++)
        if (text_ids_push(&p->all, p->query.ids[k]) != ROTOR_OK)
            return base_fail_nomem(p->err, "scoring pairs");
    ROTOR_TRY(add_text(p, passage, TEXT_ADD_EOS, &p->all, "passage", i));
    cut(p, from, passage->text != NULL);
    p->list[i] = (run_text){.n = (uint32_t)(p->all.n - from), .n_first = (uint32_t)p->query.n};
    return ROTOR_OK;
}

static rotor_status add_pairs(pairs *p, const rotor_embed_text *query,
                              const rotor_embed_text *passages, size_t n) {
    p->list = base_alloc_array(n, sizeof *p->list);
    if (!p->list) return base_fail_nomem(p->err, "scoring pairs");
    ROTOR_TRY(add_query(p, query));
    for (size_t i = 0; i < n; i++) ROTOR_TRY(add_pair(p, i, &passages[i]));
    for (size_t i = 0, at = 0; i < n; at += p->list[i++].n) p->list[i].ids = p->all.ids + at;
    return ROTOR_OK;
}

/* ==== Scores ================================================================================== */

static rotor_status check_scores(const float *scores, size_t n, rotor_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!(scores[i] - scores[i] == 0))
            return base_fail(err, ROTOR_E_FORMAT,
                             "passage %zu: its score is %g: the model cannot score it", i,
                             (double)scores[i]);
    return ROTOR_OK;
}

rotor_status rotor_rerank(rotor_engine *e, const rotor_embed_text *query,
                          const rotor_embed_text *passages, size_t n, float *scores,
                          rotor_error *err) {
    if (!e || !query || !passages || !scores || !n)
        return base_fail(err, ROTOR_E_ARG, "rotor_rerank: a required argument is NULL or 0");
    if (e->pool_in_use != MODEL_POOL_RANK)
        return base_fail(err, ROTOR_E_STATE,
                         "rotor_rerank: %s is no cross-encoder, opened with embed: one has pooler "
                         "and classifier (BertForSequenceClassification), or pooling_type 4",
                         e->m->name);
    if (e->m->file) ROTOR_TRY(file_unchanged(e->m->file, err));
    pairs p = {.e = e, .err = err};
    rotor_status st = add_pairs(&p, query, passages, n);
    if (st == ROTOR_OK) st = run_embed(e->run, p.list, n, scores, err);
    if (st == ROTOR_OK) st = check_scores(scores, n, err);
    text_ids_free(&p.query);
    text_ids_free(&p.all);
    base_free(p.list);
    return st;
}
