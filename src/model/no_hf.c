/* SPDX-License-Identifier: MIT
 *
 * Models in folders in a build without jansson: room file has refused them before anyone comes
 * here (file/no_folders.c).
 */
#include "model/model_internal.h"

static rotor_status gguf_only(const model_loader *ld) {
    return base_fail(ld->err, ROTOR_E_UNSUPPORTED, "%s: this build reads GGUF files only",
                     file_path(ld->f));
}

rotor_status model_hf_hparams(model_loader *ld) { return gguf_only(ld); }
rotor_status model_hf_texts(model_loader *ld) { return gguf_only(ld); }
rotor_status model_folder_pooling(model_loader *ld) { return gguf_only(ld); }

rotor_status model_hf_experts(model_loader *ld, uint32_t layer, model_layer *w) {
    (void)layer, (void)w;
    return gguf_only(ld);
}
