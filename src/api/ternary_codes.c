/* SPDX-License-Identifier: MIT
 *
 * rotor_ternary.h, rows: the Rotor code, its planes and exact dot products by counting bits.
 *
 * Words of 32 codes are loaded little-endian, so that code k of a word is its bits 2k + 1 and 2k.
 * For two legal words a and b, popcount(a & b) counts the places where the values agree and are not
 * zero, popcount(a & swap(b)) those where they are opposite; their difference is the dot product.
 * Rotor codes relate to the code = value + 1 of model files by 0 -> 1, 1 -> 0, 2 -> 2.
 */
#include "rotor_ternary.h"

#include "base/base.h"
#include "quant/quant.h"

static const uint64_t high_bits = 0xAAAAAAAAAAAAAAAAu, low_bits = 0x5555555555555555u;

/* Up to 32 codes from byte `at` on; missing bytes read as zero codes. */
static uint64_t load_word(const uint8_t *p, size_t at, size_t n_bytes) {
    uint64_t w = 0;
    size_t n = BASE_MIN(n_bytes - at, (size_t)8);
    for (size_t i = 0; i < n; i++) w |= (uint64_t)p[at + i] << 8 * i;
    return w;
}

/* Clears what follows the n-th code in the word at byte `at`. */
static uint64_t keep_codes(uint64_t w, size_t at, size_t n) {
    size_t left = n - 4 * at;
    return left >= 32 ? w : w & (((uint64_t)1 << 2 * left) - 1);
}

static uint64_t swap_pairs(uint64_t w) { return (w & high_bits) >> 1 | (w & low_bits) << 1; }

static unsigned count_bits(uint64_t w) {
    w -= w >> 1 & low_bits;
    w = (w & 0x3333333333333333u) + (w >> 2 & 0x3333333333333333u);
    w = (w + (w >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    return (unsigned)(w * 0x0101010101010101u >> 56);
}

static rotor_status illegal(size_t at, uint64_t bad, rotor_error *err) {
    unsigned k = 0;
    while (!(bad >> 2 * k & 1)) k++;
    return base_fail(err, ROTOR_E_FORMAT, "position %zu: illegal ternary code 11", 4 * at + k);
}

size_t rotor_ternary_bytes(size_t n) { return n / 4 + (n % 4 != 0); }
size_t rotor_ternary_plane_words(size_t n) { return n / 64 + (n % 64 != 0); }

/* Two's complement 0, 01, 11 to 00, 10, 01: the low bit moves up, a negative value flips both. */
static unsigned code_of(int8_t v) { return ((unsigned)v & 1u) << 1 ^ ((unsigned)(v >> 7) & 3u); }

rotor_status rotor_ternary_pack(const int8_t *values, size_t n, uint8_t *codes, rotor_error *err) {
    bool bad = false;
    size_t i = 0;
    for (size_t k = 0; k < n; k++) bad |= (uint8_t)(values[k] + 1) > 2;
    while (bad && values[i] >= -1 && values[i] <= 1) i++;
    if (bad)
        return base_fail(err, ROTOR_E_ARG, "position %zu: %d is not a ternary value", i, values[i]);
    for (; i + 4 <= n; i += 4)
        codes[i / 4] = (uint8_t)(code_of(values[i]) | code_of(values[i + 1]) << 2 |
                                 code_of(values[i + 2]) << 4 | code_of(values[i + 3]) << 6);
    if (i < n) codes[i / 4] = 0;
    for (; i < n; i++) codes[i / 4] = (uint8_t)(codes[i / 4] | code_of(values[i]) << i % 4 * 2);
    return ROTOR_OK;
}

rotor_status rotor_ternary_check(const uint8_t *codes, size_t n, rotor_error *err) {
    const size_t n_bytes = rotor_ternary_bytes(n);
    for (size_t at = 0; at < n_bytes; at += 8) {
        uint64_t w = keep_codes(load_word(codes, at, n_bytes), at, n), bad = w & w >> 1 & low_bits;
        if (bad) return illegal(at, bad, err);
    }
    return ROTOR_OK;
}

rotor_status rotor_ternary_unpack(const uint8_t *codes, size_t n, int8_t *values,
                                  rotor_error *err) {
    ROTOR_TRY(rotor_ternary_check(codes, n, err));
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        int b = codes[i / 4];
        values[i] = (int8_t)((b >> 1 & 1) - (b & 1));
        values[i + 1] = (int8_t)((b >> 3 & 1) - (b >> 2 & 1));
        values[i + 2] = (int8_t)((b >> 5 & 1) - (b >> 4 & 1));
        values[i + 3] = (int8_t)((b >> 7 & 1) - (b >> 6 & 1));
    }
    for (; i < n; i++) {
        int code = codes[i / 4] >> i % 4 * 2 & 3;
        values[i] = (int8_t)((code >> 1) - (code & 1));
    }
    return ROTOR_OK;
}

void rotor_ternary_negate(uint8_t *codes, size_t n) {
    for (size_t b = 0; b < rotor_ternary_bytes(n); b++)
        codes[b] = (uint8_t)((codes[b] & 0xAA) >> 1 | (codes[b] & 0x55) << 1);
}

rotor_status rotor_ternary_dot(const uint8_t *a, const uint8_t *b, size_t n, int64_t *sum,
                               rotor_error *err) {
    const size_t n_bytes = rotor_ternary_bytes(n);
    int64_t total = 0;
    for (size_t at = 0; at < n_bytes; at += 8) {
        uint64_t x = keep_codes(load_word(a, at, n_bytes), at, n);
        uint64_t y = keep_codes(load_word(b, at, n_bytes), at, n);
        uint64_t bad = ((x & x >> 1) | (y & y >> 1)) & low_bits;
        if (bad) return illegal(at, bad, err);
        total += (int64_t)count_bits(x & y) - (int64_t)count_bits(x & swap_pairs(y));
    }
    *sum = total;
    return ROTOR_OK;
}

size_t rotor_ternary_count_zeros(const uint8_t *codes, size_t n) {
    const size_t n_bytes = rotor_ternary_bytes(n);
    size_t set = 0;
    for (size_t at = 0; at < n_bytes; at += 8) {
        uint64_t w = keep_codes(load_word(codes, at, n_bytes), at, n);
        set += count_bits((w | w >> 1) & low_bits);
    }
    return n - set;
}

/* ==== Planes
 * ====================================================================================== */

rotor_status rotor_ternary_split(const uint8_t *codes, size_t n, uint64_t *plus, uint64_t *minus,
                                 rotor_error *err) {
    ROTOR_TRY(rotor_ternary_check(codes, n, err));
    memset(plus, 0, rotor_ternary_plane_words(n) * 8);
    memset(minus, 0, rotor_ternary_plane_words(n) * 8);
    for (size_t i = 0; i < n; i++) {
        uint64_t code = codes[i / 4] >> i % 4 * 2 & 3;
        plus[i / 64] |= (code >> 1) << i % 64;
        minus[i / 64] |= (code & 1) << i % 64;
    }
    return ROTOR_OK;
}

rotor_status rotor_ternary_join(const uint64_t *plus, const uint64_t *minus, size_t n,
                                uint8_t *codes, rotor_error *err) {
    memset(codes, 0, rotor_ternary_bytes(n));
    for (size_t i = 0; i < n; i++) {
        unsigned p = plus[i / 64] >> i % 64 & 1, m = minus[i / 64] >> i % 64 & 1;
        if (p & m) return base_fail(err, ROTOR_E_FORMAT, "position %zu: set in both planes", i);
        codes[i / 4] = (uint8_t)(codes[i / 4] | (p << 1 | m) << i % 4 * 2);
    }
    return ROTOR_OK;
}

int64_t rotor_ternary_dot_planes(const uint64_t *a_plus, const uint64_t *a_minus,
                                 const uint64_t *b_plus, const uint64_t *b_minus, size_t n) {
    int64_t total = 0;
    for (size_t i = 0; i < rotor_ternary_plane_words(n); i++) {
        uint64_t same = (a_plus[i] & b_plus[i]) | (a_minus[i] & b_minus[i]);
        uint64_t opposite = (a_plus[i] & b_minus[i]) | (a_minus[i] & b_plus[i]);
        total += (int64_t)count_bits(same) - (int64_t)count_bits(opposite);
    }
    return total;
}

/* ==== Quantisers
 * ================================================================================== */

float rotor_ternary_absmean(const float *x, size_t n, int8_t *t) { return quant_absmean(x, n, t); }
float rotor_ternary_sign(const float *x, size_t n, int8_t *t) { return quant_sign(x, n, t); }
float rotor_ternary_int8(const float *x, size_t n, int8_t *q) { return quant_int8_sym(x, n, q); }

float rotor_ternary_threshold(const float *x, size_t n, float theta, int8_t *t) {
    return quant_threshold(x, n, theta, t);
}

float rotor_ternary_int8_asym(const float *x, size_t n, int8_t *q, int32_t *zero) {
    return quant_int8_asym(x, n, q, zero);
}
