/* SPDX-License-Identifier: MIT
 *
 * Whether what was found is likely to answer a question: the thresholds and nothing else, so that
 * asking, searching and judging cannot differ about them.
 *
 * Two things are known. A cosine says how near the nearest passage is in meaning. The match
 * (rag_lex_match) says how well the passage that the words rank first has the question's words,
 * those that are in no document weighing most: about 0 for a stranger's question, 1 to 2 for one
 * that is answered. With vectors it is their sum that counts: what one leg is unsure of, the other
 * may know.
 *
 * Chosen on SciFact's training questions and the odd ones of Cranfield, each asked of both stores,
 * so that under 5 % of either are refused at home (docs/rag.md has the figures).
 */
#include "rag/rag.h"

const rag_gate rag_gate_default = {.words_only = 1.0f, .match_share = 0.2f, .both = 0.6f};

bool rag_is_relevant(const rag_gate *g, bool vectors, float best_cosine, float match) {
    if (!vectors) return match >= g->words_only;
    return best_cosine + g->match_share * match >= g->both;
}
