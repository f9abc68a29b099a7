# SPDX-License-Identifier: MIT
"""The 1.6-bit type T5 as a user meets it: made, read by another reader, run, turned back; its version and damaged files."""
import json

import numpy as np
import pytest

from gguf_header import Header, gguf_mini as g

KEY = "rotor.t5.version"


@pytest.fixture(scope="module")
def files(rotor, tmp_path_factory):
    """A tiny model as I2_S and as T5."""
    folder = tmp_path_factory.mktemp("t5")
    i2s, t5 = folder / "i2s.gguf", folder / "t5.gguf"
    rotor("synth", "bitnet-tiny", "-o", i2s)
    rotor("quantize", i2s, t5, "t5")
    return i2s, t5


def test_another_reader_finds_the_same_weights(files):
    meta, tensors = g.read_gguf(files[1])
    before_meta, before = g.read_gguf(files[0])
    assert meta[KEY] == 1 and KEY not in before_meta and Header(files[1]).count("T5") == 14
    for name, raw in before.items():
        if raw.type != g.I2_S:
            assert tensors[name].data == raw.data
            continue
        t, scale = g.decode_i2s(raw.data, *raw.shape)
        t5, scales = g.decode_t5(tensors[name].data, *raw.shape)
        assert (t5 == t).all() and (scales == np.float32(scale)).all()
        assert tensors[name].data == g.encode_t5(t, scale)


def test_logits_are_the_same_bits(rotor, files, tmp_path):
    ids = ",".join(str(i * 37 % 500) for i in range(40))
    for words in (["--chunk", "1"], ["--chunk", "3"], [], ["--act", "f32"], ["-t", "1"]):
        out = []
        for path in files:
            rotor("logits", path, "--tokens", ids, "--all", *words, "-o", tmp_path / "x.npy")
            out.append((tmp_path / "x.npy").read_bytes())
        assert out[0] == out[1]


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN", "F32"])
def test_from_and_to_every_ternary_type(rotor, files, tmp_path, kind):
    there, t5, back = (tmp_path / n for n in ("a.gguf", "b.gguf", "c.gguf"))
    rotor("quantize", files[0], there, kind)
    rotor("quantize", there, t5, "T5")
    assert t5.read_bytes() == files[1].read_bytes()
    rotor("quantize", t5, back, kind)
    assert back.read_bytes() == there.read_bytes()


@pytest.mark.parametrize("rows, cols", [(1, 1), (15, 19), (17, 21), (48, 100), (5, 333)])
def test_any_shape(rotor, tmp_path, rows, cols):
    t = np.random.default_rng(rows).integers(-1, 2, (rows, cols))
    t[0, 0] = 1
    a, b, c = (tmp_path / n for n in ("a.gguf", "b.gguf", "c.gguf"))
    w = (t * np.float32(0.37)).astype(np.float32)
    tensors = {"blk.0.w.weight": g.Raw(g.F32, t.shape, w.tobytes()), "blk.0.v.weight": g.Raw(g.F32, (2, 4), bytes(32))}
    g.write_gguf(a, {"general.architecture": "x", "general.file_type": 0}, tensors)
    rotor("quantize", a, b, "T5")
    raw = g.read_gguf(b)[1]["blk.0.w.weight"]
    if rows > 1 and cols > 1:
        assert raw.type == g.T5 and raw.data == g.encode_t5(t, np.float32(0.37))
    rotor("quantize", b, c, "F32")
    assert c.read_bytes() == a.read_bytes()
    assert json.loads(rotor("inspect", b, "--verify", "--json").stdout)["verify"]["bad_tensors"] == 0


def test_rows_keep_their_scales(rotor, tmp_path):
    t = np.random.default_rng(8).integers(-1, 2, (20, 128))
    t[:, 0] = 1
    scales = np.arange(1, 21, dtype=np.float32) / 7
    rows = b"".join(g.encode_iq2_bn(t[r:r + 1], scales[r]) for r in range(20))
    a, b, c = (tmp_path / n for n in ("a.gguf", "b.gguf", "c.gguf"))
    g.write_gguf(a, {"general.architecture": "x"}, {"blk.0.w.weight": g.Raw(g.IQ2_BN, t.shape, rows)})
    rotor("quantize", a, b, "T5")
    values, kept = g.decode_t5(g.read_gguf(b)[1]["blk.0.w.weight"].data, 20, 128)
    assert (values == t).all() and (kept == scales).all()
    stats = json.loads(rotor("inspect", b, "--stats", "--json").stdout)["stats"][0]
    assert np.isclose(stats["scale_min"], 1 / 7) and np.isclose(stats["scale_max"], 20 / 7)
    rotor("quantize", b, c, "IQ2_BN")
    assert c.read_bytes() == a.read_bytes()
    assert "row scales differ and I2_S holds one" in rotor("quantize", b, c, "I2_S", status=1).stderr


def changed(files, tmp_path, edit):
    raw, path = bytearray(files[1].read_bytes()), tmp_path / "bad.gguf"
    path.write_bytes(edit(raw) or raw)
    return path


@pytest.mark.parametrize("verb", [["inspect"], ["run", "-p", "x", "-n", "1"], ["logits", "--tokens", "1", "-o", "x.npy"]])
def test_an_unknown_version_is_refused_by_name(rotor, files, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)

    def to_7(raw):
        raw[raw.index(KEY.encode()) + len(KEY) + 4] = 7

    def without(raw):
        at = raw.index(KEY.encode())
        raw[at:at + len(KEY)] = KEY.replace("t5", "tx").encode()

    path = changed(files, tmp_path, to_7)
    assert "is of type T5 version 7; this program knows version 1" in rotor(verb[0], path, *verb[1:], status=1).stderr
    path = changed(files, tmp_path, without)
    assert "key rotor.t5.version" in rotor(verb[0], path, *verb[1:], status=1).stderr


def test_a_file_cut_short_is_refused(rotor, files, tmp_path):
    path = changed(files, tmp_path, lambda raw: raw[:len(raw) - 4096])
    assert "bad.gguf" in rotor("inspect", path, status=1).stderr


def test_illegal_bytes_are_found(rotor, files, tmp_path):
    h = Header(files[1])
    at = h.data_at + h.tensors["blk.1.ffn_up.weight"][2]
    chunks, rows = -(-256 // 20), 512

    def in_row_17(raw):
        raw[at + (chunks + 2) * 64 + 4] = 252

    path = changed(files, tmp_path, in_row_17)
    r = rotor("inspect", path, "--verify", status=1)
    assert "blk.1.ffn_up.weight" in r.stdout and "row 17, column 40: no string of five digits" in r.stdout
    r = rotor("logits", path, "--tokens", "1", "-o", tmp_path / "x.npy", status=1)
    assert "blk.1.ffn_up.weight" in r.stderr and "byte 0xFC in rows 16-31" in r.stderr

    def in_the_padding(raw):  # column 259 of 256
        raw[at + (chunks - 1) * 64 + 3] = 200
        assert rows % 16 == 0

    path = changed(files, tmp_path, in_the_padding)
    assert "blk.1.ffn_up.weight" in rotor("inspect", path, "--verify", status=1).stdout
    assert "byte 0xC8 in rows 0-15" in rotor("logits", path, "--tokens", "1", "-o", tmp_path / "x.npy", status=1).stderr
