# SPDX-License-Identifier: MIT
"""--trace: what is in the file, that it is JSON however the program ended, that the limit holds, and that the text does not
change."""
import collections
import json
import os
import signal
import subprocess

import pytest

ONCE = ["-p", "Once upon a time", "--temp", "0"]


def spans(path):
    """Events with a length; every one is checked for the fields that viewers need."""
    trace = json.loads(path.read_text(encoding="utf-8"))
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    for e in events:
        assert e["pid"] == 1 and isinstance(e["tid"], int) and e["ts"] >= 0 and e["dur"] >= 0 and e["name"] and e["cat"]
    named = {e["tid"] for e in trace["traceEvents"] if e["ph"] == "M"}
    assert named == {e["tid"] for e in events}
    return trace, events


def of(events, cat, name=None):
    return [e for e in events if e["cat"] == cat and name in (None, e["name"])]


@pytest.mark.parametrize("more", [["-t", "1"], ["-t", "2"], ["--head", "exact"], ["--self-check"]])
def test_a_run_as_a_timeline(rotor, tmp_path, more):
    path = tmp_path / "t.json"
    r = rotor("run", *ONCE, "-n", "12", "--trace", path, *more)
    assert r.stdout == rotor("run", *ONCE, "-n", "12").stdout
    trace, events = spans(path)
    assert trace["otherData"]["left_out"] == 0
    assert [len(of(events, "token", n)) for n in ("sample", "detokenise")] == [12, 12]
    assert "".join(e["args"].get("text", "") for e in of(events, "token", "detokenise")) == r.stdout.rstrip("\n")
    steps = of(events, "step")
    assert [e["name"] for e in steps] == ["prompt step"] + ["decode step"] * 11
    assert [e["args"]["rows"] for e in steps[1:]] == [1] * 11 and steps[0]["args"]["rows"] > 1
    assert {e["name"] for e in of(events, "phase")} == {"prompt", "decode"}
    assert "open the model" in {e["name"] for e in of(events, "load")}
    layers = json.loads(rotor("inspect", "embedded", "--json").stdout)
    names = {t["name"] for t in layers["tensors"]}
    products = of(events, "op", "product")
    assert {e["args"]["tensor"] for e in products if "layer" in e["args"]} <= names
    seen = {e["args"]["layer"] for e in products if "layer" in e["args"]}
    assert seen == set(range(len(seen))) and len(seen) > 1
    assert all(e["args"]["bytes"] > 0 for e in products)
    for e in products:  # within a step of their thread
        if e["tid"] == 0:
            assert any(s["ts"] - 1 <= e["ts"] and e["ts"] + e["dur"] <= s["ts"] + s["dur"] + 1 for s in steps)


def test_ops_of_a_thread_follow_each_other(rotor, tmp_path):
    path = tmp_path / "t.json"
    rotor("run", *ONCE, "-n", "8", "-t", "2", "--trace", path)
    by_thread = collections.defaultdict(list)
    for e in of(spans(path)[1], "op") + of(spans(path)[1], "wait"):
        by_thread[e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
    for times in by_thread.values():
        times.sort()
        assert all(a[1] <= b[0] + 0.01 for a, b in zip(times, times[1:]))


def test_the_limit_holds(rotor, tmp_path):
    path = tmp_path / "t.json"
    rotor("run", *ONCE, "-n", "40", "--trace", path, "--trace-events", "64")
    trace, events = spans(path)
    assert len(events) == 64 and trace["otherData"]["events"] == 64 + trace["otherData"]["left_out"] > 1000
    assert events[0]["name"] == "start threads" and events[-1]["cat"] == "phase"  # the beginning and the end


def test_an_interrupt_leaves_a_whole_file(tmp_path):
    path = tmp_path / "t.json"
    p = subprocess.Popen([os.environ["ROTOR_BINARY"], "run", *ONCE, "--ignore-eos", "--on-full", "shift", "--trace", str(path)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.read(3)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=300)
    assert p.returncode == -signal.SIGINT
    _, events = spans(path)
    assert of(events, "token", "sample") and of(events, "phase", "decode")
    assert os.listdir(tmp_path) == ["t.json"]


def test_talk_and_bench(rotor, tmp_path):
    for args, text in ((["chat", "-n", "4", "--no-history"], "Hi\n"), (["bench", "-p", "4", "-n", "4", "-r", "1"], None)):
        path = tmp_path / (args[0] + ".json")
        rotor(*args, "--trace", path, input=text)
        _, events = spans(path)
        assert of(events, "step", "decode step") and of(events, "op", "product")


def test_a_place_that_is_not_there(rotor, tmp_path):
    r = rotor("run", *ONCE, "-n", "2", "--trace", tmp_path / "no" / "t.json", status=1)
    assert r.stdout == "" and "no/t.json" in r.stderr
