/* SPDX-License-Identifier: MIT
 *
 * Models that other programs keep, used where they lie and never written to.
 *
 *   Ollama     manifests/HOST/SPACE/MODEL/TAG (JSON; one layer is the model) and blobs/sha256-HEX
 *   LM Studio  models/PUBLISHER/REPOSITORY/FILE.gguf
 *   llama.cpp  FILE.gguf side by side, the name made of organisation, repository and file
 */
#include "hub/layout.h"

#include <jansson.h>
#include <stdio.h>

enum { MANIFEST_MAX = 1 << 20 };

/* ==== Folders in folders ====================================================================== */

/* Names in a folder; none where there is no folder. */
static size_t names_in(const char *dir, char ***names) {
    size_t n = 0;
    *names = NULL;
    if (!dir || base_path_kind_of(dir) != BASE_PATH_DIR ||
        base_list_dir(dir, names, &n, NULL) != ROTOR_OK)
        return 0;
    return n;
}

typedef rotor_status (*visit_fn)(void *user, const char *rel, const char *path, rotor_error *err);

/* Calls fn with each file exactly `depth` folders below dir; rel is its path from dir. */
static rotor_status visit(const char *dir, const char *rel, int depth, visit_fn fn, void *user,
                          rotor_error *err) {
    char **names;
    const size_t n = names_in(dir, &names);
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) {
        char *path = hub_path(dir, names[i], NULL);
        char *at = rel ? hub_path(rel, names[i], NULL) : base_strdup(names[i]);
        if (!path || !at)
            st = base_fail_nomem(err, "listing models");
        else if (depth > 0 && base_path_kind_of(path) == BASE_PATH_DIR)
            st = visit(path, at, depth - 1, fn, user, err);
        else if (depth == 0 && base_path_kind_of(path) == BASE_PATH_FILE)
            st = fn(user, at, path, err);
        base_free(path);
        base_free(at);
    }
    base_names_free(names, n);
    return st;
}

/* ==== Ollama ================================================================================== */

char *hub_ollama_root(const hub_places *p, size_t i) {
    static const char service[] = "/usr/share/ollama/.ollama/models";
    if (p->ollama_models && *p->ollama_models) return i ? NULL : base_strdup(p->ollama_models);
    if (i == 0)
        return p->home && *p->home ? hub_path(p->home, ".ollama", "models") : base_strdup(service);
    return i == 1 && p->home && *p->home ? base_strdup(service) : NULL;
}

typedef struct manifests {
    hub_manifest_fn fn; /* called with each */
    void *user;         /* for fn */
} manifests;

/* registry.ollama.ai/library/llama3.2/1b is called llama3.2:1b, another space or host is said. */
static rotor_status one_manifest(void *user, const char *rel, const char *path, rotor_error *err) {
    const manifests *m = user;
    static const char usual_host[] = "registry.ollama.ai/", usual_space[] = "library/";
    base_buf name = {0}, json = {0};
    const char *from = rel, *tag = strrchr(rel, '/');
    if (strncmp(from, usual_host, sizeof usual_host - 1) == 0) from += sizeof usual_host - 1;
    if (strncmp(from, usual_space, sizeof usual_space - 1) == 0) from += sizeof usual_space - 1;
    if (tag < from) return ROTOR_OK;
    base_buf_printf(&name, "%.*s:%s", (int)(tag - from), from, tag + 1);
    rotor_status st = ROTOR_OK;
    if (name.failed)
        st = base_fail_nomem(err, "listing models");
    else if (hub_read_small(path, MANIFEST_MAX, &json))
        st = m->fn(m->user, name.data, path, (base_str){json.data, json.len}, err);
    base_buf_free(&name);
    base_buf_free(&json);
    return st;
}

rotor_status hub_each_manifest(const char *root, hub_manifest_fn fn, void *user, rotor_error *err) {
    manifests m = {fn, user};
    char *dir = hub_path(root, "manifests", NULL);
    rotor_status st =
        dir ? visit(dir, NULL, 3, one_manifest, &m, err) : base_fail_nomem(err, "listing models");
    base_free(dir);
    return st;
}

/* "sha256:HEX" of the layer that is a model; "": none. */
static void model_digest(base_str json, char hex[65]) {
    json_t *root = json_loadb(json.p ? json.p : "", json.n, 0, NULL);
    const json_t *layers = json_object_get(root, "layers");
    *hex = 0;
    for (size_t i = 0; i < json_array_size(layers) && !*hex; i++) {
        const json_t *one = json_array_get(layers, i);
        const char *type = json_string_value(json_object_get(one, "mediaType"));
        const char *digest = json_string_value(json_object_get(one, "digest"));
        if (!type || !digest || strcmp(type, "application/vnd.ollama.image.model") != 0) continue;
        if (strncmp(digest, "sha256:", 7) == 0 && strlen(digest) == 71 &&
            strspn(digest + 7, "0123456789abcdef") == 64)
            memcpy(hex, digest + 7, 65);
    }
    json_decref(root);
}

typedef struct store {
    hub_entry_list *l; /* where entries go */
    const char *root;  /* of the store */
} store;

static rotor_status add_manifest(void *user, const char *name, const char *path, base_str json,
                                 rotor_error *err) {
    const store *s = user;
    char hex[65], blob[96];
    (void)path;
    model_digest(json, hex);
    if (!*hex) return ROTOR_OK;
    snprintf(blob, sizeof blob, "sha256-%s", hex);
    char *at = hub_path(s->root, "blobs", blob);
    if (!at || base_path_kind_of(at) != BASE_PATH_FILE) {
        base_free(at);
        return ROTOR_OK; /* not downloaded whole */
    }
    return hub_push(s->l, HUB_OLLAMA, base_strdup(name), at, err);
}

rotor_status hub_list_ollama(hub_entry_list *l, const hub_places *p, rotor_error *err) {
    char *root;
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; st == ROTOR_OK && (root = hub_ollama_root(p, i)); i++) {
        store s = {l, root};
        st = hub_each_manifest(root, add_manifest, &s, err);
        base_free(root);
    }
    return st;
}

/* ==== LM Studio and llama.cpp ================================================================= */

static rotor_status add_lm_file(void *user, const char *rel, const char *path, rotor_error *err) {
    const store *s = user;
    base_buf name = {0};
    const char *file = strrchr(rel, '/') + 1;
    if (!hub_is_model(file)) return ROTOR_OK;
    base_buf_printf(&name, "%.*s:%s", (int)(file - 1 - rel), rel, file);
    return hub_push(s->l, HUB_LM_STUDIO, name.data, base_strdup(path), err);
}

rotor_status hub_list_lm_studio(hub_entry_list *l, const hub_places *p, rotor_error *err) {
    static const char *const below_home[] = {".lmstudio/models", ".cache/lm-studio/models"};
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < BASE_COUNT(below_home) && p->home && *p->home && st == ROTOR_OK; i++) {
        char *root = hub_path(p->home, below_home[i], NULL);
        store s = {l, root};
        st = root ? visit(root, NULL, 2, add_lm_file, &s, err)
                  : base_fail_nomem(err, "listing models");
        base_free(root);
    }
    return st;
}

static rotor_status add_llama_file(void *user, const char *rel, const char *path,
                                   rotor_error *err) {
    const store *s = user;
    if (!hub_is_model(rel)) return ROTOR_OK;
    return hub_push(s->l, HUB_LLAMA_CPP, base_strdup(rel), base_strdup(path), err);
}

rotor_status hub_list_llama_cpp(hub_entry_list *l, const hub_places *p, rotor_error *err) {
    char *root = NULL;
    if (p->llama_cache && *p->llama_cache)
        root = base_strdup(p->llama_cache);
    else if (p->xdg_cache_home && *p->xdg_cache_home)
        root = hub_path(p->xdg_cache_home, "llama.cpp", NULL);
    else if (p->home && *p->home)
        root = hub_path(p->home, ".cache", "llama.cpp");
    store s = {l, root};
    rotor_status st = root ? visit(root, NULL, 0, add_llama_file, &s, err) : ROTOR_OK;
    base_free(root);
    return st;
}
