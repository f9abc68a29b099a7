/* SPDX-License-Identifier: MIT
 *
 * Block formats as 32 integer codes with value = a * q - b: one function per layout, used both by
 * the reference decoder and as the specification of the integer kernels.
 *
 * Blocks of 32 keep elements j and j + 16 in the low and high half of nibble byte j. Super-blocks
 * of 256 are eight groups g of 32; every function below unpacks one group. The float operations
 * are those of the published decoders in their order (scale times sub-scale, then times the code,
 * then minus the offset), so that the results are the same bits. Nothing here can fail: every bit
 * pattern is some value; illegal ternary codes come out as +2 and are found by quant_ternary_row.
 */
#include "quant/quant_internal.h"

#include <assert.h>

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
/* E2M1 doubled, to be multiplied by half the block scale. */
static const int8_t e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float f16_at(const uint8_t *p) { return f16_f32(load_u16(p)); }

static void one_scale(quant_block32 *o, float a, float b) {
    o->a[0] = o->a[1] = a;
    o->b[0] = o->b[1] = b;
}

/* q[e] = nibble e of qs[16] in split-half order, minus bias. */
static void nibbles(const uint8_t *qs, int bias, int8_t *q) {
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)((qs[j] & 15) - bias);
        q[j + 16] = (int8_t)((qs[j] >> 4) - bias);
    }
}

static void nibbles_table(const uint8_t *qs, const int8_t table[16], int8_t *q) {
    for (int j = 0; j < 16; j++) {
        q[j] = table[qs[j] & 15];
        q[j + 16] = table[qs[j] >> 4];
    }
}

/* Adds 16 to the codes whose bit is set in the 32-bit plane at qh, then subtracts bias. */
static void fifth_bits(const uint8_t *qh, int bias, int8_t *q) {
    uint32_t plane = load_u32(qh);
    for (int e = 0; e < 32; e++) q[e] = (int8_t)(q[e] + (int)(plane >> e & 1) * 16 - bias);
}

/* ==== Blocks of 32
 * ================================================================================ */

/* | d f16 | 16 nibble bytes |    value = d (q - 8) */
static void q4_0(const uint8_t *p, quant_block32 *o) {
    nibbles(p + 2, 8, o->q);
    one_scale(o, f16_at(p), 0);
}

/* | d f16 | m f16 | 16 nibble bytes |    value = d q + m */
static void q4_1(const uint8_t *p, quant_block32 *o) {
    nibbles(p + 4, 0, o->q);
    one_scale(o, f16_at(p), -f16_at(p + 2));
}

/* | d f16 | fifth bits u32 | 16 nibble bytes |    value = d (q - 16) */
static void q5_0(const uint8_t *p, quant_block32 *o) {
    nibbles(p + 6, 0, o->q);
    fifth_bits(p + 2, 16, o->q);
    one_scale(o, f16_at(p), 0);
}

/* | d f16 | m f16 | fifth bits u32 | 16 nibble bytes |    value = d q + m */
static void q5_1(const uint8_t *p, quant_block32 *o) {
    nibbles(p + 8, 0, o->q);
    fifth_bits(p + 4, 0, o->q);
    one_scale(o, f16_at(p), -f16_at(p + 2));
}

/* | d f16 | 32 codes i8 |    value = d q */
static void q8_0(const uint8_t *p, quant_block32 *o) {
    memcpy(o->q, p + 2, 32);
    one_scale(o, f16_at(p), 0);
}

/* | d f16 | 16 nibble bytes |    value = d T[q] */
static void iq4_nl(const uint8_t *p, quant_block32 *o) {
    nibbles_table(p + 2, iq4_values, o->q);
    one_scale(o, f16_at(p), 0);
}

/* | E u8 | 16 nibble bytes |    value = 2^(E - 128) K[q]; E of 0 and 1 give subnormal floats. E 255
 * is NaN in the OCP text and 2^127 by this arithmetic. */
static void mxfp4(const uint8_t *p, quant_block32 *o) {
    uint32_t e = p[0];
    nibbles_table(p + 1, e2m1_doubled, o->q);
    one_scale(o, bits_f32(e < 2 ? 0x00200000u << e : (e - 1) << 23), 0);
}

/* ==== Super-blocks
 * ================================================================================ */

/* 2-bit fields: element l of group g stands in bits 2(g % 4) of byte 32 (g / 4) + l. */
static void two_bits(const uint8_t *qs, unsigned g, int bias, int8_t *q) {
    for (int l = 0; l < 32; l++)
        q[l] = (int8_t)((qs[g / 4 * 32 + (unsigned)l] >> g % 4 * 2 & 3) - bias);
}

/* | 16 (scale, min) nibble pairs | 64 bytes of 2-bit codes | d f16 | dmin f16 | */
static void q2_k(const uint8_t *p, unsigned g, quant_block32 *o) {
    float d = f16_at(p + 80), dmin = f16_at(p + 82);
    two_bits(p + 16, g, 0, o->q);
    for (unsigned s = 0; s < 2; s++) {
        uint8_t pair = p[2 * g + s];
        o->a[s] = d * (float)(pair & 15);
        o->b[s] = dmin * (float)(pair >> 4);
    }
}

/* | 32 bytes: third bits, bit g of byte l | 64 bytes of 2-bit codes | 16 six-bit scales | d f16 |
 * The low nibbles of the scales fill 8 bytes, scale s < 8 low and s - 8 high; the upper two bits
 * stand in bytes 8-11, scale s in bits 2(s / 4) of byte 8 + s % 4. */
static void q3_k(const uint8_t *p, unsigned g, quant_block32 *o) {
    const uint8_t *scales = p + 96;
    float d = f16_at(p + 108);
    two_bits(p + 32, g, 4, o->q);
    for (int l = 0; l < 32; l++) o->q[l] = (int8_t)(o->q[l] + (p[l] >> g & 1) * 4);
    for (unsigned k = 0; k < 2; k++) {
        unsigned s = 2 * g + k;
        int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
        int high = scales[8 + s % 4] >> s / 4 * 2 & 3;
        o->a[k] = d * (float)((low | high << 4) - 32);
        o->b[k] = 0;
    }
}

/* Six-bit scale and min of group g out of 12 bytes: groups 0-3 whole in bytes 0-7, groups 4-7 as
 * nibbles in bytes 8-11 with their upper bits on top of bytes 0-7. */
static void scale_min(const uint8_t *s, unsigned g, float *scale, float *min) {
    int sc, m;
    if (g < 4) {
        sc = s[g] & 63;
        m = s[g + 4] & 63;
    } else {
        sc = (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
        m = (s[g + 4] >> 4) | (s[g] >> 6) << 4;
    }
    *scale = (float)sc;
    *min = (float)m;
}

/* Nibbles of K-quants: groups 2i and 2i + 1 are the low and high halves of the same 32 bytes. */
static void pair_nibbles(const uint8_t *qs, unsigned g, int8_t *q) {
    for (int l = 0; l < 32; l++) q[l] = (int8_t)(qs[g / 2 * 32 + (unsigned)l] >> g % 2 * 4 & 15);
}

/* | d f16 | dmin f16 | 12 bytes of scales and mins | 128 nibble bytes | */
static void q4_k(const uint8_t *p, unsigned g, quant_block32 *o) {
    float scale, min;
    scale_min(p + 4, g, &scale, &min);
    pair_nibbles(p + 16, g, o->q);
    one_scale(o, f16_at(p) * scale, f16_at(p + 2) * min);
}

/* | d f16 | dmin f16 | 12 bytes of scales and mins | 32 bytes: fifth bits | 128 nibble bytes | */
static void q5_k(const uint8_t *p, unsigned g, quant_block32 *o) {
    float scale, min;
    scale_min(p + 4, g, &scale, &min);
    pair_nibbles(p + 48, g, o->q);
    for (int l = 0; l < 32; l++) o->q[l] = (int8_t)(o->q[l] + (p[16 + l] >> g & 1) * 16);
    one_scale(o, f16_at(p) * scale, f16_at(p + 2) * min);
}

/* | 128 bytes: low nibbles | 64 bytes: upper 2 bits | 16 scales i8 | d f16 |
 * Half h = g / 4 and r = g % 4: low nibble in byte 64 h + 32 (r % 2) + l, its low half for r < 2.
 */
static void q6_k(const uint8_t *p, unsigned g, quant_block32 *o) {
    unsigned h = g / 4, r = g % 4;
    const uint8_t *low = p + 64 * h + 32 * (r % 2), *high = p + 128 + 32 * h;
    float d = f16_at(p + 208);
    for (int l = 0; l < 32; l++)
        o->q[l] = (int8_t)(((low[l] >> r / 2 * 4 & 15) | (high[l] >> 2 * r & 3) << 4) - 32);
    for (unsigned s = 0; s < 2; s++) {
        o->a[s] = d * (float)(int8_t)p[192 + 2 * g + s];
        o->b[s] = 0;
    }
}

/* | d f16 | upper scale bits u16 | 8 low scale nibbles | 8 x 16 nibble bytes |  d (s - 32) T[q] */
static void iq4_xs(const uint8_t *p, unsigned g, quant_block32 *o) {
    int low = p[4 + g / 2] >> g % 2 * 4 & 15, high = load_u16(p + 2) >> 2 * g & 3;
    nibbles_table(p + 8 + 16 * g, iq4_values, o->q);
    one_scale(o, f16_at(p) * (float)((low | high << 4) - 32), 0);
}

/* | 48 + 4 bytes of base-3 digits | d f16 |: digit n of byte j of the first 32 is element 32 n + j,
 * of the next 16 element 160 + 16 n + j, of the last 4 element 240 + 4 n + j. */
static void tq1_0(const uint8_t *p, unsigned g, quant_block32 *o) {
    for (unsigned l = 0; l < 32; l++) {
        unsigned e = 32 * g + l, rest = e - 160;
        int code = e < 160   ? trit(p[l], (int)g)
                   : e < 240 ? trit(p[32 + rest % 16], (int)(rest / 16))
                             : trit(p[48 + e % 4], (int)((e - 240) / 4));
        o->q[l] = (int8_t)(code - 1);
    }
    one_scale(o, f16_at(p + 52), 0);
}

/* | 64 bytes of 2-bit codes | d f16 | */
static void tq2_0(const uint8_t *p, unsigned g, quant_block32 *o) {
    two_bits(p, g, 1, o->q);
    one_scale(o, f16_at(p + 64), 0);
}

/* | d f16 | 16 bytes of sign bits, first element lowest |  four groups */
static void q1_0(const uint8_t *p, unsigned g, quant_block32 *o) {
    uint32_t signs = load_u32(p + 2 + 4 * g);
    for (int l = 0; l < 32; l++) o->q[l] = signs >> l & 1 ? 1 : -1;
    one_scale(o, f16_at(p), 0);
}

/* | d f16 | 16 bytes of four consecutive 2-bit codes |  two groups, value = d (q - 1) */
static void q2_0(const uint8_t *p, unsigned g, quant_block32 *o) {
    for (int l = 0; l < 32; l++)
        o->q[l] = (int8_t)((p[2 + 8 * g + (unsigned)l / 4] >> l % 4 * 2 & 3) - 1);
    one_scale(o, f16_at(p), 0);
}

/* ==== Dispatch
 * ==================================================================================== */

void quant_unpack32(uint32_t type, const uint8_t *row, uint64_t block, quant_block32 *out) {
    const unsigned g8 = (unsigned)(block % 8);
    switch (type) {
    case QUANT_Q4_0:
        q4_0(row + block * 18, out);
        return;
    case QUANT_Q4_1:
        q4_1(row + block * 20, out);
        return;
    case QUANT_Q5_0:
        q5_0(row + block * 22, out);
        return;
    case QUANT_Q5_1:
        q5_1(row + block * 24, out);
        return;
    case QUANT_Q8_0:
        q8_0(row + block * 34, out);
        return;
    case QUANT_IQ4_NL:
        iq4_nl(row + block * 18, out);
        return;
    case QUANT_MXFP4:
        mxfp4(row + block * 17, out);
        return;
    case QUANT_Q2_K:
        q2_k(row + block / 8 * 84, g8, out);
        return;
    case QUANT_Q3_K:
        q3_k(row + block / 8 * 110, g8, out);
        return;
    case QUANT_Q4_K:
        q4_k(row + block / 8 * 144, g8, out);
        return;
    case QUANT_Q5_K:
        q5_k(row + block / 8 * 176, g8, out);
        return;
    case QUANT_Q6_K:
        q6_k(row + block / 8 * 210, g8, out);
        return;
    case QUANT_IQ4_XS:
        iq4_xs(row + block / 8 * 136, g8, out);
        return;
    case QUANT_TQ1_0:
        tq1_0(row + block / 8 * 54, g8, out);
        return;
    case QUANT_TQ2_0:
        tq2_0(row + block / 8 * 66, g8, out);
        return;
    case QUANT_Q1_0:
        q1_0(row + block / 4 * 18, (unsigned)(block % 4), out);
        return;
    case QUANT_Q2_0:
        q2_0(row + block / 2 * 18, (unsigned)(block % 2), out);
        return;
    default:
        assert(0 && "type has no 32-column view");
    }
}

bool quant_has_offset(uint32_t type) {
    return type == QUANT_Q4_1 || type == QUANT_Q5_1 || type == QUANT_Q2_K || type == QUANT_Q4_K ||
           type == QUANT_Q5_K;
}
