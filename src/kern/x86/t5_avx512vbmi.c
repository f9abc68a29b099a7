/* SPDX-License-Identifier: MIT
 *
 * T5 x int8 with AVX-512 VNNI and VBMI; the frame, the forms and the bounds are in t5_body512.h.
 *
 * vpermb looks at six bits of each byte of its index, which is what the two tables of a T5 byte
 * have: a chunk of 320 weights takes one shift, two lookups, five masks and five dot products. The
 * shift is one of words; the two bits that come from the neighbour are not looked at.
 */
#include "kern/x86/stream.h"
#include "kern/x86/tile_avx512.h"

#define NAME(x) x##_avx512vbmi

typedef struct tables {
    __m512i low, high; /* of quant/t5.c */
} tables;

INLINE tables load_tables(void) {
    return (tables){_mm512_loadu_si512(quant_t5_low), _mm512_loadu_si512(quant_t5_high)};
}

INLINE void look_up(__m512i *low, __m512i *high, __m512i b, const tables *t) {
    __asm__("" : "+v"(b)); /* one load, not one more in the shift */
    *low = _mm512_permutexvar_epi8(b, t->low);
    *high = _mm512_permutexvar_epi8(_mm512_srli_epi16(b, 2), t->high);
}

#include "kern/x86/t5_body512.h"
