/* SPDX-License-Identifier: MIT
 *
 * The floor of a run: how fast its bytes can be read and its multiply-adds done on a machine of
 * given rates. A decoded token reads the weights and its part of the cache; a prompt multiplies
 * every weight of the layers with every token and every query with the keys before it.
 */
#include "tool/tool.h"

rotor_status tool_count_macs(const tool_source *src, uint32_t n_layer, tool_macs *out,
                             rotor_error *err) {
    tool_file *f = NULL;
    ROTOR_TRY(tool_file_open(&f, src, err));
    const tool_facts *t = tool_file_facts(f);
    tool_macs m = {.head = (double)t->n_vocab * t->n_embd};
    for (size_t i = 0; i < t->n_tensors; i++) {
        tool_tensor x = tool_file_tensor(f, i);
        bool packed = strcmp(x.type, "U8") == 0; /* four ternary rows in a byte */
        bool inside = false;
        for (uint32_t l = 0; l < n_layer && !inside; l++) inside = tool_in_layer(f, i, l);
        if (!inside || x.n_dims < 2) continue;
        double n = (double)x.dims[0] * (double)x.dims[1] * (packed ? 4 : 1);
        m.layers += x.n_dims > 2 ? n * t->n_expert_used : n;
    }
    double d_key = t->d_key ? t->d_key : t->n_embd / BASE_MAX(t->n_head, 1);
    double d_value = t->d_value ? t->d_value : d_key;
    m.per_key = n_layer * (double)t->n_head * (d_key + d_value);
    tool_file_close(&f);
    *out = m;
    return ROTOR_OK;
}

tool_floor tool_floor_of(const tool_work *w, const tool_rates *r) {
    tool_floor f = {0};
    if (r->of[TOOL_READ] > 0) f.read_us = w->bytes / r->of[TOOL_READ] / 1e3;
    if (r->of[TOOL_INT8] > 0) f.int8_us = w->int8_macs / r->of[TOOL_INT8] / 1e3;
    if (r->of[TOOL_F32] > 0) f.f32_us = w->f32_macs / r->of[TOOL_F32] / 1e3;
    double us = BASE_MAX(f.read_us, f.int8_us + f.f32_us);
    f.tps = us > 0 ? 1e6 / us : 0;
    return f;
}
