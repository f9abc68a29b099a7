# SPDX-License-Identifier: MIT
"""rotor synth: names, types, shapes and counts of published files, read by an independent reader."""
import os

import numpy as np
import pytest

from gguf_header import Header, gguf_mini


def layer_names(n, *tails):
    return ["blk.%d.%s" % (n, t) for t in tails]


def test_bitnet_2b4t_is_the_published_file(rotor, tmp_path):
    path = tmp_path / "b.gguf"
    rotor("synth", "bitnet-2b4t", "-o", path, "--sparse")
    h = Header(path)
    assert len(h.tensors) == 332 and len(h.kv) == 24
    assert (h.count("F32"), h.count("F16"), h.count("I2_S")) == (121, 1, 210)
    assert h.data_bytes == 1179449920
    assert os.stat(path).st_blocks * 512 < 32 << 20  # holes take no disk
    shapes = {"attn_norm": [2560], "attn_q": [2560, 2560], "attn_k": [2560, 640], "attn_v": [2560, 640],
              "attn_sub_norm": [2560], "attn_output": [2560, 2560], "ffn_norm": [2560], "ffn_gate": [2560, 6912],
              "ffn_up": [2560, 6912], "ffn_sub_norm": [6912], "ffn_down": [6912, 2560]}
    for n in range(30):
        for name, dims in shapes.items():
            kind, got, _ = h.tensors["blk.%d.%s.weight" % (n, name)]
            assert got == dims and kind == ("F32" if len(dims) == 1 else "I2_S")
    assert h.tensors["token_embd.weight"][:2] == ("F16", [2560, 128256])
    assert h.tensors["output_norm.weight"][:2] == ("F32", [2560])
    expected = {"general.architecture": "bitnet-b1.58", "general.name": "bitnet2b", "bitnet-b1.58.vocab_size": 128256,
                "bitnet-b1.58.context_length": 4096, "bitnet-b1.58.embedding_length": 2560,
                "bitnet-b1.58.block_count": 30, "bitnet-b1.58.feed_forward_length": 6912,
                "bitnet-b1.58.rope.dimension_count": 128, "bitnet-b1.58.attention.head_count": 20,
                "bitnet-b1.58.attention.head_count_kv": 5, "bitnet-b1.58.rope.freq_base": 500000.0,
                "general.file_type": 40, "general.quantization_version": 2, "tokenizer.ggml.model": "gpt2",
                "tokenizer.ggml.bos_token_id": 128000, "tokenizer.ggml.eos_token_id": 128001,
                "tokenizer.ggml.padding_token_id": 128001, "tokenizer.ggml.add_bos_token": True}
    for key, value in expected.items():
        assert h.kv[key] == value, key
    assert np.float32(h.kv["bitnet-b1.58.attention.layer_norm_rms_epsilon"]) == np.float32(1e-5)
    assert "tokenizer.ggml.pre" not in h.kv
    check_vocabulary(h, 128256, 280147, 128000)
    tokens = h.kv["tokenizer.ggml.tokens"]
    assert (tokens[128000], tokens[128001], tokens[128009]) == ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
    assert tokens[128002] == "<|reserved_special_token_0|>" and tokens[128255] == "<|reserved_special_token_250|>"


def check_vocabulary(h, n_tokens, n_merges, first_special):
    tokens, merges = h.kv["tokenizer.ggml.tokens"], h.kv["tokenizer.ggml.merges"]
    assert (len(tokens), len(merges), len(set(tokens)), len(set(merges))) == (n_tokens, n_merges, n_tokens, n_merges)
    types = h.kv["tokenizer.ggml.token_type"]
    assert len(types) == n_tokens and set(types[:first_special]) == {1} and types[first_special] == 3
    ids = {t: i for i, t in enumerate(tokens)}
    made = set()
    for m in merges:
        left, right = m.split(" ")
        assert left in ids and right in ids and left + right in ids
        made.add(left + right)
    assert len(made) == first_special - 256  # every token beyond the bytes can be reached


def test_gpt_oss_20b_is_the_published_file(rotor, tmp_path):
    path = tmp_path / "g.gguf"
    rotor("synth", "gpt-oss-20b", "-o", path, "--sparse")
    h = Header(path)
    assert len(h.tensors) == 459
    assert (h.count("F32"), h.count("Q8_0"), h.count("MXFP4")) == (289, 98, 72)
    assert h.data_bytes == 12096558336
    assert os.stat(path).st_blocks * 512 < 64 << 20
    assert h.tensors["blk.23.ffn_down_exps.weight"][:2] == ("MXFP4", [2880, 2880, 32])
    assert h.tensors["blk.0.ffn_gate_exps.bias"][:2] == ("F32", [2880, 32])
    assert h.tensors["blk.7.attn_sinks.weight"][:2] == ("F32", [64])
    assert h.tensors["blk.7.attn_k.weight"][:2] == ("Q8_0", [2880, 512])
    assert h.tensors["output.weight"][:2] == ("Q8_0", [2880, 201088])
    assert h.kv["gpt-oss.expert_used_count"] == 4 and h.kv["gpt-oss.attention.sliding_window"] == 128
    assert h.kv["tokenizer.ggml.tokens"][200002] == "<|return|>" and h.kv["tokenizer.ggml.pre"] == "gpt-4o"
    check_vocabulary(h, 201088, 446189, 199998)
    listed = rotor("inspect", path).stdout
    assert "459 tensors" in listed and "32, 4 per token" in listed


def test_llama3_8b_158(rotor, tmp_path):
    path = tmp_path / "l.gguf"
    rotor("synth", "llama3-8b-1.58", "-o", path, "--sparse")
    h = Header(path)
    assert (len(h.tensors), h.count("F32"), h.count("F16"), h.count("I2_S")) == (291, 65, 2, 224)
    assert h.tensors["blk.31.ffn_down.weight"][:2] == ("I2_S", [14336, 4096])
    assert h.kv["tokenizer.ggml.eos_token_id"] == 128009 and h.kv["llama.context_length"] == 8192


@pytest.mark.parametrize("preset", ["bitnet-tiny", "llama-tiny", "llama-1.58-tiny", "gpt-oss-tiny"])
def test_tiny_models_are_whole_and_repeatable(rotor, tmp_path, preset):
    a, b, c, d = (tmp_path / (n + ".gguf") for n in "abcd")
    rotor("synth", preset, "-o", a)
    rotor("synth", preset, "-o", b, "--seed", "0")
    rotor("synth", preset, "-o", c, "--seed", "1")
    assert a.read_bytes() == b.read_bytes() != c.read_bytes()
    rotor("inspect", a, "--verify")
    rotor("synth", preset, "-o", d, "--layers", "1")
    whole, part = Header(a), Header(d)
    assert set(part.tensors) < set(whole.tensors) and not any(n.startswith("blk.1.") for n in part.tensors)
    raw_a, raw_d = a.read_bytes(), d.read_bytes()
    for name, (_, dims, at) in part.tensors.items():  # leaving a layer out changes no other tensor
        n = int(np.prod(dims)) // 4
        at_a, at_d = whole.data_at + whole.tensors[name][2], part.data_at + at
        assert raw_a[at_a:at_a + n] == raw_d[at_d:at_d + n]


@pytest.mark.parametrize("preset", ["bitnet-tiny", "llama-tiny", "llama-1.58-tiny"])
def test_tiny_models_give_finite_varied_logits(rotor, tmp_path, preset):
    path, out = tmp_path / "m.gguf", tmp_path / "l.npy"
    rotor("synth", preset, "-o", path)
    rotor("logits", path, "--tokens", "1,50,300,7", "--all", "-o", out)
    logits = np.load(out)
    assert logits.shape == (4, 512) and np.isfinite(logits).all()
    assert (logits.std(axis=1) > 0.5).all() and len(set(logits.argmax(axis=1))) > 1


def test_sparse_loads_and_answers(rotor, tmp_path):
    path, out = tmp_path / "m.gguf", tmp_path / "l.npy"
    rotor("synth", "bitnet-tiny", "-o", path, "--sparse")
    rotor("logits", path, "--tokens", "1,2", "-o", out)
    assert np.isfinite(np.load(out)).all()


def test_vocabulary_of_a_gguf_file(rotor, tmp_path):
    words, model = tmp_path / "words.gguf", tmp_path / "m.gguf"
    tokens = [chr(0x4E00 + i) for i in range(512)]
    gguf_mini.write_gguf(words, {"general.architecture": "llama", "tokenizer.ggml.model": "llama",
                                 "tokenizer.ggml.tokens": (gguf_mini.STRING, tokens),
                                 "tokenizer.ggml.scores": (gguf_mini.FLOAT32, [0.0] * 512)}, {})
    rotor("synth", "bitnet-tiny", "-o", model, "--vocab", words)
    assert Header(model).kv["tokenizer.ggml.tokens"] == tokens
    assert "512" in rotor("synth", "bitnet-2b4t", "-o", model, "--vocab", words, "--sparse", status=2).stderr


def test_published_ranks_give_the_published_merges(rotor, test_data, tmp_path):
    path = tmp_path / "b.gguf"
    rotor("synth", "bitnet-2b4t", "-o", path, "--sparse", "--vocab", test_data / "vocab" / "llama3_tokenizer.model")
    h = Header(path)
    check_vocabulary(h, 128256, 280147, 128000)
    assert h.kv["tokenizer.ggml.merges"][0] == "Ġ Ġ"
    ids = rotor("tokenize", path, "Explain why the sky appears blue.", "--bos").stdout
    assert ids == "128000 849 21435 3249 279 13180 8111 6437 13\n"


def test_failures_leave_nothing_behind(rotor, tmp_path):
    assert "did you mean bitnet-2b4t?" in rotor("synth", "bitnet-2b4", "-o", tmp_path / "x", status=2).stderr
    assert "-o FILE" in rotor("synth", "bitnet-tiny", status=2).stderr
    assert "cannot write" in rotor("synth", "bitnet-tiny", "-o", tmp_path / "no" / "x", status=1).stderr
    bad = tmp_path / "ranks"
    bad.write_text("IQ== 0\n!!! 1\n")
    assert "ranks line 2" in rotor("synth", "bitnet-tiny", "-o", tmp_path / "x", "--vocab", bad, status=1).stderr
    assert [p.name for p in tmp_path.iterdir()] == ["ranks"]
