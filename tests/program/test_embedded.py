# SPDX-License-Identifier: MIT
"""The model inside the program: ternary, small, tells the story it is asked for, and stops by itself."""
import json
import re

import pytest

LIMIT = 6 * 1024 * 1024


def ask(rotor, text, *flags):
    return json.loads(rotor("run", "embedded", "--chat", "-p", text, "-n", "450", "--json", *flags).stdout)


def test_what_it_is(rotor, source_root):
    d = json.loads(rotor("inspect", "embedded", "--json").stdout)
    assert d["architecture"] == "bitnet-b1.58" and (source_root / "assets" / "embedded.gguf").stat().st_size <= LIMIT
    assert 3e6 <= d["n_params"] <= 15e6


@pytest.mark.parametrize("thing", ["a dog", "a cat", "a bird", "a princess", "a ball", "a fish"])
def test_it_tells_of_what_it_is_asked_for_and_stops(rotor, thing):
    d = ask(rotor, "Tell me a story about %s." % thing, "--temp", "0")
    assert thing.split()[1] in d["text"].lower() and d["finish"] != "length"
    assert 20 < len(d["text"].split()) < 450 and re.search(r"[.!?][\"']?$", d["text"].strip())


def test_a_beginning_is_gone_on_with(rotor):
    text = rotor("run", "embedded", "-p", "Once upon a time, there was a little girl named", "-n", "60", "--temp", "0").stdout
    words = text.split()
    assert len(words) > 20 and len(set(words)) > len(words) / 3


def test_every_instruction_set_tells_the_same_story(rotor):
    texts = {ask(rotor, "Tell me a story about a tree.", "--temp", "0", *flags)["text"]
             for flags in [(), ("--cpu", "c"), ("--cpu", "avx2"), ("-t", "1")]}
    assert len(texts) == 1


def test_a_second_request_in_the_same_conversation(rotor):
    r = rotor("chat", "embedded", "--no-progress", "--seed", "1", "--temp", "0",
              input="Tell me a story about a dog.\nAnd now one about a cat.\n")
    assert "dog" in r.stdout.lower() and "cat" in r.stdout.lower()
