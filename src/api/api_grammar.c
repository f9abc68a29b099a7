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
 * the answer is free. Where they are messages, a grammar of their own has the high half in every
 * header, and in the text behind one that calls a function; in the answer it gives it up.
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

/* The same in headers and calls, where some marks have their places. */
static grammar_use use_in_headers(const void *user, uint32_t id) {
    const harmony_rule_mark mark = harmony_rule_mark_of(user, id);
    if (mark != HARMONY_RULE_MARKS) return (grammar_use)(GRAMMAR_MARKS + (int)mark);
    return use_in_parts(user, id) == GRAMMAR_WRITES ? GRAMMAR_WRITES : GRAMMAR_NEVER;
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
    calls = calls && (e->harmony.v || spells_marks(e));
    base_mutex_lock(e->words_lock);
    grammar_words **words = calls ? &e->call_words : &e->words;
    if (!*words && calls && e->harmony.v)
        st = grammar_words_create(words, e->m->vocab, e->m->hp.n_vocab, use_in_headers, &e->harmony,
                                  err);
    else if (!*words && calls)
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

static rotor_status check_rules(const rotor_grammar *g, bool headers, const rotor_gen_options *o,
                                const rotor_engine *e, rotor_error *err) {
    if (!g) return ROTOR_OK;
    if (g->e != e)
        return base_fail(err, ROTOR_E_ARG, "rotor_gen_options: the grammar%s is of another engine",
                         headers ? " of calls" : "");
    if (g->headers != headers)
        return base_fail(err, ROTOR_E_ARG,
                         headers ? "rotor_gen_options: calls takes what rotor_grammar_create_calls "
                                   "makes for a model of the Harmony format; other rules go into "
                                   "grammar"
                                 : "rotor_gen_options: rules of Harmony's calls go into calls, not "
                                   "into grammar");
    if (o->ignore_eog)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_gen_options: a grammar says where the text ends; ignore_eog does "
                         "not go with it");
    return ROTOR_OK;
}

rotor_status api_check_grammar(const rotor_gen_options *o, const rotor_engine *e,
                               rotor_error *err) {
    ROTOR_TRY(check_rules(o->calls, true, o, e, err));
    return check_rules(o->grammar, false, o, e, err);
}

/* ==== The guide =============================================================================== */

/* Who says what may come. */
typedef enum ruler {
    BY_FORMAT, /* the format of the conversation, or nobody */
    BY_ANSWER, /* the grammar: in the answer, or where there is no format; in a call in its text */
    BY_CALLS   /* that of headers and calls */
} ruler;

static uint32_t format_of(uint64_t state) { return (uint32_t)state; }
static uint32_t rules_of(uint64_t state) { return (uint32_t)(state >> 32); }
static uint64_t state_of(uint32_t format, uint32_t rules) { return format | (uint64_t)rules << 32; }

/* The rules of a header that calls nobody have ended with it. */
static ruler ruler_of(const api_guide *g, uint64_t state) {
    const uint32_t format = format_of(state);
    if (g->watch) return format == API_WATCH_BOUND ? BY_ANSWER : BY_FORMAT;
    if (g->calls && harmony_guide_heads(format)) return BY_CALLS;
    if (g->masks && (!g->format || harmony_guide_answers(format))) return BY_ANSWER;
    if (g->calls && harmony_guide_speaks(format) && !grammar_may_end(g->calls, rules_of(state)))
        return BY_CALLS;
    return BY_FORMAT;
}

/* Where the rules begin anew: at every header, and at the answer. */
static uint32_t turn_over(const api_guide *g, uint32_t before, uint32_t format, uint32_t rules) {
    if (g->calls && harmony_guide_opens(format)) return g->opening;
    if (g->calls && g->masks && harmony_guide_answers(format) && !harmony_guide_answers(before))
        return grammar_start(g->masks);
    return rules;
}

static uint64_t step(const void *user, uint64_t state, uint32_t id) {
    const api_guide *g = user;
    const uint32_t before = format_of(state);
    uint32_t format = before, rules = rules_of(state);
    if (g->watch) {
        api_watch_step(g->watch, g->masks, id, &format, &rules);
        return state_of(format, rules);
    }
    const ruler by = ruler_of(g, state);
    if (by != BY_FORMAT) /* what fails here says why when it is asked for a mask */
        (void)grammar_step(by == BY_CALLS ? g->calls : g->masks, rules, id, &rules, NULL);
    if (g->format) format = harmony_guide_step(g->format, format, id);
    return state_of(format, turn_over(g, before, format, rules));
}

static rotor_status may(const void *user, uint64_t state, gen_mask *mask, rotor_error *err) {
    const api_guide *g = user;
    const ruler by = ruler_of(g, state);
    if (by != BY_FORMAT) {
        grammar_allowed a;
        ROTOR_TRY(grammar_allow(by == BY_CALLS ? g->calls : g->masks, rules_of(state), &a, err));
        *mask = (gen_mask){.banned = a.banned};
    } else if (g->watch) {
        *mask = (gen_mask){0};
    } else {
        const harmony_allowed a = harmony_guide_may(g->format, format_of(state), g->ends);
        *mask = (gen_mask){a.only, a.n_only, a.banned};
    }
    return ROTOR_OK;
}

static harmony_ends ends_of(const rotor_gen_options *o) {
    /* with calls, their own rules bring the mark behind them */
    if (o->ignore_eog || (o->calls && (o->calls->required || o->grammar)))
        return HARMONY_ENDS_NEVER;
    return o->grammar ? HARMONY_ENDS_CALL : HARMONY_ENDS_ANY;
}

/* The state behind the message that a prompt opens, by the rules of calls. */
static rotor_status open_calls(api_guide *g, const harmony *h, const uint32_t *ids, size_t n,
                               uint64_t *state, rotor_error *err) {
    uint32_t later;
    const uint32_t start = grammar_start(g->calls);
    if (!g->format)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_gen_options: calls are kept to rules in an answer of a "
                         "conversation; the prompt opens none");
    ROTOR_TRY(grammar_put(g->calls, start, base_str_of(HARMONY_RULE_FIRST), &g->opening, err));
    ROTOR_TRY(grammar_put(g->calls, start, base_str_of(HARMONY_RULE_LATER), &later, err));
    size_t at = n;
    while (at > 0 && ids[at - 1] != h->start) at--;
    for (at -= at > 0; at < n; at++) *state = step(g, *state, ids[at]);
    g->opening = later;
    return ROTOR_OK;
}

rotor_status api_guide_for(api_guide *g, const rotor_engine *e, const uint32_t *ids, size_t n,
                           const rotor_gen_options *o, const gen_guide **out, rotor_error *err) {
    const uint32_t format =
        e->guide ? harmony_guide_begin(e->guide, ids, n) : (uint32_t)HARMONY_UNGUIDED;
    *out = NULL;
    *g = (api_guide){.format = format == HARMONY_UNGUIDED ? NULL : e->guide,
                     .masks = o->grammar ? o->grammar->m : NULL,
                     .calls = o->calls ? o->calls->m : NULL,
                     .watch = o->grammar ? o->grammar->watch : NULL,
                     .ends = ends_of(o)};
    if (!g->format && !g->masks && !g->calls) return ROTOR_OK;
    const uint32_t rules = g->masks ? grammar_start(g->masks) : 0;
    uint64_t start = state_of(g->watch ? api_watch_start(g->watch) : format, rules);
    if (g->calls) {
        start = state_of(HARMONY_UNGUIDED, 0);
        ROTOR_TRY(open_calls(g, &e->harmony, ids, n, &start, err));
    }
    g->guide = (gen_guide){.user = g,
                           .start = start,
                           .step = step,
                           .may = may,
                           .verbatim = g->masks && !g->format && !g->watch};
    *out = &g->guide;
    return ROTOR_OK;
}
