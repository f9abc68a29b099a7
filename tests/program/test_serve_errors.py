# SPDX-License-Identifier: MIT
"""Every fault that a request can have, with the exact status and error object it gets; what is no fault; and what a server
says that is not there yet, or no more."""
import contextlib
import http.client
import json
import signal
import socket

import pytest

from serve_rig import ENDLESS, KEY, PATIENCE_S, STORY, Server, user, wait_until

CHAT, TEXT, JSON = "/v1/chat/completions", "/v1/completions", {"Content-Type": "application/json"}
HI = {"role": "user", "content": "Hi"}
VALUE, MISSING, UNSUPPORTED, LONG = "invalid_value", "missing_required_parameter", "unsupported_parameter", "context_length_exceeded"


@pytest.fixture(scope="module")
def server():
    s = Server(STORY, "--parallel", "2", "--strict-model", "--api-key", KEY)
    alone = post(s, TEXT, text(max_tokens=8))[2]["choices"]
    yield s
    assert post(s, TEXT, text(max_tokens=8))[2]["choices"] == alone  # none of it has left a trace
    assert s.stop() == 0


def post(server, path, body, method="POST", **headers):
    """Status, headers and parsed body; in what every reply has in common they are checked."""
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    named = {**JSON, "Authorization": "Bearer " + KEY, **{k.replace("_", "-"): v for k, v in headers.items()}}
    r, data = server.raw(method, path, raw, {k: v for k, v in named.items() if v is not None})
    assert r.getheader("Content-Type") == "application/json" and data.endswith(b"\n") and r.getheader("X-Request-Id")
    return r.status, r, json.loads(data)


def fault(server, want, path, body, **more):
    """The reply is want = (status, type, code, param), with these four keys alone; returns its message."""
    status, _, got = post(server, path, body, **more)
    assert set(got) == {"error"} and set(got["error"]) == {"message", "type", "param", "code"}, got
    e = got["error"]
    assert (status, e["type"], e["code"], e["param"]) == want, got
    return e["message"]


def chat(**more):
    return {"messages": [HI], "max_tokens": 1, **more}


def text(**more):
    return {"prompt": "Hi", "max_tokens": 1, "temperature": 0, **more}


def turns(*messages):
    return {"messages": list(messages)}


def content(value):
    return turns({"role": "user", "content": value})


# ---- Bodies that are no JSON ----------------------------------------------------------------------------------------


def said(literal):
    return b'{"prompt": %s, "messages": [{"role": "user", "content": %s}], "input": %s}' % (literal, literal, literal)


DEEP = "the body is nested deeper than 256, or has more than 131072 objects and lists"
NO_JSON = {
    "nothing": (b"", "the body is empty: expected JSON"), "half an object": (b"{", None), "words": (b"nonsense", None),
    "a list": (b"[]", "the body is no JSON object"), "null": (b"null", None), "a text": (b'"x"', None), "a number": (b"5", None),
    "more behind it": (b'{"messages": []} {}', None), "zeros": (b"\0" * 50, None), "a mark of byte order": (b"\xef\xbb\xbf{}", None),
    "two bytes a letter": ("{}".encode("utf-16"), None), "other quotes": (b"{'messages': []}", None), "a comma too many": (b'{"messages": [],}', None),
    "no number": (b'{"temperature": NaN}', None), "infinity": (b'{"temperature": 1e999}', None),
    "a number too large": (b'{"seed": 99999999999999999999999}', None),
    "half a pair": (said(rb'"\ud83d"'), None), "the other half": (said(rb'"\ude00x"'), None), "halves exchanged": (said(rb'"\ude00\ud83d"'), None),
    "a zero in a text": (said(rb'"a\u0000b"'), None), "a zero in a name": (b'{"a\\u0000b": 1}', None), "no characters": (said(b'"\xff\xfe"'), None),
    "a long spelling": (said(b'"\xc0\xaf"'), None), "half a pair in bytes": (said(b'"\xed\xa0\xbd"'), None), "half a character": (said(b'"\xc3"'), None),
    "lists in lists": (b"[" * 300 + b"]" * 300, DEEP), "objects in objects": (b'{"a":' * 300 + b"1" + b"}" * 300, DEEP),
    "opened alone": (b"[" * 100000, DEEP), "many lists": (b'{"a": [' + b"[]," * 140000 + b"[]]}", DEEP)}


@pytest.mark.parametrize("name", NO_JSON)
def test_bodies_that_are_no_json(server, name):
    body, message = NO_JSON[name]
    for path in (CHAT, TEXT, "/v1/responses", "/tokenize"):
        got = fault(server, (400, "invalid_request_error", "invalid_json", None), path, body)
        assert got == message or (message is None and got.startswith("the body is no JSON: ") and got.endswith("(line 1)"))


# ---- Fields ---------------------------------------------------------------------------------------------------------

CALL = "messages[0].tool_calls[0]"
NO_TEXT = "'messages[0].content': expected a text or a list of parts"
NO_PROMPT = "'prompt': expected a text, a list of token ids, or a list of those"
FIELDS = [  # path, body, code, param, message
    (CHAT, {}, MISSING, "messages", "'messages' is missing: expected a list of messages"),
    (CHAT, {"messages": None}, MISSING, "messages", "'messages' is missing: expected a list of messages"),
    (CHAT, {"messages": 1}, VALUE, "messages", "'messages': expected a list, got a number"),
    (CHAT, {"messages": "Hi"}, VALUE, "messages", "'messages': expected a list, got a text"),
    (CHAT, {"messages": True}, VALUE, "messages", "'messages': expected a list, got true or false"),
    (CHAT, turns(), VALUE, "messages", "'messages' is empty: expected a list of messages"),
    (CHAT, turns(1), VALUE, "messages[0]", "'messages[0]': expected an object, got a number"),
    (CHAT, turns(None), VALUE, "messages[0]", "'messages[0]': expected an object, got null"),
    (CHAT, turns(HI, []), VALUE, "messages[1]", "'messages[1]': expected an object, got a list"),
    (CHAT, turns({"content": "x"}), MISSING, "messages[0].role", "'messages[0].role' is missing"),
    (CHAT, turns({"role": 5, "content": "x"}), VALUE, "messages[0].role", "'messages[0].role': expected a text, got a number"),
    (CHAT, turns({"role": "king", "content": "x"}), VALUE, "messages[0].role",
     "'messages[0].role' is 'king': expected system, developer, user, assistant or tool"),
    (CHAT, turns({"role": "user"}), MISSING, "messages[0].content", "'messages[0].content' is missing"),
    (CHAT, content(None), MISSING, "messages[0].content", "'messages[0].content' is missing"),
    (CHAT, content(5), VALUE, "messages[0].content", NO_TEXT),
    (CHAT, content({}), VALUE, "messages[0].content", NO_TEXT),
    (CHAT, content([5]), VALUE, "messages[0].content", "'messages[0].content[0]' is no part: this model takes parts of type text only"),
    (CHAT, content([{"type": "text"}]), VALUE, "messages[0].content", "'messages[0].content[0]' has no text"),
    (CHAT, content([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "http://localhost/x.png"}}]), UNSUPPORTED,
     "messages[0].content", "'messages[0].content[1]' is image_url: this model takes parts of type text only"),
    (CHAT, content([{"type": "input_audio", "input_audio": {}}]), UNSUPPORTED, "messages[0].content",
     "'messages[0].content[0]' is input_audio: this model takes parts of type text only"),
    (CHAT, turns(HI, {"role": "tool", "tool_call_id": "c", "content": None}), MISSING, "messages[1].content", "'messages[1].content' is missing"),
    (CHAT, turns({"role": "assistant", "tool_calls": 5}), VALUE, "messages[0].tool_calls",
     "'messages[0].tool_calls': expected a list, got a number"),
    (CHAT, turns({"role": "assistant", "tool_calls": [5]}), VALUE, CALL, "'%s': expected an object, got a number" % CALL),
    (CHAT, turns({"role": "assistant", "tool_calls": [{"function": {}}]}), MISSING, CALL + ".function.name", "'%s.function.name' is missing" % CALL),
    (CHAT, turns({"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}), VALUE, CALL + ".function.name",
     "'%s.function.name': expected a text, got a number" % CALL),
    (CHAT, chat(temperature="1"), VALUE, "temperature", "'temperature': expected a number, got a text"),
    (CHAT, chat(temperature=-1), VALUE, "temperature", "'temperature' is -1: expected 0 to 100"),
    (CHAT, chat(temperature=True), VALUE, "temperature", "'temperature': expected a number, got true or false"),
    (CHAT, chat(top_p=2), VALUE, "top_p", "'top_p' is 2: expected 0 to 1"),
    (CHAT, chat(top_k=0.5), VALUE, "top_k", "'top_k' is 0.5: expected a whole number from -1 to 2147483647"),
    (CHAT, chat(max_tokens=1.5), VALUE, "max_tokens", "'max_tokens' is 1.5: expected a whole number from -1 to 2147483647"),
    (CHAT, chat(max_tokens=-5), VALUE, "max_tokens", "'max_tokens' is -5: expected a whole number from -1 to 2147483647"),
    (CHAT, chat(max_tokens="5"), VALUE, "max_tokens", "'max_tokens': expected a whole number, got a text"),
    (CHAT, chat(max_completion_tokens=[]), VALUE, "max_completion_tokens", "'max_completion_tokens': expected a whole number, got a list"),
    (CHAT, chat(n=0), VALUE, "n", "'n' is 0: expected a whole number from 1 to 8"),
    (CHAT, chat(n=9), VALUE, "n", "'n' is 9: expected a whole number from 1 to 8"),
    (CHAT, chat(stop=5), VALUE, "stop", "'stop': expected a text or a list of texts"),
    (CHAT, chat(stop=[1]), VALUE, "stop", "'stop': expected a text or a list of texts"),
    (CHAT, chat(stop=["x"] * 17), VALUE, "stop", "'stop' has 17 entries: expected at most 16"),
    (CHAT, chat(stream=1), VALUE, "stream", "'stream': expected true or false, got a number"),
    (CHAT, chat(stream_options=[]), VALUE, "stream_options", "'stream_options': expected an object, got a list"),
    (CHAT, chat(stream_options={"include_usage": 1}), VALUE, "stream_options.include_usage",
     "'stream_options.include_usage': expected true or false, got a number"),
    (CHAT, chat(logprobs=3), VALUE, "logprobs", "'logprobs': expected true or false, got a number"),
    (CHAT, chat(top_logprobs=3), VALUE, "top_logprobs", "'top_logprobs' needs \"logprobs\": true"),
    (CHAT, chat(logprobs=True, top_logprobs=21), VALUE, "top_logprobs", "'top_logprobs' is 21: expected a whole number from 0 to 20"),
    (CHAT, chat(presence_penalty=3), VALUE, "presence_penalty", "'presence_penalty' is 3: expected -2 to 2"),
    (CHAT, chat(logit_bias={"dog": 5}), VALUE, "logit_bias", "'logit_bias' has the key 'dog': expected a token id below 512"),
    (CHAT, chat(logit_bias={"99999": 5}), VALUE, "logit_bias", "'logit_bias' has the key '99999': expected a token id below 512"),
    (CHAT, chat(logit_bias={"5": 101}), VALUE, "logit_bias", "'logit_bias' of 5: expected a number from -100 to 100"),
    (CHAT, chat(logit_bias="x"), VALUE, "logit_bias", "'logit_bias': expected an object"),
    (CHAT, chat(tools={}), VALUE, "tools", "'tools': expected a list, got an object"),
    (CHAT, chat(tools="a"), VALUE, "tools", "'tools': expected a list, got a text"),
    (CHAT, chat(tool_choice=5), VALUE, "tool_choice",
     "'tool_choice': expected none, auto, required or an object {\"type\": \"function\", \"function\": {\"name\": …}}"),
    (CHAT, chat(truncation="x"), VALUE, "truncation", "'truncation' is 'x': expected auto or disabled"),
    (CHAT, chat(reasoning_effort="huge"), VALUE, "reasoning_effort", "'reasoning_effort' is 'huge': expected low, medium or high"),
    (CHAT, chat(chat_template_kwargs=[]), VALUE, "chat_template_kwargs", "'chat_template_kwargs': expected an object, got a list"),
    (CHAT, chat(response_format="text"), VALUE, "response_format", "'response_format': expected an object, got a text"),
    (CHAT, chat(response_format={"type": "xml"}), VALUE, "response_format.type",
     "'response_format.type' is 'xml': expected text, json_object or json_schema"),
    (CHAT, chat(model=5), VALUE, "model", "'model': expected a text, got a number"),
    (TEXT, {}, MISSING, "prompt", "'prompt' is missing"),
    (TEXT, {"prompt": None}, MISSING, "prompt", "'prompt' is missing"),
    (TEXT, text(prompt={}), VALUE, "prompt", NO_PROMPT),
    (TEXT, text(prompt=True), VALUE, "prompt", NO_PROMPT),
    (TEXT, text(prompt=[]), VALUE, "prompt", "'prompt' has 0 entries: expected 1 to 2048"),
    (TEXT, text(prompt=[[]]), VALUE, "prompt", NO_PROMPT),
    (TEXT, text(prompt=[None]), VALUE, "prompt", NO_PROMPT),
    (TEXT, text(prompt=[1, "a"]), VALUE, "prompt", NO_PROMPT),
    (TEXT, text(prompt=[["a"]]), VALUE, "prompt", NO_PROMPT),
    (TEXT, text(prompt=[1.5]), VALUE, "prompt", NO_PROMPT),
    (TEXT, b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}", VALUE, "prompt", NO_PROMPT),
    (TEXT, text(prompt=[-1]), VALUE, "prompt", "'prompt': -1 is no token id"),
    (TEXT, text(prompt=[1 << 33]), VALUE, "prompt", "'prompt': 8589934592 is no token id"),
    (TEXT, text(prompt=[5, 512]), VALUE, "prompt", "token 512 at 1 is outside the vocabulary of 512"),
    (TEXT, text(prompt=["a"] * 2049), VALUE, "prompt", "'prompt' has 2049 entries: expected 1 to 2048"),
    (TEXT, text(suffix="x"), UNSUPPORTED, "suffix", "stories260K was not taught to fill gaps: its vocabulary has no tokens for it"),
    ("/detokenize", {"tokens": 5}, VALUE, "tokens", "'tokens': expected a list, got a number"),
    ("/detokenize", {"tokens": [99999]}, VALUE, "tokens", "'tokens[0]': expected a token id below 512"),
    ("/tokenize", {"content": 5}, VALUE, "content", "'content': expected a text")]


def row_id(row):
    path, body = row[:2]
    return "%s %s" % (path.rsplit("/", 1)[1], (body if isinstance(body, bytes) else json.dumps(body).encode())[:70].decode())


@pytest.mark.parametrize("path, body, code, param, message", FIELDS, ids=map(row_id, FIELDS))
def test_fields_that_are_wrong(server, path, body, code, param, message):
    want = (400, "invalid_request_error", code, param)
    assert fault(server, want, path, body) == message
    if path in (CHAT, TEXT) and isinstance(body, dict) and "stream" not in body:
        assert fault(server, want, path, {**body, "stream": True}) == message  # before a stream begins


def test_fields_that_are_no_fault(server):
    """Unknown ones, null for all that may be left out, an empty text, tools of which nothing is known."""
    names = ("stop", "max_completion_tokens", "tools", "tool_choice", "response_format", "logit_bias", "stream", "stream_options", "n",
             "temperature", "top_p", "top_k", "min_p", "seed", "logprobs", "presence_penalty", "frequency_penalty", "truncation", "user",
             "model", "suffix", "echo", "grammar", "cache_prompt", "reasoning_effort", "chat_template_kwargs", "parallel_tool_calls")
    for path, body in ((CHAT, chat()), (TEXT, text())):
        assert post(server, path, {**body, **dict.fromkeys(names)})[0] == 200
        assert post(server, path, {**body, "made_up": {"deep": [1, {}]}, "": 5, "é漢😀": None})[0] == 200
    assert post(server, TEXT, text(prompt=""))[0] == 200
    for tools in ([], [5], [{}], [{"type": "function"}], [{"type": "function", "function": {"name": 5}}]):
        assert post(server, CHAT, chat(tools=tools))[0] == 200


def test_prompts_that_are_too_long(server):
    """Three keys more than other faults, for programs that look for the numbers."""
    for path, body, param, n in ((TEXT, text(prompt=[5] * 600), "prompt", 600), (CHAT, content("word " * 200), "messages", None)):
        for stream in (False, True):
            status, _, got = post(server, path, {**body, "stream": stream})
            e = got["error"]
            assert status == 400 and set(e) == {"message", "type", "param", "code", "n_prompt_tokens", "n_ctx", "error_type"}
            assert (e["type"], e["code"], e["param"], e["n_ctx"]) == ("invalid_request_error", LONG, param, 512)
            assert e["error_type"] == "exceed_context_size_error" and e["n_prompt_tokens"] == (n or e["n_prompt_tokens"]) > 511
            assert e["message"] == ("This model's maximum context length is 512 tokens, and the request has %d tokens in its prompt: the "
                                    "request exceeds the available context size. Shorten it, send \"truncation\": \"auto\", or start the "
                                    "server with a larger --ctx." % e["n_prompt_tokens"])


# ---- What is refused before a body is looked at ---------------------------------------------------------------------

FAULT = "invalid_request_error"
REFUSED = [  # method, path, body, headers, status, type, code, param, message, header of the reply
    ("POST", CHAT, chat(model="other"), {}, 404, "not_found_error", "model_not_found", "model",
     "there is no model 'other'; there is: stories260K", None),
    ("GET", "/v1/models/other", None, {}, 404, "not_found_error", "model_not_found", None,
     "there is no model 'other'; GET /v1/models lists them", None),
    ("GET", "/v1/none", None, {}, 404, "not_found_error", "unknown_url", None, "there is no /v1/none here; the API begins at /v1", None),
    ("GET", CHAT, None, {}, 405, FAULT, "method_not_allowed", None, CHAT + " does not take GET, but POST", ("Allow", "POST")),
    ("PUT", "/v1/responses/x", b"{}", {}, 405, FAULT, "method_not_allowed", None,
     "/v1/responses/x does not take PUT, but GET, DELETE", ("Allow", "GET, DELETE")),
    ("BREW", "/v1/models", None, {}, 405, FAULT, "method_not_allowed", None, "/v1/models does not take BREW, but GET", ("Allow", "GET")),
    ("POST", CHAT, chat(), {"Content_Type": "text/plain"}, 415, FAULT, "unsupported_media_type", None,
     "Content-Type is text/plain: expected application/json", None),
    ("POST", CHAT, chat(), {"Content_Type": None}, 415, FAULT, "unsupported_media_type", None,
     "Content-Type is missing: expected application/json", None),
    ("POST", CHAT, chat(), {"Authorization": None}, 401, "authentication_error", "invalid_api_key", None,
     "a key is needed: Authorization: Bearer KEY, or x-api-key: KEY", ("WWW-Authenticate", "Bearer")),
    ("GET", "/v1/none", None, {"Authorization": "Bearer no"}, 401, "authentication_error", "invalid_api_key", None,
     "a key is needed: Authorization: Bearer KEY, or x-api-key: KEY", ("WWW-Authenticate", "Bearer")),
    ("GET", "/v1/models", None, {"Host": "evil.example"}, 403, "permission_error", "host_not_allowed", None,
     "this server is not known as evil.example; --allowed-hosts adds names", None),
    ("GET", "/v1/models", None, {"Origin": "http://evil.example"}, 403, "permission_error", "origin_not_allowed", None,
     "pages of http://evil.example may not use this server; --cors-origins lists those that may", None),
    ("POST", "/v1/embeddings", {"input": "x"}, {}, 501, "not_supported_error", "not_supported", None,
     "stories260K makes no vectors: start the server with --embed, or with a model made for them", ("X-Should-Retry", "false"))]
SPECIAL = ("Allow", "WWW-Authenticate", "Retry-After", "X-Should-Retry")


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: "%s %s %d" % (row[0], row[1], row[4]))
def test_requests_that_are_refused(server, row):
    method, path, body, headers, *want, message, header = row
    assert fault(server, tuple(want), path, body, method=method, **headers) == message
    _, r, _ = post(server, path, body, method=method, **headers)
    assert {k: v for k in SPECIAL if (v := r.getheader(k))} == dict([header] if header else [])


# ---- Before and after -----------------------------------------------------------------------------------------------


def test_requests_while_models_are_opened():
    """503 that says how far it is and when to come again, in each protocol's form; who leaves meanwhile leaves nothing."""
    n, seen = 6, set()
    while not {"/health", "/v1/models", CHAT} <= seen:  # more of them, where all are open before they were asked for
        n *= 2
        assert n < 400, seen
        ask_while_opened(n, seen)


def loading(n):
    """A server that opens n models, at the moment."""
    return Server(*[STORY] * n, *[w for i in range(n) for w in ("--alias", "m%d" % i)], wait=False)


def ask_while_opened(n, seen):
    s = loading(n)
    try:
        for half in (b"", b"POST /v1/comp", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"):
            with contextlib.closing(socket.create_connection(("127.0.0.1", s.port), timeout=PATIENCE_S)) as left:
                left.sendall(half)
        for method, path, body in (("GET", "/health", None), ("GET", "/v1/models", None), ("POST", CHAT, chat()), ("POST", TEXT, text(stream=True)),
                                   ("POST", "/v1/embeddings", {"input": "x"}), ("GET", "/slots", None), ("GET", "/metrics", None)):
            status, r, got = post(s, path, body, method=method)
            if status != 503:
                break  # they are open
            seen.add(path)
            assert got["error"] == {"message": "Loading model", "type": "unavailable_error", "param": None, "code": "model_loading"}
            assert r.getheader("Retry-After") == "1" and r.getheader("X-Should-Retry") is None
            assert set(got) == {"error", "status", "progress"} and got["status"] == "loading"
            assert got["progress"]["models"] == n and 0 <= got["progress"]["loaded"] < n
        assert post(s, "/version", None, method="GET")[0] == 200 and post(s, "/v1/none", None, method="GET")[0] == 404
        wait_until(lambda: post(s, "/health", None, method="GET")[0] == 200)
        assert post(s, CHAT, chat(model="m%d" % (n - 1)))[0] == 200
    finally:
        assert s.stop() == 0


def test_other_protocols_while_models_are_opened():
    def seen(n):
        """False when they were open before they were asked."""
        s = loading(n)
        try:
            message, chat_ = post(s, "/v1/messages", {"max_tokens": 1, "messages": [HI]}), post(s, "/api/chat", {"model": "m0", "messages": [HI]})
        finally:
            assert s.stop() == 0
        if chat_[0] == 200:
            return False
        status, r, got = message
        assert (status, r.getheader("Retry-After")) == (503, "1")
        assert got == {"type": "error", "error": {"type": got["error"]["type"], "message": "Loading model"}}
        status, r, got = chat_
        assert (status, got, r.getheader("Retry-After")) == (503, {"error": "Loading model"}, "1")
        return True
    assert any(map(seen, (12, 24, 48, 96, 192)))


def test_requests_at_the_end():
    """A connection that is still open gets a 503 that says so, while the last answer goes on."""
    assert any(told_at_the_end() for _ in range(10))


def test_who_waits_for_a_whole_answer_is_told_when_to_ask_again():
    assert any(told_when_to_ask_again() for _ in range(5))


def told_when_to_ask_again():
    """False when the connection was closed first: the last bytes of a server that ends have a second to leave."""
    s = Server(STORY, "--parallel", "1", "--ctx", str(ENDLESS))
    endless = text(max_tokens=ENDLESS - 100, ignore_eos=True)
    first, whole = s.connect(), s.connect()
    first.request("POST", TEXT, json.dumps({**endless, "stream": True}), JSON)
    first.getresponse().readline()
    whole.request("POST", TEXT, json.dumps(endless), JSON)
    wait_until(lambda: s.metric("requests_waiting"))
    s.process.send_signal(signal.SIGTERM)
    s.process.send_signal(signal.SIGINT)
    try:
        reply = whole.getresponse()
        said = json.loads(reply.read())
    except (http.client.HTTPException, ConnectionError):
        return False
    finally:
        s.stop()
    assert (reply.status, reply.getheader("Retry-After")) == (503, "5")
    assert said["error"]["code"] == "shutting_down"
    return True


def told_at_the_end():
    """False when the server, which waits some seconds for that answer, ended before it was asked."""
    s = Server(STORY, "--parallel", "1", "--ctx", str(ENDLESS))
    late, last = s.connect(), s.connect()
    late.request("GET", "/health")
    late.getresponse().read()
    last.request("POST", TEXT, json.dumps(text(max_tokens=ENDLESS - 100, ignore_eos=True, stream=True)), JSON)
    reply = last.getresponse()
    reply.readline()
    s.process.send_signal(signal.SIGTERM)
    told = []
    with contextlib.suppress(ConnectionError, http.client.HTTPException):  # it has ended
        while len(told) < 2:
            late.request(*(("POST", CHAT, json.dumps(user("Hi")), JSON) if told else ("GET", "/health")))
            r = late.getresponse()
            data = r.read()
            if r.status != 200:
                told.append((r.status, r.getheader("Retry-After"), json.loads(data)["error"]))
    s.process.send_signal(signal.SIGINT)  # do not wait any more
    events = [line[6:] for line in reply.read().decode().split("\n") if line.startswith("data: ")]
    assert json.loads(events[-1])["error"]["code"] == "shutting_down"
    assert s.process.wait(timeout=PATIENCE_S) == 0
    s.stop()
    want = (503, "5", {"message": "the server is ending", "type": "unavailable_error", "param": None, "code": "shutting_down"})
    assert told == [want] * len(told)
    return len(told) == 2
