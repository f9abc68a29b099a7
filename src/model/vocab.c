/* SPDX-License-Identifier: MIT
 *
 * Tokenizer metadata to a vocabulary. GGUF keys become a text_spec; what a key's type or length
 * must be is checked here, because the arrays are read through their declared types.
 */
#include "model/model_internal.h"

typedef struct vocab_arrays {
    base_str *tokens; /* [n_tokens], owned */
    float *scores;    /* [n_tokens], owned, or NULL */
    int32_t *types;   /* [n_tokens], owned, or NULL */
    base_str *merges; /* [n_merges], owned, or NULL */
    uint32_t *eogs;   /* [n_eogs], owned, or NULL */
} vocab_arrays;

static void free_arrays(vocab_arrays *a) {
    base_free(a->tokens);
    base_free(a->scores);
    base_free(a->types);
    base_free(a->merges);
    base_free(a->eogs);
}

static rotor_status bad_key(const file_model *f, const char *key, const char *what,
                            rotor_error *err) {
    return base_fail(err, ROTOR_E_FORMAT, "%s: metadata key %s %s", file_path(f), key, what);
}

static rotor_status strings(const file_model *f, const char *key, base_str **out, size_t *n,
                            rotor_error *err) {
    const file_kv *kv = file_kv_find(f, key);
    if (!kv) return ROTOR_OK;
    if (kv->type != FILE_ARR || kv->elem != FILE_STR)
        return bad_key(f, key, "is not an array of strings", err);
    *out = base_alloc_array((size_t)kv->n, sizeof **out);
    if (!*out) return base_fail_nomem(err, "reading the vocabulary");
    for (uint64_t i = 0; i < kv->n; i++) file_kv_str(kv, i, &(*out)[i]);
    *n = (size_t)kv->n;
    return ROTOR_OK;
}

/* An array of n numbers of one type, copied to aligned memory. */
static rotor_status numbers(const file_model *f, const char *key, file_kv_type elem, size_t n,
                            void **out, rotor_error *err) {
    const file_kv *kv = file_kv_find(f, key);
    bool type_ok = kv && kv->type == FILE_ARR &&
                   (kv->elem == elem || (elem == FILE_I32 && kv->elem == FILE_U32));
    if (!kv) return ROTOR_OK;
    if (!type_ok) return bad_key(f, key, "has the wrong element type", err);
    if (kv->n != n) return bad_key(f, key, "has another length than the tokens", err);
    *out = base_alloc_array(n, 4);
    if (!*out) return base_fail_nomem(err, "reading the vocabulary");
    memcpy(*out, kv->data, n * 4);
    return ROTOR_OK;
}

static uint32_t id_of(const file_model *f, const char *key) {
    const file_kv *kv = file_kv_find(f, key);
    uint64_t v;
    return kv && file_kv_u64(kv, 0, &v) && v < TEXT_NO_ID ? (uint32_t)v : TEXT_NO_ID;
}

static int flag_of(const file_model *f, const char *key) {
    const file_kv *kv = file_kv_find(f, key);
    bool v;
    return kv && file_kv_bool(kv, 0, &v) ? v : -1;
}

static base_str string_of(const file_model *f, const char *key) {
    const file_kv *kv = file_kv_find(f, key);
    base_str s = {0};
    if (kv) file_kv_str(kv, 0, &s);
    return s;
}

static rotor_status algorithm(const file_model *f, text_spec *spec, rotor_error *err) {
    static const struct {
        const char *name; /* tokenizer.ggml.model */
        text_model model; /* what it means */
    } kinds[] = {
        {"gpt2", TEXT_BPE}, {"llama", TEXT_SPM}, {"t5", TEXT_UNIGRAM}, {"bert", TEXT_WORDPIECE}};
    base_str name = string_of(f, "tokenizer.ggml.model");
    for (size_t i = 0; i < BASE_COUNT(kinds); i++)
        if (base_str_is(name, kinds[i].name)) return spec->model = kinds[i].model, ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "%s: tokenizer model \"%.*s\" is not supported; gpt2, llama, t5 and bert are",
                     file_path(f), (int)BASE_MIN(name.n, 40), name.p ? name.p : "");
}

/* The official BitNet file carries Llama-3's vocabulary without naming its pre-tokenizer. */
static base_str pre_tokenizer(const file_model *f) {
    base_str pre = string_of(f, "tokenizer.ggml.pre"), arch = string_of(f, "general.architecture");
    bool bitnet = arch.n >= 6 && memcmp(arch.p, "bitnet", 6) == 0;
    return pre.n == 0 && bitnet ? base_str_of("llama-bpe") : pre;
}

static rotor_status end_ids(const file_model *f, text_spec *spec, vocab_arrays *a,
                            rotor_error *err) {
    const file_kv *kv = file_kv_find(f, "tokenizer.ggml.eos_token_ids");
    if (!kv || kv->type != FILE_ARR || kv->n > 1024) return ROTOR_OK;
    a->eogs = base_alloc_array((size_t)kv->n, sizeof *a->eogs);
    if (!a->eogs) return base_fail_nomem(err, "reading the vocabulary");
    for (uint64_t i = 0; i < kv->n; i++) {
        uint64_t id;
        if (file_kv_u64(kv, i, &id) && id < spec->n_tokens)
            a->eogs[spec->n_extra_eog++] = (uint32_t)id;
    }
    spec->extra_eog = a->eogs;
    return ROTOR_OK;
}

static rotor_status fill(const file_model *f, text_spec *spec, vocab_arrays *a, rotor_error *err) {
    ROTOR_TRY(algorithm(f, spec, err));
    ROTOR_TRY(strings(f, "tokenizer.ggml.tokens", &a->tokens, &spec->n_tokens, err));
    if (!a->tokens) return bad_key(f, "tokenizer.ggml.tokens", "is missing", err);
    ROTOR_TRY(strings(f, "tokenizer.ggml.merges", &a->merges, &spec->n_merges, err));
    ROTOR_TRY(
        numbers(f, "tokenizer.ggml.scores", FILE_F32, spec->n_tokens, (void **)&a->scores, err));
    ROTOR_TRY(
        numbers(f, "tokenizer.ggml.token_type", FILE_I32, spec->n_tokens, (void **)&a->types, err));
    spec->tokens = a->tokens;
    spec->merges = a->merges;
    spec->scores = a->scores;
    spec->types = a->types;
    spec->pre = pre_tokenizer(f);
    spec->bos = id_of(f, "tokenizer.ggml.bos_token_id");
    spec->eos = id_of(f, "tokenizer.ggml.eos_token_id");
    spec->unk = id_of(f, "tokenizer.ggml.unknown_token_id");
    spec->pad = id_of(f, "tokenizer.ggml.padding_token_id");
    spec->cls = id_of(f, "tokenizer.ggml.cls_token_id");
    spec->mask = id_of(f, "tokenizer.ggml.mask_token_id");
    spec->eot = id_of(f, "tokenizer.ggml.eot_token_id");
    spec->eom = id_of(f, "tokenizer.ggml.eom_token_id");
    spec->sep = id_of(f, "tokenizer.ggml.separator_token_id");
    if (spec->sep == TEXT_NO_ID) spec->sep = id_of(f, "tokenizer.ggml.seperator_token_id");
    spec->add_bos = flag_of(f, "tokenizer.ggml.add_bos_token");
    spec->add_eos = flag_of(f, "tokenizer.ggml.add_eos_token");
    spec->add_space_prefix = flag_of(f, "tokenizer.ggml.add_space_prefix");
    spec->remove_extra_whitespaces = flag_of(f, "tokenizer.ggml.remove_extra_whitespaces") == 1;
    const file_kv *map = file_kv_find(f, "tokenizer.ggml.precompiled_charsmap");
    if (map && map->type == FILE_ARR && (map->elem == FILE_U8 || map->elem == FILE_I8))
        spec->charsmap = (base_str){(const char *)map->data, (size_t)map->n};
    return end_ids(f, spec, a, err);
}

static rotor_status from_gguf(text_vocab **out, const file_model *f, const base_log *log,
                              rotor_error *err) {
    text_spec spec = {.log = log};
    vocab_arrays a = {0};
    rotor_status st = fill(f, &spec, &a, err);
    if (st == ROTOR_OK) {
        st = text_vocab_create(out, &spec, err);
        if (st != ROTOR_OK) base_fail_in(err, st, "%s", file_path(f));
    }
    free_arrays(&a);
    return st;
}

/* ==== vocab.txt ===============================================================================
 * A token a line, its id the line's number: the vocabulary of a BERT folder without
 * tokenizer.json. It becomes what a GGUF file would hold. */

static bool is_bracketed(base_str s) { return s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']'; }

/* "##ing" becomes "ing", "word" becomes "\u2581word", "[CLS]" stays. Offsets go to at[n + 1]. */
static bool spell_words(base_str text, base_buf *words, size_t *at) {
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        const char *line = text.p + i, *end = memchr(line, '\n', text.n - i);
        base_str s = {line, end ? (size_t)(end - line) : text.n - i};
        i += s.n + 1;
        if (s.n && s.p[s.n - 1] == '\r') s.n--;
        at[n++] = words->len;
        const bool inner = s.n > 2 && memcmp(s.p, "##", 2) == 0;
        if (inner)
            s = (base_str){s.p + 2, s.n - 2};
        else if (!is_bracketed(s) && !base_buf_puts(words, "\xE2\x96\x81"))
            return false;
        if (!base_buf_append(words, s.p, s.n)) return false;
    }
    at[n] = words->len;
    return true;
}

static uint32_t word_id(const base_str *tokens, size_t n, const char *text) {
    for (size_t i = 0; i < n; i++)
        if (base_str_is(tokens[i], text)) return (uint32_t)i;
    return TEXT_NO_ID;
}

static rotor_status create_words(text_vocab **out, const vocab_arrays *a, size_t n,
                                 const base_log *log, rotor_error *err) {
    text_spec spec = {.model = TEXT_WORDPIECE,
                      .tokens = a->tokens,
                      .types = a->types,
                      .n_tokens = n,
                      .cls = word_id(a->tokens, n, "[CLS]"),
                      .sep = word_id(a->tokens, n, "[SEP]"),
                      .unk = word_id(a->tokens, n, "[UNK]"),
                      .pad = word_id(a->tokens, n, "[PAD]"),
                      .mask = word_id(a->tokens, n, "[MASK]"),
                      .bos = TEXT_NO_ID,
                      .eos = TEXT_NO_ID,
                      .eot = TEXT_NO_ID,
                      .eom = TEXT_NO_ID,
                      .add_bos = -1,
                      .add_eos = -1,
                      .add_space_prefix = -1,
                      .log = log};
    if (spec.cls == TEXT_NO_ID || spec.sep == TEXT_NO_ID || spec.unk == TEXT_NO_ID)
        return base_fail(err, ROTOR_E_FORMAT, "[CLS], [SEP] or [UNK] is missing");
    for (size_t i = 0; i < n; i++)
        a->types[i] = i == spec.unk ? TEXT_UNKNOWN
                      : i == spec.cls || i == spec.sep || i == spec.pad || i == spec.mask
                          ? TEXT_CONTROL
                          : TEXT_NORMAL;
    return text_vocab_create(out, &spec, err);
}

static rotor_status from_words(text_vocab **out, base_str text, const base_log *log,
                               rotor_error *err) {
    vocab_arrays a = {0};
    base_buf words = {0};
    size_t n = text.n && text.p[text.n - 1] != '\n';
    for (size_t i = 0; i < text.n; i++) n += text.p[i] == '\n';
    size_t *at = base_alloc_array(n + 1, sizeof *at);
    a.tokens = base_alloc_array(n + 1, sizeof *a.tokens);
    a.types = base_alloc_array(n + 1, sizeof *a.types);
    rotor_status st = ROTOR_OK;
    if (!at || !a.tokens || !a.types || !spell_words(text, &words, at))
        st = base_fail_nomem(err, "reading the vocabulary");
    for (size_t i = 0; st == ROTOR_OK && i < n; i++)
        a.tokens[i] = (base_str){words.data + at[i], at[i + 1] - at[i]};
    if (st == ROTOR_OK) st = create_words(out, &a, n, log, err);
    base_buf_free(&words);
    base_free(at);
    free_arrays(&a);
    return st;
}

static rotor_status from_folder(text_vocab **out, const file_model *f, const base_log *log,
                                rotor_error *err) {
    base_str tokenizer, config = {0};
    if (!file_side(f, "tokenizer.json", &tokenizer) && file_side(f, "vocab.txt", &tokenizer)) {
        rotor_status st = from_words(out, tokenizer, log, err);
        return st == ROTOR_OK ? st : base_fail_in(err, st, "%s: vocab.txt", file_path(f));
    }
    if (!file_side(f, "tokenizer.json", &tokenizer))
        return base_fail(err, ROTOR_E_NOTFOUND, "%s: tokenizer.json is missing beside the weights",
                         file_path(f));
    file_side(f, "tokenizer_config.json", &config);
    rotor_status st = text_vocab_from_json(out, tokenizer, config, log, err);
    return st == ROTOR_OK ? st : base_fail_in(err, st, "%s: tokenizer.json", file_path(f));
}

rotor_status model_vocab(text_vocab **out, const file_model *f, const base_log *log,
                         rotor_error *err) {
    return file_kind_of(f) == FILE_GGUF ? from_gguf(out, f, log, err)
                                        : from_folder(out, f, log, err);
}
