/* SPDX-License-Identifier: MIT
 *
 * SHA-256 by the processor's own instructions, four rounds a step: a download is checked as it
 * comes, and in plain C the check takes longer than all the rest of it.
 *
 * Sixteen steps. Step i uses the four message words w[i % 4] and puts in their place those of step
 * i + 4, which need all four:
 *
 *     words      w0 [t-16 … t-13]  w1 [t-12 … t-9]  w2 [t-8 … t-5]  w3 [t-4 … t-1]
 *     next w0 =  s1( s0(w0, w1) + [t-7 … t-4], w3 )
 */
#include "base/base_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

/* The instructions hold the eight words as a b e f and c d g h, the first one highest. */
__attribute__((target("sha,ssse3,sse4.1"))) static void blocks_x86(uint32_t h[8], const uint8_t *p,
                                                                   size_t n) {
    const __m128i turn = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i abcd = _mm_loadu_si128((const __m128i *)(const void *)h);
    const __m128i efgh = _mm_loadu_si128((const __m128i *)(const void *)(h + 4));
    const __m128i badc = _mm_shuffle_epi32(abcd, 0xB1), hgfe = _mm_shuffle_epi32(efgh, 0x1B);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xF0);
    for (; n; n--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)),
                                    turn);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const __m128i k = _mm_loadu_si128((const __m128i *)(const void *)(sha256_k + 4 * i));
            const __m128i wk = _mm_add_epi32(w[i % 4], k);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0E));
            if (i >= 12) continue; /* no later step needs new words */
            const __m128i back7 = _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4);
            const __m128i s0 = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
            w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(s0, back7), w[(i + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)(void *)h, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(void *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

sha256_blocks *sha256_blocks_cpu(void) {
    unsigned a, b, c, d, b7, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !__get_cpuid_count(7, 0, &a, &b7, &unused, &unused))
        return NULL;
    const bool ssse3 = c >> 9 & 1, sse41 = c >> 19 & 1, sha = b7 >> 29 & 1;
    return ssse3 && sse41 && sha ? blocks_x86 : NULL;
}

/* An older Clang's header has these only where the whole file is built for them. */
#elif defined(__aarch64__) && defined(__linux__) &&                                                \
    (!defined(__clang__) || defined(__ARM_FEATURE_SHA2))
#include <arm_neon.h>
#include <sys/auxv.h>

__attribute__((target("+crypto"))) static void blocks_arm(uint32_t h[8], const uint8_t *p,
                                                          size_t n) {
    uint32x4_t abcd = vld1q_u32(h), efgh = vld1q_u32(h + 4);
    for (; n; n--, p += 64) {
        const uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t w[4];
        for (int i = 0; i < 4; i++) w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const uint32x4_t wk = vaddq_u32(w[i % 4], vld1q_u32(sha256_k + 4 * i)), was = abcd;
            abcd = vsha256hq_u32(abcd, efgh, wk);
            efgh = vsha256h2q_u32(efgh, was, wk);
            if (i >= 12) continue; /* no later step needs new words */
            const uint32x4_t s0 = vsha256su0q_u32(w[i % 4], w[(i + 1) % 4]);
            w[i % 4] = vsha256su1q_u32(s0, w[(i + 2) % 4], w[(i + 3) % 4]);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(h, abcd);
    vst1q_u32(h + 4, efgh);
}

sha256_blocks *sha256_blocks_cpu(void) {
    const bool sha2 = getauxval(AT_HWCAP) >> 6 & 1;
    return sha2 ? blocks_arm : NULL;
}

#else
sha256_blocks *sha256_blocks_cpu(void) { return NULL; }
#endif
