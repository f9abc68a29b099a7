# SPDX-License-Identifier: MIT
"""The programs of examples/demos: each is built or started as its first lines say, and prints what examples/README.md says."""
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from serve_rig import STORY

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
BUILD = pathlib.Path(os.environ["ROTOR_BINARY"]).resolve().parent
DEMOS, MODEL = ROOT / "examples" / "demos", ROOT / "assets" / "embedded.gguf"
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "ROTOR_LIBRARY": str(BUILD)}


@pytest.fixture(autouse=True)
def plain_build(checked_build):
    if checked_build:
        pytest.skip("a checker's library goes with a checker's programs only")


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=ENV, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(name, *args):
    return run(sys.executable, DEMOS / (name + ".py"), *args)


@pytest.fixture
def c(tmp_path):
    def build_and_run(name, *args):
        program = tmp_path / name
        run(*shlex.split(os.environ.get("CC", "cc")), "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "include", DEMOS / (name + ".c"),
            "-o", program, "-L", BUILD, "-lrotor", "-lm", "-Wl,-rpath," + str(BUILD))
        return run(program, *args)
    return build_and_run


def test_every_demo_is_here_and_in_the_page():
    text, page = pathlib.Path(__file__).read_text(), (ROOT / "examples" / "README.md").read_text()
    for path in sorted(DEMOS.iterdir()):
        if path.suffix in (".c", ".py"):
            assert '"%s"' % path.stem in text and "](demos/%s)" % path.name in page and "**%s**" % path.stem in page


def test_by_hand(c):
    out = c("by_hand")
    assert "+0 x +66  ->    +2" in out and "8 weights in 2 bytes: 06 1a, of them 3 zeros" in out
    assert "by codes 1, by planes 1" in out


def test_to_ternary(c):
    out = c("to_ternary")
    for rule, error in ("sign", 59), ("threshold", 42), ("absmean", 50):
        assert re.search(r"^%s .*error %d %%$" % (rule, error), out, re.M), out
    assert "packed in 1024: 0 differ" in out


def test_layouts(c):
    out = c("layouts")
    for name, n in ("float32", 2097152), ("I2_S", 131104), ("T5", 108544), ("TQ1_0", 110592):
        assert re.search(r"^%s +%d bytes" % (name, n), out, re.M), out
    assert len(out.splitlines()) == 14


def test_hardware(c):
    out = c("hardware", MODEL)
    assert re.search(r"^processor: \S+, \d+ threads$", out, re.M) and "device: cpu (cpu)" in out
    read = float(re.search(r"a token reads ([0-9.]+) MB", out).group(1))
    assert 0 < read < os.path.getsize(MODEL) / 1e6


def test_bits():
    out = python("bits")
    assert "1.5850 bits" in out and "5 digits together: 3^5  fits  8 bits, 1.6000" in out
    off = re.findall(r"equal steps off by +(\d+) %, equal ratios by +(\d+) %", out)
    assert [tuple(map(int, o)) for o in off][1] == (4, 17) and [o[0] for o in off[2:]] == ["100", "100"]


def test_sampling():
    out = python("sampling", MODEL)
    ways = re.findall(r"^(\S.*?) +(\d) different of 8, mean log-probability +(\S+), lowest +(\S+)$", out, re.M)
    assert [w[0] for w in ways] == ["greedy", "everything", "top-k 5", "top-p 0.8", "min-p 0.2"]
    assert ways[0][1] == "1" and all(int(w[1]) > 1 for w in ways[1:])
    lowest = [float(w[3]) for w in ways]
    assert min(lowest) == lowest[1]  # what is cut off nowhere surprises most


def test_cache():
    rows = re.findall(r"^(\w+) +(\d+) bytes a position.*off by (\S+), the same best token at +(\d+) %", python("cache", MODEL), re.M)
    assert [r[0] for r in rows] == ["f32", "f16", "q8"] and [int(r[1]) for r in rows] == [6144, 3072, 1632]
    assert float(rows[0][2]) == 0 < float(rows[1][2]) < 0.03 and float(rows[2][2]) < 0.05 and all(r[3] == "100" for r in rows)


def test_profiler():
    out = python("profiler", MODEL)
    assert out.startswith("32 tokens in 32 steps")
    shares = [float(x) for x in re.findall(r"^ *(\S+) % ", out, re.M)]
    assert len(shares) == 10 and shares == sorted(shares, reverse=True) and sum(shares) <= 100.5


def test_search():
    first, *rest = re.findall(r"^  ([+-][0-9.]+)  (.*)$", python("search", STORY), re.M)
    assert first == ("+1.000", "Lily had a big red ball.") and len(rest) == 4
    assert all(float(score) < 1 for score, _ in rest)


def test_client(server):
    out = python("client", "http://127.0.0.1:%d" % server.port, "Once upon a time")
    assert re.search(r"\S.*\n-- \d+ tokens read, \d+ written\n$", out, re.S), out
