# SPDX-License-Identifier: MIT
"""all-MiniLM-L6-v2, where it is: ROTOR_TEST_MINILM names its folder (config.json, model.safetensors, tokenizer.json or vocab.txt,
1_Pooling). Without it the test is skipped.

tests/data/golden/minilm.npy holds the vectors of TEXTS by transformers in float32 (mean over the tokens of the network's last
states, at most 256 tokens, length one), made by tools/golden/minilm.py.
"""
import json
import os
import re
import shutil

import numpy as np
import pytest

import encoders_to_gguf
import gguf_mini as g
import reference_encoders

TEXTS = ["This is an example sentence", "Each sentence is converted",
         "Ein Satz mit Ümläuten, accents café naïve — und Zahlen 3.14159!", "The cat sat on the mat. " * 100,
         "日本語のテキスト and Русский текст", "x"]
HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def folder():
    path = os.environ.get("ROTOR_TEST_MINILM")
    if not path or not os.path.isdir(path):
        pytest.skip("no data")
    return path


@pytest.fixture(scope="module")
def want():
    return np.load(os.path.join(HERE, "..", "data", "golden", "minilm.npy"))


def embed(rotor, tmp_path, model, *flags):
    rotor("embed", model, "-", "--truncate", "-o", tmp_path / "y.npy", *flags, input="\n".join(TEXTS))
    return np.load(tmp_path / "y.npy")


def cosine(a, b):
    return (a.astype(np.float64) * b).sum(axis=1)


@pytest.fixture(scope="module")
def thousand():
    """Different sentences."""
    found = {}
    for name in ("passages.jsonl", "questions.jsonl"):
        with open(os.path.join(HERE, "..", "data", "retrieval", name), encoding="utf-8") as f:
            for line in f:
                found.update(dict.fromkeys(re.split(r"(?<=[.!?]) +", json.loads(line)["text"].replace("\n", " "))))
    found = [s for s in found if len(s) > 10][:1000]
    assert len(found) == 1000
    return found


@pytest.fixture(scope="module")
def sentences(thousand):
    """A hundred of them: a float64 forward pass in numpy takes its time."""
    return thousand[::10]


@pytest.fixture(scope="module")
def by_sentence_transformers(folder, thousand):
    """Its vectors in float32; the package needs torch and is looked for, not installed."""
    package = pytest.importorskip("sentence_transformers")
    return package.SentenceTransformer(folder, device="cpu").encode(thousand, normalize_embeddings=True)


@pytest.mark.parametrize("act,most", [("auto", 1e-4), ("q8", 2e-3)])
def test_a_thousand_sentences(rotor, tmp_path, folder, thousand, by_sentence_transformers, act, most):
    rotor("embed", folder, "-", "--act", act, "-o", tmp_path / "y.npy", input="\n".join(thousand))
    y, want = np.load(tmp_path / "y.npy").astype(np.float64), by_sentence_transformers.astype(np.float64)
    far = 1 - (y * want).sum(axis=1) / np.linalg.norm(y, axis=1) / np.linalg.norm(want, axis=1)
    print("%s: cosine distances of %d: median %.2e, largest %.2e; elements differ by %.1e at most"
          % (act, len(far), np.median(far), far.max(), np.abs(y - want).max()))
    assert y.shape == (1000, 384) and far.max() <= most


@pytest.fixture(scope="module")
def of_sentences(rotor, folder, sentences):
    """Their vectors in float64, of the ids that the program's tokenizer gives (held to others' in tests of its own)."""
    ids = rotor("tokenize", folder, "--lines", "--bos", "-", input="\n".join(sentences)).stdout.splitlines()
    return reference_encoders.vectors(folder, [list(map(int, line.split())) + [102] for line in ids])


@pytest.mark.parametrize("act,least", [("auto", 0.9999), ("q8", 0.998)])
def test_sentences(rotor, tmp_path, folder, sentences, of_sentences, act, least):
    rotor("embed", folder, "-", "--act", act, "-o", tmp_path / "y.npy", input="\n".join(sentences))
    near = cosine(np.load(tmp_path / "y.npy"), of_sentences)
    assert near.min() > least, "cosines %.9f to %.9f" % (near.min(), near.max())
    print("cosines %.9f to %.9f, median %.9f" % (near.min(), near.max(), np.median(near)))


def test_folder(rotor, tmp_path, folder, want):
    y = embed(rotor, tmp_path, folder)
    assert np.abs(y - want).max() < 2e-6 and cosine(y, want).min() > 0.999999


def test_vocab_txt_instead_of_tokenizer_json(rotor, tmp_path, folder, want):
    other = tmp_path / "words"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("tokenizer*", "data_config*"))
    assert np.abs(embed(rotor, tmp_path, other) - want).max() < 2e-6


@pytest.mark.parametrize("kind", ["BF16", "Q8_0"])
def test_gguf(rotor, tmp_path, folder, want, kind):
    """As files are today: the vocabulary with U+2581 in front of words, no tokenizer beside it."""
    with open(os.path.join(folder, "vocab.txt"), encoding="utf-8") as f:
        words = f.read().split("\n")[:30522]
    tokens = [w[2:] if w.startswith("##") else w if w.startswith("[") and w.endswith("]") else "\u2581" + w for w in words]
    tokens, ids = (g.STRING, tokens), {name + "_token_id": words.index(w) for name, w in (("unknown", "[UNK]"), ("padding", "[PAD]"), ("cls", "[CLS]"),
                                                              ("mask", "[MASK]"), ("seperator", "[SEP]"))}
    plain, path = tmp_path / "plain.gguf", tmp_path / "m.gguf"
    encoders_to_gguf.convert(folder, str(plain))
    meta, raw = g.read_gguf(plain)
    meta |= {"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type_count": 2}
    meta |= {"tokenizer.ggml." + k: v for k, v in ids.items()}
    if kind == "Q8_0":
        for name, t in raw.items():
            if name.startswith("blk.") and len(t.shape) == 2:
                x = g.bf16_to_f32(np.frombuffer(t.data, "<u2")).reshape(t.shape)
                raw[name] = g.Raw(g.Q8_0, t.shape, g.encode(g.Q8_0, x))
    g.write_gguf(path, meta, raw)
    y = embed(rotor, tmp_path, path, "--ctx", "256")           # files do not say it
    assert cosine(y, want).min() > (0.9999 if kind == "BF16" else 0.998)
