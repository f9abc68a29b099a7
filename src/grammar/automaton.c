/* SPDX-License-Identifier: MIT
 *
 * The automaton: where in its rules a text may stand, made as texts need it and remembered.
 *
 * Where a text stands is a set of places, each with a list of the places to return to. Such sets
 * are split: what all lists end with is the tail, the rest the configuration.
 *
 *     in a string, two objects deep:   { (char, [string end, member]) (quote, [member]) } | outer …
 *                                        configuration                                     tail
 *
 * A configuration moves by itself, whatever the tail, until one of its alternatives has ended: it
 * then "pops", and what comes next is taken from the tail. So there are few configurations however
 * deeply a text is nested, the moves between them are a table, and what they say about tokens is
 * known for all tails at once (token_masks.c).
 *
 * Lists, configurations and states are kept once each and known by numbers; configuration 0 is the
 * empty one, of a text that breaks the rules. Nothing is forgotten: all tables together stay below
 * a limit, beyond which calls fail.
 */
#include "grammar/grammar_internal.h"

#include <assert.h>
#include <stdlib.h>

enum {
    MAX_VISITS = 1 << 16, /* places looked at for one move … */
    MAX_LOOKS = 1 << 26,  /* … and for everything the tables remember */
    KEPT_VISITS = 1 << 12 /* slots kept from one search to the next */
};

/* ==== Tables ================================================================================== */

static rotor_status no_memory(gram_automaton *a) {
    return base_fail_nomem(&a->why, "following a grammar");
}

/* Counts bytes that are about to be used. */
static rotor_status charge(gram_automaton *a, size_t bytes) {
    if (bytes > a->limit - a->used)
        return base_fail(&a->why, ROTOR_E_FULL,
                         "grammar: it is so ambiguous, or the text so deeply nested, that its "
                         "states exceed %zu MiB",
                         a->limit >> 20);
    a->used += bytes;
    return ROTOR_OK;
}

/* Counts places about to be looked at for something that will be remembered. Looking up what is
 * remembered is free, so that no grammar wears out. */
static rotor_status look(gram_automaton *a, size_t n) {
    a->n_looks += n;
    return a->n_looks > MAX_LOOKS ? charge(a, a->limit) : ROTOR_OK;
}

rotor_status gram_more(gram_automaton *a, void **p, size_t *cap, size_t n, size_t elem_bytes) {
    if (n <= *cap) return ROTOR_OK;
    const size_t wanted = BASE_MAX(n, *cap + *cap / 2 + 64);
    if (wanted >= GRAM_NONE / 2) return charge(a, a->limit);
    ROTOR_TRY(charge(a, (wanted - *cap) * elem_bytes));
    void *more = base_realloc(*p, wanted * elem_bytes);
    if (!more) return no_memory(a);
    *p = more;
    *cap = wanted;
    return ROTOR_OK;
}

static uint32_t hash_of(const void *p, size_t n) { return (uint32_t)base_hash64(p, n, 0); }

typedef uint32_t (*hash_fn)(const gram_automaton *a, uint32_t number);

/* Makes room for one more number in an index. */
static rotor_status index_more(gram_automaton *a, gram_index *x, hash_fn hash) {
    if (x->slot && x->n < x->mask / 2) return ROTOR_OK;
    const uint32_t size = x->slot ? 2 * (x->mask + 1) : 256;
    ROTOR_TRY(charge(a, (size - (x->slot ? size / 2 : 0)) * sizeof *x->slot));
    uint32_t *slot = base_alloc_array(size, sizeof *slot);
    if (!slot) return no_memory(a);
    for (uint32_t i = 0; x->slot && i <= x->mask; i++) {
        if (!x->slot[i]) continue;
        uint32_t at = hash(a, x->slot[i] - 1) & (size - 1);
        while (slot[at]) at = (at + 1) & (size - 1);
        slot[at] = x->slot[i];
    }
    base_free(x->slot);
    x->slot = slot;
    x->mask = size - 1;
    return ROTOR_OK;
}

static void index_put(gram_index *x, uint32_t at, uint32_t number) {
    x->slot[at] = number + 1;
    x->n++;
}

/* ==== Lists of places to return to ============================================================ */

static uint32_t hash_frame(const gram_automaton *a, uint32_t i) {
    return hash_of(&a->frame[i], sizeof *a->frame);
}

/* The list that begins with ret. */
static rotor_status push(gram_automaton *a, uint32_t ret, uint32_t below, uint32_t *out) {
    const gram_frame f = {ret, below};
    ROTOR_TRY(index_more(a, &a->frames, hash_frame));
    uint32_t at = hash_of(&f, sizeof f) & a->frames.mask;
    for (; a->frames.slot[at]; at = (at + 1) & a->frames.mask) {
        *out = a->frames.slot[at] - 1;
        if (a->frame[*out].ret == ret && a->frame[*out].below == below) return ROTOR_OK;
    }
    ROTOR_TRY(gram_more(a, (void **)&a->frame, &a->cap_frame, a->n_frame + 1, sizeof f));
    *out = (uint32_t)a->n_frame++;
    a->frame[*out] = f;
    index_put(&a->frames, at, *out);
    return ROTOR_OK;
}

static size_t depth_of(const gram_automaton *a, uint32_t list) {
    size_t n = 0;
    for (; list; list = a->frame[list].below) n++;
    return n;
}

/* The first n of a list, on top of another. */
static rotor_status put_on(gram_automaton *a, uint32_t list, size_t n, uint32_t below,
                           uint32_t *out) {
    ROTOR_TRY(gram_more(a, (void **)&a->rets, &a->cap_rets, n, sizeof *a->rets));
    for (size_t i = 0; i < n; i++, list = a->frame[list].below) a->rets[i] = a->frame[list].ret;
    for (size_t i = n; i-- > 0;) ROTOR_TRY(push(a, a->rets[i], below, &below));
    *out = below;
    return ROTOR_OK;
}

static uint32_t below_of(const gram_automaton *a, uint32_t list, size_t n) {
    while (n-- > 0) list = a->frame[list].below;
    return list;
}

/* ==== Configurations ========================================================================== */

static uint32_t hash_items(const gram_item *item, size_t n, bool pops) {
    return (uint32_t)base_hash64(item, n * sizeof *item, pops);
}

static uint32_t hash_config(const gram_automaton *a, uint32_t i) {
    const gram_config *c = &a->config[i];
    return hash_items(a->item + c->first, c->n, c->pops);
}

static int by_place(const void *x, const void *y) {
    const gram_item *a = x, *b = y;
    if (a->node != b->node) return a->node < b->node ? -1 : 1;
    return a->stack < b->stack ? -1 : a->stack > b->stack;
}

static rotor_status add_config(gram_automaton *a, bool pops, uint32_t *out) {
    const size_t n = a->n_found, row = a->g->n_class;
    ROTOR_TRY(
        gram_more(a, (void **)&a->config, &a->cap_config, a->n_config + 1, sizeof *a->config));
    ROTOR_TRY(gram_more(a, (void **)&a->item, &a->cap_item, a->n_item + n, sizeof *a->item));
    ROTOR_TRY(
        gram_more(a, (void **)&a->move, &a->cap_move, (a->n_config + 1) * row, sizeof *a->move));
    if (n) memcpy(a->item + a->n_item, a->found, n * sizeof *a->found);
    for (size_t i = 0; i < row; i++) a->move[a->n_config * row + i] = GRAM_NONE;
    a->config[a->n_config] = (gram_config){.first = (uint32_t)a->n_item,
                                           .n = (uint32_t)n,
                                           .pops = pops,
                                           .normal = GRAM_NONE,
                                           .like = GRAM_NONE};
    a->n_item += n;
    *out = (uint32_t)a->n_config++;
    return ROTOR_OK;
}

/* The configuration of what has been found. */
static rotor_status config_of_found(gram_automaton *a, bool pops, uint32_t *out) {
    if (a->n_found > 1) qsort(a->found, a->n_found, sizeof *a->found, by_place);
    ROTOR_TRY(index_more(a, &a->configs, hash_config));
    uint32_t at = hash_items(a->found, a->n_found, pops) & a->configs.mask;
    for (; a->configs.slot[at]; at = (at + 1) & a->configs.mask) {
        const gram_config *c = &a->config[ *out = a->configs.slot[at] - 1];
        if (c->n == a->n_found && c->pops == pops &&
            (!c->n || memcmp(a->item + c->first, a->found, c->n * sizeof *a->found) == 0))
            return ROTOR_OK;
    }
    ROTOR_TRY(add_config(a, pops, out));
    index_put(&a->configs, at, *out);
    return ROTOR_OK;
}

/* ==== What can be reached without reading ===================================================== */

static uint64_t key_of(gram_item i) { return ((uint64_t)i.node << 32 | i.stack) + 1; }

/* Whether the item is met for the first time in this search. */
static bool is_new(gram_visit *v, gram_item item) {
    const uint64_t key = key_of(item);
    uint32_t at = (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32) & v->mask;
    for (; v->slot[at]; at = (at + 1) & v->mask)
        if (v->slot[at] == key) return false;
    v->slot[at] = key;
    v->n++;
    return true;
}

static rotor_status add_item(gram_automaton *a, gram_item **list, size_t *n, size_t *cap,
                             gram_item item) {
    ROTOR_TRY(gram_more(a, (void **)list, cap, *n + 1, sizeof item));
    (*list)[(*n)++] = item;
    return ROTOR_OK;
}

static rotor_status want(gram_automaton *a, uint32_t node, uint32_t stack) {
    if (!a->g->node[node].live) return ROTOR_OK;
    return add_item(a, &a->work, &a->n_work, &a->cap_work, (gram_item){node, stack});
}

static void begin_search(gram_automaton *a) {
    gram_visit *v = &a->visit;
    if (v->mask >= KEPT_VISITS) { /* a small search must not pay for a large one before it */
        base_free(v->slot);
        *v = (gram_visit){0};
    }
    if (v->n) memset(v->slot, 0, (v->mask + (size_t)1) * sizeof *v->slot);
    v->n = 0;
    a->n_work = a->n_found = 0;
}

static rotor_status visit_more(gram_automaton *a) {
    gram_visit *v = &a->visit;
    if (v->slot && v->n < v->mask / 2) return ROTOR_OK;
    if (v->n >= MAX_VISITS) return charge(a, a->limit);
    gram_visit bigger = {.mask = v->slot ? 2 * v->mask + 1 : 127};
    bigger.slot = base_alloc_array((size_t)bigger.mask + 1, sizeof *bigger.slot);
    if (!bigger.slot) return no_memory(a);
    for (uint32_t i = 0; v->slot && i <= v->mask; i++)
        if (v->slot[i])
            is_new(&bigger,
                   (gram_item){(uint32_t)((v->slot[i] - 1) >> 32), (uint32_t)(v->slot[i] - 1)});
    base_free(v->slot);
    *v = bigger;
    return ROTOR_OK;
}

static rotor_status follow(gram_automaton *a, gram_item i, bool *pops) {
    const gram_node *node = &a->g->node[i.node];
    uint32_t stack = i.stack;
    switch (node->kind) {
    case GRAM_N_BYTE:
        return add_item(a, &a->found, &a->n_found, &a->cap_found, i);
    case GRAM_N_SPLIT:
        ROTOR_TRY(want(a, node->next, stack));
        return want(a, node->other, stack);
    case GRAM_N_CALL: /* from the end of a rule there is nothing to come back to */
        if (node->next) ROTOR_TRY(push(a, node->next, stack, &stack));
        return want(a, node->other, stack);
    default:
        if (!stack) return *pops = true, ROTOR_OK;
        return want(a, a->frame[stack].ret, a->frame[stack].below);
    }
}

/* From the work that is there to the bytes that may be read next. */
static rotor_status search(gram_automaton *a, bool pops, uint32_t *out) {
    while (a->n_work) {
        const gram_item item = a->work[--a->n_work];
        ROTOR_TRY(look(a, 1));
        ROTOR_TRY(visit_more(a));
        if (is_new(&a->visit, item)) ROTOR_TRY(follow(a, item, &pops));
    }
    return config_of_found(a, pops, out);
}

/* ==== Moves =================================================================================== */

static rotor_status make_move(gram_automaton *a, uint32_t c, unsigned class, uint32_t *next) {
    const uint8_t byte = a->g->byte_of[class];
    ROTOR_TRY(look(a, 1 + a->config[c].n / 4));
    begin_search(a);
    for (uint32_t i = 0; i < a->config[c].n; i++) {
        const gram_item item = a->item[a->config[c].first + i];
        const gram_node *node = &a->g->node[item.node];
        if (byte >= node->lo && byte <= node->hi) ROTOR_TRY(want(a, node->next, item.stack));
    }
    ROTOR_TRY(search(a, false, next));
    a->move[c * (size_t)a->g->n_class + class] = *next;
    return ROTOR_OK;
}

rotor_status gram_move_inside(gram_automaton *a, uint32_t c, uint8_t byte, uint32_t *next) {
    const unsigned class = a->g->class_of[byte];
    *next = a->move[c * (size_t)a->g->n_class + class];
    return *next == GRAM_NONE ? make_move(a, c, class, next) : ROTOR_OK;
}

static uint32_t hash_unfold(const gram_automaton *a, uint32_t i) {
    return hash_of(&a->unfold[i], 2 * sizeof(uint32_t));
}

/* What a configuration that pops is, one frame further down. */
static rotor_status make_unfold(gram_automaton *a, uint32_t c, uint32_t ret, uint32_t *out) {
    uint32_t frame;
    ROTOR_TRY(push(a, ret, 0, &frame));
    begin_search(a);
    for (uint32_t i = 0; i < a->config[c].n; i++) {
        gram_item item = a->item[a->config[c].first + i];
        const size_t depth = depth_of(a, item.stack);
        ROTOR_TRY(look(a, 1 + depth));
        ROTOR_TRY(put_on(a, item.stack, depth, frame, &item.stack));
        ROTOR_TRY(want(a, item.node, item.stack));
    }
    ROTOR_TRY(want(a, ret, 0));
    return search(a, false, out);
}

static rotor_status unfold(gram_automaton *a, uint32_t c, uint32_t ret, uint32_t *out) {
    gram_unfold u = {.config = c, .ret = ret};
    ROTOR_TRY(index_more(a, &a->unfolds, hash_unfold));
    uint32_t at = hash_of(&u, 2 * sizeof(uint32_t)) & a->unfolds.mask;
    for (; a->unfolds.slot[at]; at = (at + 1) & a->unfolds.mask) {
        const gram_unfold *known = &a->unfold[a->unfolds.slot[at] - 1];
        if (known->config == c && known->ret == ret) return *out = known->result, ROTOR_OK;
    }
    ROTOR_TRY(make_unfold(a, c, ret, &u.result));
    ROTOR_TRY(
        gram_more(a, (void **)&a->unfold, &a->cap_unfold, a->n_unfold + 1, sizeof *a->unfold));
    a->unfold[a->n_unfold] = u;
    index_put(&a->unfolds, at, (uint32_t)a->n_unfold++);
    *out = u.result;
    return ROTOR_OK;
}

rotor_status gram_return(gram_automaton *a, uint32_t *c, uint32_t *tail) {
    while (a->config[*c].pops && *tail) {
        const gram_frame f = a->frame[*tail];
        ROTOR_TRY(unfold(a, *c, f.ret, c));
        *tail = f.below;
    }
    return ROTOR_OK;
}

rotor_status gram_move(gram_automaton *a, uint32_t *c, uint32_t *tail, uint8_t byte) {
    ROTOR_TRY(gram_move_inside(a, *c, byte, c));
    return gram_return(a, c, tail);
}

rotor_status gram_after(gram_automaton *a, uint32_t node, uint32_t *config) {
    begin_search(a);
    ROTOR_TRY(want(a, node, 0));
    return search(a, false, config);
}

/* ==== States ================================================================================== */

/* How many frames at their ends all items have in common. */
static size_t common_end(const gram_automaton *a, const gram_config *c) {
    if (c->pops || !c->n) return 0;
    const gram_item *item = a->item + c->first;
    uint32_t list = item[0].stack;
    size_t common = depth_of(a, list);
    for (uint32_t i = 1; i < c->n && common; i++) {
        const size_t depth = depth_of(a, item[i].stack);
        uint32_t x = below_of(a, list, BASE_MAX(common, depth) - depth), y;
        common = BASE_MIN(common, depth);
        y = below_of(a, item[i].stack, depth - common);
        while (x != y) { /* lists that are equal are one */
            x = a->frame[x].below;
            y = a->frame[y].below;
            common--;
        }
        list = x;
    }
    return common;
}

static rotor_status make_normal(gram_automaton *a, uint32_t config) {
    const gram_config c = a->config[config];
    for (uint32_t i = 0; i < c.n; i++)
        ROTOR_TRY(look(a, 1 + depth_of(a, a->item[c.first + i].stack)));
    const size_t common = common_end(a, &c);
    uint32_t normal = config, suffix = 0;
    if (common) {
        begin_search(a);
        for (uint32_t i = 0; i < c.n; i++) {
            gram_item item = a->item[c.first + i];
            const size_t depth = depth_of(a, item.stack);
            suffix = below_of(a, item.stack, depth - common);
            ROTOR_TRY(put_on(a, item.stack, depth - common, 0, &item.stack));
            ROTOR_TRY(add_item(a, &a->found, &a->n_found, &a->cap_found, item));
        }
        ROTOR_TRY(config_of_found(a, false, &normal));
    }
    a->config[config].normal = normal;
    a->config[config].suffix = suffix;
    return ROTOR_OK;
}

static uint32_t hash_state(const gram_automaton *a, uint32_t i) {
    return hash_of(&a->state[i], sizeof *a->state);
}

rotor_status gram_normalise(gram_automaton *a, gram_state *s) {
    if (a->config[s->config].normal == GRAM_NONE) ROTOR_TRY(make_normal(a, s->config));
    const uint32_t suffix = a->config[s->config].suffix;
    s->config = a->config[s->config].normal;
    if (!suffix) return ROTOR_OK;
    return put_on(a, suffix, depth_of(a, suffix), s->tail, &s->tail);
}

rotor_status gram_state_of(gram_automaton *a, gram_state s, uint32_t *state) {
    if (!s.config) s.tail = 0;
    ROTOR_TRY(gram_normalise(a, &s));
    ROTOR_TRY(index_more(a, &a->states, hash_state));
    uint32_t at = hash_of(&s, sizeof s) & a->states.mask;
    for (; a->states.slot[at]; at = (at + 1) & a->states.mask) {
        const gram_state *known = &a->state[ *state = a->states.slot[at] - 1];
        if (known->config == s.config && known->tail == s.tail) return ROTOR_OK;
    }
    ROTOR_TRY(gram_more(a, (void **)&a->state, &a->cap_state, a->n_state + 1, sizeof s));
    a->state[ *state = (uint32_t)a->n_state++] = s;
    index_put(&a->states, at, *state);
    return ROTOR_OK;
}

/* ==== Alike =================================================================================== */

/* A node that the longest word cannot tell from this one: so many repetitions are left in both that
 * no word reads them all. */
static uint32_t like_node(const gram_automaton *a, uint32_t node) {
    const uint32_t chain = a->g->node[node].chain;
    if (!chain || a->g->link[chain - 1].left <= a->longest + 1) return node;
    return a->g->link[chain - 1 - (a->g->link[chain - 1].left - (a->longest + 1))].node;
}

static rotor_status like_list(gram_automaton *a, uint32_t list, uint32_t *out) {
    const size_t n = depth_of(a, list);
    uint32_t below = 0;
    ROTOR_TRY(look(a, 1 + n));
    ROTOR_TRY(gram_more(a, (void **)&a->rets, &a->cap_rets, n, sizeof *a->rets));
    for (size_t i = 0; i < n; i++, list = a->frame[list].below)
        a->rets[i] = like_node(a, a->frame[list].ret);
    for (size_t i = n; i-- > 0;) ROTOR_TRY(push(a, a->rets[i], below, &below));
    *out = below;
    return ROTOR_OK;
}

rotor_status gram_like(gram_automaton *a, uint32_t config, uint32_t *like) {
    const gram_config c = a->config[config];
    if (c.like != GRAM_NONE || !a->g->n_link) {
        *like = c.like == GRAM_NONE ? config : c.like;
        return ROTOR_OK;
    }
    begin_search(a);
    for (uint32_t i = 0; i < c.n; i++) {
        gram_item item = a->item[c.first + i];
        ROTOR_TRY(like_list(a, item.stack, &item.stack));
        ROTOR_TRY(visit_more(a));
        if (is_new(&a->visit, item))
            ROTOR_TRY(add_item(a, &a->found, &a->n_found, &a->cap_found, item));
    }
    ROTOR_TRY(config_of_found(a, c.pops, like));
    a->config[config].like = *like;
    return ROTOR_OK;
}

/* ==== Beginning and end ======================================================================= */

rotor_status gram_automaton_init(gram_automaton *a, const grammar *g, uint32_t longest,
                                 size_t limit_bytes, rotor_error *err) {
    uint32_t none, config, dead;
    *a = (gram_automaton){.g = g, .longest = longest, .limit = limit_bytes};
    rotor_status status = push(a, 0, 0, &none); /* frame 0 stands for no frame */
    begin_search(a);
    if (status == ROTOR_OK) status = config_of_found(a, false, &none);
    if (status == ROTOR_OK) status = gram_state_of(a, (gram_state){none, 0}, &dead);
    if (status == ROTOR_OK) status = gram_after(a, g->root, &config);
    if (status == ROTOR_OK) status = gram_state_of(a, (gram_state){config, 0}, &a->start);
    if (status == ROTOR_OK) return ROTOR_OK;
    if (err) *err = a->why;
    gram_automaton_free(a);
    return status;
}

void gram_automaton_free(gram_automaton *a) {
    gram_index *index[] = {&a->frames, &a->configs, &a->states, &a->unfolds};
    for (size_t i = 0; i < BASE_COUNT(index); i++) base_free(index[i]->slot);
    base_free(a->frame);
    base_free(a->item);
    base_free(a->config);
    base_free(a->move);
    base_free(a->state);
    base_free(a->unfold);
    base_free(a->work);
    base_free(a->found);
    base_free(a->rets);
    base_free(a->visit.slot);
    memset(a, 0, sizeof *a);
}
