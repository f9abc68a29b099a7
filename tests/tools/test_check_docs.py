# SPDX-License-Identifier: MIT
"""check_docs: a sound tree passes, and each thing that can be missing is found."""
import os
import subprocess
import sys

import pytest

ROOT = os.environ["ROTOR_SOURCE_ROOT"]

SOUND = {
    "Makefile": "check: ## test\n",
    "README.md": "[shapes](docs/shapes.md#legend) [web](https://example.org)\n\n```sh\nmake check  # not run here: needs time\n```\n"
                 "`make check`, and people make mistakes\n",
    "docs/shapes.md": "[back](../README.md)\n",
    "tests/data/LICENSES.md": "| `file/` | ours |\n| `text/a.json` | ours |\n"
                              "| `golden/hf-*` | ours |\n",
    "tests/data/file/deep/a.gguf": "x",
    "tests/data/text/a.json": "{}",
    "tests/data/golden/hf-x/config.json": "{}",
}


def check(folder, changes):
    for name, text in {**SOUND, **changes}.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
    return subprocess.run([sys.executable, os.path.join(ROOT, "tools/check_docs.py"), folder],
                          capture_output=True, text=True)


def test_a_sound_tree_passes(tmp_path):
    result = check(tmp_path, {})
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "1 commands in the documentation, 1 of them marked as not run here\n"


@pytest.mark.parametrize("name, text, message", [
    ("docs/a.md", "[x](gone.md)\n", "docs/a.md:1: there is no gone.md"),
    ("docs/a.md", "run `make chekc`\n", "docs/a.md:1: the Makefile has no target chekc"),
    ("docs/a.md", "```sh\nmake demo  # not run here: needs x\n```\n", "docs/a.md:2: the Makefile has no target demo"),
    ("docs/a.md", "```sh\nmake check\n```\n", 'docs/a.md:2: the tests cannot run "make": add'),
    ("docs/reading-order.txt", "Part\n    ../README.md\n", "docs/shapes.md:1: not in docs/reading-order.txt: add a line"),
    ("docs/reading-order.txt", "Part\n    shapes.md\n    gone.md\n", "docs/reading-order.txt:1: docs/gone.md is not there"),
    ("docs/reading-order.txt", "Part\n    shapes.md\n    shapes.md\n", "docs/shapes.md stands there twice"),
    ("tests/data/text/b.json", "{}", "tests/data/text/b.json:1: no line for it"),
    ("tests/data/golden/x.json", "{}", "tests/data/golden/x.json:1: no line for it"),
    ("assets/m.gguf", "x", "assets/m.gguf:1: no line for it in assets/LICENSES.md"),
], ids=lambda value: value[:40])
def test_what_is_missing_is_found(tmp_path, name, text, message):
    result = check(tmp_path, {name: text})
    assert result.returncode == 1
    assert message in result.stdout and len(result.stdout.splitlines()) == 1


def test_a_tree_that_grew_too_large_is_found(tmp_path):
    (tmp_path / "big.bin").write_bytes(b"x" * 30_000_001)
    assert "the limit is 30000000" in check(tmp_path, {}).stdout
