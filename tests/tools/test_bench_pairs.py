# SPDX-License-Identifier: MIT
"""bench_pairs: who runs when, what is divided by what, what is said about ranges."""
import json
import os
import subprocess
import sys

import pytest

TOOL = os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tools", "bench_pairs.py")


def play(folder, name, values, **more):
    """A program that prints the next of the values each time, and notes that it was run."""
    for i, value in enumerate(values):
        (folder / ("%s.%d" % (name, i))).write_text(json.dumps({"decode_tps": value, **more}))
    script = folder / name
    script.write_text("cd %s; n=$(grep -c %s log); echo %s >>log; cat %s.$n\n" % (folder, name, name, name))
    return ["sh", str(script)]


def pairs(*words):
    return subprocess.run([sys.executable, TOOL, *words], capture_output=True, text=True)


def test_runs_alternate_and_ratios_are_of_pairs(tmp_path):
    (tmp_path / "log").write_text("")
    a, b = play(tmp_path, "first", [10, 20, 40]), play(tmp_path, "other", [12, 22, 50], machine_stable=False)
    r = pairs("-r", "3", "--", *a, "--", *b)
    assert r.returncode == 0, r.stderr
    assert (tmp_path / "log").read_text().split() == ["first", "other"] * 3
    assert "B/A 1.200 (1.100 to 1.250)" in r.stdout and "not apart" not in r.stdout
    assert "in 3 of 6 runs the machine was unstable" in r.stdout


def test_a_range_around_one_is_not_apart(tmp_path):
    (tmp_path / "log").write_text("")
    a, b = play(tmp_path, "first", [10, 20]), play(tmp_path, "other", [12, 18])
    assert "not apart" in pairs("-r", "2", "--key", "decode_tps", "--", *a, "--", *b).stdout


@pytest.mark.parametrize("words", [[], ["--", "a"], ["--", "--", "b"], ["--", "a", "--"]])
def test_two_commands_are_asked_for(words):
    r = pairs(*words)
    assert r.returncode == 1 and "expected" in r.stderr


def test_a_failing_program_is_told(tmp_path):
    r = pairs("-r", "1", "--", "sh", "-c", "echo broken >&2; exit 3", "--", "true")
    assert r.returncode == 1 and "exit 3" in r.stderr and "broken" in r.stderr
