# SPDX-License-Identifier: MIT
"""--self-check: a clean run says so and gives the same text; a weight that is no number and a file that changes while it is
mapped end what is under way with a line that names the tensor."""
import json
import os
import shutil
import struct

import pytest

from serve_rig import STORY, Server

ONCE = ["-p", "Once upon a time", "--temp", "0", "-n", "24"]
ALL = ["--self-check", "--self-check-share", "100"]


def tensor(rotor, model, name):
    """Offset and bytes of a tensor in its file."""
    for t in json.loads(rotor("inspect", model, "--json").stdout)["tensors"]:
        if t["name"] == name:
            return t["offset"], t["bytes"]
    raise AssertionError(name)


@pytest.fixture
def story(tmp_path):
    return shutil.copy(STORY, tmp_path / "story.gguf")


def write_at(path, offset, data):
    """As memory or a disk changes bytes: without a new time of the file, which alone would be noticed."""
    was = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


@pytest.mark.parametrize("more", [[], ["--head", "exact"], ["--head", "file", "--act", "f32"], ["--lookup"]])
def test_a_clean_run_says_so(rotor, more):
    plain = rotor("run", *ONCE, *more)
    r = rotor("run", *ONCE, *ALL, *more)
    assert r.stdout == plain.stdout and "self-check" not in plain.stderr
    assert "self-check: 0 faults in " in r.stderr


def test_json_counts_what_was_done(rotor):
    c = json.loads(rotor("run", *ONCE, *ALL, "--json").stdout)["self_check"]
    assert c["faults"] == 0 and c["steps"] == 24 and c["logits"] == 24
    assert c["products"] % c["steps"] == 0 and c["products"] >= 10 * c["steps"]
    assert c["weight_bytes"] >= c["weight_all_bytes"] > 0 and 0 < c["share"] < 1
    some = json.loads(rotor("run", *ONCE, "--self-check", "--json").stdout)["self_check"]
    assert some["faults"] == 0 and some["logits"] == 24  # the rest depends on the time there was
    assert "self_check" not in json.loads(rotor("run", *ONCE, "--json").stdout)


def test_bad_shares_are_refused(rotor):
    r = rotor("run", *ONCE, "--self-check", "--self-check-share", "101", status=2)
    assert "--self-check-share" in r.stderr


def test_a_weight_that_is_no_number_is_named(rotor, story):
    offset, n = tensor(rotor, story, "token_embd.weight")  # F32, and the head
    write_at(story, offset + n // 2, struct.pack("<f", float("nan")))
    r = rotor("run", story, *ONCE, "--self-check", "--head", "file", status=1)
    assert "self-check, step 1: logit " in r.stderr and "expected a number; tensor token_embd.weight, row " in r.stderr
    assert "is nan" in r.stderr and "self-check: 1 fault in 1 steps" in r.stderr


def test_a_file_that_changes_is_named_and_the_server_says_500(rotor, story):
    server = Server(str(story), *ALL)
    ask = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0}
    assert server.ask("/v1/completions", ask)["choices"][0]["text"].startswith(", there was")
    offset, n = tensor(rotor, story, "token_embd.weight")
    write_at(story, offset + n // 2, os.urandom(64))
    for _ in range(2):  # and it stays so
        line = server.ask("/v1/completions", ask, status=500)["error"]["message"]
        assert "self-check, step " in line and "tensor token_embd.weight: bytes " in line
        assert "the file was changed" in line
    server.stop()
    assert any("self-check: 1 fault in " in line for line in server.log)
