# SPDX-License-Identifier: MIT
"""A Hugging Face folder of one of the decoder families (tests/data/golden/fam-*) as a GGUF file, values unchanged.

usage: families_to_gguf.py FOLDER OUT.gguf

Names and keys are those of today's files. What such files change on the way:
 * llama and smollm3 rotate neighbours, so the rows of Q and K move within each head (in layers without rotation too, where
   it makes no difference); the others keep halves;
 * gemma's gains are stored with the one added; gpt2's matrices are turned to [out, in];
 * experts are stacked to [N, out, in]; llama3's RoPE becomes a tensor of divisors, longrope's two lists two tensors;
 * a tied head is not stored.
Matrices become BF16, vectors and routers F32.
"""
import os
import sys

import numpy as np

import gguf_mini as g
import reference_families

ARCH = {"llama": "llama", "qwen2": "qwen2", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gemma2": "gemma2",
        "gemma3_text": "gemma3", "phi3": "phi3", "smollm3": "smollm3", "starcoder2": "starcoder2", "gpt2": "gpt2"}
ROLES = {"attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "q_norm": "attn_q_norm",
         "k_norm": "attn_k_norm", "post_attn_norm": "post_attention_norm", "ffn_norm": "ffn_norm", "gate": "ffn_gate",
         "up": "ffn_up", "down": "ffn_down", "post_ffn_norm": "post_ffw_norm", "router": "ffn_gate_inp",
         "shared_gate": "ffn_gate_inp_shexp", "qkv": "attn_qkv"}
PAIRS = ("llama", "smollm3")                # architectures that rotate elements 2i and 2i+1


def vector(v):
    return g.Raw(g.F32, v.shape, g.encode(g.F32, v))


def matrix(w):
    return g.Raw(g.BF16, w.shape, g.encode(g.BF16, w))


def adjacent_pairs(rows, n_head):
    """[H*D, ...] with halves -> the same rows with pairs."""
    return rows.reshape(n_head, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def fuse(p, arch):
    """The fused matrices that phi3 and gpt2 files hold."""
    p = dict(p)
    if arch in ("phi3", "gpt2"):
        for s in ("", ".bias"):
            if "q" + s in p:
                p["qkv" + s] = np.concatenate([p.pop(r + s) for r in "qkv"])
    if arch == "phi3":
        p["up"] = np.concatenate([p.pop("gate"), p.pop("up")])
    return p


def layer_tensors(n, p, arch, net):
    out, p = {}, fuse(p, arch)
    for role, value in p.items():
        base, _, kind = role.partition(".")
        if base in ("experts", "shared"):
            suffix = "exps" if base == "experts" else "shexp"
            for r in ("gate", "up", "down"):
                out[f"blk.{n}.ffn_{r}_{suffix}.weight"] = matrix(np.stack(value[r]) if base == "experts" else value[r])
            continue
        if arch in PAIRS and base in ("q", "k"):
            value = adjacent_pairs(value, net.n_head if base == "q" else net.n_kv)
        if base == "shared_gate":
            value = value[0]                # stored as one row
        name = f"blk.{n}.{ROLES[base]}.{kind or 'weight'}"
        out[name] = vector(value) if value.ndim == 1 or base == "router" else matrix(value)
    return out


def rope_keys(c, arch, net):
    """Keys and tensors that say how positions turn."""
    r, keys, extra = c.get("rope_parameters"), {}, {}
    if r is None:
        return keys, extra
    if "full_attention" in r:
        keys["rope.freq_base_swa"] = float(r["sliding_attention"]["rope_theta"])
        r = r["full_attention"]
    keys["rope.freq_base"] = float(r["rope_theta"])
    keys["rope.dimension_count"] = int(net.head_dim * r.get("partial_rotary_factor", 1.0))
    kind, old = r.get("rope_type", "default"), r.get("original_max_position_embeddings")
    if kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": kind, "rope.scaling.factor": float(r["factor"])}
    if kind == "yarn":
        keys["rope.scaling.original_context_length"] = old
        for side in ("fast", "slow"):
            if f"beta_{side}" in r:
                keys[f"rope.scaling.yarn_beta_{side}"] = float(r[f"beta_{side}"])
        if not r.get("truncate", True):
            raise ValueError("GGUF cannot say that YaRN's bounds are not rounded")
    if kind == "llama3":
        omega = r["rope_theta"] ** (-np.arange(0, net.head_dim, 2) / net.head_dim)
        extra["rope_freqs.weight"] = vector(omega / reference_families.llama3(r, omega))
    if kind == "longrope":
        keys |= {"rope.scaling.type": kind, "rope.scaling.original_context_length": old,
                 "rope.scaling.attn_factor": float(np.sqrt(1 + np.log(c["max_position_embeddings"] / old) / np.log(old)))}
        extra |= {f"rope_factors_{s}.weight": vector(np.array(r[f"{s}_factor"])) for s in ("long", "short")}
    return keys, extra


def model_keys(c, arch, net):
    eps = "layer_norm_epsilon" if net.norm == "layer" else "layer_norm_rms_epsilon"
    keys = {"vocab_size": len(net.embed), "context_length": c.get("max_position_embeddings") or c["n_positions"],
            "embedding_length": net.embed.shape[1], "block_count": len(net.layers),
            "feed_forward_length": c.get("intermediate_size") or c.get("n_inner") or 4 * net.embed.shape[1],
            "attention.head_count": net.n_head, "attention.head_count_kv": net.n_kv, "attention." + eps: net.eps,
            "attention.key_length": net.head_dim, "attention.value_length": net.head_dim}
    if any(net.window):
        keys["attention.sliding_window"] = max(net.window)
    if "router" in net.layers[0]:
        keys |= {"expert_count": c.get("num_experts") or c["num_local_experts"], "expert_used_count": net.n_used,
                 "expert_feed_forward_length": c["moe_intermediate_size"]}
    if "shared" in net.layers[0]:
        keys["expert_shared_feed_forward_length"] = c["shared_expert_intermediate_size"]
    if net.score_cap:
        keys["attn_logit_softcapping"] = net.score_cap
    if net.logit_cap:
        keys["final_logit_softcapping"] = net.logit_cap
    return keys


def convert(folder, path, extra_meta=None):
    c, net = reference_families.config(folder), reference_families.load(folder)
    arch = ARCH[c["model_type"]]
    keys, extra = rope_keys(c, arch, net)
    keys = model_keys(c, arch, net) | keys
    out = {"token_embd.weight": matrix(net.embed)} | extra
    if net.positions is not None:
        out["position_embd.weight"] = vector(net.positions)
    out |= {f"output_norm.{'bias' if k.endswith('bias') else 'weight'}": vector(v) for k, v in net.final.items()}
    if net.head is not net.embed:
        out["output.weight"] = matrix(net.head)
    for n, p in enumerate(net.layers):
        out |= layer_tensors(n, p, arch, net)
    meta = {"general.architecture": arch, "general.name": os.path.basename(folder), "general.quantization_version": 2}
    g.write_gguf(path, meta | {f"{arch}.{k}": v for k, v in keys.items()} | (extra_meta or {}), out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    convert(*sys.argv[1:])
