/* SPDX-License-Identifier: MIT
 *
 * The staged output head: where its planes stand, how an activation row is coded, and why its
 * bounds hold. The planes are filled and multiplied by the kernels head_pack, head_screen,
 * head_refine.
 *
 * A weight w of block b (32 columns) of row r becomes one byte c = floor(w / f + 128), f = D u,
 * with D the row's step (16 significant bits) and u the block's scale, 1 to 255 (0: the block is
 * zero); f is an exact float. Its leading 4 + s bits stand for the middle of the values they leave
 * open:
 *
 *   stage 0: f (16 (c >> 4) + 8 - 128),   stage s: that of stage s - 1 plus or minus f 8 / 2^s
 *
 * by bit 4 - s of c. Call row r in this form w_s, e_s = w - w_s, the activations x, their codes'
 * values x' (16 bits, one step a row); |.| is the Euclidean length. The full head computes y, the
 * stages compute z. Then
 *
 *   |y - z| <= |y - w.x| + |e_s . x| + |w_s . (x - x')| + |w_s . x' - z|
 *           <= g |w| |x| + |e_s| |x| + |w_s| |x - x'|   + g |w_s| (|x| + |x - x'|)
 *           <= error_s * length + norm * slack          error_s >= |e_s|, norm >= |w|, |w_s|,
 *                                                       length >= |x|,
 *                                                       slack >= |x - x'| + 2 g (|x| + |x - x'|)
 *
 * by Cauchy and Schwarz; g = n 2^-24 bounds what n roundings in a row do to a sum, relative to the
 * sum of the magnitudes. The full head rounds K / 16 + 4 times, the stages K / 32 times for blocks
 * and at most 12 times for what follows; comparing z with its bound rounds twice more: n = K / 16 +
 * K / 32 + 64 is enough for both. Sums inside a block are exact: |sum of (2 c' - 15) x'| <= 15 * 32
 * * 32639 < 2^24. What falls below the smallest normal float is covered by KERN_HEAD_TINY:
 * activations below 1e-20 are refused and D is at least 2^-100, so that z loses less than 2^-150 *
 * 8 * 255 * 15 * 32639 * K < 1e-30 for K up to 10^6, and y less than K 2^-149.
 *
 * The errors are measured, not estimated: head_pack adds the squares of what it left over, in units
 * of f, and rounds up. Its t = w * (1 / f) is within 2^-15 of w / f (|t| <= 128, two roundings),
 * the difference to the middle adds 2^-17: each element within 2^-14, together at most 2^-14 D
 * sqrt(sum of 32 u^2), which is added to the length; the float sums lose less than (K / 32 + 64)
 * 2^-23 of themselves. Rows that are not finite, or longer than 1e15, get error INFINITY: no stage
 * can drop them, so that they reach the exact product whatever they are.
 *
 * Comparing: row r can be among the best k if z_r + bound_r >= the k-th largest z - bound. At least
 * k rows have exact products that large; a row that equals the k-th best satisfies it with >=, so
 * that ties reach the exact product too and are decided there.
 *
 * Memory of the planes, one block:
 *   | coarse | scale | bits 5 | bits 6 | bits 7 | bits 8 | step | norm | error 0 … 4 |
 * A group of the coarse plane is 16 rows, column after column, read as one linear stream:
 *   | 4 blocks x 16 rows: scales | 4 blocks x 4 vectors x 64 bytes |    … the next 128 columns
 * byte 4 r + i of vector t: low nibble column 8 t + i of the block, high nibble column 8 t + 4 + i.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

#include <float.h>
#include <math.h>

enum { CODE_MOST = 32639 /* 127 * 256 + 127: both halves are int8 */ };

static size_t round_up(size_t n, size_t align) { return (n + align - 1) / align * align; }
static size_t group_rows(const kern_planes *p) { return round_up(p->rows, KERN_HEAD_GROUP); }

size_t kern_planes_group_bytes(const kern_planes *p) { return p->ldc / 128 * HEAD_CHUNK_BYTES; }

/* The next part of mem, or NULL when sizes are only being counted. */
static uint8_t *part(uint8_t *mem, size_t *at, size_t n_bytes) {
    uint8_t *p = mem ? mem + *at : NULL;
    *at += round_up(n_bytes, 64);
    return p;
}

static float *floats(uint8_t *mem, size_t *at, size_t n) {
    return (float *)(void *)part(mem, at, n * sizeof(float));
}

static size_t place_planes(kern_planes *p, uint8_t *mem, size_t rows, size_t cols) {
    size_t at = 0;
    *p = (kern_planes){.rows = rows, .cols = cols, .ldc = round_up(cols, KERN_ALIGN_COLS)};
    const size_t n = group_rows(p);
    p->coarse = part(mem, &at, n / KERN_HEAD_GROUP * kern_planes_group_bytes(p));
    p->scale = part(mem, &at, rows * (p->ldc / 32));
    for (int i = 0; i < 4; i++) p->bits[i] = part(mem, &at, rows * (p->ldc / 8));
    p->step = floats(mem, &at, n);
    p->norm = floats(mem, &at, n);
    for (int i = 0; i < KERN_HEAD_STAGES; i++) p->error[i] = floats(mem, &at, n);
    return at;
}

size_t kern_planes_bytes(size_t rows, size_t cols) {
    kern_planes p;
    return place_planes(&p, NULL, rows, cols);
}

void kern_planes_place(kern_planes *p, uint8_t *mem, size_t rows, size_t cols) {
    place_planes(p, mem, rows, cols);
}

static size_t place_x16(kern_x16 *x, uint8_t *mem, size_t cols) {
    const size_t ldc = round_up(cols, KERN_ALIGN_COLS);
    size_t at = 0;
    x->x = (int16_t *)(void *)part(mem, &at, ldc * 2);
    x->high = (int8_t *)part(mem, &at, ldc);
    x->low = (int8_t *)part(mem, &at, ldc);
    x->sum15 = (int32_t *)(void *)part(mem, &at, ldc / 32 * sizeof(int32_t));
    return at;
}

size_t kern_x16_bytes(size_t cols) {
    kern_x16 x;
    return place_x16(&x, NULL, cols);
}

void kern_x16_place(kern_x16 *x, uint8_t *mem, size_t cols) { place_x16(x, mem, cols); }

/* Largest magnitude; INFINITY when a value is not finite. */
static float largest(const float *v, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        float a = fabsf(v[i]);
        if (!(a <= FLT_MAX)) return INFINITY;
        most = a > most ? a : most;
    }
    return most;
}

bool kern_x16_fill(kern_x16 *x, const kern_planes *p, const float *v) {
    const float most = largest(v, p->cols), inverse = CODE_MOST / most;
    if (!(most >= 1e-20f && most <= 1e20f)) return false;
    double square = 0, lost = 0;
    x->step = most / CODE_MOST;
    for (size_t i = 0; i < p->cols; i++) {
        float c = fminf(fmaxf(rintf(v[i] * inverse), -CODE_MOST), CODE_MOST);
        int code = (int)c, low = (code & 255) - ((code & 128) << 1);
        double d = (double)v[i] - (double)x->step * code;
        square += (double)v[i] * (double)v[i];
        lost += d * d;
        x->x[i] = (int16_t)code;
        x->low[i] = (int8_t)low;
        x->high[i] = (int8_t)((code - low) / 256);
    }
    for (size_t b = 0; b < p->ldc / 32; b++) {
        int32_t sum = 0;
        for (size_t i = 0; i < 32; i++) sum += x->x[32 * b + i];
        x->sum15[b] = 15 * sum;
    }
    const double up = 1 + 1e-6, length = sqrt(square) * up, off = sqrt(lost) * up;
    const double g = (double)(p->ldc / 16 + p->ldc / 32 + 64) * 0x1p-24;
    x->length = (float)(length * up);
    x->slack = (float)((off + 2 * g * (length + off)) * up);
    return true;
}
