/* SPDX-License-Identifier: MIT
 *
 * inspect: what a model file says about itself, for any well-formed file whatever its
 * architecture. GGUF keys are read as <architecture>.<name>; a HF folder's config.json gives the
 * same numbers under its own names. Nothing here decides whether a model can run: a number that is
 * missing is reported as 0, not as an error.
 */
#include "tool/inspect.h"

#include "base/part.h"
#include "model/model.h"
#include "run/run.h"

#include <jansson.h>
#include <stdio.h>

/* ==== GGUF ==================================================================================== */

static base_str gguf_str(const file_model *f, const char *key) {
    const file_kv *kv = file_kv_find(f, key);
    base_str s = {0};
    if (kv) file_kv_str(kv, 0, &s);
    return s;
}

static uint32_t arch_u32(const file_model *f, base_str arch, const char *tail) {
    char key[160];
    uint64_t v = 0;
    snprintf(key, sizeof key, "%.*s.%s", (int)BASE_MIN(arch.n, 64), arch.p ? arch.p : "", tail);
    const file_kv *kv = file_kv_find(f, key);
    return kv && kv->n && file_kv_u64(kv, 0, &v) && v <= UINT32_MAX ? (uint32_t)v : 0;
}

static void adapter_facts(tool_facts *t, const file_model *f) {
    static const char end[] = ".lora_a";
    const file_kv *alpha = file_kv_find(f, "adapter.lora.alpha");
    t->adapter = model_is_adapter(f);
    if (t->adapter && alpha) file_kv_f64(alpha, 0, &t->lora_alpha);
    for (size_t i = 0; t->adapter && !t->lora_rank && i < file_n_tensors(f); i++) {
        const file_tensor *x = file_tensor_at(f, i);
        if (x->name.n >= sizeof end &&
            memcmp(x->name.p + x->name.n + 1 - sizeof end, end, sizeof end - 1) == 0)
            t->lora_rank = (uint32_t)BASE_MIN(x->rows, (uint64_t)UINT32_MAX);
    }
}

static void gguf_facts(tool_facts *t, const file_model *f) {
    base_str arch = gguf_str(f, "general.architecture");
    const file_kv *tokens = file_kv_find(f, "tokenizer.ggml.tokens");
    t->architecture = arch;
    t->name = gguf_str(f, "general.name");
    t->license = gguf_str(f, "general.license");
    t->tokenizer = gguf_str(f, "tokenizer.ggml.model");
    t->pre = gguf_str(f, "tokenizer.ggml.pre");
    t->n_layer = arch_u32(f, arch, "block_count");
    t->n_embd = arch_u32(f, arch, "embedding_length");
    t->n_ff = arch_u32(f, arch, "feed_forward_length");
    t->n_head = arch_u32(f, arch, "attention.head_count");
    t->n_head_kv = arch_u32(f, arch, "attention.head_count_kv");
    t->d_key = arch_u32(f, arch, "attention.key_length");
    t->d_value = arch_u32(f, arch, "attention.value_length");
    t->n_ctx = arch_u32(f, arch, "context_length");
    t->n_expert = arch_u32(f, arch, "expert_count");
    t->n_expert_used = arch_u32(f, arch, "expert_used_count");
    t->window = arch_u32(f, arch, "attention.sliding_window");
    adapter_facts(t, f);
    t->n_vocab = arch_u32(f, arch, "vocab_size");
    if (!t->n_vocab && tokens && tokens->n <= UINT32_MAX) t->n_vocab = (uint32_t)tokens->n;
}

/* ==== HF folders ============================================================================== */

static uint32_t config_u32(const json_t *config, const char *key) {
    json_int_t v = json_integer_value(json_object_get(config, key));
    return v > 0 && v <= UINT32_MAX ? (uint32_t)v : 0;
}

/* GPT-2 has names of its own. */
static uint32_t either_u32(const json_t *config, const char *key, const char *other) {
    const uint32_t v = config_u32(config, key);
    return v ? v : config_u32(config, other);
}

static void folder_facts(tool_file *tf, base_str text) {
    tool_facts *t = &tf->facts;
    json_t *config = json_loadb(text.p, text.n, 0, NULL);
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const char *name = json_string_value(json_object_get(config, "_name_or_path"));
    if (type && (tf->arch = base_strdup(type))) t->architecture = base_str_of(tf->arch);
    if (name && (tf->name = base_strdup(name))) t->name = base_str_of(tf->name);
    t->n_layer = either_u32(config, "num_hidden_layers", "n_layer");
    t->n_embd = either_u32(config, "hidden_size", "n_embd");
    t->n_ff = either_u32(config, "intermediate_size", "n_inner");
    t->n_head = either_u32(config, "num_attention_heads", "n_head");
    t->n_head_kv = config_u32(config, "num_key_value_heads");
    t->d_key = t->d_value = config_u32(config, "head_dim");
    t->n_ctx = either_u32(config, "max_position_embeddings", "n_positions");
    t->n_vocab = config_u32(config, "vocab_size");
    t->n_expert = config_u32(config, "num_local_experts");
    if (!t->n_expert) t->n_expert = config_u32(config, "num_experts");
    t->n_expert_used = config_u32(config, "num_experts_per_tok");
    t->window = config_u32(config, "sliding_window");
    json_decref(config);
}

/* ==== Both ==================================================================================== */

/* The type that most matrix bytes have. */
static const char *main_type(const file_model *f) {
    const char *best = "";
    uint64_t best_bytes = 0;
    for (size_t i = 0; i < file_n_tensors(f); i++) {
        const quant_info *info = file_tensor_at(f, i)->info;
        uint64_t bytes = 0;
        for (size_t k = 0; k < file_n_tensors(f); k++) {
            const file_tensor *t = file_tensor_at(f, k);
            if (t->info == info && t->rows > 1 && !base_str_is(t->name, "token_embd.weight") &&
                !base_str_is(t->name, "output.weight"))
                bytes += t->bytes;
        }
        if (bytes > best_bytes) {
            best_bytes = bytes;
            best = info->name;
        }
        if (i > 64) break; /* the first layers show every type in use */
    }
    return best;
}

static bool has_float_head(const file_model *f) {
    const file_tensor *t = file_tensor_find(f, "output.weight");
    if (!t) t = file_tensor_find(f, "token_embd.weight");
    if (!t) return file_kind_of(f) != FILE_GGUF; /* folders: under many names, most in BF16 */
    const uint32_t type = t->info->id;
    return type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16;
}

static void derive(tool_facts *t, bool folder) {
    if (!t->n_head_kv) t->n_head_kv = t->n_head;
    if (!t->d_key && t->n_head) t->d_key = t->n_embd / t->n_head;
    if (!t->d_value) t->d_value = t->d_key;
    t->loadable = !t->adapter && model_loads(t->architecture, folder);
}

static void gather(tool_file *tf) {
    tool_facts *t = &tf->facts;
    const file_model *f = tf->f;
    base_str config;
    bool gguf = file_kind_of(f) == FILE_GGUF;
    t->format = gguf ? "GGUF" : "safetensors";
    if (gguf)
        gguf_facts(t, f);
    else if (file_side(f, "config.json", &config))
        folder_facts(tf, config);
    t->type = main_type(f);
    t->float_head = has_float_head(f);
    t->file_bytes = file_total_bytes(f);
    t->n_tensors = file_n_tensors(f);
    t->n_kvs = file_n_kvs(f);
    for (size_t i = 0; i < t->n_tensors; i++) {
        const file_tensor *x = file_tensor_at(f, i);
        t->n_params += x->rows * x->dims[0];
        t->tensor_bytes += x->bytes;
    }
    derive(t, !gguf);
}

rotor_status tool_file_open(tool_file **out, const tool_source *src, rotor_error *err) {
    tool_file *tf = base_alloc(sizeof *tf);
    if (!tf) return base_fail_nomem(err, "opening a model file");
    rotor_status st = src->path
                          ? file_open(&tf->f, src->path, NULL, err)
                          : file_open_memory(&tf->f, src->data, src->n_bytes, src->name, NULL, err);
    if (st != ROTOR_OK) return base_free(tf), st;
    gather(tf);
    *out = tf;
    return ROTOR_OK;
}

/* The other parts of a split model are not asked for: the key that names them is hidden. */
static void hide_split(char *head, size_t n) {
    static const char key[] = "split.count";
    const size_t len = sizeof key - 1;
    for (size_t i = 0; i + len <= n; i++)
        if (head[i] == 's' && memcmp(head + i, key, len) == 0) head[i + len - 1] = '_';
}

rotor_status tool_file_open_head(tool_file **out, const void *data, size_t n_bytes,
                                 uint64_t file_bytes, const char *name, rotor_error *err) {
    tool_file *tf = base_alloc(sizeof *tf);
    char *image = n_bytes <= file_bytes && file_bytes <= SIZE_MAX / 2
                      ? base_hole_alloc((size_t)file_bytes)
                      : NULL;
    if (!tf || !image) {
        base_free(tf);
        base_hole_free(image, (size_t)file_bytes);
        return base_fail_nomem(err, "reading a file's header");
    }
    memcpy(image, data, n_bytes);
    hide_split(image, n_bytes);
    tf->image = image;
    tf->image_bytes = (size_t)file_bytes;
    rotor_status st = file_open_memory(&tf->f, image, tf->image_bytes, name, NULL, err);
    if (st == ROTOR_OK) gather(tf);
    if (st == ROTOR_OK)
        *out = tf;
    else
        tool_file_close(&tf);
    return st;
}

rotor_status tool_file_open_config(tool_file **out, base_str config, uint64_t weight_bytes,
                                   rotor_error *err) {
    tool_file *tf = base_alloc(sizeof *tf);
    if (!tf) return base_fail_nomem(err, "opening a model file");
    tf->facts = (tool_facts){.format = "safetensors",
                             .type = "",
                             .float_head = true,
                             .file_bytes = weight_bytes,
                             .tensor_bytes = weight_bytes};
    folder_facts(tf, config);
    derive(&tf->facts, true);
    *out = tf;
    return ROTOR_OK;
}

void tool_file_close(tool_file **f) {
    if (!f || !*f) return;
    file_close(&(*f)->f);
    base_hole_free((*f)->image, (*f)->image_bytes);
    base_free((*f)->name);
    base_free((*f)->arch);
    base_free(*f);
    *f = NULL;
}

const tool_facts *tool_file_facts(const tool_file *f) { return &f->facts; }

tool_tensor tool_file_tensor(const tool_file *f, size_t i) {
    const file_tensor *t = file_tensor_at(f->f, i);
    tool_tensor out = {.name = t->name,
                       .type = t->info->name,
                       .n_dims = t->n_dims,
                       .bytes = t->bytes,
                       .offset = t->offset,
                       .decodable = (t->info->flags & QUANT_CAN_DECODE) != 0,
                       .ternary = (t->info->flags & QUANT_TERNARY) != 0};
    memcpy(out.dims, t->dims, sizeof out.dims);
    return out;
}

uint64_t tool_kv_bytes(const tool_facts *t, uint64_t n_ctx, double bytes_per_elem) {
    double per_tok =
        (double)t->n_head_kv * ((double)t->d_key + (double)t->d_value) * bytes_per_elem;
    double full = t->n_layer, windowed = 0;
    if (t->window && t->n_expert) { /* gpt-oss: every other layer keeps its window only */
        windowed = (double)((t->n_layer + 1) / 2);
        full -= windowed;
    }
    const model_hparams hp = {
        .window = (uint32_t)t->window, .window_every = 2, .n_expert = (uint32_t)t->n_expert};
    const double kept = run_ring_positions(&hp, (uint32_t)BASE_MIN(n_ctx, UINT32_MAX), 0);
    return (uint64_t)(per_tok * (full * (double)n_ctx + windowed * kept));
}

uint64_t tool_work_bytes(const tool_facts *t) {
    const model_hparams hp = {.n_embd = t->n_embd,
                              .n_head = t->n_head,
                              .n_head_kv = t->n_head_kv,
                              .d_head = t->d_key,
                              .n_ff = t->n_ff,
                              .n_vocab = t->n_vocab,
                              .n_expert = t->n_expert,
                              .n_used = t->n_expert_used};
    return run_work_bytes(&hp, 0, 0, t->float_head);
}

/* ==== Metadata as text ======================================================================== */

static void value_text(const file_kv *kv, uint64_t i, base_buf *out) {
    base_str s;
    int64_t n;
    uint64_t u;
    double d;
    bool b;
    if (kv->elem == FILE_STR && file_kv_str(kv, i, &s))
        base_buf_printf(out, "%.*s%s", (int)BASE_MIN(s.n, 200), s.p ? s.p : "",
                        s.n > 200 ? "…" : "");
    else if (kv->elem == FILE_BOOL && file_kv_bool(kv, i, &b))
        base_buf_puts(out, b ? "true" : "false");
    else if (file_kv_u64(kv, i, &u))
        base_buf_printf(out, "%llu", (unsigned long long)u);
    else if (file_kv_i64(kv, i, &n))
        base_buf_printf(out, "%lld", (long long)n);
    else if (file_kv_f64(kv, i, &d))
        base_buf_printf(out, "%g", d);
    else
        base_buf_puts(out, "?");
}

rotor_status tool_file_kv(const tool_file *f, size_t i, base_str *key, base_buf *value) {
    const file_kv *kv = file_kv_at(f->f, i);
    uint64_t shown = kv->type == FILE_ARR ? BASE_MIN(kv->n, 5) : 1;
    *key = kv->key;
    if (kv->type == FILE_ARR) base_buf_printf(value, "%llu: ", (unsigned long long)kv->n);
    for (uint64_t k = 0; k < shown; k++) {
        if (k) base_buf_puts(value, ", ");
        value_text(kv, k, value);
    }
    if (kv->type == FILE_ARR && kv->n > shown) base_buf_puts(value, ", …");
    return value->failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

/* ==== Layers ================================================================================== */

bool tool_in_layer(const tool_file *f, size_t i, uint32_t layer) {
    base_str name = file_tensor_at(f->f, i)->name;
    const char *const before[] = {"blk.", "model.layers.", "layers."};
    char prefix[40];
    for (size_t k = 0; k < BASE_COUNT(before); k++) {
        size_t n = (size_t)snprintf(prefix, sizeof prefix, "%s%u.", before[k], layer);
        if (name.n > n && memcmp(name.p, prefix, n) == 0) return true;
    }
    return false;
}
