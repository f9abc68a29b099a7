# SPDX-License-Identifier: MIT
"""Model files of the BitNet decoder, written with NumPy: GGUF with I2_S matrices, and a Hugging Face
folder with packed safetensors. Both hold the same codes and scales, so Rotor's logits are the same.

A model here is a Shape and a dict of float32 arrays under the names of Hugging Face checkpoints
("model.layers.0.self_attn.q_proj.weight"); the seven projections of a layer are quantised on the way
out by absmean, everything else is stored as float32 (embed="F16" halves the embedding).
"""
import json
import os
import shutil
import struct
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Of a BitNet decoder; letters as in docs/shapes.md. d_head 0: n_embd / n_head."""
    n_vocab: int              # V
    n_embd: int               # D
    n_layer: int              # L
    n_head: int               # H
    n_head_kv: int            # K
    n_ff: int                 # F
    n_ctx: int                # T
    d_head: int = 0           # d
    rope_base: float = 500000.0
    eps: float = 1e-5

    @property
    def head(self):
        return self.d_head or self.n_embd // self.n_head


# In the order of the C trainer's flat vector: name in a checkpoint, name in GGUF.
LAYER = (("input_layernorm", "attn_norm"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
         ("self_attn.v_proj", "attn_v"), ("self_attn.attn_sub_norm", "attn_sub_norm"),
         ("self_attn.o_proj", "attn_output"), ("post_attention_layernorm", "ffn_norm"), ("mlp.gate_proj", "ffn_gate"),
         ("mlp.up_proj", "ffn_up"), ("mlp.ffn_sub_norm", "ffn_sub_norm"), ("mlp.down_proj", "ffn_down"))


def names(shape):
    """(checkpoint name, GGUF name, is it ternary) of every tensor, in the trainer's order."""
    yield "model.embed_tokens.weight", "token_embd.weight", False
    for n in range(shape.n_layer):
        for ours, gguf in LAYER:
            yield "model.layers.%d.%s.weight" % (n, ours), "blk.%d.%s.weight" % (n, gguf), ours.endswith("_proj")
    yield "model.norm.weight", "output_norm.weight", False


def sizes(shape):
    """Array shape of every tensor, in the same order."""
    s = shape
    q, kv = s.n_head * s.head, s.n_head_kv * s.head
    of = {"q_proj": (q, s.n_embd), "k_proj": (kv, s.n_embd), "v_proj": (kv, s.n_embd), "o_proj": (s.n_embd, q),
          "gate_proj": (s.n_ff, s.n_embd), "up_proj": (s.n_ff, s.n_embd), "down_proj": (s.n_embd, s.n_ff),
          "attn_sub_norm": (q,), "ffn_sub_norm": (s.n_ff,), "embed_tokens": (s.n_vocab, s.n_embd)}
    return [of.get(name.split(".")[-2], (s.n_embd,)) for name, _, _ in names(shape)]


def check(shape, arrays):
    missing = [name for name, _, _ in names(shape) if name not in arrays]
    if missing:
        raise ValueError("not a BitNet decoder of this shape: no %s" % missing[0])
    for (name, _, _), size in zip(names(shape), sizes(shape)):
        if tuple(arrays[name].shape) != size:
            raise ValueError("%s is %s, expected %s" % (name, tuple(arrays[name].shape), size))
        if not np.isfinite(arrays[name]).all():
            raise ValueError("%s holds a value that is not a number" % name)


def absmean(w):
    """Codes -1, 0, +1 (int8) and scale of float32 weights, as the library quantises them: the mean
    magnitude is summed in double; a quotient of exactly one half is 0."""
    w = np.ascontiguousarray(w, np.float32)
    a = max(np.float32(np.abs(w).sum(dtype=np.float64) / w.size), np.float32(1e-5))
    v = w * (np.float32(1) / a)
    return (v > 0.5).astype(np.int8) - (v < -0.5).astype(np.int8), float(a)


# ---- A vocabulary of bytes -------------------------------------------------------------------------------------------


def byte_tokens(n_vocab):
    """256 bytes as byte-level BPE spells them, fillers, and at the end the begin and end tokens."""
    if n_vocab < 258:
        raise ValueError("a vocabulary of %d has no room for 256 bytes and two control tokens: name a tokenizer" % n_vocab)
    shown = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    hidden = [b for b in range(256) if b not in shown]
    text = {**{b: chr(b) for b in shown}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}
    return ([text[b] for b in range(256)] + ["<|unused_%d|>" % i for i in range(n_vocab - 258)] +
            ["<|begin_of_text|>", "<|end_of_text|>"])


# ---- GGUF ------------------------------------------------------------------------------------------------------------

F32, F16, I2_S = 0, 1, 36
KINDS = {"u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<?"), "str": (8, None)}
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALIGN = 32


def text_bytes(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value_bytes(kind, value):
    """Type and value; a list is an array of the kind."""
    number, form = KINDS[kind]
    one = text_bytes if form is None else lambda v: struct.pack(form, v)
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, number, len(value)) + b"".join(map(one, value))
    return struct.pack("<I", number) + one(value)


def i2s_bytes(codes, scale):
    """Blocks of 128 values in 32 bytes, the first quarter of a block in the highest bits; then the
    scale and padding to 32 bytes."""
    if codes.size % 128:
        raise ValueError("I2_S packs 128 values together, and %d x %d is no multiple of it: export a folder instead" %
                         codes.shape)
    quarters = (codes.reshape(-1, 4, 32) + 1).astype(np.uint8)
    packed = quarters[:, 0] << 6 | quarters[:, 1] << 4 | quarters[:, 2] << 2 | quarters[:, 3]
    return packed.tobytes() + struct.pack("<f", scale) + bytes(28)


def tokenizer_entries(path):
    """The tokenizer.* entries of a GGUF file as they stand there: {key: type and value in bytes}."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:4] != b"GGUF":
        raise ValueError("%s is no GGUF file" % path)
    at, found = 24, {}

    def word(form):
        nonlocal at
        at += struct.calcsize(form)
        return struct.unpack_from(form, data, at - struct.calcsize(form))[0]

    def skip(kind):
        nonlocal at
        if kind == 8:
            n = word("<Q")
            at += n
        elif kind == 9:
            kind, n = word("<I"), word("<Q")
            if kind in SCALARS:
                at += n * SCALARS[kind]
            else:
                for _ in range(n):
                    skip(kind)
        else:
            at += SCALARS[kind]
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        n = word("<Q")
        key = data[at:at + n].decode()
        at += n
        begin = at
        skip(word("<I"))
        if key.startswith("tokenizer."):
            found[key] = data[begin:at]
    return found


def tokenizer_of(shape, tokenizer):
    if tokenizer is not None:
        return tokenizer_entries(tokenizer)
    tokens = byte_tokens(shape.n_vocab)
    types = [3 if t.startswith("<|") else 1 for t in tokens]
    entries = {"model": ("str", "gpt2"), "pre": ("str", "gpt-2"), "tokens": ("str", tokens), "token_type": ("i32", types),
               "merges": ("str", []), "bos_token_id": ("u32", shape.n_vocab - 2), "eos_token_id": ("u32", shape.n_vocab - 1),
               "add_bos_token": ("bool", True)}
    return {"tokenizer.ggml." + key: value_bytes(*entry) for key, entry in entries.items()}


def write_gguf(path, shape, arrays, tokenizer=None, name="ternary", embed="F32"):
    """tokenizer: a GGUF file whose vocabulary is copied; None: bytes."""
    check(shape, arrays)
    a, s = "bitnet-b1.58.", shape
    meta = {"general.architecture": ("str", "bitnet-b1.58"), "general.name": ("str", name),
            "general.file_type": ("u32", 40), "general.quantization_version": ("u32", 2), a + "vocab_size": ("u32", s.n_vocab),
            a + "context_length": ("u32", s.n_ctx), a + "embedding_length": ("u32", s.n_embd),
            a + "block_count": ("u32", s.n_layer), a + "feed_forward_length": ("u32", s.n_ff),
            a + "rope.dimension_count": ("u32", s.head), a + "rope.freq_base": ("f32", s.rope_base),
            a + "attention.head_count": ("u32", s.n_head), a + "attention.head_count_kv": ("u32", s.n_head_kv),
            a + "attention.key_length": ("u32", s.head), a + "attention.value_length": ("u32", s.head),
            a + "attention.layer_norm_rms_epsilon": ("f32", s.eps)}
    meta = {key: value_bytes(*entry) for key, entry in meta.items()}
    meta.update(tokenizer_of(shape, tokenizer))
    infos, bodies, offset = [], [], 0
    for key, gguf, ternary in names(shape):
        w = np.ascontiguousarray(arrays[key], np.float32)
        if ternary:
            kind, body = I2_S, i2s_bytes(*absmean(w))
        elif key == "model.embed_tokens.weight" and embed == "F16":
            kind, body = F16, w.astype("<f2").tobytes()
        else:
            kind, body = F32, w.astype("<f4").tobytes()
        dims = w.shape[::-1]
        infos.append(text_bytes(gguf) + struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, kind, offset))
        bodies.append(body + bytes(-len(body) % ALIGN))
        offset += len(bodies[-1])
    head = b"".join([b"GGUF", struct.pack("<IQQ", 3, len(infos), len(meta)),
                     *[text_bytes(key) + entry for key, entry in meta.items()], *infos])
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN))
        f.writelines(bodies)


# ---- Hugging Face folder ---------------------------------------------------------------------------------------------


def pack_rows(codes):
    """[out, in] to bytes [ceil(out / 4), in]: row r in bits 2(r div n) of byte row r mod n."""
    n = -(-len(codes) // 4)
    rows = np.zeros((4 * n, codes.shape[1]), np.uint8)
    rows[:len(codes)] = codes + 1
    f = rows.reshape(4, n, -1)
    return f[0] | f[1] << 2 | f[2] << 4 | f[3] << 6


def byte_tokenizer_json(n_vocab):
    tokens = byte_tokens(n_vocab)
    bos = tokens[-2]
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, t in enumerate(tokens) if i >= 256]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    sequence = [{"Sequence": {"id": i, "type_id": n}} for n, i in enumerate("AB")]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": level, "decoder": level,
            "post_processor": {"type": "TemplateProcessing", "single": [first, sequence[0]], "pair": [first, *sequence],
                               "special_tokens": {bos: {"id": bos, "ids": [n_vocab - 2], "tokens": [bos]}}},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {t: i for i, t in enumerate(tokens[:256])}, "merges": []}}


def write_folder(path, shape, arrays, tokenizer=None, embed="F32"):
    """tokenizer: a tokenizer.json, or the folder it is in; None: bytes."""
    check(shape, arrays)
    os.makedirs(path, exist_ok=True)
    s, tensors = shape, {}
    for key, _, ternary in names(shape):
        w = np.ascontiguousarray(arrays[key], np.float32)
        if ternary:
            codes, scale = absmean(w)
            tensors[key] = ("U8", pack_rows(codes))
            tensors[key + "_scale"] = ("F32", np.array([scale], "<f4"))
        elif key == "model.embed_tokens.weight" and embed == "F16":
            tensors[key] = ("F16", w.astype("<f2"))
        else:
            tensors[key] = ("F32", w.astype("<f4"))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for key, (kind, a) in tensors.items():
        header[key] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(path, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        f.writelines(a.tobytes() for _, a in tensors.values())
    config = {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "vocab_size": s.n_vocab,
              "hidden_size": s.n_embd, "intermediate_size": s.n_ff, "num_hidden_layers": s.n_layer,
              "num_attention_heads": s.n_head, "num_key_value_heads": s.n_head_kv, "head_dim": s.head,
              "max_position_embeddings": s.n_ctx, "rms_norm_eps": s.eps, "rope_theta": s.rope_base,
              "tie_word_embeddings": True, "attention_bias": False, "bos_token_id": s.n_vocab - 2,
              "eos_token_id": s.n_vocab - 1, "torch_dtype": "float32",
              "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
                                      "modules_to_not_convert": None}}
    if tokenizer is not None:
        del config["bos_token_id"], config["eos_token_id"]
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    where = os.path.join(path, "tokenizer.json")
    if tokenizer is None:
        with open(where, "w") as f:
            json.dump(byte_tokenizer_json(s.n_vocab), f)
    else:
        shutil.copy(os.path.join(tokenizer, "tokenizer.json") if os.path.isdir(tokenizer) else tokenizer, where)
