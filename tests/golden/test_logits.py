# SPDX-License-Identifier: MIT
"""The program's logits against the float64 reference, for every family and file format of make_models.py and the bundled model.

Three questions per model:
 f32    nothing rounded, 80 positions: 1e-4 at each.
 q8     short prompts whose activations all lie far from a rounding tie: the int8 codes must be equal, so the same 1e-4 holds.
        (Random prompts cannot be judged that sharply: one code that falls the other way changes every later position.)
 q8long 80 arbitrary positions: the looser bounds that hold whichever way ties fall.
"""
import os
import zlib

import numpy as np
import pytest

import make_models
import reference

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BUNDLED = "stories260K.gguf"
SPECS = {s.name: s for s in make_models.SPECS}
N_LONG, N_SHORT, N_PROMPTS = 80, 4, 6
TIE_MARGIN = 1e-4               # code units; f32 arithmetic moves a value by a third of that at most in networks this small


class Case:
    def __init__(self, name, folder):
        spec = SPECS.get(name)
        self.path = make_models.write(spec, folder) if spec else os.path.join(ROOT, "tests", "data", "model", name)
        self.i2s = spec.i2s if spec else "x86"
        self.flags = [] if self.i2s == "x86" else ["--i2s-layout", self.i2s]
        self.model = reference.load(self.path, self.i2s)
        self.rng = np.random.default_rng(zlib.crc32(name.encode()) + 1)

    def prompt(self, n):
        return self.rng.integers(0, self.model.n_vocab, n).tolist()

    def stable_prompts(self):
        """N_PROMPTS prompts with their reference logits, no activation within TIE_MARGIN of a tie."""
        found = []
        for _ in range(1500):
            ids, trace = self.prompt(N_SHORT), {}
            logits = reference.forward(self.model, ids, "q8", trace)
            if reference.tie_distance(trace) > TIE_MARGIN:
                found.append((ids, logits))
                if len(found) == N_PROMPTS:
                    return found
        raise AssertionError("too few prompts without near ties")


@pytest.fixture(scope="module", params=[*SPECS, BUNDLED])
def case(request, tmp_path_factory):
    return Case(request.param, str(tmp_path_factory.mktemp("model")))


def check(got, want, act):
    complaints = reference.compare(got, want, act)
    assert not complaints, "\n".join(complaints)


def test_f32(case, rotor_logits):
    ids = case.prompt(N_LONG)
    check(rotor_logits(case.path, ids, "--act", "f32", *case.flags), reference.forward(case.model, ids, "f32"), "f32")


def test_q8(case, rotor_logits):
    pairs = [(rotor_logits(case.path, ids, "--act", "q8", *case.flags), want) for ids, want in case.stable_prompts()]
    got, want = (np.concatenate(side) for side in zip(*pairs))
    check(got, want, "q8")
    check(got, want, "f32")     # no code can differ, so the tight bound holds too


def test_q8_long(case, rotor_logits):
    ids = case.prompt(N_LONG)
    want = reference.forward(case.model, ids, "q8")
    complaints = reference.compare(rotor_logits(case.path, ids, *case.flags), want, "q8")
    assert not [c for c in complaints if not c.startswith("median")], complaints


def test_last_position_alone(case, rotor, tmp_path, rotor_logits):
    """Without --all one row comes out, and it is the last of all, bit for bit, whatever the chunk and thread count."""
    ids, out = case.prompt(37), tmp_path / "last.npy"
    rotor("logits", case.path, "--tokens", ",".join(map(str, ids)), "-o", out, "--kv", "f32", "--head", "file",
          "--chunk", 5, "-t", 1, *case.flags)
    last = np.load(out)
    assert last.shape == (1, case.model.n_vocab)
    assert last.tobytes() == rotor_logits(case.path, ids, "-t", 2, *case.flags)[-1:].tobytes()
