/* SPDX-License-Identifier: MIT
 *
 * Output heads and activations to try a staged head on, seeded: flat (every weight and activation
 * normal), like a language model's (rows share a direction, lengths are log-normal, the activation
 * leans on nine rows), the same with outliers in a few dimensions, and heads made to hurt.
 */
#ifndef HEAD_SETS_H
#define HEAD_SETS_H

#include "base/base.h"

#include <math.h>

typedef enum head_set {
    SET_FLAT,     /* nothing stands out */
    SET_MODEL,    /* a few rows do */
    SET_OUTLIERS, /* likewise, and two activations are large */
    SET_SPARSE,   /* zero rows, zero blocks, one large weight in a row of small ones */
    SET_EQUAL,    /* rows in groups of five that are the same */
    SET_TINY,     /* weights below the normal range of f16 and of float */
    SET_HUGE,     /* weights near the largest f16, a few rows beyond all bounds */
    SET_KINDS
} head_set;

static const char *const head_set_names[] = {"flat",  "model", "outliers", "sparse",
                                             "equal", "tiny",  "huge"};

static inline void head_fill(float *w, size_t rows, size_t cols, head_set set, uint64_t seed) {
    base_rng g, common;
    const float scale = 1.0f / sqrtf((float)cols);
    base_rng_seed(&g, seed);
    for (size_t r = 0; r < rows; r++) {
        const bool like = set == SET_MODEL || set == SET_OUTLIERS;
        const float length = like ? expf(0.35f * base_rng_normal(&g)) : 1.0f;
        base_rng_seed(&common, 99);
        if (set == SET_EQUAL && r % 5) {
            memcpy(w + r * cols, w + (r - 1) * cols, cols * sizeof *w);
            continue;
        }
        for (size_t c = 0; c < cols; c++) {
            float v = base_rng_normal(&g), mean = base_rng_normal(&common);
            if (like) v += 0.3f * mean;
            if (set == SET_SPARSE)
                v = r % 7 == 0 ? 0 : r % 7 == 1 && c != r % cols ? v * 1e-4f : c / 32 % 3 ? v : 0;
            if (set == SET_TINY) v *= r % 3 ? 1e-5f : 1e-39f;
            if (set == SET_HUGE) v *= r % 100 == 7 ? 1e30f : 2e4f;
            w[r * cols + c] = v * scale * length;
        }
    }
}

/* An activation for that head. */
static inline void head_fill_x(float *x, const float *w, size_t rows, size_t cols, head_set set,
                               uint64_t seed) {
    base_rng g;
    base_rng_seed(&g, seed);
    for (size_t c = 0; c < cols; c++) x[c] = base_rng_normal(&g);
    for (int i = 0; i < 9 && set != SET_FLAT && set != SET_TINY && set != SET_HUGE; i++) {
        const float *row = w + (size_t)base_rng_below(&g, (uint32_t)rows) * cols;
        float lean = (float)(0.12 + 0.23 * base_rng_double(&g)), length = 0;
        for (size_t c = 0; c < cols; c++) length += row[c] * row[c];
        if (length > 0)
            for (size_t c = 0; c < cols; c++) x[c] += lean * row[c] * sqrtf((float)cols / length);
    }
    if (set == SET_OUTLIERS) {
        x[cols / 7] += 20;
        x[cols / 3] -= 15;
    }
}

#endif
