/* SPDX-License-Identifier: MIT
 *
 * A vocabulary from the text of a Hugging Face tokenizer.json (and tokenizer_config.json).
 *
 * Models: BPE over bytes, BPE over characters with byte fallback (the SentencePiece kind),
 * Unigram and WordPiece. Tokens come from model.vocab and added_tokens; a special added token is
 * a control token, any other added token is user-defined. Ids without a token are allowed and
 * stay empty. What a post-processor puts around one text becomes the prefix and the suffix.
 */
#include "text/json_internal.h"

/* ==== Tokens ================================================================================== */

/* Largest id and total bytes; every id is checked here, once. */
typedef struct census {
    size_t n_ids; /* largest id + 1 */
    size_t bytes; /* of all tokens, with room for a mark on each */
} census;

static rotor_status count_token(json_reader *j, census *c, base_str text, json_int_t id) {
    if (id < 0 || id >= TEXT_MAX_TOKENS)
        return base_fail(j->err, ROTOR_E_FORMAT,
                         "tokenizer.json: token '%.*s' has id %lld, expected 0 to %d",
                         (int)BASE_MIN(text.n, 40u), text.p, (long long)id, TEXT_MAX_TOKENS - 1);
    if (text.n > TEXT_MAX_TOKEN_BYTES - 3)
        return base_fail(j->err, ROTOR_E_FORMAT, "tokenizer.json: token %lld has %zu bytes",
                         (long long)id, text.n);
    c->n_ids = BASE_MAX(c->n_ids, (size_t)id + 1);
    c->bytes += text.n + 3;
    return ROTOR_OK;
}

static rotor_status count_vocab(json_reader *j, census *c) {
    json_t *vocab = json_object_get(j->model, "vocab");
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_object(vocab)) {
        json_object_foreach(vocab, key, value) {
            if (!json_is_integer(value))
                return base_fail(j->err, ROTOR_E_FORMAT,
                                 "tokenizer.json: the id of token '%.40s' is not a number", key);
            ROTOR_TRY(count_token(j, c, base_str_of(key), json_integer_value(value)));
        }
        return ROTOR_OK;
    }
    if (!json_is_array(vocab))
        return base_fail(j->err, ROTOR_E_FORMAT, "tokenizer.json: model.vocab is missing");
    json_array_foreach(vocab, i, value) {
        if (!json_is_string(json_array_get(value, 0)) || !json_is_number(json_array_get(value, 1)))
            return base_fail(j->err, ROTOR_E_FORMAT,
                             "tokenizer.json: entry %zu of model.vocab is not [text, score]", i);
        ROTOR_TRY(count_token(j, c, json_str_of(json_array_get(value, 0)), (json_int_t)i));
    }
    return ROTOR_OK;
}

static rotor_status count_added(json_reader *j, census *c) {
    const json_t *value;
    size_t i;
    json_array_foreach(json_object_get(j->root, "added_tokens"), i, value) {
        const json_t *id = json_object_get(value, "id"), *text = json_object_get(value, "content");
        if (!json_is_integer(id) || !json_is_string(text))
            return base_fail(j->err, ROTOR_E_FORMAT,
                             "tokenizer.json: added token %zu has no id or no content", i);
        ROTOR_TRY(count_token(j, c, json_str_of(text), json_integer_value(id)));
    }
    return ROTOR_OK;
}

/* "##ing" becomes "ing", "word" becomes "▁word", "[CLS]" stays. */
static void set_word_token(text_vocab *v, uint32_t id, base_str text, base_str inner) {
    char word[512]; /* longer words are unknown anyway */
    bool marked = text.n >= inner.n + 3 && memcmp(text.p + inner.n, SPACE_MARK, 3) == 0;
    bool bracketed = text.n > 1 && text.p[0] == '[' && text.p[text.n - 1] == ']';
    if (inner.n && text.n > inner.n && memcmp(text.p, inner.p, inner.n) == 0) {
        size_t skip = marked ? 0 : inner.n;
        text_vocab_set(v, id, (base_str){text.p + skip, text.n - skip}, TEXT_NORMAL);
    } else if (bracketed || text.n + 3 > sizeof word) {
        text_vocab_set(v, id, text, TEXT_NORMAL);
    } else {
        memcpy(word, SPACE_MARK, 3);
        memcpy(word + 3, text.p, text.n);
        text_vocab_set(v, id, (base_str){word, text.n + 3}, TEXT_NORMAL);
    }
}

static void set_model_token(json_reader *j, uint32_t id, base_str text, base_str inner) {
    uint8_t byte;
    text_vocab *v = j->v;
    bool fallback = json_bool_or(j->model, "byte_fallback", false);
    if (v->bytes_are_symbols)
        text_vocab_set_mapped(v, id, text, TEXT_NORMAL);
    else if (v->model == TEXT_WORDPIECE)
        set_word_token(v, id, text, inner);
    else
        text_vocab_set(v, id, text,
                       fallback && text_parse_byte_token(text, &byte) ? TEXT_BYTE : TEXT_NORMAL);
}

static void set_tokens(json_reader *j) {
    json_t *vocab = json_object_get(j->model, "vocab");
    base_str inner = json_str_of(json_object_get(j->model, "continuing_subword_prefix"));
    const char *key;
    json_t *value;
    size_t i;
    if (!json_object_get(j->model, "continuing_subword_prefix")) inner = base_str_of("##");
    for (i = 0; i < j->v->n_tokens; i++) j->v->flags[i] = TEXT_UNUSED;
    if (json_is_object(vocab)) {
        json_object_foreach(vocab, key, value)
            set_model_token(j, (uint32_t)json_integer_value(value), base_str_of(key), inner);
    } else {
        json_array_foreach(vocab, i, value)
            set_model_token(j, (uint32_t)i, json_str_of(json_array_get(value, 0)), inner);
    }
    json_array_foreach(json_object_get(j->root, "added_tokens"), i, value) {
        uint32_t id = (uint32_t)json_integer_value(json_object_get(value, "id"));
        bool special = json_bool_or(value, "special", false);
        text_vocab_set(j->v, id, json_str_of(json_object_get(value, "content")),
                       special ? TEXT_CONTROL : TEXT_USER_DEFINED);
        if (json_bool_or(value, "lstrip", false)) j->v->flags[id] |= TOK_EAT_LEFT;
        if (json_bool_or(value, "rstrip", false)) j->v->flags[id] |= TOK_EAT_RIGHT;
        if (json_bool_or(value, "single_word", false)) j->v->flags[id] |= TOK_WHOLE_WORD;
    }
}

/* ==== Models ================================================================================== */

static rotor_status read_merges(json_reader *j) {
    const json_t *merges = json_object_get(j->model, "merges"), *value;
    text_merge_queue q;
    size_t i;
    if (!json_is_array(merges))
        return base_fail(j->err, ROTOR_E_FORMAT, "tokenizer.json: model.merges is missing");
    ROTOR_TRY(text_merges_begin(&q, j->v, json_array_size(merges), j->err));
    json_array_foreach(merges, i, value) {
        if (json_is_string(value))
            text_merges_add_line(&q, json_str_of(value), (uint32_t)i);
        else
            text_merges_add(&q, json_str_of(json_array_get(value, 0)),
                            json_str_of(json_array_get(value, 1)), (uint32_t)i);
    }
    return text_merges_end(&q, j->log, j->err);
}

static rotor_status read_bpe(json_reader *j) {
    static const char *const refused[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < BASE_COUNT(refused); i++)
        if (json_str_of(json_object_get(j->model, refused[i])).n)
            return base_fail(j->err, ROTOR_E_UNSUPPORTED,
                             "tokenizer.json: BPE with a %s is not implemented", refused[i]);
    j->v->whole_piece = json_bool_or(j->model, "ignore_merges", false);
    j->v->fuse_unk = json_bool_or(j->model, "fuse_unk", false);
    return read_merges(j);
}

static rotor_status read_unigram(json_reader *j) {
    text_vocab *v = j->v;
    json_t *value;
    size_t i;
    v->fuse_unk = true;
    v->scores = base_alloc_array(v->n_tokens, sizeof *v->scores);
    if (!v->scores) return base_fail_nomem(j->err, "reading tokenizer.json");
    json_array_foreach(json_object_get(j->model, "vocab"), i, value) v->scores[i] =
        json_number_value(json_array_get(value, 1));
    return text_unigram_prepare(v, j->err);
}

static rotor_status read_wordpiece(json_reader *j) {
    const json_t *most = json_object_get(j->model, "max_input_chars_per_word");
    if (json_is_integer(most) && json_integer_value(most) > 0)
        j->v->max_word_chars = (size_t)json_integer_value(most);
    return ROTOR_OK;
}

static void find_unknown(json_reader *j) {
    const json_t *id = json_object_get(j->model, "unk_id");
    base_str text = json_str_of(json_object_get(j->model, "unk_token"));
    text_vocab *v = j->v;
    if (json_is_integer(id) && json_integer_value(id) >= 0 &&
        (size_t)json_integer_value(id) < v->n_tokens)
        v->unk = (uint32_t)json_integer_value(id);
    else if (text.n)
        v->unk = text_find(v, text);
    if (v->unk == TEXT_NO_ID || text_type_at(v, v->unk) == TEXT_CONTROL) return;
    v->flags[v->unk] = (uint8_t)((v->flags[v->unk] & ~TOK_TYPE) | TEXT_UNKNOWN);
}

static rotor_status pick_model(json_reader *j) {
    const char *type = json_type_of(j->model);
    text_vocab *v = j->v;
    bool bpe = strcmp(type, "BPE") == 0 || (!*type && json_object_get(j->model, "merges"));
    if (bpe) {
        v->bytes_are_symbols =
            json_mentions_byte_level(json_object_get(j->root, "pre_tokenizer"), "pretokenizers") ||
            json_mentions_byte_level(json_object_get(j->root, "decoder"), "decoders");
        v->model = v->bytes_are_symbols ? TEXT_BPE : TEXT_SPM;
    } else if (strcmp(type, "Unigram") == 0) {
        v->model = TEXT_UNIGRAM;
    } else if (strcmp(type, "WordPiece") == 0) {
        v->model = TEXT_WORDPIECE;
    } else {
        return base_fail(j->err, ROTOR_E_UNSUPPORTED,
                         "tokenizer.json: model type '%.60s' is not implemented", type);
    }
    bool list = json_is_array(json_object_get(j->model, "vocab"));
    if (list != (v->model == TEXT_UNIGRAM))
        return base_fail(j->err, ROTOR_E_FORMAT, "tokenizer.json: model.vocab does not fit '%.60s'",
                         type);
    v->phantom = !v->bytes_are_symbols;
    v->pre = "tokenizer.json";
    return ROTOR_OK;
}

static rotor_status read_model(json_reader *j) {
    switch (j->v->model) {
    case TEXT_UNIGRAM:
        return read_unigram(j);
    case TEXT_WORDPIECE:
        return read_wordpiece(j);
    default:
        return read_bpe(j);
    }
}

/* ==== What goes around a text ================================================================= */

static rotor_status add_affix(json_reader *j, bool front, json_int_t id) {
    text_vocab *v = j->v;
    int *n = front ? &v->n_prefix : &v->n_suffix;
    if (id < 0 || (size_t)id >= v->n_tokens)
        return base_fail(j->err, ROTOR_E_FORMAT,
                         "tokenizer.json: the post-processor adds id %lld of %zu tokens",
                         (long long)id, v->n_tokens);
    if (*n == TEXT_MAX_AFFIX)
        return base_fail(j->err, ROTOR_E_UNSUPPORTED,
                         "tokenizer.json: the post-processor adds more than %d tokens",
                         TEXT_MAX_AFFIX);
    (front ? v->prefix : v->suffix)[(*n)++] = (uint32_t)id;
    return ROTOR_OK;
}

static rotor_status read_template(json_reader *j, const json_t *o) {
    const json_t *item, *id, *specials = json_object_get(o, "special_tokens");
    bool front = true;
    size_t i, k;
    json_array_foreach(json_object_get(o, "single"), i, item) {
        const json_t *special = json_object_get(item, "SpecialToken");
        if (!special) {
            front = false;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *ids = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
        json_array_foreach(ids, k, id) ROTOR_TRY(add_affix(j, front, json_integer_value(id)));
    }
    return ROTOR_OK;
}

static rotor_status read_one_processor(json_reader *j, const json_t *o) {
    const char *type = json_type_of(o);
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(j, o);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        const json_t *cls = json_array_get(json_object_get(o, "cls"), 1);
        const json_t *sep = json_array_get(json_object_get(o, "sep"), 1);
        ROTOR_TRY(add_affix(j, true, json_is_integer(cls) ? json_integer_value(cls) : -1));
        return add_affix(j, false, json_is_integer(sep) ? json_integer_value(sep) : -1);
    }
    if (strcmp(type, "ByteLevel") == 0) return ROTOR_OK; /* only moves offsets */
    return base_fail(j->err, ROTOR_E_UNSUPPORTED,
                     "tokenizer.json: post_processor type '%.60s' is not implemented", type);
}

static rotor_status read_processor(json_reader *j, const json_t *o) {
    if (!o || json_is_null(o)) return ROTOR_OK;
    if (strcmp(json_type_of(o), "Sequence") != 0) return read_one_processor(j, o);
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(o, "processors"), i, item)
        ROTOR_TRY(read_one_processor(j, item));
    return ROTOR_OK;
}

/* A token named in tokenizer_config.json, as text or as an object with its content. */
static uint32_t config_token(const json_reader *j, const char *key) {
    const json_t *value = json_object_get(j->config, key);
    base_str text = json_str_of(json_is_object(value) ? json_object_get(value, "content") : value);
    return text_find(j->v, text);
}

static void read_config(json_reader *j) {
    text_vocab *v = j->v;
    bool words = v->model == TEXT_WORDPIECE;
    v->bos = config_token(j, words ? "cls_token" : "bos_token");
    v->eos = config_token(j, words ? "sep_token" : "eos_token");
    if (v->bos == TEXT_NO_ID && v->n_prefix) v->bos = v->prefix[0];
    if (v->eos == TEXT_NO_ID && v->n_suffix) v->eos = v->suffix[v->n_suffix - 1];
    v->add_bos = json_bool_or(j->config, "add_bos_token", v->n_prefix > 0);
    v->add_eos = json_bool_or(j->config, "add_eos_token", v->n_suffix > 0);
    if (!v->n_prefix && v->bos != TEXT_NO_ID) v->prefix[v->n_prefix++] = v->bos;
    if (!v->n_suffix && v->eos != TEXT_NO_ID) v->suffix[v->n_suffix++] = v->eos;
    v->add_bos = v->add_bos && v->n_prefix;
    v->add_eos = v->add_eos && v->n_suffix;
    v->drop_first_space = words || j->prefixes_space;
    text_vocab_add_eog(v, v->eos);
}

/* ==== The whole file ========================================================================== */

static rotor_status build(json_reader *j) {
    census c = {0};
    ROTOR_TRY(count_vocab(j, &c));
    ROTOR_TRY(count_added(j, &c));
    ROTOR_TRY(text_vocab_new(&j->v, c.n_ids, c.bytes, j->err));
    ROTOR_TRY(pick_model(j));
    set_tokens(j);
    ROTOR_TRY(text_vocab_finish(j->v, false, j->log, j->err));
    find_unknown(j);
    ROTOR_TRY(read_model(j));
    ROTOR_TRY(json_read_normalizer(j, json_object_get(j->root, "normalizer")));
    ROTOR_TRY(json_read_pre_tokenizer(j, json_object_get(j->root, "pre_tokenizer")));
    ROTOR_TRY(read_processor(j, json_object_get(j->root, "post_processor")));
    read_config(j);
    return ROTOR_OK;
}

static rotor_status parse(base_str text, const char *name, json_t **out, rotor_error *err) {
    json_error_t why;
    *out = json_loadb(text.p ? text.p : "", text.n, JSON_ALLOW_NUL, &why);
    if (!*out)
        return base_fail(err, ROTOR_E_FORMAT, "%s: line %d: %.160s", name, why.line, why.text);
    if (!json_is_object(*out))
        return base_fail(err, ROTOR_E_FORMAT, "%s: expected an object", name);
    return ROTOR_OK;
}

rotor_status text_vocab_from_json(text_vocab **out, base_str tokenizer_json, base_str config_json,
                                  const base_log *log, rotor_error *err) {
    json_t *root = NULL, *config = NULL;
    json_reader j = {.log = log, .err = err};
    rotor_status st = parse(tokenizer_json, "tokenizer.json", &root, err);
    if (st == ROTOR_OK && config_json.n)
        st = parse(config_json, "tokenizer_config.json", &config, err);
    if (st) goto done;
    j.root = root;
    j.config = config;
    j.model = json_object_get(root, "model");
    st = json_is_object(j.model)
             ? build(&j)
             : base_fail(err, ROTOR_E_FORMAT, "tokenizer.json: model is missing");
    if (st == ROTOR_OK)
        *out = j.v;
    else
        text_vocab_free(&j.v);
done:
    json_decref(root);
    json_decref(config);
    return st;
}
