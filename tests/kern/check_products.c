/* SPDX-License-Identifier: MIT
 *
 * The matrix products. Every case takes a weight matrix at an odd address, B activation rows and a
 * range of rows; the result stands in a wider y whose other elements must stay untouched.
 */
#include "checkern.h"

#include <math.h>
#include <stdlib.h>

enum { S_W, S_X, S_Q, S_STEP, S_SUM, S_SCALE, S_OUT, S_REF };

typedef struct product {
    kern_mat w;            /* weights */
    kern_act x;            /* activations */
    size_t ldy;            /* floats between result rows */
    size_t begin, end;     /* rows to compute */
    const char *type_name; /* of w */
    fill wf, xf;           /* how both were filled */
} product;

static kern_mm_fn slot_fn(const kern *k, size_t at) {
    kern_mm_fn fn;
    memcpy(&fn, (const uint8_t *)k + at, sizeof fn);
    return fn;
}

/* Runs the slot at byte offset `at` of the table in C and in every level. */
static void compare(checker *c, size_t at, const product *p) {
    const size_t n = p->x.n_tok * p->ldy, bytes = n * sizeof(float);
    float *ref = (float *)(void *)space_take(c, S_REF, bytes, 0);
    slot_fn(&c->ref, at)(ref, p->ldy, &p->w, &p->x, p->begin, p->end);
    for (size_t i = 0; i < c->n_levels; i++) {
        size_t bad = 0;
        float *out = (float *)(void *)space_take(c, S_OUT, bytes, 0);
        slot_fn(&c->table[i], at)(out, p->ldy, &p->w, &p->x, p->begin, p->end);
        bool same = floats_equal(ref, out, n, &bad), whole = guards_intact(&c->space[S_OUT]);
        slot_verdict(c, i, same && whole,
                     "%s rows %zu [%zu, %zu) cols %zu tokens %zu, weights %s x %s, address %% 64 = "
                     "%zu: token %zu row %zu is %.9g, expected %.9g%s",
                     p->type_name, p->w.rows, p->begin, p->end, p->w.cols, p->x.n_tok,
                     fill_name(p->wf), fill_name(p->xf), (size_t)((uintptr_t)p->w.data % 64),
                     bad / p->ldy, bad % p->ldy, (double)out[bad], (double)ref[bad],
                     whole ? "" : "; guard bytes overwritten");
    }
}

/* ==== Shapes ================================================================================== */

static const size_t some_rows[] = {1, 3, 4, 5, 33, 67};
static const size_t some_tokens[] = {1, 2, 3, 5, 8, 17, 64};
static const size_t some_cols[] = {1,   2,   16,  19,   20,   21,   31,   32,   33,
                                   127, 128, 129, 1003, 2560, 2752, 6912, 65536};

/* Keeps one case in bounds of time: the C version does about 10^9 products a second. */
static bool affordable(size_t rows, size_t cols, size_t tokens) {
    return rows * cols * tokens <= 3000000 || (rows <= 5 && tokens <= 3) ||
           (rows == 67 && tokens == 17 && cols <= 6912) ||
           (rows == 33 && tokens == 64 && cols <= 2752);
}

static void choose_range(checker *c, product *p) {
    p->begin = 0;
    p->end = p->w.rows;
    if (p->w.rows > 3 && base_rng_below(&c->rng, 2)) {
        p->begin = base_rng_below(&c->rng, (uint32_t)p->w.rows / 2);
        p->end = p->w.rows - base_rng_below(&c->rng, (uint32_t)p->w.rows / 2);
    }
}

/* The weight bytes of one case, sometimes away from the page's end so that addresses vary. */
static uint8_t *take_weights(checker *c, kern_mat *w) {
    size_t gap = base_rng_below(&c->rng, 2) ? 0 : base_rng_below(&c->rng, 63) + 1;
    size_t rows = w->type == QUANT_T5 ? (w->rows + 15) / 16 * 16 : w->rows;
    uint8_t *p = space_take(c, S_W, rows * w->row_bytes, gap);
    w->data = p;
    return p;
}

/* ==== Activations ============================================================================= */

static void take_floats(checker *c, kern_act *x, size_t cols, fill f) {
    x->ldx = cols + base_rng_below(&c->rng, 5);
    float *p = (float *)(void *)space_take(c, S_X, ((x->n_tok - 1) * x->ldx + cols) * 4, 0);
    for (size_t b = 0; b < x->n_tok; b++) fill_floats(c, p + b * x->ldx, cols, f);
    x->x = p;
}

static int8_t code_of(checker *c, fill f, size_t i, int lowest) {
    if (f == FILL_RANDOM) return (int8_t)((int)base_rng_below(&c->rng, 255) - 127);
    if (f == FILL_ZERO) return 0;
    if (f == FILL_ALTERNATE) return (int8_t)(i & 1 ? lowest : 127);
    return (int8_t)(f == FILL_LOW ? lowest : 127);
}

/* int8 rows, padded with zeros; for ternary products one scale and sum a row. */
static void take_codes_row(checker *c, kern_act *x, size_t cols, fill f) {
    x->ldq = (cols + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
    int8_t *q = (int8_t *)space_take(c, S_Q, x->n_tok * x->ldq, 0);
    float *s = (float *)(void *)space_take(c, S_STEP, x->n_tok * 4, 0);
    int32_t *sum = (int32_t *)(void *)space_take(c, S_SUM, x->n_tok * 4, 0);
    memset(q, 0, x->n_tok * x->ldq);
    for (size_t b = 0; b < x->n_tok; b++) {
        sum[b] = 0;
        for (size_t i = 0; i < cols; i++) sum[b] += q[b * x->ldq + i] = code_of(c, f, i, -128);
        s[b] = 0.5f + 100.0f * (float)base_rng_double(&c->rng);
    }
    x->q = q, x->s = s, x->sum = sum;
}

/* The same for block types: one step a block of 32, sums of 16. */
static void take_codes_block(checker *c, kern_act *x, size_t cols, fill f) {
    x->ldq = (cols + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
    int8_t *q = (int8_t *)space_take(c, S_Q, x->n_tok * x->ldq, 0);
    float *s = (float *)(void *)space_take(c, S_STEP, x->n_tok * x->ldq / 8, 0);
    int16_t *sum16 = (int16_t *)(void *)space_take(c, S_SUM, x->n_tok * x->ldq / 8, 0);
    memset(q, 0, x->n_tok * x->ldq);
    for (size_t b = 0; b < x->n_tok; b++)
        for (size_t i = 0; i < cols; i++) q[b * x->ldq + i] = code_of(c, f, i, -127);
    for (size_t i = 0; i < x->n_tok * x->ldq / 16; i++) {
        int sum = 0;
        for (size_t j = 0; j < 16; j++) sum += q[16 * i + j];
        sum16[i] = (int16_t)sum;
        s[i / 2] = 0.001f + 0.02f * (float)base_rng_double(&c->rng);
    }
    x->q = q, x->s = s, x->sum16 = sum16;
}

/* ==== The families ============================================================================ */

static void put_ternary(checker *c, const product *p, uint8_t *data) {
    const size_t rows = p->w.rows, cols = p->w.cols;
    int8_t *t = base_alloc(rows * cols);
    if (!t) abort();
    for (size_t r = 0; r < rows; r++) {
        fill_ternary(c, t + r * cols, cols, p->wf);
        if (p->w.type == QUANT_I2_S)
            quant_t2_pack_row(t + r * cols, cols, data + r * p->w.row_bytes);
    }
    if (p->w.type == QUANT_T5) quant_t5_pack_rows(t, rows, cols, data);
    base_free(t);
}

static void ternary_case(checker *c, size_t at, product p, bool float_acts) {
    const bool t5 = p.w.type == QUANT_T5;
    p.type_name = t5 ? "T5" : "T2";
    p.w.row_bytes = t5 ? quant_t5_row_bytes(p.w.cols) : quant_t2_row_bytes(p.w.cols);
    p.w.scale = 0.37f;
    put_ternary(c, &p, take_weights(c, &p.w));
    if (base_rng_below(&c->rng, 2)) {
        float *s = (float *)(void *)space_take(c, S_SCALE, p.w.rows * 4, 0);
        for (size_t r = 0; r < p.w.rows; r++) s[r] = random_float(c);
        p.w.row_scale = s;
    }
    if (float_acts)
        take_floats(c, &p.x, p.w.cols, p.xf);
    else
        take_codes_row(c, &p.x, p.w.cols, p.xf);
    choose_range(c, &p);
    compare(c, at, &p);
}

static void block_case(checker *c, size_t at, product p, const quant_info *info, bool float_acts) {
    p.type_name = info->name;
    p.w.type = info->id;
    p.w.row_bytes = p.w.cols / info->block_elems * info->block_bytes;
    uint8_t *data = take_weights(c, &p.w);
    fill_blocks(c, data, info, p.w.rows * p.w.cols / info->block_elems, p.wf);
    if (float_acts)
        take_floats(c, &p.x, p.w.cols, p.xf);
    else
        take_codes_block(c, &p.x, p.w.cols, p.xf);
    choose_range(c, &p);
    compare(c, at, &p);
}

/* Rows side by side: packed from random Q8_0 rows. What they must give is what those rows give. */
static void side_case(checker *c, size_t at, product p) {
    const quant_info *info = quant_find(QUANT_Q8_0);
    const size_t n_k = p.w.cols / 32, groups = (p.w.rows + 15) / 16;
    uint8_t *rows = base_alloc(p.w.rows * n_k * 34);
    kern_mat padded = p.w;
    if (!rows) abort();
    fill_blocks(c, rows, info, p.w.rows * n_k, p.wf);
    p.type_name = "Q8_0 side by side";
    p.w.type = KERN_Q8X16;
    p.w.row_bytes = padded.row_bytes = n_k * 34;
    padded.rows = groups * 16;
    uint8_t *data = take_weights(c, &padded);
    p.w.data = data;
    for (size_t g = 0; g < groups; g++)
        kern_q8x16_pack(data + g * n_k * 544, rows + g * 16 * n_k * 34,
                        p.w.rows - g * 16 < 16 ? p.w.rows - g * 16 : 16, p.w.cols);
    take_codes_block(c, &p.x, p.w.cols, p.xf);
    choose_range(c, &p);
    p.begin = p.begin / 16 * 16;
    compare(c, at, &p);

    kern_mat plain = p.w;
    plain.type = QUANT_Q8_0, plain.data = rows;
    const size_t n = p.x.n_tok * p.ldy;
    size_t bad = 0;
    float *ref = (float *)(void *)space_take(c, S_REF, n * sizeof(float), 0);
    float *out = (float *)(void *)space_take(c, S_OUT, n * sizeof(float), 0);
    c->ref.mm_b32_q8(ref, p.ldy, &plain, &p.x, p.begin, p.end);
    c->ref.mm_q8x16(out, p.ldy, &p.w, &p.x, p.begin, p.end);
    bool same = floats_equal(ref, out, n, &bad);
    slot_verdict(c, 0, same, "rows %zu cols %zu: side by side %.9g, one after another %.9g",
                 p.w.rows, p.w.cols, (double)out[bad], (double)ref[bad]);
    base_free(rows);
}

static void plain_case(checker *c, size_t at, product p, const quant_info *info) {
    p.type_name = info->name;
    p.w.type = info->id;
    p.w.row_bytes = p.w.cols * info->block_bytes;
    uint8_t *data = take_weights(c, &p.w);
    for (size_t i = 0; i < p.w.rows * p.w.cols; i++) {
        float v;
        fill_floats(c, &v, 1, p.wf);
        if (p.wf == FILL_ALTERNATE && base_rng_below(&c->rng, 200) == 0) v = INFINITY;
        uint16_t h = info->id == QUANT_F16 ? quant_f32_to_f16(v) : quant_f32_to_bf16(v);
        if (info->id == QUANT_F32)
            memcpy(data + 4 * i, &v, 4);
        else
            memcpy(data + 2 * i, &h, 2);
    }
    take_floats(c, &p.x, p.w.cols, p.xf);
    choose_range(c, &p);
    compare(c, at, &p);
}

/* Whole groups of sixteen float rows, each sum one chain over the columns: said once more here. */
static void side_f32_case(checker *c, size_t at, product p) {
    p.w.rows = (p.w.rows + 15) / 16 * 16;
    p.ldy += 16;
    p.type_name = "F32 side by side";
    p.w.type = KERN_F32X16;
    p.w.row_bytes = p.w.cols * sizeof(float);
    float *rows = base_alloc_array(p.w.rows * p.w.cols, sizeof *rows);
    if (!rows) abort();
    fill_floats(c, rows, p.w.rows * p.w.cols, p.wf);
    uint8_t *data = space_take(c, S_W, p.w.rows * p.w.row_bytes, 0);
    p.w.data = data;
    for (size_t r = 0; r < p.w.rows; r += 16)
        kern_f32x16_pack((float *)(void *)(data + r * p.w.row_bytes),
                         (const uint8_t *)(rows + r * p.w.cols), p.w.row_bytes, p.w.cols);
    take_floats(c, &p.x, p.w.cols, p.xf);
    choose_range(c, &p);
    p.begin = p.begin / 16 * 16, p.end = (p.end + 15) / 16 * 16;
    compare(c, at, &p);

    const size_t r = p.end - 1, b = p.x.n_tok - 1;
    float *out = (float *)(void *)space_take(c, S_OUT, p.x.n_tok * p.ldy * sizeof(float), 0);
    float sum = 0;
    c->ref.mm_f32x16(out, p.ldy, &p.w, &p.x, p.begin, p.end);
    for (size_t k = 0; k < p.w.cols; k++)
        sum = fmaf(rows[r * p.w.cols + k], p.x.x[b * p.x.ldx + k], sum);
    slot_verdict(c, 0, floats_equal(&sum, &out[b * p.ldy + r], 1, &(size_t){0}),
                 "order: rows %zu cols %zu: %.9g, expected %.9g", p.w.rows, p.w.cols,
                 (double)out[b * p.ldy + r], (double)sum);
    base_free(rows);
}

typedef void (*case_fn)(checker *c, size_t at, const product *p, const quant_info *info);

static void case_t(checker *c, size_t at, const product *p, const quant_info *info) {
    product copy = *p;
    copy.w.type = info->id;
    ternary_case(c, at, copy, false);
}
static void case_t_f32(checker *c, size_t at, const product *p, const quant_info *info) {
    product copy = *p;
    copy.w.type = info->id;
    ternary_case(c, at, copy, true);
}
static void case_b32(checker *c, size_t at, const product *p, const quant_info *info) {
    if (p->w.cols % info->block_elems == 0) block_case(c, at, *p, info, false);
}
static void case_b32_f32(checker *c, size_t at, const product *p, const quant_info *info) {
    if (p->w.cols % info->block_elems == 0) block_case(c, at, *p, info, true);
}
static void case_side(checker *c, size_t at, const product *p, const quant_info *info) {
    if (info->id == QUANT_Q8_0) side_case(c, at, *p);
}
static void case_side_f32(checker *c, size_t at, const product *p, const quant_info *info) {
    (void)info;
    side_f32_case(c, at, *p);
}
static void case_plain(checker *c, size_t at, const product *p, const quant_info *info) {
    plain_case(c, at, *p, info);
}

static bool of_one_token(size_t at) {
    return at == offsetof(kern, gemv_t2_i8) || at == offsetof(kern, gemv_t5_i8);
}

/* Every shape with random numbers; the extremes on the shapes where sums are longest or oddest. */
static void shapes(checker *c, size_t at, case_fn fn, const quant_info *info, size_t max_cols) {
    product p = {0};
    for (size_t k = 0; k < BASE_COUNT(some_cols); k++)
        for (size_t r = 0; r < BASE_COUNT(some_rows); r++)
            for (size_t b = 0; b < BASE_COUNT(some_tokens); b++)
                for (int f = 0; f < FILL_KINDS * FILL_KINDS; f++) {
                    p.wf = (fill)(f / FILL_KINDS), p.xf = (fill)(f % FILL_KINDS);
                    p.w.cols = some_cols[k], p.w.rows = some_rows[r], p.x.n_tok = some_tokens[b];
                    p.ldy = p.w.rows + base_rng_below(&c->rng, 3);
                    if (of_one_token(at) && p.x.n_tok > 1) continue;
                    if (p.w.cols > max_cols || !affordable(p.w.rows, p.w.cols, p.x.n_tok)) continue;
                    if (too_long(p.w.rows * p.w.cols * p.x.n_tok)) continue;
                    if (f > 0 && (p.w.rows > 5 || p.x.n_tok > 8 || p.w.cols * p.x.n_tok > 70000))
                        continue;
                    fn(c, at, &p, info);
                }
}

/* Ternary products share work among groups of tokens and cut long rows: every size of a group, more
 * tokens than are worked on together, and rows with partners and without. */
static void token_groups(checker *c, size_t at, uint32_t type) {
    static const size_t tokens[] = {4, 6, 7, 9, 10, 11, 12, 13, 14, 24, 25, 37, 300};
    static const size_t cols[] = {33, 129, 640, 2560, 6912};
    for (size_t k = 0; k < BASE_COUNT(cols); k++)
        for (size_t b = 0; b < BASE_COUNT(tokens); b++)
            for (size_t rows = 5; rows <= 131; rows += 42) {
                product p = {.ldy = rows + 1, .x = {.n_tok = tokens[b]}};
                p.w.rows = rows, p.w.cols = cols[k];
                if (tokens[b] == 300 && rows != 89) continue;
                if (too_long(rows * cols[k] * tokens[b])) continue;
                if (rows * cols[k] * tokens[b] <= 200000000) case_t(c, at, &p, quant_find(type));
            }
}

/* Sizes a block type can have: whole blocks, odd counts of them, rows longer than a chunk; rows
 * whose last strip is shorter than a group (897 and 904 blocks) and as long as one token takes by
 * rows. */
static void block_shapes(checker *c, size_t at, case_fn fn, size_t max_cols) {
    static const size_t block_cols[] = {32,   64,   96,   160,  256,   512,   544,  768,
                                        2560, 2880, 4352, 9216, 28704, 28928, 32768};
    const quant_info *info;
    for (size_t i = 0; (info = quant_at(i)) != NULL; i++)
        for (size_t k = 0; (info->flags & QUANT_BLOCK32) && k < BASE_COUNT(block_cols); k++)
            for (size_t r = 0; r < BASE_COUNT(some_rows); r++)
                for (size_t b = 0; b < BASE_COUNT(some_tokens); b++)
                    for (int f = 0; f < FILL_KINDS; f++) {
                        product p = {.wf = (fill)f, .xf = (fill)((f + b) % FILL_KINDS)};
                        p.w.cols = block_cols[k], p.w.rows = some_rows[r];
                        p.x.n_tok = some_tokens[b], p.ldy = p.w.rows + base_rng_below(&c->rng, 3);
                        if (f == 0) p.xf = FILL_RANDOM;
                        if (p.w.cols > max_cols || p.w.rows * p.w.cols * p.x.n_tok > 1200000)
                            continue;
                        if (too_long(p.w.rows * p.w.cols * p.x.n_tok)) continue;
                        if (f > 0 && (p.w.rows > 5 || p.w.cols * p.x.n_tok > 6000)) continue;
                        fn(c, at, &p, info);
                    }
}

void check_products(checker *c) {
    static const struct plain {
        const char *slot; /* name */
        size_t at;        /* offset in the table */
        uint32_t type;    /* weights */
    } plain[] = {{"mm_f32", offsetof(kern, mm_f32), QUANT_F32},
                 {"mm_f16", offsetof(kern, mm_f16), QUANT_F16},
                 {"mm_bf16", offsetof(kern, mm_bf16), QUANT_BF16}};
    const quant_info *t2 = quant_find(QUANT_I2_S), *t5 = quant_find(QUANT_T5);
    if (slot_begin(c, "gemv_t2_i8")) shapes(c, offsetof(kern, gemv_t2_i8), case_t, t2, 65536);
    if (slot_begin(c, "gemm_t2_i8")) {
        shapes(c, offsetof(kern, gemm_t2_i8), case_t, t2, 65536);
        token_groups(c, offsetof(kern, gemm_t2_i8), QUANT_I2_S);
    }
    if (slot_begin(c, "gemv_t5_i8")) shapes(c, offsetof(kern, gemv_t5_i8), case_t, t5, 65536);
    if (slot_begin(c, "gemm_t5_i8")) {
        shapes(c, offsetof(kern, gemm_t5_i8), case_t, t5, 65536);
        token_groups(c, offsetof(kern, gemm_t5_i8), QUANT_T5);
    }
    if (slot_begin(c, "mm_b32_q8")) block_shapes(c, offsetof(kern, mm_b32_q8), case_b32, 32768);
    if (slot_begin(c, "mm_q8x16")) block_shapes(c, offsetof(kern, mm_q8x16), case_side, 32768);
    if (slot_begin(c, "mm_t2_f32")) shapes(c, offsetof(kern, mm_t2_f32), case_t_f32, t2, 2560);
    if (slot_begin(c, "mm_t5_f32")) shapes(c, offsetof(kern, mm_t5_f32), case_t_f32, t5, 2560);
    if (slot_begin(c, "mm_b32_f32")) block_shapes(c, offsetof(kern, mm_b32_f32), case_b32_f32, 544);
    if (slot_begin(c, "mm_f32x16"))
        shapes(c, offsetof(kern, mm_f32x16), case_side_f32, quant_find(QUANT_F32), 1003);
    for (size_t i = 0; i < BASE_COUNT(plain); i++)
        if (slot_begin(c, plain[i].slot))
            shapes(c, plain[i].at, case_plain, quant_find(plain[i].type), 2752);
}
