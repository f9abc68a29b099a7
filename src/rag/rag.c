/* SPDX-License-Identifier: MIT
 *
 * A store as a whole: opening, what it holds, keeping what searches use as new as the database.
 */
#include "rag/rag.h"
#include "rag/rag_internal.h"

rotor_status rag_open(rag **out, const char *folder, const rag_options *opt, rotor_error *err) {
    rag *r = base_alloc(sizeof *r);
    if (!r) return base_fail_nomem(err, "opening a store");
    r->log = opt->log;
    if (opt->embedder) r->embedder = *opt->embedder;
    r->extract = opt->extract ? base_strdup(opt->extract) : NULL;
    kern_init(&r->k, opt->cpu);
    const bool server = rag_db_is_server(folder);
    r->folder = server ? base_url_without_password(folder) : base_strdup(folder);
    rotor_status st = r->folder && (r->extract || !opt->extract)
                          ? rag_db_open(&r->db, folder, opt, err)
                          : base_fail_nomem(err, "opening a store");
    if (st == ROTOR_OK) r->place = server ? base_strdup(r->folder) : base_path_absolute(folder);
    if (st == ROTOR_OK && !r->place) st = base_fail_nomem(err, "opening a store");
    if (st != ROTOR_OK)
        rag_close(&r);
    else
        *out = r;
    return st;
}

static void forget_room(rag *r) {
    base_free(r->acc);
    base_free(r->touched);
    base_free(r->near);
    r->acc = NULL;
    r->touched = NULL;
    r->near = NULL;
}

static void forget_index(rag *r) {
    if (r->loaded) rag_index_free(&r->x);
    forget_room(r);
    r->loaded = false;
}

void rag_close(rag **p) {
    rag *r = *p;
    if (!r) return;
    forget_index(r);
    rag_db_close(&r->db);
    base_free(r->folder);
    base_free(r->place);
    base_free(r->extract);
    base_free(r);
    *p = NULL;
}

rotor_status rag_hold(rag *r, rotor_error *err) { return rag_db_resume(r->db, err); }
void rag_let_go(rag *r) { rag_db_rest(r->db); }

rotor_status rag_get_facts(rag *r, rag_facts *facts, rotor_error *err) {
    return rag_db_facts(r->db, facts, err);
}

rotor_status rag_verify(rag *r, rotor_error *err) { return rag_db_check(r->db, true, err); }

/* Scratch of the searches. Documents without a passage are counted too: there may be more of them.
 */
rotor_status rag_make_room(rag *r, rotor_error *err) {
    const size_t units = BASE_MAX(BASE_MAX(r->x.n_chunks, r->x.n_docs), (size_t)1);
    forget_room(r);
    r->acc = base_alloc_array(units, sizeof *r->acc);
    r->touched = base_alloc_array(units, sizeof *r->touched);
    r->near = r->x.coarse ? base_alloc_array(units, sizeof *r->near) : NULL;
    if (r->acc && r->touched && (r->near || !r->x.coarse)) return ROTOR_OK;
    return base_fail_nomem(err, "reading a store");
}

/* From what was there if that will do, else all of it. */
static rotor_status renew_index(rag *r, bool few, rotor_error *err) {
    bool done = false;
    rotor_error own = {0}; /* what following failed of is no matter: all of it is read then */
    if (r->loaded && !r->loose && !r->x.few &&
        rag_index_follow(&r->x, r->db, &done, &own) != ROTOR_OK)
        done = false;
    if (done) return ROTOR_OK;
    forget_index(r);
    ROTOR_TRY(few ? rag_index_load_few(&r->x, r->db, err) : rag_index_load(&r->x, r->db, err));
    r->loaded = true;
    return ROTOR_OK;
}

static rotor_status sync(rag *r, bool few, rotor_error *err) {
    int64_t version;
    ROTOR_TRY(rag_db_version(r->db, &version, err));
    const bool kept = rag_db_in_change(r->db) || !r->loose; /* what it was read of */
    if (r->loaded && version == r->version && kept)
        return r->x.few && !few ? rag_near_rest(r, err) : ROTOR_OK;
    rotor_status st = renew_index(r, few, err);
    if (st == ROTOR_OK) st = rag_make_room(r, err);
    if (st != ROTOR_OK) forget_index(r);
    r->version = version;
    r->loose = rag_db_in_change(r->db);
    return st;
}

rotor_status rag_sync(rag *r, rotor_error *err) { return sync(r, false, err); }

rotor_status rag_sync_to_ask(rag *r, rotor_error *err) {
    const bool few = !r->asked && !rag_db_in_change(r->db);
    r->asked = true;
    return sync(r, few, err);
}

rotor_status rag_check_model(rag *r, int64_t *model, rotor_error *err) {
    uint8_t print[RAG_HASH];
    rag_facts facts;
    ROTOR_TRY(rag_db_get_model(r->db, model, print, err));
    if (!*model || !r->embedder.embed) return ROTOR_OK;
    if (memcmp(print, r->embedder.fingerprint, RAG_HASH) == 0) return ROTOR_OK;
    ROTOR_TRY(rag_db_facts(r->db, &facts, err));
    return base_fail(err, ROTOR_E_STATE,
                     "%s holds vectors of %s, and %s gives others; rotor rag reembed %s "
                     "--embed-model %s makes them anew",
                     r->folder, facts.model, r->embedder.name, r->folder, r->embedder.path);
}

/* ==== Listing ================================================================================= */

typedef struct lister {
    bool (*fn)(void *user, const rag_file *f); /* takes files; false ends it */
    void *user;                                /* of fn */
    bool stop;                                 /* it has ended */
} lister;

static rotor_status list_one(void *user, int64_t id, const rag_file *f) {
    lister *l = user;
    (void)id;
    l->stop = !l->fn(l->user, f);
    return l->stop ? ROTOR_E_CANCELLED : ROTOR_OK;
}

rotor_status rag_list(rag *r, int64_t after, bool (*fn)(void *user, const rag_file *f), void *user,
                      rotor_error *err) {
    lister l = {.fn = fn, .user = user};
    const rotor_status st = rag_db_each_file(r->db, after, list_one, &l, err);
    return l.stop ? ROTOR_OK : st;
}
