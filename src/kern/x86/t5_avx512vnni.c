/* SPDX-License-Identifier: MIT
 *
 * T5 x int8 with AVX-512 VNNI where VBMI is missing; the frame, the forms and the bounds are in
 * t5_body512.h.
 *
 * A table of 64 is four of 16, one for each pair of bits 5-4; the lookups of the odd ones and of
 * the upper two are merged under masks. high[] is 64 * (b / 64) below 192: only its last 16 entries
 * are looked up.
 */
#include "kern/x86/stream.h"
#include "kern/x86/tile_avx512.h"

#define NAME(x) x##_avx512vnni

typedef struct tables {
    __m512i low[4], last; /* sixteen entries each, four times over */
} tables;

INLINE __m512i sixteen(const uint8_t *p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
}

INLINE tables load_tables(void) {
    return (tables){{sixteen(quant_t5_low), sixteen(quant_t5_low + 16), sixteen(quant_t5_low + 32),
                     sixteen(quant_t5_low + 48)},
                    sixteen(quant_t5_high + 48)};
}

INLINE void look_up(__m512i *low, __m512i *high, __m512i b, const tables *t) {
    const __m512i index = _mm512_and_si512(b, _mm512_set1_epi8(0x0F));
    const __mmask64 bit4 = _mm512_movepi8_mask(_mm512_slli_epi16(b, 3));
    const __mmask64 bit5 = _mm512_movepi8_mask(_mm512_slli_epi16(b, 2));
    const __mmask64 from_192 = _mm512_cmpge_epu8_mask(b, _mm512_set1_epi8((char)0xC0));
    __m512i even = _mm512_shuffle_epi8(t->low[0], index);
    __m512i odd = _mm512_shuffle_epi8(t->low[2], index);
    even = _mm512_mask_shuffle_epi8(even, bit4, t->low[1], index);
    odd = _mm512_mask_shuffle_epi8(odd, bit4, t->low[3], index);
    *low = _mm512_mask_mov_epi8(even, bit5, odd);
    const __m512i run = _mm512_and_si512(_mm512_srli_epi16(b, 2), _mm512_set1_epi8(0x0F));
    *high = _mm512_mask_shuffle_epi8(_mm512_and_si512(b, _mm512_set1_epi8((char)0xC0)), from_192,
                                     t->last, run);
}

#include "kern/x86/t5_body512.h"
