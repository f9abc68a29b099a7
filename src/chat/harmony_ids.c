/* SPDX-License-Identifier: MIT
 *
 * The marks of Harmony in a vocabulary, which of them end a turn, and which ids the assistant has
 * no business to write.
 */
#include "chat/harmony_internal.h"

#include <assert.h>

rotor_status harmony_find(harmony *out, const text_vocab *v, rotor_error *err) {
    assert(out && v);
    harmony h = {.v = v};
    const struct {
        uint32_t *id;     /* where it goes */
        const char *text; /* of the token */
        bool needed;      /* without it the format cannot be written */
    } marks[] = {{&h.start, "<|start|>", true},          {&h.channel, "<|channel|>", true},
                 {&h.message, "<|message|>", true},      {&h.end, "<|end|>", true},
                 {&h.ret, "<|return|>", true},           {&h.call, "<|call|>", true},
                 {&h.constrain, "<|constrain|>", false}, {&h.endoftext, "<|endoftext|>", false}};
    for (size_t i = 0; i < BASE_COUNT(marks); i++) {
        *marks[i].id = text_find(v, base_str_of(marks[i].text));
        if (*marks[i].id == TEXT_NO_ID && marks[i].needed)
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "this vocabulary is not a Harmony one: it has no token %s",
                             marks[i].text);
    }
    *out = h;
    return ROTOR_OK;
}

bool harmony_is_stop(const harmony *h, uint32_t id) {
    return id != TEXT_NO_ID && (id == h->ret || id == h->call || id == h->endoftext);
}

bool harmony_is_mark(const harmony *h, uint32_t id) {
    return harmony_is_stop(h, id) || id == h->start || id == h->channel || id == h->message ||
           id == h->end || (id == h->constrain && id != TEXT_NO_ID);
}

bool harmony_may_write(const harmony *h, uint32_t id) {
    if (id >= text_n_tokens(h->v)) return false;
    if (harmony_is_mark(h, id)) return true;
    text_token_type type = text_type(h->v, id);
    return text_token(h->v, id).n &&
           (type == TEXT_NORMAL || type == TEXT_BYTE || type == TEXT_USER_DEFINED);
}
