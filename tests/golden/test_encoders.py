# SPDX-License-Identifier: MIT
"""The embedding models: the program and the float64 reference against the vectors that `transformers` gave
(tests/data/golden/enc-*, made by tools/golden/encoder_models.py), as folders and as GGUF files.

`rotor embed MODEL --tokens 1,2,3 -o F.npy` writes the pooled vector of length one, float32, for the ids as they are. Sequences
go beyond the windows. Tests of the program are skipped as long as it has no such verb or does not know the architecture.
"""
import json
import os

import numpy as np
import pytest

import encoders_to_gguf
import families
import reference
import reference_encoders

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "data", "golden")
FOLDERS = sorted(n for n in os.listdir(GOLDEN) if n.startswith("enc-") and not n.startswith("enc-bitnet"))
TERNARY = sorted(n for n in os.listdir(GOLDEN) if n.startswith("enc-bitnet"))
FORMS = [(n, f) for n in FOLDERS for f in ("folder", "gguf")] + [("enc-bert", "gguf-mean")] + [(n, "ternary") for n in TERNARY]


def texts_of(name):
    with open(os.path.join(GOLDEN, name, "golden.json")) as f:
        return json.load(f)["texts"]


def stored(name, suffix=""):
    return np.load(os.path.join(GOLDEN, name, f"embeddings{suffix}.npy"))


@pytest.fixture(scope="module", params=FORMS, ids=lambda p: "-".join(p))
def case(request, tmp_path_factory):
    """-> name, path, vectors when nothing is rounded, vectors by default."""
    name, form = request.param
    folder = os.path.join(GOLDEN, name)
    if form == "ternary":
        return name, os.path.join(folder, "model.gguf"), stored(name, "_f32"), stored(name)
    suffix = "_mean" if form == "gguf-mean" else ""
    path = folder
    if form != "folder":
        path = str(tmp_path_factory.mktemp("encoder") / (name + ".gguf"))
        encoders_to_gguf.convert(folder, path, "mean" if suffix else None)
    return name, path, stored(name, suffix), stored(name, suffix)


def check(got, want):
    complaints = reference.compare(got, want, "f32")
    assert not complaints, "\n".join(complaints)


def embed(rotor, tmp_path, path, texts, *flags):
    out, rows = tmp_path / "vector.npy", []
    for ids in texts:
        rotor("embed", path, "--tokens", ",".join(map(str, ids)), "-o", out, *flags)
        rows.append(np.load(out).reshape(-1))
        assert rows[-1].dtype == np.float32
        assert abs(np.linalg.norm(rows[-1]) - 1) < 1e-5
    return np.stack(rows)


def needs_embed(rotor, path, name):
    families.needs(rotor, path, name)
    if "no verb" in rotor("embed", "--help", status=None).stderr:
        pytest.skip(f"not built yet: {name}")


@pytest.mark.parametrize("act", ["f32", "auto"])
def test_vectors(case, act, rotor, tmp_path):
    name, path, unrounded, rounded = case
    needs_embed(rotor, path, name)
    check(embed(rotor, tmp_path, path, texts_of(name), "--act", act), unrounded if act == "f32" else rounded)


@pytest.mark.parametrize("name", FOLDERS)
def test_in_bytes(name, rotor, tmp_path):
    """--act q8 rounds an encoder's float matrices, and leaves a decoder's as they are."""
    path, texts = os.path.join(GOLDEN, name), texts_of(name)
    needs_embed(rotor, path, name)
    got, exact = embed(rotor, tmp_path, path, texts, "--act", "q8"), embed(rotor, tmp_path, path, texts)
    assert (got * exact).sum(axis=1).min() > 0.99
    assert (got == exact).all() == (name == "enc-qwen3")


@pytest.mark.parametrize("name", FOLDERS)
def test_reference(name):
    check(reference_encoders.vectors(os.path.join(GOLDEN, name), texts_of(name)), stored(name))


def test_reference_of_the_mean():
    check(reference_encoders.vectors(os.path.join(GOLDEN, "enc-bert"), texts_of("enc-bert"), "mean"), stored("enc-bert", "_mean"))


@pytest.mark.parametrize("name", TERNARY)
def test_reference_ternary(name):
    net = reference_encoders.load_bitnet(os.path.join(GOLDEN, name, "model.gguf"))
    for act, suffix in (("q8", ""), ("f32", "_f32")):
        check(reference_encoders.bitnet_vectors(net, texts_of(name), act), stored(name, suffix))
    assert reference.compare(stored(name), stored(name, "_f32"), "f32")         # the two differ by more than the bound
    for p in net.layers:
        p["q.norm"] = p["k.norm"]
    assert reference.compare(reference_encoders.bitnet_vectors(net, texts_of(name)), stored(name), "f32")
