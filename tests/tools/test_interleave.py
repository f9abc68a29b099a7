# SPDX-License-Identifier: MIT
"""interleave: commands run in turn, each one's number is found, and the ratios are right.

The commands are one small script that prints the next number of a list, so that a machine which
slows down between rounds can be played.
"""
import json
import os
import subprocess
import sys

import pytest

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
SCRIPT = """import os, sys
name, folder, text, numbers = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
log = os.path.join(folder, "log")
done = open(log).read().split() if os.path.exists(log) else []
open(log, "a").write(name + " ")
print(text.replace("#", numbers[done.count(name) % len(numbers)]))
"""


@pytest.fixture
def play(tmp_path):
    """The command line of a program NAME that prints TEXT with each number in turn for #."""
    script = tmp_path / "play.py"
    script.write_text(SCRIPT)

    def command(name, text, *numbers):
        return " ".join(["'%s'" % part for part in
                         (sys.executable, script, name, tmp_path, text) + numbers])
    return command


def interleave(*args):
    return subprocess.run([sys.executable, os.path.join(ROOT, "tools/interleave.py"), *args],
                          capture_output=True, text=True)


def test_commands_take_turns_and_ratios_are_those_of_neighbours(play, tmp_path):
    # The machine halves its speed from round to round; the ratio of neighbours stays 2 to 4.
    result = interleave("-n", "3", "--json",
                        "--run", "a", play("a", "speed # t/s", "80", "40", "20"), r"re:speed (\S+)",
                        "--run", "b", play("b", '{"x": [0, {"tps": #}]}', "40", "10", "8"),
                        "json:x.1.tps")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "log").read_text().split() == ["a", "b"] * 3
    a, b = json.loads(result.stdout)["runs"]
    assert a["values"] == [80, 40, 20] and b["values"] == [40, 10, 8]
    assert (a["median"], b["median"], b["min"], b["max"]) == (40, 10, 8, 40)
    assert b["ratio"] == {"of_medians": 4, "of_pairs": {"median": 2.5, "min": 2, "max": 4}}
    assert "ratio" not in a


def test_a_value_stands_beside_the_floors_before_and_after_it(play, tmp_path):
    result = interleave("-n", "2", "--json", "--floor", play("f", "#", "10", "20", "40", "20", "10"),
                        r"re:(\d+)",
                        "--run", "a", play("a", "#", "15", "30"), r"re:(\d+)",
                        "--run", "b", play("b", "#", "15", "30"), r"re:(\d+)")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "log").read_text().split() == ["f", "a", "f", "b", "f", "a", "f", "b", "f"]
    a, b = json.loads(result.stdout)["runs"]
    # a: 15 between 10 and 20, 30 between 40 and 20; b: 15 between 20 and 40, 30 between 20 and 10.
    assert (a["share"]["min"], a["share"]["max"]) == (1, 1)
    assert (b["share"]["min"], b["share"]["max"]) == (0.5, 2)


def test_rounds_that_warm_up_do_not_count(play):
    result = interleave("-n", "1", "--warm-up", "1", "--json",
                        "--run", "a", play("a", "#", "1", "5"), r"re:(\d+)",
                        "--run", "b", play("b", "#", "1", "10"), r"re:(\d+)")
    assert json.loads(result.stdout)["runs"][1]["ratio"]["of_medians"] == 0.5


def test_the_table_names_every_side_and_the_last_match_counts(play):
    result = interleave("-n", "1", "--run", "left", play("a", "1 2 #", "6"), r"re:(\d+)",
                        "--run", "right", play("b", "#", "3"), r"re:(\d+)",
                        "--run", "clock", play("c", "#", "3"), "seconds")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["left", "right", "clock"]
    assert lines[3].startswith("left / right: ratio of medians 2.000, pairs 2.000 - 2.000")


@pytest.mark.parametrize("command, number, message", [
    ("no-such-program", "seconds", "no-such-program"),
    ("false", "seconds", "exit status 1"),
    ("echo nothing here", r"re:(\d+)", r"no re:(\d+) in"),
    ("echo nothing here", "json:a.b", "nothing here"),
    ("echo '{}'", "json:a", "no json:a in"),
    ("sleep 5", "seconds", "not done after 0.2 s"),
])
def test_a_command_that_fails_or_says_nothing_ends_it(command, number, message):
    result = interleave("-n", "1", "--timeout", "0.2", "--run", "bad", command, number,
                        "--run", "good", "true", "seconds")
    assert result.returncode == 1 and result.stdout == ""
    assert message in result.stderr


@pytest.mark.parametrize("args", [
    ["--run", "a", "true", "seconds"],
    ["--run", "a", "true", "minutes", "--run", "b", "true", "seconds"],
    ["--run", "a", "true", "re:no group", "--run", "b", "true", "seconds"],
    ["--run", "a", "true", "re:(", "--run", "b", "true", "seconds"],
    ["--run", "a", "", "seconds", "--run", "b", "true", "seconds"],
    ["-n", "0", "--run", "a", "true", "seconds", "--run", "b", "true", "seconds"],
])
def test_mistakes_on_the_command_line(args):
    assert interleave(*args).returncode == 2
