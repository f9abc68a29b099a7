/* SPDX-License-Identifier: MIT
 *
 * Folders and safetensors files in a build without jansson: none.
 */
#include "file/file_internal.h"

static rotor_status gguf_only(rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "this build has no jansson: it reads GGUF files only; rotor convert makes one "
                     "of a folder");
}

rotor_status safetensors_parse(file_model *m, uint32_t shard, rotor_error *err) {
    (void)m, (void)shard;
    return gguf_only(err);
}

rotor_status hf_open_folder(file_model *m, const char *dir, bool map, rotor_error *err) {
    (void)m, (void)dir, (void)map;
    return gguf_only(err);
}

rotor_status hf_open_sides(file_model *m, const char *dir, bool map, rotor_error *err) {
    (void)m, (void)dir, (void)map;
    return gguf_only(err);
}
