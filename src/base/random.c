/* SPDX-License-Identifier: MIT
 *
 * Random numbers and hashes.
 *
 * xoshiro256** (Blackman and Vigna) for everything that must repeat from a seed; a 64-bit
 * multiply-fold hash for tables.
 */
#include "base/base.h"

#include <math.h>

/* ==== Random numbers ========================================================================== */

static uint64_t splitmix(uint64_t *x) {
    uint64_t z = (*x += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void base_rng_seed(base_rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) r->s[i] = splitmix(&seed);
}

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

uint64_t base_rng_u64(base_rng *r) {
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Multiply-shift; the bias for n below 2^32 is under 2^-32 and the same everywhere. */
uint32_t base_rng_below(base_rng *r, uint32_t n) {
    return (uint32_t)((base_rng_u64(r) >> 32) * n >> 32);
}

double base_rng_double(base_rng *r) { return (double)(base_rng_u64(r) >> 11) * 0x1p-53; }

float base_rng_normal(base_rng *r) {
    double u = base_rng_double(r), v = base_rng_double(r);
    return (float)(sqrt(-2.0 * log(1.0 - u)) * cos(6.283185307179586 * v));
}

/* ==== Table hash ============================================================================== */

static uint64_t fold(uint64_t a, uint64_t b) {
    __uint128_t p = (__uint128_t)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t load_tail(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    if (n) memcpy(&v, p, n); /* nothing may be at no address */
    return v;
}

uint64_t base_hash64(const void *data, size_t n_bytes, uint64_t seed) {
    const uint8_t *p = data;
    uint64_t h = seed ^ 0xA0761D6478BD642Fu;
    size_t n = n_bytes;
    for (; n > 8; n -= 8, p += 8) h = fold(h ^ load_tail(p, 8), 0xE7037ED1A0B428DBu);
    h = fold(h ^ load_tail(p, n), 0x8EBC6AF09C88C6E3u);
    return fold(h ^ n_bytes, 0x589965CC75374CC3u);
}
