/* SPDX-License-Identifier: MIT
 *
 * The sums of placement.h.
 */
#include "run/placement.h"

enum { RESERVE_MIB = 128, RESERVE_SHARE = 10 }; /* left to others: so much, or a tenth if more */

uint64_t run_budget(const dev_facts *f) {
    const uint64_t reserve = BASE_MAX(f->heap_bytes / RESERVE_SHARE, (uint64_t)RESERVE_MIB << 20);
    if (!f->heap_bytes) return 0;
    return f->heap_bytes > reserve ? f->heap_bytes - reserve : 1;
}

static uint64_t layers_bytes(const run_needs *n, uint32_t n_layer) {
    uint64_t sum = n->work;
    for (uint32_t l = 0; l < n_layer; l++) sum += n->layer[l] + n->cache;
    return sum;
}

/* Single memories a device may have: the smaller of two limits, where it states them. */
static bool allows(const dev_facts *f, uint64_t bytes) {
    return (!f->max_alloc_bytes || bytes <= f->max_alloc_bytes) &&
           (!f->max_bind_bytes || bytes <= f->max_bind_bytes);
}

run_place run_place_model(const run_needs *n, uint32_t most, const dev_facts *facts) {
    const uint64_t budget = facts && facts->heap_bytes ? run_budget(facts) : UINT64_MAX;
    const uint64_t layers = layers_bytes(n, n->n_layer);
    const uint64_t table = n->imported && !n->shared ? 0 : n->table;
    const uint64_t whole = layers + table + (n->shared ? 0 : n->head);
    if (facts && !allows(facts, n->largest)) return (run_place){.n_layer = 0};
    if (most >= n->n_layer && whole <= budget)
        return (run_place){.table = true,
                           .imports = table < n->table,
                           .n_layer = n->n_layer,
                           .head = true,
                           .bytes = whole};
    if (most >= n->n_layer && layers + n->head <= budget)
        return (run_place){.n_layer = n->n_layer, .head = true, .bytes = layers + n->head};
    run_place p = {.n_layer = BASE_MIN(most, n->n_layer)};
    while (p.n_layer && layers_bytes(n, p.n_layer) > budget) p.n_layer--;
    if (p.n_layer) p.bytes = layers_bytes(n, p.n_layer);
    return p;
}
