# SPDX-License-Identifier: MIT
"""The small program for Windows, run by Wine: it writes what the program on this machine writes.

The suite "windows" (or `make windows`) builds it.
"""
import json
import shutil

import pytest

@pytest.fixture(scope="module")
def windows(wine, source_root):
    """windows("version", status=0) runs rotor.exe; standard output as bytes, standard error as text."""
    return wine(source_root / "build-windows" / "src" / "lite" / "rotor.exe")


@pytest.fixture(scope="module")
def model(source_root):
    return source_root / "assets" / "embedded.gguf"


def test_it_says_what_it_is(windows):
    assert windows("version")[0] == b"rotor 0.1.0\n"
    told = windows("info")[0].decode()
    assert "best level" in told and "not here" in told
    assert "no verb serve" in windows("serve", status=2)[1]


def test_the_text_is_the_one_of_this_machine(windows, rotor, model):
    """With all levels of instructions the processor has, which on Windows find the stack laid out otherwise."""
    prompt = "Once upon a time"
    answer = json.loads(rotor("run", model, "-p", prompt, "-n", 120, "--temp", 0, "--json").stdout)
    for level in ("c", None):
        more = ["--cpu", level] if level else []
        assert windows("run", "-p", prompt, "-n", 120, "--temp", 0, *more)[0].decode() == answer["text"] + "\n"
    ids = windows("run", "-p", prompt, "-n", 120, "--temp", 0, "--ids")[0].split()
    assert [int(i) for i in ids] == answer["ids"] and len(ids) > 50
    drawn = rotor("run", model, "-p", "The cat", "-n", 40, "--temp", 0.9, "--seed", 7).stdout
    assert windows("run", "-p", "The cat", "-n", 40, "--temp", 0.9, "--seed", 7)[0].decode() == drawn


def test_letters_beyond_ascii_in_arguments_and_names(windows, rotor, model, tmp_path):
    """Arguments come as UTF-16; a file's name is turned into it; the file is mapped."""
    text = "“Zoë,” said the İşçi, “½ of 你好 или ٣!”"
    file = tmp_path / "modèle-模型.gguf"
    shutil.copyfile(model, file)
    assert windows("tokenize", file, text)[0].decode() == rotor("tokenize", model, text).stdout
    answer = rotor("run", model, "-p", text, "-n", 20, "--temp", 0).stdout
    assert windows("run", file, "-p", text, "-n", 20, "--temp", 0)[0].decode() == answer


def test_what_is_wrong_is_said(windows, source_root, tmp_path):
    missing, other = tmp_path / "nö.gguf", source_root / "README.md"
    assert "nö.gguf: cannot open" in windows("run", missing, "-p", "x", status=1)[1]
    assert "GGUF" in windows("run", other, "-p", "x", status=1)[1]
    assert "not an option with such a value: -n" in windows("run", "-p", "x", "-n", "many", status=2)[1]
