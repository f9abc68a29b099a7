/* SPDX-License-Identifier: MIT
 *
 * Following folders. The kernel says where something happened (base_watch, which waits until a path
 * is quiet); what happened is found by looking, by the same code that adds files. So whatever the
 * kernel did not say (its queue ran over, a folder was more than it watches, the program was not
 * there) is put right by looking at everything, which costs a stat for each file.
 *
 * Words first: a change is committed, and found, before its vectors are made, a few at a time
 * between looks at what else has changed. The store's lock is held while something is written only;
 * while another program has it, changes wait.
 *
 * A folder that is not there, or is not the one that was watched, loses nothing: it is waited for.
 */
#include "rag/rag_internal.h"

#include <stdio.h>

enum {
    SLICE_MS = 200, /* waits between looks at go_on */
    EMBED_FEW = 16, /* passages between looks at what has changed */
    QUIET_MS = 500,
    GONE_MS = 3000,
    RESCAN_S = 600,
    UNWATCHED_S = 60, /* where the kernel had no watch left */
    RETRY_S = 2,      /* after a failure */
    MOST_PATHS = 4096 /* more changes at once: look at everything */
};

static const uint64_t SECOND_US = 1000000;

typedef struct followed {
    char *path;           /* of the folder, owned */
    char *remembered;     /* globs, a line each, owned */
    char *globs;          /* the same, cut into words, owned */
    rag_add_options opt;  /* with these */
    const char **list[2]; /* include, exclude: owned arrays of borrowed words */
    const char *store;    /* where what is found is written to, borrowed */
    base_watch *w;        /* owned; NULL: the folder is not there, or the kernel watches no more */
    base_node node;       /* of the folder that is followed */
    bool there;           /* it was, a moment ago */
    char **paths;         /* [n] changed, owned */
    size_t n, cap;        /* in use; allocated */
    bool look;            /* something is gone, or may be */
    bool all;             /* everything is to be looked at */
    bool told_lost;       /* its owner knows that it is not there */
    bool told_kept;       /* its owner knows that much is gone from it */
    bool told_watched;    /* its owner knows that it is followed */
    bool told_blind;      /* its owner knows that the kernel does not watch it */
    bool kept;            /* so said the look that is going on */
    rotor_status failing; /* what its owner knows to go wrong; ROTOR_OK: nothing */
    uint64_t due_us;      /* when to look at everything again; 0: not yet known */
    uint64_t retry_us;    /* after a failure: nothing before */
    uint64_t open_us;     /* when to ask the kernel again */
} followed;

typedef struct watcher {
    rag *r;                       /* store */
    const rag_watch_options *opt; /* what to take, whom to tell */
    followed *list;               /* [n] owned */
    size_t n;                     /* folders */
    followed *now;                /* being looked at */
    base_buf told;                /* changes that may not be committed yet: kind, path, more */
    uint64_t commits;             /* of the store, when the first of them came */
    bool wants_vectors;           /* there may be passages without */
    size_t n_vectors;             /* made since that was told */
    int64_t last;                 /* passage that got one last; 0: from the first on */
    uint64_t retry_us;            /* after a failure: no vectors before */
    bool told_model;              /* its owner knows that the vectors are another model's */
    bool told_vectors;            /* and that there are none just now */
    rotor_error *err;             /* where messages go */
} watcher;

/* ==== Telling ================================================================================= */

static void tell(watcher *w, rag_change what, const char *path, const char *more) {
    if (w->opt->add.change) w->opt->add.change(w->opt->add.user, what, path, more ? more : "");
}

static void tell_what_was_kept(watcher *w) {
    for (const char *at = w->told.data; at && at < w->told.data + w->told.len;) {
        const char *path = at + 1, *more = path + strlen(path) + 1;
        tell(w, (rag_change)(*at - 'A'), path, more);
        at = more + strlen(more) + 1;
    }
    base_buf_reset(&w->told);
}

/* Commits come between changes: one since the first of them was kept had them all. */
static void tell_what_is_committed(watcher *w) {
    if (rag_db_commits(w->r->db) != w->commits) tell_what_was_kept(w);
    w->commits = rag_db_commits(w->r->db);
}

static void tell_much_is_gone(watcher *w, followed *f) {
    f->kept = true;
    if (!f->told_kept) tell(w, RAG_CHANGE_KEPT, f->path, NULL);
    f->told_kept = true;
}

/* Is told when it is committed, so that who hears of it finds it. */
static void keep_for_later(void *user, rag_change what, const char *path, const char *more) {
    watcher *w = user;
    if (what == RAG_CHANGE_KEPT) {
        tell_much_is_gone(w, w->now);
        return;
    }
    tell_what_is_committed(w);
    const char kind = (char)('A' + (int)what);
    base_buf_append(&w->told, &kind, 1);
    base_buf_append(&w->told, path, strlen(path) + 1);
    base_buf_puts(&w->told, more ? more : "");
    base_buf_append(&w->told, "", 1);
}

static bool go_on(const watcher *w) { return !w->opt->go_on || w->opt->go_on(w->opt->add.user); }

static bool step(void *user, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    return go_on(user);
}

/* ==== Which folders =========================================================================== */

static void forget_paths(followed *f) {
    for (size_t i = 0; i < f->n; i++) base_free(f->paths[i]);
    f->n = 0;
}

static void forget(followed *f) {
    base_watch_close(&f->w);
    forget_paths(f);
    base_free(f->paths);
    base_free(f->path);
    base_free(f->remembered);
    base_free(f->globs);
    base_free(f->list[0]);
    base_free(f->list[1]);
}

/* Words of the caller, then those remembered with a sign before them. */
static rotor_status take_globs(watcher *w, followed *f, int which, char sign) {
    const rag_add_options *o = &w->opt->add;
    size_t n = which ? o->n_exclude : o->n_include;
    const char **list = rag_globs_of(f->globs, sign, which ? o->exclude : o->include, &n);
    if (!list) return base_fail_nomem(w->err, "watching");
    f->list[which] = list;
    if (which)
        f->opt.exclude = list, f->opt.n_exclude = n;
    else
        f->opt.include = list, f->opt.n_include = n;
    return ROTOR_OK;
}

static rotor_status follow(watcher *w, const char *path, const char *globs) {
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->list[i].path, path) == 0) return ROTOR_OK;
    followed *more = base_realloc(w->list, (w->n + 1) * sizeof *more);
    if (!more) return base_fail_nomem(w->err, "watching");
    w->list = more;
    followed *f = &w->list[w->n++];
    *f = (followed){.path = base_strdup(path),
                    .remembered = base_strdup(globs),
                    .globs = base_strdup(globs),
                    .store = w->r->place};
    f->opt = w->opt->add;
    f->opt.progress = step;
    f->opt.change = keep_for_later;
    f->opt.user = w;
    if (!f->path || !f->remembered || !f->globs) return base_fail_nomem(w->err, "watching");
    ROTOR_TRY(take_globs(w, f, 0, '+'));
    ROTOR_TRY(take_globs(w, f, 1, '-'));
    rag_globs_cut(f->globs);
    return ROTOR_OK;
}

/* Is what lies in path, by these globs, with that folder already; or not wanted any more? */
static bool is_with(const watcher *w, const followed *f, const char *path, const char *globs) {
    bool ruled;
    if (!rag_is_under(path, f->path)) return false;
    if (rag_scan_ignored(f->path, path, &ruled)) return true;
    const bool more = *globs == '+' || strstr(globs, "\n+"); /* hidden names, perhaps */
    const bool as_much = strcmp(f->remembered, globs) == 0 || (!*f->remembered && !more);
    return as_much && rag_scan_wants(w->r, f->path, path, &f->opt);
}

static rotor_status follow_remembered(void *user, const char *path, const char *globs) {
    watcher *w = user;
    for (size_t i = 0; i < w->n; i++) /* in order of path: the outer ones come first */
        if (is_with(w, &w->list[i], path, globs)) return ROTOR_OK;
    return follow(w, path, globs);
}

typedef struct recalled {
    const char *path; /* of a folder */
    char *globs;      /* as remembered, owned; NULL: they are not */
} recalled;

static rotor_status recall(void *user, const char *path, const char *globs) {
    recalled *l = user;
    if (strcmp(path, l->path) != 0) return ROTOR_OK;
    l->globs = base_strdup(globs);
    return l->globs ? ROTOR_OK : ROTOR_E_NOMEM;
}

/* What it was added with goes on to hold: what was not to be read then is not now. */
static rotor_status follow_named(watcher *w, const char *path) {
    recalled l = {.path = path};
    rotor_status st = rag_db_each_root(w->r->db, recall, &l, w->err);
    if (st == ROTOR_E_NOMEM) base_fail_nomem(w->err, "watching");
    if (st == ROTOR_OK) st = follow(w, path, l.globs ? l.globs : "");
    base_free(l.globs);
    return st;
}

/* Folders named now are remembered by the first look at them (rag_add). */
static rotor_status choose_folders(watcher *w, const char *const *folders, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *whole = base_path_absolute(folders[i]);
        const bool folder = whole && base_path_kind_of(whole) == BASE_PATH_DIR;
        rotor_status st = folder ? follow_named(w, whole)
                                 : base_fail(w->err, ROTOR_E_NOTFOUND,
                                             "cannot watch '%s': not a folder", folders[i]);
        base_free(whole);
        ROTOR_TRY(st);
    }
    if (!n) ROTOR_TRY(rag_db_each_root(w->r->db, follow_remembered, w, w->err));
    if (w->n) return ROTOR_OK;
    return base_fail(w->err, ROTOR_E_NOTFOUND,
                     "%s: no folder was added to it; rotor rag watch %s FOLDER adds one",
                     w->r->folder, w->r->folder);
}

/* ==== What has changed ======================================================================== */

static void note_path(followed *f, const char *path) {
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->paths[i], path) == 0) return;
    if (f->n == f->cap && f->cap < MOST_PATHS) {
        char **more = base_realloc(f->paths, (f->cap * 2 + 16) * sizeof *more);
        if (more) f->paths = more, f->cap = f->cap * 2 + 16;
    }
    char *copy = f->n < f->cap ? base_strdup(path) : NULL;
    if (copy)
        f->paths[f->n++] = copy;
    else
        f->all = true;
}

static bool is_of_store(const followed *f, const char *path) {
    return strcmp(path, f->store) == 0 || rag_is_under(path, f->store);
}

/* The store may lie in the folder: what is written to it is no change, or it would never end. */
static void on_change(void *user, const base_change *c) {
    followed *f = user;
    const char *name = strrchr(c->path, '/');
    if (is_of_store(f, c->path)) {
        f->look |= c->from && !is_of_store(f, c->from);
        return;
    }
    f->look |= c->kind != BASE_CHANGE_WRITTEN;
    if (c->kind == BASE_CHANGE_RESCAN && strcmp(c->path, f->path) == 0) f->all = true;
    if (name && strcmp(name + 1, RAG_IGNORE_NAME) == 0) f->all = true;
    if (c->kind != BASE_CHANGE_GONE) note_path(f, c->path);
}

/* What is never read needs no hearing of: hidden folders and what builds leave behind, and hidden
 * files but .rotorignore, unless globs may ask for them. */
static rotor_status begin_watching(watcher *w, followed *f) {
    static const char *const hidden[] = {".[!r]*", ".r[!o]*"};
    static const char *const folders[] = {".*",     "node_modules", "__pycache__",
                                          "target", "build",        "dist"};
    rotor_error why = {0};
    base_watch_options o = base_watch_default();
    o.exclude = hidden;
    o.n_exclude = f->opt.n_include ? 0 : BASE_COUNT(hidden);
    o.exclude_folders = folders;
    o.n_exclude_folders = BASE_COUNT(folders);
    o.quiet_ms = w->opt->quiet_ms ? w->opt->quiet_ms : QUIET_MS;
    o.gone_ms = w->opt->gone_ms ? w->opt->gone_ms : GONE_MS;
    const rotor_status st = base_watch_open(&f->w, f->path, &o, &why);
    if (st == ROTOR_E_NOMEM) return base_fail(w->err, st, "%s", why.message);
    f->all |= st == ROTOR_OK; /* what came before it was open */
    f->open_us = base_now_us() + UNWATCHED_S * SECOND_US;
    if (st != ROTOR_OK && !f->told_blind)
        base_log_printf(&w->r->log, BASE_LOG_WARN, "%s; looked at every %d seconds", why.message,
                        UNWATCHED_S);
    f->told_blind = st != ROTOR_OK;
    return ROTOR_OK;
}

static void part_with(followed *f) {
    base_watch_close(&f->w);
    forget_paths(f);
    f->there = f->all = f->look = f->told_watched = false;
    f->due_us = f->retry_us = f->open_us = 0;
}

/* The folder that is followed may have gone, or another one stand in its place. Without a watch of
 * the kernel it is looked at now and then. */
static rotor_status look_after(watcher *w, followed *f) {
    base_node n;
    const bool there = base_node_of(&n, f->path, true) && n.kind == BASE_NODE_DIR;
    if (f->there && (!there || n.ino != f->node.ino || n.dev != f->node.dev)) part_with(f);
    if (!there && !f->told_lost) tell(w, RAG_CHANGE_LOST, f->path, NULL);
    f->told_lost = !there;
    if (!there) return ROTOR_OK;
    f->all |= !f->there;
    f->there = true;
    f->node = n;
    return !f->w && base_now_us() >= f->open_us ? begin_watching(w, f) : ROTOR_OK;
}

/* ==== Writing ================================================================================= */

static rotor_status bring_up(watcher *w, followed *f) {
    rag_report report;
    static const char *const none[1];
    const char *const *some = f->n ? (const char *const *)f->paths : none;
    ROTOR_TRY(
        rag_add_some(w->r, f->path, f->all ? NULL : some, f->n, f->look, &f->opt, &report, w->err));
    w->wants_vectors |= report.n_chunks > 0 || f->all;
    const bool unwatched = !f->w || base_watch_unwatched(f->w);
    const uint64_t every = unwatched ? UNWATCHED_S : w->opt->rescan_s ? w->opt->rescan_s : RESCAN_S;
    if (f->all || report.n_failed)
        f->due_us = base_now_us() + SECOND_US * (report.n_failed ? UNWATCHED_S / 2 : every);
    return ROTOR_OK;
}

/* What went wrong may go away: a full disk, another writer. Changes wait. */
static bool may_pass(rotor_status st) { return st == ROTOR_E_STATE || st == ROTOR_E_IO; }

/* Said once, not each time it is tried again. */
static void wait_for_better(watcher *w, followed *f, rotor_status st) {
    f->retry_us = base_now_us() + RETRY_S * SECOND_US;
    if (st != f->failing)
        base_log_printf(&w->r->log, BASE_LOG_WARN, "%s; tried again every %d seconds",
                        w->err->message, RETRY_S);
    f->failing = st;
}

static void note_success(watcher *w, followed *f) {
    const bool first = f->all && !f->told_watched;
    f->told_kept &= f->kept || !f->look;
    f->all = f->look = false;
    f->retry_us = 0;
    f->failing = ROTOR_OK;
    forget_paths(f);
    if (first) tell(w, RAG_CHANGE_WATCHED, f->path, NULL);
    f->told_watched |= first;
}

static rotor_status write_changes(watcher *w, followed *f) {
    if (!f->there || base_now_us() < f->retry_us) return ROTOR_OK;
    if (f->due_us && base_now_us() >= f->due_us) f->all = true;
    if (!f->all && !f->look && !f->n) return ROTOR_OK;
    w->now = f;
    f->kept = false;
    rotor_status st = rag_db_resume(w->r->db, w->err);
    const bool begun = st == ROTOR_OK;
    if (begun) st = bring_up(w, f);
    rag_db_rest(w->r->db);
    tell_what_is_committed(w);
    base_buf_reset(&w->told);
    if (st == ROTOR_E_CANCELLED) return ROTOR_OK; /* go_on says it again */
    if (st == ROTOR_OK) note_success(w, f);
    if (!may_pass(st)) return st;
    f->all |= begun; /* who knows how far it came */
    wait_for_better(w, f, st);
    return ROTOR_OK;
}

/* Another program has given the store another model: nothing to do until it has ours again. */
static bool has_our_model(watcher *w) {
    int64_t model;
    const rotor_status st = rag_check_model(w->r, &model, w->err);
    if (st == ROTOR_E_STATE && !w->told_model)
        base_log_printf(&w->r->log, BASE_LOG_WARN, "%s; until then, by words alone",
                        w->err->message);
    w->told_model = st == ROTOR_E_STATE;
    return st != ROTOR_E_STATE;
}

static void tell_vectors(watcher *w) {
    char digits[24];
    snprintf(digits, sizeof digits, "%zu", w->n_vectors);
    if (w->n_vectors) tell(w, RAG_CHANGE_EMBEDDED, "", digits);
    w->n_vectors = 0;
}

/* Once through all passages, and once more from the first, until that finds none without. */
static rotor_status write_vectors(watcher *w) {
    size_t n = 0;
    const int64_t from = w->last;
    if (base_now_us() < w->retry_us) return ROTOR_OK;
    w->wants_vectors = has_our_model(w);
    if (!w->wants_vectors) return ROTOR_OK;
    const rotor_status st = rag_embed_some(w->r, EMBED_FEW, &w->last, &n, w->err);
    if (st == ROTOR_E_CANCELLED) return ROTOR_OK; /* go_on says it again */
    if (st == ROTOR_E_IO && !w->told_vectors)
        base_log_printf(&w->r->log, BASE_LOG_WARN, "no vectors: %s; tried again every %d seconds",
                        w->err->message, RETRY_S);
    w->told_vectors = st == ROTOR_E_IO;
    if (may_pass(st)) {
        w->last = 0;
        w->retry_us = base_now_us() + RETRY_S * SECOND_US;
        return ROTOR_OK;
    }
    ROTOR_TRY(st);
    w->n_vectors += n;
    w->wants_vectors = n > 0 || from > 0;
    if (!w->wants_vectors) tell_vectors(w);
    return ROTOR_OK;
}

static rotor_status turn(watcher *w) {
    const uint32_t slice = (uint32_t)(SLICE_MS / w->n) + 1;
    const bool now = w->wants_vectors && base_now_us() >= w->retry_us;
    for (size_t i = 0; i < w->n; i++) {
        followed *f = &w->list[i];
        ROTOR_TRY(look_after(w, f));
        ROTOR_TRY(write_changes(w, f));
        if (f->w)
            ROTOR_TRY(base_watch_wait(f->w, now ? 0 : slice, on_change, f, w->err));
        else if (!now)
            base_sleep_us(slice * 1000);
    }
    return w->wants_vectors ? write_vectors(w) : ROTOR_OK;
}

rotor_status rag_watch(rag *r, const char *const *folders, size_t n, const rag_watch_options *opt,
                       rotor_error *err) {
    watcher w = {.r = r, .opt = opt, .err = err};
    rotor_error own = {0};
    int64_t model;
    if (!err) w.err = &own;
    rotor_status st = choose_folders(&w, folders, n);
    if (st == ROTOR_OK) st = rag_check_model(r, &model, w.err);
    rag_db_rest(r->db);
    while (st == ROTOR_OK && go_on(&w)) st = turn(&w);
    for (size_t i = 0; i < w.n; i++) forget(&w.list[i]);
    base_free(w.list);
    base_buf_free(&w.told);
    return st;
}
