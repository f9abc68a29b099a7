# SPDX-License-Identifier: MIT
"""The bundled model tells the story that llama2.c tells with the same weights at temperature 0."""
import os

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
STORY = ("Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
         " One day, she saw a big, red ball.")
FLAGS = ["--temp", "0", "--no-progress"]


def test_from_the_file(rotor):
    text = rotor("run", os.path.join(ROOT, "tests", "data", "model", "stories260K.gguf"), "-p", "", "-n", "60", *FLAGS).stdout
    assert text.strip().startswith(STORY), text


def test_without_a_model(rotor):
    """The same file is linked into the program."""
    assert rotor("run", "-p", "", "-n", "60", *FLAGS).stdout.strip().startswith(STORY)


def test_continues_a_prompt(rotor):
    """Greedy text is a fixed point: given its own beginning as a prompt, the model goes on in the same way."""
    begin = "Once upon a time, there was a little girl named Lily."
    rest = rotor("run", "-p", begin, "-n", "40", *FLAGS).stdout
    assert (begin + " " + rest.strip()).startswith(STORY), rest


def test_every_mode_tells_it(rotor):
    for flags in (["--kv", "f16"], ["--kv", "f32"], ["--act", "f32"], ["--head", "file"], ["-t", "1"], ["--cpu", "c"]):
        assert rotor("run", "-p", "", "-n", "45", *FLAGS, *flags).stdout.strip().startswith(STORY[:100]), flags
