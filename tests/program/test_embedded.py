# SPDX-License-Identifier: MIT
"""The model inside the program: ternary, small, tells the story it is asked for, and stops by itself."""
import json
import re

LIMIT = 6 * 1024 * 1024


def ask(rotor, text, *flags):
    return json.loads(rotor("run", "embedded", "--chat", "-p", text, "-n", "450", "--json", *flags).stdout)


def test_what_it_is(rotor, source_root):
    d = json.loads(rotor("inspect", "embedded", "--json").stdout)
    assert d["architecture"] == "bitnet-b1.58" and (source_root / "assets" / "embedded.gguf").stat().st_size <= LIMIT
    assert 3e6 <= d["n_params"] <= 15e6


def test_it_tells_of_what_it_is_asked_for_and_stops(rotor):
    """The wording does not occur in its training; docs/embedded-model.md has all twenty."""
    named = 0
    for seed, thing in enumerate(["dog", "cat", "bird", "ball", "car", "tree"], 1):
        d = ask(rotor, "Let me hear a story with a %s." % thing, "--temp", "0.5", "--seed", str(seed))
        assert d["finish"] != "length" and 20 < len(d["text"].split()) < 450
        assert re.search(r"[.!?][\"']?$", d["text"].strip())
        named += thing in d["text"].lower()
    assert named >= 5


def test_a_beginning_is_gone_on_with(rotor):
    text = rotor("run", "embedded", "-p", "Once upon a time, there was a little girl named", "-n", "60", "--temp", "0").stdout
    words = text.split()
    assert len(words) > 20 and len(set(words)) > len(words) / 3


def test_every_instruction_set_tells_the_same_story(rotor):
    texts = {ask(rotor, "Tell me a story about a tree.", "--temp", "0", *flags)["text"]
             for flags in [(), ("--cpu", "c"), ("--cpu", "avx2"), ("-t", "1")]}
    assert len(texts) == 1


def test_a_second_request_in_the_same_conversation(rotor):
    r = rotor("chat", "embedded", "--no-progress", "--seed", "1", "--temp", "0.5",
              input="Tell me a story about a dog.\nAnd now one about a cat.\n")
    stories = [line for line in r.stdout.splitlines() if len(line.split()) > 10]
    assert len(stories) >= 2
