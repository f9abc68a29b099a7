# SPDX-License-Identifier: MIT
"""Ollama's API at rotor serve: lines of JSON, settings in options, vectors, and what there is in models."""
import json
import math
import os
import re

import pytest

from serve_rig import STORY, Server, write_caller, write_thinker
from test_cli_harmony import THOUGHT

TOOLS = [{"type": "function", "function": {"name": "get_it", "description": "Gets it.",
                                           "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]
TIME = re.compile(r"^20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ$")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    s = Server(STORY, str(write_thinker(folder)), str(write_caller(folder)), "--parallel", "2", "--ctx", "1024", "--embed")
    yield s
    assert s.stop() == 0


def body(path, text, **more):
    more.setdefault("model", "stories260K")
    more["options"] = {"temperature": 0, "num_predict": 12, **more.get("options", {})}
    if path == "/api/chat":
        return {"messages": [{"role": "user", "content": text}] if isinstance(text, str) else text, **more}
    return {"prompt": text, **more}


def ask(server, path, text, status=200, **more):
    return server.ask(path, body(path, text, stream=False, **more), status)


def lines(server, path, text, **more):
    r, data = server.raw("POST", path, json.dumps(body(path, text, **more)), {"Content-Type": "application/json"})
    assert r.status == 200 and r.getheader("Content-Type") == "application/x-ndjson" and data.endswith(b"\n")
    got = [json.loads(line) for line in data.decode().split("\n")[:-1]]
    assert [g["done"] for g in got] == [False] * (len(got) - 1) + [True]
    assert all(g["model"] == more.get("model", "stories260K") and TIME.match(g["created_at"]) for g in got)
    return got


ENDS = {"model", "created_at", "done", "done_reason", "total_duration", "load_duration", "prompt_eval_count",
        "prompt_eval_duration", "eval_count", "eval_duration"}


# ---- Chat -----------------------------------------------------------------------------------------------------------


@pytest.mark.threads
def test_chat_streams_lines_unless_told_otherwise(server):
    got = lines(server, "/api/chat", "Once upon a time")
    assert len(got) > 4 and set(got[0]) == {"model", "created_at", "done", "message"}
    assert all(set(g["message"]) == {"role", "content"} and g["message"]["role"] == "assistant" for g in got)
    end = got[-1]
    assert set(end) == ENDS | {"message"} and end["message"]["content"] == "" and end["done_reason"] == "length"
    assert end["eval_count"] == 12 and end["load_duration"] == 0
    assert end["total_duration"] >= end["prompt_eval_duration"] + end["eval_duration"] > 12000
    whole = ask(server, "/api/chat", "Once upon a time")
    assert set(whole) == ENDS | {"message"} and whole["done"] is True
    assert whole["message"]["content"] == "".join(g["message"]["content"] for g in got)
    chat = server.ask("/v1/chat/completions", {"model": "stories260K", "temperature": 0, "max_tokens": 12,
                                               "messages": [{"role": "user", "content": "Once upon a time"}]})
    assert whole["message"]["content"] == chat["choices"][0]["message"]["content"]
    assert whole["prompt_eval_count"] == chat["usage"]["prompt_tokens"]


def test_thinking_is_told_apart(server):
    got = lines(server, "/api/chat", "What is 2 + 2?", model="thinker")
    assert [g["message"] for g in got] == [{"role": "assistant", "content": "", "thinking": THOUGHT},
                                           {"role": "assistant", "content": "**Four**."}, {"role": "assistant", "content": ""}]
    assert got[-1]["done_reason"] == "stop"
    for think in (None, True, "high"):
        whole = ask(server, "/api/chat", "What is 2 + 2?", model="thinker", think=think)
        assert whole["message"] == {"role": "assistant", "content": "**Four**.", "thinking": THOUGHT}
    assert ask(server, "/api/chat", "What is 2 + 2?", model="thinker", think=False)["message"] == {
        "role": "assistant", "content": "**Four**."}
    assert [g["message"]["content"] for g in lines(server, "/api/chat", "What is 2 + 2?", model="thinker", think=False)] == ["**Four**.", ""]
    text = lines(server, "/api/generate", "What is 2 + 2?", model="thinker")
    assert [(g["response"], g.get("thinking")) for g in text] == [("", THOUGHT), ("**Four**.", None), ("", None)]


def test_calls_come_with_objects(server):
    got = lines(server, "/api/chat", "Get it", model="caller", tools=TOOLS)
    call, = got[0]["message"]["tool_calls"]
    assert call == {"id": call["id"], "function": {"index": 0, "name": "get_it", "arguments": {"a": 1}}}
    assert len(got) == 2 and got[1]["done_reason"] == "stop"
    whole = ask(server, "/api/chat", "Get it", model="caller", tools=TOOLS)
    assert [c["function"] for c in whole["message"]["tool_calls"]] == [call["function"]]


def test_messages_are_what_the_chat_protocol_makes_of_them(server):
    call = {"id": "t1", "type": "function", "function": {"name": "get_it", "arguments": '{"a":1}'}}
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Get it"},
            {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "t1", "content": "got"}]
    talk = [chat[0], chat[1],
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [{"function": {"name": "get_it", "arguments": {"a": 1}}}]},
            {"role": "tool", "tool_name": "get_it", "content": "got"}]
    want = server.ask("/v1/chat/completions", {"model": "caller", "messages": chat, "tools": TOOLS, "max_tokens": 1})
    got = ask(server, "/api/chat", talk, model="caller", tools=TOOLS)
    assert got["prompt_eval_count"] == want["usage"]["prompt_tokens"]
    again = server.ask("/v1/chat/completions", {"model": "caller", "messages": chat, "tools": TOOLS, "max_tokens": 1})
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == want["usage"]["prompt_tokens"] - 1


def test_options_are_heard(server):
    plain = ask(server, "/api/chat", "Once upon a time")
    word = plain["message"]["content"].split()[2]
    cut = ask(server, "/api/chat", "Once upon a time", options={"stop": [word]})
    assert cut["message"]["content"] == plain["message"]["content"].split(word)[0] and cut["done_reason"] == "stop"
    assert ask(server, "/api/chat", "Hi", options={"num_predict": 3})["eval_count"] == 3
    assert ask(server, "/api/chat", "Hi", options={"num_predict": 0})["eval_count"] == 0
    assert ask(server, "/api/chat", "Hi", options={"num_predict": -1, "stop": " "})["done_reason"] == "stop"
    hot = [ask(server, "/api/chat", "Hi", options={"temperature": 2, "seed": s})["message"] for s in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    ask(server, "/api/chat", "Hi", options={"num_ctx": 4096, "num_gpu": 99, "mirostat": 1, "top_k": 40, "repeat_last_n": 64}, keep_alive="5m")


# ---- Generate -------------------------------------------------------------------------------------------------------


def test_generate_is_a_turn_or_raw(server):
    got = lines(server, "/api/generate", "Once upon a time")
    assert len(got) > 4 and set(got[0]) == {"model", "created_at", "done", "response"}
    whole = ask(server, "/api/generate", "Once upon a time")
    assert set(whole) == ENDS | {"response", "context"} == set(got[-1])
    assert whole["response"] == "".join(g["response"] for g in got)
    assert whole["response"] == ask(server, "/api/chat", "Once upon a time")["message"]["content"]
    raw = ask(server, "/api/generate", "Once upon a time", raw=True)
    text = server.ask("/v1/completions", {"model": "stories260K", "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0})
    assert raw["response"] == text["choices"][0]["text"] and raw["prompt_eval_count"] == text["usage"]["prompt_tokens"]
    system = ask(server, "/api/generate", "Hi", system="Be brief.", model="thinker")
    assert system["prompt_eval_count"] > ask(server, "/api/generate", "Hi", model="thinker")["prompt_eval_count"]


def test_a_context_is_gone_on_from(server):
    first = ask(server, "/api/generate", "Once upon a time")
    assert len(first["context"]) == first["prompt_eval_count"] + first["eval_count"]
    second = ask(server, "/api/generate", "there was", context=first["context"])
    n = len(first["context"])
    alone = ask(server, "/api/generate", "there was")
    assert second["context"][:n] == first["context"]
    assert second["prompt_eval_count"] == n + alone["prompt_eval_count"] - 1  # one beginning, not two
    ended = ask(server, "/api/generate", "What is 2 + 2?", model="thinker")
    assert len(ended["context"]) == ended["prompt_eval_count"] + ended["eval_count"] + 1  # and the token that ended it


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_nothing_asked_loads_or_unloads(server, path):
    got = server.ask(path, {"model": "stories260K", "stream": False, "keep_alive": 0})
    assert got["done"] is True and got["done_reason"] == "unload" and "eval_count" not in got
    assert got.get("response", got.get("message", {}).get("content")) == ""
    r, data = server.raw("POST", path, json.dumps({"model": "stories260K"}), {"Content-Type": "application/json"})
    assert len(data.splitlines()) == 1 and json.loads(data)["done_reason"] == "load"


# ---- Vectors --------------------------------------------------------------------------------------------------------


def test_vectors(server):
    one = server.ask("/api/embed", {"model": "stories260K", "input": "A cat"})
    assert set(one) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
    assert one["total_duration"] > 0 and one["prompt_eval_count"] > 2
    two = server.ask("/api/embed", {"model": "stories260K", "input": ["A cat", "A dog"]})
    v1 = server.ask("/v1/embeddings", {"model": "stories260K", "input": ["A cat", "A dog"]})
    assert two["embeddings"] == [d["embedding"] for d in v1["data"]] and two["embeddings"][0] == one["embeddings"][0]
    assert math.isclose(sum(x * x for x in one["embeddings"][0]), 1, rel_tol=1e-4)
    short = server.ask("/api/embed", {"model": "stories260K", "input": "A cat", "dimensions": 8})["embeddings"][0]
    assert len(short) == 8 and math.isclose(sum(x * x for x in short), 1, rel_tol=1e-4)
    old = server.ask("/api/embeddings", {"model": "stories260K", "prompt": "A cat"})
    assert set(old) == {"embedding"}
    length = math.sqrt(sum(x * x for x in old["embedding"]))
    assert all(math.isclose(a / length, b, abs_tol=1e-5) for a, b in zip(old["embedding"], one["embeddings"][0]))
    assert server.ask("/api/embed", {"model": "stories260K", "input": "word " * 3000})["embeddings"]
    error = server.ask("/api/embed", {"model": "stories260K", "input": "word " * 3000, "truncate": False}, 400)
    assert set(error) == {"error"}


# ---- Models ---------------------------------------------------------------------------------------------------------


def test_models_are_told(server):
    tags = server.ask("/api/tags")["models"]
    assert [t["name"] for t in tags] == [t["model"] for t in tags] == ["stories260K", "thinker", "caller"]
    story = tags[0]
    assert story["size"] == os.path.getsize(STORY) and re.match(r"^[0-9a-f]{64}$", story["digest"]) and TIME.match(story["modified_at"])
    assert len({t["digest"] for t in tags}) == 3
    assert story["details"] == {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
                                "parameter_size": story["details"]["parameter_size"], "quantization_level": "F32"}
    assert re.match(r"^\d{3}K$", story["details"]["parameter_size"])
    ps = server.ask("/api/ps")["models"]
    assert [{k: v for k, v in p.items() if k in t} for p, t in zip(ps, tags)] == tags
    assert ps[0]["context_length"] == 1024 and ps[0]["size_vram"] == 0 and ps[0]["expires_at"]
    assert re.match(r"^\d+\.\d+\.\d+", server.ask("/api/version")["version"])


def test_one_model_is_shown(server):
    for name in ("thinker", "thinker:latest"):
        shown = server.ask("/api/show", {"model": name})
        assert shown["details"]["family"] == "llama" and shown["capabilities"] == ["completion", "tools", "thinking", "embedding"]
        assert shown["model_info"]["general.architecture"] == "llama" and shown["model_info"]["llama.context_length"] == 4096
        assert shown["model_info"]["llama.embedding_length"] == 320 and shown["model_info"]["general.parameter_count"] > 0
        assert {"modelfile", "parameters", "template", "modified_at"} <= set(shown)
    assert server.ask("/api/show", {"name": "stories260K"})["capabilities"] == ["completion", "embedding"]


def test_a_tag_says_nothing(server):
    """NAME:latest is NAME, where answers are made, too; what is not served stays unknown."""
    for path in ("/api/chat", "/api/generate"):
        got = server.ask(path, body(path, "Hi", model="thinker:latest", stream=False))
        assert got["model"] in ("thinker", "thinker:latest") and got["done"]
        server.ask(path, body(path, "Hi", model="none:latest"), 404)


def test_pulling_fetches_nothing(server):
    for name in ("thinker", "thinker:latest"):
        assert server.ask("/api/pull", {"model": name}) == {"status": "success"}
    error = server.ask("/api/pull", {"model": "gpt-oss:20b"}, 404)
    assert set(error) == {"error"} and "rotor pull" in error["error"]
    server.ask("/api/pull", {}, 404)


# ---- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, change, named", [
    ("/api/chat", {"messages": "x"}, "'messages'"),
    ("/api/chat", {"messages": ["x"]}, "'messages[0]'"),
    ("/api/chat", {"messages": [{"content": "x"}]}, "'messages[0].role' is missing"),
    ("/api/chat", {"messages": [{"role": "robot", "content": "x"}]}, "'messages[0].role' is robot"),
    ("/api/chat", {"messages": [{"role": "user", "content": ["x"]}]}, "'messages[0].content'"),
    ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "'messages[0].images'"),
    ("/api/chat", {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}]},
     "'messages[0].tool_calls[0].function.name' is missing"),
    ("/api/chat", {"tools": {}}, "'tools'"),
    ("/api/chat", {"options": 5}, "'options'"),
    ("/api/chat", {"options": {"temperature": "hot"}}, "'options.temperature'"),
    ("/api/chat", {"options": {"num_predict": "many"}}, "'options.num_predict'"),
    ("/api/chat", {"stream": "yes"}, "'stream'"),
    ("/api/chat", {"think": "much"}, "'think'"),
    ("/api/chat", {"think": True}, "stories260K does not support thinking"),
    ("/api/chat", {"format": {"type": 5}}, "'format'"),
    ("/api/chat", {"model": 5}, "'model'"),
    ("/api/generate", {"prompt": 5}, "'prompt'"),
    ("/api/generate", {"system": 5}, "'system'"),
    ("/api/generate", {"raw": "yes"}, "'raw'"),
    ("/api/generate", {"template": "{{ .Prompt }}"}, "'template'"),
    ("/api/generate", {"images": ["aGk="]}, "'images'"),
    ("/api/generate", {"context": [1, -1]}, "'context': entry 1"),
    ("/api/generate", {"context": [10 ** 9]}, "'context': entry 0"),
    ("/api/generate", {"context": "x"}, "'context'"),
    ("/api/generate", {"suffix": "end", "prompt": "begin"}, ""),
    ("/api/embed", {"input": None}, "'input' is missing"),
    ("/api/embed", {"input": [""]}, "'input': text 0 is empty"),
    ("/api/embed", {"input": "x", "dimensions": 10 ** 6}, "'dimensions'"),
    ("/api/embeddings", {"prompt": None}, "'prompt' is missing"),
    ("/api/embeddings", {"prompt": ["x", "y"]}, "'prompt' has 2 entries"),
    ("/api/show", {"model": None}, "'model' is missing"),
    ("/api/show", {"model": 5}, "'model'"),
    ("/api/pull", {"model": 5}, "'model'"),
])
def test_what_is_wrong_is_named(server, path, change, named):
    base = body(path, "Hi") if path in ("/api/chat", "/api/generate") else {"model": "stories260K"}
    got = server.ask(path, {**base, **change}, 400)
    assert set(got) == {"error"} and isinstance(got["error"], str) and named in got["error"]


def test_errors_have_their_shape_everywhere(server):
    for path in ("/api/chat", "/api/generate", "/api/embed", "/api/show"):
        got = server.ask(path, {"model": "none", "prompt": "x", "input": "x", "messages": [{"role": "user", "content": "x"}]}, 404)
        assert set(got) == {"error"} and "there is no model 'none'" in got["error"]
        r, data = server.raw("POST", path, "{", {"Content-Type": "application/json"})
        assert r.status == 400 and set(json.loads(data)) == {"error"}
    long = ask(server, "/api/chat", "word " * 3000, 400)
    assert "maximum context length" in long["error"]
    talk = [{"role": "user", "content": "word " * 100}, {"role": "assistant", "content": "ok"}] * 9 + [{"role": "user", "content": "Hi"}]
    ask(server, "/api/chat", talk, 400)
    assert ask(server, "/api/chat", talk, truncate=True)["prompt_eval_count"] < 1024


def test_the_built_in_model_answers():
    s = Server("--ctx", "512")
    got = ask(s, "/api/chat", "A short story, please.", model="any")
    assert got["message"]["content"] and s.ask("/api/tags")["models"][0]["name"]
    assert s.stop() == 0
