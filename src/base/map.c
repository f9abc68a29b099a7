/* SPDX-License-Identifier: MIT
 *
 * String map: open addressing with linear probing, at most 2/3 full, keys are borrowed slices.
 *
 * The hash is seeded from the kernel per map, so that a file cannot be built to make every key
 * collide. Used for metadata keys, tensor names and vocabularies (a million entries load in well
 * under a second).
 *
 * Invariants: (M1) n_slots is a power of two; (M2) at least one slot is empty, so probes end;
 * (M3) an empty slot has key.p == NULL, which is why empty keys point at a static byte.
 */
#include "base/base.h"

#include <assert.h>

typedef struct slot {
    base_str key;   /* borrowed; p == NULL: empty slot */
    uint32_t value; /* caller's number */
    uint32_t hash;  /* upper half of the 64-bit hash, compared first */
} slot;

struct base_map {
    slot *slots;    /* n_slots of them, owned */
    size_t n_slots; /* power of two */
    size_t n_used;  /* keys held */
    uint64_t seed;  /* of the hash */
};

static size_t slots_for(size_t n) {
    size_t slots = 16;
    while (slots / 3 * 2 < n + 1) slots *= 2;
    return slots;
}

rotor_status base_map_create(base_map **out, size_t expected_n) {
    base_map *m = base_alloc(sizeof *m);
    if (!m) return ROTOR_E_NOMEM;
    m->n_slots = slots_for(expected_n);
    m->seed = base_random_seed();
    m->slots = base_alloc_array(m->n_slots, sizeof *m->slots);
    if (!m->slots) return base_free(m), ROTOR_E_NOMEM;
    *out = m;
    return ROTOR_OK;
}

void base_map_free(base_map **m) {
    if (!m || !*m) return;
    base_free((*m)->slots);
    base_free(*m);
    *m = NULL;
}

static slot *find(const base_map *m, base_str key, uint64_t hash) {
    size_t mask = m->n_slots - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        slot *s = &m->slots[i];
        if (!s->key.p || (s->hash == (uint32_t)(hash >> 32) && base_str_eq(s->key, key))) return s;
    }
}

static rotor_status grow(base_map *m) {
    base_map bigger = {.n_slots = m->n_slots * 2, .seed = m->seed};
    bigger.slots = base_alloc_array(bigger.n_slots, sizeof *bigger.slots);
    if (!bigger.slots) return ROTOR_E_NOMEM;
    for (size_t i = 0; i < m->n_slots; i++) {
        const slot *s = &m->slots[i];
        if (s->key.p) *find(&bigger, s->key, base_hash64(s->key.p, s->key.n, m->seed)) = *s;
    }
    base_free(m->slots);
    m->slots = bigger.slots;
    m->n_slots = bigger.n_slots;
    return ROTOR_OK;
}

rotor_status base_map_put(base_map *m, base_str key, uint32_t value, bool *existed) {
    if (m->n_used + 1 > m->n_slots / 3 * 2) ROTOR_TRY(grow(m));
    if (!key.p) key.p = "";
    uint64_t hash = base_hash64(key.p, key.n, m->seed);
    slot *s = find(m, key, hash);
    if (existed) *existed = s->key.p != NULL;
    if (!s->key.p) m->n_used++;
    *s = (slot){key, value, (uint32_t)(hash >> 32)};
    assert(m->n_used < m->n_slots); /* M2 */
    return ROTOR_OK;
}

bool base_map_get(const base_map *m, base_str key, uint32_t *value) {
    const slot *s = find(m, key, base_hash64(key.p ? key.p : "", key.n, m->seed));
    if (!s->key.p) return false;
    *value = s->value;
    return true;
}

size_t base_map_count(const base_map *m) { return m->n_used; }
