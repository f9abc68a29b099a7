# SPDX-License-Identifier: MIT
"""What tools/code_tables.py reads off the sources is what the program says of itself: the site is made from it, and pages
are held against it."""
import http.client
import json
import os
import re
import subprocess

import pytest

from reader import DATA, ROOT, Reader, doc_commands

import code_tables
import site_reference

# Files with words for types beside the table's: what a protocol calls its own.
OWN_TYPES = {"anthropic.c", "json_text.c", "responses.c"}


def rotor(*args, status=0):
    result = subprocess.run([os.environ["ROTOR_BINARY"], *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=240)
    assert status is None or result.returncode == status, result.stderr
    return result


def test_verbs_and_options():
    options = code_tables.options(ROOT)
    listed = re.findall(r"^ {2}([a-z-]+) +\S", rotor("help").stdout, re.M)
    assert [verb.name for verb in code_tables.verbs(ROOT)] == listed
    for verb in set(listed) - {"help"}:  # whose help is the list of verbs
        shown = re.findall(r"^ +(?:-(\w), )? *--([\w-]+)", rotor("help", verb).stdout, re.M)
        mine = [(o.letter, o.name) for o in options if verb in o.verbs and "NO_DASH" not in o.flags]
        assert sorted(shown) == sorted(mine), verb


def test_settings(tmp_path):
    """Every key is taken in a configuration file, in a section of its verb, and no other."""
    saved = [o for o in code_tables.options(ROOT) if code_tables.in_file(o)]
    for option in code_tables.options(ROOT):
        path = tmp_path / "config"
        path.write_text("".join("[%s]\n%s = ?\n" % (verb, option.name) for verb in option.verbs[:1]))
        said = rotor("models", "--config", path, status=None).stderr
        there = any(o.name == option.name and option.verbs[0] in o.verbs for o in saved)
        refused = "no setting '%s'" % option.name in said or "'%s' belongs to one run" % option.name in said
        assert refused != there, (option, said)


@pytest.fixture
def server(tmp_path):
    reader = Reader(tmp_path, "")
    wrong = reader.serve("rotor serve model.gguf")
    assert not wrong, wrong
    yield reader
    assert reader.close() is None


def ask(reader, method, path):
    connection = http.client.HTTPConnection("127.0.0.1", int(reader.port), timeout=240)
    connection.request(method, path, b"{}" if method == "POST" else None, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.getheader("Allow"), response.read().decode()


def test_routes_and_counters(server):
    for method, path, tail, _, _ in code_tables.routes(ROOT):
        status, allow, text = ask(server, "PATCH", path + ("x" if tail else ""))
        assert status == 405 and method in allow, (method, path, status, allow)
    assert ask(server, "GET", "/v1/nowhere")[0] == 404
    shown = re.findall(r"^# TYPE (\S+) (\w+)", ask(server, "GET", "/metrics")[2], re.M)
    rows = code_tables.metrics(ROOT)
    assert sorted(shown) == sorted([(name, kind) for name, kind, _, _ in rows] + [(other, kind) for _, kind, other, _ in rows if other])


def test_refusals(server):
    """What the server answers with is a row of the table, and no handler makes a code of its own."""
    rows = {(status, kind, name) for status, kind, name, _, _ in code_tables.refusals(ROOT)}
    assert len({name for _, _, name in rows}) == len(rows) == len(code_tables.refusals(ROOT))
    assert all(means and advice for _, _, _, means, advice in code_tables.refusals(ROOT))
    seen = set()
    for method, path in [("POST", "/v1/chat/completions"), ("GET", "/v1/nowhere"), ("PATCH", "/v1/models"), ("GET", "/v1/models/none"),
                         ("GET", "/v1/rag/stores/none/docs"), ("GET", "/v1/responses/none"), ("GET", "/" + "x" * 2000)]:
        status, _, text = ask(server, method, path)
        error = json.loads(text)["error"]
        assert (status, error["type"], error["code"]) in rows, (method, path, status, text)
        seen.add(error["code"])
    assert len(seen) == 7, seen
    for source in sorted((ROOT / "src/serve").glob("*.c")):
        if source.name != "reasons.c":
            made = re.findall(r'"(\w+_error)"', code_tables.source(ROOT, source))
            assert source.name in OWN_TYPES or not made, (source.name, made)


def test_what_runs_on_devices(tmp_path):
    """A family that the page leaves to the processor is left to it, and no other."""
    rows = {arch["name"]: arch for arch in code_tables.architectures(ROOT)}
    for folder, name in [("fam-gemma2", "gemma2"), ("fam-gemma3", "gemma3"), ("fam-gpt2", "gpt2"), ("fam-starcoder2", "starcoder2"),
                         ("hf-llama-tied", "llama"), ("hf-qwen2", "qwen2"), ("hf-qwen3", "qwen3"), ("hf-mistral-window", "mistral")]:
        said = rotor("logits", DATA / "golden" / folder, "--tokens", "1,2", "--device", "opencl", "-o", tmp_path / "x.npy", status=None).stderr
        if "logits: device opencl: " in said:  # which names what is not there
            pytest.skip("no OpenCL")
        refused = "there is no kernel for" in said
        assert refused == site_reference.on_devices(rows[name]).startswith("the processor"), said
        assert refused or re.search(r"^device: .*the whole model", said, re.M), said


def test_the_commands_are_many():
    """The reader has something to type: an extraction that finds nothing would pass all its tests."""
    found = [command for path in (ROOT / "docs").glob("*.md") for command in doc_commands.commands(path.read_text())]
    assert len(found) > 80 and sum(not command.needs for command in found) > 60
