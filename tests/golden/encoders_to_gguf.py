# SPDX-License-Identifier: MIT
"""A folder of one of the embedding models (tests/data/golden/enc-*) as a GGUF file, values unchanged.

usage: encoders_to_gguf.py FOLDER OUT.gguf

Names and keys are those of today's files: post-norm encoders have attn_output_norm and layer_output_norm; nomic-bert has fused
attn_qkv, fc11 is ffn_up and fc12 ffn_gate; pooling_type is 1 mean, 2 first token, 3 last token, 4 a cross-encoder, whose pooler is cls and whose classifier is cls.output; Gemma's dense layers are
dense_2 and dense_3, its gains have the one added, and its window is the configured width, of which half lies on either side.
"""
import os
import sys

import numpy as np

import families_to_gguf as ftg
import gguf_mini as g
import reference_encoders as re_
import reference_families as rf

POOLING = {"mean": 1, "cls": 2, "last": 3, "rank": 4}
ROLES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "qkv": "attn_qkv", "o": "attn_output", "attn_norm": "attn_output_norm",
         "up": "ffn_up", "gate": "ffn_gate", "down": "ffn_down", "ffn_norm": "layer_output_norm"}


def post_norm(folder, c, how):
    arch, m = c["model_type"].replace("_", "-"), re_.load_encoder(folder)
    keys = {"vocab_size": len(m.embed), "context_length": c["max_position_embeddings"], "embedding_length": m.embed.shape[1],
            "block_count": len(m.layers), "feed_forward_length": c["intermediate_size"], "attention.head_count": m.n_head,
            "attention.layer_norm_epsilon": m.eps, "attention.causal": False, "pooling_type": POOLING[how]}
    out = {"token_embd.weight": ftg.matrix(m.embed), "token_types.weight": ftg.vector(m.types)}
    if m.theta:
        keys["rope.freq_base"] = float(m.theta)
    else:
        out["position_embd.weight"] = ftg.vector(m.positions)
    out |= {"token_embd_norm.weight": ftg.vector(m.first["norm"]), "token_embd_norm.bias": ftg.vector(m.first["norm.bias"])}
    if how == "rank":
        st = rf.tensors(folder)
        for hf, name in (("bert.pooler.dense", "cls"), ("classifier", "cls.output")):
            out |= {f"{name}.weight": ftg.matrix(st[hf + ".weight"]), f"{name}.bias": ftg.vector(st[hf + ".bias"])}
    for n, p in enumerate(m.layers):
        p = dict(p)
        if arch == "nomic-bert":
            p["qkv"] = np.concatenate([p.pop(r) for r in "qkv"])
        for role, value in p.items():
            base, _, kind = role.partition(".")
            name = f"blk.{n}.{ROLES[base]}.{kind or 'weight'}"
            out[name] = ftg.vector(value) if value.ndim == 1 else ftg.matrix(value)
    return arch, keys, out


def decoder(folder, c, how, dense):
    gemma, net = c["model_type"] == "gemma3_text", rf.load(folder)
    arch = "gemma-embedding" if gemma else "qwen3"
    keys, extra = ftg.rope_keys(c, arch, net)
    keys = ftg.model_keys(c, arch, net) | keys | {"pooling_type": POOLING[how]}
    out = {"token_embd.weight": ftg.matrix(net.embed), "output_norm.weight": ftg.vector(net.final["norm"])}
    if gemma:
        keys |= {"attention.causal": False, "attention.sliding_window": c["sliding_window"]}
    for i, w in enumerate(dense):
        out[f"dense_{i + 2}.weight"] = ftg.matrix(w)
        keys |= {f"dense_{i + 2}_feat_in": w.shape[1], f"dense_{i + 2}_feat_out": w.shape[0]}
    for n, p in enumerate(net.layers):
        out |= ftg.layer_tensors(n, p, arch, net)
    return arch, keys, out | extra


def convert(folder, path, how=None):
    c, (stored, dense) = rf.config(folder), (("rank", []) if how == "rank" else re_.pooling(folder))
    how = how or stored
    arch, keys, out = post_norm(folder, c, how) if c["model_type"] in ("bert", "nomic_bert") else decoder(folder, c, how, dense)
    meta = {"general.architecture": arch, "general.name": os.path.basename(folder), "general.quantization_version": 2}
    g.write_gguf(path, meta | {f"{arch}.{k}": v for k, v in keys.items()}, out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    convert(*sys.argv[1:])
