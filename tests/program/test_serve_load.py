# SPDX-License-Identifier: MIT
"""Many at once: every stream says what it would have said alone, whoever leaves beside it and wherever; nothing that a
client leaves behind stays. tools/serve_load.py does the same for hours, and with a clock."""
import argparse
import json
import os
import subprocess
import sys
import types

import pytest

from serve_rig import ENDLESS, STORY, Server, wait_until

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
sys.path.insert(0, os.path.join(ROOT, "tools"))
import serve_load  # noqa: E402


class Address:
    """What serve_load asks of a server, for one that runs already."""

    def __init__(self, server):
        self.address = ("127.0.0.1", server.port)

    call = serve_load.Server.call


@pytest.fixture(scope="module")
def server():
    s = Server(STORY, STORY, "--alias", "one", "--alias", "two", "--parallel", "3", "--max-queue", "64", "-c", "256")
    s.load = Address(s)
    s.files = len(os.listdir("/proc/%d/fd" % s.process.pid))
    yield s
    assert s.stop() == 0


def prompts(n, seed=1, length=(3, 30)):
    p = serve_load.Prompts(None, seed, 512)
    return [p.make(p.random.randrange(*length)) for _ in range(n)]


def settled(server):
    """Nobody is served any more, and no socket is left."""
    wait_until(lambda: not any(r["is_processing"] for m in ("one", "two") for r in server.ask("/slots?model=" + m)))
    wait_until(lambda: len(os.listdir("/proc/%d/fd" % server.process.pid)) <= server.files)


def alone(server, asked, tokens, model):
    return [serve_load.drive([server.load.call(p, tokens, model=model, cache_prompt=False)])[0].text() for p in asked]


@pytest.mark.threads
def test_streams_together_say_what_they_say_alone(server):
    asked = prompts(12)
    for model in ("one", "two"):
        want = alone(server, asked, 24, model)
        calls = [server.load.call(p, 24, model=m) for p in asked for m in ("one", "two")]
        got = serve_load.drive(calls)
        assert all(c.status == 200 and c.done for c in got)
        assert [c.text() for c in got] == [w for w in want for _ in range(2)]


@pytest.mark.threads
def test_leaving_at_every_state(server):
    """In the queue, in the prompt, in the answer: the others go on, and places, queue and sockets are free again."""
    asked = prompts(6, seed=2)
    want = alone(server, asked, 24, "one")
    long_ = prompts(4, seed=3, length=(200, 220))
    for bytes_ in (0, 1, 400):
        leaving = [server.load.call(p, 200, model="one", leave_after=bytes_, max_tokens=30) for p in long_]
        staying = [server.load.call(p, 24, model="one") for p in asked]
        queued = [server.load.call(p, 24, model="one", leave_after=0) for p in asked]
        for c in [c for c in leaving + queued if c.left]:
            c.socket.close()
        got = serve_load.drive(staying + [c for c in leaving if not c.left])
        assert [c.text() for c in got[:6]] == want and all(c.done for c in got[:6])
    settled(server)


def test_a_known_beginning_changes_nothing(server):
    p = prompts(1, seed=4, length=(150, 151))[0]
    cold, again, other = (serve_load.drive([server.load.call(q, 16, model="one")])[0] for q in (p, p, p[:-5] + [300]))
    assert cold.text() == again.text()
    assert again.timings()["cache_n"] == len(p) - 1 and other.timings()["cache_n"] == len(p) - 5
    assert other.text() == alone(server, [p[:-5] + [300]], 16, "one")[0]


def test_a_full_queue_says_so():
    s = Server(STORY, "--parallel", "1", "--max-queue", "2", "-c", str(ENDLESS))
    load, first = Address(s), s.hold()
    waiting = [load.call(p, 20) for p in prompts(2, seed=5)]
    wait_until(lambda: s.metric("requests_waiting") == 2)
    for c in serve_load.drive([load.call(p, 20) for p in prompts(9, seed=6)]):
        assert c.status == 429 and json.loads(c.body)["error"]["code"] == "queue_full" and b"Retry-After" in b"".join(c.pieces)
    first.close()
    assert all(c.status == 200 and c.done for c in serve_load.drive(waiting))
    assert s.stop() == 0


def test_the_load_program(tmp_path):
    """A second is too short to judge memory by, and a checker keeps what is freed."""
    out = tmp_path / "out.json"
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "serve_load.py"), "prefix,soak", os.environ["ROTOR_BINARY"],
                    STORY, "--vocab", "512", "--prompt", "100", "--rounds", "1", "--sequential", "20", "--seconds", "1", "--prompts", "2",
                    "--connections", "8", "--growth-kib", "65536", "--json", str(out)], check=True, capture_output=True, timeout=600)
    result = json.loads(out.read_text())
    soak = result["soak"]
    assert soak["lost"] == soak["mixed"] == soak["refused"] == 0 and soak["right"] > 20 and soak["failed"] == []
    assert soak["files_end"] <= soak["files_begin"] and result["prefix"]["kept"] == 92
    assert set(soak["by_protocol"]) == {"text", "chat", "responses", "messages", "ollama"} and min(soak["by_protocol"].values()) >= 4


def test_the_soak_finds_what_is_wrong(monkeypatch):
    """An answer of another prompt and a stream without its end do not go unseen."""
    s = Server(STORY, "--parallel", "2")
    o = argparse.Namespace(seconds=0, sequential=10, connections=4, prompts=1, growth_kib=1 << 20, seed=1)
    load = serve_load.Server(url="127.0.0.1:%d" % s.port)
    known = serve_load.reference(load, serve_load.Prompts(None, 1, 512), 1)
    text, *others = known
    for wrong, failed in ((known, []), ([(*text[:3], "something else"), *others], ["mixed answers"])):
        monkeypatch.setattr(serve_load, "reference", lambda *_: wrong)
        assert serve_load.soak(o, load, serve_load.Prompts(None, 1, 512))["failed"] == failed
    monkeypatch.setitem(serve_load.PROTOCOLS, "messages", (*serve_load.PROTOCOLS["messages"][:3], b"never said"))
    o.sequential = 30
    monkeypatch.setattr(serve_load, "reference", lambda *_: known)
    assert serve_load.soak(o, load, serve_load.Prompts(None, 1, 512))["failed"] == ["lost answers"]
    assert s.stop() == 0


@pytest.mark.parametrize("last, whole", [("created", False), ("output_text.delta", False), ("completed", True), ("incomplete", True)])
def test_a_cut_stream_of_responses_is_not_whole(last, whole):
    payload = b'event: response.created\ndata: {}\n\nevent: response.%s\ndata: {"output": []}\n\n' % last.encode()
    call = types.SimpleNamespace(status=200, body=None, payload=payload)
    assert serve_load.is_whole("responses", call) == whole
