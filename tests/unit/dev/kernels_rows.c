/* SPDX-License-Identifier: MIT
 *
 * What works on one row: `row` in every combination of steps a forward pass asks for, `embed` of
 * every packed type, `best`.
 */
#include "check_kernels.h"
#include "dev/dev.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 3, LIVE = 2, GUARD_ROW = ROWS - 1 }; /* rows in the grid; rows of the step */

typedef struct row_case {
    uint32_t what;         /* ROW_ flags */
    uint32_t width, heads; /* of a head; heads */
    bool in_place;         /* dst is a */
} row_case;

typedef struct row_data {
    float *a, *b, *vec, *dst; /* [ROWS, n], vec [n] */
    uint8_t *q;               /* [ROWS, ldq] */
    uint32_t *xs;             /* [ROWS, ldq / 32] */
    size_t n, ldq;            /* elements of a row; bytes of a row of q */
} row_data;

/* The steps in their order, one row; v[n] comes in as a. */
static void reference(const checker *c, const row_case *k, float *v, const float *b,
                      const float *vec) {
    const size_t n = (size_t)k->width * k->heads;
    if (k->what & ROW_ADD) c->ref.add(v, b, n);
    if (k->what & ROW_BIAS) c->ref.add(v, vec, n);
    if (k->what & ROW_RELU2) c->ref.glu(v, v, b, n, KERN_RELU2);
    if (k->what & ROW_SILU) c->ref.glu(v, v, b, n, KERN_SILU);
    if (k->what & ROW_OAI) c->ref.glu(v, v, b, n, KERN_SWIGLU_OAI);
    if (k->what & ROW_NORM)
        for (size_t h = 0; h < k->heads; h++)
            c->ref.rmsnorm(v + h * k->width, v + h * k->width, vec, k->width, 1e-5f);
}

/* Codes of one row against those of the reference: a different rounding may move a code that is
 * nearly in the middle by one, a few times. */
static void check_codes(checker *c, const int8_t *got, const int8_t *want, size_t n,
                        const char *what) {
    size_t off = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t e = (size_t)abs(got[i] - want[i]) + (c->bent ? 2 : 0);
        off += e != 0;
        most = BASE_MAX(most, e);
    }
    say(c, most <= 1 && off <= 1 + n / 500, "%s: %zu codes differ, by up to %zu", what, off, most);
}

static void check_quantised(checker *c, const row_case *k, const row_data *d, size_t row,
                            const float *v, const char *what) {
    const size_t ldq = d->ldq;
    int8_t *want = room(ldq, 1), *got = room(ldq, 1);
    float *s = room(ldq / 32, 4);
    int16_t *sum16 = room(ldq / 16, 2);
    int32_t sum = 0, got_sum = 0;
    const uint8_t *q = d->q + row * ldq;
    const float *xs = (const float *)(const void *)(d->xs + row * (ldq / 32));
    if (k->what & ROW_I8) {
        c->ref.quant_i8(want, s, &sum, v, d->n, ldq);
        for (size_t w = 0; w < ldq / 4; w++)
            memcpy(got + 4 * w, q + 4 * (w / 32 * 32 + w % 8 * 4 + w / 8 % 4), 4);
        for (size_t i = 0; i < ldq; i++) got_sum += got[i];
        say(c, (uint32_t)got_sum == d->xs[row * (ldq / 32) + 1], "%s: the sum of codes", what);
        near(c, xs, s, 1, 1e-5, what);
    } else {
        c->ref.quant_q8(want, s, sum16, v, d->n, ldq);
        memcpy(got, q, ldq);
        near(c, xs, s, ldq / 32, 1e-5, what);
    }
    check_codes(c, got, want, ldq, what);
    free(want);
    free(got);
    free(s);
    free(sum16);
}

static void check_result(checker *c, const row_case *k, const row_data *d, const float *a,
                         const uint32_t *picked) {
    char what[96];
    snprintf(what, sizeof what, "row %u, width %u x %u%s", k->what, k->width, k->heads,
             k->in_place ? ", in place" : "");
    float *v = room(d->n, 4);
    for (size_t r = 0; r < LIVE; r++) {
        memcpy(v, a + (k->what & ROW_PICK ? picked[r] : r) * d->n, d->n * 4);
        reference(c, k, v, d->b + r * d->n, d->vec);
        if (k->what & ROW_OUT) near(c, d->dst + r * d->n, v, d->n, BOUND, what);
        if (k->what & (ROW_I8 | ROW_Q8)) check_quantised(c, k, d, r, v, what);
    }
    bool kept = true;
    for (size_t i = 0; i < d->n; i++)
        kept &= d->dst[GUARD_ROW * d->n + i] == (k->in_place ? a[GUARD_ROW * d->n + i] : 0.25f);
    for (size_t i = 0; i < d->ldq; i++) kept &= d->q[GUARD_ROW * d->ldq + i] == 0x5a;
    say(c, kept, "%s: wrote a row that is not there", what);
    free(v);
}

static void check_row(checker *c, const row_case *k) {
    row_data d = {.n = (size_t)k->width * k->heads};
    d.ldq = (d.n + 127) / 128 * 128;
    const size_t n = d.n * ROWS;
    d.a = room(n, 4), d.b = room(n, 4), d.vec = room(d.n, 4), d.dst = room(n, 4);
    d.q = room(ROWS, d.ldq), d.xs = room(ROWS, d.ldq / 8);
    randoms(c, d.a, n, k->what & ROW_OAI ? 8 : 2); /* some beyond what it lets through */
    randoms(c, d.b, n, k->what & ROW_OAI ? 6 : 1);
    randoms(c, d.vec, d.n, 1);
    for (size_t i = 0; i < n; i++) d.dst[i] = 0.25f;
    memset(d.q, 0x5a, ROWS * d.ldq);
    step_image s = step_make(ROWS, LIVE, LIVE, 0, 0);
    s.word[s.picked_at] = 1, s.word[s.picked_at + 1] = 2;
    const uint32_t ld = (uint32_t)d.n;
    const gpu_row_params params = {.count_at = k->what & ROW_PICK ? GPU_STEP_PICKED : GPU_STEP_ROWS,
                                   .picked_at = s.picked_at,
                                   .width = k->width,
                                   .a_ld = ld,
                                   .b_ld = ld,
                                   .dst_ld = ld,
                                   .q_ld = (uint32_t)d.ldq / 4,
                                   .xs_ld = (uint32_t)d.ldq / 32,
                                   .eps = 1e-5f};
    gpu_mem *step = put(c, s.word, s.n_words * 4), *a = put(c, d.a, n * 4);
    gpu_mem *dst = k->in_place ? a : put(c, d.dst, n * 4);
    gpu_mem *q = put(c, d.q, ROWS * d.ldq), *xs = put(c, d.xs, ROWS * d.ldq / 8);
    run(c, &(launch){.name = "row",
                     .lx = 256,
                     .spec = {k->what},
                     .groups = {k->heads, ROWS, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {step, a, put(c, d.b, n * 4), put(c, d.vec, d.n * 4), dst, q, xs},
                     .n_binds = 7});
    get(c, dst, d.dst, n * 4);
    get(c, q, d.q, ROWS * d.ldq);
    get(c, xs, d.xs, ROWS * d.ldq / 8);
    drop(c);
    check_result(c, k, &d, d.a, s.word + s.picked_at);
    void *all[] = {d.a, d.b, d.vec, d.dst, d.q, d.xs, s.word};
    for (size_t i = 0; i < BASE_COUNT(all); i++) free(all[i]);
}

/* ==== Rows of a table ========================================================================= */

enum { BEFORE = 3 }; /* halves of words in front of the first row of a file's */

/* Part of a table as the device has it; *bytes of it. in_file: as it stands there. */
static uint32_t *table_words(const kern_mat *w, gpu_type packed, bool in_file, uint64_t *bytes) {
    const uint32_t n_groups = ((uint32_t)w->rows + 31) / 32;
    const uint64_t of_file = (2 * BEFORE + w->rows * w->row_bytes + 3) / 4 * 4;
    *bytes = in_file ? of_file : (uint64_t)n_groups * gpu_row_words(packed, w->cols) * GPU_ROWS * 4;
    uint32_t *words = room(*bytes / 4, 4);
    memset(words, 0xff, *bytes); /* NaN, where there is nothing */
    if (in_file)
        memcpy((uint8_t *)words + 2 * BEFORE, w->data, w->rows * w->row_bytes);
    else
        gpu_pack(w, packed, 0, n_groups, words);
    return words;
}

static void check_embed(checker *c, uint32_t type, uint32_t cols, bool in_file) {
    enum { V = 70, FIRST = 33, N = 4 }; /* rows; where the second piece begins; tokens */
    static const uint32_t tokens[N] = {69, 0, 32, 33}, found[2 * N] = {1, 1, 1, 1, 32, 5, 1, 1};
    float rs[V] = {0};
    const kern_mat w = mat_make(c, type, V, cols, rs);
    gpu_type packed;
    if (!gpu_type_of(&w, &packed)) abort();
    if (in_file && !dev_gpu_can_import(&w)) {
        free((void *)w.data);
        return;
    }
    step_image s = step_make(N, N, 0, 0, 0);
    memcpy(s.word + s.token_at, tokens, sizeof tokens);
    s.word[s.token_at + 2] = UINT32_MAX; /* as found by the step before */
    float *want = room(cols, 4), *dst = room(N * cols, 4);
    const uint32_t n_u = (uint32_t)gpu_row_words(packed, cols);
    gpu_mem *step = put(c, s.word, s.n_words * 4), *out = put(c, dst, N * cols * 4);
    const kern_mat pieces[] = {w, w};
    for (uint32_t i = 0; i < 2; i++) { /* rows 0-31 and 32-69 */
        kern_mat piece = pieces[i];
        piece.rows = i ? V - 32 : 32;
        piece.data += i * 32 * w.row_bytes;
        uint64_t bytes;
        uint32_t *words = table_words(&piece, packed, in_file, &bytes);
        const gpu_embed_params params = {.token_at = s.token_at,
                                         .row0 = 32 * i,
                                         .rows = (uint32_t)piece.rows,
                                         .cols = cols,
                                         .n_u = n_u,
                                         .dst_ld = cols,
                                         .scale = 0.5f,
                                         .w_at = BEFORE,
                                         .row_halves = (uint32_t)(w.row_bytes / 2)};
        run(c, &(launch){.name = "embed",
                         .lx = 256,
                         .spec = {packed, in_file},
                         .groups = {1, N, 1},
                         .params = &params,
                         .n_params = sizeof params / 4,
                         .bind = {step, put(c, words, bytes), out, put(c, found, sizeof found)},
                         .n_binds = 4});
        free(words);
    }
    get(c, out, dst, N * cols * 4);
    drop(c);
    for (size_t t = 0; t < N; t++) {
        if (packed == GPU_T2) {
            int8_t *v = room(cols + 128, 1);
            uint64_t bad;
            quant_t2_unpack_row(w.data + tokens[t] * w.row_bytes, cols, v, &bad);
            for (size_t i = 0; i < cols; i++) want[i] = v[i];
            free(v);
        } else {
            c->ref.embed(want, &w, tokens[t]);
        }
        for (size_t i = 0; i < cols; i++) want[i] *= 0.5f;
        near(c, dst + t * cols, want, cols, 1e-6, in_file ? "embed in file" : "embed");
    }
    free((void *)w.data);
    free(s.word);
    free(want);
    free(dst);
}

/* ==== The largest ============================================================================= */

static void check_best(checker *c, uint32_t width) {
    float *x = room(3 * width, 4);
    randoms(c, x, 3 * width, 1);
    for (uint32_t i = 0; i < width; i++) x[width + i] = i % 7 ? -2.0f : 2.0f; /* many equal */
    x[0] = NAN;
    step_image s = step_make(3, 3, 2, 0, 0);
    uint32_t found[6] = {0, 0, 0, 0, 77, 77};
    const gpu_best_params params = {.count_at = GPU_STEP_PICKED, .width = width, .x_ld = width};
    gpu_mem *out = put(c, found, sizeof found);
    run(c, &(launch){.name = "best",
                     .lx = 256,
                     .groups = {1, 3, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {put(c, s.word, s.n_words * 4), put(c, x, 12 * width), out},
                     .n_binds = 3});
    get(c, out, found, sizeof found);
    drop(c);
    for (uint32_t r = 0; r < 2; r++) {
        uint32_t at = r == 0 && width > 1;
        for (uint32_t i = at; i < width; i++) at = x[r * width + i] > x[r * width + at] ? i : at;
        if (width == 1 && r == 0) continue; /* only a NaN: no largest */
        float value;
        memcpy(&value, &found[2 * r + 1], 4);
        say(c, found[2 * r] == at + c->bent && value == x[r * width + at],
            "best of %u: row %u is %u, not %u", width, r, found[2 * r], at);
    }
    say(c, found[4] == 77, "best wrote a row that is not there");
    free(x);
    free(s.word);
}

/* ==== All of them ============================================================================= */

void check_row_kernels(checker *c) {
    static const row_case cases[] = {
        {ROW_NORM | ROW_I8, 2560, 1, false},
        {ROW_RELU2 | ROW_NORM | ROW_I8, 6912, 1, false},
        {ROW_NORM | ROW_Q8, 288, 1, false},
        {ROW_NORM | ROW_OUT, 80, 3, true},
        {ROW_PICK | ROW_NORM | ROW_OUT | ROW_Q8, 2752, 1, false},
        {ROW_SILU | ROW_Q8, 2752, 1, false},
        {ROW_ADD | ROW_OUT, 97, 1, true},
        {ROW_OAI | ROW_Q8, 2880, 1, false},
        /* the long set */
        {ROW_OAI | ROW_OUT, 97, 1, true},
        {ROW_I8, 10000, 1, false},
        {ROW_NORM | ROW_I8, 33, 1, false},
        {ROW_OUT | ROW_NORM | ROW_I8, 14336, 1, false},
        {ROW_OUT | ROW_NORM | ROW_I8, 14336, 1, true},
        {ROW_NORM | ROW_Q8, 14336, 1, false},
        {ROW_OUT | ROW_NORM | ROW_Q8, 9000, 1, true},
        {ROW_NORM | ROW_I8 | ROW_PICK, 2752, 1, false},
        {ROW_PICK | ROW_OUT, 2560, 1, false},
        {ROW_PICK | ROW_NORM | ROW_OUT, 2563, 1, false},
        {ROW_BIAS | ROW_OUT, 2560, 1, true},
        {ROW_BIAS | ROW_OUT, 64, 5, true},
        {ROW_RELU2 | ROW_OUT, 6912, 1, true},
        {ROW_SILU | ROW_OUT, 6913, 1, false},
        {ROW_SILU | ROW_I8, 6912, 1, false},
        {ROW_RELU2 | ROW_I8, 2752, 1, false},
        {ROW_SILU | ROW_NORM | ROW_I8, 5460, 1, false},
        {ROW_RELU2 | ROW_NORM | ROW_OUT, 9001, 1, true},
        {ROW_SILU | ROW_OUT | ROW_Q8, 9001, 1, true},
        {ROW_NORM | ROW_OUT, 128, 20, false},
        {ROW_NORM | ROW_OUT, 2560, 1, false},
        {ROW_ADD | ROW_NORM | ROW_I8, 2560, 1, false},
        {ROW_ADD | ROW_NORM | ROW_Q8, 2560, 1, false},
        {ROW_Q8, 96, 1, false},
        {ROW_I8, 80, 1, false},
        {ROW_OUT, 81, 1, false},
    };
    static const uint32_t types[] = {QUANT_I2_S, QUANT_F16,  QUANT_Q6_K, QUANT_F32, QUANT_BF16,
                                     QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_K, QUANT_Q5_1};
    for (size_t i = 0; i < (c->all ? BASE_COUNT(cases) : 8); i++) check_row(c, &cases[i]);
    for (size_t i = 0; i < (c->all ? BASE_COUNT(types) : 3); i++) {
        const quant_info *info = quant_find(types[i]);
        const bool plain = info->block_elems == 1 || types[i] == QUANT_I2_S;
        for (int in_file = 0; in_file < 2; in_file++)
            check_embed(c, types[i], plain ? 83 : info->block_elems * 3, in_file);
    }
    check_best(c, 1000);
    check_best(c, 7);
    if (c->all) check_best(c, 128256);
}
