/* SPDX-License-Identifier: MIT
 *
 * A screen in front of the scan of bytes: two bits a column say of nearly every passage that it
 * cannot be among the best, for a quarter of the bytes.
 *
 * The high plane y of a vector is turned by a fixed orthogonal matrix: signs, Walsh-Hadamard over
 * each 64 columns, the columns of all blocks shuffled into one another, and both once more. All of
 * it is in integers, so that a passage has the same codes on every machine. What is turned looks
 * like 64 draws of a bell curve whatever it looked like before, and each column c becomes one of
 * four levels v = 2 code - 3 in units of t, t = 0.996 of the root mean square (the uniform steps
 * that lose least of a bell curve).
 *
 * With f = |y|^2 / <y, v>, f <z, v> is what <z, y> is expected to be for a question z: the rest
 * f v - y is perpendicular to y, and f v = y + rest makes <z, y> + <z, rest>. Its length is
 * |y| tan(y, v), about 0.37 |y|. Turned at random, the rest points anywhere in the space
 * perpendicular to y, so that <z, rest> / (|z| |y|) spreads as TAN / sqrt(columns): under 0.022 for
 * 384. A passage whose cosine by the screen is more than SPREADS such spreads below that of the
 * worst of the best is not looked at. For one of the best that would be wrong once in two million
 * times at the usual angle, once in seventy thousand at the largest; rows whose angle is larger, or
 * whose length is not one, are always looked at.
 */
#include "rag/rag_index.h"

#include <math.h>

static const float LEVEL = 0.996f, TAN = 0.43f, SPREADS = 4.2f, LENGTH = 0.02f;
enum { BLOCK = KERN_SCAN_COLS, SIGNS_SEED = 384 };

void rag_screen_signs(int8_t *signs, size_t ld) {
    base_rng rng;
    base_rng_seed(&rng, SIGNS_SEED);
    for (size_t i = 0; i < 2 * ld; i++) signs[i] = base_rng_u64(&rng) >> 63 ? 1 : -1;
}

/* In place, over 64 columns. */
static void hadamard(int32_t *x) {
    for (size_t half = 1; half < BLOCK; half *= 2)
        for (size_t i = 0; i < BLOCK; i += 2 * half)
            for (size_t k = i; k < i + half; k++) {
                const int32_t a = x[k], b = x[k + half];
                x[k] = a + b;
                x[k + half] = a - b;
            }
}

/* y = 64 times the turned row, within +-127 * 4096; tmp: [ld]. */
static void turn(int32_t *y, int32_t *tmp, const int8_t *row, const int8_t *signs, size_t ld) {
    const size_t n_blocks = ld / BLOCK;
    for (size_t i = 0; i < ld; i++) tmp[i] = row[i] * signs[i];
    for (size_t b = 0; b < n_blocks; b++) {
        hadamard(tmp + b * BLOCK);
        for (size_t i = 0; i < BLOCK; i++) {
            const size_t to = i * n_blocks + b;
            y[to] = tmp[b * BLOCK + i] * signs[ld + to];
        }
    }
    for (size_t b = 0; b < n_blocks; b++) hadamard(y + b * BLOCK);
}

/* Long rows are rare: they take room of the heap. */
typedef struct room {
    int32_t here[2 * 1024]; /* of two rows */
    int32_t *more;          /* owned; NULL: here is enough */
} room;

static int32_t *take(room *r, size_t ld) {
    r->more = ld > 1024 ? base_alloc_array(2 * ld, sizeof *r->more) : NULL;
    return ld > 1024 ? r->more : r->here;
}

static double squares(const int8_t *x, size_t ld) {
    int64_t sum = 0;
    for (size_t i = 0; i < ld; i++) sum += x[i] * x[i];
    return (double)sum;
}

/* Codes of a turned row whose mean square is mean; *along = <y, v>, *size = |v|^2. */
static void code_row(uint8_t *codes, const int32_t *y, size_t ld, double mean, int64_t *along,
                     int64_t *size) {
    const int32_t t = (int32_t)((double)LEVEL * sqrt(mean));
    *along = *size = 0;
    memset(codes, 0, ld / 4);
    for (size_t i = 0; i < ld; i++) {
        const int code = (y[i] >= -t) + (y[i] >= 0) + (y[i] >= t), level = 2 * code - 3;
        codes[i / BLOCK * 16 + i % 16] |= (uint8_t)(code << i % BLOCK / 16 * 2);
        *along += (int64_t)level * y[i];
        *size += level * level;
    }
}

void rag_screen_pack(uint8_t *codes, float *factor, const int8_t *high, float scale,
                     const int8_t *signs, size_t ld) {
    room r;
    int64_t along = 0, size = 0;
    int32_t *y = take(&r, ld);
    const double one = squares(high, ld); /* |high|^2; of y 4096 times that */
    *factor = -1;
    if (y && one > 0) {
        turn(y, y + ld, high, signs, ld);
        code_row(codes, y, ld, 4096 * one / (double)ld, &along, &size);
        const double f = 4096 * one / (double)along, length = sqrt(one) * (double)scale;
        const double tan2 = (double)size * f / (double)along - 1;
        if (along > 0 && tan2 <= (double)(TAN * TAN) && fabs(length - 1) <= (double)LENGTH)
            *factor = (float)(f / 4096 * (double)scale);
    }
    base_free(r.more);
}

void rag_screen_turn(rag_vec_query *q, const int8_t *signs, size_t ld) {
    room r;
    int32_t *z = take(&r, ld), most = 1;
    q->total = 0;
    q->step = 0;
    if (!z) { /* the screen keeps every row then */
        memset(q->turned, 0, ld);
        return;
    }
    turn(z, z + ld, q->high, signs, ld);
    for (size_t i = 0; i < ld; i++) most = BASE_MAX(most, z[i] < 0 ? -z[i] : z[i]);
    for (size_t i = 0; i < ld; i++) {
        q->turned[i] = (int8_t)lrintf((float)z[i] * 127 / (float)most);
        q->total += q->turned[i];
    }
    q->step = (float)most / 127 * q->scale;
    base_free(r.more);
}

/* The question's own rounding, a hundredth of it at most, spreads no less; its length counts. */
float rag_screen_margin(const rag_vec_query *q, size_t ld) {
    if (!(q->step > 0)) return INFINITY;
    const float length = (float)sqrt(squares(q->high, ld)) * q->scale;
    return SPREADS * TAN * (1 + LENGTH) * length / sqrtf((float)ld);
}
