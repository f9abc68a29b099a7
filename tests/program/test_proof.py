# SPDX-License-Identifier: MIT
"""The proof report: what it measures, what it says was never run, and that the README claims no more than that."""
import json
import os
import re
import subprocess
import sys

import pytest

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
sys.path.insert(0, os.path.join(ROOT, "tools"))
import proof  # noqa: E402
import proof_page  # noqa: E402


def words(text):
    return " ".join(text.split())


def gates():
    with open(os.path.join(ROOT, "tests", "gated.json")) as f:
        return json.load(f)


def test_what_never_ran_is_not_claimed():
    """The README bears the words that say so, until the check's first run takes them out."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        readme = words(f.read())
    for gate in gates():
        assert set(gate) == {"name", "what", "needs", "command", "readme", "last"}
        if not gate["last"]:
            assert words(gate["readme"]) in readme, "%s: README.md lacks: %s" % (gate["name"], gate["readme"])
        else:
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", gate["last"]["date"]) and gate["last"]["figure"]


def test_every_data_set_that_tests_wait_for_has_a_gate():
    """A variable that names weights or data, without which tests are skipped, stands in a gate's needs or command."""
    known = " ".join(g["needs"] + " " + g["command"] for g in gates())
    asked = set()
    for folder in ("golden", "program", "python", "unit"):
        for where, _, names in os.walk(os.path.join(ROOT, "tests", folder)):
            for name in names:
                if name.endswith((".py", ".c")):
                    with open(os.path.join(where, name), encoding="utf-8") as f:
                        asked |= set(re.findall(r"ROTOR_TEST_(?:DATA|BITNET|MINILM|DEVICES|[A-Z]+_MODEL)\b", f.read()))
    assert asked and all(name in known for name in asked), asked


def test_a_run_is_noted(tmp_path, monkeypatch):
    path = tmp_path / "gated.json"
    path.write_text(json.dumps([{"name": "a", "last": None}, {"name": "b", "last": None}]))
    monkeypatch.setattr(proof, "GATED", str(path))
    proof.record("b", "1.5 of 2")
    first, second = json.loads(path.read_text())
    assert first["last"] is None and second["last"]["figure"] == "1.5 of 2" and second["last"]["date"] > "2026"
    with pytest.raises(SystemExit, match="no gated check c"):
        proof.record("c", "?")


def test_goals_and_verdicts():
    c = proof.Chapter("x", "X")
    c.goal("low", 1.0, least=2)
    c.goal("low on a restless machine", 1.0, least=2, restless=True)
    c.goal("high", 3.0, most=2)
    c.goal("in reach", 2.0, least=1, most=None, unit=" ms")
    c.goal("without goal", 5.0)
    c.check("wrong", "2 of 3", "failed")
    assert [x["verdict"] for x in c.checks] == ["missed", "measured", "missed", "passed", "measured", "failed"]
    assert c.checks[3]["got"] == "2.00 ms" and c.checks[3]["want"] == "at least 1 ms"
    assert proof_page.count(c.checks) == {"passed": 1, "failed": 1, "missed": 2, "measured": 2, "not run": 0}


def test_the_page_shows_what_is_in_the_report():
    c = proof.Chapter("x", "Is <b> shown?")
    c.check("a & b", "<i>", "failed", command="rotor run -p '<x>'")
    c.plot("line", "lines", [["one", [[0, 1], [1, 2]]], ["two", [[0, 1], [1, 2]]], ["none", []]], "x", "y")
    c.plot("flat", "lines", [["one", [[3, 7]]]])
    c.plot("bars", "bars", [["first", 0.0], ["second", 20]])
    c.plot("empty", "lines", [["none", []]])
    page = proof_page.page({"machine": {"cpu": "<cpu>"}, "quick": True, "chapters": [c.json()]})
    assert page.count("<svg") == 3 and page.count("<polyline") == 3 and page.count("<rect") == 2
    for shown in ("Is &lt;b&gt; shown?", "a &amp; b", "&lt;i&gt;", "&lt;cpu&gt;", "1 failed", "--quick"):
        assert shown in page
    assert "nan" not in page and "<i>" not in page


def test_a_report_is_made_and_a_failure_is_its_exit_status(tmp_path, checked_build):
    if checked_build:
        pytest.skip("a checker's build is too slow to measure")
    command = [sys.executable, os.path.join(ROOT, "tools", "proof.py"), "--quick", "--only", "training,endurance,energy,gated", "--out", tmp_path]
    bare = {**os.environ, "VK_DRIVER_FILES": "/nonexistent", "OCL_ICD_VENDORS": "/nonexistent"}  # looking at devices takes seconds
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=bare)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    verdicts = {c["what"]: c["verdict"] for chapter in report["chapters"] for c in chapter["checks"]}
    assert verdicts["two runs with one seed"] == "passed" and verdicts["400 tokens on end"] == "passed"
    assert len(report["chapters"]) == 4 and "</html>" in (tmp_path / "index.html").read_text()
    # A program that is not ours fails where it is asked, and the report is made all the same.
    lame = tmp_path / "lame"
    lame.write_text('#!/bin/sh\n[ "$1" = info ] && exec %s "$@"\nexit 3\n' % os.environ["ROTOR_BINARY"])
    lame.chmod(0o755)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**bare, "ROTOR_BINARY": str(lame)})
    assert done.returncode == 1 and "training: RuntimeError" in done.stdout, done.stdout + done.stderr
