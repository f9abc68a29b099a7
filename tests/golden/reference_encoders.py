# SPDX-License-Identifier: MIT
"""The reference of the embedding models: one vector of length one for each list of ids, in float64 numpy.

Written from the published descriptions; it shares nothing with the engine. Folders: bert, nomic_bert, qwen3 (decoder whose last
token speaks for the text), gemma3_text with attention in both directions followed by dense layers; how to pool is read from the
sentence-transformers files beside the model. GGUF files: the BitNet embedding models, i.e. qwen3 or gemma3 whose projections
are ternary and have a norm of their own on their input.

Shapes: T tokens, E embedding, H heads, D head size, F hidden width.
"""
import json
import os
from dataclasses import dataclass, field

import numpy as np

import gguf_mini as g
import reference
import reference_families as rf


def unit(v):
    return v / np.linalg.norm(v)


def pool(h, how):
    """[T, E] -> [E]"""
    return {"mean": h.mean(axis=0), "cls": h[0], "last": h[-1]}[how]


# ---- encoders with the norm after the sum ---------------------------------------------------------------------------


@dataclass
class Encoder:
    """Learned positions or rotation; every token sees every other."""
    n_head: int
    eps: float
    activation: str
    embed: np.ndarray
    types: np.ndarray                       # [2, E]; of a text, and of the second of a pair
    positions: np.ndarray = None            # [P, E]
    theta: float = 0.0                      # base of the rotation, 0: none
    first: dict = field(default_factory=dict)       # the norm of the embedding
    layers: list = field(default_factory=list)


def encode(m, ids, types=None):
    """[T, E]; types: of each token, else all of the first"""
    x = m.embed[np.asarray(ids)] + m.types[np.asarray(types or [0])]
    if m.positions is not None:
        x = x + m.positions[:len(ids)]
    x = rf.normalise(x, m.first, "norm", "layer", m.eps)
    dim = x.shape[1] // m.n_head
    net = rf.Net(m.n_head, m.n_head, dim, m.eps, m.activation, causal=False)
    for p in m.layers:
        q, k, v = (rf.linear(p, r, x).reshape(len(ids), m.n_head, dim) for r in "qkv")
        if m.theta:
            omega = m.theta ** (-np.arange(0, dim, 2) / dim)
            q, k = rf.rotate(q, omega, 1.0), rf.rotate(k, omega, 1.0)
        x = rf.normalise(x + rf.linear(p, "o", rf.attention(q, k, v, net, 0)), p, "attn_norm", "layer", m.eps)
        x = rf.normalise(x + rf.feed_forward(p, x, m.activation), p, "ffn_norm", "layer", m.eps)
    return x


BERT = {"attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v", "attention.output.dense": "o",
        "attention.output.LayerNorm": "attn_norm", "intermediate.dense": "up", "output.dense": "down", "output.LayerNorm": "ffn_norm"}
NOMIC = {"attn.Wqkv": "qkv", "attn.out_proj": "o", "norm1": "attn_norm", "mlp.fc11": "up", "mlp.fc12": "gate", "mlp.fc2": "down",
         "norm2": "ffn_norm"}


def load_encoder(folder):
    c, st = rf.config(folder), {k.removeprefix("bert."): v for k, v in rf.tensors(folder).items()}
    nomic = c["model_type"] == "nomic_bert"
    m = Encoder(c["num_attention_heads"], c["layer_norm_eps"], rf.ACTIVATIONS[c["hidden_act"]],
                st["embeddings.word_embeddings.weight"], st["embeddings.token_type_embeddings.weight"])
    if nomic:
        m.theta = c["rope_parameters"]["rope_theta"]
    else:
        m.positions = st["embeddings.position_embeddings.weight"]
    norm = "emb_ln" if nomic else "embeddings.LayerNorm"
    m.first = {"norm": st[norm + ".weight"], "norm.bias": st[norm + ".bias"]}
    for n in range(c["num_hidden_layers"]):
        p = rf.read_layer(st, f"encoder.layer{'s' if nomic else ''}.{n}.", NOMIC if nomic else BERT, c)
        rf.split_fused(p, c["hidden_size"], c["hidden_size"])
        m.layers.append(p)
    return m


# ---- cross-encoders --------------------------------------------------------------------------------------------------


def scores(folder, pairs):
    """[N] for N pairs of (ids, types): the classifier of the first token."""
    m, st = load_encoder(folder), rf.tensors(folder)

    def layer(name, x):
        return st[name + ".weight"] @ x + st[name + ".bias"]
    return np.array([layer("classifier", np.tanh(layer("bert.pooler.dense", encode(m, ids, types)[0])))[0] for ids, types in pairs])


# ---- sentence-transformers folders ----------------------------------------------------------------------------------


def pooling(folder):
    """-> how to pool, [dense matrices [out, in]] that follow."""
    how, dense = None, []
    with open(os.path.join(folder, "modules.json")) as f:
        modules = json.load(f)
    for m in sorted(modules, key=lambda m: m["idx"]):
        path = os.path.join(folder, m["path"])
        if m["type"].endswith("Pooling"):
            with open(os.path.join(path, "config.json")) as f:
                c = json.load(f)
            how = next(h for h, key in (("cls", "pooling_mode_cls_token"), ("mean", "pooling_mode_mean_tokens"),
                                        ("last", "pooling_mode_lasttoken")) if c[key])
        elif m["type"].endswith("Dense"):
            dense.append(rf.tensors(path)["linear.weight"])
    return how, dense


def vectors(folder, texts, how=None):
    """[N, E] for N lists of ids; how: pool this way instead of the folder's."""
    stored, dense = pooling(folder)
    out = []
    encoder = rf.config(folder)["model_type"] in ("bert", "nomic_bert")
    m = load_encoder(folder) if encoder else rf.load(folder)
    for ids in texts:
        v = pool(encode(m, ids) if encoder else rf.hidden(m, ids), how or stored)
        for w in dense:
            v = w @ v
        out.append(unit(v))
    return np.array(out)


# ---- ternary embedding models ---------------------------------------------------------------------------------------

ROLES = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down",
         "attn_norm": "attn_norm", "attn_q_norm": "q_norm", "attn_k_norm": "k_norm", "ffn_norm": "ffn_norm",
         "post_attention_norm": "post_attn_norm", "post_ffw_norm": "post_ffn_norm"}


def gains(raw):
    return np.frombuffer(raw.data, {g.F32: "<f4", g.F16: "<f2"}[raw.type]).astype(np.float64)


def load_bitnet(path):
    """Matrices are reference.Ternary; gains are stored as they are applied (gemma's one is already in them)."""
    meta, raw = g.read_gguf(path)
    arch = meta["general.architecture"]

    def key(name, default=None):
        return meta.get(f"{arch}.{name}", default)
    gemma = arch == "gemma3"
    dim = key("attention.key_length")
    net = rf.Net(key("attention.head_count"), key("attention.head_count_kv"), dim, key("attention.layer_norm_rms_epsilon"),
                 "gelu_tanh" if gemma else "silu")
    net.embed = reference.gguf_matrix(raw["token_embd.weight"]).w
    net.embed_scale = net.embed.shape[1] ** 0.5 if gemma else 1.0
    net.final = {"norm": gains(raw["output_norm.weight"])}
    for n in range(key("block_count")):
        full = not gemma or n % 6 == 5
        theta = key("rope.freq_base") if full else 10000.0
        omega = theta ** (-np.arange(0, dim, 2) / dim)
        net.rope.append(lambda count, omega=omega: (omega, 1.0))
        net.window.append(0 if full else key("attention.sliding_window", 0))
        p, prefix = {}, f"blk.{n}."
        for name in (k for k in raw if k.startswith(prefix)):
            role = name[len(prefix):].removesuffix(".weight")
            if role.endswith("_norm_in"):
                p[ROLES[role.removesuffix("_norm_in")] + ".norm"] = gains(raw[name])
            elif len(raw[name].shape) == 2:
                p[ROLES[role]] = reference.gguf_matrix(raw[name])
            else:
                p[ROLES[role]] = gains(raw[name])
        net.layers.append(p)
    return net


def bitnet_hidden(net, ids, act, trace):
    x = net.embed[np.asarray(ids)] * net.embed_scale
    n_tok = len(ids)
    for n, p in enumerate(net.layers):
        def project(role, v):
            v = reference.rms_norm(v, p[role + ".norm"], net.eps)
            return p[role].apply(v, act, lambda what, value: trace.__setitem__(f"l{n}.{role}.{what}", value))

        def norm(role, v):
            return reference.rms_norm(v, p[role], net.eps) if role in p else v
        h = norm("attn_norm", x)
        q, k, v = (project(r, h).reshape(n_tok, -1, net.head_dim) for r in "qkv")
        q, k = rf.rotate(norm("q_norm", q), *net.rope[n](n_tok)), rf.rotate(norm("k_norm", k), *net.rope[n](n_tok))
        x = x + norm("post_attn_norm", project("o", rf.attention(q, k, v, net, net.window[n])))
        h = norm("ffn_norm", x)
        f = rf.activate(project("gate", h), net.activation) * project("up", h)
        x = x + norm("post_ffn_norm", project("down", f))
    return reference.rms_norm(x, net.final["norm"], net.eps)


def bitnet_vectors(net, texts, act="q8", trace=None):
    """The last token speaks for the text."""
    return np.array([unit(bitnet_hidden(net, ids, act, {} if trace is None else trace)[-1]) for ids in texts])
