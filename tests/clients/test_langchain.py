# SPDX-License-Identifier: MIT
"""LangChain's chat model and embeddings for OpenAI, over both of its protocols."""
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

TOOL = {"type": "function", "function": {"name": "get_it", "description": "Gets it.",
                                         "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}


def chat(server, model, **more):
    return ChatOpenAI(base_url=server.base + "/v1", api_key=server.key, model=model, temperature=0, max_retries=0, **more)


def text_of(message):
    return message.content if isinstance(message.content, str) else "".join(
        b.get("text", "") for b in message.content if b.get("type") == "text")


@pytest.mark.parametrize("responses", [False, True])
def test_chat(server, responses):
    model = chat(server, "thinker", use_responses_api=responses)
    got = model.invoke("What is 2 + 2?")
    assert text_of(got) == "**Four**." and got.usage_metadata["output_tokens"] == 11
    assert got.usage_metadata["output_token_details"]["reasoning"] > 0
    whole = None
    for part in chat(server, "thinker", use_responses_api=responses, stream_usage=True).stream("What is 2 + 2?"):
        whole = part if whole is None else whole + part
    assert text_of(whole) == "**Four**." and whole.usage_metadata["output_tokens"] == 11


@pytest.mark.parametrize("responses", [False, True])
def test_tools(server, responses):
    model = chat(server, "caller", use_responses_api=responses).bind_tools([TOOL])
    for got in (model.invoke("Get it"), sum_of(model.stream("Get it"))):
        assert [(c["name"], c["args"]) for c in got.tool_calls] == [("get_it", {"a": 1})]
    talk = [HumanMessage("Get it"), AIMessage(content=got.content, tool_calls=got.tool_calls),
            ToolMessage("got", tool_call_id=got.tool_calls[0]["id"])]
    assert model.invoke(talk).tool_calls


def sum_of(parts):
    whole = None
    for part in parts:
        whole = part if whole is None else whole + part
    return whole


def test_embeddings(server):
    model = OpenAIEmbeddings(base_url=server.base + "/v1", api_key=server.key, model="stories260K", check_embedding_ctx_length=False,
                             max_retries=0)
    vectors = model.embed_documents(["text %d" % i for i in range(40)])
    assert len(vectors) == 40 and len(vectors[0]) == len(model.embed_query("text"))
    assert abs(sum(x * x for x in vectors[7]) - 1) < 1e-4
