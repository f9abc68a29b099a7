/* SPDX-License-Identifier: MIT
 *
 * Rule sets: which expressions cut the text for each `tokenizer.ggml.pre` name, and which rule
 * set a tokenizer.json's expression is.
 *
 * Many names share one rule set. A rule set of several expressions runs them one after the other:
 * each cuts every piece left by the one before into matches and gaps. Names that are known but
 * whose rules are not implemented are refused, because wrong splits give silently bad output.
 */
#include "text/text_internal.h"

static const text_rule rules[] = {
    {"llama3", true, true, {text_scan_llama3}},
    {"gpt-4o", false, false, {text_scan_o200k}},
    {"gpt-2", false, false, {text_scan_gpt2}},
    {"roberta", false, true, {text_scan_gpt2}},
    {"qwen2", false, false, {text_scan_qwen2}},
    {"qwen35", false, false, {text_scan_qwen35}},
    {"falcon",
     false,
     false,
     {text_match_falcon_punct, text_scan_gpt2_no_tail, text_match_three_digits}},
    {"starcoder", false, false, {text_match_digit, text_scan_gpt2_no_tail}},
    {"mpt", false, false, {text_scan_gpt2_no_tail}},
    {"deepseek-llm",
     false,
     false,
     {text_match_newline, text_match_cased_word, text_match_wide_punct, text_match_end_spaces,
      text_match_cjk, text_match_digits}},
    {"deepseek-coder",
     false,
     false,
     {text_match_newline, text_match_word, text_match_punct_run, text_match_cjk, text_match_digit}},
    {"default",
     false,
     false,
     {text_match_default_punct, text_scan_gpt2_no_tail, text_match_digits,
      text_match_three_digits}},
};

typedef struct rule_names {
    const char *rule;  /* of the table above; NULL: known, not implemented */
    const char *names; /* separated by single spaces */
} rule_names;

static const rule_names names[] = {
    {"llama3", "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano "
               "laguna"},
    {"gpt-4o", "gpt-4o llama4 kanana2 minimax-m2"},
    {"gpt-2", "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat mellum modern-bert "
              "a.x-4.0 exaone4 trillion"},
    {"roberta", "roberta-bpe jina-v1-en jina-v2-code"},
    {"qwen2", "qwen2 deepseek-r1-qwen megrez kormo stablelm2 hunyuan solar-open"},
    {"qwen35", "qwen35"},
    {"falcon", "falcon"},
    {"starcoder", "starcoder smollm refact command-r codeshell exaone"},
    {"mpt", "mpt olmo jais"},
    {"deepseek-llm", "deepseek-llm"},
    {"deepseek-coder", "deepseek-coder"},
    {"default", "default"},
    {NULL, "deepseek-v3 tekken chatglm-bpe glm4 viking poro-chat bloom gpt3-finnish superbpe "
           "kimi-k2 seed-coder bailingmoe hunyuan-dense gemma4 grok-2 afmoe"},
};

static bool in_list(const char *list, base_str word) {
    while (*list) {
        size_t len = strcspn(list, " ");
        if (len == word.n && memcmp(list, word.p, len) == 0) return true;
        list += len + (list[len] == ' ');
    }
    return false;
}

static const text_rule *rule_called(const char *name) {
    for (size_t i = 0; i < BASE_COUNT(rules); i++)
        if (strcmp(rules[i].name, name) == 0) return &rules[i];
    return NULL;
}

const text_rule *text_rule_find(base_str pre, bool *known) {
    *known = true;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (in_list(names[i].names, pre)) return names[i].rule ? rule_called(names[i].rule) : NULL;
    *known = false;
    return rule_called("default");
}

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const text_rule *text_rule_of_regex(base_str pattern) {
    static const struct {
        const char *rule, *regex;
    } known[] = {
        {"gpt-2",
         "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
        {"gpt-2",
         "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
        {"llama3", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                                "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES},
        {"qwen2", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                               "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES},
        {"qwen35", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
                                "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES},
        {"gpt-4o",
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"
         "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?"
         "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" CONTRACTIONS
         "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES},
    };
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_str_is(pattern, known[i].regex)) return rule_called(known[i].rule);
    return NULL;
}

const char *text_pre_of_regex(base_str pattern) {
    const text_rule *rule = text_rule_of_regex(pattern);
    return rule ? rule->name : NULL;
}

rotor_status text_rule_steps(const text_rule *rule, text_steps *steps, rotor_error *err) {
    for (int i = 0; rule->passes[i]; i++) {
        text_step step = {.kind = STEP_MATCH, .match = rule->passes[i]};
        ROTOR_TRY(text_steps_add(steps, &step, err));
    }
    return ROTOR_OK;
}
