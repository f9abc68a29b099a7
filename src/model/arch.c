/* SPDX-License-Identifier: MIT
 *
 * Architectures. A new one of the same family is one row of the table below; a model of an unknown
 * one is refused by name, with the list of those that load.
 */
#include "model/model_internal.h"

#include <math.h>
#include <stdio.h>

static const model_arch archs[] = {
    {.name = "bitnet-b1.58", .hf_type = "bitnet", .sub_norms = true, .ternary = true},
    {.name = "bitnet-25", .sub_norms = true, .ternary = true},
    {.name = "bitnet",
     .hf_type = "bitnet-1bitllm",
     .sub_norms = true,
     .ternary = true,
     .glu = MODEL_SILU},
    {.name = "llama", .hf_type = "llama", .rope_interleaved = true, .glu = MODEL_SILU},
    {.name = "mistral", .hf_type = "mistral", .rope_interleaved = true, .glu = MODEL_SILU},
    {.name = "qwen2", .hf_type = "qwen2", .glu = MODEL_SILU},
    {.name = "qwen3", .hf_type = "qwen3", .qk_norm = true, .glu = MODEL_SILU},
    {.name = "gemma2", .hf_type = "gemma2", .gemma = true, .window_every = 2, .glu = MODEL_GELU},
    {.name = "gemma3",
     .hf_type = "gemma3_text",
     .gemma = true,
     .qk_norm = true,
     .window_every = 6,
     .glu = MODEL_GELU},
    {.name = "bert",
     .hf_type = "bert",
     .centred = true,
     .encoder = true,
     .positions = true,
     .glu = MODEL_GELU_ERF,
     .both_ways = true},
    {.name = "nomic-bert",
     .hf_type = "nomic_bert",
     .centred = true,
     .encoder = true,
     .glu = MODEL_SILU,
     .both_ways = true},
    {.name = "gemma-embedding",
     .gemma = true,
     .qk_norm = true,
     .window_every = 6,
     .glu = MODEL_GELU,
     .both_ways = true},
    {.name = "phi3", .hf_type = "phi3", .fused = true, .glu = MODEL_SILU},
    {.name = "smollm3",
     .hf_type = "smollm3",
     .rope_interleaved = true,
     .still_every = 4,
     .glu = MODEL_SILU},
    {.name = "gpt2",
     .hf_type = "gpt2",
     .fused = true,
     .centred = true,
     .plain_ffn = true,
     .turned = true,
     .glu = MODEL_GELU},
    {.name = "starcoder2",
     .hf_type = "starcoder2",
     .centred = true,
     .plain_ffn = true,
     .glu = MODEL_GELU},
    {.name = "qwen2moe",
     .hf_type = "qwen2_moe",
     .mixture = true,
     .shared = true,
     .glu = MODEL_SILU},
    {.name = "qwen3moe",
     .hf_type = "qwen3_moe",
     .qk_norm = true,
     .mixture = true,
     .glu = MODEL_SILU},
    {.name = "gpt-oss",
     .hf_type = "gpt_oss",
     .oss = true,
     .window_every = 2,
     .glu = MODEL_SWIGLU_OAI},
    {.name = "gptoss",
     .oss = true,
     .window_every = 2,
     .glu = MODEL_SWIGLU_OAI}, /* how Ollama wrote it at first */
};

const char *model_arch_name(size_t i) { return i < BASE_COUNT(archs) ? archs[i].name : NULL; }

const model_arch *model_arch_find(base_str name) {
    for (size_t i = 0; i < BASE_COUNT(archs); i++)
        if (base_str_is(name, archs[i].name)) return &archs[i];
    return NULL;
}

const model_arch *model_arch_find_hf(base_str model_type) {
    for (size_t i = 0; i < BASE_COUNT(archs); i++)
        if (archs[i].hf_type && base_str_is(model_type, archs[i].hf_type)) return &archs[i];
    return NULL;
}

bool model_loads(base_str name, bool hf) {
    return (hf ? model_arch_find_hf(name) : model_arch_find(name)) != NULL;
}

bool model_pairs_in_gguf(const char *arch) {
    return model_arch_find(base_str_of(arch))->rope_interleaved;
}

/* ==== Typed metadata ========================================================================== */

static const file_kv *arch_kv(const model_loader *ld, const char *tail) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", ld->arch->name, tail);
    return file_kv_find(ld->f, key);
}

static rotor_status get_u32(const model_loader *ld, const char *tail, bool required,
                            uint32_t *out) {
    const file_kv *kv = arch_kv(ld, tail);
    uint64_t v;
    if (!kv && !required) return ROTOR_OK;
    for (uint64_t i = 1; kv && kv->type == FILE_ARR && i < kv->n; i++) { /* one value per layer */
        uint64_t first;
        if (file_kv_u64(kv, 0, &first) && file_kv_u64(kv, i, &v) && v == first) continue;
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: metadata key %s.%s differs between layers, which is not supported",
                         file_path(ld->f), ld->arch->name, tail);
    }
    if (!kv)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: metadata key %s.%s is missing",
                         file_path(ld->f), ld->arch->name, tail);
    if (!file_kv_u64(kv, 0, &v) || v > UINT32_MAX)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: metadata key %s.%s is not a 32-bit number",
                         file_path(ld->f), ld->arch->name, tail);
    *out = (uint32_t)v;
    return ROTOR_OK;
}

static rotor_status get_f64(const model_loader *ld, const char *tail, double *out) {
    const file_kv *kv = arch_kv(ld, tail);
    if (kv && !file_kv_f64(kv, 0, out))
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: metadata key %s.%s is not a number",
                         file_path(ld->f), ld->arch->name, tail);
    return ROTOR_OK;
}

/* ==== Rope scaling ============================================================================ */

/* The published gpt-oss does not round the bounds of the ramp; writers of files leave the numbers
 * of turns out, which are the same everywhere. */
static rotor_status gguf_yarn(model_loader *ld, model_hparams *hp) {
    double factor = 1;
    hp->rope_scaling = MODEL_ROPE_YARN;
    hp->rope_low = 1;
    hp->rope_high = 32;
    hp->rope_whole = !ld->arch->oss;
    hp->rope_orig_ctx = hp->n_ctx;
    ROTOR_TRY(get_u32(ld, "rope.scaling.original_context_length", false, &hp->rope_orig_ctx));
    ROTOR_TRY(get_f64(ld, "rope.scaling.yarn_beta_slow", &hp->rope_low));
    ROTOR_TRY(get_f64(ld, "rope.scaling.yarn_beta_fast", &hp->rope_high));
    ROTOR_TRY(get_f64(ld, "rope.scaling.attn_factor", &factor));
    hp->rope_gain = (float)(factor * (0.1 * log(hp->rope_factor) + 1));
    return ROTOR_OK;
}

/* The divisors themselves are tensors. */
static rotor_status gguf_longrope(model_loader *ld, model_hparams *hp) {
    double gain = 1;
    hp->rope_scaling = MODEL_ROPE_LONG;
    hp->rope_orig_ctx = hp->n_ctx;
    ROTOR_TRY(get_u32(ld, "rope.scaling.original_context_length", false, &hp->rope_orig_ctx));
    ROTOR_TRY(get_f64(ld, "rope.scaling.attn_factor", &gain));
    hp->rope_gain = (float)gain;
    return ROTOR_OK;
}

static rotor_status gguf_rope(model_loader *ld, model_hparams *hp) {
    const file_kv *kv = arch_kv(ld, "rope.scaling.type");
    base_str type = {0};
    hp->rope_base = 10000.0;
    hp->rope_factor = 1.0;
    if (ld->arch->oss) hp->rope_factor = 32; /* some files do not say it */
    hp->n_rot = hp->d_head;
    ROTOR_TRY(get_u32(ld, "rope.dimension_count", false, &hp->n_rot));
    ROTOR_TRY(get_f64(ld, "rope.freq_base", &hp->rope_base));
    ROTOR_TRY(get_f64(ld, "rope.scale_linear", &hp->rope_factor)); /* older files */
    ROTOR_TRY(get_f64(ld, "rope.scaling.factor", &hp->rope_factor));
    if (kv && !file_kv_str(kv, 0, &type))
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: metadata key %s.rope.scaling.type is not a string", file_path(ld->f),
                         ld->arch->name);
    if (hp->rope_factor == 0) hp->rope_factor = 1.0; /* how some writers say none */
    if (ld->arch->turned || ld->arch->positions) return hp->n_rot = 0, ROTOR_OK;
    if (base_str_is(type, "longrope") || file_tensor_find(ld->f, "rope_factors_long.weight"))
        return gguf_longrope(ld, hp);
    if (base_str_is(type, "none") || (!kv && hp->rope_factor == 1.0)) return ROTOR_OK;
    if (base_str_is(type, "yarn") || (!kv && ld->arch->oss)) return gguf_yarn(ld, hp);
    if (kv && !base_str_is(type, "linear"))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED, "%s: rope scaling \"%.*s\" is not supported",
                         file_path(ld->f), (int)type.n, type.p);
    hp->rope_scaling = MODEL_ROPE_LINEAR;
    return ROTOR_OK;
}

/* The dimension that turns so many times in the original context. */
static double turning_dim(const model_hparams *hp, double turns) {
    const double two_pi = 6.283185307179586;
    return hp->n_rot / 2.0 * log(hp->rope_orig_ctx / (turns * two_pi)) / log(hp->rope_base);
}

/* Yarn: dimensions below the ramp keep their frequency, those above are slowed down. */
static double yarn_freq(const model_hparams *hp, uint32_t i, double f) {
    double lo = turning_dim(hp, hp->rope_high), hi = turning_dim(hp, hp->rope_low);
    if (hp->rope_whole) {
        lo = floor(lo);
        hi = ceil(hi);
    }
    lo = lo > 0 ? lo : 0;
    hi = hi < hp->n_rot - 1 ? hi : hp->n_rot - 1;
    const double ramp = (i - lo) / (hi > lo ? hi - lo : 0.001);
    const double slow = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return (1 - slow) * f + slow * f / hp->rope_factor;
}

void model_rope_freqs(const model_hparams *hp, uint32_t n_ctx, bool local, double *inv_freq) {
    const double two_pi = 6.283185307179586;
    const float *divisors =
        hp->rope_long && n_ctx > hp->rope_orig_ctx ? hp->rope_long : hp->rope_divisors;
    const double base = local ? hp->rope_base_local : hp->rope_base;
    for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
        double f = pow(base, -2.0 * i / hp->n_rot);
        if (local) {
            inv_freq[i] = f;
            continue;
        }
        if (hp->rope_scaling == MODEL_ROPE_LINEAR) f /= hp->rope_factor;
        if (hp->rope_scaling == MODEL_ROPE_YARN) f = yarn_freq(hp, i, f);
        if (hp->rope_scaling == MODEL_ROPE_LLAMA3) {
            double turns = hp->rope_orig_ctx * f / two_pi; /* in the original context */
            double keep = (turns - hp->rope_low) / (hp->rope_high - hp->rope_low);
            keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
            f = keep * f + (1 - keep) * f / hp->rope_factor;
        }
        inv_freq[i] = divisors ? f / (double)divisors[i] : f;
    }
}

/* A mixture says how many experts there are and how wide one is. */
static rotor_status gguf_mixture(const model_loader *ld, model_hparams *hp) {
    const model_arch *arch = ld->arch;
    if (!arch->oss && !arch->mixture) return ROTOR_OK;
    ROTOR_TRY(get_u32(ld, "expert_count", true, &hp->n_expert));
    ROTOR_TRY(get_u32(ld, "expert_used_count", true, &hp->n_used));
    ROTOR_TRY(get_u32(ld, "expert_feed_forward_length", false, &hp->n_ff));
    if (arch->shared)
        ROTOR_TRY(get_u32(ld, "expert_shared_feed_forward_length", true, &hp->n_ff_shared));
    hp->route_of_all = arch->shared;
    return ROTOR_OK;
}

/* What a GGUF file of Gemma's says of the scale of scores: nothing. The largest of both families
 * weigh by the width of the model over its heads. 0: as all others do. */
static float gemma_scale(const model_hparams *hp, const model_arch *arch) {
    return hp->n_head && hp->n_layer == (arch->qk_norm ? 62u : 46u)
               ? 1 / sqrtf((float)hp->n_embd / (float)hp->n_head)
               : 0;
}

bool model_scale_in_gguf(const model *m) {
    const model_arch *arch = model_arch_find(base_str_of(m->arch));
    const float known = arch->gemma ? gemma_scale(&m->hp, arch) : 0;
    return fabsf(known - m->hp.attn_scale) <= 1e-6f;
}

static rotor_status gguf_gemma(const model_loader *ld, model_hparams *hp) {
    double attn_cap = 0, logit_cap = 0;
    if (!ld->arch->gemma) return ROTOR_OK;
    ROTOR_TRY(get_f64(ld, "attn_logit_softcapping", &attn_cap));
    ROTOR_TRY(get_f64(ld, "final_logit_softcapping", &logit_cap));
    hp->attn_cap = (float)attn_cap;
    hp->logit_cap = (float)logit_cap;
    hp->embd_scale = sqrtf((float)hp->n_embd);
    hp->attn_scale = gemma_scale(hp, ld->arch);
    if (ld->arch->qk_norm) hp->rope_base_local = 10000;
    return get_f64(ld, "rope.freq_base_swa", &hp->rope_base_local);
}

/* Which hidden states make a text's vector, and whether tokens see those behind them. */
static rotor_status gguf_embedding(const model_loader *ld, model_hparams *hp) {
    const file_kv *causal = arch_kv(ld, "attention.causal");
    uint32_t pool = MODEL_POOL_UNSAID;
    bool is_causal = !ld->arch->both_ways;
    ROTOR_TRY(get_u32(ld, "pooling_type", false, &pool));
    const bool ranks = pool == MODEL_POOL_RANK;
    if (pool > MODEL_POOL_RANK || (ranks && !(ld->arch->encoder && ld->arch->positions)))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: metadata key %s.pooling_type is %u%s; 1 (mean), 2 (first token), "
                         "3 (last token) and, of architecture bert, 4 (a reranker) are supported",
                         file_path(ld->f), ld->arch->name, pool, ranks ? ", a reranker" : "");
    if (causal && !file_kv_bool(causal, 0, &is_causal))
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: metadata key %s.attention.causal is not true or false",
                         file_path(ld->f), ld->arch->name);
    if (ld->arch->encoder && is_causal)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: metadata key %s.attention.causal is true, which is not supported for "
                         "this architecture",
                         file_path(ld->f), ld->arch->name);
    hp->pool = (model_pool)pool;
    hp->both_ways = !is_causal;
    if (hp->both_ways) hp->window = model_half_window(hp->window);
    return ROTOR_OK;
}

static const char *arch_list(char buf[400]) {
    size_t n = 0;
    for (size_t i = 0; i < BASE_COUNT(archs) && n < 400; i++)
        n += (size_t)snprintf(buf + n, 400 - n, "%s%s", i ? ", " : "", archs[i].name);
    return buf;
}

/* ==== Hyper-parameters ======================================================================== */

rotor_status model_gguf_hparams(model_loader *ld) {
    model_hparams *hp = &ld->m->hp;
    const file_kv *kv = file_kv_find(ld->f, "general.architecture");
    base_str name;
    double eps = 1e-5;
    char list[400];
    if (!kv || !file_kv_str(kv, 0, &name))
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: metadata key general.architecture is missing: not a model file",
                         file_path(ld->f));
    ld->arch = model_arch_find(name);
    if (model_is_adapter(ld->f))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: an adapter for models of architecture %.*s, no model itself; it is "
                         "given beside one: --lora FILE",
                         file_path(ld->f), (int)BASE_MIN(name.n, 60), name.p);
    if (!ld->arch)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: architecture \"%.*s\" is not supported; these load: %s",
                         file_path(ld->f), (int)BASE_MIN(name.n, 60), name.p, arch_list(list));
    ROTOR_TRY(get_u32(ld, "block_count", true, &hp->n_layer));
    ROTOR_TRY(get_u32(ld, "embedding_length", true, &hp->n_embd));
    ROTOR_TRY(get_u32(ld, "feed_forward_length", true, &hp->n_ff));
    ROTOR_TRY(get_u32(ld, "context_length", true, &hp->n_ctx));
    ROTOR_TRY(get_u32(ld, "attention.head_count", true, &hp->n_head));
    hp->n_head_kv = hp->n_head;
    ROTOR_TRY(get_u32(ld, "attention.head_count_kv", false, &hp->n_head_kv));
    ROTOR_TRY(get_f64(
        ld, ld->arch->centred ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
        &eps));
    hp->eps = (float)eps;
    hp->d_head = hp->n_head ? hp->n_embd / hp->n_head : 0;
    ROTOR_TRY(get_u32(ld, "attention.key_length", false, &hp->d_head));
    ROTOR_TRY(get_u32(ld, "attention.sliding_window", ld->arch->oss, &hp->window));
    hp->window_every = hp->window ? ld->arch->window_every : 0;
    ROTOR_TRY(gguf_embedding(ld, hp));
    ROTOR_TRY(gguf_mixture(ld, hp));
    ROTOR_TRY(gguf_gemma(ld, hp));
    ld->master = hp->w1a8 = ld->arch->ternary;
    return gguf_rope(ld, hp);
}

/* One bound of one number; the names are those of docs/shapes.md. */
typedef struct bound {
    const char *name; /* as users know it */
    uint64_t v;       /* value */
    uint64_t lo, hi;  /* inclusive */
} bound;

rotor_status model_check_hparams(const model_hparams *hp, const char *path, rotor_error *err) {
    const bound bounds[] = {
        {"layers", hp->n_layer, 1, 512},
        {"embedding length", hp->n_embd, 1, 1 << 20},
        {"attention heads", hp->n_head, 1, 4096},
        {"key/value heads", hp->n_head_kv, 1, hp->n_head},
        {"head size", hp->d_head, 1, 512},
        {"feed-forward length", hp->n_ff, 1, 1 << 24},
        {"context length", hp->n_ctx, 1, INT32_MAX},
        {"rotated dimensions", hp->n_rot, 0, hp->d_head},
        {"experts", hp->n_expert, 0, 4096},
        {"experts of a token", hp->n_used, hp->n_expert ? 1 : 0, BASE_MIN(hp->n_expert, 64u)},
    };
    for (size_t i = 0; i < BASE_COUNT(bounds); i++)
        if (bounds[i].v < bounds[i].lo || bounds[i].v > bounds[i].hi)
            return base_fail(err, ROTOR_E_FORMAT, "%s: %s is %llu, expected %llu to %llu", path,
                             bounds[i].name, (unsigned long long)bounds[i].v,
                             (unsigned long long)bounds[i].lo, (unsigned long long)bounds[i].hi);
    if (hp->n_head % hp->n_head_kv != 0)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: %u attention heads cannot share %u key/value heads", path, hp->n_head,
                         hp->n_head_kv);
    if (hp->n_rot % 2 != 0)
        return base_fail(err, ROTOR_E_FORMAT, "%s: %u rotated dimensions, expected an even number",
                         path, hp->n_rot);
    if ((hp->rope_scaling == MODEL_ROPE_LLAMA3 || hp->rope_scaling == MODEL_ROPE_YARN) &&
        !(hp->rope_orig_ctx >= 1 && hp->rope_low > 0 && hp->rope_high > hp->rope_low &&
          hp->rope_high < 1e9))
        return base_fail(
            err, ROTOR_E_FORMAT,
            "%s: %s rope scaling with factors %g to %g and an original context of %u is out of "
            "range",
            path, hp->rope_scaling == MODEL_ROPE_YARN ? "yarn" : "llama3", hp->rope_low,
            hp->rope_high, hp->rope_orig_ctx);
    if (!(hp->rope_gain > 0 && hp->rope_gain < 1e4f) ||
        !(hp->attn_scale >= 0 && hp->attn_scale < 1e4f) ||
        !(hp->attn_cap >= 0 && hp->attn_cap < 1e6f) ||
        !(hp->logit_cap >= 0 && hp->logit_cap < 1e6f) ||
        !(hp->rope_base_local >= 0 && hp->rope_base_local < 1e30) ||
        (hp->rope_scaling == MODEL_ROPE_LONG && !hp->rope_orig_ctx))
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: rope gain %g, second rope base %g, scale of scores %g, their cap %g "
                         "or the logits' %g is out of range",
                         path, (double)hp->rope_gain, hp->rope_base_local, (double)hp->attn_scale,
                         (double)hp->attn_cap, (double)hp->logit_cap);
    if (!(hp->eps > 0 && hp->eps < 1) || !(hp->rope_base > 0 && hp->rope_base < 1e30) ||
        !(hp->rope_factor > 0 && hp->rope_factor < 1e9))
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: norm epsilon %g, rope base %g or rope factor %g is out of range",
                         path, (double)hp->eps, hp->rope_base, hp->rope_factor);
    return ROTOR_OK;
}
