/* SPDX-License-Identifier: MIT
 *
 * What an answer is kept to: the format of a conversation, a grammar, or both. Both: the grammar
 * binds the text of the final channel and nothing else, and the turn ends there, or with a call.
 *
 *     <|channel|>analysis<|message|> as it likes <|end|> … <|channel|>final<|message|> by the
 * grammar
 *
 * A state of the guide is the format's in its low half, the grammar's in its high half. Where calls
 * may come in the text of an answer, the low half is the watch's (api_calls.c): until one has begun
 * the answer is free.
 *
 * The words of an engine are made for its first grammar and kept; a lock guards that.
 */
#include "api/api_internal.h"

/* ==== Grammars ================================================================================ */

/* Marks of the format are not text; where the answer ends, the turn does. */
static grammar_use use_in_parts(const void *user, uint32_t id) {
    const harmony *h = user;
    if (id == h->ret || id == h->endoftext) return GRAMMAR_ENDS;
    return harmony_may_write(h, id) && !harmony_is_mark(h, id) && !text_is_eog(h->v, id)
               ? GRAMMAR_WRITES
               : GRAMMAR_NEVER;
}

/* As without calls, and the marks of these stand for their names. */
static grammar_use use_with_calls(const void *user, uint32_t id) {
    const rotor_engine *e = user;
    const char *mark;
    if (text_is_eog(e->m->vocab, id)) return GRAMMAR_ENDS;
    return api_is_mark(e, id, &mark) ? GRAMMAR_SPELLS : GRAMMAR_WRITES;
}

static bool spells_marks(const rotor_engine *e) {
    const char *mark;
    bool any = false;
    for (uint32_t id = 0; id < text_n_tokens(e->m->vocab) && !any; id++)
        any = api_is_mark(e, id, &mark);
    return any;
}

rotor_status api_words_of(rotor_engine *e, bool calls, const grammar_words **out,
                          rotor_error *err) {
    rotor_status st = ROTOR_OK;
    if (!e->m->vocab)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "grammar: %s has no vocabulary", e->m->name);
    calls = calls && spells_marks(e);
    base_mutex_lock(e->words_lock);
    grammar_words **words = calls ? &e->call_words : &e->words;
    if (!*words && calls)
        st = grammar_words_create(words, e->m->vocab, e->m->hp.n_vocab, use_with_calls, e, err);
    else if (!*words)
        st = grammar_words_create(words, e->m->vocab, e->m->hp.n_vocab,
                                  e->harmony.v ? use_in_parts : NULL, &e->harmony, err);
    *out = *words;
    base_mutex_unlock(e->words_lock);
    return st;
}

static rotor_status read_rules(grammar **out, rotor_grammar_kind kind, const char *text,
                               rotor_error *err) {
    switch (kind) {
    case ROTOR_GRAMMAR_GBNF:
        return grammar_from_gbnf(out, base_str_of(text), err);
    case ROTOR_GRAMMAR_JSON_SCHEMA:
        return grammar_from_schema(out, base_str_of(text), err);
    case ROTOR_GRAMMAR_JSON_OBJECT:
        return grammar_from_schema(out, base_str_of("{\"type\":\"object\"}"), err);
    default:
        return base_fail(err, ROTOR_E_ARG, "rotor_grammar_create: unknown kind %d", (int)kind);
    }
}

rotor_status rotor_grammar_create(rotor_grammar **out, rotor_engine *e, rotor_grammar_kind kind,
                                  const char *text, rotor_error *err) {
    if (!out || !e || (!text && kind != ROTOR_GRAMMAR_JSON_OBJECT))
        return base_fail(err, ROTOR_E_ARG, "rotor_grammar_create: out, engine or text is NULL");
    rotor_grammar *g = base_alloc(sizeof *g);
    if (!g) return base_fail_nomem(err, "reading a grammar");
    g->e = e;
    rotor_status st = read_rules(&g->g, kind, text, err);
    if (st == ROTOR_OK) st = api_words_of(e, false, &g->words, err);
    if (st == ROTOR_OK) st = grammar_masks_create(&g->m, g->g, g->words, NULL, err);
    if (st == ROTOR_OK) return *out = g, ROTOR_OK;
    rotor_grammar_free(&g);
    return st;
}

static size_t bytes_of(const grammar_masks *m) {
    const grammar_counts n = grammar_count(m);
    return n.state_bytes + n.mask_bytes;
}

size_t rotor_grammar_bytes(const rotor_grammar *g) {
    const grammar_masks *beginning = g && g->watch ? g->watch->beginning : NULL;
    return g ? bytes_of(g->m) + (beginning ? bytes_of(beginning) : 0) : 0;
}

void rotor_grammar_free(rotor_grammar **out) {
    if (!out || !*out) return;
    if ((*out)->watch) api_watch_free((*out)->watch);
    base_free((*out)->watch);
    grammar_masks_free(&(*out)->m);
    grammar_free(&(*out)->g);
    base_free(*out);
    *out = NULL;
}

rotor_status api_check_grammar(const rotor_gen_options *o, const rotor_engine *e,
                               rotor_error *err) {
    if (!o->grammar) return ROTOR_OK;
    if (o->grammar->e != e)
        return base_fail(err, ROTOR_E_ARG, "rotor_gen_options: the grammar is of another engine");
    if (o->ignore_eog)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_gen_options: a grammar says where the text ends; ignore_eog does "
                         "not go with it");
    return ROTOR_OK;
}

/* ==== The guide =============================================================================== */

static uint32_t format_of(uint64_t state) { return (uint32_t)state; }
static uint32_t rules_of(uint64_t state) { return (uint32_t)(state >> 32); }

/* Whether the grammar is what counts: in the answer, or where there is no format; in a call. */
static bool by_rules(const api_guide *g, uint64_t state) {
    if (g->watch) return format_of(state) == API_WATCH_BOUND;
    return g->masks && (!g->format || harmony_guide_answers(format_of(state)));
}

static uint64_t step(const void *user, uint64_t state, uint32_t id) {
    const api_guide *g = user;
    uint32_t format = format_of(state), rules = rules_of(state);
    if (g->watch) {
        api_watch_step(g->watch, g->masks, id, &format, &rules);
        return format | (uint64_t)rules << 32;
    }
    if (by_rules(g, state)) /* what fails here says why when it is asked for a mask */
        (void)grammar_step(g->masks, rules, id, &rules, NULL);
    if (g->format) format = harmony_guide_step(g->format, format, id);
    return format | (uint64_t)rules << 32;
}

static rotor_status may(const void *user, uint64_t state, gen_mask *mask, rotor_error *err) {
    const api_guide *g = user;
    if (by_rules(g, state)) {
        grammar_allowed a;
        ROTOR_TRY(grammar_allow(g->masks, rules_of(state), &a, err));
        *mask = (gen_mask){.banned = a.banned};
    } else if (g->watch) {
        *mask = (gen_mask){0};
    } else {
        const harmony_allowed a = harmony_guide_may(g->format, format_of(state), g->ends);
        *mask = (gen_mask){a.only, a.n_only, a.banned};
    }
    return ROTOR_OK;
}

const gen_guide *api_guide_for(api_guide *g, const rotor_engine *e, const uint32_t *ids, size_t n,
                               const rotor_gen_options *o) {
    const uint32_t format =
        e->guide ? harmony_guide_begin(e->guide, ids, n) : (uint32_t)HARMONY_UNGUIDED;
    *g = (api_guide){.format = format == HARMONY_UNGUIDED ? NULL : e->guide,
                     .masks = o->grammar ? o->grammar->m : NULL,
                     .watch = o->grammar ? o->grammar->watch : NULL,
                     .ends = o->ignore_eog ? HARMONY_ENDS_NEVER
                             : o->grammar  ? HARMONY_ENDS_CALL
                                           : HARMONY_ENDS_ANY};
    if (!g->format && !g->masks) return NULL;
    const uint32_t rules = g->masks ? grammar_start(g->masks) : 0;
    const uint32_t first = g->watch ? api_watch_start(g->watch) : format;
    g->guide = (gen_guide){.user = g,
                           .start = first | (uint64_t)rules << 32,
                           .step = step,
                           .may = may,
                           .verbatim = g->masks && !g->format && !g->watch};
    return &g->guide;
}
