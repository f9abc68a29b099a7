# SPDX-License-Identifier: MIT
"""docs/design-tour.md: every function it names, name(), stands in a file that its paragraph links."""
import os
import pathlib
import re

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])


def paragraphs(text):
    """Paragraphs, and each item of a list by itself."""
    return [part for block in re.split(r"\n\s*\n", text) for part in re.split(r"\n(?=\* |\| )", block)]


def missing(text, folder):
    """Functions of the text that no linked file of their paragraph has; how many there are."""
    gone, n = [], 0
    for part in paragraphs(text):
        files = [folder / link for link in re.findall(r"\]\(([^)#\s]+\.(?:c|h|py))\)", part)]
        for name in re.findall(r"`(\w+)\(\)`", part):
            n += 1
            if not any(re.search(r"\b%s\(" % name, path.read_text()) for path in files if path.exists()):
                gone.append(name)
    return gone, n


def test_every_function_is_where_the_tour_says():
    gone, n = missing((ROOT / "docs" / "design-tour.md").read_text(), ROOT / "docs")
    assert gone == [] and n >= 20


def test_link_texts_are_the_names_of_the_files():
    links = re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", (ROOT / "docs" / "design-tour.md").read_text())
    assert len(links) >= 40
    for text, target in links:
        assert target.endswith("/" + text) and (ROOT / "docs" / target).is_file()


def test_a_function_that_is_elsewhere_is_found():
    text = "[`sampler.c`](../src/gen/sampler.c), `gen_sample()` and `gen_run()`"
    assert missing(text, ROOT / "docs") == (["gen_run"], 2)
