/* SPDX-License-Identifier: MIT
 *
 * Which files of a repository a model consists of: one GGUF file, all parts of a split one, or of a
 * safetensors folder what its loader reads.
 */
#include "hub/layout.h"

#include <stdio.h>

/* Beside config.json and the weights, as far as a repository has them. */
static const char *const side_names[] = {"model.safetensors.index.json",
                                         "config.json",
                                         "generation_config.json",
                                         "tokenizer.json",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "vocab.txt",
                                         "tokenizer.model",
                                         "chat_template.jinja",
                                         "chat_template.json",
                                         "modules.json",
                                         "sentence_bert_config.json",
                                         "config_sentence_transformers.json",
                                         "adapter_config.json"};

typedef struct picks {
    size_t *at; /* owned; [n] indices */
    size_t n;   /* how many */
} picks;

static const char *last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_gguf(const hub_file *f) { return hub_is_model(last_name(f->path)); }

/* "1_Pooling/config.json", "2_Dense/model.safetensors": the modules of sentence-transformers. */
static bool is_module(const char *path) {
    const size_t digits = strspn(path, "0123456789");
    const char *slash = strchr(path, '/');
    return digits && path[digits] == '_' && slash &&
           (strcmp(slash, "/config.json") == 0 || strcmp(slash, "/model.safetensors") == 0);
}

static bool is_weights(const char *path) {
    return !strchr(path, '/') && hub_ends_with(path, ".safetensors");
}

static bool in_folder_model(const char *path, bool only_model) {
    for (size_t i = 0; i < BASE_COUNT(side_names); i++)
        if (strcmp(path, side_names[i]) == 0) return true;
    if (is_weights(path))
        return only_model ? strncmp(path, "model", 5) == 0 : strncmp(path, "consolidated", 12) != 0;
    return is_module(path);
}

/* Is `part` a word of its own in the file's name: not inside a longer one such as IQ4_0 for Q4_0?
 */
static bool word_in(const char *path, const char *part) {
    const size_t n = strlen(part);
    for (const char *p = path; *p; p++) {
        char word[128];
        snprintf(word, sizeof word, "%.*s", (int)BASE_MIN(n, sizeof word - 1), p);
        if (strlen(word) != n || !hub_has_word(word, part)) continue;
        const bool begins = p == path || strchr("-._/", p[-1]);
        if (begins && (!p[n] || strchr(".-/", p[n]))) return true;
    }
    return false;
}

typedef enum how { EXACT, WORD, ANYWHERE, N_HOWS } how;

static bool fits(const hub_file *f, const char *part, how h) {
    if (h == EXACT) return strcmp(f->path, part) == 0 || strcmp(last_name(f->path), part) == 0;
    if (!is_gguf(f)) return false;
    return h == WORD ? word_in(f->path, part) : hub_has_word(f->path, part);
}

static void pick_fitting(picks *p, const hub_file *files, size_t n, const char *part) {
    for (how h = part ? EXACT : N_HOWS; h < N_HOWS && !p->n; h++)
        for (size_t i = 0; i < n; i++)
            if (fits(&files[i], part, h)) p->at[p->n++] = i;
    for (size_t i = 0; i < n && !part; i++)
        if (is_gguf(&files[i])) p->at[p->n++] = i;
}

static void pick_folder(picks *p, const hub_file *files, size_t n) {
    bool config = false, weights = false, model = false;
    for (size_t i = 0; i < n; i++) {
        config |= strcmp(files[i].path, "config.json") == 0;
        weights |= is_weights(files[i].path);
        model |= is_weights(files[i].path) && strncmp(files[i].path, "model", 5) == 0;
    }
    for (size_t i = 0; i < n && config && weights; i++)
        if (in_folder_model(files[i].path, model)) p->at[p->n++] = i;
}

static rotor_status pick_parts(picks *p, const hub_file *files, size_t n, rotor_error *err) {
    size_t at;
    const char *first = files[p->at[0]].path;
    const uint32_t count = hub_split_count(first, &at);
    p->n = count ? 0 : 1;
    for (uint32_t k = 1; k <= count; k++) {
        char number[16];
        size_t i = 0;
        snprintf(number, sizeof number, "%05u", k);
        while (i < n &&
               !(strlen(files[i].path) == strlen(first) && strncmp(files[i].path, first, at) == 0 &&
                 strncmp(files[i].path + at, number, 5) == 0 &&
                 strcmp(files[i].path + at + 5, first + at + 5) == 0))
            i++;
        if (i == n)
            return base_fail(err, ROTOR_E_NOTFOUND, "%s: part %u of %u is not there", first, k,
                             count);
        p->at[p->n++] = i;
    }
    return ROTOR_OK;
}

/* "; it has a.gguf (1.2 GB), b.gguf (2.4 GB) and 3 more" */
static void put_list(base_buf *b, const hub_file *files, size_t n, const picks *only) {
    size_t shown = 0, more = 0;
    for (size_t k = 0; k < (only ? only->n : n); k++) {
        const hub_file *f = &files[only ? only->at[k] : k];
        if (!only && !is_gguf(f)) continue;
        if (shown == 12) {
            more++;
            continue;
        }
        base_buf_printf(b, "%s%s (%.2f GB)", shown++ ? ", " : "", f->path, (double)f->bytes / 1e9);
    }
    if (more) base_buf_printf(b, " and %zu more", more);
}

static rotor_status not_one(const hub_file *files, size_t n, const picks *p, const char *part,
                            rotor_error *err) {
    base_buf list = {0};
    rotor_status st;
    put_list(&list, files, n, p->n ? p : NULL);
    const char *text = list.data ? list.data : "";
    if (p->n)
        st = base_fail(err, ROTOR_E_ARG, "%zu files fit; name one behind a colon: %s", p->n, text);
    else if (*text)
        st = base_fail(err, ROTOR_E_NOTFOUND, "no file '%s'; there are %s", part ? part : "", text);
    else
        st = base_fail(err, ROTOR_E_NOTFOUND,
                       "neither GGUF files nor config.json with safetensors%s%s%s",
                       part ? ", nor a file '" : "", part ? part : "", part ? "'" : "");
    base_buf_free(&list);
    return st;
}

rotor_status hub_select(const hub_file *files, size_t n, const char *part, size_t **picked,
                        size_t *n_picked, bool *folder, rotor_error *err) {
    picks p = {.at = base_alloc_array(n + 1, sizeof *p.at)};
    rotor_status st = ROTOR_OK;
    if (!p.at) return base_fail_nomem(err, "choosing files");
    *folder = false;
    pick_fitting(&p, files, n, part);
    if (!part && p.n != 1) {
        picks all = {.at = base_alloc_array(n + 1, sizeof *all.at)};
        if (all.at && p.n == 0) pick_folder(&all, files, n);
        *folder = all.n > 0;
        if (all.n) {
            base_free(p.at);
            p = all;
        } else {
            base_free(all.at);
        }
    }
    if (!*folder) st = p.n == 1 ? pick_parts(&p, files, n, err) : not_one(files, n, &p, part, err);
    if (st != ROTOR_OK) return base_free(p.at), st;
    *picked = p.at;
    *n_picked = p.n;
    return ROTOR_OK;
}
