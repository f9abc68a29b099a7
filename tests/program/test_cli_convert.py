# SPDX-License-Identifier: MIT
"""rotor convert and rotor quantize: nothing lost among ternary types, HF folders give the same logits."""
import base64
import json
import os
import shutil
import struct

import numpy as np
import pytest

from gguf_header import Header, gguf_mini as g


@pytest.fixture(scope="module")
def tiny(rotor, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.gguf"
    rotor("synth", "bitnet-tiny", "-o", path)
    return path


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN", "T5", "F32", "F16", "BF16", "Q8_0"])
def test_there_and_back_is_the_same_file(rotor, tiny, tmp_path, kind):
    there, back = tmp_path / "there.gguf", tmp_path / "back.gguf"
    report = json.loads(rotor("quantize", tiny, there, kind, "--json").stdout)
    kept = [k for k in rotor_kv(rotor, there) if k.startswith("rotor.scale_f32.")]
    exact = kind in ("IQ2_BN", "T5", "F32")
    assert report["changed"] == 14 and report["rounded_scales"] == len(kept) == (0 if exact else 14)
    assert report["rounded_scales"] == 0 or "kept as rotor.scale_f32.blk.0.attn_q.weight" in \
        rotor("quantize", tiny, there, kind).stderr
    rotor("quantize", there, back, "I2_S")
    assert back.read_bytes() == tiny.read_bytes()


def rotor_kv(rotor, path):
    return json.loads(rotor("inspect", path, "--json").stdout)["metadata"]


def test_codes_read_by_another_reader(rotor, tiny, tmp_path):
    there = tmp_path / "t.gguf"
    rotor("quantize", tiny, there, "TQ2_0")
    meta, tensors = g.read_gguf(there)
    _, before = g.read_gguf(tiny)
    for name, raw in before.items():
        if raw.type != g.I2_S:
            assert tensors[name].data == raw.data
            continue
        t, scale = g.decode_i2s(raw.data, *raw.shape)
        t2, d = g.decode_tq2(tensors[name].data, *raw.shape)
        assert (t == t2).all() and (d == np.float16(scale)).all()
        assert np.float32(meta["rotor.scale_f32." + name]) == np.float32(scale)
    assert meta["general.file_type"] == 37


@pytest.mark.parametrize("order", ["arm", "4row"])
def test_other_byte_orders_of_i2s(rotor, tmp_path, order):
    t = np.random.default_rng(2).integers(-1, 2, (16, 256))
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    g.write_gguf(a, {"general.architecture": "x"}, {"blk.0.w.weight": g.Raw(g.I2_S, t.shape, g.encode_i2s(t, 0.5, order))})
    rotor("quantize", a, b, "I2_S", "--i2s-layout", order)
    _, tensors = g.read_gguf(b)
    back, scale = g.decode_i2s(tensors["blk.0.w.weight"].data, *t.shape)
    assert (back == t).all() and scale == 0.5


def test_block_scales_survive_between_tq_types(rotor, tmp_path):
    t = np.random.default_rng(3).integers(-1, 2, (4, 512))
    rows = b"".join(g.encode_tq2(t.reshape(-1, 256)[i:i + 1], 0.25 * (i + 1)) for i in range(8))
    a, b, c = (tmp_path / n for n in ("a.gguf", "b.gguf", "c.gguf"))
    g.write_gguf(a, {"general.architecture": "x"}, {"blk.0.w.weight": g.Raw(g.TQ2_0, t.shape, rows)})
    rotor("quantize", a, b, "TQ1_0")
    rotor("quantize", b, c, "TQ2_0")
    assert g.read_gguf(c)[1]["blk.0.w.weight"].data == rows
    assert "scales differ and I2_S holds one" in rotor("quantize", a, c, "I2_S", status=1).stderr


def test_dense_types_and_head(rotor, tmp_path):
    rng = np.random.default_rng(4)
    w, e = rng.normal(size=(8, 256)).astype(np.float32), rng.normal(size=(16, 256)).astype(np.float32)
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    g.write_gguf(a, {"general.architecture": "x", "general.file_type": 0}, {
        "token_embd.weight": g.Raw(g.F32, e.shape, e.tobytes()), "blk.0.w.weight": g.Raw(g.F32, w.shape, w.tobytes()),
        "blk.0.attn_norm.weight": g.Raw(g.F32, (256,), w[0].tobytes())})
    rotor("quantize", a, b, "Q8_0", "--head", "F16")
    meta, tensors = g.read_gguf(b)
    assert tensors["blk.0.w.weight"].data == g.encode_q8_0(w) and meta["general.file_type"] == 7
    assert tensors["token_embd.weight"].data == e.astype("<f2").tobytes()
    assert tensors["blk.0.attn_norm.weight"].data == w[0].tobytes()
    refused = rotor("quantize", a, b, "TQ2_0", status=2)
    assert "blk.0.w.weight" in refused.stderr and "only ternary matrices" in refused.stderr


def test_rows_that_do_not_fit_are_kept_and_said(rotor, tmp_path):
    w = np.ones((4, 96), np.float32)
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    g.write_gguf(a, {"general.architecture": "x"}, {"blk.0.w.weight": g.Raw(g.F32, w.shape, w.tobytes())})
    r = rotor("quantize", a, b, "Q6_K")
    assert "rows of 96 do not fit Q6_K blocks of 256; kept as F32" in r.stderr
    assert Header(b).tensors["blk.0.w.weight"][0] == "F32"


FOLDERS = ["hf-bitnet-online", "hf-bitnet-packed", "hf-llama-1.58", "hf-llama-headdim", "hf-llama-tied", "hf-mistral",
           "hf-mistral-window", "hf-qwen2", "hf-qwen3"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_give_the_same_logits(rotor, source_root, tmp_path, folder):
    source, out = source_root / "tests" / "data" / "golden" / folder, tmp_path / "m.gguf"
    rotor("convert", source, "-o", out)
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    words = ["--tokens", "1,5,9,12,40,7,7,3", "--all", "-o"]
    rotor("logits", source, *words, a)
    rotor("logits", out, *words, b)
    a, b = np.load(a), np.load(b)
    assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()  # pairs of rotated columns are summed in another order
    if "bitnet" in folder:
        assert a.tobytes() == b.tobytes() and Header(out).count("I2_S") > 0


def test_llama3_rope_scaling_becomes_a_tensor_of_divisors(rotor, source_root, tmp_path):
    folder, out = tmp_path / "hf", tmp_path / "m.gguf"
    shutil.copytree(source_root / "tests" / "data" / "golden" / "hf-llama-tied", folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_scaling"] = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "original_max_position_embeddings": 32}
    (folder / "config.json").write_text(json.dumps(config))
    rotor("convert", folder, "-o", out)
    divisors = np.frombuffer(g.read_gguf(out)[1]["rope_freqs.weight"].data, np.float32)
    assert divisors[0] == 1.0 and np.isclose(divisors[-1], 8.0)
    a, b, plain = tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "c.npy"
    words = ["--tokens", ",".join(str(5 + i) for i in range(40)), "--all", "-o"]
    rotor("logits", folder, *words, a)
    rotor("logits", out, *words, b)
    rotor("logits", source_root / "tests" / "data" / "golden" / "hf-llama-tied", *words, plain)
    a, b, plain = np.load(a), np.load(b), np.load(plain)
    assert np.abs(a - b).max() <= 2e-5 * np.abs(a).max() < np.abs(a - plain).max()


def test_folder_to_another_type(rotor, source_root, tmp_path):
    out = tmp_path / "m.gguf"
    rotor("convert", source_root / "tests" / "data" / "golden" / "hf-llama-tied", "-o", out, "--type", "Q8_0", "--head", "F16")
    h = Header(out)
    assert h.tensors["blk.0.ffn_up.weight"][0] == "Q8_0" and h.tensors["token_embd.weight"][0] == "F16"


TOKENIZER = {
    "version": "1.0", "added_tokens": [{"id": 261, "content": "<|eot|>", "special": True, "single_word": False, "lstrip": False,
                                        "rstrip": False, "normalized": False}],
    "normalizer": None, "post_processor": None, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}}


def byte_letters():
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def test_tokenizer_gives_the_same_ids(rotor, source_root, tmp_path):
    folder, out = tmp_path / "hf", tmp_path / "m.gguf"
    shutil.copytree(source_root / "tests" / "data" / "golden" / "hf-llama-tied", folder)
    merges = [["t", "h"], ["th", "e"], ["Ġ", "the"], ["h", "e"], ["l", "l"]]
    vocab = {c: i for i, c in enumerate(byte_letters() + ["".join(m) for m in merges])}
    (folder / "tokenizer.json").write_text(json.dumps({**TOKENIZER, "model": {"type": "BPE", "vocab": vocab, "merges": merges}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eot|>", "chat_template": "{{ messages }}"}))
    rotor("convert", folder, "-o", out)
    h = Header(out)
    assert h.kv["tokenizer.ggml.pre"] == "gpt-2" and h.kv["tokenizer.ggml.merges"][1] == "th e"
    assert h.kv["tokenizer.ggml.eos_token_id"] == 261 and h.kv["tokenizer.chat_template"] == "{{ messages }}"
    for text in ["the hello of the other", "naïve 12 <|eot|> x\n\n y", ""]:
        for flags in [[], ["--special"]]:
            assert rotor("tokenize", folder, text, *flags).stdout == rotor("tokenize", out, text, *flags).stdout


TEXTS = ["Hello World, don't STOP... 3.14", "  na\u00efve \u00c5ngstr\u00f6m  caf\u00e9 ", "\u4f60\u597d\uff0c\u4e16\u754c \uff26\uff55",
         "one\ttwo\nthree\u00a0four", "unbelievable internationalisation of the other things", " ", ""]


def folder_with(source_root, tmp_path, tokenizer, config):
    folder = tmp_path / "hf"
    shutil.copytree(source_root / "tests" / "data" / "golden" / "hf-llama-tied", folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def same_ids(rotor, a, b):
    for text in TEXTS:
        for flags in [[], ["--bos"]]:
            ids = rotor("tokenize", a, "-", *flags, input=text).stdout
            assert ids == rotor("tokenize", b, "-", *flags, input=text).stdout
            assert text.strip() == "" or len(ids.split()) >= 4


@pytest.mark.parametrize("name", ["hf-wordpiece", "hf-wordpiece-cased"])
def test_wordpiece_vocabulary_gives_the_same_ids(rotor, source_root, tmp_path, name):
    out = tmp_path / "m.gguf"
    tokenizer = json.loads((source_root / "tests" / "data" / "text" / (name + ".json")).read_text())
    config = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": {"content": "[MASK]"}}
    folder = folder_with(source_root, tmp_path, tokenizer, config)
    assert "no vocabulary" not in rotor("convert", folder, "-o", out).stderr
    kv = Header(out).kv
    assert kv["tokenizer.ggml.model"] == "bert" and kv["tokenizer.ggml.cls_token_id"] == 2
    assert kv["tokenizer.ggml.seperator_token_id"] == 3 and kv["tokenizer.ggml.unknown_token_id"] == 1
    assert kv["tokenizer.ggml.padding_token_id"] == 0 and kv["tokenizer.ggml.mask_token_id"] == 4
    words = kv["tokenizer.ggml.tokens"]
    listed = tokenizer["model"]["vocab"]
    for word, i in listed.items():  # written as every GGUF file has them
        inner = word.startswith("##") and len(word) > 2
        assert words[i] == (word[2:] if inner else word if word[0] + word[-1] == "[]" and len(word) > 1 else "\u2581" + word)
    same_ids(rotor, folder, out)


def sentencepiece_unigram(source_root):
    """The small SentencePiece model of the tests, as a tokenizer.json like T5's."""
    data = (source_root / "tests" / "data" / "text" / "sp-unigram.vocab").read_bytes()
    count, n_map = struct.unpack_from("<II", data)
    at, vocab, kinds = 8 + n_map, [], []
    for _ in range(count):
        kind, score, n = struct.unpack_from("<BfH", data, at)
        vocab.append([data[at + 7:at + 7 + n].decode(), score])
        kinds.append(kind)
        at += 7 + n
    added = [{"id": i, "content": vocab[i][0], "special": True} for i, k in enumerate(kinds) if k in (2, 3)]
    space = "\u2581"
    return {"version": "1.0", "added_tokens": added, "post_processor": None, "decoder": None,
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data[8:8 + n_map]).decode()},
                {"type": "Strip", "strip_left": True, "strip_right": True},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": space, "prepend_scheme": "always", "split": True},
            "model": {"type": "Unigram", "unk_id": kinds.index(2), "vocab": vocab, "byte_fallback": False}}


def test_unigram_vocabulary_gives_the_same_ids(rotor, source_root, tmp_path):
    out = tmp_path / "m.gguf"
    tokenizer = sentencepiece_unigram(source_root)
    folder = folder_with(source_root, tmp_path, tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})
    assert "no vocabulary" not in rotor("convert", folder, "-o", out).stderr
    kv = Header(out).kv
    vocab = tokenizer["model"]["vocab"]
    assert kv["tokenizer.ggml.model"] == "t5" and kv["tokenizer.ggml.tokens"] == [word for word, _ in vocab]
    assert kv["tokenizer.ggml.scores"] == [score for _, score in vocab]
    assert kv["tokenizer.ggml.remove_extra_whitespaces"] is True and kv["tokenizer.ggml.add_space_prefix"] is True
    assert bytes(kv["tokenizer.ggml.precompiled_charsmap"]) == \
        base64.b64decode(tokenizer["normalizer"]["normalizers"][0]["precompiled_charsmap"])
    same_ids(rotor, folder, out)


@pytest.mark.parametrize("spoil", [
    lambda t: t["normalizer"]["normalizers"].insert(0, {"type": "NFKC"}) or t["normalizer"]["normalizers"].pop(1),
    lambda t: t["normalizer"]["normalizers"].append({"type": "Lowercase"}),
    lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                                           t["pre_tokenizer"]]}),
    lambda t: t["normalizer"]["normalizers"][1].update(strip_right=False)])
def test_a_vocabulary_that_gguf_cannot_say_is_left_out(rotor, source_root, tmp_path, spoil):
    out = tmp_path / "m.gguf"
    tokenizer = sentencepiece_unigram(source_root)
    spoil(tokenizer)
    r = rotor("convert", folder_with(source_root, tmp_path, tokenizer, {}), "-o", out)
    assert "the new file has no vocabulary" in r.stderr and "cannot be said in GGUF" in r.stderr
    assert "tokenizer.ggml.tokens" not in Header(out).kv


def test_sampling_settings_go_along(rotor, source_root, tmp_path):
    folder, out, again = tmp_path / "hf", tmp_path / "m.gguf", tmp_path / "n.gguf"
    shutil.copytree(source_root / "tests" / "data" / "golden" / "hf-llama-tied", folder)
    said = {"temperature": 0.5, "top_p": 0.75, "top_k": 7, "min_p": 0.25, "repetition_penalty": 1.5}
    (folder / "generation_config.json").write_text(json.dumps(said))
    rotor("convert", folder, "-o", out)
    rotor("quantize", out, again, "Q8_0")
    for path in (out, again):
        kv = Header(path).kv
        assert {k: v for k, v in kv.items() if k.startswith("general.sampling.")} == {
            "general.sampling.temp": 0.5, "general.sampling.top_p": 0.75, "general.sampling.top_k": 7,
            "general.sampling.min_p": 0.25, "general.sampling.penalty_repeat": 1.5}
    # And they are what a conversation starts with.
    show = "/set\n"
    for path in (folder, again):
        assert "temp 0.5  top-k 7  top-p 0.75  min-p 0.25  repeat-penalty 1.5" in \
            rotor("chat", path, input=show, status=None).stderr
    (folder / "generation_config.json").unlink()
    rotor("convert", folder, "-o", out)
    assert not [k for k in Header(out).kv if k.startswith("general.sampling.")]


def test_errors(rotor, tiny, tmp_path):
    assert "did you mean TQ2_0" in rotor("quantize", tiny, tmp_path / "x", "TQ2", status=2).stderr
    assert "usage: rotor quantize IN OUT TYPE" in rotor("quantize", tiny, status=2).stderr
    assert "-o OUT.gguf" in rotor("convert", tiny, status=2).stderr
    assert "cannot write" in rotor("convert", tiny, "-o", tmp_path / "no" / "x", status=1).stderr
    assert list(tmp_path.iterdir()) == []


FAMILIES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "golden")


@pytest.mark.parametrize("family, told", [("gptoss-mxfp4", "experts"), ("fam-qwen2moe", "experts"), ("fam-qwen2-yarn", "YaRN")])
def test_folders_without_a_plan_are_refused(rotor, tmp_path, family, told):
    shown = rotor("convert", os.path.join(FAMILIES, family), "-o", tmp_path / "x.gguf", status=1)
    assert told in shown.stderr and not (tmp_path / "x.gguf").exists()


def test_a_scale_of_scores_that_gguf_cannot_say_is_refused(rotor, tmp_path):
    folder = tmp_path / "hf"
    shutil.copytree(os.path.join(FAMILIES, "fam-gemma2"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"query_pre_attn_scalar": 24}))
    assert "scale of scores" in rotor("convert", folder, "-o", tmp_path / "x.gguf", status=1).stderr


@pytest.mark.parametrize("family", ["fam-gemma2", "fam-gemma3", "fam-gpt2", "fam-starcoder2", "fam-phi3", "fam-phi3:longrope"])
def test_families_give_the_same_bits(rotor, tmp_path, family):
    name, _, variant = family.partition(":")
    folder, out = tmp_path / "hf", tmp_path / "x.gguf"
    shutil.copytree(os.path.join(FAMILIES, name), folder)
    if variant:
        shutil.copy(folder / ("config_%s.json" % variant), folder / "config.json")
    rotor("convert", folder, "-o", out)
    for n in (40, 12):                        # beyond every window and the shorter context, and below
        ids = ",".join(str(i * 7 % 120) for i in range(n))
        for path, to in ((folder, "a"), (out, "b")):
            rotor("logits", path, "--tokens", ids, "--all", "-o", tmp_path / (to + ".npy"))
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes(), n


def test_rows_of_smollm3_move_into_pairs(rotor, tmp_path):
    folder = os.path.join(FAMILIES, "fam-smollm3")
    rotor("convert", folder, "-o", tmp_path / "x.gguf")
    for path, name in ((folder, "a"), (tmp_path / "x.gguf", "b")):
        rotor("logits", path, "--tokens", "1,2,3,4,5,6,7,8", "--all", "--act", "f32", "-o", tmp_path / (name + ".npy"))
    a, b = (np.load(tmp_path / (name + ".npy")) for name in "ab")
    assert np.abs(a - b).max() < 1e-4 * a.std()
