# SPDX-License-Identifier: MIT
"""The official anthropic client."""
import anthropic
import pytest

THOUGHT = "Two and\033[31m two."
TOOLS = [{"name": "get_it", "description": "Gets it.", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}]
ASK = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture(scope="module")
def client(server):
    return anthropic.Anthropic(base_url=server.base, api_key=server.key, max_retries=0, timeout=300)


def test_messages(client):
    got = client.messages.create(model="thinker", max_tokens=40, messages=ASK, system="Be brief.")
    assert [b.type for b in got.content] == ["thinking", "text"] and got.content[0].thinking == THOUGHT
    assert got.content[1].text == "**Four**." and got.stop_reason == "end_turn" and got.usage.output_tokens == 11
    talk = ASK + [{"role": "assistant", "content": got.content}, {"role": "user", "content": "Sure?"}]
    assert client.messages.create(model="thinker", max_tokens=40, messages=talk).usage.cache_read_input_tokens > 0


def test_streams(client):
    with client.messages.stream(model="thinker", max_tokens=40, messages=ASK) as s:
        assert "".join(s.text_stream) == "**Four**."
        final = s.get_final_message()
    assert final.content[0].thinking == THOUGHT and final.stop_reason == "end_turn" and final.usage.output_tokens == 11
    kinds = [e.type for e in client.messages.create(model="stories260K", max_tokens=8, messages=ASK, stream=True)]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"


def test_tools(client):
    with client.messages.stream(model="caller", max_tokens=40, messages=ASK, tools=TOOLS) as s:
        use = s.get_final_message().content[0]
    assert use.type == "tool_use" and use.name == "get_it" and use.input == {"a": 1}
    talk = ASK + [{"role": "assistant", "content": [use.model_dump(exclude_none=True)]},
                  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "got"}]}]
    assert client.messages.create(model="caller", max_tokens=40, messages=talk, tools=TOOLS).stop_reason == "tool_use"


def test_counting(client):
    n = client.messages.count_tokens(model="thinker", messages=ASK).input_tokens
    usage = client.messages.create(model="thinker", max_tokens=1, messages=ASK).usage
    assert n == usage.input_tokens + usage.cache_read_input_tokens


def test_errors_have_their_classes(client, server):
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=server.base, api_key="wrong", max_retries=0).messages.create(model="thinker", max_tokens=1, messages=ASK)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="none", max_tokens=1, messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(model="thinker", max_tokens=1, messages=[{"role": "user", "content": "word " * 3000}])
