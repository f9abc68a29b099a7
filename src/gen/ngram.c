/* SPDX-License-Identifier: MIT
 *
 * Prompt lookup: where the newest tokens of a timeline stood before.
 *
 * Ends of runs of `min` equal tokens are chained, newest first, in a hash table as long as the
 * timeline may get:
 *
 *     head[hash of line[p-min+1 .. p]] -> p -> prev[p] -> prev[prev[p]] -> …
 *
 * Looking up walks the chain of the newest run for a bounded number of places and keeps the one
 * that agrees longest backwards, the newest of equals. Both the walk and the comparison are
 * bounded, so a token costs the same however long the timeline is.
 *
 * Owns: the table. It allocates at creation only; the tokens belong to the caller.
 */
#include "gen/gen_internal.h"

#include <assert.h>

enum { MOST_PLACES = 16 }; /* of a chain that are compared */

rotor_status gen_ngram_init(gen_ngram *g, const uint32_t *line, uint32_t max_tok, uint32_t min) {
    uint32_t buckets = 64;
    assert(min >= 1);
    while (buckets < max_tok && buckets < 1u << 20) buckets *= 2;
    *g = (gen_ngram){.min = min, .line = line, .mask = buckets - 1};
    g->head = base_alloc_array(buckets, sizeof *g->head);
    g->prev = base_alloc_array(max_tok, sizeof *g->prev);
    if (g->head && g->prev) return ROTOR_OK;
    gen_ngram_free(g);
    return ROTOR_E_NOMEM;
}

void gen_ngram_free(gen_ngram *g) {
    base_free(g->head);
    base_free(g->prev);
    memset(g, 0, sizeof *g);
}

void gen_ngram_grow(gen_ngram *g, uint32_t n) {
    for (; g->n < n; g->n++) {
        if (g->n + 1 < g->min) continue;
        const uint32_t *run = g->line + (g->n + 1 - g->min);
        uint32_t *head = &g->head[base_hash64(run, g->min * sizeof *run, 0) & g->mask];
        g->prev[g->n] = *head;
        *head = g->n + 1;
    }
}

void gen_ngram_clear(gen_ngram *g) {
    g->n = 0;
    if (g->head) memset(g->head, 0, (g->mask + (size_t)1) * sizeof *g->head);
}

/* Tokens that agree, counted backwards from two ends. */
static uint32_t agreement(const uint32_t *line, uint32_t earlier, uint32_t last) {
    uint32_t most = BASE_MIN(earlier + 1, (uint32_t)GEN_MATCH_MAX), n = 0;
    while (n < most && line[earlier - n] == line[last - n]) n++;
    return n;
}

bool gen_ngram_find(const gen_ngram *g, gen_match *m) {
    gen_match best = {0};
    if (g->n <= g->min) return false;
    uint32_t last = g->n - 1, at = g->prev[last];
    for (int i = 0; i < MOST_PLACES && at && best.len < GEN_MATCH_MAX; i++, at = g->prev[at - 1]) {
        uint32_t len = agreement(g->line, at - 1, last);
        if (len > best.len) best = (gen_match){at, len};
    }
    if (best.len < g->min) return false; /* others in the same bucket */
    *m = best;
    return true;
}
