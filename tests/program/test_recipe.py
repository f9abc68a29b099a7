# SPDX-License-Identifier: MIT
"""The recipe of the embedded model: one command from stories to a model that is asked for them."""
import json
import os
import random
import subprocess

import pytest

# Small stories with things that the recipe knows, so that it finds what to ask for.
THINGS = ["dog", "cat", "ball", "tree", "boat", "cake", "duck", "mouse"]
NAMES = ["Tom", "Lily", "Ben", "Sue", "Max", "Mia"]


SYLLABLES = [a + b for a in "bdfgklmnprst" for b in ["a", "en", "i", "or", "u"]]


def stories(seed):
    """400 of them, each with words of its own land: enough for a vocabulary of the recipe's size."""
    rng = random.Random(seed)
    words = ["".join(random.Random(i).choices(SYLLABLES, k=3)) for i in range(4000)]
    for _ in range(400):
        thing, name = rng.choice(THINGS), rng.choice(NAMES)
        yield (f"One day {name} saw a {thing}. The {thing} was big. {name} gave the {thing} a {rng.choice(THINGS)} "
               f"and said to the {thing}: " + " ".join(rng.choices(words, k=40)) + ".")


def test_one_command_makes_a_model_and_goes_on_where_it_stopped(rotor, source_root, tmp_path, checked_build):
    if checked_build:
        pytest.skip("too slow; what it calls is tested by itself")
    for name, seed in [("stories.txt", 1), ("heldout.txt", 2)]:
        (tmp_path / name).write_text("x.\n<|endoftext|>\n" + "\n<|endoftext|>\n".join(stories(seed)), encoding="utf-8")
    work = tmp_path / "work"
    command = [source_root / "tools" / "embedded_model.py", "--stories", tmp_path / "stories.txt", "--heldout",
               tmp_path / "heldout.txt", "--work", work, "--rotor", os.environ["ROTOR_BINARY"], "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ ")] == [
        "train-tokenizer", "train", "finetune"]
    for log in ["story.csv", "rotor-stories.csv"]:
        assert len((work / log).read_text().splitlines()) == 1 + 2
    said = rotor("run", work / "rotor-stories.gguf", "--chat", "-p", "Tell me a story about a dog.", "-n", "4",
                 "--ignore-eos", "--json")
    assert len(json.loads(said.stdout)["ids"]) == 4
    # Nothing is left to do: no step is taken twice, and the model stays what it is.
    model = (work / "rotor-stories.gguf").read_bytes()
    again = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stderr
    assert (work / "rotor-stories.gguf").read_bytes() == model
    for log in ["story.csv", "rotor-stories.csv"]:
        assert len((work / log).read_text().splitlines()) == 1 + 2
