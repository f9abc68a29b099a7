/* SPDX-License-Identifier: MIT
 *
 * The normalizer and pre_tokenizer parts of a tokenizer.json, as steps.
 *
 * Each known type becomes one or more steps; expressions that a hand scanner covers use it, the
 * rest are compiled. A type that is not known is refused by name: leaving it out would give
 * wrong ids without a word.
 */
#include "text/json_internal.h"

static rotor_status add(json_reader *j, text_step step) {
    rotor_status st = text_steps_add(&j->v->steps, &step, j->err);
    if (st) text_regex_free(&step.re);
    if (st) text_charsmap_free(&step.map);
    if (st) base_free(step.b);
    return st;
}

static rotor_status refuse(json_reader *j, const char *part, const char *type) {
    return base_fail(j->err, ROTOR_E_UNSUPPORTED,
                     "tokenizer.json: %s type '%.60s' is not implemented", part, type);
}

const char *json_type_of(const json_t *o) {
    const char *type = json_string_value(json_object_get(o, "type"));
    return type ? type : "";
}

bool json_bool_or(const json_t *o, const char *key, bool usual) {
    const json_t *value = json_object_get(o, key);
    return json_is_boolean(value) ? json_is_true(value) : usual;
}

base_str json_str_of(const json_t *value) {
    if (!json_is_string(value)) return (base_str){"", 0};
    return (base_str){json_string_value(value), json_string_length(value)};
}

/* ==== Normalizers ============================================================================= */

static rotor_status read_replace(json_reader *j, const json_t *o) {
    const json_t *pattern = json_object_get(o, "pattern");
    base_str literal = json_str_of(json_object_get(pattern, "String"));
    base_str regex = json_str_of(json_object_get(pattern, "Regex"));
    base_str content = json_str_of(json_object_get(o, "content"));
    if (literal.n)
        return text_steps_add_text(&j->v->steps, STEP_REPLACE, 0, literal, content, j->err);
    if (base_str_is(regex, " {2,}")) /* in T5 and its kin; spares them PCRE2 */
        return text_steps_add_text(&j->v->steps, STEP_REPLACE, 1, base_str_of(" "), content,
                                   j->err);
    text_step step = {.kind = STEP_REPLACE_REGEX, .b_n = content.n};
    if (!regex.n)
        return base_fail(j->err, ROTOR_E_FORMAT, "tokenizer.json: Replace without a pattern");
    ROTOR_TRY(text_regex_compile(&step.re, regex, j->err));
    step.b = base_strndup(content.p, content.n);
    if (!step.b) {
        text_regex_free(&step.re);
        return base_fail_nomem(j->err, "reading tokenizer.json");
    }
    return add(j, step);
}

static rotor_status read_charsmap(json_reader *j, const json_t *o) {
    base_str code = json_str_of(json_object_get(o, "precompiled_charsmap"));
    text_step step = {.kind = STEP_CHARSMAP};
    size_t n;
    if (!code.n) return ROTOR_OK;
    char *blob = base_alloc(code.n);
    if (!blob) return base_fail_nomem(j->err, "reading tokenizer.json");
    rotor_status st = text_base64(code, blob, &n)
                          ? text_charsmap_create(&step.map, (base_str){blob, n}, j->err)
                          : base_fail(j->err, ROTOR_E_FORMAT,
                                      "tokenizer.json: precompiled_charsmap is not base64");
    base_free(blob);
    return st ? st : add(j, step);
}

static rotor_status read_bert_normalizer(json_reader *j, const json_t *o) {
    bool lower = json_bool_or(o, "lowercase", true);
    bool strip = json_bool_or(o, "strip_accents", lower);
    unsigned flags = (json_bool_or(o, "clean_text", true) ? 1u : 0) |
                     (json_bool_or(o, "handle_chinese_chars", true) ? 2u : 0);
    if (flags) ROTOR_TRY(add(j, (text_step){.kind = STEP_BERT_CLEAN, .flags = flags}));
    if (strip) ROTOR_TRY(add(j, (text_step){.kind = STEP_NFD}));
    if (strip) ROTOR_TRY(add(j, (text_step){.kind = STEP_STRIP_ACCENTS}));
    return lower ? add(j, (text_step){.kind = STEP_LOWER}) : ROTOR_OK;
}

static rotor_status read_normalizer(json_reader *j, const json_t *o) {
    static const struct {
        const char *type;
        text_step step;
    } plain[] = {
        {"NFC", {.kind = STEP_NFC}},
        {"NFD", {.kind = STEP_NFD}},
        {"NFKC", {.kind = STEP_NFKC}},
        {"NFKD", {.kind = STEP_NFKD}},
        {"Lowercase", {.kind = STEP_LOWER}},
        {"StripAccents", {.kind = STEP_STRIP_ACCENTS, .flags = 1}},
    };
    const char *type = json_type_of(o);
    for (size_t i = 0; i < BASE_COUNT(plain); i++)
        if (strcmp(type, plain[i].type) == 0) return add(j, plain[i].step);
    if (strcmp(type, "Strip") == 0) {
        unsigned flags = (json_bool_or(o, "strip_left", true) ? 1u : 0) |
                         (json_bool_or(o, "strip_right", true) ? 2u : 0);
        return add(j, (text_step){.kind = STEP_STRIP, .flags = flags});
    }
    if (strcmp(type, "Replace") == 0) return read_replace(j, o);
    if (strcmp(type, "Precompiled") == 0) return read_charsmap(j, o);
    if (strcmp(type, "BertNormalizer") == 0) return read_bert_normalizer(j, o);
    if (strcmp(type, "Prepend") != 0) return refuse(j, "normalizer", type);
    base_str what = json_str_of(json_object_get(o, "prepend"));
    j->prefixes_space |= base_str_is(what, SPACE_MARK);
    return text_steps_add_text(&j->v->steps, STEP_PREPEND, 0, what, (base_str){0}, j->err);
}

rotor_status json_read_normalizer(json_reader *j, const json_t *o) {
    if (!o || json_is_null(o)) return ROTOR_OK;
    if (strcmp(json_type_of(o), "Sequence") != 0) return read_normalizer(j, o);
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(o, "normalizers"), i, item)
        ROTOR_TRY(read_normalizer(j, item)); /* sequences do not nest in published files */
    return ROTOR_OK;
}

/* ==== Pre-tokenizers ========================================================================== */

static rotor_status read_cut(json_reader *j, const json_t *o, step_cut *cut) {
    static const struct {
        const char *name;
        step_cut cut;
    } known[] = {{"Isolated", CUT_ISOLATED},
                 {"Removed", CUT_REMOVED},
                 {"MergedWithPrevious", CUT_WITH_PREVIOUS},
                 {"MergedWithNext", CUT_WITH_NEXT},
                 {"Contiguous", CUT_CONTIGUOUS}};
    const char *name = json_string_value(json_object_get(o, "behavior"));
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (!name || strcmp(name, known[i].name) == 0) return *cut = known[i].cut, ROTOR_OK;
    return refuse(j, "split behavior", name);
}

static rotor_status read_split(json_reader *j, const json_t *o) {
    const json_t *pattern = json_object_get(o, "pattern");
    base_str literal = json_str_of(json_object_get(pattern, "String"));
    base_str regex = json_str_of(json_object_get(pattern, "Regex"));
    text_step step = {.kind = STEP_REGEX, .invert = json_bool_or(o, "invert", false)};
    ROTOR_TRY(read_cut(j, o, &step.cut));
    if (literal.n) {
        ROTOR_TRY(
            text_steps_add_text(&j->v->steps, STEP_LITERAL, 0, literal, (base_str){0}, j->err));
        text_step *last = &j->v->steps.at[j->v->steps.n - 1];
        last->cut = step.cut;
        last->invert = step.invert;
        return ROTOR_OK;
    }
    if (!regex.n)
        return base_fail(j->err, ROTOR_E_FORMAT, "tokenizer.json: Split without a pattern");
    const text_rule *rule = text_rule_of_regex(regex);
    if (rule) {
        j->v->rule = rule;
        step.kind = STEP_MATCH;
        step.match = rule->passes[0];
        return add(j, step);
    }
    ROTOR_TRY(text_regex_compile(&step.re, regex, j->err));
    return add(j, step);
}

static rotor_status read_byte_level(json_reader *j, const json_t *o) {
    if (json_bool_or(o, "add_prefix_space", true))
        ROTOR_TRY(add(j, (text_step){.kind = STEP_PREFIX_SPACE}));
    if (!json_bool_or(o, "use_regex", true)) return ROTOR_OK;
    return add(j, (text_step){.kind = STEP_MATCH, .match = text_scan_gpt2});
}

static rotor_status read_metaspace(json_reader *j, const json_t *o) {
    const char *scheme = json_string_value(json_object_get(o, "prepend_scheme"));
    bool prefix = json_bool_or(o, "add_prefix_space", true);
    base_str mark = json_str_of(json_object_get(o, "replacement"));
    unsigned flags = prefix ? 1u : 0;
    if (scheme) flags = strcmp(scheme, "always") == 0 ? 1 : strcmp(scheme, "first") == 0 ? 2 : 0;
    j->prefixes_space |= flags != 0;
    if (json_bool_or(o, "split", true)) flags |= 4;
    if (!mark.n) mark = base_str_of(SPACE_MARK);
    return text_steps_add_text(&j->v->steps, STEP_METASPACE, flags, mark, (base_str){0}, j->err);
}

static rotor_status read_words(json_reader *j) {
    text_step step = {.kind = STEP_REGEX, .cut = CUT_REMOVED, .invert = true};
    base_str words = base_str_of("[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}]+|"
                                 "[^\\s\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}]+");
    ROTOR_TRY(text_regex_compile(&step.re, words, j->err));
    return add(j, step);
}

static rotor_status read_pre_tokenizer(json_reader *j, const json_t *o) {
    const char *type = json_type_of(o);
    text_step step = {.kind = STEP_MATCH};
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(j, o);
    if (strcmp(type, "Split") == 0) return read_split(j, o);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(j, o);
    if (strcmp(type, "Whitespace") == 0) return read_words(j);
    if (strcmp(type, "Digits") == 0) {
        bool each = json_bool_or(o, "individual_digits", false);
        step.match = each ? text_match_digit : text_match_digits;
        return add(j, step);
    }
    if (strcmp(type, "Punctuation") == 0) {
        ROTOR_TRY(read_cut(j, o, &step.cut));
        step.match = text_match_bert_punct;
        return add(j, step);
    }
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        base_str delimiter = json_str_of(json_object_get(o, "delimiter"));
        if (!delimiter.n) return refuse(j, "pre_tokenizer", type);
        ROTOR_TRY(
            text_steps_add_text(&j->v->steps, STEP_LITERAL, 0, delimiter, (base_str){0}, j->err));
        j->v->steps.at[j->v->steps.n - 1].cut = CUT_REMOVED;
        return ROTOR_OK;
    }
    bool bert = strcmp(type, "BertPreTokenizer") == 0;
    if (!bert && strcmp(type, "WhitespaceSplit") != 0) return refuse(j, "pre_tokenizer", type);
    step.cut = CUT_REMOVED;
    step.match = text_match_space;
    ROTOR_TRY(add(j, step));
    step.cut = CUT_ISOLATED;
    step.match = text_match_bert_punct;
    return bert ? add(j, step) : ROTOR_OK;
}

rotor_status json_read_pre_tokenizer(json_reader *j, const json_t *o) {
    if (!o || json_is_null(o)) return ROTOR_OK;
    if (strcmp(json_type_of(o), "Sequence") != 0) return read_pre_tokenizer(j, o);
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(o, "pretokenizers"), i, item)
        ROTOR_TRY(read_pre_tokenizer(j, item));
    return ROTOR_OK;
}

bool json_mentions_byte_level(const json_t *o, const char *list) {
    if (strcmp(json_type_of(o), "ByteLevel") == 0) return true;
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(o, list), i,
                       item) if (strcmp(json_type_of(item), "ByteLevel") == 0) return true;
    return false;
}
