/* SPDX-License-Identifier: MIT
 *
 * A vocabulary from a text_spec, that is from the tokenizer.ggml.* keys of a GGUF file.
 *
 * Fills in what each kind of model takes for granted: special ids, whether a text gets a
 * beginning and an end, which steps come before the model. Nothing is normalised for byte-level
 * models (llama.cpp does the same; Hugging Face's Qwen2 also composes to NFC).
 */
#include "text/text_internal.h"

static rotor_status check_tokens(const text_spec *s, size_t *bytes, rotor_error *err) {
    *bytes = 0;
    if (s->n_tokens > TEXT_MAX_TOKENS)
        return base_fail(err, ROTOR_E_FORMAT, "vocabulary: %zu tokens, at most %d", s->n_tokens,
                         TEXT_MAX_TOKENS);
    for (size_t i = 0; i < s->n_tokens; i++) {
        if (s->tokens[i].n > TEXT_MAX_TOKEN_BYTES)
            return base_fail(err, ROTOR_E_FORMAT, "vocabulary: token %zu has %zu bytes, at most %d",
                             i, s->tokens[i].n, TEXT_MAX_TOKEN_BYTES);
        if (s->types && (s->types[i] < TEXT_UNDEFINED || s->types[i] > TEXT_BYTE))
            return base_fail(err, ROTOR_E_FORMAT,
                             "vocabulary: token %zu has type %d, expected 0 to 6", i, s->types[i]);
        *bytes += s->tokens[i].n; /* at most 2^21 x 2^16 */
    }
    return ROTOR_OK;
}

static void set_tokens(text_vocab *v, const text_spec *s) {
    for (size_t i = 0; i < s->n_tokens; i++) {
        text_token_type type = s->types ? (text_token_type)s->types[i] : TEXT_NORMAL;
        uint8_t byte;
        if (!s->types && !v->bytes_are_symbols && text_parse_byte_token(s->tokens[i], &byte))
            type = TEXT_BYTE;
        bool literal = type == TEXT_CONTROL || type == TEXT_USER_DEFINED || type == TEXT_UNKNOWN;
        if (v->bytes_are_symbols && !literal)
            text_vocab_set_mapped(v, (uint32_t)i, s->tokens[i], type);
        else
            text_vocab_set(v, (uint32_t)i, s->tokens[i], type);
    }
}

static rotor_status pick_id(uint32_t given, uint32_t usual, const text_spec *s, const char *what,
                            uint32_t *out, rotor_error *err) {
    if (given == TEXT_NO_ID) {
        *out = usual < s->n_tokens ? usual : TEXT_NO_ID;
        return ROTOR_OK;
    }
    if (given >= s->n_tokens)
        return base_fail(err, ROTOR_E_FORMAT, "vocabulary: the %s id is %u of %zu tokens", what,
                         given, s->n_tokens);
    *out = given;
    return ROTOR_OK;
}

static rotor_status pick_ids(text_vocab *v, const text_spec *s, rotor_error *err) {
    static const struct {
        uint32_t bos, eos, unk;
    } usual[] = {
        [TEXT_BPE] = {TEXT_NO_ID, TEXT_NO_ID, TEXT_NO_ID},
        [TEXT_SPM] = {1, 2, 0},
        [TEXT_UNIGRAM] = {TEXT_NO_ID, 1, 2},
        [TEXT_WORDPIECE] = {101, 102, 100},
    };
    bool words = s->model == TEXT_WORDPIECE;
    uint32_t unused;
    ROTOR_TRY(pick_id(words ? s->cls : s->bos, usual[s->model].bos, s, words ? "CLS" : "BOS",
                      &v->bos, err));
    ROTOR_TRY(pick_id(words ? s->sep : s->eos, usual[s->model].eos, s, words ? "SEP" : "EOS",
                      &v->eos, err));
    ROTOR_TRY(pick_id(s->unk, usual[s->model].unk, s, "unknown", &v->unk, err));
    ROTOR_TRY(pick_id(s->pad, TEXT_NO_ID, s, "padding", &unused, err));
    ROTOR_TRY(pick_id(s->mask, TEXT_NO_ID, s, "mask", &unused, err));
    ROTOR_TRY(pick_id(s->eot, TEXT_NO_ID, s, "end-of-turn", &unused, err));
    return pick_id(s->eom, TEXT_NO_ID, s, "end-of-message", &unused, err);
}

static rotor_status pick_rule(text_vocab *v, const text_spec *s, rotor_error *err) {
    bool known;
    int shown = (int)BASE_MIN(s->pre.n, 60u);
    v->rule = text_rule_find(s->pre, &known);
    if (!v->rule)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "vocabulary: pre-tokenizer '%.*s' is not implemented", shown, s->pre.p);
    if (!known)
        base_log_printf(
            s->log, BASE_LOG_WARN,
            "vocabulary: pre-tokenizer '%.*s' is %s; text is split by the default rules "
            "and the model's answers may suffer",
            shown, s->pre.n ? s->pre.p : "", s->pre.n ? "not known" : "missing");
    v->whole_piece = v->rule->ignore_merges;
    return text_rule_steps(v->rule, &v->steps, err);
}

static bool add_or(int given, bool usual) { return given < 0 ? usual : given != 0; }

static rotor_status add_merge_lines(text_vocab *v, const text_spec *s, rotor_error *err) {
    text_merge_queue q;
    ROTOR_TRY(text_merges_begin(&q, v, s->n_merges, err));
    for (size_t i = 0; i < s->n_merges; i++) text_merges_add_line(&q, s->merges[i], (uint32_t)i);
    return text_merges_end(&q, s->log, err);
}

static rotor_status setup_bpe(text_vocab *v, const text_spec *s, rotor_error *err) {
    ROTOR_TRY(add_merge_lines(v, s, err));
    if (v->bos == TEXT_NO_ID && strcmp(v->rule->name, "llama3") == 0)
        v->bos = text_find(v, base_str_of("<|begin_of_text|>"));
    v->add_bos = add_or(s->add_bos, v->rule->add_bos);
    v->add_eos = add_or(s->add_eos, strcmp(v->rule->name, "roberta") == 0);
    return ROTOR_OK;
}

static rotor_status add_charsmap(text_vocab *v, base_str blob, rotor_error *err) {
    text_step step = {.kind = STEP_CHARSMAP};
    if (!blob.n) return ROTOR_OK;
    ROTOR_TRY(text_charsmap_create(&step.map, blob, err));
    rotor_status st = text_steps_add(&v->steps, &step, err);
    if (st) text_charsmap_free(&step.map);
    return st;
}

/* Spaces become U+2581, one more in front unless the file says no. */
static rotor_status add_space_marks(text_vocab *v, const text_spec *s, rotor_error *err) {
    base_str mark = base_str_of(SPACE_MARK), space = base_str_of(" ");
    v->phantom = true;
    v->drop_first_space = add_or(s->add_space_prefix, true);
    if (v->drop_first_space)
        ROTOR_TRY(text_steps_add_text(&v->steps, STEP_PREPEND, 0, mark, (base_str){0}, err));
    return text_steps_add_text(&v->steps, STEP_REPLACE, 0, space, mark, err);
}

static rotor_status setup_spm(text_vocab *v, const text_spec *s, rotor_error *err) {
    if (!s->scores)
        return base_fail(err, ROTOR_E_FORMAT, "vocabulary: a SentencePiece model without scores");
    ROTOR_TRY(text_vocab_set_scores(v, s->scores, err));
    v->add_bos = add_or(s->add_bos, true);
    v->add_eos = add_or(s->add_eos, false);
    return add_space_marks(v, s, err);
}

static rotor_status setup_unigram(text_vocab *v, const text_spec *s, rotor_error *err) {
    text_step squeeze = {.kind = STEP_SQUEEZE};
    if (!s->scores)
        return base_fail(err, ROTOR_E_FORMAT, "vocabulary: a unigram model without scores");
    v->scores = base_alloc_array(v->n_tokens, sizeof *v->scores);
    if (!v->scores) return base_fail_nomem(err, "creating a vocabulary");
    for (size_t i = 0; i < v->n_tokens; i++) v->scores[i] = (double)s->scores[i];
    ROTOR_TRY(text_unigram_prepare(v, err));
    v->fuse_unk = true;
    v->add_bos = add_or(s->add_bos, false);
    v->add_eos = add_or(s->add_eos, true);
    ROTOR_TRY(add_charsmap(v, s->charsmap, err));
    if (s->remove_extra_whitespaces) ROTOR_TRY(text_steps_add(&v->steps, &squeeze, err));
    return add_space_marks(v, s, err);
}

/* GGUF does not say whether a BERT vocabulary is cased; one without a single upper-case ASCII
 * letter in a plain token is for lower-cased text. */
static bool has_upper_case(const text_vocab *v) {
    for (size_t id = 0; id < v->n_tokens; id++) {
        base_str t = text_token(v, (uint32_t)id);
        if (text_type_at(v, (uint32_t)id) != TEXT_NORMAL || (t.n && t.p[0] == '[')) continue;
        for (size_t i = 0; i < t.n; i++)
            if (t.p[i] >= 'A' && t.p[i] <= 'Z') return true;
    }
    return false;
}

static rotor_status setup_wordpiece(text_vocab *v, const text_spec *s, rotor_error *err) {
    bool cased = has_upper_case(v);
    if (cased)
        base_log_printf(s->log, BASE_LOG_INFO, "vocabulary: cased WordPiece; text keeps its case");
    v->phantom = v->drop_first_space = true;
    v->add_bos = add_or(s->add_bos, true);
    v->add_eos = add_or(s->add_eos, true);
    return text_steps_add_bert(&v->steps, !cased, err);
}

rotor_status text_steps_add_bert(text_steps *steps, bool lower, rotor_error *err) {
    const text_step all[] = {
        {.kind = STEP_BERT_CLEAN, .flags = 3},
        {.kind = lower ? STEP_NFD : STEP_FIRST_SPLIT},
        {.kind = lower ? STEP_STRIP_ACCENTS : STEP_FIRST_SPLIT},
        {.kind = lower ? STEP_LOWER : STEP_FIRST_SPLIT},
        {.kind = STEP_MATCH, .cut = CUT_REMOVED, .match = text_match_space},
        {.kind = STEP_MATCH, .match = text_match_bert_punct},
    };
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        if (all[i].kind != STEP_FIRST_SPLIT || all[i].match)
            ROTOR_TRY(text_steps_add(steps, &all[i], err));
    return ROTOR_OK;
}

static rotor_status setup_model(text_vocab *v, const text_spec *s, rotor_error *err) {
    switch (s->model) {
    case TEXT_BPE:
        return setup_bpe(v, s, err);
    case TEXT_SPM:
        return setup_spm(v, s, err);
    case TEXT_UNIGRAM:
        return setup_unigram(v, s, err);
    case TEXT_WORDPIECE:
        return setup_wordpiece(v, s, err);
    }
    return base_fail(err, ROTOR_E_ARG, "vocabulary: model kind %d", (int)s->model);
}

void text_vocab_set_affixes(text_vocab *v) {
    v->n_prefix = v->bos != TEXT_NO_ID;
    v->n_suffix = v->eos != TEXT_NO_ID;
    v->prefix[0] = v->bos;
    v->suffix[0] = v->eos;
    v->add_bos = v->add_bos && v->n_prefix;
    v->add_eos = v->add_eos && v->n_suffix;
}

static void mark_given_eog(text_vocab *v, const text_spec *s) {
    text_vocab_add_eog(v, s->eot);
    text_vocab_add_eog(v, s->eom);
    for (size_t i = 0; i < s->n_extra_eog; i++) {
        text_vocab_add_eog(v, s->extra_eog[i]);
        if (s->extra_eog[i] >= v->n_tokens)
            base_log_printf(s->log, BASE_LOG_WARN,
                            "vocabulary: end-of-generation id %u of %zu tokens ignored",
                            s->extra_eog[i], v->n_tokens);
    }
}

rotor_status text_vocab_create(text_vocab **out, const text_spec *s, rotor_error *err) {
    size_t bytes;
    text_vocab *v = NULL;
    ROTOR_TRY(check_tokens(s, &bytes, err));
    ROTOR_TRY(text_vocab_new(&v, s->n_tokens, bytes, err));
    v->model = s->model;
    v->bytes_are_symbols = s->model == TEXT_BPE;
    rotor_status st = pick_ids(v, s, err);
    if (st == ROTOR_OK && s->model == TEXT_BPE) st = pick_rule(v, s, err);
    if (st) goto fail;
    set_tokens(v, s);
    mark_given_eog(v, s);
    st = text_vocab_finish(v, true, s->log, err);
    if (st == ROTOR_OK) st = setup_model(v, s, err);
    if (st) goto fail;
    text_vocab_set_affixes(v);
    *out = v;
    return ROTOR_OK;
fail:
    text_vocab_free(&v);
    return st;
}
