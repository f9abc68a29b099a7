# SPDX-License-Identifier: MIT
"""rotor serve over time: clients that leave, wait, do not read, or come all at once."""
import json
import select
import signal
import threading
import time

import pytest

from serve_rig import ENDLESS, PATIENCE_S, STORY, Server, slots_busy, wait_until


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


def test_a_large_request_leaves_places_to_others(server):
    """A request for a thousand answers, which last for half a minute, does not make the next one wait for all of them."""
    many = server.connect()
    many.request("POST", "/v1/completions", json.dumps({"prompt": ["Once"] * 1000, "max_tokens": 480, "ignore_eos": True}),
                 {"Content-Type": "application/json"})
    wait_until(lambda: slots_busy(server) == 4)
    server.ask("/v1/completions", {"prompt": "Tom", "max_tokens": 5})
    assert not select.select([many.sock], [], [], 0)[0]  # it goes on
    many.close()
    wait_until(lambda: not slots_busy(server))


def test_a_full_queue_says_when_to_come_back():
    """429 with Retry-After, and nobody who waits is lost."""
    s = Server(STORY, "--parallel", "1", "--max-queue", "1", "--ctx", str(ENDLESS))
    try:
        first, second = s.hold(), s.connect()
        short = json.dumps({"prompt": "Once", "max_tokens": 3}), {"Content-Type": "application/json"}
        second.request("POST", "/v1/completions", *short)
        wait_until(lambda: s.metric("requests_waiting") == 1)
        for _ in range(4):
            r, body = s.raw("POST", "/v1/completions", *short)
            assert r.status == 429 and int(r.getheader("Retry-After")) >= 1 and r.getheader("X-Should-Retry") is None
            assert json.loads(body) == {"error": {"message": "1 requests are waiting already (--max-queue); try again", "param": None,
                                                  "type": "rate_limit_error", "code": "queue_full"}}
        first.close()
        r = second.getresponse()
        assert r.status == 200 and json.loads(r.read())["usage"]["completion_tokens"] == 3
        second.close()
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


def test_a_stream_is_ended_properly():
    """At the end of the server a stream gets an error event, not a broken connection, and the exit status is 0."""
    s = Server("embedded", "--parallel", "1", "--ctx", "512")
    c = s.connect()
    c.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 100000, "ignore_eos": True, "n": 8, "stream": True}),
              {"Content-Type": "application/json"})
    r = c.getresponse()
    while not (line := r.readline()).startswith(b"data: "):
        assert line  # that it is being worked on
    s.process.send_signal(signal.SIGTERM)
    s.process.send_signal(signal.SIGINT)  # the second one: do not wait
    rest = r.read().decode()
    events = [line[6:] for line in rest.split("\n") if line.startswith("data: ")]
    assert events and (events[-1] == "[DONE]" or json.loads(events[-1])["error"]["code"] == "shutting_down")
    assert s.process.wait(timeout=PATIENCE_S) == 0
    s.stop()
