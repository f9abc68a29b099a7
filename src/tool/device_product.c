/* SPDX-License-Identifier: MIT
 *
 * One ternary product on a device of its own, timed as a caller sees it: rows of activations go in,
 * are quantised and multiplied where the weights lie, and every result is read back. The same list
 * of ops for the CPU and for a GPU; the activations are rows of a small table, which is how ops get
 * their input.
 *
 * The weights stay between calls and, at these sizes, in some cache: what is measured is the price
 * of a call, not of memory.
 */
#include "tool/tool_device.h"

#include "cpu/cpu.h"

#include <stdlib.h>

typedef struct bench {
    tool_product p; /* which */
    par_pool *pool; /* owned */
    kern k;         /* kernels of the CPU */
    dev *d;         /* owned */
    int8_t *row;    /* [cols] ternary values, owned */
    uint8_t *w;     /* [rows] packed, owned */
    float *table;   /* [n_tok, cols] activations, owned */
    double *us;     /* [repetitions] owned */
    dev_buf y;      /* results */
    double sum;     /* of them: nobody may skip the work */
} bench;

static rotor_status make_data(bench *b, uint32_t repetitions, rotor_error *err) {
    const size_t row_bytes = quant_t2_row_bytes(b->p.cols);
    const size_t values = (size_t)b->p.n_tok * b->p.cols;
    base_rng rng;
    base_rng_seed(&rng, 1);
    b->row = base_alloc_array(b->p.cols, 1);
    b->w = base_alloc_aligned(b->p.rows * row_bytes);
    b->table = base_alloc_aligned(values * sizeof *b->table);
    b->us = base_alloc_array(repetitions, sizeof *b->us);
    if (!b->row || !b->w || !b->table || !b->us) return base_fail_nomem(err, "measuring a product");
    for (size_t r = 0; r < b->p.rows; r++) {
        for (size_t c = 0; c < b->p.cols; c++)
            b->row[c] = (int8_t)((int)base_rng_below(&rng, 3) - 1);
        quant_t2_pack_row(b->row, b->p.cols, b->w + r * row_bytes);
    }
    for (size_t i = 0; i < values; i++) b->table[i] = (float)base_rng_double(&rng) - 0.5f;
    return ROTOR_OK;
}

static rotor_status make_device(bench *b, const char *device, const char *cache_dir,
                                const tool_ops_options *opt, rotor_error *err) {
    static const double no_turn[1] = {1};
    const dev_shape shape = {.max_rows = b->p.n_tok,
                             .max_picked = 1,
                             .n_layer = 1,
                             .n_head = 1,
                             .n_head_kv = 1,
                             .d_head = 32,
                             .n_rot = 2,
                             .inv_freq = no_turn,
                             .n_pages = 1,
                             .kv = KERN_KV_F16,
                             .solo_bytes = 4 << 20};
    size_t index;
    unsigned mask = ~0u;
    const dev_api api = tool_device_api(device, &index);
    if (api != DEV_CPU) return dev_gpu_create(&b->d, api, index, cache_dir, &shape, err);
    if (opt->cpu) ROTOR_TRY(cpu_parse_mask(opt->cpu, &mask, err));
    kern_init(&b->k, cpu_detect() & mask);
    ROTOR_TRY(par_create(&b->pool, BASE_MAX(opt->n_threads, 1), false, err));
    return dev_cpu_create(&b->d, &b->k, b->pool, &shape, err);
}

/* table rows -> quantised -> times w. */
static rotor_status make_list(bench *b, rotor_error *err) {
    const size_t row_bytes = quant_t2_row_bytes(b->p.cols);
    const kern_mat table = {.data = (const uint8_t *)b->table,
                            .type = QUANT_F32,
                            .rows = b->p.n_tok,
                            .cols = b->p.cols,
                            .row_bytes = b->p.cols * sizeof(float),
                            .scale = 1};
    const kern_mat w = {.data = b->w,
                        .type = QUANT_I2_S,
                        .rows = b->p.rows,
                        .cols = b->p.cols,
                        .row_bytes = row_bytes,
                        .scale = 1};
    dev_mat mt, mw;
    dev_buf x;
    ROTOR_TRY(dev_add_mat(b->d, &table, &mt, err));
    ROTOR_TRY(dev_add_mat(b->d, &w, &mw, err));
    ROTOR_TRY(dev_add_buf(b->d, b->p.cols, DEV_TOKENS, &x, err));
    ROTOR_TRY(dev_add_buf(b->d, b->p.rows, DEV_TOKENS, &b->y, err));
    const dev_op ops[] = {{.kind = DEV_EMBED, .n_mats = 1, .w = {mt}, .dst = {x}},
                          {.kind = DEV_QUANT_I8, .src = x},
                          {.kind = DEV_MATMUL, .n_mats = 1, .w = {mw}, .src = x, .dst = {b->y}}};
    return dev_record(b->d, ops, BASE_COUNT(ops), err);
}

static rotor_status call(bench *b, const dev_step *step, double *us, rotor_error *err) {
    const uint64_t start = base_now_ns();
    ROTOR_TRY(dev_run(b->d, step, err));
    for (uint32_t t = 0; t < b->p.n_tok; t++) {
        const float *y = dev_read(b->d, b->y, t);
        if (!y) return base_fail(err, ROTOR_E_DEVICE, "%s: cannot be read", dev_name(b->d));
        b->sum += y[b->p.rows - 1];
    }
    *us = (double)BASE_MAX(base_now_ns() - start, (uint64_t)1) / 1e3;
    return ROTOR_OK;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static rotor_status measure(bench *b, uint32_t repetitions, double *us, rotor_error *err) {
    enum { MOST_TOK = 16 };
    uint32_t token[MOST_TOK], pos[MOST_TOK];
    const uint32_t page[1] = {0}, *pages[MOST_TOK];
    double unmeasured;
    for (uint32_t t = 0; t < MOST_TOK; t++) {
        token[t] = t % b->p.n_tok;
        pos[t] = t;
        pages[t] = page;
    }
    if (b->p.n_tok > MOST_TOK) return base_fail(err, ROTOR_E_ARG, "at most %d tokens", MOST_TOK);
    const dev_step step = {.n_rows = b->p.n_tok, .token = token, .pos = pos, .pages = pages};
    ROTOR_TRY(call(b, &step, &unmeasured, err));
    for (uint32_t i = 0; i < repetitions; i++) ROTOR_TRY(call(b, &step, &b->us[i], err));
    qsort(b->us, repetitions, sizeof *b->us, ascending);
    *us = b->us[repetitions / 2];
    return ROTOR_OK;
}

rotor_status tool_product_time(const tool_product *p, const char *device, const char *cache_dir,
                               const tool_ops_options *opt, double *us, rotor_error *err) {
    bench b = {.p = *p};
    const uint32_t n = BASE_MAX(opt->repetitions, 1u);
    rotor_status st = make_data(&b, n, err);
    if (st == ROTOR_OK) st = make_device(&b, device, cache_dir, opt, err);
    if (st == ROTOR_OK) st = make_list(&b, err);
    if (st == ROTOR_OK) st = measure(&b, n, us, err);
    dev_free(&b.d);
    par_free(&b.pool);
    base_free(b.row);
    base_free_aligned(b.w);
    base_free_aligned(b.table);
    base_free(b.us);
    return st;
}
