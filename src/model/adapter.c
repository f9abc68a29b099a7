/* SPDX-License-Identifier: MIT
 *
 * A low-rank adapter beside a model: a GGUF file of pairs A [r, in] and B [out, r] for projections
 * of layers. Everything in it is checked against the model once, here, values included; the
 * matrices are used where they lie in the file. A pair without its other half, a tensor with no
 * place, a value that is no number: refused by name, since leaving it out would change every answer
 * unseen.
 */
#include "model/model_internal.h"

#include <math.h>
#include <stddef.h>

/* Projections by role. */
static const struct {
    const char *name; /* between "blk.N." and ".weight" */
    size_t at;        /* of the matrix in model_layer */
} places[MODEL_N_PROJ] = {[MODEL_Q] = {"attn_q", offsetof(model_layer, q)},
                          [MODEL_K] = {"attn_k", offsetof(model_layer, k)},
                          [MODEL_V] = {"attn_v", offsetof(model_layer, v)},
                          [MODEL_O] = {"attn_output", offsetof(model_layer, o)},
                          [MODEL_GATE] = {"ffn_gate", offsetof(model_layer, gate)},
                          [MODEL_UP] = {"ffn_up", offsetof(model_layer, up)},
                          [MODEL_DOWN] = {"ffn_down", offsetof(model_layer, down)}};

const char *model_proj_name(model_proj p) { return places[p].name; }

const model_mat *model_proj_mat(const model_layer *w, model_proj p) {
    return (const model_mat *)(const void *)((const char *)w + places[p].at);
}

bool model_is_adapter(const file_model *f) {
    const file_kv *kv = file_kv_find(f, "general.type");
    base_str type;
    return kv && file_kv_str(kv, 0, &type) && base_str_is(type, "adapter");
}

float model_lora_scale(const model_adapter *a, const model_lora *l, float strength) {
    if (a->alpha == 0) return strength; /* how some writers say none */
    return strength * a->alpha / (float)l->a.rows;
}

/* ==== Metadata ================================================================================ */

static rotor_status text_key(const file_model *f, const char *key, base_str *out,
                             rotor_error *err) {
    const file_kv *kv = file_kv_find(f, key);
    if (kv && file_kv_str(kv, 0, out)) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT, "%s: metadata key %s is missing or no text", file_path(f),
                     key);
}

static rotor_status read_keys(model_adapter *a, const model *m, rotor_error *err) {
    const file_model *f = a->file;
    const file_kv *alpha = file_kv_find(f, "adapter.lora.alpha");
    base_str arch, type;
    double v;
    if (file_kind_of(f) != FILE_GGUF || !model_is_adapter(f))
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: not an adapter; expected a GGUF file whose general.type is adapter",
                         file_path(f));
    ROTOR_TRY(text_key(f, "general.architecture", &arch, err));
    ROTOR_TRY(text_key(f, "adapter.type", &type, err));
    if (!base_str_is(type, "lora") || file_kv_find(f, "adapter.alora.invocation_tokens"))
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: an adapter of type %.*s%s; only plain lora is supported",
                         file_path(f), (int)BASE_MIN(type.n, 40), type.p,
                         base_str_is(type, "lora") ? " that tokens switch on" : "");
    if (!base_str_is(arch, m->arch))
        return base_fail(err, ROTOR_E_ARG,
                         "%s: an adapter for models of architecture %.*s; this model is %s",
                         file_path(f), (int)BASE_MIN(arch.n, 60), arch.p, m->arch);
    if (!alpha || !file_kv_f64(alpha, 0, &v) || !isfinite((float)v))
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: metadata key adapter.lora.alpha is missing or not a finite number",
                         file_path(f));
    a->alpha = (float)v;
    return ROTOR_OK;
}

/* Adapters in GGUF files follow the row order of GGUF models, which for some families is not that
 * of the folders they come from. */
static rotor_status check_row_order(const model_adapter *a, const model *m, rotor_error *err) {
    const model_arch *arch = model_arch_find(base_str_of(m->arch));
    if (!arch || arch->rope_interleaved == m->hp.rope_interleaved) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "%s: the rows of q and k stand in another order in the model's folder than in "
                     "GGUF files; `rotor convert` makes a GGUF file of it that takes this adapter",
                     file_path(a->file));
}

/* ==== Tensors ================================================================================= */

static bool take_end(base_str *s, const char *end) {
    const size_t n = strlen(end);
    if (s->n < n || memcmp(s->p + s->n - n, end, n) != 0) return false;
    s->n -= n;
    return true;
}

/* "blk.7.attn_q.weight.lora_b" */
static bool parse_name(base_str name, uint64_t *layer, model_proj *proj, bool *is_b) {
    *layer = 0;
    *is_b = take_end(&name, ".lora_b");
    if ((!*is_b && !take_end(&name, ".lora_a")) || !take_end(&name, ".weight")) return false;
    if (name.n < 6 || memcmp(name.p, "blk.", 4) != 0) return false;
    size_t i = 4;
    for (; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && i < 14; i++)
        *layer = 10 * *layer + (uint64_t)(name.p[i] - '0');
    if (i == 4 || i == name.n || name.p[i] != '.') return false;
    if (name.p[4] == '0' && i > 5) return false; /* "blk.07" would be blk.7 a second time */
    const base_str role = {name.p + i + 1, name.n - i - 1};
    for (int p = 0; p < MODEL_N_PROJ; p++)
        if (base_str_is(role, places[p].name)) return *proj = (model_proj)p, true;
    return false;
}

static rotor_status bad_tensor(const model_adapter *a, const file_tensor *t, const char *what,
                               rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: tensor %.*s %s", file_path(a->file),
                     (int)t->name.n, t->name.p, what);
}

static rotor_status check_values(const model_adapter *a, const file_tensor *t, rotor_error *err) {
    const quant_tensor view = {
        .type = t->info->id, .rows = t->rows, .cols = t->dims[0], .data = t->data};
    float *row = base_alloc_array((size_t)t->dims[0], sizeof *row);
    rotor_status st = row ? ROTOR_OK : base_fail_nomem(err, "reading an adapter");
    for (uint64_t r = 0; st == ROTOR_OK && r < t->rows; r++) {
        st = quant_decode_rows(&view, r, r + 1, row, err);
        for (uint64_t c = 0; st == ROTOR_OK && c < t->dims[0]; c++)
            if (!isfinite(row[c]))
                st = base_fail(err, ROTOR_E_FORMAT,
                               "%s: tensor %.*s: row %llu, column %llu is not a finite number",
                               file_path(a->file), (int)t->name.n, t->name.p, (unsigned long long)r,
                               (unsigned long long)c);
    }
    base_free(row);
    return st;
}

static rotor_status bind_tensor(model_adapter *a, const model *m, const file_tensor *t,
                                rotor_error *err) {
    uint64_t layer;
    model_proj proj;
    bool is_b;
    if (!parse_name(t->name, &layer, &proj, &is_b))
        return bad_tensor(a, t,
                          "is no half of a pair beside a projection of a layer (blk.N.attn_q … "
                          "ffn_down, .weight.lora_a and .lora_b); adapters of the embedding, the "
                          "head and norms are not supported",
                          err);
    if (layer >= m->n_layer_file)
        return base_fail(err, ROTOR_E_ARG, "%s: tensor %.*s: the model has %u layers",
                         file_path(a->file), (int)t->name.n, t->name.p, m->n_layer_file);
    if (t->info->id != QUANT_F32 && t->info->id != QUANT_F16 && t->info->id != QUANT_BF16)
        return bad_tensor(a, t, "is of another type than F32, F16 or BF16", err);
    ROTOR_TRY(check_values(a, t, err));
    if (layer >= m->hp.n_layer) return ROTOR_OK; /* only the first layers run */
    model_lora *l = &a->at[layer * MODEL_N_PROJ + proj];
    *(is_b ? &l->b : &l->a) = (model_mat){.name = places[proj].name,
                                          .type = t->info->id,
                                          .rows = (size_t)t->rows,
                                          .cols = (size_t)t->dims[0],
                                          .row_bytes = (size_t)t->dims[0] * t->info->block_bytes,
                                          .data = t->data,
                                          .scale = 1.0f};
    a->n_params += t->rows * t->dims[0];
    a->bytes += t->bytes;
    return ROTOR_OK;
}

static rotor_status check_pair(model_adapter *a, const model *m, uint32_t layer, model_proj proj,
                               rotor_error *err) {
    const model_lora *l = &a->at[(size_t)layer * MODEL_N_PROJ + proj];
    const model_mat *w = model_proj_mat(&m->layers[layer], proj);
    if (!l->a.data && !l->b.data) return ROTOR_OK;
    if (!l->a.data || !l->b.data)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: blk.%u.%s.weight.lora_%s has no lora_%s beside it",
                         file_path(a->file), layer, places[proj].name, l->a.data ? "a" : "b",
                         l->a.data ? "b" : "a");
    if (proj >= MODEL_GATE && m->hp.n_expert)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: blk.%u.%s: adapters of a mixture's experts are not supported",
                         file_path(a->file), layer, places[proj].name);
    if (!w->data)
        return base_fail(err, ROTOR_E_ARG, "%s: blk.%u.%s: the model has no such projection",
                         file_path(a->file), layer, places[proj].name);
    if (l->a.cols != w->cols || l->b.rows != w->rows || l->b.cols != l->a.rows)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: blk.%u.%s.weight: lora_a is %zu x %zu and lora_b %zu x %zu (rows x "
                         "columns), expected r x %zu and %zu x r",
                         file_path(a->file), layer, places[proj].name, l->a.rows, l->a.cols,
                         l->b.rows, l->b.cols, w->cols, w->rows);
    a->rank = BASE_MAX(a->rank, (uint32_t)BASE_MIN(l->a.rows, (size_t)UINT32_MAX));
    a->n_pairs++;
    return ROTOR_OK;
}

static rotor_status load(model_adapter *a, const model *m, rotor_error *err) {
    ROTOR_TRY(read_keys(a, m, err));
    ROTOR_TRY(check_row_order(a, m, err));
    a->at = base_alloc_array((size_t)m->hp.n_layer * MODEL_N_PROJ, sizeof *a->at);
    if (!a->at) return base_fail_nomem(err, "loading an adapter");
    for (size_t i = 0; i < file_n_tensors(a->file); i++)
        ROTOR_TRY(bind_tensor(a, m, file_tensor_at(a->file, i), err));
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        for (int p = 0; p < MODEL_N_PROJ; p++) ROTOR_TRY(check_pair(a, m, l, (model_proj)p, err));
    if (file_n_tensors(a->file) > 0) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT, "%s: an adapter without any tensor", file_path(a->file));
}

rotor_status model_adapter_open(model_adapter **out, const char *path, const model *m,
                                const model_options *opt, rotor_error *err) {
    const file_options fo = {.no_map = opt->no_map, .log = opt->log};
    model_adapter *a = base_alloc(sizeof *a);
    if (!a) return base_fail_nomem(err, "loading an adapter");
    rotor_status st = file_open(&a->file, path, &fo, err);
    if (st == ROTOR_OK) st = load(a, m, err);
    if (st == ROTOR_OK)
        *out = a;
    else
        model_adapter_close(&a);
    return st;
}

void model_adapter_close(model_adapter **pa) {
    if (!pa || !*pa) return;
    base_free((*pa)->at);
    file_close(&(*pa)->file);
    base_free(*pa);
    *pa = NULL;
}
