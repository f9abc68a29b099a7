/* SPDX-License-Identifier: MIT
 *
 * The staged output head with AVX2: head_pack.h and head_screen.h with eight rows in a vector, and
 * refine: two bytes of a bit plane, spread over sixteen lanes, choose x or -x, which madd
 * multiplies by the block's scale.
 *
 * Bounds: a lane grows by at most 2 * 2 * 255 * 32639 < 2^25 a block; 64 blocks stay below 2^31.
 */
#include "kern/x86/vi_avx2.h"

#define NAME(x) x##_avx2
#include "kern/head_pack.h"
#include "kern/head_screen.h"

enum { REFINE_BLOCKS = 64 };

/* Sixteen columns; those whose bit is set are negated. */
INLINE __m256i negate_set(uint32_t bits, const int16_t *x) {
    const __m256i one = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                          8192, 16384, INT16_MIN);
    __m256i set = _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16((int16_t)bits), one), one);
    return _mm256_sign_epi16(_mm256_load_si256((const __m256i *)(const void *)x),
                             _mm256_or_si256(set, _mm256_set1_epi16(1)));
}

/* Blocks [from, to) of one row, negated. */
INLINE int64_t refine_part(const kern_x16 *x, const uint8_t *bits, const uint8_t *u, size_t from,
                           size_t to) {
    __m256i a0 = _mm256_setzero_si256(), a1 = a0;
    for (size_t b = from; b < to; b++) {
        uint32_t m;
        memcpy(&m, bits + 4 * b, 4);
        const __m256i scale = _mm256_set1_epi16(u[b]);
        __m256i v0 = negate_set(m & 0xFFFF, x->x + 32 * b);
        __m256i v1 = negate_set(m >> 16, x->x + 32 * b + 16);
        a0 = _mm256_add_epi32(a0, _mm256_madd_epi16(v0, scale));
        a1 = _mm256_add_epi32(a1, _mm256_madd_epi16(v1, scale));
    }
    const __m256i d = _mm256_add_epi32(a0, a1);
    int64_t lane[4];
    _mm256_storeu_si256((__m256i *)(void *)lane,
                        _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(d)),
                                         _mm256_cvtepi32_epi64(_mm256_extracti128_si256(d, 1))));
    return lane[0] + lane[1] + lane[2] + lane[3];
}

static void head_refine_avx2(float *y, const kern_planes *p, const kern_x16 *x, size_t plane,
                             const uint32_t *ids, size_t n) {
    enum { AHEAD_ROWS = 32 };
    const size_t blocks = p->ldc / 32;
    for (size_t j = 0; j < n; j++) {
        const size_t r = ids[j], ahead = ids[j + AHEAD_ROWS < n ? j + AHEAD_ROWS : n - 1];
        const uint8_t *u = p->scale + r * blocks, *bits = p->bits[plane] + r * (p->ldc / 8);
        int64_t sum = 0;
        for (size_t at = 0; at < p->ldc / 8; at += 64)
            __builtin_prefetch(p->bits[plane] + ahead * (p->ldc / 8) + at);
        for (size_t c = 0; c < blocks; c += REFINE_BLOCKS)
            sum -=
                refine_part(x, bits, u, c, blocks - c < REFINE_BLOCKS ? blocks : c + REFINE_BLOCKS);
        y[j] = head_add(y[j], sum, p, x, plane, r);
    }
}

void kern_fill_head_avx2(kern *k) {
    k->head_pack = head_pack_avx2;
    k->head_screen = head_screen_avx2;
    k->head_refine = head_refine_avx2;
}
