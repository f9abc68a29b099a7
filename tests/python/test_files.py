# SPDX-License-Identifier: MIT
"""The files that rotor.torch exports, written with NumPy alone, against the reference engine of
tests/golden and the program."""
import numpy as np
import pytest

import reference
import rotor
from rotor import _files

SHAPE = _files.Shape(n_vocab=300, n_embd=96, n_layer=2, n_head=3, n_head_kv=1, n_ff=160, n_ctx=64, rope_base=10000.0)


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(5)
    return {name: rng.normal(0 if len(size) == 2 else 1, 0.3, size).astype(np.float32)
            for (name, _, _), size in zip(_files.names(SHAPE), _files.sizes(SHAPE))}


@pytest.mark.parametrize("form", ["m.gguf", "folder"])
def test_logits(form, arrays, tmp_path, rotor_program):
    path = str(tmp_path / form)
    (_files.write_gguf if form == "m.gguf" else _files.write_folder)(path, SHAPE, arrays)
    ids = np.random.default_rng(6).integers(0, SHAPE.n_vocab, 40).tolist()
    rotor_program("logits", path, "--tokens", ",".join(map(str, ids)), "--all", "-o", tmp_path / "l.npy", "--kv", "f32",
                  "--head", "file", "--act", "f32")
    want = reference.forward(reference.load(path), ids, "f32")
    assert not reference.compare(np.load(tmp_path / "l.npy"), want, "f32")
    with rotor.Engine(path) as engine:
        assert engine.info.architecture.startswith("bitnet") and engine.detokenize(engine.tokenize("hé\n")) == "hé\n"
        assert engine.tokenize("a", bos=True) == [298, 97]
        assert engine.is_eog(299)


def test_both_forms_hold_the_same_model(arrays, tmp_path):
    _files.write_gguf(tmp_path / "m.gguf", SHAPE, arrays)
    _files.write_folder(tmp_path / "folder", SHAPE, arrays)
    got = []
    for path in (tmp_path / "m.gguf", tmp_path / "folder"):
        with rotor.Engine(path, head="file") as engine, engine.session() as session:
            got.append(session.eval([3, 1, 4, 1, 5]).tobytes())
    assert got[0] == got[1]


def test_what_is_missing_is_named(arrays, tmp_path):
    less = {name: a for name, a in arrays.items() if "1.mlp.up_proj" not in name}
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj"):
        _files.write_gguf(tmp_path / "m.gguf", SHAPE, less)
    wrong = {**arrays, "model.norm.weight": np.ones(5, np.float32)}
    with pytest.raises(ValueError, match="expected"):
        _files.write_folder(tmp_path / "f", SHAPE, wrong)
