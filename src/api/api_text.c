/* SPDX-License-Identifier: MIT
 *
 * Text to ids and back. Only the engine's immutable vocabulary is read: safe from any thread.
 */
#include "api/api_internal.h"

void rotor_free(void *p) { base_free(p); }

static rotor_status no_vocab(const rotor_engine *e, rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s has no vocabulary: it can only be given ids",
                     e->m->name);
}

rotor_status rotor_tokenize(const rotor_engine *e, const char *text, size_t n_bytes, unsigned flags,
                            uint32_t **ids, size_t *n, rotor_error *err) {
    if (!e || !ids || !n || (n_bytes && !text))
        return base_fail(err, ROTOR_E_ARG, "rotor_tokenize: a required argument is NULL");
    if (flags & ~(unsigned)(ROTOR_TOK_BOS | ROTOR_TOK_SPECIAL))
        return base_fail(err, ROTOR_E_ARG, "rotor_tokenize: flags 0x%x, expected ROTOR_TOK_ values",
                         flags);
    if (!e->m->vocab) return no_vocab(e, err);
    unsigned how = (flags & ROTOR_TOK_BOS ? TEXT_ADD_BOS : 0u) |
                   (flags & ROTOR_TOK_SPECIAL ? TEXT_PARSE_SPECIAL : 0u);
    text_ids list = {0};
    rotor_status status = text_encode(e->m->vocab, (base_str){text, n_bytes}, how, &list, err);
    size_t count = list.n;
    uint32_t *array = status == ROTOR_OK ? api_take_ids(&list) : NULL;
    text_ids_free(&list);
    if (status != ROTOR_OK) return status;
    if (!array) return base_fail_nomem(err, "tokenising");
    *ids = array;
    *n = count;
    return ROTOR_OK;
}

rotor_status rotor_detokenize(const rotor_engine *e, const uint32_t *ids, size_t n, bool special,
                              char **text, size_t *n_bytes, rotor_error *err) {
    if (!e || !text || (n && !ids))
        return base_fail(err, ROTOR_E_ARG, "rotor_detokenize: a required argument is NULL");
    if (!e->m->vocab) return no_vocab(e, err);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= text_n_tokens(e->m->vocab))
            return base_fail(err, ROTOR_E_ARG, "id %u at %zu is outside the vocabulary of %zu",
                             ids[i], i, text_n_tokens(e->m->vocab));
    base_buf buf = {0};
    rotor_status status = text_decode(e->m->vocab, ids, n, special, &buf);
    size_t len = buf.len;
    char *out = status == ROTOR_OK ? api_take_text(&buf) : NULL;
    base_buf_free(&buf);
    if (!out) return base_fail_nomem(err, "detokenising");
    *text = out;
    if (n_bytes) *n_bytes = len;
    return ROTOR_OK;
}

bool rotor_is_eog(const rotor_engine *e, uint32_t id) {
    return e && e->m->vocab && id < text_n_tokens(e->m->vocab) && text_is_eog(e->m->vocab, id);
}
