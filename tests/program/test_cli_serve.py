# SPDX-License-Identifier: MIT
"""rotor serve as its clients meet it: a real server on a free port, plain http.client and raw sockets."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from test_cli_harmony import write_chain

STORY = os.environ["ROTOR_MODEL"]


class Server:
    """A running server; ask() sends JSON and returns status and parsed body."""

    def __init__(self, *args, wait=True):
        self.process = subprocess.Popen([os.environ["ROTOR_BINARY"], "serve", *args, "--port", "0"],
                                        stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening at \S+ port (\d+)", line)
            if found:
                self.port = int(found.group(1))
            if re.search(r"ready: http" if wait else r"listening at", line):
                break
        else:
            raise AssertionError("".join(self.log))
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()  # a log that nobody reads would stop the server

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self, method, path, body=None, headers=None):
        c = self.connect()
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r, data

    def ask(self, path, body=None, status=200, **headers):
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        if body is None:
            r, data = self.raw("GET", path, headers=named)
        else:
            r, data = self.raw("POST", path, json.dumps(body), {"Content-Type": "application/json", **named})
        assert r.status == status, (r.status, data)
        assert data.endswith(b"\n") and r.getheader("Content-Type") == "application/json"
        assert r.getheader("X-Request-Id")
        return json.loads(data)

    def stream(self, path, body):
        """The data of every event, parsed; the last must be [DONE]."""
        r, data = self.raw("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
        assert r.status == 200 and r.getheader("Content-Type") == "text/event-stream", data
        events = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
        assert events.pop() == "[DONE]"
        return [json.loads(e) for e in events]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=20)
        self.reader.join(timeout=20)
        self.process.stderr.close()
        return status


@pytest.fixture(scope="module")
def server():
    s = Server(STORY, "--parallel", "4")
    yield s
    assert s.stop() == 0


def user(text, **more):
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 12, **more}


# ---- The thin path --------------------------------------------------------------------------------------------------


def test_health_and_models(server):
    assert server.ask("/health") == {"status": "ok"}
    models = server.ask("/v1/models")
    assert models["object"] == "list" and models["data"] == models["models"]
    row = models["data"][0]
    assert row["id"] == "stories260K" and row["object"] == "model" and row["n_ctx"] <= row["n_ctx_train"]
    assert server.ask("/v1/models/stories260K") == row
    assert server.ask("/v1/models/none", status=404)["error"]["code"] == "model_not_found"


def test_completion_is_what_run_prints(server, rotor):
    want = rotor("run", STORY, "-p", "Once upon a time", "-n", "24", "--temp", "0").stdout.rstrip("\n")
    got = server.ask("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0})
    assert got["object"] == "text_completion" and got["id"].startswith("cmpl-")
    assert got["choices"][0]["text"].rstrip("\n") == want


@pytest.mark.threads
def test_stream_and_whole_agree(server):
    whole = server.ask("/v1/chat/completions", user("A story, please"))
    chunks = server.stream("/v1/chat/completions", user("A story, please"))
    assert whole["object"] == "chat.completion" and {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({c["id"] for c in chunks}) == 1
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0] == {"role": "assistant", "content": None} and deltas[-1] == {}
    assert not any("role" in d for d in deltas[1:])
    assert "".join(d["content"] for d in deltas[1:-1]) == whole["choices"][0]["message"]["content"]
    assert [c["choices"][0]["finish_reason"] for c in chunks][-1] == whole["choices"][0]["finish_reason"] == "length"


def test_ends_at_a_signal():
    s = Server(STORY)
    start = time.time()
    assert s.stop() == 0 and time.time() - start < 5


# ---- Requests that clients send -------------------------------------------------------------------------------------


def complete(server, **more):
    return server.ask("/v1/completions", {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 8, **more})


def test_both_names_of_the_token_limit(server):
    """max_completion_tokens is obeyed like max_tokens; of two the smaller."""
    for limits, n in (({"max_completion_tokens": 5}, 5), ({"max_tokens": 4}, 4),
                      ({"max_tokens": 9, "max_completion_tokens": 3}, 3), ({"max_tokens": 2, "max_completion_tokens": 7}, 2)):
        got = server.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], **limits})
        assert got["usage"]["completion_tokens"] == n and got["choices"][0]["finish_reason"] == "length"


def test_null_is_absent(server):
    """An explicit null means that the field was not sent."""
    fields = ["stop", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "response_format", "logit_bias", "user",
              "temperature", "top_p", "n", "stream", "stream_options", "seed", "logprobs", "top_logprobs", "presence_penalty",
              "frequency_penalty", "reasoning_effort", "parallel_tool_calls", "top_k", "min_p", "truncation", "model"]
    body = dict.fromkeys(fields)
    body.update(messages=[{"role": "user", "content": "Hi", "name": None}], max_tokens=4)
    assert server.ask("/v1/chat/completions", body)["usage"]["completion_tokens"] <= 4


def test_prompts_of_every_form(server):
    """A prompt is a text, ids, a list of texts, a list of lists of ids, or a mixture."""
    ids = server.ask("/tokenize", {"content": "Once upon a time", "add_special": True})["tokens"]
    text = complete(server)["choices"][0]["text"]
    for prompt, n in (("Once upon a time", 1), (ids, 1), (["Once upon a time"] * 2, 2), ([ids, ids], 2),
                      (["Once upon a time", ids], 2)):
        got = complete(server, prompt=prompt)
        assert [c["text"] for c in got["choices"]] == [text] * n and [c["index"] for c in got["choices"]] == list(range(n))
        assert got["usage"]["prompt_tokens"] == n * len(ids)


def test_tools_without_parameters_and_of_unknown_types(server):
    """A tool whose type nobody knows is skipped; one without parameters is fine. This model's template knows no tools,
    which is said; tool_choice none means that there are none."""
    unknown = [{"type": "web_search"}, {"type": "local_shell", "x": 1}]
    server.ask("/v1/chat/completions", user("Hi", tools=unknown))
    server.ask("/v1/chat/completions", user("Hi", tools=[]))
    plain = [{"type": "function", "function": {"name": "f"}}]
    server.ask("/v1/chat/completions", user("Hi", tools=plain, tool_choice="none"))
    error = server.ask("/v1/chat/completions", user("Hi", tools=plain), status=400)["error"]
    assert "tools" in error["message"] and error["code"] == "unsupported_parameter"


def test_message_shape(server):
    """A message has role, content and refusal, a choice has logprobs, whether asked for or not."""
    got = server.ask("/v1/chat/completions", user("Hi"))
    choice = got["choices"][0]
    assert set(choice) == {"index", "message", "finish_reason", "logprobs"} and choice["logprobs"] is None
    assert choice["message"]["role"] == "assistant" and choice["message"]["refusal"] is None
    assert re.match(r"chatcmpl-\w+$", got["id"]) and abs(got["created"] - time.time()) < 100
    assert got["model"] == "stories260K"


def test_logprobs_items(server):
    """Each token has token, logprob, bytes and its alternatives; together they are the text, streamed or not."""
    body = user("A story", logprobs=True, top_logprobs=3, max_tokens=20)
    whole = server.ask("/v1/chat/completions", body)["choices"][0]
    items = whole["logprobs"]["content"]
    assert "".join(i["token"] for i in items) == whole["message"]["content"] and len(items) == 20
    for i in items:
        assert set(i) == {"token", "logprob", "bytes", "top_logprobs"} and bytes(i["bytes"]).decode() == i["token"]
        assert len(i["top_logprobs"]) == 3 and i["logprob"] <= 0
        assert i["top_logprobs"][0]["logprob"] == pytest.approx(i["logprob"], abs=1e-5)  # temperature 0
        assert set(i["top_logprobs"][0]) == {"token", "logprob", "bytes"}
    chunks = server.stream("/v1/chat/completions", body)
    streamed = [i for c in chunks for i in ((c["choices"][0]["logprobs"] or {}).get("content") or [])]
    assert streamed == items
    server.ask("/v1/chat/completions", user("Hi", top_logprobs=3), status=400)
    server.ask("/v1/chat/completions", user("Hi", logprobs=True, top_logprobs=21), status=400)


def test_usage_chunk(server):
    """Usage comes in one chunk without choices, only when asked for; sums hold."""
    chunks = server.stream("/v1/chat/completions", user("Hi", stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == [] and all(c["usage"] is None for c in chunks[:-1])
    u = chunks[-1]["usage"]
    assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] and u["completion_tokens"] == 12
    for c in server.stream("/v1/chat/completions", user("Hi")):
        assert "usage" not in c and len(c["choices"]) == 1


def test_finish_reasons(server):
    """stop at a stop string and at the model's end, length at the limit and at a full context."""
    text = complete(server, max_tokens=40)["choices"][0]["text"]
    word = text.split()[5]
    got = complete(server, max_tokens=40, stop=word)["choices"][0]
    assert got["finish_reason"] == "stop" and got["text"] == text[:text.index(word)]
    assert complete(server)["choices"][0]["finish_reason"] == "length"
    full = complete(server, max_tokens=100000, ignore_eos=True)
    n_ctx = server.ask("/v1/models")["data"][0]["n_ctx"]
    assert full["choices"][0]["finish_reason"] == "length" and n_ctx <= full["usage"]["total_tokens"] <= n_ctx + 1


def test_nothing_of_a_stop_string_is_shown(server):
    """A stop string over several tokens never begins to appear in a stream, and what only looks like one does."""
    text = complete(server, max_tokens=40)["choices"][0]["text"]
    for at in range(3, 60, 7):
        stop = text[at:at + 9]
        chunks = server.stream("/v1/completions", {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 40,
                                                   "stop": ["not in it", stop]})
        assert "".join(c["choices"][0]["text"] for c in chunks) == text[:text.index(stop)]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    near = text[10:20] + "\x01"
    assert complete(server, max_tokens=40, stop=[near])["choices"][0]["text"] == text


def test_characters_are_whole(server):
    """No event holds part of a character: the story model writes bytes when told to."""
    ids = server.ask("/tokenize", {"content": "é漢😀"})["tokens"]
    bias = {str(i): 100 for i in ids if i > 2}
    chunks = server.stream("/v1/completions", {"prompt": "Hi", "max_tokens": 40, "logit_bias": bias, "temperature": 1, "seed": 3})
    text = "".join(c["choices"][0]["text"] for c in chunks)
    whole = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 40, "logit_bias": bias, "temperature": 1, "seed": 3})
    assert text == whole["choices"][0]["text"] and text


def test_roles_and_contents(server):
    """developer is system; content is a text or parts of text; an assistant's may be null; a tool's a list."""
    def prompt(messages):
        return server.ask("/apply-template", {"messages": messages})["prompt"]
    ask = {"role": "user", "content": "Hi"}
    plain = prompt([{"role": "system", "content": "Be brief"}, ask])
    assert prompt([{"role": "developer", "content": "Be brief"}, ask]) == plain
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief"}]
    assert prompt([{"role": "system", "content": parts}, ask]) == plain
    server.ask("/v1/chat/completions", {"messages": [ask, {"role": "assistant", "content": None}, ask,
               {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "42"}]}], "max_tokens": 2})
    image = [{"type": "image_url", "image_url": {"url": "http://localhost/x.png"}}]
    error = server.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": image}]}, status=400)["error"]
    assert error["param"] == "messages[0].content" and error["code"] == "unsupported_parameter"
    error = server.ask("/v1/chat/completions", {"messages": [ask, {"role": "wizard", "content": "x"}]}, status=400)["error"]
    assert error["param"] == "messages[1].role" and error["code"] == "invalid_value"


def test_plain_text_may_be_asked_for(server):
    """response_format of type text is what happens anyway."""
    server.ask("/v1/chat/completions", user("Hi", response_format={"type": "text"}))


def test_overflow_is_a_clear_error(server):
    """A prompt that is too long: 400 with the numbers, in words that every client's pattern finds; nothing is cut."""
    n_ctx = server.ask("/v1/models")["data"][0]["n_ctx"]
    for path, body in (("/v1/completions", {"prompt": [5] * (n_ctx + 10)}), ("/v1/chat/completions", user("word " * n_ctx)),
                       ("/v1/chat/completions", user("word " * n_ctx, stream=True))):
        error = server.ask(path, body, status=400)["error"]
        assert error["code"] == "context_length_exceeded" and error["type"] == "invalid_request_error"
        assert error["n_ctx"] == n_ctx and error["n_prompt_tokens"] >= n_ctx and error["error_type"] == "exceed_context_size_error"
        assert "maximum context length is %d tokens" % n_ctx in error["message"]
        assert "exceeds the available context size" in error["message"]


def test_truncation_is_asked_for_and_told(server):
    """truncation: auto drops the oldest turns, keeps system text and the last turn, and says so."""
    turns = [{"role": "system", "content": "Be brief."}]
    for i in range(60):
        turns += [{"role": "user", "content": "Question %d about dogs?" % i}, {"role": "assistant", "content": "Woof %d." % i}]
    turns.append({"role": "user", "content": "The last question"})
    server.ask("/v1/chat/completions", {"messages": turns}, status=400)
    got = server.ask("/v1/chat/completions", {"messages": turns, "truncation": "auto", "max_tokens": 4})
    assert got["truncation"]["dropped_tokens"] > 100 and got["truncation"]["dropped_messages"] % 2 == 0
    last = server.stream("/v1/chat/completions", {"messages": turns, "truncation": "auto", "max_tokens": 4})[-1]
    assert last["truncation"] == got["truncation"]
    assert "truncation" not in server.ask("/v1/chat/completions", user("Hi", truncation="auto"))
    server.ask("/v1/chat/completions", user("Hi", truncation="maybe"), status=400)


@pytest.mark.threads
def test_a_seed_means_a_text(server):
    """The same seed gives the same text alone, beside others, with a cached prefix and without."""
    body = {"prompt": "Once upon a time", "max_tokens": 30, "temperature": 1, "seed": 42}
    alone = server.ask("/v1/completions", {**body, "cache_prompt": False})["choices"][0]["text"]
    again = server.ask("/v1/completions", body)
    assert again["choices"][0]["text"] == alone and again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    many = server.ask("/v1/completions", {**body, "prompt": [body["prompt"], "The cat", "Tom", body["prompt"]]})
    assert many["choices"][0]["text"] == many["choices"][3]["text"] == alone
    assert server.ask("/v1/completions", {**body, "seed": 43})["choices"][0]["text"] != alone


def test_bias_bans_and_forces(server):
    """Keys of logit_bias are texts; -100 bans a token, 100 forces it; a foreign id is refused."""
    first = complete(server, max_tokens=1, logprobs=1)["choices"][0]
    ids = server.ask("/tokenize", {"content": "Once upon a time" + first["text"]})["tokens"]
    assert complete(server, max_tokens=1, logit_bias={str(ids[-1]): -100})["choices"][0]["text"] != first["text"]
    forced = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 5, "logit_bias": {str(ids[-1]): 100}})
    assert forced["choices"][0]["text"] == first["text"] * 5
    for bad in ({"99999": 1}, {"x": 1}, {"5": 101}, {"5": "1"}, "x"):
        error = server.ask("/v1/completions", {"prompt": "Hi", "logit_bias": bad}, status=400)["error"]
        assert error["param"] == "logit_bias"


def test_several_answers(server):
    """n answers have the indexes 0 to n-1, differ, share one prompt, and are counted once in it."""
    body = user("A story", n=3, temperature=1, seed=5)
    got = server.ask("/v1/chat/completions", body)
    texts = [c["message"]["content"] for c in got["choices"]]
    assert [c["index"] for c in got["choices"]] == [0, 1, 2] and len(set(texts)) == 3
    one = server.ask("/v1/chat/completions", {**body, "n": 1})
    assert one["choices"][0]["message"]["content"] == texts[0]
    assert got["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"] and got["usage"]["completion_tokens"] == 36
    streamed = ["", "", ""]
    for c in server.stream("/v1/chat/completions", body):
        streamed[c["choices"][0]["index"]] += c["choices"][0]["delta"].get("content") or ""
    assert streamed == texts
    for bad in (0, 9, 1.5, "2"):
        assert server.ask("/v1/chat/completions", {**body, "n": bad}, status=400)["error"]["param"] == "n"


def test_unknown_fields_are_left_alone(server):
    """Clients send fields that mean nothing here."""
    extra = dict(store=False, metadata={"a": "b"}, service_tier="auto", prediction=None, parallel_tool_calls=True,
                 reasoning_effort="low", verbosity="low", safety_identifier="x", prompt_cache_key="k", user="me", mirostat=2)
    server.ask("/v1/chat/completions", user("Hi", **extra))


def test_the_context_that_is_told_is_a_session_s(server):
    """n_ctx is what a session has, not what the model could have."""
    small = Server(STORY, "--ctx", "100", "--parallel", "3")
    try:
        row = small.ask("/v1/models")["data"][0]
        assert row["n_ctx"] == 100 and row["n_ctx_train"] > 100 and small.ask("/props")["total_slots"] == 3
        assert small.ask("/props")["default_generation_settings"]["n_ctx"] == 100
        assert small.ask("/v1/completions", {"prompt": [5] * 100}, status=400)["error"]["n_ctx"] == 100
    finally:
        assert small.stop() == 0


# ---- HTTP -----------------------------------------------------------------------------------------------------------


def talk(server, data, timeout=20):
    """What comes back until the server closes or falls silent."""
    s = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
    s.sendall(data)
    s.settimeout(1.5)
    got = b""
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
    except socket.timeout:
        pass
    s.close()
    return got


def test_paths_are_taken_generously(server):
    """A slash at the end, /v1 twice or not at all, a query: the same route. HEAD is GET without a body."""
    for path in ("/v1/models", "/v1/models/", "/models", "/v1/v1/models", "/v1/models?x=1", "/models/"):
        assert server.raw("GET", path)[0].status == 200, path
    for path in ("/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completions/"):
        server.ask(path, user("Hi", max_tokens=1))
    r, data = server.raw("HEAD", "/health")
    assert r.status == 200 and data == b"" and r.getheader("Content-Length") == "16"
    assert server.ask("/models/stories260K")["id"] == "stories260K"


def test_unknown_paths_and_methods(server):
    assert server.ask("/v1/nothing", status=404)["error"]["code"] == "unknown_url"
    r, data = server.raw("GET", "/v1/chat/completions")
    assert r.status == 405 and r.getheader("Allow") == "POST" and json.loads(data)["error"]["code"] == "method_not_allowed"
    assert server.raw("PUT", "/v1/models")[0].status == 405
    assert server.raw("BREW", "/v1/models")[0].status in (405, 501)


def test_bodies_in_chunks_and_on_demand(server):
    """A chunked body, Expect: 100-continue, and two requests on one connection, the second sent early."""
    body = json.dumps(user("Hi", max_tokens=2)).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:7], body[7:30], body[30:])) + b"0\r\n\r\n"
    assert b" 200 OK" in talk(server, head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
    expect = talk(server, head + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert expect.startswith(b"HTTP/1.1 100 ") and b" 200 OK" in expect
    two = (head + b"Content-Length: %d\r\n\r\n" % len(body) + body) * 2 + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert talk(server, two).count(b"HTTP/1.1 200 OK") == 3


def test_content_types(server):
    """JSON with a charset is JSON; what a web page may send without asking is not."""
    body = json.dumps(user("Hi", max_tokens=1))
    for kind, status in (("application/json; charset=utf-8", 200), ("Application/JSON", 200), ("text/plain", 415),
                         ("application/x-www-form-urlencoded", 415), ("application/jsonx", 415), ("", 415)):
        r, data = server.raw("POST", "/v1/chat/completions", body, {"Content-Type": kind})
        assert r.status == status, kind
        assert status == 200 or json.loads(data)["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b'"x"', b"{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud83d\"}]}",
    b"{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u0000b\"}]}",
    b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}", b"[" * 300 + b"]" * 300,
    b"{\"a\":" * 300 + b"1" + b"}" * 300, b"{\"messages\": 1}", b"{\"messages\": []}", b"{\"messages\": [1]}", b"{}",
    b"{\"messages\": [{\"role\": \"user\"}]}", b"{\"messages\": [{\"content\": \"x\"}]}", b"{\"max_tokens\": 1e999}",
    b"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]}",
    b"{\"messages\": [{\"role\": \"user\", \"content\": {}}]}"])
def test_malformed_bodies(server, body):
    """Lone surrogates, zeros, bytes that are no UTF-8, deep nesting, wrong types: 400 with all four keys, never a crash."""
    r, data = server.raw("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    error = json.loads(data)["error"]
    assert r.status == 400 and set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and error["message"] and isinstance(error["code"], str)


@pytest.mark.parametrize("field, value", [
    ("temperature", -1), ("temperature", "1"), ("temperature", 1e9), ("top_p", 2), ("max_tokens", -5), ("max_tokens", 1.5),
    ("max_tokens", "5"), ("stop", 5), ("stop", [1]), ("stop", ["x"] * 17), ("n", 0), ("seed", 1.5), ("stream", 1),
    ("stream_options", []), ("logprobs", 3), ("top_k", 0.5), ("presence_penalty", 3), ("tools", {}), ("tool_choice", 5),
    ("truncation", "x"), ("model", 5), ("reasoning_effort", "huge"), ("response_format", "text")])
def test_wrong_values_are_named(server, field, value):
    error = server.ask("/v1/chat/completions", user("Hi", **{field: value}), status=400)["error"]
    assert (error["param"] or "").startswith(field) and error["type"] == "invalid_request_error"


def test_large_bodies(server):
    """Past the limit: 413 that says the limit, announced or not."""
    small = Server(STORY, "--max-body", "1")
    try:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for rest in (b"Content-Length: 3000000\r\n\r\n", b"Expect: 100-continue\r\nContent-Length: 3000000\r\n\r\n",
                     b"Transfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b" " * 0x100000 + b"\r\n10\r\n" + b" " * 16 + b"\r\n0\r\n\r\n"):
            got = talk(small, head + rest)
            assert got.startswith(b"HTTP/1.1 413 ") and b"1048576 bytes" in got and b"100 Continue" not in got
        assert small.ask("/health")["status"] == "ok"
    finally:
        assert small.stop() == 0


def test_model_names(server):
    """One model answers to any name and tells its own; --strict-model and several models know only theirs."""
    assert server.ask("/v1/chat/completions", user("Hi", model="gpt-3.5-turbo", max_tokens=1))["model"] == "stories260K"
    two = Server(STORY, STORY, "--alias", "one", "--alias", "two")
    try:
        assert [m["id"] for m in two.ask("/v1/models")["data"]] == ["one", "two"]
        assert two.ask("/v1/chat/completions", user("Hi", model="two", max_tokens=1))["model"] == "two"
        error = two.ask("/v1/chat/completions", user("Hi", model="three"), status=404)["error"]
        assert error["code"] == "model_not_found" and "one, two" in error["message"] and error["param"] == "model"
    finally:
        assert two.stop() == 0
    strict = Server(STORY, "--strict-model")
    try:
        strict.ask("/v1/chat/completions", user("Hi", model="other"), status=404)
        strict.ask("/v1/chat/completions", user("Hi", model="stories260K"))
    finally:
        assert strict.stop() == 0


# ---- Who may ask ----------------------------------------------------------------------------------------------------


def test_hosts(server):
    """A name that was made to point here is refused; our own are not."""
    for host, ok in (("localhost", 1), ("localhost:99", 1), ("127.0.0.1", 1), ("[::1]:80", 1), ("app.localhost", 1),
                     ("evil.example", 0), ("localhost.evil.example", 0), ("127.0.0.1.evil.example:80", 0), ("192.168.0.7", 0)):
        r, data = server.raw("GET", "/v1/models", headers={"Host": host})
        assert r.status == (200 if ok else 403), host
        assert ok or json.loads(data)["error"]["code"] == "host_not_allowed"


def test_origins(server):
    """Our own page may ask, others may not, nothing is reflected."""
    own = "http://127.0.0.1:%d" % server.port
    assert server.raw("GET", "/v1/models", headers={"Origin": own})[0].status == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", own + ".evil.example", own.replace("http", "https")):
        r, data = server.raw("GET", "/v1/models", headers={"Origin": origin})
        assert r.status == 403 and json.loads(data)["error"]["code"] == "origin_not_allowed"
        assert not r.getheader("Access-Control-Allow-Origin")


KEY = "sk-of-the-test"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("first-key\n\n%s" % KEY)
    s = Server(STORY, "--api-key-file", str(keys), "--cors-origins", "https://page.example")
    yield s
    assert s.stop() == 0


def test_preflight_needs_no_key(guarded):
    """OPTIONS is answered without a key, for pages that may ask; an error reaches them, too."""
    origin = {"Origin": "https://page.example"}
    r, data = guarded.raw("OPTIONS", "/v1/chat/completions", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert r.status == 204 and data == b"" and r.getheader("Access-Control-Allow-Origin") == "https://page.example"
    assert "POST" in r.getheader("Access-Control-Allow-Methods") and "Authorization" in r.getheader("Access-Control-Allow-Headers")
    assert r.getheader("Access-Control-Allow-Credentials") is None
    asked = {**origin, "Access-Control-Request-Headers": "authorization,x-stainless-lang"}
    r, _ = guarded.raw("OPTIONS", "/v1/chat/completions", headers=asked)
    assert r.getheader("Access-Control-Allow-Headers") == "authorization,x-stainless-lang"
    r, _ = guarded.raw("OPTIONS", "/v1/chat/completions", headers={**asked, "Access-Control-Request-Headers": "a\"b"})
    assert "Authorization" in r.getheader("Access-Control-Allow-Headers")
    r, _ = guarded.raw("GET", "/v1/models", headers=origin)
    assert r.status == 401 and r.getheader("Access-Control-Allow-Origin") == "https://page.example"
    assert guarded.raw("OPTIONS", "/v1/models", headers={"Origin": "https://evil.example"})[0].status == 403


def test_the_key_guards_every_route(guarded, source_root):
    """Every row of the route table wants the key, but for those that say that anyone may ask."""
    table = (source_root / "src" / "serve" / "routes.c").read_text()
    rows = re.findall(r'\{"(GET|POST|DELETE)", "([^"]+)", [^}]*?\}', table)
    flags = re.findall(r'\{"(?:GET|POST|DELETE)", "[^"]+", ([^}]*?)\}', table)
    assert len(rows) == len(flags) >= 14
    open_routes = []
    for (method, path), flag in zip(rows, flags):
        if "SERVE_ANYONE" in flag:
            open_routes.append(path)
            continue
        for p in {path, path.replace("/v1", "", 1) or "/"}:
            p = p + "x" if p.endswith("/") else p
            r, data = guarded.raw(method, p, b"{}" if method == "POST" else None, {"Content-Type": "application/json"})
            assert r.status == 401, p
            assert r.getheader("WWW-Authenticate") == "Bearer" and b"a key is needed" in data  # each protocol in its form
    assert "/health" in open_routes and len(open_routes) <= 4


def test_keys(guarded):
    for headers in ({"Authorization": "Bearer " + KEY}, {"Authorization": "bearer  first-key"}, {"X-Api-Key": KEY}):
        assert guarded.raw("GET", "/v1/models", headers=headers)[0].status == 200
    for headers in ({}, {"Authorization": "Bearer " + KEY + "x"}, {"Authorization": KEY}, {"X-Api-Key": ""},
                    {"Authorization": "Bearer " + KEY[:-1]}, {"X-Api-Key": KEY.upper()}):
        assert guarded.raw("GET", "/v1/models", headers=headers)[0].status == 401
    assert guarded.raw("GET", "/health")[0].status == 200


def test_beyond_this_machine_only_with_a_key(rotor):
    result = rotor("serve", STORY, "--host", "0.0.0.0", "--port", "0", status=2)
    assert "--api-key" in result.stderr and "--insecure" in result.stderr
    s = Server(STORY, "--host", "0.0.0.0", "--insecure")
    try:
        assert s.raw("GET", "/health", headers={"Host": "192.168.0.7:80"})[0].status == 200
        assert s.raw("GET", "/health", headers={"Host": "evil.example"})[0].status == 403
    finally:
        assert s.stop() == 0


# ---- Time -----------------------------------------------------------------------------------------------------------


def slots_busy(server):
    return sum(s["is_processing"] for s in server.ask("/slots"))


@pytest.mark.threads
def test_a_client_that_leaves_stops_its_answer(server):
    """A closed connection ends the work within a step, streamed or not."""
    for stream in (True, False):
        c = server.connect()
        c.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 100000, "ignore_eos": True, "n": 4,
                  "stream": stream, "logit_bias": {}}), {"Content-Type": "application/json"})
        if stream:
            c.getresponse().readline()
        c.close()
        end = time.time() + 5
        while slots_busy(server) and time.time() < end:
            time.sleep(0.005)
        assert slots_busy(server) == 0


@pytest.mark.threads
def test_many_at_once(server):
    """Clients of every kind at the same time, some of whom leave: whoever stays gets the text that the seed means."""
    body = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 1, "ignore_eos": True}
    want = [server.ask("/v1/completions", {**body, "seed": i})["choices"][0]["text"] for i in range(4)]
    wrong = []

    def client(k):
        for i in range(4):
            if (k + i) % 5 == 0:
                c = server.connect()
                c.request("POST", "/v1/completions", json.dumps({**body, "max_tokens": 10000, "stream": bool(k % 2)}),
                          {"Content-Type": "application/json"})
                time.sleep(0.01 * i)
                c.close()
            elif (k + i) % 5 == 1:
                server.ask("/tokenize", {"content": "word " * 50})
                server.raw("GET", "/metrics")
                server.ask("/slots")
            elif (k + i) % 2:
                events = server.stream("/v1/completions", {**body, "seed": i})
                if "".join(e["choices"][0]["text"] for e in events) != want[i]:
                    wrong.append((k, i))
            elif server.ask("/v1/completions", {**body, "seed": i})["choices"][0]["text"] != want[i]:
                wrong.append((k, i))

    threads = [threading.Thread(target=client, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert server.ask("/health")["status"] == "ok"


def test_one_who_does_not_read_does_not_hold_up_the_rest():
    """A client that leaves its stream unread is let go of; the others do not notice."""
    s = Server(STORY, "--parallel", "2")
    try:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect(("127.0.0.1", s.port))
        body = json.dumps({"prompt": ["Once"] * 1000, "max_tokens": 60, "stream": True, "ignore_eos": True, "logprobs": 20}).encode()
        deaf.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.3)
        start = time.time()
        s.ask("/v1/completions", {"prompt": "Once", "max_tokens": 20})
        while slots_busy(s) and time.time() < start + 20:
            time.sleep(0.05)
        assert slots_busy(s) == 0  # its bytes have passed the limit, and it was cancelled
        deaf.close()
        assert re.search(r"rotor_requests_cancelled_total [1-9]", s.raw("GET", "/metrics")[1].decode())
    finally:
        assert s.stop() == 0


def test_a_large_request_leaves_places_to_others(server):
    """A request for hundreds of answers does not make the next one wait for all of them."""
    many = threading.Thread(target=server.ask, args=("/v1/completions", {"prompt": ["Once"] * 300, "max_tokens": 40, "ignore_eos": True}))
    start = time.time()
    many.start()
    while slots_busy(server) < 4 and many.is_alive():
        time.sleep(0.002)
    server.ask("/v1/completions", {"prompt": "Tom", "max_tokens": 5})
    took = time.time() - start
    many.join()
    assert took < (time.time() - start) / 3


def test_a_full_queue_says_when_to_come_back():
    """429 with Retry-After, and nobody who waits is lost."""
    s = Server(STORY, "--parallel", "1", "--max-queue", "1", "--ctx", "512")
    try:
        held = []
        statuses = []
        for _ in range(6):
            c = s.connect()
            c.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 450, "ignore_eos": True}),
                      {"Content-Type": "application/json"})
            held.append(c)
        for c in held:
            r = c.getresponse()
            body = json.loads(r.read())
            statuses.append(r.status)
            if r.status == 429:
                assert int(r.getheader("Retry-After")) >= 1 and body["error"]["code"] == "queue_full"
                assert body["error"]["type"] == "rate_limit_error"
            c.close()
        assert set(statuses) == {200, 429} and statuses.count(200) >= 2
        assert s.ask("/v1/completions", {"prompt": "Once", "max_tokens": 1})
    finally:
        assert s.stop() == 0


def test_progress_of_a_prompt(server):
    """return_progress tells how much of the prompt is done, and how much was known."""
    body = {"messages": [{"role": "user", "content": "word " * 80}], "max_tokens": 1, "return_progress": True, "cache_prompt": False}
    chunks = server.stream("/v1/chat/completions", body)
    seen = [c["prompt_progress"] for c in chunks if "prompt_progress" in c]
    assert seen and seen[-1]["processed"] == seen[-1]["total"] > 80
    assert not any("prompt_progress" in c for c in server.stream("/v1/chat/completions", {**body, "return_progress": False}))


def test_silence_is_broken():
    """A stream that waits in the queue, and one whose prompt takes long, get comments, which clients skip."""
    s = Server(STORY, "--parallel", "1", "--ping-ms", "2", "--chunk", "1", "--ctx", "4096")
    try:
        begin = time.time()
        first = s.connect()
        first.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 2500, "ignore_eos": True}),
                      {"Content-Type": "application/json"})
        while slots_busy(s) == 0 and time.time() < begin + 5:
            time.sleep(0.002)
        r, data = s.raw("POST", "/v1/completions", json.dumps({"prompt": "Tom", "max_tokens": 1, "stream": True}), {"Content-Type": "application/json"})
        assert b"\n\n: waiting, position 1\n\n" in b"\n\n" + data and data.endswith(b"data: [DONE]\n\n")
        first.getresponse().read()
        first.close()
        r, data = s.raw("POST", "/v1/completions", json.dumps({"prompt": [5] * 400, "max_tokens": 1, "stream": True}), {"Content-Type": "application/json"})
        assert b": working\n\n" in data and data.endswith(b"data: [DONE]\n\n")
    finally:
        assert s.stop() == 0


@pytest.mark.threads
def test_leaving_in_the_middle_of_a_prompt():
    """A disconnect ends a prompt that is being evaluated, long before its end."""
    s = Server(STORY, "--parallel", "1", "--chunk", "1", "--ctx", "512")

    def leave(prompt, stream):
        """Tokens that were evaluated when the client left at the first sign of work."""
        c = s.connect()
        c.request("POST", "/v1/completions", json.dumps({"prompt": prompt, "max_tokens": 1, "stream": stream, "cache_prompt": False}),
                  {"Content-Type": "application/json"})
        end = time.time() + 2
        while slots_busy(s) == 0 and time.time() < end:
            pass
        c.close()
        while slots_busy(s):
            time.sleep(0.001)
        return max(row["n_tokens"] for row in s.ask("/slots"))

    try:
        for stream in (False, True):
            assert min(leave([7 + i + stream] * 480, stream) for i in range(5)) < 400
    finally:
        assert s.stop() == 0


def test_a_stream_is_ended_properly():
    """At the end of the server a stream gets an error event, not a broken connection, and the exit status is 0."""
    s = Server("embedded", "--parallel", "1", "--ctx", "512")
    c = s.connect()
    c.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 100000, "ignore_eos": True, "n": 8, "stream": True}),
              {"Content-Type": "application/json"})
    r = c.getresponse()
    assert r.readline().startswith(b"data: ")
    s.process.send_signal(signal.SIGTERM)
    s.process.send_signal(signal.SIGINT)  # the second one: do not wait
    rest = r.read().decode()
    events = [line[6:] for line in rest.split("\n") if line.startswith("data: ")]
    assert events and (events[-1] == "[DONE]" or json.loads(events[-1])["error"]["code"] == "shutting_down")
    assert s.process.wait(timeout=5) == 0
    s.stop()


# ---- Answers in parts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A server of two models that speak Harmony: one thinks and answers, one says something and calls a function,
    one thinks and calls."""
    folder = tmp_path_factory.mktemp("parts")
    thinker = write_chain(folder / "thinker.gguf",
                          ["<|channel|>", "analysis", "<|message|>", "Two and two.", "<|end|>", "<|start|>", "assistant",
                           "<|channel|>", "final", "<|message|>", "**Four**.", "<|return|>"], thought="Two and two.")
    caller = write_chain(folder / "caller.gguf",
                         [" to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{"a":  ', "1}", "<|call|>"])
    planner = write_chain(folder / "planner.gguf",
                          ["<|channel|>", "analysis", "<|message|>", "Secret plan.", "<|end|>", "<|start|>", "assistant",
                           " to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{"a":  1}', "<|call|>"],
                          thought="Secret plan.")
    s = Server(str(thinker), str(caller), str(planner))
    yield s
    assert s.stop() == 0


TOOLS = [{"type": "function", "function": {"name": "get_it", "description": "Gets it.", "parameters": {}}},
         {"type": "code_interpreter"}, {"type": "function", "function": {"name": "other"}}]


def test_thoughts_are_kept_apart(parts):
    """What is thought goes to reasoning_content, whole and in streams, and never into the content; it is counted."""
    ask = {**user("What is 2 + 2?", max_tokens=40), "model": "thinker"}
    got = parts.ask("/v1/chat/completions", ask)
    message = got["choices"][0]["message"]
    assert message["content"] == "**Four**." and message["reasoning_content"] == "Two and two."
    assert "tool_calls" not in message and got["choices"][0]["finish_reason"] == "stop"
    assert 0 < got["usage"]["completion_tokens_details"]["reasoning_tokens"] < got["usage"]["completion_tokens"]
    deltas = [c["choices"][0]["delta"] for c in parts.stream("/v1/chat/completions", ask)]
    assert "".join(d.get("content") or "" for d in deltas) == "**Four**."
    assert "".join(d.get("reasoning_content") or "" for d in deltas) == "Two and two."
    assert all(not ("content" in d and "reasoning_content" in d) for d in deltas)
    probable = parts.ask("/v1/chat/completions", {**ask, "logprobs": True})["choices"][0]["logprobs"]["content"]
    assert "".join(t["token"] for t in probable) == "**Four**."


def test_calls_have_an_index_in_every_piece(parts):
    """Streamed calls: index always, id, type and name once, arguments in pieces; content is null when only called."""
    ask = {**user("Get it", max_tokens=40, tools=TOOLS), "model": "caller"}
    got = parts.ask("/v1/chat/completions", ask)["choices"][0]
    assert got["finish_reason"] == "tool_calls" and got["message"]["content"] is None and got["message"]["refusal"] is None
    (call,) = got["message"]["tool_calls"]
    assert re.match(r"call_\w{20,}$", call["id"]) and call["type"] == "function"
    assert call["function"] == {"name": "get_it", "arguments": '{"a":  1}'}
    chunks = parts.stream("/v1/chat/completions", ask)
    pieces = [c["choices"][0]["delta"]["tool_calls"] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert all(len(p) == 1 and p[0]["index"] == 0 for p in pieces) and len(pieces) >= 3
    assert [("id" in p[0], "type" in p[0], "name" in p[0]["function"]) for p in pieces] == [(True,) * 3] + [(False,) * 3] * (len(pieces) - 1)
    assert "".join(p[0]["function"]["arguments"] for p in pieces) == '{"a":  1}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_that_comes_back_is_the_tokens_it_was(parts):
    """A call that a client sends back, and its result, continue the session where it was: only what is new is evaluated."""
    first = {**user("Get it", max_tokens=40, tools=TOOLS), "model": "caller"}
    got = parts.ask("/v1/chat/completions", first)
    message = got["choices"][0]["message"]
    then = {**first, "messages": first["messages"] + [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}]}
    usage = parts.ask("/v1/chat/completions", then)["usage"]
    whole = got["usage"]["prompt_tokens"] + got["usage"]["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= whole - 1
    message["tool_calls"][0]["function"]["arguments"] = '{"a":1}'  # the same value, as clients may write it
    usage = parts.ask("/v1/chat/completions", then)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= whole - 1
    message["tool_calls"][0]["function"]["arguments"] = '{"a": 2}'  # another value is another answer
    usage = parts.ask("/v1/chat/completions", then)["usage"]
    assert got["usage"]["prompt_tokens"] - 1 <= usage["prompt_tokens_details"]["cached_tokens"] < whole - 1


def test_a_thought_enters_no_other_conversation(parts):
    """What was thought before a call goes on with its own conversation, and into none that only has the same call."""
    def after_the_call(text, message, **more):
        body = {**user(text, tools=TOOLS), "model": "planner", **more}
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}
        body["messages"] = body["messages"] + [message, result]
        return parts.ask("/apply-template", body)["prompt"]
    got = parts.ask("/v1/chat/completions", {**user("Mine", max_tokens=40, tools=TOOLS), "model": "planner"})
    message = got["choices"][0]["message"]
    assert message.pop("reasoning_content") == "Secret plan."
    assert "Secret plan." in after_the_call("Mine", message)
    assert "Secret plan." not in after_the_call("Another's", message)
    assert "Secret plan." not in after_the_call("Mine", message, tools=TOOLS[:1])
    assert "Secret plan." in after_the_call("Mine", message)


def test_a_thought_is_left_out_of_later_prompts(parts):
    """Old analysis does not stay in the history, whether the client sends it back or not."""
    ask = {**user("What is 2 + 2?", max_tokens=40), "model": "thinker"}
    message = parts.ask("/v1/chat/completions", ask)["choices"][0]["message"]
    sent = ask["messages"] + [message, {"role": "user", "content": "Sure?"}]
    without = [m if "reasoning_content" not in m else {"role": "assistant", "content": m["content"]} for m in sent]
    prompts = [parts.ask("/apply-template", {"model": "thinker", "messages": m})["prompt"] for m in (sent, without)]
    assert prompts[0] == prompts[1] and "Two and two" not in prompts[0] and "**Four**." in prompts[0]


def test_effort(parts):
    for more, word in (({}, "medium"), ({"reasoning_effort": "high"}, "high"), ({"chat_template_kwargs": {"reasoning_effort": "low"}}, "low")):
        got = parts.ask("/apply-template", {"model": "thinker", **user("Hi", **more)})
        assert "Reasoning: %s\n" % word in got["prompt"]


# ---- The rest of the routes -----------------------------------------------------------------------------------------


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


def test_cached_tokens_are_told(server):
    body = {"prompt": "A sentence that nobody has sent before, %f" % time.time(), "max_tokens": 1, "temperature": 0}
    first, again = server.ask("/v1/completions", body), server.ask("/v1/completions", body)
    n = first["usage"]["prompt_tokens"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == again["timings"]["cache_n"] == n - 1
    assert again["timings"]["prompt_n"] == 1 and again["choices"] == first["choices"]
    fresh = server.ask("/v1/completions", {**body, "cache_prompt": False})
    assert fresh["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


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
        return int(re.search(rb"^rotor_requests_running (\d+)", server.raw("GET", "/metrics")[1], re.M).group(1))
    text = json.dumps({"prompt": ["Once upon a time " * 40] * 1000, "echo": True, "logprobs": 0, "max_tokens": 0}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
        s.sendall((head % len(text)).encode() + text)
        while not running():
            time.sleep(0.01)
        complete(server)
        assert running()
    end = time.time() + 10
    while running():
        assert time.time() < end
        time.sleep(0.01)


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


def test_embeddings(rotor):
    """Texts and ids, one or many, as floats or base64, of length one, cut to the dimensions asked for."""
    import base64
    import struct
    s = Server(STORY, "--embed")
    try:
        want = [json.loads(x)["embedding"] for x in rotor("embed", STORY, "One", "Two words").stdout.splitlines()]
        got = s.ask("/v1/embeddings", {"input": ["One", "Two words"], "model": "x"})
        assert got["object"] == "list" and [d["index"] for d in got["data"]] == [0, 1]
        for d, w in zip(got["data"], want):
            assert d["embedding"] == pytest.approx(w, abs=1e-6) and sum(x * x for x in d["embedding"]) == pytest.approx(1, abs=1e-4)
        packed = s.ask("/v1/embeddings", {"input": "One", "encoding_format": "base64"})["data"][0]["embedding"]
        assert list(struct.unpack("<64f", base64.b64decode(packed))) == pytest.approx(want[0], abs=1e-6)
        short = s.ask("/v1/embeddings", {"input": "One", "dimensions": 16})["data"][0]["embedding"]
        assert len(short) == 16 and sum(x * x for x in short) == pytest.approx(1, abs=1e-4)
        ids = s.ask("/tokenize", {"content": "One", "add_special": True})["tokens"]
        both = s.ask("/v1/embeddings", {"input": [ids, ids]})
        assert len(both["data"]) == 2 and both["usage"]["prompt_tokens"] == 2 * len(ids)
        many = s.ask("/v1/embeddings", {"input": ["One"] * 100})["data"]
        assert len(many) == 100 and many[99]["embedding"] == pytest.approx(want[0], abs=1e-6)
        for bad in ({}, {"input": []}, {"input": ""}, {"input": [1, "x"]}, {"input": {}}, {"input": "x", "dimensions": 65},
                    {"input": "x", "encoding_format": "int8"}, {"input": [99999]}):
            s.ask("/v1/embeddings", bad, status=400)
        assert s.ask("/v1/embeddings", {"input": "word " * 3000}, status=400)["error"]["code"] == "context_length_exceeded"
        s.ask("/v1/completions", {"prompt": "Once", "max_tokens": 2})
    finally:
        assert s.stop() == 0


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


def test_a_line_that_changes_every_time_is_left_out(server):
    """An agent's system text that opens with a billing line of its own per request is known the second time."""
    def ask(cch):
        return server.ask("/v1/chat/completions", {"messages": [
            {"role": "system", "content": "x-anthropic-billing-header: cc_version=1; cch=%s;\nYou are a helpful dog number 17." % cch},
            {"role": "user", "content": "Hi"}], "max_tokens": 1})["usage"]
    first, again = ask("aaa"), ask("bbb")
    assert again["prompt_tokens_details"]["cached_tokens"] == first["prompt_tokens"] - 1


def test_loading_is_told(tmp_path):
    """A model that cannot be opened ends the program with one clear line."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\0" * 40)
    result = subprocess.run([os.environ["ROTOR_BINARY"], "serve", str(bad), "--port", "0"], capture_output=True, text=True, timeout=20)
    assert result.returncode == 1 and "bad.gguf" in result.stderr.splitlines()[-1]
