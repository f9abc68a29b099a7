/* SPDX-License-Identifier: MIT
 *
 * A second judgement of the best that a search has found. The legs compare a question with what was
 * computed of passages beforehand; a cross-encoder reads both together, which is dearer by orders
 * of magnitude and more exact, so that only the first few are worth it.
 *
 * The first `most` candidates are ordered anew by its scores, the rest stays behind them as it was.
 * All of it or nothing: where the model fails, or the time is over, the fused order stays, and the
 * search says so. Equal scores keep their order.
 */
#include "rag/rag_internal.h"

enum { AT_ONCE = 4 };           /* passages between two looks at the clock */
static const float TAIL = 0.2f; /* scores below are of those that were not judged */

/* What the model reads of a passage: what it is about, and the passage. */
static rotor_status read_passage(rag *const *stores, const rag_candidate *c, base_buf *out,
                                 rotor_error *err) {
    rag *r = stores[c->store];
    rag_hit h = {0};
    const rotor_status st = rag_db_read_hit(r->db, r->x.chunk[c->slot], &h, err);
    if (st == ROTOR_OK) {
        const char *about = h.heading[0] ? h.heading : h.title;
        base_buf_printf(out, "%s%s", about, about[0] ? "\n" : "");
        base_buf_puts(out, h.text);
    }
    rag_hit_free(&h);
    return st == ROTOR_OK && out->failed ? base_fail_nomem(err, "reranking") : st;
}

/* Scores of n candidates, at most AT_ONCE. */
static rotor_status score_some(rag *const *stores, const rag_query *opt, rag_candidate *c, size_t n,
                               rotor_error *err) {
    base_buf text[AT_ONCE] = {{0}};
    base_str list[AT_ONCE];
    float score[AT_ONCE];
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; st == ROTOR_OK && i < n; i++) {
        st = read_passage(stores, &c[i], &text[i], err);
        list[i] = (base_str){text[i].data, text[i].len};
    }
    if (st == ROTOR_OK)
        st = opt->reranker.score(opt->reranker.user, opt->judged_by, list, n, score, err);
    for (size_t i = 0; i < n; i++) {
        if (st == ROTOR_OK) c[i].rerank = score[i];
        base_buf_free(&text[i]);
    }
    return st;
}

static rotor_status score_all(rag *const *stores, const rag_query *opt, rag_candidate *c, size_t n,
                              rotor_error *err) {
    const uint64_t start = base_now_us(), limit = opt->reranker.limit_us;
    for (size_t done = 0; done < n; done += AT_ONCE) {
        if (limit && base_now_us() - start >= limit)
            return base_fail(err, ROTOR_E_CANCELLED,
                             "only %zu of %zu passages were judged in %llu ms", done, n,
                             (unsigned long long)limit / 1000);
        ROTOR_TRY(score_some(stores, opt, c + done, BASE_MIN(n - done, (size_t)AT_ONCE), err));
    }
    return ROTOR_OK;
}

/* Stable, of few. */
static void sort(rag_candidate *c, size_t n) {
    for (size_t i = 1; i < n; i++) {
        const rag_candidate it = c[i];
        size_t at = i;
        for (; at && c[at - 1].rerank < it.rerank; at--) c[at] = c[at - 1];
        c[at] = it;
    }
}

/* Choosing weighs relevance, 0 to 1, against likeness: judged ones are stretched over the upper
 * part of that, the rest follows in steps. */
static void rescore(rag_candidate *c, size_t n_judged, size_t n) {
    const float high = c[0].rerank, low = c[n_judged - 1].rerank;
    for (size_t i = 0; i < n; i++) {
        c[i].fused = c[i].score;
        c[i].reranked = i < n_judged;
        if (i >= n_judged)
            c[i].score = TAIL * (float)(n - i) / (float)(n - n_judged + 1);
        else
            c[i].score = high > low ? TAIL + (1 - TAIL) * (c[i].rerank - low) / (high - low) : 1;
    }
}

void rag_rerank(rag *const *stores, const rag_query *opt, rag_candidate *c, size_t n,
                rag_hits *out) {
    rotor_error why = {0};
    const uint64_t start = base_now_us();
    const size_t most = BASE_MIN(n, opt->reranker.most);
    if (!opt->reranker.score || !most) return;
    const rotor_status st = score_all(stores, opt, c, most, &why);
    out->rerank_us = base_now_us() - start;
    out->rerank_failed = st != ROTOR_OK;
    if (st != ROTOR_OK) {
        base_log_printf(&stores[0]->log, BASE_LOG_WARN,
                        "%s does not rerank, the order stays as it was: %s", opt->reranker.name,
                        why.message);
        return;
    }
    sort(c, most);
    rescore(c, most, n);
}
