# SPDX-License-Identifier: MIT
"""The reference engine: logits of a small model in float64 numpy, readable top to bottom.

It shares no line with the C engine and was written from the published facts of the formats, so an error must be made twice
to go unseen. It reads GGUF files (architectures llama, bitnet, bitnet-25, bitnet-b1.58) and Hugging Face folders (llama,
mistral, qwen2, qwen3, bitnet; dense, ternary packed either way, ternary master weights). All arithmetic is float64 except
where the model itself rounds: int8 activation codes, their f32 block scales, and the stored weights.

act="q8"  ternary matrices: one int8 scale per token (absmax, floor 1e-5, ties to even), exact integer dot products;
          Q8_0 and Q4_0: int8 activations in blocks of 32; F32, F16, BF16: activations untouched.
act="f32" decoded weights times unrounded activations everywhere.

Shapes: T tokens, E embedding, H query heads, G key/value heads, D head size, F hidden width, V vocabulary.
A matrix [out, in] maps rows x [T, in] to [T, out].

usage: reference.py MODEL --tokens 1,2,3 -o F.npy [--act f32|q8]
"""
import argparse
import json
import os
from dataclasses import dataclass, field

import numpy as np

import gguf_mini as g

ACT_FLOOR = 1e-5        # smallest absmax of a token and smallest mean magnitude of a master matrix

# ---- activations to int8 --------------------------------------------------------------------------------------------


def quantise_token(x):
    """One scale per row: the row scaled to +-127, not yet rounded, and the factor that turns a code back into a value."""
    peak = np.maximum(np.abs(x).max(axis=-1, keepdims=True), ACT_FLOOR)
    return x * (127.0 / peak), peak / 127.0


def quantise_blocks(x):
    """One scale per 32 elements: scaled values [T, B, 32], not yet rounded, and scales [T, B] as f32. Blocks
    below 1e-30 count as zero and give 0s."""
    b = x.reshape(len(x), -1, 32)
    peak = np.abs(b).max(axis=-1)
    peak = np.where(peak > 1e-30, peak, 0)
    factor = np.divide(127.0, peak, out=np.zeros_like(peak), where=peak > 0)
    return b * factor[..., None], np.float32(peak / 127.0).astype(np.float64)


# ---- matrices -------------------------------------------------------------------------------------------------------


@dataclass
class Dense:
    """F32, F16 or BF16: w [out, in]."""
    w: np.ndarray

    def rows(self, ids):
        return self.w[ids]

    def decoded(self):
        return self.w

    def apply(self, x, act, note):
        return x @ self.w.T


@dataclass
class Ternary:
    """t [out, in] in {-1, 0, 1}; scale either one number, or one per row [out, 1] or block of 256 columns [out, in/256].
    Rows whose blocks disagree are no BitLinear any more: their activations are quantised in blocks, as for Q8_0."""
    t: np.ndarray
    scale: object

    def __post_init__(self):
        self.t = self.t.astype(np.float64)       # integers below 2^53: every dot product stays exact
        self.mixed = False
        if np.ndim(self.scale):
            used = self.t.reshape(*self.scale.shape, -1).any(axis=-1)
            top = np.where(used, self.scale, -np.inf).max(axis=1, keepdims=True)
            self.mixed = bool((used & (self.scale != top)).any())

    def rows(self, ids):
        return self.decoded()[ids]

    def decoded(self):
        if np.ndim(self.scale) == 0:
            return self.t * self.scale
        return self.t * np.repeat(self.scale, self.t.shape[1] // self.scale.shape[1], axis=1)

    def apply(self, x, act, note):
        if act == "f32":
            return x @ self.decoded().T
        if self.mixed:
            scaled, unit = quantise_blocks(x)
            note("scaled", scaled)
            return (np.rint(scaled) * unit[..., None]).reshape(x.shape) @ self.decoded().T
        scaled, unit = quantise_token(x)
        note("scaled", scaled)
        codes = np.rint(scaled)                  # ties to even; |scaled| <= 127, so nothing is left to clamp
        if np.ndim(self.scale) == 0:
            return (codes @ self.t.T) * (self.scale * unit)
        n_blocks = self.scale.shape[1]
        c = codes.reshape(len(x), n_blocks, -1)
        dots = np.einsum("tbk,obk->tbo", c, self.t.reshape(len(self.t), n_blocks, -1), optimize=True)
        return np.einsum("tbo,ob->to", dots, self.scale) * unit


@dataclass
class Blocks:
    """Q8_0 or Q4_0: integer q [out, in], d [out, in/32]."""
    q: np.ndarray
    d: np.ndarray

    def __post_init__(self):
        self.q = self.q.astype(np.float64)

    def rows(self, ids):
        return self.q[ids] * np.repeat(self.d[ids], 32, axis=1)

    def decoded(self):
        return self.rows(slice(None))

    def apply(self, x, act, note):
        if act == "f32":
            return x @ self.decoded().T
        scaled, unit = quantise_blocks(x)
        note("scaled", scaled)
        q = self.q.reshape(len(self.q), -1, 32)
        dots = np.einsum("tbk,obk->tbo", np.rint(scaled), q, optimize=True)
        return np.einsum("tbo,ob,tb->to", dots, self.d, unit, optimize=True)


def absmean(w):
    """Master weights to ternary: a = mean |W| over the whole matrix, t = round(W/a) clamped to -1..1."""
    a = max(np.abs(w).mean(), ACT_FLOOR)
    return Ternary(np.clip(np.rint(w / a), -1, 1).astype(np.int64), float(a))


def written_ternary(w):
    """Float weights of a converted ternary model: t times a constant (absmean would shrink the constant by the share of 0s)."""
    peak = np.abs(w).max()
    return Ternary(np.sign(w), float(peak)) if np.isin(np.abs(w), (0, peak)).all() else absmean(w)


def unpack_rows(packed):
    """Hugging Face's ternary bytes [out/4, in]: bits 2i..2i+1 of byte (r, c) hold row i*out/4 + r, as t + 1."""
    fields = np.concatenate([(packed >> s) & 3 for s in (0, 2, 4, 6)], axis=0)
    if (fields == 3).any():
        raise ValueError("packed ternary weights contain the illegal code 3")
    return fields.astype(np.int64) - 1


# ---- the model ------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    n_layer: int
    n_embd: int
    n_head: int
    n_kv: int
    head_dim: int
    n_vocab: int
    eps: float
    theta: float
    rope: str                                   # "half": pairs (i, i+D/2); "pairs": (2i, 2i+1)
    activation: str                             # "silu" or "relu2"
    rope_divisors: object = 1.0                 # [D/2], one per frequency
    window: int = 0                             # keys a query may see, itself included; 0 = all
    embed: object = None                        # matrix [V, E]
    head: object = None                         # matrix [V, E]; the embedding when tied
    final_norm: np.ndarray = None               # [E]
    layers: list = field(default_factory=list)  # dict role -> matrix or vector


def rms_norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * gain


def rope(x, theta, kind, positions=None, divisors=1.0):
    """x [T, heads, D], token t at position t unless positions [T] says otherwise; divisors [D/2] divide the frequencies."""
    n_tok, _, dim = x.shape
    at = np.arange(n_tok) if positions is None else np.asarray(positions)
    angle = at[:, None] * (theta ** (-np.arange(0, dim, 2) / dim) / divisors)       # [T, D/2]
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    out = np.empty_like(x)
    if kind == "half":
        first, second = slice(0, dim // 2), slice(dim // 2, dim)
    else:
        first, second = slice(0, dim, 2), slice(1, dim, 2)
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., first] * sin + x[..., second] * cos
    return out


def attention(q, k, v, window):
    """q [T, H, D], k and v [T, G, D] -> [T, H*D]; query head i reads key head i // (H/G)."""
    n_tok, n_head, dim = q.shape
    group = n_head // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(dim)
    i, j = np.arange(n_tok)[:, None], np.arange(n_tok)[None, :]
    hidden = (j > i) | ((i - j >= window) if window else False)
    scores = np.where(hidden, -np.inf, scores)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.einsum("hij,jhd->ihd", p, v).reshape(n_tok, -1)


def activate(x, kind):
    if kind == "silu":
        return x / (1 + np.exp(-x))
    if kind == "relu2":
        return np.maximum(x, 0) ** 2
    raise ValueError(f"activation {kind}")


def project(layer, role, x, act, note):
    """x @ W^T, times the optional one-element output scale, plus the optional bias."""
    y = layer[role].apply(x, act, lambda what, v: note(f"{role}.{what}", v))
    y = y * layer.get(role + ".scale", 1.0) + layer.get(role + ".bias", 0.0)
    note(role, y)
    return y


def forward(m, ids, act="q8", trace=None):
    """Logits [T, V]. With a dict as trace, every intermediate tensor is kept under "l<layer>.<op>"."""
    n_tok = len(ids)
    x = m.embed.rows(np.asarray(ids)).astype(np.float64)
    for n, layer in enumerate(m.layers):
        def note(name, value):
            if trace is not None:
                trace[f"l{n}.{name}"] = value

        def norm(role, v):
            y = rms_norm(v, layer[role], m.eps)
            note(role, y)
            return y
        note("in", x)
        h = norm("attn_norm", x)
        q = project(layer, "attn_q", h, act, note).reshape(n_tok, m.n_head, m.head_dim)
        k = project(layer, "attn_k", h, act, note).reshape(n_tok, m.n_kv, m.head_dim)
        v = project(layer, "attn_v", h, act, note).reshape(n_tok, m.n_kv, m.head_dim)
        if "attn_q_norm" in layer:
            q, k = norm("attn_q_norm", q), norm("attn_k_norm", k)
        q, k = (rope(z, m.theta, m.rope, divisors=m.rope_divisors) for z in (q, k))
        note("q_rope", q)
        note("k_rope", k)
        a = attention(q, k, v, m.window)
        note("attention", a)
        if "attn_sub_norm" in layer:
            a = norm("attn_sub_norm", a)
        x = x + project(layer, "attn_output", a, act, note)
        note("mid", x)
        h = norm("ffn_norm", x)
        f = activate(project(layer, "ffn_gate", h, act, note), m.activation) * project(layer, "ffn_up", h, act, note)
        note("ffn_hidden", f)
        if "ffn_sub_norm" in layer:
            f = norm("ffn_sub_norm", f)
        x = x + project(layer, "ffn_down", f, act, note)
        note("out", x)
    final = rms_norm(x, m.final_norm, m.eps)
    head_trace = {} if trace is None else trace
    head_trace["final_norm"] = final
    return m.head.apply(final, act, lambda what, value: head_trace.__setitem__(f"head.{what}", value))


def tie_distance(trace):
    """How near the nearest activation comes to a rounding tie, in code units. Engines that differ by less than this before
    every rounding agree on all int8 codes, and then their logits are as close as if nothing were rounded."""
    scaled = [v for k, v in trace.items() if k.endswith(".scaled")]
    return min((np.abs(np.abs(v - np.floor(v)) - 0.5).min() for v in scaled), default=0.5)


# ---- GGUF -----------------------------------------------------------------------------------------------------------

GGUF_ARCH = {"llama": ("pairs", "silu"), "bitnet": ("half", "silu"), "bitnet-25": ("half", "relu2"),
             "bitnet-b1.58": ("half", "relu2")}


def gguf_matrix(raw, i2s="x86"):
    rows, cols = raw.shape
    if raw.type == g.F32:
        return Dense(np.frombuffer(raw.data, "<f4").reshape(raw.shape).astype(np.float64))
    if raw.type == g.F16:
        return Dense(np.frombuffer(raw.data, "<f2").reshape(raw.shape).astype(np.float64))
    if raw.type == g.BF16:
        return Dense(g.bf16_to_f32(np.frombuffer(raw.data, "<u2")).reshape(raw.shape).astype(np.float64))
    if raw.type == g.Q8_0:
        return Blocks(*g.blocks_q8_0(raw.data, rows, cols))
    if raw.type == g.Q4_0:
        return Blocks(*g.blocks_q4_0(raw.data, rows, cols))
    if raw.type == g.I2_S:
        return Ternary(*g.decode_i2s(raw.data, rows, cols, i2s))
    decode = {g.TQ1_0: g.decode_tq1, g.TQ2_0: g.decode_tq2, g.IQ1_BN: g.decode_iq1_bn, g.IQ2_BN: g.decode_iq2_bn}[raw.type]
    return Ternary(*decode(raw.data, rows, cols))


def gguf_vector(raw):
    if raw.type != g.F32:
        raise ValueError("vectors are F32 in every file read here")
    return np.frombuffer(raw.data, "<f4").astype(np.float64)


def load_gguf(path, i2s="x86"):
    meta, raw = g.read_gguf(path)
    arch = meta["general.architecture"]
    if arch not in GGUF_ARCH:
        raise ValueError(f"{path}: architecture {arch}")
    if meta.get(f"{arch}.rope.scaling.type", "none") != "none":
        raise ValueError(f"{path}: RoPE scaling is not written here")

    def key(name, default=None):
        return meta.get(f"{arch}.{name}", default)
    n_embd, n_head = key("embedding_length"), key("attention.head_count")
    m = Model(n_layer=key("block_count"), n_embd=n_embd, n_head=n_head, n_kv=key("attention.head_count_kv", n_head),
              head_dim=key("attention.key_length", n_embd // n_head), n_vocab=raw["token_embd.weight"].shape[0],
              eps=key("attention.layer_norm_rms_epsilon"), theta=key("rope.freq_base", 10000.0),
              rope=GGUF_ARCH[arch][0], activation=GGUF_ARCH[arch][1])
    m.embed = gguf_matrix(raw["token_embd.weight"])
    m.head = gguf_matrix(raw["output.weight"]) if "output.weight" in raw else m.embed
    m.final_norm = gguf_vector(raw["output_norm.weight"])
    if "rope_freqs.weight" in raw:
        m.rope_divisors = gguf_vector(raw["rope_freqs.weight"])
    for n in range(m.n_layer):
        layer, prefix = {}, f"blk.{n}."
        for name in (k for k in raw if k.startswith(prefix)):
            role, kind = name[len(prefix):].rsplit(".", 1)
            if kind == "weight":
                layer[role] = gguf_matrix(raw[name], i2s) if len(raw[name].shape) == 2 else gguf_vector(raw[name])
                if arch.startswith("bitnet") and isinstance(layer[role], Dense):
                    layer[role] = written_ternary(layer[role].w)
            elif kind == "scale":
                layer[role + ".scale"] = float(gguf_vector(raw[name])[0])
            else:
                layer[role + ".bias"] = gguf_vector(raw[name])
        m.layers.append(layer)
    return m


# ---- Hugging Face folders -------------------------------------------------------------------------------------------

HF_ROLES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.attn_sub_norm": "attn_sub_norm", "mlp.ffn_sub_norm": "ffn_sub_norm",
    "self_attn.inner_attn_ln": "attn_sub_norm", "mlp.ffn_layernorm": "ffn_sub_norm",      # 1bitLLM's names
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def hf_values(entry):
    dtype, a = entry
    return (g.bf16_to_f32(a) if dtype == "BF16" else a).astype(np.float64)


def hf_projection(st, name, ternary):
    """ternary: None, or "multiply", "divide" (packed bytes) or "online" (master weights)."""
    dtype, a = st[name + ".weight"]
    if ternary is None:
        return Dense(hf_values((dtype, a)))
    if ternary == "online":
        return absmean(hf_values((dtype, a)))
    if dtype != "U8":
        raise ValueError(f"{name}: packed ternary weights are U8, not {dtype}")
    scale = float(hf_values(st[name + ".weight_scale"]).reshape(-1)[0])
    return Ternary(unpack_rows(a), scale if ternary == "multiply" else 1.0 / scale)


def hf_ternary_kind(config):
    if "BitnetForCausalLM" in config["architectures"]:      # 1bitLLM
        return "online"
    q = config.get("quantization_config")
    if q is None:
        return None
    if q.get("quant_method") != "bitnet" or q.get("use_rms_norm"):
        raise ValueError(f"quantization_config {q}")
    linear = q.get("linear_class", "bitlinear")
    if linear == "bitlinear":
        return "divide"
    if linear != "autobitlinear":
        raise ValueError(f"linear_class {linear}")
    return "online" if q.get("quantization_mode", "offline") == "online" else "multiply"


def hf_rope(config, dim):
    """-> theta, divisors of the frequencies. transformers 5 writes rope_parameters, earlier ones rope_theta and rope_scaling."""
    r = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = r.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = r.get("rope_type", r.get("type", "default"))
    if kind == "default":
        return theta, 1.0
    if kind == "linear":
        return theta, r["factor"]
    if kind != "llama3":
        raise ValueError(f"RoPE scaling {kind} is not written here")
    wavelength = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    low, high, old = r["low_freq_factor"], r["high_freq_factor"], r["original_max_position_embeddings"]
    smooth = np.clip((old / wavelength - low) / (high - low), 0, 1)     # 1: short wave, kept; 0: long wave, divided
    return theta, 1 / ((1 - smooth) / r["factor"] + smooth)


def hf_window(config):
    if config["model_type"] in ("qwen2", "qwen3") and not config.get("use_sliding_window", False):
        return 0
    return config.get("sliding_window") or 0


def load_hf(folder):
    with open(os.path.join(folder, "config.json")) as f:
        c = json.load(f)
    st = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            st.update(g.read_safetensors(os.path.join(folder, name)))
    n_head = c["num_attention_heads"]
    head_dim = c.get("head_dim") or c["hidden_size"] // n_head
    theta, divisors = hf_rope(c, head_dim)
    m = Model(n_layer=c["num_hidden_layers"], n_embd=c["hidden_size"], n_head=n_head,
              n_kv=c.get("num_key_value_heads") or n_head, head_dim=head_dim,
              n_vocab=c["vocab_size"], eps=c["rms_norm_eps"], theta=theta, rope_divisors=divisors, rope="half",
              activation=c["hidden_act"], window=hf_window(c))
    ternary = hf_ternary_kind(c)
    m.embed = Dense(hf_values(st["model.embed_tokens.weight"]))
    m.head = m.embed if c.get("tie_word_embeddings") else Dense(hf_values(st["lm_head.weight"]))
    m.final_norm = hf_values(st["model.norm.weight"])
    for n in range(m.n_layer):
        layer = {}
        for hf, role in HF_ROLES.items():
            name = f"model.layers.{n}.{hf}"
            if name + ".weight" not in st:
                continue
            layer[role] = hf_projection(st, name, ternary) if hf.endswith("_proj") else hf_values(st[name + ".weight"])
            if name + ".bias" in st:
                layer[role + ".bias"] = hf_values(st[name + ".bias"])
        m.layers.append(layer)
    return m


def load(path, i2s="x86"):
    """i2s: byte order of I2_S matrices (x86, arm, 4row); the file does not say it."""
    return load_hf(path) if os.path.isdir(path) else load_gguf(path, i2s)


# ---- comparing ------------------------------------------------------------------------------------------------------


def relative_l2(got, want):
    """Per position [T]."""
    return np.linalg.norm(got - want, axis=-1) / np.linalg.norm(want, axis=-1)


def compare(got, want, act):
    """The bounds of the numerics contract; returns a list of complaints, empty when all hold."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return [f"shape {got.shape}, expected {want.shape}"]
    if not np.isfinite(got).all():
        return ["logits are not finite"]
    err, bad = relative_l2(got, want), []
    if act == "f32":
        if err.max() > 1e-4:
            bad.append(f"relative L2 error {err.max():.2e} at position {err.argmax()}, bound 1e-4")
        return bad
    whole = np.linalg.norm(got - want) / np.linalg.norm(want)
    if np.median(err) > 1e-3:
        bad.append(f"median over positions of the relative L2 error {np.median(err):.2e}, bound 1e-3")
    if whole > 5e-2:
        bad.append(f"relative L2 error of all positions together {whole:.2e}, bound 5e-2")
    top = np.sort(want, axis=-1)
    sure = top[:, -1] - top[:, -2] > 0.3 * want.std(axis=-1)
    wrong = sure & (got.argmax(-1) != want.argmax(-1))
    if wrong.any():
        bad.append(f"another top token at positions {np.flatnonzero(wrong).tolist()} where the margin is clear")
    return bad


def main():
    p = argparse.ArgumentParser(description="float64 logits of a small model")
    p.add_argument("model")
    p.add_argument("--tokens", required=True)
    p.add_argument("-o", required=True)
    p.add_argument("--act", choices=("q8", "f32"), default="q8")
    a = p.parse_args()
    np.save(a.o, forward(load(a.model), [int(t) for t in a.tokens.split(",")], a.act).astype(np.float32))


if __name__ == "__main__":
    main()
