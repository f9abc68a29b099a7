/* SPDX-License-Identifier: MIT
 *
 * SHA-256 (FIPS 180-4), for identities of files. The C here is the specification; processors with
 * instructions for it take those (sha256_cpu.c), with the same result.
 */
#include "base/base_internal.h"
#include "base/part.h"

const uint32_t sha256_k[64] = {
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
            h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + sha256_k[i] + w[i]; \
        d += t1;                                                                                   \
        h = t1 + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));            \
    } while (0)

static void one_block(uint32_t h[8], const uint8_t *p) {
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

void sha256_blocks_c(uint32_t h[8], const uint8_t *p, size_t n) {
    for (; n; n--, p += 64) one_block(h, p);
}

static sha256_blocks *best(void) {
    static _Atomic(sha256_blocks *) found; /* asking the processor is slow in a virtual machine */
    sha256_blocks *f = atomic_load_explicit(&found, memory_order_relaxed);
    if (f) return f;
    f = sha256_blocks_cpu();
    if (!f) f = sha256_blocks_c;
    atomic_store_explicit(&found, f, memory_order_relaxed);
    return f;
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
        best()(r->h, r->block, 1);
        p += take;
        n -= take;
    }
    if (n >= 64) best()(r->h, p, n / 64);
    if (n % 64) memcpy(r->block, p + n / 64 * 64, n % 64);
}

void base_sha256_end(base_sha256_run *r, uint8_t out[32]) {
    uint8_t last[128] = {0};
    const size_t n = (size_t)(r->n_bytes % 64), total = n < 56 ? 64 : 128;
    memcpy(last, r->block, n);
    last[n] = 0x80;
    for (size_t i = 0; i < 8; i++) last[total - 1 - i] = (uint8_t)(r->n_bytes * 8 >> 8 * i);
    best()(r->h, last, total / 64);
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(r->h[i / 4] >> (24 - 8 * (i % 4)));
}

void base_sha256(const void *data, size_t n_bytes, uint8_t out[32]) {
    base_sha256_run r;
    base_sha256_begin(&r);
    if (n_bytes) base_sha256_add(&r, data, n_bytes);
    base_sha256_end(&r, out);
}
