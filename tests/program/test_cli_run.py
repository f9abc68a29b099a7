# SPDX-License-Identifier: MIT
"""rotor run, logits and perplexity on the embedded model and on made-up ones."""
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.cpu, pytest.mark.threads]  # again for each --cpu level, and under TSan

STORY = ", there was a little girl named Lily. She loved to play outside in the park."
ONCE = ["-p", "Once upon a time", "--temp", "0"]


def test_the_embedded_model_tells_its_story(rotor):
    r = rotor("run", *ONCE, "-n", "60")
    assert r.stdout.startswith(STORY) and r.stdout.endswith("\n")
    assert "decode 60 tok" in r.stderr and "first token" in r.stderr and " of 512" in r.stderr


def test_only_new_text_unless_echo(rotor):
    plain, echo = rotor("run", *ONCE, "-n", "8").stdout, rotor("run", *ONCE, "-n", "8", "--echo").stdout
    assert echo == "Once upon a time" + plain


def test_prompt_from_standard_input(rotor):
    assert rotor("run", "-p", "-", "--temp", "0", "-n", "8", input="Once upon a time").stdout == \
        rotor("run", *ONCE, "-n", "8").stdout


def test_json(rotor):
    d = json.loads(rotor("run", *ONCE, "-n", "8", "--json").stdout)
    assert d["prompt"] == "Once upon a time" and d["finish"] == "length" and len(d["ids"]) == 8
    assert STORY.startswith(d["text"])
    t = d["timings"]
    assert t["prompt_tokens"] == len(d["prompt_ids"]) and t["decode_tokens"] == 8
    assert t["prompt_tps"] > 0 and t["decode_tps"] > 0 and t["first_token_ms"] > 0


def test_same_seed_same_text(rotor):
    def text(seed):
        return rotor("run", "-p", "One day", "-n", "24", "--temp", "1", "--seed", seed).stdout
    assert text("7") == text("7")
    assert len({text(s) for s in "1234"}) > 1


def test_stop_text_ends_the_answer_and_is_not_printed(rotor):
    r = rotor("run", *ONCE, "-n", "60", "--stop", "Lily", "--stop", "park")
    assert r.stdout == ", there was a little girl named \n"


def test_chat_wraps_the_text(rotor):
    d = json.loads(rotor("run", "-p", "Hi", "--chat", "--system", "Be kind", "-n", "4", "--json").stdout)
    assert "Be kind" in d["rendered"] and "Hi" in d["rendered"] and d["rendered"] != "Hi"


def test_beams(rotor):
    assert rotor("run", *ONCE, "-n", "8", "--beams", "3").stdout
    kept = rotor("run", *ONCE, "-n", "60", "--beams", "3", "--json-schema", '{"enum": ["a cat", "a dog"]}').stdout
    assert kept in ('"a cat"', '"a dog"', '"a cat"\n', '"a dog"\n')
    assert "--beams needs -n" in rotor("run", *ONCE, "--beams", "3", status=2).stderr


def test_full_context_is_said(rotor):
    r = rotor("run", *ONCE, "-c", "16", "--ignore-eos")
    line = r.stderr.splitlines()[-1]
    assert "context full: 5 prompt tokens and 12 new ones, the context has 16" in line and "--on-full shift" in line
    too_long = rotor("run", "-p", "word " * 100, "-c", "16", status=1)
    line = too_long.stderr.splitlines()[-1]
    assert " 16 " in line and "--ctx" in line and "--on-full shift" in line and too_long.stdout == ""


def test_a_full_context_shifts_where_that_is_asked(rotor):
    run = [*ONCE, "-n", "60", "--ignore-eos", "-c", "16", "--json"]
    stop, shift = json.loads(rotor("run", *run).stdout), rotor("run", *run, "--on-full", "shift")
    d = json.loads(shift.stdout)
    assert stop["finish"] == "context" and stop["shifted_tokens"] == 0 and len(stop["ids"]) == 12
    assert d["finish"] == "length" and len(d["ids"]) == 60 and d["ids"][:12] == stop["ids"]
    assert d["shifts"] > 3 and d["shifted_tokens"] >= d["shifts"]
    assert shift.stderr.count("were dropped") == 1 and "the context of 16 tokens" in shift.stderr
    kept = json.loads(rotor("run", *run, "--on-full", "shift", "--keep", "8").stdout)
    assert kept["shifts"] > d["shifts"]
    assert "at most half" in rotor("run", *run, "--on-full", "shift", "--keep", "9", status=2).stderr
    assert "--beams" in rotor("run", *run, "--on-full", "shift", "--beams", "2", status=2).stderr


def test_a_long_prompt_loses_its_oldest_part_when_shifting(rotor):
    words = ["-p", "One day a boy went to the park and saw a big red dog", "-n", "4", "--temp", "0", "-c", "12", "--json"]
    for chat in [[], ["--chat"]]:
        r = rotor("run", *words, *chat, "--on-full", "shift")
        d = json.loads(r.stdout)
        assert d["shifted_tokens"] > 0 and len(d["prompt_ids"]) > 12 > d["timings"]["prompt_tokens"]
        assert "the oldest" in r.stderr


def test_log_level_error_is_silent(rotor):
    assert rotor("run", *ONCE, "-n", "2", "--log-level", "error").stderr == ""


def test_no_escape_codes_when_piped(rotor):
    r = rotor("run", *ONCE, "-n", "20")
    assert "\033" not in r.stdout + r.stderr and "\r" not in r.stderr


def test_interrupt_ends_by_the_signal():
    p = subprocess.Popen([os.environ["ROTOR_BINARY"], "run", *ONCE, "--ignore-eos", "-c", "512"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.read(3)
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=300)
    assert p.returncode in (-signal.SIGINT, 0)  # 0: the answer had already ended


# ---- speculation -----------------------------------------------------------------------------------------------------

AGAIN = "Lily had a red ball. Tom had a red ball. Lily had a red ball. Tom had a"


@pytest.fixture()
def story_file(source_root):
    return source_root / "tests" / "data" / "model" / "stories260K.gguf"


@pytest.mark.parametrize("words", [
    ["--temp", "0"], ["--temp", "1", "--seed", "5"], ["--temp", "0.7", "--seed", "2", "--repeat-penalty", "1.1"],
    ["--temp", "0", "--stop", "park", "--stop", "ball. T"], ["--temp", "0", "-c", "64", "--ignore-eos"]])
def test_speculation_never_changes_the_text(rotor, story_file, words):
    def told(*more):
        d = json.loads(rotor("run", "-p", AGAIN, "-n", "90", *words, "--json", *more).stdout)
        assert 0 <= d["timings"]["accepted_tokens"] <= d["timings"]["drafted_tokens"]
        return d["timings"].pop("drafted_tokens"), d["ids"], d["text"], d["finish"]
    plain = told()
    assert plain[0] == 0
    for how in (["--lookup"], ["--draft", story_file], ["--lookup", "--draft", story_file, "--draft-max", "3"]):
        guessed = told(*how)
        assert guessed[1:] == plain[1:] and guessed[0] > 0


def test_the_speed_line_tells_about_drafts(rotor, story_file):
    r = rotor("run", "-p", AGAIN, "-n", "40", "--temp", "0", "--draft", story_file)
    assert " right | first token" in r.stderr and "draft: stories260K (llama" in r.stderr
    r = rotor("run", "-p", AGAIN, "-n", "40", "--temp", "0", env={"ROTOR_LOOKUP": "on"})
    assert " right | first token" in r.stderr
    assert "drafts" not in rotor("run", "-p", AGAIN, "-n", "40", "--temp", "0").stderr


def test_only_the_same_vocabulary_may_draft(rotor, tmp_path):
    other = tmp_path / "other.gguf"
    rotor("synth", "bitnet-tiny", "-o", other)
    r = rotor("run", "-p", "Hi", "-n", "4", "--draft", other, "--log-level", "error", status=2)
    assert "cannot draft for stories260K: another vocabulary; token 0 is '!', not '<unk>'" in r.stderr and r.stdout == ""
    r = rotor("run", "-p", "Hi", "--draft", "no-such.gguf", "--log-level", "error", status=1)
    assert "no-such.gguf" in r.stderr and r.stdout == ""
    assert "1 to 15" in rotor("run", "-p", "Hi", "--draft-max", "16", status=2).stderr


# ---- logits ----------------------------------------------------------------------------------------------------------


def logits(rotor, path, *words):
    rotor("logits", *words, "-o", path)
    return np.load(path)


def test_logits_shape_and_last_row(rotor, tmp_path):
    every = logits(rotor, tmp_path / "a.npy", "--tokens", "1,403,407,261", "--all")
    last = logits(rotor, tmp_path / "b.npy", "--tokens", "1,403,407,261")
    assert every.shape == (4, 512) and last.shape == (1, 512) and every.dtype == last.dtype == np.float32
    assert every[-1].tobytes() == last[0].tobytes()
    assert logits(rotor, tmp_path / "c.npy", "--tokens", "1 403,407\n261").tobytes() == last.tobytes()


def test_logits_do_not_depend_on_threads_or_chunks(rotor, tmp_path):
    base = logits(rotor, tmp_path / "a.npy", "--tokens", "1,403,407,261,378", "--all")
    other = logits(rotor, tmp_path / "b.npy", "--tokens", "1,403,407,261,378", "--all", "-t", "1", "--chunk", "2")
    assert base.tobytes() == other.tobytes()


@pytest.mark.parametrize("words, status, told", [
    (["--tokens", "1,2"], 2, "-o F.npy"),
    (["-o", "x.npy"], 2, "--tokens 1,2,3"),
    (["--tokens", "1,512", "-o", "x.npy"], 2, "id 512; this model has 0 to 511"),
    (["--tokens", "", "-o", "x.npy"], 2, "no ids"),
    (["--tokens", "1,2", "-o", "no/such/x.npy"], 1, "cannot write"),
    (["--tokens", "1," * 20, "-c", "16", "-o", "x.npy"], 1, "16"),
])
def test_logits_errors(rotor, tmp_path, monkeypatch, words, status, told):
    monkeypatch.chdir(tmp_path)
    r = rotor("logits", *words, "--log-level", "error", status=status)
    assert told in r.stderr and len(r.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


# ---- perplexity ------------------------------------------------------------------------------------------------------

TEXT = "Once upon a time, there was a little girl named Lily. She loved to play outside. " * 6


@pytest.fixture()
def story(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text(TEXT)
    return path


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def windows_of(rotor, ids, ctx, tmp_path):
    """The method written out: windows of ctx, BOS first, second half scored."""
    nll, rows = [], []
    for w in range(len(ids) // ctx):
        window = [1] + ids[w * ctx + 1:(w + 1) * ctx]
        out = logits(rotor, tmp_path / "w.npy", "--tokens", ",".join(map(str, window)), "--all")
        lp = log_softmax(out)
        for pos in range(ctx // 2, ctx - 1):
            nll.append(-lp[pos, ids[w * ctx + pos + 1]])
            rows.append(out[pos])
    return np.array(nll), np.array(rows)


def test_perplexity_is_the_stated_method(rotor, story, tmp_path):
    ids = [1] + json.loads(rotor("tokenize", write_embedded(rotor, tmp_path), TEXT, "--json").stdout)["ids"]
    nll, rows = windows_of(rotor, ids, 64, tmp_path)
    base = tmp_path / "base.npy"
    line = rotor("perplexity", story, "-c", "64", "--logits", base).stdout
    word, p, tokens, n = line.split()
    assert (word, tokens, int(n), line.count("\n")) == ("perplexity", "tokens", len(nll), 1)
    assert np.isclose(float(p), np.exp(nll.mean()), rtol=1e-5)
    assert np.load(base).tobytes() == rows.tobytes()


def write_embedded(rotor, tmp_path):
    """The embedded model as a file: tokenize wants one by name."""
    import shutil
    path = tmp_path / "embedded.gguf"
    shutil.copy(os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tests", "data", "model", "stories260K.gguf"), path)
    return path


def test_kld_against_itself_is_zero_and_against_q8_is_not(rotor, story, tmp_path):
    base, q8 = tmp_path / "base.npy", tmp_path / "q8.npy"
    rotor("perplexity", story, "-c", "64", "--logits", base)
    same = json.loads(rotor("perplexity", story, "-c", "64", "--kld", base, "--json").stdout)
    assert same["kld_max"] < 1e-6 and same["same_top"] == 1.0
    d = json.loads(rotor("perplexity", story, "-c", "64", "--head", "q6", "--kld", base, "--logits", q8, "--json").stdout)
    lp, lq = log_softmax(np.load(base)), log_softmax(np.load(q8))
    kld = (np.exp(lp) * (lp - lq)).sum(axis=1)
    assert kld.mean() > 0 and np.isclose(d["kld_mean"], kld.mean(), rtol=1e-3) and \
        np.isclose(d["kld_max"], kld.max(), rtol=1e-3)
    text = rotor("perplexity", story, "-c", "64", "--kld", base).stdout.splitlines()
    assert len(text) == 2 and text[1].startswith("kld mean ")


def test_windows_limit_and_short_texts(rotor, story, tmp_path):
    assert rotor("perplexity", story, "-c", "64", "--windows", "1").stdout.endswith(" tokens 31\n")
    short = tmp_path / "short.txt"
    short.write_text("Once upon a time there was a dog.")
    assert rotor("perplexity", short).stdout.startswith("perplexity ")
    short.write_text("a")
    assert "at least 4" in rotor("perplexity", short, "--log-level", "error", status=2).stderr
    bad = tmp_path / "bad.npy"
    np.save(bad, np.zeros((3, 512), np.float32))
    assert "expected [31, 512]" in rotor("perplexity", story, "-c", "64", "--windows", "1", "--kld", bad, status=2).stderr
    np.save(bad, np.zeros((3, 512)))
    assert "float32" in rotor("perplexity", story, "--kld", bad, status=1).stderr


# ---- the model that is meant when none is named -------------------------------------------------------------------------


def test_the_default_model_is_named_by_the_environment_or_built_in(rotor, tmp_path):
    other = tmp_path / "other.gguf"
    rotor("synth", "bitnet-tiny", "-o", other)
    name = lambda *words, **env: json.loads(rotor("inspect", *words, "--json", env=env).stdout)["name"]
    assert name(ROTOR_MODEL=str(other)) == name(other) != name("embedded")
    assert name(ROTOR_MODEL="") == name("embedded", ROTOR_MODEL=str(other)) == name("embedded")
    assert "no model 'no-such'" in rotor("run", "-p", "x", env={"ROTOR_MODEL": "no-such"}, status=1).stderr
    assert "no model 'no-such'" in rotor("models", env={"ROTOR_MODEL": "no-such"}).stderr


def test_a_session_goes_on_where_it_was(rotor, tmp_path):
    """Two runs over one file say what one run says, and read nothing again."""
    path, settings = tmp_path / "tale.session", ["--temp", "0", "--ignore-eos", "--json"]
    whole = json.loads(rotor("run", "-p", "Once upon a time", "-n", "40", *settings).stdout)
    first = json.loads(rotor("run", "-p", "Once upon a time", "-n", "15", "--session", path, *settings).stdout)
    rest = json.loads(rotor("run", "-p", "", "-n", "25", "--session", path, *settings).stdout)
    assert first["ids"] + rest["ids"] == whole["ids"]
    assert rest["timings"]["prompt_tokens"] - rest["timings"]["reused_tokens"] == 1
    again = json.loads(rotor("run", "-p", " The end", "-n", "2", "--session", path, *settings).stdout)
    assert again["prompt_ids"][:len(whole["prompt_ids"]) + 40] == whole["prompt_ids"] + whole["ids"]
    assert "--kv f16" in rotor("run", "-p", "x", "--session", path, "--kv", "q8", status=1).stderr
    assert "another model" in rotor("run", "-p", "x", "--session", path, "--layers", "2", status=1).stderr
    bad = tmp_path / "bad.session"
    bad.write_bytes(path.read_bytes()[:-100])
    assert "size is" in rotor("run", "-p", "x", "--session", bad, status=1).stderr
    assert "rotor chat --session" in rotor("run", "-p", "x", "--chat", "--session", path, status=2).stderr
