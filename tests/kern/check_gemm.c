/* SPDX-License-Identifier: MIT
 *
 * The plain float product: each form a training step uses (operands stored either way, C replaced
 * or added to), at sizes around the tiles and panels, in row ranges as threads share them.
 */
#include "checkern.h"

enum { S_A, S_B, S_C, S_OUT, S_REF, S_SCRATCH };

static float *take(checker *c, size_t which, size_t n) {
    return (float *)(void *)space_take(c, which, n * sizeof(float), 0);
}

typedef struct form {
    const char *name;        /* what the product is in a training step */
    bool a_across, b_across; /* stored transposed */
    bool add;                /* C += */
} form;

/* Runs rows [0, m) in two ranges that do not end at a tile. */
static void run(const kern *k, kern_gemm g, float *c, float *scratch) {
    const size_t half = g.m > 5 ? g.m / 2 + 1 : g.m;
    g.c = c;
    k->gemm_f32(&g, 0, half, scratch);
    if (half < g.m) k->gemm_f32(&g, half, g.m, scratch);
}

static void one_case(checker *c, const form *f, size_t m, size_t n, size_t k) {
    const size_t ldc = n + 3;
    float *a = take(c, S_A, m * k), *b = take(c, S_B, k * n), *start = take(c, S_C, m * ldc);
    float *ref = take(c, S_REF, m * ldc), *scratch = take(c, S_SCRATCH, KERN_GEMM_SCRATCH);
    fill_floats(c, a, m * k, FILL_RANDOM);
    fill_floats(c, b, k * n, FILL_RANDOM);
    fill_floats(c, start, m * ldc, FILL_RANDOM);
    const kern_gemm g = {.a = a,
                         .b = b,
                         .a_row = f->a_across ? 1 : k,
                         .a_col = f->a_across ? m : 1,
                         .b_row = f->b_across ? 1 : n,
                         .b_col = f->b_across ? k : 1,
                         .ldc = ldc,
                         .m = m,
                         .n = n,
                         .k = k,
                         .add = f->add};
    memcpy(ref, start, m * ldc * sizeof *ref);
    run(&c->ref, g, ref, scratch);
    for (size_t l = 0; l < c->n_levels; l++) {
        float *out = take(c, S_OUT, m * ldc);
        memcpy(out, start, m * ldc * sizeof *out);
        run(&c->table[l], g, out, scratch);
        size_t bad = 0;
        bool good = floats_equal(ref, out, m * ldc, &bad);
        slot_verdict(c, l, good && guards_intact(&c->space[S_OUT]),
                     "%s %zu x %zu x %zu: element %zu is %.9g, expected %.9g", f->name, m, n, k,
                     bad, (double)out[bad], (double)ref[bad]);
    }
}

/* The C version's order of additions, said once more: one chain over k. */
static void check_order(checker *c) {
    enum { M = 3, N = 5, K = 401 };
    float *a = take(c, S_A, M * K), *b = take(c, S_B, K * N), *y = take(c, S_OUT, M * N);
    fill_floats(c, a, M * K, FILL_RANDOM);
    fill_floats(c, b, K * N, FILL_RANDOM);
    const kern_gemm g = {a, b, y, K, 1, N, 1, N, M, N, K, false};
    c->ref.gemm_f32(&g, 0, M, take(c, S_SCRATCH, KERN_GEMM_SCRATCH));
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            float sum = 0;
            for (size_t k = 0; k < K; k++) sum = __builtin_fmaf(a[i * K + k], b[k * N + j], sum);
            slot_verdict(c, 0, memcmp(&sum, &y[i * N + j], sizeof sum) == 0,
                         "order: (%zu, %zu) is %.9g, expected %.9g", i, j, (double)y[i * N + j],
                         (double)sum);
        }
}

void check_gemm(checker *c) {
    static const form forms[] = {{"y = x w'", false, true, false},
                                 {"dx = dy w", false, false, false},
                                 {"dw += dy' x", true, false, true}};
    static const size_t sizes[][3] = {{1, 1, 1},    {1, 17, 0},    {2, 16, 3},    {6, 32, 192},
                                      {12, 32, 64}, {13, 33, 193}, {25, 100, 20}, {7, 31, 400},
                                      {390, 5, 12}, {64, 65, 66}};
    if (!slot_begin(c, "gemm_f32")) return;
    if (c->n_levels) check_order(c);
    for (size_t f = 0; f < BASE_COUNT(forms); f++)
        for (size_t i = 0; i < BASE_COUNT(sizes); i++)
            one_case(c, &forms[f], sizes[i][0], sizes[i][1], sizes[i][2]);
}
