/* SPDX-License-Identifier: MIT
 *
 * Rows of files that are gone: found by looking, taken up again by files of the same content under
 * another path, dropped where that is all there is to it; and rows that are to go.
 */
#include "rag/rag_internal.h"

#include <stdio.h>

enum { GUARD_FILES = 20 };

bool rag_is_under(const char *path, const char *root) {
    const size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && (path[n] == '/' || (n && root[n - 1] == '/'));
}

void rag_rows_free(rag_rows *rows) {
    for (size_t i = 0; i < rows->n; i++) base_free(rows->list[i].path);
    base_free(rows->list);
    *rows = (rag_rows){0};
}

static rotor_status push(rag_rows *rows, const rag_db_name *n) {
    char *path = base_strdup(n->path);
    if (!path) return ROTOR_E_NOMEM;
    if (rows->n == rows->cap) {
        const size_t cap = rows->cap * 2 + 64;
        rag_row *more = base_realloc(rows->list, cap * sizeof *more);
        if (!more) {
            base_free(path);
            return ROTOR_E_NOMEM;
        }
        rows->list = more;
        rows->cap = cap;
    }
    rag_row *row = &rows->list[rows->n++];
    *row = (rag_row){.id = n->id, .path = path, .ok = n->ok};
    memcpy(row->hash, n->hash, RAG_HASH);
    return ROTOR_OK;
}

/* ==== Looking ================================================================================= */

typedef struct looker {
    const rag *r;               /* store */
    const rag_add_options *opt; /* what its owner wants in it */
    const char *root;           /* folder whose files are looked at; NULL: all there are */
    bool matching;              /* every row of root, and root itself, is wanted */
    rag_rows *rows;             /* found */
    size_t n_under;             /* rows under the folder */
    size_t n_here;              /* of them on the disk that the folder is on now */
    uint64_t dev;               /* that disk */
    base_buf folder;            /* of the file looked at last, owned … */
    bool ruled;                 /* … which a .rotorignore speaks of */
} looker;

/* Paths come in order: folders no rule speaks of are looked at once. */
static bool ruled_out(looker *l, const char *path) {
    const char *slash = strrchr(path, '/');
    const base_str folder = {path, slash ? (size_t)(slash - path) : 0};
    const bool same =
        l->folder.len && base_str_eq(folder, (base_str){l->folder.data, l->folder.len});
    if (same && !l->ruled) return false;
    base_buf_reset(&l->folder);
    base_buf_append(&l->folder, folder.p, folder.n);
    return rag_scan_ignored(l->root, path, &l->ruled);
}

static rotor_status look(void *user, const rag_db_name *n) {
    looker *l = user;
    base_node now;
    const bool own = l->root && strcmp(n->path, l->root) == 0;
    if (l->root && !rag_is_under(n->path, l->root) && !(own && l->matching)) return ROTOR_OK;
    if (!l->matching && strncmp(n->path, RAG_NOTE_PREFIX, strlen(RAG_NOTE_PREFIX)) == 0)
        return ROTOR_OK; /* a note is in no file: it is not gone */
    l->n_under++;
    l->n_here += n->dev == l->dev;
    if (l->matching) return push(l->rows, n);
    if (!base_node_of(&now, n->path, true) && now.kind == BASE_NODE_NONE) return push(l->rows, n);
    return l->root && ruled_out(l, n->path) ? push(l->rows, n) : ROTOR_OK;
}

static rotor_status look_at_all(rag *r, looker *l, rotor_error *err) {
    const rotor_status st = rag_db_each_name(r->db, look, l, err);
    if (st == ROTOR_E_NOMEM) base_fail_nomem(err, "looking for files that are gone");
    base_buf_free(&l->folder);
    if (st != ROTOR_OK) rag_rows_free(l->rows);
    return st;
}

rotor_status rag_find_gone(rag *r, rag_rows *rows, rotor_error *err) {
    looker l = {.r = r, .rows = rows};
    return look_at_all(r, &l, err);
}

/* ==== Dropping ================================================================================ */

/* Much of a folder gone at once is more likely a disk that is not mounted; and so is all of it,
 * however little, where the folder is on another disk than its files were. */
static bool too_much(const looker *l) {
    const size_t gone = l->rows->n;
    if (gone > GUARD_FILES && gone * 2 > l->n_under) return true;
    return gone && gone == l->n_under && !l->n_here;
}

static rotor_status drop(rag *r, const rag_rows *rows, rotor_error *err) {
    for (size_t i = 0; i < rows->n; i++)
        ROTOR_TRY(rag_db_delete_file(r->db, rows->list[i].id, err));
    return ROTOR_OK;
}

static void say_gone(rag *r, const looker *l) {
    for (size_t i = 0; i < l->rows->n; i++) {
        if (l->opt->change)
            l->opt->change(l->opt->user, RAG_CHANGE_GONE, l->rows->list[i].path, NULL);
        else
            base_log_printf(&r->log, BASE_LOG_INFO, "%s: gone", l->rows->list[i].path);
    }
}

static void say_kept(rag *r, const looker *l) {
    if (l->opt->change) {
        l->opt->change(l->opt->user, RAG_CHANGE_KEPT, l->root, NULL);
        return;
    }
    base_log_printf(&r->log, BASE_LOG_WARN,
                    "%s: %zu of %zu files are gone; their documents are kept until rotor rag "
                    "add --confirm-deletes says that this is meant",
                    l->root, l->rows->n, l->n_under);
}

rotor_status rag_drop_gone(rag *r, const char *root, const rag_add_options *opt, size_t *n,
                           rotor_error *err) {
    rag_rows rows = {0};
    base_node folder;
    looker l = {.r = r, .opt = opt, .root = root, .rows = &rows};
    if (base_node_of(&folder, root, true)) l.dev = folder.dev;
    ROTOR_TRY(look_at_all(r, &l, err));
    rotor_status st = ROTOR_OK;
    if (too_much(&l) && !opt->confirm_deletes) {
        say_kept(r, &l);
    } else if (rows.n) {
        if (!rag_db_in_change(r->db)) st = rag_db_begin(r->db, err);
        if (st == ROTOR_OK) st = drop(r, &rows, err);
        if (st == ROTOR_OK) say_gone(r, &l);
        *n += rows.n;
    }
    rag_rows_free(&rows);
    return st;
}

/* ==== Removing ================================================================================ */

/* root NULL: every file. */
static rotor_status remove_under(rag *r, const char *root, size_t *n, rotor_error *err) {
    rag_rows rows = {0};
    looker l = {.r = r, .root = root, .matching = true, .rows = &rows};
    ROTOR_TRY(look_at_all(r, &l, err));
    rotor_status st = drop(r, &rows, err);
    if (st == ROTOR_OK) st = rag_db_delete_root(r->db, root, err);
    *n = rows.n;
    rag_rows_free(&rows);
    return st;
}

static rotor_status remove_one(rag *r, const char *what, size_t *n_removed, rotor_error *err) {
    size_t n = 0;
    char *whole = base_path_absolute(what);
    rotor_status st = remove_under(r, whole ? whole : what, &n, err);
    base_free(whole);
    if (st == ROTOR_OK && !n) st = rag_db_delete_key(r->db, what, &n, err);
    if (st == ROTOR_OK && !n)
        st = base_fail(err, ROTOR_E_NOTFOUND,
                       "'%s' is neither a file nor the id of a document in the store; rotor rag "
                       "list %s shows what is there",
                       what, r->folder);
    *n_removed += n;
    return st;
}

rotor_status rag_gc(rag *r, rag_gc_report *report, rotor_error *err) {
    *report = (rag_gc_report){0};
    ROTOR_TRY(rag_db_shrink(r->db, err)); /* what is in the log belongs to its size */
    report->before_bytes = rag_db_bytes(r->db);
    ROTOR_TRY(rag_db_begin(r->db, err));
    const size_t before = rag_db_changes(r->db);
    rotor_status st = rag_db_sweep(r->db, err);
    report->n_vectors = rag_db_changes(r->db) - before;
    if (st == ROTOR_OK) st = rag_db_commit(r->db, err);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    if (st == ROTOR_OK) st = rag_db_shrink(r->db, err);
    report->after_bytes = rag_db_bytes(r->db);
    return st;
}

static rotor_status end_removal(rag *r, rotor_status st, rotor_error *err) {
    if (st == ROTOR_OK) st = rag_db_sweep(r->db, err);
    if (st == ROTOR_OK) st = rag_db_commit(r->db, err);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    return st;
}

rotor_status rag_remove(rag *r, const char *const *what, size_t n, size_t *n_removed,
                        rotor_error *err) {
    *n_removed = 0;
    ROTOR_TRY(rag_db_begin(r->db, err));
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; st == ROTOR_OK && i < n; i++) st = remove_one(r, what[i], n_removed, err);
    return end_removal(r, st, err);
}

static rotor_status delete_text(rag *r, const char *id, rotor_error *err) {
    char path[RAG_NOTE_PATH];
    rag_db_file f;
    snprintf(path, sizeof path, RAG_NOTE_PREFIX "%s", id);
    ROTOR_TRY(rag_db_find_file(r->db, path, &f, err));
    if (f.id) return rag_db_delete_file(r->db, f.id, err);
    return base_fail(err, ROTOR_E_NOTFOUND, "no document with the id '%s' is in the store", id);
}

rotor_status rag_take_out(rag *r, const char *id, rotor_error *err) {
    if (!rag_is_id(id)) return rag_refuse_id(err);
    ROTOR_TRY(rag_db_begin(r->db, err));
    return end_removal(r, delete_text(r, id, err), err);
}

rotor_status rag_remove_all(rag *r, size_t *n_removed, rotor_error *err) {
    *n_removed = 0;
    ROTOR_TRY(rag_db_begin(r->db, err));
    return end_removal(r, remove_under(r, NULL, n_removed, err), err);
}
