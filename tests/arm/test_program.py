# SPDX-License-Identifier: MIT
"""The whole program built for 64-bit Arm, run by qemu: it says and writes what the program of this machine does.

The suite "aarch64 program" (or `make arm`) builds it. ROTOR_BINARY is the program of this machine.
"""
import http.client
import json
import os
import re
import shutil
import subprocess

import pytest

# Without the dot product, with it, and with products of eight by eight bits.
PROCESSORS = [("cortex-a53", "neon"), ("neoverse-n1", "dotprod"), ("max", "i8mm")]


@pytest.fixture(scope="session")
def command(source_root):
    """The words that start a program of the build for Arm."""
    root, qemu = source_root / "build-arm-sysroot" / "root", shutil.which("qemu-aarch64")
    if not qemu or not (source_root / "build-arm-check" / "rotor").exists() or not root.exists():
        pytest.skip("no qemu-aarch64" if not qemu else "no build-arm-check")
    return lambda name="rotor": [qemu, "-L", str(root), str(source_root / "build-arm-check" / name)]


@pytest.fixture(scope="session")
def arm(command):
    """arm("version", cpu="max") runs the program, which must end well, and returns its CompletedProcess."""
    def run(*args, cpu="max"):
        done = subprocess.run([*command(), *map(str, args)], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                              env={**os.environ, "QEMU_CPU": cpu})
        assert done.returncode == 0, "exit %d: %s" % (done.returncode, done.stderr[-2000:])
        return done
    return run


@pytest.fixture(scope="module")
def model(source_root):
    return source_root / "assets" / "embedded.gguf"


def test_it_is_for_arm_and_has_every_part(arm, rotor, source_root):
    with open(source_root / "build-arm-check" / "rotor", "rb") as f:
        head = f.read(20)
    assert head[:5] == b"\x7fELF\x02" and int.from_bytes(head[18:20], "little") == 183  # EM_AARCH64
    said = arm("version").stdout
    assert said.startswith("rotor 0.1.0\n") and ": off" not in said and said.count(": on") >= 8


@pytest.mark.parametrize("cpu, level", PROCESSORS)
def test_the_text_is_the_one_of_this_machine(arm, rotor, model, cpu, level):
    words = ["run", model, "-p", "Once upon a time", "-n", 16, "--seed", 1, "--temp", 0, "--json"]
    done = arm(*words, cpu=cpu)
    assert re.search(r"^processor: .*, %s, " % level, done.stderr, re.M), done.stderr
    there, here = json.loads(done.stdout), json.loads(rotor(*words).stdout)
    for what in ("prompt_ids", "ids", "text", "finish"):
        assert there[what] == here[what]
    assert len(there["ids"]) == 16


def test_chance_falls_alike(arm, rotor, model):
    words = ["run", model, "-p", "The cat", "-n", 16, "--temp", 0.9, "--seed", 7]
    assert arm(*words).stdout == rotor(*words).stdout


def test_words_become_the_same_numbers(arm, rotor, model):
    for text in ("Once upon a time", "“Zoë,” said the İşçi, “½ of 你好 или ٣!”"):
        ids = arm("tokenize", model, text).stdout
        assert ids == rotor("tokenize", model, text).stdout and len(ids.split()) > 3
        assert arm("tokenize", model, "--decode", ids.strip().replace(" ", ",")).stdout.strip("\n") == text


@pytest.mark.parametrize("file", ["tests/data/file/small.gguf", "tests/data/file/hf_sharded", "assets/embedded.gguf"])
def test_files_are_read_alike(arm, rotor, source_root, file):
    assert arm("inspect", source_root / file).stdout == rotor("inspect", source_root / file).stdout


@pytest.mark.parametrize("words", [["quantize", "IN", "OUT", "q8_0"], ["convert", "IN", "-o", "OUT"]], ids=lambda words: words[0])
def test_a_model_becomes_the_same_file(arm, rotor, source_root, tmp_path, words):
    """Rounded to blocks, or only written anew, by either processor."""
    for name, ask in (("there.gguf", arm), ("here.gguf", rotor)):
        known = {"IN": source_root / "tests" / "data" / "model" / "stories260K.gguf", "OUT": tmp_path / name}
        ask(*[known.get(word, word) for word in words])
    assert (tmp_path / "there.gguf").read_bytes() == (tmp_path / "here.gguf").read_bytes()


def test_passages_are_found_alike(arm, rotor, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "kettle.md").write_text("# Kettle\n\nThe kettle boils water for tea in four minutes.\n")
    (notes / "pump.md").write_text("# Pump\n\nThe pump moves water uphill and wants oil in spring.\n")
    found = []
    for name, ask in (("there", arm), ("here", rotor)):
        ask("rag", "add", tmp_path / name, notes, "--no-embed")
        said = [json.loads(line) for line in ask("rag", "search", tmp_path / name, "when does the pump want oil", "--json").stdout.splitlines()]
        found.append([(hit["path"], hit["lines"], hit["bm25"], hit["text"]) for hit in said])
    assert found[0] == found[1] and found[0][0][0].endswith("pump.md")
    # A store that one processor wrote, read by the other.
    assert "pump.md" in rotor("rag", "search", tmp_path / "there", "oil for the pump", "--json").stdout


def test_a_document_is_taken_apart_alike(command):
    """As librotor asks for it: the emulator cannot start a second program of its kind, which people's options do."""
    page = b"<html><body><h1>Barn owls</h1><p>They hunt at <b>night</b>.</p></body></html>"
    here = os.path.join(os.path.dirname(os.environ["ROTOR_BINARY"]), "rotor-extract")
    said = [subprocess.run([*words, "--child", "--type", "html"], input=page, capture_output=True, timeout=300, check=True).stdout
            for words in (command("rotor-extract"), [here])]
    assert said[0] == said[1] and b"They hunt at night." in said[0]


def test_the_server_answers(command, model):
    process = subprocess.Popen([*command(), "serve", model, "--port", "0"], stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    try:
        port = next(int(m.group(1)) for m in (re.search(r"ready: http://[^:]+:(\d+)", line) for line in process.stderr) if m)
        ask = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        ask.request("POST", "/v1/completions", json.dumps({"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}),
                    {"Content-Type": "application/json"})
        reply = ask.getresponse()
        body = json.loads(reply.read())
        assert reply.status == 200 and body["usage"]["completion_tokens"] == 8, body
    finally:
        process.terminate()
        assert process.wait(timeout=120) == 0
