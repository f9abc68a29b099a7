/* SPDX-License-Identifier: MIT
 *
 * tokenizer.json as tokenizer.ggml.* keys: here for byte-level BPE ("gpt2") and for BPE over
 * characters with byte fallback ("llama"), in put_pieces.c for the kinds without merges.
 *
 * The text room has read the same file and says what each id is; here its strings and merges are
 * copied. "llama" keeps no merges but a score per token: the negative rank of its first merge,
 * which makes the best pair the one that merges first. Ids without a token become unused padding.
 */
#include "model/put_vocab.h"

#include <jansson.h>
#include <stdio.h>

base_str put_json_text(const json_t *v) {
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (!json_is_string(v)) return (base_str){0};
    return (base_str){json_string_value(v), json_string_length(v)};
}

static rotor_status parse(const put_job *j, const char *name, json_t **out) {
    base_str text;
    json_error_t why;
    *out = NULL;
    if (!file_side(j->m->file, name, &text)) return ROTOR_OK;
    *out = json_loadb(text.p, text.n, JSON_ALLOW_NUL, &why);
    if (*out) return ROTOR_OK;
    return base_fail(j->err, ROTOR_E_FORMAT, "%s line %d: %s", name, why.line, why.text);
}

/* ==== Tokens ================================================================================== */

static rotor_status start_words(const put_job *j, put_words *w) {
    w->n = BASE_MAX((size_t)j->m->hp.n_vocab, text_n_tokens(j->m->vocab));
    w->token = base_alloc_array(w->n, sizeof *w->token);
    w->score = base_alloc_array(w->n, sizeof *w->score);
    w->type = base_alloc_array(w->n, sizeof *w->type);
    w->pad = base_alloc_array(w->n, sizeof *w->pad);
    if (!w->token || !w->score || !w->type || !w->pad)
        return base_fail_nomem(j->err, "converting a vocabulary");
    return ROTOR_OK;
}

static void free_words(put_words *w) {
    base_free(w->token);
    base_free(w->score);
    base_free(w->type);
    base_free(w->pad);
}

static void gather_words(const model *m, const json_t *root, put_words *w) {
    const char *key;
    json_t *value;
    size_t i;
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    const bool words = text_model_of(m->vocab) == TEXT_WORDPIECE;
    json_object_foreach((json_t *)(uintptr_t)vocab, key, value) {
        size_t id = (size_t)json_integer_value(value); /* checked when the vocabulary was read */
        if (id >= w->n) continue;
        w->token[id] = words ? text_token(m->vocab, (uint32_t)id) : base_str_of(key);
    }
    json_array_foreach(vocab, i, value) { /* of Unigram: [text, score] */
        w->token[i] = put_json_text(json_array_get(value, 0));
        w->score[i] = (float)json_number_value(json_array_get(value, 1));
    }
    json_array_foreach(json_object_get(root, "added_tokens"), i, value) {
        size_t id = (size_t)json_integer_value(json_object_get(value, "id"));
        if (id < w->n) w->token[id] = put_json_text(value);
    }
    for (size_t id = 0; id < w->n; id++) {
        w->type[id] =
            id < text_n_tokens(m->vocab) ? (int32_t)text_type(m->vocab, (uint32_t)id) : TEXT_UNUSED;
        if (w->token[id].p) continue;
        snprintf(w->pad[id], sizeof w->pad[id], "[PAD%zu]", id);
        w->token[id] = base_str_of(w->pad[id]);
        w->type[id] = TEXT_UNUSED;
    }
}

/* ==== Merges ================================================================================== */

/* "left right" of a merge written as text or as a pair; joined goes into b when needed. */
static base_str merge_text(const json_t *merge, base_buf *b) {
    if (json_is_string(merge)) return put_json_text(merge);
    base_str left = put_json_text(json_array_get(merge, 0)),
             right = put_json_text(json_array_get(merge, 1));
    size_t at = b->len;
    base_buf_append(b, left.p, left.n);
    base_buf_puts(b, " ");
    base_buf_append(b, right.p, right.n);
    return (base_str){NULL, b->len - at};
}

static rotor_status put_merges(const put_job *j, const json_t *merges) {
    size_t n = json_array_size(merges), at = 0;
    base_buf joined = {0};
    base_str *list = base_alloc_array(n + 1, sizeof *list);
    if (!list) return base_fail_nomem(j->err, "converting merges");
    for (size_t i = 0; i < n; i++) list[i] = merge_text(json_array_get(merges, i), &joined);
    for (size_t i = 0; i < n; i++) { /* the buffer has stopped moving */
        if (list[i].p) continue;
        list[i].p = joined.data + at;
        at += list[i].n;
    }
    rotor_status st = joined.failed ? base_fail_nomem(j->err, "converting merges")
                                    : file_put_strings(j->w, "tokenizer.ggml.merges", list, n);
    base_buf_free(&joined);
    base_free(list);
    return st;
}

static rotor_status score_words(const put_job *j, const json_t *merges, put_words *w) {
    base_map *id_of = NULL;
    base_buf text = {0};
    rotor_status st = base_map_create(&id_of, w->n);
    for (size_t i = 0; i < w->n && st == ROTOR_OK; i++) {
        st = base_map_put(id_of, w->token[i], (uint32_t)i, NULL);
        w->score[i] = -1e9f; /* never merged into */
    }
    for (size_t r = json_array_size(merges); r-- > 0 && st == ROTOR_OK;) { /* the first rank wins */
        const json_t *merge = json_array_get(merges, r);
        base_buf_reset(&text);
        base_str pair = merge_text(merge, &text);
        const char *p = pair.p ? pair.p : text.data;
        const char *space = p ? memchr(p, ' ', pair.n) : NULL;
        char joined[512];
        uint32_t id;
        if (!space || pair.n > sizeof joined) continue;
        size_t n_left = (size_t)(space - p), n_right = pair.n - n_left - 1;
        memcpy(joined, p, n_left);
        memcpy(joined + n_left, space + 1, n_right);
        if (base_map_get(id_of, (base_str){joined, n_left + n_right}, &id))
            w->score[id] = -(float)r;
    }
    base_buf_free(&text);
    base_map_free(&id_of);
    return st == ROTOR_OK ? st : base_fail_nomem(j->err, "converting merges");
}

/* ==== Settings ================================================================================ */

/* The rule set of a pre_tokenizer: bytes after GPT-2's expression, or after one that has a name. */
static const char *rule_of(const json_t *pre) {
    const char *type = json_string_value(json_object_get(pre, "type"));
    if (!type) return NULL;
    if (strcmp(type, "ByteLevel") == 0)
        return json_is_false(json_object_get(pre, "use_regex")) ? NULL : "gpt-2";
    const json_t *list = json_object_get(pre, "pretokenizers"), *split = json_array_get(list, 0);
    const json_t *bytes = json_array_get(list, 1);
    base_str regex = put_json_text(json_object_get(json_object_get(split, "pattern"), "Regex"));
    if (json_array_size(list) != 2 || !regex.n || rule_of(bytes)) return NULL;
    return text_pre_of_regex(regex);
}

/* The name of that rule set in GGUF files; NULL: it has none. */
static const char *pre_name(const json_t *root) {
    const char *rule = rule_of(json_object_get(root, "pre_tokenizer"));
    return rule && strcmp(rule, "llama3") == 0 ? "llama-bpe" : rule;
}

static void put_id(const put_job *j, const char *key, uint32_t id) {
    if (id != TEXT_NO_ID) file_put_u32(j->w, key, id);
}

static bool prefixes_space(const json_t *step) {
    const char *type = json_string_value(json_object_get(step, "type"));
    const char *scheme = json_string_value(json_object_get(step, "prepend_scheme"));
    size_t i;
    json_t *inner;
    if (type && strcmp(type, "Prepend") == 0) return true;
    if (type && strcmp(type, "Metaspace") == 0)
        return scheme ? strcmp(scheme, "never") != 0
                      : !json_is_false(json_object_get(step, "add_prefix_space"));
    json_array_foreach(json_object_get(step, "normalizers"), i,
                       inner) if (prefixes_space(inner)) return true;
    json_array_foreach(json_object_get(step, "pretokenizers"), i,
                       inner) if (prefixes_space(inner)) return true;
    return false;
}

bool put_prefixes_space(const json_t *root) {
    return prefixes_space(json_object_get(root, "normalizer")) ||
           prefixes_space(json_object_get(root, "pre_tokenizer"));
}

/* Ends of generation beyond the first, from generation_config.json. */
static void put_ends(const put_job *j, const json_t *generation) {
    const json_t *list = json_object_get(generation, "eos_token_id");
    uint32_t ids[64];
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < BASE_COUNT(ids); i++) {
        json_int_t id = json_integer_value(json_array_get(list, i));
        if (id >= 0 && id < UINT32_MAX) ids[n++] = (uint32_t)id;
    }
    if (n) file_put_array(j->w, "tokenizer.ggml.eos_token_ids", FILE_U32, ids, n);
}

static rotor_status put_ids(const put_job *j, const json_t *config) {
    put_id(j, "tokenizer.ggml.bos_token_id", text_bos(j->m->vocab));
    put_id(j, "tokenizer.ggml.eos_token_id", text_eos(j->m->vocab));
    put_id(j, "tokenizer.ggml.padding_token_id",
           text_find(j->m->vocab, put_json_text(json_object_get(config, "pad_token"))));
    put_id(j, "tokenizer.ggml.unknown_token_id",
           text_find(j->m->vocab, put_json_text(json_object_get(config, "unk_token"))));
    return file_put_bool(j->w, "tokenizer.ggml.add_bos_token", text_adds_bos(j->m->vocab));
}

static rotor_status put_bpe(const put_job *j, const json_t *root, put_words *w) {
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    bool bytes = text_model_of(j->m->vocab) == TEXT_BPE;
    const char *pre = pre_name(root);
    file_put_str(j->w, "tokenizer.ggml.model", base_str_of(bytes ? "gpt2" : "llama"));
    if (bytes) file_put_str(j->w, "tokenizer.ggml.pre", base_str_of(pre));
    file_put_strings(j->w, "tokenizer.ggml.tokens", w->token, w->n);
    file_put_array(j->w, "tokenizer.ggml.token_type", FILE_I32, w->type, w->n);
    if (bytes) return put_merges(j, merges);
    ROTOR_TRY(score_words(j, merges, w));
    file_put_array(j->w, "tokenizer.ggml.scores", FILE_F32, w->score, w->n);
    return file_put_bool(j->w, "tokenizer.ggml.add_space_prefix", put_prefixes_space(root));
}

/* A vocabulary that GGUF cannot express is not written: wrong ids would be worse. */
static rotor_status put_all(const put_job *j, const json_t *root, const json_t *config,
                            put_words *w, const char **why_not) {
    const text_model kind = text_model_of(j->m->vocab);
    const bool merges = kind == TEXT_SPM || kind == TEXT_BPE;
    bool can = kind == TEXT_SPM || (kind == TEXT_BPE && pre_name(root));
    ROTOR_TRY(start_words(j, w));
    gather_words(j->m, root, w);
    if (can && j->w) {
        ROTOR_TRY(put_bpe(j, root, w));
        ROTOR_TRY(put_ids(j, config));
    }
    if (!merges) ROTOR_TRY(put_pieces(j, root, config, w, &can));
    *why_not = can      ? NULL
               : merges ? "its tokenizer.json splits text by a rule that has no name in GGUF"
                        : "its tokenizer.json treats text in a way that cannot be said in GGUF";
    return ROTOR_OK;
}

rotor_status model_put_vocab(file_writer *w, const model *m, const char **why_not,
                             rotor_error *err) {
    const put_job j = {w, m, err};
    json_t *root = NULL, *config = NULL, *generation = NULL;
    put_words words = {0};
    *why_not = "it has no tokenizer.json";
    if (!m->vocab) return ROTOR_OK;
    rotor_status st = parse(&j, "tokenizer.json", &root);
    if (st == ROTOR_OK) st = parse(&j, "tokenizer_config.json", &config);
    if (st == ROTOR_OK) st = parse(&j, "generation_config.json", &generation);
    if (st == ROTOR_OK && root) st = put_all(&j, root, config, &words, why_not);
    if (st == ROTOR_OK && w && !*why_not) {
        put_ends(&j, generation); /* the writer remembers a failure */
        if (m->chat_template.n) file_put_str(w, "tokenizer.chat_template", m->chat_template);
    }
    free_words(&words);
    json_decref(root);
    json_decref(config);
    json_decref(generation);
    return st;
}
