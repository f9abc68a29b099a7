/* SPDX-License-Identifier: MIT
 *
 * The staged output head with AVX-512 VNNI: head_pack.h and head_screen.h with sixteen rows in a
 * vector, and refine: four bytes of a bit plane are the mask that negates some of 32 columns, which
 * one dpwssd multiplies by the block's scale and adds.
 *
 * Bounds: a lane grows by at most 2 * 255 * 32639 < 2^24 a block; 128 blocks over four accumulators
 * stay below 2^31 together. Per row: ldc / 8 + ldc / 32 bytes, the next row prefetched meanwhile.
 */
#include "kern/x86/vi_avx512.h"

#define NAME(x) x##_avx512vnni
#include "kern/head_pack.h"
#include "kern/head_screen.h"

enum { REFINE_BLOCKS = 128 };

/* Scales of n blocks, each twice in a dword. */
INLINE void pair_scales(int32_t *to, const uint8_t *u, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1u) : (__mmask16)0xFFFF;
        __m512i s = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, u + i));
        _mm512_store_si512(to + i, _mm512_or_si512(s, _mm512_slli_epi32(s, 16)));
    }
}

/* acc - the block's part of the sum: the columns whose bit is set are negated, not the others. */
INLINE __m512i refine_block(__m512i acc, const int16_t *x, const uint8_t *bits,
                            const int32_t *pair) {
    uint32_t m;
    memcpy(&m, bits, 4);
    __m512i v = _mm512_load_si512(x);
    v = _mm512_mask_sub_epi16(v, (__mmask32)m, _mm512_setzero_si512(), v);
    return _mm512_dpwssd_epi32(acc, v, _mm512_set1_epi32(*pair));
}

/* n blocks of one row, negated. */
INLINE __m512i refine_part(const int16_t *x, const uint8_t *bits, const int32_t *pairs, size_t n) {
    __m512i a0 = _mm512_setzero_si512(), a1 = a0, a2 = a0, a3 = a0;
    for (size_t b = 0; b < n; b += 4, x += 128, bits += 16, pairs += 4) { /* 128 columns pad ldc */
        a0 = refine_block(a0, x, bits, pairs);
        a1 = refine_block(a1, x + 32, bits + 4, pairs + 1);
        a2 = refine_block(a2, x + 64, bits + 8, pairs + 2);
        a3 = refine_block(a3, x + 96, bits + 12, pairs + 3);
    }
    return _mm512_add_epi32(_mm512_add_epi32(a0, a1), _mm512_add_epi32(a2, a3));
}

INLINE void prefetch_row(const kern_planes *p, size_t plane, size_t r) {
    const uint8_t *bits = p->bits[plane] + r * (p->ldc / 8), *u = p->scale + r * (p->ldc / 32);
    for (size_t at = 0; at < p->ldc / 8; at += 64) __builtin_prefetch(bits + at);
    for (size_t at = 0; at < p->ldc / 32; at += 64) __builtin_prefetch(u + at);
}

static void head_refine_avx512vnni(float *y, const kern_planes *p, const kern_x16 *x, size_t plane,
                                   const uint32_t *ids, size_t n) {
    enum { AHEAD_ROWS = 32 };
    const size_t blocks = p->ldc / 32;
    for (size_t j = 0; j < n; j++) {
        _Alignas(64) int32_t pairs[REFINE_BLOCKS];
        const size_t r = ids[j];
        const uint8_t *u = p->scale + r * blocks, *bits = p->bits[plane] + r * (p->ldc / 8);
        int64_t sum = 0;
        if (j + AHEAD_ROWS < n) prefetch_row(p, plane, ids[j + AHEAD_ROWS]);
        for (size_t c = 0; c < blocks; c += REFINE_BLOCKS) {
            const size_t m = blocks - c < REFINE_BLOCKS ? blocks - c : REFINE_BLOCKS;
            pair_scales(pairs, u + c, m);
            __m512i d = refine_part(x->x + 32 * c, bits + 4 * c, pairs, m);
            __m512i wide = _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(d)),
                                            _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(d, 1)));
            sum -= _mm512_reduce_add_epi64(wide);
        }
        y[j] = head_add(y[j], sum, p, x, plane, r);
    }
}

void kern_fill_head_avx512vnni(kern *k) {
    k->head_pack = head_pack_avx512vnni;
    k->head_screen = head_screen_avx512vnni;
    k->head_refine = head_refine_avx512vnni;
}
