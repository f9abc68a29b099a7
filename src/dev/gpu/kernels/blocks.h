/* SPDX-License-Identifier: MIT
 *
 * blocks: 64 columns of a packed row of a block type, decoded to signed bytes: value = a q - b.
 * Kernels that include it define TYPE (gpu_pack.h has the words), and have w; one that finds words
 * elsewhere than gpu_pack puts them defines WORD itself.
 *
 *   first block   columns FIRST_COL(n) ...  + 31   codes c0, c1 (16 columns each)   a.x a.y  b.x b.y
 *   second block  columns SECOND_COL(n) ... + 31   codes c2, c3                     a.z a.w  b.z b.w
 *
 * Two blocks of 32 go together because they share words: of scales, or of codes in their low and
 * high bits. In Q6_K they stand 64 columns apart.
 */
#define TYPE_T2 0u
#define TYPE_F32 1u
#define TYPE_F16 2u
#define TYPE_BF16 3u
#define TYPE_Q8_0 4u
#define TYPE_Q4_0 5u
#define TYPE_Q4_K 6u
#define TYPE_Q6_K 7u
#define TYPE_B32 8u
#define TYPE_MXFP4 9u
#define HAS_OFFSET (TYPE == TYPE_Q4_K || TYPE == TYPE_B32)
#define HAS_HALVES (TYPE == TYPE_Q6_K || TYPE == TYPE_B32) /* a scale per 16 columns */

STRUCT(pair, uint4 c0; uint4 c1; uint4 c2; uint4 c3; float4 a; float4 b;)

#define FIRST_COL(n)                                                                              \
    (TYPE == TYPE_Q6_K ? (n) / 4u * 256u + (n) % 4u / 2u * 128u + (n) % 2u * 32u : 64u * (n))
#define SECOND_COL(n) (FIRST_COL(n) + (TYPE == TYPE_Q6_K ? 64u : 32u))

/* n - bias in every byte, n < 64. */
INLINE uint4 biased(uint4 n, uint bias) {
    return ((n | 0x80808080u) - bias * 0x01010101u) ^ 0x80808080u;
}
/* Twice the values of nibbles of four bits of floating point (sign, two of exponent, one of fraction):
 * 0 1 2 3 4 6 8 12 and their negatives, as signed bytes. Each bit of the magnitude by itself; no byte
 * touches its neighbours. */
INLINE uint4 mxfp4_codes(uint4 n) {
    const uint4 b0 = n & 0x01010101u, b1 = (n >> 1) & 0x01010101u, b2 = (n >> 2) & 0x01010101u;
    const uint4 still = b1 ^ 0x01010101u, low = b2 ^ 0x01010101u;
    const uint4 v = (low & b0) | ((low & b1) | (b2 & still & b0)) << 1 |
                    (b2 & (still | b0)) << 2 | (b2 & b1) << 3;
    const uint4 minus = ((n >> 3) & 0x01010101u) * 255u;
    return (0x80808080u + (v & ~minus) - (v & minus)) ^ 0x80808080u;
}
/* Two to the power of byte i of a word, less 128: half the scale, for the codes above. */
INLINE float power_of(uint word, uint i) {
    const uint e = (word >> (8u * i)) & 0xffu;
    return BITS_FLOAT(e > 1u ? (e - 1u) << 23 : 0x00200000u << min(e, 1u));
}
INLINE uint byte_at(uint4 v, uint i) {
    const uint word = i < 8u ? (i < 4u ? v.x : v.y) : (i < 12u ? v.z : v.w);
    return (word >> (i % 4u * 8u)) & 0xffu;
}
/* Six-bit scale and minimum of group g of a Q4_K block, from bytes 0-11 in head.y, .z, .w. */
INLINE uint q4_k_scale(uint4 head, uint g) {
    const uint4 s = UINT4(head.y, head.z, head.w, 0u);
    if (g < 4u) return byte_at(s, g) & 63u;
    return (byte_at(s, g + 4u) & 15u) | ((byte_at(s, g - 4u) >> 6) << 4);
}
INLINE uint q4_k_min(uint4 head, uint g) {
    const uint4 s = UINT4(head.y, head.z, head.w, 0u);
    if (g < 4u) return byte_at(s, g + 4u) & 63u;
    return (byte_at(s, g + 4u) >> 4) | ((byte_at(s, g) >> 6) << 4);
}
INLINE float signed_byte(uint word, uint i) { return F32(I32(word << (24u - 8u * i)) >> 24); }

/* Word u of the row whose word 0 is w[base]. */
#ifndef WORD
#define WORD(base, u) w[(base) + (u)*32u]
#endif
#define WORDS4(base, u)                                                                           \
    UINT4(WORD(base, u), WORD(base, (u) + 1u), WORD(base, (u) + 2u), WORD(base, (u) + 3u))

/* The pair n of the row whose word 0 is w[base], n_u words long. */
#define LOAD_PAIR(out, base, n, n_u)                                                              \
    {                                                                                             \
        out.b = FLOAT4(0.0f, 0.0f, 0.0f, 0.0f);                                                   \
        if (TYPE == TYPE_Q8_0) {                                                                  \
            const uint u_ = 17u * (n), d_ = WORD(base, u_);                                       \
            out.c0 = WORDS4(base, u_ + 1u);                                                       \
            out.c1 = WORDS4(base, u_ + 5u);                                                       \
            out.c2 = WORDS4(base, u_ + 9u);                                                       \
            out.c3 = WORDS4(base, u_ + 13u);                                                      \
            out.a = FLOAT4(HALF_LO(d_), HALF_LO(d_), HALF_HI(d_), HALF_HI(d_));                   \
        } else if (TYPE == TYPE_Q4_0) {                                                           \
            const uint u_ = 9u * (n), d_ = WORD(base, u_);                                        \
            const uint4 q0_ = WORDS4(base, u_ + 1u), q1_ = WORDS4(base, u_ + 5u);                 \
            out.c0 = biased(q0_ & 0x0f0f0f0fu, 8u);                                               \
            out.c1 = biased((q0_ >> 4) & 0x0f0f0f0fu, 8u);                                        \
            out.c2 = biased(q1_ & 0x0f0f0f0fu, 8u);                                               \
            out.c3 = biased((q1_ >> 4) & 0x0f0f0f0fu, 8u);                                        \
            out.a = FLOAT4(HALF_LO(d_), HALF_LO(d_), HALF_HI(d_), HALF_HI(d_));                   \
        } else if (TYPE == TYPE_Q4_K) {                                                           \
            const uint u_ = (n) / 4u * 36u, g_ = (n) % 4u * 2u;                                   \
            const uint4 head_ = WORDS4(base, u_);                                                 \
            const uint4 q0_ = WORDS4(base, u_ + 4u + 4u * g_);                                    \
            const uint4 q1_ = WORDS4(base, u_ + 8u + 4u * g_);                                    \
            const float d_ = HALF_LO(head_.x), m_ = HALF_HI(head_.x);                             \
            const float a0_ = d_ * F32(q4_k_scale(head_, g_));                                    \
            const float a1_ = d_ * F32(q4_k_scale(head_, g_ + 1u));                               \
            const float b0_ = m_ * F32(q4_k_min(head_, g_));                                      \
            const float b1_ = m_ * F32(q4_k_min(head_, g_ + 1u));                                 \
            out.c0 = q0_ & 0x0f0f0f0fu;                                                           \
            out.c1 = q1_ & 0x0f0f0f0fu;                                                           \
            out.c2 = (q0_ >> 4) & 0x0f0f0f0fu;                                                    \
            out.c3 = (q1_ >> 4) & 0x0f0f0f0fu;                                                    \
            out.a = FLOAT4(a0_, a0_, a1_, a1_);                                                   \
            out.b = FLOAT4(b0_, b0_, b1_, b1_);                                                   \
        } else if (TYPE == TYPE_Q6_K) {                                                           \
            const uint u_ = (n) / 4u * 53u, h_ = (n) % 4u / 2u, r_ = (n) % 2u;                    \
            const uint4 l0_ = WORDS4(base, u_ + 16u * h_ + 8u * r_);                              \
            const uint4 l1_ = WORDS4(base, u_ + 16u * h_ + 8u * r_ + 4u);                         \
            const uint4 h0_ = WORDS4(base, u_ + 32u + 8u * h_) >> (2u * r_);                      \
            const uint4 h1_ = WORDS4(base, u_ + 36u + 8u * h_) >> (2u * r_);                      \
            const uint s0_ = WORD(base, u_ + 48u + 2u * h_) >> (16u * r_);                        \
            const uint s1_ = WORD(base, u_ + 49u + 2u * h_) >> (16u * r_);                        \
            const float d_ = HALF_LO(WORD(base, u_ + 52u));                                       \
            out.c0 = biased((l0_ & 0x0f0f0f0fu) | ((h0_ & 0x03030303u) << 4), 32u);               \
            out.c1 = biased((l1_ & 0x0f0f0f0fu) | ((h1_ & 0x03030303u) << 4), 32u);               \
            out.c2 = biased(((l0_ >> 4) & 0x0f0f0f0fu) | (h0_ & 0x30303030u), 32u);               \
            out.c3 = biased(((l1_ >> 4) & 0x0f0f0f0fu) | (h1_ & 0x30303030u), 32u);               \
            out.a = FLOAT4(d_ * signed_byte(s0_, 0u), d_ * signed_byte(s0_, 1u),                  \
                           d_ * signed_byte(s1_, 0u), d_ * signed_byte(s1_, 1u));                 \
        } else if (TYPE == TYPE_MXFP4) {                                                          \
            const uint u_ = (n) / 2u * 17u, h_ = (n) % 2u * 2u, d_ = WORD(base, u_);              \
            const uint4 q0_ = WORDS4(base, u_ + 1u + 4u * h_);                                    \
            out.c0 = mxfp4_codes(q0_ & 0x0f0f0f0fu);                                              \
            out.c1 = mxfp4_codes((q0_ >> 4) & 0x0f0f0f0fu);                                       \
            out.c2 = UINT4(0u, 0u, 0u, 0u);                                                       \
            out.c3 = out.c2;                                                                      \
            out.a.x = power_of(d_, h_);                                                           \
            out.a.y = out.a.x;                                                                    \
            out.a.z = 0.0f;                                                                       \
            if (u_ + 5u + 4u * h_ < (n_u)) {                                                      \
                const uint4 q1_ = WORDS4(base, u_ + 5u + 4u * h_);                                \
                out.c2 = mxfp4_codes(q1_ & 0x0f0f0f0fu);                                          \
                out.c3 = mxfp4_codes((q1_ >> 4) & 0x0f0f0f0fu);                                   \
                out.a.z = power_of(d_, h_ + 1u);                                                  \
            }                                                                                     \
            out.a.w = out.a.z;                                                                    \
        } else {                                                                                  \
            const uint u_ = 24u * (n);                                                            \
            const uint4 f_ = WORDS4(base, u_);                                                    \
            out.c0 = WORDS4(base, u_ + 4u);                                                       \
            out.c1 = WORDS4(base, u_ + 8u);                                                       \
            out.c2 = UINT4(0u, 0u, 0u, 0u);                                                       \
            out.c3 = out.c2;                                                                      \
            out.a = FLOAT4(BITS_FLOAT(f_.x), BITS_FLOAT(f_.y), 0.0f, 0.0f);                       \
            out.b = FLOAT4(BITS_FLOAT(f_.z), BITS_FLOAT(f_.w), 0.0f, 0.0f);                       \
            if (u_ + 12u < (n_u)) {                                                               \
                const uint4 g_ = WORDS4(base, u_ + 12u);                                          \
                out.c2 = WORDS4(base, u_ + 16u);                                                  \
                out.c3 = WORDS4(base, u_ + 20u);                                                  \
                out.a.z = BITS_FLOAT(g_.x);                                                       \
                out.a.w = BITS_FLOAT(g_.y);                                                       \
                out.b.z = BITS_FLOAT(g_.z);                                                       \
                out.b.w = BITS_FLOAT(g_.w);                                                       \
            }                                                                                     \
        }                                                                                         \
    }

/* DO(column, value) for the four columns of a word, and for the sixteen of a vector. */
#define VALUES4(DO, word, c, a, b)                                                                \
    DO((c), (a)*signed_byte(word, 0u) - (b))                                                      \
    DO((c) + 1u, (a)*signed_byte(word, 1u) - (b))                                                 \
    DO((c) + 2u, (a)*signed_byte(word, 2u) - (b))                                                 \
    DO((c) + 3u, (a)*signed_byte(word, 3u) - (b))
#define VALUES16(DO, codes, c, a, b)                                                              \
    VALUES4(DO, (codes).x, c, a, b)                                                               \
    VALUES4(DO, (codes).y, (c) + 4u, a, b)                                                        \
    VALUES4(DO, (codes).z, (c) + 8u, a, b)                                                        \
    VALUES4(DO, (codes).w, (c) + 12u, a, b)
/* All of pair n that stands before column `cols`. */
#define VALUES64(DO, pr, n, cols)                                                                 \
    {                                                                                             \
        const uint c_ = FIRST_COL(n), e_ = SECOND_COL(n);                                         \
        VALUES16(DO, pr.c0, c_, pr.a.x, pr.b.x)                                                   \
        VALUES16(DO, pr.c1, c_ + 16u, pr.a.y, pr.b.y)                                             \
        if (e_ < (cols)) {                                                                        \
            VALUES16(DO, pr.c2, e_, pr.a.z, pr.b.z)                                               \
            VALUES16(DO, pr.c3, e_ + 16u, pr.a.w, pr.b.w)                                         \
        }                                                                                         \
    }

/* Sixteen products of signed bytes. */
#define DOT16(codes, x4, sum)                                                                     \
    DOT4((codes).w, (x4).w, DOT4((codes).z, (x4).z, DOT4((codes).y, (x4).y, DOT4((codes).x, (x4).x, sum))))
#define SUM16(x4)                                                                                 \
    DOT4(0x01010101u, (x4).w,                                                                     \
         DOT4(0x01010101u, (x4).z, DOT4(0x01010101u, (x4).y, DOT4(0x01010101u, (x4).x, 0))))
/* sum += the products of a block of 32 with the activations xa, xb of step s. */
#define ADD_BLOCK(sum, lo, hi, a0, a1, b0, b1, xa, xb, s)                                         \
    if (HAS_HALVES) {                                                                             \
        sum = fma(F32(DOT16(lo, xa, 0)), (a0) * (s), sum);                                        \
        sum = fma(F32(DOT16(hi, xb, 0)), (a1) * (s), sum);                                        \
    } else {                                                                                      \
        sum = fma(F32(DOT16(hi, xb, DOT16(lo, xa, 0))), (a0) * (s), sum);                         \
    }                                                                                             \
    if (HAS_OFFSET) {                                                                             \
        sum = fma(F32(SUM16(xa)), -((b0) * (s)), sum);                                            \
        sum = fma(F32(SUM16(xb)), -((b1) * (s)), sum);                                            \
    }
