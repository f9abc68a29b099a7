/* SPDX-License-Identifier: MIT
 *
 * An index kept as new as its database without reading all of it again. Passages never change and
 * numbers are never given twice, so that the ids alone say what stayed: of that, everything is
 * copied from the old index to its new place; only what is new is read.
 *
 * Nothing is marked as gone and nothing is left to be tidied later: the new arrays are, byte for
 * byte, those that rag_index_load would make of the database as it is. Names of documents are read
 * anew, since a file may have moved.
 */
#include "rag/rag_index.h"

enum { GONE = UINT32_MAX, PART = 4 }; /* follow while at most one passage in PART is new */

typedef struct follower {
    const rag_index *old;   /* as it was */
    rag_index x;            /* as it will be */
    rag_loader docs, fresh; /* fill x: documents and places; words of what is new */
    uint32_t *moved;        /* [old->n_chunks] new slot, or GONE */
    uint32_t *was;          /* [x.n_chunks] old slot, or GONE */
    size_t cap_was;         /* allocated */
    size_t n_new;           /* passages that are */
    int64_t newest;         /* the largest id of old */
    size_t old_doc;         /* documents of old that were passed */
    size_t old_slot;        /* slot of old to look at, in the document before old_doc … */
    size_t old_end;         /* … and where it ends */
    int64_t doc;            /* whose passages come */
    rag_index words;        /* postings of what is new, nothing else */
    rotor_error *err;       /* where messages go */
    rag_db *db;             /* borrowed */
} follower;

/* ==== What stayed ============================================================================= */

static void next_doc(follower *f, int64_t id) {
    const rag_index *o = f->old;
    f->doc = id;
    f->old_slot = f->old_end = 0;
    while (f->old_doc < o->n_docs && o->docs[f->old_doc].id < id) f->old_doc++;
    if (f->old_doc == o->n_docs || o->docs[f->old_doc].id != id) return;
    f->old_slot = o->docs[f->old_doc].first;
    f->old_end = f->old_slot + o->docs[f->old_doc].n;
}

/* The passage's slot in the old index. Those of one document that stayed kept their order. */
static uint32_t old_place(follower *f, const rag_db_chunk *c) {
    if (c->doc != f->doc) next_doc(f, c->doc);
    if (c->id > f->newest) return GONE;
    while (f->old_slot < f->old_end && f->old->chunk[f->old_slot] != c->id) f->old_slot++;
    return f->old_slot < f->old_end ? (uint32_t)f->old_slot++ : GONE;
}

static rotor_status take_place(void *user, const rag_db_chunk *c) {
    follower *f = user;
    const size_t slot = f->x.n_chunks;
    if (slot == f->cap_was) {
        f->cap_was = f->cap_was * 2 + 256;
        uint32_t *more = base_realloc(f->was, f->cap_was * sizeof *more);
        if (!more) return base_fail_nomem(f->err, "reading a store");
        f->was = more;
    }
    const uint32_t was = old_place(f, c);
    f->was[slot] = was;
    if (was != GONE) f->moved[was] = (uint32_t)slot;
    f->n_new += was == GONE;
    return rag_load_place(&f->docs, c);
}

static rotor_status take_words(void *user, const rag_db_chunk *c) {
    follower *f = user;
    f->x.length[f->fresh.next] = (float)c->n_words;
    return rag_load_packed(&f->fresh, (uint32_t)f->fresh.next, c->terms);
}

/* Passages by place, lengths, and the packed words of those that are new. */
static rotor_status follow_places(follower *f, bool *done) {
    const rag_index *o = f->old;
    f->moved = base_alloc_array(o->n_chunks + 1, sizeof *f->moved);
    if (!f->moved) return base_fail_nomem(f->err, "reading a store");
    for (size_t s = 0; s < o->n_chunks; s++) {
        f->moved[s] = GONE;
        f->newest = BASE_MAX(f->newest, o->chunk[s]);
    }
    ROTOR_TRY(rag_db_each_doc(f->db, rag_load_doc, &f->docs, f->err));
    ROTOR_TRY(rag_db_each_place(f->db, take_place, f, f->err));
    *done = f->n_new <= f->x.n_chunks / PART;
    for (size_t s = 0; *done && s < f->x.n_chunks; s++) {
        f->fresh.next = s;
        if (f->was[s] != GONE)
            f->x.length[s] = o->length[f->was[s]];
        else
            ROTOR_TRY(rag_db_read_words(f->db, f->x.chunk[s], take_words, f, f->err));
    }
    return ROTOR_OK;
}

/* ==== Postings ================================================================================ */

static rotor_status alloc_postings(follower *f) {
    rag_index *x = &f->x;
    x->at = base_alloc_array(x->n_terms + 2, sizeof *x->at);
    x->n_docs_with = base_alloc_array(x->n_terms + 1, sizeof *x->n_docs_with);
    if (!x->at || !x->n_docs_with) return base_fail_nomem(f->err, "reading a store");
    for (size_t t = 0; t < x->n_terms; t++) {
        uint64_t n = f->words.at[t + 1] - f->words.at[t];
        if (t < f->old->n_terms)
            for (uint64_t i = f->old->at[t]; i < f->old->at[t + 1]; i++)
                n += f->moved[f->old->slot[i]] != GONE;
        x->at[t + 1] = x->at[t] + n;
    }
    const size_t n = x->at[x->n_terms];
    x->slot = base_alloc_array(n + 1, sizeof *x->slot);
    x->body = base_alloc(n + 1);
    x->head = base_alloc(n + 1);
    return x->slot && x->body && x->head ? ROTOR_OK : base_fail_nomem(f->err, "reading a store");
}

static void put_posting(rag_index *x, uint64_t to, const rag_index *from, uint64_t i,
                        uint32_t slot) {
    x->slot[to] = slot;
    x->body[to] = from->body[i];
    x->head[to] = from->head[i];
}

/* Both lists of a term rise by new slot, since what stayed kept its order. */
static void merge_term(follower *f, size_t t) {
    const rag_index *o = f->old, *w = &f->words;
    uint64_t to = f->x.at[t], i = t < o->n_terms ? o->at[t] : 0, k = w->at[t];
    const uint64_t end = t < o->n_terms ? o->at[t + 1] : 0;
    for (; i < end; i++) {
        const uint32_t slot = f->moved[o->slot[i]];
        if (slot == GONE) continue;
        for (; k < w->at[t + 1] && w->slot[k] < slot; k++)
            put_posting(&f->x, to++, w, k, w->slot[k]);
        put_posting(&f->x, to++, o, i, slot);
    }
    for (; k < w->at[t + 1]; k++) put_posting(&f->x, to++, w, k, w->slot[k]);
}

static rotor_status follow_words(follower *f) {
    rag_index *x = &f->x;
    f->fresh.x = &f->words;
    f->fresh.first_term = f->words.n_terms = f->old->n_terms;
    ROTOR_TRY(rag_db_each_term(f->db, (uint32_t)f->old->n_terms, rag_load_term, &f->fresh, f->err));
    x->n_terms = f->words.n_terms;
    f->words.chunk = x->chunk; /* borrowed: for messages */
    const rotor_status st = rag_load_postings(&f->fresh);
    f->words.chunk = NULL;
    ROTOR_TRY(st);
    ROTOR_TRY(alloc_postings(f));
    for (size_t t = 0; t < x->n_terms; t++) merge_term(f, t);
    rag_index_count(x);
    return ROTOR_OK;
}

/* ==== Vectors ================================================================================= */

static void copy_row(follower *f, size_t to) {
    rag_index *x = &f->x;
    const rag_index *o = f->old;
    const size_t from = f->was[to], ld = x->ld;
    memcpy(x->high + to * ld, o->high + from * ld, ld);
    memcpy(x->low + to * ld, o->low + from * ld, ld);
    x->scale[to] = o->scale[from];
    x->n_vectors++;
    if (x->coarse && o->coarse) {
        memcpy(x->coarse + to * (ld / 4), o->coarse + from * (ld / 4), ld / 4);
        x->coarse_scale[to] = o->coarse_scale[from];
    } else if (x->coarse) {
        rag_screen_pack(x->coarse + to * (ld / 4), &x->coarse_scale[to], x->high + to * ld,
                        x->scale[to], x->signs, ld);
    }
}

static rotor_status take_vector(void *user, int64_t chunk, float scale, base_str high,
                                base_str low) {
    follower *f = user;
    if (rag_index_put_vector(&f->x, f->fresh.next, scale, high, low)) return ROTOR_OK;
    return base_fail(f->err, ROTOR_E_FORMAT, "the vector of passage %lld is damaged",
                     (long long)chunk);
}

static rotor_status follow_vectors(follower *f) {
    rag_index *x = &f->x;
    const rag_index *o = f->old;
    if (!x->model) return ROTOR_OK;
    if (!o->high) return rag_db_each_vector(f->db, x->model, rag_load_vector, &f->docs, f->err);
    ROTOR_TRY(rag_index_matrix(x, o->dims, f->err));
    for (size_t s = 0; s < x->n_chunks; s++) {
        f->fresh.next = s;
        if (f->was[s] != GONE && o->scale[f->was[s]] > 0)
            copy_row(f, s);
        else
            ROTOR_TRY(rag_db_read_vector(f->db, x->model, x->chunk[s], take_vector, f, f->err));
    }
    if (!x->n_vectors) rag_index_drop_matrix(x);
    return ROTOR_OK;
}

/* ==== All of it =============================================================================== */

static rotor_status follow(follower *f, bool *done) {
    uint8_t print[RAG_HASH];
    *done = false;
    ROTOR_TRY(rag_db_get_model(f->db, &f->x.model, print, f->err));
    if (f->x.model != f->old->model || !f->old->n_chunks) return ROTOR_OK;
    ROTOR_TRY(follow_places(f, done));
    if (!*done) return ROTOR_OK;
    ROTOR_TRY(follow_words(f));
    return follow_vectors(f);
}

/* The names of terms go from one to the other. Without memory for the new ones x is of no use. */
static rotor_status take_over(follower *f, rag_index *x) {
    f->x.terms = x->terms;
    f->x.term_text = x->term_text;
    f->x.n_term_text = x->n_term_text;
    x->terms = NULL;
    x->term_text = NULL;
    x->n_term_text = 0;
    f->fresh.x = &f->x;
    const rotor_status st = rag_load_names(&f->fresh);
    rag_index_free(x);
    *x = f->x;
    memset(&f->x, 0, sizeof f->x);
    return st;
}

rotor_status rag_index_follow(rag_index *x, rag_db *db, bool *done, rotor_error *err) {
    follower f = {.old = x, .err = err, .db = db};
    f.docs = (rag_loader){.x = &f.x, .err = err};
    f.fresh = (rag_loader){.x = &f.words, .err = err};
    rotor_status st = follow(&f, done);
    if (st == ROTOR_OK && *done) st = take_over(&f, x);
    rag_loader_free(&f.docs);
    rag_loader_free(&f.fresh);
    rag_index_free(&f.words);
    rag_index_free(&f.x);
    base_free(f.moved);
    base_free(f.was);
    return st;
}
