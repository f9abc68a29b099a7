/* SPDX-License-Identifier: MIT
 *
 * Removing a model. In the cache a file has names in one or several snapshots and one blob; the
 * blob goes when none of the names that stay leads to it. When no name stays, the repository's
 * folder goes with all that is in it.
 *
 * What other programs keep is removed only when the caller says so: their files are theirs.
 */
#include "hub/layout.h"

#include "base/part.h"

#include <jansson.h>
#include <stdio.h>

enum { MAX_DEPTH = 8, MAX_DIGESTS = 64 };

static rotor_status no_memory(rotor_error *err) { return base_fail_nomem(err, "removing a model"); }

/* Counts a file and, unless only counting, removes it. */
static rotor_status drop_file(const char *path, bool dry, hub_removal *r, rotor_error *err) {
    base_node n;
    if (!base_node_of(&n, path, false)) return ROTOR_OK;
    if (!dry) ROTOR_TRY(base_remove_file(path, err));
    if (n.kind == BASE_NODE_FILE) r->freed_bytes += n.size;
    return ROTOR_OK;
}

static rotor_status drop_tree(const char *path, int depth, bool dry, hub_removal *r,
                              rotor_error *err) {
    base_node node;
    char **names = NULL;
    size_t n = 0;
    if (!base_node_of(&node, path, false)) return ROTOR_OK;
    if (node.kind != BASE_NODE_DIR) return drop_file(path, dry, r, err);
    if (depth > MAX_DEPTH)
        return base_fail(err, ROTOR_E_STATE, "%s: deeper than a cache is; not removed", path);
    ROTOR_TRY(base_list_dir(path, &names, &n, err));
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) {
        char *at = hub_path(path, names[i], NULL);
        st = at ? drop_tree(at, depth + 1, dry, r, err) : no_memory(err);
        base_free(at);
    }
    base_names_free(names, n);
    return st == ROTOR_OK && !dry ? base_remove_dir(path, err) : st;
}

/* ==== Names in snapshots ====================================================================== */

typedef struct item {
    char *path;     /* owned */
    char *blob;     /* owned; last name of what its link says; NULL: a file of its own */
    uint64_t bytes; /* of what it leads to */
    bool doomed;    /* it goes */
} item;

typedef struct items {
    item *at;      /* owned */
    size_t n, cap; /* used, allocated */
} items;

static void items_free(items *l) {
    for (size_t i = 0; i < l->n; i++) {
        base_free(l->at[i].path);
        base_free(l->at[i].blob);
    }
    base_free(l->at);
}

static rotor_status add_item(items *l, const char *path, bool doomed, rotor_error *err) {
    base_node n;
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 16;
        item *more = base_realloc(l->at, cap * sizeof *more);
        if (!more) return no_memory(err);
        l->at = more;
        l->cap = cap;
    }
    item one = {.path = base_strdup(path), .doomed = doomed};
    if (!one.path) return no_memory(err);
    char *text = base_link_text(path);
    const char *slash = text ? strrchr(text, '/') : NULL;
    if (text) one.blob = base_strdup(slash ? slash + 1 : text);
    base_free(text);
    if (base_node_of(&n, path, true)) one.bytes = n.size;
    l->at[l->n++] = one;
    return ROTOR_OK;
}

/* Of which file of a repository is said: "folder" entries are all but GGUF files. */
typedef struct target {
    const char *rel;  /* path in the snapshot; NULL: the folder */
    uint32_t n_parts; /* of a split file */
    size_t number_at; /* where its number stands */
} target;

static bool is_target(const target *t, const char *rel) {
    size_t at;
    if (!t->rel) return !hub_ends_with(rel, ".gguf");
    if (!t->n_parts) return strcmp(rel, t->rel) == 0;
    return hub_split_count(rel, &at) == t->n_parts && at == t->number_at &&
           strncmp(rel, t->rel, at) == 0;
}

/* All files below dir, which is `rel` below its snapshot ("": the snapshot). */
static rotor_status gather(items *l, const char *dir, const char *rel, const target *t, int depth,
                           rotor_error *err) {
    char **names = NULL;
    size_t n = 0;
    ROTOR_TRY(base_list_dir(dir, &names, &n, err));
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) {
        base_node node;
        char *path = hub_path(dir, names[i], NULL);
        char *below = *rel ? hub_path(rel, names[i], NULL) : base_strdup(names[i]);
        if (!path || !below)
            st = no_memory(err);
        else if (base_node_of(&node, path, false) && node.kind == BASE_NODE_DIR)
            st = depth < MAX_DEPTH ? gather(l, path, below, t, depth + 1, err) : ROTOR_OK;
        else
            st = add_item(l, path, is_target(t, below), err);
        base_free(path);
        base_free(below);
    }
    base_names_free(names, n);
    return st;
}

/* A folder, and not a link to one: what lies behind a link belongs to somebody else. */
static bool is_own_folder(const char *path) {
    base_node n;
    return path && base_node_of(&n, path, false) && n.kind == BASE_NODE_DIR;
}

static rotor_status gather_snapshots(items *l, const char *repo_dir, const target *t,
                                     rotor_error *err) {
    char **names = NULL, *snapshots = hub_path(repo_dir, "snapshots", NULL);
    size_t n = 0;
    rotor_status st = ROTOR_OK;
    if (!snapshots)
        st = no_memory(err);
    else if (!is_own_folder(repo_dir) || !is_own_folder(snapshots))
        st = base_fail(err, ROTOR_E_STATE,
                       "%s: a link to a folder elsewhere, which is not rotor's; not removed",
                       is_own_folder(repo_dir) ? snapshots : repo_dir);
    if (st == ROTOR_OK) st = base_list_dir(snapshots, &names, &n, err);
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) {
        char *dir = hub_path(snapshots, names[i], NULL);
        if (!dir)
            st = no_memory(err);
        else if (is_own_folder(dir))
            st = gather(l, dir, "", t, 0, err);
        base_free(dir);
    }
    base_names_free(names, n);
    base_free(snapshots);
    return st;
}

/* ==== The cache =============================================================================== */

static bool same_blob(const item *a, const item *b) {
    return a->blob && b->blob && strcmp(a->blob, b->blob) == 0;
}

/* The blob of item i, once: kept where a name that stays leads to it. */
static rotor_status drop_blob(const items *l, size_t i, const char *repo_dir, bool dry,
                              hub_removal *r, rotor_error *err) {
    const item *x = &l->at[i];
    for (size_t k = 0; k < i; k++)
        if (l->at[k].doomed && same_blob(&l->at[k], x)) return ROTOR_OK;
    for (size_t k = 0; k < l->n; k++) {
        if (l->at[k].doomed || !same_blob(&l->at[k], x)) continue;
        r->kept_bytes += x->bytes;
        return ROTOR_OK;
    }
    char *blob = hub_path(repo_dir, "blobs", x->blob);
    rotor_status st = blob ? drop_file(blob, dry, r, err) : no_memory(err);
    base_free(blob);
    return st;
}

static rotor_status drop_doomed(const items *l, const char *repo_dir, bool dry, hub_removal *r,
                                rotor_error *err) {
    for (size_t i = 0; i < l->n; i++) {
        if (!l->at[i].doomed) continue;
        ROTOR_TRY(drop_file(l->at[i].path, dry, r, err));
        if (l->at[i].blob) ROTOR_TRY(drop_blob(l, i, repo_dir, dry, r, err));
    }
    return ROTOR_OK;
}

/* The locks of a repository's blobs. They are held, so that no download is under way, and they stay
 * when all else goes: who waits for a lock file that was removed waits for nothing. */
typedef struct locks {
    int *at;  /* owned */
    size_t n; /* held */
} locks;

static void drop_locks(locks *l) {
    for (size_t i = 0; i < l->n; i++) base_lock_drop(&l->at[i]);
    base_free(l->at);
    *l = (locks){0};
}

static rotor_status take_one(locks *l, const char *dir, const char *name, rotor_error *err) {
    char *path = hub_path(dir, name, NULL);
    rotor_status st = path ? base_lock_take(&l->at[l->n], path, err) : no_memory(err);
    if (st == ROTOR_OK)
        l->n++;
    else if (st == ROTOR_E_STATE)
        base_fail(err, st, "%s: another program downloads this now; end it, then remove", path);
    base_free(path);
    return st;
}

static rotor_status take_locks(locks *l, const char *repo_dir, rotor_error *err) {
    const char *slash = strrchr(repo_dir, '/');
    char *root = base_strndup(repo_dir, (size_t)(slash - repo_dir)), **names = NULL;
    char *dir = hub_path(root, ".locks", slash + 1);
    size_t n = 0;
    rotor_status st = dir ? ROTOR_OK : no_memory(err);
    if (dir && base_path_kind_of(dir) == BASE_PATH_DIR) st = base_list_dir(dir, &names, &n, err);
    if (st == ROTOR_OK && !(l->at = base_alloc_array(n + 1, sizeof *l->at))) st = no_memory(err);
    for (size_t i = 0; i < n && st == ROTOR_OK; i++)
        if (hub_ends_with(names[i], ".lock")) st = take_one(l, dir, names[i], err);
    base_names_free(names, n);
    base_free(root);
    base_free(dir);
    return st;
}

static rotor_status remove_cached(const hub_entry *e, bool dry, hub_removal *r, rotor_error *err) {
    static const char mark[] = "/snapshots/";
    const char *at = NULL;
    for (const char *p = e->path; (p = strstr(p, mark)); p++) at = p;
    if (!at) return base_fail(err, ROTOR_E_STATE, "%s: not in a model cache", e->path);
    const char *commit = at + sizeof mark - 1, *slash = strchr(commit, '/');
    target t = {.rel = slash ? slash + 1 : NULL};
    items l = {0};
    char *repo_dir = base_strndup(e->path, (size_t)(at - e->path));
    if (t.rel) t.n_parts = hub_split_count(t.rel, &t.number_at);
    locks held = {0};
    rotor_status st = !repo_dir ? no_memory(err)
                      : dry     ? ROTOR_OK
                                : take_locks(&held, repo_dir, err);
    if (st == ROTOR_OK) st = gather_snapshots(&l, repo_dir, &t, err);
    size_t n_doomed = 0;
    for (size_t i = 0; i < l.n; i++) n_doomed += l.at[i].doomed;
    if (st == ROTOR_OK && !n_doomed)
        st = base_fail(err, ROTOR_E_STATE, "%s: it lies behind a link; not removed", e->path);
    else if (st == ROTOR_OK)
        st = n_doomed == l.n ? drop_tree(repo_dir, 0, dry, r, err)
                             : drop_doomed(&l, repo_dir, dry, r, err);
    r->n_files = n_doomed;
    drop_locks(&held);
    items_free(&l);
    base_free(repo_dir);
    return st;
}

/* How many names in a folder do not end so; 0 where there is no folder. */
static size_t count_others(const char *repo_dir, const char *folder, const char *end) {
    char **names = NULL, *dir = hub_path(repo_dir, folder, NULL);
    size_t n = 0, others = 0;
    if (dir && base_path_kind_of(dir) == BASE_PATH_DIR) base_list_dir(dir, &names, &n, NULL);
    for (size_t i = 0; i < n; i++) others += !end || !hub_ends_with(names[i], end);
    base_names_free(names, n);
    base_free(dir);
    return others;
}

/* Nothing in it but what a download of ours would go on with? */
static rotor_status check_beginning(const char *dir, bool force, rotor_error *err) {
    if (!is_own_folder(dir))
        return base_fail(err, ROTOR_E_STATE, "%s: a link to a folder elsewhere; not removed", dir);
    if (force) return ROTOR_OK;
    if (count_others(dir, "snapshots", NULL))
        return base_fail(err, ROTOR_E_STATE,
                         "%s: no model that rotor knows, but other files; --force removes them all",
                         dir);
    const size_t n = count_others(dir, "blobs", ".incomplete");
    if (!n) return ROTOR_OK;
    return base_fail(err, ROTOR_E_STATE,
                     "%s: %zu whole file%s of a download that did not end; pull goes on with it, "
                     "--force removes it",
                     dir, n, n == 1 ? "" : "s");
}

static rotor_status drop_beginning(const char *dir, bool force, bool dry, hub_removal *r,
                                   rotor_error *err) {
    locks held = {0};
    rotor_status st = dry ? ROTOR_OK : take_locks(&held, dir, err);
    if (st == ROTOR_OK) st = check_beginning(dir, force, err);
    if (st == ROTOR_OK) st = drop_tree(dir, 0, dry, r, err);
    drop_locks(&held);
    return st;
}

rotor_status hub_remove_beginning(const char *root, const char *repo, bool force, bool dry,
                                  hub_removal *out, rotor_error *err) {
    *out = (hub_removal){0};
    char *folder = hub_folder_of(repo), *dir = folder ? hub_path(root, folder, NULL) : NULL;
    rotor_status st;
    if (!dir)
        st = no_memory(err);
    else if (base_path_kind_of(dir) != BASE_PATH_DIR)
        st = base_fail(err, ROTOR_E_NOTFOUND, "%s: not in the model cache", repo);
    else
        st = drop_beginning(dir, force, dry, out, err);
    base_free(folder);
    base_free(dir);
    return st;
}

/* ==== Ollama ================================================================================== */

typedef struct layers {
    const char *name;             /* of the model that goes */
    char *path;                   /* owned; its manifest */
    char digest[MAX_DIGESTS][65]; /* hex of its blobs */
    bool shared[MAX_DIGESTS];     /* another manifest names it, too */
    size_t n;                     /* blobs */
} layers;

static void take_digest(layers *l, const json_t *layer) {
    const char *digest = json_string_value(json_object_get(layer, "digest"));
    if (!digest || strncmp(digest, "sha256:", 7) != 0 || strlen(digest) != 71 ||
        strspn(digest + 7, "0123456789abcdef") != 64 || l->n == MAX_DIGESTS)
        return;
    memcpy(l->digest[l->n++], digest + 7, 65);
}

static rotor_status find_layers(void *user, const char *name, const char *path, base_str json,
                                rotor_error *err) {
    layers *l = user;
    if (l->path || strcmp(name, l->name) != 0) return ROTOR_OK;
    if (!(l->path = base_strdup(path))) return no_memory(err);
    json_t *root = json_loadb(json.p ? json.p : "", json.n, 0, NULL);
    const json_t *list = json_object_get(root, "layers");
    for (size_t i = 0; i < json_array_size(list); i++) take_digest(l, json_array_get(list, i));
    take_digest(l, json_object_get(root, "config"));
    json_decref(root);
    return ROTOR_OK;
}

static rotor_status mark_shared(void *user, const char *name, const char *path, base_str json,
                                rotor_error *err) {
    layers *l = user;
    (void)name;
    (void)err;
    if (strcmp(path, l->path) == 0 || !json.p) return ROTOR_OK;
    for (size_t i = 0; i < l->n; i++)
        if (strstr(json.p, l->digest[i])) l->shared[i] = true; /* the text ends in a NUL */
    return ROTOR_OK;
}

static rotor_status drop_layers(const layers *l, const char *root, bool dry, hub_removal *r,
                                rotor_error *err) {
    hub_removal manifest = {0}; /* a few hundred bytes that nobody wants to hear of */
    ROTOR_TRY(drop_file(l->path, dry, &manifest, err));
    for (size_t i = 0; i < l->n; i++) {
        base_node n;
        char name[96];
        snprintf(name, sizeof name, "sha256-%s", l->digest[i]);
        char *blob = hub_path(root, "blobs", name);
        rotor_status st = blob ? ROTOR_OK : no_memory(err);
        if (blob && l->shared[i] && base_node_of(&n, blob, true))
            r->kept_bytes += n.size;
        else if (blob)
            st = drop_file(blob, dry, r, err);
        base_free(blob);
        if (st != ROTOR_OK) return st;
        r->n_files++;
    }
    return ROTOR_OK;
}

static rotor_status remove_ollama(const hub_places *places, const hub_entry *e, bool dry,
                                  hub_removal *r, rotor_error *err) {
    rotor_status st = ROTOR_OK;
    char *root;
    bool found = false;
    for (size_t i = 0; !found && st == ROTOR_OK && (root = hub_ollama_root(places, i)); i++) {
        layers l = {.name = e->name};
        st = hub_each_manifest(root, find_layers, &l, err);
        found = l.path != NULL;
        if (st == ROTOR_OK && found) st = hub_each_manifest(root, mark_shared, &l, err);
        if (st == ROTOR_OK && found) st = drop_layers(&l, root, dry, r, err);
        base_free(l.path);
        base_free(root);
    }
    return st;
}

/* ==== All ===================================================================================== */

/* A file somewhere, with the other parts of a split one. */
static rotor_status remove_file(const hub_entry *e, bool dry, hub_removal *r, rotor_error *err) {
    size_t at;
    const uint32_t n = hub_split_count(e->path, &at);
    char *path = base_strdup(e->path);
    rotor_status st = path ? ROTOR_OK : no_memory(err);
    for (uint32_t i = 0; i < (n ? n : 1) && st == ROTOR_OK; i++) {
        char number[16];
        snprintf(number, sizeof number, "%05u", i + 1);
        if (n) memcpy(path + at, number, 5);
        st = drop_file(path, dry, r, err);
        r->n_files++;
    }
    base_free(path);
    return st;
}

rotor_status hub_remove(const hub_places *places, const hub_entry *e, bool dry, hub_removal *out,
                        rotor_error *err) {
    *out = (hub_removal){0};
    switch (e->source) {
    case HUB_CACHE:
        return remove_cached(e, dry, out, err);
    case HUB_OLLAMA:
        return remove_ollama(places, e, dry, out, err);
    case HUB_LM_STUDIO:
    case HUB_LLAMA_CPP:
        return remove_file(e, dry, out, err);
    }
    return ROTOR_OK;
}
