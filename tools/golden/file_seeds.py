#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes seeds of the file fuzzers and the bad GGUF files of tests/data/file/bad.

Run once, by hand, after tools/golden/quant.py. Needs nothing but Python.
"""
import json
import os
import shutil
import struct

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests")
BAD = os.path.join(ROOT, "data", "file", "bad")
os.makedirs(BAD, exist_ok=True)


def s(text):
    b = text.encode()
    return struct.pack("<Q", len(b)) + b


def head(n_tensors, n_kvs, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_kvs)


def tensor(name, dims, type_id, offset):
    return s(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", type_id, offset)


def image(body, n_data=256):
    return body + bytes(-len(body) % 32) + bytes(n_data)


u32 = lambda key, v: s(key) + struct.pack("<II", 4, v)
files = {
    "dims_product_wraps": image(head(1, 0) + tensor("w", [1 << 32, 1 << 32], 0, 0)),
    "size_wraps": image(head(1, 0) + tensor("w", [1 << 61, 2], 0, 0)),
    "sizes_sum_past_2_64": image(head(4, 0) + b"".join(tensor(c, [1 << 62], 24, i << 62) for i, c in enumerate("abcd"))),
    "array_length_2_63": head(0, 1) + s("a") + struct.pack("<IIQ", 9, 0, 1 << 63),
    "array_nested_deep": head(0, 1) + s("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 10000,
    "key_far_past_end": head(0, 1) + struct.pack("<Q", 1 << 40) + bytes(24),
    "counts_2_40": head(1 << 40, 1 << 40) + bytes(64),
    "counts_wrap": head((1 << 64) // 56 + 1, (1 << 64) // 48 + 1) + bytes(64),
    "value_type_255": head(0, 1) + s("a") + struct.pack("<I", 255) + bytes(32),
    "array_type_all_ones": head(0, 1) + s("a") + struct.pack("<IIQ", 9, 0xFFFFFFFF, 1) + bytes(32),
    "tensor_type_removed": image(head(1, 0) + tensor("w", [32], 4, 0)),
    "tensor_type_negative": image(head(1, 0) + tensor("w", [32], 0x80000000, 0)),
    "tensor_type_tl1": image(head(1, 0) + tensor("w", [32], 38, 0)),
    "zero_dimension": image(head(1, 0) + tensor("w", [32, 0], 0, 0)),
    "dimensions_9": image(head(1, 0) + tensor("w", [1] * 9, 0, 0)),
    "empty_key": image(head(0, 1) + u32("", 1)),
    "duplicate_key": image(head(0, 2) + u32("a", 1) + u32("a", 2)),
    "duplicate_tensor": image(head(2, 0) + tensor("w", [8], 0, 0) + tensor("w", [8], 0, 32)),
    "overlap": image(head(2, 0) + tensor("v", [16], 0, 0) + tensor("w", [16], 0, 32)),
    "misaligned": image(head(1, 0) + tensor("w", [8], 0, 4)),
    "one_byte_past_end": image(head(1, 0) + tensor("w", [64], 0, 0))[:-1],
    "offset_2_63": image(head(1, 0) + tensor("w", [8], 0, 1 << 63)),
    "alignment_2_30": image(head(0, 1) + u32("general.alignment", 1 << 30)),
    "alignment_0": image(head(0, 1) + u32("general.alignment", 0)),
    "version_1": head(0, 0, 1),
    "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "magic": b"GGUX" + head(0, 0)[4:],
    "bool_2": head(0, 1) + s("a") + struct.pack("<IB", 7, 2),
    "name_nul": image(head(1, 0) + tensor("a\0b", [8], 0, 0)),
    "split_alone": head(0, 1) + s("split.count") + struct.pack("<IH", 2, 3),
}
for name, data in files.items():
    with open(os.path.join(BAD, name + ".gguf"), "wb") as f:
        f.write(data[:2000] if name == "array_nested_deep" else data)

corpus = os.path.join(ROOT, "fuzz", "corpus")
for d in ["gguf", "safetensors", "ternary"]:
    os.makedirs(os.path.join(corpus, d), exist_ok=True)
for name in ["overlap", "array_length_2_63", "sizes_sum_past_2_64", "tensor_type_tl1"]:
    shutil.copy(os.path.join(BAD, name + ".gguf"), os.path.join(corpus, "gguf", "bad_" + name))
shutil.copy(os.path.join(ROOT, "data", "file", "small.gguf"), os.path.join(corpus, "gguf", "small"))
shutil.copy(os.path.join(ROOT, "data", "file", "small.safetensors"), os.path.join(corpus, "gguf", "safetensors"))
kinds = [(i, n) for i, n in [(2, 84), (10, 84), (11, 110), (12, 144), (14, 210), (20, 8 * 18), (23, 136), (34, 54), (35, 66), (36, 96), (39, 8 * 17), (134, 54), (135, 68)]]
infos, data, at = b"", b"", 0
for type_id, size in kinds:
    size = 144 if type_id == 2 else size
    infos += tensor(f"t{type_id}", [256, 1], type_id, at)
    data += bytes(range(size)) + bytes(-size % 32)
    at += size + -size % 32
body = head(len(kinds), 1) + s("general.architecture") + struct.pack("<I", 8) + s("bitnet-b1.58") + infos
with open(os.path.join(corpus, "gguf", "many_types"), "wb") as f:
    f.write(body + bytes(-len(body) % 32) + data)
entry = lambda dtype, shape, b, e: {"dtype": dtype, "shape": shape, "data_offsets": [b, e]}
headers = {
    "two": (20, {"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 2], 0, 16), "b": entry("BF16", [2], 16, 20)}),
    "scalar": (4, {"a": entry("F32", [], 0, 4)}),
    "overlap": (8, {"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}),
}
for name, (n, header) in headers.items():
    with open(os.path.join(corpus, "safetensors", name), "wb") as f:
        f.write(struct.pack("<H", n) + json.dumps(header).encode())
for layout in range(12):
    with open(os.path.join(corpus, "ternary", f"layout{layout}"), "wb") as f:
        f.write(bytes([layout, 4, 0, 1]) + bytes((i * 37 + layout) % 171 & 0xAA for i in range(300)))
