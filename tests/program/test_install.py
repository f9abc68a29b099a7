# SPDX-License-Identifier: MIT
"""What `make install` puts where, and whether it works from there: manual pages, completions, the unit, the library."""
import os
import re
import shutil
import subprocess

import pytest

BINARY = os.environ["ROTOR_BINARY"]


def run(*command, **more):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def verbs_of(rotor):
    return re.findall(r"^  ([a-z-]+) +\S", rotor("help").stdout.split("MODEL is")[0], re.M)


def one(root, name):
    found = list(root.rglob(name))
    assert len(found) == 1, found
    return found[0]


def test_there_is_a_manual_page_for_each_verb(rotor, installed):
    pages = {page.name for page in one(installed, "rotor.1").parent.iterdir()}
    assert pages == {"rotor.1"} | {"rotor-%s.1" % verb for verb in verbs_of(rotor)}
    for name, words in (("rotor.1", []), ("rotor-train-tokenizer.1", ["train-tokenizer"])):
        assert one(installed, name).read_text() == rotor("help", "--man", *words).stdout


def test_manual_pages_render_without_a_warning(installed):
    pages = [one(installed, name) for name in ("rotor.1", "rotor-rag.1", "rotor-serve.1")]  # the longest ones
    checkers = []
    if shutil.which("man"):
        checkers.append(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
    if shutil.which("mandoc"):
        checkers.append(["mandoc", "-T", "lint", "-W", "warning"])
    if not checkers:
        pytest.skip("neither man nor mandoc")
    quiet = {**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    for checker in checkers:
        result = subprocess.run([*checker, *pages], env=quiet, capture_output=True, text=True, timeout=300)
        told = result.stderr + (result.stdout if checker[0] == "mandoc" else "")
        # A page has the version of the program and no date: the same source gives the same bytes.
        assert [line for line in told.splitlines() if "missing date" not in line] == []


def test_a_manual_page_says_what_the_help_says(rotor):
    if not shutil.which("man"):
        pytest.skip("no man")
    page = rotor("help", "--man", "rag").stdout
    shown = run("man", "-E", "UTF-8", "-l", "-", input=page, env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "200"}).stdout
    shown = re.sub(r"\s+", " ", re.sub(".\b", "", shown))
    options = re.findall(r"^ +(?:-\w, |    )(--[a-z0-9-]+(?: \S+)?)", rotor("help", "rag").stdout, re.M)
    assert len(options) > 20 and [option for option in options if option.strip() not in shown] == []
    assert "[ROTOR_LOG_LEVEL]" in shown and "EXIT STATUS" in shown


def complete_in_bash(script, *words):
    """What bash would offer after these words, sorted; the last one is being typed."""
    text = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rotor "$1" "${COMP_WORDS[COMP_CWORD]}"; printf "%s\\n" "${COMPREPLY[@]}"'
    return sorted(run("bash", "-c", text, script, BINARY, *words).stdout.split())


def test_bash_completes(installed, tmp_path):
    script = one(installed, "rotor.1").parents[2] / "bash-completion" / "completions" / "rotor"
    run("bash", "-n", script)
    assert complete_in_bash(script, "ru") == ["run"]
    assert complete_in_bash(script, "t") == ["tokenize", "train", "train-tokenizer"]
    assert complete_in_bash(script, "run", "--kv", "") == ["f16", "f32", "q8"]
    assert complete_in_bash(script, "run", "--kv", "=", "q") == ["q8"]
    assert complete_in_bash(script, "run", "--json") == ["--json", "--json-schema"]
    assert complete_in_bash(script, "rag", "s") == ["search", "status", "sync"]
    assert complete_in_bash(script, "help", "in") == ["info", "inspect"]
    assert complete_in_bash(script, "run", "embed") == ["embedded"]
    assert "bitnet-2b4t" in complete_in_bash(script, "pull", "")
    (tmp_path / "my model.gguf").touch()
    assert str(tmp_path / "my") in " ".join(complete_in_bash(script, "run", str(tmp_path / "my")))
    assert complete_in_bash(script, "nonsense", "x") == []


@pytest.mark.parametrize("shell, script", [("zsh", "_rotor"), ("fish", "rotor.fish")])
def test_other_shells_understand_their_scripts(rotor, installed, shell, script):
    text = one(installed, script)
    assert text.read_text() == rotor("help", "--completions", shell).stdout
    if not shutil.which(shell):
        pytest.skip("no " + shell)
    run(shell, "-n", text)


def test_what_a_completion_is_told(rotor):
    def told(*words):
        return rotor("help", "--complete", "--", *words).stdout.splitlines()

    assert "run\tcomplete a text" in told("r")
    assert told("run", "--kv=") == ["--kv=f16", "--kv=f32", "--kv=q8"]
    assert told("run", "--kv=f3") == ["--kv=f32"]
    assert told("bench", "-p", "") == []                  # a number
    assert told("run", "-p", "x", "--act", "q") == ["q8"]
    assert told("rag", "add", "") == told("perplexity", "model", "") == [":files"]
    assert told("models", "") == []                       # takes no words
    assert "tiny-dense\t" in "".join(told("synth", "tiny-d")) or told("synth", "")[0].count("\t") == 1
    assert rotor("help", "run", "chat", status=2).stderr.startswith("rotor: help: unexpected word 'chat'")


def test_the_unit_starts_the_installed_program(installed):
    unit = one(installed, "rotor.service").read_text()
    program = re.search(r"^ExecStart=(\S+) serve$", unit, re.M).group(1)
    assert os.access(installed / program.lstrip("/"), os.X_OK)
    assert one(installed, "rotor.socket").parent == one(installed, "rotor.service").parent


def test_licences_are_installed(source_root, installed):
    folder = one(installed, "licences.md").parent
    assert (folder / "LICENSE").read_text() == (source_root / "LICENSE").read_text()
