/* SPDX-License-Identifier: MIT
 *
 * The forward pass of a decoder, top to bottom. `decoder` at the end of this file is the pass;
 * what stands before it are the words it is written in. It is recorded once, as ops on handles, and
 * replayed by the device for every step.
 *
 * B tokens in a step, D model, H heads, K key/value heads, d head size, F feed-forward, V
 * vocabulary.
 */
#include "run/run_internal.h"

#include <assert.h>

enum { MAX_OPS_PER_LAYER = 64, MAX_OPS_OUTSIDE = 16 };

typedef struct pass {
    run_engine *e;      /* engine being set up */
    dev_op *ops;        /* list being written, room for all */
    size_t n;           /* ops so far */
    rotor_status st;    /* first failure; later words do nothing */
    rotor_error *err;   /* its message */
    dev_buf int8_of;    /* buffer whose int8 form is fresh … */
    dev_kind int8_kind; /* … and which form it is */
    bool picked;        /* after pick(): ops act on the picked rows */
    uint32_t layer;     /* being written; BASE_TRACE_NONE: none */
} pass;

/* ==== Words =================================================================================== */

static dev_op *emit(pass *p, dev_op op) {
    assert(p->n < MAX_OPS_OUTSIDE + (size_t)p->e->m->hp.n_layer * MAX_OPS_PER_LAYER);
    op.picked = p->picked;
    op.of_layer = p->layer;
    for (int i = 0; i < BASE_MAX(op.n_mats, 1); i++)
        if (op.dst[i] == p->int8_of)
            p->int8_of = DEV_NONE; /* overwritten: the int8 form is stale */
    p->ops[p->n] = op;
    return &p->ops[p->n++];
}

static dev_mat bind(pass *p, const kern_mat *w) {
    dev_mat handle = DEV_NONE;
    if (p->st == ROTOR_OK) p->st = dev_add_mat(p->e->d, w, &handle, p->err);
    return handle;
}

static void embed(pass *p, dev_buf dst, const model_mat *table) {
    kern_mat w = run_mat(table);
    emit(p, (dev_op){.kind = DEV_EMBED,
                     .n_mats = 1,
                     .dst = {dst},
                     .w = {bind(p, &w)},
                     .scale = p->e->m->hp.embd_scale});
}

static dev_vec bind_vec(pass *p, const float *v, size_t n) {
    dev_vec handle = DEV_NONE;
    if (p->st == ROTOR_OK) p->st = dev_add_vec(p->e->d, v, n, &handle, p->err);
    return handle;
}

static void norm(pass *p, dev_buf dst, dev_buf src, const float *gain, size_t n) {
    emit(p, (dev_op){.kind = DEV_RMSNORM,
                     .dst = {dst},
                     .src = src,
                     .centred = p->e->m->hp.centred,
                     .vec = bind_vec(p, gain, n),
                     .eps = p->e->m->hp.eps});
}

/* Each head of x by itself; families without such norms have no gain. */
static void head_norm(pass *p, dev_buf x, const float *gain, uint32_t n_heads) {
    const model_hparams *hp = &p->e->m->hp;
    if (gain)
        emit(p, (dev_op){.kind = DEV_RMSNORM,
                         .dst = {x},
                         .src = x,
                         .n_heads = n_heads,
                         .vec = bind_vec(p, gain, hp->d_head),
                         .eps = hp->eps});
}

/* Learned positions. */
static void add_positions(pass *p, dev_buf x, const float *rows) {
    const model_hparams *hp = &p->e->m->hp;
    if (rows)
        emit(p, (dev_op){.kind = DEV_BIAS,
                         .by_pos = true,
                         .dst = {x},
                         .vec = bind_vec(p, rows, (size_t)hp->n_pos * hp->n_embd)});
}

static void bias(pass *p, dev_buf x, const float *b, size_t n) {
    if (b) emit(p, (dev_op){.kind = DEV_BIAS, .dst = {x}, .vec = bind_vec(p, b, n)});
}

/* The first type's row everywhere; in pairs of texts each token's own. */
static void add_types(pass *p, dev_buf x) {
    const model *m = p->e->m;
    if (p->e->opt.pool != MODEL_POOL_RANK || m->n_types < 2)
        bias(p, x, m->type_embd, m->hp.n_embd);
    else
        emit(p, (dev_op){.kind = DEV_BIAS,
                         .by_type = true,
                         .dst = {x},
                         .vec = bind_vec(p, m->type_embd, (size_t)m->n_types * m->hp.n_embd)});
}

/* dst = norm of src, over the width of the model. */
static void block_norm(pass *p, dev_buf dst, dev_buf src, const float *gain, const float *b) {
    const size_t n = p->e->m->hp.n_embd;
    norm(p, dst, src, gain, n);
    bias(p, dst, b, n);
}

/* The same on slot rows, each with the row of its expert. */
static void slot_bias(pass *p, dev_buf x, const float *b, size_t n) {
    if (b) emit(p, (dev_op){.kind = DEV_BIAS, .slots = true, .dst = {x}, .vec = bind_vec(p, b, n)});
}

/* The form of its input a product wants: float, one int8 scale per row, or one per 32. */
static dev_kind input_form(const pass *p, uint32_t type) {
    if (type == QUANT_F32 || type == KERN_F32X16 || type == QUANT_F16 || type == QUANT_BF16 ||
        p->e->opt.float_act)
        return DEV_MATMUL;
    return type == QUANT_I2_S || type == QUANT_T5 ? DEV_QUANT_I8 : DEV_QUANT_Q8;
}

/* Makes src fresh in that form, if it is not. */
static void quantise(pass *p, dev_buf src, dev_kind form, bool slots) {
    if (form == DEV_MATMUL || (p->int8_of == src && p->int8_kind == form)) return;
    emit(p, (dev_op){.kind = form, .slots = slots, .dst = {DEV_NONE}, .src = src});
    p->int8_of = src;
    p->int8_kind = form;
}

/* dst[i] = w[i] x src for n matrices; those that want the same form of src run as one op. */
static void linear(pass *p, dev_buf src, int n, const kern_mat *w, const dev_buf *dst) {
    for (int i = 0; i < n;) {
        dev_kind form = input_form(p, w[i].type);
        quantise(p, src, form, false);
        dev_op op = {.kind = DEV_MATMUL, .src = src};
        for (; i < n && input_form(p, w[i].type) == form; i++) {
            op.w[op.n_mats] = bind(p, &w[i]);
            op.dst[op.n_mats++] = dst[i];
        }
        emit(p, op);
    }
}

/* dst = the projection of src. */
static void project1(pass *p, const model_layer *l, model_proj proj, dev_buf src, dev_buf dst) {
    const kern_mat w = run_layer_mat(p->e, l, proj);
    linear(p, src, 1, &w, &dst);
}

static void linear1(pass *p, dev_buf dst, dev_buf src, const model_mat *w) {
    kern_mat mat = run_mat(w);
    linear(p, src, 1, &mat, &dst);
}

/* dst[i] = w[i] x src; where projections norm their inputs, each its own: n of one layer, from
 * `first` on. */
static void project(pass *p, const model_layer *l, model_proj first, int n, dev_buf src,
                    const dev_buf *dst) {
    kern_mat w[3];
    for (int i = 0; i < n; i++) w[i] = run_layer_mat(p->e, l, first + (model_proj)i);
    if (!l->in_norm[first]) {
        linear(p, src, n, w, dst);
        return;
    }
    for (int i = 0; i < n; i++) {
        norm(p, p->e->buf.n, src, l->in_norm[first + (model_proj)i], w[i].cols);
        linear(p, p->e->buf.n, 1, &w[i], &dst[i]);
    }
}

/* Slot rows s[slots, D] = their tokens' rows of h, in the form that experts want. */
static void gather(pass *p, dev_buf s, dev_buf h, dev_kind form) {
    quantise(p, h, form, false);
    emit(p,
         (dev_op){
             .kind = DEV_GATHER, .slots = true, .int8 = form != DEV_MATMUL, .dst = {s}, .src = h});
    p->int8_of = s;
    p->int8_kind = form;
}

/* dst[i][slots] = w[i] of each slot's expert x src; one or two matrices of one type. */
static void experts(pass *p, dev_buf src, int n, const model_mat *const *w, const dev_buf *dst) {
    dev_op op = {.kind = DEV_EXPERTS, .slots = true, .src = src};
    quantise(p, src, input_form(p, w[0]->type), true);
    for (int i = 0; i < n; i++) {
        const kern_mat mat = run_mat(w[i]);
        op.w[op.n_mats] = bind(p, &mat);
        op.dst[op.n_mats++] = dst[i];
    }
    emit(p, op);
}

static void rope(pass *p, dev_buf x, uint32_t n_heads, bool local) {
    emit(p, (dev_op){.kind = DEV_ROPE, .local = local, .dst = {x}, .n_heads = n_heads});
}

static void add(pass *p, dev_buf dst, dev_buf src) {
    emit(p, (dev_op){.kind = DEV_ADD, .dst = {dst}, .src = src});
}

/* ==== Adapters ================================================================================ */

/* The turn-th buffer of this width for the products of an adapter. */
static dev_buf lora_buf(pass *p, size_t width, int turn) {
    run_engine *e = p->e;
    for (size_t i = 0; i < e->n_lora_bufs; i++)
        if (e->lora_bufs[i].width == width && e->lora_bufs[i].turn == turn)
            return e->lora_bufs[i].b;
    if (p->st != ROTOR_OK) return DEV_NONE;
    run_lora_buf *list = base_realloc(e->lora_bufs, (e->n_lora_bufs + 1) * sizeof *list);
    if (!list) return p->st = base_fail_nomem(p->err, "recording an adapter"), DEV_NONE;
    e->lora_bufs = list;
    list += e->n_lora_bufs;
    *list = (run_lora_buf){.width = width, .turn = turn, .b = DEV_NONE};
    p->st = dev_add_buf(e->d, width, DEV_TOKENS, &list->b, p->err);
    if (p->st == ROTOR_OK) e->n_lora_bufs++;
    return list->b;
}

/* dst[i] += scale B (A src) beside projections first … of a layer: all A in one hand-over, then
 * each B with the sum behind it. src is the float row that the projections' int8 form comes from.
 */
static void adapt(pass *p, uint32_t layer, model_proj first, int n, dev_buf src,
                  const dev_buf *dst) {
    const run_options *opt = &p->e->opt;
    dev_op low = {.kind = DEV_MATMUL, .src = src};
    int at[3];
    if (!opt->adapter) return;
    const model_lora *pair = &opt->adapter->at[(size_t)layer * MODEL_N_PROJ + first];
    for (int i = 0; i < n; i++) {
        if (!pair[i].a.data) continue;
        const kern_mat a = run_mat(&pair[i].a);
        at[low.n_mats] = i;
        low.w[low.n_mats] = bind(p, &a);
        low.dst[low.n_mats] = lora_buf(p, a.rows, low.n_mats);
        low.n_mats++;
    }
    if (low.n_mats) emit(p, low);
    for (int k = 0; k < low.n_mats; k++) {
        kern_mat b = run_mat(&pair[at[k]].b);
        b.scale = model_lora_scale(opt->adapter, &pair[at[k]], opt->adapter_strength);
        const dev_buf sum = lora_buf(p, b.rows, 3);
        emit(p, (dev_op){.kind = DEV_MATMUL,
                         .n_mats = 1,
                         .dst = {sum},
                         .src = low.dst[k],
                         .w = {bind(p, &b)}});
        add(p, dst[at[k]], sum);
    }
}

/* ==== The pass ================================================================================ */

static void attention_block(pass *p, const model_layer *w, uint32_t layer) {
    const run_bufs *b = &p->e->buf;
    const model_hparams *hp = &p->e->m->hp;

    const dev_buf in = hp->post_norm ? b->x : b->h;
    if (!hp->post_norm) block_norm(p, in, b->x, w->attn_norm, w->attn_norm_bias);
    project(p, w, MODEL_Q, 3, in, (dev_buf[]){b->q, b->k, b->v}); /* q[B,H*d] k,v[B,K*d] */
    adapt(p, layer, MODEL_Q, 3, in, (dev_buf[]){b->q, b->k, b->v});
    bias(p, b->q, w->q_bias, w->q.rows);
    bias(p, b->k, w->k_bias, w->k.rows);
    bias(p, b->v, w->v_bias, w->v.rows);
    head_norm(p, b->q, w->q_norm, hp->n_head);
    head_norm(p, b->k, w->k_norm, hp->n_head_kv);
    if (hp->n_rot && (!hp->still_every || layer % hp->still_every != hp->still_every - 1)) {
        const bool local = hp->rope_base_local != 0 && model_window(hp, layer);
        rope(p, b->q, hp->n_head, local);
        rope(p, b->k, hp->n_head_kv, local);
    }
    emit(p,
         (dev_op){
             .kind = DEV_KV_APPEND, .dst = {DEV_NONE}, .src = b->k, .src2 = b->v, .layer = layer});
    emit(p, (dev_op){.kind = DEV_ATTENTION,
                     .dst = {b->a},
                     .src = b->q,
                     .layer = layer,
                     .window = model_window(hp, layer),
                     .both_ways = hp->both_ways,
                     .sinks = w->sinks != NULL,
                     .vec = w->sinks ? bind_vec(p, w->sinks, hp->n_head) : DEV_NONE});
    if (w->attn_sub_norm) norm(p, b->a, b->a, w->attn_sub_norm, (size_t)hp->n_head * hp->d_head);
    if (w->in_norm[MODEL_O]) norm(p, b->a, b->a, w->in_norm[MODEL_O], w->o.cols);
    project1(p, w, MODEL_O, b->a, b->h); /* h[B,D] */
    adapt(p, layer, MODEL_O, 1, b->a, &b->h);
    bias(p, b->h, w->o_bias, hp->n_embd);
    if (w->post_attn_norm) norm(p, b->h, b->h, w->post_attn_norm, hp->n_embd);
    add(p, b->x, b->h);
    if (hp->post_norm) block_norm(p, b->x, b->x, w->attn_norm, w->attn_norm_bias);
}

static kern_glu glu_of(const model_hparams *hp) {
    return hp->glu == MODEL_RELU2      ? KERN_RELU2
           : hp->glu == MODEL_SILU     ? KERN_SILU
           : hp->glu == MODEL_GELU     ? KERN_GELU
           : hp->glu == MODEL_GELU_ERF ? KERN_GELU_ERF
                                       : KERN_SWIGLU_OAI;
}

static void ffn_block(pass *p, const model_layer *w, uint32_t layer) {
    const run_bufs *b = &p->e->buf;
    const model_hparams *hp = &p->e->m->hp;
    const bool gated = w->gate.data != NULL;
    const dev_buf in = hp->post_norm ? b->x : b->h, up = gated ? b->u : b->g;

    if (!hp->post_norm) block_norm(p, in, b->x, w->ffn_norm, w->ffn_norm_bias);
    if (gated) {
        project(p, w, MODEL_GATE, 2, in, (dev_buf[]){b->g, up}); /* g,u[B,F] */
        adapt(p, layer, MODEL_GATE, 2, in, (dev_buf[]){b->g, up});
        bias(p, b->g, w->gate_bias, hp->n_ff);
    } else {
        project(p, w, MODEL_UP, 1, in, &up); /* g[B,F] */
        adapt(p, layer, MODEL_UP, 1, in, &up);
    }
    bias(p, up, w->up_bias, hp->n_ff);
    emit(p, (dev_op){.kind = DEV_GLU,
                     .dst = {b->g},
                     .src = b->g,
                     .src2 = gated ? b->u : DEV_NONE,
                     .glu = glu_of(hp)});
    if (w->ffn_sub_norm) norm(p, b->g, b->g, w->ffn_sub_norm, hp->n_ff);
    if (w->in_norm[MODEL_DOWN]) norm(p, b->g, b->g, w->in_norm[MODEL_DOWN], hp->n_ff);
    project1(p, w, MODEL_DOWN, b->g, b->h); /* h[B,D] */
    adapt(p, layer, MODEL_DOWN, 1, b->g, &b->h);
    bias(p, b->h, w->down_bias, hp->n_embd);
    if (w->post_ffn_norm) norm(p, b->h, b->h, w->post_ffn_norm, hp->n_embd);
    add(p, b->x, b->h);
    if (hp->post_norm) block_norm(p, b->x, b->x, w->ffn_norm, w->ffn_norm_bias);
}

/* The expert that all tokens go to: sd[B,D] from h[B,D], and what weighs it. */
static void shared_expert(pass *p, const model_layer *w) {
    const run_bufs *b = &p->e->buf;
    const kern_mat gate_up[] = {run_mat(&w->shared_gate), run_mat(&w->shared_up)};
    linear1(p, b->sb, b->h, &w->shared_by);                 /* sb[B,1] */
    linear(p, b->h, 2, gate_up, (dev_buf[]){b->sg, b->su}); /* sg,su[B,Fs] */
    emit(p, (dev_op){.kind = DEV_GLU,
                     .dst = {b->sg},
                     .src = b->sg,
                     .src2 = b->su,
                     .glu = glu_of(&p->e->m->hp)});
    linear1(p, b->sd, b->sg, &w->shared_down); /* sd[B,D] */
}

/* The best n_used of E experts for each token; a slot is a token at one of its experts. */
static void mixture_block(pass *p, const model_layer *w) {
    const run_bufs *b = &p->e->buf;
    const model_hparams *hp = &p->e->m->hp;
    const size_t n = hp->n_expert;
    const model_mat *const gate_up[] = {&w->gate, &w->up}, *const down[] = {&w->down};

    norm(p, b->h, b->x, w->ffn_norm, hp->n_embd); /* h[B,D] */
    linear1(p, b->r, b->h, &w->router);           /* r[B,E] */
    bias(p, b->r, w->router_bias, n);
    if (hp->n_ff_shared) shared_expert(p, w);
    emit(p,
         (dev_op){.kind = DEV_ROUTE, .of_all = hp->route_of_all, .dst = {DEV_NONE}, .src = b->r});
    gather(p, b->s, b->h, input_form(p, w->gate.type));    /* s[slots,D] */
    experts(p, b->s, 2, gate_up, (dev_buf[]){b->g, b->u}); /* g,u[slots,F] */
    slot_bias(p, b->g, w->gate_bias, n * hp->n_ff);
    slot_bias(p, b->u, w->up_bias, n * hp->n_ff);
    emit(p, (dev_op){.kind = DEV_GLU,
                     .slots = true,
                     .dst = {b->g},
                     .src = b->g,
                     .src2 = b->u,
                     .glu = glu_of(hp)});
    experts(p, b->g, 1, down, &b->s); /* s[slots,D] */
    slot_bias(p, b->s, w->down_bias, n * hp->n_embd);
    emit(p, (dev_op){.kind = DEV_MIX, .dst = {b->h}, .src = b->s}); /* h[B,D] */
    add(p, b->x, b->h);
    if (hp->n_ff_shared)
        emit(p, (dev_op){.kind = DEV_ADD_GATED, .dst = {b->x}, .src = b->sd, .src2 = b->sb});
}

/* The vector of a text, picked[texts], from the hidden states x of its tokens. */
static void pooled(pass *p) {
    const model *m = p->e->m;
    run_bufs *b = &p->e->buf;
    const bool mean = p->e->opt.pool == MODEL_POOL_MEAN;

    if (mean && m->out_norm) block_norm(p, b->x, b->x, m->out_norm, m->out_norm_bias);
    p->picked = true; /* one row for each text */
    emit(p, (dev_op){.kind = mean ? DEV_POOL : DEV_PICK, .dst = {b->px}, .src = b->x});
    if (!mean && m->out_norm) block_norm(p, b->px, b->px, m->out_norm, m->out_norm_bias);
    for (uint32_t i = 0; i < m->n_dense; i++) {
        linear1(p, b->dense[i], i ? b->dense[i - 1] : b->px, &m->dense[i]);
        bias(p, b->dense[i], m->dense_bias[i], m->dense[i].rows);
        if (p->e->opt.pool == MODEL_POOL_RANK && !i) /* tanh */
            emit(p, (dev_op){.kind = DEV_CAP, .dst = {b->dense[i]}, .scale = 1});
    }
}

static void decoder(pass *p) {
    const model *m = p->e->m;
    const run_bufs *b = &p->e->buf;

    embed(p, b->x, &m->embd); /* x[B,D] */
    add_positions(p, b->x, m->pos_embd);
    add_types(p, b->x);
    if (m->embd_norm) block_norm(p, b->x, b->x, m->embd_norm, m->embd_norm_bias);
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        p->layer = l;
        attention_block(p, &m->layers[l], l);
        if (m->hp.n_expert)
            mixture_block(p, &m->layers[l]);
        else
            ffn_block(p, &m->layers[l], l);
    }
    p->layer = BASE_TRACE_NONE;
    if (p->e->opt.pool) {
        pooled(p);
        return;
    }
    p->picked = true; /* only rows with logits */
    emit(p, (dev_op){.kind = DEV_PICK, .dst = {b->px}, .src = b->x});
    block_norm(p, b->px, b->px, m->out_norm, m->out_norm_bias); /* px[picked,D] */
    if (p->e->staged) return; /* what is asked of the head, output_head.c does */
    linear(p, b->px, 1, &p->e->head, &b->logits); /* logits[picked,V] */
    if (m->hp.logit_cap != 0)
        emit(p, (dev_op){.kind = DEV_CAP, .dst = {b->logits}, .scale = m->hp.logit_cap});
}

rotor_status run_record_forward(run_engine *e, rotor_error *err) {
    size_t room = MAX_OPS_OUTSIDE + (size_t)e->m->hp.n_layer * MAX_OPS_PER_LAYER;
    pass p = {.e = e, .err = err, .int8_of = DEV_NONE, .layer = BASE_TRACE_NONE};
    p.ops = base_alloc_array(room, sizeof *p.ops);
    if (!p.ops) return base_fail_nomem(err, "recording the forward pass");
    decoder(&p);
    if (p.st == ROTOR_OK) p.st = dev_record(e->d, p.ops, p.n, err);
    base_free(p.ops);
    return p.st;
}
