# SPDX-License-Identifier: MIT
"""docs/troubleshooting.md quotes messages: each is in the source, and those that a test can bring about come as quoted."""
import json
import os
import pathlib
import re

import pytest

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
HEADINGS = re.findall(r"^### `(.+)`$", PAGE, re.M)
# In the text: what is long or has a gap is a message, the rest are commands and names.
SPANS = [span for span in re.findall(r"`([^`\n]+)`", re.sub(r"^### .*$", "", PAGE, flags=re.M)) if "…" in span or len(span) > 40]
# Adjacent literals are one string, also around PRIu64 and its like.
LITERAL = re.compile(r'"(?:\\.|[^"\\\n])*"(?:\s*(?:PRI\w+\s*)?"(?:\\.|[^"\\\n])*")*')


def as_pattern(message):
    return re.compile(".*".join(re.escape(piece) for piece in message.split("…")), re.S)


@pytest.fixture(scope="module")
def literals():
    """Every string of the sources, one a line."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.c")):
        for run in LITERAL.findall(path.read_text()):
            parts = re.findall(r'"((?:\\.|[^"\\\n])*)"', run)
            found.append("".join(parts).replace('\\"', '"').replace("\\n", " "))
    assert len(found) > 5000
    return found


def quoted_in(message, literals):
    pattern = as_pattern(message)
    return any(pattern.search(text) for text in literals)


@pytest.mark.parametrize("message", HEADINGS + SPANS)
def test_every_message_is_in_the_source(message, literals):
    assert quoted_in(message, literals)


def test_a_message_that_is_nowhere_is_found(literals):
    assert not quoted_in("no model '…': look under the … table", literals)
    assert len(HEADINGS) >= 50


def stderr_of(rotor, folder, words):
    fixture = str(ROOT / "tests" / "data" / "model" / "stories260K.gguf")
    words = [word.replace("MODEL", fixture).replace("DIR", str(folder)) for word in words]
    result = rotor(*words, status=None, input="", env={"HF_HOME": str(folder / "hf"), "XDG_DATA_HOME": str(folder)})
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory, rotor):
    path = tmp_path_factory.mktemp("messages")
    model = (ROOT / "tests" / "data" / "model" / "stories260K.gguf").read_bytes()
    (path / "page.gguf").write_text("<!doctype html>")
    (path / "cut.gguf").write_bytes(model[:200000])
    (path / "bad.txt").write_bytes(b"abc\xff")
    (path / "config").write_text("prot = 1\n")
    (path / "notes").mkdir()
    (path / "notes" / "deck.md").write_text("# Deck\n\nA charge lasts nine hours.\n")
    (path / "empty").mkdir()
    rotor("rag", "add", path / "notes.store", path / "notes", "--no-embed")
    rotor("chat", "--session", path / "f16.session", "-n", "4", "--seed", "1", input="Hello\n")
    return path


# Words of a command, its exit status, the beginning of the heading whose message it brings about.
PROVOKED = [
    ("run nosuch -p x", 1, "no model '…'"),
    ("run bitnet-2b4t -p x", 1, "'…' is not on this machine"),
    ("run MODEL", 2, "nothing to complete"),
    ("run --sed 3 -p x", 2, "no option --…"),
    ("run --config DIR/config -p x", 2, "no setting '…'"),
    ("run DIR/page.gguf -p x", 1, "byte 0: neither a GGUF file"),
    ("run DIR/cut.gguf -p x", 1, "bytes of … at data offset"),
    ("run MODEL -c 4096 -n 1 -p x", 0, "context of … positions: the model was made for"),
    ("run MODEL --memory 1 -n 1 -p x", 0, "memory: … MB are needed"),
    ("run MODEL -c 8 -p Once_upon_a_time_there_was_a_dog", 1, "a prompt of … tokens does not fit"),
    ("run embedded --session DIR/f16.session -p x", 1, "the session was made with another model"),
    ("serve MODEL --host 0.0.0.0", 2, "… can be reached from other machines"),
    ("rag search DIR/none.store x", 1, "no store there"),
    ("rag ask DIR/notes.store MODEL football?", 1, "Not in your documents"),
    ("pull org/name --offline", 1, "… is not in the cache, and no other machine"),
    ("train --data DIR/bad.txt --tokenizer MODEL -o DIR/t.gguf", 1, "which is not UTF-8"),
    ("quantize MODEL DIR/o.gguf i2_s", 2, "only ternary matrices go into a ternary type"),
]


@pytest.mark.parametrize("words, status, heading", PROVOKED, ids=[p[2] for p in PROVOKED])
def test_the_message_comes_as_quoted(rotor, folder, words, status, heading):
    [message] = [h for h in HEADINGS if h.startswith(heading)]
    got, said = stderr_of(rotor, folder, words.split())
    assert as_pattern(message).search(said), said
    assert got == status


# Of a server: which, a header, a path and a body; the status that the page names.
ASKED = [
    ("guarded", {}, "/v1/models", None, 401, "a key is needed"),
    ("server", {"Host": "evil.example"}, "/v1/models", None, 403, "this server is not known as"),
    ("server", {"Origin": "https://evil.example"}, "/v1/models", None, 403, "pages of …"),
    ("server", {"Content-Type": "text/plain"}, "/v1/completions", {"prompt": "x"}, 415, "Content-Type is …"),
    ("server", {}, "/v1/completions", {"prompt": "a dog " * 600}, 400, "This model's maximum context length"),
    ("server", {}, "/v1/embeddings", {"input": "x"}, 501, "makes no vectors"),
]


@pytest.mark.parametrize("whose, headers, path, body, status, heading", ASKED, ids=[a[5] for a in ASKED])
def test_the_server_says_it_as_quoted(request, whose, headers, path, body, status, heading):
    [message] = [h for h in HEADINGS if h.startswith(heading)]
    server = request.getfixturevalue(whose)
    headers = {"Content-Type": "application/json", **headers} if body else headers
    reply, data = server.raw("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    assert as_pattern(message).search(json.loads(data)["error"]["message"]), data
    assert reply.status == status
    assert status == 501 or "Status %d" % status in PAGE.split("### `%s`" % message)[1].split("###")[0]
