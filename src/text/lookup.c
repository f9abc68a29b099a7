/* SPDX-License-Identifier: MIT
 *
 * Tables: bytes to token, pair to merge, and a prefix tree.
 *
 * All three are open-addressing hash tables of small entries, at most 2/3 full, with a seed from
 * the kernel so that a file cannot be built to make its keys collide. The token index keeps only
 * a tag and an id per slot and compares with the blob; a 128,000-token index fits in 2 MB.
 *
 * Invariant: every table has an empty slot, so probes end.
 */
#include "text/text_internal.h"

#include <assert.h>

static size_t slots_for(size_t n) {
    size_t slots = 16;
    while (slots / 3 * 2 < n + 1) slots *= 2;
    return slots;
}

/* An empty table. From huge pages where it is large: tables are read before they are written, at
 * random, and small pages would be given out twice, first as zeros that all share. */
static void *table(size_t slots, size_t slot_bytes) {
    size_t bytes;
    return base_mul_size(slots, slot_bytes, &bytes) ? base_alloc_aligned(bytes) : NULL;
}

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 32) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 29) * 0xBF58476D1CE4E5B9u;
    return x ^ x >> 32;
}

/* ==== Token index ============================================================================= */

static bool slot_is(const text_vocab *v, uint64_t slot, uint64_t hash, const char *p, size_t n) {
    if (slot >> 32 != hash >> 32) return false;
    text_token_ref ref = v->tokens[(uint32_t)slot - 1];
    return ref.n == n && memcmp(v->blob + ref.at, p, n) == 0;
}

static bool is_special(text_token_type type) {
    return type == TEXT_CONTROL || type == TEXT_UNKNOWN || type == TEXT_UNUSED;
}

static void index_put(text_vocab *v, uint32_t id) {
    text_index *x = &v->index;
    const char *p = v->blob + v->tokens[id].at;
    size_t n = v->tokens[id].n;
    uint64_t hash = base_hash64(p, n, x->seed);
    size_t i = (size_t)hash & x->mask;
    while (x->slots[i] && !slot_is(v, x->slots[i], hash, p, n)) i = (i + 1) & x->mask;
    if (x->slots[i] && is_special(text_type_at(v, id)) &&
        !is_special(text_type_at(v, (uint32_t)x->slots[i] - 1)))
        return;
    x->slots[i] = hash >> 32 << 32 | (id + 1);
}

rotor_status text_index_build(text_vocab *v) {
    size_t slots = slots_for(v->n_tokens);
    v->index.slots = table(slots, sizeof *v->index.slots);
    if (!v->index.slots) return ROTOR_E_NOMEM;
    v->index.mask = slots - 1;
    v->index.seed = base_random_seed();
    for (size_t id = 0; id < v->n_tokens; id++)
        if (v->tokens[id].n) index_put(v, (uint32_t)id);
    return ROTOR_OK;
}

uint64_t text_index_hash(const text_vocab *v, const char *p, size_t n) {
    return base_hash64(p, n, v->index.seed);
}

void text_index_prefetch(const text_vocab *v, uint64_t hash, int stage) {
    const uint64_t *slot = &v->index.slots[(size_t)hash & v->index.mask];
    if (stage == 0) {
        __builtin_prefetch(slot);
        return;
    }
    if (!*slot) return;
    const text_token_ref *ref = &v->tokens[(uint32_t)*slot - 1];
    if (stage == 1)
        __builtin_prefetch(ref);
    else
        __builtin_prefetch(v->blob + ref->at);
}

uint32_t text_index_find(const text_vocab *v, uint64_t hash, const char *p, size_t n) {
    for (size_t i = (size_t)hash & v->index.mask;; i = (i + 1) & v->index.mask) {
        uint64_t slot = v->index.slots[i];
        if (!slot) return TEXT_NO_ID;
        if (slot_is(v, slot, hash, p, n)) return (uint32_t)slot - 1;
    }
}

uint32_t text_index_get(const text_vocab *v, const char *p, size_t n) {
    return text_index_find(v, text_index_hash(v, p, n), p, n);
}

/* ==== Merges ================================================================================== */

rotor_status text_merges_create(text_merges *m, size_t n) {
    size_t slots = slots_for(n);
    m->slots = table(slots, sizeof *m->slots);
    if (!m->slots) return ROTOR_E_NOMEM;
    m->mask = slots - 1;
    m->seed = base_random_seed();
    return ROTOR_OK;
}

static size_t merge_home(const text_merges *m, uint64_t pair) {
    return (size_t)mix(pair ^ m->seed) & m->mask;
}

static text_merge *merge_slot(const text_merges *m, uint64_t pair) {
    size_t i = merge_home(m, pair);
    while (m->slots[i].pair && m->slots[i].pair != pair) i = (i + 1) & m->mask;
    return &m->slots[i];
}

void text_merges_prefetch(const text_merges *m, uint32_t left, uint32_t right) {
    __builtin_prefetch(&m->slots[merge_home(m, ((uint64_t)left << 32 | right) + 1)], 1);
}

void text_merges_put(text_merges *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t id) {
    uint64_t pair = ((uint64_t)left << 32 | right) + 1;
    text_merge *slot = merge_slot(m, pair);
    if (!slot->pair) *slot = (text_merge){pair, rank, id};
}

const text_merge *text_merges_get(const text_merges *m, uint32_t left, uint32_t right) {
    const text_merge *slot = merge_slot(m, ((uint64_t)left << 32 | right) + 1);
    return slot->pair ? slot : NULL;
}

void text_merges_free(text_merges *m) {
    base_free_aligned(m->slots);
    memset(m, 0, sizeof *m);
}

/* ==== Trie ==================================================================================== */

static text_trie_edge *edge_slot(text_trie_edge *edges, size_t mask, uint32_t seed, uint32_t key) {
    size_t i = (size_t)mix((uint64_t)seed << 32 | key) & mask;
    while (edges[i].key && edges[i].key != key) i = (i + 1) & mask;
    return &edges[i];
}

static rotor_status trie_reserve_node(text_trie *t) {
    if (!t->edges) t->seed = (uint32_t)base_random_seed();
    if (t->n_nodes + 1 >= t->cap_nodes) {
        uint32_t cap = BASE_MAX(64u, t->cap_nodes * 2);
        uint32_t *id = base_realloc(t->id, cap * sizeof *id);
        if (!id) return ROTOR_E_NOMEM;
        memset(id + t->cap_nodes, 0xFF, (cap - t->cap_nodes) * sizeof *id);
        t->id = id;
        t->cap_nodes = cap;
    }
    if (t->edges && t->n_nodes < (t->mask + 1) / 3 * 2) return ROTOR_OK;
    size_t slots = t->edges ? (t->mask + 1) * 2 : 64;
    text_trie_edge *edges = base_alloc_array(slots, sizeof *edges);
    if (!edges) return ROTOR_E_NOMEM;
    for (size_t i = 0; t->edges && i <= t->mask; i++)
        if (t->edges[i].key) *edge_slot(edges, slots - 1, t->seed, t->edges[i].key) = t->edges[i];
    base_free(t->edges);
    t->edges = edges;
    t->mask = slots - 1;
    return ROTOR_OK;
}

rotor_status text_trie_put(text_trie *t, base_str key, uint32_t id) {
    uint32_t node = 0;
    if (!t->n_nodes) {
        ROTOR_TRY(trie_reserve_node(t));
        t->n_nodes = 1;
    }
    for (size_t i = 0; i < key.n; i++) {
        ROTOR_TRY(trie_reserve_node(t));
        if (t->n_nodes >= 1u << 24) return ROTOR_E_UNSUPPORTED;
        uint32_t edge_key = (node << 8 | (uint8_t)key.p[i]) + 1;
        text_trie_edge *e = edge_slot(t->edges, t->mask, t->seed, edge_key);
        if (!e->key) *e = (text_trie_edge){edge_key, t->n_nodes++};
        node = e->node;
    }
    t->id[node] = id;
    return ROTOR_OK;
}

bool text_trie_step(const text_trie *t, uint32_t *node, uint8_t byte) {
    if (!t->edges) return false;
    const text_trie_edge *e = edge_slot(t->edges, t->mask, t->seed, (*node << 8 | byte) + 1);
    if (!e->key) return false;
    *node = e->node;
    return true;
}

void text_trie_free(text_trie *t) {
    base_free(t->edges);
    base_free(t->id);
    memset(t, 0, sizeof *t);
}
