/* SPDX-License-Identifier: MIT
 *
 * Watching a folder and all that is in it (inotify).
 *
 * One kernel watch for each folder. Events become pending changes, one for each path, and a change
 * is given out when its path has been quiet for a while: an editor that saves in five steps is one
 * change. A path that went away waits longer, because many editors save by renaming over it. What
 * moved inside the tree is told as a move, paired by the kernel's cookie.
 *
 * Invariants: 1. watches[] is sorted by wd (the kernel hands out rising numbers). 2. table[] finds
 * every pending change by its path. 3. At most PENDING_MAX changes wait: more become one rescan.
 *
 * What cannot be known becomes BASE_CHANGE_RESCAN: the queue of the kernel ran over, or the root
 * itself went. Folders beyond the kernel's limit of watches are counted, not watched.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PENDING_MAX = 1 << 15, TABLE = 1 << 16, EVENTS_BYTES = 1 << 16, DEPTH_MAX = 64 };
#define WATCHED                                                                                    \
    (IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF |       \
     IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK | IN_DONT_FOLLOW)

typedef struct watched {
    int wd;     /* of the kernel */
    char *path; /* of the folder, owned */
} watched;

typedef struct pending {
    base_change_kind kind; /* what it would be told as */
    char *path;            /* owned; NULL: taken back */
    char *from;            /* owned; of a move */
    uint64_t first_us;     /* of its first event */
    uint64_t last_us;      /* of its last one */
    uint32_t cookie;       /* of a MOVED_FROM that waits for its other half; 0: none */
    bool folder;           /* a whole folder went or moved */
    bool changed;          /* what moved was written, too */
} pending;

struct base_watch {
    base_watch_options opt;        /* globs borrowed */
    int fd;                        /* inotify's */
    char *root;                    /* owned */
    watched *watches;              /* [n_watches] owned */
    size_t n_watches, cap_watches; /* in use; allocated */
    size_t n_unwatched;            /* folders the kernel had no watch for */
    pending *list;                 /* [PENDING_MAX] owned, oldest first */
    size_t n;                      /* in use */
    uint32_t *table;               /* [TABLE] owned; index in list + 1, by hash of the path */
    bool rescan;                   /* everything must be looked at */
    char *events;                  /* [EVENTS_BYTES] owned */
};

/* ---- Names that count ---------------------------------------------------------------------- */

static bool matches(const char *const *globs, size_t n, const char *relative) {
    const char *slash = strrchr(relative, '/');
    for (size_t i = 0; i < n; i++) {
        const bool whole = strchr(globs[i], '/') != NULL;
        if (fnmatch(globs[i], whole || !slash ? relative : slash + 1, whole ? FNM_PATHNAME : 0) ==
            0)
            return true;
    }
    return false;
}

static const char *relative_to_root(const base_watch *w, const char *path) {
    const size_t n = strlen(w->root);
    return path[n] == '/' ? path + n + 1 : path + n;
}

static bool is_wanted(const base_watch *w, const char *path, bool folder) {
    const char *relative = relative_to_root(w, path);
    if (*relative && matches(w->opt.exclude, w->opt.n_exclude, relative)) return false;
    if (*relative && folder && matches(w->opt.exclude_folders, w->opt.n_exclude_folders, relative))
        return false;
    return folder || w->opt.n_include == 0 || matches(w->opt.include, w->opt.n_include, relative);
}

static bool is_below(const char *path, const char *folder) {
    const size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && path[n] == '/';
}

/* ---- Pending changes ----------------------------------------------------------------------- */

static uint32_t slot_of(const base_watch *w, const char *path) {
    uint32_t at = (uint32_t)base_hash64(path, strlen(path), 0) % TABLE;
    while (w->table[at] &&
           (!w->list[w->table[at] - 1].path || strcmp(w->list[w->table[at] - 1].path, path) != 0))
        at = (at + 1) % TABLE;
    return at;
}

static pending *find(const base_watch *w, const char *path) {
    const uint32_t at = slot_of(w, path);
    return w->table[at] ? &w->list[w->table[at] - 1] : NULL;
}

static void drop(pending *p) {
    base_free(p->path);
    base_free(p->from);
    *p = (pending){0};
}

/* Closes the gaps in the list and finds every path again (after paths changed). */
static void rebuild(base_watch *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++)
        if (w->list[i].path) w->list[n++] = w->list[i];
    w->n = n;
    memset(w->table, 0, TABLE * sizeof *w->table);
    for (size_t i = 0; i < n; i++) w->table[slot_of(w, w->list[i].path)] = (uint32_t)i + 1;
}

static void look_at_everything(base_watch *w) {
    for (size_t i = 0; i < w->n; i++) drop(&w->list[i]);
    w->n = 0;
    rebuild(w);
    w->rescan = true;
}

/* The change of this path, made when there is none. NULL: everything must be looked at. */
static pending *touch(base_watch *w, const char *path) {
    const uint64_t now = base_now_us();
    pending *p = find(w, path);
    if (!p) {
        char *copy = w->n < PENDING_MAX ? base_strdup(path) : NULL;
        if (!copy) {
            look_at_everything(w);
            return NULL;
        }
        w->list[w->n] = (pending){.path = copy, .first_us = now};
        p = &w->list[w->n++];
        w->table[slot_of(w, path)] = (uint32_t)w->n;
    }
    p->last_us = now;
    return p;
}

static void written(base_watch *w, const char *path) {
    pending *p = is_wanted(w, path, false) ? touch(w, path) : NULL;
    if (!p) return;
    if (p->kind == BASE_CHANGE_MOVED)
        p->changed = true;
    else
        p->kind = BASE_CHANGE_WRITTEN;
    p->cookie = 0;
    p->folder = false;
}

static void gone(base_watch *w, const char *path, bool folder, uint32_t cookie) {
    const bool was_pending = find(w, path) != NULL;
    pending *p = is_wanted(w, path, folder) ? touch(w, path) : NULL;
    if (!p) return;
    if (p->kind == BASE_CHANGE_MOVED && !cookie) { /* it had not been told: the old one is gone */
        char *from = p->from;
        p->from = NULL;
        p->kind = BASE_CHANGE_GONE;
        gone(w, from, folder, 0);
        base_free(from);
        return;
    }
    if (p->kind != BASE_CHANGE_MOVED) {
        p->changed = was_pending && p->kind == BASE_CHANGE_WRITTEN && cookie != 0;
        p->kind = BASE_CHANGE_GONE;
    }
    p->folder = folder;
    p->cookie = cookie;
}

static pending *half_of_move(base_watch *w, uint32_t cookie) {
    for (size_t i = w->n; i-- > 0;)
        if (w->list[i].path && w->list[i].cookie == cookie) return &w->list[i];
    return NULL;
}

/* `path` came, half of it told by p before: where it was from. Takes p out of the list. */
static void moved(base_watch *w, pending *p, const char *path, bool folder) {
    char *from = p->kind == BASE_CHANGE_MOVED ? p->from : p->path;
    const bool changed = p->changed, back = strcmp(from, path) == 0;
    if (p->kind == BASE_CHANGE_MOVED)
        p->from = NULL;
    else
        p->path = NULL;
    drop(p);
    rebuild(w);
    pending *to = touch(w, path);
    if (to && back) {
        to->kind = BASE_CHANGE_WRITTEN;
    } else if (to) {
        char *replaced = to->from; /* something else had moved here and is overwritten now */
        *to = (pending){.kind = BASE_CHANGE_MOVED,
                        .path = to->path,
                        .from = from,
                        .first_us = to->first_us,
                        .last_us = to->last_us,
                        .folder = folder,
                        .changed = changed};
        from = replaced;
        if (from) gone(w, from, folder, 0);
    }
    base_free(from);
}

/* ---- The kernel's watches ------------------------------------------------------------------ */

static watched *watched_of(const base_watch *w, int wd) {
    size_t low = 0, high = w->n_watches;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (w->watches[mid].wd < wd)
            low = mid + 1;
        else
            high = mid;
    }
    return low < w->n_watches && w->watches[low].wd == wd ? &w->watches[low] : NULL;
}

static void forget(base_watch *w, watched *x) {
    base_free(x->path);
    const size_t at = (size_t)(x - w->watches);
    memmove(x, x + 1, (w->n_watches - at - 1) * sizeof *x);
    w->n_watches--;
}

static void unwatch_tree(base_watch *w, const char *folder) {
    for (size_t i = w->n_watches; i-- > 0;) {
        watched *x = &w->watches[i];
        if (strcmp(x->path, folder) != 0 && !is_below(x->path, folder)) continue;
        inotify_rm_watch(w->fd, x->wd);
        forget(w, x);
    }
}

/* False: out of memory. A folder that cannot be watched is counted, one that is gone is not. */
static bool watch_folder(base_watch *w, const char *path) {
    const int wd = inotify_add_watch(w->fd, path, WATCHED);
    if (wd < 0) {
        w->n_unwatched += errno == ENOSPC || errno == EMFILE || errno == ENOMEM;
        return true;
    }
    char *copy = base_strdup(path);
    if (!copy) return false;
    watched *x = watched_of(w, wd);
    if (x) { /* the folder is watched already, and has another name now */
        base_free(x->path);
        x->path = copy;
        return true;
    }
    if (w->n_watches == w->cap_watches) {
        const size_t cap = 2 * w->cap_watches + 64;
        watched *more = base_realloc(w->watches, cap * sizeof *more);
        if (!more) {
            base_free(copy);
            return false;
        }
        w->watches = more;
        w->cap_watches = cap;
    }
    size_t at = w->n_watches++; /* nearly always the end */
    for (; at > 0 && w->watches[at - 1].wd > wd; at--) w->watches[at] = w->watches[at - 1];
    w->watches[at] = (watched){wd, copy};
    return true;
}

typedef enum node { NODE_OTHER, NODE_FILE, NODE_FOLDER } node;

static node node_of(const struct dirent *e, const char *path) {
    struct stat st;
    if (e->d_type == DT_REG) return NODE_FILE;
    if (e->d_type == DT_DIR) return NODE_FOLDER;
    if (e->d_type != DT_UNKNOWN || lstat(path, &st) != 0) return NODE_OTHER;
    return S_ISREG(st.st_mode) ? NODE_FILE : S_ISDIR(st.st_mode) ? NODE_FOLDER : NODE_OTHER;
}

/* Watches first and looks then: what comes between is told twice rather than never. */
static bool watch_tree(base_watch *w, const char *folder, bool tell, int depth) {
    if (depth > DEPTH_MAX || !is_wanted(w, folder, true)) return true;
    bool ok = watch_folder(w, folder);
    DIR *d = opendir(folder);
    for (struct dirent *e; ok && d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *path = base_path_join(folder, e->d_name);
        if (!path) ok = false;
        const node what = path ? node_of(e, path) : NODE_OTHER;
        if (what == NODE_FOLDER) ok = watch_tree(w, path, tell, depth + 1);
        if (what == NODE_FILE && tell) written(w, path);
        base_free(path);
    }
    if (d) closedir(d);
    return ok;
}

/* ---- Events -------------------------------------------------------------------------------- */

static char *renamed(const char *path, const char *from, const char *to) {
    base_buf b = {0};
    base_buf_printf(&b, "%s%s", to, path + strlen(from));
    if (b.failed) base_buf_free(&b);
    return b.data;
}

/* Everything that is known by its path under `from` is under `to` now. False: out of memory. */
static bool rename_tree(base_watch *w, const char *from, const char *to) {
    for (size_t i = 0; i < w->n_watches; i++) {
        char **path = &w->watches[i].path;
        if (strcmp(*path, from) != 0 && !is_below(*path, from)) continue;
        char *now = renamed(*path, from, to);
        if (!now) return false;
        base_free(*path);
        *path = now;
    }
    for (size_t i = 0; i < w->n; i++) {
        pending *p = &w->list[i];
        if (!p->path || !is_below(p->path, from)) continue;
        char *now = renamed(p->path, from, to);
        if (!now) return false;
        base_free(p->path);
        p->path = now;
    }
    rebuild(w);
    return true;
}

static bool folder_came(base_watch *w, const char *path, uint32_t cookie) {
    pending *half = cookie && is_wanted(w, path, true) ? half_of_move(w, cookie) : NULL;
    if (half) {
        char *was = base_strdup(half->path);
        if (!was) return false;
        moved(w, half, path, true);
        const bool ok = rename_tree(w, was, path);
        base_free(was);
        return ok;
    }
    pending *p = find(w, path);
    if (p) { /* another folder of that name: what was in the old one is not known one by one */
        unwatch_tree(w, path);
        p->kind = BASE_CHANGE_RESCAN;
        p->folder = true;
    }
    return watch_tree(w, path, true, 0);
}

static void file_came(base_watch *w, const char *path, uint32_t cookie) {
    pending *half = cookie && is_wanted(w, path, false) ? half_of_move(w, cookie) : NULL;
    if (half)
        moved(w, half, path, false);
    else
        written(w, path);
}

static bool on_event(base_watch *w, const struct inotify_event *e) {
    if (e->mask & IN_Q_OVERFLOW) {
        look_at_everything(w);
        return watch_tree(w, w->root, false, 0);
    }
    watched *x = watched_of(w, e->wd);
    if (!x) return true;
    if (e->mask & IN_IGNORED) {
        forget(w, x);
        return true;
    }
    if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
        if (strcmp(x->path, w->root) == 0) look_at_everything(w);
        return true; /* of others the folder above tells */
    }
    if (!e->len) return true;
    char *path = base_path_join(x->path, e->name);
    bool ok = path != NULL;
    const bool folder = e->mask & IN_ISDIR;
    if (ok && (e->mask & (IN_DELETE | IN_MOVED_FROM)))
        gone(w, path, folder, e->mask & IN_MOVED_FROM ? e->cookie : 0);
    else if (ok && folder)
        ok = folder_came(w, path, e->mask & IN_MOVED_TO ? e->cookie : 0);
    else if (ok)
        file_came(w, path, e->mask & IN_MOVED_TO ? e->cookie : 0);
    base_free(path);
    return ok;
}

static rotor_status take_events(base_watch *w, rotor_error *err) {
    for (;;) {
        const ssize_t n = read(w->fd, w->events, EVENTS_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return ROTOR_OK;
        if (n <= 0)
            return base_fail(err, ROTOR_E_IO, "cannot watch '%s': %s", w->root, strerror(errno));
        for (size_t at = 0; at < (size_t)n;) {
            struct inotify_event head;
            memcpy(&head, w->events + at, sizeof head);
            if (!on_event(w, (const struct inotify_event *)(const void *)(w->events + at)))
                return base_fail_nomem(err, "watching a folder");
            at += sizeof head + head.len;
        }
    }
}

/* ---- Telling ------------------------------------------------------------------------------- */

static uint64_t ripe_us(const base_watch *w, const pending *p) {
    const bool went = p->kind == BASE_CHANGE_GONE || p->cookie;
    if (went) return p->last_us + (uint64_t)w->opt.gone_ms * 1000;
    const uint64_t quiet = p->last_us + (uint64_t)w->opt.quiet_ms * 1000;
    return BASE_MIN(quiet, p->first_us + (uint64_t)w->opt.most_ms * 1000);
}

static void tell(base_watch *w, pending *p, base_change_fn fn, void *user) {
    base_change c = {.kind = p->kind, .path = p->path, .from = p->from, .folder = p->folder};
    if (p->kind == BASE_CHANGE_MOVED && p->cookie) /* it moved on, to outside */
        c = (base_change){.kind = BASE_CHANGE_GONE, .path = p->from, .folder = p->folder};
    if (c.kind == BASE_CHANGE_GONE && c.folder) unwatch_tree(w, p->path);
    fn(user, &c);
    if (c.kind == BASE_CHANGE_MOVED && p->changed)
        fn(user, &(base_change){.kind = BASE_CHANGE_WRITTEN, .path = p->path});
}

static size_t tell_ripe(base_watch *w, base_change_fn fn, void *user) {
    const uint64_t now = base_now_us();
    size_t told = 0;
    if (w->rescan) {
        w->rescan = false;
        fn(user, &(base_change){.kind = BASE_CHANGE_RESCAN, .path = w->root, .folder = true});
        told++;
    }
    for (size_t i = 0; i < w->n; i++) {
        if (!w->list[i].path || ripe_us(w, &w->list[i]) > now) continue;
        tell(w, &w->list[i], fn, user);
        drop(&w->list[i]);
        told++;
    }
    if (told) rebuild(w);
    return told;
}

rotor_status base_watch_wait(base_watch *w, uint32_t wait_ms, base_change_fn fn, void *user,
                             rotor_error *err) {
    const uint64_t end = base_now_us() + (uint64_t)wait_ms * 1000;
    for (;;) {
        ROTOR_TRY(take_events(w, err));
        if (tell_ripe(w, fn, user)) return ROTOR_OK;
        const uint64_t now = base_now_us();
        if (now >= end) return ROTOR_OK;
        uint64_t until = end;
        for (size_t i = 0; i < w->n; i++)
            if (w->list[i].path) until = BASE_MIN(until, ripe_us(w, &w->list[i]));
        struct pollfd fd = {.fd = w->fd, .events = POLLIN};
        poll(&fd, 1, until > now ? (int)((until - now) / 1000 + 1) : 0);
    }
}

/* ---- Beginning and end --------------------------------------------------------------------- */

base_watch_options base_watch_default(void) {
    return (base_watch_options){.quiet_ms = 500, .most_ms = 10000, .gone_ms = 5000};
}

rotor_status base_watch_open(base_watch **out, const char *root, const base_watch_options *opt,
                             rotor_error *err) {
    base_watch *w = base_alloc(sizeof *w);
    if (!w) return base_fail_nomem(err, "watching a folder");
    rotor_status st = ROTOR_OK;
    w->opt = *opt;
    w->root = base_strdup(root);
    w->list = base_alloc_array(PENDING_MAX, sizeof *w->list);
    w->table = base_alloc_array(TABLE, sizeof *w->table);
    w->events = base_alloc(EVENTS_BYTES);
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (!w->root || !w->list || !w->table || !w->events)
        st = base_fail_nomem(err, "watching a folder");
    else if (base_path_kind_of(root) != BASE_PATH_DIR)
        st = base_fail(err, ROTOR_E_NOTFOUND, "cannot watch '%s': not a folder", root);
    else if (w->fd < 0)
        st = base_fail(err, ROTOR_E_IO, "cannot watch '%s': %s", root, strerror(errno));
    else if (!watch_tree(w, w->root, false, 0))
        st = base_fail_nomem(err, "watching a folder");
    if (st == ROTOR_OK)
        *out = w;
    else
        base_watch_close(&w);
    return st;
}

size_t base_watch_unwatched(const base_watch *w) { return w->n_unwatched; }

void base_watch_close(base_watch **w) {
    if (!w || !*w) return;
    base_watch *x = *w;
    if (x->fd >= 0) close(x->fd);
    for (size_t i = 0; i < x->n_watches; i++) base_free(x->watches[i].path);
    for (size_t i = 0; i < x->n && x->list; i++) drop(&x->list[i]);
    base_free(x->watches);
    base_free(x->list);
    base_free(x->table);
    base_free(x->events);
    base_free(x->root);
    base_free(x);
    *w = NULL;
}
