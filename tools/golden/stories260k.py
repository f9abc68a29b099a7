# SPDX-License-Identifier: MIT
"""Makes tests/data/model/stories260K.gguf from karpathy's stories260K (llama2.c version-0 checkpoint and its tokenizer.bin).

usage: stories260k.py stories260K.bin tok512.bin stories260K.gguf

Checkpoint: seven int32 (dim, hidden, layers, heads, kv heads, vocab, context), then f32 arrays in the order of TENSORS.
A positive vocab means that the head is the embedding. Rotary pairs are adjacent elements, which is what GGUF's `llama`
architecture expects, so no row moves. The two tables of cosines and sines at the end follow from theta and are dropped.

Tokenizer: int32 longest piece, then per id f32 score, int32 length, bytes. It shows the control pieces as "\\n<s>\\n" and
"\\n</s>\\n" and the word mark U+2581 as a space; both are turned back. Byte pieces are "<0x0A>" and stay.
Needs numpy only. Made with numpy 2.4.6; the output does not depend on the version.
"""
import os
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden"))
import gguf_mini as g  # noqa: E402


def read_checkpoint(path):
    with open(path, "rb") as f:
        data = f.read()
    dim, hidden, layers, heads, kv_heads, vocab, ctx = struct.unpack_from("<7i", data)
    if vocab <= 0:
        raise ValueError("this checkpoint has a head of its own; only the tied form is handled")
    head_dim = dim // heads
    kv = kv_heads * head_dim
    shapes = {"embed": (vocab, dim), "attn_norm": (layers, dim), "attn_q": (layers, dim, dim), "attn_k": (layers, kv, dim),
              "attn_v": (layers, kv, dim), "attn_output": (layers, dim, dim), "ffn_norm": (layers, dim),
              "ffn_gate": (layers, hidden, dim), "ffn_down": (layers, dim, hidden), "ffn_up": (layers, hidden, dim),
              "output_norm": (dim,)}
    tensors, at = {}, 28
    for name, shape in shapes.items():
        n = int(np.prod(shape))
        tensors[name] = np.frombuffer(data, "<f4", n, at).reshape(shape)
        at += 4 * n
    at += 4 * ctx * head_dim                     # cosines and sines, head_dim/2 each per position
    if at != len(data):
        raise ValueError(f"{path}: {len(data)} bytes, the header promises {at}")
    return {"dim": dim, "hidden": hidden, "layers": layers, "heads": heads, "kv_heads": kv_heads, "vocab": vocab,
            "ctx": ctx, "head_dim": head_dim}, tensors


def read_tokenizer(path, vocab):
    with open(path, "rb") as f:
        data = f.read()
    pieces, scores, at = [], [], 4
    for _ in range(vocab):
        score, n = struct.unpack_from("<fi", data, at)
        pieces.append(data[at + 8:at + 8 + n].decode("utf-8"))
        scores.append(score)
        at += 8 + n
    if at != len(data):
        raise ValueError(f"{path}: {len(data) - at} bytes left over")
    return pieces, scores


def gguf_vocabulary(pieces):
    tokens, types = [], []
    for i, p in enumerate(pieces):
        if i == 0:
            tokens.append("<unk>")
            types.append(2)
        elif i in (1, 2):
            tokens.append(p.strip("\n"))
            types.append(3)
        else:
            is_byte = len(p) == 6 and p.startswith("<0x") and p.endswith(">")
            tokens.append(p if is_byte else p.replace(" ", "\u2581"))
            types.append(6 if is_byte else 1)
    if tokens[1:3] != ["<s>", "</s>"] or types.count(6) != 256 or len(set(tokens)) != len(tokens):
        raise ValueError(f"unexpected vocabulary: {tokens[:4]}, {types.count(6)} byte pieces")
    return tokens, types


def main(checkpoint, tokenizer, out):
    h, t = read_checkpoint(checkpoint)
    pieces, scores = read_tokenizer(tokenizer, h["vocab"])
    tokens, types = gguf_vocabulary(pieces)
    meta = {
        "general.architecture": "llama", "general.type": "model", "general.name": "stories260K",
        "general.author": "Andrej Karpathy", "general.size_label": "260K",
        "general.description": "Tiny model of children's stories (TinyStories), trained with llama2.c",
        "general.license": "mit", "general.license.name": "MIT License",
        "general.languages": (g.STRING, ["en"]), "general.file_type": 0, "general.quantization_version": 2,
        "llama.vocab_size": h["vocab"], "llama.context_length": h["ctx"], "llama.embedding_length": h["dim"],
        "llama.block_count": h["layers"], "llama.feed_forward_length": h["hidden"],
        "llama.rope.dimension_count": h["head_dim"], "llama.rope.freq_base": 10000.0,
        "llama.attention.head_count": h["heads"], "llama.attention.head_count_kv": h["kv_heads"],
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": (g.STRING, tokens),
        "tokenizer.ggml.scores": (g.FLOAT32, scores), "tokenizer.ggml.token_type": (g.I32, types),
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 1,  # its stories are separated by the beginning-of-text token
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
    }

    def raw(a):
        return g.Raw(g.F32, a.shape, g.encode(g.F32, a))
    tensors = {"token_embd.weight": raw(t["embed"])}
    for n in range(h["layers"]):
        for role in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"):
            tensors[f"blk.{n}.{role}.weight"] = raw(t[role][n])
    tensors["output_norm.weight"] = raw(t["output_norm"])
    g.write_gguf(out, meta, tensors)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
