/* SPDX-License-Identifier: MIT
 *
 * Hyper-parameters of a HF folder: config.json, and the texts beside it (generation settings, chat
 * template).
 *
 * The ternary convention is decided by quantization_config alone: linear_class "autobitlinear"
 * multiplies by weight_scale, absent or "bitlinear" divides; anything else is refused.
 */
#include "model/model_internal.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

rotor_status model_side_json(model_loader *ld, const char *name, json_t **out) {
    base_str text;
    json_error_t je;
    *out = NULL;
    if (!file_side(ld->f, name, &text)) return ROTOR_OK;
    *out = json_loadb(text.p, text.n, 0, &je);
    if (!*out || !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: %s line %d: %s", file_path(ld->f), name,
                         je.line, je.text);
    }
    return ROTOR_OK;
}

static rotor_status get_u32(const model_loader *ld, const json_t *j, const char *key,
                            uint32_t *out) {
    const json_t *v = json_object_get(j, key);
    if (!v || json_is_null(v)) return ROTOR_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: config.json: \"%s\" is not a 32-bit number",
                         file_path(ld->f), key);
    *out = (uint32_t)json_integer_value(v);
    return ROTOR_OK;
}

static double get_number(const json_t *j, const char *key, double fallback) {
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static base_str get_str(const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_string(v)) return (base_str){0};
    return (base_str){json_string_value(v), json_string_length(v)};
}

/* ==== Architecture ============================================================================ */

static bool has_class(const json_t *config, const char *name) {
    const json_t *list = json_object_get(config, "architectures");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (s && strcmp(s, name) == 0) return true;
    }
    return false;
}

/* 1bitLLM's checkpoints say model_type llama but need the sub-norms of their own class. */
static base_str family(const json_t *config) {
    if (has_class(config, "BitnetForCausalLM") ||
        json_is_integer(json_object_get(config, "weight_bits")))
        return base_str_of("bitnet-1bitllm");
    return get_str(config, "model_type");
}

/* quantization_mode "online": the float projections are latent weights. In an "offline" checkpoint
 * a float projection is one that was not converted and stays dense. */
static rotor_status quantised_at_load(model_loader *ld, const json_t *q) {
    base_str mode = get_str(q, "quantization_mode");
    const json_t *dense = json_object_get(q, "modules_to_not_convert");
    if (mode.n && !base_str_is(mode, "online") && !base_str_is(mode, "offline"))
        return base_fail(
            ld->err, ROTOR_E_UNSUPPORTED,
            "%s: config.json: quantization_mode \"%.*s\" is unknown, expected \"online\" or "
            "\"offline\"",
            file_path(ld->f), (int)mode.n, mode.p);
    ld->master = base_str_is(mode, "online");
    for (size_t i = 0; ld->master && i < json_array_size(dense); i++) {
        const char *name = json_string_value(json_array_get(dense, i));
        if (!name || strcmp(name, "lm_head") != 0)
            return base_fail(
                ld->err, ROTOR_E_UNSUPPORTED,
                "%s: config.json: modules_to_not_convert names \"%s\"; only lm_head can stay "
                "dense in a checkpoint that is quantised at load",
                file_path(ld->f), name ? name : "");
    }
    return ROTOR_OK;
}

static rotor_status quantization(model_loader *ld, const json_t *config) {
    const json_t *q = json_object_get(config, "quantization_config");
    /* 1bitLLM's checkpoints are latent weights and say so by their class alone. */
    ld->master = ld->m->hp.w1a8 = base_str_is(family(config), "bitnet-1bitllm");
    if (!q || json_is_null(q)) return ROTOR_OK;
    base_str method = get_str(q, "quant_method"), cls = get_str(q, "linear_class");
    if (ld->arch->oss && base_str_is(method, "mxfp4")) return ROTOR_OK;
    if (!base_str_is(method, "bitnet"))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: quant_method \"%.*s\" is not supported (bitnet is)",
                         file_path(ld->f), (int)method.n, method.p ? method.p : "");
    if (json_is_true(json_object_get(q, "use_rms_norm")))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: use_rms_norm inside a linear layer is not supported",
                         file_path(ld->f));
    ROTOR_TRY(quantised_at_load(ld, q));
    ld->m->hp.w1a8 = true;
    if (base_str_is(cls, "autobitlinear"))
        ld->scale_rule = MODEL_SCALE_MULTIPLY;
    else if (cls.n == 0 || base_str_is(cls, "bitlinear"))
        ld->scale_rule = MODEL_SCALE_DIVIDE;
    else
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: linear_class \"%.*s\" is unknown, expected "
                         "\"autobitlinear\" or \"bitlinear\"",
                         file_path(ld->f), (int)cls.n, cls.p);
    return ROTOR_OK;
}

/* ==== Rope ==================================================================================== */

static rotor_status yarn(model_loader *ld, const json_t *s) {
    model_hparams *hp = &ld->m->hp;
    const json_t *whole = json_object_get(s, "truncate");
    hp->rope_scaling = MODEL_ROPE_YARN;
    hp->rope_low = get_number(s, "beta_slow", 1.0);
    hp->rope_high = get_number(s, "beta_fast", 32.0);
    hp->rope_whole = json_is_boolean(whole) ? json_is_true(whole) : !ld->arch->oss;
    hp->rope_orig_ctx = hp->n_ctx;
    hp->rope_gain = (float)get_number(s, "attention_factor", 0.1 * log(hp->rope_factor) + 1);
    if (json_object_get(s, "mscale") || json_object_get(s, "mscale_all_dim"))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: yarn with \"mscale\" is not supported",
                         file_path(ld->f));
    return get_u32(ld, s, "original_max_position_embeddings", &hp->rope_orig_ctx);
}

/* [n_rot / 2] numbers of a list. */
static rotor_status divisors(model_loader *ld, const json_t *s, const char *key,
                             const float **out) {
    const json_t *list = json_object_get(s, key);
    const size_t n = ld->m->hp.n_rot / 2;
    if (json_array_size(list) != n)
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: config.json: %s has %zu numbers, expected %zu", file_path(ld->f), key,
                         json_array_size(list), n);
    float *v = model_take(ld->m, (n + 1) * sizeof *v);
    if (!v) return base_fail_nomem(ld->err, "reading rope factors");
    for (size_t i = 0; i < n; i++) {
        v[i] = (float)json_number_value(json_array_get(list, i));
        if (!(v[i] > 0 && v[i] < 1e9f))
            return base_fail(ld->err, ROTOR_E_FORMAT,
                             "%s: config.json: %s[%zu] is %g, expected more than 0",
                             file_path(ld->f), key, i, (double)v[i]);
    }
    *out = v;
    return ROTOR_OK;
}

/* Two sets of divisors; the longer the context was made, the more cosines and sines gain. */
static rotor_status longrope(model_loader *ld, const json_t *config, const json_t *s) {
    model_hparams *hp = &ld->m->hp;
    hp->rope_scaling = MODEL_ROPE_LONG;
    hp->rope_orig_ctx = hp->n_ctx;
    ROTOR_TRY(get_u32(ld, config, "original_max_position_embeddings", &hp->rope_orig_ctx));
    ROTOR_TRY(get_u32(ld, s, "original_max_position_embeddings", &hp->rope_orig_ctx));
    const double orig = hp->rope_orig_ctx, by = get_number(s, "factor", hp->n_ctx / orig);
    const double gain = by > 1 && orig > 1 ? sqrt(1 + log(by) / log(orig)) : 1;
    hp->rope_gain = (float)get_number(s, "attention_factor", gain);
    ROTOR_TRY(divisors(ld, s, "short_factor", &hp->rope_divisors));
    return divisors(ld, s, "long_factor", &hp->rope_long);
}

static rotor_status rope(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    const json_t *s = json_object_get(config, "rope_scaling");
    const json_t *p = json_object_get(config, "rope_parameters"); /* newer configs */
    const char *key;
    json_t *v;
    if (ld->arch->gemma && json_object_get(p, "full_attention"))
        p = json_object_get(p, "full_attention"); /* the other is read elsewhere */
    json_object_foreach((json_t *)(uintptr_t)p, key, v) if (json_is_object(v)) return base_fail(
        ld->err, ROTOR_E_UNSUPPORTED,
        "%s: config.json: rope_parameters that differ between layers (\"%s\") are not "
        "supported",
        file_path(ld->f), key);
    if (!json_is_object(s)) s = p;
    if (get_number(config, "partial_rotary_factor", get_number(p, "partial_rotary_factor", 1.0)) !=
        1.0)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: partial_rotary_factor is not supported",
                         file_path(ld->f));
    hp->rope_base = get_number(config, "rope_theta", get_number(p, "rope_theta", 10000.0));
    hp->rope_factor = get_number(s, "factor", 1.0);
    hp->n_rot = hp->d_head;
    base_str type = get_str(s, "rope_type");
    if (type.n == 0) type = get_str(s, "type");
    if (type.n == 0 || base_str_is(type, "default")) return ROTOR_OK;
    if (base_str_is(type, "yarn")) return yarn(ld, s);
    if (base_str_is(type, "longrope") || base_str_is(type, "su")) return longrope(ld, config, s);
    if (base_str_is(type, "linear")) return hp->rope_scaling = MODEL_ROPE_LINEAR, ROTOR_OK;
    if (!base_str_is(type, "llama3"))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: rope scaling \"%.*s\" is not supported",
                         file_path(ld->f), (int)type.n, type.p);
    hp->rope_scaling = MODEL_ROPE_LLAMA3;
    hp->rope_low = get_number(s, "low_freq_factor", 1.0);
    hp->rope_high = get_number(s, "high_freq_factor", 4.0);
    return get_u32(ld, s, "original_max_position_embeddings", &hp->rope_orig_ctx);
}

/* ==== The whole config ======================================================================== */

/* Layers with a window and layers without take turns as the family has it. */
static rotor_status check_turns(const model_loader *ld, const json_t *config) {
    const json_t *types = json_object_get(config, "layer_types");
    const size_t every = ld->m->hp.window_every;
    for (size_t i = 0; every && i < json_array_size(types); i++) {
        const char *expected = i % every == every - 1 ? "full_attention" : "sliding_attention";
        const char *got = json_string_value(json_array_get(types, i));
        if (!got || strcmp(got, expected) != 0)
            return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                             "%s: config.json: layer_types[%zu] is \"%s\", expected \"%s\"",
                             file_path(ld->f), i, got ? got : "", expected);
    }
    return ROTOR_OK;
}

static rotor_status oss(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    ROTOR_TRY(get_u32(ld, config, "experts_per_token", &hp->n_used));
    ROTOR_TRY(get_u32(ld, config, "sliding_window", &hp->window));
    if (!hp->window)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: config.json: sliding_window is missing",
                         file_path(ld->f));
    if (get_number(config, "swiglu_limit", 7.0) != 7.0)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: swiglu_limit is %g, expected 7", file_path(ld->f),
                         get_number(config, "swiglu_limit", 7.0));
    return ROTOR_OK;
}

/* Qwen: every layer has experts, or this is not what is supported. */
static rotor_status qwen_experts(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    ROTOR_TRY(get_u32(ld, config, "num_experts", &hp->n_expert));
    ROTOR_TRY(get_u32(ld, config, "moe_intermediate_size", &hp->n_ff));
    hp->route_of_all = !json_is_true(json_object_get(config, "norm_topk_prob"));
    if (ld->arch->shared)
        ROTOR_TRY(get_u32(ld, config, "shared_expert_intermediate_size", &hp->n_ff_shared));
    if (get_number(config, "decoder_sparse_step", 1) != 1 ||
        json_array_size(json_object_get(config, "mlp_only_layers")) != 0)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: layers without experts among others are not supported",
                         file_path(ld->f));
    return ROTOR_OK;
}

static rotor_status mixture(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    if (!ld->arch->oss && !ld->arch->mixture) return ROTOR_OK;
    ROTOR_TRY(get_u32(ld, config, "num_local_experts", &hp->n_expert));
    ROTOR_TRY(ld->arch->oss ? oss(ld, config) : qwen_experts(ld, config));
    ROTOR_TRY(get_u32(ld, config, "num_experts_per_tok", &hp->n_used));
    return hp->n_expert
               ? ROTOR_OK
               : base_fail(ld->err, ROTOR_E_FORMAT,
                           "%s: config.json: the number of experts is missing", file_path(ld->f));
}

/* A list says of each layer whether it rotates; it must be the pattern the family has. */
static rotor_status check_still(const model_loader *ld, const json_t *config) {
    const json_t *list = json_object_get(config, "no_rope_layers");
    const uint32_t every = ld->arch->still_every;
    if (every && get_number(config, "no_rope_layer_interval", every) != every)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: no_rope_layer_interval is not %u", file_path(ld->f),
                         every);
    for (size_t i = 0; every && i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)) != (i % every != every - 1))
            return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                             "%s: config.json: no_rope_layers differs from the usual, every %uth "
                             "layer without rotation, at layer %zu",
                             file_path(ld->f), every, i);
    return ROTOR_OK;
}

/* Gemma 3 has a second base, in one of two places. */
static void gemma(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    const json_t *local =
        json_object_get(json_object_get(config, "rope_parameters"), "sliding_attention");
    const double by = get_number(config, "query_pre_attn_scalar", hp->d_head);
    hp->attn_cap = (float)get_number(config, "attn_logit_softcapping", 0);
    hp->logit_cap = (float)get_number(config, "final_logit_softcapping", 0);
    hp->embd_scale = sqrtf((float)hp->n_embd);
    if (by != hp->d_head) hp->attn_scale = (float)(1 / sqrt(by));
    if (ld->arch->qk_norm)
        hp->rope_base_local =
            get_number(local, "rope_theta", get_number(config, "rope_local_base_freq", 10000));
}

/* GPT-2 has names of its own. */
static rotor_status gpt2(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    hp->n_ctx = 1024;
    ROTOR_TRY(get_u32(ld, config, "n_embd", &hp->n_embd));
    hp->n_ff = hp->n_embd < 1u << 20 ? 4 * hp->n_embd : 0;
    ROTOR_TRY(get_u32(ld, config, "n_inner", &hp->n_ff));
    ROTOR_TRY(get_u32(ld, config, "n_layer", &hp->n_layer));
    ROTOR_TRY(get_u32(ld, config, "n_head", &hp->n_head));
    ROTOR_TRY(get_u32(ld, config, "n_positions", &hp->n_ctx));
    hp->n_head_kv = hp->n_head;
    hp->d_head = hp->n_head ? hp->n_embd / hp->n_head : 0;
    hp->eps = (float)get_number(config, "layer_norm_epsilon", 1e-5);
    hp->rope_base = hp->rope_factor = 1; /* nothing rotates */
    if (json_is_false(json_object_get(config, "scale_attn_weights")) ||
        json_is_true(json_object_get(config, "scale_attn_by_inverse_layer_idx")) ||
        json_is_true(json_object_get(config, "add_cross_attention")))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: scores that are not scaled, or scaled by layer, and "
                         "cross-attention are not supported",
                         file_path(ld->f));
    return quantization(ld, config);
}

/* A number under today's name or an older one. */
static rotor_status get_either(const model_loader *ld, const json_t *config, const char *name,
                               const char *older, uint32_t *out) {
    ROTOR_TRY(get_u32(ld, config, older, out));
    return get_u32(ld, config, name, out);
}

/* Positions of the BERT kind: learned, or rotated as nomic's are. */
static rotor_status encoder_positions(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    base_str kind = get_str(config, "position_embedding_type");
    const json_t *p = json_object_get(config, "rope_parameters");
    hp->rope_base = hp->rope_factor = 1;
    if (ld->arch->positions && kind.n && !base_str_is(kind, "absolute"))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: position_embedding_type \"%.*s\" is not supported",
                         file_path(ld->f), (int)kind.n, kind.p);
    if (ld->arch->positions) return ROTOR_OK;
    hp->n_rot = hp->d_head;
    hp->rope_base = get_number(p, "rope_theta", get_number(config, "rotary_emb_base", 1000.0));
    if (get_number(config, "rotary_emb_fraction", 1) != 1 ||
        json_is_true(json_object_get(config, "rotary_emb_interleaved")) ||
        json_is_number(json_object_get(config, "rotary_emb_scale_base")) ||
        json_is_true(json_object_get(config, "prenorm")))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: partial, interleaved or scaled rotation, and norms in "
                         "front of blocks are not supported for architecture %s",
                         file_path(ld->f), ld->arch->name);
    return ROTOR_OK;
}

/* A network with a classifier on top: one of one score is a cross-encoder. */
static bool ranks(const json_t *config) {
    static const char end[] = "ForSequenceClassification";
    const char *name =
        json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    const size_t n = name ? strlen(name) : 0, k = sizeof end - 1;
    return n > k && strcmp(name + n - k, end) == 0;
}

/* The BERT kind; nomic's own folders have GPT-2's names, and say for which lengths it was trained.
 */
static rotor_status encoder(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    uint32_t trained = 0;
    hp->n_ctx = 512;
    hp->both_ways = true;
    if (json_is_true(json_object_get(config, "is_decoder")))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: is_decoder is not supported for architecture %s",
                         file_path(ld->f), ld->arch->name);
    ROTOR_TRY(get_either(ld, config, "hidden_size", "n_embd", &hp->n_embd));
    ROTOR_TRY(get_either(ld, config, "intermediate_size", "n_inner", &hp->n_ff));
    ROTOR_TRY(get_either(ld, config, "num_hidden_layers", "n_layer", &hp->n_layer));
    ROTOR_TRY(get_either(ld, config, "num_attention_heads", "n_head", &hp->n_head));
    ROTOR_TRY(get_either(ld, config, "max_position_embeddings", "n_positions", &hp->n_ctx));
    ROTOR_TRY(get_u32(ld, config, "max_trained_positions", &trained));
    if (trained) hp->n_ctx = BASE_MIN(hp->n_ctx, trained);
    hp->n_head_kv = hp->n_head;
    hp->d_head = hp->n_head ? hp->n_embd / hp->n_head : 0;
    hp->eps = (float)get_number(config, "layer_norm_eps",
                                get_number(config, "layer_norm_epsilon", 1e-12));
    ROTOR_TRY(encoder_positions(ld, config));
    if (ranks(config) && !ld->arch->positions)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: a classifier is not supported for architecture %s",
                         file_path(ld->f), ld->arch->name);
    if (ranks(config)) hp->pool = MODEL_POOL_RANK;
    return quantization(ld, config);
}

static rotor_status numbers(model_loader *ld, const json_t *config) {
    model_hparams *hp = &ld->m->hp;
    if (ld->arch->turned) return gpt2(ld, config);
    if (ld->arch->encoder) return encoder(ld, config);
    hp->n_ctx = 2048;
    hp->both_ways = ld->arch->both_ways;
    ROTOR_TRY(get_u32(ld, config, "hidden_size", &hp->n_embd));
    ROTOR_TRY(get_u32(ld, config, "intermediate_size", &hp->n_ff));
    ROTOR_TRY(get_u32(ld, config, "num_hidden_layers", &hp->n_layer));
    ROTOR_TRY(get_u32(ld, config, "num_attention_heads", &hp->n_head));
    hp->n_head_kv = hp->n_head;
    ROTOR_TRY(get_u32(ld, config, "num_key_value_heads", &hp->n_head_kv));
    ROTOR_TRY(get_u32(ld, config, "max_position_embeddings", &hp->n_ctx));
    hp->d_head = hp->n_head ? hp->n_embd / hp->n_head : 0;
    ROTOR_TRY(get_u32(ld, config, "head_dim", &hp->d_head));
    hp->eps = (float)get_number(config, "rms_norm_eps", ld->arch->sub_norms ? 1e-5 : 1e-6);
    if (ld->arch->centred) hp->eps = (float)get_number(config, "norm_epsilon", 1e-5);
    if (base_str_is(get_str(config, "model_type"), "mistral") || ld->arch->fused ||
        ld->arch->centred)
        ROTOR_TRY(get_u32(ld, config, "sliding_window", &hp->window));
    if (ld->arch->gemma) {
        ROTOR_TRY(get_u32(ld, config, "sliding_window", &hp->window));
        if (hp->both_ways) hp->window = model_half_window(hp->window);
        gemma(ld, config);
    }
    ROTOR_TRY(mixture(ld, config));
    hp->window_every = hp->window ? ld->arch->window_every : 0;
    ROTOR_TRY(check_turns(ld, config));
    ROTOR_TRY(check_still(ld, config));
    ROTOR_TRY(rope(ld, config));
    return quantization(ld, config);
}

/* Says which part of a config this build cannot honour, rather than computing something else. */
static rotor_status refuse_unknown(const model_loader *ld, const json_t *config) {
    const char *key = ld->arch->gemma    ? "hidden_activation"
                      : ld->arch->turned ? "activation_function"
                                         : "hidden_act";
    base_str act = get_str(config, key);
    const char *expected = ld->arch->glu == MODEL_RELU2      ? "relu2"
                           : ld->arch->glu == MODEL_GELU     ? "gelu_pytorch_tanh"
                           : ld->arch->glu == MODEL_GELU_ERF ? "gelu"
                                                             : "silu";
    const bool older = ld->arch->turned && base_str_is(act, "gelu_new"); /* the same function */
    if (act.n && !older && !base_str_is(act, expected))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: %s \"%.*s\", architecture %s expects \"%s\"",
                         file_path(ld->f), key, (int)act.n, act.p, ld->arch->name, expected);
    if (json_is_true(json_object_get(config, "mlp_bias")))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json: mlp_bias is not supported for architecture %s",
                         file_path(ld->f), ld->arch->name);
    if (json_is_true(json_object_get(config, "use_sliding_window")))
        return base_fail(
            ld->err, ROTOR_E_UNSUPPORTED,
            "%s: config.json: use_sliding_window (a window in some layers only) is not "
            "supported",
            file_path(ld->f));
    return ROTOR_OK;
}

static rotor_status read_config(model_loader *ld, const json_t *config) {
    base_str type = family(config);
    ld->arch = type.p ? model_arch_find_hf(type) : NULL;
    if (ld->arch && ld->arch->gemma && ld->arch->qk_norm &&
        json_is_true(json_object_get(config, "use_bidirectional_attention")))
        ld->arch = model_arch_find(base_str_of("gemma-embedding"));
    if (!ld->arch)
        return base_fail(
            ld->err, ROTOR_E_UNSUPPORTED,
            "%s: config.json: model_type \"%.*s\" is not supported; bert, bitnet, gemma2, "
            "gemma3_text, gpt2, gpt_oss, llama, mistral, nomic_bert, phi3, qwen2, qwen2_moe, "
            "qwen3, qwen3_moe, smollm3 and starcoder2 are",
            file_path(ld->f), (int)BASE_MIN(type.n, 60), type.p ? type.p : "");
    ROTOR_TRY(refuse_unknown(ld, config));
    ld->m->tied = json_is_true(json_object_get(config, "tie_word_embeddings"));
    return numbers(ld, config);
}

rotor_status model_hf_hparams(model_loader *ld) {
    json_t *config;
    ROTOR_TRY(model_side_json(ld, "config.json", &config));
    if (!config)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: config.json is missing beside the weights",
                         file_path(ld->f));
    rotor_status st = read_config(ld, config);
    json_decref(config);
    return st;
}

/* ==== Generation settings and chat template =================================================== */

static rotor_status keep_text(model *m, base_str text, rotor_error *err) {
    char *copy = model_take(m, text.n + 1);
    if (!copy) return base_fail_nomem(err, "keeping the chat template");
    if (text.n) memcpy(copy, text.p, text.n);
    m->chat_template = (base_str){copy, text.n};
    return ROTOR_OK;
}

static base_str template_of(const json_t *config) {
    const json_t *t = json_object_get(config, "chat_template");
    if (json_is_string(t)) return get_str(config, "chat_template");
    for (size_t i = 0; i < json_array_size(t); i++)
        if (base_str_is(get_str(json_array_get(t, i), "name"), "default"))
            return get_str(json_array_get(t, i), "template");
    return (base_str){0};
}

static void read_sampling(model_sampling *s, const json_t *j) {
    s->temperature = (float)get_number(j, "temperature", -1);
    s->top_p = (float)get_number(j, "top_p", -1);
    s->min_p = (float)get_number(j, "min_p", -1);
    s->repeat_penalty = (float)get_number(j, "repetition_penalty", -1);
    double top_k = get_number(j, "top_k", -1);
    s->top_k = top_k >= 0 && top_k < INT32_MAX ? (int)top_k : -1;
}

static void add_eog(text_vocab *v, const json_t *eos) {
    if (json_is_integer(eos) && json_integer_value(eos) >= 0 &&
        json_integer_value(eos) < TEXT_NO_ID)
        text_vocab_add_eog(v, (uint32_t)json_integer_value(eos));
    for (size_t i = 0; i < json_array_size(eos); i++) add_eog(v, json_array_get(eos, i));
}

rotor_status model_hf_texts(model_loader *ld) {
    json_t *gen, *tok;
    base_str jinja;
    ROTOR_TRY(model_side_json(ld, "generation_config.json", &gen));
    if (gen) {
        read_sampling(&ld->m->sampling, gen);
        if (ld->m->vocab) add_eog(ld->m->vocab, json_object_get(gen, "eos_token_id"));
        json_decref(gen);
    }
    if (file_side(ld->f, "chat_template.jinja", &jinja)) return keep_text(ld->m, jinja, ld->err);
    ROTOR_TRY(model_side_json(ld, "tokenizer_config.json", &tok));
    rotor_status st = ROTOR_OK;
    if (tok && template_of(tok).n) st = keep_text(ld->m, template_of(tok), ld->err);
    json_decref(tok);
    return st;
}
