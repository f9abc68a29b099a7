/* SPDX-License-Identifier: MIT
 *
 * A vocabulary as a tree: tokens that begin with the same bytes share the nodes of these bytes, so
 * that a walk over the tree reads each beginning once and leaves out whatever follows one that does
 * not fit.
 *
 *     tokens a, ab, ac, b:    node  byte depth past  token
 *                              0    a    1     3     "a"
 *                              1    b    2     2     "ab"
 *                              2    c    2     3     "ac"
 *                              3    b    1     4     "b"
 *
 * The bytes of a token are those that the detokenizer writes for it in the middle of a text.
 */
#include "grammar/grammar_internal.h"

#include <assert.h>
#include <stdlib.h>

typedef struct word {
    const char *p; /* [n], in the blob */
    uint32_t n;    /* bytes */
    uint32_t id;   /* token */
} word;

static grammar_use plain_use(const text_vocab *v, uint32_t id) {
    return text_is_eog(v, id) ? GRAMMAR_ENDS : GRAMMAR_WRITES;
}

/* ==== Texts =================================================================================== */

static rotor_status write_word(grammar_words *w, uint32_t id, bool name) {
    text_stream s;
    text_stream_init(&s, w->v);
    s.at_start = false;
    s.raw = true;
    s.render_special = name;
    return text_stream_put(&s, id, &w->blob);
}

/* Would the token be taken for a mark, or for a part of one? */
static bool looks_like_mark(base_str s) {
    for (size_t i = 0; i < s.n; i++)
        if ((uint8_t)s.p[i] >= GRAM_MARK) return true;
    return false;
}

static rotor_status write_mark(grammar_words *w, grammar_use as) {
    const char byte = (char)(GRAM_MARK + (as - GRAMMAR_MARKS));
    assert(as - GRAMMAR_MARKS < GRAMMAR_MAX_MARKS);
    return base_buf_append(&w->blob, &byte, 1) ? ROTOR_OK : ROTOR_E_NOMEM;
}

static rotor_status write_words(grammar_words *w, grammar_use (*use)(const void *user, uint32_t id),
                                const void *user) {
    const size_t n = BASE_MIN(w->n_ids, text_n_tokens(w->v));
    bool marks = false;
    for (uint32_t id = 0; use && id < n && !marks; id++) marks = use(user, id) >= GRAMMAR_MARKS;
    for (uint32_t id = 0; id < n; id++) {
        const grammar_use as = use ? use(user, id) : plain_use(w->v, id);
        const size_t at = w->blob.len;
        w->start[id] = (uint32_t)at;
        if (as == GRAMMAR_ENDS) w->ends[w->n_ends++] = id;
        if (as == GRAMMAR_WRITES || as == GRAMMAR_SPELLS)
            ROTOR_TRY(write_word(w, id, as == GRAMMAR_SPELLS));
        if (marks && w->blob.len > at &&
            looks_like_mark((base_str){w->blob.data + at, w->blob.len - at}))
            w->blob.len = at;
        if (as >= GRAMMAR_MARKS) ROTOR_TRY(write_mark(w, as));
        w->longest = BASE_MAX(w->longest, (uint32_t)w->blob.len - w->start[id]);
    }
    for (size_t id = n; id <= w->n_ids; id++) w->start[id] = (uint32_t)w->blob.len;
    return ROTOR_OK;
}

base_str grammar_word(const grammar_words *w, uint32_t id) {
    if (id >= w->n_ids || !w->blob.len) return (base_str){"", 0};
    return (base_str){w->blob.data + w->start[id], w->start[id + 1] - w->start[id]};
}

/* ==== The tree ================================================================================ */

static int by_bytes(const void *a, const void *b) {
    const word *x = a, *y = b;
    const int order = memcmp(x->p, y->p, BASE_MIN(x->n, y->n));
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static uint32_t shared(const word *a, const word *b) {
    const uint32_t most = BASE_MIN(a->n, b->n);
    uint32_t n = 0;
    while (n < most && a->p[n] == b->p[n]) n++;
    return n;
}

static uint32_t count_nodes(const word *list, size_t n) {
    uint32_t nodes = 0;
    for (size_t i = 0; i < n; i++) nodes += list[i].n - (i ? shared(&list[i - 1], &list[i]) : 0);
    return nodes;
}

/* open[longest]: scratch, the node at each depth of the word before. */
static void grow(grammar_words *w, const word *list, size_t n, uint32_t *open) {
    uint32_t depth = 0, last = GRAM_NONE;
    for (size_t i = 0; i < n; i++) {
        const uint32_t keep = i ? shared(&list[i - 1], &list[i]) : 0;
        while (depth > keep) w->past[open[--depth]] = w->n;
        for (; depth < list[i].n; depth++) {
            w->byte[w->n] = (uint8_t)list[i].p[depth];
            w->depth[w->n] = (uint16_t)(depth + 1);
            w->id[w->n] = GRAM_NONE;
            open[depth] = w->n++;
        }
        uint32_t *end = &w->id[open[depth - 1]];
        if (*end == GRAM_NONE)
            *end = list[i].id;
        else
            w->twin[last] = list[i].id;
        last = list[i].id;
    }
    while (depth > 0) w->past[open[--depth]] = w->n;
}

static rotor_status make_tree(grammar_words *w) {
    size_t n = 0;
    word *list = base_alloc_array(w->n_ids, sizeof *list);
    uint32_t *open = base_alloc_array((size_t)w->longest + 1, sizeof *open);
    rotor_status status = list && open ? ROTOR_OK : ROTOR_E_NOMEM;
    for (uint32_t id = 0; status == ROTOR_OK && id < w->n_ids; id++) {
        const base_str s = grammar_word(w, id);
        if (s.n) list[n++] = (word){s.p, (uint32_t)s.n, id};
        w->twin[id] = GRAM_NONE;
    }
    if (status == ROTOR_OK) {
        qsort(list, n, sizeof *list, by_bytes);
        const uint32_t nodes = count_nodes(list, n);
        w->byte = base_alloc_array(nodes, sizeof *w->byte);
        w->depth = base_alloc_array(nodes, sizeof *w->depth);
        w->past = base_alloc_array(nodes, sizeof *w->past);
        w->id = base_alloc_array(nodes, sizeof *w->id);
        if (!w->byte || !w->depth || !w->past || !w->id) status = ROTOR_E_NOMEM;
    }
    if (status == ROTOR_OK) grow(w, list, n, open);
    base_free(list);
    base_free(open);
    return status;
}

rotor_status grammar_words_create(grammar_words **out, const text_vocab *v, size_t n_ids,
                                  grammar_use (*use)(const void *user, uint32_t id),
                                  const void *user, rotor_error *err) {
    grammar_words *w = base_alloc(sizeof *w);
    if (!w) return base_fail_nomem(err, "reading a vocabulary for grammars");
    w->v = v;
    w->n_ids = n_ids;
    w->start = base_alloc_array(n_ids + 1, sizeof *w->start);
    w->twin = base_alloc_array(n_ids, sizeof *w->twin);
    w->ends = base_alloc_array(n_ids, sizeof *w->ends);
    rotor_status status = w->start && w->twin && w->ends ? ROTOR_OK : ROTOR_E_NOMEM;
    if (status == ROTOR_OK) status = write_words(w, use, user);
    if (status == ROTOR_OK && w->longest > UINT16_MAX) {
        status = base_fail(err, ROTOR_E_UNSUPPORTED, "grammar: a token of %u bytes", w->longest);
        grammar_words_free(&w);
        return status;
    }
    if (status == ROTOR_OK) status = make_tree(w);
    if (status == ROTOR_OK) return *out = w, ROTOR_OK;
    grammar_words_free(&w);
    return base_fail_nomem(err, "reading a vocabulary for grammars");
}

void grammar_words_free(grammar_words **out) {
    if (!out || !*out) return;
    grammar_words *w = *out;
    base_free(w->byte);
    base_free(w->depth);
    base_free(w->past);
    base_free(w->id);
    base_free(w->twin);
    base_free(w->start);
    base_free(w->ends);
    base_buf_free(&w->blob);
    base_free(w);
    *out = NULL;
}
