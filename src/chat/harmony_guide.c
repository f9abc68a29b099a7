/* SPDX-License-Identifier: MIT
 *
 * What may come next in an answer, so that sampling keeps to the format.
 *
 *            <|start|>            "assistant"
 *      ENDED ---------> ROLE ----------------> NAMED -- " to…" --> BEFORE --+
 *        ^                                       |  <|channel|>       |     |
 *        |                                       v                    |     |
 *        |                                    CHANNEL <---------------+     | <|message|>
 *        |                                       | one of the channels      |
 *        |  <|end|>, a stop                      v          a blank         |
 *      CONTENT <-------- <|message|> --------- TAIL ------------> AFTER     |
 *        ^                                                          |       |
 *        +----------------------------------------------------------+-------+
 *
 * A name may be spelt by any tokens that spell it. Where the vocabulary cannot spell one, and after
 * ids that do not fit (of a prompt), a header is free text. A header of HEADER_MAX ids must end.
 * FREE and FOREIGN are not guided: no conversation, and somebody else's message.
 *
 * A guide is immutable; a state is a number, its low byte one of the above, its top bit set behind
 * the name of the final channel.
 */
#include "chat/harmony_internal.h"

#include <assert.h>

enum { FREE, FOREIGN, ROLE, NAMED, BEFORE, CHANNEL, TAIL, AFTER, CONTENT, ENDED };
enum { HEADER_MAX = 256, WORD_MAX = 16, FINAL = 2, ASSISTANT = 3, N_WORDS = 4 };
#define IN_FINAL (UINT32_C(1) << 31)
/* Sets of ids that may not come. */
enum { NO_BEFORE, NO_TAIL, NO_AFTER, NO_CONTENT, NO_CONTENT_OR_STOP, NO_CONTENT_OR_CALL, N_SETS };

static const char *const words[N_WORDS] = {"analysis", "commentary", "final", "assistant"};

struct harmony_guide {
    harmony h;                        /* marks */
    uint32_t n_ids;                   /* rows of the output head */
    text_ids next[N_WORDS][WORD_MAX]; /* ids that go on spelling a word from this byte on */
    text_ids channel;                 /* the first of any channel */
    text_ids named;                   /* behind the role */
    text_ids ended;                   /* <|start|> and the stops of a turn */
    uint32_t start, message;          /* the marks as lists of one */
    uint32_t *banned[N_SETS];         /* [(n_ids + 31) / 32] bits, owned */
};

static uint32_t state_of(uint32_t kind, uint32_t detail) { return kind | detail << 8; }
static uint32_t detail_of(uint32_t state) { return (state & ~IN_FINAL) >> 8; }

static bool begins(base_str s, base_str with) {
    return s.n >= with.n && memcmp(s.p, with.p, with.n) == 0;
}

static base_str rest_of(uint32_t word, size_t at) { return base_str_of(words[word] + at); }

/* ==== Creation ================================================================================ */

/* Nor one that would end the generation though the format does not know it. */
static bool is_text(const harmony *h, uint32_t id) {
    return harmony_may_write(h, id) && !harmony_is_mark(h, id) && !text_is_eog(h->v, id);
}

static void ban(harmony_guide *g, int set, uint32_t id, bool banned) {
    if (banned) g->banned[set][id / 32] |= UINT32_C(1) << id % 32;
}

static rotor_status add(const harmony_guide *g, text_ids *list, uint32_t id) {
    return id < g->n_ids ? text_ids_push(list, id) : ROTOR_OK;
}

static rotor_status fill_id(harmony_guide *g, uint32_t id) {
    static const char to[] = " to=";
    const harmony *h = &g->h;
    const bool text = is_text(h, id), message = id == h->message || id == h->constrain;
    const base_str s = text ? text_token(h->v, id) : (base_str){0};
    const base_str recipient = base_str_of(to);
    ban(g, NO_BEFORE, id, !(text || message || id == h->channel));
    ban(g, NO_TAIL, id, !((s.n && s.p[0] == ' ') || message));
    ban(g, NO_AFTER, id, !(text || message));
    ban(g, NO_CONTENT, id, !(text || id == h->end || harmony_is_stop(h, id)));
    ban(g, NO_CONTENT_OR_STOP, id, !(text || id == h->end));
    ban(g, NO_CONTENT_OR_CALL, id, !(text || id == h->end || id == h->call));
    if (s.n && (begins(s, recipient) || begins(recipient, s))) return add(g, &g->named, id);
    return ROTOR_OK;
}

/* Every token that is a beginning of what is left of a word. */
static rotor_status fill_word(harmony_guide *g, uint32_t word) {
    for (size_t at = 0; words[word][at]; at++) {
        const base_str rest = rest_of(word, at);
        for (size_t n = 1; n <= rest.n; n++) {
            const uint32_t id = text_find(g->h.v, (base_str){rest.p, n});
            if (id == TEXT_NO_ID || !is_text(&g->h, id)) continue;
            ROTOR_TRY(add(g, &g->next[word][at], id));
            if (at == 0 && word != ASSISTANT) ROTOR_TRY(add(g, &g->channel, id));
        }
    }
    return ROTOR_OK;
}

static rotor_status fill(harmony_guide *g) {
    const size_t n_words = (g->n_ids + 31) / 32;
    for (int i = 0; i < N_SETS; i++)
        if (!(g->banned[i] = base_alloc_array(n_words, sizeof **g->banned))) return ROTOR_E_NOMEM;
    ROTOR_TRY(add(g, &g->named, g->h.channel));
    for (uint32_t id = 0; id < g->n_ids; id++) ROTOR_TRY(fill_id(g, id));
    for (uint32_t w = 0; w < N_WORDS; w++) ROTOR_TRY(fill_word(g, w));
    ROTOR_TRY(add(g, &g->ended, g->h.start));
    ROTOR_TRY(add(g, &g->ended, g->h.ret));
    return add(g, &g->ended, g->h.endoftext);
}

rotor_status harmony_guide_create(harmony_guide **out, const harmony *h, size_t n_ids) {
    assert(out && h && n_ids < TEXT_NO_ID);
    harmony_guide *g = base_alloc(sizeof *g);
    if (!g) return ROTOR_E_NOMEM;
    g->h = *h;
    g->n_ids = (uint32_t)n_ids;
    g->start = h->start;
    g->message = h->message;
    if (fill(g) == ROTOR_OK) return *out = g, ROTOR_OK;
    harmony_guide_free(&g);
    return ROTOR_E_NOMEM;
}

void harmony_guide_free(harmony_guide **out) {
    if (!out || !*out) return;
    harmony_guide *g = *out;
    for (int w = 0; w < N_WORDS; w++)
        for (int i = 0; i < WORD_MAX; i++) text_ids_free(&g->next[w][i]);
    for (int i = 0; i < N_SETS; i++) base_free(g->banned[i]);
    text_ids_free(&g->channel);
    text_ids_free(&g->named);
    text_ids_free(&g->ended);
    base_free(g);
    *out = NULL;
}

/* ==== Steps =================================================================================== */

/* The word goes on with this id; `done` when it is whole, `kind` until then. */
static uint32_t spell(const harmony_guide *g, uint32_t word, size_t at, uint32_t id,
                      const uint32_t kinds[3]) {
    const uint32_t kind = kinds[0], done = kinds[1], otherwise = kinds[2];
    const base_str rest = rest_of(word, at), s = text_token(g->h.v, id);
    if (!s.n || !begins(rest, s)) return state_of(otherwise, 0);
    if (s.n == rest.n) return state_of(done, 0);
    return state_of(kind, (uint32_t)(word * WORD_MAX + at + s.n));
}

static uint32_t step_channel(const harmony_guide *g, uint32_t detail, uint32_t id) {
    static const uint32_t kinds[] = {CHANNEL, TAIL, AFTER};
    const base_str s = text_token(g->h.v, id);
    uint32_t word = detail / WORD_MAX;
    for (uint32_t w = 0; detail == 0 && w < ASSISTANT; w++)
        if (s.n && begins(rest_of(w, 0), s)) word = w;
    const uint32_t next = spell(g, word, detail % WORD_MAX, id, kinds);
    return next == state_of(TAIL, 0) && word == FINAL ? next | IN_FINAL : next;
}

/* A word of a header. */
static uint32_t step_text(const harmony_guide *g, uint32_t state, uint32_t id) {
    static const uint32_t kinds[] = {ROLE, NAMED, FOREIGN};
    const uint32_t kind = state & 255, detail = detail_of(state), final = state & IN_FINAL;
    switch (kind) {
    case ROLE:
        return spell(g, ASSISTANT, detail % WORD_MAX, id, kinds);
    case NAMED:
        return state_of(BEFORE, 1);
    case TAIL:
        return state_of(AFTER, 1) | final;
    case CHANNEL:
        return step_channel(g, detail, id);
    case BEFORE:
    case AFTER:
        return state_of(kind, BASE_MIN(detail + 1, (uint32_t)HEADER_MAX)) | final;
    default:
        return state;
    }
}

uint32_t harmony_guide_step(const harmony_guide *g, uint32_t state, uint32_t id) {
    const harmony *h = &g->h;
    const uint32_t kind = state & 255;
    if (id == h->start) return state_of(ROLE, 0);
    if (kind == FREE || id >= text_n_tokens(h->v)) return state;
    if (id == h->end || harmony_is_stop(h, id)) return state_of(ENDED, 0);
    if (kind == FOREIGN || kind == CONTENT) return state;
    if (id == h->message)
        return kind == ROLE ? state_of(FOREIGN, 0) : state_of(CONTENT, 0) | (state & IN_FINAL);
    if (id == h->channel) return state_of(kind == ROLE ? FOREIGN : CHANNEL, 0);
    return step_text(g, state, id);
}

uint32_t harmony_guide_begin(const harmony_guide *g, const uint32_t *ids, size_t n) {
    size_t at = n;
    uint32_t state = HARMONY_UNGUIDED;
    while (at > 0 && ids[at - 1] != g->h.start) at--;
    for (at -= at > 0; at < n; at++) state = harmony_guide_step(g, state, ids[at]);
    return (state & 255) == FOREIGN ? HARMONY_UNGUIDED : state;
}

bool harmony_guide_speaks(uint32_t state) { return (state & 255) == CONTENT; }
bool harmony_guide_answers(uint32_t state) {
    return harmony_guide_speaks(state) && state & IN_FINAL;
}
bool harmony_guide_opens(uint32_t state) { return (state & 255) == NAMED; }
bool harmony_guide_heads(uint32_t state) {
    return (state & 255) >= NAMED && (state & 255) <= AFTER;
}

/* ==== What may come =========================================================================== */

static harmony_allowed one_of(const harmony_guide *g, const text_ids *list) {
    if (!list->n) return (harmony_allowed){.banned = g->banned[NO_AFTER]};
    return (harmony_allowed){.only = list->ids, .n_only = list->n};
}

static harmony_allowed header(const harmony_guide *g, int set, uint32_t n_ids) {
    if (n_ids < HEADER_MAX || g->message >= g->n_ids) /* a vocabulary longer than the head */
        return (harmony_allowed){.banned = g->banned[set]};
    return (harmony_allowed){.only = &g->message, .n_only = 1};
}

harmony_allowed harmony_guide_may(const harmony_guide *g, uint32_t state, harmony_ends ends) {
    static const uint8_t contents[] = {NO_CONTENT, NO_CONTENT_OR_STOP, NO_CONTENT_OR_CALL};
    const uint32_t detail = detail_of(state);
    switch (state & 255) {
    case ROLE:
        return one_of(g, &g->next[ASSISTANT][detail % WORD_MAX]);
    case NAMED:
        return one_of(g, &g->named);
    case CHANNEL:
        return one_of(g, detail ? &g->next[detail / WORD_MAX][detail % WORD_MAX] : &g->channel);
    case BEFORE:
        return header(g, NO_BEFORE, detail);
    case TAIL:
        return header(g, NO_TAIL, 0);
    case AFTER:
        return header(g, NO_AFTER, detail);
    case CONTENT:
        return (harmony_allowed){.banned = g->banned[contents[ends]]};
    case ENDED:
        if (ends != HARMONY_ENDS_ANY && g->start < g->n_ids)
            return (harmony_allowed){.only = &g->start, .n_only = 1};
        return one_of(g, &g->ended);
    default:
        return (harmony_allowed){0};
    }
}
