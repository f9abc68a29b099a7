# SPDX-License-Identifier: MIT
"""rotor serve as HTTP: paths, methods, bodies in every form, what is wrong and what is too large."""
import json

import pytest

from serve_rig import STORY, Server, talk, user


def test_unknown_paths_and_methods(server):
    assert server.ask("/v1/nothing", status=404)["error"]["code"] == "unknown_url"
    r, data = server.raw("GET", "/v1/chat/completions")
    assert r.status == 405 and r.getheader("Allow") == "POST" and json.loads(data)["error"]["code"] == "method_not_allowed"
    assert server.raw("PUT", "/v1/models")[0].status == 405
    assert server.raw("BREW", "/v1/models")[0].status in (405, 501)


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
