/* SPDX-License-Identifier: MIT
 *
 * Random numbers and hashes.
 *
 * xoshiro256** (Blackman and Vigna) for everything that must repeat from a seed; a 64-bit
 * multiply-fold hash for tables; SHA-256 (FIPS 180-4) for identities of files.
 */
#include "base/part.h"

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

/* ==== SHA-256 ================================================================================= */

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t ror(uint32_t x, int k) { return x >> k | x << (32 - k); }

/* One round: the eight words keep their places, and the names go round in its arguments. */
#define SHA_ROUND(a, b, c, d, e, f, g, h, i)                                                       \
    do {                                                                                           \
        const uint32_t t1 =                                                                        \
            h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + sha_k[i] + w[i];    \
        d += t1;                                                                                   \
        h = t1 + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));            \
    } while (0)

static void sha_block(uint32_t h[8], const uint8_t *p) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + w[i - 7] +
               (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i += 8) {
        SHA_ROUND(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], i);
        SHA_ROUND(v[7], v[0], v[1], v[2], v[3], v[4], v[5], v[6], i + 1);
        SHA_ROUND(v[6], v[7], v[0], v[1], v[2], v[3], v[4], v[5], i + 2);
        SHA_ROUND(v[5], v[6], v[7], v[0], v[1], v[2], v[3], v[4], i + 3);
        SHA_ROUND(v[4], v[5], v[6], v[7], v[0], v[1], v[2], v[3], i + 4);
        SHA_ROUND(v[3], v[4], v[5], v[6], v[7], v[0], v[1], v[2], i + 5);
        SHA_ROUND(v[2], v[3], v[4], v[5], v[6], v[7], v[0], v[1], i + 6);
        SHA_ROUND(v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[0], i + 7);
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
}

void base_sha256_begin(base_sha256_run *r) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(r, 0, sizeof *r);
    memcpy(r->h, start, sizeof start);
}

void base_sha256_add(base_sha256_run *r, const void *data, size_t n) {
    const uint8_t *p = data;
    size_t held = (size_t)(r->n_bytes % 64);
    r->n_bytes += n;
    if (held) { /* fill the block that was begun */
        const size_t take = BASE_MIN(n, 64 - held);
        memcpy(r->block + held, p, take);
        if (held + take < 64) return;
        sha_block(r->h, r->block);
        p += take;
        n -= take;
    }
    for (; n >= 64; n -= 64, p += 64) sha_block(r->h, p);
    if (n) memcpy(r->block, p, n);
}

void base_sha256_end(base_sha256_run *r, uint8_t out[32]) {
    uint8_t last[128] = {0};
    const size_t n = (size_t)(r->n_bytes % 64), total = n < 56 ? 64 : 128;
    memcpy(last, r->block, n);
    last[n] = 0x80;
    for (size_t i = 0; i < 8; i++) last[total - 1 - i] = (uint8_t)(r->n_bytes * 8 >> 8 * i);
    for (size_t at = 0; at < total; at += 64) sha_block(r->h, last + at);
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(r->h[i / 4] >> (24 - 8 * (i % 4)));
}

void base_sha256(const void *data, size_t n_bytes, uint8_t out[32]) {
    base_sha256_run r;
    base_sha256_begin(&r);
    if (n_bytes) base_sha256_add(&r, data, n_bytes);
    base_sha256_end(&r, out);
}
