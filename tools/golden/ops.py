#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/kern/ops.bin: inputs and outputs of every kernel slot, one op at a time, from sources that share no line with
the kernels: tests/golden/reference.py (float64), the gguf package (block decode) and numpy (IEEE arithmetic and halves).

Run once, by hand: tools/golden/ops.py. Made with: Python 3.11.7, numpy 2.4.6, gguf 0.19.0.

File, little-endian: "ROTOROPS" | u32 n_cases | u32 0 | cases
  case:  char name[16], zero-padded | u32 n_params | u32 n_arrays | f64 params[n_params] | arrays
  array: u32 kind | u32 n | n elements | zeros up to a multiple of 8 bytes
         kind: 0 i8, 1 u8, 2 i16, 3 i32, 4 f32, 5 f64
What the parameters and arrays of a case are is said at each maker below; tests/unit/kern/test_ops.c reads them in that order.
"scale" arrays beside an output hold the sum of the absolute values that were added up: what its error is measured by.
"""
import math
import os
import struct
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T, quants

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import reference as ref  # noqa: E402

KINDS = {"int8": 0, "uint8": 1, "int16": 2, "int32": 3, "float32": 4, "float64": 5}
rng = np.random.default_rng(20250717)
cases = []


def case(name, params, *arrays):
    out = [struct.pack("<16sII", name.encode(), len(params), len(arrays)), np.asarray(params, "<f8").tobytes()]
    for a in arrays:
        a = np.ascontiguousarray(a)
        data = a.astype(a.dtype.newbyteorder("<")).tobytes()
        out.append(struct.pack("<II", KINDS[a.dtype.name], a.size) + data + bytes(-len(data) % 8))
    cases.append(b"".join(out))


def f32(x):
    return np.asarray(x).astype(np.float32)


def wide(x):
    return np.asarray(x, np.float64)


def away_from_ties(make, scaled_of, margin=1e-3):
    """The first draw whose scaled values keep clear of a rounding tie: float32 and float64 then give the same codes."""
    while True:
        x = make()
        scaled = scaled_of(wide(x))
        if np.abs(np.abs(scaled - np.floor(scaled)) - 0.5).min() > margin:
            return x


# ---- norms and element-wise ops ---------------------------------------------------------------------------------------


def rmsnorm():
    """params n, eps; arrays x, gain, out"""
    for n, scale, eps in [(1, 1, 1e-5), (15, 1, 1e-5), (17, 30, 1e-6), (100, 1e-3, 1e-5), (640, 1, 1e-5), (173, 1e-9, 1e-5),
                          (128, 1e-30, 1e-6), (432, 1e10, 1e-5), (33, 0, 1e-5)]:
        x = f32(scale * rng.standard_normal(n))
        if scale == 1e10:                     # squared ReLU times up: most are zero, few are huge
            x = f32(np.where(rng.random(n) < 0.6, 0, x * rng.random(n) ** 8))
            x[5] = 1.07e10
        gain = f32(1 + 0.5 * rng.standard_normal(n))
        gain[::7] *= -14
        case("rmsnorm", [n, eps], x, gain, ref.rms_norm(wide(x), wide(gain), float(np.float32(eps))))


def add():
    """params n; arrays a, b, out (a + b, correctly rounded)"""
    for n in (1, 16, 37, 256):
        a, b = f32(100 * rng.standard_normal(n)), f32(rng.standard_normal(n))
        case("add", [n], a, b, f32(wide(a) + wide(b)))


def glu():
    """params n, 0 relu2 or 1 silu; arrays gate, up, out"""
    with np.errstate(over="ignore", under="ignore"):
        for n, kind in [(1, 0), (33, 0), (200, 0), (1, 1), (17, 1), (400, 1)]:
            if kind:
                g = np.concatenate([np.linspace(-125, 125, n - n // 2), 4 * rng.standard_normal(n // 2)])
                if n == 400:
                    g[:8] = [-1e4, 1e4, -88.4, -88.2, -87.4, 88.4, -0.0, 1e-30]
            else:
                g = rng.standard_normal(n) * 10 ** rng.uniform(-8, 5, n)
            g, u = f32(g), f32(rng.standard_normal(n) * 10 ** rng.uniform(-2, 4, n))
            case("glu", [n, kind], g, u, ref.activate(wide(g), "silu" if kind else "relu2") * wide(u))


def rope():
    """params heads, d, n_rot, position, interleaved; arrays inverse frequencies, x, out"""
    for d, n_rot, theta in [(64, 64, 10000.0), (128, 128, 500000.0), (80, 32, 1e6), (2, 2, 10000.0)]:
        freqs = theta ** (-np.arange(0, n_rot, 2) / n_rot)
        for position in (0, 1, 4095, 100000):
            for pairs in (0, 1):
                heads = 1 if d == 128 else 2
                x = f32(rng.uniform(-1, 1, (1, heads, d)))
                out = wide(x)
                out[..., :n_rot] = ref.rope(out[..., :n_rot], theta, "pairs" if pairs else "half", [position])
                case("rope", [heads, d, n_rot, position, pairs], freqs, x, f32(out))


# ---- activations to int8 ------------------------------------------------------------------------------------------------


def quant_i8():
    """params n; arrays x, codes [n], s [1], sum [1]"""
    def one(x):
        x = f32(x)
        scaled, unit = ref.quantise_token(wide(x)[None])
        q = np.rint(scaled[0]).astype(np.int8)
        s = np.float32(127) / np.maximum(np.abs(x).max(), np.float32(1e-5))
        assert abs(s * unit[0, 0] - 1) < 1e-6
        case("quant_i8", [x.size], x, q, np.array([s], np.float32), np.array([q.sum(dtype=np.int64)], np.int32))
    for n, scale in [(1, 1), (16, 1), (100, 1e-4), (128, 20), (640, 3), (300, 1e10), (200, 2e-6)]:
        one(away_from_ties(lambda: f32(scale * rng.standard_normal(n)), lambda x: ref.quantise_token(x[None])[0]))
    ties = np.concatenate([np.arange(-127, 127) + 0.5, [127, -127]])     # s = 1: every code is decided by ties to even
    one(ties)
    one(np.zeros(40))
    one(np.full(130, -3.5e-7))


def quant_q8():
    """params n; arrays x, codes [ceil32 n], steps [ceil32 n / 32], sums of 16 [ceil32 n / 16]"""
    def padded(x):
        return np.concatenate([x, np.zeros(-len(x) % 32)])

    def one(x):
        x = f32(x)
        scaled, unit = ref.quantise_blocks(padded(wide(x))[None])
        q = np.rint(scaled[0]).astype(np.int8).ravel()
        case("quant_q8", [x.size], x, q, f32(unit[0]), q.reshape(-1, 16).sum(axis=1).astype(np.int16))
    for n, scale in [(32, 1), (1, 5), (100, 1e-5), (128, 1e10), (352, 2), (47, 1e-20)]:
        one(away_from_ties(lambda: f32(scale * rng.standard_normal(n)), lambda x: ref.quantise_blocks(padded(x)[None])[0]))
    ties = np.concatenate([np.arange(15) + 0.5, -np.arange(15) - 0.5, [127, -127]])
    tiny = np.zeros(96)
    tiny[3], tiny[40], tiny[70] = 1e-40, -1e-31, 2e-29
    one(tiny)
    one(np.concatenate([ties, np.zeros(32), ties + np.where(np.abs(ties) < 100, 60, 0)]))


# ---- products -------------------------------------------------------------------------------------------------------------


def pack_t2(t):
    """[rows, cols] ternary -> rows of ceil(cols / 128) blocks: byte p holds columns p, 32+p, 64+p, 96+p from the top bits down."""
    c = np.pad(t, ((0, 0), (0, -t.shape[1] % 128))) + 1
    c = c.reshape(len(t), -1, 4, 32).astype(np.uint8)
    return (c[:, :, 0] << 6 | c[:, :, 1] << 4 | c[:, :, 2] << 2 | c[:, :, 3]).reshape(len(t), -1)


def t2():
    """params rows, cols, tokens, scale; arrays weights u8, codes i8, s [B], sums i32 [B], row scales [rows], dots i32 [B, rows],
    64 x i8 [B, cols], float products f64 [B, rows] (scale left out), their scale"""
    for rows, cols, n_tok, extreme in [(5, 2560, 3, 0), (21, 128, 1, 0), (21, 300, 9, 0), (37, 100, 17, 0), (3, 1, 2, 0),
                                       (2, 6912, 2, 1), (16, 256, 4, 0)]:
        t = np.ones((rows, cols), np.int64) if extreme else rng.integers(-1, 2, (rows, cols))
        q = np.full((n_tok, cols), 127) if extreme else rng.integers(-127, 128, (n_tok, cols))
        if extreme:
            t[1], q[1] = -1, -127
        s = f32(127 / rng.uniform(0.5, 30, n_tok))
        x = rng.integers(-128, 128, (n_tok, cols)) / 64
        case("t2", [rows, cols, n_tok, 1.21875], pack_t2(t), q.astype(np.int8), s, q.sum(axis=1).astype(np.int32),
             f32(rng.uniform(0.5, 2, rows)), (q @ t.T).astype(np.int32), (64 * x).astype(np.int8), x @ t.T,
             f32(np.abs(x) @ np.abs(t).T))


def plain():
    """params rows, cols, tokens, GGUF type; arrays weights u8, x, out, scale"""
    for rows, cols, n_tok in [(5, 1, 1), (7, 17, 5), (6, 100, 4), (5, 256, 6)]:
        for kind in (0, 1, 30):
            w = f32(rng.standard_normal((rows, cols)) * 10 ** rng.uniform(-3, 2, (rows, 1)))
            if kind == 1:
                w = w.astype(np.float16)
                data, w = w.view(np.uint8), wide(w)
            elif kind == 30:
                bits = (w.view(np.uint32) >> 16).astype(np.uint16)
                data, w = bits.view(np.uint8), wide((bits.astype(np.uint32) << 16).view(np.float32))
            else:
                data = w.view(np.uint8)
            x = f32(rng.standard_normal((n_tok, cols)))
            case("plain", [rows, cols, n_tok, kind], data, x, wide(x) @ wide(w).T, f32(np.abs(wide(x)) @ np.abs(wide(w)).T))


HALF_FIELDS = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
               T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.TQ1_0: [52], T.TQ2_0: [64], T.IQ4_NL: [0], T.IQ4_XS: [0],
               T.MXFP4: []}
Q1_0, Q2_0 = 41, 42                          # not in this gguf: decoded below


def random_blocks(kind, rows, cols):
    """-> bytes [rows, row bytes], values [rows, cols] in float64"""
    if kind == Q1_0:                         # f16 d, bit e of 128: set is +d
        d = (0.02 * rng.standard_normal((rows, cols // 128, 1))).astype(np.float16)
        bits = rng.integers(0, 2, (rows, cols // 128, 128), dtype=np.uint8)
        data = np.concatenate([d.view(np.uint8), np.packbits(bits, axis=-1, bitorder="little")], axis=-1)
        return data.reshape(rows, -1), (wide(d) * (2.0 * bits - 1)).reshape(rows, cols)
    if kind == Q2_0:                         # f16 d, two bits each of 64: (q - 1) d
        d = (0.02 * rng.standard_normal((rows, cols // 64, 1))).astype(np.float16)
        q = rng.integers(0, 3, (rows, cols // 64, 16, 4), dtype=np.uint8)
        data = np.concatenate([d.view(np.uint8), q[..., 0] | q[..., 1] << 2 | q[..., 2] << 4 | q[..., 3] << 6], axis=-1)
        return data.reshape(rows, -1), (wide(d)[..., None] * (q - 1.0)).reshape(rows, cols)
    elems, size = gguf.GGML_QUANT_SIZES[kind]
    b = rng.integers(0, 256, (rows, cols // elems, size), dtype=np.uint8)
    for at in HALF_FIELDS[kind]:
        d = (0.02 * rng.standard_normal(b.shape[:2]) / (64 if elems == 256 else 1)).astype(np.float16)
        b[..., at:at + 2] = d[..., None].view(np.uint8)
    if kind == T.MXFP4:
        b[..., 0] = rng.integers(115, 130, b.shape[:2])
    if kind == T.TQ2_0:                      # no code 3
        c = rng.integers(0, 3, (*b.shape[:2], 64, 4), dtype=np.uint8)
        b[..., :64] = c[..., 0] | c[..., 1] << 2 | c[..., 2] << 4 | c[..., 3] << 6
    b = b.reshape(rows, -1)
    return b, wide(quants.dequantize(b, kind)).reshape(rows, cols)


def blocks():
    """params rows, cols, tokens, GGUF type; arrays weights u8, codes i8 [B, cols], steps [B, cols / 32], sums of 16 i16,
    out, scale, 64 x i8 [B, cols], out of x, scale of x, the last row decoded f32 [cols]"""
    for kind in [*HALF_FIELDS, Q1_0, Q2_0]:
        short = kind not in (Q1_0, Q2_0) and gguf.GGML_QUANT_SIZES[kind][0] == 32
        for rows, cols, n_tok in [(19, 96 if short else 256, 1), (5, 352 if short else 512, 2)]:
            data, w = random_blocks(kind, rows, cols)
            q = rng.integers(-127, 128, (n_tok, cols))
            s = f32(rng.uniform(0.1, 3, (n_tok, cols // 32)) / 127)
            s[:, 1] = 0
            q[:, 32:64] = 0
            a = q * np.repeat(wide(s), 32, axis=1)
            x = rng.integers(-128, 128, (n_tok, cols)) / 64
            case("blocks", [rows, cols, n_tok, int(kind)], data, q.astype(np.int8), s,
                 q.reshape(n_tok, -1, 16).sum(axis=-1).astype(np.int16), a @ w.T, f32(np.abs(a) @ np.abs(w).T),
                 (64 * x).astype(np.int8), x @ w.T, f32(np.abs(x) @ np.abs(w).T), f32(w[-1]))


# ---- cache and attention ----------------------------------------------------------------------------------------------------


def q8_rows(x):
    """[rows, d] -> f16 steps [rows, blocks], codes [rows, blocks, 32], decoded values [rows, d]"""
    rows, d = x.shape
    scaled, _ = ref.quantise_blocks(np.pad(x, ((0, 0), (0, -d % 32))))
    peak = np.abs(np.pad(x, ((0, 0), (0, -d % 32)))).reshape(rows, -1, 32).max(axis=-1)
    step = f32(peak / 127).astype(np.float16)
    q = np.rint(scaled)
    return step, q.astype(np.int8), (wide(step)[..., None] * q).reshape(rows, -1)[:, :d]


def kv_store():
    """params d; arrays x, f16 row u8, q8 row u8"""
    for d, scale in [(1, 1), (16, 1), (80, 7), (128, 0.01), (100, 3e-5), (64, 900)]:
        x = away_from_ties(lambda: f32(scale * rng.standard_normal(d)),
                           lambda x: ref.quantise_blocks(np.pad(x, (0, -d % 32))[None])[0])
        if d == 64:
            x[:8] = [1e-8, -3e-8, 6.1e-5, 0, -0.0, 2049, 2051, 65500]    # subnormal halves and ties between halves
            x[32:] = 0
            x[32:35] = [127, 0.5, -1.5]
        if d == 100:
            x[64:96] = 0
            x[70] = 1e-40
        step, q, _ = q8_rows(wide(x)[None])
        row = b"".join(step[0, i].tobytes() + q[0, i].tobytes() for i in range(len(step[0])))
        case("kv_store", [d], x, x.astype(np.float16).view(np.uint8), np.frombuffer(row, np.uint8))


def cached(shape):
    """Keys or values as int8 codes; each run of 32 holds a 113, so that its q8 form never meets a tie (113 is prime)."""
    c = np.clip(np.rint(40 * rng.standard_normal(shape)), -113, 113)
    c[..., ::32] = 113 * np.sign(rng.standard_normal(c[..., ::32].shape))
    return c.astype(np.int8)


def attention():
    """params d, query heads per KV head, KV heads, positions n, step of k, step of v; arrays q f32 [heads, d], k i8 [n, KV, d],
    v i8, spans i32 [m, 3] = (cache type 0 f32, 1 f16, 2 q8; lo; hi), out f32 [m, heads, d], scale f32 [m, heads] (mean over the head)"""
    lengths = [1, 63, 64, 65, 300]
    for d, group, n_kv in [(16, 4, 2), (80, 1, 1), (128, 4, 1)]:
        n, k_step, v_step = 300, 0.0317, 0.0117
        k, v = cached((n, n_kv, d)), cached((n, n_kv, d))
        q = f32(1.5 * rng.standard_normal((group * n_kv, d)))
        q[0] *= 3                                          # one head that looks at few keys
        spans, outs, scales = [], [], []
        floats = [(np.float32(step) * a.astype(np.float32)).astype(np.float32) for a, step in ((k, k_step), (v, v_step))]
        for kind in range(3):
            ks, vs = ([wide(a), wide(a.astype(np.float16)), q8_rows(wide(a).reshape(n * n_kv, d))[2].reshape(a.shape)][kind]
                      for a in floats)
            for lo, hi in [(0, h) for h in lengths] + [(299, 300), (236, 300), (64, 128), (63, 65)]:
                width = hi - lo
                queries = np.broadcast_to(wide(q), (hi, *q.shape))      # only the last position is looked at
                window = width if lo else 0
                outs.append(ref.attention(queries, ks[:hi], vs[:hi], window)[-1])
                scales.append(ref.attention(queries, ks[:hi], np.abs(vs[:hi]), window)[-1].reshape(-1, d).mean(axis=-1))
                spans.append((kind, lo, hi))
        case("attention", [d, group, n_kv, n, k_step, v_step], q, k, v, np.array(spans, np.int32), f32(outs), f32(scales))


def add_scaled():
    """params n, a; arrays x, y, out (y + a x, rounded once)"""
    for n, a in [(1, 2.0), (37, -0.3), (256, 1e-3)]:
        x, y, a = f32(rng.standard_normal(n)), f32(rng.standard_normal(n)), float(np.float32(a))
        case("add_scaled", [n, a], x, y, wide(y) + a * wide(x))


def swiglu():
    """the clamped gate of gpt-oss; params n, 2; arrays gate, up, out"""
    for n in (1, 33, 300):
        g, u = f32(6 * rng.standard_normal(n)), f32(6 * rng.standard_normal(n))
        g[:1], u[:1] = 20, -20
        a, b = np.minimum(wide(g), 7), np.clip(wide(u), -7, 7)
        case("glu", [n, 2], g, u, a / (1 + np.exp(-1.702 * a)) * (b + 1))


def sinks():
    """as attention, and a last array: the sink f32 [heads] of each query head, a score more that has no value"""
    d, group, n_kv, n, k_step, v_step = 64, 4, 2, 150, 0.0317, 0.0117
    k, v = cached((n, n_kv, d)), cached((n, n_kv, d))
    q, z = f32(rng.standard_normal((group * n_kv, d))), f32(4 * rng.standard_normal(group * n_kv))
    z[0], z[1] = -200, 60                                  # one that takes nothing, one that takes nearly all
    ks, vs = [wide((np.float32(step) * a.astype(np.float32)).astype(np.float32)) for a, step in ((k, k_step), (v, v_step))]
    spans, outs, scales = [], [], []
    for lo, hi in [(0, 1), (0, 64), (0, 150), (22, 150), (149, 150)]:
        for head in range(group * n_kv):
            scores = np.append(ks[lo:hi, head // group] @ wide(q[head]) / np.sqrt(d), wide(z[head]))
            p = np.exp(scores - scores.max())
            p = (p / p.sum())[:-1]
            outs.append(p @ vs[lo:hi, head // group])
            scales.append(np.mean(p @ np.abs(vs[lo:hi, head // group])))
        spans.append((0, lo, hi))
    case("attention", [d, group, n_kv, n, k_step, v_step], q, k, v, np.array(spans, np.int32), f32(outs), f32(scales), z)


def gelu_tanh(x):
    """x (1 + tanh y) / 2; where y is far below zero the sum would cancel"""
    return x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu():
    """the gate by its form with tanh; params n, 3; arrays gate, up, out"""
    for n in (1, 33, 300):
        g, u = f32(3 * rng.standard_normal(n)), f32(rng.standard_normal(n))
        x = wide(g)
        case("glu", [n, 3], g, u, gelu_tanh(x) * u)


def cap():
    """params n, cap; arrays x, out"""
    for n, top in ((1, 30.0), (37, 50.0), (300, 4.0)):
        x = f32(2 * top * rng.standard_normal(n))
        x[:1] = 1e4
        case("cap", [n, top], x, top * np.tanh(wide(x) / top))


def capped():
    """as sinks, and a last array: f32 [1], the cap of scores"""
    d, group, n_kv, n, k_step, v_step, top = 32, 2, 1, 100, 0.0317, 0.0117, 3.0
    k, v = cached((n, n_kv, d)), cached((n, n_kv, d))
    q, z = f32(2 * rng.standard_normal((group * n_kv, d))), f32(rng.standard_normal(group * n_kv))
    ks, vs = [wide((np.float32(step) * a.astype(np.float32)).astype(np.float32)) for a, step in ((k, k_step), (v, v_step))]
    spans, outs, scales = [], [], []
    for lo, hi in [(0, 1), (0, 100), (60, 100)]:
        for head in range(group * n_kv):
            scores = top * np.tanh(ks[lo:hi, 0] @ wide(q[head]) / np.sqrt(d) / top)
            p = np.exp(np.append(scores, wide(z[head])))
            p = (p / p.sum())[:-1]
            outs.append(p @ vs[lo:hi, 0])
            scales.append(np.mean(p @ np.abs(vs[lo:hi, 0])))
        spans.append((0, lo, hi))
    case("attention", [d, group, n_kv, n, k_step, v_step], q, k, v, np.array(spans, np.int32), f32(outs), f32(scales), z,
         f32([top]))


def layernorm():
    """params n, eps; arrays x, gain, out (without a bias)"""
    for n, scale, mean, eps in [(1, 1, 2, 1e-5), (15, 1, 0, 1e-5), (17, 2, 6, 1e-12), (768, 1, -0.3, 1e-5), (100, 1e-3, 1e-3, 1e-6),
                                (384, 300, 900, 1e-12), (33, 0, 0, 1e-5)]:
        x, gain = f32(scale * rng.standard_normal(n) + mean), f32(1 + 0.5 * rng.standard_normal(n))
        c = wide(x) - wide(x).mean()
        case("layernorm", [n, eps], x, gain, c / np.sqrt((c * c).mean() + float(np.float32(eps))) * wide(gain))


def gelu_erf():
    """the exact gate; params n, 4; arrays gate, up, out. Without a gate up is empty: this one, the form with tanh and silu"""
    for n, spread in [(1, 1), (33, 1), (300, 4)]:
        g, u = f32(spread * rng.standard_normal(n)), f32(rng.standard_normal(n))
        x = wide(g)
        phi = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])
        case("glu", [n, 4], g, u, x * phi * wide(u))
        case("glu", [n, 4], g, f32([]), x * phi)
        case("glu", [n, 3], g, f32([]), gelu_tanh(x))
        case("glu", [n, 1], g, f32([]), x / (1 + np.exp(-x)))


for make in (rmsnorm, add, glu, rope, quant_i8, quant_q8, t2, plain, blocks, kv_store, attention, add_scaled, swiglu, sinks,
             gelu, cap, capped, layernorm, gelu_erf):
    make()
folder = os.path.join(ROOT, "tests", "data", "kern")
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "ops.bin"), "wb") as f:
    f.write(struct.pack("<8sII", b"ROTOROPS", len(cases), 0) + b"".join(cases))
print(len(cases), "cases,", sum(map(len, cases)), "bytes")
