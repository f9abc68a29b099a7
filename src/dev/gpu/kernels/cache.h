/* SPDX-License-Identifier: MIT
 *
 * cache: reading the blocks of the KV cache (kern.h draws them). Kernels that include it define the
 * constants D and KV, and have keys and values, memories of words.
 */
#define KV_F32 0u
#define KV_F16 1u
#define KV_Q8 2u
#define N32 ((D + 31u) / 32u)                 /* groups of 32 elements, each with a scale in q8 */
#define BLOCK_WORDS (KV == KV_F32 ? 64u * D : KV == KV_F16 ? 32u * D : 544u * N32)
#define VALUE_WORDS (KV == KV_F32 ? D : KV == KV_F16 ? D / 2u : 8u * N32) /* of one value */
#define PER_WORD (KV == KV_F32 ? 1u : KV == KV_F16 ? 2u : 4u)             /* elements in a word */

INLINE float half_in(uint word, uint i) { return i == 0u ? HALF_LO(word) : HALF_HI(word); }
INLINE float byte_in(uint word, uint i) { return F32(I32(word << (24u - 8u * i)) >> 24); }

/* Element i of the key in slot `slot` of a block; of q8 without its scale. */
#define KEY_CODE(block, i, slot)                                                                  \
    (KV == KV_F32   ? BITS_FLOAT(keys[(block) + (i)*64u + (slot)])                                \
     : KV == KV_F16 ? half_in(keys[(block) + (i)*32u + (slot) / 2u], (slot) % 2u)                 \
                    : byte_in(keys[(block) + N32 * 32u + (i)*16u + (slot) / 4u], (slot) % 4u))
#define KEY_SCALE(block, g, slot) half_in(keys[(block) + (g)*32u + (slot) / 2u], (slot) % 2u)
/* Word u of the value in a slot, an element of it, and the scale of its group. */
#define VALUE_WORD(block, u, slot)                                                                \
    values[(block) + (KV == KV_Q8 ? N32 * 32u : 0u) + (slot)*VALUE_WORDS + (u)]
#define VALUE_IN(word, i)                                                                         \
    (KV == KV_F32 ? BITS_FLOAT(word) : KV == KV_F16 ? half_in(word, i) : byte_in(word, i))
#define VALUE_SCALE(block, g, slot) half_in(values[(block) + (g)*32u + (slot) / 2u], (slot) % 2u)
