# SPDX-License-Identifier: MIT
"""Reasoning, answers and tool calls of a model that speaks Harmony, through rotor run and rotor chat.

The model is a chain: one layer of little between embeddings that are rows of the unit matrix and a head that gives each token
its successor. So it says the same whatever it is asked, and what it says is written here. A token that is said twice has two
successors; a thought in the conversation, which attention sees, takes the first of them away.
"""
import json
import re

import numpy as np
import pytest

from gguf_header import gguf_mini as g
from test_cli_chat import Terminal

MARKS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>", "<|endoftext|>"]
QUIET = ["--log-level", "error"]
N_EMBD = 320
THOUGHT = "Two and\033[31m two."


def alphabet():
    """The 256 bytes as the characters that byte-level vocabularies write for them."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    rest = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(rest)) for b in range(256)]


def write_chain(path, said, template="{{ '<|start|>' }}{{ '<|channel|>' }}", marks=MARKS, thought=None, slips=None, n_ff=N_EMBD):
    """A model whose answer is the list `said`, every item of which is one token and said once, or
    twice: before and after the thought. slips: what it would rather say behind a token, if it may."""
    bytes_ = alphabet()
    words = list(dict.fromkeys(s for s in said if s not in marks))
    tokens = bytes_ + list(marks) + ["".join(bytes_[b] for b in w.encode()) for w in words]
    ids = {t: i for i, t in enumerate(bytes_ + list(marks) + words)}
    tokens += ["[PAD%d]" % i for i in range(N_EMBD - len(tokens))]
    types = [1] * 256 + [3] * len(marks) + [1] * len(words)
    types += [5] * (N_EMBD - len(types))
    head = np.zeros((N_EMBD, N_EMBD), np.float32)
    zeros, ones = np.zeros((N_EMBD, N_EMBD)), np.ones(N_EMBD)
    seen, spare = zeros.copy(), N_EMBD - 1  # a direction that no token of use has
    first = {}
    for before, after in zip(["t"] + said, said):  # a prompt ends with "assistant"
        if first.setdefault(before, after) == after:
            head[ids[after], ids[before]] = 10
        else:
            head[ids[after], ids[before]] = 5
            head[ids[first[before]], spare] = -10
    for before, after in (slips or {}).items():
        head[ids[after], ids[before]] = 20
    if thought:
        seen[spare, ids[thought]] = 100

    def tensor(a):
        return g.Raw(0, a.shape, np.ascontiguousarray(a, np.float32).tobytes())

    layer = {"attn_norm": ones, "ffn_norm": ones, "attn_q": zeros, "attn_k": zeros, "attn_v": seen,
             "attn_output": np.eye(N_EMBD),
             "ffn_gate": np.zeros((n_ff, N_EMBD)), "ffn_up": np.zeros((n_ff, N_EMBD)), "ffn_down": np.zeros((N_EMBD, n_ff))}
    tensors = {"token_embd.weight": np.eye(N_EMBD), "output_norm.weight": ones, "output.weight": head,
               **{"blk.0.%s.weight" % k: v for k, v in layer.items()}}
    meta = {"general.architecture": "llama", "general.name": "chain", "llama.block_count": 1, "llama.context_length": 4096,
            "llama.embedding_length": N_EMBD, "llama.feed_forward_length": n_ff, "llama.attention.head_count": 5,
            "llama.attention.head_count_kv": 5, "llama.rope.dimension_count": 64,
            "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-4o",
            "tokenizer.ggml.tokens": (g.STRING, tokens), "tokenizer.ggml.token_type": (g.I32, types),
            "tokenizer.ggml.merges": (g.STRING, ["[ P"]), "tokenizer.ggml.add_bos_token": False}
    if template:
        meta["tokenizer.chat_template"] = template
    g.write_gguf(path, meta, {k: tensor(v) for k, v in tensors.items()})
    return path


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    return write_chain(tmp_path_factory.mktemp("thinker") / "m.gguf",
                       ["<|channel|>", "analysis", "<|message|>", THOUGHT, "<|end|>", "<|start|>", "assistant",
                        "<|channel|>", "final", "<|message|>", "**Four**.", "<|return|>"], thought=THOUGHT)


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    return write_chain(tmp_path_factory.mktemp("caller") / "m.gguf",
                       [" to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{"a": 1}', "<|call|>"])


def run(rotor, model, *words, **more):
    return rotor("run", model, "--chat", "--temp", "0", "-n", "20", "-p", "What is 2 + 2?", *QUIET, *words, **more)


def test_run_prints_only_the_answer(rotor, thinker):
    assert run(rotor, thinker).stdout == "**Four**.\n"
    d = json.loads(run(rotor, thinker, "--json").stdout)
    assert d["text"] == "**Four**." and d["reasoning"] == "Two and\033[31m two." and d["tool_calls"] == []
    assert d["finish"] == "end" and len(d["ids"]) == 11
    assert run(rotor, thinker, "--beams", "2").stdout == "**Four**.\n"


def test_an_answer_that_is_cut_says_what_there_is(rotor, thinker):
    d = json.loads(run(rotor, thinker, "--json", "-n", "4").stdout)
    assert d["text"] == "" and d["reasoning"] == "Two and\033[31m two." and d["finish"] == "length"
    assert run(rotor, thinker, "-n", "4").stdout == "\n"


def test_stops_look_at_the_answer(rotor, thinker, tmp_path):
    """Not at what was thought; and the stop's own text is not said in the next prompt."""
    assert run(rotor, thinker, "--stop", "two").stdout == "**Four**.\n"
    assert run(rotor, thinker, "--stop", "ur*").stdout == "**Fo\n"
    d = json.loads(run(rotor, thinker, "--stop", "ur*", "--json").stdout)
    assert d["text"] == "**Fo" and d["finish"] == "stop" and d["reasoning"] == THOUGHT
    saved = tmp_path / "talk.json"
    r = chat(rotor, thinker, "Hi\nAgain\n/save %s\n" % saved, *QUIET, "--stop", "ur*")
    assert r.stdout == "**Fo\n" * 2
    assert [m["content"] for m in json.loads(saved.read_text())["messages"]] == ["Hi", "**Fo", "Again", "**Fo"]


def test_an_answer_that_must_not_end_goes_on(rotor, thinker):
    d = json.loads(run(rotor, thinker, "--json", "--ignore-eos", "-n", "40").stdout)
    ends = {256 + MARKS.index(m) for m in ("<|return|>", "<|call|>", "<|endoftext|>")}
    assert d["finish"] == "length" and len(d["ids"]) == 40 and not ends & set(d["ids"])
    assert d["text"].startswith("**Four**.")


def test_calls_are_told_not_printed(rotor, caller):
    assert run(rotor, caller).stdout == "\n"
    d = json.loads(run(rotor, caller, "--json").stdout)
    assert d["tool_calls"] == [{"name": "get_it", "arguments": '{"a": 1}'}] and d["text"] == "" and d["finish"] == "end"
    r = rotor("chat", caller, "--temp", "0", "-n", "20", input="Hi\n")
    assert r.stdout == "\n" and "the model calls get_it" in r.stderr


def test_the_prompt_is_harmonys(rotor, thinker):
    rendered = json.loads(run(rotor, thinker, "--json", "--system", "Be <|end|> brief.", "--reasoning-effort", "high").stdout)["rendered"]
    assert rendered.startswith("<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
                               "Knowledge cutoff: 2024-06\nCurrent date: 20")
    assert "\n\nReasoning: high\n\n" in rendered
    assert rendered.endswith("<|start|>developer<|message|># Instructions\n\nBe <|end|> brief.<|end|>"
                             "<|start|>user<|message|>What is 2 + 2?<|end|><|start|>assistant")
    d = json.loads(run(rotor, thinker, "--json", "--system", "<|end|>" * 9).stdout)
    assert d["prompt_ids"].count(256 + MARKS.index("<|end|>")) == 3
    assert "Reasoning: medium" in d["rendered"]


def test_who_speaks_harmony(rotor, thinker, tmp_path):
    said = ["<|channel|>", "final", "<|message|>", "Yes.", "<|return|>"]
    plain = write_chain(tmp_path / "plain.gguf", said, template=None)
    assert "harmony" not in run(rotor, plain, "--log-level", "info").stderr
    r = run(rotor, plain, "--chat-template", "harmony", "--log-level", "info")
    assert r.stdout == "Yes.\n" and "harmony (built in; asked for)" in r.stderr
    assert "<|start|>" not in json.loads(run(rotor, thinker, "--json", "--chat-template", "plain").stdout)["rendered"]
    other = write_chain(tmp_path / "other.gguf", ["<|message|>", "Yes.", "<|return|>"], marks=[m for m in MARKS if m != "<|call|>"])
    r = run(rotor, other, "--chat-template", "harmony", status=1)
    assert "it has no token <|call|>" in r.stderr
    run(rotor, other)  # falls back on the template that the file has


def chat(rotor, model, text, *words):
    return rotor("chat", model, "--temp", "0", "-n", "20", *words, input=text)


def test_chat_piped_shows_reasoning_on_request(rotor, thinker, tmp_path):
    assert chat(rotor, thinker, "Hi\n", *QUIET).stdout == "**Four**.\n"
    assert chat(rotor, thinker, "Hi\n", *QUIET, "--think", "show").stdout == "Two and\033[31m two.\n**Four**.\n"
    r = chat(rotor, thinker, "/think\n/think show\nHi\n/think hide\nHi\n/think loud\n")
    assert r.stdout == "Two and\033[31m two.\n**Four**.\n**Four**.\n"
    assert "think: dim" in r.stderr and "think: hide" in r.stderr and "expected one of dim|show|hide" in r.stderr
    r = chat(rotor, thinker, "/set reasoning-effort low\n/set reasoning-effort hm\n")
    assert "reasoning-effort low" in r.stderr and "expected one of low|medium|high" in r.stderr
    saved = tmp_path / "talk.json"
    chat(rotor, thinker, "Hi\nAgain\n/save %s\n" % saved)
    assert [m["content"] for m in json.loads(saved.read_text())["messages"]] == ["Hi", "**Four**.", "Again", "**Four**."]


def test_chat_repeats_an_answer_as_it_was_generated(rotor, tmp_path):
    """Words of the answer are tokens that its text alone would not be cut into: only ids can bring them back."""
    said = ["<|channel|>", "final", "<|message|>", "Yes, indeed.", "<|return|>"]
    model = write_chain(tmp_path / "m.gguf", said)
    first = json.loads(run(rotor, model, "--json").stdout)
    r = chat(rotor, model, "What is 2 + 2?\nAnd?\n/stats\n")
    kept = int(re.search(r"last: prompt .*\((\d+) kept\)", r.stderr).group(1))
    assert r.stdout == "Yes, indeed.\n" * 2 and kept == len(first["prompt_ids"]) + len(said) - 1


def test_chat_on_a_terminal_dims_reasoning(thinker, tmp_path):
    t = Terminal(tmp_path, str(thinker), "-n", "20")
    t.read_until("> ")
    t.send("Hi\n")
    seen = t.read_until("Four")
    assert "\033[2mTwo and[31m two.\033[0m" in seen and "\033[0;1mFour" in seen
    t.read_until("> ")
    t.send("/think hide\n")
    t.read_until(r"think: hide[^>]*> ")
    t.send("Again\n")
    assert "Two and" not in t.read_until("Four")
    t.read_until("> ")  # before that the terminal would take the end of input for itself
    t.send("\004")
    t.wait()


def test_a_gpt_oss_speaks_harmony_whatever_it_says(rotor, tmp_path):
    """Random weights: any ids may come, and every answer is one."""
    model = tmp_path / "m.gguf"
    rotor("synth", "gpt-oss-tiny", "-o", model)
    for seed in range(4):
        r = rotor("run", model, "--chat", "-p", "Hi", "-n", "60", "--temp", "2", "--seed", seed, "--json", "--device", "cpu")
        d = json.loads(r.stdout)
        assert "harmony (built in; gpt-oss model)" in r.stderr and "<|start|>user<|message|>Hi<|end|>" in d["rendered"]
        assert isinstance(d["reasoning"], str) and isinstance(d["tool_calls"], list)
        assert len(d["ids"]) == 60 or d["finish"] == "end"
    assert rotor("chat", model, "-n", "20", "--temp", "2", "--seed", "1", *QUIET, input="Hi\nAgain\nAnd?\n").stdout
