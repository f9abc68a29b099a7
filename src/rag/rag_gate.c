/* SPDX-License-Identifier: MIT
 *
 * Whether what was found is likely to answer a question: the thresholds and nothing else, so that
 * asking, searching and judging cannot differ about them.
 *
 * A cosine says how near the nearest passage is in meaning; coverage, which part of the question's
 * words, weighted by how rare they are, stands in the passage that the words rank first. Either
 * alone lets strangers in: a near cosine is enough by itself, a middling one needs words beside it.
 */
#include "rag/rag.h"

const rag_gate rag_gate_default = {
    .cosine = 0.35f, .low_cosine = 0.20f, .coverage = 0.60f, .words_only = 0.60f};

bool rag_is_relevant(const rag_gate *g, bool vectors, float best_cosine, float coverage) {
    if (!vectors) return coverage >= g->words_only;
    return best_cosine >= g->cosine || (best_cosine >= g->low_cosine && coverage >= g->coverage);
}
