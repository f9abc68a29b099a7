# SPDX-License-Identifier: MIT
"""The front door: verbs, options, help, settings, exit codes, and what a new user is told."""
import os
import subprocess

import pytest

VERBS = ["run", "chat", "tokenize", "logits", "perplexity", "bench", "inspect", "info", "models", "pull", "rm", "synth", "convert",
         "quantize", "help", "version"]


def one_line(result):
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("rotor: "), result.stderr
    assert result.stdout == ""
    return lines[0]


def test_every_verb_has_help(rotor):
    listed = rotor("help").stdout
    for verb in VERBS:
        assert "\n  %s " % verb in listed
        text = rotor("help", verb).stdout
        assert text == rotor(verb, "--help").stdout == rotor(verb, "-h").stdout
        assert text.startswith("usage: rotor %s" % verb) and "--log-level" in text
        assert max(map(len, text.splitlines())) <= 100
    assert rotor("--help").stdout == listed


def test_version(rotor):
    assert rotor("--version").stdout == rotor("version").stdout
    assert rotor("version").stdout.startswith("rotor 0.")


def test_no_verb_shows_help_and_fails(rotor):
    r = rotor(status=2)
    assert r.stdout == "" and "usage: rotor VERB" in r.stderr


@pytest.mark.parametrize("words, told", [
    (["rnu"], "did you mean 'rotor run'?"),
    (["tokenise", "x"], "did you mean 'rotor tokenize'?"),
    (["frobnicate"], "no verb 'frobnicate'"),
    (["model.gguf"], "rotor run model.gguf -p TEXT"),
    (["Tell me a story"], 'rotor run -p "Tell me a story"'),
    (["--temp", "0"], "stands before the verb"),
    (["run"], "give -p TEXT"),
    (["run", "-m", "x.gguf", "-p", "a"], "the model is a plain word"),
    (["run", "--tmep", "0"], "did you mean --temp?"),
    (["run", "a", "b", "-p", "x"], "unexpected word 'b'"),
    (["run", "--kv", "f8", "-p", "x"], "expected one of f16|f32|q8"),
    (["run", "-t", "none", "-p", "x"], "--threads none: expected a whole number from 1 to 1024"),
    (["run", "-t", "0", "-p", "x"], "expected a whole number from 1"),
    (["run", "--top-p", "2", "-p", "x"], "--top-p 2: expected a number from 0 to 1"),
    (["run", "-p"], "--prompt needs a value"),
    (["run", "--chat-template", "nope", "-p", "x"], "--chat-template nope: expected one of"),
    (["run", "--cpu", "sse", "-p", "x"], "avx2"),
    (["tokenize"], "usage: rotor tokenize"),
    (["synth"], "which PRESET"),
    (["help", "nothing"], "no verb 'nothing'"),
])
def test_usage_errors_say_what_is_good(rotor, words, told):
    r = rotor(*words, status=2)
    assert told in r.stderr and r.stdout == ""
    if words != ["synth"]:
        one_line(r)


@pytest.mark.parametrize("words, told", [
    (["run", "no-such.gguf", "-p", "x"], "neither a file or folder nor a name in the model cache"),
    (["run", "Once upon a time", "-p", "x"], "a text to complete goes behind -p"),
    (["inspect", "no-such.gguf"], "no model 'no-such.gguf'"),
    (["perplexity", "no-such.txt"], "no such file"),
])
def test_failures_are_one_line(rotor, tmp_path, words, told):
    assert told in one_line(rotor(*words, status=1, env={"HF_HUB_CACHE": str(tmp_path)}))


def test_not_a_model_file(rotor, tmp_path):
    zipped = tmp_path / "model.gguf"
    zipped.write_bytes(b"PK\3\4" + bytes(100))
    line = one_line(rotor("run", zipped, "-p", "x", "--log-level", "error", status=1))
    assert str(zipped) in line
    empty = tmp_path / "folder"
    empty.mkdir()
    assert str(empty) in one_line(rotor("run", empty, "-p", "x", "--log-level", "error", status=1))


def test_variables_and_configuration_file(rotor, tmp_path):
    config = tmp_path / "config"
    config.write_text("# settings\n\ntemp = 0\nlog-level = error\n")
    env = {"ROTOR_CONFIG": str(config)}
    quiet = rotor("run", "-p", "Once upon a time", "-n", "4", env=env)
    assert quiet.stderr == ""
    again = rotor("run", "-p", "Once upon a time", "-n", "4", env=env)
    assert quiet.stdout == again.stdout == rotor("run", "-p", "Once upon a time", "-n", "4", "--temp", "0").stdout
    loud = rotor("run", "-p", "a", "-n", "1", env={**env, "ROTOR_LOG_LEVEL": "info"})
    assert "decode" in loud.stderr
    assert rotor("run", "-p", "a", "-n", "1", "--log-level", "error", env={"ROTOR_LOG_LEVEL": "info"}).stderr == ""


def test_bad_settings_name_their_place(rotor, tmp_path):
    config = tmp_path / "config"
    config.write_text("threads = 1\ntempp = 1\n")
    env = {"ROTOR_CONFIG": str(config)}
    r = rotor("run", "-p", "a", status=2, env=env)
    assert "config:2: no setting 'tempp'; did you mean 'temp'?" in r.stderr
    config.write_text("kv = f17\n")
    assert "config:1: kv f17: expected one of f16|f32|q8" in rotor("run", "-p", "a", status=2, env=env).stderr
    assert "ROTOR_TEMP hot: expected a number" in rotor("run", "-p", "a", status=2, env={"ROTOR_TEMP": "hot"}).stderr
    assert rotor("models", env={"ROTOR_TEMP": "hot"}).returncode == 0  # not an option of this verb


def test_equals_sign_and_double_dash(rotor):
    assert rotor("run", "--prompt=Once", "--temp=0", "-n", "3").stdout
    r = rotor("models", "--", "--json", status=2)
    assert "unexpected word '--json'" in r.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk_on_standard_output_fails():
    with open("/dev/full", "w") as full:
        r = subprocess.run([os.environ["ROTOR_BINARY"], "help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 1 and "cannot write to standard output" in r.stderr


def test_closed_pipe_is_quiet():
    r = subprocess.run("set -o pipefail; '%s' inspect | head -1; echo ${PIPESTATUS[0]}" % os.environ["ROTOR_BINARY"],
                       shell=True, executable="/bin/bash", capture_output=True, text=True)
    assert r.stderr == "" and len(r.stdout.splitlines()) == 2
