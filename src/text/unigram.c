/* SPDX-License-Identifier: MIT
 *
 * Unigram (SentencePiece, "t5"): the segmentation with the highest sum of token scores.
 *
 * Viterbi over byte offsets with a prefix tree of all normal tokens. A character that no token
 * covers alone may be unknown at a price (10 below the worst score), and neighbouring unknowns
 * are joined. Sums are doubles; on equal sums the segmentation found first, from left to right
 * and shorter tokens first, stays. Time is O(bytes x longest token).
 */
#include "text/text_internal.h"

#include <math.h>

rotor_status text_unigram_prepare(text_vocab *v, rotor_error *err) {
    double worst = 0;
    for (size_t id = 0; id < v->n_tokens; id++) {
        if (text_type_at(v, (uint32_t)id) != TEXT_NORMAL || !v->tokens[id].n) continue;
        if (!isfinite(v->scores[id]))
            return base_fail(err, ROTOR_E_FORMAT,
                             "vocabulary: the score of token %zu is not finite", id);
        worst = fmin(worst, v->scores[id]);
        rotor_status st = text_trie_put(&v->plain, text_token(v, (uint32_t)id), (uint32_t)id);
        if (st == ROTOR_E_NOMEM) return base_fail_nomem(err, "building the token tree");
        if (st) return base_fail(err, st, "vocabulary: more than 2^24 bytes of unigram tokens");
    }
    v->unk_score = worst - 10.0;
    return ROTOR_OK;
}

typedef struct lattice {
    double *best;   /* [n + 1] highest sum of a segmentation that ends here */
    uint32_t *from; /* [n + 1] where its last token starts; after the search: where the next ends */
    uint32_t *id;   /* [n + 1] that token, TEXT_NO_ID for an unknown character */
} lattice;

static void offer(const lattice *l, size_t from, size_t to, double score, uint32_t id) {
    if (!(l->best[from] + score > l->best[to])) return;
    l->best[to] = l->best[from] + score;
    l->from[to] = (uint32_t)from;
    l->id[to] = id;
}

static void search(const text_vocab *v, base_str s, const lattice *l) {
    for (size_t i = 0; i <= s.n; i++) l->best[i] = -INFINITY;
    l->best[0] = 0;
    for (size_t i = 0; i < s.n;) {
        int32_t cp;
        size_t next = i + (size_t)base_utf8_decode(s.p + i, s.n - i, &cp);
        bool alone = false;
        uint32_t node = 0;
        for (size_t j = i; j < s.n && text_trie_step(&v->plain, &node, (uint8_t)s.p[j]);) {
            uint32_t id = v->plain.id[node];
            if (++j == next && id != TEXT_NO_ID) alone = true;
            if (id != TEXT_NO_ID) offer(l, i, j, v->scores[id], id);
        }
        if (!alone) offer(l, i, next, v->unk_score, TEXT_NO_ID);
        i = next;
    }
}

/* Turns the chain of starts into a chain of ends, so that it can be walked forwards. */
static void reverse(const lattice *l, size_t n) {
    uint32_t end = (uint32_t)n, next_end = (uint32_t)n, next_id = TEXT_NO_ID;
    for (;;) {
        uint32_t start = l->from[end], id = l->id[end];
        l->from[end] = next_end;
        l->id[end] = next_id;
        if (end == 0) return;
        next_end = end;
        next_id = id;
        end = start;
    }
}

rotor_status text_unigram_piece(text_run *r, base_str piece) {
    if (!piece.n) return ROTOR_OK;
    r->after_unknown = false;
    if (piece.n >= UINT32_MAX / 16)
        return base_fail(r->err, ROTOR_E_ARG, "tokenizer: one piece of %zu bytes, at most 2^28",
                         piece.n);
    char *work = text_run_work(r, (piece.n + 1) * (sizeof(double) + 2 * sizeof(uint32_t)));
    if (!work) return base_fail_nomem(r->err, "tokenizing");
    lattice l = {.best = (double *)(void *)work};
    l.from = (uint32_t *)(void *)(l.best + piece.n + 1);
    l.id = l.from + piece.n + 1;
    search(r->v, piece, &l);
    reverse(&l, piece.n);
    for (size_t at = 0; at < piece.n;) {
        size_t start = at;
        uint32_t id = l.id[at];
        at = l.from[at];
        if (id != TEXT_NO_ID) {
            r->after_unknown = false;
            ROTOR_TRY(text_ids_push(r->out, id));
            continue;
        }
        while (r->v->fuse_unk && at < piece.n && l.id[at] == TEXT_NO_ID) at = l.from[at];
        ROTOR_TRY(text_emit_unknown(r, piece.p + start, at - start));
    }
    return ROTOR_OK;
}
