/* SPDX-License-Identifier: MIT
 *
 * What holds of a graph of rules as a whole: from which nodes an end can be reached, with and
 * without reading, and whether a rule begins with itself.
 *
 * Both are done in time linear in the graph and without recursion, for grammars come from anybody.
 */
#include "grammar/grammar_internal.h"

/* ==== Reaching the end ======================================================================== */

typedef struct reach {
    const gram_node *node; /* [n] */
    uint32_t n;            /* nodes */
    uint32_t *first;       /* [n + 1] where the nodes that lead to a node are listed */
    uint32_t *from;        /* [2 n] these nodes */
    uint32_t *queue;       /* [n] nodes whose value has become true */
    bool *value;           /* [n] */
} reach;

static bool has_other(const gram_node *x) {
    return x->kind == GRAM_N_SPLIT || x->kind == GRAM_N_CALL;
}

/* first[k] counts what leads to k, then is where its list ends, then where it begins. */
static void list_edges(reach *r) {
    for (uint32_t i = 1; i < r->n; i++) {
        r->first[r->node[i].next]++;
        if (has_other(&r->node[i])) r->first[r->node[i].other]++;
    }
    for (uint32_t i = 0; i < r->n; i++) r->first[i + 1] += r->first[i];
    for (uint32_t i = 1; i < r->n; i++) {
        const gram_node *x = &r->node[i];
        r->from[--r->first[x->next]] = i;
        if (has_other(x)) r->from[--r->first[x->other]] = i;
    }
}

static bool holds(const reach *r, const gram_node *x, bool reading) {
    switch (x->kind) {
    case GRAM_N_BYTE:
        return reading && x->lo <= x->hi && r->value[x->next];
    case GRAM_N_SPLIT:
        return r->value[x->next] || r->value[x->other];
    case GRAM_N_CALL:
        return r->value[x->next] && r->value[x->other];
    default:
        return true;
    }
}

/* The nodes from which the end of their rule is reached. */
static void spread(reach *r, bool reading) {
    uint32_t n = 0;
    r->value[0] = true;
    r->queue[n++] = 0;
    for (uint32_t at = 0; at < n; at++)
        for (uint32_t i = r->first[r->queue[at]]; i < r->first[r->queue[at] + 1]; i++) {
            const uint32_t from = r->from[i];
            if (r->value[from] || !holds(r, &r->node[from], reading)) continue;
            r->value[from] = true;
            r->queue[n++] = from;
        }
}

rotor_status gram_reach(gram_node *node, uint32_t n, bool *null) {
    reach r = {.node = node, .n = n};
    r.first = base_alloc_array((size_t)n + 1, sizeof *r.first);
    r.from = base_alloc_array(2 * (size_t)n, sizeof *r.from);
    r.queue = base_alloc_array(n, sizeof *r.queue);
    r.value = base_alloc_array(n, sizeof *r.value);
    const bool ok = r.first && r.from && r.queue && r.value;
    if (ok) {
        list_edges(&r);
        spread(&r, true);
        for (uint32_t i = 0; i < n; i++) node[i].live = r.value[i];
        memset(r.value, 0, n * sizeof *r.value);
        spread(&r, false);
        memcpy(null, r.value, n * sizeof *null);
    }
    base_free(r.first);
    base_free(r.from);
    base_free(r.queue);
    base_free(r.value);
    return ok ? ROTOR_OK : ROTOR_E_NOMEM;
}

/* ==== Left recursion ==========================================================================
 * A cycle of steps that read nothing and enter a rule: found by Tarjan's strongly connected
 * components. A cycle that enters no rule is a loop around something empty, which is harmless. */

typedef struct visit {
    uint32_t order; /* when it was reached, from 1; 0: not yet */
    uint32_t low;   /* the earliest reached from it that is still open */
    uint32_t part;  /* its component, once closed; 0: open */
    uint32_t edge;  /* the next of its edges to follow */
} visit;

typedef struct scc {
    const gram_node *node;   /* graph */
    const bool *null;        /* of its nodes */
    visit *at;               /* [n] */
    uint32_t *path;          /* [n] nodes being visited, each reached from the one before */
    uint32_t *open;          /* [n] nodes of components that are not closed */
    uint32_t n_path, n_open; /* in use */
    uint32_t n_seen, n_part; /* counters */
} scc;

/* Edge i of a node; GRAM_NONE: there is none, but perhaps a next one. */
static uint32_t edge(const scc *s, uint32_t node, uint32_t i) {
    const gram_node *x = &s->node[node];
    if (x->kind == GRAM_N_SPLIT) return i ? x->other : x->next;
    if (x->kind != GRAM_N_CALL) return GRAM_NONE;
    return i ? x->other : s->null[x->other] ? x->next : GRAM_NONE;
}

static void enter(scc *s, uint32_t node) {
    s->at[node].order = s->at[node].low = ++s->n_seen;
    s->path[s->n_path++] = s->open[s->n_open++] = node;
}

static void leave(scc *s, uint32_t node) {
    const uint32_t low = s->at[node].low;
    s->n_path--;
    if (s->n_path) {
        visit *before = &s->at[s->path[s->n_path - 1]];
        before->low = BASE_MIN(before->low, low);
    }
    if (low != s->at[node].order) return;
    s->n_part++;
    uint32_t member;
    do s->at[member = s->open[--s->n_open]].part = s->n_part;
    while (member != node);
}

static void visit_from(scc *s, uint32_t root) {
    enter(s, root);
    while (s->n_path) {
        const uint32_t node = s->path[s->n_path - 1];
        visit *v = &s->at[node];
        if (v->edge == 2) {
            leave(s, node);
            continue;
        }
        const uint32_t to = edge(s, node, v->edge++);
        if (to == GRAM_NONE || s->at[to].part) continue;
        if (s->at[to].order)
            v->low = BASE_MIN(v->low, s->at[to].order);
        else
            enter(s, to);
    }
}

rotor_status gram_find_left_recursion(const gram_node *node, uint32_t n, const bool *null,
                                      uint32_t *call) {
    scc s = {.node = node, .null = null};
    s.at = base_alloc_array(n, sizeof *s.at);
    s.path = base_alloc_array(n, sizeof *s.path);
    s.open = base_alloc_array(n, sizeof *s.open);
    const bool ok = s.at && s.path && s.open;
    for (uint32_t i = 0; ok && i < n; i++)
        if (!s.at[i].order) visit_from(&s, i);
    *call = GRAM_NONE;
    for (uint32_t i = 0; ok && i < n && *call == GRAM_NONE; i++)
        if (node[i].kind == GRAM_N_CALL && s.at[i].part == s.at[node[i].other].part) *call = i;
    base_free(s.at);
    base_free(s.path);
    base_free(s.open);
    return ok ? ROTOR_OK : ROTOR_E_NOMEM;
}
