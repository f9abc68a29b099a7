/* SPDX-License-Identifier: MIT
 *
 * The public face of the rag room, and the engine that makes its vectors.
 */
#include "api/api_internal.h"
#include "api/api_rag.h"
#include "cpu/cpu.h"

#include <math.h>
#include <stdio.h>

rotor_rag_options rotor_rag_options_default(void) {
    return (rotor_rag_options){.size = sizeof(rotor_rag_options)};
}
rotor_rag_add_options rotor_rag_add_options_default(void) {
    return (rotor_rag_add_options){.size = sizeof(rotor_rag_add_options)};
}
rotor_rag_query rotor_rag_query_default(void) {
    return (rotor_rag_query){
        .size = sizeof(rotor_rag_query), .k = 8, .rerank_n = 20, .rerank_ms = 3000};
}

/* ==== Vectors ================================================================================= */

static rotor_embed_text *list_of(const base_str *texts, size_t n, rotor_error *err) {
    rotor_embed_text *list = base_alloc_array(n, sizeof *list);
    if (!list) base_fail_nomem(err, "embedding");
    for (size_t i = 0; list && i < n; i++)
        list[i] = (rotor_embed_text){.text = texts[i].p, .n_bytes = texts[i].n};
    return list;
}

static rotor_status embed(void *user, const base_str *texts, size_t n, float *out,
                          rotor_error *err) {
    rotor_embed_text *list = list_of(texts, n, err);
    if (!list) return ROTOR_E_NOMEM;
    const rotor_status st = rotor_embed(user, list, n, ROTOR_EMBED_TRUNCATE, out, err);
    base_free(list);
    return st;
}

static void hash_tensors(base_buf *out, const file_model *f) {
    for (size_t i = 0; f && i < file_n_tensors(f); i++) {
        const file_tensor *t = file_tensor_at(f, i);
        const uint64_t bytes[2] = {base_hash64(t->data, (size_t)t->bytes, 1),
                                   base_hash64(t->data, (size_t)t->bytes, 2)};
        base_buf_append(out, t->name.p, t->name.n);
        base_buf_append(out, bytes, sizeof bytes);
    }
}

/* all is freed. Of what is not whole there is no fingerprint: it would fit what else is not. */
static rotor_status seal(base_buf *all, uint8_t out[RAG_HASH], rotor_error *err) {
    const bool whole = !all->failed;
    if (whole) base_sha256(all->len ? all->data : "", all->len, out);
    base_buf_free(all);
    return whole ? ROTOR_OK : base_fail_nomem(err, "opening a store");
}

/* Vectors are the same where shape, way of pooling, length and every byte of the weights are. The
 * bytes are hashed in the order of the file, with the names of what they are. Of the length no more
 * counts than a passage can have: the engine's follows the memory that is free. */
static rotor_status fingerprint(const rotor_engine *e, uint8_t out[RAG_HASH], rotor_error *err) {
    base_buf all = {0};
    base_buf_printf(&all, "%s %u %u %u %d", e->m->arch, BASE_MIN(e->n_ctx, 512u),
                    (unsigned)e->pool_in_use, (unsigned)model_vector_width(e->m), e->opt.float_act);
    hash_tensors(&all, e->m->file);
    for (size_t i = 0; i < e->m->n_dense; i++) hash_tensors(&all, e->m->dense_file[i]);
    for (uint32_t id = 0; e->m->vocab && id < text_n_tokens(e->m->vocab); id++) {
        const base_str t = text_token(e->m->vocab, id);
        base_buf_append(&all, t.p, t.n);
        base_buf_append(&all, "", 1);
    }
    return seal(&all, out, err);
}

static rotor_status take_embedder(rotor_rag *r, rotor_engine *e, const char *path,
                                  rotor_error *err) {
    if (!e->opt.embed)
        return base_fail(err, ROTOR_E_STATE,
                         "the embedder was opened to write text; open one with "
                         "embed");
    if (e->pool_in_use == MODEL_POOL_RANK)
        return base_fail(err, ROTOR_E_STATE,
                         "%s is a cross-encoder, which makes no vectors: it is for "
                         "rotor_rag_query.reranker",
                         e->m->name);
    r->name = base_strdup(e->m->name);
    r->path = base_strdup(path ? path : e->m->name);
    if (!r->name || !r->path) return base_fail_nomem(err, "opening a store");
    r->embedder = (rag_embedder){.name = r->name,
                                 .path = r->path,
                                 .dims = model_vector_width(e->m),
                                 .embed = embed,
                                 .user = e};
    return fingerprint(e, r->embedder.fingerprint, err);
}

/* A vector of the caller's, to length one. */
static rotor_status take_unit(const rotor_rag_embedder *e, float *v, rotor_error *err) {
    double sum = 0;
    for (size_t k = 0; k < e->dims; k++) sum += (double)v[k] * v[k];
    if (!(sum > 0) || !isfinite(sum))
        return base_fail(err, ROTOR_E_FORMAT, "%s gives a vector without length", e->name);
    const double scale = 1 / sqrt(sum);
    for (size_t k = 0; k < e->dims; k++) v[k] = (float)(v[k] * scale);
    return ROTOR_OK;
}

static rotor_status embed_by_source(void *user, const base_str *texts, size_t n, float *out,
                                    rotor_error *err) {
    const rotor_rag_embedder *e = user;
    rotor_embed_text *list = list_of(texts, n, err);
    if (!list) return ROTOR_E_NOMEM;
    rotor_status st = e->embed(e->user, list, n, out, err);
    for (size_t i = 0; st == ROTOR_OK && i < n; i++) st = take_unit(e, out + i * e->dims, err);
    base_free(list);
    return st;
}

/* Of a model that is elsewhere nothing can be hashed but what it is called. */
static rotor_status fingerprint_of_name(const rotor_rag_embedder *e, uint8_t out[RAG_HASH],
                                        rotor_error *err) {
    base_buf all = {0};
    base_buf_printf(&all, "by name %s %u", e->name, e->dims);
    return seal(&all, out, err);
}

static rotor_status take_source(rotor_rag *r, const rotor_rag_embedder *user, rotor_error *err) {
    rotor_rag_embedder *e = &r->source;
    *e = (rotor_rag_embedder){.size = sizeof *e};
    ROTOR_TRY(api_take_options(e, sizeof *e, user, "rotor_rag_embedder", err));
    if (r->opt.embedder || !e->embed || !e->name || !*e->name || !e->dims || e->dims > 1 << 16)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_rag_embedder: %u floats: expected 1 to 65,536 with name and embed, "
                         "and no engine beside it",
                         e->dims);
    r->name = base_strdup(e->name);
    r->path = base_strdup(e->place ? e->place : e->name);
    if (!r->name || !r->path) return base_fail_nomem(err, "opening a store");
    e->name = r->name;
    r->embedder = (rag_embedder){
        .name = r->name, .path = r->path, .dims = e->dims, .embed = embed_by_source, .user = e};
    return fingerprint_of_name(e, r->embedder.fingerprint, err);
}

/* ==== Opening ================================================================================= */

static void say(void *user, base_log_level level, const char *line) {
    const rotor_rag *r = user;
    r->opt.log(r->opt.log_user, (int)level, line);
}

/* A store that is shared is opened like one to read, after it was made or brought up to date by a
 * writer, where no other program is one just now. */
static rotor_status bring_up(const char *folder, rag_options *o, rotor_error *err) {
    rag *first = NULL;
    rotor_error why = {0};
    const rotor_status st = rag_open(&first, folder, o, &why);
    rag_close(&first);
    o->create = o->write = false;
    return st == ROTOR_OK || st == ROTOR_E_STATE ? ROTOR_OK : base_fail(err, st, "%s", why.message);
}

rotor_status rotor_rag_open(rotor_rag **out, const char *folder, const rotor_rag_options *user,
                            rotor_error *err) {
    rotor_rag_options opt = rotor_rag_options_default();
    unsigned mask = UINT32_MAX;
    if (!out || !folder || !*folder)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_open: a required argument is missing");
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_rag_options", err));
    if (opt.cpu) ROTOR_TRY(cpu_parse_mask(opt.cpu, &mask, err));
    rotor_rag *r = base_alloc(sizeof *r);
    if (!r) return base_fail_nomem(err, "opening a store");
    r->opt = opt;
    rag_options o = {.create = opt.create,
                     .write = opt.write || opt.share,
                     .cpu = cpu_detect() & mask,
                     .extract = opt.extract,
                     .patience = {opt.go_on, opt.go_on_user}};
    if (opt.log) o.log = (base_log){say, r};
    r->label = opt.label ? base_strdup(opt.label) : base_last_part(folder);
    rotor_status st = r->label ? ROTOR_OK : base_fail_nomem(err, "opening a store");
    if (st == ROTOR_OK && opt.embedder) st = take_embedder(r, opt.embedder, opt.embedder_path, err);
    if (st == ROTOR_OK && opt.source) st = take_source(r, opt.source, err);
    if (r->embedder.embed) o.embedder = &r->embedder;
    if (st == ROTOR_OK && opt.share) st = bring_up(folder, &o, err);
    if (st == ROTOR_OK) st = rag_open(&r->r, folder, &o, err);
    if (st != ROTOR_OK)
        rotor_rag_close(&r);
    else
        *out = r;
    return st;
}

void rotor_rag_close(rotor_rag **p) {
    if (!p || !*p) return;
    rotor_rag *r = *p;
    rag_close(&r->r);
    base_free(r->name);
    base_free(r->path);
    base_free(r->label);
    base_free(r);
    *p = NULL;
}

rotor_status rotor_rag_get_info(rotor_rag *r, rotor_rag_info *user, rotor_error *err) {
    rag_facts f;
    if (!r || !user || user->size < sizeof user->size)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_get_info: a required argument is missing");
    ROTOR_TRY(rag_get_facts(r->r, &f, err));
    rotor_rag_info info = {.size = user->size,
                           .dims = (uint32_t)f.dims,
                           .n_files = f.n_files,
                           .n_docs = f.n_docs,
                           .n_chunks = f.n_chunks,
                           .n_vectors = f.n_vectors,
                           .n_failed = f.n_failed,
                           .db_bytes = f.db_bytes};
    memcpy(info.model, f.model, sizeof info.model);
    memcpy(info.model_path, f.model_path, sizeof info.model_path);
    memcpy(user, &info, BASE_MIN((size_t)user->size, sizeof info));
    return ROTOR_OK;
}

/* ==== Adding and removing ===================================================================== */

/* A store remembers them a line each. */
static rotor_status check_globs(const char *const *globs, size_t n, rotor_error *err) {
    for (size_t i = 0; i < n; i++)
        if (strchr(globs[i], '\n'))
            return base_fail(err, ROTOR_E_ARG, "a glob has a line end in it: expected one line");
    return ROTOR_OK;
}

static rotor_status add_options(rag_add_options *o, const rotor_rag_add_options *user,
                                rotor_error *err) {
    rotor_rag_add_options opt = rotor_rag_add_options_default();
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_rag_add_options", err));
    ROTOR_TRY(check_globs(opt.include, opt.n_include, err));
    ROTOR_TRY(check_globs(opt.exclude, opt.n_exclude, err));
    *o = (rag_add_options){.include = opt.include,
                           .n_include = opt.n_include,
                           .exclude = opt.exclude,
                           .n_exclude = opt.n_exclude,
                           .confirm_deletes = opt.confirm_deletes,
                           .progress = opt.progress,
                           .user = opt.user};
    return ROTOR_OK;
}

static void give_report(rotor_rag_report *to, const rag_report *r) {
    if (!to) return;
    *to = (rotor_rag_report){.n_seen = r->n_seen,
                             .n_unchanged = r->n_unchanged,
                             .n_indexed = r->n_indexed,
                             .n_skipped = r->n_skipped,
                             .n_failed = r->n_failed,
                             .n_gone = r->n_gone,
                             .n_docs = r->n_docs,
                             .n_chunks = r->n_chunks,
                             .n_vectors = r->n_vectors};
}

static rotor_status may_write(const rotor_rag *r, const char *what, rotor_error *err) {
    if (r && (r->opt.write || r->opt.share)) return ROTOR_OK;
    return base_fail(err, r ? ROTOR_E_STATE : ROTOR_E_ARG,
                     "%s: the store was not opened to be "
                     "changed (write)",
                     what);
}

/* For work that goes on for long, with the lock from the opening to the end. */
static rotor_status may_write_alone(const rotor_rag *r, const char *what, rotor_error *err) {
    ROTOR_TRY(may_write(r, what, err));
    return r->opt.share
               ? base_fail(err, ROTOR_E_STATE, "%s: the store was opened to be shared", what)
               : ROTOR_OK;
}

/* Takes the lock of a store that is shared, until end_write. */
static rotor_status begin_write(rotor_rag *r, const char *what, rotor_error *err) {
    ROTOR_TRY(may_write(r, what, err));
    return r->opt.share ? rag_hold(r->r, err) : ROTOR_OK;
}

static rotor_status end_write(rotor_rag *r, rotor_status st) {
    if (r->opt.share) rag_let_go(r->r);
    return st;
}

rotor_status rotor_rag_add(rotor_rag *r, const char *const *paths, size_t n_paths,
                           const rotor_rag_add_options *opt, rotor_rag_report *report,
                           rotor_error *err) {
    rag_add_options o;
    rag_report done;
    ROTOR_TRY(may_write_alone(r, "rotor_rag_add", err));
    ROTOR_TRY(add_options(&o, opt, err));
    const rotor_status st = rag_add(r->r, paths, n_paths, &o, &done, err);
    give_report(report, &done);
    return st;
}

typedef struct follower {
    rotor_rag_watch_options opt; /* the caller's */
} follower;

static bool go_on(void *user) {
    const follower *f = user;
    return !f->opt.go_on || f->opt.go_on(f->opt.user);
}

static void pass_on(void *user, rag_change what, const char *path, const char *more) {
    const follower *f = user;
    if (f->opt.change) f->opt.change(f->opt.user, (rotor_rag_change)what, path, more);
}

rotor_status rotor_rag_watch(rotor_rag *r, const char *const *folders, size_t n,
                             const rotor_rag_watch_options *user, rotor_error *err) {
    follower f = {.opt.size = sizeof f.opt};
    rag_watch_options o = {.go_on = go_on};
    ROTOR_TRY(may_write_alone(r, "rotor_rag_watch", err));
    ROTOR_TRY(api_take_options(&f.opt, sizeof f.opt, user, "rotor_rag_watch_options", err));
    ROTOR_TRY(add_options(&o.add, f.opt.add, err));
    o.add.progress = NULL;
    o.add.change = pass_on;
    o.add.user = &f;
    o.quiet_ms = f.opt.quiet_ms;
    o.gone_ms = f.opt.gone_ms;
    o.rescan_s = f.opt.rescan_s;
    return rag_watch(r->r, folders, n, &o, err);
}

rotor_status rotor_rag_reembed(rotor_rag *r, const rotor_rag_add_options *opt,
                               rotor_rag_report *report, rotor_error *err) {
    rag_add_options o;
    rag_report done;
    ROTOR_TRY(may_write_alone(r, "rotor_rag_reembed", err));
    if (!r->embedder.embed)
        return base_fail(err, ROTOR_E_STATE, "rotor_rag_reembed: the store has no embedder");
    ROTOR_TRY(add_options(&o, opt, err));
    const rotor_status st = rag_reembed(r->r, &o, &done, err);
    give_report(report, &done);
    return st;
}

rotor_status rotor_rag_remove(rotor_rag *r, const char *const *what, size_t n, uint64_t *n_removed,
                              rotor_error *err) {
    size_t removed = 0;
    ROTOR_TRY(begin_write(r, "rotor_rag_remove", err));
    const rotor_status st =
        n ? rag_remove(r->r, what, n, &removed, err) : rag_remove_all(r->r, &removed, err);
    if (st == ROTOR_OK && n_removed) *n_removed = removed;
    return end_write(r, st);
}

rotor_status rotor_rag_note(rotor_rag *r, const char *title, const char *text, size_t n_bytes,
                            char *path, rotor_rag_report *report, rotor_error *err) {
    rag_report done = {0};
    char whole[RAG_NOTE_PATH] = "";
    if (!path || (!text && n_bytes))
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_note: a required argument is missing");
    ROTOR_TRY(begin_write(r, "rotor_rag_note", err));
    const rotor_status st = rag_note(r->r, title, (base_str){text, n_bytes}, whole, &done, err);
    memcpy(path, whole, ROTOR_RAG_NOTE_PATH); /* of digits: no longer than that */
    give_report(report, &done);
    return end_write(r, st);
}

rotor_status rotor_rag_put(rotor_rag *r, const rotor_rag_text *user, rotor_rag_put_result *out,
                           rotor_error *err) {
    rotor_rag_text t = {.size = sizeof t};
    rag_put_report done;
    if (!user || (out && out->size < sizeof out->size))
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_put: a required argument is missing");
    ROTOR_TRY(api_take_options(&t, sizeof t, user, "rotor_rag_text", err));
    if (!t.text && t.n_bytes)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_put: a required argument is missing");
    const rag_text text = {.id = t.id,
                           .title = t.title,
                           .text = {t.text, t.n_bytes},
                           .plain = t.plain,
                           .meta = t.meta};
    ROTOR_TRY(begin_write(r, "rotor_rag_put", err));
    const rotor_status st = rag_put(r->r, &text, &done, err);
    rotor_rag_put_result result = {.size = out ? out->size : 0,
                                   .replaced = done.replaced,
                                   .unchanged = done.unchanged,
                                   .n_chunks = done.n_chunks,
                                   .n_pending = done.n_pending};
    memcpy(result.path, done.path, sizeof done.path);
    if (st == ROTOR_OK && out) memcpy(out, &result, BASE_MIN((size_t)out->size, sizeof result));
    return end_write(r, st);
}

rotor_status rotor_rag_take_out(rotor_rag *r, const char *id, rotor_error *err) {
    if (!id)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_take_out: a required argument is missing");
    ROTOR_TRY(begin_write(r, "rotor_rag_take_out", err));
    return end_write(r, rag_take_out(r->r, id, err));
}

/* That another writes passes, another model does not: they are told apart before the lock is. */
static rotor_status has_our_model(rotor_rag *r, rotor_error *err) {
    int64_t id;
    const rotor_status st = rag_check_model(r->r, &id, err);
    if (st != ROTOR_E_STATE) return st;
    err->code = ROTOR_E_UNSUPPORTED;
    return ROTOR_E_UNSUPPORTED;
}

/* Once through all passages, and once more from the first before nothing is said to be left. */
rotor_status rotor_rag_embed(rotor_rag *r, uint32_t most, uint64_t *n_made, rotor_error *err) {
    size_t n = 0;
    rotor_error own = {0};
    if (!err) err = &own;
    ROTOR_TRY(may_write(r, "rotor_rag_embed", err));
    ROTOR_TRY(has_our_model(r, err));
    const int64_t from = r->embedded;
    rotor_status st = rag_embed_some(r->r, most, &r->embedded, &n, err);
    if (st == ROTOR_OK && !n && from) st = rag_embed_some(r->r, most, &r->embedded, &n, err);
    if (st != ROTOR_OK) r->embedded = 0;
    if (st == ROTOR_OK && n_made) *n_made = n;
    return st;
}

rotor_status rotor_rag_export(rotor_rag *r, const char *path, rotor_rag_report *report,
                              rotor_error *err) {
    rag_report done;
    if (!r || !path)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_export: a required argument is missing");
    const rotor_status st = rag_export(r->r, path, &done, err);
    give_report(report, &done);
    return st;
}

rotor_status rotor_rag_import(rotor_rag *r, const char *path, rotor_rag_report *report,
                              rotor_error *err) {
    rag_report done;
    ROTOR_TRY(may_write_alone(r, "rotor_rag_import", err));
    if (!path)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_import: a required argument is missing");
    const rotor_status st = rag_import(r->r, path, &done, err);
    give_report(report, &done);
    return st;
}

rotor_status rotor_rag_gc(rotor_rag *r, rotor_rag_gc_report *report, rotor_error *err) {
    rag_gc_report done;
    ROTOR_TRY(may_write_alone(r, "rotor_rag_gc", err));
    const rotor_status st = rag_gc(r->r, &done, err);
    if (report)
        *report = (rotor_rag_gc_report){.n_vectors = done.n_vectors,
                                        .before_bytes = done.before_bytes,
                                        .after_bytes = done.after_bytes};
    return st;
}

rotor_status rotor_rag_verify(rotor_rag *r, rotor_error *err) {
    if (!r) return base_fail(err, ROTOR_E_ARG, "rotor_rag_verify: a required argument is missing");
    return rag_verify(r->r, err);
}

typedef struct lister {
    bool (*fn)(void *user, const rotor_rag_file *f); /* the caller's */
    void *user;                                      /* of fn */
} lister;

static bool list_one(void *user, const rag_file *f) {
    const lister *l = user;
    const rotor_rag_file file = {.path = f->path,
                                 .status = f->status,
                                 .message = f->message,
                                 .n_docs = f->n_docs,
                                 .n_chunks = f->n_chunks,
                                 .bytes = f->size,
                                 .row = f->id};
    return l->fn(l->user, &file);
}

rotor_status rotor_rag_list(rotor_rag *r, bool (*fn)(void *user, const rotor_rag_file *f),
                            void *user, rotor_error *err) {
    lister l = {fn, user};
    if (!r || !fn)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_list: a required argument is missing");
    return rag_list(r->r, -1, list_one, &l, err);
}

rotor_status rotor_rag_list_after(rotor_rag *r, int64_t after,
                                  bool (*fn)(void *user, const rotor_rag_file *f), void *user,
                                  rotor_error *err) {
    lister l = {fn, user};
    if (!r || !fn || after < 0)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_list_after: a required argument is missing");
    return rag_list(r->r, after, list_one, &l, err);
}

/* ==== Searching =============================================================================== */

rotor_status api_take_stores(rag **list, rotor_rag *const *stores, size_t n, const char *who,
                             rotor_error *err) {
    if (!stores || !n || n > RAG_MAX_STORES)
        return base_fail(err, ROTOR_E_ARG, "%s: %zu stores: expected 1 to %d", who, n,
                         RAG_MAX_STORES);
    for (size_t i = 0; i < n; i++) {
        if (!stores[i])
            return base_fail(err, ROTOR_E_ARG, "%s: a required argument is missing", who);
        list[i] = stores[i]->r;
    }
    return ROTOR_OK;
}

void api_give_hit(rotor_rag_hit *to, const rag_hit *h, rotor_rag *const *stores) {
    *to = (rotor_rag_hit){.store = stores[h->store]->label,
                          .path = h->path,
                          .id = h->id,
                          .title = h->title,
                          .heading = h->heading,
                          .text = h->text,
                          .begin = h->begin,
                          .end = h->end,
                          .line = h->line,
                          .last_line = h->last_line,
                          .page = h->page,
                          .last_page = h->last_page,
                          .score = h->score,
                          .bm25 = h->bm25,
                          .cosine = h->cosine,
                          .rank_lex = h->rank_lex,
                          .rank_vec = h->rank_vec,
                          .rerank = h->rerank,
                          .fused = h->fused,
                          .reranked = h->reranked};
}

static rotor_status give_hits(rotor_rag_hits *out, rag_hits *h, rotor_rag *const *stores,
                              rotor_error *err) {
    *out = (rotor_rag_hits){.hits = base_alloc_array(h->n + 1, sizeof *out->hits),
                            .n = h->n,
                            .best_cosine = h->best_cosine,
                            .coverage = h->coverage,
                            .match = h->match,
                            .lexical_only = h->lexical_only,
                            .relevant = h->relevant,
                            .pending = h->pending,
                            .embed_us = h->embed_us,
                            .lex_us = h->lex_us,
                            .vec_us = h->vec_us,
                            .fuse_us = h->fuse_us,
                            .rerank_us = h->rerank_us,
                            .rerank_failed = h->rerank_failed,
                            .inside = base_alloc(sizeof *h)};
    if (!out->hits || !out->inside) {
        base_free(out->hits);
        base_free(out->inside);
        rag_hits_free(h);
        return base_fail_nomem(err, "searching");
    }
    memcpy(out->inside, h, sizeof *h);
    for (size_t i = 0; i < h->n; i++) api_give_hit(&out->hits[i], &h->hits[i], stores);
    return ROTOR_OK;
}

static rotor_status score(void *user, base_str query, const base_str *texts, size_t n,
                          float *scores, rotor_error *err) {
    const rotor_embed_text asked = {.text = query.p, .n_bytes = query.n};
    rotor_embed_text *list = base_alloc_array(n, sizeof *list);
    if (!list) return base_fail_nomem(err, "reranking");
    for (size_t i = 0; i < n; i++)
        list[i] = (rotor_embed_text){.text = texts[i].p, .n_bytes = texts[i].n};
    const rotor_status st = rotor_rerank(user, &asked, list, n, scores, err);
    base_free(list);
    return st;
}

/* e NULL: none. */
static rotor_status take_reranker(rag_reranker *out, rotor_engine *e, uint32_t n, uint32_t ms,
                                  const char *who, rotor_error *err) {
    if (n > RAG_MAX_RERANK)
        return base_fail(err, ROTOR_E_ARG, "%s: rerank_n is %u, expected at most %d", who, n,
                         RAG_MAX_RERANK);
    if (e && e->pool_in_use != MODEL_POOL_RANK)
        return base_fail(err, ROTOR_E_ARG,
                         "%s: %s cannot rerank: it is no cross-encoder, opened with embed", who,
                         e->m->name);
    if (e)
        *out = (rag_reranker){.name = e->m->name,
                              .most = n,
                              .limit_us = 1000 * (uint64_t)ms,
                              .score = score,
                              .user = e};
    return ROTOR_OK;
}

rotor_status api_take_query(rag_query *q, const rotor_rag_query *user, rotor_error *err) {
    rotor_rag_query opt = rotor_rag_query_default();
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_rag_query", err));
    *q = (rag_query){.mode = (rag_mode)opt.mode,
                     .fusion = (rag_fusion)opt.fusion,
                     .k = opt.k,
                     .filter = opt.filter,
                     .n_filter = opt.n_filter,
                     .plain = opt.plain};
    return take_reranker(&q->reranker, opt.reranker, opt.rerank_n, opt.rerank_ms, "rotor_rag_query",
                         err);
}

rotor_status rotor_rag_search_all(rotor_rag *const *stores, size_t n, const char *query,
                                  const rotor_rag_query *user, rotor_rag_hits *out,
                                  rotor_error *err) {
    rag *list[RAG_MAX_STORES];
    rag_query q;
    rag_hits h;
    if (!query || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_search: a required argument is missing");
    ROTOR_TRY(api_take_stores(list, stores, n, "rotor_rag_search", err));
    ROTOR_TRY(api_take_query(&q, user, err));
    ROTOR_TRY(rag_search_all(list, n, base_str_of(query), &q, &h, err));
    return give_hits(out, &h, stores, err);
}

rotor_status rotor_rag_search(rotor_rag *r, const char *query, const rotor_rag_query *opt,
                              rotor_rag_hits *out, rotor_error *err) {
    return rotor_rag_search_all(&r, 1, query, opt, out, err);
}

void rotor_rag_hits_free(rotor_rag_hits *h) {
    if (!h) return;
    if (h->inside) rag_hits_free(h->inside);
    base_free(h->inside);
    base_free(h->hits);
    memset(h, 0, sizeof *h);
}

/* "name:5-7", "name page 3", "name id"; to out[cap] like snprintf. */
size_t rotor_rag_place(const rotor_rag_hit *h, char *out, size_t cap) {
    const char *kind = h->page ? " page " : ":";
    const unsigned from = h->page ? h->page : h->line, to = h->page ? h->last_page : h->last_line;
    int n;
    if (h->id[0] || !from)
        n = snprintf(out, cap, "%s%s%s", h->path, h->id[0] ? " " : "", h->id);
    else if (to > from)
        n = snprintf(out, cap, "%s%s%u-%u", h->path, kind, from, to);
    else
        n = snprintf(out, cap, "%s%s%u", h->path, kind, from);
    for (char *c = out; cap && *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    return n > 0 ? (size_t)n : 0;
}

rotor_status rotor_rag_eval(rotor_rag *r, const rotor_rag_eval_options *user, rotor_rag_scores *out,
                            rotor_error *err) {
    rotor_rag_eval_options opt = {.size = sizeof opt};
    rag_scores s;
    if (!r || !user || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_eval: a required argument is missing");
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_rag_eval_options", err));
    if (!opt.queries || !opt.qrels)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_eval: queries or qrels is missing");
    rag_eval_options o = {.queries = opt.queries,
                          .qrels = opt.qrels,
                          .run = opt.run,
                          .mode = (rag_mode)opt.mode,
                          .fusion = (rag_fusion)opt.fusion,
                          .chunked = opt.chunked || opt.reranker,
                          .refuse = opt.refuse};
    ROTOR_TRY(take_reranker(&o.reranker, opt.reranker,
                            opt.rerank_n ? opt.rerank_n : rotor_rag_query_default().rerank_n,
                            opt.rerank_ms, "rotor_rag_eval", err));
    ROTOR_TRY(rag_eval(r->r, &o, &s, err));
    *out = (rotor_rag_scores){.ndcg10 = s.ndcg10,
                              .recall100 = s.recall100,
                              .mrr10 = s.mrr10,
                              .recall10 = s.recall10,
                              .refused = s.refused,
                              .refused_strangers = s.refused_strangers,
                              .n_strangers = s.n_strangers,
                              .map100 = s.map100,
                              .n_queries = s.n_queries,
                              .query_us = s.query_us,
                              .worst_us = s.worst_us,
                              .lex_us = s.lex_us,
                              .vec_us = s.vec_us};
    return ROTOR_OK;
}

/* ==== Measuring =============================================================================== */

rotor_rag_bench_options rotor_rag_bench_options_default(void) {
    return (rotor_rag_bench_options){.size = sizeof(rotor_rag_bench_options),
                                     .n_passages = 100000,
                                     .dims = 384,
                                     .n_questions = 100};
}

static rotor_rag_bench_times give_times(rag_bench_times t) {
    return (rotor_rag_bench_times){t.median_us, t.p95_us};
}

rotor_status rotor_rag_bench(const rotor_rag_bench_options *user, rotor_rag_bench_result *out,
                             rotor_error *err) {
    rotor_rag_bench_options opt = rotor_rag_bench_options_default();
    unsigned mask = UINT32_MAX;
    rag_bench_result r;
    if (!out) return base_fail(err, ROTOR_E_ARG, "rotor_rag_bench: a required argument is missing");
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_rag_bench_options", err));
    if (!opt.n_passages || !opt.dims || !opt.n_questions || opt.n_passages > 100000000 ||
        opt.dims > 1 << 16 || opt.n_questions > 100000)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_rag_bench: %u passages of %u floats, %u questions: expected 1 to "
                         "100,000,000, 1 to 65,536, 1 to 100,000",
                         opt.n_passages, opt.dims, opt.n_questions);
    if (opt.cpu) ROTOR_TRY(cpu_parse_mask(opt.cpu, &mask, err));
    const rag_bench_options o = {.n_passages = opt.n_passages,
                                 .dims = opt.dims,
                                 .n_questions = opt.n_questions,
                                 .seed = opt.seed,
                                 .cpu = cpu_detect() & mask};
    ROTOR_TRY(rag_bench(&o, &r, err));
    *out = (rotor_rag_bench_result){.vector = give_times(r.vector),
                                    .words = give_times(r.words),
                                    .hybrid = give_times(r.hybrid),
                                    .whole = give_times(r.whole),
                                    .read_us = r.read_us,
                                    .recall10 = r.recall10,
                                    .scored = r.scored};
    return ROTOR_OK;
}
