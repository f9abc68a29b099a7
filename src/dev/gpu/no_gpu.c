/* SPDX-License-Identifier: MIT
 *
 * GPUs in a build without any: none.
 */
#include "dev/dev.h"

static rotor_status no_gpu(rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED, "this build runs models on the CPU only");
}

rotor_status dev_gpu_create(dev **out, dev_api api, size_t index, const char *cache_dir,
                            const dev_shape *shape, rotor_error *err) {
    (void)out, (void)api, (void)index, (void)cache_dir, (void)shape;
    return no_gpu(err);
}

uint64_t dev_gpu_mat_bytes(const kern_mat *w) {
    (void)w;
    return 0;
}

bool dev_gpu_can_import(const kern_mat *w) {
    (void)w;
    return false;
}
