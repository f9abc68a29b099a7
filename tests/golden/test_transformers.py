# SPDX-License-Identifier: MIT
"""The program's logits against those that `transformers` gave (tests/data/golden, made by tools/golden/transformers_models.py).

The ids of the ternary folders were chosen so that no activation lies near a rounding tie: equal int8 codes are expected and
the bounds of the contract have room to spare. Two folders also run as GGUF files with Q and K permuted.
"""
import json
import os

import numpy as np
import pytest

import hf_to_gguf
import reference

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "data", "golden")
FOLDERS = sorted(n for n in os.listdir(GOLDEN) if n.startswith("hf-"))
AS_GGUF = ["hf-llama-tied", "hf-llama-headdim", "hf-llama-1.58"]
CASES = [(n, "folder") for n in FOLDERS] + [(n, "gguf") for n in AS_GGUF]


def stored(name, file):
    path = os.path.join(GOLDEN, name, file)
    return np.load(path) if os.path.exists(path) else None


def ids_of(name):
    with open(os.path.join(GOLDEN, name, "golden.json")) as f:
        return json.load(f)["ids"]


def check(got, want, act):
    complaints = reference.compare(got, want, act)
    assert not complaints, "\n".join(complaints)


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0]}-{c[1]}")
def model(request, tmp_path):
    name, form = request.param
    if form == "folder":
        return name, os.path.join(GOLDEN, name)
    path = str(tmp_path / (name + ".gguf"))
    hf_to_gguf.convert(os.path.join(GOLDEN, name), path)
    return name, path


def test_reference_f32(model):
    name, path = model
    unrounded = stored(name, "logits_f32.npy")
    check(reference.forward(reference.load(path), ids_of(name), "f32"), stored(name, "logits.npy") if unrounded is None else unrounded,
          "f32")


def test_reference_q8(model):
    name, path = model
    got = reference.forward(reference.load(path), ids_of(name), "q8")
    check(got, stored(name, "logits.npy"), "f32")       # same codes, so the tight bound


def test_f32(model, rotor_logits):
    name, path = model
    unrounded = stored(name, "logits_f32.npy")
    check(rotor_logits(path, ids_of(name), "--act", "f32"), stored(name, "logits.npy") if unrounded is None else unrounded, "f32")


def test_q8(model, rotor_logits):
    name, path = model
    dense = stored(name, "logits_f32.npy") is None      # 16 and 32 bit weights leave activations alone
    check(rotor_logits(path, ids_of(name), "--act", "q8"), stored(name, "logits.npy"), "f32" if dense else "q8")


def test_they_differ():
    """The stored pairs are apart by far more than the bounds, so none of the checks above passes for the wrong reason."""
    for name in FOLDERS:
        unrounded = stored(name, "logits_f32.npy")
        if unrounded is not None:
            assert reference.compare(unrounded, stored(name, "logits.npy"), "q8"), name
