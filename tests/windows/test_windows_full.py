# SPDX-License-Identifier: MIT
"""The full program for Windows, run by Wine, beside the one for this machine: the same texts, ids, files and vectors.

`make windows-libs windows` builds it; without its libraries these tests are skipped."""
import json
import os

import pytest

STORY = os.environ["ROTOR_MODEL"]
GOLDEN = os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tests", "data", "golden")


@pytest.fixture(scope="module")
def windows(wine, source_root):
    return wine(source_root / "build-windows-full" / "rotor.exe")


@pytest.fixture
def place(tmp_path):
    """A folder whose name has a space and letters beyond ASCII."""
    folder = tmp_path / "meine Bücher 模"
    folder.mkdir()
    return folder


def backslashes(path):
    return "Z:" + str(path).replace("/", "\\")


def test_what_is_left_out_is_said(windows):
    assert b"serve       (not in the Windows build)" in windows("help")[0]
    for verb in ("serve", "pull"):
        said = windows(verb, status=1)[1]
        assert said.splitlines() == ["rotor: rotor %s: not in the Windows build" % verb]


def needs(windows, library):
    """Of its libraries some may be missing where it was built; what it was built with, it says."""
    if "%s: on" % library not in windows("version")[0].decode():
        pytest.skip("the program for Windows was built without %s" % library)


def test_a_store_at_an_address_is_refused_before_anything_is_loaded(windows):
    needs(windows, "sqlite")
    assert "addresses: not in the Windows build" in windows("rag", "search", "postgresql://a@localhost/b", "x", status=1)[1]


@pytest.mark.parametrize("model", ["embedded", STORY, os.path.join(GOLDEN, "hf-qwen3")])
def test_text_and_ids_are_those_of_this_machine(windows, rotor, model):
    if model.endswith("hf-qwen3"):
        needs(windows, "pcre2")
    words = ["run", model, "-p", "Once upon a time", "-n", 60, "--temp", 0, "--json"]
    here, there = json.loads(rotor(*words).stdout), json.loads(windows(*words)[0])
    assert there["text"] == here["text"] and there["ids"] == here["ids"] and there["ids"]


def test_lines_that_end_as_on_windows(windows, rotor):
    talk = "Tell me of a cat\r\nand of a dög\r\n"
    here = rotor("chat", "embedded", "--temp", 0, "-n", 20, input=talk).stdout
    assert windows("chat", "embedded", "--temp", 0, "-n", 20, input=talk.encode())[0].decode() == here
    assert here == rotor("chat", "embedded", "--temp", 0, "-n", 20, input=talk.replace("\r", "")).stdout


def test_a_missing_file_is_one_line(windows, place):
    said = windows("run", backslashes(place / "fehlt.gguf"), "-p", "x", status=1)[1]
    assert said.count("\n") == 1 and "meine Bücher 模/fehlt.gguf" in said


def test_files_come_out_byte_for_byte(windows, rotor, place):
    """Written where no path is plain, from a folder and from a file, and replaced where one stands."""
    folder = os.path.join(GOLDEN, "hf-bitnet-packed")
    rotor("convert", folder, "-o", place / "here.gguf")
    rotor("quantize", STORY, place / "here-q8.gguf", "Q8_0")
    (place / "there.gguf").write_bytes(b"old")
    windows("convert", folder, "-o", backslashes(place / "there.gguf"))
    windows("quantize", STORY, backslashes(place / "there-q8.gguf"), "Q8_0")
    for kind in ("", "-q8"):
        assert (place / ("there%s.gguf" % kind)).read_bytes() == (place / ("here%s.gguf" % kind)).read_bytes()
    assert sorted(os.listdir(place)) == ["here-q8.gguf", "here.gguf", "there-q8.gguf", "there.gguf"]


def test_passages_of_documents(windows, rotor, place):
    needs(windows, "sqlite")
    docs = place / "docs"
    docs.mkdir()
    (docs / "katzen.md").write_bytes("# Katzen\r\n\r\nThe tabby cat sleeps on the warm stove.\r\n".encode())
    (docs / "brücken.txt").write_text("Bridges are built of steel and concrete.\n")
    (docs / "page.html").write_text("<p>hello</p>")
    (docs / "skip").mkdir()
    (docs / "skip" / "b.txt").write_text("The cat is not here.\n")
    added = windows("rag", "add", backslashes(place / "st"), backslashes(docs), "--exclude", "*/skip/*")[1]
    assert "2 files" in added or "3 files" in added
    assert "which is not there" in added
    found = windows("rag", "search", backslashes(place / "st"), "where does the cat sleep", "--json")[0].splitlines()
    assert len(found) == 1 and json.loads(found[0])["path"].endswith("meine Bücher 模/docs/katzen.md")
    shown = windows("rag", "search", backslashes(place / "st"), "where does the cat sleep")[0].decode()
    assert "The tabby cat sleeps" in shown and "?" not in shown
    (docs / "katzen.md").unlink()
    assert "1 gone" in windows("rag", "sync", backslashes(place / "st"))[1]
    assert windows("rag", "verify", backslashes(place / "st"))[0].strip().endswith(b": sound")


def test_a_store_of_vectors_is_the_one_of_this_machine(windows, rotor):
    words = ["embed", STORY, "Once upon a time", "a cat"]
    assert windows(*words)[0].decode() == rotor(*words).stdout


def test_training_learns_the_same(windows, rotor, source_root, place):
    book = source_root / "tests" / "data" / "train" / "west_wind.txt"
    words = place / "words.gguf"
    rotor("train-tokenizer", book, "--vocab", 300, "-o", words)
    small = ["--layers", 1, "--embd", 64, "--heads", 2, "--kv-heads", 1, "--ff", 64, "--ctx", 32, "--batch", 2, "--steps", 3]
    for folder in ("here", "there"):
        (place / folder).mkdir()
    rotor("train", "--data", book, "--tokenizer", words, "-o", place / "here" / "m.gguf", *small)
    windows("train", "--data", book, "--tokenizer", backslashes(words), "-o", backslashes(place / "there" / "m.gguf"), *small)
    assert (place / "there" / "m.gguf").read_bytes() == (place / "here" / "m.gguf").read_bytes()
