# SPDX-License-Identifier: MIT
"""rotor embed as a user meets it: forms of input and output, what is refused, and that texts which share steps get the very
vectors they get alone. The values are judged in tests/golden/test_encoders.py."""
import json
import os
import shutil
import sys

import numpy as np
import pytest

STORY = os.environ["ROTOR_MODEL"]
GOLDEN = os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tests", "data", "golden")
ENCODER = os.path.join(GOLDEN, "enc-gemma")
BERT = os.path.join(GOLDEN, "enc-bert")
TEXTS = ["Once upon a time", "there was a little girl named Lily", "She loved to play outside in the park."]
sys.path.insert(0, os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tests", "golden"))
import encoders_to_gguf
import gguf_mini as g


def lines(out):
    rows = [json.loads(line) for line in out.splitlines()]
    assert [r["index"] for r in rows] == list(range(len(rows)))
    return np.array([r["embedding"] for r in rows], np.float32)


@pytest.fixture
def folder(tmp_path):
    """A copy of a folder, to be spoilt."""
    def copy(name):
        shutil.copytree(os.path.join(GOLDEN, name), tmp_path / name)
        return tmp_path / name
    return copy


def refused(rotor, *args, status=1, **more):
    result = rotor("embed", *args, status=status, **more)
    assert not result.stdout
    return result.stderr.splitlines()[-1]


# ---- Input and output -----------------------------------------------------------------------------------------------


def test_json_lines(rotor):
    y = lines(rotor("embed", STORY, *TEXTS).stdout)
    assert y.shape == (3, 64) and np.allclose(np.linalg.norm(y, axis=1), 1, atol=1e-5)
    assert y[0] @ y[1] < 0.9999


def test_lines_of_standard_input(rotor, tmp_path):
    words = lines(rotor("embed", STORY, *TEXTS).stdout)
    for end in ("\n", "\r\n"):
        assert (lines(rotor("embed", STORY, "-", input=end.join(TEXTS)).stdout) == words).all()
    rotor("embed", STORY, "-", "-o", tmp_path / "y.npy", input="\n".join(TEXTS) + "\n")
    y = np.load(tmp_path / "y.npy")
    assert y.dtype == np.float32 and (y == words).all()


@pytest.mark.threads
@pytest.mark.cpu
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_texts_share_steps_and_get_the_same_vectors(rotor, tmp_path, pool):
    """300 texts of one to many tokens, more than a step, a call and the cache take at once."""
    texts = [(TEXTS[i % 3] + " ") * (1 + i * 7 % 5) + "x" * (i % 11) for i in range(300)]
    rotor("embed", STORY, "-", "--pool", pool, "-o", tmp_path / "all.npy", input="\n".join(texts))
    y = np.load(tmp_path / "all.npy")
    assert y.shape == (300, 64) and np.isfinite(y).all()
    for i in (0, 1, 17, 63, 64, 65, 255, 256, 299):
        rotor("embed", STORY, texts[i], "--pool", pool, "-o", tmp_path / "one.npy")
        assert np.load(tmp_path / "one.npy").tobytes() == y[i:i + 1].tobytes(), i


def test_length_and_pooling(rotor):
    raw = lines(rotor("embed", STORY, TEXTS[0], "--no-normalize").stdout)[0]
    unit = lines(rotor("embed", STORY, TEXTS[0]).stdout)[0]
    assert np.linalg.norm(raw) > 1.5 and np.allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)
    kinds = {p: lines(rotor("embed", STORY, TEXTS[0], "--pool", p).stdout)[0] for p in ("mean", "cls", "last")}
    assert (kinds["last"] == unit).all()
    assert all(np.abs(kinds[a] - kinds[b]).max() > 0.01 for a, b in (("mean", "cls"), ("mean", "last"), ("cls", "last")))


def test_an_end_token_speaks_for_the_text(rotor):
    """The last token is the vocabulary's end, as it is for models made for that."""
    ids = rotor("tokenize", STORY, TEXTS[0], "--bos").stdout.split() + ["2"]
    assert (lines(rotor("embed", STORY, TEXTS[0]).stdout) == lines(rotor("embed", STORY, "--tokens", ",".join(ids)).stdout)).all()


def test_a_model_that_says_nothing_is_pointed_out(rotor):
    assert "does not say how its texts become vectors: the last token" in rotor("embed", STORY, "x").stderr
    quiet = rotor("embed", os.path.join(GOLDEN, "enc-qwen3"), "--tokens", "1,2", "--log-level", "warn")
    assert "does not say" not in quiet.stderr


# ---- Bad usage ------------------------------------------------------------------------------------------------------


def test_usage(rotor):
    assert "no text" in refused(rotor, STORY, status=2)
    assert "both TEXT and --tokens" in refused(rotor, STORY, "x", "--tokens", "1", status=2)
    assert "both - and TEXT" in refused(rotor, STORY, "-", "x", status=2)
    assert "512" in refused(rotor, STORY, "--tokens", "1,512", status=2)
    assert "text 2 is empty" in refused(rotor, STORY, "x", "", status=2)
    assert "line 2 of standard input is empty" in refused(rotor, STORY, "-", input="a\n\nb\n", status=2)
    assert "standard input is empty" in refused(rotor, STORY, "-", input="", status=2)
    assert "no vocabulary" in refused(rotor, ENCODER, "some text")
    assert "expected one of" in refused(rotor, STORY, "x", "--pool", "max", status=2)
    assert "rotor embed MODEL TEXT" in rotor("help", "embed").stdout


def test_a_long_text_is_refused_with_numbers_or_cut(rotor):
    ids = ",".join(str(i % 100) for i in range(65))
    said = refused(rotor, ENCODER, "--tokens", ids)
    assert "text 0 has 65 tokens, at most 64 fit" in said and "--truncate" in said
    cut = lines(rotor("embed", ENCODER, "--tokens", ids, "--truncate").stdout)
    assert (cut == lines(rotor("embed", ENCODER, "--tokens", ids.rsplit(",", 1)[0]).stdout)).all()
    long = "once upon a time " * 40
    assert "at most 20 fit" in refused(rotor, STORY, long, "--ctx", "20")
    y = lines(rotor("embed", STORY, long, "--ctx", "20", "--truncate").stdout)
    ids = rotor("tokenize", STORY, long, "--bos").stdout.split()[:19] + ["2"]  # the end stays
    assert (y == lines(rotor("embed", STORY, "--tokens", ",".join(ids)).stdout)).all()


@pytest.mark.parametrize("verb", [("run", "-p", "x"), ("logits", "--tokens", "1", "-o", "y.npy"), ("bench",)])
def test_an_encoder_writes_no_text(rotor, verb):
    said = rotor(verb[0], ENCODER, *verb[1:], status=1).stderr
    assert "makes vectors of texts" in said and "rotor embed" in said


# ---- What stands beside the weights ---------------------------------------------------------------------------------


def test_folders_that_ask_for_something_else(rotor, folder):
    def say(name, file, text):
        model = folder(name)
        (model / file).write_text(text if isinstance(text, str) else json.dumps(text))
        said = refused(rotor, model, "--tokens", "1,2")
        shutil.rmtree(model)
        return said
    assert '"max_tokens" is not supported' in say("enc-qwen3", "1_Pooling/config.json", {"pooling_mode_max_tokens": True})
    assert "several kinds" in say("enc-qwen3", "1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True})
    assert "1_Pooling/config.json" in say("enc-qwen3", "1_Pooling/config.json", "{")
    assert "no JSON list" in say("enc-gemma", "modules.json", "{}")
    assert "models.CNN" in say("enc-gemma", "modules.json", [{"type": "sentence_transformers.models.CNN", "path": "x"}])
    for bad in ("..", "../enc-gemma/2_Dense", "/etc", "", ".hidden"):
        assert "is not supported" in say("enc-gemma", "modules.json", [{"type": "sentence_transformers.models.Dense", "path": bad}])
    assert "nn.Tanh" in say("enc-gemma", "2_Dense/config.json", {"activation_function": "torch.nn.Tanh"})
    assert "more than 2 dense layers" in say("enc-gemma", "modules.json",
                                             [{"type": "a.Dense", "path": p} for p in ("2_Dense", "3_Dense", "2_Dense")])
    assert "expected 96" in say("enc-gemma", "modules.json", [{"type": "a.Dense", "path": p} for p in ("2_Dense", "2_Dense")])


def test_the_newer_name_of_pooling(rotor, folder):
    model = folder("enc-qwen3")
    want = lines(rotor("embed", model, "--tokens", "1,2,3", "--pool", "mean").stdout)
    (model / "1_Pooling/config.json").write_text('{"pooling_mode": "mean"}')
    assert (lines(rotor("embed", model, "--tokens", "1,2,3").stdout) == want).all()


def test_the_longest_text_of_a_folder(rotor, folder):
    model = folder("enc-qwen3")
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    assert "has 5 tokens, at most 4 fit" in refused(rotor, model, "--tokens", "1,2,3,4,5")
    rotor("embed", model, "--tokens", "1,2,3,4,5", "--ctx", "5")


def test_gguf_files_that_ask_for_something_else(rotor, tmp_path):
    path = tmp_path / "m.gguf"
    encoders_to_gguf.convert(os.path.join(GOLDEN, "enc-qwen3"), path)
    meta, raw = g.read_gguf(path)

    def say(**keys):
        g.write_gguf(path, meta | {"qwen3." + k.replace("__", "."): v for k, v in keys.items()}, raw)
        return refused(rotor, path, "--tokens", "1,2")
    assert "pooling_type is 4, a reranker" in say(pooling_type=4)
    assert "not true or false" in say(attention__causal="no")


# ---- Words ----------------------------------------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "."] + ["word%d" % i for i in range(118)]
SAID, IDS = "The CATS sät on the zebra.", "2,5,6,7,8,1,5,1,9,3"         # "on" and "zebra" are unknown


def test_the_words_of_a_bert_folder(rotor, folder):
    model = folder("enc-bert")
    want = lines(rotor("embed", model, "--tokens", IDS).stdout)
    (model / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    assert (lines(rotor("embed", model, SAID).stdout) == want).all()
    (model / "vocab.txt").write_text("\r\n".join(WORDS))
    assert (lines(rotor("embed", model, SAID).stdout) == want).all()
    (model / "vocab.txt").write_text("\n".join(w for w in WORDS if w != "[SEP]"))
    assert "vocab.txt: [CLS], [SEP] or [UNK] is missing" in refused(rotor, model, "x")
    long = " ".join(["cat"] * 70)
    (model / "vocab.txt").write_text("\n".join(WORDS))
    cut = lines(rotor("embed", model, long, "--truncate").stdout)                # both ends stay
    assert (cut == lines(rotor("embed", model, "--tokens", "2," + "6," * 62 + "3").stdout)).all()


def test_the_words_of_a_bert_file(rotor, tmp_path):
    path = tmp_path / "m.gguf"
    encoders_to_gguf.convert(BERT, path)
    meta, raw = g.read_gguf(path)
    tokens = [w[2:] if w.startswith("##") else w if w.startswith("[") else "\u2581" + w for w in WORDS]
    words = {"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": (g.STRING, tokens), "tokenizer.ggml.unknown_token_id": 1,
             "tokenizer.ggml.cls_token_id": 2, "tokenizer.ggml.seperator_token_id": 3, "tokenizer.ggml.padding_token_id": 0}
    g.write_gguf(path, meta | words, raw)
    assert (lines(rotor("embed", path, SAID).stdout) == lines(rotor("embed", BERT, "--tokens", IDS).stdout)).all()


# ---- Encoders that lack something -----------------------------------------------------------------------------------


def test_bert_folders_that_lack_something(rotor, folder):
    def say(name, **keys):
        model = folder(name)
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | keys))
        said = refused(rotor, model, "--tokens", "1,2")
        shutil.rmtree(model)
        return said
    assert "relative_key" in say("enc-bert", position_embedding_type="relative_key")
    assert 'expects "gelu"' in say("enc-bert", hidden_act="relu")
    assert "is_decoder" in say("enc-bert", is_decoder=True)
    assert "64 rows for a context of 65" in say("enc-bert", max_position_embeddings=65)
    assert "heads of" in say("enc-bert", num_attention_heads=3)
    assert "missing" in say("enc-bert", num_hidden_layers=3)
    assert "interleaved" in say("enc-nomic", rotary_emb_interleaved=True)


def test_bert_files_that_lack_something(rotor, tmp_path):
    path = tmp_path / "m.gguf"
    encoders_to_gguf.convert(BERT, path)
    meta, raw = g.read_gguf(path)
    for name in ("position_embd.weight", "token_embd_norm.bias", "blk.1.attn_output_norm.weight", "blk.0.ffn_up.weight"):
        g.write_gguf(path, meta, {k: v for k, v in raw.items() if k != name})
        assert "tensor %s is missing" % name in refused(rotor, path, "--tokens", "1,2")
    g.write_gguf(path, meta, raw | {"blk.0.attn_norm.weight": raw["token_embd_norm.weight"]})
    assert "no part of architecture bert" in refused(rotor, path, "--tokens", "1,2")
    assert "learned 64" in refused(rotor, BERT, "--tokens", "1,2", "--ctx", "65", status=2)
