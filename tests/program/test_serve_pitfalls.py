# SPDX-License-Identifier: MIT
"""Forty mistakes of servers that programs in use have met, each by its number in one test; the first line of a test says
what goes wrong elsewhere."""
import base64
import json
import re
import select
import socket
import struct
import time

import pytest

from serve_rig import ENDLESS, KEY, STORY, TOOLS, Server, complete, events, slots_busy, talk, user, wait_until

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
JSON = {"Content-Type": "application/json"}
LONG = 12000  # tokens of a prompt that takes seconds


def test_every_pitfall_has_its_test():
    """One for each number, with a line that says what it is about."""
    tests = {name: f for name, f in globals().items() if name.startswith("test_pitfall_")}
    assert sorted(int(re.match(r"test_pitfall_(\d\d)_[a-z]", name).group(1)) for name in tests) == list(range(1, 41))
    assert all(f.__doc__ and "\n" not in f.__doc__ for f in tests.values())


def test_pitfall_01_calls_of_a_stream_have_indexes(parts):
    """Pieces of several calls that carry no index are put together as one call."""
    ask = {**user("Get it", max_tokens=40, tools=TOOLS), "model": "caller"}
    got = parts.ask(CHAT, ask)["choices"][0]
    assert got["finish_reason"] == "tool_calls" and got["message"]["content"] is None and got["message"]["refusal"] is None
    (call,) = got["message"]["tool_calls"]
    assert re.match(r"call_\w{20,}$", call["id"]) and call["type"] == "function"
    assert call["function"] == {"name": "get_it", "arguments": '{ "a": 1}'}
    chunks = parts.stream(CHAT, ask)
    pieces = [c["choices"][0]["delta"]["tool_calls"] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert all(len(p) == 1 and p[0]["index"] == 0 for p in pieces) and len(pieces) >= 3
    assert [("id" in p[0], "type" in p[0], "name" in p[0]["function"]) for p in pieces] == [(True,) * 3] + [(False,) * 3] * (len(pieces) - 1)
    assert "".join(p[0]["function"]["arguments"] for p in pieces) == '{ "a": 1}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    two = {**ask, "model": "two_calls"}
    want = [("get_it", '{"a": 1}'), ("other", "{}")]
    whole = parts.ask(CHAT, two)["choices"][0]["message"]["tool_calls"]
    assert [(c["function"]["name"], c["function"]["arguments"]) for c in whole] == want
    pieces = [d["tool_calls"] for d in (c["choices"][0]["delta"] for c in parts.stream(CHAT, two)) if "tool_calls" in d]
    streamed = [{}, {}]
    for (piece,) in pieces:
        for key, value in {**piece, **piece["function"]}.items():
            streamed[piece["index"]][key] = streamed[piece["index"]].get(key, "") + value if key == "arguments" else value
    assert [(c["name"], c["arguments"]) for c in streamed] == want and streamed[0]["id"] != streamed[1]["id"]


def test_pitfall_02_both_names_of_the_token_limit(server):
    """A limit under its newer name goes unread, and the answer runs to the end of the context."""
    for limits, n in (({"max_completion_tokens": 5}, 5), ({"max_tokens": 4}, 4),
                      ({"max_tokens": 9, "max_completion_tokens": 3}, 3), ({"max_tokens": 2, "max_completion_tokens": 7}, 2)):
        got = server.ask(CHAT, {"messages": [{"role": "user", "content": "Hi"}], **limits})
        assert got["usage"]["completion_tokens"] == n and got["choices"][0]["finish_reason"] == "length"


def test_pitfall_03_null_is_absent(server):
    """Clients write null for what they do not set, and are refused."""
    fields = ["stop", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "response_format", "logit_bias", "user",
              "temperature", "top_p", "n", "stream", "stream_options", "seed", "logprobs", "top_logprobs", "presence_penalty",
              "frequency_penalty", "reasoning_effort", "parallel_tool_calls", "top_k", "min_p", "truncation", "model"]
    body = dict.fromkeys(fields)
    body.update(messages=[{"role": "user", "content": "Hi", "name": None}], max_tokens=4)
    assert server.ask(CHAT, body)["usage"]["completion_tokens"] <= 4


def test_pitfall_04_prompts_of_every_form(server):
    """Only one text is taken as a prompt: not a list of texts, not ids, not lists of ids."""
    ids = server.ask("/tokenize", {"content": "Once upon a time", "add_special": True})["tokens"]
    text = complete(server)["choices"][0]["text"]
    for prompt, n in (("Once upon a time", 1), (ids, 1), (["Once upon a time"] * 2, 2), ([ids, ids], 2),
                      (["Once upon a time", ids], 2)):
        got = complete(server, prompt=prompt)
        assert [c["text"] for c in got["choices"]] == [text] * n and [c["index"] for c in got["choices"]] == list(range(n))
        assert got["usage"]["prompt_tokens"] == n * len(ids)


def test_pitfall_05_tools_without_parameters(parts):
    """A tool without parameters, or with none in their list, is refused or breaks the template."""
    for fields in ({}, {"parameters": None}, {"parameters": {}}, {"parameters": {"type": "object"}},
                   {"parameters": {"type": "object", "properties": {}}}, {"description": None, "strict": True}):
        ask = {**user("Get it", max_tokens=40, tools=[{"type": "function", "function": {"name": "get_it", **fields}}]), "model": "caller"}
        assert "type get_it = (" in parts.ask("/apply-template", ask)["prompt"]
        (call,) = parts.ask(CHAT, ask)["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "get_it"


def test_pitfall_06_a_message_has_all_its_keys(server, parts):
    """Strict clients miss message.refusal, and content must be null where an answer only calls functions."""
    choice = server.ask(CHAT, user("Hi"))["choices"][0]
    assert set(choice) == {"index", "message", "finish_reason", "logprobs"}
    assert {**choice["message"], "content": 0} == {"role": "assistant", "content": 0, "refusal": None}
    assert isinstance(choice["message"]["content"], str)
    called = parts.ask(CHAT, {**user("Get it", max_tokens=40, tools=TOOLS), "model": "caller"})["choices"][0]["message"]
    assert {**called, "tool_calls": 0} == {"role": "assistant", "content": None, "refusal": None, "tool_calls": 0}


def test_pitfall_07_a_choice_has_its_logprobs(server):
    """Typed clients miss logprobs in a choice that has none, and the four keys of a token in one that has."""
    body = user("A story", logprobs=True, top_logprobs=3, max_tokens=20)
    whole = server.ask(CHAT, body)["choices"][0]
    items = whole["logprobs"]["content"]
    assert "".join(i["token"] for i in items) == whole["message"]["content"] and len(items) == 20
    for i in items:
        assert set(i) == {"token", "logprob", "bytes", "top_logprobs"} and bytes(i["bytes"]).decode() == i["token"]
        assert len(i["top_logprobs"]) == 3 and i["logprob"] <= 0
        assert i["top_logprobs"][0]["logprob"] == pytest.approx(i["logprob"], abs=1e-5)  # temperature 0
        assert set(i["top_logprobs"][0]) == {"token", "logprob", "bytes"}
    chunks = server.stream(CHAT, body)
    streamed = [i for c in chunks for i in ((c["choices"][0]["logprobs"] or {}).get("content") or [])]
    assert streamed == items
    server.ask(CHAT, user("Hi", top_logprobs=3), status=400)
    server.ask(CHAT, user("Hi", logprobs=True, top_logprobs=21), status=400)
    for path, plain in ((CHAT, user("Hi")), (TEXT, {"prompt": "Hi", "max_tokens": 2})):
        assert server.ask(path, plain)["choices"][0]["logprobs"] is None
        assert all(c["choices"][0]["logprobs"] is None for c in server.stream(path, plain))


def test_pitfall_08_usage_in_a_stream(server):
    """The chunk with the usage does not come, comes unasked, or brings a choice that counts as one more answer."""
    chunks = server.stream(CHAT, user("Hi", stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == [] and all(c["usage"] is None for c in chunks[:-1])
    u = chunks[-1]["usage"]
    assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] and u["completion_tokens"] == 12
    for c in server.stream(CHAT, user("Hi")):
        assert "usage" not in c and len(c["choices"]) == 1


def test_pitfall_09_why_an_answer_ended(server, parts):
    """An answer that was cut says stop, above all at a full context, and its client takes it for whole."""
    text = complete(server, max_tokens=40)["choices"][0]["text"]
    word = text.split()[5]
    got = complete(server, max_tokens=40, stop=word)["choices"][0]
    assert got["finish_reason"] == "stop" and got["text"] == text[:text.index(word)]
    assert complete(server)["choices"][0]["finish_reason"] == "length"
    full = complete(server, max_tokens=100000, ignore_eos=True)
    n_ctx = server.ask("/v1/models")["data"][0]["n_ctx"]
    assert full["choices"][0]["finish_reason"] == "length" and n_ctx <= full["usage"]["total_tokens"] <= n_ctx + 1
    assert server.stream(TEXT, {"prompt": "Once", "max_tokens": 100000, "ignore_eos": True})[-1]["choices"][0]["finish_reason"] == "length"
    for model, reason in (("thinker", "stop"), ("caller", "tool_calls")):
        body = {**user("Get it", max_tokens=40, tools=TOOLS), "model": model}
        assert parts.ask(CHAT, body)["choices"][0]["finish_reason"] == reason
        assert parts.stream(CHAT, body)[-1]["choices"][0]["finish_reason"] == reason


def test_pitfall_10_nothing_of_a_stop_string_is_shown(server):
    """The beginning of a stop string is shown before it is known for one; a character is split over two events."""
    text = complete(server, max_tokens=40)["choices"][0]["text"]
    for at in range(3, 60, 7):
        stop = text[at:at + 9]
        chunks = server.stream(TEXT, {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 40,
                                                   "stop": ["not in it", stop]})
        assert "".join(c["choices"][0]["text"] for c in chunks) == text[:text.index(stop)]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    near = text[10:20] + "\x01"
    assert complete(server, max_tokens=40, stop=[near])["choices"][0]["text"] == text
    ids = server.ask("/tokenize", {"content": "é漢😀"})["tokens"]
    bias = {str(i): 100 for i in ids if i > 2}
    chunks = server.stream(TEXT, {"prompt": "Hi", "max_tokens": 40, "logit_bias": bias, "temperature": 1, "seed": 3})
    text = "".join(c["choices"][0]["text"] for c in chunks)
    whole = server.ask(TEXT, {"prompt": "Hi", "max_tokens": 40, "logit_bias": bias, "temperature": 1, "seed": 3})
    assert text == whole["choices"][0]["text"] and text


def test_pitfall_11_roles_and_contents(server):
    """Roles and contents that newer clients send are refused: developer, lists of parts, null, a tool's list."""
    def prompt(messages):
        return server.ask("/apply-template", {"messages": messages})["prompt"]
    ask = {"role": "user", "content": "Hi"}
    plain = prompt([{"role": "system", "content": "Be brief"}, ask])
    assert prompt([{"role": "developer", "content": "Be brief"}, ask]) == plain
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief"}]
    assert prompt([{"role": "system", "content": parts}, ask]) == plain
    server.ask(CHAT, {"messages": [ask, {"role": "assistant", "content": None}, ask,
               {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "42"}]}], "max_tokens": 2})
    image = [{"type": "image_url", "image_url": {"url": "http://localhost/x.png"}}]
    error = server.ask(CHAT, {"messages": [{"role": "user", "content": image}]}, status=400)["error"]
    assert error["param"] == "messages[0].content" and error["code"] == "unsupported_parameter"
    error = server.ask(CHAT, {"messages": [ask, {"role": "wizard", "content": "x"}]}, status=400)["error"]
    assert error["param"] == "messages[1].role" and error["code"] == "invalid_value"


def test_pitfall_12_plain_text_may_be_asked_for(server):
    """What happens anyway is refused when a client says it: a response_format of type text."""
    server.ask(CHAT, user("Hi", response_format={"type": "text"}))


def test_pitfall_13_vectors(rotor):
    """Vectors come as floats where base64 was asked for, with any length, and in full where fewer dimensions were."""
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
        s.ask(TEXT, {"prompt": "Once", "max_tokens": 2})
    finally:
        assert s.stop() == 0


def test_pitfall_14_overflow_is_a_clear_error(server):
    """A prompt that is too long is cut in silence, or refused in words in which no client sees what it was."""
    n_ctx = server.ask("/v1/models")["data"][0]["n_ctx"]
    for path, body in ((TEXT, {"prompt": [5] * (n_ctx + 10)}), (CHAT, user("word " * n_ctx)),
                       (CHAT, user("word " * n_ctx, stream=True))):
        error = server.ask(path, body, status=400)["error"]
        assert error["code"] == "context_length_exceeded" and error["type"] == "invalid_request_error"
        assert error["n_ctx"] == n_ctx and error["n_prompt_tokens"] >= n_ctx and error["error_type"] == "exceed_context_size_error"
        assert "maximum context length is %d tokens" % n_ctx in error["message"]
        assert "exceeds the available context size" in error["message"]


def test_pitfall_15_thoughts_have_their_name(parts):
    """What was thought comes as content or under a name of one's own, and is not taken back."""
    ask = {**user("What is 2 + 2?", max_tokens=40), "model": "thinker"}
    got = parts.ask(CHAT, ask)
    message = got["choices"][0]["message"]
    assert message["content"] == "**Four**." and message["reasoning_content"] == "Two and two."
    assert "tool_calls" not in message and got["choices"][0]["finish_reason"] == "stop"
    assert 0 < got["usage"]["completion_tokens_details"]["reasoning_tokens"] < got["usage"]["completion_tokens"]
    deltas = [c["choices"][0]["delta"] for c in parts.stream(CHAT, ask)]
    assert "".join(d.get("content") or "" for d in deltas) == "**Four**."
    assert "".join(d.get("reasoning_content") or "" for d in deltas) == "Two and two."
    assert all(not ("content" in d and "reasoning_content" in d) for d in deltas)
    probable = parts.ask(CHAT, {**ask, "logprobs": True})["choices"][0]["logprobs"]["content"]
    assert "".join(t["token"] for t in probable) == "**Four**."
    for name in ("reasoning_content", "reasoning"):
        sent = [{"role": "user", "content": "Get it"}, {"role": "assistant", name: "A plan.", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "get_it", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "4"}]
        assert "<|channel|>analysis<|message|>A plan.<|end|>" in parts.ask("/apply-template", {"model": "caller", "messages": sent})["prompt"]


def test_pitfall_16_harmony(parts):
    """Harmony: thoughts leak into the content, calls are lost, old thoughts stay, a wrong header spoils the answer."""
    ask = {**user("What is 2 + 2?", max_tokens=40), "model": "thinker"}
    message = parts.ask(CHAT, ask)["choices"][0]["message"]
    sent = ask["messages"] + [message, {"role": "user", "content": "Sure?"}]
    without = [m if "reasoning_content" not in m else {"role": "assistant", "content": m["content"]} for m in sent]
    prompts = [parts.ask("/apply-template", {"model": "thinker", "messages": m})["prompt"] for m in (sent, without)]
    assert prompts[0] == prompts[1] and "Two and two" not in prompts[0] and "**Four**." in prompts[0]
    for more, word in (({}, "medium"), ({"reasoning_effort": "high"}, "high"), ({"chat_template_kwargs": {"reasoning_effort": "low"}}, "low")):
        got = parts.ask("/apply-template", {"model": "thinker", **user("Hi", **more)})
        assert "Reasoning: %s\n" % word in got["prompt"]
    for model in ("constrained", "slips"):  # the recipient behind the channel; marks where none may stand
        message = parts.ask(CHAT, {**user("Get it", max_tokens=40, tools=TOOLS), "model": model})["choices"][0]["message"]
        assert message["content"] is None and [c["function"] for c in message["tool_calls"]] == [{"name": "get_it", "arguments": '{"a": 1}'}]


@pytest.mark.threads
def test_pitfall_17_a_seed_means_a_text(server):
    """The same seed says something else beside other requests, or behind a prefix that was known."""
    body = {"prompt": "Once upon a time", "max_tokens": 30, "temperature": 1, "seed": 42}
    alone = server.ask(TEXT, {**body, "cache_prompt": False})["choices"][0]["text"]
    again = server.ask(TEXT, body)
    assert again["choices"][0]["text"] == alone and again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    many = server.ask(TEXT, {**body, "prompt": [body["prompt"], "The cat", "Tom", body["prompt"]]})
    assert many["choices"][0]["text"] == many["choices"][3]["text"] == alone
    assert server.ask(TEXT, {**body, "seed": 43})["choices"][0]["text"] != alone


def test_pitfall_18_bias_bans_and_forces(server):
    """Keys of logit_bias, which are texts, are not found; -100 is only unlikely, and 100 only likely."""
    first = complete(server, max_tokens=1, logprobs=1)["choices"][0]
    ids = server.ask("/tokenize", {"content": "Once upon a time" + first["text"]})["tokens"]
    assert complete(server, max_tokens=1, logit_bias={str(ids[-1]): -100})["choices"][0]["text"] != first["text"]
    forced = server.ask(TEXT, {"prompt": "Hi", "max_tokens": 5, "logit_bias": {str(ids[-1]): 100}})
    assert forced["choices"][0]["text"] == first["text"] * 5
    for bad in ({"99999": 1}, {"x": 1}, {"5": 101}, {"5": "1"}, "x"):
        error = server.ask(TEXT, {"prompt": "Hi", "logit_bias": bad}, status=400)["error"]
        assert error["param"] == "logit_bias"


def test_pitfall_19_several_answers(server):
    """A request for n answers gets one, or n with the same index."""
    body = user("A story", n=3, temperature=1, seed=5)
    got = server.ask(CHAT, body)
    texts = [c["message"]["content"] for c in got["choices"]]
    assert [c["index"] for c in got["choices"]] == [0, 1, 2] and len(set(texts)) == 3
    one = server.ask(CHAT, {**body, "n": 1})
    assert one["choices"][0]["message"]["content"] == texts[0]
    assert got["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"] and got["usage"]["completion_tokens"] == 36
    streamed = ["", "", ""]
    for c in server.stream(CHAT, body):
        streamed[c["choices"][0]["index"]] += c["choices"][0]["delta"].get("content") or ""
    assert streamed == texts
    for bad in (0, 9, 1.5, "2"):
        assert server.ask(CHAT, {**body, "n": bad}, status=400)["error"]["param"] == "n"


def test_pitfall_20_unknown_fields_are_left_alone(server):
    """Fields that mean something elsewhere are refused here."""
    extra = dict(store=False, metadata={"a": "b"}, service_tier="auto", prediction=None, parallel_tool_calls=True,
                 reasoning_effort="low", verbosity="low", safety_identifier="x", prompt_cache_key="k", user="me", mirostat=2)
    server.ask(CHAT, user("Hi", **extra))


def test_pitfall_21_http_as_clients_speak_it(server):
    """A curl with a large body waits, a second early request is lost, and a slash too many is a 404."""
    for path in ("/v1/models", "/v1/models/", "/models", "/v1/v1/models", "/v1/models?x=1", "/models/"):
        assert server.raw("GET", path)[0].status == 200, path
    for path in ("/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completions/"):
        server.ask(path, user("Hi", max_tokens=1))
    r, data = server.raw("HEAD", "/health")
    assert r.status == 200 and data == b"" and r.getheader("Content-Length") == "16"
    assert server.ask("/models/stories260K")["id"] == "stories260K"
    body = json.dumps(user("Hi", max_tokens=2)).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:7], body[7:30], body[30:])) + b"0\r\n\r\n"
    assert b" 200 OK" in talk(server, head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
    expect = talk(server, head + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert expect.startswith(b"HTTP/1.1 100 ") and b" 200 OK" in expect
    two = (head + b"Content-Length: %d\r\n\r\n" % len(body) + body) * 2 + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert talk(server, two).count(b"HTTP/1.1 200 OK") == 3


def test_pitfall_22_types_and_characters_of_a_body(server):
    """A charset behind the type is refused; half a surrogate pair, a zero or bytes that are no text crash the server."""
    body = json.dumps(user("Hi", max_tokens=1))
    for kind, status in (("application/json; charset=utf-8", 200), ("Application/JSON", 200), ("text/plain", 415),
                         ("application/x-www-form-urlencoded", 415), ("application/jsonx", 415), ("", 415)):
        r, data = server.raw("POST", CHAT, body, {"Content-Type": kind})
        assert r.status == status, kind
        assert status == 200 or json.loads(data)["error"]["code"] == "unsupported_media_type"
    for content in (b"\\ud83d", b"\\udc00\\ud83d", b"a\\u0000b", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80"):
        raw = b'{"messages": [{"role": "user", "content": "%s"}], "max_tokens": 1}' % content
        r, data = server.raw("POST", CHAT, raw, JSON)
        assert r.status == 400 and json.loads(data)["error"]["code"] == "invalid_json", data
    assert server.raw("POST", CHAT, raw.replace(b"\xc0\x80", b"\\ud83d\\ude00"), JSON)[0].status == 200


def test_pitfall_23_preflight_needs_no_key(guarded):
    """The question of a browser whether it may ask is answered with 401, as it brings no key."""
    origin = {"Origin": "https://page.example"}
    r, data = guarded.raw("OPTIONS", CHAT, headers={**origin, "Access-Control-Request-Method": "POST"})
    assert r.status == 204 and data == b"" and r.getheader("Access-Control-Allow-Origin") == "https://page.example"
    assert "POST" in r.getheader("Access-Control-Allow-Methods") and "Authorization" in r.getheader("Access-Control-Allow-Headers")
    assert r.getheader("Access-Control-Allow-Credentials") is None
    asked = {**origin, "Access-Control-Request-Headers": "authorization,x-stainless-lang"}
    r, _ = guarded.raw("OPTIONS", CHAT, headers=asked)
    assert r.getheader("Access-Control-Allow-Headers") == "authorization,x-stainless-lang"
    r, _ = guarded.raw("OPTIONS", CHAT, headers={**asked, "Access-Control-Request-Headers": "a\"b"})
    assert "Authorization" in r.getheader("Access-Control-Allow-Headers")
    r, _ = guarded.raw("GET", "/v1/models", headers=origin)
    assert r.status == 401 and r.getheader("Access-Control-Allow-Origin") == "https://page.example"
    assert guarded.raw("OPTIONS", "/v1/models", headers={"Origin": "https://evil.example"})[0].status == 403


def test_pitfall_24_names_of_models(server):
    """A reply names the model as it was asked for, and a name that is not there is a fault with one model, or none with two."""
    assert server.ask(CHAT, user("Hi", model="gpt-3.5-turbo", max_tokens=1))["model"] == "stories260K"
    two = Server(STORY, STORY, "--alias", "one", "--alias", "two")
    try:
        assert [m["id"] for m in two.ask("/v1/models")["data"]] == ["one", "two"]
        assert two.ask(CHAT, user("Hi", model="two", max_tokens=1))["model"] == "two"
        error = two.ask(CHAT, user("Hi", model="three"), status=404)["error"]
        assert error["code"] == "model_not_found" and "one, two" in error["message"] and error["param"] == "model"
    finally:
        assert two.stop() == 0
    strict = Server(STORY, "--strict-model")
    try:
        strict.ask(CHAT, user("Hi", model="other"), status=404)
        strict.ask(CHAT, user("Hi", model="stories260K"))
    finally:
        assert strict.stop() == 0


def test_pitfall_25_ids_and_object_words(server):
    """Ids without their prefix, times in milliseconds, object words of another reply."""
    ask = {"model": "other", "max_tokens": 4, "temperature": 0}
    for path, more, prefix, word, time_ in ((CHAT, user("Hi"), "chatcmpl-", "chat.completion", "created"),
                                            (TEXT, {"prompt": "Hi"}, "cmpl-", "text_completion", "created"),
                                            ("/v1/responses", {"input": "Hi"}, "resp_", "response", "created_at")):
        whole = server.ask(path, {**more, **ask})
        assert re.match(prefix + r"\w+$", whole["id"]) and whole["object"] == word
        assert type(whole[time_]) is int and abs(whole[time_] - time.time()) < 100 and whole["model"] == "stories260K"
    for path, more, word in ((CHAT, user("Hi"), "chat.completion.chunk"), (TEXT, {"prompt": "Hi"}, "text_completion")):
        chunks = server.stream(path, {**more, **ask})
        assert {c["object"] for c in chunks} == {word} and len({(c["id"], c["created"]) for c in chunks}) == 1
    row = server.ask("/v1/models")["data"][0]
    assert row["object"] == "model" and abs(row["created"] - time.time()) < 10000


def test_pitfall_26_events_of_a_response_in_their_order(server):
    """Events of a response come in another order, without their numbers, or with another item's id."""
    named = events(server, "/v1/responses", {"input": "Once upon a time", "temperature": 0, "max_output_tokens": 12})
    got = [e for _, e in named]
    kinds = [e["type"] for e in got]
    n = kinds.count("response.output_text.delta")
    assert n > 3 and [name for name, _ in named] == kinds == ["response." + kind for kind in (
        ["created", "in_progress", "output_item.added", "content_part.added"] + ["output_text.delta"] * n +
        ["output_text.done", "content_part.done", "output_item.done", "incomplete"])]
    assert [e["sequence_number"] for e in got] == list(range(len(got)))
    last = got[-1]["response"]
    assert last["status"] == "incomplete" and last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["output"][0]["status"] == got[-2]["item"]["status"] == "incomplete" and last["usage"]["output_tokens"] == 12
    assert {e["item_id"] for e in got if "item_id" in e} == {e["item"]["id"] for e in got if "item" in e} == {last["output"][0]["id"]}
    assert "".join(e["delta"] for e in got if "delta" in e) == last["output"][0]["content"][0]["text"]


def test_pitfall_27_messages_as_anthropic_writes_them(server, guarded):
    """Events without their names; headers that are refused; errors in the shape of another API, if only with a wrong method."""
    body = {"max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": "Once upon a time"}]}
    named = events(server, "/v1/messages", body)
    kinds = [e["type"] for _, e in named]
    n = kinds.count("content_block_delta")
    assert n > 3 and [name for name, _ in named] == kinds == (["message_start", "content_block_start"] + ["content_block_delta"] * n +
                                                              ["content_block_stop", "message_delta", "message_stop"])
    assert named[-2][1]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    ours = {**JSON, "X-Api-Key": KEY, "Anthropic-Version": "2023-06-01", "Anthropic-Beta": "one,two"}
    assert guarded.raw("POST", "/v1/messages", json.dumps(body), ours)[0].status == 200
    for method, text, headers, status, kind in (
            ("POST", "{", {}, 400, "invalid_request_error"), ("POST", "{}", {"X-Api-Key": "no"}, 401, "authentication_error"),
            ("POST", "{}", {"Content-Type": "text/plain"}, 415, "invalid_request_error"), ("GET", None, {}, 405, "invalid_request_error"),
            ("POST", "{}", {"Origin": "http://evil.example"}, 403, "permission_error")):
        r, data = guarded.raw(method, "/v1/messages", text, {**ours, **headers})
        got = json.loads(data)
        assert r.status == status and set(got) == {"type", "error"} and got["type"] == "error", data
        assert set(got["error"]) == {"type", "message"} and got["error"]["type"] == kind


@pytest.mark.threads
def test_pitfall_28_a_client_that_leaves_stops_its_answer(server):
    """A client that leaves is computed for to the end, or at least to the end of its prompt."""
    for stream in (True, False):
        c = server.connect()
        c.request("POST", TEXT, json.dumps({"prompt": "Once", "max_tokens": 100000, "ignore_eos": True, "n": 4,
                  "stream": stream, "logit_bias": {}}), JSON)
        if stream:
            c.getresponse().readline()
        c.close()
        wait_until(lambda: not slots_busy(server))
    s = Server(STORY, "--parallel", "1", "--chunk", "1", "--ctx", str(LONG))

    def leave(prompt, stream):
        """Tokens that were evaluated of a prompt that takes seconds, when the client left at the first sign of work."""
        c = s.connect()
        c.request("POST", TEXT, json.dumps({"prompt": prompt, "max_tokens": 1, "stream": stream, "cache_prompt": False}),
                  JSON)
        wait_until(lambda: slots_busy(s) or select.select([c.sock], [], [], 0)[0])
        c.close()
        wait_until(lambda: not slots_busy(s))
        return max(row["n_tokens"] for row in s.ask("/slots"))

    try:
        for stream in (False, True):
            assert any(0 < leave([7 + i + stream] * (LONG - 10), stream) < LONG - 1000 for i in range(5))
    finally:
        assert s.stop() == 0


def test_pitfall_29_the_key_guards_every_route(guarded, source_root):
    """The key is asked for under /v1 alone, and the other routes are open."""
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
            r, data = guarded.raw(method, p, b"{}" if method == "POST" else None, JSON)
            assert r.status == 401, p
            assert r.getheader("WWW-Authenticate") == "Bearer" and b"a key is needed" in data  # each protocol in its form
    assert "/health" in open_routes and len(open_routes) <= 4


def test_pitfall_30_prompts_are_the_template_s():
    """The system's turn is lost, a turn has no end, the answer is not invited, the begin token stands there twice."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"},
             {"role": "user", "content": "And?"}]
    head, end = "<|start_header_id|>%s<|end_header_id|>\n\n", "<|eot_id|>"
    wants = {"llama3": "<s>" + "".join(head % t["role"] + t["content"] + end for t in turns) + head % "assistant",
             "bitnet": "System: Be brief.<|eot_id|>User: Hi<|eot_id|>Assistant: Ho<|eot_id|>User: And?<|eot_id|>Assistant: "}
    for name, want in wants.items():
        s = Server(STORY, "--chat-template", name)
        try:
            got = s.ask("/apply-template", {"messages": turns})
            assert got["prompt"] == want and got["tokens"][0] == 1 and got["tokens"].count(1) == 1
        finally:
            assert s.stop() == 0


def test_pitfall_31_silence_is_broken():
    """A stream that waits or reads a long prompt is silent, until its client gives up and asks again."""
    s = Server(STORY, "--parallel", "1", "--ping-ms", "2", "--chunk", "1", "--ctx", str(ENDLESS))
    try:
        first, second = s.hold(), s.connect()
        second.request("POST", TEXT, json.dumps({"prompt": "Tom", "max_tokens": 1, "stream": True}), JSON)
        r = second.getresponse()
        assert r.readline() == b": waiting, position 1\n"
        first.close()
        assert r.read().endswith(b"data: [DONE]\n\n")
        second.close()
        data, n = b"", 200
        while b": working\n\n" not in data and n < ENDLESS // 2:  # a longer one, where nobody looked while it was read
            n *= 2
            r, data = s.raw("POST", TEXT, json.dumps({"prompt": [5 + n % 7] * n, "max_tokens": 1, "stream": True}), JSON)
            assert data.endswith(b"data: [DONE]\n\n")
        assert b": working\n\n" in data
    finally:
        assert s.stop() == 0


def test_pitfall_32_a_client_s_fault_is_not_repeated(server, source_root):
    """A fault of the client is told as 409 or 5xx, and the client's library sends the same again, twice."""
    table = (source_root / "src" / "serve" / "routes.c").read_text()
    posts = re.findall(r'\{"POST", "([^"]+)"', table)
    wrong = [b"", b"{", b"[]", b"{}", b"{\"model\": 5}", b"{\"prompt\": \"\\ud83d\"}", b"\xff", b"[" * 5000, json.dumps(dict.fromkeys(
        ("messages", "prompt", "input", "content", "tokens", "model"), {"a": 1})).encode(), json.dumps(user("word " * 2000, prompt=[9] * 9999, input=5)).encode()]
    for path in posts:
        path = path.rstrip("/") + "/x" * path.endswith("/")
        replies = [server.raw("POST", path, text, JSON)[0] for text in wrong]
        replies += [server.raw("POST", path, "{}", {"Content-Type": "text/plain"})[0], server.raw("PUT", path, "{}", JSON)[0]]
        for r in replies:  # 501: what another model or an option can; it says that the same again is useless
            assert r.status in (200, 400, 404, 405, 415) or (r.status == 501 and r.getheader("X-Should-Retry") == "false"), (path, r.status)
        assert replies[-2].status == 415 and replies[-1].status == 405, path


def test_pitfall_33_a_line_that_changes_every_time(server):
    """A line of an agent's system text that differs in every request makes all behind it new."""
    def ask(cch):
        return server.ask(CHAT, {"messages": [
            {"role": "system", "content": "x-anthropic-billing-header: cc_version=1; cch=%s;\nYou are a helpful dog number 17." % cch},
            {"role": "user", "content": "Hi"}], "max_tokens": 1})["usage"]
    first, again = ask("aaa"), ask("bbb")
    assert again["prompt_tokens_details"]["cached_tokens"] == first["prompt_tokens"] - 1


def test_pitfall_34_the_context_that_is_told_is_a_session_s(server):
    """The context that is told is the model's, and agents shorten their history too late for the session's."""
    small = Server(STORY, "--ctx", "100", "--parallel", "3")
    try:
        row = small.ask("/v1/models")["data"][0]
        assert row["n_ctx"] == 100 and row["n_ctx_train"] > 100 and small.ask("/props")["total_slots"] == 3
        assert small.ask("/props")["default_generation_settings"]["n_ctx"] == 100
        assert small.ask(TEXT, {"prompt": [5] * 100}, status=400)["error"]["n_ctx"] == 100
    finally:
        assert small.stop() == 0


def test_pitfall_35_tools_of_unknown_types(server, parts):
    """A tool of a type that is not known fails the request, where it could be skipped."""
    unknown = [{"type": "web_search"}, {"type": "local_shell", "x": 1}, {"type": "custom", "name": "apply_patch"}, {"type": "function"}]
    for path, more in ((CHAT, user("Hi")), ("/v1/responses", {"input": "Hi", "max_output_tokens": 1})):
        server.ask(path, {**more, "tools": unknown})
        server.ask(path, {**more, "tools": []})
    alone, more = ({**user("Get it", max_tokens=40, tools=tools), "model": "caller"} for tools in (TOOLS, unknown + TOOLS))
    assert parts.ask("/apply-template", alone) == parts.ask("/apply-template", more)
    assert parts.ask(CHAT, more)["choices"][0]["finish_reason"] == "tool_calls"


def test_pitfall_36_windows_survive_an_edited_turn(rotor, tmp_path):
    """A model with windows forgets what lies behind them, and reads everything again when the last turn is edited."""
    rotor("synth", "gpt-oss-tiny", "-o", tmp_path / "m.gguf", "--seed", "3")
    s = Server(str(tmp_path / "m.gguf"), "--parallel", "1")
    ids = [(i * 37) % 200 + 10 for i in range(200)]

    def ask(tail, **more):
        got = s.ask(TEXT, {"prompt": ids + tail, "max_tokens": 4, "temperature": 0, "logprobs": 1, "ignore_eos": True, **more})
        return got["usage"]["prompt_tokens_details"]["cached_tokens"], got["choices"][0]["logprobs"]
    try:
        ask([])
        ask([5] * 180)  # the windows of 128 have left the border behind
        kept, edited = ask([6] * 180)
        assert kept >= len(ids) - 1 and edited == ask([6] * 180, cache_prompt=False)[1]
    finally:
        assert s.stop() == 0


def test_pitfall_37_a_call_that_comes_back_is_the_tokens_it_was(parts):
    """A call that comes back is written anew, in other tokens than it was, and all behind it is read again."""
    first = {**user("Get it", max_tokens=40, tools=TOOLS), "model": "caller"}
    got = parts.ask(CHAT, first)
    message = got["choices"][0]["message"]
    then = {**first, "messages": first["messages"] + [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}]}
    usage = parts.ask(CHAT, then)["usage"]
    whole = got["usage"]["prompt_tokens"] + got["usage"]["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= whole - 1
    message["tool_calls"][0]["function"]["arguments"] = '{"a":1}'  # the same value, as clients may write it
    usage = parts.ask(CHAT, then)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= whole - 1
    message["tool_calls"][0]["function"]["arguments"] = '{"a": 2}'  # another value is another answer
    usage = parts.ask(CHAT, then)["usage"]
    assert got["usage"]["prompt_tokens"] - 1 <= usage["prompt_tokens_details"]["cached_tokens"] < whole - 1


def test_pitfall_38_a_known_prefix_changes_nothing(server):
    """A prompt whose beginning is known gets another answer than it got at first."""
    body = {"prompt": "A sentence that nobody has sent before, %f" % time.time(), "max_tokens": 1, "temperature": 0}
    first, again = server.ask(TEXT, body), server.ask(TEXT, body)
    n = first["usage"]["prompt_tokens"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == again["timings"]["cache_n"] == n - 1
    assert again["timings"]["prompt_n"] == 1 and again["choices"] == first["choices"]
    fresh = server.ask(TEXT, {**body, "cache_prompt": False})
    assert fresh["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    ids = [(i * 29) % 200 + 20 for i in range(130)]
    for known in (1, 17, 63, 64, 65, 129):
        ask = {"prompt": ids[:known] + [known + 200] * 9, "max_tokens": 6, "temperature": 0, "logprobs": 3}
        server.ask(TEXT, {**ask, "prompt": ids})
        warm, cold = server.ask(TEXT, ask), server.ask(TEXT, {**ask, "cache_prompt": False})
        assert warm["usage"]["prompt_tokens_details"]["cached_tokens"] >= known and warm["choices"] == cold["choices"]


def test_pitfall_39_two_names_of_the_list_of_models(server):
    """The list of models is in data, or in models, and one half of the clients finds none."""
    assert server.ask("/health") == {"status": "ok"}
    models = server.ask("/v1/models")
    assert models["object"] == "list" and models["data"] == models["models"]
    row = models["data"][0]
    assert row["id"] == "stories260K" and row["object"] == "model" and row["n_ctx"] <= row["n_ctx_train"]
    assert server.ask("/v1/models/stories260K") == row
    assert server.ask("/v1/models/none", status=404)["error"]["code"] == "model_not_found"


def test_pitfall_40_one_who_does_not_read():
    """One client that does not read its stream holds up all others, or takes memory without end."""
    s = Server(STORY, "--parallel", "2")
    try:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect(("127.0.0.1", s.port))
        body = json.dumps({"prompt": ["Once"] * 1000, "max_tokens": 60, "stream": True, "ignore_eos": True, "logprobs": 20}).encode()
        deaf.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: slots_busy(s))
        s.ask(TEXT, {"prompt": "Once", "max_tokens": 20})
        wait_until(lambda: s.metric("requests_cancelled_total") and not slots_busy(s))  # its bytes have passed the limit
        deaf.close()
    finally:
        assert s.stop() == 0
