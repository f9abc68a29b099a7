# SPDX-License-Identifier: MIT
"""rotor train-tokenizer: the vocabulary it learns is that of a slow, obvious trainer and of `tokenizers`."""
import collections
import json
import random
import re

import pytest

from gguf_header import Header

# The GPT-2 rule for ASCII text.
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def printable():
    """Byte -> the character files write it as."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = iter(range(0x100, 0x200))
    return {b: chr(b) if b in plain else chr(next(rest)) for b in range(256)}


def learn(text, n_vocab):
    """Counts every pair anew before each merge."""
    chars = printable()
    tokens = ["<|endoftext|>", "<|eot_id|>", *sorted(chars.values())]
    ids = {t: i for i, t in enumerate(tokens)}
    words = collections.Counter(tuple(ids[chars[b]] for b in piece.encode()) for piece in PIECES.findall(text))
    merges = []
    while len(tokens) < n_vocab:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda p: (-pairs[p], p), default=None)
        if best is None or pairs[best] < 2:
            break
        joined = tokens[best[0]] + tokens[best[1]]
        if joined not in ids:
            ids[joined] = len(tokens)
            tokens.append(joined)
        merges.append(tokens[best[0]] + " " + tokens[best[1]])
        after = collections.Counter()
        for word, n in words.items():
            new, i = [], 0
            while i < len(word):
                pair = word[i:i + 2] == best
                new.append(ids[joined] if pair else word[i])
                i += 2 if pair else 1
            after[tuple(new)] += n
        words = after
    return tokens, merges


@pytest.fixture(scope="module")
def trained(rotor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bpe")

    def call(text, n_vocab, name="text.txt", **how):
        source, out = folder / name, folder / "words.gguf"
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        out.unlink(missing_ok=True)
        r = rotor("train-tokenizer", source, "--vocab", n_vocab, "-o", out, **how)
        if not out.exists():
            return r
        kv = Header(out).kv
        return kv["tokenizer.ggml.tokens"], kv["tokenizer.ggml.merges"]
    return call


def test_equals_the_tokenizers_package(trained, source_root):
    data = source_root / "tests" / "data" / "train"
    golden = json.loads((data / "west_wind_bpe.json").read_text())
    book = trained((data / "west_wind.txt").read_bytes(), 600)
    assert book == (golden["book_600"]["tokens"], golden["book_600"]["merges"])
    awkward = trained(golden["awkward"], 300)
    assert awkward == (golden["awkward_300"]["tokens"], golden["awkward_300"]["merges"])


def test_equals_the_obvious_trainer(trained, source_root):
    text = (source_root / "tests" / "data" / "train" / "west_wind.txt").read_text()[:20000]
    assert trained(text, 420) == learn(text.strip(), 420)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_obvious_trainer_on_ties_and_repeats(trained, seed):
    rng = random.Random(seed)
    text = " ".join("".join(rng.choice("ab") for _ in range(rng.randrange(1, 12))) for _ in range(200))
    assert trained(text, 310) == learn(text, 310)


def test_the_same_text_gives_the_same_file(rotor, tmp_path, source_root):
    book = source_root / "tests" / "data" / "train" / "west_wind.txt"
    for name in "ab":
        rotor("train-tokenizer", book, "--vocab", 512, "-o", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tokenize_reads_it_and_every_byte_comes_back(rotor, tmp_path, source_root):
    words = tmp_path / "w.gguf"
    rotor("train-tokenizer", source_root / "tests" / "data" / "train" / "west_wind.txt", "--vocab", 512, "-o", words)
    data = bytes(range(256)) + "Old Mother West Wind 你好".encode()
    ids = rotor("tokenize", words, "-", input=data, text=False).stdout
    assert rotor("tokenize", words, "--decode", "-", input=ids, text=False).stdout == data + b"\n"
    assert len(rotor("tokenize", words, "Old Mother West Wind").stdout.split()) < 9
    assert rotor("tokenize", words, "a<|eot_id|>", "--special").stdout.split()[-1] == "1"
    assert rotor("tokenize", words, "a", "--bos").stdout.split()[0] == "0"


def test_conversations_and_marks_are_no_text_to_learn(trained):
    text = "ab ab ab<|endoftext|>cd cd cd" * 2
    tokens, _ = trained(text, 262)
    assert not any("<|end" in t for t in tokens[1:])
    line = json.dumps({"question": "zq zq", "answer": "zq zq"}) + "\n"
    tokens, _ = trained(line * 3, 260, name="chat.jsonl")
    assert not any('"' in t and len(t) > 1 for t in tokens)


@pytest.mark.parametrize("text, n_vocab, name, status, told", [
    ("abc", 300, "t.txt", 2, "beyond 258 tokens no pair occurs twice; give more text or a smaller --vocab"),
    ("", 300, "t.txt", 1, "there is no text in it"),
    (b"good\nbad \xff", 300, "t.txt", 1, "byte 9 (line 2) is 0xFF, which is not UTF-8"),
    ('{"prompt": 1}', 300, "t.jsonl", 1, "t.jsonl line 1"),
    ("abc", 100, "t.txt", 2, "258"),
])
def test_errors(trained, text, n_vocab, name, status, told):
    r = trained(text, n_vocab, name, status=status)
    assert told in r.stderr
