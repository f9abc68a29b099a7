# SPDX-License-Identifier: MIT
"""The routes of rotor serve beside the chats: tokens, templates, scores, metrics, vectors, the log."""
import contextlib
import json
import os
import re
import select
import socket
import subprocess

import pytest

from serve_rig import PATIENCE_S, STORY, Server, complete, user, wait_until


def test_tokenize_and_back(server):
    text = "Once upon a time, é漢😀\n"
    ids = server.ask("/tokenize", {"content": text})["tokens"]
    assert server.ask("/detokenize", {"tokens": ids})["content"] == text
    pieces = server.ask("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [p["id"] for p in pieces] == ids
    assert server.ask("/detokenize", {"tokens": [-1]}, status=400)["error"]["param"] == "tokens"


def test_apply_template(server):
    got = server.ask("/apply-template", {"messages": [{"role": "user", "content": "Hi"}]})
    assert "Hi" in got["prompt"] and got["tokens"]
    reply = server.ask("/v1/chat/completions", user("Hi"))
    assert reply["usage"]["prompt_tokens"] == len(got["tokens"])


def test_alternatives_that_are_no_text_and_offsets(server):
    """Bytes that are no UTF-8 are named U+FFFD, as in tokens, and the likelier counts; offsets count characters."""
    ids = server.ask("/tokenize", {"content": "é漢😀"})["tokens"][1:]  # no space; some are bytes
    body = {"prompt": "Hi", "max_tokens": 20, "logit_bias": {str(i): 100 for i in ids}, "temperature": 1, "seed": 3, "logprobs": 8}
    whole = server.ask("/v1/completions", body)["choices"][0]["logprobs"]
    assert any("\ufffd" in top for top in whole["top_logprobs"]) and all(whole["top_logprobs"])
    for token, value, top in zip(whole["tokens"], whole["token_logprobs"], whole["top_logprobs"]):
        assert max(top.values()) >= value - 1e-5 and list(top.values()) == sorted(top.values(), reverse=True)
    assert len("".join(whole["tokens"]).encode()) > len("".join(whole["tokens"]))
    assert whole["text_offset"] == [len("".join(whole["tokens"][:i])) for i in range(len(whole["tokens"]))]
    chunks = [c["choices"][0]["logprobs"] for c in server.stream("/v1/completions", body)]
    assert [o for lp in chunks if lp for o in lp["text_offset"]] == whole["text_offset"]


def test_many_prompts_are_scored(server):
    """Prompts whose tokens get probabilities take turns, and each gets what it gets alone."""
    body = {"echo": True, "logprobs": 1, "max_tokens": 0}
    prompts = ["Once upon a time", "There was", "A girl"] * 3
    alone = [server.ask("/v1/completions", {**body, "prompt": p})["choices"][0]["logprobs"] for p in prompts[:3]]
    got = server.ask("/v1/completions", {**body, "prompt": prompts})["choices"]
    assert [c["logprobs"] for c in got] == alone * 3


def test_scoring_lets_others_through(server):
    """Hundreds of long prompts to score keep nobody waiting, and end when nobody waits for them."""
    def running():
        return server.metric("requests_running")
    text = json.dumps({"prompt": ["Once upon a time " * 40] * 1000, "echo": True, "logprobs": 0, "max_tokens": 0}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with contextlib.ExitStack() as left:
        scoring = [left.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)) for _ in range(2)]
        for s in scoring:
            s.sendall((head % len(text)).encode() + text)
        wait_until(running)
        complete(server)
        assert not select.select(scoring, [], [], 0)[0]
    wait_until(lambda: not running())


def test_echo_with_probabilities(server):
    """What test suites measure models with: the prompt's own tokens and their probabilities, without a new one."""
    prompt = "Once upon a time, there was a little girl"
    got = server.ask("/v1/completions", {"prompt": prompt, "echo": True, "logprobs": 2, "max_tokens": 0})["choices"][0]
    lp = got["logprobs"]
    assert lp["token_logprobs"][0] is None and all(x <= 0 for x in lp["token_logprobs"][1:])
    assert got["text"].endswith(prompt) and "".join(lp["tokens"]) == got["text"]
    assert all(len(t) == 2 for t in lp["top_logprobs"][1:])
    assert sum(lp["token_logprobs"][2:]) > -15  # the model knows its stories
    more = server.ask("/v1/completions", {"prompt": prompt, "echo": True, "logprobs": 0, "max_tokens": 5, "temperature": 0})
    assert len(more["choices"][0]["logprobs"]["tokens"]) == len(lp["tokens"]) + 5
    plain = server.ask("/v1/completions", {"prompt": prompt, "echo": True, "max_tokens": 5, "temperature": 0})
    assert plain["choices"][0]["text"].startswith(prompt)


def test_metrics(server):
    before = server.ask("/v1/completions", {"prompt": "Once", "max_tokens": 5})
    r, data = server.raw("GET", "/metrics")
    assert r.getheader("Content-Type").startswith("text/plain")
    values = {}
    for line in data.decode().splitlines():
        assert re.match(r"# (HELP|TYPE) \S+ .+$|[a-z_:]+(\{[a-z]+=\"[^\"]*\"\})? [-+0-9.e]+$", line), line
        if line[0] != "#":
            name, value = line.rsplit(" ", 1)
            assert name not in values
            values[name] = float(value)
    assert values["rotor_generated_tokens_total"] == values["llamacpp:tokens_predicted_total"] >= before["usage"]["completion_tokens"]
    assert values["rotor_request_seconds_count"] == values['rotor_request_seconds_bucket{le="+Inf"}'] > 0
    assert values["rotor_steps_total"] > 0 and 'rotor_http_requests_total{status="2xx"}' in values


def test_completion_of_llama_server(server):
    got = server.ask("/completion", {"prompt": "Once upon a time", "n_predict": 8, "temperature": 0})
    assert got["content"] == complete(server)["choices"][0]["text"] and got["stop"] is True
    assert got["stop_type"] == "limit" and got["tokens_predicted"] == 8
    word = got["content"].split()[1]
    got = server.ask("/completion", {"prompt": "Once upon a time", "n_predict": 8, "temperature": 0, "stop": [word]})
    assert got["stop_type"] == "word" and got["stopping_word"] == word
    error = server.ask("/infill", {"input_prefix": "a", "input_suffix": "b"}, status=400)["error"]
    assert error["code"] == "unsupported_parameter"


def test_the_first_model_that_writes_answers(source_root):
    """A request that names no model goes to the first that can take it."""
    s = Server(str(source_root / "tests" / "data" / "golden" / "enc-bert"), STORY)
    try:
        assert complete(s)["model"] == "stories260K" and complete(s, model="")["model"] == "stories260K"
        named = {"prompt": "Once", "model": "enc-bert"}
        assert s.ask("/v1/completions", named, status=501)["error"]["code"] == "not_supported"
        assert len(s.ask("/v1/embeddings", {"input": [5, 6]})["data"]) == 1
    finally:
        assert s.stop() == 0


def test_no_vectors_without_the_option(server):
    error = server.ask("/v1/embeddings", {"input": "x"}, status=501)["error"]
    assert "--embed" in error["message"] and error["code"] == "not_supported"


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_log_tells_prompts_when_asked_to(told, as_json):
    """A line for each request with its id, as text or as a JSON object, and what was asked only with --log-prompts."""
    s = Server(STORY, "--log-level", "debug", *["--log-prompts"] * told, *["--log-json"] * as_json)
    r, _ = s.raw("POST", "/v1/completions", json.dumps({"prompt": "A secret sentence", "max_tokens": 2}), {"Content-Type": "application/json"})
    assert s.stop() == 0
    lines = "".join(s.log).splitlines()
    assert ("secret" in "".join(lines)) == told
    line = next(x for x in lines if "/v1/completions" in x)
    if as_json:
        row = json.loads(line)
        assert row["status"] == 200 and row["request_id"] == r.getheader("X-Request-Id") and row["level"] == "info"
    else:
        assert line.startswith("POST /v1/completions 200 ") and r.getheader("X-Request-Id") in line


def test_loading_is_told(tmp_path):
    """A model that cannot be opened ends the program with one clear line."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\0" * 40)
    result = subprocess.run([os.environ["ROTOR_BINARY"], "serve", str(bad), "--port", "0"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 1 and "bad.gguf" in result.stderr.splitlines()[-1]
