/* SPDX-License-Identifier: MIT
 *
 * The number by which a session file knows its model again: a hash of all that keys and values
 * depend on. Every byte of every weight of the layers and of the embedding is in it, since files
 * that differ in a single row are common (tokens added, a tensor patched) and a cache of the one is
 * wrong for the other. That reads the model once, on all threads; the engine keeps the number.
 *
 *     matrix  | 1 MiB | 1 MiB | 1 MiB | … |    each piece hashed by itself,
 *     hashes  |  u64  |  u64  |  u64  | … |    then these, so that the threads do not matter
 *
 * How the model is run (threads, chunk, head, device) is not among it; nor are the output head and
 * the last norm, which no later position reads.
 */
#include "run/run_internal.h"

enum { EDITION = 2, PIECE_BYTES = 1 << 20 };

typedef struct pieces {
    const uint8_t *data; /* [bytes] */
    size_t bytes;        /* of a matrix */
    size_t n;            /* pieces */
    uint64_t *hash;      /* [n] */
} pieces;

static void hash_pieces(void *arg, int thread, int n_threads) {
    const pieces *p = arg;
    size_t begin, end;
    par_slice(p->n, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const size_t at = i * PIECE_BYTES, n = BASE_MIN(p->bytes - at, (size_t)PIECE_BYTES);
        base_advise(p->data + at, n, BASE_WILL_NEED); /* experts on demand come page by page */
        p->hash[i] = base_hash64(p->data + at, n, 0);
    }
}

static rotor_status hash_bytes(const run_engine *e, const uint8_t *data, size_t bytes, uint64_t *h,
                               rotor_error *err) {
    pieces p = {.data = data, .bytes = bytes};
    p.n = bytes / PIECE_BYTES + (bytes % PIECE_BYTES != 0);
    p.hash = base_alloc_array(p.n + 1, sizeof *p.hash);
    if (!p.hash) return base_fail_nomem(err, "identifying the model");
    if (p.n > 1)
        par_run(e->pool, hash_pieces, &p);
    else
        hash_pieces(&p, 0, 1);
    *h = base_hash64(p.hash, p.n * sizeof *p.hash, *h);
    base_free(p.hash);
    return ROTOR_OK;
}

static rotor_status hash_mat(const run_engine *e, const model_mat *w, uint64_t *h,
                             rotor_error *err) {
    const uint64_t shape[] = {w->type, w->rows, w->cols, w->row_bytes};
    *h = base_hash64(w->data ? shape : shape + 4, w->data ? sizeof shape : 0, *h);
    if (!w->data) return ROTOR_OK;
    *h = base_hash64(&w->scale, sizeof w->scale, *h);
    if (w->row_scale) *h = base_hash64(w->row_scale, w->rows * sizeof(float), *h);
    const uint64_t bytes =
        w->type == QUANT_T5 ? quant_t5_code_bytes(w->rows, w->cols) : w->rows * w->row_bytes;
    return hash_bytes(e, w->data, (size_t)bytes, h, err);
}

static uint64_t hash_vec(const float *v, size_t n, uint64_t h) {
    return v ? base_hash64(v, n * sizeof *v, h) : base_hash64("none", 4, h);
}

static rotor_status hash_layer(const run_engine *e, uint32_t l, uint64_t *h, rotor_error *err) {
    const model_layer *w = &e->m->layers[l];
    const model_hparams *hp = &e->m->hp;
    const size_t n_e = BASE_MAX(hp->n_expert, 1u), d = hp->n_embd, ff = n_e * hp->n_ff;
    const model_mat *const mats[] = {
        &w->q,    &w->k,      &w->v,           &w->o,         &w->gate,        &w->up,
        &w->down, &w->router, &w->shared_gate, &w->shared_up, &w->shared_down, &w->shared_by};
    const struct {
        const float *v;
        size_t n;
    } vecs[] = {{w->attn_norm, d},       {w->attn_norm_bias, d},        {w->ffn_norm, d},
                {w->ffn_norm_bias, d},   {w->q_bias, w->q.rows},        {w->k_bias, w->k.rows},
                {w->v_bias, w->v.rows},  {w->o_bias, w->o.rows},        {w->q_norm, hp->d_head},
                {w->k_norm, hp->d_head}, {w->sinks, hp->n_head},        {w->gate_bias, ff},
                {w->up_bias, ff},        {w->down_bias, n_e * d},       {w->post_attn_norm, d},
                {w->post_ffn_norm, d},   {w->attn_sub_norm, w->o.cols}, {w->ffn_sub_norm, hp->n_ff},
                {w->router_bias, n_e}};
    for (size_t i = 0; i < BASE_COUNT(mats); i++) ROTOR_TRY(hash_mat(e, mats[i], h, err));
    for (size_t i = 0; i < BASE_COUNT(vecs); i++) *h = hash_vec(vecs[i].v, vecs[i].n, *h);
    for (size_t i = 0; i < MODEL_N_PROJ; i++) /* their order is that of mats */
        *h = hash_vec(w->in_norm[i], mats[i]->cols, *h);
    return ROTOR_OK;
}

static rotor_status hash_adapter(const run_engine *e, uint64_t *h, rotor_error *err) {
    const model_adapter *a = e->opt.adapter;
    if (!a) return ROTOR_OK;
    *h = base_hash64(&e->opt.adapter_strength, sizeof e->opt.adapter_strength, *h);
    *h = base_hash64(&a->alpha, sizeof a->alpha, *h);
    for (uint32_t i = 0; i < e->m->hp.n_layer * MODEL_N_PROJ; i++) {
        ROTOR_TRY(hash_mat(e, &a->at[i].a, h, err));
        ROTOR_TRY(hash_mat(e, &a->at[i].b, h, err));
    }
    return ROTOR_OK;
}

static rotor_status hash_rotation(const run_engine *e, uint64_t *h, rotor_error *err) {
    const model_hparams *hp = &e->m->hp;
    const size_t n = hp->n_rot / 2 * (hp->rope_base_local != 0 ? 2 : 1);
    double *freq = base_alloc_array(n + 1, sizeof *freq);
    if (!freq) return base_fail_nomem(err, "identifying the model");
    model_rope_freqs(hp, e->opt.n_ctx, false, freq);
    if (hp->rope_base_local != 0) model_rope_freqs(hp, e->opt.n_ctx, true, freq + hp->n_rot / 2);
    *h = base_hash64(freq, n * sizeof *freq, *h);
    base_free(freq);
    return ROTOR_OK;
}

static uint64_t hash_numbers(const run_engine *e) {
    const model_hparams *hp = &e->m->hp;
    const uint32_t numbers[] = {
        hp->n_vocab,          hp->n_embd,       hp->n_layer,   hp->n_head,      hp->n_head_kv,
        hp->d_head,           hp->n_ff,         hp->n_rot,     hp->window,      hp->window_every,
        hp->still_every,      hp->n_expert,     hp->n_used,    hp->n_ff_shared, (uint32_t)hp->glu,
        hp->rope_interleaved, hp->route_of_all, hp->sub_norms, hp->qk_norm,     hp->w1a8,
        e->opt.float_act,     hp->n_pos,        hp->centred,   hp->both_ways,   hp->post_norm,
        e->m->latent};
    const float reals[] = {hp->eps, hp->rope_gain, hp->attn_scale, hp->attn_cap, hp->embd_scale};
    return base_hash64(reals, sizeof reals, base_hash64(numbers, sizeof numbers, EDITION));
}

static rotor_status hash_model(const run_engine *e, uint64_t *h, rotor_error *err) {
    const model *m = e->m;
    const size_t d = m->hp.n_embd;
    *h = hash_numbers(e);
    ROTOR_TRY(hash_rotation(e, h, err));
    ROTOR_TRY(hash_mat(e, &m->embd, h, err));
    *h = hash_vec(m->pos_embd, (size_t)m->hp.n_pos * d, *h);
    *h = hash_vec(m->type_embd, d, *h);
    *h = hash_vec(m->embd_norm_bias, d, hash_vec(m->embd_norm, d, *h));
    for (uint32_t l = 0; l < m->hp.n_layer; l++) ROTOR_TRY(hash_layer(e, l, h, err));
    return hash_adapter(e, h, err);
}

rotor_status run_fingerprint(run_engine *e, uint64_t *out, rotor_error *err) {
    if (!e->has_print) ROTOR_TRY(hash_model(e, &e->fingerprint, err));
    e->has_print = true;
    *out = e->fingerprint;
    return ROTOR_OK;
}
