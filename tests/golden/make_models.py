# SPDX-License-Identifier: MIT
"""Tiny model files with seeded weights, one per family and file format, for the golden tests.

usage: make_models.py FOLDER [NAME...]        (without names: all; `make_models.py -l` lists them)

The weights are random but shaped like trained ones: activations keep unit size through the layers, attention is far from
uniform, logits spread over several units, and the gains of the sub-norms run from 0.015 to 17 with negative ones between, as
in the published ternary checkpoints. The same name always gives the same bytes.

Every file carries a small byte-level BPE vocabulary with the published key names, so that it also runs from text.
"""
import json
import os
import sys
import zlib
from dataclasses import dataclass

import numpy as np

import gguf_mini as g


@dataclass(frozen=True)
class Spec:
    name: str
    form: str                    # "gguf" or a folder form: "multiply", "divide", "online", "dense"
    arch: str                    # GGUF architecture, or model_type of a folder
    weights: str                 # type of the projections: I2_S TQ1_0 TQ2_0 F32 F16 BF16 Q8_0 Q4_0, or U8 in folders
    embed: str = "F16"           # type of the embedding
    head: str = ""               # type of a head of its own; "" = tied
    n_layer: int = 3
    n_embd: int = 256
    n_head: int = 4
    n_kv: int = 2
    head_dim: int = 64
    n_ff: int = 384
    n_vocab: int = 320
    eps: float = 1e-5
    theta: float = 10000.0
    scales: bool = False         # d = 1 in the blocks and a one-element `.scale` tensor per projection
    i2s: str = "x86"             # byte order of I2_S
    rope: str = ""               # "freqs": a rope_freqs tensor; folders: scaling "linear" or "llama3", "+" in rope_parameters
    scale_per: str = "matrix"    # scales of ternary types: one per "matrix", "row" or "block" of 256
    constant: bool = False       # float projections that are ternary times a constant

    @property
    def sub_norms(self):
        return self.arch.startswith("bitnet") or self.form == "1bitllm"

    @property
    def ternary(self):
        return self.weights in ("I2_S", "TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN", "U8") or self.form in ("online", "1bitllm")

    @property
    def latent(self):
        """Stored as float weights to be quantised by whoever loads them."""
        return self.form in ("online", "1bitllm")


B158, B25 = "bitnet-b1.58", "bitnet-25"
SPECS = [
    Spec("bitnet-b158-i2s.gguf", "gguf", B158, "I2_S", theta=500000.0),
    Spec("bitnet-b158-i2s-arm.gguf", "gguf", B158, "I2_S", theta=500000.0, i2s="arm", n_layer=2),
    Spec("bitnet-b158-i2s-4row.gguf", "gguf", B158, "I2_S", theta=500000.0, i2s="4row", n_layer=2),
    Spec("bitnet-b158-i2s-odd.gguf", "gguf", B158, "I2_S", theta=500000.0, n_embd=96, n_head=3, n_kv=1, head_dim=32, n_ff=160,
         n_vocab=301),
    Spec("bitnet-b158-tq1.gguf", "gguf", B158, "TQ1_0", theta=500000.0, n_ff=512),
    Spec("bitnet-25-tq2.gguf", "gguf", B25, "TQ2_0", head="F16", theta=500000.0, n_ff=512, n_layer=4),
    Spec("bitnet-b158-i2s-q8head.gguf", "gguf", B158, "I2_S", embed="Q8_0", theta=500000.0, n_layer=2),
    Spec("bitnet-silu-tq2.gguf", "gguf", "bitnet", "TQ2_0", n_ff=512),
    Spec("bitnet-silu-scales.gguf", "gguf", "bitnet", "TQ2_0", n_ff=512, n_kv=4, scales=True, n_layer=2),
    Spec("llama-i2s.gguf", "gguf", "llama", "I2_S", head="F16", eps=1e-6, theta=1000042.0),
    Spec("llama-tq1.gguf", "gguf", "llama", "TQ1_0", head="Q8_0", n_ff=512),
    Spec("llama-tq2.gguf", "gguf", "llama", "TQ2_0", head="F16", n_ff=768, n_head=8, n_kv=2, head_dim=32),
    Spec("llama-f32.gguf", "gguf", "llama", "F32", embed="F32", n_embd=128, n_head=4, head_dim=32, n_vocab=288),
    Spec("bitnet-b158-iq2bn-rows.gguf", "gguf", B158, "IQ2_BN", theta=500000.0, n_layer=2, n_embd=192, n_head=3, n_kv=1,
         scale_per="row"),
    Spec("llama-iq1bn-rows.gguf", "gguf", "llama", "IQ1_BN", head="F16", n_layer=2, n_ff=320, scale_per="row"),
    Spec("bitnet-silu-iq2bn-rows-scales.gguf", "gguf", "bitnet", "IQ2_BN", n_layer=2, scale_per="row", scales=True),
    Spec("bitnet-b158-tq2-blocks.gguf", "gguf", B158, "TQ2_0", theta=500000.0, n_ff=512, n_embd=512, n_head=8, n_layer=2,
         scale_per="block"),
    Spec("llama-tq1-blocks-scales.gguf", "gguf", "llama", "TQ1_0", head="F16", n_ff=512, n_embd=512, n_head=8, n_layer=2,
         scale_per="block", scales=True),
    Spec("bitnet-silu-q8-scales.gguf", "gguf", "bitnet", "Q8_0", n_layer=2, scales=True),
    Spec("bitnet-silu-f16-constant.gguf", "gguf", "bitnet", "F16", n_layer=2, constant=True),
    Spec("bitnet-b158-bf16-scales.gguf", "gguf", B158, "BF16", n_layer=2, constant=True, scales=True),
    Spec("llama-f32-rope-freqs.gguf", "gguf", "llama", "F32", embed="F32", n_layer=2, n_embd=128, n_head=4, head_dim=32,
         n_vocab=288, rope="freqs"),
    Spec("llama-f16.gguf", "gguf", "llama", "F16", head="F16", n_embd=128, head_dim=64, n_ff=250, n_vocab=301),
    Spec("llama-bf16.gguf", "gguf", "llama", "BF16", embed="BF16", n_embd=100, n_head=5, n_kv=5, head_dim=20, n_ff=172),
    Spec("llama-q8_0.gguf", "gguf", "llama", "Q8_0", embed="Q8_0", head="Q8_0"),
    Spec("llama-q4_0.gguf", "gguf", "llama", "Q4_0", embed="Q4_0", head="Q8_0", n_embd=160, n_head=5, n_kv=1, head_dim=32, n_ff=352),
    Spec("hf-bitnet-packed", "multiply", "bitnet", "U8", embed="BF16", theta=500000.0),
    Spec("hf-bitnet-packed-odd", "multiply", "bitnet", "U8", embed="BF16", theta=500000.0, n_embd=120, n_head=6, n_kv=2, head_dim=20,
         n_ff=200, n_vocab=301),
    Spec("hf-bitnet-online", "online", "bitnet", "BF16", embed="BF16", theta=500000.0),
    Spec("hf-llama-1.58", "divide", "llama", "U8", embed="BF16", head="BF16", theta=500000.0, eps=1e-6),
    Spec("hf-llama-bf16", "dense", "llama", "BF16", embed="BF16", head="BF16"),
    Spec("hf-llama-f16", "dense", "llama", "F16", embed="F16", n_embd=96, n_head=3, n_kv=3, head_dim=32, n_ff=200, n_vocab=301),
    Spec("hf-llama-f32", "dense", "llama", "F32", embed="F32", n_embd=128, head_dim=32),
    Spec("hf-bitnet-dense", "dense", "bitnet", "BF16", embed="BF16", n_layer=2),
    Spec("hf-1bitllm", "1bitllm", "llama", "F16", embed="F16", n_layer=2, n_kv=4),
    Spec("hf-llama-rope-linear", "dense", "llama", "F32", embed="F32", n_layer=2, n_embd=128, head_dim=32, rope="linear"),
    Spec("hf-llama-rope-llama3", "dense", "llama", "F32", embed="F32", n_layer=2, n_embd=128, head_dim=32, rope="llama3"),
    Spec("hf-llama-rope-llama3-new", "dense", "llama", "F32", embed="F32", n_layer=2, n_embd=128, head_dim=32, rope="+llama3"),
]

# ---- weights --------------------------------------------------------------------------------------------------------

SIZES = {"attn_q": ("q", "e"), "attn_k": ("kv", "e"), "attn_v": ("kv", "e"), "attn_output": ("e", "q"),
         "ffn_gate": ("ff", "e"), "ffn_up": ("ff", "e"), "ffn_down": ("e", "ff")}
NORM_BEFORE = {"attn_q": "attn_norm", "attn_k": "attn_norm", "attn_v": "attn_norm", "ffn_gate": "ffn_norm", "ffn_up": "ffn_norm",
               "attn_output": "attn_sub_norm", "ffn_down": "ffn_sub_norm"}
STRENGTH = {"attn_q": 1.5, "attn_k": 1.5, "attn_v": 1.0, "attn_output": 0.7, "ffn_gate": 1.2, "ffn_up": 1.2, "ffn_down": 0.6}


def gains(rng, n, unit, outlier=0.0):
    v = unit * (1 + 0.25 * rng.standard_normal(n))
    v[rng.random(n) < 0.05] *= -1
    if outlier:
        v[rng.integers(n)] = outlier
    return v


def norm_units(spec, n):
    """Typical gain of each norm of layer n; the projection behind it is scaled by the inverse."""
    if not spec.sub_norms:
        return {"attn_norm": 0.4, "ffn_norm": 0.6}
    first = n == 0
    return {"attn_norm": 0.017 if first else 0.6, "ffn_norm": 0.5, "attn_sub_norm": 0.015 if first else 1.0,
            "ffn_sub_norm": 2.0 if first else 0.7}


def make_layer(spec, rng, n):
    """-> dict role -> gain vector, or (t, scale) for ternary forms, or a real matrix."""
    size = {"q": spec.n_head * spec.head_dim, "kv": spec.n_kv * spec.head_dim, "e": spec.n_embd, "ff": spec.n_ff}
    last = n == spec.n_layer - 1
    units = norm_units(spec, n)
    outliers = {"attn_sub_norm": -14.0 if last else 0.0, "ffn_sub_norm": 17.0 if n == 0 else 0.0}
    lengths = {"attn_norm": "e", "ffn_norm": "e", "attn_sub_norm": "q", "ffn_sub_norm": "ff"}
    layer = {role: gains(rng, size[lengths[role]], unit, outliers.get(role, 0.0)) for role, unit in units.items()}
    for role, (rows, cols) in SIZES.items():
        rows, cols = size[rows], size[cols]
        std = STRENGTH[role] / (units.get(NORM_BEFORE[role], 1.0) * np.sqrt(cols))
        if spec.arch in (B158, B25) and n == 0 and role in ("ffn_gate", "ffn_up"):
            std *= 40            # squared ReLU times up then passes the largest f16; the sub-norm takes it back
        if (spec.ternary and not spec.latent) or spec.constant:
            t = rng.integers(-1, 2, (rows, cols))
            if spec.weights.startswith("TQ"):
                t[0, :256] = 0   # an all-zero block: its stored scale is 0
            scale = std / np.sqrt(2 / 3)
            if spec.scale_per != "matrix":
                scale = scale * rng.uniform(0.5, 1.5, (rows, 1 if spec.scale_per == "row" else cols // 256))
                scale = scale.astype(np.float16).astype(np.float64)
            layer[role] = (t, scale)
        else:
            layer[role] = std * rng.standard_normal((rows, cols))
    return layer


def make_weights(spec):
    rng = np.random.default_rng(zlib.crc32(spec.name.encode()))
    w = {"embed": 0.6 * rng.standard_normal((spec.n_vocab, spec.n_embd)), "final_norm": gains(rng, spec.n_embd, 0.35)}
    if spec.head:
        w["head"] = 0.6 * rng.standard_normal((spec.n_vocab, spec.n_embd))
    w["layers"] = [make_layer(spec, rng, n) for n in range(spec.n_layer)]
    return w


# ---- vocabulary -----------------------------------------------------------------------------------------------------


def byte_alphabet():
    """The published byte to character table of byte-level BPE: printable Latin-1 as itself, the rest from U+0100 on."""
    keep = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    table, spare = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(0x100 + spare)
            spare += 1
    return table


def make_vocab(n_vocab):
    """256 bytes, then merges, then two control tokens. -> tokens, merges, bos id, eos id."""
    alphabet = byte_alphabet()
    tokens, merges = [alphabet[b] for b in range(256)], []
    words = [" the", " and", " was", " little", " day", "ing", "one", " they", " said", " big", " to", " her", " play", " dog"]
    for word in words * 2:
        parts = [alphabet[b] for b in word.encode()]
        while len(parts) > 1 and len(tokens) < n_vocab - 2:
            pair = parts[0] + parts[1]
            if pair not in tokens:
                tokens.append(pair)
                merges.append(parts[0] + " " + parts[1])
            parts[:2] = [pair]
    while len(tokens) < n_vocab - 2:
        tokens.append(f"<|unused_{len(tokens)}|>")
    return tokens + ["<|begin_of_text|>", "<|end_of_text|>"], merges, n_vocab - 2, n_vocab - 1


def tokenizer_json(n_vocab):
    tokens, merges, bos, eos = make_vocab(n_vocab)
    special = [i for i, t in enumerate(tokens) if t.startswith("<|")]
    bos_piece = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}
    seq = [{"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {"type": "TemplateProcessing", "single": [bos_piece] + seq,
                           "pair": [bos_piece] + seq + [{"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens) if i not in special}, "merges": merges},
    }


def gguf_vocab_meta(spec):
    tokens, merges, bos, eos = make_vocab(spec.n_vocab)
    types = [3 if t.startswith("<|") else 1 for t in tokens]
    meta = {"tokenizer.ggml.model": "gpt2"}
    if spec.arch not in (B158, B25):                 # the published ternary files lack this key
        meta["tokenizer.ggml.pre"] = "llama-bpe"
    meta |= {"tokenizer.ggml.tokens": (g.STRING, tokens), "tokenizer.ggml.scores": (g.FLOAT32, [0.0] * len(tokens)),
             "tokenizer.ggml.token_type": (g.I32, types), "tokenizer.ggml.merges": (g.STRING, merges),
             "tokenizer.ggml.bos_token_id": bos, "tokenizer.ggml.eos_token_id": eos,
             "tokenizer.ggml.padding_token_id": eos, "tokenizer.ggml.add_bos_token": True}
    return meta


# ---- GGUF -----------------------------------------------------------------------------------------------------------

FILE_TYPE = {"IQ1_BN": 136, "IQ2_BN": 137, "I2_S": 40, "TQ1_0": 36, "TQ2_0": 37, "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2}
TYPE_ID = {name: i for i, name in g.TYPE_NAMES.items()}


def gguf_meta(spec):
    a = spec.arch
    meta = {"general.architecture": a, "general.name": spec.name.removesuffix(".gguf"), f"{a}.vocab_size": spec.n_vocab,
            f"{a}.context_length": 512, f"{a}.embedding_length": spec.n_embd, f"{a}.block_count": spec.n_layer,
            f"{a}.feed_forward_length": spec.n_ff, f"{a}.rope.dimension_count": spec.head_dim,
            f"{a}.attention.head_count": spec.n_head, f"{a}.attention.head_count_kv": spec.n_kv,
            f"{a}.attention.layer_norm_rms_epsilon": spec.eps, f"{a}.rope.freq_base": spec.theta,
            "general.file_type": FILE_TYPE[spec.weights], "general.quantization_version": 2}
    if spec.n_head * spec.head_dim != spec.n_embd:
        meta |= {f"{a}.attention.key_length": spec.head_dim, f"{a}.attention.value_length": spec.head_dim}
    return meta | gguf_vocab_meta(spec)


def gguf_tensor(spec, kind, value):
    if isinstance(value, tuple):
        t, scale = value
        if kind == "I2_S":
            data = g.encode_i2s(t, scale, spec.i2s)
        elif kind.startswith("IQ"):
            data = g.encode(TYPE_ID[kind], t, scale)
        elif not kind.startswith("TQ"):
            data = g.encode(TYPE_ID[kind], t * scale)
        else:
            data = zero_empty_blocks(TYPE_ID[kind], t, g.encode(TYPE_ID[kind], t, scale))
        return g.Raw(TYPE_ID[kind], t.shape, data)
    return g.Raw(TYPE_ID[kind], value.shape, g.encode(TYPE_ID[kind], value))


def zero_empty_blocks(type_id, t, data):
    """Writers take the scale from the largest value of a block, so an empty block stores 0."""
    size = g.BLOCK[type_id][1]
    raw = np.frombuffer(data, np.uint8).reshape(-1, size).copy()
    raw[~t.reshape(len(raw), 256).any(axis=1), -2:] = 0
    return raw.tobytes()


def write_gguf(spec, path):
    w = make_weights(spec)
    tensors = {"token_embd.weight": gguf_tensor(spec, spec.embed, w["embed"])}
    for n, layer in enumerate(w["layers"]):
        for role, value in layer.items():
            kind = spec.weights if role in SIZES else "F32"
            if spec.scales and role in SIZES:
                if isinstance(value, tuple):
                    t, scale = value
                    scale, value = np.mean(scale), (t, scale / np.mean(scale))
                else:
                    scale, value = 0.37, value / 0.37
                tensors[f"blk.{n}.{role}.scale"] = gguf_tensor(spec, "F32", np.array([scale]))
            tensors[f"blk.{n}.{role}.weight"] = gguf_tensor(spec, kind, value)
    tensors["output_norm.weight"] = gguf_tensor(spec, "F32", w["final_norm"])
    if spec.rope == "freqs":
        tensors["rope_freqs.weight"] = gguf_tensor(spec, "F32", np.geomspace(1, 8, spec.head_dim // 2))
    if spec.head:
        tensors["output.weight"] = gguf_tensor(spec, spec.head, w["head"])
    g.write_gguf(path, gguf_meta(spec), tensors)


# ---- Hugging Face folders -------------------------------------------------------------------------------------------

HF_NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_sub_norm": "self_attn.attn_sub_norm",
            "ffn_sub_norm": "mlp.ffn_sub_norm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TORCH = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def pack_rows(t):
    """[out, in] -> U8 [out/4, in]: row i*out/4 + r in bits 2i..2i+1 of byte (r, c)."""
    f = (t + 1).astype(np.uint8).reshape(4, -1, t.shape[1])
    return f[0] | (f[1] << 2) | (f[2] << 4) | (f[3] << 6)


def st_entry(kind, x):
    x = np.asarray(x, np.float32)
    return (kind, g.f32_to_bf16(x)) if kind == "BF16" else (kind, x.astype({"F16": np.float16, "F32": np.float32}[kind]))


def hf_config(spec):
    _, _, bos, eos = make_vocab(spec.n_vocab)
    bitnet = spec.arch == "bitnet"
    config = {"architectures": ["BitNetForCausalLM" if bitnet else "LlamaForCausalLM"], "model_type": spec.arch,
              "hidden_size": spec.n_embd, "intermediate_size": spec.n_ff, "num_hidden_layers": spec.n_layer,
              "num_attention_heads": spec.n_head, "num_key_value_heads": spec.n_kv, "vocab_size": spec.n_vocab,
              "hidden_act": "relu2" if bitnet else "silu", "rms_norm_eps": spec.eps, "rope_theta": spec.theta,
              "max_position_embeddings": 512, "tie_word_embeddings": not spec.head, "bos_token_id": bos, "eos_token_id": eos,
              "torch_dtype": TORCH[spec.embed], "attention_bias": False, "initializer_range": 0.02, "use_cache": True}
    if spec.n_head * spec.head_dim != spec.n_embd:
        config["head_dim"] = spec.head_dim
    if spec.form == "1bitllm":
        config |= {"architectures": ["BitnetForCausalLM"], "weight_bits": 1, "input_bits": 8, "rope_scaling": None}
    if spec.rope:
        scaling = {"rope_type": spec.rope.strip("+"), "factor": 8.0}
        if "llama3" in spec.rope:
            scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
        if spec.rope.startswith("+"):
            config["rope_parameters"] = scaling | {"rope_theta": config.pop("rope_theta")}
        else:
            config["rope_scaling"] = scaling
    if spec.form in ("multiply", "online"):
        config["quantization_config"] = {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                         "quantization_mode": "online" if spec.form == "online" else "offline"}
    elif spec.form == "divide":
        config["quantization_config"] = {"quant_method": "bitnet", "modules_to_not_convert": None}
    return config


def write_hf(spec, folder):
    w = make_weights(spec)
    tensors = {"model.embed_tokens.weight": st_entry(spec.embed, w["embed"])}
    packed = {}
    for n, layer in enumerate(w["layers"]):
        for role, value in layer.items():
            name = f"model.layers.{n}.{HF_NAMES[role]}"
            if spec.form == "1bitllm":
                name = name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm")
            if isinstance(value, tuple):
                t, scale = value
                packed[name + ".weight"] = ("U8", pack_rows(t))
                stored = 1 / scale if spec.form == "divide" else scale
                tensors[name + ".weight_scale"] = st_entry("BF16", np.array([stored]))
            else:
                kind = spec.weights if role in SIZES else spec.embed
                tensors[name + ".weight"] = st_entry(kind, value)
    tensors["model.norm.weight"] = st_entry(spec.embed, w["final_norm"])
    if spec.head:
        tensors["lm_head.weight"] = st_entry(spec.head, w["head"])
    os.makedirs(folder, exist_ok=True)
    g.write_safetensors(os.path.join(folder, "model.safetensors"), tensors | packed)
    tokens, _, bos, eos = make_vocab(spec.n_vocab)
    files = {"config.json": hf_config(spec), "tokenizer.json": tokenizer_json(spec.n_vocab),
             "generation_config.json": {"bos_token_id": bos, "eos_token_id": eos},
             "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tokens[bos],
                                       "eos_token": tokens[eos]}}
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(content, f, ensure_ascii=False, indent=1)


def write(spec, folder):
    """Writes the model and returns its path."""
    path = os.path.join(folder, spec.name)
    (write_gguf if spec.form == "gguf" else write_hf)(spec, path)
    return path


def main(args):
    if not args or args[0].startswith("-"):
        for s in SPECS:
            print(f"{s.name:28} {s.arch:13} {s.weights:6} {s.n_layer} layers, {s.n_embd} wide")
        return 0 if args else 2
    wanted = args[1:] or [s.name for s in SPECS]
    unknown = set(wanted) - {s.name for s in SPECS}
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    os.makedirs(args[0], exist_ok=True)
    for s in SPECS:
        if s.name in wanted:
            write(s, args[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
