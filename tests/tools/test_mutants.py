# SPDX-License-Identifier: MIT
"""tools/mutants.py: each of its lines stands in the sources exactly once, and is changed by it."""
import os
import sys

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
sys.path.insert(0, os.path.join(ROOT, "tools"))
import mutants  # noqa: E402


def test_every_mutant_has_its_place():
    assert len(mutants.MUTANTS) == 30
    for file, old, new, tests in mutants.MUTANTS:
        with open(os.path.join(ROOT, "src", file), encoding="utf-8") as f:
            assert f.read().count(old) == 1, (file, old)
        assert old != new and tests.split()
