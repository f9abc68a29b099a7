# SPDX-License-Identifier: MIT
"""OpenAI's Responses protocol at rotor serve: every event in its order, items in and out, responses that are continued.

Two models are chains (test_cli_harmony.py) and say what is written there: one thinks and answers, one calls a function.
"""
import http.client
import json

import pytest

from serve_rig import STORY, Server, events, write_caller, write_thinker
from test_cli_harmony import THOUGHT

TOOLS = [{"type": "function", "name": "get_it", "description": "Gets it.", "strict": None,
          "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    s = Server(STORY, str(write_thinker(folder)), str(write_caller(folder)), "--parallel", "2", "--ctx", "1024")
    yield s
    assert s.stop() == 0


def ask(server, status=200, **body):
    body.setdefault("model", "stories260K")
    return server.ask("/v1/responses", {"temperature": 0, "max_output_tokens": 12, **body}, status)


def stream(server, **body):
    body.setdefault("model", "stories260K")
    got = events(server, "/v1/responses", {"temperature": 0, "max_output_tokens": 12, **body})
    assert all(name == e["type"] for name, e in got)
    assert [e["sequence_number"] for _, e in got] == list(range(len(got)))
    return [e for _, e in got]


def text_of(response):
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


# ---- Streams --------------------------------------------------------------------------------------------------------

ITEM = ["response.output_item.added", "response.content_part.added"]
BEGIN = ["response.created", "response.in_progress"]
TEXT_END = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]


def test_a_thought_and_an_answer_are_items(server):
    got = stream(server, model="thinker", input="What is 2 + 2?")
    assert [e["type"] for e in got] == (
        BEGIN + ITEM + ["response.reasoning_text.delta", "response.reasoning_text.done", "response.content_part.done",
                        "response.output_item.done"] +
        ITEM + ["response.output_text.delta"] + TEXT_END + ["response.completed"])
    first, last = got[0]["response"], got[-1]["response"]
    assert first["status"] == got[1]["response"]["status"] == "in_progress" and first["output"] == []
    assert "usage" not in first and first["object"] == "response" and first["id"].startswith("resp_")
    assert first["id"] == last["id"] and first["created_at"] == last["created_at"] and last["status"] == "completed"
    thought, message = last["output"]
    assert thought == {"type": "reasoning", "id": thought["id"], "status": "completed", "summary": [],
                       "content": [{"type": "reasoning_text", "text": THOUGHT}]}
    assert message == {"type": "message", "id": message["id"], "status": "completed", "role": "assistant",
                       "content": [{"type": "output_text", "text": "**Four**.", "annotations": [], "logprobs": []}]}
    assert thought["id"].startswith("rs_") and message["id"].startswith("msg_")
    for index, item, events_ in ((0, thought, got[2:8]), (1, message, got[8:14])):
        assert {e["output_index"] for e in events_} == {index}
        assert {e.get("item_id", item["id"]) for e in events_} == {item["id"]}
        assert {e.get("content_index", 0) for e in events_} == {0}
        added, done = events_[0]["item"], events_[-1]["item"]
        assert added == {**item, "status": "in_progress", "content": []} and done == item
        assert events_[1]["part"] == {**item["content"][0], "text": ""} and events_[-2]["part"] == item["content"][0]
        assert events_[2]["delta"] == events_[3]["text"] == item["content"][0]["text"]
    assert got[10]["logprobs"] == got[11]["logprobs"] == []
    assert last["usage"]["output_tokens"] == 11 and last["usage"]["output_tokens_details"]["reasoning_tokens"] == 7


def test_a_call_is_an_item(server):
    got = stream(server, model="caller", input="Get it", tools=TOOLS)
    assert [e["type"] for e in got] == BEGIN + [
        "response.output_item.added", "response.function_call_arguments.delta", "response.function_call_arguments.done",
        "response.output_item.done", "response.completed"]
    call, = got[-1]["response"]["output"]
    assert call == {"type": "function_call", "id": call["id"], "call_id": call["call_id"], "status": "completed",
                    "name": "get_it", "arguments": '{"a": 1}'}
    assert call["id"].startswith("fc_") and call["call_id"].startswith("call_")
    assert got[2]["item"] == {**call, "arguments": "", "status": "in_progress"} and got[5]["item"] == call
    assert got[3]["delta"] == got[4]["arguments"] == call["arguments"]
    assert got[4]["name"] == "get_it"
    assert {e["item_id"] for e in got[3:5]} == {call["id"]} and {e["output_index"] for e in got[2:6]} == {0}
    assert not any("content_index" in e for e in got)


@pytest.mark.threads
def test_stream_and_whole_agree(server):
    for model in ("stories260K", "thinker", "caller"):
        whole = ask(server, model=model, input="Once upon a time")
        got = stream(server, model=model, input="Once upon a time")
        streamed = got[-1]["response"]
        assert {**whole, "usage": 0} == {**streamed, "usage": 0, "id": whole["id"], "created_at": whole["created_at"],
                                         "completed_at": whole["completed_at"], "output": whole["output"]}
        for a, b in zip(whole["output"], streamed["output"]):
            assert {**a, "id": 0, "call_id": 0} == {**b, "id": 0, "call_id": 0}
        deltas = "".join(e["delta"] for e in got if e["type"] == "response.output_text.delta")
        assert deltas == text_of(whole) == text_of(streamed)


def test_a_cut_thought_is_incomplete(server):
    r = ask(server, model="thinker", input="What is 2 + 2?", max_output_tokens=5)
    assert [i["type"] for i in r["output"]] == ["reasoning"] and r["output"][0]["status"] == "incomplete"
    assert r["status"] == "incomplete" and r["output"][0]["content"][0]["text"] == THOUGHT


# ---- The response ---------------------------------------------------------------------------------------------------


def test_the_object_is_whole(server):
    r = ask(server, input="Hi", instructions="Be brief.", metadata={"k": "v"}, user="u", top_p=0.5,
            reasoning={"effort": "low"}, parallel_tool_calls=False, tool_choice="none", tools=TOOLS)
    assert r["object"] == "response" and r["model"] == "stories260K" and r["error"] is None
    assert r["instructions"] == "Be brief." and r["metadata"] == {"k": "v"} and r["user"] == "u"
    assert r["temperature"] == 0 and r["top_p"] == 0.5 and r["max_output_tokens"] == 12 and r["store"] is True
    assert r["parallel_tool_calls"] is False and r["tool_choice"] == "none" and r["tools"] == TOOLS
    assert r["text"] == {"format": {"type": "text"}} and r["truncation"] == "disabled" and r["background"] is False
    u = r["usage"]
    assert u["total_tokens"] == u["input_tokens"] + u["output_tokens"]
    assert set(u["input_tokens_details"]) == {"cached_tokens", "cache_write_tokens"}


def test_nothing_asked_says_defaults(server):
    r = server.ask("/v1/responses", {"input": "Hi", "max_output_tokens": 1, "model": "thinker"})
    assert r["instructions"] is None and r["tools"] == [] and r["tool_choice"] == "auto" and r["metadata"] == {}
    assert r["reasoning"] == {"effort": None, "summary": None} and 0 <= r["temperature"] <= 2 and r["top_p"] == 0.95


def test_null_means_absent(server):
    names = ("instructions", "tools", "tool_choice", "previous_response_id", "store", "metadata", "reasoning", "text",
             "top_p", "stream", "truncation", "user", "conversation", "prompt", "background", "include", "max_tool_calls")
    plain, null = ask(server, input="Hi"), ask(server, input="Hi", **{n: None for n in names})
    assert text_of(plain) == text_of(null) and "user" not in plain and "user" not in null


# ---- Items that come in ---------------------------------------------------------------------------------------------


def same_prompt(server, model, messages, **body):
    """Asks the chat protocol, then this one: what is equal to the last token is found in the cache."""
    chat = server.ask("/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 12, "temperature": 0,
                                               **({"tools": [{"type": "function", "function": t} for t in body["tools"]]}
                                                  if "tools" in body else {})})
    got = ask(server, model=model, **body)
    n = chat["usage"]["prompt_tokens"]
    assert got["usage"]["input_tokens"] == n and got["usage"]["input_tokens_details"]["cached_tokens"] == n - 1
    return got


@pytest.mark.parametrize("model", ["stories260K", "thinker"])
def test_input_has_many_forms(server, model):
    messages = [{"role": "user", "content": "Tell me of the %s form" % model}]
    text = messages[0]["content"]
    for form in (text, messages, [{"type": "message", **messages[0]}],
                 [{"role": "user", "content": [{"type": "input_text", "text": text[:5]}, {"type": "input_text", "text": text[5:]}]}]):
        same_prompt(server, model, messages, input=form)


def test_a_conversation_is_what_the_chat_protocol_makes_of_it(server):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One"},
                {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three"}]
    items = [{"role": "user", "content": "One"},
             {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
              "content": [{"type": "output_text", "text": "Two", "annotations": []}]},
             {"role": "user", "content": "Three"}]
    for model in ("stories260K", "thinker"):
        same_prompt(server, model, messages, instructions="Be brief.", input=items)
        same_prompt(server, model, messages, input=[{"role": "developer", "content": "Be brief."}] + items)


def test_calls_and_results_are_items(server):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_it", "arguments": '{"a":1}'}}
    messages = [{"role": "user", "content": "Get it"}, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "got"}]
    items = [{"role": "user", "content": "Get it"},
             {"type": "function_call", "call_id": "call_1", "name": "get_it", "arguments": '{"a":1}'},
             {"type": "function_call_output", "call_id": "call_1", "output": "got"}]
    same_prompt(server, "caller", messages, input=items, tools=TOOLS)
    items[2]["output"] = [{"type": "input_text", "text": "got"}]
    same_prompt(server, "caller", messages, input=items, tools=TOOLS)
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    messages[1]["reasoning_content"] = "Hm."
    same_prompt(server, "caller", messages, input=items[:1] + [thought] + items[1:], tools=TOOLS)


def test_what_is_unknown_is_left_out(server):
    others = [{"type": "web_search_preview"}, {"type": "custom", "name": "apply_patch"}, {"type": "local_shell"},
              {"type": "namespace", "name": "n", "tools": []}, {"type": "mcp", "server_label": "x", "server_url": "y"}]
    plain = ask(server, model="thinker", input="Tools", tools=TOOLS)
    more = ask(server, model="thinker", input="Tools", tools=others + TOOLS, prompt_cache_key="k", service_tier="flex",
               verbosity="low", include=["reasoning.encrypted_content"], client_metadata={"a": 1})
    assert more["usage"]["input_tokens"] == plain["usage"]["input_tokens"] and text_of(more) == text_of(plain)
    assert ask(server, input="Hi", tools=others)["output"]
    items = [{"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"role": "user", "content": "Hi"}]
    assert text_of(ask(server, input=items)) == text_of(ask(server, input="Hi"))


# ---- Responses that are continued -----------------------------------------------------------------------------------


def test_a_response_is_continued(server):
    first = ask(server, model="thinker", input="One", instructions="Be brief.")
    second = ask(server, model="thinker", input="Two", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    whole = ask(server, model="thinker", input=[{"role": "user", "content": "One"}] + first["output"] +
                [{"role": "user", "content": "Two"}])
    n = second["usage"]["input_tokens"]  # instructions are not taken along
    assert whole["usage"]["input_tokens"] == n and whole["usage"]["input_tokens_details"]["cached_tokens"] == n - 1
    streamed = stream(server, model="thinker", input="Three", previous_response_id=second["id"])[-1]["response"]
    assert streamed["usage"]["input_tokens"] > n
    fourth = ask(server, model="thinker", input="Four", previous_response_id=streamed["id"])
    assert fourth["usage"]["input_tokens"] > streamed["usage"]["input_tokens"]


def test_a_call_is_answered_by_its_result_alone(server):
    first = ask(server, model="caller", input="Get it", tools=TOOLS)
    result = [{"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "got"}]
    second = ask(server, model="caller", input=result, tools=TOOLS, previous_response_id=first["id"])
    messages = [{"role": "user", "content": "Get it"},
                {"role": "assistant", "content": None,
                 "tool_calls": [{"id": "x", "type": "function", "function": {"name": "get_it", "arguments": '{"a": 1}'}}]},
                {"role": "tool", "tool_call_id": "x", "content": "got"}]
    chat = server.ask("/v1/chat/completions", {"model": "caller", "messages": messages, "max_tokens": 1,
                                               "tools": [{"type": "function", "function": t} for t in TOOLS]})
    assert chat["usage"]["prompt_tokens"] == second["usage"]["input_tokens"]
    assert chat["usage"]["prompt_tokens_details"]["cached_tokens"] == second["usage"]["input_tokens"] - 1


def test_kept_responses_are_told_and_forgotten(server):
    r = ask(server, input="Keep me")
    path = "/v1/responses/" + r["id"]
    assert server.ask(path) == r
    items = server.ask(path + "/input_items")
    assert items["object"] == "list" and items["data"] == [{"type": "message", "role": "user", "content": "Keep me"}]
    reply, data = server.raw("DELETE", path)
    assert reply.status == 200 and json.loads(data) == {"id": r["id"], "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        reply, data = server.raw(method, path)
        assert reply.status == 404 and json.loads(data)["error"]["code"] == "response_not_found"
    kept = ask(server, input="Do not", store=False)
    assert kept["store"] is False
    server.ask("/v1/responses/" + kept["id"], status=404)
    error = ask(server, 400, input="And?", previous_response_id=kept["id"])["error"]
    assert error["code"] == "previous_response_not_found" and error["param"] == "previous_response_id"
    assert error["type"] == "invalid_request_error"


def test_the_oldest_response_is_forgotten_first(server):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    ids = []
    for i in range(1030):
        c.request("POST", "/v1/responses", json.dumps({"model": "stories260K", "input": "Hi", "max_output_tokens": 0}),
                  {"Content-Type": "application/json"})
        ids.append(json.loads(c.getresponse().read())["id"])
    c.close()
    server.ask("/v1/responses/" + ids[0], status=404)
    server.ask("/v1/responses/" + ids[5], status=404)
    assert server.ask("/v1/responses/" + ids[6])["id"] == ids[6] and server.ask("/v1/responses/" + ids[-1])


# ---- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body, param, code", [
    ({}, "input", "missing_required_parameter"),
    ({"input": 3}, "input", "invalid_value"),
    ({"input": {"role": "user"}}, "input", "invalid_value"),
    ({"input": []}, "input", "invalid_value"),
    ({"input": ["x"]}, "input[0]", "invalid_value"),
    ({"input": [{"content": "x"}]}, "input[0].role", "missing_required_parameter"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "invalid_value"),
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    ({"input": [{"role": "user", "content": 7}]}, "input[0].content", "invalid_value"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content",
     "unsupported_parameter"),
    ({"input": [{"type": 3}]}, "input[0].type", "invalid_value"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type", "unsupported_parameter"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id", "missing_required_parameter"),
    ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name", "missing_required_parameter"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id", "missing_required_parameter"),
    ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output", "missing_required_parameter"),
    ({"input": "x", "instructions": 3}, "instructions", "invalid_value"),
    ({"input": "x", "max_output_tokens": "many"}, "max_output_tokens", "invalid_value"),
    ({"input": "x", "temperature": "hot"}, "temperature", "invalid_value"),
    ({"input": "x", "top_p": 2}, "top_p", "invalid_value"),
    ({"input": "x", "stream": "yes"}, "stream", "invalid_value"),
    ({"input": "x", "store": 1}, "store", "invalid_value"),
    ({"input": "x", "previous_response_id": 1}, "previous_response_id", "invalid_value"),
    ({"input": "x", "previous_response_id": "resp_none"}, "previous_response_id", "previous_response_not_found"),
    ({"input": "x", "tools": {}}, "tools", "invalid_value"),
    ({"input": "x", "tool_choice": 5}, "tool_choice", "invalid_value"),
    ({"input": "x", "reasoning": "low"}, "reasoning", "invalid_value"),
    ({"input": "x", "reasoning": {"effort": "some"}}, "reasoning.effort", "invalid_value"),
    ({"input": "x", "background": True}, "background", "unsupported_parameter"),
    ({"input": "x", "conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"input": "x", "prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
    ({"input": "x", "truncation": "never"}, "truncation", "invalid_value"),
    ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
])
def test_what_is_wrong_is_named(server, body, param, code):
    error = server.ask("/v1/responses", {"model": "stories260K", **body}, 400)["error"]
    assert {**error, "message": 0} == {"message": 0, "type": "invalid_request_error", "param": param, "code": code}
    if not body.get("stream"):
        assert server.ask("/v1/responses", {"model": "stories260K", **body, "stream": True}, 400)["error"] == error


def test_a_prompt_that_is_too_long(server):
    error = ask(server, 400, input="word " * 3000)["error"]
    assert error["code"] == "context_length_exceeded" and error["n_ctx"] and error["n_prompt_tokens"] > error["n_ctx"]
    assert "maximum context length is" in error["message"] and "exceeds the available context size" in error["message"]
    items = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "ok"}] * 5
    r = ask(server, input=items + [{"role": "user", "content": "Hi"}], truncation="auto")
    assert r["dropped"]["tokens"] > 0 and r["dropped"]["turns"] > 0


def test_other_refusals(server):
    assert ask(server, 404, model="none", input="x")["error"]["code"] == "model_not_found"
    r, data = server.raw("POST", "/v1/responses", "{", {"Content-Type": "application/json"})
    assert r.status == 400 and json.loads(data)["error"]["code"] == "invalid_json"
    r, data = server.raw("POST", "/v1/responses", "{}", {"Content-Type": "text/plain"})
    assert r.status == 415
    r, data = server.raw("PUT", "/v1/responses/resp_1", "{}", {"Content-Type": "application/json"})
    assert r.status == 405 and r.getheader("Allow") == "GET, DELETE"


def test_the_built_in_model_answers():
    s = Server("--ctx", "512")
    got = stream(s, model="any", input="A short story, please.", max_output_tokens=8)
    assert got[-1]["type"] in ("response.completed", "response.incomplete") and text_of(got[-1]["response"])
    assert s.stop() == 0
