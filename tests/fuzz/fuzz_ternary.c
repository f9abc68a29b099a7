/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the public ternary codec. The first bytes choose a layout and a shape, the rest is
 * the matrix. What converts to int8 must convert back and give the same values.
 */
#include <stdlib.h>
#include <string.h>

#include "rotor_ternary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void there_and_back(rotor_ternary_matrix *src, int8_t *values, int8_t *again) {
    const size_t n = src->rows * src->cols;
    rotor_error err;
    rotor_ternary_matrix mid = {ROTOR_TERNARY_INT8, src->rows, src->cols, values, n, 0};
    rotor_ternary_matrix end = {ROTOR_TERNARY_INT8, src->rows, src->cols, again, n, 0};
    if (rotor_ternary_convert(&mid, src, &err) != ROTOR_OK) return;
    /* A scale may be any float; one that cannot be stored is refused, not damaged. */
    if (rotor_ternary_convert(src, &mid, &err) != ROTOR_OK) return;
    if (rotor_ternary_convert(&end, src, &err) != ROTOR_OK) abort();
    if (memcmp(values, again, n) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t n_bytes;
    rotor_error err;
    if (size < 4) return 0;
    rotor_ternary_layout layout = (rotor_ternary_layout)(data[0] % 13);
    size_t rows = data[1] % 9, cols = data[2] | (size_t)(data[3] % 4) << 8;
    if (rotor_ternary_layout_bytes(layout, rows, cols, &n_bytes, &err) != ROTOR_OK) return 0;
    void *image = calloc(1, n_bytes);
    int8_t *values = malloc(rows * cols), *again = malloc(rows * cols);
    if (image && values && again) {
        memcpy(image, data + 4, size - 4 < n_bytes ? size - 4 : n_bytes);
        rotor_ternary_matrix src = {layout, rows, cols, image, n_bytes, 1};
        there_and_back(&src, values, again);
    }
    free(image);
    free(values);
    free(again);
    return 0;
}
