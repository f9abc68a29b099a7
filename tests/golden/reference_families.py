# SPDX-License-Identifier: MIT
"""The reference of the other decoder families: float64 numpy logits from Hugging Face folders.

Written from the published descriptions of the models; it shares nothing with the engine. model_type: llama, qwen2, qwen3,
qwen2_moe, qwen3_moe, gemma2, gemma3_text, phi3, smollm3, starcoder2, gpt2 (and, for the encoders, gemma3_text with
attention in both directions). Every stored value is decoded first; nothing is rounded on the way.

Shapes: T tokens, E embedding, H query heads, G key/value heads, D head size, N experts, F hidden width, V vocabulary.
A matrix [out, in] maps rows x [T, in] to [T, out].
"""
import json
import math
import os
from dataclasses import dataclass, field

import numpy as np

import gguf_mini as g


@dataclass
class Net:
    n_head: int
    n_kv: int
    head_dim: int
    eps: float
    activation: str                         # silu, gelu (exact), gelu_tanh
    norm: str = "rms"                       # rms, layer
    causal: bool = True
    score_scale: float = 0.0                # 0: 1/sqrt(D)
    score_cap: float = 0.0                  # 0: none
    logit_cap: float = 0.0
    embed_scale: float = 1.0
    n_used: int = 0                         # experts per token
    renormalise: bool = False               # shares of the chosen experts sum to one
    embed: np.ndarray = None                # [V, E]
    positions: np.ndarray = None            # [P, E], learned, added to the embedding
    head: np.ndarray = None                 # [V, E]
    final: dict = field(default_factory=dict)
    layers: list = field(default_factory=list)      # role -> array
    rope: list = field(default_factory=list)        # per layer: function T -> (radians per position [R/2], factor), or None
    window: list = field(default_factory=list)      # per layer: keys a query may see, itself included; 0: all


# ---- pieces ---------------------------------------------------------------------------------------------------------


def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


def activate(x, kind):
    if kind == "silu":
        return x / (1 + np.exp(-x))
    if kind == "gelu":
        return 0.5 * x * (1 + erf(x / np.sqrt(2)))
    if kind == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))
    raise ValueError(f"activation {kind}")


def normalise(x, p, role, kind, eps):
    if kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * p[role] + p.get(role + ".bias", 0.0)


def linear(p, role, x):
    return x @ p[role].T + p.get(role + ".bias", 0.0)


def rotate(x, omega, factor):
    """x [T, heads, D]; the first 2*len(omega) elements of a head turn, their two halves being the pairs."""
    n = len(omega)
    angle = np.arange(len(x))[:, None, None] * omega
    c, s = np.cos(angle) * factor, np.sin(angle) * factor
    a, b, rest = x[..., :n], x[..., n:2 * n], x[..., 2 * n:]
    return np.concatenate([a * c - b * s, b * c + a * s, rest], axis=-1)


def attention(q, k, v, net, window):
    n_tok, n_head, dim = q.shape
    k, v = (np.repeat(z, n_head // z.shape[1], axis=1) for z in (k, v))
    s = np.einsum("ihd,jhd->hij", q, k) * (net.score_scale or 1 / np.sqrt(dim))
    if net.score_cap:
        s = net.score_cap * np.tanh(s / net.score_cap)
    i, j = np.arange(n_tok)[:, None], np.arange(n_tok)[None, :]
    seen = (j <= i) if net.causal else np.ones((n_tok, n_tok), bool)
    if window:
        seen = seen & (np.abs(i - j) < window)
    s = np.where(seen, s, -np.inf)
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.einsum("hij,jhd->ihd", p, v).reshape(n_tok, -1)


def feed_forward(p, h, kind):
    if "gate" in p:
        return linear(p, "down", activate(linear(p, "gate", h), kind) * linear(p, "up", h))
    return linear(p, "down", activate(linear(p, "up", h), kind))


def mixture(p, h, net, note):
    """Softmax over all experts, then the best; their shares as they are or made to sum to one. A shared expert, if there is one,
    always runs, weighed by a sigmoid of its own."""
    scores = h @ p["router"].T
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :net.n_used]
    note("chosen", order)
    picked = np.take_along_axis(share, order, axis=1)
    if net.renormalise:
        picked /= picked.sum(axis=1, keepdims=True)
    out = np.zeros_like(h)
    for t in range(len(h)):
        for weight, e in zip(picked[t], order[t]):
            out[t] += weight * feed_forward({r: p["experts"][r][e] for r in ("gate", "up", "down")}, h[t:t + 1], net.activation)[0]
    if "shared_gate" in p:
        out += feed_forward(p["shared"], h, net.activation) / (1 + np.exp(-h @ p["shared_gate"].T))
    return out


def layer_step(net, p, x, rope, window, note):
    n_tok = len(x)
    h = normalise(x, p, "attn_norm", net.norm, net.eps)
    q, k, v = (linear(p, r, h).reshape(n_tok, -1, net.head_dim) for r in "qkv")
    if "q_norm" in p:
        q, k = normalise(q, p, "q_norm", "rms", net.eps), normalise(k, p, "k_norm", "rms", net.eps)
    if rope is not None:
        q, k = rotate(q, *rope(n_tok)), rotate(k, *rope(n_tok))
    a = linear(p, "o", attention(q, k, v, net, window))
    if "post_attn_norm" in p:
        a = normalise(a, p, "post_attn_norm", net.norm, net.eps)
    x = x + a
    h = normalise(x, p, "ffn_norm", net.norm, net.eps)
    f = mixture(p, h, net, note) if "router" in p else feed_forward(p, h, net.activation)
    if "post_ffn_norm" in p:
        f = normalise(f, p, "post_ffn_norm", net.norm, net.eps)
    return x + f


def hidden(net, ids, trace=None):
    """[T, E] after the final norm."""
    x = net.embed[np.asarray(ids)] * net.embed_scale
    if net.positions is not None:
        x = x + net.positions[:len(ids)]
    for n, p in enumerate(net.layers):
        def note(name, value):
            if trace is not None:
                trace[f"l{n}.{name}"] = value
        x = layer_step(net, p, x, net.rope[n], net.window[n], note)
    return normalise(x, net.final, "norm", net.norm, net.eps)


def forward(net, ids, trace=None):
    logits = hidden(net, ids, trace) @ net.head.T
    return net.logit_cap * np.tanh(logits / net.logit_cap) if net.logit_cap else logits


# ---- RoPE -----------------------------------------------------------------------------------------------------------


def yarn(r, dim, theta):
    def bound(turns):
        return dim / 2 * np.log(r["original_max_position_embeddings"] / (turns * 2 * np.pi)) / np.log(theta)
    low, high = bound(r.get("beta_fast", 32.0)), bound(r.get("beta_slow", 1.0))
    if r.get("truncate", True):
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    i = np.arange(dim // 2)
    slow = np.clip((i - low) / (high - low if high > low else 0.001), 0, 1)
    plain = theta ** (-2.0 * i / dim)
    factor = r.get("attention_factor") or 0.1 * np.log(r["factor"]) + 1
    return plain * (1 - slow) + plain / r["factor"] * slow, factor


def llama3(r, omega):
    turns = r["original_max_position_embeddings"] * omega / (2 * np.pi)
    keep = np.clip((turns - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"]), 0, 1)
    return omega * keep + omega / r["factor"] * (1 - keep)


def rope_of(r, head_dim, c):
    """One rope_parameters entry -> function of the number of tokens."""
    theta, kind = r["rope_theta"], r.get("rope_type", "default")
    dim = int(head_dim * r.get("partial_rotary_factor", 1.0))
    omega = theta ** (-np.arange(0, dim, 2) / dim)
    if kind == "default":
        return lambda n: (omega, 1.0)
    if kind == "linear":
        return lambda n: (omega / r["factor"], 1.0)
    if kind == "llama3":
        return lambda n: (llama3(r, omega), 1.0)
    if kind == "yarn":
        return lambda n: yarn(r, dim, theta)
    if kind == "longrope":                  # one set of divisors for all positions, by the length of the whole sequence
        old = r.get("original_max_position_embeddings") or c["original_max_position_embeddings"]
        scale = r.get("factor") or c["max_position_embeddings"] / old
        factor = r.get("attention_factor") or (np.sqrt(1 + np.log(scale) / np.log(old)) if scale > 1 else 1.0)
        return lambda n: (omega / np.array(r["long_factor" if n > old else "short_factor"]), factor)
    raise ValueError(f"RoPE kind {kind}")


# ---- Hugging Face folders -------------------------------------------------------------------------------------------

COMMON = {"input_layernorm": "attn_norm", "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v",
          "self_attn.o_proj": "o", "self_attn.q_norm": "q_norm", "self_attn.k_norm": "k_norm",
          "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down",
          "mlp.c_fc": "up", "mlp.c_proj": "down", "mlp.gate": "router", "mlp.shared_expert_gate": "shared_gate",
          "self_attn.qkv_proj": "qkv", "mlp.gate_up_proj": "gate_up"}
GEMMA = COMMON | {"post_attention_layernorm": "post_attn_norm", "pre_feedforward_layernorm": "ffn_norm",
                  "post_feedforward_layernorm": "post_ffn_norm"}
GPT2 = {"ln_1": "attn_norm", "attn.c_attn": "qkv", "attn.c_proj": "o", "ln_2": "ffn_norm", "mlp.c_fc": "up", "mlp.c_proj": "down"}
ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}


def tensors(folder):
    out = {}
    for name, (dtype, a) in g.read_safetensors(os.path.join(folder, "model.safetensors")).items():
        out[name] = (g.bf16_to_f32(a) if dtype == "BF16" else a).astype(np.float64)
    return out


def config(folder):
    with open(os.path.join(folder, "config.json")) as f:
        return json.load(f)


def read_layer(st, prefix, roles, c):
    p = {}
    for hf, role in roles.items():
        for kind, suffix in (("weight", ""), ("bias", ".bias")):
            if f"{prefix}{hf}.{kind}" in st:
                p[role + suffix] = st[f"{prefix}{hf}.{kind}"]
    if c["model_type"] == "gpt2":           # stored [in, out]
        p |= {r: p[r].T for r in ("qkv", "o", "up", "down")}
    if prefix + "mlp.experts.0.up_proj.weight" in st:
        n_expert = c.get("num_experts") or c["num_local_experts"]           # the name changed between releases
        p["experts"] = {r: [st[f"{prefix}mlp.experts.{e}.{r}_proj.weight"] for e in range(n_expert)]
                        for r in ("gate", "up", "down")}
    if "shared_gate" in p:
        p["shared"] = {r: st[f"{prefix}mlp.shared_expert.{r}_proj.weight"] for r in ("gate", "up", "down")}
    if c["model_type"].startswith("gemma"):         # gains are stored less one
        p |= {r: p[r] + 1 for r in p if r.endswith("norm")}
    return p


def split_fused(p, n_q, n_kv):
    """Rows of a fused projection: all queries, keys, values; all gates, then all ups."""
    cuts = [n_q, n_q + n_kv]
    for suffix in ("", ".bias"):
        if "qkv" + suffix in p:
            p |= dict(zip(("q" + suffix, "k" + suffix, "v" + suffix), np.split(p.pop("qkv" + suffix), cuts)))
        if "gate_up" + suffix in p:
            p |= dict(zip(("gate" + suffix, "up" + suffix), np.split(p.pop("gate_up" + suffix), 2)))


def windows(c, n_layer):
    kind, width = c["model_type"], c.get("sliding_window") or 0
    if c.get("use_bidirectional_attention"):
        width = width // 2 + 1              # each way, itself included
    if kind.startswith("gemma"):
        return [width if t == "sliding_attention" else 0 for t in c["layer_types"]]
    if kind.startswith(("qwen", "smollm3")) and not c.get("use_sliding_window"):
        width = 0
    return [width if kind in ("phi3", "starcoder2", "mistral", "qwen2") else 0] * n_layer


def ropes(c, n_layer, head_dim):
    if c["model_type"] == "gpt2":
        return [None] * n_layer
    r = c.get("rope_parameters")
    if "sliding_attention" in r:            # one base for windowed, one for full layers
        return [rope_of(r[t], head_dim, c) for t in c["layer_types"]]
    all_layers = rope_of(r, head_dim, c)
    used = c.get("no_rope_layers") or [1] * n_layer         # despite the name, 1 means rotated
    return [all_layers if u else None for u in used]


def load(folder):
    c, st = config(folder), tensors(folder)
    gpt2 = c["model_type"] == "gpt2"
    n_embd, n_head, n_layer = ((c["n_embd"], c["n_head"], c["n_layer"]) if gpt2 else
                               (c["hidden_size"], c["num_attention_heads"], c["num_hidden_layers"]))
    head_dim, n_kv = c.get("head_dim") or n_embd // n_head, c.get("num_key_value_heads") or n_head
    net = Net(n_head, n_kv, head_dim, c.get("rms_norm_eps") or c.get("norm_epsilon") or c.get("layer_norm_epsilon"),
              ACTIVATIONS[c.get("hidden_activation") or c.get("hidden_act") or c.get("activation_function")],
              norm="layer" if c["model_type"] in ("gpt2", "starcoder2") else "rms",
              causal=not c.get("use_bidirectional_attention"), n_used=c.get("num_experts_per_tok") or 0,
              renormalise=bool(c.get("norm_topk_prob")), rope=ropes(c, n_layer, head_dim), window=windows(c, n_layer))
    gemma = c["model_type"].startswith("gemma")
    if gemma:
        net.score_scale, net.embed_scale = c["query_pre_attn_scalar"] ** -0.5, n_embd ** 0.5
        net.score_cap, net.logit_cap = c.get("attn_logit_softcapping") or 0.0, c.get("final_logit_softcapping") or 0.0
    root = "transformer." if gpt2 else "model." if any(n.startswith("model.") for n in st) else ""
    net.embed = st[root + ("wte.weight" if gpt2 else "embed_tokens.weight")]
    net.positions = st.get(root + "wpe.weight")
    net.head = st.get("lm_head.weight", net.embed)
    norm = root + ("ln_f" if gpt2 else "norm")
    net.final = {"norm": st[norm + ".weight"] + (1 if gemma else 0)}
    if norm + ".bias" in st:
        net.final["norm.bias"] = st[norm + ".bias"]
    roles = GPT2 if gpt2 else GEMMA if gemma else COMMON
    for n in range(n_layer):
        p = read_layer(st, f"{root}{'h' if gpt2 else 'layers'}.{n}.", roles, c)
        split_fused(p, n_head * head_dim, n_kv * head_dim)
        net.layers.append(p)
    return net
