# SPDX-License-Identifier: MIT
"""What the tests of rotor serve share: a real server on a free port, plain http.client and raw sockets, and models that
say what is written in them. The servers that several files ask are fixtures in conftest.py."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from test_cli_harmony import THOUGHT, write_chain

STORY = os.environ["ROTOR_MODEL"]
KEY = "sk-of-the-test"
PATIENCE_S = 120  # for what happens at once on a machine that is not busy
ENDLESS = 100000  # --ctx of servers whose answers last for minutes, and so for as long as a test wants

TOOLS = [{"type": "function", "function": {"name": "get_it", "description": "Gets it.", "parameters": {}}},
         {"type": "code_interpreter"}, {"type": "function", "function": {"name": "other"}}]


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

    def connect(self, timeout=PATIENCE_S):
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

    def logged(self, text):
        """The lines with that text, of which there must be one some time: the log comes beside the answers."""
        return wait_until(lambda: [line for line in list(self.log) if text in line])

    def metric(self, name):
        """What /metrics says, which runs a little behind the answers."""
        return int(re.search(r"^rotor_%s (\d+)" % name, self.raw("GET", "/metrics")[1].decode(), re.M).group(1))

    def hold(self, **more):
        """Takes a place with an answer that goes on until the connection, which is returned, is closed."""
        c, before = self.connect(), self.metric("requests_running")
        body = {"prompt": "Once", "max_tokens": ENDLESS - 100, "ignore_eos": True, **more}
        c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        wait_until(lambda: self.metric("requests_running") > before)
        return c

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=PATIENCE_S)
        self.reader.join(timeout=PATIENCE_S)
        self.process.stderr.close()
        return status


def wait_until(true, seconds=PATIENCE_S):
    """What it becomes when it is true."""
    end = time.monotonic() + seconds
    while not (got := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return got


def user(text, **more):
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 12, **more}


def complete(server, **more):
    return server.ask("/v1/completions", {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 8, **more})


def events(server, path, body):
    """[(event, data)] of a stream, as they came; comments are left out."""
    r, data = server.raw("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    assert r.status == 200 and r.getheader("Content-Type") == "text/event-stream", data
    blocks = [b for b in data.decode().split("\n\n") if b and not b.startswith(":")]
    out = []
    for b in blocks:
        name, _, rest = b.partition("\n")
        assert name.startswith("event: ") and rest.startswith("data: ") and "\n" not in rest
        out.append((name[7:], json.loads(rest[6:])))
    return out


def talk(server, data):
    """What comes back until the server closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as s:
        s.sendall(data)
        while piece := s.recv(65536):
            got += piece
    return got


def slots_busy(server):
    return sum(s["is_processing"] for s in server.ask("/slots"))


def write_thinker(folder):
    return write_chain(folder / "thinker.gguf",
                       ["<|channel|>", "analysis", "<|message|>", THOUGHT, "<|end|>", "<|start|>", "assistant",
                        "<|channel|>", "final", "<|message|>", "**Four**.", "<|return|>"], thought=THOUGHT)


def write_caller(folder):
    return write_chain(folder / "caller.gguf",
                       [" to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{"a": 1}', "<|call|>"])
