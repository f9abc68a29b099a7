/* SPDX-License-Identifier: MIT
 *
 * A moved store (rag_move.h) into this one, all of it or nothing: its bytes are checked first, then
 * everything is written in one transaction. Documents of a file that is here already take the place
 * of its own. Vectors are taken for passages that only the import has: one that is here for another
 * reason, too, is embedded here.
 */
#include "base/part.h"
#include "rag/rag_move.h"

typedef struct importer {
    rag *r;             /* store */
    rag_report *report; /* counts */
    rag_db_file file;   /* the last one */
    const char *path;   /* where it is, borrowed */
    int64_t run;        /* marks its documents */
    int64_t model;      /* vectors are of this one; 0: of another one than the store's */
    rotor_error *err;   /* where messages go */
} importer;

/* The store takes the model over where it has none. A file from elsewhere does not say which server
 * is asked: neither by a place on one nor by a name that reads as one. */
static rotor_status take_model(void *user, const rag_embedder *m) {
    importer *i = user;
    uint8_t print[RAG_HASH];
    rag_facts facts;
    int64_t own;
    ROTOR_TRY(rag_db_get_model(i->r->db, &own, print, i->err));
    if (!own) {
        rag_embedder named = *m;
        if (base_url_is(m->path, "http", "https") || base_url_is(m->name, "http", "https"))
            named.path = "";
        ROTOR_TRY(rag_db_model(i->r->db, &named, &i->model, i->err));
        return rag_db_set_model(i->r->db, i->model, i->err);
    }
    ROTOR_TRY(rag_db_facts(i->r->db, &facts, i->err));
    if (memcmp(print, m->fingerprint, RAG_HASH) == 0 && facts.dims == m->dims) {
        i->model = own;
        return ROTOR_OK;
    }
    base_log_printf(&i->r->log, BASE_LOG_WARN,
                    "%s has vectors of %s: those of %s are left out; rotor rag add makes them",
                    i->r->folder, facts.model, m->name);
    return ROTOR_OK;
}

/* The documents of the file before this one that did not come with it. */
static rotor_status end_file(importer *i) {
    size_t gone;
    if (!i->file.id) return ROTOR_OK;
    return rag_db_drop_stale(i->r->db, i->file.id, i->run, &gone, i->err);
}

static rotor_status take_file(void *user, const char *path, const rag_db_file *f,
                              const char *message) {
    importer *i = user;
    ROTOR_TRY(end_file(i));
    i->file = *f;
    i->report->n_indexed++;
    return rag_db_put_file(i->r->db, path, &i->file, message, i->err);
}

static rotor_status take_document(void *user, rag_document *d) {
    importer *i = user;
    d->row.file = i->file.id;
    return rag_put_document(i->r, d, i->run, i->report, i->err);
}

static rotor_status take_vector(void *user, const uint8_t hash[RAG_HASH], float scale,
                                base_str high, base_str low) {
    importer *i = user;
    bool ours = false;
    if (i->model) ROTOR_TRY(rag_db_is_of_run(i->r->db, hash, i->run, &ours, i->err));
    if (!ours) return ROTOR_OK;
    return rag_db_add_vector(i->r->db, i->model, hash, scale, high, low, i->err);
}

static rotor_status take_all(importer *i, const rag_move_source *from) {
    const rag_move_sink to = {.model = take_model,
                              .file = take_file,
                              .document = take_document,
                              .vector = take_vector,
                              .user = i};
    rag_facts facts;
    rotor_error why = {0};
    ROTOR_TRY(rag_db_begin(i->r->db, i->err));
    const rotor_status st = rag_move_read(from, &to, &why);
    if (st != ROTOR_OK && !i->err->code)
        return base_fail(i->err, st, "%s: %s; nothing of it was taken", i->path, why.message);
    ROTOR_TRY(st);
    ROTOR_TRY(end_file(i));
    ROTOR_TRY(rag_db_sweep(i->r->db, i->err));
    ROTOR_TRY(rag_db_facts(i->r->db, &facts, i->err));
    i->report->n_vectors = facts.n_vectors;
    return rag_db_commit(i->r->db, i->err);
}

static rotor_status read_file(void *user, uint64_t at, void *p, size_t n, rotor_error *err) {
    return base_fd_read(*(const int *)user, at, p, n, err);
}

rotor_status rag_import(rag *r, const char *path, rag_report *report, rotor_error *err) {
    int fd = -1;
    rotor_error own = {0}, why = {0};
    rag_move_source from = {.read = read_file, .user = &fd};
    importer i = {.r = r,
                  .report = report,
                  .path = path,
                  .run = (int64_t)(base_random_seed() >> 1),
                  .err = err ? err : &own};
    memset(report, 0, sizeof *report);
    i.err->code = ROTOR_OK;
    ROTOR_TRY(base_fd_open(&fd, path, &from.n_bytes, i.err));
    rotor_status st = rag_move_check(&from, &why);
    if (st == ROTOR_OK)
        st = take_all(&i, &from);
    else
        base_fail(i.err, st, "%s: %s; nothing of it was taken", path, why.message);
    if (st != ROTOR_OK) rag_db_rollback(r->db);
    base_fd_close(&fd);
    return st;
}
