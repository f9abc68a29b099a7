# SPDX-License-Identifier: MIT
"""rotor serve as its clients meet it: a real server on a free port, plain http.client and raw sockets."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

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
