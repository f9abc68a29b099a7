# SPDX-License-Identifier: MIT
"""docs/devices.md states facts about the code: its table of kernels is the list of kernels there are."""
import os
import pathlib
import re

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])


def test_every_kernel_has_a_row():
    text = (ROOT / "docs" / "devices.md").read_text()
    table = text.split("| kernel | does |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(p.stem for p in (ROOT / "src" / "dev" / "gpu" / "kernels").glob("*.k"))


def test_the_figures_of_the_probe():
    probe = (ROOT / "src" / "dev" / "gpu" / "dev_gpu_probe.c").read_text()
    text = (ROOT / "docs" / "devices.md").read_text()
    for name, said in [("CHAIN", "list of %s tiny kernels"), ("ROUNDS", "best of five"), ("MOST_BYTES", "%s MiB each"),
                       ("MOST_SOFTWARE", "(%s MiB on")]:
        value = re.search(r"\b%s = (\d+)" % name, probe).group(1)
        assert (said % value if "%" in said else said) in text.replace("\n  ", " "), name
    assert re.search(r"\bROUNDS = 5\b", probe)
