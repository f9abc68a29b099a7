/* SPDX-License-Identifier: MIT
 *
 * Sixteen vectors of sixteen int32: their sums in one vector, or their transpose.
 */
#ifndef REDUCE_AVX512_H
#define REDUCE_AVX512_H

#include <immintrin.h>
#include <stddef.h>

/* Per 128-bit lane: the sums of dwords 0, 1 and of 2, 3 crosswise, a in the even, b in the odd. */
static inline __m512i add_pairs32(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
static inline __m512i add_pairs64(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
static inline __m512i add_pairs128(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}
static inline __m512i reduce_four(const __m512i *v) {
    return add_pairs64(add_pairs32(v[0], v[1]), add_pairs32(v[2], v[3]));
}

/* Lane i of the result is the sum of all lanes of v[i]. */
static inline __m512i reduce_rows(const __m512i v[16]) {
    return add_pairs128(add_pairs128(reduce_four(v), reduce_four(v + 4)),
                        add_pairs128(reduce_four(v + 8), reduce_four(v + 12)));
}

/* The same from the pairs v[i] = add_pairs32(row 2 i, row 2 i + 1). */
static inline __m512i reduce_pairs(const __m512i v[8]) {
    return add_pairs128(add_pairs128(add_pairs64(v[0], v[1]), add_pairs64(v[2], v[3])),
                        add_pairs128(add_pairs64(v[4], v[5]), add_pairs64(v[6], v[7])));
}

/* v[i] lane j becomes v[j] lane i. */
static inline void transpose16(__m512i v[16]) {
    __m512i t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) { /* v[i + c]: column c of every lane, rows i .. i + 3 */
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) { /* lanes 0, 2 and 1, 3 of rows 0-7 and of rows 8-15 */
        t[c] = _mm512_shuffle_i32x4(v[c], v[c + 4], 0x88);
        t[c + 4] = _mm512_shuffle_i32x4(v[c], v[c + 4], 0xDD);
        t[c + 8] = _mm512_shuffle_i32x4(v[c + 8], v[c + 12], 0x88);
        t[c + 12] = _mm512_shuffle_i32x4(v[c + 8], v[c + 12], 0xDD);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        v[c] = _mm512_shuffle_i32x4(t[c], t[c + 8], 0x88);
        v[c + 4] = _mm512_shuffle_i32x4(t[c + 4], t[c + 12], 0x88);
        v[c + 8] = _mm512_shuffle_i32x4(t[c], t[c + 8], 0xDD);
        v[c + 12] = _mm512_shuffle_i32x4(t[c + 4], t[c + 12], 0xDD);
    }
}

#endif
