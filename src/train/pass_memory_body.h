/* SPDX-License-Identifier: MIT
 *
 * The memory of a pass: everything is allocated once, at creation, from one list of parts.
 */

/* Reals per token: of one layer's kept rows (without x), and of what all layers share. */
static size_t kept_reals(const train_shape *s) {
    return s->n_embd + 2 * (size_t)s->n_ff + 2 * ((size_t)s->n_head + s->n_head_kv) * s->d_head;
}

static size_t widest(const train_shape *s) {
    return BASE_MAX(BASE_MAX((size_t)s->n_head * s->d_head, s->n_embd), s->n_ff);
}

static size_t shared_reals(const train_shape *s) {
    return 2 * widest(s) + 2 * (size_t)s->n_embd + BASE_MAX(s->n_vocab, s->n_ff) + 1 +
           ((size_t)s->n_head + 2 * (size_t)s->n_head_kv) * s->d_head;
}

/* Of a network that stands still: wide before rounding, A x and its gradient. */
static size_t lora_reals(const train_shape *s) {
    return s->lora_rank ? widest(s) + 2 * (size_t)s->lora_rank : 0;
}

static size_t reals_per_tok(const train_shape *s, bool recompute) {
    const size_t layers = recompute ? 1 : s->n_layer;
    return layers * kept_reals(s) + ((size_t)s->n_layer + 1) * s->n_embd + shared_reals(s) +
           lora_reals(s);
}

static size_t scratch_reals(const train_shape *s) {
    size_t n = PRODUCT_SCRATCH + 2 * (size_t)PASS_BLOCK * s->n_ctx;
    n = BASE_MAX(BASE_MAX(n, widest(s)), (size_t)ATTENTION_SCRATCH(s));
    if (s->lora_rank) n = BASE_MAX(n, lora_scratch(s->lora_rank, widest(s)));
    return (n + 15) / 16 * 16;
}

#ifndef WEIGHT_REALS /* room for what the codes stand for */
#define WEIGHT_REALS(s) ((s)->full_float && !(s)->lora_rank ? 0 : train_n_weights(s))
#endif

/* Hands out consecutive parts of one block. */
static real *take(real **at, size_t n) {
    real *part = *at;
    *at += n;
    return part;
}

/* The rows a layer keeps besides x, for n tokens. */
static void take_kept(kept *c, const train_shape *s, real **at, size_t n) {
    const size_t q = n * s->n_head * s->d_head, kv = n * s->n_head_kv * s->d_head;
    c->q = take(at, q);
    c->k = take(at, kv);
    c->v = take(at, kv);
    c->a = take(at, q);
    c->m = take(at, n * s->n_embd);
    c->g = take(at, n * s->n_ff);
    c->u = take(at, n * s->n_ff);
}

static void take_all(train_pass *p, real *at, size_t n) {
    const train_shape *s = &p->s;
    const size_t q = n * s->n_head * s->d_head, kv = n * s->n_head_kv * s->d_head;
    for (uint32_t l = 0; l <= s->n_layer; l++) p->layers[l].x = take(&at, n * s->n_embd);
    for (uint32_t l = 0; l < s->n_layer; l++) {
        kept c = p->layers[0];
        if (l == 0 || !p->recompute) take_kept(&c, s, &at, n);
        c.x = p->layers[l].x;
        p->layers[l] = c;
    }
    p->wide = take(&at, n * widest(s));
    p->wide2 = take(&at, n * widest(s));
    p->dx = take(&at, n * s->n_embd);
    p->xf = take(&at, n * s->n_embd);
    p->probs = take(&at, n * BASE_MAX(s->n_vocab, s->n_ff));
    p->factor = take(&at, n);
    p->dq = take(&at, q);
    p->dk = take(&at, kv);
    p->dv = take(&at, kv);
    if (!s->lora_rank) return;
    p->raw = take(&at, n * widest(s));
    p->low = take(&at, n * s->lora_rank);
    p->low2 = take(&at, n * s->lora_rank);
}

static void make_angles(train_pass *p) {
    const size_t half = p->s.d_head / 2;
    for (size_t t = 0; t < p->s.n_ctx; t++)
        for (size_t i = 0; i < half; i++) {
            double angle = (double)t * pow((double)p->s.rope_base, -(double)i / (double)half);
            p->cs[t * half + i] = (real)cos(angle);
            p->sn[t * half + i] = (real)sin(angle);
        }
}

static void pass_free(train_pass *p) {
    if (!p) return;
    if (p->layers) base_free_aligned(p->layers[0].x); /* the block all parts are in */
    base_free(p->layers);
    base_free_aligned(p->weights);
    base_free_aligned(p->scratch);
    base_free(p->cs);
    base_free(p->sn);
    base_free(p->loss_of);
    codes_free(&p->int8);
    base_free(p);
}

static rotor_status pass_create(train_pass **out, const train_shape *s, uint32_t n_rows,
                                bool recompute, const kern *k, par_pool *pool, rotor_error *err) {
    ROTOR_TRY(train_shape_check(s, err));
    train_pass *p = base_alloc(sizeof *p);
    if (!p) return base_fail_nomem(err, "creating a training pass");
    *p = (train_pass){.s = *s, .n_rows = n_rows, .recompute = recompute, .k = k, .pool = pool};
    const size_t n = (size_t)n_rows * s->n_ctx, angles = (size_t)s->n_ctx * (s->d_head / 2);
    size_t reals, bytes;
    real *block = NULL;
    p->scratch_n = scratch_reals(s);
    p->layers = base_alloc_array((size_t)s->n_layer + 1, sizeof *p->layers);
    if (p->layers && base_mul_size(n, reals_per_tok(s, recompute), &reals) &&
        base_mul_size(reals, sizeof *block, &bytes))
        block = base_alloc_aligned(bytes);
    p->scratch = base_alloc_aligned((size_t)par_n_threads(pool) * p->scratch_n * sizeof(real));
    p->cs = base_alloc_array(angles, sizeof *p->cs);
    p->sn = base_alloc_array(angles, sizeof *p->sn);
    p->loss_of = base_alloc_array(n, sizeof *p->loss_of);
    if (WEIGHT_REALS(s)) p->weights = base_alloc_aligned(WEIGHT_REALS(s) * sizeof(real));
    if (!block || !p->scratch || !p->cs || !p->sn || !p->loss_of ||
        (WEIGHT_REALS(s) && !p->weights) || (!s->full_float && !codes_alloc(&p->int8, s, n))) {
        if (p->layers) p->layers[0].x = block;
        pass_free(p);
        return base_fail(err, ROTOR_E_NOMEM,
                         "no memory for a pass over %u rows of %u tokens: use a smaller --batch or "
                         "--ctx, or --recompute",
                         n_rows, s->n_ctx);
    }
    take_all(p, block, n);
    make_angles(p);
    *out = p;
    return ROTOR_OK;
}
