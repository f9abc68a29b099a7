# SPDX-License-Identifier: MIT
"""The published numbers of the real BitNet b1.58 2B4T.

Runs when ROTOR_TEST_BITNET names the model (the official GGUF, or the HF folder, packed or bf16);
says it skipped otherwise. The values come from the integration test of `transformers` for this
checkpoint, computed there in float32.
"""
import os

import numpy as np
import pytest

IDS = [128000, 128000, 1502, 25, 2650, 527, 499, 30, 128009, 72803, 25, 220]
MEANS = [-1.8665, -1.7681, -1.7043, 3.7446, 2.7730, 4.7133, 0.9768, -3.5018, -12.2812, -8.1477,
         -10.2571, -8.7610]
FIRST = [5.5815, 4.9154, 1.0478, 4.3869, 3.0112, 0.8235, 3.8412, 2.9233, 8.1140, 1.9406, 1.7973,
         10.5025, 4.7796, 8.5926, 4.5196, 3.1549, 3.2656, 3.2588, 2.7356, 2.6032, 2.1454, 1.5683,
         1.3465, 1.5329, 1.1886, 7.7902, 5.9326, 1.4737, 3.3319, 1.6291]
QUESTION = "What is your favourite food?"
ANSWER = "As an AI, I don't have personal preferences or the ability to eat food. However, I"


@pytest.fixture(scope="module")
def model():
    path = os.environ.get("ROTOR_TEST_BITNET")
    if not path:
        pytest.skip("no data: ROTOR_TEST_BITNET does not name the real model")
    return path


def test_template_ids(rotor, model):
    text = "User: How are you?<|eot_id|>Assistant: "
    out = rotor("tokenize", model, text, "--special").stdout
    assert [int(x) for x in out.split()] == IDS[2:]


def test_logits(rotor, model, tmp_path):
    out = tmp_path / "logits.npy"
    rotor("logits", model, "--tokens", ",".join(map(str, IDS)), "-o", out, "--all", "--kv", "f32",
          "--head", "file")
    logits = np.load(out)
    assert logits.shape == (len(IDS), 128256)
    # Position 0 sees only the first token: no rotation, no attention. It must be near.
    assert np.abs(logits[0, :30] - FIRST).max() < 0.05
    assert np.abs(logits.mean(axis=1) - MEANS).max() < 0.05


def test_greedy_sentence(rotor, model):
    out = rotor("run", model, "--chat", "-p", QUESTION, "-n", 20, "--temp", 0).stdout
    assert out.strip().startswith(ANSWER)
