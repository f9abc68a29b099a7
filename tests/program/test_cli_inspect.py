# SPDX-License-Identifier: MIT
"""rotor inspect: facts, memory, verify and stats, against files written here."""
import json

import numpy as np
import pytest

from gguf_header import Header, gguf_mini as g


@pytest.fixture(scope="module")
def tiny(rotor, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.gguf"
    rotor("synth", "bitnet-tiny", "-o", path)
    return path


def inspect(rotor, *words, status=0):
    return json.loads(rotor("inspect", *words, "--json", status=status).stdout)


def test_facts_and_tensors_are_those_of_the_file(rotor, tiny):
    h, d = Header(tiny), inspect(rotor, tiny)
    assert (d["n_tensors"], d["n_metadata"]) == (len(h.tensors), len(h.kv))
    assert d["architecture"] == "bitnet-b1.58" and d["loadable"] is True and d["type"] == "I2_S"
    assert (d["n_layer"], d["n_embd"], d["n_head"], d["n_head_kv"], d["d_head"]) == (2, 256, 4, 2, 64)
    assert d["file_bytes"] == tiny.stat().st_size
    for t in d["tensors"]:
        kind, dims, at = h.tensors[t["name"]]
        assert (t["type"], t["dims"], t["offset"]) == (kind, dims, h.data_at + at)
    assert d["n_params"] == sum(int(np.prod(t[1])) for t in h.tensors.values())
    text = rotor("inspect", tiny).stdout
    assert "bitnet-b1.58" in text and "blk.1.ffn_down.weight" in text and "memory" in text


def test_memory_per_context_length(rotor, tiny, tmp_path):
    m = inspect(rotor, tiny)["memory"]
    assert m[0]["ctx"] == 512 and m[0]["kv_f16_bytes"] == 512 * 2 * 2 * (2 * 64) * 2
    assert m[0]["kv_f32_bytes"] == 2 * m[0]["kv_f16_bytes"]
    big = tmp_path / "b.gguf"
    rotor("synth", "bitnet-2b4t", "-o", big, "--sparse")
    rows = {r["ctx"]: r for r in inspect(rotor, big)["memory"]}
    assert rows[4096]["kv_f16_bytes"] == 4096 * 76800 and max(rows) == 4096
    rotor("synth", "gpt-oss-20b", "-o", big, "--sparse")
    rows = {r["ctx"]: r for r in inspect(rotor, big)["memory"]}
    assert rows[8192]["kv_f16_bytes"] == 12 * 2048 * 8192 + 12 * 2048 * 832  # half keep a window, a step and some slack


def test_unknown_architecture_is_described_not_refused(rotor, tmp_path):
    path = tmp_path / "x.gguf"
    g.write_gguf(path, {"general.architecture": "mystery", "mystery.block_count": 3, "general.name": "X"},
                 {"a.weight": g.Raw(g.F32, (2, 4), bytes(32))})
    d = inspect(rotor, path)
    assert d["architecture"] == "mystery" and d["loadable"] is False and d["n_layer"] == 3
    assert "can be inspected, not run" in rotor("inspect", path).stdout
    assert rotor("inspect", path, "--verify").returncode == 0
    assert "mystery" in rotor("run", path, "-p", "x", status=1).stderr


def test_no_metadata_at_all(rotor, tmp_path):
    path = tmp_path / "x.gguf"
    g.write_gguf(path, {}, {"a": g.Raw(g.F32, (2,), bytes(8))})
    assert inspect(rotor, path)["n_tensors"] == 1
    assert "1 tensors" in rotor("inspect", path).stdout


def test_verify_finds_an_illegal_code_and_names_it(rotor, tiny, tmp_path):
    ok = inspect(rotor, tiny, "--verify")["verify"]
    assert ok["bad_tensors"] == 0 and ok["good_tensors"] == 24 and ok["bad"] == []
    h, raw, bad = Header(tiny), bytearray(tiny.read_bytes()), tmp_path / "bad.gguf"
    raw[h.data_at + h.tensors["blk.1.ffn_up.weight"][2] + 40] |= 0xC0
    bad.write_bytes(raw)
    r = rotor("inspect", bad, "--verify", status=1)
    assert "blk.1.ffn_up.weight" in r.stdout and "row 0" in r.stdout and "1 tensors are bad" in r.stderr
    v = inspect(rotor, bad, "--verify", status=1)["verify"]
    assert v["bad_tensors"] == 1 and v["bad"][0]["tensor"] == "blk.1.ffn_up.weight"
    assert inspect(rotor, bad, "--verify", "--layer", "0")["verify"]["bad_tensors"] == 0


def test_verify_finds_a_value_that_is_not_finite(rotor, tmp_path):
    path = tmp_path / "nan.gguf"
    x = np.ones((3, 4), np.float32)
    x[2, 1] = np.nan
    g.write_gguf(path, {}, {"a": g.Raw(g.F32, (3, 4), x.tobytes())})
    assert "row 2 column 1" in rotor("inspect", path, "--verify", status=1).stdout


def test_stats_count_codes_and_scales(rotor, tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / "t.gguf"
    t, w = rng.integers(-1, 2, (8, 256)), rng.normal(size=(5, 32)).astype(np.float32)
    g.write_gguf(path, {}, {"blk.0.a.weight": g.Raw(g.I2_S, t.shape, g.encode_i2s(t, 0.375)),
                            "blk.0.b.weight": g.Raw(g.F32, w.shape, w.tobytes()),
                            "blk.1.a.weight": g.Raw(g.TQ2_0, t.shape, g.encode_tq2(t, 0.25))})
    a, b = inspect(rotor, path, "--stats", "--layer", "0")["stats"]
    assert (a["minus"], a["zero"], a["plus"]) == tuple((t == v).sum() for v in (-1, 0, 1))
    assert a["scale_min"] == a["scale_max"] == 0.375
    assert np.isclose(a["sparsity"], (t == 0).mean()) and np.isclose(a["rms"], 0.375 * np.sqrt((t ** 2).mean()))
    assert np.isclose(b["mean"], w.mean(), atol=1e-6) and np.isclose(b["max"], w.max())
    every = inspect(rotor, path, "--stats")["stats"]
    assert len(every) == 3 and every[2]["scale_max"] == 0.25
    assert "%" in rotor("inspect", path, "--stats", "--layer", "1").stdout


def test_layer_out_of_range(rotor, tiny):
    assert "layers 0 to 1" in rotor("inspect", tiny, "--layer", "2", "--stats", status=2).stderr


def test_default_is_the_embedded_model(rotor):
    assert inspect(rotor)["name"] == "stories260K"


def test_folders_of_gpt2_have_names_of_their_own(rotor, source_root):
    facts = json.loads(rotor("inspect", source_root / "tests" / "data" / "golden" / "fam-gpt2", "--json").stdout)
    assert facts["loadable"] and [facts[k] for k in ("n_layer", "n_embd", "n_head", "n_head_kv", "d_head", "n_ctx")] == [2, 32, 2, 2, 16, 64]


def test_hugging_face_folder(rotor, source_root):
    d = inspect(rotor, source_root / "tests" / "data" / "golden" / "hf-bitnet-packed")
    assert d["format"] == "safetensors" and d["architecture"] == "bitnet" and d["loadable"] is True and d["n_layer"] > 0
