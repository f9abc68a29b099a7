# SPDX-License-Identifier: MIT
"""Figures that a page repeats are those of the page or tool they come from."""
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])


def page(name):
    return (ROOT / "docs" / name).read_text()


def rows(text):
    """Cells of the rows of all tables."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|--") and not line.startswith("| --")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("expected_speed", ROOT / "tools" / "expected_speed.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["expected_speed"] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_of_machines_is_the_computed_one():
    computed = subprocess.run([sys.executable, ROOT / "tools" / "expected_speed.py"], capture_output=True, text=True, check=True).stdout
    assert "\n\n" + computed + "\n" in page("hardware.md")
    assert computed.count("\n") == 9 and "does not fit" in computed


def test_the_shapes_have_the_published_sizes(speed):
    models = {m.name: m for m in speed.MODELS}

    def weights(m):
        return m.layers * (m.attention() + m.feed_forward(m.experts)) + m.vocab * m.width

    assert abs(weights(models["2B4T, I2_S"]) / 2.413e9 - 1) < 0.01
    assert abs((weights(models["Llama-3 8B, Q4_0"]) + 128256 * 4096) / 8.03e9 - 1) < 0.01
    assert abs((weights(models["gpt-oss-20b"]) + 201088 * 2880) / 20.9e9 - 1) < 0.01


MACHINES = {"steam-deck.md": ["Steam Deck, its processor", "Steam Deck, its GPU"], "hd-615.md": ["Tablet, Core m3"]}


@pytest.mark.parametrize("name", MACHINES)
def test_expected_speeds_are_the_computed_ones(name, speed):
    machines = [next(m for m in speed.MACHINES if m[0].startswith(start)) for start in MACHINES[name]]
    models = {m.name: m for m in speed.MODELS}
    found = [row for row in rows(page(name)) if row[0] in models]
    assert len(found) >= 3
    for row in found:
        model = models[row[0]]
        assert row[1] == "%.1f GB" % (model.memory_bytes() / 1e9)
        assert row[2:] == [speed.cell(model, *machine[1:]) for machine in machines]


def test_an_hd_615_in_milliseconds(speed):
    tablet = next(m for m in speed.MACHINES if m[0].startswith("Tablet"))
    slow, fast = (tablet[2] * 1e9 * share / speed.MODELS[0].token_bytes() for share in tablet[3:])
    assert "That is %.0f to %.0f milliseconds a token with I2_S" % (1e3 / fast, 1e3 / slow) in page("hd-615.md")
    model = speed.MODELS[0]
    products = model.layers * (model.attention() + model.feed_forward(1)) + model.vocab * model.width
    assert "the larger of %.0f / R and %.0f / A" % (round(model.token_bytes() / 1e7) * 10, round(products / 1e7) * 10) in page("hd-615.md")


def test_claims_repeat_what_was_measured():
    measured = page("performance.md")
    checked = 0
    for row in rows(page("claims.md"))[1:]:
        for figure in re.findall(r"\d[\d,]*\.\d+|\d{1,3}(?:,\d{3})+", re.sub(r"\]\([^)]*\)", "", row[2])):
            assert figure in measured, row[0]
            checked += 1
    assert checked >= 12
