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

from test_cli_harmony import THOUGHT, write_chain

STORY = os.environ["ROTOR_MODEL"]
KEY = "sk-of-the-test"

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


def slots_busy(server):
    return sum(s["is_processing"] for s in server.ask("/slots"))


def write_thinker(folder):
    return write_chain(folder / "thinker.gguf",
                       ["<|channel|>", "analysis", "<|message|>", THOUGHT, "<|end|>", "<|start|>", "assistant",
                        "<|channel|>", "final", "<|message|>", "**Four**.", "<|return|>"], thought=THOUGHT)


def write_caller(folder):
    return write_chain(folder / "caller.gguf",
                       [" to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{"a": 1}', "<|call|>"])
