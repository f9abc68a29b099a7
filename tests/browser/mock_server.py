# SPDX-License-Identifier: MIT
"""A server with the page and scripted answers, for what a healthy server and a small model never do.

The last message picks the answer: a name of ANSWERS begins it. Everything else is answered with
"You said: …". Requests are kept in server.requests, and `server.key` and `server.loading` make it
ask for a key or be busy loading.
"""
import http.server
import json
import pathlib
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CONTEXT = 512
HOSTILE = """# A <script>heading</script>
<script>window.harmed = 1</script> <img src=x onerror="window.harmed = 2"> <iframe srcdoc="<script>parent.harmed=3</script>"></iframe>
[click](javascript:window.harmed=4) [data](data:text/html,<script>window.harmed=5</script>) ![spy](http://127.0.0.1:1/spy.png)
[ok](https://example.org/a?b=c) <https://example.org/angle> <svg onload="window.harmed=6">

```html
<b onclick="window.harmed=7">code</b>
```
| a | <img src=x onerror=window.harmed=8> |
|---|---|
| `<script>` | **b** |
"""


GROUNDS = {"store": "notes", "used": True, "refused": False,
           "sources": [{"place": "/notes/deck.md:5-7", "heading": "Deck › Battery", "text": "A charge lasts nine hours."},
                       {"place": "/notes/<img src=x onerror=window.harmed=9>.md:1", "title": "", "heading": "", "text": HOSTILE, "suspicious": True}],
           "citations": [{"source": 1, "supported": True}, {"source": 2, "supported": False}]}


def pieces(text, size=7):
    return [{"content": text[i:i + size]} for i in range(0, len(text), size)]


ANSWERS = {
    "hostile": pieces(HOSTILE),
    "think": [{"reasoning_content": "First I "}, {"reasoning_content": "think."}, {"content": "Then I speak."}],
    "tool": [{"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
             {"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\":"}}]},
             {"tool_calls": [{"index": 0, "function": {"arguments": "\"Oslo\"}"}}]}],
    "slow": pieces("one two three four five six seven eight nine ten " * 400, 5),
    "cited": pieces("Nine hours [1]. Blue [1, 2], never [9]. `a[1]` stays."),
    "break": pieces("This half is kept"),
    "fail": pieces("This half is kept too"),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in [("content-type", kind), ("content-length", str(len(data))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, code, message, **more):
        self.reply(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code, **more}})

    def guarded(self):
        """Whether the request may go on; otherwise it has been answered."""
        if self.server.loading:
            self.refuse(503, "model_loading", "Loading model, 40 %.")
        elif self.server.key and self.headers.get("authorization") != "Bearer " + self.server.key:
            self.refuse(401, "invalid_api_key", "A key is needed.")
        else:
            return True
        return False

    def do_GET(self):
        if self.path == "/":
            html, policy = self.server.page
            self.reply(200, html.encode(), "text/html; charset=utf-8", [("content-security-policy", policy), ("x-content-type-options", "nosniff")])
        elif self.path == "/v1/models" and self.guarded():
            row = {"id": "mock-story", "object": "model", "n_ctx": CONTEXT, "n_params": 4_000_000}
            self.reply(200, {"object": "list", "data": [row] + ([{**row, "id": "mock-large", "n_ctx": 4096, "n_params": 8e9}] if self.server.two else [])})
        elif self.path == "/v1/rag/stores" and self.guarded():
            self.reply(200, {"object": "list", "data": [{"id": name, "writable": name in self.server.writable} for name in self.server.stores]})
        elif self.path.startswith(("/web/", "/tests/browser/")) and self.path.endswith((".js", ".html")):
            kind = "text/javascript" if self.path.endswith(".js") else "text/html; charset=utf-8"
            self.reply(200, (ROOT / self.path[1:]).read_bytes(), kind)
        elif self.path not in ("/v1/models", "/v1/rag/stores"):
            self.refuse(404, "unknown_url", "There is no " + self.path)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.gone:  # a connection that was kept from before
            self.close_connection = True
            return
        if not self.guarded():
            return
        self.server.requests.append(body)
        if self.path.endswith("/docs"):
            return self.take_document(body)
        said = body["messages"][-1]["content"]
        length = sum(len(message["content"]) for message in body["messages"]) // 4
        if length > CONTEXT:
            self.refuse(400, "context_length_exceeded", "maximum context length is %d tokens" % CONTEXT, n_prompt_tokens=length, n_ctx=CONTEXT)
        else:
            self.stream(said.split(" ")[0], ANSWERS.get(said.split(" ")[0]) or pieces("You said: " + said), length)

    def take_document(self, body):
        if "locked" in body["text"]:
            self.refuse(409, "store_locked", "another program is writing to this store")
        else:
            known = body.get("id") in self.server.documents
            self.server.documents[body.get("id")] = self.path
            self.reply(200, {"id": body.get("id"), "passages": 2, "replaced": known, "unchanged": False})

    def stream(self, name, deltas, n_prompt):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(b": waiting\n\n")
            self.chunk({"role": "assistant", "content": None})
            for delta in deltas:
                self.chunk(delta)
                if name == "slow":
                    time.sleep(0.02)
            if name == "break":
                return
            if name == "fail":
                self.event({"error": {"message": "The device is lost.", "type": "server_error", "param": None, "code": "internal_error"}})
                return
            self.chunk({}, "tool_calls" if name == "tool" else "stop", {"rag": GROUNDS} if name == "cited" else {})
            self.event({"id": "c", "choices": [], "model": "mock-story", "usage": {
                "prompt_tokens": n_prompt, "completion_tokens": len(deltas), "total_tokens": n_prompt + len(deltas)},
                "timings": {"predicted_per_second": 123.4, "prompt_ms": 5}})
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            self.server.left += 1
            self.server.someone_left.set()

    def chunk(self, delta, finish=None, more=None):
        self.event({"id": "c", "model": "mock-story", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **(more or {})})

    def event(self, data):
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")


class MockServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, page):
        super().__init__(("127.0.0.1", 0), Handler)
        self.page, self.requests = page, []
        self.left, self.someone_left = 0, threading.Event()
        self.key, self.loading, self.two, self.gone, self.stores = None, False, False, False, []
        self.writable, self.documents = [], {}
        self.url = "http://127.0.0.1:%d" % self.server_port
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def server_close(self):
        self.gone = True
        super().server_close()
