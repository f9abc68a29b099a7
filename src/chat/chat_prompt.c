/* SPDX-License-Identifier: MIT
 *
 * Prompts in parts: each byte is the template's or the user's.
 *
 * Invariant: parts are in order, not empty, cover the text without gaps, and neighbours differ in
 * kind.
 */
#include "chat/chat_internal.h"

void chat_prompt_free(chat_prompt *p) {
    if (!p) return;
    base_buf_free(&p->text);
    base_free(p->parts);
    memset(p, 0, sizeof *p);
}

rotor_status chat_prompt_add(chat_prompt *p, base_str text, bool literal) {
    if (!text.n) return ROTOR_OK;
    chat_part *last = p->n_parts ? &p->parts[p->n_parts - 1] : NULL;
    bool extend = last && last->literal == literal;
    if (!extend && p->n_parts == p->cap_parts) {
        size_t cap = p->cap_parts * 2 + 16, bytes;
        if (!base_mul_size(cap, sizeof *p->parts, &bytes)) return ROTOR_E_NOMEM;
        chat_part *more = base_realloc(p->parts, bytes);
        if (!more) return ROTOR_E_NOMEM;
        p->parts = more;
        p->cap_parts = cap;
    }
    size_t begin = p->text.len;
    if (!base_buf_append(&p->text, text.p, text.n)) return ROTOR_E_NOMEM;
    if (extend)
        p->parts[p->n_parts - 1].end = p->text.len;
    else
        p->parts[p->n_parts++] =
            (chat_part){.begin = begin, .end = p->text.len, .literal = literal};
    return ROTOR_OK;
}

/* A role comes from the caller of the server. Templates may put it inside a control token's text
 * ('<|' + role + '|>'), so the usual ones count as the template's own; any other is user text. */
bool chat_role_is_literal(base_str role) {
    static const char *const known[] = {"system",    "user",     "assistant", "tool",
                                        "developer", "function", "ipython",   "model"};
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_str_is(role, known[i])) return false;
    return true;
}

size_t chat_prompt_known(chat_prompt *p, size_t from, base_str text, const uint32_t *ids,
                         size_t n_ids) {
    for (size_t i = from; i < p->n_parts; i++) {
        chat_part *part = &p->parts[i];
        if (!part->literal || part->end - part->begin != text.n) continue;
        if (text.n && memcmp(p->text.data + part->begin, text.p, text.n) != 0) continue;
        part->ids = ids;
        part->n_ids = n_ids;
        return i + 1;
    }
    return from;
}
