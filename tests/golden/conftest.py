# SPDX-License-Identifier: MIT
"""Shared by the golden tests: the built program (ROTOR_BINARY, else build/rotor) and a way to get logits out of it."""
import os
import subprocess
import sys

import numpy as np
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, HERE)


@pytest.fixture(scope="session")
def rotor_binary():
    path = os.environ.get("ROTOR_BINARY") or os.path.join(ROOT, "build", "rotor")
    if not os.path.exists(path):
        if os.environ.get("ROTOR_BINARY"):
            pytest.fail(f"ROTOR_BINARY names {path}, which does not exist")
        pytest.skip("no built program: set ROTOR_BINARY")
    return path


@pytest.fixture
def rotor(rotor_binary):
    """rotor("run", ...) -> stdout as text; a failing exit is a failing test that shows stderr."""
    def call(*args):
        done = subprocess.run([rotor_binary, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        if done.returncode:
            pytest.fail(f"rotor {' '.join(map(str, args))}\nexit {done.returncode}\n{done.stderr.decode(errors='replace')}")
        return done.stdout.decode("utf-8")
    return call


@pytest.fixture
def rotor_logits(rotor, tmp_path):
    """Logits [T, V] (all positions) with an f32 cache and the head as the file has it."""
    def call(model, ids, *flags):
        out = tmp_path / "logits.npy"
        rotor("logits", model, "--tokens", ",".join(map(str, ids)), "-o", out, "--all", "--kv", "f32", "--head", "file", *flags)
        logits = np.load(out)
        assert logits.dtype == np.float32
        return logits
    return call
