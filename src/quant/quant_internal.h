/* SPDX-License-Identifier: MIT
 *
 * quant_internal: what quant's own files share: little-endian loads, inline half conversions for
 * loops, and the piecewise ternary decoder. No other room includes this.
 */
#ifndef QUANT_INTERNAL_H
#define QUANT_INTERNAL_H

#include "quant/quant.h"

/* For helpers whose widths and shifts must be constants where they are used. */
#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

static inline uint16_t load_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static inline uint32_t load_u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t load_u64(const uint8_t *p) {
    return load_u32(p) | (uint64_t)load_u32(p + 4) << 32;
}

static inline void store_u16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void store_u32(uint8_t *p, uint32_t v) {
    store_u16(p, (uint16_t)v);
    store_u16(p + 2, (uint16_t)(v >> 16));
}

static inline float bits_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t f32_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* yes where the condition holds, else no, without a branch: loops over it vectorise. */
static inline uint32_t pick(bool condition, uint32_t yes, uint32_t no) {
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

/* Three candidates, two picks. A signalling NaN comes out quiet. */
static inline float f16_f32(uint16_t h) {
    uint32_t magnitude = h & 0x7FFFu, sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t normal = (magnitude << 13) + (112u << 23);
    uint32_t subnormal = f32_bits((float)(int32_t)magnitude * 0x1p-24f);
    uint32_t special = (magnitude << 13) | 0x7F800000u | pick(magnitude > 0x7C00u, 0x400000u, 0);
    uint32_t u = pick(magnitude < 0x400u, subnormal, normal);
    return bits_f32(sign | pick(magnitude >= 0x7C00u, special, u));
}

/* Subnormal halves: adding 0.5, whose last place is 2^-24, lets the adder round to nearest even.
 * Signed comparisons, because magnitudes fit and vector units have no others. */
static inline uint16_t f32_f16(float f) {
    uint32_t u = f32_bits(f), magnitude = u & 0x7FFFFFFFu, sign = u >> 16 & 0x8000u;
    uint32_t base = magnitude - (112u << 23);
    uint32_t normal = (base + 0xFFFu + (base >> 13 & 1u)) >> 13;
    uint32_t subnormal = f32_bits(bits_f32(magnitude) + 0.5f) - f32_bits(0.5f);
    uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x3FFu);
    uint32_t special = pick((int32_t)magnitude > 0x7F800000, nan, 0x7C00u);
    uint32_t h = pick((int32_t)magnitude < 0x38800000, subnormal, normal);
    return (uint16_t)(sign | pick((int32_t)magnitude >= 0x477FF000, special, h));
}

/* Bits of max |x|, by integer comparison (magnitudes of floats order as their bits); a NaN is
 * larger than infinity. */
static inline int32_t max_magnitude_bits(const float *x, uint64_t n) {
    int32_t top = 0;
    for (uint64_t i = 0; i < n; i++) {
        int32_t magnitude = (int32_t)(f32_bits(x[i]) & 0x7FFFFFFFu);
        top = magnitude > top ? magnitude : top;
    }
    return top;
}

static inline float bf16_f32(uint16_t h) { return bits_f32((uint32_t)h << 16); }

static inline uint16_t f32_bf16(float f) {
    uint32_t u = f32_bits(f);
    uint32_t rounded = (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
    return (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? (u >> 16 | 0x40u) : rounded);
}

/* Bytes from one row to the next; not for I2_S and T5, whose rows may share bytes or chunks. */
static inline uint64_t row_stride(const quant_info *info, uint64_t cols) {
    return info->row_bytes + cols / info->block_elems * info->block_bytes;
}

/* Digit n (0 = most significant of five) of a base-3 byte written as ceil(v * 256 / 243). Every
 * byte value yields digits 0, 1 or 2: a 1.6-bit byte cannot hold an illegal code. */
static inline int trit(uint8_t byte, int n) {
    static const uint8_t pow3[5] = {1, 3, 9, 27, 81};
    uint8_t fraction = (uint8_t)(byte * pow3[n]);
    return fraction * 3 >> 8;
}

enum { TERNARY_PIECE = 256 }; /* most columns a piece has; all pieces but the last have as many */

/* Ternary values of columns [col, col + n) of a row and the scale they share; col is a multiple of
 * TERNARY_PIECE and n at most that. False, with the offending column, when a code 3 stands there.
 */
bool ternary_piece(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst,
                   float *scale, uint64_t *bad_col);
/* t5.c: size of a tensor, false when it overflows; values (2 where a byte is illegal; non-zero when
 * there was one) and scale of a row. */
bool t5_tensor_bytes(uint64_t rows, uint64_t cols, uint64_t *bytes);
int t5_values(const quant_tensor *t, uint64_t row, uint64_t col, uint64_t n, int8_t *dst);
float t5_scale(const quant_tensor *t, uint64_t row);
/* What an illegal code of a ternary type is called in messages. */
static inline const char *illegal_code(uint32_t type) {
    return type == QUANT_T5 ? "no string of five digits" : "illegal ternary code 3";
}
/* Fails when the shape cannot be laid out in t->type (whole I2_S blocks, groups of four rows). */
rotor_status ternary_shape(uint32_t type, quant_i2s i2s, uint64_t rows, uint64_t cols,
                           rotor_error *err);

#endif
