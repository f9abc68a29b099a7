# SPDX-License-Identifier: MIT
"""The official openai client, and every kind of reply against the schemas of OpenAI's own document."""
import base64
import json
import math
import struct

import openai
import pytest
from jsonschema import Draft202012Validator

THOUGHT = "Two and\033[31m two."
FUNCTION = {"name": "get_it", "description": "Gets it.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
TOOLS = [{"type": "function", "strict": None, **FUNCTION}]
ASK = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.base + "/v1", api_key=server.key, max_retries=0, timeout=300)


@pytest.fixture(scope="module")
def fits(source_root):
    """fits(NAME, value): value is what the schema of that name says."""
    document = json.loads((source_root / "tests" / "data" / "serve" / "openai_schemas.json").read_text())

    def check(name, value):
        schema = {"$ref": "#/components/schemas/" + name, **document}
        errors = list(Draft202012Validator(schema).iter_errors(value))
        assert not errors, "%s: %s" % (name, [(list(e.absolute_path), e.message[:300]) for e in errors[:3]])
    return check


# ---- The client -----------------------------------------------------------------------------------------------------


def test_models(client):
    names = [m.id for m in client.models.list()]
    assert names == ["stories260K", "thinker", "caller"] and client.models.retrieve("thinker").id == "thinker"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")


def test_chat(client):
    got = client.chat.completions.create(model="thinker", messages=ASK, temperature=0)
    assert got.choices[0].message.content == "**Four**." and got.choices[0].finish_reason == "stop"
    assert got.choices[0].message.reasoning_content == THOUGHT
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens
    with client.chat.completions.stream(model="thinker", messages=ASK, temperature=0) as s:
        assert s.get_final_completion().choices[0].message.content == "**Four**."
    call = client.chat.completions.create(model="caller", messages=ASK, tools=CHAT_TOOLS, temperature=0).choices[0].message.tool_calls[0]
    assert call.function.name == "get_it" and json.loads(call.function.arguments) == {"a": 1}
    with client.chat.completions.stream(model="caller", messages=ASK, tools=CHAT_TOOLS, temperature=0) as s:
        streamed = s.get_final_completion().choices[0].message.tool_calls
    assert [c.function.arguments for c in streamed] == ['{"a": 1}']


def test_completions(client):
    got = client.completions.create(model="stories260K", prompt=["Once", "Then"], max_tokens=4, temperature=0, logprobs=2)
    assert len(got.choices) == 2 and len(got.choices[0].logprobs.tokens) == 4
    parts = list(client.completions.create(model="stories260K", prompt="Once", max_tokens=4, temperature=0, stream=True))
    assert "".join(p.choices[0].text for p in parts) == got.choices[0].text


def test_usage_comes_last_in_a_stream(client):
    ask = {"model": "stories260K", "max_tokens": 4, "temperature": 0, "stream": True}
    for create, more in ((client.chat.completions.create, {"messages": ASK}), (client.completions.create, {"prompt": "Once"})):
        parts = list(create(**ask, **more, stream_options={"include_usage": True}))
        assert parts[-1].choices == [] and parts[-1].usage.completion_tokens == 4 and all(p.usage is None for p in parts[:-1])
        assert parts[-1].usage.total_tokens == parts[-1].usage.prompt_tokens + 4
        assert not any(p.usage for p in create(**ask, **more))


def test_embeddings(client):
    got = client.embeddings.create(model="stories260K", input=["A cat", "A dog"])  # asks for base64
    plain = client.embeddings.create(model="stories260K", input=["A cat", "A dog"], encoding_format="float")
    for a, b in zip(got.data, plain.data):
        assert all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(a.embedding, b.embedding))
    packed = client.embeddings.create(model="stories260K", input="A cat", encoding_format="base64").data[0].embedding
    assert struct.unpack("<%df" % len(plain.data[0].embedding), base64.b64decode(packed)) == pytest.approx(plain.data[0].embedding, abs=1e-6)
    ids = client.embeddings.create(model="stories260K", input=[[5, 6, 7], [8]])
    assert len(ids.data) == 2


def test_responses(client):
    got = client.responses.create(model="thinker", input="What is 2 + 2?", temperature=0)
    assert got.output_text == "**Four**." and [i.type for i in got.output] == ["reasoning", "message"]
    assert got.output[0].content[0].text == THOUGHT and got.usage.output_tokens_details.reasoning_tokens > 0
    more = client.responses.create(model="thinker", input="And 3?", previous_response_id=got.id, temperature=0)
    assert more.previous_response_id == got.id and more.usage.input_tokens > got.usage.input_tokens
    again = client.responses.retrieve(got.id)
    assert again.output_text == got.output_text
    assert client.responses.input_items.list(got.id).data[0].content
    client.responses.delete(got.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(got.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.responses.create(model="thinker", input="x", previous_response_id=got.id)


def test_responses_stream(client):
    with client.responses.stream(model="thinker", input="What is 2 + 2?", temperature=0) as s:
        kinds = [e.type for e in s]
        final = s.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed" and final.output_text == "**Four**."
    with client.responses.stream(model="caller", input="Get it", tools=TOOLS, temperature=0) as s:
        for _ in s:
            pass
        call = s.get_final_response().output[0]
    assert call.type == "function_call" and json.loads(call.arguments) == {"a": 1}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "got"}
    assert client.responses.create(model="caller", input=[{"role": "user", "content": "Get it"}, call.to_dict(), result], tools=TOOLS).output


def test_errors_have_their_classes(client, server):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.base + "/v1", api_key="wrong", max_retries=0).models.list()
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="none", input="x")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="thinker", input="word " * 3000)
    assert caught.value.code == "context_length_exceeded" and caught.value.request_id


# ---- The document ---------------------------------------------------------------------------------------------------


def ask(server, path, body, status=200):
    return server.ask(path, body, status, Authorization="Bearer " + server.key)


def chunks(server, path, body):
    r, data = server.raw("POST", path, json.dumps({**body, "stream": True}),
                         {"Content-Type": "application/json", "Authorization": "Bearer " + server.key})
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("model, more", [("stories260K", {"logprobs": True, "top_logprobs": 2}), ("thinker", {}), ("caller", {"tools": CHAT_TOOLS})])
def test_chat_is_as_documented(server, fits, model, more):
    body = {"model": model, "messages": ASK, "max_tokens": 12, **more}
    fits("CreateChatCompletionResponse", ask(server, "/v1/chat/completions", body))
    got = chunks(server, "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    assert len(got) > 3
    for chunk in got:
        fits("CreateChatCompletionStreamResponse", chunk)


@pytest.mark.parametrize("model, more", [("stories260K", {"instructions": "Be brief."}), ("thinker", {}), ("caller", {"tools": TOOLS}),
                                         ("thinker", {"max_output_tokens": 3})])
def test_responses_are_as_documented(server, fits, model, more):
    body = {"model": model, "input": "What is 2 + 2?", "max_output_tokens": 12, **more}
    fits("Response", ask(server, "/v1/responses", body))
    got = chunks(server, "/v1/responses", body)
    assert len(got) > 2
    for event in got:
        fits("ResponseStreamEvent", event)
        fits("Response", event.get("response", got[-1]["response"]))


def test_the_rest_is_as_documented(server, fits):
    text = {"model": "stories260K", "prompt": "Once", "max_tokens": 3}
    fits("CreateCompletionResponse", ask(server, "/v1/completions", {**text, "logprobs": 2}))
    for chunk in chunks(server, "/v1/completions", text):
        choice = chunk["choices"][0]
        choice["finish_reason"] = choice["finish_reason"] or "stop"  # null before the end: the document forgets streams here
        fits("CreateCompletionResponse", chunk)
    fits("CreateEmbeddingResponse", ask(server, "/v1/embeddings", {"model": "stories260K", "input": "x"}))
    fits("ListModelsResponse", ask(server, "/v1/models", None))
    fits("ErrorResponse", ask(server, "/v1/responses", {"model": "none", "input": "x"}, 404))
    fits("ErrorResponse", ask(server, "/v1/chat/completions", {"model": "thinker", "messages": 3}, 400))


def test_the_check_can_fail(server, fits):
    got = ask(server, "/v1/responses", {"model": "thinker", "input": "Hi"})
    for spoil in (lambda r: r.pop("created_at"), lambda r: r.update(object="thing"), lambda r: r["output"][0].pop("summary"),
                  lambda r: r["output"][1]["content"][0].pop("annotations"), lambda r: r["usage"].pop("input_tokens_details")):
        bad = json.loads(json.dumps(got))
        spoil(bad)
        with pytest.raises(AssertionError):
            fits("Response", bad)
