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

char *cli_cache_root(void) {
    const hub_places places = {.hf_hub_cache = getenv("HF_HUB_CACHE"),
                               .hf_home = getenv("HF_HOME"),
                               .xdg_cache_home = getenv("XDG_CACHE_HOME"),
                               .home = getenv("HOME")};
    return hub_root(&places);
}

static rotor_status several(const hub_entry *entries, size_t n, const char *word,
                            rotor_error *err) {
    base_buf names = {0};
    for (size_t i = 0; i < n; i++) {
        size_t fits;
        if (hub_match(&entries[i], 1, word, &fits))
            base_buf_printf(&names, "%s%s", names.len ? ", " : "", entries[i].name);
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
    return base_fail(err, ROTOR_E_NOTFOUND,
                     "no model '%s': neither a file or folder nor a name in the model cache (%s); "
                     "rotor models lists what there is",
                     word, root ? root : "none");
}

static rotor_status find_in_cache(char **path, const char *word, rotor_error *err) {
    hub_entry *entries = NULL;
    size_t n = 0, fits = 0;
    char *root = cli_cache_root();
    rotor_status st = root ? hub_list(root, &entries, &n, err) : ROTOR_OK;
    const hub_entry *found = hub_match(entries, n, word, &fits);
    if (st == ROTOR_OK && fits > 1)
        st = several(entries, n, word, err);
    else if (st == ROTOR_OK && !found)
        st = not_found(word, root, err);
    else if (st == ROTOR_OK && !(*path = base_strdup(found->path)))
        st = base_fail_nomem(err, "finding a model");
    hub_entries_free(entries, n);
    base_free(root);
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
