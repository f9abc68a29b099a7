# SPDX-License-Identifier: MIT
"""docs/file-layouts.md: its examples, packed and unpacked by the library, and its drawings against files that were just written."""
import ctypes
import hashlib
import os
import pathlib
import re
import struct

import numpy as np
import pytest

import gguf_mini
from rotor import _library as c

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
PAGE = (ROOT / "docs" / "file-layouts.md").read_text()
STORY = ROOT / "tests" / "data" / "model" / "stories260K.gguf"
LAYOUTS = ["INT8", "CODES", "PLANES", "HF", "I2S", "I2S_ARM", "I2S_4ROW", "TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN", "IQ2_BN_R4", "T5"]


class Matrix(ctypes.Structure):
    """rotor_ternary_matrix"""
    _fields_ = [("layout", ctypes.c_int), ("rows", ctypes.c_size_t), ("cols", ctypes.c_size_t), ("data", ctypes.c_void_p),
                ("n_bytes", ctypes.c_size_t), ("scale", ctypes.c_float)]


def as_bytes(text):
    """"55 x 29 | 00" to bytes."""
    out = b""
    for byte, times in re.findall(r"\b([0-9A-F]{2})\b(?: x (\d+))?", text):
        out += bytes([int(byte, 16)]) * int(times or 1)
    return out


def as_values(text, shape):
    values = np.zeros(shape, np.float32)
    for part in text.split(";"):
        value, places = part.split(" at ")
        for row, col in re.findall(r"\((\d+), (\d+)\)", places):
            values[int(row), int(col)] = float(value)
    return values


def examples():
    for body in re.findall(r"^```example\n(.*?)^```$", PAGE, re.M | re.S):
        fields = dict(re.split(r"\s+", line, maxsplit=1) for line in body.splitlines())
        shape = tuple(int(n) for n in fields["shape"].split(" x "))
        yield fields["layout"], as_values(fields["values"], shape), float(fields.get("scale", 1)), as_bytes(fields["bytes"])


EXAMPLES = {layout: rest for layout, *rest in examples()}


def convert(dst, src):
    assert c.lib.rotor_ternary_convert(ctypes.byref(dst), ctypes.byref(src), None) == 0


def test_every_layout_has_an_example():
    assert sorted(EXAMPLES) == sorted(set(LAYOUTS) - {"INT8"} | {"MXFP4"})


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_a_ternary_example(layout):
    values, scale, want = EXAMPLES[layout]
    plain = np.ascontiguousarray(values, np.int8)
    words = np.zeros(len(want) // 8 + 1, np.uint64)     # planes want whole words
    n_bytes = ctypes.c_size_t()
    shape = plain.shape
    assert c.lib.rotor_ternary_layout_bytes(LAYOUTS.index(layout), *map(ctypes.c_size_t, shape), ctypes.byref(n_bytes), None) == 0
    assert n_bytes.value == len(want)
    packed = Matrix(LAYOUTS.index(layout), *shape, words.ctypes.data, len(want), 0)
    convert(packed, Matrix(0, *shape, plain.ctypes.data, plain.size, scale))
    assert words.tobytes()[:len(want)] == want
    back = np.full(shape, 9, np.int8)
    unpacked = Matrix(0, *shape, back.ctypes.data, back.size, 0)
    packed.scale = scale                                # of layouts that store none
    convert(unpacked, packed)
    assert (back == plain).all() and unpacked.scale == scale


def test_the_mxfp4_example(rotor, tmp_path):
    values, _, block = EXAMPLES["MXFP4"]
    meta, tensors = gguf_mini.read_gguf(STORY)
    name = "blk.0.attn_q.weight"
    rows, cols = tensors[name].shape
    tensors[name] = gguf_mini.Raw(gguf_mini.MXFP4, (rows, cols), block * (rows * cols // 32))
    kinds = {str: gguf_mini.STRING, float: gguf_mini.FLOAT32, int: gguf_mini.I32}
    meta = {key: (kinds[type(value[0])], value) if isinstance(value, list) else value for key, value in meta.items()}
    gguf_mini.write_gguf(tmp_path / "mx.gguf", meta, tensors)
    rotor("quantize", tmp_path / "mx.gguf", tmp_path / "f32.gguf", "f32")
    _, floats = gguf_mini.read_gguf(tmp_path / "f32.gguf")
    got = np.frombuffer(floats[name].data, "<f4").reshape(-1, 32)
    assert (got == values).all()


# ---- Files ----------------------------------------------------------------------------------------------------------


def fold(a, b):
    product = a * b
    return (product ^ product >> 64) & (2**64 - 1)


def hash64(data, seed):
    h = seed ^ 0xA0761D6478BD642F
    last = (len(data) - 1) // 8 * 8 if data else 0
    for word in struct.unpack("<%dQ" % (last // 8), data[:last]):
        h = fold(h ^ word, 0xE7037ED1A0B428DB)
    h = fold(h ^ int.from_bytes(data[last:], "little"), 0x8EBC6AF09C88C6E3)
    return fold(h ^ len(data), 0x589965CC75374CC3)


def session(rotor, path, kv="f16"):
    rotor("run", STORY, "-p", "Once upon a time", "-n", "4", "--temp", "0", "--kv", kv, "--session", path)
    return path.read_bytes()


def test_a_session_file(rotor, tmp_path):
    data = session(rotor, tmp_path / "s.session")
    drawn = re.search(r"^```session\n(.*?)^```$", PAGE, re.M | re.S).group(1)
    head = b"".join(as_bytes(line[:26]) for line in drawn.splitlines())
    assert len(head) == 96 and data[:96] == head
    assert len(data) == 96 + 40960 + 8
    total = 0
    for begin, end in [(0, 56), (56, 88), (88, 96), (96, 96)] + [(96 + 8192 * i, 96 + 8192 * (i + 1)) for i in range(5)]:
        total = hash64(data[begin:end], total)
    assert total == int.from_bytes(data[-8:], "little")


def test_keys_and_values(rotor, tmp_path):
    """Of the first layer, whose inputs no cache has rounded."""
    n_heads, d, n_tok = 4, 8, 8
    keys, values = {}, {}
    for kv, width in [("f32", d * 4), ("f16", d * 2), ("q8", 34)]:
        data = session(rotor, tmp_path / (kv + ".session"), kv)
        blocks = [data[96 + 64 * width * i:96 + 64 * width * (i + 1)] for i in range(2 * n_heads)]
        if kv == "q8":
            scale = np.array([np.frombuffer(b[:128], "<f2") for b in blocks], np.float32)   # [64] of a block
            codes = [np.frombuffer(b[128:], np.int8) for b in blocks]
            keys[kv] = np.array([x.reshape(32, 64)[:d].T * s[:, None] for x, s in zip(codes[:n_heads], scale)])
            values[kv] = np.array([x.reshape(64, 32)[:, :d] * s[:, None] for x, s in zip(codes[n_heads:], scale[n_heads:])])
        else:
            floats = [np.frombuffer(b, "<" + {"f32": "f4", "f16": "f2"}[kv]) for b in blocks]
            keys[kv] = np.array([x.reshape(d, 64).T for x in floats[:n_heads]])
            values[kv] = np.array([x.reshape(64, d) for x in floats[n_heads:]])
    for of in keys, values:
        exact, half, q8 = (of[kv][:, :n_tok].astype(np.float32) for kv in ("f32", "f16", "q8"))
        assert np.abs(exact).max(axis=2).min() > 0 and (exact.astype(np.float16) == half).all()
        # Half a step by rounding to codes, and 127 codes times a scale that is off by 2^-11 of itself.
        step = np.abs(exact).max(axis=2, keepdims=True) / 127
        assert (np.abs(q8 - exact) <= (0.5 + 127 / 2048) * 1.001 * step).all()


def test_checkpoints_and_token_files(rotor, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("Once upon a time there was a dog. " * 200)
    words = "--layers 1 --embd 128 --heads 2 --kv-heads 1 --ff 128 --ctx 32 --batch 1 --steps 1 --save-every 1".split()
    rotor("train", "--data", text, "--tokenizer", STORY, *words, "-o", tmp_path / "m.gguf")
    kept, tokens = ((tmp_path / ("m.gguf" + end)).read_bytes() for end in (".checkpoint", ".tokens"))
    heads = [as_bytes(code) for code in re.findall(r"`((?:[0-9A-F]{2} ){11,}[0-9A-F]{2})`", PAGE)]
    assert len(heads) == 2 and kept.startswith(heads[0]) and tokens.startswith(heads[1])
    steps, n = struct.unpack_from("<QQ", kept, 216)
    assert steps == 1 and len(kept) == 232 + 12 * n + 8
    learnt, held = struct.unpack_from("<QQ", tokens, len(tokens) - 32)
    assert len(tokens) == 64 + 4 * (learnt + held) + 32


def test_an_export(rotor, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "deck.md").write_text("# Deck\n\nA charge lasts nine hours.\n")
    rotor("rag", "add", tmp_path / "store", tmp_path / "notes", "--no-embed")
    rotor("rag", "export", tmp_path / "store", tmp_path / "kept.rag")
    data = (tmp_path / "kept.rag").read_bytes()
    assert data[:16] == as_bytes(re.search(r"^head +((?:[0-9A-F]{2} +)+)", PAGE, re.M).group(1))
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    at, kinds, bodies = 16, "", []
    while at < len(data) - 32:
        kind, size = struct.unpack_from("<cQ", data, at)
        kinds += kind.decode()
        bodies.append(data[at + 9:at + 9 + size])
        at += 9 + size
    assert at == len(data) - 32 and "is `%s`" % " ".join(kinds) in PAGE
    text = b"A charge lasts nine hours."
    assert text in bodies[1] and struct.unpack("<4Q", bodies[-1]) == (1, 1, 1, 0)
