/* SPDX-License-Identifier: MIT
 *
 * Which tokens may come in a state. A mask has two parts:
 *
 *   inside   tokens that the state's configuration reads to their end by itself. Found by one walk
 *            over the tree of the vocabulary and kept for the configuration, with the nodes of the
 *            tree at which it pops.
 *   outside  tokens that go on where the configuration has ended. From each of these nodes the walk
 *            goes on with what the tail says; they are few (in a string: behind a quotation mark).
 *
 * So the walk over everything, milliseconds for a large vocabulary, is made once for the inside of
 * strings, and not again for every key, depth and element. Whole masks are kept, too, the least
 * recently used given up when they exceed their limit.
 */
#include "grammar/grammar_internal.h"

enum { N_BUCKETS = 4096 };

typedef struct inside {
    uint32_t *ids;   /* [n_ids] tokens that fit, or NULL: `bits`; owned */
    uint32_t n_ids;  /* how many */
    uint32_t *bits;  /* [words] set: fits; owned */
    uint32_t *pops;  /* [n_pops] nodes of the tree; owned */
    uint32_t n_pops; /* how many */
    bool known;      /* the walk has been made */
} inside;

typedef struct mask {
    uint32_t config, tail; /* whose */
    uint32_t *banned;      /* [words], owned */
    uint32_t n_allowed;    /* bits that are 0 */
    uint32_t next;         /* 1 + the next of its bucket; 0: the last */
    uint64_t used;         /* when it was last asked for */
} mask;

struct grammar_masks {
    gram_automaton a;           /* states */
    const grammar_words *w;     /* borrowed; NULL: none */
    size_t n_bits;              /* 32-bit parts of a mask */
    size_t limit;               /* bytes of all parts below at most … */
    size_t used;                /* … and now */
    inside *inside;             /* [cap_inside] by configuration, owned */
    size_t cap_inside;          /* allocated */
    mask *list;                 /* [n_masks], owned */
    uint32_t n_masks;           /* in use */
    uint32_t cap_masks;         /* allocated */
    uint32_t bucket[N_BUCKETS]; /* 1 + a mask; 0: none */
    uint32_t *config;           /* [longest + 1] along a path of the tree, owned */
    uint32_t *tail;             /* [longest + 1] likewise, owned */
    uint32_t *found;            /* [tokens] of a walk, owned */
    uint32_t *popped;           /* [nodes] of a walk, owned */
    grammar_counts counts;      /* see there */
};

grammar_limits grammar_limits_default(void) {
    return (grammar_limits){.state_bytes = (size_t)64 << 20, .mask_bytes = (size_t)64 << 20};
}

static rotor_status no_memory(grammar_masks *m) {
    return base_fail_nomem(&m->a.why, "making a mask of tokens");
}

/* ==== Inside ================================================================================== */

static void forget_inside(grammar_masks *m) {
    for (size_t i = 0; i < m->cap_inside; i++) {
        base_free(m->inside[i].ids);
        base_free(m->inside[i].bits);
        base_free(m->inside[i].pops);
        m->inside[i] = (inside){0};
    }
}

static uint32_t *copy_of(const uint32_t *list, uint32_t n) {
    uint32_t *copy = base_alloc_array(n, sizeof *copy);
    if (copy && n) memcpy(copy, list, n * sizeof *copy);
    return copy;
}

static void set_bit(uint32_t *bits, uint32_t id) { bits[id / 32] |= UINT32_C(1) << id % 32; }

static uint32_t list_twins(const grammar_masks *m, uint32_t id, uint32_t n) {
    for (; id != GRAM_NONE; id = m->w->twin[id]) m->found[n++] = id;
    return n;
}

/* Every token that the configuration reads; m->found[*n_found], m->popped[*n_popped]. */
static rotor_status walk_all(grammar_masks *m, uint32_t config, uint32_t *n_found,
                             uint32_t *n_popped) {
    const grammar_words *w = m->w;
    uint32_t found = 0, popped = 0;
    m->config[0] = config;
    for (uint32_t i = 0; i < w->n;) {
        const uint32_t depth = w->depth[i];
        uint32_t c;
        ROTOR_TRY(gram_move_inside(&m->a, m->config[depth - 1], w->byte[i], &c));
        if (!c) {
            i = w->past[i];
            continue;
        }
        m->config[depth] = c;
        if (m->a.config[c].pops) m->popped[popped++] = i;
        if (w->id[i] != GRAM_NONE) found = list_twins(m, w->id[i], found);
        i++;
    }
    *n_found = found;
    *n_popped = popped;
    m->counts.n_walks++;
    return ROTOR_OK;
}

static rotor_status keep_inside(grammar_masks *m, inside *in, uint32_t found, uint32_t popped) {
    const bool few = found < m->n_bits;
    const size_t bytes = sizeof(uint32_t) * ((few ? found : m->n_bits) + popped);
    if (bytes > m->limit / 2 - BASE_MIN(m->used, m->limit / 2)) {
        forget_inside(m);
        m->used = 0;
    }
    in->pops = copy_of(m->popped, popped);
    if (few)
        in->ids = copy_of(m->found, found);
    else
        in->bits = base_alloc_array(m->n_bits, sizeof *in->bits);
    if (!in->pops || (!in->ids && !in->bits)) return no_memory(m);
    for (uint32_t i = 0; in->bits && i < found; i++) set_bit(in->bits, m->found[i]);
    in->n_ids = found;
    in->n_pops = popped;
    in->known = true;
    m->used += bytes;
    return ROTOR_OK;
}

static rotor_status inside_of(grammar_masks *m, uint32_t config, const inside **out) {
    uint32_t found, popped;
    if (config < m->cap_inside && m->inside[config].known) {
        *out = &m->inside[config];
        return ROTOR_OK;
    }
    ROTOR_TRY(walk_all(m, config, &found, &popped));
    if (config >= m->cap_inside) {
        const size_t cap = m->a.n_config + m->a.n_config / 2 + 16;
        inside *more = base_realloc(m->inside, cap * sizeof *more);
        if (!more) return no_memory(m);
        memset(more + m->cap_inside, 0, (cap - m->cap_inside) * sizeof *more);
        m->inside = more;
        m->cap_inside = cap;
    }
    ROTOR_TRY(keep_inside(m, &m->inside[config], found, popped));
    *out = &m->inside[config];
    return ROTOR_OK;
}

/* ==== Outside ================================================================================= */

static void allow_twins(const grammar_masks *m, uint32_t *bits, uint32_t id) {
    for (; id != GRAM_NONE; id = m->w->twin[id]) set_bit(bits, id);
}

/* What lies below a node of the tree, at which the state is (config, tail). */
static rotor_status walk_below(grammar_masks *m, uint32_t node, uint32_t config, uint32_t tail,
                               uint32_t *bits) {
    const grammar_words *w = m->w;
    m->config[w->depth[node]] = config;
    m->tail[w->depth[node]] = tail;
    for (uint32_t i = node + 1; i < w->past[node];) {
        const uint32_t depth = w->depth[i];
        uint32_t c = m->config[depth - 1], t = m->tail[depth - 1];
        ROTOR_TRY(gram_move(&m->a, &c, &t, w->byte[i]));
        if (!c) {
            i = w->past[i];
            continue;
        }
        m->config[depth] = c;
        m->tail[depth] = t;
        allow_twins(m, bits, w->id[i]);
        i++;
    }
    return ROTOR_OK;
}

/* Tokens that read on in the tail. */
static rotor_status allow_outside(grammar_masks *m, const inside *in, uint32_t tail,
                                  uint32_t *bits) {
    if (!tail || !in->n_pops) return ROTOR_OK;
    const gram_frame f = m->a.frame[tail];
    uint32_t config;
    ROTOR_TRY(gram_after(&m->a, f.ret, &config));
    tail = f.below;
    ROTOR_TRY(gram_return(&m->a, &config, &tail));
    for (uint32_t i = 0; i < in->n_pops; i++)
        ROTOR_TRY(walk_below(m, in->pops[i], config, tail, bits));
    return ROTOR_OK;
}

/* ==== Masks =================================================================================== */

static uint32_t bucket_of(uint32_t config, uint32_t tail) {
    return (config * UINT32_C(0x9E3779B9) ^ tail * UINT32_C(0x85EBCA6B)) >> 20 & (N_BUCKETS - 1);
}

static void unlink_mask(grammar_masks *m, uint32_t at) {
    uint32_t *link = &m->bucket[bucket_of(m->list[at].config, m->list[at].tail)];
    while (*link != at + 1) link = &m->list[*link - 1].next;
    *link = m->list[at].next;
}

/* A place for one more mask: a new one, or that of the least recently used. */
static rotor_status take_place(grammar_masks *m, uint32_t *at) {
    const size_t bytes = m->n_bits * sizeof(uint32_t);
    const uint32_t most = (uint32_t)BASE_MIN(m->limit / 2 / BASE_MAX(bytes, 1u), 1u << 20);
    if (m->n_masks < BASE_MAX(most, 2u)) {
        if (m->n_masks == m->cap_masks) {
            const uint32_t cap = 2 * m->cap_masks + 16;
            mask *more = base_realloc(m->list, cap * sizeof *more);
            if (!more) return no_memory(m);
            m->list = more;
            m->cap_masks = cap;
        }
        m->list[m->n_masks] = (mask){.banned = base_alloc_array(m->n_bits, sizeof(uint32_t))};
        if (!m->list[m->n_masks].banned) return no_memory(m);
        *at = m->n_masks++;
        return ROTOR_OK;
    }
    *at = 0;
    for (uint32_t i = 1; i < m->n_masks; i++)
        if (m->list[i].used < m->list[*at].used) *at = i;
    if (m->list[*at].used) unlink_mask(m, *at);
    m->list[*at].used = 0; /* in no bucket until it is filled */
    return ROTOR_OK;
}

static uint32_t count_bits(const uint32_t *bits, size_t n) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t x = bits[i];
        x -= x >> 1 & UINT32_C(0x55555555);
        x = (x & UINT32_C(0x33333333)) + (x >> 2 & UINT32_C(0x33333333));
        sum += ((x + (x >> 4)) & UINT32_C(0x0F0F0F0F)) * UINT32_C(0x01010101) >> 24;
    }
    return sum;
}

static rotor_status fill(grammar_masks *m, mask *k) {
    const inside *in = NULL;
    uint32_t *bits = k->banned;
    ROTOR_TRY(inside_of(m, k->config, &in));
    if (in->bits)
        memcpy(bits, in->bits, m->n_bits * sizeof *bits);
    else
        memset(bits, 0, m->n_bits * sizeof *bits);
    for (uint32_t i = 0; in->ids && i < in->n_ids; i++) set_bit(bits, in->ids[i]);
    ROTOR_TRY(allow_outside(m, in, k->tail, bits));
    if (m->a.config[k->config].pops)
        for (size_t i = 0; i < m->w->n_ends; i++) set_bit(bits, m->w->ends[i]);
    k->n_allowed = count_bits(bits, m->n_bits);
    for (size_t i = 0; i < m->n_bits; i++) bits[i] = ~bits[i];
    return ROTOR_OK;
}

static rotor_status mask_of(grammar_masks *m, uint32_t config, uint32_t tail, mask **out) {
    uint32_t at = m->bucket[bucket_of(config, tail)];
    while (at && (m->list[at - 1].config != config || m->list[at - 1].tail != tail))
        at = m->list[at - 1].next;
    m->counts.n_asked++;
    if (!at) {
        m->counts.n_made++;
        ROTOR_TRY(take_place(m, &at));
        mask *k = &m->list[at];
        k->config = config;
        k->tail = tail;
        ROTOR_TRY(fill(m, k));
        k->next = m->bucket[bucket_of(config, tail)];
        m->bucket[bucket_of(config, tail)] = ++at;
    }
    *out = &m->list[at - 1];
    (*out)->used = m->counts.n_asked;
    return ROTOR_OK;
}

static rotor_status failed(const grammar_masks *m, rotor_status status, rotor_error *err) {
    if (err) *err = m->a.why;
    return status;
}

rotor_status grammar_allow(grammar_masks *m, uint32_t state, grammar_allowed *out,
                           rotor_error *err) {
    uint32_t like;
    mask *k;
    if (state == GRAMMAR_UNKNOWN) return failed(m, m->a.why.code, err);
    if (state == GRAMMAR_DEAD)
        return base_fail(err, ROTOR_E_FORMAT, "the text does not follow the grammar");
    const gram_state s = m->a.state[state];
    rotor_status status = gram_like(&m->a, s.config, &like);
    if (status == ROTOR_OK) status = mask_of(m, like, s.tail, &k);
    if (status != ROTOR_OK) return failed(m, status, err);
    if (!k->n_allowed)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "grammar: no token of the vocabulary can come next");
    *out = (grammar_allowed){.banned = k->banned, .n_allowed = k->n_allowed};
    return ROTOR_OK;
}

/* ==== States ================================================================================== */

uint32_t grammar_start(const grammar_masks *m) { return m->a.start; }

bool grammar_may_end(const grammar_masks *m, uint32_t state) {
    return state != GRAMMAR_UNKNOWN && m->a.config[m->a.state[state].config].pops;
}

rotor_status grammar_put(grammar_masks *m, uint32_t state, base_str text, uint32_t *next,
                         rotor_error *err) {
    *next = GRAMMAR_UNKNOWN;
    if (state == GRAMMAR_UNKNOWN) return failed(m, m->a.why.code, err);
    gram_state s = m->a.state[state];
    rotor_status status = ROTOR_OK;
    uint32_t after = GRAMMAR_UNKNOWN;
    for (size_t i = 0; status == ROTOR_OK && s.config && i < text.n; i++) {
        status = gram_move(&m->a, &s.config, &s.tail, (uint8_t)text.p[i]);
        if (status == ROTOR_OK) status = gram_normalise(&m->a, &s);
    }
    if (status == ROTOR_OK) status = gram_state_of(&m->a, s, &after);
    if (status != ROTOR_OK) return failed(m, status, err);
    *next = after;
    return ROTOR_OK;
}

rotor_status grammar_step(grammar_masks *m, uint32_t state, uint32_t id, uint32_t *next,
                          rotor_error *err) {
    const base_str word = m->w ? grammar_word(m->w, id) : (base_str){"", 0};
    if (word.n) return grammar_put(m, state, word, next, err);
    *next = GRAMMAR_DEAD;
    return ROTOR_OK;
}

grammar_counts grammar_count(const grammar_masks *m) {
    grammar_counts c = m->counts;
    c.n_states = m->a.n_state;
    c.n_configs = m->a.n_config;
    c.state_bytes = m->a.used;
    c.mask_bytes = m->used + m->n_masks * m->n_bits * sizeof(uint32_t);
    return c;
}

/* ==== Beginning and end ======================================================================= */

rotor_status grammar_masks_create(grammar_masks **out, const grammar *g, const grammar_words *w,
                                  const grammar_limits *limits, rotor_error *err) {
    const grammar_limits l = limits ? *limits : grammar_limits_default();
    grammar_masks *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "preparing a grammar");
    m->w = w;
    m->limit = l.mask_bytes;
    m->n_bits = w ? (w->n_ids + 31) / 32 : 0;
    if (w) {
        m->config = base_alloc_array((size_t)w->longest + 1, sizeof *m->config);
        m->tail = base_alloc_array((size_t)w->longest + 1, sizeof *m->tail);
        m->found = base_alloc_array(w->n_ids, sizeof *m->found);
        m->popped = base_alloc_array(w->n, sizeof *m->popped);
    }
    rotor_status status = gram_automaton_init(&m->a, g, w ? w->longest : 0, l.state_bytes, err);
    if (status == ROTOR_OK && w && (!m->config || !m->tail || !m->found || !m->popped))
        status = base_fail_nomem(err, "preparing a grammar");
    if (status == ROTOR_OK) return *out = m, ROTOR_OK;
    grammar_masks_free(&m);
    return status;
}

void grammar_masks_free(grammar_masks **out) {
    if (!out || !*out) return;
    grammar_masks *m = *out;
    forget_inside(m);
    for (uint32_t i = 0; i < m->n_masks; i++) base_free(m->list[i].banned);
    base_free(m->list);
    base_free(m->inside);
    base_free(m->config);
    base_free(m->tail);
    base_free(m->found);
    base_free(m->popped);
    gram_automaton_free(&m->a);
    base_free(m);
    *out = NULL;
}
