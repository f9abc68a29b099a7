# SPDX-License-Identifier: MIT
"""gpt-oss: the program and the float64 reference against what `transformers` gave (tests/data/golden/gptoss-*, made by
tools/golden/gptoss_models.py), for every form the weights come in.

The ids were grown so that experts are chosen by a wide margin; with `--act f32 --kv f32` the logits must agree to 1e-4.
By default activations are rounded to eight bits: half of the positions within 6e-2, and the same top token wherever the
margin is clear. Sequences are longer than five windows. Tests of the program are skipped as long as it does not know the
architecture.
"""
import json
import os

import numpy as np
import pytest

import families
import gguf_mini as g
import gptoss_to_gguf
import reference
import reference_gptoss

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "data", "golden")
FORMS = {"mxfp4": "gptoss-mxfp4", "dense": "gptoss-dense", "gguf": "gptoss-gguf", "gptoss": "gptoss-mxfp4"}


class Case:
    def __init__(self, form, tmp):
        self.folder = os.path.join(GOLDEN, FORMS[form])
        self.path = self.folder
        if form == "gguf":
            self.path = os.path.join(self.folder, "model.gguf")
        elif form == "gptoss":
            self.path = os.path.join(tmp, "gptoss.gguf")
            gptoss_to_gguf.convert(self.folder, self.path)
        with open(os.path.join(self.folder, "golden.json")) as f:
            self.ids = json.load(f)["ids"]
        self.logits = np.load(os.path.join(self.folder, "logits.npy"))
        self.experts = np.load(os.path.join(self.folder, "experts.npy"))


@pytest.fixture(scope="module", params=list(FORMS))
def case(request, tmp_path_factory):
    return Case(request.param, str(tmp_path_factory.mktemp("gptoss")))


def check(complaints):
    assert not complaints, "\n".join(complaints)


def test_reference(case):
    trace = {}
    logits = reference_gptoss.forward(reference_gptoss.load(case.path), case.ids, trace)
    check(reference.compare(logits, case.logits, "f32"))
    assert (reference_gptoss.chosen(trace) == case.experts).all()


def test_f32(case, rotor, rotor_logits):
    families.needs(rotor, case.path, "gpt_oss")
    check(reference.compare(families.run_logits(rotor_logits, "gpt_oss", case.path, case.ids, "--act", "f32"), case.logits, "f32"))


def test_default(case, rotor, rotor_logits):
    families.needs(rotor, case.path, "gpt_oss")
    check(families.compare_rounded(rotor_logits(case.path, case.ids), case.logits))


def test_chunks(case, rotor, rotor_logits):
    """Prompt steps that end inside, at and beyond a window change no bit."""
    families.needs(rotor, case.path, "gpt_oss")
    whole = rotor_logits(case.path, case.ids).tobytes()
    for chunk in (1, 5, 8, 13):
        assert rotor_logits(case.path, case.ids, "--chunk", chunk).tobytes() == whole, chunk


def test_rounded_bounds(rotor_logits):
    """--yarn rounded computes what engines that round the ramp's bounds compute, which is something else."""
    path = os.path.join(GOLDEN, "gptoss-gguf", "model.gguf")
    with open(os.path.join(GOLDEN, "gptoss-gguf", "golden.json")) as f:
        ids = json.load(f)["ids"]
    model = reference_gptoss.load(path)
    model.yarn.truncate = True
    want = reference_gptoss.forward(model, ids)
    check(reference.compare(rotor_logits(path, ids, "--act", "f32", "--yarn", "rounded"), want, "f32"))
    assert reference.compare(rotor_logits(path, ids, "--act", "f32", "--yarn", "exact"), want, "f32")


def test_published_numbers():
    """YaRN at the published size, and one MXFP4 block."""
    omega, factor = reference_gptoss.Yarn().frequencies(64)
    assert factor == pytest.approx(1.3465735902799727, rel=1e-14)
    assert omega[[0, 8, 9, 17, 18, 31]] == pytest.approx([1, 0.0508132748, 0.0317056962, 0.000129318701, 3.83088124e-5,
                                                         3.02351143e-7], rel=1e-8)
    rounded, _ = reference_gptoss.Yarn(truncate=True).frequencies(64)
    assert rounded[17] / omega[17] == pytest.approx(1.76, abs=0.01)
    block = bytes([128]) + bytes(range(16))
    assert g.mxfp4_values(*g.decode_mxfp4(block, (1, 32)))[0, :17].tolist() == [
        0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12, 0]
    h = np.random.default_rng(1).integers(0, 256, (3, 16), np.uint8)
    codes = np.stack([h & 15, h >> 4], axis=-1).reshape(3, 32)
    assert g.encode_mxfp4(codes, np.zeros((3, 1), np.uint8)) == b"".join(b"\0" + r.tobytes() for r in gptoss_to_gguf.regroup(h))


MISTAKES = {
    "rounded bounds": lambda m: setattr(m.yarn, "truncate", not m.yarn.truncate),
    "no sinks": lambda m: [layer.update(sinks=layer["sinks"] - 1e9) for layer in m.layers],
    "window off by one": lambda m: setattr(m, "window", m.window + 1),
    "window in every layer": lambda m: setattr(m, "period", 1),
    "gate and up swapped": lambda m: [layer.update(gate=layer["up"], up=layer["gate"]) for layer in m.layers],
    "no down bias": lambda m: [layer.update({"down.bias": 0 * layer["down.bias"]}) for layer in m.layers],
    "no router bias": lambda m: [layer.update({"router.bias": 0}) for layer in m.layers],
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
@pytest.mark.parametrize("folder", ["gptoss-mxfp4", "gptoss-dense"])
def test_bounds_catch_mistakes(folder, mistake):
    path = os.path.join(GOLDEN, folder)
    with open(os.path.join(path, "golden.json")) as f:
        ids = json.load(f)["ids"]
    wrong = reference_gptoss.load(path)
    MISTAKES[mistake](wrong)
    assert reference.compare(reference_gptoss.forward(wrong, ids), np.load(os.path.join(path, "logits.npy")), "f32")


@pytest.mark.parametrize("limit", [7.5, 1e9])
def test_bounds_catch_the_clamp(limit, monkeypatch):
    path = os.path.join(GOLDEN, "gptoss-dense")
    with open(os.path.join(path, "golden.json")) as f:
        ids = json.load(f)["ids"]
    monkeypatch.setattr(reference_gptoss, "LIMIT", limit)
    got = reference_gptoss.forward(reference_gptoss.load(path), ids)
    assert reference.compare(got, np.load(os.path.join(path, "logits.npy")), "f32")
