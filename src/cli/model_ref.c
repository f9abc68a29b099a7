/* SPDX-License-Identifier: MIT
 *
 * From the word MODEL to a model: a path, a name in the model cache, or nothing at all, which means
 * what ROTOR_MODEL says and else the model inside the program; "embedded" always means the latter.
 */
#include "cli/cli.h"
#include "hub/hub.h"

#include <stdlib.h>

extern const unsigned char cli_embedded_model[];
extern const size_t cli_embedded_model_size;

void cli_places(hub_places *out) {
    *out = (hub_places){.hf_hub_cache = getenv("HF_HUB_CACHE"),
                        .hf_home = getenv("HF_HOME"),
                        .xdg_cache_home = getenv("XDG_CACHE_HOME"),
                        .home = getenv("HOME"),
                        .ollama_models = getenv("OLLAMA_MODELS"),
                        .llama_cache = getenv("LLAMA_CACHE")};
}

char *cli_cache_root(void) {
    hub_places places;
    cli_places(&places);
    return hub_root(&places);
}

/* ==== Names that are none ===================================================================== */

typedef struct known {
    const hub_entry *entries; /* models that are here */
    size_t n;                 /* how many */
} known;

static const char *known_name_at(const void *ctx, size_t i) {
    const known *k = ctx;
    size_t n_short = 0;
    while (hub_short_at(n_short)) n_short++;
    if (i < n_short) return hub_short_at(i)->name;
    return i - n_short < k->n ? k->entries[i - n_short].name : NULL;
}

char *cli_nearest_model(const char *word) {
    hub_places places;
    known k = {0};
    hub_entry *entries = NULL;
    cli_places(&places);
    if (hub_list_all(&places, &entries, &k.n, NULL) != ROTOR_OK) return NULL;
    k.entries = entries;
    const char *near = cli_nearest(word, known_name_at, &k);
    char *copy = near ? base_strdup(near) : NULL;
    hub_entries_free(entries, k.n);
    return copy;
}

rotor_status cli_several_models(const hub_entry *entries, size_t n, const char *word, bool sources,
                                rotor_error *err) {
    base_buf names = {0};
    for (size_t i = 0; i < n; i++) {
        size_t fits;
        if (!hub_match(&entries[i], 1, word, &fits)) continue;
        base_buf_printf(&names, "%s%s", names.len ? ", " : "", entries[i].name);
        if (sources) base_buf_printf(&names, " (%s)", hub_source_name(entries[i].source));
    }
    base_fail(err, ROTOR_E_ARG, "'%s' may be %s; name one", word,
              names.data ? names.data : "several");
    base_buf_free(&names);
    return ROTOR_E_ARG;
}

static rotor_status not_found(const char *word, const char *root, rotor_error *err) {
    if (strchr(word, ' '))
        return base_fail(err, ROTOR_E_NOTFOUND,
                         "'%s' is no model; a text to complete goes behind -p: rotor run -p \"%s\"",
                         word, word);
    hub_ref ref;
    char *near = NULL;
    rotor_status st;
    const size_t n = strlen(word);
    const bool is_file = n > 5 && strcmp(word + n - 5, ".gguf") == 0;
    if (!is_file && hub_ref_parse(&ref, word, NULL) == ROTOR_OK) {
        hub_ref_free(&ref);
        st = base_fail(err, ROTOR_E_NOTFOUND,
                       "'%s' is not on this machine; rotor pull %s downloads it", word, word);
    } else if ((near = cli_nearest_model(word))) {
        st = base_fail(err, ROTOR_E_NOTFOUND, "no model '%s'; did you mean '%s'?", word, near);
    } else {
        st =
            base_fail(err, ROTOR_E_NOTFOUND,
                      "no model '%s': neither a file or folder nor a name in the model cache (%s); "
                      "rotor models lists what there is",
                      word, root ? root : "none");
    }
    base_free(near);
    return st;
}

char *cli_cache_name(const char *word) {
    hub_ref ref;
    const bool is_short = hub_short_find(word) != NULL;
    if (!is_short && strncmp(word, "hf:", 3) != 0) return base_strdup(word);
    if (hub_ref_parse(&ref, word, NULL) != ROTOR_OK) return base_strdup(word);
    char *text = hub_ref_text(&ref);
    hub_ref_free(&ref);
    return text;
}

static rotor_status find_in_cache(char **path, const char *word, rotor_error *err) {
    hub_entry *entries = NULL;
    size_t n = 0, fits = 0;
    hub_places places;
    cli_places(&places);
    char *root = hub_root(&places), *name = cli_cache_name(word);
    rotor_status st =
        name ? hub_list_all(&places, &entries, &n, err) : base_fail_nomem(err, "finding a model");
    const hub_entry *found = name ? hub_match(entries, n, name, &fits) : NULL;
    if (st == ROTOR_OK && fits > 1)
        st = cli_several_models(entries, n, name, false, err);
    else if (st == ROTOR_OK && !found)
        st = not_found(word, root, err);
    else if (st == ROTOR_OK && !(*path = base_strdup(found->path)))
        st = base_fail_nomem(err, "finding a model");
    hub_entries_free(entries, n);
    base_free(root);
    base_free(name);
    return st;
}

rotor_status cli_model_find(cli_model *m, const char *word, rotor_error *err) {
    memset(m, 0, sizeof *m);
    if (!word) word = getenv("ROTOR_MODEL");
    if (!word || !*word || strcmp(word, "embedded") == 0) {
        m->src = (tool_source){
            .data = cli_embedded_model, .n_bytes = cli_embedded_model_size, .name = "embedded"};
        return ROTOR_OK;
    }
    if (base_path_kind_of(word) != BASE_PATH_NONE) {
        m->path = base_strdup(word);
        if (!m->path) return base_fail_nomem(err, "finding a model");
    } else {
        ROTOR_TRY(find_in_cache(&m->path, word, err));
    }
    m->src.path = m->path;
    m->src.name = m->path;
    return ROTOR_OK;
}

void cli_model_free(cli_model *m) {
    base_free(m->path);
    memset(m, 0, sizeof *m);
}
