/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as the JSON header of a safetensors image. The length field is written
 * here, so that mutations reach the header: the first two input bytes say how many data bytes
 * follow it.
 */
#include "file/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    file_model *m = NULL;
    rotor_error err;
    if (size < 3) return 0;
    size_t n_data = data[0] | (size_t)data[1] << 8, n_header = size - 2;
    uint8_t *image = base_alloc(8 + n_header + n_data);
    if (!image) return 0;
    for (int i = 0; i < 8; i++) image[i] = (uint8_t)((uint64_t)n_header >> 8 * i);
    memcpy(image + 8, data + 2, n_header);
    if (file_open_memory(&m, image, 8 + n_header + n_data, "fuzz", NULL, &err) == ROTOR_OK) {
        volatile unsigned sink = 0;
        (void)sink;
        for (size_t i = 0; i < file_n_tensors(m); i++) {
            const file_tensor *t = file_tensor_at(m, i);
            for (uint64_t k = 0; k < t->bytes; k++) sink += t->data[k];
            for (size_t k = 0; k < t->name.n; k++) sink += (uint8_t)t->name.p[k];
        }
        file_close(&m);
    }
    base_free(image);
    return 0;
}
