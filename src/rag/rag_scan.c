/* SPDX-License-Identifier: MIT
 *
 * Finding files. Folders are walked in order of name. Links below the starting point are not
 * followed, so there are no loops; pipes, sockets and devices are never opened. Left out unless
 * they are asked for: hidden things, what version control and builds leave behind, and files that
 * are likely to hold secrets.
 */
#include "rag/rag_internal.h"

#include <fnmatch.h>

enum { MAX_DEPTH = 64 };

typedef struct walk {
    const rag *r;                                     /* whose log */
    const rag_add_options *opt;                       /* what to take and to leave */
    rotor_status (*fn)(void *user, const char *path); /* takes files */
    void *user;                                       /* of fn */
    const rag_ignore *rules;                          /* of the folders on the way */
    bool only_rules;                                  /* of what is wanted, nothing else counts */
    bool ruled, arrived; /* descend: there were rules; the path is wanted */
    rotor_error *err;    /* where messages go */
} walk;

/* A pattern with a slash speaks of the path, one without of the name. */
static bool fits(const char *pattern, const char *path, const char *name) {
    return fnmatch(pattern, strchr(pattern, '/') ? path : name, 0) == 0;
}

static bool any_fits(const char *const *patterns, size_t n, const char *path, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (fits(patterns[i], path, name)) return true;
    return false;
}

static bool left_out(const char *name, bool folder) {
    static const char *const folders[] = {"node_modules", "__pycache__", "target", "build", "dist"};
    static const char *const files[] = {"*.pem",  "*.key", "id_*", "*.kdbx",
                                        "*.lock", "*~",    "*.swp"};
    if (name[0] == '.') return true;
    for (size_t i = 0; folder && i < BASE_COUNT(folders); i++)
        if (strcmp(name, folders[i]) == 0) return true;
    return !folder && any_fits(files, BASE_COUNT(files), name, name);
}

static bool wanted(const walk *w, const char *path, const char *name) {
    if (any_fits(w->opt->exclude, w->opt->n_exclude, path, name)) return false;
    if (w->opt->n_include) return any_fits(w->opt->include, w->opt->n_include, path, name);
    return !left_out(name, false);
}

/* Is this the store itself? What is written to it would be read into it. */
static bool is_store(const rag *r, const char *path) { return strcmp(r->place, path) == 0; }

static bool folder_wanted(const walk *w, const char *path, const char *name) {
    if (w->only_rules) return !rag_ignores(w->rules, path, true);
    return !left_out(name, true) && !any_fits(w->opt->exclude, w->opt->n_exclude, path, name) &&
           !rag_ignores(w->rules, path, true) && !is_store(w->r, path);
}

static bool file_wanted(const walk *w, const char *path, const char *name) {
    return (w->only_rules || wanted(w, path, name)) && !rag_ignores(w->rules, path, false);
}

static rotor_status walk_folder(walk *w, const char *path, int depth);

/* Who knows what its owner did not want read: nothing below is. What the store has of it stays. */
static void say_unread(const walk *w, const char *folder) {
    base_log_printf(&w->r->log, BASE_LOG_WARN,
                    "%s: left out with all below it: its %s cannot be read, or is no text of at "
                    "most 64 KiB; mend or remove it",
                    folder, RAG_IGNORE_NAME);
}

static rotor_status visit(walk *w, const char *path, const char *name, int depth) {
    base_node n;
    if (!base_node_of(&n, path, false)) return ROTOR_OK; /* gone meanwhile */
    if (n.kind == BASE_NODE_DIR)
        return folder_wanted(w, path, name) ? walk_folder(w, path, depth + 1) : ROTOR_OK;
    if (!file_wanted(w, path, name)) return ROTOR_OK;
    if (n.kind == BASE_NODE_FILE) return w->fn(w->user, path);
    base_log_printf(&w->r->log, BASE_LOG_INFO, "%s: %s", path,
                    n.kind == BASE_NODE_LINK ? "a link, not followed" : "not a regular file");
    return ROTOR_OK;
}

static rotor_status walk_folder(walk *w, const char *path, int depth) {
    char **names = NULL;
    size_t n = 0;
    rotor_error why = {0};
    if (depth > MAX_DEPTH) {
        base_log_printf(&w->r->log, BASE_LOG_WARN, "%s: more than %d folders deep, left out", path,
                        MAX_DEPTH);
        return ROTOR_OK;
    }
    rotor_status st = base_list_dir(path, &names, &n, &why);
    if (st == ROTOR_E_NOMEM) return base_fail(w->err, st, "%s", why.message);
    if (st != ROTOR_OK) {
        base_log_printf(&w->r->log, BASE_LOG_WARN, "%s", why.message);
        return ROTOR_OK;
    }
    const rag_ignore *above = w->rules;
    rag_ignore own = {0};
    st = rag_ignore_read(&own, above, path, w->err);
    w->rules = &own;
    if (own.unread) say_unread(w, path);
    for (size_t i = 0; st == ROTOR_OK && i < n && !own.unread; i++) {
        char *below = base_path_join(path, names[i]);
        st = below ? visit(w, below, names[i], depth) : base_fail_nomem(w->err, "listing a folder");
        base_free(below);
    }
    w->rules = above;
    rag_ignore_free(&own);
    base_names_free(names, n);
    return st;
}

rotor_status rag_scan(const rag *r, const char *path, const rag_add_options *opt,
                      rotor_status (*fn)(void *user, const char *path), void *user,
                      rotor_error *err) {
    walk w = {.r = r, .opt = opt, .fn = fn, .user = user, .err = err};
    if (base_path_kind_of(path) != BASE_PATH_DIR) return fn(user, path);
    return walk_folder(&w, path, 0);
}

/* ==== From a folder down to one path ========================================================== */

/* Calls fn for path under the rules of every folder between; a folder on the way that is not
 * wanted ends it. */
static rotor_status descend(walk *w, const char *folder, const char *path, int depth,
                            rotor_status (*fn)(walk *w, const char *path, const char *name,
                                               int depth)) {
    const rag_ignore *above = w->rules;
    rag_ignore own = {0};
    const char *name = path + rag_path_length(folder);
    const size_t n = strcspn(name, "/");
    char *below = base_strndup(path, (size_t)(name - path) + n);
    rotor_status st = below && depth <= MAX_DEPTH ? rag_ignore_read(&own, above, folder, w->err)
                                                  : base_fail_nomem(w->err, "looking at a folder");
    w->rules = &own;
    w->ruled |= own.text != NULL || own.unread;
    const bool out = own.unread && !w->only_rules, on = st == ROTOR_OK && !out;
    if (out) say_unread(w, folder);
    if (on && !name[n])
        st = fn(w, below, below + (name - path), depth);
    else if (on && folder_wanted(w, below, below + (name - path)))
        st = descend(w, below, path, depth + 1, fn);
    rag_ignore_free(&own);
    w->rules = above;
    base_free(below);
    return st;
}

static rotor_status arrive(walk *w, const char *path, const char *name, int depth) {
    base_node n;
    (void)depth;
    const bool folder = base_node_of(&n, path, false) && n.kind == BASE_NODE_DIR;
    w->arrived = folder ? folder_wanted(w, path, name) : file_wanted(w, path, name);
    return ROTOR_OK;
}

bool rag_scan_wants(const rag *r, const char *root, const char *path, const rag_add_options *opt) {
    rotor_error err = {0};
    walk w = {.r = r, .opt = opt, .err = &err};
    return rag_is_under(path, root) && descend(&w, root, path, 0, arrive) == ROTOR_OK && w.arrived;
}

bool rag_scan_ignored(const char *root, const char *path, bool *ruled) {
    rotor_error err = {0};
    walk w = {.only_rules = true, .err = &err};
    const rotor_status st = descend(&w, root, path, 0, arrive);
    *ruled = w.ruled || st != ROTOR_OK;
    return st == ROTOR_OK && !w.arrived;
}

rotor_status rag_scan_below(const rag *r, const char *root, const char *path,
                            const rag_add_options *opt,
                            rotor_status (*fn)(void *user, const char *path), void *user,
                            rotor_error *err) {
    walk w = {.r = r, .opt = opt, .fn = fn, .user = user, .err = err};
    if (strcmp(root, path) == 0) return walk_folder(&w, path, 0);
    return descend(&w, root, path, 0, visit);
}
