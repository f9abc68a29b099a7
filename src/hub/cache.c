/* SPDX-License-Identifier: MIT
 *
 * The model cache: where it lies, what is in it, which entry a name means.
 *
 * A repository counts when a snapshot of it holds GGUF files (each is an entry; of a split file the
 * first part) or a config.json beside safetensors (the folder is the entry).
 */
#include "hub/layout.h"

#include <stdlib.h>

char *hub_root(const hub_places *p) {
    base_buf b = {0};
    if (p->hf_hub_cache && *p->hf_hub_cache)
        base_buf_puts(&b, p->hf_hub_cache);
    else if (p->hf_home && *p->hf_home)
        base_buf_printf(&b, "%s/hub", p->hf_home);
    else if (p->xdg_cache_home && *p->xdg_cache_home)
        base_buf_printf(&b, "%s/huggingface/hub", p->xdg_cache_home);
    else if (p->home && *p->home)
        base_buf_printf(&b, "%s/.cache/huggingface/hub", p->home);
    if (b.failed) base_buf_free(&b);
    return b.data;
}

char *hub_token_path(const hub_places *p) {
    base_buf b = {0};
    if (p->hf_home && *p->hf_home)
        base_buf_printf(&b, "%s/token", p->hf_home);
    else if (p->xdg_cache_home && *p->xdg_cache_home)
        base_buf_printf(&b, "%s/huggingface/token", p->xdg_cache_home);
    else if (p->home && *p->home)
        base_buf_printf(&b, "%s/.cache/huggingface/token", p->home);
    if (b.failed) base_buf_free(&b);
    return b.data;
}

/* ==== Listing ================================================================================= */

static const char *const source_names[] = {"cache", "Ollama", "LM Studio", "llama.cpp"};

const char *hub_source_name(hub_source s) { return source_names[s]; }

/* Appends the model files of a snapshot's folder, and of folders in it, as paths below it. */
static rotor_status find_files(const char *dir, const char *below, hub_entry_list *found,
                               rotor_error *err) {
    char **names = NULL, *at = below ? hub_path(dir, below, NULL) : base_strdup(dir);
    size_t n = 0;
    rotor_status st = at ? ROTOR_OK : base_fail_nomem(err, "listing models");
    if (at && base_list_dir(at, &names, &n, NULL) != ROTOR_OK) n = 0; /* a broken snapshot */
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) {
        char *name = below ? hub_path(below, names[i], NULL) : base_strdup(names[i]);
        char *path = hub_path(at, names[i], NULL);
        if (path && base_path_kind_of(path) == BASE_PATH_FILE && hub_is_model(names[i])) {
            st = hub_push(found, HUB_CACHE, name, path, err);
            continue;
        }
        if (name && path && !below && base_path_kind_of(path) == BASE_PATH_DIR)
            st = find_files(dir, name, found, err);
        base_free(name);
        base_free(path);
    }
    base_names_free(names, n);
    base_free(at);
    return st;
}

/* Adds the GGUF files of a folder as "repo:file", or as "repo" if there is only one. */
static rotor_status add_files(hub_entry_list *l, const char *repo, const char *dir,
                              rotor_error *err) {
    hub_entry_list found = {0};
    rotor_status st = find_files(dir, NULL, &found, err);
    for (size_t i = 0; i < found.n && st == ROTOR_OK; i++) {
        base_buf name = {0};
        base_buf_puts(&name, repo);
        if (found.n > 1) base_buf_printf(&name, ":%s", found.at[i].name);
        st = hub_push(l, HUB_CACHE, name.data, found.at[i].path, err);
        found.at[i].path = NULL;
    }
    hub_entries_free(found.at, found.n);
    return st;
}

static bool has(char **names, size_t n, const char *end) {
    for (size_t i = 0; i < n; i++)
        if (hub_ends_with(names[i], end)) return true;
    return false;
}

static rotor_status add_snapshot(hub_entry_list *l, const char *repo, const char *dir,
                                 rotor_error *err) {
    char **names = NULL;
    size_t n = 0;
    if (base_list_dir(dir, &names, &n, NULL) != ROTOR_OK) return ROTOR_OK; /* a broken snapshot */
    rotor_status st = add_files(l, repo, dir, err);
    if (st == ROTOR_OK && has(names, n, "config.json") && has(names, n, ".safetensors"))
        st = hub_push(l, HUB_CACHE, base_strdup(repo), base_strdup(dir), err);
    base_names_free(names, n);
    return st;
}

/* The commit in refs/main, else the last snapshot; NULL: none. */
static char *current_snapshot(const char *repo_dir) {
    char *ref = base_path_join(repo_dir, "refs/main"),
         *snapshots = base_path_join(repo_dir, "snapshots");
    char *dir = NULL;
    base_buf commit = {0};
    if (ref && snapshots && hub_read_small(ref, 256, &commit) && commit.len) {
        commit.data[strcspn(commit.data, " \r\n")] = 0; /* a NUL stands behind the last byte */
        if (hub_is_safe_path(commit.data) && !strchr(commit.data, '/'))
            dir = base_path_join(snapshots, commit.data);
    }
    base_buf_free(&commit);
    char **names = NULL;
    size_t n = 0;
    if (!dir && snapshots && base_list_dir(snapshots, &names, &n, NULL) == ROTOR_OK) {
        if (n) dir = base_path_join(snapshots, names[n - 1]);
        base_names_free(names, n);
    }
    base_free(ref);
    base_free(snapshots);
    return dir;
}

static rotor_status add_repo(hub_entry_list *l, const char *root, const char *folder,
                             rotor_error *err) {
    char *repo_dir = base_path_join(root, folder), *repo = hub_repo_of(folder);
    char *snapshot = repo_dir ? current_snapshot(repo_dir) : NULL;
    rotor_status st = ROTOR_OK;
    if (!repo_dir || !repo)
        st = base_fail_nomem(err, "listing models");
    else if (snapshot)
        st = add_snapshot(l, repo, snapshot, err);
    base_free(snapshot);
    base_free(repo_dir);
    base_free(repo);
    return st;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const hub_entry *)a)->name, ((const hub_entry *)b)->name);
}

static rotor_status list_cache(hub_entry_list *l, const char *root, rotor_error *err) {
    char **names = NULL;
    size_t n_names = 0;
    rotor_status st = ROTOR_OK;
    if (base_path_kind_of(root) == BASE_PATH_DIR) st = base_list_dir(root, &names, &n_names, err);
    for (size_t i = 0; i < n_names && st == ROTOR_OK; i++)
        if (strncmp(names[i], "models--", 8) == 0) st = add_repo(l, root, names[i], err);
    base_names_free(names, n_names);
    return st;
}

static rotor_status give(rotor_status st, hub_entry_list *l, hub_entry **entries, size_t *n) {
    if (st != ROTOR_OK) {
        hub_entries_free(l->at, l->n);
        return st;
    }
    *entries = l->at;
    *n = l->n;
    return ROTOR_OK;
}

static void sort(hub_entry_list *l, size_t first) {
    if (l->n > first) qsort(l->at + first, l->n - first, sizeof *l->at, by_name);
}

rotor_status hub_list(const char *root, hub_entry **entries, size_t *n, rotor_error *err) {
    hub_entry_list l = {0};
    rotor_status st = list_cache(&l, root, err);
    sort(&l, 0);
    return give(st, &l, entries, n);
}

rotor_status hub_list_all(const hub_places *places, hub_entry **entries, size_t *n,
                          rotor_error *err) {
    rotor_status (*const others[])(hub_entry_list *, const hub_places *, rotor_error *) = {
        hub_list_ollama, hub_list_lm_studio, hub_list_llama_cpp};
    hub_entry_list l = {0};
    char *root = hub_root(places);
    rotor_status st = root ? list_cache(&l, root, err) : ROTOR_OK;
    base_free(root);
    sort(&l, 0);
    for (size_t i = 0; i < BASE_COUNT(others) && st == ROTOR_OK; i++) {
        const size_t first = l.n;
        st = others[i](&l, places, err);
        sort(&l, first);
    }
    return give(st, &l, entries, n);
}

void hub_entries_free(hub_entry *entries, size_t n) {
    for (size_t i = 0; i < n; i++) {
        base_free(entries[i].name);
        base_free(entries[i].path);
    }
    base_free(entries);
}

/* ==== Names =================================================================================== */

static bool fits(const hub_entry *e, const char *name) {
    const char *colon = strchr(name, ':');
    size_t n = colon ? (size_t)(colon - name) : strlen(name);
    size_t n_repo = strcspn(e->name, ":");
    const char *slash = memchr(e->name, '/', n_repo);
    const char *tail = slash ? slash + 1 : e->name;
    size_t n_tail = n_repo - (size_t)(tail - e->name);
    bool same = (n == n_repo && memcmp(e->name, name, n) == 0) ||
                (n == n_tail && memcmp(tail, name, n) == 0);
    if (!same || !colon) return same;
    const char *own = e->name[n_repo] ? e->name + n_repo + 1 : NULL;
    if (e->source == HUB_OLLAMA) /* its files are called by digests, in which "8b" is no word */
        return own && strcmp(own, colon + 1) == 0;
    const char *file = strrchr(e->path, '/');
    return hub_has_word(file ? file : e->path, colon + 1) || (own && hub_has_word(own, colon + 1));
}

const hub_entry *hub_match(const hub_entry *entries, size_t n, const char *name,
                           size_t *n_matches) {
    const hub_entry *found = NULL;
    *n_matches = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(entries[i].name, name) == 0) {
            *n_matches = 1;
            return &entries[i];
        }
        if (!fits(&entries[i], name)) continue;
        if (!found) found = &entries[i];
        ++*n_matches;
    }
    return found;
}
