#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the golden files of the quant and file rooms from third-party references.

Run once, by hand: tools/golden/quant.py. Files go to tests/data/quant and tests/data/file.
Made with: Python 3.11.7, numpy 2.4.6, gguf 0.19.0, safetensors 0.8.0.

tests/data/quant/decode_<TYPE>.bin:  u32 bytes | u32 values | blocks | float32 values (gguf decode)
tests/data/quant/encode_<TYPE>.bin:  u32 bytes | u32 values | blocks (gguf encode) | float32 values
Printed: FNV-1a hashes of numpy's half conversions, which stand in tests/unit/quant/test_half.c.
"""
import json
import os
import struct

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T, quants
from safetensors.numpy import save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "data")
rng = np.random.default_rng(20240229)

# byte offsets of the half-float fields of each block
HALF_FIELDS = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
               "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
               "TQ1_0": [52], "TQ2_0": [64], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}
HALVES = np.array([1.0, -1.0, 0.0, -0.0, 65504.0, -65504.0, 6.1e-5, 6e-8, -6e-8, 3.3e-6, 0.0123,
                   -0.9, 17.5, 1e-3, 0.333, 1234.0], dtype=np.float16)


def write(path, blocks, values):
    with open(os.path.join(ROOT, path), "wb") as f:
        f.write(struct.pack("<II", blocks.nbytes, values.size))
        f.write(blocks.tobytes())
        f.write(values.astype("<f4").tobytes())


def decode_files():
    for name, fields in HALF_FIELDS.items():
        t = T[name]
        elems, size = gguf.GGML_QUANT_SIZES[t]
        n = 16 if elems == 32 else 6
        b = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for k, at in enumerate(fields):
            b[:, at:at + 2] = np.roll(HALVES, 3 * k)[:n].view(np.uint8).reshape(n, 2)
        if name == "MXFP4":
            b[:, 0] = [0, 1, 2, 3, 60, 100, 120, 126, 127, 128, 129, 140, 200, 250, 253, 254]
        if name == "TQ2_0":  # no code 3
            c = rng.integers(0, 3, (n, 64, 4), dtype=np.uint8)
            b[:, :64] = c[..., 0] | c[..., 1] << 2 | c[..., 2] << 4 | c[..., 3] << 6
        write(f"quant/decode_{name}.bin", b, quants.dequantize(b.reshape(1, -1), t).ravel())
    b = np.arange(0, 65536, 17, dtype=np.uint32).astype(np.uint16)
    write("quant/decode_BF16.bin", b, quants.dequantize(b.view(np.uint8).reshape(1, -1), T.BF16).ravel())


def encode_files():
    x = (rng.standard_normal((8, 256)) * np.array([1, 1e-3, 30, 5, 1e-6, 0, 200, 1])[:, None])
    x = x.astype(np.float32)
    x[7] = np.round(x[7] * 4) / 4  # ties
    x[3, 5] = -40.0
    x[5] = 0.0
    for name in ["Q8_0", "Q4_0", "F16", "BF16"]:
        with np.errstate(all="ignore"):
            write(f"quant/encode_{name}.bin", quants.quantize(x, T[name]), x.ravel())
    t = rng.integers(-1, 2, (4, 512)).astype(np.float32) * np.float32(0.7321)
    t[2, :256] = 0
    for name in ["TQ1_0", "TQ2_0"]:
        with np.errstate(all="ignore"):
            write(f"quant/encode_{name}.bin", quants.quantize(t, T[name]), t.ravel())


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def half_hashes():
    h = np.arange(65536, dtype=np.uint32).astype(np.uint16)
    f = h.view(np.float16).astype(np.float32).view(np.uint32)
    f[(h & 0x7FFF) > 0x7C00] = 0  # NaN payloads are the instruction's business
    print("f16 -> f32 of all 65536:", hex(fnv(f.astype("<u4").tobytes())))
    u = np.uint64(12345) + np.arange(65536, dtype=np.uint64) * np.uint64(2654435761)
    x = (u & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    x = x[(x & 0x7FFFFFFF) <= 0x7F800000]
    with np.errstate(over="ignore"):
        half = x.view(np.float32).astype(np.float16)
    print("f32 -> f16 of", x.size, "spread patterns:", hex(fnv(half.view(np.uint16).astype("<u2").tobytes())))


def gguf_file():
    w = gguf.GGUFWriter(os.path.join(ROOT, "file", "small.gguf"), "test")
    w.add_uint32("n.u32", 7)
    w.add_int32("n.i32", -7)
    w.add_uint64("n.u64", 1 << 40)
    w.add_float32("x.f32", 0.5)
    w.add_bool("b.true", True)
    w.add_string("s.text", "zwölf")
    w.add_array("a.i32", [3, -1, 2])
    w.add_array("a.f32", [0.25, -1.5])
    w.add_array("a.str", ["a", "", "ccc"])
    w.add_tensor("plain", np.arange(6, dtype=np.float32).reshape(2, 3))
    w.add_tensor("half", np.linspace(-1, 1, 5).astype(np.float16))
    q = quants.quantize(np.arange(64, dtype=np.float32).reshape(2, 32), T.Q8_0)
    w.add_tensor("packed", q, raw_dtype=T.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def split_files():
    w = gguf.GGUFWriter(os.path.join(ROOT, "file", "split.gguf"), "test", split_max_tensors=1)
    for i in range(3):
        w.add_tensor(f"t{i}", np.full((2, 4), i, dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def safetensors_files():
    a = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
         "b.bias": np.array([1.5, -2.0], dtype=np.float16)}
    b = {"c.packed": np.arange(8, dtype=np.uint8).reshape(2, 4), "d.scalar": np.array(3.0, dtype=np.float32)}
    folder = os.path.join(ROOT, "file", "hf_sharded")
    os.makedirs(folder, exist_ok=True)
    save_file({**a, **b}, os.path.join(ROOT, "file", "small.safetensors"), metadata={"format": "pt"})
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file(a, os.path.join(folder, names[0]))
    save_file(b, os.path.join(folder, names[1]))
    index = {"metadata": {"total_size": 64},
             "weight_map": {**{k: names[0] for k in a}, **{k: names[1] for k in b}}}
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump(index, f, indent=1)
    with open(os.path.join(folder, "config.json"), "w") as f:
        f.write('{"model_type": "test"}\n')


for d in ["quant", "file"]:
    os.makedirs(os.path.join(ROOT, d), exist_ok=True)
decode_files()
encode_files()
half_hashes()
gguf_file()
split_files()
safetensors_files()
