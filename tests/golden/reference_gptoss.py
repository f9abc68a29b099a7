# SPDX-License-Identifier: MIT
"""The reference of gpt-oss: float64 numpy, written from the published description, sharing nothing with the engine.

It reads Hugging Face folders (experts in floats as `transformers` saves them, or as MXFP4 blocks and scales), GGUF files of
architecture `gpt-oss` and the older `gptoss`. Every stored value is decoded first; nothing is rounded on the way.

Shapes: T tokens, E embedding, H query heads, G key/value heads, D head size, N experts, F width of an expert, V vocabulary.
A matrix [out, in] maps rows x [T, in] to [T, out]; expert matrices are [N, out, in].

usage: reference_gptoss.py MODEL --tokens 1,2,3 -o F.npy
"""
import argparse
import json
import os
from dataclasses import dataclass, field

import numpy as np

import gguf_mini as g

ALPHA, LIMIT = 1.702, 7.0


@dataclass
class Yarn:
    theta: float = 150000.0
    factor: float = 32.0
    original: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = False                  # round the two bounds outwards, as GGML does

    def frequencies(self, dim):
        """-> radians per position [D/2] and the factor on cos and sin."""
        def bound(turns):
            return dim / 2 * np.log(self.original / (turns * 2 * np.pi)) / np.log(self.theta)
        low, high = bound(self.beta_fast), bound(self.beta_slow)
        if self.truncate:
            low, high = np.floor(low), np.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        i = np.arange(dim // 2)
        slow = np.clip((i - low) / (high - low if high > low else 0.001), 0, 1)
        plain = self.theta ** (-2.0 * i / dim)
        return plain * (1 - slow) + plain / self.factor * slow, 0.1 * np.log(self.factor) + 1


@dataclass
class Model:
    n_head: int
    n_kv: int
    head_dim: int
    n_used: int
    eps: float
    window: int
    yarn: Yarn
    period: int = 2                         # the first layer of every so many is windowed
    embed: np.ndarray = None                # [V, E]
    head: np.ndarray = None                 # [V, E]
    final_norm: np.ndarray = None           # [E]
    layers: list = field(default_factory=list)


def rms_norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * gain


def rotate(x, omega, factor):
    """x [T, heads, D]: halves of a head are the pairs."""
    angle = np.arange(len(x))[:, None, None] * omega
    c, s = np.cos(angle) * factor, np.sin(angle) * factor
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)


def attention(q, k, v, sinks, window):
    """-> [T, H*D] and the weight that went into the sinks [H, T]."""
    n_tok, n_head, dim = q.shape
    k, v = (np.repeat(z, n_head // z.shape[1], axis=1) for z in (k, v))
    i, j = np.arange(n_tok)[:, None], np.arange(n_tok)[None, :]
    hidden = (j > i) | ((i - j >= window) if window else False)
    scores = np.where(hidden, -np.inf, np.einsum("ihd,jhd->hij", q, k) / np.sqrt(dim))
    top = np.maximum(scores.max(axis=-1), sinks[:, None])
    w, sink = np.exp(scores - top[..., None]), np.exp(sinks[:, None] - top)
    total = w.sum(axis=-1) + sink
    return np.einsum("hij,jhd->ihd", w / total[..., None], v).reshape(n_tok, -1), sink / total


def experts(layer, h, n_used, note):
    """The mixture of one layer: h [T, E] -> [T, E]."""
    scores = h @ layer["router"].T + layer["router.bias"]
    order = np.argsort(-scores, axis=1, kind="stable")                       # ties: the lower number first
    note("chosen", order[:, :n_used])
    ranked = np.take_along_axis(scores, order, axis=1)
    note("gap", ranked[:, n_used - 1] - ranked[:, n_used])
    p = np.exp(ranked[:, :n_used] - ranked[:, :1])
    p /= p.sum(axis=1, keepdims=True)
    out, clipped = np.zeros_like(h), []
    for e in range(scores.shape[1]):
        t, place = np.nonzero(order[:, :n_used] == e)
        gate = h[t] @ layer["gate"][e].T + layer["gate.bias"][e]
        up = h[t] @ layer["up"][e].T + layer["up.bias"][e]
        clipped += [[(a > LIMIT).mean(), (np.abs(b) > LIMIT).mean()] for a, b in zip(gate, up)]
        gate, up = np.minimum(gate, LIMIT), np.clip(up, -LIMIT, LIMIT)
        a = gate / (1 + np.exp(-ALPHA * gate)) * (up + 1)
        out[t] += p[t, place, None] * (a @ layer["down"][e].T + layer["down.bias"][e])
    note("clipped", np.mean(clipped, axis=0))
    return out


def forward(m, ids, trace=None):
    """Logits [T, V]; with a dict as trace, what each layer chose and more under "l<layer>.<name>"."""
    n_tok = len(ids)
    x = m.embed[np.asarray(ids)]
    omega, factor = m.yarn.frequencies(m.head_dim)
    for n, layer in enumerate(m.layers):
        def note(name, value):
            if trace is not None:
                trace[f"l{n}.{name}"] = value
        h = rms_norm(x, layer["attn_norm"], m.eps)
        q, k, v = ((h @ layer[r].T + layer[r + ".bias"]).reshape(n_tok, -1, m.head_dim) for r in ("q", "k", "v"))
        q, k = rotate(q, omega, factor), rotate(k, omega, factor)
        a, lost = attention(q, k, v, layer["sinks"], m.window if n % m.period == 0 else 0)
        note("lost", lost)
        x = x + a @ layer["o"].T + layer["o.bias"]
        x = x + experts(layer, rms_norm(x, layer["ffn_norm"], m.eps), m.n_used, note)
        note("out", x)
    return rms_norm(x, m.final_norm, m.eps) @ m.head.T


def chosen(trace):
    """[layers, T, experts used], strongest first."""
    return np.stack([trace[f"l{n}.chosen"] for n in range(sum(k.endswith(".chosen") for k in trace))])


# ---- Hugging Face folders -------------------------------------------------------------------------------------------


def hf_values(entry):
    dtype, a = entry
    return (g.bf16_to_f32(a) if dtype == "BF16" else a).astype(np.float64)


def hf_expert_matrix(st, name):
    """-> [N, out, in]. Floats are stored [N, in, out]; blocks [N, out, in/32, 16], two neighbours in a byte, low nibble first."""
    if name in st:
        return hf_values(st[name]).swapaxes(1, 2)
    blocks, scales = st[name + "_blocks"][1], st[name + "_scales"][1]
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:2], -1)
    return g.mxfp4_values(codes, scales)


def hf_yarn(c):
    r = c.get("rope_parameters") or c["rope_scaling"]
    return Yarn(r.get("rope_theta", c.get("rope_theta")), r["factor"], r["original_max_position_embeddings"],
                r.get("beta_fast", 32.0), r.get("beta_slow", 1.0), r.get("truncate", True))


def load_hf(folder):
    with open(os.path.join(folder, "config.json")) as f:
        c = json.load(f)
    st = g.read_safetensors(os.path.join(folder, "model.safetensors"))
    m = Model(c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["num_experts_per_tok"], c["rms_norm_eps"],
              c["sliding_window"], hf_yarn(c))
    m.embed, m.head, m.final_norm = (hf_values(st[n + ".weight"]) for n in ("model.embed_tokens", "lm_head", "model.norm"))
    for n in range(c["num_hidden_layers"]):
        p = f"model.layers.{n}."
        layer = {"attn_norm": hf_values(st[p + "input_layernorm.weight"]),
                 "ffn_norm": hf_values(st[p + "post_attention_layernorm.weight"]),
                 "sinks": hf_values(st[p + "self_attn.sinks"])}
        for role, name in {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
                           "router": "mlp.router"}.items():
            layer[role], layer[role + ".bias"] = hf_values(st[p + name + ".weight"]), hf_values(st[p + name + ".bias"])
        both = hf_expert_matrix(st, p + "mlp.experts.gate_up_proj")
        bias = hf_values(st[p + "mlp.experts.gate_up_proj_bias"])
        layer |= {"gate": both[:, ::2], "up": both[:, 1::2], "gate.bias": bias[:, ::2], "up.bias": bias[:, 1::2],
                  "down": hf_expert_matrix(st, p + "mlp.experts.down_proj"),
                  "down.bias": hf_values(st[p + "mlp.experts.down_proj_bias"])}
        m.layers.append(layer)
    return m


# ---- GGUF -----------------------------------------------------------------------------------------------------------

OLD_NAMES = {"attn_out": "attn_output", "ffn_norm": "post_attention_norm", "attn_sinks": "attn_sinks"}
GGUF_ROLES = {"attn_norm": "attn_norm", "post_attention_norm": "ffn_norm", "attn_sinks": "sinks", "attn_q": "q", "attn_k": "k",
              "attn_v": "v", "attn_output": "o", "ffn_gate_inp": "router", "ffn_gate_exps": "gate", "ffn_up_exps": "up",
              "ffn_down_exps": "down"}


def gguf_values(raw):
    if raw.type == g.MXFP4:
        return g.mxfp4_values(*g.decode_mxfp4(raw.data, raw.shape))
    if raw.type == g.Q8_0:
        q, d = g.blocks_q8_0(raw.data, int(np.prod(raw.shape[:-1])), raw.shape[-1])
        return (q * np.repeat(d, 32, axis=1)).reshape(raw.shape)
    if raw.type == g.BF16:
        return g.bf16_to_f32(np.frombuffer(raw.data, "<u2")).astype(np.float64).reshape(raw.shape)
    return np.frombuffer(raw.data, {g.F32: "<f4", g.F16: "<f2"}[raw.type]).astype(np.float64).reshape(raw.shape)


def load_gguf(path):
    meta, raw = g.read_gguf(path)
    arch = meta["general.architecture"]

    def key(name, default=None):
        return meta.get(f"{arch}.{name}", default)
    yarn = Yarn(key("rope.freq_base"), key("rope.scaling.factor", 32.0), key("rope.scaling.original_context_length", 4096),
                key("rope.scaling.yarn_beta_fast", 32.0), key("rope.scaling.yarn_beta_slow", 1.0))
    m = Model(key("attention.head_count"), key("attention.head_count_kv"), key("attention.key_length"), key("expert_used_count"),
              key("attention.layer_norm_rms_epsilon"), key("attention.sliding_window"), yarn)
    m.embed, m.head, m.final_norm = (gguf_values(raw[n + ".weight"]) for n in ("token_embd", "output", "output_norm"))
    for n in range(key("block_count")):
        layer, prefix = {}, f"blk.{n}."
        for name in (k for k in raw if k.startswith(prefix)):
            role, _, kind = name[len(prefix):].partition(".")
            role = GGUF_ROLES[OLD_NAMES.get(role, role) if arch == "gptoss" else role]
            layer[role + ".bias" if kind == "bias" else role] = gguf_values(raw[name])
        m.layers.append(layer)
    return m


def load(path):
    return load_hf(path) if os.path.isdir(path) else load_gguf(path)


def main():
    p = argparse.ArgumentParser(description="float64 logits of a small gpt-oss")
    p.add_argument("model")
    p.add_argument("--tokens", required=True)
    p.add_argument("-o", required=True)
    a = p.parse_args()
    np.save(a.o, forward(load(a.model), [int(t) for t in a.tokens.split(",")]).astype(np.float32))


if __name__ == "__main__":
    main()
