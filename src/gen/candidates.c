/* SPDX-License-Identifier: MIT
 *
 * Candidates: what sampling asks of 128,000 logits. The largest, the sum of their exponentials,
 * the best k, and the shortest best-first prefix that holds a given share of the probability.
 *
 * Owns nothing; the caller brings every buffer. No pass sorts the vocabulary: selection is
 * quickselect on a short list, whose floor rises as better candidates come in.
 * All sums have a fixed order (16 lanes inside blocks of 256, blocks one after another in double),
 * so that a seed gives the same text on every machine.
 * Loops over lanes are written for the compiler to vectorise.
 */
#include "gen/gen_internal.h"

#include <assert.h>
#include <float.h>
#include <math.h>

enum { LANES = 16, BLOCK = 256, SKIP = 64 };

bool gen_cand_before(gen_cand a, gen_cand b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* ==== Passes over all logits ================================================================== */

typedef struct peaks {
    float all[LANES];    /* largest value per lane */
    float finite[LANES]; /* largest finite value per lane */
} peaks;

static void clean_lane(peaks *p, float *x, size_t lane) {
    float v = *x == *x ? *x : -INFINITY;
    v = v > FLT_MAX ? FLT_MAX : v;
    float finite = *x <= FLT_MAX ? v : -INFINITY;
    *x = v;
    p->all[lane] = v > p->all[lane] ? v : p->all[lane];
    p->finite[lane] = finite > p->finite[lane] ? finite : p->finite[lane];
}

bool gen_clean(float *x, size_t n, float *max) {
    peaks p;
    for (size_t l = 0; l < LANES; l++) p.all[l] = p.finite[l] = -INFINITY;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) clean_lane(&p, x + i + l, l);
    for (; i < n; i++) clean_lane(&p, x + i, 0);
    float finite = -INFINITY;
    *max = -INFINITY;
    for (size_t l = 0; l < LANES; l++) {
        *max = BASE_MAX(*max, p.all[l]);
        finite = BASE_MAX(finite, p.finite[l]);
    }
    return finite > -INFINITY;
}

bool gen_is_banned(const gen_mask *m, uint32_t id) {
    return m->banned && (m->banned[id / 32] >> id % 32 & 1);
}

void gen_forbid(const gen_mask *m, float *x, size_t n, gen_cand *c) {
    const uint32_t *bits = m->banned;
    if (m->only) {
        for (size_t i = 0; i < m->n_only; i++) c[i] = (gen_cand){x[m->only[i]], m->only[i]};
        for (size_t i = 0; i < n; i++) x[i] = -INFINITY;
        for (size_t i = 0; i < m->n_only; i++) x[c[i].id] = c[i].logit;
        return;
    }
    for (size_t w = 0; bits && w * 32 < n; w++)
        for (size_t i = w * 32; bits[w] && i < n && i < w * 32 + 32; i++)
            if (bits[w] >> (i - w * 32) & 1) x[i] = -INFINITY;
}

uint32_t gen_index_of(const float *x, size_t n, float max) {
    size_t i = 0;
    while (i < n && x[i] != max) i++;
    assert(i < n);
    return (uint32_t)i;
}

static inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* exp(x) for x <= 0: x = k ln 2 + r, a polynomial in r, and k into the exponent. What
 * is too small is masked out: with a branch instead the compiler would not vectorise this. */
static inline float exp_neg(float x) {
    uint32_t keep = 0u - (uint32_t)(x > -87.0f);
    float c = of_bits(bits_of(x) & keep);
    int32_t k = (int32_t)(c * 1.44269504f - 0.5f);
    float fk = (float)k;
    float r = (c - fk * 0.693359375f) - fk * -2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    y *= of_bits((uint32_t)(k + 127) << 23);
    return of_bits(bits_of(y) & keep);
}

void gen_exp(float *dst, const float *x, size_t n, float max, float scale) {
    for (size_t i = 0; i < n; i++) dst[i] = exp_neg((x[i] - max) * scale);
}

static double sum_block(const float *p, size_t n) {
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) lane[l] += p[i + l];
    for (; i < n; i++) lane[i % LANES] += p[i];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

double gen_sum(const float *p, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i += BLOCK) sum += sum_block(p + i, BASE_MIN(n - i, (size_t)BLOCK));
    return sum;
}

double gen_exp_sum(const float *x, size_t n, float max) {
    float e[BLOCK];
    double sum = 0;
    for (size_t i = 0; i < n; i += BLOCK) {
        size_t m = BASE_MIN(n - i, (size_t)BLOCK);
        gen_exp(e, x + i, m, max, 1.0f);
        sum += sum_block(e, m);
    }
    return sum;
}

/* ==== Selection =============================================================================== */

static void swap(gen_cand *a, gen_cand *b) {
    gen_cand t = *a;
    *a = *b;
    *b = t;
}

static gen_cand median_of_3(gen_cand a, gen_cand b, gen_cand c) {
    if (gen_cand_before(b, a)) swap(&a, &b);
    if (gen_cand_before(c, b)) b = gen_cand_before(c, a) ? a : c;
    return b;
}

/* Partitions c[lo..hi), at least two entries, around a pivot: better ones end in [lo, *left),
 * worse ones in [*right, hi); between them at most the pivot. Both sides are smaller than before.
 */
static void split(gen_cand *c, size_t lo, size_t hi, size_t *left, size_t *right) {
    gen_cand pivot = median_of_3(c[lo], c[lo + (hi - lo) / 2], c[hi - 1]);
    size_t i = lo, j = hi; /* [j, hi) is done */
    while (i < j) {
        while (gen_cand_before(c[i], pivot)) i++;
        while (gen_cand_before(pivot, c[j - 1])) j--;
        if (i >= j) break;
        swap(&c[i], &c[j - 1]);
        i++;
        j--;
    }
    *left = j;
    *right = i;
}

/* Afterwards c[0..k) are the best k of c[n], 1 <= k <= n, and c[k - 1] is the worst of them. */
static void select_best(gen_cand *c, size_t n, size_t k) {
    size_t lo = 0, hi = n;
    while (hi - lo > 1) {
        size_t left, right;
        split(c, lo, hi, &left, &right);
        if (k <= left)
            hi = left;
        else if (k > right)
            lo = right;
        else
            return;
    }
}

/* Skips from i over blocks in which nothing exceeds floor. */
static size_t skip_below(const float *x, size_t i, size_t n, float floor) {
    for (; i % SKIP == 0 && i + SKIP <= n; i += SKIP) {
        int any = 0;
        for (size_t l = 0; l < SKIP; l++) any |= x[i + l] > floor;
        if (any) break;
    }
    return i;
}

size_t gen_best(gen_cand *c, const float *x, size_t n, size_t k) {
    k = BASE_MIN(k, n);
    if (k == 0) return 0;
    size_t cap = n - k < k + BLOCK ? n : 2 * k + BLOCK, used = 0;
    float floor = -INFINITY; /* ids ascend: an equal logit that comes later is worse */
    for (size_t i = skip_below(x, 0, n, floor); i < n; i = skip_below(x, i + 1, n, floor)) {
        if (!(x[i] > floor)) continue;
        c[used++] = (gen_cand){x[i], (uint32_t)i};
        if (used < cap) continue;
        select_best(c, used, k);
        used = k;
        floor = c[k - 1].logit;
    }
    if (used > k) select_best(c, used, k);
    return BASE_MIN(used, k);
}

size_t gen_collect(gen_cand *c, const float *x, size_t n, gen_cand floor) {
    size_t used = 0;
    float below = nextafterf(floor.logit, -INFINITY);
    for (size_t i = skip_below(x, 0, n, below); i < n; i = skip_below(x, i + 1, n, below)) {
        gen_cand it = {x[i], (uint32_t)i};
        if (!gen_cand_before(floor, it)) c[used++] = it;
    }
    return used;
}

double gen_mass(const gen_cand *c, size_t n, float max) {
    double mass = 0;
    for (size_t i = 0; i < n; i++) mass += exp_neg(c[i].logit - max);
    return mass;
}

size_t gen_prefix_of_mass(gen_cand *c, size_t n, float max, double target) {
    size_t lo = 0, hi = n; /* the prefix ends in (lo, hi] */
    double above = 0;      /* mass of c[0..lo) */
    target = BASE_MAX(target, DBL_MIN);
    while (hi - lo > 1) {
        size_t left, right;
        split(c, lo, hi, &left, &right);
        double mass = gen_mass(c + lo, left - lo, max);
        if (above + mass >= target) {
            hi = left;
            continue;
        }
        above += mass + gen_mass(c + left, right - left, max);
        if (right > left && above >= target) return right;
        lo = right;
    }
    return hi;
}

gen_cand gen_worst(const gen_cand *c, size_t n) {
    gen_cand worst = c[0];
    for (size_t i = 1; i < n; i++)
        if (gen_cand_before(worst, c[i])) worst = c[i];
    return worst;
}

void gen_sort(gen_cand *c, size_t n) {
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && gen_cand_before(c[j], c[j - 1]); j--) swap(&c[j], &c[j - 1]);
}
