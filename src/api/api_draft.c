/* SPDX-License-Identifier: MIT
 *
 * Whether one model may guess for another: every id must stand for the same text in both.
 *
 * Larger models of a family often have a few ids more, as padding of the embedding; such ids are
 * marked unused at the end of the vocabulary and are left out. Each engine keeps a hash of its
 * words, made at the first question, so that asking again costs nothing; the words themselves are
 * compared only to tell where two vocabularies differ.
 */
#include "api/api_internal.h"

/* Ids up to the last one in use. */
static uint32_t n_used(const text_vocab *v) {
    size_t n = text_n_tokens(v);
    while (n && text_type(v, (uint32_t)n - 1) == TEXT_UNUSED) n--;
    return (uint32_t)n;
}

static uint64_t hash_of(rotor_engine *e) {
    if (e->vocab_hash) return e->vocab_hash;
    const text_vocab *v = e->m->vocab;
    uint32_t n = n_used(v);
    uint64_t hash = n;
    for (uint32_t id = 0; id < n; id++) {
        base_str word = text_token(v, id);
        hash = base_hash64(word.p, word.n, hash);
    }
    return e->vocab_hash = hash ? hash : 1;
}

static rotor_status differ(const rotor_engine *own, const rotor_engine *draft, rotor_error *err) {
    const text_vocab *a = own->m->vocab, *b = draft->m->vocab;
    uint32_t n_a = n_used(a), n_b = n_used(b), id = 0;
    if (n_a != n_b)
        return base_fail(err, ROTOR_E_ARG,
                         "%s cannot draft for %s: its vocabulary has %u tokens, not %u",
                         draft->m->name, own->m->name, n_b, n_a);
    while (id + 1 < n_a && base_str_eq(text_token(a, id), text_token(b, id))) id++;
    base_str x = text_token(a, id), y = text_token(b, id);
    return base_fail(err, ROTOR_E_ARG,
                     "%s cannot draft for %s: another vocabulary; token %u is '%.*s', not '%.*s'",
                     draft->m->name, own->m->name, id, (int)BASE_MIN(y.n, (size_t)40), y.p,
                     (int)BASE_MIN(x.n, (size_t)40), x.p);
}

rotor_status rotor_draft_check(rotor_session *s, rotor_session *draft, rotor_error *err) {
    if (!s || !draft) return base_fail(err, ROTOR_E_ARG, "rotor_draft_check: a session is NULL");
    rotor_engine *own = s->e, *other = draft->e;
    if (own == other)
        return base_fail(err, ROTOR_E_ARG, "the draft session must be of another engine");
    if (!own->m->vocab || !other->m->vocab)
        return base_fail(err, ROTOR_E_ARG,
                         "%s cannot draft for %s: %s has no vocabulary to compare", other->m->name,
                         own->m->name, own->m->vocab ? other->m->name : own->m->name);
    return hash_of(own) == hash_of(other) ? ROTOR_OK : differ(own, other, err);
}
