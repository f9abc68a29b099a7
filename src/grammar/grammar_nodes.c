/* SPDX-License-Identifier: MIT
 *
 * Rules to a graph over bytes. Each expression is written in front of what follows it:
 *
 *     a b      a -> b -> next            a | b    SPLIT -> a -> next
 *     a*       SPLIT -> a -+                        `----> b -> next
 *              ^  `-> next |
 *              +-----------+            a{1,3}   a -> SPLIT -> a -> SPLIT -> a -> next
 *                                                       `--------------`------^
 * A class of characters becomes the byte sequences of UTF-8 that spell them, so that nothing above
 * knows of characters. What is repeated a counted number of times and is no single rule becomes
 * one, so that a repetition costs two nodes however large it is; such nodes are linked to a chain
 * (gram_link).
 */
#include "grammar/grammar_internal.h"

enum { SMALL_COPIES = 4, CACHE = 32 };

typedef struct builder {
    gram_rules *r;         /* borrowed; repetitions add rules */
    gram_node *node;       /* [n], owned */
    size_t n, cap;         /* in use, allocated */
    gram_link *link;       /* [n_link], owned */
    size_t n_link;         /* in use */
    size_t cap_link;       /* allocated */
    uint32_t *entry;       /* [rules] first nodes, owned */
    gram_node memo[CACHE]; /* byte nodes of the class being written; chain: their number */
    size_t n_memo;         /* how many */
    bool failed, full;     /* out of memory; too large */
} builder;

static uint32_t put(builder *b, gram_node node) {
    if (b->n >= GRAM_MAX_NODES) b->full = true;
    if (b->full || b->failed) return 0;
    if (b->n == b->cap) {
        const size_t cap = b->cap ? 2 * b->cap : 256;
        gram_node *more = base_realloc(b->node, cap * sizeof *more);
        if (!more) return b->failed = true, 0;
        b->node = more;
        b->cap = cap;
    }
    b->node[b->n] = node;
    return (uint32_t)b->n++;
}

static uint32_t put_byte(builder *b, unsigned lo, unsigned hi, uint32_t next) {
    return put(
        b, (gram_node){.kind = GRAM_N_BYTE, .lo = (uint8_t)lo, .hi = (uint8_t)hi, .next = next});
}

static uint32_t put_split(builder *b, uint32_t next, uint32_t other) {
    return put(b, (gram_node){.kind = GRAM_N_SPLIT, .next = next, .other = other});
}

/* ==== Characters ============================================================================== */

/* A byte node that characters of one class share. */
static uint32_t share_byte(builder *b, unsigned lo, unsigned hi, uint32_t next) {
    for (size_t i = 0; i < b->n_memo; i++) {
        const gram_node *m = &b->memo[i];
        if (m->lo == lo && m->hi == hi && m->next == next) return m->chain;
    }
    const uint32_t node = put_byte(b, lo, hi, next);
    if (b->n_memo < CACHE)
        b->memo[b->n_memo++] =
            (gram_node){.lo = (uint8_t)lo, .hi = (uint8_t)hi, .next = next, .chain = node};
    return node;
}

/* Characters of one length in UTF-8, whose bytes may be chosen independently. */
static uint32_t put_block(builder *b, gram_span s, uint32_t next) {
    char lo[4], hi[4];
    const int n = base_utf8_encode(s.lo, lo);
    base_utf8_encode(s.hi, hi);
    for (int i = n; i-- > 0;) next = share_byte(b, (uint8_t)lo[i], (uint8_t)hi[i], next);
    return next;
}

static uint32_t put_span(builder *b, gram_span s, uint32_t next, uint32_t before) {
    static const uint32_t last_of_length[] = {0x7F, 0x7FF, 0xFFFF};
    for (size_t i = 0; i < BASE_COUNT(last_of_length); i++) {
        const uint32_t last = last_of_length[i];
        if (s.lo > last || s.hi <= last) continue;
        before = put_span(b, (gram_span){s.lo, last}, next, before);
        return put_span(b, (gram_span){last + 1, s.hi}, next, before);
    }
    for (int i = 1; s.lo > 0x7F && i < 4; i++) { /* the last i bytes run free, or are cut off */
        const uint32_t m = (UINT32_C(1) << 6 * i) - 1;
        if ((s.lo & ~m) == (s.hi & ~m)) continue;
        uint32_t cut = GRAM_NONE; /* the last character of the first part */
        if (s.lo & m)
            cut = s.lo | m;
        else if ((s.hi & m) != m)
            cut = (s.hi & ~m) - 1;
        if (cut == GRAM_NONE) continue;
        before = put_span(b, (gram_span){s.lo, cut}, next, before);
        return put_span(b, (gram_span){cut + 1, s.hi}, next, before);
    }
    const uint32_t node = put_block(b, s, next);
    return before == GRAM_NONE ? node : put_split(b, node, before);
}

static uint32_t put_class(builder *b, const gram_expr *e, uint32_t next) {
    uint32_t node = GRAM_NONE;
    b->n_memo = 0;
    for (uint32_t i = 0; i < e->b; i++) node = put_span(b, b->r->span[e->a + i], next, node);
    return node == GRAM_NONE ? put_byte(b, 1, 0, next) : node; /* no byte fits */
}

/* ==== Expressions ============================================================================= */

static uint32_t put_expr(builder *b, uint32_t e, uint32_t next);

static void put_link(builder *b, uint32_t node, uint32_t left, uint32_t rule) {
    if (b->n_link == b->cap_link) {
        const size_t cap = b->cap_link ? 2 * b->cap_link : 64;
        gram_link *more = base_realloc(b->link, cap * sizeof *more);
        if (!more) {
            b->failed = true;
            return;
        }
        b->link = more;
        b->cap_link = cap;
    }
    b->link[b->n_link++] = (gram_link){node, left, rule};
    b->node[node].chain = (uint32_t)b->n_link;
}

/* What is repeated, as a rule of its own unless copies of it are no larger than calls. */
static uint32_t repeated(builder *b, uint32_t body, uint32_t copies) {
    const gram_expr *e = &b->r->expr[body];
    const bool small = (e->kind == GRAM_TEXT && e->b <= 1) || e->kind == GRAM_CLASS;
    if (copies <= 1 || e->kind == GRAM_RULE || (small && copies <= SMALL_COPIES)) return body;
    const uint32_t rule = gram_rule_new(b->r, base_str_of("repetition"), 0, 0);
    b->failed |= b->r->failed;
    b->full |= b->r->full;
    if (b->failed || b->full) return body;
    b->r->rule[rule].body = body;
    return gram_call(b->r, rule);
}

static uint32_t put_any(builder *b, uint32_t body, uint32_t next) {
    const uint32_t loop = put_split(b, 0, next), first = put_expr(b, body, loop);
    if (b->failed || b->full) return 0;
    b->node[loop].next = first;
    return loop;
}

static uint32_t put_repeat(builder *b, gram_expr e, uint32_t next) {
    const bool any = e.c == GRAM_NONE;
    const uint32_t body = repeated(b, e.a, any ? BASE_MAX(e.b, 1u) : e.c);
    const gram_expr what = b->r->expr[body];
    const bool linked = what.kind == GRAM_RULE;
    const uint32_t exit = next;
    uint32_t must = e.b;
    if (any) {
        const uint32_t loop = put_any(b, body, next);
        if (must == 0 || b->failed || b->full) return loop;
        next = b->node[loop].next; /* one repetition, then the loop */
        must--;
    }
    for (uint32_t i = 0; !any && i < e.c - e.b && !b->full && !b->failed; i++) {
        const uint32_t once = put_expr(b, body, next);
        next = put_split(b, once, exit);
        if (linked && !b->full && !b->failed) put_link(b, next, i + 1, what.a);
    }
    for (uint32_t i = 0; i < must && !b->full && !b->failed; i++) {
        next = put_expr(b, body, next);
        if (linked && !b->full && !b->failed) put_link(b, next, i + 1, what.a);
    }
    return next;
}

static uint32_t put_alt(builder *b, gram_expr e, uint32_t next) {
    uint32_t node = GRAM_NONE, last;
    for (;;) {
        last = put_expr(b, e.b, next);
        node = node == GRAM_NONE ? last : put_split(b, last, node);
        if (b->r->expr[e.a].kind != GRAM_ALT) break;
        e = b->r->expr[e.a];
    }
    return put_split(b, put_expr(b, e.a, next), node);
}

static uint32_t put_expr(builder *b, uint32_t at, uint32_t next) {
    for (;;) {
        if (b->failed || b->full) return 0;
        const gram_expr e = b->r->expr[at];
        switch (e.kind) {
        case GRAM_SEQ:
            next = put_expr(b, e.b, next);
            at = e.a;
            continue;
        case GRAM_TEXT:
            for (uint32_t i = e.b; i-- > 0;) {
                const uint8_t byte = (uint8_t)b->r->bytes.data[e.a + i];
                next = put_byte(b, byte, byte, next);
            }
            return next;
        case GRAM_CLASS:
            return put_class(b, &b->r->expr[at], next);
        case GRAM_ALT:
            return put_alt(b, e, next);
        case GRAM_REPEAT:
            return put_repeat(b, e, next);
        case GRAM_RULE:
            return put(b, (gram_node){.kind = GRAM_N_CALL, .next = next, .other = e.a});
        default:
            return next;
        }
    }
}

/* ==== The whole =============================================================================== */

static rotor_status put_rules(builder *b, const gram_place *place, rotor_error *err) {
    size_t cap = 0;
    put(b, (gram_node){.kind = GRAM_N_RETURN});
    for (size_t i = 0; i < b->r->n_rule && !b->failed && !b->full; i++) { /* they grow in number */
        if (i >= cap) {
            cap = 2 * b->r->n_rule;
            uint32_t *more = base_realloc(b->entry, cap * sizeof *more);
            if (!more) return base_fail_nomem(err, "reading a grammar");
            b->entry = more;
        }
        b->entry[i] = put_expr(b, b->r->rule[i].body, 0);
    }
    if (b->failed) return base_fail_nomem(err, "reading a grammar");
    if (b->full)
        return base_fail(err, ROTOR_E_FULL, "the %s is too large: more than %d nodes", place->what,
                         GRAM_MAX_NODES);
    return ROTOR_OK;
}

static rotor_status recursion(const builder *b, uint32_t rule, const gram_place *place,
                              rotor_error *err) {
    const gram_rule *r = &b->r->rule[rule];
    if (place->lines && r->line)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s line %u, column %u: rule %.80s begins with itself (left recursion)",
                         place->what, r->line, r->column, gram_rule_name(b->r, rule));
    return base_fail(err, ROTOR_E_FORMAT, "%s: %.80s begins with itself", place->what,
                     gram_rule_name(b->r, rule));
}

static rotor_status check(builder *b, const gram_place *place, rotor_error *err) {
    const uint32_t n = (uint32_t)b->n;
    uint32_t call = GRAM_NONE;
    bool *null = base_alloc_array(n, sizeof *null);
    uint32_t *rule_of = base_alloc_array(n, sizeof *rule_of);
    rotor_status status = null && rule_of ? ROTOR_OK : ROTOR_E_NOMEM;
    for (uint32_t i = 0; status == ROTOR_OK && i < n; i++) {
        if (b->node[i].kind != GRAM_N_CALL) continue;
        rule_of[i] = b->node[i].other;
        b->node[i].other = b->entry[rule_of[i]];
    }
    if (status == ROTOR_OK) status = gram_reach(b->node, n, null);
    if (status == ROTOR_OK) status = gram_find_left_recursion(b->node, n, null, &call);
    /* An empty repetition counts and reads nothing: such nodes are not alike. */
    for (size_t i = 0; status == ROTOR_OK && i < b->n_link; i++)
        if (null[b->entry[b->link[i].rule]]) b->link[i].left = 0;
    if (status != ROTOR_OK)
        base_fail_nomem(err, "reading a grammar");
    else if (call != GRAM_NONE)
        status = recursion(b, rule_of[call], place, err);
    else if (!b->node[b->entry[0]].live)
        status = base_fail(err, ROTOR_E_FORMAT, "%s: no text can fulfil it (%.80s never ends)",
                           place->what, gram_rule_name(b->r, 0));
    base_free(null);
    base_free(rule_of);
    return status;
}

static void find_classes(grammar *g) {
    bool begins[257] = {true};
    for (uint32_t i = 0; i < g->n_node; i++) {
        const gram_node *node = &g->node[i];
        if (node->kind != GRAM_N_BYTE || node->lo > node->hi) continue;
        begins[node->lo] = begins[node->hi + 1] = true;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        if (begins[byte]) g->byte_of[g->n_class++] = (uint8_t)byte;
        g->class_of[byte] = (uint8_t)(g->n_class - 1);
    }
}

rotor_status gram_build(grammar **out, gram_rules *r, const gram_place *place, rotor_error *err) {
    builder b = {.r = r};
    if (r->failed) return base_fail_nomem(err, "reading a grammar");
    if (r->full)
        return base_fail(err, ROTOR_E_FULL, "the %s is too large: more than %d parts", place->what,
                         GRAM_MAX_EXPRS);
    rotor_status status = put_rules(&b, place, err);
    if (status == ROTOR_OK) status = check(&b, place, err);
    grammar *g = status == ROTOR_OK ? base_alloc(sizeof *g) : NULL;
    if (status == ROTOR_OK && !g) status = base_fail_nomem(err, "reading a grammar");
    if (g) {
        *g = (grammar){.node = b.node,
                       .n_node = (uint32_t)b.n,
                       .root = b.entry[0],
                       .link = b.link,
                       .n_link = (uint32_t)b.n_link};
        find_classes(g);
        *out = g;
    } else {
        base_free(b.node);
        base_free(b.link);
    }
    base_free(b.entry);
    return status;
}

void grammar_free(grammar **g) {
    if (!g || !*g) return;
    base_free((*g)->node);
    base_free((*g)->link);
    base_free(*g);
    *g = NULL;
}
