# SPDX-License-Identifier: MIT
"""Shared by the golden tests: logits out of the program."""
import numpy as np
import pytest


@pytest.fixture
def rotor_logits(rotor, tmp_path):
    """Logits [T, V] of all positions, with an f32 cache and the head as the file has it."""
    def call(model, ids, *flags):
        out = tmp_path / "logits.npy"
        rotor("logits", model, "--tokens", ",".join(map(str, ids)), "-o", out, "--all", "--kv", "f32", "--head", "file",
              *flags)
        logits = np.load(out)
        assert logits.dtype == np.float32
        return logits
    return call
