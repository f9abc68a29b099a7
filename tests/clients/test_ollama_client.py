# SPDX-License-Identifier: MIT
"""The official ollama client."""
import ollama
import pytest

THOUGHT = "Two and\033[31m two."
ASK = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(host=server.base, headers={"Authorization": "Bearer " + server.key}, timeout=300)


def get_it(a: int) -> str:
    """Gets it."""
    return "got %d" % a


def test_chat(client):
    got = client.chat("thinker", ASK)
    assert got.message.content == "**Four**." and got.message.thinking == THOUGHT and got.done_reason == "stop"
    parts = list(client.chat("thinker", ASK, stream=True, think=True))
    assert "".join(p.message.content for p in parts) == "**Four**." and parts[-1].eval_count == 11
    call = client.chat("caller", ASK, tools=[get_it]).message.tool_calls[0]
    assert call.function.name == "get_it" and call.function.arguments == {"a": 1}
    talk = ASK + [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "tool_name": "get_it", "content": get_it(1)}]
    assert client.chat("caller", talk, tools=[get_it]).message.tool_calls


def test_generate(client):
    got = client.generate("stories260K", "Once upon a time", options={"num_predict": 8, "temperature": 0})
    assert got.response and got.eval_count == 8 and got.total_duration > 0
    parts = list(client.generate("stories260K", "Once upon a time", options={"num_predict": 8, "temperature": 0}, stream=True))
    assert "".join(p.response for p in parts) == got.response
    assert client.generate("stories260K", "and", context=got.context).prompt_eval_count > len(got.context)


def test_vectors(client):
    got = client.embed("stories260K", ["A cat", "A dog"])
    assert len(got.embeddings) == 2 and got.prompt_eval_count > 2
    assert len(client.embeddings("stories260K", "A cat").embedding) == len(got.embeddings[0])


def test_models(client):
    assert [m.model for m in client.list().models] == ["stories260K", "thinker", "caller"]
    shown = client.show("thinker")
    assert "thinking" in shown.capabilities and shown.modelinfo["general.architecture"] == "llama"
    assert client.ps().models[0].context_length == 1024 and client.pull("thinker").status == "success"
    with pytest.raises(ollama.ResponseError, match="rotor pull"):
        client.pull("none")
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("none", ASK)
    assert caught.value.status_code == 404
