# SPDX-License-Identifier: MIT
"""A Hugging Face Llama folder (dense, or ternary in the dividing form) as a GGUF file of architecture `llama`.

usage: hf_to_gguf.py FOLDER OUT.gguf

GGUF's llama rotates adjacent elements, the folder's form the two halves of a head. So the rows of Q and K move within each
head: new rows 2i and 2i+1 are old rows i and i + D/2. Nothing else changes, so both files must give the same logits.
"""
import json
import os
import sys

import numpy as np

import gguf_mini as g
import make_models
import reference

DENSE = {"F32": g.F32, "F16": g.F16, "BF16": g.BF16}


def adjacent_pairs(rows, n_head):
    """[H*D, in] with halves -> the same rows with pairs."""
    return rows.reshape(n_head, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def convert(folder, out):
    with open(os.path.join(folder, "config.json")) as f:
        c = json.load(f)
    m = reference.load_hf(folder)
    if c["model_type"] != "llama":
        raise ValueError(f"{folder}: model_type {c['model_type']}")
    stored = {name: dtype for name, (dtype, _) in g.read_safetensors(os.path.join(folder, "model.safetensors")).items()}

    def matrix(value, dtype):
        if isinstance(value, reference.Ternary):
            return g.Raw(g.I2_S, value.t.shape, g.encode_i2s(value.t.astype(np.int64), value.scale))
        return g.Raw(DENSE[dtype], value.w.shape, g.encode(DENSE[dtype], value.w))

    def vector(value):
        return g.Raw(g.F32, value.shape, g.encode(g.F32, value))
    tensors = {"token_embd.weight": matrix(m.embed, stored["model.embed_tokens.weight"]), "output_norm.weight": vector(m.final_norm)}
    if "lm_head.weight" in stored:
        tensors["output.weight"] = matrix(m.head, stored["lm_head.weight"])
    for n, layer in enumerate(m.layers):
        for hf, role in reference.HF_ROLES.items():
            if role not in layer:
                continue
            value = layer[role]
            if role in ("attn_q", "attn_k"):
                heads = m.n_head if role == "attn_q" else m.n_kv
                if isinstance(value, reference.Ternary):
                    value = reference.Ternary(adjacent_pairs(value.t, heads), value.scale)
                else:
                    value = reference.Dense(adjacent_pairs(value.w, heads))
            is_vector = isinstance(value, np.ndarray)
            tensors[f"blk.{n}.{role}.weight"] = vector(value) if is_vector else matrix(
                value, stored[f"model.layers.{n}.{hf}.weight"])
    meta = {"general.architecture": "llama", "general.name": os.path.basename(folder), "llama.vocab_size": m.n_vocab,
            "llama.context_length": c["max_position_embeddings"], "llama.embedding_length": m.n_embd,
            "llama.block_count": m.n_layer, "llama.feed_forward_length": c["intermediate_size"],
            "llama.rope.dimension_count": m.head_dim, "llama.attention.head_count": m.n_head,
            "llama.attention.head_count_kv": m.n_kv, "llama.attention.key_length": m.head_dim,
            "llama.attention.value_length": m.head_dim, "llama.attention.layer_norm_rms_epsilon": m.eps,
            "llama.rope.freq_base": float(m.theta), "general.quantization_version": 2}
    spec = make_models.Spec(os.path.basename(folder), "gguf", "llama", "F32", n_vocab=m.n_vocab)
    g.write_gguf(out, meta | make_models.gguf_vocab_meta(spec), tensors)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    convert(*sys.argv[1:])
