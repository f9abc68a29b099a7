/* SPDX-License-Identifier: MIT
 *
 * Names of models on the hub: the short ones, and how a word is taken apart.
 */
#include "hub/hub.h"

/* The published files that Rotor is made and checked for. */
static const hub_short shorts[] = {
    {"bitnet-2b4t", "microsoft/bitnet-b1.58-2B-4T-gguf", "ggml-model-i2_s.gguf",
     "BitNet b1.58 2B4T: ternary, chat, 1.2 GB"},
    {"bitnet-2b4t-hf", "microsoft/bitnet-b1.58-2B-4T", NULL,
     "the same as its packed safetensors folder"},
    {"llama3-8b-1.58", "HF1BitLLM/Llama3-8B-1.58-100B-tokens", NULL,
     "Llama 3 8B made ternary: chat, a folder"},
    {"gpt-oss-20b", "ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4.gguf",
     "gpt-oss 20B: mixture of experts, reasoning, tools, 12.1 GB"},
    {"minilm", "sentence-transformers/all-MiniLM-L6-v2", NULL, "vectors of English texts, 91 MB"},
    {"bge-small", "BAAI/bge-small-en-v1.5", NULL, "vectors of English texts"},
    {"nomic-embed", "nomic-ai/nomic-embed-text-v1.5-GGUF", "nomic-embed-text-v1.5.f16.gguf",
     "vectors of longer English texts"},
};

const hub_short *hub_short_at(size_t i) { return i < BASE_COUNT(shorts) ? &shorts[i] : NULL; }

const hub_short *hub_short_find(const char *name) {
    for (size_t i = 0; i < BASE_COUNT(shorts); i++)
        if (strcmp(shorts[i].name, name) == 0) return &shorts[i];
    return NULL;
}

/* One half of a repository's name: it becomes part of a path and of a folder's name, where "--"
 * stands for the slash. */
static bool is_half(const char *s, size_t n) {
    if (n == 0 || n > 96 || s[0] == '.' || s[0] == '-') return false;
    for (size_t i = 0; i < n; i++) {
        const char c = s[i];
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
        if (!plain) return false;
        if (i && (c == '.' || c == '-') && s[i - 1] == c) return false;
    }
    return true;
}

static rotor_status take(hub_ref *ref, const char *repo, size_t n, const char *part,
                         rotor_error *err) {
    ref->repo = base_strndup(repo, n);
    ref->part = part ? base_strdup(part) : NULL;
    if (ref->repo && (!part || ref->part)) return ROTOR_OK;
    hub_ref_free(ref);
    return base_fail_nomem(err, "reading a name");
}

rotor_status hub_ref_parse(hub_ref *ref, const char *word, rotor_error *err) {
    *ref = (hub_ref){0};
    const hub_short *row = hub_short_find(word);
    if (row) return take(ref, row->repo, strlen(row->repo), row->file, err);
    const char *name = strncmp(word, "hf:", 3) == 0 ? word + 3 : word;
    const char *slash = strchr(name, '/'), *colon = strchr(name, ':');
    const size_t n = colon ? (size_t)(colon - name) : strlen(name);
    if (!slash || slash > name + n)
        return base_fail(
            err, ROTOR_E_NOTFOUND,
            "no model is called '%s': expected a short name, or ORG/NAME as on the hub", word);
    const size_t n_org = (size_t)(slash - name);
    if (!is_half(name, n_org) || !is_half(slash + 1, n - n_org - 1) || (colon && !colon[1]))
        return base_fail(err, ROTOR_E_ARG,
                         "'%s' is no name on the hub: expected ORG/NAME, ORG/NAME:FILE or "
                         "ORG/NAME:QUANT",
                         word);
    return take(ref, name, n, colon ? colon + 1 : NULL, err);
}

void hub_ref_free(hub_ref *ref) {
    base_free(ref->repo);
    base_free(ref->part);
    *ref = (hub_ref){0};
}

char *hub_ref_text(const hub_ref *ref) {
    base_buf b = {0};
    base_buf_printf(&b, "%s%s%s", ref->repo, ref->part ? ":" : "", ref->part ? ref->part : "");
    if (b.failed) base_buf_free(&b);
    return b.data;
}
