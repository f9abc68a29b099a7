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
    RETRY_S = 5,      /* after a failure */
    MOST_PATHS = 4096 /* more changes at once: look at everything */
};

typedef struct followed {
    char *path;           /* of the folder, owned */
    char *globs;          /* as remembered, owned */
    rag_add_options opt;  /* with these */
    const char **list[2]; /* include, exclude: owned arrays of borrowed words */
    base_watch *w;        /* owned; NULL: the folder is not there */
    base_node node;       /* of the folder that is watched */
    char **paths;         /* [n] changed, owned */
    size_t n, cap;        /* in use; allocated */
    bool look;            /* something is gone, or may be */
    bool all;             /* everything is to be looked at */
    bool told_lost;       /* its owner knows that it is not there */
    bool told_kept;       /* its owner knows that much is gone from it */
    bool kept;            /* so said the look that is going on */
    uint64_t due_us;      /* when to look at everything again */
} followed;

typedef struct watcher {
    rag *r;                       /* store */
    const rag_watch_options *opt; /* what to take, whom to tell */
    followed *list;               /* [n] owned */
    size_t n;                     /* folders */
    followed *now;                /* being looked at */
    base_buf told;                /* changes that are not committed yet: kind, path, more */
    bool wants_vectors;           /* there may be passages without */
    size_t n_vectors;             /* made since that was told */
    rotor_error *err;             /* where messages go */
} watcher;

/* ==== Telling ================================================================================= */

static void tell(watcher *w, rag_change what, const char *path, const char *more) {
    if (w->opt->add.change) w->opt->add.change(w->opt->add.user, what, path, more ? more : "");
}

/* Is told when it is committed, so that who hears of it finds it. */
static void keep_for_later(void *user, rag_change what, const char *path, const char *more) {
    watcher *w = user;
    if (what == RAG_CHANGE_KEPT) {
        w->now->kept = true;
        if (w->now->told_kept) return;
        w->now->told_kept = true;
    }
    const char kind = (char)('A' + (int)what);
    base_buf_append(&w->told, &kind, 1);
    base_buf_append(&w->told, path, strlen(path) + 1);
    base_buf_puts(&w->told, more ? more : "");
    base_buf_append(&w->told, "", 1);
}

static void tell_what_was_kept(watcher *w) {
    for (const char *at = w->told.data; at && at < w->told.data + w->told.len;) {
        const char *path = at + 1, *more = path + strlen(path) + 1;
        tell(w, (rag_change)(*at - 'A'), path, more);
        at = more + strlen(more) + 1;
    }
    base_buf_reset(&w->told);
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
    base_free(f->globs);
    base_free(f->list[0]);
    base_free(f->list[1]);
}

static bool named(const char *const *list, size_t n, const char *word, size_t length) {
    for (size_t i = 0; i < n; i++)
        if (strncmp(list[i], word, length) == 0 &&
            (list[i][length] == 0 || list[i][length] == '\n'))
            return true;
    return false;
}

/* Words of the caller, then those remembered with a sign before them; f->globs is cut into lines.
 */
static rotor_status take_globs(watcher *w, followed *f, int which, char sign) {
    const rag_add_options *o = &w->opt->add;
    const char *const *more = which ? o->exclude : o->include;
    size_t n = which ? o->n_exclude : o->n_include, cap = n;
    for (const char *at = f->globs; *at; at++) cap += *at == '\n';
    const char **list = base_alloc_array(cap + 1, sizeof *list);
    if (!list) return base_fail_nomem(w->err, "watching");
    for (size_t i = 0; i < n; i++) list[i] = more[i];
    for (char *at = f->globs; *at;) {
        const size_t length = strcspn(at, "\n");
        if (*at == sign && !named(list, n, at + 1, length - 1)) list[n++] = at + 1;
        at += length + (at[length] == '\n');
    }
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
    *f = (followed){.path = base_strdup(path), .globs = base_strdup(globs)};
    f->opt = w->opt->add;
    f->opt.progress = step;
    f->opt.change = keep_for_later;
    f->opt.user = w;
    if (!f->path || !f->globs) return base_fail_nomem(w->err, "watching");
    ROTOR_TRY(take_globs(w, f, 0, '+'));
    ROTOR_TRY(take_globs(w, f, 1, '-'));
    for (char *at = f->globs; *at; at++)
        if (*at == '\n') *at = 0; /* for the lists; their words lie between */
    return ROTOR_OK;
}

static rotor_status follow_remembered(void *user, const char *path, const char *globs) {
    watcher *w = user;
    for (size_t i = 0; i < w->n; i++) /* in order of path: what lies in another is with it */
        if (rag_is_under(path, w->list[i].path)) return ROTOR_OK;
    return follow(w, path, globs);
}

/* Folders named now are remembered by the first look at them (rag_add). */
static rotor_status choose_folders(watcher *w, const char *const *folders, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *whole = base_path_absolute(folders[i]);
        const bool folder = whole && base_path_kind_of(whole) == BASE_PATH_DIR;
        rotor_status st = folder ? follow(w, whole, "")
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

static void on_change(void *user, const base_change *c) {
    followed *f = user;
    const char *name = strrchr(c->path, '/');
    f->look |= c->kind != BASE_CHANGE_WRITTEN;
    if (c->kind == BASE_CHANGE_RESCAN && strcmp(c->path, f->path) == 0) f->all = true;
    if (name && strcmp(name + 1, RAG_IGNORE_NAME) == 0) f->all = true;
    if (c->kind != BASE_CHANGE_GONE) note_path(f, c->path);
}

/* Hidden names but this one are neither read nor looked into; nor is what builds leave behind. */
static rotor_status begin_watching(watcher *w, followed *f) {
    static const char *const never[] = {".[!r]*", ".r[!o]*", "node_modules", "__pycache__",
                                        "target", "build",   "dist"};
    rotor_error why = {0};
    base_watch_options o = base_watch_default();
    o.exclude = never;
    o.n_exclude = BASE_COUNT(never);
    o.quiet_ms = w->opt->quiet_ms ? w->opt->quiet_ms : QUIET_MS;
    o.gone_ms = w->opt->gone_ms ? w->opt->gone_ms : GONE_MS;
    if (!base_node_of(&f->node, f->path, true) || f->node.kind != BASE_NODE_DIR) return ROTOR_OK;
    const rotor_status st = base_watch_open(&f->w, f->path, &o, &why);
    if (st == ROTOR_E_NOMEM) return base_fail(w->err, st, "%s", why.message);
    if (st != ROTOR_OK) base_log_printf(&w->r->log, BASE_LOG_WARN, "%s", why.message);
    f->all = true;
    return ROTOR_OK;
}

/* The folder that is watched may have gone, or another one stand in its place. */
static rotor_status look_after(watcher *w, followed *f) {
    base_node n;
    const bool there = base_node_of(&n, f->path, true) && n.kind == BASE_NODE_DIR;
    if (f->w && (!there || n.ino != f->node.ino || n.dev != f->node.dev)) {
        base_watch_close(&f->w);
        forget_paths(f);
        f->all = f->look = false;
        f->due_us = 0;
    }
    if (!there && !f->told_lost) tell(w, RAG_CHANGE_LOST, f->path, NULL);
    f->told_lost = !there;
    return there && !f->w ? begin_watching(w, f) : ROTOR_OK;
}

/* ==== Writing ================================================================================= */

static rotor_status bring_up(watcher *w, followed *f) {
    rag_report report;
    static const char *const none[1];
    const char *const *some = f->n ? (const char *const *)f->paths : none;
    ROTOR_TRY(
        rag_add_some(w->r, f->path, f->all ? NULL : some, f->n, f->look, &f->opt, &report, w->err));
    w->wants_vectors |= report.n_chunks > 0 || f->all;
    const uint64_t every = f->w && base_watch_unwatched(f->w) ? UNWATCHED_S
                           : w->opt->rescan_s                 ? w->opt->rescan_s
                                                              : RESCAN_S;
    if (f->all || report.n_failed)
        f->due_us = base_now_us() + 1000000 * (report.n_failed ? UNWATCHED_S / 2 : every);
    return ROTOR_OK;
}

/* What went wrong may go away: a full disk, another writer. Changes wait. */
static bool may_pass(rotor_status st) { return st == ROTOR_E_STATE || st == ROTOR_E_IO; }

static rotor_status write_changes(watcher *w, followed *f) {
    static const uint64_t second_us = 1000000;
    if (base_now_us() >= f->due_us && f->due_us) f->all = true;
    if (!f->w || (!f->all && !f->look && !f->n)) return ROTOR_OK;
    w->now = f;
    f->kept = false;
    const bool first = f->all && !f->due_us;
    rotor_status st = rag_db_resume(w->r->db, w->err);
    if (st == ROTOR_OK) st = bring_up(w, f);
    rag_db_rest(w->r->db);
    if (st == ROTOR_E_CANCELLED) return ROTOR_OK; /* go_on says it again */
    if (may_pass(st)) {
        base_buf_reset(&w->told);
        f->all = true;
        f->due_us = base_now_us() + RETRY_S * second_us;
        base_log_printf(&w->r->log, BASE_LOG_WARN, "%s; tried again in %d seconds", w->err->message,
                        RETRY_S);
        base_sleep_us(SLICE_MS * 1000);
        return ROTOR_OK;
    }
    ROTOR_TRY(st);
    f->told_kept &= f->kept || !f->look;
    f->all = f->look = false;
    forget_paths(f);
    tell_what_was_kept(w);
    if (first) tell(w, RAG_CHANGE_WATCHED, f->path, NULL);
    return ROTOR_OK;
}

static rotor_status write_vectors(watcher *w) {
    size_t n = 0;
    char digits[24];
    rotor_status st = rag_db_resume(w->r->db, w->err);
    if (st == ROTOR_OK) st = rag_embed_some(w->r, EMBED_FEW, &n, w->err);
    rag_db_rest(w->r->db);
    if (may_pass(st)) {
        base_sleep_us(SLICE_MS * 1000);
        return ROTOR_OK;
    }
    ROTOR_TRY(st);
    w->n_vectors += n;
    w->wants_vectors = n > 0;
    if (n || !w->n_vectors) return ROTOR_OK;
    snprintf(digits, sizeof digits, "%zu", w->n_vectors);
    tell(w, RAG_CHANGE_EMBEDDED, "", digits);
    w->n_vectors = 0;
    return ROTOR_OK;
}

static rotor_status turn(watcher *w) {
    const uint32_t slice = (uint32_t)(SLICE_MS / w->n) + 1;
    for (size_t i = 0; i < w->n; i++) {
        followed *f = &w->list[i];
        ROTOR_TRY(look_after(w, f));
        ROTOR_TRY(write_changes(w, f));
        if (f->w)
            ROTOR_TRY(base_watch_wait(f->w, w->wants_vectors ? 0 : slice, on_change, f, w->err));
        else
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
