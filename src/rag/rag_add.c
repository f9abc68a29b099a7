/* SPDX-License-Identifier: MIT
 *
 * Adding. A file that has not changed is not read; one that has is read, and of its
 * documents only those that differ are written. Changes are committed about twice a second, always
 * between two documents, so that a kill loses at most that much and never half a document. A file
 * is "pending" until its last document is in, and read again if that did not happen.
 *
 * Vectors come last, for whatever has none: what was interrupted is simply gone on with.
 */
#include "rag/rag_internal.h"

#include <stdio.h>

enum { COMMIT_US = 500000, EMBED_TEXTS = 256, WARN_LINES = 5 };

typedef struct adder {
    rag *r;                     /* store */
    const rag_add_options *opt; /* what to take */
    rag_report *report;         /* counts */
    rotor_error *err;           /* where messages go */
    int64_t run;                /* marks documents seen in this run */
    uint64_t committed_us;      /* when that was last */
    base_buf bytes;             /* of the file being read */
    bool read;                  /* it has been */
    bool dropped;               /* documents of a file that has none any more */
    bool moved;                 /* a file was found again under another path */
    bool stopped;               /* progress said so */
    rag_rows lost;              /* files whose paths are gone … */
    bool looked;                /* … if that was looked for */
    size_t embed_most;          /* passages to embed at most */
} adder;

/* ==== Transactions ============================================================================ */

static rotor_status begin(adder *a) {
    return rag_db_in_change(a->r->db) ? ROTOR_OK : rag_db_begin(a->r->db, a->err);
}

static rotor_status commit(adder *a) {
    a->committed_us = base_now_us();
    return rag_db_in_change(a->r->db) ? rag_db_commit(a->r->db, a->err) : ROTOR_OK;
}

static rotor_status commit_now_and_then(adder *a) {
    if (a->opt->progress && !a->stopped && !a->opt->progress(a->opt->user, a->report->n_docs, 0))
        a->stopped = true;
    const bool due = base_now_us() - a->committed_us > COMMIT_US;
    return due || a->stopped ? commit(a) : ROTOR_OK;
}

static rotor_status stopped(adder *a) {
    return base_fail(a->err, ROTOR_E_CANCELLED, "stopped; what was finished is kept");
}

static void tell(const adder *a, rag_change what, const char *path, const char *was) {
    if (a->opt->change) a->opt->change(a->opt->user, what, path, was);
}

/* ==== One file ================================================================================ */

/* The lines of a corpus, a document each. */
static rotor_status add_corpus_line(adder *a, int64_t file, const char *path, base_str text,
                                    uint32_t number, size_t *bad) {
    rag_corpus_line l;
    rag_blocks blocks = {0};
    rotor_error why = {0};
    size_t front;
    rotor_status st = rag_read_line(text, &l, &why);
    if (st == ROTOR_E_NOMEM) return base_fail_nomem(a->err, "reading a corpus");
    if (st != ROTOR_OK) {
        if (++*bad <= WARN_LINES)
            base_log_printf(&a->r->log, BASE_LOG_WARN, "%s:%u: %s", path, number, why.message);
        return ROTOR_OK;
    }
    rag_document d = {
        .row = {.file = file, .key = l.key, .title = l.title, .meta = l.meta, .line = number},
        .text = {l.text, l.n_text},
        .blocks = &blocks};
    st = rag_blocks_of(d.text, RAG_FORM_TEXT, &blocks, &front);
    if (st != ROTOR_OK) base_fail_nomem(a->err, "reading a corpus");
    if (st == ROTOR_OK) st = rag_put_document(a->r, &d, a->run, a->report, a->err);
    rag_blocks_free(&blocks);
    rag_corpus_line_free(&l);
    return st;
}

static rotor_status add_corpus(adder *a, int64_t file, const char *path) {
    const char *at = a->bytes.data, *end = at + a->bytes.len;
    uint32_t number = 1;
    size_t bad = 0;
    for (; at < end && !a->stopped; number++) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((nl ? nl : end) - at);
        if (n && at[n - 1] == '\r') n--;
        ROTOR_TRY(begin(a));
        if (n) ROTOR_TRY(add_corpus_line(a, file, path, (base_str){at, n}, number, &bad));
        ROTOR_TRY(commit_now_and_then(a));
        at = nl ? nl + 1 : end;
    }
    if (bad > WARN_LINES)
        base_log_printf(&a->r->log, BASE_LOG_WARN, "%s: %zu more lines that are no document", path,
                        bad - WARN_LINES);
    a->report->n_failed += bad > 0;
    return ROTOR_OK;
}

static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The first heading of a Markdown file, else the file's name: what its passages are about. */
static char *title_of(const char *path, base_str text, const rag_blocks *b, rag_form form) {
    if (form == RAG_FORM_MARKDOWN && b->n && b->list[0].kind == RAG_HEADING &&
        b->list[0].level == 1) {
        const char *p = text.p + b->list[0].begin;
        size_t n = b->list[0].end - b->list[0].begin;
        const char *nl = memchr(p, '\n', n);
        if (nl) n = (size_t)(nl - p);
        while (n && strchr("# \t", *p)) p++, n--;
        while (n && strchr("# \t\r", p[n - 1])) n--;
        if (n) return base_strndup(p, n);
    }
    return base_strdup(name_of(path));
}

static rotor_status add_text(adder *a, int64_t file, const char *path, rag_form form) {
    rag_blocks blocks = {0};
    size_t front = 0;
    const base_str text = {a->bytes.data, a->bytes.len};
    rotor_status st = rag_blocks_of(text, form, &blocks, &front);
    char *title = NULL;
    if (st == ROTOR_OK) title = title_of(path, text, &blocks, form);
    rag_document d = {.row = {.file = file, .key = "", .title = title, .meta = "", .line = 1},
                      .text = text,
                      .blocks = &blocks,
                      .own_lines = true};
    st = title ? rag_put_document(a->r, &d, a->run, a->report, a->err)
               : base_fail_nomem(a->err, "adding a document");
    base_free(title);
    rag_blocks_free(&blocks);
    return st;
}

typedef struct extracting {
    adder *a;     /* who adds */
    int64_t file; /* its row */
} extracting;

static rotor_status put_extracted(void *user, const rag_extracted *x) {
    const extracting *e = user;
    rag_document d = {.row = {.file = e->file, .key = x->key, .title = x->title, .meta = x->meta},
                      .text = x->text,
                      .blocks = x->blocks};
    ROTOR_TRY(begin(e->a));
    ROTOR_TRY(rag_put_document(e->a->r, &d, e->a->run, e->a->report, e->a->err));
    ROTOR_TRY(commit_now_and_then(e->a));
    return e->a->stopped ? stopped(e->a) : ROTOR_OK;
}

static rotor_status add_extracted(adder *a, int64_t file, const char *path) {
    extracting e = {a, file};
    rotor_error why = {0};
    const rotor_status st = rag_extract(a->r, path, put_extracted, &e, &why);
    if (st != ROTOR_OK && !a->err->code) *a->err = why;
    return st;
}

static rotor_status put_row(adder *a, const char *path, rag_db_file *f, const char *status,
                            const char *message) {
    snprintf(f->status, sizeof f->status, "%s", status);
    ROTOR_TRY(begin(a));
    return rag_db_put_file(a->r->db, path, f, message, a->err);
}

static rotor_status index_bytes(adder *a, const char *path, rag_db_file *f, rag_reader reader,
                                rag_form form) {
    size_t gone = 0;
    ROTOR_TRY(put_row(a, path, f, "pending", ""));
    if (reader == RAG_READ_EXTRACT)
        ROTOR_TRY(add_extracted(a, f->id, path));
    else
        ROTOR_TRY(reader == RAG_READ_CORPUS ? add_corpus(a, f->id, path)
                                            : add_text(a, f->id, path, form));
    if (a->stopped) return stopped(a);
    ROTOR_TRY(begin(a));
    ROTOR_TRY(rag_db_drop_stale(a->r->db, f->id, a->run, &gone, a->err));
    a->report->n_indexed++;
    return put_row(a, path, f, "ok", "");
}

/* A file that was read and has no text any more has no documents either. */
static rotor_status drop_documents(adder *a, const rag_db_file *f) {
    size_t n = 0;
    if (!f->id) return ROTOR_OK;
    ROTOR_TRY(begin(a));
    ROTOR_TRY(rag_db_drop_stale(a->r->db, f->id, a->run, &n, a->err));
    a->dropped |= n > 0;
    return ROTOR_OK;
}

/* A file that cannot be read keeps what the store knows of it; the next run tries again. So it does
 * where a tool was missing. */
static rotor_status note_failure(adder *a, const char *path, rag_db_file *f, rotor_status why,
                                 const char *message) {
    const bool skip = why == ROTOR_E_UNSUPPORTED || why == ROTOR_E_NOTFOUND;
    if (why == ROTOR_E_NOTFOUND) f->pipeline = 0; /* of no reader: it is not unchanged next time */
    if (why == ROTOR_E_UNSUPPORTED && a->read) ROTOR_TRY(drop_documents(a, f));
    if (a->opt->change)
        tell(a, skip ? RAG_CHANGE_LEFT_OUT : RAG_CHANGE_FAILED, path, message);
    else
        base_log_printf(&a->r->log, skip ? BASE_LOG_INFO : BASE_LOG_WARN, "%s", message);
    if (skip)
        a->report->n_skipped++;
    else
        a->report->n_failed++;
    return f->node.kind == BASE_NODE_FILE ? put_row(a, path, f, skip ? "skipped" : "error", message)
                                          : ROTOR_OK;
}

/* Times are coarse: a file written within two seconds of its reading may change unseen. */
static bool unchanged(const rag_db_file *f, const base_node *n) {
    static const int64_t grain_ns = 2000000000;
    return f->id && f->pipeline == RAG_PIPELINE && f->node.size == n->size &&
           f->node.mtime_ns == n->mtime_ns && f->node.ctime_ns == n->ctime_ns &&
           f->node.dev == n->dev && f->node.ino == n->ino && n->mtime_ns < f->seen_ns - grain_ns &&
           (strcmp(f->status, "ok") == 0 || strcmp(f->status, "skipped") == 0);
}

/* What went wrong with one file; other failures end the run. */
static bool of_one_file(rotor_status st) {
    return st == ROTOR_E_UNSUPPORTED || st == ROTOR_E_NOTFOUND || st == ROTOR_E_STATE ||
           st == ROTOR_E_FORMAT;
}

static bool read_alike(const char *a, const char *b) {
    rag_form x, y;
    return rag_reader_of(a, &x) == rag_reader_of(b, &y) && x == y;
}

/* A new file with every byte of one that is gone is that one, renamed: its passages and vectors
 * stay. */
static rotor_status take_up_lost(adder *a, const char *path, const uint8_t hash[RAG_HASH],
                                 rag_db_file *f) {
    if (!a->looked) ROTOR_TRY(rag_find_gone(a->r, &a->lost, a->err));
    a->looked = true;
    for (size_t i = 0; i < a->lost.n; i++) {
        rag_row *row = &a->lost.list[i];
        if (!row->ok || memcmp(row->hash, hash, RAG_HASH) != 0 || !read_alike(row->path, path))
            continue;
        const base_node node = f->node;
        const int64_t seen_ns = f->seen_ns;
        ROTOR_TRY(begin(a));
        ROTOR_TRY(rag_db_rename_file(a->r->db, row->id, row->path, path, a->err));
        ROTOR_TRY(rag_db_find_file(a->r->db, path, f, a->err));
        f->node = node;
        f->seen_ns = seen_ns;
        row->ok = false; /* only once */
        a->moved = true;
        tell(a, RAG_CHANGE_MOVED, path, row->path);
        return ROTOR_OK;
    }
    return ROTOR_OK;
}

static rotor_status read_file(adder *a, const char *path, rag_db_file *f, rotor_error *why) {
    rag_form form;
    uint8_t hash[RAG_HASH];
    const rag_reader reader = rag_reader_of(path, &form);
    ROTOR_TRY(rag_read_bytes(path, reader, &f->node, &a->bytes, why));
    a->read = true;
    base_sha256(a->bytes.len ? a->bytes.data : "", a->bytes.len, hash);
    if (!f->id && a->bytes.len) ROTOR_TRY(take_up_lost(a, path, hash, f));
    const bool same = f->id && f->pipeline == RAG_PIPELINE && strcmp(f->status, "ok") == 0 &&
                      memcmp(hash, f->hash, RAG_HASH) == 0;
    memcpy(f->hash, hash, RAG_HASH);
    f->pipeline = RAG_PIPELINE;
    if (same) {
        a->report->n_unchanged++;
        return put_row(a, path, f, "ok", "");
    }
    if (!a->bytes.len) return base_fail(why, ROTOR_E_UNSUPPORTED, "%s: empty", path);
    if (reader != RAG_READ_EXTRACT) ROTOR_TRY(rag_to_utf8(&a->bytes, path, why));
    const rotor_status st = index_bytes(a, path, f, reader, form);
    if (st == ROTOR_OK) tell(a, RAG_CHANGE_READ, path, NULL);
    if (st != ROTOR_OK) {
        *why = *a->err;
        if (of_one_file(st)) a->err->code = ROTOR_OK;
    }
    return st;
}

static rotor_status add_file(void *user, const char *path) {
    adder *a = user;
    rag_db_file f;
    base_node now;
    rotor_error why = {0};
    a->report->n_seen++;
    a->read = false;
    ROTOR_TRY(rag_db_find_file(a->r->db, path, &f, a->err));
    const bool there = base_node_of(&now, path, true);
    if (there && unchanged(&f, &now)) {
        a->report->n_unchanged++;
        a->report->n_skipped += strcmp(f.status, "skipped") == 0;
        return commit_now_and_then(a);
    }
    f.node = now;
    f.seen_ns = base_unix_s() * 1000000000;
    const rotor_status st = read_file(a, path, &f, &why);
    if (st != ROTOR_OK) {
        const bool missing = st == ROTOR_E_IO && !rag_db_in_change(a->r->db) && !there;
        if (!of_one_file(st) && !missing && !(st == ROTOR_E_IO && there && !a->err->code))
            return a->err->code ? st : base_fail(a->err, st, "%s", why.message);
        ROTOR_TRY(note_failure(a, path, &f, st, why.message));
    }
    ROTOR_TRY(commit_now_and_then(a));
    return a->stopped ? stopped(a) : ROTOR_OK;
}

/* ==== Vectors ================================================================================= */

typedef struct wanted {
    rag_db_wanted list[EMBED_TEXTS]; /* without their texts */
    base_str texts[EMBED_TEXTS];     /* of `bytes`, set at the end */
    size_t at[EMBED_TEXTS + 1];      /* where each begins */
    size_t n;                        /* how many */
    base_buf bytes;                  /* all texts */
} wanted;

static rotor_status collect(void *user, const rag_db_wanted *w) {
    wanted *l = user;
    for (size_t i = 0; i < l->n; i++)
        if (memcmp(l->list[i].hash, w->hash, RAG_HASH) == 0) return ROTOR_OK;
    l->list[l->n] = *w;
    l->at[l->n] = l->bytes.len;
    base_buf_append(&l->bytes, w->text.p, w->text.n);
    l->at[++l->n] = l->bytes.len;
    return l->bytes.failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

static rotor_status store_vectors(adder *a, int64_t model, const wanted *l, const float *v) {
    const size_t dims = a->r->embedder.dims;
    int8_t *high = base_alloc(2 * dims);
    rotor_status st = high ? begin(a) : base_fail_nomem(a->err, "embedding");
    for (size_t i = 0; st == ROTOR_OK && i < l->n; i++) {
        float scale;
        if (!rag_vec_pack(high, high + dims, &scale, v + i * dims, dims, dims)) {
            st = base_fail(a->err, ROTOR_E_FORMAT, "%s gives a vector without length",
                           a->r->embedder.name);
            break;
        }
        st = rag_db_put_vector(a->r->db, model, l->list[i].hash, scale,
                               (base_str){(char *)high, dims},
                               (base_str){(char *)high + dims, dims}, a->err);
    }
    base_free(high);
    a->report->n_vectors += l->n;
    return st;
}

/* Takes the store's lock, where it was not held while the model was at work. */
static rotor_status still_of(adder *a, int64_t model) {
    int64_t now = model;
    if (rag_db_can_write(a->r->db)) return ROTOR_OK;
    ROTOR_TRY(rag_db_resume(a->r->db, a->err));
    ROTOR_TRY(rag_check_model(a->r, &now, a->err));
    return now == model ? ROTOR_OK
                        : base_fail(a->err, ROTOR_E_STATE,
                                    "%s: its vectors were made anew meanwhile", a->r->folder);
}

/* One batch; *last: its last passage, 0 when nothing is wanted any more. */
static rotor_status embed_batch(adder *a, int64_t model, wanted *l, int64_t *last) {
    const rag_embedder *e = &a->r->embedder;
    l->n = 0;
    base_buf_reset(&l->bytes);
    const size_t most = BASE_MIN(a->embed_most, (size_t)EMBED_TEXTS);
    rotor_status st = rag_db_each_wanted(a->r->db, model, *last, most, collect, l, a->err);
    if (st == ROTOR_E_NOMEM) base_fail_nomem(a->err, "embedding");
    ROTOR_TRY(st);
    *last = l->n ? l->list[l->n - 1].chunk : 0;
    if (!l->n) return ROTOR_OK;
    for (size_t i = 0; i < l->n; i++)
        l->texts[i] = (base_str){l->bytes.data + l->at[i], l->at[i + 1] - l->at[i]};
    float *v = base_alloc_array(l->n * e->dims, sizeof *v);
    st = v ? e->embed(e->user, l->texts, l->n, v, a->err) : base_fail_nomem(a->err, "embedding");
    if (st == ROTOR_OK) st = still_of(a, model);
    if (st == ROTOR_OK) st = store_vectors(a, model, l, v);
    base_free(v);
    return st == ROTOR_OK ? commit(a) : st;
}

static rotor_status embed_wanted(adder *a, int64_t model) {
    size_t total = 0;
    int64_t last = 0;
    wanted *l = base_alloc(sizeof *l);
    rotor_status st = l ? ROTOR_OK : base_fail_nomem(a->err, "embedding");
    if (l && a->opt->progress) st = rag_db_count_wanted(a->r->db, model, &total, a->err);
    const size_t before = a->report->n_vectors;
    do {
        if (st == ROTOR_OK && a->opt->progress &&
            !a->opt->progress(a->opt->user, a->report->n_vectors - before, total))
            st = stopped(a);
        if (st == ROTOR_OK) st = embed_batch(a, model, l, &last);
    } while (st == ROTOR_OK && last);
    if (l) base_buf_free(&l->bytes);
    base_free(l);
    return st;
}

/* The model the store's vectors are of; the embedder's, where there is none yet. Where that was had
 * last is remembered, unless nobody said it. */
static rotor_status choose_model(adder *a, int64_t *model) {
    const rag_embedder *e = &a->r->embedder;
    bool known = false;
    ROTOR_TRY(rag_check_model(a->r, model, a->err));
    if (!e->embed) return ROTOR_OK;
    if (*model) ROTOR_TRY(rag_db_model_lies_at(a->r->db, *model, e->path, &known, a->err));
    if (known || (*model && strcmp(e->path, e->name) == 0)) return ROTOR_OK;
    ROTOR_TRY(begin(a));
    ROTOR_TRY(rag_db_model(a->r->db, &a->r->embedder, model, a->err));
    ROTOR_TRY(rag_db_set_model(a->r->db, *model, a->err));
    return commit(a);
}

/* ==== Runs ==================================================================================== */

/* What rag_watch is to follow, and by which globs. */
static rotor_status remember_root(adder *a, const char *root) {
    base_buf globs = {0};
    rotor_status st = rag_globs_put(&globs, a->opt);
    st = st == ROTOR_OK ? begin(a) : base_fail_nomem(a->err, "adding a folder");
    if (st == ROTOR_OK) st = rag_db_put_root(a->r->db, root, globs.data, a->err);
    base_buf_free(&globs);
    return st;
}

static rotor_status add_folder(adder *a, const char *root) {
    ROTOR_TRY(rag_scan(a->r, root, a->opt, add_file, a, a->err));
    ROTOR_TRY(remember_root(a, root));
    return rag_drop_gone(a->r, root, a->opt, &a->report->n_gone, a->err);
}

/* By the globs it was added with, where there are no new ones. */
static rotor_status add_folder_as_before(adder *a, const char *root) {
    base_buf globs = {0};
    rag_add_options o = *a->opt;
    const rag_add_options *given = a->opt;
    base_buf_puts(&globs, "");
    rotor_status st = rag_db_get_root(a->r->db, root, &globs, a->err);
    if (st != ROTOR_OK) {
        base_buf_free(&globs);
        return st;
    }
    const char **include = rag_globs_of(globs.data, '+', NULL, &o.n_include);
    const char **exclude = rag_globs_of(globs.data, '-', NULL, &o.n_exclude);
    if (!include || !exclude) st = base_fail_nomem(a->err, "adding a folder");
    rag_globs_cut(globs.data);
    o.include = include;
    o.exclude = exclude;
    a->opt = &o;
    if (st == ROTOR_OK) st = add_folder(a, root);
    a->opt = given;
    base_free(include);
    base_free(exclude);
    base_buf_free(&globs);
    return st;
}

static rotor_status add_path(adder *a, const char *path) {
    char *whole = base_path_absolute(path);
    if (!whole) {
        base_log_printf(&a->r->log, BASE_LOG_WARN, "%s: there is no such file", path);
        a->report->n_failed++;
        return ROTOR_OK;
    }
    rotor_status st;
    if (base_path_kind_of(whole) != BASE_PATH_DIR)
        st = rag_scan(a->r, whole, a->opt, add_file, a, a->err);
    else if (a->opt->n_include || a->opt->n_exclude)
        st = add_folder(a, whole);
    else
        st = add_folder_as_before(a, whole);
    base_free(whole);
    return st;
}

/* Folders that were added, before anything is written. */
typedef struct root_list {
    char **list; /* [n] owned */
    size_t n;    /* how many */
} root_list;

static rotor_status take_root(void *user, const char *path, const char *globs) {
    root_list *l = user;
    (void)globs;
    char **more = base_realloc(l->list, (l->n + 1) * sizeof *more);
    if (more) l->list = more;
    if (!more || !(l->list[l->n] = base_strdup(path))) return ROTOR_E_NOMEM;
    l->n++;
    return ROTOR_OK;
}

static rotor_status add_roots(adder *a) {
    root_list roots = {0};
    rotor_status st = rag_db_each_root(a->r->db, take_root, &roots, a->err);
    if (st == ROTOR_E_NOMEM) base_fail_nomem(a->err, "adding folders");
    if (st == ROTOR_OK && !roots.n)
        st = base_fail(a->err, ROTOR_E_NOTFOUND,
                       "%s: no folder was added to it; rotor rag add %s FOLDER adds one",
                       a->r->folder, a->r->folder);
    for (size_t i = 0; i < roots.n && st == ROTOR_OK; i++) st = add_path(a, roots.list[i]);
    base_names_free(roots.list, roots.n);
    return st;
}

static rotor_status run(adder *a, const char *const *paths, size_t n) {
    int64_t job = 0, model = 0;
    ROTOR_TRY(choose_model(a, &model));
    ROTOR_TRY(begin(a));
    ROTOR_TRY(rag_db_job_begin(a->r->db, "add", n ? paths[0] : "", &job, a->err));
    ROTOR_TRY(commit(a));
    if (!n) ROTOR_TRY(add_roots(a));
    for (size_t i = 0; i < n; i++) ROTOR_TRY(add_path(a, paths[i]));
    ROTOR_TRY(commit(a));
    if (model && a->r->embedder.embed) ROTOR_TRY(embed_wanted(a, model));
    ROTOR_TRY(begin(a));
    if (a->report->n_indexed || a->report->n_gone || a->dropped)
        ROTOR_TRY(rag_db_sweep(a->r->db, a->err));
    ROTOR_TRY(rag_db_job_end(a->r->db, job, a->err));
    return commit(a);
}

static void start(adder *a, rag *r, const rag_add_options *opt, rag_report *report,
                  rotor_error *err) {
    static const rag_add_options none = {0};
    memset(report, 0, sizeof *report);
    *a = (adder){.r = r,
                 .opt = opt ? opt : &none,
                 .report = report,
                 .err = err,
                 .run = (int64_t)(base_random_seed() >> 1),
                 .embed_most = SIZE_MAX,
                 .committed_us = base_now_us()};
}

rotor_status rag_add(rag *r, const char *const *paths, size_t n_paths, const rag_add_options *opt,
                     rag_report *report, rotor_error *err) {
    adder a;
    rotor_error own = {0};
    start(&a, r, opt, report, err ? err : &own);
    a.err->code = ROTOR_OK;
    const rotor_status st = run(&a, paths, n_paths);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    base_buf_free(&a.bytes);
    rag_rows_free(&a.lost);
    return st;
}

/* ==== Parts of a run, for rag_watch =========================================================== */

static rotor_status add_some(adder *a, const char *root, const char *const *paths, size_t n,
                             bool look) {
    if (!paths) ROTOR_TRY(add_path(a, root));
    for (size_t i = 0; paths && i < n; i++) {
        if (strcmp(paths[i], root) != 0 && !rag_scan_wants(a->r, root, paths[i], a->opt)) continue;
        if (base_path_kind_of(paths[i]) != BASE_PATH_NONE)
            ROTOR_TRY(rag_scan_below(a->r, root, paths[i], a->opt, add_file, a, a->err));
    }
    if (paths && look) ROTOR_TRY(rag_drop_gone(a->r, root, a->opt, &a->report->n_gone, a->err));
    ROTOR_TRY(begin(a));
    if (a->report->n_indexed || a->report->n_gone || a->dropped)
        ROTOR_TRY(rag_db_sweep(a->r->db, a->err));
    return commit(a);
}

rotor_status rag_add_some(rag *r, const char *root, const char *const *paths, size_t n, bool look,
                          const rag_add_options *opt, rag_report *report, rotor_error *err) {
    adder a;
    start(&a, r, opt, report, err);
    a.err->code = ROTOR_OK;
    const rotor_status st = add_some(&a, root, paths, n, look);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    base_buf_free(&a.bytes);
    rag_rows_free(&a.lost);
    return st;
}

/* A look whether the lock can be had, so that the model does not work for nothing. */
static rotor_status take_model(adder *a, int64_t *model) {
    const bool held = rag_db_can_write(a->r->db);
    ROTOR_TRY(rag_db_resume(a->r->db, a->err));
    const rotor_status st = choose_model(a, model);
    if (st != ROTOR_OK) rag_db_rollback(a->r->db);
    if (!held) rag_db_rest(a->r->db);
    return st;
}

rotor_status rag_embed_all(rag *r, rag_report *report, rotor_error *err) {
    adder a;
    rag_report own;
    int64_t model = 0;
    start(&a, r, NULL, &own, err);
    rotor_status st = choose_model(&a, &model);
    if (st == ROTOR_OK && model && r->embedder.embed) st = embed_wanted(&a, model);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    report->n_vectors += own.n_vectors;
    return st;
}

rotor_status rag_embed_some(rag *r, size_t most, int64_t *last, size_t *n, rotor_error *err) {
    adder a;
    int64_t model = 0;
    rag_report report;
    const bool held = rag_db_can_write(r->db);
    start(&a, r, NULL, &report, err);
    a.embed_most = most;
    *n = 0;
    if (!r->embedder.embed) return ROTOR_OK;
    ROTOR_TRY(take_model(&a, &model));
    wanted *l = base_alloc(sizeof *l);
    rotor_status st = l ? embed_batch(&a, model, l, last) : base_fail_nomem(err, "embedding");
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    if (!held) rag_db_rest(r->db);
    if (l) base_buf_free(&l->bytes);
    base_free(l);
    *n = st == ROTOR_OK ? report.n_vectors : 0;
    return st;
}

rotor_status rag_reembed(rag *r, const rag_add_options *opt, rag_report *report, rotor_error *err) {
    adder a;
    rotor_error own = {0};
    int64_t model = 0, job = 0;
    start(&a, r, opt, report, err ? err : &own);
    rotor_status st = begin(&a);
    if (st == ROTOR_OK) st = rag_db_job_begin(r->db, "reembed", r->embedder.name, &job, a.err);
    if (st == ROTOR_OK) st = rag_db_model(r->db, &r->embedder, &model, a.err);
    if (st == ROTOR_OK) st = commit(&a);
    if (st == ROTOR_OK) st = embed_wanted(&a, model);
    if (st == ROTOR_OK) st = begin(&a);
    if (st == ROTOR_OK) st = rag_db_set_model(r->db, model, a.err);
    if (st == ROTOR_OK) st = rag_db_sweep(r->db, a.err);
    if (st == ROTOR_OK) st = rag_db_job_end(r->db, job, a.err);
    if (st == ROTOR_OK) st = commit(&a);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    return st;
}
