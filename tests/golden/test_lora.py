# SPDX-License-Identifier: MIT
"""Low-rank adapters against plain numpy: y += alpha / r * B (A x) beside every projection of the float64 reference.

The adapter files are written here by gguf_mini, as other programs lay them out, and read by the program. With f32 activations
every position agrees to 1e-4; with int8 ones prompts without near ties do, which also says that A is given the row before
rounding: rounded, it would differ by thousandths.
"""
import os
import zlib

import numpy as np
import pytest

import gguf_mini as g
import make_models
import reference

SPECS = {s.name: s for s in make_models.SPECS}
ROLES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
CASES = [("bitnet-b158-i2s.gguf", 8, g.F32), ("bitnet-b158-i2s-odd.gguf", 3, g.F16), ("bitnet-25-tq2.gguf", 16, g.BF16),
         ("bitnet-b158-bf16-scales.gguf", 5, g.F32), ("bitnet-b158-iq2bn-rows.gguf", 1, g.F32), ("llama-f16.gguf", 4, g.F16),
         ("llama-q8_0.gguf", 40, g.F32), ("llama-i2s.gguf", 2, g.BF16)]


class Adapted:
    """A matrix with a pair beside it."""

    def __init__(self, w, a, b, scale):
        self.w, self.a, self.b, self.scale = w, a, b, scale

    def apply(self, x, act, note):
        return self.w.apply(x, act, note) + self.scale * (x @ self.a.T) @ self.b.T


def stored(kind, x):
    """The file's bytes of a matrix, and the values they stand for."""
    raw = g.Raw(kind, x.shape, g.encode(kind, x))
    return raw, reference.gguf_matrix(raw).w


def adapt(model, arch, path, rank, kind, alpha, roles=ROLES):
    """Writes an adapter for a model of the reference, and puts it into that model."""
    rng = np.random.default_rng(zlib.crc32(os.path.basename(path).encode()) + rank)
    tensors = {}
    for n, layer in enumerate(model.layers):
        for role in roles:
            rows, cols = layer[role].decoded().shape
            size = np.abs(layer[role].decoded()).mean() * np.sqrt(cols)     # outputs as large as the projection's
            a_raw, a = stored(kind, rng.normal(0, 1 / np.sqrt(cols), (rank, cols)))
            b_raw, b = stored(kind, rng.normal(0, 0.3 * size, (rows, rank)) * rank / (alpha or rank) / np.sqrt(rank))
            tensors[f"blk.{n}.{role}.weight.lora_a"], tensors[f"blk.{n}.{role}.weight.lora_b"] = a_raw, b_raw
            scale = alpha / rank if alpha else 1.0
            layer[role] = Adapted(layer[role], a, b, scale / layer.get(role + ".scale", 1.0))
    g.write_gguf(path, {"general.architecture": arch, "general.type": "adapter", "adapter.type": "lora",
                        "adapter.lora.alpha": float(alpha)}, tensors)
    return path


def prepared(tmp_path, name, rank, kind, alpha, roles=ROLES):
    spec = SPECS[name]
    path = make_models.write(spec, str(tmp_path))
    plain, model = reference.load(path), reference.load(path)
    return path, plain, model, adapt(model, spec.arch, str(tmp_path / "adapter.gguf"), rank, kind, alpha, roles)


@pytest.mark.parametrize("name, rank, kind", CASES)
def test_f32(tmp_path, rotor_logits, name, rank, kind):
    path, plain, model, lora = prepared(tmp_path, name, rank, kind, 2 * rank)
    ids = np.random.default_rng(5).integers(0, model.n_vocab, 40).tolist()
    want = reference.forward(model, ids, "f32")
    assert reference.relative_l2(want, reference.forward(plain, ids, "f32")).min() > 0.01
    got = rotor_logits(path, ids, "--act", "f32", "--lora", lora)
    assert not reference.compare(got, want, "f32")


@pytest.mark.parametrize("name", ["bitnet-b158-i2s.gguf", "llama-q8_0.gguf"])
def test_int8_activations(tmp_path, rotor_logits, name):
    path, _, model, lora = prepared(tmp_path, name, 4, g.F32, 8)
    rng, found = np.random.default_rng(3), 0
    for _ in range(1500):
        ids, trace = rng.integers(0, model.n_vocab, 4).tolist(), {}
        want = reference.forward(model, ids, "q8", trace)
        if reference.tie_distance(trace) > 1e-4:
            assert not reference.compare(rotor_logits(path, ids, "--lora", lora), want, "f32")
            found += 1
            if found == 4:
                return
    raise AssertionError("too few prompts without near ties")


def test_scale_and_missing_alpha(tmp_path, rotor_logits):
    """alpha 0 counts as no scale, as other programs take it; --lora-scale multiplies."""
    path, plain, model, lora = prepared(tmp_path, "llama-f32.gguf", 4, g.F32, 0, ("attn_q", "ffn_down"))
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    assert not reference.compare(rotor_logits(path, ids, "--act", "f32", "--lora", lora),
                                 reference.forward(model, ids, "f32"), "f32")
    for layer in model.layers:
        layer["attn_q"].scale = layer["ffn_down"].scale = -0.5
    assert not reference.compare(rotor_logits(path, ids, "--act", "f32", "--lora", lora, "--lora-scale", -0.5),
                                 reference.forward(model, ids, "f32"), "f32")
    assert rotor_logits(path, ids, "--lora", lora, "--lora-scale", 0).tobytes() == rotor_logits(path, ids).tobytes()


def test_a_folder_of_another_row_order_is_refused(tmp_path, rotor):
    """Adapters of GGUF llama models have the rows of q and k in GGUF's order; a folder has not."""
    folder = make_models.write(SPECS["hf-llama-f32"], str(tmp_path))
    lora = adapt(reference.load(folder), "llama", str(tmp_path / "adapter.gguf"), 2, g.F32, 4)
    r = rotor("logits", folder, "--tokens", "1,2", "-o", tmp_path / "x.npy", "--lora", lora, status=1)
    assert "rotor convert" in r.stderr
