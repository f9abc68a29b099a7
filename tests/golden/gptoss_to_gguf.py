# SPDX-License-Identifier: MIT
"""A gpt-oss folder with MXFP4 experts as a GGUF file of the older form (architecture `gptoss`), for the tests.

usage: gptoss_to_gguf.py FOLDER OUT.gguf

The files of that form keep attention, embedding and head in BF16, so that every value is the folder's own. Names and keys
differ from today's: attn_out, attn_sinks without a suffix, ffn_norm; no scaling type, no width of an expert.
"""
import json
import os
import sys

import numpy as np

import gguf_mini as g

NAMES = {"input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
         "self_attn.sinks": "attn_sinks", "self_attn.o_proj.weight": "attn_out.weight", "self_attn.o_proj.bias": "attn_out.bias",
         "mlp.router.weight": "ffn_gate_inp.weight", "mlp.router.bias": "ffn_gate_inp.bias"} | {
    f"self_attn.{x}_proj.{kind}": f"attn_{x}.{kind}" for x in "qkv" for kind in ("weight", "bias")}


def regroup(blocks):
    """HF's 16 bytes (neighbours share a byte) -> GGUF's (elements j and j + 16 share byte j)."""
    low, high = blocks & 15, blocks >> 4
    out = np.empty_like(blocks)
    out[..., 0::2] = low[..., :8] | low[..., 8:] << 4
    out[..., 1::2] = high[..., :8] | high[..., 8:] << 4
    return out


def expert_tensor(blocks, scales):
    n, rows, groups = scales.shape
    return g.Raw(g.MXFP4, (n, rows, groups * 32), np.concatenate([scales[..., None], regroup(blocks)], axis=-1).tobytes())


def vector(entry):
    dtype, a = entry
    values = g.bf16_to_f32(a) if dtype == "BF16" else a
    return g.Raw(g.F32, values.shape, g.encode(g.F32, values))


def matrix(entry):
    dtype, a = entry
    return g.Raw(g.BF16, a.shape, a.tobytes()) if dtype == "BF16" else g.Raw(g.BF16, a.shape, g.f32_to_bf16(a).tobytes())


def layer_tensors(st, n):
    p, out = f"model.layers.{n}.", {}
    for hf, name in NAMES.items():
        keep_f32 = name == "ffn_gate_inp.weight" or st[p + hf][1].ndim == 1
        out[f"blk.{n}.{name}"] = vector(st[p + hf]) if keep_f32 else matrix(st[p + hf])
    e = p + "mlp.experts."
    blocks, scales = st[e + "gate_up_proj_blocks"][1], st[e + "gate_up_proj_scales"][1]
    dtype, bias = st[e + "gate_up_proj_bias"]
    for i, role in enumerate(("gate", "up")):
        out[f"blk.{n}.ffn_{role}_exps.weight"] = expert_tensor(blocks[:, i::2], scales[:, i::2])
        out[f"blk.{n}.ffn_{role}_exps.bias"] = vector((dtype, bias[:, i::2]))
    out[f"blk.{n}.ffn_down_exps.weight"] = expert_tensor(st[e + "down_proj_blocks"][1], st[e + "down_proj_scales"][1])
    out[f"blk.{n}.ffn_down_exps.bias"] = vector(st[e + "down_proj_bias"])
    return out


def convert(folder, path):
    with open(os.path.join(folder, "config.json")) as f:
        c = json.load(f)
    st = g.read_safetensors(os.path.join(folder, "model.safetensors"))
    rope = c["rope_scaling"]
    meta = {"general.architecture": "gptoss", "general.file_type": 4, "gptoss.block_count": c["num_hidden_layers"],
            "gptoss.vocab_size": c["vocab_size"],
            "gptoss.context_length": c["max_position_embeddings"], "gptoss.embedding_length": c["hidden_size"],
            "gptoss.feed_forward_length": c["intermediate_size"], "gptoss.expert_count": c["num_local_experts"],
            "gptoss.expert_used_count": c["num_experts_per_tok"], "gptoss.attention.head_count": c["num_attention_heads"],
            "gptoss.attention.head_count_kv": c["num_key_value_heads"], "gptoss.attention.key_length": c["head_dim"],
            "gptoss.attention.value_length": c["head_dim"], "gptoss.attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
            "gptoss.attention.sliding_window": c["sliding_window"], "gptoss.rope.freq_base": float(c["rope_theta"]),
            "gptoss.rope.scaling.factor": rope["factor"],
            "gptoss.rope.scaling.original_context_length": rope["original_max_position_embeddings"]}
    tensors = {"token_embd.weight": matrix(st["model.embed_tokens.weight"]), "output_norm.weight": vector(st["model.norm.weight"]),
               "output.weight": matrix(st["lm_head.weight"])}
    for n in range(c["num_hidden_layers"]):
        tensors |= layer_tensors(st, n)
    g.write_gguf(path, meta, tensors)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    convert(*sys.argv[1:])
