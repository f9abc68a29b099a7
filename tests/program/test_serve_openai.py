# SPDX-License-Identifier: MIT
"""OpenAI's chat and completions at rotor serve: what clients send, and the shape of what they get."""
import pytest

from serve_rig import STORY, Server, user


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
    assert Server(STORY).stop() == 0


def test_truncation_is_asked_for_and_told(server):
    """truncation: auto drops the oldest turns, keeps system text and the last turn, and says so."""
    turns = [{"role": "system", "content": "Be brief."}]
    for i in range(60):
        turns += [{"role": "user", "content": "Question %d about dogs?" % i}, {"role": "assistant", "content": "Woof %d." % i}]
    turns.append({"role": "user", "content": "The last question"})
    server.ask("/v1/chat/completions", {"messages": turns}, status=400)
    got = server.ask("/v1/chat/completions", {"messages": turns, "truncation": "auto", "max_tokens": 4})
    assert got["truncation"]["dropped_tokens"] > 100 and got["truncation"]["dropped_messages"] % 2 == 0
    last = server.stream("/v1/chat/completions", {"messages": turns, "truncation": "auto", "max_tokens": 4})[-1]
    assert last["truncation"] == got["truncation"]
    assert "truncation" not in server.ask("/v1/chat/completions", user("Hi", truncation="auto"))
    server.ask("/v1/chat/completions", user("Hi", truncation="maybe"), status=400)
