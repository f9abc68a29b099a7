# SPDX-License-Identifier: MIT
"""The header of a GGUF file of any size, read by the tests' own reader without its tensor bytes."""
import mmap
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import gguf_mini  # noqa: E402

NAMES = {0: "F32", 1: "F16", 8: "Q8_0", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 36: "I2_S", 39: "MXFP4", 0x3554: "T5"}


class Header:
    """kv: metadata in file order; tensors: name -> (type name, dims fastest first, offset in data)."""

    def __init__(self, path):
        with open(path, "rb") as f:
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        assert data[:4] == b"GGUF"
        c = gguf_mini._Cursor(data)
        c.pos = 4
        self.version, n_tensors, n_kv = c.take("<IQQ")
        self.kv, self.tensors = {}, {}
        for _ in range(n_kv):
            key = c.string()
            assert key not in self.kv
            self.kv[key] = c.value(c.take("<I"))
        for _ in range(n_tensors):
            name, n_dims = c.string(), c.take("<I")
            dims = [c.take("<Q") for _ in range(n_dims)]
            kind, at = c.take("<IQ")
            assert name not in self.tensors
            self.tensors[name] = (NAMES[kind], dims, at)
        self.data_at = -(-c.pos // 32) * 32
        self.data_bytes = os.path.getsize(path) - self.data_at

    def count(self, type_name):
        return sum(t[0] == type_name for t in self.tensors.values())
