/* SPDX-License-Identifier: MIT
 *
 * Mixtures of experts: `route` against a choice made one by one, many logits equal; the products of
 * experts against kern/c, in two pieces and with jobs to spare; `mix_rows`. The products get a
 * choice made here, so that each kernel is judged by itself.
 */
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct mixture {
    uint32_t n_expert, used; /* experts, of which a token goes to so many */
    uint32_t rows, live;     /* tokens there is room for; of the step */
    uint32_t job;            /* rows of a job at most */
} mixture;

/* A choice as the device keeps it: words, and where they stand. */
typedef struct choice {
    uint32_t row, token, weight, job, n_words; /* places, words in all */
    uint32_t *word;                            /* owned */
} choice;

static choice choice_room(const mixture *m) {
    const uint32_t slots = m->rows * m->used;
    choice c = {.row = GPU_ROUTE_HEADER};
    c.token = c.row + slots;
    c.weight = c.token + slots;
    c.job = c.weight + slots;
    c.n_words = c.job + 3 * (slots + 1);
    c.word = room(c.n_words, 4);
    return c;
}

/* How many come before element e: larger ones, and lower ones among equals. */
static uint32_t rank_of(const float *x, uint32_t n, uint32_t e) {
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; i++) rank += x[i] > x[e] || (x[i] == x[e] && i < e);
    return rank;
}

static choice choose(const mixture *m, const float *x, bool of_all) {
    choice c = choice_room(m);
    uint32_t row = 0, job = 0;
    for (uint32_t e = 0; e < m->n_expert; e++) {
        const uint32_t first = row;
        for (uint32_t t = 0; t < m->live; t++) {
            const float *logits = x + t * m->n_expert;
            const uint32_t k = rank_of(logits, m->n_expert, e);
            double sum = 0;
            if (k >= m->used) continue;
            for (uint32_t i = 0; i < m->n_expert; i++)
                if (of_all || rank_of(logits, m->n_expert, i) < m->used)
                    sum += exp((double)logits[i] - logits[e]);
            const float weight = (float)(1 / sum);
            memcpy(&c.word[c.weight + t * m->used + k], &weight, 4);
            c.word[c.row + t * m->used + k] = row;
            c.word[c.token + row++] = t;
        }
        for (uint32_t at = first; at < row; at += m->job, job++) {
            c.word[c.job + 3 * job] = e;
            c.word[c.job + 3 * job + 1] = at;
            c.word[c.job + 3 * job + 2] = BASE_MIN(m->job, row - at);
        }
    }
    c.word[0] = row;
    c.word[1] = job;
    return c;
}

/* ==== route =================================================================================== */

static void check_route(checker *c, mixture m, bool of_all) {
    char what[96];
    const uint32_t n = m.rows * m.n_expert;
    float *x = room(n, 4);
    for (uint32_t i = 0; i < n; i++) /* few values: many are equal */
        x[i] = (float)(int)base_rng_below(&c->rng, i / m.n_expert % 2 ? 5 : 1000) * 0.25f - 3;
    const choice want = choose(&m, x, of_all);
    choice got = choice_room(&m);
    step_image s = step_make(m.rows, m.live, 0, 0, 0);
    const gpu_route_params params = {.x_ld = m.n_expert,
                                     .row_at = want.row,
                                     .token_at = want.token,
                                     .weight_at = want.weight,
                                     .job_at = want.job};
    gpu_mem *out = put(c, got.word, got.n_words * 4);
    run(c, &(launch){.name = "route",
                     .lx = 256,
                     .spec = {m.rows, m.used, m.n_expert, of_all, m.job},
                     .groups = {1, 1, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {put(c, s.word, s.n_words * 4), put(c, x, n * 4), out},
                     .n_binds = 3});
    get(c, out, got.word, got.n_words * 4);
    drop(c);
    snprintf(what, sizeof what, "route of %u tokens to %u of %u", m.live, m.used, m.n_expert);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < want.n_words; i++)
        if (i < want.weight || i >= want.job) wrong += got.word[i] != want.word[i] + c->bent;
    say(c, wrong == 0, "%s: %u words differ", what, wrong);
    near(c, (float *)got.word + want.weight, (float *)want.word + want.weight, m.live * m.used,
         1e-6, what);
    free(x);
    free(want.word);
    free(got.word);
    free(s.word);
}

/* ==== Products ================================================================================ */

typedef struct experts_case {
    uint32_t type;                    /* of the file */
    uint32_t rows, cols;              /* of an expert's matrix */
    mixture m;                        /* whose */
    bool few;                         /* xv_*, not xm_* */
    bool float_act, gathered, biased; /* forms */
} experts_case;

typedef struct experts_x {
    float *x;     /* [n, cols] */
    int8_t *q;    /* [n, ldq] */
    float *s;     /* [n, ldq / 32] */
    int16_t *s16; /* [n, ldq / 16] */
    size_t ldq;   /* bytes of a row of q */
} experts_x;

static experts_x make_x(checker *c, size_t n, size_t cols) {
    experts_x x = {.ldq = (cols + 127) / 128 * 128};
    x.x = room(n * cols, 4);
    x.q = room(n, x.ldq);
    x.s = room(n * x.ldq / 32, 4);
    x.s16 = room(n * x.ldq / 16, 2);
    randoms(c, x.x, n * cols, 1.5f);
    for (size_t i = 0; i < n; i++)
        c->ref.quant_q8(x.q + i * x.ldq, x.s + i * x.ldq / 32, x.s16 + i * x.ldq / 16,
                        x.x + i * cols, cols, x.ldq);
    return x;
}

/* Row r of want: the product of one matrix and row i of x. */
static void one_product(const checker *c, const experts_case *k, const kern_mat *w,
                        const experts_x *x, size_t i, float *want) {
    const kern_act a = {.x = x->x + i * k->cols,
                        .ldx = k->cols,
                        .q = x->q + i * x->ldq,
                        .ldq = x->ldq,
                        .s = x->s + i * x->ldq / 32,
                        .sum16 = x->s16 + i * x->ldq / 16,
                        .n_tok = 1};
    const kern_mm_fn product = k->type == QUANT_F32    ? c->ref.mm_f32
                               : k->type == QUANT_F16  ? c->ref.mm_f16
                               : k->type == QUANT_BF16 ? c->ref.mm_bf16
                               : k->float_act          ? c->ref.mm_b32_f32
                                                       : c->ref.mm_b32_q8;
    product(want, w->rows, w, &a, 0, w->rows);
}

static kern_mat expert_of(const kern_mat *all, uint32_t rows, uint32_t e) {
    kern_mat w = *all;
    w.rows = rows;
    w.data += e * rows * w.row_bytes;
    return w;
}

/* Experts [from, to) as a piece of their own. */
static void run_piece(checker *c, const experts_case *k, const kern_mat *all, const choice *ch,
                      gpu_mem *const bind[5], gpu_mem *y, uint32_t from, uint32_t to, size_t x_ld,
                      size_t xs_ld) {
    gpu_type type;
    if (!gpu_type_of(all, &type)) abort();
    const uint32_t n_u = (uint32_t)gpu_row_words(type, k->cols), groups = (k->rows + 31) / 32;
    const uint32_t each = groups * n_u * GPU_ROWS, tall = k->few ? GPU_ROWS : GPU_MM_ROWS;
    uint32_t *packed = room((size_t)each * (to - from), 4);
    for (uint32_t e = from; e < to; e++) {
        const kern_mat w = expert_of(all, k->rows, e);
        gpu_pack(&w, type, 0, groups, packed + (size_t)each * (e - from));
    }
    const gpu_expert_params params = {.p = {.rows = k->rows,
                                            .cols = k->cols,
                                            .n_u = n_u,
                                            .x_ld = (uint32_t)x_ld,
                                            .xs_ld = (uint32_t)xs_ld,
                                            .y_at = 5,
                                            .y_ld = k->rows + 2},
                                      .expert0 = from,
                                      .n_expert = to - from,
                                      .expert_words = each,
                                      .gathered = k->gathered,
                                      .job_at = ch->job,
                                      .token_at = ch->token};
    const bool plain = type <= GPU_BF16;
    run(c, &(launch){
               .name = k->few  ? plain ? "xv_float" : "xv_block"
                       : plain ? "xm_float"
                               : "xm_block",
               .lx = k->few && c->g->facts.subgroup == 1 ? 1 : 256,
               .spec = {k->few ? k->m.job : 1, 0, k->float_act, type, k->biased ? GPU_BIASED : 0},
               .groups = {(k->rows + tall - 1) / tall, ch->word[1] + 1, 1},
               .params = &params,
               .n_params = sizeof params / 4,
               .bind = {bind[0], put(c, packed, (size_t)each * (to - from) * 4), bind[1], bind[2],
                        bind[3], y, bind[4]},
               .n_binds = 7});
    free(packed);
}

static void check_experts(checker *c, const experts_case *k) {
    const uint32_t slots = k->m.live * k->m.used, n_x = k->gathered ? k->m.live : slots;
    const size_t y_ld = k->rows + 2, n_y = 5 + (slots + 1) * y_ld;
    char what[128];
    snprintf(what, sizeof what, "%s of type %u %s, %u x [%u,%u], %u slots%s%s",
             k->few ? "few" : "many", k->type, k->float_act ? "f32" : "int8", k->m.n_expert,
             k->rows, k->cols, slots, k->gathered ? ", gathered" : "", k->biased ? ", biased" : "");
    float *logits = room(k->m.rows * k->m.n_expert, 4), *y = room(n_y, 4);
    float *bias = room(k->m.n_expert * k->rows, 4), *want = room(k->rows, 4);
    randoms(c, logits, k->m.rows * k->m.n_expert, 1);
    randoms(c, bias, k->m.n_expert * k->rows, 1);
    for (size_t i = 0; i < n_y; i++) y[i] = 0.25f;
    choice ch = choose(&k->m, logits, false);
    kern_mat all = mat_make(c, k->type, k->m.n_expert * k->rows, k->cols, NULL);
    experts_x x = make_x(c, n_x, k->cols);
    step_image s = step_make(k->m.rows, k->m.live, 0, 0, 0);
    gpu_mem *out = put(c, y, n_y * 4);
    gpu_mem *const bind[5] = {
        put(c, s.word, s.n_words * 4),
        k->float_act ? put(c, x.x, n_x * k->cols * 4) : put(c, x.q, n_x * x.ldq),
        put(c, x.s, n_x * x.ldq / 8), put(c, bias, 4 * k->m.n_expert * k->rows),
        put(c, ch.word, ch.n_words * 4)};
    const size_t x_ld = k->float_act ? k->cols : x.ldq / 4;
    run_piece(c, k, &all, &ch, bind, out, 0, 2, x_ld, x.ldq / 32);
    run_piece(c, k, &all, &ch, bind, out, 2, k->m.n_expert, x_ld, x.ldq / 32);
    get(c, out, y, n_y * 4);
    drop(c);
    for (uint32_t j = 0; j < ch.word[1]; j++)
        for (uint32_t i = 0; i < ch.word[ch.job + 3 * j + 2]; i++) {
            const uint32_t e = ch.word[ch.job + 3 * j], row = ch.word[ch.job + 3 * j + 1] + i;
            const kern_mat w = expert_of(&all, k->rows, e);
            one_product(c, k, &w, &x, k->gathered ? ch.word[ch.token + row] : row, want);
            if (k->biased) c->ref.add(want, bias + e * k->rows, k->rows);
            near(c, y + 5 + row * y_ld, want, k->rows, BOUND, what);
        }
    bool kept = true;
    for (size_t i = 0; i < n_y; i++)
        if (i < 5 || (i - 5) % y_ld >= k->rows || (i - 5) / y_ld >= slots) kept &= y[i] == 0.25f;
    say(c, kept, "%s: wrote beside its result", what);
    void *list[] = {logits, y, bias, want, ch.word, s.word, x.x, x.q, x.s, x.s16, (void *)all.data};
    for (size_t i = 0; i < BASE_COUNT(list); i++) free(list[i]);
}

/* ==== mix_rows ================================================================================ */

static void check_mix(checker *c, uint32_t what, uint32_t width) {
    enum { USED = 3, LIVE = 4, ROWS = LIVE + 1 };
    const mixture m = {7, USED, ROWS, LIVE, 1};
    const size_t n = ROWS * (size_t)width;
    float *logits = room(ROWS * 7, 4), *src = room(n * USED, 4), *b = room(n, 4), *dst = room(n, 4);
    float *want = room(n, 4), *sum = room(width, 4), gate[ROWS];
    randoms(c, logits, ROWS * 7, 1);
    randoms(c, src, n * USED, 1);
    randoms(c, b, n, 1);
    randoms(c, dst, n, 1);
    randoms(c, gate, ROWS, 2);
    choice ch = choose(&m, logits, false);
    memcpy(want, dst, n * 4);
    for (size_t t = 0; t < LIVE; t++) {
        float *row = want + t * width;
        memset(sum, 0, width * 4);
        for (size_t k = 0; what & MIX_SLOTS && k < USED; k++) {
            float weight;
            memcpy(&weight, &ch.word[ch.weight + t * USED + k], 4);
            c->ref.add_scaled(sum, src + ch.word[ch.row + t * USED + k] * width, weight, width);
        }
        if (!(what & MIX_ADD)) memset(row, 0, width * 4);
        c->ref.add(row, sum, width);
        if (what & MIX_GATED)
            c->ref.add_scaled(row, b + t * width, 1 / (1 + expf(-gate[t])), width);
    }
    step_image s = step_make(ROWS, LIVE, 0, 0, 0);
    const gpu_mix_params params = {.width = width,
                                   .row_at = ch.row,
                                   .weight_at = ch.weight,
                                   .src_ld = width,
                                   .b_ld = width,
                                   .gate_ld = 1,
                                   .dst_ld = width};
    gpu_mem *out = put(c, dst, n * 4);
    run(c, &(launch){.name = "mix_rows",
                     .lx = 256,
                     .spec = {what, USED},
                     .groups = {(width + 255) / 256, ROWS, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {put(c, s.word, s.n_words * 4), put(c, ch.word, ch.n_words * 4),
                              put(c, src, n * USED * 4), put(c, b, n * 4),
                              put(c, gate, sizeof gate), out},
                     .n_binds = 6});
    get(c, out, dst, n * 4);
    drop(c);
    for (size_t t = 0; t < LIVE; t++)
        near(c, dst + t * width, want + t * width, width, 1e-6, "mix");
    say(c, memcmp(dst + LIVE * width, want + LIVE * width, width * 4) == 0,
        "mix wrote a row that is not there");
    void *list[] = {logits, src, b, dst, want, sum, ch.word, s.word};
    for (size_t i = 0; i < BASE_COUNT(list); i++) free(list[i]);
}

/* ==== All of them ============================================================================= */

void check_expert_kernels(checker *c) {
    static const experts_case cases[] = {
        {QUANT_MXFP4, 70, 96, {5, 2, 4, 3, 2}, true, false, true, true},
        {QUANT_MXFP4, 70, 288, {5, 2, 40, 35, 64}, false, false, false, true},
        {QUANT_F32, 33, 83, {4, 3, 2, 2, 2}, true, true, false, true},
        {QUANT_BF16, 65, 64, {3, 2, 40, 33, 64}, false, true, true, false},
        /* the long set */
        {QUANT_MXFP4, 64, 2880, {4, 2, 1, 1, 1}, true, false, true, true},
        {QUANT_MXFP4, 33, 160, {4, 2, 8, 8, 4}, true, true, true, true},
        {QUANT_MXFP4, 33, 160, {4, 2, 70, 70, 64}, false, true, true, false},
        {QUANT_Q8_0, 33, 96, {6, 4, 8, 7, 4}, true, false, false, false},
        {QUANT_Q8_0, 96, 96, {4, 4, 70, 70, 64}, false, false, true, false},
        {QUANT_Q4_K, 33, 512, {6, 4, 8, 7, 8}, true, false, true, false},
        {QUANT_Q6_K, 33, 512, {6, 4, 40, 33, 64}, false, false, false, false},
        {QUANT_Q4_0, 33, 96, {6, 4, 8, 7, 8}, true, false, true, true},
        {QUANT_Q5_1, 33, 96, {6, 4, 40, 33, 64}, false, false, true, true},
        {QUANT_F16, 33, 83, {6, 4, 16, 13, 8}, true, true, true, true},
        {QUANT_F32, 65, 83, {6, 4, 40, 33, 64}, false, true, false, true},
    };
    static const mixture routes[] = {{32, 4, 1, 1, 1},       {8, 2, 8, 5, 4},    {6, 4, 64, 64, 8},
                                     {128, 8, 256, 200, 64}, {256, 16, 4, 4, 2}, {4, 4, 2, 1, 2}};
    for (size_t i = 0; i < (c->all ? BASE_COUNT(cases) : 4); i++) check_experts(c, &cases[i]);
    for (size_t i = 0; i < (c->all ? BASE_COUNT(routes) : 3); i++)
        for (int of_all = 0; of_all < 2; of_all++)
            if (c->all || of_all == (int)(i % 2)) check_route(c, routes[i], of_all);
    check_mix(c, MIX_SLOTS | MIX_ADD, 300);
    check_mix(c, MIX_SLOTS | MIX_ADD | MIX_GATED, 96);
    if (c->all) check_mix(c, MIX_SLOTS, 96);
    if (c->all) check_mix(c, MIX_ADD | MIX_GATED, 96);
}
