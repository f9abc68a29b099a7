# SPDX-License-Identifier: MIT
"""What official clients do when something goes wrong: they come back after a 429 and never after a fault of their own, raise
what a stream breaks off with, and leave in the middle of one."""
import json
import re
import signal
import threading
import time

import anthropic
import openai
import pytest

ASK = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def busy():
    """A server with one place and one seat, and hold(): takes both for the seconds that a long answer takes."""
    from serve_rig import STORY, Server

    s = Server(STORY, "--parallel", "1", "--max-queue", "1", "--ctx", "4096")
    s.held = []

    def hold():
        for _ in range(2):
            c = s.connect()
            c.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 4000, "ignore_eos": True}),
                      {"Content-Type": "application/json"})
            s.held.append(c)
        end = time.time() + 20
        while (metric(s, "running"), metric(s, "waiting")) != (1, 1):
            assert time.time() < end
            time.sleep(0.01)
    s.hold, s.base = hold, "http://127.0.0.1:%d" % s.port
    yield s
    for c in s.held:
        c.close()
    assert s.stop() == 0


def metric(server, name):
    return int(re.search(r"^rotor_requests_%s (\d+)" % name, server.raw("GET", "/metrics")[1].decode(), re.M).group(1))


def answered(server, status):
    """Replies of that kind so far: "4xx"."""
    found = re.search(r'^rotor_http_requests_total\{status="%s"\} (\d+)' % status, server.raw("GET", "/metrics")[1].decode(), re.M)
    return int(found.group(1)) if found else 0


def leave_soon(server):
    def leave():
        time.sleep(0.5)
        for c in server.held:
            c.close()
    threading.Thread(target=leave).start()


def test_openai_comes_back_after_a_429(busy):
    busy.hold()
    client = openai.OpenAI(base_url=busy.base + "/v1", api_key="x", max_retries=0, timeout=60)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="x", messages=ASK, max_tokens=2)
    assert caught.value.code == "queue_full" and caught.value.response.headers["retry-after"] == "2"
    leave_soon(busy)
    before, start = answered(busy, "4xx"), time.time()
    got = client.with_options(max_retries=2).chat.completions.create(model="x", messages=ASK, max_tokens=2)
    assert got.usage.completion_tokens <= 2 and answered(busy, "4xx") - before >= 1 and time.time() - start > 1.5  # as it was told


def test_anthropic_comes_back_after_a_429(busy):
    busy.hold()
    client = anthropic.Anthropic(base_url=busy.base, api_key="x", max_retries=0, timeout=60)
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(model="x", messages=ASK, max_tokens=2)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    leave_soon(busy)
    assert client.with_options(max_retries=2).messages.create(model="x", messages=ASK, max_tokens=2).content


def test_no_fault_of_the_client_is_sent_again(busy):
    client = openai.OpenAI(base_url=busy.base + "/v1", api_key="x", max_retries=2, timeout=60)
    before = answered(busy, "4xx"), answered(busy, "5xx")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="x", messages=[{"role": "king", "content": "x"}])
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "word " * 9000}])
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_none")
    with pytest.raises(openai.InternalServerError, match="--embed"):  # 501: it would be sent again, but for x-should-retry
        client.embeddings.create(model="x", input="x")
    assert (answered(busy, "4xx"), answered(busy, "5xx")) == (before[0] + 3, before[1] + 1)


def test_a_stream_that_breaks_off_raises():
    from serve_rig import STORY, Server

    s = Server(STORY, "--parallel", "1", "--ctx", "4096")
    client = openai.OpenAI(base_url="http://127.0.0.1:%d/v1" % s.port, api_key="x", max_retries=0, timeout=60)
    parts = client.completions.create(model="x", prompt=["Once"] * 50, max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
    next(iter(parts))
    s.process.send_signal(signal.SIGTERM)
    s.process.send_signal(signal.SIGINT)
    with pytest.raises(openai.APIError) as caught:
        for _ in parts:
            pass
    assert caught.value.code == "shutting_down" and s.process.wait(timeout=20) == 0
    s.stop()


def test_leaving_a_stream_frees_its_place(busy):
    client = openai.OpenAI(base_url=busy.base + "/v1", api_key="x", max_retries=0, timeout=60)
    with client.chat.completions.create(model="x", messages=ASK, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}) as parts:
        next(iter(parts))
        assert metric(busy, "running") == 1
    end = time.time() + 10
    while metric(busy, "running"):
        assert time.time() < end
        time.sleep(0.01)
    with anthropic.Anthropic(base_url=busy.base, api_key="x", max_retries=0).messages.stream(
            model="x", messages=ASK, max_tokens=4000) as parts:
        next(iter(parts.text_stream))
    while metric(busy, "running"):
        assert time.time() < end + 10
        time.sleep(0.01)
