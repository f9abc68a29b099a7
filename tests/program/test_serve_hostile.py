# SPDX-License-Identifier: MIT
"""What a server must survive: raw sockets that say half of it, too much or nonsense, and every field of a request
with every wrong type. Each gets the status and the error object of the API, and whoever comes next an answer as ever."""
import contextlib
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_rig import PATIENCE_S, STORY, Server, wait_until

FAULT = {"type", "message", "param", "code"}
ASK = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
TALK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def server():
    s = Server(STORY, "--parallel", "2", "--max-body", "1", "--max-connections", "60")
    s.alone = s.ask(TEXT, ASK)["choices"][0]["text"]
    yield s
    assert s.ask(TEXT, ASK)["choices"][0]["text"] == s.alone
    assert s.stop() == 0


def post(body, path=TEXT, length=None, more=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = len(body) if length is None else length
    return ("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %s\r\n%s\r\n" % (
        path, length, more)).encode() + body


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def replies(sock, n=1):
    """(status, headers, body) of n replies on one socket; fewer when it is closed."""
    data, out = b"", []
    while len(out) < n:
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return out
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        size = int(headers.get("content-length", 0))
        while len(data) < size:
            data += sock.recv(65536)
        out.append((int(lines[0].split()[1]), headers, data[:size]))
        data = data[size:]
    return out


def say(server, raw, n=1):
    with contextlib.closing(connect(server)) as s:
        s.sendall(raw)
        return replies(s, n)


def refused(server, raw, status=400, code=None, param=0):
    """The reply to raw is an error object with that status."""
    got = say(server, raw)
    assert got, "no reply to %r" % raw[:200]
    assert got[0][0] == status, (got[0], raw[:300])
    assert got[0][1]["content-type"] == "application/json" and got[0][2].endswith(b"\n")
    fault = json.loads(got[0][2])["error"]
    assert FAULT <= set(fault) and isinstance(fault["message"], str) and isinstance(fault["type"], str)
    assert all(fault[k] is None or isinstance(fault[k], str) for k in ("param", "code"))
    assert code is None or fault["code"] == code, fault
    assert param == 0 or fault["param"] == param, fault
    return fault


# ---- Bytes ----------------------------------------------------------------------------------------------------------


def test_limits(server):
    large = json.dumps({"prompt": "x" * (1 << 20)}).encode()
    refused(server, post(large), 413, "request_too_large")
    refused(server, post(b"", length=1 << 40), 413, "request_too_large")
    refused(server, post(b"", length=1 << 40, more="Expect: 100-continue\r\n"), 413, "request_too_large")
    chunks = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks += b"Transfer-Encoding: chunked\r\n\r\n"
    piece = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
    refused(server, chunks + piece * 18 + b"0\r\n\r\n", 413, "request_too_large")
    huge = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * (1 << 20) + b"\r\n\r\n"
    with contextlib.closing(connect(server)) as s:
        with contextlib.suppress(ConnectionError):
            s.sendall(huge)
            got = replies(s)
            assert not got or got[0][0] in (400, 413, 431)
    words = {"prompt": "word " * 20000, "max_tokens": 1}
    fault = refused(server, post(words), 400, "context_length_exceeded")
    assert "context" in fault["message"]
    refused(server, post({"prompt": ["a"] * 3000}), 400, "invalid_value", "prompt")
    refused(server, post({"prompt": [5] * 60000}), 400, "context_length_exceeded")


def processor_s(server):
    """Seconds of processor time that it has taken."""
    with open("/proc/%d/stat" % server.process.pid) as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def test_many_messages_take_no_time(server):
    """Nothing a message asks for may cost the square of their number."""
    results = [{"role": "tool", "tool_call_id": "x", "content": "a"}] * 15000
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 6000 + TALK["messages"]
    for body, status in (({"messages": results}, 400), ({"messages": turns, "truncation": "auto"}, 200)):
        start = processor_s(server)
        assert say(server, post({**body, "max_tokens": 1}, CHAT))[0][0] == status
        assert processor_s(server) - start < 8


def test_a_conversation_keeps_what_fits(server):
    """Halving finds what dropping one turn after another would."""
    turns = [{"role": "user" if i % 2 == 0 else "assistant", "content": "word %d" % i} for i in range(121)]
    cut = server.ask(CHAT, {"messages": turns, "max_tokens": 1, "truncation": "auto"})["usage"]["prompt_tokens"]
    n_ctx = server.ask("/v1/models")["data"][0]["n_ctx"]
    fits = []
    for first in range(0, len(turns), 2):
        r, data = server.raw("POST", CHAT, json.dumps({"messages": turns[first:], "max_tokens": 1}),
                             {"Content-Type": "application/json"})
        if r.status == 200:
            fits.append(json.loads(data)["usage"]["prompt_tokens"])
    assert cut == max(fits) < n_ctx


def test_lines_that_are_no_http(server):
    for raw in (b"\r\n\r\n\r\n", b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n", b"\x16\x03\x01" * 40,
                b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 1000 + b"\r\n\r\n",
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5x\r\n\r\nabcde"):
        with contextlib.closing(connect(server)) as s:
            s.settimeout(0.5)
            with contextlib.suppress(OSError):
                s.sendall(raw)
                s.shutdown(socket.SHUT_WR)
                for status, _, _ in replies(s):
                    assert 400 <= status < 600
    for method in ("BREW", "PUT", "DELETE", "PATCH", "TRACE"):
        fault = refused(server, ("%s /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n" % method).encode(), 405)
        assert fault["code"] == "method_not_allowed"
    for path in ("/v1/none", "/../etc/passwd", "/%ff", "/v1/completions/../models"):
        refused(server, ("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path).encode(), 404, "unknown_url")
    refused(server, b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "host_not_allowed")
    refused(server, post(ASK).replace(b"application/json", b"text/plain"), 415, "unsupported_media_type")


# ---- Clients --------------------------------------------------------------------------------------------------------


def test_one_behind_the_other_on_a_connection(server):
    """Requests that do not wait for replies are answered in their order, good and bad alike."""
    raw = post(ASK) + post(b"{") + post(ASK) + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + post({"prompt": 5}) + post(ASK)
    got = say(server, raw, 6)
    assert [status for status, _, _ in got] == [200, 400, 200, 200, 400, 200]
    assert [json.loads(got[i][2])["choices"][0]["text"] for i in (0, 2, 5)] == [server.alone] * 3


def open_files(server):
    return len(os.listdir("/proc/%d/fd" % server.process.pid))


def test_halves(server):
    """Clients that leave in the middle of anything leave no connection behind; slow ones get their answer."""
    raw, before = post(ASK), open_files(server)
    for cut in list(range(0, len(raw), 17)):
        with contextlib.closing(connect(server)) as s:
            s.sendall(raw[:cut])
    wait_until(lambda: open_files(server) <= before)
    with contextlib.closing(connect(server)) as s:
        for i in range(0, len(raw), 8):
            s.sendall(raw[i:i + 8])
            time.sleep(0.005)
        assert json.loads(replies(s)[0][2])["choices"][0]["text"] == server.alone


@pytest.mark.threads
def test_silent_ones_leave_room(server):
    """Connections that say nothing, or never read, do not keep others from their answers."""
    idle = [connect(server) for _ in range(20)]
    deaf = [connect(server) for _ in range(6)]
    for s in deaf:
        s.sendall(post({**ASK, "max_tokens": 200, "stream": True, "ignore_eos": True}))
    for i, s in enumerate(idle):
        s.sendall(b"POST /v1/comp"[:i % 14])
    assert server.ask(TEXT, ASK)["choices"][0]["text"] == server.alone
    for s in idle + deaf:
        s.close()


def is_cut(server, begins, more):
    """Whether the server ends a connection on which a little comes again and again."""
    s = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    s.sendall(begins)
    s.settimeout(0.05)
    end = time.monotonic() + 55  # silence would be cut after 60 s
    try:
        while time.monotonic() < end:
            s.sendall(more)
            try:
                if not s.recv(4096):
                    return True
            except socket.timeout:
                pass
        return False
    except OSError:
        return True
    finally:
        s.close()


def test_requests_that_come_byte_by_byte_end():
    s = Server(STORY, "--request-seconds", "1")
    kept = s.connect()
    kept.request("GET", "/health")
    assert kept.getresponse().read()
    post = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    slow = [(b"GET /heal", b"t"), (post + b"X-More: ", b"x"), (post + b"Content-Length: 100000\r\n\r\n", b" "),
            (post + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
            (post.replace(b"/v1/", b"/no/") + b"Content-Length: 60000\r\n\r\n", b" ")]  # refused, and read all the same
    with ThreadPoolExecutor(len(slow)) as pool:
        assert all(pool.map(lambda what: is_cut(s, *what), slow))
    kept.request("GET", "/health")  # has longer to begin another
    assert kept.getresponse().status == 200
    kept.close()
    assert s.stop() == 0


# ---- Fields ---------------------------------------------------------------------------------------------------------

NUMBERS = ("temperature", "top_p", "min_p", "top_k", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed",
           "max_tokens", "max_completion_tokens", "n")
WRONG = {**{k: ("1", True, [1], {"a": 1}) for k in NUMBERS},
         "stream": (1, "true", [], {}), "stop": (1, True, [1], [None], {"a": "b"}, ["a"] * 17),
         "logit_bias": (1, "1", True, {"a": 1}, {"1": "x"}, {"-1": 1}, {"1": 101}, {"99999999999": 1}, [[1]], [["1", 2]]),
         "stream_options": (1, "a", True, [1], {"include_usage": 1}), "model": (1, True, [], {})}
RANGES = {"temperature": (-1, 1e9), "top_p": (-0.1, 1.1), "n": (0, -1, 9, 1.5), "max_tokens": (-2, 1.5, 1e18),
          "top_k": (1.5, -2), "repeat_penalty": (0, -1), "presence_penalty": (-2.1, 2.1), "seed": (1e300, 0.5)}


@pytest.mark.parametrize("path, base", [(TEXT, ASK), (CHAT, TALK)])
def test_wrong_types(server, path, base):
    for table in (WRONG, RANGES):
        for key, values in table.items():
            for value in values:
                fault = refused(server, post({**base, key: value}, path), 400, "invalid_value")
                assert fault["param"] and fault["param"].split(".")[0] == key, (key, value, fault)
    status, _, data = say(server, post({**base, **{k: None for k in WRONG}, "made_up": {"deep": [1, 2]}}, path))[0]
    assert status == 200, data


def test_no_line_of_the_log_is_a_clients(server):
    """A path with line ends, colours and bytes that are no text stays one line of plain characters."""
    refused(server, b"GET /a%0aGET%20/forged%1b[31m%ff%c2%9bx HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "unknown_url")
    line, = server.logged("forged")
    assert r"GET /a\nGET /forged?[31m??x 404" in line and "\x1b" not in "".join(server.log)
