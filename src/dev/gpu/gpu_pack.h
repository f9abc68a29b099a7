/* SPDX-License-Identifier: MIT
 *
 * gpu_pack: weights as they lie on a device (gpu_kernels.h has the order of rows). A row is whole
 * words; what is not there in a file's last block of a pair is zero.
 *
 *   GPU_T2    T2 as on the CPU (quant.h): 8 words a block of 128 columns; T5 is unpacked to it
 *   GPU_F32   a word a column
 *   GPU_F16, GPU_BF16   two columns a word, the first in the low half
 *   GPU_Q8_0  17 words of 64 columns: two f16 scales, 8 words of codes, 8 words of codes
 *   GPU_Q4_0  9 words of 64 columns: two f16 scales, 4 words of nibbles, 4 words of nibbles
 *   GPU_Q4_K  36 words of 256 columns, as in the file: d | dmin << 16, 3 words of scales, 32 words
 *   GPU_Q6_K  53 words of 256 columns: ql 32 words, qh 16, scales 4, d in the last
 *   GPU_MXFP4 17 words of 128 columns: four scale bytes (powers of two), 4 words of nibbles for
 * each 32 columns as in the file; the last unit of a row ends with its last block
 *   GPU_B32   12 words of 32 columns, for every other block type: a[0], a[1], b[0], b[1] as floats,
 * 8 words of codes (quant_block32)
 */
#ifndef GPU_PACK_H
#define GPU_PACK_H

#include "base/base.h"
#include "kern/kern.h"

typedef enum gpu_type {
    GPU_T2,
    GPU_F32,
    GPU_F16,
    GPU_BF16,
    GPU_Q8_0,
    GPU_Q4_0,
    GPU_Q4_K,
    GPU_Q6_K,
    GPU_B32,
    GPU_MXFP4
} gpu_type;

/* The device's form of a matrix; false when there is none. KERN_Q8X16 becomes GPU_Q8_0. */
bool gpu_type_of(const kern_mat *w, gpu_type *out);
/* Words of a row. */
size_t gpu_row_words(gpu_type type, size_t cols);
/* Groups of GPU_ROWS rows [group_begin, group_end) of w, into dst[(groups)][n_u][GPU_ROWS]. Pure;
 * threads may share the groups of a matrix. */
void gpu_pack(const kern_mat *w, gpu_type type, size_t group_begin, size_t group_end,
              uint32_t *dst);

#endif
