/* SPDX-License-Identifier: MIT
 *
 * The staged output head: planes, scores by the coarse plane, scores by one more bit. Heads are
 * packed by each level on its own; the planes must be the same bytes, whatever the rows hold.
 */
#include "checkern.h"

#include <math.h>

enum { S_W, S_PLANES, S_OTHER, S_X, S_OUT, S_REF, S_IDS };
enum { MAX_TOKENS = 5 };

static const size_t head_cols[] = {1, 31, 32, 64, 100, 128, 160, 256, 1000, 2560, 4096, 4224, 9216};
static const size_t head_rows[] = {1, 15, 16, 33, 50};

/* Rows of several kinds: ordinary, outliers, all equal, tiny, huge, not finite. */
static void fill_row(checker *c, float *w, size_t n, size_t r, fill f) {
    fill_floats(c, w, n, f);
    if (f != FILL_RANDOM) return;
    for (size_t i = 0; i < n; i++) {
        if (r % 8 == 1) w[i] = ldexpf(w[i], -140); /* denormal */
        if (r % 8 == 2) w[i] = ldexpf(w[i], 100);
        if (r % 8 == 3) w[i] = i % 7 ? 0.0f : w[i];
    }
    if (r % 8 == 4) w[n / 2] = NAN;
    if (r % 8 == 5) w[n - 1] = -INFINITY;
    if (r % 8 == 6) w[n / 3] = 1e4f;
}

static const float *take_rows(checker *c, size_t rows, size_t cols, fill f) {
    float *w = (float *)(void *)space_take(c, S_W, rows * cols * sizeof *w, 0);
    for (size_t r = 0; r < rows; r++) fill_row(c, w + r * cols, cols, r, f);
    return w;
}

static kern_planes pack(checker *c, const kern *k, size_t space, const float *w, size_t rows,
                        size_t cols) {
    kern_planes p;
    const size_t bytes = kern_planes_bytes(rows, cols);
    uint8_t *mem = space_take(c, space, bytes, 0);
    memset(mem, 0, bytes);
    kern_planes_place(&p, mem, rows, cols);
    for (size_t r = 0; r < rows; r++) k->head_pack(&p, w + r * cols, r);
    return p;
}

/* Calls fn for every shape and fill. */
static void each_head(checker *c, void (*fn)(checker *, const float *, size_t, size_t, fill)) {
    for (size_t k = 0; k < BASE_COUNT(head_cols); k++)
        for (size_t r = 0; r < BASE_COUNT(head_rows); r++)
            for (int f = 0; f < FILL_KINDS; f++) {
                if (too_long(head_cols[k] * head_rows[r])) continue;
                if (f && r) continue;
                fn(c, take_rows(c, head_rows[r], head_cols[k], (fill)f), head_rows[r], head_cols[k],
                   (fill)f);
            }
}

static void check_pack(checker *c, const float *w, size_t rows, size_t cols, fill f) {
    const size_t bytes = kern_planes_bytes(rows, cols);
    pack(c, &c->ref, S_PLANES, w, rows, cols);
    for (size_t l = 0; l < c->n_levels; l++) {
        pack(c, &c->table[l], S_OTHER, w, rows, cols);
        const uint8_t *a = c->space[S_PLANES].at, *b = c->space[S_OTHER].at;
        size_t at = 0;
        while (at < bytes && a[at] == b[at]) at++;
        slot_verdict(c, l, at == bytes && guards_intact(&c->space[S_OTHER]),
                     "rows %zu cols %zu fill %s: byte %zu of %zu", rows, cols, fill_name(f), at,
                     bytes);
    }
}

/* Activations whose codes reach both ends. */
static void take_x(checker *c, kern_x16 x[MAX_TOKENS], const kern_planes *p, size_t space) {
    const size_t bytes = kern_x16_bytes(p->cols);
    uint8_t *mem = space_take(c, S_X, MAX_TOKENS * bytes, 0);
    float *v = (float *)(void *)space_take(c, S_W, p->cols * sizeof *v, 0);
    memset(mem, 0, MAX_TOKENS * bytes);
    for (size_t b = 0; b < MAX_TOKENS; b++) {
        fill_floats(c, v, p->cols, FILL_RANDOM);
        if (b == 1)
            for (size_t i = 0; i < p->cols; i++) v[i] = i % 2 ? 1.0f : -1.0f;
        if (b == 2)
            for (size_t i = 0; i < p->cols; i++) v[i] = -3.0f;
        v[0] = 7.0f;
        kern_x16_place(&x[b], mem + b * bytes, p->cols);
        kern_x16_fill(&x[b], p, v);
    }
    const size_t n = (p->rows + KERN_HEAD_GROUP - 1) / KERN_HEAD_GROUP * KERN_HEAD_GROUP;
    float *y = (float *)(void *)space_take(c, space, MAX_TOKENS * n * sizeof *y, 0);
    for (size_t b = 0; b < MAX_TOKENS; b++) x[b].y = y + b * n;
}

static void check_screen(checker *c, const float *w, size_t rows, size_t cols, fill f) {
    kern_x16 x[MAX_TOKENS];
    const kern_planes p = pack(c, &c->ref, S_PLANES, w, rows, cols);
    const size_t groups = (rows + KERN_HEAD_GROUP - 1) / KERN_HEAD_GROUP, n = groups * 16;
    take_x(c, x, &p, S_REF);
    const float *ref = x[0].y;
    for (size_t b = 1; b <= MAX_TOKENS; b++) {
        c->ref.head_screen(&p, x, b, groups > 1, groups);
        for (size_t l = 0; l < c->n_levels; l++) {
            kern_x16 mine[MAX_TOKENS];
            size_t bad = 0;
            float *y = (float *)(void *)space_take(c, S_OUT, MAX_TOKENS * n * sizeof *y, 0);
            memcpy(y, ref, MAX_TOKENS * n * sizeof *y);
            for (size_t i = 0; i < MAX_TOKENS; i++) {
                mine[i] = x[i];
                mine[i].y = y + i * n;
            }
            for (size_t i = 0; i < b * n; i++)
                if (i % n >= (groups > 1) * 16) y[i] = 77;
            c->table[l].head_screen(&p, mine, b, groups > 1, groups);
            bool same = floats_equal(ref, y, MAX_TOKENS * n, &bad);
            slot_verdict(c, l, same && guards_intact(&c->space[S_OUT]),
                         "rows %zu cols %zu tokens %zu fill %s: token %zu row %zu is %.9g, "
                         "expected %.9g",
                         rows, cols, b, fill_name(f), bad / n, bad % n, (double)y[bad],
                         (double)ref[bad]);
        }
    }
}

static void check_refine(checker *c, const float *w, size_t rows, size_t cols, fill f) {
    kern_x16 x[MAX_TOKENS];
    const kern_planes p = pack(c, &c->ref, S_PLANES, w, rows, cols);
    take_x(c, x, &p, S_OTHER);
    uint32_t *ids = (uint32_t *)(void *)space_take(c, S_IDS, rows * sizeof *ids, 0);
    for (size_t t = 0; t < 8; t++) {
        size_t n = 0, bad = 0;
        for (size_t r = 0; r < rows; r++)
            if (rows == 1 || base_rng_below(&c->rng, 3)) ids[n++] = (uint32_t)r;
        float *ref = (float *)(void *)space_take(c, S_REF, rows * sizeof *ref, 0);
        for (size_t j = 0; j < n; j++) ref[j] = (float)j;
        c->ref.head_refine(ref, &p, &x[t % 3], t % 4, ids, n);
        for (size_t l = 0; l < c->n_levels; l++) {
            float *y = (float *)(void *)space_take(c, S_OUT, rows * sizeof *y, 0);
            memcpy(y, ref, rows * sizeof *y);
            for (size_t j = 0; j < n; j++) y[j] = (float)j;
            c->table[l].head_refine(y, &p, &x[t % 3], t % 4, ids, n);
            bool same = floats_equal(ref, y, n, &bad);
            slot_verdict(c, l, same && guards_intact(&c->space[S_OUT]),
                         "rows %zu cols %zu plane %zu fill %s: row %u is %.9g, expected %.9g", rows,
                         cols, t % 4, fill_name(f), n ? ids[bad] : 0, (double)y[bad],
                         (double)ref[bad]);
        }
    }
}

void check_head(checker *c) {
    if (slot_begin(c, "head_pack")) each_head(c, check_pack);
    if (slot_begin(c, "head_screen")) each_head(c, check_screen);
    if (slot_begin(c, "head_refine")) each_head(c, check_refine);
}
