/* SPDX-License-Identifier: MIT
 *
 * A pull: ask the hub which files there are, see what is here, fetch the rest, install.
 *
 * Blobs first, one by one, each as a growing beginning (ETAG.incomplete) that is renamed when it is
 * whole and, where its name is its SHA-256, has been checked. Only when all are here do the links
 * of the snapshot and the reference appear: no half of a model can be opened. A beginning with a
 * wrong sum is removed: nobody can say which of its bytes are wrong.
 */
#include "base/part.h"
#include "hub/fetch.h"
#include "hub/layout.h"

#include <jansson.h>
#include <stdio.h>

enum { LISTING_MAX = 32 << 20, SHA256_HEX = 64, COMMIT_HEX = 40 };

struct hub_pull {
    hub_pull_options opt;         /* strings owned below */
    fetch *f;                     /* owned */
    char *root, *endpoint, *repo; /* owned */
    char *commit;                 /* owned */
    char *repo_dir;               /* owned; ROOT/models--… */
    char *snapshot;               /* owned; its folder of this commit */
    char *path;                   /* owned; what to open */
    hub_file *files;              /* owned */
    size_t n_files;               /* how many */
    uint64_t done;                /* bytes that are here */
};

/* ==== What the hub has ======================================================================== */

static bool is_hex(const char *s, size_t n) {
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static void files_free(hub_file *files, size_t n) {
    for (size_t i = 0; i < n; i++) {
        base_free(files[i].path);
        base_free(files[i].etag);
    }
    base_free(files);
}

/* Names that could leave the folder are passed over. */
static rotor_status read_siblings(const json_t *list, hub_file **files, size_t *n,
                                  rotor_error *err) {
    const size_t most = json_array_size(list);
    hub_file *at = base_alloc_array(most + 1, sizeof *at);
    size_t k = 0;
    if (!at) return base_fail_nomem(err, "listing a repository");
    for (size_t i = 0; i < most; i++) {
        const json_t *one = json_array_get(list, i);
        const char *path = json_string_value(json_object_get(one, "rfilename"));
        if (!path || !hub_is_safe_path(path)) continue;
        if (!(at[k].path = base_strdup(path))) {
            files_free(at, k);
            return base_fail_nomem(err, "listing a repository");
        }
        const json_t *size = json_object_get(one, "size");
        at[k].sized = json_is_integer(size) && json_integer_value(size) >= 0;
        at[k].bytes = at[k].sized ? (uint64_t)json_integer_value(size) : 0;
        k++;
    }
    *files = at;
    *n = k;
    return ROTOR_OK;
}

/* Keeps the picked ones, in their order. */
static rotor_status keep_picked(hub_pull *p, hub_file *all, size_t n, const char *part,
                                bool *folder, rotor_error *err) {
    size_t *picked = NULL;
    ROTOR_TRY(hub_select(all, n, part, &picked, &p->n_files, folder, err));
    p->files = base_alloc_array(p->n_files, sizeof *p->files);
    for (size_t i = 0; i < p->n_files && p->files; i++) {
        p->files[i] = all[picked[i]];
        all[picked[i]].path = NULL;
    }
    base_free(picked);
    if (p->files) return ROTOR_OK;
    p->n_files = 0;
    return base_fail_nomem(err, "choosing files");
}

static rotor_status read_listing(hub_pull *p, const char *text, size_t n_text, const char *part,
                                 bool *folder, rotor_error *err) {
    hub_file *all = NULL;
    size_t n = 0;
    json_t *root = json_loadb(text, n_text, 0, NULL);
    const char *sha = json_string_value(json_object_get(root, "sha"));
    rotor_status st;
    if (!sha || !is_hex(sha, COMMIT_HEX))
        st = base_fail(err, ROTOR_E_FORMAT, "the hub's answer is no description of a model");
    else if (!(p->commit = base_strdup(sha)))
        st = base_fail_nomem(err, "listing a repository");
    else
        st = read_siblings(json_object_get(root, "siblings"), &all, &n, err);
    if (st == ROTOR_OK) st = keep_picked(p, all, n, part, folder, err);
    files_free(all, n);
    json_decref(root);
    return st;
}

static rotor_status ask_for_files(hub_pull *p, const hub_ref *ref, bool *folder, rotor_error *err) {
    base_buf url = {0}, text = {0};
    base_buf_printf(&url, "%s/api/models/%s/revision/main?blobs=true", p->endpoint, p->repo);
    rotor_status st = url.failed ? base_fail_nomem(err, "listing a repository")
                                 : fetch_text(p->f, url.data, LISTING_MAX, &text, err);
    if (st == ROTOR_OK)
        st = read_listing(p, text.data ? text.data : "", text.len, ref->part, folder, err);
    base_buf_free(&url);
    base_buf_free(&text);
    return st;
}

/* ENDPOINT/ORG/NAME/resolve/COMMIT/PATH; base_free. */
static char *file_url(const hub_pull *p, const hub_file *f) {
    base_buf b = {0};
    base_buf_printf(&b, "%s/%s/resolve/%s/", p->endpoint, p->repo, p->commit);
    for (const char *c = f->path; *c; c++) {
        const bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
                           (*c >= 'A' && *c <= 'Z') || strchr("-._~/", *c);
        if (plain)
            base_buf_append(&b, c, 1);
        else
            base_buf_printf(&b, "%%%02X", (unsigned char)*c);
    }
    if (b.failed) base_buf_free(&b);
    return b.data;
}

static rotor_status ask_about(hub_pull *p, hub_file *f, rotor_error *err) {
    fetch_facts facts = {0};
    char *url = file_url(p, f);
    rotor_status st =
        url ? fetch_facts_of(p->f, url, &facts, err) : base_fail_nomem(err, "asking for a file");
    base_free(url);
    if (st != ROTOR_OK) return base_fail_in(err, st, "%s", f->path);
    if (!*facts.etag)
        return base_fail(err, ROTOR_E_FORMAT, "%s: the hub names no ETag for it", f->path);
    if (facts.has_bytes) f->bytes = facts.bytes;
    if (!facts.has_bytes && !f->sized)
        return base_fail(err, ROTOR_E_FORMAT, "%s: the hub names no size for it", f->path);
    f->hashed = is_hex(facts.etag, SHA256_HEX);
    f->etag = base_strdup(facts.etag);
    return f->etag ? ROTOR_OK : base_fail_nomem(err, "asking for a file");
}

/* ==== What is here ============================================================================ */

static uint64_t size_of(const char *path) {
    base_node n;
    return path && base_node_of(&n, path, true) && n.kind == BASE_NODE_FILE ? n.size : UINT64_MAX;
}

static char *blob_path(const hub_pull *p, const hub_file *f) {
    return hub_path(p->repo_dir, "blobs", f->etag);
}

/* What is here of a file: all of it under its name or as a blob, or a beginning. */
static void look(hub_pull *p, hub_file *f) {
    char *named = hub_path(p->snapshot, f->path, NULL), *blob = blob_path(p, f);
    base_buf part = {0};
    base_buf_printf(&part, "%s.incomplete", blob ? blob : "");
    f->have = 0;
    f->whole = size_of(named) == f->bytes || size_of(blob) == f->bytes;
    if (f->whole) {
        f->have = f->bytes;
    } else if (blob && part.data && !part.failed) {
        const uint64_t n = size_of(part.data);
        if (n != UINT64_MAX && n <= f->bytes) f->have = n;
    }
    base_free(named);
    base_free(blob);
    base_buf_free(&part);
}

/* ==== The plan ================================================================================ */

static bool go_on(void *user) {
    const hub_pull *p = user;
    return !p->opt.progress || p->opt.progress(p->opt.user, p->done, hub_pull_bytes(p));
}

static char *without_slash(const char *url) {
    size_t n = strlen(url);
    while (n && url[n - 1] == '/') n--;
    return base_strndup(url, n);
}

static rotor_status set_up(hub_pull *p, const hub_ref *ref, rotor_error *err) {
    const hub_pull_options *o = &p->opt;
    char *folder = hub_folder_of(ref->repo);
    p->root = base_strdup(o->root);
    p->endpoint = without_slash(o->endpoint && *o->endpoint ? o->endpoint : HUB_PUBLIC);
    p->repo = base_strdup(ref->repo);
    p->repo_dir = folder ? hub_path(o->root, folder, NULL) : NULL;
    base_free(folder);
    if (!p->root || !p->endpoint || !p->repo || !p->repo_dir)
        return base_fail_nomem(err, "planning a download");
    const fetch_options how = {.home = p->endpoint,
                               .token = o->token && *o->token ? o->token : NULL,
                               .connect_s = o->connect_s ? o->connect_s : 10,
                               .stall_s = o->stall_s ? o->stall_s : 10,
                               .retries = 8,
                               .connections = o->connections ? o->connections : 4,
                               .go_on = go_on,
                               .user = p,
                               .log = o->log};
    return fetch_open(&p->f, &how, err);
}

static rotor_status plan(hub_pull *p, const hub_ref *ref, rotor_error *err) {
    bool folder = false;
    ROTOR_TRY(set_up(p, ref, err));
    rotor_status st = ask_for_files(p, ref, &folder, err);
    if (st != ROTOR_OK) return base_fail_in(err, st, "%s", p->repo);
    p->snapshot = hub_path(p->repo_dir, "snapshots", p->commit);
    for (size_t i = 0; i < p->n_files; i++) {
        ROTOR_TRY(ask_about(p, &p->files[i], err));
        look(p, &p->files[i]);
        p->done += p->files[i].have;
    }
    p->path = folder ? hub_path(p->repo_dir, "snapshots", p->commit)
                     : hub_path(p->snapshot, p->files[0].path, NULL);
    return p->snapshot && p->path ? ROTOR_OK : base_fail_nomem(err, "planning a download");
}

rotor_status hub_pull_plan(hub_pull **out, const hub_ref *ref, const hub_pull_options *opt,
                           rotor_error *err) {
    hub_pull *p = base_alloc(sizeof *p);
    if (!p) return base_fail_nomem(err, "planning a download");
    p->opt = *opt;
    rotor_status st = plan(p, ref, err);
    if (st == ROTOR_OK)
        *out = p;
    else
        hub_pull_free(&p);
    return st;
}

void hub_pull_free(hub_pull **pull) {
    hub_pull *p = pull ? *pull : NULL;
    if (!p) return;
    fetch_close(&p->f);
    files_free(p->files, p->n_files);
    base_free(p->root);
    base_free(p->endpoint);
    base_free(p->repo);
    base_free(p->commit);
    base_free(p->repo_dir);
    base_free(p->snapshot);
    base_free(p->path);
    base_free(p);
    *pull = NULL;
}

const char *hub_pull_repo(const hub_pull *p) { return p->repo; }
const char *hub_pull_commit(const hub_pull *p) { return p->commit; }
const char *hub_pull_path(const hub_pull *p) { return p->path; }
size_t hub_pull_n_files(const hub_pull *p) { return p->n_files; }
const hub_file *hub_pull_file(const hub_pull *p, size_t i) { return &p->files[i]; }

uint64_t hub_pull_bytes(const hub_pull *p) {
    uint64_t sum = 0;
    for (size_t i = 0; i < p->n_files; i++) sum += p->files[i].bytes;
    return sum;
}

uint64_t hub_pull_missing(const hub_pull *p) {
    uint64_t sum = 0;
    for (size_t i = 0; i < p->n_files; i++) sum += p->files[i].bytes - p->files[i].have;
    return sum;
}

uint64_t hub_pull_room(const hub_pull *p) { return base_free_disk_bytes(p->root); }

/* ==== Reading a beginning ===================================================================== */

static rotor_status to_buf(void *user, const void *p, size_t n, rotor_error *err) {
    return base_buf_append(user, p, n) ? ROTOR_OK : base_fail_nomem(err, "reading a file's header");
}

/* Where the bytes of a file that are here lie; base_free. */
static char *place_of(const hub_pull *p, const hub_file *f) {
    char *named = hub_path(p->snapshot, f->path, NULL), *blob = blob_path(p, f);
    base_buf part = {0};
    if (size_of(named) == f->bytes) return base_free(blob), named;
    base_free(named);
    if (f->whole) return blob;
    base_buf_printf(&part, "%s.incomplete", blob ? blob : "");
    base_free(blob);
    return part.data;
}

static rotor_status head_from_here(const hub_pull *p, const hub_file *f, uint64_t n, base_buf *out,
                                   rotor_error *err) {
    base_file file;
    char *path = place_of(p, f);
    rotor_status st = path ? base_file_open(&file, path, true, err)
                           : base_fail_nomem(err, "reading a file's header");
    if (st == ROTOR_OK) {
        const size_t end = (size_t)BASE_MIN(n, (uint64_t)file.size);
        if (end > out->len) st = to_buf(out, file.data + out->len, end - out->len, err);
        base_file_close(&file);
    }
    base_free(path);
    return st;
}

rotor_status hub_pull_head(hub_pull *p, size_t i, uint64_t n, base_buf *out, rotor_error *err) {
    const hub_file *f = &p->files[i];
    n = BASE_MIN(n, f->bytes);
    /* Another program may have finished it by now, under another name: then the hub is asked. */
    if (f->have > out->len && head_from_here(p, f, BASE_MIN(n, f->have), out, err) == ROTOR_E_NOMEM)
        return ROTOR_E_NOMEM;
    char *url = file_url(p, f);
    rotor_status st = url ? fetch_bytes(p->f, url, out->len, n, to_buf, out, err)
                          : base_fail_nomem(err, "reading a file's header");
    base_free(url);
    if (st == ROTOR_OK) return st;
    base_fail_in(err, st, "%s", f->path);
    return st == ROTOR_E_FULL ? ROTOR_E_FORMAT : st; /* it is not as large as was said */
}

/* ==== One blob ================================================================================ */

typedef struct growing {
    hub_pull *p;         /* whose progress */
    base_part part;      /* the file */
    base_sha256_run sum; /* of what is in it */
} growing;

static rotor_status grow(void *user, const void *bytes, size_t n, rotor_error *err) {
    growing *g = user;
    ROTOR_TRY(base_part_add(&g->part, bytes, n, err));
    base_sha256_add(&g->sum, bytes, n);
    g->p->done += n;
    return ROTOR_OK;
}

/* Begins again with nothing. */
static rotor_status start_over(growing *g, rotor_error *err) {
    g->p->done -= BASE_MIN(g->p->done, g->part.size);
    base_sha256_begin(&g->sum);
    return base_part_cut(&g->part, 0, err);
}

static rotor_status sum_of_beginning(growing *g, rotor_error *err) {
    enum { STEP = 16 << 20 };
    base_file f;
    if (!g->part.size) return ROTOR_OK;
    ROTOR_TRY(base_file_open(&f, g->part.path, true, err));
    rotor_status st = ROTOR_OK;
    for (size_t at = 0; at < f.size && st == ROTOR_OK; at += STEP) {
        base_sha256_add(&g->sum, f.data + at, BASE_MIN(f.size - at, (size_t)STEP));
        if (!go_on(g->p)) st = base_fail(err, ROTOR_E_CANCELLED, "stopped");
    }
    base_file_close(&f);
    return st;
}

static rotor_status check_sum(growing *g, const hub_file *f, rotor_error *err) {
    uint8_t hash[32];
    char hex[SHA256_HEX + 1];
    if (g->part.size != f->bytes)
        return base_fail(err, ROTOR_E_FORMAT, "%llu bytes came, %llu were expected",
                         (unsigned long long)g->part.size, (unsigned long long)f->bytes);
    base_sha256_end(&g->sum, hash);
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    if (!f->hashed || strcmp(hex, f->etag) == 0) return ROTOR_OK;
    base_remove_file(g->part.path, NULL);
    return base_fail(err, ROTOR_E_FORMAT,
                     "wrong bytes: their SHA-256 is %.12s…, %.12s… was expected; they have been "
                     "removed, pull again",
                     hex, f->etag);
}

static rotor_status fill(growing *g, const hub_file *f, rotor_error *err) {
    base_sha256_begin(&g->sum);
    if (g->part.size > f->bytes) ROTOR_TRY(start_over(g, err));
    ROTOR_TRY(sum_of_beginning(g, err));
    char *url = file_url(g->p, f);
    if (!url) return base_fail_nomem(err, "downloading");
    rotor_status st = fetch_bytes(g->p->f, url, g->part.size, f->bytes, grow, g, err);
    if (st == ROTOR_E_FULL && g->part.size) { /* what is here is no beginning of it */
        st = start_over(g, err);
        if (st == ROTOR_OK) st = fetch_bytes(g->p->f, url, 0, f->bytes, grow, g, err);
    }
    base_free(url);
    if (st == ROTOR_OK) st = check_sum(g, f, err);
    return st == ROTOR_OK ? base_part_sync(&g->part, err) : st;
}

static rotor_status grow_blob(hub_pull *p, const hub_file *f, const char *blob, rotor_error *err) {
    growing g = {.p = p, .part = {.fd = -1}};
    base_buf part = {0};
    base_buf_printf(&part, "%s.incomplete", blob);
    rotor_status st =
        part.failed ? base_fail_nomem(err, "downloading") : base_part_open(&g.part, part.data, err);
    if (st == ROTOR_OK) {
        const uint64_t was = f->have, is = BASE_MIN(g.part.size, f->bytes);
        p->done = p->done + is - was; /* another program may have gone on with it */
        st = fill(&g, f, err);
        if (st == ROTOR_OK && !base_part_in_place(&g.part))
            st = base_fail(err, ROTOR_E_STATE,
                           "%s: another program removed it while it grew; pull again", part.data);
        base_part_close(&g.part);
    }
    if (st == ROTOR_OK) st = base_rename(part.data, blob, err);
    base_buf_free(&part);
    return st;
}

/* Waits for another program that downloads the same. */
static rotor_status take_lock(hub_pull *p, const char *path, int *lock, rotor_error *err) {
    for (bool said = false;; said = true) {
        rotor_status st = base_lock_take(lock, path, err);
        if (st != ROTOR_E_STATE) return st;
        if (!said)
            base_log_printf(p->opt.log, BASE_LOG_INFO,
                            "another program is downloading the same file; waiting for it");
        if (!go_on(p)) return base_fail(err, ROTOR_E_CANCELLED, "stopped");
        base_sleep_us(200000);
    }
}

static rotor_status fetch_blob(hub_pull *p, hub_file *f, rotor_error *err) {
    int lock = -1;
    char *folder = hub_folder_of(p->repo), *locks = hub_path(p->root, ".locks", folder);
    char *blob = blob_path(p, f), *lock_path = NULL;
    base_buf name = {0};
    base_buf_printf(&name, "%s.lock", f->etag);
    if (!name.failed) lock_path = hub_path(locks, name.data, NULL);
    rotor_status st =
        folder && blob && lock_path ? base_mkdirs(locks, err) : base_fail_nomem(err, "downloading");
    if (st == ROTOR_OK) st = take_lock(p, lock_path, &lock, err);
    if (st == ROTOR_OK && size_of(blob) != f->bytes) {
        st = grow_blob(p, f, blob, err);
        f->fresh = st == ROTOR_OK;
    }
    if (st == ROTOR_OK) {
        f->have = f->bytes;
        f->whole = true;
    }
    base_lock_drop(&lock);
    base_buf_free(&name);
    base_free(folder);
    base_free(locks);
    base_free(blob);
    base_free(lock_path);
    return st == ROTOR_OK ? st : base_fail_in(err, st, "%s", f->path);
}

/* ==== Installing ============================================================================== */

static rotor_status put_text(const char *path, const char *text, rotor_error *err) {
    base_out o;
    rotor_status st = base_out_open(&o, path, err);
    if (st != ROTOR_OK) return st;
    st = base_out_write(&o, text, strlen(text), err);
    if (st == ROTOR_OK) return base_out_commit(&o, err);
    base_out_abort(&o);
    return st;
}

static rotor_status put_tag(const hub_pull *p, rotor_error *err) {
    char *path = hub_path(p->root, "CACHEDIR.TAG", NULL);
    rotor_status st = path ? ROTOR_OK : base_fail_nomem(err, "downloading");
    if (path && base_path_kind_of(path) == BASE_PATH_NONE)
        st = put_text(path,
                      "Signature: 8a477f597d28d172789f06886806bc55\n"
                      "# This file is a cache directory tag: backups may leave this folder out.\n"
                      "# See https://bford.info/cachedir/\n",
                      err);
    base_free(path);
    return st;
}

static rotor_status make_parent(const char *path, rotor_error *err) {
    char *dir = base_strndup(path, (size_t)(strrchr(path, '/') - path));
    rotor_status st = dir ? base_mkdirs(dir, err) : base_fail_nomem(err, "installing a file");
    base_free(dir);
    return st;
}

static rotor_status copy_file(const char *from, const char *to, rotor_error *err) {
    base_file f;
    base_out o;
    ROTOR_TRY(base_file_open(&f, from, true, err));
    rotor_status st = base_out_open(&o, to, err);
    if (st == ROTOR_OK) {
        st = f.size ? base_out_write(&o, f.data, f.size, err) : ROTOR_OK;
        if (st == ROTOR_OK)
            st = base_out_commit(&o, err);
        else
            base_out_abort(&o);
    }
    base_file_close(&f);
    return st;
}

/* A blob may move to its name if this pull made it and no file behind f has the same bytes: what
 * was there before, names of other snapshots lead to. */
static bool may_move(const hub_pull *p, const hub_file *f) {
    bool fresh = false;
    for (size_t i = 0; i < p->n_files; i++) {
        const hub_file *x = &p->files[i];
        if (strcmp(x->etag, f->etag) != 0) continue;
        if (x > f) return false;
        fresh = fresh || x->fresh;
    }
    return fresh;
}

/* snapshots/COMMIT/a/b points to ../../../blobs/ETAG; without links the file itself is there. */
static rotor_status link_file(hub_pull *p, hub_file *f, rotor_error *err) {
    char *named = hub_path(p->snapshot, f->path, NULL), *blob = blob_path(p, f);
    base_buf text = {0};
    base_buf_puts(&text, "../../");
    for (const char *c = f->path; *c; c++)
        if (*c == '/') base_buf_puts(&text, "../");
    base_buf_printf(&text, "blobs/%s", f->etag);
    rotor_status st =
        named && blob && !text.failed ? ROTOR_OK : base_fail_nomem(err, "installing a file");
    if (st == ROTOR_OK && size_of(named) != f->bytes) {
        st = make_parent(named, err);
        if (st == ROTOR_OK &&
            size_of(blob) != f->bytes) /* moved to another name, as has its twin */
            st = fetch_blob(p, f, err);
        if (st == ROTOR_OK)
            st = p->opt.no_links ? ROTOR_E_UNSUPPORTED : base_symlink(text.data, named, err);
        if (st == ROTOR_E_UNSUPPORTED)
            st = may_move(p, f) ? base_rename(blob, named, err) : copy_file(blob, named, err);
    }
    base_free(named);
    base_free(blob);
    base_buf_free(&text);
    return st;
}

static rotor_status put_ref(const hub_pull *p, rotor_error *err) {
    char *dir = hub_path(p->repo_dir, "refs", NULL), *path = hub_path(dir, "main", NULL);
    rotor_status st = path ? base_mkdirs(dir, err) : base_fail_nomem(err, "installing a file");
    if (st == ROTOR_OK) st = put_text(path, p->commit, err);
    base_free(dir);
    base_free(path);
    return st;
}

rotor_status hub_pull_run(hub_pull *p, rotor_error *err) {
    char *blobs = hub_path(p->repo_dir, "blobs", NULL);
    rotor_status st = blobs ? base_mkdirs(blobs, err) : base_fail_nomem(err, "downloading");
    base_free(blobs);
    if (st == ROTOR_OK) st = put_tag(p, err);
    for (size_t i = 0; i < p->n_files && st == ROTOR_OK; i++)
        if (!p->files[i].whole) st = fetch_blob(p, &p->files[i], err);
    for (size_t i = 0; i < p->n_files && st == ROTOR_OK; i++) st = link_file(p, &p->files[i], err);
    return st == ROTOR_OK ? put_ref(p, err) : st;
}
