# SPDX-License-Identifier: MIT
"""docs/hardware.md: its table is what tools/expected_speed.py computes, and the computation knows a published model's size."""
import importlib.util
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])


def test_the_table_is_the_computed_one():
    computed = subprocess.run([sys.executable, ROOT / "tools" / "expected_speed.py"], capture_output=True, text=True, check=True).stdout
    assert "\n\n" + computed + "\n" in (ROOT / "docs" / "hardware.md").read_text()
    assert computed.count("\n") == 9 and "does not fit" in computed


def test_the_shapes_have_the_published_sizes():
    spec = importlib.util.spec_from_file_location("expected_speed", ROOT / "tools" / "expected_speed.py")
    speed = importlib.util.module_from_spec(spec)
    sys.modules["expected_speed"] = speed
    spec.loader.exec_module(speed)
    models = {m.name: m for m in speed.MODELS}

    def weights(m):
        return m.layers * (m.attention() + m.feed_forward(m.experts)) + m.vocab * m.width

    assert abs(weights(models["2B4T, I2_S"]) / 2.413e9 - 1) < 0.01
    assert abs((weights(models["Llama-3 8B, Q4_0"]) + 128256 * 4096) / 8.03e9 - 1) < 0.01
    assert abs((weights(models["gpt-oss-20b"]) + 201088 * 2880) / 20.9e9 - 1) < 0.01
