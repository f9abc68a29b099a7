/* SPDX-License-Identifier: MIT
 *
 * tokenizer.json of the kinds without merges, Unigram ("t5") and WordPiece ("bert"), as
 * tokenizer.ggml.* keys.
 *
 * A tokenizer.json lists its steps; a GGUF file only names the kind and a few settings, and every
 * reader takes the rest for granted. Whether what is taken for granted is what was listed is not
 * guessed from the steps but tried: a vocabulary is made from the keys about to be written, and
 * both must give the same ids for texts that touch every word, every kind of space, case, accents,
 * punctuation and scripts. One difference, and the file gets no vocabulary: wrong ids would be
 * worse.
 */
#include "model/put_vocab.h"

#include <jansson.h>

typedef struct pieces {
    const put_job *j;    /* where to */
    const model *m;      /* the folder */
    const json_t *root;  /* tokenizer.json */
    const json_t *names; /* tokenizer_config.json, or NULL */
    text_spec spec;      /* what is going to be written */
    char *charsmap;      /* bytes behind spec.charsmap, owned */
    text_ids ids[2];     /* of a probe by both vocabularies, owned */
} pieces;

/* ==== What a file says ======================================================================== */

static uint32_t named(const pieces *p, const char *key) {
    return text_find(p->m->vocab, put_json_text(json_object_get(p->names, key)));
}

static uint32_t unknown_id(const pieces *p) {
    const json_t *m = json_object_get(p->root, "model"), *id = json_object_get(m, "unk_id");
    if (json_is_integer(id)) return (uint32_t)json_integer_value(id); /* checked when it was read */
    uint32_t found = text_find(p->m->vocab, put_json_text(json_object_get(m, "unk_token")));
    return found == TEXT_NO_ID ? named(p, "unk_token") : found;
}

/* The first step of this type in a normalizer, which may be a sequence; NULL: none. */
static const json_t *step_of(const json_t *o, const char *type) {
    const json_t *item, *found = NULL;
    size_t i;
    base_str name = put_json_text(json_object_get(o, "type"));
    if (name.n && base_str_is(name, type)) return o;
    json_array_foreach(json_object_get(o, "normalizers"), i, item) if (!found) found =
        step_of(item, type);
    return found;
}

static rotor_status read_charsmap(pieces *p) {
    const json_t *step = step_of(json_object_get(p->root, "normalizer"), "Precompiled");
    base_str code = put_json_text(json_object_get(step, "precompiled_charsmap"));
    size_t n = 0;
    if (!code.n) return ROTOR_OK;
    p->charsmap = base_alloc(code.n);
    if (!p->charsmap) return base_fail_nomem(p->j->err, "converting a vocabulary");
    if (text_base64(code, p->charsmap, &n)) p->spec.charsmap = (base_str){p->charsmap, n};
    return ROTOR_OK;
}

/* Whether the end-of-text id comes behind a text of its own accord. */
static rotor_status find_suffix(pieces *p) {
    const text_vocab *v = p->m->vocab;
    base_str a = base_str_of("a");
    ROTOR_TRY(text_encode(v, a, 0, &p->ids[0], p->j->err));
    ROTOR_TRY(text_encode(v, a, TEXT_ADD_EOS, &p->ids[1], p->j->err));
    p->spec.add_eos = p->ids[1].n > p->ids[0].n;
    return ROTOR_OK;
}

static void fill_spec(pieces *p, const put_words *w) {
    const text_vocab *v = p->m->vocab;
    bool words = text_model_of(v) == TEXT_WORDPIECE;
    p->spec = (text_spec){.model = text_model_of(v),
                          .tokens = w->token,
                          .scores = words ? NULL : w->score,
                          .types = w->type,
                          .n_tokens = w->n,
                          .bos = words ? TEXT_NO_ID : text_bos(v),
                          .eos = words ? TEXT_NO_ID : text_eos(v),
                          .unk = unknown_id(p),
                          .cls = words ? text_bos(v) : TEXT_NO_ID,
                          .sep = words ? text_eos(v) : TEXT_NO_ID,
                          .pad = named(p, "pad_token"),
                          .mask = named(p, "mask_token"),
                          .eot = TEXT_NO_ID,
                          .eom = TEXT_NO_ID,
                          .add_bos = text_adds_bos(v),
                          .add_space_prefix = put_prefixes_space(p->root)};
}

/* ==== Trying ================================================================================== */

static rotor_status same_ids(pieces *p, const text_vocab *made, base_str text, bool *same) {
    for (unsigned flags = 0; *same && flags <= (TEXT_ADD_BOS | TEXT_ADD_EOS); flags++) {
        p->ids[0].n = p->ids[1].n = 0;
        ROTOR_TRY(text_encode(p->m->vocab, text, flags, &p->ids[0], p->j->err));
        ROTOR_TRY(text_encode(made, text, flags, &p->ids[1], p->j->err));
        *same = p->ids[0].n == p->ids[1].n &&
                (!p->ids[0].n ||
                 memcmp(p->ids[0].ids, p->ids[1].ids, p->ids[0].n * sizeof *p->ids[0].ids) == 0);
    }
    return ROTOR_OK;
}

/* The words of the vocabulary one behind the other, U+2581 as a space, some at a time. */
static rotor_status same_words(pieces *p, const text_vocab *made, bool *same) {
    enum { AT_ONCE = 32 };
    base_buf text = {0};
    rotor_status st = ROTOR_OK;
    for (size_t id = 0; id < p->spec.n_tokens && *same && st == ROTOR_OK; id++) {
        base_str word = p->spec.tokens[id];
        bool plain = p->spec.types[id] == TEXT_NORMAL;
        for (size_t i = 0; plain && i < word.n;) {
            bool mark = word.n - i >= 3 && memcmp(word.p + i, "\xE2\x96\x81", 3) == 0;
            base_buf_append(&text, mark ? " " : word.p + i, 1);
            i += mark ? 3 : 1;
        }
        if (id % AT_ONCE != AT_ONCE - 1 && id + 1 != p->spec.n_tokens) continue;
        if (text.failed) st = base_fail_nomem(p->j->err, "converting a vocabulary");
        if (st == ROTOR_OK) st = same_ids(p, made, (base_str){text.data, text.len}, same);
        base_buf_reset(&text);
    }
    base_buf_free(&text);
    return st;
}

static rotor_status same_everywhere(pieces *p, const text_vocab *made, bool *same) {
    static const char *const probes[] = {
        "",
        " ",
        "a",
        " a  b   c ",
        "  two in front, two behind  ",
        "Hello World, HELLO world; hELLO",
        "don't stop... (really?) [yes] {no} <s> </s> -- 50% of $3.50 & more!",
        "\ttab\tand\nline\n\nfeeds\r\nand\x0b\x0c\x01 controls\x7f",
        "na\xC3\xAFve caf\xC3\xA9 \xC3\x85ngstr\xC3\xB6m e\xCC\x81 \xC4\xB0stanbul stra\xC3\x9F"
        "e \xC5\x92uvre",
        "\xEF\xBC\xA6\xEF\xBD\x95\xEF\xBD\x8C\xEF\xBD\x8C \xEF\xAC\x81ne \xE2\x85\xA7 \xC2\xBD "
        "\xE2\x84\xA2 x\xC2\xB2",
        "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C \xE3\x81\x82\xE3\x82\xA2 "
        "\xED\x95\x9C\xEA\xB8\x80",
        "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE"
        "\xB5 \xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D \xD8\xB3\xD9\x84\xD8\xA7\xD9\x85 "
        "\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D",
        "\xC2\xA0no-break\xE2\x80\x83"
        "em\xE2\x80\x8B"
        "zero\xE3\x80\x80wide\xC2\xAD soft",
        "\xF0\x9F\x98\x80\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD \xE2\x9C\x93 \xE2\x80\x9Cq\xE2\x80\x9D "
        "\xE2\x80\x94 \xE2\x80\xA6 \xE2\x96\x81mark\xE2\x96\x81",
        "0123456789 3.14159 1,000,000 2024-01-02 a1b2",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaa"
        "aaaaaaaaaaaaaaaa end"};
    for (size_t i = 0; i < BASE_COUNT(probes) && *same; i++)
        ROTOR_TRY(same_ids(p, made, base_str_of(probes[i]), same));
    return *same ? same_words(p, made, same) : ROTOR_OK;
}

/* Whether the keys say what the file says. */
static rotor_status try_spec(pieces *p, bool *same) {
    text_vocab *made = NULL;
    rotor_error why;
    *same = false;
    rotor_status st = text_vocab_create(&made, &p->spec, &why);
    if (st == ROTOR_E_NOMEM) return base_fail_nomem(p->j->err, "converting a vocabulary");
    if (st != ROTOR_OK) return ROTOR_OK; /* cannot even be made */
    *same = true;
    st = same_everywhere(p, made, same);
    text_vocab_free(&made);
    return st;
}

/* ==== Writing ================================================================================= */

static void put_id(const pieces *p, const char *key, uint32_t id) {
    if (id != TEXT_NO_ID) file_put_u32(p->j->w, key, id);
}

static rotor_status put_spec(const pieces *p) {
    const text_spec *s = &p->spec;
    file_writer *w = p->j->w;
    bool words = s->model == TEXT_WORDPIECE;
    file_put_str(w, "tokenizer.ggml.model", base_str_of(words ? "bert" : "t5"));
    file_put_strings(w, "tokenizer.ggml.tokens", s->tokens, s->n_tokens);
    file_put_array(w, "tokenizer.ggml.token_type", FILE_I32, s->types, s->n_tokens);
    put_id(p, "tokenizer.ggml.unknown_token_id", s->unk);
    put_id(p, "tokenizer.ggml.padding_token_id", s->pad);
    put_id(p, "tokenizer.ggml.mask_token_id", s->mask);
    put_id(p, "tokenizer.ggml.cls_token_id", s->cls);
    put_id(p, "tokenizer.ggml.seperator_token_id", s->sep); /* spelled so in all files */
    put_id(p, "tokenizer.ggml.bos_token_id", s->bos);
    put_id(p, "tokenizer.ggml.eos_token_id", s->eos);
    file_put_bool(w, "tokenizer.ggml.add_bos_token", s->add_bos);
    file_put_bool(w, "tokenizer.ggml.add_eos_token", s->add_eos);
    if (words) return ROTOR_OK;
    if (s->charsmap.n)
        file_put_array(w, "tokenizer.ggml.precompiled_charsmap", FILE_U8, s->charsmap.p,
                       s->charsmap.n);
    file_put_array(w, "tokenizer.ggml.scores", FILE_F32, s->scores, s->n_tokens);
    file_put_bool(w, "tokenizer.ggml.add_space_prefix", s->add_space_prefix);
    return file_put_bool(w, "tokenizer.ggml.remove_extra_whitespaces", s->remove_extra_whitespaces);
}

rotor_status put_pieces(const put_job *j, const json_t *root, const json_t *names,
                        const put_words *w, bool *put) {
    pieces p = {.j = j, .m = j->m, .root = root, .names = names};
    bool same = false;
    fill_spec(&p, w);
    rotor_status st = find_suffix(&p);
    if (st == ROTOR_OK) st = read_charsmap(&p);
    for (int squeeze = 0; squeeze < 2 && !same && st == ROTOR_OK; squeeze++) {
        p.spec.remove_extra_whitespaces = squeeze == 1;
        st = try_spec(&p, &same);
    }
    if (st == ROTOR_OK && same && j->w) st = put_spec(&p);
    base_free(p.charsmap);
    text_ids_free(&p.ids[0]);
    text_ids_free(&p.ids[1]);
    *put = same;
    return st;
}
