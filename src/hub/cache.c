/* SPDX-License-Identifier: MIT
 *
 * The model cache: where it lies, what is in it, which entry a name means.
 *
 * A repository counts when a snapshot of it holds GGUF files (each is an entry; of a split file the
 * first part) or a config.json beside safetensors (the folder is the entry).
 */
#include "hub/hub.h"

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

/* ==== Listing ================================================================================= */

typedef struct list {
    hub_entry *at; /* owned */
    size_t n, cap; /* used, allocated */
} list;

static rotor_status push(list *l, char *name, char *path, rotor_error *err) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        hub_entry *more = base_realloc(l->at, cap * sizeof *more);
        if (more) {
            l->at = more;
            l->cap = cap;
        }
    }
    if (!name || !path || l->n == l->cap) {
        base_free(name);
        base_free(path);
        return base_fail_nomem(err, "listing models");
    }
    l->at[l->n++] = (hub_entry){name, path};
    return ROTOR_OK;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* A GGUF file to open: not a later part of a split one, not a projector of another network. */
static bool is_entry_file(const char *name) {
    const char *of = strstr(name, "-of-");
    bool later_part = of && of - name >= 6 && strncmp(of - 6, "-00001", 6) != 0;
    return ends_with(name, ".gguf") && !later_part && strncmp(name, "mmproj", 6) != 0;
}

/* "models--org--name" to "org/name". */
static char *repo_name(const char *folder) {
    char *name = base_strdup(folder + strlen("models--"));
    char *dashes = name ? strstr(name, "--") : NULL;
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    return name;
}

/* Adds the GGUF files of a folder of names as "repo:file", or as "repo" if there is only one. */
static rotor_status add_files(list *l, const char *repo, const char *dir, char **names, size_t n,
                              rotor_error *err) {
    size_t n_files = 0;
    for (size_t i = 0; i < n; i++) n_files += is_entry_file(names[i]);
    for (size_t i = 0; i < n; i++) {
        if (!is_entry_file(names[i])) continue;
        base_buf name = {0};
        base_buf_puts(&name, repo);
        if (n_files > 1) base_buf_printf(&name, ":%s", names[i]);
        ROTOR_TRY(push(l, name.data, base_path_join(dir, names[i]), err));
    }
    return ROTOR_OK;
}

static bool has(char **names, size_t n, const char *end) {
    for (size_t i = 0; i < n; i++)
        if (ends_with(names[i], end)) return true;
    return false;
}

static rotor_status add_snapshot(list *l, const char *repo, const char *dir, rotor_error *err) {
    char **names = NULL;
    size_t n = 0;
    if (base_list_dir(dir, &names, &n, NULL) != ROTOR_OK) return ROTOR_OK; /* a broken snapshot */
    rotor_status st = add_files(l, repo, dir, names, n, err);
    if (st == ROTOR_OK && has(names, n, "config.json") && has(names, n, ".safetensors"))
        st = push(l, base_strdup(repo), base_strdup(dir), err);
    base_names_free(names, n);
    return st;
}

/* The commit in refs/main, else the last snapshot; NULL: none. */
static char *current_snapshot(const char *repo_dir) {
    char *ref = base_path_join(repo_dir, "refs/main"),
         *snapshots = base_path_join(repo_dir, "snapshots");
    char *dir = NULL;
    base_file f;
    if (ref && snapshots && base_path_kind_of(ref) == BASE_PATH_FILE &&
        base_file_open(&f, ref, false, NULL) == ROTOR_OK) {
        size_t n = f.data ? strcspn((const char *)f.data, " \r\n") : 0;
        char *commit = f.size ? base_strndup((const char *)f.data, BASE_MIN(n, f.size)) : NULL;
        dir = commit ? base_path_join(snapshots, commit) : NULL;
        base_free(commit);
        base_file_close(&f);
    }
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

static rotor_status add_repo(list *l, const char *root, const char *folder, rotor_error *err) {
    char *repo_dir = base_path_join(root, folder), *repo = repo_name(folder);
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

rotor_status hub_list(const char *root, hub_entry **entries, size_t *n, rotor_error *err) {
    list l = {0};
    char **names = NULL;
    size_t n_names = 0;
    rotor_status st = ROTOR_OK;
    if (base_path_kind_of(root) == BASE_PATH_DIR) st = base_list_dir(root, &names, &n_names, err);
    for (size_t i = 0; i < n_names && st == ROTOR_OK; i++)
        if (strncmp(names[i], "models--", 8) == 0) st = add_repo(&l, root, names[i], err);
    base_names_free(names, n_names);
    if (st != ROTOR_OK) {
        hub_entries_free(l.at, l.n);
        return st;
    }
    if (l.n) qsort(l.at, l.n, sizeof *l.at, by_name);
    *entries = l.at;
    *n = l.n;
    return ROTOR_OK;
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
    const char *file = strrchr(e->path, '/');
    return same && (!colon || strstr(file ? file : e->path, colon + 1));
}

const hub_entry *hub_match(const hub_entry *entries, size_t n, const char *name,
                           size_t *n_matches) {
    const hub_entry *found = NULL;
    *n_matches = 0;
    for (size_t i = 0; i < n; i++) {
        if (!fits(&entries[i], name)) continue;
        if (!found) found = &entries[i];
        ++*n_matches;
    }
    return found;
}
