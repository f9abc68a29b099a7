/* SPDX-License-Identifier: MIT
 *
 * Filling a gap: models that were taught to have three control tokens, under one of a few names,
 * and see
 *
 *     PREFIX text in front  SUFFIX text behind  MIDDLE  →  what belongs between
 */
#include "serve/serve_internal.h"

typedef struct marks {
    const char *prefix, *suffix, *middle; /* their texts */
} marks;

static const marks known[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},
    {"<PRE>", "<SUF>", "<MID>"},
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},
    {"<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"},
};

/* The id of a control token; ROTOR_NO_ID: the text is none. */
static uint32_t id_of(const rotor_engine *e, const char *text) {
    uint32_t *ids = NULL, *plain = NULL, id = ROTOR_NO_ID;
    size_t n = 0, n_plain = 0;
    const size_t len = strlen(text);
    if (rotor_tokenize(e, text, len, ROTOR_TOK_SPECIAL, &ids, &n, NULL) == ROTOR_OK &&
        rotor_tokenize(e, text, len, 0, &plain, &n_plain, NULL) == ROTOR_OK && n == 1 &&
        n_plain > 1)
        id = ids[0];
    rotor_free(ids);
    rotor_free(plain);
    return id;
}

static bool find_marks(const rotor_engine *e, uint32_t id[3]) {
    for (size_t i = 0; i < BASE_COUNT(known); i++) {
        id[0] = id_of(e, known[i].prefix);
        id[1] = id[0] == ROTOR_NO_ID ? ROTOR_NO_ID : id_of(e, known[i].suffix);
        id[2] = id[1] == ROTOR_NO_ID ? ROTOR_NO_ID : id_of(e, known[i].middle);
        if (id[2] != ROTOR_NO_ID) return true;
    }
    return false;
}

/* Ids of text behind those there are; *ids grows. */
static bool append(const rotor_engine *e, const char *text, size_t n_bytes, unsigned flags,
                   uint32_t **ids, size_t *n) {
    uint32_t *more = NULL;
    size_t k = 0;
    if (rotor_tokenize(e, text, n_bytes, flags, &more, &k, NULL) != ROTOR_OK) return false;
    uint32_t *all = base_realloc(*ids, (*n + k + 2) * sizeof *all);
    if (all) {
        memcpy(all + *n, more, k * sizeof *more);
        *ids = all;
        *n += k;
    }
    rotor_free(more);
    return all != NULL;
}

bool serve_fill_tokens(serve_call *c, serve_prompt *p, serve_fault *f) {
    uint32_t id[3], *ids = NULL;
    size_t n = 0;
    if (!find_marks(c->engine, id))
        return serve_refuse(f, "suffix", SERVE_UNSUPPORTED_PARAMETER,
                            "%s was not taught to fill gaps: its vocabulary has no tokens for it",
                            c->model_id);
    bool ok = append(c->engine, "", 0, ROTOR_TOK_BOS, &ids, &n);
    if (ok) ids[n++] = id[0];
    ok = ok && append(c->engine, p->text, p->n_bytes, 0, &ids, &n);
    if (ok) ids[n++] = id[1];
    ok = ok && append(c->engine, p->suffix, strlen(p->suffix), 0, &ids, &n);
    if (ok) ids[n++] = id[2];
    if (!ok) {
        base_free(ids);
        return serve_no_memory(f);
    }
    p->tokens = ids;
    p->n_tokens = n;
    return true;
}
