/* SPDX-License-Identifier: MIT
 *
 * One question to a store on a server that has pgvector: the server names the nearest passages, and
 * only their vectors are read, in place of all. They lie in the index's planes where they would lie
 * if all were there; rows that were not read look like those of passages without a vector.
 *
 * The legs then go on as ever, and find what they would find: our own scan picks its hundred by
 * bytes, which are off by a little, so the server is asked for more, and where the last of these
 * is not clearly worse than the hundredth, all are read after all.
 */
#include "rag/rag_internal.h"

static const float CLEARLY = 0.02f; /* many times what bytes put between two cosines wrongly */
enum { ASKED_FOR = 4 * RAG_LEG };

typedef struct taker {
    rag_loader l;           /* puts rows in place */
    rag_rank best[RAG_LEG]; /* passages by the server's cosines */
    size_t n;               /* how many of them */
    float worst;            /* cosine of all */
} taker;

static rotor_status take(void *user, int64_t chunk, float cosine, float scale, base_str high,
                         base_str low) {
    taker *t = user;
    if (cosine < t->worst) t->worst = cosine;
    rag_rank_push(t->best, &t->n, RAG_LEG, (rag_rank){(uint32_t)t->l.next, cosine});
    return rag_load_vector(&t->l, chunk, scale, high, low);
}

rotor_status rag_near_rest(rag *r, rotor_error *err) {
    rag_loader l = {.x = &r->x, .err = err};
    r->x.n_vectors = 0;
    const rotor_status st = rag_db_each_vector(r->db, r->x.model, rag_load_vector, &l, err);
    r->x.few = st != ROTOR_OK;
    return st;
}

/* The hundred may be taken from passages that the server does not know to be left out. */
static bool is_choosy(const rag_asked *q) {
    return q->whole || q->allowed || rag_leaves_something_out(q);
}

rotor_status rag_near_ask(rag *r, const rag_asked *q, rotor_error *err) {
    rag_index *x = &r->x;
    if (!x->few || !q->vec.x) return ROTOR_OK;
    if (is_choosy(q)) return rag_near_rest(r, err);
    taker t = {.l = {.x = x, .err = err}, .worst = 2};
    const size_t all = x->n_vectors;
    ROTOR_TRY(rag_db_each_near(r->db, x->model, q->vec.x, x->dims, ASKED_FOR, take, &t, err));
    const bool clear = t.n == RAG_LEG && t.worst <= t.best[0].score - CLEARLY;
    x->n_vectors = all;
    return clear ? ROTOR_OK : rag_near_rest(r, err);
}

rotor_status rag_near_fill(rag *r, const rag_candidate *c, size_t n, rotor_error *err) {
    rag_index *x = &r->x;
    int64_t ids[RAG_MAX_CANDIDATES];
    size_t n_ids = 0;
    for (size_t i = 0; x->few && i < n; i++)
        if (!(x->scale[c[i].unit] > 0)) ids[n_ids++] = x->chunk[c[i].unit];
    if (!n_ids) return ROTOR_OK;
    taker t = {.l = {.x = x, .err = err}};
    const size_t all = x->n_vectors;
    ROTOR_TRY(rag_db_each_of_chunks(r->db, x->model, ids, n_ids, take, &t, err));
    x->n_vectors = all;
    return ROTOR_OK;
}
