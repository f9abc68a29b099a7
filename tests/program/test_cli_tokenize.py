# SPDX-License-Identifier: MIT
"""rotor tokenize: the contract of its input and output. (Which ids are right is tested in tests/unit/text.)"""
import json

import pytest

from gguf_header import gguf_mini

TYPES = [1] * 8 + [3, 4, 3]
TOKENS = ["a", "b", "c", "Ġ", "Ċ", "ab", "č", "<", "<s>", "<user>", "<end>"]


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    """A vocabulary-only file: metadata and no tensors."""
    path = tmp_path_factory.mktemp("vocab") / "words.gguf"
    gguf_mini.write_gguf(path, {
        "general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": (gguf_mini.STRING, TOKENS), "tokenizer.ggml.token_type": (gguf_mini.I32, TYPES),
        "tokenizer.ggml.merges": (gguf_mini.STRING, ["a b"]), "tokenizer.ggml.bos_token_id": 8,
        "tokenizer.ggml.eos_token_id": 10, "tokenizer.ggml.add_bos_token": True}, {})
    return path


def test_ids_are_separated_by_single_spaces_without_bos(rotor, vocab):
    assert rotor("tokenize", vocab, "abc a").stdout == "5 2 3 0\n"
    assert rotor("tokenize", vocab, "abc a", "--ids").stdout == "5 2 3 0\n"
    assert rotor("tokenize", vocab, "--ids", "abc a").stdout == "5 2 3 0\n"
    assert rotor("tokenize", vocab, "abc a", "--bos").stdout == "8 5 2 3 0\n"


def test_empty_text_prints_an_empty_line(rotor, vocab):
    assert rotor("tokenize", vocab, "").stdout == "\n"
    assert rotor("tokenize", vocab, "-", input="").stdout == "\n"
    assert rotor("tokenize", vocab, "", "--bos").stdout == "8\n"


def test_control_tokens_only_with_special_user_defined_always(rotor, vocab):
    plain = rotor("tokenize", vocab, "a<user>b").stdout.split()
    assert plain == ["0", "9", "1"]
    assert "8" not in rotor("tokenize", vocab, "a<s>b").stdout.split()
    assert rotor("tokenize", vocab, "a<s>b", "--special").stdout == "0 8 1\n"


def test_dash_reads_standard_input_byte_for_byte(rotor, vocab):
    assert rotor("tokenize", vocab, "-", input="ab\r\n").stdout == "5 6 4\n"
    assert rotor("tokenize", vocab, "-", input="ab\n").stdout == "5 4\n"


def test_lines(rotor, vocab):
    assert rotor("tokenize", vocab, "--lines", input="ab\nc\n\nb").stdout == "5\n2\n\n1\n"
    assert rotor("tokenize", vocab, "-", "--lines", input="ab\nc\n").stdout == "5\n2\n"
    assert rotor("tokenize", vocab, "--lines", input="").stdout == ""
    assert json.loads(rotor("tokenize", vocab, "--lines", "--json", input="ab\nc").stdout)[1]["ids"] == [2]


def test_decode(rotor, vocab):
    assert rotor("tokenize", vocab, "--decode", "5,2,3,0").stdout == "abc a\n"
    assert rotor("tokenize", vocab, "--decode", "5 2").stdout == "abc\n"
    assert rotor("tokenize", vocab, "--decode", "8,5,10").stdout == "ab\n"
    assert rotor("tokenize", vocab, "--decode", "8,5,10", "--special").stdout == "<s>ab<end>\n"
    assert rotor("tokenize", vocab, "--decode", "-", input="5 2\n").stdout == "abc\n"
    assert json.loads(rotor("tokenize", vocab, "--decode", "5,4", "--json").stdout) == {"text": "ab\n"}


def test_json(rotor, vocab):
    assert json.loads(rotor("tokenize", vocab, "ab c", "--json").stdout) == {
        "ids": [5, 3, 2], "pieces": ["ab", " ", "c"]}


@pytest.mark.parametrize("words, status, told", [
    (["--decode", "5,x"], 2, "'x' is not a token id"),
    (["--decode", "99"], 2, "token id 99; this vocabulary has 0 to 10"),
    (["--decode", "-1"], 2, "'-1' is not a token id"),
    ([], 2, "no text"),
    (["a", "--decode", "1"], 2, "one is needed"),
])
def test_errors(rotor, vocab, words, status, told):
    r = rotor("tokenize", vocab, *words, status=status)
    assert told in r.stderr and r.stdout == ""


def test_every_byte_comes_back(rotor, tmp_path):
    model = tmp_path / "m.gguf"
    rotor("synth", "bitnet-tiny", "-o", model)
    data = bytes(range(256)) + "héllo wörld 你好 👋🏽".encode()
    ids = rotor("tokenize", model, "-", input=data, text=False).stdout
    back = rotor("tokenize", model, "--decode", "-", input=ids, text=False).stdout
    assert back == data + b"\n"
