/* SPDX-License-Identifier: MIT
 *
 * Token ids for the command line: a vocabulary opened without the weights around it.
 */
#include "tool/tool.h"

#include "model/model.h"

struct tool_vocab {
    text_vocab *v; /* owned */
};

typedef struct listener {
    tool_log_fn fn; /* may be NULL */
    void *user;     /* passed to fn */
} listener;

static void pass_on(void *user, base_log_level level, const char *line) {
    const listener *l = user;
    if (l->fn) l->fn(l->user, (int)level, line);
}

rotor_status tool_vocab_open(tool_vocab **out, const tool_source *src, tool_log_fn log, void *user,
                             rotor_error *err) {
    listener l = {log, user};
    base_log blog = {pass_on, &l};
    file_model *f = NULL;
    tool_vocab *v = base_alloc(sizeof *v);
    if (!v) return base_fail_nomem(err, "opening a vocabulary");
    rotor_status st = src->path
                          ? file_open(&f, src->path, NULL, err)
                          : file_open_memory(&f, src->data, src->n_bytes, src->name, NULL, err);
    if (st == ROTOR_OK) st = model_vocab(&v->v, f, &blog, err);
    file_close(&f);
    if (st == ROTOR_OK)
        *out = v;
    else
        base_free(v);
    return st;
}

void tool_vocab_close(tool_vocab **v) {
    if (!v || !*v) return;
    text_vocab_free(&(*v)->v);
    base_free(*v);
    *v = NULL;
}

size_t tool_vocab_size(const tool_vocab *v) { return text_n_tokens(v->v); }

rotor_status tool_tokenize(const tool_vocab *v, const char *text, size_t n_bytes, unsigned flags,
                           uint32_t **ids, size_t *n, rotor_error *err) {
    text_ids list = {0};
    unsigned how = (flags & TOOL_TOK_BOS ? TEXT_FORCE_BOS : 0u) |
                   (flags & TOOL_TOK_SPECIAL ? TEXT_PARSE_SPECIAL : 0u);
    rotor_status st = text_encode(v->v, (base_str){text, n_bytes}, how, &list, err);
    if (st != ROTOR_OK) return text_ids_free(&list), st;
    *ids = list.ids;
    *n = list.n;
    return ROTOR_OK;
}

rotor_status tool_detokenize(const tool_vocab *v, const uint32_t *ids, size_t n, bool special,
                             base_buf *out, rotor_error *err) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= text_n_tokens(v->v))
            return base_fail(err, ROTOR_E_ARG, "token id %u; this vocabulary has 0 to %zu", ids[i],
                             text_n_tokens(v->v) - 1);
    rotor_status st = text_decode(v->v, ids, n, special, out);
    return st == ROTOR_OK ? st : base_fail_nomem(err, "decoding tokens");
}
