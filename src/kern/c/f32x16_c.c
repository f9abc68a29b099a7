/* SPDX-License-Identifier: MIT
 *
 * F32 with sixteen rows side by side: layout and packing. The products are in f32x16_body.h.
 *
 * For float weights that many tokens pass at once, as an encoder's do: what a kernel would gather
 * for every tile is gathered once, at load. Sixteen rows are a group, as long as sixteen rows:
 *
 *   | column 0: rows 0 … 15 | column 1: rows 0 … 15 | … |
 *     64 bytes                64 bytes
 */
#include "kern/kern.h"

void kern_f32x16_pack(float *group, const uint8_t *rows, size_t row_bytes, size_t cols) {
    for (size_t c = 0; c < cols; c++)
        for (size_t i = 0; i < KERN_F32X16_ROWS; i++)
            memcpy(group + c * KERN_F32X16_ROWS + i, rows + i * row_bytes + c * sizeof *group,
                   sizeof *group);
}
