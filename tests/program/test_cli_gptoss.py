# SPDX-License-Identifier: MIT
"""gpt-oss as a user meets it: the full-shape file loads and answers with numbers, the cache pays, bad files are told.

The full shape is a sparse file of rotor synth: 459 tensors, 12.1 GB of holes. Its experts are zeros; what they compute is
judged in tests/golden/test_gptoss.py, on small checkpoints.
"""
import json

import numpy as np
import pytest

IDS = ",".join(str(i * 37 % 500) for i in range(1, 101))


@pytest.fixture(scope="module")
def full(rotor, tmp_path_factory):
    path = tmp_path_factory.mktemp("gptoss") / "gpt-oss-20b.gguf"
    rotor("synth", "gpt-oss-20b", "-o", path, "--sparse")
    return path


@pytest.fixture(scope="module")
def tiny(rotor, tmp_path_factory):
    path = tmp_path_factory.mktemp("gptoss") / "tiny.gguf"
    rotor("synth", "gpt-oss-tiny", "-o", path)
    return path


def test_load_gpt_oss_20b_gguf(rotor, full):
    facts = json.loads(rotor("inspect", full, "--json").stdout)
    assert facts["loadable"] and facts["n_tensors"] == 459
    shapes = {t["name"]: t["dims"][::-1] for t in facts["tensors"]}  # rows first
    assert shapes["token_embd.weight"] == shapes["output.weight"] == [201088, 2880]
    for n in range(24):
        for name, shape in {"attn_norm.weight": [2880], "attn_q.weight": [4096, 2880], "attn_q.bias": [4096],
                            "attn_k.weight": [512, 2880], "attn_v.weight": [512, 2880], "attn_output.weight": [2880, 4096],
                            "attn_sinks.weight": [64], "post_attention_norm.weight": [2880],
                            "ffn_gate_inp.weight": [32, 2880], "ffn_gate_inp.bias": [32],
                            "ffn_gate_exps.weight": [32, 2880, 2880], "ffn_up_exps.weight": [32, 2880, 2880],
                            "ffn_down_exps.weight": [32, 2880, 2880], "ffn_gate_exps.bias": [32, 2880],
                            "ffn_up_exps.bias": [32, 2880], "ffn_down_exps.bias": [32, 2880]}.items():
            assert shapes["blk.%d.%s" % (n, name)] == shape
    kv = {c["ctx"]: c["kv_f16_bytes"] for c in facts["memory"]}
    # Twelve layers keep it all; twelve their window, the rows of a step, some slack and a page. A uniform cache: 384 MiB
    assert kv[8192] == 12 * 2048 * (8192 + 128 + 512 + 128 + 64)


def test_forward_pass(rotor, full, tmp_path):
    """Two layers of the full shape, one with a window and one without."""
    rotor("logits", full, "--tokens", "1,2,3", "--layers", "2", "-o", tmp_path / "y.npy")
    y = np.load(tmp_path / "y.npy")
    assert y.shape == (1, 201088) and np.isfinite(y).all()


def test_cache_improves_speed(rotor, tiny, tmp_path):
    """The same logits with a cache and by recomputing the sequence; the latter costs a hundred tokens instead of one."""
    rotor("logits", tiny, "--tokens", IDS, "--all", "--chunk", "1", "-o", tmp_path / "cached.npy")
    cached = np.load(tmp_path / "cached.npy")
    for n in (1, 40, 100):
        rotor("logits", tiny, "--tokens", ",".join(IDS.split(",")[:n]), "-o", tmp_path / "again.npy")
        assert np.load(tmp_path / "again.npy").tobytes() == cached[n - 1:n].tobytes()
    shown = rotor("bench", tiny, "-p", "100", "-n", "32", "-r", "3", "--json")
    speed = json.loads(shown.stdout)
    cached_ms, again_ms = 1e3 / speed["decode_tps"], 100 * 1e3 / speed["prompt_tps"]
    assert again_ms > 2 * cached_ms


def test_windows_and_chunks_change_no_bit(rotor, tiny, tmp_path):
    """Longer than three windows; small chunks let go of what is behind the window, large ones keep all."""
    ids = ",".join(str(i * 37 % 500) for i in range(1, 500))
    for name, more in (("a", ["--chunk", "256"]), ("b", ["--chunk", "16"]), ("c", ["--chunk", "7", "-t", "1", "--cpu", "c"])):
        rotor("logits", tiny, "--tokens", ids, "--all", "-o", tmp_path / (name + ".npy"), *more)
    a, b, c = (np.load(tmp_path / (name + ".npy")).tobytes() for name in "abc")
    assert a == b and a == c


def renamed(src, dst, old, new):
    """The same file, one name in it changed for another of the same length."""
    data = src.read_bytes()
    assert data.count(old) >= 1 and len(old) == len(new)
    dst.write_bytes(data.replace(old, new, 1))
    return dst


@pytest.mark.parametrize("old, new, told", [
    (b"blk.1.ffn_up_exps.weight", b"blk.1.ffn_up_expx.weight", "tensor blk.1.ffn_up_exps.weight is missing"),
    (b"blk.0.ffn_down_exps.bias", b"blk.0.ffn_down_expx.bias", "tensor blk.0.ffn_down_exps.bias is missing"),
    (b"blk.0.attn_k.bias", b"blk.0.attn_x.bias", "tensor blk.0.attn_k.bias is missing"),
    (b"blk.1.attn_sinks.weight", b"blk.1.attn_sinkx.weight", "tensor blk.1.attn_sinks.weight is missing"),
    (b"gpt-oss.expert_count\x04\x00\x00\x00\x04", b"gpt-oss.expert_count\x04\x00\x00\x00\x08", "ffn_gate_inp"),
    (b"gpt-oss.expert_count\x04\x00\x00\x00\x04", b"gpt-oss.expert_count\x04\x00\x00\x00\x01", "experts of a token is 2"),
    (b"gpt-oss.expert_used_count", b"gpt-oss.expert_xsed_count", "gpt-oss.expert_used_count is missing"),
])
def test_bad_files_are_told(rotor, tiny, tmp_path, old, new, told):
    path = renamed(tiny, tmp_path / "bad.gguf", old, new)
    shown = rotor("run", path, "-p", "x", "-n", "1", status=1)
    assert told in shown.stderr and str(path) in shown.stderr


def test_memory_that_does_not_hold_the_model_is_told_before_loading(rotor, full, tiny):
    """Said with numbers and what would help; the answer is the same."""
    run = ["run", tiny, "-p", "x", "-n", "8", "--temp", "0", "--ignore-eos"]
    plain, tight = rotor(*run, "-c", "512"), rotor(*run, "-c", "512", "--memory", "1")
    assert plain.stdout == tight.stdout
    assert "memory: weights" in plain.stderr and "are needed" not in plain.stderr
    told = [line for line in tight.stderr.splitlines() if "are needed and" in line]
    assert len(told) == 1 and "experts are read from the file when" in told[0] and "--ctx" in told[0]
    dense = rotor("run", "-p", "x", "-n", "2", "--memory", "1").stderr
    assert "read from the file again for every token" in dense and "quantisation" in dense
    text = rotor("inspect", full, "--memory", "8000").stdout
    assert "of 7.81 GiB available" in text and "too much: experts would be read on demand" in text
    rows = json.loads(rotor("inspect", full, "--memory", "16000", "--json").stdout)
    assert rows["available_bytes"] == 16000 << 20 and [r["fits"] for r in rows["memory"]] == [True] * 6
    text = rotor("inspect", full, "--memory", "14000").stdout
    assert "too much: --kv q8 fits" in text
