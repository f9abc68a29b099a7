# SPDX-License-Identifier: MIT
"""rotor serve as HTTP: paths, methods, bodies in every form, what is wrong and what is too large."""
import json

from serve_rig import STORY, Server, talk


def test_unknown_paths_and_methods(server):
    assert server.ask("/v1/nothing", status=404)["error"]["code"] == "unknown_url"
    r, data = server.raw("GET", "/v1/chat/completions")
    assert r.status == 405 and r.getheader("Allow") == "POST" and json.loads(data)["error"]["code"] == "method_not_allowed"
    assert server.raw("PUT", "/v1/models")[0].status == 405
    assert server.raw("BREW", "/v1/models")[0].status in (405, 501)


def test_large_bodies(server):
    """Past the limit: 413 that says the limit, announced or not."""
    small = Server(STORY, "--max-body", "1")
    try:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for rest in (b"Content-Length: 3000000\r\n\r\n", b"Expect: 100-continue\r\nContent-Length: 3000000\r\n\r\n",
                     b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b" " * 0x100000 + b"\r\n10\r\n" + b" " * 16 + b"\r\n0\r\n\r\n"):
            got = talk(small, head + rest)
            assert got.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in got
            assert json.loads(got.split(b"\r\n\r\n", 1)[1]) == {"error": {
                "message": "the body is larger than 1048576 bytes (--max-body)", "type": "invalid_request_error", "param": None,
                "code": "request_too_large"}}
        assert small.ask("/health")["status"] == "ok"
    finally:
        assert small.stop() == 0
