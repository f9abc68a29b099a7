# SPDX-License-Identifier: MIT
"""Anthropic's Messages protocol at rotor serve: every event in its order, content blocks, counting, errors in its shape."""
import json
import re

import pytest

from serve_rig import STORY, Server, events, write_caller, write_thinker
from test_cli_harmony import THOUGHT

TOOLS = [{"name": "get_it", "description": "Gets it.", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}]
BILLING = "x-anthropic-billing-header: cc_version=2.1.0; cc_entrypoint=cli; cch=%s;"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    s = Server(STORY, str(write_thinker(folder)), str(write_caller(folder)), "--parallel", "2", "--ctx", "1024",
               "--api-key", "sesame")
    yield s
    assert s.stop() == 0


def request(*messages, **body):
    body.setdefault("model", "stories260K")
    return {"max_tokens": 12, "temperature": 0, **body,
            "messages": [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]}


def ask(server, body, status=200, path="/v1/messages"):
    return server.ask(path, body, status, x_api_key="sesame", anthropic_version="2023-06-01", anthropic_beta="tools-1")


def stream(server, body):
    raw = server.raw
    keyed = type("Keyed", (), {"raw": staticmethod(lambda m, p, b, h: raw(m, p, b, {**h, "X-Api-Key": "sesame"}))})
    got = events(keyed, "/v1/messages", body)
    assert all(name == e["type"] for name, e in got)
    return [e for _, e in got]


def text_of(message):
    return "".join(b["text"] for b in message["content"] if b["type"] == "text")


# ---- Streams --------------------------------------------------------------------------------------------------------


def test_thinking_and_text_are_blocks(server):
    got = stream(server, request("What is 2 + 2?", model="thinker"))
    assert [e["type"] for e in got] == ["message_start", "content_block_start", "content_block_delta", "content_block_delta",
                                        "content_block_stop", "content_block_start", "content_block_delta", "content_block_stop",
                                        "message_delta", "message_stop"]
    start = got[0]["message"]
    assert start == {"id": start["id"], "type": "message", "role": "assistant", "model": "thinker", "content": [],
                     "stop_reason": None, "stop_sequence": None, "usage": start["usage"]}
    assert start["id"].startswith("msg_") and start["usage"]["input_tokens"] > 0 and start["usage"]["output_tokens"] == 0
    assert got[1:5] == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": THOUGHT}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": ""}},
        {"type": "content_block_stop", "index": 0}]
    assert got[5:8] == [
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "**Four**."}},
        {"type": "content_block_stop", "index": 1}]
    assert got[8]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None} and got[9] == {"type": "message_stop"}
    usage = got[8]["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == start["usage"]["input_tokens"]
    assert usage["output_tokens"] == 11 and usage["cache_creation_input_tokens"] == 0


def test_a_tool_that_is_used_is_a_block(server):
    got = stream(server, request("Get it", model="caller", tools=TOOLS))
    assert [e["type"] for e in got] == ["message_start", "content_block_start", "content_block_delta", "content_block_stop",
                                        "message_delta", "message_stop"]
    block = got[1]["content_block"]
    assert block == {"type": "tool_use", "id": block["id"], "name": "get_it", "input": {}}
    assert got[2]["delta"] == {"type": "input_json_delta", "partial_json": '{"a": 1}'}
    assert got[4]["delta"]["stop_reason"] == "tool_use"
    whole = ask(server, request("Get it", model="caller", tools=TOOLS))
    assert whole["content"] == [{**block, "id": whole["content"][0]["id"], "input": {"a": 1}}]
    assert whole["stop_reason"] == "tool_use" and whole["content"][0]["id"] != block["id"]


@pytest.mark.threads
def test_stream_and_whole_agree(server):
    for model in ("stories260K", "thinker"):
        whole = ask(server, request("Once upon a time", model=model))
        got = stream(server, request("Once upon a time", model=model))
        deltas = [e["delta"] for e in got if e["type"] == "content_block_delta"]
        assert "".join(d.get("text", "") for d in deltas) == text_of(whole) != ""
        assert "".join(d.get("thinking", "") for d in deltas) == "".join(b.get("thinking", "") for b in whole["content"])
        assert got[-2]["delta"] == {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
    assert set(whole) == {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}


def test_silence_is_broken_by_pings():
    """A long prompt in small pieces: an event here, comments in the protocols that have no such event."""
    s = Server(STORY, "--ping-ms", "1", "--ctx", "1024", "--chunk", "8")
    got = {}
    for path, more in (("/v1/messages", request("One word " * 80)), ("/v1/responses", {"input": "Two words " * 80})):
        r, data = s.raw("POST", path, json.dumps({**more, "stream": True, "max_tokens": 1}), {"Content-Type": "application/json"})
        got[path] = data.decode().split("\n\n")
    ping = 'event: ping\ndata: {"type":"ping"}'
    assert got["/v1/messages"][0].startswith("event: message_start\n") and got["/v1/messages"][1] == ping
    assert got["/v1/responses"][2] == ": working" and s.stop() == 0


# ---- Why it stopped -------------------------------------------------------------------------------------------------


def test_reasons_to_stop(server):
    plain = ask(server, request("Once upon a time", max_tokens=30))
    assert plain["stop_reason"] == "max_tokens" and plain["stop_sequence"] is None
    word = text_of(plain).split()[4]
    cut = ask(server, request("Once upon a time", max_tokens=30, stop_sequences=["never said", word]))
    assert cut["stop_reason"] == "stop_sequence" and cut["stop_sequence"] == word
    assert text_of(cut) == text_of(plain)[:text_of(plain).index(word)]
    for stops, want in ((["o t", "ur*"], "ur*"), (["ur*", "Fo"], "Fo"), (["two"], None)):
        got = ask(server, request("What is 2 + 2?", model="thinker", stop_sequences=stops))
        assert got["stop_sequence"] == want and got["stop_reason"] == ("stop_sequence" if want else "end_turn")
    assert stream(server, request("What is 2 + 2?", model="thinker", stop_sequences=["ur*"]))[-2]["delta"] == {
        "stop_reason": "stop_sequence", "stop_sequence": "ur*"}
    assert ask(server, request("What is 2 + 2?", model="thinker", max_tokens=4))["stop_reason"] == "max_tokens"


# ---- What comes in --------------------------------------------------------------------------------------------------


def same_prompt(server, model, messages, body, tools=None):
    """Asks the chat protocol, then this one: what is equal to the last token is found in the cache."""
    chat = server.ask("/v1/chat/completions", {
        "model": model, "messages": messages, "max_tokens": 12, "temperature": 0,
        **({"tools": [{"type": "function", "function": {"name": t["name"], "description": t["description"],
                                                        "parameters": t["input_schema"]}} for t in tools]} if tools else {})},
        Authorization="Bearer sesame")
    got = ask(server, {**body, "model": model, **({"tools": tools} if tools else {})})
    n = chat["usage"]["prompt_tokens"]
    assert got["usage"]["cache_read_input_tokens"] == n - 1 and got["usage"]["input_tokens"] == 1
    assert ask(server, {**body, "model": model, **({"tools": tools} if tools else {})},
               path="/v1/messages/count_tokens") == {"input_tokens": n}


@pytest.mark.parametrize("model", ["stories260K", "thinker"])
def test_content_has_many_forms(server, model):
    chat = [{"role": "system", "content": "Be brief.\nBe kind."}, {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three, four"}]
    talk = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three, four"}]
    blocks = [{"role": "user", "content": [{"type": "text", "text": "One"}]},
              {"role": "assistant", "content": [{"type": "text", "text": "Two"}]},
              {"role": "user", "content": [{"type": "text", "text": "Three,", "cache_control": {"type": "ephemeral"}},
                                           {"type": "text", "text": " four"}]}]
    same_prompt(server, model, chat, request(*talk, system="Be brief.\nBe kind."))
    same_prompt(server, model, chat, request(*blocks, system=[{"type": "text", "text": "Be brief."},
                                                              {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]))


def test_tools_and_their_results(server):
    call = {"id": "t1", "type": "function", "function": {"name": "get_it", "arguments": '{"a":1}'}}
    chat = [{"role": "user", "content": "Get it"},
            {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "t1", "content": "got"}, {"role": "user", "content": "And?"}]
    blocks = [{"role": "user", "content": "Get it"},
              {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": ""},
                                                {"type": "redacted_thinking", "data": "x"},
                                                {"type": "tool_use", "id": "t1", "name": "get_it", "input": {"a": 1}}]},
              {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "got"},
                                           {"type": "text", "text": "And?"}]}]
    same_prompt(server, "caller", chat, request(*blocks), tools=TOOLS)
    blocks[2]["content"][0]["content"] = [{"type": "text", "text": "got"}]
    same_prompt(server, "caller", chat, request(*blocks), tools=TOOLS)
    blocks[2]["content"][0].update(content=None, is_error=True)
    chat[2]["content"] = ""
    same_prompt(server, "caller", chat, request(*blocks), tools=TOOLS)


def test_what_is_unknown_is_left_out(server):
    plain = ask(server, request("Tools", model="thinker", tools=TOOLS), path="/v1/messages/count_tokens")
    others = [{"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_20250124", "name": "bash"}]
    more = request("Tools", model="thinker", tools=others + [{"type": "custom", **TOOLS[0]}], metadata={"user_id": "u"},
                   context_management={"edits": []}, mcp_servers=[], service_tier="auto", container=None, top_k=None)
    assert ask(server, more, path="/v1/messages/count_tokens") == plain
    assert ask(server, request("Hi", tools=others))["content"]


def test_thinking_is_an_effort(server):
    def n(**more):
        return ask(server, request("Hi", model="thinker", **more), path="/v1/messages/count_tokens")["input_tokens"]
    medium = n()  # "Reasoning: medium"; each of its bytes is a token
    assert n(thinking={"type": "disabled"}) == n(thinking={"type": "enabled", "budget_tokens": 1024}) == medium - 3
    assert n(thinking={"type": "enabled", "budget_tokens": 32000}) == n(output_config={"effort": "high"}) == medium - 2
    assert n(thinking={"type": "adaptive"}) == n(thinking={"type": "enabled", "budget_tokens": 8000}) == medium


def test_the_line_that_always_differs_is_cut(server):
    def system(*texts):
        return [{"type": "text", "text": t} for t in texts]
    plain = ask(server, request("Hi", system="You are brief."))
    for i, form in enumerate((BILLING % "0a1b2" + "\nYou are brief.", system(BILLING % "12345", "You are brief."),
                              system(BILLING % "99999" + "\n\nYou are brief."))):
        got = ask(server, request("Hi", system=form))
        assert got["usage"]["input_tokens"] == 1 and got["content"] == plain["content"], i
    for form in ("You are brief. " + BILLING % "1", "x-anthropic-billing-header: none\nYou are brief."):
        assert ask(server, request("Hi", system=form))["usage"]["input_tokens"] > 1
    assert len(server.logged("--keep-volatile")) == 1
    s = Server(STORY, "--keep-volatile", "--ctx", "512")
    assert s.ask("/v1/messages/count_tokens", request("Hi", system=BILLING % "1"))["input_tokens"] > 40
    assert s.stop() == 0


def test_counting_needs_no_room(server):
    n = ask(server, request("word " * 3000), path="/v1/messages/count_tokens")["input_tokens"]
    assert n > 3000
    r, data = server.raw("GET", "/v1/messages/count_tokens", headers={"X-Api-Key": "sesame"})
    assert r.status == 405 and r.getheader("Allow") == "POST"


# ---- What is refused ------------------------------------------------------------------------------------------------


def refused(server, body, status, kind, path="/v1/messages"):
    got = ask(server, body, status, path)
    assert set(got) == {"type", "error"} and got["type"] == "error" and set(got["error"]) == {"type", "message"}
    assert got["error"]["type"] == kind
    return got["error"]["message"]


def user(content):
    return {"role": "user", "content": content}


@pytest.mark.parametrize("change, named", [
    ({"messages": None}, "messages: Field required"),
    ({"messages": "x"}, "messages"),
    ({"messages": []}, "messages: at least one"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role: Field required"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content: Field required"),
    ({"messages": [user(5)]}, "messages[0].content"),
    ({"messages": [user([{"type": "image", "source": {}}])]}, "messages[0].content[0].type: 'image' is not supported"),
    ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].type"),
    ({"messages": [user(["x"])]}, "messages[0].content[0].type"),
    ({"messages": [user([{"type": "tool_result", "content": "x"}])]}, "messages[0].content[0].tool_use_id: Field required"),
    ({"messages": [user([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}])]},
     "messages[0].content[0].content"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]}, "messages[0].content[0].id: Field required"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]}]}, "messages[0].content[0].name: Field required"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": 5}]}]},
     "'messages[0].content[0].input': expected an object"),
    ({"messages": [{"role": "assistant", "content": [{"type": "document"}]}]}, "messages[0].content[0].type"),
    ({"system": 5}, "system"),
    ({"system": [{"type": "image"}]}, "system.0"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 7}, "top_p"),
    ({"stream": "yes"}, "stream"),
    ({"stop_sequences": 5}, "stop_sequences"),
    ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
    ({"tools": {}}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.type"),
    ({"thinking": True}, "thinking"),
    ({"output_config": {"effort": "some"}}, "output_config.effort"),
])
def test_what_is_wrong_is_named(server, change, named):
    assert named in refused(server, {**request("Hi"), **change}, 400, "invalid_request_error")
    if change.get("stream") is None:
        refused(server, {**request("Hi"), "stream": True, **change}, 400, "invalid_request_error")


def test_errors_have_their_shape_everywhere(server):
    message = refused(server, request("word " * 3000), 400, "invalid_request_error")
    assert re.match(r"prompt is too long: \d{4} tokens > 1023 maximum\.", message) and "maximum context length" in message
    refused(server, request("Hi", model="claude-none"), 404, "not_found_error")
    refused(server, request("Hi", model="claude-none"), 404, "not_found_error", "/v1/messages/count_tokens")
    headers = {"Content-Type": "application/json", "X-Api-Key": "sesame"}
    for body, extra, status, kind in (("{", {}, 400, "invalid_request_error"), ("{}", {"X-Api-Key": "no"}, 401, "authentication_error"),
                                      ("{}", {"Content-Type": "text/plain"}, 415, "invalid_request_error"),
                                      ("{}", {"Origin": "http://evil.example"}, 403, "permission_error")):
        r, data = server.raw("POST", "/v1/messages", body, {**headers, **extra})
        assert r.status == status and json.loads(data)["error"]["type"] == kind and json.loads(data)["type"] == "error"


def test_the_built_in_model_answers():
    s = Server("--ctx", "512")
    got = s.ask("/v1/messages", request("A short story, please.", model="any", max_tokens=8))
    assert text_of(got) and got["stop_reason"] in ("end_turn", "max_tokens")
    assert s.stop() == 0
