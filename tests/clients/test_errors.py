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
    """A server with one place and one seat, and take_both(): until the connections in held are closed."""
    from serve_rig import ENDLESS, STORY, Server, wait_until

    s = Server(STORY, "--parallel", "1", "--max-queue", "1", "--ctx", str(ENDLESS))
    s.held = []

    def take_both():
        s.held += [s.hold(), s.connect()]
        s.held[1].request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 4000, "ignore_eos": True}),
                          {"Content-Type": "application/json"})
        wait_until(lambda: s.metric("requests_waiting") == 1)
    s.take_both, s.base, s.until = take_both, "http://127.0.0.1:%d" % s.port, wait_until
    yield s
    for c in s.held:
        c.close()
    assert s.stop() == 0


def answered(server, status):
    """Replies of that kind so far: "4xx"."""
    found = re.search(r'^rotor_http_requests_total\{status="%s"\} (\d+)' % status, server.raw("GET", "/metrics")[1].decode(), re.M)
    return int(found.group(1)) if found else 0


def leave_behind_a_429(server):
    """The places are free when one more request has been refused."""
    before = answered(server, "4xx")

    def leave():
        server.until(lambda: answered(server, "4xx") > before)
        for c in server.held:
            c.close()
    thread = threading.Thread(target=leave)
    thread.start()
    return thread


def test_openai_comes_back_after_a_429(busy):
    busy.take_both()
    client = openai.OpenAI(base_url=busy.base + "/v1", api_key="x", max_retries=0, timeout=300)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="x", messages=ASK, max_tokens=2)
    assert caught.value.code == "queue_full" and caught.value.response.headers["retry-after"] == "2"
    busy.until(lambda: answered(busy, "4xx") == 1)  # a reply is counted when it has been sent
    refused, start = leave_behind_a_429(busy), time.time()
    got = client.with_options(max_retries=20).chat.completions.create(model="x", messages=ASK, max_tokens=2)
    refused.join()
    assert got.usage.completion_tokens <= 2 and time.time() - start > 1.5  # as it was told


def test_anthropic_comes_back_after_a_429(busy):
    busy.take_both()
    client = anthropic.Anthropic(base_url=busy.base, api_key="x", max_retries=0, timeout=300)
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(model="x", messages=ASK, max_tokens=2)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    busy.until(lambda: answered(busy, "4xx") == 1)
    refused = leave_behind_a_429(busy)
    assert client.with_options(max_retries=20).messages.create(model="x", messages=ASK, max_tokens=2).content
    refused.join()


def test_no_fault_of_the_client_is_sent_again(busy):
    client = openai.OpenAI(base_url=busy.base + "/v1", api_key="x", max_retries=2, timeout=300)
    before = answered(busy, "4xx"), answered(busy, "5xx")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="x", messages=[{"role": "king", "content": "x"}])
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "word " * 110000}])
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_none")
    with pytest.raises(openai.InternalServerError, match="--embed"):  # 501: it would be sent again, but for x-should-retry
        client.embeddings.create(model="x", input="x")
    busy.until(lambda: (answered(busy, "4xx"), answered(busy, "5xx")) >= (before[0] + 3, before[1] + 1))
    assert (answered(busy, "4xx"), answered(busy, "5xx")) == (before[0] + 3, before[1] + 1)


def test_a_stream_that_breaks_off_raises():
    from serve_rig import STORY, Server

    s = Server(STORY, "--parallel", "1", "--ctx", "4096")
    client = openai.OpenAI(base_url="http://127.0.0.1:%d/v1" % s.port, api_key="x", max_retries=0, timeout=300)
    parts = client.completions.create(model="x", prompt=["Once"] * 50, max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
    next(iter(parts))
    s.process.send_signal(signal.SIGTERM)
    s.process.send_signal(signal.SIGINT)
    with pytest.raises(openai.APIError) as caught:
        for _ in parts:
            pass
    assert caught.value.code == "shutting_down" and s.process.wait(timeout=120) == 0
    s.stop()


def test_leaving_a_stream_frees_its_place(busy):
    client = openai.OpenAI(base_url=busy.base + "/v1", api_key="x", max_retries=0, timeout=300)
    with client.chat.completions.create(model="x", messages=ASK, max_tokens=90000, stream=True, extra_body={"ignore_eos": True}) as parts:
        next(iter(parts))
        busy.until(lambda: busy.metric("requests_running") == 1)
    busy.until(lambda: not busy.metric("requests_running"))
    with anthropic.Anthropic(base_url=busy.base, api_key="x", max_retries=0).messages.stream(
            model="x", messages=ASK, max_tokens=90000) as parts:
        next(iter(parts.text_stream))
    busy.until(lambda: not busy.metric("requests_running"))
